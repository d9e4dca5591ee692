/* 43_http_fetch: what a client gets from the web, and how long it waits.
 *
 * With addresses it prints the status and the size of each, all asked for at once: "43_http_fetch
 * https://example.org/". Without them it asks a server of its own: a page, a redirect, a form, and one that takes too
 * long.
 *
 * Build:  cc -std=c11 43_http_fetch.c $(pkg-config --cflags --libs weald) -o 43_http_fetch
 * Prints:
 *   /page: 200, the page
 *   /old: 200, the page, from /page
 *   /form: 200, leaves=4
 *   /slow: the deadline has passed
 *   1 connection was enough for the first three
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

static weald_http_client client;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void handler(weald_http_request request, void *user)
{
    const char *path = weald_http_path(request);
    void *form;
    size_t len;

    (void)user;
    if (strcmp(path, "/old") == 0) {
        weald_http_add_header(request, "Location", "/page");
        weald_http_reply(request, 301, NULL, NULL, 0, WEALD_FOREVER);
    } else if (strcmp(path, "/form") == 0 && weald_http_read_all(request, 1000, &form, &len, WEALD_FOREVER) == 0) {
        weald_http_reply(request, 200, "text/plain", form, len, WEALD_FOREVER);
        weald_free(form);
    } else if (strcmp(path, "/slow") == 0 && weald_sleep(WEALD_SEC(5)) < 0) {
        return; /* the server is stopped */
    } else {
        weald_http_reply(request, 200, "text/plain", "the page", 8, WEALD_FOREVER);
    }
}

/* One deadline for all of it: the name, the connection, the head, the body. */
static void *fetch(void *url)
{
    int64_t deadline = weald_after(WEALD_SEC(30));
    weald_http_response r = weald_http_fetch(client, url, NULL, deadline);
    void *body = NULL;
    size_t len = 0;
    int code = r < 0 ? (int)r : weald_http_response_read_all(r, 100 << 20, &body, &len, deadline);

    if (code < 0)
        printf("%s: %s\n", (char *)url, weald_strerror(code));
    else
        printf("%s: %d, %zu bytes\n", (char *)url, weald_http_response_status(r), len);
    weald_free(body);
    weald_close(r);
    return NULL;
}

static void show(int port, const char *path, const weald_http_fetch_options *how)
{
    int64_t deadline = weald_after(WEALD_MS(200));
    char url[100];
    weald_http_response r;
    void *body;

    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    r = weald_http_fetch(client, url, how, deadline);
    if (r < 0) {
        printf("%s: %s\n", path, weald_strerror((int)r));
        return;
    }
    must(weald_http_response_read_all(r, 1000, &body, NULL, deadline), "read all");
    printf("%s: %d, %s", path, weald_http_response_status(r), (char *)body);
    if (strcmp(weald_http_response_url(r), url) != 0)
        printf(", from %s", strrchr(weald_http_response_url(r), '/'));
    putchar('\n');
    weald_free(body);
    must(weald_close(r), "close");
}

int main(int argc, char **argv)
{
    weald_http_fetch_options form = {.size = sizeof form, .body = "leaves=4", .body_len = 8};
    weald_server server;
    weald_group all;
    int port;

    client = must(weald_http_client_new(NULL), "client");
    if (argc > 1) {
        all = must(weald_group_new(), "group");
        for (int i = 1; i < argc; i++)
            must(weald_group_spawn(all, fetch, argv[i]), "spawn");
        return weald_group_join(all, WEALD_FOREVER) < 0;
    }
    server = must(weald_http_server_new("127.0.0.1:0", handler, NULL, NULL), "server");
    must(weald_server_start(server), "start");
    port = weald_server_port(server);
    show(port, "/page", NULL);
    show(port, "/old", NULL);
    show(port, "/form", &form);
    show(port, "/slow", NULL);
    printf("%lld connection was enough for the first three\n", (long long)weald_server_accepted(server));
    must(weald_server_stop(server, WEALD_NOW), "stop");
    return weald_close(client) < 0;
}
