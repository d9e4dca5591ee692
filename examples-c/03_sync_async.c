/* 03_sync_async: the same timed tasks, first one after the other, then all at once.
 *
 * One after the other they end in the order of the list and take the sum of their times. As
 * greenlets they end in the order of their times, and take only as long as the longest.
 *
 * Build:  cc -std=c11 03_sync_async.c $(pkg-config --cflags --libs weald) -o 03_sync_async
 * Prints:
 *   one after the other:
 *     backup is done
 *     mail is sent
 *     report is printed
 *   all at once:
 *     mail is sent
 *     report is printed
 *     backup is done
 *   all at once was faster: yes
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { TASKS = 3 };

struct task {
    const char *outcome;
    int64_t takes_ns;
};

static struct task tasks[TASKS] = {
    {"backup is done", WEALD_MS(90)},
    {"mail is sent", WEALD_MS(30)},
    {"report is printed", WEALD_MS(60)},
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *run_task(void *arg)
{
    const struct task *task = arg;

    must(weald_sleep(task->takes_ns), "sleep");
    printf("  %s\n", task->outcome);
    return NULL;
}

static int64_t one_after_the_other(void)
{
    int64_t start = weald_now();

    puts("one after the other:");
    for (int i = 0; i < TASKS; i++)
        run_task(&tasks[i]);
    return weald_now() - start;
}

static int64_t all_at_once(void)
{
    int64_t start = weald_now();
    weald_greenlet running[TASKS];

    puts("all at once:");
    for (int i = 0; i < TASKS; i++)
        running[i] = must(weald_spawn(run_task, &tasks[i]), "spawn");
    must(weald_joinall(running, TASKS, 0, 0, WEALD_FOREVER), "joinall");
    for (int i = 0; i < TASKS; i++)
        must(weald_close(running[i]), "close");
    return weald_now() - start;
}

int main(void)
{
    int64_t in_turn_ns = one_after_the_other();
    int64_t at_once_ns = all_at_once();

    printf("all at once was faster: %s\n", at_once_ns < in_turn_ns ? "yes" : "no");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
