/* The locks of `_thread` and `threading`, for programs whose threads are greenlets: BoundedSemaphore
 * and RLock with the arguments and errors of the standard ones. */

#include "sync.h"

#define LONGEST 9223372036.0 /* _thread.TIMEOUT_MAX: whole seconds whose nanoseconds fit into 64 bits */

/* The standard (blocking=True, timeout=-1). 0, or -1. `timeout` is NULL for none. */
static int parse(PyObject *const *args, Py_ssize_t n, PyObject *names, int *block, PyObject **timeout)
{
    if (!n && !names)
        return 0;
    if (parse_block("acquire", args, n, names, "blocking", block, timeout) < 0)
        return -1;
    if (!*timeout)
        return 0;
    double seconds = PyFloat_AsDouble(*timeout);
    if (seconds == -1.0) {
        *timeout = NULL;
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!*block)
        PyErr_SetString(PyExc_ValueError, "can't specify a timeout for a non-blocking call");
    else if (!(seconds >= 0))
        PyErr_SetString(PyExc_ValueError, "timeout value must be a non-negative number");
    else if (seconds > LONGEST)
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
    else
        return 0;
    return -1;
}

/* What an attempt has to show. One that failed lets others run: a loop of attempts would never let the
 * owner do so. */
static PyObject *outcome(int got, int block)
{
    if (got < 0)
        return NULL;
    if (!got && !block && this_thread->current->kind != HUB) {
        int code = weald_yield();
        if ((code < 0 || this_thread->attention || this_thread->current->pending) &&
            green_check(this_thread, code) < 0)
            return NULL;
    }
    return PyBool_FromLong(got);
}

static PyObject *lock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if (parse(args, n, names, &block, &timeout) < 0)
        return NULL;
    return outcome(sem_take((semaphore *)self, block, timeout), block);
}

static PyObject *lock_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return sem_take((semaphore *)self, 1, NULL) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *lock_release(PyObject *self, PyObject *unused)
{
    semaphore *s = (semaphore *)self;
    (void)unused;
    if (s->counter >= s->initial) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return NULL;
    }
    sem_give(s);
    Py_RETURN_NONE;
}

static PyObject *lock_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)args, (void)n;
    return lock_release(self, NULL);
}

static int lock_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(args) || (keywords && PyDict_GET_SIZE(keywords))) {
        PyErr_SetString(PyExc_TypeError, "a lock takes no arguments");
        return -1;
    }
    ((semaphore *)self)->counter = ((semaphore *)self)->initial = 1;
    return 0;
}

static PyMethodDef lock_methods[] = {
    {"acquire", WITH_KEYWORDS(lock_acquire), METH_FASTCALL | METH_KEYWORDS,
     TEXT("acquire($self, blocking=True, timeout=-1)", "Takes it, waiting for it; whether it did.")},
    {"release", lock_release, METH_NOARGS, TEXT("release($self, /)", "Gives it back, whoever took it.")},
    {"__enter__", lock_enter, METH_NOARGS, NULL},
    {"__exit__", WITH_KEYWORDS(lock_exit), METH_FASTCALL, NULL},
    {NULL}};

/* Nothing can be derived from it, as from the standard one. */
static PyTypeObject lock_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.thread.LockType",
    .tp_base = &bounded_type,
    .tp_basicsize = sizeof(semaphore),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "LockType()\n--\n\nThe standard lock: taken by one greenlet, released by any.",
    .tp_init = lock_init,
    .tp_new = PyType_GenericNew,
    .tp_traverse = linkable_traverse,
    .tp_clear = linkable_clear,
    .tp_methods = lock_methods,
};

static PyObject *rlock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if (parse(args, n, names, &block, &timeout) < 0)
        return NULL;
    return outcome(rlock_take((rlock *)self, block, timeout), block);
}

static PyObject *rlock_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return rlock_take((rlock *)self, 1, NULL) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyMethodDef rlock_methods[] = {
    {"acquire", WITH_KEYWORDS(rlock_acquire), METH_FASTCALL | METH_KEYWORDS,
     TEXT("acquire($self, blocking=True, timeout=-1)", "Takes it, again if it is ours; whether it did.")},
    {"__enter__", rlock_enter, METH_NOARGS, NULL},
    {NULL}};

static PyTypeObject rlock_of_threads = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.threading.RLock",
    .tp_base = &rlock_type,
    .tp_basicsize = sizeof(rlock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The standard RLock: a lock that its owner, a greenlet, may take again.",
    .tp_methods = rlock_methods,
};

int init_lock(PyObject *m)
{
    rlock_of_threads.tp_traverse = rlock_type.tp_traverse;
    rlock_of_threads.tp_clear = rlock_type.tp_clear;
    if (PyType_Ready(&lock_type) < 0 || PyType_Ready(&rlock_of_threads) < 0 ||
        PyModule_AddObjectRef(m, "Lock", (PyObject *)&lock_type) < 0)
        return -1;
    return PyModule_AddObjectRef(m, "ThreadRLock", (PyObject *)&rlock_of_threads);
}
