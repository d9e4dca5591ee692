/* 42_http_files: a folder as a web site, with tags and ranges, and a log.
 *
 * weald_http_folder does it: what a client has already is not sent again, a download goes on where it was cut, and
 * nothing outside the folder is to be had. With a folder and a port, "42_http_files www 8080", it serves that until it
 * is stopped; without them a folder of its own, and asks for a few things.
 *
 * Build:  cc -std=c11 42_http_files.c $(pkg-config --cflags --libs weald) -o 42_http_files
 * Prints:
 *   GET / 200 21
 *   GET /index.html 304 0
 *   GET /index.html 206 4
 *   GET /../secret 404 9
 *   POST /index.html 405 18
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weald.h>

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void answer(weald_http_request request, void *folder)
{
    int code = weald_http_folder(request, folder, weald_http_path(request), WEALD_FOREVER);

    if (code < 0)
        fprintf(stderr, "%s: %s\n", weald_http_target(request), weald_strerror(code));
}

/* A request that was refused has no method. */
static void log_line(weald_http_request request, int status, int64_t sent, int64_t took_ns, void *folder)
{
    (void)took_ns, (void)folder;
    printf("%s %s %d %lld\n", weald_http_method(request), weald_http_target(request), status, (long long)sent);
}

/* What the header `name` of the answer says, copied; the body is not read. */
static void ask(weald_http_client client, const char *url, weald_http_fetch_options *how, const char *name, char *value)
{
    weald_http_response r = must(weald_http_fetch(client, url, how, WEALD_FOREVER), "fetch");

    if (name)
        snprintf(value, 100, "%s", weald_http_response_header(r, name));
    must(weald_close(r), "close");
    must(weald_sleep(WEALD_MS(1)), "sleep"); /* the log is written behind the answer */
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/weald-example-XXXXXX", page[64], root[64], up[64], index[64], tag[100];
    weald_http_options options = {.size = sizeof options, .log = log_line};
    const char *known[] = {"If-None-Match", tag, NULL}, *part[] = {"Range", "bytes=4-7", NULL};
    weald_http_fetch_options plain = {.size = sizeof plain}, if_new = {.size = sizeof if_new, .headers = known},
                             some = {.size = sizeof some, .headers = part},
                             post = {.size = sizeof post, .method = "POST"};
    weald_http_client client;
    weald_server server;
    FILE *file;
    int port;

    if (argc > 2) {
        snprintf(root, sizeof root, "127.0.0.1:%.20s", argv[2]);
        return weald_http_serve(root, answer, argv[1], &options, WEALD_FOREVER) < 0;
    }
    if (!mkdtemp(folder) || snprintf(page, sizeof page, "%s/index.html", folder) < 0 || !(file = fopen(page, "w")))
        return 1;
    fputs("<h1>The forest</h1>\r\n", file);
    fclose(file);
    client = must(weald_http_client_new(NULL), "client");
    server = must(weald_http_server_new("127.0.0.1:0", answer, folder, &options), "server");
    must(weald_server_start(server), "start");
    port = weald_server_port(server);
    snprintf(root, sizeof root, "http://127.0.0.1:%d/", port);
    snprintf(index, sizeof index, "http://127.0.0.1:%d/index.html", port);
    snprintf(up, sizeof up, "http://127.0.0.1:%d/../secret", port);
    ask(client, root, &plain, "ETag", tag);
    ask(client, index, &if_new, NULL, NULL);
    ask(client, index, &some, NULL, NULL);
    ask(client, up, &plain, NULL, NULL);
    ask(client, index, &post, NULL, NULL);
    must(weald_close(client), "close");
    must(weald_server_stop(server, WEALD_FOREVER), "stop");
    return unlink(page) != 0 || rmdir(folder) != 0;
}
