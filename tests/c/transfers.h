/* Every call that reads, writes, connects or accepts, with descriptors on which it has to wait: for claims that hold for
 * all of them. `transfers_prepare` makes fresh descriptors. */
#ifndef WEALD_TEST_TRANSFERS_H
#define WEALD_TEST_TRANSFERS_H

#include "test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static TEST_UNUSED int file_of(const char *text)
{
    char path[] = "/tmp/weald-test-XXXXXX";
    int fd = mkstemp(path);

    CHECK_GE(fd, 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* A socket of ours at a free port of 127.0.0.1; its address in `at`. */
static TEST_UNUSED int bound(int type, struct sockaddr_storage *at, socklen_t *len)
{
    int length = weald_address_parse("127.0.0.1:0", at), fd = weald_socket(AF_INET, type, 0);

    CHECK_GE(fd, 0);
    CHECK_EQ(weald_bind(fd, (struct sockaddr *)at, (socklen_t)length), 0);
    *len = sizeof *at;
    CHECK_EQ(weald_local_address(fd, (struct sockaddr *)at, len), 0);
    return fd;
}

/* Two ends of a TCP connection. */
static TEST_UNUSED void tcp_pair(int ends[2])
{
    struct sockaddr_storage at;
    socklen_t len;
    int server = bound(SOCK_STREAM, &at, &len);

    CHECK_EQ(weald_listen(server, 1), 0);
    ends[1] = weald_socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(weald_connect(ends[1], (struct sockaddr *)&at, len, WEALD_FOREVER), 0);
    CHECK_GE(ends[0] = weald_accept(server, NULL, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close_fd(server), 0);
}

static TEST_UNUSED void unix_pair(int ends[2]) { CHECK_EQ(weald_socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0); }

/* Writes until there is no room; how much. */
static TEST_UNUSED size_t fill(int fd)
{
    static char zeros[4096];
    size_t all = 0;
    ssize_t n;

    while ((n = send(fd, zeros, sizeof zeros, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        all += (size_t)n;
    CHECK_EQ(errno, EAGAIN);
    return all;
}

/* The same for a TCP socket whose other end does not read, for good. What is under way makes room once more, and the other
 * end may find some any time, when it is probed or puts its memory in order; but there is room only for who has less queued
 * than its buffer has, and that is made smaller than what is queued by far. */
static TEST_UNUSED void fill_tcp(int fd)
{
    int least = 1, queued = 0;

    while (fill(fd) > 0)
        CHECK_EQ(weald_sleep(WEALD_MS(3)), 0);
    CHECK_EQ(ioctl(fd, SIOCOUTQ, &queued), 0);
    CHECK_GT(queued, 65536);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
}

/* What the calls wait for: data at quiet[0], room at full[0], a connection at lonely, room in a backlog at dialling, data
 * in a pipe. The other ends have the index 1. */
static int quiet[2], full[2], lonely, dialling, crowded, file, hollow[2];
static struct sockaddr_storage crowded_at, lonely_at;
static socklen_t crowded_len, lonely_len;

static TEST_UNUSED void transfers_prepare(void)
{
    unix_pair(quiet);
    unix_pair(full);
    fill(full[0]);
    lonely = bound(SOCK_STREAM, &lonely_at, &lonely_len);
    CHECK_EQ(weald_listen(lonely, 1), 0);
    crowded = bound(SOCK_STREAM, &crowded_at, &crowded_len);
    CHECK_EQ(weald_listen(crowded, 0), 0);
    for (int i = 0; i < 4; i++) { /* more than the backlog holds */
        int fd = weald_socket(AF_INET, SOCK_STREAM, 0);
        weald_connect(fd, (struct sockaddr *)&crowded_at, crowded_len, weald_after(WEALD_MS(1)));
    }
    dialling = weald_socket(AF_INET, SOCK_STREAM, 0);
    file = file_of("text");
    CHECK_EQ(weald_pipe(hollow), 0);
}

static TEST_UNUSED void transfers_release(void)
{
    int all[] = {quiet[0], quiet[1], full[0], full[1], lonely, dialling, crowded, file, hollow[0], hollow[1]};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        weald_close_fd(all[i]); /* some a test has closed */
}

static char transfers_bytes[16];
static struct iovec transfers_iov = {transfers_bytes, sizeof transfers_bytes};
static struct msghdr transfers_message = {.msg_iov = &transfers_iov, .msg_iovlen = 1};
#define BYTES transfers_bytes, sizeof transfers_bytes

static int64_t t_read(int64_t d) { return weald_read(quiet[0], BYTES, d); }
static int64_t t_readv(int64_t d) { return weald_readv(quiet[0], &transfers_iov, 1, d); }
static int64_t t_read_exact(int64_t d) { return weald_read_exact(quiet[0], BYTES, NULL, d); }
static int64_t t_recv(int64_t d) { return weald_recv(quiet[0], BYTES, 0, d); }
static int64_t t_recvfrom(int64_t d) { return weald_recvfrom(quiet[0], BYTES, 0, NULL, NULL, d); }
static int64_t t_recvmsg(int64_t d) { return weald_recvmsg(quiet[0], &transfers_message, 0, d); }
static int64_t t_write(int64_t d) { return weald_write(full[0], BYTES, d); }
static int64_t t_writev(int64_t d) { return weald_writev(full[0], &transfers_iov, 1, d); }
static int64_t t_write_all(int64_t d) { return weald_write_all(full[0], BYTES, NULL, d); }
static int64_t t_send(int64_t d) { return weald_send(full[0], BYTES, 0, d); }
static int64_t t_sendto(int64_t d) { return weald_sendto(full[0], BYTES, 0, NULL, 0, d); }
static int64_t t_sendmsg(int64_t d) { return weald_sendmsg(full[0], &transfers_message, 0, d); }
static int64_t t_sendfile(int64_t d) { return weald_sendfile(full[0], file, NULL, 4, d); }
static int64_t t_splice(int64_t d) { return weald_splice(hollow[0], NULL, quiet[1], NULL, 4, d); }
static int64_t t_accept(int64_t d) { return weald_accept(lonely, NULL, NULL, d); }
static int64_t t_connect(int64_t d)
{
    return weald_connect(dialling, (struct sockaddr *)&crowded_at, crowded_len, d);
}

/* What ends the wait. */
static void give_data(void)
{
    static const char sixteen[16];
    CHECK_EQ(write(quiet[1], sixteen, sizeof sixteen), 16);
}
static void give_room(void)
{
    char bytes[4096];
    while (recv(full[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
}
static void give_piped(void) { CHECK_EQ(write(hollow[1], "x", 1), 1); }
static void give_connection(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&lonely_at, lonely_len), 0);
}
static void give_backlog(void)
{
    while (accept4(crowded, NULL, NULL, SOCK_NONBLOCK) >= 0)
        ;
}

static const struct transfer {
    const char *name;
    int64_t (*call)(int64_t deadline);
    int *fd;
    int events; /* that it waits for on `fd` */
    void (*let_it_end)(void);
    int now; /* what it says to WEALD_NOW */
} transfers[] = {
    {"weald_read", t_read, &quiet[0], WEALD_READ, give_data, WEALD_EAGAIN},
    {"weald_readv", t_readv, &quiet[0], WEALD_READ, give_data, WEALD_EAGAIN},
    {"weald_read_exact", t_read_exact, &quiet[0], WEALD_READ, give_data, WEALD_EAGAIN},
    {"weald_recv", t_recv, &quiet[0], WEALD_READ, give_data, WEALD_EAGAIN},
    {"weald_recvfrom", t_recvfrom, &quiet[0], WEALD_READ, give_data, WEALD_EAGAIN},
    {"weald_recvmsg", t_recvmsg, &quiet[0], WEALD_READ, give_data, WEALD_EAGAIN},
    {"weald_write", t_write, &full[0], WEALD_WRITE, give_room, WEALD_EAGAIN},
    {"weald_writev", t_writev, &full[0], WEALD_WRITE, give_room, WEALD_EAGAIN},
    {"weald_write_all", t_write_all, &full[0], WEALD_WRITE, give_room, WEALD_EAGAIN},
    {"weald_send", t_send, &full[0], WEALD_WRITE, give_room, WEALD_EAGAIN},
    {"weald_sendto", t_sendto, &full[0], WEALD_WRITE, give_room, WEALD_EAGAIN},
    {"weald_sendmsg", t_sendmsg, &full[0], WEALD_WRITE, give_room, WEALD_EAGAIN},
    {"weald_sendfile", t_sendfile, &full[0], WEALD_WRITE, give_room, WEALD_EAGAIN},
    {"weald_splice", t_splice, &hollow[0], WEALD_READ, give_piped, WEALD_EAGAIN},
    {"weald_accept", t_accept, &lonely, WEALD_READ, give_connection, WEALD_EAGAIN},
    {"weald_connect", t_connect, &dialling, WEALD_WRITE, give_backlog, WEALD_EINPROGRESS},
};

enum { TRANSFERS = sizeof transfers / sizeof *transfers };

#define EACH_TRANSFER(t) (const struct transfer *t = transfers; t < transfers + TRANSFERS; t++)

/* A check that says which of them it was. */
#define TRANSFER_CHECK(t, got, wanted) transfer_check(__LINE__, (t)->name, (got), (wanted))

static TEST_UNUSED void transfer_check(int line, const char *name, int64_t got, int64_t wanted)
{
    if (got == wanted)
        return;
    fprintf(stderr, "line %d: %s returned %lld %s, not %lld %s\n", line, name, (long long)got, test_code(got),
            (long long)wanted, test_code(wanted));
    test_leave(TEST_FAILED);
}

#endif /* WEALD_TEST_TRANSFERS_H */
