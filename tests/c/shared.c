/* Events, results and queues that threads share, each thread with a hub of its own. */
#include "greenlets.h"

#include <pthread.h>
#include <stdatomic.h>

#define ITEM(n) ((void *)(intptr_t)(n))
enum { THREADS = 4 };

static weald_event event;
static weald_result result;
static weald_queue queue;
static pthread_barrier_t together;
static char order[64];
static atomic_int counted, destroyed;

static void destroy(void *value)
{
    CHECK(value != NULL);
    atomic_fetch_add(&destroyed, 1);
}

/* Threads are started together and joined together. */
static pthread_t threads[16];

static void start(int n, void *(*body)(void *))
{
    CHECK_EQ(pthread_barrier_init(&together, NULL, (unsigned)n + 1), 0);
    for (intptr_t i = 0; i < n; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, body, (void *)i), 0);
}

static void finish(int n)
{
    for (int i = 0; i < n; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(pthread_barrier_destroy(&together), 0);
}

/* ---- events ---- */

static void *wait_event(void *name)
{
    int code = weald_event_wait(event, WEALD_FOREVER);

    strcat(order, (const char *)name);
    return ITEM(code);
}

TEST(a_shared_event_serves_one_thread_like_any_other)
{
    weald_greenlet a, b, c;

    event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(weald_kind(event), WEALD_KIND_EVENT);
    CHECK_EQ(weald_event_is_set(event), 0);
    CHECK_EQ(weald_event_wait(event, WEALD_NOW), WEALD_EAGAIN);
    a = parked(wait_event, (void *)"a");
    b = parked(wait_event, (void *)"b");
    c = parked(wait_event, (void *)"c");
    CHECK_EQ(weald_kill(b, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(code_of(b), WEALD_ECANCELED);
    CHECK_EQ(code_of(c), 0);
    CHECK_STR(order, "bac");
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_event_clear(event), 0);
    CHECK_EQ(weald_event_is_set(event), 0);
    CHECK_EQ(weald_close(event), 0);
}

static void *wait_and_count(void *arg)
{
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0);
    atomic_fetch_add(&counted, 1);
    return arg;
}

static void *many_waiters(void *arg)
{
    weald_greenlet g[10];

    for (int i = 0; i < 10; i++)
        g[i] = weald_spawn(wait_and_count, NULL);
    CHECK_EQ(weald_yield(), 0);
    pthread_barrier_wait(&together);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(code_of(g[i]), 0);
    return arg;
}

TEST(a_set_releases_everybody_in_every_thread)
{
    event = weald_event_new(WEALD_SHARED);
    start(THREADS, many_waiters);
    pthread_barrier_wait(&together);
    CHECK_EQ(weald_event_set(event), 0);
    finish(THREADS);
    CHECK_EQ(counted, THREADS * 10);
    CHECK_EQ(weald_close(event), 0);
}

static void *set_later(void *arg)
{
    usleep(3000);
    CHECK_EQ(weald_event_set(event), 0);
    return arg;
}

TEST(a_wait_for_another_thread_is_no_deadlock)
{
    event = weald_event_new(WEALD_SHARED);
    start(1, set_later);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0); /* nothing in this thread could end it */
    finish(1);
    CHECK_EQ(weald_close(event), 0);
}

TEST(run_goes_on_while_a_greenlet_waits_for_another_thread)
{
    weald_greenlet a;

    event = weald_event_new(WEALD_SHARED);
    a = parked(wait_event, (void *)"a");
    CHECK_EQ(weald_run(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    start(1, set_later);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
    finish(1);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(event), 0);
}

TEST(after_a_shared_wait_a_deadlock_is_one_again)
{
    weald_event local = weald_event_new(0);
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(weald_event_wait(event, weald_after(WEALD_US(200))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_event_wait(local, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(weald_close(local), 0);
}

TEST(a_shared_wait_at_its_deadline_is_etimedout)
{
    int64_t began = test_clock();

    event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(weald_event_wait(event, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_event_set(event), 0); /* finds nobody */
    CHECK_EQ(weald_close(event), 0);
}

static void *wait_for_close(void *arg)
{
    weald_greenlet g = weald_spawn(wait_event, (void *)"");

    CHECK_EQ(weald_yield(), 0);
    pthread_barrier_wait(&together);
    CHECK_EQ(code_of(g), WEALD_EBADF);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_event_set(event), WEALD_EBADF);
    CHECK_EQ(weald_event_is_set(event), WEALD_EBADF);
    CHECK_EQ(weald_event_clear(event), WEALD_EBADF);
    CHECK_EQ(weald_close(event), WEALD_EBADF);
    return arg;
}

TEST(closing_a_shared_event_wakes_every_thread_with_ebadf)
{
    event = weald_event_new(WEALD_SHARED);
    start(THREADS, wait_for_close);
    pthread_barrier_wait(&together);
    CHECK_EQ(weald_close(event), 0);
    finish(THREADS);
}

static void *close_a_reference(void *arg)
{
    CHECK_EQ(weald_kind(event), WEALD_KIND_EVENT);
    CHECK_EQ(weald_dup(event), event);
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(weald_close(event), 0); /* another thread's reference, handed over */
    return arg;
}

TEST(references_may_be_dropped_in_any_thread)
{
    event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(weald_dup(event), event);
    start(1, close_a_reference);
    finish(1);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(weald_close(event), WEALD_EBADF);
}

static void *set_without_a_hub(void *arg)
{
    CHECK_EQ(weald_event_set(event), 0);
    return arg;
}

TEST(it_outlives_the_hub_that_made_it)
{
    event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(weald_hub_shutdown(), 0);
    start(1, set_without_a_hub);
    finish(1);
    CHECK_EQ(weald_event_is_set(event), 1);
    CHECK_EQ(weald_close(event), 0);
}

static void wait_in_callback(void *arg)
{
    void *item;

    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_event_wait(event, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_put(queue, NULL, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_queue_put(queue, NULL, WEALD_NOW), WEALD_EAGAIN);
    ++*(int *)arg;
}

TEST(a_callback_must_not_wait_for_another_thread)
{
    weald_handle hub = weald_hub();
    int called = 0;

    event = weald_event_new(WEALD_SHARED);
    result = weald_result_new(WEALD_SHARED, NULL);
    queue = weald_queue_new(WEALD_SHARED, 0, NULL);
    CHECK_EQ(weald_post(hub, wait_in_callback, &called), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(called, 1);
    CHECK_EQ(weald_event_set(event), 0); /* nobody was left behind in it */
    CHECK_EQ(weald_result_set(result, NULL), 0);
    CHECK_EQ(weald_queue_empty(queue), 1);
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(weald_close(hub), 0);
}

/* ---- results ---- */

static int thing;

static void *get_result(void *arg)
{
    void *value = NULL;
    int code = weald_result_get(result, &value, WEALD_FOREVER);

    CHECK_PTR(value, code == 0 ? &thing : NULL);
    (void)arg;
    return ITEM(code);
}

static void *get_in_greenlets(void *arg)
{
    weald_greenlet g[5];

    for (int i = 0; i < 5; i++)
        g[i] = weald_spawn(get_result, NULL);
    CHECK_EQ(weald_yield(), 0);
    pthread_barrier_wait(&together);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(code_of(g[i]), 0);
    CHECK_EQ(weald_result_wait(result, WEALD_FOREVER), 0);
    return arg;
}

TEST(a_shared_result_reaches_every_thread)
{
    result = weald_result_new(WEALD_SHARED, destroy);
    CHECK_EQ(weald_result_ready(result), 0);
    CHECK_EQ(weald_result_get(result, NULL, WEALD_NOW), WEALD_EAGAIN);
    start(THREADS, get_in_greenlets);
    pthread_barrier_wait(&together);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_result_set(result, &thing), WEALD_EALREADY);
    finish(THREADS);
    CHECK_EQ(destroyed, 0);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 1);
}

static void *try_to_set(void *arg)
{
    int code;

    pthread_barrier_wait(&together);
    code = weald_result_set(result, &thing);
    CHECK(code == 0 || code == WEALD_EALREADY);
    atomic_fetch_add(&counted, code == 0);
    return arg;
}

TEST(of_several_threads_that_set_it_one_wins)
{
    for (int round = 0; round < 50; round++) {
        result = weald_result_new(WEALD_SHARED, destroy);
        start(THREADS, try_to_set);
        pthread_barrier_wait(&together);
        CHECK_EQ(weald_result_wait(result, WEALD_FOREVER), 0);
        finish(THREADS);
        CHECK_EQ(counted, round + 1);
        CHECK_EQ(weald_close(result), 0);
        CHECK_EQ(destroyed, round + 1);
    }
}

static void *fail_it(void *arg)
{
    char why[] = "no such tree";

    CHECK_EQ(weald_result_fail(result, WEALD_ENOENT, why), 0);
    why[0] = '?';
    return arg;
}

TEST(a_failure_crosses_threads_with_its_message)
{
    void *value = &value;

    result = weald_result_new(WEALD_SHARED, destroy);
    CHECK_STR(weald_result_message(result), "");
    start(1, fail_it);
    CHECK_EQ(weald_result_get(result, &value, WEALD_FOREVER), WEALD_ENOENT);
    CHECK_PTR(value, &value);
    CHECK_STR(weald_result_message(result), "no such tree");
    CHECK_EQ(weald_result_wait(result, WEALD_NOW), 0);
    CHECK_EQ(weald_result_fail(result, 1, NULL), WEALD_EINVAL);
    finish(1);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(destroyed, 0);
}

static weald_handle hub_of_link;
static void linked(weald_handle ended, void *name)
{
    CHECK_EQ(ended, result);
    CHECK_EQ(weald_self(), 0);
    strcat(order, (const char *)name);
}

static void *set_result(void *arg)
{
    usleep(2000);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    return arg;
}

TEST(a_link_runs_in_the_loop_of_the_thread_that_made_it)
{
    int64_t a, b;

    hub_of_link = weald_hub(); /* keeps main's wait from being a deadlock */
    result = weald_result_new(WEALD_SHARED, NULL);
    a = weald_result_link(result, linked, (void *)"a");
    b = weald_result_link(result, linked, (void *)"b");
    CHECK_GT(a, 0);
    CHECK_EQ(weald_result_unlink(result, b), 0);
    CHECK_EQ(weald_result_unlink(result, b), WEALD_ENOENT);
    start(1, set_result);
    while (!order[0])
        CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
    finish(1);
    CHECK_EQ(weald_result_unlink(result, a), WEALD_ENOENT);
    CHECK_GT(weald_result_link(result, linked, (void *)"c"), 0); /* it is set: in the next turn */
    while (strcmp(order, "ac") != 0)
        CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(weald_close(hub_of_link), 0);
}

static void *unlink_anothers(void *link)
{
    CHECK_EQ(weald_result_unlink(result, *(int64_t *)link), WEALD_ENOENT);
    return NULL;
}

TEST(a_link_is_taken_back_by_its_own_thread_alone)
{
    pthread_t thread;
    int64_t link;

    result = weald_result_new(WEALD_SHARED, NULL);
    link = weald_result_link(result, linked, (void *)"a");
    CHECK_EQ(pthread_create(&thread, NULL, unlink_anothers, &link), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_result_unlink(result, link), 0);
    CHECK_EQ(weald_close(result), 0);
}

static void *wait_for_closed_result(void *arg)
{
    weald_greenlet g = weald_spawn(get_result, NULL);

    CHECK_EQ(weald_yield(), 0);
    pthread_barrier_wait(&together);
    CHECK_EQ(code_of(g), WEALD_EBADF);
    return arg;
}

TEST(closing_a_shared_result_wakes_every_thread_with_ebadf)
{
    result = weald_result_new(WEALD_SHARED, destroy);
    start(THREADS, wait_for_closed_result);
    pthread_barrier_wait(&together);
    CHECK_EQ(weald_close(result), 0);
    finish(THREADS);
    CHECK_EQ(destroyed, 0);
}

static void *get_alive(void *arg)
{
    void *value = NULL;
    int code = weald_result_get(result, &value, WEALD_FOREVER);

    CHECK(code == 0 ? destroyed == 0 : code == WEALD_EBADF);
    return arg;
}

TEST(a_waiter_never_sees_a_value_that_was_destroyed_before_it_ran)
{
    weald_greenlet a;

    result = weald_result_new(WEALD_SHARED, destroy);
    a = parked(get_alive, NULL);
    CHECK_EQ(weald_result_set(result, &thing), 0);
    CHECK_EQ(weald_close(result), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(destroyed, 1);
}

/* ---- queues: in one thread ---- */

static int take(void)
{
    void *item = NULL;
    int code = weald_queue_get(queue, &item, WEALD_NOW);

    return code == 0 ? (int)(intptr_t)item : code;
}

static void *get_one(void *arg)
{
    void *item = NULL;
    int code = weald_queue_get(queue, &item, WEALD_FOREVER);

    (void)arg;
    return code == 0 ? item : ITEM(code);
}

static void *put_one(void *item) { return ITEM(weald_queue_put(queue, item, WEALD_FOREVER)); }

static int reversed(const void *a, const void *b) { return (intptr_t)a < (intptr_t)b ? 1 : (intptr_t)a > (intptr_t)b ? -1 : 0; }

TEST(a_shared_queue_keeps_its_order)
{
    void *item = NULL;

    queue = weald_queue_new(WEALD_SHARED | WEALD_FIFO, 3, NULL);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM(i), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_full(queue), 1);
    CHECK_EQ(weald_queue_put(queue, ITEM(4), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_put(queue, ITEM(4), weald_after(WEALD_US(200))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_queue_len(queue), 3);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_FOREVER), 0);
    CHECK_PTR(item, ITEM(1));
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(take(), i);
    CHECK_EQ(weald_queue_empty(queue), 1);
    CHECK_EQ(take(), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_FOREVER), WEALD_EAGAIN); /* looked at without waiting */
    CHECK_EQ(weald_queue_get(queue, &item, weald_after(WEALD_US(200))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_close(queue), 0);

    queue = weald_queue_new(WEALD_SHARED | WEALD_LIFO, WEALD_UNBOUNDED, NULL);
    for (int i = 1; i <= 5; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM(i), WEALD_NOW), 0);
    for (int i = 5; i >= 1; i--)
        CHECK_EQ(take(), i);
    CHECK_EQ(weald_close(queue), 0);

    queue = weald_priority_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, reversed, NULL);
    for (int i = 1; i <= 5; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM(i * 3 % 7), WEALD_NOW), 0);
    for (int i = 1, last = 100; i <= 5; i++) {
        int now = take();
        CHECK_LT(now, last);
        last = now;
    }
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_shared_rendezvous_hands_over_from_put_to_get)
{
    weald_greenlet p, g;

    queue = weald_queue_new(WEALD_SHARED, 0, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), WEALD_EAGAIN);
    p = parked(put_one, ITEM(1));
    CHECK_EQ(weald_queue_empty(queue), 0);
    CHECK_EQ(take(), 1);
    CHECK_EQ(code_of(p), 0);
    g = parked(get_one, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(3), WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(code_of(g), 2);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(getters_and_putters_of_one_thread_are_served_in_order)
{
    weald_greenlet g[3];

    queue = weald_queue_new(WEALD_SHARED, 1, NULL);
    for (int i = 0; i < 3; i++)
        g[i] = parked(get_one, NULL);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM(i), WEALD_NOW), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(code_of(g[i]), i + 1);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    for (int i = 0; i < 3; i++)
        g[i] = parked(put_one, ITEM(i + 2));
    for (int i = 1; i <= 4; i++)
        CHECK_EQ(take(), i);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(code_of(g[i]), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_of_a_killed_getter_goes_back_to_the_front)
{
    weald_greenlet a, b;

    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    a = parked(get_one, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(take(), 1);
    CHECK_EQ(take(), 2);
    a = parked(get_one, NULL);
    b = parked(get_one, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(3), WEALD_NOW), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(a), WEALD_ECANCELED);
    CHECK_EQ(code_of(b), 3); /* or to the next who waits */
    CHECK_EQ(weald_close(queue), 0);
}

TEST(items_of_several_killed_getters_go_back_in_their_order)
{
    weald_greenlet g[3];

    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    for (int i = 0; i < 3; i++)
        g[i] = parked(get_one, NULL);
    for (int i = 1; i <= 4; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM(i), WEALD_NOW), 0);
    CHECK_EQ(weald_killall(g, 3, 0, WEALD_FOREVER), 0);
    for (int i = 1; i <= 4; i++)
        CHECK_EQ(take(), i);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(g[i]), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(an_item_whose_getter_was_killed_after_the_queue_closed_is_destroyed_once)
{
    weald_greenlet a;

    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, destroy);
    a = parked(get_one, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), 0);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(destroyed, 1);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(destroyed, 2);
}

static atomic_int is_parked, may_go_on;
static pthread_t late_thread;

static void *get_from_closed(void *unused)
{
    void *item;

    (void)unused;
    atomic_store(&is_parked, 1);
    return ITEM(weald_queue_get(queue, &item, WEALD_FOREVER));
}

/* Its getter waits, and leaves the queue when main lets it. */
static void *leave_late(void *unused)
{
    weald_greenlet g = weald_spawn(get_from_closed, NULL);

    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    while (!atomic_load(&may_go_on))
        ;
    CHECK_EQ(code_of(g), WEALD_EBADF);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

static void destroy_when_all_have_left(void *item)
{
    (void)item;
    atomic_store(&may_go_on, 1);
    CHECK_EQ(pthread_join(late_thread, NULL), 0);
}

TEST(a_destructor_may_wait_for_who_leaves_the_queue)
{
    weald_greenlet a;

    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, destroy_when_all_have_left);
    a = parked(get_one, NULL);
    CHECK_EQ(pthread_create(&late_thread, NULL, leave_late, NULL), 0);
    while (!atomic_load(&is_parked))
        ;
    CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0); /* goes to a */
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(weald_kill(a, 0, WEALD_FOREVER), 0); /* gives it back, and nobody wants it */
    CHECK_EQ(may_go_on, 1);
    CHECK_EQ(weald_close(a), 0);
}

TEST(a_putter_that_is_killed_has_put_its_item_or_not)
{
    weald_greenlet p;

    queue = weald_queue_new(WEALD_SHARED, 0, NULL);
    p = parked(put_one, ITEM(1));
    CHECK_EQ(weald_kill(p, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(p), WEALD_ECANCELED);
    CHECK_EQ(take(), WEALD_EAGAIN);
    p = parked(put_one, ITEM(2));
    CHECK_EQ(take(), 2);
    CHECK_EQ(weald_kill(p, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(p), 0);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_shut_shared_queue_is_drained_and_then_epipe)
{
    weald_greenlet p, g;
    void *item;

    queue = weald_queue_new(WEALD_SHARED, 2, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), 0);
    p = parked(put_one, ITEM(3));
    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(4), WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(code_of(p), WEALD_EPIPE);
    CHECK_EQ(take(), 1);
    CHECK_EQ(take(), 2);
    CHECK_EQ(take(), WEALD_EPIPE);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_queue_peek(queue, &item, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(queue), 0);
    queue = weald_queue_new(WEALD_SHARED, 2, NULL);
    g = parked(get_one, NULL);
    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(code_of(g), WEALD_EPIPE);
    CHECK_EQ(weald_close(queue), 0);
}

static void *join_it(void *arg)
{
    (void)arg;
    return ITEM(weald_queue_join(queue, WEALD_FOREVER));
}

TEST(closing_a_shared_queue_wakes_all_and_destroys_what_is_left_once)
{
    weald_greenlet p, j, g;

    queue = weald_queue_new(WEALD_SHARED, 2, destroy);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), 0);
    p = parked(put_one, ITEM(3));
    j = parked(join_it, NULL);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(destroyed, 2);
    CHECK_EQ(code_of(p), WEALD_EBADF);
    CHECK_EQ(code_of(j), WEALD_EBADF);
    CHECK_EQ(destroyed, 2);
    queue = weald_queue_new(WEALD_SHARED, 2, destroy);
    g = parked(get_one, NULL);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(code_of(g), WEALD_EBADF);
}

TEST(task_done_and_join_work_across_greenlets)
{
    weald_greenlet j;

    queue = weald_queue_new(WEALD_SHARED, 2, NULL);
    CHECK_EQ(weald_queue_task_done(queue), WEALD_EOVERFLOW);
    CHECK_EQ(weald_queue_join(queue, WEALD_FOREVER), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_join(queue, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_queue_join(queue, weald_after(WEALD_US(200))), WEALD_ETIMEDOUT);
    j = parked(join_it, NULL);
    CHECK_EQ(take(), 1);
    CHECK_EQ(weald_queue_task_done(queue), 0);
    CHECK_EQ(code_of(j), 0);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- queues: between threads ---- */

enum { PRODUCERS = 3, CONSUMERS = 3 };
static long each; /* items a producer puts */
static _Atomic unsigned char *seen;
static atomic_long gets, producers_left;

/* Producer p puts p * each + 1 ... (p + 1) * each. */
static void *produce(void *p)
{
    for (long i = 1; i <= each; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM((intptr_t)p * each + i), WEALD_FOREVER), 0);
    if (atomic_fetch_sub(&producers_left, 1) == 1)
        CHECK_EQ(weald_queue_shut(queue), 0);
    return NULL;
}

static void see(void *item)
{
    long number = (intptr_t)item - 1;

    CHECK_GE(number, 0);
    CHECK_LT(number, PRODUCERS * each);
    CHECK_EQ(atomic_fetch_add(&seen[number], 1), 0);
    atomic_fetch_add(&gets, 1);
}

static void *consume(void *arg)
{
    long last[PRODUCERS] = {0};
    void *item = NULL;
    int code;

    while ((code = weald_queue_get(queue, &item, WEALD_FOREVER)) == 0) {
        long producer = ((intptr_t)item - 1) / each;
        see(item);
        CHECK_GT((intptr_t)item, last[producer]); /* each producer's items in their order */
        last[producer] = (intptr_t)item;
    }
    CHECK_EQ(code, WEALD_EPIPE);
    return arg;
}

static void *produce_or_consume(void *i)
{
    return (intptr_t)i < PRODUCERS ? produce(i) : consume(i);
}

static void check_all_seen(void)
{
    for (long i = 0; i < PRODUCERS * each; i++)
        CHECK_EQ(seen[i], 1);
}

static void run_threads(size_t capacity, long rounds)
{
    each = test_rounds(rounds);
    seen = calloc((size_t)(PRODUCERS * each), 1);
    producers_left = PRODUCERS;
    queue = weald_queue_new(WEALD_SHARED, capacity, NULL);
    start(PRODUCERS + CONSUMERS, produce_or_consume);
    finish(PRODUCERS + CONSUMERS);
    CHECK_EQ(gets, PRODUCERS * each);
    check_all_seen();
    CHECK_EQ(weald_close(queue), 0);
    free((void *)seen);
}

TEST(between_threads_a_bounded_queue_loses_and_doubles_nothing) { run_threads(5, 20000); }
TEST(between_threads_an_unbounded_queue_loses_and_doubles_nothing) { run_threads(WEALD_UNBOUNDED, 50000); }
TEST(between_threads_a_rendezvous_loses_and_doubles_nothing) { run_threads(0, 10000); }

/* As `consume`, with deadlines that mostly pass, and takers that are killed. */
static void *get_hastily(void *arg)
{
    void *item = NULL;
    int code = weald_queue_get(queue, &item, weald_after(WEALD_US((intptr_t)arg % 40)));

    if (code == 0)
        see(item);
    return ITEM(code == 0 ? 0 : code);
}

static void *consume_hastily(void *arg)
{
    uint64_t noise = (uint64_t)(intptr_t)arg * 0x9E3779B97F4A7C15u + 1;

    for (;;) {
        weald_greenlet g[4];
        int ended = 0;
        for (int i = 0; i < 4; i++) {
            noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
            g[i] = weald_spawn(get_hastily, ITEM(noise % 1000));
        }
        noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
        CHECK_EQ(noise % 3 ? weald_yield() : weald_sleep(WEALD_US(noise % 50)), 0);
        CHECK_EQ(weald_kill(g[noise % 4], 0, WEALD_NOW), 0);
        CHECK_EQ(weald_kill(g[noise / 4 % 4], 0, WEALD_NOW), 0);
        CHECK_EQ(weald_joinall(g, 4, 0, 0, WEALD_FOREVER), 4);
        for (int i = 0; i < 4; i++) {
            void *value = NULL;
            int code = weald_get(g[i], &value, WEALD_NOW);
            code = code ? code : (int)(intptr_t)value;
            CHECK(code == 0 || code == WEALD_ETIMEDOUT || code == WEALD_ECANCELED || code == WEALD_EPIPE);
            ended += code == WEALD_EPIPE;
            CHECK_EQ(weald_close(g[i]), 0);
        }
        if (ended)
            return NULL;
    }
}

static void *produce_or_consume_hastily(void *i)
{
    return (intptr_t)i < PRODUCERS ? produce(i) : consume_hastily(i);
}

static void run_hasty_threads(size_t capacity)
{
    long left = 0;
    int item;

    each = test_rounds(10000);
    seen = calloc((size_t)(PRODUCERS * each), 1);
    producers_left = PRODUCERS;
    queue = weald_queue_new(WEALD_SHARED, capacity, NULL);
    start(PRODUCERS + CONSUMERS, produce_or_consume_hastily);
    finish(PRODUCERS + CONSUMERS);
    /* One killed last may have given an item back to a queue that the others had left. */
    while ((item = take()) > 0) {
        see(ITEM(item));
        left++;
    }
    CHECK_EQ(item, WEALD_EPIPE);
    CHECK_EQ(gets, PRODUCERS * each);
    check_all_seen();
    CHECK_LE(left, 4 * CONSUMERS);
    CHECK_EQ(weald_close(queue), 0);
    free((void *)seen);
}

TEST(deadlines_and_kills_between_threads_lose_and_double_nothing) { run_hasty_threads(4); }
TEST(deadlines_and_kills_at_a_rendezvous_between_threads_lose_and_double_nothing) { run_hasty_threads(0); }

/* Putters whose deadline passes: what was not put is put again, and nothing is there twice. */
static void *produce_hastily(void *p)
{
    for (long i = 1; i <= each; i++) {
        int code;
        do
            code = weald_queue_put(queue, ITEM((intptr_t)p * each + i), weald_after(WEALD_US(i % 20)));
        while (code == WEALD_ETIMEDOUT);
        CHECK_EQ(code, 0);
    }
    if (atomic_fetch_sub(&producers_left, 1) == 1)
        CHECK_EQ(weald_queue_shut(queue), 0);
    return NULL;
}

static void *produce_hastily_or_consume(void *i)
{
    return (intptr_t)i < PRODUCERS ? produce_hastily(i) : consume(i);
}

TEST(puts_at_their_deadline_between_threads_lose_and_double_nothing)
{
    each = test_rounds(5000);
    seen = calloc((size_t)(PRODUCERS * each), 1);
    producers_left = PRODUCERS;
    queue = weald_queue_new(WEALD_SHARED, 1, NULL);
    start(PRODUCERS + CONSUMERS, produce_hastily_or_consume);
    finish(PRODUCERS + CONSUMERS);
    CHECK_EQ(gets, PRODUCERS * each);
    check_all_seen();
    CHECK_EQ(weald_close(queue), 0);
    free((void *)seen);
}

/* Everybody puts and gets while the queue is closed under them: each item is got, destroyed, or was never put. */
static atomic_long put_count, got_count;

static void *use_until_closed(void *i)
{
    void *item;
    int code;

    pthread_barrier_wait(&together);
    for (;;) {
        code = weald_queue_put(queue, ITEM(1), weald_after(WEALD_US(100)));
        if (code == 0)
            atomic_fetch_add(&put_count, 1);
        else if (code == WEALD_EBADF)
            return i;
        else
            CHECK_EQ(code, WEALD_ETIMEDOUT);
        code = weald_queue_get(queue, &item, weald_after(WEALD_US(100)));
        if (code == 0)
            atomic_fetch_add(&got_count, 1);
        else if (code == WEALD_EBADF)
            return i;
        else
            CHECK_EQ(code, WEALD_ETIMEDOUT);
    }
}

TEST(closing_between_threads_leaves_every_item_got_or_destroyed)
{
    static const size_t capacities[] = {0, 1, 3, WEALD_UNBOUNDED};

    for (int round = 0; round < 40; round++) {
        put_count = got_count = 0;
        destroyed = 0;
        queue = weald_queue_new(WEALD_SHARED, capacities[round % 4], destroy);
        start(THREADS, use_until_closed);
        pthread_barrier_wait(&together);
        usleep((useconds_t)(round * 37 % 1000));
        CHECK_EQ(weald_close(queue), 0);
        finish(THREADS);
        CHECK_EQ(put_count, got_count + destroyed);
    }
}

static void *work_off(void *arg)
{
    void *item;

    while (weald_queue_get(queue, &item, WEALD_FOREVER) == 0) {
        atomic_fetch_add(&counted, 1);
        CHECK_EQ(weald_queue_task_done(queue), 0);
    }
    return arg;
}

TEST(join_waits_for_the_work_of_other_threads)
{
    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    for (int i = 1; i <= 1000; i++)
        CHECK_EQ(weald_queue_put(queue, ITEM(i), WEALD_NOW), 0);
    start(THREADS, work_off);
    CHECK_EQ(weald_queue_join(queue, WEALD_FOREVER), 0);
    CHECK_EQ(counted, 1000);
    CHECK_EQ(weald_queue_shut(queue), 0);
    finish(THREADS);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- hubs that end ---- */

static void *leave_while_a_greenlet_waits_to_get(void *arg)
{
    CHECK_GT(weald_spawn(get_one, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    return arg;
}

TEST(an_item_is_not_given_to_a_waiter_whose_thread_has_ended)
{
    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    start(2, leave_while_a_greenlet_waits_to_get);
    finish(2);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(2), WEALD_NOW), 0);
    CHECK_EQ(take(), 1);
    CHECK_EQ(take(), 2);
    CHECK_EQ(weald_close(queue), 0);
}

static void *leave_while_a_greenlet_waits_to_put(void *arg)
{
    CHECK_GT(weald_spawn(put_one, ITEM(1)), 0);
    CHECK_EQ(weald_yield(), 0);
    return arg;
}

TEST(a_putter_whose_thread_has_ended_does_not_stand_in_the_way)
{
    int got;

    queue = weald_queue_new(WEALD_SHARED, 0, NULL);
    start(1, leave_while_a_greenlet_waits_to_put);
    finish(1);
    got = take(); /* its item, or nothing: nobody can tell any more */
    CHECK(got == 1 || got == WEALD_EAGAIN);
    CHECK_EQ(take(), WEALD_EAGAIN);
    CHECK_EQ(weald_close(queue), 0);
}

static void *leave_by_shutdown(void *arg)
{
    weald_greenlet g = weald_spawn(get_one, NULL);

    CHECK_EQ(weald_yield(), 0);
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together); /* an item has been handed over meanwhile, which has not been noticed */
    CHECK_EQ(weald_hub_shutdown(), 0);
    (void)g;
    return arg;
}

TEST(an_item_handed_to_a_hub_that_is_shut_down_goes_back)
{
    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    start(1, leave_by_shutdown);
    pthread_barrier_wait(&together);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_len(queue), 0);
    pthread_barrier_wait(&together);
    finish(1);
    CHECK_EQ(take(), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static void *leave_with_an_item(void *arg)
{
    CHECK_GT(weald_spawn(get_one, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together);
    return arg; /* the thread ends: its hub runs nobody */
}

TEST(an_item_handed_to_a_thread_that_ends_is_not_lost)
{
    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, destroy);
    start(1, leave_with_an_item);
    pthread_barrier_wait(&together);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    pthread_barrier_wait(&together);
    finish(1);
    CHECK_EQ(take(), 1);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(destroyed, 0);
}

/* ---- somebody watches ---- */

static void *watch(void *arg)
{
    weald_wait_item item;
    int64_t code;

    memset(&item, 0, sizeof item);
    item.object = queue;
    pthread_barrier_wait(&together);
    code = weald_wait(&item, 1, 1, weald_after(WEALD_SEC(20)));
    CHECK_EQ(code, 1);
    return arg;
}

static void *get_and_die(void *arg)
{
    weald_greenlet g = weald_spawn(get_one, NULL);

    CHECK_EQ(weald_yield(), 0);
    pthread_barrier_wait(&together);
    usleep(20000); /* main puts; the watcher looks and finds nothing; we have not noticed */
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(g), WEALD_ECANCELED);
    return arg;
}

static void *watch_or_die(void *i) { return i ? get_and_die(i) : watch(i); }

TEST(who_watches_the_queue_hears_of_an_item_that_came_back)
{
    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    start(2, watch_or_die);
    pthread_barrier_wait(&together);
    usleep(5000);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    finish(2);
    CHECK_EQ(take(), 1);
    CHECK_EQ(weald_close(queue), 0);
}

/* ---- codes ---- */

TEST(what_can_not_be_is_einval)
{
    void *item;

    CHECK_EQ(weald_queue_new(WEALD_SHARED | 2, 1, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_priority_queue_new(WEALD_SHARED, 1, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_priority_queue_new(WEALD_SHARED | 1, 1, reversed, NULL), WEALD_EINVAL);
    queue = weald_queue_new(WEALD_SHARED, 1, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_get(queue, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_queue_peek(queue, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_queue_len(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_FOREVER), WEALD_EBADF);
}

TEST(shared_handles_of_another_kind_are_ebadf)
{
    void *item = NULL;

    event = weald_event_new(WEALD_SHARED);
    queue = weald_queue_new(WEALD_SHARED, 1, NULL);
    result = weald_result_new(WEALD_SHARED, NULL);
    CHECK_EQ(weald_event_set(queue), WEALD_EBADF);
    CHECK_EQ(weald_event_wait(result, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_result_set(event, NULL), WEALD_EBADF);
    CHECK_EQ(weald_result_get(queue, NULL, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_result_ready(event), WEALD_EBADF);
    CHECK_EQ(weald_result_link(event, linked, NULL), WEALD_EBADF);
    CHECK_EQ(weald_queue_put(event, NULL, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_queue_get(result, &item, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_queue_len(event), WEALD_EBADF);
    CHECK_EQ(weald_queue_full(event), WEALD_EBADF);
    CHECK_EQ(weald_queue_empty(event), WEALD_EBADF);
    CHECK_EQ(weald_queue_shut(event), WEALD_EBADF);
    CHECK_EQ(weald_queue_task_done(event), WEALD_EBADF);
    CHECK_EQ(weald_queue_join(event, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_queue_peek(event, &item, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_semaphore_acquire(event, WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_close(event), 0);
    CHECK_EQ(weald_close(queue), 0);
    CHECK_EQ(weald_close(result), 0);
}

static void *interrupted(void *arg)
{
    void *item = NULL;
    int code = weald_queue_get(queue, &item, WEALD_FOREVER);

    /* The code comes once: now, or with an item in hand at the next call. */
    CHECK_EQ(code == 0 ? weald_sleep(0) : code, WEALD_EINTR);
    (void)arg;
    return ITEM(code);
}

TEST(an_interrupt_is_not_lost_to_a_hand_over)
{
    weald_greenlet g;

    queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    g = parked(interrupted, NULL);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_queue_len(queue), code_of(g) == 0 ? 0 : 1);
    g = parked(interrupted, NULL);
    CHECK_EQ(weald_queue_put(queue, ITEM(1), WEALD_NOW), 0);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
    (void)code_of(g);
    CHECK_EQ(weald_close(queue), 0);
}
