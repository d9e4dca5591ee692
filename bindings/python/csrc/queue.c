/* SimpleQueue, Queue, LifoQueue, PriorityQueue.
 *
 * Items lie in a ring (first in first out) or in a list (the others). A program that looks at the
 * attribute `queue` gets the very container that is used from then on, a deque or that list; and a
 * subclass that defines _init, _qsize, _get, _put, _peek or _create_queue has them called. */

#include "sync.h"

enum { FIFO, LIFO, PRIORITY };

typedef struct {
    linkable l; /* getters are in its list */
    nodelist putters, joiners;
    Py_ssize_t maxsize; /* -1: none */
    uint8_t kind;
    bool hooked;    /* by a subclass */
    bool tasks;     /* a Queue: counts what is unfinished */
    bool shut;
    PyObject **ring;
    size_t head, tail, mask; /* mask 0: no ring */
    PyObject *store; /* what `queue` is, once it exists */
    Py_ssize_t unfinished;
    PyObject *dict;
} queue;

static PyTypeObject simple_type, lifo_type, priority_type;
static PyObject *Empty, *Full, *ShutDown;
static PyObject *deque_type, *heappush, *heappop, *heapify;
static PyObject *str_put, *str_get, *str_qsize, *str_peek, *str_init, *str_create, *str_append, *str_popleft;

/* ---- items ---- */

static int ring_push(queue *q, PyObject *item)
{
    if (unlikely(q->tail - q->head > q->mask || !q->ring)) {
        size_t size = q->ring ? 2 * (q->mask + 1) : 8, n = q->tail - q->head;
        PyObject **ring = PyMem_Malloc(size * sizeof *ring);
        if (!ring) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < n; i++)
            ring[i] = q->ring[(q->head + i) & q->mask];
        PyMem_Free(q->ring);
        q->ring = ring;
        q->mask = size - 1;
        q->head = 0;
        q->tail = n;
    }
    q->ring[q->tail++ & q->mask] = Py_NewRef(item);
    return 0;
}

static int store_make(queue *q)
{
    if (q->store)
        return 0;
    if (q->kind != FIFO)
        return (q->store = PyList_New(0)) ? 0 : -1;
    PyObject *d = PyObject_CallNoArgs(deque_type);
    while (d && q->head != q->tail) {
        PyObject *item = q->ring[q->head++ & q->mask];
        PyObject *r = PyObject_CallMethodOneArg(d, str_append, item);
        Py_DECREF(item);
        if (!r)
            Py_CLEAR(d);
        Py_XDECREF(r);
    }
    q->store = d;
    return d ? 0 : -1;
}

static Py_ssize_t base_qsize(queue *q)
{
    if (q->store)
        return PyObject_Size(q->store);
    return (Py_ssize_t)(q->tail - q->head);
}

static int base_put(queue *q, PyObject *item)
{
    PyObject *r;
    switch (q->kind) {
    case FIFO:
        if (likely(!q->store)) {
            if (ring_push(q, item) < 0)
                return -1;
            break;
        }
        r = PyObject_CallMethodOneArg(q->store, str_append, item);
        if (!r)
            return -1;
        Py_DECREF(r);
        break;
    case LIFO:
        if (store_make(q) < 0)
            return -1;
        if (PyList_CheckExact(q->store)) {
            if (PyList_Append(q->store, item) < 0)
                return -1;
        } else {
            r = PyObject_CallMethodOneArg(q->store, str_append, item);
            if (!r)
                return -1;
            Py_DECREF(r);
        }
        break;
    default:
        if (store_make(q) < 0)
            return -1;
        r = PyObject_CallFunctionObjArgs(heappush, q->store, item, NULL);
        if (!r)
            return -1;
        Py_DECREF(r);
    }
    if (q->tasks)
        q->unfinished++;
    return 0;
}

static PyObject *base_get(queue *q)
{
    if (q->kind == FIFO) {
        if (likely(!q->store)) {
            if (q->head == q->tail) {
                PyErr_SetString(PyExc_IndexError, "get from an empty queue");
                return NULL;
            }
            return q->ring[q->head++ & q->mask];
        }
        return PyObject_CallMethodNoArgs(q->store, str_popleft);
    }
    if (store_make(q) < 0)
        return NULL;
    if (q->kind == PRIORITY)
        return PyObject_CallOneArg(heappop, q->store);
    if (PyList_CheckExact(q->store) && PyList_GET_SIZE(q->store)) {
        Py_ssize_t n = PyList_GET_SIZE(q->store);
        PyObject *item = Py_NewRef(PyList_GET_ITEM(q->store, n - 1));
        if (PyList_SetSlice(q->store, n - 1, n, NULL) < 0)
            Py_CLEAR(item);
        return item;
    }
    return PyObject_CallMethod(q->store, "pop", NULL);
}

static PyObject *base_peek(queue *q)
{
    if (q->kind == FIFO && !q->store) {
        if (q->head != q->tail)
            return Py_NewRef(q->ring[q->head & q->mask]);
        PyErr_SetString(PyExc_IndexError, "peek into an empty queue");
        return NULL;
    }
    if (store_make(q) < 0)
        return NULL;
    return PySequence_GetItem(q->store, q->kind == LIFO ? -1 : 0);
}

static Py_ssize_t q_size(queue *q)
{
    if (likely(!q->hooked))
        return base_qsize(q);
    PyObject *n = PyObject_CallMethodNoArgs((PyObject *)q, str_qsize);
    Py_ssize_t size = n ? PyLong_AsSsize_t(n) : -1;
    Py_XDECREF(n);
    return size;
}

static int q_put(queue *q, PyObject *item)
{
    if (likely(!q->hooked))
        return base_put(q, item);
    PyObject *r = PyObject_CallMethodOneArg((PyObject *)q, str_put, item);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

static PyObject *q_get(queue *q)
{
    return likely(!q->hooked) ? base_get(q) : PyObject_CallMethodNoArgs((PyObject *)q, str_get);
}

static PyObject *q_peek(queue *q)
{
    return likely(!q->hooked) ? base_peek(q) : PyObject_CallMethodNoArgs((PyObject *)q, str_peek);
}

/* ---- putting and getting ---- */

static PyObject *fail(PyObject *exception)
{
    PyErr_SetNone(exception);
    return NULL;
}

static int not_negative(int block, PyObject *timeout, int64_t *deadline)
{
    *deadline = WEALD_FOREVER;
    if (!timeout || timeout == Py_None)
        return 0;
    if (PyObject_TypeCheck(timeout, &timeout_type))
        return block ? deadline_from(timeout, deadline) : 0;
    int64_t ns;
    if (seconds_from(timeout, &ns) < 0)
        return -1;
    if (block && ns < 0) {
        PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
        return -1;
    }
    *deadline = ns <= 0 ? WEALD_NOW : weald_after(ns);
    return 0;
}

static void tell_getter(queue *q)
{
    if (q->l.links.first)
        list_wake_one(&q->l.links, (PyObject *)q);
}

static PyObject *queue_try_put(queue *q, PyObject *item, int block, PyObject *timeout)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return NULL;
    linkable_touch(&q->l, th);
    if (unlikely(q->shut))
        return fail(ShutDown);
    int64_t deadline;
    if (unlikely(timeout != NULL) && not_negative(block, timeout, &deadline) < 0)
        return NULL;
    if (likely(q->maxsize < 0) || q_size(q) < q->maxsize) {
        if (PyErr_Occurred() || q_put(q, item) < 0)
            return NULL;
        tell_getter(q);
        Py_RETURN_NONE;
    }
    if (!block || th->current->kind == HUB)
        return fail(Full);
    if (!timeout)
        deadline = WEALD_FOREVER;
    bool again = false;
    for (;;) {
        int outcome = linkable_wait(th, &q->l, &q->putters, deadline, "Queue.put()", again);
        if (outcome < 0)
            return NULL;
        if (q->shut)
            return fail(ShutDown);
        Py_ssize_t n = q_size(q);
        if (n < 0 && PyErr_Occurred())
            return NULL;
        if (q->maxsize < 0 || n < q->maxsize) {
            if (q_put(q, item) < 0)
                return NULL;
            tell_getter(q);
            Py_RETURN_NONE;
        }
        if (outcome == WAIT_TIMEOUT)
            return fail(Full);
        again = true;
    }
}

static PyObject *queue_try_get(queue *q, int block, PyObject *timeout, bool peek)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return NULL;
    linkable_touch(&q->l, th);
    int64_t deadline = WEALD_FOREVER;
    bool again = false;
    for (;;) {
        Py_ssize_t n = q_size(q);
        if (n > 0) {
            PyObject *item = peek ? q_peek(q) : q_get(q);
            if (!item)
                return NULL;
            if (peek) {
                if (again)
                    tell_getter(q);
            } else if (q->putters.first) {
                list_wake_one(&q->putters, (PyObject *)q);
            }
            return item;
        }
        if (n < 0 && PyErr_Occurred())
            return NULL;
        if (q->shut)
            return fail(ShutDown);
        if (!again && timeout && not_negative(block, timeout, &deadline) < 0)
            return NULL;
        if (!block || th->current->kind == HUB)
            return fail(Empty);
        int outcome = linkable_wait(th, &q->l, &q->l.links, deadline, "Queue.get()", again);
        if (outcome < 0)
            return NULL;
        if (outcome == WAIT_TIMEOUT && q_size(q) <= 0)
            return PyErr_Occurred() ? NULL : fail(Empty);
        again = true;
    }
}

static PyObject *queue_do_put(queue *q, PyObject *item, int block, PyObject *timeout)
{
    PyObject *r = queue_try_put(q, item, block, timeout);
    if (unlikely(timeout != NULL) && PyObject_TypeCheck(timeout, &timeout_type))
        timeout_release(timeout);
    return r;
}

static PyObject *queue_do_get(queue *q, int block, PyObject *timeout, bool peek)
{
    PyObject *r = queue_try_get(q, block, timeout, peek);
    if (unlikely(timeout != NULL) && PyObject_TypeCheck(timeout, &timeout_type))
        timeout_release(timeout);
    return r;
}

static PyObject *queue_put(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *item = NULL, *timeout = NULL;
    if (likely(n == 1 && !names))
        return queue_do_put((queue *)self, args[0], 1, NULL);
    if (parse_item_block("put", args, n, names, &item, &block, &timeout) < 0)
        return NULL;
    return queue_do_put((queue *)self, item, block, timeout);
}

static PyObject *queue_put_nowait(PyObject *self, PyObject *item)
{
    return queue_do_put((queue *)self, item, 0, NULL);
}

static PyObject *queue_get(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("get", args, n, names, "block", &block, &timeout) < 0)
        return NULL;
    return queue_do_get((queue *)self, block, timeout, false);
}

static PyObject *queue_get_nowait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return queue_do_get((queue *)self, 0, NULL, false);
}

static PyObject *queue_peek(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("peek", args, n, names, "block", &block, &timeout) < 0)
        return NULL;
    return queue_do_get((queue *)self, block, timeout, true);
}

static PyObject *queue_peek_nowait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return queue_do_get((queue *)self, 0, NULL, true);
}

static PyObject *queue_next(PyObject *self)
{
    PyObject *item = queue_do_get((queue *)self, 1, NULL, false);
    if (item == PyExc_StopIteration) {
        Py_DECREF(item);
        PyErr_SetNone(PyExc_StopIteration);
        return NULL;
    }
    return item;
}

static PyObject *queue_qsize(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_ssize_t n = q_size((queue *)self);
    return n < 0 && PyErr_Occurred() ? NULL : PyLong_FromSsize_t(n);
}

static Py_ssize_t queue_len(PyObject *self)
{
    return q_size((queue *)self);
}

static int queue_bool(PyObject *self)
{
    (void)self;
    return 1;
}

static PyObject *queue_empty(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_ssize_t n = q_size((queue *)self);
    return n < 0 && PyErr_Occurred() ? NULL : PyBool_FromLong(n == 0);
}

static PyObject *queue_full(PyObject *self, PyObject *unused)
{
    (void)unused;
    queue *q = (queue *)self;
    if (q->maxsize <= 0)
        Py_RETURN_FALSE;
    Py_ssize_t n = q_size(q);
    return n < 0 && PyErr_Occurred() ? NULL : PyBool_FromLong(n >= q->maxsize);
}

/* ---- tasks, shutdown ---- */

static PyObject *queue_task_done(PyObject *self, PyObject *unused)
{
    (void)unused;
    queue *q = (queue *)self;
    if (q->unfinished <= 0) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    if (--q->unfinished == 0)
        list_wake_all(&q->joiners, self);
    Py_RETURN_NONE;
}

static PyObject *queue_join(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t deadline;
    queue *q = (queue *)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:join", names, &timeout) ||
        deadline_from(timeout, &deadline) < 0)
        return NULL;
    thread *th = thread_get();
    if (!th)
        return NULL;
    linkable_touch(&q->l, th);
    if (q->unfinished == 0)
        Py_RETURN_TRUE;
    int outcome = linkable_wait(th, &q->l, &q->joiners, deadline, "Queue.join()", false);
    outcome = deadline_end(outcome, timeout);
    if (outcome < 0)
        return NULL;
    return PyBool_FromLong(outcome == WAIT_WOKEN || q->unfinished == 0);
}

static PyObject *queue_shutdown(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"immediate", NULL};
    int immediate = 0;
    queue *q = (queue *)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|p:shutdown", names, &immediate))
        return NULL;
    q->shut = true;
    Py_ssize_t n;
    while (immediate && (n = q_size(q)) > 0) {
        PyObject *item = q_get(q);
        if (!item)
            return NULL;
        Py_DECREF(item);
        if (q->unfinished > 0)
            q->unfinished--;
    }
    if (PyErr_Occurred())
        return NULL;
    if (q->unfinished == 0)
        list_wake_all(&q->joiners, self);
    list_wake_all(&q->l.links, self);
    list_wake_all(&q->putters, self);
    Py_RETURN_NONE;
}

/* ---- hooks, as a subclass may call them ---- */

static PyObject *hook_init(PyObject *self, PyObject *args)
{
    PyObject *maxsize = NULL, *items = NULL;
    queue *q = (queue *)self;
    if (!PyArg_UnpackTuple(args, "_init", 0, 2, &maxsize, &items))
        return NULL;
    if (q->hooked) {
        PyObject *store = items ? PyObject_CallMethodOneArg(self, str_create, items)
                                : PyObject_CallMethodNoArgs(self, str_create);
        if (!store)
            return NULL;
        Py_XSETREF(q->store, store);
        Py_RETURN_NONE;
    }
    if (!items)
        Py_RETURN_NONE;
    PyObject *all = PySequence_List(items);
    if (!all)
        return NULL;
    if (q->kind == FIFO) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all); i++)
            if (ring_push(q, PyList_GET_ITEM(all, i)) < 0) {
                Py_DECREF(all);
                return NULL;
            }
        Py_DECREF(all);
        Py_RETURN_NONE;
    }
    if (q->kind == PRIORITY) {
        PyObject *r = PyObject_CallOneArg(heapify, all);
        if (!r) {
            Py_DECREF(all);
            return NULL;
        }
        Py_DECREF(r);
    }
    Py_XSETREF(q->store, all);
    Py_RETURN_NONE;
}

static PyObject *hook_create(PyObject *self, PyObject *args)
{
    queue *q = (queue *)self;
    PyObject *items = NULL;
    if (!PyArg_UnpackTuple(args, "_create_queue", 0, 1, &items))
        return NULL;
    if (q->kind == FIFO)
        return items ? PyObject_CallOneArg(deque_type, items) : PyObject_CallNoArgs(deque_type);
    PyObject *all = items ? PySequence_List(items) : PyList_New(0);
    if (all && q->kind == PRIORITY) {
        PyObject *r = PyObject_CallOneArg(heapify, all);
        if (!r)
            Py_CLEAR(all);
        Py_XDECREF(r);
    }
    return all;
}

static PyObject *hook_put(PyObject *self, PyObject *item)
{
    if (base_put((queue *)self, item) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *hook_get(PyObject *self, PyObject *unused)
{
    (void)unused;
    return base_get((queue *)self);
}

static PyObject *hook_peek(PyObject *self, PyObject *unused)
{
    (void)unused;
    return base_peek((queue *)self);
}

static PyObject *hook_qsize(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_ssize_t n = base_qsize((queue *)self);
    return n < 0 ? NULL : PyLong_FromSsize_t(n);
}

/* ---- the types ---- */

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    queue *q = (queue *)linkable_new(type, NULL, NULL);
    if (!q)
        return NULL;
    q->maxsize = -1;
    q->kind = PyType_IsSubtype(type, &lifo_type) ? LIFO : PyType_IsSubtype(type, &priority_type) ? PRIORITY : FIFO;
    q->tasks = PyType_IsSubtype(type, &queue_type);
    if (type->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        PyObject *hooks[] = {str_put, str_get, str_qsize, str_peek, str_init, str_create};
        for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
            if (_PyType_Lookup(type, hooks[i]) != _PyType_Lookup(&simple_type, hooks[i]))
                q->hooked = true;
    }
    return (PyObject *)q;
}

static int set_maxsize(queue *q, PyObject *maxsize)
{
    q->maxsize = -1;
    if (!maxsize || maxsize == Py_None)
        return 0;
    Py_ssize_t n = PyNumber_AsSsize_t(maxsize, PyExc_OverflowError);
    if (n == -1 && PyErr_Occurred())
        return -1;
    if (n > 0)
        q->maxsize = n;
    return n == 0;
}

static int queue_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"maxsize", "items", "unfinished_tasks", NULL};
    PyObject *maxsize = NULL, *items = NULL, *unfinished = NULL;
    queue *q = (queue *)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OOO:Queue", names, &maxsize, &items, &unfinished))
        return -1;
    int zero = set_maxsize(q, maxsize);
    if (zero < 0)
        return -1;
    if (zero && PyErr_WarnEx(PyExc_DeprecationWarning,
                             "Queue(0) now equivalent to Queue(None); if you want a channel, use Channel", 1) < 0)
        return -1;
    int any = items ? PyObject_IsTrue(items) : 0;
    if (any < 0)
        return -1;
    if (q->hooked || any) {
        if (!maxsize)
            maxsize = Py_None;
        PyObject *r = any ? PyObject_CallMethodObjArgs(self, str_init, maxsize, items, NULL)
                          : PyObject_CallMethodObjArgs(self, str_init, maxsize, NULL);
        if (!r)
            return -1;
        Py_DECREF(r);
    }
    if (q->tasks) {
        int given = unfinished ? PyObject_IsTrue(unfinished) : 0;
        if (given < 0)
            return -1;
        q->unfinished = given ? PyLong_AsSsize_t(unfinished) : any ? PyObject_Size(items) : 0;
        if (q->unfinished < 0)
            return -1;
    }
    return 0;
}

static int queue_tp_clear(PyObject *self)
{
    queue *q = (queue *)self;
    while (q->head != q->tail)
        Py_DECREF(q->ring[q->head++ & q->mask]);
    Py_CLEAR(q->store);
    return linkable_clear(self);
}

static int queue_traverse(PyObject *self, visitproc visit, void *arg)
{
    queue *q = (queue *)self;
    for (size_t i = q->head; i != q->tail; i++)
        Py_VISIT(q->ring[i & q->mask]);
    Py_VISIT(q->store);
    return linkable_traverse(self, visit, arg);
}

static void queue_dealloc(PyObject *self)
{
    queue *q = (queue *)self;
    linkable_dealloc_begin(self);
    queue_tp_clear(self);
    PyMem_Free(q->ring);
    q->ring = NULL;
    Py_TYPE(self)->tp_free(self);
}

static PyObject *queue_get_store(PyObject *self, void *c)
{
    (void)c;
    queue *q = (queue *)self;
    if (store_make(q) < 0)
        return NULL;
    return Py_NewRef(q->store);
}

static int queue_set_store(PyObject *self, PyObject *store, void *c)
{
    (void)c;
    queue *q = (queue *)self;
    while (q->head != q->tail)
        Py_DECREF(q->ring[q->head++ & q->mask]);
    Py_XINCREF(store);
    Py_XSETREF(q->store, store);
    return 0;
}

static PyObject *queue_get_maxsize(PyObject *self, void *c)
{
    (void)c;
    queue *q = (queue *)self;
    if (q->maxsize <= 0)
        Py_RETURN_NONE;
    return PyLong_FromSsize_t(q->maxsize);
}

static int queue_set_maxsize(PyObject *self, PyObject *maxsize, void *c)
{
    (void)c;
    queue *q = (queue *)self;
    if (set_maxsize(q, maxsize) < 0)
        return -1;
    while (q->putters.first && (q->maxsize < 0 || q_size(q) < q->maxsize)) {
        Py_ssize_t left = q->maxsize < 0 ? q->putters.len : q->maxsize - q_size(q);
        while (left-- > 0 && q->putters.first)
            list_wake_one(&q->putters, self);
        break;
    }
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *queue_get_list(PyObject *self, void *c)
{
    queue *q = (queue *)self;
    return list_as_list(c ? &q->putters : &q->l.links);
}

static PyObject *queue_repr(PyObject *self)
{
    return PyObject_CallMethod(self, "_repr", NULL);
}

static PyObject *queue_str(PyObject *self)
{
    return PyObject_CallMethod(self, "_str", NULL);
}

static PyMethodDef simple_methods[] = {
    {"put", WITH_KEYWORDS(queue_put), METH_FASTCALL | METH_KEYWORDS,
     TEXT("put($self, item, block=True, timeout=None)", "Waits for room; Full when there is none in time.")},
    {"put_nowait", queue_put_nowait, METH_O, TEXT("put_nowait($self, item, /)", "put(item, block=False)")},
    {"get", WITH_KEYWORDS(queue_get), METH_FASTCALL | METH_KEYWORDS,
     TEXT("get($self, block=True, timeout=None)", "Waits for an item; Empty when there is none in time.")},
    {"get_nowait", queue_get_nowait, METH_NOARGS, TEXT("get_nowait($self, /)", "get(block=False)")},
    {"peek", WITH_KEYWORDS(queue_peek), METH_FASTCALL | METH_KEYWORDS,
     TEXT("peek($self, block=True, timeout=None)", "As get, and leaves the item there.")},
    {"peek_nowait", queue_peek_nowait, METH_NOARGS, TEXT("peek_nowait($self, /)", "peek(block=False)")},
    {"qsize", queue_qsize, METH_NOARGS, TEXT("qsize($self, /)", "How many items there are.")},
    {"empty", queue_empty, METH_NOARGS, TEXT("empty($self, /)", "Whether there is none.")},
    {"full", queue_full, METH_NOARGS, TEXT("full($self, /)", "Whether there is no room.")},
    {"_init", hook_init, METH_VARARGS, NULL},
    {"_create_queue", hook_create, METH_VARARGS, NULL},
    {"_put", hook_put, METH_O, NULL},
    {"_get", hook_get, METH_NOARGS, NULL},
    {"_peek", hook_peek, METH_NOARGS, NULL},
    {"_qsize", hook_qsize, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL}};

static PyGetSetDef simple_getset[] = {
    {"queue", queue_get_store, queue_set_store, "The items: a deque, or a list.", NULL},
    {"maxsize", queue_get_maxsize, queue_set_maxsize, "How many items it takes; None: any number.", NULL},
    {"getters", queue_get_list, NULL, "Who waits for an item.", NULL},
    {"putters", queue_get_list, NULL, "Who waits for room.", (void *)1},
    {NULL}};

static PyMemberDef simple_members[] = {
    {"is_shutdown", T_BOOL, offsetof(queue, shut), 0, NULL},
    {"_maxsize", T_PYSSIZET, offsetof(queue, maxsize), READONLY, NULL},
    {NULL}};

static PySequenceMethods queue_sequence = {.sq_length = queue_len};
static PyNumberMethods queue_number = {.nb_bool = queue_bool};

static PyTypeObject simple_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.queue.SimpleQueue",
    .tp_base = &linkable_type,
    .tp_basicsize = sizeof(queue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "SimpleQueue(maxsize=None, items=()): first in, first out.",
    .tp_new = queue_new,
    .tp_init = queue_init,
    .tp_dealloc = queue_dealloc,
    .tp_traverse = queue_traverse,
    .tp_clear = queue_tp_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = queue_next,
    .tp_repr = queue_repr,
    .tp_str = queue_str,
    .tp_methods = simple_methods,
    .tp_members = simple_members,
    .tp_getset = simple_getset,
    .tp_as_sequence = &queue_sequence,
    .tp_as_number = &queue_number,
};

static PyMethodDef queue_methods[] = {
    {"task_done", queue_task_done, METH_NOARGS,
     TEXT("task_done($self, /)", "Says that one item that was got has been dealt with.")},
    {"join", WITH_KEYWORDS(queue_join), METH_VARARGS | METH_KEYWORDS,
     TEXT("join($self, timeout=None)", "Waits until all have been dealt with; whether they have.")},
    {"shutdown", WITH_KEYWORDS(queue_shutdown), METH_VARARGS | METH_KEYWORDS,
     TEXT("shutdown($self, immediate=False)", "From now on put raises ShutDown, and get when it is empty.")},
    {NULL}};

static PyMemberDef queue_members[] = {{"unfinished_tasks", T_PYSSIZET, offsetof(queue, unfinished), 0, NULL}, {NULL}};

PyTypeObject queue_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.queue.Queue",
    .tp_base = &simple_type,
    .tp_methods = queue_methods,
    .tp_members = queue_members,
    .tp_basicsize = sizeof(queue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Queue(maxsize=None, items=(), unfinished_tasks=None): first in, first out; counts tasks.",
    .tp_new = queue_new,
    .tp_init = queue_init,
    .tp_dealloc = queue_dealloc,
    .tp_traverse = queue_traverse,
    .tp_clear = queue_tp_clear,
};

static PyTypeObject lifo_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.queue.LifoQueue",
    .tp_base = &queue_type,
    .tp_basicsize = sizeof(queue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Last in, first out.",
    .tp_new = queue_new,
    .tp_init = queue_init,
    .tp_dealloc = queue_dealloc,
    .tp_traverse = queue_traverse,
    .tp_clear = queue_tp_clear,
};

static PyTypeObject priority_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.queue.PriorityQueue",
    .tp_base = &queue_type,
    .tp_basicsize = sizeof(queue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The least item first.",
    .tp_new = queue_new,
    .tp_init = queue_init,
    .tp_dealloc = queue_dealloc,
    .tp_traverse = queue_traverse,
    .tp_clear = queue_tp_clear,
};

static PyObject *py_set_exceptions(PyObject *self, PyObject *args)
{
    PyObject *e, *f, *s;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO:_set_queue_exceptions", &e, &f, &s))
        return NULL;
    Py_INCREF(e);
    Py_XSETREF(Empty, e);
    Py_INCREF(f);
    Py_XSETREF(Full, f);
    Py_INCREF(s);
    Py_XSETREF(ShutDown, s);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"_set_queue_exceptions", py_set_exceptions, METH_VARARGS, NULL}, {NULL}};

static PyObject *import(const char *module, const char *name)
{
    PyObject *m = PyImport_ImportModule(module);
    PyObject *o = m ? PyObject_GetAttrString(m, name) : NULL;
    Py_XDECREF(m);
    return o;
}

int init_queue(PyObject *m)
{
    const char *names[] = {"_put", "_get", "_qsize", "_peek", "_init", "_create_queue", "append", "popleft"};
    PyObject **strings[] = {&str_put, &str_get, &str_qsize, &str_peek, &str_init, &str_create, &str_append, &str_popleft};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*strings[i] = PyUnicode_InternFromString(names[i])))
            return -1;
    if (!(deque_type = import("_collections", "deque")) || !(heappush = import("_heapq", "heappush")) ||
        !(heappop = import("_heapq", "heappop")) || !(heapify = import("_heapq", "heapify")) ||
        !(Empty = import("_queue", "Empty")))
        return -1;
    Full = Py_NewRef(PyExc_RuntimeError);
    ShutDown = Py_NewRef(PyExc_RuntimeError);
    struct {
        const char *name;
        PyTypeObject *type;
    } all[] = {{"SimpleQueue", &simple_type}, {"Queue", &queue_type}, {"LifoQueue", &lifo_type}, {"PriorityQueue", &priority_type}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (PyType_Ready(all[i].type) < 0 || PyModule_AddObjectRef(m, all[i].name, (PyObject *)all[i].type) < 0)
            return -1;
    return PyModule_AddFunctions(m, functions);
}
