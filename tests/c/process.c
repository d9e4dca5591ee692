/* Processes: weald_process_, weald_system, weald_popen. */
#include "errors.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SHELL(command) ARGV("/bin/sh", "-c", command)
#define OPTIONS(...) (&(weald_process_options){.size = sizeof(weald_process_options), __VA_ARGS__})

static weald_process start(const char *const *argv, const weald_process_options *options)
{
    weald_process p = weald_process_spawn(argv, options);

    CHECK_GT(p, 0);
    return p;
}

/* Waits for it and closes it: its exit code. */
static int end_of(weald_process p)
{
    int status = -1;

    CHECK_EQ(weald_process_wait(p, &status, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(p), 0);
    return weald_exit_code(status);
}

static int run(const char *const *argv, const weald_process_options *options)
{
    return end_of(start(argv, options));
}

/* What a shell command writes, with its exit code 0. */
static char *said(const char *command, const weald_process_options *options)
{
    weald_process_options with_pipe = *options;
    weald_process_io io = {.size = sizeof io};
    weald_process p;

    with_pipe.out = WEALD_PIPE;
    p = start(SHELL(command), &with_pipe);
    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    CHECK_EQ(weald_exit_code(io.status), 0);
    CHECK_EQ(strlen(io.out), io.out_size);
    CHECK_PTR(io.err, NULL);
    CHECK_EQ(weald_close(p), 0);
    return io.out;
}

#define CHECK_SAID(command, options, text)                                        \
    do {                                                                          \
        char *out_ = said(command, options);                                      \
        CHECK_STR(out_, text);                                                    \
        weald_free(out_);                                                         \
    } while (0)

/* Waits until the loop has reaped all children, and reaps none itself. */
static void none_left(void)
{
    siginfo_t info;

    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(errno, ECHILD);
}

/* ---- starting ---- */

TEST(a_program_runs_and_its_exit_is_told)
{
    int fds;

    CHECK_EQ(run(ARGV("/bin/true"), NULL), 0);
    fds = test_fds();
    CHECK_EQ(run(ARGV("/bin/false"), NULL), 1);
    CHECK_EQ(run(SHELL("exit 42"), NULL), 42);
    CHECK_EQ(run(SHELL("kill -9 $$"), NULL), 128 + 9);
    CHECK_EQ(test_fds(), fds);
    none_left();
}

TEST(others_run_while_a_greenlet_waits_for_a_process)
{
    weald_process p = start(ARGV("sleep", "0.2"), NULL);
    int status, turns = 0;

    CHECK_GT(weald_process_pid(p), 0);
    CHECK_NE(weald_process_pid(p), getpid());
    while (weald_process_poll(p, &status) == 0) {
        turns++;
        CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    }
    CHECK_GT(turns, 3);
    CHECK_EQ(weald_process_poll(p, NULL), 1);
    CHECK_EQ(weald_exit_code(status), 0);
    CHECK_EQ(weald_exit_signal(status), 0);
    CHECK_EQ(weald_close(p), 0);
}

TEST(a_program_is_looked_for_in_the_path_that_it_will_have)
{
    char folder[] = "/tmp/weald-process-XXXXXX", file[64], path[64];
    const char *env[] = {path, NULL};

    CHECK(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/weald-only-here", folder);
    snprintf(path, sizeof path, "PATH=/nowhere:%s", folder);
    CHECK_EQ(symlink("/bin/true", file), 0);
    CHECK_EQ(weald_process_spawn(ARGV("weald-only-here"), NULL), WEALD_ENOENT);
    CHECK_EQ(run(ARGV("weald-only-here"), OPTIONS(.env = env)), 0);
    CHECK_EQ(run(ARGV("any name"), OPTIONS(.env = env, .program = "weald-only-here")), 0);
    CHECK_EQ(run(ARGV("./weald-only-here"), OPTIONS(.cwd = folder)), 0);
    CHECK_EQ(unlink(file), 0);
    CHECK_EQ(mkdir(file, 0700), 0); /* it is there, and can not be executed */
    CHECK_EQ(weald_process_spawn(ARGV("weald-only-here"), OPTIONS(.env = env)), WEALD_EACCES);
    CHECK_EQ(rmdir(file), 0);
    CHECK_EQ(rmdir(folder), 0);
}

TEST(environment_and_folder_are_what_it_is_given)
{
    const char *env[] = {"ONE=1", "TWO=2 3", NULL};

    CHECK_EQ(setenv("OURS", "inherited", 1), 0);
    CHECK_SAID("echo $OURS", OPTIONS(.cwd = NULL), "inherited\n");
    CHECK_SAID("echo $ONE, $TWO, $OURS.", OPTIONS(.env = env), "1, 2 3, .\n");
    CHECK_SAID("pwd", OPTIONS(.cwd = "/usr"), "/usr\n");
}

TEST(what_can_not_be_started_is_told_and_leaves_nothing)
{
    int fds;

    CHECK_GT(weald_self(), 0);
    none_left();
    CHECK_EQ(run(ARGV("true"), NULL), 0);
    fds = test_fds();
    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind's vfork is a fork, whose failure is not seen");
    CHECK_EQ(weald_process_spawn(ARGV("/no/such/program"), OPTIONS(.out = WEALD_PIPE)), WEALD_ENOENT);
    CHECK_EQ(weald_process_spawn(ARGV(""), NULL), WEALD_ENOENT);
    CHECK_EQ(weald_process_spawn(ARGV("/bin/true"), OPTIONS(.cwd = "/no/such/folder")), WEALD_ENOENT);
    CHECK_EQ(weald_process_spawn(ARGV("/etc/passwd"), OPTIONS(.in = WEALD_PIPE)), WEALD_EACCES);
    CHECK_EQ(weald_process_spawn(ARGV("/bin/true"), OPTIONS(.out = 999)), WEALD_EBADF);
    CHECK_EQ(weald_process_spawn(NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_process_spawn((const char *const[]){NULL}, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_process_spawn(ARGV("true"), OPTIONS(.flags = 1 << 20)), WEALD_EINVAL);
    CHECK_EQ(weald_process_spawn(ARGV("true"), OPTIONS(.in = WEALD_TO_OUT)), WEALD_EINVAL);
    CHECK_EQ(weald_process_spawn(ARGV("true"), OPTIONS(.err = -9)), WEALD_EINVAL);
    CHECK_EQ(weald_process_spawn(ARGV("true"), OPTIONS(.fds_count = 1)), WEALD_EINVAL);
    CHECK_EQ(weald_process_spawn(ARGV("true"), &(weald_process_options){.size = 3}), WEALD_EINVAL);
    CHECK_EQ(test_fds(), fds);
    none_left();
}

TEST(no_descriptors_no_process)
{
    struct rlimit limit, few;
    int ok;

    CHECK_EQ(run(ARGV("true"), NULL), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = 40;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(STDERR_FILENO) >= 0)
        ;
    CHECK_EQ(weald_process_spawn(ARGV("true"), OPTIONS(.out = WEALD_PIPE)), WEALD_EMFILE);
    CHECK_EQ(weald_popen("true", "r"), WEALD_EMFILE);
    CHECK_EQ(weald_process_spawn(ARGV("true"), OPTIONS(.in = WEALD_NULL)), WEALD_EMFILE);
    CHECK_EQ(weald_process_spawn(ARGV("true"), OPTIONS(.fds = &ok, .fds_count = 100)), WEALD_EINVAL);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ok = run(ARGV("true"), OPTIONS(.in = WEALD_NULL));
    CHECK_EQ(ok, 0);
    none_left();
}

static void one_too_many(void)
{
    struct rlimit one = {1, 1};
    int status = 77;

    CHECK_GT(weald_self(), 0);
    CHECK_EQ(setrlimit(RLIMIT_NPROC, &one), 0);
    if (geteuid() == 0)
        CHECK_EQ(setuid(65534), 0);
    CHECK_EQ(weald_process_spawn(ARGV("true"), NULL), WEALD_EAGAIN);
    CHECK_EQ(weald_system("true", &status, WEALD_FOREVER), WEALD_EAGAIN);
    CHECK_EQ(weald_popen("true", "r"), WEALD_EAGAIN);
    CHECK_EQ(status, 77);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
}

TEST(a_user_with_too_many_processes_gets_no_more)
{
    char text[4096];

    CHECK_EQ(test_in_child(one_too_many, text, sizeof text), 0);
}

/* ---- descriptors ---- */

TEST(a_child_has_what_it_is_given_as_its_first_three)
{
    int ends[2];
    char text[64] = "";

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(run(SHELL("echo out; echo err >&2"), OPTIONS(.out = ends[1], .err = WEALD_NULL)), 0);
    CHECK_EQ(read(ends[0], text, sizeof text), 4);
    CHECK_STR(text, "out\n");
    CHECK_EQ(run(SHELL("echo out >&2"), OPTIONS(.out = ends[1], .err = WEALD_TO_OUT)), 0);
    CHECK_EQ(read(ends[0], text, sizeof text), 4);
    CHECK_EQ(run(SHELL("read word && echo $word"), OPTIONS(.in = WEALD_NULL)), 1);
    close(ends[1]);
    CHECK_EQ(read(ends[0], text, sizeof text), 0); /* no child has kept it */
    close(ends[0]);
}

TEST(descriptors_can_change_places)
{
    int first[2], second[2], fds[2] = {4, 3};
    char text[8] = "";

    /* Not at 3 and 4, which they are to have. */
    while (fcntl(STDOUT_FILENO, F_DUPFD, 3) < 5)
        ;
    CHECK_EQ(pipe2(first, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(second, O_CLOEXEC), 0);
    CHECK_EQ(dup2(first[1], 3), 3); /* the child's 3 is our 4, and the other way round */
    CHECK_EQ(dup2(second[1], 4), 4);
    CHECK_EQ(run(SHELL("printf three >&3; printf four >&4"), OPTIONS(.fds = fds, .fds_count = 2)), 0);
    CHECK_EQ(read(first[0], text, sizeof text), 4);
    CHECK_STR(text, "four");
    CHECK_EQ(read(second[0], text, sizeof text), 5);
    CHECK_STR(text, "three");
}

TEST(more_descriptors_come_behind_the_first_three_and_nothing_else)
{
    int ends[2], fds[3], loose;

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(loose = fcntl(ends[0], F_DUPFD, 20), 20); /* a child inherits it */
    fds[0] = -1;
    fds[1] = ends[1];
    fds[2] = ends[0];
    CHECK_SAID("printf hello >&4; head -c 5 <&5", OPTIONS(.fds = fds, .fds_count = 3), "hello");
    CHECK_SAID("ls /proc/$$/fd | grep -c '^20$' || true", OPTIONS(.flags = 0), "1\n");
    CHECK_SAID("ls /proc/$$/fd | grep -c '^20$' || true", OPTIONS(.flags = WEALD_CLOSE_FDS), "0\n");
    CHECK_SAID("test -e /proc/$$/fd/4 && test ! -e /proc/$$/fd/20",
               OPTIONS(.fds = fds, .fds_count = 3, .flags = WEALD_CLOSE_FDS), "");
    close(ends[0]);
    close(ends[1]);
    close(loose);
}

TEST(a_child_inherits_no_pipe_of_another)
{
    weald_process first = start(ARGV("cat"), OPTIONS(.in = WEALD_PIPE, .out = WEALD_PIPE));
    weald_process second = start(ARGV("sleep", "30"), NULL);

    CHECK_EQ(weald_process_close_fd(first, 0), 0);
    CHECK_EQ(end_of(first), 0); /* the second does not hold its input open */
    CHECK_EQ(weald_process_kill(second, SIGKILL), 0);
    CHECK_EQ(end_of(second), 137);
}

TEST(pipes_of_a_process_closed_in_this_one_do_no_harm)
{
    close(STDIN_FILENO); /* the next descriptors have such numbers */
    CHECK_SAID("cat; echo $?", OPTIONS(.in = WEALD_NULL), "0\n");
    CHECK_SAID("echo out; echo err >&2", OPTIONS(.err = WEALD_TO_OUT), "out\nerr\n");
}

TEST(a_new_session_is_led_by_the_child)
{
    weald_process p = start(SHELL("read line"), OPTIONS(.in = WEALD_PIPE, .flags = WEALD_NEW_SESSION));
    int pid = weald_process_pid(p);

    CHECK_EQ(getsid(pid), pid);
    CHECK_EQ(getpgid(pid), pid);
    CHECK_EQ(weald_process_close_fd(p, 0), 0);
    CHECK_EQ(end_of(p), 1);
}

static void caught(int signo) { (void)signo; }

TEST(a_child_begins_with_signals_as_they_are_by_default)
{
    sigset_t some;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGUSR1, caught);
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, NULL);
    CHECK_SAID("cat /proc/self/status | grep -E 'SigBlk|SigCgt' | tr -d '\\t'", OPTIONS(.flags = 0),
               "SigBlk:0000000000000000\nSigCgt:0000000000000000\n");
    /* 0x800 is SIGUSR2, which stays ignored; 0x1000 would be SIGPIPE */
    CHECK_SAID("echo $((0x$(grep SigIgn /proc/self/status | cut -f 2) & 0x1800))", OPTIONS(.flags = 0), "2048\n");
    sigprocmask(SIG_SETMASK, NULL, &some);
    CHECK_EQ(sigismember(&some, SIGTERM), 1); /* and ours are as they were */
}

/* ---- waiting ---- */

static weald_process shared;
static int statuses;

static void *wait_for_shared(void *unused)
{
    int status;

    CHECK_EQ(weald_process_wait(shared, &status, WEALD_FOREVER), 0);
    CHECK_EQ(weald_exit_code(status), 3);
    statuses++;
    return unused;
}

TEST(any_number_of_greenlets_hear_of_the_end)
{
    enum { WAITERS = 5 };
    weald_greenlet gs[WAITERS];

    shared = start(SHELL("sleep 0.05; exit 3"), NULL);
    for (int i = 0; i < WAITERS; i++)
        CHECK_GT(gs[i] = weald_spawn(wait_for_shared, NULL), 0);
    CHECK_EQ(weald_joinall(gs, WAITERS, 0, 0, WEALD_FOREVER), WAITERS);
    CHECK_EQ(statuses, WAITERS);
    wait_for_shared(NULL); /* one that comes later, too */
    CHECK_EQ(weald_process_wait(shared, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_close(shared), 0);
}

static int64_t wait_long(void)
{
    int status = 77, code = weald_process_wait(shared, &status, WEALD_FOREVER);

    CHECK_EQ(status, 77);
    return code;
}

TEST(a_wait_that_fails_leaves_the_process_alone)
{
    int64_t before;
    int status = 77;

    shared = start(ARGV("sleep", "30"), NULL);
    CHECK_EQ(weald_process_wait(shared, &status, WEALD_NOW), WEALD_EAGAIN);
    before = weald_now();
    CHECK_EQ(weald_process_wait(shared, &status, weald_after(WEALD_MS(30))), WEALD_ETIMEDOUT);
    CHECK_GE(weald_now() - before, WEALD_MS(30));
    CHECK_EQ(when_killed(wait_long), WEALD_ECANCELED);
    CHECK_EQ(in_a_timeout(wait_long), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_callback(wait_long), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(wait_long), WEALD_EPERM);
    CHECK_EQ(weald_process_poll(shared, &status), 0);
    CHECK_EQ(status, 77);
    CHECK_EQ(weald_process_kill(shared, 0), 0);
    CHECK_EQ(weald_process_kill(shared, SIGTERM), 0);
    CHECK_EQ(weald_process_wait(shared, &status, WEALD_FOREVER), 0);
    CHECK_EQ(weald_exit_signal(status), SIGTERM);
    CHECK_EQ(weald_exit_code(status), 128 + SIGTERM);
    CHECK_EQ(weald_close(shared), 0);
    CHECK_EQ(weald_process_wait(shared, &status, WEALD_FOREVER), WEALD_EBADF);
}

static void *close_shared(void *unused)
{
    CHECK_EQ(weald_close(shared), 0);
    return unused;
}

TEST(closing_a_process_wakes_who_waits_and_the_child_runs_on)
{
    int pid;

    shared = start(ARGV("sleep", "30"), NULL);
    pid = weald_process_pid(shared);
    CHECK_EQ(weald_go(close_shared, NULL), 0);
    CHECK_EQ(wait_long(), WEALD_EBADF);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    while (kill(pid, 0) == 0) /* until the loop has reaped it */
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    none_left();
}

TEST(a_hundred_children_that_end_at_once_are_all_reaped)
{
    enum { MANY = 100 };
    static weald_process ps[MANY];
    int ends[2];

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    for (int i = 0; i < MANY; i++) {
        char command[32];

        snprintf(command, sizeof command, "read x; exit %d", i);
        ps[i] = start(SHELL(command), OPTIONS(.in = ends[0]));
        if (i % 2)
            CHECK_EQ(weald_dup(ps[i]), ps[i]);
    }
    close(ends[0]);
    close(ends[1]); /* now */
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(end_of(ps[i]), i);
        if (i % 2)
            CHECK_EQ(end_of(ps[i]), i);
    }
    none_left();
}

TEST(nobody_waits_and_there_are_no_zombies)
{
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weald_close(start(ARGV("true"), NULL)), 0);
    none_left();
}

static void *spawn_and_leave(void *unused)
{
    CHECK_EQ(weald_close(start(ARGV("sleep", "0.05"), NULL)), 0);
    CHECK_GT(start(ARGV("true"), NULL), 0);
    CHECK_EQ(weald_hub_shutdown() >= 0, 1);
    return unused;
}

TEST(what_a_hub_leaves_behind_is_reaped_when_another_spawns)
{
    pthread_t thread;
    siginfo_t info;

    CHECK_EQ(pthread_create(&thread, NULL, spawn_and_leave, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    do { /* until they have ended */
        usleep(10000);
        CHECK_EQ(run(ARGV("true"), NULL), 0);
    } while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    CHECK_EQ(errno, ECHILD);
}

TEST(somebody_else_may_reap_a_child_and_it_is_told)
{
    weald_process p = start(ARGV("true"), NULL);
    int status = 77;

    CHECK_EQ(waitpid(weald_process_pid(p), NULL, 0), weald_process_pid(p));
    CHECK_EQ(weald_process_wait(p, &status, WEALD_FOREVER), WEALD_ECHILD);
    CHECK_EQ(weald_process_poll(p, &status), WEALD_ECHILD);
    CHECK_EQ(weald_process_kill(p, SIGTERM), WEALD_ECHILD);
    CHECK_EQ(weald_process_communicate(p, &(weald_process_io){.size = sizeof(weald_process_io)}, WEALD_FOREVER),
             WEALD_ECHILD);
    CHECK_EQ(status, 77);
    CHECK_EQ(weald_close(p), 0);
    shared = start(ARGV("sleep", "30"), NULL);
    CHECK_EQ(kill(weald_process_pid(shared), SIGKILL), 0);
    CHECK_EQ(waitpid(weald_process_pid(shared), NULL, 0), weald_process_pid(shared));
    CHECK_EQ(wait_long(), WEALD_ECHILD);
    CHECK_EQ(weald_close(shared), 0);
}

TEST(children_that_the_system_reaps_are_told_to_be_gone)
{
    int status = 77;
    weald_process p;

    signal(SIGCHLD, SIG_IGN);
    CHECK_EQ(weald_system("sleep 0.02", &status, WEALD_FOREVER), WEALD_ECHILD);
    p = start(ARGV("true"), NULL);
    CHECK_EQ(weald_process_wait(p, &status, WEALD_FOREVER), WEALD_ECHILD);
    CHECK_EQ(status, 77);
    CHECK_EQ(weald_close(p), 0);
}

static int watched = -1;

static void child_ended(weald_watcher w, int status, void *user)
{
    (void)w, (void)user;
    watched = status;
}

TEST(a_child_watcher_and_a_process_share_the_end)
{
    for (int i = 0; i < 4; i++) {
        weald_process p = start(SHELL("sleep 0.01; exit 5"), NULL);
        weald_watcher w = weald_child_watcher(weald_process_pid(p), child_ended, NULL);
        int status;

        watched = -1;
        CHECK_EQ(weald_watcher_start(w), 0);
        if (i % 2)
            CHECK_EQ(weald_process_wait(p, &status, WEALD_FOREVER), 0);
        while (watched < 0)
            CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        CHECK_EQ(weald_exit_code(watched), 5);
        CHECK_EQ(weald_process_wait(p, &status, WEALD_FOREVER), 0);
        CHECK_EQ(weald_exit_code(status), 5);
        CHECK_EQ(weald_close(w), 0);
        CHECK_EQ(weald_close(p), 0);
    }
}

TEST(a_forked_child_has_no_children_of_its_parent)
{
    weald_process p = start(ARGV("sleep", "30"), OPTIONS(.out = WEALD_PIPE));
    int status;
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(weald_process_poll(p, &status), WEALD_ECHILD);
        CHECK_EQ(weald_process_wait(p, &status, WEALD_FOREVER), WEALD_ECHILD);
        CHECK_EQ(weald_process_kill(p, SIGKILL), WEALD_ECHILD);
        CHECK_EQ(weald_close(p), 0);
        CHECK_EQ(run(ARGV("true"), NULL), 0);
        _exit(42);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 42 << 8);
    CHECK_EQ(weald_process_kill(p, SIGKILL), 0); /* the parent's is as it was */
    CHECK_EQ(end_of(p), 137);
}

TEST(one_that_has_ended_gets_no_signals)
{
    weald_process p = start(ARGV("cat"), OPTIONS(.in = WEALD_PIPE));

    CHECK_EQ(weald_process_kill(p, 4711), WEALD_EINVAL);
    CHECK_EQ(weald_process_close_fd(p, 0), 0);
    CHECK_EQ(weald_process_wait(p, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_process_kill(p, SIGTERM), WEALD_EALREADY);
    CHECK_EQ(weald_close(p), 0);
}

/* Makes pidfd_open a call that this kernel does not know. */
static void forget_pidfds(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};

    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        SKIP("no system calls can be forbidden here");
}

TEST(where_there_are_no_pidfds_signals_tell_of_the_end)
{
    weald_process_io io = {.size = sizeof io};
    weald_process p, steals;
    int64_t before;

    forget_pidfds();
    CHECK_EQ(run(SHELL("exit 42"), NULL), 42);
    CHECK_EQ(weald_system("sleep 0.02", NULL, WEALD_FOREVER), 0);
    before = weald_now();
    p = start(SHELL("sleep 30 & echo $!; sleep 0.05"), OPTIONS(.out = WEALD_PIPE));
    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    CHECK_LT(weald_now() - before, test_slack(WEALD_SEC(5)));
    CHECK_EQ(kill(atoi(io.out), SIGKILL), 0);
    weald_free(io.out);
    CHECK_EQ(weald_close(p), 0);
    shared = start(ARGV("sleep", "30"), NULL);
    CHECK_EQ(weald_process_kill(shared, 0), 0);
    steals = start(ARGV("sleep", "30"), NULL);
    CHECK_EQ(kill(weald_process_pid(steals), SIGKILL), 0);
    CHECK_EQ(waitpid(weald_process_pid(steals), NULL, 0), weald_process_pid(steals));
    CHECK_EQ(weald_process_wait(steals, NULL, WEALD_FOREVER), WEALD_ECHILD);
    CHECK_EQ(weald_close(steals), 0);
    CHECK_EQ(weald_process_kill(shared, SIGTERM), 0);
    CHECK_EQ(end_of(shared), 128 + SIGTERM);
    CHECK_EQ(weald_close(start(ARGV("sleep", "0.01"), NULL)), 0);
    none_left();
}

/* ---- talking to it ---- */

TEST(much_goes_both_ways_without_getting_stuck)
{
    enum { MUCH = 3 << 20 };
    char *input = malloc(MUCH);
    weald_process_io io = {.size = sizeof io, .input = input, .input_size = MUCH};
    weald_process p = start(SHELL("tee /dev/stderr"),
                            OPTIONS(.in = WEALD_PIPE, .out = WEALD_PIPE, .err = WEALD_PIPE));

    for (int i = 0; i < MUCH; i++)
        input[i] = (char)(i * 7 + i / 1000);
    CHECK_EQ(weald_process_communicate(p, &io, weald_after(test_slack(WEALD_SEC(20)))), 0);
    CHECK_EQ(io.out_size, MUCH);
    CHECK_EQ(io.err_size, MUCH);
    CHECK_EQ(memcmp(io.out, input, MUCH), 0);
    CHECK_EQ(memcmp(io.err, input, MUCH), 0);
    CHECK_EQ(io.out[MUCH], 0);
    CHECK_EQ(io.status, 0);
    weald_free(io.out);
    weald_free(io.err);
    weald_free(NULL);
    free(input);
    CHECK_EQ(weald_process_fd(p, 0), WEALD_ENOENT);
    CHECK_EQ(weald_close(p), 0);
}

TEST(a_process_need_not_read_its_input)
{
    enum { MUCH = 1 << 20 };
    char *input = calloc(1, MUCH);
    weald_process_io io = {.size = sizeof io, .input = input, .input_size = MUCH};
    weald_process p = start(SHELL("exec true"), OPTIONS(.in = WEALD_PIPE, .out = WEALD_PIPE));

    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    CHECK_EQ(io.out_size, 0);
    CHECK_STR(io.out, "");
    weald_free(io.out);
    CHECK_EQ(weald_close(p), 0);
    /* Nor have an input, nor any pipe. */
    p = start(ARGV("true"), NULL);
    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    CHECK_PTR(io.out, NULL);
    CHECK_EQ(weald_close(p), 0);
    free(input);
}

TEST(what_it_writes_may_have_a_limit)
{
    weald_process_io io = {.size = sizeof io, .limit = 1000, .out = (char *)&io};
    weald_process p = start(SHELL("yes"), OPTIONS(.out = WEALD_PIPE));

    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_PTR(io.out, &io);
    CHECK_EQ(weald_process_kill(p, SIGKILL), 0);
    CHECK_EQ(end_of(p), 137);
    p = start(SHELL("printf 1234"), OPTIONS(.out = WEALD_PIPE));
    io.limit = 4;
    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    CHECK_STR(io.out, "1234");
    weald_free(io.out);
    CHECK_EQ(weald_close(p), 0);
}

TEST(a_talk_goes_on_after_its_deadline)
{
    weald_process_io io = {.size = sizeof io, .input = "to it\n", .input_size = 6};
    weald_process p = start(SHELL("cat; echo one; sleep 0.2; echo two"), OPTIONS(.in = WEALD_PIPE, .out = WEALD_PIPE));
    int late = 0, code;

    while ((code = weald_process_communicate(p, &io, weald_after(WEALD_MS(40)))) == WEALD_ETIMEDOUT)
        late++;
    CHECK_EQ(code, 0);
    CHECK_GT(late, 0);
    CHECK_STR(io.out, "to it\none\ntwo\n");
    weald_free(io.out);
    CHECK_EQ(weald_close(p), 0);
}

TEST(a_grandchild_that_keeps_the_pipe_holds_nobody_up)
{
    weald_process_io io = {.size = sizeof io};
    weald_process p = start(SHELL("sleep 30 & echo $!"), OPTIONS(.out = WEALD_PIPE, .err = WEALD_PIPE));
    int64_t before = weald_now();

    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    CHECK_LT(weald_now() - before, test_slack(WEALD_SEC(5)));
    CHECK_GT(atoi(io.out), 0);
    CHECK_EQ(kill(atoi(io.out), SIGKILL), 0);
    weald_free(io.out);
    weald_free(io.err);
    CHECK_EQ(weald_close(p), 0);
    /* Nor one that never ceases to write. */
    p = start(SHELL("echo $$; (trap '' PIPE; while :; do echo y || exit; done) & exit 0"), OPTIONS(.out = WEALD_PIPE));
    CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
    weald_free(io.out);
    CHECK_EQ(weald_close(p), 0);
}

static int64_t talk_to_shared(void)
{
    weald_process_io io = {.size = sizeof io};

    return weald_process_communicate(shared, &io, WEALD_FOREVER);
}

static void *talk(void *code)
{
    *(int64_t *)code = talk_to_shared();
    return NULL;
}

TEST(one_greenlet_at_a_time_talks_to_a_process)
{
    weald_process_io io = {.size = sizeof io};
    int64_t code = 77;

    shared = start(ARGV("sleep", "30"), OPTIONS(.out = WEALD_PIPE, .in = WEALD_PIPE));
    CHECK_EQ(weald_process_communicate(shared, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_process_communicate(shared, &(weald_process_io){.size = 8}, WEALD_FOREVER), WEALD_EINVAL);
    io.input_size = 1;
    CHECK_EQ(weald_process_communicate(shared, &io, WEALD_FOREVER), WEALD_EINVAL);
    io.input_size = 0;
    CHECK_EQ(weald_process_communicate(shared, &io, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_process_communicate(shared, &io, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(when_killed(talk_to_shared), WEALD_ECANCELED);
    CHECK_EQ(in_a_timeout(talk_to_shared), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_callback(talk_to_shared), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(talk_to_shared), WEALD_EPERM);
    CHECK_EQ(weald_go(talk, &code), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(talk_to_shared(), WEALD_EBUSY);
    CHECK_EQ(weald_process_kill(shared, SIGKILL), 0);
    CHECK_EQ(weald_close(shared), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(code, WEALD_EBADF);
    CHECK_EQ(talk_to_shared(), WEALD_EBADF);
    none_left();
}

static void *read_from(void *fd)
{
    CHECK_EQ(weald_wait_read(*(int *)fd, WEALD_FOREVER), WEALD_EBADF);
    *(int *)fd = -1;
    return NULL;
}

TEST(the_ends_of_its_pipes_can_be_used_by_oneself)
{
    weald_process p = start(ARGV("cat"), OPTIONS(.in = WEALD_PIPE, .out = WEALD_PIPE));
    int in = weald_process_fd(p, 0), out = weald_process_fd(p, 1), waits = out;
    char text[8] = "";

    CHECK_EQ(weald_process_fd(p, 2), WEALD_ENOENT);
    CHECK_EQ(weald_process_fd(p, 3), WEALD_EINVAL);
    CHECK_EQ(weald_process_fd(p, -1), WEALD_EINVAL);
    CHECK_EQ(weald_process_close_fd(p, 2), WEALD_ENOENT);
    CHECK_EQ(weald_process_close_fd(p, 3), WEALD_EINVAL);
    CHECK_EQ(read(out, text, 8), -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(write(in, "hello", 5), 5);
    CHECK_EQ(weald_wait_read(out, WEALD_FOREVER), 0);
    CHECK_EQ(read(out, text, 8), 5);
    CHECK_STR(text, "hello");
    CHECK_EQ(weald_go(read_from, &waits), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_process_close_fd(p, 1), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(waits, -1);
    CHECK_EQ(weald_process_close_fd(p, 0), 0);
    CHECK_EQ(weald_process_close_fd(p, 0), WEALD_ENOENT);
    CHECK_EQ(end_of(p), 0);
}

/* ---- shells ---- */

static int64_t run_sleep(void) { return weald_system("exec sleep 30", NULL, WEALD_FOREVER); }

TEST(a_command_runs_in_a_shell)
{
    int status = 77;

    CHECK_EQ(weald_system("exit 7", &status, WEALD_FOREVER), 0);
    CHECK_EQ(weald_exit_code(status), 7);
    CHECK_EQ(weald_system("no-such-command 2> /dev/null", &status, WEALD_FOREVER), 0);
    CHECK_EQ(weald_exit_code(status), 127);
    status = 77;
    CHECK_EQ(weald_system(NULL, &status, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_system("exit 7", &status, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_system("exec sleep 30", &status, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_timeout(run_sleep), WEALD_ETIMEDOUT);
    CHECK_EQ(when_killed(run_sleep), WEALD_ECANCELED);
    CHECK_EQ(in_a_callback(run_sleep), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(run_sleep), WEALD_EPERM);
    CHECK_EQ(status, 77);
    none_left(); /* those that were cut short have been killed */
}

TEST(a_shell_at_the_end_of_a_pipe)
{
    weald_process p = weald_popen("echo out", "r");
    char text[16] = "";

    CHECK_GT(p, 0);
    CHECK_EQ(weald_wait_read(weald_process_fd(p, 1), WEALD_FOREVER), 0);
    CHECK_EQ(read(weald_process_fd(p, 1), text, sizeof text), 4);
    CHECK_EQ(weald_process_fd(p, 0), WEALD_ENOENT);
    CHECK_EQ(end_of(p), 0);
    CHECK_GT(p = weald_popen("read x && test $x = in", "w"), 0);
    CHECK_EQ(write(weald_process_fd(p, 0), "in\n", 3), 3);
    CHECK_EQ(weald_process_fd(p, 1), WEALD_ENOENT);
    CHECK_EQ(end_of(p), 0);
    CHECK_GT(p = weald_popen("cat", "rw"), 0);
    CHECK_EQ(weald_process_close_fd(p, 0), 0);
    CHECK_EQ(end_of(p), 0);
    CHECK_EQ(weald_popen("true", "x"), WEALD_EINVAL);
    CHECK_EQ(weald_popen(NULL, "r"), WEALD_EINVAL);
    CHECK_EQ(weald_popen("true", NULL), WEALD_EINVAL);
}

/* ---- handles ---- */

static void of_another_thread(void)
{
    weald_process_io io = {.size = sizeof io};
    int status;

    CHECK_EQ(weald_process_pid(shared), WEALD_EPERM);
    CHECK_EQ(weald_process_fd(shared, 0), WEALD_EPERM);
    CHECK_EQ(weald_process_close_fd(shared, 0), WEALD_EPERM);
    CHECK_EQ(weald_process_wait(shared, &status, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_process_poll(shared, &status), WEALD_EPERM);
    CHECK_EQ(weald_process_kill(shared, 0), WEALD_EPERM);
    CHECK_EQ(weald_process_communicate(shared, &io, WEALD_FOREVER), WEALD_EPERM);
}

TEST(a_handle_is_good_in_its_own_thread_until_it_is_closed)
{
    shared = start(ARGV("true"), OPTIONS(.in = WEALD_PIPE));
    CHECK_EQ(weald_kind(shared), WEALD_KIND_PROCESS);
    in_another_thread(of_another_thread);
    CHECK_EQ(weald_close(shared), 0);
    CHECK_EQ(weald_process_pid(shared), WEALD_EBADF);
    CHECK_EQ(weald_process_fd(shared, 0), WEALD_EBADF);
    CHECK_EQ(weald_process_close_fd(shared, 0), WEALD_EBADF);
    CHECK_EQ(weald_process_poll(shared, NULL), WEALD_EBADF);
    CHECK_EQ(weald_process_kill(shared, 0), WEALD_EBADF);
}

/* ---- storms ---- */

static int storm_rounds;

static void *spawn_in_a_storm(void *arg)
{
    for (int i = 0; i < storm_rounds; i++) {
        weald_process_io io = {.size = sizeof io};
        weald_process p = start(ARGV("echo", "hello"), OPTIONS(.out = WEALD_PIPE, .in = WEALD_NULL));

        CHECK_EQ(weald_process_communicate(p, &io, WEALD_FOREVER), 0);
        CHECK_STR(io.out, "hello\n");
        weald_free(io.out);
        CHECK_EQ(weald_close(p), 0);
    }
    return arg;
}

static void *thread_in_a_storm(void *arg)
{
    weald_greenlet gs[4];

    for (int i = 0; i < 4; i++)
        CHECK_GT(gs[i] = weald_spawn(spawn_in_a_storm, NULL), 0);
    CHECK_EQ(weald_joinall(gs, 4, 0, 0, WEALD_FOREVER), 4);
    CHECK_EQ(weald_hub_shutdown() >= 0, 1);
    return arg;
}

static volatile int allocating = 1;

static void *allocate(void *arg)
{
    while (allocating) {
        setenv("WEALD_STORM", "blows", 1);
        free(malloc(100000));
    }
    return arg;
}

TEST_WITH_LIMIT(threads_that_spawn_do_not_disturb_each_other, 60)
{
    pthread_t threads[3], noise;
    int fds = test_fds();

    storm_rounds = (int)test_rounds(30);
    CHECK_EQ(setenv("WEALD_STORM", "blows", 1), 0);
    CHECK_EQ(pthread_create(&noise, NULL, allocate, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, thread_in_a_storm, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    allocating = 0;
    CHECK_EQ(pthread_join(noise, NULL), 0);
    none_left();
    CHECK_EQ(weald_hub_shutdown() >= 0, 1);
    CHECK_EQ(test_fds(), fds);
}
