/* Coroutines: raw switching. */
#include "test.h"
#include <pthread.h>

static char order[256];
static void note(const char *text) { strcat(order, text); }

static weald_greenlet made(weald_coro_fn fn, void *arg, weald_greenlet parent)
{
    weald_greenlet c = weald_coro_new(fn, arg, parent, NULL);
    CHECK_GT(c, 0);
    return c;
}

/* Switches and says what came back: the pointer, or the code. */
static void *switched(weald_greenlet to, void *value)
{
    void *received = NULL;
    CHECK_EQ(weald_switch(to, value, &received), 0);
    return received;
}

static void ignore_report(const char *text, void *user) { (void)text, (void)user; }

static void count_failure(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message;
    ++*(int *)user;
}

static void *return_first(void *first, void *arg)
{
    (void)arg;
    return first;
}

static void *never_called(void *first, void *arg)
{
    (void)first, (void)arg;
    fprintf(stderr, "the function of a coroutine ran that must not\n");
    test_leave(TEST_FAILED);
}

/* ---- values, both ways ---- */

static void *first_and_arg(void *first, void *arg)
{
    CHECK_STR((const char *)first, "first");
    CHECK_STR((const char *)arg, "arg");
    return (void *)"result";
}

TEST(a_coroutine_gets_the_first_value_and_its_argument_and_returns_to_its_parent)
{
    weald_greenlet c = made(first_and_arg, (void *)"arg", 0);

    CHECK_EQ(weald_dead(c), 0);
    CHECK_STR((const char *)switched(c, (void *)"first"), "result");
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_successful(c), 1);
    CHECK_EQ(weald_close(c), 0);
}

TEST(a_coroutine_runs_only_when_it_is_switched_to)
{
    weald_greenlet c = made(never_called, NULL, 0);

    CHECK_EQ(weald_state(c), WEALD_STATE_NEW);
    CHECK_EQ(weald_started(c), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_state(c), WEALD_STATE_NEW);
    CHECK_EQ(weald_close(c), 0);
}

static void *adder(void *first, void *arg)
{
    weald_greenlet main_one = *(weald_greenlet *)arg;
    intptr_t sum = (intptr_t)first;

    for (;;)
        sum += (intptr_t)switched(main_one, (void *)sum);
    return NULL;
}

TEST(values_go_both_ways_with_each_switch)
{
    weald_greenlet me = weald_main(), c = made(adder, &me, 0);

    CHECK_EQ((intptr_t)switched(c, (void *)1), 1);
    CHECK_EQ(weald_state(c), WEALD_STATE_SWITCHED);
    CHECK_EQ((intptr_t)switched(c, (void *)2), 3);
    CHECK_EQ((intptr_t)switched(c, (void *)-10), -7);
    CHECK_EQ(weald_close(c), 0);
}

TEST(a_value_need_not_be_received)
{
    weald_greenlet c = made(return_first, NULL, 0);

    CHECK_EQ(weald_switch(c, &c, NULL), 0);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_close(c), 0);
}

static weald_greenlet f1, f2;

static void *ping(void *first, void *arg)
{
    (void)first, (void)arg;
    for (int i = 0; i < 3; i++) {
        note("1");
        switched(f2, NULL);
    }
    note(".");
    return NULL;
}

static void *pong(void *first, void *arg)
{
    (void)first, (void)arg;
    for (int i = 0; i < 3; i++) {
        note("2");
        switched(f1, NULL);
    }
    note("never");
    return NULL;
}

TEST(two_coroutines_switch_to_each_other_past_main)
{
    f1 = made(ping, NULL, 0);
    f2 = made(pong, NULL, 0);
    switched(f1, NULL);
    CHECK_STR(order, "121212.");
    CHECK_EQ(weald_dead(f1), 1);
    CHECK_EQ(weald_dead(f2), 0);
    CHECK_EQ(weald_close(f1), 0);
    CHECK_EQ(weald_close(f2), 0);
}

TEST(a_million_switches_come_home)
{
    weald_greenlet me = weald_main(), c = made(adder, &me, 0);
    long rounds = test_rounds(1000000);

    for (long i = 0; i < rounds; i++)
        CHECK_EQ((intptr_t)switched(c, (void *)1), i + 1);
    CHECK_EQ(weald_close(c), 0);
}

TEST(switching_to_oneself_is_a_function_call)
{
    CHECK_PTR(switched(weald_self(), &f1), &f1);
    CHECK_EQ(weald_throw(weald_self(), WEALD_EPIPE, NULL), WEALD_EPIPE);
    CHECK_EQ(weald_state(weald_self()), WEALD_STATE_RUNNING);
}

/* ---- who is who ---- */

static void *look_around(void *first, void *arg)
{
    weald_greenlet *seen = (weald_greenlet *)arg;

    seen[0] = weald_current();
    seen[1] = weald_self();
    seen[2] = weald_main();
    seen[3] = weald_parent(weald_current());
    seen[4] = weald_state(weald_main());
    return first;
}

TEST(current_is_the_coroutine_and_main_the_thread)
{
    weald_greenlet seen[5], c = made(look_around, seen, 0);

    switched(c, NULL);
    CHECK_EQ(seen[0], c);
    CHECK_EQ(seen[1], c);
    CHECK_EQ(seen[2], weald_current());
    CHECK_EQ(seen[3], weald_main());
    CHECK_EQ(seen[4], WEALD_STATE_SWITCHED);
    CHECK_EQ(weald_close(c), 0);
}

static void *main_of_a_thread(void *of_the_first)
{
    CHECK_EQ(weald_main(), weald_current());
    CHECK_NE(weald_main(), *(weald_greenlet *)of_the_first);
    CHECK_EQ(weald_dead(weald_main()), 0);
    CHECK_EQ(weald_switch(*(weald_greenlet *)of_the_first, NULL, NULL), WEALD_EPERM);
    CHECK_EQ(weald_throw(*(weald_greenlet *)of_the_first, WEALD_EPIPE, NULL), WEALD_EPERM);
    CHECK_EQ(weald_dead(*(weald_greenlet *)of_the_first), WEALD_EPERM);
    CHECK_EQ(weald_coro_new(return_first, NULL, *(weald_greenlet *)of_the_first, NULL), WEALD_EPERM);
    return NULL;
}

TEST(each_thread_has_a_main_of_its_own)
{
    pthread_t thread;
    weald_greenlet me = weald_main();

    CHECK_EQ(pthread_create(&thread, NULL, main_of_a_thread, &me), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- the end ---- */

static void *run_child(void *first, void *arg)
{
    weald_greenlet child = made(return_first, NULL, 0); /* its parent is us */

    (void)arg;
    note("a");
    CHECK_STR((const char *)switched(child, first), (const char *)first);
    note("b");
    CHECK_EQ(weald_close(child), 0);
    return (void *)"outer";
}

TEST(the_end_returns_to_the_one_that_made_it)
{
    weald_greenlet c = made(run_child, NULL, 0);

    CHECK_STR((const char *)switched(c, (void *)"inner"), "outer");
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_close(c), 0);
}

static void *hand_to_main(void *first, void *arg)
{
    note((const char *)arg);
    return switched(weald_main(), first);
}

TEST(a_parent_may_be_named)
{
    weald_greenlet parent = made(hand_to_main, (void *)"p", 0), child = made(return_first, NULL, parent);

    CHECK_EQ(weald_parent(child), parent);
    CHECK_PTR(switched(parent, &f1), &f1);          /* it waits in its switch */
    CHECK_PTR(switched(child, &f2), &f2);           /* ends; parent gets it, returns it, and so do we */
    CHECK_EQ(weald_dead(parent), 1);
    CHECK_EQ(weald_dead(child), 1);
    CHECK_EQ(weald_close(parent), 0);
    CHECK_EQ(weald_close(child), 0);
}

TEST(a_dead_parent_is_replaced_by_main)
{
    weald_greenlet parent = made(return_first, NULL, 0), child = made(return_first, NULL, parent);

    switched(parent, NULL);
    CHECK_EQ(weald_dead(parent), 1);
    CHECK_EQ(weald_close(parent), 0);
    CHECK_EQ(weald_parent(child), 0);
    CHECK_PTR(switched(child, &f1), &f1);
    CHECK_EQ(weald_close(child), 0);
}

TEST(a_parent_that_has_not_begun_is_replaced_by_main)
{
    weald_greenlet parent = made(never_called, NULL, 0), child = made(return_first, NULL, parent);

    CHECK_PTR(switched(child, &f1), &f1);
    CHECK_EQ(weald_state(parent), WEALD_STATE_NEW);
    CHECK_EQ(weald_close(parent), 0);
    CHECK_EQ(weald_close(child), 0);
}

static void *fail_in_coroutine(void *first, void *arg)
{
    (void)first, (void)arg;
    return weald_fail(WEALD_EPIPE, "snapped");
}

TEST(a_failure_goes_to_the_parent)
{
    int failures = 0;
    void *received = &failures;
    weald_greenlet c = made(fail_in_coroutine, NULL, 0);

    CHECK_EQ(weald_set_error_handler(count_failure, &failures), 0);
    CHECK_EQ(weald_switch(c, NULL, &received), WEALD_EPIPE);
    CHECK_PTR(received, &failures);
    CHECK_EQ(weald_error(c), WEALD_EPIPE);
    CHECK_STR(weald_error_message(c), "snapped");
    CHECK_EQ(weald_close(c), 0);
}

TEST(the_dead_can_not_be_switched_to)
{
    void *received = &f1;
    weald_greenlet c = made(return_first, NULL, 0);

    switched(c, NULL);
    CHECK_EQ(weald_switch(c, NULL, &received), WEALD_EALREADY);
    CHECK_EQ(weald_throw(c, WEALD_EPIPE, &received), WEALD_EALREADY);
    CHECK_PTR(received, &f1);
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(weald_switch(c, NULL, &received), WEALD_EBADF);
    CHECK_EQ(weald_throw(c, WEALD_EPIPE, &received), WEALD_EBADF);
    CHECK_EQ(weald_dead(c), WEALD_EBADF);
    CHECK_EQ(weald_switch(0, NULL, NULL), WEALD_EBADF);
    CHECK_EQ(weald_switch(-1, NULL, NULL), WEALD_EBADF);
}

/* ---- making ---- */

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

TEST(making_a_coroutine_checks_its_arguments)
{
    weald_spawn_options o = options();

    CHECK_EQ(weald_coro_new(NULL, NULL, 0, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_coro_new(return_first, NULL, 12345, NULL), WEALD_EBADF);
    CHECK_EQ(weald_coro_new(return_first, NULL, -1, NULL), WEALD_EBADF);
    o.stack_size = 1;
    CHECK_EQ(weald_coro_new(return_first, NULL, 0, &o), WEALD_EINVAL);
    o = options();
    o.flags = WEALD_SPAWN_DETACHED;
    CHECK_EQ(weald_coro_new(return_first, NULL, 0, &o), WEALD_EINVAL);
    o = options();
    o.size = 1;
    CHECK_EQ(weald_coro_new(return_first, NULL, 0, &o), WEALD_EINVAL);
}

TEST(options_name_a_coroutine_and_destroy_its_argument)
{
    weald_spawn_options o = options();
    char name[16];
    weald_greenlet c;

    o.name = "sap";
    o.destroy = count_destroyed;
    c = weald_coro_new(return_first, &o, 0, &o);
    CHECK_EQ(weald_name(c, name, sizeof name), 3);
    CHECK_STR(name, "sap");
    switched(c, NULL);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(destroyed, 1);
    c = weald_coro_new(never_called, &o, 0, &o);
    CHECK_EQ(weald_close(c), 0); /* never begun */
    CHECK_EQ(destroyed, 2);
}

/* ---- throw ---- */

static void *catch_code(void *first, void *arg)
{
    void *received = &f2;
    int code = weald_switch(weald_main(), first, &received);

    (void)arg;
    CHECK_PTR(received, &f2);
    return (void *)(intptr_t)code;
}

TEST(a_code_is_thrown_into_a_switch)
{
    void *received = NULL;
    weald_greenlet c = made(catch_code, NULL, 0);

    switched(c, NULL);
    CHECK_EQ(weald_throw(c, WEALD_ENOENT, &received), 0); /* it was caught, and the end returned a value */
    CHECK_EQ((intptr_t)received, WEALD_ENOENT);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_successful(c), 1);
    CHECK_EQ(weald_close(c), 0);
}

TEST(one_that_has_not_begun_ends_with_the_code_thrown_and_so_does_the_switch_of_its_parent)
{
    int failures = 0;
    void *received = &failures;
    weald_spawn_options o = options();
    weald_greenlet c;

    CHECK_EQ(weald_set_error_handler(count_failure, &failures), 0);
    o.destroy = count_destroyed;
    c = weald_coro_new(never_called, NULL, 0, &o);
    CHECK_EQ(weald_throw(c, WEALD_EPIPE, &received), WEALD_EPIPE);
    CHECK_PTR(received, &failures);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_error(c), WEALD_EPIPE);
    CHECK_EQ(weald_successful(c), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_state(weald_self()), WEALD_STATE_RUNNING);
    CHECK_EQ(weald_close(c), 0);
}

static void *wait_for_code(void *first, void *arg)
{
    int code = weald_switch(weald_main(), first, NULL);
    note((const char *)arg);
    return (void *)(intptr_t)code;
}

TEST(a_code_thrown_into_an_unbegun_child_goes_to_its_parent_not_to_the_thrower)
{
    void *received = NULL;
    weald_greenlet parent = made(wait_for_code, (void *)"p", 0), child = made(never_called, NULL, parent);

    switched(parent, NULL);
    CHECK_EQ(weald_throw(child, WEALD_ENOENT, &received), 0); /* parent's switch got it; parent's end is ours */
    CHECK_EQ((intptr_t)received, WEALD_ENOENT);
    CHECK_STR(order, "p");
    CHECK_EQ(weald_dead(parent), 1);
    CHECK_EQ(weald_close(parent), 0);
    CHECK_EQ(weald_close(child), 0);
}

TEST(only_negative_codes_are_thrown)
{
    weald_greenlet c = made(return_first, NULL, 0);

    CHECK_EQ(weald_throw(c, 0, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_throw(c, 5, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_dead(c), 0);
    CHECK_PTR(switched(c, &f1), &f1);
    CHECK_EQ(weald_close(c), 0);
}

static void *throw_into_main(void *first, void *arg)
{
    (void)first, (void)arg;
    CHECK_EQ(weald_throw(weald_main(), WEALD_EPIPE, NULL), 0);
    return NULL;
}

TEST(a_code_may_be_thrown_into_main)
{
    weald_greenlet c = made(throw_into_main, NULL, 0);

    CHECK_EQ(weald_switch(c, NULL, NULL), WEALD_EPIPE);
    CHECK_EQ(weald_dead(c), 0);
    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_close(c), 0);
}

/* ---- under the hub ---- */

static void *sleep_and_return(void *first, void *arg)
{
    (void)arg;
    note("[");
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    note("]");
    return first;
}

static void *count_turns(void *arg)
{
    for (int i = 0; i < 3; i++) {
        note("g");
        CHECK_EQ(weald_yield(), 0);
    }
    return arg;
}

TEST(a_coroutine_that_blocks_lets_greenlets_run_and_comes_back)
{
    weald_greenlet c = made(sleep_and_return, NULL, 0);

    CHECK_EQ(weald_go(count_turns, NULL), 0);
    CHECK_PTR(switched(c, &f1), &f1);
    CHECK_STR(order, "[ggg]");
    CHECK_EQ(weald_close(c), 0);
}

static weald_event gate;
static weald_greenlet blocked;
static int codes[4];

static void *wait_at_gate(void *first, void *arg)
{
    (void)arg;
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0);
    return first;
}

static void *switch_to_blocked(void *arg)
{
    codes[0] = weald_switch(blocked, NULL, NULL); /* it is parked */
    codes[1] = weald_throw(blocked, WEALD_EPIPE, NULL);
    CHECK_EQ(weald_event_set(gate), 0);
    codes[2] = weald_switch(blocked, NULL, NULL); /* it is ready */
    codes[3] = weald_throw(blocked, WEALD_EPIPE, NULL);
    return arg;
}

TEST(one_that_waits_for_something_else_or_is_ready_is_ebusy)
{
    CHECK_GT(gate = weald_event_new(0), 0);
    blocked = made(wait_at_gate, NULL, 0);
    CHECK_EQ(weald_go(switch_to_blocked, NULL), 0);
    CHECK_PTR(switched(blocked, &f1), &f1);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(codes[i], WEALD_EBUSY);
    CHECK_EQ(weald_close(blocked), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(main_waiting_for_a_coroutine_that_nothing_can_wake_is_edeadlk)
{
    void *received = &f1;
    weald_greenlet c = made(wait_at_gate, NULL, 0);

    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    CHECK_GT(gate = weald_event_new(0), 0);
    CHECK_EQ(weald_switch(c, &f2, &received), WEALD_EDEADLK);
    CHECK_PTR(received, &f1);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_join(c, WEALD_FOREVER), 0); /* main is not in a switch: c just ends */
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static void *switch_to_coroutine(void *arg)
{
    weald_greenlet c = made(sleep_and_return, NULL, 0);

    CHECK_PTR(switched(c, arg), arg);
    note("end");
    CHECK_EQ(weald_close(c), 0);
    return arg;
}

TEST(a_greenlet_may_have_coroutines_of_its_own)
{
    weald_greenlet g = weald_spawn(switch_to_coroutine, &f1);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_STR(order, "[]end");
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_plain_greenlet_that_has_not_begun_is_einval)
{
    weald_greenlet g = weald_greenlet_new(count_turns, NULL, NULL);

    CHECK_EQ(weald_switch(g, NULL, NULL), WEALD_EINVAL); /* its end would return to nobody */
    CHECK_EQ(weald_throw(g, WEALD_EPIPE, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_state(g), WEALD_STATE_NEW);
    CHECK_EQ(weald_start(g), 0);
    CHECK_EQ(weald_switch(g, NULL, NULL), WEALD_EBUSY);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_STR(order, "ggg");
    CHECK_EQ(weald_close(g), 0);
}

static weald_greenlet sleeper;
static void *wait_in_a_switch(void *arg)
{
    CHECK_PTR(switched(sleeper, arg), &f2);
    note("g");
    return arg;
}

TEST(a_greenlet_that_waits_in_a_switch_may_be_switched_to)
{
    weald_greenlet g;

    sleeper = made(sleep_and_return, NULL, 0);
    g = weald_spawn(wait_in_a_switch, &f1);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_SWITCHED);
    CHECK_PTR(switched(g, &f2), &f1); /* g goes on and ends; then the sleeper does, and its parent is main */
    CHECK_STR(order, "[g]");
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(sleeper), 0);
}

static void *until_cancelled(void *first, void *arg)
{
    int code = weald_switch(weald_main(), first, NULL);

    codes[0] = code;
    note("x");
    return arg;
}

TEST(a_coroutine_that_was_killed_ends_without_disturbing_its_parents_switch)
{
    weald_greenlet victim = made(until_cancelled, &f1, 0), other = made(sleep_and_return, NULL, 0);

    switched(victim, NULL);
    CHECK_EQ(weald_kill(victim, 0, WEALD_NOW), 0);
    CHECK_PTR(switched(other, &f2), &f2); /* the victim ends while we wait for the other */
    CHECK_STR(order, "[x]");
    CHECK_EQ(weald_dead(victim), 1);
    CHECK_EQ(weald_close(victim), 0);
    CHECK_EQ(weald_close(other), 0);
}

static int in_callback[3];
static void switch_in_callback(void *arg)
{
    in_callback[0] = weald_switch(*(weald_greenlet *)arg, NULL, NULL);
    in_callback[1] = weald_throw(*(weald_greenlet *)arg, WEALD_EPIPE, NULL);
    in_callback[2] = weald_dead(*(weald_greenlet *)arg);
}

TEST(a_switch_in_a_callback_is_ewouldblock)
{
    weald_handle hub = weald_hub();
    weald_greenlet c = made(never_called, NULL, 0);

    CHECK_EQ(weald_post(hub, switch_in_callback, &c), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(in_callback[0], WEALD_EWOULDBLOCK);
    CHECK_EQ(in_callback[1], WEALD_EWOULDBLOCK);
    CHECK_EQ(in_callback[2], 0);
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static int forbidden(void) { return 0; }

TEST(a_switch_in_a_callback_is_ewouldblock_to_one_that_waits_for_it_too)
{
    weald_handle hub = weald_hub();
    weald_greenlet c = made(until_cancelled, NULL, 0);

    switched(c, NULL);
    CHECK_EQ(weald_post(hub, switch_in_callback, &c), 0);
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(in_callback[0], WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(hub), 0);
}

TEST(a_switch_that_a_binding_forbids_is_eperm)
{
    weald_hooks hooks;
    weald_greenlet c = made(never_called, NULL, 0);

    memset(&hooks, 0, sizeof hooks);
    hooks.size = sizeof hooks;
    hooks.may_park = forbidden;
    CHECK_EQ(weald_set_hooks(&hooks), 0);
    CHECK_EQ(weald_switch(c, NULL, NULL), WEALD_EPERM);
    CHECK_EQ(weald_throw(c, WEALD_EPIPE, NULL), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_dead(c), 0);
    CHECK_EQ(weald_close(c), 0);
}

TEST(a_coroutine_that_is_killed_gets_ecanceled_from_its_switch)
{
    weald_greenlet c = made(until_cancelled, &f1, 0);
    void *value = NULL;

    switched(c, NULL);
    CHECK_EQ(weald_kill(c, 0, WEALD_FOREVER), 0);
    CHECK_EQ(codes[0], WEALD_ECANCELED);
    CHECK_EQ(weald_value(c, &value), 0);
    CHECK_PTR(value, &f1);
    CHECK_EQ(weald_close(c), 0);
}

TEST(a_coroutine_that_is_killed_before_it_began_never_runs)
{
    weald_spawn_options o = options();
    weald_greenlet c;

    o.destroy = count_destroyed;
    c = weald_coro_new(never_called, NULL, 0, &o);
    CHECK_EQ(weald_kill(c, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_error(c), WEALD_ECANCELED);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_close(c), 0);
}

TEST(closing_a_coroutine_that_waits_in_a_switch_ends_it)
{
    weald_greenlet c = made(until_cancelled, NULL, 0);

    switched(c, NULL);
    CHECK_EQ(weald_close(c), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "x");
    CHECK_EQ(codes[0], WEALD_ECANCELED);
    CHECK_EQ(weald_dead(c), WEALD_EBADF);
}

static void *switch_twice(void *first, void *arg)
{
    codes[0] = weald_switch(weald_main(), first, NULL);
    codes[1] = weald_switch(weald_main(), NULL, NULL);
    return arg;
}

TEST(the_next_switch_of_a_killed_coroutine_is_ecanceled_too)
{
    weald_greenlet c = made(switch_twice, NULL, 0);

    switched(c, NULL);
    CHECK_EQ(weald_kill(c, 0, weald_after(WEALD_SEC(1))), 0);
    CHECK_EQ(codes[0], WEALD_ECANCELED);
    CHECK_EQ(codes[1], WEALD_ECANCELED);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_close(c), 0);
}

static void *switch_though_killed(void *first, void *arg)
{
    CHECK_EQ(weald_kill(weald_self(), 0, WEALD_NOW), 0);
    codes[0] = weald_switch(weald_main(), first, NULL); /* main waits in a switch, for us */
    return arg;
}

TEST(one_that_is_killed_while_it_runs_switches_to_nobody)
{
    weald_greenlet c = made(switch_though_killed, &f1, 0);

    CHECK_PTR(switched(c, &f2), &f1);
    CHECK_EQ(codes[0], WEALD_ECANCELED);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_close(c), 0);
}

static void *wait_in_vain_and_switch(void *first, void *never)
{
    codes[0] = weald_semaphore_acquire(*(weald_semaphore *)never, weald_after(WEALD_MS(1)));
    codes[1] = weald_switch(weald_main(), first, NULL);
    return first;
}

TEST(a_wait_that_failed_does_not_fail_the_next_switch)
{
    weald_semaphore never = weald_semaphore_new(0);
    weald_greenlet c = made(wait_in_vain_and_switch, &never, 0);

    CHECK_PTR(switched(c, &f1), &f1);
    CHECK_PTR(switched(c, &f2), &f1);
    CHECK_EQ(codes[0], WEALD_ETIMEDOUT);
    CHECK_EQ(codes[1], 0);
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(weald_close(never), 0);
}

TEST(a_generator_that_waits_does_not_keep_the_loop_running)
{
    weald_greenlet me = weald_main(), c = made(adder, &me, 0);

    CHECK_EQ((intptr_t)switched(c, (void *)1), 1);
    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    CHECK_NE(weald_run(weald_after(WEALD_SEC(5))), WEALD_ETIMEDOUT);
    CHECK_EQ((intptr_t)switched(c, (void *)1), 2);
    CHECK_EQ(weald_close(c), 0);
}

static void *keep_errno(void *first, void *arg)
{
    (void)arg;
    errno = ENOTTY;
    switched(weald_main(), first);
    CHECK_EQ(errno, ENOTTY);
    return NULL;
}

TEST(errno_is_each_coroutines_own)
{
    weald_greenlet c = made(keep_errno, NULL, 0);

    errno = EDOM;
    switched(c, NULL);
    CHECK_EQ(errno, EDOM);
    switched(c, NULL);
    CHECK_EQ(errno, EDOM);
    CHECK_EQ(weald_close(c), 0);
}

static void *one_more(void *first, void *arg)
{
    intptr_t left = (intptr_t)first;
    weald_greenlet c;

    if (left == 0)
        return arg;
    c = made(one_more, arg, 0);
    CHECK_PTR(switched(c, (void *)(left - 1)), arg);
    CHECK_EQ(weald_close(c), 0);
    return arg;
}

TEST(a_thousand_nested_coroutines_unwind_one_by_one)
{
    weald_greenlet c = made(one_more, &f1, 0);

    CHECK_PTR(switched(c, (void *)1000), &f1);
    CHECK_EQ(weald_close(c), 0);
}

TEST(a_join_waits_for_a_coroutine_that_others_drive)
{
    weald_greenlet c = made(sleep_and_return, NULL, 0);

    CHECK_EQ(weald_join(c, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    switched(c, NULL);
    CHECK_EQ(weald_join(c, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(c), 0);
}

static void *end_at_once(void *arg) { return arg; }

static void *spawn_and_wake_main(void *turn)
{
    /* Who has not begun, and ends, takes the way by the root, which main's stack is. */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_go(end_at_once, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_semaphore_release(*(weald_semaphore *)turn), 0);
    return turn;
}

/* Main leaves and comes back directly, while others need its stack for the loop: those who
   begin and end, a sleep, a yield of main alone. */
TEST(main_waits_while_its_stack_runs_the_loop)
{
    weald_semaphore turn = weald_semaphore_new(0);

    CHECK_GT(turn, 0);
    for (int i = 0; i < 2000; i++) {
        CHECK_EQ(weald_go(spawn_and_wake_main, &turn), 0);
        CHECK_EQ(weald_semaphore_acquire(turn, WEALD_FOREVER), 0);
        CHECK_EQ(weald_self(), weald_main());
        if (i % 100 == 0)
            CHECK_EQ(weald_sleep(1000), 0);
        CHECK_EQ(weald_yield(), 0);
    }
    CHECK_EQ(weald_semaphore_acquire(turn, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_close(turn), 0);
}

static void *home_and_back(void *value, void *arg)
{
    for (;;) {
        if (weald_switch(weald_main(), value, &value) != 0)
            return arg;
    }
}

TEST(a_coroutine_goes_home_while_main_is_in_the_loop_for_another)
{
    weald_greenlet c = weald_coro_new(home_and_back, NULL, 0, NULL);
    void *got;

    CHECK_GT(c, 0);
    for (intptr_t i = 0; i < 5000; i++) {
        CHECK_EQ(weald_go(end_at_once, NULL), 0);
        CHECK_EQ(weald_switch(c, (void *)i, &got), 0);
        CHECK_PTR(got, (void *)i);
        if (i % 7 == 0)
            CHECK_EQ(weald_yield(), 0);
    }
    CHECK_EQ(weald_kill(c, WEALD_ECANCELED, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(c), 0);
}

static void *wait_on_when_killed(void *value, void *arg)
{
    CHECK_EQ(weald_switch(weald_main(), value, NULL), WEALD_ECANCELED);
    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_park(NULL, WEALD_FOREVER), 0);
    return arg;
}

/* The loop has resumed it, for the kill, and nobody waited for it then: now somebody does. */
TEST(one_that_the_loop_has_resumed_returns_to_who_switches_to_it_after_that)
{
    int here;
    weald_greenlet c = made(wait_on_when_killed, &here, 0);

    switched(c, NULL);
    CHECK_EQ(weald_kill(c, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_PTR(switched(c, NULL), &here);
    CHECK_EQ(weald_ready(c), 1);
    CHECK_EQ(weald_close(c), 0);
}
