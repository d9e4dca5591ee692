/* Semaphore and BoundedSemaphore. */

#include "sync.h"

bool sem_ready(PyObject *self)
{
    return ((semaphore *)self)->counter > 0;
}

static int sem_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"value", "hub", NULL};
    Py_ssize_t value = 1;
    PyObject *hub;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|nO:Semaphore", names, &value, &hub))
        return -1;
    if (value < 0) {
        PyErr_SetString(PyExc_ValueError, "semaphore initial value must be >= 0");
        return -1;
    }
    ((semaphore *)self)->counter = ((semaphore *)self)->initial = value;
    return 0;
}

static void sem_tell(semaphore *s)
{
    list_wake_one(&s->l.links, (PyObject *)s);
}

void sem_give(semaphore *s)
{
    s->counter++;
    if (s->l.links.first)
        sem_tell(s);
}

int sem_take(semaphore *s, int block, PyObject *timeout)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return -1;
    linkable_touch(&s->l, th);
    if (s->counter > 0) {
        s->counter--;
        return 1;
    }
    if (!block)
        return 0;
    int64_t deadline = WEALD_FOREVER;
    if (timeout && deadline_from(timeout, &deadline) < 0)
        return -1;
    bool again = false;
    for (;;) {
        int outcome = linkable_wait(th, &s->l, &s->l.links, deadline, "Semaphore.acquire()", again);
        if (outcome == WAIT_WOKEN && s->counter > 0) {
            s->counter--;
            return deadline_end(1, timeout);
        }
        if (outcome != WAIT_WOKEN)
            return deadline_end(outcome, timeout);
        again = true;
    }
}

static PyObject *sem_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("acquire", args, n, names, "blocking", &block, &timeout) < 0)
        return NULL;
    int got = sem_take((semaphore *)self, block, timeout);
    return got < 0 ? NULL : PyBool_FromLong(got);
}

static PyObject *sem_release(PyObject *self, PyObject *unused)
{
    semaphore *s = (semaphore *)self;
    (void)unused;
    sem_give(s);
    return PyLong_FromSsize_t(s->counter);
}

static PyObject *bounded_release(PyObject *self, PyObject *unused)
{
    semaphore *s = (semaphore *)self;
    if (s->counter >= s->initial) {
        PyObject *e = PyObject_GetAttrString(self, "_OVER_RELEASE_ERROR");
        PyErr_SetString(e ? e : PyExc_ValueError, "Semaphore released too many times");
        Py_XDECREF(e);
        return NULL;
    }
    return sem_release(self, unused);
}

static PyObject *sem_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (likely(Py_IS_TYPE(self, &semaphore_type) || Py_IS_TYPE(self, &bounded_type))) {
        if (sem_take((semaphore *)self, 1, NULL) < 0)
            return NULL;
    } else {
        PyObject *r = PyObject_CallMethod(self, "acquire", NULL);
        if (!r)
            return NULL;
        Py_DECREF(r);
    }
    Py_RETURN_NONE;
}

static PyObject *sem_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)args, (void)n;
    PyObject *r = Py_IS_TYPE(self, &semaphore_type) ? sem_release(self, NULL)
                                                    : PyObject_CallMethod(self, "release", NULL);
    if (!r)
        return NULL;
    Py_DECREF(r);
    Py_RETURN_NONE;
}

static PyObject *sem_wait(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    semaphore *s = (semaphore *)self;
    PyObject *timeout = NULL;
    int64_t deadline;
    if ((n || names) && parse_timeout("wait", args, n, names, &timeout) < 0)
        return NULL;
    if (s->counter <= 0) {
        thread *th = thread_get();
        if (!th || deadline_from(timeout, &deadline) < 0)
            return NULL;
        linkable_touch(&s->l, th);
        int outcome = deadline_end(linkable_wait(th, &s->l, &s->l.links, deadline, "Semaphore.wait()", false), timeout);
        if (outcome < 0)
            return NULL;
        if (outcome == WAIT_WOKEN && s->counter > 0 && s->l.links.first)
            sem_tell(s); /* we take nothing */
    }
    return PyLong_FromSsize_t(s->counter);
}

static PyObject *sem_locked(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((semaphore *)self)->counter <= 0);
}

static PyObject *sem_start_notify(PyObject *self, PyObject *unused)
{
    (void)unused;
    semaphore *s = (semaphore *)self;
    if (s->counter > 0)
        sem_tell(s);
    Py_RETURN_NONE;
}

PyObject *sem_reinit(PyObject *self, PyObject *unused)
{
    ((semaphore *)self)->counter = ((semaphore *)self)->initial;
    return linkable_reinit(self, unused);
}

static PyObject *sem_str(PyObject *self)
{
    semaphore *s = (semaphore *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyUnicode_FromFormat("<%s at %p counter=%zd _links[%zd]>", name ? name + 1 : Py_TYPE(self)->tp_name, self,
                                s->counter, s->l.links.len);
}

static PyMemberDef sem_members[] = {
    {"counter", T_PYSSIZET, offsetof(semaphore, counter), 0, "How often it can be acquired without waiting."},
    {"_initial_value", T_PYSSIZET, offsetof(semaphore, initial), 0, NULL},
    {NULL}};

static PyMethodDef sem_methods[] = {
    {"acquire", WITH_KEYWORDS(sem_acquire), METH_FASTCALL | METH_KEYWORDS,
     TEXT("acquire($self, blocking=True, timeout=None)", "Takes one, waiting for it; whether it did.")},
    {"_py3k_acquire", WITH_KEYWORDS(sem_acquire), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"release", sem_release, METH_NOARGS, TEXT("release($self, /)", "Gives one back; how many there are now.")},
    {"wait", WITH_KEYWORDS(sem_wait), METH_FASTCALL | METH_KEYWORDS,
     TEXT("wait($self, timeout=None)", "Waits until there is one, and leaves it; how many there are.")},
    {"locked", sem_locked, METH_NOARGS, TEXT("locked($self, /)", "Whether there is none.")},
    {"_start_notify", sem_start_notify, METH_NOARGS, NULL},
    {"__enter__", sem_enter, METH_NOARGS, NULL},
    {"__exit__", WITH_KEYWORDS(sem_exit), METH_FASTCALL, NULL},
    {NULL}};

PyTypeObject semaphore_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.lock.Semaphore",
    .tp_base = &linkable_type,
    .tp_basicsize = sizeof(semaphore),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Semaphore(value=1): a number of permits; first come, first served, but who runs may be faster.",
    .tp_init = sem_init,
    .tp_new = linkable_new,
    .tp_traverse = linkable_traverse,
    .tp_clear = linkable_clear,
    .tp_str = sem_str,
    .tp_repr = sem_str,
    .tp_methods = sem_methods,
    .tp_members = sem_members,
};

static PyMethodDef bounded_methods[] = {
    {"release", bounded_release, METH_NOARGS,
     TEXT("release($self, /)", "Gives one back; ValueError when there would be more than at first.")},
    {"_at_fork_reinit", sem_reinit, METH_NOARGS, NULL},
    {NULL}};

PyTypeObject bounded_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.lock.BoundedSemaphore",
    .tp_base = &semaphore_type,
    .tp_basicsize = sizeof(semaphore),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A Semaphore that is never released more often than it was acquired.",
    .tp_traverse = linkable_traverse,
    .tp_clear = linkable_clear,
    .tp_methods = bounded_methods,
};
