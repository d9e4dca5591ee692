/* Waiter: what gevent's hub hands a value to a greenlet by. */

#include "core.h"

static PyObject *str_handle_error;

typedef struct {
    PyObject_HEAD
    PyObject *hub, *greenlet, *value, *exception; /* exception: NULL: nothing yet; None: a value */
    PyObject *weakrefs;
} waiter;

static int waiter_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"hub", NULL};
    PyObject *hub = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:Waiter", names, &hub))
        return -1;
    waiter *w = (waiter *)self;
    if (hub == Py_None) {
        thread *th = thread_get();
        hub = th ? (PyObject *)thread_hub(th) : NULL;
        if (!hub)
            return -1;
    }
    Py_INCREF(hub);
    Py_XSETREF(w->hub, hub);
    return 0;
}

static int waiter_clear(PyObject *self)
{
    waiter *w = (waiter *)self;
    Py_CLEAR(w->greenlet);
    Py_CLEAR(w->value);
    Py_CLEAR(w->exception);
    return 0;
}

static int waiter_tp_clear(PyObject *self)
{
    Py_CLEAR(((waiter *)self)->hub);
    return waiter_clear(self);
}

static int waiter_traverse(PyObject *self, visitproc visit, void *arg)
{
    waiter *w = (waiter *)self;
    Py_VISIT(w->hub);
    Py_VISIT(w->greenlet);
    Py_VISIT(w->value);
    Py_VISIT(w->exception);
    return 0;
}

static void waiter_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (((waiter *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    waiter_tp_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *waiter_m_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    waiter_clear(self);
    Py_RETURN_NONE;
}

static int waiter_in_hub(waiter *w)
{
    thread *th = thread_get();
    if (th && (PyObject *)th->current == w->hub)
        return 0;
    if (th)
        PyErr_SetString(PyExc_AssertionError, "Can only use Waiter.switch method from the Hub greenlet");
    return -1;
}

static PyObject *waiter_told(waiter *w, PyObject *method, PyObject *r)
{
    if (r) {
        Py_DECREF(r);
        Py_RETURN_NONE;
    }
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    PyErr_NormalizeException(&t, &v, &tb);
    r = PyObject_CallMethodObjArgs(w->hub, str_handle_error, method, t, v, tb ? tb : Py_None, NULL);
    Py_XDECREF(t);
    Py_XDECREF(v);
    Py_XDECREF(tb);
    return r;
}

static PyObject *waiter_switch(PyObject *self, PyObject *value)
{
    waiter *w = (waiter *)self;
    if (!w->greenlet) {
        Py_INCREF(value);
        Py_XSETREF(w->value, value);
        Py_XSETREF(w->exception, Py_NewRef(Py_None));
        Py_RETURN_NONE;
    }
    if (waiter_in_hub(w) < 0)
        return NULL;
    PyObject *f = PyObject_GetAttrString(w->greenlet, "switch");
    PyObject *r = f ? PyObject_CallOneArg(f, value) : NULL;
    r = waiter_told(w, f ? f : Py_None, r);
    Py_XDECREF(f);
    return r;
}

static PyObject *waiter_throw(PyObject *self, PyObject *args)
{
    waiter *w = (waiter *)self;
    if (!w->greenlet) {
        Py_INCREF(args);
        Py_XSETREF(w->exception, args);
        Py_RETURN_NONE;
    }
    if (waiter_in_hub(w) < 0)
        return NULL;
    PyObject *f = PyObject_GetAttrString(w->greenlet, "throw");
    PyObject *r = f ? PyObject_Call(f, args, NULL) : NULL;
    r = waiter_told(w, f ? f : Py_None, r);
    Py_XDECREF(f);
    return r;
}

static PyObject *waiter_get(PyObject *self, PyObject *unused)
{
    (void)unused;
    waiter *w = (waiter *)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (w->exception == Py_None)
        return Py_NewRef(w->value ? w->value : Py_None);
    if (w->exception) {
        PyObject *a[3] = {exc_exit, NULL, NULL};
        for (Py_ssize_t i = 0; i < 3 && i < PyTuple_GET_SIZE(w->exception); i++)
            a[i] = PyTuple_GET_ITEM(w->exception, i);
        throw_args(a[0], a[1], a[2]);
        return NULL;
    }
    if (w->greenlet)
        return PyErr_Format(exc_concurrent, "This Waiter is already used by %R", w->greenlet);
    w->greenlet = Py_NewRef((PyObject *)th->current);
    PyObject *r;
    if (likely(w->hub == (PyObject *)th->hub && Py_TYPE(th->current) == &task_type))
        r = green_wait_switch(th);
    else
        r = PyObject_CallMethod(w->hub, "switch", NULL);
    Py_CLEAR(w->greenlet);
    return r;
}

static PyObject *waiter_call(PyObject *self, PyObject *args, PyObject *keywords)
{
    PyObject *source;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O:Waiter", &source))
        return NULL;
    PyObject *e = PyObject_GetAttrString(source, "exception");
    if (!e)
        return NULL;
    PyObject *r = NULL;
    if (e == Py_None) {
        PyObject *v = PyObject_GetAttrString(source, "value");
        r = v ? waiter_switch(self, v) : NULL;
        Py_XDECREF(v);
    } else {
        PyObject *a = PyTuple_Pack(1, e);
        r = a ? waiter_throw(self, a) : NULL;
        Py_XDECREF(a);
    }
    Py_DECREF(e);
    return r;
}

static PyObject *waiter_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((waiter *)self)->exception != NULL);
}

static PyObject *waiter_successful(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((waiter *)self)->exception == Py_None);
}

static PyObject *waiter_exc_info(PyObject *self, void *closure)
{
    (void)closure;
    waiter *w = (waiter *)self;
    return Py_NewRef(w->exception ? w->exception : Py_None);
}

static PyObject *waiter_str(PyObject *self)
{
    waiter *w = (waiter *)self;
    PyObject *g = w->greenlet ? w->greenlet : Py_None;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    name = name ? name + 1 : Py_TYPE(self)->tp_name;
    if (!w->exception)
        return PyUnicode_FromFormat("<%s greenlet=%S>", name, g);
    if (w->exception == Py_None)
        return PyUnicode_FromFormat("<%s greenlet=%S value=%R>", name, g, w->value);
    return PyUnicode_FromFormat("<%s greenlet=%S exc_info=%R>", name, g, w->exception);
}

static PyMethodDef waiter_methods[] = {
    {"switch", waiter_switch, METH_O,
     TEXT("switch($self, value, /)", "Hands a value to who is in get(), or keeps it. From the hub.")},
    {"switch_args", (PyCFunction)waiter_switch, METH_VARARGS, TEXT("switch_args($self, *args)", "switch(args)")},
    {"throw", waiter_throw, METH_VARARGS, TEXT("throw($self, *throw_args)", "As switch, with an exception.")},
    {"get", waiter_get, METH_NOARGS, TEXT("get($self, /)", "The value, as soon as there is one.")},
    {"clear", waiter_m_clear, METH_NOARGS, TEXT("clear($self, /)", "Forgets what it holds.")},
    {"ready", waiter_ready, METH_NOARGS, TEXT("ready($self, /)", "Whether it holds something.")},
    {"successful", waiter_successful, METH_NOARGS, TEXT("successful($self, /)", "Whether it holds a value.")},
    {NULL}};

static PyMemberDef waiter_members[] = {
    {"hub", T_OBJECT, offsetof(waiter, hub), 0, NULL},
    {"greenlet", T_OBJECT, offsetof(waiter, greenlet), READONLY, NULL},
    {"value", T_OBJECT, offsetof(waiter, value), READONLY, NULL},
    {NULL}};

static PyGetSetDef waiter_getset[] = {{"exc_info", waiter_exc_info, NULL, NULL, NULL}, {NULL}};

PyTypeObject waiter_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.Waiter",
    .tp_basicsize = sizeof(waiter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Waiter(hub=None)\n\nget() waits for what switch() or throw() hands over, in the hub.",
    .tp_new = PyType_GenericNew,
    .tp_init = waiter_init,
    .tp_dealloc = waiter_dealloc,
    .tp_traverse = waiter_traverse,
    .tp_clear = waiter_tp_clear,
    .tp_str = waiter_str,
    .tp_call = waiter_call,
    .tp_methods = waiter_methods,
    .tp_members = waiter_members,
    .tp_getset = waiter_getset,
    .tp_weaklistoffset = offsetof(waiter, weakrefs),
};

int init_waiter(PyObject *m)
{
    if (!(str_handle_error = PyUnicode_InternFromString("handle_error")) || PyType_Ready(&waiter_type) < 0)
        return -1;
    return PyModule_AddObjectRef(m, "Waiter", (PyObject *)&waiter_type);
}
