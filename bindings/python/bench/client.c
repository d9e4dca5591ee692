/* The client of every server of these benches: cheap, so that a server never waits for it for long.
 *
 *     client PORT CONNECTIONS REQUESTS KIND [PATH]
 *
 * KIND is echo, keep (HTTP on kept connections), close (HTTP, a connection for each request), websocket, or poll (HTTP,
 * REQUESTS is not looked at: one request on each connection, and the end of its input tells it to read the answers).
 * It connects, has one request answered on each connection, prints "ready", and waits for a line on its input. Then it
 * keeps one request under way on each connection until REQUESTS are answered, and prints "done".
 *
 * How long an answer is the first one tells, which comes alone: servers put other headers there, but always the same.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIFE 120 /* seconds, whatever happens */
#define BATCH 1024

struct connection {
    int fd;
    long got;
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static char request[1024], sink[1 << 16];
static size_t request_len;
static long answer_len;
static int epoll, closes;

static void fail(const char *what)
{
    fprintf(stderr, "client: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

static int connected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server))
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void ask(struct connection *c)
{
    c->got = 0;
    if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
        fail("send");
}

/* Reads until there was silence for a while, or the end; how much. A server may listen long before it serves. */
static long read_all(int fd)
{
    struct timeval silence = {.tv_usec = 300000}, none = {0};
    long got = 0;
    ssize_t n;
    while ((n = recv(fd, sink, sizeof sink, 0)) > 0) {
        got += n;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    if (got == 0)
        fail("the first answer");
    return got;
}

static void shake_hands(int fd)
{
    static const char hello[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    if (send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL) < 0)
        fail("the handshake");
    for (size_t got = 0; got < 4 || memcmp(sink + got - 4, "\r\n\r\n", 4); got++)
        if (recv(fd, sink + got, 1, 0) != 1)
            fail("the handshake");
}

static void set_request(const char *kind, const char *path)
{
    if (!strcmp(kind, "echo")) {
        request_len = (size_t)sprintf(request, "a line of text for the echo\n");
    } else if (!strcmp(kind, "websocket")) {
        static const char head[] = {(char)0x81, (char)(0x80 | 64), 1, 2, 3, 4};
        memcpy(request, head, sizeof head);
        for (int i = 0; i < 64; i++)
            request[6 + i] = (char)('a' ^ (1 + i % 4));
        request_len = 6 + 64;
    } else {
        closes = !strcmp(kind, "close");
        request_len = (size_t)sprintf(request, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path,
                                      closes ? "Connection: close\r\n" : "");
    }
}

/* Takes what is there; whether the answer is complete. */
static int hear(struct connection *c)
{
    ssize_t n = recv(c->fd, sink, sizeof sink, 0);
    if (n < 0)
        fail("an answer");
    errno = 0;
    if (n == 0 && !closes)
        fail("the end of a connection");
    c->got += n;
    if (c->got > answer_len)
        fail("too long an answer");
    if (closes ? n > 0 : c->got < answer_len)
        return 0;
    if (c->got != answer_len)
        fail("too short an answer");
    return 1;
}

static void watch(struct connection *c)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e))
        fail("epoll_ctl");
}

static void again(struct connection *c)
{
    if (closes) {
        close(c->fd);
        c->fd = connected();
        watch(c);
    }
    ask(c);
}

/* Until `count` requests are answered. `asked` of them are under way. */
static void drive(long asked, long count)
{
    struct epoll_event ready[BATCH];
    for (long answered = 0; answered < count;) {
        int n = epoll_wait(epoll, ready, BATCH, 20000);
        if (n <= 0)
            fail("no answer");
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            if (!hear(c))
                continue;
            answered++;
            if (asked++ < count)
                again(c);
            else if (closes)
                close(c->fd);
        }
    }
}

static void say_and_wait(const char *word)
{
    puts(word);
    fflush(stdout);
    if (!fgets(sink, sizeof sink, stdin))
        exit(0);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    if (argc < 5)
        return 2;
    alarm(LIFE);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    long connections = atol(argv[2]), requests = atol(argv[3]);
    int polls = !strcmp(argv[4], "poll"), websocket = !strcmp(argv[4], "websocket");
    set_request(argv[4], argc > 5 ? argv[5] : "/");
    epoll = epoll_create1(0);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (polls)
        say_and_wait("ready");
    for (long i = 0; i < connections; i++) {
        all[i].fd = connected();
        if (websocket)
            shake_hands(all[i].fd);
        if (i == 0 && !polls) {
            ask(&all[0]);
            answer_len = read_all(all[0].fd);
            if (closes)
                all[0].fd = (close(all[0].fd), connected());
        }
        watch(&all[i]);
    }
    for (long i = 0; i < connections; i++)
        ask(&all[i]);
    if (polls) {
        say_and_wait("parked");
        for (long i = 0; i < connections; i++)
            if (recv(all[i].fd, sink, sizeof sink, 0) <= 0)
                fail("an answer");
        say_and_wait("done");
        return 0;
    }
    drive(connections, connections);
    for (long i = 0; closes && i < connections; i++) {
        all[i].fd = connected();
        watch(&all[i]);
    }
    say_and_wait("ready");
    for (long i = 0; i < connections; i++)
        ask(&all[i]);
    drive(connections, requests);
    say_and_wait("done");
    return 0;
}
