/* HTTP servers with many handlers, addresses and hubs, and everything that can go wrong at once. */
#include "errors.h"
#include "http.h"
#include <stdatomic.h>

/* ---- more than one greenlet ---- */

static weald_http_request parked[3];
static int parked_count;
static weald_event everybody;

static void long_poll(weald_http_request r, void *user)
{
    (void)user;
    parked[parked_count++] = r;
    CHECK_EQ(weald_event_wait(everybody, WEALD_FOREVER), 0);
    http_reply_text(r, "news");
}

TEST(many_may_wait_for_news)
{
    int fds[200];

    CHECK_GT(everybody = weald_event_new(0), 0);
    http_serve(http_wait_long, NULL);
    CHECK_EQ(weald_close(http_server), 0);
    http_serve(long_poll, NULL);
    for (int i = 0; i < 3; i++) {
        fds[i] = net_plain(http_port);
        net_write(fds[i], HTTP_GET("/"));
    }
    while (parked_count < 3)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_event_set(everybody), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_STR(http_body(http_until(fds[i], "news")), "news");
        close(fds[i]);
    }
}

static void answered_elsewhere(weald_http_request r, void *user)
{
    (void)user;
    parked[parked_count++] = r;
    CHECK_EQ(weald_event_wait(everybody, WEALD_FOREVER), 0);
}

TEST(another_greenlet_may_answer)
{
    int fd;

    CHECK_GT(everybody = weald_event_new(0), 0);
    http_serve(answered_elsewhere, NULL);
    fd = net_plain(http_port);
    net_write(fd, HTTP_GET("/"));
    while (parked_count < 1)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    http_reply_text(parked[0], "from main");
    CHECK_STR(http_body(http_until(fd, "main")), "from main");
    CHECK_EQ(weald_event_set(everybody), 0);
    close(fd);
    http_wait_for(0);
}

/* ---- the log ---- */

static char logged[500];

static void take_log(weald_http_request r, int status, int64_t sent, int64_t took_ns, void *user)
{
    size_t len = strlen(logged);

    CHECK(!user);
    CHECK_GE(took_ns, 0);
    snprintf(logged + len, sizeof logged - len, "%s %s %d %d;", weald_http_method(r), weald_http_target(r), status,
             (int)sent);
}

TEST(each_request_is_logged)
{
    weald_http_options options = {.size = sizeof options, .log = take_log};

    http_serve(http_say_target, &options);
    http_ask(HTTP_GET(
        "/one") "HEAD /two HTTP/1.1\r\nHost: oak\r\n\r\nPUT /three HTTP/1.1\r\nHost: oak\r\nContent-Length: x\r\n\r\n");
    CHECK_STR(logged, "GET /one 200 4;HEAD /two 200 0;  400 11;");
}

/* ---- other addresses ---- */

TEST(a_unix_socket_serves_as_well)
{
    const char *path = net_path("http");
    char address[100];
    int fd;

    snprintf(address, sizeof address, "unix:%s", path);
    CHECK_GT(http_server = weald_http_server_new(address, http_say_target, NULL, NULL), 0);
    CHECK_EQ(weald_server_start(http_server), 0);
    CHECK_GE(fd = weald_unix_connect(path, WEALD_FOREVER), 0);
    net_write(fd, HTTP_GET("/unix"));
    CHECK_STR(http_body(http_until(fd, "/unix")), "/unix");
    CHECK_EQ(weald_close_fd(fd), 0);
    CHECK_EQ(weald_server_stop(http_server, WEALD_FOREVER), 0);
}

/* ---- everything that can go wrong, at once ---- */

static unsigned storm_state = 1;
static unsigned draw(unsigned n)
{
    storm_state = storm_state * 1664525u + 1013904223u;
    return (storm_state >> 8) % n;
}

static weald_greenlet storm_handling[64];

static void in_the_storm(weald_http_request r, void *user)
{
    static char bytes[30000];
    char buffer[100];
    unsigned place = draw(64);

    (void)user;
    storm_handling[place] = weald_self();
    switch (draw(8)) {
    case 0: weald_http_reply(r, 200, NULL, bytes, sizeof bytes, weald_after(WEALD_MS(20))); break;
    case 1: weald_http_discard(r, WEALD_FOREVER); break;
    case 2:
        weald_http_begin(r, 200, NULL, -1);
        for (int i = 0; i < 5 && weald_http_write(r, bytes, 1 + draw(9000), NULL, WEALD_FOREVER) == 0; i++)
            weald_http_flush(r, weald_after(WEALD_MS(5)));
        break;
    case 3: weald_sleep(WEALD_US(draw(3000))); break;
    case 4:
        while (weald_http_read(r, buffer, sizeof buffer, weald_after(WEALD_MS(10))) > 0)
            ;
        break;
    case 5: weald_http_begin(r, 200, NULL, 10); break;
    case 6: weald_http_upgrade(r, "x", WEALD_FOREVER); break;
    default: http_seen++; weald_http_reply(r, 200, "text/plain", "x", 1, WEALD_FOREVER);
    }
}

static void *a_client_in_the_storm(void *until)
{
    static const char *const pieces[] = {
        HTTP_GET("/"),
        HTTP_GET("/") HTTP_GET("/"),
        "GET / HT",
        "PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 20\r\n\r\n0123",
        "PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" HTTP_GET("/"),
        "PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "rubbish\n",
        "0123456789",
        "\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: oak\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
    };
    struct linger at_once = {1, 0};
    char buffer[5000];

    while (weald_now() < *(int64_t *)until) {
        int fd = net_plain(http_port);
        for (unsigned i = 0, n = 1 + draw(4); i < n; i++) {
            const char *piece = pieces[draw(sizeof pieces / sizeof *pieces)];
            if (send(fd, piece, strlen(piece), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                break;
            weald_sleep(WEALD_US(draw(500)));
            if (draw(2))
                while (recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0)
                    ;
        }
        if (draw(3) == 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        else if (draw(2))
            shutdown(fd, SHUT_WR);
        close(fd);
    }
    return NULL;
}

static int open_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 1000; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

TEST(a_storm_leaves_nothing_behind)
{
    weald_http_options options = {.size = sizeof options, .head_ns = WEALD_MS(30), .idle_ns = WEALD_MS(30),
                                  .body_ns = WEALD_MS(30), .write_ns = WEALD_MS(30)};
    int64_t until = weald_now() + WEALD_MS(1500);
    weald_greenlet clients[8];
    int before;

    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    http_serve(in_the_storm, &options);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    before = open_fds();
    for (int i = 0; i < 8; i++)
        CHECK_GT(clients[i] = weald_spawn(a_client_in_the_storm, &until), 0);
    while (weald_now() < until) {
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
        weald_kill(storm_handling[draw(64)], 0, WEALD_NOW); /* perhaps one that is still there */
    }
    CHECK_EQ(weald_joinall(clients, 8, 0, 0, WEALD_FOREVER), 8);
    http_wait_for(0);
    CHECK_EQ(open_fds(), before);
    printf("%d requests\n", http_seen);
    CHECK_GT(http_seen, 20);
    storm_state = 7; /* the next one is answered */
    for (int i = 0; i < 100 && http_status(http_ask(HTTP_GET("/"))) != 200; i++)
        ;
    CHECK_EQ(http_status(http_got), 200);
}

/* ---- more than one hub ---- */

static char shared_address[64];
static atomic_int by_thread[2];

static void count_thread(weald_http_request r, void *user)
{
    by_thread[(intptr_t)user]++;
    http_reply_text(r, "x");
}

static void *serve_in_a_thread(void *arg)
{
    weald_server_options below = {.size = sizeof below, .flags = WEALD_REUSEPORT};
    weald_http_options how = {.size = sizeof how, .server = &below};
    weald_server server = weald_http_server_new(shared_address, count_thread, arg, &how);

    CHECK_GT(server, 0);
    by_thread[(intptr_t)arg]++;
    CHECK_EQ(weald_server_serve(server, weald_after(WEALD_MS(1500))), WEALD_ETIMEDOUT);
    CHECK_GE(weald_server_stop(server, weald_after(WEALD_SEC(1))), 0);
    return NULL;
}

TEST(two_hubs_serve_one_address)
{
    int reserved = weald_tcp_listen("127.0.0.1:0", 0, WEALD_REUSEPORT), fds[100];
    pthread_t threads[2];

    http_port = net_port(reserved);
    snprintf(shared_address, sizeof shared_address, "127.0.0.1:%d", http_port);
    for (intptr_t i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, serve_in_a_thread, (void *)i), 0);
    while (by_thread[0] == 0 || by_thread[1] == 0)
        usleep(1000);
    close(reserved);
    for (int i = 0; i < 100; i++) {
        fds[i] = net_plain(http_port);
        net_write(fds[i], HTTP_GET("/"));
    }
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(http_status(http_until(fds[i], "\r\n\r\nx")), 200);
        close(fds[i]);
    }
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_GT(by_thread[0], 10);
    CHECK_GT(by_thread[1], 10);
    CHECK_EQ(by_thread[0] + by_thread[1], 102);
}

static void *stop_soon(void *arg)
{
    (void)arg;
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    return NULL;
}

TEST(serve_is_a_whole_program)
{
    weald_close(weald_spawn(stop_soon, NULL));
    CHECK_EQ(weald_http_serve("127.0.0.1:0", http_say_target, NULL, NULL, weald_after(WEALD_MS(10))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_http_serve("127.0.0.1:0", http_say_target, NULL, NULL, WEALD_NOW), WEALD_EAGAIN);
}
