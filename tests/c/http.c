/* HTTP servers: requests in order, their bodies, and nothing that could be read in two ways. */
#include "http.h"

/* ---- requests ---- */

static void say_all(weald_http_request r, void *user)
{
    char text[1000];
    const char *name, *value, *query = weald_http_query(r);
    int n = snprintf(text, sizeof text, "%s %s %s %s %d;", weald_http_method(r), weald_http_target(r),
                     weald_http_path(r), query ? query : "-", weald_http_version(r));
    socklen_t len;

    (void)user;
    for (size_t i = 0; weald_http_header_at(r, i, &name, &value) == 1; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s=%s;", name, value);
    CHECK_EQ(weald_http_peer(r, &len)->sa_family, AF_INET);
    CHECK_EQ(len, sizeof(struct sockaddr_in));
    CHECK_EQ(weald_kind(r), WEALD_KIND_HTTP_REQUEST);
    http_reply_text(r, text);
}

TEST(a_handler_sees_what_was_asked)
{
    http_serve(say_all, NULL);
    CHECK_STR(
        http_body(http_ask("GET /a%20b/?c=%20d HTTP/1.1\r\nHost: oak\r\nX-Empty:\r\nx_y: dropped\r\nB:  c d \r\n\r\n")),
        "GET /a%20b/?c=%20d /a b/ c=%20d 11;Host=oak;X-Empty=;B=c d;");
    CHECK_STR(http_body(http_ask("OPTIONS * HTTP/1.0\r\n\r\n")), "OPTIONS * * - 10;");
    CHECK_STR(http_body(http_ask("GET http://oak/x?y HTTP/1.1\r\n" HTTP_HOST "\r\n")),
              "GET http://oak/x?y /x y 11;Host=oak;");
}

static void look_up(weald_http_request r, void *user)
{
    (void)user;
    CHECK_STR(weald_http_header(r, "aCCept"), "first");
    CHECK(!weald_http_header(r, "Accep"));
    CHECK(!weald_http_header(r, NULL));
    CHECK_EQ(weald_http_header_at(r, 3, NULL, NULL), 0);
    CHECK_EQ(weald_http_header_at(r, 2, NULL, NULL), 1);
    CHECK(!weald_http_path(r)); /* %00 */
    CHECK_EQ(weald_http_body_left(r), 0);
    http_reply_text(r, "");
}

TEST(headers_are_looked_up_by_any_case)
{
    http_serve(look_up, NULL);
    CHECK_EQ(http_status(http_ask("GET /%00 HTTP/1.1\r\nHost: oak\r\nAccept: first\r\naccept: second\r\n\r\n")), 200);
}

TEST(pipelined_requests_are_answered_in_order)
{
    char many[64 << 10] = "", expected[64];
    size_t len = 0;
    const char *at;

    http_serve(http_say_target, NULL);
    for (int i = 0; i < 500; i++)
        len += (size_t)sprintf(many + len, "GET /%d HTTP/1.1\r\n" HTTP_HOST "\r\n", i);
    at = http_ask(many);
    for (int i = 0; i < 500; i++) {
        sprintf(expected, "\r\n\r\n/%d", i);
        CHECK((at = strstr(at, expected)));
        at += strlen(expected);
    }
    CHECK_EQ(http_seen, 500);
    CHECK_EQ(weald_server_accepted(http_server), 1);
}

TEST(a_request_may_come_byte_by_byte)
{
    const char *request =
        "POST /x HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n3;e=f\r\nabc\r\n0\r\nT: u\r\n\r\n"
        "GET /y HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n";
    int fd;

    http_serve(http_say_body, NULL);
    fd = net_plain(http_port);
    for (const char *at = request; *at; at++) {
        CHECK_EQ(send(fd, at, 1, MSG_NOSIGNAL), 1);
        CHECK_EQ(weald_yield(), 0);
        if (at[1] && at - request > 70)
            CHECK_EQ(weald_sleep(WEALD_US(50)), 0);
    }
    CHECK_CONTAINS(http_rest(fd), "Content-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n");
    CHECK_CONTAINS(http_got, "Connection: close\r\n\r\n");
    CHECK_EQ(http_seen, 2);
}

static weald_http_request kept;

static void keep(weald_http_request r, void *user)
{
    (void)user;
    if (kept > 0) {
        CHECK_NE(kept, r);
        CHECK_EQ(weald_http_version(kept), WEALD_EBADF);
        CHECK(!weald_http_method(kept));
    }
    kept = r;
    http_reply_text(r, "x");
}

TEST(a_request_is_stale_when_its_handler_has_returned)
{
    http_serve(keep, NULL);
    http_ask(HTTP_GET("/1") HTTP_GET("/2") HTTP_GET("/3"));
    CHECK_EQ(weald_http_body_left(kept), WEALD_EBADF);
    CHECK_EQ(weald_http_reply(kept, 200, NULL, NULL, 0, WEALD_NOW), WEALD_EBADF);
}

static void close_it(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_http_version(r), WEALD_EBADF);
}

TEST(a_handler_that_closes_its_request_has_not_answered_it)
{
    http_serve(close_it, NULL);
    CHECK_EQ(http_status(http_ask(HTTP_GET("/") HTTP_GET("/"))), 500);
    CHECK_EQ(http_seen, 2);
}

/* ---- connections ---- */

TEST(a_connection_goes_on_unless_one_side_says_close)
{
    http_serve(http_say_target, NULL);
    CHECK(!strstr(http_ask(HTTP_GET("/")), "Connection:"));
    CHECK_CONTAINS(http_ask("GET / HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n" HTTP_GET("/never")),
                   "Connection: close\r\n");
    CHECK_EQ(http_seen, 2);
    CHECK_CONTAINS(http_ask("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"), "Connection: close\r\n");
    CHECK_EQ(http_seen, 3);
    CHECK_CONTAINS(http_ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
                   "Connection: keep-alive\r\n");
    CHECK_EQ(http_seen, 5);
    http_wait_for(0);
}

static void say_close(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    CHECK_EQ(weald_http_add_header(r, "connection", "close"), 0);
    http_reply_text(r, "bye");
}

TEST(a_handler_may_end_the_connection)
{
    http_serve(say_close, NULL);
    CHECK_CONTAINS(http_ask(HTTP_GET("/") HTTP_GET("/")), "Connection: close\r\n\r\nbye");
    CHECK_EQ(http_seen, 1);
}

TEST(a_connection_ends_after_so_many_requests)
{
    weald_http_options options = {.size = sizeof options, .max_requests = 2};

    http_serve(http_say_target, &options);
    CHECK_CONTAINS(http_ask(HTTP_GET("/1") HTTP_GET("/2") HTTP_GET("/3")), "Connection: close\r\n\r\n/2");
    CHECK_EQ(http_seen, 2);
}

TEST(an_idle_connection_is_closed_and_a_slow_head_is_answered_408)
{
    weald_http_options options = {.size = sizeof options, .idle_ns = WEALD_MS(30), .head_ns = WEALD_MS(60)};
    int64_t before = weald_now();
    int fd;

    http_serve(http_say_target, &options);
    CHECK_STR(http_rest(net_plain(http_port)), "");
    CHECK_GE(weald_now() - before, WEALD_MS(30));
    before = weald_now();
    fd = net_plain(http_port);
    net_write(fd, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 5; i++) { /* a little now and then does not help */
        CHECK_EQ(weald_sleep(WEALD_MS(8)), 0);
        net_write(fd, "A: b\r\n");
    }
    CHECK_EQ(http_status(http_until(fd, "Timeout")), 408);
    CHECK_GE(weald_now() - before, WEALD_MS(60));
    close(fd);
    CHECK_EQ(http_seen, 0);
    http_wait_for(0);
}

TEST(a_server_that_is_shut_drains)
{
    int idle, busy;

    http_serve(http_wait_long, NULL);
    idle = net_plain(http_port);
    http_wait_for(1); /* who says nothing is accepted after a second */
    busy = net_plain(http_port);
    net_write(busy, HTTP_GET("/"));
    while (http_seen == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_server_shut(http_server), 0);
    CHECK_STR(http_rest(idle), ""); /* at once */
    CHECK_EQ(weald_server_count(http_server), 1);
    CHECK_CONTAINS(http_rest(busy), "Connection: close\r\n\r\nlate");
    CHECK_EQ(weald_server_stop(http_server, WEALD_FOREVER), 0);
}

TEST(what_is_left_when_grace_is_over_is_killed)
{
    int busy;

    http_serve(http_wait_long, NULL);
    busy = net_plain(http_port);
    net_write(busy, HTTP_GET("/"));
    while (http_seen == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_server_stop(http_server, weald_after(WEALD_MS(5))), 1);
    CHECK_STR(http_rest(busy), "");
}

TEST(a_hub_that_is_shut_down_abandons_handlers_and_closes_their_connections)
{
    int busy, idle;

    LEAKS("the stack of an abandoned greenlet");
    http_serve(http_wait_long, NULL);
    idle = net_plain(http_port);
    http_wait_for(1);
    busy = net_plain(http_port);
    net_write(busy, HTTP_GET("/"));
    while (http_seen == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_GE(weald_hub_shutdown(), 0);
    CHECK_EQ(read(busy, &(char){0}, 1), 0);
    CHECK_EQ(read(idle, &(char){0}, 1), 0);
}

/* ---- what is refused ---- */

TEST(what_is_wrong_is_refused_once_and_nothing_behind_it_is_read)
{
    static const struct {
        const char *request;
        int status;
    } wrong[] = {
        {"GET / HTTP/1.1\nHost: oak\n\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/3.0\r\nHost: oak\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\nHost : oak\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: oak\r\nA: b\r\n c\r\n\r\n", 400},
        {"CONNECT oak:80 HTTP/1.1\r\nHost: oak\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 67108865\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\nHost: oak\r\nExpect: something\r\nContent-Length: 1\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
    };

    http_serve(http_say_target, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[1000];
        snprintf(text, sizeof text, "%s%s", wrong[i].request, HTTP_GET("/smuggled"));
        CHECK_EQ(http_status(http_ask(text)), wrong[i].status);
        CHECK(!strstr(http_got + 1, "HTTP/1.1"));
        CHECK_CONTAINS(http_got, "Connection: close\r\n");
    }
    CHECK_EQ(http_seen, 0);
}

TEST(a_refusal_is_read_by_a_client_that_goes_on_sending)
{
    static char lots[100 << 10];
    int fd;

    http_serve(http_say_target, NULL);
    fd = net_plain(http_port);
    net_write(fd, "GET / HTTP/1.1\n");
    memset(lots, 'x', sizeof lots);
    for (int i = 0; i < 2; i++) {
        CHECK_GT(send(fd, lots, sizeof lots, MSG_NOSIGNAL), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    }
    CHECK_EQ(shutdown(fd, SHUT_WR), 0);
    CHECK_EQ(http_status(http_rest(fd)), 400);
}

TEST(limits_have_their_statuses)
{
    weald_http_options options = {
        .size = sizeof options, .max_line = 100, .max_head = 300, .max_headers = 5, .max_body = 10};
    char text[2000];

    http_serve(http_say_body, &options);
    snprintf(text, sizeof text, "GET /%0120d HTTP/1.1\r\nHost: oak\r\n\r\n", 0);
    CHECK_EQ(http_status(http_ask(text)), 414);
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: oak\r\nA: %0400d\r\n\r\n", 0);
    CHECK_EQ(http_status(http_ask(text)), 431);
    CHECK_EQ(http_status(http_ask("GET / HTTP/1.1\r\nHost: oak\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n")), 431);
    CHECK_EQ(http_status(http_ask("GET / HTTP/1.1\r\nHost: oak\r\nContent-Length: 11\r\n\r\nhello world")), 413);
    CHECK_EQ(http_seen, 0);
    CHECK_EQ(http_status(http_ask(
                 "GET / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")),
             413);
    CHECK_EQ(http_status(http_ask("GET / HTTP/1.1\r\nHost: oak\r\nContent-Length: 10\r\n\r\nhello worl")), 200);
}

TEST(what_is_asked_for_by_name_is_allowed)
{
    weald_http_lenient lenient = {.size = sizeof lenient,
                                  .bare_lf = 1,
                                  .folding = 1,
                                  .space_before_colon = 1,
                                  .no_host = 1,
                                  .underscores = 1,
                                  .raw_target = 1};
    weald_http_options options = {.size = sizeof options, .lenient = &lenient};

    http_serve(say_all, &options);
    CHECK_STR(http_body(http_ask("GET /\xc3\xbc HTTP/1.1\nA_b : c\n d\n\n")), "GET /\xc3\xbc /\xc3\xbc - 11;A_b=c  d;");
}

/* ---- bodies ---- */

static char piece[100];
static int64_t left_before;

static void read_in_pieces(weald_http_request r, void *user)
{
    char all[1000];
    size_t len = 0;
    int64_t n;

    (void)user;
    http_seen++;
    left_before = weald_http_body_left(r);
    while ((n = weald_http_read(r, piece, 7, WEALD_FOREVER)) > 0) {
        memcpy(all + len, piece, (size_t)n);
        len += (size_t)n;
    }
    if (n < 0)
        return;
    CHECK_EQ(weald_http_read(r, piece, 7, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_body_left(r), 0);
    CHECK_EQ(weald_http_reply(r, 200, NULL, all, len, WEALD_FOREVER), 0);
}

TEST(a_body_is_read_as_it_comes)
{
    http_serve(read_in_pieces, NULL);
    CHECK_STR(http_body(http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 20\r\n\r\n01234567890123456789")),
              "01234567890123456789");
    CHECK_EQ(left_before, 20);
    CHECK_STR(http_body(http_ask(
                  "PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n"
                  "1\r\n!\r\n0\r\nA: b\r\n\r\n")),
              "01234567890123456789!");
    CHECK_EQ(left_before, -1);
    CHECK_STR(http_body(http_ask(HTTP_GET("/"))), "");
    CHECK_EQ(left_before, 0);
}

TEST(a_body_that_is_wrong_or_breaks_off_is_answered_400_and_nothing_behind_it_is_read)
{
    http_serve(read_in_pieces, NULL);
    CHECK_EQ(http_status(http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 20\r\n\r\nabc")), 400);
    CHECK_EQ(http_status(http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc")), 400);
    CHECK_EQ(http_status(http_ask(
                 "PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n" HTTP_GET("/"))),
             400);
    CHECK_EQ(http_seen, 3);
}

TEST(a_body_that_comes_too_slowly_is_answered_408)
{
    weald_http_options options = {.size = sizeof options, .body_ns = WEALD_MS(50), .min_rate = 1000};
    int64_t before = weald_now();
    int fd;

    http_serve(read_in_pieces, &options);
    fd = net_plain(http_port);
    net_write(fd, "PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 20\r\n\r\n");
    for (int i = 0; i < 4; i++) {
        net_write(fd, "x");
        CHECK_EQ(weald_sleep(WEALD_MS(10)), 0);
    }
    CHECK_EQ(http_status(http_until(fd, "\r\n\r\n")), 408);
    CHECK_GE(weald_now() - before, WEALD_MS(50));
    close(fd);
}

static void do_not_read(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    http_reply_text(r, "no");
}

TEST(a_small_body_that_nobody_reads_is_dropped_and_a_large_one_ends_the_connection)
{
    static char large[200 << 10];
    int len = sprintf(large, "PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 150000\r\n\r\n");

    http_serve(do_not_read, NULL);
    http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 10\r\n\r\nGET / HTTP" HTTP_GET("/"));
    CHECK_EQ(http_seen, 2);
    memset(large + len, 'x', 150000);
    strcpy(large + len + 150000, HTTP_GET("/"));
    CHECK_CONTAINS(http_ask(large), "Connection: close\r\n");
    CHECK_EQ(http_seen, 3);
}

static void hint(weald_http_request r, void *unused)
{
    static const char *const first[] = {"Link", "</a.css>; rel=preload", "Link", "</b.js>; rel=preload", NULL};

    (void)unused;
    CHECK_EQ(weald_http_add_header(r, "A", "b"), 0);
    CHECK_EQ(weald_http_inform(r, 103, first, WEALD_FOREVER), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_http_inform(r, 150, NULL, WEALD_FOREVER), 0);
    http_reply_text(r, "whole");
    CHECK_EQ(weald_http_inform(r, 103, NULL, WEALD_FOREVER), WEALD_EALREADY);
}

TEST(what_a_page_will_need_is_told_before_the_page)
{
    int fd;

    http_serve(hint, NULL);
    fd = net_plain(http_port);
    net_write(fd, HTTP_GET("/"));
    CHECK_STR(http_until(fd, "\r\n\r\n"), "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"
                                          "Link: </b.js>; rel=preload\r\n\r\n");
    CHECK_CONTAINS(http_until(fd, "whole"), "HTTP/1.1 150 \r\n\r\nHTTP/1.1 200 OK\r\n");
    CHECK_CONTAINS(http_got, "A: b\r\n");
    CHECK_EQ(shutdown(fd, SHUT_WR), 0);
    CHECK_STR(http_rest(fd), "");
    CHECK_EQ(http_status(http_ask("GET / HTTP/1.0\r\n\r\n")), 200); /* knows none */
}

static void answer_and_dawdle(weald_http_request r, void *gate)
{
    http_reply_text(r, "whole");
    CHECK_EQ(weald_event_wait((weald_event)(intptr_t)gate, WEALD_FOREVER), 0);
}

/* The kernel may keep the last bytes for the end of the connection, but not when that is a while off. */
TEST(an_answer_does_not_wait_for_its_handler)
{
    weald_event gate = weald_event_new(0);
    weald_server server;
    int64_t began;
    int fd;

    CHECK_GT(server = weald_http_server_new("127.0.0.1:0", answer_and_dawdle, (void *)(intptr_t)gate, NULL), 0);
    CHECK_EQ(weald_server_start(server), 0);
    fd = net_plain(weald_server_port(server));
    net_write(fd, "GET / HTTP/1.0\r\n\r\n");
    began = weald_now();
    CHECK_CONTAINS(http_until(fd, "whole"), "Connection: close\r\n");
    CHECK_LT(weald_now() - began, WEALD_MS(100)); /* the kernel's patience is 200 */
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_STR(http_rest(fd), "");
}

TEST(who_waits_to_be_asked_is_asked_when_the_body_is_read)
{
#define EXPECTING "PUT / HTTP/1.1\r\nHost: oak\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    int fd;

    http_serve(read_in_pieces, NULL);
    fd = net_plain(http_port);
    net_write(fd, EXPECTING);
    CHECK_STR(http_until(fd, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    net_write(fd, "abc");
    CHECK_STR(http_body(http_until(fd, "abc")), "abc");
    net_write(fd, EXPECTING "def"); /* and who does not wait is not */
    CHECK_EQ(http_status(http_until(fd, "def")), 200);
    close(fd);
}

TEST(who_is_not_asked_is_told_that_the_connection_ends)
{
    http_serve(do_not_read, NULL);
    CHECK_CONTAINS(http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"),
                   "Connection: close\r\n");
    CHECK(!strstr(http_got, "Continue"));
}

static void cap(weald_http_request r, void *user)
{
    void *data = NULL;

    (void)user;
    CHECK_EQ(weald_http_read_all(r, 5, &data, NULL, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK(!data);
    CHECK_EQ(weald_http_reply(r, 413, NULL, NULL, 0, WEALD_FOREVER), 0);
}

TEST(read_all_has_a_cap)
{
    http_serve(cap, NULL);
    CHECK_EQ(http_status(http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 6\r\n\r\nabcdef")), 413);
    CHECK_EQ(http_status(
                 http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n")),
             413);
    CHECK_EQ(http_status(http_ask("PUT / HTTP/1.1\r\nHost: oak\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n")),
             413);
}

enum { UPLOAD = 8 << 20 };
static size_t uploaded;

static void take_upload(weald_http_request r, void *user)
{
    static char buffer[64 << 10];
    int64_t n;

    (void)user;
    while ((n = weald_http_read(r, buffer, sizeof buffer, WEALD_FOREVER)) > 0) {
        uploaded += (size_t)n;
        CHECK_EQ(weald_sleep(WEALD_US(100)), 0);
    }
    CHECK_EQ(n, 0);
    http_reply_text(r, "thanks");
}

static void *upload(void *arg)
{
    static char data[64 << 10];
    int fd = (int)(intptr_t)arg;

    for (size_t done = 0; done < UPLOAD; done += sizeof data)
        CHECK_EQ(weald_write_all(fd, data, sizeof data, NULL, WEALD_FOREVER), 0);
    return NULL;
}

TEST(a_large_upload_goes_as_fast_as_it_is_read)
{
    char head[100];
    int fd;

    http_serve(take_upload, NULL);
    fd = net_plain(http_port);
    snprintf(head, sizeof head, "PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: %d\r\n\r\n", UPLOAD);
    net_write(fd, head);
    weald_close(weald_spawn(upload, (void *)(intptr_t)fd));
    CHECK_STR(http_body(http_until(fd, "thanks")), "thanks");
    CHECK_EQ(uploaded, UPLOAD);
    close(fd);
}
