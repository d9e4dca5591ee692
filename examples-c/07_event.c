/* 07_event: readers wait until a table is loaded; one set wakes them all, in the order they came.
 *
 * An event is a flag to wait for. It stays set until it is cleared, so who comes late does not
 * wait at all. Every wait takes a deadline: an absolute time, made with weald_after.
 *
 * Build:  cc -std=c11 07_event.c $(pkg-config --cflags --libs weald) -o 07_event
 * Prints:
 *   loader: reading the table
 *   ann wants oak
 *   ben wants elm
 *   cat wants ash
 *   loader: here it is
 *   ann finds 14 oak
 *   ben finds 3 elm
 *   cat finds 8 ash
 *   main finds it at once
 *   main waits for the next table: ETIMEDOUT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

struct reader {
    const char *who, *tree;
};

static struct {
    const char *tree;
    int count;
} table[3];

static weald_event loaded;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *load(void *unused)
{
    puts("loader: reading the table");
    must(weald_sleep(WEALD_MS(30)), "sleep"); /* stands for a slow file */
    table[0].tree = "ash", table[0].count = 8;
    table[1].tree = "elm", table[1].count = 3;
    table[2].tree = "oak", table[2].count = 14;
    puts("loader: here it is");
    must(weald_event_set(loaded), "set");
    return unused;
}

static void *look_up(void *arg)
{
    const struct reader *reader = arg;

    printf("%s wants %s\n", reader->who, reader->tree);
    must(weald_event_wait(loaded, WEALD_FOREVER), "wait");
    for (int i = 0; i < 3; i++)
        if (strcmp(table[i].tree, reader->tree) == 0)
            printf("%s finds %d %s\n", reader->who, table[i].count, table[i].tree);
    return NULL;
}

int main(void)
{
    struct reader readers[3] = {{"ann", "oak"}, {"ben", "elm"}, {"cat", "ash"}};
    weald_greenlet all[4];

    loaded = must(weald_event_new(0), "event");
    all[0] = must(weald_spawn(load, NULL), "spawn loader");
    for (int i = 0; i < 3; i++)
        all[i + 1] = must(weald_spawn(look_up, &readers[i]), "spawn reader");
    must(weald_joinall(all, 4, 0, 0, WEALD_FOREVER), "joinall");

    must(weald_event_wait(loaded, WEALD_NOW), "wait now");
    puts("main finds it at once");
    must(weald_event_clear(loaded), "clear");
    int code = weald_event_wait(loaded, weald_after(WEALD_MS(10)));
    printf("main waits for the next table: %s\n", weald_strcode(code));

    for (int i = 0; i < 4; i++)
        must(weald_close(all[i]), "close greenlet");
    must(weald_close(loaded), "close event");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
