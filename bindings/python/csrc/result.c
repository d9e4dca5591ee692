/* AsyncResult. */

#include "sync.h"

typedef struct {
    linkable l;
    PyObject *value;    /* NULL: none was set */
    PyObject *exc_info; /* (type, value, traceback), or NULL */
} result;

static PyObject *no_value; /* what _value is before it is set, set by Python */

bool result_ready(PyObject *self)
{
    result *r = (result *)self;
    return r->value || r->exc_info;
}

static void result_tell(result *r)
{
    if (r->l.links.first) {
        if (thread_get())
            linkable_touch(&r->l, this_thread);
        list_wake_all(&r->l.links, (PyObject *)r);
    }
}

static PyObject *result_set(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    result *r = (result *)self;
    PyObject *value = Py_None;
    if (n > 1 || (names && (n || PyTuple_GET_SIZE(names) != 1))) {
        PyErr_SetString(PyExc_TypeError, "set(value=None)");
        return NULL;
    }
    if (n == 1 || names)
        value = args[0];
    Py_INCREF(value);
    Py_XSETREF(r->value, value);
    result_tell(r);
    Py_RETURN_NONE;
}

static PyObject *result_set_exception(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"exception", "exc_info", NULL};
    PyObject *exception, *info = NULL;
    result *r = (result *)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:set_exception", names, &exception, &info))
        return NULL;
    PyObject *new;
    if (info && info != Py_None && PyTuple_Check(info) && PyTuple_GET_SIZE(info) == 3)
        new = Py_NewRef(info);
    else
        new = PyTuple_Pack(3, (PyObject *)Py_TYPE(exception), exception, Py_None);
    if (!new)
        return NULL;
    Py_XSETREF(r->exc_info, new);
    result_tell(r);
    Py_RETURN_NONE;
}

/* Once there was a value that counts, whatever exception was set, or is. */
static PyObject *result_outcome(result *r)
{
    if (!r->value) {
        PyObject *type = PyTuple_GET_ITEM(r->exc_info, 0), *value = PyTuple_GET_ITEM(r->exc_info, 1),
                 *tb = PyTuple_GET_ITEM(r->exc_info, 2);
        if (PyTraceBack_Check(tb) && PyExceptionClass_Check(type)) {
            PyErr_Restore(Py_NewRef(type), Py_NewRef(value), Py_NewRef(tb));
        } else if (PyExceptionInstance_Check(value)) {
            PyException_SetTraceback(value, Py_None); /* that of the last time */
            PyErr_SetObject(PyExceptionInstance_Class(value), value);
        }
        else if (PyExceptionClass_Check(value))
            PyErr_SetNone(value);
        else
            PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
        return NULL;
    }
    return Py_NewRef(r->value);
}

/* 1 ready, 0 not in time, -1. */
static int result_await(result *r, PyObject *timeout, const char *why)
{
    thread *th = thread_get();
    int64_t deadline;
    if (!th)
        return -1;
    linkable_touch(&r->l, th);
    if (result_ready((PyObject *)r))
        return 1;
    if (deadline_from(timeout, &deadline) < 0)
        return -1;
    int outcome = deadline_end(linkable_wait(th, &r->l, &r->l.links, deadline, why, false), timeout);
    return outcome < 0 ? -1 : result_ready((PyObject *)r);
}

static PyObject *result_get(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    result *r = (result *)self;
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("get", args, n, names, "block", &block, &timeout) < 0)
        return NULL;
    if (result_ready(self))
        return result_outcome(r);
    if (!block)
        return timeout_raise_new(NULL);
    int is_ready = result_await(r, timeout, "AsyncResult.get()");
    if (is_ready < 0)
        return NULL;
    if (!is_ready)
        return timeout_raise_new(timeout);
    return result_outcome(r);
}

static PyObject *result_get_nowait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return result_ready(self) ? result_outcome((result *)self) : timeout_raise_new(NULL);
}

static PyObject *result_result(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *timeout = NULL;
    if ((n || names) && parse_timeout("result", args, n, names, &timeout) < 0)
        return NULL;
    int is_ready = result_await((result *)self, timeout, "AsyncResult.result()");
    if (is_ready < 0)
        return NULL;
    return is_ready ? result_outcome((result *)self) : timeout_raise_new(timeout);
}

static PyObject *result_wait(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    result *r = (result *)self;
    PyObject *timeout = NULL;
    if ((n || names) && parse_timeout("wait", args, n, names, &timeout) < 0)
        return NULL;
    if (result_await(r, timeout, "AsyncResult.wait()") < 0)
        return NULL;
    return Py_NewRef(r->value ? r->value : Py_None);
}

static PyObject *result_successful(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((result *)self)->value != NULL);
}

static PyObject *result_cancel(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    Py_RETURN_FALSE;
}

static PyObject *result_call(PyObject *self, PyObject *args, PyObject *keywords)
{
    PyObject *source;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O:AsyncResult", &source))
        return NULL;
    PyObject *well = PyObject_CallMethod(source, "successful", NULL);
    int yes = well ? PyObject_IsTrue(well) : -1;
    Py_XDECREF(well);
    if (yes < 0)
        return NULL;
    PyObject *r = NULL, *v = PyObject_GetAttrString(source, yes ? "value" : "exception");
    if (v && yes) {
        r = PyObject_CallMethod(self, "set", "(O)", v);
    } else if (v) {
        PyObject *info = PyObject_GetAttrString(source, "exc_info");
        if (!info)
            PyErr_Clear();
        r = PyObject_CallMethod(self, "set_exception", "OO", v, info ? info : Py_None);
        Py_XDECREF(info);
    }
    Py_XDECREF(v);
    return r;
}

static PyObject *result_get_value(PyObject *self, void *c)
{
    (void)c;
    PyObject *v = ((result *)self)->value;
    return Py_NewRef(v ? v : Py_None);
}

static PyObject *result_get_exception(PyObject *self, void *c)
{
    (void)c;
    PyObject *e = ((result *)self)->exc_info;
    return Py_NewRef(e ? PyTuple_GET_ITEM(e, 1) : Py_None);
}

static PyObject *result_get_exc_info(PyObject *self, void *c)
{
    (void)c;
    PyObject *e = ((result *)self)->exc_info;
    return e ? Py_NewRef(e) : PyTuple_New(0);
}

static PyObject *result_get_raw_exception(PyObject *self, void *c)
{
    (void)c;
    result *r = (result *)self;
    if (!result_ready(self))
        return Py_NewRef(no_value);
    return Py_NewRef(r->exc_info ? PyTuple_GET_ITEM(r->exc_info, 1) : Py_None);
}

static PyObject *result_str(PyObject *self)
{
    result *r = (result *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    name = name ? name + 1 : Py_TYPE(self)->tp_name;
    if (r->exc_info)
        return PyUnicode_FromFormat("<%s _links[%zd] exception=%R>", name, r->l.links.len,
                                    PyTuple_GET_ITEM(r->exc_info, 1));
    if (r->value)
        return PyUnicode_FromFormat("<%s _links[%zd] value=%R>", name, r->l.links.len, r->value);
    return PyUnicode_FromFormat("<%s _links[%zd]>", name, r->l.links.len);
}

static int result_tp_clear(PyObject *self)
{
    Py_CLEAR(((result *)self)->value);
    Py_CLEAR(((result *)self)->exc_info);
    return linkable_clear(self);
}

static int result_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((result *)self)->value);
    Py_VISIT(((result *)self)->exc_info);
    return linkable_traverse(self, visit, arg);
}

static void result_dealloc(PyObject *self)
{
    linkable_dealloc_begin(self);
    result_tp_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef result_methods[] = {
    {"set", WITH_KEYWORDS(result_set), METH_FASTCALL | METH_KEYWORDS,
     TEXT("set($self, value=None)", "Sets the value; who waits goes on.")},
    {"set_result", WITH_KEYWORDS(result_set), METH_FASTCALL | METH_KEYWORDS,
     TEXT("set_result($self, value=None)", "set(value)")},
    {"set_exception", WITH_KEYWORDS(result_set_exception), METH_VARARGS | METH_KEYWORDS,
     TEXT("set_exception($self, exception, exc_info=None)", "Sets the exception: who waits raises it.")},
    {"get", WITH_KEYWORDS(result_get), METH_FASTCALL | METH_KEYWORDS,
     TEXT("get($self, block=True, timeout=None)", "The value, or raises the exception; Timeout if there is none yet.")},
    {"get_nowait", result_get_nowait, METH_NOARGS, TEXT("get_nowait($self, /)", "get(block=False)")},
    {"result", WITH_KEYWORDS(result_result), METH_FASTCALL | METH_KEYWORDS,
     TEXT("result($self, timeout=None)", "get()")},
    {"wait", WITH_KEYWORDS(result_wait), METH_FASTCALL | METH_KEYWORDS,
     TEXT("wait($self, timeout=None)", "Waits until it is set; the value, or None.")},
    {"successful", result_successful, METH_NOARGS, TEXT("successful($self, /)", "Whether it has a value.")},
    {"done", linkable_ready, METH_NOARGS, TEXT("done($self, /)", "ready()")},
    {"cancel", result_cancel, METH_NOARGS, TEXT("cancel($self, /)", "False: it can not be cancelled.")},
    {"cancelled", result_cancel, METH_NOARGS, TEXT("cancelled($self, /)", "False.")},
    {NULL}};

static PyGetSetDef result_getset[] = {
    {"value", result_get_value, NULL, "The value, or None.", NULL},
    {"exception", result_get_exception, NULL, "The exception, or None.", NULL},
    {"exc_info", result_get_exc_info, NULL, "(type, value, traceback), or ().", NULL},
    {"_exception", result_get_raw_exception, NULL, NULL, NULL},
    {NULL}};

PyTypeObject result_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.event.AsyncResult",
    .tp_base = &linkable_type,
    .tp_basicsize = sizeof(result),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A value or an exception that is set once, or more often, and waited for.",
    .tp_dealloc = result_dealloc,
    .tp_traverse = result_traverse,
    .tp_clear = result_tp_clear,
    .tp_call = result_call,
    .tp_str = result_str,
    .tp_repr = result_str,
    .tp_methods = result_methods,
    .tp_getset = result_getset,
};

static PyObject *py_set_no_value(PyObject *self, PyObject *o)
{
    (void)self;
    Py_INCREF(o);
    Py_XSETREF(no_value, o);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"_set_no_value", py_set_no_value, METH_O, NULL}, {NULL}};

int init_result(PyObject *m)
{
    no_value = Py_NewRef(Py_None);
    return PyModule_AddFunctions(m, functions);
}
