/* Connections and listeners by address: the fastest address wins, nothing is left of the others, and a socket file that
 * nobody listens at is in nobody's way. */
#include "errors.h"
#include "net.h"
#include "starve.h"

/* ---- a resolver, whose names stand for lists of addresses ---- */

static const char *answer;   /* "127.0.0.2 127.0.0.1" */
static int answers_after_ms; /* the time that it takes */

static int get(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    struct addrinfo **end = list;
    char text[128], *rest = text, *one;
    int code;

    if (strncmp(host, "oak", 3) != 0)
        return strcmp(host, "memory") == 0 ? EAI_MEMORY : EAI_NONAME;
    usleep((useconds_t)answers_after_ms * 1000);
    snprintf(text, sizeof text, "%s", answer);
    while ((one = strtok_r(rest, " ", &rest))) {
        if ((code = getaddrinfo(one, service, hints, end)) != 0)
            return code;
        end = &(*end)->ai_next;
    }
    return 0;
}

static void is_at(const char *addresses)
{
    weald_resolver ours = {.size = sizeof ours, .getaddrinfo = get, .freeaddrinfo = freeaddrinfo};

    answer = addresses;
    CHECK_EQ(weald_set_resolver(&ours), 0);
}

/* ---- connecting ---- */

static int listener, port;

static void listen_at(const char *host)
{
    CHECK_GE(listener = weald_tcp_listen(net_at(host, 0), 0, 0), 0);
    port = net_port(listener);
}

static void is_to(int fd, const char *host)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    char text[64];

    CHECK_GE(fd, 0);
    CHECK_EQ(getpeername(fd, (struct sockaddr *)&peer, &len), 0);
    CHECK(inet_ntop(AF_INET, &peer.sin_addr, text, sizeof text));
    CHECK_STR(text, host);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(close(fd), 0);
}

TEST(a_connection_by_numbers_needs_no_thread_and_no_wait)
{
    struct sockaddr_in6 peer;
    socklen_t len = sizeof peer;
    int fd, before;

    listen_at("127.0.0.1");
    CHECK_GT(weald_self(), 0);
    before = test_lines("/proc/self/status");
    is_to(weald_tcp_connect(net_at("127.0.0.1", port), WEALD_FOREVER), "127.0.0.1");
    is_to(weald_tcp_connect(net_at("127.0.0.1", port), WEALD_NOW), "127.0.0.1");
    is_to(weald_tcp_connect(net_at("", port), WEALD_FOREVER), "127.0.0.1"); /* this machine: IPv6 refuses */
    CHECK_EQ(test_lines("/proc/self/status"), before);
    close(listener);
    if ((listener = weald_tcp_listen("[::1]:0", 0, 0)) < 0)
        SKIP("no IPv6 here");
    CHECK_GE(fd = weald_tcp_connect(net_at("[::1]", net_port(listener)), WEALD_FOREVER), 0);
    CHECK_EQ(getpeername(fd, (struct sockaddr *)&peer, &len), 0);
    CHECK_EQ(peer.sin6_family, AF_INET6);
}

TEST(a_connection_by_name)
{
    listen_at("127.0.0.1");
    is_to(weald_tcp_connect(net_at("localhost", port), WEALD_FOREVER), "127.0.0.1");
    is_at("127.0.0.1");
    is_to(weald_tcp_connect(net_at("oak", port), WEALD_FOREVER), "127.0.0.1");
    CHECK_EQ(weald_tcp_connect(net_at("ash", port), WEALD_FOREVER), WEALD_EAI_NONAME);
}

TEST(the_first_address_is_the_one_when_all_answer)
{
    listen_at("0.0.0.0");
    is_at("127.0.0.3 127.0.0.1 127.0.0.2");
    for (int i = 0; i < 20; i++)
        is_to(weald_tcp_connect(net_at("oak", port), WEALD_FOREVER), "127.0.0.3");
}

TEST(the_next_address_is_tried_at_once_when_one_refuses)
{
    int64_t before = weald_now();

    listen_at("127.0.0.3");
    is_at("127.0.0.1 127.0.0.2 127.0.0.3");
    is_to(weald_tcp_connect(net_at("oak", port), WEALD_FOREVER), "127.0.0.3");
    CHECK_LT(weald_now() - before, test_slack(WEALD_MS(200)));
}

TEST(an_address_that_is_silent_is_overtaken_after_250_ms)
{
    struct net_silent silent;
    int64_t before;
    int fds;

    listen_at("127.0.0.3");
    silent = net_silent("127.0.0.1", port);
    is_at("127.0.0.1 127.0.0.3");
    CHECK_GT(weald_self(), 0);
    fds = test_fds();
    before = weald_now();
    is_to(weald_tcp_connect(net_at("oak", port), WEALD_FOREVER), "127.0.0.3");
    CHECK_GE(weald_now() - before, WEALD_MS(250));
    CHECK_LT(weald_now() - before, test_slack(WEALD_SEC(1)));
    CHECK_EQ(test_fds(), fds); /* the loser is closed */
    net_close_silent(silent);
}

TEST(one_that_answers_late_wins_against_one_that_never_does)
{
    struct net_silent silent, never;
    int64_t before;
    int fds, fd;

    silent = net_silent("127.0.0.1", 0);
    never = net_silent("127.0.0.2", silent.port);
    port = silent.port;
    is_at("127.0.0.1 127.0.0.2");
    CHECK_GT(weald_self(), 0);
    fds = test_fds();
    /* The SYN is sent again after a second; by then there is room. */
    CHECK_GE(fd = accept(silent.fd, NULL, NULL), 0);
    close(fd);
    before = weald_now();
    if (weald_tcp_connect(net_at("oak", port), weald_after(WEALD_SEC(8))) < 0)
        SKIP("the queue does not empty here");
    CHECK_LT(weald_now() - before, test_slack(WEALD_SEC(8)));
    CHECK_EQ(test_fds(), fds + 1);
    net_close_silent(silent);
    net_close_silent(never);
}

TEST(when_nobody_answers_the_first_failure_is_told)
{
    int fds;

    listen_at("127.0.0.1");
    close(listener);
    is_at("127.0.0.1 127.0.0.2");
    CHECK_GT(weald_self(), 0);
    fds = test_fds();
    CHECK_EQ(weald_tcp_connect(net_at("127.0.0.1", port), WEALD_FOREVER), WEALD_ECONNREFUSED);
    CHECK_EQ(weald_tcp_connect(net_at("127.0.0.1", port), WEALD_NOW), WEALD_ECONNREFUSED);
    CHECK_EQ(weald_tcp_connect(net_at("oak", port), WEALD_FOREVER), WEALD_ECONNREFUSED);
    CHECK_EQ(test_fds(), fds);
}

static struct net_silent mute;
static const char *mute_text;

static int64_t connect_mute(void) { return weald_tcp_connect(mute_text, WEALD_FOREVER); }

static void be_mute(void)
{
    mute = net_silent("127.0.0.1", 0);
    mute_text = net_at("127.0.0.1", mute.port);
    CHECK_GT(weald_self(), 0);
}

TEST(a_connection_that_can_not_be_made_ends_as_waits_end_and_leaves_nothing_open)
{
    struct net_silent also;
    int fds;

    be_mute();
    also = net_silent("127.0.0.2", mute.port);
    is_at("127.0.0.1 127.0.0.2");
    fds = test_fds();
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weald_tcp_connect(mute_text, WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(weald_tcp_connect(mute_text, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
        CHECK_EQ(weald_tcp_connect(mute_text, weald_after(WEALD_MS(300))), WEALD_ETIMEDOUT);
        CHECK_EQ(when_killed(connect_mute), WEALD_ECANCELED);
        CHECK_EQ(in_a_timeout(connect_mute), WEALD_ETIMEDOUT);
        CHECK_EQ(in_a_callback(connect_mute), WEALD_EWOULDBLOCK);
        CHECK_EQ(when_forbidden(connect_mute), WEALD_EPERM);
        CHECK_EQ(test_fds(), fds);
        mute_text = net_at("oak", mute.port); /* two of them */
        CHECK_EQ(weald_tcp_connect(mute_text, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT); /* looked up */
    }
    net_close_silent(also);
    net_close_silent(mute);
}

static void *shielded(void *unused)
{
    CHECK_EQ(weald_shield(1), 0);
    connect_mute();
    return unused;
}

TEST(what_an_abandoned_greenlet_was_connecting_is_closed)
{
    int fds;

    LEAKS("a greenlet is abandoned, and what is on its stack");
    be_mute();
    is_at("127.0.0.1 127.0.0.2");
    CHECK_EQ(weald_go(shielded, NULL), 0);
    mute_text = net_at("oak", mute.port);
    CHECK_EQ(weald_go(shielded, NULL), 0);
    fds = test_fds();
    while (test_fds() < fds + 2)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    weald_set_report_handler(errors_no_report, NULL);
    CHECK_EQ(weald_hub_shutdown(), 2);
    CHECK_LE(test_fds(), fds);
}

TEST(texts_that_are_no_address_are_refused)
{
    const char *wrong[] = {"", "oak", "oak:", "::1:80", "[::1]", "[::1]80", "a:b:80", ":",
                           "127.0.0.1:65536", "127.0.0.1:70000", "127.0.0.1:-1", "oak: 80", "oak:99999999999999999999"};

    is_at("127.0.0.1");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_EQ(weald_tcp_connect(wrong[i], WEALD_FOREVER), WEALD_EINVAL);
        CHECK_EQ(weald_udp_connect(wrong[i], WEALD_FOREVER), WEALD_EINVAL);
        CHECK_EQ(weald_tcp_listen(wrong[i], 0, 0), WEALD_EINVAL);
        CHECK_EQ(weald_udp_bind(wrong[i], 0), WEALD_EINVAL);
    }
    CHECK_EQ(weald_tcp_connect(NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_udp_connect(NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_unix_connect(NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_unix_connect("", WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_tcp_listen(NULL, 0, 0), WEALD_EINVAL);
    CHECK_EQ(weald_tcp_listen("localhost:80", 0, 0), WEALD_EINVAL);
    CHECK_EQ(weald_tcp_listen("127.0.0.1:65536", 0, 0), WEALD_EINVAL);
    CHECK_EQ(weald_tcp_listen("127.0.0.1:0", 0, 4), WEALD_EINVAL);
    CHECK_EQ(weald_udp_bind(NULL, 0), WEALD_EINVAL);
    CHECK_EQ(weald_udp_bind("127.0.0.1:0", -1), WEALD_EINVAL);
    CHECK_EQ(weald_unix_listen(NULL, 0), WEALD_EINVAL);
    CHECK_EQ(weald_unix_listen("", 0), WEALD_EINVAL);
    CHECK_EQ(weald_inherited_fd(NULL), WEALD_EINVAL);
}

static int64_t connect_oak(void) { return weald_tcp_connect(net_at("oak", port), WEALD_FOREVER); }
static int64_t udp_oak(void) { return weald_udp_connect(net_at("oak", port), WEALD_FOREVER); }

TEST(a_name_that_is_slow_ends_as_waits_end)
{
    errors_call calls[] = {connect_oak, udp_oak};

    listen_at("127.0.0.1");
    answers_after_ms = 100;
    for (size_t i = 0; i < 2; i++) {
        is_at("127.0.0.1"); /* and the cache is empty */
        CHECK_EQ(weald_tcp_connect(net_at("oak", port), WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(weald_udp_connect(net_at("oak", port), WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(when_killed(calls[i]), WEALD_ECANCELED);
        is_at("127.0.0.1");
        CHECK_EQ(in_a_timeout(calls[i]), WEALD_ETIMEDOUT);
        is_at("127.0.0.1");
        CHECK_EQ(in_a_callback(calls[i]), WEALD_EWOULDBLOCK);
        is_at("127.0.0.1");
        CHECK_EQ(when_forbidden(calls[i]), WEALD_EPERM);
        CHECK_EQ(weald_tcp_connect("memory:80", WEALD_FOREVER), WEALD_ENOMEM);
        CHECK_EQ(weald_udp_connect("memory:80", WEALD_FOREVER), WEALD_ENOMEM);
    }
}

TEST(a_name_of_the_parent_s_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    listen_at("127.0.0.1");
    answers_after_ms = 100;
    is_at("127.0.0.1");
    CHECK_EQ(in_a_forked_child(connect_oak), WEALD_EDEADLK);
}

TEST(a_udp_name_of_the_parent_s_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    answers_after_ms = 100;
    is_at("127.0.0.1");
    port = 9;
    CHECK_EQ(in_a_forked_child(udp_oak), WEALD_EDEADLK);
}

TEST(without_descriptors_there_are_no_sockets)
{
    const char *path = net_path("none");

    CHECK_GT(weald_self(), 0);
    net_no_more_fds();
    CHECK_EQ(weald_tcp_connect("127.0.0.1:9", WEALD_FOREVER), WEALD_EMFILE);
    CHECK_EQ(weald_udp_connect("127.0.0.1:9", WEALD_FOREVER), WEALD_EMFILE);
    CHECK_EQ(weald_unix_connect("@none", WEALD_FOREVER), WEALD_EMFILE);
    CHECK_EQ(weald_tcp_listen("127.0.0.1:0", 0, 0), WEALD_EMFILE);
    CHECK_EQ(weald_udp_bind("127.0.0.1:0", 0), WEALD_EMFILE);
    CHECK_EQ(weald_unix_listen(path, 0), WEALD_EMFILE);
    net_fds_again();
}

/* ---- listening ---- */

TEST(a_listener_has_its_address_for_itself_or_shares_it)
{
    int first, second;

    CHECK_GE(first = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    CHECK(fcntl(first, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(first, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(weald_tcp_listen(net_at("127.0.0.1", net_port(first)), 0, WEALD_REUSEPORT), WEALD_EADDRINUSE);
    close(first);
    CHECK_GE(first = weald_tcp_listen("127.0.0.1:0", 0, WEALD_REUSEPORT), 0);
    CHECK_EQ(weald_tcp_listen(net_at("127.0.0.1", net_port(first)), 0, 0), WEALD_EADDRINUSE);
    CHECK_GE(second = weald_tcp_listen(net_at("127.0.0.1", net_port(first)), 0, WEALD_REUSEPORT), 0);
    close(first);
    close(second);
    CHECK_GE(first = weald_udp_bind("127.0.0.1:0", 0), 0);
    CHECK_EQ(weald_udp_bind(net_at("127.0.0.1", net_port(first)), 0), WEALD_EADDRINUSE);
}

TEST(an_address_is_free_as_soon_as_its_listener_is_closed)
{
    int accepted, fd;

    listen_at("127.0.0.1");
    fd = net_plain(port);
    CHECK_GE(accepted = accept(listener, NULL, NULL), 0);
    close(accepted); /* this end waits for stragglers now */
    close(fd);
    close(listener);
    CHECK_GE(listener = weald_tcp_listen(net_at("127.0.0.1", port), 0, 0), 0);
}

TEST(every_address_is_that_of_both_families_unless_told_otherwise)
{
    const char *all[] = {"*", "", "[::]"};
    int fd;

    for (size_t i = 0; i < 3; i++) {
        CHECK_GE(listener = weald_tcp_listen(net_at(all[i], 0), 0, 0), 0);
        port = net_port(listener);
        is_to(weald_tcp_connect(net_at("127.0.0.1", port), WEALD_FOREVER), "127.0.0.1");
        fd = weald_tcp_connect(net_at("[::1]", port), WEALD_FOREVER);
        if (fd < 0)
            SKIP("no IPv6 here");
        close(fd);
        close(listener);
    }
    CHECK_GE(listener = weald_tcp_listen("[::]:0", 0, WEALD_V6ONLY), 0);
    port = net_port(listener);
    CHECK_EQ(weald_tcp_connect(net_at("127.0.0.1", port), WEALD_FOREVER), WEALD_ECONNREFUSED);
    CHECK_GE(weald_tcp_connect(net_at("[::1]", port), WEALD_FOREVER), 0);
}

TEST(a_backlog_is_what_was_asked_for)
{
    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 1, 0), 0);
    port = net_port(listener);
    int made = 0;
    while (made < 8) {
        int fd = weald_tcp_connect(net_at("127.0.0.1", port), weald_after(WEALD_MS(50)));
        if (fd < 0) {
            CHECK_EQ(fd, WEALD_ETIMEDOUT);
            break;
        }
        made++;
    }
    CHECK_EQ(made, 2); /* Linux takes one more than it is told */
}

TEST(datagrams_by_address)
{
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    char text[8] = "";
    int here, there;

    CHECK_GE(here = weald_udp_bind("127.0.0.1:0", 0), 0);
    CHECK_GE(there = weald_udp_connect(net_at("localhost", net_port(here)), WEALD_FOREVER), 0);
    CHECK(fcntl(there, F_GETFL) & O_NONBLOCK);
    net_write(there, "ping");
    CHECK_EQ(weald_wait_read(here, WEALD_FOREVER), 0);
    CHECK_EQ(recvfrom(here, text, sizeof text, 0, (struct sockaddr *)&from, &len), 4);
    CHECK_EQ(sendto(here, "pong", 4, 0, (struct sockaddr *)&from, len), 4);
    CHECK_EQ(net_read(there, text, sizeof text), 4);
    CHECK_STR(text, "pong");
}

/* ---- Unix sockets ---- */

TEST(a_unix_listener_in_the_file_system_and_outside)
{
    const char *paths[] = {net_path("a"), "@weald-test-outside"};

    for (size_t i = 0; i < 2; i++) {
        int fd, accepted;
        CHECK_GE(listener = weald_unix_listen(paths[i], 0), 0);
        CHECK_GE(fd = weald_unix_connect(paths[i], WEALD_NOW), 0);
        CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
        CHECK_GE(accepted = accept(listener, NULL, NULL), 0);
        net_write(fd, "x");
        CHECK_EQ(net_read(accepted, &(char){0}, 1), 1);
        CHECK_EQ(weald_unix_listen(paths[i], 0), WEALD_EADDRINUSE);
        close(fd);
        close(accepted);
        close(listener);
    }
    unlink(paths[0]);
}

TEST(a_socket_file_that_nobody_listens_at_is_replaced)
{
    const char *path = net_path("stale");
    int bound;
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    CHECK_GE(listener = weald_unix_listen(path, 0), 0);
    close(listener); /* and the file is there */
    CHECK_EQ(weald_unix_connect(path, WEALD_FOREVER), WEALD_ECONNREFUSED);
    CHECK_GE(listener = weald_unix_listen(path, 0), 0);
    CHECK_EQ(weald_unix_listen(path, 0), WEALD_EADDRINUSE); /* somebody listens */
    CHECK_GE(weald_unix_connect(path, WEALD_FOREVER), 0);
    unlink(path);
    CHECK_EQ(weald_unix_connect(path, WEALD_FOREVER), WEALD_ENOENT);
    /* A datagram socket is somebody's as well. */
    strcpy(address.sun_path, path);
    CHECK_GE(bound = socket(AF_UNIX, SOCK_DGRAM, 0), 0);
    CHECK_EQ(bind(bound, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(weald_unix_listen(path, 0), WEALD_EADDRINUSE);
    unlink(path);
}

TEST(a_file_that_is_no_socket_stays)
{
    const char *path = net_path("file");
    char too_long[200];
    struct stat s;
    int fd;

    CHECK_GE(fd = open(path, O_CREAT | O_WRONLY, 0600), 0);
    close(fd);
    CHECK_EQ(weald_unix_listen(path, 0), WEALD_EADDRINUSE);
    CHECK_EQ(stat(path, &s), 0);
    CHECK(S_ISREG(s.st_mode));
    unlink(path);
    CHECK_EQ(weald_unix_listen("/nowhere/at/all", 0), WEALD_ENOENT);
    memset(too_long, 'x', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    CHECK_EQ(weald_unix_listen(too_long, 0), WEALD_EINVAL);
    CHECK_EQ(weald_unix_connect(too_long, WEALD_FOREVER), WEALD_EINVAL);
}

static const char *full_path;
static int64_t connect_full(void) { return weald_unix_connect(full_path, WEALD_FOREVER); }

static void *accept_later(void *unused)
{
    CHECK_EQ(weald_sleep(WEALD_MS(30)), 0);
    CHECK_GE(accept(listener, NULL, NULL), 0);
    return unused;
}

TEST(a_unix_listener_without_room_is_waited_for)
{
    int fds, fd;

    full_path = net_path("full");
    CHECK_GE(listener = weald_unix_listen(full_path, 1), 0);
    CHECK_EQ(listen(listener, 0), 0);
    CHECK_GE(weald_unix_connect(full_path, WEALD_FOREVER), 0);
    fds = test_fds();
    CHECK_EQ(weald_unix_connect(full_path, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_unix_connect(full_path, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_EQ(when_killed(connect_full), WEALD_ECANCELED);
    CHECK_EQ(in_a_timeout(connect_full), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_callback(connect_full), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(connect_full), WEALD_EPERM);
    CHECK_EQ(test_fds(), fds);
    CHECK_EQ(weald_go(accept_later, NULL), 0);
    CHECK_GE(fd = weald_unix_connect(full_path, WEALD_FOREVER), 0);
    starve();
    fd = weald_unix_connect(full_path, soon());
    feed();
    CHECK_EQ(fd, WEALD_ENOMEM);
    unlink(full_path);
}

/* ---- systemd ---- */

static void hand_over(int count, const char *names)
{
    char text[16];

    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    CHECK_EQ(dup2(listener, 3), 3); /* blocking and inherited, for all we know */
    CHECK_EQ(fcntl(3, F_SETFD, 0), 0);
    CHECK_EQ(fcntl(3, F_SETFL, 0), 0);
    CHECK_EQ(dup2(listener, 4), 4);
    snprintf(text, sizeof text, "%d", (int)getpid());
    setenv("LISTEN_PID", text, 1);
    snprintf(text, sizeof text, "%d", count);
    setenv("LISTEN_FDS", text, 1);
    setenv("LISTEN_FDNAMES", names, 1);
}

TEST(sockets_are_inherited_from_systemd)
{
    CHECK_EQ(weald_inherited_count(), 0);
    CHECK_EQ(weald_inherited_fd("web"), WEALD_ENOENT);
    hand_over(2, "web:admin");
    CHECK_EQ(weald_inherited_count(), 2);
    CHECK(fcntl(3, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(3, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(weald_inherited_fd("web"), 3);
    CHECK_EQ(weald_inherited_fd("admin"), 4);
    CHECK_EQ(weald_inherited_fd("other"), WEALD_ENOENT);
    CHECK_EQ(weald_inherited_fd("we"), WEALD_ENOENT);
    setenv("LISTEN_FDS", "1", 1);
    CHECK_EQ(weald_inherited_fd("admin"), WEALD_ENOENT);
    setenv("LISTEN_PID", "1", 1); /* another process's */
    CHECK_EQ(weald_inherited_count(), 0);
}

TEST(what_is_wrong_with_inherited_sockets_is_told)
{
    hand_over(2, "");
    setenv("LISTEN_FDS", "-1", 1);
    CHECK_EQ(weald_inherited_count(), 0);
    setenv("LISTEN_FDS", "two", 1);
    CHECK_EQ(weald_inherited_count(), 0);
    setenv("LISTEN_FDS", "2000000000", 1);
    CHECK_EQ(weald_inherited_count(), WEALD_EBADF);
    CHECK_EQ(weald_inherited_fd("web"), WEALD_EBADF);
}
