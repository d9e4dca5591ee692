/* What the files of the WSGI server's connection share.
 *
 *   wsgi             the exchange as an object: its loop, the same by steps, and what its class overrides
 *   wsgi_connection  what is below: opening it, over a Python object too, requests from it, bytes past them
 *   wsgi_environ     a request's environ
 *   wsgi_input       wsgi.input
 *   wsgi_file        a handler's rfile
 *   wsgi_response    start_response, and what is sent
 *   wsgi_log         a request's line of the log
 *   wsgi_attributes  what others see of an exchange
 */

#ifndef WEALD_PYTHON_WSGI_H
#define WEALD_PYTHON_WSGI_H

#include "sync.h"

/* All of it stays inside the extension, and is reached without its table of addresses. */
#pragma GCC visibility push(hidden)

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

extern PyTypeObject exchange_type;

/* From weald.pywsgi. */
extern struct pywsgi {
    PyObject *headers, *file, *invalid_input, *quiet_log, *environ_of_server;
} pywsgi;

#define NAMES(X)                                                                                                  \
    X(get_environ) X(environ) X(environ_class) X(application) X(log) X(write) X(log_request) X(finalize_headers)  \
    X(ApplicationError) X(close) X(recv) X(read1) X(sendall) X(settimeout) X(gettimeout) X(head_timeout)          \
    X(idle_timeout) X(body_timeout) X(write_timeout) X(_refused) X(_failed) X(_environ_from_headers)  \
    X(REQUEST_METHOD) X(SCRIPT_NAME) X(PATH_INFO) X(QUERY_STRING) X(SERVER_PROTOCOL) X(REMOTE_ADDR)               \
    X(REMOTE_PORT)
#define DECLARE(name) extern PyObject *str_##name;
NAMES(DECLARE)
extern PyObject *str_input, *str_terminated, *str_http[2], *str_empty;

/* ---- calls of the library ---- */

int exchange_outcome_slowly(exchange *x, thread *th, int64_t code);

/* Whether a call has an outcome of its own: 0; 1 if it is to be made again; -1 with an exception. */
static inline int exchange_outcome(exchange *x, thread *th, int64_t code)
{
    if (likely(!x->raised) && likely(!th->attention) && likely(code >= 0 || code != CODE_RAISE))
        return 0;
    return exchange_outcome_slowly(x, th, code);
}

static inline thread *may_wait(void)
{
    thread *th = thread_get();
    return th && green_may_wait(th) == 0 ? th : NULL;
}

/* Makes a call that may switch, again where that is due; -1 with an exception. */
#define CALL(x, th, what, code, call)                       \
    do {                                                    \
        int o_;                                             \
        do {                                                \
            (th)->current->why = what;                      \
            (code) = (call);                                \
            (th)->current->why = NULL;                      \
        } while ((o_ = exchange_outcome(x, th, code)) > 0); \
        if (o_ < 0)                                         \
            return -1;                                      \
    } while (0)

/* Somebody may have deleted it. */
static inline PyObject *server_of(exchange *x)
{
    return x->server ? x->server : Py_None;
}

/* ---- wsgi_connection ---- */

/* 0; -1 when the handshake failed, or with an exception; -2 with an exception. */
int exchange_open(exchange *x, int fd, PyObject *source, PyObject *tls);
void exchange_close(exchange *x);
PyObject *exchange_move(PyObject *self, PyObject *args);
/* Reads the head of the next request: 1; 0 when there is none, and `refused` says whether something came; -1. */
int exchange_next(exchange *x);
/* Has the library end the request: what is left of its body is passed over, and the response has gone. */
int exchange_done(exchange *x);
void exchange_forget_request(exchange *x);
/* Up to `size` bytes of the connection, to its end if that is negative; with `some` what is there, at least a byte. */
PyObject *exchange_read(exchange *x, Py_ssize_t size, bool some);
PyObject *exchange_raw_line(PyObject *self, PyObject *limit);
PyObject *exchange_first_line(PyObject *self, PyObject *limit);
PyObject *exchange_unread(PyObject *self, PyObject *bytes);
PyObject *exchange_raw_write(PyObject *self, PyObject *data);
PyObject *exchange_websocket(PyObject *self, PyObject *args);
PyObject *tls_server(PyObject *module, PyObject *args);

/* ---- wsgi_environ ---- */

PyObject *exchange_make_environ(PyObject *self, PyObject *unused);

/* ---- wsgi_input ---- */

extern PyTypeObject input_type;
PyObject *input_new(exchange *x);
bool input_is_broken(PyObject *o); /* of any object */

/* ---- wsgi_file ---- */

int init_wsgi_file(PyObject *m);

/* ---- wsgi_response ---- */

PyObject *exchange_start_response(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *exchange_write(PyObject *self, PyObject *data);
/* Sends what the application has returned. */
int exchange_process(exchange *x, PyObject *result);
/* Ends the response, and has it go if `at_once`. */
int exchange_finish(exchange *x, thread *th, bool at_once);
/* The exception for a code; the connection is no good any more. */
int exchange_write_failed(exchange *x, int64_t code);
void exchange_forget_response(exchange *x);
/* The bytes of a str in Latin-1, or of bytes, as long as the object lives; NULL without an exception if it is none. */
const char *bytes_of(PyObject *o, Py_ssize_t *len);

/* ---- wsgi_log ---- */

/* Writes the line to the server's log, unless that is none. */
int exchange_log(exchange *x);
PyObject *exchange_request_line(exchange *x);
PyObject *exchange_format_request(PyObject *self, PyObject *unused);

/* ---- wsgi_attributes ---- */

extern PyGetSetDef exchange_getset[];
extern PyMemberDef exchange_members[];
/* The request's headers, in their order. */
PyObject *exchange_header_pairs(PyObject *self, PyObject *unused);
/* A file that the connection is read by. */
PyObject *exchange_file(exchange *x);

#pragma GCC visibility pop

#endif
