/* 38_cron: five ticks while a command sleeps; a program that talks; one that is given up.
 *
 * weald_process_spawn starts a program, weald_process_communicate talks to it to its end, while the
 * other greenlets of this thread go on. weald_system is system(3) in one call, with a deadline.
 *
 * Build:  cc -std=c11 38_cron.c $(pkg-config --cflags --libs weald) -o 38_cron
 * Prints:
 *   tick 1
 *   tick 2
 *   tick 3
 *   tick 4
 *   tick 5
 *   the command wrote "Linux" and exited with 0
 *   sort made of it: apple banana cherry
 *   a long sleep: ETIMEDOUT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

enum { TICKS = 5 };

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *cron(void *unused)
{
    for (int i = 1; i <= TICKS; i++) {
        must(weald_sleep(WEALD_MS(100)), "sleep");
        printf("tick %d\n", i);
    }
    return unused;
}

/* Starts `argv` with pipes, gives it `input`, and waits for its end. */
static weald_process_io talk(const char *const *argv, const char *input)
{
    weald_process_options options = {.size = sizeof options, .in = WEALD_PIPE, .out = WEALD_PIPE};
    weald_process_io io = {.size = sizeof io, .input = input, .input_size = strlen(input)};
    weald_process p = must(weald_process_spawn(argv, &options), argv[0]);

    must(weald_process_communicate(p, &io, weald_after(WEALD_SEC(20))), "communicate");
    must(weald_close(p), "close process");
    return io;
}

static void *subprocess(void *unused)
{
    const char *argv[] = {"/bin/sh", "-c", "sleep 1; uname", NULL};
    weald_process_io io = talk(argv, "");

    io.out[strcspn(io.out, "\n")] = '\0';
    printf("the command wrote \"%s\" and exited with %d\n", io.out, weald_exit_code(io.status));
    weald_free(io.out);
    return unused;
}

int main(void)
{
    weald_greenlet gs[2];
    const char *sort[] = {"sort", NULL};

    gs[0] = must(weald_spawn(cron, NULL), "spawn cron");
    gs[1] = must(weald_spawn(subprocess, NULL), "spawn subprocess");
    must(weald_joinall(gs, 2, 0, 0, WEALD_FOREVER), "join");

    weald_process_io io = talk(sort, "cherry\napple\nbanana\n");
    printf("sort made of it:");
    for (const char *line = strtok(io.out, "\n"); line; line = strtok(NULL, "\n"))
        printf(" %s", line);
    printf("\n");
    weald_free(io.out);

    int code = weald_system("exec sleep 30", NULL, weald_after(WEALD_MS(50)));
    printf("a long sleep: %s\n", weald_strcode(code)); /* and the shell has been killed */

    must(weald_close(gs[0]), "close cron");
    must(weald_close(gs[1]), "close subprocess");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
