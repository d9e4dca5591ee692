/* What the files of the raw greenlet share, beyond core.h.
 *
 *   green    the greenlet as an object, and its end as garbage
 *   switch   raw switches: how a greenlet begins, goes on and ends
 *   wait     waits of ours: what ends them, and what is raised then
 *   links    lists of who waits and of callables
 *   thread   a thread's part: the interpreter's lock, the hooks of the library, the tracer
 *   signals  signals of Python's, which end a sleep of main's loop */

#ifndef WEALD_PYTHON_GREEN_H
#define WEALD_PYTHON_GREEN_H

#include "core.h"

#pragma GCC visibility push(hidden)

extern PyObject *empty_tuple, *str_run;
extern bool shutting_down; /* the interpreter ends: suspended greenlets are left as they are */

/* ---- green ---- */

/* Kills a suspended greenlet that nobody refers to, with GreenletExit. What it raises in turn is
 * told to sys.unraisablehook. */
void green_kill_here(thread *th, green *g);
/* ... and those that other threads have found. */
void kill_garbage(thread *th);

/* ---- switch ---- */

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

PyObject *green_m_switch(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *green_m_throw(PyObject *self, PyObject *args);

/* ---- wait ---- */

/* The exception of who must not wait; -1. */
int must_not_wait(void);

/* ---- thread ---- */

/* One greenlet less belongs to it. */
void thread_release(thread *th);

/* ---- signals ---- */

/* Only the main thread is told of signals; without the pipe they may be seen at the next event only. `mine` is a
 * descriptor that was ours. */
void signals_open(thread *th, int mine);
void signals_close(thread *th);
/* One has come: they run in main, where Python runs them. */
void signals_rouse(thread *th);
/* Lets Python's signal handlers run, in main: -1 when one raises. */
int signals_run(thread *th);

#pragma GCC visibility pop

#endif
