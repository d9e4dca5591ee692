/* 08_result: one greenlet measures, three wait for the number; a second measurement fails.
 *
 * A result is a value that will come once, or a failure instead. Any number of greenlets may get
 * it, before or after it is there. The result owns its value and frees it with the destructor
 * given at its making, so the getters only look.
 *
 * Build:  cc -std=c11 08_result.c $(pkg-config --cflags --libs weald) -o 08_result
 * Prints:
 *   sensor: measuring
 *   display: 21.5 degrees
 *   logger: 21.5 degrees
 *   alarm: 21.5 degrees
 *   set again: EALREADY
 *   late reader: 21.5 degrees
 *   other sensor: EPIPE, the wire is cut
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { READERS = 3 };

static weald_result temperature;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *measure(void *unused)
{
    double *degrees = malloc(sizeof *degrees);

    must(degrees ? 0 : WEALD_ENOMEM, "malloc");
    puts("sensor: measuring");
    must(weald_sleep(WEALD_MS(20)), "sleep");
    *degrees = 21.5;
    must(weald_result_set(temperature, degrees), "set");
    return unused;
}

static void *show(void *who)
{
    void *degrees;

    must(weald_result_get(temperature, &degrees, WEALD_FOREVER), "get");
    printf("%s: %.1f degrees\n", (const char *)who, *(double *)degrees);
    return NULL;
}

static void *broken(void *result)
{
    must(weald_result_fail(*(weald_result *)result, WEALD_EPIPE, "the wire is cut"), "fail");
    return NULL;
}

static void failing_measurement(void)
{
    weald_result result = must(weald_result_new(0, free), "result");
    void *degrees;

    must(weald_go(broken, &result), "go");
    int code = weald_result_get(result, &degrees, WEALD_FOREVER);
    printf("other sensor: %s, %s\n", weald_strcode(code), weald_result_message(result));
    must(weald_close(result), "close result");
}

int main(void)
{
    char *readers[READERS] = {"display", "logger", "alarm"};
    weald_greenlet all[READERS + 1];

    temperature = must(weald_result_new(0, free), "result");
    for (int i = 0; i < READERS; i++)
        all[i] = must(weald_spawn(show, readers[i]), "spawn reader");
    all[READERS] = must(weald_spawn(measure, NULL), "spawn sensor");
    must(weald_joinall(all, READERS + 1, 0, 0, WEALD_FOREVER), "joinall");

    printf("set again: %s\n", weald_strcode(weald_result_set(temperature, NULL)));
    show("late reader");
    failing_measurement();

    for (int i = 0; i < READERS + 1; i++)
        must(weald_close(all[i]), "close greenlet");
    must(weald_close(temperature), "close result");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
