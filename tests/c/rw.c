/* Reading and writing descriptors of every kind. */
#include "greenlets.h"
#include "transfers.h"
#include <pthread.h>
#include <poll.h>
#include <pty.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <termios.h>

#define FD(n) ((void *)(intptr_t)(n))
#define NUMBER(p) ((int)(intptr_t)(p))

static void *read_one(void *fd)
{
    char byte;
    int64_t n = weald_read(NUMBER(fd), &byte, 1, WEALD_FOREVER);
    return FD(n == 1 ? byte : n);
}

static void *write_one(void *fd) { return FD(weald_write(NUMBER(fd), "x", 1, WEALD_FOREVER)); }

/* While somebody waits for `fd` others run. */
static void others_run_while(weald_fn fn, int fd, void (*end)(void *), void *arg, intptr_t wanted)
{
    weald_greenlet g = spawned(fn, FD(fd));

    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    end(arg);
    CHECK_EQ(outcome(g), wanted);
}

static void put_x(void *fd) { CHECK_EQ(write(NUMBER(fd), "x", 1), 1); }
static void take_all(void *fd)
{
    char bytes[4096];
    struct pollfd p = {.fd = NUMBER(fd), .events = POLLIN};
    while (poll(&p, 1, 0) == 1 && read(NUMBER(fd), bytes, sizeof bytes) > 0)
        ;
}

/* ---- kinds of descriptors ---- */

TEST(a_pipe_of_ours_parks_its_reader_alone)
{
    int p[2];

    CHECK_EQ(weald_pipe(p), 0);
    CHECK_EQ(fcntl(p[0], F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(p[1], F_GETFL) & O_NONBLOCK);
    others_run_while(read_one, p[0], put_x, FD(p[1]), 'x');
}

TEST(a_blocking_pipe_of_others_parks_its_reader_alone_and_stays_blocking)
{
    int p[2];

    CHECK_EQ(pipe(p), 0);
    for (int i = 0; i < 3; i++)
        others_run_while(read_one, p[0], put_x, FD(p[1]), 'x');
    CHECK_EQ(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
}

TEST(a_blocking_pipe_of_others_parks_its_writer_alone)
{
    int p[2];

    CHECK_EQ(pipe(p), 0);
    CHECK_EQ(fcntl(p[1], F_SETFL, O_NONBLOCK), 0);
    while (write(p[1], "0123456789abcdef", 16) > 0)
        ;
    CHECK_EQ(fcntl(p[1], F_SETFL, 0), 0);
    others_run_while(write_one, p[1], take_all, FD(p[0]), 1);
    CHECK_EQ(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
}

TEST(a_blocking_socket_of_others_parks_reader_and_writer_alone)
{
    int s[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    others_run_while(read_one, s[0], put_x, FD(s[1]), 'x');
    fill(s[0]);
    others_run_while(write_one, s[0], take_all, FD(s[1]), 1);
    CHECK_EQ(fcntl(s[0], F_GETFL) & O_NONBLOCK, 0);
}

TEST(a_long_write_to_a_blocking_pipe_does_not_block_the_thread)
{
    static char megabyte[1 << 20];
    static int p[2];
    size_t got = 0;
    int64_t n;
    weald_greenlet g;

    CHECK_EQ(pipe(p), 0);
    g = weald_spawn(write_one, FD(p[1]));
    CHECK_EQ(outcome(g), 1);
    got = 0;
    while ((n = weald_write(p[1], megabyte, sizeof megabyte, WEALD_NOW)) > 0)
        got += (size_t)n;
    CHECK_EQ(n, WEALD_EAGAIN); /* and not blocked */
    CHECK_GE(got, 65536 - 4096);
}

TEST(an_eventfd_counts)
{
    int fd = eventfd(0, 0);
    uint64_t value = 0, three = 3;
    weald_greenlet g;

    CHECK_GE(fd, 0);
    CHECK_EQ(weald_read(fd, &value, sizeof value, WEALD_NOW), WEALD_EAGAIN);
    g = spawned(read_one, FD(fd)); /* too short for an eventfd */
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_write(fd, &three, sizeof three, WEALD_FOREVER), 8);
    CHECK_EQ(outcome(g), WEALD_EINVAL);
    CHECK_EQ(weald_read(fd, &value, sizeof value, WEALD_FOREVER), 8);
    CHECK_EQ(value, 3);
}

TEST(a_timerfd_is_read_when_it_fires)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec soon = {.it_value.tv_nsec = 3000000};
    uint64_t times = 0;
    int64_t began = test_clock();

    CHECK_GE(fd, 0);
    CHECK_EQ(timerfd_settime(fd, 0, &soon, NULL), 0);
    CHECK_EQ(weald_read(fd, &times, sizeof times, WEALD_FOREVER), 8);
    CHECK_EQ(times, 1);
    CHECK_GE(test_clock() - began, WEALD_MS(3));
}

static void touch(void *path)
{
    int fd = open((const char *)path, O_WRONLY | O_CREAT, 0600);
    CHECK_GE(fd, 0);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(unlink((const char *)path), 0);
}

static void *read_event(void *fd)
{
    union {
        struct inotify_event event;
        char bytes[1024];
    } room;
    int64_t n = weald_read(NUMBER(fd), &room, sizeof room, WEALD_FOREVER);
    return FD(n > 0 ? (room.event.mask & IN_CREATE) : n);
}

TEST(inotify_parks_its_reader_alone)
{
    char folder[] = "/tmp/weald-test-XXXXXX", path[64];
    int fd = inotify_init1(0);

    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/one", folder);
    CHECK_GE(inotify_add_watch(fd, folder, IN_CREATE), 0);
    others_run_while(read_event, fd, touch, path, IN_CREATE);
    CHECK_EQ(rmdir(folder), 0);
}

TEST(a_terminal_parks_its_reader_alone)
{
    int master, slave;
    struct termios raw;

    CHECK_EQ(openpty(&master, &slave, NULL, NULL, NULL), 0);
    CHECK_EQ(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    CHECK_EQ(tcsetattr(slave, TCSANOW, &raw), 0);
    others_run_while(read_one, slave, put_x, FD(master), 'x');
    others_run_while(read_one, master, put_x, FD(slave), 'x');
    CHECK_EQ(weald_write(slave, "hello", 5, WEALD_FOREVER), 5);
}

TEST(devices_that_never_wait_are_read_at_once)
{
    char bytes[8] = "xxxxxxx";
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), proc = open("/proc/self/stat", O_RDONLY);

    CHECK_EQ(weald_read(null, bytes, sizeof bytes, WEALD_FOREVER), 0);
    CHECK_EQ(weald_write(null, bytes, sizeof bytes, WEALD_FOREVER), 8);
    CHECK_EQ(weald_read(zero, bytes, sizeof bytes, WEALD_NOW), 8);
    CHECK_EQ(bytes[0], 0);
    CHECK_GT(weald_read(proc, bytes, sizeof bytes, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(weald_read(proc, bytes, 1, WEALD_NOW), 1);
}

/* ---- files ---- */

TEST(a_file_is_read_to_its_end_and_goes_on_where_it_was)
{
    int fd = file_of("hello, file");
    char bytes[32] = "";

    CHECK_EQ(weald_read(fd, bytes, 5, WEALD_FOREVER), 5);
    CHECK_EQ(weald_read(fd, bytes + 5, 27, weald_after(WEALD_SEC(5))), 6);
    CHECK_STR(bytes, "hello, file");
    CHECK_EQ(weald_read(fd, bytes, sizeof bytes, WEALD_FOREVER), 0);
    CHECK_EQ(weald_read(fd, bytes, sizeof bytes, WEALD_NOW), 0);
    CHECK_EQ(weald_write(fd, "!", 1, WEALD_FOREVER), 1);
    CHECK_EQ(weald_write(fd, "?", 1, WEALD_NOW), 1);
    CHECK_EQ(weald_pread(fd, bytes, sizeof bytes, 11, WEALD_FOREVER), 2);
    CHECK_EQ(memcmp(bytes, "!?", 2), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 13);
}

TEST(positional_calls_leave_the_position_alone)
{
    int fd = file_of("abcdef");
    char bytes[4] = "";

    CHECK_EQ(weald_pread(fd, bytes, 3, 2, WEALD_FOREVER), 3);
    CHECK_STR(bytes, "cde");
    CHECK_EQ(weald_pwrite(fd, "XY", 2, 1, WEALD_FOREVER), 2);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(weald_pread(fd, bytes, 3, 0, WEALD_NOW), 3);
    CHECK_STR(bytes, "aXY");
    CHECK_EQ(weald_pread(fd, bytes, 3, 100, WEALD_FOREVER), 0);
    CHECK_EQ(weald_pwrite(fd, "end", 3, 1000000, WEALD_NOW), 3);
}

TEST(what_is_written_in_pieces_is_all_there)
{
    static char out[3 << 20], in[3 << 20];
    int fd = file_of("");
    size_t done = 0;

    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7 + i / 251);
    CHECK_EQ(weald_write_all(fd, out, sizeof out, &done, WEALD_FOREVER), 0);
    CHECK_EQ(done, sizeof out);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_EQ(weald_read_exact(fd, in, sizeof in, &done, WEALD_FOREVER), 0);
    CHECK_EQ(memcmp(in, out, sizeof in), 0);
}

/* What no kernel has in memory: every read of it goes to a thread. */
static int proc_file(void)
{
    int fd = open("/proc/self/maps", O_RDONLY);
    CHECK_GE(fd, 0);
    return fd;
}

static int64_t pread_now(void)
{
    char byte;
    return weald_pread(proc_file(), &byte, 1, 0, WEALD_FOREVER);
}

TEST(a_file_that_only_a_thread_can_read_is_read_by_one)
{
    char all[4096], part[4096];
    int fd = proc_file();
    int64_t n = weald_read(fd, part, 100, WEALD_FOREVER);

    CHECK_EQ(n, 100);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 100);
    n = weald_read(fd, part + 100, 1000, WEALD_FOREVER);
    CHECK_GT(n, 0);
    CHECK_EQ(weald_pread(fd, all, (size_t)n + 100, 0, WEALD_FOREVER), n + 100);
    CHECK_GE(weald_threadpool_size(0), 1);
}

static void *pread_killed(void *code)
{
    *(int64_t *)code = pread_now();
    return NULL;
}

TEST(positional_calls_tell_why_they_did_not_wait_for_their_thread)
{
    int64_t code = 0;
    char byte = 'x';
    int fd = proc_file();
    weald_greenlet g = spawned(pread_killed, &code);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code, WEALD_ECANCELED);
    CHECK_EQ(weald_pread(fd, &byte, 1, 0, -2), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_read(fd, &byte, 1, -2), WEALD_ETIMEDOUT);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0); /* nothing was read */
    CHECK_EQ(byte, 'x');
}

static void *killed_reader(void *fd)
{
    char bytes[100];
    return FD(weald_read(NUMBER(fd), bytes, sizeof bytes, WEALD_FOREVER));
}

TEST(a_killed_reader_of_a_file_has_read_what_it_says)
{
    int fd = proc_file();
    intptr_t all = 0, cancelled = 0, n;

    for (int i = 0; i < 50; i++) {
        weald_greenlet g = spawned(killed_reader, FD(fd));
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        n = outcome(g);
        CHECK(n >= 0 || n == WEALD_ECANCELED);
        cancelled += n < 0;
        all += n < 0 ? 0 : n;
        CHECK_EQ(lseek(fd, 0, SEEK_CUR), all);
    }
    CHECK_GT(cancelled, 0);
}

static void *read_rest(void *fd)
{
    char bytes[64];
    int64_t n, all = 0;

    while ((n = weald_read(NUMBER(fd), bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        all += n;
    return FD(n < 0 ? n : all);
}

TEST(two_who_read_one_file_get_each_byte_once)
{
    char bytes[256];
    int fd = open("/proc/self/status", O_RDONLY);
    int64_t whole = 0, n;
    weald_greenlet one, two;

    while ((n = weald_read(fd, bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        whole += n;
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    one = spawned(read_rest, FD(fd));
    two = spawned(read_rest, FD(fd));
    n = outcome(one);
    n += outcome(two);
    CHECK_GE(n, whole - 64); /* its numbers may have changed their lengths */
    CHECK_LE(n, whole + 64);
}

/* ---- vectors, and all of it ---- */

TEST(vectors_are_filled_in_order)
{
    int s[2], fd = file_of("0123456789");
    char a[3] = "", b[8] = "";
    struct iovec out[3] = {{"he", 2}, {NULL, 0}, {"llo", 3}}, in[2] = {{a, 2}, {b, 7}};

    unix_pair(s);
    CHECK_EQ(weald_writev(s[0], out, 3, WEALD_FOREVER), 5);
    CHECK_EQ(weald_readv(s[1], in, 2, WEALD_FOREVER), 5);
    CHECK_STR(a, "he");
    CHECK_STR(b, "llo");
    CHECK_EQ(weald_readv(fd, in, 2, WEALD_FOREVER), 9);
    CHECK_STR(a, "01");
    CHECK_EQ(memcmp(b, "2345678", 7), 0);
    CHECK_EQ(weald_writev(fd, out, 3, WEALD_FOREVER), 5);
    CHECK_EQ(weald_readv(s[1], NULL, 0, WEALD_NOW) <= 0, 1);
}

static void *dribble(void *fd)
{
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(weald_write(NUMBER(fd), "0123456789" + i, 1, WEALD_FOREVER), 1);
        CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
    }
    return NULL;
}

TEST(read_exact_waits_for_every_byte)
{
    int s[2];
    char bytes[11] = "";
    size_t done;
    weald_greenlet g;

    unix_pair(s);
    g = spawned(dribble, FD(s[1]));
    CHECK_EQ(weald_read_exact(s[0], bytes, 10, &done, WEALD_FOREVER), 0);
    CHECK_EQ(done, 10);
    CHECK_STR(bytes, "0123456789");
    CHECK_EQ(outcome(g), 0);
}

TEST(what_was_read_or_written_before_the_deadline_is_told)
{
    static char megabyte[1 << 20];
    int s[2];
    char bytes[10] = "";
    size_t done = 0, before;

    unix_pair(s);
    CHECK_EQ(weald_write(s[1], "abc", 3, WEALD_FOREVER), 3);
    CHECK_EQ(weald_read_exact(s[0], bytes, 10, &done, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_EQ(done, 3);
    CHECK_STR(bytes, "abc");
    CHECK_EQ(weald_write_all(s[0], megabyte, sizeof megabyte, &done, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_GT(done, 0);
    CHECK_LT(done, sizeof megabyte);
    before = done;
    for (size_t n, got = 0; got < before; got += n) {
        n = (size_t)weald_read(s[1], megabyte, sizeof megabyte, WEALD_NOW);
        CHECK_LE(n, before - got); /* not more than was told */
    }
    CHECK_EQ(weald_read(s[1], megabyte, 1, WEALD_NOW), WEALD_EAGAIN);
}

/* The other end of a stream takes and gives one byte at a time. */
static void *swap_bytes(void *fd)
{
    char byte;
    while (weald_read(NUMBER(fd), &byte, 1, WEALD_FOREVER) == 1)
        CHECK_EQ(weald_write(NUMBER(fd), &byte, 1, WEALD_FOREVER), 1);
    return NULL;
}

struct flow {
    int fd;
    size_t bytes, done;
};
static char pattern(size_t i) { return (char)(i * 31 + (i >> 8)); }

static void *send_pattern(void *arg)
{
    struct flow *f = arg;
    char *bytes = malloc(f->bytes);

    for (size_t i = 0; i < f->bytes; i++)
        bytes[i] = pattern(i);
    CHECK_EQ(weald_write_all(f->fd, bytes, f->bytes, &f->done, WEALD_FOREVER), 0);
    free(bytes);
    return NULL;
}

TEST(the_smallest_buffers_lose_nothing)
{
    int s[2];
    struct flow flow = {0, 20000, 0};
    weald_greenlet echo, sender;
    char got[64];
    size_t seen = 0;

    flow.bytes = (size_t)test_rounds(20000);
    tcp_pair(s);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weald_set_option(s[i], WEALD_OPTION_SNDBUF, 1), 0);
        CHECK_EQ(weald_set_option(s[i], WEALD_OPTION_RCVBUF, 1), 0);
    }
    flow.fd = s[0];
    echo = spawned(swap_bytes, FD(s[1]));
    sender = spawned(send_pattern, &flow);
    while (seen < flow.bytes) {
        int64_t n = weald_read(s[0], got, sizeof got, weald_after(WEALD_SEC(20)));
        CHECK_GT(n, 0);
        for (int64_t i = 0; i < n; i++)
            CHECK_EQ(got[i], pattern(seen + (size_t)i));
        seen += (size_t)n;
    }
    CHECK_EQ(outcome(sender), 0);
    CHECK_EQ(weald_close_fd(s[0]), 0);
    CHECK_EQ(outcome(echo), 0);
}

/* ---- kills, timeouts and data at the same moment ---- */

static int raced[2];
static void *count_bytes(void *total)
{
    char bytes[16];
    int64_t n;

    while ((n = weald_read(raced[0], bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        *(int64_t *)total += n;
    return FD(n);
}

TEST(no_byte_is_lost_when_a_kill_meets_the_data)
{
    int64_t total = 0, sent = 0;

    unix_pair(raced);
    for (long i = 0; i < test_rounds(2000); i++) {
        weald_greenlet g = spawned(count_bytes, &total);
        CHECK_EQ(weald_yield(), 0);
        sent += weald_write(raced[1], "abc", 3, WEALD_FOREVER);
        if (i % 2)
            CHECK_EQ(weald_wait_write(raced[1], WEALD_FOREVER), 0); /* the reader is told, perhaps */
        if (i % 3 == 0)
            CHECK_EQ(weald_sleep(WEALD_US(1)), 0);
        CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
        CHECK_EQ(outcome(g), WEALD_ECANCELED);
    }
    char rest[65536];
    int64_t n;
    while ((n = weald_read(raced[0], rest, sizeof rest, WEALD_NOW)) > 0)
        total += n;
    CHECK_EQ(total, sent);
}

TEST(no_byte_is_lost_when_a_deadline_meets_the_data)
{
    int64_t total = 0, sent = 0, n;
    char bytes[16];

    unix_pair(raced);
    for (long i = 0; i < test_rounds(2000); i++) {
        weald_greenlet g;
        CHECK_GT(g = weald_spawn(write_one, FD(raced[1])), 0);
        n = weald_read(raced[0], bytes, sizeof bytes, weald_after(i % 40 * 500));
        CHECK(n > 0 || n == WEALD_ETIMEDOUT);
        total += n > 0 ? n : 0;
        sent += outcome(g);
    }
    while ((n = weald_read(raced[0], bytes, sizeof bytes, WEALD_NOW)) > 0)
        total += n;
    CHECK_EQ(total, sent);
}

TEST(a_killed_greenlet_reads_no_more)
{
    int64_t total = 0;
    weald_greenlet g;

    unix_pair(raced);
    g = spawned(count_bytes, &total);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_write(raced[1], "abc", 3, WEALD_FOREVER), 3);
    CHECK_EQ(outcome(g), WEALD_ECANCELED);
    CHECK_EQ(total, 0);
}

/* ---- closing ---- */

TEST(close_wakes_reader_and_writer_once)
{
    int s[2];
    weald_greenlet r, w;

    unix_pair(s);
    fill(s[0]);
    r = spawned(read_one, FD(s[0]));
    w = spawned(write_one, FD(s[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_close_fd(s[0]), 2);
    CHECK_EQ(outcome(r), WEALD_EBADF);
    CHECK_EQ(outcome(w), WEALD_EBADF);
    CHECK_EQ(weald_close_fd(s[0]), WEALD_EBADF);
}

TEST(a_number_that_comes_back_is_not_mixed_up)
{
    int old[2], fresh[2];
    char byte;
    weald_greenlet g;

    for (int i = 0; i < 100; i++) {
        unix_pair(old);
        g = spawned(read_one, FD(old[0]));
        CHECK_EQ(weald_yield(), 0);
        if (i % 2)
            put_x(FD(old[1])); /* it is about to be told */
        CHECK_GE(weald_close_fd(old[0]), 0); /* it waits, or has been told of the data and has not run */
        unix_pair(fresh);
        CHECK_EQ(fresh[0], old[0]);
        CHECK_EQ(weald_write(fresh[1], "f", 1, WEALD_FOREVER), 1);
        CHECK_EQ(outcome(g), WEALD_EBADF); /* and has not read what is not its */
        CHECK_EQ(weald_read(fresh[0], &byte, 1, WEALD_FOREVER), 1);
        CHECK_EQ(byte, 'f');
        CHECK_EQ(weald_close_fd(fresh[0]), 0);
        CHECK_EQ(weald_close_fd(fresh[1]), 0);
        CHECK_EQ(weald_close_fd(old[1]), 0);
    }
}

TEST(a_number_closed_and_taken_again_behind_the_library_s_back_does_not_hang)
{
    int s[2], t[2];
    char byte;
    weald_greenlet g;

    unix_pair(s);
    CHECK_EQ(weald_read(s[0], &byte, 1, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* the poller knows it */
    CHECK_EQ(close(s[0]), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, t), 0);
    CHECK_EQ(t[0], s[0]);
    g = spawned(read_one, FD(t[0]));
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    put_x(FD(t[1]));
    CHECK_EQ(outcome(g), 'x');
}

TEST(a_number_that_is_closed_so_again_and_again_is_not_waited_for_with_patience)
{
    int64_t took[12];
    int s[2], number = -1;

    for (int i = 0; i < 12; i++) {
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        number = i == 0 ? s[0] : number;
        CHECK_EQ(s[0], number);
        took[i] = test_clock();
        weald_greenlet g = spawned(read_one, FD(s[0]));
        CHECK_EQ(weald_yield(), 0);
        put_x(FD(s[1]));
        CHECK_EQ(outcome(g), 'x');
        took[i] = test_clock() - took[i];
        CHECK_EQ(close(s[0]), 0);
        CHECK_EQ(close(s[1]), 0);
    }
    for (int i = 3; i < 12; i++) /* by the third it is known what this program does */
        CHECK_LT(took[i], test_slack(WEALD_MS(15)));
}

TEST(after_the_first_such_surprise_every_wait_is_verified_soon)
{
    int s[2], t[2];
    char byte;
    int64_t began = 0;

    for (int i = 0; i < 3; i++) {
        unix_pair(s);
        CHECK_EQ(weald_read(s[0], &byte, 1, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
        CHECK_EQ(close(s[0]), 0);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, t), 0);
        weald_greenlet g = spawned(read_one, FD(t[0]));
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        put_x(FD(t[1]));
        began = test_clock();
        CHECK_EQ(outcome(g), 'x');
    }
    CHECK_LT(test_clock() - began, test_slack(WEALD_MS(300)));
}

/* ---- who is fair ---- */

static int turns;
static void *take_turns(void *unused)
{
    while (turns < 20) {
        turns++;
        CHECK_EQ(weald_yield(), 0);
    }
    return unused;
}

TEST(who_always_finds_data_lets_others_run)
{
    char byte;
    int zero = open("/dev/zero", O_RDONLY);
    weald_greenlet g = spawned(take_turns, NULL);

    for (long i = 0; i < 1000000 && turns < 20; i++)
        CHECK_EQ(weald_read(zero, &byte, 1, WEALD_FOREVER), 1);
    CHECK_EQ(turns, 20);
    CHECK_EQ(outcome(g), 0);
}

/* ---- sendfile and splice ---- */

static void *drain_count(void *fd)
{
    static char bytes[65536];
    int64_t n, all = 0;

    while ((n = weald_read(NUMBER(fd), bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        all += n;
    return FD(all);
}

TEST(a_file_is_sent_whole_whatever_the_socket_s_buffer)
{
    enum { SIZE = 3 << 20 };
    char *zeros = calloc(1, SIZE);
    int s[2], fd = file_of("");
    int64_t at = 100;
    weald_greenlet reader;

    CHECK_EQ(write(fd, zeros, SIZE), SIZE);
    free(zeros);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    for (int blocking = 0; blocking < 2; blocking++) {
        tcp_pair(s);
        if (blocking)
            CHECK_EQ(fcntl(s[0], F_SETFL, 0), 0);
        reader = spawned(drain_count, FD(s[1]));
        CHECK_EQ(weald_sendfile(s[0], fd, blocking ? &at : NULL, (size_t)SIZE * 2, WEALD_FOREVER),
                 blocking ? SIZE - 100 : SIZE);
        CHECK_EQ(fcntl(s[0], F_GETFL) & O_NONBLOCK, blocking ? 0 : O_NONBLOCK);
        CHECK_EQ(weald_close_fd(s[0]), 0);
        CHECK_EQ(outcome(reader), blocking ? SIZE - 100 : SIZE);
    }
    CHECK_EQ(at, SIZE);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), SIZE);
}

TEST(a_sendfile_cut_short_tells_by_the_offset_what_it_sent)
{
    enum { SIZE = 8 << 20 };
    static char bytes[65536];
    int s[2], fd = file_of("");
    int64_t at = 0, got = 0, n;

    CHECK_EQ(ftruncate(fd, SIZE), 0);
    tcp_pair(s);
    CHECK_EQ(weald_sendfile(s[0], fd, &at, SIZE, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_GT(at, 0);
    CHECK_LT(at, SIZE);
    CHECK_EQ(weald_close_fd(s[0]), 0);
    while ((n = weald_read(s[1], bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        got += n;
    CHECK_EQ(got, at);
}

/* ---- a reader that leaves in the middle of one system call ---- */

static int left_fd;
static atomic_int to_leave;

static void *leave_in_the_middle(void *unused)
{
    static char some[300000];
    struct pollfd p = {.events = POLLIN};

    for (;;) {
        while (atomic_load(&to_leave) == 0)
            ;
        if (atomic_load(&to_leave) < 0)
            return unused;
        p.fd = left_fd;
        poll(&p, 1, 1000);
        CHECK_GE(read(left_fd, some, sizeof some), 0);
        close(left_fd);
        atomic_store(&to_leave, 0);
    }
}

/* The system says how much went, and raises SIGPIPE all the same, which would end the process. */
static void write_to_who_leaves(int (*make)(int *ends), int64_t (*give)(int fd))
{
    pthread_t thread;
    int64_t code;
    int ends[2];

    CHECK_EQ(pthread_create(&thread, NULL, leave_in_the_middle, NULL), 0);
    for (long i = test_rounds(2000); i > 0; i--) {
        CHECK_EQ(make(ends), 0);
        left_fd = ends[0];
        atomic_store(&to_leave, 1);
        while ((code = give(ends[1])) >= 0)
            ;
        CHECK(code == WEALD_EPIPE || code == WEALD_ECONNRESET);
        while (atomic_load(&to_leave))
            ;
        CHECK_EQ(weald_close_fd(ends[1]), 0);
    }
    atomic_store(&to_leave, -1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static int long_file;
static char many_bytes[1 << 20];
static int make_unix(int *ends) { return weald_socketpair(AF_UNIX, SOCK_STREAM, 0, ends); }
static int64_t give_file(int fd)
{
    int64_t at = 0;
    return weald_sendfile(fd, long_file, &at, sizeof many_bytes, WEALD_FOREVER);
}
static int64_t give_bytes(int fd) { return weald_write(fd, many_bytes, sizeof many_bytes, WEALD_FOREVER); }

TEST(who_leaves_in_the_middle_of_a_sendfile_raises_no_signal)
{
    long_file = file_of("");
    CHECK_EQ(ftruncate(long_file, sizeof many_bytes), 0);
    write_to_who_leaves(make_unix, give_file);
}

TEST(who_leaves_in_the_middle_of_a_write_raises_no_signal) { write_to_who_leaves(weald_pipe, give_bytes); }

TEST(a_pipe_is_sent_where_sendfile_can_not)
{
    int s[2], p[2];
    char bytes[8] = "";

    unix_pair(s);
    CHECK_EQ(weald_pipe(p), 0);
    CHECK_EQ(weald_write(p[1], "piped", 5, WEALD_FOREVER), 5);
    CHECK_EQ(weald_sendfile(s[0], p[0], NULL, 100, WEALD_FOREVER), 5);
    CHECK_EQ(weald_read(s[1], bytes, sizeof bytes, WEALD_FOREVER), 5);
    CHECK_STR(bytes, "piped");
}

static void *splice_to(void *p)
{
    int *fds = p;
    return FD(weald_splice(fds[0], NULL, fds[1], NULL, 1 << 20, WEALD_FOREVER));
}

TEST(splice_waits_for_either_end)
{
    int s[2], t[2], p[2], ends[2];
    static char bytes[1 << 20];
    int64_t at = 2, n;
    weald_greenlet g;
    int fd = file_of("0123456789");

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0); /* blocking */
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, t), 0);
    CHECK_EQ(weald_pipe(p), 0);
    CHECK_EQ(weald_splice(fd, &at, p[1], NULL, 3, WEALD_FOREVER), 3); /* file to pipe */
    CHECK_EQ(at, 5);
    CHECK_EQ(weald_splice(p[0], NULL, s[1], NULL, 3, WEALD_FOREVER), 3); /* pipe to socket */
    CHECK_EQ(weald_read(s[0], bytes, sizeof bytes, WEALD_FOREVER), 3);
    CHECK_EQ(memcmp(bytes, "234", 3), 0);

    ends[0] = s[1], ends[1] = p[1]; /* socket to pipe, nothing there */
    g = spawned(splice_to, ends);
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    CHECK_EQ(write(s[0], "abcd", 4), 4);
    CHECK_EQ(outcome(g), 4);

    fill(t[0]);
    ends[0] = p[0], ends[1] = t[0]; /* pipe to socket, no room */
    g = spawned(splice_to, ends);
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    take_all(FD(t[1]));
    CHECK_EQ(outcome(g), 4);
    CHECK_EQ(weald_close_fd(p[1]), 0);
    n = weald_splice(p[0], NULL, t[0], NULL, 4, WEALD_FOREVER);
    CHECK_EQ(n, 0); /* the end */
}

/* ---- from threads without a hub ---- */

static void *no_hub(void *fd)
{
    CHECK_EQ(weald_close_fd(NUMBER(fd)), 0);
    return NULL;
}

TEST(a_thread_without_a_hub_may_close)
{
    pthread_t thread;
    int p[2];

    CHECK_EQ(weald_pipe(p), 0);
    CHECK_EQ(pthread_create(&thread, NULL, no_hub, FD(p[1])), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_read(p[0], p, 1, WEALD_FOREVER), 0);
}
