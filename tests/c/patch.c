/* Calls of C libraries that know nothing of greenlets: patched, they park one greenlet and no thread. Most tests patch
 * the program itself, so that read here is a patched read. */
#include "test.h"
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

static char log_of[64];
static int logged;
static int64_t result;

static void note(char c) { log_of[logged++] = c; }

static void patch_program(void) { CHECK_GT(weald_patch_library(NULL, 0), 0); }

static weald_greenlet spawn(weald_fn body, void *arg)
{
    weald_greenlet g = weald_spawn(body, arg);
    CHECK_GT(g, 0);
    return g;
}

static void join(weald_greenlet g)
{
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

/* ---- libraries, however they are linked ---- */

static const char *plugin(const char *name)
{
    static char path[PATH_MAX];
    const char *folder = getenv("WEALD_PLUGINS");

    if (!folder)
        SKIP("needs WEALD_PLUGINS, which tests/run.py sets");
    snprintf(path, sizeof path, "%s/%s.so", folder, name);
    return path;
}

struct operations {
    ssize_t (*read)(int fd, void *at, size_t len);
    int (*poll)(struct pollfd *fds, nfds_t n, int timeout);
};

static struct blocking {
    ssize_t (*read)(int fd, void *at, size_t len);
    ssize_t (*write)(int fd, const void *at, size_t len);
    int (*poll)(int fd, int timeout);
    int (*checked)(int fd, int n, size_t len);
    void (*sleep)(unsigned us);
    const struct operations *operations;
    void *handle;
} lib;

#define GET(field, symbol) CHECK((*(void **)&lib.field = dlsym(lib.handle, symbol)) != NULL)

static void load(const char *name)
{
    lib.handle = dlopen(plugin(name), RTLD_LAZY | RTLD_LOCAL);
    if (!lib.handle)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(lib.handle != NULL);
    GET(read, "blocking_read");
    GET(write, "blocking_write");
    GET(poll, "blocking_poll");
    GET(checked, "blocking_checked");
    GET(sleep, "blocking_sleep");
    GET(operations, "blocking_operations");
}

static int there[2], back[2];

static void *asks(void *unused)
{
    char c = 'q';

    CHECK_EQ(lib.write(there[1], &c, 1), 1);
    CHECK_EQ(lib.poll(back[0], -1), 1);
    CHECK_EQ(lib.read(back[0], &c, 1), 1);
    note(c);
    return unused;
}

static void *answers(void *unused)
{
    struct pollfd one = {there[0], POLLIN, 0};
    char c;

    CHECK_EQ(lib.operations->poll(&one, 1, -1), 1);
    CHECK_EQ(lib.operations->read(there[0], &c, 1), 1);
    note(c);
    lib.sleep(1000);
    CHECK_EQ(lib.write(back[1], "a", 1), 1);
    return unused;
}

/* Two halves of a dialogue that both block: in one thread it takes two greenlets that wait in turn. */
static void talk(void)
{
    weald_greenlet second, first;

    CHECK_EQ(pipe(there) | pipe(back), 0);
    logged = 0;
    second = spawn(answers, NULL);
    first = spawn(asks, NULL);
    join(first);
    join(second);
    CHECK_EQ(log_of[0], 'q');
    CHECK_EQ(log_of[1], 'a');
    close(there[0]), close(there[1]), close(back[0]), close(back[1]);
}

static const char *const variants[] = {"blocking_lazy", "blocking_now", "blocking_noplt"};

TEST(libraries_are_patched_however_they_are_linked)
{
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        char soname[40];
        int slots;

        load(variants[i]);
        lib.sleep(1); /* a lazy slot that has been bound */
        snprintf(soname, sizeof soname, "%s.so", variants[i]);
        CHECK_GE(slots = weald_patch_library(soname, 0), 6); /* four functions, and two in a table */
        CHECK_EQ(weald_patch_library(soname, 0), slots);
        talk();
    }
    CHECK_GT(weald_unpatch(), 0);
}

static void *checks(void *len)
{
    result = lib.checked(there[0], 1, (size_t)(intptr_t)len);
    return NULL;
}

/* What _FORTIFY_SOURCE calls instead. */
TEST(checked_functions_are_patched_and_check)
{
    int status;
    pid_t child;
    weald_greenlet g;

    load("blocking_fortified");
    CHECK_GT(weald_patch_library("blocking_fortified.so", 0), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, there), 0);
    g = spawn(checks, (void *)(intptr_t)8);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(write(there[1], "0123456789abcdefghijklmn", 24), 24);
    join(g);
    CHECK_EQ(result, 24);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        close(STDERR_FILENO);
        CHECK_EQ(write(there[1], "x", 1), 1);
        checks((void *)(intptr_t)9);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST(a_set_patches_its_functions_alone)
{
    int polls, all;

    load("blocking_now");
    CHECK_EQ(polls = weald_patch_library("blocking_now.so", WEALD_PATCH_POLL), 3); /* poll, ppoll, a table */
    CHECK_GT(all = weald_patch_library("blocking_now.so", WEALD_PATCH_TRANSFER), polls);
    CHECK_EQ(weald_unpatch(), all);
}

TEST(what_is_loaded_later_is_patched_before_it_can_be_called)
{
    CHECK_GT(weald_patch_all(0), 0);
    load("blocking_lazy");
    talk();
    CHECK_EQ(dlclose(lib.handle), 0);
    CHECK_GT(weald_patch_update(), 0);
    load("blocking_now");
    talk();
}

TEST(unpatched_everything_blocks_as_before)
{
    void *before[2];

    load("blocking_noplt");
    before[0] = (void *)lib.operations->read;
    CHECK_GT(weald_patch_library("blocking_noplt.so", 0), 0);
    before[1] = (void *)lib.operations->read;
    CHECK(before[0] != before[1]);
    CHECK_GT(weald_unpatch(), 0);
    CHECK_PTR((void *)lib.operations->read, before[0]);
    CHECK_EQ(weald_unpatch(), 0);
    /* And again. */
    CHECK_GT(weald_patch_library("blocking_noplt.so", 0), 0);
    talk();
}

static void *reports(void *out)
{
    ssize_t n = read(((int *)out)[0], (char *)out + 8, 8000);
    CHECK_GT(n, 0);
    ((char *)out)[8 + n] = 0;
    return NULL;
}

TEST(the_report_counts_slots_calls_and_waits)
{
    static struct {
        int fd, unused;
        char text[8001];
    } out;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    load("blocking_now");
    CHECK_EQ(weald_patch_library("blocking_now.so", WEALD_PATCH_POLL | WEALD_PATCH_TRANSFER), 8);
    CHECK_EQ(lib.poll(ends[0], 0), 0);
    CHECK_EQ(lib.poll(ends[0], 1), 0);
    CHECK_EQ(weald_patch_report(ends[1]), 0);
    out.fd = ends[0];
    reports(&out);
    CHECK_CONTAINS(out.text, "patched: 8 slots in 1 libraries\n");
    CHECK_CONTAINS(out.text, "  blocking_now.so: 8 slots\n");
    CHECK_CONTAINS(out.text, "    poll: 2 slots, 2 calls, 0 parked\n"); /* there was no hub */
    CHECK_GT(weald_self(), 0);
    CHECK_EQ(lib.poll(ends[0], 1), 0);
    CHECK_EQ(weald_patch_report(ends[1]), 0);
    reports(&out);
    CHECK_CONTAINS(out.text, "    poll: 2 slots, 3 calls, 1 parked\n");
}

/* ---- waiting: each function lets another greenlet run until there is something ---- */

static int ends[2];

static void patch_with_ends(void)
{
    patch_program();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
}
static int64_t wake_after;

static void *writes_later(void *unused)
{
    note('w');
    if (wake_after)
        weald_sleep(wake_after);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    return unused;
}

typedef int64_t (*waiting_call)(void);

static int64_t by_poll(void) { return poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, -1); }
static int64_t by_long_poll(void) { return poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 60000); }
static int64_t by_ppoll(void) { return ppoll(&(struct pollfd){ends[0], POLLIN, 0}, 1, NULL, NULL); }
static int64_t by_ppoll_with_time(void)
{
    return ppoll(&(struct pollfd){ends[0], POLLIN, 0}, 1, &(struct timespec){60, 0}, NULL);
}

static int64_t by_select(void)
{
    fd_set set;
    int n;

    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    n = select(ends[0] + 1, &set, NULL, NULL, NULL);
    return n == 1 && !FD_ISSET(ends[0], &set) ? -2 : n;
}

static int64_t by_pselect(void)
{
    struct timespec time = {60, 0};
    fd_set set;

    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    return pselect(ends[0] + 1, &set, NULL, NULL, &time, NULL);
}

static int64_t by_epoll(void)
{
    struct epoll_event event = {EPOLLIN, {.fd = ends[0]}};
    int epoll = epoll_create1(0);
    int64_t n;

    CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event), 0);
    n = epoll_wait(epoll, &event, 1, -1);
    close(epoll);
    return n;
}

static char room[16];
static int64_t by_read(void) { return read(ends[0], room, sizeof room); }
static int64_t by_readv(void) { return readv(ends[0], &(struct iovec){room, sizeof room}, 1); }
static int64_t by_recv(void) { return recv(ends[0], room, sizeof room, 0); }
static int64_t by_recvfrom(void) { return recvfrom(ends[0], room, sizeof room, 0, NULL, NULL); }
static int64_t by_recvmsg(void)
{
    struct iovec one = {room, sizeof room};
    return recvmsg(ends[0], &(struct msghdr){.msg_iov = &one, .msg_iovlen = 1}, 0);
}

static const waiting_call pollers[] = {by_poll, by_long_poll, by_ppoll, by_ppoll_with_time, by_select, by_pselect,
                                       by_epoll};
static const waiting_call readers[] = {by_read, by_readv, by_recv, by_recvfrom, by_recvmsg};

static void let_it_wait(waiting_call call, int64_t after)
{
    weald_greenlet writer;
    char c;

    logged = 0;
    wake_after = after;
    writer = spawn(writes_later, NULL);
    errno = 7;
    CHECK_EQ(call(), 1);
    CHECK_EQ(errno, 7);
    CHECK_EQ(logged, 1);
    join(writer);
    while (recv(ends[0], &c, 1, MSG_DONTWAIT) > 0)
        ;
}

TEST(every_function_that_waits_for_something_lets_others_run)
{
    patch_with_ends();
    for (int64_t after = 0; after <= WEALD_MS(2); after += WEALD_MS(2)) {
        for (size_t i = 0; i < sizeof pollers / sizeof *pollers; i++)
            let_it_wait(pollers[i], after);
        for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
            let_it_wait(readers[i], after);
    }
}

TEST(pipes_are_waited_for_like_sockets)
{
    patch_program();
    CHECK_EQ(pipe(ends), 0);
    let_it_wait(by_read, 0);
    let_it_wait(by_readv, WEALD_MS(2));
}

static void *naps(void *us)
{
    int64_t n = (intptr_t)us;

    CHECK_EQ(weald_sleep(WEALD_US(n)), 0);
    note('n');
    return NULL;
}

static int64_t by_usleep(void) { return usleep(20000); }
static int64_t by_nanosleep(void) { return nanosleep(&(struct timespec){0, 20000000}, NULL); }
static int64_t by_clock(void) { return clock_nanosleep(CLOCK_REALTIME, 0, &(struct timespec){0, 20000000}, NULL); }
static int64_t by_moment(clockid_t clock)
{
    struct timespec until;

    clock_gettime(clock, &until);
    until.tv_nsec += 20000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return clock_nanosleep(clock, TIMER_ABSTIME, &until, NULL);
}
static int64_t by_monotonic_moment(void) { return by_moment(CLOCK_MONOTONIC); }
static int64_t by_wall_moment(void) { return by_moment(CLOCK_REALTIME); }
static int64_t by_sleep(void) { return sleep(1); }
static int64_t by_empty_poll(void) { return poll(NULL, 0, 20); }
static int64_t by_empty_select(void)
{
    struct timeval time = {0, 20000};
    int n = select(0, NULL, NULL, NULL, &time);
    return n == 0 && time.tv_sec == 0 && time.tv_usec == 0 ? 0 : -1;
}

TEST(every_function_that_sleeps_lets_others_run_and_sleeps_long_enough)
{
    static const waiting_call sleepers[] = {by_usleep, by_nanosleep, by_clock, by_monotonic_moment, by_wall_moment,
                                            by_sleep, by_empty_poll, by_empty_select};

    patch_program();
    for (size_t i = 0; i < sizeof sleepers / sizeof *sleepers; i++) {
        int64_t before = weald_now();
        weald_greenlet g = spawn(naps, (void *)(intptr_t)1000);

        logged = 0;
        CHECK_EQ(sleepers[i](), 0);
        CHECK_GE(weald_now() - before, WEALD_MS(19));
        CHECK_EQ(logged, 1);
        join(g);
    }
    CHECK_EQ(nanosleep(&(struct timespec){0, 1000000000}, NULL), -1);
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, 0, &(struct timespec){-1, 0}, NULL), EINVAL);
    CHECK_EQ(clock_nanosleep(12345, 0, &(struct timespec){0, 1}, NULL), EINVAL);
}

TEST(a_wait_of_a_given_time_ends_with_nothing)
{
    struct timeval time = {0, 5000};
    fd_set set;

    patch_program();
    CHECK_GT(weald_self(), 0);
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 5), 0);
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    CHECK_EQ(select(ends[0] + 1, &set, NULL, NULL, &time), 0);
    CHECK(!FD_ISSET(ends[0], &set));
    CHECK_EQ(time.tv_sec + time.tv_usec, 0);
    CHECK_EQ(close(ends[1]), 0);
    CHECK_EQ(poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 5), 1); /* the end is something */
    CHECK_EQ(select(-1, NULL, NULL, NULL, &time), -1);
    CHECK_EQ(errno, EINVAL);
}

/* ---- writing ---- */

enum { MUCH = 3000000 };
static char *much, *copy;

static int64_t all_by_write(void) { return write(ends[1], much, MUCH); }
static int64_t all_by_send(void) { return send(ends[1], much, MUCH, 0); }
static int64_t all_by_sendto(void) { return sendto(ends[1], much, MUCH, 0, NULL, 0); }
static struct iovec parts[4];
static int64_t all_by_writev(void) { return writev(ends[1], parts, 4); }
static int64_t all_by_sendmsg(void)
{
    return sendmsg(ends[1], &(struct msghdr){.msg_iov = parts, .msg_iovlen = 4}, 0);
}

static void *reads_all(void *unused)
{
    ssize_t n, all = 0;

    while (all < MUCH && (n = read(ends[0], copy + all, all < MUCH / 2 ? 7777 : MUCH - all)) > 0)
        all += n;
    CHECK_EQ(all, MUCH);
    return unused;
}

static void prepare_much(void)
{
    much = (char *)malloc(MUCH), copy = (char *)malloc(MUCH);
    for (int i = 0; i < MUCH; i++)
        much[i] = (char)(i * 31 >> 3);
    parts[0] = (struct iovec){much, 1};
    parts[1] = (struct iovec){much + 1, 1000000};
    parts[2] = (struct iovec){much, 0};
    parts[3] = (struct iovec){much + 1000001, MUCH - 1000001};
}

static void move_all(waiting_call call)
{
    weald_greenlet reader = spawn(reads_all, NULL);

    memset(copy, 0, MUCH);
    CHECK_EQ(call(), MUCH);
    join(reader);
    CHECK_EQ(memcmp(much, copy, MUCH), 0);
}

TEST(a_write_to_a_descriptor_that_blocks_moves_everything)
{
    static const waiting_call writers[] = {all_by_write, all_by_send, all_by_sendto, all_by_writev, all_by_sendmsg};

    patch_program();
    prepare_much();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++)
        move_all(writers[i]);
    CHECK_EQ(pipe(ends), 0);
    move_all(all_by_write);
    move_all(all_by_writev);
    free(much), free(copy);
}

static int64_t by_waitall(void)
{
    ssize_t n = recv(ends[0], copy, MUCH, MSG_WAITALL);
    CHECK_EQ(n, MUCH);
    return MUCH;
}

static void *writes_all(void *unused)
{
    CHECK_EQ(write(ends[1], much, MUCH), MUCH);
    return unused;
}

TEST(a_read_that_wants_everything_gets_everything)
{
    weald_greenlet writer;

    patch_program();
    prepare_much();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    writer = spawn(writes_all, NULL);
    CHECK_EQ(by_waitall(), MUCH);
    join(writer);
    CHECK_EQ(memcmp(much, copy, MUCH), 0);
    free(much), free(copy);
}

static int piped;
static void count_sigpipe(int signo) { (void)signo, piped++; }

TEST(a_write_that_nobody_reads_raises_sigpipe_as_ever)
{
    patch_program();
    CHECK_GT(weald_self(), 0);
    signal(SIGPIPE, count_sigpipe);
    CHECK_EQ(pipe(ends), 0);
    close(ends[0]);
    CHECK_EQ(write(ends[1], "x", 1), -1);
    CHECK_EQ(errno, EPIPE);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    close(ends[0]);
    CHECK_EQ(write(ends[1], "x", 1), -1);
    CHECK_EQ(send(ends[1], "x", 1, MSG_NOSIGNAL), -1);
    CHECK_EQ(errno, EPIPE);
    CHECK_EQ(piped, 2);
}

/* ---- what the application wants ---- */

TEST(an_application_that_does_not_want_to_wait_does_not)
{
    char big[100000] = {0};

    patch_program();
    CHECK_GT(weald_self(), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK_EQ(recv(ends[0], room, 1, MSG_DONTWAIT), -1);
    CHECK_EQ(errno, EAGAIN);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    CHECK_EQ(read(ends[0], room, 1), -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(fcntl(ends[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    while (write(ends[1], big, sizeof big) == sizeof big)
        ;
    CHECK_EQ(write(ends[1], big, sizeof big), -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    CHECK_EQ(read(ends[0], room, 1), -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 0), 0);
}

TEST(the_time_limits_of_a_socket_hold)
{
    struct timeval limit = {0, 20000};
    int64_t before = weald_now();
    weald_greenlet g;
    ssize_t n;

    patch_program();
    prepare_much();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK_EQ(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    CHECK_EQ(setsockopt(ends[1], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
    g = spawn(naps, (void *)(intptr_t)1000);
    CHECK_EQ(read(ends[0], room, 1), -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_GE(weald_now() - before, WEALD_MS(19));
    CHECK_EQ(logged, 1);
    join(g);
    CHECK_GT(n = write(ends[1], much, MUCH), 0); /* some of it */
    CHECK_LT(n, MUCH);
    CHECK_EQ(write(ends[1], much, MUCH), -1);
    CHECK_EQ(errno, EAGAIN);
    free(much), free(copy);
}

/* ---- connections ---- */

static int listener;
static struct sockaddr_in address;

static void listen_here(void)
{
    socklen_t len = sizeof address;

    CHECK_GE(listener = socket(AF_INET, SOCK_STREAM, 0), 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(listen(listener, 5), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &len), 0);
}

static void *connects(void *unused)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(write(fd, "hello", 5), 5);
    CHECK_EQ(read(fd, room, sizeof room), 0); /* until the other end is closed */
    CHECK_EQ(close(fd), 0);
    return unused;
}

TEST(a_server_and_its_client_in_one_thread)
{
    int fd, flags[] = {0, SOCK_CLOEXEC | SOCK_NONBLOCK};
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    char text[8];

    patch_program();
    listen_here();
    for (int i = 0; i < 2; i++) {
        weald_greenlet client = spawn(connects, NULL);

        fd = i == 0 ? accept(listener, (struct sockaddr *)&from, &len) : accept4(listener, NULL, NULL, flags[i]);
        CHECK_GE(fd, 0);
        CHECK_EQ((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, i);
        CHECK_EQ(fcntl(fd, F_GETFD), i == 0 ? 0 : FD_CLOEXEC);
        CHECK_EQ(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1), 1);
        CHECK_EQ(read(fd, text, sizeof text), 5);
        CHECK_EQ(close(fd), 0);
        join(client);
    }
    CHECK_EQ(from.sin_family, AF_INET);
    CHECK_EQ(close(listener), 0);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), -1);
    CHECK_EQ(errno, ECONNREFUSED);
    CHECK_EQ(accept(-1, NULL, NULL), -1);
    CHECK_EQ(errno, EBADF);
}

static void *reads_on(void *unused)
{
    char byte;

    CHECK_EQ(read(ends[0], &byte, 1), -1);
    CHECK_EQ(errno, EBADF);
    note('r');
    return unused;
}

TEST(whoever_waits_for_a_descriptor_that_is_closed_hears_of_it)
{
    weald_greenlet reader;

    patch_with_ends();
    reader = spawn(reads_on, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(close(ends[0]), 0);
    join(reader);
    CHECK_EQ(logged, 1);
    CHECK_EQ(close(ends[0]), -1);
    CHECK_EQ(errno, EBADF);
}

static void *reads_one(void *fd)
{
    char byte;

    CHECK_EQ(read((int)(intptr_t)fd, &byte, 1), 1);
    note(byte);
    return NULL;
}

TEST(any_number_of_greenlets_may_wait_for_one_descriptor)
{
    weald_greenlet readers_of[4];

    patch_with_ends();
    for (int i = 0; i < 4; i++)
        readers_of[i] = spawn(reads_one, (void *)(intptr_t)ends[0]);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(write(ends[1], "abcd", 4), 4);
    for (int i = 0; i < 4; i++)
        join(readers_of[i]);
    CHECK_EQ(logged, 4);
}

/* ---- kills and timeouts ---- */

static int64_t error_seen;

static void *makes(void *call)
{
    result = ((waiting_call)(intptr_t)call)();
    error_seen = errno;
    return NULL;
}

static int64_t by_accept(void) { return accept(listener, NULL, NULL); }
static int64_t by_long_sleep(void)
{
    struct timespec left = {0, 0};
    int64_t n = nanosleep(&(struct timespec){3600, 0}, &left);

    CHECK_GE(left.tv_sec, 3590);
    return n;
}

TEST(a_killed_greenlet_s_call_fails_with_ecanceled)
{
    static const waiting_call calls[] = {by_poll, by_ppoll, by_select, by_epoll, by_read, by_readv, by_recv, by_recvmsg,
                                         by_accept, by_long_sleep};

    patch_program();
    listen_here();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        weald_greenlet g = spawn(makes, (void *)(intptr_t)calls[i]);

        CHECK_EQ(weald_yield(), 0);
        result = 77;
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(result, -1);
        CHECK_EQ(error_seen, ECANCELED);
        CHECK_EQ(weald_close(g), 0);
    }
}

static void *sleeps_and_goes_on(void *unused)
{
    CHECK_GE(sleep(100), 99);
    CHECK_EQ(errno, ECANCELED);
    /* What does not wait goes on; what would, does not begin. */
    CHECK_EQ(send(ends[1], "x", 1, MSG_DONTWAIT), 1);
    CHECK_EQ(read(ends[0], room, 1), -1);
    CHECK_EQ(errno, ECANCELED);
    CHECK_EQ(recv(ends[0], room, 1, MSG_DONTWAIT), 1);
    CHECK_EQ(close(ends[1]), 0);
    note('k');
    return unused;
}

TEST(what_a_killed_greenlet_calls_next_fails_unless_it_does_not_wait)
{
    weald_greenlet g;

    patch_with_ends();
    g = spawn(sleeps_and_goes_on, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(logged, 1);
}

TEST(a_call_in_a_timeout_that_passes_fails_with_etimedout)
{
    weald_timeout t;

    patch_with_ends();
    CHECK_GT(t = weald_timeout_start(WEALD_MS(5)), 0);
    CHECK_EQ(read(ends[0], room, 1), -1);
    CHECK_EQ(errno, ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(t), 1);
    CHECK_EQ(weald_close(t), 0);
    CHECK_GT(t = weald_timeout_start(WEALD_MS(5)), 0);
    CHECK_EQ(sleep(10), 10);
    CHECK_EQ(errno, ETIMEDOUT);
    CHECK_EQ(weald_close(t), 0);
}

TEST(a_greenlet_that_never_has_to_wait_lets_others_run_all_the_same)
{
    weald_greenlet g;

    patch_with_ends();
    g = spawn(naps, (void *)(intptr_t)0);
    for (int i = 0; i < 100000 && logged == 0; i++) {
        CHECK_EQ(write(ends[1], "x", 1), 1);
        CHECK_EQ(read(ends[0], room, 1), 1);
    }
    CHECK_EQ(logged, 1);
    join(g);
}

/* ---- names ---- */

static int64_t slow_get(void)
{
    struct timespec time = {0, 5000000};
    return nanosleep(&time, NULL);
}

static int resolve(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    struct addrinfo numeric = hints ? *hints : (struct addrinfo){0};

    slow_get();
    if (host && strcmp(host, "nobody.test") == 0)
        return EAI_NONAME;
    numeric.ai_flags = AI_NUMERICHOST;
    return getaddrinfo("192.0.2.7", service, &numeric, list);
}

static void *looks_up(void *unused)
{
    struct addrinfo *list = NULL, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct hostent *host, room_for, *found;
    char buffer[1000];
    int code;

    CHECK_EQ(getaddrinfo("oak.test", "80", &hints, &list), 0);
    CHECK_EQ(((struct sockaddr_in *)(void *)list->ai_addr)->sin_port, htons(80));
    freeaddrinfo(list); /* the C library's */
    CHECK_EQ(getaddrinfo("nobody.test", NULL, NULL, &list), EAI_NONAME);
    CHECK((host = gethostbyname("elm.test")) != NULL);
    CHECK_EQ(host->h_length, 4);
    CHECK_EQ(*(unsigned char *)host->h_addr_list[0], 192);
    CHECK(gethostbyname("nobody.test") == NULL);
    CHECK_EQ(h_errno, HOST_NOT_FOUND);
    CHECK_EQ(gethostbyname_r("elm.test", &room_for, buffer, sizeof buffer, &found, &code), 0);
    CHECK_PTR(found, &room_for);
    CHECK_EQ(((unsigned char *)found->h_addr_list[0])[3], 7);
    CHECK_EQ(gethostbyname_r("elm.test", &room_for, buffer, 8, &found, &code), ERANGE);
    CHECK_PTR(found, NULL);
    note('l');
    return unused;
}

static void *ticks(void *unused)
{
    while (logged == 0) {
        error_seen++;
        weald_sleep(WEALD_MS(1));
    }
    return unused;
}

TEST(names_are_looked_up_while_others_run)
{
    weald_resolver resolver = {sizeof resolver, resolve, freeaddrinfo, NULL};
    weald_greenlet g, ticker;
    struct addrinfo *list;
    char host[64], service[8];
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    patch_program();
    CHECK_EQ(weald_set_resolver(&resolver), 0);
    g = spawn(looks_up, NULL);
    ticker = spawn(ticks, NULL);
    join(g);
    join(ticker);
    CHECK_GT(error_seen, 3);
    CHECK_EQ(getaddrinfo("127.0.0.1", "1234", NULL, &list), 0);
    freeaddrinfo(list);
    CHECK_EQ(getnameinfo((struct sockaddr *)&local, sizeof local, host, sizeof host, service, sizeof service,
                         NI_NUMERICHOST | NI_NUMERICSERV), 0);
    CHECK_STR(host, "127.0.0.1");
    CHECK_EQ(getnameinfo((struct sockaddr *)&local, sizeof local, host, 2, NULL, 0, NI_NUMERICHOST), EAI_OVERFLOW);
}

static int resolve_name(const struct sockaddr *from, uint32_t len, char *host, uint32_t host_len, char *service,
                        uint32_t service_len, int flags)
{
    (void)from, (void)len, (void)flags;
    slow_get();
    if (host)
        snprintf(host, host_len, "oak.test");
    if (service)
        snprintf(service, service_len, "tree");
    return 0;
}

static void *looks_up_addresses(void *unused)
{
    struct sockaddr_in of = {.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(0xc0000207)};
    struct hostent *host, room_for, *found;
    char name[64], service[16], buffer[500];
    int code;

    CHECK_EQ(getnameinfo((struct sockaddr *)&of, sizeof of, name, sizeof name, service, sizeof service, 0), 0);
    CHECK_STR(name, "oak.test");
    CHECK_STR(service, "tree");
    CHECK_EQ(getnameinfo((struct sockaddr *)&of, sizeof of, name, 4, NULL, 0, 0), EAI_OVERFLOW);
    CHECK((host = gethostbyaddr(&of.sin_addr, 4, AF_INET)) != NULL);
    CHECK_STR(host->h_name, "oak.test");
    CHECK_EQ(gethostbyaddr_r(&of.sin_addr, 4, AF_INET, &room_for, buffer, sizeof buffer, &found, &code), 0);
    CHECK_STR(found->h_name, "oak.test");
    CHECK_EQ(((unsigned char *)found->h_addr_list[0])[3], 7);
    CHECK_PTR(found->h_addr_list[1], NULL);
    note('a');
    return unused;
}

TEST(addresses_are_looked_up_while_others_run)
{
    weald_resolver resolver = {sizeof resolver, NULL, NULL, resolve_name};
    weald_greenlet g, ticker;

    patch_program();
    CHECK_EQ(weald_set_resolver(&resolver), 0);
    g = spawn(looks_up_addresses, NULL);
    ticker = spawn(ticks, NULL);
    join(g);
    join(ticker);
    CHECK_GT(error_seen, 2);
}

static int64_t by_name(void)
{
    struct addrinfo *list;

    return getaddrinfo("slow.test", NULL, NULL, &list);
}

TEST(a_lookup_can_be_killed)
{
    weald_resolver resolver = {sizeof resolver, resolve, freeaddrinfo, NULL};
    weald_greenlet g;

    patch_program();
    CHECK_EQ(weald_set_resolver(&resolver), 0);
    g = spawn(makes, (void *)(intptr_t)by_name);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(result, EAI_SYSTEM);
    CHECK_EQ(error_seen, ECANCELED);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(usleep(20000), 0); /* the thread has its answer for itself */
}

/* ---- children ---- */

static int64_t exit_status;
static pid_t child_of;

static int64_t by_waitpid(void)
{
    int status = -1;
    int64_t pid = waitpid(child_of, &status, 0);

    exit_status = status;
    return pid;
}

static pid_t ends_after(int ms)
{
    pid_t child = fork();

    CHECK_GE(child, 0);
    if (child == 0) {
        struct timespec time = {ms / 1000, ms % 1000 * 1000000};

        nanosleep(&time, NULL);
        _exit(3);
    }
    return child;
}

TEST(a_child_is_waited_for_while_others_run)
{
    weald_greenlet g;
    int status;

    patch_program();
    CHECK_GT(weald_self(), 0);
    child_of = ends_after(20);
    g = spawn(naps, (void *)(intptr_t)1000);
    CHECK_EQ(by_waitpid(), child_of);
    CHECK_EQ(WEXITSTATUS(exit_status), 3);
    CHECK_EQ(logged, 1);
    join(g);
    CHECK_EQ(waitpid(child_of, &status, 0), -1);
    CHECK_EQ(errno, ECHILD);
    child_of = ends_after(0);
    CHECK_EQ(waitpid(-1, &status, 0), child_of); /* any: the C library's */
}

TEST(a_wait_for_a_child_can_be_killed_and_made_again)
{
    weald_greenlet g;
    int status;

    patch_program();
    child_of = ends_after(10000);
    g = spawn(makes, (void *)(intptr_t)by_waitpid);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(result, -1);
    CHECK_EQ(error_seen, ECANCELED);
    CHECK_EQ(weald_close(g), 0);
    kill(child_of, SIGKILL);
    CHECK_EQ(waitpid(child_of, &status, 0), child_of);
    CHECK_EQ(WTERMSIG(status), SIGKILL);
}

TEST(a_wait_for_a_child_that_a_shutdown_ends_leaves_no_descriptor)
{
    int before = dup(0), after;

    patch_program();
    CHECK_GT(weald_self(), 0);
    close(before);
    child_of = ends_after(10000);
    CHECK_GT(spawn(makes, (void *)(intptr_t)by_waitpid), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_GE(weald_hub_shutdown(), 0);
    after = dup(0);
    CHECK_LE(after, before);
    kill(child_of, SIGKILL);
    CHECK_EQ(waitpid(child_of, NULL, 0), child_of);
}

/* ---- the rest of sockets ---- */

TEST(an_interrupted_call_fails_with_the_code_or_with_eintr)
{
    static const int codes[] = {WEALD_EINTR, -ENETDOWN, -100000}, errors[] = {EINTR, ENETDOWN, EINTR};

    patch_with_ends();
    for (int i = 0; i < 3; i++) {
        weald_greenlet g = spawn(makes, (void *)(intptr_t)by_read);

        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_interrupt(g, codes[i]), 0);
        join(g);
        CHECK_EQ(result, -1);
        CHECK_EQ(error_seen, errors[i]);
    }
}

static int caller;

static int64_t by_connect(void) { return connect(caller, (struct sockaddr *)&address, sizeof address); }

TEST(a_connection_in_the_making_can_be_killed)
{
    weald_greenlet g;

    patch_program();
    CHECK_GE(caller = socket(AF_INET, SOCK_STREAM, 0), 0);
    listen_here();
    CHECK_EQ(close(listener), 0);
    CHECK_GE(listener = socket(AF_INET, SOCK_STREAM, 0), 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(listen(listener, 0), 0);
    /* Its backlog is full: who comes now waits. */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(fcntl(caller, F_SETFL, O_NONBLOCK) | (by_connect() + 1), 0), caller = socket(AF_INET, SOCK_STREAM, 0);
    g = spawn(makes, (void *)(intptr_t)by_connect);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    result = 77;
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(result, -1);
    CHECK_EQ(error_seen, ECANCELED);
    CHECK_EQ(fcntl(caller, F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(weald_close(g), 0);
}

static void *sends_datagrams(void *unused)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    note('s');
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(send(fd, "one", 3, 0), 3);
    CHECK_EQ(sendto(fd, "three", 5, 0, (struct sockaddr *)&address, sizeof address), 5);
    CHECK_EQ(close(fd), 0);
    return unused;
}

TEST(datagrams_come_whole_with_their_sender)
{
    socklen_t len = sizeof address;
    struct sockaddr_in from;
    weald_greenlet g;
    int fd;

    patch_program();
    CHECK_GE(fd = socket(AF_INET, SOCK_DGRAM, 0), 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    g = spawn(sends_datagrams, NULL);
    CHECK_EQ(recv(fd, room, sizeof room, MSG_PEEK), 3);
    CHECK_EQ(logged, 1);
    len = sizeof from;
    CHECK_EQ(recvfrom(fd, room, sizeof room, MSG_WAITALL, (struct sockaddr *)&from, &len), 3);
    CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK_EQ(recvfrom(fd, room, 2, MSG_TRUNC, NULL, NULL), 5);
    join(g);
}

static void *passes_descriptor(void *fd)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control;
    struct iovec one = {room, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int number = (int)(intptr_t)fd;

    memset(&control, 0, sizeof control);
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof number), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &number, sizeof number);
    CHECK_EQ(sendmsg(ends[1], &message, 0), 1);
    return NULL;
}

TEST(descriptors_come_with_messages)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control;
    struct iovec one = {room, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int pipe_of[2], fd;
    weald_greenlet g;

    patch_with_ends();
    CHECK_EQ(pipe(pipe_of), 0);
    g = spawn(passes_descriptor, (void *)(intptr_t)pipe_of[1]);
    CHECK_EQ(recvmsg(ends[0], &message, 0), 1);
    CHECK_EQ(message.msg_controllen, CMSG_SPACE(sizeof fd));
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(read(pipe_of[0], room, 1), 1);
    join(g);
}

/* ---- several threads, each with a hub ---- */

static void *has_a_hub(void *unused)
{
    int mine[2];
    weald_greenlet g;

    CHECK_EQ(pipe(mine), 0);
    g = spawn(reads_one, (void *)(intptr_t)mine[0]);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(usleep(10), 0);
    CHECK_EQ(write(mine[1], "h", 1), 1);
    join(g);
    return unused;
}

TEST(every_thread_s_greenlets_wait_in_their_own_hub)
{
    pthread_t threads[4];

    patch_program();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, has_a_hub, NULL), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}
