/* Situations in which calls fail, for tests of the codes that they fail with. */
#ifndef WEALD_TEST_ERRORS_H
#define WEALD_TEST_ERRORS_H

#include "test.h"
#include <pthread.h>

/* ---- from another thread: every handle of this one is WEALD_EPERM ---- */

static void *errors_thread(void *body)
{
    ((test_fn)(intptr_t)body)();
    return NULL;
}

static TEST_UNUSED void in_another_thread(test_fn body)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, errors_thread, (void *)(intptr_t)body), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- a call that waits, and why it ends ---- */

typedef int64_t (*errors_call)(void);

struct errors_wait {
    errors_call call;
    int64_t code;
    int ended;
};

static void *errors_make(void *arg)
{
    struct errors_wait *wait = arg;
    wait->code = wait->call();
    wait->ended = 1;
    return NULL;
}

static void errors_callback(void *arg) { errors_make(arg); }
static TEST_UNUSED void errors_no_report(const char *text, void *user) { (void)text, (void)user; }

/* In a greenlet that is killed when it waits. */
static TEST_UNUSED int64_t when_killed(errors_call call)
{
    struct errors_wait wait = {call, 0, 0};
    weald_greenlet g = weald_spawn(errors_make, &wait);

    CHECK_GT(g, 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(wait.ended, 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(wait.ended, 1);
    CHECK_EQ(weald_close(g), 0);
    return wait.code;
}

/* In a timeout that passes meanwhile. */
static TEST_UNUSED int64_t in_a_timeout(errors_call call)
{
    weald_timeout timeout = weald_timeout_start(WEALD_MS(5));
    int64_t code;

    CHECK_GT(timeout, 0);
    code = call();
    CHECK_EQ(weald_timeout_fired(timeout), 1);
    CHECK_EQ(weald_close(timeout), 0);
    return code;
}

/* In a callback of the loop. */
static TEST_UNUSED int64_t in_a_callback(errors_call call)
{
    struct errors_wait wait = {call, 0, 0};
    weald_handle hub = weald_hub();

    CHECK_GT(hub, 0);
    CHECK_EQ(weald_post(hub, errors_callback, &wait), 0);
    while (!wait.ended)
        CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(weald_close(hub), 0);
    return wait.code;
}

static int errors_forbid(void) { return 0; }

/* With a hook that forbids to wait. */
static TEST_UNUSED int64_t when_forbidden(errors_call call)
{
    weald_hooks hooks = {.size = sizeof hooks, .may_park = errors_forbid};
    int64_t code;

    CHECK_EQ(weald_set_hooks(&hooks), 0);
    code = call();
    CHECK_EQ(weald_set_hooks(NULL), 0);
    return code;
}

/* In main, when nothing is left that could end the wait. */
static TEST_UNUSED int64_t in_a_deadlock(errors_call call)
{
    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    return call();
}

/* In main, in the child of a fork that a callback of the loop makes meanwhile; what waits there can not end. */
static pid_t errors_child = -1;

static void errors_fork(weald_watcher w, int what, void *user)
{
    (void)w, (void)what, (void)user;
    errors_child = fork();
    CHECK_GE(errors_child, 0);
}

/* In the parent the call must succeed. */
static TEST_UNUSED int64_t in_a_forked_child(errors_call call)
{
    weald_watcher forks = weald_timer_watcher(0, 0, errors_fork, NULL);
    int64_t code;
    int status;

    CHECK_GT(forks, 0);
    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    CHECK_EQ(weald_watcher_start(forks), 0);
    code = call();
    if (errors_child == 0)
        _exit(code < 0 && code > -256 ? (int)-code : 0);
    CHECK_GE(code, 0);
    CHECK_EQ(waitpid(errors_child, &status, 0), errors_child);
    CHECK(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

/* A process has at most 1023 hubs: ours is one of them now, and the process may have descriptors for the others. */
static TEST_UNUSED void errors_room_for_all_hubs(void)
{
    struct rlimit files;

    if (*test_under())
        SKIP("a thousand threads are too many for the checker");
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    if (files.rlim_max < 5000)
        SKIP("a thousand hubs take more descriptors than a process may have here");
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    CHECK_GT(weald_self(), 0);
}

#endif /* WEALD_TEST_ERRORS_H */
