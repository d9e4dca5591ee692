/* Greenlets: made, started, ended, waited for, killed, linked, named. */
#include "greenlets.h"
#include "waits.h"
#include <dlfcn.h>
#include <pthread.h>

static char order[64];

static void *note(void *arg)
{
    strcat(order, (const char *)arg);
    return arg;
}

static void *note_twice(void *arg)
{
    note(arg);
    CHECK_EQ(weald_yield(), 0);
    return note(arg);
}

TEST(a_spawned_greenlet_runs_when_the_spawner_waits)
{
    static char a[] = "a";
    weald_greenlet g = weald_spawn(note, a);

    CHECK_GT(g, 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
}

TEST(greenlets_take_turns_in_the_order_they_were_spawned)
{
    static char a[] = "a", b[] = "b", c[] = "c";
    weald_greenlet gs[3];

    gs[0] = weald_spawn(note_twice, a);
    gs[1] = weald_spawn(note_twice, b);
    gs[2] = weald_spawn(note_twice, c);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    CHECK_STR(order, "abcabc");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

TEST(get_hands_out_what_the_body_returned)
{
    static char a[] = "a";
    void *value = NULL;
    weald_greenlet g = weald_spawn(note, a);

    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, a);
    CHECK_EQ(weald_close(g), 0);
}

static void *fail(void *arg) { return weald_fail(WEALD_EINVAL, (const char *)arg); }

static int reported;
static void count_report(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g;
    CHECK_EQ(code, WEALD_EINVAL);
    CHECK_STR(message, (const char *)user);
    reported++;
}

TEST(a_failure_is_reported_once_and_kept)
{
    static char why[] = "no such tree";
    void *value = &reported;
    weald_greenlet g;

    CHECK_EQ(weald_set_error_handler(count_report, why), 0);
    g = weald_spawn(fail, why);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_PTR(value, &reported);
    CHECK_STR(weald_error_message(g), why);
    CHECK_EQ(reported, 1);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_join_at_its_deadline_is_etimedout)
{
    static char a[] = "a";
    int64_t began = test_clock();
    weald_greenlet g = weald_greenlet_new(note, a, NULL);

    CHECK_EQ(weald_join(g, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(20));
    CHECK_STR(order, "");
    CHECK_EQ(weald_close(g), 0);
}

TEST(joining_oneself_is_edeadlk) { CHECK_EQ(weald_join(weald_self(), WEALD_FOREVER), WEALD_EDEADLK); }

TEST(errno_is_each_greenlets_own)
{
    static char a[] = "a";
    weald_greenlet g = weald_spawn(note_twice, a);

    errno = ENOTTY;
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(errno, ENOTTY);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(errno, ENOTTY);
    CHECK_EQ(weald_close(g), 0);
}

TEST(errno_is_not_touched_by_the_first_call_nor_by_new_stacks)
{
    errno = ENOTTY;
    for (int i = 0; i < 300; i++) {
        CHECK_EQ(weald_go(note_twice, (void *)""), 0);
        CHECK_EQ(errno, ENOTTY);
    }
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(errno, ENOTTY);
}

TEST(a_sleep_is_not_shorter_than_asked)
{
    int64_t began = test_clock();

    CHECK_EQ(weald_sleep(WEALD_US(300)), 0);
    CHECK_GE(test_clock() - began, WEALD_US(300));
}

/* ---- what the tests below share ---- */

static weald_event gate; /* opened by a test that wants those who wait at it to go on */

static void *wait_at_gate(void *arg)
{
    int code = weald_event_wait(gate, WEALD_FOREVER);
    return code == 0 ? arg : weald_fail(code, NULL);
}

static void make_gate(void) { CHECK_GT(gate = weald_event_new(0), 0); }

static void *return_it(void *arg) { return arg; }

static void *never_called(void *arg)
{
    (void)arg;
    fprintf(stderr, "the body of a greenlet ran that must not\n");
    test_leave(TEST_FAILED);
}

static void *fail_silently(void *arg) { return weald_fail((int)(intptr_t)arg, NULL); }

static void ignore_failure(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message, (void)user;
}

static void ignore_report(const char *text, void *user) { (void)text, (void)user; }

static int destroyed;
static void count_destroyed(void *arg)
{
    (void)arg;
    destroyed++;
}

static weald_spawn_options options(void)
{
    weald_spawn_options o;
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    return o;
}

static weald_greenlet destroyable(weald_fn fn)
{
    weald_spawn_options o = options();
    weald_greenlet g;

    o.destroy = count_destroyed;
    g = weald_greenlet_new(fn, NULL, &o);
    CHECK_GT(g, 0);
    return g;
}

static void join_and_close(weald_greenlet g)
{
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

static void drain(void)
{
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weald_yield(), 0);
}

/* ---- spawn ---- */

TEST(spawning_nothing_is_einval)
{
    CHECK_EQ(weald_spawn(NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_spawn_with(NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_greenlet_new(NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_go(NULL, NULL), WEALD_EINVAL);
}

TEST(go_runs_it_and_gives_no_handle)
{
    static char a[] = "a";

    CHECK_EQ(weald_go(note, a), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "a");
}

TEST(an_option_out_of_range_is_einval)
{
    weald_spawn_options o = options();

    o.size = 0;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o.size = 4;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o.size = sizeof o - 1; /* the first version is the shortest */
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o.size = SIZE_MAX;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o = options();
    o.stack_size = 16 * 1024 - 1;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o.stack_size = SIZE_MAX;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o = options();
    o.delay_ns = -1;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o = options();
    o.flags = 2;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o = options();
    o.name = "\xff\xfe";
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    o = options();
    o.flags = WEALD_SPAWN_DETACHED;
    CHECK_EQ(weald_greenlet_new(never_called, NULL, &o), WEALD_EINVAL);
    drain();
}

TEST(spawning_into_what_is_no_group_is_ebadf)
{
    weald_spawn_options o = options();

    o.group = weald_self();
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EBADF);
    o.group = 12345;
    CHECK_EQ(weald_greenlet_new(never_called, NULL, &o), WEALD_EBADF);
    drain();
}

TEST(a_spawn_that_fails_leaves_the_argument_to_the_caller)
{
    weald_spawn_options o = options();

    o.destroy = count_destroyed;
    o.group = 12345;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EBADF);
    o.group = 0;
    o.delay_ns = -1;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), WEALD_EINVAL);
    drain();
    CHECK_EQ(destroyed, 0);
}

TEST(the_larger_option_struct_of_a_newer_program_is_understood)
{
    struct {
        weald_spawn_options known;
        char unknown[64];
    } o;
    char name[16];
    weald_greenlet g;

    memset(&o, 0, sizeof o);
    o.known.size = sizeof o;
    o.known.name = "new";
    g = weald_spawn_with(return_it, NULL, &o.known);
    CHECK_GT(g, 0);
    CHECK_EQ(weald_name(g, name, sizeof name), 3);
    CHECK_STR(name, "new");
    join_and_close(g);
}

TEST(a_detached_greenlet_has_no_handle_and_runs)
{
    static char a[] = "a";
    weald_spawn_options o = options();

    o.flags = WEALD_SPAWN_DETACHED;
    CHECK_EQ(weald_spawn_with(note, a, &o), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "a");
}

TEST(a_detached_greenlet_may_be_delayed)
{
    static char a[] = "a";
    weald_spawn_options o = options();

    o.flags = WEALD_SPAWN_DETACHED;
    o.delay_ns = WEALD_MS(5);
    CHECK_EQ(weald_spawn_with(note, a, &o), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
}

TEST(a_delayed_greenlet_begins_no_earlier)
{
    static char a[] = "a";
    int64_t began = test_clock();
    weald_spawn_options o = options();
    weald_greenlet g;

    o.delay_ns = WEALD_MS(20);
    g = weald_spawn_with(note, a, &o);
    CHECK_EQ(weald_started(g), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_NEW);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(20));
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_delayed_greenlet_whose_handle_is_closed_still_runs)
{
    static char a[] = "a";
    weald_spawn_options o = options();
    weald_greenlet g;

    o.delay_ns = WEALD_MS(5);
    g = weald_spawn_with(note, a, &o);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
}

static void *count_arg(void *arg)
{
    CHECK_EQ(destroyed, 0);
    return arg;
}

TEST(the_argument_is_destroyed_once_after_the_body)
{
    weald_greenlet g = destroyable(count_arg);

    CHECK_EQ(weald_start(g), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(destroyed, 1);
}

TEST(closing_the_handle_of_one_that_was_never_started_destroys_its_argument)
{
    weald_greenlet g = destroyable(never_called);

    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_state(g), WEALD_EBADF);
    drain();
}

TEST(a_spawned_member_is_in_its_group_until_its_end)
{
    weald_spawn_options o = options();
    weald_group grp = weald_group_new();
    weald_greenlet g;

    o.group = grp;
    g = weald_spawn_with(return_it, NULL, &o);
    CHECK_EQ(weald_group_contains(grp, g), 1);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_len(grp), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(grp), 0);
}

TEST(a_closed_handle_does_not_end_a_running_greenlet)
{
    static char a[] = "a";
    weald_greenlet g = spawned(note_twice, a);

    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "aa");
    CHECK_EQ(weald_state(g), WEALD_EBADF);
}

static weald_greenlet held;
static void *hold_oneself(void *arg)
{
    held = weald_dup(weald_self());
    CHECK_GT(held, 0);
    return arg;
}

TEST(a_dup_of_a_handle_that_nobody_had_outlives_the_greenlet)
{
    static char a[] = "a";

    for (int closed = 0; closed < 2; closed++) {
        void *value = NULL;
        if (closed)
            CHECK_EQ(weald_close(spawned(hold_oneself, a)), 0);
        else
            CHECK_EQ(weald_go(hold_oneself, a), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_get(held, &value, WEALD_NOW), 0);
        CHECK_PTR(value, a);
        CHECK_EQ(weald_close(held), 0);
        CHECK_EQ(weald_close(held), WEALD_EBADF);
    }
}

TEST(a_stale_handle_is_rejected_after_reuse_of_the_record)
{
    weald_greenlet old = spawned(return_it, NULL), fresh;
    void *value;

    join_and_close(old);
    fresh = spawned(return_it, NULL);
    CHECK_NE(fresh, old);
    CHECK_EQ(weald_state(old), WEALD_EBADF);
    CHECK_EQ(weald_kill(old, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_value(old, &value), WEALD_EBADF);
    CHECK_EQ(weald_kill_reason(fresh), 0);
    join_and_close(fresh);
}

/* ---- start ---- */

TEST(a_new_greenlet_does_not_run_until_it_is_started)
{
    static char a[] = "a";
    weald_greenlet g = weald_greenlet_new(note, a, NULL);

    CHECK_EQ(weald_started(g), 0);
    drain();
    CHECK_STR(order, "");
    CHECK_EQ(weald_start(g), 0);
    CHECK_EQ(weald_started(g), 1);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_started(g), 1);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_greenlet_starts_once)
{
    weald_greenlet g = weald_greenlet_new(return_it, NULL, NULL);

    CHECK_EQ(weald_start(g), 0);
    CHECK_EQ(weald_start(g), WEALD_EALREADY);
    CHECK_EQ(weald_start_later(g, 1), WEALD_EALREADY);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_start(g), WEALD_EALREADY);
    CHECK_EQ(weald_start_later(g, 1), WEALD_EALREADY);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_start(g), WEALD_EBADF);
    CHECK_EQ(weald_start_later(g, 1), WEALD_EBADF);
}

TEST(starting_puts_it_behind_everything_ready)
{
    static char a[] = "a", b[] = "b", c[] = "c";
    weald_greenlet first = weald_greenlet_new(note, a, NULL);

    CHECK_EQ(weald_go(note, b), 0);
    CHECK_EQ(weald_start(first), 0);
    CHECK_EQ(weald_go(note, c), 0);
    join_and_close(first);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "bac");
}

TEST(start_later_starts_it_no_earlier)
{
    static char a[] = "a";
    int64_t began = test_clock();
    weald_greenlet g = weald_greenlet_new(note, a, NULL);

    CHECK_EQ(weald_start_later(g, WEALD_MS(20)), 0);
    CHECK_EQ(weald_started(g), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(20));
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_negative_delay_is_einval_and_changes_nothing)
{
    weald_greenlet g = weald_greenlet_new(return_it, NULL, NULL);

    CHECK_EQ(weald_start_later(g, -1), WEALD_EINVAL);
    CHECK_EQ(weald_state(g), WEALD_STATE_NEW);
    CHECK_EQ(weald_start_later(g, 0), 0);
    join_and_close(g);
}

TEST(one_that_is_killed_before_it_begins_was_never_started)
{
    weald_greenlet fresh = weald_greenlet_new(never_called, NULL, NULL), late = weald_greenlet_new(never_called, NULL, NULL);

    CHECK_EQ(weald_start_later(late, WEALD_SEC(1000)), 0);
    CHECK_EQ(weald_kill(fresh, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_kill(late, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_started(fresh), 0);
    CHECK_EQ(weald_started(late), 0);
    CHECK_EQ(weald_close(fresh), 0);
    CHECK_EQ(weald_close(late), 0);
}

TEST(starting_one_that_is_to_start_later_starts_it_now)
{
    static char a[] = "a";
    weald_greenlet g = weald_greenlet_new(note, a, NULL);

    CHECK_EQ(weald_start_later(g, WEALD_SEC(1000)), 0);
    CHECK_EQ(weald_start(g), 0);
    join_and_close(g);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_run(WEALD_FOREVER), 0); /* the timer is gone */
}

TEST(a_second_start_later_replaces_the_first)
{
    static char a[] = "a";
    weald_greenlet g = weald_greenlet_new(note, a, NULL);

    CHECK_EQ(weald_start_later(g, WEALD_SEC(1000)), 0);
    CHECK_EQ(weald_start_later(g, WEALD_MS(1)), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
}

static void *coro_body(void *first, void *arg)
{
    (void)arg;
    return first;
}

TEST(a_coroutine_is_not_started_but_switched_to)
{
    weald_greenlet c = weald_coro_new(coro_body, NULL, 0, NULL);

    CHECK_EQ(weald_start(c), WEALD_EINVAL);
    CHECK_EQ(weald_start_later(c, 0), WEALD_EINVAL);
    CHECK_EQ(weald_close(c), 0);
}

/* ---- states ---- */

static void *state_inside(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)(weald_state(weald_self()) * 10 + weald_started(weald_self()));
}

TEST(state_tells_new_ready_running_and_done)
{
    weald_greenlet g = weald_greenlet_new(state_inside, NULL, NULL);
    void *inside;

    CHECK_EQ(weald_state(g), WEALD_STATE_NEW);
    CHECK_EQ(weald_start(g), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_READY);
    CHECK_EQ(weald_get(g, &inside, WEALD_FOREVER), 0);
    CHECK_EQ((intptr_t)inside, WEALD_STATE_RUNNING * 10 + 1);
    CHECK_EQ(weald_state(g), WEALD_STATE_DONE);
    CHECK_EQ(weald_close(g), 0);
}

TEST(one_that_waits_is_parked_and_one_that_was_woken_ready)
{
    weald_greenlet g;

    make_gate();
    g = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_READY);
    join_and_close(g);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(main_is_running) { CHECK_EQ(weald_state(weald_self()), WEALD_STATE_RUNNING); }

TEST(ready_and_successful_are_for_the_end)
{
    weald_greenlet good = spawned(return_it, NULL);
    weald_greenlet bad = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    CHECK_EQ(weald_ready(good), 0);
    CHECK_EQ(weald_successful(good), 0);
    CHECK_EQ(weald_error(bad), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_ready(good), 1);
    CHECK_EQ(weald_successful(good), 1);
    CHECK_EQ(weald_error(good), 0);
    CHECK_EQ(weald_ready(bad), 1);
    CHECK_EQ(weald_successful(bad), 0);
    CHECK_EQ(weald_error(bad), WEALD_EPIPE);
    CHECK_EQ(weald_close(good), 0);
    CHECK_EQ(weald_close(bad), 0);
}

TEST(value_does_not_wait)
{
    static char a[] = "a";
    void *value = NULL;
    weald_greenlet g = spawned(return_it, a);

    CHECK_EQ(weald_value(g, &value), WEALD_EAGAIN);
    CHECK_PTR(value, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_value(g, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_value(g, &value), 0);
    CHECK_PTR(value, a);
    CHECK_EQ(weald_close(g), 0);
}

TEST(the_value_of_a_failed_greenlet_is_its_code)
{
    void *value = &destroyed;
    weald_greenlet g = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_value(g, &value), WEALD_EPIPE);
    CHECK_PTR(value, &destroyed);
    CHECK_EQ(weald_close(g), 0);
}

static void never_linked(weald_handle ended, void *arg)
{
    (void)ended;
    never_called(arg);
}

/* Every function that takes a greenlet, to call with a handle that is none. */
static int look_at(weald_greenlet g, void *value, char *name, size_t room)
{
    int code = weald_state(g);

    CHECK_EQ(weald_start(g), code);
    CHECK_EQ(weald_start_later(g, 0), code);
    CHECK_EQ(weald_join(g, WEALD_NOW), code);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), code);
    CHECK_EQ(weald_joinall(&g, 1, 0, 0, WEALD_FOREVER), code);
    CHECK_EQ(weald_join_any(&g, 1, WEALD_FOREVER), code);
    CHECK_EQ(weald_iwait(&g, 1), code);
    CHECK_EQ(weald_get(g, (void **)value, WEALD_FOREVER), code);
    CHECK_STR(weald_error_message(g), "");
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), code);
    CHECK_EQ(weald_killall(&g, 1, 0, WEALD_FOREVER), code);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), code);
    CHECK_EQ(weald_kill_reason(g), code);
    CHECK_EQ(weald_link(g, never_linked, NULL, WEALD_LINK_ALWAYS), code);
    CHECK_EQ(weald_unlink(g, 1), code);
    CHECK_EQ(weald_started(g), code);
    CHECK_EQ(weald_ready(g), code);
    CHECK_EQ(weald_successful(g), code);
    CHECK_EQ(weald_value(g, (void **)value), code);
    CHECK_EQ(weald_error(g), code);
    CHECK_EQ(weald_parent(g), code);
    CHECK_EQ(weald_id(g), code);
    CHECK_EQ(weald_set_name(g, "x"), code);
    CHECK_EQ(weald_name(g, name, room), code);
    CHECK_PTR(weald_spawn_site(g), NULL);
    return code;
}

TEST(what_is_no_greenlet_is_ebadf_everywhere)
{
    weald_event e = weald_event_new(0);
    void *value;
    char name[8];
    const int64_t bad[] = {0, -1, 1, INT64_MAX, INT64_MIN, e};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(look_at(bad[i], &value, name, sizeof name), WEALD_EBADF);
    CHECK_EQ(weald_close(e), 0);
}

static void *look_from_another_thread(void *g)
{
    void *value;
    char name[8];
    CHECK_EQ(look_at(*(weald_greenlet *)g, &value, name, sizeof name), WEALD_EPERM);
    return NULL;
}

TEST(another_threads_greenlet_is_eperm_everywhere)
{
    pthread_t thread;
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(pthread_create(&thread, NULL, look_from_another_thread, &g), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_READY);
    join_and_close(g);
}

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

static void *sleep_until_arg(void *arg)
{
    return (void *)(intptr_t)weald_sleep_until(*(int64_t *)arg);
}

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

/* ---- links ---- */

static weald_handle linked[8];
static int links;

static void note_link(weald_handle ended, void *arg)
{
    CHECK_EQ(weald_self(), 0); /* in the loop */
    linked[links++] = ended;
    strcat(order, (const char *)arg);
}

TEST(links_fire_in_order_after_the_end)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_GT(weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"2"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"3"}, WEALD_LINK_ALWAYS), 0);
    drain();
    CHECK_STR(order, "123");
    CHECK_EQ(linked[0], g);
    CHECK_EQ(weald_close(g), 0);
}

TEST(links_may_be_for_a_value_or_for_a_failure_alone)
{
    weald_greenlet good = spawned(return_it, NULL), bad;

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    bad = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);
    CHECK_GT(weald_link(good, note_link, (char[]){"v"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(good, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_GT(weald_link(bad, note_link, (char[]){"V"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(bad, note_link, (char[]){"E"}, WEALD_LINK_ERROR), 0);
    CHECK_GT(weald_link(bad, note_link, (char[]){"A"}, WEALD_LINK_ALWAYS), 0);
    drain();
    CHECK_STR(order, "vEA");
    CHECK_EQ(weald_close(good), 0);
    CHECK_EQ(weald_close(bad), 0);
}

TEST(links_of_one_killed_before_it_began_fire_as_failures)
{
    weald_greenlet g = weald_greenlet_new(never_called, NULL, NULL);

    CHECK_GT(weald_link(g, note_link, (char[]){"v"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"a"}, WEALD_LINK_ALWAYS), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    drain();
    CHECK_STR(order, "ea");
    CHECK_EQ(weald_close(g), 0);
}

TEST(links_of_one_that_was_never_started_fire_when_it_is_closed)
{
    weald_greenlet g = weald_greenlet_new(never_called, NULL, NULL);

    CHECK_GT(weald_link(g, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_STR(order, "");
    drain();
    CHECK_STR(order, "e");
}

TEST(a_link_made_after_the_end_fires_in_the_next_turn)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"a"}, WEALD_LINK_ALWAYS), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_STR(order, "");
    drain();
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
}

TEST(an_unlinked_callback_does_not_run)
{
    weald_greenlet g = spawned(return_it, NULL);
    int64_t first = weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS);
    int64_t second = weald_link(g, note_link, (char[]){"2"}, WEALD_LINK_ALWAYS);

    CHECK_NE(first, second);
    CHECK_EQ(weald_unlink(g, first), 0);
    CHECK_EQ(weald_unlink(g, first), WEALD_ENOENT);
    CHECK_EQ(weald_unlink(g, 0), WEALD_ENOENT);
    CHECK_EQ(weald_unlink(g, -1), WEALD_ENOENT);
    drain();
    CHECK_STR(order, "2");
    CHECK_EQ(weald_unlink(g, second), WEALD_ENOENT);
    CHECK_EQ(weald_close(g), 0);
}

static int64_t other_link;

static void unlink_other(weald_handle ended, void *expected)
{
    note_link(ended, "u");
    CHECK_EQ(weald_unlink(ended, other_link), (int)(intptr_t)expected);
}

TEST(a_callback_may_unlink_those_behind_it)
{
    weald_greenlet g = spawned(return_it, NULL);

    other_link = weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS);
    CHECK_GT(weald_link(g, unlink_other, (void *)(intptr_t)WEALD_ENOENT, WEALD_LINK_ALWAYS), 0); /* it has fired */
    drain();
    CHECK_STR(order, "1u");
    CHECK_GT(weald_link(g, unlink_other, NULL, WEALD_LINK_ALWAYS), 0);
    other_link = weald_link(g, note_link, (char[]){"2"}, WEALD_LINK_ALWAYS);
    CHECK_GT(weald_link(g, note_link, (char[]){"3"}, WEALD_LINK_ALWAYS), 0);
    drain();
    CHECK_STR(order, "1uu3");
    CHECK_EQ(weald_close(g), 0);
}

TEST(until_it_fires_a_link_to_one_that_has_ended_is_taken_back)
{
    weald_greenlet g = spawned(return_it, NULL), other = spawned(return_it, NULL);
    int64_t late;

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    late = weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS);
    CHECK_EQ(weald_unlink(other, late), WEALD_ENOENT); /* another's */
    CHECK_EQ(weald_unlink(g, late), 0);
    CHECK_EQ(weald_unlink(g, late), WEALD_ENOENT);
    drain();
    CHECK_STR(order, "");
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(other), 0);
}

TEST(a_link_needs_a_function_and_a_known_occasion)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_link(g, NULL, NULL, WEALD_LINK_ALWAYS), WEALD_EINVAL);
    CHECK_EQ(weald_link(g, note_link, NULL, 3), WEALD_EINVAL);
    CHECK_EQ(weald_link(g, note_link, NULL, -1), WEALD_EINVAL);
    join_and_close(g);
    drain();
    CHECK_EQ(links, 0);
}

static void *open_gate(void *arg)
{
    CHECK_EQ(weald_event_set(gate), 0);
    return arg;
}

static void spawn_from_link(weald_handle ended, void *arg)
{
    (void)ended, (void)arg;
    CHECK_EQ(weald_go(open_gate, NULL), 0);
}

TEST(a_link_may_spawn_and_wake)
{
    weald_greenlet g;

    make_gate();
    g = spawned(return_it, NULL);
    CHECK_GT(weald_link(g, spawn_from_link, NULL, WEALD_LINK_ALWAYS), 0);
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

/* ---- who is who ---- */

static void *who_am_i(void *arg)
{
    weald_greenlet *me = (weald_greenlet *)arg;
    me[0] = weald_self();
    me[1] = weald_parent(weald_self());
    me[2] = weald_current();
    return NULL;
}

TEST(self_is_the_greenlet_that_runs_and_parent_its_spawner)
{
    weald_greenlet inside[3], g = spawned(who_am_i, inside), me = weald_self();

    CHECK_GT(me, 0);
    CHECK_EQ(weald_main(), me);
    CHECK_EQ(weald_parent(me), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(inside[0], g);
    CHECK_EQ(inside[1], me);
    CHECK_EQ(inside[2], g);
    CHECK_EQ(weald_close(g), 0);
}

static void *spawn_child(void *arg)
{
    *(weald_greenlet *)arg = spawned(return_it, NULL);
    return NULL;
}

TEST(the_parent_of_an_orphan_is_0)
{
    weald_greenlet child, g = spawned(spawn_child, &child);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_parent(child), g);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_parent(child), 0);
    join_and_close(child);
}

TEST(ids_are_small_and_not_used_twice)
{
    int64_t last = 0;

    CHECK_EQ(weald_id(weald_self()), 0);
    for (int i = 0; i < 100; i++) {
        weald_greenlet g = spawned(return_it, NULL);
        CHECK_GT(weald_id(g), last);
        CHECK_LE(weald_id(g), i + 1);
        last = weald_id(g);
        join_and_close(g);
    }
}

TEST(names_are_copied_cut_and_taken_away)
{
    char given[] = "linden", name[32] = "?";
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_name(g, name, sizeof name), 0);
    CHECK_STR(name, "");
    CHECK_EQ(weald_set_name(g, given), 0);
    memset(given, 'x', sizeof given - 1);
    CHECK_EQ(weald_name(g, name, sizeof name), 6);
    CHECK_STR(name, "linden");
    CHECK_EQ(weald_name(g, name, 4), 6);
    CHECK_STR(name, "lin");
    CHECK_EQ(weald_name(g, name, 1), 6);
    CHECK_STR(name, "");
    strcpy(name, "as before");
    CHECK_EQ(weald_name(g, name, 0), 6);
    CHECK_EQ(weald_name(g, NULL, 0), 6);
    CHECK_STR(name, "as before");
    CHECK_EQ(weald_name(g, NULL, 1), WEALD_EINVAL);
    CHECK_EQ(weald_set_name(g, "\xc3"), WEALD_EINVAL);
    CHECK_EQ(weald_name(g, name, sizeof name), 6);
    CHECK_EQ(weald_set_name(g, NULL), 0);
    CHECK_EQ(weald_name(g, name, sizeof name), 0);
    join_and_close(g);
}

TEST(a_name_does_not_pass_to_the_next_user_of_the_record)
{
    weald_spawn_options o = options();
    weald_greenlet g;
    char name[8];

    o.name = "first";
    join_and_close(weald_spawn_with(return_it, NULL, &o));
    g = spawned(return_it, NULL);
    CHECK_EQ(weald_name(g, name, sizeof name), 0);
    join_and_close(g);
}

/* Their handles are checked so that no call is the last thing they do: it would be a jump. */
__attribute__((noinline)) static weald_greenlet spawn_here(void) { return spawned(return_it, NULL); }

__attribute__((noinline)) static int site_is_in(weald_greenlet g, uintptr_t function)
{
    uintptr_t site = (uintptr_t)weald_spawn_site(g);
    return site > function && site < function + 4096;
}

__attribute__((noinline)) static void *spawn_sites(void *arg)
{
    weald_spawn_options o = options();
    weald_greenlet gs[4] = {weald_spawn(return_it, NULL), weald_spawn_with(return_it, NULL, &o),
                            weald_greenlet_new(return_it, NULL, NULL), weald_coro_new(coro_body, NULL, 0, NULL)};
    Dl_info here, info;

    CHECK_NE(dladdr((void *)(uintptr_t)spawn_sites, &here), 0);
    for (int i = 0; i < 4; i++) {
        CHECK(site_is_in(gs[i], (uintptr_t)spawn_sites));
        CHECK_NE(dladdr(weald_spawn_site(gs[i]), &info), 0);
        CHECK_PTR(info.dli_fbase, here.dli_fbase);
        CHECK_EQ(weald_close(gs[i]), 0);
    }
    return arg;
}

static void *close_another_and_spawn(void *g)
{
    CHECK_EQ(weald_close(*(weald_greenlet *)g), 0);
    return (void *)weald_spawn(return_it, NULL);
}

/* Its record is not the next one's before main has looked at it. */
TEST(who_gets_the_value_of_one_that_is_closed_meanwhile_has_it)
{
    int value = 0;
    void *got = NULL;
    weald_greenlet g = spawned(return_it, &value), other = spawned(close_another_and_spawn, &g);

    CHECK_EQ(weald_get(g, &got, WEALD_FOREVER), 0);
    CHECK_PTR(got, &value);
    CHECK_EQ(weald_close(g), WEALD_EBADF);
    CHECK_EQ(weald_get(other, &got, WEALD_FOREVER), 0);
    join_and_close((weald_greenlet)got);
    CHECK_EQ(weald_close(other), 0);
}

TEST(one_that_has_ended_stays_until_its_last_reference_is_dropped)
{
    int value = 0;
    void *got = NULL;
    weald_greenlet g = spawned(return_it, &value);

    CHECK_EQ(weald_dup(g), g);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    join_and_close(spawned(return_it, NULL));
    CHECK_EQ(weald_value(g, &got), 0);
    CHECK_PTR(got, &value);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(g), WEALD_EBADF);
}

/* More than records are kept for the next ones. */
TEST(thousands_that_are_closed_in_a_row_leave_room_for_as_many)
{
    enum { MANY = 3000 };
    static weald_greenlet gs[MANY];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++)
            gs[i] = spawned(return_it, &gs[i]);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        for (int i = 0; i < MANY; i++) {
            void *value = NULL;
            CHECK_EQ(weald_value(gs[i], &value), 0);
            CHECK_PTR(value, &gs[i]);
        }
        for (int i = 0; i < MANY; i++)
            CHECK_EQ(weald_close(gs[i]), 0);
    }
}

TEST(the_spawn_site_is_the_line_that_called)
{
    weald_greenlet g = spawn_here();

    CHECK_PTR(weald_spawn_site(weald_main()), NULL);
    CHECK(!site_is_in(g, (uintptr_t)spawn_sites));
    join_and_close(g);
    spawn_sites(NULL);
}

/* ---- time and turns ---- */

static void *yield_and_note(void *arg)
{
    for (int i = 0; i < 3; i++) {
        note(arg);
        CHECK_EQ(weald_yield(), 0);
    }
    return NULL;
}

TEST(a_yield_goes_behind_everything_that_is_ready)
{
    CHECK_EQ(weald_go(note, (char[]){"a"}), 0);
    CHECK_EQ(weald_go(yield_and_note, (char[]){"b"}), 0);
    CHECK_EQ(weald_go(note, (char[]){"c"}), 0);
    CHECK_EQ(weald_yield(), 0);
    strcat(order, "-");
    CHECK_EQ(weald_yield(), 0);
    strcat(order, "-");
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "abc-b-b");
}

TEST(no_or_negative_sleep_is_one_yield)
{
    const int64_t naps[] = {0, -1, WEALD_SEC(-1), INT64_MIN};

    CHECK_EQ(weald_go(yield_and_note, (char[]){"a"}), 0);
    CHECK_EQ(weald_sleep(naps[0]), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_sleep(naps[1]), 0);
    CHECK_STR(order, "aa");
    CHECK_EQ(weald_sleep(naps[2]), 0);
    CHECK_STR(order, "aaa");
    CHECK_EQ(weald_sleep(naps[3]), 0);
}

TEST(sleeping_until_what_has_passed_is_one_yield)
{
    CHECK_EQ(weald_go(yield_and_note, (char[]){"a"}), 0);
    CHECK_EQ(weald_sleep_until(1), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_sleep_until(weald_now() - 1), 0);
    CHECK_STR(order, "aa");
    CHECK_EQ(weald_sleep_until(WEALD_NOW), 0);
    CHECK_STR(order, "aaa");
    CHECK_EQ(weald_sleep_until(-2), 0);
}

struct nap {
    int64_t until;
    const char *name;
};

static void *sleep_and_note(void *arg)
{
    const struct nap *nap = (const struct nap *)arg;
    CHECK_EQ(weald_sleep_until(nap->until), 0);
    CHECK_GE(weald_now(), nap->until);
    strcat(order, nap->name);
    return NULL;
}

TEST(sleepers_wake_in_the_order_of_their_deadlines)
{
    int64_t soon = weald_after(WEALD_MS(100)); /* all of them sleep by then */
    struct nap naps[] = {{soon + 400, "d"}, {soon + 100, "a"}, {soon + 300, "c"}, {soon + 200, "b"}};

    for (int i = 0; i < 4; i++)
        CHECK_EQ(weald_go(sleep_and_note, &naps[i]), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "abcd");
}

TEST(equal_deadlines_wake_in_the_order_they_were_set)
{
    int64_t due = weald_after(WEALD_MS(100)); /* all of them sleep by then */
    struct nap naps[] = {{due, "a"}, {due, "b"}, {due, "c"}, {due, "d"}, {due, "e"}};

    for (int i = 0; i < 5; i++)
        CHECK_EQ(weald_go(sleep_and_note, &naps[i]), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "abcde");
}

static void *sleep_int64_max(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_sleep(INT64_MAX);
}

TEST(a_sleep_of_int64_max_lasts_until_it_is_killed)
{
    void *code = NULL;
    weald_greenlet g = spawned(sleep_int64_max, NULL);

    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_ready(g), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_value(g, &code), 0);
    CHECK_EQ((intptr_t)code, WEALD_ECANCELED);
    CHECK_EQ(weald_close(g), 0);
}

TEST(main_alone_can_not_sleep_for_ever)
{
    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_EDEADLK);
}

TEST(many_sleepers_with_few_deadlines_all_wake)
{
    enum { N = 20000 };
    static int64_t due[N];
    static weald_greenlet gs[N];
    int64_t began = weald_now();

    for (int i = 0; i < N; i++) {
        due[i] = began + WEALD_US((i * 7919) % 1000);
        gs[i] = spawned(sleep_until_arg, &due[i]);
    }
    CHECK_EQ(weald_joinall(gs, N, 0, 0, WEALD_FOREVER), N);
    for (int i = 0; i < N; i++) {
        void *code = &began;
        CHECK_EQ(weald_value(gs[i], &code), 0);
        CHECK_PTR(code, NULL);
        CHECK_EQ(weald_close(gs[i]), 0);
    }
}

static void *idle_and_note(void *arg)
{
    const struct nap *nap = (const struct nap *)arg;
    CHECK_EQ(weald_idle((int)nap->until), 0);
    strcat(order, nap->name);
    return NULL;
}

TEST(an_idle_greenlet_goes_on_when_nothing_else_is_ready)
{
    struct nap nap = {0, "i"};

    CHECK_EQ(weald_go(idle_and_note, &nap), 0);
    CHECK_EQ(weald_go(yield_and_note, (char[]){"a"}), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "aaai");
}

TEST(of_the_idle_the_highest_priority_goes_first_and_equals_in_order)
{
    struct nap naps[] = {{0, "c"}, {5, "a"}, {-3, "e"}, {5, "b"}, {0, "d"}, {INT32_MIN, "f"}};

    for (int i = 0; i < 6; i++)
        CHECK_EQ(weald_go(idle_and_note, &naps[i]), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "abcdef");
}

static void *idle_code(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_idle(0);
}

TEST(an_idle_greenlet_can_be_killed)
{
    void *code = NULL;
    weald_greenlet g = spawned(idle_code, NULL);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_value(g, &code), 0);
    CHECK_EQ((intptr_t)code, WEALD_ECANCELED);
    CHECK_EQ(weald_close(g), 0);
}

static int yields;
static void *count_yields(void *going)
{
    while (*(int *)going) {
        yields++;
        CHECK_EQ(weald_yield(), 0);
    }
    return NULL;
}

/* However short: its time may pass while the call looks at the clock. */
TEST(every_sleep_lets_the_others_run)
{
    int going = 1;
    weald_greenlet g = spawned(count_yields, &going);

    CHECK_EQ(weald_yield(), 0);
    for (int64_t ns = 0; ns < 400; ns++)
        for (int i = 0; i < 50; i++) {
            int before = yields;
            CHECK_EQ(weald_sleep(ns), 0);
            CHECK_GT(yields, before);
        }
    going = 0;
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

static int idle_in_callback;
static void idle_in_loop(void *arg)
{
    (void)arg;
    idle_in_callback = weald_idle(7);
}

TEST(an_idle_call_that_is_refused_forgets_nobody_who_is_idle)
{
    struct nap nap = {0, "i"};
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_go(idle_and_note, &nap), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_post(hub, idle_in_loop, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_run(weald_after(WEALD_SEC(1))), 0);
    CHECK_EQ(idle_in_callback, WEALD_EWOULDBLOCK);
    CHECK_STR(order, "i");
}

static int flag;
static void *set_flag_after_1ms(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    flag = 1;
    return arg;
}

TEST(one_that_only_yields_does_not_starve_a_sleeper)
{
    CHECK_EQ(weald_go(set_flag_after_1ms, NULL), 0);
    while (!flag)
        CHECK_EQ(weald_yield(), 0);
}

static void *yield_until_flag(void *arg)
{
    while (!flag)
        CHECK_EQ(weald_yield(), 0);
    return arg;
}

TEST(many_that_only_yield_do_not_starve_a_sleeper)
{
    for (int i = 0; i < 200; i++)
        CHECK_EQ(weald_go(yield_until_flag, NULL), 0);
    CHECK_EQ(weald_go(set_flag_after_1ms, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(flag, 1);
}

static void *keep_errno(void *arg)
{
    for (int i = 0; i < 5; i++) {
        errno = (int)(intptr_t)arg;
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(errno, (intptr_t)arg);
        CHECK_EQ(weald_sleep(WEALD_US(10)), 0);
        CHECK_EQ(errno, (intptr_t)arg);
    }
    return NULL;
}

TEST(errno_survives_every_switch_of_many_greenlets)
{
    for (intptr_t i = 1; i < 20; i++)
        CHECK_EQ(weald_go(keep_errno, (void *)i), 0);
    errno = 99;
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(errno, 99);
}

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

static uint64_t taken_for_stacks(void)
{
    weald_stats stats;

    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    CHECK_EQ(weald_stats_get(&stats), 0);
    return stats.stack_bytes;
}

TEST(those_that_begin_on_one_stack_promise_themselves_no_others)
{
    uint64_t before = 0;

    for (int i = 0; i < 100; i++) {
        for (int j = 0; j < 50; j++)
            CHECK_EQ(weald_go(end_here, NULL), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        if (i == 0)
            before = taken_for_stacks();
    }
    CHECK_EQ(taken_for_stacks(), before);
}
