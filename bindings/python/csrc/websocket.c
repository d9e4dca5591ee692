/* WebSocket connections of the library, over a socket on which hands have been shaken, or to a URL. */

#include "sync.h"
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    weald_websocket h; /* 0: closed for good */
} websocket;

static PyTypeObject websocket_type;

static PyObject *failed(int64_t code)
{
    if (code == WEALD_ETIMEDOUT)
        PyErr_SetString(PyExc_TimeoutError, "timed out");
    else if (code == WEALD_EBUSY)
        PyErr_SetString(exc_concurrent, "Another greenlet receives from this connection");
    else
        raise_code((int)code);
    return NULL;
}

/* 0: the call is done, well or not; 1: it is to be made again; -1: the greenlet has been told something. */
static int outcome(thread *th, int64_t code)
{
    return code == CODE_RAISE ? green_check(th, CODE_RAISE) : after_switch(th);
}

static int may_wait(thread **th, PyObject *timeout, int64_t *deadline)
{
    *th = thread_get();
    if (!*th || green_may_wait(*th) < 0)
        return -1;
    return deadline_from(timeout, deadline);
}

/* Makes `call` until it has an outcome of its own, which is left in `code`; -1 with an exception. */
#define WAITING(th, code, what, call)                     \
    do {                                                  \
        int o;                                            \
        do {                                              \
            (th)->current->why = what;                    \
            (code) = (call);                              \
            (th)->current->why = NULL;                    \
        } while ((o = outcome(th, code)) > 0);            \
        if (o < 0)                                        \
            return NULL;                                  \
    } while (0)

static PyObject *made(PyTypeObject *type, weald_websocket h)
{
    if (h < 0)
        return failed(h);
    websocket *w = (websocket *)type->tp_alloc(type, 0);
    if (w)
        w->h = h;
    else
        weald_close(h);
    return (PyObject *)w;
}

PyObject *websocket_made(PyObject *class, weald_websocket h)
{
    if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, &websocket_type)) {
        weald_close(h);
        PyErr_SetString(PyExc_TypeError, "no class of WebSocket");
        return NULL;
    }
    return made((PyTypeObject *)class, h);
}

static PyObject *websocket_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"fd", "client", "deflate", "max_message", "max_unsent", NULL};
    weald_websocket_options how = {.size = sizeof how};
    int fd, client = 0, deflate = 0;
    Py_ssize_t message = 0, unsent = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "i|ppnn:WebSocket", names, &fd, &client, &deflate, &message,
                                     &unsent))
        return NULL;
    if (message < 0 || unsent < 0) {
        PyErr_SetString(PyExc_ValueError, "a size is not negative");
        return NULL;
    }
    if (!thread_get())
        return NULL;
    how.flags = (client ? WEALD_WEBSOCKET_CLIENT : 0) | (deflate ? WEALD_WEBSOCKET_DEFLATE : 0);
    how.max_message = (size_t)message;
    how.max_unsent = (size_t)unsent;
    if ((fd = dup(fd)) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    weald_stream s = weald_stream_new(fd, NULL);
    if (s < 0) {
        close(fd);
        return failed(s);
    }
    weald_websocket h = weald_websocket_new(s, &how);
    if (h < 0)
        weald_close(s);
    return made(type, h);
}

static PyObject *websocket_connect(PyObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"url", "protocols", "headers", "deflate", "max_message", "timeout", NULL};
    weald_websocket_options how = {.size = sizeof how};
    const char *url;
    int deflate = 0;
    Py_ssize_t message = 0;
    PyObject *timeout = NULL;
    thread *th;
    int64_t deadline;
    weald_websocket h;
    weald_tls_config tls = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "s|zzpnO:connect", names, &url, &how.protocols, &how.headers,
                                     &deflate, &message, &timeout))
        return NULL;
    if (message < 0) {
        PyErr_SetString(PyExc_ValueError, "a size is not negative");
        return NULL;
    }
    if (may_wait(&th, timeout, &deadline) < 0)
        return NULL;
    how.flags = deflate ? WEALD_WEBSOCKET_DEFLATE : 0;
    how.max_message = (size_t)message;
    if (strncmp(url, "wss:", 4) == 0) {
        if ((tls = weald_tls_client(NULL)) < 0)
            return failed(tls);
        how.tls = tls;
    }
    do {
        th->current->why = "connect";
        h = weald_websocket_connect(url, &how, deadline);
        th->current->why = NULL;
        int o = outcome(th, h);
        if (o == 0)
            break;
        if (h > 0)
            weald_close(h);
        if (o < 0) {
            if (tls)
                weald_close(tls);
            return NULL;
        }
    } while (true);
    if (tls)
        weald_close(tls);
    if (h < 0 && h != WEALD_ETIMEDOUT && *weald_error_message(weald_self())) {
        PyErr_Format(PyExc_ConnectionError, "%s: %s", url, weald_error_message(weald_self()));
        return NULL;
    }
    return made((PyTypeObject *)type, h);
}

static void websocket_dealloc(PyObject *self)
{
    websocket *w = (websocket *)self;
    if (w->h > 0)
        weald_close(w->h);
    Py_TYPE(self)->tp_free(self);
}

/* The timeout behind `fixed` arguments, by place or by name; NULL if there is none. -1: `usage` is the error. */
static int timeout_of(PyObject *const *args, Py_ssize_t n, PyObject *names, Py_ssize_t fixed, const char *usage,
                      PyObject **timeout)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    bool is_it = named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") == 0;
    if (n < fixed || n + named > fixed + 1 || (named && !is_it)) {
        PyErr_SetString(PyExc_TypeError, usage);
        return -1;
    }
    *timeout = n + named > fixed ? args[fixed] : NULL;
    return 0;
}

static PyObject *websocket_receive(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    websocket *w = (websocket *)self;
    const void *data;
    size_t len;
    PyObject *timeout;
    thread *th;
    int64_t deadline, code;
    if (timeout_of(args, n, names, 0, "receive(timeout=None)", &timeout) < 0 ||
        may_wait(&th, timeout, &deadline) < 0)
        return NULL;
    WAITING(th, code, "message", weald_websocket_receive(w->h, &data, &len, deadline));
    switch (code) {
    case 0:
        Py_RETURN_NONE;
    case WEALD_WEBSOCKET_TEXT:
        return PyUnicode_DecodeUTF8(data, (Py_ssize_t)len, NULL);
    case WEALD_WEBSOCKET_BINARY:
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    default:
        return failed(code);
    }
}

/* What is to be sent: its kind, and where it lies. The buffer is to be released. */
static int message_of(PyObject *o, Py_buffer *b)
{
    if (PyUnicode_Check(o)) {
        Py_ssize_t len;
        const char *text = PyUnicode_AsUTF8AndSize(o, &len);
        if (!text || PyBuffer_FillInfo(b, o, (void *)text, len, 1, PyBUF_SIMPLE) < 0)
            return -1;
        return WEALD_WEBSOCKET_TEXT;
    }
    return PyObject_GetBuffer(o, b, PyBUF_SIMPLE) < 0 ? -1 : WEALD_WEBSOCKET_BINARY;
}

static PyObject *give(websocket *w, int what, Py_buffer *b, PyObject *timeout)
{
    thread *th;
    int64_t deadline, code;
    if (may_wait(&th, timeout, &deadline) < 0)
        return NULL;
    WAITING(th, code, "room to send", weald_websocket_send(w->h, what, b->buf, (size_t)b->len, deadline));
    if (code < 0)
        return failed(code);
    Py_RETURN_NONE;
}

static PyObject *websocket_send(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    Py_buffer b;
    PyObject *timeout;
    if (timeout_of(args, n, names, 1, "send(message, timeout=None)", &timeout) < 0)
        return NULL;
    int what = message_of(args[0], &b);
    if (what < 0)
        return NULL;
    PyObject *r = give((websocket *)self, what, &b, timeout);
    PyBuffer_Release(&b);
    return r;
}

static PyObject *websocket_ping(PyObject *self, PyObject *args)
{
    Py_buffer b = {0};
    if (!PyArg_ParseTuple(args, "|y*:ping", &b))
        return NULL;
    PyObject *r = give((websocket *)self, WEALD_WEBSOCKET_PING, &b, NULL);
    PyBuffer_Release(&b);
    return r;
}

static PyObject *websocket_close(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"code", "reason", "timeout", NULL};
    websocket *w = (websocket *)self;
    int with = 1000;
    const char *reason = "";
    PyObject *timeout = NULL;
    thread *th;
    int64_t deadline, code;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|isO:close", names, &with, &reason, &timeout) ||
        may_wait(&th, timeout, &deadline) < 0)
        return NULL;
    WAITING(th, code, "the other side's close", weald_websocket_close(w->h, with, reason, deadline));
    /* The other side has gone already, one way or another: then it is closed as well. */
    if (code < 0 && code != WEALD_EPIPE && code != WEALD_ECONNABORTED && code != WEALD_ECONNRESET &&
        code != WEALD_EPROTO && code != WEALD_EMSGSIZE && code != WEALD_EBADF)
        return failed(code);
    Py_RETURN_NONE;
}

static PyObject *websocket_abort(PyObject *self, PyObject *unused)
{
    websocket *w = (websocket *)self;
    (void)unused;
    if (w->h > 0)
        weald_close(w->h);
    w->h = 0;
    Py_RETURN_NONE;
}

static PyObject *websocket_fileno(PyObject *self, PyObject *unused)
{
    (void)unused;
    int fd = weald_websocket_fd(((websocket *)self)->h);
    return fd < 0 ? failed(fd) : PyLong_FromLong(fd);
}

static PyObject *get_close_code(PyObject *self, void *unused)
{
    (void)unused;
    int code = weald_websocket_close_code(((websocket *)self)->h);
    if (code <= 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(code);
}

static PyObject *get_close_reason(PyObject *self, void *unused)
{
    (void)unused;
    const char *reason = weald_websocket_close_reason(((websocket *)self)->h);
    return PyUnicode_DecodeUTF8(reason, (Py_ssize_t)strlen(reason), "replace");
}

static PyObject *get_protocol(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(weald_websocket_protocol(((websocket *)self)->h));
}

static PyObject *get_unsent(PyObject *self, void *unused)
{
    (void)unused;
    int64_t bytes = weald_websocket_unsent(((websocket *)self)->h);
    return PyLong_FromLongLong(bytes < 0 ? 0 : bytes);
}

static PyObject *get_closed(PyObject *self, void *unused)
{
    (void)unused;
    weald_websocket h = ((websocket *)self)->h;
    return PyBool_FromLong(h == 0 || weald_websocket_close_code(h) != 0);
}

static PyMethodDef websocket_methods[] = {
    {"connect", (PyCFunction)(void (*)(void))websocket_connect, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     "connect(url, protocols=None, headers=None, deflate=False, max_message=0, timeout=None): a client's connection."},
    {"receive", (PyCFunction)(void (*)(void))websocket_receive, METH_FASTCALL | METH_KEYWORDS,
     "receive(timeout=None): the next message, str or bytes; None when the other side has closed."},
    {"send", (PyCFunction)(void (*)(void))websocket_send, METH_FASTCALL | METH_KEYWORDS,
     "send(message, timeout=None): str goes as text, bytes as they are. Waits while too much has not gone."},
    {"ping", websocket_ping, METH_VARARGS, "ping(data=b''): asks for a sign of life."},
    {"close", (PyCFunction)(void (*)(void))websocket_close, METH_VARARGS | METH_KEYWORDS,
     "close(code=1000, reason='', timeout=None): says so, and waits for the answer."},
    {"abort", websocket_abort, METH_NOARGS, "Drops the connection without a word."},
    {"fileno", websocket_fileno, METH_NOARGS, "The connection's descriptor."},
    {NULL},
};

static PyGetSetDef websocket_getset[] = {
    {"close_code", get_close_code, NULL, "The code that the other side has closed with; None before that.", NULL},
    {"close_reason", get_close_reason, NULL, "The reason that goes with it.", NULL},
    {"protocol", get_protocol, NULL, "The subprotocol that was agreed, or ''.", NULL},
    {"unsent", get_unsent, NULL, "How many bytes have not gone.", NULL},
    {"closed", get_closed, NULL, "Whether the connection has ended.", NULL},
    {NULL},
};

static PyTypeObject websocket_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.WebSocket",
    .tp_basicsize = sizeof(websocket),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "WebSocket(fd, client=False, deflate=False, max_message=0, max_unsent=0): over a socket, which stays the\n"
              "caller's, on which hands have been shaken.",
    .tp_new = websocket_new,
    .tp_dealloc = websocket_dealloc,
    .tp_methods = websocket_methods,
    .tp_getset = websocket_getset,
};

static PyObject *broadcast(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"sockets", "message", "drop_slow", NULL};
    PyObject *sockets, *message;
    int drop = 0;
    Py_buffer b;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO|p:broadcast", names, &sockets, &message, &drop))
        return NULL;
    PyObject *list = PySequence_Fast(sockets, "what connections?");
    if (!list)
        return NULL;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(list);
    weald_websocket *all = PyMem_New(weald_websocket, n ? n : 1);
    int what = all ? message_of(message, &b) : -1;
    int64_t got = 0;
    if (what >= 0) {
        for (Py_ssize_t i = 0; i < n; i++) {
            PyObject *w = PySequence_Fast_GET_ITEM(list, i);
            all[i] = PyObject_TypeCheck(w, &websocket_type) ? ((websocket *)w)->h : 0;
        }
        got = weald_websocket_broadcast(all, (size_t)n, what, b.buf, (size_t)b.len,
                                        drop ? WEALD_WEBSOCKET_DROP_SLOW : 0);
        PyBuffer_Release(&b);
    } else if (!all) {
        PyErr_NoMemory();
    }
    PyMem_Free(all);
    Py_DECREF(list);
    if (what < 0)
        return NULL;
    return got < 0 ? failed(got) : PyLong_FromLongLong(got);
}

static PyMethodDef functions[] = {
    {"broadcast", (PyCFunction)(void (*)(void))broadcast, METH_VARARGS | METH_KEYWORDS,
     "broadcast(sockets, message, drop_slow=False): one message to all who have room; how many get it."},
    {NULL},
};

int init_websocket(PyObject *m)
{
    if (PyType_Ready(&websocket_type) < 0 || PyModule_AddFunctions(m, functions) < 0)
        return -1;
    Py_INCREF(&websocket_type);
    return PyModule_AddObject(m, "WebSocket", (PyObject *)&websocket_type);
}
