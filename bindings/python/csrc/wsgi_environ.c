/* A request's environ: the server's, and what the request adds. */

#include "wsgi.h"

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
        int kind = PLAIN;
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

/* An upgrade without a body: what comes then the application reads as it likes. */
static int put_input(exchange *x, PyObject *env)
{
    bool is_raw = x->wants_upgrade && weald_http_body_left(x->request) == 0;
    PyObject *input = input_new(x);
    if (!input)
        return -1;
    Py_XSETREF(x->wsgi_input, input);
    if (put(env, str_input, is_raw ? exchange_file(x) : Py_NewRef(input)) < 0)
        return -1;
    return put(env, str_terminated, Py_NewRef(is_raw ? Py_False : Py_True));
}

PyObject *exchange_make_environ(PyObject *self, PyObject *unused)
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
