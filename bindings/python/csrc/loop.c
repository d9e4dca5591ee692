/* gevent's loop: what makes watchers, and a loop that can be run by hand.
 *
 * There is one loop a thread, the library's; a Loop object is a view of it. */

#include "watcher.h"
#include <signal.h>
#include <time.h>

static PyObject *loop_io(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"fd", "events", "ref", "priority", NULL};
    PyObject *ref = NULL, *priority = NULL, *fd;
    int events;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Oi|OO:io", names, &fd, &events, &ref, &priority))
        return NULL;
    int n = PyObject_AsFileDescriptor(fd);
    if (n < 0) {
        if (PyErr_ExceptionMatches(PyExc_ValueError) && PyLong_Check(fd))
            PyErr_Format(PyExc_ValueError, "fd must be non-negative: %R", fd);
        return NULL;
    }
    if (events & ~3) {
        PyErr_Format(PyExc_ValueError, "illegal event mask: %d", events);
        return NULL;
    }
    watcher *w = watcher_new(self, IO, ref, priority);
    if (w) {
        w->fd = n;
        w->events = events;
    }
    return (PyObject *)w;
}

static PyObject *loop_timer(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"after", "repeat", "ref", "priority", NULL};
    PyObject *ref = NULL, *priority = NULL, *after = NULL, *repeat = NULL;
    int64_t a = 0, r = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OOOO:timer", names, &after, &repeat, &ref, &priority))
        return NULL;
    if ((after && seconds_from(after, &a) < 0) || (repeat && seconds_from(repeat, &r) < 0))
        return NULL;
    if (r < 0) {
        PyErr_Format(PyExc_ValueError, "repeat must be positive or zero: %R", repeat);
        return NULL;
    }
    watcher *w = watcher_new(self, TIMER, ref, priority);
    if (w) {
        w->after = a;
        w->repeat = r;
    }
    return (PyObject *)w;
}

static PyObject *loop_signal(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"signum", "ref", "priority", NULL};
    PyObject *ref = NULL, *priority = NULL;
    int signum;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "i|OO:signal", names, &signum, &ref, &priority))
        return NULL;
    if (signum < 1 || signum >= NSIG) {
        PyErr_Format(PyExc_ValueError, "illegal signal number: %d", signum);
        return NULL;
    }
    watcher *w = watcher_new(self, SIGNAL, ref, priority);
    if (w)
        w->fd = signum;
    return (PyObject *)w;
}

static PyObject *loop_plain(PyObject *self, PyObject *args, PyObject *keywords, int kind)
{
    static char *names[] = {"ref", "priority", NULL};
    PyObject *ref = NULL, *priority = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OO", names, &ref, &priority))
        return NULL;
    return (PyObject *)watcher_new(self, kind, ref, priority);
}

static PyObject *loop_idle(PyObject *self, PyObject *a, PyObject *k)
{
    return loop_plain(self, a, k, IDLE);
}

static PyObject *loop_prepare(PyObject *self, PyObject *a, PyObject *k)
{
    return loop_plain(self, a, k, PREPARE);
}

static PyObject *loop_check(PyObject *self, PyObject *a, PyObject *k)
{
    return loop_plain(self, a, k, CHECK);
}

static PyObject *loop_fork(PyObject *self, PyObject *a, PyObject *k)
{
    return loop_plain(self, a, k, FORK);
}

static PyObject *loop_async(PyObject *self, PyObject *a, PyObject *k)
{
    return loop_plain(self, a, k, ASYNC);
}

static PyObject *loop_child(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"pid", "trace", "ref", NULL};
    PyObject *ref = NULL, *trace = NULL;
    int pid;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "i|OO:child", names, &pid, &trace, &ref))
        return NULL;
    watcher *w = watcher_new(self, CHILD, ref, NULL);
    if (w)
        w->fd = pid;
    return (PyObject *)w;
}

static PyObject *loop_stat(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"path", "interval", "ref", "priority", NULL};
    PyObject *ref = NULL, *priority = NULL, *path, *interval = NULL;
    int64_t ns = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O&|OOO:stat", names, PyUnicode_FSConverter, &path, &interval,
                                     &ref, &priority))
        return NULL;
    watcher *w = interval && seconds_from(interval, &ns) < 0 ? NULL : watcher_new(self, STAT, ref, priority);
    if (!w) {
        Py_DECREF(path);
        return NULL;
    }
    w->path = path;
    w->after = ns; /* as it was given */
    w->repeat = ns < 0 ? 0 : ns;
    return (PyObject *)w;
}

static PyObject *loop_run_callback(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    loop *l = (loop *)self;
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "run_callback(f, *args): f is missing");
        return NULL;
    }
    PyObject *tuple = tuple_of(args + 1, n - 1);
    if (!tuple)
        return NULL;
    PyObject *cb;
    if (l->th == this_thread && (l->th->hub || l->th->manual)) {
        PyObject *both = PyTuple_Pack(2, args[0], tuple);
        cb = both ? PyObject_CallObject((PyObject *)&callback_type, both) : NULL;
        Py_XDECREF(both);
        if (cb && hub_push(l->th, cb) < 0)
            Py_CLEAR(cb);
    } else {
        PyObject *both = PyTuple_Pack(2, args[0], tuple);
        cb = both ? PyObject_CallObject((PyObject *)&callback_type, both) : NULL;
        Py_XDECREF(both);
        if (cb && (l->th == this_thread ? hub_push(l->th, cb) : hub_call_from_outside(l->th, cb)) < 0)
            Py_CLEAR(cb);
    }
    Py_DECREF(tuple);
    return cb;
}

static PyObject *loop_run_callback_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    loop *l = (loop *)self;
    if (l->th == this_thread)
        return loop_run_callback(self, args, n);
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "run_callback_threadsafe(f, *args): f is missing");
        return NULL;
    }
    PyObject *tuple = tuple_of(args + 1, n - 1);
    PyObject *both = tuple ? PyTuple_Pack(2, args[0], tuple) : NULL;
    PyObject *cb = both ? PyObject_CallObject((PyObject *)&callback_type, both) : NULL;
    Py_XDECREF(tuple);
    Py_XDECREF(both);
    if (cb && hub_call_from_outside(l->th, cb) < 0)
        Py_CLEAR(cb);
    return cb;
}

static PyObject *loop_run(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"nowait", "once", NULL};
    int nowait = 0, once = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|pp:run", names, &nowait, &once))
        return NULL;
    thread *th = thread_get();
    if (!th)
        return NULL;
    loop *l = (loop *)self;
    if (l->th != th) {
        PyErr_SetString(exc_invalid_thread, "this loop belongs to another thread");
        return NULL;
    }
    if (th->current->kind != MAIN) {
        PyErr_SetString(exc_blocking, "the loop is run by main alone");
        return NULL;
    }
    bool was = th->manual;
    PyObject *outer = th->loop;
    th->manual = true;
    th->loop = self;
    int more = 1;
    bool failed = false;
    l->is_default = l->is_default;
    th->stop = false;
    do {
        hub_run_callbacks_here(th);
        bool ready = th->ring_head != th->ring_tail || th->has_foreign;
        if (th->stop)
            break;
        th->in_run = true;
        more = weald_run_once(nowait || ready ? WEALD_RUN_NOWAIT : WEALD_RUN_ONCE);
        th->in_run = false;
        if (after_switch(th) < 0) {
            failed = true;
            break;
        }
        if (th->current->pending) {
            green_raise_pending(th->current);
            failed = true;
            break;
        }
        if (PyErr_CheckSignals() < 0) {
            PyObject *t, *v, *tb;
            th->interrupted = false;
            PyErr_Fetch(&t, &v, &tb);
            PyErr_NormalizeException(&t, &v, &tb);
            PyObject *r = PyObject_CallMethod(self, "handle_error", "OOOO", Py_None, t, v, tb ? tb : Py_None);
            Py_XDECREF(t);
            Py_XDECREF(v);
            Py_XDECREF(tb);
            if (!r) {
                failed = true;
                break;
            }
            Py_DECREF(r);
        }
        if (more < 0) {
            raise_code(more);
            failed = true;
            break;
        }
        if (th->ring_head != th->ring_tail)
            more = 1; /* what they start, the library has not seen yet */
        hub_run_callbacks_here(th);
        if (th->ring_head != th->ring_tail)
            more = 1;
    } while (more && !once && !nowait && !th->stop);
    th->manual = was;
    th->loop = outer;
    if (th->ring_head != th->ring_tail && !was)
        hub_wake(th);
    PyObject *leaves = th->leaves;
    th->leaves = NULL;
    if (leaves && !failed) {
        PyErr_SetObject((PyObject *)Py_TYPE(leaves), leaves);
        failed = true;
    }
    Py_XDECREF(leaves);
    if (failed)
        return NULL;
    return PyBool_FromLong(more);
}

static PyObject *loop_break(PyObject *self, PyObject *args)
{
    (void)args;
    ((loop *)self)->th->stop = true;
    weald_stop();
    Py_RETURN_NONE;
}

static PyObject *loop_now(PyObject *self, PyObject *unused)
{
    struct timespec ts;
    (void)self, (void)unused;
    clock_gettime(CLOCK_REALTIME, &ts);
    return PyFloat_FromDouble((double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
}

static PyObject *loop_nothing(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    Py_RETURN_NONE;
}

static PyObject *loop_fileno(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return PyLong_FromLong(weald_hub_fd());
}

static PyObject *loop_handle_error(PyObject *self, PyObject *args)
{
    loop *l = (loop *)self;
    PyObject *context, *t, *v, *tb;
    if (!PyArg_ParseTuple(args, "OOOO:handle_error", &context, &t, &v, &tb))
        return NULL;
    if (l->error_handler && l->error_handler != Py_None)
        return PyObject_CallMethod(l->error_handler, "handle_error", "OOOO", context, t, v, tb);
    if (l->th->hub)
        return PyObject_CallMethod((PyObject *)l->th->hub, "handle_error", "OOOO", context, t, v, tb);
    PyErr_Display(t, v, tb);
    Py_RETURN_NONE;
}

static PyObject *loop_stats(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    weald_stats s = {.size = sizeof s};
    int code = weald_stats_get(&s);
    if (code < 0) {
        raise_code(code);
        return NULL;
    }
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsK}", "spawned", s.spawned, "finished", s.finished, "alive", s.alive,
                         "ready", s.ready, "resumes", s.resumes, "turns", s.turns, "polls", s.polls, "timers", s.timers,
                         "descriptors", s.descriptors, "handles", s.handles, "stack_bytes", s.stack_bytes);
}

static PyObject *loop_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    thread *th = thread_get();
    loop *l = th ? (loop *)type->tp_alloc(type, 0) : NULL;
    if (l)
        l->th = th;
    return (PyObject *)l;
}

static int loop_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self, (void)args, (void)keywords;
    return 0;
}

static int loop_clear(PyObject *self)
{
    Py_CLEAR(((loop *)self)->error_handler);
    Py_CLEAR(((loop *)self)->dict);
    return 0;
}

static int loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((loop *)self)->error_handler);
    Py_VISIT(((loop *)self)->dict);
    return 0;
}

static void loop_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (((loop *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    loop_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef loop_methods[] = {
    {"io", WITH_KEYWORDS(loop_io), METH_VARARGS | METH_KEYWORDS,
     TEXT("io($self, fd, events, ref=True, priority=None)", "A watcher of a descriptor.")},
    {"timer", WITH_KEYWORDS(loop_timer), METH_VARARGS | METH_KEYWORDS,
     TEXT("timer($self, after, repeat=0.0, ref=True, priority=None)", "A watcher of time.")},
    {"signal", WITH_KEYWORDS(loop_signal), METH_VARARGS | METH_KEYWORDS,
     TEXT("signal($self, signum, ref=True, priority=None)", "A watcher of a signal.")},
    {"idle", WITH_KEYWORDS(loop_idle), METH_VARARGS | METH_KEYWORDS,
     TEXT("idle($self, ref=True, priority=None)", "A watcher that runs when nothing else does.")},
    {"prepare", WITH_KEYWORDS(loop_prepare), METH_VARARGS | METH_KEYWORDS,
     TEXT("prepare($self, ref=True, priority=None)", "A watcher that runs before the loop waits.")},
    {"check", WITH_KEYWORDS(loop_check), METH_VARARGS | METH_KEYWORDS,
     TEXT("check($self, ref=True, priority=None)", "A watcher that runs after the loop has waited.")},
    {"fork", WITH_KEYWORDS(loop_fork), METH_VARARGS | METH_KEYWORDS,
     TEXT("fork($self, ref=True, priority=None)", "A watcher that runs in a child after a fork.")},
    {"async_", WITH_KEYWORDS(loop_async), METH_VARARGS | METH_KEYWORDS,
     TEXT("async_($self, ref=True, priority=None)", "A watcher that other threads may send to.")},
    {"child", WITH_KEYWORDS(loop_child), METH_VARARGS | METH_KEYWORDS,
     TEXT("child($self, pid, trace=0, ref=True)", "A watcher of a child process.")},
    {"stat", WITH_KEYWORDS(loop_stat), METH_VARARGS | METH_KEYWORDS,
     TEXT("stat($self, path, interval=0.0, ref=True, priority=None)", "A watcher of a file.")},
    {"run_callback", WITH_KEYWORDS(loop_run_callback), METH_FASTCALL,
     TEXT("run_callback($self, func, *args)", "Calls func in the hub, in its turn.")},
    {"run_callback_threadsafe", WITH_KEYWORDS(loop_run_callback_threadsafe), METH_FASTCALL,
     TEXT("run_callback_threadsafe($self, func, *args)", "As run_callback, from any thread.")},
    {"run", WITH_KEYWORDS(loop_run), METH_VARARGS | METH_KEYWORDS,
     TEXT("run($self, nowait=False, once=False)", "Runs the loop by hand, in main; its callbacks run there too.")},
    {"break_", loop_break, METH_VARARGS, TEXT("break_($self, how=1, /)", "Has run() return.")},
    {"now", loop_now, METH_NOARGS, TEXT("now($self, /)", "The time, as time.time().")},
    {"update_now", loop_nothing, METH_NOARGS, TEXT("update_now($self, /)", "Does nothing: now() is always right.")},
    {"update", loop_nothing, METH_NOARGS, TEXT("update($self, /)", "The same.")},
    {"install_sigchld", loop_nothing, METH_NOARGS,
     TEXT("install_sigchld($self, /)", "Does nothing: children are watched when somebody asks.")},
    {"reset_sigchld", loop_nothing, METH_NOARGS, TEXT("reset_sigchld($self, /)", "Does nothing.")},
    {"fileno", loop_fileno, METH_NOARGS, TEXT("fileno($self, /)", "A descriptor for another loop to watch.")},
    {"handle_error", loop_handle_error, METH_VARARGS,
     TEXT("handle_error($self, context, type, value, tb, /)", "Tells error_handler, or the hub.")},
    {"stats", loop_stats, METH_NOARGS, "The library's counters, as a dict."},
    {NULL}};

static PyMemberDef loop_members[] = {
    {"error_handler", T_OBJECT, offsetof(loop, error_handler), 0, NULL},
    {"default", T_BOOL, offsetof(loop, is_default), 0, "Whether it is the main thread's."},
    {NULL}};

PyTypeObject loop_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.Loop",
    .tp_basicsize = sizeof(loop),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "This thread's loop, with gevent's loop interface.",
    .tp_new = loop_new,
    .tp_init = loop_init,
    .tp_dealloc = loop_dealloc,
    .tp_traverse = loop_traverse,
    .tp_clear = loop_clear,
    .tp_methods = loop_methods,
    .tp_members = loop_members,
    .tp_dictoffset = offsetof(loop, dict),
    .tp_weaklistoffset = offsetof(loop, weakrefs),
};

int init_loop(PyObject *m)
{
    if (PyType_Ready(&loop_type) < 0)
        return -1;
    return PyModule_AddObjectRef(m, "Loop", (PyObject *)&loop_type);
}
