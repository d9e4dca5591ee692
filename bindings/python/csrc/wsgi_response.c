/* The response: what start_response is given, and what is sent of it. */

#include "wsgi.h"
#include <ctype.h>

APART void exchange_forget_response(exchange *x)
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

/* ---- start_response ---- */

static bool has_line_end(const char *s, Py_ssize_t len)
{
    for (Py_ssize_t i = 0; i < len; i++)
        if (s[i] == '\r' || s[i] == '\n' || s[i] == 0)
            return true;
    return false;
}

const char *bytes_of(PyObject *o, Py_ssize_t *len)
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

/* The two of a tuple. Without PyArg_ParseTuple, which goes deep, as printf does: many that have waited answer at once,
 * each on one page of stack so far. */
static int two_of(PyObject *pair, PyObject **name, PyObject **value)
{
    if (PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "a header is a name and a value");
        return -1;
    }
    *name = PyTuple_GET_ITEM(pair, 0);
    *value = PyTuple_GET_ITEM(pair, 1);
    return 0;
}

/* The headers as they are now, whatever becomes of the application's list: tuples of good text. */
static PyObject *checked_headers(exchange *x, PyObject *headers)
{
    PyObject *all = PySequence_List(headers), *given = NULL;
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(all); i++) {
        PyObject *pair = PySequence_Tuple(PyList_GET_ITEM(all, i)), *name, *value;
        if (!pair || two_of(pair, &name, &value) < 0 || check_header(x, name, value) < 0) {
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
        PyObject *text = PyUnicode_FromFormat("Invalid Content-Length for %ld response: %R (must be absent or zero)",
                                              code, x->provided_content_length);
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

PyObject *exchange_start_response(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
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
        if (!pair || two_of(pair, &name, &value) < 0) {
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
        } else if (!(name = c_string(PyTuple_GET_ITEM(pair, 0), &a)) ||
                   !(value = c_string(PyTuple_GET_ITEM(pair, 1), &b))) {
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

static int digits_of(int64_t n)
{
    int digits = 1;
    for (; n > 9; n /= 10)
        digits++;
    return digits;
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
    x->response_length += length >= 0 ? 18 + digits_of(length) : x->use_chunked ? 28 : 0;
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

int exchange_write_failed(exchange *x, int64_t code)
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

int exchange_finish(exchange *x, thread *th, bool at_once)
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
    return code < 0 ? exchange_write_failed(x, code) : 0;
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
        return code < 0 ? exchange_write_failed(x, code) : 0;
    }
    if (len > 0) {
        if (x->ended)
            return exchange_write_failed(x, WEALD_EMSGSIZE);
        CALL(x, th, "write", code,
             (done += n, n = 0, weald_http_write(x->request, data + done, len - done, &n, WEALD_FOREVER)));
        if (code < 0)
            return exchange_write_failed(x, code);
        x->response_length += (long long)len;
        if (x->left >= 0)
            x->left -= (int64_t)len;
    }
    if (!at_once || x->ended)
        return 0;
    if (x->left == 0) /* that was all of it */
        return exchange_finish(x, th, true);
    CALL(x, th, "write", code, weald_http_flush(x->request, WEALD_FOREVER));
    return code < 0 ? exchange_write_failed(x, code) : 0;
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

PyObject *exchange_write(PyObject *self, PyObject *data)
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

APART int exchange_process(exchange *x, PyObject *result)
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
    return exchange_finish(x, th, false);
}
