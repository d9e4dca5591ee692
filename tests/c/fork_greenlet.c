/* fork in a greenlet: the child keeps that one alone, and goes on there. */
#include "fork.h"

static void *fork_and_use(void *arg)
{
    child = forked();
    if (child == 0) {
        use_weald();
        shared->body_ended++;
    }
    return arg;
}

/* A greenlet whose body forks; so many copies of it come to their end, in children that end well. */
static void ends_in_children(weald_fn body, int times)
{
    weald_greenlet g = spawned(body, NULL);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(shared->body_ended, times);
    CHECK_EQ(weald_close(g), 0);
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
    share();
    ends_in_children(fork_and_join_main, 1);
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
    weald_greenlet reader;

    share();
    make_pipe(p);
    reader = spawned(keep_waiting, (void *)(intptr_t)p[0]);
    ends_in_children(fork_and_use, 1);
    CHECK_EQ(write(p[1], "x", 1), 1);
    CHECK_EQ(weald_join(reader, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(shared->other_ran, 1);
    CHECK_EQ(weald_close(reader), 0);
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
    share();
    ends_in_children(fork_and_fork, 2);
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
