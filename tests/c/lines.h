/* Lines that come a few bytes at a time to a reader who is killed again and again: none is lost or cut. */
#ifndef WEALD_TEST_LINES_H
#define WEALD_TEST_LINES_H

#include "greenlets.h"

struct tally {
    weald_stream s;
    long lines, wrong;
};

static void *count_lines(void *arg)
{
    struct tally *t = arg;
    const char *line;
    size_t len;
    int code;

    while ((code = weald_stream_line(t->s, &line, &len, 100, WEALD_FOREVER)) == 1) {
        t->lines++;
        t->wrong += strcmp(line, "twelve chars") != 0 || len != 12;
    }
    return (void *)(intptr_t)code;
}

/* `put` sends bytes at once, and `end` says that no more come. */
static TEST_UNUSED void lines_survive_kills(weald_stream reader, void (*put)(const char *bytes, size_t n),
                                            void (*end)(void), long rounds)
{
    /* The text without end, as far as it is put at a time. */
    static const char text[] = "twelve chars\ntwelve chars\n";
    struct tally t = {reader, 0, 0};
    size_t sent = 0;
    weald_greenlet g;

    for (long i = 0; i < rounds; i++) {
        size_t n = (size_t)(i % 5) + 1;

        g = spawned(count_lines, &t);
        CHECK_EQ(weald_yield(), 0);
        put(text + sent % 13, n);
        sent += n;
        if (i % 2)
            CHECK_EQ(weald_sleep(0), 0);
        if (i % 3 == 0)
            CHECK_EQ(weald_sleep(WEALD_US(1)), 0);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(outcome(g), WEALD_ECANCELED);
    }
    end();
    g = spawned(count_lines, &t);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(t.lines, (long)((sent + 12) / 13));
    CHECK_LE(t.wrong, 1); /* the last one may have been cut by its writer */
}

#endif
