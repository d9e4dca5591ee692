/* The weald end of a connection of WebSocket whose other end is somebody else's:
 *
 *     websocket_peer server FLAGS [CERTIFICATE KEY]     prints its port, and echoes; /push has it talk first
 *     websocket_peer echo URL FLAGS [ROOTS]             connects, and echoes until the other side closes
 *     websocket_peer talk URL FLAGS [ROOTS]             says some things, checks that they come back, and closes
 *
 * FLAGS are numbers of weald.h. What was wrong is printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

static weald_websocket_options how = {
    .size = sizeof how, .max_message = 32 << 20, .max_unsent = 64 << 20, .protocols = "echo,other"};

static int failed(const char *what, long long code)
{
    printf("%s: %s %s\n", what, weald_strcode((int)code), weald_error_message(weald_self()));
    fflush(stdout);
    return 1;
}

static int echo(weald_websocket w)
{
    const void *data;
    size_t len;
    int what;

    while ((what = weald_websocket_receive(w, &data, &len, WEALD_FOREVER)) > 0)
        if ((what = weald_websocket_send(w, what, data, len, WEALD_FOREVER)) < 0)
            break;
    return what;
}

static void serve(weald_http_request r, void *unused)
{
    int is_pushing = strcmp(weald_http_path(r), "/push") == 0;
    weald_websocket w = weald_websocket_accept(r, &how, WEALD_FOREVER);
    int code;

    (void)unused;
    if (w < 0) {
        failed("accept", w);
        return;
    }
    if (is_pushing) {
        weald_websocket_send(w, WEALD_WEBSOCKET_TEXT, "first", 5, WEALD_FOREVER);
        weald_websocket_close(w, 3001, "enough", weald_after(WEALD_SEC(5)));
    } else {
        code = echo(w);
        printf("%s %d %s %s\n", weald_strcode(code), weald_websocket_close_code(w), weald_websocket_protocol(w),
               weald_websocket_close_reason(w));
        fflush(stdout);
        if (code == 0 || weald_websocket_unsent(w) > 0)
            weald_websocket_close(w, 0, NULL, weald_after(WEALD_SEC(1)));
    }
    weald_close(w);
}

static int talk(weald_websocket w)
{
    static char large[100000];
    static const size_t sizes[] = {0, 1, 125, 126, 5000, 65535, 65536, 100000};
    const void *data;
    size_t len;
    int code;

    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)('a' + i % 7 + i / 1000 % 3);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 8; i++) {
            int what = i % 2 ? WEALD_WEBSOCKET_TEXT : WEALD_WEBSOCKET_BINARY;
            if ((code = weald_websocket_send(w, what, large, sizes[i], WEALD_FOREVER)) < 0)
                return code;
            if ((code = weald_websocket_receive(w, &data, &len, weald_after(WEALD_SEC(10)))) != what)
                return code ? code : WEALD_EPIPE;
            if (len != sizes[i] || memcmp(data, large, len) != 0)
                return failed("other bytes came back", (long long)len);
        }
    /* What Autobahn's cases 12.N.1 and 13.N.1 do: many that are too short to be packed, and some that are not. */
    for (int i = 0; i < 2000; i++) {
        int what = i % 2 ? WEALD_WEBSOCKET_TEXT : WEALD_WEBSOCKET_BINARY;
        size_t size = i % 10 ? 16 : 63 + (size_t)i / 10 % 3;
        if ((code = weald_websocket_send(w, what, large + i * 16, size, WEALD_FOREVER)) < 0)
            return code;
        if ((code = weald_websocket_receive(w, &data, &len, weald_after(WEALD_SEC(10)))) != what)
            return code ? code : WEALD_EPIPE;
        if (len != size || memcmp(data, large + i * 16, len) != 0)
            return failed("other bytes came back", i);
    }
    return weald_websocket_close(w, 3000, "bye", weald_after(WEALD_SEC(10)));
}

int main(int argc, char **argv)
{
    int is_server = argc > 2 && strcmp(argv[1], "server") == 0, code;
    weald_tls_options tls = {.size = sizeof tls};

    how.flags = atoi(argv[is_server ? 2 : 3]);
    if (is_server) {
        weald_server_options below = {.size = sizeof below};
        weald_http_options http = {.size = sizeof http, .server = &below};
        weald_server server;

        if (argc > 4) {
            tls.certificate = argv[3];
            tls.key = argv[4];
            below.tls = weald_tls_server(&tls);
        }
        server = weald_http_server_new("127.0.0.1:0", serve, NULL, &http);
        if (server < 0)
            return failed("server", server);
        printf("%d\n", weald_server_port(server));
        fflush(stdout);
        return weald_server_serve(server, WEALD_FOREVER) < 0;
    }
    if (argc > 4) {
        tls.roots = argv[4];
        how.tls = weald_tls_client(&tls);
    }
    weald_websocket w = weald_websocket_connect(argv[2], &how, weald_after(WEALD_SEC(10)));
    if (w < 0)
        return failed("connect", w);
    code = strcmp(argv[1], "talk") == 0 ? talk(w) : echo(w);
    printf("%s %d %s %s\n", weald_strcode(code), weald_websocket_close_code(w), weald_websocket_protocol(w),
           weald_websocket_close_reason(w));
    return weald_close(w);
}
