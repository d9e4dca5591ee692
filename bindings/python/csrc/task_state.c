/* What others see of a Greenlet: whether it has ended and how, what it runs, who has made it. */

#include "task.h"

nodelist *task_links(PyObject *self)
{
    return &((task *)self)->links;
}

PyObject *task_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(task_is_ready((task *)self));
}

PyObject *task_successful(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((task *)self)->exc_info == Py_None);
}

int task_bool(PyObject *self)
{
    task *t = (task *)self;
    return t->g.start != NOT_YET && t->exc_info == NULL && t->g.start != CANCELLED;
}

static PyObject *task_get_dead(PyObject *self, void *c)
{
    (void)c;
    return PyBool_FromLong(task_is_dead((task *)self));
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

/* One that was only to sleep, and has not, gets something else to do: it begins as any other. */
static void sleeps_no_more(task *t)
{
    if (!t->g.slept || t->g.start != PENDING)
        return;
    t->g.slept = false;
    t->g.why = NULL;
    weald_start(t->g.handle);
}

static int task_set_body(PyObject *self, PyObject *f, void *c)
{
    (void)c;
    task *t = (task *)self;
    sleeps_no_more(t);
    Py_XINCREF(f);
    Py_XSETREF(t->g.run, f);
    return 0;
}

PyObject *task_run_nothing(PyObject *self, PyObject *args, PyObject *keywords)
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

PyObject *task_has_links(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((task *)self)->links.len);
}

static PyObject *task_get_pending_start(PyObject *self, void *c)
{
    (void)c;
    return PyLong_FromLong(((task *)self)->g.start);
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

static PyObject *task_get_args(PyObject *self, void *c)
{
    task *t = (task *)self;
    (void)c;
    if (t->g.single) {
        PyObject *tuple = PyTuple_Pack(1, t->args);
        if (!tuple)
            return NULL;
        task_put_args(t, tuple);
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
    sleeps_no_more((task *)self);
    task_put_args((task *)self, Py_XNewRef(args));
    return 0;
}

PyMemberDef task_members[] = {
    {"_kwargs", T_OBJECT, offsetof(task, kwargs), 0, NULL},
    {"value", T_OBJECT, offsetof(task, value), 0, "What the function returned."},
    {"_ident", T_OBJECT, offsetof(task, ident), 0, NULL},
    {"spawning_greenlet", T_OBJECT, offsetof(task, spawner), 0, "A weak reference to who made it."},
    {NULL}};

PyGetSetDef task_getset[] = {
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
