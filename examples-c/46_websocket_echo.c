/* 46_websocket_echo: a WebSocket server that echoes, and a client that talks to it.
 *
 * A handler of an HTTP server makes its request a connection of WebSocket; from then on it receives
 * messages and sends them, as straight as with a socket. Pings are answered, pieces put together, and
 * text checked, by the receive. The client says what it offers, here two subprotocols and compression,
 * and looks at what was chosen. At the end each side says that it closes, and why.
 *
 * Build:  cc -std=c11 46_websocket_echo.c $(pkg-config --cflags --libs weald) -o 46_websocket_echo
 * Prints:
 *   the server speaks echo
 *   text: leaves
 *   binary of 70000 bytes
 *   closed with 1000
 *   over HTTP alone: 426
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

static int64_t must(int64_t code, const char *what)
{
    if (code >= 0)
        return code;
    fprintf(stderr, "%s: %s %s\n", what, weald_strcode((int)code), weald_error_message(weald_self()));
    exit(1);
}

static void echo(weald_http_request request, void *user)
{
    weald_websocket_options how = {
        .size = sizeof how, .flags = WEALD_WEBSOCKET_DEFLATE, .protocols = "echo", .max_message = 100000};
    weald_websocket w = weald_websocket_accept(request, &how, weald_after(WEALD_SEC(5)));
    const void *data;
    size_t len;
    int what;

    (void)user;
    if (w < 0)
        return; /* it has been answered: this is for WebSocket */
    while ((what = weald_websocket_receive(w, &data, &len, weald_after(WEALD_SEC(60)))) > 0)
        if (weald_websocket_send(w, what, data, len, weald_after(WEALD_SEC(5))) < 0)
            break;
    weald_close(w);
}

static void show(weald_websocket w)
{
    const void *data;
    size_t len;

    if (must(weald_websocket_receive(w, &data, &len, weald_after(WEALD_SEC(5))), "receive") == WEALD_WEBSOCKET_TEXT)
        printf("text: %.*s\n", (int)len, (const char *)data);
    else
        printf("binary of %zu bytes\n", len);
}

static void without_websocket(int port)
{
    char address[32];
    const char *line;
    weald_stream s;

    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    s = must(weald_stream_new((int)must(weald_tcp_connect(address, WEALD_FOREVER), "connect"), NULL), "stream");
    must(weald_stream_write(s, "GET / HTTP/1.1\r\nHost: oak\r\n\r\n", 29, NULL, WEALD_FOREVER), "write");
    must(weald_stream_flush(s, WEALD_FOREVER), "flush");
    if (must(weald_stream_line(s, &line, NULL, 1000, weald_after(WEALD_SEC(5))), "line"))
        printf("over HTTP alone: %.3s\n", line + 9);
    must(weald_close(s), "close");
}

int main(void)
{
    weald_websocket_options how = {
        .size = sizeof how, .flags = WEALD_WEBSOCKET_DEFLATE, .protocols = "shout,echo"};
    weald_server server = must(weald_http_server_new("127.0.0.1:0", echo, NULL, NULL), "server");
    static char large[70000];
    char url[64];
    weald_websocket w;

    must(weald_server_start(server), "start");
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/forest", weald_server_port(server));
    w = must(weald_websocket_connect(url, &how, weald_after(WEALD_SEC(5))), "connect");
    printf("the server speaks %s\n", weald_websocket_protocol(w));
    must(weald_websocket_send(w, WEALD_WEBSOCKET_TEXT, "leaves", 6, WEALD_FOREVER), "send");
    show(w);
    must(weald_websocket_send(w, WEALD_WEBSOCKET_BINARY, large, sizeof large, WEALD_FOREVER), "send");
    show(w);
    must(weald_websocket_close(w, 1000, "that is all", weald_after(WEALD_SEC(5))), "close");
    printf("closed with %d\n", weald_websocket_close_code(w));
    must(weald_close(w), "close");

    without_websocket(weald_server_port(server));
    must(weald_server_stop(server, weald_after(WEALD_SEC(1))), "stop");
    must(weald_close(server), "close");
    return 0;
}
