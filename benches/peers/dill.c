/* libdill (no package of Debian; measured where its header is installed). It has no
 * buffered channel, no semaphore and no mutex.
 */
#include "../bench.h"
#define DILL_DISABLE_RAW_NAMES
#include <libdill.h>

static int ok(int result, const char *call)
{
    if (result < 0)
        fail(call);
    return result;
}

#define OK(call) ok(call, #call)

/* ---- yield, spawn, park, sleep ---- */

static long share, started;
static int opened;

static dill_coroutine void yielder(void)
{
    started++;
    while (!opened)
        OK(dill_yield());
    for (long i = 0; i < share; i++)
        OK(dill_yield());
}

/* A bundle is how libdill joins: it ends when the last of its coroutines has. */
static void join(int bundle)
{
    OK(dill_bundle_wait(bundle, -1));
    OK(dill_hclose(bundle));
}

static void yields(const long *n)
{
    int all = OK(dill_bundle());
    share = n[1] / n[0];
    for (long i = 0; i < n[0]; i++)
        OK(dill_bundle_go(all, yielder()));
    while (started < n[0])
        OK(dill_yield());
    opened = 1;
    double t0 = cpu_ns();
    join(all);
    report_ns("ns", t0, (double)share * n[0]);
}

static dill_coroutine void empty(void)
{
}

static void spawn_batch(long batch)
{
    int all = OK(dill_bundle());
    for (long i = 0; i < batch; i++)
        OK(dill_bundle_go(all, empty()));
    join(all);
}

static void spawn(const long *n)
{
    spawn_batch(n[0]);
    double t0 = cpu_ns();
    for (long i = 0; i < n[1]; i++)
        spawn_batch(n[0]);
    report_ns("ns", t0, (double)n[0] * n[1]);
}

static dill_coroutine void parker(int gate)
{
    char nothing;
    started++;
    dill_chrecv(gate, &nothing, 1, -1); /* EPIPE when the gate opens */
}

static void park(const long *n)
{
    int gate[2], all = OK(dill_bundle());
    OK(dill_chmake(gate));
    struct memory before = memory_now();
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        OK(dill_bundle_go(all, parker(gate[0])));
    while (started < n[0])
        OK(dill_yield());
    report_ns("spawn", t0, n[0]);
    struct memory peak = report_parked(before, n[0]);
    t0 = cpu_ns();
    OK(dill_chdone(gate[1]));
    join(all);
    report_ns("join", t0, n[0]);
    OK(dill_msleep(dill_now() + 300));
    report_left(before, peak);
}

static dill_coroutine void sleeper(long longest)
{
    OK(dill_msleep(dill_now() + random_ms(longest)));
}

static void sleeps(const long *n)
{
    int all = OK(dill_bundle());
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        OK(dill_bundle_go(all, sleeper(n[1])));
    join(all);
    report_ns("ns", t0, n[0]);
}

/* ---- channels ---- */

static int there[2], back[2];
static long count;

static void put(int channel, long value)
{
    OK(dill_chsend(channel, &value, sizeof value, -1));
}

static long get(int channel)
{
    long value;
    OK(dill_chrecv(channel, &value, sizeof value, -1));
    return value;
}

static dill_coroutine void ponger(void)
{
    for (long i = 0; i < count; i++)
        put(back[0], get(there[1]));
}

static void rendezvous(const long *n)
{
    OK(dill_chmake(there));
    OK(dill_chmake(back));
    count = n[0] / 2;
    OK(dill_go(ponger()));
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        put(there[0], i);
        if (get(back[1]) != i)
            fail("order");
    }
    report_ns("ns", t0, n[0]);
}

/* ---- descriptors ---- */

static void wait_byte(int fd)
{
    OK(dill_fdin(fd, -1));
    read_byte(fd);
}

static dill_coroutine void bouncer(int fd)
{
    for (long i = 0; i < count; i++) {
        wait_byte(fd);
        write_byte(fd);
    }
}

static void pingpong(const long *n)
{
    int pair[2];
    open_pair(pair);
    count = n[0];
    OK(dill_go(bouncer(pair[1])));
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        write_byte(pair[0]);
        wait_byte(pair[0]);
    }
    report_ns("ns", t0, n[0]);
}

static struct ring tokens;
static int over[2];

static dill_coroutine void relay(long at)
{
    for (;;) {
        wait_byte(tokens.to[at]);
        if (++tokens.done == tokens.hops)
            put(over[0], 1);
        write_byte(tokens.from[(at + 1) % tokens.n]);
    }
}

static void ring(const long *n)
{
    tokens = ring_new(n);
    OK(dill_chmake(over));
    for (long i = 0; i < tokens.n; i++)
        OK(dill_go(relay(i)));
    OK(dill_msleep(dill_now() + 10)); /* until all of them wait */
    double t0 = cpu_ns();
    ring_start(&tokens);
    get(over[1]);
    report_ns("ns", t0, tokens.hops);
    fflush(stdout);
    _exit(0); /* the relays never end */
}

/* Its own sockets keep buffers and do more calls; waiting and reading is the leanest it can do. */
static dill_coroutine void serve(int fd)
{
    char buffer[REQUEST_MAX];
    ssize_t n;
    for (;;) {
        OK(dill_fdin(fd, -1));
        if ((n = recv(fd, buffer, sizeof buffer, 0)) <= 0 || send(fd, buffer, n, 0) != n)
            break;
    }
    OK(dill_fdclean(fd));
    close(fd);
}

static void echo(const long *n)
{
    (void)n;
    int listener = listen_tcp(), all = OK(dill_bundle()), fd;
    for (;;) {
        OK(dill_fdin(listener, -1));
        while ((fd = accept_tcp(listener)) >= 0)
            OK(dill_bundle_go(all, serve(fd)));
    }
}

static void idle(const long *n)
{
    (void)n;
    int pair[2];
    open_pair(pair);
    announce_idle();
    wait_byte(pair[0]);
}

static const struct row rows[] = {
    {"yield", yields},           {"spawn", spawn},       {"park", park}, {"sleep", sleeps},
    {"rendezvous", rendezvous},  {"pingpong", pingpong}, {"ring", ring}, {"idle", idle},
    {"echo", echo},              {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    return run_row(argc, argv, rows);
}
