/* 01_spawn_join: count the words of three lines, one greenlet each, and collect the counts.
 *
 * A greenlet is a function with a stack of its own. weald_spawn makes it ready and returns at once;
 * it runs when the caller waits for something, here in weald_joinall. weald_get hands out what the
 * function returned. A greenlet's handle is closed like every other handle: with weald_close.
 *
 * Build:  cc -std=c11 01_spawn_join.c $(pkg-config --cflags --libs weald) -o 01_spawn_join
 * Prints:
 *   three spawned, none has run
 *   counting: a wood of many small trees
 *   counting: one hub to wake them
 *   counting: green
 *   6 + 5 + 1 = 12 words
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { LINES = 3 };

struct line {
    const char *text;
    int words;
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *count_words(void *arg)
{
    struct line *line = arg;
    int inside = 0;

    printf("counting: %s\n", line->text);
    for (const char *c = line->text; *c != '\0'; c++) {
        if (*c != ' ' && !inside)
            line->words++;
        inside = *c != ' ';
    }
    return &line->words;
}

int main(void)
{
    struct line lines[LINES] = {
        {"a wood of many small trees", 0}, {"one hub to wake them", 0}, {"green", 0}};
    weald_greenlet counters[LINES];
    int total = 0;

    for (int i = 0; i < LINES; i++)
        counters[i] = must(weald_spawn(count_words, &lines[i]), "spawn");
    puts("three spawned, none has run");
    must(weald_joinall(counters, LINES, 0, 0, WEALD_FOREVER), "joinall");

    for (int i = 0; i < LINES; i++) {
        void *words;

        must(weald_get(counters[i], &words, WEALD_FOREVER), "get");
        total += *(int *)words;
        printf("%d%s", *(int *)words, i + 1 < LINES ? " + " : " = ");
        must(weald_close(counters[i]), "close");
    }
    printf("%d words\n", total);
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
