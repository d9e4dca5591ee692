/* Timeouts: scopes that bound everything their greenlet does. */
#include "greenlets.h"
#include "waits.h"
#include <poll.h>
#include <pthread.h>

static weald_timeout started(int64_t ns)
{
    weald_timeout t = weald_timeout_start(ns);
    CHECK_GT(t, 0);
    return t;
}

static void ended(weald_timeout t)
{
    CHECK_EQ(weald_timeout_cancel(t), 0);
    CHECK_EQ(weald_close(t), 0);
}

/* ---- one ---- */

TEST(a_timeout_ends_a_sleep_at_its_time_and_no_earlier)
{
    int64_t began = test_clock();
    weald_timeout t = started(WEALD_MS(10));

    CHECK_EQ(weald_kind(t), WEALD_KIND_TIMEOUT);
    CHECK_EQ(weald_timeout_fired(t), 0);
    CHECK_EQ(weald_sleep(WEALD_SEC(100)), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(10));
    CHECK_EQ(weald_timeout_fired(t), 1);
    ended(t);
}

TEST(a_timeout_ends_every_kind_of_wait)
{
    waits_prepare();
    for (int i = 0; i < WAITS; i++) {
        weald_timeout t = started(WEALD_MS(2));
        WAITS_CHECK(&waits[i], waits[i].call(WEALD_FOREVER), WEALD_ETIMEDOUT);
        CHECK_EQ(weald_timeout_fired(t), 1);
        ended(t);
    }
}

TEST(from_its_time_on_every_wait_fails_at_once)
{
    weald_timeout t;

    waits_prepare();
    t = started(-1);
    for (int i = 0; i < WAITS; i++)
        WAITS_CHECK(&waits[i], waits[i].call(WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_yield(), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_idle(0), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_sleep(0), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(t), 1);
    ended(t);
    CHECK_EQ(weald_yield(), 0);
}

TEST(a_timeout_ends_idle_and_an_endless_sleep)
{
    weald_timeout t = started(WEALD_MS(2));

    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_ETIMEDOUT);
    ended(t);
}

TEST(a_wait_that_ends_in_time_is_not_touched)
{
    weald_timeout t = started(WEALD_SEC(100));

    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_timeout_fired(t), 0);
    ended(t);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

TEST(a_call_with_a_nearer_deadline_ends_at_that_and_the_timeout_has_not_fired)
{
    weald_timeout t;

    waits_prepare();
    t = started(WEALD_SEC(100));
    for (int i = 0; i < WAITS; i++) {
        if (waits[i].what & WAITS_FOR_TIME)
            continue;
        WAITS_CHECK(&waits[i], waits[i].call(weald_after(WEALD_MS(1))),
                    waits[i].what & WAITS_AND_RETURNS_0 ? 0 : WEALD_ETIMEDOUT);
        CHECK_EQ(weald_timeout_fired(t), 0);
    }
    ended(t);
}

TEST(a_timeout_of_int64_max_never_fires)
{
    weald_timeout t = started(INT64_MAX);

    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_timeout_fired(t), 0);
    ended(t);
}

TEST(a_timeout_of_int64_min_has_passed)
{
    weald_timeout t = started(INT64_MIN);

    CHECK_EQ(weald_sleep(WEALD_MS(1)), WEALD_ETIMEDOUT);
    ended(t);
}

TEST(a_timeout_that_is_not_noticed_has_not_fired)
{
    weald_timeout t = started(-1);

    CHECK_EQ(weald_timeout_fired(t), 0); /* no call has failed because of it */
    ended(t);
}

TEST(a_cancelled_timeout_still_tells_whether_it_fired)
{
    weald_timeout t = started(-1), u = started(WEALD_SEC(100));

    CHECK_EQ(weald_yield(), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_cancel(t), 0);
    CHECK_EQ(weald_timeout_cancel(u), 0);
    CHECK_EQ(weald_timeout_cancel(u), 0); /* again is no error */
    CHECK_EQ(weald_timeout_fired(t), 1);
    CHECK_EQ(weald_timeout_fired(u), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_close(t), 0);
    CHECK_EQ(weald_close(u), 0);
}

TEST(closing_a_timeout_ends_it)
{
    weald_timeout t = started(-1);

    CHECK_EQ(weald_close(t), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_timeout_fired(t), WEALD_EBADF);
}

TEST(a_timeout_bounds_a_join_that_would_be_a_deadlock)
{
    weald_timeout t;

    waits_prepare();
    t = started(WEALD_MS(5));
    CHECK_EQ(weald_join(waits_greenlet, WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(t), 1);
    ended(t);
}

/* ---- several ---- */

TEST(of_nested_timeouts_the_outer_may_be_the_one)
{
    weald_timeout outer = started(WEALD_MS(5)), inner = started(WEALD_SEC(100));

    CHECK_EQ(weald_sleep(WEALD_SEC(200)), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(outer), 1);
    CHECK_EQ(weald_timeout_fired(inner), 0);
    ended(inner);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), WEALD_ETIMEDOUT); /* still out of time */
    ended(outer);
}

TEST(of_nested_timeouts_the_inner_may_be_the_one_and_the_outer_goes_on)
{
    weald_timeout outer = started(WEALD_SEC(100)), inner = started(WEALD_MS(5));

    CHECK_EQ(weald_sleep(WEALD_SEC(200)), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(inner), 1);
    CHECK_EQ(weald_timeout_fired(outer), 0);
    ended(inner);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_timeout_restart(outer, WEALD_MS(1)), 0);
    CHECK_EQ(weald_sleep(WEALD_SEC(200)), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(outer), 1);
    ended(outer);
}

TEST(timeouts_need_not_end_in_the_order_they_began)
{
    weald_timeout a = started(WEALD_SEC(100)), b = started(WEALD_SEC(100)), c = started(WEALD_MS(1));

    ended(a);
    CHECK_EQ(weald_sleep(WEALD_SEC(200)), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(c), 1);
    ended(c);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_timeout_fired(b), 0);
    ended(b);
}

TEST(a_restarted_timeout_counts_from_now_whatever_became_of_it)
{
    int64_t began;
    weald_timeout t = started(-1);

    CHECK_EQ(weald_yield(), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_restart(t, WEALD_SEC(100)), 0);
    CHECK_EQ(weald_timeout_fired(t), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_timeout_cancel(t), 0);
    began = test_clock();
    CHECK_EQ(weald_timeout_restart(t, WEALD_MS(5)), 0); /* cancelled before */
    CHECK_EQ(weald_sleep(WEALD_SEC(100)), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_timeout_restart(t, WEALD_SEC(100)), 0);
    CHECK_EQ(weald_timeout_restart(t, -1), 0); /* running before */
    CHECK_EQ(weald_yield(), WEALD_ETIMEDOUT);
    ended(t);
    CHECK_EQ(weald_yield(), 0);
}

/* ---- whose ---- */

static void *sleep_a_little(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_sleep(WEALD_MS(5));
}

TEST(a_timeout_is_for_the_greenlet_that_started_it_alone)
{
    weald_timeout t = started(WEALD_MS(1));
    weald_greenlet g = spawned(sleep_a_little, NULL);

    CHECK_EQ(weald_sleep(WEALD_SEC(100)), WEALD_ETIMEDOUT);
    ended(t);
    CHECK_EQ(outcome(g), 0);
}

static weald_timeout theirs;

static void *sleep_under_a_timeout(void *arg)
{
    intptr_t code;

    theirs = started((intptr_t)arg);
    code = weald_sleep(WEALD_MS(60));
    return (void *)code;
}

TEST(only_its_own_greenlet_restarts_a_timeout)
{
    weald_greenlet g = spawned(sleep_under_a_timeout, (void *)WEALD_SEC(100));

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_timeout_restart(theirs, 1), WEALD_EPERM);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(weald_close(theirs), 0);
}

TEST(a_timeout_cancelled_by_another_greenlet_does_not_end_the_wait_it_is_in)
{
    weald_greenlet g = spawned(sleep_under_a_timeout, (void *)WEALD_MS(30));

    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_timeout_cancel(theirs), 0);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(weald_timeout_fired(theirs), 0);
    CHECK_EQ(weald_close(theirs), 0);
}

TEST(the_timeout_of_a_greenlet_that_has_ended_may_still_be_asked_and_closed)
{
    weald_greenlet g = spawned(sleep_under_a_timeout, (void *)WEALD_MS(2));

    CHECK_EQ(outcome(g), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(theirs), 1);
    CHECK_EQ(weald_timeout_restart(theirs, 1), WEALD_EPERM);
    CHECK_EQ(weald_timeout_cancel(theirs), 0);
    CHECK_EQ(weald_close(theirs), 0);
}

TEST(the_next_user_of_the_record_is_not_under_its_timeout)
{
    weald_greenlet g = spawned(sleep_under_a_timeout, (void *)WEALD_MS(2));

    CHECK_EQ(outcome(g), WEALD_ETIMEDOUT);
    g = spawned(sleep_a_little, NULL);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(weald_close(theirs), 0);
}

/* ---- a call that is late and succeeds all the same ---- */

static void spin(int64_t ns)
{
    int64_t until = test_clock() + ns;
    while (test_clock() < until)
        ;
}

static int pipe_ends[2];

static void *read_in_scope(void *polls)
{
    weald_timeout t = started(WEALD_MS(2));
    struct pollfd fd = {.fd = pipe_ends[0], .events = POLLIN};

    if (polls)
        CHECK_EQ(weald_poll(&fd, 1, weald_after(WEALD_MS(3))), 1);
    else
        CHECK_EQ(weald_wait_read(pipe_ends[0], WEALD_FOREVER), 0);
    CHECK_EQ(weald_timeout_fired(t), 0);
    CHECK_EQ(weald_yield(), WEALD_ETIMEDOUT); /* it is time, though */
    CHECK_EQ(weald_timeout_fired(t), 1);
    ended(t);
    return NULL;
}

TEST(a_wait_that_finds_its_data_late_has_not_been_cut_short)
{
    for (intptr_t polls = 0; polls < 2; polls++) {
        weald_greenlet g;

        CHECK_EQ(pipe(pipe_ends), 0);
        g = spawned(read_in_scope, (void *)polls);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
        spin(WEALD_MS(5)); /* the timeout is due before anybody looks at the pipe */
        outcome(g);
    }
}

static weald_queue shared_queue;

static void *put_after(void *ns)
{
    CHECK_EQ(weald_sleep((intptr_t)ns), 0);
    CHECK_EQ(weald_queue_put(shared_queue, ns, WEALD_NOW), 0);
    return NULL;
}

static void *get_in_scope(void *unused)
{
    void *item = unused;
    weald_timeout t = started(WEALD_MS(4));

    CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_FOREVER), 0);
    CHECK_EQ(weald_timeout_fired(t), 0);
    ended(t);
    return item;
}

TEST(a_get_that_was_given_its_item_in_the_last_moment_has_not_been_cut_short)
{
    weald_greenlet put, get;

    shared_queue = weald_queue_new(WEALD_SHARED, 1, NULL);
    put = spawned(put_after, (void *)WEALD_MS(2));
    get = spawned(get_in_scope, NULL);
    CHECK_EQ(weald_yield(), 0);
    spin(WEALD_MS(6)); /* both are due, the put first */
    CHECK_EQ(outcome(get), WEALD_MS(2));
    outcome(put);
    CHECK_EQ(weald_close(shared_queue), 0);
}

TEST(a_kill_is_stronger_than_a_timeout)
{
    weald_greenlet g = spawned(sleep_under_a_timeout, (void *)WEALD_SEC(100));

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(g), WEALD_ECANCELED);
    CHECK_EQ(weald_timeout_fired(theirs), 0);
    CHECK_EQ(weald_close(theirs), 0);
}

static int64_t in_callback;
static void start_in_callback(void *arg)
{
    (void)arg;
    in_callback = weald_timeout_start(WEALD_SEC(1));
}

TEST(a_callback_has_no_timeout)
{
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_post(hub, start_in_callback, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(in_callback, WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_close(hub), 0);
}

static void *ask_from_another_thread(void *t)
{
    weald_timeout timeout = *(weald_timeout *)t;

    CHECK_EQ(weald_timeout_fired(timeout), WEALD_EPERM);
    CHECK_EQ(weald_timeout_cancel(timeout), WEALD_EPERM);
    CHECK_EQ(weald_timeout_restart(timeout, 1), WEALD_EPERM);
    return NULL;
}

TEST(another_threads_timeout_is_eperm)
{
    weald_timeout t = started(WEALD_SEC(100));
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, ask_from_another_thread, &t), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    ended(t);
}

TEST(what_is_no_timeout_is_ebadf)
{
    const int64_t bad[] = {0, -1, 1, INT64_MAX, INT64_MIN, weald_self()};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(weald_timeout_fired(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_timeout_cancel(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_timeout_restart(bad[i], 1), WEALD_EBADF);
    }
}

TEST(timeouts_that_do_not_fire_leave_nothing_behind)
{
    weald_stats before, after;
    long rss;

    for (int i = 0; i < 1000; i++)
        ended(started(WEALD_SEC(100)));
    before = test_stats();
    rss = test_rss();
    for (long i = 0; i < test_rounds(200000); i++)
        ended(started(WEALD_SEC(100)));
    after = test_stats();
    CHECK_EQ(after.handles, before.handles);
    CHECK_EQ(after.timers, before.timers);
    if (!*test_under())
        CHECK_LT(test_rss() - rss, 1L << 20);
}
