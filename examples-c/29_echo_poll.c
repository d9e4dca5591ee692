/* 29_echo_poll: the third style: one thread, a loop around poll(2), and callbacks.
 *
 * It serves thousands at a time. But what was a loop is now a state for each connection that has to be
 * kept by hand, in 56 lines, and every further step of a protocol is one more state.
 *
 * Build:  cc -std=c11 29_echo_poll.c $(pkg-config --cflags --libs weald) -o 29_echo_poll
 * Prints:
 *   one two three
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weald.h>

enum { CLIENTS = 3 };

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static int sys(int64_t outcome, const char *what) /* a code is a negated errno */
{
    return (int)must(outcome < 0 ? -errno : outcome, what);
}

/* ---- the server ---- */

struct connection {
    char text[256];
    ssize_t got, sent; /* reads while both are 0, else writes */
};

static struct pollfd fds[CLIENTS + 1];
static struct connection connections[CLIENTS + 1];
static int count, accepted, closed;

static void can_accept(void)
{
    int fd = sys(accept(fds[0].fd, NULL, NULL), "accept");

    sys(fcntl(fd, F_SETFL, O_NONBLOCK), "fcntl");
    fds[count] = (struct pollfd){.fd = fd, .events = POLLIN};
    connections[count++] = (struct connection){.got = 0};
    if (++accepted == CLIENTS)
        fds[0].events = 0;
}

static void can_read(int i)
{
    struct connection *c = &connections[i];

    c->got = sys(recv(fds[i].fd, c->text, sizeof c->text, 0), "recv");
    c->sent = 0;
    fds[i].events = POLLOUT;
    if (c->got == 0) {
        sys(close(fds[i].fd), "close");
        fds[i].fd = -1; /* poll passes over it */
        closed++;
    }
}

static void can_write(int i)
{
    struct connection *c = &connections[i];

    c->sent += sys(send(fds[i].fd, c->text + c->sent, (size_t)(c->got - c->sent), MSG_NOSIGNAL), "send");
    if (c->sent == c->got)
        fds[i].events = POLLIN;
}

static void serve(int listener)
{
    fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    count = 1;
    while (closed < CLIENTS) {
        sys(poll(fds, (nfds_t)count, -1), "poll");
        for (int i = count - 1; i > 0; i--)
            if (fds[i].fd >= 0 && fds[i].revents != 0)
                fds[i].events == POLLIN ? can_read(i) : can_write(i);
        if (fds[0].revents & POLLIN)
            can_accept();
    }
}

/* ---- its clients, another process: the same for all four ---- */

static void talk(struct sockaddr_in *server)
{
    static const char *words[CLIENTS] = {"one", "two", "three"};
    char text[16];

    for (int i = 0; i < CLIENTS; i++) {
        int fd = sys(socket(AF_INET, SOCK_STREAM, 0), "socket");
        sys(connect(fd, (struct sockaddr *)server, sizeof *server), "connect");
        sys(send(fd, words[i], strlen(words[i]) + 1, MSG_NOSIGNAL), "send");
        sys(recv(fd, text, sizeof text, 0), "recv");
        printf("%s%s", text, i + 1 < CLIENTS ? " " : "\n");
        sys(close(fd), "close");
    }
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET}; /* and port 0: any that is free */
    socklen_t length = sizeof address;
    int listener = sys(socket(AF_INET, SOCK_STREAM, 0), "socket"), status = 1;
    pid_t clients;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sys(bind(listener, (struct sockaddr *)&address, length), "bind");
    sys(listen(listener, CLIENTS), "listen");
    sys(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    clients = sys(fork(), "fork");
    if (clients == 0) {
        talk(&address);
        return 0;
    }
    serve(listener);
    sys(close(listener), "close listener");
    sys(waitpid(clients, &status, 0), "waitpid");
    return status;
}
