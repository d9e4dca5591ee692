/* Storms: greenlets that put, get, acquire and release at random, and are killed, interrupted and timed out at random
 * while they do. However it went: puts = gets + left + destroyed, and every permit and lock is back in the end.
 *
 * Each storm is drawn from a seed, which is printed; WEALD_TEST_SEED=n makes all of them draw from that one. Two million
 * operations in all. What the clock decides is not repeated exactly; most of a schedule is.
 */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- chance ---- */

static __thread uint64_t noise;

static void begin_with(uint64_t seed)
{
    const char *given = getenv("WEALD_TEST_SEED");

    if (given)
        seed = strtoull(given, NULL, 0);
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    noise = seed * 0x9E3779B97F4A7C15u | 1;
}

static unsigned below(unsigned n)
{
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return (unsigned)((noise >> 20) % n);
}

/* Most calls wait for ever, some not at all, some a little. */
static int64_t some_deadline(void)
{
    switch (below(6)) {
    case 0: return WEALD_NOW;
    case 1: return weald_after(WEALD_US(below(30)));
    case 2: return weald_now() - 1;
    default: return WEALD_FOREVER;
    }
}

/* ---- greenlets that are tormented ---- */

enum { WORKERS = 24 };

static weald_greenlet workers[WORKERS];
static __thread long operations;

/* What a call may return in a storm besides 0; on `stop` the worker is to end. */
static void check_code(int code, int *stop)
{
    switch (code) {
    case 0:
    case WEALD_EAGAIN:
    case WEALD_ETIMEDOUT:
    case WEALD_EINTR: return;
    case WEALD_ECANCELED:
    case WEALD_EPIPE:
    case WEALD_EBADF: *stop = 1; return;
    default: test_values(__FILE__, __LINE__, "a code that can come in a storm", code, 0);
    }
}

static void torment(weald_fn body)
{
    unsigned victim = below(WORKERS);

    switch (below(8)) {
    case 0: CHECK_EQ(weald_kill(workers[victim], 0, WEALD_NOW), 0); break;
    case 1: {
        int code = weald_interrupt(workers[victim], WEALD_EINTR);
        CHECK(code == 0 || code == WEALD_EALREADY);
        break;
    }
    case 2: /* several at once, some of which have something in hand */
        for (int i = 0; i < 4; i++)
            CHECK_EQ(weald_kill(workers[below(WORKERS)], 0, WEALD_NOW), 0);
        break;
    case 3: CHECK_EQ(weald_sleep(WEALD_US(below(40))), 0); break;
    default: CHECK_EQ(weald_yield(), 0); break;
    }
    for (int i = 0; i < WORKERS; i++)
        if (weald_dead(workers[i])) {
            CHECK_EQ(weald_close(workers[i]), 0);
            workers[i] = weald_spawn(body, NULL);
            CHECK_GT(workers[i], 0);
        }
}

static void start_workers(weald_fn body)
{
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = weald_spawn(body, NULL);
        CHECK_GT(workers[i], 0);
    }
}

static void end_workers(void)
{
    CHECK_EQ(weald_killall(workers, WORKERS, 0, WEALD_FOREVER), 0);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQ(weald_close(workers[i]), 0);
}

/* ---- queues ---- */

enum { TOKENS = 4096 };

/* A token is either with the program (0) or on its way through the queue (1), never twice. */
static atomic_int inside[TOKENS];
static atomic_long puts_done, gets_done, destroyed;
static __thread int spare[TOKENS], spares; /* tokens that this thread may put */
static weald_queue queue;
static int threaded; /* what we look at may be gone already */

static void give_spares(int from, int to)
{
    spares = 0;
    for (int i = from; i < to; i++)
        spare[spares++] = i;
}

static int token_of(void *item)
{
    intptr_t token = (intptr_t)item - 1;

    CHECK_GE(token, 0);
    CHECK_LT(token, TOKENS);
    return (int)token;
}

static void took_out(void *item)
{
    int token = token_of(item);

    CHECK_EQ(atomic_exchange(&inside[token], 0), 1); /* it was in, once */
    spare[spares++] = token;
}

static void destroy(void *item)
{
    took_out(item);
    atomic_fetch_add(&destroyed, 1);
}

static int by_number(const void *a, const void *b)
{
    intptr_t x = (intptr_t)a % 17, y = (intptr_t)b % 17; /* many are equal */
    return (x > y) - (x < y);
}

static int storm_put(void)
{
    int token, code;

    if (spares == 0)
        return 0;
    token = spare[--spares];
    CHECK_EQ(atomic_exchange(&inside[token], 1), 0);
    code = weald_queue_put(queue, (void *)(intptr_t)(token + 1), some_deadline());
    if (code == 0) {
        atomic_fetch_add(&puts_done, 1);
    } else {
        CHECK_EQ(atomic_exchange(&inside[token], 0), 1); /* a put that fails leaves it with us */
        spare[spares++] = token;
    }
    return code;
}

static int storm_get(void)
{
    void *item = NULL;
    int code = weald_queue_get(queue, &item, some_deadline());

    if (code == 0) {
        took_out(item);
        atomic_fetch_add(&gets_done, 1);
    }
    return code;
}

static int storm_watch(void)
{
    weald_wait_item item;
    void *seen = NULL;
    int64_t code;

    if (below(2)) {
        int peeked = weald_queue_peek(queue, &seen, some_deadline());
        if (peeked == 0 && !threaded)
            CHECK_EQ(inside[token_of(seen)], 1);
        return peeked;
    }
    memset(&item, 0, sizeof item);
    item.object = queue;
    code = weald_wait(&item, 1, 1, some_deadline());
    return code == 1 ? 0 : (int)code;
}

static void *put_and_get(void *arg)
{
    int stop = 0;

    for (int i = 20 + (int)below(60); i > 0 && !stop; i--) {
        switch (below(10)) {
        case 0: check_code(weald_yield(), &stop); break;
        case 1: check_code(storm_watch(), &stop); break;
        case 2:
        case 3:
        case 4:
        case 5: check_code(storm_put(), &stop); break;
        default: check_code(storm_get(), &stop); break;
        }
        operations++;
    }
    return arg;
}

static weald_queue some_queue(int shared)
{
    static const size_t capacities[] = {0, 1, 3, 10, WEALD_UNBOUNDED};
    size_t capacity = capacities[below(5)];
    int flags = shared ? WEALD_SHARED : 0;
    weald_queue made;

    if (below(3) == 0)
        made = weald_priority_queue_new(flags, capacity, by_number, destroy);
    else
        made = weald_queue_new(flags | (below(2) ? WEALD_LIFO : WEALD_FIFO), capacity, destroy);
    CHECK_GT(made, 0);
    return made;
}

/* A storm over one queue after the other, each closed in the middle of it. */
static void queue_storm(int shared, long count)
{
    count = test_rounds(count);
    while (operations < count) {
        puts_done = gets_done = destroyed = 0;
        give_spares(0, TOKENS);
        queue = some_queue(shared);
        start_workers(put_and_get);
        for (int turns = 50 + (int)below(400); turns > 0; turns--)
            torment(put_and_get);
        if (below(3) == 0)
            CHECK_EQ(weald_queue_shut(queue), 0);
        if (below(2)) {
            /* Close it under them: items in hand are got, given back or destroyed. */
            for (int i = 0; i < 3; i++)
                CHECK_EQ(weald_kill(workers[below(WORKERS)], 0, WEALD_NOW), 0);
            CHECK_EQ(weald_close(queue), 0);
            end_workers();
        } else {
            /* Or end them first and see what is left. */
            int64_t left;
            end_workers();
            left = weald_queue_len(queue);
            CHECK_EQ(puts_done, gets_done + left);
            CHECK_EQ(weald_close(queue), 0);
            CHECK_EQ(destroyed, left);
        }
        CHECK_EQ(puts_done, gets_done + destroyed);
        CHECK_EQ(spares, TOKENS);
        for (int i = 0; i < TOKENS; i++)
            CHECK_EQ(inside[i], 0);
    }
}

TEST(queues_conserve_items)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        begin_with(seed);
        operations = 0;
        queue_storm(0, 250000);
    }
}

TEST(shared_queues_conserve_items_in_one_thread)
{
    begin_with(5);
    queue_storm(1, 300000);
}

/* ---- a queue between threads ---- */

enum { THREADS = 3 };

static pthread_barrier_t together;
static uint64_t thread_seed;
static atomic_int over;
static pthread_mutex_t bank = PTHREAD_MUTEX_INITIALIZER;
static int banked[TOKENS], banked_count;

/* Tokens wander from thread to thread: those that gather here are for everybody again. */
static void balance(void)
{
    pthread_mutex_lock(&bank);
    while (spares > 200)
        banked[banked_count++] = spare[--spares];
    while (spares < 50 && banked_count > 0)
        spare[spares++] = banked[--banked_count];
    pthread_mutex_unlock(&bank);
}

static void *in_a_thread(void *number)
{
    weald_greenlet mine[8];

    noise = (thread_seed * 64 + (uint64_t)(intptr_t)number) * 0x9E3779B97F4A7C15u | 1;
    balance();
    for (int i = 0; i < 8; i++)
        mine[i] = weald_spawn(put_and_get, NULL);
    pthread_barrier_wait(&together);
    while (!over) {
        unsigned victim = below(8);
        balance();
        switch (below(6)) {
        case 0: CHECK_EQ(weald_kill(mine[victim], 0, WEALD_NOW), 0); break;
        case 1: (void)weald_interrupt(mine[victim], WEALD_EINTR); break;
        case 2: CHECK_EQ(weald_sleep(WEALD_US(below(60))), 0); break;
        default: CHECK_EQ(weald_yield(), 0); break;
        }
        for (int i = 0; i < 8; i++)
            if (weald_dead(mine[i])) {
                CHECK_EQ(weald_close(mine[i]), 0);
                mine[i] = weald_spawn(put_and_get, NULL);
            }
    }
    CHECK_EQ(weald_killall(mine, 8, 0, WEALD_FOREVER), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(weald_close(mine[i]), 0);
    while (spares > 0) {
        pthread_mutex_lock(&bank);
        banked[banked_count++] = spare[--spares];
        pthread_mutex_unlock(&bank);
    }
    return NULL;
}

TEST(a_queue_between_threads_conserves_items)
{
    long rounds = test_rounds(150);

    begin_with(6);
    threaded = 1;
    for (int i = 0; i < TOKENS; i++)
        banked[banked_count++] = i;
    for (long round = 0; round < rounds; round++) {
        pthread_t threads[THREADS];
        int close_it = (int)below(2);
        thread_seed = noise;
        puts_done = gets_done = destroyed = over = 0;
        queue = some_queue(1);
        pthread_barrier_init(&together, NULL, THREADS + 1);
        for (intptr_t i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, in_a_thread, (void *)i), 0);
        pthread_barrier_wait(&together);
        usleep(500 + below(4000));
        if (below(3) == 0)
            CHECK_EQ(weald_queue_shut(queue), 0);
        if (close_it)
            CHECK_EQ(weald_close(queue), 0);
        over = 1;
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        if (!close_it) {
            CHECK_EQ(puts_done, gets_done + weald_queue_len(queue));
            CHECK_EQ(weald_close(queue), 0);
        }
        while (spares > 0)
            banked[banked_count++] = spare[--spares];
        CHECK_EQ(puts_done, gets_done + destroyed);
        CHECK_EQ(banked_count, TOKENS);
        pthread_barrier_destroy(&together);
    }
}

/* ---- semaphores ---- */

static weald_semaphore sem;
static int permits, holders;

static void *acquire_and_release(void *arg)
{
    int stop = 0;

    for (int i = 20 + (int)below(60); i > 0 && !stop; i--) {
        int code = weald_semaphore_acquire(sem, some_deadline());
        operations++;
        if (code == 0) {
            holders++;
            CHECK_LE(holders, permits);
            if (below(2))
                check_code(weald_yield(), &stop); /* may be killed here, and releases all the same */
            holders--;
            CHECK_EQ(weald_semaphore_release(sem), 0);
            operations++;
        } else {
            check_code(code, &stop);
            if (code == WEALD_EAGAIN || below(8) == 0)
                check_code(weald_yield(), &stop);
        }
    }
    return arg;
}

TEST(semaphores_conserve_permits)
{
    long count = test_rounds(300000);

    begin_with(7);
    while (operations < count) {
        permits = 1 + (int)below(5);
        sem = weald_bounded_semaphore_new(permits);
        start_workers(acquire_and_release);
        for (int turns = 50 + (int)below(400); turns > 0; turns--)
            torment(acquire_and_release);
        end_workers();
        CHECK_EQ(holders, 0);
        CHECK_EQ(weald_semaphore_count(sem), permits);
        CHECK_EQ(weald_semaphore_release(sem), WEALD_EOVERFLOW);
        CHECK_EQ(weald_close(sem), 0);
    }
}

/* ---- locks and conditions ---- */

static weald_lock lock;
static weald_condition cond;
static int owners;

static void *lock_and_wait(void *arg)
{
    int stop = 0;

    for (int i = 20 + (int)below(60); i > 0 && !stop; i--) {
        int code = weald_lock_acquire(lock, some_deadline());
        operations++;
        if (code != 0) {
            check_code(code, &stop);
            if (code == WEALD_EAGAIN)
                check_code(weald_yield(), &stop);
            continue;
        }
        CHECK_EQ(++owners, 1);
        switch (below(5)) {
        case 0: check_code(weald_yield(), &stop); break;
        case 1:
        case 2:
            owners--;
            code = weald_condition_wait(cond, lock, some_deadline());
            CHECK_EQ(++owners, 1); /* held again, however the wait ended */
            check_code(code, &stop);
            operations++;
            break;
        case 3: CHECK_GE(weald_condition_notify(cond, 1 + below(3)), 0); break;
        case 4: CHECK_GE(weald_condition_notify_all(cond), 0); break;
        }
        owners--;
        CHECK_EQ(weald_lock_release(lock), 0);
        operations++;
    }
    return arg;
}

TEST(locks_and_conditions_have_one_owner_and_end_free)
{
    long count = test_rounds(300000);

    begin_with(8);
    while (operations < count) {
        lock = below(2) ? weald_lock_new() : weald_rlock_new();
        cond = weald_condition_new();
        start_workers(lock_and_wait);
        for (int turns = 50 + (int)below(400); turns > 0; turns--) {
            torment(lock_and_wait);
            if (below(4) == 0)
                CHECK_GE(weald_condition_notify(cond, 1), 0);
        }
        end_workers();
        CHECK_EQ(owners, 0);
        CHECK_EQ(weald_lock_held(lock), 0);
        CHECK_EQ(weald_condition_notify_all(cond), 0);
        CHECK_EQ(weald_close(cond), 0);
        CHECK_EQ(weald_close(lock), 0);
    }
}

/* ---- read-write locks ---- */

static weald_rwlock rw;
static int readers, writers;

static void *read_and_write(void *arg)
{
    int stop = 0;

    for (int i = 20 + (int)below(60); i > 0 && !stop; i--) {
        int write = below(3) == 0;
        int code = (write ? weald_rwlock_write : weald_rwlock_read)(rw, some_deadline());
        operations++;
        if (code != 0) {
            check_code(code, &stop);
            if (code == WEALD_EAGAIN)
                check_code(weald_yield(), &stop);
            continue;
        }
        *(write ? &writers : &readers) += 1;
        CHECK(writers == 0 || (writers == 1 && readers == 0));
        if (below(2))
            check_code(weald_yield(), &stop);
        *(write ? &writers : &readers) -= 1;
        CHECK_EQ(weald_rwlock_release(rw), 0);
        operations++;
    }
    return arg;
}

TEST(read_write_locks_keep_writers_alone_and_end_free)
{
    long count = test_rounds(300000);

    begin_with(9);
    while (operations < count) {
        rw = weald_rwlock_new();
        start_workers(read_and_write);
        for (int turns = 50 + (int)below(400); turns > 0; turns--)
            torment(read_and_write);
        end_workers();
        CHECK_EQ(readers + writers, 0);
        CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
        CHECK_EQ(weald_rwlock_release(rw), 0);
        CHECK_EQ(weald_close(rw), 0);
    }
}

/* ---- barriers ---- */

static weald_barrier barrier;
static long firsts, lasts;

static void *meet(void *arg)
{
    int stop = 0;

    for (int i = 20 + (int)below(60); i > 0 && !stop; i--) {
        int code = weald_barrier_wait(barrier, some_deadline());
        operations++;
        lasts += code == 1;
        firsts += code == 0;
        if (code == WEALD_EPIPE) {
            if (below(4) == 0)
                CHECK_EQ(weald_barrier_reset(barrier), 0);
            check_code(weald_yield(), &stop);
        } else if (code != 1) {
            check_code(code, &stop);
            if (code == WEALD_EAGAIN)
                check_code(weald_yield(), &stop);
        }
    }
    return arg;
}

TEST(barriers_never_open_with_a_party_missing)
{
    long count = test_rounds(200000);

    begin_with(10);
    while (operations < count) {
        long parties = 2 + below(5);
        firsts = lasts = 0;
        barrier = weald_barrier_new((size_t)parties);
        start_workers(meet);
        for (int turns = 50 + (int)below(400); turns > 0; turns--)
            torment(meet);
        end_workers();
        /* One last a round; of the others those that were killed after the meeting heard something else. */
        CHECK_LE(firsts, lasts * (parties - 1));
        CHECK_EQ(weald_barrier_reset(barrier), 0);
        for (long i = 1; i < parties; i++)
            CHECK_EQ(weald_barrier_wait(barrier, WEALD_NOW), WEALD_EAGAIN); /* nobody is counted who is not there */
        CHECK_EQ(weald_close(barrier), 0);
    }
}

/* ---- pools ---- */

static weald_group pool;
static int pool_size, members;

static void *be_a_member(void *arg)
{
    CHECK_LE(++members, pool_size);
    for (unsigned i = below(4); i > 0; i--)
        (void)weald_yield();
    members--;
    return arg;
}

static void *spawn_members(void *arg)
{
    int stop = 0;

    for (int i = 10 + (int)below(30); i > 0 && !stop; i--) {
        weald_greenlet g;
        operations++;
        switch (below(4)) {
        case 0: g = weald_pool_try_spawn(pool, be_a_member, NULL); break;
        case 1: check_code(weald_pool_wait_available(pool, some_deadline()), &stop); continue;
        default: g = weald_group_spawn(pool, be_a_member, NULL); break;
        }
        if (g > 0) {
            if (below(6) == 0)
                CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
            CHECK_EQ(weald_close(g), 0);
        } else {
            check_code((int)g, &stop);
            check_code(weald_yield(), &stop);
        }
    }
    return arg;
}

TEST(pools_conserve_room)
{
    long count = test_rounds(200000);

    begin_with(11);
    while (operations < count) {
        pool_size = 1 + (int)below(6);
        pool = weald_pool_new((size_t)pool_size);
        start_workers(spawn_members);
        for (int turns = 50 + (int)below(300); turns > 0; turns--) {
            torment(spawn_members);
            CHECK_LE(weald_group_len(pool), pool_size);
            if (below(50) == 0)
                CHECK_EQ(weald_group_kill(pool, 0, below(2) ? WEALD_NOW : WEALD_FOREVER), 0);
        }
        end_workers();
        CHECK_EQ(weald_group_join(pool, WEALD_FOREVER), 0);
        CHECK_EQ(members, 0);
        CHECK_EQ(weald_pool_free_count(pool), pool_size);
        CHECK_EQ(weald_close(pool), 0);
    }
}

/* ---- imap ---- */

static int given, done_once[1000];

static int give_number(void **item, void *last)
{
    if (given == *(int *)last)
        return 0;
    if (below(10) == 0)
        (void)weald_yield();
    *item = (void *)(intptr_t)++given;
    return 1;
}

static int maybe_fail(void *item, void **out, void *user)
{
    (void)user;
    for (unsigned i = below(5); i > 0; i--)
        if (weald_yield() == WEALD_ECANCELED)
            return WEALD_ECANCELED;
    *out = item;
    return below(5) ? 0 : -4711;
}

TEST(imap_gives_each_item_one_outcome)
{
    long count = test_rounds(100000);

    begin_with(12);
    while (operations < count) {
        int last = (int)below(200), outcomes = 0, maxsize = (int)below(5), ordered = (int)below(2), previous = 0;
        int kills = 0;
        weald_handle it;
        void *out;
        given = 0;
        memset(done_once, 0, sizeof done_once);
        pool = below(2) ? weald_pool_new(1 + below(4)) : weald_group_new();
        it = (ordered ? weald_group_imap : weald_group_imap_unordered)(pool, maybe_fail, NULL, give_number, &last,
                                                                       (size_t)maxsize);
        for (;;) {
            int item_code = 0, code = weald_imap_next(it, &out, &item_code, some_deadline());
            operations++;
            if (maxsize)
                CHECK_LE(given, outcomes + 1 + maxsize);
            if (code == 0)
                break;
            if (code == WEALD_EAGAIN || code == WEALD_ETIMEDOUT) {
                CHECK_EQ(weald_yield(), 0);
                if (below(30) == 0) {
                    CHECK_EQ(weald_group_kill(pool, 0, WEALD_NOW), 0);
                    kills++;
                }
                continue;
            }
            outcomes++;
            if (code == 1) {
                CHECK_EQ(done_once[(intptr_t)out]++, 0);
                if (ordered)
                    CHECK_GT((intptr_t)out, previous);
                previous = (int)(intptr_t)out;
            } else {
                CHECK_EQ(item_code, code);
                CHECK(code == -4711 || (code == WEALD_ECANCELED && kills));
            }
            if (below(400) == 0) { /* close it in the middle */
                last = given;
                outcomes = last;
                break;
            }
        }
        CHECK_EQ(outcomes, last);
        CHECK_EQ(weald_close(it), 0);
        CHECK_EQ(weald_group_join(pool, WEALD_FOREVER), 0);
        CHECK_EQ(weald_yield(), 0); /* the feeder notices */
        CHECK_EQ(weald_close(pool), 0);
    }
}
