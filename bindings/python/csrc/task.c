/* Greenlet: a function that the hub runs, its value or exception, and who waits for it.
 *
 *   NOT_YET --start--> PENDING --its turn--> BEGUN --returns, raises--> done
 *      |                  |
 *      +------ kill ------+--> CANCELLED, which is done as well
 *
 * What is not hot is written in Python, in weald/greenlet.py, which adds it to this type. */

#include "task.h"

PyObject *str_underscore_run;
static PyObject *empty, *str_run, *str_tree;
bool track_tree = true;
bool inherit_context;
static int stack_limit = 10;

/* ---- memory ---- */

#define MOST_SPARE 512
static task *spare[MOST_SPARE];
static int spares;

static PyObject *task_alloc(PyTypeObject *type, Py_ssize_t n)
{
    if (type != &task_type || spares == 0)
        return PyType_GenericAlloc(type, n);
    task *t = spare[--spares];
    PyObject_Init((PyObject *)t, type);
    PyObject_GC_Track(t);
    return (PyObject *)t;
}

static int task_traverse(PyObject *self, visitproc visit, void *arg)
{
    task *t = (task *)self;
    Py_VISIT(t->args);
    Py_VISIT(t->kwargs);
    Py_VISIT(t->value);
    Py_VISIT(t->exc_info);
    Py_VISIT(t->tree);
    int r = list_traverse(&t->links, visit, arg);
    return r ? r : green_traverse(self, visit, arg);
}

static int task_clear(PyObject *self)
{
    task *t = (task *)self;
    task_put_args(t, NULL);
    Py_CLEAR(t->kwargs);
    Py_CLEAR(t->value);
    Py_CLEAR(t->exc_info);
    Py_CLEAR(t->ident);
    Py_CLEAR(t->spawner);
    Py_CLEAR(t->tree);
    if (t->stack)
        state_stack_release(t->stack);
    t->stack = NULL;
    list_clear(&t->links);
    return green_clear(self);
}

static void task_dealloc(PyObject *self)
{
    if (green_dealloc_begin(self))
        return;
    PyObject_GC_UnTrack(self);
    if (((green *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    task_clear(self);
    green_leave_thread((green *)self);
    if (Py_IS_TYPE(self, &task_type) && spares < MOST_SPARE) {
        task *t = (task *)self;
        memset((char *)t + sizeof(PyObject), 0, sizeof *t - sizeof(PyObject));
        spare[spares++] = t;
    } else {
        Py_TYPE(self)->tp_free(self);
    }
}

/* ---- making one ---- */

static int note_spawner(thread *th, task *t)
{
    green *me = th->current;
    t->spawner = PyWeakref_NewRef((PyObject *)me, NULL);
    if (!t->spawner)
        return -1;
    if (me->kind == TASK) {
        task *mine = (task *)me;
        if (!mine->tree && !(mine->tree = PyDict_New()))
            return -1;
        t->tree = Py_NewRef(mine->tree);
    } else if (me->dict && me->kind != MAIN && me->parent) {
        PyObject *tree = PyDict_GetItemWithError(me->dict, str_tree);
        if (tree)
            t->tree = Py_NewRef(tree);
    }
    if (stack_limit > 0 && !(t->stack = state_stack(th->ts, stack_limit)))
        return -1;
    return 0;
}

int take_context(green *g)
{
    g->ps.context = PyContext_CopyCurrent();
    return g->ps.context ? 0 : -1;
}

static task *task_make(thread *th, PyTypeObject *type)
{
    green *hub = thread_hub(th);
    task *t = hub ? (task *)type->tp_alloc(type, 0) : NULL;
    if (!t)
        return NULL;
    t->g.th = th;
    th->refs++;
    t->g.kind = TASK;
    t->g.node.what = (PyObject *)t;
    t->g.parent = Py_NewRef((PyObject *)hub);
    if (unlikely(inherit_context) && take_context(&t->g) < 0)
        Py_CLEAR(t);
    return t;
}

static PyObject *task_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    thread *th = thread_get();
    return th ? (PyObject *)task_make(th, type) : NULL;
}

static int task_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    task *t = (task *)self;
    thread *th = thread_get();
    if (!th)
        return -1;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    PyObject *run = n > 0 ? PyTuple_GET_ITEM(args, 0) : NULL;
    PyObject *kw = keywords && PyDict_GET_SIZE(keywords) ? PyDict_Copy(keywords) : NULL;
    if (keywords && PyDict_GET_SIZE(keywords) && !kw)
        return -1;
    if (kw && !run) {
        run = PyDict_GetItem(kw, str_run);
        if (run) {
            Py_INCREF(run);
            PyDict_DelItem(kw, str_run);
        }
    } else {
        Py_XINCREF(run);
    }
    if (run == Py_None)
        Py_CLEAR(run);
    PyObject *rest = n > 1 ? PyTuple_GetSlice(args, 1, n) : Py_NewRef(empty);
    if (!rest)
        return -1;
    task_put_args(t, rest);
    Py_XSETREF(t->kwargs, kw);
    PyObject *f = run ? Py_NewRef(run) : PyObject_GetAttr(self, str_underscore_run);
    if (!f || !PyCallable_Check(f)) {
        Py_XDECREF(f);
        Py_XDECREF(run);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "The run argument or self._run must be callable");
        return -1;
    }
    Py_DECREF(f);
    Py_XSETREF(t->g.run, run);
    return track_tree && !t->spawner ? note_spawner(th, t) : 0;
}

/* ---- running ---- */

static void report_result(task *t, PyObject *value)
{
    Py_XSETREF(t->value, value);
    Py_XSETREF(t->exc_info, Py_NewRef(Py_None));
    task_notify(t);
}

void task_report_error(thread *th, task *t)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb && value)
        PyException_SetTraceback(value, tb);
    if (PyErr_GivenExceptionMatches(value, exc_exit)) {
        /* Where it was killed is of no use to anybody, and would keep all that it had alive, for ever
         * if a suspended greenlet is among it. */
        PyException_SetTraceback(value, Py_None);
        Py_DECREF(type);
        Py_XDECREF(tb);
        report_result(t, value);
        return;
    }
    PyObject *info = PyTuple_Pack(3, type, value, tb ? tb : Py_None);
    Py_XSETREF(t->exc_info, info ? info : Py_NewRef(Py_None));
    task_notify(t);
    PyErr_Restore(type, value, tb);
    hub_handle_error(th, (PyObject *)t);
}

static PyObject *call_body(task *t)
{
    if (t->g.slept) {
        t->g.why = NULL;
        Py_RETURN_NONE;
    }
    PyObject *f = t->g.run;
    if (likely(f != NULL)) {
        Py_INCREF(f); /* it is shown in reports until it has ended */
    } else {
        f = PyObject_GetAttr((PyObject *)t, str_underscore_run);
        if (!f)
            return NULL;
    }
    PyObject *args = Py_NewRef(t->args ? t->args : empty), *kwargs = Py_XNewRef(t->kwargs), *r;
    if (t->g.single) {
        PyObject *room[] = {NULL, args};
        r = PyObject_VectorcallDict(f, room + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, kwargs);
    } else {
        r = PyObject_Call(f, args, kwargs);
    }
    Py_DECREF(f);
    Py_DECREF(args);
    Py_XDECREF(kwargs);
    return r;
}

static PyObject *task_run(PyObject *self, PyObject *unused)
{
    (void)unused;
    task *t = (task *)self;
    thread *th = t->g.th;
    PyObject *r;
    if (unlikely(t->g.pending != NULL)) {
        green_raise_pending(&t->g);
        r = NULL;
    } else {
        r = call_body(t);
    }
    if (likely(r != NULL))
        report_result(t, r);
    else
        task_report_error(th, t);
    Py_CLEAR(t->g.run);
    if (t->args != empty || t->g.single)
        task_put_args(t, Py_NewRef(empty));
    Py_CLEAR(t->kwargs);
    Py_RETURN_NONE;
}

static PyObject *base_run;

static void *task_body(void *arg)
{
    task *t = arg;
    thread *th = t->g.th;
    SET_ASIDE(chunk, size);
    state_init(th->ts, &t->g.ps, chunk, (size_t)size, th->c_depth);
    t->g.loaded = true;
    t->g.start = BEGUN;
    if (after_switch(th) < 0) {
        task_report_error(th, t);
    } else if (likely(Py_IS_TYPE((PyObject *)t, &task_type)) ||
               _PyType_Lookup(Py_TYPE(t), str_run) == base_run) {
        PyObject *r = task_run((PyObject *)t, NULL);
        Py_DECREF(r);
    } else {
        PyObject *r = PyObject_CallMethodNoArgs((PyObject *)t, str_run);
        if (!r)
            task_report_error(th, t);
        else if (!t->exc_info)
            report_result(t, r);
        else
            Py_DECREF(r);
    }
    green_end(th, &t->g);
    return NULL;
}

ENTRY(task_entry, task_body)

/* ---- spawning ---- */

/* Makes one of the type itself; the fast way. */
static task *make_plain(thread *th, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    if (unlikely(n < 1 || !PyCallable_Check(args[0]))) {
        PyErr_SetString(PyExc_TypeError, "The run argument or self._run must be callable");
        return NULL;
    }
    task *t = task_make(th, &task_type);
    if (!t)
        return NULL;
    t->g.run = Py_NewRef(args[0]);
    if (n == 1) {
        t->args = Py_NewRef(empty);
    } else if (n == 2) { /* without a tuple, which would be 56 bytes for each of many that wait */
        t->args = Py_NewRef(args[1]);
        t->g.single = true;
    } else {
        t->args = PyTuple_New(n - 1);
        bool holds_containers = false;
        for (Py_ssize_t i = 1; t->args && i < n; i++) {
            PyTuple_SET_ITEM(t->args, i - 1, Py_NewRef(args[i]));
            holds_containers |= PyObject_IS_GC(args[i]);
        }
        if (t->args && !holds_containers)
            PyObject_GC_UnTrack(t->args); /* the collector would find out as well */
    }
    if (unlikely(names != NULL)) {
        t->kwargs = PyDict_New();
        for (Py_ssize_t i = 0; t->kwargs && i < PyTuple_GET_SIZE(names); i++)
            if (PyDict_SetItem(t->kwargs, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
                Py_CLEAR(t->kwargs);
    }
    if (!t->args || (names && !t->kwargs) || (track_tree && note_spawner(th, t) < 0)) {
        Py_DECREF(t);
        return NULL;
    }
    return t;
}

static PyObject *spawn_plain(thread *th, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    task *t = make_plain(th, args, n, names);
    if (t && task_begin(t) < 0)
        Py_CLEAR(t);
    return (PyObject *)t;
}

static PyObject *task_vectorcall(PyObject *type, PyObject *const *args, size_t nf, PyObject *names)
{
    Py_ssize_t n = PyVectorcall_NARGS(nf);
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (likely(n > 0 && args[0] != Py_None && type == (PyObject *)&task_type))
        return (PyObject *)make_plain(th, args, n, names);
    /* The usual way. */
    PyObject *tuple, *keywords;
    if (usual_arguments(args, n, names, &tuple, &keywords) < 0)
        return NULL;
    task *t = task_make(th, (PyTypeObject *)type);
    if (t && task_init((PyObject *)t, tuple, keywords) < 0)
        Py_CLEAR(t);
    Py_DECREF(tuple);
    Py_XDECREF(keywords);
    return (PyObject *)t;
}

static PyObject *task_spawn(PyObject *cls, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (likely(cls == (PyObject *)&task_type) && n > 0 && args[0] != Py_None)
        return spawn_plain(th, args, n, names);
    PyObject *self = PyObject_Vectorcall(cls, args, (size_t)n, names);
    PyObject *r = self ? PyObject_CallMethod(self, "start", NULL) : NULL;
    if (!r)
        Py_CLEAR(self);
    Py_XDECREF(r);
    return self;
}

static PyObject *task_spawn_later(PyObject *cls, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "spawn_later(seconds, function, *args, **kwargs)");
        return NULL;
    }
    if (n == 1 && cls == (PyObject *)&task_type) {
        PyErr_SetString(PyExc_TypeError, "spawn_later(seconds, function, *args, **kwargs): no function");
        return NULL;
    }
    PyObject *self = PyObject_Vectorcall(cls, args + 1, (size_t)n - 1, names);
    PyObject *r = self ? PyObject_CallMethod(self, "start_later", "O", args[0]) : NULL;
    if (!r)
        Py_CLEAR(self);
    Py_XDECREF(r);
    return self;
}

/* ---- the type ---- */

static PyObject *task_repr(PyObject *self)
{
    return PyObject_CallMethod(self, "_repr", NULL);
}

static PyObject *task_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

static PyMethodDef task_methods[] = {
    {"spawn", WITH_KEYWORDS(task_spawn), METH_FASTCALL | METH_KEYWORDS | METH_CLASS,
     TEXT("spawn($type, *args, **kwargs)", "Makes and starts one.")},
    {"spawn_later", WITH_KEYWORDS(task_spawn_later), METH_FASTCALL | METH_KEYWORDS | METH_CLASS,
     TEXT("spawn_later($type, seconds, *args, **kwargs)", "Makes one that starts later.")},
    {"start", task_start, METH_NOARGS, TEXT("start($self, /)", "Has it run in its turn.")},
    {"start_later", task_start_later, METH_O,
     TEXT("start_later($self, seconds, /)", "Has it run so many seconds later.")},
    {"run", task_run, METH_NOARGS, TEXT("run($self, /)", "What it does: calls _run and keeps the outcome.")},
    {"_run_nothing", WITH_KEYWORDS(task_run_nothing), METH_VARARGS | METH_KEYWORDS, NULL},
    {"ready", task_ready, METH_NOARGS, TEXT("ready($self, /)", "Whether it has ended.")},
    {"successful", task_successful, METH_NOARGS,
     TEXT("successful($self, /)", "Whether it has ended without an error; being killed is none.")},
    {"join", WITH_KEYWORDS(task_join), METH_FASTCALL | METH_KEYWORDS,
     TEXT("join($self, timeout=None)", "Waits for its end.")},
    {"get", WITH_KEYWORDS(task_get), METH_VARARGS | METH_KEYWORDS,
     TEXT("get($self, block=True, timeout=None)", "Its value, or raises its exception; Timeout if it has not ended.")},
    {"kill", WITH_KEYWORDS(task_kill), METH_VARARGS | METH_KEYWORDS,
     TEXT("kill($self, exception=..., block=True, timeout=None)", "Raises the exception where it waits.")},
    {"throw", task_throw, METH_VARARGS, TEXT("throw($self, *args)", "Raises it at once. For the hub.")},
    {"rawlink", task_rawlink, METH_O,
     TEXT("rawlink($self, callback, /)", "The hub calls callback(self) when it has ended.")},
    {"unlink", task_unlink, METH_O, TEXT("unlink($self, callback, /)", "Takes a link back.")},
    {"unlink_all", task_unlink_all, METH_NOARGS, TEXT("unlink_all($self, /)", "Takes all links back.")},
    {"has_links", task_has_links, METH_NOARGS, TEXT("has_links($self, /)", "How many links and waiters it has.")},
    {"_raise_exception", task_raise, METH_NOARGS, NULL},
    {"_maybe_kill_before_start", task_maybe_kill_before_start, METH_O, NULL},
    {"__enter__", task_enter, METH_NOARGS, NULL},
    {NULL}};

static PyNumberMethods task_number = {.nb_bool = task_bool};

PyTypeObject task_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald.greenlet.Greenlet",
    .tp_base = &green_type,
    .tp_basicsize = sizeof(task),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Greenlet(run=None, *args, **kwargs)\n\nA function that runs on a stack of its own beside others. "
              "A subclass may define _run instead.",
    .tp_new = task_new,
    .tp_init = task_init,
    .tp_alloc = task_alloc,
    .tp_dealloc = task_dealloc,
    .tp_traverse = task_traverse,
    .tp_clear = task_clear,
    .tp_repr = task_repr,
    .tp_methods = task_methods,
    .tp_members = task_members,
    .tp_getset = task_getset,
    .tp_as_number = &task_number,
};

/* ---- functions ---- */

static PyObject *py_spawn(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    return task_spawn((PyObject *)&task_type, args, n, names);
}

static PyObject *py_set_tracking(PyObject *self, PyObject *args)
{
    int tree, limit;
    (void)self;
    if (!PyArg_ParseTuple(args, "pi:set_tracking", &tree, &limit))
        return NULL;
    track_tree = tree;
    stack_limit = limit < 0 ? 0 : limit > STATE_STACK_MOST ? STATE_STACK_MOST : limit;
    Py_RETURN_NONE;
}

static PyObject *py_set_inherit_context(PyObject *self, PyObject *yes)
{
    (void)self;
    int is = PyObject_IsTrue(yes);
    if (is < 0)
        return NULL;
    inherit_context = is;
    Py_RETURN_NONE;
}

/* Adds a name to one of our types: what is not hot is written in Python. */
static PyObject *py_extend(PyObject *self, PyObject *args)
{
    PyTypeObject *type;
    PyObject *name, *value;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!UO:_extend", &PyType_Type, &type, &name, &value))
        return NULL;
    if (PyDict_SetItem(type->tp_dict, name, value) < 0)
        return NULL;
    PyType_Modified(type);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"spawn", WITH_KEYWORDS(py_spawn), METH_FASTCALL | METH_KEYWORDS,
     TEXT("spawn($module, *args, **kwargs)", "A started Greenlet.")},
    {"spawn_raw", WITH_KEYWORDS(py_spawn_raw), METH_FASTCALL | METH_KEYWORDS,
     TEXT("spawn_raw($module, function, *args, **kwargs)", "A started raw greenlet.")},
    {"_joinall", WITH_KEYWORDS(py_joinall), METH_FASTCALL, NULL},
    {"_set_spawn_callbacks", py_set_spawn_callbacks, METH_O, NULL},
    {"set_tracking", py_set_tracking, METH_VARARGS,
     "set_tracking(tree, limit): whether greenlets know who made them, and how many frames of the stack then."},
    {"set_inherit_context", py_set_inherit_context, METH_O,
     "Whether greenlets that are spawned begin with a copy of their spawner's context variables."},
    {"_extend", py_extend, METH_VARARGS, NULL},
    {NULL}};

int init_task(PyObject *m)
{
    if (!(empty = PyTuple_New(0)) || !(str_run = PyUnicode_InternFromString("run")) ||
        !(str_underscore_run = PyUnicode_InternFromString("_run")) ||
        !(str_tree = PyUnicode_InternFromString("spawn_tree_locals")))
        return -1;
    if (PyType_Ready(&task_type) < 0 || PyType_Ready(&raw_type) < 0)
        return -1;
    task_type.tp_vectorcall = task_vectorcall;
    base_run = PyDict_GetItem(task_type.tp_dict, str_run);
    if (PyModule_AddObjectRef(m, "Greenlet", (PyObject *)&task_type) < 0 ||
        PyModule_AddObjectRef(m, "RawGreenlet", (PyObject *)&raw_type) < 0)
        return -1;
    return PyModule_AddFunctions(m, functions);
}
