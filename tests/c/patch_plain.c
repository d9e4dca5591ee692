/* Reliability no. 45: a patched call that no greenlet makes is the C library's, as if nothing had been patched: before
 * the library is used, on other threads, in constructors and destructors, in signal handlers, in the loop, in a child. */
#include "test.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static int ends[2];
static volatile int others_ran;

static void patch_program(void) { CHECK_GT(weald_patch_all(0), 0); }

static void *runs(void *unused)
{
    others_ran++;
    return unused;
}

/* A greenlet that is ready, and runs as soon as somebody parks. */
static weald_greenlet somebody(void)
{
    weald_greenlet g = weald_spawn(runs, NULL);

    CHECK_GT(g, 0);
    others_ran = 0;
    return g;
}

static void writes_after(int fd, int ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    syscall(SYS_nanosleep, &time, NULL);
    CHECK_EQ(write(fd, "x", 1), 1);
}

static void *writes_soon(void *fd)
{
    writes_after((int)(intptr_t)fd, 20);
    return NULL;
}

static pthread_t writer(void)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, writes_soon, (void *)(intptr_t)ends[1]), 0);
    return thread;
}

static void nothing(int signo) { (void)signo; }

static void *volatile nowhere = (void *)8;

/* Everything that tells the C library's call from ours: it blocks, it is interrupted, it fails alike. */
static void calls_are_plain(void)
{
    struct sigaction action;
    pthread_t thread;
    char c;

    CHECK_EQ(read(-1, &c, 1), -1);
    CHECK_EQ(errno, EBADF);
    if (!*test_under()) { /* checkers say that this is wrong */
        CHECK_EQ(poll((struct pollfd *)nowhere, 1, 0), -1);
        CHECK_EQ(errno, EFAULT);
        CHECK_EQ(write(ends[1], (char *)nowhere, 1), -1);
        CHECK_EQ(errno, EFAULT);
    }
    thread = writer();
    CHECK_EQ(read(ends[0], &c, 1), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    memset(&action, 0, sizeof action);
    action.sa_handler = nothing;
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    CHECK_EQ(read(ends[0], &c, 1), -1);
    CHECK_EQ(errno, EINTR);
    alarm(1);
    CHECK_LT(sleep(100), 100); /* what was left */
}

TEST(before_the_first_call_of_weald)
{
    CHECK_EQ(pipe(ends), 0);
    patch_program();
    calls_are_plain();
}

static void *lives_without_weald(void *unused)
{
    sigset_t set;

    sigemptyset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    calls_are_plain();
    return unused;
}

TEST(on_a_thread_that_has_no_hub)
{
    pthread_t thread;
    sigset_t set;

    CHECK_EQ(pipe(ends), 0);
    CHECK_GT(weald_self(), 0);
    patch_program();
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* it is for the other one */
    CHECK_EQ(pthread_create(&thread, NULL, lives_without_weald, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void *waits_for_ever(void *unused)
{
    char c;

    CHECK_EQ(read(ends[0], &c, 1), 1); /* never */
    return unused;
}

TEST(a_thread_in_a_patched_call_can_be_cancelled)
{
    pthread_t thread;
    void *how;

    CHECK_EQ(pipe(ends), 0);
    patch_program();
    CHECK_EQ(pthread_create(&thread, NULL, waits_for_ever, NULL), 0);
    usleep(10000);
    CHECK_EQ(pthread_cancel(thread), 0);
    CHECK_EQ(pthread_join(thread, &how), 0);
    CHECK_PTR(how, PTHREAD_CANCELED);
}

TEST(after_the_hub_has_been_shut_down)
{
    CHECK_EQ(pipe(ends), 0);
    patch_program();
    CHECK_GT(weald_self(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    calls_are_plain();
}

/* ---- in signal handlers ---- */

static volatile int handled;

static void handler(int signo)
{
    char c;

    (void)signo;
    CHECK_EQ(poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, -1), 1);
    CHECK_EQ(read(ends[0], &c, 1), 1);
    CHECK_EQ(others_ran, 0);
    usleep(1000);
    CHECK_EQ(others_ran, 0);
    handled++;
}

static char signal_stack[65536];

static void handle_with(int flags)
{
    struct sigaction action;
    stack_t stack;

    memset(&stack, 0, sizeof stack);
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    if (flags & SA_ONSTACK)
        CHECK_EQ(sigaltstack(&stack, NULL), 0);
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

static void *interrupted(void *unused)
{
    pthread_t thread = writer();
    weald_greenlet g = somebody();

    handled = 0;
    raise(SIGUSR1);
    CHECK_EQ(handled, 1);
    CHECK_EQ(others_ran, 0);
    /* And what was interrupted goes on to be a greenlet. */
    CHECK_EQ(usleep(1), 0);
    CHECK_EQ(others_ran, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(g), 0);
    return unused;
}

static void in_main_and_in_a_greenlet(weald_fn body)
{
    weald_greenlet g;

    body(NULL);
    CHECK_GT(g = weald_spawn(body, NULL), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(in_a_signal_handler)
{
    static const int flags[] = {0, SA_RESTART, SA_ONSTACK, SA_SIGINFO};

    CHECK_EQ(pipe(ends), 0);
    CHECK_GT(weald_self(), 0);
    patch_program();
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        handle_with(flags[i]);
        in_main_and_in_a_greenlet(interrupted);
    }
}

static void *raises(void *unused)
{
    writes_after(ends[1], 5);
    CHECK_EQ(kill(getpid(), SIGUSR1), 0);
    return unused;
}

static void *blocked_elsewhere(void *thread)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return raises(thread);
}

TEST(in_a_signal_handler_that_interrupts_the_loop)
{
    pthread_t thread;

    CHECK_EQ(pipe(ends), 0);
    CHECK_GT(weald_self(), 0);
    patch_program();
    handle_with(0);
    for (int i = 0; i < 20; i++) {
        handled = others_ran = 0;
        CHECK_EQ(pthread_create(&thread, NULL, blocked_elsewhere, NULL), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(15)), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(handled, 1);
    }
}

/* Signals that are blocked, with a handler or without, make nobody a handler. */
static void *parks_with_signals_blocked(void *unused)
{
    weald_greenlet g;
    sigset_t set, before;

    sigfillset(&set);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, &before), 0);
    g = somebody();
    CHECK_EQ(usleep(1), 0);
    CHECK_EQ(others_ran, 1);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    return unused;
}

TEST(blocked_signals_do_not_keep_a_greenlet_from_parking)
{
    CHECK_EQ(pipe(ends), 0);
    CHECK_GT(weald_self(), 0);
    patch_program();
    handle_with(0);
    in_main_and_in_a_greenlet(parks_with_signals_blocked);
    /* After a handler has run, whose frame is still below. */
    in_main_and_in_a_greenlet(interrupted);
    in_main_and_in_a_greenlet(parks_with_signals_blocked);
}

/* ---- in the loop ---- */

static void in_the_loop(void *unused)
{
    (void)unused;
    others_ran = 0;
    CHECK_EQ(usleep(1000), 0);
    CHECK_EQ(poll(NULL, 0, 1), 0);
    CHECK_EQ(others_ran, 0);
    handled++;
}

TEST(in_a_callback_of_the_loop)
{
    weald_handle hub = weald_hub();
    weald_greenlet g;

    patch_program();
    CHECK_EQ(weald_post(hub, in_the_loop, NULL), 0);
    g = somebody();
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(handled, 1);
}

static int may_not_park(void) { return 0; }

TEST(where_a_binding_forbids_to_park)
{
    weald_hooks hooks;
    weald_greenlet g;
    pthread_t thread;
    char c;

    CHECK_EQ(pipe(ends), 0);
    patch_program();
    g = somebody();
    memset(&hooks, 0, sizeof hooks);
    hooks.size = sizeof hooks;
    hooks.may_park = may_not_park;
    CHECK_EQ(weald_set_hooks(&hooks), 0);
    thread = writer();
    CHECK_EQ(read(ends[0], &c, 1), 1);
    CHECK_EQ(usleep(1000), 0);
    CHECK_EQ(others_ran, 0);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(usleep(1000), 0);
    CHECK_EQ(others_ran, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(g), 0);
}

/* ---- in constructors ---- */

/* In the program, so it is patched when the library is constructed. */
static ssize_t reads_for_others(int fd, void *at, size_t len)
{
    ssize_t n = read(fd, at, len);
    return n;
}

static void *loads(void *unused)
{
    const char *folder = getenv("WEALD_PLUGINS");
    char path[PATH_MAX], number[12], by[20];
    weald_greenlet g = somebody();
    pthread_t thread = writer();
    ssize_t (*got)(void);
    void *library;

    snprintf(path, sizeof path, "%s/constructing.so", folder);
    snprintf(number, sizeof number, "%d", ends[0]);
    snprintf(by, sizeof by, "%llx", (unsigned long long)(uintptr_t)reads_for_others);
    setenv("CONSTRUCTING_FD", number, 1);
    setenv("CONSTRUCTING_BY", by, 1);
    CHECK((library = dlopen(path, RTLD_LAZY)) != NULL);
    CHECK_EQ(others_ran, 0);
    CHECK((*(void **)&got = dlsym(library, "constructing_got")) != NULL);
    CHECK_EQ(got(), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    thread = writer();
    CHECK_EQ(dlclose(library), 0);
    CHECK_EQ(others_ran, 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    /* And it is over when it is over. */
    CHECK_EQ(usleep(1), 0);
    CHECK_EQ(others_ran, 1);
    CHECK_EQ(weald_close(g), 0);
    return unused;
}

TEST(in_constructors_and_destructors)
{
    if (!getenv("WEALD_PLUGINS"))
        SKIP("needs WEALD_PLUGINS, which tests/run.py sets");
    CHECK_EQ(pipe(ends), 0);
    CHECK_GT(weald_self(), 0);
    patch_program();
    for (int i = 0; i < 3; i++)
        in_main_and_in_a_greenlet(loads);
}

/* ---- and in a child ---- */

static void *forks(void *unused)
{
    int status;
    char c;
    pid_t child;

    CHECK_EQ(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        weald_greenlet g = somebody();

        CHECK_EQ(usleep(1), 0); /* patched as ever */
        CHECK_EQ(others_ran, 1);
        CHECK_EQ(weald_close(g), 0);
        CHECK_GT(weald_patch_update(), 0);
        CHECK_EQ(write(ends[1], "x", 1), 1);
        CHECK_GT(weald_unpatch(), 0);
        _exit(0);
    }
    CHECK_GT(child, 0);
    CHECK_EQ(read(ends[0], &c, 1), 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    return unused;
}

TEST(in_a_forked_child)
{
    CHECK_GT(weald_self(), 0);
    patch_program();
    in_main_and_in_a_greenlet(forks);
    CHECK_GT(weald_unpatch(), 0);
}

/* ---- while others load, unload, fork and patch ---- */

static volatile int over;
static int null_fd;

static void *loads_and_unloads(void *name)
{
    const char *folder = getenv("WEALD_PLUGINS");
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s.so", folder, (const char *)name);
    while (!over) {
        void *library = dlopen(path, RTLD_NOW);
        int (*blocks)(int, int);

        CHECK(library != NULL);
        CHECK((*(void **)&blocks = dlsym(library, "blocking_poll")) != NULL);
        CHECK_EQ(blocks(-1, 0), 0);
        CHECK_EQ(dlclose(library), 0);
    }
    return NULL;
}

static void *patches(void *unused)
{
    while (!over) {
        CHECK_GE(weald_patch_all(0), 0);
        CHECK_GE(weald_patch_update(), 0);
        CHECK_GE(weald_unpatch(), 0);
    }
    return unused;
}

static void *forks_on(void *unused)
{
    while (!over) {
        int status;
        pid_t child = fork();

        /* Not weald_patch_update: glibc does not free the lock of the loader's list in a child. */
        if (child == 0)
            _exit(usleep(1) || weald_patch_report(null_fd) < 0);
        CHECK_GT(child, 0);
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
    return unused;
}

TEST(while_libraries_come_and_go_and_the_process_forks)
{
    pthread_t threads[5];

    if (!getenv("WEALD_PLUGINS"))
        SKIP("needs WEALD_PLUGINS, which tests/run.py sets");
    CHECK_GE(null_fd = open("/dev/null", O_WRONLY), 0);
    CHECK_EQ(pthread_create(&threads[0], NULL, loads_and_unloads, (void *)"blocking_lazy"), 0);
    CHECK_EQ(pthread_create(&threads[1], NULL, loads_and_unloads, (void *)"blocking_now"), 0);
    CHECK_EQ(pthread_create(&threads[2], NULL, patches, NULL), 0);
    CHECK_EQ(pthread_create(&threads[3], NULL, patches, NULL), 0);
    CHECK_EQ(pthread_create(&threads[4], NULL, forks_on, NULL), 0);
    CHECK_EQ(weald_sleep(WEALD_SEC(1)), 0);
    over = 1;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}
