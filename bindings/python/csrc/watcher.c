/* gevent's watchers, of every kind.
 *
 * One that fires in the loop is put into the hub's ring, and its callback runs in the hub. A greenlet that waits for it
 * is woken directly. */

#include "watcher.h"

static const char *const kind_names[] = {"io",   "timer", "signal", "idle",  "prepare",
                                         "check", "fork", "async_", "child", "stat"};
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
    {"stop", watcher_stop, METH_NOARGS,
     TEXT("stop($self, /)", "Ceases to watch; a callback that is pending is not called.")},
    {"close", watcher_close, METH_NOARGS, TEXT("close($self, /)", "Stops for good.")},
    {"feed", watcher_feed, METH_VARARGS, TEXT("feed($self, revents, callback, *args)", "As if it had happened.")},
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

watcher *watcher_new(PyObject *self, int kind, PyObject *ref, PyObject *priority)
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
    {"wait_watcher", (PyCFunction)(void (*)(void))py_wait_watcher, METH_FASTCALL,
     "wait_watcher(w): starts w, waits for it, stops it."},
    {"_run_fork_watchers", py_run_fork_watchers, METH_NOARGS, NULL},
    {NULL}};

int init_watcher(PyObject *m)
{
    if (!(fork_watchers = PyList_New(0)) || PyType_Ready(&watcher_type) < 0 ||
        PyModule_AddObjectRef(m, "watcher", (PyObject *)&watcher_type) < 0)
        return -1;
    return PyModule_AddFunctions(m, functions);
}
