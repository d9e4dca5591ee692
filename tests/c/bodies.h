/* Bodies of greenlets that many tests have use for, and handlers: they note who ran, wait at a gate, fail, must not run. */
#ifndef WEALD_TEST_BODIES_H
#define WEALD_TEST_BODIES_H

#include "greenlets.h"

/* Who has run, in turn. */
static TEST_UNUSED char order[64];

static TEST_UNUSED void *note(void *arg)
{
    strcat(order, (const char *)arg);
    return arg;
}

static TEST_UNUSED void *note_twice(void *arg)
{
    note(arg);
    CHECK_EQ(weald_yield(), 0);
    return note(arg);
}

static TEST_UNUSED weald_event gate; /* opened by a test that wants those who wait at it to go on */

static TEST_UNUSED void *wait_at_gate(void *arg)
{
    int code = weald_event_wait(gate, WEALD_FOREVER);
    return code == 0 ? arg : weald_fail(code, NULL);
}

static TEST_UNUSED void make_gate(void) { CHECK_GT(gate = weald_event_new(0), 0); }

static TEST_UNUSED void *return_it(void *arg) { return arg; }

static TEST_UNUSED void *never_called(void *arg)
{
    (void)arg;
    fprintf(stderr, "the body of a greenlet ran that must not\n");
    test_leave(TEST_FAILED);
}

static TEST_UNUSED void *fail_silently(void *arg) { return weald_fail((int)(intptr_t)arg, NULL); }

static TEST_UNUSED void ignore_failure(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message, (void)user;
}

static TEST_UNUSED void ignore_report(const char *text, void *user) { (void)text, (void)user; }

static TEST_UNUSED int destroyed;
static TEST_UNUSED void count_destroyed(void *arg)
{
    (void)arg;
    destroyed++;
}

static TEST_UNUSED weald_spawn_options options(void)
{
    weald_spawn_options o;
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    return o;
}

static TEST_UNUSED weald_greenlet destroyable(weald_fn fn)
{
    weald_spawn_options o = options();
    weald_greenlet g;

    o.destroy = count_destroyed;
    g = weald_greenlet_new(fn, NULL, &o);
    CHECK_GT(g, 0);
    return g;
}

static TEST_UNUSED void join_and_close(weald_greenlet g)
{
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

static TEST_UNUSED void drain(void)
{
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weald_yield(), 0);
}

static TEST_UNUSED void *fail(void *arg) { return weald_fail(WEALD_EINVAL, (const char *)arg); }

static TEST_UNUSED int reported;
static TEST_UNUSED void count_report(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g;
    CHECK_EQ(code, WEALD_EINVAL);
    CHECK_STR(message, (const char *)user);
    reported++;
}

static TEST_UNUSED void *sleep_until_arg(void *arg)
{
    return (void *)(intptr_t)weald_sleep_until(*(int64_t *)arg);
}

#endif
