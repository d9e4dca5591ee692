/* Raw epoll: no green threads, no library. The floor for everything that waits for
 * descriptors. Both ends are level-triggered in one set, registered once.
 */
#include "../bench.h"
#include <sys/epoll.h>

static void watch(int epoll, int fd, uint32_t tag)
{
    struct epoll_event e;
    memset(&e, 0, sizeof e);
    e.events = EPOLLIN;
    e.data.u32 = tag;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e))
        fail("epoll_ctl");
}

static void pingpong(const long *n)
{
    int pair[2], epoll = epoll_create1(0);
    struct epoll_event ready[8];
    open_pair(pair);
    for (int i = 0; i < 2; i++)
        watch(epoll, pair[i], pair[i]);
    double t0 = cpu_ns();
    write_byte(pair[0]);
    for (long reads = 0; reads < 2 * n[0];) {
        int k = epoll_wait(epoll, ready, 8, -1);
        for (int i = 0; i < k; i++, reads++) {
            read_byte(ready[i].data.u32);
            write_byte(ready[i].data.u32);
        }
    }
    report_ns("ns", t0, n[0]);
}

static void ring(const long *n)
{
    struct ring r = ring_new(n);
    struct epoll_event ready[1024];
    int epoll = epoll_create1(0);
    for (long i = 0; i < r.n; i++)
        watch(epoll, r.to[i], i);
    double t0 = cpu_ns();
    ring_start(&r);
    while (r.done < r.hops) {
        int k = epoll_wait(epoll, ready, 1024, -1);
        for (int i = 0; i < k; i++, r.done++) {
            uint32_t at = ready[i].data.u32;
            read_byte(r.to[at]);
            write_byte(r.from[(at + 1) % r.n]);
        }
    }
    report_ns("ns", t0, r.done);
}

static void idle(const long *n)
{
    (void)n;
    int pair[2], epoll = epoll_create1(0);
    struct epoll_event ready[8];
    open_pair(pair);
    watch(epoll, pair[0], 0);
    announce_idle();
    epoll_wait(epoll, ready, 8, -1);
}

static const struct row rows[] = {
    {"pingpong", pingpong}, {"ring", ring}, {"idle", idle}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    return run_row(argc, argv, rows);
}
