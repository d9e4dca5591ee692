/* 40_http_hello: a web server in ten lines; of four requests the third is wrong, and ends the connection.
 *
 * The handler is called for each request, with any number of connections at a time. What is badly made is refused, and
 * the handler does not see it. With a port, "40_http_hello 8080", it serves until it is stopped; without one it asks
 * itself and prints the answers.
 *
 * Build:  cc -std=c11 40_http_hello.c $(pkg-config --cflags --libs weald) -o 40_http_hello
 * Prints:
 *   HTTP/1.1 200 OK: hello from /
 *   HTTP/1.1 200 OK: hello from /oak?leaves=4
 *   HTTP/1.1 400 Bad Request: Bad Request
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weald.h>

static void hello(weald_http_request request, void *user)
{
    char text[300];
    int len = snprintf(text, sizeof text, "hello from %.200s", weald_http_target(request));

    (void)user;
    if (weald_http_reply(request, 200, "text/plain", text, (size_t)len, WEALD_FOREVER) < 0)
        fputs("the client has left\n", stderr);
}

static int serve(const char *port)
{
    char address[64];

    snprintf(address, sizeof address, "127.0.0.1:%.20s", port);
    return weald_http_serve(address, hello, NULL, NULL, WEALD_FOREVER);
}

static void must(int64_t code, const char *what)
{
    if (code >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
    exit(1);
}

/* Says all of it at once, and prints the first and the last line of each answer. */
static void ask(int port, const char *requests)
{
    char address[64], status[100] = "";
    const char *line;
    weald_stream s;
    int fd;

    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    must(fd = weald_tcp_connect(address, WEALD_FOREVER), "connect");
    must(s = weald_stream_new(fd, NULL), "stream");
    must(weald_stream_write(s, requests, strlen(requests), NULL, WEALD_FOREVER), "write");
    must(weald_stream_flush(s, WEALD_FOREVER), "flush");
    for (size_t body = 0; weald_stream_line(s, &line, NULL, 1000, WEALD_FOREVER) == 1;) {
        if (strncmp(line, "HTTP/", 5) == 0)
            snprintf(status, sizeof status, "%s", line);
        else if (strncmp(line, "Content-Length: ", 16) == 0)
            body = strtoul(line + 16, NULL, 10);
        else if (*line == '\0') {
            char text[300] = "";
            must(weald_stream_read_exact(s, text, body < sizeof text ? body : 0, NULL, WEALD_FOREVER), "read");
            printf("%s: %s\n", status, text);
        }
    }
    must(weald_close(s), "close");
}

int main(int argc, char **argv)
{
    weald_server server;

    if (argc > 1)
        return serve(argv[1]) < 0;
    must(server = weald_http_server_new("127.0.0.1:0", hello, NULL, NULL), "server");
    must(weald_server_start(server), "start");
    ask(weald_server_port(server), "GET / HTTP/1.1\r\nHost: oak\r\n\r\n"
                                   "GET /oak?leaves=4 HTTP/1.1\r\nHost: oak\r\n\r\n"
                                   "GET /elm HTTP/1.1\r\nHost : elm\r\n\r\n" /* a space too many */
                                   "GET /never HTTP/1.1\r\nHost: oak\r\n\r\n");
    must(weald_server_stop(server, WEALD_FOREVER), "stop");
    return weald_close(server) < 0;
}
