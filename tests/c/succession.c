/* Greenlets by the thousand, and one after another on one stack. */
#include "bodies.h"

/* ---- in numbers ---- */

static void *one_wait(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_event_wait(gate, WEALD_FOREVER);
}

TEST(a_million_spawns_and_kills_take_no_more_than_a_thousand)
{
    long rounds = test_rounds(1000), rss = 0;
    int fds = 0, mappings = 0;

    make_gate();
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < 1000; i++) {
            weald_greenlet g = weald_spawn(one_wait, NULL);
            CHECK_GT(g, 0);
            if (i % 3)
                CHECK_EQ(weald_yield(), 0); /* two of three have begun */
            CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
            CHECK_EQ(weald_close(g), 0);
        }
        if (round == rounds / 10) {
            rss = test_rss();
            fds = test_fds();
            mappings = test_mappings();
        }
    }
    CHECK_EQ(test_fds(), fds);
    if (*test_under() == '\0') {
        CHECK_LE(test_mappings(), mappings + 4);
        CHECK_LT(test_rss() - rss, 1L << 20);
    }
    CHECK_EQ(weald_close(gate), 0);
}

TEST(a_burst_of_greenlets_gives_its_memory_back)
{
    enum { N = 20000 };
    static weald_greenlet gs[N];
    long peak;

    if (*test_under())
        SKIP("memory is counted on the bare machine");
    make_gate();
    for (int i = 0; i < N; i++)
        gs[i] = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_yield(), 0);
    peak = test_rss();
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_joinall(gs, N, 0, 0, WEALD_FOREVER), N);
    for (int i = 0; i < N; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    for (int i = 0; i < 100 && test_rss() > peak / 2; i++)
        CHECK_EQ(weald_sleep(WEALD_MS(50)), 0);
    CHECK_LE(test_rss(), peak / 2);
    CHECK_EQ(weald_close(gate), 0);
}

/* One that ends hands its stack on to the next, if that has not begun. */
static char *frames[8];
static int begun;

static void *note_its_frame(void *arg)
{
    char here;

    frames[begun++] = &here;
    return arg;
}

static void *note_and_yield(void *arg)
{
    note_its_frame(arg);
    CHECK_EQ(weald_yield(), 0);
    return arg;
}

TEST(those_that_begin_one_after_another_have_values_and_locals_of_their_own)
{
    weald_greenlet g[8];
    void *value;
    int low = 0;

    begun = 0;
    for (int i = 0; i < 8; i++)
        g[i] = weald_spawn(i == 3 ? note_and_yield : note_its_frame, NULL);
    CHECK_EQ(weald_kill(g[1], 0, WEALD_NOW), 0); /* in the middle of the chain */
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(begun, 7);
    CHECK_EQ(weald_joinall(g, 8, 0, 0, WEALD_FOREVER), 8);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(weald_get(g[i], &value, WEALD_NOW), i == 1 ? WEALD_ECANCELED : 0);
        CHECK_EQ(weald_close(g[i]), 0);
    }
    /* The one that yielded kept its stack, so those after it had another. */
    for (int i = 3; i < 7; i++)
        low += labs(frames[i] - frames[2]) < 4096;
    CHECK_LE(low, 1);
}

static int ends_left;

static void *spawn_the_next(void *arg)
{
    if (ends_left-- > 0)
        CHECK_EQ(weald_go(spawn_the_next, arg), 0);
    return arg;
}

TEST(a_chain_that_never_ends_by_itself_does_not_starve_timers)
{
    ends_left = 10 * 1000 * 1000;
    CHECK_EQ(weald_go(spawn_the_next, NULL), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_GT(ends_left, 0);
    ends_left = 0;
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

static void *join_itself(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_join(weald_self(), WEALD_FOREVER);
}

TEST(a_greenlet_does_not_wait_for_its_own_end)
{
    weald_greenlet g = weald_spawn(join_itself, NULL);
    void *code = NULL;

    CHECK_GT(g, 0);
    CHECK_EQ(weald_get(g, &code, WEALD_FOREVER), 0);
    CHECK_EQ((int)(intptr_t)code, WEALD_EDEADLK);
    CHECK_EQ(weald_close(g), 0);
}

static void *end_here(void *arg) { return arg; }

static void *use_much_stack(void *arg)
{
    volatile char much[600 * 1024];

    for (size_t i = sizeof much; i > 0; i -= 1024)
        much[i - 1] = 1;
    return much[1023] == 1 ? arg : NULL;
}

TEST(who_begins_where_another_ends_has_a_stack_of_its_own_size)
{
    weald_spawn_options large = {.size = sizeof large, .stack_size = 1024 * 1024};

    for (int i = 0; i < 10; i++) {
        weald_greenlet g;
        void *value = NULL;

        CHECK_EQ(weald_go(end_here, NULL), 0);
        CHECK_GT(g = weald_spawn_with(use_much_stack, &large, &large), 0);
        CHECK_EQ(weald_go(end_here, NULL), 0);
        CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
        CHECK_PTR(value, &large);
        CHECK_EQ(weald_close(g), 0);
    }
}

TEST(those_that_begin_on_one_stack_promise_themselves_no_others)
{
    uint64_t before = 0;

    for (int i = 0; i < 100; i++) {
        for (int j = 0; j < 50; j++)
            CHECK_EQ(weald_go(end_here, NULL), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        if (i == 0)
            before = test_stats().stack_bytes;
    }
    CHECK_EQ(test_stats().stack_bytes, before);
}
