/* What the tests of primitives need of greenlets: one that waits already, what one has returned, a ban on waiting. */
#ifndef WEALD_TEST_GREENLETS_H
#define WEALD_TEST_GREENLETS_H

#include "test.h"

static TEST_UNUSED weald_greenlet spawned(weald_fn body, void *arg)
{
    weald_greenlet g = weald_spawn(body, arg);

    CHECK_GT(g, 0);
    return g;
}

/* A greenlet that waits already. */
static TEST_UNUSED weald_greenlet parked(weald_fn body, void *arg)
{
    weald_greenlet g = spawned(body, arg);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    return g;
}

/* What the greenlet returned; it is closed. */
static TEST_UNUSED int code_of(weald_greenlet g)
{
    void *value = NULL;

    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    return (int)(intptr_t)value;
}

/* The same, when it should not take long. */
static TEST_UNUSED intptr_t outcome(weald_greenlet g)
{
    void *value = NULL;

    CHECK_EQ(weald_get(g, &value, weald_after(WEALD_SEC(20))), 0);
    CHECK_EQ(weald_close(g), 0);
    return (intptr_t)value;
}

/* Counts the reports instead of printing them. */
static TEST_UNUSED void keep_quiet(const char *text, void *user)
{
    CHECK_NE(text[0], 0);
    ++*(int *)user;
}

static int greenlets_never(void) { return 0; }

/* A binding forbids to wait, until weald_set_hooks(NULL). */
static TEST_UNUSED void forbid_waits(void)
{
    weald_hooks hooks;

    memset(&hooks, 0, sizeof hooks);
    hooks.size = sizeof hooks;
    hooks.may_park = greenlets_never;
    CHECK_EQ(weald_set_hooks(&hooks), 0);
}

#endif
