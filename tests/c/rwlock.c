/* Read-write locks: many readers or one writer, served in the order they came. */
#include "greenlets.h"

#include <pthread.h>

static weald_rwlock rw;
static weald_event go;
static char order[64];

/* A visitor notes "r" or "w" and its number when it has the lock, and stays until `go`. */
static void *visit(const char *name, int (*take)(weald_rwlock, int64_t))
{
    int code = take(rw, WEALD_FOREVER);

    if (code == 0) {
        strcat(order, name);
        (void)weald_event_wait(go, WEALD_FOREVER);
        CHECK_EQ(weald_rwlock_release(rw), 0);
    }
    return (void *)(intptr_t)code;
}

static void *reader(void *name) { return visit((const char *)name, weald_rwlock_read); }
static void *writer(void *name) { return visit((const char *)name, weald_rwlock_write); }

static void make(void)
{
    rw = weald_rwlock_new();
    go = weald_event_new(0);
    CHECK_GT(rw, 0);
}

static void unmake(void)
{
    CHECK_EQ(weald_close(rw), 0);
    CHECK_EQ(weald_close(go), 0);
}

/* Starts a visitor and lets it come as far as it can. */
static weald_greenlet start(weald_fn body, const char *name)
{
    weald_greenlet g = weald_spawn(body, (void *)(intptr_t)name);

    CHECK_GT(g, 0);
    CHECK_EQ(weald_yield(), 0);
    return g;
}

/* Nobody has it and nobody waits for it. */
static void check_free(void)
{
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
    CHECK_EQ(weald_rwlock_release(rw), 0);
}

TEST(readers_share_it)
{
    weald_greenlet a, b;

    make();
    CHECK_EQ(weald_kind(rw), WEALD_KIND_RWLOCK);
    a = start(reader, "r1");
    b = start(reader, "r2");
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    CHECK_STR(order, "r1r2");
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(code_of(b), 0);
    check_free();
    unmake();
}

TEST(a_writer_is_alone)
{
    weald_greenlet a;

    make();
    a = start(writer, "w1");
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    check_free();
    unmake();
}

TEST(a_writer_waits_for_all_readers)
{
    weald_greenlet a, b;

    make();
    a = start(reader, "r1");
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    b = start(writer, "w1");
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(a), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "r1");
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(code_of(b), 0);
    CHECK_STR(order, "r1w1");
    unmake();
}

TEST(a_reader_does_not_overtake_a_writer_that_waits)
{
    weald_greenlet r1, w1, r2, r3, w2;

    make();
    r1 = start(reader, "r1");
    w1 = start(writer, "w1");
    r2 = start(reader, "r2");
    r3 = start(reader, "r3");
    w2 = start(writer, "w2");
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), WEALD_EAGAIN);
    CHECK_STR(order, "r1");
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(w2), 0);
    CHECK_STR(order, "r1w1r2r3w2");
    CHECK_EQ(code_of(r1) | code_of(w1) | code_of(r2) | code_of(r3), 0);
    check_free();
    unmake();
}

TEST(readers_behind_a_writer_come_in_together)
{
    weald_greenlet r2, r3;

    make();
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
    r2 = start(reader, "r2");
    r3 = start(reader, "r3");
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "r2r3"); /* both are inside */
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(r2) | code_of(r3), 0);
    unmake();
}

TEST(a_released_lock_is_handed_to_the_writer_in_the_same_step)
{
    weald_greenlet w1;

    make();
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
    w1 = start(writer, "w1");
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(w1), 0);
    check_free();
    unmake();
}

/* ---- a writer that gives up ---- */

static void *write_until(void *deadline)
{
    return (void *)(intptr_t)weald_rwlock_write(rw, *(int64_t *)deadline);
}

TEST(a_writer_that_gives_up_at_its_deadline_lets_readers_in)
{
    int64_t began = test_clock(), deadline = weald_after(test_slack(WEALD_MS(5)));
    weald_greenlet w1, r1;

    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    w1 = start(write_until, (const char *)&deadline);
    r1 = start(reader, "r1");
    CHECK_STR(order, "");
    CHECK_EQ(code_of(w1), WEALD_ETIMEDOUT);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "r1");
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(r1), 0);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    check_free();
    unmake();
}

TEST(a_writer_that_is_killed_lets_readers_in)
{
    weald_greenlet w1, r1, r2;

    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    w1 = start(writer, "w1");
    r1 = start(reader, "r1");
    r2 = start(reader, "r2");
    CHECK_EQ(weald_kill(w1, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(w1), WEALD_ECANCELED);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "r1r2");
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(r1) | code_of(r2), 0);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    check_free();
    unmake();
}

TEST(a_writer_that_is_interrupted_lets_readers_in)
{
    weald_greenlet w1, r1;

    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    w1 = start(writer, "w1");
    r1 = start(reader, "r1");
    CHECK_EQ(weald_interrupt(w1, WEALD_EINTR), 0);
    CHECK_EQ(code_of(w1), WEALD_EINTR);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "r1");
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(r1), 0);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    unmake();
}

TEST(readers_do_not_pass_a_second_writer_when_the_first_gives_up)
{
    weald_greenlet w1, r1, w2, r2;

    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    w1 = start(writer, "w1");
    r1 = start(reader, "r1");
    w2 = start(writer, "w2");
    r2 = start(reader, "r2");
    CHECK_EQ(weald_kill(w1, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(w1), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "r1");
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(r1) | code_of(w2) | code_of(r2), 0);
    CHECK_STR(order, "r1w2r2");
    unmake();
}

/* ---- killed between hand-over and running ---- */

TEST(a_writer_killed_after_the_hand_over_hands_it_on)
{
    weald_greenlet w1, r1, r2;

    make();
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
    w1 = start(writer, "w1");
    r1 = start(reader, "r1");
    r2 = start(reader, "r2");
    CHECK_EQ(weald_rwlock_release(rw), 0); /* w1 has it, and has not run */
    CHECK_EQ(weald_kill(w1, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code_of(w1), WEALD_ECANCELED);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "r1r2");
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(r1) | code_of(r2), 0);
    check_free();
    unmake();
}

TEST(a_reader_killed_after_the_hand_over_gives_its_share_back)
{
    weald_greenlet r1, r2, w1;

    make();
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
    r1 = start(reader, "r1");
    r2 = start(reader, "r2");
    w1 = start(writer, "w1");
    CHECK_EQ(weald_rwlock_release(rw), 0); /* both readers have it */
    CHECK_EQ(weald_kill(r1, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_kill(r2, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(r1), WEALD_ECANCELED);
    CHECK_EQ(code_of(r2), WEALD_ECANCELED);
    CHECK_EQ(code_of(w1), 0);
    CHECK_STR(order, "w1");
    check_free();
    unmake();
}

/* ---- several times, and codes ---- */

TEST(a_reader_may_read_again_and_releases_as_often)
{
    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_FOREVER), 0);
    CHECK_EQ(weald_rwlock_read(rw, WEALD_FOREVER), 0);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_rwlock_release(rw), WEALD_EPERM);
    check_free();
    unmake();
}

/* Behind the writer it would wait for ever: for itself. */
TEST(a_reader_may_read_again_before_a_writer_who_waits)
{
    weald_greenlet w;

    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_FOREVER), 0);
    w = start(writer, "w1");
    weald_greenlet r = start(reader, "r1");
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_event_set(go), 0);
    CHECK_EQ(code_of(w), 0);
    CHECK_EQ(code_of(r), 0);
    CHECK_STR(order, "w1r1");
    check_free();
    unmake();
}

TEST(what_waits_for_oneself_is_edeadlk)
{
    make();
    CHECK_EQ(weald_rwlock_write(rw, WEALD_FOREVER), 0);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_rwlock_read(rw, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_rwlock_read(rw, WEALD_FOREVER), 0);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    check_free();
    unmake();
}

static void *release_it(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weald_rwlock_release(rw);
}

TEST(a_release_of_what_one_does_not_hold_is_eperm)
{
    make();
    CHECK_EQ(weald_rwlock_release(rw), WEALD_EPERM);
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    CHECK_EQ(code_of(weald_spawn(release_it, NULL)), WEALD_EPERM);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
    CHECK_EQ(code_of(weald_spawn(release_it, NULL)), WEALD_EPERM);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    unmake();
}

TEST(closing_it_wakes_everybody_with_ebadf)
{
    weald_greenlet w1, r1;

    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    w1 = start(writer, "w1");
    r1 = start(reader, "r1");
    CHECK_EQ(weald_close(rw), 0);
    CHECK_EQ(code_of(w1), WEALD_EBADF);
    CHECK_EQ(code_of(r1), WEALD_EBADF);
    CHECK_EQ(weald_close(go), 0);
}

TEST(stale_and_wrong_handles_are_ebadf)
{
    weald_lock lock = weald_lock_new();
    weald_handle bad[3];

    make();
    unmake();
    bad[0] = rw;
    bad[1] = 0;
    bad[2] = lock;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_rwlock_read(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_rwlock_write(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_rwlock_release(bad[i]), WEALD_EBADF);
    }
    CHECK_EQ(weald_close(lock), 0);
}

static void *use_it(void *arg)
{
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_rwlock_release(rw), WEALD_EPERM);
    return arg;
}

TEST(another_threads_rwlock_is_eperm)
{
    pthread_t thread;

    make();
    CHECK_EQ(weald_rwlock_read(rw, WEALD_NOW), 0);
    CHECK_EQ(pthread_create(&thread, NULL, use_it, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    unmake();
}

/* There is no greenlet in a callback that could hold it. */
static void use_in_callback(void *arg)
{
    CHECK_EQ(weald_rwlock_read(rw, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_FOREVER), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_rwlock_release(rw), WEALD_EPERM);
    ++*(int *)arg;
}

TEST(a_callback_can_not_hold_it)
{
    weald_handle hub = weald_hub();
    int called = 0;

    make();
    CHECK_EQ(weald_post(hub, use_in_callback, &called), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_NOW), 0);
    CHECK_EQ(weald_post(hub, use_in_callback, &called), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_EQ(called, 2);
    CHECK_EQ(weald_rwlock_release(rw), 0);
    check_free();
    CHECK_EQ(weald_close(hub), 0);
    unmake();
}

static void *take_and_keep(void *arg)
{
    CHECK_EQ(weald_rwlock_write(rw, WEALD_FOREVER), 0);
    return arg;
}

TEST(a_wait_that_nobody_can_end_is_edeadlk)
{
    int reports = 0;

    CHECK_EQ(weald_set_report_handler(keep_quiet, &reports), 0);
    make();
    CHECK_EQ(code_of(weald_spawn(take_and_keep, NULL)), 0);
    CHECK_EQ(weald_rwlock_read(rw, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_rwlock_write(rw, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(reports, 2);
    unmake();
}
