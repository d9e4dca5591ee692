/* 28_echo_threads: the second style: a thread for each client.
 *
 * The code of a connection stays what it was, and 24 lines are not many more. But ten thousand
 * clients are ten thousand threads, and what they share needs locks.
 *
 * Build:  cc -std=c11 28_echo_threads.c $(pkg-config --cflags --libs weald) -pthread -o 28_echo_threads
 * Prints:
 *   one two three
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
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

static void *echo(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char text[256];
    int64_t got;

    while ((got = sys(recv(fd, text, sizeof text, 0), "recv")) > 0)
        for (int64_t sent = 0; sent < got;)
            sent += sys(send(fd, text + sent, (size_t)(got - sent), MSG_NOSIGNAL), "send");
    sys(close(fd), "close");
    return NULL;
}

static void serve(int listener)
{
    pthread_t threads[CLIENTS];

    for (int i = 0; i < CLIENTS; i++) {
        intptr_t fd = sys(accept(listener, NULL, NULL), "accept");
        must(-pthread_create(&threads[i], NULL, echo, (void *)fd), "thread");
    }
    for (int i = 0; i < CLIENTS; i++)
        must(-pthread_join(threads[i], NULL), "join");
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
