/* Greenlet-local values. */
#include "test.h"
#include <pthread.h>

static char order[64];
static int destroyed;

static void note_destroyed(void *value)
{
    strcat(order, (const char *)value);
    destroyed++;
}

static weald_local made(weald_destroy_fn destroy)
{
    weald_local key = weald_local_new(destroy);
    CHECK_GT(key, 0);
    return key;
}

static void run_to_end(weald_fn fn, void *arg)
{
    weald_greenlet g = weald_spawn(fn, arg);
    CHECK_GT(g, 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

static weald_local key, second;

static void *keep_own(void *arg)
{
    CHECK_PTR(weald_local_get(key), NULL);
    CHECK_EQ(weald_local_set(key, arg), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_yield(), 0);
        CHECK_PTR(weald_local_get(key), arg);
    }
    return NULL;
}

TEST(every_greenlet_has_a_value_of_its_own)
{
    weald_greenlet gs[3];

    key = made(NULL);
    CHECK_EQ(weald_kind(key), WEALD_KIND_LOCAL);
    CHECK_EQ(weald_local_set(key, &destroyed), 0);
    for (int i = 0; i < 3; i++)
        gs[i] = weald_spawn(keep_own, &gs[i]);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    CHECK_PTR(weald_local_get(key), &destroyed);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    CHECK_EQ(weald_close(key), 0);
}

TEST(keys_do_not_mix)
{
    key = made(NULL);
    second = made(NULL);
    CHECK_EQ(weald_local_set(key, &key), 0);
    CHECK_PTR(weald_local_get(second), NULL);
    CHECK_EQ(weald_local_set(second, &second), 0);
    CHECK_PTR(weald_local_get(key), &key);
    CHECK_PTR(weald_local_get(second), &second);
    CHECK_EQ(weald_close(key), 0);
    CHECK_PTR(weald_local_get(second), &second);
    CHECK_EQ(weald_close(second), 0);
}

static void *set_it(void *arg)
{
    CHECK_EQ(weald_local_set(key, arg), 0);
    CHECK_EQ(destroyed, 0);
    return NULL;
}

TEST(a_value_is_destroyed_when_its_greenlet_ends)
{
    key = made(note_destroyed);
    run_to_end(set_it, (char[]){"a"});
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(key), 0);
    CHECK_STR(order, "a");
}

TEST(a_value_that_is_replaced_is_destroyed_then)
{
    key = made(note_destroyed);
    CHECK_EQ(weald_local_set(key, (char[]){"a"}), 0);
    CHECK_EQ(weald_local_set(key, (char[]){"b"}), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_local_set(key, NULL), 0);
    CHECK_STR(order, "ab");
    CHECK_PTR(weald_local_get(key), NULL);
    CHECK_EQ(weald_close(key), 0);
    CHECK_STR(order, "ab"); /* NULL is nobody's to destroy */
}

TEST(setting_the_same_value_again_does_not_destroy_it)
{
    static char a[] = "a";

    key = made(note_destroyed);
    CHECK_EQ(weald_local_set(key, a), 0);
    CHECK_EQ(weald_local_set(key, a), 0);
    CHECK_STR(order, "");
    CHECK_PTR(weald_local_get(key), a);
    CHECK_EQ(weald_close(key), 0);
    CHECK_STR(order, "a");
}

static weald_event gate;
static void *set_and_wait(void *arg)
{
    CHECK_EQ(weald_local_set(key, arg), 0);
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0);
    CHECK_PTR(weald_local_get(key), NULL); /* closed meanwhile */
    return NULL;
}

TEST(closing_the_key_destroys_the_values_of_all)
{
    weald_greenlet gs[2];

    gate = weald_event_new(0);
    key = made(note_destroyed);
    CHECK_EQ(weald_local_set(key, (char[]){"m"}), 0);
    gs[0] = weald_spawn(set_and_wait, (char[]){"m"});
    gs[1] = weald_spawn(set_and_wait, (char[]){"m"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(key), 0);
    CHECK_STR(order, "mmm");
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_joinall(gs, 2, 0, 0, WEALD_FOREVER), 2);
    CHECK_STR(order, "mmm");
    CHECK_EQ(weald_close(gs[0]), 0);
    CHECK_EQ(weald_close(gs[1]), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static void *set_and_sleep(void *arg)
{
    CHECK_EQ(weald_local_set(key, arg), 0);
    weald_sleep(WEALD_SEC(100));
    return NULL;
}

TEST(a_killed_greenlets_values_are_destroyed)
{
    weald_greenlet g;

    key = made(note_destroyed);
    g = weald_spawn(set_and_sleep, (char[]){"a"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(key), 0);
}

TEST(mains_values_and_those_of_the_killed_are_destroyed_at_the_shutdown)
{
    key = made(note_destroyed);
    CHECK_EQ(weald_local_set(key, (char[]){"m"}), 0);
    CHECK_EQ(weald_go(set_and_sleep, (char[]){"g"}), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(destroyed, 2);
}

static void set_again(void *value)
{
    note_destroyed(value);
    if (destroyed < 3)
        CHECK_EQ(weald_local_set(key, value), 0);
}

TEST(a_destructor_may_set_a_value_again_which_is_destroyed_as_well)
{
    key = made(set_again);
    run_to_end(set_it, (char[]){"a"});
    CHECK_STR(order, "aaa");
    CHECK_EQ(weald_close(key), 0);
}

static void set_for_ever(void *value)
{
    destroyed++;
    CHECK_EQ(weald_local_set(key, value), 0);
}

TEST(a_destructor_that_sets_a_value_for_ever_does_not_hang)
{
    key = made(set_for_ever);
    run_to_end(set_it, (char[]){"a"});
    CHECK_GT(destroyed, 1);
    CHECK_LT(destroyed, 100);
    CHECK_EQ(weald_close(key), 0);
}

static void destroy_by_blocking(void *value)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    note_destroyed(value);
}

TEST(a_destructor_at_the_end_of_a_greenlet_may_block)
{
    key = made(destroy_by_blocking);
    run_to_end(set_it, (char[]){"a"});
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(key), 0);
}

static void *set_nothing(void *arg)
{
    CHECK_PTR(weald_local_get(key), NULL);
    return arg;
}

TEST(the_next_user_of_the_record_has_no_value)
{
    key = made(NULL);
    run_to_end(set_it, &key);
    run_to_end(set_nothing, NULL);
    CHECK_EQ(weald_close(key), 0);
}

TEST(what_is_no_key_has_no_value)
{
    const int64_t bad[] = {0, -1, 1, INT64_MAX, INT64_MIN, weald_self()};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_PTR(weald_local_get(bad[i]), NULL);
        CHECK_EQ(weald_local_set(bad[i], &key), WEALD_EBADF);
    }
    key = made(note_destroyed);
    CHECK_EQ(weald_close(key), 0);
    CHECK_PTR(weald_local_get(key), NULL);
    CHECK_EQ(weald_local_set(key, &key), WEALD_EBADF);
    CHECK_EQ(destroyed, 0);
}

static void *use_in_another_thread(void *arg)
{
    CHECK_EQ(weald_local_set(key, arg), WEALD_EPERM);
    CHECK_PTR(weald_local_get(key), NULL);
    return NULL;
}

TEST(another_threads_key_is_eperm)
{
    pthread_t thread;

    key = made(NULL);
    CHECK_EQ(weald_local_set(key, &key), 0);
    CHECK_EQ(pthread_create(&thread, NULL, use_in_another_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_PTR(weald_local_get(key), &key);
    CHECK_EQ(weald_close(key), 0);
}

static int set_code;
static void use_in_callback(void *arg)
{
    set_code = weald_local_set(key, arg);
    CHECK_PTR(weald_local_get(key), NULL);
}

TEST(a_callback_has_no_values)
{
    weald_handle hub = weald_hub();

    key = made(note_destroyed);
    CHECK_EQ(weald_local_set(key, (char[]){"m"}), 0);
    CHECK_EQ(weald_post(hub, use_in_callback, &key), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(set_code, WEALD_EWOULDBLOCK);
    CHECK_EQ(destroyed, 0);
    CHECK_EQ(weald_close(key), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static void *set_in_coroutine(void *first, void *arg)
{
    CHECK_PTR(weald_local_get(key), NULL);
    CHECK_EQ(weald_local_set(key, arg), 0);
    CHECK_EQ(weald_switch(weald_main(), first, NULL), 0);
    CHECK_PTR(weald_local_get(key), arg);
    return NULL;
}

TEST(a_coroutine_has_values_of_its_own)
{
    weald_greenlet c = weald_coro_new(set_in_coroutine, (char[]){"c"}, 0, NULL);

    key = made(note_destroyed);
    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    CHECK_PTR(weald_local_get(key), NULL);
    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    CHECK_STR(order, "c");
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(weald_close(key), 0);
}
