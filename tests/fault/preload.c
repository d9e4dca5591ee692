/* Makes system calls fail: loaded with LD_PRELOAD before the unmodified library.
 *
 *     WEALD_FAULT=epoll_ctl:3             the third epoll_ctl after fault_arm() fails
 *     WEALD_FAULT=guard:1+,mprotect:2     every guard page by madvise fails, and the second mprotect
 *
 * The scenario finds fault_arm, fault_disarm and fault_hit by dlsym, so that it also runs without us. Only calls made
 * by name are seen: those of libweald and of the program, not the C library's own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

enum { MOST_WISHES = 4 };

struct wish {
    char name[32];
    long nth;
    int for_ever; /* from the nth on, instead of once */
    atomic_long seen;
};

static struct wish wishes[MOST_WISHES];
static int wish_count;
static atomic_int armed, hit;

__attribute__((constructor)) static void read_wishes(void)
{
    const char *at = getenv("WEALD_FAULT");

    while (at && *at && wish_count < MOST_WISHES) {
        struct wish *w = &wishes[wish_count];
        char plus = 0;

        if (sscanf(at, "%31[^:]:%ld%c", w->name, &w->nth, &plus) < 2)
            return;
        w->for_ever = plus == '+';
        wish_count++;
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
}

void fault_arm(void) { atomic_store(&armed, 1); }
void fault_disarm(void) { atomic_store(&armed, 0); }

/* Whether something failed that fails once: what fails for ever is a property of the machine. */
int fault_hit(void) { return atomic_load(&hit); }

static int fails(const char *name)
{
    for (int i = 0; i < wish_count && atomic_load(&armed); i++) {
        struct wish *w = &wishes[i];
        long n;

        if (strcmp(name, w->name) != 0)
            continue;
        n = atomic_fetch_add(&w->seen, 1) + 1;
        if (n == w->nth && !w->for_ever)
            atomic_store(&hit, 1);
        if (n == w->nth || (n > w->nth && w->for_ever))
            return 1;
    }
    return 0;
}

/* The function of the C library that ours stands before. Looked up at each call: the place is not hot. */
#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

#define FAIL_WITH(name, code, value)                                              \
    if (fails(name)) {                                                            \
        errno = code;                                                             \
        return value;                                                             \
    }

typedef void *(*mmap_fn)(void *, size_t, int, int, int, off_t);
void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    FAIL_WITH("mmap", ENOMEM, MAP_FAILED)
    return REAL(mmap_fn, "mmap")(at, len, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    FAIL_WITH("mmap", ENOMEM, MAP_FAILED)
    return REAL(mmap_fn, "mmap64")(at, len, prot, flags, fd, offset);
}

typedef int (*mprotect_fn)(void *, size_t, int);
int mprotect(void *at, size_t len, int prot)
{
    FAIL_WITH("mprotect", ENOMEM, -1)
    return REAL(mprotect_fn, "mprotect")(at, len, prot);
}

/* Guard pages without a mapping of their own; kernels before 6.13 answer EINVAL. */
enum { GUARD_INSTALL = 102 };

typedef int (*madvise_fn)(void *, size_t, int);
int madvise(void *at, size_t len, int advice)
{
    FAIL_WITH(advice == GUARD_INSTALL ? "guard" : "madvise", EINVAL, -1)
    return REAL(madvise_fn, "madvise")(at, len, advice);
}

/* Calls for which the C library has no name, or had none for long. */
typedef long (*syscall_fn)(long, ...);
long syscall(long number, ...)
{
    long a[6];
    va_list rest;

    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_process_madvise)
        FAIL_WITH(a[3] == GUARD_INSTALL ? "guard" : "process_madvise", EINVAL, -1)
    if (number == SYS_pidfd_open)
        FAIL_WITH("pidfd_open", EMFILE, -1)
    return REAL(syscall_fn, "syscall")(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

typedef int (*one_int_fn)(int);
int epoll_create1(int flags)
{
    FAIL_WITH("epoll_create1", EMFILE, -1)
    return REAL(one_int_fn, "epoll_create1")(flags);
}

typedef int (*epoll_ctl_fn)(int, int, int, struct epoll_event *);
int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    /* Taking a descriptor out cannot fail for want of anything. */
    if (op != EPOLL_CTL_DEL)
        FAIL_WITH("epoll_ctl", ENOMEM, -1)
    return REAL(epoll_ctl_fn, "epoll_ctl")(epfd, op, fd, event);
}

typedef int (*eventfd_fn)(unsigned, int);
int eventfd(unsigned count, int flags)
{
    FAIL_WITH("eventfd", EMFILE, -1)
    return REAL(eventfd_fn, "eventfd")(count, flags);
}

typedef int (*timerfd_fn)(int, int);
int timerfd_create(int clock, int flags)
{
    FAIL_WITH("timerfd_create", EMFILE, -1)
    return REAL(timerfd_fn, "timerfd_create")(clock, flags);
}

typedef int (*pipe2_fn)(int *, int);
int pipe2(int ends[2], int flags)
{
    FAIL_WITH("pipe2", EMFILE, -1)
    return REAL(pipe2_fn, "pipe2")(ends, flags);
}

typedef int (*fcntl_fn)(int, int, ...);
static int fcntl_as(const char *name, int fd, int command, long argument)
{
    FAIL_WITH("fcntl", EMFILE, -1)
    return REAL(fcntl_fn, name)(fd, command, argument);
}

#define FCNTL(name)                                                               \
    int name(int fd, int command, ...)                                            \
    {                                                                             \
        va_list rest;                                                             \
        long argument;                                                            \
        va_start(rest, command);                                                  \
        argument = va_arg(rest, long);                                            \
        va_end(rest);                                                             \
        return fcntl_as(#name, fd, command, argument);                            \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

typedef int (*pthread_create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *arg)
{
    if (fails("pthread_create"))
        return EAGAIN; /* its own way to say so */
    return REAL(pthread_create_fn, "pthread_create")(thread, attr, body, arg);
}

typedef int (*sigaction_fn)(int, const struct sigaction *, struct sigaction *);
int sigaction(int signo, const struct sigaction *action, struct sigaction *before)
{
    FAIL_WITH("sigaction", EINVAL, -1)
    return REAL(sigaction_fn, "sigaction")(signo, action, before);
}

typedef int (*sigaltstack_fn)(const stack_t *, stack_t *);
int sigaltstack(const stack_t *stack, stack_t *before)
{
    FAIL_WITH("sigaltstack", ENOMEM, -1)
    return REAL(sigaltstack_fn, "sigaltstack")(stack, before);
}
