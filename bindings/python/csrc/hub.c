/* A thread's hub: the greenlet in which callbacks run, and what every greenlet has of it.
 *
 * The loop itself is the library's and belongs to no greenlet. The hub is a greenlet like others:
 * it is woken when there is something to call, and calls it. What a callback switches to runs in
 * its turn, and then the hub goes on. */

#include "core.h"

static PyObject *hub_class, *str_handle_error, *str_switch_out, *str_loop;

static int64_t switch_interval_ns = 5000000;

/* ---- callbacks ---- */

#define MOST_SPARE 256
static callback *spare[MOST_SPARE];
static int spares;

static callback *callback_make(PyObject *f, PyObject *args)
{
    callback *cb;
    if (spares > 0) {
        cb = spare[--spares];
        PyObject_Init((PyObject *)cb, &callback_type);
    } else if (!(cb = PyObject_GC_New(callback, &callback_type))) {
        return NULL;
    }
    cb->callback = Py_NewRef(f);
    cb->args = Py_NewRef(args);
    PyObject_GC_Track(cb);
    return cb;
}

static void callback_dealloc(PyObject *self)
{
    callback *cb = (callback *)self;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(cb->callback);
    Py_CLEAR(cb->args);
    if (spares < MOST_SPARE)
        spare[spares++] = cb;
    else
        PyObject_GC_Del(self);
}

static int callback_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((callback *)self)->callback);
    Py_VISIT(((callback *)self)->args);
    return 0;
}

static int callback_clear(PyObject *self)
{
    Py_CLEAR(((callback *)self)->callback);
    Py_CLEAR(((callback *)self)->args);
    return 0;
}

static PyObject *callback_stop(PyObject *self, PyObject *unused)
{
    (void)unused;
    callback_clear(self);
    Py_RETURN_NONE;
}

static PyObject *callback_get_pending(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((callback *)self)->callback != NULL);
}

static int callback_bool(PyObject *self)
{
    return ((callback *)self)->args != NULL;
}

static PyObject *callback_repr(PyObject *self)
{
    callback *cb = (callback *)self;
    if (!cb->callback)
        return PyUnicode_FromFormat("<callback at %p stopped>", self);
    return PyUnicode_FromFormat("<callback at %p pending callback=%R args=%R>", self, cb->callback,
                                cb->args ? cb->args : Py_None);
}

static PyObject *callback_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *f, *a;
    (void)type, (void)keywords;
    if (!PyArg_ParseTuple(args, "OO!:callback", &f, &PyTuple_Type, &a))
        return NULL;
    return (PyObject *)callback_make(f, a);
}

static PyMethodDef callback_methods[] = {
    {"stop", callback_stop, METH_NOARGS, "Takes it back: it is not called."},
    {"close", callback_stop, METH_NOARGS, "The same as stop()."},
    {NULL}};

static PyMemberDef callback_members[] = {
    {"callback", T_OBJECT, offsetof(callback, callback), 0, "What is called; None when it was, or was stopped."},
    {"args", T_OBJECT, offsetof(callback, args), 0, "Its arguments; None when it has been called, or was stopped."},
    {NULL}};

static PyGetSetDef callback_getset[] = {
    {"pending", callback_get_pending, NULL, "Whether it has still to be called.", NULL},
    {NULL}};

static PyNumberMethods callback_number = {.nb_bool = callback_bool};

PyTypeObject callback_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.callback",
    .tp_basicsize = sizeof(callback),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "What loop.run_callback returns. True until it has been called.",
    .tp_new = callback_new,
    .tp_dealloc = callback_dealloc,
    .tp_traverse = callback_traverse,
    .tp_clear = callback_clear,
    .tp_repr = callback_repr,
    .tp_methods = callback_methods,
    .tp_members = callback_members,
    .tp_getset = callback_getset,
    .tp_as_number = &callback_number,
};

static int ring_put(thread *th, PyObject *cb)
{
    if (unlikely(!th->ring || th->ring_tail - th->ring_head > th->ring_mask)) {
        size_t size = th->ring ? 2 * (th->ring_mask + 1) : 64;
        PyObject **ring = PyMem_Malloc(size * sizeof *ring);
        if (!ring) {
            PyErr_NoMemory();
            return -1;
        }
        size_t n = th->ring_tail - th->ring_head;
        for (size_t i = 0; i < n; i++)
            ring[i] = th->ring[(th->ring_head + i) & th->ring_mask];
        PyMem_Free(th->ring);
        th->ring = ring;
        th->ring_mask = size - 1;
        th->ring_head = 0;
        th->ring_tail = n;
    }
    th->ring[th->ring_tail++ & th->ring_mask] = cb;
    return 0;
}

int hub_push(thread *th, PyObject *cb)
{
    /* A hub that sleeps is woken after them. */
    if (th->wakes != th->wakes_seen && th->hub_awake && ring_put(th, NULL) < 0)
        return -1;
    th->wakes_seen = th->wakes;
    if (ring_put(th, cb) < 0)
        return -1;
    Py_INCREF(cb);
    hub_wake(th);
    return 0;
}

PyObject *hub_call(thread *th, PyObject *f, PyObject *args)
{
    if (!thread_hub(th))
        return NULL;
    callback *cb = callback_make(f, args);
    if (!cb)
        return NULL;
    if (hub_push(th, (PyObject *)cb) < 0)
        Py_CLEAR(cb);
    return (PyObject *)cb;
}

int hub_call_one(thread *th, PyObject *f, PyObject *arg)
{
    PyObject *args = PyTuple_Pack(1, arg);
    callback *cb = args ? callback_make(f, args) : NULL;
    Py_XDECREF(args);
    if (!cb)
        return -1;
    int failed = th == this_thread ? hub_push(th, (PyObject *)cb) : hub_call_from_outside(th, (PyObject *)cb);
    Py_DECREF(cb);
    return failed;
}

int hub_call_from_outside(thread *th, PyObject *what)
{
    if (th->ended) {
        PyErr_SetString(exc_destroyed, "the thread of this hub has ended");
        return -1;
    }
    if (!th->foreign && !(th->foreign = PyList_New(0)))
        return -1;
    if (PyList_Append(th->foreign, what) < 0)
        return -1;
    weald_async_send(th->wakeup);
    return 0;
}

static void wake_from_outside(green *g)
{
    if (g->in_park)
        weald_wake(g->handle, NULL);
}

/* In the loop: no code must run here, so the list's references are handed on, never dropped. */
void hub_on_wakeup(weald_watcher w, int events, void *user)
{
    thread *th = user;
    (void)w, (void)events;
    if (!th->foreign)
        return;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(th->foreign); i++) {
        PyObject *what = PyList_GET_ITEM(th->foreign, i);
        if (is_green(what))
            wake_from_outside((green *)what);
    }
    th->has_foreign = true;
    hub_wake(th);
}

static void take_foreign(thread *th)
{
    PyObject *list = th->foreign;
    th->foreign = NULL;
    th->has_foreign = false;
    if (!list)
        return;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *what = PyList_GET_ITEM(list, i);
        if (is_green(what))
            wake_from_outside((green *)what); /* more may have come since the loop looked */
        else if (hub_push(th, what) < 0)
            PyErr_WriteUnraisable(what);
    }
    Py_DECREF(list);
}

void hub_handle_error(thread *th, PyObject *context)
{
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    PyErr_NormalizeException(&t, &v, &tb);
    if (tb && v)
        PyException_SetTraceback(v, tb);
    PyObject *hub = th->manual ? th->loop : (PyObject *)thread_hub(th);
    PyObject *r = hub ? PyObject_CallMethodObjArgs(hub, str_handle_error, context, t, v,
                                                   tb ? tb : Py_None, NULL)
                      : NULL;
    if (!r && th->manual && !th->leaves && !PyErr_ExceptionMatches(PyExc_Exception)) {
        /* Whoever runs the loop by hand is to end: gevent's hub, which is destroyed. */
        PyObject *type, *trace;
        PyErr_Fetch(&type, &th->leaves, &trace);
        PyErr_NormalizeException(&type, &th->leaves, &trace);
        if (trace && th->leaves)
            PyException_SetTraceback(th->leaves, trace);
        Py_XDECREF(type);
        Py_XDECREF(trace);
        th->stop = true;
        weald_stop();
    } else if (!r) {
        PyErr_WriteUnraisable(context);
    }
    Py_XDECREF(r);
    Py_XDECREF(t);
    Py_XDECREF(v);
    Py_XDECREF(tb);
}

static void run_one(thread *th, PyObject *what)
{
    PyObject *r;
    if (Py_IS_TYPE(what, &callback_type)) {
        callback *cb = (callback *)what;
        PyObject *f = cb->callback;
        if (!f)
            return;
        cb->callback = NULL;
        PyObject *args = Py_XNewRef(cb->args);
        r = PyObject_Call(f, args, NULL);
        Py_XDECREF(args);
        Py_DECREF(f);
        Py_CLEAR(cb->args);
    } else if (Py_IS_TYPE(what, &watcher_type)) {
        r = watcher_run(what);
    } else {
        r = py_notify(NULL, what);
    }
    if (!r)
        hub_handle_error(th, what);
    else
        Py_DECREF(r);
}

/* Those that are there now; what they add comes later, but for that of a greenlet which one has switched to, and
 * which waits now for just that. */
static void run_callbacks(thread *th)
{
    size_t n = th->ring_tail - th->ring_head;
    int64_t until = 0;
    for (size_t i = 0; i < n && th->ring_head != th->ring_tail; i++) {
        PyObject *what = th->ring[th->ring_head++ & th->ring_mask];
        if (!what) {
            if (th->manual)
                continue;
            break;
        }
        th->hub_went = false;
        run_one(th, what);
        Py_DECREF(what);
        if (unlikely(th->hub_went))
            n = i + 1 + (th->ring_tail - th->ring_head);
        if ((i & 31) == 31) {
            int64_t now = weald_now();
            if (!until)
                until = now + switch_interval_ns;
            else if (now > until)
                break;
        }
    }
}

/* For a loop that is run by hand, and for another program's hub. */
int hub_run_callbacks_here(thread *th)
{
    if (th->has_foreign)
        take_foreign(th);
    int any = th->ring_head != th->ring_tail;
    run_callbacks(th);
    return any;
}

static void *hub_body(void *arg)
{
    green *hub = arg;
    thread *th = hub->th;
    SET_ASIDE(chunk, size);
    state_init(th->ts, &hub->ps, chunk, (size_t)size, th->c_depth);
    hub->loaded = true;
    th->hub_awake = true;
    for (;;) {
        if (after_switch(th) < 0)
            hub_handle_error(th, Py_None);
        if (th->has_foreign)
            take_foreign(th);
        if (hub->pending) {
            green_raise_pending(hub);
            hub_handle_error(th, Py_None);
        }
        if (th->ring_head != th->ring_tail) {
            run_callbacks(th);
            weald_yield();
            continue;
        }
        th->hub_awake = false;
        weald_park(NULL, WEALD_FOREVER);
        th->hub_awake = true;
    }
    return NULL;
}

static ENTRY(hub_entry, hub_body)

void hub_wake(thread *th)
{
    green *hub = th->hub;
    if (th->hub_awake || !hub || th->manual)
        return;
    th->hub_awake = true;
    if (hub->life == NEW) {
        th->options.user = hub;
        hub->handle = weald_greenlet_new(hub_entry, hub, &th->options);
        if (hub->handle > 0) {
            hub->life = ACTIVE;
            green_hold(hub);
            weald_start(hub->handle);
        }
        return;
    }
    weald_wake(hub->handle, NULL);
}

/* ---- the hub's type ---- */

green *thread_hub(thread *th)
{
    if (likely(th->hub != NULL))
        return th->hub;
    PyObject *hub = PyObject_CallNoArgs(hub_class ? hub_class : (PyObject *)&hub_type);
    if (!hub)
        return NULL;
    if (!th->hub)
        th->hub = (green *)Py_NewRef(hub);
    Py_DECREF(hub);
    if (th->ring_head != th->ring_tail || th->has_foreign)
        hub_wake(th);
    return th->hub;
}

PyObject *get_hub_object(thread *th)
{
    return Py_XNewRef((PyObject *)thread_hub(th));
}

static PyObject *hub_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *self = green_new(type, args, keywords);
    if (self) {
        green *g = (green *)self;
        g->kind = HUB;
        Py_INCREF(g->th->main);
        Py_XSETREF(g->parent, (PyObject *)g->th->main);
    }
    return self;
}

static int hub_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self, (void)args, (void)keywords;
    return 0;
}

static PyObject *hub_switch_to(PyObject *self, PyObject *unused)
{
    (void)unused;
    thread *th = thread_get();
    if (!th)
        return NULL;
    green *me = th->current;
    if (((green *)self)->th != th) {
        PyErr_SetString(exc_error, "Cannot switch to a different thread");
        return NULL;
    }
    if (unlikely(Py_TYPE(me) != &green_type && Py_TYPE(me) != &task_type)) {
        PyObject *f = PyObject_GetAttr((PyObject *)me, str_switch_out);
        if (!f) {
            PyErr_Clear();
        } else {
            PyObject *r = PyObject_CallNoArgs(f);
            Py_DECREF(f);
            if (!r)
                return NULL;
            Py_DECREF(r);
        }
    }
    return green_wait_switch(th);
}

static PyObject *hub_switch_out(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    PyErr_SetString(exc_blocking, "Impossible to call blocking function in the event loop callback");
    return NULL;
}

int hub_throw(thread *th)
{
    if (PyErr_ExceptionMatches(exc_destroyed)) {
        PyErr_Clear();
        return 0;
    }
    return green_throw_at(th->main);
}

static PyObject *hub_m_throw(PyObject *self, PyObject *args)
{
    PyObject *type = exc_exit, *value = NULL, *tb = NULL;
    (void)self;
    if (!PyArg_UnpackTuple(args, "throw", 0, 3, &type, &value, &tb))
        return NULL;
    thread *th = thread_get();
    if (!th || throw_args(type, value, tb) < 0)
        return NULL;
    if (PyErr_ExceptionMatches(exc_destroyed)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    if (th->current->kind == MAIN || th->current->kind == HUB)
        return NULL; /* where it would arrive; and who throws at itself raises it */
    if (hub_throw(th) < 0)
        return NULL;
    return green_wait_switch(th);
}

static PyObject *hub_join(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    int64_t deadline;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:join", names, &timeout) ||
        deadline_from(timeout, &deadline) < 0)
        return NULL;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (th->current->kind != MAIN) {
        PyErr_SetString(PyExc_AssertionError, "only possible from the MAIN greenlet");
        return NULL;
    }
    for (;;) {
        th->in_run = true;
        int code = weald_run(deadline == WEALD_FOREVER ? WEALD_FOREVER : deadline);
        th->in_run = false;
        if (after_switch(th) < 0)
            return NULL;
        if (th->current->pending) {
            green_raise_pending(th->current);
            return NULL;
        }
        bool interrupted = th->interrupted;
        if (interrupted) {
            th->interrupted = false;
            if (PyErr_CheckSignals() < 0)
                return NULL;
        }
        if (code == WEALD_ETIMEDOUT)
            Py_RETURN_FALSE;
        if (code == WEALD_EDEADLK)
            Py_RETURN_TRUE;
        if (code < 0) {
            raise_code(code);
            return NULL;
        }
        if (!interrupted)
            Py_RETURN_TRUE;
    }
}

static PyMethodDef hub_methods[] = {
    {"switch", hub_switch_to, METH_NOARGS,
     TEXT("switch($self, /)", "Waits until somebody switches to this greenlet; returns what is switched.")},
    {"throw", hub_m_throw, METH_VARARGS, "Raises an exception in the main greenlet."},
    {"switch_out", hub_switch_out, METH_NOARGS,
     TEXT("switch_out($self, /)", "Raises BlockingSwitchOutError: a callback must not wait.")},
    {"join", (PyCFunction)(void (*)(void))hub_join, METH_VARARGS | METH_KEYWORDS,
     TEXT("join($self, timeout=None)", "Runs the loop until nothing is left (True) or the timeout (False).")},
    {NULL}};

PyTypeObject hub_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.Hub",
    .tp_base = &green_type,
    .tp_basicsize = sizeof(green),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The greenlet that runs a thread's callbacks. weald.hub.Hub is made of it; get_hub() makes one a thread.",
    .tp_new = hub_new,
    .tp_init = hub_init,
    .tp_traverse = green_traverse,
    .tp_clear = green_clear,
    .tp_methods = hub_methods,
};

/* ---- time ---- */

int seconds_from(PyObject *o, int64_t *ns)
{
    double s = PyFloat_CheckExact(o) ? PyFloat_AS_DOUBLE(o) : PyFloat_AsDouble(o);
    if (unlikely(s == -1.0 && PyErr_Occurred()))
        return -1;
    if (s != s) {
        PyErr_SetString(PyExc_ValueError, "a timeout that is not a number");
        return -1;
    }
    *ns = s >= 9.0e9 ? INT64_MAX : s <= -9.0e9 ? INT64_MIN : (int64_t)(s * 1e9);
    return 0;
}

int deadline_from(PyObject *timeout, int64_t *deadline)
{
    *deadline = WEALD_FOREVER;
    if (!timeout || timeout == Py_None)
        return 0;
    if (unlikely(PyObject_TypeCheck(timeout, &timeout_type)))
        return timeout_guard(timeout);
    int64_t ns;
    if (seconds_from(timeout, &ns) < 0)
        return -1;
    *deadline = ns <= 0 ? WEALD_NOW : weald_after(ns);
    return 0;
}

int deadline_end_slowly(int outcome, PyObject *timeout)
{
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    if (t && !v && t == timeout)
        v = Py_NewRef(timeout);
    if (outcome < 0 && v == timeout) {
        Py_CLEAR(t);
        Py_CLEAR(v);
        Py_CLEAR(tb);
        outcome = WAIT_TIMEOUT;
    }
    timeout_release(timeout);
    PyErr_Restore(t, v, tb);
    return outcome;
}

static PyObject *resume(PyObject *self, PyObject *g)
{
    (void)self;
    green_wake((green *)g);
    Py_RETURN_NONE;
}

static PyMethodDef resume_def = {"resume", resume, METH_O, NULL};
static PyObject *resumer;

/* The hub has switched to the current greenlet. It goes on first, with what it still has to call, and wakes us after
 * that. */
static PyObject *yield_to_hub(thread *th)
{
    PyObject *args = PyTuple_Pack(1, (PyObject *)th->current);
    PyObject *cb = args ? hub_call(th, resumer, args) : NULL;
    Py_XDECREF(args);
    if (!cb)
        return NULL;
    int outcome = green_park(th, WEALD_FOREVER, "sleep", NULL);
    if (outcome != WAIT_WOKEN)
        callback_clear(cb);
    Py_DECREF(cb);
    return outcome == WAIT_WOKEN ? Py_NewRef(Py_None) : NULL;
}

static PyObject *py_sleep(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    thread *th = thread_get();
    if (unlikely(!th))
        return NULL;
    PyObject *seconds = n > 0 ? args[0] : NULL, *ref = n > 1 ? args[1] : NULL;
    if (unlikely(names != NULL)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
            PyObject *name = PyTuple_GET_ITEM(names, i);
            if (PyUnicode_CompareWithASCIIString(name, "seconds") == 0)
                seconds = args[n + i];
            else if (PyUnicode_CompareWithASCIIString(name, "ref") == 0)
                ref = args[n + i];
            else
                return PyErr_Format(PyExc_TypeError, "sleep() got an unexpected keyword argument '%U'", name);
        }
    }
    int64_t ns = 0;
    if (seconds && seconds_from(seconds, &ns) < 0)
        return NULL;
    if (unlikely(green_may_wait(th) < 0))
        return NULL;
    int code;
    if (ns <= 0) {
        if (unlikely(th->hub_waits))
            return yield_to_hub(th);
        code = weald_yield();
        if (unlikely(code < 0) || unlikely(th->attention) || unlikely(th->current->pending != NULL)) {
            if (green_check(th, code) < 0)
                return NULL;
        }
        Py_RETURN_NONE;
    }
    green *me = th->current;
    int64_t deadline = weald_after(ns);
    if (ref && !PyObject_IsTrue(ref)) {
        weald_watcher w = weald_timer_watcher(ns, 0, hub_wake_green, me);
        if (w < 0) {
            raise_code((int)w);
            return NULL;
        }
        weald_watcher_unref(w);
        weald_watcher_start(w);
        int outcome = green_park(th, WEALD_FOREVER, "sleep", NULL);
        weald_close(w);
        if (outcome < 0)
            return NULL;
        Py_RETURN_NONE;
    }
    me->why = "sleep";
    do {
        code = green_check(th, weald_sleep_until(deadline));
    } while (code == 1);
    me->why = NULL;
    if (code < 0)
        return NULL;
    Py_RETURN_NONE;
}

bool is_sleep(PyObject *f)
{
    return PyCFunction_Check(f) && PyCFunction_GET_FUNCTION(f) == (PyCFunction)(void (*)(void))py_sleep;
}

void hub_wake_green(weald_watcher w, int events, void *user)
{
    (void)w, (void)events;
    green_wake(user);
}

static PyObject *py_idle(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"priority", NULL};
    int priority = 0;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|i:idle", names, &priority))
        return NULL;
    thread *th = thread_get();
    if (!th || green_may_wait(th) < 0)
        return NULL;
    int code;
    th->current->why = "idle";
    do {
        code = green_check(th, weald_idle(priority));
    } while (code == 1);
    th->current->why = NULL;
    if (code < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- functions ---- */

static PyObject *py_get_hub(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = thread_get();
    return th ? get_hub_object(th) : NULL;
}

static PyObject *py_get_hub_if_exists(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = this_thread;
    return Py_NewRef(th && th->hub ? (PyObject *)th->hub : Py_None);
}

static PyObject *py_set_hub(PyObject *self, PyObject *hub)
{
    (void)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    green *new = NULL;
    if (hub != Py_None) {
        if (!PyObject_TypeCheck(hub, &hub_type) || ((green *)hub)->th != th) {
            PyErr_SetString(PyExc_TypeError, "a hub of this thread is wanted");
            return NULL;
        }
        new = (green *)Py_NewRef(hub);
    }
    if (new != th->hub) {
        green *old = th->hub;
        th->hub = new;
        th->hub_awake = false;
        if (old && old->life == ACTIVE && old->handle && th->current != old && weald_abandon(old->handle) == 0) {
            state_forget(&old->ps);
            weald_close(old->handle);
            old->handle = 0;
            old->life = DEAD;
            old->loaded = false;
            old->held = false;
            Py_DECREF(old);
        }
        Py_XDECREF(old);
        if (new && (th->ring_head != th->ring_tail || th->has_foreign))
            hub_wake(th);
    } else {
        Py_XDECREF(new);
    }
    Py_RETURN_NONE;
}

static PyObject *py_set_hub_class(PyObject *self, PyObject *class)
{
    (void)self;
    Py_INCREF(class);
    Py_XSETREF(hub_class, class);
    Py_RETURN_NONE;
}

static PyObject *py_run_callback(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "run_callback: what?");
        return NULL;
    }
    PyObject *tuple = tuple_of(args + 1, n - 1);
    if (!tuple)
        return NULL;
    PyObject *cb = hub_call(th, args[0], tuple);
    Py_DECREF(tuple);
    return cb;
}

static PyObject *py_getswitchinterval(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return PyFloat_FromDouble((double)switch_interval_ns / 1e9);
}

static PyObject *py_setswitchinterval(PyObject *self, PyObject *value)
{
    (void)self;
    int64_t ns;
    if (seconds_from(value, &ns) < 0)
        return NULL;
    switch_interval_ns = ns;
    Py_RETURN_NONE;
}

static PyObject *py_dump(PyObject *self, PyObject *fd)
{
    (void)self;
    int n = PyObject_AsFileDescriptor(fd);
    if (n < 0)
        return NULL;
    int code = weald_dump(n);
    if (code < 0) {
        raise_code(code);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *py_versions(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return Py_BuildValue("(si)", weald_version(), weald_abi_version());
}

static PyMethodDef functions[] = {
    {"get_hub", py_get_hub, METH_NOARGS, TEXT("get_hub($module, /)", "The hub of this thread; makes it.")},
    {"get_hub_if_exists", py_get_hub_if_exists, METH_NOARGS, "The hub of this thread, or None."},
    {"set_hub", py_set_hub, METH_O,
     TEXT("set_hub($module, hub, /)", "Has this thread use another hub, or (None) make a new one.")},
    {"set_hub_class", py_set_hub_class, METH_O, "What get_hub() makes."},
    {"run_callback", (PyCFunction)(void (*)(void))py_run_callback, METH_FASTCALL,
     "run_callback(f, *args): calls f in the hub; returns a callback object."},
    {"sleep", (PyCFunction)(void (*)(void))py_sleep, METH_FASTCALL | METH_KEYWORDS,
     TEXT("sleep($module, seconds=0, ref=True)", "Waits while others run; 0 lets those run that are ready.")},
    {"idle", (PyCFunction)(void (*)(void))py_idle, METH_VARARGS | METH_KEYWORDS,
     TEXT("idle($module, priority=0)", "Goes on when nothing else is to be done.")},
    {"getswitchinterval", py_getswitchinterval, METH_NOARGS,
     TEXT("getswitchinterval($module, /)", "How long callbacks may run before others do, in seconds.")},
    {"setswitchinterval", py_setswitchinterval, METH_O,
     TEXT("setswitchinterval($module, interval, /)", "See getswitchinterval.")},
    {"dump", py_dump, METH_O, "dump(fd): writes a line for every greenlet of this thread, those of C as well."},
    {"versions", py_versions, METH_NOARGS, "The library's version, and that of its ABI."},
    {NULL}};

int init_hub(PyObject *m)
{
    if (!(str_handle_error = PyUnicode_InternFromString("handle_error")) ||
        !(resumer = PyCFunction_New(&resume_def, NULL)) ||
        !(str_switch_out = PyUnicode_InternFromString("switch_out")) || !(str_loop = PyUnicode_InternFromString("loop")))
        return -1;
    if (PyType_Ready(&callback_type) < 0 || PyType_Ready(&hub_type) < 0)
        return -1;
    if (PyModule_AddObjectRef(m, "callback", (PyObject *)&callback_type) < 0 ||
        PyModule_AddObjectRef(m, "Hub", (PyObject *)&hub_type) < 0)
        return -1;
    return PyModule_AddFunctions(m, functions);
}
