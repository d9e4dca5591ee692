/* 25_cores: one hub per worker thread, fed from a shared queue, to use more than one core.
 *
 * A greenlet never leaves its thread. For more cores there are more hubs: weald_workers_start
 * makes threads with a hub each, weald_workers_spawn starts greenlets there. Objects made with
 * WEALD_SHARED work between hubs: here a bounded queue, which parks the feeder while it is full
 * and the takers while it is empty. Who takes which number is up to the machine; the sum is not.
 *
 * Build:  cc -std=c11 25_cores.c $(pkg-config --cflags --libs weald) -pthread -o 25_cores
 * Prints:
 *   numbers taken: 1000
 *   numbers taken twice: 0
 *   divisors in all: 7069
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { CORES = 2, TAKERS = 4, NUMBERS = 1000 };

struct number {
    int value, divisors;
    atomic_int taken;
};

static weald_queue numbers;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *take(void *unused)
{
    void *item;
    int code;

    while ((code = weald_queue_get(numbers, &item, WEALD_FOREVER)) == 0) {
        struct number *number = item;

        atomic_fetch_add(&number->taken, 1);
        for (int d = 1; d <= number->value; d++)
            number->divisors += number->value % d == 0;
    }
    must(code == WEALD_EPIPE ? 0 : code, "get");
    return unused;
}

static void feed(struct number *all)
{
    for (int i = 0; i < NUMBERS; i++) {
        all[i].value = i + 1;
        must(weald_queue_put(numbers, &all[i], WEALD_FOREVER), "put");
    }
    must(weald_queue_shut(numbers), "shut");
}

int main(void)
{
    static struct number all[NUMBERS];
    int taken = 0, twice = 0, divisors = 0;

    numbers = must(weald_queue_new(WEALD_FIFO | WEALD_SHARED, 16, NULL), "queue");
    weald_workers workers = must(weald_workers_start(CORES), "start workers");
    for (size_t i = 0; i < TAKERS; i++)
        must(weald_workers_spawn(workers, i % CORES, take, NULL), "spawn taker");
    feed(all);
    must(weald_workers_join(workers, WEALD_FOREVER), "join workers");

    for (int i = 0; i < NUMBERS; i++) {
        taken += atomic_load(&all[i].taken) > 0;
        twice += atomic_load(&all[i].taken) > 1;
        divisors += all[i].divisors;
    }
    printf("numbers taken: %d\n", taken);
    printf("numbers taken twice: %d\n", twice);
    printf("divisors in all: %d\n", divisors);

    must(weald_close(workers), "close workers");
    must(weald_close(numbers), "close queue");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
