/* What can be waited for and linked to: linkable.c, the base of event.c, result.c, semaphore.c, rlock.c and queues. */

#ifndef WEALD_PYTHON_SYNC_H
#define WEALD_PYTHON_SYNC_H

#include "core.h"
#include <pthread.h>

typedef struct {
    PyObject_HEAD
    nodelist links; /* who waits, and callables */
    thread *th;     /* who used it first */
    pthread_t maker;
    bool multi;     /* used from several threads: waiting for it is no deadlock */
    PyObject *weakrefs;
} linkable;

typedef struct {
    linkable l;
    Py_ssize_t counter, initial;
} semaphore;

typedef struct {
    semaphore s; /* of one */
    PyObject *owner;
    Py_ssize_t count;
} rlock;

/* 1 taken, 0 not in time, -1 */
int sem_take(semaphore *s, int block, PyObject *timeout);
int rlock_take(rlock *k, int block, PyObject *timeout);
void sem_give(semaphore *s);

/* As green_wait, in the list of `l`; `front`: before those who wait already. */
int linkable_wait(thread *th, linkable *l, nodelist *list, int64_t deadline, const char *why, bool front);

static inline void linkable_touch(linkable *l, thread *th)
{
    if (likely(l->th == th))
        return;
    if (!l->th) {
        l->th = th;
        l->multi = !pthread_equal(l->maker, th->self);
    } else {
        l->multi = true;
    }
}

PyObject *linkable_new(PyTypeObject *type, PyObject *args, PyObject *keywords);
nodelist *task_links(PyObject *task);
int linkable_traverse(PyObject *self, visitproc visit, void *arg);
int linkable_clear(PyObject *self);
/* What every one's dealloc begins with; it ends with tp_free. */
void linkable_dealloc_begin(PyObject *self);
void linkable_dealloc(PyObject *self);
PyObject *linkable_ready(PyObject *self, PyObject *unused);
/* In a forked child. */
PyObject *linkable_reinit(PyObject *self, PyObject *unused);
PyObject *sem_reinit(PyObject *self, PyObject *unused);
/* Whether a wait would return at once. */
bool event_ready(PyObject *self);
bool result_ready(PyObject *self);
bool sem_ready(PyObject *self);
int init_result(PyObject *m);
/* Parses (block, timeout) as queues and locks have it. Zero: only try. */
int parse_block(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, const char *first, int *block,
                PyObject **timeout);
/* As above behind one argument of its own. */
int parse_item_block(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject **item, int *block,
                     PyObject **timeout);
/* (timeout=None). */
int parse_timeout(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject **timeout);

#define WITH_KEYWORDS(f) ((PyCFunction)(void (*)(void))(f))

#endif
