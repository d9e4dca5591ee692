/* Waiting for descriptors, and reading and writing them, one call each.
 *
 * Each takes a timeout in seconds, or None. A descriptor need not be non-blocking. */

#include "io.h"
#include "sync.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

static PyObject *cancelled; /* what a wait raises that was called off: a class */
static PyObject *wait_with; /* waits with an exception of the caller's, in Python */

/* 0: done; 1: once more; -1: an exception. */
static int outcome_of(thread *th, int64_t code)
{
    if (code == CODE_RAISE)
        return green_check(th, CODE_RAISE);
    /* What is done is done: an exception that came meanwhile is for the next wait. */
    if (after_switch(th) < 0)
        return -1;
    if (likely(code >= 0))
        return 0;
    switch (code) {
    case WEALD_ETIMEDOUT:
        PyErr_SetString(PyExc_TimeoutError, "timed out");
        return -1;
    case WEALD_ECANCELED:
        if (cancelled && cancelled != Py_None) {
            PyErr_SetNone(cancelled);
            return -1;
        }
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    case WEALD_EBUSY:
        PyErr_SetString(exc_concurrent, "This socket is already used by another greenlet");
        return -1;
    case WEALD_EDEADLK:
        return raise_code(WEALD_EDEADLK);
    default:
        return raise_code((int)code);
    }
}

static int begin(thread **th, PyObject *timeout, int64_t *deadline)
{
    *th = thread_get();
    if (!*th || green_may_wait(*th) < 0)
        return -1;
    return deadline_from(timeout, deadline);
}

static PyObject *wait_for(PyObject *descriptor, int events, PyObject *timeout)
{
    thread *th;
    int64_t deadline;
    int fd = PyObject_AsFileDescriptor(descriptor);
    if (fd < 0 || begin(&th, timeout, &deadline) < 0)
        return NULL;
    for (;;) {
        th->current->why = events == WEALD_READ ? "read" : events == WEALD_WRITE ? "write" : "read or write";
        int code = weald_wait_fd(fd, events, deadline);
        th->current->why = NULL;
        switch (outcome_of(th, code)) {
        case 0:
            return PyLong_FromLong(code);
        case -1:
            return NULL;
        }
    }
}

static PyObject *py_wait_fd(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n < 2 || n > 3) {
        PyErr_SetString(PyExc_TypeError, "wait_fd(fd, events, timeout=None)");
        return NULL;
    }
    int events = (int)PyLong_AsLong(args[1]);
    if (events == -1 && PyErr_Occurred())
        return NULL;
    return wait_for(args[0], events, n > 2 ? args[2] : NULL);
}

/* wait_read and its kin, as gevent.socket has them: (fileno, timeout=None, timeout_exc=..., event=...).
 * Packages wait by them for descriptors of their own, once for each answer, and so they are here. With an
 * exception of the caller's, or a Timeout, Python's `wait_with` does it. */
static PyObject *wait_like_gevent(PyObject *const *args, Py_ssize_t n, PyObject *names, int events)
{
    static const char *const known[] = {"fileno", "timeout", "timeout_exc", "event"};
    PyObject *a[4] = {NULL, NULL, NULL, NULL};
    if (n > 4) {
        PyErr_Format(PyExc_TypeError, "takes at most 4 arguments (%zd given)", n);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        a[i] = args[i];
    for (Py_ssize_t k = 0; names && k < PyTuple_GET_SIZE(names); k++) {
        PyObject *name = PyTuple_GET_ITEM(names, k);
        int i = 0;
        while (i < 4 && PyUnicode_CompareWithASCIIString(name, known[i]) != 0)
            i++;
        if (i == 4 || a[i])
            return PyErr_Format(PyExc_TypeError, "unexpected keyword argument '%U'", name);
        a[i] = args[n + k];
    }
    if (!a[0]) {
        PyErr_SetString(PyExc_TypeError, "missing a required argument: 'fileno'");
        return NULL;
    }
    if (wait_with && (a[2] || (a[1] && PyObject_TypeCheck(a[1], &timeout_type)))) {
        PyObject *number = PyLong_FromLong(events), *done = NULL;
        if (number)
            done = PyObject_CallFunctionObjArgs(wait_with, a[0], number, a[1] ? a[1] : Py_None, a[2], NULL);
        Py_XDECREF(number);
        return done;
    }
    PyObject *got = wait_for(a[0], events, a[1]);
    if (!got)
        return NULL;
    Py_DECREF(got);
    Py_RETURN_NONE;
}

static PyObject *py_wait_read(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    return wait_like_gevent(args, n, names, WEALD_READ);
}

static PyObject *py_wait_write(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    return wait_like_gevent(args, n, names, WEALD_WRITE);
}

static PyObject *py_wait_readwrite(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    return wait_like_gevent(args, n, names, WEALD_READ | WEALD_WRITE);
}

static PyObject *py_set_wait_with(PyObject *self, PyObject *function)
{
    (void)self;
    Py_INCREF(function);
    Py_XSETREF(wait_with, function);
    Py_RETURN_NONE;
}

static PyObject *py_cancel_wait(PyObject *self, PyObject *arg)
{
    (void)self;
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0)
        return NULL;
    return PyLong_FromLong(weald_cancel_wait(fd));
}

static PyObject *py_close_fd(PyObject *self, PyObject *arg)
{
    (void)self;
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0)
        return NULL;
    /* Who waits is told by the exception of set_cancelled, as for cancel_wait. */
    weald_cancel_wait(fd);
    int code = weald_close_fd(fd);
    if (code < 0) {
        raise_code(code);
        return NULL;
    }
    return PyLong_FromLong(code);
}

/* Reads or writes once: how much, or -1 with an exception. */
static int64_t move(thread *th, transfer f, int fd, void *buffer, size_t len, int flags, int64_t deadline,
                    const char *why)
{
    for (;;) {
        th->current->why = why;
        int64_t got = f(fd, buffer, len, flags, deadline);
        th->current->why = NULL;
        int o = outcome_of(th, got);
        if (o == 0)
            return got;
        if (o < 0)
            return -1;
    }
}

int64_t f_recv(int fd, void *buffer, size_t len, int flags, int64_t deadline)
{
    return weald_recv(fd, buffer, len, flags, deadline);
}

int64_t f_send(int fd, void *buffer, size_t len, int flags, int64_t deadline)
{
    return weald_send(fd, buffer, len, flags, deadline);
}

static int64_t f_read(int fd, void *buffer, size_t len, int flags, int64_t deadline)
{
    (void)flags;
    return weald_read(fd, buffer, len, deadline);
}

static int64_t f_write(int fd, void *buffer, size_t len, int flags, int64_t deadline)
{
    (void)flags;
    return weald_write(fd, buffer, len, deadline);
}

/* The arguments (fd, second, flags=0, timeout=None); without flags when `flags` is NULL. */
static int arguments(const char *name, PyObject *const *args, Py_ssize_t n, int *fd, int *flags, thread **th,
                     int64_t *deadline)
{
    Py_ssize_t most = flags ? 4 : 3;
    if (n < 2 || n > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes 2 to %zd arguments (%zd given)", name, most, n);
        return -1;
    }
    if ((*fd = PyObject_AsFileDescriptor(args[0])) < 0)
        return -1;
    if (flags) {
        *flags = 0;
        if (n > 2 && (*flags = (int)PyLong_AsLong(args[2])) == -1 && PyErr_Occurred())
            return -1;
    }
    return begin(th, n == most ? args[most - 1] : NULL, deadline);
}

/* Where every socket is read: what came is copied into an object of its size. So who waits holds no
 * buffer, which for most is larger than the answer, and none is cut down afterwards. Nothing runs
 * between the system call and the copy: the GIL is held, and the library returns at once. (Not so
 * with a file, which a thread reads.) */
#define SHARED (64 * 1024)
static char shared[SHARED] __attribute__((aligned(64)));

static PyObject *take_shared(int fd, Py_ssize_t len, int flags, thread *th, int64_t deadline)
{
    for (;;) {
        th->current->why = "read";
        int64_t got = weald_recv(fd, shared, (size_t)len, flags, deadline);
        th->current->why = NULL;
        if (likely(got >= 0) && likely(!th->attention))
            return PyBytes_FromStringAndSize(shared, (Py_ssize_t)got);
        PyObject *out = got >= 0 ? PyBytes_FromStringAndSize(shared, (Py_ssize_t)got) : NULL;
        int o = got >= 0 && !out ? -1 : outcome_of(th, got);
        if (o == 0)
            return out;
        Py_XDECREF(out);
        if (o < 0)
            return NULL;
    }
}

PyObject *io_take(transfer f, int fd, PyObject *size, int flags, thread *th, int64_t deadline)
{
    Py_ssize_t len = PyNumber_AsSsize_t(size, PyExc_OverflowError);
    if (len < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "negative buffersize");
        return NULL;
    }
    /* MSG_TRUNC says more than there is in the buffer. */
    if (f == f_recv && len > 0 && len <= SHARED && likely(!(flags & MSG_TRUNC)))
        return take_shared(fd, len, flags, th, deadline);
    PyObject *out = PyBytes_FromStringAndSize(NULL, len);
    if (!out || len == 0)
        return out;
    int64_t got = move(th, f, fd, PyBytes_AS_STRING(out), (size_t)len, flags, deadline, "read");
    if (got < 0) {
        Py_DECREF(out);
        return NULL;
    }
    if (got != len)
        _PyBytes_Resize(&out, (Py_ssize_t)(got < len ? got : len));
    return out;
}

PyObject *io_take_into(transfer f, int fd, PyObject *object, int flags, thread *th, int64_t deadline)
{
    Py_buffer b;
    if (PyObject_GetBuffer(object, &b, PyBUF_WRITABLE) < 0) {
        if (PyErr_ExceptionMatches(PyExc_BufferError))
            PyErr_Format(PyExc_TypeError, "not a writable buffer: %s", Py_TYPE(object)->tp_name);
        return NULL;
    }
    int64_t got = b.len ? move(th, f, fd, b.buf, (size_t)b.len, flags, deadline, "read") : 0;
    PyBuffer_Release(&b);
    return got < 0 ? NULL : PyLong_FromLongLong(got);
}

PyObject *io_give(transfer f, int fd, PyObject *object, int flags, thread *th, int64_t deadline, bool all)
{
    Py_buffer b;
    if (PyObject_GetBuffer(object, &b, PyBUF_SIMPLE) < 0)
        return NULL;
    size_t done = 0;
    int64_t got;
    do {
        got = move(th, f, fd, (char *)b.buf + done, (size_t)b.len - done, flags, deadline, "write");
        if (got < 0)
            break;
        done += (size_t)got;
    } while (all && done < (size_t)b.len);
    PyBuffer_Release(&b);
    if (got < 0)
        return NULL;
    if (all)
        Py_RETURN_NONE;
    return PyLong_FromSize_t(done);
}

#define FUNCTION(name, with_flags, call)                                              \
    static PyObject *name(PyObject *self, PyObject *const *args, Py_ssize_t n)       \
    {                                                                                 \
        int fd, flags = 0;                                                            \
        thread *th;                                                                   \
        int64_t deadline;                                                             \
        (void)self;                                                                   \
        if (arguments(#name, args, n, &fd, with_flags ? &flags : NULL, &th, &deadline) < 0) \
            return NULL;                                                              \
        return call;                                                                  \
    }

FUNCTION(recv_, 1, io_take(f_recv, fd, args[1], flags, th, deadline))
FUNCTION(recv_into, 1, io_take_into(f_recv, fd, args[1], flags, th, deadline))
FUNCTION(send_, 1, io_give(f_send, fd, args[1], flags, th, deadline, false))
FUNCTION(sendall, 1, io_give(f_send, fd, args[1], flags, th, deadline, true))
FUNCTION(read_, 0, io_take(f_read, fd, args[1], flags, th, deadline))
FUNCTION(read_into, 0, io_take_into(f_read, fd, args[1], flags, th, deadline))
FUNCTION(write_, 0, io_give(f_write, fd, args[1], flags, th, deadline, false))
FUNCTION(writeall, 0, io_give(f_write, fd, args[1], flags, th, deadline, true))

static PyObject *py_accept(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    thread *th;
    int64_t deadline;
    (void)self;
    if (n < 1 || n > 2) {
        PyErr_SetString(PyExc_TypeError, "accept(fd, timeout=None)");
        return NULL;
    }
    int fd = PyObject_AsFileDescriptor(args[0]);
    if (fd < 0 || begin(&th, n > 1 ? args[1] : NULL, &deadline) < 0)
        return NULL;
    for (;;) {
        th->current->why = "accept";
        int got = weald_accept(fd, NULL, NULL, deadline);
        th->current->why = NULL;
        int o = outcome_of(th, got);
        if (o == 0)
            return PyLong_FromLong(got);
        if (o < 0)
            return NULL;
    }
}

/* Takes a connection of a listener of IP that never blocks: (descriptor, address) as _socket has them, but a
 * descriptor that never blocks either, for which no other system call is needed; None when there is none. */
static PyObject *py_accept_now(PyObject *self, PyObject *listener)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at;
    socklen_t len = sizeof at;
    char host[INET6_ADDRSTRLEN];
    (void)self;
    int fd = PyObject_AsFileDescriptor(listener);
    if (fd < 0)
        return NULL;
    int got;
    do { /* whoever shares it may have made it one that blocks */
        Py_BEGIN_ALLOW_THREADS
        got = accept4(fd, &at.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        Py_END_ALLOW_THREADS
    } while (got < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (got < 0) {
        if (errno == EAGAIN)
            Py_RETURN_NONE;
        return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError);
    }
    bool is_v6 = at.any.sa_family == AF_INET6;
    if (!inet_ntop(at.any.sa_family, is_v6 ? (void *)&at.v6.sin6_addr : (void *)&at.v4.sin_addr, host, sizeof host)) {
        PyErr_SetFromErrno(PyExc_OSError);
        close(got);
        return NULL;
    }
    PyObject *address = is_v6 ? Py_BuildValue("i(siII)", got, host, ntohs(at.v6.sin6_port),
                                              ntohl(at.v6.sin6_flowinfo), at.v6.sin6_scope_id)
                              : Py_BuildValue("i(si)", got, host, ntohs(at.v4.sin_port));
    if (!address)
        close(got);
    return address;
}

static PyObject *py_set_cancelled(PyObject *self, PyObject *class)
{
    (void)self;
    Py_INCREF(class);
    Py_XSETREF(cancelled, class);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"wait_fd", WITH_KEYWORDS(py_wait_fd), METH_FASTCALL,
     "wait_fd(fd, events, timeout=None): waits for 1 (to read), 2 (to write) or both; what came. TimeoutError."},
    {"wait_read", WITH_KEYWORDS(py_wait_read), METH_FASTCALL | METH_KEYWORDS,
     TEXT("wait_read($module, fileno, timeout=None, timeout_exc=...)",
          "Waits until there is something to read from the descriptor.")},
    {"wait_write", WITH_KEYWORDS(py_wait_write), METH_FASTCALL | METH_KEYWORDS,
     TEXT("wait_write($module, fileno, timeout=None, timeout_exc=..., event=...)",
          "Waits until the descriptor takes something.")},
    {"wait_readwrite", WITH_KEYWORDS(py_wait_readwrite), METH_FASTCALL | METH_KEYWORDS,
     TEXT("wait_readwrite($module, fileno, timeout=None, timeout_exc=..., event=...)",
          "Waits until it gives or takes something.")},
    {"_set_wait_with", py_set_wait_with, METH_O, NULL},
    {"cancel_wait", py_cancel_wait, METH_O,
     "cancel_wait(fd): ends the waits of this thread for fd with the exception of set_cancelled; how many there were."},
    {"close_fd", py_close_fd, METH_O,
     "close_fd(fd): closes a descriptor that the loop may know; waits for it end as by cancel_wait."},
    {"set_cancelled", py_set_cancelled, METH_O, "The class that cancel_wait raises; None: OSError(EBADF)."},
    {"recv", WITH_KEYWORDS(recv_), METH_FASTCALL, "recv(fd, size, flags=0, timeout=None): bytes"},
    {"recv_into", WITH_KEYWORDS(recv_into), METH_FASTCALL, "recv_into(fd, buffer, flags=0, timeout=None): how many"},
    {"send", WITH_KEYWORDS(send_), METH_FASTCALL, "send(fd, data, flags=0, timeout=None): how many"},
    {"sendall", WITH_KEYWORDS(sendall), METH_FASTCALL, "sendall(fd, data, flags=0, timeout=None)"},
    {"read", WITH_KEYWORDS(read_), METH_FASTCALL, "read(fd, size, timeout=None): bytes"},
    {"read_into", WITH_KEYWORDS(read_into), METH_FASTCALL, "read_into(fd, buffer, timeout=None): how many"},
    {"write", WITH_KEYWORDS(write_), METH_FASTCALL, "write(fd, data, timeout=None): how many"},
    {"writeall", WITH_KEYWORDS(writeall), METH_FASTCALL, "writeall(fd, data, timeout=None)"},
    {"accept_now", py_accept_now, METH_O,
     "accept_now(fd): a connection of a listener of IP, as (fd, address) that does not block, or None."},
    {"accept", WITH_KEYWORDS(py_accept), METH_FASTCALL, "accept(fd, timeout=None): the new descriptor"},
    {NULL}};

int init_io(PyObject *m)
{
    return PyModule_AddFunctions(m, functions);
}
