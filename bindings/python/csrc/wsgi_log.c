/* A request's line of the log. */

#include "wsgi.h"
#include <time.h>

/* What the log says of a request. */
PyObject *exchange_request_line(exchange *x)
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

PyObject *exchange_format_request(PyObject *self, PyObject *unused)
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
    PyObject *line = x->requestline ? PyObject_Str(x->requestline == Py_None ? str_empty : x->requestline)
                                    : exchange_request_line(x);
    PyObject *now = line ? text_of_time() : NULL;
    bool has_address = now && address && PyObject_IsTrue(address) > 0;
    PyObject *from = has_address ? PyObject_Str(address) : now ? PyUnicode_FromString("-") : NULL;
    PyObject *text = NULL;
    if (from)
        text = PyUnicode_FromFormat("%U - - [%U] \"%U\" %s %s %s", from, now, line, code, length, took);
    Py_XDECREF(from);
    Py_XDECREF(now);
    Py_XDECREF(line);
    return text;
}

APART int exchange_log(exchange *x)
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
    if ((PyObject *)Py_TYPE(log) != pywsgi.quiet_log) {
        PyObject *line = exchange_format_request((PyObject *)x, NULL);
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
