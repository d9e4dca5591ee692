/* The codes of requests: each function of theirs, in each situation. */
#include "errors.h"
#include "http.h"
#include "starve.h"
#include "transfers.h"

/* ---- a request that has not been answered, and its two ends ---- */

static weald_http_request r;
static weald_event over;
static int client, inside; /* this test's descriptor, and the server's */
static weald_greenlet handling;

static void handler(weald_http_request request, void *user)
{
    (void)user;
    r = request;
    handling = weald_self();
    weald_event_wait(over, WEALD_FOREVER);
}

/* The server's descriptor of the connection from `port`. */
static int other_end(int port)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == port)
            return fd;
    }
    CHECK(!"a connection that has another end");
    return -1;
}

static void ask(const char *request)
{
    r = 0;
    if (!over)
        CHECK_GT(over = weald_event_new(0), 0);
    http_serve(handler, NULL);
    client = net_plain(http_port);
    net_write(client, request);
    while (r == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    inside = other_end(net_port(client));
}

#define WITH_BODY "PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 10\r\n\r\n"
#define WITH_CHUNKS "PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n"

static void hang_up(void)
{
    weald_kill(handling, 0, WEALD_FOREVER);
    close(client);
    CHECK_EQ(weald_close(http_server), 0);
}

/* ---- the calls that may wait ---- */

static char lots[100000];
static int a_file;

static int64_t c_read(int64_t d) { return weald_http_read(r, lots, 10, d); }
static int64_t c_continue(int64_t d) { return weald_http_continue(r, d); }
static int64_t c_read_all(int64_t d)
{
    void *data = NULL;
    int64_t code = weald_http_read_all(r, 100, &data, NULL, d);
    weald_free(data);
    return code;
}
static int64_t c_discard(int64_t d) { return weald_http_discard(r, d); }
static int64_t c_reply(int64_t d) { return weald_http_reply(r, 200, NULL, "x", 1, d); }
static int64_t c_write(int64_t d) { return weald_http_write(r, lots, sizeof lots, NULL, d); }
static int64_t c_sendfile(int64_t d) { return weald_http_sendfile(r, a_file, 0, 10, d); }
static int64_t c_flush(int64_t d) { return weald_http_flush(r, d); }
static int64_t c_end(int64_t d) { return weald_http_end(r, d); }
static int64_t c_upgrade(int64_t d) { return weald_http_upgrade(r, "shout", d); }
static int64_t c_websocket(int64_t d) { return weald_websocket_accept(r, NULL, d); }
static const char *a_path = "/proc/self/maps";
static int64_t c_file(int64_t d) { return weald_http_file(r, a_path, d); }
static int64_t c_folder(int64_t d) { return weald_http_folder(r, "/proc/self", "maps", d); }
static int64_t c_events(int64_t d) { return weald_http_events(r, d); }
static int64_t c_inform(int64_t d) { return weald_http_inform(r, 103, NULL, d); }
static int64_t c_event(int64_t d) { return weald_http_event(r, "a", "b", "c", d); }

static void begun(void) { CHECK_EQ(weald_http_begin(r, 200, NULL, -1), 0); }
static void nothing(void) {}

static const struct asking {
    struct transfer as;
    void (*before)(void);
} calls[] = {
    {{"weald_http_read", c_read, &inside, WEALD_READ, NULL, 0}, nothing},
    {{"weald_http_read_all", c_read_all, &inside, WEALD_READ, NULL, 0}, nothing},
    {{"weald_http_discard", c_discard, &inside, WEALD_READ, NULL, 0}, nothing},
    {{"weald_http_reply", c_reply, &inside, WEALD_WRITE, NULL, 0}, nothing},
    {{"weald_http_inform", c_inform, &inside, WEALD_WRITE, NULL, 0}, nothing},
    {{"weald_http_write", c_write, &inside, WEALD_WRITE, NULL, 0}, begun},
    {{"weald_http_sendfile", c_sendfile, &inside, WEALD_WRITE, NULL, 0}, begun},
    {{"weald_http_flush", c_flush, &inside, WEALD_WRITE, NULL, 0}, begun},
    {{"weald_http_end", c_end, &inside, WEALD_WRITE, NULL, 0}, begun},
    {{"weald_http_upgrade", c_upgrade, &inside, WEALD_WRITE, NULL, 0}, nothing},
    {{"weald_websocket_accept", c_websocket, &inside, WEALD_WRITE, NULL, 0}, nothing},
    {{"weald_http_file", c_file, &inside, WEALD_WRITE, NULL, 0}, nothing},
    {{"weald_http_folder", c_folder, &inside, WEALD_WRITE, NULL, 0}, nothing},
    {{"weald_http_events", c_events, &inside, WEALD_WRITE, NULL, 0}, nothing},
    {{"weald_http_event", c_event, &inside, WEALD_WRITE, NULL, 0}, begun},
    {{"weald_http_continue", c_continue, &inside, WEALD_WRITE, NULL, 0}, nothing},
};
enum { CALLS = sizeof calls / sizeof *calls };

static const struct asking *current;
static int64_t for_ever(void) { return current->as.call(WEALD_FOREVER); }

/* A request for the current call, which has to wait. */
static void prepare(void)
{
    if (!a_file)
        a_file = file_of("0123456789");
    if (current->as.events == WEALD_READ)
        return ask(WITH_BODY);
    if (current->as.call == c_continue)
        ask("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    else
        ask("GET / HTTP/1.1\r\nHost: oak\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    fill_tcp(inside);
    current->before();
}

#define CALL_CHECK(got, wanted) TRANSFER_CHECK(&current->as, got, wanted)
#define EACH_CALL (current = calls; current < calls + CALLS; current++)

/* In a request of its own. */
#define CHECK_FRESH(got, wanted)                                                  \
    do {                                                                          \
        prepare();                                                                \
        CALL_CHECK(got, wanted);                                                  \
        hang_up();                                                                \
    } while (0)

TEST(calls_on_requests_tell_why_they_did_not_wait)
{
    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    for EACH_CALL {
        CHECK_FRESH(current->as.call(WEALD_NOW), WEALD_EAGAIN);
        CHECK_FRESH(current->as.call(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
        CHECK_FRESH(in_a_timeout(for_ever), WEALD_ETIMEDOUT);
        CHECK_FRESH(when_killed(for_ever), WEALD_ECANCELED);
        CHECK_FRESH(in_a_callback(for_ever), WEALD_EWOULDBLOCK);
        CHECK_FRESH(when_forbidden(for_ever), WEALD_EPERM);
    }
}

static void *make_current(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)current->as.call(WEALD_FOREVER);
}

TEST(one_greenlet_at_a_time_reads_a_request_and_one_answers_it)
{
    for EACH_CALL {
        weald_greenlet g;
        void *value;

        prepare();
        CHECK_GT(g = weald_spawn(make_current, NULL), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(20)), 0); /* some have a file to open first */
        CALL_CHECK(current->as.call(WEALD_FOREVER), WEALD_EBUSY);
        if (current->as.events == WEALD_WRITE) {
            CHECK_EQ(weald_http_add_header(r, "A", "b"), WEALD_EBUSY);
            CHECK_EQ(weald_http_begin(r, 200, NULL, 0), WEALD_EBUSY);
        }
        CHECK_EQ(weald_kill(handling, 0, WEALD_FOREVER), 0); /* and with the connection it ends */
        CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
        CALL_CHECK((intptr_t)value, WEALD_EBADF);
        CALL_CHECK(current->as.call(WEALD_FOREVER), WEALD_EBADF);
        close(client);
        CHECK_EQ(weald_close(http_server), 0);
    }
}

static void reset(void)
{
    struct linger at_once = {1, 0};

    CHECK_EQ(setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(client);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
}

TEST(a_client_that_has_left_is_noticed)
{
    for EACH_CALL {
        prepare();
        reset();
        CALL_CHECK(for_ever(), WEALD_ECONNRESET);
        hang_up();

        if (current->as.events == WEALD_READ) {
            prepare();
            CHECK_EQ(shutdown(client, SHUT_WR), 0);
            CALL_CHECK(for_ever(), WEALD_EPIPE);
            hang_up();
        } else {
            prepare();
            CHECK_EQ(shutdown(inside, SHUT_WR), 0);
            CALL_CHECK(for_ever(), WEALD_EPIPE);
            CHECK_EQ(weald_http_add_header(r, "A", "b"), WEALD_EPIPE);
            CHECK_EQ(weald_http_begin(r, 200, NULL, 0), WEALD_EPIPE);
            hang_up();
        }
    }
}

TEST(chunks_that_are_none_and_bodies_that_are_too_long)
{
    weald_http_options options = {.size = sizeof options, .max_body = 5};

    for (current = calls; current->as.events == WEALD_READ; current++) {
        ask(WITH_CHUNKS);
        net_write(client, "x\r\n");
        CALL_CHECK(for_ever(), WEALD_EPROTO);
        CALL_CHECK(for_ever(), WEALD_EPROTO);
        hang_up();

        r = 0;
        http_serve(handler, &options);
        client = net_plain(http_port);
        net_write(client, WITH_CHUNKS "6\r\nabcdef\r\n0\r\n\r\n");
        while (r == 0)
            CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        CALL_CHECK(for_ever(), WEALD_EMSGSIZE);
        hang_up();
    }
}

TEST(an_answer_that_was_too_slow_is_broken)
{
    weald_http_options options = {.size = sizeof options, .write_ns = WEALD_MS(5)};

    r = 0;
    CHECK_GT(over = weald_event_new(0), 0);
    http_serve(handler, &options);
    client = net_plain(http_port);
    net_write(client, HTTP_GET("/"));
    while (r == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    fill_tcp(other_end(net_port(client)));
    CHECK_EQ(c_reply(WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_http_add_header(r, "A", "b"), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_http_begin(r, 200, NULL, 0), WEALD_ETIMEDOUT);
}

/* ---- without memory ---- */

static int64_t make_server(void)
{
    weald_http_options options = {.size = sizeof options};
    return weald_http_server_new("127.0.0.1:0", handler, NULL, &options);
}

TEST(no_call_on_a_request_waits_without_memory)
{
    static char large[1 << 20];
    int listener, added = 0;

    /* Each is a process of its own: what is starved stays so. */
    for EACH_CALL {
        pid_t child = fork();
        int status;

        CHECK_GE(child, 0);
        if (child == 0) {
            int file = weald_file_open(a_path, O_RDONLY, 0, WEALD_FOREVER); /* has a thread made that opens files */

            CHECK_GE(file, 0);
            CHECK_EQ(close(file), 0);
            prepare();
            starve();
            CALL_CHECK(current->as.call(soon()), WEALD_ENOMEM);
            feed();
            test_leave(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        if (WEXITSTATUS(status) == TEST_SKIPPED)
            SKIP("the checker needs memory of its own");
        CHECK_EQ(WEXITSTATUS(status), 0);
    }
    memset(large, 'x', sizeof large - 1);
    ask(HTTP_GET("/"));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_http_add_header(r, "A", large), 0);
    CHECK_GE(listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    starve();
    for (int i = 0; i < 8 && added == 0; i++) /* there may be some room behind them */
        added = weald_http_add_header(r, "A", large);
    CHECK_EQ(added, WEALD_ENOMEM);
    CHECK_EQ(weald_http_begin(r, 200, NULL, 0), WEALD_ENOMEM);
    CHECK_EQ(make_server(), WEALD_ENOMEM);
    CHECK_EQ(weald_http_server_from_fd(listener, handler, NULL, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_http_serve("127.0.0.1:0", handler, NULL, NULL, WEALD_FOREVER), WEALD_ENOMEM);
    feed();
}

/* ---- arguments ---- */

TEST(wrong_arguments_are_einval)
{
    void *data;

    ask(WITH_BODY);
    CHECK_EQ(weald_http_read(r, NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_read_all(r, 1, NULL, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_read_all(r, 1, &data, NULL, WEALD_NOW), WEALD_EMSGSIZE);
    CHECK_EQ(weald_http_reply(r, 199, NULL, NULL, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_reply(r, 1000, NULL, NULL, 0, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_reply(r, 200, NULL, NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_add_header(r, NULL, "b"), WEALD_EINVAL);
    CHECK_EQ(weald_http_add_header(r, "A", NULL), WEALD_EINVAL);
    CHECK_EQ(weald_http_begin(r, 100, NULL, 0), WEALD_EINVAL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_http_inform(r, (int[]){101, 200, -1}[i], NULL, WEALD_NOW), WEALD_EINVAL);
    for (int i = 0; i < 5; i++) {
        static const char *const bad[][3] = {
            {"A", NULL}, {"A b", "c"}, {"A", "b\r\nC: d"}, {"Content-Length", "1"}, {"connection", "close"}};
        CHECK_EQ(weald_http_inform(r, 103, bad[i], WEALD_NOW), WEALD_EINVAL);
    }
    CHECK_EQ(weald_http_begin(r, 200, NULL, -2), WEALD_EINVAL);
    CHECK_EQ(weald_http_flush(r, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_end(r, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_sendfile(r, 0, 0, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_upgrade(r, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_upgrade(r, "x", WEALD_NOW), WEALD_EINVAL); /* a body */
    CHECK_EQ(weald_http_reply(r, 200, NULL, NULL, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_reply(r, 200, "a/b", NULL, 0, WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(c_inform(WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(weald_http_sendfile(r, 0, 0, 1, WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(weald_http_discard(r, WEALD_NOW), WEALD_EAGAIN);
    hang_up();
    ask(HTTP_GET("/"));
    CHECK_EQ(weald_http_reply(r, 200, NULL, NULL, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_upgrade(r, "x", WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(weald_websocket_accept(r, NULL, WEALD_FOREVER), WEALD_EALREADY);
    hang_up();
    ask(HTTP_GET("/"));
    CHECK_EQ(weald_http_begin(r, 200, NULL, 5), 0);
    CHECK_EQ(weald_http_write(r, NULL, 1, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_http_write(r, "012345", 6, NULL, WEALD_NOW), WEALD_EMSGSIZE);
    CHECK_EQ(weald_http_sendfile(r, -1, 0, 5, WEALD_FOREVER), WEALD_EBADF);
}

TEST(wrong_arguments_of_files_and_events)
{
    ask(HTTP_GET("/"));
    CHECK_EQ(weald_http_file(r, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_http_folder(r, NULL, "x", WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(c_event(WEALD_FOREVER), WEALD_EINVAL); /* not begun */
    net_no_more_fds();
    CHECK_EQ(c_file(WEALD_FOREVER), WEALD_EMFILE);
    CHECK_EQ(c_folder(WEALD_FOREVER), WEALD_EMFILE);
    net_fds_again();
    CHECK_EQ(weald_http_begin(r, 200, NULL, 3), 0);
    CHECK_EQ(weald_http_event(r, "a\nb", NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(c_event(WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(c_events(WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(weald_http_write(r, "abc", 3, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_end(r, WEALD_FOREVER), 0);
    CHECK_EQ(c_event(WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(c_file(WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(c_folder(WEALD_FOREVER), WEALD_EALREADY);
}

/* The threads that open files: as many wait for somebody at the other end of a pipe. */
enum { FILE_THREADS = 16 };
static char fifo[64];

static void *open_fifo(void *unused)
{
    int fd = weald_file_open(fifo, O_RDONLY, 0, WEALD_FOREVER);

    CHECK_GE(fd, 0);
    close(fd);
    return unused;
}

static void end_of_fifo(weald_watcher w, int what, void *fd)
{
    (void)w, (void)what;
    *(int *)fd = open(fifo, O_RDWR | O_NONBLOCK);
}

TEST(files_in_a_child_that_a_callback_has_forked_meanwhile)
{
    snprintf(fifo, sizeof fifo, "/tmp/weald-test-%d-fifo", (int)getpid());
    unlink(fifo); /* of another process that had this number */
    for EACH_CALL
        if (current->as.call == c_file || current->as.call == c_folder) {
            weald_watcher ends;
            int fd = -1;

            ask(HTTP_GET("/"));
            CHECK_EQ(mkfifo(fifo, 0600), 0);
            for (int i = 0; i < FILE_THREADS; i++)
                CHECK_EQ(weald_close(weald_spawn(open_fifo, NULL)), 0);
            CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
            CHECK_GT(ends = weald_timer_watcher(WEALD_MS(30), 0, end_of_fifo, &fd), 0);
            CHECK_EQ(weald_watcher_start(ends), 0);
            errors_child = -1;
            CALL_CHECK(in_a_forked_child(for_ever), WEALD_EDEADLK);
            CHECK_EQ(weald_close(ends), 0);
            CHECK_GE(fd, 0);
            close(fd);
            unlink(fifo);
            hang_up();
        }
}

static weald_http_request stale;

static void with_another(void)
{
    const void *const wanted[] = {weald_http_method(r), weald_http_target(r), weald_http_path(r), weald_http_query(r),
                                  weald_http_header(r, "Host"), weald_http_peer(r, NULL)};
    int64_t code = r == stale ? WEALD_EBADF : WEALD_EPERM;
    void *data;

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        CHECK(!wanted[i]);
    CHECK_EQ(weald_http_header_at(r, 0, NULL, NULL), code);
    CHECK_EQ(weald_http_version(r), code);
    CHECK_EQ(weald_http_body_left(r), code);
    CHECK_EQ(weald_http_read(r, lots, 1, WEALD_FOREVER), code);
    CHECK_EQ(weald_http_read_all(r, 1, &data, NULL, WEALD_FOREVER), code);
    CHECK_EQ(weald_http_discard(r, WEALD_FOREVER), code);
    CHECK_EQ(weald_http_reply(r, 200, NULL, NULL, 0, WEALD_FOREVER), code);
    CHECK_EQ(weald_http_add_header(r, "A", "b"), code);
    CHECK_EQ(weald_http_begin(r, 200, NULL, 0), code);
    CHECK_EQ(weald_http_write(r, "a", 1, NULL, WEALD_FOREVER), code);
    CHECK_EQ(c_inform(WEALD_FOREVER), code);
    CHECK_EQ(weald_http_sendfile(r, 0, 0, 1, WEALD_FOREVER), code);
    CHECK_EQ(weald_http_flush(r, WEALD_FOREVER), code);
    CHECK_EQ(weald_http_end(r, WEALD_FOREVER), code);
    CHECK_EQ(weald_http_upgrade(r, "x", WEALD_FOREVER), code);
    CHECK_EQ(c_file(WEALD_FOREVER), code);
    CHECK_EQ(c_folder(WEALD_FOREVER), code);
    CHECK_EQ(c_events(WEALD_FOREVER), code);
    CHECK_EQ(c_event(WEALD_FOREVER), code);
}

TEST(requests_are_of_their_thread_and_end)
{
    ask(HTTP_GET("/"));
    in_another_thread(with_another);
    hang_up();
    stale = r;
    with_another();
}

/* ---- servers ---- */

static weald_group group;

static void with_another_threads_pool(void)
{
    weald_server_options server = {.size = sizeof server, .pool = group};
    weald_http_options options = {.size = sizeof options, .server = &server};
    int listener = weald_tcp_listen("127.0.0.1:0", 0, 0);

    CHECK_EQ(weald_http_server_new("127.0.0.1:0", handler, NULL, &options), WEALD_EPERM);
    CHECK_EQ(weald_http_server_from_fd(listener, handler, NULL, &options), WEALD_EPERM);
    CHECK_EQ(weald_http_serve("127.0.0.1:0", handler, NULL, &options, WEALD_FOREVER), WEALD_EPERM);
}

TEST(a_server_needs_what_it_is_told_to_use)
{
    weald_server_options server = {.size = sizeof server, .pool = 12345};
    weald_http_options options = {.size = sizeof options, .server = &server};
    weald_http_options late = {.size = sizeof late, .idle_ns = -1};
    int listener = weald_tcp_listen("127.0.0.1:0", 0, 0), pipes[2];
    const char *taken = net_at("127.0.0.1", net_port(listener));

    CHECK_EQ(weald_http_server_new(NULL, handler, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_http_server_new("127.0.0.1:0", NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_http_server_new("oak", handler, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_http_server_new("127.0.0.1:0", handler, NULL, &late), WEALD_EINVAL);
    CHECK_EQ(weald_http_server_new(taken, handler, NULL, NULL), WEALD_EADDRINUSE);
    CHECK_EQ(weald_http_server_new("127.0.0.1:0", handler, NULL, &options), WEALD_EBADF);
    CHECK_EQ(weald_http_server_from_fd(listener, NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_http_server_from_fd(-1, handler, NULL, NULL), WEALD_EBADF);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(weald_http_server_from_fd(pipes[0], handler, NULL, NULL), WEALD_ENOTSOCK);
    CHECK_EQ(weald_http_serve(NULL, handler, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_http_serve(taken, handler, NULL, NULL, WEALD_FOREVER), WEALD_EADDRINUSE);
    CHECK_EQ(weald_http_serve("127.0.0.1:0", handler, NULL, &options, WEALD_FOREVER), WEALD_EBADF);
    CHECK_GT(group = weald_pool_new(1), 0);
    in_another_thread(with_another_threads_pool);
}

static int64_t serve(void) { return weald_http_serve("127.0.0.1:0", handler, NULL, NULL, WEALD_FOREVER); }
static int64_t serve_for_a_moment(void)
{
    return weald_http_serve("127.0.0.1:0", handler, NULL, NULL, weald_after(WEALD_MS(2)));
}

TEST(serve_in_a_child_that_a_callback_has_forked_meanwhile)
{
    weald_watcher forks = weald_timer_watcher(WEALD_MS(1), 0, errors_fork, NULL);
    int status, code;

    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    CHECK_EQ(weald_watcher_start(forks), 0);
    code = weald_http_serve("127.0.0.1:0", handler, NULL, NULL, weald_after(WEALD_SEC(1)));
    if (errors_child == 0)
        _exit(-code);
    CHECK_EQ(code, WEALD_ETIMEDOUT);
    CHECK_EQ(waitpid(errors_child, &status, 0), errors_child);
    CHECK_EQ(-WEXITSTATUS(status), WEALD_ETIMEDOUT);
}

TEST(serve_tells_why_it_does_not)
{
    CHECK_EQ(weald_http_serve("127.0.0.1:0", handler, NULL, NULL, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(serve_for_a_moment(), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_timeout(serve), WEALD_ETIMEDOUT);
    CHECK_EQ(when_killed(serve), WEALD_ECANCELED);
    CHECK_EQ(in_a_callback(serve), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(serve), WEALD_EPERM);
    net_no_more_fds();
    CHECK_EQ(weald_http_server_new("127.0.0.1:0", handler, NULL, NULL), WEALD_EMFILE);
    CHECK_EQ(serve(), WEALD_EMFILE);
    net_fds_again();
}
