/* weald's echo servers: `weald websocket`, or `weald tls CERTIFICATE KEY` for 64 bytes at a time. Prints its port. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <weald.h>

static void messages(weald_http_request r, void *user)
{
    weald_websocket w = weald_websocket_accept(r, NULL, WEALD_FOREVER);
    const void *data;
    size_t len;
    int what;

    (void)user;
    while ((what = weald_websocket_receive(w, &data, &len, WEALD_FOREVER)) > 0)
        weald_websocket_send(w, what, data, len, WEALD_FOREVER);
    weald_close(w);
}

static int bytes(weald_stream s, const struct sockaddr *peer, socklen_t len, void *user)
{
    static char some[64 << 10];
    int64_t n;

    (void)peer, (void)len, (void)user;
    while ((n = weald_stream_read(s, some, sizeof some, WEALD_FOREVER)) > 0)
        if (weald_stream_write(s, some, (size_t)n, NULL, WEALD_FOREVER) < 0 || weald_stream_flush(s, WEALD_FOREVER) < 0)
            break;
    return 0;
}

int main(int argc, char **argv)
{
    weald_server_options below = {.size = sizeof below};
    weald_server server;

    if (argc > 3) {
        weald_tls_options how = {.size = sizeof how, .certificate = argv[2], .key = argv[3]};
        below.tls = weald_tls_server(&how);
        server = weald_stream_server_new("127.0.0.1:0", bytes, NULL, &below);
    } else {
        server = weald_http_server_new("127.0.0.1:0", messages, NULL, NULL);
    }
    if (server < 0)
        return 1;
    printf("%d\n", weald_server_port(server));
    fflush(stdout);
    return weald_server_serve(server, WEALD_FOREVER) < 0;
}
