/* 15_timeouts: time limits for one call, for a chain of calls, and for scopes inside scopes.
 *
 * A deadline is a moment, not a span, so one deadline goes unchanged down a chain of calls: the
 * chain as a whole is limited. weald_timeout_start limits everything in a scope, even code that
 * takes no deadline; weald_timeout_fired tells which one of nested scopes ran out.
 *
 * Build:  cc -std=c11 15_timeouts.c $(pkg-config --cflags --libs weald) -o 15_timeouts
 * Prints:
 *   join: ETIMEDOUT, and the sleeper sleeps on
 *   step 1: done
 *   step 2: done
 *   step 3: ETIMEDOUT
 *   outer 20 ms, inner 10 s: ETIMEDOUT, outer fired yes, inner fired no
 *   outer 10 s, inner 20 ms: ETIMEDOUT, outer fired no, inner fired yes
 *   after the scopes: slept well
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

static const char *fired(weald_timeout timeout)
{
    return must(weald_timeout_fired(timeout), "fired") ? "yes" : "no";
}

static void *sleep_for(void *span_ns)
{
    int code = weald_sleep(*(int64_t *)span_ns);

    must(code == WEALD_ECANCELED ? 0 : code, "sleep"); /* killed: end early */
    return NULL;
}

static void one_call(void)
{
    int64_t span_ns = WEALD_SEC(10);
    weald_greenlet sleeper = must(weald_spawn(sleep_for, &span_ns), "spawn");
    int code = weald_join(sleeper, weald_after(WEALD_MS(20)));

    printf("join: %s, and the sleeper %s\n", weald_strcode(code),
           must(weald_ready(sleeper), "ready") ? "has ended" : "sleeps on");
    must(weald_kill(sleeper, WEALD_ECANCELED, WEALD_FOREVER), "kill");
    must(weald_close(sleeper), "close");
}

static int step(int64_t takes_ns, int64_t deadline)
{
    weald_greenlet worker = must(weald_spawn(sleep_for, &takes_ns), "spawn");
    int code = weald_join(worker, deadline);

    must(weald_kill(worker, WEALD_ECANCELED, WEALD_FOREVER), "kill"); /* no harm when it is done */
    must(weald_close(worker), "close");
    return code;
}

static void chain_of_calls(void)
{
    int64_t takes_ns[3] = {WEALD_MS(1), WEALD_MS(1), WEALD_SEC(10)};
    int64_t deadline = weald_after(WEALD_MS(200));

    for (int i = 0; i < 3; i++) {
        int code = step(takes_ns[i], deadline);
        printf("step %d: %s\n", i + 1, code == 0 ? "done" : weald_strcode(code));
    }
}

static void scopes(const char *what, int64_t outer_ns, int64_t inner_ns)
{
    weald_timeout outer = must(weald_timeout_start(outer_ns), "outer");
    weald_timeout inner = must(weald_timeout_start(inner_ns), "inner");
    int code = weald_sleep(WEALD_SEC(20));

    printf("%s: %s, outer fired %s, inner fired %s\n", what, weald_strcode(code), fired(outer),
           fired(inner));
    must(weald_close(inner), "close inner"); /* closing a timeout ends its scope */
    must(weald_close(outer), "close outer");
}

int main(void)
{
    one_call();
    chain_of_calls();
    scopes("outer 20 ms, inner 10 s", WEALD_MS(20), WEALD_SEC(10));
    scopes("outer 10 s, inner 20 ms", WEALD_SEC(10), WEALD_MS(20));
    must(weald_sleep(WEALD_MS(1)), "sleep");
    puts("after the scopes: slept well");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
