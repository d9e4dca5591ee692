/* Raw switches: how a greenlet begins, goes on and ends. */

#include "green.h"
#include <unistd.h>

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
            green_rouse(p);
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
    green *g = arg;
    thread *th = g->th;
    SET_ASIDE(chunk, size);
    state_init(th->ts, &g->ps, chunk, (size_t)size, th->c_depth);
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
        if (unlikely(th->interrupted) && me->kind == MAIN && signals_run(th) < 0)
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
        must_not_wait();
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
            if (!value && green_throw_at(to) < 0)
                return NULL;
            green_hold(to);
            to->in_switch = false;
            return hub_runs(th, to);
        }
        if (!value) {
            if (green_throw_at(to) < 0)
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

/* Goes on in `to`, which has its value, until somebody switches back. */
static inline PyObject *leave_to(thread *th, green *me, green *to)
{
    green_hold(to);
    me->in_switch = true;
    me->how = NOT_WOKEN;
    me->why = "switch";
    if (me->kind != MAIN)
        green_drop(th, me);
    return received(th, me, switch_to(th, to));
}

PyObject *green_switch(thread *th, green *to, PyObject *args, PyObject *keywords)
{
    green *me = th->current;
    if (unlikely(me->kind == ALIEN)) {
        must_not_wait();
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
                if (green_throw_at(to) < 0)
                    return NULL;
            } else if (to->in_park) {
                to->how = SWITCHED;
                Py_XSETREF(to->inbox, value);
                green_rouse(to);
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
    return leave_to(th, me, to);
}

PyObject *green_switch_value(thread *th, green *to, PyObject *value)
{
    green *me = th->current;
    /* The usual case without a tuple. */
    if (likely(to->life == ACTIVE && to->in_switch && to->th == th && me->kind < HUB)) {
        to->how = SWITCHED;
        Py_XSETREF(to->inbox, Py_NewRef(value));
        to->in_switch = false;
        return leave_to(th, me, to);
    }
    PyObject *args = PyTuple_Pack(1, value);
    if (!args)
        return NULL;
    PyObject *r = green_switch(th, to, args, NULL);
    Py_DECREF(args);
    return r;
}

PyObject *green_m_switch(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    thread *th = thread_get();
    if (!th)
        return NULL;
    green *to = (green *)self;
    if (likely(!names && n == 1))
        return green_switch_value(th, to, args[0]);
    if (likely(!names && n == 0) && likely(to->life == ACTIVE && to->in_switch && to->th == th))
        return green_switch_value(th, to, empty_tuple);
    PyObject *tuple, *keywords;
    if (usual_arguments(args, n, names, &tuple, &keywords) < 0)
        return NULL;
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

PyObject *green_m_throw(PyObject *self, PyObject *args)
{
    PyObject *type = exc_exit, *value = NULL, *tb = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 0, 3, &type, &value, &tb))
        return NULL;
    thread *th = thread_get();
    if (!th || throw_args(type, value, tb) < 0)
        return NULL;
    return green_switch(th, (green *)self, NULL, NULL);
}
