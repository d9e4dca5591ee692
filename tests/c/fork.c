/* fork: the child keeps the current greenlet and goes on using weald; the parent notices nothing. */
#include "greenlets.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* What a child says to its parent. */
struct shared {
    volatile int body_ended, main_went_on, other_ran, destroyed, at_exit, failures;
};
static struct shared *shared;

static void share(void)
{
    void *at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    shared = (struct shared *)at;
}

/* The exit status of a child; one that hangs is killed after ten seconds. */
static int status_of(pid_t pid)
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

static pid_t forked(void)
{
    pid_t pid;
    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    return pid;
}

static void make_pipe(int ends[2]) { CHECK_EQ(pipe2(ends, O_NONBLOCK), 0); }

static void *return_it(void *arg) { return arg; }

static weald_event gate;
static void *wait_at_gate(void *arg)
{
    return (void *)(intptr_t)(weald_event_wait(gate, WEALD_FOREVER) + (arg ? 1000 : 0));
}

static void *wait_read(void *fd) { return (void *)(intptr_t)weald_wait_read((int)(intptr_t)fd, WEALD_FOREVER); }

static void *put_later(void *fd)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(write((int)(intptr_t)fd, "x", 1), 1);
    return NULL;
}

/* One of everything: spawn, join, sleep, event, descriptors, post. */
static void use_weald(void)
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

/* ---- in main ---- */

TEST(a_child_of_main_goes_on_using_weald_and_so_does_the_parent)
{
    pid_t pid;

    use_weald();
    pid = forked();
    use_weald();
    if (pid == 0)
        test_leave(0);
    CHECK_EQ(status_of(pid), 0);
    use_weald();
}

TEST(a_child_forked_before_the_first_call_is_a_program_of_its_own)
{
    pid_t pid = forked();

    use_weald();
    if (pid == 0)
        test_leave(0);
    CHECK_EQ(status_of(pid), 0);
}

static void *note_other(void *arg)
{
    shared->other_ran++;
    return arg;
}

static void *sleep_and_note(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    return note_other(arg);
}

TEST(in_a_child_of_main_the_other_greenlets_are_gone)
{
    weald_greenlet gs[4];
    pid_t pid;

    share();
    gate = weald_event_new(0);
    gs[0] = spawned(wait_at_gate, NULL);                        /* parked */
    gs[1] = spawned(sleep_and_note, NULL);                      /* asleep */
    CHECK_EQ(weald_yield(), 0);
    gs[2] = spawned(note_other, NULL);                          /* ready */
    gs[3] = weald_greenlet_new(note_other, NULL, NULL);         /* new */
    CHECK_EQ(weald_start_later(gs[3], WEALD_MS(20)), 0);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_list(NULL, 0) - 4, 1); /* the handles that are still open name the dead */
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(weald_ready(gs[i]), 1);
            CHECK_EQ(weald_join(gs[i], WEALD_FOREVER), 0);
        }
        CHECK_EQ(weald_event_set(gate), 0); /* nobody waits */
        CHECK_EQ(weald_sleep(WEALD_MS(50)), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(weald_close(gs[i]), 0);
        test_leave(shared->other_ran);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(shared->other_ran, 0);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_joinall(gs, 4, 0, 0, WEALD_FOREVER), 4);
    CHECK_EQ(shared->other_ran, 3);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weald_successful(gs[i]), 1);
        CHECK_EQ(weald_close(gs[i]), 0);
    }
}

static void count_destroyed(void *arg)
{
    (void)arg;
    shared->destroyed++;
}

static void count_link(weald_handle ended, void *arg)
{
    (void)ended;
    count_destroyed(arg);
}

TEST(what_is_gone_in_the_child_is_gone_quietly)
{
    weald_spawn_options o;
    weald_greenlet g;
    weald_local key;
    pid_t pid;

    share();
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    o.destroy = count_destroyed;
    key = weald_local_new(count_destroyed);
    g = weald_spawn_with(sleep_and_note, NULL, &o);
    CHECK_GT(weald_link(g, count_link, NULL, WEALD_LINK_ALWAYS), 0);
    CHECK_EQ(weald_yield(), 0);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
        test_leave(shared->destroyed); /* neither destructors nor links */
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(shared->destroyed, 2);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(key), 0);
}

TEST(the_parents_waits_for_descriptors_survive_what_the_child_does_to_them)
{
    int p[2];
    void *code = &p;
    weald_greenlet g;
    pid_t pid;

    make_pipe(p);
    g = spawned(wait_read, (void *)(intptr_t)p[0]);
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_cancel_wait(p[0]), 0);
        CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT); /* nor busy */
        CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
        CHECK_EQ(close(p[0]), 0);
        CHECK_EQ(weald_hub_shutdown(), 0);
        test_leave(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    CHECK_EQ(write(p[1], "x", 1), 1);
    CHECK_EQ(weald_get(g, &code, weald_after(WEALD_SEC(5))), 0);
    CHECK_PTR(code, NULL);
    CHECK_EQ(weald_close(g), 0);
}

TEST(parent_and_child_may_wait_for_one_descriptor_at_once)
{
    int p[2];
    pid_t pid;

    make_pipe(p);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_SEC(5))), 0);
        test_leave(0);
    }
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    CHECK_EQ(write(p[1], "x", 1), 1);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(status_of(pid), 0);
}

TEST(the_child_has_as_many_descriptors_as_the_parent)
{
    int fds;
    pid_t pid;

    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind has descriptors of its own");
    use_weald();
    fds = test_fds();
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(test_fds(), fds);
        use_weald();
        CHECK_EQ(test_fds(), fds);
        test_leave(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(test_fds(), fds);
}

TEST(a_child_that_can_have_no_epoll_makes_one_when_it_can)
{
    struct rlimit limit, none;
    weald_greenlet g;
    int p[2];
    pid_t pid;

    make_pipe(p);
    g = spawned(wait_read, (void *)(intptr_t)p[0]);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){0, limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    pid = forked();
    if (pid == 0) {
        int64_t began = test_clock();

        CHECK_EQ(weald_sleep(WEALD_MS(5)), 0); /* time goes on */
        CHECK_GE(test_clock() - began, WEALD_MS(5));
        CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_EMFILE);
        CHECK_EQ(weald_cancel_wait(p[0]), 0);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        use_weald();
        _exit(0);
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED); /* nothing of the parent's was touched */
    CHECK_EQ(write(p[1], "x", 1), 1);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_child_may_have_children)
{
    pid_t pid;

    use_weald();
    pid = forked();
    if (pid == 0) {
        pid_t grandchild;
        use_weald();
        grandchild = forked();
        use_weald();
        if (grandchild == 0)
            test_leave(0);
        CHECK_EQ(status_of(grandchild), 0);
        use_weald();
        test_leave(0);
    }
    CHECK_EQ(status_of(pid), 0);
}

TEST(a_daemon_outlives_its_parent_and_goes_on_using_weald)
{
    int p[2];
    char c = 0;
    pid_t pid;

    use_weald();
    CHECK_EQ(pipe(p), 0);
    pid = forked();
    if (pid == 0) {
        if (forked() != 0)
            test_leave(0);
        setsid();
        use_weald();
        test_leave(write(p[1], "d", 1) != 1);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(close(p[1]), 0);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_SEC(10))), 0);
    CHECK_EQ(read(p[0], &c, 1), 1);
    CHECK_EQ(c, 'd');
}

static void note_posted(void *arg) { note_other(arg); }

TEST(what_was_posted_before_is_the_parents)
{
    weald_handle hub = weald_hub();
    pid_t pid;

    share();
    CHECK_EQ(weald_post(hub, note_posted, NULL), 0);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
        CHECK_EQ(shared->other_ran, 0);
        CHECK_EQ(weald_post(hub, note_posted, NULL), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
        CHECK_EQ(shared->other_ran, 1);
        test_leave(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(shared->other_ran, 2);
    CHECK_EQ(weald_close(hub), 0);
}

static volatile pid_t posted_child;

static void fork_posted(void *unused)
{
    (void)unused;
    posted_child = forked();
}

TEST(what_was_posted_behind_a_callback_that_forks_is_the_parents)
{
    weald_handle hub = weald_hub();

    share();
    CHECK_EQ(weald_post(hub, fork_posted, NULL), 0);
    CHECK_EQ(weald_post(hub, note_posted, NULL), 0);
    CHECK_EQ(weald_post(hub, note_posted, NULL), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    if (posted_child == 0)
        _exit(0);
    CHECK_EQ(status_of(posted_child), 0);
    CHECK_EQ(shared->other_ran, 2); /* not four times */
    CHECK_EQ(weald_close(hub), 0);
}

static void open_gate(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_event_set(gate), 0);
}

static void *post_from_a_thread(void *hub)
{
    const struct timespec pause = {0, 10000000};
    nanosleep(&pause, NULL);
    CHECK_EQ(weald_post(*(weald_handle *)hub, open_gate, NULL), 0);
    return NULL;
}

TEST(a_thread_of_the_child_wakes_its_loop)
{
    weald_handle hub = weald_hub();
    pid_t pid;

    gate = weald_event_new(0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    pid = forked();
    if (pid == 0) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, post_from_a_thread, &hub), 0);
        CHECK_EQ(weald_event_wait(gate, weald_after(WEALD_SEC(5))), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        test_leave(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_close(hub), 0);
}

TEST(the_childs_shutdown_is_not_the_parents)
{
    pid_t pid;

    use_weald();
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_hub_shutdown(), 0);
        CHECK_EQ(weald_yield(), WEALD_ESHUTDOWN);
        test_leave(0);
    }
    CHECK_EQ(status_of(pid), 0);
    use_weald();
}

/* ---- in a greenlet ---- */

static pid_t child;

static void *fork_and_use(void *arg)
{
    child = forked();
    if (child == 0) {
        use_weald();
        shared->body_ended++;
    }
    return arg;
}

static void note_exit(void)
{
    if (shared)
        shared->at_exit++;
}

TEST(a_child_of_a_greenlet_goes_on_there_and_exits_when_its_body_returns)
{
    weald_greenlet g;

    share();
    atexit(note_exit);
    g = spawned(fork_and_use, NULL);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    if (child == 0)
        shared->main_went_on++;
    CHECK_NE(child, 0);
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(shared->body_ended, 1);
    CHECK_EQ(shared->main_went_on, 0);
    CHECK_EQ(shared->at_exit, 1); /* the child's, as if its main had returned */
    CHECK_EQ(weald_close(g), 0);
    use_weald();
}

static void *fork_and_sleep(void *arg)
{
    child = forked();
    if (child == 0) {
        for (int i = 0; i < 10; i++)
            CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
        CHECK_EQ(weald_yield(), 0);
        shared->body_ended++;
    }
    return arg;
}

/* Main goes on here in the parent alone. */
static void main_goes_on(void)
{
    if (child == 0) {
        shared->main_went_on++;
        test_leave(99);
    }
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(shared->main_went_on, 0);
    CHECK_EQ(shared->body_ended, 1);
}

TEST(main_does_not_go_on_in_the_child_when_it_was_ready)
{
    share();
    CHECK_EQ(weald_go(fork_and_sleep, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    main_goes_on();
}

TEST(main_does_not_go_on_in_the_child_when_it_was_asleep)
{
    share();
    CHECK_EQ(weald_go(fork_and_sleep, NULL), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    main_goes_on();
}

TEST(main_does_not_go_on_in_the_child_at_the_deadline_of_its_run)
{
    share();
    CHECK_EQ(weald_go(fork_and_sleep, NULL), 0);
    weald_run(weald_after(WEALD_MS(20)));
    main_goes_on();
}

static void *fork_and_stop(void *arg)
{
    child = forked();
    if (child == 0)
        CHECK_EQ(weald_stop(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    if (child == 0)
        shared->body_ended++;
    return arg;
}

TEST(main_does_not_go_on_in_the_child_because_of_a_stop)
{
    share();
    CHECK_EQ(weald_go(fork_and_stop, NULL), 0);
    weald_run(WEALD_FOREVER);
    main_goes_on();
}

TEST(main_does_not_go_on_in_the_child_after_its_turn)
{
    share();
    CHECK_EQ(weald_go(fork_and_sleep, NULL), 0);
    CHECK_GE(weald_hub_step(), 0);
    main_goes_on();
}

static void *fork_and_call_main(void *arg)
{
    child = forked();
    if (child == 0) {
        CHECK_EQ(weald_switch(weald_main(), NULL, NULL), WEALD_EBUSY);
        CHECK_EQ(weald_wake(weald_main(), NULL), WEALD_EBUSY);
        CHECK_EQ(weald_throw(weald_main(), WEALD_EPIPE, NULL), WEALD_EBUSY);
        CHECK_EQ(weald_interrupt(weald_main(), WEALD_EINTR), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
        shared->body_ended++;
    }
    return arg;
}

TEST(main_does_not_go_on_in_the_child_because_somebody_switches_to_it)
{
    weald_greenlet g;

    share();
    g = spawned(fork_and_call_main, NULL);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    main_goes_on();
    CHECK_EQ(weald_close(g), 0);
}

static void ignore_report(const char *text, void *user) { (void)text, (void)user; }

static void *fork_and_wait_for_ever(void *arg)
{
    child = forked();
    if (child == 0) {
        CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
        alarm(2); /* if nothing else ends it */
        weald_event_wait(gate, WEALD_FOREVER);
        shared->body_ended++;
    }
    return arg;
}

TEST(main_does_not_go_on_in_a_child_that_is_in_a_deadlock)
{
    share();
    gate = weald_event_new(0);
    CHECK_EQ(weald_go(fork_and_wait_for_ever, NULL), 0);
    weald_run(WEALD_FOREVER);
    if (child == 0) {
        shared->main_went_on++;
        test_leave(99);
    }
    status_of(child); /* however it ends */
    CHECK_EQ(shared->main_went_on, 0);
}

static void *fork_and_join_main(void *arg)
{
    child = forked();
    if (child == 0) {
        CHECK_NE(weald_self(), weald_main());
        use_weald();
        CHECK_EQ(weald_state(weald_self()), WEALD_STATE_RUNNING);
        CHECK_EQ(weald_list(NULL, 0), 2); /* main's name is still there */
        shared->body_ended++;
    }
    return arg;
}

TEST(the_kept_greenlet_is_still_itself)
{
    weald_greenlet g;

    share();
    g = spawned(fork_and_join_main, NULL);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(shared->body_ended, 1);
    CHECK_EQ(weald_close(g), 0);
}

static void *keep_waiting(void *fd)
{
    intptr_t code = weald_wait_read((int)(intptr_t)fd, WEALD_FOREVER);
    if (code == 0)
        note_other(NULL);
    return NULL;
}

TEST(other_greenlets_are_gone_in_the_child_of_a_greenlet_and_unharmed_in_the_parent)
{
    int p[2];
    weald_greenlet reader, g;

    share();
    make_pipe(p);
    reader = spawned(keep_waiting, (void *)(intptr_t)p[0]);
    g = spawned(fork_and_use, NULL);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(shared->body_ended, 1);
    CHECK_EQ(write(p[1], "x", 1), 1);
    CHECK_EQ(weald_join(reader, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(shared->other_ran, 1);
    CHECK_EQ(weald_close(reader), 0);
    CHECK_EQ(weald_close(g), 0);
}

static void *fork_and_fork(void *arg)
{
    child = forked();
    if (child == 0) {
        pid_t grandchild = forked();
        use_weald();
        if (grandchild != 0)
            CHECK_EQ(status_of(grandchild), 0);
        shared->body_ended++;
    }
    return arg;
}

TEST(a_child_of_a_greenlet_may_have_children)
{
    weald_greenlet g;

    share();
    g = spawned(fork_and_fork, NULL);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(shared->body_ended, 2);
    CHECK_EQ(weald_close(g), 0);
}

static void *fork_in_coroutine(void *first, void *arg)
{
    (void)first;
    return fork_and_use(arg);
}

TEST(a_child_of_a_coroutine_goes_on_there)
{
    weald_greenlet c;

    share();
    c = weald_coro_new(fork_in_coroutine, NULL, 0, NULL);
    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    if (child == 0)
        shared->main_went_on++;
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(shared->body_ended, 1);
    CHECK_EQ(shared->main_went_on, 0);
    CHECK_EQ(weald_close(c), 0);
}

/* ---- with threads ---- */

static void *fork_in_thread(void *arg)
{
    (void)arg;
    child = forked();
    use_weald();
    if (child == 0)
        test_leave(0);
    return NULL;
}

TEST(a_child_of_a_thread_that_has_no_hub_makes_one)
{
    pthread_t thread;

    use_weald(); /* main has one, which is not the child's */
    CHECK_EQ(pthread_create(&thread, NULL, fork_in_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(status_of(child), 0);
    use_weald();
}

static volatile int stop_posting;
static void *post_on(void *hub)
{
    while (!stop_posting)
        CHECK_EQ(weald_post(*(weald_handle *)hub, note_posted, NULL), 0);
    return NULL;
}

TEST(a_fork_while_another_thread_posts_leaves_no_lock_behind)
{
    weald_handle hub = weald_hub();
    pthread_t thread;

    share();
    CHECK_EQ(pthread_create(&thread, NULL, post_on, &hub), 0);
    for (int i = 0; i < 30; i++) {
        pid_t pid = forked();
        if (pid == 0) {
            use_weald();
            CHECK_EQ(weald_post(hub, note_posted, NULL), 0);
            test_leave(0);
        }
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(status_of(pid), 0);
    }
    stop_posting = 1;
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static void fork_in_destructor(void *unused) { fork_posted(unused); }

static int fork_in_comparator(const void *a, const void *b)
{
    if (posted_child < 0)
        fork_posted(NULL);
    return a < b ? -1 : a > b;
}

/* Has a function of its own called in the middle of a call of the library's, which forks. */
static void *fork_in_the_middle(void *compares)
{
    char items[2];

    posted_child = -1;
    if (compares) {
        weald_queue q = weald_priority_queue_new(0, 2, fork_in_comparator, NULL);
        CHECK_EQ(weald_queue_put(q, &items[0], WEALD_NOW), 0);
        CHECK_EQ(weald_queue_put(q, &items[1], WEALD_NOW), 0);
        CHECK_EQ(weald_queue_len(q), 2);
        CHECK_EQ(weald_close(q), 0);
    } else {
        weald_spawn_options options = {.size = sizeof options, .destroy = fork_in_destructor};
        CHECK_EQ(weald_close(weald_greenlet_new(return_it, NULL, &options)), 0);
    }
    if (posted_child == 0) {
        use_weald();
        shared->body_ended++;
        return NULL; /* and the child exits */
    }
    CHECK_EQ(status_of(posted_child), 0);
    use_weald();
    return NULL;
}

TEST(a_child_forked_in_the_middle_of_a_greenlets_call_goes_on_there)
{
    share();
    for (intptr_t compares = 0; compares < 2; compares++) {
        weald_greenlet g = spawned(fork_in_the_middle, (void *)compares);

        CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
        CHECK_NE(posted_child, 0);
        CHECK_EQ(shared->body_ended, compares + 1);
        CHECK_EQ(weald_close(g), 0);
    }
}

/* ---- objects that threads share ---- */

static weald_queue shared_queue;
static weald_event shared_event;
static weald_result shared_result;
static volatile int stop_working;

/* Keeps the locks of the shared objects busy. */
static void *work_on_shared(void *unused)
{
    void *item;

    while (!stop_working) {
        CHECK_EQ(weald_queue_put(shared_queue, &item, WEALD_FOREVER), 0);
        CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_FOREVER), 0);
        CHECK_EQ(weald_event_set(shared_event), 0);
        CHECK_EQ(weald_event_clear(shared_event), 0);
    }
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

TEST(a_fork_while_other_threads_use_shared_objects_leaves_no_lock_behind)
{
    pthread_t threads[2];
    void *item;

    shared_queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    shared_event = weald_event_new(WEALD_SHARED);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, work_on_shared, NULL), 0);
    for (int i = 0; i < 300; i++) {
        pid_t pid = forked();
        if (pid == 0) {
            alarm(5);
            CHECK_GE(weald_queue_len(shared_queue), 0);
            CHECK_EQ(weald_queue_put(shared_queue, &item, WEALD_NOW), 0);
            CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_NOW), 0);
            CHECK_EQ(weald_event_set(shared_event), 0);
            CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
            _exit(0);
        }
        CHECK_EQ(status_of(pid), 0);
    }
    stop_working = 1;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(weald_close(shared_queue), 0);
    CHECK_EQ(weald_close(shared_event), 0);
}

static volatile int waiting_threads;

static void *get_shared(void *unused)
{
    void *item = unused;

    waiting_threads++;
    CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_FOREVER), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return item;
}

static void *put_shared(void *item)
{
    waiting_threads++;
    CHECK_EQ(weald_queue_put(shared_queue, item, WEALD_FOREVER), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return NULL;
}

static void *wait_shared(void *unused)
{
    waiting_threads++;
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_result_wait(shared_result, WEALD_FOREVER), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

static void until_they_wait(int n)
{
    while (waiting_threads < n)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
}

TEST(what_the_child_puts_into_a_shared_queue_is_not_given_to_the_parents_getter)
{
    char one, two;
    void *item = NULL;
    pthread_t thread;
    pid_t pid;

    shared_queue = weald_queue_new(WEALD_SHARED, 4, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, get_shared, NULL), 0);
    until_they_wait(1);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_queue_put(shared_queue, &one, WEALD_NOW), 0);
        CHECK_EQ(weald_queue_len(shared_queue), 1);
        CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_NOW), 0);
        CHECK_PTR(item, &one);
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_queue_put(shared_queue, &two, WEALD_NOW), 0);
    CHECK_EQ(pthread_join(thread, &item), 0);
    CHECK_PTR(item, &two);
    CHECK_EQ(weald_close(shared_queue), 0);
}

TEST(what_the_parents_putter_offers_is_not_had_in_the_child)
{
    char one;
    void *item = NULL;
    pthread_t thread;
    pid_t pid;

    shared_queue = weald_queue_new(WEALD_SHARED, 0, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, put_shared, &one), 0);
    until_they_wait(1);
    CHECK_EQ(weald_queue_empty(shared_queue), 0);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_queue_empty(shared_queue), 1);
        CHECK_EQ(weald_queue_peek(shared_queue, &item, WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_NOW), WEALD_EAGAIN);
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_FOREVER), 0);
    CHECK_PTR(item, &one);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(shared_queue), 0);
}

static void *set_later(void *unused)
{
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_event_set(shared_event), 0);
    CHECK_EQ(weald_result_set(shared_result, unused), 0);
    return unused;
}

TEST(a_child_waits_for_shared_objects_for_which_the_parent_waits_as_well)
{
    pthread_t thread;
    pid_t pid;

    shared_event = weald_event_new(WEALD_SHARED);
    shared_result = weald_result_new(WEALD_SHARED, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, wait_shared, NULL), 0);
    until_they_wait(1);
    pid = forked();
    /* Parent and child do the same, each with its own. */
    CHECK_EQ(weald_go(set_later, NULL), 0);
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_result_wait(shared_result, WEALD_FOREVER), 0);
    if (pid == 0)
        _exit(0);
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Main waits for something shared; a callback forks and then ends that wait, in both. */
static volatile int set_before_fork;

static void fork_and_set(void *unused)
{
    (void)unused;
    if (set_before_fork)
        CHECK_EQ(weald_event_set(shared_event), 0);
    child = forked();
    if (!set_before_fork)
        CHECK_EQ(weald_event_set(shared_event), 0);
}

static void fork_while_main_waits(void)
{
    weald_handle hub = weald_hub();

    shared_event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(weald_post(hub, fork_and_set, NULL), 0);
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_yield(), 0); /* the wake-up left nothing behind */
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    if (child == 0)
        _exit(0);
    CHECK_EQ(status_of(child), 0);
}

TEST(mains_wait_for_a_shared_object_ends_in_the_child_of_a_callback)
{
    fork_while_main_waits();
}

TEST(mains_wait_ends_in_the_child_when_the_wake_up_was_under_way)
{
    set_before_fork = 1;
    fork_while_main_waits();
}

static weald_greenlet joined;

static void *sleep_briefly(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    return arg;
}

static void fork_and_begin_others(void *unused)
{
    (void)unused;
    child = forked();
    if (child == 0) {
        CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
        CHECK_EQ(weald_close(joined), 0);
        joined = spawned(return_it, NULL); /* has its record */
    }
}

TEST(mains_join_of_one_that_is_gone_in_the_child_does_not_end_with_another)
{
    weald_handle hub = weald_hub();
    int code;

    joined = spawned(sleep_briefly, NULL);
    CHECK_EQ(weald_post(hub, fork_and_begin_others, NULL), 0);
    CHECK_EQ(weald_close(hub), 0);
    code = weald_join(joined, WEALD_FOREVER);
    CHECK_EQ(code, child == 0 ? WEALD_EDEADLK : 0);
    CHECK_EQ(weald_join(joined, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(joined), 0);
    if (child == 0)
        _exit(0);
    CHECK_EQ(status_of(child), 0);
}

static weald_handle other_hub;

static void *expose_and_wait(void *unused)
{
    other_hub = weald_hub();
    waiting_threads++;
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(other_hub), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

TEST(the_hubs_of_other_threads_have_ended_in_the_child)
{
    pthread_t thread;
    pid_t pid;

    shared_event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(pthread_create(&thread, NULL, expose_and_wait, NULL), 0);
    until_they_wait(1);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_post(other_hub, open_gate, NULL), WEALD_ESHUTDOWN);
        CHECK_EQ(weald_close(other_hub), 0);
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_event_set(shared_event), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}
