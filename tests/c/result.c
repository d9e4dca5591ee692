/* Results: a value or a failure, set once, waited for by many. Those that threads share are in shared.c. */
#include "greenlets.h"

#include <pthread.h>

static weald_result result;
static int thing, destroyed;
static char order[64];

static void destroy(void *value)
{
    CHECK_PTR(value, &thing);
    destroyed++;
}

static void *get_it(void *name)
{
    void *value = NULL;
    int code = weald_result_get(result, &value, WEALD_FOREVER);

    CHECK_PTR(value, code == 0 ? &thing : NULL);
    strcat(order, (const char *)name);
    return (void *)(intptr_t)code;
}

/* A greenlet that waits already. */
static weald_greenlet waiter(const char *name) { return parked(get_it, (void *)(intptr_t)name); }

TEST(a_new_result_is_not_ready)
{
    result = weald_result_new(0, NULL);
    CHECK_GT(result, 0);
    CHECK_EQ(weald_kind(result), WEALD_KIND_RESULT);
    CHECK_EQ(weald_result_ready(result), 0);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_result_wait(result, WEALD_NOW), WEALD_EAGAIN);
    CHECK_STR(weald_result_message(result), "");
    CHECK_EQ(weald_close(result), 0);
}

TEST(everybody_gets_the_value_in_the_order_they_came)
{
    weald_greenlet a, b;
    void *value = NULL;

    result = weald_result_new(0, NULL);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "ab");
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_result_ready(result), 1);
    CHECK_EQ(weald_result_get(result, &value, WEALD_NOW), 0);
    CHECK_PTR(value, &thing);
    CHECK_EQ(weald_result_wait(result, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_null_value_is_a_value)
{
    void *value = &thing;

    result = weald_result_new(0, NULL);
    CHECK_EQ(weald_result_set(result, NULL), 0);
    CHECK_EQ(weald_result_get(result, &value, WEALD_NOW), 0);
    CHECK_PTR(value, NULL);
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_failure_comes_with_code_and_message)
{
    weald_greenlet a;
    char why[] = "no such tree";
    void *value = &value;

    result = weald_result_new(0, destroy);
    a = waiter("a");
    CHECK_EQ(weald_result_fail(result, WEALD_ENOENT, why), 0);
    why[0] = '?'; /* the message was copied */
    CHECK_EQ(code_of(a), WEALD_ENOENT);
    CHECK_EQ(weald_result_ready(result), 1);
    CHECK_EQ(weald_result_get(result, &value, WEALD_FOREVER), WEALD_ENOENT);
    CHECK_PTR(value, &value); /* not written */
    CHECK_EQ(weald_result_wait(result, WEALD_FOREVER), 0);
    CHECK_STR(weald_result_message(result), "no such tree");
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 0);
}

TEST(a_code_of_the_callers_own_is_kept)
{
    result = weald_result_new(0, NULL);
    CHECK_EQ(weald_result_fail(result, -70000, NULL), 0);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_NOW), -70000);
    CHECK_STR(weald_result_message(result), "");
    CHECK_EQ(weald_close(result), 0);
}

TEST(the_second_set_is_ealready_and_the_value_stays_the_callers)
{
    int other;
    void *value = NULL;

    result = weald_result_new(0, destroy);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_result_set(result, &other), WEALD_EALREADY);
    CHECK_EQ(weald_result_fail(result, WEALD_EPIPE, "late"), WEALD_EALREADY);
    CHECK_EQ(weald_result_get(result, &value, WEALD_NOW), 0);
    CHECK_PTR(value, &thing);
    CHECK_STR(weald_result_message(result), "");
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 1);
}

TEST(a_failure_can_not_be_replaced_either)
{
    result = weald_result_new(0, destroy);
    CHECK_EQ(weald_result_fail(result, WEALD_EPIPE, "first"), 0);
    CHECK_EQ(weald_result_set(result, &thing), WEALD_EALREADY);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_NOW), WEALD_EPIPE);
    CHECK_STR(weald_result_message(result), "first");
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 0);
}

TEST(the_value_is_destroyed_once_when_it_is_closed)
{
    result = weald_result_new(0, destroy);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_dup(result), result);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 0);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_close(result), WEALD_EBADF);
    CHECK_EQ(destroyed, 1);
}

TEST(a_result_that_was_never_set_destroys_nothing)
{
    result = weald_result_new(0, destroy);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 0);
}

TEST(shutdown_of_the_hub_destroys_the_value)
{
    result = weald_result_new(0, destroy);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_result_new(0, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_NOW), WEALD_ESHUTDOWN);
    CHECK_STR(weald_result_message(result), "");
}

TEST(a_wait_at_its_deadline_is_etimedout)
{
    int64_t began = test_clock();

    result = weald_result_new(0, NULL);
    CHECK_EQ(weald_result_get(result, NULL, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_result_wait(result, weald_after(WEALD_US(50))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_killed_waiter_returns_ecanceled_and_the_others_wait_on)
{
    weald_greenlet a, b;

    result = weald_result_new(0, NULL);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_waiter_killed_after_the_set_and_before_it_runs_returns_ecanceled)
{
    weald_greenlet a;

    result = weald_result_new(0, NULL);
    a = waiter("a");
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(weald_result_ready(result), 1);
    CHECK_EQ(weald_close(result), 0);
}

TEST(closing_it_wakes_everybody_with_ebadf)
{
    weald_greenlet a, b;

    result = weald_result_new(0, destroy);
    a = waiter("a");
    b = waiter("b");
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(code_of(a), WEALD_EBADF);
    CHECK_EQ(code_of(b), WEALD_EBADF);
    CHECK_EQ(destroyed, 0);
}

TEST(a_waiter_does_not_see_a_value_that_was_destroyed_before_it_ran)
{
    weald_greenlet a;

    result = weald_result_new(0, destroy);
    a = waiter("a");
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(code_of(a), WEALD_EBADF);
}

/* ---- links ---- */

static void linked(weald_handle ended, void *arg)
{
    CHECK_EQ(ended, result);
    CHECK_EQ(weald_self(), 0); /* in the loop */
    strcat(order, (const char *)arg);
}

TEST(links_run_in_the_loop_in_order_when_it_is_set)
{
    result = weald_result_new(0, NULL);
    CHECK_GT(weald_result_link(result, linked, (void *)"a"), 0);
    CHECK_GT(weald_result_link(result, linked, (void *)"b"), 0);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_link_to_a_result_that_is_set_runs_in_the_next_turn)
{
    result = weald_result_new(0, NULL);
    CHECK_EQ(weald_result_fail(result, WEALD_EPIPE, NULL), 0);
    CHECK_GT(weald_result_link(result, linked, (void *)"a"), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_link_that_was_taken_back_does_not_run)
{
    int64_t a, b;

    result = weald_result_new(0, NULL);
    a = weald_result_link(result, linked, (void *)"a");
    b = weald_result_link(result, linked, (void *)"b");
    CHECK_NE(a, b);
    CHECK_EQ(weald_result_unlink(result, a), 0);
    CHECK_EQ(weald_result_unlink(result, a), WEALD_ENOENT);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "b");
    CHECK_EQ(weald_result_unlink(result, b), WEALD_ENOENT);
    CHECK_EQ(weald_result_unlink(result, 0), WEALD_ENOENT);
    CHECK_EQ(weald_close(result), 0);
}

TEST(until_it_runs_a_link_to_a_result_that_is_set_is_taken_back)
{
    const int flags[] = {0, WEALD_SHARED};

    for (int i = 0; i < 2; i++) {
        int64_t a, b, c;

        order[0] = '\0';
        result = weald_result_new(flags[i], NULL);
        a = weald_result_link(result, linked, (void *)"a");
        b = weald_result_link(result, linked, (void *)"b");
        CHECK_EQ(weald_result_set(result, &thing), 0);
        c = weald_result_link(result, linked, (void *)"c");
        CHECK_EQ(weald_result_unlink(result, a), 0);
        CHECK_EQ(weald_result_unlink(result, a), WEALD_ENOENT);
        CHECK_EQ(weald_result_unlink(result, c), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        CHECK_STR(order, "b");
        CHECK_EQ(weald_result_unlink(result, b), WEALD_ENOENT);
        CHECK_EQ(weald_close(result), 0);
    }
}

TEST(links_of_a_closed_result_do_not_run)
{
    result = weald_result_new(0, NULL);
    CHECK_GT(weald_result_link(result, linked, (void *)"a"), 0);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "");
}

/* ---- codes ---- */

TEST(what_can_not_be_is_einval)
{
    char latin1[] = "caf\xe9";

    CHECK_EQ(weald_result_new(1, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_result_new(WEALD_SHARED | 4, NULL), WEALD_EINVAL);
    result = weald_result_new(0, NULL);
    CHECK_EQ(weald_result_fail(result, 0, "fine"), WEALD_EINVAL);
    CHECK_EQ(weald_result_fail(result, 5, "fine"), WEALD_EINVAL);
    CHECK_EQ(weald_result_fail(result, WEALD_EPIPE, latin1), WEALD_EINVAL);
    CHECK_EQ(weald_result_ready(result), 0);
    CHECK_EQ(weald_result_link(result, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_close(result), 0);
}

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_event event = weald_event_new(0);
    weald_handle bad[4];
    void *value = &thing;

    result = weald_result_new(0, NULL);
    CHECK_EQ(weald_close(result), 0);
    bad[0] = result;
    bad[1] = 0;
    bad[2] = INT64_MIN;
    bad[3] = event;
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weald_result_set(bad[i], &thing), WEALD_EBADF);
        CHECK_EQ(weald_result_fail(bad[i], WEALD_EPIPE, NULL), WEALD_EBADF);
        CHECK_EQ(weald_result_get(bad[i], &value, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_result_wait(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_result_ready(bad[i]), WEALD_EBADF);
        CHECK_STR(weald_result_message(bad[i]), "");
        CHECK_EQ(weald_result_link(bad[i], linked, NULL), WEALD_EBADF);
        CHECK_EQ(weald_result_unlink(bad[i], 1), WEALD_EBADF);
    }
    CHECK_PTR(value, &thing);
    CHECK_EQ(weald_close(event), 0);
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_result_set(result, &thing), WEALD_EPERM);
    CHECK_EQ(weald_result_fail(result, WEALD_EPIPE, NULL), WEALD_EPERM);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_result_wait(result, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_result_ready(result), WEALD_EPERM);
    CHECK_STR(weald_result_message(result), "");
    CHECK_EQ(weald_result_link(result, linked, NULL), WEALD_EPERM);
    CHECK_EQ(weald_result_unlink(result, 1), WEALD_EPERM);
    return arg;
}

TEST(another_threads_result_is_eperm)
{
    pthread_t thread;

    result = weald_result_new(0, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_result_ready(result), 0);
    CHECK_EQ(weald_close(result), 0);
}

static void use_in_callback(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_result_get(result, NULL, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_result_wait(result, weald_after(WEALD_SEC(1))), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_result_wait(result, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_FOREVER), 0);
}

TEST(a_callback_must_not_wait_but_may_set)
{
    weald_handle hub = weald_hub();
    weald_greenlet a;

    result = weald_result_new(0, NULL);
    a = waiter("a");
    CHECK_EQ(weald_post(hub, use_in_callback, NULL), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    result = weald_result_new(0, NULL);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_result_wait(result, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 2);
    CHECK_EQ(weald_close(result), 0);
}
