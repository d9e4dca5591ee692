/* TCP connections are told edges: what has come is told once. A lost edge would be found by the verification a tenth of
 * a second later, so each claim is made some hundred times with one deadline for all, of which it needs a hundredth. */
#include "greenlets.h"
#include "transfers.h"
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>

#define ROUNDS 300
#define FD(n) ((void *)(intptr_t)(n))
#define NUMBER(p) ((int)(intptr_t)(p))

static int64_t limit;

static void connect_two(int ends[2])
{
    int on = 1;
    tcp_pair(ends);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
}

static void begin(int ends[2])
{
    limit = weald_after(WEALD_SEC(15));
    connect_two(ends);
}

static void end(int ends[2])
{
    CHECK_EQ(weald_close_fd(ends[0]), 0);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
}

static void ended(weald_greenlet g)
{
    CHECK_EQ(weald_join(g, limit), 0);
    CHECK_EQ(weald_close(g), 0);
}

static void say(int fd, const char *text) { CHECK_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text)); }

static void hear(int fd, const char *text)
{
    char got[64];
    CHECK_EQ(weald_read(fd, got, sizeof got, limit), (int64_t)strlen(text));
    CHECK(!memcmp(got, text, strlen(text)));
}

/* The loop looks at the poller. */
static void look(void)
{
    CHECK_EQ(weald_sleep(WEALD_US(20)), 0);
}

/* A read that has less than it asked for, so that the next one waits without trying. */
static void *heard_once(void *fd)
{
    hear(NUMBER(fd), "abc");
    return NULL;
}

/* It waits, is told, and reads all that there is. */
static void be_told(int ends[2])
{
    weald_greenlet reader = spawned(heard_once, FD(ends[0]));
    CHECK_EQ(weald_yield(), 0);
    say(ends[1], "abc");
    ended(reader);
}

static void *until_the_end(void *fd)
{
    hear(NUMBER(fd), "abc");
    hear(NUMBER(fd), "");
    return NULL;
}

TEST(an_end_behind_what_was_read_is_seen)
{
    for (int i = 0; i < ROUNDS; i++) {
        int ends[2];
        if (i == 0)
            begin(ends);
        else
            connect_two(ends);
        weald_greenlet reader = spawned(until_the_end, FD(ends[0]));
        if (i % 2)
            look(); /* else the end is there before it waits */
        say(ends[1], "abc");
        CHECK_EQ(shutdown(ends[1], SHUT_WR), 0);
        ended(reader);
        end(ends);
    }
}

static void *around_the_mark(void *fd)
{
    char got[64];
    size_t n = 0;
    while (n < 6) {
        int64_t more = weald_read(NUMBER(fd), got + n, sizeof got - n, limit);
        CHECK_GT(more, 0);
        n += (size_t)more;
    }
    CHECK(!memcmp(got, "abcefg", 6));
    return NULL;
}

TEST(what_lies_behind_urgent_data_is_read)
{
    int ends[2];
    begin(ends);
    for (int i = 0; i < ROUNDS; i++) {
        weald_greenlet reader = spawned(around_the_mark, FD(ends[0]));
        look();
        say(ends[1], "abc");
        CHECK_EQ(send(ends[1], "d", 1, MSG_OOB), 1);
        say(ends[1], "efg");
        ended(reader);
    }
    end(ends);
}

static void *is_killed(void *fd)
{
    char got[64];
    CHECK_EQ(weald_read(NUMBER(fd), got, sizeof got, limit), WEALD_ECANCELED);
    return NULL;
}

TEST(a_killed_reader_leaves_it_to_the_next)
{
    int ends[2];
    begin(ends);
    for (int i = 0; i < ROUNDS; i++) {
        be_told(ends);
        weald_greenlet reader = spawned(is_killed, FD(ends[0]));
        CHECK_EQ(weald_yield(), 0);
        say(ends[1], "xyz");
        CHECK_EQ(weald_kill(reader, 0, WEALD_NOW), 0);
        if (i % 2)
            look();
        ended(reader);
        hear(ends[0], "xyz");
    }
    end(ends);
}

/* Two are told at once, and the first kills the second before that one has read. */
static weald_greenlet victim;

static void *kills(void *fd)
{
    hear(NUMBER(fd), "abc");
    CHECK_EQ(weald_kill(victim, 0, WEALD_NOW), 0);
    return NULL;
}

TEST(one_that_was_told_and_killed_leaves_it_to_the_next)
{
    int first[2], second[2];
    begin(first);
    connect_two(second);
    for (int i = 0; i < ROUNDS; i++) {
        be_told(second);
        victim = spawned(is_killed, FD(second[0]));
        weald_greenlet killer = spawned(kills, FD(first[0]));
        CHECK_EQ(weald_yield(), 0);
        say(first[1], "abc");
        say(second[1], "xyz");
        ended(killer);
        ended(victim);
        hear(second[0], "xyz");
    }
    end(first);
    end(second);
}

TEST(what_came_when_nobody_waited_is_there)
{
    int ends[2];
    char got[8];
    begin(ends);
    for (int i = 0; i < ROUNDS; i++) {
        be_told(ends);
        CHECK_EQ(weald_read(ends[0], got, sizeof got, weald_after(WEALD_US(50))), WEALD_ETIMEDOUT);
        say(ends[1], "one");
        look();
        if (i % 2) {
            say(ends[1], "two");
            look();
        }
        hear(ends[0], i % 2 ? "onetwo" : "one");
    }
    end(ends);
}

TEST(what_a_peek_saw_is_there_still)
{
    int ends[2];
    char got[8];
    begin(ends);
    for (int i = 0; i < ROUNDS; i++) {
        be_told(ends);
        say(ends[1], "xyz");
        CHECK_EQ(weald_recv(ends[0], got, sizeof got, MSG_PEEK, limit), 3);
        CHECK_EQ(weald_recv(ends[0], got, sizeof got, MSG_PEEK, limit), 3);
        CHECK_EQ(weald_read(ends[0], got, 1, limit), 1);
        hear(ends[0], "yz");
    }
    end(ends);
}

TEST(who_waits_for_what_is_there_need_not_wait_for_more)
{
    int ends[2];
    char byte;
    begin(ends);
    be_told(ends);
    for (int i = 0; i < ROUNDS; i++) {
        say(ends[1], "xyz");
        CHECK_EQ(weald_wait_read(ends[0], limit), 0);
        look();
        CHECK_EQ(recv(ends[0], &byte, 1, MSG_DONTWAIT), 1); /* behind the library's back */
        CHECK_EQ(weald_wait_read(ends[0], limit), 0);
        struct pollfd one = {.fd = ends[0], .events = POLLIN};
        CHECK_EQ(weald_poll(&one, 1, limit), 1);
        hear(ends[0], "yz");
    }
    end(ends);
}

static int calls;

static void reads_a_byte(weald_watcher w, int what, void *fd)
{
    char byte;
    (void)w;
    CHECK(what & WEALD_READ);
    CHECK_EQ(recv(NUMBER(fd), &byte, 1, MSG_DONTWAIT), 1);
    calls++;
}

TEST(a_watcher_is_called_as_long_as_there_is_something)
{
    int ends[2];
    begin(ends);
    be_told(ends);
    weald_watcher w = weald_io_watcher(ends[0], WEALD_READ, reads_a_byte, FD(ends[0]));
    CHECK_GT(w, 0);
    CHECK_EQ(weald_watcher_start(w), 0);
    for (int i = 0; i < ROUNDS; i++)
        say(ends[1], "x");
    while (calls < ROUNDS && weald_now() < limit)
        look();
    CHECK_EQ(calls, ROUNDS);
    CHECK_EQ(weald_close(w), 0);
    be_told(ends);
    end(ends);
}

static void *writes(void *fd)
{
    static char zeros[1 << 16];
    for (int i = 0; i < 4 * ROUNDS; i++)
        CHECK_EQ(weald_write_all(NUMBER(fd), zeros, sizeof zeros, NULL, limit), 0);
    return NULL;
}

static void *answers(void *fd)
{
    for (int i = 0; i < ROUNDS; i++)
        hear(NUMBER(fd), "abc");
    return NULL;
}

TEST(who_has_no_room_goes_on_when_there_is_some)
{
    int ends[2], small = 4096;
    static char got[1 << 16];
    size_t left = 4 * (size_t)ROUNDS * (1 << 16);
    begin(ends);
    CHECK_EQ(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    be_told(ends);
    weald_greenlet writer = spawned(writes, FD(ends[0])), reader = spawned(answers, FD(ends[0]));
    int said = 0;
    while (left > 0) {
        int64_t n = weald_read(ends[1], got, sizeof got, limit);
        CHECK_GT(n, 0);
        left -= (size_t)n;
        if (said < ROUNDS && n % 2 == 0) { /* both directions at once */
            CHECK_EQ(weald_yield(), 0);
            said++;
            say(ends[1], "abc");
            look();
        }
    }
    ended(writer);
    for (; said < ROUNDS; said++) {
        say(ends[1], "abc");
        look();
    }
    ended(reader);
    end(ends);
}

TEST(a_number_that_was_closed_behind_our_back_serves_the_next_connection)
{
    int old[2], ends[2];
    begin(old);
    for (int i = 0; i < ROUNDS / 10; i++) {
        be_told(old);
        int number = old[0];
        CHECK_EQ(close(old[0]), 0);
        CHECK_EQ(close(old[1]), 0);
        connect_two(ends);
        CHECK(ends[0] == number || ends[1] == number);
        be_told(ends);
        memcpy(old, ends, sizeof old);
    }
    end(old);
}

TEST(a_copy_elsewhere_that_has_the_end_does_not_keep_us_from_it)
{
    int ends[2];
    begin(ends);
    be_told(ends);
    pid_t child = fork();
    if (child == 0) {
        limit = weald_after(WEALD_SEC(10));
        for (int i = 0; i < 20; i++)
            be_told(ends);
        _exit(0);
    }
    int status;
    CHECK_GT(child, 0);
    while (waitpid(child, &status, WNOHANG) == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < ROUNDS; i++)
        be_told(ends);
    end(ends);
}
