/* Barriers: so many greenlets meet, then all go on. */
#include "greenlets.h"

#include <pthread.h>

static weald_barrier barrier;
static char order[64];

static void *meet(void *name)
{
    int code = weald_barrier_wait(barrier, WEALD_FOREVER);

    strcat(order, (const char *)name);
    return (void *)(intptr_t)code;
}

/* A greenlet that waits already. */
static weald_greenlet waiter(const char *name) { return parked(meet, (void *)(intptr_t)name); }

TEST(the_last_to_arrive_gets_one_and_the_others_zero)
{
    weald_greenlet a, b;

    barrier = weald_barrier_new(3);
    CHECK_EQ(weald_kind(barrier), WEALD_KIND_BARRIER);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), 1);
    CHECK_STR(order, ""); /* the last one does not wait */
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_close(barrier), 0);
}

static void *meet_often(void *rounds)
{
    intptr_t last = 0;

    for (intptr_t i = 0; i < (intptr_t)rounds; i++)
        last += weald_barrier_wait(barrier, WEALD_FOREVER) == 1;
    return (void *)last;
}

TEST(it_can_be_used_again_and_again_with_one_last_a_round)
{
    intptr_t rounds = test_rounds(3000), last = 0;
    weald_greenlet g[4];

    barrier = weald_barrier_new(4);
    for (int i = 0; i < 4; i++)
        g[i] = weald_spawn(meet_often, (void *)rounds);
    for (int i = 0; i < 4; i++)
        last += code_of(g[i]);
    CHECK_EQ(last, rounds);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(a_barrier_of_one_never_waits)
{
    barrier = weald_barrier_new(1);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), 1);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), 1);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(the_last_one_may_come_with_now)
{
    weald_greenlet a;

    barrier = weald_barrier_new(2);
    a = waiter("a");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), 1);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(one_that_does_not_wait_has_not_arrived_and_breaks_nothing)
{
    weald_greenlet a;

    barrier = weald_barrier_new(3);
    a = waiter("a");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_state(a), WEALD_STATE_PARKED);
    CHECK_EQ(weald_close(barrier), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
}

/* ---- broken ---- */

TEST(one_that_leaves_at_its_deadline_breaks_it)
{
    weald_greenlet a;
    int64_t began = test_clock();

    barrier = weald_barrier_new(3);
    a = waiter("a");
    CHECK_EQ(weald_barrier_wait(barrier, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(code_of(a), WEALD_EPIPE);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), WEALD_EPIPE); /* for those who come as well */
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), WEALD_EPIPE);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(one_that_is_killed_breaks_it)
{
    weald_greenlet a, b;

    barrier = weald_barrier_new(3);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), WEALD_EPIPE);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(one_that_is_interrupted_breaks_it_whatever_the_code)
{
    static const int codes[] = {WEALD_EINTR, WEALD_EPIPE, WEALD_EBADF, WEALD_ECANCELED};

    for (int i = 0; i < 4; i++) {
        weald_greenlet a, b;
        barrier = weald_barrier_new(3);
        a = waiter("a");
        b = waiter("b");
        CHECK_EQ(weald_interrupt(a, codes[i]), 0);
        CHECK_EQ(code_of(a), codes[i]);
        CHECK_EQ(code_of(b), WEALD_EPIPE);
        CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), WEALD_EPIPE);
        CHECK_EQ(weald_close(barrier), 0);
    }
}

TEST(one_that_is_killed_after_all_have_met_breaks_nothing)
{
    weald_greenlet a, b;

    barrier = weald_barrier_new(3);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), 1);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 0);
    a = waiter("a"); /* the next round is a whole one */
    b = waiter("b");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), 1);
    CHECK_EQ(code_of(a) | code_of(b), 0);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(abort_breaks_it_until_reset)
{
    weald_greenlet a;

    barrier = weald_barrier_new(2);
    a = waiter("a");
    CHECK_EQ(weald_barrier_abort(barrier), 0);
    CHECK_EQ(code_of(a), WEALD_EPIPE);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_barrier_abort(barrier), 0);
    CHECK_EQ(weald_barrier_reset(barrier), 0);
    a = waiter("a");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), 1);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(reset_sends_away_who_waits_and_the_next_round_is_a_whole_one)
{
    weald_greenlet a, b, c;

    barrier = weald_barrier_new(3);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_barrier_reset(barrier), 0);
    c = waiter("c"); /* arrives before a and b have run */
    CHECK_EQ(code_of(a), WEALD_EPIPE);
    CHECK_EQ(code_of(b), WEALD_EPIPE);
    a = waiter("a");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), 1);
    CHECK_EQ(code_of(a) | code_of(c), 0);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(one_that_was_sent_away_and_killed_does_not_break_the_next_round)
{
    weald_greenlet a, b;

    barrier = weald_barrier_new(2);
    a = waiter("a");
    CHECK_EQ(weald_barrier_reset(barrier), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_LT(code_of(a), 0);
    b = waiter("b");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), 1);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_close(barrier), 0);
}

TEST(closing_it_wakes_everybody_with_ebadf)
{
    weald_greenlet a, b;

    barrier = weald_barrier_new(9);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_close(barrier), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(code_of(b), WEALD_EBADF);
}

/* ---- codes ---- */

TEST(no_parties_are_einval) { CHECK_EQ(weald_barrier_new(0), WEALD_EINVAL); }

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_event event = weald_event_new(0);
    weald_handle bad[3];

    barrier = weald_barrier_new(1);
    CHECK_EQ(weald_close(barrier), 0);
    bad[0] = barrier;
    bad[1] = 0;
    bad[2] = event;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_barrier_wait(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_barrier_abort(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_barrier_reset(bad[i]), WEALD_EBADF);
    }
    CHECK_EQ(weald_close(event), 0);
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_barrier_abort(barrier), WEALD_EPERM);
    CHECK_EQ(weald_barrier_reset(barrier), WEALD_EPERM);
    return arg;
}

TEST(another_threads_barrier_is_eperm)
{
    pthread_t thread;

    barrier = weald_barrier_new(1);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), 1);
    CHECK_EQ(weald_close(barrier), 0);
}

static void use_in_callback(void *arg)
{
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), WEALD_EAGAIN);
    ++*(int *)arg;
}

TEST(a_callback_must_not_wait_and_breaks_nothing)
{
    weald_handle hub = weald_hub();
    weald_greenlet a;
    int called = 0;

    barrier = weald_barrier_new(3);
    CHECK_EQ(weald_post(hub, use_in_callback, &called), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(called, 1);
    a = waiter("a");
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), WEALD_EAGAIN); /* nobody has been counted */
    CHECK_EQ(weald_close(barrier), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(weald_close(hub), 0);
}

TEST(a_wait_that_nobody_can_end_is_edeadlk_and_breaks_it)
{
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    barrier = weald_barrier_new(2);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_barrier_wait(barrier, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(barrier), 0);
}
