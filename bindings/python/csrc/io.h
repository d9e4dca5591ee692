/* Reading and writing in one call, for what has a descriptor: the functions of io.c, and sockets. */

#ifndef WEALD_PYTHON_IO_H
#define WEALD_PYTHON_IO_H

#include "core.h"
#include <sys/socket.h>

/* A call of the library that reads or writes once. */
typedef int64_t (*transfer)(int fd, void *buffer, size_t len, int flags, int64_t deadline);

int64_t f_recv(int fd, void *buffer, size_t len, int flags, int64_t deadline);
int64_t f_send(int fd, void *buffer, size_t len, int flags, int64_t deadline);

/* Before each: green_may_wait. */
PyObject *io_take(transfer f, int fd, PyObject *size, int flags, thread *th, int64_t deadline);
PyObject *io_take_into(transfer f, int fd, PyObject *object, int flags, thread *th, int64_t deadline);
PyObject *io_give(transfer f, int fd, PyObject *object, int flags, thread *th, int64_t deadline, bool all);

#endif
