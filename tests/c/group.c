/* Groups and pools: greenlets that are joined and killed together, and no more than so many at a time. */
#include "greenlets.h"

#include <pthread.h>

static weald_group group;
static weald_event go;
static char order[64];
static int reason;

/* Notes its name, then stays until `go` or a kill. */
static void *stay(void *name)
{
    strcat(order, (const char *)name);
    return (void *)(intptr_t)weald_event_wait(go, WEALD_FOREVER);
}

static void *note(void *name)
{
    strcat(order, (const char *)name);
    return NULL;
}

static void make(size_t size)
{
    group = size ? weald_pool_new(size) : weald_group_new();
    go = weald_event_new(0);
    CHECK_GT(group, 0);
}

static void unmake(void)
{
    CHECK_EQ(weald_close(group), 0);
    CHECK_EQ(weald_close(go), 0);
}

static weald_greenlet member(const char *name)
{
    weald_greenlet g = weald_group_spawn(group, stay, (void *)(intptr_t)name);

    CHECK_GT(g, 0);
    return g;
}

/* ---- groups ---- */

TEST(an_empty_group_is_joined_at_once)
{
    make(0);
    CHECK_EQ(weald_kind(group), WEALD_KIND_GROUP);
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_join(group, WEALD_NOW), 0);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_pool_free_count(group), INT64_MAX);
    unmake();
}

TEST(members_run_in_the_order_they_were_spawned_and_leave_when_they_end)
{
    weald_greenlet a, b;

    make(0);
    a = member("a");
    b = member("b");
    CHECK_EQ(weald_group_len(group), 2);
    CHECK_EQ(weald_group_contains(group, a), 1);
    CHECK_STR(order, ""); /* spawning does not switch */
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_group_contains(group, a), 0);
    CHECK_EQ(code_of(a) | code_of(b), 0);
    unmake();
}

TEST(a_group_is_never_full)
{
    weald_greenlet g[50];

    make(0);
    for (int i = 0; i < 50; i++)
        g[i] = i % 2 ? weald_pool_try_spawn(group, stay, (void *)"") : member("");
    CHECK_EQ(weald_group_len(group), 50);
    CHECK_EQ(weald_pool_free_count(group), INT64_MAX);
    CHECK_EQ(weald_pool_wait_available(group, WEALD_NOW), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(code_of(g[i]), 0);
    unmake();
}

TEST(a_join_ends_when_the_last_member_does)
{
    weald_greenlet a, b;

    make(0);
    a = member("a");
    b = member("b");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_group_join(group, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_len(group), 1);
    CHECK_EQ(weald_group_join(group, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_kill(b, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), WEALD_ECANCELED);
    unmake();
}

static void *join_it(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_group_join(group, WEALD_FOREVER);
}

TEST(several_may_join)
{
    weald_greenlet a, j[2];

    make(0);
    a = member("a");
    j[0] = weald_spawn(join_it, NULL);
    j[1] = weald_spawn(join_it, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(j[0]) | code_of(j[1]) | code_of(a), 0);
    unmake();
}

TEST(a_joiner_can_be_killed_and_interrupted)
{
    weald_greenlet a, j;

    make(0);
    a = member("a");
    j = weald_spawn(join_it, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(j, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(j), WEALD_ECANCELED);
    j = weald_spawn(join_it, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_interrupt(j, WEALD_EINTR), 0);
    CHECK_EQ(code_of(j), WEALD_EINTR);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), 0);
    unmake();
}

TEST(a_member_that_joins_its_group_is_edeadlk)
{
    weald_greenlet a, b;

    make(0);
    a = weald_group_spawn(group, join_it, NULL);
    b = weald_group_spawn(group, join_it, NULL);
    CHECK_EQ(code_of(a), WEALD_EDEADLK);
    CHECK_EQ(code_of(b), WEALD_EDEADLK);
    unmake();
}

TEST(members_that_come_while_we_join_are_waited_for)
{
    weald_greenlet a, b, j;

    make(0);
    a = member("a");
    j = weald_spawn(join_it, NULL);
    CHECK_EQ(weald_yield(), 0);
    b = member("b");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(j), WEALD_STATE_PARKED);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(j), 0);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(code_of(b), 0);
    unmake();
}

/* ---- add and discard ---- */

TEST(a_greenlet_can_be_added_and_leaves_at_its_end)
{
    weald_greenlet a;

    make(0);
    a = weald_spawn(stay, (void *)"a");
    CHECK_EQ(weald_group_contains(group, a), 0);
    CHECK_EQ(weald_group_add(group, a, WEALD_NOW), 0);
    CHECK_EQ(weald_group_add(group, a, WEALD_NOW), 0); /* once is enough */
    CHECK_EQ(weald_group_len(group), 1);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), 0);
    unmake();
}

TEST(one_that_has_ended_is_not_added_which_is_no_error)
{
    weald_greenlet a;

    make(1);
    a = weald_spawn(note, (void *)"a");
    CHECK_EQ(weald_join(a, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_add(group, a, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    CHECK_EQ(weald_close(a), 0);
    unmake();
}

TEST(one_that_has_not_begun_is_a_member_until_it_is_closed)
{
    weald_greenlet a = weald_greenlet_new(stay, (void *)"a", NULL);

    make(0);
    CHECK_EQ(weald_group_add(group, a, WEALD_NOW), 0);
    CHECK_EQ(weald_group_join(group, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "");
    unmake();
}

TEST(one_that_was_discarded_runs_on_and_is_not_joined)
{
    weald_greenlet a;

    make(1);
    a = member("a");
    CHECK_EQ(weald_group_discard(group, a), 0);
    CHECK_EQ(weald_group_discard(group, a), 0); /* one that is no member is no error */
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_pool_free_count(group), 1); /* its room was given back once */
    unmake();
}

TEST(one_that_was_discarded_and_added_again_gives_its_room_back_once)
{
    weald_greenlet a;

    make(2);
    a = member("a");
    CHECK_EQ(weald_group_discard(group, a), 0);
    CHECK_EQ(weald_group_add(group, a, WEALD_NOW), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_pool_free_count(group), 2);
    CHECK_EQ(weald_group_len(group), 0);
    unmake();
}

TEST(discarding_the_last_member_ends_a_join)
{
    weald_greenlet a, j;

    make(0);
    a = member("a");
    j = weald_spawn(join_it, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_group_discard(group, a), 0);
    CHECK_EQ(code_of(j), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    unmake();
}

TEST(a_greenlet_may_be_in_two_groups)
{
    weald_group other = weald_group_new();
    weald_greenlet a;

    make(0);
    a = member("a");
    CHECK_EQ(weald_group_add(other, a, WEALD_NOW), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(other, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_close(other), 0);
    unmake();
}

TEST(the_option_group_makes_a_member)
{
    weald_spawn_options options;
    weald_greenlet a, b;

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    make(2);
    options.group = group;
    a = weald_spawn_with(stay, (void *)"a", &options);
    options.flags = WEALD_SPAWN_DETACHED;
    CHECK_EQ(weald_spawn_with(stay, (void *)"b", &options), 0);
    CHECK_EQ(weald_group_len(group), 2);
    options.flags = 0;
    options.group = go; /* not a group */
    CHECK_EQ(weald_spawn_with(stay, (void *)"c", &options), WEALD_EBADF);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "ab");
    CHECK_EQ(code_of(a), 0);
    options.group = group;
    options.delay_ns = WEALD_US(200);
    b = weald_spawn_with(note, (void *)"later", &options);
    CHECK_EQ(weald_group_len(group), 1);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "ablater");
    CHECK_EQ(weald_close(b), 0);
    unmake();
}

/* ---- kill ---- */

static void *note_reason(void *arg)
{
    CHECK_EQ(weald_event_wait(go, WEALD_FOREVER), WEALD_ECANCELED);
    reason = weald_kill_reason(weald_self());
    CHECK_EQ(weald_shield(1), 0); /* it takes a while to end */
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    strcat(order, "x");
    return arg;
}

TEST(kill_ends_every_member_with_the_reason_and_waits_for_them)
{
    weald_greenlet a, b;

    make(0);
    a = weald_group_spawn(group, note_reason, NULL);
    b = weald_group_spawn(group, note_reason, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_group_kill(group, WEALD_EPIPE, WEALD_FOREVER), 0);
    CHECK_STR(order, "xx");
    CHECK_EQ(reason, WEALD_EPIPE);
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_dead(a), 1);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
    unmake();
}

TEST(kill_now_marks_and_does_not_wait)
{
    weald_greenlet a;

    make(0);
    a = member("a");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_dead(a), 0);
    CHECK_EQ(weald_group_len(group), 1);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    unmake();
}

TEST(kill_of_members_that_have_not_begun_runs_none_of_them)
{
    weald_greenlet a, b;

    make(0);
    a = member("a");
    b = member("b");
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_error(a), WEALD_ECANCELED);
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
    unmake();
}

TEST(kill_gives_up_waiting_at_its_deadline)
{
    weald_greenlet a;

    make(0);
    a = weald_group_spawn(group, note_reason, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_group_kill(group, 0, weald_now() + 1), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(a), 0);
    unmake();
}

static void *kill_the_others(void *deadline)
{
    CHECK_EQ(weald_group_kill(group, 0, *(int64_t *)deadline), 0);
    CHECK_EQ(weald_cancelled(), 0);
    CHECK_EQ(weald_sleep(0), 0);
    strcat(order, "!");
    return NULL;
}

TEST(a_member_that_kills_its_group_is_spared)
{
    static int64_t deadlines[] = {WEALD_FOREVER, WEALD_NOW};

    for (int i = 0; i < 2; i++) {
        weald_greenlet a, b;
        make(0);
        order[0] = '\0';
        a = member("a");
        b = weald_group_spawn(group, kill_the_others, &deadlines[i]);
        CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
        CHECK_STR(order, "a!");
        CHECK_EQ(code_of(a), WEALD_ECANCELED);
        CHECK_EQ(code_of(b), 0);
        unmake();
    }
}

TEST(the_only_member_kills_nobody)
{
    static int64_t forever = WEALD_FOREVER;
    weald_greenlet a;

    make(0);
    a = weald_group_spawn(group, kill_the_others, &forever);
    CHECK_EQ(code_of(a), 0);
    CHECK_STR(order, "!");
    unmake();
}

TEST(a_positive_reason_is_einval_and_kills_nobody)
{
    weald_greenlet a;

    make(0);
    a = member("a");
    CHECK_EQ(weald_group_kill(group, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_kill_reason(a), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    unmake();
}

/* ---- pools ---- */

static void *spawn_into(void *name)
{
    weald_greenlet g = weald_group_spawn(group, stay, name);

    if (g > 0)
        CHECK_EQ(weald_close(g), 0);
    return (void *)(intptr_t)(g < 0 ? g : 0);
}

TEST(a_spawn_into_a_full_pool_waits_for_room)
{
    weald_greenlet a, s;

    make(1);
    a = member("a");
    CHECK_EQ(weald_pool_free_count(group), 0);
    s = weald_spawn(spawn_into, (void *)"b");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(s), WEALD_STATE_PARKED);
    CHECK_EQ(weald_group_len(group), 1);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(s), 0);
    CHECK_EQ(weald_group_len(group), 1);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    unmake();
}

TEST(those_who_wait_for_room_get_it_in_the_order_they_came)
{
    weald_greenlet a, s[3];

    make(1);
    a = member("a");
    for (int i = 0; i < 3; i++)
        s[i] = weald_spawn(spawn_into, (void *)&"b\0c\0d"[2 * i]);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_event_set(go), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(code_of(s[i]), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "abcd");
    CHECK_EQ(code_of(a), 0);
    unmake();
}

static int inside, most;
static void *count_inside(void *arg)
{
    most = ++inside > most ? inside : most;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_yield(), 0);
    inside--;
    return arg;
}

TEST(a_pool_never_runs_more_than_its_size)
{
    make(3);
    for (int i = 0; i < 100; i++) {
        weald_greenlet g = weald_group_spawn(group, count_inside, NULL);
        CHECK_GT(g, 0);
        CHECK_LE(weald_group_len(group), 3);
        CHECK_EQ(weald_group_len(group) + weald_pool_free_count(group), 3);
        CHECK_EQ(weald_close(g), 0);
    }
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(most, 3);
    CHECK_EQ(inside, 0);
    unmake();
}

TEST(try_spawn_into_a_full_pool_is_eagain)
{
    weald_greenlet a, b;

    make(2);
    a = weald_pool_try_spawn(group, stay, (void *)"a");
    b = weald_pool_try_spawn(group, stay, (void *)"b");
    CHECK_GT(a, 0);
    CHECK_GT(b, 0);
    CHECK_EQ(weald_pool_try_spawn(group, stay, (void *)"c"), WEALD_EAGAIN);
    CHECK_STR(order, ""); /* it does not switch */
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "ab");
    CHECK_EQ(code_of(a) | code_of(b), 0);
    unmake();
}

TEST(an_add_to_a_full_pool_waits_for_room)
{
    weald_greenlet a, b;

    make(1);
    a = member("a");
    b = weald_spawn(stay, (void *)"b");
    CHECK_EQ(weald_group_add(group, b, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_group_add(group, b, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_group_len(group), 1);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_group_add(group, b, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_contains(group, b), 1);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(code_of(b), 0);
    unmake();
}

static void *add_it(void *g)
{
    return (void *)(intptr_t)weald_group_add(group, *(weald_greenlet *)g, WEALD_FOREVER);
}

TEST(one_that_ends_while_its_add_waits_for_room_takes_none)
{
    weald_greenlet a, b, adder;

    make(1);
    a = member("a");
    b = weald_spawn(stay, (void *)"b");
    adder = weald_spawn(add_it, &b);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(b, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(adder), 0);
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
    unmake();
}

TEST(a_spawner_killed_after_it_was_given_room_gives_it_back)
{
    weald_greenlet a, s, t;

    make(1);
    a = member("a");
    s = weald_spawn(spawn_into, (void *)"s");
    t = weald_spawn(spawn_into, (void *)"t");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_group_discard(group, a), 0); /* room for s, which has not run yet */
    CHECK_EQ(weald_pool_free_count(group), 0);
    CHECK_EQ(weald_kill(s, 0, WEALD_NOW), 0);
    CHECK_EQ(code_of(s), WEALD_ECANCELED);
    CHECK_EQ(code_of(t), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "at");
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    unmake();
}

static void *wait_available(void *arg)
{
    int code = weald_pool_wait_available(group, WEALD_FOREVER);

    if (code == 0) {
        weald_greenlet g = weald_pool_try_spawn(group, note, arg);
        CHECK_GT(g, 0); /* it would not wait */
        CHECK_EQ(weald_close(g), 0);
    }
    return (void *)(intptr_t)code;
}

TEST(wait_available_waits_until_a_spawn_would_not)
{
    weald_greenlet a, w[2];

    make(1);
    CHECK_EQ(weald_pool_wait_available(group, WEALD_NOW), 0);
    a = member("a");
    CHECK_EQ(weald_pool_wait_available(group, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_pool_wait_available(group, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    w[0] = weald_spawn(wait_available, (void *)"b");
    w[1] = weald_spawn(wait_available, (void *)"c");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(w[0]) | code_of(w[1]), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_STR(order, "abc");
    CHECK_EQ(code_of(a), 0);
    unmake();
}

TEST(wait_available_can_be_killed)
{
    weald_greenlet a, w;

    make(1);
    a = member("a");
    w = weald_spawn(wait_available, (void *)"b");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(w, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(w), WEALD_ECANCELED);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    unmake();
}

TEST(a_failed_spawn_leaves_the_room_free)
{
    make(1);
    CHECK_EQ(weald_group_spawn(group, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_pool_try_spawn(group, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_pool_free_count(group), 1);
    unmake();
}

/* ---- the end, and codes ---- */

TEST(members_live_on_when_the_group_is_closed_and_who_waits_gets_ebadf)
{
    weald_greenlet a, j, s;

    make(1);
    a = member("a");
    j = weald_spawn(join_it, NULL);
    s = weald_spawn(spawn_into, (void *)"b");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(group), 0);
    CHECK_EQ(code_of(j), WEALD_EBADF);
    CHECK_EQ(code_of(s), WEALD_EBADF);
    CHECK_EQ(weald_dead(a), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(go), 0);
}

TEST(a_pool_of_none_is_einval) { CHECK_EQ(weald_pool_new(0), WEALD_EINVAL); }

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_handle bad[3];
    weald_greenlet a = weald_spawn(note, (void *)"a"), gone = weald_spawn(note, (void *)"g");

    make(0);
    CHECK_EQ(weald_join(gone, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(gone), 0);
    CHECK_EQ(weald_group_add(group, gone, WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_group_discard(group, gone), WEALD_EBADF);
    CHECK_EQ(weald_group_add(group, go, WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_group_contains(group, gone), WEALD_EBADF);
    bad[0] = 0;
    bad[1] = go;
    bad[2] = group;
    unmake();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_group_add(bad[i], a, WEALD_NOW), WEALD_EBADF);
        CHECK_EQ(weald_group_discard(bad[i], a), WEALD_EBADF);
        CHECK_EQ(weald_group_spawn(bad[i], note, NULL), WEALD_EBADF);
        CHECK_EQ(weald_pool_try_spawn(bad[i], note, NULL), WEALD_EBADF);
        CHECK_EQ(weald_group_join(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_group_kill(bad[i], 0, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_group_len(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_group_contains(bad[i], a), WEALD_EBADF);
        CHECK_EQ(weald_pool_free_count(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_pool_wait_available(bad[i], WEALD_NOW), WEALD_EBADF);
    }
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_yield(), 0);
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_group_add(group, *(weald_greenlet *)arg, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_group_discard(group, *(weald_greenlet *)arg), WEALD_EPERM);
    CHECK_EQ(weald_group_spawn(group, note, NULL), WEALD_EPERM);
    CHECK_EQ(weald_pool_try_spawn(group, note, NULL), WEALD_EPERM);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_group_len(group), WEALD_EPERM);
    CHECK_EQ(weald_group_contains(group, 1), WEALD_EPERM);
    CHECK_EQ(weald_pool_free_count(group), WEALD_EPERM);
    CHECK_EQ(weald_pool_wait_available(group, WEALD_NOW), WEALD_EPERM);
    return NULL;
}

TEST(another_threads_group_is_eperm)
{
    pthread_t thread;
    weald_greenlet a;

    make(0);
    a = member("a");
    CHECK_EQ(pthread_create(&thread, NULL, use_it, &a), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    unmake();
}

static void use_in_callback(void *arg)
{
    weald_greenlet g = weald_group_spawn(group, stay, (void *)"b"); /* there is room for one */

    CHECK_GT(g, 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_group_spawn(group, stay, (void *)"c"), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_pool_try_spawn(group, stay, (void *)"c"), WEALD_EAGAIN);
    CHECK_EQ(weald_pool_wait_available(group, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_group_len(group), 2);
    CHECK_EQ(weald_kill_reason(*(weald_greenlet *)arg), 0); /* a failed call changes nothing */
    CHECK_EQ(weald_group_kill(group, WEALD_EPIPE, WEALD_NOW), 0);
    CHECK_EQ(weald_kill_reason(*(weald_greenlet *)arg), WEALD_EPIPE);
}

TEST(a_callback_may_spawn_and_kill_now_but_not_wait)
{
    weald_handle hub = weald_hub();
    weald_greenlet a;

    make(2);
    a = member("a");
    CHECK_EQ(weald_post(hub, use_in_callback, &a), 0);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(weald_kill_reason(a), WEALD_EPIPE);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_pool_free_count(group), 2);
    unmake();
}

TEST(waits_that_nobody_can_end_are_edeadlk)
{
    weald_greenlet a;
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    make(1);
    a = member("a");
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_group_spawn(group, note, NULL), WEALD_EDEADLK);
    CHECK_EQ(weald_pool_wait_available(group, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 3);
    CHECK_EQ(weald_pool_free_count(group), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_pool_free_count(group), 1);
    unmake();
}

static void *spawn_when_killed(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_event_wait(go, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_pool_wait_available(group, WEALD_FOREVER), WEALD_ECANCELED);
    return (void *)(intptr_t)weald_group_spawn(group, note, NULL);
}

TEST(a_killed_greenlet_does_not_wait_for_room)
{
    weald_greenlet a, s;

    make(1);
    a = member("a");
    s = weald_spawn(spawn_when_killed, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(s, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(s), WEALD_ECANCELED);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    unmake();
}
