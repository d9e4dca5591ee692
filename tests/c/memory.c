/* malloc that fails: once, in every place, or for ever. The library's calls of it come here. */
#include "test.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sys/socket.h>

/* 0: none fails; n: the n-th fails; -1: all fail. */
static volatile int countdown;

static void needs_our_malloc(void)
{
    if (*test_under())
        SKIP("the checker has a malloc of its own");
}

#ifndef __SANITIZE_ADDRESS__
static int fails(void)
{
    int left = countdown;

    if (left > 0)
        countdown = --left;
    else if (left == 0)
        return 0;
    if (left > 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

#define REAL(name, type) static type real; if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

typedef void *(*malloc_fn)(size_t);
void *malloc(size_t size)
{
    REAL("malloc", malloc_fn);
    return fails() ? NULL : real(size);
}

typedef void *(*two_sizes_fn)(size_t, size_t);
void *calloc(size_t n, size_t size)
{
    REAL("calloc", two_sizes_fn);
    return fails() ? NULL : real(n, size);
}

typedef void *(*realloc_fn)(void *, size_t);
void *realloc(void *at, size_t size)
{
    REAL("realloc", realloc_fn);
    return fails() ? NULL : real(at, size);
}

typedef int (*memalign_fn)(void **, size_t, size_t);
int posix_memalign(void **at, size_t align, size_t size)
{
    REAL("posix_memalign", memalign_fn);
    return fails() ? ENOMEM : real(at, align, size);
}
#endif

/* ---- once, in every place ---- */

static weald_handle made[16];
static int made_count, ends[2];

/* A negative code ends the scenario. */
#define TRY(call)                                                                 \
    do {                                                                          \
        int64_t result_ = (call);                                                 \
        if (result_ < 0)                                                          \
            return (int)result_;                                                  \
    } while (0)

/* As above; the handle is closed at the end. */
#define MAKE(call)                                                                \
    do {                                                                          \
        TRY(made[made_count] = (call));                                           \
        made_count++;                                                             \
    } while (0)

static void *yields(void *arg)
{
    weald_yield();
    return arg;
}
static void *sleeps_on(void *unused)
{
    weald_sleep(INT64_MAX);
    return unused;
}
static int work(void *item, void **out, void *user)
{
    (void)user;
    *out = item;
    return weald_yield();
}
static int next_of_five(void **item, void *left)
{
    *item = left;
    return (*(int *)left)-- > 0;
}
static void ended(weald_handle g, void *user) { (void)g, (void)user; }
static void called(weald_watcher w, int what, void *user) { (void)w, (void)what, (void)user; }
static void posted(void *user) { (void)user; }
static void ignored(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message, (void)user;
}

static int greenlets(void)
{
    weald_greenlet g;
    void *value;

    for (int i = 0; i < 3; i++)
        MAKE(weald_spawn(yields, &value));
    TRY(weald_set_name(made[0], "a name that takes more than a word or two of memory"));
    TRY(weald_link(made[0], ended, NULL, WEALD_LINK_ALWAYS));
    TRY(weald_get(made[0], &value, WEALD_FOREVER));
    MAKE(weald_iwait(made, 3));
    TRY(weald_iwait_next(made[3], &g, WEALD_FOREVER));
    TRY(weald_killall(made, 3, 0, WEALD_FOREVER));
    return 0;
}

static int objects(void)
{
    MAKE(weald_event_new(0));
    MAKE(weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, NULL));
    for (int i = 0; i < 300; i++)
        TRY(weald_queue_put(made[1], NULL, WEALD_NOW));
    MAKE(weald_result_new(WEALD_SHARED, NULL));
    TRY(weald_result_fail(made[2], WEALD_EPIPE, "a message that takes more than a word of memory"));
    MAKE(weald_local_new(NULL));
    TRY(weald_local_set(made[3], &ends));
    MAKE(weald_timeout_start(WEALD_SEC(1)));
    TRY(weald_sleep(1000));
    MAKE(weald_hub());
    TRY(weald_post(made[5], posted, NULL));
    return 0;
}

static int waits_for_many(void)
{
    weald_wait_item items[100];

    memset(items, 0, sizeof items);
    MAKE(weald_event_new(0));
    MAKE(weald_queue_new(WEALD_FIFO, 1, NULL));
    TRY(weald_queue_put(made[1], NULL, WEALD_NOW));
    for (int i = 0; i < 100; i++)
        items[i].object = made[i == 99];
    TRY(weald_wait(items, 100, 1, weald_after(WEALD_SEC(1))));
    return 0;
}

static int pools(void)
{
    void *items[5] = {NULL}, *outs[5];
    int left = 5;

    MAKE(weald_pool_new(2));
    TRY(weald_group_map(made[0], work, NULL, items, 5, outs, NULL, WEALD_FOREVER));
    MAKE(weald_group_imap(made[0], work, NULL, next_of_five, &left, 2));
    int code = 1;
    while (code == 1)
        code = weald_imap_next(made[1], outs, NULL, WEALD_FOREVER);
    weald_close(made[--made_count]);
    weald_run(weald_after(WEALD_SEC(1))); /* before `left` goes */
    return code;
}

static int watchers(void)
{
    MAKE(weald_timer_watcher(1, 0, called, NULL));
    TRY(weald_watcher_start(made[0]));
    MAKE(weald_io_watcher(ends[0], WEALD_READ, called, NULL));
    TRY(weald_watcher_start(made[1]));
    MAKE(weald_stat_watcher("/", 0, called, NULL));
    TRY(weald_watcher_start(made[2]));
    MAKE(weald_signal_watcher(SIGUSR1, called, NULL));
    TRY(weald_watcher_start(made[3]));
    return 0;
}

static int streams(void)
{
    weald_stream_options borrows = {.size = sizeof borrows, .flags = WEALD_STREAM_BORROWS};
    const char *line;

    MAKE(weald_stream_new(ends[0], &borrows));
    MAKE(weald_stream_new(ends[1], &borrows));
    TRY(weald_stream_write(made[0], "line\n", 5, NULL, WEALD_FOREVER));
    TRY(weald_stream_flush(made[0], WEALD_FOREVER));
    TRY(weald_stream_line(made[1], &line, NULL, 100, weald_after(WEALD_SEC(1))));
    return 0;
}

static int processes(void)
{
    const char *echo[] = {"echo", "elm", NULL};
    weald_process_options options = {.size = sizeof options, .out = WEALD_PIPE};
    weald_process_io io = {.size = sizeof io};
    int code;

    MAKE(weald_process_spawn(echo, &options));
    code = weald_process_communicate(made[0], &io, weald_after(WEALD_SEC(10)));
    if (code == 0)
        weald_free(io.out);
    weald_process_wait(made[0], NULL, weald_after(WEALD_SEC(10)));
    return code;
}

static const struct {
    const char *name;
    int (*body)(void);
} scenarios[] = {{"greenlets", greenlets}, {"objects", objects},   {"waits_for_many", waits_for_many},
                 {"pools", pools},         {"watchers", watchers}, {"streams", streams},
                 {"processes", processes}};

/* Its code, and how many more calls of malloc it would have taken to the one that fails. */
static int run(int (*body)(void), int nth, int *left)
{
    char rest[16];
    int code;

    made_count = 0;
    countdown = nth;
    code = body();
    *left = countdown;
    countdown = 0;
    while (made_count > 0)
        CHECK_EQ(weald_close(made[--made_count]), 0);
    CHECK_EQ(weald_run(weald_after(WEALD_SEC(10))), 0);
    while (recv(ends[1], rest, sizeof rest, MSG_DONTWAIT) > 0) /* what a scenario that was cut short has left */
        ;
    return code;
}

TEST(any_malloc_may_fail_once)
{
    needs_our_malloc();
    CHECK_EQ(weald_set_error_handler(ignored, NULL), 0);
    CHECK_EQ(weald_socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        int left, met = 0;

        CHECK_EQ(run(scenarios[i].body, 0, &left), 0);
        int fds = test_fds();
        uint64_t handles = test_stats().handles;
        for (int nth = 1;; nth++) {
            int code = run(scenarios[i].body, nth, &left);

            if (code != 0 && code != WEALD_ENOMEM)
                printf("%s, malloc number %d: %s\n", scenarios[i].name, nth, weald_strcode(code));
            CHECK(code == 0 || code == WEALD_ENOMEM);
            CHECK_EQ(test_stats().handles, handles);
            CHECK_EQ(test_fds(), fds);
            if (left > 0)
                break;
            met++;
        }
        CHECK_GT(met, 0);
        CHECK_EQ(run(scenarios[i].body, 0, &left), 0);
    }
}

/* ---- for ever ---- */

TEST(without_memory_nothing_is_made_but_what_there_is_works_and_ends)
{
    enum { MOST = 100000 };
    static weald_event events[MOST];
    weald_queue queue = weald_queue_new(WEALD_FIFO, 4, NULL);
    weald_greenlet g[8];
    void *value;
    int n = 0;

    needs_our_malloc();
    for (int i = 0; i < 8; i++)
        CHECK_GT(g[i] = weald_spawn(sleeps_on, &g[i]), 0);
    CHECK_EQ(weald_yield(), 0);
    for (int round = 0; round < 3; round++) {
        weald_event e;

        countdown = -1;
        for (n = 0; n < MOST && (events[n] = weald_event_new(0)) > 0; n++)
            ;
        CHECK_EQ(events[n], WEALD_ENOMEM);
        CHECK_EQ(weald_condition_new(), WEALD_ENOMEM);
        CHECK_EQ(weald_threadpool_submit(0, yields, NULL, NULL), WEALD_ENOMEM);

        CHECK_EQ(weald_queue_put(queue, &n, WEALD_NOW), 0);
        CHECK_EQ(weald_queue_get(queue, &value, WEALD_FOREVER), 0);
        CHECK_EQ(weald_event_wait(events[0], weald_after(WEALD_MS(1))), n > 0 ? WEALD_ETIMEDOUT : WEALD_EBADF);
        CHECK_EQ(weald_kill(g[round], WEALD_EPIPE, WEALD_FOREVER), 0);
        CHECK_EQ(weald_get(g[round], &value, WEALD_NOW), 0);
        CHECK_EQ(weald_link(g[round], ended, NULL, WEALD_LINK_ALWAYS) > 0, 1);
        while (n > 0)
            CHECK_EQ(weald_close(events[--n]), 0);

        countdown = 0;
        CHECK_GT(e = weald_event_new(0), 0);
        CHECK_EQ(weald_close(e), 0);
        CHECK_EQ(weald_yield(), 0);
    }
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(weald_kill(g[i], 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(g[i]), 0);
    }
    CHECK_EQ(weald_close(queue), 0);
}

TEST(without_memory_greenlets_are_enomem_also_when_others_have_all_there_was)
{
    weald_queue large[12];
    weald_greenlet g[100];

    needs_our_malloc();
    for (int i = 0; i < 12; i++)
        CHECK_GT(large[i] = weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, NULL), 0);
    countdown = -1;
    for (int i = 0, code = 0; i < 12; i++, code = 0) {
        while (code == 0)
            code = weald_queue_put(large[i], &g, WEALD_NOW);
        CHECK_EQ(code, WEALD_ENOMEM);
    }
    for (int i = 0; i < 100; i++) { /* records come many at a time, and once there is none left */
        countdown = -1;
        CHECK_EQ(weald_spawn(sleeps_on, &g[i]), WEALD_ENOMEM);
        countdown = 0;
        CHECK_GT(g[i] = weald_spawn(sleeps_on, &g[i]), 0);
        CHECK_EQ(weald_yield(), 0);
    }
    for (int i = 0; i < 12; i++)
        CHECK_EQ(weald_close(large[i]), 0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(weald_kill(g[i], 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(g[i]), 0);
    }
}

static void *makes_a_hub(void *unused)
{
    countdown = -1;
    CHECK_EQ(weald_yield(), WEALD_ENOMEM);
    countdown = 0;
    CHECK_EQ(weald_yield(), 0);
    return unused;
}

TEST(without_memory_a_thread_gets_no_hub)
{
    pthread_t thread;

    needs_our_malloc();
    CHECK_EQ(pthread_create(&thread, NULL, makes_a_hub, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}
