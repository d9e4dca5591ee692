/* 17_kill_cleanup: a writer is killed in its sleep and still saves what it has.
 *
 * A kill unwinds nothing: the current wait of the greenlet, and every later one, returns
 * WEALD_ECANCELED, and its function leaves in its own way. Cleaning up that has to wait itself
 * goes between weald_shield(1) and weald_shield(0). A greenlet killed before it ran never runs;
 * its argument is destroyed all the same.
 *
 * Build:  cc -std=c11 17_kill_cleanup.c $(pkg-config --cflags --libs weald) -o 17_kill_cleanup
 * Prints:
 *   writer: wrote 3 lines
 *   main: kill
 *   writer: sleep returned ECANCELED
 *   writer: so does another sleep, ECANCELED
 *   writer: 3 lines are saved
 *   main: the writer has ended, its kill reason is ECANCELED
 *   main: a second kill does no harm
 *   the reader's argument is destroyed
 *   main: the reader has ended and never ran
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void save(int lines)
{
    must(weald_shield(1), "shield");
    must(weald_sleep(WEALD_MS(5)), "sleep in the shield"); /* stands for a slow disk */
    printf("writer: %d lines are saved\n", lines);
    must(weald_shield(0), "unshield");
}

static void *writer(void *unused)
{
    int lines = 3;

    printf("writer: wrote %d lines\n", lines);
    int code = weald_sleep(WEALD_SEC(1000));
    printf("writer: sleep returned %s\n", weald_strcode(code));
    code = weald_sleep(WEALD_SEC(1000));
    printf("writer: so does another sleep, %s\n", weald_strcode(code));
    save(lines);
    return unused;
}

static void *reader(void *unused)
{
    puts("reader: this is never printed");
    return unused;
}

static void destroy(void *arg)
{
    free(arg);
    puts("the reader's argument is destroyed");
}

static void kill_the_writer(void)
{
    weald_greenlet g = must(weald_spawn(writer, NULL), "spawn");

    must(weald_yield(), "yield");
    puts("main: kill");
    must(weald_kill(g, WEALD_ECANCELED, WEALD_FOREVER), "kill");
    printf("main: the writer has %s, its kill reason is %s\n",
           must(weald_ready(g), "ready") ? "ended" : "not ended",
           weald_strcode(weald_kill_reason(g)));
    must(weald_kill(g, WEALD_ECANCELED, WEALD_FOREVER), "second kill");
    puts("main: a second kill does no harm");
    must(weald_close(g), "close");
}

static void kill_the_unborn(void)
{
    weald_spawn_options options = {.size = sizeof options, .destroy = destroy};
    void *arg = malloc(16);

    must(arg ? 0 : WEALD_ENOMEM, "malloc");
    weald_greenlet g = must(weald_spawn_with(reader, arg, &options), "spawn");
    must(weald_kill(g, WEALD_ECANCELED, WEALD_FOREVER), "kill");
    printf("main: the reader has %s and never ran\n",
           must(weald_ready(g), "ready") ? "ended" : "not ended");
    must(weald_close(g), "close");
}

int main(void)
{
    kill_the_writer();
    kill_the_unborn();
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
