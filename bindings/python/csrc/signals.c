/* Signals of Python's, which end a sleep of main's loop.
 *
 * Python's handler of a signal, the one in C, only notes it down; those of the program run in main's greenlet. A
 * signal that arrives between the last look at that note and the kernel's sleep interrupts nothing, nor does one that
 * the kernel gives to another thread. So the handler writes to a pipe as well, which the loop reads:
 * signal.set_wakeup_fd. Whoever sets a descriptor of his own has the signals, and wakes his own loop. */

#define _GNU_SOURCE 1
#include "green.h"
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void on_signal(weald_watcher w, int events, void *user)
{
    thread *th = user;
    char bytes[64];
    (void)w, (void)events;
    while (read(th->signal_in, bytes, sizeof bytes) == (ssize_t)sizeof bytes)
        ;
    signals_rouse(th);
}

void signals_rouse(thread *th)
{
    th->interrupted = true;
    green_rouse(th->main);
}

/* What was set before; -1 when nothing, -2 when it can not be set. */
static int set_wakeup_fd(int fd)
{
    PyObject *m = PyImport_ImportModule("_signal");
    PyObject *f = m ? PyObject_GetAttrString(m, "set_wakeup_fd") : NULL;
    PyObject *args = Py_BuildValue("(i)", fd), *keywords = Py_BuildValue("{si}", "warn_on_full_buffer", 0);
    PyObject *before = f && args && keywords ? PyObject_Call(f, args, keywords) : NULL;
    int was = before ? (int)PyLong_AsLong(before) : -2;
    Py_XDECREF(m);
    Py_XDECREF(f);
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    Py_XDECREF(before);
    PyErr_Clear();
    return was;
}

void signals_close(thread *th)
{
    if (th->signals > 0)
        weald_close(th->signals);
    if (th->signal_in >= 0) {
        close(th->signal_in);
        close(th->signal_out);
    }
    th->signals = 0;
    th->signal_in = th->signal_out = -1;
}

void signals_open(thread *th, int mine)
{
    int ends[2];
    th->signal_in = th->signal_out = -1;
    if (syscall(SYS_gettid) != getpid() || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return;
    th->signal_in = ends[0];
    th->signal_out = ends[1];
    int before = set_wakeup_fd(ends[1]);
    if (before >= 0 && before != mine)
        set_wakeup_fd(before);
    else if (before != -2 && (th->signals = weald_io_watcher(ends[0], WEALD_READ, on_signal, th)) > 0 &&
             weald_watcher_start(th->signals) == 0) {
        weald_watcher_unref(th->signals);
        return;
    } else if (before != -2)
        set_wakeup_fd(-1);
    signals_close(th);
}

int signals_run(thread *th)
{
    th->interrupted = false;
    return PyErr_CheckSignals();
}

static PyObject *py_signal_fd(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    thread *th = this_thread;
    return PyLong_FromLong(th ? th->signal_out : -1);
}

static PyMethodDef functions[] = {
    {"signal_fd", py_signal_fd, METH_NOARGS, "What signal.set_wakeup_fd was given for this thread's loop, or -1."},
    {NULL}};

int init_signals(PyObject *m)
{
    return PyModule_AddFunctions(m, functions);
}
