/* Semaphores: permits, handed to waiters in order. */
#include "greenlets.h"

#include <pthread.h>

static weald_semaphore sem;
static char order[64];

/* Waits for a permit, keeps it; notes its name when it has one. */
static void *acquire(void *name)
{
    int code = weald_semaphore_acquire(sem, WEALD_FOREVER);

    if (code == 0)
        strcat(order, (const char *)name);
    return (void *)(intptr_t)code;
}

static void *acquire_until(void *deadline)
{
    return (void *)(intptr_t)weald_semaphore_acquire(sem, *(int64_t *)deadline);
}

/* A greenlet that waits already. */
static weald_greenlet waiter(const char *name) { return parked(acquire, (void *)(intptr_t)name); }

TEST(permits_are_counted)
{
    sem = weald_semaphore_new(2);
    CHECK_EQ(weald_kind(sem), WEALD_KIND_SEMAPHORE);
    CHECK_EQ(weald_semaphore_count(sem), 2);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_FOREVER), 0);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), 0);
    CHECK_EQ(weald_semaphore_count(sem), 0);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(permits_go_to_waiters_in_the_order_they_came)
{
    weald_greenlet a, b, c;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    b = waiter("b");
    c = waiter("c");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), 0); /* handed over, not free */
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "abc");
    CHECK_EQ(code_of(a) | code_of(b) | code_of(c), 0);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(nobody_overtakes_a_waiter)
{
    weald_greenlet a;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_permit_whose_owner_was_killed_before_it_ran_goes_to_the_next)
{
    weald_greenlet a, b;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_semaphore_count(sem), 0);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_permit_whose_owner_was_killed_before_it_ran_is_free_again)
{
    weald_greenlet a;

    sem = weald_bounded_semaphore_new(1);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), 0);
    a = waiter("a");
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_release_to_one_that_is_killed_and_still_in_the_list_loses_no_permit)
{
    weald_greenlet a, b;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0); /* marked; it has not run yet */
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_killed_waiter_takes_nothing)
{
    weald_greenlet a;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_wait_at_its_deadline_is_etimedout_and_takes_nothing)
{
    int64_t began = test_clock();

    sem = weald_semaphore_new(0);
    CHECK_EQ(weald_semaphore_acquire(sem, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_semaphore_acquire(sem, weald_now() - 1), 0); /* late, but one is free */
    CHECK_EQ(weald_close(sem), 0);
}

static int64_t when;
static void *release_then(void *arg)
{
    (void)weald_sleep_until(when);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    return arg;
}

TEST(a_release_between_the_timer_and_the_waiter_leaves_permit_or_timeout_never_neither)
{
    int64_t deadline = weald_after(WEALD_MS(2));
    weald_greenlet releaser, taker;
    int got;

    sem = weald_semaphore_new(0);
    when = deadline - 1;
    releaser = weald_spawn(release_then, NULL);
    taker = weald_spawn(acquire_until, &deadline);
    CHECK_EQ(weald_yield(), 0);
    while (weald_now() <= deadline) {
    }
    got = code_of(taker); /* both timers fire in one turn, the releaser's first */
    CHECK(got == 0 || got == WEALD_ETIMEDOUT);
    CHECK_EQ(code_of(releaser), 0);
    CHECK_EQ(weald_semaphore_count(sem), got == 0 ? 0 : 1);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(an_interrupted_wait_returns_the_code_and_takes_nothing)
{
    weald_greenlet a;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    CHECK_EQ(weald_interrupt(a, WEALD_EINTR), 0);
    CHECK_EQ(code_of(a), WEALD_EINTR);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_close(sem), 0);
}

static void *acquire_then_sleep(void *arg)
{
    int first = weald_semaphore_acquire(sem, WEALD_FOREVER);
    int second = weald_sleep(0);

    /* The code comes once: from the wait, or if that has a permit from the call after it. */
    CHECK(first == 0 ? second == WEALD_EINTR : first == WEALD_EINTR && second == 0);
    (void)arg;
    return (void *)(intptr_t)first;
}

TEST(an_interrupt_before_a_hand_over_is_not_lost)
{
    weald_greenlet a;

    sem = weald_semaphore_new(0);
    a = weald_spawn(acquire_then_sleep, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_interrupt(a, WEALD_EINTR), 0);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), code_of(a) == 0 ? 0 : 1);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(closing_it_wakes_everybody_with_ebadf)
{
    weald_greenlet a, b;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_close(sem), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(code_of(b), WEALD_EBADF);
}

TEST(a_permit_handed_over_before_it_was_closed_is_the_waiters)
{
    weald_greenlet a;

    sem = weald_semaphore_new(0);
    a = waiter("a");
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_close(sem), 0);
    CHECK_EQ(code_of(a), 0);
}

TEST(a_bounded_one_refuses_more_than_it_began_with)
{
    sem = weald_bounded_semaphore_new(1);
    CHECK_EQ(weald_semaphore_release(sem), WEALD_EOVERFLOW);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), 0);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_release(sem), WEALD_EOVERFLOW);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(one_that_may_have_no_permits_gives_none_to_who_waits_for_one)
{
    sem = weald_bounded_semaphore_new(0);
    CHECK_EQ(weald_semaphore_count(sem), 0);
    CHECK_EQ(weald_semaphore_release(sem), WEALD_EOVERFLOW);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), WEALD_EAGAIN);
    weald_greenlet g = waiter("a");
    CHECK_EQ(weald_semaphore_release(sem), WEALD_EOVERFLOW);
    CHECK_EQ(weald_semaphore_count(sem), 0);
    CHECK_EQ(weald_close(sem), 0);
    CHECK_EQ(code_of(g), WEALD_EBADF);
}

TEST(an_unbounded_one_grows_up_to_the_largest_number)
{
    sem = weald_semaphore_new(0);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), 2);
    CHECK_EQ(weald_close(sem), 0);
    sem = weald_semaphore_new(INT64_MAX);
    CHECK_EQ(weald_semaphore_release(sem), WEALD_EOVERFLOW);
    CHECK_EQ(weald_semaphore_count(sem), INT64_MAX);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_negative_count_is_einval)
{
    CHECK_EQ(weald_semaphore_new(-1), WEALD_EINVAL);
    CHECK_EQ(weald_bounded_semaphore_new(INT64_MIN), WEALD_EINVAL);
}

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_lock lock = weald_lock_new();
    weald_handle bad[4];

    sem = weald_semaphore_new(1);
    CHECK_EQ(weald_close(sem), 0);
    bad[0] = sem;
    bad[1] = 0;
    bad[2] = -7;
    bad[3] = lock;
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weald_semaphore_acquire(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_semaphore_release(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_semaphore_count(bad[i]), WEALD_EBADF);
    }
    CHECK_EQ(weald_close(lock), 0);
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_semaphore_release(sem), WEALD_EPERM);
    CHECK_EQ(weald_semaphore_count(sem), WEALD_EPERM);
    return arg;
}

TEST(another_threads_semaphore_is_eperm)
{
    pthread_t thread;

    sem = weald_semaphore_new(1);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_close(sem), 0);
}

static void use_in_callback(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_FOREVER), 0); /* one is free */
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    strcat(order, "called");
}

TEST(a_callback_must_not_wait)
{
    weald_handle hub = weald_hub();

    sem = weald_semaphore_new(1);
    CHECK_EQ(weald_post(hub, use_in_callback, NULL), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_STR(order, "called");
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    sem = weald_semaphore_new(0);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_count(sem), 1);
    CHECK_EQ(weald_close(sem), 0);
}

TEST(a_binding_that_forbids_to_suspend_gets_eperm)
{
    sem = weald_semaphore_new(0);
    forbid_waits();
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_semaphore_release(sem), 0);
    CHECK_EQ(weald_semaphore_acquire(sem, WEALD_FOREVER), 0);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_close(sem), 0);
}
