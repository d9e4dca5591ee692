/* libevent's evhttp, as weald.c. */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static char large[10000];
static struct evhttp_request *waiting[100000];
static int count;

static void hello(struct evhttp_request *r)
{
    struct evbuffer *body = evbuffer_new();

    evhttp_add_header(evhttp_request_get_output_headers(r), "Content-Type", "text/plain");
    evbuffer_add_reference(body, "Hello, World!", 13, NULL, NULL);
    evhttp_send_reply(r, 200, "OK", body);
    evbuffer_free(body);
}

static void answer(struct evhttp_request *r, void *unused)
{
    const char *target = evhttp_request_get_uri(r);
    struct evbuffer *body;

    (void)unused;
    if (target[1] == 'p') {
        waiting[count++] = r;
        return;
    }
    while (target[1] == 'g' && count > 0)
        hello(waiting[--count]);
    if (target[1] == 0 || target[1] == 'g') {
        hello(r);
        return;
    }
    body = evbuffer_new();
    evhttp_add_header(evhttp_request_get_output_headers(r), "Content-Type", "text/plain");
    if (target[1] == '1') {
        evbuffer_add_reference(body, large, sizeof large, NULL, NULL);
        evhttp_send_reply(r, 200, "OK", body);
    } else {
        evhttp_send_reply_start(r, 200, "OK");
        for (int i = 0; i < 10; i++) {
            evbuffer_add(body, large, 100);
            evhttp_send_reply_chunk(r, body);
        }
        evhttp_send_reply_end(r);
    }
    evbuffer_free(body);
}

int main(void)
{
    struct event_base *base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    int fd = evhttp_bound_socket_get_fd(bound), on = 1;

    memset(large, 'x', sizeof large);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    getsockname(fd, (struct sockaddr *)&at, &len);
    evhttp_set_gencb(http, answer, NULL);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return event_base_dispatch(base);
}
