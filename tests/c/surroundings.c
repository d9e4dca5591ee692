/* What a program may do besides: jump, take signals, lock its memory, be stopped, be looked at. */
#include "test.h"

#include <execinfo.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>

static void *yield_often(void *times)
{
    for (intptr_t i = 0; i < (intptr_t)times; i++)
        CHECK_EQ(weald_yield(), 0);
    return times;
}

/* ---- jumps ---- */

static int go_deep_and_jump(jmp_buf back, int depth)
{
    CHECK_EQ(weald_yield(), 0);
    if (depth == 0)
        longjmp(back, 5);
    return depth > 0 ? go_deep_and_jump(back, depth - 1) + depth : 0; /* no tail call: each has a frame */
}

static void *jump_back(void *arg)
{
    jmp_buf back;

    for (volatile int i = 0; i < 10; i++) {
        int code = setjmp(back);
        if (code == 0)
            code = -go_deep_and_jump(back, 20);
        CHECK_EQ(code, 5);
        CHECK_EQ(weald_yield(), 0);
    }
    return arg;
}

TEST(greenlets_may_jump_each_on_its_own_stack)
{
    for (int i = 0; i < 50; i++)
        CHECK_EQ(weald_go(jump_back, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

static sigjmp_buf rescue;

static void jump_out(int signo) { siglongjmp(rescue, signo); }

static void *be_rescued(void *signo)
{
    int came = sigsetjmp(rescue, 1);

    if (came == 0) {
        raise((int)(intptr_t)signo);
        test_leave(TEST_FAILED);
    }
    CHECK_EQ(came, (int)(intptr_t)signo);
    CHECK_EQ(weald_yield(), 0);
    return signo;
}

/* Of SIGSEGV too: on the library's alternate stack, with its handler behind ours. */
TEST(a_signal_handler_may_jump_back_into_its_greenlet)
{
    static const int signals[] = {SIGUSR1, SIGSEGV};

    CHECK_EQ(weald_yield(), 0);
    for (int i = 0; i < 10; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = jump_out;
        action.sa_flags = SA_ONSTACK;
        CHECK_EQ(sigaction(signals[i % 2], &action, NULL), 0);
        CHECK_EQ(weald_go(be_rescued, (void *)(intptr_t)signals[i % 2]), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    }
}

/* ---- signals ---- */

static volatile long ticks;

static void tick(int signo)
{
    volatile char frame[512];

    (void)signo;
    memset((char *)frame, (int)ticks, sizeof frame);
    ticks++;
}

static void *sleep_for_ever(void *arg)
{
    CHECK_EQ(weald_sleep(INT64_MAX), WEALD_ECANCELED);
    return arg;
}

/* valgrind ends a program whose stack would have to grow for a signal's frame: it is to have grown before. */
static __attribute__((noinline)) void grow_the_stack(void)
{
    volatile char frame[1 << 16];

    for (size_t i = sizeof frame; i > 0; i -= 1024)
        frame[i - 1] = 1;
}

/* Ten thousand a second, wherever they meet us: between two greenlets, on a new stack, in the poller. */
static void work_under_signals(int flags)
{
    struct itimerval every = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    struct sigaction action;

    grow_the_stack();
    memset(&action, 0, sizeof action);
    action.sa_handler = tick;
    action.sa_flags = flags;
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
    for (int64_t end = weald_after(WEALD_MS(500)); weald_now() < end;) {
        weald_greenlet g = weald_spawn(sleep_for_ever, NULL);
        CHECK_GT(g, 0);
        for (int i = 0; i < 100; i++)
            CHECK_EQ(weald_go(yield_often, (void *)50), 0);
        CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(g), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    }
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_GT(ticks, 0);
}

TEST(ten_thousand_signals_a_second_do_no_harm) { work_under_signals(0); }
TEST(ten_thousand_signals_a_second_do_no_harm_on_a_stack_of_their_own) { work_under_signals(SA_ONSTACK); }

static void sleep_through(void)
{
    for (int i = 0; i < 10; i++) {
        int64_t began = test_clock();
        CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
        CHECK_GE(test_clock() - began, WEALD_MS(20));
    }
}

TEST(a_process_that_is_stopped_and_continued_sleeps_no_less)
{
    int status;
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0) {
        sleep_through();
        test_leave(0);
    }
    for (int i = 0; i < 8; i++) {
        usleep(15000);
        CHECK_EQ(kill(pid, SIGSTOP), 0);
        usleep(10000);
        CHECK_EQ(kill(pid, SIGCONT), 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* ---- memory ---- */

static void *use_some_stack(void *arg)
{
    volatile char frame[8192];

    memset((char *)frame, 1, sizeof frame);
    CHECK_EQ(weald_yield(), 0);
    return arg;
}

/* Locked memory takes no guard markers. */
TEST(a_program_may_lock_its_memory_before_and_meanwhile)
{
    CHECK_EQ(weald_go(use_some_stack, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        SKIP("memory can not be locked here");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 500; i++)
            CHECK_EQ(weald_go(use_some_stack, NULL), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(150)), 0); /* stacks that were not needed lose their memory */
    }
}

/* ---- a look at a stack ---- */

enum { FRAMES = 64 };

static int frames;
static void *trace[FRAMES];

__attribute__((noinline)) static void look_back(void)
{
    frames = backtrace(trace, FRAMES);
    __asm__ volatile("");
}

static void *look_back_from_a_greenlet(void *arg)
{
    look_back();
    CHECK_EQ(weald_yield(), 0);
    return arg;
}

TEST(a_backtrace_ends_at_the_base_of_the_greenlets_stack)
{
    int ours = 0;

    CHECK_EQ(weald_go(look_back_from_a_greenlet, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_GT(frames, 2);
    CHECK_LT(frames, FRAMES);
    for (int i = 0; i < frames; i++) {
        uintptr_t from = (uintptr_t)look_back_from_a_greenlet, at = (uintptr_t)trace[i];
        ours += at > from && at < from + 512;
    }
    CHECK_GE(ours, 1);
}

static void look_back_from_the_loop(void *hub)
{
    look_back();
    CHECK_EQ(weald_close(*(weald_handle *)hub), 0);
}

static void *have_the_loop_look_back(void *hub)
{
    CHECK_EQ(weald_post(*(weald_handle *)hub, look_back_from_the_loop, hub), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0); /* the greenlet has control, not main: it gives that to the loop */
    return NULL;
}

__attribute__((noinline)) static void wait_as_main(void)
{
    weald_handle hub = weald_hub();
    weald_greenlet g = weald_spawn(have_the_loop_look_back, &hub);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_backtrace_of_the_loop_goes_on_with_the_frames_of_main_which_waits)
{
    int mains = 0;

    wait_as_main();
    CHECK_LT(frames, FRAMES);
    for (int i = 0; i < frames; i++) {
        uintptr_t from = (uintptr_t)wait_as_main, at = (uintptr_t)trace[i];
        mains += at > from && at < from + 512;
    }
    CHECK_GE(mains, 1);
}
