/* RLock. */

#include "sync.h"

static int rlock_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"hub", NULL};
    PyObject *hub;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:RLock", names, &hub))
        return -1;
    ((semaphore *)self)->counter = ((semaphore *)self)->initial = 1;
    return 0;
}

int rlock_take(rlock *k, int block, PyObject *timeout)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return -1;
    PyObject *me = (PyObject *)th->current;
    if (k->owner == me) {
        k->count++;
        return 1;
    }
    int got = sem_take(&k->s, block, timeout);
    if (got == 1) {
        k->owner = Py_NewRef(me);
        k->count = 1;
    }
    return got;
}

static int rlock_give(rlock *k)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return -1;
    if (unlikely(k->owner != (PyObject *)th->current)) {
        PyErr_Format(PyExc_RuntimeError, "cannot release un-acquired lock. Owner: %R Current: %R",
                     k->owner ? k->owner : Py_None, (PyObject *)th->current);
        return -1;
    }
    if (--k->count == 0) {
        PyObject *owner = k->owner;
        k->owner = NULL;
        sem_give(&k->s);
        Py_DECREF(owner);
    }
    return 0;
}

static PyObject *rlock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("acquire", args, n, names, "blocking", &block, &timeout) < 0)
        return NULL;
    int got = rlock_take((rlock *)self, block, timeout);
    return got < 0 ? NULL : PyBool_FromLong(got);
}

static PyObject *rlock_release(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (rlock_give((rlock *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *rlock_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (likely(Py_IS_TYPE(self, &rlock_type)))
        return rlock_take((rlock *)self, 1, NULL) < 0 ? NULL : Py_NewRef(Py_True);
    return PyObject_CallMethod(self, "acquire", NULL);
}

static PyObject *rlock_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)args, (void)n;
    if (rlock_give((rlock *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *rlock_is_owned(PyObject *self, PyObject *unused)
{
    (void)unused;
    thread *th = thread_get();
    return th ? PyBool_FromLong(((rlock *)self)->owner == (PyObject *)th->current) : NULL;
}

static PyObject *rlock_locked(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((rlock *)self)->owner != NULL);
}

static PyObject *rlock_recursion_count(PyObject *self, PyObject *unused)
{
    (void)unused;
    thread *th = thread_get();
    rlock *k = (rlock *)self;
    return th ? PyLong_FromSsize_t(k->owner == (PyObject *)th->current ? k->count : 0) : NULL;
}

static PyObject *rlock_release_save(PyObject *self, PyObject *unused)
{
    (void)unused;
    rlock *k = (rlock *)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (!k->owner) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    PyObject *state = Py_BuildValue("(nO)", k->count, k->owner);
    if (!state)
        return NULL;
    PyObject *owner = k->owner;
    k->owner = NULL;
    k->count = 0;
    sem_give(&k->s);
    Py_DECREF(owner);
    return state;
}

static PyObject *rlock_acquire_restore(PyObject *self, PyObject *state)
{
    rlock *k = (rlock *)self;
    Py_ssize_t count;
    PyObject *owner;
    if (!PyArg_ParseTuple(state, "nO:_acquire_restore", &count, &owner) || sem_take(&k->s, 1, NULL) < 0)
        return NULL;
    k->count = count;
    Py_INCREF(owner);
    Py_XSETREF(k->owner, owner);
    Py_RETURN_NONE;
}

static PyObject *rlock_reinit(PyObject *self, PyObject *unused)
{
    rlock *k = (rlock *)self;
    k->count = 0;
    Py_CLEAR(k->owner);
    return sem_reinit(self, unused);
}

static PyObject *rlock_repr(PyObject *self)
{
    rlock *k = (rlock *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyUnicode_FromFormat("<%s at %p _count=%zd _block=<_block %zd> _owner=%R>",
                                name ? name + 1 : Py_TYPE(self)->tp_name, self, k->count, k->s.counter,
                                k->owner ? k->owner : Py_None);
}

static int rlock_tp_clear(PyObject *self)
{
    Py_CLEAR(((rlock *)self)->owner);
    return linkable_clear(self);
}

static int rlock_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((rlock *)self)->owner);
    return linkable_traverse(self, visit, arg);
}

static void rlock_dealloc(PyObject *self)
{
    linkable_dealloc_begin(self);
    Py_CLEAR(((rlock *)self)->owner);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef rlock_members[] = {
    {"_count", T_PYSSIZET, offsetof(rlock, count), 0, NULL},
    {"_owner", T_OBJECT, offsetof(rlock, owner), 0, NULL},
    {NULL}};

static PyObject *rlock_get_block(PyObject *self, void *c)
{
    (void)c;
    return Py_NewRef(self);
}

static PyGetSetDef rlock_getset[] = {{"_block", rlock_get_block, NULL, NULL, NULL}, {NULL}};

static PyMethodDef rlock_methods[] = {
    {"acquire", WITH_KEYWORDS(rlock_acquire), METH_FASTCALL | METH_KEYWORDS,
     TEXT("acquire($self, blocking=True, timeout=None)", "Takes it, again if it is ours; whether it did.")},
    {"release", rlock_release, METH_NOARGS, TEXT("release($self, /)", "Gives it back, once for each acquire.")},
    {"locked", rlock_locked, METH_NOARGS, TEXT("locked($self, /)", "Whether somebody has it.")},
    {"_is_owned", rlock_is_owned, METH_NOARGS, NULL},
    {"_recursion_count", rlock_recursion_count, METH_NOARGS, NULL},
    {"_release_save", rlock_release_save, METH_NOARGS, NULL},
    {"_acquire_restore", rlock_acquire_restore, METH_O, NULL},
    {"_at_fork_reinit", rlock_reinit, METH_NOARGS, NULL},
    {"__enter__", rlock_enter, METH_NOARGS, NULL},
    {"__exit__", WITH_KEYWORDS(rlock_exit), METH_FASTCALL, NULL},
    {NULL}};

PyTypeObject rlock_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.lock.RLock",
    .tp_base = &semaphore_type,
    .tp_basicsize = sizeof(rlock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = TEXT("RLock(hub=None)", "A lock that its owner, a greenlet, may take again."),
    .tp_init = rlock_init,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = rlock_dealloc,
    .tp_traverse = rlock_traverse,
    .tp_clear = rlock_tp_clear,
    .tp_str = rlock_repr,
    .tp_repr = rlock_repr,
    .tp_methods = rlock_methods,
    .tp_members = rlock_members,
    .tp_getset = rlock_getset,
};
