/* 18_links: callbacks for the end of a greenlet: always, on success only, on failure only.
 *
 * A link is called by the hub, in the order of linking, when its greenlet has ended. It runs in
 * the loop, so it must not wait; it may count, spawn or set an event. A link made after the end is
 * called as well, in the next turn, so there is no race to lose.
 *
 * Build:  cc -std=c11 18_links.c $(pkg-config --cflags --libs weald) -o 18_links
 * Prints:
 *   compile succeeded, so say so
 *   compile has ended
 *   test failed with EPIPE: the tester is gone, so call somebody
 *   test has ended
 *   compile ended long ago, and this link still comes
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

static weald_event all_called;
static int outstanding;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *compile(void *unused)
{
    return unused;
}

static void *test(void *unused)
{
    (void)unused;
    return weald_fail(WEALD_EPIPE, "the tester is gone");
}

static void called(void)
{
    if (--outstanding == 0)
        must(weald_event_set(all_called), "set");
}

static void on_failure(weald_greenlet g, void *name)
{
    printf("%s failed with %s: %s, so call somebody\n", (const char *)name,
           weald_strcode(weald_error(g)), weald_error_message(g));
    called();
}

static void on_end(weald_greenlet g, void *text)
{
    (void)g;
    puts(text);
    called();
}

static void no_report(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message, (void)user; /* on_failure does it */
}

int main(void)
{
    must(weald_set_error_handler(no_report, NULL), "error handler");
    all_called = must(weald_event_new(0), "event");
    weald_greenlet compiler = must(weald_spawn(compile, NULL), "spawn");
    weald_greenlet tester = must(weald_spawn(test, NULL), "spawn");

    outstanding = 4; /* of the six, one does not apply and one is taken back */
    must(weald_link(compiler, on_end, "compile succeeded, so say so", WEALD_LINK_VALUE), "link");
    must(weald_link(compiler, on_failure, "compile", WEALD_LINK_ERROR), "link");
    must(weald_link(compiler, on_end, "compile has ended", WEALD_LINK_ALWAYS), "link");
    must(weald_link(tester, on_failure, "test", WEALD_LINK_ERROR), "link");
    must(weald_link(tester, on_end, "test has ended", WEALD_LINK_ALWAYS), "link");
    int64_t mistake = must(weald_link(tester, on_end, "never", WEALD_LINK_ALWAYS), "link");
    must(weald_unlink(tester, mistake), "unlink");
    must(weald_event_wait(all_called, WEALD_FOREVER), "wait");

    outstanding = 1;
    must(weald_event_clear(all_called), "clear");
    must(weald_link(compiler, on_end, "compile ended long ago, and this link still comes",
                    WEALD_LINK_ALWAYS), "late link");
    must(weald_event_wait(all_called, WEALD_FOREVER), "wait");

    must(weald_close(compiler), "close compiler");
    must(weald_close(tester), "close tester");
    must(weald_close(all_called), "close event");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
