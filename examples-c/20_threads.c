/* 20_threads: the echo server of 19_echo with a thread for each connection, as a contrast.
 *
 * Without the waits the loop in echo is the same. But now each connection costs a thread, what
 * they share needs locks, and who comes first is up to the kernel. The clients are greenlets as
 * before: weald works beside threads, and one hub thread looks after all of them.
 *
 * Build:  cc -std=c11 20_threads.c $(pkg-config --cflags --libs weald) -pthread -o 20_threads
 * Prints:
 *   echoed: one two three
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
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
    char text[SIZE];

    while ((got = sys(recv(fd, text, SIZE, 0), "recv")) > 0)
        sys(send(fd, text, (size_t)got, MSG_NOSIGNAL), "send");
    sys(close(fd), "close");
    return NULL;
}

static void *serve(void *listener)
{
    pthread_t handlers[CLIENTS];
    int fds[CLIENTS];

    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = sys(accept(*(int *)listener, NULL, NULL), "accept");
        must(-pthread_create(&handlers[i], NULL, echo, &fds[i]), "thread");
    }
    for (int i = 0; i < CLIENTS; i++)
        must(-pthread_join(handlers[i], NULL), "thread join");
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
    pthread_t server;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK); /* and port 0: any that is free */
    sys(bind(listener, (struct sockaddr *)&address, length), "bind");
    sys(listen(listener, CLIENTS), "listen");
    sys(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    must(-pthread_create(&server, NULL, serve, &listener), "thread");
    for (int i = 0; i < CLIENTS; i++)
        must(weald_go(client, texts[i]), "go");
    must(weald_run(WEALD_FOREVER), "run"); /* until no greenlet is left */
    must(-pthread_join(server, NULL), "thread join");
    sys(close(listener), "close listener");
    printf("echoed: %s %s %s\n", texts[0], texts[1], texts[2]);
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
