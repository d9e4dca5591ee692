/* A handler's rfile, as far as it is read again and again: what is above it, weald.pywsgi adds. */

#include "wsgi.h"

typedef struct {
    PyObject_HEAD
    exchange *handler; /* NULL: closed */
} file;

static PyTypeObject file_type;

static PyObject *file_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *handler;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O!:ConnectionFile", &exchange_type, &handler))
        return NULL;
    file *f = (file *)type->tp_alloc(type, 0);
    if (f)
        f->handler = (exchange *)Py_NewRef(handler);
    return (PyObject *)f;
}

static int file_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((file *)self)->handler);
    return 0;
}

static int file_clear(PyObject *self)
{
    Py_CLEAR(((file *)self)->handler);
    return 0;
}

static void file_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    file_clear(self);
    Py_TYPE(self)->tp_free(self);
}

/* The handler, NULL with an exception; and the size that is asked for, -1 for all. */
static exchange *open_for(PyObject *self, PyObject *const *args, Py_ssize_t n, Py_ssize_t *size)
{
    exchange *x = ((file *)self)->handler;
    *size = -1;
    if (!x) {
        PyErr_SetString(PyExc_ValueError, "I/O operation on closed file.");
        return NULL;
    }
    if (n > 1) {
        PyErr_Format(PyExc_TypeError, "read() takes at most 1 argument (%zd given)", n);
        return NULL;
    }
    if (n == 1 && args[0] != Py_None) {
        *size = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
        if (*size == -1 && PyErr_Occurred())
            return NULL;
    }
    return x;
}

static PyObject *file_read(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_ssize_t size;
    exchange *x = open_for(self, args, n, &size);
    if (!x)
        return NULL;
    Py_INCREF(x); /* the file may be closed meanwhile */
    PyObject *bytes = exchange_read(x, size, false);
    Py_DECREF(x);
    return bytes;
}

static PyObject *file_read1(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_ssize_t size;
    exchange *x = open_for(self, args, n, &size);
    if (!x)
        return NULL;
    Py_INCREF(x);
    PyObject *bytes = exchange_read(x, size, true);
    Py_DECREF(x);
    return bytes;
}

static PyObject *file_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    file_clear(self);
    Py_RETURN_NONE;
}

static PyObject *file_get_closed(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(!((file *)self)->handler);
}

static PyMethodDef file_methods[] = {
    {"read", WITH_KEYWORDS(file_read), METH_FASTCALL, "read(size=-1): so many bytes; fewer only at the end."},
    {"read1", WITH_KEYWORDS(file_read1), METH_FASTCALL, "read1(size=-1): at least a byte, and what is there of `size`."},
    {"close", file_close, METH_NOARGS, "Reads no more; the connection stays."},
    {NULL},
};

static PyMemberDef file_members[] = {
    {"_handler", T_OBJECT, offsetof(file, handler), READONLY, "None: it is closed."},
    {NULL},
};

static PyGetSetDef file_getset[] = {
    {"closed", file_get_closed, NULL, "Whether it has been closed.", NULL},
    {NULL},
};

static PyTypeObject file_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.ConnectionFile",
    .tp_basicsize = sizeof(file),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "ConnectionFile(handler): reads the connection itself, past whatever is a request.",
    .tp_new = file_new,
    .tp_dealloc = file_dealloc,
    .tp_traverse = file_traverse,
    .tp_clear = file_clear,
    .tp_methods = file_methods,
    .tp_members = file_members,
    .tp_getset = file_getset,
};

int init_wsgi_file(PyObject *m)
{
    return PyType_Ready(&file_type) < 0 ? -1 : PyModule_AddObjectRef(m, "ConnectionFile", (PyObject *)&file_type);
}
