/* Programs that use a library as its documentation says, with blocking calls, in many greenlets of one thread. Each waits
 * for something that another one brings about: if a call blocked the thread, nothing would go on. */
#ifndef PATCHED_H
#define PATCHED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weald.h>

enum { GREENLETS = 30 };

static int waiting, done;

static __attribute__((noreturn, unused)) void fail(const char *what, const char *why)
{
    printf("%s: %s\n", what, why ? why : "?");
    fflush(stdout);
    _exit(1);
}

static void run_all(weald_fn body)
{
    for (intptr_t i = 0; i < GREENLETS; i++)
        if (weald_go(body, (void *)i) < 0)
            fail("weald_go", "no greenlet");
}

static void finish(void)
{
    while (done < GREENLETS)
        weald_sleep(WEALD_MS(1));
    printf("%d greenlets waited together\n", done);
    fflush(stdout);
    weald_patch_report(STDOUT_FILENO);
}

#endif
