/* Sockets. */
#include "greenlets.h"
#include "transfers.h"
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

#define FD(n) ((void *)(intptr_t)(n))
#define NUMBER(p) ((int)(intptr_t)(p))
#define ADDRESS(at) ((struct sockaddr *)(at))

/* ---- addresses ---- */

TEST(an_address_comes_back_as_it_was_written)
{
    static const char *texts[] = {"127.0.0.1:80", "[::1]:65535", "unix:/tmp/x", "unix:@name", "unix:"};
    struct sockaddr_storage at;
    char text[112];

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int len = weald_address_parse(texts[i], &at);
        CHECK_GT(len, 0);
        CHECK_EQ(weald_address_text(ADDRESS(&at), (socklen_t)len, text, sizeof text), (int)strlen(texts[i]));
        CHECK_STR(text, texts[i]);
    }
    CHECK_EQ(weald_address_text(ADDRESS(&at), 2, text, 4), 5); /* "unix:", cut */
    CHECK_STR(text, "uni");
    CHECK_EQ(weald_address_text(ADDRESS(&at), 2, NULL, 0), 5);
}

TEST(the_scope_of_an_address_may_be_an_interfaces_name)
{
    struct sockaddr_storage by_name, by_number;
    char text[112];

    snprintf(text, sizeof text, "[fe80::1%%%u]:80", if_nametoindex("lo"));
    CHECK_GT(weald_address_parse(text, &by_number), 0);
    CHECK_EQ(weald_address_parse("[fe80::1%lo]:80", &by_name), (int)sizeof(struct sockaddr_in6));
    CHECK_EQ(memcmp(&by_name, &by_number, sizeof(struct sockaddr_in6)), 0);
    CHECK_EQ(weald_address_parse("[fe80::1%no-such-thing]:80", &by_name), WEALD_EINVAL);
    CHECK_EQ(weald_address_parse("[fe80::1%]:80", &by_name), WEALD_EINVAL);
    CHECK_EQ(weald_address_parse("127.0.0.1%lo:80", &by_name), WEALD_EINVAL);
    CHECK_EQ(weald_address_parse("[fe80::1%lo", &by_name), WEALD_EINVAL);
}

/* ---- echo over everything ---- */

static void *echo_until_end(void *fd)
{
    char bytes[256];
    int64_t n;

    while ((n = weald_read(NUMBER(fd), bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        CHECK_EQ(weald_write_all(NUMBER(fd), bytes, (size_t)n, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(n, 0);
    CHECK_EQ(weald_close_fd(NUMBER(fd)), 0);
    return NULL;
}

static void *accept_and_echo(void *server)
{
    int fd = weald_accept(NUMBER(server), NULL, NULL, WEALD_FOREVER);
    CHECK_GE(fd, 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    return echo_until_end(FD(fd));
}

static void echo_at(const char *where, int domain, int type)
{
    struct sockaddr_storage at;
    socklen_t at_len = sizeof at;
    int len = weald_address_parse(where, &at), server = weald_socket(domain, type, 0), fd;
    char got[6] = "";
    weald_greenlet g;

    CHECK_GE(server, 0);
    CHECK_EQ(weald_bind(server, ADDRESS(&at), (socklen_t)len), 0);
    CHECK_EQ(weald_listen(server, 8), 0);
    CHECK_EQ(weald_local_address(server, ADDRESS(&at), &at_len), 0);
    g = spawned(accept_and_echo, FD(server));
    fd = weald_socket(domain, type, 0);
    CHECK_EQ(weald_connect(fd, ADDRESS(&at), at_len, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(weald_write_all(fd, "hello", 5, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_read_exact(fd, got, 5, NULL, WEALD_FOREVER), 0);
    CHECK_STR(got, "hello");
    CHECK_EQ(weald_shutdown(fd, SHUT_WR), 0); /* half: the rest still comes */
    CHECK_EQ(weald_read(fd, got, 1, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(weald_close_fd(fd), 0);
    CHECK_EQ(weald_close_fd(server), 0);
}

TEST(echo_over_tcp) { echo_at("127.0.0.1:0", AF_INET, SOCK_STREAM); }
TEST(echo_over_unix_streams) { echo_at("unix:@weald-echo", AF_UNIX, SOCK_STREAM); }
TEST(echo_over_unix_packets) { echo_at("unix:@weald-packets", AF_UNIX, SOCK_SEQPACKET); }

TEST(echo_over_tcp_in_ipv6)
{
    struct sockaddr_storage at;
    int len = weald_address_parse("[::1]:0", &at), probe = weald_socket(AF_INET6, SOCK_STREAM, 0);

    if (probe < 0 || weald_bind(probe, ADDRESS(&at), (socklen_t)len) != 0)
        SKIP("no IPv6 here");
    echo_at("[::1]:0", AF_INET6, SOCK_STREAM);
}

TEST(echo_over_a_path)
{
    char folder[] = "/tmp/weald-test-XXXXXX", text[64], path[64];

    CHECK(mkdtemp(folder) != NULL);
    snprintf(text, sizeof text, "unix:%s/socket", folder);
    snprintf(path, sizeof path, "%s/socket", folder);
    echo_at(text, AF_UNIX, SOCK_STREAM);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rmdir(folder), 0);
}

TEST(packets_keep_their_ends)
{
    int s[2];
    char bytes[16];

    CHECK_EQ(weald_socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
    CHECK_EQ(weald_write(s[0], "one", 3, WEALD_FOREVER), 3);
    CHECK_EQ(weald_write(s[0], "three", 5, WEALD_FOREVER), 5);
    CHECK_EQ(weald_read(s[1], bytes, sizeof bytes, WEALD_FOREVER), 3);
    CHECK_EQ(weald_read(s[1], bytes, 2, WEALD_FOREVER), 2); /* the rest is lost */
    CHECK_EQ(weald_read(s[1], bytes, sizeof bytes, WEALD_NOW), WEALD_EAGAIN);
}

/* ---- accept ---- */

TEST(accept_tells_who_it_is_from)
{
    struct sockaddr_storage at, from, own;
    socklen_t len, from_len = sizeof from, own_len = sizeof own, small = 4;
    int server = bound(SOCK_STREAM, &at, &len), fd, other;

    CHECK_EQ(weald_listen(server, 4), 0);
    fd = weald_socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(weald_connect(fd, ADDRESS(&at), len, WEALD_FOREVER), 0);
    CHECK_EQ(weald_local_address(fd, ADDRESS(&own), &own_len), 0);
    CHECK_GE(other = weald_accept(server, ADDRESS(&from), &from_len, WEALD_FOREVER), 0);
    CHECK_EQ(from_len, own_len);
    CHECK_EQ(memcmp(&from, &own, own_len), 0);
    CHECK_EQ(weald_peer_address(other, ADDRESS(&from), &small), 0);
    CHECK_EQ(small, own_len); /* more than there was room for */
    CHECK_EQ(weald_peer_address(fd, ADDRESS(&from), &from_len), 0);
    CHECK_EQ(memcmp(&from, &at, len), 0);
}

static void *accept_one(void *server)
{
    int fd = weald_accept(NUMBER(server), NULL, NULL, WEALD_FOREVER);
    if (fd >= 0)
        CHECK_EQ(weald_close_fd(fd), 0);
    return FD(fd < 0 ? fd : 0);
}

TEST(accept_on_a_blocking_listener_parks_its_greenlet_alone)
{
    struct sockaddr_storage at;
    socklen_t len;
    int server = bound(SOCK_STREAM, &at, &len), fd = weald_socket(AF_INET, SOCK_STREAM, 0);
    weald_greenlet g;

    CHECK_EQ(fcntl(server, F_SETFL, 0), 0);
    CHECK_EQ(weald_listen(server, 4), 0);
    CHECK_EQ(weald_accept(server, NULL, NULL, WEALD_NOW), WEALD_EAGAIN);
    g = spawned(accept_one, FD(server));
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    CHECK_EQ(fcntl(fd, F_SETFL, 0), 0); /* a blocking connect as well */
    CHECK_EQ(weald_connect(fd, ADDRESS(&at), len, WEALD_FOREVER), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(outcome(g), 0);
}

static void *connect_and_close(void *at)
{
    for (int i = 0; i < 200; i++) {
        int fd = weald_socket(AF_INET, SOCK_STREAM, 0);
        CHECK_EQ(weald_connect(fd, ADDRESS(at), sizeof(struct sockaddr_in), WEALD_FOREVER), 0);
        if (i % 2)
            CHECK_EQ(weald_set_option(fd, WEALD_OPTION_LINGER, 0), 0); /* a reset, perhaps before it is accepted */
        CHECK_EQ(weald_close_fd(fd), 0);
    }
    return NULL;
}

TEST(connections_that_break_before_they_are_accepted_disturb_nobody)
{
    struct sockaddr_storage at;
    socklen_t len;
    int server = bound(SOCK_STREAM, &at, &len), before;
    weald_greenlet g;

    CHECK_GT(weald_self(), 0); /* the hub has its descriptors */
    CHECK_EQ(weald_listen(server, 16), 0);
    before = test_fds();
    g = spawned(connect_and_close, &at);
    for (int i = 0; i < 200; i++) {
        int fd = weald_accept(server, NULL, NULL, weald_after(WEALD_SEC(10)));
        CHECK_GE(fd, 0);
        CHECK_EQ(weald_close_fd(fd), 0);
    }
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(test_fds(), before);
}

TEST(a_listener_that_is_closed_ends_its_accept)
{
    struct sockaddr_storage at;
    socklen_t len;
    int server = bound(SOCK_STREAM, &at, &len);
    weald_greenlet g;

    CHECK_EQ(weald_listen(server, 4), 0);
    g = spawned(accept_one, FD(server));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close_fd(server), 1);
    CHECK_EQ(outcome(g), WEALD_EBADF);
}

/* ---- connect ---- */

TEST(a_connection_begun_now_can_be_waited_for)
{
    struct sockaddr_storage at;
    socklen_t len;
    int server = bound(SOCK_STREAM, &at, &len), fd = weald_socket(AF_INET, SOCK_STREAM, 0), error = 1;

    CHECK_EQ(weald_listen(server, 4), 0);
    CHECK_EQ(weald_connect(fd, ADDRESS(&at), len, WEALD_NOW), WEALD_EINPROGRESS);
    CHECK_EQ(weald_wait_write(fd, WEALD_FOREVER), 0);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_ERROR, &error), 0);
    CHECK_EQ(error, 0);
    CHECK_EQ(weald_write(fd, "x", 1, WEALD_FOREVER), 1);
    CHECK_EQ(weald_close_fd(server), 0);
    fd = weald_socket(AF_INET, SOCK_STREAM, 0);
    error = weald_connect(fd, ADDRESS(&at), len, WEALD_NOW);
    if (error == WEALD_EINPROGRESS) {
        CHECK_EQ(weald_wait_write(fd, WEALD_FOREVER), 0);
        CHECK_EQ(weald_get_option(fd, WEALD_OPTION_ERROR, &error), 0);
    }
    CHECK_EQ(error, WEALD_ECONNREFUSED);
}

static void *accept_later(void *server)
{
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    for (int fd; (fd = weald_accept(NUMBER(server), NULL, NULL, WEALD_NOW)) >= 0;)
        CHECK_EQ(weald_close_fd(fd), 0);
    return NULL;
}

TEST(connect_waits_for_room_in_a_unix_backlog)
{
    struct sockaddr_storage at;
    int len = weald_address_parse("unix:@weald-crowd", &at), server = weald_socket(AF_UNIX, SOCK_STREAM, 0), fd;
    weald_greenlet g;

    CHECK_EQ(weald_bind(server, ADDRESS(&at), (socklen_t)len), 0);
    CHECK_EQ(weald_listen(server, 0), 0);
    do
        fd = weald_socket(AF_UNIX, SOCK_STREAM, 0);
    while (weald_connect(fd, ADDRESS(&at), (socklen_t)len, WEALD_NOW) == 0);
    CHECK_EQ(weald_connect(fd, ADDRESS(&at), (socklen_t)len, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    g = spawned(accept_later, FD(server));
    CHECK_EQ(weald_connect(fd, ADDRESS(&at), (socklen_t)len, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(outcome(g), 0);
}

/* ---- datagrams ---- */

static void *answer(void *fd)
{
    struct sockaddr_storage from;
    char bytes[64];

    for (;;) {
        socklen_t len = sizeof from;
        int64_t n = weald_recvfrom(NUMBER(fd), bytes, sizeof bytes, 0, ADDRESS(&from), &len, WEALD_FOREVER);
        CHECK_GE(n, 0);
        if (n == 0)
            return NULL;
        CHECK_EQ(weald_sendto(NUMBER(fd), bytes, (size_t)n, 0, ADDRESS(&from), len, WEALD_FOREVER), n);
    }
}

TEST(datagrams_are_answered_to_where_they_came_from)
{
    struct sockaddr_storage at, client, from;
    socklen_t len, client_len, from_len = sizeof from;
    int server = bound(SOCK_DGRAM, &at, &len), fd = bound(SOCK_DGRAM, &client, &client_len);
    char bytes[64];
    weald_greenlet g = spawned(answer, FD(server));

    for (int i = 1; i < 60; i++) {
        memset(bytes, i, sizeof bytes);
        CHECK_EQ(weald_sendto(fd, bytes, (size_t)i, 0, ADDRESS(&at), len, WEALD_FOREVER), i);
        CHECK_EQ(weald_recvfrom(fd, bytes, sizeof bytes, 0, ADDRESS(&from), &from_len, WEALD_FOREVER), i);
        CHECK_EQ(memcmp(&from, &at, len), 0);
    }
    CHECK_EQ(weald_sendto(fd, "long one", 8, 0, ADDRESS(&at), len, WEALD_FOREVER), 8);
    CHECK_EQ(weald_recv(fd, bytes, 4, MSG_TRUNC, WEALD_FOREVER), 8); /* as long as it was */
    CHECK_EQ(weald_sendto(fd, "", 0, 0, ADDRESS(&at), len, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(g), 0);
}

TEST(a_broadcast_needs_its_option)
{
    struct sockaddr_storage at;
    int fd = weald_socket(AF_INET, SOCK_DGRAM, 0), len = weald_address_parse("255.255.255.255:9", &at), value = 7;

    CHECK_EQ(weald_sendto(fd, "x", 1, 0, ADDRESS(&at), (socklen_t)len, WEALD_FOREVER), -EACCES);
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_BROADCAST, 1), 0);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_BROADCAST, &value), 0);
    CHECK_EQ(value, 1);
}

TEST(unix_datagrams_wait_for_room)
{
    int s[2];
    int64_t n = 0;
    char byte;

    CHECK_EQ(weald_socketpair(AF_UNIX, SOCK_DGRAM, 0, s), 0);
    while ((n = weald_send(s[0], "x", 1, 0, WEALD_NOW)) == 1)
        ;
    CHECK_EQ(n, WEALD_EAGAIN);
    CHECK_EQ(weald_send(s[0], "x", 1, 0, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    while (weald_recv(s[1], &byte, 1, 0, WEALD_NOW) == 1)
        ;
    CHECK_EQ(weald_send(s[0], "x", 1, 0, WEALD_FOREVER), 1);
}

/* ---- messages ---- */

TEST(a_descriptor_can_be_passed)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte = 'm', text[8] = "";
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *c;
    int s[2], p[2], passed;

    unix_pair(s);
    CHECK_EQ(weald_pipe(p), 0);
    memset(&control, 0, sizeof control);
    c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &p[0], sizeof(int));
    CHECK_EQ(weald_sendmsg(s[0], &message, 0, WEALD_FOREVER), 1);
    CHECK_EQ(weald_close_fd(p[0]), 0);

    message.msg_controllen = sizeof control;
    CHECK_EQ(weald_recvmsg(s[1], &message, MSG_CMSG_CLOEXEC, WEALD_FOREVER), 1);
    c = CMSG_FIRSTHDR(&message);
    CHECK(c && c->cmsg_type == SCM_RIGHTS);
    memcpy(&passed, CMSG_DATA(c), sizeof passed);
    CHECK_EQ(fcntl(passed, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(weald_write(p[1], "through", 7, WEALD_FOREVER), 7);
    CHECK_EQ(weald_read(passed, text, sizeof text, WEALD_FOREVER), 7);
    CHECK_STR(text, "through");

    passed = -1;
    message.msg_controllen = sizeof control;
    c = CMSG_FIRSTHDR(&message);
    memcpy(CMSG_DATA(c), &passed, sizeof passed); /* none to be passed */
    CHECK_EQ(weald_sendmsg(s[0], &message, 0, WEALD_FOREVER), WEALD_EBADF);
}

TEST(a_peek_leaves_what_it_saw)
{
    int s[2];
    char bytes[8] = "";

    unix_pair(s);
    CHECK_EQ(weald_send(s[0], "abc", 3, 0, WEALD_FOREVER), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weald_recv(s[1], bytes, sizeof bytes, MSG_PEEK, WEALD_FOREVER), 3);
        CHECK_STR(bytes, "abc");
    }
    CHECK_EQ(weald_recv(s[1], bytes, sizeof bytes, 0, WEALD_FOREVER), 3);
    CHECK_EQ(weald_recv(s[1], bytes, sizeof bytes, 0, WEALD_NOW), WEALD_EAGAIN);
}

TEST(urgent_data_goes_beside)
{
    int s[2];
    char byte = 0;

    tcp_pair(s);
    CHECK_EQ(weald_send(s[0], "!", 1, MSG_OOB, WEALD_FOREVER), 1);
    CHECK_EQ(weald_send(s[0], "x", 1, 0, WEALD_FOREVER), 1);
    CHECK_EQ(weald_wait_read(s[1], WEALD_FOREVER), 0);
    CHECK_EQ(weald_recv(s[1], &byte, 1, MSG_OOB, WEALD_NOW), 1);
    CHECK_EQ(byte, '!');
    CHECK_EQ(weald_recv(s[1], &byte, 1, 0, WEALD_FOREVER), 1);
    CHECK_EQ(byte, 'x');
}

/* ---- options ---- */

TEST(options_are_set_and_got)
{
    static const struct {
        int option, value;
    } numbers[] = {
        {WEALD_OPTION_NODELAY, 1},    {WEALD_OPTION_CORK, 1},     {WEALD_OPTION_KEEPALIVE, 1}, {WEALD_OPTION_KEEPIDLE, 77},
        {WEALD_OPTION_KEEPINTVL, 33}, {WEALD_OPTION_KEEPCNT, 5},  {WEALD_OPTION_REUSEADDR, 1}, {WEALD_OPTION_REUSEPORT, 1},
        {WEALD_OPTION_LINGER, 3},     {WEALD_OPTION_LINGER, -1},  {WEALD_OPTION_LINGER, 0},    {WEALD_OPTION_USER_TIMEOUT, 999},
        {WEALD_OPTION_QUICKACK, 0},
    };
    int fd = weald_socket(AF_INET, SOCK_STREAM, 0), u[2], value;

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CHECK_EQ(weald_set_option(fd, numbers[i].option, numbers[i].value), 0);
        value = -99;
        CHECK_EQ(weald_get_option(fd, numbers[i].option, &value), 0);
        CHECK_EQ(value, numbers[i].value);
    }
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_LINGER, -2), WEALD_EINVAL);
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_SNDBUF, 10000), 0);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_SNDBUF, &value), 0);
    CHECK_EQ(value, 20000);
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_RCVBUF, 10000), 0);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_RCVBUF, &value), 0);
    CHECK_EQ(value, 20000);
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_DEFER_ACCEPT, 1), 0);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_DEFER_ACCEPT, &value), 0);
    CHECK_GE(value, 1);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_TYPE, &value), 0);
    CHECK_EQ(value, SOCK_STREAM);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_ACCEPTCONN, &value), 0);
    CHECK_EQ(value, 0);
    unix_pair(u);
    CHECK_EQ(weald_set_option(u[0], WEALD_OPTION_PASSCRED, 1), 0);
    CHECK_EQ(weald_get_option(u[0], WEALD_OPTION_PASSCRED, &value), 0);
    CHECK_EQ(value, 1);
}

TEST(v6only_is_for_ipv6)
{
    int fd = weald_socket(AF_INET6, SOCK_STREAM, 0), value = 0;

    if (fd < 0)
        SKIP("no IPv6 here");
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_V6ONLY, 1), 0);
    CHECK_EQ(weald_get_option(fd, WEALD_OPTION_V6ONLY, &value), 0);
    CHECK_EQ(value, 1);
}

TEST(shutdown_of_the_reading_half_ends_the_wait)
{
    int s[2];
    weald_greenlet g;

    unix_pair(s);
    g = spawned(echo_until_end, FD(s[0]));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_shutdown(s[0], SHUT_RD), 0);
    CHECK_EQ(outcome(g), 0);
}

/* ---- many ---- */

enum { CLIENTS = 100, ROUNDS = 50 };
static struct sockaddr_storage server_at;
static socklen_t server_len;

static void *serve(void *server)
{
    int fd;
    while ((fd = weald_accept(NUMBER(server), NULL, NULL, WEALD_FOREVER)) >= 0)
        CHECK_EQ(weald_go(echo_until_end, FD(fd)), 0);
    CHECK_EQ(fd, WEALD_EBADF);
    return NULL;
}

static void *client(void *number)
{
    char sent[64], got[64];
    int fd = weald_socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(weald_connect(fd, ADDRESS(&server_at), server_len, WEALD_FOREVER), 0);
    for (int i = 0; i < ROUNDS; i++) {
        memset(sent, NUMBER(number) + i, sizeof sent);
        CHECK_EQ(weald_write_all(fd, sent, sizeof sent, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_read_exact(fd, got, sizeof got, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(memcmp(sent, got, sizeof sent), 0);
    }
    CHECK_EQ(weald_close_fd(fd), 0);
    return NULL;
}

TEST(a_hundred_clients_are_served)
{
    weald_greenlet gs[CLIENTS], server;
    int fd = bound(SOCK_STREAM, &server_at, &server_len), before;

    CHECK_GT(weald_self(), 0); /* the hub has its descriptors */
    before = test_fds();
    CHECK_EQ(weald_listen(fd, CLIENTS), 0);
    server = spawned(serve, FD(fd));
    for (int i = 0; i < CLIENTS; i++)
        gs[i] = spawned(client, FD(i));
    CHECK_EQ(weald_joinall(gs, CLIENTS, 0, 0, WEALD_FOREVER), CLIENTS);
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    CHECK_EQ(test_fds(), before);
    CHECK_EQ(weald_close_fd(fd), 1);
    CHECK_EQ(outcome(server), 0);
    for (int i = 0; i < CLIENTS; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

/* ---- how connections end ---- */

TEST(a_half_closed_connection_is_drained_and_answered_and_then_ends)
{
    static char sent[200000], got[sizeof sent + 1];
    int s[2];
    size_t done = 0;
    weald_greenlet g;

    tcp_pair(s);
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * 7 % 251);
    g = spawned(echo_until_end, FD(s[1]));
    for (size_t at = 0; at < sizeof sent; at += 20000) { /* more than the socket holds, in steps that it does */
        CHECK_EQ(weald_write_all(s[0], sent + at, 20000, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_yield(), 0);
    }
    CHECK_EQ(weald_shutdown(s[0], SHUT_WR), 0);
    CHECK_EQ(weald_read_exact(s[0], got, sizeof got, &done, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(done, sizeof sent);
    CHECK_EQ(memcmp(sent, got, sizeof sent), 0);
    CHECK_EQ(weald_read(s[0], got, 1, WEALD_FOREVER), 0); /* and again */
    CHECK_EQ(weald_write(s[0], "x", 1, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(weald_close_fd(s[0]), 0);
}

static void *read_to_the_end(void *fd)
{
    char bytes[100];
    int64_t n;

    while ((n = weald_read(NUMBER(fd), bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        ;
    return FD(n);
}

static void *write_to_the_end(void *fd)
{
    static char bytes[1 << 20];
    size_t done;
    int code;

    while ((code = weald_write_all(NUMBER(fd), bytes, sizeof bytes, &done, WEALD_FOREVER)) == 0)
        ;
    return FD(code);
}

TEST(a_reset_in_the_middle_ends_reader_and_writer_and_later_writes_are_epipe)
{
    int s[2];
    weald_greenlet reader, writer;
    intptr_t read, written;

    tcp_pair(s);
    reader = spawned(read_to_the_end, FD(s[0]));
    writer = spawned(write_to_the_end, FD(s[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_state(reader), WEALD_STATE_PARKED);
    CHECK_EQ(weald_state(writer), WEALD_STATE_PARKED);
    CHECK_EQ(weald_set_option(s[1], WEALD_OPTION_LINGER, 0), 0);
    CHECK_EQ(weald_close_fd(s[1]), 0);
    read = outcome(reader), written = outcome(writer);
    /* The system tells one of them, whoever asks first. */
    CHECK((read == WEALD_ECONNRESET && written == WEALD_EPIPE) || (read == 0 && written == WEALD_ECONNRESET));
    CHECK_EQ(weald_read(s[0], &(char){0}, 1, WEALD_FOREVER), 0);
    CHECK_EQ(weald_write(s[0], "x", 1, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_send(s[0], "x", 1, 0, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close_fd(s[0]), 0);
}

static void *never_reads(void *fd)
{
    weald_wait_fd(NUMBER(fd), WEALD_READ, weald_after(WEALD_SEC(1000)));
    return NULL;
}

TEST(a_peer_that_never_reads_holds_up_only_who_writes_to_it)
{
    static char megabyte[1 << 20];
    int s[2];
    size_t done;
    weald_greenlet g;

    tcp_pair(s);
    g = spawned(never_reads, FD(s[1]));
    CHECK_EQ(weald_write_all(s[0], megabyte, sizeof megabyte, &done, weald_after(WEALD_MS(20))) <= 0, 1);
    for (int i = 0; i < 20; i++)
        weald_write_all(s[0], megabyte, sizeof megabyte, &done, weald_after(WEALD_MS(1)));
    CHECK_EQ(weald_write_all(s[0], megabyte, sizeof megabyte, &done, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}
