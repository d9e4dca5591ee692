/* 19_echo: a TCP echo server, one greenlet for each connection, all in a single thread.
 *
 * The code is as straight as if it blocked. weald_wait_read and weald_wait_write park the greenlet
 * until the descriptor is ready; others run meanwhile, here the clients too. They take any
 * descriptor as it is. The next program is the same server with threads.
 *
 * Build:  cc -std=c11 19_echo.c $(pkg-config --cflags --libs weald) -o 19_echo
 * Prints:
 *   echoed: one two three
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weald.h>

enum { CLIENTS = 3, SIZE = 16 };

static struct sockaddr_in address = {.sin_family = AF_INET};

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

static void *echo(void *arg)
{
    int fd = *(int *)arg, got;
    char text[SIZE]; /* so little always fits into a socket: send needs no loop here */

    while (must(weald_wait_read(fd, WEALD_FOREVER), "wait to read") >= 0 &&
           (got = sys(recv(fd, text, SIZE, 0), "recv")) > 0) {
        must(weald_wait_write(fd, WEALD_FOREVER), "wait to write");
        sys(send(fd, text, (size_t)got, MSG_NOSIGNAL), "send");
    }
    sys(close(fd), "close");
    return NULL;
}

static void *serve(void *listener)
{
    static int fds[CLIENTS];

    for (int i = 0; i < CLIENTS; i++) {
        must(weald_wait_read(*(int *)listener, WEALD_FOREVER), "wait to accept");
        fds[i] = sys(accept(*(int *)listener, NULL, NULL), "accept");
        must(weald_go(echo, &fds[i]), "go");
    }
    return NULL;
}

static void *client(void *arg)
{
    char *text = arg;
    int fd = sys(socket(AF_INET, SOCK_STREAM, 0), "socket");

    sys(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    sys(send(fd, text, SIZE, MSG_NOSIGNAL), "send");
    text[0] = '\0'; /* the echo brings it back */
    must(weald_wait_read(fd, WEALD_FOREVER), "wait for the echo");
    sys(recv(fd, text, SIZE, 0), "recv");
    sys(close(fd), "close");
    return NULL;
}

int main(void)
{
    char texts[CLIENTS][SIZE] = {"one", "two", "three"};
    socklen_t length = sizeof address;
    int listener = sys(socket(AF_INET, SOCK_STREAM, 0), "socket");

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK); /* and port 0: any that is free */
    sys(bind(listener, (struct sockaddr *)&address, length), "bind");
    sys(listen(listener, CLIENTS), "listen");
    sys(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    must(weald_go(serve, &listener), "go");
    for (int i = 0; i < CLIENTS; i++)
        must(weald_go(client, texts[i]), "go");
    must(weald_run(WEALD_FOREVER), "run"); /* until no greenlet is left */
    sys(close(listener), "close listener");
    printf("echoed: %s %s %s\n", texts[0], texts[1], texts[2]);
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
