/* The base of what can be waited for and linked to: Event, AsyncResult, Semaphore, BoundedSemaphore, RLock, queues.
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

void linkable_dealloc(PyObject *self)
{
    linkable_dealloc_begin(self);
    Py_TYPE(self)->tp_free(self);
}

nodelist *list_of(PyObject *source)
{
    return PyObject_TypeCheck(source, &linkable_type) ? &((linkable *)source)->links : task_links(source);
}

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

PyObject *linkable_ready(PyObject *self, PyObject *unused)
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

PyObject *linkable_reinit(PyObject *self, PyObject *unused)
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
    {"ready", linkable_ready, METH_NOARGS, TEXT("ready($self, /)", "Whether a wait would return at once.")},
    {"rawlink", linkable_rawlink, METH_O,
     TEXT("rawlink($self, callback, /)", "The hub calls callback(self) once it is ready.")},
    {"unlink", linkable_unlink, METH_O, TEXT("unlink($self, callback, /)", "Takes a link back.")},
    {"linkcount", linkable_linkcount, METH_NOARGS, TEXT("linkcount($self, /)", "How many wait or are linked.")},
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

int init_sync(PyObject *m)
{
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
    return init_result(m);
}
