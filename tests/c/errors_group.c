/* Codes of groups, pools and results, where other tests do not provoke them. */
#include "errors.h"

static weald_event gate; /* never set */
static weald_group group, pool; /* the pool is full */
static weald_greenlet member, other;
static weald_result result;

static void *wait_for_gate(void *unused)
{
    weald_event_wait(gate, WEALD_FOREVER);
    return unused;
}

/* Does not end when it is killed. */
static void *wait_shielded(void *unused)
{
    CHECK_EQ(weald_shield(1), 0);
    return wait_for_gate(unused);
}

static void *end(void *unused) { return unused; }

static int wait_in_it(void *item, void **out, void *user)
{
    (void)item, (void)out, (void)user;
    return weald_event_wait(gate, WEALD_FOREVER);
}

static int no_more(void **item, void *source)
{
    (void)item, (void)source;
    return 0;
}

static void prepare(weald_fn body)
{
    LEAKS("who waits for the gate is abandoned");
    CHECK_GT(gate = weald_event_new(0), 0);
    CHECK_GT(group = weald_group_new(), 0);
    CHECK_GT(pool = weald_pool_new(1), 0);
    CHECK_GT(member = weald_group_spawn(pool, body, NULL), 0);
    CHECK_GT(other = weald_spawn(wait_for_gate, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
}

static int64_t add(void) { return weald_group_add(pool, other, WEALD_FOREVER); }
static int64_t spawn(void) { return weald_group_spawn(pool, end, NULL); }
static int64_t kill_members(void) { return weald_group_kill(pool, 0, WEALD_FOREVER); }

static int64_t map(void)
{
    void *item = NULL, *out;
    return weald_group_map(group, wait_in_it, NULL, &item, 1, &out, NULL, WEALD_FOREVER);
}

static int64_t apply(void)
{
    void *out;
    return weald_group_apply(group, wait_in_it, NULL, NULL, &out, WEALD_FOREVER);
}

TEST(nobody_is_added_to_a_pool_that_stays_full)
{
    prepare(wait_for_gate);
    CHECK_EQ(when_killed(add), WEALD_ECANCELED);
    CHECK_EQ(in_a_callback(add), WEALD_EWOULDBLOCK);
    CHECK_EQ(in_a_deadlock(add), WEALD_EDEADLK);
    CHECK_EQ(weald_group_contains(pool, other), 0);
}

TEST(a_timeout_bounds_a_spawn_into_a_full_pool)
{
    prepare(wait_for_gate);
    CHECK_EQ(in_a_timeout(spawn), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_group_len(pool), 1);
}

TEST(who_waits_for_those_he_kills_may_be_killed)
{
    prepare(wait_shielded);
    CHECK_EQ(when_killed(kill_members), WEALD_ECANCELED);
    CHECK_EQ(weald_kill_reason(member), WEALD_ECANCELED); /* it was marked all the same */
}

TEST(members_that_do_not_end_are_a_deadlock)
{
    prepare(wait_shielded);
    CHECK_EQ(in_a_deadlock(kill_members), WEALD_EDEADLK);
}

TEST(items_that_nobody_can_finish_are_a_deadlock)
{
    prepare(wait_for_gate);
    CHECK_EQ(in_a_deadlock(map), WEALD_EDEADLK);
    CHECK_EQ(in_a_deadlock(apply), WEALD_EDEADLK);
}

TEST(who_waits_for_an_item_may_be_killed)
{
    prepare(wait_for_gate);
    CHECK_EQ(when_killed(map), WEALD_ECANCELED);
    CHECK_EQ(when_killed(apply), WEALD_ECANCELED);
}

static void map_elsewhere(void)
{
    CHECK_EQ(weald_group_imap(group, wait_in_it, NULL, no_more, NULL, 0), WEALD_EPERM);
    CHECK_EQ(weald_group_imap_unordered(group, wait_in_it, NULL, no_more, NULL, 0), WEALD_EPERM);
    CHECK_EQ(map(), WEALD_EPERM);
    CHECK_EQ(apply(), WEALD_EPERM);
    CHECK_EQ(weald_group_apply_async(group, wait_in_it, NULL, NULL), WEALD_EPERM);
}

TEST(another_thread_s_group_works_on_nothing)
{
    CHECK_GT(group = weald_group_new(), 0);
    in_another_thread(map_elsewhere);
    CHECK_EQ(weald_close(group), 0);
}

static int64_t wait_for_result(void) { return weald_result_wait(result, WEALD_FOREVER); }
static int64_t get_result(void) { return weald_result_get(result, NULL, WEALD_FOREVER); }

TEST(who_waits_for_a_result_may_be_killed)
{
    CHECK_GT(result = weald_result_new(0, NULL), 0);
    CHECK_EQ(when_killed(wait_for_result), WEALD_ECANCELED);
    CHECK_EQ(when_killed(get_result), WEALD_ECANCELED);
    CHECK_EQ(weald_close(result), 0);
}
