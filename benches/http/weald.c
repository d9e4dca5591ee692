/* weald's HTTP server: "/" 13 bytes, "/10k" ten thousand, "/chunked" ten pieces of 100; "/poll" waits until somebody asks
 * for "/go". Prints its port. */
#include <stdio.h>
#include <string.h>
#include <weald.h>

static char large[10000];
static weald_event gate;

static void answer(weald_http_request r, void *user)
{
    const char *target = weald_http_target(r);

    (void)user;
    if (target[1] == 'p')
        weald_event_wait(gate, WEALD_FOREVER);
    if (target[1] == 'g')
        weald_event_set(gate);
    if (target[1] != '1' && target[1] != 'c') {
        weald_http_reply(r, 200, "text/plain", "Hello, World!", 13, WEALD_FOREVER);
    } else if (target[1] == '1') {
        weald_http_reply(r, 200, "text/plain", large, sizeof large, WEALD_FOREVER);
    } else {
        weald_http_add_header(r, "Content-Type", "text/plain");
        weald_http_begin(r, 200, NULL, -1);
        for (int i = 0; i < 10; i++)
            weald_http_write(r, large, 100, NULL, WEALD_FOREVER);
        weald_http_end(r, WEALD_FOREVER);
    }
}

int main(void)
{
    weald_http_options options = {.size = sizeof options, .max_requests = (size_t)-1};
    weald_server server;

    gate = weald_event_new(0);
    memset(large, 'x', sizeof large);
    server = weald_http_server_new("127.0.0.1:0", answer, NULL, &options);
    if (server < 0)
        return 1;
    printf("%d\n", weald_server_port(server));
    fflush(stdout);
    return weald_server_serve(server, WEALD_FOREVER) < 0;
}
