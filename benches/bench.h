/* What every C and C++ program of this folder shares: the row table, clocks, memory
 * figures, random sleeps and socket pairs.
 *
 *     PROGRAM ROW [NUMBER...]      prints lines "metric value", or "FAIL why"
 *
 * All counts come from the command line, so that one place (harness/rows.py) decides
 * how much work a row is, for every language.
 */
#ifndef WEALD_BENCH_H
#define WEALD_BENCH_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

/* ---- the row table ---- */

#define MAX_ARGS 4
typedef void (*row_fn)(const long *n); /* n: the numbers after ROW, 0 where missing */
struct row {
    const char *name; /* NULL ends the table */
    row_fn run;
};

static UNUSED void fail(const char *what)
{
    printf("FAIL %s: %s\n", what, errno ? strerror(errno) : "wrong result");
    fflush(stdout);
    _exit(1); /* not exit: atexit handlers of a half-run scheduler may hang */
}

/* 1000 socket pairs need more descriptors than the usual soft limit of 1024. */
static UNUSED void raise_fd_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static UNUSED int run_row(int argc, char **argv, const struct row *rows)
{
    long n[MAX_ARGS] = {0};
    for (int i = 2; i < argc && i < 2 + MAX_ARGS; i++)
        n[i - 2] = atol(argv[i]);
    for (; argc > 1 && rows->name; rows++)
        if (!strcmp(argv[1], rows->name)) {
            rows->run(n);
            return 0;
        }
    fprintf(stderr, "usage: %s ROW [NUMBER...]\n", argv[0]);
    return 2;
}

/* ---- clocks and reports ---- */

/* The CPU clock of the process: a neighbour's time slices do not count. It equals the
 * wall clock for everything that never idles. */
static UNUSED double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static UNUSED void report(const char *metric, double value)
{
    printf("%s %.3f\n", metric, value);
    fflush(stdout);
}

static UNUSED void report_ns(const char *metric, double since, double operations)
{
    report(metric, (cpu_ns() - since) / operations);
}

/* ---- children ---- */

#define TRUE_PROGRAM "/bin/true"

/* CPU of this process, and of its children that have been waited for, in ns. */
struct usage {
    double own, children;
};

static UNUSED struct usage usage_now(void)
{
    struct rusage r;
    getrusage(RUSAGE_CHILDREN, &r);
    double us = (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
    return (struct usage){cpu_ns(), us * 1000};
}

/* What one of `n` children took since then: its parent, and both. */
static UNUSED void report_usage(struct usage since, long n)
{
    struct usage now = usage_now();
    double own = (now.own - since.own) / n;
    report("own", own);
    report("both", own + (now.children - since.children) / n);
}

/* ---- names ---- */

/* In everybody's /etc/hosts: nobody has to ask the network. */
#define LOCAL_NAME "localhost"

/* ---- memory ---- */

struct memory {
    double rss, page_tables; /* bytes; RSS leaves the page tables out */
    double mappings;
};

static UNUSED struct memory memory_now(void)
{
    struct memory m = {0, 0, 0};
    char line[512];
    long kib;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            m.rss = kib * 1024.0;
        if (sscanf(line, "VmPTE: %ld", &kib) == 1)
            m.page_tables = kib * 1024.0;
    }
    if (f)
        fclose(f);
    f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f))
        m.mappings++;
    if (f)
        fclose(f);
    return m;
}

/* What each of n parked threads added since `before`. Returns the peak, for report_left. */
static UNUSED struct memory report_parked(struct memory before, long n)
{
    struct memory peak = memory_now();
    report("rss", (peak.rss - before.rss) / n);
    report("page_tables", (peak.page_tables - before.page_tables) / n);
    report("mappings", peak.mappings - before.mappings);
    return peak;
}

/* How much of the burst's memory is still there after its end, in percent. */
static UNUSED void report_left(struct memory before, struct memory peak)
{
    double added = peak.rss - before.rss;
    report("left", added > 0 ? 100 * (memory_now().rss - before.rss) / added : 0);
}

/* An array that is resident before the measuring starts, so that it counts for nobody. */
static UNUSED void *touched(long n, size_t size)
{
    void *array = malloc(n * size);
    if (!array)
        fail("malloc");
    memset(array, 1, n * size);
    return array;
}

/* ---- random sleeps ---- */

/* xorshift with a fixed seed: every C program sleeps the same sequence. */
static UNUSED long random_ms(long longest)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return 1 + state % longest;
}

/* ---- descriptors ---- */

static UNUSED void open_pair(int pair[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
        fail("socketpair");
}

static UNUSED void write_byte(int fd)
{
    char byte = 'x';
    if (write(fd, &byte, 1) != 1)
        fail("write");
}

static UNUSED void read_byte(int fd)
{
    char byte;
    if (read(fd, &byte, 1) != 1)
        fail("read");
}

/* A ring of n pairs: what is read at to[i] is written to from[(i + 1) % n]. */
struct ring {
    long n, active, hops, done;
    int *to, *from;
};

static UNUSED struct ring ring_new(const long *n)
{
    struct ring r = {n[0], n[1], n[2], 0, (int *)malloc(n[0] * sizeof(int)),
                     (int *)malloc(n[0] * sizeof(int))};
    for (long i = 0; i < r.n; i++) {
        int pair[2];
        open_pair(pair);
        r.from[i] = pair[0];
        r.to[i] = pair[1];
    }
    return r;
}

/* Puts the tokens in, evenly spread. */
static UNUSED void ring_start(const struct ring *r)
{
    for (long i = 0; i < r->active; i++)
        write_byte(r->from[i * (r->n / r->active)]);
}

/* ---- TCP servers ---- */

/* What a server reads at once: on a stack, in a task, or one for all where it is answered at once. */
#define REQUEST_MAX 4096

/* How long the file is that one byte asks for. */
#define FILE_BYTES (16 << 20)

static UNUSED int file_to_send(void)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    if (fd < 0 || posix_fallocate(fd, 0, FILE_BYTES))
        fail("memfd_create");
    return fd;
}

/* A listening socket, non-blocking, on a free port of the loopback; client.c learns the port from stdout. */
static UNUSED int listen_tcp(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = 0};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    signal(SIGPIPE, SIG_IGN);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&at, &size))
        fail("listen");
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static UNUSED int tune_tcp(int fd)
{
    int yes = 1;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

/* The next connection, non-blocking; -1 when there is none yet. */
static UNUSED int accept_tcp(int listener)
{
    return tune_tcp(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

/* Where a listener listens. */
static UNUSED struct sockaddr_in address_of(int listener)
{
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    if (getsockname(listener, (struct sockaddr *)&at, &size))
        fail("getsockname");
    return at;
}

/* Takes and resets the connection that has just been made: nothing is left behind in TIME_WAIT. */
static UNUSED void reset_next(int listener)
{
    struct linger reset = {1, 0};
    int fd = accept_tcp(listener);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) || close(fd))
        fail("accept");
}

/* One request, for those who are told when to read. False when the connection has ended. What the client
 * sends fits into any socket's buffer: nobody has to wait for room. */
static UNUSED int answer(int fd)
{
    static char buffer[REQUEST_MAX];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return 1;
    return n > 0 && send(fd, buffer, n, 0) == n;
}

/* Ready to be watched: the runner counts wake-ups and CPU from outside. */
static UNUSED void announce_idle(void)
{
    puts("ready");
    fflush(stdout);
}

#endif
