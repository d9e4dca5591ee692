/* Kills, shields against them, and interrupts. */
#include "bodies.h"
#include "waits.h"

/* ---- kill ---- */

static void *do_the_wait(void *arg)
{
    const struct waits *w = (const struct waits *)arg;
    return (void *)(intptr_t)w->call(WEALD_FOREVER);
}

TEST(a_kill_ends_every_kind_of_wait)
{
    waits_prepare();
    for (int i = 0; i < WAITS; i++) {
        weald_greenlet g = spawned(do_the_wait, (void *)&waits[i]);
        void *code = NULL;

        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_value(g, &code), 0);
        WAITS_CHECK(&waits[i], (int)(intptr_t)code, WEALD_ECANCELED);
        CHECK_EQ(weald_close(g), 0);
    }
}

static void *kill_oneself_and_wait(void *arg)
{
    CHECK_EQ(weald_cancelled(), 0);
    CHECK_EQ(weald_kill(weald_self(), WEALD_EPIPE, WEALD_FOREVER), 0);
    CHECK_EQ(weald_cancelled(), WEALD_ECANCELED);
    for (int i = 0; i < WAITS; i++)
        WAITS_CHECK(&waits[i], waits[i].call(WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_yield(), WEALD_ECANCELED);
    CHECK_EQ(weald_idle(0), WEALD_ECANCELED);
    CHECK_EQ(weald_sleep(0), WEALD_ECANCELED);
    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_ECANCELED);
    return arg;
}

TEST(a_greenlet_may_kill_itself_and_then_all_its_waits_fail)
{
    void *value = NULL;
    weald_greenlet g;

    waits_prepare();
    g = spawned(kill_oneself_and_wait, &destroyed);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0); /* it returned a value all the same */
    CHECK_PTR(value, &destroyed);
    CHECK_EQ(weald_kill_reason(g), WEALD_EPIPE);
    CHECK_EQ(weald_close(g), 0);
}

TEST(an_unstarted_greenlet_that_is_killed_never_runs)
{
    weald_greenlet g = destroyable(never_called);
    void *value;

    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_state(g), WEALD_STATE_DONE);
    CHECK_EQ(weald_successful(g), 0);
    CHECK_EQ(weald_error(g), WEALD_ECANCELED);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_start(g), WEALD_EALREADY);
    drain();
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(destroyed, 1);
}

TEST(a_ready_greenlet_that_is_killed_before_it_began_never_runs)
{
    weald_greenlet g = destroyable(never_called);

    CHECK_EQ(weald_start(g), 0);
    CHECK_EQ(weald_kill(g, WEALD_EPIPE, WEALD_NOW), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_error(g), WEALD_ECANCELED);
    CHECK_EQ(weald_kill_reason(g), WEALD_EPIPE);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_delayed_greenlet_that_is_killed_never_runs)
{
    weald_greenlet g = destroyable(never_called);

    CHECK_EQ(weald_start_later(g, WEALD_MS(2)), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_ready(g), 1);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_kill_is_no_failure_to_report)
{
    weald_greenlet g;

    CHECK_EQ(weald_set_error_handler(count_report, NULL), 0);
    make_gate();
    g = spawned(wait_at_gate, NULL); /* fails with WEALD_ECANCELED */
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_error(g), WEALD_ECANCELED);
    CHECK_EQ(reported, 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(the_first_reason_of_two_kills_is_kept)
{
    weald_greenlet g;

    make_gate();
    g = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_kill_reason(g), 0);
    CHECK_EQ(weald_kill(g, WEALD_EPIPE, WEALD_NOW), 0);
    CHECK_EQ(weald_kill_reason(g), WEALD_EPIPE);
    CHECK_EQ(weald_kill(g, WEALD_ENOENT, WEALD_FOREVER), 0);
    CHECK_EQ(weald_kill_reason(g), WEALD_EPIPE);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(a_kill_without_a_reason_has_ecanceled_for_one)
{
    weald_greenlet g = weald_greenlet_new(never_called, NULL, NULL);

    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_kill_reason(g), WEALD_ECANCELED);
    join_and_close(g);
}

TEST(killing_one_that_has_ended_changes_nothing)
{
    void *value = NULL;
    weald_greenlet g = spawned(return_it, &destroyed);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, WEALD_EPIPE, WEALD_FOREVER), 0);
    CHECK_EQ(weald_kill(g, WEALD_EPIPE, WEALD_NOW), 0);
    CHECK_EQ(weald_kill_reason(g), 0);
    CHECK_EQ(weald_value(g, &value), 0);
    CHECK_PTR(value, &destroyed);
    CHECK_EQ(weald_close(g), 0);
}

static void *kill_main(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_kill(weald_main(), 0, WEALD_NOW);
}

TEST(main_can_not_be_killed)
{
    weald_greenlet me = weald_self(), g = spawned(kill_main, NULL);
    void *code;

    CHECK_EQ(weald_kill(me, 0, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_killall(&me, 1, 0, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_get(g, &code, WEALD_FOREVER), 0);
    CHECK_EQ((intptr_t)code, WEALD_EPERM);
    CHECK_EQ(weald_kill_reason(me), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_positive_reason_is_einval)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_kill(g, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_killall(&g, 1, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_kill_reason(g), 0);
    join_and_close(g);
}

static void *ignore_kills_until_the_gate_opens(void *arg)
{
    while (weald_event_is_set(gate) == 0) {
        CHECK_EQ(weald_shield(1), 0);
        weald_sleep(WEALD_MS(1));
        CHECK_EQ(weald_shield(0), 0);
    }
    return arg;
}

TEST(a_kill_waits_for_the_end_until_its_deadline)
{
    weald_greenlet g;

    make_gate();
    g = spawned(ignore_kills_until_the_gate_opens, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, weald_after(WEALD_MS(10))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_ready(g), 0);
    CHECK_EQ(weald_killall(&g, 1, 0, weald_after(WEALD_MS(10))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_ready(g), 1);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static weald_greenlet target;

static void *kill_target(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_kill(target, 0, WEALD_FOREVER);
}

static void *killall_target(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_killall(&target, 1, 0, WEALD_FOREVER);
}

TEST(one_that_waits_for_the_end_of_its_victim_may_be_killed)
{
    const weald_fn killers[] = {kill_target, killall_target};

    for (int i = 0; i < 2; i++) {
        weald_greenlet killer;
        void *code;

        make_gate();
        target = spawned(ignore_kills_until_the_gate_opens, NULL);
        killer = spawned(killers[i], NULL);
        drain();
        CHECK_EQ(weald_kill(killer, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_value(killer, &code), 0);
        CHECK_EQ((intptr_t)code, WEALD_ECANCELED);
        CHECK_EQ(weald_event_set(gate), 0);
        join_and_close(target);
        CHECK_EQ(weald_close(killer), 0);
        CHECK_EQ(weald_close(gate), 0);
    }
}

static void *shielded_for_ever(void *arg)
{
    CHECK_EQ(weald_shield(1), 0);
    weald_event_wait(gate, WEALD_FOREVER);
    return arg;
}

TEST(waiting_for_the_end_of_one_that_can_not_end_is_edeadlk)
{
    weald_greenlet g;

    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    make_gate();
    g = spawned(shielded_for_ever, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_killall(&g, 1, 0, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_event_set(gate), 0);
    join_and_close(g);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(killall_kills_all_before_it_waits_for_any)
{
    weald_greenlet gs[3];

    make_gate();
    for (int i = 0; i < 3; i++)
        gs[i] = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_killall(gs, 3, WEALD_EPIPE, WEALD_NOW), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_kill_reason(gs[i]), WEALD_EPIPE);
        CHECK_EQ(weald_ready(gs[i]), 0);
    }
    CHECK_EQ(weald_killall(gs, 3, 0, WEALD_FOREVER), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_ready(gs[i]), 1);
        CHECK_EQ(weald_close(gs[i]), 0);
    }
    CHECK_EQ(weald_close(gate), 0);
}

TEST(killall_with_a_bad_handle_kills_none)
{
    weald_greenlet gs[2];

    make_gate();
    gs[0] = spawned(wait_at_gate, NULL);
    gs[1] = 12345;
    CHECK_EQ(weald_killall(gs, 2, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_killall(NULL, 2, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_kill_reason(gs[0]), 0);
    CHECK_EQ(weald_event_set(gate), 0);
    join_and_close(gs[0]);
    CHECK_EQ(weald_close(gate), 0);
}

static weald_greenlet family[2];
static void *killall_family(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_killall(family, 2, 0, WEALD_FOREVER);
}

TEST(one_of_its_own_victims_does_not_wait_for_itself)
{
    void *code = NULL;

    make_gate();
    family[0] = spawned(killall_family, NULL);
    family[1] = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_get(family[0], &code, WEALD_FOREVER), 0);
    /* It is killed itself, so it can not wait for the other either. */
    CHECK_EQ((intptr_t)code, WEALD_ECANCELED);
    join_and_close(family[1]);
    CHECK_EQ(weald_close(family[0]), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static weald_greenlet victims[8];
static int pipe_ends[2];

static void *sleep_and_kill_victim(void *arg)
{
    CHECK_EQ(weald_sleep_until(*(int64_t *)arg), 0);
    CHECK_EQ(weald_state(victims[0]), WEALD_STATE_READY);
    CHECK_EQ(weald_kill(victims[0], 0, WEALD_NOW), 0);
    return NULL;
}

TEST(a_kill_between_the_end_of_a_sleep_and_its_return_is_seen)
{
    int64_t due = weald_after(WEALD_MS(100)); /* both sleep by then */
    void *code = NULL;

    CHECK_EQ(weald_go(sleep_and_kill_victim, &due), 0);
    victims[0] = spawned(sleep_until_arg, &due);
    CHECK_EQ(weald_get(victims[0], &code, WEALD_FOREVER), 0);
    CHECK_EQ((intptr_t)code, WEALD_ECANCELED);
    CHECK_EQ(weald_close(victims[0]), 0);
}

/* Whoever is told first kills the others, which are ready and have not run. */
static void *poll_pipe(void *arg)
{
    struct pollfd fd = {.fd = pipe_ends[0], .events = POLLIN};
    intptr_t code = weald_poll(&fd, 1, WEALD_FOREVER);

    (void)arg;
    if (code == 1)
        for (int i = 0; i < 8; i++)
            if (victims[i] != weald_self())
                CHECK_EQ(weald_kill(victims[i], 0, WEALD_NOW), 0);
    return (void *)code;
}

TEST(a_kill_between_the_end_of_a_poll_and_its_return_is_seen)
{
    int cancelled = 0;

    CHECK_EQ(pipe(pipe_ends), 0);
    for (int i = 0; i < 8; i++)
        victims[i] = spawned(poll_pipe, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
    for (int i = 0; i < 8; i++) {
        void *code = NULL;
        CHECK_EQ(weald_get(victims[i], &code, WEALD_FOREVER), 0);
        cancelled += (intptr_t)code == WEALD_ECANCELED;
    }
    CHECK_EQ(cancelled, 7);
}

/* ---- shield ---- */

static void *clean_up_under_a_shield(void *arg)
{
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_cancelled(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_shield(0), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0); /* one level is left */
    CHECK_EQ(weald_shield(0), 0);
    CHECK_EQ(weald_cancelled(), WEALD_ECANCELED);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), WEALD_ECANCELED);
    return note(arg);
}

TEST(a_killed_greenlet_may_block_under_a_shield)
{
    weald_greenlet g;

    make_gate();
    g = spawned(clean_up_under_a_shield, (char[]){"a"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static void *shielded_then_not(void *arg)
{
    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0);
    note(arg);
    CHECK_EQ(weald_shield(0), 0);
    CHECK_EQ(weald_yield(), WEALD_ECANCELED);
    return note(arg);
}

TEST(a_kill_that_came_under_a_shield_works_when_it_is_lowered)
{
    weald_greenlet g;

    make_gate();
    g = spawned(shielded_then_not, (char[]){"a"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, WEALD_EPIPE, WEALD_NOW), 0);
    CHECK_EQ(weald_kill_reason(g), WEALD_EPIPE);
    drain();
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    CHECK_EQ(weald_event_set(gate), 0);
    join_and_close(g);
    CHECK_STR(order, "aa");
    CHECK_EQ(weald_close(gate), 0);
}

static void shield_in_loop(void *codes)
{
    ((int *)codes)[0] = weald_shield(1);
    ((int *)codes)[1] = weald_shield(0);
}

TEST(a_shield_in_a_callback_is_ewouldblock_and_shields_nobody)
{
    int codes[2];
    weald_handle hub = weald_hub();

    for (int i = 0; i < 2; i++) { /* the second time finds nothing that the first left */
        codes[0] = codes[1] = 1;
        CHECK_EQ(weald_post(hub, shield_in_loop, codes), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        CHECK_EQ(codes[0], WEALD_EWOULDBLOCK);
        CHECK_EQ(codes[1], WEALD_EWOULDBLOCK);
    }
    CHECK_EQ(weald_close(hub), 0);
}

TEST(lowering_a_shield_that_is_not_raised_is_einval)
{
    CHECK_EQ(weald_shield(0), WEALD_EINVAL);
    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_shield(0), 0);
    CHECK_EQ(weald_shield(0), WEALD_EINVAL);
}

/* ---- interrupt ---- */

static void *wait_twice(void *arg)
{
    intptr_t first = weald_event_wait(gate, WEALD_FOREVER);

    (void)arg;
    CHECK_EQ(weald_yield(), 0); /* once only */
    return (void *)first;
}

TEST(an_interrupt_ends_the_current_wait_once)
{
    weald_greenlet g;
    void *code = NULL;

    make_gate();
    g = spawned(wait_twice, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    CHECK_EQ(weald_get(g, &code, WEALD_FOREVER), 0);
    CHECK_EQ((intptr_t)code, WEALD_EINTR);
    CHECK_EQ(weald_kill_reason(g), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(an_interrupt_of_one_that_does_not_wait_is_for_its_next_wait)
{
    weald_greenlet g;
    void *code = NULL;

    make_gate();
    g = spawned(wait_twice, NULL);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    CHECK_EQ(weald_get(g, &code, WEALD_FOREVER), 0);
    CHECK_EQ((intptr_t)code, WEALD_EINTR);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(an_interrupt_ends_every_kind_of_wait_with_its_code)
{
    waits_prepare();
    for (int i = 0; i < WAITS; i++) {
        weald_greenlet g = spawned(do_the_wait, (void *)&waits[i]);
        void *code = NULL;

        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_interrupt(g, -3333), 0);
        CHECK_EQ(weald_get(g, &code, WEALD_FOREVER), 0);
        WAITS_CHECK(&waits[i], (int)(intptr_t)code, -3333);
        CHECK_EQ(weald_close(g), 0);
    }
}

TEST(an_interrupt_with_etimedout_is_no_deadline_that_passed)
{
    waits_prepare();
    for (int i = 0; i < WAITS; i++) {
        weald_greenlet g = spawned(do_the_wait, (void *)&waits[i]);
        void *code = NULL;

        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_interrupt(g, WEALD_ETIMEDOUT), 0);
        CHECK_EQ(weald_get(g, &code, WEALD_FOREVER), 0);
        WAITS_CHECK(&waits[i], (int)(intptr_t)code, WEALD_ETIMEDOUT);
        CHECK_EQ(weald_close(g), 0);
    }
}

TEST(an_interrupt_with_ebadf_is_returned_as_such)
{
    waits_prepare();
    for (int i = 0; i < WAITS; i++) {
        weald_greenlet g = spawned(do_the_wait, (void *)&waits[i]);
        void *code = NULL;

        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_interrupt(g, WEALD_EBADF), 0);
        CHECK_EQ(weald_get(g, &code, weald_after(WEALD_SEC(2))), 0);
        WAITS_CHECK(&waits[i], (int)(intptr_t)code, WEALD_EBADF);
        CHECK_EQ(weald_close(g), 0);
    }
}

static void *interrupt_main(void *arg)
{
    CHECK_EQ(weald_interrupt(weald_main(), WEALD_EINTR), 0);
    return arg;
}

TEST(main_can_be_interrupted)
{
    CHECK_EQ(weald_go(interrupt_main, NULL), 0);
    CHECK_EQ(weald_sleep(WEALD_SEC(100)), WEALD_EINTR);
    CHECK_EQ(weald_yield(), 0);
}

TEST(an_interrupt_needs_a_negative_code_and_a_living_greenlet)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_interrupt(g, 0), WEALD_EINVAL);
    CHECK_EQ(weald_interrupt(g, 4), WEALD_EINVAL);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), WEALD_EALREADY);
    CHECK_EQ(weald_close(g), 0);
}
