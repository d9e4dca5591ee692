/* 11_group: a group of deliveries to wait for together, and a map that loses nothing.
 *
 * A group holds greenlets. Each leaves it when it is finished; weald_group_join waits until it is
 * empty. weald_group_map runs one function over an array, a greenlet for each item, and puts the
 * results back in the order of the items. One that fails does not lose the others.
 *
 * Build:  cc -std=c11 11_group.c $(pkg-config --cflags --libs weald) -o 11_group
 * Prints:
 *   3 deliveries are on their way
 *   delivered: bread
 *   delivered: milk
 *   delivered: eggs
 *   0 deliveries are on their way
 *   map: EINVAL is the first failure
 *   oak weighs 7
 *   fern: EINVAL
 *   elm weighs 4
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

enum { GOODS = 3 };

struct tree {
    const char *name;
    int weight;
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *deliver(void *what)
{
    must(weald_yield(), "yield");
    printf("delivered: %s\n", (const char *)what);
    return NULL;
}

static int weigh(void *item, void **out, void *user)
{
    struct tree *tree = item;
    int code = weald_yield();

    (void)user;
    if (code < 0)
        return code;
    if (strcmp(tree->name, "fern") == 0)
        return WEALD_EINVAL; /* is no tree */
    *out = &tree->weight;
    return 0;
}

static void deliver_all(weald_group group)
{
    char *goods[GOODS] = {"bread", "milk", "eggs"};

    for (int i = 0; i < GOODS; i++) {
        weald_greenlet delivery = must(weald_group_spawn(group, deliver, goods[i]), "group spawn");
        must(weald_close(delivery), "close"); /* the group keeps it */
    }
    printf("%d deliveries are on their way\n", (int)must(weald_group_len(group), "len"));
    must(weald_group_join(group, WEALD_FOREVER), "group join");
    printf("%d deliveries are on their way\n", (int)must(weald_group_len(group), "len"));
}

static void weigh_all(weald_group group)
{
    struct tree trees[GOODS] = {{"oak", 7}, {"fern", 0}, {"elm", 4}};
    void *items[GOODS] = {&trees[0], &trees[1], &trees[2]};
    void *weights[GOODS];
    int codes[GOODS];

    int code = weald_group_map(group, weigh, NULL, items, GOODS, weights, codes, WEALD_FOREVER);
    printf("map: %s is the first failure\n", weald_strcode(code));
    for (int i = 0; i < GOODS; i++) {
        if (codes[i] == 0)
            printf("%s weighs %d\n", trees[i].name, *(int *)weights[i]);
        else
            printf("%s: %s\n", trees[i].name, weald_strcode(codes[i]));
    }
}

int main(void)
{
    weald_group group = must(weald_group_new(), "group");

    deliver_all(group);
    weigh_all(group);
    must(weald_close(group), "close group");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
