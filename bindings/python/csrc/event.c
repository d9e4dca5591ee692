/* Event. */

#include "sync.h"

typedef struct {
    linkable l;
    bool flag;
    Py_ssize_t waking; /* were woken and have not run yet */
} event;

bool event_ready(PyObject *self)
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
    {"set", event_set, METH_NOARGS,
     TEXT("set($self, /)", "Sets the flag: everybody who waits goes on, in the order they came.")},
    {"clear", event_clear, METH_NOARGS, TEXT("clear($self, /)", "Takes the flag back.")},
    {"is_set", linkable_ready, METH_NOARGS, TEXT("is_set($self, /)", "Whether it is set.")},
    {"isSet", linkable_ready, METH_NOARGS, TEXT("isSet($self, /)", "Whether it is set.")},
    {"wait", WITH_KEYWORDS(event_wait), METH_FASTCALL | METH_KEYWORDS,
     TEXT("wait($self, timeout=None)", "Waits until it is set; whether it was.")},
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
