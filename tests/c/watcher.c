/* Watchers: callbacks on the loop. Signals have a file of their own. */
#include "test.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* What the callbacks note. */
static char order[256];
static int calls, last_what;
static weald_handle last_watcher;

static void count(weald_watcher w, int what, void *user)
{
    (void)user;
    calls++;
    last_what = what;
    last_watcher = w;
}

static void note(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    strcat(order, (const char *)user);
}

static void stop_after(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    if (calls == *(int *)user)
        CHECK_EQ(weald_watcher_stop(w), 0);
}

static weald_watcher started(weald_watcher w)
{
    CHECK_GT(w, 0);
    CHECK_EQ(weald_watcher_start(w), 0);
    return w;
}

/* Runs the loop until nothing is left, and not for ever. */
static void run(void) { CHECK_EQ(weald_run(weald_after(WEALD_SEC(20))), 0); }

static void run_for(int64_t ns) { CHECK_EQ(weald_sleep(ns), 0); }

/* Until the callbacks have run `n` times, however slow the machine, and then a little longer. */
static void run_until_calls(int n)
{
    for (int64_t end = weald_after(WEALD_SEC(20)); calls < n && weald_now() < end;)
        run_for(WEALD_MS(1));
    run_for(WEALD_MS(2));
    CHECK_EQ(calls, n);
}

/* In a child: until it is killed, or the test has failed. */
static void do_nothing(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        pause();
}

static pid_t child_that_exits(int status)
{
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0)
        _exit(status);
    return pid;
}

static void wait_until_zombie(pid_t pid)
{
    siginfo_t info;

    CHECK_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

/* ---- what all have in common ---- */

TEST(a_watcher_is_made_stopped)
{
    weald_watcher w = weald_timer_watcher(0, 0, count, NULL);

    CHECK_GT(w, 0);
    CHECK_EQ(weald_kind(w), WEALD_KIND_WATCHER);
    CHECK_EQ(weald_watcher_active(w), 0);
    CHECK_EQ(weald_watcher_pending(w), 0);
    run_for(WEALD_MS(5));
    CHECK_EQ(calls, 0);
    CHECK_EQ(weald_close(w), 0);
}

TEST(starting_and_stopping_twice_is_once)
{
    int fds = test_fds();
    weald_watcher w = started(weald_async_watcher(count, NULL));

    CHECK_EQ(weald_watcher_start(w), 0);
    CHECK_EQ(weald_watcher_active(w), 1);
    CHECK_EQ(weald_watcher_stop(w), 0);
    CHECK_EQ(weald_watcher_stop(w), 0);
    CHECK_EQ(weald_watcher_active(w), 0);
    run(); /* would go on if a start were still counted */
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(test_fds(), fds);
}

TEST(a_stopped_watcher_may_be_started_again)
{
    static char text[] = "t";
    weald_watcher w = started(weald_timer_watcher(0, 0, note, text));

    run();
    CHECK_EQ(weald_watcher_active(w), 0);
    CHECK_EQ(weald_watcher_start(w), 0);
    run();
    CHECK_STR(order, "tt");
    CHECK_EQ(weald_close(w), 0);
}

TEST(the_callback_gets_its_watcher_and_its_user_data)
{
    static char first[] = "1", second[] = "2";
    weald_watcher w = weald_async_watcher(note, first);

    CHECK_PTR(weald_watcher_user(w), first);
    CHECK_EQ(weald_watcher_set_user(w, second), 0);
    CHECK_PTR(weald_watcher_user(w), second);
    started(w);
    CHECK_EQ(weald_async_send(w), 0);
    run_until_calls(1);
    CHECK_STR(order, "2");
    CHECK_EQ(last_watcher, w);
    CHECK_EQ(last_what, 0);
    CHECK_EQ(weald_close(w), 0);
}

static void try_to_block(weald_watcher w, int what, void *user)
{
    const int signos[] = {SIGUSR1};
    int ends[2];

    count(w, what, user);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_yield(), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_event_wait(*(weald_handle *)user, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_signal_wait(signos, 1, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_run(WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), WEALD_EWOULDBLOCK);
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(weald_wait_read(ends[0], WEALD_FOREVER), WEALD_EWOULDBLOCK);
    close(ends[0]);
    close(ends[1]);
}

TEST(a_blocking_call_in_a_callback_is_ewouldblock)
{
    weald_handle event = weald_event_new(0);
    weald_watcher w = started(weald_timer_watcher(0, 0, try_to_block, &event));

    run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(event), 0);
}

static void close_itself(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_watcher_active(w), WEALD_EBADF);
}

TEST(a_callback_may_close_its_own_watcher)
{
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    started(weald_timer_watcher(0, WEALD_MS(1), close_itself, NULL));
    started(weald_io_watcher(ends[1], WEALD_WRITE, close_itself, NULL));
    started(weald_idle_watcher(close_itself, NULL));
    started(weald_prepare_watcher(close_itself, NULL));
    started(weald_check_watcher(close_itself, NULL));
    started(weald_child_watcher(child_that_exits(0), close_itself, NULL));
    CHECK_EQ(weald_async_send(started(weald_async_watcher(close_itself, NULL))), 0);
    run();
    CHECK_EQ(calls, 7);
    close(ends[0]);
    close(ends[1]);
}

static weald_handle the_event, the_other;

static void *wait_for_event(void *arg)
{
    CHECK_EQ(weald_event_wait(the_event, WEALD_FOREVER), 0);
    strcat(order, "w");
    return arg;
}

static void *spawned(void *arg)
{
    strcat(order, "s");
    return arg;
}

static void do_much(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_event_set(the_event), 0);
    CHECK_EQ(weald_go(spawned, NULL), 0);
    CHECK_EQ(weald_watcher_start(the_other), 0);
    CHECK_EQ(weald_stop(), 0);
    CHECK_EQ(weald_stop(), 0);
}

TEST(a_callback_may_set_events_spawn_and_start_others)
{
    static char other[] = "o";
    weald_watcher w = started(weald_timer_watcher(0, 0, do_much, NULL));

    the_event = weald_event_new(0);
    the_other = weald_timer_watcher(WEALD_MS(300), 0, note, other);
    CHECK_EQ(weald_go(wait_for_event, NULL), 0);
    run(); /* until the stop */
    run();
    CHECK_STR(order, "wso");
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(the_other), 0);
    CHECK_EQ(weald_close(the_event), 0);
}

TEST(closing_a_watcher_stops_it)
{
    weald_watcher w = started(weald_async_watcher(count, NULL));

    CHECK_EQ(weald_async_send(w), 0);
    CHECK_EQ(weald_close(w), 0);
    run();
    CHECK_EQ(calls, 0);
}

TEST(a_dup_keeps_a_watcher_going)
{
    weald_watcher w = started(weald_timer_watcher(0, 0, count, NULL));

    CHECK_EQ(weald_dup(w), w);
    CHECK_EQ(weald_close(w), 0);
    run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_null_callback_is_einval)
{
    CHECK_EQ(weald_io_watcher(0, WEALD_READ, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_timer_watcher(0, 0, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_signal_watcher(SIGUSR1, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_child_watcher(1, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_async_watcher(NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_idle_watcher(NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_prepare_watcher(NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_check_watcher(NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stat_watcher("/", 0, NULL, NULL), WEALD_EINVAL);
}

static void check_every_call_returns(weald_watcher w, int code)
{
    CHECK_EQ(weald_watcher_start(w), code);
    CHECK_EQ(weald_watcher_stop(w), code);
    CHECK_EQ(weald_watcher_active(w), code);
    CHECK_EQ(weald_watcher_pending(w), code);
    CHECK_EQ(weald_watcher_again(w), code);
    CHECK_EQ(weald_watcher_ref(w), code);
    CHECK_EQ(weald_watcher_unref(w), code);
    CHECK_EQ(weald_watcher_set_priority(w, 1), code);
    CHECK_EQ(weald_watcher_set_user(w, NULL), code);
    CHECK_PTR(weald_watcher_user(w), NULL);
}

TEST(a_bad_handle_is_ebadf)
{
    weald_handle event = weald_event_new(0);
    weald_watcher stale = weald_async_watcher(count, NULL);

    CHECK_EQ(weald_close(stale), 0);
    for (size_t i = 0; i < 5; i++) {
        const weald_handle bad[] = {0, -1, INT64_MAX, event, stale};

        check_every_call_returns(bad[i], WEALD_EBADF);
        CHECK_EQ(weald_async_send(bad[i]), WEALD_EBADF);
    }
    CHECK_EQ(weald_close(event), 0);
}

static void *call_from_another_thread(void *arg)
{
    check_every_call_returns(*(weald_watcher *)arg, WEALD_EPERM);
    CHECK_EQ(weald_close(*(weald_watcher *)arg), WEALD_EPERM);
    return NULL;
}

TEST(a_watcher_of_another_thread_is_eperm)
{
    pthread_t thread;
    weald_watcher w = weald_timer_watcher(0, 1, count, &calls);

    CHECK_EQ(pthread_create(&thread, NULL, call_from_another_thread, &w), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(w), 0);
}

TEST(after_shutdown_watchers_are_eshutdown)
{
    weald_watcher w = started(weald_timer_watcher(WEALD_SEC(3600), 0, count, NULL));

    CHECK_EQ(weald_hub_shutdown(), 0);
    check_every_call_returns(w, WEALD_ESHUTDOWN);
    CHECK_EQ(weald_async_watcher(count, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_async_send(w), WEALD_EBADF);
}

/* ---- what keeps the loop running ---- */

TEST(a_started_watcher_keeps_the_loop_running_until_it_is_unrefd)
{
    weald_watcher w = started(weald_async_watcher(count, NULL));

    CHECK_EQ(weald_run(weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_watcher_unref(w), 0);
    CHECK_EQ(weald_watcher_unref(w), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_watcher_ref(w), 0);
    CHECK_EQ(weald_run(weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_watcher_stop(w), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_watcher_unref(w), 0);
    CHECK_EQ(weald_watcher_start(w), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

TEST(an_unrefd_watcher_of_any_kind_does_not_keep_the_loop_running)
{
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    for (int i = 0; i < 9; i++) {
        pid_t pid = fork();

        if (pid == 0)
            do_nothing();
        const weald_watcher all[] = {
            weald_io_watcher(ends[0], WEALD_READ, count, NULL),
            weald_timer_watcher(WEALD_SEC(3600), 1, count, NULL),
            weald_signal_watcher(SIGUSR1, count, NULL),
            weald_child_watcher(pid, count, NULL),
            weald_async_watcher(count, NULL),
            weald_idle_watcher(count, NULL),
            weald_prepare_watcher(count, NULL),
            weald_check_watcher(count, NULL),
            weald_stat_watcher("/", 0, count, NULL),
        };
        started(all[i]);
        CHECK_EQ(weald_run(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
        CHECK_EQ(weald_watcher_unref(all[i]), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        for (int j = 0; j < 9; j++)
            CHECK_EQ(weald_close(all[j]), 0);
        kill(pid, SIGKILL);
        CHECK_EQ(waitpid(pid, NULL, 0), pid);
    }
}

static void swallow(const char *text, void *user)
{
    (void)text;
    ++*(int *)user;
}

static void set_event(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_event_set(*(weald_handle *)user), 0);
}

TEST(a_wait_that_a_refd_watcher_may_end_is_no_deadlock_with_an_unrefd_one_it_is)
{
    int reports = 0;
    weald_handle event = weald_event_new(0);
    weald_watcher w = weald_timer_watcher(WEALD_MS(2), 0, set_event, &event);

    CHECK_EQ(weald_set_report_handler(swallow, &reports), 0);
    started(w);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_event_clear(event), 0);
    CHECK_EQ(weald_watcher_unref(w), 0);
    started(w);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(event), 0);
}

static void unref_itself(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_watcher_unref(w), 0);
}

TEST(a_callback_that_unrefs_the_last_watcher_lets_the_loop_end)
{
    weald_watcher timer = started(weald_timer_watcher(0, WEALD_SEC(3600), unref_itself, NULL));

    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(weald_close(timer), 0);

    started(weald_prepare_watcher(close_itself, NULL));
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    started(weald_check_watcher(close_itself, NULL));
    started(weald_timer_watcher(WEALD_MS(2), 0, close_itself, NULL));
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(calls, 4);
}

static void stop_loop(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_stop(), 0);
}

TEST(a_callback_that_stops_the_loop_stops_it_before_it_sleeps)
{
    weald_watcher keeps = started(weald_async_watcher(count, NULL));
    weald_watcher w;

    w = started(weald_timer_watcher(0, 0, stop_loop, NULL));
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(w), 0);
    w = started(weald_prepare_watcher(stop_loop, NULL));
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(calls, 2);
    CHECK_EQ(weald_close(keeps), 0);
}

/* ---- order ---- */

TEST(higher_priority_comes_first_equal_ones_in_order)
{
    static char names[][2] = {"a", "b", "c", "d", "e", "f"};
    static const int priorities[] = {-2, 0, 2, 0, -1, 1};
    weald_watcher w[6];

    for (int i = 0; i < 6; i++) {
        w[i] = started(weald_async_watcher(note, names[i]));
        CHECK_EQ(weald_watcher_set_priority(w[i], priorities[i]), 0);
    }
    for (int i = 0; i < 6; i++)
        CHECK_EQ(weald_async_send(w[i]), 0);
    run_until_calls(6);
    CHECK_STR(order, "cfbdea");
    for (int i = 0; i < 6; i++)
        CHECK_EQ(weald_close(w[i]), 0);
}

TEST(priority_also_orders_different_kinds)
{
    static char io_name[] = "i", timer_name[] = "t", signal_name[] = "s";
    int ends[2];
    weald_watcher io, timer, sig;

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    io = started(weald_io_watcher(ends[0], WEALD_READ, note, io_name));
    timer = weald_timer_watcher(0, 0, note, timer_name);
    sig = started(weald_signal_watcher(SIGUSR1, note, signal_name));
    CHECK_EQ(weald_watcher_set_priority(sig, 2), 0);
    CHECK_EQ(weald_watcher_set_priority(timer, -1), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    started(timer);
    /* The timer is due at the beginning of the turn already, the others when it has polled. */
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    CHECK_CONTAINS(order, "si");
    CHECK_EQ(weald_close(io), 0);
    CHECK_EQ(weald_close(timer), 0);
    CHECK_EQ(weald_close(sig), 0);
    close(ends[0]);
    close(ends[1]);
}

TEST(a_priority_out_of_range_is_einval)
{
    weald_watcher w = weald_async_watcher(count, NULL);

    CHECK_EQ(weald_watcher_set_priority(w, 3), WEALD_EINVAL);
    CHECK_EQ(weald_watcher_set_priority(w, -3), WEALD_EINVAL);
    CHECK_EQ(weald_watcher_set_priority(w, INT32_MIN), WEALD_EINVAL);
    CHECK_EQ(weald_watcher_set_priority(w, -2), 0);
    CHECK_EQ(weald_close(w), 0);
}

static void look_at_other(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_watcher_pending(w), 0);
    CHECK_EQ(weald_watcher_pending(the_other), 1);
}

static void stop_other(weald_watcher w, int what, void *user)
{
    look_at_other(w, what, user);
    CHECK_EQ(weald_watcher_stop(the_other), 0);
    CHECK_EQ(weald_watcher_pending(the_other), 0);
}

TEST(a_watcher_is_pending_until_its_callback_runs)
{
    weald_watcher first = started(weald_async_watcher(look_at_other, NULL));

    the_other = started(weald_async_watcher(count, NULL));
    CHECK_EQ(weald_async_send(first), 0);
    CHECK_EQ(weald_async_send(the_other), 0);
    CHECK_EQ(weald_watcher_pending(first), 1);
    run_until_calls(2);
    CHECK_EQ(weald_watcher_pending(the_other), 0);
    CHECK_EQ(weald_close(first), 0);
    CHECK_EQ(weald_close(the_other), 0);
}

TEST(a_pending_watcher_that_is_stopped_is_not_called)
{
    weald_watcher first = started(weald_async_watcher(stop_other, NULL));

    the_other = started(weald_async_watcher(count, NULL));
    CHECK_EQ(weald_async_send(first), 0);
    CHECK_EQ(weald_async_send(the_other), 0);
    run_until_calls(1);
    CHECK_EQ(weald_close(first), 0);
    CHECK_EQ(weald_close(the_other), 0);
}

static void send_itself(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_async_send(w), 0);
}

TEST(a_watcher_that_wakes_itself_starves_nobody)
{
    char byte = 0;
    int ends[2];
    weald_watcher w = started(weald_async_watcher(send_itself, NULL));
    weald_watcher zero = started(weald_timer_watcher(0, 1, count, NULL));

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(weald_watcher_set_priority(w, 2), 0);
    CHECK_EQ(weald_async_send(w), 0);
    while (calls < 10)
        run_for(WEALD_MS(1));
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(weald_wait_read(ends[0], weald_after(WEALD_SEC(20))), 0);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(zero), 0);
    close(ends[0]);
    close(ends[1]);
}

/* ---- io ---- */

static int the_pipe[2];

static void read_one(weald_watcher w, int what, void *user)
{
    char byte;

    count(w, what, user);
    CHECK_EQ(read(the_pipe[0], &byte, 1), 1);
}

TEST(an_io_watcher_fires_again_until_everything_is_read)
{
    weald_watcher w;

    CHECK_EQ(pipe(the_pipe), 0);
    w = started(weald_io_watcher(the_pipe[0], WEALD_READ, read_one, NULL));
    CHECK_EQ(weald_run(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_EQ(calls, 0);
    CHECK_EQ(write(the_pipe[1], "three", 3), 3);
    run_until_calls(3);
    CHECK_EQ(last_what, WEALD_READ);
    CHECK_EQ(write(the_pipe[1], "x", 1), 1);
    run_until_calls(4);
    CHECK_EQ(weald_close(w), 0);
}

TEST(an_io_watcher_may_be_stopped_and_started_at_will)
{
    weald_watcher w;

    CHECK_EQ(pipe(the_pipe), 0);
    w = weald_io_watcher(the_pipe[0], WEALD_READ, read_one, NULL);
    for (int i = 1; i <= 10; i++) {
        CHECK_EQ(write(the_pipe[1], "x", 1), 1);
        run_for(WEALD_MS(1));
        CHECK_EQ(calls, i - 1);
        started(w);
        run_until_calls(i);
        CHECK_EQ(weald_watcher_stop(w), 0);
    }
    CHECK_EQ(weald_close(w), 0);
}

TEST(room_to_write_fires_in_every_turn)
{
    int three = 3;
    weald_watcher w;

    CHECK_EQ(pipe(the_pipe), 0);
    w = started(weald_io_watcher(the_pipe[1], WEALD_WRITE, stop_after, &three));
    run();
    CHECK_EQ(calls, 3);
    CHECK_EQ(last_what, WEALD_WRITE);
    CHECK_EQ(weald_close(w), 0);
}

TEST(several_io_watchers_share_a_descriptor)
{
    static char a[] = "a", b[] = "b";
    weald_watcher first, second, reader;

    CHECK_EQ(pipe(the_pipe), 0);
    first = started(weald_io_watcher(the_pipe[0], WEALD_READ, note, a));
    second = started(weald_io_watcher(the_pipe[0], WEALD_READ, note, b));
    reader = started(weald_io_watcher(the_pipe[0], WEALD_READ, read_one, NULL));
    CHECK_EQ(weald_watcher_set_priority(first, 1), 0);
    CHECK_EQ(write(the_pipe[1], "x", 1), 1);
    run_until_calls(3);
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_watcher_stop(first), 0);
    CHECK_EQ(write(the_pipe[1], "x", 1), 1);
    run_until_calls(5);
    CHECK_STR(order, "abb");
    CHECK_EQ(weald_close(first), 0);
    CHECK_EQ(weald_close(second), 0);
    CHECK_EQ(weald_close(reader), 0);
}

static void *wait_to_read(void *arg)
{
    CHECK_EQ(weald_wait_read(the_pipe[0], WEALD_FOREVER), 0);
    strcat(order, "g");
    return arg;
}

TEST(a_watcher_and_a_waiting_greenlet_share_a_descriptor)
{
    weald_watcher w;
    weald_greenlet g;

    CHECK_EQ(pipe(the_pipe), 0);
    g = weald_spawn(wait_to_read, NULL);
    w = started(weald_io_watcher(the_pipe[0], WEALD_READ, read_one, NULL));
    CHECK_EQ(weald_yield(), 0); /* now it waits */
    CHECK_EQ(write(the_pipe[1], "x", 1), 1);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(5))), 0);
    run_until_calls(1);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_hang_up_is_reported)
{
    int one = 1;
    weald_watcher w;

    CHECK_EQ(pipe(the_pipe), 0);
    w = started(weald_io_watcher(the_pipe[0], WEALD_READ, stop_after, &one));
    close(the_pipe[1]);
    run();
    CHECK_EQ(last_what & WEALD_HUP, WEALD_HUP);
    CHECK_EQ(last_what & WEALD_READ, WEALD_READ);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_regular_file_is_always_ready)
{
    int three = 3, fd = open("/proc/self/exe", O_RDONLY);
    weald_watcher w;

    CHECK_GE(fd, 0);
    w = started(weald_io_watcher(fd, WEALD_READ, stop_after, &three));
    run();
    CHECK_EQ(calls, 3);
    CHECK_EQ(last_what, WEALD_READ);
    /* It does not keep others from running. */
    started(w);
    run_for(WEALD_MS(2));
    CHECK_GT(calls, 3);
    CHECK_EQ(weald_close(w), 0);
    close(fd);
}

TEST(a_descriptor_that_is_not_open_is_ebadf_at_start)
{
    weald_watcher w;

    CHECK_EQ(pipe(the_pipe), 0);
    w = weald_io_watcher(the_pipe[0], WEALD_READ, count, NULL);
    close(the_pipe[0]);
    CHECK_EQ(weald_watcher_start(w), WEALD_EBADF);
    CHECK_EQ(weald_watcher_active(w), 0);
    run();
    CHECK_EQ(weald_close(w), 0);
    w = weald_io_watcher(INT32_MAX, WEALD_READ, count, NULL);
    CHECK_EQ(weald_watcher_start(w), WEALD_EBADF);
    CHECK_EQ(weald_close(w), 0);
}

TEST(bad_arguments_of_an_io_watcher)
{
    CHECK_EQ(weald_io_watcher(-1, WEALD_READ, count, NULL), WEALD_EBADF);
    CHECK_EQ(weald_io_watcher(0, 0, count, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_io_watcher(0, WEALD_HUP, count, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_io_watcher(0, WEALD_READ | WEALD_ERROR, count, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_io_watcher(0, -1, count, NULL), WEALD_EINVAL);
}

TEST(a_descriptor_closed_behind_its_back_ends_the_watcher_with_an_error)
{
    weald_watcher w;

    CHECK_EQ(pipe(the_pipe), 0);
    w = started(weald_io_watcher(the_pipe[0], WEALD_READ, count, NULL));
    run_for(WEALD_MS(1));
    close(the_pipe[0]);
    for (int64_t end = weald_after(WEALD_SEC(10)); calls == 0 && weald_now() < end;)
        run_for(WEALD_MS(50)); /* found by a look once a second */
    CHECK_EQ(calls, 1);
    CHECK_EQ(last_what, WEALD_ERROR);
    CHECK_EQ(weald_watcher_active(w), 0);
    run();
    CHECK_EQ(weald_close(w), 0);
}

/* ---- timers ---- */

static int64_t fired_at[64];

static void note_time(weald_watcher w, int what, void *user)
{
    fired_at[calls % 64] = weald_now();
    count(w, what, user);
}

TEST(a_timer_fires_once_not_early_and_is_stopped)
{
    int64_t begin = weald_now();
    weald_watcher w = started(weald_timer_watcher(WEALD_MS(10), 0, note_time, NULL));

    run();
    CHECK_EQ(calls, 1);
    CHECK_GE(fired_at[0] - begin, WEALD_MS(10));
    CHECK_LT(fired_at[0] - begin, WEALD_SEC(5));
    CHECK_EQ(weald_watcher_active(w), 0);
    CHECK_EQ(weald_close(w), 0);
}

static void is_inactive(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_watcher_active(w), 0);
    if (calls < 3)
        CHECK_EQ(weald_watcher_start(w), 0);
}

TEST(a_timer_that_fires_once_may_be_started_again_by_its_callback)
{
    weald_watcher w = started(weald_timer_watcher(WEALD_MS(1), 0, is_inactive, NULL));

    run();
    CHECK_EQ(calls, 3);
    CHECK_EQ(weald_close(w), 0);
}

TEST(timers_due_together_fire_in_the_order_they_were_started)
{
    static char names[26][2];
    weald_watcher w[26];

    for (int i = 0; i < 26; i++) {
        names[i][0] = (char)('a' + i);
        w[i] = weald_timer_watcher(-i, 0, note, names[i]); /* all of them: at once */
    }
    for (int i = 25; i >= 0; i--)
        started(w[i]);
    run();
    CHECK_STR(order, "zyxwvutsrqponmlkjihgfedcba");
    for (int i = 0; i < 26; i++)
        CHECK_EQ(weald_close(w[i]), 0);
}

static void slow(weald_watcher w, int what, void *user)
{
    note_time(w, what, user);
    for (int64_t end = weald_after(WEALD_MS(4)); weald_now() < end;)
        ;
    if (calls == 10)
        CHECK_EQ(weald_watcher_stop(w), 0);
}

/* How many of ten firings came in the second half of their period: with drift, half of them. */
static int late_firings(void)
{
    int late = 0;
    int64_t begin = weald_now();
    weald_watcher w = started(weald_timer_watcher(WEALD_MS(10), WEALD_MS(10), slow, NULL));

    calls = 0;
    run();
    for (int i = 0; i < 10; i++) {
        CHECK_GE(fired_at[i] - begin, WEALD_MS(10) * (i + 1));
        late += (fired_at[i] - begin) % WEALD_MS(10) > WEALD_MS(5);
    }
    CHECK_EQ(weald_close(w), 0);
    return late;
}

TEST(a_repeating_timer_does_not_drift)
{
    /* A busy machine may be late now and then; one that drifts always is. */
    for (int i = 0; i < 50; i++)
        if (late_firings() <= 2)
            return;
    CHECK(0);
}

static void hold_up_once(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    if (calls == 1)
        for (int64_t end = weald_after(WEALD_MS(55)); weald_now() < end;)
            ;
    if (calls == 3)
        CHECK_EQ(weald_watcher_stop(w), 0);
}

TEST(firings_that_were_missed_are_left_out)
{
    int64_t begin = weald_now();
    weald_watcher w = started(weald_timer_watcher(0, WEALD_MS(10), hold_up_once, NULL));

    run();
    /* At 0; at once for all those up to 55; at 60. */
    CHECK_EQ(calls, 3);
    CHECK_GE(weald_now() - begin, WEALD_MS(60));
    CHECK_EQ(weald_close(w), 0);
}

TEST(the_end_of_time_is_never)
{
    weald_watcher w = started(weald_timer_watcher(INT64_MAX, INT64_MAX, count, NULL));

    CHECK_EQ(weald_run(weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_watcher_again(w), 0);
    CHECK_EQ(weald_run(weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(calls, 0);
    CHECK_EQ(weald_close(w), 0);
    w = started(weald_timer_watcher(INT64_MIN, INT64_MAX, stop_loop, NULL));
    run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(weald_close(w), 0);
}

TEST(again_puts_a_timer_off)
{
    weald_watcher w = started(weald_timer_watcher(WEALD_MS(40), WEALD_MS(40), note_time, NULL));
    int64_t last = 0;

    for (int i = 0; i < 10; i++) {
        run_for(WEALD_MS(10));
        last = weald_now();
        CHECK_EQ(weald_watcher_again(w), 0);
        if (calls > 0)
            SKIP("the machine is too slow for this one");
    }
    while (calls == 0)
        run_for(WEALD_MS(5));
    CHECK_GE(fired_at[0] - last, WEALD_MS(40));
    CHECK_EQ(weald_close(w), 0);
}

TEST(again_starts_a_timer_that_is_stopped)
{
    int one = 1;
    int64_t begin = weald_now();
    weald_watcher w = weald_timer_watcher(WEALD_SEC(3600), WEALD_MS(5), stop_after, &one);

    CHECK_EQ(weald_watcher_again(w), 0);
    CHECK_EQ(weald_watcher_active(w), 1);
    run();
    CHECK_GE(weald_now() - begin, WEALD_MS(5));
    CHECK_EQ(weald_close(w), 0);
}

static void again_for_other(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_watcher_pending(the_other), 1);
    CHECK_EQ(weald_watcher_again(the_other), 0);
    CHECK_EQ(weald_watcher_pending(the_other), 0);
}

TEST(again_takes_back_a_pending_callback)
{
    static char name[] = "x";
    weald_watcher w = started(weald_timer_watcher(0, 0, again_for_other, NULL));

    the_other = started(weald_timer_watcher(0, WEALD_SEC(3600), note, name));
    CHECK_EQ(weald_watcher_unref(the_other), 0);
    run();
    CHECK_STR(order, "");
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(the_other), 0);
}

TEST(again_without_a_period_or_for_another_kind_is_einval)
{
    weald_watcher once = weald_timer_watcher(0, 0, count, NULL), other = weald_async_watcher(count, NULL);

    CHECK_EQ(weald_watcher_again(once), WEALD_EINVAL);
    CHECK_EQ(weald_watcher_again(other), WEALD_EINVAL);
    CHECK_EQ(weald_watcher_active(once), 0);
    CHECK_EQ(weald_timer_watcher(0, -1, count, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_close(once), 0);
    CHECK_EQ(weald_close(other), 0);
}

TEST(ten_thousand_timers_fire_once_each)
{
    enum { MANY = 10000 };
    static weald_watcher w[MANY];

    for (int i = 0; i < MANY; i++)
        w[i] = started(weald_timer_watcher(WEALD_US(i % 997), 0, count, NULL));
    run();
    CHECK_EQ(calls, MANY);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(weald_close(w[i]), 0);
}

/* ---- waiting for a watcher ---- */

TEST(weald_wait_waits_for_timers)
{
    int64_t begin = weald_now();
    weald_watcher late = started(weald_timer_watcher(WEALD_SEC(3600), 0, count, NULL));
    weald_watcher soon = started(weald_timer_watcher(WEALD_MS(5), 0, count, NULL));
    weald_wait_item items[2];

    memset(items, 0, sizeof items);
    items[0].object = late;
    items[1].object = soon;
    CHECK_EQ(weald_wait(items, 2, 1, WEALD_FOREVER), 1);
    CHECK_EQ(items[0].ready, 0);
    CHECK_EQ(items[1].ready, 1);
    CHECK_GE(weald_now() - begin, WEALD_MS(5));
    CHECK_EQ(weald_wait(items + 1, 1, 1, WEALD_NOW), 1);
    CHECK_EQ(weald_watcher_start(soon), 0); /* a new start: it has not fired */
    CHECK_EQ(weald_wait(items + 1, 1, 1, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_close(soon), 0);
    CHECK_EQ(weald_close(late), 0);
}

static void *close_late(void *w)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_close(*(weald_watcher *)w), 0);
    return NULL;
}

TEST(a_watcher_closed_while_waited_for_is_ebadf)
{
    weald_watcher w = started(weald_timer_watcher(WEALD_SEC(3600), 0, count, NULL));
    weald_wait_item item;

    memset(&item, 0, sizeof item);
    item.object = w;
    CHECK_EQ(weald_go(close_late, &w), 0);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), WEALD_EBADF);
}

/* ---- children ---- */

TEST(a_child_watcher_gets_the_exit_status_and_reaps)
{
    pid_t pid = child_that_exits(7);
    weald_watcher w = started(weald_child_watcher(pid, count, NULL));

    run();
    CHECK_EQ(calls, 1);
    CHECK(WIFEXITED(last_what));
    CHECK_EQ(WEXITSTATUS(last_what), 7);
    CHECK_EQ(weald_watcher_active(w), 0);
    CHECK_EQ(waitpid(pid, NULL, WNOHANG), -1);
    CHECK_EQ(errno, ECHILD);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_child_killed_by_a_signal_says_so)
{
    pid_t pid = fork();
    weald_watcher w;

    if (pid == 0)
        do_nothing();
    w = started(weald_child_watcher(pid, count, NULL));
    CHECK_EQ(weald_run(weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(calls, 0);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    run();
    CHECK(WIFSIGNALED(last_what));
    CHECK_EQ(WTERMSIG(last_what), SIGKILL);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_child_that_ended_before_the_start_is_seen)
{
    pid_t pid = child_that_exits(3);
    weald_watcher w = weald_child_watcher(pid, count, NULL);

    wait_until_zombie(pid);
    started(w);
    run();
    CHECK_EQ(WEXITSTATUS(last_what), 3);
    CHECK_EQ(weald_close(w), 0);
}

TEST(every_watcher_of_a_child_gets_its_status)
{
    pid_t pid = child_that_exits(5);
    weald_watcher a = started(weald_child_watcher(pid, count, NULL));
    weald_watcher b = started(weald_child_watcher(pid, count, NULL));

    run();
    CHECK_EQ(calls, 2);
    CHECK_EQ(WEXITSTATUS(last_what), 5);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
}

static void the_stolen_child(void)
{
    int ends[2];
    pid_t pid;
    weald_watcher w;

    CHECK_EQ(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        char byte;
        close(ends[1]);
        _exit((int)read(ends[0], &byte, 1));
    }
    close(ends[0]);
    w = started(weald_child_watcher(pid, count, NULL));
    CHECK_EQ(weald_run(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    close(ends[1]);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(last_what, WEALD_ECHILD);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_child_reaped_by_somebody_else_is_echild_and_no_hang) { the_stolen_child(); }

static void *its_id(void *id)
{
    *(int *)id = (int)syscall(SYS_gettid);
    usleep(200000);
    return id;
}

TEST(what_is_no_child_of_ours_is_echild)
{
    int fds, tid = 0;
    pthread_t thread;
    pid_t gone = child_that_exits(0);

    run_for(WEALD_MS(1));
    CHECK_EQ(waitpid(gone, NULL, 0), gone);
    CHECK_EQ(pthread_create(&thread, NULL, its_id, &tid), 0);
    while (__atomic_load_n(&tid, __ATOMIC_SEQ_CST) == 0)
        run_for(WEALD_MS(1));
    fds = test_fds();
    for (int i = 0; i < 4; i++) {
        const int pids[] = {gone, 1, getppid(), tid};
        weald_watcher w = started(weald_child_watcher(pids[i], count, NULL));

        run();
        CHECK_EQ(calls, i + 1);
        CHECK_EQ(last_what, WEALD_ECHILD);
        CHECK_EQ(weald_watcher_active(w), 0);
        CHECK_EQ(weald_close(w), 0);
    }
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_child_watcher(0, count, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_child_watcher(-1, count, NULL), WEALD_EINVAL);
}

TEST(a_stopped_child_watcher_reaps_nobody)
{
    pid_t pid = child_that_exits(0);
    weald_watcher w = weald_child_watcher(pid, count, NULL);

    wait_until_zombie(pid);
    started(w);
    CHECK_EQ(weald_watcher_stop(w), 0);
    run_for(WEALD_MS(2));
    CHECK_EQ(calls, 0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK_EQ(weald_close(w), 0);
}

static void the_many_children(void)
{
    enum { MANY = 50 };
    weald_watcher w[MANY];
    int fds;

    run_for(WEALD_MS(1));
    fds = test_fds();
    for (int i = 0; i < MANY; i++)
        w[i] = started(weald_child_watcher(child_that_exits(i), count, NULL));
    run();
    CHECK_EQ(calls, MANY);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(weald_close(w[i]), 0);
    CHECK_EQ(test_fds(), fds);
}

TEST(fifty_children_are_reaped_and_leave_no_descriptor) { the_many_children(); }

TEST(a_copy_of_our_descriptor_in_another_process_does_not_keep_the_loop_awake)
{
    pid_t ends = fork(), copies;
    weald_watcher w;
    uint64_t before;

    if (ends == 0)
        do_nothing();
    w = started(weald_child_watcher(ends, count, NULL));
    run_for(WEALD_MS(1));
    copies = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* a fork that no handler sees */
    if (copies == 0)
        do_nothing();
    CHECK_EQ(kill(ends, SIGKILL), 0);
    run_until_calls(1);
    before = test_stats().polls;
    run_for(WEALD_MS(50));
    CHECK_LT(test_stats().polls - before, 50);
    CHECK_EQ(kill(copies, SIGKILL), 0);
    CHECK_EQ(waitpid(copies, NULL, 0), copies);
    CHECK_EQ(weald_close(w), 0);
}

/* From here on pidfd_open fails as on a kernel before 5.3. */
static void forbid_pidfds(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* the number of the call */),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        SKIP("no seccomp here");
    CHECK_EQ(syscall(SYS_pidfd_open, getpid(), 0), -1);
}

TEST(without_pidfds_children_are_seen_by_sigchld)
{
    struct sigaction before, after;

    forbid_pidfds();
    CHECK_EQ(sigaction(SIGCHLD, NULL, &before), 0);
    the_many_children();
    CHECK_EQ(sigaction(SIGCHLD, NULL, &after), 0);
    CHECK(before.sa_handler == after.sa_handler);
}

TEST(without_pidfds_a_stolen_child_is_echild_too)
{
    forbid_pidfds();
    the_stolen_child();
}

TEST(without_a_descriptor_to_spare_a_child_watcher_does_not_start)
{
    struct rlimit limit = {0, 0}, all;
    pid_t pid = child_that_exits(0);
    weald_watcher w = weald_child_watcher(pid, count, NULL);

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &all), 0);
    limit.rlim_max = all.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(weald_watcher_start(w), WEALD_EMFILE);
    CHECK_EQ(weald_watcher_active(w), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &all), 0);
    started(w);
    run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(weald_close(w), 0);
}

/* ---- async ---- */

static void *send_late(void *w)
{
    usleep(5000);
    CHECK_EQ(weald_async_send(*(weald_watcher *)w), 0);
    return NULL;
}

TEST(a_send_from_another_thread_wakes_the_loop)
{
    pthread_t thread;
    weald_watcher w = started(weald_async_watcher(stop_loop, NULL));

    CHECK_EQ(pthread_create(&thread, NULL, send_late, &w), 0);
    run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(w), 0);
}

TEST(sends_before_the_callback_runs_are_one)
{
    weald_watcher w = started(weald_async_watcher(count, NULL));

    for (int i = 0; i < 1000; i++)
        CHECK_EQ(weald_async_send(w), 0);
    run_until_calls(1);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_send_to_a_stopped_watcher_is_lost)
{
    weald_watcher w = weald_async_watcher(count, NULL);

    CHECK_EQ(weald_async_send(w), 0);
    run_for(WEALD_MS(1));
    started(w);
    run_for(WEALD_MS(1));
    CHECK_EQ(calls, 0);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_send_to_another_kind_is_einval)
{
    weald_watcher w = weald_timer_watcher(0, 0, count, NULL);

    CHECK_EQ(weald_async_send(w), WEALD_EINVAL);
    CHECK_EQ(weald_close(w), 0);
}

enum { SENDERS = 4, WATCHED = 8 };
static weald_watcher many[WATCHED];
static long written[SENDERS][WATCHED], seen[SENDERS][WATCHED];
static long rounds;

static void *send_often(void *arg)
{
    long *own = arg;

    for (long i = 1; i <= rounds; i++) {
        __atomic_store_n(&own[i % WATCHED], i, __ATOMIC_RELAXED);
        CHECK_EQ(weald_async_send(many[i % WATCHED]), 0);
    }
    return NULL;
}

static void look(weald_watcher w, int what, void *user)
{
    long k = (long)(intptr_t)user;

    count(w, what, user);
    for (int i = 0; i < SENDERS; i++)
        seen[i][k] = __atomic_load_n(&written[i][k], __ATOMIC_RELAXED);
}

TEST(what_was_written_before_a_send_is_seen_by_a_callback_and_memory_stays)
{
    pthread_t threads[SENDERS];
    long before;

    rounds = test_rounds(500000);
    for (long k = 0; k < WATCHED; k++)
        many[k] = started(weald_async_watcher(look, (void *)(intptr_t)k));
    run_for(WEALD_MS(1));
    before = test_rss();
    for (int i = 0; i < SENDERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, send_often, written[i]), 0);
    /* Nobody looks for a while: coalesced, the sends take no memory. */
    usleep(50000);
    CHECK_LT(test_rss() - before, 32 << 20);
    for (int i = 0; i < SENDERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    run_for(WEALD_MS(2));
    for (int i = 0; i < SENDERS; i++)
        for (int k = 0; k < WATCHED; k++)
            CHECK_EQ(seen[i][k], written[i][k]);
    CHECK_LE(calls, SENDERS * rounds);
    for (int k = 0; k < WATCHED; k++)
        CHECK_EQ(weald_close(many[k]), 0);
}

static void *send_to_what_is_none(void *w)
{
    CHECK_EQ(weald_async_send(0), WEALD_EBADF);
    CHECK_EQ(weald_async_send(-5), WEALD_EBADF);
    CHECK_EQ(weald_async_send(INT64_MAX), WEALD_EBADF);
    CHECK_EQ(weald_async_send(*(weald_watcher *)w), WEALD_EBADF);
    return NULL;
}

static void *make_and_end(void *w)
{
    *(weald_watcher *)w = started(weald_async_watcher(count, NULL));
    return NULL;
}

TEST(a_send_to_a_thread_that_has_ended_is_ebadf)
{
    pthread_t thread;
    weald_watcher w = 0;

    CHECK_EQ(pthread_create(&thread, NULL, make_and_end, &w), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_GT(w, 0);
    send_to_what_is_none(&w);
}

TEST(sending_needs_no_hub_in_the_sending_thread)
{
    weald_watcher w = started(weald_async_watcher(stop_loop, NULL));
    pthread_t thread;
    int fds = test_fds();

    CHECK_EQ(pthread_create(&thread, NULL, send_late, &w), 0);
    run();
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(w), 0);
}

/* ---- prepare, check, idle ---- */

TEST(prepare_comes_before_the_poll_and_check_behind_what_it_brings)
{
    static char p[] = "p", c[] = "c", i[] = "i";
    weald_watcher prepare = started(weald_prepare_watcher(note, p));
    weald_watcher check = started(weald_check_watcher(note, c));
    weald_watcher io;

    CHECK_EQ(pipe(the_pipe), 0);
    CHECK_EQ(write(the_pipe[1], "x", 1), 1);
    io = started(weald_io_watcher(the_pipe[0], WEALD_READ, note, i));
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    CHECK_STR(order, "pic");
    CHECK_EQ(weald_watcher_set_priority(check, 1), 0);
    order[0] = '\0';
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    CHECK_STR(order, "pci");
    CHECK_EQ(weald_close(prepare), 0);
    CHECK_EQ(weald_close(check), 0);
    CHECK_EQ(weald_close(io), 0);
}

TEST(a_prepare_and_a_check_watcher_do_not_keep_the_loop_awake)
{
    weald_watcher prepare = started(weald_prepare_watcher(count, NULL));
    weald_watcher check = started(weald_check_watcher(count, NULL));

    run_for(WEALD_MS(50));
    CHECK_GE(calls, 2);
    CHECK_LE(calls, 20);
    CHECK_EQ(weald_close(prepare), 0);
    CHECK_EQ(weald_close(check), 0);
}

TEST(prepare_and_check_also_run_while_greenlets_are_busy)
{
    static char p[] = "p", c[] = "c";
    weald_watcher prepare = started(weald_prepare_watcher(note, p));
    weald_watcher check = started(weald_check_watcher(note, c));
    weald_greenlet g = weald_spawn(spawned, NULL);

    for (int64_t end = weald_after(WEALD_SEC(20)); weald_now() < end && calls < 8;)
        CHECK_EQ(weald_yield(), 0);
    CHECK_GE(calls, 8);
    CHECK_CONTAINS(order, "pc");
    CHECK_EQ(weald_close(prepare), 0);
    CHECK_EQ(weald_close(check), 0);
    CHECK_EQ(weald_close(g), 0);
}

static void *sleep_long(void *unused)
{
    CHECK_EQ(weald_sleep(WEALD_SEC(30)), 0);
    return unused;
}

TEST(what_a_prepare_callback_makes_ready_runs_before_the_loop_sleeps)
{
    weald_handle event = weald_event_new(0);
    weald_watcher w = started(weald_prepare_watcher(set_event, &event));
    int64_t begin = weald_now();

    CHECK_EQ(weald_go(sleep_long, NULL), 0);
    CHECK_EQ(weald_event_wait(event, WEALD_FOREVER), 0);
    CHECK_LT(weald_now() - begin, WEALD_SEC(30));
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(event), 0);
}

static void *yield_thrice(void *unused)
{
    for (int i = 0; i < 3; i++) {
        strcat(order, "y");
        CHECK_EQ(weald_yield(), 0);
    }
    return unused;
}

static void idle_once(weald_watcher w, int what, void *user)
{
    note(w, what, user);
    CHECK_EQ(weald_watcher_stop(w), 0);
}

TEST(idle_comes_when_nothing_else_is_to_be_done)
{
    static char i[] = "i";
    weald_watcher w = started(weald_idle_watcher(idle_once, i));

    CHECK_EQ(weald_go(yield_thrice, NULL), 0);
    CHECK_EQ(weald_go(yield_thrice, NULL), 0);
    run();
    CHECK_STR(order, "yyyyyyi");
    CHECK_EQ(weald_close(w), 0);
}

TEST(idle_watchers_run_by_priority_in_every_idle_turn_also_beside_check)
{
    static char a[] = "a", b[] = "b";
    weald_watcher low = started(weald_idle_watcher(idle_once, a)), high = started(weald_idle_watcher(idle_once, b));
    weald_watcher check = started(weald_check_watcher(count, NULL));

    CHECK_EQ(weald_watcher_unref(check), 0);
    CHECK_EQ(weald_watcher_set_priority(high, 1), 0);
    run();
    CHECK_STR(order, "ba");
    CHECK_EQ(weald_close(low), 0);
    CHECK_EQ(weald_close(high), 0);
    CHECK_EQ(weald_close(check), 0);
}

TEST(idle_keeps_the_loop_from_sleeping)
{
    int thousand = 1000;
    weald_watcher w = started(weald_idle_watcher(stop_after, &thousand));

    CHECK_EQ(weald_hub_next_deadline(), WEALD_NOW); /* a foreign loop must not sleep, either */
    run();
    CHECK_EQ(calls, 1000);
    CHECK_EQ(weald_close(w), 0);
}

/* ---- stat ---- */

static char the_path[64];

static void write_file(const char *text)
{
    FILE *f = fopen(the_path, "w");

    CHECK(f != NULL);
    fputs(text, f);
    fclose(f);
}

TEST(a_stat_watcher_sees_a_file_come_change_and_go)
{
    weald_watcher w;
    char byte;
    int fd;

    snprintf(the_path, sizeof the_path, "/tmp/weald-stat-%d", (int)getpid());
    w = started(weald_stat_watcher(the_path, WEALD_MS(1), count, NULL));
    run_for(WEALD_MS(10));
    CHECK_EQ(calls, 0);
    write_file("one");
    /* Making and filling it may be seen as two changes. */
    for (int64_t end = weald_after(WEALD_SEC(10)); calls == 0 && weald_now() < end;)
        run_for(WEALD_MS(2));
    CHECK_EQ(last_what, 1);
    run_for(WEALD_MS(20));
    calls = 0;
    run_for(WEALD_MS(10));
    CHECK_EQ(calls, 0);
    fd = open(the_path, O_RDONLY);
    CHECK_EQ(read(fd, &byte, 1), 1); /* no change */
    close(fd);
    run_for(WEALD_MS(10));
    CHECK_EQ(calls, 0);
    CHECK_EQ(chmod(the_path, 0600), 0);
    CHECK_EQ(chmod(the_path, 0640), 0);
    run_until_calls(1);
    CHECK_EQ(unlink(the_path), 0);
    run_until_calls(2);
    CHECK_EQ(weald_watcher_stop(w), 0);
    write_file("two");
    run_until_calls(2);
    CHECK_EQ(unlink(the_path), 0);
    CHECK_EQ(weald_close(w), 0);
}

TEST(bad_arguments_of_a_stat_watcher)
{
    weald_watcher w = weald_stat_watcher("/", 0, count, NULL);

    CHECK_GT(w, 0);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_stat_watcher(NULL, 0, count, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stat_watcher("", 0, count, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stat_watcher("/", -1, count, NULL), WEALD_EINVAL);
}

/* ---- the end of things ---- */

static void start_one_of_each(int fd, pid_t pid)
{
    started(weald_io_watcher(fd, WEALD_READ, count, NULL));
    started(weald_timer_watcher(WEALD_SEC(3600), 1, count, NULL));
    started(weald_signal_watcher(SIGUSR1, count, NULL));
    started(weald_child_watcher(pid, count, NULL));
    started(weald_async_watcher(count, NULL));
    started(weald_idle_watcher(count, NULL));
    started(weald_prepare_watcher(count, NULL));
    started(weald_check_watcher(count, NULL));
    started(weald_stat_watcher("/", 0, count, NULL));
}

static void *start_and_end(void *pid)
{
    start_one_of_each(the_pipe[0], *(pid_t *)pid);
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    return NULL;
}

TEST(watchers_left_over_at_the_end_of_a_thread_or_hub_leave_nothing_open)
{
    struct sigaction action;
    pthread_t thread;
    pid_t pid;
    int fds;

    CHECK_EQ(pipe(the_pipe), 0);
    fds = test_fds();
    pid = fork();
    if (pid == 0)
        do_nothing();
    CHECK_EQ(pthread_create(&thread, NULL, start_and_end, &pid), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &action), 0);
    CHECK(action.sa_handler == SIG_DFL);
    start_and_end(&pid);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &action), 0);
    CHECK(action.sa_handler == SIG_DFL);
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(in_a_forked_child_watchers_are_stopped_and_may_be_started)
{
    weald_watcher timer = started(weald_timer_watcher(WEALD_MS(500), 0, count, NULL));
    weald_watcher check = started(weald_check_watcher(count, NULL)), child, io;
    pid_t sleeper, pid;

    CHECK_EQ(pipe(the_pipe), 0);
    sleeper = fork();
    if (sleeper == 0)
        do_nothing();
    child = started(weald_child_watcher(sleeper, count, NULL));
    io = started(weald_io_watcher(the_pipe[0], WEALD_READ, read_one, NULL));
    run_for(WEALD_MS(1));
    calls = 0;
    pid = fork();
    if (pid == 0) {
        const weald_watcher all[] = {timer, check, child, io};

        for (int i = 0; i < 4; i++)
            CHECK_EQ(weald_watcher_active(all[i]), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        CHECK_EQ(calls, 0);
        started(timer);
        run();
        CHECK_EQ(calls, 1);
        started(child); /* the sleeper is our brother */
        started(io);
        CHECK_EQ(write(the_pipe[1], "x", 1), 1);
        run_until_calls(3);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(weald_close(all[i]), 0);
        test_ends_well(child_that_exits(0)); /* and the child may fork */
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        test_leave(0);
    }
    test_ends_well(pid);
    CHECK_EQ(weald_watcher_active(timer), 1);
    CHECK_EQ(weald_watcher_active(child), 1);
    CHECK_EQ(weald_close(check), 0);
    CHECK_EQ(kill(sleeper, SIGKILL), 0);
    calls = 0;
    while (calls < 2) /* timer and child */
        run_for(WEALD_MS(1));
    CHECK_EQ(weald_close(timer), 0);
    CHECK_EQ(weald_close(child), 0);
    CHECK_EQ(weald_close(io), 0);
}

static pid_t forked;

static void fork_in_callback(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    forked = child_that_exits(0);
}

TEST(a_callback_may_fork_a_child_that_exits)
{
    weald_watcher w = started(weald_timer_watcher(0, 0, fork_in_callback, NULL));

    run();
    test_ends_well(forked);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_million_firings_leave_memory_flat)
{
    int n = (int)test_rounds(1000000);
    weald_watcher w = started(weald_async_watcher(send_itself, NULL));
    long before;

    CHECK_EQ(weald_async_send(w), 0);
    while (calls < n / 10)
        CHECK_EQ(weald_yield(), 0);
    before = test_rss();
    while (calls < n)
        CHECK_EQ(weald_yield(), 0);
    CHECK_LT(test_rss() - before, 1 << 20);
    CHECK_EQ(weald_close(w), 0);
}
