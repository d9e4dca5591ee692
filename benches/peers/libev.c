/* libev (libev-dev): callbacks on a loop, no green threads. */
#include "../bench.h"
#include <ev.h>

static struct ev_loop *loop;
static long left; /* events until the loop may end */
static struct ring tokens;

static void count_down(void)
{
    if (--left == 0)
        ev_break(loop, EVBREAK_ALL);
}

static void on_timer(struct ev_loop *l, ev_timer *w, int events)
{
    (void)l, (void)w, (void)events;
    count_down();
}

static void sleeps(const long *n)
{
    ev_timer *timers = malloc(n[0] * sizeof *timers);
    left = n[0];
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++) {
        ev_timer_init(&timers[i], on_timer, random_ms(n[1]) / 1000.0, 0);
        ev_timer_start(loop, &timers[i]);
    }
    ev_run(loop, 0);
    report_ns("ns", t0, n[0]);
}

static void on_ping(struct ev_loop *l, ev_io *w, int events)
{
    (void)l, (void)events;
    read_byte(w->fd);
    write_byte(w->fd);
    count_down();
}

static void pingpong(const long *n)
{
    int pair[2];
    ev_io ends[2];
    open_pair(pair);
    for (int i = 0; i < 2; i++) {
        ev_io_init(&ends[i], on_ping, pair[i], EV_READ);
        ev_io_start(loop, &ends[i]);
    }
    left = 2 * n[0];
    double t0 = cpu_ns();
    write_byte(pair[0]);
    ev_run(loop, 0);
    report_ns("ns", t0, n[0]);
}

static void on_token(struct ev_loop *l, ev_io *w, int events)
{
    (void)l, (void)events;
    read_byte(w->fd);
    write_byte((int)(long)w->data);
    count_down();
}

static void ring(const long *n)
{
    tokens = ring_new(n);
    ev_io *ends = malloc(tokens.n * sizeof *ends);
    for (long i = 0; i < tokens.n; i++) {
        ev_io_init(&ends[i], on_token, tokens.to[i], EV_READ);
        ends[i].data = (void *)(long)tokens.from[(i + 1) % tokens.n];
        ev_io_start(loop, &ends[i]);
    }
    ev_run(loop, EVRUN_NOWAIT); /* registers the descriptors, outside the measured part */
    left = tokens.hops;
    double t0 = cpu_ns();
    ring_start(&tokens);
    ev_run(loop, 0);
    report_ns("ns", t0, tokens.hops);
}

static void on_request(struct ev_loop *l, ev_io *w, int events)
{
    (void)events;
    if (answer(w->fd))
        return;
    ev_io_stop(l, w);
    close(w->fd);
    free(w);
}

static void on_connection(struct ev_loop *l, ev_io *w, int events)
{
    int fd;
    (void)events;
    while ((fd = accept_tcp(w->fd)) >= 0) {
        ev_io *peer = malloc(sizeof *peer);
        ev_io_init(peer, on_request, fd, EV_READ);
        ev_io_start(l, peer);
    }
}

static void echo(const long *n)
{
    (void)n;
    ev_io listener;
    ev_io_init(&listener, on_connection, listen_tcp(), EV_READ);
    ev_io_start(loop, &listener);
    ev_run(loop, 0);
}

static void idle(const long *n)
{
    (void)n;
    int pair[2];
    ev_io end;
    open_pair(pair);
    ev_io_init(&end, on_ping, pair[0], EV_READ);
    ev_io_start(loop, &end);
    announce_idle();
    ev_run(loop, 0);
}

static const struct row rows[] = {
    {"sleep", sleeps}, {"pingpong", pingpong}, {"ring", ring}, {"idle", idle}, {"echo", echo},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    loop = ev_loop_new(EVBACKEND_EPOLL);
    return run_row(argc, argv, rows);
}
