/* The client of every server of the benches: starts it, drives it over TCP on the loopback, and says what the
 * server used.
 *
 *     client echo CONNECTIONS REQUESTS -- SERVER...     cpu, p50, p99, rate
 *     client calls CONNECTIONS REQUESTS -- SERVER...    calls: system calls a request, under strace
 *     client idle CONNECTIONS -- SERVER...              rss_new, rss_used: a connection's memory in the server
 *     client accept CONNECTIONS -- SERVER...            cpu: connect, one request, reset
 *     client file TIMES -- SERVER...                    cpu: one byte asks for FILE_BYTES back, per MiB
 *
 * Times are in ns. The server says "port N" and is killed in the end; it dies with the client, too, and an alarm
 * ends both. It stays on the core that we are started on, and we move to another one, if there is one. Requests
 * have 64 bytes, and there is at most one under way on a connection: who is answered asks again, at once.
 */
#include "bench.h"
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SIZE 64      /* bytes of a request */
#define LIFE 120     /* seconds, whatever happens */
#define BATCH 1024   /* events a poll */

struct connection {
    int fd, got;
    int64_t sent_at;
};

static pid_t server;
static clockid_t server_clock;
static struct sockaddr_in server_at = {.sin_family = AF_INET};
static char **server_words;
static struct connection *all;
static int epoll;
static char request[SIZE];

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double server_cpu(void)
{
    struct timespec t;
    if (clock_gettime(server_clock, &t))
        fail("the server's clock");
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* ---- the server ---- */

static void end_server(void)
{
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

static void be_server(int out)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, 1);
    alarm(LIFE);
    execv(server_words[0], server_words);
    fail("execv");
}

/* Server and client must not take turns on one core, or the client's speed is in the server's batches. */
static void leave_core(void)
{
    cpu_set_t mine, other;
    sched_getaffinity(0, sizeof mine, &mine);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        CPU_ZERO(&other);
        CPU_SET(cpu, &other);
        if (!CPU_ISSET(cpu, &mine) && !sched_setaffinity(0, sizeof other, &other))
            return;
    }
}

static void start_server(void)
{
    int out[2], port = 0;
    if (pipe(out) || (server = fork()) < 0)
        fail("start");
    if (server == 0)
        be_server(out[1]);
    close(out[1]);
    alarm(LIFE);
    leave_core();
    FILE *f = fdopen(out[0], "r");
    char line[256] = "";
    if (!f || !fgets(line, sizeof line, f) || sscanf(line, "port %d", &port) != 1) {
        errno = 0;
        fail(line[0] ? line : "the server's port");
    }
    server_at.sin_port = htons(port);
    server_at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (clock_getcpuclockid(server, &server_clock))
        fail("clock_getcpuclockid");
}

/* ---- connections ---- */

static int connect_one(void)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* leaves nothing behind in TIME_WAIT */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&server_at, sizeof server_at))
        fail("connect");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void connect_all(long n)
{
    all = calloc(n, sizeof *all);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < n; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].fd = connect_one();
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e))
            fail("epoll_ctl");
    }
}

static void ask(struct connection *c)
{
    c->got = 0;
    c->sent_at = now_ns();
    if (send(c->fd, request, SIZE, MSG_DONTWAIT | MSG_NOSIGNAL) != SIZE)
        fail("send");
}

/* True when the answer is complete. */
static int hear(struct connection *c)
{
    char answer[SIZE];
    ssize_t n = recv(c->fd, answer, SIZE - c->got, MSG_DONTWAIT);
    if (n <= 0 || memcmp(answer, request + c->got, n))
        fail("the answer");
    c->got += n;
    return c->got == SIZE;
}

/* One request each on `n` connections, then more wherever an answer has come, `count` together. What each one
 * took goes to `took`, unless that is NULL. */
static void drive(long n, long count, uint32_t *took)
{
    struct epoll_event ready[BATCH];
    long asked = 0, answered = 0;
    for (; asked < n && asked < count; asked++)
        ask(&all[asked]);
    while (answered < count) {
        int k = epoll_wait(epoll, ready, BATCH, 20000);
        if (k <= 0)
            fail("no answer");
        for (int i = 0; i < k; i++) {
            struct connection *c = ready[i].data.ptr;
            if (!hear(c))
                continue;
            if (took)
                took[answered] = now_ns() - c->sent_at;
            answered++;
            if (asked < count) {
                asked++;
                ask(c);
            }
        }
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void report_times(uint32_t *took, long count)
{
    qsort(took, count, sizeof *took, by_size);
    report("p50", took[count / 2]);
    report("p99", took[count - 1 - count / 100]);
}

static void echo(const long *n)
{
    uint32_t *took = touched(n[1], sizeof *took);
    connect_all(n[0]);
    drive(n[0], n[0] + n[1] / 8, NULL);
    int64_t t0 = now_ns();
    double cpu = server_cpu();
    drive(n[0], n[1], took);
    report("cpu", (server_cpu() - cpu) / n[1]);
    report("rate", n[1] * 1e9 / (now_ns() - t0));
    report_times(took, n[1]);
}

/* ---- system calls ---- */

static int is_traced(void)
{
    char path[64], line[256];
    int tracer = 0;
    snprintf(path, sizeof path, "/proc/%d/status", server);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "TracerPid: %d", &tracer) == 1)
            break;
    if (f)
        fclose(f);
    return tracer != 0;
}

static pid_t start_strace(const char *out)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", server);
    pid_t tracer = fork();
    if (tracer == 0) {
        execlp("strace", "strace", "-q", "-f", "-c", "-U", "calls", "-o", out, "-p", pid, NULL);
        _exit(127);
    }
    for (int i = 0; i < 200 && !is_traced(); i++)
        usleep(10000);
    if (!is_traced()) {
        errno = 0;
        fail("strace can not be used");
    }
    usleep(100000); /* the other threads, too */
    return tracer;
}

/* The last line of the summary is the total. */
static double calls_in(const char *out)
{
    char line[256];
    double calls = 0, value;
    FILE *f = fopen(out, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%lf", &value) == 1)
            calls = value;
    if (f)
        fclose(f);
    return calls;
}

static void calls(const long *n)
{
    char out[] = "/tmp/weald-bench-XXXXXX";
    int status;
    connect_all(n[0]);
    drive(n[0], n[0] + n[1] / 8, NULL);
    close(mkstemp(out));
    pid_t tracer = start_strace(out);
    drive(n[0], n[1], NULL);
    kill(tracer, SIGINT);
    waitpid(tracer, &status, 0);
    double total = calls_in(out);
    unlink(out);
    if (total <= 0)
        fail("strace");
    report("calls", total / n[1]);
}

/* ---- memory ---- */

static double server_rss(void)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", server);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024.0;
}

/* Until the server has nothing left to do: its CPU clock stands still, and it is not just kept waiting. */
static void settle(void)
{
    double last = -1;
    for (int still = 0; still < 4; still++) {
        double cpu = server_cpu();
        if (cpu != last)
            still = 0;
        last = cpu;
        usleep(50000);
    }
}

static void idle(const long *n)
{
    connect_all(1); /* what the first one makes it load is nobody's */
    drive(1, 100, NULL);
    settle();
    double before = server_rss();
    connect_all(n[0]);
    settle();
    report("rss_new", (server_rss() - before) / n[0]);
    drive(n[0], n[0], NULL);
    usleep(300000); /* who gives memory back when he is idle may do so */
    report("rss_used", (server_rss() - before) / n[0]);
}

/* ---- connecting ---- */

static void one_visit(void)
{
    struct connection c = {.fd = connect_one()};
    ask(&c);
    while (c.got < SIZE) {
        char rest[SIZE];
        ssize_t n = recv(c.fd, rest, SIZE - c.got, 0);
        if (n <= 0)
            fail("the answer");
        c.got += n;
    }
    close(c.fd);
}

static void visits(const long *n)
{
    for (long i = 0; i < n[0] / 8 + 1; i++)
        one_visit();
    double cpu = server_cpu();
    for (long i = 0; i < n[0]; i++)
        one_visit();
    report("cpu", (server_cpu() - cpu) / n[0]);
}

/* ---- files ---- */

static void fetch(int fd)
{
    static char sink[1 << 18];
    long bytes = FILE_BYTES;
    if (write(fd, "x", 1) != 1)
        fail("write");
    while (bytes > 0) {
        ssize_t n = recv(fd, sink, sizeof sink, MSG_TRUNC); /* thrown away: the client is not measured */
        if (n <= 0)
            fail("the file");
        bytes -= n;
    }
}

static void files(const long *n)
{
    int fd = connect_one();
    fetch(fd);
    double cpu = server_cpu();
    for (long i = 0; i < n[0]; i++)
        fetch(fd);
    report("cpu", (server_cpu() - cpu) / ((double)FILE_BYTES / (1 << 20) * n[0]));
}

static const struct row rows[] = {
    {"echo", echo}, {"calls", calls}, {"idle", idle}, {"accept", visits}, {"file", files}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    int dash = 1;
    while (dash < argc && strcmp(argv[dash], "--"))
        dash++;
    if (dash + 1 >= argc) {
        fprintf(stderr, "usage: %s ROW NUMBER... -- SERVER...\n", argv[0]);
        return 2;
    }
    raise_fd_limit();
    server_words = argv + dash + 1;
    memset(request, 'w', SIZE);
    request[SIZE - 1] = '\n'; /* for those who read lines */
    start_server();
    int code = run_row(dash, argv, rows);
    end_server();
    return code;
}
