/* 34_chat: a chat over plain TCP: what one says in a line all others hear.
 *
 * Each guest has two greenlets: one reads lines and puts them into everybody's queue, one takes them
 * out of the guest's own queue and writes. The queue is bounded: who does not read loses lines,
 * but holds up nobody. Try it with telnet, if you let it listen at a port that you know.
 *
 * Build:  cc -std=c11 34_chat.c $(pkg-config --cflags --libs weald) -o 34_chat
 * Prints:
 *   ben hears: ann: hello
 *   cat hears: ann: hello
 *   ann hears: ben: hi there
 *   cat hears: ben: hi there
 *   ann hears: cat leaves
 *   ben hears: cat leaves
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <weald.h>

enum { GUESTS = 3, PENDING = 16 };
static struct guest {
    char name[16];
    weald_stream stream;
    weald_queue heard;
} guests[GUESTS];

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void tell_others(const struct guest *from, const char *between, const char *text)
{
    for (struct guest *g = guests; g < guests + GUESTS; g++) {
        char *line = NULL;
        if (g == from || g->heard == 0 || asprintf(&line, "%s%s%s\n", from->name, between, text) < 0)
            continue;
        if (weald_queue_put(g->heard, line, WEALD_NOW) < 0)
            free(line); /* it is full, or shut */
    }
}

static void *speak_to(void *arg)
{
    struct guest *g = arg;
    void *line;

    while (weald_queue_get(g->heard, &line, WEALD_FOREVER) == 0) {
        int code = weald_stream_write(g->stream, line, strlen(line), NULL, WEALD_FOREVER);
        free(line);
        if (code < 0 || weald_stream_flush(g->stream, weald_after(WEALD_SEC(10))) < 0)
            break;
    }
    return NULL;
}

static void *listen_to(void *arg) /* the first line is the guest's name */
{
    struct guest *g = arg;
    const char *line;
    weald_greenlet speaker;

    if (weald_stream_line(g->stream, &line, NULL, sizeof g->name - 1, WEALD_FOREVER) == 1)
        strcpy(g->name, line);
    g->heard = must(weald_queue_new(WEALD_FIFO, PENDING, free), "queue");
    speaker = must(weald_spawn(speak_to, g), "spawn");
    while (weald_stream_line(g->stream, &line, NULL, 500, WEALD_FOREVER) == 1)
        tell_others(g, ": ", line);
    tell_others(g, " leaves", "");
    must(weald_queue_shut(g->heard), "shut");
    must(weald_join(speaker, WEALD_FOREVER), "join");
    must(weald_close(speaker), "close");
    must(weald_close(g->heard), "close");
    g->heard = 0;
    must(weald_close(g->stream), "close");
    return NULL;
}

static void *receive(void *listener)
{
    for (int i = 0; i < GUESTS; i++) {
        int fd = (int)must(weald_accept((int)(intptr_t)listener, NULL, NULL, WEALD_FOREVER), "accept");
        guests[i].stream = must(weald_stream_new(fd, NULL), "stream");
        must(weald_go(listen_to, &guests[i]), "go");
    }
    return NULL;
}

/* ---- the guests, from their own side ---- */

static void say(weald_stream s, const char *text)
{
    must(weald_stream_write(s, text, strlen(text), NULL, WEALD_FOREVER), "write");
    must(weald_stream_flush(s, WEALD_FOREVER), "flush");
}

static void hear(weald_stream s, const char *who)
{
    const char *line;
    must(weald_stream_line(s, &line, NULL, 500, weald_after(WEALD_SEC(5))), who);
    printf("%s hears: %s\n", who, line);
}

int main(void)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int at = (int)must(weald_address_parse("127.0.0.1:0", &address), "address");
    int listener = (int)must(weald_socket(AF_INET, SOCK_STREAM, 0), "socket");
    static const char *names[GUESTS] = {"ann\n", "ben\r\n", "cat\n"};
    weald_stream s[GUESTS];

    must(weald_bind(listener, (struct sockaddr *)&address, (socklen_t)at), "bind");
    must(weald_listen(listener, GUESTS), "listen");
    must(weald_local_address(listener, (struct sockaddr *)&address, &length), "local address");
    must(weald_go(receive, (void *)(intptr_t)listener), "go");
    for (int i = 0; i < GUESTS; i++) {
        int fd = (int)must(weald_socket(AF_INET, SOCK_STREAM, 0), "socket");
        must(weald_connect(fd, (struct sockaddr *)&address, length, WEALD_FOREVER), "connect");
        s[i] = must(weald_stream_new(fd, NULL), "stream");
        say(s[i], names[i]);
        while (guests[i].heard == 0) /* until it is in the room */
            must(weald_sleep(WEALD_MS(1)), "sleep");
    }
    say(s[0], "hello\n");
    hear(s[1], "ben");
    hear(s[2], "cat");
    say(s[1], "hi there\r\n");
    hear(s[0], "ann");
    hear(s[2], "cat");
    must(weald_close(s[2]), "close");
    hear(s[0], "ann");
    hear(s[1], "ben");
    must(weald_close(s[0]), "close");
    must(weald_close(s[1]), "close");
    must(weald_run(WEALD_FOREVER), "run");
    must(weald_close_fd(listener), "close");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
