/* Workers: threads with a hub each; greenlets sent to them run there, all of them, and what they share keeps count. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

enum { MOST = 1000 };

/* A thread that was joined is in /proc until the kernel has cleared it away. */
static int threads_become(int n)
{
    for (int tries = 0; test_threads() != n && tries < 5000; tries++)
        usleep(1000);
    return test_threads();
}

static int status_of(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    return status;
}

static void end_workers(weald_workers w)
{
    CHECK_EQ(weald_workers_join(w, WEALD_FOREVER), 0);
    CHECK_EQ(weald_workers_count(w), 0);
    CHECK_EQ(weald_close(w), 0);
}

static atomic_int runs;

static void *count_run(void *arg)
{
    atomic_fetch_add(&runs, 1);
    return arg;
}

static void *sleep_a_little(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_MS(3)), 0);
    return count_run(arg);
}

static void *wait_event(void *arg)
{
    CHECK_EQ(weald_event_wait((weald_event)(intptr_t)arg, WEALD_FOREVER), 0);
    return count_run(arg);
}

/* ---- spawn ---- */

static pthread_t ran_in[MOST];

static void *note_thread(void *arg)
{
    ran_in[(intptr_t)arg] = pthread_self();
    CHECK_EQ(weald_id(weald_self()) > 0, 1); /* a greenlet, not the thread's main */
    return NULL;
}

TEST(a_greenlet_runs_in_the_worker_it_was_sent_to)
{
    weald_workers w = weald_workers_start(3);

    CHECK_GT(w, 0);
    CHECK_EQ(weald_kind(w), WEALD_KIND_WORKERS);
    CHECK_EQ(weald_workers_count(w), 3);
    for (intptr_t i = 0; i < 9; i++)
        CHECK_EQ(weald_workers_spawn(w, (size_t)i % 3, note_thread, (void *)i), 0);
    end_workers(w);
    for (int i = 0; i < 3; i++) {
        CHECK(!pthread_equal(ran_in[i], pthread_self()));
        CHECK(!pthread_equal(ran_in[i], ran_in[(i + 1) % 3]));
        CHECK(pthread_equal(ran_in[i], ran_in[i + 3]));
        CHECK(pthread_equal(ran_in[i], ran_in[i + 6]));
    }
}

TEST(size_max_means_one_worker_after_the_other)
{
    weald_workers w = weald_workers_start(3);

    for (intptr_t i = 0; i < 6; i++)
        CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, note_thread, (void *)i), 0);
    CHECK_EQ(weald_workers_spawn(w, 1, note_thread, (void *)6), 0);
    CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, note_thread, (void *)7), 0);
    end_workers(w);
    for (int i = 0; i < 3; i++) {
        CHECK(!pthread_equal(ran_in[i], ran_in[(i + 1) % 3]));
        CHECK(pthread_equal(ran_in[i], ran_in[i + 3]));
    }
    CHECK(pthread_equal(ran_in[6], ran_in[1]));
    CHECK(pthread_equal(ran_in[7], ran_in[2]));
}

static int order[MOST], order_next; /* one worker writes them */

static void *note_order(void *arg)
{
    order[order_next++] = (int)(intptr_t)arg;
    return NULL;
}

TEST(what_is_sent_to_one_worker_starts_in_order)
{
    weald_workers w = weald_workers_start(1);

    for (intptr_t i = 0; i < MOST; i++)
        CHECK_EQ(weald_workers_spawn(w, 0, note_order, (void *)i), 0);
    end_workers(w);
    CHECK_EQ(order_next, MOST);
    for (int i = 0; i < MOST; i++)
        CHECK_EQ(order[i], i);
}

TEST(zero_starts_one_worker_a_core)
{
    weald_workers w = weald_workers_start(0);

    CHECK_GE(weald_workers_count(w), 1);
    CHECK_LE(weald_workers_count(w), sysconf(_SC_NPROCESSORS_ONLN));
    end_workers(w);
}

TEST(start_and_spawn_refuse_bad_arguments)
{
    weald_workers w = weald_workers_start(2);

    CHECK_EQ(weald_workers_start(1024), WEALD_EINVAL);
    CHECK_EQ(weald_workers_start(SIZE_MAX), WEALD_EINVAL);
    CHECK_EQ(weald_workers_spawn(w, 0, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_workers_spawn(w, 2, count_run, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_workers_spawn(w, SIZE_MAX - 1, count_run, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_workers_spawn(0, 0, count_run, NULL), WEALD_EBADF);
    CHECK_EQ(weald_workers_spawn(weald_self(), 0, count_run, NULL), WEALD_EBADF);
    CHECK_EQ(weald_workers_count(weald_self()), WEALD_EBADF);
    CHECK_EQ(weald_workers_join(weald_self(), WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_workers_join(w, WEALD_FOREVER), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, count_run, NULL), WEALD_EPIPE);
    CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, count_run, NULL), WEALD_EPIPE);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, count_run, NULL), WEALD_EBADF);
    CHECK_EQ(weald_workers_count(w), WEALD_EBADF);
    CHECK_EQ(runs, 0);
}

static void *spawn_more(void *arg)
{
    weald_greenlet g = weald_spawn(sleep_a_little, NULL);

    CHECK_EQ(weald_go(sleep_a_little, NULL), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    return count_run(arg);
}

static void *send_more(void *arg)
{
    weald_workers w = (weald_workers)(intptr_t)arg;

    for (size_t i = 0; i < 2; i++)
        CHECK_EQ(weald_workers_spawn(w, i, count_run, NULL), 0);
    return NULL;
}

TEST(a_workers_greenlet_may_spawn_and_send_others)
{
    weald_workers w = weald_workers_start(2);
    weald_event sent = weald_event_new(WEALD_SHARED);

    CHECK_EQ(weald_workers_spawn(w, 0, spawn_more, NULL), 0);
    CHECK_EQ(weald_workers_spawn(w, 1, send_more, (void *)(intptr_t)w), 0);
    while (runs < 5)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    end_workers(w);
    CHECK_EQ(runs, 5);
    CHECK_EQ(weald_close(sent), 0);
}

static void *offload_from_worker(void *arg)
{
    void *value = NULL;

    CHECK_EQ(weald_offload(0, count_run, arg, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, arg);
    return NULL;
}

TEST(a_worker_may_offload)
{
    weald_workers w = weald_workers_start(2);

    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, offload_from_worker, &runs), 0);
    end_workers(w);
    CHECK_EQ(runs, 10);
}

static void *fail(void *arg) { return weald_fail(-4001, (const char *)arg); }

static void note_failure(weald_greenlet g, int code, const char *message, void *user)
{
    CHECK_GT(g, 0);
    CHECK_EQ(code, -4001);
    CHECK_STR(message, "on purpose");
    ran_in[0] = pthread_self();
    atomic_fetch_add((atomic_int *)user, 1);
}

static void *set_handler(void *arg)
{
    CHECK_EQ(weald_set_error_handler(note_failure, arg), 0);
    return NULL;
}

TEST(a_failure_is_told_to_the_workers_error_handler)
{
    static char why[] = "on purpose";
    weald_workers w = weald_workers_start(1);

    CHECK_EQ(weald_workers_spawn(w, 0, set_handler, &runs), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, fail, why), 0);
    end_workers(w);
    CHECK_EQ(runs, 1);
    CHECK(!pthread_equal(ran_in[0], pthread_self()));
}

static void *look_at_mask(void *arg)
{
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, (sigset_t *)arg), 0);
    return NULL;
}

TEST(a_worker_gets_no_signals_but_its_own_faults)
{
    weald_workers w = weald_workers_start(1);
    sigset_t mask;

    CHECK_EQ(weald_workers_spawn(w, 0, look_at_mask, &mask), 0);
    end_workers(w);
    CHECK_EQ(sigismember(&mask, SIGTERM), 1);
    CHECK_EQ(sigismember(&mask, SIGCHLD), 1);
    CHECK_EQ(sigismember(&mask, SIGSEGV), 0);
}

/* ---- join, close ---- */

TEST(join_waits_for_every_greenlet_and_thread)
{
    weald_workers w;
    int fds;

    CHECK_GT(weald_self(), 0); /* our own hub's descriptors are there */
    fds = test_fds();
    w = weald_workers_start(2);
    CHECK_EQ(test_threads(), 3);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, sleep_a_little, NULL), 0);
    CHECK_EQ(weald_workers_join(w, WEALD_FOREVER), 0);
    CHECK_EQ(runs, 10);
    CHECK_EQ(test_threads(), 1);
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(weald_workers_count(w), 0);
    CHECK_EQ(weald_workers_join(w, WEALD_NOW), 0);
    CHECK_EQ(weald_close(w), 0);
}

struct join {
    weald_workers w;
    int code;
};

static void *join(void *arg)
{
    struct join *j = (struct join *)arg;

    j->code = weald_workers_join(j->w, WEALD_FOREVER);
    return NULL;
}

TEST(join_lets_other_greenlets_run)
{
    struct join j = {weald_workers_start(1), 1};
    weald_event go = weald_event_new(WEALD_SHARED);
    weald_greenlet g = weald_spawn(join, &j);

    CHECK_EQ(weald_workers_spawn(j.w, 0, wait_event, (void *)(intptr_t)go), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(j.code, 1);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(j.code, 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(j.w), 0);
    CHECK_EQ(weald_close(go), 0);
}

TEST(join_whose_deadline_passes_can_be_tried_again)
{
    weald_workers w = weald_workers_start(2);
    weald_event go = weald_event_new(WEALD_SHARED);

    CHECK_EQ(weald_workers_spawn(w, 0, wait_event, (void *)(intptr_t)go), 0);
    CHECK_EQ(weald_workers_join(w, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_workers_join(w, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_workers_spawn(w, 0, count_run, NULL), WEALD_EPIPE);
    CHECK_GE(weald_workers_count(w), 1);
    CHECK_EQ(weald_event_set(go), 0);
    end_workers(w);
    CHECK_EQ(runs, 1);
    CHECK_EQ(weald_close(go), 0);
}

TEST(kill_ends_the_wait_for_a_join)
{
    struct join j = {weald_workers_start(1), 1};
    weald_event go = weald_event_new(WEALD_SHARED);
    weald_greenlet g = weald_spawn(join, &j);

    CHECK_EQ(weald_workers_spawn(j.w, 0, wait_event, (void *)(intptr_t)go), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(j.code, WEALD_ECANCELED);
    CHECK_EQ(weald_event_set(go), 0);
    end_workers(j.w);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(go), 0);
}

TEST(close_ends_the_wait_for_a_join)
{
    struct join j = {weald_workers_start(1), 1};
    weald_event go = weald_event_new(WEALD_SHARED);
    weald_greenlet g = weald_spawn(join, &j);

    CHECK_EQ(weald_workers_spawn(j.w, 0, wait_event, (void *)(intptr_t)go), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(j.w), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(j.code, WEALD_EBADF);
    CHECK_EQ(weald_event_set(go), 0);
    while (test_threads() > 1)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(runs, 1);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(go), 0);
}

static void *join_oneself(void *arg)
{
    return weald_workers_join((weald_workers)(intptr_t)arg, WEALD_FOREVER) == WEALD_EDEADLK ? count_run(arg) : NULL;
}

static int callback_code = 1;

static void join_in_callback(void *arg)
{
    callback_code = weald_workers_join((weald_workers)(intptr_t)arg, WEALD_FOREVER);
}

static int never(void) { return 0; }

static void *killed_then_join(void *arg)
{
    CHECK_EQ(weald_kill(weald_self(), 0, WEALD_NOW), 0);
    return join(arg);
}

TEST(join_refuses_where_it_cannot_wait_and_then_changes_nothing)
{
    weald_workers w = weald_workers_start(2);
    weald_handle hub = weald_hub();
    struct join j = {w, 1};
    weald_greenlet g = weald_spawn(killed_then_join, &j);
    weald_hooks hooks;

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(j.code, WEALD_ECANCELED);
    CHECK_EQ(weald_post(hub, join_in_callback, (void *)(intptr_t)w), 0);
    while (callback_code == 1)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(callback_code, WEALD_EWOULDBLOCK);
    memset(&hooks, 0, sizeof hooks);
    hooks.size = sizeof hooks;
    hooks.may_park = never;
    CHECK_EQ(weald_set_hooks(&hooks), 0);
    CHECK_EQ(weald_workers_join(w, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, join_oneself, (void *)(intptr_t)w), 0);
    while (runs == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_workers_spawn(w, 1, count_run, NULL), 0); /* none of these has joined them */
    end_workers(w);
    CHECK_EQ(runs, 2);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static void *join_in_thread(void *arg)
{
    CHECK_EQ(weald_workers_join((weald_workers)(intptr_t)arg, WEALD_FOREVER), 0);
    return NULL;
}

TEST(several_threads_may_join_the_same_workers)
{
    weald_workers w = weald_workers_start(2);
    pthread_t thread[3];

    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, sleep_a_little, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, join_in_thread, (void *)(intptr_t)w), 0);
    CHECK_EQ(weald_workers_join(w, WEALD_FOREVER), 0);
    CHECK_EQ(runs, 10);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(weald_close(w), 0);
}

TEST(workers_that_are_closed_finish_and_end)
{
    weald_workers w = weald_workers_start(2);

    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, sleep_a_little, NULL), 0);
    CHECK_EQ(weald_close(w), 0);
    while (test_threads() > 1)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(runs, 10);
}

static void *stop(void *arg)
{
    CHECK_EQ(weald_stop(), 0);
    return count_run(arg);
}

TEST(weald_stop_does_not_end_a_worker)
{
    weald_workers w = weald_workers_start(1);

    CHECK_EQ(weald_workers_spawn(w, 0, stop, NULL), 0);
    while (runs == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, sleep_a_little, NULL), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, stop, NULL), 0); /* while the other one sleeps */
    end_workers(w);
    CHECK_EQ(runs, 3);
}

static void idle_for_a_while(void)
{
    weald_workers w = weald_workers_start(2);
    struct rusage before, after;

    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    CHECK_EQ(getrusage(RUSAGE_SELF, &before), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(200)), 0);
    CHECK_EQ(getrusage(RUSAGE_SELF, &after), 0);
    CHECK_LE(after.ru_nvcsw - before.ru_nvcsw, 5); /* our own sleep, and what stacks' trimming takes */
    CHECK_EQ(weald_workers_spawn(w, 0, count_run, NULL), 0);
    end_workers(w);
    CHECK_EQ(runs, 1);
}

TEST(idle_workers_sleep_and_report_nothing)
{
    static char text[4096];

    CHECK_EQ(test_in_child(idle_for_a_while, text, sizeof text), 0);
    CHECK_STR(text, "");
}

static void *wait_for_nothing(void *arg)
{
    weald_event never_set = weald_event_new(0);

    weald_event_wait(never_set, WEALD_FOREVER);
    return count_run(arg); /* the end of the hub kills it: it may clean up */
}

static void join_the_stuck(void)
{
    weald_workers w = weald_workers_start(2);

    CHECK_EQ(weald_workers_spawn(w, 0, wait_for_nothing, NULL), 0);
    CHECK_EQ(weald_workers_spawn(w, 1, sleep_a_little, NULL), 0);
    end_workers(w);
    CHECK_EQ(runs, 2);
}

TEST(a_worker_whose_greenlets_cannot_go_on_says_so_and_ends)
{
    static char text[4096];
    int status = test_in_child(join_the_stuck, text, sizeof text);

    CHECK_CONTAINS(text, "deadlock");
    CHECK_CONTAINS(text, "waits for event");
    CHECK_EQ(status, 0);
}

/* ---- what cannot be had ---- */

TEST(without_descriptors_all_or_no_workers_start)
{
    struct rlimit limit;
    int fds, before, worked = 0;
    int64_t w;

    CHECK_GT(weald_self(), 0);
    fds = test_fds();
    before = test_threads();
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (rlim_t room = 0; room < 64 && !worked; room++) {
        limit.rlim_cur = (rlim_t)fds + room;
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        w = weald_workers_start(4);
        limit.rlim_cur = limit.rlim_max;
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (w > 0) {
            worked = 1;
            CHECK_GT(room, 0);
            end_workers(w);
        } else {
            CHECK_EQ(w, WEALD_EMFILE);
        }
        CHECK_EQ(test_fds(), fds);
        CHECK_EQ(threads_become(before), before);
    }
    CHECK(worked);
}

TEST(without_threads_all_or_no_workers_start)
{
    struct rlimit limit;
    long pages = 0;
    int fds, before, worked = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (*test_under())
        SKIP("limits on address space are not for checkers");
    CHECK_GT(weald_self(), 0);
    fds = test_fds();
    before = test_threads();
    CHECK(f && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
    CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
    for (rlim_t room = 4; room < 2048 && !worked; room += 4) {
        int64_t w;

        limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (room << 20);
        CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
        w = weald_workers_start(4);
        if (w > 0) {
            worked = 1;
            CHECK_GT(room, 4);
            end_workers(w);
        } else {
            CHECK(w == WEALD_EAGAIN || w == WEALD_ENOMEM);
        }
        CHECK_EQ(threads_become(before), before);
    }
    CHECK(worked);
    CHECK_LE(test_fds(), fds + 1); /* the one of fopen is gone */
}

/* ---- between workers ---- */

enum { ITEMS = 100000, PRODUCERS = 4, CONSUMERS = 6, WORKERS = 3 };

static atomic_uchar seen[ITEMS];
static atomic_int next_item, got, given_up, producers_left;
static int item_count;
static weald_queue queue;

static void *produce(void *arg)
{
    int i;

    while ((i = atomic_fetch_add(&next_item, 1)) < item_count)
        CHECK_EQ(weald_queue_put(queue, &seen[i], WEALD_FOREVER), 0);
    if (atomic_fetch_sub(&producers_left, 1) == 1)
        CHECK_EQ(weald_queue_shut(queue), 0);
    return arg;
}

static int take(void *item)
{
    CHECK_EQ(atomic_fetch_add((atomic_uchar *)item, 1), 0);
    return atomic_fetch_add(&got, 1);
}

static void *consume(void *arg)
{
    void *item;
    int code;

    while ((code = weald_queue_get(queue, &item, WEALD_FOREVER)) == 0)
        take(item);
    CHECK_EQ(code, WEALD_EPIPE);
    return arg;
}

/* Gets with deadlines that mostly pass just when an item comes. */
static void *consume_impatiently(void *arg)
{
    int64_t patience = (intptr_t)arg;
    void *item;
    int code;

    while ((code = weald_queue_get(queue, &item, weald_after(patience))) != WEALD_EPIPE) {
        if (code == 0) {
            take(item);
        } else {
            CHECK_EQ(code, WEALD_ETIMEDOUT);
            atomic_fetch_add(&given_up, 1);
        }
    }
    return NULL;
}

static void *consume_until_killed(void *arg)
{
    void *item;
    int code;

    while ((code = weald_queue_get(queue, &item, WEALD_FOREVER)) == 0)
        take(item);
    CHECK(code == WEALD_EPIPE || code == WEALD_ECANCELED);
    return arg;
}

/* Kills consumers and makes new ones, in its own worker, until there is nothing left. */
static void *kill_consumers(void *arg)
{
    while (atomic_load(&got) < item_count) {
        weald_greenlet g = weald_spawn(consume_until_killed, NULL);

        CHECK_EQ(weald_sleep(WEALD_US(50)), 0);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(g), 0);
        atomic_fetch_add(&given_up, 1);
    }
    return arg;
}

static void between_workers(size_t capacity, weald_fn impatient, int64_t patience)
{
    weald_workers w = weald_workers_start(WORKERS);
    void *item;

    item_count = (int)test_rounds(ITEMS);
    queue = weald_queue_new(WEALD_SHARED, capacity, NULL);
    producers_left = PRODUCERS;
    for (size_t i = 0; i < CONSUMERS; i++)
        CHECK_EQ(weald_workers_spawn(w, i % WORKERS, consume, NULL), 0);
    if (impatient)
        for (size_t i = 0; i < WORKERS; i++)
            CHECK_EQ(weald_workers_spawn(w, i, impatient, (void *)(intptr_t)(patience + (int64_t)i)), 0);
    for (size_t i = 0; i < PRODUCERS; i++)
        CHECK_EQ(weald_workers_spawn(w, i % WORKERS, produce, NULL), 0);
    end_workers(w);
    CHECK_EQ(got, item_count);
    for (int i = 0; i < item_count; i++)
        CHECK_EQ(seen[i], 1);
    CHECK_EQ(weald_queue_get(queue, &item, WEALD_NOW), WEALD_EPIPE);
    CHECK_EQ(weald_close(queue), 0);
}

TEST_WITH_LIMIT(a_queue_between_workers_loses_and_doubles_nothing, 60) { between_workers(16, NULL, 0); }

TEST_WITH_LIMIT(a_rendezvous_between_workers_loses_and_doubles_nothing, 60) { between_workers(0, NULL, 0); }

TEST_WITH_LIMIT(deadlines_in_a_queue_between_workers_lose_nothing, 60)
{
    between_workers(4, consume_impatiently, WEALD_US(20));
}

TEST_WITH_LIMIT(kills_in_a_queue_between_workers_lose_nothing, 60) { between_workers(4, kill_consumers, 0); }

static void *set_result(void *arg)
{
    CHECK_EQ(weald_result_set((weald_result)(intptr_t)arg, &runs), 0);
    return NULL;
}

static void *get_result(void *arg)
{
    void *value = NULL;

    CHECK_EQ(weald_result_get((weald_result)(intptr_t)arg, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &runs);
    return count_run(arg);
}

TEST(a_result_of_one_worker_is_got_in_all_the_others)
{
    weald_workers w = weald_workers_start(3);
    weald_result r = weald_result_new(WEALD_SHARED, NULL);
    void *value = NULL;

    for (size_t i = 0; i < 9; i++)
        CHECK_EQ(weald_workers_spawn(w, i % 3, get_result, (void *)(intptr_t)r), 0);
    CHECK_EQ(weald_workers_spawn(w, 1, set_result, (void *)(intptr_t)r), 0);
    CHECK_EQ(weald_result_get(r, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &runs);
    end_workers(w);
    CHECK_EQ(runs, 9);
    CHECK_EQ(weald_close(r), 0);
}

static weald_workers storm_workers;

static void *spawn_storm(void *arg)
{
    for (int i = 0; i < item_count / 4; i++)
        CHECK_EQ(weald_workers_spawn(storm_workers, SIZE_MAX, count_run, arg), 0);
    return NULL;
}

TEST_WITH_LIMIT(every_greenlet_that_many_threads_send_runs, 60)
{
    pthread_t thread[4];

    item_count = (int)test_rounds(ITEMS) / 4 * 4;
    storm_workers = weald_workers_start(2);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, spawn_storm, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    end_workers(storm_workers);
    CHECK_EQ(runs, item_count);
}

static atomic_int sent;

/* As fast as it goes, but never further ahead than AHEAD: nobody else holds a sender back. */
enum { AHEAD = 1000 };

static void *spawn_until_refused(void *arg)
{
    int code;

    while ((code = weald_workers_spawn(storm_workers, SIZE_MAX, count_run, arg)) == 0)
        if (atomic_fetch_add(&sent, 1) > runs + AHEAD)
            CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
    CHECK(code == WEALD_EPIPE || code == WEALD_EBADF);
    return NULL;
}

TEST(what_was_sent_before_the_join_runs_and_nothing_else)
{
    for (long round = 0; round < test_rounds(50); round++) {
        pthread_t thread[2];

        sent = runs = 0;
        storm_workers = weald_workers_start(2);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(pthread_create(&thread[i], NULL, spawn_until_refused, NULL), 0);
        CHECK_EQ(weald_sleep(WEALD_US(200)), 0);
        CHECK_EQ(weald_workers_join(storm_workers, WEALD_FOREVER), 0);
        for (int i = 0; i < 2; i++)
            pthread_join(thread[i], NULL);
        CHECK_EQ(runs, sent);
        CHECK_EQ(weald_close(storm_workers), 0);
    }
}

TEST(workers_come_and_go_and_leave_nothing)
{
    int fds, mappings, many = (int)test_rounds(100);

    CHECK_GT(weald_self(), 0);
    end_workers(weald_workers_start(2));
    fds = test_fds();
    mappings = test_mappings();
    for (int i = 0; i < many; i++) {
        weald_workers w = weald_workers_start(2);

        CHECK_EQ(weald_workers_spawn(w, SIZE_MAX, sleep_a_little, NULL), 0);
        end_workers(w);
    }
    CHECK_EQ(runs, many);
    CHECK_EQ(test_fds(), fds);
    CHECK_LE(test_mappings(), mappings + 10); /* threads' stacks are cached */
}

/* ---- fork ---- */

static void use_in_child(weald_workers w)
{
    weald_workers own;

    alarm(20);
    CHECK_EQ(weald_workers_count(w), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, count_run, NULL), WEALD_EPIPE);
    CHECK_EQ(weald_workers_join(w, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(w), 0);
    runs = 0;
    own = weald_workers_start(2);
    CHECK_EQ(weald_workers_spawn(own, 0, sleep_a_little, NULL), 0);
    CHECK_EQ(weald_workers_spawn(own, 1, count_run, NULL), 0);
    end_workers(own);
    CHECK_EQ(runs, 2);
    _exit(42);
}

TEST_WITH_LIMIT(a_forked_child_has_no_workers_and_may_start_some, 60)
{
    int quiet = strcmp(test_under(), "asan") == 0; /* its allocator may stay locked in a child */
    pthread_t thread;

    storm_workers = weald_workers_start(2);
    if (!quiet)
        CHECK_EQ(pthread_create(&thread, NULL, spawn_until_refused, NULL), 0);
    for (long i = 0; i < test_rounds(100); i++) {
        pid_t pid = fork();

        CHECK_GE(pid, 0);
        if (pid == 0)
            use_in_child(storm_workers);
        CHECK_EQ(status_of(pid), 42 << 8);
        CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
    }
    CHECK_EQ(weald_workers_join(storm_workers, WEALD_FOREVER), 0); /* the parent has noticed nothing */
    if (!quiet)
        pthread_join(thread, NULL);
    CHECK_EQ(runs, sent);
    CHECK_EQ(weald_close(storm_workers), 0);
}

static void *fork_in_worker(void *arg)
{
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0) {
        LEAKS("a forked child has lost the other threads, and what was theirs");
        alarm(20);
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0); /* its hub goes on */
        CHECK_EQ(weald_workers_count((weald_workers)(intptr_t)arg), 0);
        return NULL;
    }
    CHECK_EQ(status_of(pid), 0);
    return count_run(arg);
}

TEST(the_child_of_a_workers_greenlet_ends_with_it)
{
    weald_workers w = weald_workers_start(2);

    CHECK_EQ(weald_workers_spawn(w, 0, wait_event, (void *)(intptr_t)weald_event_new(WEALD_SHARED)), 0);
    CHECK_EQ(weald_workers_spawn(w, 0, fork_in_worker, (void *)(intptr_t)w), 0);
    CHECK_EQ(weald_workers_spawn(w, 1, fork_in_worker, (void *)(intptr_t)w), 0);
    while (runs < 2)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_workers_join(w, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* one waits */
}
