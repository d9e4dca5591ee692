/* The module weald._core. */

#include "core.h"

static const char doc[] =
    "The core of weald: greenlets, a thread's hub and loop, and what waits, on libweald.\n"
    "\n"
    "Python greenlets are greenlets of libweald, on its stacks and in its loop, so that C code which\n"
    "uses libweald and Python code wait for one another. The names here are what weald's modules are\n"
    "made of; use those.\n";

static struct PyModuleDef def = {
    PyModuleDef_HEAD_INIT, .m_name = "weald._core", .m_doc = doc, .m_size = -1,
};

PyMODINIT_FUNC PyInit__core(void)
{
    if (strncmp(Py_GetVersion(), PY_VERSION, 4) != 0) {
        PyErr_SetString(PyExc_ImportError, "weald._core was built for another version of Python");
        return NULL;
    }
    static bool is_set_up;
    if (!is_set_up)
        state_setup();
    is_set_up = true;
    PyObject *m = PyModule_Create(&def);
    if (!m)
        return NULL;
    int (*const parts[])(PyObject *) = {
        init_thread,  init_signals, init_links, init_green, init_hub,   init_waiter,
        init_watcher, init_loop,    init_timeout, init_task, init_sync, init_lock,
        init_queue,   init_io,      init_socket, init_local, init_websocket, init_wsgi,
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i](m) >= 0)
            continue;
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
