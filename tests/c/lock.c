/* Locks: owned by a greenlet, handed on in order; and those that their owner may take again. */
#include "greenlets.h"

#include <pthread.h>

static weald_lock lock;
static char order[64];

/* Takes the lock, notes its name, lets others run while it holds it, releases it. */
static void *visit(void *name)
{
    int code = weald_lock_acquire(lock, WEALD_FOREVER);

    if (code == 0) {
        strcat(order, (const char *)name);
        (void)weald_yield();
        strcat(order, (const char *)name);
        CHECK_EQ(weald_lock_release(lock), 0);
    }
    return (void *)(intptr_t)code;
}

/* A greenlet that waits already. */
static weald_greenlet waiter(const char *name) { return parked(visit, (void *)(intptr_t)name); }

/* A lock that the caller holds. */
static void held_lock(void)
{
    lock = weald_lock_new();
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
}

TEST(a_lock_is_free_then_held_then_free)
{
    lock = weald_lock_new();
    CHECK_EQ(weald_kind(lock), WEALD_KIND_LOCK);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), 0);
    CHECK_EQ(weald_lock_held(lock), 1);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(one_at_a_time_in_the_order_they_came)
{
    weald_greenlet g[3];

    held_lock();
    g[0] = waiter("a");
    g[1] = waiter("b");
    g[2] = waiter("c");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_held(lock), 1); /* handed on in the same step */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(code_of(g[i]), 0);
    CHECK_STR(order, "aabbcc");
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(who_releases_can_not_take_it_again_before_one_who_waits)
{
    weald_greenlet a;

    held_lock();
    a = waiter("a");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(taking_it_twice_is_edeadlk)
{
    held_lock();
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_lock_acquire(lock, weald_after(WEALD_SEC(9))), WEALD_EDEADLK);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_release_by_somebody_else_is_eperm)
{
    lock = weald_lock_new();
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

static void *release_it(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_lock_release(lock);
}

TEST(a_release_of_another_greenlets_lock_is_eperm)
{
    held_lock();
    CHECK_EQ(code_of(weald_spawn(release_it, NULL)), WEALD_EPERM);
    CHECK_EQ(weald_lock_held(lock), 1);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM);
    CHECK_EQ(weald_close(lock), 0);
}

static void *take_and_keep(void *arg)
{
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    return arg;
}

TEST(a_lock_stays_held_when_its_owner_ends)
{
    weald_greenlet g;

    lock = weald_lock_new();
    g = weald_spawn(take_and_keep, NULL);
    CHECK_EQ(code_of(g), 0);
    CHECK_EQ(weald_lock_held(lock), 1);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM);
    CHECK_EQ(weald_close(lock), 0);
}

/* ---- reentrant ---- */

TEST(a_reentrant_lock_is_released_as_often_as_it_was_taken)
{
    weald_greenlet a;

    lock = weald_rlock_new();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_lock_acquire(lock, i == 1 ? WEALD_NOW : WEALD_FOREVER), 0);
    a = waiter("a");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM); /* it is a's now */
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_reentrant_lock_that_was_handed_on_counts_from_one)
{
    weald_greenlet a;

    lock = weald_rlock_new();
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    a = waiter("a");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(code_of(a), 0); /* it released once */
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_reentrant_lock_excludes_other_greenlets)
{
    weald_greenlet g[2];

    lock = weald_rlock_new();
    g[0] = weald_spawn(visit, (void *)"a");
    g[1] = weald_spawn(visit, (void *)"b");
    CHECK_EQ(code_of(g[0]), 0);
    CHECK_EQ(code_of(g[1]), 0);
    CHECK_STR(order, "aabb");
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM);
    CHECK_EQ(weald_close(lock), 0);
}

/* ---- kill, deadline, interrupt ---- */

TEST(a_lock_whose_next_owner_was_killed_before_it_ran_goes_on_to_the_one_after)
{
    weald_greenlet a, b;

    held_lock();
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 0);
    CHECK_STR(order, "bb");
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_lock_whose_next_owner_was_killed_before_it_ran_is_free)
{
    weald_greenlet a;

    held_lock();
    a = waiter("a");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_release_to_one_that_is_killed_and_still_in_the_list_loses_no_lock)
{
    weald_greenlet a, b;

    held_lock();
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_killed_waiter_leaves_the_line)
{
    weald_greenlet a, b;

    held_lock();
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_STR(order, "bb");
    CHECK_EQ(weald_close(lock), 0);
}

static void *try_until(void *deadline)
{
    int code = weald_lock_acquire(lock, *(int64_t *)deadline);

    if (code == 0)
        CHECK_EQ(weald_lock_release(lock), 0);
    return (void *)(intptr_t)code;
}

TEST(a_wait_at_its_deadline_is_etimedout)
{
    int64_t began = test_clock(), deadline = weald_after(WEALD_MS(5));

    held_lock();
    CHECK_EQ(code_of(weald_spawn(try_until, &deadline)), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_release_after_the_deadline_and_before_its_timer_hands_the_lock_over)
{
    int64_t deadline = weald_after(test_slack(WEALD_MS(20)));
    weald_greenlet g;

    held_lock();
    g = weald_spawn(try_until, &deadline);
    CHECK_EQ(weald_yield(), 0);
    while (weald_now() <= deadline) {
    }
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(code_of(g), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(an_interrupted_waiter_leaves_the_line)
{
    weald_greenlet a;

    held_lock();
    a = waiter("a");
    CHECK_EQ(weald_interrupt(a, WEALD_EINTR), 0);
    CHECK_EQ(code_of(a), WEALD_EINTR);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(closing_it_wakes_everybody_with_ebadf)
{
    weald_greenlet a, b;

    held_lock();
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_close(lock), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(code_of(b), WEALD_EBADF);
    CHECK_STR(order, "");
}

/* ---- codes ---- */

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_semaphore sem = weald_semaphore_new(1);
    weald_handle bad[4];

    lock = weald_lock_new();
    CHECK_EQ(weald_close(lock), 0);
    bad[0] = lock;
    bad[1] = 0;
    bad[2] = INT64_MIN;
    bad[3] = sem;
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weald_lock_acquire(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_lock_release(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_lock_held(bad[i]), WEALD_EBADF);
    }
    CHECK_EQ(weald_close(sem), 0);
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM);
    CHECK_EQ(weald_lock_held(lock), WEALD_EPERM);
    return arg;
}

TEST(another_threads_lock_is_eperm)
{
    pthread_t thread;

    held_lock();
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_close(lock), 0);
}

/* There is no greenlet in a callback that could own a lock. */
static void use_in_callback(void *arg)
{
    CHECK_LT(weald_lock_acquire(lock, WEALD_NOW), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM);
    ++*(int *)arg;
}

TEST(a_callback_can_not_hold_a_lock)
{
    weald_handle hub = weald_hub();
    int called = 0;

    lock = weald_lock_new();
    CHECK_EQ(weald_post(hub, use_in_callback, &called), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(called, 1);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), 0);
    CHECK_EQ(weald_post(hub, use_in_callback, &called), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(called, 2);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    lock = weald_lock_new();
    CHECK_EQ(code_of(weald_spawn(take_and_keep, NULL)), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_close(lock), 0);
}

TEST(a_binding_that_forbids_to_suspend_gets_eperm)
{
    lock = weald_lock_new();
    CHECK_EQ(code_of(weald_spawn(take_and_keep, NULL)), 0);
    forbid_waits();
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_close(lock), 0);
}
