/* Signals: waited for, watched, and for an orderly end. */
#include "test.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/time.h>

static const int usr1[] = {SIGUSR1}, usr2[] = {SIGUSR2}, both[] = {SIGUSR1, SIGUSR2};

static int calls, last_what;

static void count(weald_watcher w, int what, void *user)
{
    (void)w;
    (void)user;
    calls++;
    last_what = what;
}

static void count_callback(void *arg) { ++*(int *)arg; }

static weald_watcher started(weald_watcher w)
{
    CHECK_GT(w, 0);
    CHECK_EQ(weald_watcher_start(w), 0);
    return w;
}

static void run_for(int64_t ns) { CHECK_EQ(weald_sleep(ns), 0); }

/* Until `*n` is as wanted, however slow the machine, and then a little longer. */
static void run_until(const int *n, int wanted)
{
    for (int64_t end = weald_after(WEALD_SEC(20)); *n < wanted && weald_now() < end;)
        run_for(WEALD_MS(1));
    run_for(WEALD_MS(2));
    CHECK_EQ(*n, wanted);
}

static void (*handler_of(int signo))(int)
{
    struct sigaction action;

    CHECK_EQ(sigaction(signo, NULL, &action), 0);
    return action.sa_handler;
}

static volatile sig_atomic_t handled;

static void handle(int signo)
{
    (void)signo;
    handled++;
}

/* Begins to catch without waiting. */
static void begin_to_catch(const int *signos, size_t n) { CHECK_EQ(weald_signal_wait(signos, n, WEALD_NOW), WEALD_EAGAIN); }

static void *raise_late(void *signo)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(kill(getpid(), *(const int *)signo), 0);
    return NULL;
}

/* ---- waiting ---- */

TEST(wait_returns_the_number_of_the_signal_that_came)
{
    CHECK_EQ(weald_go(raise_late, (void *)(intptr_t)usr2), 0);
    CHECK_EQ(weald_signal_wait(both, 2, WEALD_FOREVER), SIGUSR2);
    CHECK_EQ(weald_go(raise_late, (void *)(intptr_t)usr1), 0);
    CHECK_EQ(weald_signal_wait(both, 2, WEALD_FOREVER), SIGUSR1);
}

TEST(the_first_wait_begins_to_catch_even_if_it_does_not_wait)
{
    begin_to_catch(usr1, 1);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_NOW), SIGUSR1);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_NOW), WEALD_EAGAIN);
}

TEST(signals_that_come_while_nobody_waits_are_kept)
{
    begin_to_catch(both, 2);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(raise(SIGUSR2), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    run_for(WEALD_MS(2));
    CHECK_EQ(weald_signal_wait(both, 2, WEALD_FOREVER), SIGUSR1);
    CHECK_EQ(weald_signal_wait(both, 2, WEALD_FOREVER), SIGUSR2);
    CHECK_EQ(weald_signal_wait(both, 2, WEALD_NOW), WEALD_EAGAIN); /* the three were one */
}

TEST(a_wait_takes_only_the_signals_it_named)
{
    begin_to_catch(both, 2);
    CHECK_EQ(raise(SIGUSR2), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_signal_wait(usr2, 1, WEALD_NOW), SIGUSR2);
}

TEST(a_wait_ends_at_its_deadline)
{
    int64_t begin = weald_now();

    CHECK_EQ(weald_signal_wait(usr1, 1, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_GE(weald_now() - begin, WEALD_MS(5));
    CHECK_EQ(raise(SIGUSR1), 0); /* it is caught from then on */
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_NOW), SIGUSR1);
}

static int got[8], waits;

static void *wait_once(void *signos)
{
    int code = weald_signal_wait((const int *)signos, 1, WEALD_FOREVER);

    got[waits++] = code;
    return NULL;
}

TEST(each_signal_goes_to_one_greenlet_in_the_order_they_came)
{
    weald_greenlet a = weald_spawn(wait_once, (void *)(intptr_t)usr1);
    weald_greenlet b = weald_spawn(wait_once, (void *)(intptr_t)usr1);

    CHECK_EQ(weald_yield(), 0); /* now it waits */
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(weald_join(a, weald_after(WEALD_SEC(5))), 0);
    run_for(WEALD_MS(1));
    CHECK_EQ(weald_ready(b), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(weald_join(b, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(got[0], SIGUSR1);
    CHECK_EQ(got[1], SIGUSR1);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
}

TEST(a_killed_wait_is_ecanceled)
{
    weald_greenlet g = weald_spawn(wait_once, (void *)(intptr_t)usr1);

    CHECK_EQ(weald_yield(), 0); /* now it waits */
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(got[0], WEALD_ECANCELED);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_signal_given_to_a_greenlet_that_is_killed_before_it_runs_is_not_lost)
{
    weald_greenlet g = weald_spawn(wait_once, (void *)(intptr_t)usr1);

    CHECK_EQ(weald_yield(), 0); /* now it waits */
    CHECK_EQ(raise(SIGUSR1), 0);
    begin_to_catch(usr2, 1); /* looks for signals, and so gives the greenlet its own */
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(got[0], WEALD_ECANCELED);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_NOW), SIGUSR1);
    CHECK_EQ(weald_close(g), 0);
}

static void *wait_then_count(void *n)
{
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_FOREVER), SIGUSR1);
    ++*(int *)n;
    return NULL;
}

TEST(a_signal_may_always_come_so_a_wait_is_no_deadlock_and_keeps_the_loop_running)
{
    int n = 0;

    CHECK_EQ(weald_go(wait_then_count, &n), 0);
    CHECK_EQ(weald_run(weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(n, 1);
}

TEST(what_is_no_signal_or_can_not_be_caught_is_einval)
{
    static const int bad[] = {0,       -1,     65,     1000,   32,     33,      INT32_MIN, INT32_MAX,
                              SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int pair[] = {SIGUSR1, bad[i]};

        CHECK_EQ(weald_signal_wait(pair, 2, WEALD_NOW), WEALD_EINVAL);
        CHECK_EQ(weald_signal_release(pair, 2), WEALD_EINVAL);
        CHECK_EQ(weald_signal_watcher(bad[i], count, NULL), WEALD_EINVAL);
    }
    CHECK(handler_of(SIGUSR1) == SIG_DFL);
    CHECK_EQ(weald_signal_wait(usr1, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_signal_wait(NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_signal_wait(NULL, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_signal_release(NULL, 1), WEALD_EINVAL);
    CHECK_EQ(weald_signal_release(NULL, 0), WEALD_EINVAL);
}

TEST(every_signal_that_can_be_caught_can_be_waited_for)
{
    /* valgrind keeps the last one for itself. */
    int last = strcmp(test_under(), "valgrind") == 0 ? SIGRTMAX - 1 : SIGRTMAX;

    for (int signo = 1; signo <= last; signo++) {
        int fatal = signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL;

        if (signo == SIGKILL || signo == SIGSTOP || fatal || (signo > 31 && signo < SIGRTMIN))
            continue;
        begin_to_catch(&signo, 1);
        CHECK_EQ(raise(signo), 0);
        CHECK_EQ(weald_signal_wait(&signo, 1, WEALD_FOREVER), signo);
        CHECK_EQ(weald_signal_release(&signo, 1), 0);
    }
}

static void wait_in_callback(void *code)
{
    *(int *)code = weald_signal_wait(usr1, 1, WEALD_FOREVER);
    CHECK_EQ(weald_signal_wait(usr2, 1, WEALD_NOW), WEALD_EAGAIN);
}

TEST(waiting_in_a_callback_is_ewouldblock_and_begins_nothing)
{
    int code = 0;
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_post(hub, wait_in_callback, &code), 0);
    while (code == 0)
        run_for(WEALD_MS(1));
    CHECK_EQ(code, WEALD_EWOULDBLOCK);
    CHECK(handler_of(SIGUSR1) == SIG_DFL);
    CHECK(handler_of(SIGUSR2) != SIG_DFL);
    CHECK_EQ(weald_close(hub), 0);
}

static int no(void) { return 0; }

TEST(waiting_under_a_veto_is_eperm)
{
    weald_hooks hooks;

    memset(&hooks, 0, sizeof hooks);
    hooks.size = sizeof hooks;
    hooks.may_park = no;
    CHECK_EQ(weald_set_hooks(&hooks), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK(handler_of(SIGUSR1) == SIG_DFL);
}

TEST(without_a_descriptor_to_spare_nothing_is_caught)
{
    struct rlimit limit = {0, 0}, all;
    int ran = 0;
    weald_watcher w = weald_signal_watcher(SIGUSR1, count, NULL);

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &all), 0);
    limit.rlim_max = all.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(weald_signal_wait(both, 2, WEALD_NOW), WEALD_EMFILE);
    CHECK_EQ(weald_watcher_start(w), WEALD_EMFILE);
    CHECK_EQ(weald_on_terminate(count_callback, &ran), WEALD_EMFILE);
    CHECK_EQ(weald_watcher_active(w), 0);
    CHECK(handler_of(SIGUSR1) == SIG_DFL);
    CHECK(handler_of(SIGINT) == SIG_DFL);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &all), 0);
    begin_to_catch(both, 2);
    CHECK_EQ(weald_on_terminate(count_callback, &ran), 0);
    CHECK_EQ(weald_close(w), 0);
}

TEST(after_shutdown_signals_are_eshutdown)
{
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_NOW), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_signal_release(usr1, 1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_on_terminate(count_callback, &calls), WEALD_ESHUTDOWN);
}

/* ---- what was there before ---- */

TEST(release_restores_what_was_there_before)
{
    struct sigaction before, after;

    memset(&before, 0, sizeof before);
    before.sa_handler = handle;
    sigaddset(&before.sa_mask, SIGHUP);
    before.sa_flags = SA_NODEFER;
    CHECK_EQ(sigaction(SIGUSR1, &before, NULL), 0);
    begin_to_catch(both, 2);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(handled, 0);
    CHECK_EQ(weald_signal_release(usr1, 1), 0);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &after), 0);
    CHECK(after.sa_handler == handle);
    CHECK_EQ(after.sa_flags & SA_NODEFER, SA_NODEFER);
    CHECK_EQ(sigismember(&after.sa_mask, SIGHUP), 1);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(handled, 1);
    CHECK(handler_of(SIGUSR2) != SIG_DFL);
    CHECK_EQ(weald_signal_release(both, 2), 0); /* one of them for the second time */
    CHECK(handler_of(SIGUSR2) == SIG_DFL);
}

TEST(release_forgets_what_has_come)
{
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    begin_to_catch(usr1, 1);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(weald_signal_release(usr1, 1), 0);
    begin_to_catch(usr1, 1);
    CHECK_EQ(raise(SIGUSR1), 0);
    run_for(WEALD_MS(1));
    CHECK_EQ(weald_signal_release(usr1, 1), 0);
    begin_to_catch(usr1, 1);
}

TEST(release_ends_waits_with_ecanceled)
{
    weald_greenlet a = weald_spawn(wait_once, (void *)(intptr_t)usr1);
    weald_greenlet b = weald_spawn(wait_once, (void *)(intptr_t)usr2);

    CHECK_EQ(weald_yield(), 0); /* now it waits */
    CHECK_EQ(weald_signal_release(usr1, 1), 0);
    CHECK_EQ(weald_join(a, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(got[0], WEALD_ECANCELED);
    CHECK_EQ(raise(SIGUSR2), 0);
    CHECK_EQ(weald_join(b, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(got[1], SIGUSR2);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
}

TEST(the_last_to_lose_interest_restores)
{
    weald_watcher a = started(weald_signal_watcher(SIGUSR1, count, NULL));
    weald_watcher b = started(weald_signal_watcher(SIGUSR1, count, NULL));

    begin_to_catch(usr1, 1);
    CHECK_EQ(weald_watcher_stop(a), 0);
    CHECK_EQ(weald_signal_release(usr1, 1), 0);
    CHECK(handler_of(SIGUSR1) != SIG_DFL);
    CHECK_EQ(raise(SIGUSR1), 0);
    run_until(&calls, 1);
    CHECK_EQ(weald_close(b), 0);
    CHECK(handler_of(SIGUSR1) == SIG_DFL);
    CHECK_EQ(weald_close(a), 0);
}

TEST(a_handler_that_was_installed_meanwhile_stays)
{
    begin_to_catch(usr1, 1);
    CHECK(signal(SIGUSR1, handle) != SIG_ERR);
    CHECK_EQ(weald_signal_release(usr1, 1), 0);
    CHECK(handler_of(SIGUSR1) == handle);
}

static void *catch_and_end(void *unused)
{
    begin_to_catch(both, 2);
    started(weald_signal_watcher(SIGHUP, count, NULL));
    CHECK_EQ(weald_on_terminate(count_callback, &calls), 0);
    return unused;
}

TEST(the_end_of_a_hub_or_thread_restores_and_leaves_nothing_open)
{
    static const int signos[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGINT, SIGTERM};
    pthread_t thread;
    int fds = test_fds();

    CHECK_EQ(pthread_create(&thread, NULL, catch_and_end, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 5; i++)
        CHECK(handler_of(signos[i]) == SIG_DFL);
    CHECK_EQ(test_fds(), fds);
    catch_and_end(NULL);
    CHECK(handler_of(SIGHUP) != SIG_DFL);
    CHECK_EQ(weald_hub_shutdown(), 0);
    for (int i = 0; i < 5; i++)
        CHECK(handler_of(signos[i]) == SIG_DFL);
    CHECK_EQ(test_fds(), fds);
}

TEST(without_interest_no_descriptor_is_kept)
{
    int fds;

    run_for(WEALD_MS(1));
    fds = test_fds();
    for (int i = 0; i < 100; i++) {
        begin_to_catch(both, 2);
        CHECK_EQ(test_fds(), fds + 1);
        CHECK_EQ(raise(SIGUSR1), 0);
        CHECK_EQ(weald_signal_release(both, 2), 0);
        CHECK_EQ(test_fds(), fds);
    }
    run_for(WEALD_MS(2));
}

/* ---- watchers ---- */

TEST(a_signal_watcher_gets_the_number)
{
    weald_watcher w = started(weald_signal_watcher(SIGUSR2, count, NULL));

    CHECK_EQ(raise(SIGUSR2), 0);
    CHECK_EQ(raise(SIGUSR2), 0);
    run_until(&calls, 1);
    CHECK_EQ(last_what, SIGUSR2);
    CHECK_EQ(raise(SIGUSR2), 0);
    run_until(&calls, 2);
    CHECK_EQ(weald_close(w), 0);
}

TEST(watchers_and_a_waiting_greenlet_all_get_a_signal)
{
    weald_watcher a = started(weald_signal_watcher(SIGUSR1, count, NULL));
    weald_watcher b = started(weald_signal_watcher(SIGUSR1, count, NULL));
    weald_watcher other = started(weald_signal_watcher(SIGUSR2, count, NULL));

    CHECK_EQ(weald_go(raise_late, (void *)(intptr_t)usr1), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_FOREVER), SIGUSR1);
    run_until(&calls, 2);
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
    CHECK_EQ(weald_close(other), 0);
}

static void *sleep_long(void *unused)
{
    CHECK_EQ(weald_sleep(WEALD_SEC(3600)), WEALD_ECANCELED);
    return unused;
}

static void kill_greenlet(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    CHECK_EQ(weald_kill(*(weald_greenlet *)user, 0, WEALD_NOW), 0);
}

static void *signal_later(void *thread)
{
    usleep(5000);
    CHECK_EQ(pthread_kill(*(pthread_t *)thread, SIGUSR1), 0);
    return NULL;
}

static void *doze(void *unused)
{
    usleep(200000);
    return unused;
}

TEST(a_signal_ends_the_sleep_of_the_loop_also_one_that_another_thread_takes)
{
    sigset_t blocked;
    pthread_t self = pthread_self(), thread, other;
    weald_greenlet g = weald_spawn(sleep_long, NULL);
    weald_watcher w = started(weald_signal_watcher(SIGUSR1, kill_greenlet, &g));

    CHECK_EQ(pthread_create(&thread, NULL, signal_later, &self), 0);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(g), 0);

    g = weald_spawn(sleep_long, NULL);
    CHECK_EQ(weald_watcher_set_user(w, &g), 0);
    CHECK_EQ(pthread_create(&other, NULL, doze, NULL), 0);
    CHECK_EQ(pthread_create(&thread, NULL, signal_later, &other), 0);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &blocked, NULL), 0);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(pthread_join(other, NULL), 0);
    CHECK_EQ(calls, 2);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(w), 0);
}

static int ready, thread_got;

static void *wait_in_thread(void *unused)
{
    begin_to_catch(usr1, 1);
    __atomic_store_n(&ready, 1, __ATOMIC_SEQ_CST);
    thread_got = weald_signal_wait(usr1, 1, weald_after(WEALD_SEC(10)));
    return unused;
}

TEST(every_interested_thread_gets_a_signal)
{
    pthread_t thread;

    begin_to_catch(usr1, 1);
    CHECK_EQ(pthread_create(&thread, NULL, wait_in_thread, NULL), 0);
    while (!__atomic_load_n(&ready, __ATOMIC_SEQ_CST))
        run_for(WEALD_MS(1));
    CHECK_EQ(kill(getpid(), SIGUSR1), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, weald_after(WEALD_SEC(10))), SIGUSR1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(thread_got, SIGUSR1);
    CHECK(handler_of(SIGUSR1) != SIG_DFL); /* the thread's interest has ended, ours has not */
}

/* ---- SIGCHLD ---- */

static siginfo_t last_info;

static void handle_info(int signo, siginfo_t *info, void *context)
{
    CHECK_EQ(signo, SIGCHLD);
    CHECK(context != NULL);
    last_info = *info;
    handled++;
}

static pid_t child_that_exits(int status)
{
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0)
        _exit(status);
    return pid;
}

static void check_sigchld_is_watched_and_handled(void)
{
    static const int chld[] = {SIGCHLD};
    weald_watcher w = started(weald_signal_watcher(SIGCHLD, count, NULL));
    pid_t pid;

    begin_to_catch(chld, 1);
    pid = child_that_exits(0);
    CHECK_EQ(weald_signal_wait(chld, 1, weald_after(WEALD_SEC(10))), SIGCHLD);
    run_until(&calls, 1);
    CHECK_EQ(handled, 1);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_signal_release(chld, 1), 0);
    pid = child_that_exits(0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK_EQ(handled, 2);
}

TEST(a_sigchld_handler_that_was_there_is_called_as_well)
{
    CHECK(signal(SIGCHLD, handle) != SIG_ERR);
    check_sigchld_is_watched_and_handled();
    CHECK(handler_of(SIGCHLD) == handle);
}

TEST(a_sigchld_handler_with_siginfo_is_called_as_well)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_sigaction = handle_info;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    CHECK_EQ(sigaction(SIGCHLD, &action, NULL), 0);
    check_sigchld_is_watched_and_handled();
    CHECK_EQ(last_info.si_signo, SIGCHLD);
    CHECK_GT(last_info.si_pid, 0);
}

static sigjmp_buf place;

static void jump_away(int signo)
{
    (void)signo;
    siglongjmp(place, 1);
}

TEST(a_sigchld_handler_may_jump_away)
{
    static const int chld[] = {SIGCHLD};

    CHECK(signal(SIGCHLD, jump_away) != SIG_ERR);
    begin_to_catch(chld, 1);
    if (sigsetjmp(place, 1) == 0) {
        raise(SIGCHLD);
        CHECK(0);
    }
    CHECK_EQ(weald_signal_wait(chld, 1, WEALD_NOW), SIGCHLD);
    CHECK_EQ(weald_signal_release(chld, 1), 0); /* waits for no handler */
}

TEST(children_that_are_ignored_do_not_become_zombies_while_sigchld_is_watched)
{
    weald_watcher w;
    pid_t pid;

    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    w = started(weald_signal_watcher(SIGCHLD, count, NULL));
    pid = child_that_exits(0);
    CHECK_EQ(waitpid(pid, NULL, 0), -1); /* waits for its end, reaps nothing */
    CHECK_EQ(errno, ECHILD);
    run_until(&calls, 1);
    CHECK_EQ(weald_close(w), 0);
    CHECK(handler_of(SIGCHLD) == SIG_IGN);
}

TEST(a_child_watcher_leaves_sigchld_alone)
{
    weald_watcher w;

    CHECK(signal(SIGCHLD, handle) != SIG_ERR);
    w = started(weald_child_watcher(child_that_exits(0), count, NULL));
    CHECK_EQ(weald_run(weald_after(WEALD_SEC(10))), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(handled, 1);
    CHECK(handler_of(SIGCHLD) == handle);
    CHECK_EQ(weald_close(w), 0);
}

/* ---- many signals ---- */

static void every_millisecond(int on)
{
    struct itimerval tick = {{0, on ? 1000 : 0}, {0, on ? 1000 : 0}};

    CHECK_EQ(setitimer(ITIMER_REAL, &tick, NULL), 0);
}

static void *echo(void *ends)
{
    const int *fd = ends;
    char byte;

    for (;;) {
        CHECK_EQ(weald_wait_read(fd[0], WEALD_FOREVER), 0);
        if (read(fd[0], &byte, 1) != 1)
            return NULL;
        CHECK_EQ(write(fd[3], &byte, 1), 1);
    }
}

/* Sleeps and a ping-pong, undisturbed by what comes every millisecond. */
static void work_for(int64_t ns)
{
    int ends[4];
    char byte = 'x';
    weald_greenlet g;

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(pipe(ends + 2), 0);
    g = weald_spawn(echo, ends);
    for (int64_t end = weald_after(ns); weald_now() < end;) {
        int64_t begin = weald_now();

        CHECK_EQ(weald_sleep(WEALD_MS(3)), 0);
        CHECK_GE(weald_now() - begin, WEALD_MS(3));
        for (int i = 0; i < 10; i++) {
            CHECK_EQ(write(ends[1], &byte, 1), 1);
            CHECK_EQ(weald_wait_read(ends[2], weald_after(WEALD_SEC(10))), 0);
            CHECK_EQ(read(ends[2], &byte, 1), 1);
        }
    }
    close(ends[1]);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(10))), 0);
    CHECK_EQ(weald_close(g), 0);
    close(ends[0]);
    close(ends[2]);
    close(ends[3]);
}

TEST(signals_at_1_khz_that_are_watched_do_not_disturb)
{
    weald_watcher w = started(weald_signal_watcher(SIGALRM, count, NULL));

    every_millisecond(1);
    work_for(WEALD_SEC(1));
    every_millisecond(0);
    CHECK_GE(calls, 100);
    CHECK_EQ(weald_close(w), 0);
}

TEST(signals_at_1_khz_for_a_foreign_handler_do_not_disturb)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handle; /* without SA_RESTART */
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    every_millisecond(1);
    work_for(WEALD_SEC(1));
    every_millisecond(0);
    CHECK_GE(handled, 100);
}

TEST(interest_may_come_and_go_while_signals_pour_in)
{
    const int alrm[] = {SIGALRM};
    pthread_t thread;

    CHECK(signal(SIGALRM, handle) != SIG_ERR); /* were it ignored, the kernel would stop the timer */
    every_millisecond(1);
    for (int64_t end = weald_after(WEALD_MS(500)); weald_now() < end;) {
        CHECK_EQ(pthread_create(&thread, NULL, catch_and_end, NULL), 0);
        CHECK_EQ(weald_signal_wait(alrm, 1, weald_after(WEALD_SEC(10))), SIGALRM);
        CHECK_EQ(weald_signal_release(alrm, 1), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    every_millisecond(0);
    CHECK(handler_of(SIGALRM) == handle);
}

static int blocked_in_read;

static void *read_one(void *fd)
{
    char byte;

    __atomic_store_n(&blocked_in_read, 1, __ATOMIC_SEQ_CST);
    return read(*(int *)fd, &byte, 1) == 1 ? fd : NULL;
}

TEST(blocking_calls_elsewhere_are_restarted)
{
    pthread_t thread;
    void *value = NULL;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    begin_to_catch(usr1, 1);
    CHECK_EQ(pthread_create(&thread, NULL, read_one, ends), 0);
    while (!__atomic_load_n(&blocked_in_read, __ATOMIC_SEQ_CST))
        run_for(WEALD_MS(1));
    run_for(WEALD_MS(10));
    CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, weald_after(WEALD_SEC(10))), SIGUSR1);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(pthread_join(thread, &value), 0);
    CHECK_PTR(value, ends);
}

/* ---- an orderly end ---- */

TEST(the_first_signal_to_terminate_is_answered_in_the_loop)
{
    static const int signos[] = {SIGINT, SIGTERM, SIGQUIT};

    CHECK(signal(SIGQUIT, handle) != SIG_ERR);
    CHECK(signal(SIGINT, handle) != SIG_ERR);
    CHECK(signal(SIGTERM, handle) != SIG_ERR);
    for (int i = 0; i < 3; i++) {
        int ran = 0;

        CHECK_EQ(weald_on_terminate(count_callback, &ran), 0);
        CHECK_EQ(raise(signos[i]), 0);
        CHECK_EQ(ran, 0);
        run_until(&ran, 1);
        CHECK_EQ(handled, i);
        for (int j = 0; j < 3; j++)
            CHECK(handler_of(signos[j]) == handle);
        CHECK_EQ(raise(signos[i]), 0); /* the second one does what it did before */
        CHECK_EQ(handled, i + 1);
        run_until(&ran, 1);
    }
}

static void announce(void *unused)
{
    (void)unused;
    fputs("closing\n", stderr);
    calls++;
}

static void terminated_twice(void)
{
    CHECK(signal(SIGTERM, SIG_DFL) != SIG_ERR);
    CHECK_EQ(weald_on_terminate(announce, NULL), 0);
    CHECK_EQ(raise(SIGTERM), 0);
    run_until(&calls, 1);
    CHECK_EQ(raise(SIGINT), 0);
    CHECK(0);
}

TEST(the_second_signal_to_terminate_ends_the_program)
{
    char text[200];
    int status = test_in_child(terminated_twice, text, sizeof text);

    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGINT);
    CHECK_CONTAINS(text, "closing\n");
}

static void terminated_while_stuck(void)
{
    CHECK(signal(SIGTERM, SIG_DFL) != SIG_ERR);
    CHECK_EQ(weald_on_terminate(announce, NULL), 0);
    CHECK_EQ(raise(SIGTERM), 0);
    CHECK_EQ(raise(SIGTERM), 0); /* at once: as when one was sent to us and to our group */
    usleep(1100000);
    fputs("stuck\n", stderr);
    CHECK_EQ(raise(SIGTERM), 0);
    CHECK(0);
}

TEST(a_loop_that_is_stuck_does_not_keep_the_program_from_being_ended)
{
    char text[200];
    int status = test_in_child(terminated_while_stuck, text, sizeof text);

    CHECK_CONTAINS(text, "stuck\n");
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGTERM);
}

static void stop_the_loop(void *ran)
{
    ++*(int *)ran;
    CHECK_EQ(weald_sleep(WEALD_MS(1)), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_stop(), 0);
}

TEST(to_be_ready_for_the_end_does_not_keep_the_loop_running)
{
    static const int terminate = SIGTERM;
    int ran = 0;
    weald_watcher keeps;

    CHECK_EQ(weald_on_terminate(stop_the_loop, &ran), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    keeps = started(weald_async_watcher(count, NULL));
    CHECK_EQ(weald_go(raise_late, (void *)(intptr_t)&terminate), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(ran, 1);
    CHECK_EQ(weald_close(keeps), 0);
}

TEST(on_terminate_twice_is_ealready_and_null_is_einval)
{
    CHECK_EQ(weald_on_terminate(NULL, NULL), WEALD_EINVAL);
    CHECK(handler_of(SIGTERM) == SIG_DFL);
    CHECK_EQ(weald_on_terminate(count_callback, &calls), 0);
    CHECK_EQ(weald_on_terminate(count_callback, &calls), WEALD_EALREADY);
    CHECK_EQ(raise(SIGTERM), 0);
    run_until(&calls, 1);
    CHECK_EQ(weald_on_terminate(count_callback, &calls), 0); /* it has run */
}

/* ---- fork ---- */

TEST(a_forked_child_begins_with_what_was_there_before)
{
    weald_watcher w;
    pid_t pid;
    int fds, status;

    CHECK_EQ(weald_yield(), 0);
    pid = fork();
    if (pid == 0)
        test_leave(test_fds());
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    fds = WEXITSTATUS(status); /* what a child has before there is any interest in signals */
    CHECK(signal(SIGUSR1, handle) != SIG_ERR);
    begin_to_catch(both, 2);
    CHECK_EQ(weald_on_terminate(count_callback, &calls), 0);
    w = started(weald_signal_watcher(SIGHUP, count, NULL));
    CHECK_EQ(raise(SIGUSR2), 0);
    pid = fork();
    if (pid == 0) {
        CHECK_EQ(test_fds(), fds);
        CHECK(handler_of(SIGUSR1) == handle);
        CHECK(handler_of(SIGUSR2) == SIG_DFL);
        CHECK(handler_of(SIGTERM) == SIG_DFL);
        CHECK(handler_of(SIGHUP) == SIG_DFL);
        CHECK_EQ(raise(SIGUSR1), 0);
        CHECK_EQ(handled, 1);
        begin_to_catch(both, 2); /* nothing has come */
        CHECK_EQ(raise(SIGUSR1), 0);
        CHECK_EQ(weald_signal_wait(both, 2, weald_after(WEALD_SEC(10))), SIGUSR1);
        started(w);
        CHECK_EQ(raise(SIGHUP), 0);
        run_until(&calls, 1);
        pid = fork();
        if (pid == 0) {
            CHECK(handler_of(SIGUSR1) == handle);
            begin_to_catch(both, 2);
            CHECK_EQ(raise(SIGUSR2), 0);
            CHECK_EQ(weald_signal_wait(both, 2, weald_after(WEALD_SEC(10))), SIGUSR2);
            test_leave(0);
        }
        test_ends_well(pid);
        CHECK_EQ(weald_close(w), 0);
        CHECK_EQ(weald_hub_shutdown(), 0);
        CHECK(handler_of(SIGUSR1) == handle);
        test_leave(0);
    }
    test_ends_well(pid);
    CHECK_EQ(weald_signal_wait(both, 2, WEALD_NOW), SIGUSR2);
    CHECK_EQ(raise(SIGHUP), 0);
    CHECK_EQ(raise(SIGTERM), 0);
    run_until(&calls, 2);
    CHECK_EQ(weald_close(w), 0);
}

static pid_t forked = -1;

static void fork_in_callback(weald_watcher w, int what, void *user)
{
    count(w, what, user);
    forked = fork();
}

static void ignore_report(const char *text, void *user)
{
    (void)text;
    (void)user;
}

TEST(a_wait_that_a_callback_forks_under_ends_in_the_child_which_goes_on)
{
    weald_watcher w = started(weald_timer_watcher(0, 0, fork_in_callback, NULL));
    int code;

    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    code = weald_signal_wait(usr1, 1, weald_after(WEALD_MS(100)));
    if (forked == 0) {
        CHECK_EQ(code, WEALD_ETIMEDOUT); /* nothing of the parent's is left but the deadline */
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        begin_to_catch(usr1, 1);
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        CHECK_EQ(weald_close(w), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        test_leave(0);
    }
    CHECK_EQ(code, WEALD_ETIMEDOUT);
    test_ends_well(forked);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_wait_without_deadline_that_a_callback_forks_under_is_edeadlk_in_the_child)
{
    weald_watcher w = started(weald_timer_watcher(0, 0, fork_in_callback, NULL));
    int code;

    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    CHECK_EQ(weald_go(raise_late, (void *)(intptr_t)usr1), 0);
    code = weald_signal_wait(usr1, 1, WEALD_FOREVER);
    if (forked == 0) {
        CHECK_EQ(code, WEALD_EDEADLK); /* nothing is caught, and the greenlet is the parent's */
        test_leave(0);
    }
    CHECK_EQ(code, SIGUSR1);
    test_ends_well(forked);
    CHECK_EQ(weald_close(w), 0);
}

static void *fork_in_thread(void *unused)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (handler_of(SIGUSR1) != SIG_DFL || handler_of(SIGTERM) != SIG_DFL)
            _exit(1);
        _exit(0);
    }
    test_ends_well(pid);
    return unused;
}

TEST(a_child_forked_by_a_thread_without_a_hub_begins_so_too)
{
    pthread_t thread;

    begin_to_catch(usr1, 1);
    CHECK_EQ(weald_on_terminate(count_callback, &calls), 0);
    CHECK_EQ(pthread_create(&thread, NULL, fork_in_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(weald_signal_wait(usr1, 1, WEALD_NOW), SIGUSR1);
}

TEST(forking_while_signals_pour_in_harms_nobody)
{
    weald_watcher w = started(weald_signal_watcher(SIGALRM, count, NULL));

    every_millisecond(1);
    for (int i = 0; i < 100; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
            _exit(0);
        }
        CHECK_GE(pid, 0);
        test_ends_well(pid);
        run_for(WEALD_US(500));
    }
    every_millisecond(0);
    CHECK_GE(calls, 10);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_greenlet_on_the_smallest_stack_may_be_interrupted_by_signals)
{
    weald_spawn_options options;
    weald_watcher w = started(weald_signal_watcher(SIGALRM, count, NULL));
    weald_greenlet g;
    int ends[2];

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.stack_size = 16384;
    CHECK_EQ(pipe(ends), 0);
    g = weald_spawn_with(raise_late, (void *)(intptr_t)(const int[]){SIGALRM}, &options);
    CHECK_GT(g, 0);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(5))), 0);
    run_until(&calls, 1);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(w), 0);
}
