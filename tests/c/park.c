/* Waiting for a switch, waking, abandoning, and the parents of coroutines. */
#include "test.h"
#include <pthread.h>

static char words[8];
static int got_code;
static void *got_value;

static void *park(void *arg)
{
    got_value = NULL;
    got_code = weald_park(&got_value, arg ? weald_after(WEALD_MS(5)) : WEALD_FOREVER);
    return got_value;
}

static weald_greenlet parked(void *arg)
{
    weald_greenlet g = weald_spawn(park, arg);

    CHECK_GT(g, 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_ready(g), 0);
    return g;
}

static void ended(weald_greenlet g, int code, void *value)
{
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(got_code, code);
    CHECK_PTR(got_value, value);
    CHECK_EQ(weald_close(g), 0);
}

TEST(one_that_parks_is_woken_in_its_turn_with_a_value)
{
    weald_greenlet g = parked(NULL);

    CHECK_EQ(weald_wake(g, words), 0);
    CHECK_EQ(weald_ready(g), 0); /* it has not run yet */
    CHECK_EQ(weald_wake(g, words + 1), WEALD_EBUSY);
    ended(g, 0, words);
}

TEST(one_that_parks_is_switched_to_at_once_with_a_value)
{
    weald_greenlet g = parked(words); /* with a deadline, which is forgotten then */

    CHECK_EQ(weald_go(park, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    got_code = 1;
    CHECK_EQ(weald_wake(weald_main(), NULL), WEALD_EBUSY);
    /* It ends, and nobody switches back to main: the loop does, when nobody else can. */
    CHECK_EQ(weald_switch(g, words + 1, NULL), WEALD_EDEADLK);
    ended(g, 0, words + 1);
}

TEST(a_deadline_ends_a_park)
{
    ended(parked(words), WEALD_ETIMEDOUT, NULL);
    CHECK_EQ(weald_park(NULL, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_park(NULL, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_park(NULL, 1), WEALD_ETIMEDOUT);
}

static void *park_in_a_scope(void *arg)
{
    weald_handle scope = weald_timeout_start(WEALD_MS(1));

    (void)arg;
    got_code = weald_park(&got_value, WEALD_FOREVER);
    CHECK_EQ(weald_timeout_fired(scope), 1);
    CHECK_EQ(weald_close(scope), 0);
    return NULL;
}

TEST(a_scope_ends_a_park)
{
    weald_greenlet g = weald_spawn(park_in_a_scope, NULL);

    got_value = NULL;
    ended(g, WEALD_ETIMEDOUT, NULL);
}

TEST(a_kill_ends_a_park)
{
    weald_greenlet g = parked(words);

    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    ended(g, WEALD_ECANCELED, NULL);
}

TEST(a_code_is_thrown_into_one_that_parks)
{
    weald_greenlet g = parked(NULL);

    CHECK_EQ(weald_throw(g, -4711, NULL), WEALD_EDEADLK);
    ended(g, -4711, NULL);
}

TEST(nobody_who_wakes_main_is_a_deadlock)
{
    CHECK_EQ(weald_park(NULL, WEALD_FOREVER), WEALD_EDEADLK);
}

static void wake_main(void *value)
{
    CHECK_EQ(weald_park(NULL, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_wake(weald_main(), value), 0);
}

TEST(a_callback_of_the_loop_wakes_main)
{
    weald_handle hub = weald_hub();
    void *value = NULL;

    CHECK_EQ(weald_post(hub, wake_main, words), 0);
    CHECK_EQ(weald_park(&value, weald_after(WEALD_SEC(60))), 0);
    CHECK_PTR(value, words);
    CHECK_EQ(weald_close(hub), 0);
}

static int no(void) { return 0; }

TEST(a_binding_that_forbids_to_wait_forbids_to_park)
{
    weald_hooks h = {.size = sizeof h, .may_park = no};

    CHECK_EQ(weald_set_hooks(&h), 0);
    CHECK_EQ(weald_park(NULL, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

TEST(only_who_waits_for_a_switch_can_be_woken)
{
    weald_greenlet unbegun = weald_greenlet_new(park, NULL, NULL), sleeper = weald_spawn(park, NULL);

    CHECK_EQ(weald_wake(unbegun, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_wake(sleeper, NULL), WEALD_EBUSY); /* ready, and has not begun */
    CHECK_EQ(weald_kill(sleeper, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_wake(sleeper, NULL), WEALD_EALREADY);
    CHECK_EQ(weald_close(sleeper), 0);
    CHECK_EQ(weald_wake(sleeper, NULL), WEALD_EBADF);
    CHECK_EQ(weald_close(unbegun), 0);
}

/* ---- coroutines ---- */

static void *twice(void *first, void *arg)
{
    void *second = NULL;

    (void)arg;
    CHECK_EQ(weald_park(&second, WEALD_FOREVER), 0);
    got_value = second;
    return first;
}

TEST(a_coroutine_is_begun_and_goes_on_by_waking)
{
    weald_greenlet c = weald_coro_new(twice, NULL, 0, NULL);
    void *value;

    CHECK_EQ(weald_wake(c, words), 0);
    CHECK_EQ(weald_dead(c), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_wake(c, words + 1), 0);
    CHECK_EQ(weald_join(c, WEALD_FOREVER), 0);
    CHECK_PTR(got_value, words + 1);
    CHECK_EQ(weald_value(c, &value), 0);
    CHECK_PTR(value, words);
    CHECK_EQ(weald_close(c), 0);
}

TEST(a_coroutine_that_was_woken_returns_to_its_parent)
{
    weald_greenlet c = weald_coro_new(twice, NULL, 0, NULL);
    void *value = NULL;

    CHECK_EQ(weald_wake(c, words), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_wake(c, words + 1), 0);
    CHECK_EQ(weald_park(&value, WEALD_FOREVER), 0); /* main is its parent */
    CHECK_PTR(value, words);
    CHECK_EQ(weald_close(c), 0);
}

static void *give_back(void *first, void *arg)
{
    (void)arg;
    return first;
}

static void *call_it(void *first, void *arg)
{
    void *value = NULL;

    CHECK_EQ(weald_switch(*(weald_greenlet *)arg, first, &value), 0);
    return (char *)value + 1;
}

TEST(a_coroutine_returns_to_the_parent_it_has_when_it_ends)
{
    weald_greenlet inner = weald_coro_new(give_back, NULL, 0, NULL);
    weald_greenlet outer = weald_coro_new(call_it, &inner, 0, NULL);
    void *value = NULL;

    CHECK_EQ(weald_coro_set_parent(inner, outer), 0);
    CHECK_EQ(weald_parent(inner), outer);
    CHECK_EQ(weald_coro_set_parent(outer, inner), WEALD_EINVAL);
    CHECK_EQ(weald_coro_set_parent(inner, inner), WEALD_EINVAL);
    CHECK_EQ(weald_coro_set_parent(weald_main(), inner), WEALD_EINVAL);
    CHECK_EQ(weald_switch(outer, words, &value), 0);
    CHECK_PTR(value, words + 1);
    CHECK_EQ(weald_close(inner), 0);
    CHECK_EQ(weald_coro_set_parent(inner, outer), WEALD_EBADF);
    CHECK_EQ(weald_close(outer), 0);
}

static void *in_another_thread(void *arg)
{
    weald_greenlet *g = arg;

    CHECK_EQ(weald_wake(*g, NULL), WEALD_EPERM);
    CHECK_EQ(weald_abandon(*g), WEALD_EPERM);
    CHECK_EQ(weald_coro_set_parent(*g, weald_main()), WEALD_EPERM);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return NULL;
}

TEST(another_thread_neither_wakes_nor_abandons)
{
    weald_greenlet c = weald_coro_new(twice, NULL, 0, NULL);
    pthread_t thread;

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(pthread_create(&thread, NULL, in_another_thread, &c), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(c), 0);
}

/* ---- abandoning ---- */

static int freed;

static void count(void *arg)
{
    (void)arg;
    freed++;
}

static weald_local key;

static void *park_with_a_local(void *arg)
{
    CHECK_EQ(weald_local_set(key, words), 0);
    CHECK_EQ(weald_park(NULL, weald_after(WEALD_SEC(60))), 0);
    return arg;
}

static void *get_an_item(void *queue)
{
    CHECK_EQ(weald_queue_get(*(weald_queue *)queue, &got_value, WEALD_FOREVER), 0);
    return queue;
}

TEST(one_that_is_abandoned_never_goes_on_and_everybody_is_told)
{
    weald_spawn_options o = {.size = sizeof o, .destroy = count};
    weald_handle group = weald_group_new();
    weald_stats before, after;
    weald_greenlet g;

    freed = 0;
    CHECK_GT(key = weald_local_new(count), 0);
    before = test_stats();
    o.group = group;
    CHECK_GT(g = weald_spawn_with(park_with_a_local, NULL, &o), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_abandon(g), 0);
    CHECK_EQ(freed, 1); /* the local, not the argument */
    CHECK_EQ(weald_ready(g), 1);
    CHECK_EQ(weald_error(g), WEALD_ECANCELED);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_abandon(g), WEALD_EALREADY);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_abandon(g), WEALD_EBADF);
    after = test_stats();
    CHECK_EQ(after.handles, before.handles);
    CHECK_EQ(after.alive, before.alive);
    CHECK_EQ(after.timers, before.timers);
    CHECK_EQ(weald_close(group), 0);
    CHECK_EQ(weald_close(key), 0);
}

static void *never(void *arg)
{
    CHECK(!"it runs");
    return arg;
}

/* What it waits for would hand over to nobody. */
TEST(one_that_waits_for_anything_else_is_not_abandoned)
{
    for (int flags = 0; flags <= WEALD_SHARED; flags += WEALD_SHARED) {
        weald_queue queue = weald_queue_new(WEALD_FIFO | flags, 1, NULL);
        weald_greenlet g = weald_spawn(get_an_item, &queue);

        CHECK_EQ(weald_abandon(g), WEALD_EBUSY); /* ready */
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_abandon(g), WEALD_EBUSY);
        CHECK_EQ(weald_queue_put(queue, words, WEALD_NOW), 0);
        CHECK_EQ(weald_abandon(g), WEALD_EBUSY);
        CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
        CHECK_PTR(got_value, words);
        CHECK_EQ(weald_close(g), 0);
        CHECK_EQ(weald_close(queue), 0);
    }
}

TEST(one_that_has_not_begun_is_abandoned_as_by_a_kill)
{
    weald_spawn_options o = {.size = sizeof o, .destroy = count};
    weald_greenlet unbegun;

    freed = 0;
    CHECK_GT(unbegun = weald_greenlet_new(never, NULL, &o), 0);
    CHECK_EQ(weald_abandon(unbegun), 0);
    CHECK_EQ(freed, 1); /* as at a kill: nothing of it has begun */
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_abandon(weald_main()), WEALD_EPERM);
    CHECK_EQ(weald_close(unbegun), 0);
}

static void *abandon_itself(void *arg)
{
    got_code = weald_abandon(weald_self());
    return arg;
}

TEST(nobody_abandons_itself)
{
    weald_greenlet g = weald_spawn(abandon_itself, NULL);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(got_code, WEALD_EBUSY);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_hundred_thousand_are_abandoned_in_flat_memory)
{
    long rss = 0;

    if (*test_under())
        SKIP("memory is counted on the bare machine");
    for (int i = 0; i < 100000; i++) {
        weald_greenlet c = weald_coro_new(twice, NULL, 0, NULL);

        CHECK_EQ(weald_wake(c, NULL), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_abandon(c), 0);
        CHECK_EQ(weald_close(c), 0);
        if (i == 10000)
            rss = test_rss();
    }
    CHECK_LT(test_rss() - rss, 1L << 20);
}
