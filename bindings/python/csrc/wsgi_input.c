/* wsgi.input: the body of a request, and no byte more. It knows the request by its handle alone, and finds nothing any
 * more when that is over. */

#include "wsgi.h"

typedef struct {
    PyObject_HEAD
    weald_http_request request;
    exchange *handler;
    exchange *owner; /* NULL, or whose socket's exceptions are to be raised */
    char *line; /* what was read ahead for the sake of lines */
    size_t from, to, size;
    long long position;
    long long length; /* -1: chunks; 0 also when there is nothing */
    char asks, broken;
} input;

PyObject *input_new(exchange *x)
{
    input *in = PyObject_GC_New(input, &input_type);
    if (!in)
        return NULL;
    in->request = x->request;
    in->handler = (exchange *)Py_NewRef(x);
    in->owner = x->source ? x : NULL;
    in->line = NULL;
    in->from = in->to = in->size = 0;
    in->position = 0;
    in->length = weald_http_body_left(x->request);
    in->asks = in->length != 0;
    in->broken = 0;
    PyObject_GC_Track(in);
    return (PyObject *)in;
}

bool input_is_broken(PyObject *o)
{
    return Py_IS_TYPE(o, &input_type) && ((input *)o)->broken;
}

/* Who keeps an environ where the handler finds it has a cycle. */
static int input_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((input *)self)->handler);
    return 0;
}

static int input_clear(PyObject *self)
{
    ((input *)self)->owner = NULL;
    Py_CLEAR(((input *)self)->handler);
    return 0;
}

static void input_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    PyMem_Free(((input *)self)->line);
    Py_XDECREF(((input *)self)->handler);
    PyObject_GC_Del(self);
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
        PyErr_SetString(pywsgi.invalid_input, "the chunks of the body are none");
        return -1;
    case WEALD_EMSGSIZE:
        PyErr_SetString(pywsgi.invalid_input, "the body is too large");
        return -1;
    case WEALD_ETIMEDOUT:
        PyErr_SetString(pywsgi.invalid_input, "the body comes too slowly");
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
        return exchange_outcome(in->owner, th, code);
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

static PyObject *input_get_rfile(PyObject *self, void *unused)
{
    (void)unused;
    exchange *handler = ((input *)self)->handler;
    if (!handler) /* both are garbage */
        Py_RETURN_NONE;
    return exchange_file(handler);
}

static PyObject *input_get_chunked(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((input *)self)->length < 0);
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
    {"chunked_input", input_get_chunked, NULL, "Whether it comes in chunks.", NULL},
    {"rfile", input_get_rfile, NULL, "The handler's file: by its descriptor the connection can be waited for.", NULL},
    {NULL},
};

PyTypeObject input_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.RequestBody",
    .tp_basicsize = sizeof(input),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "wsgi.input: the body of a request, and no byte more.",
    .tp_dealloc = input_dealloc,
    .tp_traverse = input_traverse,
    .tp_clear = input_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = input_next,
    .tp_methods = input_methods,
    .tp_members = input_members,
    .tp_getset = input_getset,
};
