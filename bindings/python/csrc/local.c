/* local: attributes that each greenlet has for itself.
 *
 * The object's __dict__ is exchanged for the current greenlet's when somebody looks. The dicts are
 * the object's, by greenlet; a greenlet knows of which objects it has one, and takes its dicts away
 * when it ends. */

#include "sync.h"

typedef struct {
    PyObject_HEAD
    PyObject *dict;  /* of `whose` */
    green *whose;    /* borrowed: it takes itself away */
    PyObject *dicts; /* id of a greenlet -> dict */
    PyObject *args, *kwargs;
    PyObject *weakrefs;
} local;

static PyTypeObject local_type;

/* In a greenlet that has ended, or is about to go. */
void local_forget(green *g)
{
    PyObject *all = g->locals;
    if (!all)
        return;
    g->locals = NULL;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    PyObject *key = PyLong_FromVoidPtr(g);
    for (Py_ssize_t i = 0; key && i < PyList_GET_SIZE(all); i++) {
#if PY_VERSION_HEX >= 0x030D0000
        PyObject *o = NULL;
        PyWeakref_GetRef(PyList_GET_ITEM(all, i), &o);
        if (!o)
            continue;
        local *l = (local *)o;
#else
        local *l = (local *)PyWeakref_GET_OBJECT(PyList_GET_ITEM(all, i));
        if ((PyObject *)l == Py_None)
            continue;
        Py_INCREF(l);
#endif
        if (l->whose == g) {
            l->whose = NULL;
            Py_CLEAR(l->dict);
        }
        if (l->dicts && PyDict_DelItem(l->dicts, key) < 0)
            PyErr_Clear();
        Py_DECREF(l);
    }
    Py_XDECREF(key);
    Py_DECREF(all);
    PyErr_Restore(t, v, tb);
}

/* Makes an empty dict for `g` and puts it in place. */
static int add_dict(local *l, green *g, PyObject *key)
{
    PyObject *dict = PyDict_New(), *ref = dict ? PyWeakref_NewRef((PyObject *)l, NULL) : NULL;
    if (!ref || (!g->locals && !(g->locals = PyList_New(0))) || PyList_Append(g->locals, ref) < 0 ||
        PyDict_SetItem(l->dicts, key, dict) < 0) {
        Py_XDECREF(dict);
        Py_XDECREF(ref);
        return -1;
    }
    Py_DECREF(ref);
    l->whose = g;
    Py_XSETREF(l->dict, dict);
    return 0;
}

static int change(local *l, thread *th)
{
    green *g = th->current;
    PyObject *key = PyLong_FromVoidPtr(g);
    if (!key)
        return -1;
    PyObject *dict = PyDict_GetItemWithError(l->dicts, key);
    if (dict) {
        l->whose = g;
        Py_INCREF(dict);
        Py_XSETREF(l->dict, dict);
        Py_DECREF(key);
        return 0;
    }
    int failed = PyErr_Occurred() || add_dict(l, g, key) < 0;
    Py_DECREF(key);
    if (failed)
        return -1;
    PyTypeObject *type = Py_TYPE(l);
    if (type->tp_init != PyBaseObject_Type.tp_init && type->tp_init((PyObject *)l, l->args, l->kwargs) < 0) {
        /* As if nobody had looked. */
        PyObject *t, *v, *tb;
        PyErr_Fetch(&t, &v, &tb);
        key = PyLong_FromVoidPtr(g);
        if (!key || PyDict_DelItem(l->dicts, key) < 0)
            PyErr_Clear();
        Py_XDECREF(key);
        l->whose = NULL;
        Py_CLEAR(l->dict);
        PyErr_Restore(t, v, tb);
        return -1;
    }
    /* That may have switched. */
    return l->whose == th->current ? 0 : change(l, th);
}

static inline int here(local *l)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return -1;
    return likely(l->whose == th->current) ? 0 : change(l, th);
}

static PyObject *local_getattro(PyObject *self, PyObject *name)
{
    if (here((local *)self) < 0)
        return NULL;
    return PyObject_GenericGetAttr(self, name);
}

static int local_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    if (here((local *)self) < 0)
        return -1;
    if (PyUnicode_CompareWithASCIIString(name, "__dict__") == 0) {
        PyErr_Format(PyExc_AttributeError, "'%s' object attribute '__dict__' is read-only", Py_TYPE(self)->tp_name);
        return -1;
    }
    return PyObject_GenericSetAttr(self, name, value);
}

static PyObject *local_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (type->tp_init == PyBaseObject_Type.tp_init &&
        (PyTuple_GET_SIZE(args) || (keywords && PyDict_GET_SIZE(keywords)))) {
        PyErr_SetString(PyExc_TypeError, "Initialization arguments are not supported");
        return NULL;
    }
    thread *th = thread_get();
    local *l = th ? (local *)type->tp_alloc(type, 0) : NULL;
    if (!l)
        return NULL;
    l->args = Py_NewRef(args);
    l->kwargs = Py_XNewRef(keywords);
    PyObject *key = (l->dicts = PyDict_New()) ? PyLong_FromVoidPtr(th->current) : NULL;
    if (!key || add_dict(l, th->current, key) < 0) {
        Py_XDECREF(key);
        Py_DECREF(l);
        return NULL;
    }
    Py_DECREF(key);
    return (PyObject *)l;
}

static PyObject *local_copy(PyObject *self, PyObject *unused)
{
    (void)unused;
    local *l = (local *)self;
    if (here(l) < 0)
        return NULL;
    PyObject *new = PyObject_Call((PyObject *)Py_TYPE(self), l->args, l->kwargs);
    if (!new)
        return NULL;
    if (here((local *)new) < 0 || here(l) < 0 || !l->dict || !((local *)new)->dict)
        goto failed;
    PyDict_Clear(((local *)new)->dict);
    if (PyDict_Update(((local *)new)->dict, l->dict) < 0)
        goto failed;
    return new;
failed:
    Py_DECREF(new);
    return NULL;
}

static PyObject *local_get_dict(PyObject *self, void *closure)
{
    (void)closure;
    local *l = (local *)self;
    return here(l) < 0 ? NULL : Py_NewRef(l->dict);
}

static PyObject *local_get_impl(PyObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(((local *)self)->dicts);
}

static int local_clear(PyObject *self)
{
    local *l = (local *)self;
    l->whose = NULL;
    Py_CLEAR(l->dict);
    Py_CLEAR(l->dicts);
    Py_CLEAR(l->args);
    Py_CLEAR(l->kwargs);
    return 0;
}

static int local_traverse(PyObject *self, visitproc visit, void *arg)
{
    local *l = (local *)self;
    Py_VISIT(l->dict);
    Py_VISIT(l->dicts);
    Py_VISIT(l->args);
    Py_VISIT(l->kwargs);
    return 0;
}

static void local_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (((local *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    local_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef local_methods[] = {
    {"__copy__", local_copy, METH_NOARGS, NULL},
    {NULL}};

static PyGetSetDef local_getset[] = {
    {"__dict__", local_get_dict, NULL, NULL, NULL},
    {"_local_dicts", local_get_impl, NULL, NULL, NULL},
    {NULL}};

static PyTypeObject local_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.local.local",
    .tp_basicsize = sizeof(local),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "An object whose attributes each greenlet has for itself.",
    .tp_new = local_new,
    .tp_dealloc = local_dealloc,
    .tp_traverse = local_traverse,
    .tp_clear = local_clear,
    .tp_getattro = local_getattro,
    .tp_setattro = local_setattro,
    .tp_methods = local_methods,
    .tp_getset = local_getset,
    .tp_dictoffset = offsetof(local, dict),
    .tp_weaklistoffset = offsetof(local, weakrefs),
};

/* [((type, id), dict), ...] of the objects that `g` has values in. */
static PyObject *py_local_dicts(PyObject *self, PyObject *o)
{
    (void)self;
    PyObject *out = PyList_New(0);
    green *g = (green *)o;
    if (!out || !is_green(o) || !g->locals)
        return out;
    PyObject *key = PyLong_FromVoidPtr(g);
    for (Py_ssize_t i = 0; key && i < PyList_GET_SIZE(g->locals); i++) {
        PyObject *l = PyObject_CallNoArgs(PyList_GET_ITEM(g->locals, i));
        if (!l)
            break;
        if (l != Py_None) {
            PyObject *dict = PyDict_GetItemWithError(((local *)l)->dicts, key);
            PyObject *one = dict ? Py_BuildValue("((ON)O)", (PyObject *)Py_TYPE(l), PyLong_FromVoidPtr(l), dict) : NULL;
            if (one)
                PyList_Append(out, one);
            Py_XDECREF(one);
        }
        Py_DECREF(l);
    }
    Py_XDECREF(key);
    return out;
}

static PyMethodDef functions[] = {{"local_dicts", py_local_dicts, METH_O, "What a greenlet has in local objects."}, {NULL}};

int init_local(PyObject *m)
{
    if (PyType_Ready(&local_type) < 0 || PyModule_AddObjectRef(m, "local", (PyObject *)&local_type) < 0)
        return -1;
    return PyModule_AddFunctions(m, functions);
}
