/* What others see of an exchange: attributes of the request and of the response.
 *
 * They are made when somebody asks for them. One that was asked for, or set, is what counts from then on. */

#include "wsgi.h"

PyObject *exchange_header_pairs(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    const char *name, *value;
    PyObject *all = PyList_New(0);
    (void)unused;
    for (size_t i = 0; all && x->request && weald_http_header_at(x->request, i, &name, &value) == 1; i++) {
        PyObject *n = PyUnicode_DecodeLatin1(name, (Py_ssize_t)strlen(name), NULL);
        PyObject *v = n ? PyUnicode_DecodeLatin1(value, (Py_ssize_t)strlen(value), NULL) : NULL;
        PyObject *pair = v ? PyTuple_Pack(2, n, v) : NULL;
        if (!pair || PyList_Append(all, pair) < 0)
            Py_CLEAR(all);
        Py_XDECREF(n);
        Py_XDECREF(v);
        Py_XDECREF(pair);
    }
    return all;
}

#define SLOT(name) offsetof(exchange, name)

static PyObject **at(PyObject *self, void *offset)
{
    return (PyObject **)((char *)self + (size_t)offset);
}

/* Also deletes. */
static int set_slot(PyObject *self, PyObject *value, void *offset)
{
    PyObject **slot = at(self, offset), *before = *slot;
    *slot = value ? Py_NewRef(value) : NULL;
    Py_XDECREF(before);
    return 0;
}

static PyObject *made(PyObject **slot, PyObject *value)
{
    if (value)
        Py_XSETREF(*slot, Py_NewRef(value));
    return value;
}

static PyObject *latin1(const char *text)
{
    return text ? PyUnicode_DecodeLatin1(text, (Py_ssize_t)strlen(text), NULL) : Py_NewRef(Py_None);
}

#define LAZY(name, make)                                                         \
    static PyObject *get_##name(PyObject *self, void *unused)                    \
    {                                                                            \
        exchange *x = (exchange *)self;                                          \
        (void)unused;                                                            \
        if (x->name)                                                             \
            return Py_NewRef(x->name);                                           \
        if (!x->request)                                                         \
            Py_RETURN_NONE;                                                      \
        return made(&x->name, make);                                             \
    }

LAZY(requestline, exchange_request_line(x))
LAZY(command, latin1(weald_http_method(x->request)))
LAZY(path, latin1(weald_http_target(x->request)))
LAZY(request_version, Py_NewRef(str_http[weald_http_version(x->request) & 1]))

static PyObject *get_headers(PyObject *self, void *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (x->headers)
        return Py_NewRef(x->headers);
    PyObject *pairs = exchange_header_pairs(self, NULL);
    PyObject *headers = pairs ? PyObject_CallOneArg(pywsgi.headers, pairs) : NULL;
    Py_XDECREF(pairs);
    return x->request ? made(&x->headers, headers) : headers;
}

static PyObject *get_content_length(PyObject *self, void *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (x->content_length)
        return Py_NewRef(x->content_length);
    const char *value = x->request ? weald_http_header(x->request, "content-length") : NULL;
    return value ? PyLong_FromString(value, NULL, 10) : Py_NewRef(Py_None);
}

PyObject *exchange_file(exchange *x)
{
    if (!x->rfile) {
        PyObject *file = PyObject_CallOneArg(pywsgi.file, (PyObject *)x);
        if (!file)
            return NULL;
        Py_XSETREF(x->rfile, file);
    }
    return Py_NewRef(x->rfile);
}

static PyObject *get_rfile(PyObject *self, void *unused)
{
    (void)unused;
    return exchange_file((exchange *)self);
}

/* In bytes, as it goes out. */
static PyObject *get_status(PyObject *self, void *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (x->status)
        return Py_NewRef(x->status);
    if (!x->given_status)
        Py_RETURN_NONE;
    return made(&x->status, PyUnicode_AsLatin1String(x->given_status));
}

static int set_status(PyObject *self, PyObject *value, void *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (!value || value == Py_None) {
        Py_CLEAR(x->given_status);
        Py_CLEAR(x->status);
        return 0;
    }
    Py_XSETREF(x->status, Py_NewRef(value));
    return 0;
}

static PyObject *get_response_headers(PyObject *self, void *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (x->response_headers)
        return Py_NewRef(x->response_headers);
    if (!x->given)
        Py_RETURN_NONE;
    PyObject *all = PyList_New(0);
    for (Py_ssize_t i = 0; all && i < PyTuple_GET_SIZE(x->given); i++) {
        PyObject *both = PySequence_Tuple(PyTuple_GET_ITEM(x->given, i));
        PyObject *n = both && PyTuple_GET_SIZE(both) == 2 ? PyUnicode_AsLatin1String(PyTuple_GET_ITEM(both, 0)) : NULL;
        PyObject *v = n ? PyUnicode_AsLatin1String(PyTuple_GET_ITEM(both, 1)) : NULL;
        PyObject *pair = v ? PyTuple_Pack(2, n, v) : NULL;
        if (!pair || PyList_Append(all, pair) < 0)
            Py_CLEAR(all);
        Py_XDECREF(both);
        Py_XDECREF(n);
        Py_XDECREF(v);
        Py_XDECREF(pair);
    }
    if (!all && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a header is a name and a value");
    return made(&x->response_headers, all);
}

static PyObject *get_code(PyObject *self, void *unused)
{
    (void)unused;
    long code = ((exchange *)self)->code;
    return code ? PyLong_FromLong(code) : Py_NewRef(Py_None);
}

static int set_code(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    long code = !value || value == Py_None ? 0 : PyLong_AsLong(value);
    if (code == -1 && PyErr_Occurred())
        return -1;
    ((exchange *)self)->code = code;
    return 0;
}

/* Whether the connection ends with this request: as somebody has said, or as the request says. */
static PyObject *get_close_connection(PyObject *self, void *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (x->close_connection >= 0 || !x->request)
        return PyBool_FromLong(x->close_connection == 1);
    const char *says = weald_http_header(x->request, "connection");
    bool is_11 = weald_http_version(x->request) == 11;
    return PyBool_FromLong(is_11 ? says && strcasestr(says, "close") != NULL
                                 : !says || !strcasestr(says, "keep-alive"));
}

static int set_close_connection(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    int is = value ? PyObject_IsTrue(value) : 0;
    if (is < 0)
        return -1;
    /* What the client wants is the library's to know: it can not be kept open against that. */
    ((exchange *)self)->close_connection = is ? 1 : -1;
    return 0;
}

static PyObject *get_is_foreign(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((exchange *)self)->source != NULL);
}

static PyObject *get_has_request(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((exchange *)self)->request != 0);
}

static PyObject *get_slot(PyObject *self, void *offset)
{
    PyObject *value = *at(self, offset);
    return Py_NewRef(value ? value : Py_None);
}

#define PLAIN_SLOT(name, what) {#name, get_slot, set_slot, what, (void *)SLOT(name)}
#define LAZY_SLOT(name, what) {#name, get_##name, set_slot, what, (void *)SLOT(name)}

PyGetSetDef exchange_getset[] = {
    PLAIN_SLOT(socket, "The connection's socket; None when it is over."),
    PLAIN_SLOT(client_address, "Whose it is."),
    PLAIN_SLOT(server, "The server."),
    PLAIN_SLOT(environ, "The request's environ."),
    PLAIN_SLOT(application, "What is called with it."),
    PLAIN_SLOT(wsgi_input, "The request's body."),
    PLAIN_SLOT(result, "What the application has returned."),
    PLAIN_SLOT(provided_date, "The Date that the application has given."),
    PLAIN_SLOT(provided_content_length, "The Content-Length that it has given."),
    {"_orig_status", get_slot, set_slot, "The status as the application has given it.", (void *)SLOT(given_status)},
    LAZY_SLOT(requestline, "The first line of the request."),
    LAZY_SLOT(command, "Its method."),
    LAZY_SLOT(path, "Its target, as it was sent."),
    LAZY_SLOT(request_version, "HTTP/1.1 or HTTP/1.0."),
    LAZY_SLOT(headers, "Its headers."),
    LAZY_SLOT(content_length, "Its Content-Length, as a number."),
    {"rfile", get_rfile, set_slot, "A file that the connection is read by.", (void *)SLOT(rfile)},
    {"status", get_status, set_status, "The response's status, in bytes.", NULL},
    {"response_headers", get_response_headers, set_slot, "Its headers, in bytes; may be changed until they are sent.",
     (void *)SLOT(response_headers)},
    {"code", get_code, set_code, "The status as a number; negative when it could not be sent.", NULL},
    {"close_connection", get_close_connection, set_close_connection, "Whether this is the connection's last request.",
     NULL},
    {"_is_foreign", get_is_foreign, NULL, "Whether the connection is over a Python object.", NULL},
    {"_has_request", get_has_request, NULL, "Whether the library has read a request.", NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

PyMemberDef exchange_members[] = {
    {"headers_sent", T_BOOL, SLOT(headers_sent), 0, "Whether the head of the response is on its way."},
    {"response_use_chunked", T_BOOL, SLOT(use_chunked), 0, "Whether the response goes in chunks."},
    {"connection_upgraded", T_BOOL, SLOT(upgraded), 0, "Whether the connection is another protocol's now."},
    {"response_length", T_LONGLONG, SLOT(response_length), 0, "How many bytes were sent."},
    {"time_start", T_DOUBLE, SLOT(time_start), 0, "When the request began."},
    {"time_finish", T_DOUBLE, SLOT(time_finish), 0, "When it was answered; 0 before."},
    {"_refused_with", T_INT, SLOT(refused), READONLY, "The status of a refusal."},
    {"_broken", T_BOOL, SLOT(broken), READONLY, "Whether the response could not be written."},
    {NULL},
};
