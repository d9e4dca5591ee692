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
    if (init_thread(m) < 0 || init_signals(m) < 0 || init_links(m) < 0 || init_green(m) < 0 || init_hub(m) < 0 ||
        init_waiter(m) < 0 || init_loop(m) < 0 || init_timeout(m) < 0 || init_task(m) < 0 || init_sync(m) < 0 ||
        init_lock(m) < 0 || init_queue(m) < 0 || init_io(m) < 0 || init_socket(m) < 0 || init_local(m) < 0 ||
        init_websocket(m) < 0 || init_wsgi(m) < 0) {
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
