/* fork in main, and in callbacks: the child goes on using weald; the parent notices nothing. */
#include "fork.h"
#include <pthread.h>
#include <sys/resource.h>

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

static void *sleep_and_note(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    return note_other(arg);
}

static void *wait_at_gate(void *arg)
{
    return (void *)(intptr_t)(weald_event_wait(gate, WEALD_FOREVER) + (arg ? 1000 : 0));
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
