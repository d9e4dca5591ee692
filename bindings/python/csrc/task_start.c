/* A Greenlet's start: in its turn, later, or never. */

#include "task.h"

static PyObject *spawn_callbacks;

static int call_spawn_callbacks(task *t)
{
    if (!spawn_callbacks || spawn_callbacks == Py_None)
        return 0;
    PyObject *all = PySequence_List(spawn_callbacks);
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(all); i++) {
        PyObject *r = PyObject_CallOneArg(PyList_GET_ITEM(all, i), (PyObject *)t);
        if (!r)
            Py_CLEAR(all);
        Py_XDECREF(r);
    }
    Py_XDECREF(all);
    return PyErr_Occurred() ? -1 : 0;
}

/* Has it run so many nanoseconds later; until then it is a timer, and has no stack. */
static int begin_later(thread *th, task *t, int64_t ns)
{
    green *g = &t->g;
    th->options.user = g;
    weald_greenlet h = weald_greenlet_new(task_entry, g, &th->options);
    if (h < 0)
        return raise_code((int)h);
    int code = weald_start_later(h, ns);
    if (code < 0) {
        weald_close(h);
        return raise_code(code);
    }
    g->handle = h;
    g->life = ACTIVE;
    t->g.start = PENDING;
    green_hold(g);
    return 0;
}

/* Whether it is to sleep and to do nothing else, and for how long. With a tracer it begins like others: it would
 * be seen. */
static bool only_sleeps(thread *th, task *t, int64_t *ns)
{
    if (!t->g.single || t->kwargs || th->tracer || !t->g.run || !is_sleep(t->g.run) ||
        !Py_IS_TYPE((PyObject *)t, &task_type) || !(PyFloat_CheckExact(t->args) || PyLong_CheckExact(t->args)))
        return false;
    if (seconds_from(t->args, ns) == 0)
        return *ns > 0;
    PyErr_Clear(); /* it will be raised where it belongs */
    return false;
}

static int check_thread(task *t)
{
    if (t->g.th == this_thread)
        return 0;
    PyErr_SetString(exc_invalid_thread, "a greenlet is started in the thread that made it");
    return -1;
}

int task_begin(task *t)
{
    if (t->g.start != NOT_YET || t->g.life != NEW)
        return 0;
    thread *th = t->g.th;
    int64_t ns;
    if (check_thread(t) < 0)
        return -1;
    if (unlikely(spawn_callbacks != NULL) && call_spawn_callbacks(t) < 0)
        return -1;
    /* Many that only sleep are as cheap as timers are: what a greenlet costs is mostly its page of stack. */
    if (t->g.single && only_sleeps(th, t, &ns)) {
        if (begin_later(th, t, ns) < 0)
            return -1;
        t->g.slept = true;
        t->g.why = "sleep";
        return 0;
    }
    t->g.start = PENDING;
    if (green_start(th, &t->g) < 0) {
        t->g.start = NOT_YET;
        return -1;
    }
    return 0;
}

void task_cancel_start(task *t)
{
    if (t->g.start == BEGUN || t->g.start == CANCELLED)
        return;
    green *g = &t->g;
    bool was_pending = t->g.start == PENDING;
    t->g.start = CANCELLED;
    if (was_pending && g->handle) {
        weald_kill(g->handle, 0, WEALD_NOW);
        weald_close(g->handle);
        g->handle = 0;
    }
    g->life = DEAD;
    Py_CLEAR(g->run);
    if (g->held) {
        g->held = false;
        Py_DECREF(g); /* the caller has one */
    }
}

PyObject *task_start(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (task_begin((task *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *task_start_later(PyObject *self, PyObject *seconds)
{
    task *t = (task *)self;
    int64_t ns;
    if (seconds_from(seconds, &ns) < 0)
        return NULL;
    if (t->g.start != NOT_YET)
        Py_RETURN_NONE;
    if (check_thread(t) < 0)
        return NULL;
    if (spawn_callbacks && call_spawn_callbacks(t) < 0)
        return NULL;
    if (begin_later(t->g.th, t, ns < 0 ? 0 : ns) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *py_set_spawn_callbacks(PyObject *self, PyObject *all)
{
    (void)self;
    Py_INCREF(all);
    Py_XSETREF(spawn_callbacks, all);
    if (all == Py_None)
        Py_CLEAR(spawn_callbacks);
    Py_RETURN_NONE;
}
