/* Streams. */
#include "errors.h"
#include "greenlets.h"
#include "lines.h"
#include "starve.h"
#include "transfers.h"

#define FD(n) ((void *)(intptr_t)(n))
#define NUMBER(p) ((int)(intptr_t)(p))

/* A stream over one end of a pair; the other end is a plain descriptor. */
static weald_stream stream_and(int *other)
{
    int ends[2];
    weald_stream s;

    unix_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[0], NULL), 0);
    *other = ends[1];
    return s;
}

static void give(int fd, const char *text)
{
    CHECK_EQ(weald_write_all(fd, text, strlen(text), NULL, WEALD_FOREVER), 0);
}

#define LINE(s, text)                                                             \
    do {                                                                          \
        const char *line_ = NULL;                                                 \
        size_t len_ = 99;                                                         \
        CHECK_EQ(weald_stream_line(s, &line_, &len_, 1000, WEALD_FOREVER), 1);    \
        CHECK_STR(line_, text);                                                   \
        CHECK_EQ(len_, strlen(text));                                             \
    } while (0)

/* ---- lines ---- */

TEST(lines_come_one_by_one_without_their_ends)
{
    int other;
    weald_stream s = stream_and(&other);
    const char *line = "untouched";

    give(other, "one\ntwo\r\n\n\r\nfour \r\r\nlast");
    LINE(s, "one");
    LINE(s, "two");
    LINE(s, "");
    LINE(s, "");
    LINE(s, "four \r");
    CHECK_EQ(weald_close_fd(other), 0);
    LINE(s, "last");
    CHECK_EQ(weald_stream_line(s, &line, NULL, 10, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_line(s, &line, NULL, 10, WEALD_FOREVER), 0);
    CHECK_STR(line, "untouched");
    CHECK_EQ(weald_close(s), 0);
}

static void *dribble(void *fd)
{
    static const char text[] = "slow\r\nly\n";
    for (const char *c = text; *c; c++) {
        CHECK_EQ(weald_write(NUMBER(fd), c, 1, WEALD_FOREVER), 1);
        CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
    }
    CHECK_EQ(weald_close_fd(NUMBER(fd)), 0);
    return NULL;
}

TEST(a_line_that_comes_byte_by_byte_is_whole)
{
    int other;
    weald_stream s = stream_and(&other);
    const char *line;
    weald_greenlet g = spawned(dribble, FD(other));

    LINE(s, "slow");
    LINE(s, "ly");
    CHECK_EQ(weald_stream_line(s, &line, NULL, 10, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(weald_close(s), 0);
}

TEST(a_line_that_is_too_long_is_still_there)
{
    int other;
    weald_stream s = stream_and(&other);
    const char *line;
    size_t len;

    give(other, "12345\r\n");
    CHECK_EQ(weald_stream_line(s, &line, &len, 4, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_stream_line(s, &line, &len, 5, WEALD_FOREVER), 1);
    CHECK_EQ(len, 5);
    give(other, "no end of it for a long time");
    CHECK_EQ(weald_stream_line(s, &line, &len, 8, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_close_fd(other), 0);
    CHECK_EQ(weald_stream_line(s, &line, &len, 8, WEALD_FOREVER), WEALD_EMSGSIZE);
    LINE(s, "no end of it for a long time");
    CHECK_EQ(weald_close(s), 0);
}

/* As soon as it is certain: the peer need not send more. */
TEST(one_byte_too_much_is_too_long)
{
    int other;
    weald_stream s = stream_and(&other);
    const char *line;
    const void *data;
    size_t len;

    give(other, "12345x");
    CHECK_EQ(weald_stream_line(s, &line, &len, 5, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_stream_read_until(s, "--", 2, &data, &len, 5, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_stream_line(s, &line, &len, 6, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    give(other, "\r");
    CHECK_EQ(weald_stream_line(s, &line, &len, 6, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    give(other, "\n12345-");
    CHECK_EQ(weald_stream_line(s, &line, &len, 6, WEALD_FOREVER), 1);
    CHECK_EQ(weald_stream_read_until(s, "--", 2, &data, &len, 5, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    give(other, "-\r");
    CHECK_EQ(weald_stream_read_until(s, "--", 2, &data, &len, 5, WEALD_FOREVER), 1);
    CHECK_EQ(len, 5);
    CHECK_EQ(weald_stream_line(s, &line, &len, 0, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    give(other, "x");
    CHECK_EQ(weald_stream_line(s, &line, &len, 0, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_close_fd(other), 0);
    CHECK_EQ(weald_close(s), 0);
}

TEST(a_thousand_lines_in_one_piece)
{
    static char text[200000];
    int other, at = 0;
    char expected[24];
    weald_stream s = stream_and(&other);

    for (int i = 0; i < 1000; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "line %d\n", i);
    give(other, text);
    for (int i = 0; i < 1000; i++) {
        snprintf(expected, sizeof expected, "line %d", i);
        LINE(s, expected);
    }
    CHECK_EQ(weald_close(s), 0);
}

/* ---- up to a delimiter ---- */

TEST(a_delimiter_of_several_bytes_is_found_wherever_it_is_cut)
{
    int other;
    weald_stream s = stream_and(&other);
    const void *data;
    size_t len;

    give(other, "head: 1\r\nmore\r\n\r");
    CHECK_EQ(weald_stream_read_until(s, "\r\n\r\n", 4, &data, &len, 100, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    give(other, "\nbody\0end");
    CHECK_EQ(weald_stream_read_until(s, "\r\n\r\n", 4, &data, &len, 100, WEALD_FOREVER), 1);
    CHECK_EQ(len, 13);
    CHECK_EQ(memcmp(data, "head: 1\r\nmore", 13), 0);
    CHECK_EQ(weald_write(other, "x\0", 2, WEALD_FOREVER), 2);
    CHECK_EQ(weald_stream_read_until(s, "\0", 1, &data, &len, 100, WEALD_FOREVER), 1);
    CHECK_EQ(len, 5);
    CHECK_EQ(memcmp(data, "bodyx", 5), 0);
    give(other, "rest");
    CHECK_EQ(weald_close_fd(other), 0);
    CHECK_EQ(weald_stream_read_until(s, "\n", 1, &data, &len, 3, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_stream_read_until(s, "\n", 1, &data, &len, 100, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_stream_read_until(s, "t", 1, &data, &len, 2, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_stream_read_until(s, "t", 1, &data, &len, 3, WEALD_FOREVER), 1);
    CHECK_EQ(len, 3);
    CHECK_EQ(weald_stream_read_until(s, "t", 1, &data, &len, 3, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(s), 0);
}

/* ---- counted, peeked, skipped ---- */

TEST(peek_shows_what_fill_has_brought)
{
    int other;
    weald_stream s = stream_and(&other);
    const void *data = "";
    char bytes[16] = "";

    CHECK_EQ(weald_stream_peek(s, &data), 0);
    CHECK_PTR(data, NULL);
    give(other, "0123456789");
    CHECK_EQ(weald_stream_fill(s, 4, WEALD_FOREVER), 10);
    CHECK_EQ(weald_stream_peek(s, &data), 10);
    CHECK_EQ(memcmp(data, "0123456789", 10), 0);
    CHECK_EQ(weald_stream_skip(s, 3), 0);
    CHECK_EQ(weald_stream_skip(s, 8), WEALD_EINVAL);
    CHECK_EQ(weald_stream_read(s, bytes, 2, WEALD_FOREVER), 2);
    CHECK_STR(bytes, "34");
    CHECK_EQ(weald_stream_fill(s, 6, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_stream_peek(s, &data), 5);
    CHECK_EQ(weald_close_fd(other), 0);
    CHECK_EQ(weald_stream_fill(s, 6, WEALD_FOREVER), 5); /* the end */
    CHECK_EQ(weald_stream_skip(s, 5), 0);
    CHECK_EQ(weald_stream_read(s, bytes, 2, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(s), 0);
}

TEST(read_exact_takes_from_buffer_and_descriptor)
{
    static char large[100000], got[100000];
    int other;
    size_t done = 0;
    const char *line;
    weald_stream s = stream_and(&other);

    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 13 + (i >> 9));
    give(other, "line\n");
    CHECK_EQ(weald_write_all(other, large, sizeof large, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_line(s, &line, NULL, 10, WEALD_FOREVER), 1);
    CHECK_EQ(weald_stream_read_exact(s, got, sizeof got, &done, WEALD_FOREVER), 0);
    CHECK_EQ(done, sizeof got);
    CHECK_EQ(memcmp(got, large, sizeof got), 0);
    give(other, "abc");
    CHECK_EQ(weald_stream_read_exact(s, got, 5, &done, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_EQ(done, 3);
    CHECK_EQ(memcmp(got, "abc", 3), 0);
    CHECK_EQ(weald_close_fd(other), 0);
    CHECK_EQ(weald_stream_read_exact(s, got, 5, &done, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(done, 0);
    CHECK_EQ(weald_close(s), 0);
}

TEST(no_more_is_read_ahead_than_was_agreed)
{
    weald_stream_options options = {.size = sizeof options, .read_max = 4};
    int ends[2];
    char bytes[16];
    weald_stream s;

    unix_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[0], &options), 0);
    give(ends[1], "0123456789");
    CHECK_EQ(weald_stream_fill(s, 4, WEALD_FOREVER), 4);
    CHECK_EQ(weald_stream_fill(s, 5, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_recv(ends[0], bytes, sizeof bytes, 0, WEALD_NOW), 6); /* what is still in the socket */
    CHECK_EQ(weald_close(s), 0);
}

/* ---- writing ---- */

TEST(small_writes_are_gathered_until_the_flush)
{
    int other;
    char bytes[64] = "";
    size_t done = 0;
    weald_stream s = stream_and(&other);

    CHECK_EQ(weald_stream_write(s, "one ", 4, &done, WEALD_NOW), 0);
    CHECK_EQ(done, 4);
    CHECK_EQ(weald_stream_write(s, "two", 3, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_write(s, NULL, 0, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_unsent(s), 7);
    CHECK_EQ(weald_read(other, bytes, sizeof bytes, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_unsent(s), 0);
    CHECK_EQ(weald_read(other, bytes, sizeof bytes, WEALD_NOW), 7);
    CHECK_STR(bytes, "one two");
    CHECK_EQ(weald_stream_flush(s, WEALD_NOW), 0); /* nothing to do */
    CHECK_EQ(weald_stream_write(s, "lost", 4, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_close(s), 0); /* flushes nothing */
    CHECK_EQ(weald_read(other, bytes, sizeof bytes, WEALD_FOREVER), 0);
}

static void *collect(void *fd)
{
    static char bytes[65536];
    int64_t n, all = 0, wrong = 0;

    while ((n = weald_read(NUMBER(fd), bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        for (int64_t i = 0; i < n; i++, all++)
            wrong += bytes[i] != (char)(all * 7 + (all >> 10));
    CHECK_EQ(wrong, 0);
    return FD(all);
}

TEST(what_is_written_in_all_sizes_comes_in_order)
{
    enum { SIZE = 3000000 };
    char *bytes = malloc(SIZE);
    int other;
    weald_stream s = stream_and(&other);
    weald_greenlet g = spawned(collect, FD(other));
    size_t at = 0;

    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 + (i >> 10));
    for (size_t size = 1; at < SIZE; size = size * 3 % 70001 + 1) {
        size_t n = size < SIZE - at ? size : SIZE - at;
        CHECK_EQ(weald_stream_write(s, bytes + at, n, NULL, WEALD_FOREVER), 0);
        at += n;
    }
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(outcome(g), SIZE);
    free(bytes);
}

TEST(a_write_cut_short_tells_what_it_took_and_keeps_it)
{
    enum { SIZE = 2000000 };
    char *bytes = malloc(SIZE);
    int other;
    size_t done = 0;
    weald_greenlet g;
    weald_stream s = stream_and(&other);

    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 + (i >> 10));
    CHECK_EQ(weald_stream_write(s, bytes, 100, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_write(s, bytes + 100, SIZE - 100, &done, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_GT(done, 0);
    done += 100;
    CHECK_EQ(weald_stream_write(s, bytes + done, 1000, NULL, WEALD_NOW), 0);
    done += 1000;
    CHECK_EQ(weald_stream_flush(s, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_stream_unsent(s), 1000);
    g = spawned(collect, FD(other));
    CHECK_EQ(weald_stream_write(s, bytes + done, SIZE - done, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(outcome(g), SIZE);
    free(bytes);
}

/* ---- who owns the descriptor ---- */

TEST(a_stream_closes_its_descriptor_unless_it_is_borrowed)
{
    weald_stream_options borrows = {.size = sizeof borrows, .flags = WEALD_STREAM_BORROWS};
    int ends[2];
    weald_stream s;

    unix_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[0], &borrows), 0);
    CHECK_EQ(weald_kind(s), WEALD_KIND_STREAM);
    CHECK_EQ(weald_stream_fd(s), ends[0]);
    CHECK_EQ(weald_close(s), 0);
    CHECK_GE(fcntl(ends[0], F_GETFD), 0);
    CHECK_GT(s = weald_stream_new(ends[0], NULL), 0);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(fcntl(ends[0], F_GETFD), -1);
}

static void *read_line(void *s)
{
    const char *line;
    return FD(weald_stream_line((weald_stream)(intptr_t)s, &line, NULL, 100, WEALD_FOREVER));
}

TEST(who_reads_a_stream_that_is_closed_is_told)
{
    weald_stream_options borrows = {.size = sizeof borrows};

    for (int i = 0; i < 4; i++) {
        int ends[2];
        weald_stream s;
        weald_greenlet g;

        borrows.flags = i & 1 ? WEALD_STREAM_BORROWS : 0;
        unix_pair(ends);
        CHECK_GT(s = weald_stream_new(ends[0], &borrows), 0);
        g = spawned(read_line, FD(s));
        CHECK_EQ(weald_yield(), 0);
        give(ends[1], "part of a line");
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        if (i & 2)
            give(ends[1], " and its end\n"); /* it is ready to go on */
        CHECK_EQ(weald_close(s), 0);
        CHECK_EQ(outcome(g), WEALD_EBADF);
        CHECK_EQ(weald_stream_unsent(s), WEALD_EBADF);
    }
}

TEST(a_descriptor_closed_under_its_stream_is_not_taken_for_the_next_one)
{
    int other, fresh[2], fd;
    char byte;
    const void *data;
    weald_stream s = stream_and(&other);
    weald_greenlet g = spawned(read_line, FD(s));

    fd = weald_stream_fd(s);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close_fd(fd), 1);
    CHECK_EQ(outcome(g), WEALD_EBADF);
    unix_pair(fresh);
    CHECK_EQ(fresh[0], fd);
    give(fresh[1], "not for the stream\n");
    CHECK_EQ(weald_stream_read(s, &byte, 1, WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_stream_write(s, "x", 1, NULL, WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_stream_flush(s, WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_stream_peek(s, &data), WEALD_EBADF);
    CHECK_EQ(weald_close(s), 0);
    CHECK_GE(fcntl(fd, F_GETFD), 0); /* it is not the stream's any more */
}

TEST(a_stream_of_a_file_is_read_by_lines)
{
    weald_stream s = weald_stream_new(file_of("first\nsecond\nthird"), NULL);
    weald_stream proc = weald_stream_new(open("/proc/self/status", O_RDONLY), NULL);
    const char *line;
    int n = 0;

    LINE(s, "first");
    LINE(s, "second");
    LINE(s, "third");
    CHECK_EQ(weald_stream_line(s, &line, NULL, 10, WEALD_FOREVER), 0);
    while (weald_stream_line(proc, &line, NULL, 1000, WEALD_FOREVER) == 1)
        n++;
    CHECK_GT(n, 20);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(weald_close(proc), 0);
}

/* ---- kills and deadlines in the middle ---- */

static int line_fd;

static void put_line(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(weald_write(line_fd, bytes + i, 1, WEALD_FOREVER), 1);
}

static void end_lines(void) { CHECK_EQ(weald_close_fd(line_fd), 0); }

TEST(no_line_is_lost_or_cut_when_its_reader_is_killed)
{
    weald_stream s = stream_and(&line_fd);

    lines_survive_kills(s, put_line, end_lines, test_rounds(3000));
    CHECK_EQ(weald_close(s), 0);
}

TEST(a_stream_that_waits_or_is_empty_holds_no_buffer)
{
    enum { STREAMS = 300 };
    static weald_stream streams[STREAMS];
    static weald_greenlet readers[STREAMS];
    static int others[STREAMS];
    long before, after;
    const char *line;
    char half[2000];

    memset(half, 'x', sizeof half);
    half[sizeof half - 1] = '\n';
    for (int i = 0; i < STREAMS; i++)
        streams[i] = stream_and(&others[i]);
    for (int round = 0; round < 2; round++) { /* in the first one the heap grows, and the scratch is made */
        for (int i = 0; i < STREAMS; i++)
            CHECK_EQ(weald_write(others[i], half, sizeof half, WEALD_FOREVER), (int64_t)sizeof half);
        for (int i = 0; i < STREAMS; i++)
            CHECK_EQ(weald_stream_line(streams[i], &line, NULL, sizeof half, WEALD_FOREVER), 1);
        for (int i = 0; i < STREAMS; i++)
            CHECK_EQ(weald_stream_line(streams[i], &line, NULL, sizeof half, WEALD_NOW), WEALD_EAGAIN);
    }
    if (*test_under())
        return;
    before = test_rss();
    for (int i = 0; i < STREAMS; i++)
        readers[i] = spawned(read_line, FD(streams[i]));
    CHECK_EQ(weald_yield(), 0);
    after = test_rss();
    printf("%ld bytes each\n", (after - before) / STREAMS);
    CHECK_LT((after - before) / STREAMS, 6000); /* a record, and the page of a stack */
    for (int i = 0; i < STREAMS; i++)
        CHECK_EQ(weald_close(streams[i]), 0);
    for (int i = 0; i < STREAMS; i++)
        CHECK_EQ(outcome(readers[i]), WEALD_EBADF);
}

/* ---- codes ---- */

static weald_stream quiet_stream, full_stream;
static char lots[100000];
static int64_t s_read(int64_t d) { return weald_stream_read(quiet_stream, BYTES, d); }
static int64_t s_read_exact(int64_t d) { return weald_stream_read_exact(quiet_stream, BYTES, NULL, d); }
static int64_t s_fill(int64_t d) { return weald_stream_fill(quiet_stream, 1, d); }
static int64_t s_line(int64_t d)
{
    const char *line;
    return weald_stream_line(quiet_stream, &line, NULL, 100, d);
}
static int64_t s_until(int64_t d)
{
    const void *data;
    size_t len;
    return weald_stream_read_until(quiet_stream, "\n", 1, &data, &len, 100, d);
}
static int64_t s_write(int64_t d) { return weald_stream_write(full_stream, lots, sizeof lots, NULL, d); }
static int64_t s_flush(int64_t d) { return weald_stream_flush(full_stream, d); }

static const struct transfer calls[] = {
    {"weald_stream_read", s_read, &quiet[0], WEALD_READ, NULL, 0},
    {"weald_stream_read_exact", s_read_exact, &quiet[0], WEALD_READ, NULL, 0},
    {"weald_stream_fill", s_fill, &quiet[0], WEALD_READ, NULL, 0},
    {"weald_stream_line", s_line, &quiet[0], WEALD_READ, NULL, 0},
    {"weald_stream_read_until", s_until, &quiet[0], WEALD_READ, NULL, 0},
    {"weald_stream_write", s_write, &full[0], WEALD_WRITE, NULL, 0},
    {"weald_stream_flush", s_flush, &full[0], WEALD_WRITE, NULL, 0},
};
enum { CALLS = sizeof calls / sizeof *calls };

static int64_t memory_read(void *buffer, size_t len, int64_t deadline, void *user);
static int64_t memory_write(const void *data, size_t len, int64_t deadline, void *user);
static void memory_close(void *user);

/* Reads what `in` has, a piece at a time, and keeps what is written. */
static const weald_stream_functions in_memory = {
    .size = sizeof in_memory, .read = memory_read, .write = memory_write, .close = memory_close};

static const struct transfer *current;
static int64_t for_ever(void) { return current->call(WEALD_FOREVER); }

static void prepare(void)
{
    unix_pair(quiet);
    unix_pair(full);
    fill(full[0]);
    CHECK_GT(quiet_stream = weald_stream_new(quiet[0], NULL), 0);
    CHECK_GT(full_stream = weald_stream_new(full[0], NULL), 0);
    CHECK_EQ(weald_stream_write(full_stream, "x", 1, NULL, WEALD_NOW), 0);
}

static void release(void)
{
    weald_close(quiet_stream);
    weald_close(full_stream);
    CHECK_EQ(weald_close_fd(quiet[1]), 0);
    CHECK_EQ(weald_close_fd(full[1]), 0);
}

#define FOR_EACH_CALL for (current = calls; current < calls + CALLS && (prepare(), 1); release(), current++)

static void *make_current(void *unused)
{
    (void)unused;
    return FD(current->call(WEALD_FOREVER));
}

TEST(calls_on_streams_tell_why_they_did_not_wait)
{
    FOR_EACH_CALL
    {
        weald_greenlet g;

        TRANSFER_CHECK(current, current->call(WEALD_NOW), WEALD_EAGAIN);
        TRANSFER_CHECK(current, current->call(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
        TRANSFER_CHECK(current, in_a_timeout(for_ever), WEALD_ETIMEDOUT);
        TRANSFER_CHECK(current, when_killed(for_ever), WEALD_ECANCELED);
        TRANSFER_CHECK(current, in_a_callback(for_ever), WEALD_EWOULDBLOCK);
        TRANSFER_CHECK(current, when_forbidden(for_ever), WEALD_EPERM);
        g = spawned(make_current, NULL);
        CHECK_EQ(weald_yield(), 0);
        TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_EBUSY);
        if (current->events == WEALD_READ) {
            const void *data;
            CHECK_EQ(weald_stream_skip(quiet_stream, 0), WEALD_EBUSY);
            CHECK_EQ(weald_stream_unread(quiet_stream, "x", 1), WEALD_EBUSY);
            CHECK_EQ(weald_stream_peek(quiet_stream, &data), WEALD_EBUSY);
        }
        CHECK_EQ(weald_close(current->events == WEALD_READ ? quiet_stream : full_stream), 0);
        CHECK_EQ(outcome(g), WEALD_EBADF);
        TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_EBADF);
    }
}

TEST(no_call_on_a_stream_waits_without_memory)
{
    prepare();
    starve();
    for (current = calls; current < calls + CALLS; current++)
        TRANSFER_CHECK(current, current->call(soon()), WEALD_ENOMEM);
    CHECK_EQ(weald_stream_new(quiet[1], NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_stream_over(&in_memory, NULL, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_stream_unread(quiet_stream, lots, sizeof lots), WEALD_ENOMEM);
    CHECK_GE(fcntl(quiet[1], F_GETFD), 0); /* and is still the caller's */
    feed();
}

TEST(a_reset_connection_says_so_to_every_call_on_its_stream)
{
    for (current = calls; current < calls + CALLS; current++) {
        int ends[2];
        tcp_pair(ends);
        CHECK_GT(quiet_stream = weald_stream_new(ends[0], NULL), 0);
        full_stream = quiet_stream;
        CHECK_EQ(weald_stream_write(full_stream, "x", 1, NULL, WEALD_NOW), 0);
        CHECK_EQ(weald_set_option(ends[1], WEALD_OPTION_LINGER, 0), 0);
        CHECK_EQ(weald_close_fd(ends[1]), 0);
        CHECK_EQ(weald_wait_read(ends[0], WEALD_FOREVER), 0);
        TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_ECONNRESET);
        CHECK_EQ(weald_close(quiet_stream), 0);
    }
}

TEST(writing_to_a_stream_that_nobody_reads_is_epipe)
{
    int other;
    weald_stream s = stream_and(&other);

    CHECK_EQ(weald_close_fd(other), 0);
    CHECK_EQ(weald_stream_write(s, "x", 1, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_stream_unsent(s), 1); /* what could not be written is kept */
    CHECK_EQ(weald_stream_write(s, lots, sizeof lots, NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(s), 0);
}

TEST(arguments_that_make_no_sense_are_refused)
{
    weald_stream_options other = {.size = sizeof other, .flags = 77}, none = {.size = 0};
    const void *data;
    size_t len;

    prepare();
    CHECK_EQ(weald_stream_new(-1, NULL), WEALD_EBADF);
    CHECK_EQ(weald_stream_new(quiet[1], &other), WEALD_EINVAL);
    CHECK_EQ(weald_stream_new(quiet[1], &none), WEALD_EINVAL);
    CHECK_EQ(weald_stream_read(quiet_stream, NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_stream_read_exact(quiet_stream, NULL, 1, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_stream_line(quiet_stream, NULL, &len, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_stream_read_until(quiet_stream, NULL, 1, &data, &len, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_stream_read_until(quiet_stream, "x", 0, &data, &len, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_stream_read_until(quiet_stream, "x", 1, NULL, &len, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_stream_read_until(quiet_stream, "x", 1, &data, NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_stream_peek(quiet_stream, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stream_unread(quiet_stream, NULL, 1), WEALD_EINVAL);
    CHECK_EQ(weald_stream_over(NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stream_over(&(weald_stream_functions){.size = sizeof in_memory}, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stream_over(&in_memory, NULL, &other), WEALD_EINVAL);
    CHECK_EQ(weald_stream_over(&in_memory, NULL, &none), WEALD_EINVAL);
    CHECK_EQ(weald_stream_write(quiet_stream, NULL, 1, NULL, WEALD_NOW), WEALD_EINVAL);
}

static void of_another_thread(void)
{
    const void *data;

    CHECK_EQ(weald_stream_skip(quiet_stream, 0), WEALD_EPERM);
    CHECK_EQ(weald_stream_unread(quiet_stream, "x", 1), WEALD_EPERM);
    CHECK_EQ(weald_stream_peek(quiet_stream, &data), WEALD_EPERM);
    CHECK_EQ(weald_stream_unsent(quiet_stream), WEALD_EPERM);
    CHECK_EQ(weald_stream_fd(quiet_stream), WEALD_EPERM);
    CHECK_EQ(s_read(WEALD_NOW), WEALD_EPERM);
}

TEST(a_stream_is_its_thread_s)
{
    prepare();
    in_another_thread(of_another_thread);
    CHECK_EQ(weald_close(quiet_stream), 0);
    CHECK_EQ(weald_stream_skip(quiet_stream, 0), WEALD_EBADF);
    CHECK_EQ(weald_stream_unread(quiet_stream, "x", 1), WEALD_EBADF);
    CHECK_EQ(weald_stream_fd(quiet_stream), WEALD_EBADF);
}

/* ---- over functions ---- */

TEST(what_was_read_can_be_put_back)
{
    int other;
    weald_stream s = stream_and(&other);
    const char *line;
    char got[8];
    size_t len;

    CHECK_EQ(write(other, "one\ntwo\n", 8), 8);
    CHECK_EQ(weald_stream_line(s, &line, &len, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "one");
    CHECK_EQ(weald_stream_unread(s, "1\n", 2), 0); /* there is room for it in front */
    CHECK_EQ(weald_stream_line(s, &line, &len, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "1");
    CHECK_EQ(weald_stream_unread(s, "a long line instead\n", 20), 0); /* and for this there is none */
    CHECK_EQ(weald_stream_unread(s, NULL, 0), 0);
    CHECK_EQ(weald_stream_line(s, &line, &len, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "a long line instead");
    CHECK_EQ(weald_stream_line(s, &line, &len, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "two");
    CHECK_EQ(weald_stream_read(s, got, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_unread(s, "x", 1), 0); /* with nothing else there */
    CHECK_EQ(weald_stream_read(s, got, sizeof got, WEALD_NOW), 1);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(weald_close_fd(other), 0);
}

struct memory {
    const char *in;
    size_t piece, sent, most;
    char out[4096];
    int closed, fails;
};

static int64_t memory_read(void *buffer, size_t len, int64_t deadline, void *user)
{
    struct memory *m = user;
    size_t n = strlen(m->in);

    (void)deadline;
    if (m->piece == 1000)
        CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    n = n < m->piece ? n : m->piece;
    n = n < len ? n : len;
    memcpy(buffer, m->in, n);
    m->in += n;
    return (int64_t)n;
}

static int64_t memory_write(const void *data, size_t len, int64_t deadline, void *user)
{
    struct memory *m = user;
    size_t n = len < m->most ? len : m->most;

    (void)deadline;
    if (m->fails)
        return m->fails < 0 ? m->fails : (int64_t)len + 1;
    memcpy(m->out + m->sent, data, n);
    m->sent += n;
    return (int64_t)n;
}

static void memory_close(void *user) { ((struct memory *)user)->closed++; }

TEST(a_stream_reads_and_writes_by_functions)
{
    struct memory m = {.in = "hello\nworld\n", .piece = 3, .most = 2};
    weald_stream s = weald_stream_over(&in_memory, &m, NULL);
    const char *line;
    char large[5000];
    size_t len, done;

    CHECK_GT(s, 0);
    CHECK_EQ(weald_stream_fd(s), WEALD_EBADF);
    CHECK_EQ(weald_stream_line(s, &line, &len, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "hello");
    CHECK_EQ(weald_stream_read(s, large, 2, WEALD_FOREVER), 0 + 2);
    CHECK_EQ(weald_stream_fill(s, 4, WEALD_FOREVER), 4);
    CHECK_EQ(weald_stream_read(s, large, sizeof large, WEALD_FOREVER), 4);
    CHECK_EQ(weald_stream_read(s, large, sizeof large, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_write(s, "abc", 3, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(m.sent, 0);
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0); /* two bytes at a time */
    CHECK_EQ(memcmp(m.out, "abc", 3), 0);
    m.fails = WEALD_ECONNRESET;
    CHECK_EQ(weald_stream_write(s, "def", 3, &done, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_stream_unsent(s), 3);
    m.fails = -12345; /* a binding's own */
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), -12345);
    m.fails = 1; /* more than it was given: nonsense */
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), WEALD_EINVAL);
    m.fails = 0;
    CHECK_EQ(weald_stream_end(s, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(memcmp(m.out, "abcdef", 6), 0);
    CHECK_EQ(weald_websocket_new(s, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_tls_accept(s, 0, WEALD_FOREVER) < 0, 1);
    CHECK_EQ(m.closed, 0);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(m.closed, 1);
}

static struct memory slow;

static void *read_slowly(void *s)
{
    char got[10];
    return FD((int)weald_stream_read((weald_stream)(intptr_t)s, got, sizeof got, WEALD_FOREVER));
}

TEST(functions_may_switch_and_are_closed_when_the_last_call_is_over)
{
    weald_stream s;
    weald_greenlet g;

    slow = (struct memory){.in = "x", .piece = 1000};
    CHECK_GT(s = weald_stream_over(&in_memory, &slow, NULL), 0);
    g = spawned(read_slowly, (void *)(intptr_t)s);
    CHECK_EQ(weald_yield(), 0); /* it sleeps in its function */
    CHECK_EQ(weald_stream_skip(s, 0), WEALD_EBUSY);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(slow.closed, 0);
    CHECK_EQ(outcome(g), 1);
    CHECK_EQ(slow.closed, 1);
}

/* ---- forks ---- */

static void let_it_end(weald_watcher w, int what, void *user)
{
    static char sixteen[16];

    (void)w, (void)what, (void)user;
    sixteen[15] = '\n';
    CHECK_EQ(write(quiet[1], sixteen, sizeof sixteen), 16);
    while (recv(full[1], lots, sizeof lots, MSG_DONTWAIT) > 0)
        ;
}

static void let_it_end_again(weald_watcher w, int what, void *user) { let_it_end(w, what, user); }

static void deadlock_of(int which)
{
    weald_watcher later = weald_timer_watcher(WEALD_MS(50), WEALD_MS(5), let_it_end_again, NULL);

    current = &calls[which];
    prepare();
    CHECK_GT(later, 0);
    CHECK_EQ(weald_watcher_start(later), 0);
    TRANSFER_CHECK(current, in_a_forked_child(for_ever), WEALD_EDEADLK);
}

#define DEADLOCK(n) \
    TEST(call_number_##n##_of_main_is_a_deadlock_in_a_child_that_a_callback_forks) { deadlock_of(n); }
DEADLOCK(0)
DEADLOCK(1)
DEADLOCK(2)
DEADLOCK(3)
DEADLOCK(4)
DEADLOCK(5)
DEADLOCK(6)

TEST(every_call_is_in_the_list_of_deadlocks) { CHECK_EQ(CALLS, 7); }

TEST(a_forked_child_goes_on_with_its_streams)
{
    int other, status;
    pid_t pid;
    weald_stream s = stream_and(&other);
    weald_greenlet g;

    give(other, "before\nduring\n");
    LINE(s, "before");
    LINE(s, "during");
    g = spawned(read_line, FD(s)); /* it reads in the parent alone */
    CHECK_EQ(weald_yield(), 0);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        give(other, "child\n");
        LINE(s, "child");
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    give(other, "parent\n");
    CHECK_EQ(outcome(g), 1);
    CHECK_EQ(weald_close(s), 0);
}

TEST(what_was_cut_off_by_a_reset_never_ends_like_a_whole)
{
    int ends[2];
    weald_stream s;
    const char *line;
    size_t len;
    char large[32 * 1024];

    tcp_pair(ends);
    s = weald_stream_new(ends[0], NULL);
    CHECK_EQ(weald_write(ends[1], "half a li", 9, WEALD_FOREVER), 9);
    CHECK_EQ(weald_stream_fill(s, 9, WEALD_FOREVER), 9);
    CHECK_EQ(weald_set_option(ends[1], WEALD_OPTION_LINGER, 0), 0);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_stream_line(s, &line, &len, 100, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_stream_read(s, large, sizeof large, WEALD_FOREVER), 9); /* what there is may be had */
    CHECK_EQ(weald_stream_read(s, large, sizeof large, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_stream_fill(s, 1, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_close(s), 0);

    tcp_pair(ends);
    s = weald_stream_new(ends[0], NULL);
    CHECK_EQ(weald_set_option(ends[1], WEALD_OPTION_LINGER, 0), 0);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
    CHECK_EQ(weald_wait_read(ends[0], WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_write(s, "x", 1, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), WEALD_ECONNRESET); /* the kernel has told it to us here */
    CHECK_EQ(weald_stream_line(s, &line, &len, 100, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_close(s), 0);
}
