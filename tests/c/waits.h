/* One of each blocking call of the library's core, in a state in which none of them can end by itself: for claims that
 * hold for all of them (killed, interrupted, out of time, in a callback, forbidden by a binding). */
#ifndef WEALD_TEST_WAITS_H
#define WEALD_TEST_WAITS_H

#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/select.h>

/* What they wait for: an event that is never set, a greenlet that waits for it, an iterator over that greenlet, a pipe
 * that is empty and one that is full. */
static weald_event waits_event;
static weald_greenlet waits_greenlet;
static weald_handle waits_iterator;
static int waits_empty[2], waits_full[2];

static void *waits_for_ever(void *arg)
{
    (void)arg;
    weald_event_wait(waits_event, WEALD_FOREVER);
    return NULL;
}

static TEST_UNUSED void waits_prepare(void)
{
    char zeros[4096] = {0};

    LEAKS("the greenlet that waits for ever is abandoned, and keeps its event");
    waits_event = weald_event_new(0);
    waits_greenlet = weald_spawn(waits_for_ever, NULL);
    waits_iterator = weald_iwait(&waits_greenlet, 1);
    CHECK_GT(waits_event, 0);
    CHECK_GT(waits_greenlet, 0);
    CHECK_GT(waits_iterator, 0);
    CHECK_EQ(weald_yield(), 0); /* it waits now */
    CHECK_EQ(pipe2(waits_empty, O_NONBLOCK), 0);
    CHECK_EQ(pipe2(waits_full, O_NONBLOCK), 0);
    while (write(waits_full[1], zeros, sizeof zeros) > 0)
        ;
    CHECK_EQ(errno, EAGAIN);
}

static int waits_join(int64_t d) { return weald_join(waits_greenlet, d); }
static int waits_joinall(int64_t d) { return (int)weald_joinall(&waits_greenlet, 1, 0, 0, d); }
static int waits_join_any(int64_t d) { return (int)weald_join_any(&waits_greenlet, 1, d); }
static int waits_get(int64_t d) { return weald_get(waits_greenlet, NULL, d); }
static int waits_read(int64_t d) { return weald_wait_read(waits_empty[0], d); }
static int waits_write(int64_t d) { return weald_wait_write(waits_full[1], d); }
static int waits_fd(int64_t d) { return weald_wait_fd(waits_empty[0], WEALD_READ, d); }
static int waits_event_wait(int64_t d) { return weald_event_wait(waits_event, d); }

static int waits_iwait_next(int64_t d)
{
    weald_greenlet g;
    return weald_iwait_next(waits_iterator, &g, d);
}

static int waits_poll(int64_t d)
{
    struct pollfd fd = {.fd = waits_empty[0], .events = POLLIN};
    return weald_poll(&fd, 1, d);
}

static int waits_select(int64_t d)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(waits_empty[0], &set);
    return weald_select(waits_empty[0] + 1, &set, NULL, NULL, d);
}

static int waits_sleep(int64_t d)
{
    (void)d;
    return weald_sleep(WEALD_SEC(100));
}

enum {
    WAITS_FOR_FDS = 1,        /* never a deadlock */
    WAITS_FOR_TIME = 2,       /* has no deadline but its own */
    WAITS_AND_RETURNS_0 = 4,  /* at its deadline, as poll(2) does */
};

static const struct waits {
    const char *name;
    int (*call)(int64_t deadline);
    int what;
} waits[] = {
    {"weald_join", waits_join, 0},
    {"weald_joinall", waits_joinall, 0},
    {"weald_join_any", waits_join_any, 0},
    {"weald_iwait_next", waits_iwait_next, 0},
    {"weald_get", waits_get, 0},
    {"weald_event_wait", waits_event_wait, 0},
    {"weald_wait_read", waits_read, WAITS_FOR_FDS},
    {"weald_wait_write", waits_write, WAITS_FOR_FDS},
    {"weald_wait_fd", waits_fd, WAITS_FOR_FDS},
    {"weald_poll", waits_poll, WAITS_FOR_FDS | WAITS_AND_RETURNS_0},
    {"weald_select", waits_select, WAITS_FOR_FDS | WAITS_AND_RETURNS_0},
    {"weald_sleep", waits_sleep, WAITS_FOR_TIME},
};

enum { WAITS = sizeof waits / sizeof *waits };

/* A check that says which of them it was. */
#define WAITS_CHECK(w, got, wanted)                                               \
    do {                                                                          \
        int waits_got = (got), waits_wanted = (wanted);                           \
        if (waits_got != waits_wanted) {                                          \
            fprintf(stderr, "%s:%d: %s returned %d %s, not %d %s\n", __FILE__, __LINE__, (w)->name, waits_got, \
                    test_code(waits_got), waits_wanted, test_code(waits_wanted)); \
            test_leave(TEST_FAILED);                                              \
        }                                                                         \
    } while (0)

#endif /* WEALD_TEST_WAITS_H */
