/* weald, through its C ABI and nothing else. Every handle a row makes it also closes,
 * inside the measured part: that is what a user would pay.
 */
#include "bench.h"
#include <netdb.h>
#include <weald.h>

static int64_t ok(int64_t code, const char *call)
{
    if (code < 0) {
        printf("FAIL %s: %s\n", call, weald_strerror((int)code));
        fflush(stdout);
        _exit(1);
    }
    return code;
}

/* The call's own text names it in the report of a failure. */
#define OK(call) ok(call, #call)

static weald_greenlet go(weald_fn body, void *arg)
{
    return OK(weald_spawn(body, arg));
}

static void join(weald_greenlet g)
{
    OK(weald_join(g, WEALD_FOREVER));
    OK(weald_close(g));
}

static void join_all(const weald_greenlet *all, long n)
{
    for (long i = 0; i < n; i++)
        join(all[i]);
}

/* ---- raw switch ---- */

static weald_greenlet partner;

/* Switches back to `partner` whatever comes, until NULL comes. */
static void *echo(void *value, void *arg)
{
    (void)arg;
    while (value)
        OK(weald_switch(partner, value, &value));
    return NULL;
}

static void trips(weald_greenlet to, long n)
{
    void *value = &partner;
    double t0 = cpu_ns();
    for (long i = 0; i < n; i++)
        OK(weald_switch(to, value, &value));
    report_ns("ns", t0, n);
    if (value != &partner)
        fail("value");
}

static void switch_main(const long *n)
{
    partner = weald_main();
    weald_greenlet other = OK(weald_coro_new(echo, NULL, 0, NULL));
    trips(other, n[0]);
    OK(weald_switch(other, NULL, NULL)); /* it ends, and we are its parent */
    OK(weald_close(other));
}

static void *lead(void *n, void *arg)
{
    (void)arg;
    weald_greenlet other = OK(weald_coro_new(echo, NULL, 0, NULL));
    partner = weald_self();
    trips(other, (long)n);
    OK(weald_switch(other, NULL, NULL));
    OK(weald_close(other));
    return NULL;
}

static void switch_two(const long *n)
{
    weald_greenlet leader = OK(weald_coro_new(lead, NULL, 0, NULL));
    OK(weald_switch(leader, (void *)n[0], NULL));
    OK(weald_close(leader));
}

/* ---- yield, spawn, park, sleep ---- */

static long share, started;
static int opened;

static void *yielder(void *arg)
{
    started++;
    while (!opened)
        OK(weald_yield());
    for (long i = 0; i < share; i++)
        OK(weald_yield());
    return arg;
}

static void yields(const long *n)
{
    weald_greenlet *all = touched(n[0], sizeof *all);
    share = n[1] / n[0];
    for (long i = 0; i < n[0]; i++)
        all[i] = go(yielder, NULL);
    while (started < n[0])
        OK(weald_yield());
    opened = 1;
    double t0 = cpu_ns();
    join_all(all, n[0]);
    report_ns("ns", t0, (double)share * n[0]);
    free(all);
}

static void *empty(void *arg)
{
    return arg;
}

static void spawn_batch(weald_greenlet *all, long batch)
{
    for (long i = 0; i < batch; i++)
        all[i] = go(empty, NULL);
    join_all(all, batch);
}

static void spawn(const long *n)
{
    weald_greenlet *all = touched(n[0], sizeof *all);
    spawn_batch(all, n[0]); /* warms the stacks */
    double t0 = cpu_ns();
    for (long i = 0; i < n[1]; i++)
        spawn_batch(all, n[0]);
    report_ns("ns", t0, (double)n[0] * n[1]);
    free(all);
}

static weald_handle gate;

static void *parker(void *arg)
{
    started++;
    OK(weald_event_wait(gate, WEALD_FOREVER));
    return arg;
}

static void park(const long *n)
{
    weald_greenlet *all = touched(n[0], sizeof *all);
    gate = OK(weald_event_new(0));
    struct memory before = memory_now();
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        all[i] = go(parker, NULL);
    while (started < n[0])
        OK(weald_yield());
    report_ns("spawn", t0, n[0]);
    struct memory peak = report_parked(before, n[0]);
    t0 = cpu_ns();
    OK(weald_event_set(gate));
    join_all(all, n[0]);
    report_ns("join", t0, n[0]);
    OK(weald_sleep(WEALD_MS(300))); /* an idle hub is when cold stacks go back */
    report_left(before, peak);
    OK(weald_close(gate));
    free(all);
}

static void *sleeper(void *longest)
{
    OK(weald_sleep(WEALD_MS(random_ms((long)longest))));
    return NULL;
}

static void sleeps(const long *n)
{
    weald_greenlet *all = malloc(n[0] * sizeof *all);
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        all[i] = go(sleeper, (void *)n[1]);
    join_all(all, n[0]);
    report_ns("ns", t0, n[0]);
    free(all);
}

/* ---- queues ---- */

static weald_handle there, back;
static long count;

static void put(weald_handle queue, long value)
{
    OK(weald_queue_put(queue, (void *)value, WEALD_FOREVER));
}

static long get(weald_handle queue)
{
    void *item;
    OK(weald_queue_get(queue, &item, WEALD_FOREVER));
    return (long)item;
}

static void *ponger(void *arg)
{
    for (long i = 0; i < count; i++)
        put(back, get(there));
    return arg;
}

static void rendezvous(const long *n)
{
    there = OK(weald_queue_new(WEALD_FIFO, 0, NULL));
    back = OK(weald_queue_new(WEALD_FIFO, 0, NULL));
    count = n[0] / 2;
    weald_greenlet other = go(ponger, NULL);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        put(there, i);
        if (get(back) != i)
            fail("order");
    }
    report_ns("ns", t0, n[0]);
    join(other);
    OK(weald_close(there));
    OK(weald_close(back));
}

static void *producer(void *arg)
{
    for (long i = 0; i < count; i++)
        put(there, i);
    return arg;
}

static void queue(const long *n)
{
    there = OK(weald_queue_new(WEALD_FIFO, n[0], NULL));
    count = n[1];
    weald_greenlet other = go(producer, NULL);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++)
        if (get(there) != i)
            fail("order");
    report_ns("ns", t0, n[1]);
    join(other);
    OK(weald_close(there));
}

/* ---- semaphore, lock ---- */

static weald_handle mine, yours;

static void *handler(void *arg)
{
    for (long i = 0; i < count; i++) {
        OK(weald_semaphore_acquire(mine, WEALD_FOREVER));
        OK(weald_semaphore_release(yours));
    }
    return arg;
}

static void semaphore(const long *n)
{
    mine = OK(weald_semaphore_new(0));
    yours = OK(weald_semaphore_new(0));
    count = n[0] / 2;
    weald_greenlet other = go(handler, NULL);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        OK(weald_semaphore_release(mine));
        OK(weald_semaphore_acquire(yours, WEALD_FOREVER));
    }
    report_ns("ns", t0, n[0]);
    join(other);
    OK(weald_close(mine));
    OK(weald_close(yours));
}

static void *locker(void *lock)
{
    for (long i = 0; i < count; i++) {
        OK(weald_lock_acquire((weald_handle)(intptr_t)lock, WEALD_FOREVER));
        OK(weald_yield());
        OK(weald_lock_release((weald_handle)(intptr_t)lock));
    }
    return NULL;
}

static void mutex(const long *n)
{
    weald_handle lock = OK(weald_lock_new());
    count = n[0] / 2;
    double t0 = cpu_ns();
    weald_greenlet a = go(locker, (void *)(intptr_t)lock), b = go(locker, (void *)(intptr_t)lock);
    join(a);
    join(b);
    report_ns("ns", t0, n[0]);
    OK(weald_close(lock));
}

/* ---- descriptors ---- */

/* Waiting first spares an EAGAIN: in these rows hardly ever is something there yet. */
static void wait_byte(int fd)
{
    OK(weald_wait_read(fd, WEALD_FOREVER));
    read_byte(fd);
}

static void *bouncer(void *fd)
{
    for (long i = 0; i < count; i++) {
        wait_byte((int)(intptr_t)fd);
        write_byte((int)(intptr_t)fd);
    }
    return NULL;
}

static void pingpong(const long *n)
{
    int pair[2];
    open_pair(pair);
    count = n[0];
    weald_greenlet other = go(bouncer, (void *)(intptr_t)pair[1]);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        write_byte(pair[0]);
        wait_byte(pair[0]);
    }
    report_ns("ns", t0, n[0]);
    join(other);
}

static struct ring tokens;
static weald_handle over;

static void *relay(void *arg)
{
    long at = (long)arg;
    for (;;) {
        wait_byte(tokens.to[at]);
        if (++tokens.done == tokens.hops)
            OK(weald_event_set(over));
        write_byte(tokens.from[(at + 1) % tokens.n]);
    }
    return NULL;
}

static void ring(const long *n)
{
    tokens = ring_new(n);
    over = OK(weald_event_new(0));
    for (long i = 0; i < tokens.n; i++)
        OK(weald_go(relay, (void *)i));
    OK(weald_sleep(WEALD_MS(10))); /* until all of them wait */
    double t0 = cpu_ns();
    ring_start(&tokens);
    OK(weald_event_wait(over, WEALD_FOREVER));
    report_ns("ns", t0, tokens.hops);
    fflush(stdout);
    _exit(0); /* the relays never end */
}

/* ---- servers ---- */

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buffer[REQUEST_MAX];
    int64_t n;
    while ((n = weald_read(fd, buffer, sizeof buffer, WEALD_FOREVER)) > 0)
        if (weald_write_all(fd, buffer, n, NULL, WEALD_FOREVER))
            break;
    OK(weald_close_fd(fd));
    return NULL;
}

/* The same by lines, through a stream: it has no buffer while it waits. */
static void *serve_lines(void *arg)
{
    weald_stream s = OK(weald_stream_new((int)(intptr_t)arg, NULL));
    const char *line;
    size_t len;
    while (weald_stream_line(s, &line, &len, REQUEST_MAX, WEALD_FOREVER) == 1)
        if (weald_stream_write(s, line, len, NULL, WEALD_FOREVER) ||
            weald_stream_write(s, "\n", 1, NULL, WEALD_FOREVER) || weald_stream_flush(s, WEALD_FOREVER))
            break;
    OK(weald_close(s));
    return NULL;
}

static void accept_all(weald_fn handler)
{
    int listener = listen_tcp();
    for (;;) {
        int fd = (int)OK(weald_accept(listener, NULL, NULL, WEALD_FOREVER));
        OK(weald_set_option(fd, WEALD_OPTION_NODELAY, 1));
        OK(weald_go(handler, (void *)(intptr_t)fd));
    }
}

static void echo_server(const long *n)
{
    (void)n;
    accept_all(serve);
}

static void line_server(const long *n)
{
    (void)n;
    accept_all(serve_lines);
}

static void file_server(const long *n)
{
    (void)n;
    int file = file_to_send(), fd = (int)OK(weald_accept(listen_tcp(), NULL, NULL, WEALD_FOREVER));
    char byte;
    while (OK(weald_read(fd, &byte, 1, WEALD_FOREVER)) == 1)
        for (int64_t at = 0; at < FILE_BYTES;)
            OK(weald_sendfile(fd, file, &at, FILE_BYTES - at, WEALD_FOREVER));
}

static void connects(const long *n)
{
    int listener = listen_tcp();
    struct sockaddr_in at = address_of(listener);
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++) {
        int fd = (int)OK(weald_socket(AF_INET, SOCK_STREAM, 0));
        OK(weald_connect(fd, (struct sockaddr *)&at, sizeof at, WEALD_FOREVER));
        reset_next(listener);
        OK(weald_close_fd(fd));
    }
    report_ns("ns", t0, n[0]);
}

/* ---- processes, names ---- */

static void run_true(void)
{
    static const char *const argv[] = {TRUE_PROGRAM, NULL};
    int status;
    weald_process p = OK(weald_process_spawn(argv, NULL));
    OK(weald_process_wait(p, &status, WEALD_FOREVER));
    OK(weald_close(p));
    if (status)
        fail(TRUE_PROGRAM);
}

static void process(const long *n)
{
    run_true(); /* what the first one loads is nobody's */
    struct usage t0 = usage_now();
    for (long i = 0; i < n[0]; i++)
        run_true();
    report_usage(t0, n[0]);
}

static void look_up(int64_t deadline)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list;
    OK(weald_getaddrinfo(LOCAL_NAME, "80", &hints, &list, deadline));
    weald_freeaddrinfo(list);
}

static void name(const long *n)
{
    OK(weald_dns_set_ttl(WEALD_MS(3600 * 1000), 0));
    look_up(WEALD_FOREVER);
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        look_up(WEALD_NOW); /* fails if it is not in the cache */
    report_ns("ns", t0, n[0]);
}

static void idle(const long *n)
{
    (void)n;
    int pair[2];
    open_pair(pair);
    count = 1;
    weald_greenlet other = go(bouncer, (void *)(intptr_t)pair[0]);
    announce_idle();
    join(other);
}

static const struct row rows[] = {
    {"switch", switch_main},  {"switch2", switch_two}, {"yield", yields},
    {"spawn", spawn},         {"park", park},          {"sleep", sleeps},
    {"rendezvous", rendezvous}, {"queue", queue},      {"semaphore", semaphore},
    {"mutex", mutex},         {"pingpong", pingpong},  {"ring", ring},
    {"idle", idle},           {"echo", echo_server},   {"lines", line_server},
    {"file", file_server},    {"connect", connects},   {"process", process},
    {"name", name},           {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    return run_row(argc, argv, rows);
}
