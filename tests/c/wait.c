/* weald_wait: greenlets, objects, watchers and descriptors in one call; it takes nothing. */
#include "greenlets.h"

#include <fcntl.h>
#include <pthread.h>

static weald_event event, stop;

static weald_wait_item object(weald_handle handle)
{
    weald_wait_item item;

    memset(&item, 0, sizeof item);
    item.object = handle;
    item.ready = -1;
    return item;
}

static weald_wait_item descriptor(int fd, int events)
{
    weald_wait_item item = object(0);

    item.fd = fd;
    item.events = events;
    return item;
}

/* Waits for one handle, for ever. */
static void *wait_for_one(void *handle)
{
    weald_wait_item item = object(*(weald_handle *)handle);
    int64_t code = weald_wait(&item, 1, 1, WEALD_FOREVER);

    CHECK_EQ(item.ready, code == 1 ? 1 : -1);
    return (void *)(intptr_t)code;
}

/* A greenlet that waits already. */
static weald_greenlet waiter(weald_handle *handle) { return parked(wait_for_one, handle); }

static void *wait_for_stop(void *arg)
{
    (void)weald_event_wait(stop, WEALD_FOREVER);
    return arg;
}

static void fired(weald_watcher w, int what, void *user)
{
    (void)w;
    (void)what;
    (void)user;
}

/* ---- every kind ---- */

enum { GREENLET, EVENT, RESULT, QUEUE, SEMAPHORE, LOCK, WATCHER, SHARED_EVENT, SHARED_RESULT, SHARED_QUEUE, READ, WRITE, KINDS };

static weald_wait_item all[KINDS];
static int to_read[2], to_write[2];
static weald_greenlet holder;

static void *hold_until_stop(void *lock)
{
    CHECK_EQ(weald_lock_acquire(*(weald_lock *)lock, WEALD_FOREVER), 0);
    (void)weald_event_wait(event, WEALD_FOREVER);
    CHECK_EQ(weald_lock_release(*(weald_lock *)lock), 0);
    return NULL;
}

/* One of each, none of them ready. */
static void make_all(void)
{
    char page[4096];

    memset(page, 0, sizeof page);
    stop = weald_event_new(0);
    event = weald_event_new(0);
    all[GREENLET] = object(weald_spawn(wait_for_stop, NULL));
    all[EVENT] = object(weald_event_new(0));
    all[RESULT] = object(weald_result_new(0, NULL));
    all[QUEUE] = object(weald_queue_new(0, 1, NULL));
    all[SEMAPHORE] = object(weald_semaphore_new(0));
    all[LOCK] = object(weald_lock_new());
    all[WATCHER] = object(weald_async_watcher(fired, NULL));
    all[SHARED_EVENT] = object(weald_event_new(WEALD_SHARED));
    all[SHARED_RESULT] = object(weald_result_new(WEALD_SHARED, NULL));
    all[SHARED_QUEUE] = object(weald_queue_new(WEALD_SHARED, 1, NULL));
    CHECK_EQ(pipe2(to_read, O_NONBLOCK), 0);
    CHECK_EQ(pipe2(to_write, O_NONBLOCK), 0);
    while (write(to_write[1], page, sizeof page) > 0) {
    }
    all[READ] = descriptor(to_read[0], WEALD_READ);
    all[WRITE] = descriptor(to_write[1], WEALD_WRITE);
    holder = weald_spawn(hold_until_stop, &all[LOCK].object);
    CHECK_EQ(weald_watcher_start(all[WATCHER].object), 0);
    CHECK_EQ(weald_yield(), 0);
}

/* Sets on its way to being ready what is not. */
static void *make_ready(void *kind)
{
    weald_handle h = all[(intptr_t)kind].object;
    char page[4096];

    switch ((intptr_t)kind) {
    case GREENLET: CHECK_EQ(weald_event_set(stop), 0); break;
    case EVENT:
    case SHARED_EVENT: CHECK_EQ(weald_event_set(h), 0); break;
    case RESULT:
    case SHARED_RESULT: CHECK_EQ(weald_result_set(h, NULL), 0); break;
    case QUEUE:
    case SHARED_QUEUE: CHECK_EQ(weald_queue_put(h, &all, WEALD_NOW), 0); break;
    case SEMAPHORE: CHECK_EQ(weald_semaphore_release(h), 0); break;
    case LOCK: CHECK_EQ(weald_event_set(event), 0); break;
    case WATCHER: CHECK_EQ(weald_async_send(h), 0); break;
    case READ: CHECK_EQ(write(to_read[1], "x", 1), 1); break;
    case WRITE:
        while (read(to_write[0], page, sizeof page) > 0) {
        }
        break;
    }
    return NULL;
}

static void close_all(void)
{
    CHECK_EQ(weald_event_set(stop), 0);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_join(all[GREENLET].object, WEALD_FOREVER), 0);
    CHECK_EQ(weald_join(holder, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(holder), 0);
    CHECK_EQ(weald_close(stop), 0);
    CHECK_EQ(weald_close(event), 0);
    for (int i = 0; i < KINDS; i++)
        if (all[i].object)
            CHECK_EQ(weald_close(all[i].object), 0);
    for (int i = 0; i < 2; i++) {
        close(to_read[i]);
        close(to_write[i]);
    }
}

TEST(each_kind_ends_a_wait_for_one_of_all)
{
    for (int kind = 0; kind < KINDS; kind++) {
        weald_greenlet g;
        make_all();
        g = weald_spawn(make_ready, (void *)(intptr_t)kind);
        CHECK_EQ(weald_wait(all, KINDS, 1, WEALD_FOREVER), 1);
        for (int i = 0; i < KINDS; i++)
            if (all[i].ready != (i == kind))
                test_values(__FILE__, __LINE__, "kind, and which is ready", kind, i);
        CHECK_EQ(code_of(g), 0);
        close_all();
    }
}

TEST(how_many_are_ready_are_waited_for)
{
    make_all();
    for (int kind = 0; kind < KINDS; kind++) {
        weald_greenlet g = weald_spawn(make_ready, (void *)(intptr_t)kind);
        CHECK_EQ(weald_wait(all, KINDS, (size_t)kind + 1, WEALD_FOREVER), kind + 1);
        for (int i = 0; i < KINDS; i++)
            CHECK_EQ(all[i].ready, i <= kind);
        CHECK_EQ(code_of(g), 0);
    }
    close_all();
}

static void *make_all_ready(void *arg)
{
    for (intptr_t kind = KINDS - 1; kind >= 0; kind--) {
        make_ready((void *)kind);
        CHECK_EQ(weald_yield(), 0);
    }
    return arg;
}

TEST(none_means_all)
{
    weald_greenlet g;

    make_all();
    g = weald_spawn(make_all_ready, NULL);
    CHECK_EQ(weald_wait(all, KINDS, 0, WEALD_FOREVER), KINDS);
    for (int i = 0; i < KINDS; i++)
        CHECK_EQ(all[i].ready, 1);
    CHECK_EQ(code_of(g), 0);
    close_all();
}

TEST(nothing_is_taken_and_now_succeeds_afterwards)
{
    weald_greenlet g;
    void *item = NULL;
    char byte;

    make_all();
    g = weald_spawn(make_all_ready, NULL);
    CHECK_EQ(weald_wait(all, KINDS, 0, WEALD_FOREVER), KINDS);
    CHECK_EQ(weald_semaphore_count(all[SEMAPHORE].object), 1);
    CHECK_EQ(weald_queue_len(all[QUEUE].object), 1);
    CHECK_EQ(weald_queue_len(all[SHARED_QUEUE].object), 1);
    CHECK_EQ(weald_lock_held(all[LOCK].object), 0);
    CHECK_EQ(weald_semaphore_acquire(all[SEMAPHORE].object, WEALD_NOW), 0);
    CHECK_EQ(weald_queue_get(all[QUEUE].object, &item, WEALD_NOW), 0);
    CHECK_EQ(weald_queue_get(all[SHARED_QUEUE].object, &item, WEALD_NOW), 0);
    CHECK_EQ(weald_lock_acquire(all[LOCK].object, WEALD_NOW), 0);
    CHECK_EQ(weald_event_wait(all[EVENT].object, WEALD_NOW), 0);
    CHECK_EQ(weald_event_wait(all[SHARED_EVENT].object, WEALD_NOW), 0);
    CHECK_EQ(weald_result_get(all[RESULT].object, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_result_get(all[SHARED_RESULT].object, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_join(all[GREENLET].object, WEALD_NOW), 0);
    CHECK_EQ(read(to_read[0], &byte, 1), 1);
    CHECK_EQ(code_of(g), 0);
    close_all();
}

TEST(what_is_ready_does_not_switch)
{
    weald_greenlet other;

    make_all();
    make_ready((void *)EVENT);
    make_ready((void *)SHARED_QUEUE);
    make_ready((void *)READ);
    other = weald_spawn(wait_for_stop, NULL); /* would run if we switched */
    CHECK_EQ(weald_wait(all, KINDS, 3, WEALD_NOW), 3);
    CHECK_EQ(weald_wait(all, KINDS, 2, WEALD_FOREVER), 3); /* all that are ready are counted */
    CHECK_EQ(weald_state(other), WEALD_STATE_READY);
    CHECK_EQ(weald_wait(all, KINDS, 4, WEALD_NOW), WEALD_EAGAIN);
    close_all();
    CHECK_EQ(weald_close(other), 0);
}

TEST(after_a_wait_nothing_remembers_us)
{
    weald_stats before, after;

    make_all();
    before = test_stats();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_wait(all, KINDS, 1, weald_after(WEALD_US(200))), WEALD_ETIMEDOUT);
    after = test_stats();
    CHECK_EQ(after.handles, before.handles);
    CHECK_EQ(after.descriptors, before.descriptors);
    CHECK_EQ(after.timers, before.timers);
    /* What becomes ready now, in this wait or that, must not end another one. */
    for (int kind = 0; kind < KINDS; kind++)
        make_ready((void *)(intptr_t)kind);
    {
        int64_t until = weald_after(WEALD_MS(5));
        CHECK_EQ(weald_sleep_until(until), 0);
        CHECK_GE(weald_now(), until);
    }
    close_all();
}

/* ---- what ready means ---- */

TEST(a_shut_queue_is_ready)
{
    weald_queue queue = weald_queue_new(0, 1, NULL);
    weald_greenlet g = waiter(&queue);

    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(code_of(g), 1);
    CHECK_EQ(weald_close(queue), 0);
}

TEST(a_shut_shared_queue_is_ready)
{
    weald_queue queue = weald_queue_new(WEALD_SHARED, 1, NULL);
    weald_greenlet g = waiter(&queue);

    CHECK_EQ(weald_queue_shut(queue), 0);
    CHECK_EQ(code_of(g), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static void *put_into(void *queue)
{
    return (void *)(intptr_t)weald_queue_put(*(weald_queue *)queue, NULL, WEALD_FOREVER);
}

TEST(a_rendezvous_is_ready_when_somebody_waits_to_put)
{
    for (int shared = 0; shared < 2; shared++) {
        weald_queue queue = weald_queue_new(shared ? WEALD_SHARED : 0, 0, NULL);
        weald_greenlet g = waiter(&queue), putter = weald_spawn(put_into, &queue);
        void *item;

        CHECK_EQ(code_of(g), 1);
        CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
        CHECK_EQ(code_of(putter), 0);
        CHECK_EQ(weald_close(queue), 0);
    }
}

TEST(a_failed_result_is_ready)
{
    weald_result result = weald_result_new(0, NULL);
    weald_greenlet g = waiter(&result);

    CHECK_EQ(weald_result_fail(result, WEALD_EPIPE, NULL), 0);
    CHECK_EQ(code_of(g), 1);
    CHECK_EQ(weald_close(result), 0);
}

TEST(a_killed_greenlet_is_ready)
{
    weald_greenlet g, body;

    stop = weald_event_new(0);
    body = weald_spawn(wait_for_stop, NULL);
    g = waiter(&body);
    CHECK_EQ(weald_kill(body, 0, WEALD_NOW), 0);
    CHECK_EQ(code_of(g), 1);
    CHECK_EQ(weald_close(body), 0);
    CHECK_EQ(weald_close(stop), 0);
}

TEST(a_timer_watcher_is_ready_when_it_has_fired_since_its_start)
{
    weald_watcher timer = weald_timer_watcher(WEALD_US(300), 0, fired, NULL);
    weald_wait_item item = object(timer);

    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_watcher_start(timer), 0);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), 1);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_NOW), 1);
    CHECK_EQ(weald_watcher_start(timer), 0);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), 1);
    CHECK_EQ(weald_close(timer), 0);
}

static int callbacks;

static void count_callback(weald_watcher w, int what, void *user)
{
    fired(w, what, user);
    callbacks++;
}

TEST(who_waits_for_a_watcher_goes_on_behind_its_callback)
{
    weald_watcher timer = weald_timer_watcher(WEALD_US(300), 0, count_callback, NULL);
    weald_wait_item item = object(timer);

    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(weald_watcher_start(timer), 0);
        CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), 1);
        CHECK_EQ(callbacks, i);
    }
    CHECK_EQ(weald_close(timer), 0);
}

TEST(the_end_of_a_pipe_is_ready_to_read)
{
    weald_wait_item item;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    close(ends[1]);
    item = descriptor(ends[0], WEALD_READ);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), 1);
    close(ends[0]);
}

TEST(the_same_thing_twice_counts_twice)
{
    weald_wait_item items[4];
    weald_greenlet g;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    event = weald_event_new(0);
    items[0] = items[1] = object(event);
    items[2] = items[3] = descriptor(ends[0], WEALD_READ);
    CHECK_EQ(weald_wait(items, 4, 1, weald_after(WEALD_US(200))), WEALD_ETIMEDOUT);
    g = waiter(&event);
    CHECK_EQ(weald_event_set(event), 0);
    CHECK_EQ(weald_wait(items, 4, 1, WEALD_FOREVER), 2);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(weald_wait(items, 4, 0, WEALD_FOREVER), 4);
    CHECK_EQ(code_of(g), 1);
    CHECK_EQ(weald_close(event), 0);
    close(ends[0]);
    close(ends[1]);
}

TEST(nothing_to_wait_for_is_ready_at_once)
{
    CHECK_EQ(weald_wait(NULL, 0, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_wait(NULL, 0, 0, WEALD_NOW), 0);
}

/* ---- among others who wait ---- */

static void *get_from(void *queue)
{
    void *item = NULL;

    CHECK_EQ(weald_queue_get(*(weald_queue *)queue, &item, WEALD_FOREVER), 0);
    return item;
}

TEST(who_waits_to_take_comes_first)
{
    weald_queue queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    weald_greenlet watching = waiter(&queue), getting = weald_spawn(get_from, &queue);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_queue_put(queue, (void *)7, WEALD_NOW), 0);
    CHECK_EQ(code_of(getting), 7);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(watching), WEALD_STATE_PARKED); /* there was nothing left for it */
    CHECK_EQ(weald_queue_put(queue, (void *)8, WEALD_NOW), 0);
    CHECK_EQ(code_of(watching), 1);
    CHECK_EQ(weald_queue_len(queue), 1);
    CHECK_EQ(weald_close(queue), 0);
}

static void *wait_and_get(void *queue)
{
    weald_wait_item item = object(*(weald_queue *)queue);
    void *got = NULL;

    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), 1);
    CHECK_EQ(weald_queue_get(item.object, &got, WEALD_NOW), 0); /* nothing runs in between */
    return got;
}

TEST(of_two_who_wait_for_one_item_one_waits_on)
{
    weald_queue queue = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    weald_greenlet a = weald_spawn(wait_and_get, &queue), b = weald_spawn(wait_and_get, &queue);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_queue_put(queue, (void *)1, WEALD_NOW), 0);
    CHECK_EQ(code_of(a), 1);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(b), WEALD_STATE_PARKED);
    CHECK_EQ(weald_queue_put(queue, (void *)2, WEALD_NOW), 0);
    CHECK_EQ(code_of(b), 2);
    CHECK_EQ(weald_close(queue), 0);
}

static void *get_and_be_killed(void *queue)
{
    void *item = NULL;

    CHECK_EQ(weald_queue_get(*(weald_queue *)queue, &item, WEALD_FOREVER), WEALD_ECANCELED);
    return NULL;
}

TEST(an_item_given_back_by_a_killed_getter_is_noticed)
{
    for (int shared = 0; shared < 2; shared++) {
        weald_queue queue = weald_queue_new(shared ? WEALD_SHARED : 0, WEALD_UNBOUNDED, NULL);
        weald_greenlet getting = weald_spawn(get_and_be_killed, &queue), watching = waiter(&queue);

        CHECK_EQ(weald_queue_put(queue, &queue, WEALD_NOW), 0);
        CHECK_EQ(weald_kill(getting, 0, WEALD_FOREVER), 0);
        CHECK_EQ(code_of(watching), 1);
        CHECK_EQ(weald_queue_len(queue), 1);
        CHECK_EQ(code_of(getting), 0);
        CHECK_EQ(weald_close(queue), 0);
    }
}

/* ---- how a wait fails ---- */

TEST(a_wait_at_its_deadline_is_etimedout_and_writes_nothing)
{
    int64_t began = test_clock();

    make_all();
    make_ready((void *)EVENT);
    CHECK_EQ(weald_wait(all, KINDS, 2, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    for (int i = 0; i < KINDS; i++)
        CHECK_EQ(all[i].ready, -1);
    close_all();
}

static void *wait_for_all(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_wait(all, KINDS, 0, WEALD_FOREVER);
}

TEST(a_killed_wait_is_ecanceled)
{
    weald_greenlet g;

    make_all();
    g = weald_spawn(wait_for_all, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(g), WEALD_ECANCELED);
    close_all();
}

TEST(a_wait_that_is_killed_when_it_was_told_in_vain_does_not_wait_on)
{
    for (int shared = 0; shared < 2; shared++) {
        weald_queue queue = weald_queue_new(shared ? WEALD_SHARED : 0, 1, NULL);
        weald_greenlet g = waiter(&queue);
        void *item;

        CHECK_EQ(weald_queue_put(queue, NULL, WEALD_NOW), 0); /* it is told to look */
        CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
        CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
        CHECK_EQ(code_of(g), WEALD_ECANCELED);
        g = waiter(&queue);
        CHECK_EQ(weald_queue_put(queue, NULL, WEALD_NOW), 0);
        CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), 0);
        CHECK_EQ(weald_interrupt(g, WEALD_EINTR), 0);
        CHECK_EQ(code_of(g), WEALD_EINTR);
        CHECK_EQ(weald_close(queue), 0);
    }
}

TEST(an_interrupted_wait_returns_the_code_whatever_it_is)
{
    static const int codes[] = {WEALD_EINTR, WEALD_EBADF, WEALD_ETIMEDOUT, WEALD_EAGAIN, -70000};

    make_all();
    for (int i = 0; i < 5; i++) {
        weald_greenlet g = weald_spawn(wait_for_all, NULL);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_interrupt(g, codes[i]), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_dead(g), 1);
        CHECK_EQ(code_of(g), codes[i]);
    }
    close_all();
}

TEST(an_object_closed_meanwhile_is_ebadf)
{
    weald_handle objects[] = {weald_event_new(0), weald_result_new(0, NULL), weald_queue_new(0, 1, NULL),
                              weald_semaphore_new(0), weald_lock_new(), weald_async_watcher(fired, NULL),
                              weald_event_new(WEALD_SHARED), weald_result_new(WEALD_SHARED, NULL),
                              weald_queue_new(WEALD_SHARED, 0, NULL)};

    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        weald_greenlet g;
        if (weald_kind(objects[i]) == WEALD_KIND_LOCK)
            CHECK_EQ(weald_lock_acquire(objects[i], WEALD_NOW), 0);
        g = waiter(&objects[i]);
        CHECK_EQ(weald_dup(objects[i]), objects[i]);
        CHECK_EQ(weald_close(objects[i]), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_state(g), WEALD_STATE_PARKED); /* one reference is left */
        CHECK_EQ(weald_close(objects[i]), 0);
        CHECK_EQ(code_of(g), WEALD_EBADF);
    }
}

TEST(what_can_not_be_is_einval)
{
    weald_wait_item items[2];
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    event = weald_event_new(0);
    items[0] = object(event);
    CHECK_EQ(weald_wait(items, 1, 2, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_wait(NULL, 1, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_wait(NULL, 0, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_wait(items, SIZE_MAX, 1, WEALD_NOW), WEALD_EINVAL);
    items[1] = descriptor(ends[0], 0);
    CHECK_EQ(weald_wait(items, 2, 1, WEALD_NOW), WEALD_EINVAL);
    items[1] = descriptor(ends[0], WEALD_READ | WEALD_HUP);
    CHECK_EQ(weald_wait(items, 2, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(items[0].ready, -1);
    CHECK_EQ(weald_close(event), 0);
    close(ends[0]);
    close(ends[1]);
}

TEST(bad_handles_and_descriptors_are_ebadf)
{
    weald_handle bad[6];
    weald_wait_item items[2];
    int ends[2];

    event = weald_event_new(0);
    items[0] = object(event);
    bad[0] = weald_event_new(0);
    CHECK_EQ(weald_close(bad[0]), 0);
    bad[1] = -1;
    bad[2] = INT64_MAX;
    bad[3] = weald_condition_new();
    bad[4] = weald_barrier_new(2);
    bad[5] = weald_group_new();
    for (int i = 0; i < 6; i++) {
        items[1] = object(bad[i]);
        CHECK_EQ(weald_wait(items, 2, 1, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_wait(items, 2, 1, WEALD_NOW), WEALD_EBADF);
    }
    for (int i = 3; i < 6; i++)
        CHECK_EQ(weald_close(bad[i]), 0);
    CHECK_EQ(pipe(ends), 0);
    close(ends[0]);
    close(ends[1]);
    items[1] = descriptor(ends[0], WEALD_READ);
    CHECK_EQ(weald_wait(items, 2, 1, WEALD_FOREVER), WEALD_EBADF);
    items[1] = descriptor(-1, WEALD_READ);
    CHECK_EQ(weald_wait(items, 2, 1, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(items[0].ready, -1);
    CHECK_EQ(weald_close(event), 0);
}

static void *use_it(void *arg)
{
    weald_wait_item item = object(event);

    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), WEALD_EPERM);
    return arg;
}

TEST(another_threads_object_is_eperm)
{
    pthread_t thread;

    event = weald_event_new(0);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(event), 0);
}

static void use_in_callback(void *arg)
{
    CHECK_EQ(weald_wait(all, KINDS, 1, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_wait(all, KINDS, 1, WEALD_NOW), WEALD_EAGAIN);
    make_ready((void *)SEMAPHORE);
    CHECK_EQ(weald_wait(all, KINDS, 1, WEALD_FOREVER), 1);
    ++*(int *)arg;
}

TEST(a_callback_may_look_and_must_not_wait)
{
    weald_handle hub = weald_hub();
    int called = 0;

    make_all();
    CHECK_EQ(weald_post(hub, use_in_callback, &called), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(called, 1);
    CHECK_EQ(weald_close(hub), 0);
    close_all();
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    weald_wait_item items[2];
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    items[0] = object(weald_event_new(0));
    items[1] = object(weald_semaphore_new(0));
    CHECK_EQ(weald_wait(items, 2, 1, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_close(items[0].object), 0);
    CHECK_EQ(weald_close(items[1].object), 0);
}

TEST(a_binding_that_forbids_to_suspend_gets_eperm)
{
    make_all();
    forbid_waits();
    CHECK_EQ(weald_wait(all, KINDS, 1, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_wait(all, KINDS, 1, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    close_all();
}

TEST(a_surrounding_timeout_ends_the_wait)
{
    weald_timeout timeout;

    make_all();
    timeout = weald_timeout_start(WEALD_MS(1));
    CHECK_EQ(weald_wait(all, KINDS, 1, WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(timeout), 1);
    CHECK_EQ(weald_close(timeout), 0);
    close_all();
}

/* ---- other threads ---- */

static void *make_shared_ready(void *arg)
{
    usleep(2000);
    make_ready((void *)SHARED_RESULT);
    usleep(2000);
    make_ready((void *)SHARED_EVENT);
    usleep(2000);
    make_ready((void *)SHARED_QUEUE);
    return arg;
}

TEST(another_thread_ends_the_wait_and_it_is_no_deadlock)
{
    weald_wait_item items[3];
    pthread_t thread;

    make_all();
    items[0] = all[SHARED_EVENT];
    items[1] = all[SHARED_RESULT];
    items[2] = all[SHARED_QUEUE];
    CHECK_EQ(pthread_create(&thread, NULL, make_shared_ready, NULL), 0);
    CHECK_GE(weald_wait(items, 3, 1, WEALD_FOREVER), 1);
    CHECK_EQ(items[1].ready, 1);
    CHECK_EQ(weald_wait(items, 3, 0, WEALD_FOREVER), 3);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    close_all();
}

static weald_queue shared;

static void *wait_then_sleep(void *arg)
{
    weald_wait_item item = object(shared);
    int64_t until;

    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), 1);
    until = weald_after(WEALD_MS(5));
    CHECK_EQ(weald_sleep_until(until), 0);
    CHECK_GE(weald_now(), until);
    return arg;
}

static void *put_between(void *queue)
{
    void *item = NULL;

    CHECK_EQ(weald_queue_get(*(weald_queue *)queue, &item, WEALD_FOREVER), 0);
    CHECK_EQ(weald_queue_put(shared, item, WEALD_NOW), 0); /* the waiter is awake, and has not run */
    return NULL;
}

TEST(what_comes_between_its_waking_and_its_running_does_not_end_a_later_wait)
{
    weald_queue other = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    weald_greenlet putter = weald_spawn(put_between, &other), sleeper;

    shared = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    sleeper = weald_spawn(wait_then_sleep, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_queue_put(other, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_queue_put(shared, NULL, WEALD_NOW), 0);
    CHECK_EQ(code_of(sleeper), 0);
    CHECK_EQ(code_of(putter), 0);
    CHECK_EQ(weald_close(other), 0);
    CHECK_EQ(weald_close(shared), 0);
}
