/* 48_patch: blocking code that knows nothing of weald, made cooperative.
 *
 * serve and ask are plain POSIX: sockets that block, and a sleep in the middle. With one call at the start of main the
 * same code serves and asks in one thread, for it parks the greenlet that runs it. A library is patched by its name, as
 * "libpq.so.5"; here it is the program itself. Linux on x86-64 with glibc.
 *
 * Build:  cc -std=c11 48_patch.c $(pkg-config --cflags --libs weald) -o 48_patch
 * Prints:
 *   tea is ready
 *   toast is ready
 *   eggs is ready
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weald.h>

static struct sockaddr_in address = {.sin_family = AF_INET};

static long must(long code, const char *what)
{
    if (code >= 0)
        return code;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

/* ---- somebody else's code: it blocks ---- */

static void serve(int fd)
{
    char order[40] = "";
    int ms = 0;

    if (read(fd, order, sizeof order - 1) > 0 && sscanf(order, "%*s %d", &ms) == 1) {
        usleep((useconds_t)ms * 1000);
        *strchr(order, ' ') = 0;
        must(write(fd, order, strlen(order)), "write");
    }
    close(fd);
}

static void ask(const char *order)
{
    int fd = (int)must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    char answer[40] = "";

    must(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    must(write(fd, order, strlen(order)), "write");
    must(read(fd, answer, sizeof answer - 1), "read");
    printf("%s is ready\n", answer);
    close(fd);
}

/* ---- and ours: a greenlet for each of them ---- */

static void *serves(void *fd) { return serve((int)(intptr_t)fd), NULL; }
static void *asks(void *order) { return ask(order), NULL; }

static void *listens(void *listener)
{
    for (;;) {
        int fd = accept((int)(intptr_t)listener, NULL, NULL);

        if (fd < 0)
            return NULL; /* killed: ECANCELED */
        must(weald_go(serves, (void *)(intptr_t)fd), "weald_go");
    }
}

int main(void)
{
    static char *const orders[] = {"eggs 60", "toast 40", "tea 20"};
    socklen_t len = sizeof address;
    weald_greenlet clients[3], server;
    int listener;

    must(weald_patch_library(NULL, 0), "weald_patch_library"); /* this is all */
    listener = (int)must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    must(listen(listener, 10), "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &len), "getsockname");
    server = must(weald_spawn(listens, (void *)(intptr_t)listener), "weald_spawn");
    for (int i = 0; i < 3; i++)
        clients[i] = must(weald_spawn(asks, orders[i]), "weald_spawn");
    for (int i = 0; i < 3; i++) {
        must(weald_join(clients[i], WEALD_FOREVER), "weald_join");
        weald_close(clients[i]);
    }
    weald_kill(server, 0, WEALD_FOREVER);
    weald_close(server);
    close(listener);
    return 0;
}
