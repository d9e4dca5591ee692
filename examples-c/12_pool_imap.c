/* 12_pool_imap: a pool maps over a stream: results in order, or as they come, the same every time.
 *
 * A pool is a group of limited size: no more than so many items are in work at once. imap hands
 * out the results in the order of the items, imap_unordered in the order they are ready. Unordered
 * is not random: greenlets switch only where they wait or yield, first in, first out, so four runs
 * give the same order four times. Threads promise nothing of the kind.
 *
 * Build:  cc -std=c11 12_pool_imap.c $(pkg-config --cflags --libs weald) -o 12_pool_imap
 * Prints:
 *   ordered:   0 1 2 3
 *   unordered: 3 2 1 0
 *   four runs in the same order: yes
 *   which is the order of the items: no
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

enum { ITEMS = 10, RUNS = 4 };

typedef weald_handle (*imap_fn)(weald_group, weald_map_fn, void *, weald_next_fn, void *, size_t);

struct source {
    int items[ITEMS];
    int next, end;
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static int next_item(void **item, void *arg)
{
    struct source *source = arg;

    if (source->next == source->end)
        return 0;
    source->items[source->next] = source->next;
    *item = &source->items[source->next++];
    return 1;
}

/* The first items take the longest. */
static int sleepy(void *item, void **out, void *unused)
{
    (void)unused;
    *out = item;
    return weald_sleep(WEALD_MS(40 * (3 - *(int *)item)));
}

/* Between none and six yields, in no obvious order. */
static int restless(void *item, void **out, void *unused)
{
    (void)unused;
    for (int i = (*(int *)item * 5 + 3) % 7; i > 0; i--)
        must(weald_yield(), "yield");
    *out = item;
    return 0;
}

static void run(imap_fn imap, weald_map_fn fn, int count, int *order)
{
    struct source source = {.next = 0, .end = count};
    weald_group pool = must(weald_pool_new(4), "pool");
    weald_handle results = must(imap(pool, fn, NULL, next_item, &source, 0), "imap");
    void *result;

    while (must(weald_imap_next(results, &result, NULL, WEALD_FOREVER), "imap next") == 1)
        *order++ = *(int *)result;
    must(weald_close(results), "close imap");
    must(weald_close(pool), "close pool");
}

int main(void)
{
    int few[4], order[RUNS][ITEMS], same = 1, rising = 1;

    run(weald_group_imap, sleepy, 4, few);
    printf("ordered:   %d %d %d %d\n", few[0], few[1], few[2], few[3]);
    run(weald_group_imap_unordered, sleepy, 4, few);
    printf("unordered: %d %d %d %d\n", few[0], few[1], few[2], few[3]);
    for (int i = 0; i < RUNS; i++) {
        run(weald_group_imap_unordered, restless, ITEMS, order[i]);
        same = same && memcmp(order[i], order[0], sizeof order[0]) == 0;
    }
    for (int i = 0; i < ITEMS; i++)
        rising = rising && order[0][i] == i;
    printf("four runs in the same order: %s\n", same ? "yes" : "no");
    printf("which is the order of the items: %s\n", rising ? "yes" : "no");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
