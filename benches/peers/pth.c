/* GNU Pth (libpth-dev). Its scheduler walks every waiting thread on each pass, so it
 * runs with a fraction of the counts (`scale` in harness/peers.py), and rows with
 * thousands of waiters are left out.
 */
#include "../bench.h"
#include <fcntl.h>
#include <pth.h>

static pth_t go(void *(*body)(void *), void *arg)
{
    pth_t t = pth_spawn(PTH_ATTR_DEFAULT, body, arg);
    if (!t)
        fail("pth_spawn");
    return t;
}

/* ---- yield, spawn ---- */

static long share, started;
static int opened;

static void *yielder(void *arg)
{
    started++;
    while (!opened)
        pth_yield(NULL);
    for (long i = 0; i < share; i++)
        pth_yield(NULL);
    return arg;
}

static void yields(const long *n)
{
    pth_t *t = malloc(n[0] * sizeof *t);
    share = n[1] / n[0];
    for (long i = 0; i < n[0]; i++)
        t[i] = go(yielder, NULL);
    while (started < n[0])
        pth_yield(NULL);
    opened = 1;
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        pth_join(t[i], NULL);
    report_ns("ns", t0, (double)share * n[0]);
}

static void *empty(void *arg)
{
    return arg;
}

static void spawn_batch(pth_t *t, long batch)
{
    for (long i = 0; i < batch; i++)
        t[i] = go(empty, NULL);
    for (long i = 0; i < batch; i++)
        pth_join(t[i], NULL);
}

static void spawn(const long *n)
{
    pth_t *t = malloc(n[0] * sizeof *t);
    spawn_batch(t, n[0]);
    double t0 = cpu_ns();
    for (long i = 0; i < n[1]; i++)
        spawn_batch(t, n[0]);
    report_ns("ns", t0, (double)n[0] * n[1]);
}

/* ---- semaphore, mutex ---- */

struct permits {
    long n;
    pth_mutex_t guard;
    pth_cond_t more;
};

static void permits_init(struct permits *p)
{
    p->n = 0;
    pth_mutex_init(&p->guard);
    pth_cond_init(&p->more);
}

static void acquire(struct permits *p)
{
    pth_mutex_acquire(&p->guard, FALSE, NULL);
    while (!p->n)
        pth_cond_await(&p->more, &p->guard, NULL);
    p->n--;
    pth_mutex_release(&p->guard);
}

static void release(struct permits *p)
{
    pth_mutex_acquire(&p->guard, FALSE, NULL);
    p->n++;
    pth_cond_notify(&p->more, FALSE);
    pth_mutex_release(&p->guard);
}

static struct permits mine, yours;
static long count;

static void *handler(void *arg)
{
    for (long i = 0; i < count; i++) {
        acquire(&mine);
        release(&yours);
    }
    return arg;
}

static void semaphore(const long *n)
{
    permits_init(&mine);
    permits_init(&yours);
    count = n[0] / 2;
    pth_t t = go(handler, NULL);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        release(&mine);
        acquire(&yours);
    }
    report_ns("ns", t0, n[0]);
    pth_join(t, NULL);
}

static pth_mutex_t lock = PTH_MUTEX_INIT;

static void *locker(void *arg)
{
    for (long i = 0; i < count; i++) {
        pth_mutex_acquire(&lock, FALSE, NULL);
        pth_yield(NULL);
        pth_mutex_release(&lock);
    }
    return arg;
}

static void mutex(const long *n)
{
    count = n[0] / 2;
    double t0 = cpu_ns();
    pth_t a = go(locker, NULL), b = go(locker, NULL);
    pth_join(a, NULL);
    pth_join(b, NULL);
    report_ns("ns", t0, n[0]);
}

/* ---- descriptors ---- */

/* Pth wants blocking descriptors: it asks select() before the call. */
static void open_blocking_pair(int pair[2])
{
    open_pair(pair);
    for (int i = 0; i < 2; i++)
        fcntl(pair[i], F_SETFL, fcntl(pair[i], F_GETFL) & ~O_NONBLOCK);
}

static void io_read(int fd)
{
    char byte;
    if (pth_read(fd, &byte, 1) != 1)
        fail("pth_read");
}

static void io_write(int fd)
{
    char byte = 'x';
    if (pth_write(fd, &byte, 1) != 1)
        fail("pth_write");
}

static void *bouncer(void *end)
{
    for (long i = 0; i < count; i++) {
        io_read((int)(long)end);
        io_write((int)(long)end);
    }
    return NULL;
}

static void pingpong(const long *n)
{
    int pair[2];
    open_blocking_pair(pair);
    count = n[0];
    pth_t t = go(bouncer, (void *)(long)pair[1]);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        io_write(pair[0]);
        io_read(pair[0]);
    }
    report_ns("ns", t0, n[0]);
    pth_join(t, NULL);
}

static void *listener(void *end)
{
    io_read((int)(long)end);
    return NULL;
}

static void idle(const long *n)
{
    (void)n;
    int pair[2];
    open_blocking_pair(pair);
    pth_t t = go(listener, (void *)(long)pair[0]);
    announce_idle();
    pth_join(t, NULL);
}

static const struct row rows[] = {
    {"yield", yields}, {"spawn", spawn},       {"semaphore", semaphore},
    {"mutex", mutex},  {"pingpong", pingpong}, {"idle", idle},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    pth_init();
    return run_row(argc, argv, rows);
}
