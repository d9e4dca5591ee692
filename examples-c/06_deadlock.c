/* 06_deadlock: two bank transfers lock two accounts in opposite order, and the hub says so.
 *
 * When the main greenlet waits and nothing can ever wake it, the call does not hang: it returns
 * WEALD_EDEADLK, and a report tells who waits for what. By default the report goes to stderr; here
 * a handler keeps it. Then the knot is cut: weald_interrupt makes one transfer's wait return.
 *
 * Build:  cc -std=c11 06_deadlock.c $(pkg-config --cflags --libs weald) -o 06_deadlock
 * Prints:
 *   transfer ann to bob: has locked ann
 *   transfer bob to ann: has locked bob
 *   joinall: EDEADLK
 *   the report names "ann to bob": yes
 *   the report names "bob to ann": yes
 *   transfer ann to bob: gives up, ECANCELED
 *   transfer bob to ann: done
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

struct account {
    const char *owner;
    weald_lock lock;
};

struct transfer {
    const char *name;
    struct account *from, *to;
};

static char report[4096];

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void keep_report(const char *text, void *user)
{
    size_t used = strlen(report);

    (void)user;
    snprintf(report + used, sizeof report - used, "%s", text);
}

static void *move_money(void *arg)
{
    struct transfer *t = arg;

    must(weald_lock_acquire(t->from->lock, WEALD_FOREVER), "lock from");
    printf("transfer %s: has locked %s\n", t->name, t->from->owner);
    must(weald_yield(), "yield");
    int code = weald_lock_acquire(t->to->lock, WEALD_FOREVER);
    if (code < 0) {
        printf("transfer %s: gives up, %s\n", t->name, weald_strcode(code));
    } else {
        printf("transfer %s: done\n", t->name);
        must(weald_lock_release(t->to->lock), "unlock to");
    }
    must(weald_lock_release(t->from->lock), "unlock from");
    return NULL;
}

int main(void)
{
    struct account ann = {"ann", must(weald_lock_new(), "lock")};
    struct account bob = {"bob", must(weald_lock_new(), "lock")};
    struct transfer transfers[2] = {{"ann to bob", &ann, &bob}, {"bob to ann", &bob, &ann}};
    weald_greenlet running[2];

    must(weald_set_report_handler(keep_report, NULL), "report handler");
    for (int i = 0; i < 2; i++) {
        weald_spawn_options options = {.size = sizeof options, .name = transfers[i].name};
        running[i] = must(weald_spawn_with(move_money, &transfers[i], &options), "spawn");
    }
    printf("joinall: %s\n", weald_strcode((int)weald_joinall(running, 2, 0, 0, WEALD_FOREVER)));
    for (int i = 0; i < 2; i++)
        printf("the report names \"%s\": %s\n", transfers[i].name,
               strstr(report, transfers[i].name) ? "yes" : "no");

    must(weald_interrupt(running[0], WEALD_ECANCELED), "interrupt");
    must(weald_joinall(running, 2, 0, 0, WEALD_FOREVER), "joinall");
    must(weald_close(running[0]) | weald_close(running[1]), "close greenlets");
    must(weald_close(ann.lock) | weald_close(bob.lock), "close locks");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
