/* 05_poll_select: three greenlets sit in select and poll while a fourth one works.
 *
 * weald_select and weald_poll are select(2) and poll(2) with a difference: they park the greenlet
 * that calls them, not the thread. So there can be many of them, and work goes on meanwhile.
 *
 * Build:  cc -std=c11 05_poll_select.c $(pkg-config --cflags --libs weald) -o 05_poll_select
 * Prints:
 *   selecter: waiting
 *   poller: waiting
 *   patience: waiting for nothing
 *   worker: writes to the selecter
 *   selecter: 1 ready, got 's'
 *   worker: writes to the poller's second pipe
 *   poller: 1 ready, first no, second yes, got 'p'
 *   patience: 0 ready, the time is over
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <weald.h>

static int pipes[3][2]; /* the selecter's, and two of the poller */
static weald_greenlet all[4];

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static char read_byte(int fd)
{
    char byte;

    must(read(fd, &byte, 1) == 1 ? 0 : WEALD_EPIPE, "read");
    return byte;
}

static void *selecter(void *unused)
{
    int fd = pipes[0][0];
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd, &readable);
    puts("selecter: waiting");
    int ready = must(weald_select(fd + 1, &readable, NULL, NULL, WEALD_FOREVER), "select");
    printf("selecter: %d ready, got '%c'\n", ready, read_byte(fd));
    return unused;
}

static void *poller(void *unused)
{
    struct pollfd fds[2] = {{pipes[1][0], POLLIN, 0}, {pipes[2][0], POLLIN, 0}};

    puts("poller: waiting");
    int ready = must(weald_poll(fds, 2, WEALD_FOREVER), "poll");
    printf("poller: %d ready, first %s, second %s, got '%c'\n", ready,
           fds[0].revents ? "yes" : "no", fds[1].revents ? "yes" : "no", read_byte(fds[1].fd));
    return unused;
}

static void *patience(void *unused)
{
    puts("patience: waiting for nothing");
    int ready = must(weald_poll(NULL, 0, weald_after(WEALD_MS(250))), "poll nothing");
    printf("patience: %d ready, the time is over\n", ready);
    return unused;
}

static void *worker(void *unused)
{
    puts("worker: writes to the selecter");
    must(write(pipes[0][1], "s", 1) == 1 ? 0 : WEALD_EPIPE, "write");
    must(weald_join(all[0], WEALD_FOREVER), "join selecter");
    puts("worker: writes to the poller's second pipe");
    must(write(pipes[2][1], "p", 1) == 1 ? 0 : WEALD_EPIPE, "write");
    return unused;
}

int main(void)
{
    weald_fn bodies[4] = {selecter, poller, patience, worker};

    for (int i = 0; i < 3; i++)
        must(pipe(pipes[i]) ? -errno : 0, "pipe");
    for (int i = 0; i < 4; i++)
        all[i] = must(weald_spawn(bodies[i], NULL), "spawn");
    must(weald_joinall(all, 4, 0, 0, WEALD_FOREVER), "joinall");
    for (int i = 0; i < 4; i++)
        must(weald_close(all[i]), "close");
    for (int i = 0; i < 3; i++)
        must(close(pipes[i][0]) || close(pipes[i][1]) ? -errno : 0, "close pipe");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
