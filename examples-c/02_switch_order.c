/* 02_switch_order: two crafts interleave, because each one yields where it would only wait.
 *
 * Greenlets never interrupt each other: one runs until it waits or yields. weald_yield puts the
 * caller behind everything that is ready, and the ready ones run first in, first out. So the order
 * of the lines below is not luck. It is the same in every run.
 *
 * Build:  cc -std=c11 02_switch_order.c $(pkg-config --cflags --libs weald) -o 02_switch_order
 * Prints:
 *   baker: knead the dough
 *   painter: paint the first coat
 *   baker: shape the loaves
 *   painter: sand it down
 *   baker: bake them
 *   painter: paint the second coat
 *   both are done
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { STEPS = 3 };

struct craft {
    const char *who;
    const char *steps[STEPS];
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *work(void *arg)
{
    const struct craft *craft = arg;

    for (int i = 0; i < STEPS; i++) {
        printf("%s: %s\n", craft->who, craft->steps[i]);
        must(weald_yield(), "yield");
    }
    return NULL;
}

int main(void)
{
    struct craft baker = {"baker", {"knead the dough", "shape the loaves", "bake them"}};
    struct craft painter = {
        "painter", {"paint the first coat", "sand it down", "paint the second coat"}};
    weald_greenlet crafts[2];

    crafts[0] = must(weald_spawn(work, &baker), "spawn baker");
    crafts[1] = must(weald_spawn(work, &painter), "spawn painter");
    must(weald_joinall(crafts, 2, 0, 0, WEALD_FOREVER), "joinall");
    puts("both are done");

    must(weald_close(crafts[0]), "close baker");
    must(weald_close(crafts[1]), "close painter");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
