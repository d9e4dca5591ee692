/* The codes of every call that reads, writes, connects or accepts. */
#include "errors.h"
#include "starve.h"
#include "transfers.h"

static const struct transfer *current;
static int64_t for_ever(void) { return current->call(WEALD_FOREVER); }

/* One after the other, each with fresh descriptors. */
#define FOR_EACH_TRANSFER                                                                                              \
    for (current = transfers; current < transfers + TRANSFERS && (transfers_prepare(), 1);                             \
         transfers_release(), current++)

TEST(a_call_that_is_not_to_wait_says_so)
{
    FOR_EACH_TRANSFER TRANSFER_CHECK(current, current->call(WEALD_NOW), current->now);
}

TEST(a_call_ends_at_its_deadline_and_not_before)
{
    FOR_EACH_TRANSFER
    {
        int64_t began = test_clock();
        TRANSFER_CHECK(current, current->call(weald_after(WEALD_MS(3))), WEALD_ETIMEDOUT);
        CHECK_GE(test_clock() - began, WEALD_MS(3));
    }
}

TEST(a_call_ends_at_the_deadline_of_a_surrounding_timeout)
{
    FOR_EACH_TRANSFER TRANSFER_CHECK(current, in_a_timeout(for_ever), WEALD_ETIMEDOUT);
}

TEST(a_call_of_a_killed_greenlet_is_cancelled)
{
    FOR_EACH_TRANSFER TRANSFER_CHECK(current, when_killed(for_ever), WEALD_ECANCELED);
}

TEST(a_call_in_a_callback_does_not_wait)
{
    FOR_EACH_TRANSFER TRANSFER_CHECK(current, in_a_callback(for_ever), WEALD_EWOULDBLOCK);
}

TEST(a_call_does_not_wait_when_a_hook_forbids_it)
{
    FOR_EACH_TRANSFER TRANSFER_CHECK(current, when_forbidden(for_ever), WEALD_EPERM);
}

static void *wait_for_the_same(void *unused)
{
    weald_wait_fd(*current->fd, current->events, WEALD_FOREVER);
    return unused;
}

TEST(a_second_greenlet_that_waits_for_the_same_is_busy)
{
    FOR_EACH_TRANSFER
    {
        weald_greenlet g = weald_spawn(wait_for_the_same, NULL);
        CHECK_GT(g, 0);
        if (current->call == t_connect) /* what has begun can be waited for */
            CHECK_EQ(current->call(WEALD_NOW), WEALD_EINPROGRESS);
        CHECK_EQ(weald_yield(), 0);
        if (current->call == t_connect)
            TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_EALREADY);
        else
            TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_EBUSY);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(g), 0);
    }
}

static void *close_it(void *unused)
{
    CHECK_EQ(weald_close_fd(*current->fd), 1); /* somebody waits */
    return unused;
}

TEST(a_call_whose_descriptor_is_closed_meanwhile_is_told_once)
{
    FOR_EACH_TRANSFER
    {
        CHECK_EQ(weald_go(close_it, NULL), 0);
        TRANSFER_CHECK(current, current->call(weald_after(WEALD_SEC(10))), WEALD_EBADF);
    }
}

TEST(a_call_on_a_closed_number_is_refused)
{
    FOR_EACH_TRANSFER
    {
        CHECK_EQ(close(*current->fd), 0);
        TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_EBADF);
        TRANSFER_CHECK(current, current->call(WEALD_NOW), WEALD_EBADF);
    }
}

TEST(no_call_waits_without_memory)
{
    transfers_prepare();
    starve();
    for EACH_TRANSFER (t)
        if (t->call != t_connect)
            TRANSFER_CHECK(t, t->call(soon()), WEALD_ENOMEM);
    TRANSFER_CHECK(&transfers[TRANSFERS - 1], t_connect(soon()), WEALD_ENOMEM);
    feed();
}

static void let_it_end(weald_watcher w, int what, void *user)
{
    (void)w, (void)what, (void)user;
    current->let_it_end();
}

static void deadlock_of(int which)
{
    weald_watcher later;

    current = &transfers[which];
    /* Others want room in the backlog as well, and may be sooner. */
    later = weald_timer_watcher(WEALD_MS(50), current->call == t_connect ? WEALD_MS(20) : 0, let_it_end, NULL);
    transfers_prepare();
    CHECK_GT(later, 0);
    CHECK_EQ(weald_watcher_start(later), 0);
    TRANSFER_CHECK(current, in_a_forked_child(for_ever), WEALD_EDEADLK);
}

/* A process each: in the child of one there is no going on. */
#define DEADLOCK(n) \
    TEST(call_number_##n##_of_main_is_a_deadlock_in_a_child_that_a_callback_forks) { deadlock_of(n); }
DEADLOCK(0)
DEADLOCK(1)
DEADLOCK(2)
DEADLOCK(3)
DEADLOCK(4)
DEADLOCK(5)
DEADLOCK(6)
DEADLOCK(7)
DEADLOCK(8)
DEADLOCK(9)
DEADLOCK(10)
DEADLOCK(11)
DEADLOCK(12)
DEADLOCK(13)
DEADLOCK(14)
DEADLOCK(15)

TEST(every_call_is_in_the_list_of_deadlocks) { CHECK_EQ(TRANSFERS, 16); }

/* ---- arguments ---- */

TEST(null_is_refused_where_bytes_should_be)
{
    struct iovec null = {NULL, 1};

    transfers_prepare();
    CHECK_EQ(weald_read(quiet[0], NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_write(quiet[0], NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_readv(quiet[0], NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_writev(quiet[0], NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_readv(quiet[0], &null, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_writev(quiet[0], &null, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_read_exact(quiet[0], NULL, 1, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_write_all(quiet[0], NULL, 1, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_pread(file, NULL, 1, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_pwrite(file, NULL, 1, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_recv(quiet[0], NULL, 1, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_send(quiet[0], NULL, 1, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_recvfrom(quiet[0], NULL, 1, 0, NULL, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_recvfrom(quiet[0], BYTES, 0, (struct sockaddr *)&lonely_at, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_sendto(quiet[0], NULL, 1, 0, NULL, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_sendto(quiet[0], BYTES, 0, (struct sockaddr *)&lonely_at, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_recvmsg(quiet[0], NULL, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_sendmsg(quiet[0], NULL, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_accept(lonely, (struct sockaddr *)&lonely_at, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_connect(dialling, NULL, 16, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_bind(dialling, NULL, 16), WEALD_EINVAL);
    CHECK_EQ(weald_bind(dialling, (struct sockaddr *)&lonely_at, 1000), WEALD_EINVAL);
    CHECK_EQ(weald_pipe(NULL), WEALD_EINVAL);
    CHECK_EQ(weald_socketpair(AF_UNIX, SOCK_STREAM, 0, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_get_option(lonely, WEALD_OPTION_TYPE, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_local_address(lonely, NULL, &lonely_len), WEALD_EINVAL);
    CHECK_EQ(weald_local_address(lonely, (struct sockaddr *)&lonely_at, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_peer_address(lonely, NULL, &lonely_len), WEALD_EINVAL);
    CHECK_EQ(weald_peer_address(lonely, (struct sockaddr *)&lonely_at, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_read(quiet[0], NULL, 0, WEALD_NOW), WEALD_EAGAIN); /* nothing needs no buffer */
}

TEST(numbers_out_of_range_are_refused)
{
    static struct iovec many[1025];
    int64_t negative = -1;

    transfers_prepare();
    CHECK_EQ(weald_readv(quiet[0], many, 1025, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_writev(quiet[0], many, 1025, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_pread(file, BYTES, -1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_pwrite(file, BYTES, -1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_sendfile(quiet[0], file, &negative, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_sendfile(quiet[0], full[0], NULL, 1, WEALD_NOW), WEALD_EINVAL); /* neither file nor pipe */
    CHECK_EQ(weald_splice(file, &negative, hollow[1], NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_splice(hollow[0], NULL, file, &negative, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_splice(file, NULL, quiet[0], NULL, 1, WEALD_NOW), WEALD_EINVAL); /* no pipe */
    CHECK_EQ(weald_shutdown(quiet[0], 77), WEALD_EINVAL);
    CHECK_EQ(weald_socket(AF_UNIX, 77, 0), WEALD_EINVAL);
    CHECK_EQ(weald_socketpair(AF_UNIX, 77, 0, quiet), WEALD_EINVAL);
    CHECK_EQ(weald_set_option(lonely, 0, 1), WEALD_EINVAL);
    CHECK_EQ(weald_set_option(lonely, WEALD_OPTION_ERROR, 1), WEALD_EINVAL);
    CHECK_EQ(weald_set_option(lonely, WEALD_OPTION_KEEPIDLE, -1), WEALD_EINVAL);
    CHECK_EQ(weald_get_option(lonely, 1000, quiet), WEALD_EINVAL);
}

TEST(a_place_is_for_files_alone)
{
    int64_t at = 0;

    transfers_prepare();
    CHECK_EQ(weald_pread(hollow[0], BYTES, 0, WEALD_FOREVER), WEALD_ESPIPE);
    CHECK_EQ(weald_pwrite(hollow[1], BYTES, 0, WEALD_FOREVER), WEALD_ESPIPE);
    CHECK_EQ(weald_splice(hollow[0], &at, quiet[0], NULL, 1, WEALD_NOW), WEALD_ESPIPE);
    CHECK_EQ(weald_sendfile(quiet[0], quiet[1], &at, 1, WEALD_NOW), WEALD_ESPIPE);
    CHECK_EQ(weald_pread(-1, BYTES, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_pwrite(-1, BYTES, 0, WEALD_FOREVER), WEALD_EBADF);
}

/* ---- what is no socket, or not the right one ---- */

TEST(what_is_no_socket_is_told)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    int value;

    transfers_prepare();
    CHECK_EQ(weald_bind(file, (struct sockaddr *)&lonely_at, lonely_len), WEALD_ENOTSOCK);
    CHECK_EQ(weald_listen(file, 1), WEALD_ENOTSOCK);
    CHECK_EQ(weald_connect(file, (struct sockaddr *)&lonely_at, lonely_len, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_accept(file, NULL, NULL, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_recv(file, BYTES, 0, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_send(file, BYTES, 0, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_recvfrom(file, BYTES, 0, NULL, NULL, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_sendto(file, BYTES, 0, NULL, 0, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_recvmsg(file, &transfers_message, 0, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_sendmsg(file, &transfers_message, 0, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_shutdown(file, SHUT_WR), WEALD_ENOTSOCK);
    CHECK_EQ(weald_set_option(file, WEALD_OPTION_KEEPALIVE, 1), WEALD_ENOTSOCK);
    CHECK_EQ(weald_get_option(file, WEALD_OPTION_KEEPALIVE, &value), WEALD_ENOTSOCK);
    CHECK_EQ(weald_local_address(file, (struct sockaddr *)&at, &len), WEALD_ENOTSOCK);
    CHECK_EQ(weald_peer_address(file, (struct sockaddr *)&at, &len), WEALD_ENOTSOCK);
}

TEST(a_closed_number_is_no_socket)
{
    struct sockaddr_storage at = {.ss_family = AF_INET};
    socklen_t len = sizeof at;
    int value;

    CHECK_EQ(weald_bind(-1, (struct sockaddr *)&at, len), WEALD_EBADF);
    CHECK_EQ(weald_listen(-1, 1), WEALD_EBADF);
    CHECK_EQ(weald_shutdown(-1, SHUT_WR), WEALD_EBADF);
    CHECK_EQ(weald_set_option(-1, WEALD_OPTION_KEEPALIVE, 1), WEALD_EBADF);
    CHECK_EQ(weald_get_option(-1, WEALD_OPTION_KEEPALIVE, &value), WEALD_EBADF);
    CHECK_EQ(weald_local_address(-1, (struct sockaddr *)&at, &len), WEALD_EBADF);
    CHECK_EQ(weald_peer_address(-1, (struct sockaddr *)&at, &len), WEALD_EBADF);
    CHECK_EQ(weald_close_fd(-1), WEALD_EBADF);
    CHECK_EQ(weald_close_fd(9999), WEALD_EBADF);
}

TEST(sockets_of_the_wrong_kind_are_told)
{
    struct sockaddr_storage at, v6;
    socklen_t len;
    int udp, tcp, ends[2], value, v6_len = weald_address_parse("[::1]:9", &v6);

    udp = bound(SOCK_DGRAM, &at, &len);
    tcp = weald_socket(AF_INET, SOCK_STREAM, 0);
    unix_pair(ends);
    CHECK_EQ(weald_listen(udp, 1), WEALD_EOPNOTSUPP);
    CHECK_EQ(weald_accept(udp, NULL, NULL, WEALD_FOREVER), WEALD_EOPNOTSUPP);
    CHECK_EQ(weald_accept(tcp, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL); /* it does not listen */
    CHECK_EQ(weald_bind(udp, (struct sockaddr *)&at, len), WEALD_EINVAL); /* it has an address already */
    CHECK_EQ(weald_connect(tcp, (struct sockaddr *)&v6, (socklen_t)v6_len, WEALD_FOREVER), WEALD_EAFNOSUPPORT);
    CHECK_EQ(weald_recv(tcp, BYTES, 0, WEALD_FOREVER), WEALD_ENOTCONN);
    CHECK_EQ(weald_recvfrom(tcp, BYTES, 0, NULL, NULL, WEALD_FOREVER), WEALD_ENOTCONN);
    CHECK_EQ(weald_recvmsg(tcp, &transfers_message, 0, WEALD_FOREVER), WEALD_ENOTCONN);
    CHECK_EQ(weald_shutdown(tcp, SHUT_WR), WEALD_ENOTCONN);
    len = sizeof at;
    CHECK_EQ(weald_peer_address(tcp, (struct sockaddr *)&at, &len), WEALD_ENOTCONN);
    CHECK_EQ(weald_socket(1000, SOCK_STREAM, 0), WEALD_EAFNOSUPPORT);
    CHECK_EQ(weald_socketpair(1000, SOCK_STREAM, 0, ends), WEALD_EAFNOSUPPORT);
    CHECK_EQ(weald_socketpair(AF_INET, SOCK_STREAM, 0, ends), WEALD_EOPNOTSUPP);
    CHECK_EQ(weald_set_option(ends[0], WEALD_OPTION_NODELAY, 1), WEALD_EOPNOTSUPP);
    CHECK_EQ(weald_get_option(ends[0], WEALD_OPTION_NODELAY, &value), WEALD_EOPNOTSUPP);
    CHECK_EQ(weald_set_option(tcp, WEALD_OPTION_V6ONLY, 1), WEALD_ENOPROTOOPT);
    CHECK_EQ(weald_get_option(ends[0], WEALD_OPTION_V6ONLY, &value), WEALD_EOPNOTSUPP);
}

TEST(addresses_that_can_not_be_had_are_told)
{
    struct sockaddr_storage at, far;
    socklen_t len;
    int taken = bound(SOCK_STREAM, &at, &len), other = weald_socket(AF_INET, SOCK_STREAM, 0);
    int far_len = weald_address_parse("192.0.2.1:80", &far);

    CHECK_EQ(weald_connect(other, (struct sockaddr *)&at, len, WEALD_FOREVER), WEALD_ECONNREFUSED);
    CHECK_EQ(weald_close_fd(other), 0);
    other = weald_socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(weald_listen(taken, 1), 0);
    CHECK_EQ(weald_bind(other, (struct sockaddr *)&at, len), WEALD_EADDRINUSE);
    CHECK_EQ(weald_bind(other, (struct sockaddr *)&far, (socklen_t)far_len), WEALD_EADDRNOTAVAIL);
    CHECK_EQ(weald_connect(other, (struct sockaddr *)&at, len, WEALD_FOREVER), 0);
    CHECK_EQ(weald_connect(other, (struct sockaddr *)&at, len, WEALD_FOREVER), WEALD_EISCONN);
}

TEST(a_listener_without_room_makes_a_call_that_may_not_wait_try_again)
{
    struct sockaddr_storage at;
    int len = weald_address_parse("unix:@weald-full", &at), server = weald_socket(AF_UNIX, SOCK_STREAM, 0), code = 0;

    CHECK_EQ(weald_bind(server, (struct sockaddr *)&at, (socklen_t)len), 0);
    CHECK_EQ(weald_listen(server, 0), 0);
    while (code == 0)
        code = weald_connect(weald_socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&at, (socklen_t)len, WEALD_NOW);
    CHECK_EQ(code, WEALD_EAGAIN);
    CHECK_EQ(weald_listen(weald_socket(AF_UNIX, SOCK_STREAM, 0), 1), WEALD_EINVAL); /* it has no address */
}

TEST(two_can_not_listen_at_one_address)
{
    struct sockaddr_storage at;
    socklen_t len;
    int one = bound(SOCK_STREAM, &at, &len), two = weald_socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(weald_close_fd(one), 0);
    one = weald_socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(weald_set_option(one, WEALD_OPTION_REUSEADDR, 1), 0);
    CHECK_EQ(weald_set_option(two, WEALD_OPTION_REUSEADDR, 1), 0);
    CHECK_EQ(weald_bind(one, (struct sockaddr *)&at, len), 0);
    CHECK_EQ(weald_bind(two, (struct sockaddr *)&at, len), 0);
    CHECK_EQ(weald_listen(one, 1), 0);
    CHECK_EQ(weald_listen(two, 1), WEALD_EADDRINUSE);
}

TEST(addresses_that_are_none_are_refused)
{
    struct sockaddr_storage at;
    char text[8];

    CHECK_EQ(weald_address_parse("localhost:80", &at), WEALD_EINVAL);
    CHECK_EQ(weald_address_parse(NULL, &at), WEALD_EINVAL);
    CHECK_EQ(weald_address_parse("1.2.3.4:5", NULL), WEALD_EINVAL);
    CHECK_EQ(weald_address_text(NULL, 16, text, sizeof text), WEALD_EINVAL);
    CHECK_EQ(weald_address_text((struct sockaddr *)&at, 1, text, sizeof text), WEALD_EINVAL);
    CHECK_EQ(weald_address_text((struct sockaddr *)&at, sizeof at, NULL, 1), WEALD_EINVAL);
}

TEST(there_is_an_end_of_descriptors)
{
    struct rlimit few = {40, 40};
    int ends[2];

    transfers_prepare();
    give_connection();
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(0) >= 0)
        ;
    CHECK_EQ(weald_socket(AF_INET, SOCK_STREAM, 0), WEALD_EMFILE);
    CHECK_EQ(weald_socketpair(AF_UNIX, SOCK_STREAM, 0, ends), WEALD_EMFILE);
    CHECK_EQ(weald_pipe(ends), WEALD_EMFILE);
    CHECK_EQ(weald_accept(lonely, NULL, NULL, WEALD_FOREVER), WEALD_EMFILE);
    CHECK_EQ(weald_close_fd(39), 0);
    CHECK_EQ(weald_accept(lonely, NULL, NULL, WEALD_FOREVER), 39); /* it has waited */
}

/* ---- broken connections ---- */

static void reset(int fd)
{
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_LINGER, 0), 0);
    CHECK_EQ(weald_close_fd(fd), 0);
}

static int broken(void)
{
    int ends[2];
    tcp_pair(ends);
    reset(ends[1]);
    CHECK_EQ(weald_wait_read(ends[0], WEALD_FOREVER), 0);
    return ends[0];
}

TEST(a_reset_connection_says_so_to_every_call)
{
    int text = file_of("text");

    CHECK_EQ(weald_read(broken(), BYTES, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_readv(broken(), &transfers_iov, 1, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_read_exact(broken(), BYTES, NULL, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_recv(broken(), BYTES, 0, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_write(broken(), BYTES, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_writev(broken(), &transfers_iov, 1, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_write_all(broken(), BYTES, NULL, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_send(broken(), BYTES, 0, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_sendfile(broken(), text, NULL, 4, WEALD_FOREVER), WEALD_ECONNRESET);
}

static int unread(void)
{
    int ends[2];
    unix_pair(ends);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
    return ends[0];
}

/* SIGPIPE would end the process. */
TEST(writing_what_nobody_reads_is_epipe_and_no_signal)
{
    int p[2], text = file_of("text");

    CHECK_EQ(weald_write(unread(), BYTES, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_writev(unread(), &transfers_iov, 1, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_write_all(unread(), BYTES, NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_send(unread(), BYTES, 0, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_sendto(unread(), BYTES, 0, NULL, 0, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_sendmsg(unread(), &transfers_message, 0, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_sendfile(unread(), text, NULL, 4, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_pipe(p), 0);
    CHECK_EQ(weald_write(p[1], "x", 1, WEALD_FOREVER), 1);
    CHECK_EQ(weald_splice(p[0], NULL, unread(), NULL, 1, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close_fd(p[0]), 0);
    CHECK_EQ(weald_write(p[1], "x", 1, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_write_all(p[1], "x", 1, NULL, WEALD_NOW), WEALD_EPIPE);
}

TEST(the_end_before_all_was_read_is_epipe)
{
    int ends[2];
    size_t done = 99;

    unix_pair(ends);
    CHECK_EQ(weald_write(ends[1], "abc", 3, WEALD_FOREVER), 3);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
    CHECK_EQ(weald_read_exact(ends[0], BYTES, &done, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(done, 3);
    CHECK_EQ(memcmp(transfers_bytes, "abc", 3), 0);
}

TEST(a_datagram_may_be_too_long)
{
    static char long_one[70000];
    struct iovec iov = {long_one, sizeof long_one};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct sockaddr_storage at;
    socklen_t len;
    int udp = bound(SOCK_DGRAM, &at, &len);

    CHECK_EQ(weald_connect(udp, (struct sockaddr *)&at, len, WEALD_FOREVER), 0);
    CHECK_EQ(weald_send(udp, long_one, sizeof long_one, 0, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_sendto(udp, long_one, sizeof long_one, 0, NULL, 0, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_sendmsg(udp, &message, 0, WEALD_FOREVER), WEALD_EMSGSIZE);
}

TEST(a_refused_datagram_is_told_by_the_next_call)
{
    struct sockaddr_storage at;
    socklen_t len;
    int gone = bound(SOCK_DGRAM, &at, &len), udp = weald_socket(AF_INET, SOCK_DGRAM, 0);

    CHECK_EQ(weald_close_fd(gone), 0);
    CHECK_EQ(weald_connect(udp, (struct sockaddr *)&at, len, WEALD_FOREVER), 0);
    CHECK_EQ(weald_send(udp, "x", 1, 0, WEALD_FOREVER), 1);
    CHECK_EQ(weald_recvfrom(udp, BYTES, 0, NULL, NULL, WEALD_FOREVER), WEALD_ECONNREFUSED);
    CHECK_EQ(weald_send(udp, "x", 1, 0, WEALD_FOREVER), 1);
    CHECK_EQ(weald_wait_read(udp, WEALD_FOREVER), 0);
    CHECK_EQ(weald_sendto(udp, "x", 1, 0, NULL, 0, WEALD_FOREVER), WEALD_ECONNREFUSED);
}

/* ---- calls with a place in a file, which wait for a thread ---- */

static int only_by_thread; /* nothing of it is ever in memory, for the kernel to give at once */
static int64_t p_read(void) { return weald_pread(only_by_thread, BYTES, 0, WEALD_FOREVER); }
static int64_t p_write(void) { return weald_pwrite(only_by_thread, "0", 1, 0, WEALD_FOREVER); }

/* The thread may be faster than the kill, but not always. */
static void killed_in_time(errors_call call)
{
    struct errors_wait wait = {call, 0, 0};

    while (wait.code != WEALD_ECANCELED) {
        weald_greenlet g = weald_spawn(errors_make, &wait);

        CHECK_GT(g, 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(g), 0);
    }
}

TEST(calls_with_a_place_tell_why_they_did_not_wait_for_a_thread)
{
    only_by_thread = open("/proc/self/oom_score_adj", O_RDWR);
    if (only_by_thread < 0)
        SKIP("no such file here");
    if (weald_pwrite(only_by_thread, "0", 1, 0, WEALD_FOREVER) < 0)
        SKIP("it can not be written here");
    CHECK_EQ(in_a_callback(p_read), WEALD_EWOULDBLOCK);
    CHECK_EQ(in_a_callback(p_write), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(p_read), WEALD_EPERM);
    CHECK_EQ(when_forbidden(p_write), WEALD_EPERM);
    CHECK_EQ(weald_pread(only_by_thread, BYTES, 0, -2), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_pwrite(only_by_thread, "0", 1, 0, -2), WEALD_ETIMEDOUT);
    killed_in_time(p_read);
    killed_in_time(p_write);
}

static void *wait_to_dial(void *unused)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0); /* the connection is in the making */
    CHECK_EQ(weald_wait_fd(dialling, WEALD_WRITE, weald_after(WEALD_MS(50))), WEALD_EBUSY);
    return unused;
}

static void *dial(void *unused)
{
    CHECK_EQ(t_connect(weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    return unused;
}

TEST(who_connects_is_alone_with_the_socket)
{
    weald_greenlet one, two;

    transfers_prepare();
    CHECK_GT(one = weald_spawn(dial, NULL), 0);
    CHECK_GT(two = weald_spawn(wait_to_dial, NULL), 0);
    CHECK_EQ(weald_join(one, WEALD_FOREVER), 0);
    CHECK_EQ(weald_join(two, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(one), 0);
    CHECK_EQ(weald_close(two), 0);
}
