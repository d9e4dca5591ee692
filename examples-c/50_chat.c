/* 50_chat: one room for a browser's three ways to hear of news: WebSocket, server-sent events, long poll.
 *
 * Whoever listens waits in a greenlet of its own for a message with a higher number than the last one it has sent, and
 * so a tab that was away catches up. Numbers begin with the time, so that they grow over a restart as well. The page
 * connects again when the server has gone. With a port it serves until SIGTERM: "50_chat 8080 50_chat.html"; without
 * one it talks to itself.
 *
 * Build:  cc -std=c11 50_chat.c $(pkg-config --cflags --libs weald) -o 50_chat
 * Prints:
 *   poll: "name":"oak","text":"in \"leaf\""}]
 *   events: "name":"oak","text":"in \"leaf\""}
 *   socket: "name":"oak","text":"in \"leaf\""}
 */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weald.h>

enum { BACKLOG = 100, TEXT = 1000, JSON = 6 * TEXT + 200 };

static char room[BACKLOG][JSON];
static long long first, last; /* the number of the last message, and what it was at the start */
static weald_event news;
static const char *page = "examples-c/50_chat.html";

static int64_t must(int64_t code, const char *what)
{
    if (code >= 0)
        return code;
    fprintf(stderr, "%s: %s %s\n", what, weald_strerror((int)code), weald_error_message(weald_self()));
    exit(1);
}

/* ---- texts ---- */

/* The value of `name` in "a=b&c=d", decoded; "" if there is none. */
static void field(const char *form, const char *name, char *out, size_t size)
{
    size_t len = strlen(name), n = 0;
    unsigned code;

    while (form && !(strncmp(form, name, len) == 0 && form[len] == '='))
        form = (form = strchr(form, '&')) ? form + 1 : NULL;
    for (form = form ? form + len + 1 : ""; *form && *form != '&' && n + 1 < size; form++)
        if (*form == '%' && sscanf(form + 1, "%2x", &code) == 1 && isxdigit((unsigned char)form[2])) {
            out[n++] = (char)code;
            form += 2;
        } else
            out[n++] = *form == '+' ? ' ' : *form;
    out[n] = '\0';
}

static char *quoted(char *at, const char *text)
{
    *at++ = '"';
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || (unsigned char)*text < ' ')
            at += sprintf(at, *text < ' ' ? "\\u%04x" : "\\%c", *text);
        else
            *at++ = *text;
    *at++ = '"';
    return at;
}

/* ---- the room ---- */

static void say(const char *name, const char *text)
{
    char *at = room[++last % BACKLOG];

    at = quoted(at + sprintf(at, "{\"id\":%lld,\"name\":", last), name);
    at = quoted(at + sprintf(at, ",\"text\":"), text);
    strcpy(at, "}");
    weald_event_set(news); /* everybody who waits */
    weald_event_clear(news);
}

/* The first message behind number `after`; NULL when the deadline has passed or the greenlet was killed. */
static const char *message_behind(long long *after, int64_t deadline)
{
    if (*after < first)
        *after = first;
    while (*after >= last)
        if (weald_event_wait(news, deadline) < 0)
            return NULL;
    *after = *after > last - BACKLOG ? *after + 1 : last - BACKLOG + 1;
    return room[*after % BACKLOG];
}

/* ---- three ways to listen ---- */

static long long number(weald_http_request request, const char *name)
{
    char text[24];

    field(weald_http_query(request), name, text, sizeof text);
    return atoll(text);
}

static void poll_once(weald_http_request request, long long after)
{
    int64_t deadline = weald_after(WEALD_SEC(number(request, "wait") % 60));
    const char *message = message_behind(&after, deadline), *between = "[";

    weald_http_begin(request, 200, "application/json", -1);
    for (; message; message = message_behind(&after, WEALD_NOW), between = ",") {
        weald_http_write(request, between, 1, NULL, WEALD_FOREVER);
        weald_http_write(request, message, strlen(message), NULL, WEALD_FOREVER);
    }
    weald_http_write(request, *between == '[' ? "[]" : "]", *between == '[' ? 2 : 1, NULL, WEALD_FOREVER);
    weald_http_end(request, WEALD_FOREVER);
}

static void send_events(weald_http_request request, long long after)
{
    const char *message;

    if (weald_http_events(request, WEALD_FOREVER) == 0)
        do /* a word now and then, to notice that nobody listens any more */
            message = message_behind(&after, weald_after(WEALD_SEC(15)));
        while (weald_http_event(request, NULL, NULL, message, WEALD_FOREVER) == 0);
}

struct listener { weald_websocket socket; long long after; };

static void *send_messages(void *arg)
{
    struct listener *l = arg;
    const char *message;

    while ((message = message_behind(&l->after, WEALD_FOREVER))) {
        int code = weald_websocket_send(l->socket, WEALD_WEBSOCKET_TEXT, message, strlen(message), WEALD_FOREVER);
        if (code < 0 && code != WEALD_EINVAL) /* that: somebody has said what is no UTF-8 */
            break;
    }
    return NULL;
}

static void speak_websocket(weald_http_request request, long long after)
{
    struct listener l = {weald_websocket_accept(request, NULL, WEALD_FOREVER), after};
    weald_greenlet sender;
    const void *data;
    size_t len;

    if (l.socket < 0)
        return;
    sender = weald_spawn(send_messages, &l);
    while (weald_websocket_receive(l.socket, &data, &len, WEALD_FOREVER) > 0)
        ; /* nothing is said here: it comes to /say */
    weald_kill(sender, WEALD_ECANCELED, WEALD_FOREVER);
    weald_close(sender);
    weald_close(l.socket);
}

static void handler(weald_http_request request, void *user)
{
    const char *path = weald_http_path(request);
    long long after = number(request, "after");
    char name[21], text[TEXT];
    void *form;

    (void)user;
    if (!path || strcmp(path, "/") == 0)
        weald_http_file(request, page, WEALD_FOREVER);
    else if (strcmp(path, "/poll") == 0)
        poll_once(request, after);
    else if (strcmp(path, "/events") == 0)
        send_events(request, after);
    else if (strcmp(path, "/socket") == 0)
        speak_websocket(request, after);
    else if (strcmp(path, "/say") == 0 && strcmp(weald_http_method(request), "POST") == 0) {
        if (weald_http_read_all(request, 4 * TEXT, &form, NULL, WEALD_FOREVER) < 0)
            return;
        field(form, "name", name, sizeof name);
        field(form, "text", text, sizeof text);
        weald_free(form);
        say(name, text);
        weald_http_reply(request, 204, NULL, NULL, 0, WEALD_FOREVER);
    } else
        weald_http_reply(request, 404, "text/plain", "no such page\n", 13, WEALD_FOREVER);
}

/* ---- talking to itself ---- */

static char base[64];

static const char *address(const char *scheme, const char *path)
{
    static char text[128];

    snprintf(text, sizeof text, "%s://%s%s", scheme, base, path);
    return text;
}

/* Prints what it hears from the name on: the number is another one every time. */
static void *hear(void *way)
{
    weald_http_client client = must(weald_http_client_new(NULL), "client");
    char text[200] = "", path[20];
    const void *data = text;
    size_t len = sizeof text - 1;
    weald_handle from;

    snprintf(path, sizeof path, "/%s?wait=9", (char *)way);
    if (strcmp(way, "socket") == 0) {
        from = must(weald_websocket_connect(address("ws", path), NULL, WEALD_FOREVER), way);
        must(weald_websocket_receive(from, &data, &len, WEALD_FOREVER), way);
        snprintf(text, sizeof text, "%.*s", (int)len, (const char *)data);
    } else {
        from = must(weald_http_fetch(client, address("http", path), NULL, WEALD_FOREVER), way);
        while (!strchr(text, '}'))
            must(weald_http_response_read(from, text, sizeof text - 1, WEALD_FOREVER), way);
    }
    printf("%s: %.*s\n", (char *)way, (int)strcspn(strstr(text, "\"name"), "\n"), strstr(text, "\"name"));
    must(weald_close(from), way);
    must(weald_close(client), "close");
    return NULL;
}

static void talk(void)
{
    weald_http_fetch_options form = {.size = sizeof form, .body = "name=oak&text=in+%22leaf%22", .body_len = 27};
    weald_http_client client = must(weald_http_client_new(NULL), "client");
    weald_greenlet all[3];
    char *ways[] = {"poll", "events", "socket"};

    for (int i = 0; i < 3; i++) {
        all[i] = must(weald_spawn(hear, ways[i]), "spawn");
        weald_sleep(WEALD_MS(50)); /* they listen in this order */
    }
    must(weald_close(must(weald_http_fetch(client, address("http", "/say"), &form, WEALD_FOREVER), "say")), "close");
    for (int i = 0; i < 3; i++) {
        must(weald_join(all[i], WEALD_FOREVER), "join");
        must(weald_close(all[i]), "close");
    }
    must(weald_close(client), "close");
}

int main(int argc, char **argv)
{
    static const int ends[] = {SIGTERM, SIGINT};
    weald_server server;

    page = argc > 2 ? argv[2] : page;
    first = last = (long long)time(NULL) * 1000;
    news = must(weald_event_new(0), "event");
    snprintf(base, sizeof base, "127.0.0.1:%s", argc > 1 ? argv[1] : "0");
    server = must(weald_http_server_new(base, handler, NULL, NULL), "server");
    must(weald_server_start(server), "start");
    snprintf(base, sizeof base, "127.0.0.1:%d", weald_server_port(server));
    if (argc > 1) {
        printf("http://%s/\n", base);
        fflush(stdout);
        must(weald_signal_wait(ends, 2, WEALD_FOREVER), "wait");
    } else
        talk();
    must(weald_server_stop(server, weald_after(WEALD_MS(100))), "stop");
    must(weald_close(server), "close");
    return 0;
}
