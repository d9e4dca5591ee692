/* Queues: order, room, waiting, hand-over, the end. Those that threads share are in shared.c. */
#include "greenlets.h"

#include <pthread.h>

enum { MANY = 64 };

/* Items are numbers from 1 on. */
#define ITEM(n) ((void *)(intptr_t)(n))

static weald_queue queue;
static char order[64];
static int destroyed[MANY + 1];

static void destroy(void *item)
{
    CHECK(item != NULL);
    destroyed[(intptr_t)item]++;
}

static void put(int item) { CHECK_EQ(weald_queue_put(queue, ITEM(item), WEALD_NOW), 0); }

/* The next item, or the code. */
static int get(void)
{
    void *item = NULL;
    int code = weald_queue_get(queue, &item, WEALD_NOW);

    return code == 0 ? (int)(intptr_t)item : code;
}

static int peek(void)
{
    void *item = NULL;
    int code = weald_queue_peek(queue, &item, WEALD_NOW);

    return code == 0 ? (int)(intptr_t)item : code;
}

/* The bodies return the item they got or the code. */
static void *get_one(void *deadline)
{
    void *item = NULL;
    int code = weald_queue_get(queue, &item, deadline ? *(int64_t *)deadline : WEALD_FOREVER);

    return code == 0 ? item : ITEM(code);
}

static void *peek_one(void *arg)
{
    void *item = NULL;
    int code = weald_queue_peek(queue, &item, WEALD_FOREVER);

    (void)arg;
    return code == 0 ? item : ITEM(code);
}

static void *put_one(void *item) { return ITEM(weald_queue_put(queue, item, WEALD_FOREVER)); }

static void *join_it(void *arg)
{
    (void)arg;
    return ITEM(weald_queue_join(queue, WEALD_FOREVER));
}

/* What the greenlet returned; it is closed. */
static int outcome_of(weald_greenlet g)
{
    void *value = NULL;

    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    return (int)(intptr_t)value;
}

static void pass(int64_t deadline)
{
    while (weald_now() <= deadline) {
    }
}

static void in_a_callback(weald_callback body)
{
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_post(hub, body, NULL), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(weald_close(hub), 0);
}

/* ---- order and room ---- */

TEST(fifo_items_leave_in_the_order_they_came)
{
    queue = weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, NULL);
    CHECK_EQ(weald_kind(queue), WEALD_KIND_QUEUE);
    for (int i = 1; i <= MANY; i++)
        put(i);
    for (int i = 1; i <= MANY; i++)
        CHECK_EQ(get(), i);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(lifo_items_leave_in_the_opposite_order)
{
    queue = weald_queue_new(WEALD_LIFO, WEALD_UNBOUNDED, NULL);
    for (int i = 1; i <= MANY; i++)
        put(i);
    CHECK_EQ(peek(), MANY);
    for (int i = MANY; i >= 1; i--)
        CHECK_EQ(get(), i);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

struct ranked {
    int rank, arrival;
};

static int by_rank(const void *a, const void *b)
{
    return ((const struct ranked *)a)->rank - ((const struct ranked *)b)->rank;
}

TEST(priority_items_leave_by_rank_and_equal_ones_in_the_order_they_came)
{
    static struct ranked all[500];
    const struct ranked *last = NULL;
    unsigned noise = 12345;

    queue = weald_priority_queue_new(0, WEALD_UNBOUNDED, by_rank, NULL);
    for (int i = 0; i < 500; i++) {
        noise = noise * 1103515245 + 12345;
        all[i].rank = (int)(noise >> 16) % 7;
        all[i].arrival = i;
        CHECK_EQ(weald_queue_put(queue, &all[i], WEALD_NOW), 0);
    }
    for (int i = 0; i < 500; i++) {
        void *item = NULL;
        const struct ranked *now;

        CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
        now = item;
        if (last) {
            CHECK_LE(last->rank, now->rank);
            if (last->rank == now->rank)
                CHECK_LT(last->arrival, now->arrival);
        }
        last = now;
    }
    CHECK_EQ(weald_queue_empty(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_priority_queue_shows_the_least)
{
    struct ranked all[3] = {{2, 0}, {1, 1}, {1, 2}};
    void *item = NULL;

    queue = weald_priority_queue_new(0, 2, by_rank, NULL);
    CHECK_EQ(weald_queue_put(queue, &all[0], WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, &all[1], WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, &all[2], WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_NOW), 0);
    CHECK_PTR(item, &all[1]);
    CHECK_EQ(weald_queue_len(queue), 2);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_bounded_queue_takes_no_more_than_fits)
{
    queue = weald_queue_new(0, 2, NULL);
    CHECK_EQ(weald_queue_full(queue), 0);
    put(1);
    put(2);
    CHECK_EQ(weald_queue_full(queue), 1);
    CHECK_EQ(weald_queue_put(queue, ITEM(3), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_len(queue), 2);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_queue_full(queue), 0);
    put(3);
    CHECK_EQ(get(), 2);
    CHECK_EQ(get(), 3);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_unbounded_queue_is_never_full)
{
    int count = (int)test_rounds(100000);

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    for (int i = 1; i <= count; i++)
        put(i);
    CHECK_EQ(weald_queue_full(queue), 0);
    CHECK_EQ(weald_queue_len(queue), count);
    for (int i = 1; i <= count; i++)
        CHECK_EQ(get(), i);
    CHECK_EQ(weald_queue_empty(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(null_is_an_item)
{
    void *item = &queue;

    queue = weald_queue_new(0, 1, NULL);
    CHECK_EQ(weald_queue_put(queue, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_queue_len(queue), 1);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
    CHECK_PTR(item, NULL);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_peek_leaves_the_item)
{
    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    CHECK_EQ(peek(), WEALD_EAGAIN);
    put(1);
    put(2);
    CHECK_EQ(peek(), 1);
    CHECK_EQ(peek(), 1);
    CHECK_EQ(weald_queue_len(queue), 2);
    CHECK_EQ(get(), 1);
    CHECK_EQ(peek(), 2);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- waiting ---- */

TEST(getters_are_served_in_the_order_they_came)
{
    weald_greenlet g[3];

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    for (int i = 0; i < 3; i++)
        g[i] = parked(get_one, NULL);
    for (int i = 0; i < 3; i++)
        put(i + 1);
    CHECK_EQ(weald_queue_len(queue), 0); /* handed over, not stored */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(outcome_of(g[i]), i + 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_getter_that_comes_now_does_not_overtake_one_that_waits)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(outcome_of(g), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(putters_get_room_in_the_order_they_came)
{
    weald_greenlet g[3];

    queue = weald_queue_new(0, 1, NULL);
    put(1);
    for (int i = 0; i < 3; i++)
        g[i] = parked(put_one, ITEM(i + 2));
    CHECK_EQ(weald_queue_len(queue), 1);
    for (int i = 1; i <= 4; i++) {
        CHECK_EQ(get(), i);
        CHECK_EQ(weald_queue_len(queue), i < 4); /* the next one moved in */
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(outcome_of(g[i]), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_putter_that_comes_now_does_not_overtake_one_that_waits)
{
    weald_greenlet g;

    queue = weald_queue_new(0, 1, NULL);
    put(1);
    g = parked(put_one, ITEM(2));
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_queue_put(queue, ITEM(3), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(get(), 2);
    CHECK_EQ(outcome_of(g), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_peek_waits_for_an_item_and_leaves_it_to_the_getter_behind)
{
    weald_greenlet looker, getter;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    looker = parked(peek_one, NULL);
    getter = parked(get_one, NULL);
    put(1); /* to the getter: the looker finds nothing and waits on */
    CHECK_EQ(outcome_of(getter), 1);
    CHECK_EQ(weald_state(looker), WEALD_STATE_PARKED);
    put(2);
    CHECK_EQ(outcome_of(looker), 2);
    CHECK_EQ(weald_queue_len(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(several_who_peek_see_the_same_item)
{
    weald_greenlet a, b;

    queue = weald_queue_new(0, 0, NULL);
    a = parked(peek_one, NULL);
    b = parked(peek_one, NULL);
    CHECK_EQ(weald_go(put_one, ITEM(7)), 0);
    CHECK_EQ(outcome_of(a), 7);
    CHECK_EQ(outcome_of(b), 7);
    CHECK_EQ(get(), 7);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_get_at_its_deadline_is_etimedout_and_takes_nothing)
{
    int64_t began = test_clock();
    void *item = &queue;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    CHECK_EQ(weald_queue_get(queue, &item, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_queue_peek(queue, &item, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_PTR(item, &queue);
    put(1);
    CHECK_EQ(weald_queue_len(queue), 1);
    CHECK_EQ(weald_queue_get(queue, &item, weald_now() - 1), 0); /* late, but it is there */
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_put_at_its_deadline_is_etimedout_and_puts_nothing)
{
    queue = weald_queue_new(0, 1, destroy);
    put(1);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(get(), 1);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(destroyed[2], 0);
}

/* ---- rendezvous ---- */

TEST(a_rendezvous_is_full_and_empty_at_once)
{
    queue = weald_queue_new(0, 0, NULL);
    CHECK_EQ(weald_queue_full(queue), 1);
    CHECK_EQ(weald_queue_empty(queue), 1);
    CHECK_EQ(weald_queue_len(queue), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(peek(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_rendezvous_put_waits_for_its_getter)
{
    weald_greenlet a, b;

    queue = weald_queue_new(0, 0, NULL);
    a = parked(put_one, ITEM(1));
    b = parked(put_one, ITEM(2));
    CHECK_EQ(weald_queue_empty(queue), 0); /* a get would not wait */
    CHECK_EQ(peek(), 1);
    CHECK_EQ(get(), 1);
    CHECK_EQ(outcome_of(a), 0);
    CHECK_EQ(weald_state(b), WEALD_STATE_PARKED);
    CHECK_EQ(get(), 2);
    CHECK_EQ(outcome_of(b), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_rendezvous_put_meets_a_getter_that_waits_without_waiting)
{
    weald_greenlet g;

    queue = weald_queue_new(0, 0, NULL);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(outcome_of(g), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static void *ping(void *rounds)
{
    for (intptr_t i = 1; i <= (intptr_t)rounds; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM(i), WEALD_FOREVER), 0);
    return NULL;
}

TEST(a_rendezvous_keeps_every_round_in_step)
{
    intptr_t rounds = test_rounds(10000);
    weald_greenlet g = weald_spawn(ping, ITEM(rounds));

    queue = weald_queue_new(0, 0, NULL);
    for (intptr_t i = 1; i <= rounds; i++) {
        void *item = NULL;
        CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), 0);
        CHECK_EQ((intptr_t)item, i);
    }
    CHECK_EQ(outcome_of(g), 0);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- kill, deadline and interrupt against a hand-over ---- */

TEST(an_item_whose_getter_was_killed_goes_back_to_the_front)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_one, NULL);
    put(1); /* handed to g, which has not run yet */
    put(2);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(outcome_of(g), WEALD_ECANCELED);
    CHECK_EQ(get(), 1);
    CHECK_EQ(get(), 2);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_whose_getter_was_killed_goes_to_the_next_getter)
{
    weald_greenlet a, b;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    a = parked(get_one, NULL);
    b = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_kill(a, 0, WEALD_NOW), 0);
    CHECK_EQ(outcome_of(a), WEALD_ECANCELED);
    CHECK_EQ(outcome_of(b), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(items_of_several_killed_getters_go_back_in_their_order)
{
    weald_greenlet g[3];

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    for (int i = 0; i < 3; i++)
        g[i] = parked(get_one, NULL);
    for (int i = 1; i <= 4; i++)
        put(i);
    CHECK_EQ(weald_killall(g, 3, 0, WEALD_FOREVER), 0);
    for (int i = 1; i <= 4; i++)
        CHECK_EQ(get(), i);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(outcome_of(g[i]), WEALD_ECANCELED);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_of_a_killed_getter_is_again_the_top_of_a_lifo)
{
    weald_greenlet g;

    queue = weald_queue_new(WEALD_LIFO, WEALD_UNBOUNDED, NULL);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome_of(g), WEALD_ECANCELED);
    put(2);
    CHECK_EQ(get(), 2);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static void *get_ranked(void *arg)
{
    void *item;

    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_ECANCELED);
    return arg;
}

TEST(an_item_of_a_killed_getter_stays_before_its_equals_in_a_priority_queue)
{
    struct ranked all[3] = {{1, 0}, {1, 1}, {0, 2}};
    weald_greenlet g;

    queue = weald_priority_queue_new(0, WEALD_UNBOUNDED, by_rank, NULL);
    g = parked(get_ranked, NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_queue_put(queue, &all[i], WEALD_NOW), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    for (int i = 0; i < 3; i++) {
        static const int expected[3] = {2, 0, 1};
        void *item = NULL;
        CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
        CHECK_EQ(((struct ranked *)item)->arrival, expected[i]);
    }
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_given_back_to_a_full_queue_is_not_lost)
{
    weald_greenlet getter;

    queue = weald_queue_new(0, 1, NULL);
    getter = parked(get_one, NULL);
    put(4); /* handed over */
    put(5); /* full */
    CHECK_EQ(weald_kill(getter, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(getter), 0);
    CHECK_EQ(weald_queue_len(queue), 2); /* one above */
    CHECK_EQ(weald_queue_put(queue, ITEM(6), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(get(), 4);
    CHECK_EQ(weald_queue_put(queue, ITEM(6), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(get(), 5);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(items_of_waiting_putters_take_the_places_of_items_that_came_back)
{
    enum { BACK = 40, CAPACITY = 100 };
    weald_greenlet getters[BACK];
    int last = 0;

    queue = weald_queue_new(0, CAPACITY, NULL);
    for (int i = 0; i < BACK; i++)
        getters[i] = parked(get_one, NULL);
    for (int i = 0; i < BACK; i++)
        put(++last);
    CHECK_EQ(weald_killall(getters, BACK, 0, WEALD_FOREVER), 0);
    while (weald_queue_len(queue) < CAPACITY)
        put(++last);
    for (int i = 0; i < BACK; i++) {
        CHECK_EQ(weald_close(getters[i]), 0);
        CHECK_EQ(weald_go(put_one, ITEM(++last)), 0);
    }
    CHECK_EQ(weald_yield(), 0); /* all of them wait */
    for (int i = 1; i <= last; i++)
        CHECK_EQ(get(), i);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_given_back_to_a_rendezvous_is_not_lost)
{
    weald_greenlet g;

    queue = weald_queue_new(0, 0, NULL);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_queue_empty(queue), 0);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_queue_empty(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_whose_getter_was_killed_after_the_queue_closed_is_destroyed_once)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, destroy);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome_of(g), WEALD_ECANCELED);
    CHECK_EQ(destroyed[1], 1);
}

TEST(an_item_handed_over_before_the_queue_closed_is_the_getters)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, destroy);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(outcome_of(g), 1);
    CHECK_EQ(destroyed[1], 0);
}

TEST(a_putter_killed_after_its_item_was_taken_has_put_it)
{
    weald_greenlet g;

    queue = weald_queue_new(0, 0, NULL);
    g = parked(put_one, ITEM(1));
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(outcome_of(g), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_putter_killed_while_it_waits_has_put_nothing)
{
    weald_greenlet g;

    queue = weald_queue_new(0, 0, destroy);
    g = parked(put_one, ITEM(1));
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome_of(g), WEALD_ECANCELED);
    CHECK_EQ(get(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(destroyed[1], 0);
}

TEST(a_putter_killed_and_still_in_the_list_keeps_or_loses_its_item_whole)
{
    weald_greenlet g;
    int outcome, got;

    queue = weald_queue_new(0, 0, NULL);
    g = parked(put_one, ITEM(1));
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0); /* marked; it has not run yet */
    got = get();
    outcome = outcome_of(g);
    CHECK(got == 1 ? outcome == 0 : outcome == WEALD_ECANCELED && got == WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_getter_killed_and_still_in_the_list_loses_no_item)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_one, NULL);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0); /* marked; it has not run yet */
    put(1);
    CHECK_EQ(outcome_of(g), WEALD_ECANCELED);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_put_after_the_getters_deadline_and_before_its_timer_reaches_it)
{
    int64_t deadline = weald_after(test_slack(WEALD_MS(20)));
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_one, &deadline);
    pass(deadline);
    put(1); /* the loop has not looked at the clock since */
    CHECK_EQ(outcome_of(g), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static int64_t first_deadline;
static void *put_at_deadline(void *item)
{
    (void)weald_sleep_until(first_deadline);
    return ITEM(weald_queue_put(queue, item, WEALD_NOW));
}

TEST(a_put_between_the_timer_and_the_getter_leaves_item_or_timeout_never_neither)
{
    int64_t deadline = weald_after(test_slack(WEALD_MS(20)));
    weald_greenlet getter, putter;
    int got;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    first_deadline = deadline - 1;
    putter = parked(put_at_deadline, ITEM(1));
    getter = parked(get_one, &deadline);
    pass(deadline);
    /* Both timers fire in one turn, the putter's first: it runs while the getter is ready with a timeout. */
    CHECK_EQ(outcome_of(putter), 0);
    got = outcome_of(getter);
    CHECK(got == 1 || got == WEALD_ETIMEDOUT);
    CHECK_EQ(weald_queue_len(queue), got == 1 ? 0 : 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_get_between_the_timer_and_the_putter_leaves_item_or_timeout_never_both)
{
    weald_greenlet g;
    int outcome, got;

    queue = weald_queue_new(0, 0, NULL);
    g = parked(put_one, ITEM(1));
    CHECK_EQ(weald_interrupt(g, WEALD_ETIMEDOUT), 0); /* woken with it, and still in the list */
    got = get();
    outcome = outcome_of(g);
    CHECK(got == 1 ? outcome == 0 : outcome == WEALD_ETIMEDOUT && got == WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

static void *get_then_sleep(void *arg)
{
    void *item = NULL;
    int first = weald_queue_get(queue, &item, WEALD_FOREVER);
    int second = weald_sleep(0);

    /* The code comes once: from the get, or if that has an item from the call after it. */
    CHECK(first == 0 ? item == ITEM(1) && second == WEALD_EINTR : first == WEALD_EINTR && second == 0);
    *(int *)arg = first;
    return NULL;
}

TEST(an_interrupt_before_a_hand_over_is_not_lost)
{
    weald_greenlet g;
    int first = 1;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_then_sleep, &first);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    put(1);
    CHECK_EQ(outcome_of(g), 0);
    CHECK_EQ(weald_queue_len(queue), first == 0 ? 0 : 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_interrupt_after_a_hand_over_is_the_next_calls)
{
    weald_greenlet g;
    int first = 1;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_then_sleep, &first);
    put(1);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    CHECK_EQ(outcome_of(g), 0);
    CHECK_EQ(first, 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_peek_that_was_told_in_vain_still_hears_of_a_kill_or_interrupt)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(peek_one, NULL);
    put(1); /* it is told to look */
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    CHECK_EQ(outcome_of(g), WEALD_EINTR);
    g = parked(peek_one, NULL);
    put(1);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(outcome_of(g), WEALD_ECANCELED);
    CHECK_EQ(weald_close(queue), 0);
}

static void *get_behind_a_shield(void *arg)
{
    void *item = NULL;

    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), 0);
    CHECK_EQ(weald_shield(0), 0);
    CHECK_EQ(weald_cancelled(), WEALD_ECANCELED);
    (void)arg;
    return item;
}

TEST(a_shielded_getter_keeps_the_item_it_was_killed_with)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_behind_a_shield, NULL);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    put(1);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(outcome_of(g), 1);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- shut and close ---- */

TEST(a_shut_queue_is_drained_and_then_epipe)
{
    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    put(1);
    put(2);
    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(3), WEALD_NOW), WEALD_EPIPE);
    CHECK_EQ(weald_queue_put(queue, ITEM(3), WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(peek(), 1);
    CHECK_EQ(get(), 1);
    CHECK_EQ(get(), 2);
    CHECK_EQ(get(), WEALD_EPIPE);
    CHECK_EQ(peek(), WEALD_EPIPE);
    CHECK_EQ(weald_queue_get(queue, &(void *){NULL}, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(shutting_wakes_getters_putters_and_lookers_with_epipe)
{
    weald_greenlet getter, looker, putter;

    queue = weald_queue_new(0, 0, destroy);
    getter = parked(get_one, NULL);
    looker = parked(peek_one, NULL);
    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(outcome_of(getter), WEALD_EPIPE);
    CHECK_EQ(outcome_of(looker), WEALD_EPIPE);
    CHECK_EQ(weald_close(queue), 0);

    queue = weald_queue_new(0, 0, destroy);
    putter = parked(put_one, ITEM(1));
    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(outcome_of(putter), WEALD_EPIPE);
    CHECK_EQ(get(), WEALD_EPIPE); /* what was not taken was never in it */
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(destroyed[1], 0);
}

TEST(an_item_given_back_to_a_shut_queue_can_still_be_got)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(get(), 1);
    CHECK_EQ(get(), WEALD_EPIPE);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(closing_wakes_everybody_with_ebadf)
{
    weald_greenlet getter, looker, putter, joiner;

    queue = weald_queue_new(0, 0, destroy);
    getter = parked(get_one, NULL);
    looker = parked(peek_one, NULL);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(outcome_of(getter), WEALD_EBADF);
    CHECK_EQ(outcome_of(looker), WEALD_EBADF);

    queue = weald_queue_new(0, 1, destroy);
    put(1);
    putter = parked(put_one, ITEM(2));
    joiner = parked(join_it, NULL);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(outcome_of(putter), WEALD_EBADF);
    CHECK_EQ(outcome_of(joiner), WEALD_EBADF);
    CHECK_EQ(destroyed[1], 1);
    CHECK_EQ(destroyed[2], 0); /* a put that fails leaves it with the caller */
}

TEST(leftovers_are_destroyed_once_in_every_kind_of_queue)
{
    queue = weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, destroy);
    for (int i = 1; i <= 20; i++)
        put(i);
    for (int i = 1; i <= 5; i++)
        CHECK_EQ(get(), i);
    CHECK_EQ(weald_close(queue), 0);
    for (int i = 1; i <= 20; i++)
        CHECK_EQ(destroyed[i], i > 5);

    memset(destroyed, 0, sizeof destroyed);
    queue = weald_queue_new(WEALD_LIFO, 20, destroy);
    for (int i = 1; i <= 20; i++)
        put(i);
    CHECK_EQ(get(), 20);
    CHECK_EQ(weald_dup(queue), queue);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(destroyed[1], 0);
    CHECK_EQ(weald_close(queue), 0);
    for (int i = 1; i <= 20; i++)
        CHECK_EQ(destroyed[i], i < 20);
}

static void destroy_ranked(void *item) { ((struct ranked *)item)->arrival++; }

TEST(leftovers_of_a_priority_queue_are_destroyed_once)
{
    struct ranked all[9] = {{3, 0}, {1, 0}, {2, 0}, {1, 0}, {3, 0}, {9, 0}, {0, 0}, {5, 0}, {5, 0}};
    void *item;

    queue = weald_priority_queue_new(0, WEALD_UNBOUNDED, by_rank, destroy_ranked);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(weald_queue_put(queue, &all[i], WEALD_NOW), 0);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
    CHECK_PTR(item, &all[6]);
    CHECK_EQ(weald_close(queue), 0);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(all[i].arrival, i != 6);
}

TEST(shutdown_of_the_hub_destroys_what_is_left)
{
    queue = weald_queue_new(0, WEALD_UNBOUNDED, destroy);
    put(1);
    put(2);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(destroyed[1], 1);
    CHECK_EQ(destroyed[2], 1);
    CHECK_EQ(weald_queue_new(0, 1, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(get(), WEALD_ESHUTDOWN);
}

/* ---- task_done and join ---- */

TEST(join_waits_until_every_item_is_done)
{
    weald_greenlet a, b;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    CHECK_EQ(weald_queue_join(queue, WEALD_FOREVER), 0); /* nothing was put */
    put(1);
    put(2);
    a = parked(join_it, NULL);
    b = parked(join_it, NULL);
    CHECK_EQ(get(), 1);
    CHECK_EQ(get(), 2);
    CHECK_EQ(weald_queue_task_done(queue), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(a), WEALD_STATE_PARKED);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_task_done(queue), 0);
    CHECK_EQ(outcome_of(a), 0);
    CHECK_EQ(outcome_of(b), 0);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_handed_over_counts_as_put)
{
    weald_greenlet g;

    queue = weald_queue_new(0, 0, NULL);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(outcome_of(g), 1);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), WEALD_EAGAIN);
    g = parked(put_one, ITEM(2)); /* counts from when it is taken */
    CHECK_EQ(weald_queue_task_done(queue), 0);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), 0);
    CHECK_EQ(get(), 2);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_task_done(queue), 0);
    CHECK_EQ(outcome_of(g), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(task_done_more_often_than_put_is_eoverflow)
{
    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    CHECK_EQ(weald_queue_task_done(queue), WEALD_EOVERFLOW);
    put(1);
    CHECK_EQ(weald_queue_task_done(queue), 0);
    CHECK_EQ(weald_queue_task_done(queue), WEALD_EOVERFLOW);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_given_back_is_not_counted_twice)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    g = parked(get_one, NULL);
    put(1);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_queue_task_done(queue), 0);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_join_ends_by_deadline_kill_or_interrupt)
{
    weald_greenlet g;

    queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    put(1);
    CHECK_EQ(weald_queue_join(queue, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    g = parked(join_it, NULL);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome_of(g), WEALD_ECANCELED);
    g = parked(join_it, NULL);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    CHECK_EQ(outcome_of(g), WEALD_EINTR);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- codes ---- */

TEST(what_can_not_be_is_einval)
{
    CHECK_EQ(weald_queue_new(2, 1, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_queue_new(-1, 1, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_priority_queue_new(0, 1, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_priority_queue_new(WEALD_LIFO, 1, by_rank, NULL), WEALD_EINVAL);
    queue = weald_queue_new(0, 1, NULL);
    put(1);
    CHECK_EQ(weald_queue_get(queue, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_queue_peek(queue, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_queue_len(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_event event = weald_event_new(0);
    weald_handle bad[4];
    void *item = &event;

    queue = weald_queue_new(0, 1, NULL);
    CHECK_EQ(weald_close(queue), 0);
    bad[0] = queue;
    bad[1] = 0;
    bad[2] = INT64_MAX;
    bad[3] = event;
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weald_queue_put(bad[i], NULL, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_queue_get(bad[i], &item, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_queue_peek(bad[i], &item, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_queue_len(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_queue_full(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_queue_empty(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_queue_shut(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_queue_task_done(bad[i]), WEALD_EBADF);
        CHECK_EQ(weald_queue_join(bad[i], WEALD_FOREVER), WEALD_EBADF);
    }
    CHECK_PTR(item, &event);
    CHECK_EQ(weald_close(event), 0);
}

static void *use_it(void *arg)
{
    void *item;

    CHECK_EQ(weald_queue_put(queue, NULL, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_queue_len(queue), WEALD_EPERM);
    CHECK_EQ(weald_queue_full(queue), WEALD_EPERM);
    CHECK_EQ(weald_queue_empty(queue), WEALD_EPERM);
    CHECK_EQ(weald_queue_shut(queue), WEALD_EPERM);
    CHECK_EQ(weald_queue_task_done(queue), WEALD_EPERM);
    CHECK_EQ(weald_queue_join(queue, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_close(queue), WEALD_EPERM);
    return arg;
}

TEST(another_threads_queue_is_eperm)
{
    pthread_t thread;

    queue = weald_queue_new(0, 2, NULL);
    put(1);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_queue_len(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static void use_in_callback(void *arg)
{
    void *item;

    (void)arg;
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_FOREVER), 0); /* there is room */
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_join(queue, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    strcat(order, "called");
}

TEST(a_callback_must_not_wait)
{
    queue = weald_queue_new(0, 1, NULL);
    in_a_callback(use_in_callback);
    CHECK_STR(order, "called");
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    int reports = 0;
    void *item;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    queue = weald_queue_new(0, 1, NULL);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_FOREVER), WEALD_EDEADLK);
    put(1);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_queue_join(queue, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 4);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static void *use_when_killed(void *arg)
{
    void *item = NULL;

    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_queue_join(queue, WEALD_FOREVER), WEALD_ECANCELED);
    /* What does not wait goes on working: cleaning up needs it. */
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, item, WEALD_NOW), 0);
    return arg;
}

TEST(a_killed_greenlet_can_put_and_get_only_now)
{
    weald_greenlet g = parked(use_when_killed, NULL);

    queue = weald_queue_new(0, 1, NULL);
    put(1);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(get(), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_binding_that_forbids_to_suspend_gets_eperm)
{
    void *item;

    queue = weald_queue_new(0, 1, NULL);
    forbid_waits();
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_EPERM);
    put(1);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), 0); /* nothing to wait for */
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- comparators that use the library ---- */

static int comparisons;

/* Tries everything on its own queue. */
static int by_rank_and_greed(const void *a, const void *b)
{
    void *item = NULL;
    weald_wait_item both[1] = {{.object = queue, .fd = -1}};
    weald_handle other = weald_queue_new(0, 1, NULL);

    comparisons++;
    CHECK_EQ(weald_queue_put(queue, &item, WEALD_NOW), WEALD_EBUSY);
    CHECK_EQ(weald_queue_put(queue, &item, WEALD_FOREVER), WEALD_EBUSY);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), WEALD_EBUSY);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_NOW), WEALD_EBUSY);
    CHECK_EQ(weald_queue_len(queue), WEALD_EBUSY);
    CHECK_EQ(weald_queue_full(queue), WEALD_EBUSY);
    CHECK_EQ(weald_queue_empty(queue), WEALD_EBUSY);
    CHECK_EQ(weald_queue_shut(queue), WEALD_EBUSY);
    CHECK_EQ(weald_queue_task_done(queue), WEALD_EBUSY);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), WEALD_EBUSY);
    CHECK_EQ(weald_wait(both, 1, 1, WEALD_NOW), WEALD_EBUSY);
    CHECK_PTR(item, NULL);
    CHECK_EQ(weald_yield(), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_put(other, &item, WEALD_NOW), 0); /* others are free */
    CHECK_EQ(weald_queue_put(other, &item, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_len(other), 1);
    CHECK_EQ(weald_close(other), 0);
    return by_rank(a, b);
}

static const int queue_flags[2] = {0, WEALD_SHARED};

TEST(a_comparator_that_uses_its_own_queue_is_ebusy_and_does_no_harm)
{
    static struct ranked all[40];

    for (int k = 0; k < 2; k++) {
        comparisons = 0;
        queue = weald_priority_queue_new(queue_flags[k], WEALD_UNBOUNDED, by_rank_and_greed, NULL);
        for (int i = 0; i < 40; i++) {
            all[i].rank = i * 7 % 40;
            CHECK_EQ(weald_queue_put(queue, &all[i], WEALD_NOW), 0);
        }
        CHECK_EQ(weald_queue_len(queue), 40);
        for (int i = 0; i < 40; i++) {
            void *item = NULL;
            CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
            CHECK_EQ(((struct ranked *)item)->rank, i);
            CHECK_EQ(weald_queue_task_done(queue), 0);
        }
        CHECK_GT(comparisons, 40);
        CHECK_EQ(weald_queue_join(queue, WEALD_NOW), 0);
        CHECK_EQ(weald_close(queue), 0);
    }
}

/* Closes its queue at the comparison that brings `comparisons` to 0. */
static int by_rank_and_close(const void *a, const void *b)
{
    if (--comparisons == 0)
        CHECK_EQ(weald_close(queue), 0);
    return by_rank(a, b);
}

static int items_destroyed;
static void count_item(void *item)
{
    CHECK(item != NULL);
    items_destroyed++;
}

TEST(a_comparator_may_close_its_own_queue)
{
    static struct ranked all[10];
    weald_greenlet g;
    int put, got;

    for (int k = 0; k < 2; k++)
        for (int when = 1; when <= 40; when++) {
            void *item;

            put = got = items_destroyed = 0;
            comparisons = when;
            queue = weald_priority_queue_new(queue_flags[k], WEALD_UNBOUNDED, by_rank_and_close, count_item);
            for (int i = 0; i < 10; i++) {
                all[i].rank = i * 3 % 10;
                put += weald_queue_put(queue, &all[i], WEALD_NOW) == 0;
            }
            for (int i = 0; i < 5; i++)
                got += weald_queue_get(queue, &item, WEALD_NOW) == 0;
            if (comparisons > 0) {
                comparisons = 1000;
                CHECK_EQ(weald_close(queue), 0);
            }
            CHECK_EQ(weald_queue_len(queue), WEALD_EBADF);
            CHECK_EQ(got + items_destroyed, put);
        }

    /* An item that comes back meets the comparator as well. */
    queue = weald_priority_queue_new(0, WEALD_UNBOUNDED, by_rank_and_close, count_item);
    comparisons = 1000;
    items_destroyed = 0;
    g = parked(get_ranked, NULL);
    CHECK_EQ(weald_queue_put(queue, &all[0], WEALD_NOW), 0); /* goes to the getter */
    CHECK_EQ(weald_queue_put(queue, &all[1], WEALD_NOW), 0);
    comparisons = 1;
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_queue_len(queue), WEALD_EBADF);
    CHECK_EQ(items_destroyed, 2);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_put_that_would_wait_for_ever_finds_room_in_a_queue_without_a_bound)
{
    weald_queue many = weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, NULL);
    void *item;

    CHECK_GT(many, 0);
    for (intptr_t i = 0; i < 1000; i++)
        CHECK_EQ(weald_queue_put(many, (void *)i, WEALD_FOREVER), 0);
    for (intptr_t i = 0; i < 1000; i++) {
        CHECK_EQ(weald_queue_get(many, &item, WEALD_FOREVER), 0);
        CHECK_PTR(item, (void *)i);
    }
    CHECK_EQ(weald_close(many), 0);
}

static void *get_in_time_then_for_ever(void *queue)
{
    void *item;

    CHECK_EQ(weald_queue_get(*(weald_queue *)queue, &item, weald_after(WEALD_MS(5))), 0);
    return (void *)(intptr_t)weald_queue_get(*(weald_queue *)queue, &item, WEALD_FOREVER);
}

TEST(a_hand_over_takes_the_deadline_away)
{
    weald_queue handed = weald_queue_new(WEALD_FIFO, 0, NULL);
    weald_greenlet g = weald_spawn(get_in_time_then_for_ever, &handed);
    void *code = NULL;

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_queue_put(handed, &handed, WEALD_FOREVER), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    CHECK_EQ(weald_queue_put(handed, &handed, WEALD_NOW), 0); /* it waits still */
    CHECK_EQ(weald_get(g, &code, WEALD_FOREVER), 0);
    CHECK_EQ((int)(intptr_t)code, 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(handed), 0);
}
