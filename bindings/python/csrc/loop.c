/* gevent's loop interface: watchers, and a loop that can be run by hand.
 *
 * There is one loop a thread, the library's; a Loop object is a view of it. A watcher that fires
 * in the loop is put into the hub's ring, and its callback runs in the hub. A greenlet that waits
 * for it is woken directly. */

#include "sync.h"
#include <sys/wait.h>
#include <time.h>

enum { IO, TIMER, SIGNAL, IDLE, PREPARE, CHECK, FORK, ASYNC, CHILD, STAT };
static const char *const kind_names[] = {"io", "timer", "signal", "idle", "prepare", "check", "fork", "async_", "child", "stat"};

typedef struct {
    PyObject_HEAD
    thread *th;
    PyObject *error_handler;
    PyObject *dict, *weakrefs;
    bool is_default;
} loop;

typedef struct watcher watcher;
struct watcher {
    PyObject_HEAD
    loop *loop;
    thread *th;
    weald_watcher h; /* 0 until it is started */
    uint8_t kind;
    int8_t priority;
    bool ref, pending, kept, pass_events, closed, fork_active;
    int what;
    int fd, events; /* io; the signal's number; the pid */
    int64_t after, repeat;
    PyObject *path, *attr, *prev; /* stat */
    PyObject *callback, *args;
    green *waiting;
    int rpid, rstatus;
    watcher *prev_kept, *next_kept; /* in `keeps`, while `kept` */
    PyObject *dict, *weakrefs;
};

static PyObject *fork_watchers; /* list of started ones */

/* ---- firing ---- */

/* In the loop: no code may run here. */
static void on_fire(weald_watcher h, int what, void *user)
{
    watcher *w = user;
    (void)h;
    w->what = what;
    if (w->kind == CHILD) {
        w->rpid = w->fd;
        w->rstatus = what;
    }
    if (w->waiting) {
        w->pending = false;
        green_wake(w->waiting);
        return;
    }
    if (!w->pending && w->callback) {
        w->pending = true;
        if (hub_push(w->th, (PyObject *)w) < 0)
            PyErr_Clear();
    }
}

static bool watcher_is_active(watcher *w)
{
    if (w->kind == FORK)
        return w->fork_active;
    return w->h && weald_watcher_active(w->h) == 1;
}

/* Those that have been started with a callback, of all threads: one may outlive its thread. */
static watcher *keeps;

/* One that may call has a reference of its own. */
static void keep(watcher *w)
{
    if (w->kept)
        return;
    w->kept = true;
    Py_INCREF(w);
    w->prev_kept = NULL;
    w->next_kept = keeps;
    if (w->next_kept)
        w->next_kept->prev_kept = w;
    keeps = w;
}

static void unkeep(watcher *w)
{
    if (!w->kept)
        return;
    w->kept = false;
    if (w->next_kept)
        w->next_kept->prev_kept = w->prev_kept;
    if (w->prev_kept)
        w->prev_kept->next_kept = w->next_kept;
    else
        keeps = w->next_kept;
    w->prev_kept = w->next_kept = NULL;
    Py_DECREF(w);
}

static void watcher_halt(watcher *w)
{
    w->pending = false;
    if (w->h)
        weald_watcher_stop(w->h);
    if (w->fork_active) {
        w->fork_active = false;
        for (Py_ssize_t i = PyList_GET_SIZE(fork_watchers); i-- > 0;)
            if (PyList_GET_ITEM(fork_watchers, i) == (PyObject *)w)
                PyList_SetSlice(fork_watchers, i, i + 1, NULL);
    }
    Py_CLEAR(w->callback);
    Py_CLEAR(w->args);
    unkeep(w);
}

static int io_events(watcher *w)
{
    int got = w->what & (WEALD_READ | WEALD_WRITE);
    return w->what & (WEALD_HUP | WEALD_ERROR) ? got | w->events : got;
}

/* What os.stat says of the path now; None if there is nothing. */
static PyObject *stat_now(watcher *w)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *r = os ? PyObject_CallMethod(os, "stat", "O", w->path) : NULL;
    Py_XDECREF(os);
    if (!r) {
        PyErr_Clear();
        r = Py_NewRef(Py_None);
    }
    return r;
}

static void stat_again(watcher *w)
{
    Py_XSETREF(w->prev, w->attr);
    w->attr = stat_now(w);
}

PyObject *watcher_run(PyObject *self)
{
    watcher *w = (watcher *)self;
    if (!w->pending || !w->callback)
        Py_RETURN_NONE;
    w->pending = false;
    if (w->kind == STAT)
        stat_again(w);
    PyObject *f = Py_NewRef(w->callback), *args = Py_XNewRef(w->args);
    PyObject *r = NULL;
    if (w->pass_events) {
        PyObject *with = args ? PyTuple_New(PyTuple_GET_SIZE(args) + 1) : NULL;
        if (with) {
            PyTuple_SET_ITEM(with, 0, PyLong_FromLong(w->kind == IO ? io_events(w) : w->what));
            for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++)
                PyTuple_SET_ITEM(with, i + 1, Py_NewRef(PyTuple_GET_ITEM(args, i)));
            r = PyObject_Call(f, with, NULL);
            Py_DECREF(with);
        }
    } else {
        r = PyObject_Call(f, args, NULL);
    }
    Py_DECREF(f);
    Py_XDECREF(args);
    if (!watcher_is_active(w) && !w->pending) {
        PyObject *t, *v, *tb;
        PyErr_Fetch(&t, &v, &tb);
        watcher_halt(w);
        PyErr_Restore(t, v, tb);
    }
    return r;
}

/* ---- watchers ---- */

static int watcher_make(watcher *w)
{
    if (w->h)
        return 0;
    weald_watcher h = 0;
    switch (w->kind) {
    case IO:
        h = weald_io_watcher(w->fd, w->events, on_fire, w);
        break;
    case TIMER:
        h = weald_timer_watcher(w->after, w->repeat, on_fire, w);
        break;
    case SIGNAL:
        h = weald_signal_watcher(w->fd, on_fire, w);
        break;
    case IDLE:
        h = weald_idle_watcher(on_fire, w);
        break;
    case PREPARE:
        h = weald_prepare_watcher(on_fire, w);
        break;
    case CHECK:
        h = weald_check_watcher(on_fire, w);
        break;
    case ASYNC:
        h = weald_async_watcher(on_fire, w);
        break;
    case CHILD:
        h = weald_child_watcher(w->fd, on_fire, w);
        break;
    case STAT:
        h = weald_stat_watcher(PyBytes_AS_STRING(w->path), w->repeat, on_fire, w);
        break;
    }
    if (h < 0)
        return raise_code((int)h);
    w->h = h;
    if (!w->ref)
        weald_watcher_unref(h);
    if (w->priority)
        weald_watcher_set_priority(h, w->priority);
    return 0;
}

static int watcher_begin(watcher *w)
{
    if (w->closed) {
        PyErr_SetString(PyExc_ValueError, "this watcher has been closed");
        return -1;
    }
    if (w->kind == FORK) {
        if (!w->fork_active && PyList_Append(fork_watchers, (PyObject *)w) < 0)
            return -1;
        w->fork_active = true;
        return 0;
    }
    if (watcher_make(w) < 0)
        return -1;
    if (w->kind == STAT) {
        Py_XSETREF(w->attr, stat_now(w));
        if (w->after <= 0)
            w->after = 5000000000; /* the library's choice */
    }
    int code = weald_watcher_start(w->h);
    return code < 0 ? raise_code(code) : 0;
}

static PyObject *watcher_start_with(watcher *w, PyObject *args, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(args) < 1) {
        PyErr_SetString(PyExc_TypeError, "start() needs a callback");
        return NULL;
    }
    PyObject *f = PyTuple_GET_ITEM(args, 0);
    if (f == Py_None || !PyCallable_Check(f))
        return PyErr_Format(PyExc_TypeError, "Expected callable, not %R", f);
    bool pass = w->kind == IO && false;
    if (keywords) {
        PyObject *p = PyDict_GetItemString(keywords, "pass_events");
        pass = p && PyObject_IsTrue(p);
    }
    PyObject *rest = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    if (!rest)
        return NULL;
    w->pass_events = pass;
    Py_INCREF(f);
    Py_XSETREF(w->callback, f);
    Py_XSETREF(w->args, rest);
    keep(w);
    if (watcher_begin(w) < 0) {
        PyObject *t, *v, *tb;
        PyErr_Fetch(&t, &v, &tb);
        watcher_halt(w);
        PyErr_Restore(t, v, tb);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *watcher_start(PyObject *self, PyObject *args, PyObject *keywords)
{
    watcher *w = (watcher *)self;
    if (w->kind == TIMER && w->h && !watcher_is_active(w)) {
        weald_close(w->h); /* its time counts from now */
        w->h = 0;
    }
    return watcher_start_with(w, args, keywords);
}

static PyObject *watcher_stop(PyObject *self, PyObject *unused)
{
    (void)unused;
    watcher_halt((watcher *)self);
    Py_RETURN_NONE;
}

static PyObject *watcher_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    watcher *w = (watcher *)self;
    Py_INCREF(self);
    watcher_halt(w);
    if (w->h) {
        weald_close(w->h);
        w->h = 0;
    }
    w->closed = true;
    Py_DECREF(self);
    Py_RETURN_NONE;
}

static PyObject *watcher_feed(PyObject *self, PyObject *args)
{
    watcher *w = (watcher *)self;
    if (PyTuple_GET_SIZE(args) < 2) {
        PyErr_SetString(PyExc_TypeError, "feed(events, callback, *args)");
        return NULL;
    }
    int events = (int)PyLong_AsLong(PyTuple_GET_ITEM(args, 0));
    if (events == -1 && PyErr_Occurred())
        return NULL;
    PyObject *f = PyTuple_GET_ITEM(args, 1);
    if (!PyCallable_Check(f))
        return PyErr_Format(PyExc_TypeError, "Expected callable, not %R", f);
    PyObject *rest = PyTuple_GetSlice(args, 2, PyTuple_GET_SIZE(args));
    if (!rest)
        return NULL;
    Py_INCREF(f);
    Py_XSETREF(w->callback, f);
    Py_XSETREF(w->args, rest);
    keep(w);
    w->what = events;
    if (!w->pending) {
        w->pending = true;
        if (hub_push(w->th, self) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *watcher_again(PyObject *self, PyObject *args, PyObject *keywords)
{
    watcher *w = (watcher *)self;
    if (w->kind != TIMER) {
        PyErr_SetString(PyExc_AttributeError, "again");
        return NULL;
    }
    if (w->h) {
        weald_close(w->h);
        w->h = 0;
    }
    w->pending = false;
    int64_t after = w->after;
    if (w->repeat > 0)
        w->after = w->repeat;
    PyObject *r = watcher_start_with(w, args, keywords);
    w->after = after;
    return r;
}

static PyObject *watcher_send(PyObject *self, PyObject *unused)
{
    watcher *w = (watcher *)self;
    (void)unused;
    if (w->kind != ASYNC) {
        PyErr_SetString(PyExc_AttributeError, "send");
        return NULL;
    }
    if (w->h)
        weald_async_send(w->h);
    Py_RETURN_NONE;
}

static PyObject *watcher_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *watcher_exit(PyObject *self, PyObject *args)
{
    (void)args;
    return watcher_close(self, NULL);
}

static PyObject *w_get_active(PyObject *self, void *c)
{
    (void)c;
    watcher *w = (watcher *)self;
    return PyBool_FromLong(watcher_is_active(w));
}

static PyObject *w_get_pending(PyObject *self, void *c)
{
    (void)c;
    watcher *w = (watcher *)self;
    return PyBool_FromLong(w->pending);
}

static PyObject *w_get_callback(PyObject *self, void *c)
{
    (void)c;
    watcher *w = (watcher *)self;
    if (w->waiting)
        return PyObject_GetAttrString((PyObject *)w->waiting, "switch");
    return Py_NewRef(w->callback ? w->callback : Py_None);
}

static int w_set_callback(PyObject *self, PyObject *f, void *c)
{
    (void)c;
    if (!f || (f != Py_None && !PyCallable_Check(f))) {
        PyErr_Format(PyExc_TypeError, "Expected callable, not %R", f ? f : Py_None);
        return -1;
    }
    Py_INCREF(f);
    Py_XSETREF(((watcher *)self)->callback, f);
    if (f == Py_None)
        Py_CLEAR(((watcher *)self)->callback);
    return 0;
}

static PyObject *w_get_args(PyObject *self, void *c)
{
    (void)c;
    watcher *w = (watcher *)self;
    return Py_NewRef(w->args ? w->args : Py_None);
}

static int w_set_args(PyObject *self, PyObject *args, void *c)
{
    (void)c;
    if (!args || (args != Py_None && !PyTuple_Check(args))) {
        PyErr_SetString(PyExc_TypeError, "args must be a tuple or None");
        return -1;
    }
    if (args == Py_None) {
        Py_CLEAR(((watcher *)self)->args);
        return 0;
    }
    Py_INCREF(args);
    Py_XSETREF(((watcher *)self)->args, args);
    return 0;
}

static PyObject *w_get_ref(PyObject *self, void *c)
{
    (void)c;
    return PyBool_FromLong(((watcher *)self)->ref);
}

static int w_set_ref(PyObject *self, PyObject *v, void *c)
{
    (void)c;
    int yes = v ? PyObject_IsTrue(v) : -1;
    if (yes < 0)
        return -1;
    watcher *w = (watcher *)self;
    w->ref = yes;
    if (w->h)
        yes ? weald_watcher_ref(w->h) : weald_watcher_unref(w->h);
    return 0;
}

static PyObject *w_get_priority(PyObject *self, void *c)
{
    (void)c;
    return PyLong_FromLong(((watcher *)self)->priority);
}

static int w_set_priority(PyObject *self, PyObject *v, void *c)
{
    (void)c;
    long p = v ? PyLong_AsLong(v) : -1;
    if (p == -1 && PyErr_Occurred())
        return -1;
    watcher *w = (watcher *)self;
    if (watcher_is_active(w)) {
        PyErr_SetString(PyExc_AttributeError, "Cannot set priority of an active watcher");
        return -1;
    }
    w->priority = (int8_t)(p < -2 ? -2 : p > 2 ? 2 : p);
    if (w->h)
        weald_watcher_set_priority(w->h, w->priority);
    return 0;
}

static PyObject *w_get_loop(PyObject *self, void *c)
{
    (void)c;
    loop *l = ((watcher *)self)->loop;
    return Py_NewRef(l ? (PyObject *)l : Py_None);
}

/* Those of one kind: `closure` is the kind and which of its numbers. */
enum { A_ATTR, A_PREV, A_PATHS, A_FD, A_EVENTS, A_SIGNUM, A_PID, A_RPID, A_RSTATUS, A_AFTER, A_REPEAT, A_PATH, A_INTERVAL, A_KIND };

static PyObject *w_get_number(PyObject *self, void *closure)
{
    watcher *w = (watcher *)self;
    switch ((int)(intptr_t)closure) {
    case A_FD:
        if (w->kind == IO)
            return PyLong_FromLong(w->fd);
        break;
    case A_EVENTS:
        if (w->kind == IO)
            return PyLong_FromLong(w->events);
        break;
    case A_SIGNUM:
        if (w->kind == SIGNAL)
            return PyLong_FromLong(w->fd);
        break;
    case A_PID:
        if (w->kind == CHILD)
            return PyLong_FromLong(w->fd);
        break;
    case A_RPID:
        if (w->kind == CHILD)
            return PyLong_FromLong(w->rpid);
        break;
    case A_RSTATUS:
        if (w->kind == CHILD)
            return PyLong_FromLong(w->rstatus);
        break;
    case A_AFTER:
        if (w->kind == TIMER)
            return PyFloat_FromDouble((double)w->after / 1e9);
        break;
    case A_REPEAT:
        if (w->kind == TIMER)
            return PyFloat_FromDouble((double)w->repeat / 1e9);
        break;
    case A_INTERVAL:
        if (w->kind == STAT)
            return PyFloat_FromDouble((double)w->after / 1e9);
        break;
    case A_ATTR:
    case A_PREV:
        if (w->kind == STAT) {
            PyObject *o = (int)(intptr_t)closure == A_ATTR ? w->attr : w->prev;
            return Py_NewRef(o ? o : Py_None);
        }
        break;
    case A_PATHS:
        if (w->kind == STAT)
            return Py_NewRef(w->path);
        break;
    case A_PATH:
        if (w->kind == STAT)
            return PyUnicode_DecodeFSDefault(PyBytes_AS_STRING(w->path));
        break;
    case A_KIND:
        return PyUnicode_FromString(kind_names[w->kind]);
    }
    PyErr_SetString(PyExc_AttributeError, "no such attribute of this kind of watcher");
    return NULL;
}

static int w_set_number(PyObject *self, PyObject *v, void *closure)
{
    watcher *w = (watcher *)self;
    long n = v ? PyLong_AsLong(v) : -1;
    if (n == -1 && PyErr_Occurred())
        return -1;
    int which = (int)(intptr_t)closure;
    if (which == A_RSTATUS && w->kind == CHILD)
        return w->rstatus = (int)n, 0;
    if (which == A_RPID && w->kind == CHILD)
        return w->rpid = (int)n, 0;
    if (w->kind != IO) {
        PyErr_SetString(PyExc_AttributeError, "no such attribute of this kind of watcher");
        return -1;
    }
    if (watcher_is_active(w)) {
        PyErr_SetString(PyExc_AttributeError, "'io' watcher attribute can only be changed while it is not active");
        return -1;
    }
    if (which == A_FD)
        w->fd = (int)n;
    else
        w->events = (int)n;
    if (w->h) {
        weald_close(w->h);
        w->h = 0;
    }
    return 0;
}

static int watcher_tp_clear(PyObject *self)
{
    watcher *w = (watcher *)self;
    Py_CLEAR(w->callback);
    Py_CLEAR(w->args);
    Py_CLEAR(w->loop);
    Py_CLEAR(w->path);
    Py_CLEAR(w->attr);
    Py_CLEAR(w->prev);
    Py_CLEAR(w->dict);
    return 0;
}

static int watcher_traverse(PyObject *self, visitproc visit, void *arg)
{
    watcher *w = (watcher *)self;
    Py_VISIT(w->callback);
    Py_VISIT(w->args);
    Py_VISIT(w->loop);
    Py_VISIT(w->dict);
    return 0;
}

static void watcher_dealloc(PyObject *self)
{
    watcher *w = (watcher *)self;
    PyObject_GC_UnTrack(self);
    if (w->weakrefs)
        PyObject_ClearWeakRefs(self);
    if (w->h && w->th == this_thread)
        weald_close(w->h);
    watcher_tp_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *watcher_repr(PyObject *self)
{
    watcher *w = (watcher *)self;
    PyObject *cb = w->callback ? w->callback : Py_None;
    char extra[64] = "";
    if (w->kind == IO)
        snprintf(extra, sizeof extra, " fd=%d events=%s", w->fd,
                 w->events == 3 ? "READ|WRITE" : w->events == 1 ? "READ" : w->events == 2 ? "WRITE" : "0");
    else if (w->kind == TIMER)
        snprintf(extra, sizeof extra, " after=%g repeat=%g", (double)w->after / 1e9, (double)w->repeat / 1e9);
    else if (w->kind == CHILD)
        snprintf(extra, sizeof extra, " pid=%d rstatus=%d", w->fd, w->rstatus);
    PyObject *r = PyUnicode_FromFormat("<%s at %p%s%s%s", kind_names[w->kind], self,
                                       watcher_is_active(w) ? " active" : "", w->pending ? " pending" : "", extra);
    if (r && w->callback) {
        PyObject *more = PyUnicode_FromFormat("%U callback=%R args=%R", r, cb, w->args ? w->args : Py_None);
        Py_DECREF(r);
        r = more;
    }
    if (r) {
        PyObject *end = PyUnicode_FromFormat("%U>", r);
        Py_DECREF(r);
        r = end;
    }
    return r;
}

static PyMethodDef watcher_methods[] = {
    {"start", (PyCFunction)(void (*)(void))watcher_start, METH_VARARGS | METH_KEYWORDS,
     "start(callback, *args): begins; with pass_events=True the events come first."},
    {"again", (PyCFunction)(void (*)(void))watcher_again, METH_VARARGS | METH_KEYWORDS,
     "again(callback, *args): a timer's: as start, one interval from now."},
    {"stop", watcher_stop, METH_NOARGS, "Ceases to watch; a callback that is pending is not called."},
    {"close", watcher_close, METH_NOARGS, "Stops for good."},
    {"feed", watcher_feed, METH_VARARGS, "feed(events, callback, *args): as if it had happened."},
    {"send", watcher_send, METH_NOARGS, "Of async_: has the callback run; from any thread."},
    {"send_ignoring_arg", watcher_send, METH_O, "send(), as a callback with one argument."},
    {"__enter__", watcher_enter, METH_NOARGS, NULL},
    {"__exit__", watcher_exit, METH_VARARGS, NULL},
    {NULL}};

static PyGetSetDef watcher_getset[] = {
    {"active", w_get_active, NULL, "Whether it watches.", NULL},
    {"pending", w_get_pending, NULL, "Whether it has fired and its callback has still to run.", NULL},
    {"callback", w_get_callback, w_set_callback, NULL, NULL},
    {"args", w_get_args, w_set_args, NULL, NULL},
    {"ref", w_get_ref, w_set_ref, "Whether it keeps the loop running.", NULL},
    {"priority", w_get_priority, w_set_priority, "-2 to 2.", NULL},
    {"loop", w_get_loop, NULL, NULL, NULL},
    {"fd", w_get_number, w_set_number, NULL, (void *)A_FD},
    {"events", w_get_number, w_set_number, NULL, (void *)A_EVENTS},
    {"signalnum", w_get_number, NULL, NULL, (void *)A_SIGNUM},
    {"pid", w_get_number, NULL, NULL, (void *)A_PID},
    {"rpid", w_get_number, w_set_number, NULL, (void *)A_RPID},
    {"rstatus", w_get_number, w_set_number, NULL, (void *)A_RSTATUS},
    {"after", w_get_number, NULL, NULL, (void *)A_AFTER},
    {"repeat", w_get_number, NULL, NULL, (void *)A_REPEAT},
    {"path", w_get_number, NULL, NULL, (void *)A_PATH},
    {"attr", w_get_number, NULL, "What os.stat says of the path; None if there is nothing.", (void *)A_ATTR},
    {"prev", w_get_number, NULL, "What it said before that.", (void *)A_PREV},
    {"_paths", w_get_number, NULL, NULL, (void *)A_PATHS},
    {"interval", w_get_number, NULL, NULL, (void *)A_INTERVAL},
    {"kind", w_get_number, NULL, "Its kind: 'io', 'timer', ...", (void *)A_KIND},
    {NULL}};

PyTypeObject watcher_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.watcher",
    .tp_basicsize = sizeof(watcher),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A watcher of any kind; the loop's methods make them.",
    .tp_dealloc = watcher_dealloc,
    .tp_traverse = watcher_traverse,
    .tp_clear = watcher_tp_clear,
    .tp_repr = watcher_repr,
    .tp_methods = watcher_methods,
    .tp_getset = watcher_getset,
    .tp_dictoffset = offsetof(watcher, dict),
    .tp_weaklistoffset = offsetof(watcher, weakrefs),
};

static watcher *watcher_new(PyObject *self, int kind, PyObject *ref, PyObject *priority)
{
    loop *l = (loop *)self;
    watcher *w = (watcher *)watcher_type.tp_alloc(&watcher_type, 0);
    if (!w)
        return NULL;
    w->kind = (uint8_t)kind;
    w->th = l->th;
    w->loop = (loop *)Py_NewRef(self);
    w->ref = !ref || PyObject_IsTrue(ref);
    if (priority && priority != Py_None) {
        long p = PyLong_AsLong(priority);
        if (p == -1 && PyErr_Occurred()) {
            Py_DECREF(w);
            return NULL;
        }
        w->priority = (int8_t)(p < -2 ? -2 : p > 2 ? 2 : p);
    }
    return w;
}

/* ---- the loop ---- */

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
    {"io", WITH_KEYWORDS(loop_io), METH_VARARGS | METH_KEYWORDS, "io(fd, events, ref=True, priority=None)"},
    {"timer", WITH_KEYWORDS(loop_timer), METH_VARARGS | METH_KEYWORDS, "timer(after, repeat=0.0, ref=True, priority=None)"},
    {"signal", WITH_KEYWORDS(loop_signal), METH_VARARGS | METH_KEYWORDS, "signal(signum, ref=True, priority=None)"},
    {"idle", WITH_KEYWORDS(loop_idle), METH_VARARGS | METH_KEYWORDS, "idle(ref=True, priority=None)"},
    {"prepare", WITH_KEYWORDS(loop_prepare), METH_VARARGS | METH_KEYWORDS, "prepare(ref=True, priority=None)"},
    {"check", WITH_KEYWORDS(loop_check), METH_VARARGS | METH_KEYWORDS, "check(ref=True, priority=None)"},
    {"fork", WITH_KEYWORDS(loop_fork), METH_VARARGS | METH_KEYWORDS, "fork(ref=True, priority=None)"},
    {"async_", WITH_KEYWORDS(loop_async), METH_VARARGS | METH_KEYWORDS, "async_(ref=True, priority=None)"},
    {"child", WITH_KEYWORDS(loop_child), METH_VARARGS | METH_KEYWORDS, "child(pid, trace=0, ref=True)"},
    {"stat", WITH_KEYWORDS(loop_stat), METH_VARARGS | METH_KEYWORDS, "stat(path, interval=0.0, ref=True, priority=None)"},
    {"run_callback", WITH_KEYWORDS(loop_run_callback), METH_FASTCALL, "run_callback(f, *args): calls f in the hub, in its turn."},
    {"run_callback_threadsafe", WITH_KEYWORDS(loop_run_callback_threadsafe), METH_FASTCALL,
     "As run_callback, from any thread."},
    {"run", WITH_KEYWORDS(loop_run), METH_VARARGS | METH_KEYWORDS,
     "run(nowait=False, once=False): runs the loop by hand, in main; its callbacks run there too."},
    {"break_", loop_break, METH_VARARGS, "Has run() return."},
    {"now", loop_now, METH_NOARGS, "The time, as time.time()."},
    {"update_now", loop_nothing, METH_NOARGS, "Does nothing: now() is always right."},
    {"update", loop_nothing, METH_NOARGS, "The same."},
    {"install_sigchld", loop_nothing, METH_NOARGS, "Does nothing: children are watched when somebody asks."},
    {"reset_sigchld", loop_nothing, METH_NOARGS, "Does nothing."},
    {"fileno", loop_fileno, METH_NOARGS, "A descriptor for another loop to watch."},
    {"handle_error", loop_handle_error, METH_VARARGS, "handle_error(context, type, value, tb): tells error_handler, or the hub."},
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

/* hub.wait(watcher): the greenlet is woken by the watcher itself. */
static PyObject *py_wait_watcher(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n != 1 || !Py_IS_TYPE(args[0], &watcher_type)) {
        PyErr_SetString(PyExc_TypeError, "wait_watcher(watcher)");
        return NULL;
    }
    watcher *w = (watcher *)args[0];
    thread *th = thread_get();
    if (!th || green_may_wait(th) < 0)
        return NULL;
    if (w->waiting || w->callback)
        return PyErr_Format(exc_concurrent, "This watcher is already used: %R", (PyObject *)w);
    if (watcher_begin(w) < 0)
        return NULL;
    w->waiting = th->current;
    int outcome = green_park(th, WEALD_FOREVER, kind_names[w->kind], (PyObject *)w);
    w->waiting = NULL;
    watcher_halt(w);
    if (w->kind == STAT && outcome == WAIT_WOKEN)
        stat_again(w);
    if (outcome < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* In a forked child. */
static PyObject *py_run_fork_watchers(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(fork_watchers); i++) {
        watcher *w = (watcher *)PyList_GET_ITEM(fork_watchers, i);
        if (!w->pending && w->th == this_thread) {
            w->pending = true;
            if (hub_push(w->th, (PyObject *)w) < 0)
                return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *py_watchers(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = thread_get();
    PyObject *out = th ? PyList_New(0) : NULL;
    for (watcher *w = out ? keeps : NULL; w; w = w->next_kept) {
        if (w->th == th && PyList_Append(out, (PyObject *)w) < 0) {
            Py_DECREF(out);
            return NULL;
        }
    }
    return out;
}

static PyMethodDef functions[] = {
    {"watchers", py_watchers, METH_NOARGS, "The watchers of this thread that have been started with a callback."},
    {"wait_watcher", (PyCFunction)(void (*)(void))py_wait_watcher, METH_FASTCALL, "wait_watcher(w): starts w, waits for it, stops it."},
    {"_run_fork_watchers", py_run_fork_watchers, METH_NOARGS, NULL},
    {NULL}};

int init_loop(PyObject *m)
{
    if (!(fork_watchers = PyList_New(0)) || PyType_Ready(&watcher_type) < 0 || PyType_Ready(&loop_type) < 0 ||
        PyModule_AddObjectRef(m, "watcher", (PyObject *)&watcher_type) < 0 ||
        PyModule_AddObjectRef(m, "Loop", (PyObject *)&loop_type) < 0)
        return -1;
    return PyModule_AddFunctions(m, functions);
}
