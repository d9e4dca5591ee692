/* 39_messages: two forked workers count words; messages go to them and come back.
 *
 * weald_process_fork forks a child that runs a function with its end of a channel. A channel
 * carries whole messages, and each side waits for them like for anything else: its other greenlets
 * go on. Closing this end is the end of the child's input; its exit status is what the function
 * returned.
 *
 * Build:  cc -std=c11 39_messages.c $(pkg-config --cflags --libs weald) -o 39_messages
 * Prints:
 *   "many small green things" has 4 words, says worker 1
 *   "on common ground" has 3 words, says worker 2
 *   "" has 0 words, says worker 1
 *   "one at a time" has 4 words, says worker 2
 *   worker 1 answered 2 times
 *   worker 2 answered 2 times
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

enum { WORKERS = 2, LINES = 4 };

static const char *const lines[LINES] = {"many small green things", "on common ground", "",
                                         "one at a time"};

struct worker {
    weald_process process;
    weald_channel channel;
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

/* Runs in the child, until the parent closes its end; the exit status is how often it answered. */
static int count_words(weald_channel channel, void *unused)
{
    int answers = 0, code;
    void *text;
    size_t len;

    (void)unused;
    while ((code = weald_channel_receive(channel, &text, &len, WEALD_FOREVER)) == 0) {
        int words = 0;
        for (const char *word = strtok(text, " "); word; word = strtok(NULL, " "))
            words++;
        must(weald_channel_send(channel, &words, sizeof words, WEALD_FOREVER), "answer");
        weald_free(text);
        answers++;
    }
    must(code == WEALD_EPIPE ? 0 : code, "receive a line");
    return answers;
}

int main(void)
{
    struct worker workers[WORKERS];

    for (int i = 0; i < WORKERS; i++) {
        struct worker *w = &workers[i];
        w->process = must(weald_process_fork(count_words, NULL, &w->channel, 0), "fork");
    }
    for (int i = 0; i < LINES; i++) {
        weald_channel channel = workers[i % WORKERS].channel;
        must(weald_channel_send(channel, lines[i], strlen(lines[i]), WEALD_FOREVER), "send");
    }
    for (int i = 0; i < LINES; i++) {
        weald_channel channel = workers[i % WORKERS].channel;
        void *words;
        size_t len;

        must(weald_channel_receive(channel, &words, &len, weald_after(WEALD_SEC(10))), "receive");
        printf("\"%s\" has %d words, says worker %d\n", lines[i], *(int *)words, i % WORKERS + 1);
        weald_free(words);
    }

    for (int i = 0; i < WORKERS; i++) {
        int status;

        must(weald_close(workers[i].channel), "close channel");
        must(weald_process_wait(workers[i].process, &status, WEALD_FOREVER), "join");
        printf("worker %d answered %d times\n", i + 1, weald_exit_code(status));
        must(weald_close(workers[i].process), "close process");
    }
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
