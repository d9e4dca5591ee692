/* The raw greenlet, and how any greenlet waits.
 *
 *            switch            switch, or the end of a child
 *     NEW ----------> ACTIVE <---> suspended: in_switch  nobody resumes it unasked
 *      |                |                     in_park    a wait of ours: green_wake
 *      |                |                     neither    in a wait of the library, or ready
 *      +-----> DEAD <---+
 *
 * Whoever makes a greenlet go on leaves word in `how`, so that a wait can tell its own end from a
 * resumption that was meant for something else, and simply waits on. */

#define _GNU_SOURCE 1
#include "core.h"
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

__thread thread *this_thread __attribute__((tls_model("initial-exec"), visibility("hidden")));

PyObject *exc_exit, *exc_error, *exc_loop_exit, *exc_blocking, *exc_invalid_switch;
PyObject *exc_concurrent, *exc_invalid_thread, *exc_destroyed;

static PyObject *empty_tuple, *str_run, *str_switch, *str_throw, *str_weald;
static bool shutting_down;

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

/* Waits as weald_park does; a hub that has switched to us goes on at once. */
static inline int park(thread *th, int64_t deadline)
{
    if (unlikely(th->hub_waits) && deadline == WEALD_FOREVER && th->current != th->hub) {
        th->to_hub = true;
        int code = weald_switch(th->hub->handle, NULL, NULL);
        th->to_hub = false;
        return code;
    }
    return weald_park(NULL, deadline);
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

/* ---- signals ---- */

/* Python's handler of a signal, the one in C, only notes it down; those of the program run in main's greenlet. A
 * signal that arrives between the last look at that note and the kernel's sleep interrupts nothing, nor does one that
 * the kernel gives to another thread. So the handler writes to a pipe as well, which the loop reads:
 * signal.set_wakeup_fd. Whoever sets a descriptor of his own has the signals, and wakes his own loop. */

static void on_signal(weald_watcher w, int events, void *user)
{
    thread *th = user;
    char bytes[64];
    (void)w, (void)events;
    while (read(th->signal_in, bytes, sizeof bytes) == (ssize_t)sizeof bytes)
        ;
    th->interrupted = true;
    green_rouse(th->main); /* where Python's handlers run */
}

/* What was set before; -1 when nothing, -2 when it can not be set. */
static int set_wakeup_fd(int fd)
{
    PyObject *m = PyImport_ImportModule("_signal");
    PyObject *f = m ? PyObject_GetAttrString(m, "set_wakeup_fd") : NULL;
    PyObject *args = Py_BuildValue("(i)", fd), *keywords = Py_BuildValue("{si}", "warn_on_full_buffer", 0);
    PyObject *before = f && args && keywords ? PyObject_Call(f, args, keywords) : NULL;
    int was = before ? (int)PyLong_AsLong(before) : -2;
    Py_XDECREF(m);
    Py_XDECREF(f);
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    Py_XDECREF(before);
    PyErr_Clear();
    return was;
}

static void signals_close(thread *th)
{
    if (th->signals > 0)
        weald_close(th->signals);
    if (th->signal_in >= 0) {
        close(th->signal_in);
        close(th->signal_out);
    }
    th->signals = 0;
    th->signal_in = th->signal_out = -1;
}

/* Only the main thread is told of signals; without the pipe they may be seen at the next event only. `mine` is a
 * descriptor that was ours. */
static void signals_open(thread *th, int mine)
{
    int ends[2];
    th->signal_in = th->signal_out = -1;
    if (syscall(SYS_gettid) != getpid() || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return;
    th->signal_in = ends[0];
    th->signal_out = ends[1];
    int before = set_wakeup_fd(ends[1]);
    if (before >= 0 && before != mine)
        set_wakeup_fd(before);
    else if (before != -2 && (th->signals = weald_io_watcher(ends[0], WEALD_READ, on_signal, th)) > 0 &&
             weald_watcher_start(th->signals) == 0) {
        weald_watcher_unref(th->signals);
        return;
    } else if (before != -2)
        set_wakeup_fd(-1);
    signals_close(th);
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
    if (interrupted) {
        th->interrupted = true;
        green_rouse(th->main); /* where Python's handlers run */
    }
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

/* ---- threads ---- */

static int kill_garbage(thread *th);
static void green_kill_here(thread *th, green *g);
static void thread_release(thread *th);

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
            if (round < 2)
                green_kill_here(th, g);
            else
                state_forget(&g->ps), g->life = DEAD;
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

/* ---- waiting ---- */

void green_set_wait(green *g, const char *why, PyObject *on)
{
    g->why = why;
    g->on = on;
}

int green_pend(green *g, PyObject *source, PyObject *type, PyObject *value, PyObject *tb)
{
    /* Not a list of Python's: timers call this in the loop, where no collection may run. */
    pend *p = PyMem_Malloc(sizeof *p);
    if (!p) {
        PyErr_NoMemory();
        return -1;
    }
    *p = (pend){NULL, Py_XNewRef(source), Py_NewRef(type), Py_XNewRef(value), Py_XNewRef(tb)};
    pend **end = &g->pending;
    while (*end)
        end = &(*end)->next;
    *end = p;
    return 0;
}

static void pend_free(pend *p)
{
    Py_XDECREF(p->source);
    Py_XDECREF(p->type);
    Py_XDECREF(p->value);
    Py_XDECREF(p->tb);
    PyMem_Free(p);
}

void green_unpend(green *g, PyObject *source)
{
    for (pend **at = &g->pending; *at;) {
        pend *p = *at;
        if (source && p->source != source) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        pend_free(p);
        at = &g->pending;
    }
}

int green_raise_pending(green *g)
{
    pend *p = g->pending;
    g->pending = p->next;
    Py_XDECREF(p->source);
    PyErr_Restore(p->type, p->value, p->tb);
    PyMem_Free(p);
    return -1;
}

/* Has a suspended greenlet look at what was left for it. */
static void rouse(green *g)
{
    if (g->life != ACTIVE)
        return;
    if (g->in_park || g->in_switch) {
        green_hold(g);
        weald_wake(g->handle, NULL);
        return;
    }
    if (weald_state(g->handle) == WEALD_STATE_PARKED)
        weald_interrupt(g->handle, CODE_RAISE);
    else if (g->kind == MAIN && g->th->in_run)
        weald_stop();
}

int green_raise_later(green *g, PyObject *source)
{
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    int failed = green_pend(g, source, t, v, tb);
    Py_XDECREF(t);
    Py_XDECREF(v);
    Py_XDECREF(tb);
    if (!failed)
        rouse(g);
    return failed;
}

void green_rouse(green *g)
{
    rouse(g);
}

void green_wake(green *g)
{
    g->how = WOKEN;
    if (likely(g->th == this_thread)) {
        if (g->in_park) {
            g->th->wakes++;
            weald_wake(g->handle, NULL);
        }
        return;
    }
    if (hub_call_from_outside(g->th, (PyObject *)g) < 0)
        PyErr_Clear();
}

/* Lets Python's signal handlers run, in main: -1 when one raises. */
static int main_signals(thread *th)
{
    th->interrupted = false;
    return PyErr_CheckSignals();
}

#define MOST_NAMED 50

/* Who waits in this thread, and for what, as a list of strings. */
static PyObject *who_waits(thread *th)
{
    PyObject *out = PyList_New(0);
    int64_t n = weald_list(NULL, 0);
    weald_greenlet *all = n > 0 ? PyMem_Calloc((size_t)n, sizeof *all) : NULL;
    int64_t got = all ? weald_list(all, (size_t)n) : 0;
    for (int64_t i = 0; out && i < got && i < n; i++) {
        green *g = weald_user(all[i]);
        if (!g || g->kind >= HUB || g->life != ACTIVE || (i > 0 && g == th->current))
            continue;
        if (PyList_GET_SIZE(out) == MOST_NAMED) {
            PyObject *more = PyUnicode_FromFormat("... and %lld more", (long long)(got - i));
            if (more)
                PyList_Append(out, more);
            Py_XDECREF(more);
            break;
        }
        Py_INCREF(g);
        PyObject *on = Py_XNewRef(g->on);
        const char *why = g->why ? g->why : "something";
        PyObject *text = on ? PyUnicode_FromFormat("%R waits in %s for %R", (PyObject *)g, why, on)
                            : PyUnicode_FromFormat("%R waits in %s", (PyObject *)g, why);
        Py_DECREF(g);
        Py_XDECREF(on);
        if (!text || PyList_Append(out, text) < 0)
            PyErr_Clear();
        Py_XDECREF(text);
    }
    PyMem_Free(all);
    if (!out)
        PyErr_Clear();
    return out ? out : Py_NewRef(Py_None);
}

int raise_code(int code)
{
    switch (code) {
    case CODE_RAISE:
        PyErr_SetString(exc_error, "interrupted for no reason");
        return -1;
    case WEALD_EDEADLK: {
        thread *th = this_thread;
        PyObject *hub = th && th->hub ? (PyObject *)th->hub : Py_None;
        PyObject *args = Py_BuildValue("(sON)", "This operation would block forever", hub,
                                       th ? who_waits(th) : Py_NewRef(Py_None));
        if (args) {
            PyObject *e = PyObject_CallObject(exc_loop_exit, args);
            Py_DECREF(args);
            if (e) {
                PyErr_SetObject(exc_loop_exit, e);
                Py_DECREF(e);
            }
        }
        return -1;
    }
    case WEALD_ENOMEM:
        PyErr_NoMemory();
        return -1;
    case WEALD_ECANCELED:
        PyErr_SetNone(exc_exit);
        return -1;
    case WEALD_EWOULDBLOCK:
        PyErr_SetString(exc_blocking, "Impossible to call blocking function in the event loop callback");
        return -1;
    default:
        if (code < 0 && code > -2000) {
            errno = -code;
            PyErr_SetFromErrno(PyExc_OSError);
        } else {
            PyErr_Format(exc_error, "%s", weald_strerror(code));
        }
        return -1;
    }
}

int green_check(thread *th, int code)
{
    green *me = th->current;
    if (unlikely(th->attention) && thread_bury(th) < 0)
        return -1;
    if (unlikely(me->pending != NULL))
        return green_raise_pending(me);
    if (likely(code >= 0))
        return 0;
    if (code == CODE_RAISE) {
        /* Roused for nothing that is left: for a signal, or by what was taken back. */
        if (th->interrupted && me->kind == MAIN && main_signals(th) < 0)
            return -1;
        return 1;
    }
    return raise_code(code);
}

static int in_hub(void)
{
    if (this_thread->current->kind == ALIEN) {
        PyErr_SetString(exc_error, "Python code must not wait in a greenlet of C");
        return -1;
    }
    PyErr_SetString(exc_blocking, "Impossible to call blocking function in the event loop callback");
    return -1;
}

int green_may_wait(thread *th)
{
    green *me = th->current;
    if (unlikely(me->kind >= HUB))
        return in_hub();
    if (unlikely(me->pending != NULL))
        return green_raise_pending(me);
    return unlikely(th->attention) ? green_leaves(th) : 0;
}

int green_park(thread *th, int64_t deadline, const char *why, PyObject *on)
{
    green *me = th->current;
    if (unlikely(me->kind >= HUB))
        return in_hub();
    if (unlikely(me->pending != NULL))
        return green_raise_pending(me);
    if (unlikely(th->attention) && green_leaves(th) < 0)
        return WAIT_FAILED;
    me->why = why;
    me->on = on;
    int outcome;
    for (;;) {
        me->in_park = true;
        int code = park(th, deadline);
        me->in_park = false;
        /* What is dropped now may switch in turn. */
        int how = me->how;
        me->how = NOT_WOKEN;
        PyObject *value = me->inbox;
        me->inbox = NULL;
        if (unlikely(th->attention) && thread_bury(th) < 0) {
            Py_XDECREF(value);
            outcome = WAIT_FAILED;
            break;
        }
        if (unlikely(value != NULL) && (how != SWITCHED || me->pending))
            Py_CLEAR(value); /* it comes too late */
        if (likely(how == WOKEN)) {
            outcome = WAIT_WOKEN;
            break;
        }
        if (me->pending) {
            outcome = green_raise_pending(me);
            break;
        }
        if (unlikely(th->interrupted) && me->kind == MAIN && main_signals(th) < 0) {
            outcome = WAIT_FAILED;
            break;
        }
        if (how == SWITCHED) {
            PyErr_Format(exc_invalid_switch, "Invalid switch into %s: %R", why, value ? value : Py_None);
            Py_XDECREF(value);
            outcome = WAIT_FAILED;
            break;
        }
        if (code == WEALD_ETIMEDOUT || code == WEALD_EAGAIN) {
            outcome = WAIT_TIMEOUT;
            break;
        }
        if (code < 0 && code != CODE_RAISE) {
            outcome = raise_code(code);
            break;
        }
        if (me->how == WOKEN) { /* by what has run here: a handler of a signal, a finalizer */
            me->how = NOT_WOKEN;
            outcome = WAIT_WOKEN;
            break;
        }
    }
    me->why = NULL;
    me->on = NULL;
    return outcome;
}

int green_wait(thread *th, nodelist *list, int64_t deadline, const char *why, PyObject *on)
{
    green *me = th->current;
    if (unlikely(me->kind >= HUB))
        return in_hub();
    if (unlikely(me->pending != NULL))
        return green_raise_pending(me);
    list_push(list, &me->node);
    me->in_list = true;
    int outcome = green_park(th, deadline, why, on);
    if (me->in_list) {
        list_remove(list, &me->node);
        me->in_list = false;
    }
    return outcome;
}

/* ---- lists ---- */

static node *node_new(PyObject *callable)
{
    node *n = PyMem_Malloc(sizeof *n);
    if (!n) {
        PyErr_NoMemory();
        return NULL;
    }
    n->prev = n->next = NULL;
    n->what = Py_NewRef(callable);
    return n;
}

static PyObject *notifier; /* calls the callables of a list */

static void list_notify(nodelist *l, PyObject *source)
{
    if (l->notified)
        return;
    thread *th = l->first->th;
    l->notified = true;
    /* The source itself is in the ring: its turn is to notify. */
    int failed = th == this_thread && th->hub ? hub_push(th, source) : hub_call_one(th, notifier, source);
    if (failed) {
        l->notified = false;
        PyErr_WriteUnraisable(source);
    }
}

static void wake_node(nodelist *l, node *n)
{
    green *g = (green *)n->what;
    list_remove(l, n);
    g->in_list = false;
    green_wake(g);
}

/* In the hub: tells those behind the first link as well, in their order. A link may take out others,
 * or add some. */
PyObject *py_notify(PyObject *self, PyObject *source)
{
    (void)self;
    thread *th = this_thread;
    nodelist *l = list_of(source);
    Py_ssize_t greens = list_takers(source);
    l->notified = false;
    for (Py_ssize_t left = l->len; left > 0 && l->first && greens > 0; left--) {
        node *n = l->first;
        if (node_is_green(n)) {
            wake_node(l, n);
            greens--;
            continue;
        }
        if (n->th != th) {
            list_notify(l, source);
            break;
        }
        PyObject *f = n->what;
        list_remove(l, n);
        PyMem_Free(n);
        PyObject *r = PyObject_CallOneArg(f, source);
        if (!r) {
            PyObject *context = PyTuple_Pack(2, f, source);
            hub_handle_error(th, context ? context : Py_None);
            Py_XDECREF(context);
        }
        Py_XDECREF(r);
        Py_DECREF(f);
    }
    Py_RETURN_NONE;
}

void list_wake_one(nodelist *l, PyObject *source)
{
    node *n = l->first;
    if (!n)
        return;
    if (likely(node_is_green(n)))
        wake_node(l, n);
    else
        list_notify(l, source);
}

void list_wake_all(nodelist *l, PyObject *source)
{
    for (Py_ssize_t n = l->len; n > 0 && l->first && node_is_green(l->first); n--) {
        green *g = (green *)l->first->what;
        if (unlikely(g->pending != NULL) && !g->pending->source) {
            /* Something was thrown at it before: it raises that, and nothing is handed over here that would be lost. */
            list_remove(l, l->first);
            g->in_list = false;
        } else {
            wake_node(l, l->first);
        }
    }
    if (l->links && !node_is_green(l->first))
        list_notify(l, source);
}

int list_link(nodelist *l, PyObject *callable)
{
    if (!PyCallable_Check(callable)) {
        PyErr_Format(PyExc_TypeError, "Expected callable: %R", callable);
        return -1;
    }
    thread *th = thread_get();
    node *n = th && thread_hub(th) ? node_new(callable) : NULL;
    if (!n)
        return -1;
    n->th = th;
    list_push(l, n);
    return 0;
}

void list_unlink(nodelist *l, PyObject *callable)
{
    for (node *n = l->first; n; n = n->next) {
        if (node_is_green(n))
            continue;
        int same = n->what == callable ? 1 : PyObject_RichCompareBool(n->what, callable, Py_EQ);
        if (same < 0)
            PyErr_Clear();
        if (same > 0) {
            list_remove(l, n);
            Py_DECREF(n->what);
            PyMem_Free(n);
            return;
        }
    }
}

/* Only callables: a greenlet that waits takes itself out. */
void list_clear(nodelist *l)
{
    node *next;
    for (node *n = l->first; n; n = next) {
        next = n->next;
        if (node_is_green(n))
            continue;
        list_remove(l, n);
        PyObject *what = n->what;
        PyMem_Free(n);
        Py_DECREF(what);
        next = l->first; /* that may have changed anything */
        if (next == NULL)
            break;
        while (next && node_is_green(next))
            next = next->next;
    }
}

PyObject *list_as_list(nodelist *l)
{
    PyObject *out = PyList_New(0);
    for (node *n = l->first; n && out; n = n->next) {
        PyObject *what = node_is_green(n) ? PyObject_GetAttrString(n->what, "switch") : Py_NewRef(n->what);
        if (!what || PyList_Append(out, what) < 0)
            Py_CLEAR(out);
        Py_XDECREF(what);
    }
    return out;
}

int list_traverse(nodelist *l, visitproc visit, void *arg)
{
    for (node *n = l->first; n; n = n->next)
        if (!node_is_green(n))
            Py_VISIT(n->what);
    return 0;
}

/* ---- the end of a greenlet ---- */

/* An exit counts as a value. */
static PyObject *exit_value(PyObject *result)
{
    if (result || !PyErr_ExceptionMatches(exc_exit))
        return result;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    PyErr_NormalizeException(&t, &v, &tb);
    Py_XDECREF(t);
    Py_XDECREF(tb);
    if (!v)
        v = Py_NewRef(Py_None);
    return v;
}

bool green_is_gone(green *g)
{
    if (g->life == ACTIVE && g->th &&
        (g->th->ended || (g->handle && g->kind != MAIN && g->th == this_thread && weald_dead(g->handle) == 1)))
        g->life = DEAD;
    return g->life == DEAD;
}

static weald_greenlet coro_start(thread *th, green *g);

/* Hands what a greenlet has ended with to the first of its parents that lives. `result` is stolen;
 * NULL: the current exception. */
static void tell_parent(thread *th, green *g, PyObject *result)
{
    green *p = (green *)g->parent;
    while (p && (green_is_gone(p) || p->th != th))
        p = p->kind == MAIN ? NULL : (green *)p->parent;
    if (!p)
        p = th->main;
    if (p->kind == HUB) {
        if (!result)
            hub_handle_error(th, (PyObject *)g);
        Py_XDECREF(result);
        return;
    }
    if (p->life == NEW) {
        if (!result) {
            /* It never runs either. */
            p->life = DEAD;
            tell_parent(th, p, NULL);
            return;
        }
        p->inbox = PyTuple_Pack(1, result);
        Py_DECREF(result);
        if (!p->run || Py_TYPE(p)->tp_flags & Py_TPFLAGS_HEAPTYPE) {
            PyObject *run = PyObject_GetAttr((PyObject *)p, str_run);
            if (run)
                Py_XSETREF(p->run, run);
            else
                Py_CLEAR(p->inbox);
        }
        if (p->life != NEW) { /* that has started it */
            tell_parent(th, g, PyTuple_Pack(0));
            return;
        }
        if (!p->inbox || coro_start(th, p) < 0) {
            Py_CLEAR(p->inbox);
            tell_parent(th, p, NULL);
            return;
        }
        green_hold(p);
        weald_wake(p->handle, NULL);
        return;
    }
    if (!result) {
        PyObject *t, *v, *tb;
        PyErr_Fetch(&t, &v, &tb);
        if (green_pend(p, NULL, t, v, tb) < 0)
            PyErr_Clear();
        Py_XDECREF(t);
        Py_XDECREF(v);
        Py_XDECREF(tb);
        if (!p->in_switch) {
            rouse(p);
            return;
        }
    } else if (!p->in_switch) {
        Py_DECREF(result);
        return;
    }
    p->how = SWITCHED;
    p->inbox = result;
    th->threw = result == NULL;
    green_hold(p);
    p->in_switch = false;
    if (!g->is_coro || weald_coro_set_parent(g->handle, p->handle) < 0)
        weald_wake(p->handle, NULL);
}

/* The last thing that an entry function does. */
void green_end(thread *th, green *g)
{
    if (unlikely(g->locals != NULL))
        local_forget(g);
    state_end(th->ts, &g->ps);
    g->life = DEAD;
    g->loaded = false;
    if (g->pending)
        green_unpend(g, NULL);
    if (unlikely(th->hub_waits) && g->is_coro && weald_coro_set_parent(g->handle, th->hub->handle) == 0)
        th->to_hub = true;
    weald_close(g->handle);
    g->handle = 0;
    green_drop(th, g);
}

static PyObject *call_run(thread *th, green *g)
{
    if (after_switch(th) < 0)
        return NULL;
    PyObject *run = g->run, *args = g->inbox, *keywords = g->keywords;
    g->run = g->inbox = g->keywords = NULL;
    PyObject *result;
    if (unlikely(g->pending != NULL)) {
        green_raise_pending(g);
        result = NULL;
    } else {
        result = PyObject_Call(run, args, keywords);
    }
    Py_XDECREF(run);
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    return result;
}

#if PY_VERSION_HEX < 0x030d0000
#define Py_IsFinalizing _Py_IsFinalizing
#endif

void hold_ended_thread(bool *inside)
{
    while (*inside && Py_IsFinalizing())
        pause();
}

static void *raw_body(void *arg)
{
    char chunk[CHUNK_SIZE] __attribute__((aligned(16)));
    green *g = arg;
    thread *th = g->th;
    state_init(th->ts, &g->ps, chunk, th->c_depth);
    g->loaded = true;
    PyObject *result = exit_value(call_run(th, g));
    tell_parent(th, g, result);
    green_end(th, g);
    return NULL;
}

static ENTRY(raw_entry, raw_body)

static void *coro_entry(void *first, void *arg)
{
    (void)first;
    return raw_entry(arg);
}

/* ---- raw switching ---- */

static weald_greenlet coro_start(thread *th, green *g)
{
    th->options.user = g;
    g->th = th;
    g->is_coro = true;
    weald_greenlet h = weald_coro_new(coro_entry, g, th->main->handle, &th->options);
    if (h < 0) {
        raise_code((int)h);
        return -1;
    }
    g->handle = h;
    g->life = ACTIVE;
    return h;
}

int green_start(thread *th, green *g)
{
    th->options.user = g;
    g->th = th;
    weald_greenlet h = weald_greenlet_new(g->kind == TASK ? task_entry : raw_entry, g, &th->options);
    if (unlikely(h < 0))
        return raise_code((int)h);
    g->handle = h;
    g->life = ACTIVE;
    g->how = NOT_WOKEN;
    green_hold(g);
    return weald_start(h) < 0 ? raise_code(WEALD_EALREADY) : 0;
}

/* After a raw switch, or a wait for one. */
static PyObject *received(thread *th, green *me, int code)
{
    for (;;) {
        me->in_switch = false;
        green_hold(me);
        int how = me->how;
        me->how = NOT_WOKEN;
        PyObject *value = me->inbox;
        me->inbox = NULL;
        bool traced = likely(!th->attention) || thread_bury(th) >= 0;
        if (how == SWITCHED) {
            if (!traced) {
                Py_XDECREF(value);
                return NULL;
            }
            if (likely(value != NULL))
                return value;
        }
        if (!traced)
            return NULL;
        if (me->pending) {
            green_raise_pending(me);
            return NULL;
        }
        if (unlikely(th->interrupted) && me->kind == MAIN && main_signals(th) < 0)
            return NULL;
        if (code < 0 && code != CODE_RAISE) {
            raise_code(code);
            return NULL;
        }
        me->in_switch = true;
        if (me->kind != MAIN)
            green_drop(th, me);
        code = park(th, WEALD_FOREVER);
    }
}

PyObject *green_wait_switch(thread *th)
{
    green *me = th->current;
    if (unlikely(me->kind >= HUB)) {
        in_hub();
        return NULL;
    }
    if (unlikely(me->pending != NULL)) {
        green_raise_pending(me);
        return NULL;
    }
    me->in_switch = true;
    me->how = NOT_WOKEN;
    me->why = "switch";
    if (me->kind != MAIN)
        green_drop(th, me);
    return received(th, me, park(th, WEALD_FOREVER));
}

static PyObject *pack(PyObject *args, PyObject *keywords)
{
    if (keywords && PyDict_GET_SIZE(keywords) == 0)
        keywords = NULL;
    if (!keywords)
        return Py_NewRef(PyTuple_GET_SIZE(args) == 1 ? PyTuple_GET_ITEM(args, 0) : args);
    if (PyTuple_GET_SIZE(args) == 0)
        return Py_NewRef(keywords);
    return PyTuple_Pack(2, args, keywords);
}

static void cross_thread(thread *th, green *to)
{
    if (to->th->ended)
        PyErr_SetString(exc_error, "cannot switch to a different thread (which happens to have exited)");
    else
        PyErr_Format(exc_error, "Cannot switch to a different thread\n\tCurrent:  %R\n\tExpected: %R",
                     (PyObject *)th->main, (PyObject *)to->th->main);
}

/* Has `to` go on at once, and the caller, the hub, when that one waits. */
static PyObject *hub_runs(thread *th, green *to)
{
    th->hub_waits = th->hub_went = true;
    weald_switch(to->handle, NULL, NULL);
    th->hub_waits = false;
    return after_switch(th) < 0 ? NULL : Py_NewRef(empty_tuple);
}

/* As a switch to `to`, which lives, by the hub. */
static PyObject *hub_switch(thread *th, green *to, PyObject *value)
{
    for (int again = 0; again < 2; again++) {
        if ((to->in_switch || to->in_park) && weald_state(to->handle) == WEALD_STATE_SWITCHED) {
            to->how = SWITCHED;
            Py_XSETREF(to->inbox, value);
            if (!value && green_raise_later(to, NULL) < 0)
                return NULL;
            green_hold(to);
            to->in_switch = false;
            return hub_runs(th, to);
        }
        if (!value) {
            if (green_raise_later(to, NULL) < 0)
                return NULL;
            break;
        }
        if (weald_state(to->handle) == WEALD_STATE_PARKED) {
            PyErr_Format(exc_invalid_switch, "Invalid switch into a wait: %R", value);
            green_raise_later(to, NULL);
            break;
        }
        /* It is ready: first comes what made it so. */
        weald_yield();
        if (to->life != ACTIVE)
            break;
    }
    Py_XDECREF(value);
    weald_yield();
    if (after_switch(th) < 0)
        return NULL;
    return Py_NewRef(empty_tuple);
}

/* The one that a switch to `to` reaches: it, or the first of its parents that lives. An exception
 * that goes by dead ones counts as an exit where it is one. */
static green *find_target(thread *th, green *to, bool throws, PyObject **exit)
{
    *exit = NULL;
    for (;;) {
        if (to->th != th) {
            Py_CLEAR(*exit);
            cross_thread(th, to);
            return NULL;
        }
        if (to->life == NEW && throws) {
            if (!to->run && !PyObject_HasAttr((PyObject *)to, str_run)) {
                PyErr_Clear();
                PyErr_SetObject(PyExc_AttributeError, str_run);
                return NULL;
            }
            to->life = DEAD;
            Py_CLEAR(to->run);
        }
        if (to->life != DEAD && !(to->kind != MAIN && unlikely(green_is_gone(to))))
            return to;
        if (throws && !*exit && PyErr_ExceptionMatches(exc_exit)) {
            *exit = exit_value(NULL);
            throws = false;
        }
        to = to->parent ? (green *)to->parent : th->main;
    }
}

static inline int switch_to(thread *th, green *to)
{
    int code = weald_switch(to->handle, NULL, NULL);
    /* Busy: it is ready, for another reason, and finds its value when it goes on. */
    return likely(code != WEALD_EBUSY) ? code : park(th, WEALD_FOREVER);
}

PyObject *green_switch(thread *th, green *to, PyObject *args, PyObject *keywords)
{
    green *me = th->current;
    if (unlikely(me->kind == ALIEN)) {
        in_hub();
        return NULL;
    }
    PyObject *exit;
    to = find_target(th, to, args == NULL, &exit);
    if (!to)
        return NULL;
    PyObject *value = NULL;
    if (to->life == NEW && to->kind == TASK) {
        /* It runs in its turn, and does not return here. */
        Py_XDECREF(exit);
        PyObject *r = PyObject_CallMethod((PyObject *)to, "start", NULL);
        if (!r)
            return NULL;
        Py_DECREF(r);
        if (me->kind != HUB)
            return green_wait_switch(th);
        weald_yield();
        return after_switch(th) < 0 ? NULL : Py_NewRef(empty_tuple);
    }
    if (to->life == NEW) {
        if (to->parent && ((green *)to->parent)->th != th) {
            PyErr_SetString(exc_error, "parent cannot be on a different thread");
            Py_XDECREF(exit);
            return NULL;
        }
        if (!to->run || Py_TYPE(to)->tp_flags & Py_TPFLAGS_HEAPTYPE) {
            PyObject *run = PyObject_GetAttr((PyObject *)to, str_run);
            if (!run) {
                Py_XDECREF(exit);
                return NULL;
            }
            if (to->life != NEW) { /* that has started it */
                Py_DECREF(run);
                Py_XDECREF(exit);
                return green_switch(th, to, args, keywords);
            }
            Py_XSETREF(to->run, run);
            for (green *p = (green *)to->parent; p; p = (green *)p->parent)
                if (p->th != th) {
                    Py_XDECREF(exit);
                    cross_thread(th, p);
                    return NULL;
                }
        }
        PyObject *first = exit ? PyTuple_Pack(1, exit) : Py_NewRef(args);
        Py_CLEAR(exit);
        if (!first)
            return NULL;
        Py_XSETREF(to->inbox, first);
        Py_XSETREF(to->keywords, Py_XNewRef(keywords));
        if (coro_start(th, to) < 0)
            return NULL;
        if (me->kind == HUB) {
            green_hold(to);
            return hub_runs(th, to);
        }
        th->threw = false;
    } else {
        if (exit)
            value = exit;
        else if (args && !(value = pack(args, keywords)))
            return NULL;
        if (to == me)
            return value;
        if (me->kind == HUB && to->kind != HUB)
            return hub_switch(th, to, value);
        if (to->kind == HUB) {
            if (!value && hub_throw(th) < 0)
                return NULL;
            Py_XDECREF(value);
            return green_wait_switch(th);
        }
        if (unlikely(!to->in_switch)) {
            /* It waits for something else, or is ready. */
            if (!value) {
                if (green_raise_later(to, NULL) < 0)
                    return NULL;
            } else if (to->in_park) {
                to->how = SWITCHED;
                Py_XSETREF(to->inbox, value);
                rouse(to);
            } else {
                if (weald_state(to->handle) == WEALD_STATE_PARKED) {
                    PyErr_Format(exc_invalid_switch, "Invalid switch into a wait: %R", value);
                    green_raise_later(to, NULL);
                }
                Py_DECREF(value);
            }
            return green_wait_switch(th);
        }
        if (!value) {
            PyObject *t, *v, *tb;
            PyErr_Fetch(&t, &v, &tb);
            int failed = green_pend(to, NULL, t, v, tb);
            Py_XDECREF(t);
            Py_XDECREF(v);
            Py_XDECREF(tb);
            if (failed)
                return NULL;
        }
        to->how = SWITCHED;
        Py_XSETREF(to->inbox, value);
        to->in_switch = false;
        th->threw = value == NULL;
    }
    green_hold(to);
    me->in_switch = true;
    me->how = NOT_WOKEN;
    me->why = "switch";
    if (me->kind != MAIN)
        green_drop(th, me);
    return received(th, me, switch_to(th, to));
}

PyObject *green_switch_value(thread *th, green *to, PyObject *value)
{
    green *me = th->current;
    /* The usual case without a tuple. */
    if (likely(to->life == ACTIVE && to->in_switch && to->th == th && me->kind < HUB)) {
        to->how = SWITCHED;
        Py_XSETREF(to->inbox, Py_NewRef(value));
        to->in_switch = false;
        green_hold(to);
        me->in_switch = true;
        me->how = NOT_WOKEN;
        me->why = "switch";
        if (me->kind != MAIN)
            green_drop(th, me);
        return received(th, me, switch_to(th, to));
    }
    PyObject *args = PyTuple_Pack(1, value);
    if (!args)
        return NULL;
    PyObject *r = green_switch(th, to, args, NULL);
    Py_DECREF(args);
    return r;
}

static PyObject *green_m_switch(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    thread *th = thread_get();
    if (!th)
        return NULL;
    green *to = (green *)self;
    if (likely(!names && n == 1))
        return green_switch_value(th, to, args[0]);
    if (likely(!names && n == 0) && likely(to->life == ACTIVE && to->in_switch && to->th == th))
        return green_switch_value(th, to, empty_tuple);
    PyObject *tuple = PyTuple_New(n), *keywords = NULL;
    if (!tuple)
        return NULL;
    for (Py_ssize_t i = 0; i < n; i++)
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    if (names) {
        keywords = PyDict_New();
        for (Py_ssize_t i = 0; keywords && i < PyTuple_GET_SIZE(names); i++)
            if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
                Py_CLEAR(keywords);
        if (!keywords) {
            Py_DECREF(tuple);
            return NULL;
        }
    }
    PyObject *r = green_switch(th, to, tuple, keywords);
    Py_DECREF(tuple);
    Py_XDECREF(keywords);
    return r;
}

/* Sets the exception that throw(type, value, traceback) means; -1 with TypeError when it means
 * none. */
int throw_args(PyObject *type, PyObject *value, PyObject *tb)
{
    if (value == Py_None)
        value = NULL;
    if (tb == Py_None)
        tb = NULL;
    if (tb && !PyTraceBack_Check(tb)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback object");
        return -1;
    }
    Py_INCREF(type);
    Py_XINCREF(value);
    Py_XINCREF(tb);
    if (PyExceptionClass_Check(type)) {
        PyErr_NormalizeException(&type, &value, &tb);
    } else if (PyExceptionInstance_Check(type)) {
        if (value) {
            PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
            goto failed;
        }
        value = type;
        type = Py_NewRef(PyExceptionInstance_Class(value));
        if (!tb)
            tb = PyException_GetTraceback(value);
    } else {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes, or instances, not %.100s", Py_TYPE(type)->tp_name);
        goto failed;
    }
    if (tb && value && PyExceptionInstance_Check(value))
        PyException_SetTraceback(value, tb);
    PyErr_Restore(type, value, tb);
    return 0;
failed:
    Py_DECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(tb);
    return -1;
}

static PyObject *green_m_throw(PyObject *self, PyObject *args)
{
    PyObject *type = exc_exit, *value = NULL, *tb = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 0, 3, &type, &value, &tb))
        return NULL;
    thread *th = thread_get();
    if (!th || throw_args(type, value, tb) < 0)
        return NULL;
    return green_switch(th, (green *)self, NULL, NULL);
}

/* ---- garbage ---- */

/* Kills a suspended greenlet that nobody refers to, with GreenletExit. What it raises in turn is
 * told to sys.unraisablehook. */
static void green_kill_here(thread *th, green *g)
{
    PyObject *old = g->parent;
    if (g->in_switch) {
        Py_INCREF(th->current);
        g->parent = (PyObject *)th->current;
    } else {
        old = NULL;
    }
    PyErr_SetNone(exc_exit);
    PyObject *r = th->current->kind == HUB || !g->in_switch
                      ? (green_raise_later(g, NULL), NULL)
                      : green_switch(th, g, NULL, NULL);
    if (!r && PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *)g);
    Py_XDECREF(r);
    if (old)
        Py_XSETREF(g->parent, old);
}

static int kill_garbage(thread *th)
{
    PyObject *list = th->to_kill;
    th->to_kill = NULL;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        green *g = (green *)PyList_GET_ITEM(list, i);
        if (g->life == ACTIVE && Py_REFCNT(g) == 1)
            green_kill_here(th, g);
    }
    Py_DECREF(list);
    PyErr_Restore(t, v, tb);
    return 0;
}

static void green_finalize(PyObject *self)
{
    green *g = (green *)self;
    if (g->life != ACTIVE || g->kind == MAIN || g->kind == HUB || !g->th || g->th->ended || shutting_down)
        return;
    if (green_is_gone(g))
        return;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    thread *th = g->th;
    if (this_thread == th) {
        green_kill_here(th, g);
    } else {
        if (!th->to_kill)
            th->to_kill = PyList_New(0);
        if (!th->to_kill || PyList_Append(th->to_kill, self) < 0)
            PyErr_Clear();
        th->attention = true;
    }
    PyErr_Restore(t, v, tb);
}

static int green_is_gc(PyObject *self)
{
    /* What a suspended greenlet refers to from its stack is not known: it counts as referred to. */
    green *g = (green *)self;
    return g->kind == MAIN || g->life != ACTIVE;
}

int green_traverse(PyObject *self, visitproc visit, void *arg)
{
    green *g = (green *)self;
    Py_VISIT(g->parent);
    Py_VISIT(g->run);
    Py_VISIT(g->inbox);
    Py_VISIT(g->keywords);
    for (pend *p = g->pending; p; p = p->next) {
        Py_VISIT(p->source);
        Py_VISIT(p->value);
        Py_VISIT(p->tb);
    }
    Py_VISIT(g->dict);
    if (!g->loaded)
        Py_VISIT(g->ps.context);
    return 0;
}

static void thread_release(thread *th)
{
    if (--th->refs > 0 || !th->ended)
        return;
    PyMem_Free(th->ring);
    PyMem_Free(th);
}

/* The last thing that a dealloc does with the thread. */
void green_leave_thread(green *g)
{
    thread *th = g->th;
    g->th = NULL;
    if (th)
        thread_release(th);
}

int green_clear(PyObject *self)
{
    green *g = (green *)self;
    Py_CLEAR(g->parent);
    Py_CLEAR(g->run);
    Py_CLEAR(g->inbox);
    Py_CLEAR(g->keywords);
    green_unpend(g, NULL);
    local_forget(g);
    Py_CLEAR(g->dict);
    if (g->life != ACTIVE)
        Py_CLEAR(g->ps.context);
    return 0;
}

/* True when it must not be freed. */
bool green_dealloc_begin(PyObject *self)
{
    green *g = (green *)self;
    if (g->life == ACTIVE && g->kind != MAIN) {
        /* Not by PyObject_CallFinalizerFromDealloc, which does so once: one that catches the exit and
         * lives on is killed again when it is found to be garbage again. */
        Py_SET_REFCNT(self, 1);
        green_finalize(self);
        Py_ssize_t refs = Py_REFCNT(self) - 1;
        Py_SET_REFCNT(self, refs);
        if (refs > 0) {
            if (Py_TYPE(self)->tp_flags & Py_TPFLAGS_HEAPTYPE) {
                /* The dealloc of a class of Python's has untracked it, and gives the class back. */
                Py_INCREF(Py_TYPE(self));
                PyObject_GC_Track(self);
            }
            return true;
        }
        if (g->life == ACTIVE && g->handle && !g->th->ended && g->th == this_thread) {
            if (weald_abandon(g->handle) == 0) {
                state_forget(&g->ps);
                weald_close(g->handle);
            }
            g->handle = 0;
        }
        g->life = DEAD;
    }
    return false;
}

static void green_dealloc(PyObject *self)
{
    if (green_dealloc_begin(self))
        return;
    PyObject_GC_UnTrack(self);
    green *g = (green *)self;
    if (g->weakrefs)
        PyObject_ClearWeakRefs(self);
    green_clear(self);
    green_leave_thread(g);
    Py_TYPE(self)->tp_free(self);
}

/* ---- the type ---- */

PyObject *green_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (unlikely(th->to_kill != NULL))
        kill_garbage(th);
    if (unlikely(type->tp_flags & Py_TPFLAGS_IS_ABSTRACT))
        return PyBaseObject_Type.tp_new(type, empty_tuple, NULL); /* says what is missing */
    green *g = (green *)type->tp_alloc(type, 0);
    if (!g)
        return NULL;
    g->th = th;
    th->refs++;
    g->node.what = (PyObject *)g;
    g->parent = Py_NewRef((PyObject *)th->current);
    return (PyObject *)g;
}

static int green_set_parent(PyObject *self, PyObject *parent, void *closure);
static int green_set_run(PyObject *self, PyObject *run, void *closure);

static int green_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"run", "parent", NULL};
    PyObject *run = NULL, *parent = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OO:greenlet", names, &run, &parent))
        return -1;
    if (run && green_set_run(self, run, NULL) < 0)
        return -1;
    if (parent && parent != Py_None)
        return green_set_parent(self, parent, NULL);
    return 0;
}

static PyObject *green_get_run(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (g->life != NEW || !g->run) {
        PyErr_SetObject(PyExc_AttributeError, str_run);
        return NULL;
    }
    return Py_NewRef(g->run);
}

static int green_set_run(PyObject *self, PyObject *run, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (g->life != NEW) {
        PyErr_SetString(PyExc_AttributeError, "run cannot be set after the start of the greenlet");
        return -1;
    }
    if (!run && !g->run) {
        PyErr_SetObject(PyExc_AttributeError, str_run);
        return -1;
    }
    Py_XINCREF(run);
    Py_XSETREF(g->run, run);
    return 0;
}

static PyObject *green_get_parent(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    return Py_NewRef(g->parent ? g->parent : Py_None);
}

static int green_set_parent(PyObject *self, PyObject *parent, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (!parent) {
        PyErr_SetString(PyExc_AttributeError, "can't delete attribute");
        return -1;
    }
    if (g->kind == MAIN) {
        PyErr_SetString(PyExc_AttributeError, "cannot set the parent of a main greenlet");
        return -1;
    }
    if (!is_green(parent)) {
        PyErr_Format(PyExc_TypeError, "GreenletChecker: Expected any type of greenlet, not %s",
                     Py_TYPE(parent)->tp_name);
        return -1;
    }
    for (green *p = (green *)parent; p; p = (green *)p->parent) {
        if (p == g) {
            PyErr_SetString(PyExc_ValueError, "cyclic parent chain");
            return -1;
        }
        if (p->kind == MAIN) {
            if (p->th->ended || (g->life == ACTIVE && p->th != g->th)) {
                PyErr_SetString(PyExc_ValueError, "parent cannot be on a different thread");
                return -1;
            }
            if (g->life == NEW && g->th != p->th) {
                thread_release(g->th);
                g->th = p->th;
                g->th->refs++;
            }
        }
    }
    Py_INCREF(parent);
    Py_XSETREF(g->parent, parent);
    return 0;
}

static PyObject *green_get_dead(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(green_is_gone((green *)self));
}

static PyObject *green_get_frame(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (g->life != ACTIVE || !g->loaded || !g->th || !this_thread || g->th->ended)
        Py_RETURN_NONE;
    if (g == this_thread->current || (g->th != this_thread && g == g->th->current))
        Py_RETURN_NONE;
    PyObject *frame = state_frame(this_thread->ts, &g->ps);
    if (!frame)
        Py_RETURN_NONE;
    return frame;
}

static PyObject *green_get_context(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    PyObject *context;
    if (g->loaded && g->th && g == g->th->current) {
        if (g->th != this_thread) {
            PyErr_SetString(PyExc_ValueError, "cannot get context of a greenlet that is running in a different thread");
            return NULL;
        }
        context = g->th->ts->context;
    } else {
        context = g->ps.context;
    }
    return Py_NewRef(context ? context : Py_None);
}

static int green_set_context(PyObject *self, PyObject *context, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (!context) {
        PyErr_SetString(PyExc_AttributeError, "can't delete context attribute");
        return -1;
    }
    if (context != Py_None && !PyContext_CheckExact(context)) {
        PyErr_SetString(PyExc_TypeError, "greenlet context must be a contextvars.Context or None");
        return -1;
    }
    PyObject *new = context == Py_None ? NULL : Py_NewRef(context);
    if (g->loaded && g->th && g == g->th->current) {
        if (g->th != this_thread) {
            Py_XDECREF(new);
            PyErr_SetString(PyExc_ValueError, "cannot set context of a greenlet that is running in a different thread");
            return -1;
        }
        PyObject *old = g->th->ts->context;
        g->th->ts->context = new;
        g->th->ts->context_ver++;
        Py_XDECREF(old);
    } else {
        Py_XSETREF(g->ps.context, new);
    }
    return 0;
}

static PyObject *green_get_dict(PyObject *self, void *closure)
{
    return PyObject_GenericGetDict(self, closure);
}

static int green_bool(PyObject *self)
{
    return ((green *)self)->life == ACTIVE && !green_is_gone((green *)self);
}

static PyObject *green_repr(PyObject *self)
{
    green *g = (green *)self;
    const char *main = g->kind == MAIN ? " main" : "";
    bool gone = green_is_gone(g);
    const char *life = g->life == NEW                          ? "pending"
                       : gone                                   ? "dead"
                       : g->th == this_thread && g == g->th->current ? "current active started"
                                                                : "suspended active started";
    return PyUnicode_FromFormat("<%s object at %p (otid=%p) %s%s>", Py_TYPE(self)->tp_name, self, (void *)g->th, life,
                                main);
}

static PyObject *green_false(PyObject *self, void *closure)
{
    (void)self, (void)closure;
    return PyLong_FromLong(0);
}

static PyObject *green_get_waits(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (!g->why || g->life != ACTIVE || (g->th && g == g->th->current))
        Py_RETURN_NONE;
    return Py_BuildValue("(sO)", g->why, g->on ? g->on : Py_None);
}

static PyObject *green_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(self)->tp_name);
    return NULL;
}

static PyMethodDef green_methods[] = {
    {"switch", (PyCFunction)(void (*)(void))green_m_switch, METH_FASTCALL | METH_KEYWORDS,
     "switch(*args, **kwargs): goes on in this greenlet; returns what is switched back."},
    {"throw", green_m_throw, METH_VARARGS,
     "throw(type=GreenletExit, value=None, traceback=None): as switch, raising an exception there."},
    {"__getstate__", green_reduce, METH_NOARGS, NULL},
    {"__reduce__", green_reduce, METH_NOARGS, NULL},
    {NULL}};

static PyGetSetDef green_getset[] = {
    {"__dict__", green_get_dict, PyObject_GenericSetDict, NULL, NULL},
    {"run", green_get_run, green_set_run, "What it runs; gone when it has started.", NULL},
    {"parent", green_get_parent, green_set_parent, "Who goes on when it ends.", NULL},
    {"dead", green_get_dead, NULL, "Whether it has ended.", NULL},
    {"gr_frame", green_get_frame, NULL, "The innermost frame while it is suspended, else None.", NULL},
    {"gr_context", green_get_context, green_set_context, "Its contextvars.Context, or None.", NULL},
    {"_stack_saved", green_false, NULL, "0: stacks are never copied.", NULL},
    {"_waits", green_get_waits, NULL, "(what kind of wait, for which object) while it waits, or None.", NULL},
    {NULL}};

static PyNumberMethods green_number = {.nb_bool = green_bool};

PyTypeObject green_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenlet.greenlet",
    .tp_basicsize = sizeof(green),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "greenlet(run=None, parent=None)\n\nA function that runs on a stack of its own when somebody "
              "switches to it. When it ends its parent goes on.",
    .tp_new = green_new,
    .tp_init = green_init,
    .tp_dealloc = green_dealloc,
    .tp_traverse = green_traverse,
    .tp_clear = green_clear,
    .tp_is_gc = green_is_gc,
    .tp_finalize = green_finalize,
    .tp_repr = green_repr,
    .tp_methods = green_methods,
    .tp_getset = green_getset,
    .tp_as_number = &green_number,
    .tp_dictoffset = offsetof(green, dict),
    .tp_weaklistoffset = offsetof(green, weakrefs),
};

/* ---- functions ---- */

static PyObject *py_getcurrent(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (unlikely(th->to_kill != NULL))
        kill_garbage(th);
    return Py_NewRef((PyObject *)th->current);
}

static PyObject *py_get_ident(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *of = n == 1 ? args[0] : n == 0 && names && PyTuple_GET_SIZE(names) == 1 ? args[0] : NULL;
    if (n > 1 || (n && names)) {
        PyErr_SetString(PyExc_TypeError, "get_ident(gr=None)");
        return NULL;
    }
    if (of && of != Py_None)
        return PyLong_FromVoidPtr(of);
    PyObject *me = py_getcurrent(self, NULL);
    if (!me)
        return NULL;
    PyObject *ident = PyLong_FromVoidPtr(me);
    Py_DECREF(me);
    return ident;
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

static PyObject *py_greenlets(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = thread_get();
    int64_t n = th ? weald_list(NULL, 0) : 0;
    weald_greenlet *all = th ? PyMem_Calloc((size_t)n, sizeof *all) : NULL;
    PyObject *out = PyList_New(0);
    if (!all || !out) {
        Py_XDECREF(out);
        PyMem_Free(all);
        return th ? PyErr_NoMemory() : NULL;
    }
    int64_t got = weald_list(all, (size_t)n);
    for (int64_t i = 0; i < got && i < n; i++) {
        green *g = weald_user(all[i]);
        if (g && g->kind != MAIN && g->kind != HUB && g->life != DEAD && PyList_Append(out, (PyObject *)g) < 0) {
            Py_CLEAR(out);
            break;
        }
    }
    PyMem_Free(all);
    return out;
}

static PyObject *py_signal_fd(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = this_thread;
    return PyLong_FromLong(th ? th->signal_out : -1);
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

static PyObject *py_trash(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return PyLong_FromLong(state_trash(PyThreadState_Get()));
}

/* weald.exceptions has the classes: they do more there than ours. */
static PyObject *py_set_exceptions(PyObject *self, PyObject *args)
{
    PyObject **ours[] = {&exc_loop_exit, &exc_blocking, &exc_invalid_switch, &exc_concurrent, &exc_invalid_thread,
                         &exc_destroyed};
    (void)self;
    if (PyTuple_GET_SIZE(args) != 6) {
        PyErr_SetString(PyExc_TypeError, "six classes are wanted");
        return NULL;
    }
    for (int i = 0; i < 6; i++) {
        PyObject *class = Py_NewRef(PyTuple_GET_ITEM(args, i));
        Py_XSETREF(*ours[i], class);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"get_tstate_trash_delete_nesting", py_trash, METH_NOARGS, NULL},
    {"_notify", py_notify, METH_O, NULL},
    {"_set_exceptions", py_set_exceptions, METH_VARARGS, NULL},
    {"getcurrent", py_getcurrent, METH_NOARGS, "The greenlet that runs."},
    {"get_ident", (PyCFunction)(void (*)(void))py_get_ident, METH_FASTCALL | METH_KEYWORDS,
     "get_ident(gr=None): a number that no other living greenlet has."},
    {"settrace", py_settrace, METH_O, "Sets who is called as f(event, (origin, target)) at each switch; returns the one before."},
    {"gettrace", py_gettrace, METH_NOARGS, "Who is called at each switch, or None."},
    {"greenlets", py_greenlets, METH_NOARGS,
     "The greenlets of this thread that were started and have not ended, without main and the hub."},
    {"signal_fd", py_signal_fd, METH_NOARGS, "What signal.set_wakeup_fd was given for this thread's loop, or -1."},
    {"_shutdown", py_shutdown, METH_NOARGS, "The interpreter ends: suspended greenlets are left as they are."},
    {"_after_fork", py_after_fork, METH_NOARGS, NULL},
    {NULL}};

int init_green(PyObject *m)
{
    if (!(empty_tuple = PyTuple_New(0)) || !(str_run = PyUnicode_InternFromString("run")) ||
        !(str_switch = PyUnicode_InternFromString("switch")) || !(str_throw = PyUnicode_InternFromString("throw")) ||
        !(str_weald = PyUnicode_InternFromString("weald.thread")))
        return -1;
    exc_exit = PyErr_NewExceptionWithDoc("greenlet.GreenletExit", "Ends a greenlet; counts as its value.", PyExc_BaseException, NULL);
    exc_error = PyErr_NewException("greenlet.error", NULL, NULL);
    exc_loop_exit = PyErr_NewExceptionWithDoc("weald.exceptions.LoopExit", "Nothing is left that could end the wait.", PyExc_Exception, NULL);
    exc_blocking = PyErr_NewException("weald.exceptions.BlockingSwitchOutError", PyExc_AssertionError, NULL);
    exc_invalid_switch = PyErr_NewException("weald.exceptions.InvalidSwitchError", PyExc_AssertionError, NULL);
    exc_concurrent = PyErr_NewException("weald.exceptions.ConcurrentObjectUseError", PyExc_AssertionError, NULL);
    exc_invalid_thread = PyErr_NewException("weald.exceptions.InvalidThreadUseError", PyExc_RuntimeError, NULL);
    exc_destroyed = PyErr_NewException("weald.exceptions.HubDestroyed", exc_exit, NULL);
    PyObject *classes[] = {exc_exit, exc_error, exc_loop_exit, exc_blocking, exc_invalid_switch, exc_concurrent,
                           exc_invalid_thread, exc_destroyed};
    const char *names[] = {"GreenletExit", "error", "LoopExit", "BlockingSwitchOutError", "InvalidSwitchError",
                           "ConcurrentObjectUseError", "InvalidThreadUseError", "HubDestroyed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!classes[i] || PyModule_AddObjectRef(m, names[i], classes[i]) < 0)
            return -1;
    }
    if (PyType_Ready(&green_type) < 0 || PyModule_AddFunctions(m, functions) < 0)
        return -1;
    if (!(notifier = PyObject_GetAttrString(m, "_notify")))
        return -1;
    PyObject *d = green_type.tp_dict;
    PyObject *f;
    const char *statics[] = {"getcurrent", "settrace", "gettrace"};
    for (int i = 0; i < 3; i++) {
        f = PyObject_GetAttrString(m, statics[i]);
        PyObject *s = f ? PyStaticMethod_New(f) : NULL;
        if (!s || PyDict_SetItemString(d, statics[i], s) < 0)
            return -1;
        Py_DECREF(f);
        Py_DECREF(s);
    }
    if (PyDict_SetItemString(d, "GreenletExit", exc_exit) < 0 || PyDict_SetItemString(d, "error", exc_error) < 0)
        return -1;
    return PyModule_AddObjectRef(m, "greenlet", (PyObject *)&green_type);
}
