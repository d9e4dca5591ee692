/* map, imap and apply: a function over items, with a group's greenlets. */
#include "greenlets.h"

#include <pthread.h>

/* Items and results are numbers from 1 on. */
#define ITEM(n) ((void *)(intptr_t)(n))

static weald_group group;
static weald_event go;
static int running, most, calls;

static void make(size_t size)
{
    group = size ? weald_pool_new(size) : weald_group_new();
    go = weald_event_new(0);
    CHECK_GT(group, 0);
}

static void unmake(void)
{
    CHECK_EQ(weald_group_join(group, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(group), 0);
    CHECK_EQ(weald_close(go), 0);
}

/* ---- functions over items ---- */

static int times_ten(void *item, void **out, void *user)
{
    calls++;
    most = ++running > most ? running : most;
    (void)weald_yield();
    running--;
    *out = ITEM((intptr_t)item * 10);
    return user == NULL ? 0 : *(int *)user;
}

/* The greater the item the sooner it is done. */
static int greatest_first(void *item, void **out, void *user)
{
    (void)user;
    CHECK_EQ(weald_sleep(WEALD_MS(2) * (8 - (intptr_t)item)), 0);
    *out = item;
    return 0;
}

static int odd_ones_fail(void *item, void **out, void *user)
{
    (void)user;
    (void)weald_yield();
    *out = item;
    return (intptr_t)item % 2 ? (int)(-1000 - (intptr_t)item) : 0;
}

/* Waits until `go`; what the wait returned is its code. */
static int until_go(void *item, void **out, void *user)
{
    int code;

    (void)user;
    calls++;
    code = weald_event_wait(go, WEALD_FOREVER);
    *out = item;
    return code;
}

/* ---- sources ---- */

struct source {
    int next, last; /* counts from next + 1 to last */
    int end;        /* what it returns then */
};

static int count(void **item, void *state)
{
    struct source *source = state;

    if (source->next == source->last)
        return source->end;
    *item = ITEM(++source->next);
    return 1;
}

static int count_slowly(void **item, void *state)
{
    CHECK_EQ(weald_sleep(WEALD_US(100)), 0); /* it may block */
    return count(item, state);
}

static int from_queue(void **item, void *queue)
{
    int code = weald_queue_get(*(weald_queue *)queue, item, WEALD_FOREVER);

    return code == 0 ? 1 : code == WEALD_EPIPE ? 0 : code;
}

/* The next result, or 0 at the end, or the code. */
static int next(weald_handle it, int64_t deadline)
{
    void *out = NULL;
    int item_code = 7, code = weald_imap_next(it, &out, &item_code, deadline);

    if (code == 1) {
        CHECK_EQ(item_code, 0);
        return (int)(intptr_t)out;
    }
    CHECK_PTR(out, NULL);
    return code;
}

/* ---- map ---- */

TEST(map_gives_results_in_the_order_of_the_items)
{
    void *items[] = {ITEM(1), ITEM(2), ITEM(3), ITEM(4), ITEM(5), ITEM(6), ITEM(7)}, *outs[7];
    int codes[7];

    make(0);
    CHECK_EQ(weald_group_map(group, greatest_first, NULL, items, 7, outs, codes, WEALD_FOREVER), 0);
    for (int i = 0; i < 7; i++) {
        CHECK_PTR(outs[i], items[i]);
        CHECK_EQ(codes[i], 0);
    }
    CHECK_EQ(weald_group_map(group, times_ten, NULL, items, 7, outs, NULL, WEALD_FOREVER), 0);
    CHECK_PTR(outs[6], ITEM(70));
    unmake();
}

TEST(map_over_nothing_is_nothing)
{
    make(1);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, NULL, 0, NULL, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, NULL, 0, NULL, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, NULL, 0, NULL, NULL, weald_now() - 1), 0);
    CHECK_EQ(calls, 0);
    unmake();
}

TEST(map_in_a_pool_works_on_no_more_than_its_size_at_once)
{
    enum { MANY = 200 };
    static void *items[MANY], *outs[MANY];

    make(3);
    for (int i = 0; i < MANY; i++)
        items[i] = ITEM(i + 1);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, items, MANY, outs, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(calls, MANY);
    CHECK_EQ(most, 3);
    for (int i = 0; i < MANY; i++)
        CHECK_PTR(outs[i], ITEM((i + 1) * 10));
    unmake();
}

TEST(map_returns_the_first_failure_and_keeps_the_other_results)
{
    void *items[] = {ITEM(2), ITEM(3), ITEM(4), ITEM(1), ITEM(6)}, *outs[5];
    int codes[5];

    make(2);
    CHECK_EQ(weald_group_map(group, odd_ones_fail, NULL, items, 5, outs, codes, WEALD_FOREVER), -1003);
    for (int i = 0; i < 5; i++) {
        int odd = (intptr_t)items[i] % 2;
        CHECK_PTR(outs[i], odd ? NULL : items[i]);
        CHECK_EQ(codes[i], odd ? -1000 - (intptr_t)items[i] : 0);
    }
    unmake();
}

TEST(a_positive_return_is_no_failure)
{
    void *item = ITEM(1), *out;
    int code = 5;

    make(0);
    CHECK_EQ(weald_group_map(group, times_ten, &code, &item, 1, &out, NULL, WEALD_FOREVER), 0);
    CHECK_PTR(out, ITEM(10));
    unmake();
}

TEST(map_at_its_deadline_is_etimedout_and_writes_nothing)
{
    void *items[] = {ITEM(1), ITEM(2)}, *outs[2] = {items, items};
    int codes[2] = {7, 7};

    make(0);
    CHECK_EQ(weald_group_map(group, until_go, NULL, items, 2, outs, codes, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_PTR(outs[0], items);
    CHECK_PTR(outs[1], items);
    CHECK_EQ(codes[0], 7);
    CHECK_EQ(weald_group_len(group), 2); /* they go on */
    CHECK_EQ(weald_event_set(go), 0);
    unmake();
}

/* Whoever gives up leaves nothing behind, once the greenlets have seen it. */
TEST(maps_that_are_given_up_take_no_memory)
{
    enum { ITEMS = 100000 };
    static void *items[ITEMS], *outs[ITEMS];
    long rss = 0;

    if (*test_under())
        SKIP("memory is counted on the bare machine");
    make(1);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(weald_group_map(group, times_ten, NULL, items, ITEMS, outs, NULL, weald_now() - 1), WEALD_ETIMEDOUT);
        for (int k = 0; k < 5; k++)
            CHECK_EQ(weald_yield(), 0);
        if (i == 20)
            rss = test_rss();
    }
    CHECK_LE(test_rss() - rss, 20 << 20); /* the items alone would be 144 MB */
    unmake();
}

TEST(map_now_is_eagain)
{
    void *item = ITEM(1), *out = &item;

    make(0);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, &item, 1, &out, NULL, WEALD_NOW), WEALD_EAGAIN);
    CHECK_PTR(out, &item);
    unmake();
}

static void *map_three(void *arg)
{
    void *items[] = {ITEM(1), ITEM(2), ITEM(3)}, *outs[3];

    (void)arg;
    return ITEM(weald_group_map(group, until_go, NULL, items, 3, outs, NULL, WEALD_FOREVER));
}

TEST(a_killed_map_is_ecanceled_and_its_items_array_is_not_used_any_more)
{
    weald_greenlet g;

    make(1); /* two items have not been given out yet */
    g = weald_spawn(map_three, NULL);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(g), WEALD_ECANCELED);
    CHECK_EQ(weald_event_set(go), 0);
    unmake();
    CHECK_LE(calls, 3);
}

TEST(a_map_whose_group_is_killed_has_every_items_code)
{
    void *items[] = {ITEM(1), ITEM(2), ITEM(3)}, *outs[3];
    int codes[3];
    weald_greenlet g;

    make(0);
    g = weald_spawn(map_three, NULL);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(calls, 3);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(g), WEALD_ECANCELED);
    /* And of those that never begin. */
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_group_map(group, until_go, NULL, items, 3, outs, codes, WEALD_FOREVER), 0);
    CHECK_EQ(codes[0] | codes[1] | codes[2], 0);
    unmake();
}

/* ---- imap ---- */

TEST(imap_gives_results_in_the_order_of_the_items)
{
    struct source source = {0, 7, 0};
    weald_handle it;

    make(0);
    it = weald_group_imap(group, greatest_first, NULL, count, &source, 0);
    CHECK_EQ(weald_kind(it), WEALD_KIND_IMAP);
    for (int i = 1; i <= 7; i++)
        CHECK_EQ(next(it, WEALD_FOREVER), i);
    CHECK_EQ(next(it, WEALD_FOREVER), 0);
    CHECK_EQ(next(it, WEALD_NOW), 0); /* the end stays the end */
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

TEST(imap_unordered_gives_results_as_they_are_done)
{
    struct source source = {0, 7, 0};
    weald_handle it;

    make(0);
    it = weald_group_imap_unordered(group, greatest_first, NULL, count, &source, 0);
    for (int i = 7; i >= 1; i--)
        CHECK_EQ(next(it, WEALD_FOREVER), i);
    CHECK_EQ(next(it, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

TEST(imap_in_a_pool_of_one_is_in_order_whatever_it_is_called)
{
    struct source source = {0, 20, 0};
    weald_handle it;

    make(1);
    it = weald_group_imap_unordered(group, times_ten, NULL, count, &source, 0);
    for (int i = 1; i <= 20; i++)
        CHECK_EQ(next(it, WEALD_FOREVER), i * 10);
    CHECK_EQ(next(it, WEALD_FOREVER), 0);
    CHECK_EQ(most, 1);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

TEST(an_empty_source_ends_at_once)
{
    struct source source = {0, 0, 0};
    weald_handle it;

    make(0);
    it = weald_group_imap(group, times_ten, NULL, count, &source, 1);
    CHECK_EQ(next(it, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

TEST(a_source_may_block)
{
    struct source source = {0, 5, 0};
    weald_handle it;

    make(0);
    it = weald_group_imap(group, times_ten, NULL, count_slowly, &source, 2);
    for (int i = 1; i <= 5; i++)
        CHECK_EQ(next(it, WEALD_FOREVER), i * 10);
    CHECK_EQ(next(it, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

static void let_them_run(void)
{
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weald_sleep(WEALD_US(20)), 0);
}

TEST(maxsize_bounds_what_is_under_way_or_unread)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct source source = {0, 50, 0};
        weald_handle it;
        make(0);
        it = (ordered ? weald_group_imap : weald_group_imap_unordered)(group, times_ten, NULL, count, &source, 4);
        for (int read = 0; read <= 50; read++) {
            let_them_run();
            CHECK_EQ(source.next, read + 4 < 50 ? read + 4 : 50);
            CHECK_EQ(next(it, WEALD_FOREVER), read < 50 ? (read + 1) * 10 : 0);
        }
        CHECK_EQ(weald_close(it), 0);
        unmake();
    }
}

TEST(maxsize_bounds_an_ordered_imap_whose_first_item_is_slow)
{
    struct source source = {0, 50, 0};
    weald_handle it;

    make(0);
    it = weald_group_imap(group, until_go, NULL, count, &source, 3);
    let_them_run();
    CHECK_EQ(source.next, 3);
    CHECK_EQ(next(it, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_event_set(go), 0);
    for (int i = 1; i <= 50; i++)
        CHECK_EQ(next(it, WEALD_FOREVER), i);
    CHECK_EQ(next(it, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

TEST(a_failing_item_does_not_lose_the_others)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct source source = {0, 10, 0};
        weald_handle it;
        make(2);
        it = (ordered ? weald_group_imap : weald_group_imap_unordered)(group, odd_ones_fail, NULL, count, &source, 0);
        for (int i = 1; i <= 10; i++) {
            void *out = &source;
            int item_code = 7, code = weald_imap_next(it, &out, &item_code, WEALD_FOREVER);
            CHECK_EQ(code, i % 2 ? -1000 - i : 1);
            CHECK_EQ(item_code, i % 2 ? -1000 - i : 0);
            CHECK_PTR(out, i % 2 ? (void *)&source : ITEM(i));
        }
        CHECK_EQ(next(it, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(it), 0);
        unmake();
    }
}

TEST(a_source_that_fails_is_one_more_result_and_then_the_end)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct source source = {0, 3, WEALD_EPIPE};
        weald_handle it;
        void *out;
        int item_code = 0;
        make(0);
        it = (ordered ? weald_group_imap : weald_group_imap_unordered)(group, times_ten, NULL, count, &source, 1);
        for (int i = 1; i <= 3; i++)
            CHECK_EQ(next(it, WEALD_FOREVER), i * 10);
        CHECK_EQ(weald_imap_next(it, &out, &item_code, WEALD_FOREVER), WEALD_EPIPE);
        CHECK_EQ(item_code, WEALD_EPIPE);
        CHECK_EQ(next(it, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(it), 0);
        unmake();
    }
}

TEST(a_failure_of_the_wait_is_told_from_that_of_an_item)
{
    struct source source = {0, 1, 0};
    weald_handle it;
    void *out;
    int item_code = 7;

    make(0);
    it = weald_group_imap(group, until_go, NULL, count, &source, 0);
    CHECK_EQ(weald_imap_next(it, &out, &item_code, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(item_code, 7); /* no item's code was written */
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_imap_next(it, &out, NULL, WEALD_FOREVER), 1); /* nothing was lost */
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

TEST(closing_in_the_middle_asks_the_source_no_more)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct source source = {0, 1000, 0};
        weald_handle it;
        int given;
        make(2);
        it = (ordered ? weald_group_imap : weald_group_imap_unordered)(group, times_ten, NULL, count, &source, 8);
        for (int i = 1; i <= 5; i++)
            CHECK_EQ(next(it, WEALD_FOREVER), i * 10);
        let_them_run();
        given = source.next;
        CHECK_EQ(given, 13);
        CHECK_EQ(weald_close(it), 0);
        CHECK_EQ(weald_imap_next(it, &(void *){NULL}, NULL, WEALD_FOREVER), WEALD_EBADF);
        let_them_run();
        CHECK_EQ(source.next, given);
        CHECK_EQ(weald_group_len(group), 0); /* what was under way has ended by itself */
        unmake();
    }
}

static weald_handle iterator;

static void *read_one(void *arg)
{
    (void)arg;
    return ITEM(next(iterator, WEALD_FOREVER));
}

TEST(closing_wakes_the_reader_with_ebadf)
{
    struct source source = {0, 1, 0};
    weald_greenlet g;

    make(0);
    iterator = weald_group_imap(group, until_go, NULL, count, &source, 0);
    g = weald_spawn(read_one, NULL);
    let_them_run();
    CHECK_EQ(weald_close(iterator), 0);
    CHECK_EQ(code_of(g), WEALD_EBADF);
    CHECK_EQ(weald_event_set(go), 0);
    unmake();
}

TEST(a_source_that_waits_when_the_iterator_is_closed_is_called_no_more)
{
    weald_queue queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    weald_handle it;

    make(0);
    it = weald_group_imap(group, times_ten, NULL, from_queue, &queue, 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(next(it, WEALD_FOREVER), 10);
    CHECK_EQ(weald_close(it), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(3), WEALD_NOW), 0);
    let_them_run();
    CHECK_LE(calls, 2); /* the item it was waiting for, at most */
    CHECK_GE(weald_queue_len(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
    unmake();
}

TEST(killing_the_group_in_the_middle_gives_every_item_an_outcome)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct source source = {0, 10, 0};
        weald_handle it;
        int canceled = 0, done = 0, code;
        make(3);
        calls = 0;
        it = (ordered ? weald_group_imap : weald_group_imap_unordered)(group, until_go, NULL, count, &source, 0);
        let_them_run();
        CHECK_EQ(calls, 3);
        CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_event_set(go), 0);
        while ((code = next(it, WEALD_FOREVER)) != 0) {
            canceled += code == WEALD_ECANCELED;
            done += code > 0;
        }
        CHECK_EQ(canceled + done, 10);
        CHECK_GE(canceled, 3);
        CHECK_EQ(weald_close(it), 0);
        unmake();
    }
}

TEST(items_whose_greenlets_are_killed_before_they_begin_are_ecanceled)
{
    struct source source = {0, 3, 0};
    weald_handle it;

    make(0);
    it = weald_group_imap(group, times_ten, NULL, count, &source, 0);
    CHECK_EQ(weald_yield(), 0); /* the feeder has run, the items have not */
    CHECK_EQ(source.next, 3);
    CHECK_EQ(calls, 0);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(next(it, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(next(it, WEALD_FOREVER), 0);
    CHECK_EQ(calls, 0);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

static void *read_all(void *sum)
{
    int code;

    while ((code = next(iterator, WEALD_FOREVER)) > 0)
        *(int *)sum += code;
    return ITEM(code);
}

TEST(two_readers_share_the_results_and_both_see_the_end)
{
    struct source source = {0, 11, 0};
    weald_greenlet a, b;
    int sum = 0;

    make(2);
    iterator = weald_group_imap(group, times_ten, NULL, count_slowly, &source, 0);
    a = weald_spawn(read_all, &sum);
    b = weald_spawn(read_all, &sum);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_EQ(sum, 660);
    CHECK_EQ(weald_close(iterator), 0);
    unmake();
}

static weald_greenlet victim;
static int kill_victim(void *item, void **out, void *user)
{
    (void)user;
    (void)weald_sleep(WEALD_US(200));
    CHECK_EQ(weald_kill(victim, 0, WEALD_NOW), 0); /* marked, and still in line for the result that comes now */
    *out = item;
    return 0;
}

TEST(a_result_is_not_lost_with_a_reader_that_was_killed)
{
    struct source source = {0, 1, 0};
    weald_greenlet other;

    make(0);
    iterator = weald_group_imap(group, kill_victim, NULL, count, &source, 0);
    victim = weald_spawn(read_one, NULL);
    other = weald_spawn(read_one, NULL);
    CHECK_EQ(code_of(other), 1);
    CHECK_EQ(code_of(victim), WEALD_ECANCELED);
    CHECK_EQ(weald_close(iterator), 0);
    unmake();
}

TEST(several_imaps_share_a_pool)
{
    struct source first = {0, 20, 0}, second = {100, 120, 0};
    weald_handle a, b;

    make(2);
    a = weald_group_imap(group, times_ten, NULL, count, &first, 0);
    b = weald_group_imap(group, times_ten, NULL, count, &second, 0);
    for (int i = 1; i <= 20; i++) {
        CHECK_EQ(next(a, WEALD_FOREVER), i * 10);
        CHECK_EQ(next(b, WEALD_FOREVER), (100 + i) * 10);
    }
    CHECK_EQ(next(a, WEALD_FOREVER), 0);
    CHECK_EQ(next(b, WEALD_FOREVER), 0);
    CHECK_LE(most, 2);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
    unmake();
}

TEST(the_same_work_gives_the_same_order_every_time)
{
    int first[30];

    for (int round = 0; round < 4; round++) {
        struct source source = {0, 30, 0};
        weald_handle it;
        make(4);
        it = weald_group_imap_unordered(group, times_ten, NULL, count, &source, 0);
        for (int i = 0; i < 30; i++) {
            int got = next(it, WEALD_FOREVER);
            if (round == 0)
                first[i] = got;
            CHECK_EQ(got, first[i]);
        }
        CHECK_EQ(weald_close(it), 0);
        unmake();
    }
}

/* ---- apply ---- */

TEST(apply_works_on_one_item_in_a_member)
{
    void *out = NULL;
    int code = WEALD_EPIPE;

    make(1);
    CHECK_EQ(weald_group_apply(group, times_ten, NULL, ITEM(4), &out, WEALD_FOREVER), 0);
    CHECK_PTR(out, ITEM(40));
    CHECK_EQ(weald_group_apply(group, times_ten, NULL, ITEM(4), NULL, WEALD_FOREVER), 0);
    out = &code;
    CHECK_EQ(weald_group_apply(group, times_ten, &code, ITEM(4), &out, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_PTR(out, &code);
    CHECK_EQ(weald_group_apply(group, until_go, NULL, ITEM(4), &out, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_group_apply(group, until_go, NULL, ITEM(4), &out, WEALD_NOW), WEALD_EAGAIN);
    CHECK_PTR(out, &code);
    CHECK_EQ(weald_event_set(go), 0);
    let_them_run();
    unmake();
}

TEST(apply_async_gives_a_result_that_will_be_set)
{
    weald_result r[5];

    make(2);
    for (int i = 0; i < 5; i++) {
        r[i] = weald_group_apply_async(group, times_ten, NULL, ITEM(i + 1));
        CHECK_EQ(weald_kind(r[i]), WEALD_KIND_RESULT);
    }
    CHECK_EQ(calls, 0); /* it does not switch, nor wait for room */
    for (int i = 0; i < 5; i++) {
        void *value = NULL;
        CHECK_EQ(weald_result_get(r[i], &value, WEALD_FOREVER), 0);
        CHECK_PTR(value, ITEM((i + 1) * 10));
        CHECK_EQ(weald_close(r[i]), 0);
    }
    CHECK_EQ(most, 2);
    unmake();
}

TEST(apply_async_hands_on_the_failure)
{
    int code = -4711;
    weald_result r;

    make(0);
    r = weald_group_apply_async(group, times_ten, &code, ITEM(1));
    CHECK_EQ(weald_result_get(r, NULL, WEALD_FOREVER), -4711);
    CHECK_EQ(weald_close(r), 0);
    unmake();
}

TEST(apply_async_is_set_even_if_its_greenlet_is_killed)
{
    weald_result begun, fresh, queued;

    make(1);
    begun = weald_group_apply_async(group, until_go, NULL, ITEM(1));
    let_them_run();
    CHECK_EQ(calls, 1);
    queued = weald_group_apply_async(group, times_ten, NULL, ITEM(2)); /* waits for room */
    let_them_run();
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_result_get(begun, NULL, WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(weald_result_wait(queued, WEALD_FOREVER), 0);
    fresh = weald_group_apply_async(group, times_ten, NULL, ITEM(3));
    while (weald_group_len(group) == 0)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_group_kill(group, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_result_wait(fresh, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(begun), 0);
    CHECK_EQ(weald_close(queued), 0);
    CHECK_EQ(weald_close(fresh), 0);
    unmake();
}

TEST(the_result_of_apply_async_may_be_closed_before_it_is_set)
{
    weald_result r;

    make(1);
    r = weald_group_apply_async(group, times_ten, NULL, ITEM(1));
    CHECK_EQ(weald_close(r), 0);
    let_them_run();
    CHECK_EQ(calls, 1);
    unmake();
}

TEST(the_group_may_be_closed_while_work_waits_for_room)
{
    struct source source = {0, 5, 0};
    weald_result r;
    weald_handle it;
    int outcomes = 0;

    make(1);
    it = weald_group_imap(group, until_go, NULL, count, &source, 0);
    r = weald_group_apply_async(group, times_ten, NULL, ITEM(1));
    let_them_run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(weald_close(group), 0);
    CHECK_EQ(weald_event_set(go), 0);
    for (int code; (code = next(it, WEALD_FOREVER)) != 0; outcomes++)
        CHECK(code == 1 || code < 0);
    CHECK_GE(outcomes, 2); /* the one that ran, and what became of those that did not */
    CHECK_LT(weald_result_get(r, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_close(it), 0);
    CHECK_EQ(weald_close(go), 0);
}

TEST(shutdown_in_the_middle_ends_the_feeder_too)
{
    static struct source source = {0, 1000000, 0};

    make(2);
    CHECK_GT(weald_group_imap(group, until_go, NULL, count, &source, 0), 0);
    CHECK_GT(weald_group_apply_async(group, until_go, NULL, ITEM(1)), 0);
    let_them_run();
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_LT(source.next, 1000);
}

/* ---- codes ---- */

TEST(what_can_not_be_is_einval)
{
    struct source source = {0, 1, 0};
    void *item = ITEM(1), *out = NULL;
    weald_handle it;

    make(0);
    CHECK_EQ(weald_group_map(group, NULL, NULL, &item, 1, &out, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, NULL, 1, &out, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, &item, 1, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_group_map(group, times_ten, NULL, &item, SIZE_MAX, &out, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_group_imap(group, NULL, NULL, count, &source, 0), WEALD_EINVAL);
    CHECK_EQ(weald_group_imap(group, times_ten, NULL, NULL, &source, 0), WEALD_EINVAL);
    CHECK_EQ(weald_group_imap_unordered(group, NULL, NULL, count, &source, 0), WEALD_EINVAL);
    CHECK_EQ(weald_group_imap_unordered(group, times_ten, NULL, NULL, &source, 0), WEALD_EINVAL);
    CHECK_EQ(weald_group_apply(group, NULL, NULL, item, &out, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_group_apply_async(group, NULL, NULL, item), WEALD_EINVAL);
    it = weald_group_imap(group, times_ten, NULL, count, &source, 0);
    CHECK_EQ(weald_imap_next(it, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(next(it, WEALD_FOREVER), 10);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}

TEST(stale_and_wrong_handles_are_ebadf)
{
    struct source source = {0, 1, 0};
    void *item = ITEM(1), *out = NULL;
    weald_handle bad[3];

    make(0);
    bad[0] = group;
    bad[1] = 0;
    bad[2] = go;
    unmake();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_group_map(bad[i], times_ten, NULL, &item, 1, &out, NULL, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_group_imap(bad[i], times_ten, NULL, count, &source, 0), WEALD_EBADF);
        CHECK_EQ(weald_group_imap_unordered(bad[i], times_ten, NULL, count, &source, 0), WEALD_EBADF);
        CHECK_EQ(weald_imap_next(bad[i], &out, NULL, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_group_apply(bad[i], times_ten, NULL, item, &out, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_group_apply_async(bad[i], times_ten, NULL, item), WEALD_EBADF);
    }
    CHECK_EQ(calls, 0);
}

static void *use_it(void *arg)
{
    struct source source = {0, 1, 0};
    void *item = ITEM(1), *out = NULL;

    CHECK_EQ(weald_group_map(group, times_ten, NULL, &item, 1, &out, NULL, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_group_imap(group, times_ten, NULL, count, &source, 0), WEALD_EPERM);
    CHECK_EQ(weald_imap_next(iterator, &out, NULL, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_group_apply(group, times_ten, NULL, item, &out, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_group_apply_async(group, times_ten, NULL, item), WEALD_EPERM);
    return arg;
}

TEST(another_threads_group_or_iterator_is_eperm)
{
    struct source source = {0, 1, 0};
    pthread_t thread;

    make(0);
    iterator = weald_group_imap(group, times_ten, NULL, count, &source, 0);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(next(iterator, WEALD_FOREVER), 10);
    CHECK_EQ(weald_close(iterator), 0);
    unmake();
}

static void use_in_callback(void *it)
{
    void *item = ITEM(1), *out = &item;

    CHECK_EQ(weald_imap_next(*(weald_handle *)it, &out, NULL, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_imap_next(*(weald_handle *)it, &out, NULL, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_group_map(group, until_go, NULL, &item, 1, &out, NULL, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_group_map(group, until_go, NULL, &item, 0, &out, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_group_apply(group, until_go, NULL, item, &out, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_PTR(out, &item);
    CHECK_EQ(weald_event_set(go), 0);
}

TEST(a_callback_must_not_wait)
{
    struct source source = {0, 1, 0};
    weald_handle hub = weald_hub(), it;

    make(0);
    it = weald_group_imap(group, until_go, NULL, count, &source, 0);
    let_them_run();
    CHECK_EQ(weald_post(hub, use_in_callback, &it), 0);
    CHECK_EQ(next(it, WEALD_FOREVER), 1);
    CHECK_EQ(weald_close(it), 0);
    CHECK_EQ(weald_close(hub), 0);
    let_them_run();
    unmake();
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    struct source source = {0, 1, 0};
    weald_handle it;
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    make(0);
    it = weald_group_imap(group, until_go, NULL, count, &source, 0);
    CHECK_EQ(next(it, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(next(it, WEALD_FOREVER), 1);
    CHECK_EQ(weald_close(it), 0);
    unmake();
}
