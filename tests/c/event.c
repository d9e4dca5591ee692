/* Events: a flag that greenlets wait for. Those that threads share are in shared.c. */
#include "greenlets.h"

#include <pthread.h>

static weald_event event;
static char order[64];

static void *wait_for_it(void *name)
{
    int code = weald_event_wait(event, WEALD_FOREVER);

    strcat(order, (const char *)name);
    return (void *)(intptr_t)code;
}

/* A greenlet that waits already. */
static weald_greenlet waiter(const char *name) { return parked(wait_for_it, (void *)(intptr_t)name); }

static void in_a_callback(weald_callback body)
{
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_post(hub, body, NULL), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static void in_another_thread(void *(*body)(void *))
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, body, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(a_new_event_is_not_set)
{
    event = weald_event_new(0);
    CHECK_GT(event, 0);
    CHECK_EQ(weald_kind(event), WEALD_KIND_EVENT);
    CHECK_EQ(weald_event_is_set(event), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(set_and_clear_are_seen_by_is_set)
{
    event = weald_event_new(0);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_event_is_set(event), 1);
    CHECK_EQ(weald_event_clear(event), 0);
    CHECK_EQ(weald_event_clear(event), 0);
    CHECK_EQ(weald_event_is_set(event), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(waiters_go_on_in_the_order_they_came)
{
    weald_greenlet a, b, c;

    event = weald_event_new(0);
    a = waiter("a");
    b = waiter("b");
    c = waiter("c");
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "abc");
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(code_of(c), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_wait_for_a_set_event_does_not_switch)
{
    weald_greenlet other;

    event = weald_event_new(0);
    CHECK_EQ(weald_event_set(event), 0);
    other = weald_spawn(wait_for_it, (void *)"other");
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_event_wait(event, WEALD_NOW), 0);
    CHECK_EQ(weald_event_wait(event, weald_now() - 1), 0);
    CHECK_STR(order, "");
    CHECK_EQ(code_of(other), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(who_waited_goes_on_even_if_it_is_cleared_at_once)
{
    weald_greenlet a, b;

    event = weald_event_new(0);
    a = waiter("a");
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_event_clear(event), 0);
    CHECK_EQ(code_of(a), 0);
    b = waiter("b"); /* but nobody who comes later */
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_wait_now_for_a_clear_event_is_eagain)
{
    event = weald_event_new(0);
    CHECK_EQ(weald_event_wait(event, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_wait_at_its_deadline_is_etimedout)
{
    int64_t began = test_clock();

    event = weald_event_new(0);
    CHECK_EQ(weald_event_wait(event, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_event_wait(event, weald_now() - 1), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_event_set(event), 0); /* finds no trace of us */
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_killed_waiter_returns_ecanceled_and_the_others_wait_on)
{
    weald_greenlet a, b;

    event = weald_event_new(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_state(b), WEALD_STATE_PARKED);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_waiter_killed_after_the_set_and_before_it_runs_returns_ecanceled)
{
    weald_greenlet a;

    event = weald_event_new(0);
    a = waiter("a");
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_event_is_set(event), 1);
    CHECK_EQ(weald_close(event), 0);
}

TEST(an_interrupted_wait_returns_the_code_once)
{
    weald_greenlet a;

    event = weald_event_new(0);
    a = waiter("a");
    CHECK_EQ(weald_interrupt(a, -4711), 0);
    CHECK_EQ(code_of(a), -4711);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_killed_greenlet_cannot_even_wait_for_a_set_event)
{
    weald_greenlet a;

    event = weald_event_new(0);
    CHECK_EQ(weald_event_set(event), 0);
    a = weald_spawn(wait_for_it, (void *)"a");
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_join(a, WEALD_FOREVER), 0);
    CHECK_STR(order, ""); /* it never began */
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(closing_it_wakes_everybody_with_ebadf)
{
    weald_greenlet a, b;

    event = weald_event_new(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(code_of(b), WEALD_EBADF);
    CHECK_STR(order, "ab");
}

TEST(a_second_reference_keeps_it_open)
{
    weald_greenlet a;

    event = weald_event_new(0);
    CHECK_EQ(weald_dup(event), event);
    a = waiter("a");
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(weald_close(event), WEALD_EBADF);
}

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_queue queue = weald_queue_new(0, 1, NULL);
    weald_handle bad[4];

    event = weald_event_new(0);
    CHECK_EQ(weald_close(event), 0);
    bad[0] = event;
    bad[1] = 0;
    bad[2] = -1;
    bad[3] = queue;
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weald_event_set(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_event_clear(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_event_is_set(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_event_wait(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_event_wait(bad[i], WEALD_NOW), WEALD_EBADF);
    }
    CHECK_EQ(weald_close(queue), 0);
}

TEST(unknown_flags_are_einval)
{
    CHECK_EQ(weald_event_new(1), WEALD_EINVAL);
    CHECK_EQ(weald_event_new(-1), WEALD_EINVAL);
    CHECK_EQ(weald_event_new(WEALD_SHARED | 2), WEALD_EINVAL);
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_event_set(event), WEALD_EPERM);
    CHECK_EQ(weald_event_clear(event), WEALD_EPERM);
    CHECK_EQ(weald_event_is_set(event), WEALD_EPERM);
    CHECK_EQ(weald_event_wait(event, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_EPERM);
    return arg;
}

TEST(another_threads_event_is_eperm)
{
    event = weald_event_new(0);
    in_another_thread(use_it);
    CHECK_EQ(weald_event_is_set(event), 0);
    CHECK_EQ(weald_close(event), 0);
}

static void wait_in_callback(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_event_wait(event, weald_after(WEALD_SEC(1))), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_event_wait(event, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0);
}

TEST(a_callback_must_not_wait_but_may_set)
{
    weald_greenlet a;

    event = weald_event_new(0);
    a = waiter("a");
    in_a_callback(wait_in_callback);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    event = weald_event_new(0);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_binding_that_forbids_to_suspend_gets_eperm)
{
    event = weald_event_new(0);
    forbid_waits();
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_surrounding_timeout_ends_the_wait)
{
    weald_timeout timeout = weald_timeout_start(WEALD_MS(1));

    event = weald_event_new(0);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(timeout), 1);
    CHECK_EQ(weald_close(timeout), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(after_the_hub_has_ended_there_are_no_events)
{
    event = weald_event_new(0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(weald_event_new(0), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_event_set(event), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_event_wait(event, WEALD_NOW), WEALD_ESHUTDOWN);
}
