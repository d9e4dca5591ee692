/* Sockets on the loopback for the tests of what connects, listens and serves. */
#ifndef WEALD_TEST_NET_H
#define WEALD_TEST_NET_H

#include "test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* "127.0.0.1:80"; a few texts are good at a time. */
static TEST_UNUSED const char *net_at(const char *host, int port)
{
    static char texts[8][64];
    static int next;
    char *text = texts[next++ % 8];

    snprintf(text, sizeof texts[0], "%s:%d", host, port);
    return text;
}

/* The port that a socket has. */
static TEST_UNUSED int net_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;

    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                              : ((struct sockaddr_in6 *)&address)->sin6_port);
}

static TEST_UNUSED struct sockaddr_in net_address(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    CHECK_EQ(inet_pton(AF_INET, host, &address.sin_addr), 1);
    return address;
}

/* A connection by plain, blocking calls. */
static TEST_UNUSED int net_plain(int port)
{
    struct sockaddr_in address = net_address("127.0.0.1", port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK_GE(fd, 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* A listener at `host` that never answers: its queue is full. `kept` are descriptors to close. */
struct net_silent {
    int fd, port, inside[2];
};

static TEST_UNUSED struct net_silent net_silent(const char *host, int port)
{
    struct net_silent silent;
    struct sockaddr_in address;

    CHECK_GE(silent.fd = weald_tcp_listen(net_at(host, port), 1, 0), 0);
    CHECK_EQ(listen(silent.fd, 0), 0);
    silent.port = net_port(silent.fd);
    address = net_address(host, silent.port);
    for (int i = 0; i < 2; i++) {
        CHECK_GE(silent.inside[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 0);
        if (connect(silent.inside[i], (struct sockaddr *)&address, sizeof address) != 0)
            CHECK_EQ(errno, EINPROGRESS);
    }
    return silent;
}

static TEST_UNUSED void net_close_silent(struct net_silent silent)
{
    close(silent.fd);
    close(silent.inside[0]);
    close(silent.inside[1]);
}

/* Reads what there is; parks this greenlet alone. 0 at the end, a code. */
static TEST_UNUSED int net_read(int fd, void *buffer, size_t size)
{
    ssize_t got;
    int code;

    while ((got = recv(fd, buffer, size, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
        if ((code = weald_wait_read(fd, WEALD_FOREVER)) < 0)
            return code;
    return got < 0 ? -errno : (int)got;
}

/* What is short always fits into a socket. */
static TEST_UNUSED void net_write(int fd, const char *text)
{
    CHECK_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT), strlen(text));
}

/* Says `text` and gets it back. */
static TEST_UNUSED void net_echoed(int fd, const char *text)
{
    char back[64] = "";

    net_write(fd, text);
    CHECK_EQ(net_read(fd, back, sizeof back - 1), strlen(text));
    CHECK_STR(back, text);
}

/* How many descriptors there may be, from now on; all that there are still are. */
static struct rlimit net_limit_before;

static TEST_UNUSED void net_no_more_fds(void)
{
    struct rlimit now;
    int free_one = dup(0);

    CHECK_GE(free_one, 0);
    close(free_one);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &net_limit_before), 0);
    now = net_limit_before;
    now.rlim_cur = (rlim_t)free_one;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
}

static TEST_UNUSED void net_fds_again(void) { CHECK_EQ(setrlimit(RLIMIT_NOFILE, &net_limit_before), 0); }

/* A path of this process's own for a socket; the directory is there. */
static TEST_UNUSED const char *net_path(const char *name)
{
    static char texts[4][80];
    static int next;
    char *text = texts[next++ % 4];

    snprintf(text, sizeof texts[0], "/tmp/weald-test-%d-%s", (int)getpid(), name);
    unlink(text);
    return text;
}

#endif /* WEALD_TEST_NET_H */
