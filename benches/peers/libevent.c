/* libevent (libevent-dev): callbacks on a loop, no green threads. */
#include "../bench.h"
#include <event2/event.h>

static struct event_base *base;
static long left; /* events until the loop may end */

static void count_down(void)
{
    if (--left == 0)
        event_base_loopbreak(base);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    count_down();
}

static void sleeps(const long *n)
{
    left = n[0];
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++) {
        long ms = random_ms(n[1]);
        struct timeval after = {ms / 1000, ms % 1000 * 1000};
        evtimer_add(evtimer_new(base, on_timer, NULL), &after);
    }
    event_base_dispatch(base);
    report_ns("ns", t0, n[0]);
}

static void on_ready(evutil_socket_t fd, short what, void *to)
{
    (void)what;
    read_byte(fd);
    write_byte((int)(long)to);
    count_down();
}

/* What comes in at `from` goes out at `to`. */
static void relay(int from, int to)
{
    event_add(event_new(base, from, EV_READ | EV_PERSIST, on_ready, (void *)(long)to), NULL);
}

static void pingpong(const long *n)
{
    int pair[2];
    open_pair(pair);
    for (int i = 0; i < 2; i++)
        relay(pair[i], pair[i]);
    left = 2 * n[0];
    double t0 = cpu_ns();
    write_byte(pair[0]);
    event_base_dispatch(base);
    report_ns("ns", t0, n[0]);
}

static void ring(const long *n)
{
    struct ring r = ring_new(n);
    for (long i = 0; i < r.n; i++)
        relay(r.to[i], r.from[(i + 1) % r.n]);
    left = r.hops;
    event_base_loop(base, EVLOOP_NONBLOCK);
    double t0 = cpu_ns();
    ring_start(&r);
    event_base_dispatch(base);
    report_ns("ns", t0, r.hops);
}

/* Plain events: a bufferevent would copy what comes, and do more system calls. */
static void on_request(evutil_socket_t fd, short what, void *event)
{
    (void)what;
    if (answer(fd))
        return;
    event_free(event);
    close(fd);
}

static void on_connection(evutil_socket_t listener, short what, void *arg)
{
    int fd;
    (void)what, (void)arg;
    while ((fd = accept_tcp(listener)) >= 0)
        event_add(event_new(base, fd, EV_READ | EV_PERSIST, on_request, event_self_cbarg()), NULL);
}

static void echo(const long *n)
{
    (void)n;
    event_add(event_new(base, listen_tcp(), EV_READ | EV_PERSIST, on_connection, NULL), NULL);
    event_base_dispatch(base);
}

static void idle(const long *n)
{
    (void)n;
    int pair[2];
    open_pair(pair);
    relay(pair[0], pair[0]);
    announce_idle();
    event_base_dispatch(base);
}

static const struct row rows[] = {
    {"sleep", sleeps}, {"pingpong", pingpong}, {"ring", ring}, {"idle", idle}, {"echo", echo},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    base = event_base_new();
    return run_row(argc, argv, rows);
}
