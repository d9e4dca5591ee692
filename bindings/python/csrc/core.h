/* What the files of weald._core share.
 *
 *   state      the interpreter's fields that are swapped at a switch
 *   green      the raw greenlet, and how any of them waits; green.h lists its files
 *   hub        a thread's hub: callbacks, errors, sleep
 *   waiter     Waiter
 *   watcher    gevent's watchers
 *   loop       gevent's loop interface
 *   arguments  of quick calls
 *   timeout    Timeout
 *   task       Greenlet; task.h lists its files
 *   linkable   the base of event, result (AsyncResult), semaphore, rlock and queue; see sync.h
 *   lock       the locks of threads
 *   queue      Queue and its kin
 *   local      attributes of a greenlet
 *   io         waiting for descriptors, reading and writing them
 *   socket     what sockets do most
 *   websocket  connections of WebSocket
 *   wsgi       connections of the WSGI server; see wsgi.h
 *
 * Every greenlet that is not suspended, and every one that somebody will resume without being
 * asked (it is ready, or waits in a wait of ours), has a reference of its own: `held`. One that
 * waits in a raw switch has none: when nobody refers to it any more nobody can switch to it, and
 * it is killed. */

#ifndef WEALD_PYTHON_CORE_H
#define WEALD_PYTHON_CORE_H

#include "state.h"
#include <pthread.h>
#include <structmember.h>
#include <stdbool.h>
#include <weald.h>

/* What help() shows, and inspect.signature() reads. */
#define TEXT(signature, doc) signature "\n--\n\n" doc

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What weald_interrupt and weald_throw carry: an exception of Python's is in `pending`. */
#define CODE_RAISE (-10001)

typedef struct green green;
typedef struct thread thread;
typedef struct node node;

/* ---- who waits ---- */

/* A place in a list of those who are told of something: a greenlet's own, or that of a callable. */
struct node {
    node *prev, *next; /* NULL: in no list */
    PyObject *what;    /* the greenlet or callable; borrowed from a greenlet, owned otherwise */
    thread *th;        /* whose hub calls the callable; NULL for a greenlet */
};

typedef struct {
    node *first, *last;
    Py_ssize_t len;
    uint32_t links; /* how many of them are callables */
    bool notified;  /* the hub will call them */
} nodelist;

static inline bool node_is_green(const node *n)
{
    return n->th == NULL;
}

static inline void list_push(nodelist *l, node *n)
{
    l->links += !node_is_green(n);
    n->next = NULL;
    n->prev = l->last;
    if (l->last)
        l->last->next = n;
    else
        l->first = n;
    l->last = n;
    l->len++;
}

static inline void list_push_front(nodelist *l, node *n)
{
    n->prev = NULL;
    n->next = l->first;
    if (l->first)
        l->first->prev = n;
    else
        l->last = n;
    l->first = n;
    l->len++;
}

static inline void list_remove(nodelist *l, node *n)
{
    l->links -= !node_is_green(n);
    if (n->prev)
        n->prev->next = n->next;
    else
        l->first = n->next;
    if (n->next)
        n->next->prev = n->prev;
    else
        l->last = n->prev;
    n->prev = n->next = NULL;
    l->len--;
}

/* ---- greenlets ---- */

/* An exception to raise in a greenlet, and who can take it back. */
typedef struct pend pend;
struct pend {
    pend *next;
    PyObject *source, *type, *value, *tb;
};

enum { NEW, ACTIVE, DEAD };
enum { RAW, MAIN, TASK, HUB, ALIEN }; /* ALIEN stands for those of C */
/* Why a greenlet that is suspended goes on. TOLD is woken by what stays as it is (an event that is set, a greenlet that
 * has ended), so that an exception may come first and nothing is lost. */
enum { NOT_WOKEN, SWITCHED, WOKEN, TOLD };

struct green {
    PyObject_HEAD
    weald_greenlet handle; /* 0 until it is started */
    thread *th;            /* whose it is; NULL until it is known */
    uint8_t life;          /* NEW, ACTIVE, DEAD */
    uint8_t kind;
    uint8_t how;       /* NOT_WOKEN ... */
    bool held;         /* see above */
    bool in_switch;    /* waits in a raw switch */
    bool in_park;      /* waits in green_park */
    bool is_coro;      /* it returns to its parent; else to the loop */
    bool in_list;      /* `node` is in a list */
    bool loaded;       /* its state has been set up: from its first instruction to its end */
    bool no_gil;       /* suspended while it had released the GIL */
    bool scheduled;    /* was given to the loop to start */
    bool finalized;
    bool is_dummy;
    uint8_t start;     /* of a Greenlet, as the next: see task.c */
    bool single;
    bool slept;        /* of a Greenlet that is only to sleep: it has, when it begins */
    pystate ps;
    node node;
    green *next_dropped;
    PyObject *parent;
    PyObject *run;
    PyObject *inbox;   /* what it was handed, with SWITCHED; NULL: an exception, in `pending`.
                        * Of one that has not begun: the arguments of `run`, and its keywords */
    PyObject *keywords;
    pend *pending;     /* what it is to raise, in order */
    PyObject *dict;
    PyObject *weakrefs;
    PyObject *locals;  /* weak references to the local objects that it has values in */
    const char *why;
    PyObject *on;      /* borrowed: what it waits for, alive while it does */
};

struct thread {
    PyThreadState *ts;
    pthread_t self;
    green *current;
    green *main;
    green *alien;      /* current while a greenlet of C runs */
    green *hub;        /* NULL until somebody asks for it */
    bool attention;    /* something of the following four is to be done after a switch */
    green *dropped;    /* references to drop as soon as code may run */
    struct timeout *spent; /* the same, of timeouts */
    PyObject *tracer;
    green *traced;     /* who ran last, for the tracer */
    bool threw;
    bool released;     /* the GIL, while the loop sleeps */
    bool interrupted;  /* a signal came while it slept */
    bool hub_awake;    /* the hub runs or is ready */
    bool hub_waits;    /* ... or has switched to somebody, and goes on when that one waits */
    bool to_hub;       /* the running greenlet switches back to it itself */
    bool hub_went;     /* the callback that the hub runs has switched to somebody */
    bool ended;
    Py_ssize_t refs;   /* greenlets that belong to it */
    bool in_run;       /* main is in weald_run */
    bool has_foreign;
    bool manual;       /* callbacks are run by who runs the loop, not by the hub */
    PyObject *leaves; /* what loop.run() is to raise: the handler of errors has raised it */
    weald_watcher wakeup;
    int signal_in, signal_out; /* of the main thread: the pipe that Python's C handler of signals writes to; -1: none */
    weald_watcher signals;
    PyObject *loop;    /* borrowed: the one that is run by hand */
    bool stop;
    int externs;       /* waits that another thread may end */
    PyObject *report;  /* text of the last deadlock */
    /* Callbacks of the hub, a ring of callback objects. A NULL among them: greenlets were woken before
     * those behind it came, and run before those. */
    PyObject **ring;
    size_t wakes, wakes_seen; /* how many were woken, and when the last callback came */
    size_t ring_mask, ring_head, ring_tail;
    PyObject *foreign; /* from other threads: callbacks, and greenlets to wake */
    PyObject *to_kill; /* greenlets that another thread found to be garbage */
    size_t stack_size;
    int c_depth;
    weald_spawn_options options;
};

extern __thread thread *this_thread __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern PyTypeObject green_type, hub_type, task_type, timeout_type, callback_type, loop_type;
extern PyTypeObject watcher_type, event_type, result_type, semaphore_type, bounded_type, rlock_type;
extern PyTypeObject raw_type, linkable_type, queue_type, waiter_type;
extern PyObject *exc_exit, *exc_error, *exc_loop_exit, *exc_blocking, *exc_invalid_switch;
extern PyObject *exc_concurrent, *exc_invalid_thread, *exc_destroyed;

thread *thread_make(void);
int thread_bury(thread *th);
green *thread_hub(thread *th); /* borrowed; makes it */

static inline thread *thread_get(void)
{
    return likely(this_thread != NULL) ? this_thread : thread_make();
}

/* To be called on the stack of a greenlet that goes on or begins: drops what could not be dropped
 * before, which may run any code, and calls the tracer. -1 when that raises, which is rare; an
 * exception that was set before stays. */
static inline int after_switch(thread *th)
{
    return unlikely(th->attention) ? thread_bury(th) : 0;
}

/* Gives up the reference that `g` has of its own, as soon as code may run. */
static inline void green_drop(thread *th, green *g)
{
    g->held = false;
    g->next_dropped = th->dropped;
    th->dropped = g;
    th->attention = true;
}

static inline green *green_current(thread *th)
{
    return th->current;
}

static inline bool is_green(PyObject *o)
{
    return PyObject_TypeCheck(o, &green_type);
}

/* The reference that a greenlet has of its own. */
static inline void green_hold(green *g)
{
    if (!g->held) {
        g->held = true;
        Py_INCREF(g);
    }
}

/* How a wait of ours ends. */
enum { WAIT_FAILED = -1, WAIT_TIMEOUT = 0, WAIT_WOKEN = 1 };

/* Suspends the current greenlet until green_wake, or the deadline. Whoever calls it has put the
 * greenlet where it will be found, and takes it out when it was not woken. WAIT_FAILED: with an
 * exception, thrown into it or LoopExit. */
int green_park(thread *th, int64_t deadline, const char *why, PyObject *on);

/* As green_park, linked into `list`. */
int green_wait(thread *th, nodelist *list, int64_t deadline, const char *why, PyObject *on);

int hub_call_from_outside(thread *th, PyObject *what);

/* Ends the wait of a greenlet that is in green_park; from any thread. Never runs code. */
static inline void green_wake(green *g)
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

/* Wakes the greenlet that waits longest, or all; the hub will call the callables with `source`, one
 * after the other, unless they are taken out meanwhile. */
void list_wake_one(nodelist *l, PyObject *source);
void list_wake_all(nodelist *l, PyObject *source);
nodelist *list_of(PyObject *source); /* the list that `source` notifies */
Py_ssize_t list_takers(PyObject *source); /* how many greenlets it may wake now */
/* What the hub calls for them. */
PyObject *py_notify(PyObject *self, PyObject *source);
/* Only greenlets, and callables that are left to the hub. */
int list_link(nodelist *l, PyObject *callable);
void list_unlink(nodelist *l, PyObject *callable);
void list_clear(nodelist *l);
PyObject *list_as_list(nodelist *l);
int list_traverse(nodelist *l, visitproc visit, void *arg);

/* Raw switches. NULL for `args`: the current exception is thrown. */
PyObject *green_switch(thread *th, green *to, PyObject *args, PyObject *keywords);
PyObject *green_switch_value(thread *th, green *to, PyObject *value);
/* Suspends the current greenlet until somebody switches to it: what hub.switch() is. */
PyObject *green_wait_switch(thread *th);
/* Has `g` raise the current exception, which is taken, when it goes on or waits next, and wakes it
 * if it waits. `source` is what it can be taken back by. Never runs code. */
int green_raise_later(green *g, PyObject *source);

/* The same, for who throws by hand: comes before what has woken it, if nothing can be lost by that. */
int green_throw_at(green *g);
/* ... and does not wake it. No source to green_unpend: all of them. */
int green_pend(green *g, PyObject *source, PyObject *type, PyObject *value, PyObject *tb);
void green_unpend(green *g, PyObject *source);
/* Raises what pends; -1. */
int green_leaves(thread *th);
int green_raise_pending(green *g);
/* After a call of the library that waited: 0; -1 with what the code says; or 1 when it was ended
 * for no reason, and is to be made again. */
int green_check(thread *th, int code);
/* Before a call of the library that may wait: 0, or -1 when the current greenlet must not. */
int green_may_wait(thread *th);
/* Has a suspended greenlet look at what pends. */
void green_rouse(green *g);
int raise_code(int code);
/* Begins or ends what is common to all entry functions. */
void *task_entry(void *arg);
PyObject *green_new(PyTypeObject *type, PyObject *args, PyObject *keywords);
int green_traverse(PyObject *self, visitproc visit, void *arg);
int green_clear(PyObject *self);
bool green_dealloc_begin(PyObject *self);
void green_leave_thread(green *g);
int green_start(thread *th, green *g); /* in its turn */
PyObject *green_parent_hub(green *g);
void green_end(thread *th, green *g);
bool green_is_gone(green *g);
void green_set_wait(green *g, const char *why, PyObject *on);
int throw_args(PyObject *type, PyObject *value, PyObject *tb);

/* ---- arguments ---- */

PyObject *tuple_of(PyObject *const *args, Py_ssize_t n);
/* The arguments of a vectorcall as those of a usual one: a tuple, and a dict, NULL without `names`. */
int usual_arguments(PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject **tuple, PyObject **keywords);

/* ---- the hub ---- */

typedef struct {
    PyObject_HEAD
    PyObject *callback; /* NULL: stopped or called */
    PyObject *args;     /* a tuple, NULL when none, or with `single` the one argument */
    bool single;
} callback;

/* Has the hub of `th`, the current thread's, call `f` with `arg` (borrowed; NULL: nothing). */
PyObject *hub_call(thread *th, PyObject *f, PyObject *args_tuple);
int hub_call_one(thread *th, PyObject *f, PyObject *arg);
int hub_push(thread *th, PyObject *cb);
void hub_wake(thread *th);
void hub_on_wakeup(weald_watcher w, int events, void *user);
void hub_wake_green(weald_watcher w, int events, void *user);
bool is_sleep(PyObject *f); /* whether calling it is sleeping */
/* Calls what a watcher that has fired is to call. */
PyObject *watcher_run(PyObject *w);
int hub_run_callbacks_here(thread *th);
/* Tells the hub of the current exception. */
void hub_handle_error(thread *th, PyObject *context);
/* Throws the current exception at the hub: it reaches main. */
int hub_throw(thread *th);
/* A deadline from a timeout: None or missing is never. -1: an exception is set; below WEALD_FOREVER
 * never happens otherwise. */
int deadline_from(PyObject *timeout, int64_t *deadline);
/* A Timeout may stand for the seconds: deadline_from starts it, and this takes it back at the end
 * of the wait, whose outcome it turns into WAIT_TIMEOUT if that is what was raised. */
int deadline_end_slowly(int outcome, PyObject *timeout);
static inline int deadline_end(int outcome, PyObject *timeout)
{
    return likely(!timeout) || likely(!PyObject_TypeCheck(timeout, &timeout_type)) ? outcome
                                                                                   : deadline_end_slowly(outcome, timeout);
}
int timeout_guard(PyObject *timeout);
void timeout_release(PyObject *timeout);
int seconds_from(PyObject *o, int64_t *ns);
PyObject *get_hub_object(thread *th);

/* ---- timeouts ---- */
void timeouts_bury(thread *th); /* drops those that have come too late */
PyObject *timeout_raise_new(PyObject *seconds); /* raises Timeout(seconds); NULL */

int init_thread(PyObject *m);
int init_signals(PyObject *m);
int init_links(PyObject *m);
int init_green(PyObject *m);
int init_hub(PyObject *m);
int init_waiter(PyObject *m);
int init_watcher(PyObject *m);
int init_loop(PyObject *m);
int init_timeout(PyObject *m);
int init_task(PyObject *m);
int init_sync(PyObject *m);
int init_lock(PyObject *m);
int init_queue(PyObject *m);
int init_io(PyObject *m);
int init_socket(PyObject *m);
int init_local(PyObject *m);
int init_websocket(PyObject *m);
int init_wsgi(PyObject *m);
/* An object of `class` for a connection, which is its own from now on; or the exception for a code. */
PyObject *websocket_made(PyObject *class, weald_websocket h);
void local_forget(green *g);

/* Where the frames of a greenlet that begins have their first chunk: above all C frames, where stacks have
 * up to 1920 bytes that nobody uses; if that is too little, in the entry function's own frame. */
#define SET_ASIDE(chunk, size)                 \
    void *chunk;                               \
    int64_t size = weald_stack_spare(&chunk);  \
    if (size < CHUNK_SIZE)                     \
    chunk = __builtin_alloca(size = CHUNK_SIZE)

/* Python ends a thread that asks for the GIL after the interpreter is gone by pthread_exit (up to 3.13).
 * A greenlet's stack must not be unwound by that: the thread stays there, as it does from 3.14 on. */
void hold_ended_thread(bool *inside);
#define ENTRY(name, body)                                                      \
    void *name(void *arg)                                                      \
    {                                                                          \
        bool inside __attribute__((cleanup(hold_ended_thread))) = true;        \
        void *result = body(arg);                                              \
        inside = false;                                                        \
        return result;                                                         \
    }

#endif
