/* The weald end of a connection whose other end is somebody else's TLS: `tls_peer server|client PORT [NAME=VALUE...]`.
 *
 * The server prints its port, echoes lines, answers "GET" as HTTP/1.0 does, and prints what it knows of each connection.
 * The client sends "hello", a large line and "bye", prints what it knows and the answers' lengths, and reads to the end.
 * Values: certificate, key, roots, alpn, name, flags (numbers of weald.h), times (how many connections), and those in main.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <weald.h>

static weald_tls_options how = {.size = sizeof how};
static const char *name = "oak.test";
static int times = 1, size = 200000, waits;

static void failed(const char *what, long long code)
{
    printf("%s: %s: %s\n", what, weald_strcode((int)code), weald_error_message(weald_self()));
    fflush(stdout);
}

static void tell(weald_stream s)
{
    weald_tls_info info = {.size = sizeof info};

    if (weald_tls_info_get(s, &info) == 0)
        printf("%s %s alpn=%.*s name=%.*s certificate=%d resumed=%d\n", info.protocol, info.cipher, (int)info.alpn_len,
               info.alpn ? info.alpn : "", (int)info.server_name_len, info.server_name ? info.server_name : "",
               info.certificate_len > 0, info.resumed);
    fflush(stdout);
}

static int serve(weald_stream s, const struct sockaddr *peer, socklen_t len, void *user)
{
    const char *line;
    size_t n;
    int code, is_http = 0;

    (void)peer, (void)len, (void)user;
    tell(s);
    while ((code = weald_stream_line(s, &line, &n, 1000000, WEALD_FOREVER)) == 1) {
        int is_last = strcmp(line, "bye") == 0;
        is_http |= strncmp(line, "GET ", 4) == 0;
        if (is_http && n > 0)
            continue;
        if (is_http) {
            static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nweald\n";
            weald_stream_write(s, answer, sizeof answer - 1, NULL, WEALD_FOREVER);
            return 0;
        }
        weald_stream_write(s, line, n, NULL, WEALD_FOREVER);
        weald_stream_write(s, "\n", 1, NULL, WEALD_FOREVER);
        if (is_last)
            return 0;
        weald_stream_flush(s, WEALD_FOREVER);
    }
    if (code < 0)
        failed("server", code);
    return 0;
}

static int talk(weald_stream s)
{
    static char large[200001];
    const char *line;
    size_t n;
    int code = 0;

    memset(large, 'x', (size_t)size);
    large[size] = '\n';
    weald_stream_write(s, "hello\n", 6, NULL, WEALD_FOREVER);
    weald_stream_write(s, large, (size_t)size + 1, NULL, WEALD_FOREVER);
    weald_stream_write(s, "bye\n", 4, NULL, WEALD_FOREVER);
    code = weald_stream_flush(s, WEALD_FOREVER);
    for (int i = 0; code == 0 && i < 3; i++)
        if ((code = weald_stream_line(s, &line, &n, 1000000, weald_after(WEALD_SEC(10)))) == 1)
            code = 0 * printf("%zu %.5s\n", n, line);
    return code;
}

static void client(int port, weald_tls_config config)
{
    char at[32], byte;

    snprintf(at, sizeof at, "127.0.0.1:%d", port);
    for (int i = 0; i < times; i++) {
        long long code = weald_tcp_connect(at, weald_after(WEALD_SEC(10)));
        weald_stream s = code < 0 ? code : weald_stream_new((int)code, NULL);

        code = s < 0 ? s : weald_tls_connect(s, config, name, weald_after(WEALD_SEC(10)));
        if (code == 0)
            tell(s);
        if (code == 0)
            code = talk(s);
        if (code == 0 && !waits)
            code = weald_stream_end(s, WEALD_FOREVER);
        if (code == 0)
            code = weald_stream_read(s, &byte, 1, weald_after(WEALD_SEC(10)));
        if (code < 0)
            failed("client", code);
        else
            printf("end\n");
        weald_close(s);
    }
}

int main(int argc, char **argv)
{
    weald_tls_config config;
    int is_server = argc > 2 && strcmp(argv[1], "server") == 0;

    for (int i = 3; i < argc; i++) {
        char *value = strchr(argv[i], '=') + 1;
        if (strncmp(argv[i], "certificate=", 12) == 0) how.certificate = value;
        if (strncmp(argv[i], "key=", 4) == 0) how.key = value;
        if (strncmp(argv[i], "roots=", 6) == 0) how.roots = value;
        if (strncmp(argv[i], "alpn=", 5) == 0) how.alpn = value;
        if (strncmp(argv[i], "name=", 5) == 0) name = value;
        if (strncmp(argv[i], "flags=", 6) == 0) how.flags = atoi(value);
        if (strncmp(argv[i], "times=", 6) == 0) times = atoi(value);
        if (strncmp(argv[i], "size=", 5) == 0) size = atoi(value); /* of the large line, up to 200000 */
        if (strncmp(argv[i], "waits=", 6) == 0) waits = atoi(value); /* until the other side has ended */
    }
    config = is_server ? weald_tls_server(&how) : weald_tls_client(&how);
    if (argc < 3 || config < 0) {
        failed("config", config);
        return 2;
    }
    if (is_server) {
        weald_server_options options = {.size = sizeof options, .tls = config};
        weald_server server = weald_stream_server_new("127.0.0.1:0", serve, NULL, &options);

        if (server < 0)
            return 2;
        printf("%d\n", weald_server_port(server));
        fflush(stdout);
        return weald_server_serve(server, WEALD_FOREVER) < 0;
    }
    client(atoi(argv[2]), config);
    return 0;
}
