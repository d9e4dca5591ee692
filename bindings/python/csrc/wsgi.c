/* A connection of the WSGI server: what is quick of pywsgi.WSGIHandler, on the library's HTTP.
 *
 *   serve()  --> next --> environ --> application --> reply --> log --+
 *                 ^---------------------------------------------------+
 *
 * The library reads the requests and writes the responses. A handler whose class is as it was made is served by `serve`
 * alone; one that overrides something is driven from Python, method by method, and comes here for the pieces (`_next`,
 * `write`, `_end` ...). What the class overrides is looked up once for a connection. */

#include "wsgi.h"
#include <time.h>

struct pywsgi pywsgi;
static PyObject *handler_class, *server_class;

#define DEFINE(name) PyObject *str_##name;
NAMES(DEFINE)
PyObject *str_input, *str_terminated, *str_http[2], *str_empty;

/* ---- what the class overrides ---- */

static struct {
    const char *name;
    unsigned char means;
    PyObject *was; /* the attribute of WSGIHandler */
} points[] = {
    {"handle_one_request", BY_STEPS},
    {"handle_one_response", BY_STEPS},
    {"read_requestline", BY_STEPS},
    {"read_request", BY_STEPS},
    {"run_application", BY_STEPS},
    {"process_result", BY_STEPS},
    {"start_response", BY_STEPS},
    {"write", BY_STEPS},
    {"MessageClass", BY_STEPS},
    {"finalize_headers", FINALIZE | BY_STEPS},
    {"get_environ", GET_ENVIRON},
    {"log_request", LOG_REQUEST},
    {"format_request", LOG_REQUEST},
};
enum { POINTS = sizeof points / sizeof points[0] };

/* What of the class, and of the object, is not as it was made. */
static int make_plan(exchange *x)
{
    PyTypeObject *type = Py_TYPE(x);
    unsigned plan = 0;
    for (size_t i = 0; i < POINTS; i++) {
        PyObject *is = PyObject_GetAttrString((PyObject *)type, points[i].name);
        if (!is)
            return -1;
        if (is != points[i].was)
            plan |= points[i].means;
        Py_DECREF(is);
        if (x->dict && PyDict_GetItemString(x->dict, points[i].name))
            plan |= points[i].means;
    }
    PyObject *theirs = x->server ? PyObject_GetAttr(x->server, str_get_environ) : NULL;
    bool is_ours = theirs && PyMethod_Check(theirs) && PyMethod_GET_FUNCTION(theirs) == pywsgi.environ_of_server;
    PyObject *class = is_ours ? PyObject_GetAttr(x->server, str_environ_class) : NULL;
    if (class != (PyObject *)&PyDict_Type)
        plan |= SERVER_ENVIRON;
    PyErr_Clear(); /* of what a server has not that is none of ours */
    Py_XDECREF(theirs);
    Py_XDECREF(class);
    x->plan = (unsigned char)plan;
    return 0;
}

/* ---- the whole of it ---- */

static double clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Makes an exception, which it takes over, the context of the current one. */
static void chain(PyObject *type, PyObject *value, PyObject *tb)
{
    PyObject *t, *v, *b;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb && value)
        PyException_SetTraceback(value, tb);
    Py_XDECREF(type);
    Py_XDECREF(tb);
    PyErr_Fetch(&t, &v, &b);
    PyErr_NormalizeException(&t, &v, &b);
    if (v && v != value)
        PyException_SetContext(v, value);
    else
        Py_XDECREF(value);
    PyErr_Restore(t, v, b);
}

/* Gives the handler the exception that answering has ended with. */
APART static int tell_failure(exchange *x)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb)
        PyException_SetTraceback(value, tb);
    PyObject *told = PyObject_CallMethodOneArg((PyObject *)x, str__failed, value);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(tb);
    Py_XDECREF(told);
    return told ? 0 : -1;
}

/* What an application has returned, and is no list, may want to be closed; `done` is how sending it went. */
APART static int close_result(PyObject *result, int done)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyObject *close = PyObject_GetAttr(result, str_close);
    PyObject *closed = close ? PyObject_CallNoArgs(close) : NULL;
    if (!close && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    else if (!closed)
        done = -1;
    Py_XDECREF(close);
    Py_XDECREF(closed);
    if (!type) {
        /* Nothing, or what close has raised. */
    } else if (PyErr_Occurred()) {
        chain(type, value, tb);
    } else {
        PyErr_Restore(type, value, tb);
    }
    return done;
}

static int run(exchange *x)
{
    if (!x->start && !(x->start = PyObject_GetAttrString((PyObject *)x, "start_response")))
        return -1;
    /* Held: the handler is the application's as well, and may forget them. */
    PyObject *application = Py_NewRef(x->application), *args[] = {NULL, Py_NewRef(x->environ), Py_NewRef(x->start)};
    PyObject *result = PyObject_Vectorcall(application, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(application);
    Py_DECREF(args[1]);
    Py_DECREF(args[2]);
    if (!result)
        return -1;
    Py_XSETREF(x->result, Py_NewRef(result));
    int done = exchange_process(x, result);
    if (!PyList_CheckExact(result) && !PyTuple_CheckExact(result))
        done = close_result(result, done);
    Py_CLEAR(x->result);
    Py_DECREF(result);
    return done;
}

/* The environ of the request, and who is to answer it. */
APART static int prepare(exchange *x)
{
    exchange_forget_response(x);
    x->time_start = clock_now();
    x->time_finish = 0;
    PyObject *env = x->plan & GET_ENVIRON ? PyObject_CallMethodNoArgs((PyObject *)x, str_get_environ)
                                          : exchange_make_environ((PyObject *)x, NULL);
    PyObject *application = env ? PyObject_GetAttr(server_of(x), str_application) : NULL;
    if (!application) {
        Py_XDECREF(env);
        return -1;
    }
    Py_XSETREF(x->environ, env);
    Py_XSETREF(x->application, application);
    return 0;
}

/* Answers one request. */
static int respond(exchange *x)
{
    if (prepare(x) < 0)
        return -1;
    if (run(x) < 0 && tell_failure(x) < 0)
        return -1;
    if (x->wsgi_input && input_is_broken(x->wsgi_input))
        x->close_connection = 1;
    x->time_finish = clock_now();
    return exchange_log(x);
}

/* Whether the connection is to be closed at once. What the client has been told of the library ends itself, and
 * lingers until the client has read it. */
static bool must_leave(exchange *x)
{
    if (!x->connection || !x->socket || x->upgraded)
        return true;
    return x->close_connection == 1 && !(x->ended && x->told_close);
}

static PyObject *serve(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    int more;
    while ((more = exchange_next(x)) > 0) {
        if (respond(x) < 0)
            return NULL;
        /* An environ that nobody has kept goes before the next wait. */
        Py_CLEAR(x->environ);
        Py_CLEAR(x->wsgi_input);
        if (must_leave(x))
            Py_RETURN_NONE;
    }
    if (more < 0)
        return NULL;
    if (x->refused) {
        PyObject *done = PyObject_CallMethodNoArgs(self, str__refused);
        if (!done)
            return NULL;
        Py_DECREF(done);
    }
    Py_RETURN_NONE;
}

/* ---- the same, by steps ---- */

/* (fd, source, tls). Without PyArg_ParseTuple, which goes deep: many handlers wait on the page that they are on here. */
static PyObject *py_open(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    exchange *x = (exchange *)self;
    if (n != 3) {
        PyErr_SetString(PyExc_TypeError, "_open takes 3 arguments");
        return NULL;
    }
    int fd = (int)PyLong_AsLong(args[0]);
    PyObject *source = args[1], *tls = args[2];
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (x->connection) {
        PyErr_SetString(PyExc_RuntimeError, "it is open");
        return NULL;
    }
    int done = exchange_open(x, fd, source, tls);
    if (done == -1 && !PyErr_Occurred())
        Py_RETURN_NONE;
    if (done < 0 || make_plan(x) < 0)
        return NULL;
    return PyBool_FromLong(x->plan & BY_STEPS);
}

static PyObject *py_hang_up(PyObject *self, PyObject *unused)
{
    (void)unused;
    exchange_close((exchange *)self);
    Py_CLEAR(((exchange *)self)->start);
    Py_CLEAR(((exchange *)self)->source);
    Py_RETURN_NONE;
}

static PyObject *py_next(PyObject *self, PyObject *unused)
{
    (void)unused;
    int more = exchange_next((exchange *)self);
    return more < 0 ? NULL : PyBool_FromLong(more);
}

static PyObject *py_new_response(PyObject *self, PyObject *unused)
{
    (void)unused;
    exchange_forget_response((exchange *)self);
    Py_RETURN_NONE;
}

static PyObject *py_process(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    PyObject *result = x->result ? Py_NewRef(x->result) : PyTuple_New(0);
    (void)unused;
    int done = result ? exchange_process(x, result) : -1;
    Py_XDECREF(result);
    if (done < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_end(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    thread *th = may_wait();
    (void)unused;
    if (!th)
        return NULL;
    if (!x->headers_sent) {
        x->close_connection = 1;
    } else if (exchange_finish(x, th, true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* After a response: true if another request may follow. Otherwise the connection has said goodbye. */
static PyObject *py_go_on(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    int done = must_leave(x) ? 0 : exchange_done(x);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

/* ---- the object ---- */

static PyMethodDef exchange_methods[] = {
    {"start_response", WITH_KEYWORDS(exchange_start_response), METH_FASTCALL | METH_KEYWORDS,
     TEXT("start_response($self, status, headers, exc_info=None)",
          "What the application calls before its first byte.")},
    {"write", exchange_write, METH_O,
     TEXT("write($self, data, /)", "Sends a part of the body, behind the headers if it is the first.")},
    {"get_environ", exchange_make_environ, METH_NOARGS,
     TEXT("get_environ($self, /)", "The environ of the request: the server's, and what the request adds.")},
    {"format_request", exchange_format_request, METH_NOARGS,
     TEXT("format_request($self, /)", "The line of the request for the log.")},
    {"_serve", serve, METH_NOARGS, "Answers requests until the connection is over."},
    {"_open", WITH_KEYWORDS(py_open), METH_FASTCALL,
     "_open(fd, source, tls): begins; whether the class wants to be driven by steps. None: no handshake."},
    {"_hang_up", py_hang_up, METH_NOARGS, "Ends the connection, but for the socket."},
    {"_move", exchange_move, METH_VARARGS, "_move(fd, head): goes on over another descriptor, with this request."},
    {"_next", py_next, METH_NOARGS, "Reads the head of the next request; whether there is one."},
    {"_new_response", py_new_response, METH_NOARGS, "Forgets the response before."},
    {"_go_on", py_go_on, METH_NOARGS, "After a response: whether there may be another request."},
    {"_process", py_process, METH_NOARGS, "Sends what the application has returned."},
    {"_end", py_end, METH_NOARGS, "Ends the response."},
    {"_raw_line", exchange_raw_line, METH_O, "_raw_line(limit): a line of it."},
    {"_first_line", exchange_first_line, METH_O, "_first_line(limit): a request's first line, in the server's time."},
    {"_unread", exchange_unread, METH_O, "_unread(data): puts bytes back."},
    {"_raw_write", exchange_raw_write, METH_O, "_raw_write(data): bytes past the response."},
    {"_header_pairs", exchange_header_pairs, METH_NOARGS, "The request's headers."},
    {"_websocket", exchange_websocket, METH_VARARGS,
     "_websocket(class, max_message, max_unsent, protocols): makes the request a WebSocket; None: it is none."},
    {NULL},
};

static int exchange_traverse(PyObject *self, visitproc visit, void *arg)
{
    exchange *x = (exchange *)self;
    PyObject *all[] = {x->socket, x->client_address, x->server, x->rfile, x->source, x->start, x->raised, x->dict,
                       x->requestline, x->command, x->path, x->request_version, x->headers, x->content_length,
                       x->environ, x->application, x->wsgi_input, x->given_status, x->given, x->status,
                       x->response_headers, x->result, x->provided_date, x->provided_content_length};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        Py_VISIT(all[i]);
    return 0;
}

static int exchange_clear(PyObject *self)
{
    exchange *x = (exchange *)self;
    exchange_forget_request(x);
    exchange_forget_response(x);
    PyObject **all[] = {&x->socket, &x->client_address, &x->server, &x->rfile, &x->source, &x->start, &x->raised,
                        &x->dict, &x->environ, &x->application, &x->wsgi_input, &x->result, &x->remote_addr,
                        &x->remote_port};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        Py_CLEAR(*all[i]);
    return 0;
}

static void exchange_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (((exchange *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    exchange_close((exchange *)self);
    exchange_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *exchange_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    exchange *x = (exchange *)type->tp_alloc(type, 0);
    if (x) {
        x->close_connection = -1;
        x->left = -1;
    }
    return (PyObject *)x;
}

PyTypeObject exchange_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.Exchange",
    .tp_basicsize = sizeof(exchange),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A connection of a WSGI server; weald.pywsgi.WSGIHandler is made of it.",
    .tp_new = exchange_new,
    .tp_dealloc = exchange_dealloc,
    .tp_traverse = exchange_traverse,
    .tp_clear = exchange_clear,
    .tp_dictoffset = offsetof(exchange, dict),
    .tp_weaklistoffset = offsetof(exchange, weakrefs),
    .tp_getattro = PyObject_GenericGetAttr,
    .tp_setattro = PyObject_GenericSetAttr,
    .tp_methods = exchange_methods,
    .tp_members = exchange_members,
    .tp_getset = exchange_getset,
};

/* Takes what this needs of weald.pywsgi, and notes how its classes are. */
static PyObject *set_up(PyObject *module, PyObject *args)
{
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOOO:wsgi_set_up", &handler_class, &server_class, &pywsgi.headers, &pywsgi.file,
                          &pywsgi.invalid_input, &pywsgi.quiet_log))
        return NULL;
    Py_INCREF(handler_class);
    Py_INCREF(server_class);
    Py_INCREF(pywsgi.headers);
    Py_INCREF(pywsgi.file);
    Py_INCREF(pywsgi.invalid_input);
    Py_INCREF(pywsgi.quiet_log);
    Py_XSETREF(pywsgi.environ_of_server, PyObject_GetAttrString(server_class, "get_environ"));
    if (!pywsgi.environ_of_server)
        return NULL;
    for (size_t i = 0; i < POINTS; i++) {
        Py_XSETREF(points[i].was, PyObject_GetAttrString(handler_class, points[i].name));
        if (!points[i].was)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"tls_server", tls_server, METH_VARARGS,
     "tls_server(certfile, keyfile): what a server of the library's TLS knows."},
    {"wsgi_set_up", set_up, METH_VARARGS,
     "wsgi_set_up(WSGIHandler, WSGIServer, headers, file, invalid_input, quiet_log): once, by weald.pywsgi."},
    {NULL},
};

int init_wsgi(PyObject *m)
{
#define INTERN(name)                                            \
    if (!(str_##name = PyUnicode_InternFromString(#name)))      \
        return -1;
    NAMES(INTERN)
    str_input = PyUnicode_InternFromString("wsgi.input");
    str_terminated = PyUnicode_InternFromString("wsgi.input_terminated");
    str_http[0] = PyUnicode_InternFromString("HTTP/1.0");
    str_http[1] = PyUnicode_InternFromString("HTTP/1.1");
    str_empty = PyUnicode_InternFromString("");
    if (!str_input || !str_terminated || !str_http[0] || !str_http[1] || !str_empty)
        return -1;
    if (PyType_Ready(&exchange_type) < 0 || PyType_Ready(&input_type) < 0 || PyModule_AddFunctions(m, functions) < 0)
        return -1;
    if (init_wsgi_file(m) < 0)
        return -1;
    Py_INCREF(&exchange_type);
    Py_INCREF(&input_type);
    if (PyModule_AddObject(m, "Exchange", (PyObject *)&exchange_type) < 0)
        return -1;
    return PyModule_AddObject(m, "RequestBody", (PyObject *)&input_type);
}
