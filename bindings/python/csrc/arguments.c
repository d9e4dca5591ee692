/* The arguments of quick calls: taken apart, or made those of a usual one. */

#include "sync.h"

PyObject *tuple_of(PyObject *const *args, Py_ssize_t n)
{
    PyObject *tuple = PyTuple_New(n);
    for (Py_ssize_t i = 0; tuple && i < n; i++)
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    return tuple;
}

int usual_arguments(PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject **tuple, PyObject **keywords)
{
    *keywords = NULL;
    if (!(*tuple = tuple_of(args, n)))
        return -1;
    if (!names)
        return 0;
    *keywords = PyDict_New();
    for (Py_ssize_t i = 0; *keywords && i < PyTuple_GET_SIZE(names); i++)
        if (PyDict_SetItem(*keywords, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
            Py_CLEAR(*keywords);
    if (!*keywords)
        Py_CLEAR(*tuple);
    return *keywords ? 0 : -1;
}

static int bad_keyword(const char *f, PyObject *name)
{
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", f, name);
    return -1;
}

int parse_block(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, const char *first, int *block,
                PyObject **timeout)
{
    PyObject *b = NULL;
    if (n > 2) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 2 arguments (%zd given)", f, n);
        return -1;
    }
    if (n > 0)
        b = args[0];
    if (n > 1)
        *timeout = args[1];
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, first) == 0)
            b = args[n + i];
        else if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0)
            *timeout = args[n + i];
        else
            return bad_keyword(f, name);
    }
    if (b && (*block = PyObject_IsTrue(b)) < 0)
        return -1;
    return 0;
}

int parse_item_block(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject **item, int *block,
                     PyObject **timeout)
{
    PyObject *b = NULL;
    if (n > 3) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 3 arguments (%zd given)", f, n);
        return -1;
    }
    if (n > 0)
        *item = args[0];
    if (n > 1)
        b = args[1];
    if (n > 2)
        *timeout = args[2];
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "item") == 0)
            *item = args[n + i];
        else if (PyUnicode_CompareWithASCIIString(name, "block") == 0)
            b = args[n + i];
        else if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0)
            *timeout = args[n + i];
        else
            return bad_keyword(f, name);
    }
    if (!*item) {
        PyErr_Format(PyExc_TypeError, "%s() needs an item", f);
        return -1;
    }
    if (b && (*block = PyObject_IsTrue(b)) < 0)
        return -1;
    return 0;
}

int parse_timeout(const char *f, PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject **timeout)
{
    if (n > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", f, n);
        return -1;
    }
    if (n == 1)
        *timeout = args[0];
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "timeout") != 0)
            return bad_keyword(f, name);
        *timeout = args[n + i];
    }
    return 0;
}
