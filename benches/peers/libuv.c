/* libuv (libuv1-dev): callbacks on a loop, no green threads. Descriptors are watched
 * with uv_poll_t, because they are ours; uv streams would add buffers to the row. The
 * server uses them, that being what they are for.
 */
#include "../bench.h"
#include <uv.h>

static uv_loop_t *loop;
static long left; /* events until the loop may end */

static void count_down(void)
{
    if (--left == 0)
        uv_stop(loop);
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
    count_down();
}

static void sleeps(const long *n)
{
    uv_timer_t *timers = malloc(n[0] * sizeof *timers);
    left = n[0];
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++) {
        uv_timer_init(loop, &timers[i]);
        uv_timer_start(&timers[i], on_timer, random_ms(n[1]), 0);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    report_ns("ns", t0, n[0]);
}

struct end {
    uv_poll_t poll;
    int from, to;
};

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct end *end = (struct end *)poll;
    (void)status, (void)events;
    read_byte(end->from);
    write_byte(end->to);
    count_down();
}

/* What comes in at `from` goes out at `to`. */
static void relay(int from, int to)
{
    struct end *end = malloc(sizeof *end);
    end->from = from;
    end->to = to;
    uv_poll_init(loop, &end->poll, from);
    uv_poll_start(&end->poll, UV_READABLE, on_ready);
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
    uv_run(loop, UV_RUN_DEFAULT);
    report_ns("ns", t0, n[0]);
}

static void ring(const long *n)
{
    struct ring r = ring_new(n);
    for (long i = 0; i < r.n; i++)
        relay(r.to[i], r.from[(i + 1) % r.n]);
    left = r.hops;
    uv_run(loop, UV_RUN_NOWAIT); /* registers the descriptors, outside the measured part */
    double t0 = cpu_ns();
    ring_start(&r);
    uv_run(loop, UV_RUN_DEFAULT);
    report_ns("ns", t0, r.hops);
}

/* ---- servers ---- */

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

/* One buffer for all: what is read is answered before the next read. */
static void give_buffer(uv_handle_t *handle, size_t hint, uv_buf_t *out)
{
    static char buffer[REQUEST_MAX];
    (void)handle, (void)hint;
    *out = uv_buf_init(buffer, sizeof buffer);
}

/* Tries first, as one should: a write request is for what does not fit, and here everything does. */
static void on_request(uv_stream_t *peer, ssize_t n, const uv_buf_t *buf)
{
    if (n == 0)
        return;
    uv_buf_t request = uv_buf_init(buf->base, n > 0 ? n : 0);
    if (n < 0 || uv_try_write(peer, &request, 1) != n)
        uv_close((uv_handle_t *)peer, on_closed);
}

static void on_connection(uv_stream_t *listener, int status)
{
    uv_tcp_t *peer = malloc(sizeof *peer);
    if (status || uv_tcp_init(loop, peer) || uv_accept(listener, (uv_stream_t *)peer))
        fail("uv_accept");
    uv_tcp_nodelay(peer, 1);
    uv_read_start((uv_stream_t *)peer, give_buffer, on_request);
}

static void echo(const long *n)
{
    (void)n;
    uv_tcp_t listener;
    uv_tcp_init(loop, &listener);
    if (uv_tcp_open(&listener, listen_tcp()) || uv_listen((uv_stream_t *)&listener, 4096, on_connection))
        fail("uv_listen");
    uv_run(loop, UV_RUN_DEFAULT);
}

static void on_exit_of_child(uv_process_t *child, int64_t status, int by_signal)
{
    if (status || by_signal)
        fail(TRUE_PROGRAM);
    uv_close((uv_handle_t *)child, NULL);
}

static void run_true(void)
{
    char *argv[] = {TRUE_PROGRAM, NULL};
    uv_process_t child;
    uv_process_options_t how = {.exit_cb = on_exit_of_child, .file = TRUE_PROGRAM, .args = argv};
    if (uv_spawn(loop, &child, &how))
        fail("uv_spawn");
    uv_run(loop, UV_RUN_DEFAULT);
}

static void process(const long *n)
{
    run_true();
    struct usage t0 = usage_now();
    for (long i = 0; i < n[0]; i++)
        run_true();
    report_usage(t0, n[0]);
}

static void idle(const long *n)
{
    (void)n;
    int pair[2];
    open_pair(pair);
    relay(pair[0], pair[0]);
    announce_idle();
    uv_run(loop, UV_RUN_DEFAULT);
}

static const struct row rows[] = {
    {"sleep", sleeps}, {"pingpong", pingpong}, {"ring", ring}, {"idle", idle}, {"echo", echo},
    {"process", process}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    loop = uv_default_loop();
    return run_row(argc, argv, rows);
}
