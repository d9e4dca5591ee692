/* 41_http_stream: an answer that is made while it is sent, and server-sent events.
 *
 * "/count" goes in chunks: nobody knows its length before it ends. "/news" never ends by itself: each piece of news
 * goes to all who listen, each in a greenlet that waits for it, and a client that has left is noticed when the next one
 * is sent. In a browser: new EventSource("/news").
 *
 * Build:  cc -std=c11 41_http_stream.c $(pkg-config --cflags --libs weald) -o 41_http_stream
 * Prints:
 *   count: one two three
 *   first hears: the oak is in leaf
 *   second hears: the oak is in leaf
 *   first hears: an owl moves in
 *   second hears: an owl moves in
 *   0 listen
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

static weald_event news; /* set for each piece, to wake everybody */
static char piece[100];
static int listeners, number;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void count(weald_http_request request)
{
    static const char *const words[] = {"one", " two", " three"};

    weald_http_begin(request, 200, NULL, -1);
    for (int i = 0; i < 3; i++) {
        weald_http_write(request, words[i], strlen(words[i]), NULL, WEALD_FOREVER);
        weald_http_flush(request, WEALD_FOREVER);
        weald_sleep(WEALD_MS(1));
    }
    weald_http_end(request, WEALD_FOREVER);
}

static void listen_to_news(weald_http_request request)
{
    char id[20];

    if (weald_http_events(request, WEALD_FOREVER) < 0)
        return;
    listeners++;
    while (weald_event_wait(news, WEALD_FOREVER) == 0) {
        snprintf(id, sizeof id, "%d", number);
        if (weald_http_event(request, NULL, id, piece, WEALD_FOREVER) < 0)
            break; /* he has left */
        weald_yield(); /* until the event is cleared */
    }
    listeners--;
}

static void handler(weald_http_request request, void *user)
{
    (void)user;
    if (strcmp(weald_http_path(request), "/count") == 0)
        count(request);
    else
        listen_to_news(request);
}

static void tell(const char *text)
{
    snprintf(piece, sizeof piece, "%s", text);
    number++;
    must(weald_event_set(news), "set");
    must(weald_event_clear(news), "clear");
}

static void hear(const char *who, weald_http_response r)
{
    char text[200] = "";
    char *data;

    must(weald_http_response_read(r, text, sizeof text - 1, WEALD_FOREVER), "read");
    data = strstr(text, "data: ");
    printf("%s hears: %.*s\n", who, (int)strcspn(data + 6, "\n"), data + 6);
}

int main(void)
{
    weald_http_client client = must(weald_http_client_new(NULL), "client");
    weald_server server = must(weald_http_server_new("127.0.0.1:0", handler, NULL, NULL), "server");
    weald_http_response r, first, second;
    char url[2][64];
    void *text;

    must(news = weald_event_new(0), "event");
    must(weald_server_start(server), "start");
    snprintf(url[0], sizeof url[0], "http://127.0.0.1:%d/count", weald_server_port(server));
    snprintf(url[1], sizeof url[1], "http://127.0.0.1:%d/news", weald_server_port(server));
    r = must(weald_http_fetch(client, url[0], NULL, WEALD_FOREVER), "fetch");
    must(weald_http_response_read_all(r, 1000, &text, NULL, WEALD_FOREVER), "read all");
    printf("count: %s\n", (char *)text);
    weald_free(text);
    must(weald_close(r), "close");

    first = must(weald_http_fetch(client, url[1], NULL, WEALD_FOREVER), "fetch");
    second = must(weald_http_fetch(client, url[1], NULL, WEALD_FOREVER), "fetch");
    for (int i = 0; i < 2; i++) {
        tell(i == 0 ? "the oak is in leaf" : "an owl moves in");
        hear("first", first);
        hear("second", second);
    }
    must(weald_close(first), "close");
    must(weald_close(second), "close");
    for (int i = 0; listeners > 0 && i < 100; i++) {
        tell("nobody hears this");
        weald_sleep(WEALD_MS(1));
    }
    printf("%d listen\n", listeners);
    must(weald_server_stop(server, WEALD_NOW), "stop");
    return weald_close(client) < 0;
}
