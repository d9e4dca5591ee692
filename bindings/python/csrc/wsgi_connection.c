/* What an exchange is over: a connection of the library's HTTP, and the bytes past its requests.
 *
 * The library reads and writes the socket's descriptor or, where there is none that it could use (TLS of the
 * interpreter's, a socket of a test's), calls of the Python object. */

#include "wsgi.h"

/* As exchange_outcome. */
int exchange_outcome_slowly(exchange *x, thread *th, int64_t code)
{
    if (x->raised) {
        PyObject *e = x->raised;
        bool is_io = PyErr_GivenExceptionMatches(e, PyExc_OSError);
        x->raised = NULL;
        /* What the library has got over, as the end of a connection that was to end, is nobody's business. */
        if (code < 0 || !is_io) {
            PyErr_SetObject((PyObject *)Py_TYPE(e), e);
            Py_DECREF(e);
            return -1;
        }
        Py_DECREF(e);
        if (!th->attention)
            return 0;
    }
    return green_check(th, code >= 0 ? 0 : (int)code);
}

/* ---- over a Python object ---- */

static int64_t keep_raised(exchange *x)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb && value)
        PyException_SetTraceback(value, tb);
    bool is_io = value && PyErr_GivenExceptionMatches(value, PyExc_OSError);
    Py_XDECREF(type);
    Py_XDECREF(tb);
    Py_XSETREF(x->raised, value);
    /* An exception that is for the greenlet says nothing about the connection. */
    return is_io ? WEALD_ECONNRESET : CODE_RAISE;
}

/* Has the object wait until `deadline` and no longer; what it had before, or NULL. */
static PyObject *with_deadline(PyObject *source, int64_t deadline)
{
    if (deadline == WEALD_FOREVER || !PyObject_HasAttr(source, str_settimeout))
        return NULL;
    PyObject *before = PyObject_CallMethodNoArgs(source, str_gettimeout);
    double seconds = (double)(deadline - weald_now()) / 1e9;
    PyObject *left = PyFloat_FromDouble(seconds > 0.001 ? seconds : 0.001);
    PyObject *done = before && left ? PyObject_CallMethodOneArg(source, str_settimeout, left) : NULL;
    Py_XDECREF(left);
    if (!done) {
        PyErr_Clear();
        Py_CLEAR(before);
    }
    Py_XDECREF(done);
    return before;
}

static void without_deadline(PyObject *source, PyObject *before)
{
    if (!before)
        return;
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyObject *done = PyObject_CallMethodOneArg(source, str_settimeout, before);
    if (!done)
        PyErr_Clear();
    Py_XDECREF(done);
    Py_DECREF(before);
    PyErr_Restore(type, value, tb);
}

static int64_t failed_call(exchange *x, int64_t deadline)
{
    if (deadline != WEALD_FOREVER && PyErr_ExceptionMatches(PyExc_TimeoutError) && weald_now() >= deadline) {
        PyErr_Clear();
        return WEALD_ETIMEDOUT;
    }
    return keep_raised(x);
}

static int64_t source_read(void *buffer, size_t len, int64_t deadline, void *user)
{
    exchange *x = user;
    if (deadline == WEALD_NOW)
        return WEALD_EAGAIN;
    PyObject *source = Py_NewRef(x->source), *size = PyLong_FromSize_t(len);
    PyObject *before = with_deadline(source, deadline);
    PyObject *name = PyObject_HasAttr(source, str_recv) ? str_recv : str_read1;
    PyObject *data = size ? PyObject_CallMethodOneArg(source, name, size) : NULL;
    int64_t n = -1;
    if (data && (!PyBytes_Check(data) || (size_t)PyBytes_GET_SIZE(data) > len))
        PyErr_SetString(PyExc_TypeError, "a socket's recv gives bytes, and no more than it was asked for");
    else if (data)
        n = PyBytes_GET_SIZE(data);
    if (n > 0)
        memcpy(buffer, PyBytes_AS_STRING(data), (size_t)n);
    if (n < 0)
        n = failed_call(x, deadline);
    without_deadline(source, before);
    Py_XDECREF(data);
    Py_XDECREF(size);
    Py_DECREF(source);
    return n;
}

static int64_t source_write(const void *data, size_t len, int64_t deadline, void *user)
{
    exchange *x = user;
    if (deadline == WEALD_NOW)
        return WEALD_EAGAIN;
    PyObject *socket = x->socket ? Py_NewRef(x->socket) : NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    PyObject *before = socket ? with_deadline(socket, deadline) : NULL;
    PyObject *done = bytes && socket ? PyObject_CallMethodOneArg(socket, str_sendall, bytes) : NULL;
    if (!socket && !PyErr_Occurred())
        PyErr_SetString(PyExc_BrokenPipeError, "the socket is gone");
    int64_t n = done ? (int64_t)len : failed_call(x, deadline);
    if (socket)
        without_deadline(socket, before);
    Py_XDECREF(done);
    Py_XDECREF(bytes);
    Py_XDECREF(socket);
    return n;
}

static const weald_stream_functions source_functions = {
    .size = sizeof(weald_stream_functions), .read = source_read, .write = source_write};

/* ---- opening ---- */

static void told(weald_http_request request, int status, int64_t sent, int64_t took_ns, void *user)
{
    (void)request, (void)sent, (void)took_ns;
    ((exchange *)user)->refused = status;
}

/* An attribute of the server's in seconds, None for any time. */
static int time_of(PyObject *server, PyObject *name, int64_t *ns)
{
    PyObject *given = server ? PyObject_GetAttr(server, name) : NULL;
    if (!given) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError) && server)
            return -1;
        PyErr_Clear(); /* not a server of ours: as usual */
        return 0;
    }
    int done = 0;
    if (given == Py_None) {
        *ns = INT64_MAX;
    } else {
        done = seconds_from(given, ns);
        if (done == 0 && *ns <= 0)
            *ns = 1;
    }
    Py_DECREF(given);
    return done;
}

static const char tls_name[] = "weald.tls_server";

static void drop_tls(PyObject *capsule)
{
    weald_close((weald_tls_config)(intptr_t)PyCapsule_GetPointer(capsule, tls_name));
}

/* What a server of TLS knows; or an exception. */
PyObject *tls_server(PyObject *module, PyObject *args)
{
    weald_tls_options how = {.size = sizeof how};
    (void)module;
    if (!PyArg_ParseTuple(args, "ss:tls_server", &how.certificate, &how.key))
        return NULL;
    weald_tls_config config = weald_tls_server(&how);
    if (config < 0) {
        PyErr_Format(PyExc_OSError, "%s", weald_error_message(weald_self()));
        return NULL;
    }
    return PyCapsule_New((void *)(intptr_t)config, tls_name, drop_tls);
}

/* Shakes hands: 1; 0 when the other side does not; -1 with an exception. */
static int shake_hands(exchange *x, PyObject *tls)
{
    int64_t code;
    weald_tls_config config = (weald_tls_config)(intptr_t)PyCapsule_GetPointer(tls, tls_name);
    thread *th = config ? may_wait() : NULL;
    if (!th)
        return -1;
    int64_t deadline = weald_after(WEALD_SEC(10));
    CALL(x, th, "handshake", code, weald_tls_accept(x->stream, config, deadline));
    return code >= 0;
}

static const weald_stream_options borrows = {.size = sizeof borrows, .flags = WEALD_STREAM_BORROWS};

/* Begins with HTTP on `x->stream`, which is closed if that fails. */
static int open_http(exchange *x)
{
    static const weald_http_lenient lenient = {.size = sizeof lenient, .folding = 1, .no_host = 1, .raw_target = 1};
    weald_http_options how = {
        .size = sizeof how, .lenient = &lenient, .log = told, .max_requests = SIZE_MAX, .max_body = SIZE_MAX / 4};
    bool known = time_of(x->server, str_head_timeout, &how.head_ns) == 0 &&
                 time_of(x->server, str_idle_timeout, &how.idle_ns) == 0 &&
                 time_of(x->server, str_body_timeout, &how.body_ns) == 0 &&
                 time_of(x->server, str_write_timeout, &how.write_ns) == 0;
    x->head_ns = how.head_ns ? how.head_ns : WEALD_SEC(10);
    x->idle_ns = how.idle_ns ? how.idle_ns : WEALD_SEC(60);
    x->connection = known ? weald_http_connection_new(x->stream, x, &how) : -1;
    if (x->connection > 0)
        return 0;
    int code = (int)x->connection;
    weald_close(x->stream);
    x->stream = x->connection = 0;
    return known ? raise_code(code) : -1;
}

int exchange_open(exchange *x, int fd, PyObject *source, PyObject *tls)
{
    if (!thread_get())
        return -1;
    if (source == Py_None) {
        x->stream = weald_stream_new(fd, &borrows);
    } else {
        Py_XSETREF(x->source, Py_NewRef(source));
        x->stream = weald_stream_over(&source_functions, x, NULL);
    }
    if (x->stream < 0) {
        int code = (int)x->stream;
        x->stream = 0;
        return raise_code(code);
    }
    int shaken = tls == Py_None ? 1 : shake_hands(x, tls);
    if (shaken <= 0) {
        weald_close(x->stream);
        x->stream = 0;
        return shaken - 1; /* -1, or -2 with an exception */
    }
    return open_http(x);
}

/* (fd, head): goes on over another descriptor, from which the request whose head this is, and what has been read behind
 * it, is read again. Whether there is one. */
PyObject *exchange_move(PyObject *self, PyObject *args)
{
    exchange *x = (exchange *)self;
    const void *behind;
    Py_buffer head;
    int fd, more;
    if (!PyArg_ParseTuple(args, "iy*:_move", &fd, &head))
        return NULL;
    weald_stream s = weald_stream_new(fd, &borrows);
    int64_t code = s < 0 ? s : weald_stream_peek(x->stream, &behind);
    if (code > 0)
        code = weald_stream_unread(s, behind, (size_t)code);
    if (code >= 0)
        code = weald_stream_unread(s, head.buf, (size_t)head.len);
    PyBuffer_Release(&head);
    if (code < 0) {
        if (s > 0)
            weald_close(s);
        raise_code((int)code);
        return NULL;
    }
    exchange_close(x);
    Py_CLEAR(x->source);
    x->stream = s;
    more = open_http(x) < 0 ? -1 : exchange_next(x);
    return more < 0 ? NULL : PyBool_FromLong(more);
}

void exchange_close(exchange *x)
{
    weald_http_connection connection = x->connection;
    x->request = x->connection = x->stream = 0;
    if (connection)
        weald_close(connection);
}

/* ---- the next request ---- */

void exchange_forget_request(exchange *x)
{
    Py_CLEAR(x->requestline);
    Py_CLEAR(x->command);
    Py_CLEAR(x->path);
    Py_CLEAR(x->request_version);
    Py_CLEAR(x->headers);
    Py_CLEAR(x->content_length);
}

APART int exchange_next(exchange *x)
{
    int64_t code;
    thread *th = may_wait();
    if (!th)
        return -1;
    if (!x->connection)
        return 0;
    x->request = 0;
    exchange_forget_request(x);
    x->refused = 0;
    x->close_connection = -1;
    CALL(x, th, "request", code, weald_http_next(x->connection, WEALD_FOREVER));
    if (code > 0) {
        x->request = code;
        x->refused = 0;
        return 1;
    }
    if (code != WEALD_EPROTO)
        x->refused = 0;
    switch (code) {
    case 0:
    case WEALD_EPROTO:
    case WEALD_EBADF:     /* the socket was closed */
    case WEALD_ECANCELED: /* as well, by somebody else */
        return 0;
    default:
        return raise_code((int)code);
    }
}

int exchange_done(exchange *x)
{
    int64_t code;
    thread *th = may_wait();
    if (!th)
        return -1;
    x->request = 0;
    Py_CLEAR(x->environ);
    Py_CLEAR(x->wsgi_input);
    CALL(x, th, "write", code, weald_http_done(x->connection));
    return code > 0;
}

/* ---- bytes past the requests ---- */

static int raw_fill(exchange *x, size_t n, const char **data, int64_t deadline)
{
    int64_t code;
    thread *th = may_wait();
    if (!th)
        return -1;
    if (!x->stream)
        return 0;
    CALL(x, th, "read", code, weald_stream_fill(x->stream, n, deadline));
    if (code >= 0)
        code = weald_stream_peek(x->stream, (const void **)data);
    if (code < 0)
        return raise_code((int)code);
    return (int)code;
}

/* What was asked for is not made room for before it comes: it may be a number that the client has named. */
PyObject *exchange_read(exchange *x, Py_ssize_t size, bool some)
{
    PyObject *all = NULL;
    Py_ssize_t done = 0, room = 0;
    while (size < 0 || done < size) {
        const char *data = NULL;
        Py_ssize_t n = raw_fill(x, 1, &data, WEALD_FOREVER);
        if (n < 0) {
            Py_XDECREF(all);
            return NULL;
        }
        if (n == 0)
            break;
        if (size >= 0 && n > size - done)
            n = size - done;
        if (done + n > room) {
            room = all ? 2 * (done + n) : n;
            if (size >= 0 && room > size)
                room = size;
            if (all ? _PyBytes_Resize(&all, room) < 0 : !(all = PyBytes_FromStringAndSize(NULL, room)))
                return NULL;
        }
        memcpy(PyBytes_AS_STRING(all) + done, data, (size_t)n);
        weald_stream_skip(x->stream, (size_t)n);
        done += n;
        if (some)
            break;
    }
    if (!all)
        return PyBytes_FromStringAndSize(NULL, 0);
    if (done < room)
        _PyBytes_Resize(&all, done);
    return all;
}

/* Reads a line of the connection with its end, or `limit` bytes of it. With `is_first` it is a request's, for which
 * nobody waits longer than the server allows. */
static PyObject *raw_line(exchange *x, Py_ssize_t limit, bool is_first)
{
    const char *data = NULL, *end = NULL;
    Py_ssize_t looked = 0, there = 0;
    int64_t deadline = is_first && x->idle_ns != INT64_MAX ? weald_after(x->idle_ns) : WEALD_FOREVER;
    if (limit < 0 || limit > 65536)
        limit = 65536; /* what a stream has room for */
    while (looked < limit) {
        there = raw_fill(x, (size_t)looked + 1, &data, deadline);
        if (there < 0)
            return NULL;
        if (is_first && looked == 0)
            deadline = x->head_ns != INT64_MAX ? weald_after(x->head_ns) : WEALD_FOREVER;
        if (there <= looked || (end = memchr(data + looked, '\n', (size_t)(there - looked))))
            break;
        looked = there;
    }
    Py_ssize_t n = end ? end - data + 1 : there;
    if (n > limit)
        n = limit;
    PyObject *bytes = PyBytes_FromStringAndSize(data, n);
    if (bytes && n)
        weald_stream_skip(x->stream, (size_t)n);
    return bytes;
}

PyObject *exchange_raw_line(PyObject *self, PyObject *arg)
{
    Py_ssize_t limit = PyNumber_AsSsize_t(arg, NULL);
    return limit == -1 && PyErr_Occurred() ? NULL : raw_line((exchange *)self, limit, false);
}

PyObject *exchange_first_line(PyObject *self, PyObject *arg)
{
    Py_ssize_t limit = PyNumber_AsSsize_t(arg, NULL);
    return limit == -1 && PyErr_Occurred() ? NULL : raw_line((exchange *)self, limit, true);
}

/* Puts bytes back in front of what the connection is read from. */
PyObject *exchange_unread(PyObject *self, PyObject *bytes)
{
    exchange *x = (exchange *)self;
    if (!PyBytes_Check(bytes)) {
        PyErr_SetString(PyExc_TypeError, "bytes");
        return NULL;
    }
    int code = weald_stream_unread(x->stream, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    if (code < 0) {
        raise_code(code);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Writes bytes to the connection, past the response. */
static int raw_write(exchange *x, const char *data, size_t len)
{
    int64_t code;
    size_t done = 0, n = 0;
    thread *th = may_wait();
    if (!th)
        return -1;
    CALL(x, th, "write", code,
         (done += n, n = 0, weald_stream_write(x->stream, data + done, len - done, &n, WEALD_FOREVER)));
    if (code >= 0)
        CALL(x, th, "write", code, weald_stream_flush(x->stream, WEALD_FOREVER));
    return code < 0 ? exchange_write_failed(x, code) : 0;
}

PyObject *exchange_raw_write(PyObject *self, PyObject *data)
{
    Py_buffer b;
    if (PyObject_GetBuffer(data, &b, PyBUF_SIMPLE) < 0)
        return NULL;
    int done = raw_write((exchange *)self, b.buf, (size_t)b.len);
    PyBuffer_Release(&b);
    if (done < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Makes the request a connection of WebSocket. */
PyObject *exchange_websocket(PyObject *self, PyObject *args)
{
    exchange *x = (exchange *)self;
    weald_websocket_options how = {.size = sizeof how};
    Py_ssize_t message, unsent;
    PyObject *class;
    thread *th = may_wait();
    int64_t code;
    int o;
    if (!th || !PyArg_ParseTuple(args, "Onnz:_websocket", &class, &message, &unsent, &how.protocols))
        return NULL;
    if (message < 0 || unsent < 0) {
        PyErr_SetString(PyExc_ValueError, "a size is not negative");
        return NULL;
    }
    how.max_message = (size_t)message;
    how.max_unsent = (size_t)unsent;
    do {
        th->current->why = "write";
        code = weald_websocket_accept(x->request, &how, WEALD_FOREVER);
        th->current->why = NULL;
    } while ((o = exchange_outcome(x, th, code)) > 0);
    if (o < 0) {
        if (code > 0)
            weald_close(code);
        return NULL;
    }
    x->headers_sent = 1;
    if (code == WEALD_EPROTO) {
        x->ended = 1;
        Py_RETURN_NONE; /* it has been answered */
    }
    x->upgraded = code > 0;
    x->close_connection = 1;
    return websocket_made(class, code);
}
