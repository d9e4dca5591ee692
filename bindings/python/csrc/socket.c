/* What sockets do most, in C: weald.socket.socket is derived from this.
 *
 * A method goes to the library at once where that can do it all: it tries, waits and tries again in
 * one call. The rest is Python's (`_read`, `_write`, `_sendall`, `_in_hub`): waits for a socket whose
 * watchers somebody has asked for; and calls in the hub, where nothing may wait and what is there can
 * be had. */

#include "io.h"
#include "sync.h"

typedef struct {
    PyObject_HEAD
    PyObject *timeout;         /* None, or a float */
    PyObject *reader, *writer; /* watchers; None until somebody asks for them */
    PyObject *raw;             /* the interpreter's socket */
    int fd;
} sock;

static PyObject *name_read, *name_write, *name_sendall, *name_in_hub;
static PyObject *name_of_recv, *name_of_recv_into, *name_of_send;

/* Whether a call must not wait at all: BlockingIOError then. */
static bool is_zero(PyObject *timeout)
{
    return timeout && PyFloat_CheckExact(timeout) && PyFloat_AS_DOUBLE(timeout) == 0.0;
}

static bool is_none(PyObject *o)
{
    return !o || o == Py_None;
}

/* Arguments by place or by name into `to`, whose first `least` must be there. */
static int arguments(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, const char *const *known,
                     int least, int most, PyObject **to)
{
    if (n > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments (%zd given)", f, most, n);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        to[i] = args[i];
    for (Py_ssize_t k = 0; names && k < PyTuple_GET_SIZE(names); k++) {
        PyObject *name = PyTuple_GET_ITEM(names, k);
        int i = 0;
        while (i < most && PyUnicode_CompareWithASCIIString(name, known[i]) != 0)
            i++;
        if (i == most || to[i]) {
            PyErr_Format(PyExc_TypeError, "%s() got %s argument '%U'", f,
                         i == most ? "an unexpected keyword" : "multiple values for", name);
            return -1;
        }
        to[i] = args[n + k];
    }
    for (int i = 0; i < least; i++)
        if (!to[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", f, known[i]);
            return -1;
        }
    return 0;
}

static int flags_from(PyObject *o, int *flags)
{
    *flags = 0;
    if (o && (*flags = (int)PyLong_AsLong(o)) == -1 && PyErr_Occurred())
        return -1;
    return 0;
}

/* Before the library is called: where there is no way to wait, -1 with an exception. */
static int begin(thread **th, PyObject *timeout, int64_t *deadline)
{
    *th = thread_get();
    *deadline = WEALD_NOW;
    if (*th && is_zero(timeout))
        return 0;
    if (!*th || green_may_wait(*th) < 0)
        return -1;
    return deadline_from(timeout, deadline);
}

/* After a failure that may only say that this is the hub: calls self._in_hub(method, ...) then. */
static PyObject *or_in_hub(sock *s, PyObject *method, PyObject *a, PyObject *b, PyObject *c)
{
    if (!PyErr_ExceptionMatches(exc_blocking))
        return NULL;
    PyErr_Clear();
    return PyObject_CallMethodObjArgs((PyObject *)s, name_in_hub, method, a, b, c, NULL);
}

static PyObject *sock_recv(sock *s, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    static const char *const known[] = {"bufsize", "flags"};
    PyObject *a[2] = {NULL, NULL};
    thread *th;
    int64_t deadline;
    int flags;
    if (arguments("recv", args, n, names, known, 1, 2, a) < 0 || flags_from(a[1], &flags) < 0)
        return NULL;
    if (!is_none(s->reader) && !is_zero(s->timeout))
        return PyObject_CallMethodObjArgs((PyObject *)s, name_read, name_of_recv, a[0], a[1], NULL);
    PyObject *got = begin(&th, s->timeout, &deadline) < 0 ? NULL : io_take(f_recv, s->fd, a[0], flags, th, deadline);
    return got ? got : or_in_hub(s, name_of_recv, a[0], a[1], NULL);
}

static PyObject *sock_recv_into(sock *s, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    static const char *const known[] = {"buffer", "nbytes", "flags"};
    PyObject *a[3] = {NULL, NULL, NULL};
    thread *th;
    int64_t deadline;
    int flags;
    if (arguments("recv_into", args, n, names, known, 1, 3, a) < 0 || flags_from(a[2], &flags) < 0)
        return NULL;
    int limited = a[1] ? PyObject_IsTrue(a[1]) : 0;
    if (limited < 0)
        return NULL;
    PyObject *zero = PyLong_FromLong(0), *nbytes = a[1] ? a[1] : zero, *got = NULL;
    if (!zero)
        return NULL;
    if (limited || (!is_none(s->reader) && !is_zero(s->timeout))) {
        got = PyObject_CallMethodObjArgs((PyObject *)s, name_read, name_of_recv_into, a[0], nbytes, a[2], NULL);
    } else {
        if (begin(&th, s->timeout, &deadline) == 0)
            got = io_take_into(f_recv, s->fd, a[0], flags, th, deadline);
        if (!got)
            got = or_in_hub(s, name_of_recv_into, a[0], nbytes, a[2]);
    }
    Py_DECREF(zero);
    return got;
}

static PyObject *sock_send(sock *s, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    static const char *const known[] = {"data", "flags", "timeout"};
    PyObject *a[3] = {NULL, NULL, NULL};
    thread *th;
    int64_t deadline;
    int flags;
    if (arguments("send", args, n, names, known, 1, 3, a) < 0 || flags_from(a[1], &flags) < 0)
        return NULL;
    PyObject *timeout = a[2] ? a[2] : s->timeout ? s->timeout : Py_None;
    if (!is_none(s->writer) && !is_zero(timeout))
        return PyObject_CallMethodObjArgs((PyObject *)s, name_write, name_of_send, timeout, a[0], a[1], NULL);
    PyObject *got =
        begin(&th, timeout, &deadline) < 0 ? NULL : io_give(f_send, s->fd, a[0], flags, th, deadline, false);
    return got ? got : or_in_hub(s, name_of_send, a[0], a[1], NULL);
}

static PyObject *sock_sendall(sock *s, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    static const char *const known[] = {"data", "flags"};
    PyObject *a[2] = {NULL, NULL};
    thread *th;
    int64_t deadline;
    int flags;
    if (arguments("sendall", args, n, names, known, 1, 2, a) < 0 || flags_from(a[1], &flags) < 0)
        return NULL;
    if (is_none(s->writer) || is_zero(s->timeout)) {
        PyObject *none = begin(&th, s->timeout, &deadline) < 0
                             ? NULL
                             : io_give(f_send, s->fd, a[0], flags, th, deadline, true);
        /* In the hub nothing has been sent yet: it is told before anything else. */
        if (none || !PyErr_ExceptionMatches(exc_blocking))
            return none;
        PyErr_Clear();
    }
    PyObject *number = PyLong_FromLong(flags), *none = NULL;
    if (number)
        none = PyObject_CallMethodObjArgs((PyObject *)s, name_sendall, a[0], number, NULL);
    Py_XDECREF(number);
    return none;
}

static PyObject *sock_settimeout(sock *s, PyObject *o)
{
    if (o == Py_None) {
        Py_INCREF(o);
    } else if (!Py_TYPE(o)->tp_as_number || !Py_TYPE(o)->tp_as_number->nb_float) {
        return PyErr_Format(PyExc_TypeError, "a timeout is a number of seconds, or None, and not %R", o);
    } else if (!(o = PyNumber_Float(o))) {
        return NULL;
    } else if (PyFloat_AS_DOUBLE(o) < 0) {
        Py_DECREF(o);
        PyErr_SetString(PyExc_ValueError, "Timeout value out of range");
        return NULL;
    }
    Py_XSETREF(s->timeout, o);
    Py_RETURN_NONE;
}

static PyObject *sock_gettimeout(sock *s, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(s->timeout ? s->timeout : Py_None);
}

static int sock_traverse(PyObject *self, visitproc visit, void *arg)
{
    sock *s = (sock *)self;
    Py_VISIT(s->timeout);
    Py_VISIT(s->reader);
    Py_VISIT(s->writer);
    Py_VISIT(s->raw);
    return 0;
}

static int sock_clear(PyObject *self)
{
    sock *s = (sock *)self;
    Py_CLEAR(s->timeout);
    Py_CLEAR(s->reader);
    Py_CLEAR(s->writer);
    Py_CLEAR(s->raw);
    return 0;
}

static void sock_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    sock_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef methods[] = {
    {"recv", WITH_KEYWORDS(sock_recv), METH_FASTCALL | METH_KEYWORDS,
     TEXT("recv($self, bufsize, flags=0)", "Waits until something came; at most bufsize bytes of it, b'' at the end.")},
    {"recv_into", WITH_KEYWORDS(sock_recv_into), METH_FASTCALL | METH_KEYWORDS,
     TEXT("recv_into($self, buffer, nbytes=0, flags=0)", "As recv, into a buffer; how much came.")},
    {"send", WITH_KEYWORDS(sock_send), METH_FASTCALL | METH_KEYWORDS,
     TEXT("send($self, data, flags=0)", "Waits until there is room; how much was sent.")},
    {"sendall", WITH_KEYWORDS(sock_sendall), METH_FASTCALL | METH_KEYWORDS,
     TEXT("sendall($self, data, flags=0)", "Sends everything, or raises; the timeout is for the whole.")},
    {"settimeout", (PyCFunction)sock_settimeout, METH_O,
     TEXT("settimeout($self, howlong, /)", "Seconds that a call may wait; None: for ever, 0: not at all.")},
    {"gettimeout", (PyCFunction)sock_gettimeout, METH_NOARGS,
     TEXT("gettimeout($self, /)", "Seconds that a call may wait, or None.")},
    {NULL}};

static PyMemberDef members[] = {
    {"timeout", T_OBJECT, offsetof(sock, timeout), 0, "Seconds that a call may wait, or None."},
    {"_reader", T_OBJECT, offsetof(sock, reader), 0, NULL},
    {"_writer", T_OBJECT, offsetof(sock, writer), 0, NULL},
    {"_sock", T_OBJECT, offsetof(sock, raw), 0, "The interpreter's socket."},
    {"_fd", T_INT, offsetof(sock, fd), 0, NULL},
    {NULL}};

static PyTypeObject sock_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.SocketBase",
    .tp_basicsize = sizeof(sock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "What weald.socket.socket has in C.",
    .tp_new = PyType_GenericNew,
    .tp_dealloc = sock_dealloc,
    .tp_traverse = sock_traverse,
    .tp_clear = sock_clear,
    .tp_methods = methods,
    .tp_members = members,
};

int init_socket(PyObject *m)
{
    if (PyType_Ready(&sock_type) < 0)
        return -1;
    struct {
        PyObject **to;
        const char *text;
    } const words[] = {
        {&name_read, "_read"},       {&name_write, "_write"},  {&name_sendall, "_sendall"},
        {&name_in_hub, "_in_hub"},   {&name_of_recv, "recv"},  {&name_of_recv_into, "recv_into"},
        {&name_of_send, "send"},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!*words[i].to && !(*words[i].to = PyUnicode_InternFromString(words[i].text)))
            return -1;
    return PyModule_AddObjectRef(m, "SocketBase", (PyObject *)&sock_type);
}
