/* Servers: a greenlet for each connection, no more than there is room for, nothing lost when descriptors run out, and an
 * end in order. */
#include "errors.h"
#include "net.h"
#include "starve.h"
#include <stdatomic.h>

static weald_server server;
static int port;

/* ---- handlers ---- */

static int running, ended, last_fd;

static int echo(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char text[64];
    int got;

    (void)peer, (void)peer_len, (void)user;
    running++;
    last_fd = fd;
    while ((got = net_read(fd, text, sizeof text)) > 0)
        if (send(fd, text, (size_t)got, MSG_NOSIGNAL) < 0)
            break;
    running--;
    ended++;
    return 0;
}

/* Does not mind being killed before it has waited a little. */
static int stubborn(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    (void)peer, (void)peer_len, (void)user;
    running++;
    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(50)), 0);
    net_write(fd, "bye");
    CHECK_EQ(weald_shield(0), 0);
    running--;
    ended++;
    return 0;
}

static int take_note(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    (void)fd;
    CHECK_EQ(peer_len, sizeof(struct sockaddr_in));
    *(struct sockaddr_in *)user = *(const struct sockaddr_in *)(const void *)peer;
    return 0;
}

static weald_server serve(weald_stream_handler_fn handler, const weald_server_options *options)
{
    CHECK_GT(server = weald_server_new("127.0.0.1:0", handler, NULL, options), 0);
    CHECK_EQ(weald_server_start(server), 0);
    CHECK_GT(port = weald_server_port(server), 0);
    return server;
}

/* Until everybody has had a few turns. */
static void settle(void) { CHECK_EQ(weald_sleep(WEALD_MS(20)), 0); }

static void wait_for_count(int n)
{
    while (weald_server_count(server) != n)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
}

/* What the other end has sent, up to its end. */
static void check_hung_up(int fd)
{
    CHECK_EQ(net_read(fd, &(char){0}, 1), 0);
    close(fd);
}

/* ---- connections ---- */

TEST(each_connection_has_a_handler)
{
    int fds[10];

    serve(echo, NULL);
    for (int i = 0; i < 10; i++)
        fds[i] = net_plain(port);
    for (int i = 9; i >= 0; i--)
        net_echoed(fds[i], "hello");
    CHECK_EQ(weald_server_count(server), 10);
    CHECK_EQ(weald_server_accepted(server), 10);
    CHECK_EQ(running, 10);
    for (int i = 0; i < 10; i++)
        close(fds[i]);
    wait_for_count(0);
    CHECK_EQ(ended, 10);
    CHECK_EQ(weald_server_accepted(server), 10);
    CHECK_EQ(weald_server_stop(server, WEALD_NOW), 0);
    CHECK_EQ(weald_close(server), 0);
}

TEST(a_handler_is_told_who_it_is)
{
    struct sockaddr_in peer = {.sin_port = 0}, own;
    socklen_t len = sizeof own;
    int fd;

    CHECK_GT(server = weald_server_new("127.0.0.1:0", take_note, &peer, NULL), 0);
    CHECK_EQ(weald_server_start(server), 0);
    fd = net_plain(weald_server_port(server));
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    check_hung_up(fd);
    CHECK_EQ(memcmp(&peer, &own, sizeof own), 0);
}

static int check_flags(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    (void)peer, (void)peer_len, (void)user;
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    return 0;
}

TEST(a_connection_is_closed_when_its_handler_returns)
{
    int fds;

    serve(check_flags, NULL);
    fds = test_fds();
    for (int i = 0; i < 20; i++)
        check_hung_up(net_plain(port));
    wait_for_count(0);
    CHECK_EQ(test_fds(), fds);
}

static int keep(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    (void)peer, (void)peer_len, (void)user;
    last_fd = fd;
    return WEALD_KEEP;
}

TEST(a_connection_that_the_handler_keeps_stays_open)
{
    int fd;

    serve(keep, NULL);
    fd = net_plain(port);
    while (last_fd == 0)
        settle();
    wait_for_count(0);
    net_write(last_fd, "still there");
    CHECK_EQ(net_read(fd, &(char[16]){0}, 16), 11);
    close(last_fd);
    check_hung_up(fd);
}

static int failures, failure;
static void note_failure(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)message, (void)user;
    failures++;
    failure = code;
}

static int fails(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    (void)fd, (void)peer, (void)peer_len, (void)user;
    weald_fail(-EPROTO, "no such thing");
    return 0;
}

TEST(a_handler_that_fails_fails_alone)
{
    CHECK_EQ(weald_set_error_handler(note_failure, NULL), 0);
    serve(fails, NULL);
    for (int i = 1; i <= 3; i++) {
        check_hung_up(net_plain(port));
        CHECK_EQ(failures, i);
        CHECK_EQ(failure, -EPROTO);
    }
}

TEST(a_connection_that_was_reset_before_it_was_accepted_does_no_harm)
{
    struct linger at_once = {1, 0};
    int fd;

    serve(echo, NULL);
    for (int i = 0; i < 5; i++) {
        fd = net_plain(port);
        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
        close(fd);
    }
    fd = net_plain(port);
    net_echoed(fd, "here");
    wait_for_count(1);
    close(fd);
}

static weald_greenlet of_handler;
static int tell_greenlet(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    of_handler = weald_self();
    return echo(fd, peer, peer_len, user);
}

TEST(a_connection_that_is_killed_is_closed)
{
    int fd;

    serve(tell_greenlet, NULL);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(of_handler, 0, WEALD_FOREVER), 0);
    check_hung_up(fd);
    wait_for_count(0);
}

/* ---- no more than there is room for ---- */

static void check_only_two_are_served(void)
{
    int fds[5], fd;

    for (int i = 0; i < 5; i++)
        fds[i] = net_plain(port);
    wait_for_count(2);
    settle();
    CHECK_EQ(weald_server_count(server), 2);
    CHECK_EQ(weald_server_accepted(server), 2);
    for (int i = 0; i < 5; i++) {
        net_echoed(fds[i], "in order");
        CHECK_LE(weald_server_count(server), 2);
        close(fds[i]);
    }
    fd = net_plain(port);
    net_echoed(fd, "and again");
    close(fd);
    wait_for_count(0);
}

TEST(a_server_that_is_full_does_not_accept)
{
    serve(echo, &(weald_server_options){.size = sizeof(weald_server_options), .max_connections = 2});
    check_only_two_are_served();
}

static void *sit(void *event)
{
    CHECK_EQ(weald_event_wait((weald_event)(intptr_t)event, WEALD_FOREVER), 0);
    return NULL;
}

TEST(a_full_pool_holds_the_server_back)
{
    weald_group pool = weald_pool_new(3);
    weald_event gate = weald_event_new(0);
    int fd;

    CHECK_GT(weald_group_spawn(pool, sit, (void *)(intptr_t)gate), 0); /* somebody else's */
    serve(echo, &(weald_server_options){.size = sizeof(weald_server_options), .pool = pool});
    check_only_two_are_served();
    CHECK_EQ(weald_event_set(gate), 0);
    settle();
    /* All the room is somebody else's. */
    CHECK_EQ(weald_event_clear(gate), 0);
    for (int i = 0; i < 3; i++)
        CHECK_GT(weald_group_spawn(pool, sit, (void *)(intptr_t)gate), 0);
    fd = net_plain(port);
    settle();
    CHECK_EQ(weald_server_count(server), 0);
    CHECK_EQ(weald_event_set(gate), 0);
    net_echoed(fd, "at last");
    close(fd);
    wait_for_count(0);
    CHECK_EQ(weald_close(pool), 0);
    /* It is needed still. */
    fd = net_plain(port);
    CHECK_EQ(weald_set_error_handler(note_failure, NULL), 0);
    CHECK_EQ(weald_server_serve(server, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(failure, WEALD_EBADF);
}

static void *watch_acceptance(void *most)
{
    int64_t before = 0, now;

    while ((now = weald_server_accepted(server)) < 30) {
        if (now - before > *(int64_t *)most)
            *(int64_t *)most = now - before;
        before = now;
        CHECK_EQ(weald_yield(), 0);
    }
    return NULL;
}

TEST(no_more_are_accepted_in_a_row_than_were_asked_for)
{
    weald_server_options few = {.size = sizeof few, .max_accept = 3};
    int64_t most = 0;
    int fds[30];

    serve(echo, &few);
    for (int i = 0; i < 30; i++)
        fds[i] = net_plain(port);
    CHECK_EQ(weald_go(watch_acceptance, &most), 0);
    while (weald_server_accepted(server) < 30)
        CHECK_EQ(weald_yield(), 0);
    CHECK_LE(most, 3);
    CHECK_GE(most, 1);
    for (int i = 0; i < 30; i++)
        close(fds[i]);
}

/* ---- beginning and ending ---- */

static int64_t serve_it(void) { return weald_server_serve(server, WEALD_FOREVER); }
static int64_t stop_it(void) { return weald_server_stop(server, WEALD_FOREVER); }

static void *shut_later(void *unused)
{
    settle();
    CHECK_EQ(weald_server_shut(server), 0);
    return unused;
}

TEST(serving_ends_when_the_server_is_shut_and_its_connections_have_ended)
{
    int fd;

    CHECK_GT(server = weald_server_new("127.0.0.1:0", echo, NULL, NULL), 0);
    fd = net_plain(port = weald_server_port(server)); /* it listens already */
    CHECK_EQ(weald_server_serve(server, WEALD_NOW), WEALD_EAGAIN); /* and now it serves */
    CHECK_EQ(weald_go(shut_later, NULL), 0);
    CHECK_EQ(weald_server_serve(server, weald_after(WEALD_MS(60))), WEALD_ETIMEDOUT);
    net_echoed(fd, "served to the end");
    CHECK_EQ(weald_server_count(server), 1);
    close(fd);
    CHECK_EQ(weald_server_serve(server, WEALD_FOREVER), 0);
    CHECK_EQ(weald_server_serve(server, WEALD_NOW), 0);
    CHECK_EQ(weald_server_start(server), WEALD_EPIPE);
    CHECK_EQ(weald_server_fd(server), WEALD_EPIPE);
    CHECK_EQ(weald_server_port(server), WEALD_EPIPE);
    CHECK_EQ(weald_server_accepted(server), 1);
    CHECK_EQ(weald_server_shut(server), 0);
    CHECK_EQ(weald_close(server), 0);
}

TEST(the_address_is_free_when_the_server_is_shut)
{
    int fd, fds;

    CHECK_GT(weald_self(), 0);
    fds = test_fds();
    serve(echo, NULL);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(weald_server_new(net_at("127.0.0.1", port), echo, NULL, NULL), WEALD_EADDRINUSE);
    CHECK_EQ(weald_server_shut(server), 0);
    CHECK_EQ(weald_tcp_connect(net_at("127.0.0.1", port), WEALD_FOREVER), WEALD_ECONNREFUSED);
    net_echoed(fd, "this one is served");
    close(fd);
    wait_for_count(0);
    CHECK_EQ(test_fds(), fds);
    CHECK_GT(weald_server_new(net_at("127.0.0.1", port), echo, NULL, NULL), 0);
}

static void *say_bye(void *fd)
{
    settle();
    close(*(int *)fd);
    return NULL;
}

TEST(stopping_waits_for_those_who_end_in_time)
{
    int fd;

    serve(echo, NULL);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(weald_go(say_bye, &fd), 0);
    CHECK_EQ(weald_server_stop(server, weald_after(WEALD_SEC(10))), 0);
    CHECK_EQ(ended, 1);
    CHECK_EQ(weald_server_stop(server, WEALD_FOREVER), 0); /* twice */
}

TEST(stopping_kills_those_who_do_not_end_in_time_and_waits_for_their_cleaning_up)
{
    weald_server other = serve(echo, NULL);
    int fds[3] = {net_plain(port), net_plain(port), 0};
    char text[4] = "";

    serve(stubborn, NULL);
    fds[2] = net_plain(port);
    while (running < 3)
        settle();
    CHECK_EQ(weald_server_stop(server, weald_after(WEALD_MS(1))), 1);
    CHECK_EQ(ended, 1);
    CHECK_EQ(net_read(fds[2], text, 3), 3);
    CHECK_STR(text, "bye");
    check_hung_up(fds[2]);
    CHECK_EQ(weald_server_count(other), 2); /* not its business */
    CHECK_EQ(weald_server_stop(other, weald_after(WEALD_MS(10))), 2);
    check_hung_up(fds[0]);
    check_hung_up(fds[1]);
    CHECK_EQ(running, 0);
}

static int64_t stop_now(void) { return weald_server_stop(server, WEALD_NOW); }

TEST(a_callback_can_stop_a_server_without_waiting)
{
    int fd;

    serve(echo, NULL);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(in_a_callback(stop_now), 1);
    CHECK_EQ(weald_server_serve(server, WEALD_FOREVER), 0);
    check_hung_up(fd);
}

TEST(a_connection_that_was_accepted_and_not_begun_is_closed)
{
    int fds[20];

    serve(echo, NULL);
    for (int i = 0; i < 20; i++)
        fds[i] = net_plain(port);
    while (weald_server_accepted(server) == 0)
        CHECK_EQ(weald_run_once(WEALD_RUN_NOWAIT) < 0, 0);
    CHECK_EQ(weald_server_stop(server, WEALD_NOW), weald_server_accepted(server) - ended);
    CHECK_EQ(weald_server_serve(server, WEALD_FOREVER), 0);
    for (int i = 0; i < 20; i++) {
        int got = net_read(fds[i], &(char){0}, 1);
        CHECK(got == 0 || got == -ECONNRESET);
    }
}

static int64_t own_code[2];
static int stop_own(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    (void)fd, (void)peer, (void)peer_len, (void)user;
    own_code[0] = weald_server_stop(server, WEALD_FOREVER);
    own_code[1] = weald_server_serve(server, WEALD_FOREVER);
    CHECK_EQ(weald_server_port(server), port); /* nothing has happened */
    CHECK_EQ(weald_server_shut(server), 0);
    return 0;
}

TEST(a_handler_can_shut_its_server_and_not_wait_for_it)
{
    serve(stop_own, NULL);
    check_hung_up(net_plain(port));
    CHECK_EQ(weald_server_serve(server, WEALD_FOREVER), 0);
    CHECK_EQ(own_code[0], WEALD_EDEADLK);
    CHECK_EQ(own_code[1], WEALD_EDEADLK);
}

static void *close_later(void *unused)
{
    settle();
    CHECK_EQ(weald_close(server), 0);
    return unused;
}

TEST(closing_a_server_ends_the_waits_for_it_and_not_its_connections)
{
    int fd;

    serve(echo, NULL);
    fd = net_plain(port);
    CHECK_EQ(weald_go(close_later, NULL), 0);
    CHECK_EQ(weald_server_serve(server, WEALD_FOREVER), WEALD_EBADF);
    net_echoed(fd, "goes on");
    serve(echo, NULL);
    close(fd);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(weald_go(close_later, NULL), 0);
    CHECK_EQ(weald_server_stop(server, WEALD_FOREVER), WEALD_EBADF);
    net_echoed(fd, "goes on");
    close(fd);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0); /* a closed server does not hold the loop */
}

TEST(the_end_of_the_hub_is_that_of_its_servers)
{
    int fds, fd;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}), 0);
    fds = test_fds();
    serve(echo, NULL);
    CHECK_GT(weald_server_new("unix:@weald-test-never-begun", echo, NULL, NULL), 0);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(recv(fd, &(char){0}, 1, 0), 0);
    close(fd);
    CHECK_LE(test_fds(), fds);
}

static int never(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    (void)fd, (void)peer, (void)peer_len, (void)user;
    CHECK_EQ(weald_shield(1), 0);
    CHECK_EQ(weald_sleep(WEALD_SEC(1000)), 0);
    return 0;
}

TEST(the_connection_of_an_abandoned_greenlet_is_closed)
{
    int fd;

    LEAKS("a greenlet is abandoned, and what is on its stack");
    serve(never, NULL);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(weald_yield(), 0); /* it has raised its shield */
    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    CHECK_EQ(weald_hub_shutdown(), 1);
    CHECK_EQ(recv(fd, &(char){0}, 1, 0), 0);
}

/* ---- a socket that is there already ---- */

TEST(a_ready_socket_is_served_and_stays_open)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd; /* blocking */
    struct sockaddr_in address = net_address("127.0.0.1", 0);

    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(weald_server_from_fd(listener, echo, NULL, NULL), WEALD_EINVAL); /* it does not listen */
    CHECK_EQ(listen(listener, 8), 0);
    CHECK_GT(server = weald_server_from_fd(listener, echo, NULL, NULL), 0);
    CHECK_EQ(weald_server_fd(server), listener);
    CHECK_EQ(weald_server_start(server), 0);
    CHECK_EQ(weald_server_start(server), WEALD_EALREADY);
    fd = net_plain(weald_server_port(server));
    net_echoed(fd, "ready");
    close(fd);
    CHECK_EQ(weald_server_stop(server, weald_after(WEALD_SEC(1))), 0);
    CHECK_EQ(weald_close(server), 0);
    fd = net_plain(net_port(listener));
    CHECK_GT(server = weald_server_from_fd(listener, echo, NULL, NULL), 0);
    CHECK_EQ(weald_server_start(server), 0);
    net_echoed(fd, "who came in between");
    close(fd);
}

TEST(a_listener_that_fails_for_good_ends_the_serving)
{
    int listener;

    CHECK_EQ(weald_set_error_handler(note_failure, NULL), 0);
    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    CHECK_GT(server = weald_server_from_fd(listener, echo, NULL, NULL), 0);
    CHECK_EQ(weald_server_start(server), 0);
    settle();
    CHECK_EQ(shutdown(listener, SHUT_RDWR), 0);
    CHECK_EQ(weald_server_serve(server, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(failures, 1);
    CHECK_EQ(failure, WEALD_EINVAL);
    CHECK_EQ(weald_close(server), 0);
    close(listener);
    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    CHECK_GT(server = weald_server_from_fd(listener, echo, NULL, NULL), 0);
    close(listener);
    CHECK_EQ(weald_server_start(server), WEALD_EBADF);
    CHECK_EQ(weald_server_port(server), WEALD_EBADF);
}

/* ---- when descriptors run out ---- */

TEST(without_descriptors_a_server_pauses_and_goes_on)
{
    uint64_t turns;
    int64_t before;
    int fds[4];

    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind gives out descriptors that there are not");
    CHECK_EQ(weald_set_error_handler(note_failure, NULL), 0);
    serve(echo, NULL);
    for (int i = 0; i < 4; i++)
        fds[i] = net_plain(port);
    net_no_more_fds();
    turns = test_stats().turns;
    CHECK_EQ(weald_sleep(WEALD_MS(300)), 0);
    CHECK_LT(test_stats().turns - turns, 40); /* 10, 20, 40, 80, 160 ms; no spin */
    CHECK_EQ(failures, 1);
    CHECK_EQ(failure, WEALD_EMFILE);
    CHECK_EQ(weald_server_accepted(server), 0);
    net_fds_again();
    before = weald_now();
    for (int i = 0; i < 4; i++) {
        net_echoed(fds[i], "nobody was sent away");
        close(fds[i]);
    }
    CHECK_LT(weald_now() - before, test_slack(WEALD_SEC(1)));
    wait_for_count(0);
    CHECK_EQ(failures, 1);
}

TEST(a_connection_that_ends_makes_room_for_the_next_at_once)
{
    int first, second, third, before;

    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind gives out descriptors that there are not");
    CHECK_EQ(weald_set_error_handler(note_failure, NULL), 0);
    serve(echo, NULL);
    first = net_plain(port);
    net_echoed(first, "one");
    second = net_plain(port);
    third = net_plain(port);
    net_no_more_fds();
    CHECK_EQ(weald_sleep(WEALD_MS(700)), 0); /* it pauses for 640 ms by now */
    CHECK_EQ(weald_server_count(server), 1);
    CHECK_EQ(shutdown(first, SHUT_WR), 0);
    before = failures;
    net_echoed(second, "two");
    CHECK_EQ(weald_server_count(server), 1);
    CHECK_EQ(failures, before);
    net_fds_again();
    net_echoed(third, "three");
    close(first);
    close(second);
    close(third);
}

TEST(when_it_takes_long_those_who_wait_are_hung_up_on)
{
    int64_t before;
    int fds[3];

    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind gives out descriptors that there are not");
    CHECK_EQ(weald_set_error_handler(note_failure, NULL), 0);
    serve(echo, NULL);
    for (int i = 0; i < 3; i++)
        fds[i] = net_plain(port);
    net_no_more_fds();
    before = weald_now();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(net_read(fds[i], &(char){0}, 1), 0);
    CHECK_GE(weald_now() - before, WEALD_SEC(1));
    CHECK_LT(weald_now() - before, test_slack(WEALD_SEC(10)));
    net_fds_again();
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    fds[0] = net_plain(port);
    net_echoed(fds[0], "as before");
    close(fds[0]);
}

TEST(a_spare_descriptor_that_was_lost_comes_back)
{
    struct rlimit none;
    int client, before;

    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind gives out descriptors that there are not");
    CHECK_EQ(weald_set_error_handler(note_failure, NULL), 0);
    serve(echo, NULL);
    client = net_plain(port);
    before = test_fds();
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &net_limit_before), 0);
    none = net_limit_before;
    none.rlim_cur = 3; /* to give one up makes no room below that */
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(2500)), 0);
    net_fds_again();
    CHECK_EQ(test_fds(), before - 1);
    net_echoed(client, "after all");
    close(client);
    wait_for_count(0);
    CHECK_EQ(test_fds(), before - 1); /* less the client, and with the spare one */
    CHECK_EQ(weald_server_stop(server, WEALD_NOW), 0);
    CHECK_EQ(test_fds(), before - 3); /* it and the listener */
}

/* ---- Unix ---- */

TEST(a_socket_file_goes_with_its_server)
{
    const char *path = net_path("server");
    char text[100];
    int fd;

    snprintf(text, sizeof text, "unix:%s", path);
    for (int i = 0; i < 2; i++) {
        CHECK_GT(server = weald_server_new(text, echo, NULL, NULL), 0);
        CHECK_EQ(weald_server_start(server), 0);
        CHECK_EQ(weald_server_port(server), 0);
        CHECK_EQ(weald_server_new(text, echo, NULL, NULL), WEALD_EADDRINUSE);
        CHECK_GE(fd = weald_unix_connect(path, WEALD_FOREVER), 0);
        net_echoed(fd, "unix");
        close(fd);
        CHECK_EQ(weald_server_stop(server, weald_after(WEALD_SEC(1))), 0);
        CHECK_LT(access(path, F_OK), 0);
        CHECK_EQ(weald_close(server), 0);
    }
    /* A file that is another's by now stays. */
    CHECK_GT(server = weald_server_new(text, echo, NULL, NULL), 0);
    unlink(path);
    CHECK_GE(fd = weald_unix_listen(path, 0), 0);
    CHECK_EQ(weald_close(server), 0);
    CHECK_EQ(access(path, F_OK), 0);
    unlink(path);
}

TEST(a_child_that_closes_the_server_leaves_the_parent_its_file)
{
    const char *path = net_path("forked");
    char text[100];
    int fd, status;
    pid_t child;

    snprintf(text, sizeof text, "unix:%s", path);
    CHECK_GT(server = weald_server_new(text, echo, NULL, NULL), 0);
    CHECK_EQ(weald_server_start(server), 0);
    CHECK_GE(child = fork(), 0);
    if (child == 0) {
        CHECK_EQ(weald_server_start(server), 0); /* the acceptor is the parent's */
        CHECK_EQ(weald_close(server), 0);
        CHECK_EQ(access(path, F_OK), 0);
        CHECK_GE(weald_hub_shutdown(), 0);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_GE(fd = weald_unix_connect(path, WEALD_FOREVER), 0);
    net_echoed(fd, "still the parent's");
    close(fd);
    CHECK_EQ(weald_server_stop(server, weald_after(WEALD_SEC(1))), 0);
}

TEST(children_serve_beside_each_other)
{
    int status, fd;
    pid_t child;

    CHECK_GT(server = weald_server_new("127.0.0.1:0", echo, NULL, NULL), 0);
    port = weald_server_port(server);
    for (int i = 0; i < 2; i++) {
        CHECK_GE(child = fork(), 0);
        if (child == 0) {
            CHECK_EQ(weald_server_start(server), 0);
            while (ended == 0)
                CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
            _exit(0);
        }
        fd = net_plain(port);
        net_echoed(fd, "a child");
        close(fd);
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
}

/* ---- datagrams ---- */

static int datagrams;
static size_t last_len;

static void answer(int fd, const void *data, size_t len, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    CHECK_STR((const char *)user, "user");
    datagrams++;
    last_len = len;
    if (len == 4 && memcmp(data, "wait", 4) == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(50)), 0);
    CHECK_EQ(sendto(fd, data, len, MSG_DONTWAIT, peer, peer_len), len);
}

TEST(a_greenlet_for_each_datagram)
{
    static char large[60000];
    char text[8] = "";
    int fd;

    CHECK_GT(server = weald_datagram_server_new("127.0.0.1:0", answer, "user", NULL), 0);
    CHECK_EQ(weald_server_start(server), 0);
    CHECK_GE(fd = weald_udp_connect(net_at("127.0.0.1", weald_server_port(server)), WEALD_FOREVER), 0);
    net_write(fd, "wait");
    net_write(fd, "over"); /* overtakes the one that waits */
    CHECK_EQ(net_read(fd, text, sizeof text), 4);
    CHECK_STR(text, "over");
    CHECK_EQ(net_read(fd, text, sizeof text), 4);
    CHECK_STR(text, "wait");
    CHECK_EQ(send(fd, "", 0, 0), 0); /* nothing is a datagram too */
    CHECK_EQ(net_read(fd, text, sizeof text), 0);
    CHECK_EQ(last_len, 0);
    CHECK_EQ(send(fd, large, sizeof large, 0), sizeof large);
    CHECK_EQ(net_read(fd, large, sizeof large), sizeof large);
    CHECK_EQ(datagrams, 4);
    CHECK_EQ(weald_server_accepted(server), 4);
    CHECK_EQ(weald_server_stop(server, weald_after(WEALD_SEC(1))), 0);
}

TEST(a_server_for_the_datagrams_of_a_ready_socket)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX}, own = {.sun_family = AF_UNIX};
    const char *path = net_path("datagrams"), *client = net_path("client");
    weald_server_options one = {.size = sizeof one, .max_connections = 1};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0);
    char text[8] = "";

    strcpy(address.sun_path, path);
    strcpy(own.sun_path, client);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(bind(from, (struct sockaddr *)&own, sizeof own), 0);
    CHECK_EQ(connect(from, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_GT(server = weald_datagram_server_from_fd(fd, answer, "user", &one), 0);
    CHECK_EQ(weald_server_start(server), 0);
    net_write(from, "wait");
    net_write(from, "over");
    wait_for_count(1);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(datagrams, 1);
    CHECK_EQ(net_read(from, text, sizeof text), 4);
    CHECK_STR(text, "wait"); /* one at a time */
    CHECK_EQ(net_read(from, text, sizeof text), 4);
    CHECK_STR(text, "over");
    unlink(path);
    unlink(client);
}

/* ---- several hubs ---- */

enum { HUBS = 2, CONNECTIONS = 60 };

static weald_event over;
static weald_result ports;
static atomic_int served[HUBS], sum;
static int shared_fd = -1;

static void *stop_when_over(void *s)
{
    CHECK_EQ(weald_event_wait(over, WEALD_FOREVER), 0);
    CHECK_GE(weald_server_stop((weald_server)(intptr_t)s, weald_after(WEALD_SEC(5))), 0);
    return NULL;
}

static int count_and_echo(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char text[64];
    int got;

    (void)peer, (void)peer_len;
    atomic_fetch_add((atomic_int *)user, 1);
    atomic_fetch_add(&sum, 1);
    while ((got = net_read(fd, text, sizeof text)) > 0)
        CHECK_EQ(send(fd, text, (size_t)got, MSG_NOSIGNAL), got);
    return 0;
}

static void *serve_in_worker(void *count)
{
    weald_server_options shared = {.size = sizeof shared, .flags = WEALD_REUSEPORT};
    weald_server s = shared_fd >= 0
                         ? weald_server_from_fd(shared_fd, count_and_echo, count, NULL)
                         : weald_server_new(net_at("127.0.0.1", port), count_and_echo, count, &shared);

    CHECK_GT(s, 0);
    CHECK_EQ(weald_go(stop_when_over, (void *)(intptr_t)s), 0);
    CHECK_EQ(weald_server_start(s), 0);
    CHECK_EQ(weald_result_set(ports, NULL) < 0 ? 0 : 0, 0);
    CHECK_EQ(weald_server_serve(s, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(s), 0);
    return NULL;
}

static void check_hubs(void)
{
    weald_workers workers = weald_workers_start(HUBS);
    int fds[CONNECTIONS];

    CHECK_GT(over = weald_event_new(WEALD_SHARED), 0);
    CHECK_GT(ports = weald_result_new(WEALD_SHARED, NULL), 0);
    for (size_t i = 0; i < HUBS; i++)
        CHECK_EQ(weald_workers_spawn(workers, i, serve_in_worker, &served[i]), 0);
    CHECK_EQ(weald_result_wait(ports, WEALD_FOREVER), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(50)), 0); /* the others as well */
    for (int i = 0; i < CONNECTIONS; i++)
        CHECK_GE(fds[i] = weald_tcp_connect(net_at("127.0.0.1", port), WEALD_FOREVER), 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        net_echoed(fds[i], "some hub");
        close(fds[i]);
    }
    CHECK_EQ(weald_event_set(over), 0);
    CHECK_EQ(weald_workers_join(workers, WEALD_FOREVER), 0);
    CHECK_EQ(sum, CONNECTIONS);
    CHECK_EQ(weald_close(workers), 0);
}

TEST(several_hubs_serve_one_address)
{
    int reserved;

    CHECK_GE(reserved = weald_tcp_listen("127.0.0.1:0", 0, WEALD_REUSEPORT), 0);
    port = net_port(reserved);
    close(reserved);
    check_hubs();
    for (int i = 0; i < HUBS; i++)
        CHECK_GT(served[i], 0); /* the kernel shares out among them */
}

TEST(several_hubs_serve_one_socket)
{
    CHECK_GE(shared_fd = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    port = net_port(shared_fd);
    check_hubs();
}

/* ---- many ---- */

TEST_WITH_LIMIT(twenty_thousand_connections_come_and_go_and_memory_stays, 180)
{
    long rounds = test_rounds(20000), warm = rounds / 10 + 1, before = 0;
    struct linger at_once = {1, 0}; /* the ports are needed again */
    int fds = 0, mappings = 0;

    serve(echo, NULL);
    for (long i = 0; i < rounds; i++) {
        int fd = weald_tcp_connect(net_at("127.0.0.1", port), WEALD_FOREVER);
        CHECK_GE(fd, 0);
        if (i % 2)
            net_echoed(fd, "x");
        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
        close(fd);
        if (i == warm) {
            settle();
            before = test_rss(), fds = test_fds(), mappings = test_mappings();
        }
    }
    wait_for_count(0);
    settle();
    CHECK_EQ(test_fds(), fds);
    CHECK_LE(test_mappings(), mappings + 2);
    if (!*test_under())
        CHECK_LE(test_rss() - before, 512 << 10);
}

enum { IDLE = 10000, IDLE_BYTES = 4096 + 1500 }; /* a page of stack, and records */

static weald_event all_are_there;

static int wait_with_a_stream(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    weald_stream_options how = {.size = sizeof how, .flags = WEALD_STREAM_BORROWS};
    weald_stream s = weald_stream_new(fd, &how);
    const char *line;

    (void)peer, (void)peer_len, (void)user;
    CHECK_GT(s, 0);
    if (++running == IDLE)
        CHECK_EQ(weald_event_set(all_are_there), 0);
    while (weald_stream_line(s, &line, NULL, 100, WEALD_FOREVER) == 1) {
        CHECK_STR(line, "still there?");
        CHECK_EQ(weald_stream_write(s, "yes\n", 4, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
        ended++;
    }
    CHECK_EQ(weald_close(s), 0);
    running--;
    return 0;
}

/* Another process has the other ends: descriptors are counted for each. A byte from `told` lets it ask. */
static pid_t ten_thousand_clients(int told)
{
    pid_t pid = fork();
    static int fds[IDLE];
    char byte;

    CHECK_GE(pid, 0);
    if (pid > 0)
        return pid;
    for (int i = 0; i < IDLE; i++)
        fds[i] = net_plain(port);
    CHECK_EQ(read(told, &byte, 1), 1);
    for (int i = 0; i < IDLE; i++)
        CHECK_EQ(write(fds[i], "still there?\n", 13), 13);
    for (int i = 0; i < IDLE; i++) {
        CHECK_EQ(recv(fds[i], &(char[4]){0}, 4, MSG_WAITALL), 4);
        CHECK_EQ(close(fds[i]), 0);
    }
    test_leave(0);
}

TEST_WITH_LIMIT(ten_thousand_idle_connections_take_a_page_each_and_answer, 180)
{
    struct rlimit limit;
    int ends[2], listener, status;
    long before, each;
    pid_t clients;

    if (*test_under())
        SKIP("a checker has memory of its own for each");
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < IDLE + 100)
        SKIP("the hard limit of descriptors (ulimit -Hn) is below 10,100");
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(pipe(ends), 0);
    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 4096, 0), 0);
    port = net_port(listener);
    clients = ten_thousand_clients(ends[0]);
    CHECK_GT(all_are_there = weald_event_new(0), 0);
    CHECK_GT(server = weald_server_from_fd(listener, wait_with_a_stream, NULL, NULL), 0);
    before = test_rss();
    CHECK_EQ(weald_server_start(server), 0);
    CHECK_EQ(weald_event_wait(all_are_there, WEALD_FOREVER), 0);
    CHECK_EQ(weald_yield(), 0);
    each = (test_rss() - before) / IDLE;
    printf("%ld bytes each\n", each);
    CHECK_LE(each, IDLE_BYTES);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    while (ended < IDLE || running > 0)
        CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    CHECK_EQ(waitpid(clients, &status, 0), clients);
    CHECK_EQ(status, 0);
    CHECK_EQ(weald_server_count(server), 0);
}

/* ---- every code ---- */

TEST(servers_that_can_not_be_are_refused)
{
    weald_server_options wrong = {.size = 3}, flags = {.size = sizeof flags, .flags = 8},
                         pool = {.size = sizeof pool, .pool = 77}, stack = {.size = sizeof stack, .stack_size = 1};
    int ends[2], listener, datagram;

    CHECK_EQ(weald_server_new(NULL, echo, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("127.0.0.1:0", NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("127.0.0.1", echo, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("127.0.0.1:0", echo, NULL, &wrong), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("127.0.0.1:0", echo, NULL, &flags), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("unix:@weald-test", echo, NULL, &flags), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("unix:", echo, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("127.0.0.1:0", echo, NULL, &stack), WEALD_EINVAL);
    CHECK_EQ(weald_server_new("127.0.0.1:0", echo, NULL, &pool), WEALD_EBADF);
    CHECK_EQ(weald_datagram_server_new(NULL, answer, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_datagram_server_new("127.0.0.1:0", NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_datagram_server_new("unix:@weald-test", answer, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_datagram_server_new("127.0.0.1:0", answer, NULL, &pool), WEALD_EBADF);
    CHECK_GE(datagram = weald_udp_bind("127.0.0.1:0", 0), 0);
    CHECK_EQ(weald_datagram_server_new(net_at("127.0.0.1", net_port(datagram)), answer, NULL, NULL), WEALD_EADDRINUSE);
    CHECK_EQ(pipe(ends), 0);
    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    CHECK_EQ(weald_server_from_fd(ends[0], echo, NULL, NULL), WEALD_ENOTSOCK);
    CHECK_EQ(weald_server_from_fd(-1, echo, NULL, NULL), WEALD_EBADF);
    CHECK_EQ(weald_server_from_fd(listener, NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_server_from_fd(listener, echo, NULL, &pool), WEALD_EBADF);
    CHECK_EQ(weald_datagram_server_from_fd(ends[0], answer, NULL, NULL), WEALD_ENOTSOCK);
    CHECK_EQ(weald_datagram_server_from_fd(-1, answer, NULL, NULL), WEALD_EBADF);
    CHECK_EQ(weald_datagram_server_from_fd(listener, answer, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_datagram_server_from_fd(datagram, NULL, NULL, NULL), WEALD_EINVAL);
}

static void check_no_handle(weald_server s, int code)
{
    CHECK_EQ(weald_server_start(s), code);
    CHECK_EQ(weald_server_serve(s, WEALD_FOREVER), code);
    CHECK_EQ(weald_server_shut(s), code);
    CHECK_EQ(weald_server_stop(s, WEALD_FOREVER), code);
    CHECK_EQ(weald_server_count(s), code);
    CHECK_EQ(weald_server_accepted(s), code);
    CHECK_EQ(weald_server_fd(s), code);
    CHECK_EQ(weald_server_port(s), code);
}

static weald_group their_pool;
static int their_listener, their_datagram;

static void use_from_elsewhere(void)
{
    weald_server_options options = {.size = sizeof options, .pool = their_pool};

    check_no_handle(server, WEALD_EPERM);
    CHECK_EQ(weald_server_new("127.0.0.1:0", echo, NULL, &options), WEALD_EPERM);
    CHECK_EQ(weald_server_from_fd(their_listener, echo, NULL, &options), WEALD_EPERM);
    CHECK_EQ(weald_datagram_server_new("127.0.0.1:0", answer, NULL, &options), WEALD_EPERM);
    CHECK_EQ(weald_datagram_server_from_fd(their_datagram, answer, NULL, &options), WEALD_EPERM);
}

TEST(a_handle_that_is_none_or_another_thread_s)
{
    check_no_handle(0, WEALD_EBADF);
    check_no_handle(weald_pool_new(1), WEALD_EBADF);
    serve(echo, NULL);
    CHECK_EQ(weald_kind(server), WEALD_KIND_SERVER);
    CHECK_GT(their_pool = weald_pool_new(1), 0);
    CHECK_GE(their_listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    CHECK_GE(their_datagram = weald_udp_bind("127.0.0.1:0", 0), 0);
    in_another_thread(use_from_elsewhere);
    CHECK_EQ(weald_close(server), 0);
    check_no_handle(server, WEALD_EBADF);
}

TEST(waiting_for_a_server_ends_as_waits_end)
{
    int fd;

    serve(echo, NULL);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(when_killed(serve_it), WEALD_ECANCELED);
    CHECK_EQ(in_a_timeout(serve_it), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_callback(serve_it), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(serve_it), WEALD_EPERM);
    CHECK_EQ(weald_server_serve(server, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(in_a_callback(stop_it), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(stop_it), WEALD_EPERM);
    CHECK_EQ(weald_server_port(server), port); /* it was not shut by these */
    CHECK_EQ(when_killed(stop_it), WEALD_ECANCELED);
    CHECK_EQ(weald_server_port(server), WEALD_EPIPE); /* and by this it was */
    CHECK_EQ(in_a_timeout(stop_it), WEALD_ETIMEDOUT);
    net_echoed(fd, "and it is served still");
    close(fd);
    CHECK_EQ(stop_it(), 0);
}

TEST(serving_in_a_child_that_a_callback_forks_is_a_deadlock)
{
    serve(echo, NULL);
    CHECK_EQ(weald_go(shut_later, NULL), 0);
    CHECK_EQ(in_a_forked_child(serve_it), WEALD_EDEADLK);
}

TEST(stopping_in_a_child_that_a_callback_forks_is_a_deadlock)
{
    static int fd;

    serve(echo, NULL);
    fd = net_plain(port);
    wait_for_count(1);
    CHECK_EQ(weald_go(say_bye, &fd), 0);
    CHECK_EQ(in_a_forked_child(stop_it), WEALD_EDEADLK);
}

TEST(no_server_is_made_or_started_without_memory_or_descriptors)
{
    weald_server other;
    int listener, datagram, codes[8];

    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    CHECK_GE(datagram = weald_udp_bind("127.0.0.1:0", 0), 0);
    CHECK_GT(server = weald_server_new("127.0.0.1:0", echo, NULL, NULL), 0);
    net_no_more_fds();
    CHECK_EQ(weald_server_new("127.0.0.1:0", echo, NULL, NULL), WEALD_EMFILE);
    CHECK_EQ(weald_datagram_server_new("127.0.0.1:0", answer, NULL, NULL), WEALD_EMFILE);
    net_fds_again();
    serve(echo, NULL);
    net_plain(port);
    wait_for_count(1);
    CHECK_GT(other = weald_server_new("127.0.0.1:0", echo, NULL, NULL), 0);
    starve();
    codes[0] = (int)weald_server_new("127.0.0.1:0", echo, NULL, NULL);
    codes[1] = (int)weald_server_from_fd(listener, echo, NULL, NULL);
    codes[2] = (int)weald_datagram_server_new("127.0.0.1:0", answer, NULL, NULL);
    codes[3] = (int)weald_datagram_server_from_fd(datagram, answer, NULL, NULL);
    codes[4] = weald_server_start(other);
    codes[5] = weald_server_serve(server, soon());
    codes[6] = (int)weald_server_stop(server, soon());
    feed();
    for (int i = 0; i < 7; i++)
        CHECK_EQ(codes[i], WEALD_ENOMEM);
    CHECK_EQ(weald_server_start(other), 0);
}
