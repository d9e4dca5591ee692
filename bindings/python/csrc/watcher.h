/* A watcher, and the loop that it belongs to. */

#ifndef WEALD_PYTHON_WATCHER_H
#define WEALD_PYTHON_WATCHER_H

#include "sync.h"

enum { IO, TIMER, SIGNAL, IDLE, PREPARE, CHECK, FORK, ASYNC, CHILD, STAT };

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

/* One of a loop, as its arguments say. */
watcher *watcher_new(PyObject *loop, int kind, PyObject *ref, PyObject *priority);

#endif
