/* What the files of Greenlet share.
 *
 *   task        making one, its run, the type
 *   task_start  starting it
 *   task_state  what others see of it
 *   task_end    waiting for its end, and bringing it about
 *   raw         what spawn_raw makes, which knows its spawner as a Greenlet does */

#ifndef WEALD_PYTHON_TASK_H
#define WEALD_PYTHON_TASK_H

#include "sync.h"

#pragma GCC visibility push(hidden)

enum { NOT_YET, PENDING, BEGUN, CANCELLED };

typedef struct {
    green g;
    PyObject *args, *kwargs; /* with g.single the one argument, else a tuple; a dict or NULL */
    PyObject *value;
    PyObject *exc_info; /* NULL: not done; None: a value; else (type, value, traceback) */
    nodelist links;
    PyObject *ident;
    PyObject *spawner; /* weak */
    PyObject *tree;    /* spawn_tree_locals; NULL until somebody looks */
    call_stack *stack; /* spawning_stack */
} task;

/* Whether those that are spawned know who has made them, see set_tracking. */
extern bool track_tree;
/* Whether what is spawned begins with a copy of the spawner's context variables; else with none. */
extern bool inherit_context;
extern PyObject *str_underscore_run;

/* Steals a tuple, or NULL. */
static inline void task_put_args(task *t, PyObject *args)
{
    PyObject *before = t->args;
    t->args = args;
    t->g.single = false;
    Py_XDECREF(before);
}

static inline bool task_is_dead(task *t)
{
    if (this_thread && this_thread->current == &t->g)
        return false;
    return t->g.start == CANCELLED || green_is_gone(&t->g);
}

static inline bool task_is_ready(task *t)
{
    return t->exc_info != NULL || task_is_dead(t);
}

static inline void task_notify(task *t)
{
    if (t->links.first)
        list_wake_all(&t->links, (PyObject *)t);
}

/* ---- task ---- */

int take_context(green *g);
/* Takes the current exception. */
void task_report_error(thread *th, task *t);

/* ---- task_start ---- */

/* Has it run in its turn. */
int task_begin(task *t);
/* It will not run. */
void task_cancel_start(task *t);

PyObject *task_start(PyObject *self, PyObject *unused);
PyObject *task_start_later(PyObject *self, PyObject *seconds);
PyObject *py_set_spawn_callbacks(PyObject *self, PyObject *all);

/* ---- task_state ---- */

PyObject *task_ready(PyObject *self, PyObject *unused);
PyObject *task_successful(PyObject *self, PyObject *unused);
PyObject *task_run_nothing(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *task_has_links(PyObject *self, PyObject *unused);
int task_bool(PyObject *self);
extern PyMemberDef task_members[];
extern PyGetSetDef task_getset[];

/* ---- task_end ---- */

PyObject *task_join(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *task_get(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *task_raise(PyObject *self, PyObject *unused);
PyObject *task_rawlink(PyObject *self, PyObject *callback);
PyObject *task_unlink(PyObject *self, PyObject *callback);
PyObject *task_unlink_all(PyObject *self, PyObject *unused);
PyObject *task_kill(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *task_throw(PyObject *self, PyObject *args);
PyObject *task_maybe_kill_before_start(PyObject *self, PyObject *exception);
PyObject *py_joinall(PyObject *self, PyObject *const *args, Py_ssize_t n);

/* ---- raw ---- */

PyObject *py_spawn_raw(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);

#pragma GCC visibility pop

#endif
