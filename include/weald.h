/* weald.h: green threads, an event hub and cooperative I/O for C.
 *
 * Written by `make header` from src/ffi; a change begins there.
 *
 * Every function returns >= 0 for success and a negative WEALD_E... code for failure; a failed call
 * changes nothing and writes no output. Handles are positive integers: a NULL, stale, closed or
 * random one gives an error code, never a crash, and weald_close takes every kind. Deadlines are
 * absolute: WEALD_FOREVER, WEALD_NOW or weald_after(WEALD_MS(250)).
 *
 * A function's comment says whether it may switch to other greenlets, and lists the codes that it
 * fails with. These are not repeated:
 *
 * - The hub's codes. A thread's first call makes its hub, and may fail with WEALD_ENOMEM or
 *   WEALD_EMFILE; after weald_hub_shutdown every call fails with WEALD_ESHUTDOWN. Functions whose
 *   comment says "From any thread; does not switch" need no hub.
 * - A call that may switch returns the code that its greenlet was interrupted with, see
 *   weald_interrupt.
 * - WEALD_EPANIC: a panic in a callback written in Rust, or a defect of the library. */

#ifndef WEALD_H
#define WEALD_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>

/* Those of <netdb.h>, <sys/socket.h>, <sys/stat.h> and <sys/uio.h>, which are not included: a program may
 * well have a function that is called listen. Their socklen_t is a uint32_t. */
struct addrinfo;
struct hostent;
struct iovec;
struct msghdr;
struct sockaddr;
struct sockaddr_storage;
struct stat;

#ifdef __cplusplus
extern "C" {
#endif

/* The version that this header belongs to; weald_version() tells the library's. */
#define WEALD_VERSION "0.1.0"

/* Spans of time, in nanoseconds. The argument may be a fraction: WEALD_SEC(0.5). */
#define WEALD_US(n) ((int64_t)((n) * 1000LL))
#define WEALD_MS(n) ((int64_t)((n) * 1000000LL))
#define WEALD_SEC(n) ((int64_t)((n) * 1000000000LL))

/* The capacity of a queue without a bound. */
#define WEALD_UNBOUNDED SIZE_MAX

/* ----------------------------------------------------------------------------------------------
 * Codes, time, handles.
 *
 * The codes are negated errno values where errno has one; those of our own are below -2000. A
 * number is never reused. errno itself is not used: each greenlet has its own, saved and restored
 * over a switch.
 *
 * A handle is good in the thread that made it, and gives WEALD_EPERM in others. Any thread may use
 * the handles of hubs, thread pools, workers, and of what was made with WEALD_SHARED.
 * ---------------------------------------------------------------------------------------------- */

/* Not permitted: the handle belongs to another thread, the caller is not the owner, the call is for
 * main alone, or a binding's hook forbids to wait now. */
#define WEALD_EPERM (-1)

/* No such thing: a link, a path. */
#define WEALD_ENOENT (-2)

/* Interrupted. Given by bindings to weald_interrupt, and never by the library itself. */
#define WEALD_EINTR (-4)

/* A bad handle or descriptor: stale, closed, of another kind, or no handle at all. */
#define WEALD_EBADF (-9)

/* No such child process: it was reaped by somebody else, or is the parent's. */
#define WEALD_ECHILD (-10)

/* Not ready, and the deadline was WEALD_NOW; or no thread is to be had. */
#define WEALD_EAGAIN (-11)

/* Out of memory, mappings or handles. */
#define WEALD_ENOMEM (-12)

/* The system does not permit it: a file's mode, or what it is. */
#define WEALD_EACCES (-13)

/* A bad address was given to the kernel. */
#define WEALD_EFAULT (-14)

/* Busy: another greenlet waits for this descriptor or uses this stream, the target of a switch does
 * not wait for one, or a comparator uses its own queue. */
#define WEALD_EBUSY (-16)

/* An invalid argument: a NULL callback or output, a number out of range. */
#define WEALD_EINVAL (-22)

/* Too many open descriptors in this process. */
#define WEALD_EMFILE (-24)

/* This can not be sought in: a pipe, a socket. */
#define WEALD_ESPIPE (-29)

/* Closed: the queue takes no more, the barrier is broken, or nobody reads what is written; the
 * stream ended before all was read. */
#define WEALD_EPIPE (-32)

/* A deadlock: the caller waits for itself; or, in main, nothing is left in this thread that could
 * end its wait. */
#define WEALD_EDEADLK (-35)

/* The library was built without it: TLS, HTTP or WebSocket. */
#define WEALD_ENOSYS (-38)

/* The other side has broken off in the middle of a message. */
#define WEALD_EPROTO (-71)

/* Too much: released more often than acquired. */
#define WEALD_EOVERFLOW (-75)

/* Not a socket. */
#define WEALD_ENOTSOCK (-88)

/* A message, or a line, is longer than it may be. */
#define WEALD_EMSGSIZE (-90)

/* This socket has no such option. */
#define WEALD_ENOPROTOOPT (-92)

/* This can not be done to a descriptor of this kind. */
#define WEALD_EOPNOTSUPP (-95)

/* No such family of addresses, or not that of the socket. */
#define WEALD_EAFNOSUPPORT (-97)

/* Somebody listens at this address already. */
#define WEALD_EADDRINUSE (-98)

/* Not an address of this machine. */
#define WEALD_EADDRNOTAVAIL (-99)

/* The connection has ended, and over TLS nobody has said so: what has come may be cut short. */
#define WEALD_ECONNABORTED (-103)

/* The other end has reset the connection. */
#define WEALD_ECONNRESET (-104)

/* The socket is connected already. */
#define WEALD_EISCONN (-106)

/* The socket is not connected. */
#define WEALD_ENOTCONN (-107)

/* The thread's hub has been shut down. */
#define WEALD_ESHUTDOWN (-108)

/* The deadline, or that of a surrounding weald_timeout, has passed. */
#define WEALD_ETIMEDOUT (-110)

/* Nobody listens at this address. */
#define WEALD_ECONNREFUSED (-111)

/* Done already: a result is set once, a greenlet starts once, a dead one runs no more. */
#define WEALD_EALREADY (-114)

/* It has begun and goes on: a connection that was asked for with WEALD_NOW. */
#define WEALD_EINPROGRESS (-115)

/* The greenlet was killed, or its wait called off. */
#define WEALD_ECANCELED (-125)

/* The call would have to wait, in a loop callback, which must not: spawn a greenlet there
 * instead. */
#define WEALD_EWOULDBLOCK (-2001)

/* A panic was caught at the library's edge: in a callback written in Rust, or a defect of ours. */
#define WEALD_EPANIC (-2002)

/* The other side's certificate was not accepted; weald_error_message(weald_self()) says why. */
#define WEALD_ECERTIFICATE (-2010)

/* A deadline that never passes. */
#define WEALD_FOREVER (-1)

/* The deadline of a call that is not to wait. */
#define WEALD_NOW 0

/* A flag for the functions that make an event, result or queue: every thread may use it. */
#define WEALD_SHARED 65536
#define WEALD_KIND_GREENLET 1
#define WEALD_KIND_HUB 2
#define WEALD_KIND_WATCHER 3
#define WEALD_KIND_EVENT 4
#define WEALD_KIND_RESULT 5
#define WEALD_KIND_QUEUE 6
#define WEALD_KIND_SEMAPHORE 7
#define WEALD_KIND_LOCK 8
#define WEALD_KIND_CONDITION 9
#define WEALD_KIND_RWLOCK 10
#define WEALD_KIND_BARRIER 11
#define WEALD_KIND_GROUP 12
#define WEALD_KIND_ITERATOR 13
#define WEALD_KIND_TIMEOUT 14
#define WEALD_KIND_LOCAL 15
#define WEALD_KIND_THREADPOOL 16
#define WEALD_KIND_WORKERS 17
#define WEALD_KIND_IMAP 18
#define WEALD_KIND_STREAM 19
#define WEALD_KIND_SERVER 20
#define WEALD_KIND_PROCESS 22
#define WEALD_KIND_CHANNEL 23
#define WEALD_KIND_FOLDER 24
#define WEALD_KIND_TLS_CONFIG 25
#define WEALD_KIND_WEBSOCKET 26
#define WEALD_KIND_HTTP_REQUEST 28
#define WEALD_KIND_HTTP_CLIENT 29
#define WEALD_KIND_HTTP_RESPONSE 30
#define WEALD_KIND_HTTP_CONNECTION 31

/* A handle to any kind of object: positive, never used again when it is closed. */
typedef int64_t weald_handle;

/* The text of a code, for people: "the deadline has passed". A positive number is taken as an
 * errno. Never NULL, never freed. From any thread; does not switch. */
const char *weald_strerror(int code);

/* The short name of a code: "ETIMEDOUT"; "UNKNOWN" for a number that is none. Never NULL, never
 * freed. From any thread; does not switch. */
const char *weald_strcode(int code);

/* The library's version, "0.1.0". Never fails. From any thread; does not switch. */
const char *weald_version(void);

/* The version of this ABI. It grows when something is added; the number in the library's soname
 * changes when something is taken away. Never fails. From any thread; does not switch. */
int weald_abi_version(void);

/* Nanoseconds on the monotonic clock. Setting the wall clock does not touch it. Never fails. From
 * any thread; does not switch. */
int64_t weald_now(void);

/* The deadline `ns` nanoseconds from now. Saturates: INT64_MAX is never, a negative number is a
 * deadline that has passed. Never fails. From any thread; does not switch. */
int64_t weald_after(int64_t ns);

/* Drops one reference to the object behind `handle`. With the last one the object is closed:
 * whoever waits for it gets WEALD_EBADF, what it holds is destroyed, a watcher or timeout ends. A
 * greenlet is not killed by it: it runs on by itself, and one that was never started ends. Does not
 * switch. Returns 0. Fails with WEALD_EBADF (also for a handle that nobody has to close: main's, or
 * a detached greenlet's), WEALD_EPERM. */
int weald_close(weald_handle handle);

/* Adds a reference to the object behind `handle`, to be dropped by a weald_close of its own, and
 * returns the handle. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EOVERFLOW (four
 * thousand million of them). */
weald_handle weald_dup(weald_handle handle);

/* What `handle` stands for: WEALD_KIND_... Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_kind(weald_handle handle);

/* ----------------------------------------------------------------------------------------------
 * Greenlets.
 *
 * A greenlet is a function that runs on a stack of its own until it blocks in a function of this
 * library; then others run. All greenlets of a thread share that thread, so nothing else runs
 * between two blocking calls. The thread's own stack is a greenlet as well, called main, which can
 * not be killed.
 * ---------------------------------------------------------------------------------------------- */

/* For `weald_spawn_options.flags`: no handle is given out, 0 is returned. */
#define WEALD_SPAWN_DETACHED 1

/* For weald_joinall: return the first failure's code at once. */
#define WEALD_JOIN_RAISE 1

/* For weald_link: whatever the end. */
#define WEALD_LINK_ALWAYS 0

/* ... only when it ended with a value. */
#define WEALD_LINK_VALUE 1

/* ... only when it failed or was killed before it began. */
#define WEALD_LINK_ERROR 2
#define WEALD_STATE_NEW 0
#define WEALD_STATE_READY 1
#define WEALD_STATE_RUNNING 2
#define WEALD_STATE_PARKED 3
#define WEALD_STATE_SWITCHED 4
#define WEALD_STATE_DONE 5

/* A handle to a greenlet. */
typedef int64_t weald_greenlet;

/* What a greenlet runs; what it returns is its value. */
typedef void *(*weald_fn)(void *arg);

/* Destroys a value or an argument. */
typedef void (*weald_destroy_fn)(void *value);

/* How to make a greenlet. Set `size` to sizeof(weald_spawn_options) and what you do not need to
 * zero. */
typedef struct weald_spawn_options {
  /* sizeof(weald_spawn_options) */
  size_t size;
  /* For reports; copied. NULL: none. */
  const char *name;
  /* Bytes of stack, at least 16 KiB; only what is touched takes memory. 0: 256 KiB. */
  size_t stack_size;
  /* Starts so many nanoseconds later. 0: now. */
  int64_t delay_ns;
  /* Called once on the argument when the greenlet ends, whether or not it ran. */
  weald_destroy_fn destroy;
  /* A group or pool to join; 0: none. A pool that is full makes the call wait. */
  weald_handle group;
  /* WEALD_SPAWN_... */
  int flags;
  /* The user word of bindings; see weald_user. */
  void *user;
} weald_spawn_options;

/* Called in the loop when a greenlet or result has ended: it must not block. */
typedef void (*weald_link_fn)(weald_handle ended, void *arg);

/* Makes a greenlet that will run `f(arg)`, behind everything that is ready now. The handle is the
 * caller's to close; closing it does not end the greenlet. Does not switch. Fails with WEALD_EINVAL
 * (`f` NULL), WEALD_ENOMEM. */
weald_greenlet weald_spawn(weald_fn f, void *arg);

/* As weald_spawn, with options (NULL: none). May switch, but only to wait for room in a pool.
 * Returns a handle, or 0 for a detached one. Fails with WEALD_EINVAL (`f` NULL; an option out of
 * range; a name that is not UTF-8; a size that can not be), WEALD_ENOMEM; with a group, WEALD_EBADF
 * (also when it is closed meanwhile), WEALD_EPERM; and in a full pool WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK. */
weald_greenlet weald_spawn_with(weald_fn f, void *arg, const weald_spawn_options *options);

/* Fire and forget: as weald_spawn, but there is no handle to close. Does not switch. Returns 0.
 * Fails with WEALD_EINVAL (`f` NULL), WEALD_ENOMEM. */
int weald_go(weald_fn f, void *arg);

/* As weald_spawn_with, but not started: `delay_ns` is not looked at, and it can not be detached.
 * Closing the handle of one that was never started destroys its argument. May switch, as
 * weald_spawn_with. Fails with WEALD_EINVAL (`f` NULL; an option out of range; detached; a name
 * that is not UTF-8; a size that can not be), WEALD_ENOMEM; with a group, WEALD_EBADF (also when it
 * is closed meanwhile), WEALD_EPERM; and in a full pool WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK. */
weald_greenlet weald_greenlet_new(weald_fn f, void *arg, const weald_spawn_options *options);

/* Starts a greenlet made by weald_greenlet_new, behind everything that is ready; one that was to
 * start later as well. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM,
 * WEALD_EALREADY (started before), WEALD_EINVAL (a coroutine). */
int weald_start(weald_greenlet g);

/* Starts it `delay_ns` nanoseconds later; killing it before means that it never runs. Until then it
 * is not started, and a second call sets another delay. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (started before), WEALD_EINVAL (a coroutine; a negative
 * delay), WEALD_ENOMEM. */
int weald_start_later(weald_greenlet g, int64_t delay_ns);

/* Waits until `g` has ended, however it ended. May switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_EDEADLK (also for oneself). */
int weald_join(weald_greenlet g, int64_t deadline);

/* Waits until `count` of the `n` greenlets have ended (0: all of them), and returns how many have.
 * With WEALD_JOIN_RAISE in `flags` it returns the code of the first that failed, as soon as it has.
 * May switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`gs` NULL; `count` above `n`;
 * other flags), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_EDEADLK, and with WEALD_JOIN_RAISE a greenlet's own code. */
int64_t weald_joinall(const weald_greenlet *gs, size_t n, size_t count, int flags,
                      int64_t deadline);

/* Waits until one of the `n` greenlets has ended, and returns its index. May switch. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`gs` NULL; `n` 0), WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int64_t weald_join_any(const weald_greenlet *gs, size_t n, int64_t deadline);

/* Makes an iterator over the `n` greenlets, in the order in which they end; close it. Does not
 * switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`gs` NULL), WEALD_ENOMEM. */
weald_handle weald_iwait(const weald_greenlet *gs, size_t n);

/* Waits for the next greenlet to end: 1 and its handle, borrowed, in `*g`; or 0 when all have been
 * returned. May switch. Fails with WEALD_EBADF (also when the iterator is closed meanwhile),
 * WEALD_EPERM, WEALD_EINVAL (`g` NULL), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_iwait_next(weald_handle it, weald_greenlet *g, int64_t deadline);

/* Waits for the end of `g` and gets its value into `*value` (NULL: not wanted). If it failed,
 * returns the failure's code; weald_error tells that from a failure of the wait. May switch.
 * Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK (also for oneself), or the code that `g` failed
 * with. */
int weald_get(weald_greenlet g, void **value, int64_t deadline);

/* Marks the current greenlet as failed, with a negative code (another counts as WEALD_EINVAL) and a
 * message, which is copied (NULL, or not UTF-8: none), and returns NULL, so that a body ends with
 * `return weald_fail(WEALD_EPIPE, "peer gone");`. It does not end the greenlet by itself; whatever
 * its function returns is not its value any more. In a job of a thread pool it marks the job; in
 * main and in callbacks it does nothing. Never fails. Does not switch. */
void *weald_fail(int code, const char *message);

/* The message that `g` failed with; while it has not, what went wrong with the last call of it that
 * TLS or WebSocket failed; "" if there is none, for a bad handle, and for another thread's. Never
 * NULL; good until the handle is closed, weald_fail called again, or another such call fails. Does
 * not switch. */
const char *weald_error_message(weald_greenlet g);

/* Kills `g`: its current and every later blocking call returns WEALD_ECANCELED, until it ends. One
 * that has not begun never will; its argument is destroyed. `reason` is kept (0: WEALD_ECANCELED).
 * With WEALD_NOW it is only marked; with any other deadline the call waits for its end, unless `g`
 * is the caller. May switch. Returns 0, also when it had ended before. Fails with WEALD_EBADF,
 * WEALD_EPERM (main; another thread's; a hook forbids to wait), WEALD_EINVAL (a positive reason),
 * WEALD_EWOULDBLOCK (in a callback that would wait); and, when it has been marked, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EDEADLK, WEALD_ENOMEM. */
int weald_kill(weald_greenlet g, int reason, int64_t deadline);

/* Kills all `n` greenlets, then waits for their ends as weald_kill does. May switch. Returns 0.
 * Fails, and kills none, with WEALD_EBADF, WEALD_EPERM (main; another thread's; a hook forbids to
 * wait), WEALD_EINVAL (`gs` NULL; a positive reason), WEALD_EWOULDBLOCK (in a callback that would
 * wait); and, when all have been marked, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EDEADLK,
 * WEALD_ENOMEM. */
int weald_killall(const weald_greenlet *gs, size_t n, int reason, int64_t deadline);

/* Makes the current (or, if it is not blocked, the next) blocking call of `g` return `code`, once.
 * For bindings, which raise an exception of theirs there. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`code` not negative), WEALD_EALREADY (it has ended). */
int weald_interrupt(weald_greenlet g, int code);

/* The reason that `g` was killed with, a negative number; 0 if it was not. Does not switch. Fails
 * with WEALD_EBADF, WEALD_EPERM. */
int weald_kill_reason(weald_greenlet g);

/* Holds back killing from the current greenlet (1), so that cleanup code may block; 0 takes one
 * level back, and a kill that came meanwhile works from then on. Does not switch. Returns 0. Fails
 * with WEALD_EINVAL (more taken back than given), WEALD_EWOULDBLOCK (in a callback: no
 * greenlet). */
int weald_shield(int on);

/* Whether the current greenlet has been killed and is not shielded. Does not switch. Returns 0 if
 * not. Fails with WEALD_ECANCELED if so. */
int weald_cancelled(void);

/* Has `f(g, arg)` run in the loop when `g` ends; in the next turn if it has ended. `when`:
 * WEALD_LINK_... Does not switch. Returns the link's number, above 0, for weald_unlink. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` NULL; no such `when`). */
int64_t weald_link(weald_greenlet g, weald_link_fn f, void *arg, int when);

/* Takes a link back, also of one that has ended: its callback will not run. Does not switch.
 * Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ENOENT (no such link, or it has run). */
int weald_unlink(weald_greenlet g, int64_t link);

/* What `g` does: WEALD_STATE_... Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_state(weald_greenlet g);

/* 1 when `g` has been started (and perhaps ended), else 0, also when it was killed before it began.
 * Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_started(weald_greenlet g);

/* 1 when `g` has ended, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_ready(weald_greenlet g);

/* 1 when `g` has ended with a value, else 0. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int weald_successful(weald_greenlet g);

/* Gets the value of a greenlet that has ended well, without waiting. Does not switch. Returns 0.
 * Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`value` NULL), WEALD_EAGAIN (not ended), or
 * the code that `g` failed with. */
int weald_value(weald_greenlet g, void **value);

/* The code that `g` failed with, 0 if it has not (yet); WEALD_ECANCELED when it was killed before
 * it began. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_error(weald_greenlet g);

/* The greenlet that runs: borrowed, do not close it. 0 in a loop callback. Does not switch. Fails
 * with the hub's codes alone. */
weald_greenlet weald_self(void);

/* The greenlet that spawned `g`, borrowed; 0 if it is gone, and for main. Of a coroutine: who it
 * returns to. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
weald_greenlet weald_parent(weald_greenlet g);

/* A small number for people, not used twice in one hub; main is 0. Does not switch. Fails with
 * WEALD_EBADF, WEALD_EPERM. */
int64_t weald_id(weald_greenlet g);

/* Names `g` for reports; copied, NULL takes the name away. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (not UTF-8). */
int weald_set_name(weald_greenlet g, const char *name);

/* Writes the name of `g` to `buf` as snprintf would, cut to `len` bytes with a NUL, and returns its
 * whole length, 0 if it has none. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM,
 * WEALD_EINVAL (`buf` NULL and `len` not 0). */
int weald_name(weald_greenlet g, char *buf, size_t len);

/* Where `g` was spawned: the return address of the call, for dladdr or addr2line. NULL for main,
 * for a bad handle, and for another thread's. Does not switch. */
void *weald_spawn_site(weald_greenlet g);

/* Sleeps for `ns` nanoseconds; 0 or less is one weald_yield, INT64_MAX sleeps until it is killed or
 * interrupted. May switch. Returns 0. Fails with WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding
 * weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (INT64_MAX), WEALD_ENOMEM. */
int weald_sleep(int64_t ns);

/* Sleeps until `deadline`; one that has passed and WEALD_NOW are one weald_yield, WEALD_FOREVER
 * sleeps until it is killed or interrupted. May switch. Returns 0. Fails with WEALD_EPERM,
 * WEALD_ETIMEDOUT (of a surrounding weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (WEALD_FOREVER), WEALD_ENOMEM. */
int weald_sleep_until(int64_t deadline);

/* Lets everything run that is ready now, then goes on. May switch. Returns 0. Fails with
 * WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout), WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK. */
int weald_yield(void);

/* Goes on when nothing else is ready; among those who wait so, a higher priority first. May switch.
 * Returns 0. Fails with WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout),
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
int weald_idle(int priority);

/* ----------------------------------------------------------------------------------------------
 * Coroutines: raw switching.
 *
 * A coroutine runs when somebody switches to it, and only then: what `greenlet` is to gevent. No
 * loop is needed; but a coroutine may also block in any function of the library, then the loop runs
 * others. Greenlets and main can be switched to as well, while they wait in a switch themselves.
 * ---------------------------------------------------------------------------------------------- */

/* What a coroutine runs: gets the first value switched to it; what it returns goes to its
 * parent. */
typedef void *(*weald_coro_fn)(void *first, void *arg);

/* Makes a coroutine that will run `f(first value, arg)` when it is first switched to, and returns
 * to `parent` (0: the current greenlet) when it ends; a parent that can not be switched to then is
 * replaced by main. Close the handle. Options as for weald_greenlet_new (NULL: none). May switch,
 * as weald_spawn_with. Fails with WEALD_EINVAL (`f` NULL; an option out of range; detached; a name
 * that is not UTF-8; a size that can not be), WEALD_EBADF (the parent, or a group), WEALD_EPERM
 * (another thread's), WEALD_ENOMEM; and in a full pool WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK. */
weald_greenlet weald_coro_new(weald_coro_fn f, void *arg, weald_greenlet parent,
                              const weald_spawn_options *options);

/* Switches to `to`, handing it `value`: its own switch returns it there, or its function gets it.
 * Returns when somebody switches back: 0 and what was handed to us in `*received` (NULL: not
 * wanted), or the code that was thrown. Switching to oneself returns at once. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has ended), WEALD_EINVAL (a greenlet that has not
 * begun: start it), WEALD_EBUSY (it waits for something else, or is ready to run), WEALD_ETIMEDOUT
 * (of a surrounding weald_timeout, before it switches), WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK, WEALD_ENOMEM (no stack for one that has not begun; it may be tried again). May
 * switch. */
int weald_switch(weald_greenlet to, void *value, void **received);

/* Switches to `into`, whose switch returns `code`. One that has not begun never will: it ends with
 * `code`, which goes on to its parent. May switch. Returns as weald_switch does; thrown to oneself,
 * `code`. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has ended), WEALD_EINVAL (`code`
 * not negative; a greenlet that has not begun: kill it), WEALD_EBUSY (it waits for something else,
 * or is ready to run), WEALD_ETIMEDOUT (of a surrounding weald_timeout, before it switches),
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK. */
int weald_throw(weald_greenlet into, int code, void **received);

/* Waits until somebody switches to this greenlet or wakes it, and gets what it is handed then
 * (NULL: not wanted). What weald_switch is without somebody to switch to. May switch. Returns 0, or
 * the code that was thrown. Fails with WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK, WEALD_ENOMEM. */
int weald_park(void **received, int64_t deadline);

/* Has `to` go on with `value`, as weald_switch would, but in its turn, while the caller goes on: in
 * a loop callback, where there is nobody to switch from, or to wake several at once. Does not
 * switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has ended),
 * WEALD_EINVAL (a greenlet that has not begun: start it), WEALD_EBUSY (it runs, waits for something
 * else, or is ready to run), WEALD_ENOMEM (no stack for one that has not begun). */
int weald_wake(weald_greenlet to, void *value);

/* Makes `parent` the one that the coroutine `c` returns to when it ends, instead of the one it was
 * made with. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`c` is
 * no coroutine; it would return to itself in the end). */
int weald_coro_set_parent(weald_greenlet c, weald_greenlet parent);

/* Ends a greenlet or coroutine that waits in weald_switch or weald_park without running it ever
 * again: its stack is given back as it is. For bindings whose runtime has no use for it any more;
 * everybody else kills. Its locals are destroyed, its argument is not; whoever waits for it is
 * told, and the code is WEALD_ECANCELED. One that has not begun is ended as by a kill. Does not
 * switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM (also for main), WEALD_EALREADY (it has
 * ended), WEALD_EBUSY (it runs, is ready to run, or waits for something else). */
int weald_abandon(weald_greenlet g);

/* The greenlet or coroutine that runs; the same as weald_self. Borrowed. 0 in a loop callback. Does
 * not switch. Fails with the hub's codes alone. */
weald_greenlet weald_current(void);

/* The thread's own greenlet. Borrowed. Does not switch. Fails with the hub's codes alone. */
weald_greenlet weald_main(void);

/* 1 when the coroutine or greenlet has ended, else 0. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int weald_dead(weald_greenlet g);

/* ----------------------------------------------------------------------------------------------
 * The hub: the loop that runs a thread's greenlets.
 *
 * There is one per thread, made by the first call that needs it. When main (the thread's own stack)
 * blocks, the loop runs right there; so a program may never call anything here. What keeps
 * weald_run going: greenlets that can go on, started watchers that are not unref'd, waits for
 * descriptors and time, jobs in threads.
 * ---------------------------------------------------------------------------------------------- */

/* For weald_run_once: do not wait. */
#define WEALD_RUN_NOWAIT 0

/* ... wait until there is something to do. */
#define WEALD_RUN_ONCE 1

/* Called in the loop: it must not block. */
typedef void (*weald_callback)(void *arg);

/* Told of a failure, once: the greenlet (0: the loop itself), the code, the message ("" if none).
 * It must not block. */
typedef void (*weald_error_fn)(weald_greenlet g, int code, const char *message, void *user);

/* Given a report of several lines: a deadlock, or what a shutdown abandoned. It must not block. */
typedef void (*weald_report_fn)(const char *text, void *user);

/* Makes a handle to this thread's hub, for weald_post from any thread; close it. While one is open,
 * a wait of main that nothing in this thread can end is not taken for a deadlock. Does not switch.
 * Fails with WEALD_ENOMEM. */
weald_handle weald_hub(void);

/* Has `f(arg)` run in the loop of `hub`, waking it if it sleeps. In order of posting; what has not
 * run when the hub is shut down never does. From any thread; does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EINVAL (`f` NULL), WEALD_ESHUTDOWN (the hub has ended: `f` will not run). */
int weald_post(weald_handle hub, weald_callback f, void *arg);

/* Runs the loop until nothing is left to do, weald_stop, or the deadline. From main only. May
 * switch. Returns 0. Fails with WEALD_ETIMEDOUT (also at WEALD_NOW), WEALD_EDEADLK (greenlets are
 * left that nothing can wake: see the report), WEALD_EWOULDBLOCK (in a callback), WEALD_EPERM (in a
 * greenlet). */
int weald_run(int64_t deadline);

/* Runs one turn of the loop: everything that is ready, once. Returns 1 if there is more to do now
 * or later, 0 if nothing is left. From main only. May switch. Fails with WEALD_EINVAL (no such
 * mode), WEALD_EWOULDBLOCK (in a callback), WEALD_EPERM (in a greenlet). */
int weald_run_once(int mode);

/* Makes weald_run return 0 after this turn (or at once when it is next called). From greenlets and
 * callbacks. Does not switch. Returns 0. Fails with the hub's codes alone. */
int weald_stop(void);

/* A descriptor for a foreign loop to watch: readable when weald_hub_step has an event or a post to
 * deal with. It does not tell of greenlets that are ready, nor of timers: for those ask
 * weald_hub_next_deadline after each step. It belongs to the hub: do not close it. A forked child
 * asks again. Does not switch. Fails with the hub's codes alone. */
int weald_hub_fd(void);

/* When weald_hub_step must be called next even if weald_hub_fd is not readable: WEALD_NOW, a
 * deadline, or WEALD_FOREVER. Does not switch. Fails with the hub's codes alone, all of which are
 * below WEALD_FOREVER. */
int64_t weald_hub_next_deadline(void);

/* One turn that does not wait, for a foreign loop: the same as weald_run_once(WEALD_RUN_NOWAIT).
 * From main only. May switch. Fails with WEALD_EWOULDBLOCK (in a callback), WEALD_EPERM (in a
 * greenlet). */
int weald_hub_step(void);

/* Sets who is told of greenlets that fail; NULL: a line on stderr. Once per failure; a killed
 * greenlet is none. Does not switch. Returns 0. Fails with the hub's codes alone. */
int weald_set_error_handler(weald_error_fn f, void *user);

/* Sets who gets reports (deadlock, shutdown); NULL: stderr. Does not switch. Returns 0. Fails with
 * the hub's codes alone. */
int weald_set_report_handler(weald_report_fn f, void *user);

/* Ends this thread's hub: kills every greenlet, lets them clean up without waiting, abandons those
 * that do not end (their stacks are given back, never unwound; a report names them), and closes
 * every handle, which destroys what is behind them. A thread that ends does the same to its hub,
 * but all its greenlets are abandoned, without a report; only destructors run. From main only. May
 * switch. Returns how many were abandoned. Fails with WEALD_EWOULDBLOCK (in a callback),
 * WEALD_EPERM (in a greenlet), WEALD_ESHUTDOWN (done before). */
int64_t weald_hub_shutdown(void);

/* ----------------------------------------------------------------------------------------------
 * Waiting for descriptors.
 *
 * Level-triggered in meaning: a wait returns at once while there is something to read or room to
 * write, so a partial read followed by another wait does not hang. The descriptor stays the
 * caller's and need not be non-blocking. At most one greenlet may wait for a direction of a
 * descriptor (WEALD_EBUSY); weald_poll and io watchers may look at it as well. Regular files and
 * devices that never block are always ready.
 * ---------------------------------------------------------------------------------------------- */

#define WEALD_READ 1
#define WEALD_WRITE 2

/* Reported only: the other end has hung up. */
#define WEALD_HUP 4

/* Reported only: an error is pending on the descriptor. */
#define WEALD_ERROR 8

/* Waits until `fd` is readable (data, end of file, an error, a connection to accept). May switch.
 * Returns 0. Fails with WEALD_EBADF (no open descriptor, or closed while we waited), WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED (killed, or weald_cancel_wait),
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
 * WEALD_ENOMEM. */
int weald_wait_read(int fd, int64_t deadline);

/* Waits until `fd` is writable (room, an error, a connection made or refused). May switch. Returns
 * 0. Fails with WEALD_EBADF (no open descriptor, or closed while we waited), WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED (killed, or weald_cancel_wait),
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
 * WEALD_ENOMEM. */
int weald_wait_write(int fd, int64_t deadline);

/* Waits for any of `events` (WEALD_READ, WEALD_WRITE) on `fd`, and returns what came, perhaps with
 * WEALD_HUP and WEALD_ERROR. May switch. Fails with WEALD_EINVAL (other bits, or none), WEALD_EBADF
 * (no open descriptor, or closed while we waited), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED (killed, or weald_cancel_wait), WEALD_EWOULDBLOCK, WEALD_EDEADLK
 * (in a child that a callback has forked meanwhile), WEALD_ENOMEM. */
int weald_wait_fd(int fd, int events, int64_t deadline);

/* Ends all waits of this thread's greenlets for `fd` with WEALD_ECANCELED; call it before closing a
 * descriptor that somebody may wait for. Does not switch. Returns how many there were. Fails with
 * the hub's codes alone. */
int weald_cancel_wait(int fd);

/* poll(2) that parks this greenlet alone: fills in `revents` and returns how many are not 0; 0 when
 * the deadline passed. May switch. Fails with WEALD_EINVAL (`fds` NULL; more of them than the
 * process may open), WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout),
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK, WEALD_ENOMEM. */
int weald_poll(struct pollfd *fds, size_t n, int64_t deadline);

/* select(2) that parks this greenlet alone; each set may be NULL. Returns how many bits are set; 0,
 * and the sets empty, when the deadline passed. May switch. Fails with WEALD_EINVAL (`nfds` out of
 * range), WEALD_EBADF (a closed descriptor in a set), WEALD_EPERM, WEALD_ETIMEDOUT (of a
 * surrounding weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK, WEALD_ENOMEM. */
int weald_select(int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, int64_t deadline);

/* ----------------------------------------------------------------------------------------------
 * Watchers: callbacks on the loop.
 *
 * A watcher is made stopped; while it is started its callback runs in the loop whenever what it
 * watches happens. A callback must not block: a call that would fails with WEALD_EWOULDBLOCK. It
 * may do everything else: stop, start and close watchers, its own included, spawn greenlets, set
 * events. When several are due in one turn, those of higher priority come first, equal ones in the
 * order they became due.
 *
 * A started watcher keeps weald_run going, and a wait of main from being taken for a deadlock,
 * unless it is unref'd. Closing stops it. In a forked child every watcher is stopped; it may be
 * started there. weald_wait takes watchers as well: one is ready when its callback has run since
 * its start.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to a watcher. */
typedef int64_t weald_watcher;

/* Called in the loop. `what`: io: the events that came (WEALD_READ, WEALD_WRITE, WEALD_HUP,
 * WEALD_ERROR); signal: its number; child: the wait status, or WEALD_ECHILD; stat: 1; others: 0. */
typedef void (*weald_watcher_fn)(weald_watcher w, int what, void *user);

/* Watches a descriptor for `events`: WEALD_READ, WEALD_WRITE or both. The callback runs in every
 * turn while one of them is there, so it reads or writes, or stops. Several watchers may watch one
 * descriptor, and greenlets wait for it as well. A regular file is always ready. When the
 * descriptor is closed behind its back, the callback gets WEALD_ERROR alone, once, and the watcher
 * is stopped: stop it before closing. The descriptor stays the caller's. Close the watcher. Does
 * not switch. Fails with WEALD_EBADF (a negative descriptor), WEALD_EINVAL (other events, or none;
 * `f` NULL), WEALD_ENOMEM. */
weald_watcher weald_io_watcher(int fd, int events, weald_watcher_fn f, void *user);

/* Fires `after_ns` nanoseconds after its start (0 or less: in the next turn), then every
 * `repeat_ns`; with 0 it fires once and is stopped before its callback runs. It does not drift: the
 * n-th firing is due at start + after + n * repeat, however long callbacks take, and one that is
 * late stands for all that were missed. Timers that are due at the same moment fire in the order
 * they were started. INT64_MAX: never. Close it. Does not switch. Fails with WEALD_EINVAL (a
 * negative repeat; `f` NULL), WEALD_ENOMEM. */
weald_watcher weald_timer_watcher(int64_t after_ns, int64_t repeat_ns, weald_watcher_fn f,
                                  void *user);

/* Watches for a signal, wherever in the process it arrives. While it is started the signal does not
 * do what it does by default, nor call a handler that was there before (SIGCHLD's is called as
 * well); the last to lose interest in the signal restores that. Two that come before the loop looks
 * are one callback. Close it. Does not switch. Fails with WEALD_EINVAL (no such signal; one that
 * can not be caught, or that a fault raises: SIGSEGV, SIGBUS, SIGFPE, SIGILL; `f` NULL),
 * WEALD_ENOMEM. */
weald_watcher weald_signal_watcher(int signo, weald_watcher_fn f, void *user);

/* Watches for the end of a child process, reaps it, and is stopped. The callback gets its wait
 * status (see waitpid(2)), or WEALD_ECHILD when `pid` is no child of this process or somebody else
 * has reaped it. Several watchers of one thread may watch the same child; each gets the status.
 * Close it. Does not switch. Fails with WEALD_EINVAL (`pid` 0 or less; `f` NULL), WEALD_ENOMEM. */
weald_watcher weald_child_watcher(int pid, weald_watcher_fn f, void *user);

/* Fires when weald_async_send is called for it, from any thread. Close it. Does not switch. Fails
 * with WEALD_EINVAL (`f` NULL), WEALD_ENOMEM. */
weald_watcher weald_async_watcher(weald_watcher_fn f, void *user);

/* Fires in each turn in which nothing else is to be done, and keeps the loop from sleeping: stop it
 * when the work is done. Close it. Does not switch. Fails with WEALD_EINVAL (`f` NULL),
 * WEALD_ENOMEM. */
weald_watcher weald_idle_watcher(weald_watcher_fn f, void *user);

/* Fires just before the loop looks for events or sleeps. Close it. Does not switch. Fails with
 * WEALD_EINVAL (`f` NULL), WEALD_ENOMEM. */
weald_watcher weald_prepare_watcher(weald_watcher_fn f, void *user);

/* Fires just after the loop has looked for events, and behind their callbacks (before them with a
 * higher priority). Close it. Does not switch. Fails with WEALD_EINVAL (`f` NULL), WEALD_ENOMEM. */
weald_watcher weald_check_watcher(weald_watcher_fn f, void *user);

/* Looks at `path` (copied) every `interval_ns` nanoseconds (0: 5 seconds) and fires when what
 * stat(2) says has changed, but for the time of last access; coming into being and vanishing are
 * changes. It looks with a blocking stat(2), so the path should be on a file system that answers.
 * Close it. Does not switch. Fails with WEALD_EINVAL (`path` NULL or empty; a negative interval;
 * `f` NULL), WEALD_ENOMEM. */
weald_watcher weald_stat_watcher(const char *path, int64_t interval_ns, weald_watcher_fn f,
                                 void *user);

/* Begins to watch; does nothing if it does already. Does not switch. Returns 0. Fails with
 * WEALD_EBADF (the handle, or an io watcher's descriptor is not open), WEALD_EPERM, WEALD_ENOMEM,
 * WEALD_EMFILE (signals and children take a descriptor). */
int weald_watcher_start(weald_watcher w);

/* Ceases to watch; a callback that is pending does not run. Does nothing if it is stopped. Does not
 * switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_watcher_stop(weald_watcher w);

/* 1 from its start until it is stopped, or stops by itself (a timer that does not repeat, a child
 * that has ended), else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_watcher_active(weald_watcher w);

/* 1 when something has happened and the callback has still to run, else 0. Does not switch. Fails
 * with WEALD_EBADF, WEALD_EPERM. */
int weald_watcher_pending(weald_watcher w);

/* Has a repeating timer, started or not, fire one interval from now and so on: call it at each sign
 * of life and the timer fires after a silence. A callback that is pending does not run. Does not
 * switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (no timer, or one that does
 * not repeat), WEALD_ENOMEM. */
int weald_watcher_again(weald_watcher w);

/* Undoes weald_watcher_unref. They do not count: one undoes any number. Does not switch. Returns 0.
 * Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_watcher_ref(weald_watcher w);

/* From now on it does not keep the loop running. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM. */
int weald_watcher_unref(weald_watcher w);

/* Sets the priority, -2 to 2 (0 at first), for the next time something happens. Does not switch.
 * Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (out of range). */
int weald_watcher_set_priority(weald_watcher w, int priority);

/* Sets what the callback gets as `user`. Does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int weald_watcher_set_user(weald_watcher w, void *user);

/* What the callback gets as `user`; NULL for a bad handle, and for another thread's. Does not
 * switch. */
void *weald_watcher_user(weald_watcher w);

/* Has the callback of an async watcher run, waking its loop if it sleeps. Several calls before it
 * runs are one; what the caller wrote before the call, the callback sees. Not from a signal
 * handler. From any thread; does not switch. Returns 0, also for a watcher that is not started:
 * nothing happens. Fails with WEALD_EBADF (in another thread than the watcher's, a closed handle
 * may go unnoticed), WEALD_EINVAL (another kind of watcher; noticed in its own thread). */
int weald_async_send(weald_watcher w);

/* ----------------------------------------------------------------------------------------------
 * Events.
 *
 * A flag that greenlets wait for. Made with WEALD_SHARED it may be used from every thread, and
 * waiting for it is never taken for a deadlock.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to an event. */
typedef int64_t weald_event;

/* Makes an event, not set. `flags`: 0 or WEALD_SHARED. Close it. Does not switch. Fails with
 * WEALD_EINVAL (other flags), WEALD_ENOMEM. */
weald_event weald_event_new(int flags);

/* Sets the event: everybody who waits goes on, in the order they came. Does not switch. Returns 0.
 * Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_event_set(weald_event e);

/* Takes the flag back. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_event_clear(weald_event e);

/* 1 when it is set, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_event_is_set(weald_event e);

/* Waits until the event is set. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
 * closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_event_wait(weald_event e, int64_t deadline);

/* ----------------------------------------------------------------------------------------------
 * Results.
 *
 * A value or a failure that is set once and waited for by many: a promise. Made with WEALD_SHARED
 * it may be used from every thread, and waiting for it is never taken for a deadlock.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to a result. */
typedef int64_t weald_result;

/* Makes a result, not set. `flags`: 0 or WEALD_SHARED. `destroy` (NULL: none) gets the value when
 * the result is closed. Close it. Does not switch. Fails with WEALD_EINVAL (other flags),
 * WEALD_ENOMEM. */
weald_result weald_result_new(int flags, weald_destroy_fn destroy);

/* Sets the value, which belongs to the result from then on, and wakes who waits. Does not switch.
 * Returns 0. Fails with WEALD_EALREADY (set before: the value stays the caller's), WEALD_EBADF,
 * WEALD_EPERM. */
int weald_result_set(weald_result r, void *value);

/* Sets a failure: a negative code and a message (NULL: none), which is copied. Does not switch.
 * Returns 0. Fails with WEALD_EALREADY (set before), WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`code`
 * not negative; message not UTF-8). */
int weald_result_fail(weald_result r, int code, const char *message);

/* Waits until it is set, and gets the value into `*value` (NULL: not wanted); it stays the
 * result's. If a failure was set, returns its code. May switch. Returns 0. Fails with WEALD_EBADF
 * (also when it is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK, or the failure's code. */
int weald_result_get(weald_result r, void **value, int64_t deadline);

/* Waits until it is set, whatever to. May switch. Returns 0. Fails with WEALD_EBADF (also when it
 * is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_result_wait(weald_result r, int64_t deadline);

/* 1 when it is set, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_result_ready(weald_result r);

/* The message of the failure; "" if there is none, for a bad handle, and for another thread's.
 * Never NULL; good until the result is closed. Does not switch. */
const char *weald_result_message(weald_result r);

/* Has `f(r, arg)` run in this thread's loop when the result is set; in the next turn if it is. Does
 * not switch. Returns the link's number, above 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL
 * (`f` NULL). */
int64_t weald_result_link(weald_result r, weald_link_fn f, void *arg);

/* Takes back a link of this thread, also of a result that is set: its callback will not run. Does
 * not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ENOENT (no such link, or it has
 * run). */
int weald_result_unlink(weald_result r, int64_t link);

/* ----------------------------------------------------------------------------------------------
 * Queues.
 *
 * Queues of pointers: first in first out, last in first out, by priority; bounded, unbounded, or
 * with capacity 0 a rendezvous, where each put waits for its get. An item belongs to the queue from
 * put to get. A put that fails leaves it with the caller; a getter that is killed after an item was
 * handed to it gives it back to the front. Made with WEALD_SHARED a queue may be used from every
 * thread, and waiting for it is never taken for a deadlock.
 * ---------------------------------------------------------------------------------------------- */

#define WEALD_FIFO 0
#define WEALD_LIFO 1

/* A handle to a queue. */
typedef int64_t weald_queue;

/* Orders two items as qsort does: negative when `a` comes first. It must not use the library: calls
 * that block are WEALD_EWOULDBLOCK there, and every use of its own queue but weald_close
 * WEALD_EBUSY. */
typedef int (*weald_compare_fn)(const void *a, const void *b);

/* Makes a queue. `flags`: WEALD_FIFO or WEALD_LIFO, perhaps with WEALD_SHARED. `capacity`: 0 for a
 * rendezvous, WEALD_UNBOUNDED. `destroy` (NULL: none) gets what is still in the queue when it is
 * closed. Close it. Does not switch. Fails with WEALD_EINVAL (other flags), WEALD_ENOMEM. */
weald_queue weald_queue_new(int flags, size_t capacity, weald_destroy_fn destroy);

/* Makes a queue from which the least item by `compare` leaves first, equal ones in the order they
 * came. Who waits to put, in a rendezvous always, is served in the order they came: what has not
 * been put is not compared. `flags`: 0 or WEALD_SHARED. Otherwise as weald_queue_new. Does not
 * switch. Fails with WEALD_EINVAL (other flags; `compare` NULL), WEALD_ENOMEM. */
weald_queue weald_priority_queue_new(int flags, size_t capacity, weald_compare_fn compare,
                                     weald_destroy_fn destroy);

/* Puts an item, waiting for room (or, in a rendezvous, for its getter). May switch. Returns 0.
 * Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (called by
 * its own comparator), WEALD_EPIPE (shut, perhaps meanwhile), WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_queue_put(weald_queue q, void *item, int64_t deadline);

/* Gets the next item into `*item`, waiting for one. May switch. Returns 0. Fails with WEALD_EBADF
 * (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (called by its own comparator),
 * WEALD_EINVAL (`item` NULL), WEALD_EPIPE (shut and drained), WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_queue_get(weald_queue q, void **item, int64_t deadline);

/* Shows the next item in `*item` and leaves it in the queue, waiting for one. A shared queue is
 * looked at without waiting, whatever the deadline: WEALD_EAGAIN if it is empty. May switch.
 * Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY
 * (called by its own comparator), WEALD_EINVAL (`item` NULL), WEALD_EPIPE (shut and drained),
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_EDEADLK. */
int weald_queue_peek(weald_queue q, void **item, int64_t deadline);

/* How many items are in it. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY
 * (called by its own comparator). */
int64_t weald_queue_len(weald_queue q);

/* 1 when there is no room in it (in a rendezvous always), else 0. Does not switch. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY (called by its own comparator). */
int weald_queue_full(weald_queue q);

/* 1 when there is nothing to get, from the queue or from who waits to put, else 0. Does not switch.
 * Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY (called by its own comparator). */
int weald_queue_empty(weald_queue q);

/* Shuts the queue for puts: they fail with WEALD_EPIPE, those that wait as well; gets drain it and
 * then fail with WEALD_EPIPE. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM,
 * WEALD_EBUSY (called by its own comparator). */
int weald_queue_shut(weald_queue q);

/* Says that one item that was got has been dealt with, for weald_queue_join. Does not switch.
 * Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY (called by its own comparator),
 * WEALD_EOVERFLOW (more often than put). */
int weald_queue_task_done(weald_queue q);

/* Waits until every item that was put has been dealt with. May switch. Returns 0. Fails with
 * WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (called by its own
 * comparator), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_EDEADLK. */
int weald_queue_join(weald_queue q, int64_t deadline);

/* ----------------------------------------------------------------------------------------------
 * Semaphores, locks, conditions, barriers.
 *
 * Waiters are served in the order they came; a permit or lock is handed to the next one in the same
 * step. One that is killed after it was handed something hands it on.
 * ---------------------------------------------------------------------------------------------- */

typedef int64_t weald_semaphore;

typedef int64_t weald_lock;

typedef int64_t weald_condition;

typedef int64_t weald_rwlock;

typedef int64_t weald_barrier;

/* Makes a semaphore with so many permits. Close it. Does not switch. Fails with WEALD_EINVAL (a
 * negative number), WEALD_ENOMEM. */
weald_semaphore weald_semaphore_new(int64_t permits);

/* Makes a semaphore that never has more permits than it began with. Close it. Does not switch.
 * Fails with WEALD_EINVAL (a negative number), WEALD_ENOMEM. */
weald_semaphore weald_bounded_semaphore_new(int64_t permits);

/* Takes a permit, waiting for one. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
 * closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_semaphore_acquire(weald_semaphore s, int64_t deadline);

/* Gives a permit back, or one more. Does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_EPERM, WEALD_EOVERFLOW (a bounded one is full; there are INT64_MAX). */
int weald_semaphore_release(weald_semaphore s);

/* How many permits are free. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int64_t weald_semaphore_count(weald_semaphore s);

/* Makes a lock, owned by the greenlet that holds it. Close it. Does not switch. Fails with
 * WEALD_ENOMEM. */
weald_lock weald_lock_new(void);

/* Makes a lock that its owner may take again; it must release it as often. Close it. Does not
 * switch. Fails with WEALD_ENOMEM. */
weald_lock weald_rlock_new(void);

/* Takes the lock, waiting for it. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
 * closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK
 * (also when it is free: a callback can not own it), WEALD_EDEADLK (also when the caller holds it
 * and it is not reentrant), WEALD_ENOMEM. */
int weald_lock_acquire(weald_lock l, int64_t deadline);

/* Releases the lock and hands it to the next. Does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_EPERM (another thread's; the caller does not hold it). */
int weald_lock_release(weald_lock l);

/* 1 when somebody holds it, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_lock_held(weald_lock l);

/* Makes a condition. Close it. Does not switch. Fails with WEALD_ENOMEM. */
weald_condition weald_condition_new(void);

/* Releases the lock, waits to be notified, takes the lock again: it is held when this returns,
 * however the wait ended, unless it was closed or nothing is left that could release it. May
 * switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM
 * (another thread's; the caller does not hold the lock; a hook forbids to wait), WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_condition_wait(weald_condition c, weald_lock l, int64_t deadline);

/* Notifies the first `n` who wait. Does not switch. Returns how many there were. Fails with
 * WEALD_EBADF, WEALD_EPERM. */
int weald_condition_notify(weald_condition c, size_t n);

/* Notifies everybody who waits. Does not switch. Returns how many there were. Fails with
 * WEALD_EBADF, WEALD_EPERM. */
int weald_condition_notify_all(weald_condition c);

/* Makes a lock for many readers or one writer. Readers and writers are served in the order they
 * came, so neither starves; but who reads already reads again at once. Close it. Does not switch.
 * Fails with WEALD_ENOMEM. */
weald_rwlock weald_rwlock_new(void);

/* Takes it for reading. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
 * meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK (also
 * when it is free: a callback can not own it), WEALD_EDEADLK (also when the caller is its writer),
 * WEALD_ENOMEM. */
int weald_rwlock_read(weald_rwlock l, int64_t deadline);

/* Takes it for writing. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
 * meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK (also
 * when it is free: a callback can not own it), WEALD_EDEADLK (also when the caller holds it),
 * WEALD_ENOMEM. */
int weald_rwlock_write(weald_rwlock l, int64_t deadline);

/* Releases what the caller holds of it. Does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_EPERM (another thread's; the caller holds nothing of it). */
int weald_rwlock_release(weald_rwlock l);

/* Makes a barrier where `parties` greenlets meet, again and again. Close it. Does not switch. Fails
 * with WEALD_EINVAL (0), WEALD_ENOMEM. */
weald_barrier weald_barrier_new(size_t parties);

/* Waits until all parties are here: 1 for the last to arrive, 0 for the others. One that leaves
 * early (deadline, kill) breaks the barrier; one that does not wait (WEALD_NOW) does not. May
 * switch. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EPIPE
 * (broken or reset), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_barrier_wait(weald_barrier b, int64_t deadline);

/* Breaks the barrier: who waits or comes gets WEALD_EPIPE, until weald_barrier_reset. Does not
 * switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_barrier_abort(weald_barrier b);

/* Makes the barrier as new; who waits now gets WEALD_EPIPE. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM. */
int weald_barrier_reset(weald_barrier b);

/* ----------------------------------------------------------------------------------------------
 * Waiting for several things.
 * ---------------------------------------------------------------------------------------------- */

/* One thing to wait for: an object, or with `object` 0 a descriptor. */
typedef struct weald_wait_item {
  /* A greenlet (has ended), event or result (is set), queue (has an item, or is shut), semaphore
   * (has a permit), lock (is free), watcher (its callback has run since its start); or 0. */
  weald_handle object;
  /* With `object` 0: the descriptor, */
  int fd;
  /* and what to wait for on it: WEALD_READ, WEALD_WRITE. */
  int events;
  /* Filled in: 1 when it is ready, else 0. */
  int ready;
} weald_wait_item;

/* Waits until `how_many` of the `n` items are ready (0: all of them), says in their `ready` which
 * are, and returns how many. Nothing is taken: get or acquire with WEALD_NOW, which succeeds
 * because nothing runs in between. (Another thread may be faster at a shared object.) May switch.
 * Fails with WEALD_EINVAL (`items` NULL; `how_many` above `n`; no such events), WEALD_EBADF (a
 * handle of another kind, or closed meanwhile; no open descriptor), WEALD_EPERM, WEALD_EBUSY
 * (called by the comparator of one of them), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int64_t weald_wait(weald_wait_item *items, size_t n, size_t how_many, int64_t deadline);

/* ----------------------------------------------------------------------------------------------
 * Groups and pools.
 *
 * A group holds greenlets that are joined and killed together; a member leaves when it ends. A pool
 * is a group of a certain size: spawning waits while it is full.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to a group or a pool. */
typedef int64_t weald_group;

/* Works on one item: puts a result in `*out` and returns 0 or more, or returns a negative code.
 * Runs in a greenlet. */
typedef int (*weald_map_fn)(void *item, void **out, void *user);

/* Gives the next item: 1 and `*item`, 0 at the end, or a negative code, which ends it as well. Runs
 * in a greenlet and may block. */
typedef int (*weald_next_fn)(void **item, void *source);

/* Makes a group. Close it; its members live on. Does not switch. Fails with WEALD_ENOMEM. */
weald_group weald_group_new(void);

/* Makes a pool of `size`: a group of at most so many. Close it. Does not switch. Fails with
 * WEALD_EINVAL (0), WEALD_ENOMEM. */
weald_group weald_pool_new(size_t size);

/* Adds a greenlet; one that has ended is not added, which is no error. A full pool makes it wait.
 * May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_EDEADLK. */
int weald_group_add(weald_group grp, weald_greenlet g, int64_t deadline);

/* Lets a greenlet leave the group; it runs on. One that is no member is no error. Does not switch.
 * Returns 0. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_group_discard(weald_group grp, weald_greenlet g);

/* Spawns a member that runs `f(arg)`; a full pool makes it wait. Close the handle. May switch.
 * Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EINVAL (`f` NULL),
 * WEALD_ETIMEDOUT (of a surrounding weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK, WEALD_ENOMEM. */
weald_greenlet weald_group_spawn(weald_group grp, weald_fn f, void *arg);

/* As weald_group_spawn, but it does not wait for room. Close the handle. Does not switch. Fails
 * with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` NULL), WEALD_EAGAIN (the pool is full),
 * WEALD_ENOMEM. */
weald_greenlet weald_pool_try_spawn(weald_group pool, weald_fn f, void *arg);

/* Waits until no member is left. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
 * closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK (also when the caller is a member). */
int weald_group_join(weald_group grp, int64_t deadline);

/* Kills every member but the caller, and waits for their ends unless at WEALD_NOW. May switch.
 * Returns 0. Fails, and kills none, with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (a positive
 * reason), WEALD_EWOULDBLOCK (in a callback that would wait); and, when all have been marked,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EDEADLK, WEALD_ENOMEM. */
int weald_group_kill(weald_group grp, int reason, int64_t deadline);

/* How many members there are. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int64_t weald_group_len(weald_group grp);

/* 1 when `g` is a member, else 0. Does not switch. Fails with WEALD_EBADF (either handle),
 * WEALD_EPERM. */
int weald_group_contains(weald_group grp, weald_greenlet g);

/* How many more members fit; INT64_MAX in a group. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int64_t weald_pool_free_count(weald_group pool);

/* Waits until a spawn would not wait. May switch. Returns 0. Fails with WEALD_EBADF (also when it
 * is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK. */
int weald_pool_wait_available(weald_group pool, int64_t deadline);

/* Works on `n` items in greenlets of the group and waits for all. `outs` gets the results in the
 * order of the items (NULL for those that failed), `codes` (NULL: not wanted) 0 or each one's
 * failure; one that fails does not stop the others. When the wait itself fails nothing is written,
 * and greenlets may go on. May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL
 * (`f`, `items` or `outs` NULL), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM, WEALD_EDEADLK, or the first failure's code in the order of items. */
int weald_group_map(weald_group grp, weald_map_fn f, void *user, void *const *items, size_t n,
                    void **outs, int *codes, int64_t deadline);

/* Works on the items that `next(&item, source)` gives, in greenlets of the group, and returns an
 * iterator over the results in the order of the items. At most `maxsize` items are under way or
 * unread (0: no bound). `source` must stay until the iterator has ended or is closed and the loop
 * has run. Close it. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` or
 * `next` NULL), WEALD_ENOMEM. */
weald_handle weald_group_imap(weald_group grp, weald_map_fn f, void *user, weald_next_fn next,
                              void *source, size_t maxsize);

/* As weald_group_imap, but the results come in the order in which they are done. Close it. Does not
 * switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` or `next` NULL), WEALD_ENOMEM. */
weald_handle weald_group_imap_unordered(weald_group grp, weald_map_fn f, void *user,
                                        weald_next_fn next, void *source, size_t maxsize);

/* Waits for the next result: 1 and `*out`; 0 at the end; or a negative code: that item's failure,
 * in `*item_code` (NULL: not wanted) as well, so that it can be told from a failure of the wait:
 * that leaves it as it is, so set it to 0 before each call. Go on calling after an item's failure.
 * May switch. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EINVAL
 * (`out` NULL), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_EDEADLK, or the item's failure. */
int weald_imap_next(weald_handle it, void **out, int *item_code, int64_t deadline);

/* Works on one item in a greenlet of the group and waits for its result in `*out` (NULL: not
 * wanted). May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` NULL),
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK,
 * or the item's failure. */
int weald_group_apply(weald_group grp, weald_map_fn f, void *user, void *item, void **out,
                      int64_t deadline);

/* Works on one item in a greenlet of the group, and returns a result that will be set. Never waits
 * for room itself. Close it. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL
 * (`f` NULL), WEALD_ENOMEM. */
weald_result weald_group_apply_async(weald_group grp, weald_map_fn f, void *user, void *item);

/* ----------------------------------------------------------------------------------------------
 * Timeouts.
 *
 * A timeout bounds everything its greenlet does until it is cancelled or closed: from its deadline
 * on every blocking call returns WEALD_ETIMEDOUT. Timeouts nest, and each knows whether it was the
 * one. They work on the greenlet that started them.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to a timeout. */
typedef int64_t weald_timeout;

/* Starts a timeout of `ns` nanoseconds for the current greenlet; negative: it has passed already,
 * INT64_MAX: never. Close it. Does not switch. Fails with WEALD_ENOMEM, WEALD_EWOULDBLOCK (in a
 * callback: no greenlet). */
weald_timeout weald_timeout_start(int64_t ns);

/* 1 when a blocking call has failed because of this timeout, else 0. Does not switch. Fails with
 * WEALD_EBADF, WEALD_EPERM. */
int weald_timeout_fired(weald_timeout t);

/* Ends the timeout; weald_timeout_fired still tells. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM. */
int weald_timeout_cancel(weald_timeout t);

/* Starts it again with `ns` from now, whatever became of it. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM (another thread's; not the greenlet that started it). */
int weald_timeout_restart(weald_timeout t, int64_t ns);

/* ----------------------------------------------------------------------------------------------
 * Greenlet-local values.
 * ---------------------------------------------------------------------------------------------- */

/* A key under which every greenlet has a value of its own. */
typedef int64_t weald_local;

/* Makes a key. `destroy` (NULL: none) gets each value that is not NULL when its greenlet ends, when
 * it is replaced, or when the key is closed. At the end it runs in the greenlet, and may set values
 * again: they are destroyed as well, up to four times, as with pthreads. Close it. Does not switch.
 * Fails with WEALD_ENOMEM. */
weald_local weald_local_new(weald_destroy_fn destroy);

/* Sets the current greenlet's value; the one it had is destroyed. Does not switch. Returns 0. Fails
 * with WEALD_EBADF, WEALD_EPERM, WEALD_EWOULDBLOCK (in a callback: no greenlet). */
int weald_local_set(weald_local key, void *value);

/* The current greenlet's value; NULL when it has none, for a bad key, for another thread's, and in
 * a callback. Does not switch. */
void *weald_local_get(weald_local key);

/* ----------------------------------------------------------------------------------------------
 * Threads.
 *
 * Two ways to use more than one thread. A thread pool runs functions that block while the greenlets
 * of this thread go on; its jobs run outside any greenlet. Workers are threads with a hub each, to
 * which greenlets are sent. Both kinds of object may be used from any thread, take no signals in
 * their threads, and are empty in a forked child, which starts threads of its own when it needs
 * them.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to a thread pool. */
typedef int64_t weald_threadpool;

/* A handle to a set of workers. */
typedef int64_t weald_workers;

/* Makes a pool of at most `max_threads` threads; 0: as many as the machine has cores, and four.
 * They start when they are needed and end when they have been idle for ten seconds. When no more
 * threads are to be had it works with those it has. Close it: then the jobs it has been given are
 * done, its threads end, and nobody waits for that; weald_threadpool_shutdown does. From any
 * thread; does not switch. Fails with WEALD_ENOMEM. */
weald_threadpool weald_threadpool_new(size_t max_threads);

/* Runs `f(arg)` in a thread of `pool` (0: a pool of the library's, for everybody) while the current
 * greenlet waits; what it returned is in `*value` (NULL: not wanted). In the job every function of
 * the library may be called, for the hub of that thread; `return weald_fail(code, message)` makes
 * this call return that code.
 *
 * At the deadline, when the greenlet is killed, or when the wait is interrupted, the call returns
 * at once. A job that has not begun by then never will. One that runs goes on, and what it returns
 * is forgotten: `arg` must stay good until it has ended, and must not lie on the stack of a
 * greenlet that may be killed (or raise a weald_shield). A job must not wait for another one of the
 * same pool: all threads may come to wait so.
 *
 * May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EINVAL (`f` NULL), WEALD_EPIPE (the pool has
 * been shut down), WEALD_EPANIC (a panic in a job written in Rust; the error handler is told),
 * WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no thread to be had: the job will not run),
 * WEALD_ETIMEDOUT, WEALD_ECANCELED (also when the pool was shut down before the job began),
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * or the code that the job failed with. */
int weald_offload(weald_threadpool pool, weald_fn f, void *arg, void **value, int64_t deadline);

/* Has `f(arg)` run in a thread of `pool` (0: as above) and does not wait: returns a shared result,
 * which gets what `f` returned, or its failure. `destroy` (NULL: none) gets the value when the
 * result is closed. Close the result, at any time: the job runs all the same. `arg` must stay good
 * until it has. From any thread; does not switch. Fails with WEALD_EBADF, WEALD_EINVAL (`f` NULL),
 * WEALD_EAGAIN (there is no thread to be had), WEALD_EPIPE (shut down), WEALD_ENOMEM. */
weald_result weald_threadpool_submit(weald_threadpool pool, weald_fn f, void *arg,
                                     weald_destroy_fn destroy);

/* Takes back a job that weald_threadpool_submit has given to `pool` (0: as above) and that has not
 * begun: it will not run, and its result fails with WEALD_ECANCELED. Takes longer the more jobs
 * wait. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EALREADY (it
 * runs or has run, or was never this pool's). */
int weald_threadpool_cancel(weald_threadpool pool, weald_result result);

/* How many threads `pool` (0: as above) has now. From any thread; does not switch. Fails with
 * WEALD_EBADF. */
int64_t weald_threadpool_size(weald_threadpool pool);

/* Sets how long a thread of `pool` waits for the next job before it ends; WEALD_FOREVER: it does
 * not. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF (also for 0: the
 * library's own stays as it is), WEALD_EINVAL (another negative time). */
int weald_threadpool_set_idle(weald_threadpool pool, int64_t ns);

/* Shuts `pool` down: it takes no more jobs; those that have not begun never will, and whoever waits
 * for one gets WEALD_ECANCELED; then waits for those that run, and for the end of the threads.
 * Called again it goes on waiting. Close the pool afterwards. From any thread; may switch. Returns
 * 0. Fails with WEALD_EBADF (also when it is closed meanwhile, and for 0: the library's own goes
 * on), WEALD_EDEADLK (in a job of this pool; in a child that a callback has forked meanwhile),
 * WEALD_EPERM, WEALD_EWOULDBLOCK; and, while jobs still run, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_ENOMEM. */
int weald_threadpool_shutdown(weald_threadpool pool, int64_t deadline);

/* Starts `n` threads with a hub each; 0: as many as the machine has cores. They run the greenlets
 * that are sent to them, and sleep without any, until they are joined or closed. All of them start
 * or none; the call waits until they have. Close it: without a join before, the workers end when
 * their greenlets have, and nobody waits for that. From any thread; does not switch. Fails with
 * WEALD_EINVAL (1024 or more), WEALD_EAGAIN (no thread to be had), WEALD_ENOMEM (also for more hubs
 * than there may be), WEALD_EMFILE. */
weald_workers weald_workers_start(size_t n);

/* Starts a greenlet that runs `f(arg)` in worker number `index`; SIZE_MAX: in the one after the
 * last that was given one. What is sent to one worker starts in the order in which it was sent.
 * There is no handle to it: shared results, events and queues tell what becomes of it; a failure is
 * told to the worker's error handler, and so is one to make it. Nothing holds the sender back: a
 * bounded queue does. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_EINVAL (`f` NULL; no such worker), WEALD_EPIPE (they have been joined, or this is a forked
 * child). */
int weald_workers_spawn(weald_workers w, size_t index, weald_fn f, void *arg);

/* Has every worker end when its greenlets have (and what else keeps a weald_run going), and waits
 * until all of them and their threads have ended. No greenlets can be sent to them any more, even
 * if the wait fails. Called again it goes on waiting. A worker whose greenlets can not go on
 * reports a deadlock and ends. From any thread; may switch. Returns 0. Fails with WEALD_EBADF (also
 * when it is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in one of these workers; in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM. */
int weald_workers_join(weald_workers w, int64_t deadline);

/* How many of the workers have not ended: all until they are joined, 0 in a forked child. From any
 * thread; does not switch. Fails with WEALD_EBADF. */
int64_t weald_workers_count(weald_workers w);

/* ----------------------------------------------------------------------------------------------
 * Signals, waited for.
 *
 * Each interested thread gets a signal: all its watchers (see weald_signal_watcher), and the first
 * of its greenlets that waits. What was there before is restored when nobody is interested any
 * more, at the latest when the last hub ends; a forked child begins with it.
 * ---------------------------------------------------------------------------------------------- */

/* Waits until one of `n` signals comes, and returns its number. From the first call on these
 * signals are caught for this thread, whatever the call returns, until weald_signal_release or the
 * end of the hub: one that comes while nobody waits is given to the next who does; two of the same
 * number are then one. Call it once with WEALD_NOW to begin catching. May switch. Fails with
 * WEALD_EINVAL (`signos` NULL; `n` 0; a number that is no signal, can not be caught, or that a
 * fault raises: SIGSEGV, SIGBUS, SIGFPE, SIGILL), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED (killed, or weald_signal_release), WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child
 * that a callback has forked meanwhile), WEALD_EMFILE, WEALD_ENOMEM. */
int weald_signal_wait(const int *signos, size_t n, int64_t deadline);

/* Ends what weald_signal_wait has begun in this thread for these signals: they do again what they
 * did before, if nobody else is interested; one that has come and was not waited for is forgotten;
 * greenlets that wait for one of them get WEALD_ECANCELED. Does not switch. Returns 0. Fails with
 * WEALD_EINVAL (as weald_signal_wait). */
int weald_signal_release(const int *signos, size_t n);

/* For an orderly end: has `f(arg)` run once in the loop when the first of SIGINT, SIGTERM and
 * SIGQUIT comes. Let it set an event, kill a group or call weald_stop; it must not block. From then
 * on the three do again what they did before, so a second one ends a program that takes too long. A
 * loop that has not looked for a second since the first one does not stop the next from ending the
 * program either. It does not keep the loop running. Does not switch. Returns 0. Fails with
 * WEALD_EINVAL (`f` NULL), WEALD_EALREADY (this thread has one that has not run), WEALD_EMFILE,
 * WEALD_ENOMEM. */
int weald_on_terminate(weald_callback f, void *arg);

/* ----------------------------------------------------------------------------------------------
 * Reading and writing.
 *
 * Descriptors of every kind: sockets, pipes, terminals, eventfds and the like, and files. Each call
 * tries first and lets other greenlets run while there is nothing to read or no room to write. The
 * descriptor stays the caller's, its flags stay as they are, and it may be blocking. No call raises
 * SIGPIPE, and none returns WEALD_EINTR by itself. What is no memory for the kernel to use is
 * WEALD_EFAULT.
 *
 * One greenlet at a time may wait to read a descriptor, and one to write it (WEALD_EBUSY). A
 * greenlet that is killed, interrupted or out of time has lost nothing: what was read or written is
 * reported, and a call that fails has read nothing. Files are the exception for writing: a thread
 * does what the kernel can not do at once, and goes on with it when its greenlet does not wait any
 * more.
 *
 * Besides the codes that stand with a function it fails with those of its system call, such as
 * WEALD_ECONNRESET or -EIO.
 * ---------------------------------------------------------------------------------------------- */

/* Reads what is there, up to `len` bytes, and waits while that is nothing. Returns how many; 0 at
 * the end: of a file, or when the other end has closed. Of a datagram what has no room in `buffer`
 * is lost. Of a file that is not in memory a megabyte at most is read at a time. A fifo that nobody
 * has opened to write yet is waited for. May switch. Fails with WEALD_EBADF (no open descriptor, or
 * weald_close_fd meanwhile), WEALD_EINVAL (`buffer` NULL), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_read(int fd, void *buffer, size_t len, int64_t deadline);

/* Writes what there is room for, up to `len` bytes, and waits while that is none. Returns how many.
 * May switch. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
 * WEALD_EINVAL (`data` NULL), WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
 * a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_write(int fd, const void *data, size_t len, int64_t deadline);

/* As weald_read, into `n` buffers, one after the other. May switch. Fails with WEALD_EBADF (no open
 * descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`iov` or a buffer NULL; more than 1024),
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * WEALD_ECONNRESET. */
int64_t weald_readv(int fd, const struct iovec *iov, size_t n, int64_t deadline);

/* As weald_write, from `n` buffers, one after the other. May switch. Fails with WEALD_EBADF (no
 * open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`iov` or a buffer NULL; more than
 * 1024), WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_writev(int fd, const struct iovec *iov, size_t n, int64_t deadline);

/* Reads `len` bytes, all of them. `*done` (NULL: not wanted) says how many were read, also when the
 * call fails. May switch. Returns 0. Fails with WEALD_EPIPE (the end came first), WEALD_EBADF (no
 * open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`buffer` NULL), WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
 * a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_read_exact(int fd, void *buffer, size_t len, size_t *done, int64_t deadline);

/* Writes `len` bytes, all of them. `*done` (NULL: not wanted) says how many were written, also when
 * the call fails. May switch. Returns 0. Fails with WEALD_EPIPE (nobody reads it any more),
 * WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`data` NULL),
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * WEALD_ECONNRESET. */
int weald_write_all(int fd, const void *data, size_t len, size_t *done, int64_t deadline);

/* Reads up to `len` bytes of a file from `offset` on; its own position stays. Returns how many; 0
 * at the end. What is in memory is read at once, the rest by a thread, a megabyte at most at a
 * time. Any number of greenlets may read and write one file so. May switch. Fails with WEALD_EBADF
 * (no open descriptor), WEALD_EINVAL (`buffer` NULL; `offset` negative), WEALD_ESPIPE (no file),
 * WEALD_EPERM, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
int64_t weald_pread(int fd, void *buffer, size_t len, int64_t offset, int64_t deadline);

/* Writes up to `len` bytes to a file at `offset`; its own position stays. Returns how many. What
 * the kernel can not do at once a thread does, a megabyte at most at a time: when the call is cut
 * short by its deadline or a kill the thread goes on, and whether the bytes are written is not
 * known. May switch. Fails with WEALD_EBADF (no open descriptor), WEALD_EINVAL (`data` NULL;
 * `offset` negative), WEALD_ESPIPE (no file), WEALD_EPERM, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
int64_t weald_pwrite(int fd, const void *data, size_t len, int64_t offset, int64_t deadline);

/* Sends up to `len` bytes of a file to `out_fd`, all of them if it is so long. `*offset` says where
 * they begin and goes on with each that is sent; NULL: they begin at the file's own position, which
 * goes on. So a call that fails has told what was sent before. Returns how many; 0 at the file's
 * end. What is not in memory a thread reads first. `file_fd` may be a pipe, as for weald_splice.
 * May switch. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
 * WEALD_EINVAL (`*offset` negative; `file_fd` is neither file nor pipe), WEALD_ESPIPE (an offset
 * for what is no file), WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
 * a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_sendfile(int out_fd, int file_fd, int64_t *offset, size_t len, int64_t deadline);

/* Moves up to `len` bytes from one descriptor to the other without copying them; one of the two is
 * a pipe. The offsets are for files, and as for weald_sendfile. Returns how many; 0 at the end. May
 * switch. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL
 * (an offset negative; neither is a pipe), WEALD_ESPIPE (an offset for what is no file),
 * WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM. */
int64_t weald_splice(int in_fd, int64_t *in_offset, int out_fd, int64_t *out_offset, size_t len,
                     int64_t deadline);

/* Makes a pipe: what is written to `ends[1]` is read from `ends[0]`. Both are non-blocking and
 * closed on exec. From any thread; does not switch. Returns 0. Fails with WEALD_EINVAL (`ends`
 * NULL), WEALD_EMFILE. */
int weald_pipe(int *ends);

/* Closes a descriptor, of whatever kind: whoever of this thread's greenlets waits for it fails with
 * WEALD_EBADF, once, and its watchers stop. After a close(2) of one's own they learn of it up to a
 * second later, and who then waits for a new descriptor of the same number may be told a
 * millisecond too late, the first few times a tenth of a second. From any thread; does not switch.
 * Returns how many waits and watchers there were. Fails with WEALD_EBADF. */
int weald_close_fd(int fd);

/* ----------------------------------------------------------------------------------------------
 * Sockets.
 *
 * The calls of <sys/socket.h>, in which one greenlet waits instead of the thread. Sockets made here
 * are non-blocking and closed on exec; others may be blocking. What is said of reading and writing
 * goes for them as well. Close them with weald_close_fd.
 *
 * Addresses go in and out as `struct sockaddr`. As text they are "127.0.0.1:80", "[::1]:80",
 * "[fe80::1%eth0]:80" (or with the interface's number), "unix:/path", "unix:@name" (which is in no
 * file system): weald_address_parse, weald_address_text.
 * ---------------------------------------------------------------------------------------------- */

/* Send small pieces at once (TCP). */
#define WEALD_OPTION_NODELAY 1

/* Hold back what does not fill a packet (TCP). */
#define WEALD_OPTION_CORK 2

/* Acknowledge at once (TCP). */
#define WEALD_OPTION_QUICKACK 3

/* A listener tells of a connection when data has come, or so many seconds later (TCP). */
#define WEALD_OPTION_DEFER_ACCEPT 4

/* How many milliseconds data may stay unacknowledged (TCP). */
#define WEALD_OPTION_USER_TIMEOUT 5

/* Ask now and then whether the other end is still there, */
#define WEALD_OPTION_KEEPALIVE 6

/* after so many seconds of silence (TCP), */
#define WEALD_OPTION_KEEPIDLE 7

/* every so many seconds (TCP), */
#define WEALD_OPTION_KEEPINTVL 8

/* and give up after so many times (TCP). */
#define WEALD_OPTION_KEEPCNT 9

/* Bind to an address although old connections linger there. */
#define WEALD_OPTION_REUSEADDR 10

/* Share the address with others that share it as well. */
#define WEALD_OPTION_REUSEPORT 11

/* Send to broadcast addresses (UDP). */
#define WEALD_OPTION_BROADCAST 12

/* An IPv6 socket is none for IPv4. */
#define WEALD_OPTION_V6ONLY 13

/* The size of the send buffer; the kernel doubles what it is given. */
#define WEALD_OPTION_SNDBUF 14

/* The size of the receive buffer; the kernel doubles what it is given. */
#define WEALD_OPTION_RCVBUF 15

/* How many seconds close(2) waits until all is sent, 0: it resets the connection; -1: off. */
#define WEALD_OPTION_LINGER 16

/* Messages come with the sender's process and user (Unix). */
#define WEALD_OPTION_PASSCRED 17

/* To be read only: the error that is pending, as a code; reading it clears it. */
#define WEALD_OPTION_ERROR 18

/* To be read only: SOCK_STREAM and so on. */
#define WEALD_OPTION_TYPE 19

/* To be read only: 1 for a listener. */
#define WEALD_OPTION_ACCEPTCONN 20

/* Makes a socket, as socket(2). Close it with weald_close_fd. From any thread; does not switch.
 * Fails with WEALD_EINVAL (no such type), WEALD_EAFNOSUPPORT, WEALD_EMFILE. */
int weald_socket(int domain, int type_, int protocol);

/* Makes two sockets that are connected to each other, as socketpair(2). From any thread; does not
 * switch. Returns 0. Fails with WEALD_EINVAL (`ends` NULL; no such type), WEALD_EOPNOTSUPP (not for
 * this domain), WEALD_EAFNOSUPPORT, WEALD_EMFILE. */
int weald_socketpair(int domain, int type_, int protocol, int *ends);

/* Gives the socket an address. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_ENOTSOCK, WEALD_EINVAL (`address` NULL, too short or too long; it has one already),
 * WEALD_EADDRINUSE, WEALD_EADDRNOTAVAIL, or another of bind(2). */
int weald_bind(int fd, const struct sockaddr *address, uint32_t len);

/* Makes the socket one that accepts connections; `backlog` of them wait at most. From any thread;
 * does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EOPNOTSUPP (datagrams),
 * WEALD_EINVAL (connected; a Unix socket without an address), WEALD_EADDRINUSE, or another of
 * listen(2). */
int weald_listen(int fd, int backlog);

/* Connects the socket, and waits until it is. What has begun goes on when the call fails by its
 * deadline, a kill or an interruption: close the socket then. With WEALD_NOW it begins
 * (WEALD_EINPROGRESS), and weald_wait_write and WEALD_OPTION_ERROR tell what came of it. May
 * switch. Returns 0. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
 * WEALD_ENOTSOCK, WEALD_EINVAL (`address` NULL, too short or too long), WEALD_EAFNOSUPPORT,
 * WEALD_ECONNREFUSED, WEALD_EISCONN, WEALD_EINPROGRESS, WEALD_EALREADY (somebody else connects it),
 * WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, and a Unix listener without room), WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM, or another of connect(2). */
int weald_connect(int fd, const struct sockaddr *address, uint32_t len, int64_t deadline);

/* Accepts the next connection, waiting for one, and returns its descriptor. `*address` (NULL: not
 * wanted) gets who it is from: `*len` says how much room there is, and then how long it is.
 * Connections that have broken meanwhile are passed over. With too many open descriptors it fails
 * and the connection goes on waiting: sleep before the next try. May switch. Fails with WEALD_EBADF
 * (no open descriptor, or weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_EINVAL (it does not
 * listen; `len` NULL although `address` is not), WEALD_EOPNOTSUPP (datagrams), WEALD_EMFILE,
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM. */
int weald_accept(int fd, struct sockaddr *address, uint32_t *len, int64_t deadline);

/* As recv(2): weald_read with `flags`. MSG_PEEK, MSG_OOB and MSG_TRUNC are good here; MSG_WAITALL
 * is not: see weald_read_exact. May switch. Fails with WEALD_EBADF (no open descriptor, or
 * weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_ENOTCONN, WEALD_EINVAL (`buffer` NULL),
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * WEALD_ECONNRESET. */
int64_t weald_recv(int fd, void *buffer, size_t len, int flags, int64_t deadline);

/* As send(2): weald_write with `flags`, such as MSG_MORE and MSG_OOB. May switch. Fails with
 * WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_EINVAL
 * (`data` NULL), WEALD_EPIPE (nobody reads it any more), WEALD_EMSGSIZE (longer than a datagram may
 * be), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * WEALD_ECONNRESET. */
int64_t weald_send(int fd, const void *data, size_t len, int flags, int64_t deadline);

/* As weald_recv, and says who it is from: `from` (NULL: not wanted) and `from_len` as in
 * weald_accept. May switch. Returns how many bytes came: of a datagram, what had room. Fails with
 * WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_ENOTCONN,
 * WEALD_EINVAL (`buffer` NULL; `from_len` NULL although `from` is not), WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
 * a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNREFUSED (an earlier datagram was
 * refused). */
int64_t weald_recvfrom(int fd, void *buffer, size_t len, int flags, struct sockaddr *from,
                       uint32_t *from_len, int64_t deadline);

/* As weald_send, to an address; NULL: to whom the socket is connected. May switch. Returns how many
 * bytes were sent. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
 * WEALD_ENOTSOCK, WEALD_EINVAL (`data` NULL; `to` too short or too long), WEALD_EPIPE (nobody reads
 * it any more), WEALD_EMSGSIZE (longer than a datagram may be), WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
 * a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNREFUSED (an earlier datagram was
 * refused). */
int64_t weald_sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
                     uint32_t to_len, int64_t deadline);

/* As recvmsg(2): into several buffers, with the sender's address and control messages. Descriptors
 * that come so are closed on exec with MSG_CMSG_CLOEXEC in `flags`. May switch. Returns how many
 * bytes came. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
 * WEALD_ENOTSOCK, WEALD_ENOTCONN, WEALD_EINVAL (`message` NULL), WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
 * a callback has forked meanwhile), WEALD_ENOMEM. */
int64_t weald_recvmsg(int fd, struct msghdr *message, int flags, int64_t deadline);

/* As sendmsg(2): from several buffers, to an address, with control messages such as descriptors.
 * May switch. Returns how many bytes were sent. Fails with WEALD_EBADF (no open descriptor, or
 * weald_close_fd meanwhile; a descriptor to be passed is none), WEALD_ENOTSOCK, WEALD_EINVAL
 * (`message` NULL), WEALD_EPIPE (nobody reads it any more), WEALD_EMSGSIZE (longer than a datagram
 * may be), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
 * WEALD_ENOMEM. */
int64_t weald_sendmsg(int fd, const struct msghdr *message, int flags, int64_t deadline);

/* Ends one direction of a connection, or both: SHUT_RD, SHUT_WR, SHUT_RDWR. Whoever waits to read
 * or write so finds the end. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_ENOTSOCK, WEALD_ENOTCONN, WEALD_EINVAL (no such `how`). */
int weald_shutdown(int fd, int how);

/* Sets an option, one of WEALD_OPTION_, of a socket. From any thread; does not switch. Returns 0.
 * Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EINVAL (no such `option`, or it can only be read;
 * no such value), WEALD_EOPNOTSUPP or WEALD_ENOPROTOOPT (not for this kind of socket), or another
 * of setsockopt(2). */
int weald_set_option(int fd, int option, int value);

/* Gets an option, one of WEALD_OPTION_, of a socket. From any thread; does not switch. Returns 0.
 * Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EINVAL (no such `option`; `value` NULL),
 * WEALD_EOPNOTSUPP (not for this kind of socket), or another of getsockopt(2). */
int weald_get_option(int fd, int option, int *value);

/* Says what the socket's own address is: `address` and `len` as in weald_accept. From any thread;
 * does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EINVAL (one of them
 * NULL). */
int weald_local_address(int fd, struct sockaddr *address, uint32_t *len);

/* Says whom the socket is connected to: `address` and `len` as in weald_accept. From any thread;
 * does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_ENOTCONN, WEALD_EINVAL
 * (one of them NULL). */
int weald_peer_address(int fd, struct sockaddr *address, uint32_t *len);

/* Reads an address from its text, as the section's head has it. A host's name is none. Returns its
 * length, for weald_bind and weald_connect. From any thread; does not switch. Fails with
 * WEALD_EINVAL (no address; a parameter NULL). */
int weald_address_parse(const char *address, struct sockaddr_storage *out);

/* Writes an address as text to `buf`, cut to `size` bytes with its NUL, and returns how long it is.
 * With 112 bytes none is cut. From any thread; does not switch. Fails with WEALD_EINVAL (`address`
 * NULL, too short or too long; `buf` NULL and `size` not 0). */
int weald_address_text(const struct sockaddr *address, uint32_t len, char *buf, size_t size);

/* ----------------------------------------------------------------------------------------------
 * Streams.
 *
 * A stream is a descriptor with a buffer for each direction: lines, delimited and counted pieces
 * are read from it, and small writes are gathered. It holds no buffer while it waits for its first
 * byte, nor when all has been read and flushed. While a stream is used its descriptor should not be
 * read and written directly.
 *
 * A call that fails has lost nothing: what it had read stays in the stream and is what the next one
 * finds. After WEALD_ECONNRESET whoever wants more gets it again, and no end. Pointers into the
 * stream (weald_stream_line, weald_stream_read_until, weald_stream_peek) are good until the next
 * call that reads from it or closes it. One greenlet at a time may read a stream, and one write it
 * (WEALD_EBUSY).
 *
 * A stream over which TLS is spoken, see weald_tls_connect, is read and written like any other. Its
 * calls can also fail with WEALD_EPROTO, WEALD_ECERTIFICATE and WEALD_ECONNABORTED, as
 * weald_tls_connect does.
 * ---------------------------------------------------------------------------------------------- */

/* The descriptor stays the caller's: weald_close does not close it. */
#define WEALD_STREAM_BORROWS 1

/* A handle to a stream. */
typedef int64_t weald_stream;

/* How a stream is made; begin with `{.size = sizeof options}`. */
typedef struct weald_stream_options {
  size_t size;
  /* 0, or WEALD_STREAM_BORROWS. */
  int flags;
  /* How much is read ahead at most; 0: 64 KiB. */
  size_t read_max;
  /* How much weald_stream_write gathers before it writes; 0: 16 KiB. */
  size_t write_size;
} weald_stream_options;

/* Reads up to `len` bytes into `buffer`, waiting for them until `deadline`: how many, 0 at the end,
 * or a code. */
typedef int64_t (*weald_stream_read_fn)(void *buffer, size_t len, int64_t deadline, void *user);

/* Writes some of `data`, as above. */
typedef int64_t (*weald_stream_write_fn)(const void *data, size_t len, int64_t deadline,
                 void *user);

/* Is called when a stream has been closed, and no call of it is left. */
typedef void (*weald_stream_close_fn)(void *user);

/* What a stream reads and writes by instead of a descriptor. */
typedef struct weald_stream_functions {
  size_t size;
  weald_stream_read_fn read;
  weald_stream_write_fn write;
  /* NULL: nobody is told. */
  weald_stream_close_fn close;
} weald_stream_functions;

/* Makes a stream of a descriptor, which belongs to it from now on: weald_close closes both. If the
 * call fails it stays the caller's. `how`: NULL for the usual. What has been written and not
 * flushed is lost with the close. Whoever reads or writes the stream when it is closed fails with
 * WEALD_EBADF. Does not switch. Fails with WEALD_EBADF (no open descriptor), WEALD_EINVAL (other
 * flags; no `size`), WEALD_ENOMEM. */
weald_stream weald_stream_new(int fd, const weald_stream_options *how);

/* Makes a stream that reads and writes by calls of `functions`, which get `user` and may wait: over
 * somebody else's TLS, or in memory. A code that they return is what the stream's call fails with.
 * `how`: NULL for the usual; its flags are 0. It has no descriptor (weald_stream_fd: WEALD_EBADF),
 * no TLS of its own (WEALD_EINVAL) and no WebSocket (WEALD_EINVAL), and weald_stream_end flushes it
 * and fails with WEALD_ENOTSOCK. Does not switch. Fails with WEALD_EINVAL (`functions`, or one of
 * the first two, NULL; flags; no `size`), WEALD_ENOMEM. */
weald_stream weald_stream_over(const weald_stream_functions *functions, void *user,
                               const weald_stream_options *how);

/* Reads what is there, up to `len` bytes, from the stream's buffer or else from the descriptor, and
 * waits while that is nothing. Returns how many; 0 at the end. May switch. Fails with WEALD_EBADF
 * (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`buffer` NULL), WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
 * a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_stream_read(weald_stream s, void *buffer, size_t len, int64_t deadline);

/* Reads `len` bytes, all of them. `*done` (NULL: not wanted) says how many are in `buffer`, also
 * when the call fails. May switch. Returns 0. Fails with WEALD_EPIPE (the end came first),
 * WEALD_EBADF (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`buffer` NULL),
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * WEALD_ECONNRESET. */
int weald_stream_read_exact(weald_stream s, void *buffer, size_t len, size_t *done,
                            int64_t deadline);

/* Reads a line, of up to `max` bytes, and returns 1; 0 at the end, and no line. `*line` points into
 * the stream, without "\n" or "\r\n" and with a NUL behind it; `*len` (NULL: not wanted) is its
 * length. The last line need not end. After WEALD_EMSGSIZE the line is still there, to be read
 * otherwise. May switch. Fails with WEALD_EBADF (also when it or its descriptor is closed
 * meanwhile), WEALD_EINVAL (`line` NULL), WEALD_EMSGSIZE (longer than `max`), WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
 * a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_stream_line(weald_stream s, const char **line, size_t *len, size_t max, int64_t deadline);

/* Reads up to `delimiter`, `n` bytes that are dropped behind `max` others at most, and returns 1; 0
 * at the end, when nothing is left. `*data` points into the stream, `*len` says how many bytes
 * there are. May switch. Fails with WEALD_EPIPE (the end came before the delimiter), WEALD_EBADF
 * (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`delimiter`, `data` or `len`
 * NULL; `n` 0), WEALD_EMSGSIZE (more than `max`), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_stream_read_until(weald_stream s, const void *delimiter, size_t n, const void **data,
                            size_t *len, size_t max, int64_t deadline);

/* Waits until at least `n` bytes are in the stream's buffer, for weald_stream_peek, and returns how
 * many there are; fewer at the end. May switch. Fails with WEALD_EBADF (also when it or its
 * descriptor is closed meanwhile), WEALD_EINVAL (`n` larger than `read_max`), WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
 * a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_stream_fill(weald_stream s, size_t n, int64_t deadline);

/* Shows what is in the stream's buffer and leaves it there: `*data` points to it (NULL when that is
 * nothing), and the call returns how many bytes there are. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM, WEALD_EBUSY (another greenlet reads), WEALD_EINVAL (`data` NULL). */
int64_t weald_stream_peek(weald_stream s, const void **data);

/* Drops `n` bytes of the stream's buffer, which have been seen with weald_stream_peek. Does not
 * switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EINVAL (more than
 * there are). */
int weald_stream_skip(weald_stream s, size_t n);

/* Puts `len` bytes in front of what is in the stream's buffer, copied: they are read next. For
 * those who have looked at what was not for them. Does not switch. Returns 0. Fails with
 * WEALD_EINVAL (`data` NULL), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_ENOMEM. */
int weald_stream_unread(weald_stream s, const void *data, size_t len);

/* Takes `len` bytes over, all of them: they are gathered in the stream's buffer until it is full,
 * and then written. `*done` (NULL: not wanted) says how many were taken, also when the call fails.
 * May switch. Returns 0. Fails with WEALD_EPIPE (nobody reads it any more), WEALD_EBADF (also when
 * it or its descriptor is closed meanwhile), WEALD_EINVAL (`data` NULL), WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
 * a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_stream_write(weald_stream s, const void *data, size_t len, size_t *done,
                       int64_t deadline);

/* Writes what has been gathered; what could not be written when the call fails is kept. May switch.
 * Returns 0. Fails with WEALD_EPIPE (nobody reads it any more), WEALD_EBADF (also when it or its
 * descriptor is closed meanwhile), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_stream_flush(weald_stream s, int64_t deadline);

/* Writes what has been gathered and says that no more will come: the other side reads the end when
 * it has read the rest. Reading goes on. May switch. Returns 0. Fails with WEALD_EPIPE (nobody
 * reads it any more), WEALD_ENOTSOCK (what is no socket can only be closed), WEALD_EBADF (also when
 * it or its descriptor is closed meanwhile), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_stream_end(weald_stream s, int64_t deadline);

/* How many bytes have been gathered and not flushed. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int64_t weald_stream_unsent(weald_stream s);

/* The stream's descriptor, which stays the stream's: for options, addresses and weald_shutdown.
 * Does not switch. Fails with WEALD_EBADF (also when it has none, see weald_stream_over),
 * WEALD_EPERM. */
int weald_stream_fd(weald_stream s);

/* ----------------------------------------------------------------------------------------------
 * Names.
 *
 * Lookups run in threads of their own, so that other greenlets go on, and a caller who gives up
 * waiting (deadline, kill) goes at once, however long his lookup may still take. A lookup that is
 * stuck holds up no other one, as long as there are fewer than 128. What is a number needs no
 * thread: it is answered at once, and so is what the cache knows. An answer is kept for ten
 * seconds, that there is no such name for one; see weald_dns_set_ttl.
 *
 * Lists and hosts that a function gives belong to the caller, who gives them back with
 * weald_freeaddrinfo or weald_freehostent, in any thread. <netdb.h> has the structs and flags.
 * ---------------------------------------------------------------------------------------------- */

/* The resolver is asked for something that it does not know, or that does not go together. */
#define WEALD_EAI_BADFLAGS (-2101)

/* There is no such name or service. */
#define WEALD_EAI_NONAME (-2102)

/* The name server did not answer: it may later. */
#define WEALD_EAI_AGAIN (-2103)

/* The name server has failed, and will again. */
#define WEALD_EAI_FAIL (-2104)

/* The name exists, but has no address. */
#define WEALD_EAI_NODATA (-2105)

/* The address family is not supported. */
#define WEALD_EAI_FAMILY (-2106)

/* The type of socket is not supported, or does not go with the protocol. */
#define WEALD_EAI_SOCKTYPE (-2107)

/* There is no such service for this type of socket. */
#define WEALD_EAI_SERVICE (-2108)

/* The name has no address of the family that was asked for. */
#define WEALD_EAI_ADDRFAMILY (-2109)

/* A name does not fit into the buffer. */
#define WEALD_EAI_OVERFLOW (-2112)

/* As getaddrinfo(3), returning 0 or an EAI_ code. */
typedef int (*weald_getaddrinfo_fn)(const char *host, const char *service,
             const struct addrinfo *hints, struct addrinfo **list);

/* Frees a list that such a function has made. */
typedef void (*weald_freeaddrinfo_fn)(struct addrinfo *list);

/* As getnameinfo(3), returning 0 or an EAI_ code. */
typedef int (*weald_getnameinfo_fn)(const struct sockaddr *address, uint32_t len, char *host,
             uint32_t host_size, char *service, uint32_t service_size, int flags);

/* Who is asked for names; a function that is NULL is the C library's. */
typedef struct weald_resolver {
  size_t size;
  /* Both or neither. They are called in any thread, several at a time, and may block. */
  weald_getaddrinfo_fn getaddrinfo;
  weald_freeaddrinfo_fn freeaddrinfo;
  weald_getnameinfo_fn getnameinfo;
} weald_resolver;

/* As getaddrinfo(3): the addresses of `host` (NULL: this machine, or any of its addresses with
 * AI_PASSIVE) with the port of `service` (NULL: none), as `hints` (NULL: any) wants them, in
 * `*list`. Give it back with weald_freeaddrinfo. WEALD_NOW looks nothing up: it gives what is
 * numeric or in the cache. May switch. Returns 0. Fails with WEALD_EINVAL (`list` NULL),
 * WEALD_EAI_BADFLAGS, WEALD_EAI_NONAME (also when `host` and `service` are both NULL),
 * WEALD_EAI_AGAIN, WEALD_EAI_FAIL, WEALD_EAI_NODATA, WEALD_EAI_FAMILY, WEALD_EAI_SOCKTYPE,
 * WEALD_EAI_SERVICE, WEALD_EAI_ADDRFAMILY, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no
 * thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child
 * that a callback has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a system
 * call fail, as WEALD_EMFILE. */
int weald_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                      struct addrinfo **list, int64_t deadline);

/* Gives back a list of weald_getaddrinfo, or the rest of one from an entry on; NULL is none. Never
 * fails. From any thread; does not switch. */
void weald_freeaddrinfo(struct addrinfo *list);

/* As getnameinfo(3): the name of the host with `address` in `host` (NULL: not wanted), the name of
 * its port in `service` (NULL: not wanted), and their numbers where there are none. `flags` are
 * getnameinfo's. May switch. Returns 0. Fails with WEALD_EINVAL (`address` NULL; neither is
 * wanted), WEALD_EAI_BADFLAGS, WEALD_EAI_NONAME (with NI_NAMEREQD), WEALD_EAI_AGAIN,
 * WEALD_EAI_FAIL, WEALD_EAI_FAMILY (also a wrong `len`), WEALD_EAI_OVERFLOW (a buffer is too small;
 * nothing is written), WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no thread to be had),
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a system call fail. */
int weald_getnameinfo(const struct sockaddr *address, uint32_t len, char *host, size_t host_size,
                      char *service, size_t service_size, int flags, int64_t deadline);

/* As gethostbyname(3), without the static storage: the IPv4 addresses of `name` in `*host`, with
 * its canonical name, and `name` as an alias if that is another. Give it back with
 * weald_freehostent. May switch. Returns 0. Fails with WEALD_EINVAL (`name` or `host` NULL),
 * WEALD_EAI_NONAME, WEALD_EAI_AGAIN, WEALD_EAI_FAIL, WEALD_EAI_NODATA, WEALD_EAI_ADDRFAMILY,
 * WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
 * a child that a callback has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that had
 * a system call fail. */
int weald_gethostbyname(const char *name, struct hostent **host, int64_t deadline);

/* As weald_gethostbyname, for the addresses of `family`: AF_INET or AF_INET6. Give it back with
 * weald_freehostent. May switch. Returns 0. Fails with WEALD_EINVAL (`name` or `host` NULL),
 * WEALD_EAI_FAMILY (another family), WEALD_EAI_NONAME, WEALD_EAI_AGAIN, WEALD_EAI_FAIL,
 * WEALD_EAI_NODATA, WEALD_EAI_ADDRFAMILY, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a system call fail. */
int weald_gethostbyname_ex(const char *name, int family, struct hostent **host, int64_t deadline);

/* As gethostbyaddr(3): the host that has the address at `address`, of `len` bytes (4 or 16) and
 * `family` (AF_INET or AF_INET6), in `*host`. Give it back with weald_freehostent. May switch.
 * Returns 0. Fails with WEALD_EINVAL (`address` or `host` NULL, a wrong `len`), WEALD_EAI_FAMILY
 * (another family), WEALD_EAI_NONAME, WEALD_EAI_AGAIN, WEALD_EAI_FAIL, WEALD_EPERM, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a system call fail. */
int weald_gethostbyaddr(const void *address, uint32_t len, int family, struct hostent **host,
                        int64_t deadline);

/* Gives back what one of the functions above has given; NULL is nothing. Never fails. From any
 * thread; does not switch. */
void weald_freehostent(struct hostent *host);

/* Has `resolver` (NULL: the C library) asked for names from now on, in the whole process; what is
 * numeric it is not asked. Clears the cache. From any thread; does not switch. Returns 0. Fails
 * with WEALD_EINVAL (`size`; `getaddrinfo` without `freeaddrinfo`, or the other way round). */
int weald_set_resolver(const weald_resolver *resolver);

/* Sets how long the cache keeps answers, and how long it keeps that there is no such name; 0 keeps
 * none. For the whole process; what is in the cache is forgotten. Ten seconds and one, unless set.
 * From any thread; does not switch. Returns 0. Fails with WEALD_EINVAL (a negative time). */
int weald_dns_set_ttl(int64_t ttl_ns, int64_t negative_ttl_ns);

/* Forgets what the cache has, and does not keep what lookups under way will find. From any thread;
 * does not switch. Never fails: returns 0. */
int weald_dns_clear(void);

/* How many answers the cache has. Never fails. From any thread; does not switch. */
int64_t weald_dns_cached(void);

/* ----------------------------------------------------------------------------------------------
 * Connections and listeners by address.
 *
 * An address is text: "oak.example:443", "127.0.0.1:80", "[::1]:80"; for a listener ":80" or "*:80"
 * is every address of this machine. Descriptors that these functions return are non-blocking,
 * closed on exec, and belong to the caller, who closes them.
 * ---------------------------------------------------------------------------------------------- */

/* A flag for listeners: several of them may have one address, those of several hubs for example,
 * and the kernel shares out what comes among them. */
#define WEALD_REUSEPORT 1

/* A flag for listeners with an IPv6 address: no IPv4 connections. */
#define WEALD_V6ONLY 2

/* Connects to `address`, "host:port", by TCP. When a host has several addresses they are tried one
 * after the other, IPv6 and IPv4 in turn: the next one begins when the one before has failed, or
 * has not answered within 250 ms, and the first that answers is it. WEALD_NOW tries all of them and
 * waits for none. May switch. Returns a descriptor. Fails with WEALD_EINVAL (no such text), the
 * codes of weald_getaddrinfo, WEALD_ECONNREFUSED and what else connect(2) fails with (if no address
 * answers: what the first of them failed with), WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW,
 * or there is no thread to be had for the name), WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
 * WEALD_ENOMEM. */
int weald_tcp_connect(const char *address, int64_t deadline);

/* Makes a UDP socket that sends to `address`, "host:port", and gets datagrams from there alone: the
 * host's first address to which there is a way. May switch, to look up the name. Returns a
 * descriptor. Fails with WEALD_EINVAL (no such text), the codes of weald_getaddrinfo, and what
 * connect(2) fails with, WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no thread
 * to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
 * callback has forked meanwhile), WEALD_ENOMEM. */
int weald_udp_connect(const char *address, int64_t deadline);

/* Connects to the Unix stream listener at `path`; "@name" is one that is in no file system. Waits
 * while the listener has no room. May switch. Returns a descriptor. Fails with WEALD_EINVAL (NULL,
 * empty or too long), WEALD_ENOENT (no such file), WEALD_ECONNREFUSED (nobody listens), and what
 * else connect(2) fails with, WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
int weald_unix_connect(const char *path, int64_t deadline);

/* Makes a TCP listener at `address`, which must be numbers; port 0: any that is free. `backlog`
 * connections wait to be accepted at most; 0: as many as the system allows. `flags` are
 * WEALD_REUSEPORT and WEALD_V6ONLY; without the latter the listener at "[::]:80" is for IPv4 as
 * well. From any thread; does not switch. Returns a descriptor. Fails with WEALD_EINVAL (no such
 * text; other flags), WEALD_EADDRINUSE, and what else bind(2) fails with, WEALD_EMFILE. */
int weald_tcp_listen(const char *address, int backlog, int flags);

/* Makes a Unix stream listener at `path`; "@name" is one that is in no file system. A socket file
 * that somebody has left behind, and where nobody listens, is replaced. The file stays when the
 * descriptor is closed; remove it with unlink(2). From any thread; does not switch. Returns a
 * descriptor. Fails with WEALD_EINVAL (NULL, empty or too long), WEALD_EADDRINUSE (somebody listens
 * there, or the file is no socket), WEALD_ENOENT (no such directory), and what else bind(2) fails
 * with, WEALD_EMFILE. */
int weald_unix_listen(const char *path, int backlog);

/* Makes a UDP socket with `address`, which must be numbers; port 0: any that is free. `flags` are
 * as for weald_tcp_listen. From any thread; does not switch. Returns a descriptor. Fails with
 * WEALD_EINVAL (no such text; other flags), WEALD_EADDRINUSE, and what else bind(2) fails with,
 * WEALD_EMFILE. */
int weald_udp_bind(const char *address, int flags);

/* How many sockets systemd has handed to this process (LISTEN_PID, LISTEN_FDS): the descriptors 3,
 * 4 and so on. Makes them non-blocking and closed on exec. From any thread; does not switch. Fails
 * with WEALD_EBADF (one of them is not open). */
int weald_inherited_count(void);

/* The first of those sockets that is called `name` (LISTEN_FDNAMES; FileDescriptorName= in the
 * unit). From any thread; does not switch. Returns the descriptor. Fails with WEALD_EINVAL (`name`
 * NULL), WEALD_ENOENT (none has that name), WEALD_EBADF. */
int weald_inherited_fd(const char *name);

/* ----------------------------------------------------------------------------------------------
 * TLS.
 *
 * A config says what one side knows: its certificate, whom it trusts. weald_tls_connect or
 * weald_tls_accept shakes hands over a stream, which then is read and written as before, encrypted.
 * TLS 1.3 and 1.2 are spoken; older versions, and ciphers that are known to be weak, are not
 * there.
 *
 * When a call fails because of TLS, weald_error_message(weald_self()) says in a sentence what was
 * wrong and what to do. The end of a stream is 0 only if the other side has said that it ends
 * (close_notify): without that it is WEALD_ECONNABORTED, since anybody on the way can cut a
 * connection. weald_stream_end says it for this side, and so does weald_close when all has been
 * flushed.
 *
 * A session belongs to the process that has shaken hands: fork first, and shake hands in the
 * child.
 *
 * What the code of TLS itself needs of memory, some kilobytes for a handshake, it must get: without
 * that the process ends. A handshake takes up to 24 KiB of its greenlet's stack.
 *
 * A library that was built without TLS has these functions all the same; those that make a config
 * fail there, with ENOSYS.
 * ---------------------------------------------------------------------------------------------- */

/* A server asks for a client's certificate, and does without. Those of `roots` may have signed
 * it. */
#define WEALD_TLS_PEER_OPTIONAL 1

/* A server refuses clients that show no certificate. */
#define WEALD_TLS_PEER_REQUIRED 2

/* A client takes every server, whoever it is: an attacker too. For tests. */
#define WEALD_TLS_INSECURE 4

/* No tickets: each connection is a whole handshake. */
#define WEALD_TLS_NO_TICKETS 8

/* No version below 1.3. */
#define WEALD_TLS_ONLY_1_3 16

/* A handle to what one side of TLS knows, for any number of streams in any thread. */
typedef int64_t weald_tls_config;

/* What one side knows; begin with `{.size = sizeof options}`. A text that has "-----BEGIN" in it is
 * PEM itself; any other is the name of a file with PEM. */
typedef struct weald_tls_options {
  size_t size;
  /* WEALD_TLS_PEER_OPTIONAL and the others. */
  int flags;
  /* One's own certificate, first, and those that vouch for it. A server must have one. */
  const char *certificate;
  /* Its private key, not encrypted. NULL: it is where the certificate is. */
  const char *key;
  /* Certificates of those whom one trusts. NULL: the system's, also from SSL_CERT_FILE and
   * SSL_CERT_DIR. A server needs them for WEALD_TLS_PEER_ flags alone. */
  const char *roots;
  /* Protocols (ALPN), the best one first, with commas: "h2,http/1.1". NULL: none. A server refuses
   * who offers some and none of these. */
  const char *alpn;
} weald_tls_options;

/* What a handshake has come to; begin with `{.size = sizeof info}`. The pointers are good until the
 * stream is closed. */
typedef struct weald_tls_info {
  size_t size;
  /* Whether it went on with an earlier session. */
  int resumed;
  /* "TLSv1.3", "TLSv1.2". */
  const char *protocol;
  /* "TLS_AES_128_GCM_SHA256". */
  const char *cipher;
  /* The protocol that was chosen (ALPN), no NUL behind it. */
  const char *alpn;
  size_t alpn_len;
  /* Of a server: the name that the client has asked for (SNI), no NUL behind it. */
  const char *server_name;
  size_t server_name_len;
  /* The other side's certificate, as DER. */
  const void *certificate;
  size_t certificate_len;
} weald_tls_info;

/* Makes what a client knows: `how` NULL: the system's roots. Reads files. From any thread; does not
 * switch. Fails with WEALD_EINVAL (`size`; other flags, a server's among them; what is no PEM, or
 * not what it should be; a key that does not belong to its certificate; `alpn`), WEALD_ENOENT (no
 * such file; the system has no roots) or another code with which a file can not be read. The
 * message says which. */
weald_tls_config weald_tls_client(const weald_tls_options *how);

/* Makes what a server knows; it must have a certificate. Reads files. From any thread; does not
 * switch. Fails with WEALD_EINVAL (`size`; other flags, a client's among them; no certificate; what
 * is no PEM, or not what it should be; a key that does not belong to its certificate; `alpn`),
 * WEALD_ENOENT (no such file) or another code with which a file can not be read. The message says
 * which. */
weald_tls_config weald_tls_server(const weald_tls_options *how);

/* Gives a server one certificate more, for clients that ask for a name that is in it (SNI). Who
 * asks for a name that is in none, or for none, is shown the first. Texts as in the options; `key`
 * NULL: it is where the certificate is. For handshakes from then on. Reads files. From any thread;
 * does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EINVAL (a client's config;
 * `certificate` NULL; what is no PEM, or not what it should be; a key that does not belong to it),
 * WEALD_ENOENT (no such file) or another code with which a file can not be read; then nothing has
 * changed. */
int weald_tls_add_certificate(weald_tls_config config, const char *certificate, const char *key);

/* Reads all files of a config again: certificates and keys that were renewed, roots. Handshakes
 * from then on use what is there now; whoever is connected stays so. From any thread; does not
 * switch. Returns 0. Fails with WEALD_EBADF, WEALD_EINVAL (what is no PEM, or not what it should
 * be; a key that does not belong to its certificate), WEALD_ENOENT (no such file) or another code
 * with which a file can not be read; then all is as it was. */
int weald_tls_reload(weald_tls_config config);

/* Shakes hands over `s` as the client of the server `name`, which its certificate must be for: a
 * host's name or an address. From then on `s` is encrypted. What has been gathered before goes
 * first, as it is (STARTTLS). A handshake that a deadline or a kill has cut short goes on with
 * another call, or with the first that reads or flushes. May switch. Returns 0. Fails with
 * WEALD_ECERTIFICATE (the server's certificate was not accepted), WEALD_EPROTO (what came is not
 * TLS, or there is nothing in common, or the server has given up), WEALD_ECONNABORTED (it has hung
 * up), WEALD_EBADF (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`name` NULL
 * or none; a server's config), WEALD_EALREADY (`s` is encrypted), WEALD_EPERM (also in a forked
 * child of whoever began), WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * WEALD_EPIPE, WEALD_ECONNRESET. After the first three, and the last two, close it. */
int weald_tls_connect(weald_stream s, weald_tls_config config, const char *name, int64_t deadline);

/* As weald_tls_connect, as the server. May switch. Returns 0. Fails with WEALD_ECERTIFICATE (the
 * client's certificate was not accepted, or it has none), WEALD_EPROTO (what came is not TLS, or
 * there is nothing in common, or the client has given up), WEALD_ECONNABORTED (it has hung up),
 * WEALD_EBADF (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (a client's
 * config), WEALD_EALREADY (`s` is encrypted), WEALD_EPERM (also in a forked child of whoever
 * began), WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_EPIPE,
 * WEALD_ECONNRESET. After the first three, and the last two, close it. */
int weald_tls_accept(weald_stream s, weald_tls_config config, int64_t deadline);

/* Fills in `info`, as far as its `size` goes; what there is not is NULL and 0. Does not switch.
 * Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`info` NULL, `size`; a stream
 * without TLS), WEALD_EAGAIN (the handshake has not ended). */
int weald_tls_info_get(weald_stream s, weald_tls_info *info);

/* ----------------------------------------------------------------------------------------------
 * Servers.
 *
 * A server accepts connections in a greenlet of its own, and calls a handler for each in another.
 * The handler's code is as straight as if it blocked; when it returns the connection is closed. A
 * server belongs to its thread. For more cores give each worker one, at the same address with
 * WEALD_REUSEPORT.
 * ---------------------------------------------------------------------------------------------- */

/* What a handler returns that goes on using the descriptor, and closes it itself. */
#define WEALD_KEEP 1

/* A handle to a server. */
typedef int64_t weald_server;

/* Serves a connection, in a greenlet of its own. `fd` is non-blocking and closed on exec; `peer` is
 * good until the handler returns. Returns 0, and the library closes `fd`, or WEALD_KEEP. When the
 * greenlet is killed before it has begun no handler is called, and the connection is closed. */
typedef int (*weald_stream_handler_fn)(int fd, const struct sockaddr *peer, uint32_t peer_len,
             void *user);

/* What can be set about a server; what is 0 is as if there were none. */
typedef struct weald_server_options {
  size_t size;
  /* How many connections wait to be accepted; 0: as many as the system allows. */
  int backlog;
  /* WEALD_REUSEPORT, WEALD_V6ONLY. */
  int flags;
  /* How many connections (datagrams) are served at a time; 0: any number. A server that is full
   * does not accept: the others wait in the kernel's queue. */
  size_t max_connections;
  /* A pool in which they take room as well; 0: none. Keep it open as long as the server. */
  weald_group pool;
  /* How many are accepted in a row before other greenlets have a turn; 0: 64. */
  size_t max_accept;
  /* Of the greenlets; 0: the usual one. */
  size_t stack_size;
  /* Of servers of streams and of HTTP: TLS is spoken, and the handler called after the handshake;
   * 0: not. From weald_tls_server. It may be closed before the server. */
  weald_tls_config tls;
  /* How long a handshake may take; 0: ten seconds. Who has not finished it then is hung up on. */
  int64_t handshake_ns;
} weald_server_options;

/* Serves a connection as a stream, in a greenlet of its own. `peer` is good until the handler
 * returns. Returns 0, and the library writes what has been gathered, ends the stream and closes it,
 * or WEALD_KEEP: then the handler has, or will. */
typedef int (*weald_session_handler_fn)(weald_stream s, const struct sockaddr *peer,
             uint32_t peer_len, void *user);

/* Serves a datagram, in a greenlet of its own. `fd` is the server's socket, to answer with; it
 * stays the server's. `data` and `peer` are good until the handler returns. */
typedef void (*weald_datagram_handler_fn)(int fd, const void *data, size_t len,
              const struct sockaddr *peer, uint32_t peer_len, void *user);

/* Makes a server that listens at `address` from now on, and accepts when it is started. `address`
 * is as for weald_tcp_listen, or "unix:/path" or "unix:@name", as for weald_unix_listen; a socket
 * file goes with the server. `handler` gets `user`. `options` NULL: all as usual. Close it: then it
 * does not accept any more, and its connections are served to their end. Does not switch. Fails
 * with WEALD_EINVAL (`address` or `handler` NULL, no such text, `size`, flags, `stack_size`),
 * WEALD_EBADF (pool), WEALD_EPERM (a pool of another thread), WEALD_EADDRINUSE, and what else
 * bind(2) fails with, WEALD_EMFILE, WEALD_ENOMEM. */
weald_server weald_server_new(const char *address, weald_stream_handler_fn handler, void *user,
                              const weald_server_options *options);

/* As weald_server_new, for a socket that listens already: inherited from systemd, or shared with
 * other hubs or processes. It stays the caller's, open when the server is shut, and is made
 * non-blocking when it is started. Does not switch. Fails with WEALD_EINVAL (`handler` NULL; it
 * does not listen; `size`, `stack_size`), WEALD_EBADF (`fd`, pool), WEALD_ENOTSOCK, WEALD_EPERM (a
 * pool of another thread), WEALD_ENOMEM. */
weald_server weald_server_from_fd(int fd, weald_stream_handler_fn handler, void *user,
                                  const weald_server_options *options);

/* As weald_server_new, with connections as streams, and TLS on them if `options` say so. When a
 * handshake fails the connection is closed and no handler called. Does not switch. Fails with
 * WEALD_EINVAL (`address` or `handler` NULL, no such text, `size`, flags, `stack_size`; a config of
 * weald_tls_client), WEALD_EBADF (pool, config), WEALD_EPERM (a pool of another thread),
 * WEALD_EADDRINUSE, and what else bind(2) fails with, WEALD_EMFILE, WEALD_ENOMEM. */
weald_server weald_stream_server_new(const char *address, weald_session_handler_fn handler,
                                     void *user, const weald_server_options *options);

/* As weald_server_from_fd, with connections as streams. Does not switch. Fails with WEALD_EINVAL
 * (`handler` NULL; it does not listen; `size`, `stack_size`; a config of weald_tls_client),
 * WEALD_EBADF (`fd`, pool, config), WEALD_ENOTSOCK, WEALD_EPERM (a pool of another thread),
 * WEALD_ENOMEM. */
weald_server weald_stream_server_from_fd(int fd, weald_session_handler_fn handler, void *user,
                                         const weald_server_options *options);

/* Makes a server for the UDP datagrams that come to `address`, as for weald_udp_bind. Otherwise as
 * weald_server_new; a datagram is what a connection is there. Does not switch. Fails with
 * WEALD_EINVAL (`address` or `handler` NULL, no such text, `size`, flags, `stack_size`),
 * WEALD_EBADF (pool), WEALD_EPERM (a pool of another thread), WEALD_EADDRINUSE, and what else
 * bind(2) fails with, WEALD_EMFILE, WEALD_ENOMEM. */
weald_server weald_datagram_server_new(const char *address, weald_datagram_handler_fn handler,
                                       void *user, const weald_server_options *options);

/* As weald_datagram_server_new, for a socket that has its address already, of any family. It stays
 * the caller's. Does not switch. Fails with WEALD_EINVAL (`handler` NULL; a socket that listens;
 * `size`, `stack_size`), WEALD_EBADF (`fd`, pool), WEALD_ENOTSOCK, WEALD_EPERM (a pool of another
 * thread), WEALD_ENOMEM. */
weald_server weald_datagram_server_from_fd(int fd, weald_datagram_handler_fn handler, void *user,
                                           const weald_server_options *options);

/* Has `s` begin to accept. When descriptors or memory run out it pauses, from 10 ms up to a second,
 * tells the error handler (every ten seconds at most), and goes on as soon as a connection ends;
 * when that takes long it hangs up on those who wait. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has begun), WEALD_EPIPE (it is shut),
 * WEALD_ENOMEM. */
int weald_server_start(weald_server s);

/* Starts `s`, unless it has been, and waits until it has been shut and its connections have ended:
 * a server's main program. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
 * meanwhile; also when its listener or its pool was), another code that accept(2) failed with for
 * good, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT (and it goes on serving), WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a handler of its own; in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM. */
int weald_server_serve(weald_server s, int64_t deadline);

/* Has `s` accept no more; its address is free then. Its connections are served to their end. From a
 * handler or a callback as well. Does not switch. Returns 0, also when it was shut before. Fails
 * with WEALD_EBADF, WEALD_EPERM. */
int weald_server_shut(weald_server s);

/* Shuts `s`, gives its connections until `grace` to end, kills those that are left, and waits for
 * their ends, for as long as their cleaning up takes. With WEALD_NOW it kills at once and waits for
 * nothing. May switch. Returns how many it had to kill. Fails with WEALD_EBADF (also when it is
 * closed meanwhile), WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout),
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a handler of its own; in a child that a
 * callback has forked meanwhile; in main, when what is left can not end), WEALD_ENOMEM. A call that
 * fails while it waits has shut `s` all the same. */
int64_t weald_server_stop(weald_server s, int64_t grace);

/* How many connections (datagrams) are being served. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int64_t weald_server_count(weald_server s);

/* How many there have been. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int64_t weald_server_accepted(weald_server s);

/* The descriptor that `s` listens at; it stays the server's. Does not switch. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EPIPE (it is shut). */
int weald_server_fd(weald_server s);

/* The port that `s` listens at; 0 for a Unix socket. Does not switch. Fails with WEALD_EBADF (also
 * when a listener of the caller's was closed), WEALD_EPERM, WEALD_EPIPE (it is shut). */
int weald_server_port(weald_server s);

/* ----------------------------------------------------------------------------------------------
 * HTTP servers.
 *
 * An HTTP/1.1 server is a server (weald_server_start, weald_server_stop and the others take it)
 * whose handler gets requests. Each connection has a greenlet, which calls the handler for one
 * request after the other, in order; a handler reads the body as it comes and writes the response
 * as it goes, and may wait in between for whatever it likes.
 *
 * A request's handle is good until its handler returns, in any greenlet of the thread, and is not
 * to be closed. So are the texts of a request, which end with a NUL. One greenlet at a time may
 * read a request, and one answer it (WEALD_EBUSY). Besides its deadline a call has the server's
 * limits: who sends or reads too slowly is hung up on (WEALD_ETIMEDOUT). When a handler returns
 * without an answer the answer is 500, or what was wrong with the request's body; an answer that it
 * has begun is ended, unless it has called weald_fail or was killed: then the connection is closed,
 * so that half an answer does not look like a whole one.
 *
 * A connection that was accepted by other means is served by weald_http_connection_new and
 * weald_http_next.
 *
 * What comes in is read strictly: what two readers might understand differently is refused, and the
 * handler does not see it. weald_http_lenient has what can be allowed.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to a request and its response. */
typedef int64_t weald_http_request;

/* Answers a request. It runs in the connection's greenlet. */
typedef void (*weald_http_handler_fn)(weald_http_request request, void *user);

/* What a server takes that is not HTTP as it should be, where the field is not 0. Whoever is in
 * front of the server should agree about it. */
typedef struct weald_http_lenient {
  size_t size;
  /* Lines that end with LF alone. */
  int bare_lf;
  /* Headers that go on in the next line, which begins with a space. */
  int folding;
  /* Spaces between a header's name and the colon. */
  int space_before_colon;
  /* HTTP/1.1 without Host. */
  int no_host;
  /* Headers with an underscore in their names, which are left out otherwise: "X_Y" and "X-Y" are
   * the same for whoever makes variables of them. */
  int underscores;
  /* UTF-8 in the target. */
  int raw_target;
} weald_http_lenient;

/* Is told of each request when it has been answered: its status (0: it was not), how many bytes of
 * a body were sent, and how long it took, in nanoseconds. Of a request that was refused unseen the
 * method may be "". It must not wait. */
typedef void (*weald_http_log_fn)(weald_http_request request, int status, int64_t sent,
              int64_t took_ns, void *user);

/* How an HTTP server is made; what is 0 is as usual. */
typedef struct weald_http_options {
  size_t size;
  /* Those of every server; NULL: as usual. */
  const weald_server_options *server;
  /* NULL: nothing. */
  const weald_http_lenient *lenient;
  /* What Server says; NULL: there is none. */
  const char *name;
  /* NULL: nobody is told. It gets the handler's `user`. */
  weald_http_log_fn log;
  /* Bytes of a request line (414); 8 KiB. */
  size_t max_line;
  /* Bytes of a head (431); 64 KiB. */
  size_t max_head;
  /* Headers (431); 100. */
  size_t max_headers;
  /* Bytes of a body (413); 64 MiB. */
  size_t max_body;
  /* Requests of one connection, then it is closed; 10,000. */
  size_t max_requests;
  /* For the whole head, from its first byte on (408); 10 s. */
  int64_t head_ns;
  /* For a connection that waits for a request; 60 s. */
  int64_t idle_ns;
  /* For a body, besides what `min_rate` gives it (408); 20 s. */
  int64_t body_ns;
  /* For each 64 KiB of an answer; 30 s. */
  int64_t write_ns;
  /* Bytes a second that a body has at least, in the long run; 500. */
  size_t min_rate;
} weald_http_options;

/* A handle to a connection of weald_http_connection_new. */
typedef int64_t weald_http_connection;

/* Makes an HTTP server that listens at `address` from now on, and serves when it is started:
 * otherwise as weald_server_new. `handler` gets `user`. `how` NULL: all as usual. Close it; then it
 * does not accept any more. When it is shut, connections end as soon as the requests that they have
 * begun are answered. Who connects and says nothing is accepted after a second (TCP_DEFER_ACCEPT),
 * others with their first bytes. Does not switch. Fails with WEALD_EINVAL (`address` or `handler`
 * NULL, no such text, a `size`, flags, a negative time), WEALD_EBADF (pool), WEALD_EPERM (a pool of
 * another thread), WEALD_EADDRINUSE, and what else bind(2) fails with, WEALD_EMFILE,
 * WEALD_ENOMEM. */
weald_server weald_http_server_new(const char *address, weald_http_handler_fn handler, void *user,
                                   const weald_http_options *how);

/* As weald_http_server_new, for a socket that listens already, as weald_server_from_fd. Does not
 * switch. Fails with WEALD_EINVAL (`handler` NULL; it does not listen; a `size`, a negative time),
 * WEALD_EBADF (`fd`, pool), WEALD_ENOTSOCK, WEALD_EPERM (a pool of another thread),
 * WEALD_ENOMEM. */
weald_server weald_http_server_from_fd(int fd, weald_http_handler_fn handler, void *user,
                                       const weald_http_options *how);

/* Serves HTTP at `address` until this greenlet is killed or the listener fails: a program's whole
 * main. As weald_http_server_new and weald_server_serve; the server is closed when it returns. May
 * switch. Fails with WEALD_EINVAL (as weald_http_server_new), WEALD_EBADF (pool, or one that was
 * closed meanwhile), WEALD_EPERM (a pool of another thread), WEALD_EADDRINUSE, and what else
 * bind(2) or accept(2) fails with, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EMFILE, WEALD_ENOMEM. */
int weald_http_serve(const char *address, weald_http_handler_fn handler, void *user,
                     const weald_http_options *how, int64_t deadline);

/* Makes a server's side of the connection `s`, whose requests weald_http_next reads one by one: for
 * connections that were accepted, or secured, by other means than weald_http_server_new's. The
 * stream is the connection's from now on, and closed with it; if the call fails it stays the
 * caller's. Of `how` (NULL: all as usual) `server` is not looked at; `log` gets `user`. Does not
 * switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (a `size`, a negative time, `name` no
 * text for a header), WEALD_ENOMEM. */
weald_http_connection weald_http_connection_new(weald_stream s, void *user,
                                                const weald_http_options *how);

/* Brings the request before, if there was one, to its end, as when a server's handler returns, and
 * waits for the next: its handle, which is good until the next call. Returns 0 when there will be
 * none: the client has left or is idle for too long, or one of both sides has said "close". Close
 * the connection to break off. May switch. Fails with WEALD_EPROTO (what came is no request, or too
 * large or too slow: it has been refused with the status that `log` was told, and is the last),
 * WEALD_EBADF (also when the connection is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (another
 * greenlet waits here, or uses the request before), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
weald_http_request weald_http_next(weald_http_connection connection, int64_t deadline);

/* As weald_http_next, but does not wait for the next request: for who reads the connection's stream
 * between two of them. May switch. Returns 1, or 0 when there will be no other request. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_ECANCELED, WEALD_EWOULDBLOCK. */
int weald_http_done(weald_http_connection connection);

/* The method: "GET". NULL for a handle that is no request. Does not switch. */
const char *weald_http_method(weald_http_request request);

/* The target as it was sent: "/a%20path?query", for a proxy "http://host/path", or "*". NULL for a
 * handle that is no request. Does not switch. */
const char *weald_http_target(weald_http_request request);

/* The target's path, decoded: "/a path". It may have "..", and any bytes but NUL. NULL when it can
 * not be decoded, or for a handle that is no request. Does not switch. */
const char *weald_http_path(weald_http_request request);

/* What stands behind the "?" of the target, as it was sent; NULL when there is none. Does not
 * switch. */
const char *weald_http_query(weald_http_request request);

/* The first header of that name, whatever its case; NULL when there is none. Does not switch. */
const char *weald_http_header(weald_http_request request, const char *name);

/* The `i`-th header, from 0 on, in the order in which they came: its name and value go to `*name`
 * and `*value` (NULL: not wanted). Returns 1, or 0 when there are not so many. Does not switch.
 * Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_http_header_at(weald_http_request request, size_t i, const char **name,
                         const char **value);

/* The version: 10 or 11. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_http_version(weald_http_request request);

/* Where the request comes from; `*len` (NULL: not wanted) is the address's length. Good as long as
 * the request. NULL for a handle that is no request. Does not switch. */
const struct sockaddr *weald_http_peer(weald_http_request request, uint32_t *len);

/* How many bytes of the body are still to be read; -1 when nobody knows, since it comes in chunks:
 * so 0 means that there are none. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int64_t weald_http_body_left(weald_http_request request);

/* Reads what is there of the body, up to `len` bytes, and waits while that is nothing; 0 at its
 * end. A client that waits to be asked for the body (Expect) is asked now. After WEALD_EPIPE,
 * WEALD_EPROTO, WEALD_EMSGSIZE and the server's WEALD_ETIMEDOUT the connection ends with this
 * request. May switch. Returns how many. Fails with WEALD_EPIPE (the client has left before the
 * end), WEALD_EPROTO (the chunks are none), WEALD_EMSGSIZE (more than `max_body`), WEALD_EBADF,
 * WEALD_EINVAL (`buffer` NULL), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_http_read(weald_http_request request, void *buffer, size_t len, int64_t deadline);

/* Tells a client that waits to be asked for the body (Expect) that it may send it, as reading does,
 * also when some of it is there already. May switch. Returns 1, or 0 when the client does not wait,
 * has been told, or is being answered. Fails with WEALD_EPIPE (the client has left), WEALD_EBADF,
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_continue(weald_http_request request, int64_t deadline);

/* Reads what is left of the body, up to `max` bytes: `*data` is its memory, which is the caller's,
 * for weald_free, with a NUL behind its `*len` bytes (`len` NULL: not wanted). What a call that
 * fails has read is lost, also when it was too late: another one gets what comes behind it. May
 * switch. Returns 0. Fails with WEALD_EMSGSIZE (longer than `max`, or than `max_body`), WEALD_EPIPE
 * (the client has left before the end), WEALD_EPROTO (the chunks are none), WEALD_EBADF,
 * WEALD_EINVAL (`data` NULL), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_read_all(weald_http_request request, size_t max, void **data, size_t *len,
                        int64_t deadline);

/* Reads the rest of the body and drops it. What a handler leaves unread is dropped after it has
 * returned if it is less than 64 KiB; otherwise the connection is closed. May switch. Returns 0.
 * Fails with WEALD_EPIPE (the client has left before the end), WEALD_EPROTO (the chunks are none),
 * WEALD_EMSGSIZE (more than `max_body`), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_discard(weald_http_request request, int64_t deadline);

/* Answers `request`, with all of the body at once. `type` is the Content-Type (NULL: none). Headers
 * are added before. An answer that has no body (to HEAD; 204, 304) says how long it would be, and
 * leaves it out. May switch. Returns 0. Fails with WEALD_EALREADY (it has been answered),
 * WEALD_EINVAL (`status` below 200 or above 999, `type` no text for a header, `data` NULL),
 * WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_reply(weald_http_request request, int status, const char *type, const void *data,
                     size_t len, int64_t deadline);

/* Sends an interim answer: `status` is 102, or 103 with what the client had better fetch already,
 * or another one up to 199. `headers` are its own, names and values in turn, NULL behind the last
 * (NULL: none). The answer is still to come, and 100 is said by itself. An HTTP/1.0 client is sent
 * nothing. May switch. Returns 0. Fails with WEALD_EALREADY (the answer has been begun),
 * WEALD_EINVAL (`status` below 102 or above 199; a header that is none, or Connection,
 * Content-Length or Transfer-Encoding), WEALD_EPIPE (the client has left), WEALD_EBADF,
 * WEALD_EPERM, WEALD_EBUSY, WEALD_ENOMEM, WEALD_ECONNRESET; with WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED or WEALD_EWOULDBLOCK it goes with what is sent next. */
int weald_http_inform(weald_http_request request, int status, const char *const *headers,
                      int64_t deadline);

/* Adds a header to the answer, before it is begun. Afterwards it is a trailer, of an answer in
 * chunks; an HTTP/1.0 client gets none. Content-Length and Transfer-Encoding are the library's;
 * "Connection: close" ends the connection after this answer; Date is there unless it is added here.
 * Both texts are copied. Does not switch. Returns 0. Fails with WEALD_EINVAL (NULL; no name, or a
 * value with a line's end or another control character in it; the library's own; a trailer where
 * there is none), WEALD_EALREADY (the answer has ended), WEALD_EPIPE (the client has left),
 * WEALD_ETIMEDOUT (it was too slow), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_ENOMEM. */
int weald_http_add_header(weald_http_request request, const char *name, const char *value);

/* Begins the answer. `reason` is the status's phrase (NULL: the usual one). `length` is what the
 * body will have, or -1: then it goes in chunks, or to an HTTP/1.0 client until the connection
 * ends. Nothing is sent before the first bytes of the body, weald_http_flush or weald_http_end.
 * Does not switch. Returns 0. Fails with WEALD_EALREADY (it has been begun), WEALD_EINVAL (`status`
 * below 200 or above 999, `reason` no text for a header, `length` below -1), WEALD_EPIPE (the
 * client has left), WEALD_ETIMEDOUT (it was too slow), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY,
 * WEALD_ENOMEM. */
int weald_http_begin(weald_http_request request, int status, const char *reason, int64_t length);

/* Takes `len` bytes of the body over, all of them: small pieces are gathered, large ones written at
 * once. `*done` (NULL: not wanted) says how many were taken, also when the call fails: go on behind
 * them. May switch. Returns 0. Fails with WEALD_EINVAL (`data` NULL; the answer has not been
 * begun), WEALD_EALREADY (it has ended), WEALD_EMSGSIZE (more than was announced), WEALD_EPIPE (the
 * client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_write(weald_http_request request, const void *data, size_t len, size_t *done,
                     int64_t deadline);

/* Sends `len` bytes of the file `fd` from `offset` on, as part of the body, from the kernel where
 * that is possible. The file stays the caller's. Returns how many were sent: all of them. May
 * switch. Fails with WEALD_EPIPE (the file has fewer, or the client has left; either way the answer
 * can not be ended any more), WEALD_EINVAL (a negative `offset` or `len`; the answer has not been
 * begun), WEALD_EALREADY (it has ended), WEALD_EMSGSIZE (more than was announced), WEALD_EBADF
 * (also `fd`), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int64_t weald_http_sendfile(weald_http_request request, int fd, int64_t offset, int64_t len,
                            int64_t deadline);

/* Sends what has been gathered: for an answer that goes on later. May switch. Returns 0. Fails with
 * WEALD_EINVAL (the answer has not been begun), WEALD_EPIPE (the client has left), WEALD_EBADF,
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_flush(weald_http_request request, int64_t deadline);

/* Ends the answer, and sends what has been gathered. May switch. Returns 0. Fails with WEALD_EINVAL
 * (it has not been begun; less was written than was announced: then the connection is closed),
 * WEALD_EALREADY (it has ended), WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_ECONNRESET. */
int weald_http_end(weald_http_request request, int64_t deadline);

/* Answers 101 with the headers that were added, and gives the connection over to `protocol`: a
 * stream, which is the request's and good as long as it, with what the client has sent already. The
 * connection is closed when the handler returns. May switch. Fails with WEALD_EINVAL (`protocol`
 * NULL or no text for a header; the request has a body that was not read, or is HTTP/1.0),
 * WEALD_EALREADY (it has been answered), WEALD_EPIPE (the client has left), WEALD_EBADF,
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM, WEALD_ECONNRESET. */
weald_stream weald_http_upgrade(weald_http_request request, const char *protocol, int64_t deadline);

/* Answers with the file `path`: all of it or the part that is asked for (Range), or says that the
 * client has it already (If-None-Match, If-Modified-Since); 404 when there is none, 403 when it may
 * not be read, 405 to other methods than GET and HEAD. Its type is told by the end of its name. May
 * switch. Returns 0, whatever the status. Fails with WEALD_EINVAL (`path` NULL), WEALD_EALREADY
 * (the request has been answered), WEALD_EPIPE (the client has left, or the file has got shorter),
 * WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_EMFILE,
 * WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_file(weald_http_request request, const char *path, int64_t deadline);

/* Answers with the file `name` in `folder`, as weald_http_file: `name` is weald_http_path, or what
 * is left of it behind a prefix; NULL, which a path is that can not be decoded, is 404. "", and a
 * name that ends with "/", is the index.html there. Names with "..", and those in which something
 * begins with a dot, are 404; symbolic links are followed. May switch. Returns 0, whatever the
 * status. Fails with WEALD_EINVAL (`folder` NULL), WEALD_EALREADY (the request has been answered),
 * WEALD_EPIPE (the client has left, or the file has got shorter), WEALD_EBADF, WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
 * a child that a callback has forked meanwhile), WEALD_EMFILE, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_folder(weald_http_request request, const char *folder, const char *name,
                      int64_t deadline);

/* Begins an answer of server-sent events, and sends its head. The client says in the header
 * "Last-Event-ID" what it has seen. May switch. Returns 0. Fails with WEALD_EALREADY (the request
 * has been answered), WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_ECONNRESET. */
int weald_http_events(weald_http_request request, int64_t deadline);

/* Sends an event of such an answer at once: its `name` and `id` (NULL: none) and its text, of any
 * number of lines. Without `data` (NULL) it is a comment: something to say now and then, so that
 * nobody on the way takes the connection for dead, and it is noticed when the client has left. May
 * switch. Returns 0. Fails with WEALD_EINVAL (a line's end in `name` or `id`; the answer has not
 * been begun), WEALD_EALREADY (it has ended), WEALD_EMSGSIZE (an answer of known length has no
 * room), WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_http_event(weald_http_request request, const char *name, const char *id, const char *data,
                     int64_t deadline);

/* ----------------------------------------------------------------------------------------------
 * HTTP clients.
 *
 * weald_http_fetch makes a request and returns its response as soon as the head has come; the body
 * is read as it comes. A client keeps connections that can be used again, follows redirects, and
 * speaks TLS to "https:" addresses. It belongs to its thread; any number of greenlets may use it at
 * a time.
 *
 * A response is to be closed: then its connection is another request's, if all of the body has been
 * read or is there already, and is closed otherwise. The texts of a response are good until then.
 * One greenlet at a time may read it (WEALD_EBUSY).
 * ---------------------------------------------------------------------------------------------- */

/* A handle to a client. */
typedef int64_t weald_http_client;

/* How a client is made; what is 0 is as usual. */
typedef struct weald_http_client_options {
  size_t size;
  /* What it knows of TLS: a client's config; 0: it trusts whom the system trusts. */
  weald_tls_config tls;
  /* What User-Agent says; NULL: "weald/" and the version. */
  const char *name;
  /* Connections to one server that are kept; 8. */
  size_t max_idle;
  /* For how long; 15 s. */
  int64_t idle_ns;
  /* Redirects that are followed; 0: 10, -1: none. */
  int max_redirects;
  /* Bytes of a response's head (WEALD_EPROTO beyond it); 64 KiB, 16 MiB at most. */
  size_t max_head;
  /* Headers of a response; 100. */
  size_t max_headers;
} weald_http_client_options;

/* A handle to a response that a client has got. */
typedef int64_t weald_http_response;

/* Gives the next piece of a request's body: writes up to `size` bytes to `buffer` and returns how
 * many, 0 at the end, or a negative code, with which the fetch fails. It may wait. */
typedef int64_t (*weald_http_body_fn)(void *buffer, size_t size, void *user);

/* Is told of an interim response, such as 103 with what the page will need: its status and headers
 * are those of `interim`, which is good until this returns. It may wait, as long as the fetch
 * may. */
typedef void (*weald_http_interim_fn)(weald_http_response interim, void *user);

/* What is asked for; begin with `{.size = sizeof options}`. */
typedef struct weald_http_fetch_options {
  size_t size;
  /* NULL: "GET", or "POST" if there is a body. */
  const char *method;
  /* Names and values in turn, NULL behind the last; NULL: none. Host, Connection, Content-Length
   * and Transfer-Encoding are the library's. */
  const char *const *headers;
  /* The body; NULL: none. */
  const void *body;
  size_t body_len;
  /* What gives the body in pieces, if `body` is NULL; NULL: nothing. It gets `user`. */
  weald_http_body_fn body_fn;
  void *user;
  /* Is told of interim responses; NULL: they are passed over. It gets `user`. */
  weald_http_interim_fn interim_fn;
} weald_http_fetch_options;

/* Makes a client. `how` NULL: all as usual. Does not switch. Fails with WEALD_EINVAL (`size`; a
 * name with a line's end in it; negative numbers; a server's config), WEALD_EBADF (`tls`),
 * WEALD_ENOMEM. */
weald_http_client weald_http_client_new(const weald_http_client_options *how);

/* The connections that a client keeps for other requests. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int64_t weald_http_client_idle(weald_http_client client);

/* Asks for `url` ("http://host:port/path?query" or "https:"), and follows redirects: the response,
 * of which the head has come; close it. `how` NULL: GET. A status such as 404 is a response as
 * well. Of a redirect that is not followed (too many; from "https:" to "http:"; with a body that is
 * used up) the response is the redirect itself. A request that is sent on another connection than
 * its first one, since the server had closed that, is one that may be made twice. May switch. Fails
 * with WEALD_EINVAL (`url` NULL or none; `size`; no method, or a header that is none or the
 * library's), the WEALD_EAI_ codes (no such host), WEALD_ECONNREFUSED and what else connect(2)
 * fails with, WEALD_ECERTIFICATE and what else weald_tls_connect fails with, WEALD_EPROTO (what
 * came is no HTTP), WEALD_EPIPE (the server has hung up before the head's end), WEALD_ECONNRESET,
 * WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_EMFILE, WEALD_ENOMEM, or
 * the code of `body_fn`. */
weald_http_response weald_http_fetch(weald_http_client client, const char *url,
                                     const weald_http_fetch_options *how, int64_t deadline);

/* The status: 200. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_http_response_status(weald_http_response response);

/* The status's phrase, or "". NULL for a handle that is no response. Does not switch. */
const char *weald_http_response_reason(weald_http_response response);

/* The address that it comes from, which may be another than was asked for. NULL for a handle that
 * is no response. Does not switch. */
const char *weald_http_response_url(weald_http_response response);

/* The first header of that name, whatever its case; NULL when there is none. Does not switch. */
const char *weald_http_response_header(weald_http_response response, const char *name);

/* The `i`-th header, as weald_http_header_at. Returns 1, or 0 when there are not so many. Does not
 * switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_http_response_header_at(weald_http_response response, size_t i, const char **name,
                                  const char **value);

/* How many bytes of the body are still to be read; -1 when nobody knows. Does not switch. Fails
 * with WEALD_EBADF, WEALD_EPERM. */
int64_t weald_http_response_left(weald_http_response response);

/* Reads what is there of the body, up to `len` bytes, and waits while that is nothing; 0 at its
 * end. May switch. Returns how many. Fails with WEALD_EPIPE (the server has hung up before the
 * end), WEALD_EPROTO (the chunks are none), WEALD_EBADF, WEALD_EINVAL (`buffer` NULL), WEALD_EPERM,
 * WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
 * a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET, WEALD_ECONNABORTED
 * (of TLS that was cut). */
int64_t weald_http_response_read(weald_http_response response, void *buffer, size_t len,
                                 int64_t deadline);

/* Reads what is left of the body, up to `max` bytes: `*data` is its memory, which is the caller's,
 * for weald_free, with a NUL behind its `*len` bytes (`len` NULL: not wanted). What a call that
 * fails has read is lost, also when it was too late: another one gets what comes behind it. May
 * switch. Returns 0. Fails with WEALD_EMSGSIZE (longer than `max`), WEALD_EPIPE (the server has
 * hung up before the end), WEALD_EPROTO (the chunks are none), WEALD_EBADF, WEALD_EINVAL (`data`
 * NULL), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
 * WEALD_ECONNRESET, WEALD_ECONNABORTED (of TLS that was cut). */
int weald_http_response_read_all(weald_http_response response, size_t max, void **data, size_t *len,
                                 int64_t deadline);

/* ----------------------------------------------------------------------------------------------
 * WebSocket.
 *
 * In a handler of weald_http_server_new, weald_websocket_accept makes a request a connection of
 * WebSocket; weald_websocket_connect makes one as a client. Messages come and go as wholes, or in
 * parts by the functions that end with _part. Pings are answered, and rules watched, by whoever
 * receives: let a greenlet receive as long as the connection is to live.
 *
 * What is sent is taken over whole or not at all, and goes by itself when the socket has room;
 * weald_websocket_send waits while more than `max_unsent` bytes have not gone. Any number of
 * greenlets may send, and one receive (WEALD_EBUSY).
 * ---------------------------------------------------------------------------------------------- */

/* What a message is: UTF-8, or bytes. */
#define WEALD_WEBSOCKET_TEXT 1
#define WEALD_WEBSOCKET_BINARY 2

/* To be sent alone: the library receives and answers them. */
#define WEALD_WEBSOCKET_PING 9
#define WEALD_WEBSOCKET_PONG 10

/* Messages are compressed, if the other side does so too (permessage-deflate). Costs some 300 KB a
 * connection, and time. */
#define WEALD_WEBSOCKET_DEFLATE 1

/* With that: each message by itself. */
#define WEALD_WEBSOCKET_NO_CONTEXT 2

/* Of weald_websocket_new: this side is the client. */
#define WEALD_WEBSOCKET_CLIENT 4

/* Of weald_websocket_broadcast: who has no room is hung up on. */
#define WEALD_WEBSOCKET_DROP_SLOW 8

/* A handle to a connection. */
typedef int64_t weald_websocket;

/* How a connection is to be; begin with `{.size = sizeof options}`. */
typedef struct weald_websocket_options {
  size_t size;
  /* WEALD_WEBSOCKET_DEFLATE, WEALD_WEBSOCKET_NO_CONTEXT, WEALD_WEBSOCKET_CLIENT. */
  int flags;
  /* The longest message to be received, inflated; 0: 1 MiB. */
  size_t max_message;
  /* How much may wait to go before a send waits; 0: 256 KiB. */
  size_t max_unsent;
  /* Subprotocols, with commas: of a server, the best first; the first that a client offers is
   * taken. */
  const char *protocols;
  /* Of a server: the Origins that may connect, with commas, "https://oak.example"; NULL: all. Pages
   * of any site can connect to a server with their reader's cookies if it does not look. */
  const char *origins;
  /* Of a client: more lines for the request, each with its "\r\n". */
  const char *headers;
  /* Of a client: for "wss:", from weald_tls_client. */
  weald_tls_config tls;
} weald_websocket_options;

/* Makes the connection of a request one of WebSocket. A request that does not ask for that, or may
 * not, is answered, and the call fails. The connection is closed when the handler returns; close
 * the handle as well, and before that end it with weald_websocket_close. May switch. Fails with
 * WEALD_EPROTO (it does not ask for WebSocket, or not as it should), WEALD_EACCES (its Origin is
 * none of `origins`), WEALD_EINVAL (`size`, flags, a text that is none; the request has a body),
 * WEALD_EALREADY (it has been answered), WEALD_EPIPE (the client has left), WEALD_EBADF,
 * WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM, WEALD_ECONNRESET. */
weald_websocket weald_websocket_accept(weald_http_request request,
                                       const weald_websocket_options *options, int64_t deadline);

/* Connects to `url`, "ws://host:port/path" or "wss:". weald_error_message(weald_self()) says what a
 * server that does not agree has answered. May switch. Fails with WEALD_EINVAL (`url`, `size`,
 * flags, a text that is none; "wss:" without `tls`), WEALD_EPROTO (the server does not agree), the
 * codes of weald_tcp_connect and weald_tls_connect, WEALD_EBADF (`tls`), WEALD_ECONNRESET,
 * WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM. */
weald_websocket weald_websocket_connect(const char *url, const weald_websocket_options *options,
                                        int64_t deadline);

/* Speaks WebSocket over a stream on which somebody else has shaken hands, as the server, or as the
 * client with WEALD_WEBSOCKET_CLIENT; WEALD_WEBSOCKET_DEFLATE: that has been agreed, with its usual
 * parameters. The stream is the connection's from now on. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM, WEALD_EINVAL (`size`, flags, a text that is none; a stream of a file), WEALD_ENOMEM;
 * then the stream is the caller's. */
weald_websocket weald_websocket_new(weald_stream s, const weald_websocket_options *options);

/* Receives the next message and returns what it is, WEALD_WEBSOCKET_TEXT or WEALD_WEBSOCKET_BINARY;
 * 0 when the other side has closed. `*data` points to it until the next call that receives from `w`
 * or closes it; `*len` is its length. May switch. Fails with WEALD_EPROTO (the other side has
 * broken a rule, and has been told), WEALD_EMSGSIZE (the message is longer than `max_message`; it
 * has been told), WEALD_ECONNABORTED (the connection has ended without a close), WEALD_EINVAL
 * (`data` or `len` NULL), WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY,
 * WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
 * WEALD_ECONNRESET. After the first three the connection is of no use; weald_websocket_close_reason
 * says more. */
int weald_websocket_receive(weald_websocket w, const void **data, size_t *len, int64_t deadline);

/* As weald_websocket_receive, for messages that are too large to be held whole: what has come of
 * one is given at once, in as many calls as that takes, and `*last` is 1 when the message ends with
 * it. A part of text may end in the middle of a character, and a last part may be empty.
 * `max_message` bounds only what a compressed message inflates to. weald_websocket_receive gives
 * the rest of a message that has been begun. May switch. Fails with WEALD_EPROTO, WEALD_EMSGSIZE,
 * WEALD_ECONNABORTED (as weald_websocket_receive), WEALD_EINVAL (`data`, `len` or `last` NULL),
 * WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_websocket_receive_part(weald_websocket w, const void **data, size_t *len, int *last,
                                 int64_t deadline);

/* Sends a message, WEALD_WEBSOCKET_TEXT or WEALD_WEBSOCKET_BINARY, or a ping or pong of up to 125
 * bytes. It is taken over whole, or the call fails and nothing is sent. May switch, while more than
 * `max_unsent` bytes have not gone. Returns 0. Fails with WEALD_EPIPE (one of both has closed, or
 * the other side is gone), WEALD_EINVAL (`what`; `data` NULL; text that is no UTF-8; a ping that is
 * too long), WEALD_EBUSY (another message goes in parts), WEALD_EBADF (also when it is closed
 * meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM. */
int weald_websocket_send(weald_websocket w, int what, const void *data, size_t len,
                         int64_t deadline);

/* Sends a message in parts, as it comes to be: with `last` 0 more parts follow, in other calls with
 * the same `what`, WEALD_WEBSOCKET_TEXT or WEALD_WEBSOCKET_BINARY. A part of text may end in the
 * middle of a character. Until the last part other messages are WEALD_EBUSY, and a broadcast passes
 * this connection over; pings may be sent. Each part is taken over whole, or the call fails and
 * nothing of it is sent. May switch, as weald_websocket_send. Returns 0. Fails with WEALD_EPIPE
 * (one of both has closed, or the other side is gone), WEALD_EINVAL (`what`, also when the message
 * is of the other kind; `data` NULL; text that is no UTF-8), WEALD_EBADF (also when it is closed
 * meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_ENOMEM. */
int weald_websocket_send_part(weald_websocket w, int what, const void *data, size_t len, int last,
                              int64_t deadline);

/* Sends one message to `n` connections, made into a frame once and never compressed. It waits for
 * nobody: who has more than `max_unsent` bytes to get is passed over, or hung up on with
 * WEALD_WEBSOCKET_DROP_SLOW in `flags`. Passed over are also handles that would be WEALD_EBADF, or
 * WEALD_EPERM, and connections that are closing, or on which a message goes in parts. Does not
 * switch. Returns how many get it. Fails with WEALD_EINVAL (`what`, flags; `all` or `data` NULL;
 * text that is no UTF-8). */
int64_t weald_websocket_broadcast(const weald_websocket *all, size_t n, int what, const void *data,
                                  size_t len, int flags);

/* Closes a connection in good order: says so, with a code of RFC 6455 (0: 1000, the usual one) and
 * a reason of up to 123 bytes (NULL: none), lets go what was sent before, and waits for the answer;
 * messages that come before that are dropped. While another greenlet receives, it gets the answer,
 * and this waits until all has gone. The handle stays. May switch. Returns 0. Fails with
 * WEALD_EINVAL (`code`, `reason`), WEALD_EPIPE (the other side is gone), WEALD_EPROTO,
 * WEALD_EMSGSIZE, WEALD_ECONNABORTED (as in weald_websocket_receive), WEALD_EBADF (also when it is
 * closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. */
int weald_websocket_close(weald_websocket w, int code, const char *reason, int64_t deadline);

/* The code with which the other side has closed, 1005 when it gave none; 1006 when it was gone
 * without a word; the code with which it was told that it has broken a rule; 0 before that. Does
 * not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_websocket_close_code(weald_websocket w);

/* The reason that goes with it; "" if there is none, and for a bad handle. Never NULL; good until
 * `w` is closed. Does not switch. */
const char *weald_websocket_close_reason(weald_websocket w);

/* The subprotocol that was agreed; "" if there is none, and for a bad handle. Never NULL; good
 * until `w` is closed. Does not switch. */
const char *weald_websocket_protocol(weald_websocket w);

/* How many bytes have been taken over and have not gone. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int64_t weald_websocket_unsent(weald_websocket w);

/* The connection's descriptor, which stays its own: for addresses and options. Does not switch.
 * Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_websocket_fd(weald_websocket w);

/* ----------------------------------------------------------------------------------------------
 * Files.
 *
 * What can take time at a disk or a server runs in threads of the library's, at most sixteen at a
 * time, while the greenlets go on. Whoever waits may leave at any time, by deadline, kill or
 * interrupt: a call that has not begun then never will. One that has begun goes on in its thread,
 * which touches no memory of the caller's: what it still opens is closed, what it still reads is
 * dropped, but what it writes or removes is written or removed. Do not close its descriptor
 * meanwhile.
 *
 * Descriptors are plain ones, and other calls may be made on them as well. Names are looked for
 * from the folder that the process is in. Every code with which the system refuses may come, as
 * -EISDIR or -ENOSPC.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to what a folder holds. */
typedef int64_t weald_folder;

/* Opens a file as open(2) does, with its `flags` and, for a new file, its `mode`: a descriptor,
 * which no child inherits. May switch. Fails with WEALD_EINVAL (`name` NULL), WEALD_ENOENT,
 * WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM. */
int weald_file_open(const char *name, int flags, unsigned int mode, int64_t deadline);

/* Closes a descriptor that may take its time, of a file on a server perhaps, and tells what became
 * of earlier writes. It is closed in any case, also when the call fails with another code than
 * WEALD_EBADF; greenlets of this thread that wait for it get WEALD_EBADF. May switch. Returns 0.
 * Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM. */
int weald_file_close(int fd, int64_t deadline);

/* Reads `len` bytes at `offset`, fewer only at the end of the file, or when something fails after
 * the first of them; the file's own position stays. What the system has in memory is read at once,
 * without a thread. May switch. Returns how many. Fails with WEALD_EINVAL (`buffer` NULL; an
 * `offset` below 0), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM. */
int64_t weald_file_read(int fd, void *buffer, size_t len, int64_t offset, int64_t deadline);

/* Writes `len` bytes at `offset`, fewer only when something fails after the first of them; the
 * file's own position stays. The bytes are copied, a megabyte at a time. When the call fails the
 * first of them may still be written, see above. May switch. Returns how many. Fails with
 * WEALD_EINVAL (`data` NULL; an `offset` below 0), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN
 * (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM. */
int64_t weald_file_write(int fd, const void *data, size_t len, int64_t offset, int64_t deadline);

/* Waits until what was written to `fd` is on the disk; with `data_only` as fdatasync(2) does, else
 * as fsync(2). May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW,
 * or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a
 * child that a callback has forked meanwhile), WEALD_ENOMEM. */
int weald_file_sync(int fd, int data_only, int64_t deadline);

/* Makes a file `length` bytes long. May switch. Returns 0. Fails with WEALD_EINVAL (below 0; not
 * opened to be written), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be
 * had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
 * callback has forked meanwhile), WEALD_ENOMEM. */
int weald_file_truncate(int fd, int64_t length, int64_t deadline);

/* Fills in `*status` as stat(2) does. May switch. Returns 0. Fails with WEALD_EINVAL (`name` or
 * `status` NULL), WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM. */
int weald_file_stat(const char *name, struct stat *status, int64_t deadline);

/* As weald_file_stat, of a symbolic link itself. May switch. Returns 0. Fails with WEALD_EINVAL
 * (`name` or `status` NULL), WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be
 * had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
 * callback has forked meanwhile), WEALD_ENOMEM. */
int weald_file_lstat(const char *name, struct stat *status, int64_t deadline);

/* As weald_file_stat, of an open descriptor. May switch. Returns 0. Fails with WEALD_EINVAL
 * (`status` NULL), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM. */
int weald_file_fstat(int fd, struct stat *status, int64_t deadline);

/* Gives a file or folder another name, in the place of what had it before. May switch. Returns 0.
 * Fails with WEALD_EINVAL (`from` or `to` NULL; into itself), WEALD_ENOENT, WEALD_EPERM,
 * WEALD_EAGAIN (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
 * WEALD_ENOMEM. */
int weald_file_rename(const char *from, const char *to, int64_t deadline);

/* Removes a file, or a symbolic link, as unlink(2) does. May switch. Returns 0. Fails with
 * WEALD_EINVAL (`name` NULL), WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to
 * be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
 * callback has forked meanwhile), WEALD_ENOMEM. */
int weald_file_remove(const char *name, int64_t deadline);

/* Makes a folder, as mkdir(2) does. May switch. Returns 0. Fails with WEALD_EINVAL (`name` NULL),
 * WEALD_ENOENT (the one that it would be in), WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to
 * be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
 * callback has forked meanwhile), WEALD_ENOMEM. */
int weald_folder_make(const char *name, unsigned int mode, int64_t deadline);

/* Removes a folder that is empty. May switch. Returns 0. Fails with WEALD_EINVAL (`name` NULL),
 * WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM. */
int weald_folder_remove(const char *name, int64_t deadline);

/* Reads what a folder holds, all of it: a handle, for weald_folder_next. Close it. May switch.
 * Fails with WEALD_EINVAL (`name` NULL), WEALD_ENOENT, WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN
 * (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
 * WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM. */
weald_folder weald_folder_read(const char *name, int64_t deadline);

/* The next name in a folder, in the order of their bytes, without "." and "..": 1, with `*name`,
 * which is good until the folder is closed, and in `*kind` (NULL: not wanted) what it is, as
 * readdir(3) says it: DT_REG, DT_DIR, or DT_UNKNOWN where that takes weald_file_lstat. 0 behind the
 * last. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`name` NULL). */
int weald_folder_next(weald_folder folder, const char **name, int *kind);

/* ----------------------------------------------------------------------------------------------
 * Processes.
 *
 * A process is a child of this one, made by weald_process_spawn in any thread, greenlet or
 * callback. It is reaped as soon as it ends and the loop runs, whether or not somebody waits for
 * it, and also when its handle was closed before: there are no zombies. Somebody else in the
 * process may still reap it first, with a waitpid of his own; then it is WEALD_ECHILD.
 *
 * Descriptors of the library's are never inherited by a child. Wait statuses are those of
 * waitpid(2); weald_exit_code and weald_exit_signal read them.
 * ---------------------------------------------------------------------------------------------- */

/* What a child gets as one of its first three descriptors: this process's own. */
#define WEALD_INHERIT 0

/* /dev/null. */
#define WEALD_NULL (-1)

/* A pipe; weald_process_fd is its other end. */
#define WEALD_PIPE (-2)

/* For `err`: the same as `out`. */
#define WEALD_TO_OUT (-3)

/* For `flags`: the child leads a new session, without a terminal. */
#define WEALD_NEW_SESSION 1

/* For `flags`: the child has no descriptors but the first three and `fds`. Otherwise it inherits
 * all that are not close-on-exec. */
#define WEALD_CLOSE_FDS 2

/* A handle to a process. */
typedef int64_t weald_process;

/* How to start a program; see weald_process_spawn. What is zero or NULL is inherited. `in`, `out`
 * and `err` are WEALD_INHERIT, WEALD_NULL, WEALD_PIPE, or a descriptor above 0, which the child
 * gets a copy of. */
typedef struct weald_process_options {
  /* sizeof(weald_process_options) */
  size_t size;
  /* The program's file; NULL: argv[0]. */
  const char *program;
  /* NAME=value, up to a NULL. */
  const char *const *env;
  /* Where it runs. */
  const char *cwd;
  int in;
  int out;
  int err;
  /* WEALD_NEW_SESSION, WEALD_CLOSE_FDS. */
  int flags;
  /* What the child has as descriptors 3, 4 and so on; negative: as without this. */
  const int *fds;
  size_t fds_count;
} weald_process_options;

/* What goes into a child and what comes out; see weald_process_communicate. */
typedef struct weald_process_io {
  /* sizeof(weald_process_io) */
  size_t size;
  /* What it reads; NULL: nothing. */
  const void *input;
  size_t input_size;
  /* How much it may write, to each of the two; 0: as much as it likes. */
  size_t limit;
  /* Filled in: what it wrote, with a NUL behind it; NULL when that was no pipe. For weald_free. */
  char *out;
  size_t out_size;
  char *err;
  size_t err_size;
  /* Filled in: its wait status. */
  int status;
} weald_process_io;

/* Starts a program with the arguments `argv`, which end with a NULL; `options` may be NULL. A
 * program without a slash in its name is looked for in the PATH of the environment that it will
 * have; a relative one is looked for from `cwd`. In the child no signal is blocked, and what this
 * process catches does what it does by default, as does SIGPIPE. Returns when the program has been
 * found and begun, as vfork(2) does, at no cost that grows with this process. Close it: a child
 * that runs goes on, and its pipes are closed. Does not switch. Fails with WEALD_EINVAL (`argv` or
 * its first NULL; a number or flag that has no meaning; more descriptors than it may have),
 * WEALD_EBADF (a descriptor that is not open), WEALD_EAGAIN (no more processes), WEALD_ENOMEM,
 * WEALD_EMFILE, WEALD_ENOENT (no such program or folder), or another code with which chdir(2) or
 * execve(2) failed, as WEALD_EACCES. */
weald_process weald_process_spawn(const char *const *argv, const weald_process_options *options);

/* The process's number. It is not given to another process before this one has been reaped; use
 * weald_process_kill, which knows. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int weald_process_pid(weald_process p);

/* The other end of a pipe that the child has as descriptor `which`: 0 to write, 1 or 2 to read. It
 * does not block: a call that would fails with EAGAIN, so wait with weald_wait_read or
 * weald_wait_write. It remains the process's, and is closed with it. Does not switch. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (another number), WEALD_ENOENT (no pipe, or closed). */
int weald_process_fd(weald_process p, int which);

/* Closes what weald_process_fd returns: 0, and the child reads the end of its input. Greenlets that
 * wait for it get WEALD_ECANCELED. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM,
 * WEALD_EINVAL (another number), WEALD_ENOENT (no pipe, or closed). */
int weald_process_close_fd(weald_process p, int which);

/* Waits until the process has ended; its wait status is in `*status` (NULL: not wanted). Any number
 * of greenlets may wait, and one that comes later gets it as well. The process runs on when the
 * wait fails. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile),
 * WEALD_EPERM, WEALD_ECHILD (reaped by somebody else; in a forked child, to which it does not
 * belong), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
int weald_process_wait(weald_process p, int *status, int64_t deadline);

/* 1 when the process has ended, with its wait status in `*status` (NULL: not wanted), else 0. Does
 * not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ECHILD (as weald_process_wait). */
int weald_process_poll(weald_process p, int *status);

/* Sends the process a signal, and never another one that has its number by now. 0 only looks
 * whether one may. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM (also when the
 * process has become another user's), WEALD_EINVAL (no such signal), WEALD_EALREADY (it has ended),
 * WEALD_ECHILD (as weald_process_wait). */
int weald_process_kill(weald_process p, int signo);

/* Talks to a process to its end: writes `input` to it and closes that pipe, reads what it writes,
 * both at a time so that neither side gets stuck, and waits for it. A process that does not read
 * its input is not a failure. What has come when it has ended counts: one of its own children that
 * keeps the pipe open is not waited for.
 *
 * On success `out`, `err`, their sizes and `status` of `*io` are filled in; give `out` and `err` to
 * weald_free. When the call fails what was written and read is kept: call it again, with the same
 * input, to go on, or kill and close the process. It may have read from the pipes before.
 *
 * May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EINVAL
 * (`io` or `input` NULL; a size that no version of it has had), WEALD_EBUSY (another greenlet does
 * it), WEALD_EMSGSIZE (it wrote more than `limit`; it is not killed), WEALD_ECHILD (as
 * weald_process_wait), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
 * WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
int weald_process_communicate(weald_process p, weald_process_io *io, int64_t deadline);

/* Runs `command` in /bin/sh and waits for it, as system(3) does, while other greenlets go on; the
 * wait status is in `*status` (NULL: not wanted). When the wait is cut short the shell is killed,
 * but not what it has started. May switch. Returns 0. Fails with WEALD_EINVAL (`command` NULL),
 * WEALD_EPERM, WEALD_ECHILD (reaped by somebody else), WEALD_EAGAIN (WEALD_NOW, or no more
 * processes), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM. */
int weald_system(const char *command, int *status, int64_t deadline);

/* Starts `command` in /bin/sh with a pipe, as popen(3) does: `mode` "r" to read what it writes, "w"
 * to write what it reads, "rw" for both; see weald_process_fd. Close it after a weald_process_wait,
 * which together are pclose(3). Does not switch. Fails with WEALD_EINVAL (`command` NULL; another
 * mode), WEALD_EAGAIN (no more processes), WEALD_ENOMEM, WEALD_EMFILE. */
weald_process weald_popen(const char *command, const char *mode);

/* What a shell says of a wait status: the exit status, or 128 and the number of the signal that
 * ended the process. Never fails. From any thread; does not switch. */
int weald_exit_code(int status);

/* The signal that ended the process, or 0 when it ended by itself. Never fails. From any thread;
 * does not switch. */
int weald_exit_signal(int status);

/* Frees memory that a function of the library has allocated for its caller, where its comment says
 * so; NULL is fine. From any thread; does not switch. Never fails. */
void weald_free(void *memory);

/* ----------------------------------------------------------------------------------------------
 * Messages between processes.
 *
 * A channel carries messages, each whole and in order, between this process and one that it has
 * forked, or any other at the end of a pipe; each side goes on with its other greenlets meanwhile.
 * One greenlet may send and one receive at a time. On the wire a message is its length, four bytes
 * with the lowest first, and its bytes.
 *
 * A call that is cut short leaves the channel in step. What has come of a message is kept for the
 * next weald_channel_receive. A message of which nothing has gone was not sent; the rest of one
 * that has begun to go is kept, and goes first with the next weald_channel_send or
 * weald_channel_flush; weald_channel_unsent tells which.
 * ---------------------------------------------------------------------------------------------- */

/* A handle to one end of a channel. */
typedef int64_t weald_channel;

/* What a forked child does; its exit status. See weald_process_fork. */
typedef int (*weald_child_fn)(weald_channel, void*);

/* Makes the two ends of a channel, for this process and a child that fork(2) will make, or for two
 * greenlets: each side closes the end that is not its own. `limit` is the length of the longest
 * message, either way; 0: 16 MiB. A program that is started instead does not inherit them. Does not
 * switch. Returns 0. Fails with WEALD_EINVAL (`ends` NULL; a limit of 4 GiB or more), WEALD_EMFILE,
 * WEALD_ENOMEM. */
int weald_channel_pair(weald_channel *ends, size_t limit);

/* Makes a channel of descriptors: to read from and to write to, two pipes or one socket that stands
 * in both places. They are the channel's from now on, and closed with it. `limit` as above. Does
 * not switch. Fails with WEALD_EBADF, WEALD_EINVAL (a regular file; a limit of 4 GiB or more),
 * WEALD_ENOMEM; then the descriptors are the caller's still. */
weald_channel weald_channel_open(int read_fd, int write_fd, size_t limit);

/* Sends a message of `len` bytes, which may be none. What the other side has no room for waits
 * until it receives. When the call fails see weald_channel_unsent. May switch. Returns 0. Fails
 * with WEALD_EBADF (also when it is closed meanwhile), WEALD_EINVAL (`data` NULL), WEALD_EMSGSIZE
 * (longer than the limit), WEALD_EPIPE (the other end has been closed, or this one shut),
 * WEALD_EBUSY (another greenlet sends), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
 * WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
 * meanwhile), WEALD_ENOMEM. */
int weald_channel_send(weald_channel channel, const void *data, size_t len, int64_t deadline);

/* Sends what is left of a message whose weald_channel_send was cut short. May switch. Returns 0.
 * Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPIPE (the other end has been
 * closed, or this one shut), WEALD_EBUSY (another greenlet sends), WEALD_EPERM, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM. */
int weald_channel_flush(weald_channel channel, int64_t deadline);

/* How many bytes are left of a message that has begun to go, 0 when there is none: after a
 * weald_channel_send that failed, 0 says that its message was not sent and may be sent again. Does
 * not switch. Fails with WEALD_EBADF, WEALD_EPERM. */
int64_t weald_channel_unsent(weald_channel channel);

/* Receives the next message: `*data` is its memory, which is the caller's, for weald_free, with a
 * NUL behind its `*len` bytes. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
 * closed meanwhile), WEALD_EINVAL (`data` or `len` NULL), WEALD_EPIPE (the other end has been
 * closed or shut, and all that it has sent has been received), WEALD_EPROTO (it was closed in the
 * middle of a message), WEALD_EMSGSIZE (longer than the limit: it is dropped, and the next call
 * goes on behind it), WEALD_EBUSY (another greenlet receives), WEALD_EPERM, WEALD_EAGAIN,
 * WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
 * has forked meanwhile), WEALD_ENOMEM. */
int weald_channel_receive(weald_channel channel, void **data, size_t *len, int64_t deadline);

/* Ends this side's sending: the other one receives what has been sent and then WEALD_EPIPE. What
 * has not gone yet, see weald_channel_unsent, never will. Does not switch. Returns 0. Fails with
 * WEALD_EBADF, WEALD_EPERM, WEALD_EPIPE (shut already), or a code with which shutdown(2) failed. */
int weald_channel_shut(weald_channel channel);

/* The descriptor that a channel reads from (`which` WEALD_READ) or writes to (WEALD_WRITE), for
 * weald_poll and weald_wait; it remains the channel's. Does not switch. Fails with WEALD_EBADF,
 * WEALD_EPERM, WEALD_EINVAL (another number), WEALD_EPIPE (shut). */
int weald_channel_fd(weald_channel channel, int which);

/* Forks a child that calls `f` with its end of a new channel and `arg`, in a copy of this process
 * as fork(2) makes it, with this greenlet and its hub, and ends with what `f` returns as its exit
 * status: what stdio holds is written, exit handlers do not run. `*channel` is the other end, for
 * this side; close it. The child has none of this thread's other channels nor the pipes of its
 * processes, so that closing them here is seen there. The process is waited for like any other; to
 * join it, weald_process_wait. Does not switch. Fails with WEALD_EINVAL (`f` or `channel` NULL; a
 * limit of 4 GiB or more), WEALD_EPERM (a hook forbids to wait now), WEALD_EWOULDBLOCK (in a
 * callback, whose stack is no place to go on), WEALD_ECANCELED, WEALD_ETIMEDOUT (a surrounding
 * weald_timeout has passed), WEALD_EAGAIN (no more processes), WEALD_EMFILE, WEALD_ENOMEM. */
weald_process weald_process_fork(weald_child_fn f, void *arg, weald_channel *channel, size_t limit);

/* ----------------------------------------------------------------------------------------------
 * Patching.
 *
 * Makes C libraries cooperative that know nothing of greenlets: what they call in the C library
 * (poll, read, connect, sleep, getaddrinfo...) then parks the calling greenlet alone. The addresses
 * are exchanged in memory, in the libraries that are named or in all; no file is changed. A call
 * that is not made by a greenlet stays the C library's: on threads without a hub, in callbacks of
 * the loop, in signal handlers, in constructors, and where a binding forbids to park.
 *
 * Patched calls return what the C library's return, -1 and errno; a killed greenlet's fail with
 * ECANCELED, and those whose weald_timeout has passed with ETIMEDOUT. O_NONBLOCK, MSG_DONTWAIT,
 * SO_RCVTIMEO and SO_SNDTIMEO keep their meaning. What stays blocking: direct system calls, stdio,
 * files, locks of pthreads, calls with a signal mask, and functions whose address somebody took
 * before. The program itself and the libraries that it is linked with are patched alike; the C
 * library, its parts, the loader, sanitizers and this library never are.
 *
 * For Linux on x86-64 with glibc; elsewhere all of it fails with WEALD_ENOSYS.
 * ---------------------------------------------------------------------------------------------- */

/* poll, ppoll, select, pselect, epoll_wait, epoll_pwait. */
#define WEALD_PATCH_POLL 1

/* read, write, readv, writev, recv, recvfrom, recvmsg, send, sendto, sendmsg. */
#define WEALD_PATCH_TRANSFER 2

/* connect, accept, accept4, close. */
#define WEALD_PATCH_SOCKET 4

/* sleep, usleep, nanosleep, clock_nanosleep. */
#define WEALD_PATCH_SLEEP 8

/* getaddrinfo, getnameinfo, gethostbyname, gethostbyaddr and their like. */
#define WEALD_PATCH_NAMES 16

/* waitpid and wait4 for one child that ends. */
#define WEALD_PATCH_PROCESS 32

/* Patches the functions of `set` (WEALD_PATCH_..., or'd; 0: all of them) in the program and in
 * every library that is loaded, and in those that are loaded later: before dlsym gives out anything
 * of theirs, or when weald_patch_update is called. Sets of several calls add up. Returns how many
 * slots lead to this library now. From any thread; does not switch. Fails with WEALD_EINVAL (other
 * bits), WEALD_ENOENT (there is no /proc), WEALD_EMFILE, WEALD_ENOMEM, WEALD_ENOSYS. */
int weald_patch_all(int set);

/* As weald_patch_all, for one library: `name` is its path, its file's name or its soname, as
 * "libpq.so.5"; NULL: the program. When it is unloaded and loaded again, call it once more. Returns
 * how many of its slots lead to this library now. From any thread; does not switch. Fails with
 * WEALD_EINVAL (other bits; an empty name, or no UTF-8), WEALD_ENOENT (no such library is loaded;
 * there is no /proc), WEALD_EPERM (one that is never patched), WEALD_EACCES (its pages are sealed),
 * WEALD_EAGAIN (another thread is loading it), WEALD_EMFILE, WEALD_ENOMEM, WEALD_ENOSYS. */
int weald_patch_library(const char *name, int set);

/* Patches what was loaded since. Returns how many slots lead to this library now. From any thread;
 * does not switch. Fails with WEALD_ENOENT (there is no /proc), WEALD_EMFILE, WEALD_ENOMEM,
 * WEALD_ENOSYS. */
int weald_patch_update(void);

/* Undoes all of it: every slot leads where it led before. Calls under way end as they would have.
 * Returns how many slots there were. From any thread; does not switch. Fails with WEALD_ENOENT
 * (there is no /proc), WEALD_EACCES (pages have been sealed since), WEALD_EMFILE, WEALD_ENOMEM,
 * WEALD_ENOSYS. */
int weald_unpatch(void);

/* Writes to `fd`, for every library that is patched: how many slots each function has, how often it
 * was called, and how many of those calls waited. Calls are counted by the address that they return
 * to. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EAGAIN,
 * WEALD_EPIPE, or whatever else write(2) fails with; WEALD_ENOSYS. */
int weald_patch_report(int fd);

/* ----------------------------------------------------------------------------------------------
 * Insight, and hooks for bindings.
 * ---------------------------------------------------------------------------------------------- */

/* Counters of this thread's hub. */
typedef struct weald_stats {
  /* sizeof(weald_stats) */
  size_t size;
  /* Greenlets made, and ended, so far. */
  uint64_t spawned;
  uint64_t finished;
  /* Greenlets that have started and not ended. */
  uint64_t alive;
  /* Greenlets ready to run. */
  uint64_t ready;
  /* About how many times greenlets were resumed: brought up to date once a turn. */
  uint64_t resumes;
  /* Turns of the loop, and times that it asked the kernel for events. */
  uint64_t turns;
  uint64_t polls;
  /* Timers set, and descriptors waited for. */
  uint64_t timers;
  uint64_t descriptors;
  /* Open handles. */
  uint64_t handles;
  /* Address space taken for stacks. */
  uint64_t stack_bytes;
} weald_stats;

/* Called with a greenlet and its user word (see weald_user). It must not use the library but to
 * look things up. */
typedef void (*weald_switch_hook)(weald_greenlet g, void *user);

/* Hooks for a binding that must save its interpreter's state. Every one may be NULL. */
typedef struct weald_hooks {
  /* sizeof(weald_hooks) */
  size_t size;
  /* On its own stack, just before it suspends, and at its end. Main's as well. */
  weald_switch_hook leave;
  /* On its own stack, after each resume and before it begins. Main's as well. */
  weald_switch_hook enter;
  /* When it has been made, before the call that makes it returns. The user word is that of the
   * options; NULL without options. */
  weald_switch_hook created;
  /* When it has ended, not on its own stack: in the loop, or, if it had not begun, in the call that
   * ended it. Greenlets that the end of a hub abandons do not finish. */
  weald_switch_hook finished;
  /* Asked before each wait; 0 forbids it: the call fails with WEALD_EPERM. It must not use the
   * library but to look things up. */
  int (*may_park)(void);
  /* Around the loop's sleep in the kernel; `interrupted` is 1 when a signal ended it. Like the
   * loop's callbacks they must not block. */
  void (*block_begin)(void);
  void (*block_end)(int interrupted);
} weald_hooks;

/* Writes to `fd`, for every greenlet of this thread: its name, age, state, what it waits for and
 * how long, where it was spawned, how much of its stack it has touched. Does not switch. Returns 0.
 * Fails with WEALD_EBADF, WEALD_EAGAIN, WEALD_EPIPE, or whatever else write(2) fails with. */
int weald_dump(int fd);

/* Fills in the counters; set `stats->size` first. Does not switch. Returns 0. Fails with
 * WEALD_EINVAL (NULL, or a size that can not be). */
int weald_stats_get(weald_stats *stats);

/* Writes the handles of this thread's greenlets (main first) to `out`, at most `n`, and returns how
 * many there are; they are borrowed. One that has ended is among them while its handle is open.
 * Does not switch. Fails with WEALD_EINVAL (`out` NULL and `n` not 0). */
int64_t weald_list(weald_greenlet *out, size_t n);

/* Gets the bounds of the stack of `g`, for conservative collectors: `*low` up to, not including,
 * `*high`. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (NULL),
 * WEALD_ENOENT (main, or it has no stack now: not begun, or ended). */
int weald_stack_bounds(weald_greenlet g, void **low, void **high);

/* How many bytes of its stack `g` (or an earlier user of the same stack) has touched: a high-water
 * mark in pages. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ENOENT (main, or it
 * has no stack now: not begun, or ended). */
int64_t weald_stack_used(weald_greenlet g);

/* Gets the memory above the frames of the running greenlet's stack, which nobody uses: the frames
 * of each begin at another place of the stack's last page. What is above them is the caller's until
 * the greenlet ends. `*at` (NULL if there is none) is a multiple of 16. Does not switch. Returns
 * how many bytes there are, up to 1920; main has none. Fails with WEALD_EINVAL (NULL). */
int64_t weald_stack_spare(void **at);

/* Sets this thread's hooks; copied. NULL takes them away. Does not switch. Returns 0. Fails with
 * WEALD_EINVAL (a size that can not be). */
int weald_set_hooks(const weald_hooks *hooks);

/* The user word of `g`; NULL if none was set, for a bad handle, and for another thread's. Does not
 * switch. */
void *weald_user(weald_greenlet g);

/* Sets the user word of `g`, which hooks get. Does not switch. Returns 0. Fails with WEALD_EBADF,
 * WEALD_EPERM. */
int weald_set_user(weald_greenlet g, void *user);

#ifdef __cplusplus
}
#endif

#endif /* WEALD_H */
