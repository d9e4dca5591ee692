/* Raw epoll: no green threads, no library. The floor for everything that waits for
 * descriptors. Both ends are level-triggered in one set, registered once.
 */
#include "../bench.h"
#include <sys/epoll.h>
#include <sys/sendfile.h>

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

static void echo(const long *n)
{
    (void)n;
    int listener = listen_tcp(), epoll = epoll_create1(0), fd;
    struct epoll_event ready[1024];
    watch(epoll, listener, listener);
    for (;;) {
        int k = epoll_wait(epoll, ready, 1024, -1);
        for (int i = 0; i < k; i++)
            if ((int)ready[i].data.u32 != listener) {
                if (!answer(ready[i].data.u32))
                    close(ready[i].data.u32);
            } else {
                while ((fd = accept_tcp(listener)) >= 0)
                    watch(epoll, fd, fd);
            }
    }
}

/* One connection, and `epoll` says when there is room. */
static void send_file(int epoll, int fd, int file)
{
    struct epoll_event e = {.events = EPOLLOUT, .data.u32 = fd};
    for (off_t at = 0; at < FILE_BYTES;) {
        ssize_t n = sendfile(fd, file, &at, FILE_BYTES - at);
        if (n < 0 && (errno != EAGAIN || epoll_wait(epoll, &e, 1, -1) < 0))
            fail("sendfile");
    }
}

static void file(const long *n)
{
    (void)n;
    int listener = listen_tcp(), file = file_to_send(), in = epoll_create1(0), out = epoll_create1(0), fd;
    struct epoll_event e = {.events = EPOLLOUT};
    char byte;
    watch(in, listener, listener);
    epoll_wait(in, &e, 1, -1);
    fd = accept_tcp(listener);
    watch(in, fd, fd);
    e = (struct epoll_event){.events = EPOLLOUT | EPOLLET, .data.u32 = fd};
    epoll_ctl(out, EPOLL_CTL_ADD, fd, &e);
    for (;;) {
        epoll_wait(in, &e, 1, -1);
        if (read(fd, &byte, 1) == 1)
            send_file(out, fd, file);
    }
}

static void connects(const long *n)
{
    int listener = listen_tcp(), epoll = epoll_create1(0), error;
    struct sockaddr_in at = address_of(listener);
    socklen_t size = sizeof error;
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct epoll_event e = {.events = EPOLLOUT, .data.u32 = fd};
        if (connect(fd, (struct sockaddr *)&at, sizeof at) && errno != EINPROGRESS)
            fail("connect");
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
        epoll_wait(epoll, &e, 1, -1);
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) || error)
            fail("connect");
        reset_next(listener);
        close(fd);
    }
    report_ns("ns", t0, n[0]);
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
    {"pingpong", pingpong}, {"ring", ring}, {"idle", idle}, {"echo", echo}, {"file", file},
    {"connect", connects}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    raise_fd_limit();
    return run_row(argc, argv, rows);
}
