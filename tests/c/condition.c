/* Conditions: wait until told, with a lock let go meanwhile and held again afterwards. */
#include "greenlets.h"

#include <pthread.h>

static weald_condition cond;
static weald_lock lock;
static char order[64];

static void make(int reentrant)
{
    cond = weald_condition_new();
    lock = reentrant ? weald_rlock_new() : weald_lock_new();
    CHECK_GT(cond, 0);
}

static void unmake(void)
{
    CHECK_EQ(weald_close(cond), 0);
    CHECK_EQ(weald_close(lock), 0);
}

/* Waits with the lock; notes its name when the wait is over. That it holds the lock then, its release proves. */
static void *wait_for_it(void *name)
{
    int code;

    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    code = weald_condition_wait(cond, lock, WEALD_FOREVER);
    strcat(order, (const char *)name);
    CHECK_EQ(weald_lock_release(lock), 0);
    return (void *)(intptr_t)code;
}

/* A greenlet that waits already. */
static weald_greenlet waiter(const char *name) { return parked(wait_for_it, (void *)(intptr_t)name); }

TEST(the_lock_is_free_while_somebody_waits)
{
    weald_greenlet a;

    make(0);
    CHECK_EQ(weald_kind(cond), WEALD_KIND_CONDITION);
    a = waiter("a");
    CHECK_EQ(weald_lock_held(lock), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), 0);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, ""); /* told, and waits for the lock */
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_lock_held(lock), 0);
    unmake();
}

TEST(waiters_are_told_in_the_order_they_came)
{
    weald_greenlet g[4];

    make(0);
    for (int i = 0; i < 4; i++)
        g[i] = waiter(&"a\0b\0c\0d"[2 * i]);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(code_of(g[0]), 0);
    CHECK_EQ(weald_condition_notify(cond, 2), 2);
    CHECK_EQ(code_of(g[1]), 0);
    CHECK_EQ(code_of(g[2]), 0);
    CHECK_STR(order, "abc");
    CHECK_EQ(weald_condition_notify(cond, 5), 1); /* there was one left */
    CHECK_EQ(code_of(g[3]), 0);
    CHECK_STR(order, "abcd");
    unmake();
}

TEST(notify_all_tells_everybody_and_they_take_the_lock_in_order)
{
    weald_greenlet g[3];

    make(0);
    for (int i = 0; i < 3; i++)
        g[i] = waiter(&"a\0b\0c"[2 * i]);
    CHECK_EQ(weald_condition_notify_all(cond), 3);
    CHECK_EQ(weald_condition_notify_all(cond), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(code_of(g[i]), 0);
    CHECK_STR(order, "abc");
    unmake();
}

TEST(a_notification_is_not_kept_for_those_who_come_later)
{
    weald_greenlet a;

    make(0);
    CHECK_EQ(weald_condition_notify(cond, 1), 0);
    CHECK_EQ(weald_condition_notify_all(cond), 0);
    CHECK_EQ(weald_condition_notify(cond, 0), 0);
    a = waiter("a");
    CHECK_EQ(weald_condition_notify(cond, 0), 0);
    CHECK_EQ(weald_condition_notify(cond, SIZE_MAX), 1);
    CHECK_EQ(code_of(a), 0);
    unmake();
}

TEST(a_reentrant_lock_is_let_go_whole_and_taken_again_as_deep)
{
    weald_greenlet a;

    make(1);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_wait(cond, lock, weald_after(WEALD_US(100))), WEALD_ETIMEDOUT);
    a = weald_spawn(wait_for_it, (void *)"a");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_lock_held(lock), 1);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_lock_release(lock), WEALD_EPERM);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(code_of(a), 0);
    unmake();
}

/* ---- the lock is held again however the wait ended ---- */

TEST(a_wait_at_its_deadline_is_etimedout_and_holds_the_lock)
{
    int64_t began = test_clock();

    make(0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_wait(cond, lock, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_condition_notify(cond, 1), 0);
    unmake();
}

TEST(a_wait_now_is_eagain_and_holds_the_lock)
{
    make(0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_wait(cond, lock, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_lock_release(lock), 0);
    unmake();
}

TEST(a_killed_waiter_holds_the_lock_when_it_returns)
{
    weald_greenlet a, b;

    make(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_condition_notify_all(cond), 1);
    CHECK_EQ(code_of(b), 0);
    unmake();
}

TEST(an_interrupted_waiter_holds_the_lock_when_it_returns)
{
    static const int codes[] = {WEALD_EINTR, WEALD_EBADF, WEALD_EDEADLK, WEALD_EPERM, WEALD_ETIMEDOUT, -70000};

    make(0);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        weald_greenlet a = waiter("a");
        CHECK_EQ(weald_interrupt(a, codes[i]), 0);
        CHECK_EQ(code_of(a), codes[i]);
    }
    unmake();
}

TEST(a_waiter_killed_while_it_takes_the_lock_again_holds_it)
{
    weald_greenlet a;

    make(0);
    a = waiter("a");
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(weald_yield(), 0); /* it waits for the lock */
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_join(a, WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(a), 0);
    unmake();
}

static void *wait_and_sleep(void *arg)
{
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_wait(cond, lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    *(int *)arg = weald_sleep(0);
    return NULL;
}

TEST(an_interrupt_while_it_takes_the_lock_again_is_the_next_calls)
{
    static const int codes[] = {WEALD_EINTR, WEALD_EBADF, WEALD_EDEADLK};

    make(0);
    for (int i = 0; i < 3; i++) {
        int slept = 1;
        weald_greenlet a = weald_spawn(wait_and_sleep, &slept);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
        CHECK_EQ(weald_condition_notify(cond, 1), 1);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_interrupt(a, codes[i]), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_lock_release(lock), 0);
        CHECK_EQ(code_of(a), 0);
        CHECK_EQ(slept, codes[i]);
    }
    unmake();
}

TEST(a_surrounding_timeout_ends_the_wait_and_the_lock_is_held)
{
    weald_timeout timeout = weald_timeout_start(WEALD_MS(1));

    make(0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_wait(cond, lock, WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(timeout), 1);
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_close(timeout), 0);
    unmake();
}

static void *hold_a_while(void *arg)
{
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    return arg;
}

TEST(a_deadline_does_not_bound_taking_the_lock_again)
{
    weald_greenlet g;

    make(0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    g = weald_spawn(hold_a_while, NULL);
    CHECK_EQ(weald_condition_wait(cond, lock, weald_after(WEALD_US(100))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_dead(g), 1); /* it has let go of it first */
    CHECK_EQ(weald_lock_release(lock), 0);
    CHECK_EQ(weald_close(g), 0);
    unmake();
}

TEST(a_notification_whose_hearer_was_killed_goes_to_the_next)
{
    weald_greenlet a, b;

    make(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0); /* before it heard */
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 0);
    unmake();
}

TEST(a_notification_to_one_that_is_killed_and_still_in_the_list_goes_to_the_next)
{
    weald_greenlet a, b;

    make(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 0);
    unmake();
}

/* ---- closing ---- */

TEST(closing_the_condition_wakes_everybody_with_ebadf_and_the_lock_held)
{
    weald_greenlet a, b;

    make(0);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_close(cond), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(code_of(b), WEALD_EBADF);
    CHECK_EQ(weald_close(lock), 0);
}

static void *wait_without_release(void *arg)
{
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    (void)arg;
    return (void *)(intptr_t)weald_condition_wait(cond, lock, WEALD_FOREVER);
}

TEST(closing_the_lock_is_ebadf_when_the_wait_is_over)
{
    weald_greenlet a;

    make(0);
    a = weald_spawn(wait_without_release, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(lock), 0);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(weald_close(cond), 0);
}

/* ---- codes ---- */

TEST(waiting_without_the_lock_is_eperm)
{
    weald_greenlet a;

    make(0);
    CHECK_EQ(weald_condition_wait(cond, lock, WEALD_FOREVER), WEALD_EPERM);
    a = waiter("a");
    CHECK_EQ(weald_condition_wait(cond, lock, weald_after(WEALD_SEC(1))), WEALD_EPERM);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    CHECK_EQ(weald_yield(), 0); /* it is somebody else's now, and released */
    CHECK_EQ(code_of(a), 0);
    unmake();
}

TEST(stale_and_wrong_handles_are_ebadf_and_the_lock_stays_held)
{
    weald_condition stale;

    make(0);
    stale = weald_condition_new();
    CHECK_EQ(weald_close(stale), 0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_wait(stale, lock, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_condition_wait(lock, lock, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_condition_wait(cond, cond, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_condition_wait(cond, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_condition_notify(stale, 1), WEALD_EBADF);
    CHECK_EQ(weald_condition_notify(lock, 1), WEALD_EBADF);
    CHECK_EQ(weald_condition_notify_all(0), WEALD_EBADF);
    CHECK_EQ(weald_lock_release(lock), 0);
    unmake();
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_condition_wait(cond, lock, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_condition_notify(cond, 1), WEALD_EPERM);
    CHECK_EQ(weald_condition_notify_all(cond), WEALD_EPERM);
    return arg;
}

TEST(another_threads_condition_is_eperm)
{
    pthread_t thread;

    make(0);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    unmake();
}

static void use_in_callback(void *arg)
{
    CHECK_LT(weald_condition_wait(cond, lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_notify(cond, 1), 1);
    ++*(int *)arg;
}

TEST(a_callback_can_not_wait_but_may_notify)
{
    weald_handle hub = weald_hub();
    weald_greenlet a;
    int called = 0;

    make(0);
    a = waiter("a");
    CHECK_EQ(weald_post(hub, use_in_callback, &called), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(called, 1);
    CHECK_EQ(weald_close(hub), 0);
    unmake();
}

TEST(a_wait_that_nobody_can_end_is_edeadlk_and_the_lock_is_held)
{
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    make(0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    CHECK_EQ(weald_condition_wait(cond, lock, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_lock_release(lock), 0);
    unmake();
}

TEST(a_binding_that_forbids_to_suspend_gets_eperm_and_keeps_the_lock)
{
    make(0);
    CHECK_EQ(weald_lock_acquire(lock, WEALD_FOREVER), 0);
    forbid_waits();
    CHECK_EQ(weald_condition_wait(cond, lock, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_lock_release(lock), 0);
    unmake();
}
