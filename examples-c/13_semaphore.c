/* 13_semaphore: five visitors share two boats.
 *
 * A semaphore holds permits: acquire takes one or waits, first come, first served; release gives
 * one back and wakes the next. A bounded semaphore also notices a release too many.
 *
 * Build:  cc -std=c11 13_semaphore.c $(pkg-config --cflags --libs weald) -o 13_semaphore
 * Prints:
 *   visitor 1 rows out, 1 on the lake
 *   visitor 2 rows out, 2 on the lake
 *   visitor 1 is back
 *   visitor 2 is back
 *   visitor 3 rows out, 1 on the lake
 *   visitor 4 rows out, 2 on the lake
 *   visitor 3 is back
 *   visitor 4 is back
 *   visitor 5 rows out, 1 on the lake
 *   visitor 5 is back
 *   a third boat brought back: EOVERFLOW
 *   boats at the pier: 2
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { VISITORS = 5, BOATS = 2 };

static weald_semaphore boats;
static int on_the_lake;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *visit(void *arg)
{
    int visitor = *(int *)arg;

    must(weald_semaphore_acquire(boats, WEALD_FOREVER), "acquire");
    on_the_lake++;
    printf("visitor %d rows out, %d on the lake\n", visitor, on_the_lake);
    must(weald_yield(), "yield");
    on_the_lake--;
    printf("visitor %d is back\n", visitor);
    must(weald_semaphore_release(boats), "release");
    return NULL;
}

int main(void)
{
    int numbers[VISITORS];
    weald_greenlet visitors[VISITORS];

    boats = must(weald_bounded_semaphore_new(BOATS), "semaphore");
    for (int i = 0; i < VISITORS; i++) {
        numbers[i] = i + 1;
        visitors[i] = must(weald_spawn(visit, &numbers[i]), "spawn");
    }
    must(weald_joinall(visitors, VISITORS, 0, 0, WEALD_FOREVER), "joinall");

    int code = weald_semaphore_release(boats);
    printf("a third boat brought back: %s\n", weald_strcode(code));
    printf("boats at the pier: %d\n", (int)must(weald_semaphore_count(boats), "count"));

    for (int i = 0; i < VISITORS; i++)
        must(weald_close(visitors[i]), "close greenlet");
    must(weald_close(boats), "close semaphore");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
