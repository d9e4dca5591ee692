/* Timeout: an exception with a timer of the library's.
 *
 * The timer fires in the loop, and leaves the exception with the greenlet that started it, which
 * raises it where it waits, or waits next. A timeout that is cancelled takes it back. */

#include "core.h"

typedef struct timeout timeout;
struct timeout {
    PyBaseExceptionObject base;
    PyObject *seconds, *exception;
    green *target; /* while it is pending */
    weald_watcher h;
    int64_t ns;
    bool ref, one_shot, closed, fired;
    bool held; /* has a reference of its own: its timer runs, and nobody else may refer to it */
    timeout *next_spent;
};

PyTypeObject timeout_type;
static PyObject *not_raised; /* what is said of an `exception` that is none */
static PyObject *no_timer; /* what stands for one that never fires */

static void on_fire(weald_watcher w, int what, void *user)
{
    timeout *t = user;
    (void)w, (void)what;
    green *g = t->target;
    if (!g)
        return;
    t->fired = true;
    PyObject *e = t->exception;
    if (!e || e == Py_None || e == Py_False || PyUnicode_Check(e))
        e = (PyObject *)t;
    PyObject *type = PyExceptionClass_Check(e) ? e : PyExceptionInstance_Check(e) ? (PyObject *)Py_TYPE(e) : PyExc_TypeError;
    PyObject *value = PyExceptionClass_Check(e) ? NULL : e;
    if (type == PyExc_TypeError && !PyExceptionInstance_Check(e))
        value = not_raised;
    if (g->life != ACTIVE) {
        /* Too late for that one. No code may run here, and there may be no other reference. */
        thread *th = g->th;
        if (t->held) {
            t->held = false;
            t->next_spent = th->spent;
            th->spent = t;
            th->attention = true;
        }
        return;
    }
    if (green_pend(g, (PyObject *)t, type, value, NULL) < 0) {
        PyErr_Clear();
    } else if (t->held) {
        t->held = false;
        Py_DECREF(t); /* not the last: it is the source of what pends */
    }
    green_rouse(g);
}

void timeouts_bury(thread *th)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    while (th->spent) {
        timeout *t = th->spent;
        th->spent = t->next_spent;
        t->next_spent = NULL;
        Py_DECREF(t);
    }
    PyErr_Restore(type, value, tb);
}

static bool is_pending(timeout *t)
{
    return t->target && (!t->fired || t->target->pending);
}

static void halt(timeout *t)
{
    if (t->h) {
        weald_close(t->h);
        t->h = 0;
    }
    green *g = t->target;
    if (g) {
        t->target = NULL;
        if (t->fired && g->pending)
            green_unpend(g, (PyObject *)t);
        t->fired = false;
        Py_DECREF(g);
    }
    if (t->held) {
        t->held = false;
        Py_DECREF(t); /* whoever calls this refers to it as well */
    }
}

static int timeout_begin(timeout *t)
{
    if (is_pending(t)) {
        PyErr_Format(PyExc_AssertionError, "%R is already started; to restart it, cancel it first", (PyObject *)t);
        return -1;
    }
    if (!t->seconds || t->seconds == Py_None)
        return 0;
    thread *th = thread_get();
    if (!th)
        return -1;
    halt(t);
    t->h = weald_timer_watcher(t->ns, 0, on_fire, t);
    if (t->h < 0) {
        int code = (int)t->h;
        t->h = 0;
        return raise_code(code);
    }
    t->target = (green *)Py_NewRef((PyObject *)th->current);
    if (!t->ref)
        weald_watcher_unref(t->h);
    int code = weald_watcher_start(t->h);
    if (code < 0)
        return raise_code(code);
    t->held = true;
    Py_INCREF(t);
    return 0;
}

static int timeout_set(timeout *t, PyObject *seconds, PyObject *exception, int ref, int one_shot)
{
    if (seconds && seconds != Py_None) {
        if (seconds_from(seconds, &t->ns) < 0)
            return -1;
    } else {
        seconds = Py_None;
    }
    Py_INCREF(seconds);
    Py_XSETREF(t->seconds, seconds);
    if (!exception)
        exception = Py_None;
    Py_INCREF(exception);
    Py_XSETREF(t->exception, exception);
    t->ref = ref;
    t->one_shot = one_shot;
    return 0;
}

static int timeout_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"seconds", "exception", "ref", "priority", "_one_shot", NULL};
    PyObject *seconds = NULL, *exception = NULL, *priority = NULL;
    int ref = 1, one_shot = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OOpOp:Timeout", names, &seconds, &exception, &ref, &priority,
                                     &one_shot))
        return -1;
    PyObject *none = PyTuple_New(0);
    if (!none)
        return -1;
    Py_XSETREF(((PyBaseExceptionObject *)self)->args, none);
    return timeout_set((timeout *)self, seconds, exception, ref, one_shot);
}

static PyObject *timeout_vectorcall(PyObject *type, PyObject *const *args, size_t nf, PyObject *names)
{
    Py_ssize_t n = PyVectorcall_NARGS(nf);
    if (names || n > 2 || (PyTypeObject *)type != &timeout_type) {
        /* The usual way. */
        PyObject *tuple, *keywords;
        if (usual_arguments(args, n, names, &tuple, &keywords) < 0)
            return NULL;
        PyObject *self = timeout_type.tp_new((PyTypeObject *)type, tuple, keywords);
        if (self && timeout_init(self, tuple, keywords) < 0)
            Py_CLEAR(self);
        Py_DECREF(tuple);
        Py_XDECREF(keywords);
        return self;
    }
    static PyObject *none;
    if (!none && !(none = PyTuple_New(0)))
        return NULL;
    PyObject *self = timeout_type.tp_new(&timeout_type, none, NULL);
    if (self && timeout_set((timeout *)self, n > 0 ? args[0] : NULL, n > 1 ? args[1] : NULL, 1, 0) < 0)
        Py_CLEAR(self);
    return self;
}

static PyObject *timeout_start(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (timeout_begin((timeout *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *timeout_cancel(PyObject *self, PyObject *unused)
{
    (void)unused;
    halt((timeout *)self);
    Py_RETURN_NONE;
}

static PyObject *timeout_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    halt((timeout *)self);
    ((timeout *)self)->closed = true;
    Py_RETURN_NONE;
}

static PyObject *timeout_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    timeout *t = (timeout *)self;
    if (!is_pending(t) && timeout_begin(t) < 0)
        return NULL;
    return Py_NewRef(self);
}

static PyObject *timeout_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    timeout *t = (timeout *)self;
    halt(t);
    t->closed = true;
    if (n > 1 && args[1] == self && t->exception == Py_False)
        Py_RETURN_TRUE;
    Py_RETURN_NONE;
}

static PyObject *timeout_start_new(PyObject *cls, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", "exception", "ref", "_one_shot", NULL};
    PyObject *seconds = Py_None, *exception = Py_None, *ref = Py_True, *one_shot = Py_False;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OOOO:start_new", names, &seconds, &exception, &ref, &one_shot))
        return NULL;
    if (PyObject_TypeCheck(seconds, &timeout_type)) {
        timeout *t = (timeout *)seconds;
        if (!is_pending(t)) {
            PyObject *r = PyObject_CallMethod(seconds, "start", NULL);
            if (!r)
                return NULL;
            Py_DECREF(r);
        }
        return Py_NewRef(seconds);
    }
    PyObject *t;
    if (cls == (PyObject *)&timeout_type) {
        t = PyObject_CallFunctionObjArgs(cls, seconds, exception, NULL);
        if (t) {
            ((timeout *)t)->ref = PyObject_IsTrue(ref);
            ((timeout *)t)->one_shot = PyObject_IsTrue(one_shot);
        }
    } else {
        PyObject *kw = Py_BuildValue("{sOsO}", "ref", ref, "_one_shot", one_shot);
        PyObject *pos = PyTuple_Pack(2, seconds, exception);
        t = kw && pos ? PyObject_Call(cls, pos, kw) : NULL;
        Py_XDECREF(kw);
        Py_XDECREF(pos);
    }
    PyObject *r = t ? PyObject_CallMethod(t, "start", NULL) : NULL;
    if (!r)
        Py_CLEAR(t);
    Py_XDECREF(r);
    return t;
}

static PyObject *timeout_start_new_or_dummy(PyObject *cls, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", "exception", "ref", NULL};
    PyObject *seconds, *exception = Py_None, *ref = Py_True;
    (void)cls;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|OO:_start_new_or_dummy", names, &seconds, &exception, &ref))
        return NULL;
    if (seconds == Py_None)
        return Py_NewRef(no_timer);
    PyObject *pos = PyTuple_Pack(4, seconds, exception, ref, Py_True);
    PyObject *r = pos ? timeout_start_new((PyObject *)&timeout_type, pos, NULL) : NULL;
    Py_XDECREF(pos);
    return r;
}

static PyObject *timeout_get_pending(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(is_pending((timeout *)self));
}

static PyObject *timeout_get_timer(PyObject *self, void *closure)
{
    (void)closure;
    timeout *t = (timeout *)self;
    return Py_NewRef(t->closed || t->seconds == Py_None ? no_timer : self);
}

static PyObject *timeout_str(PyObject *self)
{
    timeout *t = (timeout *)self;
    if (!t->seconds || t->seconds == Py_None)
        return PyUnicode_FromString("");
    PyObject *one = PyLong_FromLong(1);
    int is_one = one ? PyObject_RichCompareBool(t->seconds, one, Py_EQ) : -1;
    Py_XDECREF(one);
    if (is_one < 0)
        return NULL;
    const char *s = is_one ? "" : "s";
    if (t->exception == Py_None)
        return PyUnicode_FromFormat("%S second%s", t->seconds, s);
    if (t->exception == Py_False)
        return PyUnicode_FromFormat("%S second%s (silent)", t->seconds, s);
    return PyUnicode_FromFormat("%S second%s: %S", t->seconds, s, t->exception);
}

static PyObject *timeout_repr(PyObject *self)
{
    timeout *t = (timeout *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    name = name ? name + 1 : Py_TYPE(self)->tp_name;
    PyObject *e = !t->exception || t->exception == Py_None ? PyUnicode_FromString("")
                                                           : PyUnicode_FromFormat(" exception=%R", t->exception);
    if (!e)
        return NULL;
    PyObject *r = PyUnicode_FromFormat("<%s at %p seconds=%S%U%s>", name, self, t->seconds ? t->seconds : Py_None, e,
                                       is_pending(t) ? " pending" : "");
    Py_DECREF(e);
    return r;
}

static PyObject *timeout_compare(PyObject *self, PyObject *other, int op)
{
    if (op == Py_EQ || op == Py_NE)
        return PyBool_FromLong((self == other) == (op == Py_EQ));
    if (op != Py_LT || !PyObject_TypeCheck(self, &timeout_type))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *theirs = PyObject_GetAttrString(other, "seconds");
    if (!theirs) {
        PyErr_Clear();
        theirs = Py_NewRef(other);
    }
    PyObject *r = PyObject_RichCompare(((timeout *)self)->seconds, theirs, Py_LT);
    Py_DECREF(theirs);
    if (!r && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        Py_RETURN_NOTIMPLEMENTED;
    }
    return r;
}

static Py_hash_t timeout_hash(PyObject *self)
{
    return _Py_HashPointer(self);
}

static int timeout_clear(PyObject *self)
{
    timeout *t = (timeout *)self;
    halt(t);
    Py_CLEAR(t->seconds);
    Py_CLEAR(t->exception);
    return ((PyTypeObject *)PyExc_BaseException)->tp_clear(self);
}

static int timeout_traverse(PyObject *self, visitproc visit, void *arg)
{
    timeout *t = (timeout *)self;
    Py_VISIT(t->seconds);
    Py_VISIT(t->exception);
    Py_VISIT(t->target);
    return ((PyTypeObject *)PyExc_BaseException)->tp_traverse(self, visit, arg);
}

static void timeout_dealloc(PyObject *self)
{
    timeout *t = (timeout *)self;
    PyObject_GC_UnTrack(self);
    halt(t);
    Py_CLEAR(t->seconds);
    Py_CLEAR(t->exception);
    PyObject_GC_Track(self); /* as the base expects it */
    ((PyTypeObject *)PyExc_BaseException)->tp_dealloc(self);
}

static PyMethodDef timeout_methods[] = {
    {"start", timeout_start, METH_NOARGS, TEXT("start($self, /)", "Begins to count, for the current greenlet.")},
    {"cancel", timeout_cancel, METH_NOARGS, TEXT("cancel($self, /)", "Takes it back; it may be started again.")},
    {"stop", timeout_cancel, METH_NOARGS, "cancel()"},
    {"close", timeout_close, METH_NOARGS, TEXT("close($self, /)", "Takes it back for good.")},
    {"start_new", (PyCFunction)(void (*)(void))timeout_start_new, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     TEXT("start_new($type, timeout=None, exception=None, ref=True, _one_shot=False)",
          "A started one; a Timeout is started if it is not.")},
    {"_start_new_or_dummy", (PyCFunction)(void (*)(void))timeout_start_new_or_dummy,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, NULL},
    {"__enter__", timeout_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))timeout_exit, METH_FASTCALL, NULL},
    {NULL}};

static PyMemberDef timeout_members[] = {
    {"seconds", T_OBJECT, offsetof(timeout, seconds), 0, NULL},
    {"exception", T_OBJECT, offsetof(timeout, exception), 0, NULL},
    {NULL}};

static PyGetSetDef timeout_getset[] = {
    {"pending", timeout_get_pending, NULL, "Whether it will be raised.", NULL},
    {"active", timeout_get_pending, NULL, "pending", NULL},
    {"timer", timeout_get_timer, NULL, NULL, NULL},
    {NULL}};

PyTypeObject timeout_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.timeout.Timeout",
    .tp_basicsize = sizeof(timeout),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = TEXT("Timeout(seconds=None, exception=None, ref=True, priority=-1, _one_shot=False)", "")
              "Raises itself, or `exception`, in the greenlet that started it when the time has passed. None\n"
              "for seconds never fires; False for exception is suppressed at the end of a with block.",
    .tp_init = timeout_init,
    .tp_dealloc = timeout_dealloc,
    .tp_traverse = timeout_traverse,
    .tp_clear = timeout_clear,
    .tp_str = timeout_str,
    .tp_repr = timeout_repr,
    .tp_richcompare = timeout_compare,
    .tp_hash = timeout_hash,
    .tp_methods = timeout_methods,
    .tp_members = timeout_members,
    .tp_getset = timeout_getset,
};

int timeout_guard(PyObject *o)
{
    timeout *t = (timeout *)o;
    return is_pending(t) ? 0 : timeout_begin(t);
}

void timeout_release(PyObject *o)
{
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    halt((timeout *)o);
    PyErr_Restore(t, v, tb);
}

PyObject *timeout_raise_new(PyObject *seconds)
{
    if (seconds && PyObject_TypeCheck(seconds, &timeout_type)) {
        PyErr_SetObject((PyObject *)Py_TYPE(seconds), seconds);
        return NULL;
    }
    PyObject *t = PyObject_CallOneArg((PyObject *)&timeout_type, seconds ? seconds : Py_None);
    if (t) {
        PyErr_SetObject((PyObject *)&timeout_type, t);
        Py_DECREF(t);
    }
    return NULL;
}

static PyObject *py_set_no_timer(PyObject *self, PyObject *o)
{
    (void)self;
    Py_INCREF(o);
    Py_XSETREF(no_timer, o);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"_set_no_timer", py_set_no_timer, METH_O, NULL}, {NULL}};

int init_timeout(PyObject *m)
{
    timeout_type.tp_base = (PyTypeObject *)PyExc_BaseException;
    if (PyType_Ready(&timeout_type) < 0)
        return -1;
    timeout_type.tp_vectorcall = timeout_vectorcall;
    no_timer = Py_NewRef(Py_None);
    not_raised = PyUnicode_FromString("exceptions must be classes, or instances, of BaseException");
    if (PyModule_AddObjectRef(m, "Timeout", (PyObject *)&timeout_type) < 0)
        return -1;
    return PyModule_AddFunctions(m, functions);
}
