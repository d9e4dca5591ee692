/* A connection of the WSGI server: what is quick of pywsgi.WSGIHandler, on the library's HTTP.
 *
 *   serve()  --> next --> environ --> application --> reply --> log --+
 *                 ^---------------------------------------------------+
 *
 * The library reads the requests and writes the responses, over the socket's descriptor or, where there is none that
 * it could use (TLS of the interpreter's, a socket of a test's), over calls of the Python object. A handler whose class
 * is as it was made is served by `serve` alone; one that overrides something is driven from Python, method by method,
 * and comes here for the pieces (`_next`, `write`, `_end` ...). What the class overrides is looked up once for a
 * connection.
 *
 * Attributes of the request (command, path, headers ...) are made when somebody asks for them. One that was asked for,
 * or set, is what counts from then on. */

#include "sync.h"
#include <ctype.h>
#include <time.h>

/* An application that waits does so below `serve`, which therefore holds no more than it must: a page of the stack is
 * enough then. */
#define APART __attribute__((noinline))

/* What a class may override. */
enum { BY_STEPS = 1, GET_ENVIRON = 2, LOG_REQUEST = 4, FINALIZE = 8, SERVER_ENVIRON = 16 };

typedef struct {
    PyObject_HEAD
    weald_stream stream; /* 0: none */
    weald_http_connection connection;
    weald_http_request request; /* 0: none */
    PyObject *socket, *client_address, *server, *rfile, *source;
    PyObject *start; /* start_response, bound */
    PyObject *remote_addr, *remote_port;
    PyObject *raised; /* what a call of `source` raised */
    PyObject *dict;
    PyObject *weakrefs;
    /* Of the request; NULL: not asked for. */
    PyObject *requestline, *command, *path, *request_version, *headers, *content_length;
    PyObject *environ, *application, *wsgi_input;
    /* Of the response. What the application gave, and the same in bytes when somebody has asked for it. */
    PyObject *given_status, *given, *status, *response_headers;
    PyObject *result, *provided_date, *provided_content_length;
    long long response_length;
    int64_t left; /* of a body whose length is known, else -1 */
    long code;
    double time_start, time_finish;
    int64_t head_ns, idle_ns; /* how long a request is waited for; INT64_MAX: any time */
    int refused; /* the status with which the library has refused something */
    unsigned char plan;
    char close_connection; /* -1: as the request says */
    char headers_sent, use_chunked, upgraded, ended, broken, wants_upgrade;
    char told_close; /* the response's head says that the connection ends */
} exchange;

static PyTypeObject exchange_type, input_type;

/* From weald.pywsgi. */
static PyObject *make_headers, *make_file, *invalid_input, *quiet_log, *handler_class, *server_class, *environ_of_server;

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

#define NAMES(X)                                                                                                  \
    X(get_environ) X(environ) X(environ_class) X(application) X(log) X(write) X(log_request) X(finalize_headers)  \
    X(ApplicationError) X(close) X(recv) X(read1) X(sendall) X(settimeout) X(gettimeout) X(head_timeout)          \
    X(idle_timeout) X(body_timeout) X(write_timeout) X(max_body) X(_refused) X(_failed) X(_environ_from_headers)  \
    X(REQUEST_METHOD) X(SCRIPT_NAME) X(PATH_INFO) X(QUERY_STRING) X(SERVER_PROTOCOL) X(REMOTE_ADDR)               \
    X(REMOTE_PORT) X(CONTENT_TYPE) X(CONTENT_LENGTH)
#define DECLARE(name) static PyObject *str_##name;
NAMES(DECLARE)
static PyObject *str_input, *str_terminated, *str_http[2], *str_empty;

/* ---- calls of the library ---- */

/* Whether a call has an outcome of its own: 0; 1 if it is to be made again; -1 with an exception. */
static int outcome(exchange *x, thread *th, int64_t code)
{
    if (unlikely(x->raised != NULL)) {
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
    }
    if (likely(!th->attention) && likely(code >= 0 || code != CODE_RAISE))
        return 0;
    return green_check(th, code >= 0 ? 0 : (int)code);
}

static thread *may_wait(void)
{
    thread *th = thread_get();
    return th && green_may_wait(th) == 0 ? th : NULL;
}

/* Makes a call that may switch, again where that is due; -1 with an exception. */
#define CALL(x, th, what, code, call)                  \
    do {                                               \
        int o_;                                        \
        do {                                           \
            (th)->current->why = what;                 \
            (code) = (call);                           \
            (th)->current->why = NULL;                 \
        } while ((o_ = outcome(x, th, code)) > 0);     \
        if (o_ < 0)                                    \
            return -1;                                 \
    } while (0)

static int application_error(exchange *x, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    PyObject *what = PyUnicode_FromFormatV(text, args);
    va_end(args);
    PyObject *class = what ? PyObject_GetAttr((PyObject *)x, str_ApplicationError) : NULL;
    if (class)
        PyErr_SetObject(class, what);
    Py_XDECREF(class);
    Py_XDECREF(what);
    return -1;
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
static PyObject *tls_server(PyObject *module, PyObject *args)
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

static int open_connection(exchange *x, int fd, PyObject *source, PyObject *tls)
{
    static const weald_http_lenient lenient = {.size = sizeof lenient, .folding = 1, .no_host = 1, .raw_target = 1};
    weald_http_options how = {
        .size = sizeof how, .lenient = &lenient, .log = told, .max_requests = SIZE_MAX, .max_body = SIZE_MAX / 4};
    weald_stream_options borrows = {.size = sizeof borrows, .flags = WEALD_STREAM_BORROWS};
    if (time_of(x->server, str_head_timeout, &how.head_ns) < 0 ||
        time_of(x->server, str_idle_timeout, &how.idle_ns) < 0 ||
        time_of(x->server, str_body_timeout, &how.body_ns) < 0 ||
        time_of(x->server, str_write_timeout, &how.write_ns) < 0)
        return -1;
    x->head_ns = how.head_ns ? how.head_ns : WEALD_SEC(10);
    x->idle_ns = how.idle_ns ? how.idle_ns : WEALD_SEC(60);
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
    x->connection = weald_http_connection_new(x->stream, x, &how);
    if (x->connection < 0) {
        int code = (int)x->connection;
        weald_close(x->stream);
        x->stream = x->connection = 0;
        return raise_code(code);
    }
    return 0;
}

static void close_connection(exchange *x)
{
    weald_http_connection connection = x->connection;
    x->request = x->connection = x->stream = 0;
    if (connection)
        weald_close(connection);
}

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
    bool is_ours = theirs && PyMethod_Check(theirs) && PyMethod_GET_FUNCTION(theirs) == environ_of_server;
    PyObject *class = is_ours ? PyObject_GetAttr(x->server, str_environ_class) : NULL;
    if (class != (PyObject *)&PyDict_Type)
        plan |= SERVER_ENVIRON;
    PyErr_Clear(); /* of what a server has not that is none of ours */
    Py_XDECREF(theirs);
    Py_XDECREF(class);
    x->plan = (unsigned char)plan;
    return 0;
}

/* ---- the next request ---- */

static void forget_request(exchange *x)
{
    Py_CLEAR(x->requestline);
    Py_CLEAR(x->command);
    Py_CLEAR(x->path);
    Py_CLEAR(x->request_version);
    Py_CLEAR(x->headers);
    Py_CLEAR(x->content_length);
}

APART static void forget_response(exchange *x)
{
    Py_CLEAR(x->given_status);
    Py_CLEAR(x->given);
    Py_CLEAR(x->status);
    Py_CLEAR(x->response_headers);
    Py_CLEAR(x->provided_date);
    Py_CLEAR(x->provided_content_length);
    x->response_length = 0;
    x->left = -1;
    x->code = 0;
    x->headers_sent = x->use_chunked = x->upgraded = x->ended = x->broken = x->told_close = 0;
}

/* Reads the head of the next request: 1; 0 when there is none, and `refused` says whether something came; -1. */
APART static int next_request(exchange *x)
{
    int64_t code;
    thread *th = may_wait();
    if (!th)
        return -1;
    if (!x->connection)
        return 0;
    x->request = 0;
    forget_request(x);
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
    case WEALD_EBADF:    /* the socket was closed */
    case WEALD_ECANCELED: /* as well, by somebody else */
        return 0;
    default:
        return raise_code((int)code);
    }
}

/* ---- names that come again and again ---- */

/* A header's or a method's name, and what it is in an environ. Whoever sends other names with each request finds his
 * own way to be slow: a place holds the last. */
typedef struct {
    PyObject *key;
    unsigned char len, kind;
    char name[46];
} name_slot;

enum { PLAIN, IS_TYPE, IS_LENGTH, IS_COOKIE, IS_CONNECTION, IS_UPGRADE, IS_METHOD };
static name_slot names_seen[512];

static name_slot *slot_of(const char *name, size_t len, unsigned seed)
{
    unsigned h = seed;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)name[i]) * 16777619u;
    return &names_seen[(h ^ h >> 15) & 511];
}

/* HTTP_NAME for a header, a new reference. */
static PyObject *key_of(const char *name, int *kind)
{
    size_t len = strlen(name);
    char upper[128]; /* small: it is deep in a stack of which one page is used otherwise */
    name_slot *s = len < sizeof s->name ? slot_of(name, len, 2166136261u) : NULL;
    if (s && s->key && s->kind != IS_METHOD && s->len == len && memcmp(s->name, name, len) == 0) {
        *kind = s->kind;
        return Py_NewRef(s->key);
    }
    char *at = len < sizeof upper - 6 ? upper : PyMem_Malloc(len + 6);
    if (!at)
        return PyErr_NoMemory();
    memcpy(at, "HTTP_", 5);
    for (size_t i = 0; i < len; i++)
        at[5 + i] = name[i] == '-' ? '_' : name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 32) : name[i];
    at[5 + len] = 0;
    *kind = strcmp(at + 5, "CONTENT_TYPE") == 0     ? IS_TYPE
            : strcmp(at + 5, "CONTENT_LENGTH") == 0 ? IS_LENGTH
            : strcmp(at + 5, "CONNECTION") == 0     ? IS_CONNECTION
            : strcmp(at + 5, "UPGRADE") == 0        ? IS_UPGRADE
            : strstr(at + 5, "COOKIE")              ? IS_COOKIE
                                                    : PLAIN;
    bool has_own = *kind == IS_TYPE || *kind == IS_LENGTH;
    PyObject *key = PyUnicode_DecodeLatin1(has_own ? at + 5 : at, (Py_ssize_t)(has_own ? len : len + 5), NULL);
    if (at != upper)
        PyMem_Free(at);
    if (key && s) {
        PyUnicode_InternInPlace(&key);
        PyObject *before = s->key;
        s->key = Py_NewRef(key);
        s->len = (unsigned char)len;
        s->kind = (unsigned char)*kind;
        memcpy(s->name, name, len);
        Py_XDECREF(before);
    }
    return key;
}

static PyObject *method_of(const char *name)
{
    size_t len = strlen(name);
    name_slot *s = len < sizeof s->name ? slot_of(name, len, 77) : NULL;
    if (s && s->key && s->kind == IS_METHOD && s->len == len && memcmp(s->name, name, len) == 0)
        return Py_NewRef(s->key);
    PyObject *key = PyUnicode_DecodeLatin1(name, (Py_ssize_t)len, NULL);
    if (key && s) {
        PyObject *before = s->key;
        s->key = Py_NewRef(key);
        s->len = (unsigned char)len;
        s->kind = IS_METHOD;
        memcpy(s->name, name, len);
        Py_XDECREF(before);
    }
    return key;
}

/* ---- the environ ---- */

static int put(PyObject *env, PyObject *key, PyObject *value)
{
    if (!value)
        return -1;
    int done = PyDict_CheckExact(env) ? PyDict_SetItem(env, key, value) : PyObject_SetItem(env, key, value);
    Py_DECREF(value);
    return done;
}

static PyObject *get(PyObject *env, PyObject *key) /* borrowed, or NULL, without an exception if it is not there */
{
    if (PyDict_CheckExact(env))
        return PyDict_GetItemWithError(env, key);
    PyObject *value = PyObject_GetItem(env, key);
    if (!value && PyErr_ExceptionMatches(PyExc_KeyError))
        PyErr_Clear();
    Py_XDECREF(value); /* the mapping has it */
    return value;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* The path with its escapes undone; what is none stays. */
static PyObject *unescaped(const char *text, size_t len)
{
    if (!memchr(text, '%', len))
        return PyUnicode_DecodeLatin1(text, (Py_ssize_t)len, NULL);
    char *out = PyMem_Malloc(len), *to = out;
    if (!out)
        return PyErr_NoMemory();
    for (size_t i = 0; i < len; i++) {
        int high = text[i] == '%' && i + 2 < len + 0 ? hex(text[i + 1]) : -1;
        int low = high >= 0 ? hex(text[i + 2]) : -1;
        if (low >= 0) {
            *to++ = (char)(high << 4 | low);
            i += 2;
        } else {
            *to++ = text[i];
        }
    }
    PyObject *path = PyUnicode_DecodeLatin1(out, to - out, NULL);
    PyMem_Free(out);
    return path;
}

static int put_path(PyObject *env, const char *target, size_t len)
{
    const char *mark = memchr(target, '?', len);
    size_t n = mark ? (size_t)(mark - target) : len;
    /* Both before anything is put: an environ of a class of its own may do what it likes with the request. */
    PyObject *path = unescaped(target, n);
    PyObject *query = mark ? PyUnicode_DecodeLatin1(mark + 1, (Py_ssize_t)(len - n - 1), NULL) : Py_NewRef(str_empty);
    if (put(env, str_PATH_INFO, path) < 0) {
        Py_XDECREF(query);
        return -1;
    }
    return put(env, str_QUERY_STRING, query);
}

static int put_peer(exchange *x, PyObject *env)
{
    PyObject *address = x->client_address;
    if (!address || !PyTuple_Check(address) || PyTuple_GET_SIZE(address) < 2)
        return 0;
    if (!x->remote_addr) {
        x->remote_addr = PyObject_Str(PyTuple_GET_ITEM(address, 0));
        x->remote_port = PyObject_Str(PyTuple_GET_ITEM(address, 1));
        if (!x->remote_addr || !x->remote_port) {
            Py_CLEAR(x->remote_addr);
            Py_CLEAR(x->remote_port);
            return -1;
        }
    }
    return put(env, str_REMOTE_ADDR, Py_NewRef(x->remote_addr)) < 0
               ? -1
               : put(env, str_REMOTE_PORT, Py_NewRef(x->remote_port));
}

/* Adds one header; what comes twice is put together. */
static int put_header(PyObject *env, PyObject *key, int kind, const char *text)
{
    PyObject *value = PyUnicode_DecodeLatin1(text, (Py_ssize_t)strlen(text), NULL);
    PyObject *before = value ? get(env, key) : NULL;
    if (before && kind != IS_TYPE && kind != IS_LENGTH) {
        Py_SETREF(value, PyUnicode_FromFormat("%S%s%U", before, kind == IS_COOKIE ? "; " : ",", value));
    } else if (!before && PyErr_Occurred()) {
        Py_CLEAR(value);
    }
    return put(env, key, value);
}

static int put_headers(exchange *x, PyObject *env)
{
    const char *name, *value;
    x->wants_upgrade = 0;
    for (size_t i = 0; weald_http_header_at(x->request, i, &name, &value) == 1; i++) {
        int kind;
        PyObject *key = key_of(name, &kind);
        if (!key)
            return -1;
        if (kind == IS_CONNECTION && strcasecmp(value, "upgrade") == 0)
            x->wants_upgrade = 1;
        if (kind == IS_UPGRADE && strcasecmp(value, "websocket") == 0)
            x->wants_upgrade = 1;
        int done = kind == IS_LENGTH && !*value ? 0 : put_header(env, key, kind, value);
        Py_DECREF(key);
        if (done < 0)
            return -1;
    }
    return 0;
}

/* Somebody may have deleted it. */
static PyObject *server_of(exchange *x)
{
    return x->server ? x->server : Py_None;
}

static PyObject *new_environ(exchange *x)
{
    if (x->plan & SERVER_ENVIRON)
        return PyObject_CallMethodNoArgs(server_of(x), str_get_environ);
    PyObject *template = PyObject_GetAttr(server_of(x), str_environ);
    PyObject *env = template && PyDict_Check(template) ? PyDict_Copy(template) : NULL;
    if (template && !env && !PyErr_Occurred())
        env = PyObject_CallOneArg((PyObject *)&PyDict_Type, template);
    Py_XDECREF(template);
    return env;
}

static PyObject *input_for(exchange *x);
static PyObject *file_of(exchange *x);

/* An upgrade without a body: what comes then the application reads as it likes. */
static int put_input(exchange *x, PyObject *env)
{
    bool is_raw = x->wants_upgrade && weald_http_body_left(x->request) == 0;
    PyObject *input = input_for(x);
    if (!input)
        return -1;
    Py_XSETREF(x->wsgi_input, input);
    if (put(env, str_input, is_raw ? file_of(x) : Py_NewRef(input)) < 0)
        return -1;
    return put(env, str_terminated, Py_NewRef(is_raw ? Py_False : Py_True));
}

static PyObject *get_environ(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (!x->request) {
        PyErr_SetString(PyExc_RuntimeError, "there is no request");
        return NULL;
    }
    PyObject *env = new_environ(x);
    if (!env)
        return NULL;
    const char *target, *method = weald_http_method(x->request);
    int minor = weald_http_version(x->request) - 10;
    if (!method || minor < 0) {
        PyErr_SetString(PyExc_RuntimeError, "the request is over");
        goto failed;
    }
    if (put(env, str_REQUEST_METHOD, x->command ? Py_NewRef(x->command) : method_of(method)) < 0 ||
        put(env, str_SCRIPT_NAME, Py_NewRef(str_empty)) < 0 ||
        put(env, str_SERVER_PROTOCOL, Py_NewRef(x->request_version ? x->request_version : str_http[minor & 1])) < 0 ||
        put_peer(x, env) < 0)
        goto failed;
    if (x->path) {
        PyObject *path = PyUnicode_Check(x->path) ? PyUnicode_AsLatin1String(x->path) : PyObject_Bytes(x->path);
        int done = path ? put_path(env, PyBytes_AS_STRING(path), (size_t)PyBytes_GET_SIZE(path)) : -1;
        Py_XDECREF(path);
        if (done < 0)
            goto failed;
    } else if (!(target = weald_http_target(x->request))) {
        PyErr_SetString(PyExc_RuntimeError, "the request is over");
        goto failed;
    } else if (put_path(env, target, strlen(target)) < 0) {
        goto failed;
    }
    if (x->headers) { /* somebody has seen them, and may have changed something */
        PyObject *done = PyObject_CallMethodOneArg(self, str__environ_from_headers, env);
        if (!done)
            goto failed;
        x->wants_upgrade = PyObject_IsTrue(done) > 0;
        Py_DECREF(done);
    } else if (put_headers(x, env) < 0) {
        goto failed;
    }
    if (put_input(x, env) < 0)
        goto failed;
    return env;
failed:
    Py_DECREF(env);
    return NULL;
}

/* ---- wsgi.input ---- */

/* The body of a request, and no byte more. It knows the request by its handle alone, and finds nothing any more when
 * that is over. */
typedef struct {
    PyObject_HEAD
    weald_http_request request;
    exchange *owner; /* NULL, or whose socket's exceptions are to be raised */
    char *line; /* what was read ahead for the sake of lines */
    size_t from, to, size;
    long long position;
    long long length; /* -1: chunks; 0 also when there is nothing */
    char asks, broken;
} input;

static PyObject *input_for(exchange *x)
{
    input *in = PyObject_New(input, &input_type);
    if (!in)
        return NULL;
    in->request = x->request;
    in->owner = x->source ? (exchange *)Py_NewRef(x) : NULL;
    in->line = NULL;
    in->from = in->to = in->size = 0;
    in->position = 0;
    in->length = weald_http_body_left(x->request);
    in->asks = in->length != 0;
    in->broken = 0;
    return (PyObject *)in;
}

static void input_dealloc(PyObject *self)
{
    PyMem_Free(((input *)self)->line);
    Py_XDECREF(((input *)self)->owner);
    PyObject_Free(self);
}

static int input_fails(input *in, int64_t code)
{
    in->broken = 1;
    switch (code) {
    case WEALD_EPIPE:
    case WEALD_ECONNRESET:
        if (in->length < 0)
            PyErr_SetString(PyExc_OSError, "unexpected end of file while parsing chunked data");
        else
            PyErr_Format(PyExc_OSError, "unexpected end of file while reading request at position %lld", in->position);
        return -1;
    case WEALD_EPROTO:
        PyErr_SetString(invalid_input, "the chunks of the body are none");
        return -1;
    case WEALD_EMSGSIZE:
        PyErr_SetString(invalid_input, "the body is too large");
        return -1;
    case WEALD_ETIMEDOUT:
        PyErr_SetString(invalid_input, "the body comes too slowly");
        return -1;
    case WEALD_EBADF:
        in->broken = 0;
        in->length = 0;
        return 0; /* the request is over: there is nothing to read */
    case WEALD_EBUSY:
        PyErr_SetString(exc_concurrent, "Another greenlet reads this request");
        in->broken = 0;
        return -1;
    default:
        return raise_code((int)code);
    }
}

/* As `outcome`. */
static int input_outcome(input *in, thread *th, int64_t code)
{
    if (in->owner)
        return outcome(in->owner, th, code);
    if (likely(!th->attention) && likely(code >= 0 || code != CODE_RAISE))
        return 0;
    return green_check(th, code >= 0 ? 0 : (int)code);
}

/* Reads at least a byte; 0 at the end. */
static int64_t input_some(input *in, char *to, size_t len)
{
    int64_t code;
    int o;
    thread *th = may_wait();
    if (!th)
        return -1;
    if (in->length == 0)
        return 0;
    if (in->asks) {
        do {
            th->current->why = "write";
            code = weald_http_continue(in->request, WEALD_FOREVER);
            th->current->why = NULL;
        } while ((o = input_outcome(in, th, code)) > 0);
        if (o < 0)
            return -1;
        in->asks = 0;
    }
    do {
        th->current->why = "read";
        code = weald_http_read(in->request, to, len, WEALD_FOREVER);
        th->current->why = NULL;
    } while ((o = input_outcome(in, th, code)) > 0);
    if (o < 0)
        return -1;
    if (code < 0)
        return input_fails(in, code);
    in->position += code;
    return code;
}

static size_t take_line(input *in, char *to, size_t len)
{
    size_t there = in->to - in->from, n = there < len ? there : len;
    memcpy(to, in->line + in->from, n);
    in->from += n;
    return n;
}

static PyObject *read_n(input *in, Py_ssize_t wanted)
{
    Py_ssize_t room = wanted, done = 0;
    if (wanted < 0 || wanted > 1 << 16) { /* no more than may come is made room for */
        room = in->length > 0 && in->length < 1 << 20 ? (Py_ssize_t)in->length : 1 << 16;
        if (wanted >= 0 && room > wanted)
            room = wanted;
    }
    if (in->length > 0 && in->length < room)
        room = (Py_ssize_t)in->length;
    if ((in->length == 0 && in->from == in->to) || wanted == 0)
        return PyBytes_FromStringAndSize(NULL, 0);
    if (room < 16)
        room = 16;
    PyObject *data = PyBytes_FromStringAndSize(NULL, room);
    if (!data)
        return NULL;
    while (wanted < 0 || done < wanted) {
        if (in->length > 0 && in->position == in->length && in->from == in->to)
            break;
        if (done == room) {
            room = room < 1 << 26 ? room * 2 : room + (1 << 26);
            if (_PyBytes_Resize(&data, room) < 0)
                return NULL;
        }
        size_t most = (size_t)(wanted >= 0 && wanted < room ? wanted - done : room - done);
        char *to = PyBytes_AS_STRING(data) + done;
        int64_t n = in->from < in->to ? (int64_t)take_line(in, to, most) : input_some(in, to, most);
        if (n < 0) {
            Py_DECREF(data);
            return NULL;
        }
        if (n == 0)
            break;
        done += n;
    }
    if (done != PyBytes_GET_SIZE(data))
        _PyBytes_Resize(&data, done);
    return data;
}

/* -1 for no limit, which None and negative numbers are; -2: an exception. */
static Py_ssize_t limit_of(PyObject *const *args, Py_ssize_t n, const char *name)
{
    if (n > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", name, n);
        return -2;
    }
    if (n == 0 || args[0] == Py_None)
        return -1;
    Py_ssize_t limit = PyNumber_AsSsize_t(args[0], NULL); /* one that is too large is the largest */
    if (limit == -1 && PyErr_Occurred())
        return -2;
    return limit < 0 ? -1 : limit;
}

static PyObject *input_read(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_ssize_t wanted = limit_of(args, n, "read");
    return wanted == -2 ? NULL : read_n((input *)self, wanted);
}

enum { AHEAD = 8192 };

static PyObject *line_of(input *in, Py_ssize_t limit)
{
    PyObject *line = NULL;
    while (limit != 0) {
        if (in->from == in->to) {
            if (!in->line && !(in->line = PyMem_Malloc(AHEAD))) {
                Py_XDECREF(line);
                return PyErr_NoMemory();
            }
            int64_t n = input_some(in, in->line, AHEAD);
            if (n < 0) {
                Py_XDECREF(line);
                return NULL;
            }
            in->from = 0;
            in->to = (size_t)n;
            if (n == 0)
                break;
        }
        size_t there = in->to - in->from;
        if (limit > 0 && there > (size_t)limit)
            there = (size_t)limit;
        const char *at = in->line + in->from, *end = memchr(at, '\n', there);
        size_t piece = end ? (size_t)(end - at) + 1 : there;
        in->from += piece;
        PyObject *part = PyBytes_FromStringAndSize(at, (Py_ssize_t)piece);
        if (!line)
            line = part;
        else
            PyBytes_ConcatAndDel(&line, part);
        if (!line)
            return NULL;
        if (end)
            break;
        if (limit > 0)
            limit -= (Py_ssize_t)piece;
    }
    return line ? line : PyBytes_FromStringAndSize(NULL, 0);
}

static PyObject *input_readline(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_ssize_t limit = limit_of(args, n, "readline");
    return limit == -2 ? NULL : line_of((input *)self, limit);
}

static PyObject *input_next(PyObject *self)
{
    PyObject *line = line_of((input *)self, -1);
    if (line && PyBytes_GET_SIZE(line) == 0)
        Py_CLEAR(line);
    return line;
}

static PyObject *input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (limit_of(args, n, "readlines") == -2)
        return NULL;
    return PySequence_List(self);
}

static PyObject *input_get_length(PyObject *self, void *unused)
{
    (void)unused;
    input *in = (input *)self;
    if (in->length < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(in->length);
}

static PyMethodDef input_methods[] = {
    {"read", WITH_KEYWORDS(input_read), METH_FASTCALL, "read(length=None): so many bytes; fewer only at the end."},
    {"readline", WITH_KEYWORDS(input_readline), METH_FASTCALL, "readline(size=None): a line, or so much of it."},
    {"readlines", WITH_KEYWORDS(input_readlines), METH_FASTCALL, "readlines(hint=None): all lines."},
    {NULL},
};

static PyMemberDef input_members[] = {
    {"send_100_continue_enabled", T_BOOL, offsetof(input, asks), 0, "Whether the client is asked for the body."},
    {"_chunked_input_error", T_BOOL, offsetof(input, broken), READONLY, "Whether the body is not what it should be."},
    {"position", T_LONGLONG, offsetof(input, position), READONLY, "How much of it has been read."},
    {NULL},
};

static PyGetSetDef input_getset[] = {
    {"content_length", input_get_length, NULL, "How long it is; None if it comes in chunks.", NULL},
    {NULL},
};

static PyTypeObject input_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.RequestBody",
    .tp_basicsize = sizeof(input),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "wsgi.input: the body of a request, and no byte more.",
    .tp_dealloc = input_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = input_next,
    .tp_methods = input_methods,
    .tp_members = input_members,
    .tp_getset = input_getset,
};

/* ---- start_response ---- */

static bool has_line_end(const char *s, Py_ssize_t len)
{
    for (Py_ssize_t i = 0; i < len; i++)
        if (s[i] == '\r' || s[i] == '\n' || s[i] == 0)
            return true;
    return false;
}

/* The bytes of a str in Latin-1, or of bytes, as long as the object lives; NULL without an exception if it is none. */
static const char *bytes_of(PyObject *o, Py_ssize_t *len)
{
    if (PyBytes_Check(o)) {
        *len = PyBytes_GET_SIZE(o);
        return PyBytes_AS_STRING(o);
    }
    if (!PyUnicode_Check(o) || PyUnicode_READY(o) < 0 || PyUnicode_KIND(o) != PyUnicode_1BYTE_KIND)
        return NULL;
    *len = PyUnicode_GET_LENGTH(o);
    return (const char *)PyUnicode_1BYTE_DATA(o);
}

static bool is_token(const char *s, Py_ssize_t len)
{
    for (Py_ssize_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("!#$%&'*+-.^_`|~", s[i]))
            return false;
    return len > 0;
}

static bool is_value(const char *s, Py_ssize_t len)
{
    for (Py_ssize_t i = 0; i < len; i++)
        if (((unsigned char)s[i] < 32 && s[i] != '\t') || s[i] == 127)
            return false;
    return true;
}

static int raise_with(PyObject *class, const char *text, PyObject *what)
{
    PyObject *args = Py_BuildValue("(sO)", text, what);
    if (args)
        PyErr_SetObject(class, args);
    Py_XDECREF(args);
    return -1;
}

static bool is_name(const char *s, Py_ssize_t len, const char *lower)
{
    return (size_t)len == strlen(lower) && strncasecmp(s, lower, (size_t)len) == 0;
}

/* Looks at a header of the application's, and notes what is about the response as a whole. */
static int check_header(exchange *x, PyObject *name, PyObject *value)
{
    Py_ssize_t n, v;
    if (!PyUnicode_Check(name) || !PyUnicode_Check(value)) {
        PyObject *args = Py_BuildValue("(sOO)", "The header must be a native string", name, value);
        if (args)
            PyErr_SetObject(PyExc_UnicodeError, args);
        Py_XDECREF(args);
        return -1;
    }
    const char *s = bytes_of(name, &n), *t = bytes_of(value, &v);
    if (!s || !t) {
        PyObject *args = Py_BuildValue("(sNN)", "Non-latin1 header", PyObject_Repr(name), PyObject_Repr(value));
        if (args)
            PyErr_SetObject(PyExc_UnicodeError, args);
        Py_XDECREF(args);
        return -1;
    }
    if (has_line_end(s, n))
        return raise_with(PyExc_ValueError, "carriage return or newline in header name", name);
    if (has_line_end(t, v))
        return raise_with(PyExc_ValueError, "carriage return or newline in header value", value);
    if (!is_token(s, n))
        return raise_with(PyExc_ValueError, "this is no name of a header", name);
    if (!is_value(t, v))
        return raise_with(PyExc_ValueError, "control character in header value", value);
    switch (n) {
    case 4:
        if (is_name(s, n, "date"))
            Py_XSETREF(x->provided_date, Py_NewRef(value));
        break;
    case 10:
        if (is_name(s, n, "connection") && is_name(t, v, "close"))
            x->close_connection = 1;
        break;
    case 14:
        if (is_name(s, n, "content-length")) {
            PyObject *before = x->provided_content_length;
            bool is_number = v > 0 && v < 18;
            for (Py_ssize_t i = 0; i < v; i++)
                is_number &= isdigit((unsigned char)t[i]) != 0;
            if (!is_number || (before && PyUnicode_Compare(before, value) != 0))
                return raise_with(PyExc_ValueError, "this is no Content-Length", value);
            Py_XSETREF(x->provided_content_length, Py_NewRef(value));
        }
    }
    return 0;
}

/* The headers as they are now, whatever becomes of the application's list: tuples of good text. */
static PyObject *checked_headers(exchange *x, PyObject *headers)
{
    PyObject *all = PySequence_List(headers), *given = NULL;
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(all); i++) {
        PyObject *pair = PySequence_Tuple(PyList_GET_ITEM(all, i)), *name, *value;
        if (!pair || !PyArg_ParseTuple(pair, "OO;a header is a name and a value", &name, &value) ||
            check_header(x, name, value) < 0) {
            Py_XDECREF(pair);
            Py_DECREF(all);
            return NULL;
        }
        if (pair == PyList_GET_ITEM(all, i))
            Py_DECREF(pair);
        else
            PyList_SetItem(all, i, pair);
    }
    if (all)
        given = PyList_AsTuple(all);
    Py_XDECREF(all);
    return given;
}

static long code_of(PyObject *status)
{
    Py_ssize_t n;
    if (!PyUnicode_Check(status)) {
        PyErr_SetString(PyExc_UnicodeError, "The status string must be a native string");
        return -1;
    }
    const char *s = bytes_of(status, &n);
    if (!s) {
        PyErr_SetString(PyExc_UnicodeError, "The status string must be of Latin-1");
        return -1;
    }
    if (has_line_end(s, n))
        return raise_with(PyExc_ValueError, "carriage return or newline in status", status);
    if (n < 3 || !isdigit((unsigned char)s[0]) || !isdigit((unsigned char)s[1]) || !isdigit((unsigned char)s[2]) ||
        (n > 3 && s[3] != ' ') || !is_value(s, n))
        return raise_with(PyExc_ValueError, "a status is a number of three digits and a text", status);
    long code = (s[0] - '0') * 100 + (s[1] - '0') * 10 + (s[2] - '0');
    if (code < 200 && code != 101)
        return raise_with(PyExc_ValueError, "no status of a response", status);
    return code;
}

/* exc_info, when it is too late: raised. */
static int raise_again(PyObject *info)
{
    PyObject *type, *value, *tb;
    if (!PyTuple_Check(info) || !PyArg_ParseTuple(info, "OOO", &type, &value, &tb)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "exc_info is a tuple of three");
        return -1;
    }
    if (PyExceptionInstance_Check(value)) {
        if (tb != Py_None)
            PyException_SetTraceback(value, tb);
        PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    } else {
        PyErr_SetObject(type, value);
    }
    return -1;
}

static int begin_response(exchange *x, PyObject *status, PyObject *headers)
{
    /* Whatever is wrong is found before anything is changed. */
    char before = x->close_connection;
    PyObject *date = x->provided_date, *length = x->provided_content_length, *given = NULL;
    x->provided_date = x->provided_content_length = NULL;
    long code = code_of(status);
    if (code < 0 || !(given = checked_headers(x, headers))) {
        x->close_connection = before;
        Py_XSETREF(x->provided_date, date);
        Py_XSETREF(x->provided_content_length, length);
        return -1;
    }
    Py_XDECREF(date);
    Py_XDECREF(length);
    Py_XSETREF(x->given, given);
    Py_XSETREF(x->given_status, Py_NewRef(status));
    Py_CLEAR(x->status);
    Py_CLEAR(x->response_headers);
    x->code = code;
    if ((code == 204 || code == 304) && x->provided_content_length &&
        PyUnicode_CompareWithASCIIString(x->provided_content_length, "0") != 0) {
        PyObject *text = PyUnicode_FromFormat("Invalid Content-Length for %ld response: %R (must be absent or zero)", code,
                                              x->provided_content_length);
        PyObject *class = text ? PyObject_GetAttr((PyObject *)x, str_ApplicationError) : NULL;
        /* In bytes: some applications answer with the arguments of what they have caught. */
        PyObject *bytes = class ? PyUnicode_AsLatin1String(text) : NULL;
        if (bytes)
            PyErr_SetObject(class, bytes);
        Py_XDECREF(bytes);
        Py_XDECREF(class);
        Py_XDECREF(text);
        return -1;
    }
    return 0;
}

static PyObject *start_response(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    exchange *x = (exchange *)self;
    PyObject *given[3] = {NULL, NULL, NULL};
    static const char *const called[] = {"status", "headers", "exc_info"};
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t i = 0; i < n && i < 3; i++)
        given[i] = args[i];
    for (Py_ssize_t i = 0; i < named; i++)
        for (int k = 0; k < 3; k++)
            if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), called[k]) == 0)
                given[k] = args[n + i];
    if (n + named > 3 || !given[0] || !given[1]) {
        PyErr_SetString(PyExc_TypeError, "start_response(status, headers, exc_info=None)");
        return NULL;
    }
    if (given[2] && x->headers_sent && PyObject_IsTrue(given[2])) {
        raise_again(given[2]);
        return NULL;
    }
    if (begin_response(x, given[0], given[1]) < 0)
        return NULL;
    return PyObject_GetAttr(self, str_write);
}

/* ---- the response ---- */

/* A str or bytes as a C string, which `keep` holds if it is not the object's own. */
static const char *c_string(PyObject *o, PyObject **keep)
{
    Py_ssize_t len;
    *keep = NULL;
    if (PyUnicode_Check(o)) {
        if (PyUnicode_IS_ASCII(o))
            return (const char *)PyUnicode_1BYTE_DATA(o);
        o = *keep = PyUnicode_AsLatin1String(o);
        if (!o)
            return NULL;
    }
    if (!PyBytes_Check(o)) {
        PyErr_SetString(PyExc_TypeError, "a header is bytes");
        return NULL;
    }
    const char *s = PyBytes_AS_STRING(o);
    len = PyBytes_GET_SIZE(o);
    if ((size_t)len != strlen(s)) {
        Py_CLEAR(*keep);
        PyErr_SetString(PyExc_ValueError, "a header with a zero in it");
        return NULL;
    }
    return s;
}

static int add(exchange *x, const char *name, const char *value)
{
    int code = weald_http_add_header(x->request, name, value);
    if (code == WEALD_EINVAL) {
        PyErr_Format(PyExc_ValueError, "this is no header: %s: %s", name, value);
        return -1;
    }
    if (code < 0)
        return raise_code(code);
    x->response_length += (long long)(strlen(name) + strlen(value) + 4);
    return 0;
}

static int length_from(const char *value, int64_t *length)
{
    int64_t n = 0;
    const char *at = value;
    for (; isdigit((unsigned char)*at) && at - value < 18; at++)
        n = n * 10 + (*at - '0');
    if (at == value || *at || (*length >= 0 && *length != n)) {
        PyErr_Format(PyExc_ValueError, "Content-Length: %s", value);
        return -1;
    }
    *length = n;
    return 0;
}

/* Looks through the headers that a subclass has made: nothing is sent of them if one is bad. */
static int check_pairs(PyObject *pairs)
{
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pairs); i++) {
        PyObject *name, *value, *pair = PySequence_Tuple(PySequence_Fast_GET_ITEM(pairs, i));
        Py_ssize_t n, v;
        int64_t length = -1;
        if (!pair || !PyArg_ParseTuple(pair, "OO;a header is a name and a value", &name, &value)) {
            Py_XDECREF(pair);
            return -1;
        }
        const char *s = bytes_of(name, &n), *t = bytes_of(value, &v);
        int done = 0;
        if (!s || !t || !is_token(s, n) || !is_value(t, v))
            done = raise_with(PyExc_ValueError, "this is no header", pair);
        else if (is_name(s, n, "content-length"))
            done = length_from(t, &length);
        Py_DECREF(pair);
        if (done < 0)
            return -1;
    }
    return 0;
}

/* Hands the headers over, but for what the library says itself: the length, or -1, goes to `length`. */
static int give_headers(exchange *x, int64_t *length, char *protocol, size_t room)
{
    PyObject *all = x->response_headers ? x->response_headers : x->given;
    PyObject *pairs = all ? PySequence_Fast(all, "response_headers is a list") : NULL;
    if (!pairs)
        return all ? -1 : 0;
    int done = all == x->given ? 0 : check_pairs(pairs);
    for (Py_ssize_t i = 0; done == 0 && i < PySequence_Fast_GET_SIZE(pairs); i++) {
        PyObject *pair = PySequence_Tuple(PySequence_Fast_GET_ITEM(pairs, i)), *a = NULL, *b = NULL;
        const char *name = NULL, *value = NULL;
        if (!pair || PyTuple_GET_SIZE(pair) != 2) {
            if (pair)
                PyErr_SetString(PyExc_ValueError, "a header is a name and a value");
            done = -1;
        } else if (!(name = c_string(PyTuple_GET_ITEM(pair, 0), &a)) || !(value = c_string(PyTuple_GET_ITEM(pair, 1), &b))) {
            done = -1;
        } else if (strcasecmp(name, "content-length") == 0) {
            done = length_from(value, length);
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            /* The library's. */
        } else if (protocol && strcasecmp(name, "upgrade") == 0) {
            snprintf(protocol, room, "%s", value);
        } else if (protocol && (strcasecmp(name, "connection") == 0)) {
            /* As well. */
        } else {
            done = add(x, name, value);
        }
        Py_XDECREF(a);
        Py_XDECREF(b);
        Py_XDECREF(pair);
    }
    Py_DECREF(pairs);
    return done;
}

/* How much a piece of a body has that is not simply bytes. */
static Py_ssize_t size_of(PyObject *o)
{
    Py_INCREF(o); /* whatever its __len__ does */
    Py_ssize_t n = PyObject_Size(o);
    if (n > 0 && !PyObject_CheckBuffer(o)) {
        PyErr_Format(PyExc_TypeError, "an application returns bytes, and not %.100s", Py_TYPE(o)->tp_name);
        n = -1;
    }
    Py_DECREF(o);
    return n;
}

/* How long the body is that the application has returned; -1 when nobody knows, -2 with an exception. */
static int64_t length_of(PyObject *result)
{
    if (!result)
        return -1;
    if (!PyList_CheckExact(result) && !PyTuple_CheckExact(result)) {
        if (!PyObject_HasAttrString(result, "__len__"))
            return -1;
        PyObject *list = PySequence_List(result);
        int64_t n = list ? length_of(list) : -2;
        Py_XDECREF(list);
        return n;
    }
    int64_t all = 0;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(result); i++) {
        PyObject *o = PySequence_Fast_GET_ITEM(result, i);
        Py_ssize_t n = PyBytes_CheckExact(o) ? PyBytes_GET_SIZE(o) : size_of(o);
        if (n < 0)
            return -2;
        all += n;
    }
    return all;
}

static int switch_protocols(exchange *x, thread *th)
{
    char protocol[200] = "";
    int64_t length = -1, code;
    if (give_headers(x, &length, protocol, sizeof protocol) < 0)
        return -1;
    if (!*protocol) {
        const char *asked = weald_http_header(x->request, "upgrade");
        snprintf(protocol, sizeof protocol, "%s", asked && *asked ? asked : "tcp");
    }
    bool again = false;
    CALL(x, th, "write", code, again ? weald_stream_flush(x->stream, WEALD_FOREVER)
                                     : (again = true, weald_http_upgrade(x->request, protocol, WEALD_FOREVER)));
    if (code < 0) {
        x->broken = 1;
        return raise_code((int)code);
    }
    x->upgraded = x->headers_sent = 1;
    x->close_connection = 1;
    x->response_length += 60;
    return 0;
}

static void phrase_of(exchange *x, char *reason, size_t room)
{
    Py_ssize_t n = 0;
    const char *s = x->status ? bytes_of(x->status, &n) : x->given_status ? bytes_of(x->given_status, &n) : NULL;
    size_t len = s && n > 4 ? (size_t)n - 4 : 0;
    if (len >= room)
        len = room - 1;
    memcpy(reason, s && len ? s + 4 : "", len);
    reason[len] = 0;
}

/* Settles the response's framing, and hands its head to the library, which sends it with what comes next. */
static int send_head(exchange *x, thread *th)
{
    int64_t length = -1;
    char reason[128];
    if (x->code == 101)
        return switch_protocols(x, th);
    /* What may be wrong comes first: a head that is half made stays so. */
    bool may_count = !x->provided_content_length && !(x->plan & FINALIZE) && x->code != 204 && x->code != 304;
    int64_t counted = may_count ? length_of(x->result) : -1;
    if (counted == -2 || give_headers(x, &length, NULL, 0) < 0)
        return -1;
    if (length < 0)
        length = counted;
    if (x->close_connection == 1) {
        x->told_close = 1;
        if (add(x, "Connection", "close") < 0)
            return -1;
    }
    phrase_of(x, reason, sizeof reason);
    int code = weald_http_begin(x->request, (int)x->code, reason, length);
    if (code == WEALD_EINVAL) {
        PyErr_Format(PyExc_ValueError, "no status of a response: %ld %s", x->code, reason);
        return -1;
    }
    if (code < 0) {
        x->broken = 1;
        return raise_code(code);
    }
    x->headers_sent = 1;
    const char *method = weald_http_method(x->request);
    bool has_none = x->code == 204 || x->code == 304 || (method && strcmp(method, "HEAD") == 0);
    x->left = has_none ? -1 : length;
    x->use_chunked = length < 0 && !has_none && weald_http_version(x->request) == 11;
    /* The first line, Date, the end, and what says how long the body is. */
    x->response_length += (long long)(15 + strlen(reason) + 39);
    x->response_length += length >= 0 ? 18 + snprintf(NULL, 0, "%lld", (long long)length) : x->use_chunked ? 28 : 0;
    return 0;
}

/* The first bytes are written now: the head is made, by the subclass if it has something to say. */
static int begin(exchange *x, thread *th)
{
    if (x->headers_sent)
        return 0;
    if (x->plan & FINALIZE) {
        PyObject *done = PyObject_CallMethodNoArgs((PyObject *)x, str_finalize_headers);
        if (!done)
            return -1;
        Py_DECREF(done);
    }
    if (!x->request) {
        errno = EPIPE;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    x->response_length = 0;
    if (send_head(x, th) == 0)
        return 0;
    if (!x->headers_sent)
        x->response_length = 0; /* nothing has gone: there may be another answer */
    return -1;
}

static int write_failed(exchange *x, int64_t code)
{
    switch (code) {
    case WEALD_EMSGSIZE:
    case WEALD_EALREADY:
        return application_error(x, "The body is longer than the Content-Length");
    case WEALD_EBUSY:
        PyErr_SetString(exc_concurrent, "Another greenlet writes this response");
        return -1;
    case WEALD_EBADF:
        code = WEALD_EPIPE; /* the request is over, or the socket closed */
    }
    x->broken = 1;
    x->close_connection = 1;
    raise_code((int)code);
    PyObject *type, *e, *tb;
    PyErr_Fetch(&type, &e, &tb);
    PyErr_NormalizeException(&type, &e, &tb);
    PyObject *text = PyUnicode_FromFormat("socket error: %S", e);
    if (text)
        Py_XSETREF(x->status, text);
    if (x->code > 0)
        x->code = -x->code;
    PyErr_Restore(type, e, tb);
    return text ? -1 : -1;
}

static int finish(exchange *x, thread *th, bool at_once)
{
    int64_t code;
    bool ended = false;
    if (x->upgraded || x->ended)
        return 0;
    CALL(x, th, "write", code, ended ? weald_http_flush(x->request, WEALD_FOREVER)
                                     : (ended = true, weald_http_end(x->request, WEALD_FOREVER)));
    x->ended = 1;
    if (code >= 0 && at_once)
        CALL(x, th, "write", code, weald_http_flush(x->request, WEALD_FOREVER));
    if (code == WEALD_EINVAL) { /* less than was announced: the library hangs up */
        x->close_connection = 1;
        return 0;
    }
    return code < 0 ? write_failed(x, code) : 0;
}

/* Writes a piece of the body, and has it go if `at_once`. */
static int give(exchange *x, thread *th, const char *data, size_t len, bool at_once)
{
    int64_t code;
    size_t done = 0, n = 0;
    if (x->upgraded) {
        CALL(x, th, "write", code,
             (done += n, n = 0, weald_stream_write(x->stream, data + done, len - done, &n, WEALD_FOREVER)));
        if (code >= 0)
            CALL(x, th, "write", code, weald_stream_flush(x->stream, WEALD_FOREVER));
        return code < 0 ? write_failed(x, code) : 0;
    }
    if (len > 0) {
        if (x->ended)
            return write_failed(x, WEALD_EMSGSIZE);
        CALL(x, th, "write", code,
             (done += n, n = 0, weald_http_write(x->request, data + done, len - done, &n, WEALD_FOREVER)));
        if (code < 0)
            return write_failed(x, code);
        x->response_length += (long long)len;
        if (x->left >= 0)
            x->left -= (int64_t)len;
    }
    if (!at_once || x->ended)
        return 0;
    if (x->left == 0) /* that was all of it */
        return finish(x, th, true);
    CALL(x, th, "write", code, weald_http_flush(x->request, WEALD_FOREVER));
    return code < 0 ? write_failed(x, code) : 0;
}

static int give_object(exchange *x, thread *th, PyObject *data, bool at_once)
{
    if (PyBytes_Check(data))
        return give(x, th, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), at_once);
    if (PyUnicode_Check(data) && PyUnicode_GET_LENGTH(data) == 0)
        return give(x, th, "", 0, at_once);
    Py_buffer b;
    if (PyObject_GetBuffer(data, &b, PyBUF_SIMPLE) < 0)
        return -1;
    int done = give(x, th, b.buf, (size_t)b.len, at_once);
    PyBuffer_Release(&b);
    return done;
}

static int may_write(exchange *x, bool has_data)
{
    if (has_data && (x->code == 204 || x->code == 304))
        return application_error(x, "The %ld response must have no body", x->code);
    if (!x->headers_sent && !x->given_status && !x->status)
        return application_error(x, "The application did not call start_response()");
    return 0;
}

static PyObject *exchange_write(PyObject *self, PyObject *data)
{
    exchange *x = (exchange *)self;
    int has_data = PyObject_IsTrue(data);
    thread *th = has_data >= 0 ? may_wait() : NULL;
    if (!th || may_write(x, has_data) < 0)
        return NULL;
    Py_INCREF(data);
    int done = begin(x, th) < 0 ? -1 : give_object(x, th, data, true);
    Py_DECREF(data);
    if (done < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Sends what the application has returned. */
APART static int process(exchange *x, PyObject *result)
{
    thread *th = may_wait();
    if (!th)
        return -1;
    bool is_list = PyList_CheckExact(result);
    if (is_list || PyTuple_CheckExact(result)) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(result); i++) {
            PyObject *data = Py_NewRef(PySequence_Fast_GET_ITEM(result, i));
            int has_data = PyObject_IsTrue(data);
            if (has_data > 0 && (may_write(x, true) < 0 || begin(x, th) < 0 || give_object(x, th, data, false) < 0))
                has_data = -1;
            Py_DECREF(data);
            if (has_data < 0)
                return -1;
        }
    } else {
        PyObject *each = PyObject_GetIter(result), *data;
        if (!each)
            return -1;
        while ((data = PyIter_Next(each))) {
            int has_data = PyObject_IsTrue(data);
            if (has_data > 0 && (may_write(x, true) < 0 || begin(x, th) < 0 || give_object(x, th, data, true) < 0))
                has_data = -1;
            Py_DECREF(data);
            if (has_data < 0)
                break;
        }
        Py_DECREF(each);
        if (PyErr_Occurred())
            return -1;
    }
    if (!x->headers_sent && (x->given_status || x->status) && begin(x, th) < 0)
        return -1;
    if (!x->headers_sent) {
        x->close_connection = 1; /* it has answered by other means, or not at all: nobody knows where we are */
        return 0;
    }
    return finish(x, th, false);
}

/* ---- the whole of it ---- */

static PyObject *get_close_connection(PyObject *self, void *unused);

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

/* What the log says of a request. */
static PyObject *request_line(exchange *x)
{
    const char *method = weald_http_method(x->request), *target = weald_http_target(x->request);
    if (!method || !target)
        return Py_NewRef(str_empty);
    size_t m = strlen(method), t = strlen(target);
    char small[160], *text = m + t + 11 < sizeof small ? small : PyMem_Malloc(m + t + 11);
    if (!text)
        return PyErr_NoMemory();
    memcpy(text, method, m);
    text[m] = ' ';
    memcpy(text + m + 1, target, t);
    memcpy(text + m + 1 + t, weald_http_version(x->request) == 11 ? " HTTP/1.1" : " HTTP/1.0", 9);
    PyObject *line = PyUnicode_DecodeLatin1(text, (Py_ssize_t)(m + t + 10), NULL);
    if (text != small)
        PyMem_Free(text);
    return line;
}

static PyObject *text_of_time(void)
{
    static time_t of;
    static char text[40];
    time_t now = time(NULL);
    if (now != of || !*text) {
        struct tm tm;
        localtime_r(&now, &tm);
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
        of = now;
    }
    return PyUnicode_FromString(text);
}

static PyObject *format_request(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    char took[32] = "-", length[32] = "-";
    Py_ssize_t n = 0;
    (void)unused;
    if (x->time_finish > 0)
        snprintf(took, sizeof took, "%.6f", x->time_finish - x->time_start);
    if (x->response_length > 0)
        snprintf(length, sizeof length, "%lld", x->response_length);
    PyObject *status = x->given_status ? x->given_status : x->status;
    const char *s = status ? bytes_of(status, &n) : NULL;
    char code[16] = "000";
    size_t len = 0;
    while (s && len < (size_t)n && len < sizeof code - 1 && s[len] != ' ')
        len++;
    if (len) {
        memcpy(code, s, len);
        code[len] = 0;
    }
    PyObject *address = x->client_address;
    if (address && PyTuple_Check(address) && PyTuple_GET_SIZE(address) > 0)
        address = PyTuple_GET_ITEM(address, 0);
    PyObject *line = x->requestline ? PyObject_Str(x->requestline == Py_None ? str_empty : x->requestline) : request_line(x);
    PyObject *now = line ? text_of_time() : NULL;
    PyObject *from = now ? (address && PyObject_IsTrue(address) > 0 ? PyObject_Str(address) : PyUnicode_FromString("-")) : NULL;
    PyObject *text = from ? PyUnicode_FromFormat("%U - - [%U] \"%U\" %s %s %s", from, now, line, code, length, took) : NULL;
    Py_XDECREF(from);
    Py_XDECREF(now);
    Py_XDECREF(line);
    return text;
}

/* Writes the line to the server's log, unless that is none. */
APART static int log_it(exchange *x)
{
    if (x->plan & (LOG_REQUEST | BY_STEPS)) {
        PyObject *done = PyObject_CallMethodNoArgs((PyObject *)x, str_log_request);
        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    PyObject *log = PyObject_GetAttr(server_of(x), str_log);
    if (!log)
        return -1;
    int done = 0;
    if ((PyObject *)Py_TYPE(log) != quiet_log) {
        PyObject *line = format_request((PyObject *)x, NULL);
        PyObject *whole = line ? PyUnicode_FromFormat("%U\n", line) : NULL;
        PyObject *written = whole ? PyObject_CallMethodOneArg(log, str_write, whole) : NULL;
        done = written ? 0 : -1;
        Py_XDECREF(written);
        Py_XDECREF(whole);
        Py_XDECREF(line);
    }
    Py_DECREF(log);
    return done;
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
    int done = process(x, result);
    if (!PyList_CheckExact(result) && !PyTuple_CheckExact(result))
        done = close_result(result, done);
    Py_CLEAR(x->result);
    Py_DECREF(result);
    return done;
}

/* The environ of the request, and who is to answer it. */
APART static int prepare(exchange *x)
{
    forget_response(x);
    x->time_start = clock_now();
    x->time_finish = 0;
    PyObject *env = x->plan & GET_ENVIRON ? PyObject_CallMethodNoArgs((PyObject *)x, str_get_environ)
                                          : get_environ((PyObject *)x, NULL);
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
    if (x->wsgi_input && Py_IS_TYPE(x->wsgi_input, &input_type) && ((input *)x->wsgi_input)->broken)
        x->close_connection = 1;
    x->time_finish = clock_now();
    return log_it(x);
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
    while ((more = next_request(x)) > 0) {
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

static PyObject *py_open(PyObject *self, PyObject *args)
{
    exchange *x = (exchange *)self;
    int fd;
    PyObject *source, *tls = Py_None;
    if (!PyArg_ParseTuple(args, "iO|O:_open", &fd, &source, &tls))
        return NULL;
    if (x->connection) {
        PyErr_SetString(PyExc_RuntimeError, "it is open");
        return NULL;
    }
    int done = open_connection(x, fd, source, tls);
    if (done == -1 && !PyErr_Occurred())
        Py_RETURN_NONE;
    if (done < 0 || make_plan(x) < 0)
        return NULL;
    return PyBool_FromLong(x->plan & BY_STEPS);
}

static PyObject *py_hang_up(PyObject *self, PyObject *unused)
{
    (void)unused;
    close_connection((exchange *)self);
    Py_CLEAR(((exchange *)self)->start);
    Py_CLEAR(((exchange *)self)->source);
    Py_RETURN_NONE;
}

static PyObject *py_next(PyObject *self, PyObject *unused)
{
    (void)unused;
    int more = next_request((exchange *)self);
    return more < 0 ? NULL : PyBool_FromLong(more);
}

static PyObject *py_new_response(PyObject *self, PyObject *unused)
{
    (void)unused;
    forget_response((exchange *)self);
    Py_RETURN_NONE;
}

static PyObject *py_process(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    PyObject *result = x->result ? Py_NewRef(x->result) : PyTuple_New(0);
    (void)unused;
    int done = result ? process(x, result) : -1;
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
    } else if (finish(x, th, true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Has the library end the request: what is left of its body is passed over, and the response has gone. */
static int finish_request(exchange *x)
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

/* After a response: true if another request may follow. Otherwise the connection has said goodbye. */
static PyObject *py_go_on(PyObject *self, PyObject *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    int done = must_leave(x) ? 0 : finish_request(x);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

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

/* Reads at least one byte of the connection, and up to `n`. */
static PyObject *py_raw_read(PyObject *self, PyObject *arg)
{
    exchange *x = (exchange *)self;
    const char *data = NULL;
    Py_ssize_t n = PyNumber_AsSsize_t(arg, PyExc_OverflowError);
    if (n < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a size is not negative");
        return NULL;
    }
    int there = n ? raw_fill(x, 1, &data, WEALD_FOREVER) : 0;
    if (there < 0)
        return NULL;
    if (there < n)
        n = there;
    PyObject *bytes = PyBytes_FromStringAndSize(data, n);
    if (bytes && n)
        weald_stream_skip(x->stream, (size_t)n);
    return bytes;
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

static PyObject *py_raw_line(PyObject *self, PyObject *arg)
{
    Py_ssize_t limit = PyNumber_AsSsize_t(arg, NULL);
    return limit == -1 && PyErr_Occurred() ? NULL : raw_line((exchange *)self, limit, false);
}

static PyObject *py_first_line(PyObject *self, PyObject *arg)
{
    Py_ssize_t limit = PyNumber_AsSsize_t(arg, NULL);
    return limit == -1 && PyErr_Occurred() ? NULL : raw_line((exchange *)self, limit, true);
}

/* Puts bytes back in front of what the connection is read from. */
static PyObject *py_unread(PyObject *self, PyObject *bytes)
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
    return code < 0 ? write_failed(x, code) : 0;
}

static PyObject *py_raw_write(PyObject *self, PyObject *data)
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

/* The request's headers, in their order. */
static PyObject *py_header_pairs(PyObject *self, PyObject *unused)
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

/* Makes the request a connection of WebSocket. */
static PyObject *py_websocket(PyObject *self, PyObject *args)
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
    } while ((o = outcome(x, th, code)) > 0);
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

/* ---- attributes ---- */

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

LAZY(requestline, request_line(x))
LAZY(command, latin1(weald_http_method(x->request)))
LAZY(path, latin1(weald_http_target(x->request)))
LAZY(request_version, Py_NewRef(str_http[weald_http_version(x->request) & 1]))

static PyObject *get_headers(PyObject *self, void *unused)
{
    exchange *x = (exchange *)self;
    (void)unused;
    if (x->headers)
        return Py_NewRef(x->headers);
    PyObject *pairs = py_header_pairs(self, NULL);
    PyObject *headers = pairs ? PyObject_CallOneArg(make_headers, pairs) : NULL;
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

static PyObject *file_of(exchange *x)
{
    if (!x->rfile) {
        PyObject *file = PyObject_CallOneArg(make_file, (PyObject *)x);
        if (!file)
            return NULL;
        Py_XSETREF(x->rfile, file);
    }
    return Py_NewRef(x->rfile);
}

static PyObject *get_rfile(PyObject *self, void *unused)
{
    (void)unused;
    return file_of((exchange *)self);
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

static PyGetSetDef exchange_getset[] = {
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

static PyMemberDef exchange_members[] = {
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

static PyMethodDef exchange_methods[] = {
    {"start_response", WITH_KEYWORDS(start_response), METH_FASTCALL | METH_KEYWORDS,
     "start_response(status, headers, exc_info=None): what the application calls before its first byte."},
    {"write", exchange_write, METH_O, "write(data): sends a part of the body, behind the headers if it is the first."},
    {"get_environ", get_environ, METH_NOARGS, "The environ of the request: the server's, and what the request adds."},
    {"format_request", format_request, METH_NOARGS, "The line of the request for the log."},
    {"_serve", serve, METH_NOARGS, "Answers requests until the connection is over."},
    {"_open", py_open, METH_VARARGS, "_open(fd, source, tls=None): begins; whether the class wants to be driven by steps. None: no handshake."},
    {"_hang_up", py_hang_up, METH_NOARGS, "Ends the connection, but for the socket."},
    {"_next", py_next, METH_NOARGS, "Reads the head of the next request; whether there is one."},
    {"_new_response", py_new_response, METH_NOARGS, "Forgets the response before."},
    {"_go_on", py_go_on, METH_NOARGS, "After a response: whether there may be another request."},
    {"_process", py_process, METH_NOARGS, "Sends what the application has returned."},
    {"_end", py_end, METH_NOARGS, "Ends the response."},
    {"_raw_read", py_raw_read, METH_O, "_raw_read(n): at least a byte of the connection."},
    {"_raw_line", py_raw_line, METH_O, "_raw_line(limit): a line of it."},
    {"_first_line", py_first_line, METH_O, "_first_line(limit): a request's first line, in the server's time."},
    {"_unread", py_unread, METH_O, "_unread(data): puts bytes back."},
    {"_raw_write", py_raw_write, METH_O, "_raw_write(data): bytes past the response."},
    {"_header_pairs", py_header_pairs, METH_NOARGS, "The request's headers."},
    {"_websocket", py_websocket, METH_VARARGS,
     "_websocket(class, max_message, max_unsent, protocols): makes the request a WebSocket; None: it is none."},
    {NULL},
};

/* ---- the object ---- */

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
    forget_request(x);
    forget_response(x);
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
    close_connection((exchange *)self);
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

static PyTypeObject exchange_type = {
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
    if (!PyArg_ParseTuple(args, "OOOOOO:wsgi_set_up", &handler_class, &server_class, &make_headers, &make_file,
                          &invalid_input, &quiet_log))
        return NULL;
    Py_INCREF(handler_class);
    Py_INCREF(server_class);
    Py_INCREF(make_headers);
    Py_INCREF(make_file);
    Py_INCREF(invalid_input);
    Py_INCREF(quiet_log);
    Py_XSETREF(environ_of_server, PyObject_GetAttrString(server_class, "get_environ"));
    if (!environ_of_server)
        return NULL;
    for (size_t i = 0; i < POINTS; i++) {
        Py_XSETREF(points[i].was, PyObject_GetAttrString(handler_class, points[i].name));
        if (!points[i].was)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"tls_server", tls_server, METH_VARARGS, "tls_server(certfile, keyfile): what a server of the library's TLS knows."},
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
    Py_INCREF(&exchange_type);
    Py_INCREF(&input_type);
    if (PyModule_AddObject(m, "Exchange", (PyObject *)&exchange_type) < 0)
        return -1;
    return PyModule_AddObject(m, "RequestBody", (PyObject *)&input_type);
}
