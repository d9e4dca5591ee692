/* Connections that send and await an echo in turn: `client websocket|tls PORT CONNECTIONS SECONDS SIZE`. Prints how many
 * echoes came, and in how many microseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

static int is_tls, port, size;
static int64_t end;
static long echoes, failures;
static weald_tls_config config;
static weald_event go;
static char text[1 << 20];

static int64_t connected(void)
{
    char at[64];

    snprintf(at, sizeof at, is_tls ? "127.0.0.1:%d" : "ws://127.0.0.1:%d/", port);
    if (!is_tls)
        return weald_websocket_connect(at, NULL, WEALD_FOREVER);
    int64_t fd = weald_tcp_connect(at, WEALD_FOREVER), s = fd < 0 ? fd : weald_stream_new((int)fd, NULL);
    if (s > 0)
        weald_set_option((int)fd, WEALD_OPTION_NODELAY, 1);
    int code = s < 0 ? (int)s : weald_tls_connect(s, config, "oak.test", WEALD_FOREVER);
    return code < 0 ? code : s;
}

static int echoed(int64_t c, char *back)
{
    const void *data;
    size_t len;

    if (!is_tls)
        return weald_websocket_send(c, WEALD_WEBSOCKET_TEXT, text, (size_t)size, WEALD_FOREVER) == 0 &&
               weald_websocket_receive(c, &data, &len, WEALD_FOREVER) > 0 && len == (size_t)size;
    return weald_stream_write(c, text, (size_t)size, NULL, WEALD_FOREVER) == 0 &&
           weald_stream_flush(c, WEALD_FOREVER) == 0 &&
           weald_stream_read_exact(c, back, (size_t)size, NULL, WEALD_FOREVER) == 0;
}

static void *talk(void *unused)
{
    int64_t c = connected();
    char *back = malloc((size_t)size);

    weald_event_wait(go, WEALD_FOREVER);
    while (c > 0 && weald_now() < end && echoed(c, back))
        echoes++;
    failures += c < 0 || weald_now() < end;
    weald_close(c);
    free(back);
    return unused;
}

int main(int argc, char **argv)
{
    weald_tls_options insecure = {.size = sizeof insecure, .flags = WEALD_TLS_INSECURE};
    int64_t began;

    if (argc < 6)
        return 2;
    is_tls = strcmp(argv[1], "tls") == 0;
    port = atoi(argv[2]);
    size = atoi(argv[5]);
    memset(text, 'x', sizeof text);
    config = weald_tls_client(&insecure);
    go = weald_event_new(0);
    for (int i = atoi(argv[3]); i > 0; i--)
        weald_go(talk, NULL);
    weald_sleep(WEALD_MS(500)); /* connections are not what is measured */
    began = weald_now();
    end = weald_after(WEALD_SEC(atoi(argv[4])));
    puts("go");
    fflush(stdout);
    weald_event_set(go);
    weald_run(WEALD_FOREVER);
    printf("%ld echoes in %lld us, %ld failed\n", echoes, (long long)(weald_now() - began) / 1000, failures);
    return failures > 0;
}
