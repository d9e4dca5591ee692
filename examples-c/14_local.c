/* 14_local: every log line says which request it belongs to, though nobody passes the request.
 *
 * A local is a variable of which every greenlet has its own. Code deep in the call tree can look
 * at it without being told. The destructor frees each one's value when its greenlet ends.
 *
 * Build:  cc -std=c11 14_local.c $(pkg-config --cflags --libs weald) -o 14_local
 * Prints:
 *   [ann] open the door
 *   [ben] open the door
 *   [ann] fetch the book
 *   [ben] fetch the book
 *   [nobody] closing time
 *   2 contexts were freed
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

struct context {
    const char *user;
};

static weald_local current;
static int freed;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void free_context(void *context)
{
    free(context);
    freed++;
}

static void log_line(const char *text)
{
    const struct context *context = weald_local_get(current);

    printf("[%s] %s\n", context ? context->user : "nobody", text);
}

static void fetch_book(void)
{
    must(weald_yield(), "yield"); /* the other request runs here */
    log_line("fetch the book");
}

static void *serve(void *user)
{
    struct context *context = malloc(sizeof *context);

    must(context ? 0 : WEALD_ENOMEM, "malloc");
    context->user = user;
    must(weald_local_set(current, context), "local set");
    log_line("open the door");
    fetch_book();
    return NULL;
}

int main(void)
{
    weald_greenlet requests[2];

    current = must(weald_local_new(free_context), "local");
    requests[0] = must(weald_spawn(serve, "ann"), "spawn");
    requests[1] = must(weald_spawn(serve, "ben"), "spawn");
    must(weald_joinall(requests, 2, 0, 0, WEALD_FOREVER), "joinall");
    log_line("closing time");
    printf("%d contexts were freed\n", freed);

    must(weald_close(requests[0]), "close ann");
    must(weald_close(requests[1]), "close ben");
    must(weald_close(current), "close local");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
