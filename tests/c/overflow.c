/* Stack overflow: a clear word on stderr, then the signal does what it would have done. */
#include "test.h"
#include <pthread.h>

static char text[4096];

static void dies_by(int status, int signo)
{
    if (!WIFSIGNALED(status) || WTERMSIG(status) != signo) {
        fprintf(stderr, "wait status %#x, not signal %d; it wrote:\n%s\n", status, signo, text);
        test_leave(TEST_FAILED);
    }
}

static void skip_where_faults_are_watched(void)
{
    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind has a word of its own on overflows");
}

/* Needs so many KiB of stack, and a little. */
__attribute__((noinline)) static int use_stack(long kib)
{
    volatile char block[1024];

    memset((char *)block, (int)kib, sizeof block);
    return kib <= 1 ? block[17] : use_stack(kib - 1) + block[17];
}

static void *overflow(void *arg)
{
    use_stack(1 << 20);
    return arg;
}

static void run_one(const char *name, size_t stack_size, weald_fn fn)
{
    weald_spawn_options o;
    weald_greenlet g;

    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    o.name = name;
    o.stack_size = stack_size;
    g = weald_spawn_with(fn, NULL, &o);
    CHECK_GT(g, 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
}

static void overflow_named(void) { run_one("willow", 0, overflow); }

TEST(an_overflow_names_the_greenlet_its_stack_and_the_option_and_dies_by_sigsegv)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(overflow_named, text, sizeof text), SIGSEGV);
    CHECK_CONTAINS(text, "overflow");
    CHECK_CONTAINS(text, "willow");
    CHECK_CONTAINS(text, "256 KiB");
    CHECK_CONTAINS(text, "stack_size");
}

static void overflow_sized(void) { run_one("willow", 64 * 1024, overflow); }

TEST(the_size_told_is_that_of_its_own_stack)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(overflow_sized, text, sizeof text), SIGSEGV);
    CHECK_CONTAINS(text, "64 KiB");
}

static void overflow_unnamed(void) { run_one(NULL, 0, overflow); }

TEST(one_without_a_name_is_told_by_its_number)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(overflow_unnamed, text, sizeof text), SIGSEGV);
    CHECK_CONTAINS(text, "#1");
}

static void *overflow_in_coroutine(void *first, void *arg)
{
    (void)first;
    return overflow(arg);
}

static void overflow_coroutine(void)
{
    weald_greenlet c = weald_coro_new(overflow_in_coroutine, NULL, 0, NULL);
    CHECK_EQ(weald_set_name(c, "osier"), 0);
    weald_switch(c, NULL, NULL);
}

TEST(a_coroutines_overflow_is_told_as_well)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(overflow_coroutine, text, sizeof text), SIGSEGV);
    CHECK_CONTAINS(text, "osier");
}

static void *overflow_in_thread(void *arg)
{
    overflow_named();
    return arg;
}

static void overflow_thread(void)
{
    pthread_t thread;
    CHECK_EQ(weald_yield(), 0); /* main has a hub as well */
    CHECK_EQ(pthread_create(&thread, NULL, overflow_in_thread, NULL), 0);
    pthread_join(thread, NULL);
}

TEST(an_overflow_in_another_thread_is_told_as_well)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(overflow_thread, text, sizeof text), SIGSEGV);
    CHECK_CONTAINS(text, "willow");
}

/* Each frame touches one byte in its middle, and so may step over a page. */
__attribute__((noinline)) static long leaps(long n)
{
    volatile char buffer[12 * 1024];
    buffer[6 * 1024] = (char)n;
    return n == 0 ? buffer[6 * 1024] : leaps(n - 1) + buffer[6 * 1024];
}

static void *overflow_by_leaps(void *arg)
{
    leaps(100000);
    return arg;
}

static void overflow_large_frames(void) { run_one("willow", 0, overflow_by_leaps); }

TEST(an_overflow_by_frames_of_twelve_kib_is_told)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(overflow_large_frames, text, sizeof text), SIGSEGV);
    CHECK_CONTAINS(text, "overflow");
    CHECK_CONTAINS(text, "willow");
}

/* On purpose: not for a sanitizer to report first. */
__attribute__((no_sanitize("undefined"))) static void *read_nothing(void *arg)
{
    return (void *)(intptr_t)*(volatile int *)arg;
}

static void fault(void) { run_one("willow", 0, read_nothing); }

TEST(another_fault_is_not_called_an_overflow)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(fault, text, sizeof text), SIGSEGV);
    CHECK(strstr(text, "overflow") == NULL);
}

static void *stay_within(void *arg)
{
    CHECK(use_stack(150) != 12345);
    return arg;
}

TEST(a_deep_call_within_the_stack_is_fine)
{
    if (*test_under())
        SKIP("frames are larger");
    run_one("willow", 0, stay_within);
    run_one("willow", 1 << 20, stay_within);
}

/* ---- the handler that was there before ---- */

static void last_words(int signo)
{
    static const char words[] = "the handler from before\n";
    (void)signo;
    if (write(STDERR_FILENO, words, sizeof words - 1) > 0)
        _exit(42);
    _exit(43);
}

static void handle_sigsegv(int flags)
{
    static char stack[65536];
    stack_t own;
    struct sigaction action;

    memset(&own, 0, sizeof own);
    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    CHECK_EQ(sigaltstack(&own, NULL), 0);
    memset(&action, 0, sizeof action);
    action.sa_handler = last_words;
    action.sa_flags = SA_ONSTACK | flags;
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
}

static void overflow_with_a_handler(void)
{
    handle_sigsegv(0);
    overflow_named();
}

TEST(the_handler_from_before_runs_after_our_word)
{
    int status;

    skip_where_faults_are_watched();
    status = test_in_child(overflow_with_a_handler, text, sizeof text);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 42);
    CHECK_CONTAINS(text, "willow");
    CHECK_CONTAINS(text, "the handler from before");
    CHECK(strstr(text, "willow") < strstr(text, "the handler from before"));
}

static void fault_with_a_handler(void)
{
    handle_sigsegv(0);
    fault();
}

TEST(the_handler_from_before_gets_other_faults_too)
{
    int status;

    skip_where_faults_are_watched();
    status = test_in_child(fault_with_a_handler, text, sizeof text);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 42);
}

static void fault_in_main(void)
{
    CHECK_EQ(weald_yield(), 0);
    read_nothing(NULL);
}

TEST(a_fault_of_main_dies_by_sigsegv)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(fault_in_main, text, sizeof text), SIGSEGV);
}

static void raise_sigsegv(void)
{
    CHECK_EQ(weald_yield(), 0);
    raise(SIGSEGV); /* sent, not caused: does not come again by itself */
}

TEST(a_sigsegv_that_was_sent_ends_the_program_too)
{
    skip_where_faults_are_watched();
    dies_by(test_in_child(raise_sigsegv, text, sizeof text), SIGSEGV);
}
