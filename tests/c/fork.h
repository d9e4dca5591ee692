/* What the tests of fork share: children, what they tell their parents, and one of everything that must go on working. */
#ifndef WEALD_TEST_FORK_H
#define WEALD_TEST_FORK_H

#include "greenlets.h"
#include <fcntl.h>
#include <sys/mman.h>

/* What a child says to its parent. */
struct shared {
    volatile int body_ended, main_went_on, other_ran, destroyed, at_exit, failures;
};
static struct shared *shared;

static TEST_UNUSED void share(void)
{
    void *at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    shared = (struct shared *)at;
}

/* The exit status of a child; one that hangs is killed after ten seconds. */
static TEST_UNUSED int status_of(pid_t pid)
{
    int status;
    const struct timespec pause = {0, 2000000};

    for (int i = 0; i < 5000; i++) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        CHECK_EQ(got, 0);
        nanosleep(&pause, NULL);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -1000;
}

static TEST_UNUSED pid_t forked(void)
{
    pid_t pid;
    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    return pid;
}

static TEST_UNUSED void make_pipe(int ends[2]) { CHECK_EQ(pipe2(ends, O_NONBLOCK), 0); }

static TEST_UNUSED void *put_later(void *fd)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(write((int)(intptr_t)fd, "x", 1), 1);
    return NULL;
}

static TEST_UNUSED void *return_it(void *arg) { return arg; }

/* One of everything: spawn, join, sleep, event, descriptors, post. */
static TEST_UNUSED void use_weald(void)
{
    int p[2];
    void *value = NULL;
    weald_greenlet g = spawned(return_it, &value);
    weald_event e = weald_event_new(0);
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &value);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_event_wait(e, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    make_pipe(p);
    g = spawned(put_later, (void *)(intptr_t)p[1]);
    CHECK_EQ(weald_wait_read(p[0], WEALD_FOREVER), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_post(hub, (weald_callback)free, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_close(e), 0);
    CHECK_EQ(close(p[0]), 0);
    CHECK_EQ(close(p[1]), 0);
}

static TEST_UNUSED weald_event gate;

static TEST_UNUSED void *wait_read(void *fd) { return (void *)(intptr_t)weald_wait_read((int)(intptr_t)fd, WEALD_FOREVER); }

static TEST_UNUSED void *note_other(void *arg)
{
    shared->other_ran++;
    return arg;
}

static TEST_UNUSED void note_posted(void *arg) { note_other(arg); }

/* Who has been forked by a callback, and by a greenlet. */
static TEST_UNUSED volatile pid_t posted_child;
static TEST_UNUSED pid_t child;

static TEST_UNUSED void fork_posted(void *unused)
{
    (void)unused;
    posted_child = forked();
}

static TEST_UNUSED void open_gate(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_event_set(gate), 0);
}

static TEST_UNUSED void ignore_report(const char *text, void *user) { (void)text, (void)user; }

#endif
