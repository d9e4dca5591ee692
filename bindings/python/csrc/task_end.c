/* A Greenlet's end: waiting for it, its outcome, links, and killing. */

#include "task.h"

/* ---- waiting for it ---- */

/* Until it has ended, or something else ends the wait. One of another thread can end while nothing is left here. */
static int wait_until(thread *th, task *t, int64_t deadline, const char *why)
{
    int outcome = WAIT_WOKEN;
    bool outside = t->g.th != th;
    if (unlikely(outside) && th->externs++ == 0)
        weald_watcher_ref(th->wakeup);
    while (!task_is_ready(t) && outcome == WAIT_WOKEN)
        outcome = green_wait(th, &t->links, deadline, why, (PyObject *)t);
    if (unlikely(outside) && --th->externs == 0)
        weald_watcher_unref(th->wakeup);
    return outcome;
}

static int wait_for(thread *th, task *t, PyObject *timeout, const char *why)
{
    int64_t deadline;
    if (deadline_from(timeout, &deadline) < 0)
        return WAIT_FAILED;
    return deadline_end(wait_until(th, t, deadline, why), timeout);
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

PyObject *task_join(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    task *t = (task *)self;
    PyObject *timeout = NULL;
    if ((n || names) && one_argument("join", args, n, names, "timeout", &timeout) < 0)
        return NULL;
    if (task_is_ready(t))
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

PyObject *task_raise(PyObject *self, PyObject *unused)
{
    (void)unused;
    task *t = (task *)self;
    if (t->exc_info && t->exc_info != Py_None)
        return raise_exc_info(t);
    Py_RETURN_NONE;
}

PyObject *task_get(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"block", "timeout", NULL};
    task *t = (task *)self;
    int block = 1;
    PyObject *timeout = Py_None;
    if ((PyTuple_GET_SIZE(args) || keywords) &&
        !PyArg_ParseTupleAndKeywords(args, keywords, "|pO:get", names, &block, &timeout))
        return NULL;
    if (!task_is_ready(t)) {
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

PyObject *task_rawlink(PyObject *self, PyObject *callback)
{
    task *t = (task *)self;
    if (list_link(&t->links, callback) < 0)
        return NULL;
    if (task_is_ready(t))
        task_notify(t);
    Py_RETURN_NONE;
}

PyObject *task_unlink(PyObject *self, PyObject *callback)
{
    list_unlink(&((task *)self)->links, callback);
    Py_RETURN_NONE;
}

PyObject *task_unlink_all(PyObject *self, PyObject *unused)
{
    (void)unused;
    list_clear(&((task *)self)->links);
    Py_RETURN_NONE;
}

/* Waits for all greenlets of a list or tuple: how many have ended by the deadline. None: not all of
 * them are Greenlets, and the caller has to do it. */
PyObject *py_joinall(PyObject *self, PyObject *const *args, Py_ssize_t n)
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
        if (task_is_ready(t))
            continue;
        Py_INCREF(t);
        int outcome = wait_until(th, t, deadline, "joinall()");
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
    task_report_error(th, t);
    task_put_args(t, NULL);
    Py_CLEAR(t->kwargs);
}

/* True when it had not begun, and now never will. What another thread's loop is to start, only that one takes back. */
static bool kill_before_start(task *t, PyObject *exception)
{
    if (t->g.start == BEGUN || (t->g.start == PENDING && t->g.th != this_thread))
        return false;
    Py_INCREF(t);
    task_cancel_start(t);
    die_before_start(t->g.th, t, exception);
    Py_DECREF(t);
    return true;
}

PyObject *task_maybe_kill_before_start(PyObject *self, PyObject *exception)
{
    return PyBool_FromLong(kill_before_start((task *)self, exception));
}

PyObject *task_throw(PyObject *self, PyObject *args)
{
    task *t = (task *)self;
    thread *th = thread_get();
    if (!th)
        return NULL;
    if (kill_before_start(t, PyTuple_GET_SIZE(args) ? args : NULL) || task_is_dead(t))
        Py_RETURN_NONE;
    PyObject *type = exc_exit, *value = NULL, *tb = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 0, 3, &type, &value, &tb) || throw_args(type, value, tb) < 0)
        return NULL;
    return green_switch(th, &t->g, NULL, NULL);
}

/* Has the hub of its thread kill it. One that is to begin and does so before that raises the exception at once. */
static int kill_from_outside(task *t, PyObject *exception, PyObject *type, PyObject *value, PyObject *tb)
{
    bool early = t->g.start == PENDING;
    if (early) {
        PyObject *e, *v, *b;
        if (throw_args(type, value, tb) < 0)
            return -1;
        PyErr_Fetch(&e, &v, &b);
        int failed = green_pend(&t->g, NULL, e, v, b);
        Py_XDECREF(e);
        Py_XDECREF(v);
        Py_XDECREF(b);
        if (failed)
            return -1;
    }
    PyObject *f = PyObject_GetAttrString((PyObject *)t, early ? "_maybe_kill_before_start" : "throw");
    PyObject *args = early || !value ? PyTuple_Pack(1, early ? exception : type) : PyTuple_Pack(3, type, value, tb);
    PyObject *both = f && args ? PyTuple_Pack(2, f, args) : NULL;
    PyObject *cb = both ? PyObject_CallObject((PyObject *)&callback_type, both) : NULL;
    int failed = !cb || hub_call_from_outside(t->g.th, cb) < 0;
    Py_XDECREF(f);
    Py_XDECREF(args);
    Py_XDECREF(both);
    Py_XDECREF(cb);
    return failed ? -1 : 0;
}

PyObject *task_kill(PyObject *self, PyObject *args, PyObject *keywords)
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
    if (kill_before_start(t, exception) || task_is_ready(t))
        Py_RETURN_NONE;
    PyObject *type = exception, *value = NULL, *tb = NULL;
    if (PyTuple_Check(exception) && PyTuple_GET_SIZE(exception) == 3) {
        type = PyTuple_GET_ITEM(exception, 0);
        value = PyTuple_GET_ITEM(exception, 1);
        tb = PyTuple_GET_ITEM(exception, 2);
    }
    if (t->g.th != th) {
        if (kill_from_outside(t, exception, type, value, tb) < 0)
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
