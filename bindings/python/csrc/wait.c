/* Waits of ours: what is left for a greenlet to raise, who ends a wait, and how it ends.
 *
 * Whoever makes a greenlet go on leaves word in `how`, so that a wait can tell its own end from a
 * resumption that was meant for something else, and simply waits on. */

#include "green.h"

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

void green_rouse(green *g)
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
        green_rouse(g);
    return failed;
}

int green_throw_at(green *g)
{
    if (g->how == TOLD)
        g->how = NOT_WOKEN;
    return green_raise_later(g, NULL);
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

/* BlockingIOError is raised once for each command by who looks whether something came that should not have, as
 * redis-py does; most of the cost of that was the text. */
static void raise_again(void)
{
    static PyObject *args;
    if (!args) {
        PyObject *text = PyUnicode_DecodeLocale(strerror(EAGAIN), "surrogateescape");
        args = text ? Py_BuildValue("(iN)", EAGAIN, text) : NULL;
    }
    if (args)
        PyErr_SetObject(PyExc_BlockingIOError, args);
}

int raise_code(int code)
{
    switch (code) {
    case -EAGAIN:
        raise_again();
        return -1;
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
        PyErr_SetString(PyExc_MemoryError, weald_strerror(code));
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
        if (th->interrupted && me->kind == MAIN && signals_run(th) < 0)
            return -1;
        return 1;
    }
    return raise_code(code);
}

int must_not_wait(void)
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
        return must_not_wait();
    if (unlikely(me->pending != NULL))
        return green_raise_pending(me);
    return unlikely(th->attention) ? green_leaves(th) : 0;
}

int green_park(thread *th, int64_t deadline, const char *why, PyObject *on)
{
    green *me = th->current;
    if (unlikely(me->kind >= HUB))
        return must_not_wait();
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
        if (likely(how >= WOKEN)) {
            outcome = WAIT_WOKEN;
            break;
        }
        if (me->pending) {
            outcome = green_raise_pending(me);
            break;
        }
        if (unlikely(th->interrupted) && me->kind == MAIN && signals_run(th) < 0) {
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
        if (me->how >= WOKEN) { /* by what has run here: a handler of a signal, a finalizer */
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
        return must_not_wait();
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
