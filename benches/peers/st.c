/* State Threads (libst-dev). It has no channel and no semaphore: both are made of
 * st_cond_t here, without a mutex, because its scheduling is cooperative. Version 1.9
 * has no public yield: st_usleep(0) takes its place.
 */
#include "../bench.h"
#include <st.h>

static st_thread_t go(void *(*body)(void *), void *arg)
{
    st_thread_t t = st_thread_create(body, arg, 1, 0);
    if (!t)
        fail("st_thread_create");
    return t;
}

static void st_yield(void)
{
    st_usleep(0);
}

/* ---- yield, spawn, park, sleep ---- */

static long share, started;
static int opened;

static void *yielder(void *arg)
{
    started++;
    while (!opened)
        st_yield();
    for (long i = 0; i < share; i++)
        st_yield();
    return arg;
}

static void yields(const long *n)
{
    st_thread_t *t = malloc(n[0] * sizeof *t);
    share = n[1] / n[0];
    for (long i = 0; i < n[0]; i++)
        t[i] = go(yielder, NULL);
    while (started < n[0])
        st_yield();
    opened = 1;
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        st_thread_join(t[i], NULL);
    report_ns("ns", t0, (double)share * n[0]);
}

static void *empty(void *arg)
{
    return arg;
}

static void spawn_batch(st_thread_t *t, long batch)
{
    for (long i = 0; i < batch; i++)
        t[i] = go(empty, NULL);
    for (long i = 0; i < batch; i++)
        st_thread_join(t[i], NULL);
}

static void spawn(const long *n)
{
    st_thread_t *t = malloc(n[0] * sizeof *t);
    spawn_batch(t, n[0]); /* warms the stacks */
    double t0 = cpu_ns();
    for (long i = 0; i < n[1]; i++)
        spawn_batch(t, n[0]);
    report_ns("ns", t0, (double)n[0] * n[1]);
}

static st_cond_t gate;

static void *parker(void *arg)
{
    started++;
    st_cond_wait(gate);
    return arg;
}

static void park(const long *n)
{
    st_thread_t *t = touched(n[0], sizeof *t);
    gate = st_cond_new();
    struct memory before = memory_now();
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        t[i] = go(parker, NULL);
    while (started < n[0])
        st_yield();
    report_ns("spawn", t0, n[0]);
    struct memory peak = report_parked(before, n[0]);
    t0 = cpu_ns();
    st_cond_broadcast(gate);
    for (long i = 0; i < n[0]; i++)
        st_thread_join(t[i], NULL);
    report_ns("join", t0, n[0]);
    st_usleep(300000);
    report_left(before, peak);
}

static void *sleeper(void *longest)
{
    st_usleep(random_ms((long)longest) * 1000);
    return NULL;
}

static void sleeps(const long *n)
{
    st_thread_t *t = malloc(n[0] * sizeof *t);
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        t[i] = go(sleeper, (void *)n[1]);
    for (long i = 0; i < n[0]; i++)
        st_thread_join(t[i], NULL);
    report_ns("ns", t0, n[0]);
}

/* ---- channels ---- */

struct channel {
    long capacity, length, head, *items;
    st_cond_t nonempty, nonfull;
};

static struct channel *channel_new(long capacity)
{
    struct channel *c = calloc(1, sizeof *c);
    c->capacity = capacity;
    c->items = malloc(capacity * sizeof *c->items);
    c->nonempty = st_cond_new();
    c->nonfull = st_cond_new();
    return c;
}

static void channel_put(struct channel *c, long value)
{
    while (c->length == c->capacity)
        st_cond_wait(c->nonfull);
    long tail = c->head + c->length;
    c->items[tail >= c->capacity ? tail - c->capacity : tail] = value;
    if (c->length++ == 0)
        st_cond_signal(c->nonempty);
}

static long channel_get(struct channel *c)
{
    while (!c->length)
        st_cond_wait(c->nonempty);
    long value = c->items[c->head];
    if (++c->head == c->capacity)
        c->head = 0;
    if (c->length-- == c->capacity)
        st_cond_signal(c->nonfull);
    return value;
}

static struct channel *there, *back;
static long count;

static void *ponger(void *arg)
{
    for (long i = 0; i < count; i++)
        channel_put(back, channel_get(there));
    return arg;
}

/* A channel of one place: cheaper for this library than a true rendezvous. */
static void rendezvous(const long *n)
{
    there = channel_new(1);
    back = channel_new(1);
    count = n[0] / 2;
    st_thread_t t = go(ponger, NULL);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        channel_put(there, i);
        if (channel_get(back) != i)
            fail("order");
    }
    report_ns("ns", t0, n[0]);
    st_thread_join(t, NULL);
}

static void *producer(void *arg)
{
    for (long i = 0; i < count; i++)
        channel_put(there, i);
    return arg;
}

static void queue(const long *n)
{
    there = channel_new(n[0]);
    count = n[1];
    st_thread_t t = go(producer, NULL);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++)
        if (channel_get(there) != i)
            fail("order");
    report_ns("ns", t0, n[1]);
    st_thread_join(t, NULL);
}

/* ---- semaphore, mutex ---- */

struct permits {
    long n;
    st_cond_t more;
};

static void acquire(struct permits *p)
{
    while (!p->n)
        st_cond_wait(p->more);
    p->n--;
}

static void release(struct permits *p)
{
    p->n++;
    st_cond_signal(p->more);
}

static struct permits mine, yours;

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
    mine.more = st_cond_new();
    yours.more = st_cond_new();
    count = n[0] / 2;
    st_thread_t t = go(handler, NULL);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        release(&mine);
        acquire(&yours);
    }
    report_ns("ns", t0, n[0]);
    st_thread_join(t, NULL);
}

static st_mutex_t lock;

static void *locker(void *arg)
{
    for (long i = 0; i < count; i++) {
        st_mutex_lock(lock);
        st_yield();
        st_mutex_unlock(lock);
    }
    return arg;
}

static void mutex(const long *n)
{
    lock = st_mutex_new();
    count = n[0] / 2;
    double t0 = cpu_ns();
    st_thread_t a = go(locker, NULL), b = go(locker, NULL);
    st_thread_join(a, NULL);
    st_thread_join(b, NULL);
    report_ns("ns", t0, n[0]);
}

/* ---- descriptors ---- */

static void io_read(st_netfd_t fd)
{
    char byte;
    if (st_read(fd, &byte, 1, ST_UTIME_NO_TIMEOUT) != 1)
        fail("st_read");
}

static void io_write(st_netfd_t fd)
{
    char byte = 'x';
    if (st_write(fd, &byte, 1, ST_UTIME_NO_TIMEOUT) != 1)
        fail("st_write");
}

static void *bouncer(void *end)
{
    for (long i = 0; i < count; i++) {
        io_read(end);
        io_write(end);
    }
    return NULL;
}

static void pingpong(const long *n)
{
    int pair[2];
    open_pair(pair);
    st_netfd_t near = st_netfd_open_socket(pair[0]), far = st_netfd_open_socket(pair[1]);
    count = n[0];
    st_thread_t t = go(bouncer, far);
    double t0 = cpu_ns();
    for (long i = 0; i < count; i++) {
        io_write(near);
        io_read(near);
    }
    report_ns("ns", t0, n[0]);
    st_thread_join(t, NULL);
}

/* ---- servers ---- */

static void *serve(void *peer)
{
    char buffer[REQUEST_MAX];
    ssize_t n;
    while ((n = st_read(peer, buffer, sizeof buffer, ST_UTIME_NO_TIMEOUT)) > 0)
        if (st_write(peer, buffer, n, ST_UTIME_NO_TIMEOUT) != n)
            break;
    st_netfd_close(peer);
    return NULL;
}

static void echo(const long *n)
{
    (void)n;
    st_netfd_t listener = st_netfd_open_socket(listen_tcp()), peer;
    while ((peer = st_accept(listener, NULL, NULL, ST_UTIME_NO_TIMEOUT))) {
        tune_tcp(st_netfd_fileno(peer));
        if (!st_thread_create(serve, peer, 0, 0))
            fail("st_thread_create");
    }
    fail("st_accept");
}

static void *listener(void *end)
{
    io_read(end);
    return NULL;
}

static void idle(const long *n)
{
    (void)n;
    int pair[2];
    open_pair(pair);
    st_thread_t t = go(listener, st_netfd_open_socket(pair[0]));
    announce_idle();
    st_thread_join(t, NULL);
}

static const struct row rows[] = {
    {"yield", yields},         {"spawn", spawn},     {"park", park},
    {"sleep", sleeps},         {"queue", queue},     {"rendezvous", rendezvous},
    {"semaphore", semaphore},  {"mutex", mutex},     {"pingpong", pingpong},
    {"idle", idle},            {"echo", echo},       {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    st_set_eventsys(ST_EVENTSYS_ALT); /* epoll where the build has it; Debian's has select only */
    if (st_init() < 0)
        fail("st_init");
    return run_row(argc, argv, rows);
}
