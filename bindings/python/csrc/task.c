/* Greenlet: a function that the hub runs, its value or exception, and who waits for it.
 *
 *   NOT_YET --start--> PENDING --its turn--> BEGUN --returns, raises--> done
 *      |                  |
 *      +------ kill ------+--> CANCELLED, which is done as well
 *
 * What is not hot is written in Python, in weald/greenlet.py, which adds it to this type. */

#include "sync.h"

enum { NOT_YET, PENDING, BEGUN, CANCELLED };

typedef struct {
    green g;
    PyObject *args, *kwargs; /* with g.single the one argument, else a tuple; a dict or NULL */
    PyObject *value;
    PyObject *exc_info; /* NULL: not done; None: a value; else (type, value, traceback) */
    nodelist links;
    PyObject *ident;
    PyObject *spawner; /* weak */
    PyObject *tree;    /* spawn_tree_locals; NULL until somebody looks */
    call_stack *stack; /* spawning_stack */
} task;

static PyObject *empty, *str_run, *str_underscore_run, *str_tree, *spawn_callbacks;
static bool track_tree = true;
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

/* Steals a tuple, or NULL. */
static void set_args(task *t, PyObject *args)
{
    PyObject *before = t->args;
    t->args = args;
    t->g.single = false;
    Py_XDECREF(before);
}

static int task_clear(PyObject *self)
{
    task *t = (task *)self;
    set_args(t, NULL);
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

/* Whether what is spawned begins with a copy of the spawner's context variables; else with none. */
static bool inherit_context;

static int take_context(green *g)
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
    set_args(t, rest);
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

/* ---- starting ---- */

static int call_spawn_callbacks(task *t)
{
    if (!spawn_callbacks || spawn_callbacks == Py_None)
        return 0;
    PyObject *all = PySequence_List(spawn_callbacks);
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(all); i++) {
        PyObject *r = PyObject_CallOneArg(PyList_GET_ITEM(all, i), (PyObject *)t);
        if (!r)
            Py_CLEAR(all);
        Py_XDECREF(r);
    }
    Py_XDECREF(all);
    return PyErr_Occurred() ? -1 : 0;
}

static int task_begin(task *t)
{
    if (t->g.start != NOT_YET || t->g.life != NEW)
        return 0;
    thread *th = t->g.th;
    if (th != this_thread) {
        PyErr_SetString(exc_invalid_thread, "a greenlet is started in the thread that made it");
        return -1;
    }
    if (unlikely(spawn_callbacks != NULL) && call_spawn_callbacks(t) < 0)
        return -1;
    t->g.start = PENDING;
    if (green_start(th, &t->g) < 0) {
        t->g.start = NOT_YET;
        return -1;
    }
    return 0;
}

/* It will not run. */
static void cancel_start(task *t)
{
    if (t->g.start == BEGUN || t->g.start == CANCELLED)
        return;
    green *g = &t->g;
    bool was_pending = t->g.start == PENDING;
    t->g.start = CANCELLED;
    if (was_pending && g->handle) {
        weald_kill(g->handle, 0, WEALD_NOW);
        weald_close(g->handle);
        g->handle = 0;
    }
    g->life = DEAD;
    Py_CLEAR(g->run);
    if (g->held) {
        g->held = false;
        Py_DECREF(g); /* the caller has one */
    }
}

static void notify(task *t)
{
    if (t->links.first)
        list_wake_all(&t->links, (PyObject *)t);
}

static void report_result(task *t, PyObject *value)
{
    Py_XSETREF(t->value, value);
    Py_XSETREF(t->exc_info, Py_NewRef(Py_None));
    notify(t);
}

/* Takes the current exception. */
static void report_error(thread *th, task *t)
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
    notify(t);
    PyErr_Restore(type, value, tb);
    hub_handle_error(th, (PyObject *)t);
}

static PyObject *call_body(task *t)
{
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
        report_error(th, t);
    Py_CLEAR(t->g.run);
    if (t->args != empty || t->g.single)
        set_args(t, Py_NewRef(empty));
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
        report_error(th, t);
    } else if (likely(Py_IS_TYPE((PyObject *)t, &task_type)) ||
               _PyType_Lookup(Py_TYPE(t), str_run) == base_run) {
        PyObject *r = task_run((PyObject *)t, NULL);
        Py_DECREF(r);
    } else {
        PyObject *r = PyObject_CallMethodNoArgs((PyObject *)t, str_run);
        if (!r)
            report_error(th, t);
        else if (!t->exc_info)
            report_result(t, r);
        else
            Py_DECREF(r);
    }
    green_end(th, &t->g);
    return NULL;
}

ENTRY(task_entry, task_body)

static PyObject *task_start(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (task_begin((task *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *task_start_later(PyObject *self, PyObject *seconds)
{
    task *t = (task *)self;
    int64_t ns;
    if (seconds_from(seconds, &ns) < 0)
        return NULL;
    if (t->g.start != NOT_YET)
        Py_RETURN_NONE;
    if (spawn_callbacks && call_spawn_callbacks(t) < 0)
        return NULL;
    green *g = &t->g;
    thread *th = g->th;
    th->options.user = g;
    weald_greenlet h = weald_greenlet_new(task_entry, g, &th->options);
    if (h < 0) {
        raise_code((int)h);
        return NULL;
    }
    int code = weald_start_later(h, ns < 0 ? 0 : ns);
    if (code < 0) {
        weald_close(h);
        raise_code(code);
        return NULL;
    }
    g->handle = h;
    g->life = ACTIVE;
    t->g.start = PENDING;
    green_hold(g);
    Py_RETURN_NONE;
}

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

/* ---- its state ---- */

static bool is_dead(task *t)
{
    if (this_thread && this_thread->current == &t->g)
        return false;
    return t->g.start == CANCELLED || green_is_gone(&t->g);
}

nodelist *task_links(PyObject *self)
{
    return &((task *)self)->links;
}

static bool is_ready(task *t)
{
    return t->exc_info != NULL || is_dead(t);
}

static PyObject *task_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(is_ready((task *)self));
}

static PyObject *task_successful(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((task *)self)->exc_info == Py_None);
}

static int task_bool(PyObject *self)
{
    task *t = (task *)self;
    return t->g.start != NOT_YET && t->exc_info == NULL && t->g.start != CANCELLED;
}

static PyObject *task_get_dead(PyObject *self, void *c)
{
    (void)c;
    return PyBool_FromLong(is_dead((task *)self));
}

static PyObject *task_get_started(PyObject *self, void *c)
{
    (void)c;
    return PyBool_FromLong(task_bool(self));
}

static PyObject *task_get_exception(PyObject *self, void *c)
{
    (void)c;
    task *t = (task *)self;
    if (!t->exc_info || t->exc_info == Py_None)
        Py_RETURN_NONE;
    return Py_NewRef(PyTuple_GET_ITEM(t->exc_info, 1));
}

static PyObject *task_get_exc_info(PyObject *self, void *c)
{
    (void)c;
    task *t = (task *)self;
    if (!t->exc_info || t->exc_info == Py_None)
        Py_RETURN_NONE;
    return Py_NewRef(t->exc_info);
}

/* gevent's own form: None, (None, None, None), or the three. */
static PyObject *task_get_raw_exc_info(PyObject *self, void *c)
{
    (void)c;
    task *t = (task *)self;
    if (!t->exc_info)
        Py_RETURN_NONE;
    if (t->exc_info == Py_None)
        return PyTuple_Pack(3, Py_None, Py_None, Py_None);
    return Py_NewRef(t->exc_info);
}

static PyObject *task_get_body(PyObject *self, void *c)
{
    (void)c;
    task *t = (task *)self;
    if (t->g.run)
        return Py_NewRef(t->g.run);
    if (t->g.start == BEGUN || t->g.start == CANCELLED) {
        if (t->g.dict) {
            PyObject *f = PyDict_GetItemWithError(t->g.dict, str_underscore_run);
            if (f)
                return Py_NewRef(f);
        }
    }
    return PyObject_GetAttrString(self, "_run_nothing");
}

static int task_set_body(PyObject *self, PyObject *f, void *c)
{
    (void)c;
    task *t = (task *)self;
    Py_XINCREF(f);
    Py_XSETREF(t->g.run, f);
    return 0;
}

static PyObject *task_run_nothing(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self, (void)args, (void)keywords;
    Py_RETURN_NONE;
}

static PyObject *task_get_tree(PyObject *self, void *c)
{
    (void)c;
    task *t = (task *)self;
    if (!track_tree && !t->tree)
        Py_RETURN_NONE;
    if (!t->tree && !(t->tree = PyDict_New()))
        return NULL;
    return Py_NewRef(t->tree);
}

static int task_set_tree(PyObject *self, PyObject *tree, void *c)
{
    (void)c;
    Py_XINCREF(tree);
    Py_XSETREF(((task *)self)->tree, tree);
    return 0;
}

static PyObject *task_get_links(PyObject *self, void *c)
{
    (void)c;
    return list_as_list(&((task *)self)->links);
}

static PyObject *task_has_links(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((task *)self)->links.len);
}

static PyObject *task_get_pending_start(PyObject *self, void *c)
{
    (void)c;
    return PyLong_FromLong(((task *)self)->g.start);
}

static PyObject *task_get_args(PyObject *self, void *c)
{
    task *t = (task *)self;
    (void)c;
    if (t->g.single) {
        PyObject *tuple = PyTuple_Pack(1, t->args);
        if (!tuple)
            return NULL;
        set_args(t, tuple);
    }
    return Py_NewRef(t->args ? t->args : Py_None);
}

static int task_set_args(PyObject *self, PyObject *args, void *c)
{
    (void)c;
    if (args && !PyTuple_Check(args)) {
        PyErr_SetString(PyExc_TypeError, "arguments are a tuple");
        return -1;
    }
    set_args((task *)self, Py_XNewRef(args));
    return 0;
}

/* [code, instruction, ...] */
static PyObject *task_get_stack(PyObject *self, void *c)
{
    (void)c;
    call_stack *stack = ((task *)self)->stack;
    if (!stack)
        Py_RETURN_NONE;
    PyObject *all = PyList_New(0);
    for (int i = 0; all && i < stack->n; i++) {
        PyObject *at = PyLong_FromLong(stack->frame[i].at);
        if (!at || PyList_Append(all, stack->frame[i].code) < 0 || PyList_Append(all, at) < 0)
            Py_CLEAR(all);
        Py_XDECREF(at);
    }
    return all;
}

/* ---- waiting for it ---- */

static int wait_for(thread *th, task *t, PyObject *timeout, const char *why)
{
    int64_t deadline;
    if (deadline_from(timeout, &deadline) < 0)
        return WAIT_FAILED;
    int outcome = WAIT_WOKEN;
    while (!is_ready(t) && outcome == WAIT_WOKEN)
        outcome = green_wait(th, &t->links, deadline, why, (PyObject *)t);
    return deadline_end(outcome, timeout);
}

static int one_argument(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, const char *name,
                        PyObject **out)
{
    if (n > 1 || (names && n + PyTuple_GET_SIZE(names) > 1)) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument", f);
        return -1;
    }
    if (n == 1)
        *out = args[0];
    else if (names && PyTuple_GET_SIZE(names) == 1) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) != 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", f, PyTuple_GET_ITEM(names, 0));
            return -1;
        }
        *out = args[0];
    }
    return 0;
}

static PyObject *task_join(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    task *t = (task *)self;
    PyObject *timeout = NULL;
    if ((n || names) && one_argument("join", args, n, names, "timeout", &timeout) < 0)
        return NULL;
    if (is_ready(t))
        Py_RETURN_NONE;
    thread *th = thread_get();
    if (!th || wait_for(th, t, timeout, "Greenlet.join()") < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *raise_exc_info(task *t)
{
    PyObject *type = PyTuple_GET_ITEM(t->exc_info, 0), *value = PyTuple_GET_ITEM(t->exc_info, 1),
             *tb = PyTuple_GET_ITEM(t->exc_info, 2);
    PyErr_Restore(Py_NewRef(type), Py_NewRef(value), tb == Py_None ? NULL : Py_NewRef(tb));
    return NULL;
}

static PyObject *task_raise(PyObject *self, PyObject *unused)
{
    (void)unused;
    task *t = (task *)self;
    if (t->exc_info && t->exc_info != Py_None)
        return raise_exc_info(t);
    Py_RETURN_NONE;
}

static PyObject *task_get(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"block", "timeout", NULL};
    task *t = (task *)self;
    int block = 1;
    PyObject *timeout = Py_None;
    if ((PyTuple_GET_SIZE(args) || keywords) &&
        !PyArg_ParseTupleAndKeywords(args, keywords, "|pO:get", names, &block, &timeout))
        return NULL;
    if (!is_ready(t)) {
        if (!block)
            return timeout_raise_new(NULL);
        thread *th = thread_get();
        int outcome = th ? wait_for(th, t, timeout, "Greenlet.get()") : WAIT_FAILED;
        if (outcome < 0)
            return NULL;
        if (outcome == WAIT_TIMEOUT)
            return timeout_raise_new(timeout);
    }
    if (t->exc_info && t->exc_info != Py_None)
        return raise_exc_info(t);
    return Py_NewRef(t->value ? t->value : Py_None);
}

static PyObject *task_rawlink(PyObject *self, PyObject *callback)
{
    task *t = (task *)self;
    if (list_link(&t->links, callback) < 0)
        return NULL;
    if (is_ready(t))
        notify(t);
    Py_RETURN_NONE;
}

static PyObject *task_unlink(PyObject *self, PyObject *callback)
{
    list_unlink(&((task *)self)->links, callback);
    Py_RETURN_NONE;
}

static PyObject *task_unlink_all(PyObject *self, PyObject *unused)
{
    (void)unused;
    list_clear(&((task *)self)->links);
    Py_RETURN_NONE;
}

/* ---- killing ---- */

static void die_before_start(thread *th, task *t, PyObject *exception)
{
    if (t->exc_info)
        return;
    PyObject *type = exception, *value = NULL, *tb = NULL;
    if (!exception) {
        type = exc_exit;
    } else if (PyTuple_Check(exception) && PyTuple_GET_SIZE(exception) >= 1) {
        type = PyTuple_GET_ITEM(exception, 0);
        value = PyTuple_GET_SIZE(exception) > 1 ? PyTuple_GET_ITEM(exception, 1) : NULL;
        tb = PyTuple_GET_SIZE(exception) > 2 ? PyTuple_GET_ITEM(exception, 2) : NULL;
    }
    if (throw_args(type, value, tb) < 0) {
        PyErr_Clear();
        PyErr_SetObject(PyExc_BaseException, exception);
    }
    report_error(th, t);
    set_args(t, NULL);
    Py_CLEAR(t->kwargs);
}

/* True when it had not begun, and now never will. */
static bool kill_before_start(task *t, PyObject *exception)
{
    if (t->g.start == BEGUN)
        return false;
    Py_INCREF(t);
    cancel_start(t);
    die_before_start(t->g.th, t, exception);
    Py_DECREF(t);
    return true;
}

static PyObject *task_maybe_kill_before_start(PyObject *self, PyObject *exception)
{
    return PyBool_FromLong(kill_before_start((task *)self, exception));
}

static PyObject *task_throw(PyObject *self, PyObject *args)
{
    task *t = (task *)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (t->g.start != BEGUN) {
        kill_before_start(t, PyTuple_GET_SIZE(args) ? args : NULL);
        Py_RETURN_NONE;
    }
    if (is_dead(t))
        Py_RETURN_NONE;
    PyObject *type = exc_exit, *value = NULL, *tb = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 0, 3, &type, &value, &tb) || throw_args(type, value, tb) < 0)
        return NULL;
    return green_switch(th, &t->g, NULL, NULL);
}

static PyObject *task_kill(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"exception", "block", "timeout", NULL};
    PyObject *exception = exc_exit, *timeout = Py_None;
    int block = 1;
    if ((PyTuple_GET_SIZE(args) || keywords) &&
        !PyArg_ParseTupleAndKeywords(args, keywords, "|OpO:kill", names, &exception, &block, &timeout))
        return NULL;
    task *t = (task *)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (kill_before_start(t, exception) || is_ready(t))
        Py_RETURN_NONE;
    PyObject *type = exception, *value = NULL, *tb = NULL;
    if (PyTuple_Check(exception) && PyTuple_GET_SIZE(exception) == 3) {
        type = PyTuple_GET_ITEM(exception, 0);
        value = PyTuple_GET_ITEM(exception, 1);
        tb = PyTuple_GET_ITEM(exception, 2);
    }
    if (t->g.th != th) {
        PyObject *f = PyObject_GetAttrString(self, "throw");
        PyObject *pos = PyTuple_Pack(1, type), *both = f && pos ? PyTuple_Pack(2, f, pos) : NULL;
        PyObject *cb = both ? PyObject_CallObject((PyObject *)&callback_type, both) : NULL;
        int failed = !cb || hub_call_from_outside(t->g.th, cb) < 0;
        Py_XDECREF(f);
        Py_XDECREF(pos);
        Py_XDECREF(both);
        Py_XDECREF(cb);
        if (failed)
            return NULL;
    } else if (throw_args(type, value, tb) < 0 || green_raise_later(&t->g, NULL) < 0) {
        return NULL;
    }
    if (!block)
        Py_RETURN_NONE;
    if (!Py_IS_TYPE(self, &task_type)) /* it may have a join of its own */
        return PyObject_CallMethod(self, "join", "O", timeout);
    if (wait_for(th, t, timeout, "Greenlet.kill()") < 0)
        return NULL;
    Py_RETURN_NONE;
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
     "spawn(function, *args, **kwargs): makes and starts one."},
    {"spawn_later", WITH_KEYWORDS(task_spawn_later), METH_FASTCALL | METH_KEYWORDS | METH_CLASS,
     "spawn_later(seconds, function, *args, **kwargs): makes one that starts later."},
    {"start", task_start, METH_NOARGS, "Has it run in its turn."},
    {"start_later", task_start_later, METH_O, "Has it run so many seconds later."},
    {"run", task_run, METH_NOARGS, "What it does: calls _run and keeps the outcome."},
    {"_run_nothing", WITH_KEYWORDS(task_run_nothing), METH_VARARGS | METH_KEYWORDS, NULL},
    {"ready", task_ready, METH_NOARGS, "Whether it has ended."},
    {"successful", task_successful, METH_NOARGS, "Whether it has ended without an error; being killed is none."},
    {"join", WITH_KEYWORDS(task_join), METH_FASTCALL | METH_KEYWORDS, "join(timeout=None): waits for its end."},
    {"get", WITH_KEYWORDS(task_get), METH_VARARGS | METH_KEYWORDS,
     "get(block=True, timeout=None): its value, or raises its exception; Timeout if it has not ended."},
    {"kill", WITH_KEYWORDS(task_kill), METH_VARARGS | METH_KEYWORDS,
     "kill(exception=GreenletExit, block=True, timeout=None): raises the exception where it waits."},
    {"throw", task_throw, METH_VARARGS, "throw(type=GreenletExit, value=None, tb=None): at once. For the hub."},
    {"rawlink", task_rawlink, METH_O, "rawlink(f): the hub calls f(self) when it has ended."},
    {"unlink", task_unlink, METH_O, "Takes a link back."},
    {"unlink_all", task_unlink_all, METH_NOARGS, "Takes all links back."},
    {"has_links", task_has_links, METH_NOARGS, "How many links and waiters it has."},
    {"_raise_exception", task_raise, METH_NOARGS, NULL},
    {"_maybe_kill_before_start", task_maybe_kill_before_start, METH_O, NULL},
    {"__enter__", task_enter, METH_NOARGS, NULL},
    {NULL}};

static PyMemberDef task_members[] = {
    {"_kwargs", T_OBJECT, offsetof(task, kwargs), 0, NULL},
    {"value", T_OBJECT, offsetof(task, value), 0, "What the function returned."},
    {"_ident", T_OBJECT, offsetof(task, ident), 0, NULL},
    {"spawning_greenlet", T_OBJECT, offsetof(task, spawner), 0, "A weak reference to who made it."},
    {NULL}};

static PyGetSetDef task_getset[] = {
    {"args", task_get_args, task_set_args, "The arguments, until it has ended.", NULL},
    {"dead", task_get_dead, NULL, "Whether it will not run any more.", NULL},
    {"started", task_get_started, NULL, "Whether it was started and has not ended.", NULL},
    {"exception", task_get_exception, NULL, "The exception that it ended with, or None.", NULL},
    {"exc_info", task_get_exc_info, NULL, "(type, value, traceback) of that, or None.", NULL},
    {"_exc_info", task_get_raw_exc_info, NULL, NULL, NULL},
    {"_run", task_get_body, task_set_body, "The function; a subclass may have a method of this name instead.", NULL},
    {"spawn_tree_locals", task_get_tree, task_set_tree, "A dict that all greenlets of one tree share.", NULL},
    {"_links", task_get_links, NULL, NULL, NULL},
    {"_start_state", task_get_pending_start, NULL, NULL, NULL},
    {"_spawning_stack", task_get_stack, NULL, NULL, NULL},
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

typedef struct {
    green g;
    PyObject *spawner, *tree;
} raw;

/* A raw greenlet that the hub starts. */
static PyObject *py_spawn_raw(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    if (n < 1 || !PyCallable_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "function must be callable");
        return NULL;
    }
    thread *th = thread_get();
    green *hub = th ? thread_hub(th) : NULL;
    if (!hub)
        return NULL;
    PyTypeObject *type = &raw_type;
    green *g = (green *)green_new(type, NULL, NULL);
    if (!g)
        return NULL;
    if (unlikely(inherit_context) && take_context(g) < 0) {
        Py_DECREF(g);
        return NULL;
    }
    if (track_tree) {
        green *me = th->current;
        raw *r = (raw *)g;
        if (!(r->spawner = PyWeakref_NewRef((PyObject *)me, NULL))) {
            Py_DECREF(g);
            return NULL;
        }
        if (me->kind == TASK) {
            task *mine = (task *)me;
            if (!mine->tree && !(mine->tree = PyDict_New())) {
                Py_DECREF(g);
                return NULL;
            }
            r->tree = Py_NewRef(mine->tree);
        }
    }
    Py_XSETREF(g->parent, Py_NewRef((PyObject *)hub));
    g->run = Py_NewRef(args[0]);
    g->inbox = n == 1 ? Py_NewRef(empty) : PyTuple_New(n - 1);
    for (Py_ssize_t i = 1; n > 1 && g->inbox && i < n; i++)
        PyTuple_SET_ITEM(g->inbox, i - 1, Py_NewRef(args[i]));
    if (names) {
        g->keywords = PyDict_New();
        for (Py_ssize_t i = 0; g->keywords && i < PyTuple_GET_SIZE(names); i++)
            if (PyDict_SetItem(g->keywords, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
                Py_CLEAR(g->keywords);
    }
    if (!g->inbox || (names && !g->keywords) || green_start(th, g) < 0) {
        Py_DECREF(g);
        return NULL;
    }
    return (PyObject *)g;
}

static PyObject *raw_get_loop(PyObject *self, void *c)
{
    (void)c;
    green *g = (green *)self;
    if (!g->th || !g->th->hub)
        Py_RETURN_NONE;
    return PyObject_GetAttrString((PyObject *)g->th->hub, "loop");
}

static PyObject *raw_get_tree(PyObject *self, void *c)
{
    (void)c;
    raw *r = (raw *)self;
    if (!r->tree && !(r->tree = PyDict_New()))
        return NULL;
    return Py_NewRef(r->tree);
}

static int raw_clear(PyObject *self)
{
    Py_CLEAR(((raw *)self)->spawner);
    Py_CLEAR(((raw *)self)->tree);
    return green_clear(self);
}

static int raw_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((raw *)self)->tree);
    return green_traverse(self, visit, arg);
}

static void raw_dealloc(PyObject *self)
{
    if (green_dealloc_begin(self))
        return;
    PyObject_GC_UnTrack(self);
    if (((green *)self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    raw_clear(self);
    green_leave_thread((green *)self);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef raw_members[] = {
    {"spawning_greenlet", T_OBJECT, offsetof(raw, spawner), 0, "A weak reference to who made it."},
    {NULL}};

static PyGetSetDef raw_getset[] = {
    {"loop", raw_get_loop, NULL, "The hub's loop.", NULL},
    {"spawn_tree_locals", raw_get_tree, NULL, "A dict that all greenlets of one tree share.", NULL},
    {NULL}};

PyTypeObject raw_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "weald._core.RawGreenlet",
    .tp_base = &green_type,
    .tp_basicsize = sizeof(raw),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "What spawn_raw makes: a greenlet with a loop.",
    .tp_dealloc = raw_dealloc,
    .tp_traverse = raw_traverse,
    .tp_clear = raw_clear,
    .tp_members = raw_members,
    .tp_getset = raw_getset,
};

/* Waits for all greenlets of a list or tuple: how many have ended by the deadline. None: not all of
 * them are Greenlets, and the caller has to do it. */
static PyObject *py_joinall(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "_joinall(greenlets, timeout)");
        return NULL;
    }
    thread *th = thread_get();
    int64_t deadline;
    if (!th || deadline_from(args[1], &deadline) < 0)
        return NULL;
    PyObject *all = args[0];
    bool is_list = PyList_CheckExact(all);
    if (!is_list && !PyTuple_CheckExact(all))
        Py_RETURN_NONE;
    Py_ssize_t len = is_list ? PyList_GET_SIZE(all) : PyTuple_GET_SIZE(all);
    for (Py_ssize_t i = 0; i < len; i++)
        if (!PyObject_TypeCheck(PySequence_Fast_GET_ITEM(all, i), &task_type))
            Py_RETURN_NONE;
    for (Py_ssize_t i = 0; i < len; i++) {
        if (is_list && i >= PyList_GET_SIZE(all))
            break;
        task *t = (task *)PySequence_Fast_GET_ITEM(all, i);
        if (is_ready(t))
            continue;
        Py_INCREF(t);
        int outcome = WAIT_WOKEN;
        while (!is_ready(t) && outcome == WAIT_WOKEN)
            outcome = green_wait(th, &t->links, deadline, "joinall()", (PyObject *)t);
        Py_DECREF(t);
        if (outcome != WAIT_WOKEN) {
            outcome = deadline_end(outcome, args[1]);
            if (outcome < 0)
                return NULL;
            Py_RETURN_FALSE;
        }
    }
    deadline_end(WAIT_WOKEN, args[1]);
    Py_RETURN_TRUE;
}

static PyObject *py_set_spawn_callbacks(PyObject *self, PyObject *all)
{
    (void)self;
    Py_INCREF(all);
    Py_XSETREF(spawn_callbacks, all);
    if (all == Py_None)
        Py_CLEAR(spawn_callbacks);
    Py_RETURN_NONE;
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
    {"spawn", WITH_KEYWORDS(py_spawn), METH_FASTCALL | METH_KEYWORDS, "spawn(function, *args, **kwargs): a started Greenlet."},
    {"spawn_raw", WITH_KEYWORDS(py_spawn_raw), METH_FASTCALL | METH_KEYWORDS,
     "spawn_raw(function, *args, **kwargs): a started raw greenlet."},
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
