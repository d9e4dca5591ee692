/* RawGreenlet: what spawn_raw makes, a greenlet that the hub starts and that knows its spawner. */

#include "task.h"

typedef struct {
    green g;
    PyObject *spawner, *tree;
} raw;

/* A raw greenlet that the hub starts. */
PyObject *py_spawn_raw(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    if (n < 1 || !PyCallable_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "function must be callable");
        return NULL;
    }
    thread *th = thread_get();
    green *hub = th ? thread_hub(th) : NULL;
    if (!hub)
        return NULL;
    PyTypeObject *type = &raw_type;
    green *g = (green *)green_new(type, NULL, NULL);
    if (!g)
        return NULL;
    if (unlikely(inherit_context) && take_context(g) < 0) {
        Py_DECREF(g);
        return NULL;
    }
    if (track_tree) {
        green *me = th->current;
        raw *r = (raw *)g;
        if (!(r->spawner = PyWeakref_NewRef((PyObject *)me, NULL))) {
            Py_DECREF(g);
            return NULL;
        }
        if (me->kind == TASK) {
            task *mine = (task *)me;
            if (!mine->tree && !(mine->tree = PyDict_New())) {
                Py_DECREF(g);
                return NULL;
            }
            r->tree = Py_NewRef(mine->tree);
        }
    }
    Py_XSETREF(g->parent, Py_NewRef((PyObject *)hub));
    g->run = Py_NewRef(args[0]);
    g->inbox = PyTuple_New(n - 1);
    for (Py_ssize_t i = 1; g->inbox && i < n; i++)
        PyTuple_SET_ITEM(g->inbox, i - 1, Py_NewRef(args[i]));
    if (names) {
        g->keywords = PyDict_New();
        for (Py_ssize_t i = 0; g->keywords && i < PyTuple_GET_SIZE(names); i++)
            if (PyDict_SetItem(g->keywords, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
                Py_CLEAR(g->keywords);
    }
    if (!g->inbox || (names && !g->keywords) || green_start(th, g) < 0) {
        Py_DECREF(g);
        return NULL;
    }
    return (PyObject *)g;
}

static PyObject *raw_get_loop(PyObject *self, void *c)
{
    (void)c;
    green *g = (green *)self;
    if (!g->th || !g->th->hub)
        Py_RETURN_NONE;
    return PyObject_GetAttrString((PyObject *)g->th->hub, "loop");
}

static PyObject *raw_get_tree(PyObject *self, void *c)
{
    (void)c;
    raw *r = (raw *)self;
    if (!r->tree && !(r->tree = PyDict_New()))
        return NULL;
    return Py_NewRef(r->tree);
}

static int raw_clear(PyObject *self)
{
    Py_CLEAR(((raw *)self)->spawner);
    Py_CLEAR(((raw *)self)->tree);
    return green_clear(self);
}

static int raw_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((raw *)self)->tree);
    return green_traverse(self, visit, arg);
}

static void raw_dealloc(PyObject *self)
{
    if (green_dealloc_begin(self))
        return;
    PyObject_GC_UnTrack(self);
    if (((green *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    raw_clear(self);
    green_leave_thread((green *)self);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef raw_members[] = {
    {"spawning_greenlet", T_OBJECT, offsetof(raw, spawner), 0, "A weak reference to who made it."},
    {NULL}};

static PyGetSetDef raw_getset[] = {
    {"loop", raw_get_loop, NULL, "The hub's loop.", NULL},
    {"spawn_tree_locals", raw_get_tree, NULL, "A dict that all greenlets of one tree share.", NULL},
    {NULL}};

PyTypeObject raw_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.RawGreenlet",
    .tp_base = &green_type,
    .tp_basicsize = sizeof(raw),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "What spawn_raw makes: a greenlet with a loop.",
    .tp_dealloc = raw_dealloc,
    .tp_traverse = raw_traverse,
    .tp_clear = raw_clear,
    .tp_members = raw_members,
    .tp_getset = raw_getset,
};
