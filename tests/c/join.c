/* Waiting for the ends of greenlets, one or many; values and failures. */
#include "bodies.h"
#include "waits.h"

/* ---- join and get ---- */

TEST(a_join_without_waiting_is_eagain_until_the_end)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_join(g, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_get(g, NULL, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_join(g, WEALD_NOW), 0);
    CHECK_EQ(weald_get(g, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_deadline_that_has_passed_does_not_spoil_a_join_of_the_ended)
{
    weald_greenlet g = spawned(return_it, NULL), other;

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_join(g, -12345), 0);
    CHECK_EQ(weald_join(g, 1), 0);
    make_gate();
    other = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_join(other, -12345), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_join(other, INT64_MIN), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_kill(other, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(other), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static weald_greenlet target;

static void *join_target(void *arg)
{
    CHECK_EQ(weald_join(target, WEALD_FOREVER), 0);
    return note(arg);
}

TEST(joiners_go_on_in_the_order_they_came)
{
    static char a[] = "a", b[] = "b", c[] = "c";

    make_gate();
    target = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_go(join_target, a), 0);
    CHECK_EQ(weald_go(join_target, b), 0);
    CHECK_EQ(weald_go(join_target, c), 0);
    drain();
    CHECK_STR(order, "");
    CHECK_EQ(weald_event_set(gate), 0);
    drain();
    CHECK_STR(order, "abc");
    CHECK_EQ(weald_close(target), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static void *close_target(void *arg)
{
    CHECK_EQ(weald_close(target), 0);
    return arg;
}

TEST(a_join_ends_well_when_the_handle_is_closed_meanwhile)
{
    target = spawned(note_twice, (char[]){"a"});
    CHECK_EQ(weald_go(close_target, NULL), 0);
    CHECK_EQ(weald_join(target, WEALD_FOREVER), 0);
    CHECK_STR(order, "aa");
}

TEST(a_get_hands_out_the_value_when_the_handle_is_closed_meanwhile)
{
    static char a[] = "a";
    void *value = NULL;

    target = spawned(note_twice, a);
    CHECK_EQ(weald_go(close_target, NULL), 0);
    CHECK_EQ(weald_get(target, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, a);
}

TEST(get_needs_no_place_for_the_value)
{
    weald_greenlet g = spawned(return_it, &destroyed);

    CHECK_EQ(weald_get(g, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_wait_that_nothing_can_end_is_edeadlk)
{
    weald_event e;

    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    waits_prepare();
    e = weald_event_new(0);
    for (int i = 0; i < WAITS; i++)
        if (waits[i].what == 0)
            WAITS_CHECK(&waits[i], waits[i].call(WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_kill(waits_greenlet, 0, WEALD_NOW), 0); /* and goes on as if nothing had been */
    CHECK_EQ(weald_join(waits_greenlet, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(e), 0);
}

TEST(a_wait_that_is_not_to_wait_is_eagain)
{
    waits_prepare();
    for (int i = 0; i < WAITS; i++)
        if (!(waits[i].what & WAITS_FOR_TIME))
            WAITS_CHECK(&waits[i], waits[i].call(WEALD_NOW), waits[i].what & WAITS_AND_RETURNS_0 ? 0 : WEALD_EAGAIN);
}

TEST(a_wait_ends_at_its_deadline_and_no_earlier)
{
    waits_prepare();
    for (int i = 0; i < WAITS; i++) {
        int64_t began = test_clock(), deadline = weald_after(WEALD_MS(3));
        if (waits[i].what & WAITS_FOR_TIME)
            continue;
        WAITS_CHECK(&waits[i], waits[i].call(deadline), waits[i].what & WAITS_AND_RETURNS_0 ? 0 : WEALD_ETIMEDOUT);
        CHECK_GE(test_clock() - began, WEALD_MS(3));
    }
}

/* ---- fail ---- */

static void *fail_with_own_buffer(void *arg)
{
    char text[] = "soon gone";

    weald_fail(WEALD_EPIPE, text);
    memset(text, 'x', sizeof text - 1);
    return arg;
}

TEST(the_message_of_a_failure_is_copied_and_the_value_dropped)
{
    void *value = NULL;
    weald_greenlet g = spawned(fail_with_own_buffer, &destroyed);

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_PTR(value, NULL);
    CHECK_STR(weald_error_message(g), "soon gone");
    CHECK_EQ(weald_close(g), 0);
    CHECK_STR(weald_error_message(g), "");
}

TEST(a_failure_needs_no_message)
{
    weald_greenlet g = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    CHECK_EQ(weald_get(g, NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_STR(weald_error_message(g), "");
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_failure_always_has_a_negative_code)
{
    weald_greenlet zero = spawned(fail_silently, (void *)(intptr_t)0);
    weald_greenlet positive = spawned(fail_silently, (void *)(intptr_t)7);

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    CHECK_LT(weald_get(zero, NULL, WEALD_FOREVER), 0);
    CHECK_LT(weald_get(positive, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(zero), 0);
    CHECK_EQ(weald_close(positive), 0);
}

TEST(fail_returns_null_and_does_nothing_outside_a_greenlet)
{
    CHECK_PTR(weald_fail(WEALD_EPIPE, "nobody"), NULL);
    CHECK_EQ(weald_error(weald_self()), 0);
    CHECK_STR(weald_error_message(weald_self()), "");
}

TEST(an_unreported_failure_is_a_line_on_stderr)
{
    char text[1024] = "";
    int ends[2], saved = dup(STDERR_FILENO);
    ssize_t n;
    weald_spawn_options o = options();
    weald_greenlet g;

    o.name = "oak";
    CHECK_EQ(pipe(ends), 0);
    g = weald_spawn_with(fail, (char[]){"no rain"}, &o);
    CHECK_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    n = read(ends[0], text, sizeof text - 1);
    CHECK_GT(n, 0);
    CHECK_CONTAINS(text, "oak");
    CHECK_CONTAINS(text, "no rain");
    CHECK_CONTAINS(text, "EINVAL");
    CHECK_EQ(weald_close(g), 0);
}

/* ---- joinall, join_any, iwait ---- */

static void *wait_for_event(void *e)
{
    CHECK_EQ(weald_event_wait(*(weald_event *)e, WEALD_FOREVER), 0);
    return NULL;
}

TEST(joinall_waits_for_all_or_for_as_many_as_asked)
{
    weald_greenlet gs[3];

    make_gate();
    gs[0] = spawned(wait_at_gate, NULL);
    gs[1] = spawned(return_it, NULL);
    gs[2] = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_joinall(gs, 3, 1, 0, WEALD_FOREVER), 1);
    CHECK_EQ(weald_ready(gs[1]), 1);
    CHECK_EQ(weald_ready(gs[0]), 0);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(joinall_says_how_many_have_ended_even_if_more_than_asked)
{
    weald_greenlet gs[3];

    for (int i = 0; i < 3; i++)
        gs[i] = spawned(return_it, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_joinall(gs, 3, 1, 0, WEALD_FOREVER), 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

TEST(joinall_checks_its_arguments)
{
    weald_greenlet gs[2] = {spawned(return_it, NULL), 12345};

    CHECK_EQ(weald_joinall(gs, 1, 2, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_joinall(gs, 1, 0, 2, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_joinall(NULL, 1, 0, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_joinall(gs, SIZE_MAX, 0, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_joinall(gs, 2, 0, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_state(gs[0]), WEALD_STATE_READY); /* none of them waited */
    CHECK_EQ(weald_joinall(NULL, 0, 0, 0, WEALD_FOREVER), 0);
    join_and_close(gs[0]);
}

TEST(joinall_without_the_flag_counts_failures_as_ends)
{
    weald_greenlet gs[2];

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    gs[0] = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);
    gs[1] = spawned(return_it, NULL);
    CHECK_EQ(weald_joinall(gs, 2, 0, 0, WEALD_FOREVER), 2);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

TEST(joinall_with_the_flag_returns_at_the_first_failure)
{
    weald_greenlet gs[4];

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    make_gate();
    gs[0] = spawned(wait_at_gate, NULL);
    gs[1] = spawned(return_it, NULL);
    gs[2] = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);
    gs[3] = spawned(fail_silently, (void *)(intptr_t)WEALD_ENOENT);
    CHECK_EQ(weald_joinall(gs, 4, 0, WEALD_JOIN_RAISE, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_ready(gs[0]), 0);
    CHECK_EQ(weald_kill(gs[0], 0, WEALD_FOREVER), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(joinall_with_the_flag_returns_no_count_with_a_failure_in_it)
{
    weald_greenlet gs[3];

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    gs[0] = spawned(return_it, NULL);
    gs[1] = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);
    gs[2] = spawned(return_it, NULL);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    CHECK_EQ(weald_joinall(gs, 3, 1, WEALD_JOIN_RAISE, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_joinall(gs, 3, 1, WEALD_JOIN_RAISE, WEALD_NOW), WEALD_EPIPE);
    CHECK_EQ(weald_joinall(gs, 1, 1, WEALD_JOIN_RAISE, WEALD_FOREVER), 1);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

TEST(join_any_gives_the_index_of_one_that_has_ended)
{
    weald_greenlet gs[3];

    make_gate();
    gs[0] = spawned(wait_at_gate, NULL);
    gs[1] = spawned(wait_at_gate, NULL);
    gs[2] = spawned(return_it, NULL);
    CHECK_EQ(weald_join_any(gs, 3, WEALD_FOREVER), 2);
    CHECK_EQ(weald_join_any(gs, 3, WEALD_NOW), 2);
    CHECK_EQ(weald_join_any(gs, 2, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_killall(gs, 2, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_join_any(gs, 3, WEALD_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(join_any_checks_its_arguments)
{
    weald_greenlet gs[2] = {spawned(return_it, NULL), 12345};

    CHECK_EQ(weald_join_any(gs, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_join_any(NULL, 1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_join_any(gs, 2, WEALD_FOREVER), WEALD_EBADF);
    join_and_close(gs[0]);
}

TEST(iwait_goes_in_the_order_of_the_ends)
{
    weald_event events[3];
    weald_greenlet gs[3], next = 0;
    weald_handle it;

    for (int i = 0; i < 3; i++) {
        events[i] = weald_event_new(0);
        gs[i] = spawned(wait_for_event, &events[i]);
    }
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_event_set(events[1]), 0);
    CHECK_EQ(weald_event_set(events[2]), 0);
    it = weald_iwait(gs, 3);
    CHECK_GT(it, 0);
    CHECK_EQ(weald_kind(it), WEALD_KIND_ITERATOR);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_FOREVER), 1);
    CHECK_EQ(next, gs[1]);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_FOREVER), 1);
    CHECK_EQ(next, gs[2]);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_event_set(events[0]), 0);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_FOREVER), 1);
    CHECK_EQ(next, gs[0]);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_FOREVER), 0);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_NOW), 0);
    CHECK_EQ(weald_close(it), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_close(gs[i]), 0);
        CHECK_EQ(weald_close(events[i]), 0);
    }
}

TEST(iwait_gives_those_that_had_ended_first)
{
    weald_greenlet gs[2], next = 0;
    weald_handle it;

    make_gate();
    gs[0] = spawned(wait_at_gate, NULL);
    gs[1] = spawned(return_it, NULL);
    drain();
    it = weald_iwait(gs, 2);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_NOW), 1);
    CHECK_EQ(next, gs[1]);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(next, gs[1]);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_FOREVER), 1);
    CHECK_EQ(next, gs[0]);
    CHECK_EQ(weald_close(it), 0);
    CHECK_EQ(weald_close(gs[0]), 0);
    CHECK_EQ(weald_close(gs[1]), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(iwait_checks_its_arguments)
{
    weald_greenlet gs[2] = {spawned(return_it, NULL), 12345}, next;
    weald_handle it;

    CHECK_EQ(weald_iwait(NULL, 1), WEALD_EINVAL);
    CHECK_EQ(weald_iwait(gs, 2), WEALD_EBADF);
    it = weald_iwait(gs, 0);
    CHECK_GT(it, 0);
    CHECK_EQ(weald_iwait_next(it, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(it), 0);
    CHECK_EQ(weald_iwait_next(it, &next, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_iwait_next(gs[0], &next, WEALD_FOREVER), WEALD_EBADF);
    join_and_close(gs[0]);
}

static weald_handle iterator;
static void *close_iterator(void *arg)
{
    CHECK_EQ(weald_close(iterator), 0);
    return arg;
}

TEST(an_iterator_that_is_closed_ends_its_wait_with_ebadf)
{
    weald_greenlet g, next;

    make_gate();
    g = spawned(wait_at_gate, NULL);
    iterator = weald_iwait(&g, 1);
    CHECK_EQ(weald_go(close_iterator, NULL), 0);
    CHECK_EQ(weald_iwait_next(iterator, &next, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_event_set(gate), 0);
    join_and_close(g);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(asking_again_and_again_whether_one_has_ended_takes_no_memory)
{
    long before;
    weald_greenlet g;

    if (*test_under())
        SKIP("memory is counted on the bare machine");
    make_gate();
    g = spawned(wait_at_gate, NULL);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(weald_joinall(&g, 1, 0, 0, WEALD_NOW), WEALD_EAGAIN);
    before = test_rss();
    for (int i = 0; i < 200000; i++) {
        CHECK_EQ(weald_joinall(&g, 1, 0, 0, WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(weald_join_any(&g, 1, WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(weald_join(g, WEALD_NOW), WEALD_EAGAIN);
    }
    CHECK_LT(test_rss() - before, 4L << 20);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}
