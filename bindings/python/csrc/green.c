/* The greenlet as an object, and its end as garbage.
 *
 *            switch            switch, or the end of a child
 *     NEW ----------> ACTIVE <---> suspended: in_switch  nobody resumes it unasked
 *      |                |                     in_park    a wait of ours: green_wake
 *      |                |                     neither    in a wait of the library, or ready
 *      +-----> DEAD <---+ */

#include "green.h"

PyObject *exc_exit, *exc_error, *exc_loop_exit, *exc_blocking, *exc_invalid_switch;
PyObject *exc_concurrent, *exc_invalid_thread, *exc_destroyed;
PyObject *empty_tuple, *str_run;

/* ---- garbage ---- */

void green_kill_here(thread *th, green *g)
{
    PyObject *old = g->parent;
    if (g->in_switch && g->is_coro) {
        Py_INCREF(th->current);
        g->parent = (PyObject *)th->current;
    } else {
        old = NULL;
    }
    PyErr_SetNone(exc_exit);
    /* One that returns to the loop would not come back here: it is woken to end in its turn. */
    PyObject *r = th->current->kind == HUB || !g->in_switch || !g->is_coro
                      ? (green_raise_later(g, NULL), NULL)
                      : green_switch(th, g, NULL, NULL);
    if (!r && PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *)g);
    Py_XDECREF(r);
    if (old)
        Py_XSETREF(g->parent, old);
}

void kill_garbage(thread *th)
{
    PyObject *list = th->to_kill;
    th->to_kill = NULL;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        green *g = (green *)PyList_GET_ITEM(list, i);
        if (g->life == ACTIVE && Py_REFCNT(g) == 1)
            green_kill_here(th, g);
    }
    Py_DECREF(list);
    PyErr_Restore(t, v, tb);
}

static void green_finalize(PyObject *self)
{
    green *g = (green *)self;
    if (g->life != ACTIVE || g->kind == MAIN || g->kind == HUB || !g->th || g->th->ended || shutting_down)
        return;
    if (green_is_gone(g))
        return;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    thread *th = g->th;
    if (this_thread == th) {
        green_kill_here(th, g);
    } else {
        if (!th->to_kill)
            th->to_kill = PyList_New(0);
        if (!th->to_kill || PyList_Append(th->to_kill, self) < 0)
            PyErr_Clear();
        th->attention = true;
    }
    PyErr_Restore(t, v, tb);
}

static int green_is_gc(PyObject *self)
{
    /* What a suspended greenlet refers to from its stack is not known: it counts as referred to. */
    green *g = (green *)self;
    return g->kind == MAIN || g->life != ACTIVE;
}

int green_traverse(PyObject *self, visitproc visit, void *arg)
{
    green *g = (green *)self;
    Py_VISIT(g->parent);
    Py_VISIT(g->run);
    Py_VISIT(g->inbox);
    Py_VISIT(g->keywords);
    for (pend *p = g->pending; p; p = p->next) {
        Py_VISIT(p->source);
        Py_VISIT(p->value);
        Py_VISIT(p->tb);
    }
    Py_VISIT(g->dict);
    if (!g->loaded)
        Py_VISIT(g->ps.context);
    return 0;
}

/* The last thing that a dealloc does with the thread. */
void green_leave_thread(green *g)
{
    thread *th = g->th;
    g->th = NULL;
    if (th)
        thread_release(th);
}

int green_clear(PyObject *self)
{
    green *g = (green *)self;
    Py_CLEAR(g->parent);
    Py_CLEAR(g->run);
    Py_CLEAR(g->inbox);
    Py_CLEAR(g->keywords);
    green_unpend(g, NULL);
    local_forget(g);
    Py_CLEAR(g->dict);
    if (g->life != ACTIVE)
        Py_CLEAR(g->ps.context);
    return 0;
}

/* True when it must not be freed. */
bool green_dealloc_begin(PyObject *self)
{
    green *g = (green *)self;
    if (g->life == ACTIVE && g->kind != MAIN) {
        /* Not by PyObject_CallFinalizerFromDealloc, which does so once: one that catches the exit and
         * lives on is killed again when it is found to be garbage again. */
        Py_SET_REFCNT(self, 1);
        green_finalize(self);
        Py_ssize_t refs = Py_REFCNT(self) - 1;
        Py_SET_REFCNT(self, refs);
        if (refs > 0) {
            if (Py_TYPE(self)->tp_flags & Py_TPFLAGS_HEAPTYPE) {
                /* The dealloc of a class of Python's has untracked it, and gives the class back. */
                Py_INCREF(Py_TYPE(self));
                PyObject_GC_Track(self);
            }
            return true;
        }
        if (g->life == ACTIVE && g->handle && !g->th->ended && g->th == this_thread) {
            if (weald_abandon(g->handle) == 0) {
                state_forget(&g->ps);
                weald_close(g->handle);
            }
            g->handle = 0;
        }
        g->life = DEAD;
    }
    return false;
}

static void green_dealloc(PyObject *self)
{
    if (green_dealloc_begin(self))
        return;
    PyObject_GC_UnTrack(self);
    green *g = (green *)self;
    if (g->weakrefs)
        PyObject_ClearWeakRefs(self);
    green_clear(self);
    green_leave_thread(g);
    Py_TYPE(self)->tp_free(self);
}

/* ---- the type ---- */

PyObject *green_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (unlikely(th->to_kill != NULL))
        kill_garbage(th);
    if (unlikely(type->tp_flags & Py_TPFLAGS_IS_ABSTRACT))
        return PyBaseObject_Type.tp_new(type, empty_tuple, NULL); /* says what is missing */
    green *g = (green *)type->tp_alloc(type, 0);
    if (!g)
        return NULL;
    g->th = th;
    th->refs++;
    g->node.what = (PyObject *)g;
    g->parent = Py_NewRef((PyObject *)th->current);
    return (PyObject *)g;
}

static int green_set_parent(PyObject *self, PyObject *parent, void *closure);
static int green_set_run(PyObject *self, PyObject *run, void *closure);

static int green_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"run", "parent", NULL};
    PyObject *run = NULL, *parent = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OO:greenlet", names, &run, &parent))
        return -1;
    if (run && green_set_run(self, run, NULL) < 0)
        return -1;
    if (parent && parent != Py_None)
        return green_set_parent(self, parent, NULL);
    return 0;
}

static PyObject *green_get_run(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (g->life != NEW || !g->run) {
        PyErr_SetObject(PyExc_AttributeError, str_run);
        return NULL;
    }
    return Py_NewRef(g->run);
}

static int green_set_run(PyObject *self, PyObject *run, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (g->life != NEW) {
        PyErr_SetString(PyExc_AttributeError, "run cannot be set after the start of the greenlet");
        return -1;
    }
    if (!run && !g->run) {
        PyErr_SetObject(PyExc_AttributeError, str_run);
        return -1;
    }
    Py_XINCREF(run);
    Py_XSETREF(g->run, run);
    return 0;
}

static PyObject *green_get_parent(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    return Py_NewRef(g->parent ? g->parent : Py_None);
}

static int green_set_parent(PyObject *self, PyObject *parent, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (!parent) {
        PyErr_SetString(PyExc_AttributeError, "can't delete attribute");
        return -1;
    }
    if (g->kind == MAIN) {
        PyErr_SetString(PyExc_AttributeError, "cannot set the parent of a main greenlet");
        return -1;
    }
    if (!is_green(parent)) {
        PyErr_Format(PyExc_TypeError, "GreenletChecker: Expected any type of greenlet, not %s",
                     Py_TYPE(parent)->tp_name);
        return -1;
    }
    for (green *p = (green *)parent; p; p = (green *)p->parent) {
        if (p == g) {
            PyErr_SetString(PyExc_ValueError, "cyclic parent chain");
            return -1;
        }
        if (p->kind == MAIN) {
            if (p->th->ended || (g->life == ACTIVE && p->th != g->th)) {
                PyErr_SetString(PyExc_ValueError, "parent cannot be on a different thread");
                return -1;
            }
            if (g->life == NEW && g->th != p->th) {
                thread_release(g->th);
                g->th = p->th;
                g->th->refs++;
            }
        }
    }
    Py_INCREF(parent);
    Py_XSETREF(g->parent, parent);
    return 0;
}

static PyObject *green_get_dead(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(green_is_gone((green *)self));
}

static PyObject *green_get_frame(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (g->life != ACTIVE || !g->loaded || !g->th || !this_thread || g->th->ended)
        Py_RETURN_NONE;
    if (g == this_thread->current || (g->th != this_thread && g == g->th->current))
        Py_RETURN_NONE;
    PyObject *frame = state_frame(this_thread->ts, &g->ps);
    if (!frame)
        Py_RETURN_NONE;
    return frame;
}

static PyObject *green_get_context(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    PyObject *context;
    if (g->loaded && g->th && g == g->th->current) {
        if (g->th != this_thread) {
            PyErr_SetString(PyExc_ValueError, "cannot get context of a greenlet that is running in a different thread");
            return NULL;
        }
        context = g->th->ts->context;
    } else {
        context = g->ps.context;
    }
    return Py_NewRef(context ? context : Py_None);
}

static int green_set_context(PyObject *self, PyObject *context, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (!context) {
        PyErr_SetString(PyExc_AttributeError, "can't delete context attribute");
        return -1;
    }
    if (context != Py_None && !PyContext_CheckExact(context)) {
        PyErr_SetString(PyExc_TypeError, "greenlet context must be a contextvars.Context or None");
        return -1;
    }
    PyObject *new = context == Py_None ? NULL : Py_NewRef(context);
    if (g->loaded && g->th && g == g->th->current) {
        if (g->th != this_thread) {
            Py_XDECREF(new);
            PyErr_SetString(PyExc_ValueError, "cannot set context of a greenlet that is running in a different thread");
            return -1;
        }
        PyObject *old = g->th->ts->context;
        g->th->ts->context = new;
        g->th->ts->context_ver++;
        Py_XDECREF(old);
    } else {
        Py_XSETREF(g->ps.context, new);
    }
    return 0;
}

static PyObject *green_get_dict(PyObject *self, void *closure)
{
    return PyObject_GenericGetDict(self, closure);
}

static int green_bool(PyObject *self)
{
    return ((green *)self)->life == ACTIVE && !green_is_gone((green *)self);
}

static PyObject *green_repr(PyObject *self)
{
    green *g = (green *)self;
    const char *main = g->kind == MAIN ? " main" : "";
    bool gone = green_is_gone(g);
    const char *life = g->life == NEW                          ? "pending"
                       : gone                                   ? "dead"
                       : g->th == this_thread && g == g->th->current ? "current active started"
                                                                : "suspended active started";
    return PyUnicode_FromFormat("<%s object at %p (otid=%p) %s%s>", Py_TYPE(self)->tp_name, self, (void *)g->th, life,
                                main);
}

static PyObject *green_false(PyObject *self, void *closure)
{
    (void)self, (void)closure;
    return PyLong_FromLong(0);
}

static PyObject *green_get_waits(PyObject *self, void *closure)
{
    (void)closure;
    green *g = (green *)self;
    if (!g->why || g->life != ACTIVE || (g->th && g == g->th->current))
        Py_RETURN_NONE;
    return Py_BuildValue("(sO)", g->why, g->on ? g->on : Py_None);
}

static PyObject *green_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(self)->tp_name);
    return NULL;
}

static PyMethodDef green_methods[] = {
    {"switch", (PyCFunction)(void (*)(void))green_m_switch, METH_FASTCALL | METH_KEYWORDS,
     "switch(*args, **kwargs): goes on in this greenlet; returns what is switched back."},
    {"throw", green_m_throw, METH_VARARGS,
     "throw(type=GreenletExit, value=None, traceback=None): as switch, raising an exception there."},
    {"__getstate__", green_reduce, METH_NOARGS, NULL},
    {"__reduce__", green_reduce, METH_NOARGS, NULL},
    {NULL}};

static PyGetSetDef green_getset[] = {
    {"__dict__", green_get_dict, PyObject_GenericSetDict, NULL, NULL},
    {"run", green_get_run, green_set_run, "What it runs; gone when it has started.", NULL},
    {"parent", green_get_parent, green_set_parent, "Who goes on when it ends.", NULL},
    {"dead", green_get_dead, NULL, "Whether it has ended.", NULL},
    {"gr_frame", green_get_frame, NULL, "The innermost frame while it is suspended, else None.", NULL},
    {"gr_context", green_get_context, green_set_context, "Its contextvars.Context, or None.", NULL},
    {"_stack_saved", green_false, NULL, "0: stacks are never copied.", NULL},
    {"_waits", green_get_waits, NULL, "(what kind of wait, for which object) while it waits, or None.", NULL},
    {NULL}};

static PyNumberMethods green_number = {.nb_bool = green_bool};

PyTypeObject green_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenlet.greenlet",
    .tp_basicsize = sizeof(green),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "greenlet(run=None, parent=None)\n\nA function that runs on a stack of its own when somebody "
              "switches to it. When it ends its parent goes on.",
    .tp_new = green_new,
    .tp_init = green_init,
    .tp_dealloc = green_dealloc,
    .tp_traverse = green_traverse,
    .tp_clear = green_clear,
    .tp_is_gc = green_is_gc,
    .tp_finalize = green_finalize,
    .tp_repr = green_repr,
    .tp_methods = green_methods,
    .tp_getset = green_getset,
    .tp_as_number = &green_number,
    .tp_dictoffset = offsetof(green, dict),
    .tp_weaklistoffset = offsetof(green, weakrefs),
};

/* ---- functions ---- */

static PyObject *py_getcurrent(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (unlikely(th->to_kill != NULL))
        kill_garbage(th);
    return Py_NewRef((PyObject *)th->current);
}

static PyObject *py_get_ident(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *of = n == 1 ? args[0] : n == 0 && names && PyTuple_GET_SIZE(names) == 1 ? args[0] : NULL;
    if (n > 1 || (n && names)) {
        PyErr_SetString(PyExc_TypeError, "get_ident(gr=None)");
        return NULL;
    }
    if (of && of != Py_None)
        return PyLong_FromVoidPtr(of);
    PyObject *me = py_getcurrent(self, NULL);
    if (!me)
        return NULL;
    PyObject *ident = PyLong_FromVoidPtr(me);
    Py_DECREF(me);
    return ident;
}

static PyObject *py_greenlets(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = thread_get();
    int64_t n = th ? weald_list(NULL, 0) : 0;
    weald_greenlet *all = th ? PyMem_Calloc((size_t)n, sizeof *all) : NULL;
    PyObject *out = PyList_New(0);
    if (!all || !out) {
        Py_XDECREF(out);
        PyMem_Free(all);
        return th ? PyErr_NoMemory() : NULL;
    }
    int64_t got = weald_list(all, (size_t)n);
    for (int64_t i = 0; i < got && i < n; i++) {
        green *g = weald_user(all[i]);
        if (g && g->kind != MAIN && g->kind != HUB && g->life != DEAD && PyList_Append(out, (PyObject *)g) < 0) {
            Py_CLEAR(out);
            break;
        }
    }
    PyMem_Free(all);
    return out;
}

static PyObject *py_trash(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return PyLong_FromLong(state_trash(PyThreadState_Get()));
}

/* weald.exceptions has the classes: they do more there than ours. */
static PyObject *py_set_exceptions(PyObject *self, PyObject *args)
{
    PyObject **ours[] = {&exc_loop_exit, &exc_blocking, &exc_invalid_switch, &exc_concurrent, &exc_invalid_thread,
                         &exc_destroyed};
    (void)self;
    if (PyTuple_GET_SIZE(args) != 6) {
        PyErr_SetString(PyExc_TypeError, "six classes are wanted");
        return NULL;
    }
    for (int i = 0; i < 6; i++) {
        PyObject *class = Py_NewRef(PyTuple_GET_ITEM(args, i));
        Py_XSETREF(*ours[i], class);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"get_tstate_trash_delete_nesting", py_trash, METH_NOARGS, NULL},
    {"_set_exceptions", py_set_exceptions, METH_VARARGS, NULL},
    {"getcurrent", py_getcurrent, METH_NOARGS, "The greenlet that runs."},
    {"get_ident", (PyCFunction)(void (*)(void))py_get_ident, METH_FASTCALL | METH_KEYWORDS,
     TEXT("get_ident($module, gr=None)", "A number that no other living greenlet has.")},
    {"greenlets", py_greenlets, METH_NOARGS,
     "The greenlets of this thread that were started and have not ended, without main and the hub."},
    {NULL}};

int init_green(PyObject *m)
{
    if (!(empty_tuple = PyTuple_New(0)) || !(str_run = PyUnicode_InternFromString("run")))
        return -1;
    exc_exit = PyErr_NewExceptionWithDoc("greenlet.GreenletExit", "Ends a greenlet; counts as its value.",
                                         PyExc_BaseException, NULL);
    exc_error = PyErr_NewException("greenlet.error", NULL, NULL);
    exc_loop_exit = PyErr_NewExceptionWithDoc("weald.exceptions.LoopExit", "Nothing is left that could end the wait.",
                                              PyExc_Exception, NULL);
    exc_blocking = PyErr_NewException("weald.exceptions.BlockingSwitchOutError", PyExc_AssertionError, NULL);
    exc_invalid_switch = PyErr_NewException("weald.exceptions.InvalidSwitchError", PyExc_AssertionError, NULL);
    exc_concurrent = PyErr_NewException("weald.exceptions.ConcurrentObjectUseError", PyExc_AssertionError, NULL);
    exc_invalid_thread = PyErr_NewException("weald.exceptions.InvalidThreadUseError", PyExc_RuntimeError, NULL);
    exc_destroyed = PyErr_NewException("weald.exceptions.HubDestroyed", exc_exit, NULL);
    PyObject *classes[] = {exc_exit, exc_error, exc_loop_exit, exc_blocking, exc_invalid_switch, exc_concurrent,
                           exc_invalid_thread, exc_destroyed};
    const char *names[] = {"GreenletExit", "error", "LoopExit", "BlockingSwitchOutError", "InvalidSwitchError",
                           "ConcurrentObjectUseError", "InvalidThreadUseError", "HubDestroyed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!classes[i] || PyModule_AddObjectRef(m, names[i], classes[i]) < 0)
            return -1;
    }
    if (PyType_Ready(&green_type) < 0 || PyModule_AddFunctions(m, functions) < 0)
        return -1;
    PyObject *d = green_type.tp_dict;
    PyObject *f;
    const char *statics[] = {"getcurrent", "settrace", "gettrace"};
    for (int i = 0; i < 3; i++) {
        f = PyObject_GetAttrString(m, statics[i]);
        PyObject *s = f ? PyStaticMethod_New(f) : NULL;
        if (!s || PyDict_SetItemString(d, statics[i], s) < 0)
            return -1;
        Py_DECREF(f);
        Py_DECREF(s);
    }
    if (PyDict_SetItemString(d, "GreenletExit", exc_exit) < 0 || PyDict_SetItemString(d, "error", exc_error) < 0)
        return -1;
    return PyModule_AddObjectRef(m, "greenlet", (PyObject *)&green_type);
}
