/* The fields of a PyThreadState that belong to a greenlet, and how they are swapped.
 *
 * All greenlets of a thread share its one PyThreadState; what the interpreter keeps there for
 * each call stack is saved when a greenlet leaves and loaded when it enters. This header and
 * state.c are the only files that know a version of CPython; docs/python.md lists the fields.
 *
 *   load      state_init (once, by the entry function)  or  state_load
 *   save      state_save
 *   end       state_end: the thread is in nobody's frame
 */

#ifndef WEALD_PYTHON_STATE_H
#define WEALD_PYTHON_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030A0000
#error "weald needs CPython 3.10 or newer"
#endif
#if PY_VERSION_HEX >= 0x030E0000
#error "weald does not know the thread state of CPython 3.14 and later: see docs/python.md"
#endif
#ifdef Py_GIL_DISABLED
#error "weald does not support free-threaded builds of CPython: see docs/python.md"
#endif

#define HAS_CFRAME (PY_VERSION_HEX < 0x030D0000)
#define HAS_DATASTACK (PY_VERSION_HEX >= 0x030B0000)
#define HAS_C_RECURSION (PY_VERSION_HEX >= 0x030C0000)
#define HAS_TRACING_FLAG (PY_VERSION_HEX < 0x030C0000)
#define HAS_TRASH_NESTING (PY_VERSION_HEX < 0x030D0000)

#if PY_VERSION_HEX < 0x030B0000
typedef CFrame base_cframe;
#elif HAS_CFRAME
typedef _PyCFrame base_cframe;
#endif

typedef struct {
    int depth; /* of recursion; not what remains, because the limit may change meanwhile */
    int headroom;
    int tracing;
#if HAS_DATASTACK
    int what;
#endif
#if HAS_C_RECURSION
    int c_remaining;
#endif
#if HAS_TRASH_NESTING
    int trash;
#endif
    PyObject *context;
    _PyErr_StackItem *exc_info;
#if HAS_CFRAME
    base_cframe *cframe;
#else
    struct _PyInterpreterFrame *current_frame;
#endif
#if PY_VERSION_HEX < 0x030B0000
    struct _frame *frame;
#endif
#if HAS_DATASTACK
    _PyStackChunk *chunk;
    PyObject **top, **limit;
#endif
#if HAS_C_RECURSION
    PyObject *exception;
#else
    PyObject *type, *value, *traceback;
#endif
    /* What the fields above point to when nothing of the greenlet runs. */
#if HAS_CFRAME
    base_cframe base;
#endif
    _PyErr_StackItem exc_state;
} pystate;

/* How much of a greenlet's stack its entry function sets aside for Python's frames: enough for a
 * handful, so that those and the C frames around them fit into one page. With 992 each handler of pywsgi
 * wanted a second chunk. Deeper calls get chunks from the interpreter, 16 KiB each, which we keep for the
 * next one; see state.c. */
#if HAS_DATASTACK
#define CHUNK_SIZE 1008
#else
#define CHUNK_SIZE 16
#endif

/* To be called once. */
void state_setup(void);

static inline PyThreadState *state_holder(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

static inline void state_save(PyThreadState *ts, pystate *s)
{
    s->headroom = ts->recursion_headroom;
    s->tracing = ts->tracing;
    s->context = ts->context;
    s->exc_info = ts->exc_info;
#if HAS_CFRAME
    s->cframe = ts->cframe;
#else
    s->current_frame = ts->current_frame;
#endif
#if PY_VERSION_HEX < 0x030B0000
    s->frame = ts->frame;
    s->depth = ts->recursion_depth;
    s->trash = ts->trash_delete_nesting;
#elif PY_VERSION_HEX < 0x030C0000
    s->depth = ts->recursion_limit - ts->recursion_remaining;
    s->what = ts->tracing_what;
    s->trash = ts->trash_delete_nesting;
#else
    s->depth = ts->py_recursion_limit - ts->py_recursion_remaining;
    s->c_remaining = ts->c_recursion_remaining;
    s->what = ts->what_event;
#if HAS_TRASH_NESTING
    s->trash = ts->trash.delete_nesting;
#endif
#endif
#if HAS_DATASTACK
    s->chunk = ts->datastack_chunk;
    s->top = ts->datastack_top;
    s->limit = ts->datastack_limit;
#endif
#if HAS_C_RECURSION
    s->exception = ts->current_exception;
#else
    s->type = ts->curexc_type;
    s->value = ts->curexc_value;
    s->traceback = ts->curexc_traceback;
#endif
}

static inline void state_load(PyThreadState *ts, const pystate *s)
{
    ts->recursion_headroom = s->headroom;
    ts->tracing = s->tracing;
    if (ts->context != s->context) {
        ts->context = s->context;
        ts->context_ver++;
    }
    ts->exc_info = s->exc_info;
#if HAS_CFRAME
    ts->cframe = s->cframe;
#if HAS_TRACING_FLAG
    ts->cframe->use_tracing = s->tracing == 0 && (ts->c_tracefunc || ts->c_profilefunc) ? 255 : 0;
#endif
#else
    ts->current_frame = s->current_frame;
#endif
#if PY_VERSION_HEX < 0x030B0000
    ts->frame = s->frame;
    ts->recursion_depth = s->depth;
    ts->trash_delete_nesting = s->trash;
#elif PY_VERSION_HEX < 0x030C0000
    ts->recursion_remaining = ts->recursion_limit - s->depth;
    ts->tracing_what = s->what;
    ts->trash_delete_nesting = s->trash;
#else
    ts->py_recursion_remaining = ts->py_recursion_limit - s->depth;
    ts->c_recursion_remaining = s->c_remaining;
    ts->what_event = s->what;
#if HAS_TRASH_NESTING
    ts->trash.delete_nesting = s->trash;
#endif
#endif
#if HAS_DATASTACK
    ts->datastack_chunk = s->chunk;
    ts->datastack_top = s->top;
    ts->datastack_limit = s->limit;
#endif
#if HAS_C_RECURSION
    ts->current_exception = s->exception;
#else
    ts->curexc_type = s->type;
    ts->curexc_value = s->value;
    ts->curexc_traceback = s->traceback;
#endif
}

/* How deep C may recurse on a stack of so many bytes. */
int state_c_depth(size_t stack);

/* The state of a greenlet that begins now, with its own `context` and the `chunk` of so many
 * bytes that its entry function has set aside, loaded into `ts`. */
void state_init(PyThreadState *ts, pystate *s, void *chunk, size_t size, int c_depth);

/* Takes a greenlet that has run to its end out of `ts`, which is in no frame then. Its exceptions
 * are dropped: this may run code. */
void state_end(PyThreadState *ts, pystate *s);

/* The innermost frame of a greenlet that is suspended (new reference), or NULL; no error. */
PyObject *state_frame(PyThreadState *ts, const pystate *s);

/* Gives back the chunks of frames beyond the first, of a greenlet that never goes on. */
void state_forget(pystate *s);

#define STATE_STACK_MOST 32

/* Where something was called: cheaper than frame objects. What is called again and again at one
 * place shares it. */
typedef struct {
    Py_ssize_t users;
    int n;
    struct {
        PyObject *code;
        int at;
    } frame[];
} call_stack;

/* The innermost `most` frames of the running greenlet; NULL: no memory. */
call_stack *state_stack(PyThreadState *ts, int most);
void state_stack_release(call_stack *s);

/* How deep in nested deallocations it is. */
int state_trash(PyThreadState *ts);

/* How many frames deep a suspended or running greenlet is. */
int state_depth(const pystate *s);

#endif
