/* 27_echo_blocking: an echo server in four styles, the first: one client after the other.
 *
 * Nothing could be simpler, in 16 lines, and nothing serves fewer: while one client is silent all
 * others wait. The next three programs differ from this one in their server alone.
 *
 * Build:  cc -std=c11 27_echo_blocking.c $(pkg-config --cflags --libs weald) -o 27_echo_blocking
 * Prints:
 *   one two three
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
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

static void echo(int fd)
{
    char text[256];
    int64_t got;

    while ((got = sys(recv(fd, text, sizeof text, 0), "recv")) > 0)
        for (int64_t sent = 0; sent < got;)
            sent += sys(send(fd, text + sent, (size_t)(got - sent), MSG_NOSIGNAL), "send");
    sys(close(fd), "close");
}

static void serve(int listener)
{
    for (int i = 0; i < CLIENTS; i++)
        echo(sys(accept(listener, NULL, NULL), "accept"));
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
