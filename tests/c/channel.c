/* Messages between processes: weald_channel_, weald_process_fork. */
#include "errors.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

static weald_channel ends[2];

static void make_pair(size_t limit) { CHECK_EQ(weald_channel_pair(ends, limit), 0); }

static void close_pair(void)
{
    CHECK_EQ(weald_close(ends[0]), 0);
    CHECK_EQ(weald_close(ends[1]), 0);
}

static int send_text(weald_channel c, const char *text)
{
    return weald_channel_send(c, text, strlen(text), WEALD_FOREVER);
}

static void expect_text(weald_channel c, const char *text)
{
    void *data = NULL;
    size_t len = 77;

    CHECK_EQ(weald_channel_receive(c, &data, &len, WEALD_FOREVER), 0);
    CHECK_EQ(len, strlen(text));
    CHECK_STR((char *)data, text);
    weald_free(data);
}

/* What it fails with, and writes nothing. */
static int64_t failing_receive(weald_channel c, int64_t deadline)
{
    void *data = &data;
    size_t len = 77;
    int code = weald_channel_receive(c, &data, &len, deadline);

    CHECK_LT(code, 0);
    CHECK_PTR(data, &data);
    CHECK_EQ(len, 77);
    return code;
}

static int exit_of(weald_process p)
{
    int status = -1;

    CHECK_EQ(weald_process_wait(p, &status, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(p), 0);
    return weald_exit_code(status);
}

/* ---- messages ---- */

TEST(messages_arrive_whole_and_in_order)
{
    int fds = (weald_self(), test_fds());

    make_pair(0);
    CHECK_EQ(weald_kind(ends[0]), WEALD_KIND_CHANNEL);
    CHECK_EQ(send_text(ends[0], "one"), 0);
    CHECK_EQ(send_text(ends[0], ""), 0);
    CHECK_EQ(weald_channel_send(ends[0], NULL, 0, WEALD_NOW), 0);
    CHECK_EQ(send_text(ends[0], "four"), 0);
    CHECK_EQ(send_text(ends[1], "the other way"), 0);
    expect_text(ends[1], "one");
    expect_text(ends[1], "");
    expect_text(ends[1], "");
    expect_text(ends[1], "four");
    expect_text(ends[0], "the other way");
    CHECK_EQ(weald_channel_unsent(ends[0]), 0);
    CHECK_EQ(weald_channel_flush(ends[0], WEALD_NOW), 0);
    close_pair();
    CHECK_EQ(test_fds(), fds);
}

enum { LARGE = 3 << 20 };
static unsigned char *large;

static void *send_large(void *unused)
{
    CHECK_EQ(weald_channel_send(ends[0], large, LARGE, WEALD_FOREVER), 0);
    return unused;
}

static void make_large(void)
{
    large = malloc(LARGE);
    for (int i = 0; i < LARGE; i++)
        large[i] = (unsigned char)(i * 31 + i / 4096);
}

static void expect_large(weald_channel c)
{
    void *data;
    size_t len;

    CHECK_EQ(weald_channel_receive(c, &data, &len, WEALD_FOREVER), 0);
    CHECK_EQ(len, LARGE);
    CHECK_EQ(memcmp(data, large, LARGE), 0);
    weald_free(data);
}

TEST(one_that_fits_no_buffer_goes_piece_by_piece)
{
    make_large();
    make_pair(0);
    CHECK_EQ(weald_go(send_large, NULL), 0);
    expect_large(ends[1]);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_channel_unsent(ends[0]), 0);
    close_pair();
    free(large);
}

TEST(a_channel_of_two_pipes)
{
    int there[2], back[2];
    weald_channel a, b;

    CHECK_EQ(pipe(there), 0);
    CHECK_EQ(pipe(back), 0);
    CHECK_GT(a = weald_channel_open(back[0], there[1], 100), 0);
    CHECK_GT(b = weald_channel_open(there[0], back[1], 100), 0);
    CHECK_EQ(weald_channel_fd(a, WEALD_READ), back[0]);
    CHECK_EQ(weald_channel_fd(a, WEALD_WRITE), there[1]);
    CHECK_EQ(weald_channel_fd(a, 3), WEALD_EINVAL);
    CHECK_EQ(send_text(a, "there"), 0);
    expect_text(b, "there");
    CHECK_EQ(send_text(b, "and back"), 0);
    expect_text(a, "and back");
    CHECK_EQ(weald_channel_shut(a), 0);
    CHECK_EQ(weald_channel_shut(a), WEALD_EPIPE);
    CHECK_EQ(weald_channel_fd(a, WEALD_WRITE), WEALD_EPIPE);
    CHECK_EQ(fcntl(there[1], F_GETFD), -1);
    CHECK_EQ(send_text(a, "more"), WEALD_EPIPE);
    CHECK_EQ(weald_channel_flush(a, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(failing_receive(b, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(send_text(b, "still"), 0);
    expect_text(a, "still");
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(send_text(b, "nobody"), WEALD_EPIPE); /* and no SIGPIPE */
    CHECK_EQ(weald_close(b), 0);
    CHECK_EQ(fcntl(back[0], F_GETFD), -1);
    CHECK_EQ(fcntl(back[1], F_GETFD), -1);
}

TEST(what_can_not_be_a_channel)
{
    int fd = dup(STDIN_FILENO), file = open("/proc/self/exe", O_RDONLY);

    CHECK_GE(file, 0);
    CHECK_EQ(weald_channel_open(file, file, 0), WEALD_EINVAL);
    CHECK_EQ(close(file), 0); /* it was ours still */
    CHECK_EQ(weald_channel_pair(NULL, 0), WEALD_EINVAL);
    CHECK_EQ(weald_channel_pair(ends, (size_t)1 << 32), WEALD_EINVAL);
    CHECK_EQ(weald_channel_open(fd, fd, (size_t)1 << 32), WEALD_EINVAL);
    CHECK_EQ(weald_channel_open(fd, -1, 0), WEALD_EBADF);
    CHECK_EQ(weald_channel_open(999, fd, 0), WEALD_EBADF);
    CHECK_GE(fcntl(fd, F_GETFD), 0);
    CHECK_EQ(ends[0], 0);
}

static int child_of_nobody(weald_channel c, void *unused)
{
    (void)c, (void)unused;
    return 0;
}

TEST(no_descriptors_no_channel)
{
    weald_channel c = 77;

    CHECK_GT(weald_self(), 0);
    test_take_descriptors(40);
    CHECK_EQ(weald_channel_pair(ends, 0), WEALD_EMFILE);
    CHECK_EQ(weald_process_fork(child_of_nobody, NULL, &c, 0), WEALD_EMFILE);
    CHECK_EQ(ends[0], 0);
    CHECK_EQ(c, 77);
    close(39);
    close(38);
    make_pair(0);
    close_pair();
    CHECK_EQ(weald_process_fork(child_of_nobody, NULL, &c, 0), WEALD_EMFILE); /* no pidfd any more */
    CHECK_EQ(waitpid(-1, NULL, 0), -1);
    make_pair(0);
}

/* ---- limits, and ends ---- */

TEST(a_message_above_the_limit_is_not_sent)
{
    make_pair(10);
    CHECK_EQ(send_text(ends[0], "ten bytes."), 0);
    CHECK_EQ(send_text(ends[0], "one too many"), WEALD_EMSGSIZE);
    CHECK_EQ(weald_channel_unsent(ends[0]), 0);
    expect_text(ends[1], "ten bytes.");
    CHECK_EQ(failing_receive(ends[1], WEALD_NOW), WEALD_EAGAIN);
    close_pair();
}

TEST(a_message_above_the_limit_of_who_receives_it_is_dropped)
{
    int fds[2];
    weald_channel wide, narrow;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_GT(wide = weald_channel_open(fds[0], fds[0], 0), 0);
    CHECK_GT(narrow = weald_channel_open(fds[1], fds[1], 5), 0);
    CHECK_EQ(send_text(wide, "short"), 0);
    CHECK_EQ(send_text(wide, "not so short"), 0);
    CHECK_EQ(send_text(wide, "end"), 0);
    expect_text(narrow, "short");
    CHECK_EQ(failing_receive(narrow, WEALD_FOREVER), WEALD_EMSGSIZE);
    expect_text(narrow, "end");
    CHECK_EQ(weald_close(wide), 0);
    CHECK_EQ(weald_close(narrow), 0);
}

TEST(when_one_side_ends_the_other_gets_what_was_sent_and_then_epipe)
{
    make_pair(0);
    CHECK_EQ(send_text(ends[0], "last words"), 0);
    CHECK_EQ(weald_close(ends[0]), 0);
    expect_text(ends[1], "last words");
    CHECK_EQ(failing_receive(ends[1], WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(failing_receive(ends[1], WEALD_NOW), WEALD_EPIPE);
    CHECK_EQ(send_text(ends[1], "too late"), WEALD_EPIPE);
    CHECK_EQ(weald_close(ends[1]), 0);
    /* With something unread, which the system tells as a reset. */
    make_pair(0);
    CHECK_EQ(send_text(ends[0], "never read"), 0);
    CHECK_EQ(weald_close(ends[1]), 0);
    CHECK_EQ(failing_receive(ends[0], WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(ends[0]), 0);
}

TEST(one_side_may_end_its_sending_alone)
{
    make_pair(0);
    CHECK_EQ(weald_channel_shut(ends[0]), 0);
    CHECK_EQ(weald_channel_shut(ends[0]), WEALD_EPIPE);
    CHECK_EQ(send_text(ends[0], "more"), WEALD_EPIPE);
    CHECK_EQ(failing_receive(ends[1], WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(send_text(ends[1], "an answer"), 0);
    expect_text(ends[0], "an answer");
    close_pair();
}

TEST(an_end_in_the_middle_of_a_message_is_eproto)
{
    const unsigned char half[] = {10, 0, 0, 0, 'h', 'a', 'l', 'f'};

    for (size_t n = 1; n <= sizeof half; n++) {
        int fds[2];
        weald_channel c;

        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        CHECK_GT(c = weald_channel_open(fds[0], fds[0], 0), 0);
        CHECK_EQ(write(fds[1], half, n), (ssize_t)n);
        CHECK_EQ(failing_receive(c, WEALD_NOW), WEALD_EAGAIN);
        close(fds[1]);
        CHECK_EQ(failing_receive(c, WEALD_FOREVER), WEALD_EPROTO);
        CHECK_EQ(weald_close(c), 0);
    }
}

/* ---- calls that are cut short ---- */

TEST(a_message_that_comes_slowly_is_there_for_a_later_call)
{
    const char slow[] = {4, 0, 0, 0, 's', 'l', 'o', 'w', 0, 0, 0, 0};
    int fds[2];
    weald_channel c;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_GT(c = weald_channel_open(fds[0], fds[0], 0), 0);
    for (size_t i = 0; i < 7; i++) {
        CHECK_EQ(write(fds[1], slow + i, 1), 1);
        CHECK_EQ(failing_receive(c, i % 2 ? WEALD_NOW : weald_after(WEALD_MS(1))), i % 2 ? WEALD_EAGAIN : WEALD_ETIMEDOUT);
    }
    CHECK_EQ(write(fds[1], slow + 7, sizeof slow - 7), (ssize_t)sizeof slow - 7);
    expect_text(c, "slow");
    expect_text(c, "");
    close(fds[1]);
    CHECK_EQ(weald_close(c), 0);
}

static int64_t receive_long(void) { return failing_receive(ends[1], WEALD_FOREVER); }
static int64_t send_long(void) { return weald_channel_send(ends[0], large, LARGE, WEALD_FOREVER); }
static int64_t flush_long(void) { return weald_channel_flush(ends[0], WEALD_FOREVER); }

TEST(a_receive_that_is_cut_short_loses_nothing)
{
    make_pair(0);
    CHECK_EQ(failing_receive(ends[1], WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(failing_receive(ends[1], weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(when_killed(receive_long), WEALD_ECANCELED);
    CHECK_EQ(in_a_timeout(receive_long), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_callback(receive_long), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(receive_long), WEALD_EPERM);
    CHECK_EQ(send_text(ends[0], "after all"), 0);
    expect_text(ends[1], "after all");
    close_pair();
}

TEST(the_rest_of_a_message_that_was_cut_short_goes_first)
{
    errors_call calls[] = {send_long, flush_long, flush_long, flush_long, flush_long};
    int64_t (*const around[])(errors_call) = {when_killed, when_killed, in_a_timeout, in_a_callback, when_forbidden};
    const int expected[] = {WEALD_ECANCELED, WEALD_ECANCELED, WEALD_ETIMEDOUT, WEALD_EWOULDBLOCK, WEALD_EPERM};
    weald_greenlet g;

    make_large();
    for (int i = 0; i < 5; i++) {
        make_pair(0);
        if (i > 0)
            CHECK_EQ(weald_channel_send(ends[0], large, LARGE, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
        CHECK_EQ(around[i](calls[i]), expected[i]);
        CHECK_GT(weald_channel_unsent(ends[0]), 0);
        CHECK_LT(weald_channel_unsent(ends[0]), LARGE);
        CHECK_EQ(weald_channel_flush(ends[0], WEALD_NOW), WEALD_EAGAIN);
        /* A message for which it is too late now has not begun. */
        CHECK_EQ(weald_channel_send(ends[0], "never", 5, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
        CHECK_GT(g = weald_spawn(send_large, NULL), 0);
        expect_large(ends[1]);
        expect_large(ends[1]);
        CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(g), 0);
        CHECK_EQ(weald_channel_unsent(ends[0]), 0);
        CHECK_EQ(send_text(ends[0], "in step"), 0);
        expect_text(ends[1], "in step");
        close_pair();
    }
    free(large);
}

TEST(a_message_of_which_nothing_has_gone_was_not_sent)
{
    int sent = 0;

    make_pair(0);
    while (weald_channel_send(ends[0], "12345678", 8, WEALD_NOW) == 0)
        sent++;
    if (weald_channel_unsent(ends[0]) > 0)
        sent++;
    CHECK_GT(sent, 100);
    CHECK_EQ(weald_channel_send(ends[0], "too late", 8, WEALD_NOW), WEALD_EAGAIN);
    for (int i = 0; i < sent; i++) {
        if (i == sent - 1)
            CHECK_EQ(weald_channel_flush(ends[0], WEALD_FOREVER), 0);
        expect_text(ends[1], "12345678");
    }
    CHECK_EQ(failing_receive(ends[1], WEALD_NOW), WEALD_EAGAIN);
    close_pair();
}

TEST(senders_are_told_why_they_can_not_wait)
{
    make_large();
    make_pair(0);
    CHECK_EQ(in_a_timeout(send_long), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_callback(send_long), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(send_long), WEALD_EPERM);
    CHECK_EQ(weald_channel_send(ends[0], NULL, 1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_channel_receive(ends[1], NULL, &(size_t){0}, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_channel_receive(ends[1], &(void *){NULL}, NULL, WEALD_FOREVER), WEALD_EINVAL);
    close_pair();
    free(large);
}

static int64_t codes[3];

static void *receive_in_a_greenlet(void *unused)
{
    codes[0] = receive_long();
    return unused;
}

static void *send_in_a_greenlet(void *unused)
{
    codes[1] = send_long();
    return unused;
}

static void *flush_in_a_greenlet(void *unused)
{
    codes[2] = flush_long();
    return unused;
}

TEST(one_sends_and_one_receives_and_closing_wakes_both)
{
    make_large();
    make_pair(0);
    CHECK_EQ(weald_go(receive_in_a_greenlet, NULL), 0);
    CHECK_EQ(weald_go(send_in_a_greenlet, NULL), 0);
    ends[1] = ends[0];
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(failing_receive(ends[0], WEALD_FOREVER), WEALD_EBUSY);
    CHECK_EQ(send_text(ends[0], "me too"), WEALD_EBUSY);
    CHECK_EQ(weald_channel_flush(ends[0], WEALD_FOREVER), WEALD_EBUSY);
    CHECK_EQ(weald_close(ends[0]), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(codes[0], WEALD_EBADF);
    CHECK_EQ(codes[1], WEALD_EBADF);
    CHECK_EQ(failing_receive(ends[0], WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(send_text(ends[0], "x"), WEALD_EBADF);
    CHECK_EQ(weald_channel_flush(ends[0], WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_channel_unsent(ends[0]), WEALD_EBADF);
    CHECK_EQ(weald_channel_shut(ends[0]), WEALD_EBADF);
    CHECK_EQ(weald_channel_fd(ends[0], WEALD_READ), WEALD_EBADF);
    /* A send that waits, and one that goes on, are told that the other side has ended, or this one. */
    for (int i = 0; i < 2; i++) {
        make_pair(0);
        CHECK_EQ(weald_go(send_in_a_greenlet, NULL), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(i ? weald_channel_shut(ends[0]) : weald_close(ends[1]), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        CHECK_EQ(codes[1], WEALD_EPIPE);
        CHECK_EQ(weald_channel_flush(ends[0], WEALD_FOREVER), WEALD_EPIPE);
        CHECK_EQ(weald_close(ends[0]), 0);
    }
    make_pair(0);
    CHECK_EQ(weald_channel_send(ends[0], large, LARGE, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_go(flush_in_a_greenlet, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(ends[0]), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(codes[2], WEALD_EBADF);
    free(large);
}

static void of_another_thread(void)
{
    CHECK_EQ(send_text(ends[0], "x"), WEALD_EPERM);
    CHECK_EQ(failing_receive(ends[0], WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_channel_flush(ends[0], WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_channel_unsent(ends[0]), WEALD_EPERM);
    CHECK_EQ(weald_channel_shut(ends[0]), WEALD_EPERM);
    CHECK_EQ(weald_channel_fd(ends[0], WEALD_READ), WEALD_EPERM);
}

TEST(a_channel_is_for_its_own_thread)
{
    make_pair(0);
    in_another_thread(of_another_thread);
    close_pair();
}

/* ---- between processes ---- */

/* Sends back what it gets, in capitals. */
static int shout(weald_channel c, void *count)
{
    void *data;
    size_t len;
    int code;

    while ((code = weald_channel_receive(c, &data, &len, WEALD_FOREVER)) == 0) {
        for (size_t i = 0; i < len; i++)
            ((char *)data)[i] = (char)(((char *)data)[i] & ~0x20);
        CHECK_EQ(weald_channel_send(c, data, len, WEALD_FOREVER), 0);
        weald_free(data);
        ++*(int *)count;
    }
    CHECK_EQ(code, WEALD_EPIPE);
    return *(int *)count;
}

TEST(a_forked_child_answers_and_is_joined)
{
    int count = 0;
    weald_channel c;
    weald_process p;

    CHECK_GT(p = weald_process_fork(shout, &count, &c, 0), 0);
    CHECK_NE(weald_process_pid(p), getpid());
    CHECK_EQ(send_text(c, "quiet"), 0);
    expect_text(c, "QUIET");
    CHECK_EQ(send_text(c, "please"), 0);
    expect_text(c, "PLEASE");
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(exit_of(p), 2);
    CHECK_EQ(count, 0); /* the child's is a copy */
}

static void *talk_to_a_child(void *unused)
{
    int count = 0;
    weald_channel c;
    weald_process p = weald_process_fork(shout, &count, &c, 0);

    CHECK_GT(p, 0);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(send_text(c, "quiet"), 0);
        expect_text(c, "QUIET");
    }
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(exit_of(p), 50);
    return unused;
}

TEST(greenlets_fork_children_that_do_not_hold_each_other_s_channels)
{
    weald_greenlet gs[5];
    int fds = (weald_self(), test_fds());

    for (int i = 0; i < 5; i++)
        CHECK_GT(gs[i] = weald_spawn(talk_to_a_child, NULL), 0);
    CHECK_EQ(weald_joinall(gs, 5, 0, 0, WEALD_FOREVER), 5);
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(waitpid(-1, NULL, 0), -1);
}

static void *tick(void *ticks)
{
    while (weald_sleep(WEALD_MS(1)) == 0)
        ++*(int *)ticks;
    return NULL;
}

/* Both sides go on with other greenlets while they wait. */
static int cooperate(weald_channel c, void *unused)
{
    int ticks = 0;
    weald_greenlet g = weald_spawn(tick, &ticks);

    (void)unused;
    CHECK_GT(g, 0);
    expect_text(c, "from the parent");
    CHECK_GT(ticks, 5);
    CHECK_EQ(weald_sleep(WEALD_MS(30)), 0);
    CHECK_EQ(send_text(c, "from the child"), 0);
    printf("written by the child");
    return 0;
}

TEST(both_sides_are_cooperative)
{
    int ticks = 0, out[2];
    char text[64] = "";
    weald_greenlet g = weald_spawn(tick, &ticks);
    weald_channel c;
    weald_process p;

    CHECK_EQ(pipe(out), 0);
    CHECK_EQ(dup2(out[1], STDOUT_FILENO), STDOUT_FILENO);
    printf("written by the parent, ");
    CHECK_GT(p = weald_process_fork(cooperate, NULL, &c, 0), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(30)), 0);
    CHECK_EQ(send_text(c, "from the parent"), 0);
    expect_text(c, "from the child");
    CHECK_GT(ticks, 10);
    CHECK_EQ(exit_of(p), 0);
    CHECK_EQ(read(out[0], text, sizeof text), 43); /* each once */
    CHECK_STR(text, "written by the parent, written by the child");
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(c), 0);
}

static int die(weald_channel c, void *unused)
{
    (void)unused;
    CHECK_EQ(weald_channel_send(c, large, LARGE, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    kill(getpid(), SIGKILL);
    return 0;
}

TEST(a_child_that_dies_in_the_middle_of_a_message_is_told)
{
    weald_channel c;
    weald_process p;

    make_large();
    CHECK_GT(p = weald_process_fork(die, NULL, &c, 0), 0);
    CHECK_EQ(exit_of(p), 137);
    CHECK_EQ(failing_receive(c, WEALD_FOREVER), WEALD_EPROTO);
    CHECK_EQ(weald_close(c), 0);
    free(large);
}

static int wait_for_main(weald_channel c, void *pipes)
{
    weald_process cat = *(weald_process *)pipes;

    CHECK_EQ(weald_process_fd(cat, 0), WEALD_ENOENT); /* its pipes are not here */
    CHECK_EQ(weald_process_wait(cat, NULL, WEALD_FOREVER), WEALD_ECHILD);
    CHECK_EQ(failing_receive(c, WEALD_FOREVER), WEALD_EPIPE);
    return 0;
}

TEST(a_forked_child_does_not_hold_the_pipes_of_other_processes)
{
    const char *argv[] = {"cat", NULL};
    weald_process_options options = {.size = sizeof options, .in = WEALD_PIPE};
    weald_process cat = weald_process_spawn(argv, &options), p;
    weald_channel c;

    CHECK_GT(cat, 0);
    CHECK_GT(p = weald_process_fork(wait_for_main, &cat, &c, 0), 0);
    CHECK_EQ(weald_process_close_fd(cat, 0), 0);
    CHECK_EQ(exit_of(cat), 0);
    CHECK_EQ(weald_close(c), 0);
    CHECK_EQ(exit_of(p), 0);
}

static weald_channel forked = 77;
static int64_t fork_here(void) { return weald_process_fork(child_of_nobody, NULL, &forked, 0); }

static void *fork_after_a_kill(void *code)
{
    CHECK_EQ(weald_sleep(WEALD_SEC(30)), WEALD_ECANCELED);
    *(int64_t *)code = fork_here();
    return NULL;
}

TEST(where_no_child_can_be_forked)
{
    int64_t code = 0;
    weald_greenlet g = weald_spawn(fork_after_a_kill, &code);
    weald_timeout timeout;

    CHECK_EQ(weald_process_fork(NULL, NULL, &forked, 0), WEALD_EINVAL);
    CHECK_EQ(weald_process_fork(child_of_nobody, NULL, NULL, 0), WEALD_EINVAL);
    CHECK_EQ(weald_process_fork(child_of_nobody, NULL, &forked, (size_t)1 << 32), WEALD_EINVAL);
    CHECK_EQ(in_a_callback(fork_here), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(fork_here), WEALD_EPERM);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(code, WEALD_ECANCELED);
    timeout = weald_timeout_start(WEALD_MS(1));
    usleep(2000);
    CHECK_EQ(fork_here(), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_close(timeout), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(forked, 77);
    CHECK_EQ(waitpid(-1, NULL, 0), -1);
}

static void one_too_many(void)
{
    struct rlimit one = {1, 1};

    CHECK_GT(weald_self(), 0);
    CHECK_EQ(setrlimit(RLIMIT_NPROC, &one), 0);
    if (geteuid() == 0)
        CHECK_EQ(setuid(65534), 0);
    CHECK_EQ(fork_here(), WEALD_EAGAIN);
    CHECK_EQ(forked, 77);
}

TEST(a_user_with_too_many_processes_forks_no_more)
{
    char text[4096];

    CHECK_EQ(test_in_child(one_too_many, text, sizeof text), 0);
}

TEST(a_plain_fork_shares_a_pair)
{
    pid_t pid;
    int status;

    make_pair(0);
    CHECK_EQ(weald_go(receive_in_a_greenlet, NULL), 0); /* the parent's alone */
    CHECK_EQ(weald_yield(), 0);
    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(weald_close(ends[0]), 0);
        CHECK_EQ(send_text(ends[1], "hello"), 0);
        expect_text(ends[1], "you too");
        CHECK_EQ(failing_receive(ends[1], WEALD_FOREVER), WEALD_EPIPE);
        _exit(42);
    }
    CHECK_EQ(weald_close(ends[1]), 0);
    expect_text(ends[0], "hello");
    CHECK_EQ(send_text(ends[0], "you too"), 0);
    CHECK_EQ(weald_close(ends[0]), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 42 << 8);
    CHECK_EQ(weald_yield(), 0); /* nobody may have had to wait until now */
    CHECK_EQ(codes[0], WEALD_EBADF);
}

/* ---- storms ---- */

enum { MESSAGES = 20000 };
static int storm_size(int i) { return i % 50 == 0 ? 100000 : i % 700; }

static void *send_storm(void *end)
{
    unsigned char *data = malloc(100000);
    int n = (int)test_rounds(MESSAGES);

    for (int i = 0; i < n; i++) {
        int64_t deadline = i % 3 ? WEALD_FOREVER : weald_after(WEALD_US(i % 50)), code;

        memset(data, i & 255, (size_t)storm_size(i));
        code = weald_channel_send(*(weald_channel *)end, data, (size_t)storm_size(i), deadline);
        while (code < 0) {
            CHECK_EQ(code, WEALD_ETIMEDOUT);
            deadline = weald_after(WEALD_MS(i % 4));
            code = weald_channel_unsent(*(weald_channel *)end) > 0
                       ? weald_channel_flush(*(weald_channel *)end, deadline)
                       : weald_channel_send(*(weald_channel *)end, data, (size_t)storm_size(i), deadline);
        }
    }
    free(data);
    return NULL;
}

static void *receive_storm(void *end)
{
    int n = (int)test_rounds(MESSAGES);

    for (int i = 0; i < n;) {
        void *data;
        size_t len;
        int code = weald_channel_receive(*(weald_channel *)end, &data, &len, weald_after(WEALD_US(i % 70)));

        if (code == WEALD_ETIMEDOUT)
            continue;
        CHECK_EQ(code, 0);
        CHECK_EQ(len, storm_size(i));
        for (size_t j = 0; j < len; j += 97)
            CHECK_EQ(((unsigned char *)data)[j], i & 255);
        weald_free(data);
        i++;
    }
    return NULL;
}

static int storm_in_a_child(weald_channel c, void *unused)
{
    weald_greenlet gs[2] = {weald_spawn(send_storm, &c), weald_spawn(receive_storm, &c)};

    (void)unused;
    CHECK_EQ(weald_joinall(gs, 2, 0, 0, WEALD_FOREVER), 2);
    return 0;
}

TEST_WITH_LIMIT(a_storm_of_messages_and_deadlines_stays_in_step, 60)
{
    weald_channel c;
    weald_process p = weald_process_fork(storm_in_a_child, NULL, &c, 0);

    CHECK_GT(p, 0);
    storm_in_a_child(c, NULL);
    CHECK_EQ(exit_of(p), 0);
    CHECK_EQ(weald_close(c), 0);
}
