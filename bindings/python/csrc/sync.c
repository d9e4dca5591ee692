/* Event, AsyncResult, Semaphore, BoundedSemaphore, RLock.
 *
 * Whoever makes something available wakes who waits longest, and hands over nothing: the woken one
 * looks again, and waits on, in front, if somebody was faster. So nothing is lost when the woken
 * one is killed. */

#include "sync.h"

int linkable_wait(thread *th, linkable *l, nodelist *list, int64_t deadline, const char *why, bool front)
{
    green *me = th->current;
    if (green_may_wait(th) < 0)
        return WAIT_FAILED;
    if (front)
        list_push_front(list, &me->node);
    else
        list_push(list, &me->node);
    me->in_list = true;
    if (unlikely(l->multi) && th->externs++ == 0)
        weald_watcher_ref(th->wakeup);
    bool counted = l->multi;
    int outcome = green_park(th, deadline, why, (PyObject *)l);
    if (unlikely(counted) && --th->externs == 0)
        weald_watcher_unref(th->wakeup);
    if (me->in_list) {
        list_remove(list, &me->node);
        me->in_list = false;
    }
    return outcome;
}

PyObject *linkable_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    linkable *l = (linkable *)type->tp_alloc(type, 0);
    if (l)
        l->maker = pthread_self();
    return (PyObject *)l;
}

int linkable_traverse(PyObject *self, visitproc visit, void *arg)
{
    return list_traverse(&((linkable *)self)->links, visit, arg);
}

int linkable_clear(PyObject *self)
{
    list_clear(&((linkable *)self)->links);
    return 0;
}

void linkable_dealloc_begin(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (((linkable *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    list_clear(&((linkable *)self)->links);
}

static void linkable_dealloc(PyObject *self)
{
    linkable_dealloc_begin(self);
    Py_TYPE(self)->tp_free(self);
}

/* ---- the base ---- */

nodelist *list_of(PyObject *source)
{
    return PyObject_TypeCheck(source, &linkable_type) ? &((linkable *)source)->links : task_links(source);
}

static bool event_ready(PyObject *self);
static bool result_ready(PyObject *self);
static bool sem_ready(PyObject *self);

static bool ready_of(PyObject *self)
{
    if (PyObject_TypeCheck(self, &event_type))
        return event_ready(self);
    if (PyObject_TypeCheck(self, &result_type))
        return result_ready(self);
    if (PyObject_TypeCheck(self, &semaphore_type))
        return sem_ready(self);
    return false;
}

static PyObject *linkable_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(ready_of(self));
}

static PyObject *linkable_rawlink(PyObject *self, PyObject *callback)
{
    linkable *l = (linkable *)self;
    if (list_link(&l->links, callback) < 0)
        return NULL;
    if (ready_of(self))
        list_wake_all(&l->links, self);
    Py_RETURN_NONE;
}

static PyObject *linkable_unlink(PyObject *self, PyObject *callback)
{
    list_unlink(&((linkable *)self)->links, callback);
    Py_RETURN_NONE;
}

static PyObject *linkable_linkcount(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((linkable *)self)->links.len);
}

static PyObject *linkable_get_links(PyObject *self, void *c)
{
    (void)c;
    return list_as_list(&((linkable *)self)->links);
}

static PyObject *linkable_get_hub(PyObject *self, void *c)
{
    (void)c;
    thread *th = ((linkable *)self)->th;
    return Py_NewRef(th && th->hub && !th->ended ? (PyObject *)th->hub : Py_None);
}

static PyObject *linkable_reinit(PyObject *self, PyObject *unused)
{
    (void)unused;
    linkable *l = (linkable *)self;
    l->th = NULL;
    l->maker = pthread_self();
    l->multi = false;
    /* The other greenlets are the parent's. */
    for (node *n = l->links.first, *next; n; n = next) {
        next = n->next;
        if (node_is_green(n) && ((green *)n->what)->th == this_thread && green_is_gone((green *)n->what))
            list_remove(&l->links, n);
    }
    Py_RETURN_NONE;
}

static PyMethodDef linkable_methods[] = {
    {"ready", linkable_ready, METH_NOARGS, "Whether a wait would return at once."},
    {"rawlink", linkable_rawlink, METH_O, "rawlink(f): the hub calls f(self) once it is ready."},
    {"unlink", linkable_unlink, METH_O, "Takes a link back."},
    {"linkcount", linkable_linkcount, METH_NOARGS, "How many wait or are linked."},
    {"_at_fork_reinit", linkable_reinit, METH_NOARGS, NULL},
    {NULL}};

static PyGetSetDef linkable_getset[] = {
    {"_links", linkable_get_links, NULL, NULL, NULL},
    {"hub", linkable_get_hub, NULL, "The hub of the thread that used it first.", NULL},
    {NULL}};

PyTypeObject linkable_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.AbstractLinkable",
    .tp_basicsize = sizeof(linkable),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "What can be waited for and linked to.",
    .tp_new = linkable_new,
    .tp_dealloc = linkable_dealloc,
    .tp_traverse = linkable_traverse,
    .tp_clear = linkable_clear,
    .tp_methods = linkable_methods,
    .tp_getset = linkable_getset,
    .tp_weaklistoffset = offsetof(linkable, weakrefs),
};

Py_ssize_t list_takers(PyObject *source)
{
    if (PyObject_TypeCheck(source, &semaphore_type))
        return ((semaphore *)source)->counter;
    return PY_SSIZE_T_MAX;
}

/* ---- Event ---- */

typedef struct {
    linkable l;
    bool flag;
    Py_ssize_t waking; /* were woken and have not run yet */
} event;

static bool event_ready(PyObject *self)
{
    return ((event *)self)->flag;
}

static PyObject *event_set(PyObject *self, PyObject *unused)
{
    (void)unused;
    event *e = (event *)self;
    e->flag = true;
    if (e->l.links.first) {
        if (unlikely(this_thread != e->l.th) && thread_get())
            linkable_touch(&e->l, this_thread);
        Py_ssize_t waiting = e->l.links.len - e->l.links.links;
        list_wake_all(&e->l.links, self);
        e->waking += waiting - (e->l.links.len - e->l.links.links);
    }
    Py_RETURN_NONE;
}

static PyObject *event_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    ((event *)self)->flag = false;
    Py_RETURN_NONE;
}

static PyObject *event_wait(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    event *e = (event *)self;
    PyObject *timeout = NULL;
    int64_t deadline = WEALD_FOREVER;
    if ((n || names) && parse_timeout("wait", args, n, names, &timeout) < 0)
        return NULL;
    thread *th = thread_get();
    if (!th)
        return NULL;
    linkable_touch(&e->l, th);
    if (e->flag) {
        /* Nobody overtakes those who were woken and wait for their turn. */
        if (unlikely(e->waking > 0) && th->current->kind != HUB) {
            if (green_may_wait(th) < 0 || green_check(th, weald_yield()) < 0)
                return NULL;
        }
        Py_RETURN_TRUE;
    }
    if (timeout && deadline_from(timeout, &deadline) < 0)
        return NULL;
    int outcome = linkable_wait(th, &e->l, &e->l.links, deadline, "Event.wait()", false);
    if (outcome == WAIT_WOKEN && e->waking > 0)
        e->waking--;
    outcome = deadline_end(outcome, timeout);
    if (outcome < 0)
        return NULL;
    return PyBool_FromLong(outcome == WAIT_WOKEN || e->flag);
}

static PyObject *event_str(PyObject *self)
{
    event *e = (event *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyUnicode_FromFormat("<%s %s _links[%zd]>", name ? name + 1 : Py_TYPE(self)->tp_name,
                                e->flag ? "set" : "clear", e->l.links.len);
}

static PyMethodDef event_methods[] = {
    {"set", event_set, METH_NOARGS, "Sets the flag: everybody who waits goes on, in the order they came."},
    {"clear", event_clear, METH_NOARGS, "Takes the flag back."},
    {"is_set", linkable_ready, METH_NOARGS, "Whether it is set."},
    {"isSet", linkable_ready, METH_NOARGS, "Whether it is set."},
    {"wait", WITH_KEYWORDS(event_wait), METH_FASTCALL | METH_KEYWORDS,
     "wait(timeout=None): waits until it is set; whether it was."},
    {NULL}};

PyTypeObject event_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.event.Event",
    .tp_base = &linkable_type,
    .tp_basicsize = sizeof(event),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A flag that greenlets wait for.",
    .tp_traverse = linkable_traverse,
    .tp_clear = linkable_clear,
    .tp_str = event_str,
    .tp_repr = event_str,
    .tp_methods = event_methods,
};

/* ---- AsyncResult ---- */

typedef struct {
    linkable l;
    PyObject *value;    /* NULL: none was set */
    PyObject *exc_info; /* (type, value, traceback), or NULL */
} result;

static PyObject *no_value; /* what _value is before it is set, set by Python */

static bool result_ready(PyObject *self)
{
    result *r = (result *)self;
    return r->value || r->exc_info;
}

static void result_tell(result *r)
{
    if (r->l.links.first) {
        if (thread_get())
            linkable_touch(&r->l, this_thread);
        list_wake_all(&r->l.links, (PyObject *)r);
    }
}

static PyObject *result_set(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    result *r = (result *)self;
    PyObject *value = Py_None;
    if (n > 1 || (names && (n || PyTuple_GET_SIZE(names) != 1))) {
        PyErr_SetString(PyExc_TypeError, "set(value=None)");
        return NULL;
    }
    if (n == 1 || names)
        value = args[0];
    Py_INCREF(value);
    Py_XSETREF(r->value, value);
    Py_CLEAR(r->exc_info);
    result_tell(r);
    Py_RETURN_NONE;
}

static PyObject *result_set_exception(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"exception", "exc_info", NULL};
    PyObject *exception, *info = NULL;
    result *r = (result *)self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:set_exception", names, &exception, &info))
        return NULL;
    PyObject *new;
    if (info && info != Py_None && PyTuple_Check(info) && PyTuple_GET_SIZE(info) == 3)
        new = Py_NewRef(info);
    else
        new = PyTuple_Pack(3, (PyObject *)Py_TYPE(exception), exception, Py_None);
    if (!new)
        return NULL;
    Py_XSETREF(r->exc_info, new);
    Py_CLEAR(r->value);
    result_tell(r);
    Py_RETURN_NONE;
}

static PyObject *result_outcome(result *r)
{
    if (r->exc_info) {
        PyObject *type = PyTuple_GET_ITEM(r->exc_info, 0), *value = PyTuple_GET_ITEM(r->exc_info, 1),
                 *tb = PyTuple_GET_ITEM(r->exc_info, 2);
        if (PyTraceBack_Check(tb) && PyExceptionClass_Check(type)) {
            PyErr_Restore(Py_NewRef(type), Py_NewRef(value), Py_NewRef(tb));
        } else if (PyExceptionInstance_Check(value)) {
            PyException_SetTraceback(value, Py_None); /* that of the last time */
            PyErr_SetObject(PyExceptionInstance_Class(value), value);
        }
        else if (PyExceptionClass_Check(value))
            PyErr_SetNone(value);
        else
            PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
        return NULL;
    }
    return Py_NewRef(r->value);
}

/* 1 ready, 0 not in time, -1. */
static int result_await(result *r, PyObject *timeout, const char *why)
{
    thread *th = thread_get();
    int64_t deadline;
    if (!th)
        return -1;
    linkable_touch(&r->l, th);
    if (result_ready((PyObject *)r))
        return 1;
    if (deadline_from(timeout, &deadline) < 0)
        return -1;
    int outcome = deadline_end(linkable_wait(th, &r->l, &r->l.links, deadline, why, false), timeout);
    return outcome < 0 ? -1 : result_ready((PyObject *)r);
}

static PyObject *result_get(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    result *r = (result *)self;
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("get", args, n, names, "block", &block, &timeout) < 0)
        return NULL;
    if (result_ready(self))
        return result_outcome(r);
    if (!block)
        return timeout_raise_new(NULL);
    int is_ready = result_await(r, timeout, "AsyncResult.get()");
    if (is_ready < 0)
        return NULL;
    if (!is_ready)
        return timeout_raise_new(timeout);
    return result_outcome(r);
}

static PyObject *result_get_nowait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return result_ready(self) ? result_outcome((result *)self) : timeout_raise_new(NULL);
}

static PyObject *result_result(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *timeout = NULL;
    if ((n || names) && parse_timeout("result", args, n, names, &timeout) < 0)
        return NULL;
    int is_ready = result_await((result *)self, timeout, "AsyncResult.result()");
    if (is_ready < 0)
        return NULL;
    return is_ready ? result_outcome((result *)self) : timeout_raise_new(timeout);
}

static PyObject *result_wait(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    result *r = (result *)self;
    PyObject *timeout = NULL;
    if ((n || names) && parse_timeout("wait", args, n, names, &timeout) < 0)
        return NULL;
    if (result_await(r, timeout, "AsyncResult.wait()") < 0)
        return NULL;
    return Py_NewRef(r->value ? r->value : Py_None);
}

static PyObject *result_successful(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((result *)self)->value != NULL);
}

static PyObject *result_cancel(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    Py_RETURN_FALSE;
}

static PyObject *result_call(PyObject *self, PyObject *args, PyObject *keywords)
{
    PyObject *source;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O:AsyncResult", &source))
        return NULL;
    PyObject *well = PyObject_CallMethod(source, "successful", NULL);
    int yes = well ? PyObject_IsTrue(well) : -1;
    Py_XDECREF(well);
    if (yes < 0)
        return NULL;
    PyObject *r = NULL, *v = PyObject_GetAttrString(source, yes ? "value" : "exception");
    if (v && yes) {
        r = PyObject_CallMethod(self, "set", "(O)", v);
    } else if (v) {
        PyObject *info = PyObject_GetAttrString(source, "exc_info");
        if (!info)
            PyErr_Clear();
        r = PyObject_CallMethod(self, "set_exception", "OO", v, info ? info : Py_None);
        Py_XDECREF(info);
    }
    Py_XDECREF(v);
    return r;
}

static PyObject *result_get_value(PyObject *self, void *c)
{
    (void)c;
    PyObject *v = ((result *)self)->value;
    return Py_NewRef(v ? v : Py_None);
}

static PyObject *result_get_exception(PyObject *self, void *c)
{
    (void)c;
    PyObject *e = ((result *)self)->exc_info;
    return Py_NewRef(e ? PyTuple_GET_ITEM(e, 1) : Py_None);
}

static PyObject *result_get_exc_info(PyObject *self, void *c)
{
    (void)c;
    PyObject *e = ((result *)self)->exc_info;
    return e ? Py_NewRef(e) : PyTuple_New(0);
}

static PyObject *result_get_raw_exception(PyObject *self, void *c)
{
    (void)c;
    result *r = (result *)self;
    if (!result_ready(self))
        return Py_NewRef(no_value);
    return Py_NewRef(r->exc_info ? PyTuple_GET_ITEM(r->exc_info, 1) : Py_None);
}

static PyObject *result_str(PyObject *self)
{
    result *r = (result *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    name = name ? name + 1 : Py_TYPE(self)->tp_name;
    if (r->exc_info)
        return PyUnicode_FromFormat("<%s _links[%zd] exception=%R>", name, r->l.links.len,
                                    PyTuple_GET_ITEM(r->exc_info, 1));
    if (r->value)
        return PyUnicode_FromFormat("<%s _links[%zd] value=%R>", name, r->l.links.len, r->value);
    return PyUnicode_FromFormat("<%s _links[%zd]>", name, r->l.links.len);
}

static int result_tp_clear(PyObject *self)
{
    Py_CLEAR(((result *)self)->value);
    Py_CLEAR(((result *)self)->exc_info);
    return linkable_clear(self);
}

static int result_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((result *)self)->value);
    Py_VISIT(((result *)self)->exc_info);
    return linkable_traverse(self, visit, arg);
}

static void result_dealloc(PyObject *self)
{
    linkable_dealloc_begin(self);
    result_tp_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef result_methods[] = {
    {"set", WITH_KEYWORDS(result_set), METH_FASTCALL | METH_KEYWORDS, "set(value=None): the value; who waits goes on."},
    {"set_result", WITH_KEYWORDS(result_set), METH_FASTCALL | METH_KEYWORDS, "set(value)"},
    {"set_exception", WITH_KEYWORDS(result_set_exception), METH_VARARGS | METH_KEYWORDS,
     "set_exception(exception, exc_info=None): who waits raises it."},
    {"get", WITH_KEYWORDS(result_get), METH_FASTCALL | METH_KEYWORDS,
     "get(block=True, timeout=None): the value, or raises the exception; Timeout if there is none yet."},
    {"get_nowait", result_get_nowait, METH_NOARGS, "get(block=False)"},
    {"result", WITH_KEYWORDS(result_result), METH_FASTCALL | METH_KEYWORDS, "result(timeout=None): get()"},
    {"wait", WITH_KEYWORDS(result_wait), METH_FASTCALL | METH_KEYWORDS,
     "wait(timeout=None): waits until it is set; the value, or None."},
    {"successful", result_successful, METH_NOARGS, "Whether it has a value."},
    {"done", linkable_ready, METH_NOARGS, "ready()"},
    {"cancel", result_cancel, METH_NOARGS, "False: it can not be cancelled."},
    {"cancelled", result_cancel, METH_NOARGS, "False."},
    {NULL}};

static PyGetSetDef result_getset[] = {
    {"value", result_get_value, NULL, "The value, or None.", NULL},
    {"exception", result_get_exception, NULL, "The exception, or None.", NULL},
    {"exc_info", result_get_exc_info, NULL, "(type, value, traceback), or ().", NULL},
    {"_exception", result_get_raw_exception, NULL, NULL, NULL},
    {NULL}};

PyTypeObject result_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.event.AsyncResult",
    .tp_base = &linkable_type,
    .tp_basicsize = sizeof(result),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A value or an exception that is set once, or more often, and waited for.",
    .tp_dealloc = result_dealloc,
    .tp_traverse = result_traverse,
    .tp_clear = result_tp_clear,
    .tp_call = result_call,
    .tp_str = result_str,
    .tp_repr = result_str,
    .tp_methods = result_methods,
    .tp_getset = result_getset,
};

/* ---- Semaphore ---- */

static bool sem_ready(PyObject *self)
{
    return ((semaphore *)self)->counter > 0;
}

static int sem_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"value", "hub", NULL};
    Py_ssize_t value = 1;
    PyObject *hub;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|nO:Semaphore", names, &value, &hub))
        return -1;
    if (value < 0) {
        PyErr_SetString(PyExc_ValueError, "semaphore initial value must be >= 0");
        return -1;
    }
    ((semaphore *)self)->counter = ((semaphore *)self)->initial = value;
    return 0;
}

static void sem_tell(semaphore *s)
{
    list_wake_one(&s->l.links, (PyObject *)s);
}

void sem_give(semaphore *s)
{
    s->counter++;
    if (s->l.links.first)
        sem_tell(s);
}

int sem_take(semaphore *s, int block, PyObject *timeout)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return -1;
    linkable_touch(&s->l, th);
    if (s->counter > 0) {
        s->counter--;
        return 1;
    }
    if (!block)
        return 0;
    int64_t deadline = WEALD_FOREVER;
    if (timeout && deadline_from(timeout, &deadline) < 0)
        return -1;
    bool again = false;
    for (;;) {
        int outcome = linkable_wait(th, &s->l, &s->l.links, deadline, "Semaphore.acquire()", again);
        if (outcome == WAIT_WOKEN && s->counter > 0) {
            s->counter--;
            return deadline_end(1, timeout);
        }
        if (outcome != WAIT_WOKEN)
            return deadline_end(outcome, timeout);
        again = true;
    }
}

static PyObject *sem_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("acquire", args, n, names, "blocking", &block, &timeout) < 0)
        return NULL;
    int got = sem_take((semaphore *)self, block, timeout);
    return got < 0 ? NULL : PyBool_FromLong(got);
}

static PyObject *sem_release(PyObject *self, PyObject *unused)
{
    semaphore *s = (semaphore *)self;
    (void)unused;
    sem_give(s);
    return PyLong_FromSsize_t(s->counter);
}

static PyObject *bounded_release(PyObject *self, PyObject *unused)
{
    semaphore *s = (semaphore *)self;
    if (s->counter >= s->initial) {
        PyObject *e = PyObject_GetAttrString(self, "_OVER_RELEASE_ERROR");
        PyErr_SetString(e ? e : PyExc_ValueError, "Semaphore released too many times");
        Py_XDECREF(e);
        return NULL;
    }
    return sem_release(self, unused);
}

static PyObject *sem_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (likely(Py_IS_TYPE(self, &semaphore_type) || Py_IS_TYPE(self, &bounded_type))) {
        if (sem_take((semaphore *)self, 1, NULL) < 0)
            return NULL;
    } else {
        PyObject *r = PyObject_CallMethod(self, "acquire", NULL);
        if (!r)
            return NULL;
        Py_DECREF(r);
    }
    Py_RETURN_NONE;
}

static PyObject *sem_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)args, (void)n;
    PyObject *r = Py_IS_TYPE(self, &semaphore_type) ? sem_release(self, NULL)
                                                    : PyObject_CallMethod(self, "release", NULL);
    if (!r)
        return NULL;
    Py_DECREF(r);
    Py_RETURN_NONE;
}

static PyObject *sem_wait(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    semaphore *s = (semaphore *)self;
    PyObject *timeout = NULL;
    int64_t deadline;
    if ((n || names) && parse_timeout("wait", args, n, names, &timeout) < 0)
        return NULL;
    if (s->counter <= 0) {
        thread *th = thread_get();
        if (!th || deadline_from(timeout, &deadline) < 0)
            return NULL;
        linkable_touch(&s->l, th);
        int outcome = deadline_end(linkable_wait(th, &s->l, &s->l.links, deadline, "Semaphore.wait()", false), timeout);
        if (outcome < 0)
            return NULL;
        if (outcome == WAIT_WOKEN && s->counter > 0 && s->l.links.first)
            sem_tell(s); /* we take nothing */
    }
    return PyLong_FromSsize_t(s->counter);
}

static PyObject *sem_locked(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((semaphore *)self)->counter <= 0);
}

static PyObject *sem_start_notify(PyObject *self, PyObject *unused)
{
    (void)unused;
    semaphore *s = (semaphore *)self;
    if (s->counter > 0)
        sem_tell(s);
    Py_RETURN_NONE;
}

static PyObject *sem_reinit(PyObject *self, PyObject *unused)
{
    ((semaphore *)self)->counter = ((semaphore *)self)->initial;
    return linkable_reinit(self, unused);
}

static PyObject *sem_str(PyObject *self)
{
    semaphore *s = (semaphore *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyUnicode_FromFormat("<%s at %p counter=%zd _links[%zd]>", name ? name + 1 : Py_TYPE(self)->tp_name, self,
                                s->counter, s->l.links.len);
}

static PyMemberDef sem_members[] = {
    {"counter", T_PYSSIZET, offsetof(semaphore, counter), 0, "How often it can be acquired without waiting."},
    {"_initial_value", T_PYSSIZET, offsetof(semaphore, initial), 0, NULL},
    {NULL}};

static PyMethodDef sem_methods[] = {
    {"acquire", WITH_KEYWORDS(sem_acquire), METH_FASTCALL | METH_KEYWORDS,
     "acquire(blocking=True, timeout=None): takes one, waiting for it; whether it did."},
    {"_py3k_acquire", WITH_KEYWORDS(sem_acquire), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"release", sem_release, METH_NOARGS, "Gives one back; how many there are now."},
    {"wait", WITH_KEYWORDS(sem_wait), METH_FASTCALL | METH_KEYWORDS,
     "wait(timeout=None): waits until there is one, and leaves it; how many there are."},
    {"locked", sem_locked, METH_NOARGS, "Whether there is none."},
    {"_start_notify", sem_start_notify, METH_NOARGS, NULL},
    {"__enter__", sem_enter, METH_NOARGS, NULL},
    {"__exit__", WITH_KEYWORDS(sem_exit), METH_FASTCALL, NULL},
    {NULL}};

PyTypeObject semaphore_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.lock.Semaphore",
    .tp_base = &linkable_type,
    .tp_basicsize = sizeof(semaphore),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Semaphore(value=1): a number of permits; first come, first served, but who runs may be faster.",
    .tp_init = sem_init,
    .tp_new = linkable_new,
    .tp_traverse = linkable_traverse,
    .tp_clear = linkable_clear,
    .tp_str = sem_str,
    .tp_repr = sem_str,
    .tp_methods = sem_methods,
    .tp_members = sem_members,
};

static PyMethodDef bounded_methods[] = {
    {"release", bounded_release, METH_NOARGS, "Gives one back; ValueError when there would be more than at first."},
    {"_at_fork_reinit", sem_reinit, METH_NOARGS, NULL},
    {NULL}};

PyTypeObject bounded_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.lock.BoundedSemaphore",
    .tp_base = &semaphore_type,
    .tp_basicsize = sizeof(semaphore),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A Semaphore that is never released more often than it was acquired.",
    .tp_traverse = linkable_traverse,
    .tp_clear = linkable_clear,
    .tp_methods = bounded_methods,
};

/* ---- RLock ---- */

static int rlock_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"hub", NULL};
    PyObject *hub;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:RLock", names, &hub))
        return -1;
    ((semaphore *)self)->counter = ((semaphore *)self)->initial = 1;
    return 0;
}

int rlock_take(rlock *k, int block, PyObject *timeout)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return -1;
    PyObject *me = (PyObject *)th->current;
    if (k->owner == me) {
        k->count++;
        return 1;
    }
    int got = sem_take(&k->s, block, timeout);
    if (got == 1) {
        k->owner = Py_NewRef(me);
        k->count = 1;
    }
    return got;
}

static int rlock_give(rlock *k)
{
    thread *th = thread_get();
    if (unlikely(!th))
        return -1;
    if (unlikely(k->owner != (PyObject *)th->current)) {
        PyErr_Format(PyExc_RuntimeError, "cannot release un-acquired lock. Owner: %R Current: %R",
                     k->owner ? k->owner : Py_None, (PyObject *)th->current);
        return -1;
    }
    if (--k->count == 0) {
        PyObject *owner = k->owner;
        k->owner = NULL;
        sem_give(&k->s);
        Py_DECREF(owner);
    }
    return 0;
}

static PyObject *rlock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int block = 1;
    PyObject *timeout = NULL;
    if ((n || names) && parse_block("acquire", args, n, names, "blocking", &block, &timeout) < 0)
        return NULL;
    int got = rlock_take((rlock *)self, block, timeout);
    return got < 0 ? NULL : PyBool_FromLong(got);
}

static PyObject *rlock_release(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (rlock_give((rlock *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *rlock_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (likely(Py_IS_TYPE(self, &rlock_type)))
        return rlock_take((rlock *)self, 1, NULL) < 0 ? NULL : Py_NewRef(Py_True);
    return PyObject_CallMethod(self, "acquire", NULL);
}

static PyObject *rlock_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)args, (void)n;
    if (rlock_give((rlock *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *rlock_is_owned(PyObject *self, PyObject *unused)
{
    (void)unused;
    thread *th = thread_get();
    return th ? PyBool_FromLong(((rlock *)self)->owner == (PyObject *)th->current) : NULL;
}

static PyObject *rlock_locked(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((rlock *)self)->owner != NULL);
}

static PyObject *rlock_recursion_count(PyObject *self, PyObject *unused)
{
    (void)unused;
    thread *th = thread_get();
    rlock *k = (rlock *)self;
    return th ? PyLong_FromSsize_t(k->owner == (PyObject *)th->current ? k->count : 0) : NULL;
}

static PyObject *rlock_release_save(PyObject *self, PyObject *unused)
{
    (void)unused;
    rlock *k = (rlock *)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (!k->owner) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    PyObject *state = Py_BuildValue("(nO)", k->count, k->owner);
    if (!state)
        return NULL;
    PyObject *owner = k->owner;
    k->owner = NULL;
    k->count = 0;
    sem_give(&k->s);
    Py_DECREF(owner);
    return state;
}

static PyObject *rlock_acquire_restore(PyObject *self, PyObject *state)
{
    rlock *k = (rlock *)self;
    Py_ssize_t count;
    PyObject *owner;
    if (!PyArg_ParseTuple(state, "nO:_acquire_restore", &count, &owner) || sem_take(&k->s, 1, NULL) < 0)
        return NULL;
    k->count = count;
    Py_INCREF(owner);
    Py_XSETREF(k->owner, owner);
    Py_RETURN_NONE;
}

static PyObject *rlock_reinit(PyObject *self, PyObject *unused)
{
    rlock *k = (rlock *)self;
    k->count = 0;
    Py_CLEAR(k->owner);
    return sem_reinit(self, unused);
}

static PyObject *rlock_repr(PyObject *self)
{
    rlock *k = (rlock *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyUnicode_FromFormat("<%s at %p _count=%zd _block=<_block %zd> _owner=%R>",
                                name ? name + 1 : Py_TYPE(self)->tp_name, self, k->count, k->s.counter,
                                k->owner ? k->owner : Py_None);
}

static int rlock_tp_clear(PyObject *self)
{
    Py_CLEAR(((rlock *)self)->owner);
    return linkable_clear(self);
}

static int rlock_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((rlock *)self)->owner);
    return linkable_traverse(self, visit, arg);
}

static void rlock_dealloc(PyObject *self)
{
    linkable_dealloc_begin(self);
    Py_CLEAR(((rlock *)self)->owner);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef rlock_members[] = {
    {"_count", T_PYSSIZET, offsetof(rlock, count), 0, NULL},
    {"_owner", T_OBJECT, offsetof(rlock, owner), 0, NULL},
    {NULL}};

static PyObject *rlock_get_block(PyObject *self, void *c)
{
    (void)c;
    return Py_NewRef(self);
}

static PyGetSetDef rlock_getset[] = {{"_block", rlock_get_block, NULL, NULL, NULL}, {NULL}};

static PyMethodDef rlock_methods[] = {
    {"acquire", WITH_KEYWORDS(rlock_acquire), METH_FASTCALL | METH_KEYWORDS,
     "acquire(blocking=True, timeout=None): takes it, again if it is ours; whether it did."},
    {"release", rlock_release, METH_NOARGS, "Gives it back, once for each acquire."},
    {"locked", rlock_locked, METH_NOARGS, "Whether somebody has it."},
    {"_is_owned", rlock_is_owned, METH_NOARGS, NULL},
    {"_recursion_count", rlock_recursion_count, METH_NOARGS, NULL},
    {"_release_save", rlock_release_save, METH_NOARGS, NULL},
    {"_acquire_restore", rlock_acquire_restore, METH_O, NULL},
    {"_at_fork_reinit", rlock_reinit, METH_NOARGS, NULL},
    {"__enter__", rlock_enter, METH_NOARGS, NULL},
    {"__exit__", WITH_KEYWORDS(rlock_exit), METH_FASTCALL, NULL},
    {NULL}};

PyTypeObject rlock_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.lock.RLock",
    .tp_base = &semaphore_type,
    .tp_basicsize = sizeof(rlock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "RLock(hub=None): a lock that its owner, a greenlet, may take again.",
    .tp_init = rlock_init,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = rlock_dealloc,
    .tp_traverse = rlock_traverse,
    .tp_clear = rlock_tp_clear,
    .tp_str = rlock_repr,
    .tp_repr = rlock_repr,
    .tp_methods = rlock_methods,
    .tp_members = rlock_members,
    .tp_getset = rlock_getset,
};

static PyObject *py_set_no_value(PyObject *self, PyObject *o)
{
    (void)self;
    Py_INCREF(o);
    Py_XSETREF(no_value, o);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"_set_no_value", py_set_no_value, METH_O, NULL}, {NULL}};

int init_sync(PyObject *m)
{
    no_value = Py_NewRef(Py_None);
    struct {
        const char *name;
        PyTypeObject *type;
    } all[] = {{"AbstractLinkable", &linkable_type}, {"Event", &event_type}, {"AsyncResult", &result_type},
               {"Semaphore", &semaphore_type}, {"BoundedSemaphore", &bounded_type}, {"RLock", &rlock_type}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (PyType_Ready(all[i].type) < 0 || PyModule_AddObjectRef(m, all[i].name, (PyObject *)all[i].type) < 0)
            return -1;
    if (PyDict_SetItemString(bounded_type.tp_dict, "_OVER_RELEASE_ERROR", PyExc_ValueError) < 0)
        return -1;
    PyType_Modified(&bounded_type);
    return PyModule_AddFunctions(m, functions);
}
