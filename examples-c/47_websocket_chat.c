/* 47_websocket_chat: a chat room over WebSocket, with one guest who does not listen.
 *
 * The room is an array of connections. Whoever says something has it broadcast: made into a frame once
 * and put behind what each guest has still to get, so the room never waits for anybody. A guest who
 * has too much to get is hung up on, here after 64 KiB; the others do not notice. All of it is one
 * thread, so the array needs no lock.
 *
 * Build:  cc -std=c11 47_websocket_chat.c $(pkg-config --cflags --libs weald) -o 47_websocket_chat
 * Prints:
 *   ash hears: elm has come
 *   elm hears: ash says hello
 *   elm heard all of 300 long speeches
 *   the room has 2 guests; who did not listen was shown out
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

enum { MOST = 100, SPEECHES = 300 };

static weald_websocket room[MOST];
static int guests;
static weald_server server;

static int64_t must(int64_t code, const char *what)
{
    if (code >= 0)
        return code;
    fprintf(stderr, "%s: %s %s\n", what, weald_strcode((int)code), weald_error_message(weald_self()));
    exit(1);
}

static void guest(weald_http_request request, void *user)
{
    weald_websocket_options how = {.size = sizeof how, .max_unsent = 64 << 10};
    weald_websocket w = guests < MOST ? weald_websocket_accept(request, &how, weald_after(WEALD_SEC(5))) : -1;
    const void *said;
    size_t len;

    (void)user;
    if (w < 0)
        return;
    room[guests++] = w;
    while (weald_websocket_receive(w, &said, &len, WEALD_FOREVER) == WEALD_WEBSOCKET_TEXT)
        weald_websocket_broadcast(room, (size_t)guests, WEALD_WEBSOCKET_TEXT, said, len, WEALD_WEBSOCKET_DROP_SLOW);
    for (int i = 0; i < guests; i++)
        if (room[i] == w)
            room[i] = room[--guests];
    weald_close(w);
}

static weald_websocket come(const char *who)
{
    char url[64], text[64];
    weald_websocket w;

    snprintf(url, sizeof url, "ws://127.0.0.1:%d/room", weald_server_port(server));
    w = must(weald_websocket_connect(url, NULL, weald_after(WEALD_SEC(5))), "connect");
    if (who) {
        int n = snprintf(text, sizeof text, "%s has come", who);
        must(weald_websocket_send(w, WEALD_WEBSOCKET_TEXT, text, (size_t)n, WEALD_FOREVER), "send");
    }
    return w;
}

/* The next thing that is said. */
static size_t hear(weald_websocket w, const char *who)
{
    const void *said;
    size_t len;

    must(weald_websocket_receive(w, &said, &len, weald_after(WEALD_SEC(5))), "receive");
    if (who)
        printf("%s hears: %.*s\n", who, (int)len, (const char *)said);
    return len;
}

int main(void)
{
    static char speech[50000];
    weald_websocket ash, elm, deaf;
    int heard = 0;

    server = must(weald_http_server_new("127.0.0.1:0", guest, NULL, NULL), "server");
    must(weald_server_start(server), "start");
    ash = come("ash");
    hear(ash, NULL); /* itself */
    elm = come("elm");
    hear(ash, "ash");
    hear(elm, NULL);
    must(weald_websocket_send(ash, WEALD_WEBSOCKET_TEXT, "ash says hello", 14, WEALD_FOREVER), "send");
    hear(ash, NULL);
    hear(elm, "elm");

    deaf = come(NULL);
    memset(speech, 'a', sizeof speech);
    for (int i = 0; i < SPEECHES; i++) { /* more than sockets hold */
        must(weald_websocket_send(ash, WEALD_WEBSOCKET_TEXT, speech, sizeof speech, WEALD_FOREVER), "send");
        hear(ash, NULL);
        heard += hear(elm, NULL) == sizeof speech;
    }
    printf("elm heard all of %d long speeches\n", heard);
    printf("the room has %d guests; who did not listen was shown out\n", guests);
    must(weald_close(deaf), "close");
    must(weald_websocket_close(ash, 0, NULL, weald_after(WEALD_SEC(5))), "close");
    must(weald_websocket_close(elm, 0, NULL, weald_after(WEALD_SEC(5))), "close");
    must(weald_close(ash), "close");
    must(weald_close(elm), "close");
    must(weald_server_stop(server, weald_after(WEALD_SEC(1))), "stop");
    must(weald_close(server), "close");
    return 0;
}
