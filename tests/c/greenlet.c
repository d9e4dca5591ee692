/* Greenlets: made, started, their states, who they are. Their ends are in join.c, kill.c and links.c. */
#include "bodies.h"
#include <dlfcn.h>
#include <pthread.h>

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
