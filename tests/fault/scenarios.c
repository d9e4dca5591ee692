/* One thing each, that must survive any one failing system call; see preload.c and tests/harness/faults.py.
 *
 * MUST(call) accepts an error code only if the fault has just been met, and then wants the same call to succeed. At the
 * end the hub is shut down and as many descriptors are open as before. Exit status 3: passed, and the fault was not met.
 */
#include "test.h"

#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>

enum { NOT_REACHED = 3 };

static void (*fault_arm)(void), (*fault_disarm)(void);
static int (*fault_hit)(void);

static void find_preload(void)
{
    *(void **)&fault_arm = dlsym(RTLD_DEFAULT, "fault_arm");
    *(void **)&fault_disarm = dlsym(RTLD_DEFAULT, "fault_disarm");
    *(void **)&fault_hit = dlsym(RTLD_DEFAULT, "fault_hit");
}

static int hit(void) { return fault_hit && fault_hit(); }

/* The value of `call`, at its second try if the fault met the first. */
#define MUST(call)                                                                \
    __extension__({                                                               \
        int before_ = hit();                                                      \
        int64_t result_ = (call);                                                 \
        if (result_ < 0 && !before_ && hit())                                     \
            result_ = (call);                                                     \
        if (result_ < 0)                                                          \
            test_values(__FILE__, __LINE__, #call " >= 0", result_, 0);           \
        result_;                                                                  \
    })

#define SCENARIO(name)                                                            \
    static void body_##name(void);                                                \
    TEST(name) { around(body_##name); }                                           \
    static void body_##name(void)

static void around(void (*body)(void))
{
    int fds = test_fds();

    find_preload();
    if (fault_arm)
        fault_arm();
    body();
    MUST(weald_hub_shutdown());
    if (fault_disarm)
        fault_disarm();
    /* A thread of the pool may just have a file of /sys open: glibc counts the cores at its first malloc. */
    for (int tries = 0; tries < 100 && test_fds() != fds; tries++)
        usleep(10000);
    CHECK_EQ(test_fds(), fds);
    if (!hit())
        test_leave(NOT_REACHED);
}

static void *give_back(void *arg) { return arg; }

static void *sleep_a_little(void *arg)
{
    MUST(weald_sleep(WEALD_MS(1)));
    return arg;
}

SCENARIO(spawn_one)
{
    void *value = NULL;
    weald_greenlet g = MUST(weald_spawn(give_back, &value));

    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &value);
    CHECK_EQ(weald_close(g), 0);
}

SCENARIO(spawn_many_of_several_sizes)
{
    enum { MANY = 60 };
    static weald_greenlet gs[MANY];

    for (int i = 0; i < MANY; i++) {
        weald_spawn_options options;

        memset(&options, 0, sizeof options);
        options.size = sizeof options;
        options.stack_size = (size_t)(i % 3 == 0 ? 0 : i % 3 == 1 ? 16384 : 1 << 20);
        gs[i] = MUST(weald_spawn_with(sleep_a_little, NULL, &options));
    }
    MUST(weald_joinall(gs, MANY, 0, 0, WEALD_FOREVER));
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

SCENARIO(sleep)
{
    MUST(weald_sleep(WEALD_US(50)));
    MUST(weald_sleep(WEALD_MS(2)));
}

static void *write_one_byte(void *arg)
{
    CHECK_EQ(write(*(int *)arg, "x", 1), 1);
    return NULL;
}

SCENARIO(wait_for_a_pipe)
{
    int ends[2];
    struct pollfd polled;
    weald_greenlet g;

    CHECK_EQ(pipe(ends), 0);
    g = MUST(weald_spawn(write_one_byte, &ends[1]));
    MUST(weald_wait_write(ends[1], weald_after(WEALD_SEC(5))));
    MUST(weald_wait_read(ends[0], weald_after(WEALD_SEC(5))));
    polled.fd = ends[0];
    polled.events = POLLIN;
    polled.revents = 0;
    CHECK_EQ(MUST(weald_poll(&polled, 1, weald_after(WEALD_SEC(5)))), 1);
    MUST(weald_join(g, WEALD_FOREVER));
    CHECK_EQ(weald_close(g), 0);
    close(ends[0]);
    close(ends[1]);
}

static int calls;
static void count_call(weald_handle watcher, int what, void *user)
{
    (void)watcher;
    (void)what;
    (void)user;
    calls++;
}

SCENARIO(watchers)
{
    int ends[2];
    weald_handle io, timer, sig, async;

    CHECK_EQ(pipe(ends), 0);
    io = MUST(weald_io_watcher(ends[1], WEALD_WRITE, count_call, NULL));
    timer = MUST(weald_timer_watcher(WEALD_MS(1), 0, count_call, NULL));
    sig = MUST(weald_signal_watcher(SIGUSR1, count_call, NULL));
    async = MUST(weald_async_watcher(count_call, NULL));
    MUST(weald_watcher_start(io));
    MUST(weald_watcher_start(timer));
    MUST(weald_watcher_start(sig));
    MUST(weald_watcher_start(async));
    raise(SIGUSR1);
    MUST(weald_async_send(async));
    while (calls < 4)
        MUST(weald_sleep(WEALD_MS(2)));
    CHECK_EQ(weald_close(io), 0);
    CHECK_EQ(weald_close(timer), 0);
    CHECK_EQ(weald_close(sig), 0);
    CHECK_EQ(weald_close(async), 0);
    close(ends[0]);
    close(ends[1]);
}

SCENARIO(child_process)
{
    weald_handle child;
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0)
        _exit(7);
    calls = 0;
    child = MUST(weald_child_watcher(pid, count_call, NULL));
    MUST(weald_watcher_start(child));
    while (calls < 1)
        MUST(weald_sleep(WEALD_MS(2)));
    CHECK_EQ(weald_close(child), 0);
}

SCENARIO(offload)
{
    void *value = NULL;

    MUST(weald_offload(0, give_back, &value, &value, weald_after(WEALD_SEC(10))));
    CHECK_PTR(value, &value);
}

SCENARIO(workers)
{
    weald_workers w = MUST(weald_workers_start(3));

    for (size_t i = 0; i < 3; i++)
        MUST(weald_workers_spawn(w, i, give_back, NULL));
    MUST(weald_workers_join(w, weald_after(WEALD_SEC(10))));
    CHECK_EQ(weald_close(w), 0);
}

static void *set_result(void *arg)
{
    weald_handle result = (weald_handle)(intptr_t)arg;

    /* Another thread: its own calls may meet the fault as well. */
    MUST(weald_result_set(result, &calls));
    return NULL;
}

SCENARIO(result_set_by_another_thread)
{
    pthread_t thread;
    void *value = NULL;
    weald_handle result = MUST(weald_result_new(WEALD_SHARED, NULL));

    while (pthread_create(&thread, NULL, set_result, (void *)(intptr_t)result) != 0)
        CHECK(hit());
    MUST(weald_result_get(result, &value, weald_after(WEALD_SEC(10))));
    CHECK_PTR(value, &calls);
    pthread_join(thread, NULL);
    CHECK_EQ(weald_close(result), 0);
}

SCENARIO(signal_wait)
{
    static const int wanted[] = {SIGUSR2};

    CHECK_EQ(weald_signal_wait(wanted, 1, WEALD_NOW) < 0, 1);
    CHECK_EQ(MUST(weald_signal_wait(wanted, 1, weald_after(WEALD_MS(5))) == WEALD_ETIMEDOUT ? 0 : -1), 0);
}

SCENARIO(group_and_pool)
{
    weald_handle pool = MUST(weald_pool_new(2));

    for (int i = 0; i < 10; i++) {
        weald_greenlet g = MUST(weald_group_spawn(pool, sleep_a_little, NULL));

        CHECK_EQ(weald_close(g), 0);
    }
    MUST(weald_group_join(pool, WEALD_FOREVER));
    CHECK_EQ(weald_close(pool), 0);
}

SCENARIO(a_hub_made_again)
{
    MUST(weald_sleep(WEALD_US(10)));
    MUST(weald_hub_fd());
    MUST(weald_run_once(WEALD_RUN_NOWAIT));
}
