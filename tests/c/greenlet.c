/* Spawn, join, get: the least that everything else stands on. */
#include "test.h"

static char order[64];

static void *note(void *arg)
{
    strcat(order, (const char *)arg);
    return arg;
}

static void *note_twice(void *arg)
{
    note(arg);
    CHECK_EQ(weald_yield(), 0);
    return note(arg);
}

TEST(a_spawned_greenlet_runs_when_the_spawner_waits)
{
    static char a[] = "a";
    weald_greenlet g = weald_spawn(note, a);

    CHECK_GT(g, 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
}

TEST(greenlets_take_turns_in_the_order_they_were_spawned)
{
    static char a[] = "a", b[] = "b", c[] = "c";
    weald_greenlet gs[3];

    gs[0] = weald_spawn(note_twice, a);
    gs[1] = weald_spawn(note_twice, b);
    gs[2] = weald_spawn(note_twice, c);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    CHECK_STR(order, "abcabc");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

TEST(get_hands_out_what_the_body_returned)
{
    static char a[] = "a";
    void *value = NULL;
    weald_greenlet g = weald_spawn(note, a);

    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, a);
    CHECK_EQ(weald_close(g), 0);
}

static void *fail(void *arg) { return weald_fail(WEALD_EINVAL, (const char *)arg); }

static int reported;
static void count_report(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g;
    CHECK_EQ(code, WEALD_EINVAL);
    CHECK_STR(message, (const char *)user);
    reported++;
}

TEST(a_failure_is_reported_once_and_kept)
{
    static char why[] = "no such tree";
    void *value = &reported;
    weald_greenlet g;

    CHECK_EQ(weald_set_error_handler(count_report, why), 0);
    g = weald_spawn(fail, why);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_PTR(value, &reported);
    CHECK_STR(weald_error_message(g), why);
    CHECK_EQ(reported, 1);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_join_at_its_deadline_is_etimedout)
{
    static char a[] = "a";
    int64_t began = test_clock();
    weald_greenlet g = weald_greenlet_new(note, a, NULL);

    CHECK_EQ(weald_join(g, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(20));
    CHECK_STR(order, "");
    CHECK_EQ(weald_close(g), 0);
}

TEST(joining_oneself_is_edeadlk) { CHECK_EQ(weald_join(weald_self(), WEALD_FOREVER), WEALD_EDEADLK); }

TEST(errno_is_each_greenlets_own)
{
    static char a[] = "a";
    weald_greenlet g = weald_spawn(note_twice, a);

    errno = ENOTTY;
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(errno, ENOTTY);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(errno, ENOTTY);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_sleep_is_not_shorter_than_asked)
{
    int64_t began = test_clock();

    CHECK_EQ(weald_sleep(WEALD_US(300)), 0);
    CHECK_GE(test_clock() - began, WEALD_US(300));
}
