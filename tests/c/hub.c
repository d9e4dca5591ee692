/* The hub: run, step, stop, posts from other threads, callbacks, reports. */
#include "greenlets.h"
#include "waits.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/time.h>

static char order[256];

static void *note(void *arg)
{
    strcat(order, (const char *)arg);
    return arg;
}

static void note_call(void *arg) { note(arg); }

static void join_and_close(weald_greenlet g)
{
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

static weald_event gate;
static void make_gate(void) { CHECK_GT(gate = weald_event_new(0), 0); }
static void open_gate(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_event_set(gate), 0);
}

static void *wait_at_gate(void *arg)
{
    weald_event_wait(gate, WEALD_FOREVER);
    return arg;
}

static void *sleep_ns(void *arg)
{
    CHECK_EQ(weald_sleep((intptr_t)arg), 0);
    return NULL;
}

static void nap(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0)
        ;
}

static char report[4096];
static int reports;
static void keep_report(const char *text, void *user)
{
    CHECK_PTR(user, report);
    CHECK_LT(strlen(text), sizeof report);
    strcpy(report, text);
    reports++;
}

static void keep_reports(void) { CHECK_EQ(weald_set_report_handler(keep_report, report), 0); }

/* Runs `call(arg)` in the loop. */
static void in_callback(weald_callback call, void *arg)
{
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_post(hub, call, arg), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static pthread_t in_thread(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}

/* ---- run ---- */

TEST(a_run_with_nothing_to_do_returns_at_once)
{
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_run(WEALD_NOW), 0);
}

TEST(a_run_lasts_until_the_last_sleeper_has_ended)
{
    int64_t began = test_clock();

    CHECK_EQ(weald_go(sleep_ns, (void *)WEALD_MS(1)), 0);
    CHECK_EQ(weald_go(sleep_ns, (void *)WEALD_MS(20)), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(20));
}

TEST(a_run_ends_at_its_deadline_and_may_go_on)
{
    int64_t began = test_clock();
    weald_greenlet g = spawned(sleep_ns, (void *)WEALD_MS(50));

    CHECK_EQ(weald_run(weald_after(WEALD_MS(10))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(10));
    CHECK_EQ(weald_ready(g), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_ready(g), 1);
    CHECK_EQ(weald_close(g), 0);
}

static void *wait_named(void *arg)
{
    CHECK_EQ(weald_set_name(weald_self(), (const char *)arg), 0);
    return wait_at_gate(arg);
}

TEST(a_run_that_can_not_end_is_edeadlk_and_reported)
{
    weald_greenlet g;

    keep_reports();
    make_gate();
    g = spawned(wait_named, (char[]){"birch"});
    CHECK_EQ(weald_run(WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_CONTAINS(report, "deadlock");
    CHECK_CONTAINS(report, "birch");
    CHECK_CONTAINS(report, "event");
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}

static void *run_inside(void *arg)
{
    intptr_t *codes = (intptr_t *)arg;

    codes[0] = weald_run(WEALD_FOREVER);
    codes[1] = weald_run_once(WEALD_RUN_NOWAIT);
    codes[2] = weald_hub_step();
    codes[3] = weald_hub_shutdown();
    return NULL;
}

static void call_run_inside(void *arg) { run_inside(arg); }

TEST(only_main_runs_the_loop)
{
    intptr_t codes[4];

    join_and_close(spawned(run_inside, codes));
    for (int i = 0; i < 4; i++)
        CHECK_EQ(codes[i], WEALD_EPERM);
    in_callback(call_run_inside, codes);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(codes[i], WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

/* ---- run_once ---- */

static void *count_twice(void *arg)
{
    note(arg);
    CHECK_EQ(weald_yield(), 0);
    return note(arg);
}

TEST(one_turn_runs_everything_ready_once)
{
    CHECK_EQ(weald_go(count_twice, (char[]){"a"}), 0);
    CHECK_EQ(weald_go(count_twice, (char[]){"b"}), 0);
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_run_once(WEALD_RUN_ONCE), 0);
    CHECK_STR(order, "abab");
    CHECK_EQ(weald_run_once(WEALD_RUN_ONCE), 0);
}

TEST(a_turn_that_is_not_to_wait_does_not)
{
    int64_t began = test_clock();
    weald_greenlet g = spawned(sleep_ns, (void *)WEALD_SEC(100));

    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT), 1);
    CHECK_EQ(weald_hub_step(), 1);
    CHECK_LT(test_clock() - began, WEALD_SEC(10));
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_turn_that_may_wait_does_until_there_is_something_to_do)
{
    int64_t began = test_clock();
    weald_greenlet g = spawned(sleep_ns, (void *)WEALD_MS(20));
    int turns = 0;

    while (weald_run_once(WEALD_RUN_ONCE) == 1)
        turns++;
    CHECK_GE(test_clock() - began, WEALD_MS(20));
    CHECK_LT(turns, 100);
    CHECK_EQ(weald_ready(g), 1);
    CHECK_EQ(weald_close(g), 0);
}

TEST(there_are_two_modes_of_a_turn)
{
    CHECK_EQ(weald_run_once(2), WEALD_EINVAL);
    CHECK_EQ(weald_run_once(-1), WEALD_EINVAL);
}

/* ---- stop ---- */

static void *stop_then_note(void *arg)
{
    CHECK_EQ(weald_stop(), 0);
    CHECK_EQ(weald_yield(), 0);
    return note(arg);
}

TEST(a_stop_ends_the_run_and_the_next_goes_on)
{
    CHECK_EQ(weald_go(stop_then_note, (char[]){"a"}), 0);
    CHECK_EQ(weald_go(sleep_ns, (void *)WEALD_SEC(100)), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_run(weald_after(WEALD_MS(100))), WEALD_ETIMEDOUT);
    CHECK_STR(order, "a");
}

static void stop_call(void *arg)
{
    note(arg);
    CHECK_EQ(weald_stop(), 0);
}

TEST(a_callback_may_stop_the_run)
{
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_go(sleep_ns, (void *)WEALD_SEC(100)), 0);
    CHECK_EQ(weald_post(hub, stop_call, (char[]){"s"}), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "s");
    CHECK_EQ(weald_close(hub), 0);
}

TEST(a_run_after_a_stop_returns_at_once_the_first_time)
{
    CHECK_EQ(weald_stop(), 0);
    CHECK_EQ(weald_go(note, (char[]){"a"}), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
}

TEST(a_stop_does_not_keep_a_wait_of_main_from_its_end)
{
    CHECK_EQ(weald_stop(), 0);
    join_and_close(spawned(sleep_ns, (void *)WEALD_MS(2)));
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
}

/* ---- embedding in a foreign loop ---- */

/* What a foreign loop does: waits for our descriptor until our deadline, at most `limit_ms`, and steps us. 0 when
 * nothing was to be done in that time. */
static int foreign_turn(int limit_ms)
{
    struct pollfd fd = {.fd = weald_hub_fd(), .events = POLLIN};
    int64_t next = weald_hub_next_deadline(), left = (next - weald_now()) / 1000000 + 1;
    int ms = next == WEALD_NOW ? 0 : next == WEALD_FOREVER || left > limit_ms ? limit_ms : left < 0 ? 0 : (int)left;
    int came = poll(&fd, 1, ms);

    if (came == 0 && ms == limit_ms)
        return 0;
    CHECK_GE(weald_hub_step(), 0);
    return 1;
}

TEST(the_next_deadline_is_never_now_or_the_nearest_sleepers)
{
    int64_t due = weald_after(WEALD_SEC(100));
    weald_greenlet g;

    CHECK_EQ(weald_hub_next_deadline(), WEALD_FOREVER);
    g = spawned(sleep_ns, (void *)WEALD_SEC(100));
    CHECK_EQ(weald_hub_next_deadline(), WEALD_NOW);
    while (weald_hub_next_deadline() == WEALD_NOW)
        CHECK_EQ(weald_hub_step(), 1);
    CHECK_GT(weald_hub_next_deadline(), 0);
    CHECK_LT(weald_hub_next_deadline(), due + WEALD_SEC(10));
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_hub_next_deadline(), WEALD_NOW);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_foreign_loop_drives_sleepers)
{
    int64_t began = test_clock();
    weald_greenlet g = spawned(sleep_ns, (void *)WEALD_MS(20));

    while (!weald_ready(g))
        CHECK_EQ(foreign_turn(5000), 1);
    CHECK_GE(test_clock() - began, WEALD_MS(20));
    CHECK_EQ(weald_close(g), 0);
}

static int ends[2];
static void *read_pipe(void *arg)
{
    char c;

    for (;;) {
        CHECK_EQ(weald_wait_read(ends[0], WEALD_FOREVER), 0);
        if (read(ends[0], &c, 1) != 1)
            return arg;
        strncat(order, &c, 1);
    }
}

TEST(a_foreign_loop_drives_readers)
{
    weald_greenlet g;

    CHECK_EQ(pipe(ends), 0);
    g = spawned(read_pipe, NULL);
    for (int i = 0; i < 5; i++)
        foreign_turn(0);
    CHECK_EQ(write(ends[1], "ab", 2), 2);
    while (strlen(order) < 2)
        CHECK_EQ(foreign_turn(5000), 1);
    CHECK_EQ(close(ends[1]), 0);
    while (!weald_ready(g))
        CHECK_EQ(foreign_turn(5000), 1);
    CHECK_STR(order, "ab");
    CHECK_EQ(weald_close(g), 0);
}

struct post_later {
    weald_handle hub;
    long after_ms;
    weald_callback call;
    void *arg;
};

static void *post_later(void *arg)
{
    struct post_later *p = (struct post_later *)arg;

    nap(p->after_ms);
    CHECK_EQ(weald_post(p->hub, p->call, p->arg), 0);
    return NULL;
}

TEST(a_post_makes_the_descriptor_readable_for_a_foreign_loop)
{
    struct post_later p = {weald_hub(), 20, note_call, (char[]){"p"}};
    pthread_t thread;

    foreign_turn(0);
    thread = in_thread(post_later, &p);
    while (!*order)
        CHECK_EQ(foreign_turn(5000), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(p.hub), 0);
}

/* No step between the question and the post: the hub has not "gone to sleep" by itself. */
TEST(a_post_is_noticed_by_a_foreign_loop_that_has_only_asked_for_the_deadline)
{
    struct post_later p = {weald_hub(), 0, note_call, (char[]){"p"}};
    struct pollfd fd = {.fd = weald_hub_fd(), .events = POLLIN};

    CHECK_EQ(weald_hub_next_deadline(), WEALD_FOREVER);
    CHECK_EQ(pthread_join(in_thread(post_later, &p), NULL), 0);
    CHECK_EQ(poll(&fd, 1, 2000), 1);
    CHECK_GE(weald_hub_step(), 0);
    CHECK_STR(order, "p");
    CHECK_EQ(weald_close(p.hub), 0);
}

TEST(a_post_is_noticed_by_a_foreign_loop_after_main_has_blocked)
{
    struct post_later p = {weald_hub(), 0, note_call, (char[]){"p"}};
    struct pollfd fd = {.fd = weald_hub_fd(), .events = POLLIN};

    CHECK_GE(weald_hub_step(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    while (weald_hub_next_deadline() == WEALD_NOW)
        CHECK_GE(weald_hub_step(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    if (weald_hub_next_deadline() != WEALD_NOW) {
        CHECK_EQ(pthread_join(in_thread(post_later, &p), NULL), 0);
        CHECK_EQ(poll(&fd, 1, 2000), 1);
    }
    CHECK_EQ(weald_close(p.hub), 0);
}

static weald_semaphore turn;

static void *ask_for_the_descriptor(void *fd)
{
    CHECK_GE(*(int *)fd = weald_hub_fd(), 0);
    CHECK_EQ(weald_semaphore_release(turn), 0);
    CHECK_EQ(weald_yield(), 0);
    return fd;
}

/* Main waited when a greenlet asked for it: main may go back to a foreign loop. */
TEST(a_post_is_noticed_when_a_greenlet_has_asked_for_the_descriptor)
{
    struct post_later p = {weald_hub(), 0, note_call, (char[]){"p"}};
    struct pollfd fd = {.events = POLLIN};
    weald_greenlet g;

    CHECK_GT(turn = weald_semaphore_new(0), 0);
    CHECK_GT(g = weald_spawn(ask_for_the_descriptor, &fd.fd), 0);
    CHECK_EQ(weald_semaphore_acquire(turn, WEALD_FOREVER), 0);
    while (poll(&fd, 1, 0) == 1 || weald_hub_next_deadline() == WEALD_NOW)
        CHECK_GE(weald_hub_step(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(pthread_join(in_thread(post_later, &p), NULL), 0);
    CHECK_EQ(poll(&fd, 1, 2000), 1);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(turn), 0);
    CHECK_EQ(weald_close(p.hub), 0);
}

TEST(a_post_is_noticed_by_a_foreign_loop_when_hooks_have_come_and_gone)
{
    struct post_later p = {weald_hub(), 0, note_call, (char[]){"p"}};
    struct pollfd fd = {.fd = weald_hub_fd(), .events = POLLIN};
    weald_hooks none = {.size = sizeof none};

    CHECK_EQ(weald_set_hooks(&none), 0);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    while (poll(&fd, 1, 0) == 1 || weald_hub_next_deadline() == WEALD_NOW)
        CHECK_GE(weald_hub_step(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(pthread_join(in_thread(post_later, &p), NULL), 0);
    CHECK_EQ(poll(&fd, 1, 2000), 1);
    CHECK_EQ(weald_close(p.hub), 0);
}

TEST(a_post_that_a_step_has_dealt_with_is_told_of_once)
{
    struct post_later p = {weald_hub(), 0, note_call, (char[]){"p"}};
    struct pollfd fd = {.fd = weald_hub_fd(), .events = POLLIN};

    CHECK_EQ(weald_hub_step(), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(in_thread(post_later, &p), NULL), 0);
        CHECK_EQ(poll(&fd, 1, 2000), 1);
        CHECK_EQ(weald_hub_step(), 0);
        CHECK_EQ(poll(&fd, 1, 0), 0);
    }
    CHECK_STR(order, "ppp");
    CHECK_EQ(weald_close(p.hub), 0);
}

TEST(an_idle_hubs_descriptor_is_not_readable)
{
    struct pollfd fd = {.fd = weald_hub_fd(), .events = POLLIN};

    CHECK_GE(fd.fd, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_hub_step(), 0);
    CHECK_EQ(poll(&fd, 1, 10), 0);
}

static void *wait_for_byte(void *end)
{
    char c;

    CHECK_EQ(weald_wait_read(*(int *)end, WEALD_FOREVER), 0);
    CHECK_EQ(read(*(int *)end, &c, 1), 1);
    *(int *)end = -1;
    return NULL;
}

/* Steps until nothing is to be done. */
static void step_until_idle(void)
{
    do
        CHECK_GE(weald_hub_step(), 0);
    while (weald_hub_next_deadline() == WEALD_NOW);
}

TEST(a_foreign_epoll_keeps_the_hub_when_ours_is_made_anew)
{
    struct post_later p = {weald_hub(), 0, note_call, (char[]){"p"}};
    struct epoll_event event = {.events = EPOLLIN}, came;
    int host = epoll_create1(0), old[2], news[2], copy, turns = 0;

    CHECK_EQ(epoll_ctl(host, EPOLL_CTL_ADD, weald_hub_fd(), &event), 0);
    CHECK_EQ(pipe(old), 0);
    CHECK_EQ(pipe(news), 0);
    /* A registration that can not be taken back: events come for a number that is closed. */
    CHECK_EQ(weald_wait_read(old[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    copy = dup(old[0]);
    CHECK_EQ(close(old[0]), 0);
    CHECK_EQ(write(old[1], "x", 1), 1);
    CHECK_EQ(weald_go(wait_for_byte, &news[0]), 0);
    do {
        step_until_idle();
        CHECK_LT(++turns, 10);
    } while (epoll_wait(host, &came, 1, 50) == 1);

    CHECK_EQ(write(news[1], "x", 1), 1);
    CHECK_EQ(epoll_wait(host, &came, 1, 2000), 1);
    step_until_idle();
    CHECK_EQ(news[0], -1);
    CHECK_EQ(pthread_join(in_thread(post_later, &p), NULL), 0);
    CHECK_EQ(epoll_wait(host, &came, 1, 2000), 1);
    step_until_idle();
    CHECK_STR(order, "p");
    CHECK_EQ(weald_close(p.hub), 0);
    CHECK_EQ(close(copy), 0);
}

TEST(a_foreign_loop_notices_at_once_that_a_number_was_reused)
{
    int old[2], news[2], end;

    CHECK_EQ(pipe(old), 0);
    CHECK_EQ(pipe(news), 0);
    end = old[0];
    CHECK_EQ(weald_wait_read(end, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* the poller knows it */
    CHECK_EQ(dup2(news[0], end), end);
    CHECK_EQ(weald_go(wait_for_byte, &end), 0);
    step_until_idle();
    CHECK_EQ(write(news[1], "x", 1), 1);
    CHECK_EQ(poll(&(struct pollfd){.fd = weald_hub_fd(), .events = POLLIN}, 1, 400), 1);
    step_until_idle();
    CHECK_EQ(end, -1);
}

/* ---- posts ---- */

TEST(posts_run_in_their_order_in_the_loop)
{
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_kind(hub), WEALD_KIND_HUB);
    CHECK_EQ(weald_post(hub, note_call, (char[]){"1"}), 0);
    CHECK_EQ(weald_post(hub, note_call, (char[]){"2"}), 0);
    CHECK_EQ(weald_post(hub, note_call, (char[]){"3"}), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "123");
    CHECK_EQ(weald_close(hub), 0);
}

TEST(a_post_checks_its_arguments)
{
    weald_handle hub = weald_hub();

    CHECK_EQ(weald_post(hub, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_post(0, note_call, NULL), WEALD_EBADF);
    CHECK_EQ(weald_post(-1, note_call, NULL), WEALD_EBADF);
    CHECK_EQ(weald_post(weald_self(), note_call, NULL), WEALD_EBADF);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_post(hub, note_call, NULL), WEALD_EBADF);
}

TEST(each_handle_of_the_hub_is_closed_once)
{
    weald_handle first = weald_hub(), second = weald_hub();

    CHECK_EQ(weald_close(first), 0);
    CHECK_EQ(weald_post(second, note_call, (char[]){"a"}), 0);
    CHECK_EQ(weald_close(second), 0);
    CHECK_EQ(weald_close(second), WEALD_EBADF);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "a");
}

TEST(a_post_from_a_thread_wakes_a_loop_that_sleeps)
{
    struct post_later p = {weald_hub(), 30, open_gate, NULL};
    int64_t began = test_clock();
    pthread_t thread;

    make_gate();
    thread = in_thread(post_later, &p);
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0); /* no deadlock: a handle of the hub is open */
    CHECK_GE(test_clock() - began, WEALD_MS(30));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(p.hub), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(without_a_handle_of_the_hub_the_same_wait_is_a_deadlock)
{
    keep_reports();
    make_gate();
    CHECK_EQ(weald_close(weald_hub()), 0);
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_close(gate), 0);
}

enum { POSTERS = 4, POSTS = 5000 };

struct poster {
    weald_handle hub;
    long next; /* seen by the loop */
    long posts;
};

struct numbered {
    struct poster *from;
    long number;
};

static long arrived;
static void check_number(void *arg)
{
    struct numbered *n = (struct numbered *)arg;
    CHECK_EQ(n->number, n->from->next);
    n->from->next++;
    arrived++;
    free(n);
}

static void *post_many(void *arg)
{
    struct poster *p = (struct poster *)arg;

    for (long i = 0; i < p->posts; i++) {
        struct numbered *n = (struct numbered *)malloc(sizeof *n);
        CHECK(n != NULL);
        n->from = p;
        n->number = i;
        CHECK_EQ(weald_post(p->hub, check_number, n), 0);
    }
    return NULL;
}

TEST(posts_of_many_threads_all_arrive_each_threads_in_order)
{
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    weald_handle hub = weald_hub();
    long posts = test_rounds(POSTS);

    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){hub, 0, posts};
        threads[i] = in_thread(post_many, &posters[i]);
    }
    while (arrived < POSTERS * posts)
        CHECK_EQ(weald_sleep(WEALD_US(200)), 0);
    for (int i = 0; i < POSTERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(arrived, POSTERS * posts);
    CHECK_EQ(weald_close(hub), 0);
}

static weald_handle my_hub;
static int post_again = 1;
static void post_oneself(void *arg)
{
    if (post_again)
        CHECK_EQ(weald_post(my_hub, post_oneself, arg), 0);
}

TEST(a_callback_that_posts_itself_for_ever_starves_neither_sleepers_nor_readers)
{
    weald_greenlet g;

    CHECK_EQ(pipe(ends), 0);
    my_hub = weald_hub();
    CHECK_EQ(weald_post(my_hub, post_oneself, NULL), 0);
    g = spawned(read_pipe, NULL);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(close(ends[1]), 0);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(10))), 0);
    post_again = 0;
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(my_hub), 0);
}

/* ---- callbacks ---- */

static void call_every_wait(void *arg)
{
    for (int i = 0; i < WAITS; i++)
        WAITS_CHECK(&waits[i], waits[i].call(WEALD_FOREVER), WEALD_EWOULDBLOCK);
    for (int i = 0; i < WAITS; i++)
        if (!(waits[i].what & WAITS_FOR_TIME))
            WAITS_CHECK(&waits[i], waits[i].call(weald_after(WEALD_SEC(10))), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_yield(), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_sleep(0), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_idle(0), WEALD_EWOULDBLOCK);
    *(int *)arg = 1;
}

TEST(every_wait_in_a_callback_is_ewouldblock)
{
    int done = 0;

    waits_prepare();
    in_callback(call_every_wait, &done);
    CHECK_EQ(done, 1);
    CHECK_EQ(weald_state(waits_greenlet), WEALD_STATE_PARKED); /* and nobody was hurt */
    CHECK_EQ(weald_event_set(waits_event), 0);
    CHECK_EQ(weald_join(waits_greenlet, WEALD_FOREVER), 0);
}

static void call_without_waiting(void *arg)
{
    for (int i = 0; i < WAITS; i++)
        if (!(waits[i].what & WAITS_FOR_TIME))
            WAITS_CHECK(&waits[i], waits[i].call(WEALD_NOW), waits[i].what & WAITS_AND_RETURNS_0 ? 0 : WEALD_EAGAIN);
    CHECK_EQ(weald_kill(waits_greenlet, 0, WEALD_NOW), 0);
    *(int *)arg = 1;
}

TEST(a_callback_may_ask_without_waiting_and_kill)
{
    int done = 0;

    waits_prepare();
    in_callback(call_without_waiting, &done);
    CHECK_EQ(done, 1);
    CHECK_EQ(weald_join(waits_greenlet, WEALD_FOREVER), 0);
}

static void spawn_in_callback(void *arg)
{
    CHECK_EQ(weald_self(), 0);
    CHECK_EQ(weald_go(note, arg), 0);
    CHECK_STR(order, "");
}

TEST(a_callback_may_spawn)
{
    in_callback(spawn_in_callback, (char[]){"a"});
    CHECK_STR(order, "a");
}

static weald_greenlet child_of_callback;
static void spawn_child(void *arg) { child_of_callback = spawned(note, arg); }

TEST(what_a_callback_spawns_has_no_parent)
{
    in_callback(spawn_child, (char[]){"a"});
    CHECK_EQ(weald_parent(child_of_callback), 0);
    join_and_close(child_of_callback);
}

/* ---- no starving ---- */

static int stop_yielding;
static void *yield_on(void *arg)
{
    while (!stop_yielding)
        CHECK_EQ(weald_yield(), 0);
    return arg;
}

TEST(greenlets_that_only_yield_do_not_starve_a_reader)
{
    weald_greenlet g;

    CHECK_EQ(pipe(ends), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_go(yield_on, NULL), 0);
    g = spawned(read_pipe, NULL);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(close(ends[1]), 0);
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(10))), 0);
    CHECK_STR(order, "x");
    stop_yielding = 1;
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(main_that_only_yields_does_not_starve_a_reader_or_a_post)
{
    struct post_later p = {weald_hub(), 5, open_gate, NULL};
    weald_greenlet g;
    pthread_t thread;

    make_gate();
    CHECK_EQ(pipe(ends), 0);
    g = spawned(read_pipe, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(close(ends[1]), 0);
    thread = in_thread(post_later, &p);
    while (!weald_ready(g) || !weald_event_is_set(gate))
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(p.hub), 0);
    CHECK_EQ(weald_close(gate), 0);
    CHECK_EQ(weald_close(g), 0);
}

static void *spin_a_millisecond_and_yield(void *arg)
{
    while (!stop_yielding) {
        int64_t until = test_clock() + WEALD_MS(1);
        while (test_clock() < until)
            ;
        CHECK_EQ(weald_yield(), 0);
    }
    return arg;
}

TEST(long_slices_do_not_delay_a_sleeper_by_more_than_a_few)
{
    int64_t began;

    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_go(spin_a_millisecond_and_yield, NULL), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weald_yield(), 0); /* the hub learns how long they are */
    began = test_clock();
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_LT(test_clock() - began, WEALD_MS(500));
    stop_yielding = 1;
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

TEST(an_idle_hub_sleeps_in_the_kernel)
{
    struct post_later p = {weald_hub(), 300, open_gate, NULL};
    weald_stats before, after;
    pthread_t thread;

    make_gate();
    CHECK_EQ(weald_sleep(WEALD_MS(150)), 0); /* what there was to trim has been */
    before = test_stats();
    thread = in_thread(post_later, &p);
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0);
    after = test_stats();
    CHECK_LE(after.polls - before.polls, 8);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(p.hub), 0);
    CHECK_EQ(weald_close(gate), 0);
}

/* ---- reports and handlers ---- */

TEST(a_deadlock_report_says_who_waits_for_what)
{
    weald_greenlet waits_g, joins_g;

    keep_reports();
    make_gate();
    waits_g = spawned(wait_named, (char[]){"rowan"});
    CHECK_EQ(weald_yield(), 0);
    joins_g = waits_g;
    CHECK_EQ(weald_join(joins_g, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 1);
    CHECK_CONTAINS(report, "deadlock");
    CHECK_CONTAINS(report, "main waits for greenlet 'rowan'");
    CHECK_CONTAINS(report, "greenlet 'rowan'");
    CHECK_CONTAINS(report, "waits for event");
    CHECK_CONTAINS(report, "spawned at");
    CHECK_EQ(weald_event_set(gate), 0);
    join_and_close(waits_g);
    CHECK_EQ(weald_close(gate), 0);
}

static void deadlock_without_a_handler(void)
{
    weald_event e = weald_event_new(0);
    CHECK_EQ(weald_set_report_handler(keep_report, report), 0);
    CHECK_EQ(weald_set_report_handler(NULL, NULL), 0);
    CHECK_EQ(weald_event_wait(e, WEALD_FOREVER), WEALD_EDEADLK);
}

TEST(without_a_report_handler_the_report_goes_to_stderr)
{
    char text[4096];

    CHECK_EQ(test_in_child(deadlock_without_a_handler, text, sizeof text), 0);
    CHECK_CONTAINS(text, "deadlock");
    CHECK_CONTAINS(text, "main waits for event");
}

TEST(main_goes_on_after_a_deadlock_as_if_nothing_had_been)
{
    keep_reports();
    make_gate();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 3);
    CHECK_EQ(weald_go(note, (char[]){"a"}), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(gate), 0);
}

struct failure {
    weald_greenlet g;
    int code, count;
    char message[64];
};

static void keep_failure(weald_greenlet g, int code, const char *message, void *user)
{
    struct failure *f = (struct failure *)user;

    f->g = g;
    f->code = code;
    f->count++;
    strcpy(f->message, message);
}

static void *fail(void *arg) { return weald_fail(WEALD_EPIPE, (const char *)arg); }

TEST(the_error_handler_is_told_who_failed_how)
{
    struct failure f = {0};
    weald_greenlet g;

    CHECK_EQ(weald_set_error_handler(keep_failure, &f), 0);
    g = spawned(fail, (char[]){"the well is dry"});
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(f.count, 1);
    CHECK_EQ(f.g, g);
    CHECK_EQ(f.code, WEALD_EPIPE);
    CHECK_STR(f.message, "the well is dry");
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_failure_without_a_message_is_told_with_an_empty_one)
{
    struct failure f = {0};

    CHECK_EQ(weald_set_error_handler(keep_failure, &f), 0);
    CHECK_EQ(weald_go(fail, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(f.count, 1);
    CHECK_STR(f.message, "");
}

/* ---- signals ---- */

static volatile sig_atomic_t ticks;
static void tick(int signo)
{
    (void)signo;
    ticks++;
}

static void tick_at_1kHz(int on)
{
    struct itimerval every = {{0, on ? 1000 : 0}, {0, on ? 1000 : 0}};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = tick;
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
}

TEST(signals_at_1_kHz_neither_shorten_a_sleep_nor_end_a_wait)
{
    int64_t began = test_clock();

    CHECK_EQ(pipe(ends), 0);
    tick_at_1kHz(1);
    CHECK_EQ(weald_sleep(WEALD_MS(100)), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(100));
    began = test_clock();
    CHECK_EQ(weald_wait_read(ends[0], weald_after(WEALD_MS(100))), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(100));
    began = test_clock();
    CHECK_EQ(weald_poll(NULL, 0, weald_after(WEALD_MS(100))), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(100));
    tick_at_1kHz(0);
    CHECK_GT(ticks, 20);
}

static void *echo_bytes(void *arg)
{
    char c;

    while (weald_wait_read(ends[0], WEALD_FOREVER) == 0) {
        ssize_t n = read(ends[0], &c, 1);
        if (n == 0)
            return arg;
        if (n == 1)
            ++*(long *)arg;
    }
    return NULL;
}

TEST(no_byte_is_lost_with_signals_at_1_kHz)
{
    long got = 0, sent = test_rounds(20000);
    weald_greenlet g;

    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    tick_at_1kHz(1);
    g = spawned(echo_bytes, &got);
    for (long i = 0; i < sent;) {
        if (write(ends[1], "x", 1) == 1)
            i++;
        else
            CHECK_EQ(weald_wait_write(ends[1], WEALD_FOREVER), 0);
    }
    CHECK_EQ(close(ends[1]), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    tick_at_1kHz(0);
    CHECK_EQ(got, sent);
    CHECK_EQ(weald_close(g), 0);
}

/* ---- threads ---- */

static void *hub_of_a_thread(void *arg)
{
    weald_greenlet g = weald_spawn(sleep_ns, (void *)WEALD_MS(1));

    CHECK_GT(g, 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_go(sleep_ns, (void *)WEALD_SEC(100)), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_go(sleep_ns, NULL), 0); /* the thread ends with one asleep and one that has not begun */
    return arg;
}

TEST(a_thread_that_ends_takes_its_hub_along)
{
    int fds;

    CHECK_EQ(pthread_join(in_thread(hub_of_a_thread, NULL), NULL), 0);
    fds = test_fds();
    for (int i = 0; i < 1100; i++) /* more than there may be hubs */
        CHECK_EQ(pthread_join(in_thread(hub_of_a_thread, NULL), NULL), 0);
    CHECK_EQ(test_fds(), fds);
}
