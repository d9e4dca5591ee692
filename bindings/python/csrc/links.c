/* Lists of who waits for something and of callables that are told of it: see `node`. */

#include "green.h"

static node *node_new(PyObject *callable)
{
    node *n = PyMem_Malloc(sizeof *n);
    if (!n) {
        PyErr_NoMemory();
        return NULL;
    }
    n->prev = n->next = NULL;
    n->what = Py_NewRef(callable);
    return n;
}

static PyObject *notifier; /* calls the callables of a list */

static void list_notify(nodelist *l, PyObject *source)
{
    if (l->notified)
        return;
    thread *th = l->first->th;
    l->notified = true;
    /* The source itself is in the ring: its turn is to notify. */
    int failed = th == this_thread && th->hub ? hub_push(th, source) : hub_call_one(th, notifier, source);
    if (failed) {
        l->notified = false;
        PyErr_WriteUnraisable(source);
    }
}

/* False when something was thrown at it before: it raises that, and nothing is handed over here that would be lost. */
static bool wake_node(nodelist *l, node *n)
{
    green *g = (green *)n->what;
    list_remove(l, n);
    g->in_list = false;
    if (unlikely(g->pending != NULL) && !g->pending->source)
        return false;
    green_wake(g);
    return true;
}

/* In the hub: tells those behind the first link as well, in their order. A link may take out others,
 * or add some. */
PyObject *py_notify(PyObject *self, PyObject *source)
{
    (void)self;
    thread *th = this_thread;
    nodelist *l = list_of(source);
    Py_ssize_t greens = list_takers(source);
    l->notified = false;
    for (Py_ssize_t left = l->len; left > 0 && l->first && greens > 0; left--) {
        node *n = l->first;
        if (node_is_green(n)) {
            greens -= wake_node(l, n);
            continue;
        }
        if (n->th != th) {
            list_notify(l, source);
            break;
        }
        PyObject *f = n->what;
        list_remove(l, n);
        PyMem_Free(n);
        PyObject *r = PyObject_CallOneArg(f, source);
        if (!r) {
            PyObject *context = PyTuple_Pack(2, f, source);
            hub_handle_error(th, context ? context : Py_None);
            Py_XDECREF(context);
        }
        Py_XDECREF(r);
        Py_DECREF(f);
    }
    Py_RETURN_NONE;
}

void list_wake_one(nodelist *l, PyObject *source)
{
    while (l->first && node_is_green(l->first))
        if (likely(wake_node(l, l->first)))
            return;
    if (l->first)
        list_notify(l, source);
}

void list_wake_all(nodelist *l, PyObject *source)
{
    for (Py_ssize_t n = l->len; n > 0 && l->first && node_is_green(l->first); n--) {
        green *g = (green *)l->first->what;
        if (wake_node(l, l->first))
            g->how = TOLD;
    }
    if (l->links && !node_is_green(l->first))
        list_notify(l, source);
}

int list_link(nodelist *l, PyObject *callable)
{
    if (!PyCallable_Check(callable)) {
        PyErr_Format(PyExc_TypeError, "Expected callable: %R", callable);
        return -1;
    }
    thread *th = thread_get();
    node *n = th && thread_hub(th) ? node_new(callable) : NULL;
    if (!n)
        return -1;
    n->th = th;
    list_push(l, n);
    return 0;
}

void list_unlink(nodelist *l, PyObject *callable)
{
    for (node *n = l->first; n; n = n->next) {
        if (node_is_green(n))
            continue;
        int same = n->what == callable ? 1 : PyObject_RichCompareBool(n->what, callable, Py_EQ);
        if (same < 0)
            PyErr_Clear();
        if (same > 0) {
            list_remove(l, n);
            Py_DECREF(n->what);
            PyMem_Free(n);
            return;
        }
    }
}

/* Only callables: a greenlet that waits takes itself out. */
void list_clear(nodelist *l)
{
    node *next;
    for (node *n = l->first; n; n = next) {
        next = n->next;
        if (node_is_green(n))
            continue;
        list_remove(l, n);
        PyObject *what = n->what;
        PyMem_Free(n);
        Py_DECREF(what);
        next = l->first; /* that may have changed anything */
        if (next == NULL)
            break;
        while (next && node_is_green(next))
            next = next->next;
    }
}

PyObject *list_as_list(nodelist *l)
{
    PyObject *out = PyList_New(0);
    for (node *n = l->first; n && out; n = n->next) {
        PyObject *what = node_is_green(n) ? PyObject_GetAttrString(n->what, "switch") : Py_NewRef(n->what);
        if (!what || PyList_Append(out, what) < 0)
            Py_CLEAR(out);
        Py_XDECREF(what);
    }
    return out;
}

int list_traverse(nodelist *l, visitproc visit, void *arg)
{
    for (node *n = l->first; n; n = n->next)
        if (!node_is_green(n))
            Py_VISIT(n->what);
    return 0;
}

static PyMethodDef functions[] = {
    {"_notify", py_notify, METH_O, NULL},
    {NULL}};

int init_links(PyObject *m)
{
    if (PyModule_AddFunctions(m, functions) < 0)
        return -1;
    return (notifier = PyObject_GetAttrString(m, "_notify")) ? 0 : -1;
}
