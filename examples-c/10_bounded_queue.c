/* 10_bounded_queue: a queue of three makes the boss wait; workers quit when nothing comes in time.
 *
 * A full queue parks whoever puts, so the boss can never run away from the workers. An empty one
 * parks whoever gets, until a deadline here: then the get returns WEALD_ETIMEDOUT.
 *
 * Build:  cc -std=c11 10_bounded_queue.c $(pkg-config --cflags --libs weald) -o 10_bounded_queue
 * Prints:
 *   try a fourth into the full queue: EAGAIN
 *   steve got task 1          (then john 2, bob 3)
 *   boss: first half is given out
 *   steve got task 4          (then john 5, bob 6, steve 7, john 8, bob 9)
 *   boss: second half is given out
 *   steve got task 10         (then john 11, bob 12)
 *   steve has waited enough   (then john, bob)
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { TASKS = 12, WORKERS = 3, CAPACITY = 3 };

static weald_queue queue;
static int tasks[TASKS + 1];

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void give_out(int first, int last)
{
    for (int i = first; i <= last; i++) {
        if (i == CAPACITY + 1)
            printf("try a fourth into the full queue: %s\n",
                   weald_strcode(weald_queue_put(queue, &tasks[i], WEALD_NOW)));
        must(weald_queue_put(queue, &tasks[i], WEALD_FOREVER), "put");
    }
}

static void *boss(void *unused)
{
    give_out(1, TASKS / 2);
    puts("boss: first half is given out");
    give_out(TASKS / 2 + 1, TASKS);
    puts("boss: second half is given out");
    return unused;
}

static void *worker(void *who)
{
    void *task;
    int code;

    while ((code = weald_queue_get(queue, &task, weald_after(WEALD_MS(100)))) == 0) {
        printf("%s got task %d\n", (const char *)who, *(int *)task);
        must(weald_yield(), "yield"); /* stands for the work */
    }
    must(code == WEALD_ETIMEDOUT ? 0 : code, "get");
    printf("%s has waited enough\n", (const char *)who);
    return NULL;
}

int main(void)
{
    char *names[WORKERS] = {"steve", "john", "bob"};
    weald_greenlet all[WORKERS + 1];

    for (int i = 1; i <= TASKS; i++)
        tasks[i] = i;
    queue = must(weald_queue_new(WEALD_FIFO, CAPACITY, NULL), "queue");
    all[0] = must(weald_spawn(boss, NULL), "spawn boss");
    for (int i = 0; i < WORKERS; i++)
        all[i + 1] = must(weald_spawn(worker, names[i]), "spawn worker");
    must(weald_joinall(all, WORKERS + 1, 0, 0, WEALD_FOREVER), "joinall");

    for (int i = 0; i < WORKERS + 1; i++)
        must(weald_close(all[i]), "close greenlet");
    must(weald_close(queue), "close queue");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
