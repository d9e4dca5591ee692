/* Codes of processes and channels, where other tests do not provoke them: without memory, and in the child of a fork. */
#include "starve.h"
#include "errors.h"

static weald_process p;
static weald_channel ends[2];
static char much[1 << 20];

static weald_process start(const char *program, int out)
{
    const char *argv[] = {program, "30", NULL};
    weald_process_options options = {.size = sizeof options, .out = out, .in = WEALD_NULL};
    weald_process started = weald_process_spawn(argv, &options);

    CHECK_GT(started, 0);
    return started;
}

static int does_nothing(weald_channel c, void *unused)
{
    (void)c, (void)unused;
    return 0;
}

TEST(no_process_and_no_channel_is_made_without_memory)
{
    const char *argv[] = {"true", NULL};
    weald_process_options with_pipe = {.size = sizeof with_pipe, .out = WEALD_PIPE};
    weald_channel c = 77;
    int status = 77, fds;

    CHECK_EQ(weald_close(start("true", 0)), 0);
    CHECK_EQ(weald_channel_pair(ends, 0), 0);
    while (waitpid(-1, NULL, WNOHANG) == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    fds = test_fds();
    starve();
    CHECK_EQ(weald_process_spawn(argv, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_process_spawn(argv, &with_pipe), WEALD_ENOMEM);
    CHECK_EQ(weald_system("true", &status, WEALD_FOREVER), WEALD_ENOMEM);
    CHECK_EQ(weald_popen("true", "rw"), WEALD_ENOMEM);
    CHECK_EQ(weald_process_fork(does_nothing, NULL, &c, 0), WEALD_ENOMEM);
    CHECK_EQ(weald_channel_pair(ends, 0), WEALD_ENOMEM);
    CHECK_EQ(weald_channel_open(0, 0, 0), WEALD_ENOMEM);
    CHECK_EQ(weald_channel_send(ends[0], much, sizeof much, WEALD_FOREVER), WEALD_ENOMEM);
    CHECK_EQ(weald_channel_unsent(ends[0]), 0);
    CHECK_EQ(c, 77);
    CHECK_EQ(status, 77);
    feed();
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(weald_system("true", &status, WEALD_FOREVER), 0);
    CHECK_EQ(status, 0);
}

TEST(nobody_waits_for_a_process_without_memory)
{
    weald_process_io io = {.size = sizeof io};

    p = start("sleep", WEALD_PIPE);
    starve();
    CHECK_EQ(weald_process_wait(p, NULL, soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_process_communicate(p, &io, soon()), WEALD_ENOMEM);
    feed();
    CHECK_EQ(weald_process_kill(p, SIGKILL), 0);
    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    CHECK_EQ(weald_exit_signal(io.status), SIGKILL);
    weald_free(io.out);
}

TEST(nobody_waits_for_a_message_without_memory)
{
    void *data = NULL;
    size_t len;

    CHECK_EQ(weald_channel_pair(ends, 0), 0);
    CHECK_EQ(weald_channel_send(ends[0], much, sizeof much, WEALD_NOW), WEALD_EAGAIN);
    CHECK_GT(weald_channel_unsent(ends[0]), 0);
    starve();
    CHECK_EQ(weald_channel_flush(ends[0], soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_channel_receive(ends[0], &data, &len, soon()), WEALD_ENOMEM);
    CHECK_PTR(data, NULL);
    feed();
}

/* ---- in the child of a fork that a callback makes ---- */

static void let_it_end(weald_watcher w, int what, void *user)
{
    (void)w, (void)what, (void)user;
    CHECK_EQ(weald_channel_send(ends[1], "x", 1, WEALD_NOW), 0);
}

static void *receive_all(void *unused)
{
    for (;;) {
        void *data;
        size_t len;

        if (weald_channel_receive(ends[1], &data, &len, WEALD_FOREVER) < 0)
            return unused;
        weald_free(data);
    }
}

static void receive_later(weald_watcher w, int what, void *user)
{
    (void)w, (void)what, (void)user;
    CHECK_EQ(weald_go(receive_all, NULL), 0);
}

static int64_t receive(void)
{
    void *data;
    size_t len;

    return weald_channel_receive(ends[0], &data, &len, WEALD_FOREVER);
}
static int64_t send_much(void) { return weald_channel_send(ends[0], much, sizeof much, WEALD_FOREVER); }
static int64_t flush(void) { return weald_channel_flush(ends[0], WEALD_FOREVER); }

static void prepare(weald_watcher_fn end)
{
    weald_watcher later = weald_timer_watcher(WEALD_MS(50), 0, end, NULL);

    CHECK_EQ(weald_channel_pair(ends, 0), 0);
    CHECK_GT(later, 0);
    CHECK_EQ(weald_watcher_start(later), 0);
}

TEST(a_receive_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    prepare(let_it_end);
    CHECK_EQ(in_a_forked_child(receive), WEALD_EDEADLK);
}

TEST(a_send_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    prepare(receive_later);
    CHECK_EQ(in_a_forked_child(send_much), WEALD_EDEADLK);
}

TEST(a_flush_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    prepare(receive_later);
    CHECK_EQ(weald_channel_send(ends[0], much, sizeof much, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(in_a_forked_child(flush), WEALD_EDEADLK);
}

static void kill_it(weald_watcher w, int what, void *user)
{
    (void)w, (void)what, (void)user;
    CHECK_EQ(weald_process_kill(p, SIGKILL), 0);
}

static int64_t wait_for_it(void) { return weald_process_wait(p, NULL, WEALD_FOREVER); }
static int64_t talk_to_it(void)
{
    weald_process_io io = {.size = sizeof io};
    return weald_process_communicate(p, &io, WEALD_FOREVER);
}
static int64_t run_a_shell(void) { return weald_system("sleep 0.1", NULL, WEALD_FOREVER); }

TEST(a_process_is_the_parent_s_in_a_child_that_a_callback_forks)
{
    errors_call calls[] = {wait_for_it, talk_to_it, run_a_shell};

    for (int i = 0; i < 3; i++) {
        weald_watcher later = weald_timer_watcher(WEALD_MS(50), 0, kill_it, NULL);

        p = start("sleep", i == 1 ? WEALD_PIPE : 0);
        CHECK_EQ(weald_watcher_start(later), 0);
        CHECK_EQ(in_a_forked_child(calls[i]), WEALD_ECHILD);
        CHECK_EQ(weald_sleep(WEALD_MS(60)), 0);
    }
}
