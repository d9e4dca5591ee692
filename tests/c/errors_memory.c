/* WEALD_ENOMEM, from every function that lists it. */
#include "starve.h"
#include <sys/mman.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>

static weald_event gate; /* never set */

static void *wait_for_gate(void *unused)
{
    weald_event_wait(gate, WEALD_FOREVER);
    return unused;
}

static void *ends(void *unused) { return unused; }

static weald_event begun; /* shared */
static void *sleeps(void *unused)
{
    CHECK_EQ(weald_event_set(begun), 0);
    usleep(300000); /* the whole thread */
    return unused;
}
static void *switched(void *first, void *unused)
{
    (void)unused;
    return first;
}
static int same(void *item, void **out, void *user)
{
    (void)user;
    *out = item;
    return 0;
}
static int no_more(void **item, void *source)
{
    (void)item, (void)source;
    return 0;
}
static int blocks(void **item, void *source)
{
    (void)item, (void)source;
    return weald_event_wait(gate, WEALD_FOREVER);
}
static int order(const void *a, const void *b) { return a < b ? -1 : a > b; }
static void ignore(weald_watcher w, int what, void *user) { (void)w, (void)what, (void)user; }
static void call(void *unused) { (void)unused; }

static weald_greenlet waiting(void)
{
    weald_greenlet g;

    if (!gate)
        CHECK_GT(gate = weald_event_new(0), 0);
    CHECK_GT(g = weald_spawn(wait_for_gate, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    return g;
}

TEST(no_greenlet_is_made_without_memory)
{
    weald_greenlet g = waiting();

    starve();
    CHECK_EQ(weald_spawn(ends, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_spawn_with(ends, NULL, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_go(ends, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_greenlet_new(ends, NULL, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_coro_new(switched, NULL, 0, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_iwait(&g, 1), WEALD_ENOMEM);
    feed();
    CHECK_GT(weald_spawn(ends, NULL), 0);
}

/* A stack is guarded when it is first used, by the kernel's markers; in memory that is locked by a mapping of its own,
 * and here there may be no further mapping. */
TEST(a_coroutine_whose_stack_can_not_be_guarded_is_switched_to_later)
{
    enum { PAGE = 4096, MOST = 1 << 17 };
    weald_spawn_options options = {.size = sizeof options, .stack_size = 20 << 10};
    weald_greenlet c;
    int split = 0, code;
    char *pages;

    CHECK_GT(weald_self(), 0);
    if (*test_under())
        SKIP("the checker needs mappings of its own");
    pages = mmap(NULL, (size_t)MOST * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(pages != MAP_FAILED);
    if (mlockall(MCL_FUTURE | MCL_ONFAULT) != 0)
        SKIP("no memory may be locked here");
    c = weald_coro_new(switched, NULL, 0, &options);
    CHECK_GT(c, 0);
    while (split < MOST && mprotect(pages + (size_t)split * 2 * PAGE, PAGE, PROT_READ) == 0)
        split++;
    code = weald_switch(c, NULL, NULL);
    CHECK_EQ(munmap(pages, (size_t)MOST * 2 * PAGE), 0);
    CHECK_EQ(munlockall(), 0);
    if (split == MOST || code == 0)
        SKIP("mappings are not scarce here, or the guard was made at once");
    CHECK_EQ(code, WEALD_ENOMEM);
    CHECK_EQ(weald_dead(c), 0);
    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    CHECK_EQ(weald_dead(c), 1);
    CHECK_EQ(weald_close(c), 0);
}

TEST(no_greenlet_is_delayed_without_memory)
{
    weald_spawn_options later = {.size = sizeof later, .delay_ns = WEALD_SEC(1)};
    uint64_t handles;

    CHECK_EQ(weald_go(ends, NULL), 0);
    CHECK_EQ(weald_yield(), 0); /* its record is spare */
    starve();
    handles = test_stats().handles;
    CHECK_EQ(weald_spawn_with(ends, NULL, &later), WEALD_ENOMEM);
    later.flags = WEALD_SPAWN_DETACHED;
    CHECK_EQ(weald_spawn_with(ends, NULL, &later), WEALD_ENOMEM);
    CHECK_EQ(test_stats().handles, handles);
    feed();
    CHECK_EQ(weald_spawn_with(ends, NULL, &later), 0);
}

TEST(no_object_is_made_without_memory)
{
    starve();
    CHECK_EQ(weald_hub(), WEALD_ENOMEM);
    CHECK_EQ(weald_event_new(0), WEALD_ENOMEM);
    CHECK_EQ(weald_event_new(WEALD_SHARED), WEALD_ENOMEM);
    CHECK_EQ(weald_result_new(0, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_result_new(WEALD_SHARED, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_queue_new(WEALD_LIFO, 1, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_queue_new(WEALD_SHARED, 1, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_priority_queue_new(0, 1, order, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_semaphore_new(1), WEALD_ENOMEM);
    CHECK_EQ(weald_bounded_semaphore_new(1), WEALD_ENOMEM);
    CHECK_EQ(weald_lock_new(), WEALD_ENOMEM);
    CHECK_EQ(weald_rlock_new(), WEALD_ENOMEM);
    CHECK_EQ(weald_condition_new(), WEALD_ENOMEM);
    CHECK_EQ(weald_rwlock_new(), WEALD_ENOMEM);
    CHECK_EQ(weald_barrier_new(2), WEALD_ENOMEM);
    CHECK_EQ(weald_group_new(), WEALD_ENOMEM);
    CHECK_EQ(weald_pool_new(1), WEALD_ENOMEM);
    CHECK_EQ(weald_timeout_start(1), WEALD_ENOMEM);
    CHECK_EQ(weald_local_new(NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_threadpool_new(1), WEALD_ENOMEM);
    feed();
    CHECK_GT(weald_event_new(0), 0);
    CHECK_GT(weald_event_new(WEALD_SHARED), 0);
}

TEST(no_watcher_is_made_or_started_without_memory)
{
    weald_watcher once = weald_timer_watcher(1, 0, ignore, NULL), again = weald_timer_watcher(1, 1, ignore, NULL);

    CHECK_GT(once, 0);
    CHECK_GT(again, 0);
    starve();
    CHECK_EQ(weald_io_watcher(0, WEALD_READ, ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_timer_watcher(1, 0, ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_signal_watcher(SIGUSR1, ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_child_watcher(1, ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_async_watcher(ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_idle_watcher(ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_prepare_watcher(ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_check_watcher(ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_stat_watcher("/", 0, ignore, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_watcher_start(once), WEALD_ENOMEM);
    CHECK_EQ(weald_watcher_active(once), 0);
    CHECK_EQ(weald_watcher_again(again), WEALD_ENOMEM);
    CHECK_EQ(weald_watcher_active(again), 0);
    feed();
    CHECK_EQ(weald_watcher_start(once), 0);
    CHECK_EQ(weald_watcher_again(again), 0);
}

TEST(no_greenlet_waits_for_another_without_memory)
{
    weald_greenlet g = waiting(), fresh = weald_greenlet_new(ends, NULL, NULL), one;
    weald_handle it = weald_iwait(&g, 1);

    CHECK_GT(it, 0);
    CHECK_GT(fresh, 0);
    starve();
    CHECK_EQ(weald_start_later(fresh, 1), WEALD_ENOMEM);
    CHECK_EQ(weald_state(fresh), WEALD_STATE_NEW);
    CHECK_EQ(weald_join(g, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_joinall(&g, 1, 0, 0, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_join_any(&g, 1, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_iwait_next(it, &one, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_get(g, NULL, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), WEALD_ENOMEM);
    CHECK_EQ(weald_sleep_until(soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_park(NULL, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_kill(g, 0, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_killall(&g, 1, 0, soon()), WEALD_ENOMEM);
    feed();
    CHECK_EQ(weald_join(g, soon()), 0); /* it was marked before the wait failed */
}

TEST(no_greenlet_idles_in_a_timeout_without_memory)
{
    weald_timeout t = weald_timeout_start(WEALD_SEC(1));

    CHECK_GT(t, 0);
    starve();
    CHECK_EQ(weald_idle(0), WEALD_ENOMEM);
    feed();
    CHECK_EQ(weald_idle(0), 0);
}

TEST(nobody_waits_for_a_descriptor_without_memory)
{
    int ends[2];
    struct pollfd fd;
    char byte = 0;
    fd_set set;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    while (write(ends[0], &byte, 1) == 1)
        ;
    fd = (struct pollfd){.fd = ends[0], .events = POLLIN};
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    starve();
    CHECK_EQ(weald_wait_read(ends[0], soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_wait_write(ends[0], soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_wait_fd(ends[0], WEALD_READ, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_poll(&fd, 1, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_select(ends[0] + 1, &set, NULL, NULL, soon()), WEALD_ENOMEM);
    CHECK(FD_ISSET(ends[0], &set));
    feed();
}

TEST(nobody_waits_for_an_object_without_memory)
{
    weald_event event = weald_event_new(0), shared = weald_event_new(WEALD_SHARED);
    weald_result result = weald_result_new(0, NULL);
    weald_queue empty = weald_queue_new(0, 1, NULL), full = weald_queue_new(0, 0, NULL);
    weald_semaphore sem = weald_semaphore_new(0);
    weald_lock mine = weald_lock_new();
    weald_condition cond = weald_condition_new();
    weald_barrier barrier = weald_barrier_new(2);
    weald_wait_item item = {.object = event};
    void *value;

    CHECK_EQ(weald_queue_put(empty, &value, WEALD_NOW), 0);
    CHECK_EQ(weald_queue_get(empty, &value, WEALD_NOW), 0); /* not done, so that a join waits */
    CHECK_EQ(weald_lock_acquire(mine, WEALD_NOW), 0);
    starve();
    CHECK_EQ(weald_event_wait(event, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_event_wait(shared, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_result_get(result, &value, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_result_wait(result, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_queue_put(full, NULL, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_queue_get(empty, &value, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_queue_peek(empty, &value, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_queue_join(empty, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_semaphore_acquire(sem, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_condition_wait(cond, mine, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_lock_held(mine), 1); /* taken again, however the wait ended */
    CHECK_EQ(weald_barrier_wait(barrier, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_wait(&item, 1, 1, soon()), WEALD_ENOMEM);
    feed();
    CHECK_EQ(weald_lock_release(mine), 0);
}

static weald_lock lock;
static weald_rwlock rwlock;
static void *hold_both(void *unused)
{
    CHECK_EQ(weald_lock_acquire(lock, WEALD_NOW), 0);
    CHECK_EQ(weald_rwlock_write(rwlock, WEALD_NOW), 0);
    return wait_for_gate(unused);
}

TEST(nobody_waits_for_a_lock_without_memory)
{
    CHECK_GT(gate = weald_event_new(0), 0);
    CHECK_GT(lock = weald_lock_new(), 0);
    CHECK_GT(rwlock = weald_rwlock_new(), 0);
    CHECK_EQ(weald_go(hold_both, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    starve();
    CHECK_EQ(weald_lock_acquire(lock, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_rwlock_read(rwlock, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_rwlock_write(rwlock, soon()), WEALD_ENOMEM);
    feed();
}

TEST(a_queue_does_not_grow_without_memory)
{
    weald_queue q = weald_queue_new(0, WEALD_UNBOUNDED, NULL);
    int64_t n = 0;
    int code;

    CHECK_GT(q, 0);
    starve();
    while ((code = weald_queue_put(q, NULL, WEALD_NOW)) == 0)
        n++;
    CHECK_EQ(code, WEALD_ENOMEM);
    CHECK_EQ(weald_queue_len(q), n);
    feed();
    CHECK_EQ(weald_queue_put(q, NULL, WEALD_NOW), 0);
}

TEST(a_group_neither_spawns_nor_waits_without_memory)
{
    weald_group group, full;
    weald_handle results;
    weald_greenlet g = waiting(), other = waiting();
    void *item = NULL, *out;
    int code;

    CHECK_GT(group = weald_group_new(), 0);
    CHECK_GT(full = weald_pool_new(1), 0);
    CHECK_EQ(weald_group_add(full, g, WEALD_NOW), 0);
    CHECK_GT(results = weald_group_imap(group, same, NULL, blocks, NULL, 0), 0);
    CHECK_EQ(weald_yield(), 0);
    starve();
    CHECK_EQ(weald_group_spawn(group, ends, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_pool_try_spawn(group, ends, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_group_len(group), 0);
    CHECK_EQ(weald_group_add(full, other, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_group_join(full, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_pool_wait_available(full, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_group_map(group, same, NULL, &item, 1, &out, NULL, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_group_imap(group, same, NULL, no_more, NULL, 0), WEALD_ENOMEM);
    CHECK_EQ(weald_group_imap_unordered(group, same, NULL, no_more, NULL, 0), WEALD_ENOMEM);
    CHECK_EQ(weald_imap_next(results, &out, &code, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_group_apply(group, same, NULL, item, &out, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_group_apply_async(group, same, NULL, item), WEALD_ENOMEM);
    CHECK_EQ(weald_group_kill(full, 0, soon()), WEALD_ENOMEM);
    feed();
    CHECK_EQ(weald_group_join(full, soon()), 0); /* its member was marked before the wait failed */
}

TEST(nobody_waits_for_a_thread_without_memory)
{
    weald_threadpool pool = weald_threadpool_new(1), busy = weald_threadpool_new(1);
    weald_workers workers = weald_workers_start(1);
    weald_result job;

    CHECK_GT(workers, 0);
    CHECK_GT(begun = weald_event_new(WEALD_SHARED), 0);
    CHECK_EQ(weald_offload(pool, ends, NULL, NULL, WEALD_FOREVER), 0); /* its thread is there, and idle */
    CHECK_GT(job = weald_threadpool_submit(busy, sleeps, NULL, NULL), 0);
    CHECK_EQ(weald_event_wait(begun, WEALD_FOREVER), 0);
    CHECK_EQ(weald_event_clear(begun), 0);
    CHECK_EQ(weald_workers_spawn(workers, 0, sleeps, NULL), 0);
    CHECK_EQ(weald_event_wait(begun, WEALD_FOREVER), 0);
    starve();
    CHECK_EQ(weald_offload(pool, sleeps, NULL, NULL, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_threadpool_submit(pool, ends, NULL, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_threadpool_shutdown(busy, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_workers_join(workers, soon()), WEALD_ENOMEM);
    feed();
    CHECK_EQ(weald_threadpool_shutdown(busy, WEALD_FOREVER), 0);
    CHECK_EQ(weald_workers_join(workers, WEALD_FOREVER), 0);
}

TEST(no_signal_is_waited_for_without_memory)
{
    int usr1 = SIGUSR1;

    CHECK_EQ(weald_signal_wait(&usr1, 1, WEALD_NOW), WEALD_EAGAIN); /* it is caught now */
    starve();
    CHECK_EQ(weald_signal_wait(&usr1, 1, soon()), WEALD_ENOMEM);
    feed();
}

TEST(no_handler_for_the_end_is_set_without_memory)
{
    int taken = 0;

    CHECK_GT(weald_self(), 0);
    while (taken >= 0 && taken < 1000) /* the higher a descriptor, the more memory it takes to wait for it */
        taken = dup(0);
    CHECK_GE(taken, 1000);
    starve();
    CHECK_EQ(weald_on_terminate(call, NULL), WEALD_ENOMEM);
    feed();
    CHECK_EQ(weald_on_terminate(call, NULL), 0);
}
