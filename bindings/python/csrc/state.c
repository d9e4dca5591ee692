/* What is not hot of state.h. */

#include "state.h"
#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030B0000
#define Py_BUILD_CORE 1
#include <internal/pycore_frame.h>
#undef Py_BUILD_CORE
#else
#include <frameobject.h>
#endif

/* The worst that is known is sorted(key=...) calling itself: 2.4 KB of C stack for each level of
 * the limit. A margin is left for what the interpreter calls without counting. */
#define PER_LEVEL 2560
#define MARGIN (96 * 1024)

/* The interpreter takes a chunk for frames from the allocator of arenas, which maps it, and gives it
 * back when its first frame returns, which unmaps it: several microseconds for each call over the
 * boundary. Chunks are therefore kept for the next one; arenas, which are larger, go on as before. */

#if HAS_DATASTACK
#define INTERPRETERS_CHUNK (16 * 1024)
#define MOST_KEPT 256

static PyObjectArenaAllocator arenas;
static void *kept[MOST_KEPT];
static int keeps;

static void *chunk_alloc(void *ctx, size_t size)
{
    (void)ctx;
    if (size == INTERPRETERS_CHUNK && keeps > 0)
        return kept[--keeps];
    return arenas.alloc(arenas.ctx, size);
}

static void chunk_free(void *ctx, void *p, size_t size)
{
    (void)ctx;
    if (size == INTERPRETERS_CHUNK && keeps < MOST_KEPT)
        kept[keeps++] = p;
    else
        arenas.free(arenas.ctx, p, size);
}
#endif

void state_setup(void)
{
#if HAS_DATASTACK
    PyObjectArenaAllocator ours = {NULL, chunk_alloc, chunk_free};
    PyObject_GetArenaAllocator(&arenas);
    PyObject_SetArenaAllocator(&ours);
#endif
}

int state_c_depth(size_t stack)
{
#if HAS_C_RECURSION
    size_t depth = stack > 2 * MARGIN ? (stack - MARGIN) / PER_LEVEL : 60;
#ifdef Py_C_RECURSION_LIMIT
    size_t most = Py_C_RECURSION_LIMIT;
#else
    size_t most = C_RECURSION_LIMIT;
#endif
    return (int)(depth < most ? depth : most);
#else
    (void)stack;
    return 0;
#endif
}

void state_init(PyThreadState *ts, pystate *s, void *chunk, size_t size, int c_depth)
{
    memset(&s->exc_state, 0, sizeof s->exc_state);
    s->depth = 0;
    s->headroom = 0;
    s->tracing = 0;
    s->exc_info = &s->exc_state;
#if PY_VERSION_HEX < 0x030B0000
    s->base.use_tracing = 0;
    s->base.previous = &ts->root_cframe;
    s->cframe = &s->base;
    s->frame = NULL;
#elif HAS_CFRAME
#if HAS_TRACING_FLAG
    s->base.use_tracing = 0;
#endif
    s->base.current_frame = NULL;
    s->base.previous = &ts->root_cframe;
    s->cframe = &s->base;
#else
    s->current_frame = NULL;
#endif
#if HAS_DATASTACK
    _PyStackChunk *root = chunk;
    root->previous = NULL;
    root->size = size;
    root->top = 0;
    s->chunk = root;
    s->top = &root->data[1]; /* a first slot in use: the interpreter never frees this chunk */
    s->limit = (PyObject **)((char *)chunk + size);
    s->what = -1;
#else
    (void)chunk;
    (void)size;
#endif
#if HAS_C_RECURSION
    s->c_remaining = c_depth;
    s->exception = NULL;
#else
    (void)c_depth;
    s->type = s->value = s->traceback = NULL;
#endif
#if HAS_TRASH_NESTING
    s->trash = 0;
#endif
    state_load(ts, s);
}

void state_end(PyThreadState *ts, pystate *s)
{
    s->context = ts->context; /* it can still be asked for */
    ts->context = NULL;
    ts->context_ver++;
#if PY_VERSION_HEX < 0x030B0000
    Py_CLEAR(s->exc_state.exc_type);
    Py_CLEAR(s->exc_state.exc_value);
    Py_CLEAR(s->exc_state.exc_traceback);
#else
    Py_CLEAR(s->exc_state.exc_value);
#endif
}

PyObject *state_frame(PyThreadState *ts, const pystate *s)
{
    /* Frame objects are made when somebody asks; the interpreter makes them for the frames of a
     * thread state, so it is shown this one for a moment. */
    pystate mine;
    mine.exc_state = (_PyErr_StackItem){0};
    state_save(ts, &mine);
    state_load(ts, s);
    PyObject *frame = (PyObject *)PyThreadState_GetFrame(ts);
    state_load(ts, &mine);
    return frame;
}

void state_forget(pystate *s)
{
#if HAS_DATASTACK
    PyObjectArenaAllocator arena;
    PyObject_GetArenaAllocator(&arena);
    while (s->chunk && s->chunk->previous) {
        _PyStackChunk *gone = s->chunk;
        s->chunk = gone->previous;
        arena.free(arena.ctx, gone, gone->size);
    }
#else
    (void)s;
#endif
}

int state_depth(const pystate *s)
{
    return s->depth;
}

/* The one that was made last, while somebody uses it. */
static call_stack *last_stack;

static bool is_stack(const call_stack *s, PyObject *const *code, const int *at, int n)
{
    if (s->n != n)
        return false;
    for (int i = 0; i < n; i++)
        if (s->frame[i].code != code[i] || s->frame[i].at != at[i])
            return false;
    return true;
}

call_stack *state_stack(PyThreadState *ts, int most)
{
    PyObject *code[STATE_STACK_MOST];
    int at[STATE_STACK_MOST], n = 0;
#if PY_VERSION_HEX < 0x030B0000
    for (PyFrameObject *f = ts->frame; f && n < most; f = f->f_back) {
        code[n] = (PyObject *)f->f_code;
        at[n++] = f->f_lasti * (int)sizeof(_Py_CODEUNIT);
    }
#else
#if HAS_CFRAME
    struct _PyInterpreterFrame *f = ts->cframe->current_frame;
#else
    struct _PyInterpreterFrame *f = ts->current_frame;
#endif
    for (; f && n < most; f = f->previous) {
#if PY_VERSION_HEX >= 0x030C0000
        if (f->owner == FRAME_OWNED_BY_CSTACK)
            continue;
#endif
#if PY_VERSION_HEX >= 0x030D0000
        code[n] = f->f_executable;
#else
        code[n] = (PyObject *)f->f_code;
#endif
        if (PyCode_Check(code[n])) {
            at[n] = _PyInterpreterFrame_LASTI(f) * (int)sizeof(_Py_CODEUNIT);
            n++;
        }
    }
#endif
    if (last_stack && is_stack(last_stack, code, at, n)) {
        last_stack->users++;
        return last_stack;
    }
    call_stack *s = PyMem_Malloc(sizeof *s + (size_t)n * sizeof s->frame[0]);
    if (!s) {
        PyErr_NoMemory();
        return NULL;
    }
    s->users = 1;
    s->n = n;
    for (int i = 0; i < n; i++) {
        s->frame[i].code = Py_NewRef(code[i]);
        s->frame[i].at = at[i];
    }
    last_stack = s;
    return s;
}

void state_stack_release(call_stack *s)
{
    if (--s->users > 0)
        return;
    if (last_stack == s)
        last_stack = NULL;
    for (int i = 0; i < s->n; i++)
        Py_DECREF(s->frame[i].code);
    PyMem_Free(s);
}

int state_trash(PyThreadState *ts)
{
#if PY_VERSION_HEX < 0x030C0000
    return ts->trash_delete_nesting;
#elif HAS_TRASH_NESTING
    return ts->trash.delete_nesting;
#else
    (void)ts;
    return 0;
#endif
}
