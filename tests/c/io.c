/* Waiting for descriptors. */
#include "greenlets.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

static void make_pipe(int ends[2]) { CHECK_EQ(pipe2(ends, O_NONBLOCK), 0); }
static void make_pair(int ends[2]) { CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0); }

static void fill(int fd)
{
    char zeros[4096] = {0};
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    CHECK_EQ(errno, EAGAIN);
}

static void drain(int fd)
{
    char bytes[4096];
    while (read(fd, bytes, sizeof bytes) > 0)
        ;
}

static void put(int fd) { CHECK_EQ(write(fd, "x", 1), 1); }
static void take(int fd)
{
    char c;
    CHECK_EQ(read(fd, &c, 1), 1);
}

static void *wait_read(void *fd) { return (void *)(intptr_t)weald_wait_read((int)(intptr_t)fd, WEALD_FOREVER); }
static void *wait_write(void *fd) { return (void *)(intptr_t)weald_wait_write((int)(intptr_t)fd, WEALD_FOREVER); }
#define FD(n) ((void *)(intptr_t)(n))

/* How often the loop turns in a fifth of a second in which nothing is to be done. */
static uint64_t turns_while_asleep(void)
{
    uint64_t before = test_stats().turns;

    CHECK_EQ(weald_sleep(WEALD_MS(200)), 0);
    return test_stats().turns - before;
}

/* ---- what is ready ---- */

TEST(a_reader_waits_until_there_is_data)
{
    int p[2];
    weald_greenlet g;

    make_pipe(p);
    g = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    put(p[1]);
    CHECK_EQ(outcome(g), 0);
}

TEST(a_writer_waits_until_there_is_room)
{
    int p[2];
    weald_greenlet g;

    make_pipe(p);
    CHECK_EQ(weald_wait_write(p[1], WEALD_FOREVER), 0);
    fill(p[1]);
    g = spawned(wait_write, FD(p[1]));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    drain(p[0]);
    CHECK_EQ(outcome(g), 0);
}

TEST(wait_fd_says_what_came)
{
    int s[2];

    make_pair(s);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ | WEALD_WRITE, WEALD_FOREVER), WEALD_WRITE);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ | WEALD_WRITE, WEALD_NOW), WEALD_WRITE);
    put(s[1]);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ | WEALD_WRITE, WEALD_FOREVER), WEALD_READ | WEALD_WRITE);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ, WEALD_FOREVER), WEALD_READ);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ, WEALD_NOW), WEALD_READ);
}

TEST(a_hang_up_is_readable_and_said)
{
    int p[2];

    make_pipe(p);
    CHECK_EQ(close(p[1]), 0);
    CHECK_EQ(weald_wait_fd(p[0], WEALD_READ, WEALD_FOREVER), WEALD_READ | WEALD_HUP);
    CHECK_EQ(weald_wait_fd(p[0], WEALD_READ, WEALD_NOW), WEALD_READ | WEALD_HUP);
    CHECK_EQ(weald_wait_read(p[0], WEALD_FOREVER), 0); /* and again: it does not go away */
}

TEST(an_error_is_writable_and_said)
{
    int p[2];

    make_pipe(p);
    CHECK_EQ(close(p[0]), 0);
    CHECK_EQ(weald_wait_fd(p[1], WEALD_WRITE, WEALD_FOREVER), WEALD_WRITE | WEALD_ERROR);
    CHECK_EQ(weald_wait_fd(p[1], WEALD_WRITE, WEALD_NOW), WEALD_WRITE | WEALD_ERROR);
    CHECK_EQ(weald_wait_write(p[1], WEALD_FOREVER), 0);
}

TEST(a_half_close_is_readable_and_the_other_half_works)
{
    int s[2];
    char c;
    weald_greenlet g;

    make_pair(s);
    g = spawned(wait_read, FD(s[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(shutdown(s[1], SHUT_WR), 0);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(read(s[0], &c, 1), 0);
    CHECK_EQ(weald_wait_write(s[0], WEALD_FOREVER), 0);
    put(s[0]);
    CHECK_EQ(weald_wait_read(s[1], WEALD_FOREVER), 0);
    take(s[1]);
}

TEST(waiting_again_after_a_partial_read_returns_at_once)
{
    int p[2];

    make_pipe(p);
    for (int i = 0; i < 5; i++)
        put(p[1]);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(weald_wait_read(p[0], WEALD_FOREVER), 0);
        take(p[0]);
    }
    CHECK_EQ(weald_wait_read(p[0], WEALD_NOW), WEALD_EAGAIN);
}

TEST(a_descriptor_that_is_ready_is_so_whatever_the_deadline)
{
    int p[2];

    make_pipe(p);
    put(p[1]);
    CHECK_EQ(weald_wait_read(p[0], WEALD_NOW), 0);
    CHECK_EQ(weald_wait_read(p[0], WEALD_FOREVER), 0);
    CHECK_EQ(weald_wait_read(p[0], INT64_MAX), 0);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_SEC(10))), 0);
    /* As a queue that has an item, or a greenlet that has ended. */
    CHECK_EQ(weald_wait_read(p[0], weald_now()), 0);
    CHECK_EQ(weald_wait_read(p[0], -12345), 0);
}

TEST(a_deadline_that_has_passed_is_etimedout)
{
    int p[2];

    make_pipe(p);
    CHECK_EQ(weald_wait_read(p[0], -12345), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_wait_read(p[0], 1), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_wait_fd(p[0], WEALD_READ, INT64_MIN), WEALD_ETIMEDOUT);
}

TEST(a_connection_to_accept_is_readable)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    weald_greenlet g;

    /* An abstract name: nothing to delete. */
    snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "weald-test-%d", (int)getpid());
    CHECK_EQ(bind(server, (struct sockaddr *)&name, sizeof name), 0);
    CHECK_EQ(listen(server, 1), 0);
    g = spawned(wait_read, FD(server));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(connect(client, (struct sockaddr *)&name, sizeof name), 0);
    CHECK_EQ(outcome(g), 0);
    CHECK_GE(accept(server, NULL, NULL), 0);
}

TEST(regular_files_and_devices_that_never_block_are_always_ready)
{
    int file = open("/proc/self/exe", O_RDONLY), null = open("/dev/null", O_RDWR);
    FILE *temporary = tmpfile();
    struct pollfd fds[2] = {{.fd = file, .events = POLLIN}, {.fd = null, .events = POLLIN | POLLOUT}};

    CHECK(temporary != NULL);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_wait_read(file, WEALD_FOREVER), 0);
        CHECK_EQ(weald_wait_read(null, WEALD_FOREVER), 0);
        CHECK_EQ(weald_wait_write(null, WEALD_FOREVER), 0);
        CHECK_EQ(weald_wait_write(fileno(temporary), WEALD_FOREVER), 0);
        CHECK_EQ(weald_wait_fd(file, WEALD_READ, WEALD_NOW), WEALD_READ);
        CHECK_EQ(weald_wait_fd(null, WEALD_READ | WEALD_WRITE, WEALD_FOREVER), WEALD_READ | WEALD_WRITE);
        CHECK_EQ(weald_poll(fds, 2, WEALD_FOREVER), 2);
    }
    fclose(temporary);
}

TEST(a_wait_leaves_the_descriptors_flags_alone)
{
    int p[2], flags;

    CHECK_EQ(pipe(p), 0);
    flags = fcntl(p[0], F_GETFL);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(fcntl(p[0], F_GETFL), flags);
}

TEST(what_is_no_open_descriptor_is_ebadf)
{
    int p[2];
    const int bad[] = {-1, INT_MAX, INT_MIN, 100000, -2};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(weald_wait_read(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_wait_write(bad[i], WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_wait_fd(bad[i], WEALD_READ, WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_wait_read(bad[i], WEALD_NOW), WEALD_EBADF);
        CHECK_EQ(weald_cancel_wait(bad[i]), 0);
    }
    make_pipe(p);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* the poller knows it */
    CHECK_EQ(close(p[0]), 0);
    CHECK_EQ(weald_wait_read(p[0], WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_SEC(5))), WEALD_EBADF);
}

TEST(events_other_than_read_and_write_are_einval)
{
    int p[2];
    const int bad[] = {0, WEALD_HUP, WEALD_ERROR, WEALD_READ | WEALD_HUP, 16, -1, INT_MIN};

    make_pipe(p);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(weald_wait_fd(p[0], bad[i], WEALD_FOREVER), WEALD_EINVAL);
        CHECK_EQ(weald_wait_fd(p[0], bad[i], WEALD_NOW), WEALD_EINVAL);
    }
}

/* ---- several on one descriptor ---- */

TEST(a_reader_and_a_writer_wait_on_one_descriptor_each_for_its_own)
{
    int s[2];
    weald_greenlet reader, writer;

    make_pair(s);
    fill(s[0]);
    reader = spawned(wait_read, FD(s[0]));
    writer = spawned(wait_write, FD(s[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(reader), WEALD_STATE_PARKED);
    CHECK_EQ(weald_state(writer), WEALD_STATE_PARKED);
    put(s[1]);
    CHECK_EQ(outcome(reader), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(writer), WEALD_STATE_PARKED);
    drain(s[1]);
    CHECK_EQ(outcome(writer), 0);
}

TEST(the_writer_may_go_on_before_the_reader)
{
    int s[2];
    weald_greenlet reader, writer;

    make_pair(s);
    reader = spawned(wait_read, FD(s[0]));
    writer = spawned(wait_write, FD(s[0]));
    CHECK_EQ(outcome(writer), 0);
    CHECK_EQ(weald_state(reader), WEALD_STATE_PARKED);
    put(s[1]);
    CHECK_EQ(outcome(reader), 0);
}

TEST(a_second_reader_or_writer_is_ebusy_until_the_first_is_done)
{
    int s[2];
    weald_greenlet reader, writer;

    make_pair(s);
    fill(s[0]);
    reader = spawned(wait_read, FD(s[0]));
    writer = spawned(wait_write, FD(s[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_wait_read(s[0], WEALD_FOREVER), WEALD_EBUSY);
    CHECK_EQ(weald_wait_write(s[0], WEALD_FOREVER), WEALD_EBUSY);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ | WEALD_WRITE, WEALD_FOREVER), WEALD_EBUSY);
    CHECK_EQ(weald_wait_read(s[0], WEALD_NOW), WEALD_EAGAIN);
    put(s[1]);
    drain(s[1]);
    CHECK_EQ(outcome(reader), 0);
    CHECK_EQ(outcome(writer), 0);
    CHECK_EQ(weald_wait_read(s[0], WEALD_FOREVER), 0);
    CHECK_EQ(weald_wait_write(s[0], WEALD_FOREVER), 0);
}

TEST(a_waiter_that_was_killed_or_ran_out_of_time_leaves_the_descriptor_free)
{
    int p[2];
    weald_greenlet g;

    make_pipe(p);
    g = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(g), WEALD_ECANCELED);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    g = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    put(p[1]);
    CHECK_EQ(outcome(g), 0);
}

static int shared_ends[2];
static void *poll_shared(void *arg)
{
    struct pollfd fd = {.fd = shared_ends[0], .events = POLLIN};
    CHECK_EQ(weald_poll(&fd, 1, WEALD_FOREVER), 1);
    CHECK_EQ(fd.revents, POLLIN);
    return arg;
}

TEST(several_may_poll_one_descriptor_besides_its_reader)
{
    weald_greenlet gs[5];

    make_pipe(shared_ends);
    for (int i = 0; i < 4; i++)
        gs[i] = spawned(poll_shared, NULL);
    gs[4] = spawned(wait_read, FD(shared_ends[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weald_state(gs[i]), WEALD_STATE_PARKED);
    put(shared_ends[1]);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(outcome(gs[i]), 0);
}

TEST(two_descriptors_of_one_description_are_two)
{
    int p[2], copy;
    weald_greenlet first, second;

    make_pipe(p);
    copy = dup(p[0]);
    first = spawned(wait_read, FD(p[0]));
    second = spawned(wait_read, FD(copy));
    CHECK_EQ(weald_yield(), 0);
    put(p[1]);
    CHECK_EQ(outcome(first), 0);
    CHECK_EQ(outcome(second), 0);
}

/* ---- cancel_wait ---- */

TEST(cancel_wait_ends_all_waits_for_a_descriptor_once)
{
    int s[2];
    weald_greenlet reader, writer, other;

    make_pair(s);
    fill(s[0]);
    reader = spawned(wait_read, FD(s[0]));
    writer = spawned(wait_write, FD(s[0]));
    other = spawned(wait_read, FD(s[1] = dup(s[1])));
    drain(s[1]);
    fill(s[0]);
    CHECK_EQ(weald_kill(other, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(other), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_cancel_wait(s[0]), 2);
    CHECK_EQ(weald_cancel_wait(s[0]), 0);
    CHECK_EQ(outcome(reader), WEALD_ECANCELED);
    CHECK_EQ(outcome(writer), WEALD_ECANCELED);
    CHECK_EQ(weald_wait_read(s[0], WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_wait_read(s[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
}

static void *poll_code(void *fd_as_pointer)
{
    struct pollfd fd = {.fd = (int)(intptr_t)fd_as_pointer, .events = POLLIN};
    return (void *)(intptr_t)weald_poll(&fd, 1, WEALD_FOREVER);
}

TEST(cancel_wait_ends_polls_as_well)
{
    int p[2];
    weald_greenlet g;

    make_pipe(p);
    g = spawned(poll_code, FD(p[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_cancel_wait(p[0]), 1);
    CHECK_EQ(outcome(g), WEALD_ECANCELED);
}

TEST(cancel_wait_leaves_waits_for_other_descriptors_alone)
{
    int p[2], q[2];
    weald_greenlet g;

    make_pipe(p);
    make_pipe(q);
    g = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_cancel_wait(q[0]), 0);
    CHECK_EQ(weald_cancel_wait(p[1]), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    put(p[1]);
    CHECK_EQ(outcome(g), 0);
}

/* ---- behind our back ---- */

TEST(a_descriptor_closed_while_waited_for_is_ebadf_soon)
{
    int p[2];
    int64_t began = test_clock();
    weald_greenlet g;

    make_pipe(p);
    g = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(close(p[0]), 0);
    CHECK_EQ(outcome(g), WEALD_EBADF);
    CHECK_LT(test_clock() - began, WEALD_SEC(5));
}

TEST(a_descriptor_closed_after_a_long_quiet_wait_is_ebadf_soon)
{
    int p[2];
    weald_greenlet g;

    make_pipe(p);
    g = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(2500)), 0); /* nothing happens for more than two sweeps */
    CHECK_EQ(close(p[0]), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(2500)), 0);
    CHECK_EQ(weald_ready(g), 1);
    CHECK_EQ(outcome(g), WEALD_EBADF);
}

TEST(a_polled_descriptor_closed_meanwhile_is_pollnval)
{
    int p[2];
    struct pollfd fd;

    make_pipe(p);
    shared_ends[0] = p[0];
    fd = (struct pollfd){.fd = p[0], .events = POLLIN};
    {
        weald_greenlet g = spawned(poll_code, FD(p[0]));
        CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
        CHECK_EQ(close(p[0]), 0);
        CHECK_EQ(outcome(g), 1);
    }
    CHECK_EQ(weald_poll(&fd, 1, WEALD_FOREVER), 1);
    CHECK_EQ(fd.revents, POLLNVAL);
}

TEST(a_number_that_is_reused_serves_the_new_waiter_and_tells_the_old)
{
    int old[2], fresh[2], number;
    weald_greenlet first, second;

    make_pipe(old);
    make_pipe(fresh);
    number = old[0];
    first = spawned(wait_read, FD(number));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(dup2(fresh[0], number), number); /* close and reuse in one */
    second = spawned(wait_read, FD(number));
    CHECK_EQ(outcome(first), WEALD_EBADF);
    CHECK_EQ(weald_state(second), WEALD_STATE_PARKED);
    put(fresh[1]);
    CHECK_EQ(outcome(second), 0);
}

TEST(a_number_that_is_reused_tells_the_old_waiter_even_if_nobody_else_comes)
{
    int old[2], fresh[2];
    weald_greenlet g;

    make_pipe(old);
    make_pipe(fresh);
    g = spawned(wait_read, FD(old[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(dup2(fresh[0], old[0]), old[0]);
    CHECK_EQ(outcome(g), WEALD_EBADF);
}

TEST(a_number_closed_and_reused_between_two_waits_is_fresh)
{
    for (int i = 0; i < 50; i++) {
        int p[2];
        weald_greenlet g;

        make_pipe(p); /* the same numbers each time */
        g = spawned(wait_read, FD(p[0]));
        CHECK_EQ(weald_yield(), 0);
        put(p[1]);
        CHECK_EQ(outcome(g), 0);
        CHECK_EQ(close(p[0]), 0);
        CHECK_EQ(close(p[1]), 0);
    }
}

TEST(a_description_that_lives_on_in_a_copy_does_not_wake_who_waits_for_the_reused_number)
{
    int old[2], fresh[2], number, copy;
    weald_greenlet g;

    make_pipe(old);
    make_pipe(fresh);
    number = old[0];
    CHECK_EQ(weald_wait_read(number, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* the poller knows it */
    copy = dup(number);
    CHECK_EQ(dup2(fresh[0], number), number);
    g = spawned(wait_read, FD(number));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    put(old[1]);
    CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    put(fresh[1]);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(close(copy), 0);
}

TEST(a_closed_number_whose_description_lives_on_does_not_keep_the_loop_busy)
{
    int p[2], copy;

    make_pipe(p);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* the poller knows it */
    copy = dup(p[0]);
    CHECK_EQ(close(p[0]), 0);
    put(p[1]);
    CHECK_LE(turns_while_asleep(), 100);
    CHECK_EQ(close(copy), 0);
}

TEST(a_reused_number_whose_old_description_lives_on_does_not_keep_the_loop_busy)
{
    int old[2], fresh[2], number, copy;
    weald_greenlet g;

    make_pipe(old);
    make_pipe(fresh);
    number = old[0];
    CHECK_EQ(weald_wait_read(number, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    copy = dup(number);
    CHECK_EQ(dup2(fresh[0], number), number);
    g = spawned(wait_read, FD(number));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    put(old[1]);
    CHECK_LE(turns_while_asleep(), 100);
    put(fresh[1]);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(close(copy), 0);
}

TEST(a_number_that_comes_back_as_a_regular_file_wakes_who_waits_for_it)
{
    int p[2], file = open("/proc/self/exe", O_RDONLY);
    weald_greenlet old, new;

    make_pipe(p);
    old = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(dup2(file, p[0]), p[0]);
    new = spawned(wait_write, FD(p[0])); /* another direction: asks for more than is registered */
    CHECK_EQ(outcome(new), 0);
    CHECK_EQ(outcome(old), WEALD_EBADF);

    make_pipe(p);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* the poller knows it */
    CHECK_EQ(dup2(file, p[0]), p[0]);
    CHECK_EQ(outcome(spawned(wait_read, FD(p[0]))), 0); /* relies on the pipe's registration at first */
}

TEST(a_number_that_comes_back_as_a_regular_file_is_found_by_the_sweep)
{
    int p[2], file = open("/proc/self/exe", O_RDONLY);
    weald_greenlet old;

    make_pipe(p);
    old = spawned(wait_read, FD(p[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(dup2(file, p[0]), p[0]);
    for (int i = 0; i < 500 && weald_state(old) != WEALD_STATE_DONE; i++)
        CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    CHECK_EQ(weald_state(old), WEALD_STATE_DONE);
    CHECK_EQ(outcome(old), WEALD_EBADF);
}

TEST(data_that_nobody_waits_for_any_more_does_not_keep_the_loop_busy)
{
    int p[2];

    make_pipe(p);
    CHECK_EQ(weald_wait_read(p[0], weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    put(p[1]);
    CHECK_LE(turns_while_asleep(), 100);
    CHECK_EQ(close(p[1]), 0); /* and a hang-up, which can not be masked */
    CHECK_LE(turns_while_asleep(), 100);
    CHECK_EQ(weald_wait_read(p[0], WEALD_FOREVER), 0);
}

/* ---- poll ---- */

TEST(poll_fills_in_what_is_ready_and_counts_it)
{
    int p[2], q[2];
    struct pollfd fds[4];

    make_pipe(p);
    make_pipe(q);
    put(p[1]);
    fds[0] = (struct pollfd){.fd = p[0], .events = POLLIN, .revents = -1};
    fds[1] = (struct pollfd){.fd = q[0], .events = POLLIN, .revents = -1};
    fds[2] = (struct pollfd){.fd = q[1], .events = POLLOUT, .revents = -1};
    fds[3] = (struct pollfd){.fd = -1, .events = POLLIN, .revents = -1};
    CHECK_EQ(weald_poll(fds, 4, WEALD_FOREVER), 2);
    CHECK_EQ(fds[0].revents, POLLIN);
    CHECK_EQ(fds[1].revents, 0);
    CHECK_EQ(fds[2].revents, POLLOUT);
    CHECK_EQ(fds[3].revents, 0);
}

static void *put_later(void *fd)
{
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    put((int)(intptr_t)fd);
    return NULL;
}

TEST(poll_parks_until_one_of_many_is_ready)
{
    int p[8][2];
    struct pollfd fds[8];

    for (int i = 0; i < 8; i++) {
        make_pipe(p[i]);
        fds[i] = (struct pollfd){.fd = p[i][0], .events = POLLIN};
    }
    CHECK_EQ(weald_go(put_later, FD(p[5][1])), 0);
    CHECK_EQ(weald_poll(fds, 8, WEALD_FOREVER), 1);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(fds[i].revents, i == 5 ? POLLIN : 0);
}

TEST(one_descriptor_may_stand_in_a_poll_twice)
{
    int s[2];
    struct pollfd fds[2];

    make_pair(s);
    fill(s[0]);
    fds[0] = (struct pollfd){.fd = s[0], .events = POLLIN};
    fds[1] = (struct pollfd){.fd = s[0], .events = POLLOUT};
    CHECK_EQ(weald_go(put_later, FD(s[1])), 0);
    CHECK_EQ(weald_poll(fds, 2, WEALD_FOREVER), 1);
    CHECK_EQ(fds[0].revents, POLLIN);
    CHECK_EQ(fds[1].revents, 0);
}

TEST(a_poll_of_nothing_is_a_sleep)
{
    int64_t began = test_clock();
    struct pollfd none = {.fd = -1, .events = POLLIN};

    CHECK_EQ(weald_poll(NULL, 0, weald_after(WEALD_MS(5))), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK_EQ(weald_poll(&none, 1, weald_after(WEALD_MS(5))), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(10));
    CHECK_EQ(weald_poll(NULL, 0, WEALD_NOW), 0);
}

static void ignore_report(const char *text, void *user) { (void)text, (void)user; }

TEST(a_poll_of_nothing_for_ever_is_edeadlk)
{
    struct pollfd none = {.fd = -1, .events = POLLIN};

    CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
    CHECK_EQ(weald_poll(NULL, 0, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_poll(&none, 1, WEALD_FOREVER), WEALD_EDEADLK);
    CHECK_EQ(weald_select(0, NULL, NULL, NULL, WEALD_FOREVER), WEALD_EDEADLK);
}

TEST(poll_checks_its_arguments)
{
    struct pollfd one = {.fd = -1};

    CHECK_EQ(weald_poll(NULL, 1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_poll(&one, SIZE_MAX, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_poll(&one, SIZE_MAX / 8, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_poll(&one, (size_t)1 << 40, WEALD_NOW), WEALD_EINVAL); /* not 0 of them */
}

TEST(a_closed_descriptor_in_a_poll_is_pollnval_at_once)
{
    int p[2];
    struct pollfd fds[2];

    make_pipe(p);
    fds[0] = (struct pollfd){.fd = p[0], .events = POLLIN};
    fds[1] = (struct pollfd){.fd = 100000, .events = POLLIN};
    CHECK_EQ(weald_poll(fds, 2, WEALD_FOREVER), 1);
    CHECK_EQ(fds[0].revents, 0);
    CHECK_EQ(fds[1].revents, POLLNVAL);
}

static void *close_later(void *fd)
{
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(close((int)(intptr_t)fd), 0);
    return NULL;
}

TEST(a_poll_without_events_is_told_of_the_hang_up)
{
    int p[2];
    struct pollfd fd;

    make_pipe(p);
    put(p[1]); /* data is not what it asks for */
    fd = (struct pollfd){.fd = p[0], .events = 0};
    CHECK_EQ(weald_go(close_later, FD(p[1])), 0);
    CHECK_EQ(weald_poll(&fd, 1, weald_after(WEALD_SEC(5))), 1);
    CHECK_EQ(fd.revents, POLLHUP);
}

/* A connected pair over TCP, which has urgent data. */
static void tcp_pair(int s[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int server = socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(bind(server, (struct sockaddr *)&at, sizeof at), 0);
    CHECK_EQ(listen(server, 1), 0);
    CHECK_EQ(getsockname(server, (struct sockaddr *)&at, &len), 0);
    s[1] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(s[1], (struct sockaddr *)&at, sizeof at), 0);
    s[0] = accept(server, NULL, NULL);
    CHECK_GE(s[0], 0);
    CHECK_EQ(close(server), 0);
}

static void *send_urgent_later(void *fd)
{
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(send((int)(intptr_t)fd, "!", 1, MSG_OOB), 1);
    return NULL;
}

TEST(poll_waits_for_urgent_data)
{
    int s[2];
    int64_t began = test_clock();
    struct pollfd fd;

    tcp_pair(s);
    fd = (struct pollfd){.fd = s[0], .events = POLLPRI};
    CHECK_EQ(weald_go(send_urgent_later, FD(s[1])), 0);
    CHECK_EQ(weald_poll(&fd, 1, weald_after(WEALD_SEC(5))), 1);
    CHECK_EQ(fd.revents, POLLPRI);
    CHECK_LT(test_clock() - began, WEALD_SEC(4)); /* not at the deadline */
}

TEST(select_waits_for_exceptions)
{
    int s[2];
    int64_t began = test_clock();
    fd_set except;

    tcp_pair(s);
    FD_ZERO(&except);
    FD_SET(s[0], &except);
    CHECK_EQ(weald_go(send_urgent_later, FD(s[1])), 0);
    CHECK_EQ(weald_select(s[0] + 1, NULL, NULL, &except, weald_after(WEALD_SEC(5))), 1);
    CHECK(FD_ISSET(s[0], &except));
    CHECK_LT(test_clock() - began, WEALD_SEC(4)); /* not at the deadline */
}

static void *poll_for_urgent(void *fd_as_pointer)
{
    struct pollfd fd = {.fd = (int)(intptr_t)fd_as_pointer, .events = POLLPRI};
    return (void *)(intptr_t)weald_poll(&fd, 1, WEALD_FOREVER);
}

TEST(waiting_for_urgent_data_while_there_is_other_does_not_keep_the_loop_busy)
{
    int s[2];
    weald_greenlet g;

    tcp_pair(s);
    put(s[1]);
    g = spawned(poll_for_urgent, FD(s[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_LE(turns_while_asleep(), 100);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(g), WEALD_ECANCELED);
}

/* ---- select ---- */

TEST(select_leaves_in_the_sets_what_is_ready_and_counts_bits)
{
    int s[2], p[2];
    fd_set reading, writing, except;

    make_pair(s);
    make_pipe(p);
    put(s[1]);
    FD_ZERO(&reading);
    FD_ZERO(&writing);
    FD_ZERO(&except);
    FD_SET(s[0], &reading);
    FD_SET(s[0], &writing);
    FD_SET(s[0], &except);
    FD_SET(p[0], &reading);
    CHECK_EQ(weald_select(FD_SETSIZE, &reading, &writing, &except, WEALD_FOREVER), 2);
    CHECK(FD_ISSET(s[0], &reading));
    CHECK(FD_ISSET(s[0], &writing));
    CHECK(!FD_ISSET(s[0], &except));
    CHECK(!FD_ISSET(p[0], &reading));
}

TEST(select_looks_at_descriptors_below_nfds_alone)
{
    int p[2];
    fd_set reading;

    make_pipe(p);
    put(p[1]);
    FD_ZERO(&reading);
    FD_SET(p[0], &reading);
    CHECK_EQ(weald_select(p[0], &reading, NULL, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_select(0, NULL, NULL, NULL, WEALD_NOW), 0);
}

TEST(a_select_that_runs_out_of_time_empties_the_sets)
{
    int p[2];
    int64_t began = test_clock();
    fd_set reading;

    make_pipe(p);
    FD_ZERO(&reading);
    FD_SET(p[0], &reading);
    CHECK_EQ(weald_select(p[0] + 1, &reading, NULL, NULL, weald_after(WEALD_MS(5))), 0);
    CHECK_GE(test_clock() - began, WEALD_MS(5));
    CHECK(!FD_ISSET(p[0], &reading));
}

TEST(select_parks_until_one_is_ready)
{
    int p[2], q[2];
    fd_set reading;

    make_pipe(p);
    make_pipe(q);
    FD_ZERO(&reading);
    FD_SET(p[0], &reading);
    FD_SET(q[0], &reading);
    CHECK_EQ(weald_go(put_later, FD(q[1])), 0);
    CHECK_EQ(weald_select(q[0] + 1, &reading, NULL, NULL, WEALD_FOREVER), 1);
    CHECK(!FD_ISSET(p[0], &reading));
    CHECK(FD_ISSET(q[0], &reading));
}

TEST(select_checks_its_arguments_and_leaves_the_sets_alone)
{
    fd_set reading;

    FD_ZERO(&reading);
    FD_SET(1000, &reading);
    CHECK_EQ(weald_select(-1, &reading, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_select(FD_SETSIZE + 1, &reading, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_select(1001, &reading, NULL, NULL, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_select(1001, &reading, NULL, NULL, WEALD_NOW), WEALD_EBADF);
    CHECK(FD_ISSET(1000, &reading));
}

/* ---- many ---- */

enum { PAIRS = 200, BYTES = 50 };
static int pairs[PAIRS][2];

static void *echo(void *arg)
{
    int fd = pairs[(intptr_t)arg][1];
    char c;

    for (int i = 0; i < BYTES; i++) {
        CHECK_EQ(weald_wait_read(fd, WEALD_FOREVER), 0);
        CHECK_EQ(read(fd, &c, 1), 1);
        CHECK_EQ(write(fd, &c, 1), 1);
    }
    return NULL;
}

static void *talk(void *arg)
{
    int fd = pairs[(intptr_t)arg][0];

    for (int i = 0; i < BYTES; i++) {
        char sent = (char)i, got;
        CHECK_EQ(write(fd, &sent, 1), 1);
        CHECK_EQ(weald_wait_read(fd, WEALD_FOREVER), 0);
        CHECK_EQ(read(fd, &got, 1), 1);
        CHECK_EQ(got, sent);
    }
    return NULL;
}

TEST(four_hundred_greenlets_talk_over_two_hundred_pairs)
{
    static weald_greenlet gs[2 * PAIRS];
    struct rlimit limit = {2048, 2048};

    setrlimit(RLIMIT_NOFILE, &limit);
    for (intptr_t i = 0; i < PAIRS; i++) {
        make_pair(pairs[i]);
        gs[2 * i] = spawned(echo, (void *)i);
        gs[2 * i + 1] = spawned(talk, (void *)i);
    }
    CHECK_EQ(weald_joinall(gs, 2 * PAIRS, 0, 0, WEALD_FOREVER), 2 * PAIRS);
    for (int i = 0; i < 2 * PAIRS; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

/* ---- a kernel before 5.11 ---- */

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

/* From now on the kernel does not know epoll_pwait2(2). */
static void forget_epoll_pwait2(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        SKIP("no seccomp here");
}

TEST(on_an_older_kernel_a_wait_says_the_same)
{
    int p[2], q[2], s[2];

    forget_epoll_pwait2();
    make_pair(s);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ | WEALD_WRITE, WEALD_FOREVER), WEALD_WRITE);
    put(s[1]);
    CHECK_EQ(weald_wait_fd(s[0], WEALD_READ | WEALD_WRITE, WEALD_FOREVER), WEALD_READ | WEALD_WRITE);
    make_pipe(p);
    CHECK_EQ(weald_wait_fd(p[0], WEALD_READ, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_EQ(close(p[1]), 0);
    CHECK_EQ(weald_wait_fd(p[0], WEALD_READ, WEALD_FOREVER), WEALD_READ | WEALD_HUP);
    make_pipe(q);
    CHECK_EQ(close(q[0]), 0);
    CHECK_EQ(weald_wait_fd(q[1], WEALD_WRITE, WEALD_FOREVER), WEALD_WRITE | WEALD_ERROR);
}

TEST(on_an_older_kernel_urgent_data_is_waited_for)
{
    int s[2];
    int64_t began = test_clock();
    struct pollfd fd;

    forget_epoll_pwait2();
    tcp_pair(s);
    fd = (struct pollfd){.fd = s[0], .events = POLLPRI};
    CHECK_EQ(weald_go(send_urgent_later, FD(s[1])), 0);
    CHECK_EQ(weald_poll(&fd, 1, weald_after(WEALD_SEC(5))), 1);
    CHECK_EQ(fd.revents, POLLPRI);
    CHECK_LT(test_clock() - began, WEALD_SEC(4)); /* not at the deadline */
}

TEST(on_an_older_kernel_sleeps_are_not_shorter_and_do_not_spin)
{
    int64_t began, took, least = INT64_MAX;

    forget_epoll_pwait2();
    for (int i = 0; i < 20; i++) {
        began = test_clock();
        CHECK_EQ(weald_sleep(WEALD_US(300)), 0);
        took = test_clock() - began;
        CHECK_GE(took, WEALD_US(300));
        least = took < least ? took : least;
    }
    CHECK_LE(turns_while_asleep(), 100);
    if (!*test_under())
        CHECK_LT(least, WEALD_MS(1)); /* which is what the older call would make of each */
}
