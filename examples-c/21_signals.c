/* 21_signals: orderly exit: SIGTERM closes the door, what is inside is still served.
 *
 * weald_signal_wait parks a greenlet until one of some signals comes, so the answer to a signal is
 * plain code, free to wait and to lock, and no handler. From then on these signals are caught;
 * weald_signal_release lets them do again what they did before, so that a second SIGTERM would end
 * a shutdown that hangs. A service waits so in main; here its clerk raises SIGTERM to have one.
 *
 * Build:  cc -std=c11 21_signals.c $(pkg-config --cflags --libs weald) -o 21_signals
 * Prints:
 *   served order 1
 *   served order 2
 *   served order 3
 *   served order 4
 *   main: closed by SIGTERM, all orders served
 *   door: order 5 came too late
 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { ORDERS = 4 };

static weald_queue orders;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

/* Ends when the queue is shut and empty. */
static void *cook(void *unused)
{
    void *order;
    int code;

    while ((code = weald_queue_get(orders, &order, WEALD_FOREVER)) == 0) {
        must(weald_sleep(WEALD_MS(5)), "sleep");
        printf("served order %d\n", *(int *)order);
    }
    must(code == WEALD_EPIPE ? 0 : code, "get");
    return unused;
}

static void *clerk(void *numbers)
{
    for (int i = 0; i < ORDERS; i++)
        must(weald_queue_put(orders, (int *)numbers + i, WEALD_FOREVER), "put");
    must(raise(SIGTERM) == 0 ? 0 : WEALD_EINVAL, "raise");
    return NULL;
}

static const char *signal_name(int signo)
{
    return signo == SIGTERM ? "SIGTERM" : signo == SIGINT ? "SIGINT" : "SIGQUIT";
}

int main(void)
{
    const int to_end[] = {SIGTERM, SIGINT, SIGQUIT};
    int numbers[ORDERS + 1] = {1, 2, 3, 4, 5};

    orders = must(weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, NULL), "queue");
    weald_greenlet cooks = must(weald_spawn(cook, NULL), "spawn cook");
    weald_greenlet clerks = must(weald_spawn(clerk, numbers), "spawn clerk");

    int signo = (int)must(weald_signal_wait(to_end, 3, WEALD_FOREVER), "signal wait");
    must(weald_signal_release(to_end, 3), "signal release");
    must(weald_queue_shut(orders), "shut");
    must(weald_join(cooks, WEALD_FOREVER), "join cook");
    must(weald_join(clerks, WEALD_FOREVER), "join clerk");
    printf("main: closed by %s, all orders served\n", signal_name(signo));

    int code = weald_queue_put(orders, &numbers[ORDERS], WEALD_NOW);
    printf("door: order %d %s\n", numbers[ORDERS],
           code == WEALD_EPIPE ? "came too late" : "came in");

    must(weald_close(cooks), "close cook");
    must(weald_close(clerks), "close clerk");
    must(weald_close(orders), "close queue");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
