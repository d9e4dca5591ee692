/* 22_raw_switch: two coroutines hand values to each other, with no scheduler between them.
 *
 * weald_coro_new makes a greenlet that runs only when somebody switches to it by name.
 * weald_switch(to, value, &received) leaves the caller right there and hands value over; it
 * returns when somebody switches back. One that ends switches to its parent with what it returns.
 * One that waits in a switch is ended by weald_throw, whose code its weald_switch returns.
 *
 * Build:  cc -std=c11 22_raw_switch.c $(pkg-config --cflags --libs weald) -o 22_raw_switch
 * Prints:
 *   f1 1, got apple from main
 *   f2 1, got bread from f1
 *   f1 2, got cheese from f2
 *   f2 2, got dates from f1
 *   f1 3, got eggs from f2
 *   main: f1 has ended and left figs
 *   f2 3, got ECANCELED
 *   main: f2 has ended and left grapes
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

static weald_greenlet g1, g2;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *f1(void *value, void *unused)
{
    (void)unused;
    printf("f1 1, got %s from main\n", (char *)value);
    must(weald_switch(g2, "bread", &value), "switch to f2");
    printf("f1 2, got %s from f2\n", (char *)value);
    must(weald_switch(g2, "dates", &value), "switch to f2");
    printf("f1 3, got %s from f2\n", (char *)value);
    return "figs";
}

static void *f2(void *value, void *unused)
{
    (void)unused;
    printf("f2 1, got %s from f1\n", (char *)value);
    must(weald_switch(g1, "cheese", &value), "switch to f1");
    printf("f2 2, got %s from f1\n", (char *)value);
    int code = weald_switch(g1, "eggs", &value);
    printf("f2 3, got %s\n", weald_strcode(code));
    return "grapes";
}

int main(void)
{
    void *left;

    g1 = must(weald_coro_new(f1, NULL, 0, NULL), "coro f1");
    g2 = must(weald_coro_new(f2, NULL, 0, NULL), "coro f2");

    must(weald_switch(g1, "apple", &left), "switch to f1");
    printf("main: f1 %s and left %s\n", must(weald_dead(g1), "dead") ? "has ended" : "goes on",
           (char *)left);
    must(weald_throw(g2, WEALD_ECANCELED, &left), "throw into f2");
    printf("main: f2 %s and left %s\n", must(weald_dead(g2), "dead") ? "has ended" : "goes on",
           (char *)left);

    must(weald_close(g1), "close f1");
    must(weald_close(g2), "close f2");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
