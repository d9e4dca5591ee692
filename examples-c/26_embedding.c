/* 26_embedding: the hub as a guest in a loop that is not ours, such as a window system's.
 *
 * The host waits for its own descriptors, for weald_hub_fd and no longer than until
 * weald_hub_next_deadline, then gives the hub a turn with weald_hub_step. Greenlets sleep, read
 * and wait as ever, and the host never blocks for them.
 *
 * Build:  cc -std=c11 26_embedding.c $(pkg-config --cflags --libs weald) -o 26_embedding
 * Prints:
 *   reader: hello
 *   ticker: 1
 *   ticker: 2
 *   ticker: 3
 *   host: key 'q', leaving
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <weald.h>

static int keys[2], wire[2]; /* the host's keyboard; what the reader listens to */

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

static void *ticker(void *unused)
{
    for (int i = 1; i <= 3; i++) {
        must(weald_sleep(WEALD_MS(10)), "sleep");
        printf("ticker: %d\n", i);
    }
    sys(write(keys[1], "q", 1), "press q");
    return unused;
}

static void *reader(void *unused)
{
    char text[16] = "";

    must(weald_wait_read(wire[0], WEALD_FOREVER), "wait");
    sys(read(wire[0], text, sizeof text - 1), "read");
    printf("reader: %s\n", text);
    must(weald_go(ticker, NULL), "go");
    return unused;
}

/* What poll(2) wants: milliseconds, rounded up so as not to come too early; -1 for ever. */
static int milliseconds_left(void)
{
    int64_t deadline = weald_hub_next_deadline();

    if (deadline == WEALD_FOREVER)
        return -1;
    int64_t left_ns = deadline == WEALD_NOW ? 0 : deadline - weald_now();
    return left_ns <= 0 ? 0 : (int)((left_ns + WEALD_MS(1) - 1) / WEALD_MS(1));
}

static void host_loop(void)
{
    struct pollfd fds[2] = {{keys[0], POLLIN, 0}, {(int)must(weald_hub_fd(), "hub fd"), POLLIN, 0}};
    char key = 0;

    while (key != 'q') {
        sys(poll(fds, 2, milliseconds_left()), "poll");
        if (fds[0].revents & POLLIN) {
            sys(read(keys[0], &key, 1), "read key");
            printf("host: key '%c', leaving\n", key);
        }
        must(weald_hub_step(), "hub step");
    }
}

int main(void)
{
    sys(pipe(keys), "pipe");
    sys(pipe(wire), "pipe");
    must(weald_go(reader, NULL), "go");
    sys(write(wire[1], "hello", 5), "write");
    host_loop();
    sys(close(keys[0]) | close(keys[1]) | close(wire[0]) | close(wire[1]), "close pipes");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
