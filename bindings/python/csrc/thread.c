/* A thread's part of it: the interpreter's lock, what the library tells us, who is told of switches, and the thread's
 * beginning and end. */

#include "green.h"
#include <unistd.h>

__thread thread *this_thread __attribute__((tls_model("initial-exec"), visibility("hidden")));
bool shutting_down;

static PyObject *str_switch, *str_throw, *str_weald;

/* ---- the interpreter's lock ---- */

/* When the interpreter ends it ends other threads by unwinding them, which must not go through the
 * library's frames: such a thread stops here for ever instead. */
static void hang(int *armed)
{
    while (*armed)
        pause();
}

static void take_gil(PyThreadState *ts)
{
    int armed __attribute__((cleanup(hang))) = 1;
    PyEval_RestoreThread(ts);
    armed = 0;
}

/* ---- hooks ---- */

static void on_leave(weald_greenlet handle, void *user)
{
    green *g = user;
    (void)handle;
    if (!g)
        return;
    thread *th = g->th;
    g->no_gil = state_holder() != th->ts;
    if (likely(g->loaded))
        state_save(th->ts, &g->ps);
    if (unlikely(th->hub_waits) && g != th->hub) {
        th->hub_waits = false;
        if (!th->to_hub)
            weald_wake(th->hub->handle, NULL);
        th->to_hub = false;
    }
}

static void on_enter(weald_greenlet handle, void *user)
{
    green *g = user;
    (void)handle;
    if (!g) {
        /* Python code that it calls runs on top of the frames of whoever left last, and must return
         * before it suspends. */
        this_thread->current = this_thread->alien;
        return;
    }
    thread *th = g->th;
    bool holds = state_holder() == th->ts;
    if (unlikely(!holds && !g->no_gil)) {
        take_gil(th->ts);
        holds = true;
    }
    th->current = g;
    if (likely(g->loaded))
        state_load(th->ts, &g->ps);
    if (unlikely(holds && g->no_gil))
        PyEval_SaveThread();
}

static void on_block_begin(void)
{
    thread *th = this_thread;
    if (th && state_holder() == th->ts) {
        th->released = true;
        PyEval_SaveThread();
    }
}

static void on_block_end(int interrupted)
{
    thread *th = this_thread;
    if (!th || !th->released)
        return;
    th->released = false;
    take_gil(th->ts);
    if (interrupted)
        signals_rouse(th);
}

static void on_report(const char *text, void *user)
{
    thread *th = user;
    if (state_holder() != th->ts)
        return;
    /* No code runs by this: it is a string. */
    Py_XSETREF(th->report, PyUnicode_FromString(text));
    if (!th->report)
        PyErr_Clear();
}

static void on_failure(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message, (void)user;
}

/* ---- the tracer ---- */

static int trace_to(thread *th, green *to)
{
    green *from = th->traced;
    bool threw = th->threw;
    th->threw = false;
    if (from == to)
        return 0;
    Py_INCREF(to);
    th->traced = to;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    PyObject *tracer = th->tracer;
    Py_INCREF(tracer);
    PyObject *r = PyObject_CallFunction(tracer, "O(OO)", threw ? str_throw : str_switch, from, to);
    Py_DECREF(tracer);
    Py_XDECREF(from);
    if (!r) {
        Py_CLEAR(th->tracer);
        Py_CLEAR(th->traced);
        Py_XDECREF(t);
        Py_XDECREF(v);
        Py_XDECREF(tb);
        return -1;
    }
    Py_DECREF(r);
    PyErr_Restore(t, v, tb);
    return 0;
}

static int trace(thread *th)
{
    return trace_to(th, th->current);
}

/* Who waits hands over to the hub: a tracer sees that, and so how long a greenlet has run. */
int green_leaves(thread *th)
{
    return th->tracer && th->hub && th->current->kind != HUB ? trace_to(th, th->hub) : 0;
}

static PyObject *py_settrace(PyObject *self, PyObject *callback)
{
    (void)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    PyObject *old = th->tracer ? th->tracer : Py_NewRef(Py_None);
    th->tracer = callback == Py_None ? NULL : Py_NewRef(callback);
    if (th->tracer) {
        Py_INCREF(th->current);
        Py_XSETREF(th->traced, th->current);
        th->attention = true;
    } else {
        Py_CLEAR(th->traced);
    }
    th->threw = false;
    return old;
}

static PyObject *py_gettrace(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = thread_get();
    if (!th)
        return NULL;
    return Py_NewRef(th->tracer ? th->tracer : Py_None);
}

/* ---- its beginning and its end ---- */

int thread_bury(thread *th)
{
    th->attention = th->tracer != NULL;
    while (th->dropped) {
        green *g = th->dropped;
        th->dropped = g->next_dropped;
        g->next_dropped = NULL;
        if (Py_REFCNT(g) > 1) {
            Py_DECREF(g);
            continue;
        }
        PyObject *t, *v, *tb;
        PyErr_Fetch(&t, &v, &tb);
        Py_DECREF(g);
        PyErr_Restore(t, v, tb);
    }
    if (unlikely(th->spent != NULL))
        timeouts_bury(th);
    if (unlikely(th->to_kill != NULL))
        kill_garbage(th);
    return th->tracer ? trace(th) : 0;
}

void thread_release(thread *th)
{
    if (--th->refs > 0 || !th->ended)
        return;
    PyMem_Free(th->ring);
    PyMem_Free(th);
}

/* Raises GreenletExit in all greenlets of a thread that ends, so that they clean up. */
static void kill_all(thread *th)
{
    for (int round = 0; round < 3; round++) {
        int64_t n = weald_list(NULL, 0);
        weald_greenlet *all = n > 1 ? PyMem_Calloc((size_t)n, sizeof *all) : NULL;
        if (!all)
            return;
        int64_t got = weald_list(all, (size_t)n);
        if (got > n)
            got = n;
        for (int64_t i = 0; i < got; i++) {
            /* One may have gone while another was killed. */
            green *g = weald_user(all[i]);
            if (!g || g->kind == MAIN || g->kind == HUB || g->life != ACTIVE)
                continue;
            Py_INCREF(g);
            if (round < 2) {
                green_kill_here(th, g);
                if (!g->loaded)
                    weald_start(g->handle); /* what was to begin later does so now, and raises it */
            } else {
                state_forget(&g->ps), g->life = DEAD;
            }
            Py_DECREF(g);
        }
        PyMem_Free(all);
        weald_yield();
        if (after_switch(th) < 0)
            PyErr_Clear();
    }
}

/* In the thread, at its end; at that of the interpreter perhaps in another. */
static void thread_end(PyObject *capsule)
{
    thread *th = PyCapsule_GetPointer(capsule, NULL);
    if (!th)
        return PyErr_Clear();
    bool here = this_thread == th && th->current == th->main && !shutting_down;
    if (here)
        kill_all(th);
    th->ended = true;
    if (this_thread != th)
        return; /* the interpreter is ending; nothing runs there any more */
    weald_set_hooks(NULL);
    th->main->life = DEAD;
    th->ts = NULL;
    this_thread = NULL;
    if (!here)
        return;
    Py_CLEAR(th->foreign);
    Py_CLEAR(th->to_kill);
    Py_CLEAR(th->tracer);
    Py_CLEAR(th->report);
    while (th->ring_head != th->ring_tail)
        Py_XDECREF(th->ring[th->ring_head++ & th->ring_mask]);
    green *traced = th->traced, *main = th->main, *hub = th->hub, *alien = th->alien;
    th->traced = th->main = th->current = th->hub = th->alien = NULL;
    Py_XDECREF(traced);
    alien->life = DEAD;
    Py_DECREF(alien);
    if (hub) {
        if (hub->held) {
            hub->held = false;
            Py_DECREF(hub);
        }
        hub->life = DEAD;
        Py_DECREF(hub);
    }
    main->held = false;
    Py_DECREF(main); /* the last one frees `th` */
}

thread *thread_make(void)
{
    weald_greenlet main = weald_main();
    if (main < 0) {
        raise_code((int)main);
        return NULL;
    }
    thread *th = PyMem_Calloc(1, sizeof *th);
    PyObject *dict = PyThreadState_GetDict();
    if (!th || !dict) {
        PyErr_NoMemory();
        return NULL;
    }
    th->ts = PyThreadState_Get();
    th->self = pthread_self();
    PyObject *capsule = PyCapsule_New(th, NULL, thread_end);
    if (!capsule || PyDict_SetItem(dict, str_weald, capsule) < 0)
        return NULL;
    Py_DECREF(capsule);
    green *g = (green *)green_type.tp_alloc(&green_type, 0);
    if (!g)
        return NULL;
    g->th = th;
    th->refs = 1;
    g->handle = main;
    g->life = ACTIVE;
    g->kind = MAIN;
    g->held = g->loaded = true;
    g->node.what = (PyObject *)g;
    th->main = th->current = g;
    if (!(th->alien = (green *)green_type.tp_alloc(&green_type, 0)))
        return NULL;
    th->alien->th = th;
    th->alien->life = ACTIVE;
    th->alien->kind = ALIEN;
    th->alien->parent = Py_NewRef((PyObject *)g);
    th->refs++;
    if (PyObject_SetAttrString((PyObject *)th->alien, "greenlet_tree_is_ignored", Py_True) < 0)
        return NULL;
    const char *size = getenv("WEALD_STACK_SIZE");
    th->stack_size = size ? (size_t)strtoul(size, NULL, 0) : 0;
    if (th->stack_size < 128 * 1024)
        th->stack_size = (HAS_C_RECURSION ? 1024 : 3072) * 1024;
    th->c_depth = state_c_depth(th->stack_size - CHUNK_SIZE);
    th->options.size = sizeof th->options;
    th->options.stack_size = th->stack_size;
    this_thread = th;
    weald_set_user(main, g);
    weald_hooks hooks = {.size = sizeof hooks, .leave = on_leave, .enter = on_enter,
                         .block_begin = on_block_begin, .block_end = on_block_end};
    weald_set_hooks(&hooks);
    weald_set_report_handler(on_report, th);
    weald_set_error_handler(on_failure, th);
    th->wakeup = weald_async_watcher(hub_on_wakeup, th);
    weald_watcher_start(th->wakeup);
    weald_watcher_unref(th->wakeup);
    signals_open(th, -1);
    return th;
}

static PyObject *py_shutdown(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    shutting_down = true;
    Py_RETURN_NONE;
}

static PyObject *py_after_fork(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = this_thread;
    if (!th)
        Py_RETURN_NONE;
    int mine = th->signal_out;
    signals_close(th);
    signals_open(th, mine);
    if (th->current->kind != MAIN)
        th->current->is_coro = false;
    green *hub = th->hub;
    if (hub && hub != th->current && hub->life == ACTIVE) {
        /* Its greenlet is the parent's: the next callback begins another one. */
        hub->life = NEW;
        hub->handle = 0;
        hub->loaded = hub->in_park = hub->in_switch = false;
        hub->how = NOT_WOKEN;
        th->hub_awake = th->hub_waits = th->to_hub = false;
        if (th->ring_head != th->ring_tail)
            hub_wake(th);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"settrace", py_settrace, METH_O,
     "Sets who is called as f(event, (origin, target)) at each switch; returns the one before."},
    {"gettrace", py_gettrace, METH_NOARGS, "Who is called at each switch, or None."},
    {"_shutdown", py_shutdown, METH_NOARGS, "The interpreter ends: suspended greenlets are left as they are."},
    {"_after_fork", py_after_fork, METH_NOARGS, NULL},
    {NULL}};

int init_thread(PyObject *m)
{
    if (!(str_switch = PyUnicode_InternFromString("switch")) || !(str_throw = PyUnicode_InternFromString("throw")) ||
        !(str_weald = PyUnicode_InternFromString("weald.thread")))
        return -1;
    return PyModule_AddFunctions(m, functions);
}
