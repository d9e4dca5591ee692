/* 24_offload: a library that blocks goes to a thread; the ticker ticks on meanwhile.
 *
 * weald_offload runs a function in a pool of threads and parks the greenlet until it is done.
 * Whoever gives up waiting gets WEALD_ETIMEDOUT, but a function that runs cannot be stopped: what
 * it uses must stay alive until it ends, which the shutdown of the pool waits for.
 *
 * Build:  cc -std=c11 24_offload.c $(pkg-config --cflags --libs weald) -pthread -o 24_offload
 * Prints:
 *   tick 1
 *   tick 2
 *   tick 3
 *   the device has slept through 3 ticks
 *   second device: ETIMEDOUT
 *   pool is down, second device ended: yes
 */
#define _POSIX_C_SOURCE 200809L
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <weald.h>

struct device {
    int wakes_at; /* so many ticks */
    int slept_through;
};

static atomic_int ticks;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

/* Runs in a thread of the pool and blocks it, as a driver or a database might. */
static void *read_device(void *arg)
{
    const struct timespec a_little = {0, 1000000};
    struct device *device = arg;

    while (atomic_load(&ticks) < device->wakes_at)
        nanosleep(&a_little, NULL);
    device->slept_through = atomic_load(&ticks);
    return device;
}

static void *tick_three_times(void *unused)
{
    for (int i = 0; i < 3; i++) {
        must(weald_sleep(WEALD_MS(5)), "sleep");
        printf("tick %d\n", atomic_load(&ticks) + 1);
        atomic_fetch_add(&ticks, 1);
    }
    return unused;
}

int main(void)
{
    struct device first = {.wakes_at = 3}, second = {.wakes_at = 4};
    weald_threadpool pool = must(weald_threadpool_new(2), "threadpool");
    void *device;

    must(weald_go(tick_three_times, NULL), "go");
    must(weald_offload(pool, read_device, &first, &device, WEALD_FOREVER), "offload");
    printf("the device has slept through %d ticks\n", ((struct device *)device)->slept_through);

    int code = weald_offload(pool, read_device, &second, &device, weald_after(WEALD_MS(20)));
    printf("second device: %s\n", weald_strcode(code));
    atomic_fetch_add(&ticks, 1);
    must(weald_threadpool_shutdown(pool, WEALD_FOREVER), "threadpool shutdown");
    printf("pool is down, second device ended: %s\n", second.slept_through == 4 ? "yes" : "no");

    must(weald_close(pool), "close pool");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
