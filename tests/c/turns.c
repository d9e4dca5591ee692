/* Sleeping and yielding: whose turn it is. */
#include "bodies.h"

/* ---- time and turns ---- */

static void *yield_and_note(void *arg)
{
    for (int i = 0; i < 3; i++) {
        note(arg);
        CHECK_EQ(weald_yield(), 0);
    }
    return NULL;
}

TEST(a_yield_goes_behind_everything_that_is_ready)
{
    CHECK_EQ(weald_go(note, (char[]){"a"}), 0);
    CHECK_EQ(weald_go(yield_and_note, (char[]){"b"}), 0);
    CHECK_EQ(weald_go(note, (char[]){"c"}), 0);
    CHECK_EQ(weald_yield(), 0);
    strcat(order, "-");
    CHECK_EQ(weald_yield(), 0);
    strcat(order, "-");
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "abc-b-b");
}

TEST(no_or_negative_sleep_is_one_yield)
{
    const int64_t naps[] = {0, -1, WEALD_SEC(-1), INT64_MIN};

    CHECK_EQ(weald_go(yield_and_note, (char[]){"a"}), 0);
    CHECK_EQ(weald_sleep(naps[0]), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_sleep(naps[1]), 0);
    CHECK_STR(order, "aa");
    CHECK_EQ(weald_sleep(naps[2]), 0);
    CHECK_STR(order, "aaa");
    CHECK_EQ(weald_sleep(naps[3]), 0);
}

TEST(sleeping_until_what_has_passed_is_one_yield)
{
    CHECK_EQ(weald_go(yield_and_note, (char[]){"a"}), 0);
    CHECK_EQ(weald_sleep_until(1), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_sleep_until(weald_now() - 1), 0);
    CHECK_STR(order, "aa");
    CHECK_EQ(weald_sleep_until(WEALD_NOW), 0);
    CHECK_STR(order, "aaa");
    CHECK_EQ(weald_sleep_until(-2), 0);
}

struct nap {
    int64_t until;
    const char *name;
};

static void *sleep_and_note(void *arg)
{
    const struct nap *nap = (const struct nap *)arg;
    CHECK_EQ(weald_sleep_until(nap->until), 0);
    CHECK_GE(weald_now(), nap->until);
    strcat(order, nap->name);
    return NULL;
}

TEST(sleepers_wake_in_the_order_of_their_deadlines)
{
    int64_t soon = weald_after(WEALD_MS(100)); /* all of them sleep by then */
    struct nap naps[] = {{soon + 400, "d"}, {soon + 100, "a"}, {soon + 300, "c"}, {soon + 200, "b"}};

    for (int i = 0; i < 4; i++)
        CHECK_EQ(weald_go(sleep_and_note, &naps[i]), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "abcd");
}

TEST(equal_deadlines_wake_in_the_order_they_were_set)
{
    int64_t due = weald_after(WEALD_MS(100)); /* all of them sleep by then */
    struct nap naps[] = {{due, "a"}, {due, "b"}, {due, "c"}, {due, "d"}, {due, "e"}};

    for (int i = 0; i < 5; i++)
        CHECK_EQ(weald_go(sleep_and_note, &naps[i]), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "abcde");
}

static void *sleep_int64_max(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_sleep(INT64_MAX);
}

TEST(a_sleep_of_int64_max_lasts_until_it_is_killed)
{
    void *code = NULL;
    weald_greenlet g = spawned(sleep_int64_max, NULL);

    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_ready(g), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_value(g, &code), 0);
    CHECK_EQ((intptr_t)code, WEALD_ECANCELED);
    CHECK_EQ(weald_close(g), 0);
}

TEST(main_alone_can_not_sleep_for_ever)
{
    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_EDEADLK);
}

TEST(many_sleepers_with_few_deadlines_all_wake)
{
    enum { N = 20000 };
    static int64_t due[N];
    static weald_greenlet gs[N];
    int64_t began = weald_now();

    for (int i = 0; i < N; i++) {
        due[i] = began + WEALD_US((i * 7919) % 1000);
        gs[i] = spawned(sleep_until_arg, &due[i]);
    }
    CHECK_EQ(weald_joinall(gs, N, 0, 0, WEALD_FOREVER), N);
    for (int i = 0; i < N; i++) {
        void *code = &began;
        CHECK_EQ(weald_value(gs[i], &code), 0);
        CHECK_PTR(code, NULL);
        CHECK_EQ(weald_close(gs[i]), 0);
    }
}

static void *idle_and_note(void *arg)
{
    const struct nap *nap = (const struct nap *)arg;
    CHECK_EQ(weald_idle((int)nap->until), 0);
    strcat(order, nap->name);
    return NULL;
}

TEST(an_idle_greenlet_goes_on_when_nothing_else_is_ready)
{
    struct nap nap = {0, "i"};

    CHECK_EQ(weald_go(idle_and_note, &nap), 0);
    CHECK_EQ(weald_go(yield_and_note, (char[]){"a"}), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "aaai");
}

TEST(of_the_idle_the_highest_priority_goes_first_and_equals_in_order)
{
    struct nap naps[] = {{0, "c"}, {5, "a"}, {-3, "e"}, {5, "b"}, {0, "d"}, {INT32_MIN, "f"}};

    for (int i = 0; i < 6; i++)
        CHECK_EQ(weald_go(idle_and_note, &naps[i]), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "abcdef");
}

static void *idle_code(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_idle(0);
}

TEST(an_idle_greenlet_can_be_killed)
{
    void *code = NULL;
    weald_greenlet g = spawned(idle_code, NULL);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_value(g, &code), 0);
    CHECK_EQ((intptr_t)code, WEALD_ECANCELED);
    CHECK_EQ(weald_close(g), 0);
}

static int yields;
static void *count_yields(void *going)
{
    while (*(int *)going) {
        yields++;
        CHECK_EQ(weald_yield(), 0);
    }
    return NULL;
}

/* However short: its time may pass while the call looks at the clock. */
TEST(every_sleep_lets_the_others_run)
{
    int going = 1;
    weald_greenlet g = spawned(count_yields, &going);

    CHECK_EQ(weald_yield(), 0);
    for (int64_t ns = 0; ns < 400; ns++)
        for (int i = 0; i < 50; i++) {
            int before = yields;
            CHECK_EQ(weald_sleep(ns), 0);
            CHECK_GT(yields, before);
        }
    going = 0;
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

static int idle_in_callback;
static void idle_in_loop(void *arg)
{
    (void)arg;
    idle_in_callback = weald_idle(7);
}

TEST(an_idle_call_that_is_refused_forgets_nobody_who_is_idle)
{
    struct nap nap = {0, "i"};
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_go(idle_and_note, &nap), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_post(hub, idle_in_loop, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_run(weald_after(WEALD_SEC(1))), 0);
    CHECK_EQ(idle_in_callback, WEALD_EWOULDBLOCK);
    CHECK_STR(order, "i");
}

static int flag;
static void *set_flag_after_1ms(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    flag = 1;
    return arg;
}

TEST(one_that_only_yields_does_not_starve_a_sleeper)
{
    CHECK_EQ(weald_go(set_flag_after_1ms, NULL), 0);
    while (!flag)
        CHECK_EQ(weald_yield(), 0);
}

static void *yield_until_flag(void *arg)
{
    while (!flag)
        CHECK_EQ(weald_yield(), 0);
    return arg;
}

TEST(many_that_only_yield_do_not_starve_a_sleeper)
{
    for (int i = 0; i < 200; i++)
        CHECK_EQ(weald_go(yield_until_flag, NULL), 0);
    CHECK_EQ(weald_go(set_flag_after_1ms, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(flag, 1);
}

static void *keep_errno(void *arg)
{
    for (int i = 0; i < 5; i++) {
        errno = (int)(intptr_t)arg;
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(errno, (intptr_t)arg);
        CHECK_EQ(weald_sleep(WEALD_US(10)), 0);
        CHECK_EQ(errno, (intptr_t)arg);
    }
    return NULL;
}

TEST(errno_survives_every_switch_of_many_greenlets)
{
    for (intptr_t i = 1; i < 20; i++)
        CHECK_EQ(weald_go(keep_errno, (void *)i), 0);
    errno = 99;
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(errno, 99);
}
