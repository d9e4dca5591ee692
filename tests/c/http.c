/* HTTP servers: requests in order, answers that are whole or are seen not to be, and nothing that could be read in two
 * ways. */
#include "errors.h"
#include "http.h"
#include <stdatomic.h>

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

static void wait_long(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    if (weald_sleep(WEALD_MS(50)) == 0)
        http_reply_text(r, "late");
}

TEST(a_server_that_is_shut_drains)
{
    int idle, busy;

    http_serve(wait_long, NULL);
    idle = net_plain(http_port), busy = net_plain(http_port);
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

    http_serve(wait_long, NULL);
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
    http_serve(wait_long, NULL);
    busy = net_plain(http_port), idle = net_plain(http_port);
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

/* ---- answers ---- */

static void in_chunks(weald_http_request r, void *user)
{
    static char large[10000];

    (void)user;
    CHECK_EQ(weald_http_write(r, "x", 1, NULL, WEALD_FOREVER), WEALD_EINVAL); /* not begun */
    CHECK_EQ(weald_http_add_header(r, "Trailer", "X-Sum"), 0);
    CHECK_EQ(weald_http_begin(r, 200, NULL, -1), 0);
    CHECK_EQ(weald_http_begin(r, 200, NULL, -1), WEALD_EALREADY);
    CHECK_EQ(weald_http_write(r, "hello", 5, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_write(r, "", 0, NULL, WEALD_FOREVER), 0); /* no chunk: that would be the last one */
    CHECK_EQ(weald_http_flush(r, WEALD_FOREVER), 0);
    memset(large, 'z', sizeof large);
    CHECK_EQ(weald_http_write(r, large, sizeof large, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_add_header(r, "X-Sum", "7"), 0);
    CHECK_EQ(weald_http_end(r, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_end(r, WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(weald_http_write(r, "x", 1, NULL, WEALD_FOREVER), WEALD_EALREADY);
    CHECK_EQ(weald_http_add_header(r, "A", "b"), WEALD_EALREADY);
}

TEST(an_answer_of_unknown_length_goes_in_chunks)
{
    const char *body;

    http_serve(in_chunks, NULL);
    body = http_body(http_ask(HTTP_GET("/")));
    CHECK_CONTAINS(http_got, "Transfer-Encoding: chunked\r\n");
    CHECK_CONTAINS(http_got, "Trailer: X-Sum\r\n");
    CHECK_EQ(strncmp(body, "5\r\nhello\r\n2710\r\nzzzz", 20), 0);
    CHECK_CONTAINS(body, "zzzz\r\n0\r\nX-Sum: 7\r\n\r\n");
    body = http_body(
        http_ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")); /* who knows no chunks gets all until the end */
    CHECK_EQ(strlen(body), 5 + 10000);
    CHECK_CONTAINS(http_got, "Connection: close\r\n");
    CHECK(!strstr(http_got, "chunked"));
    body = http_body(http_ask("HEAD / HTTP/1.1\r\nHost: oak\r\n\r\n"));
    CHECK_STR(body, "");
    CHECK_CONTAINS(http_got, "Transfer-Encoding: chunked\r\n");
}

static void with_length(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_begin(r, 299, "Fine enough", 10), 0);
    CHECK_EQ(weald_http_write(r, "01234567890", 11, NULL, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_http_write(r, "01234", 5, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_add_header(r, "A", "b"), WEALD_EINVAL);
    CHECK_EQ(weald_http_write(r, "56789", 5, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_end(r, WEALD_FOREVER), 0);
}

TEST(an_answer_of_known_length_has_it)
{
    http_serve(with_length, NULL);
    CHECK_STR(http_body(http_ask(HTTP_GET("/"))), "0123456789");
    CHECK_EQ(strncmp(http_got, "HTTP/1.1 299 Fine enough\r\n", 26), 0);
    CHECK_CONTAINS(http_got, "Content-Length: 10\r\n");
}

static void too_little(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_begin(r, 200, NULL, 10), 0);
    CHECK_EQ(weald_http_write(r, "01234", 5, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_end(r, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_LT(weald_http_write(r, "56789", 5, NULL, WEALD_FOREVER), 0);
}

static void fail_in_the_middle(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    CHECK_EQ(weald_http_begin(r, 200, NULL, -1), 0);
    CHECK_EQ(weald_http_write(r, "01234", 5, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_flush(r, WEALD_FOREVER), 0);
    CHECK_EQ(weald_fail(-5, "no more"), 0);
}

static void end_by_itself(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_begin(r, 200, NULL, -1), 0);
    CHECK_EQ(weald_http_write(r, "01234", 5, NULL, WEALD_FOREVER), 0);
}

TEST(half_an_answer_does_not_look_whole)
{
    http_serve(too_little, NULL);
    CHECK(strlen(http_body(http_ask(HTTP_GET("/") HTTP_GET("/")))) <= 5);
    CHECK_EQ(weald_close(http_server), 0);
    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    http_serve(fail_in_the_middle, NULL);
    CHECK_STR(http_body(http_ask(HTTP_GET("/") HTTP_GET("/"))), "5\r\n01234\r\n");
    CHECK_EQ(http_seen, 1);
    CHECK_EQ(weald_close(http_server), 0);
    http_serve(end_by_itself, NULL);
    CHECK_STR(http_body(http_ask(HTTP_GET("/"))), "5\r\n01234\r\n0\r\n\r\n");
}

static int status_to_say;

static void say_status(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_reply(r, status_to_say, NULL, "body", 4, WEALD_FOREVER), 0);
}

TEST(what_has_no_body_gets_none)
{
    http_serve(say_status, NULL);
    status_to_say = 200;
    CHECK_STR(http_body(http_ask("HEAD / HTTP/1.1\r\nHost: oak\r\n\r\n")), "");
    CHECK_CONTAINS(http_got, "Content-Length: 4\r\n");
    status_to_say = 204;
    CHECK_STR(http_body(http_ask(HTTP_GET("/"))), "");
    CHECK(!strstr(http_got, "Content-Length"));
    status_to_say = 304;
    CHECK_STR(http_body(http_ask(HTTP_GET("/"))), "");
    CHECK_CONTAINS(http_got, "Content-Length: 4\r\n");
}

static void inject(weald_http_request r, void *user)
{
    static const char *const names[] = {"A b", "", "A:", "A\r\nB", "\xfc", "Content-Length", "transfer-encoding"};
    static const char *const values[] = {"a\r\nB: c", "a\nb", "a\rb", "\x01", "\x7f"};

    (void)user;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_EQ(weald_http_add_header(r, names[i], "x"), WEALD_EINVAL);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        CHECK_EQ(weald_http_add_header(r, "A", values[i]), WEALD_EINVAL);
        CHECK_EQ(weald_http_begin(r, 200, values[i], 0), WEALD_EINVAL);
        CHECK_EQ(weald_http_reply(r, 200, values[i], NULL, 0, WEALD_FOREVER), WEALD_EINVAL);
        CHECK_EQ(weald_http_upgrade(r, values[i], WEALD_FOREVER), WEALD_EINVAL);
    }
    CHECK_EQ(weald_http_add_header(r, "Date", "today"), 0);
    CHECK_EQ(weald_http_add_header(r, "X", "\xc3\xbc\t!"), 0);
    CHECK_EQ(weald_http_reply(r, 200, NULL, NULL, 0, WEALD_FOREVER), 0);
}

TEST(nothing_can_be_injected_into_a_head)
{
    weald_http_options options = {.size = sizeof options, .name = "oak"};

    http_serve(inject, &options);
    CHECK_STR(http_ask(HTTP_GET("/")),
              "HTTP/1.1 200 OK\r\nServer: oak\r\nDate: today\r\nX: \xc3\xbc\t!\r\nContent-Length: 0\r\n\r\n");
    options.name = "oak\r\nX: y";
    CHECK_EQ(weald_http_server_new("127.0.0.1:0", inject, NULL, &options), WEALD_EINVAL);
}

enum { DOWNLOAD = 5 << 20 };
static char download[DOWNLOAD];

static int gave;

static void give_download(weald_http_request r, void *user)
{
    (void)user;
    gave = weald_http_reply(r, 200, NULL, download, DOWNLOAD, WEALD_FOREVER);
    http_seen++;
}

TEST(a_large_answer_goes_as_fast_as_it_is_read)
{
    static char part[DOWNLOAD];
    size_t all = 0;
    int fd, got;

    for (size_t i = 0; i < DOWNLOAD; i++)
        download[i] = (char)(i * 7 / 3);
    http_serve(give_download, NULL);
    fd = net_plain(http_port);
    net_write(fd, "GET / HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n");
    while (all < 4 || memcmp(part + all - 4, "\r\n\r\n", 4) != 0) {
        CHECK_EQ(net_read(fd, part + all, 1), 1);
        all++;
    }
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    CHECK_EQ(http_seen, 0); /* it waits for us */
    for (all = 0; (got = net_read(fd, part + all, sizeof part - all)) > 0;)
        all += (size_t)got;
    CHECK_EQ(all, DOWNLOAD);
    CHECK_EQ(memcmp(part, download, DOWNLOAD), 0);
    CHECK_EQ(gave, 0);
    close(fd);
}

TEST(who_does_not_read_is_hung_up_on)
{
    weald_http_options options = {.size = sizeof options, .write_ns = WEALD_MS(40)};
    int fd;

    http_serve(give_download, &options);
    fd = net_plain(http_port);
    net_write(fd, HTTP_GET("/"));
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    CHECK_EQ(weald_server_count(http_server), 1);
    http_wait_for(0);
    CHECK_EQ(gave, WEALD_ETIMEDOUT);
    close(fd);
}

TEST(who_leaves_is_noticed_when_he_is_answered)
{
    int fd;

    http_serve(give_download, NULL);
    fd = net_plain(http_port);
    net_write(fd, HTTP_GET("/"));
    while (weald_server_accepted(http_server) == 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    close(fd);
    http_wait_for(0);
    CHECK(gave == WEALD_EPIPE || gave == WEALD_ECONNRESET);
}

/* ---- files ---- */

static int served_file = -1;

static void give_file(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_begin(r, 200, NULL, weald_http_query(r) ? -1 : 300000), 0);
    CHECK_EQ(weald_http_sendfile(r, served_file, 5, 300000, WEALD_FOREVER), 300000);
    CHECK_EQ(weald_http_end(r, WEALD_FOREVER), 0);
}

static void give_too_much_of_a_file(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_begin(r, 200, NULL, 400000), 0);
    CHECK_EQ(weald_http_sendfile(r, served_file, -1, 1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_http_sendfile(r, served_file, 0, -1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_http_sendfile(r, served_file, 0, 400001, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_http_sendfile(r, served_file, 0, 400000, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_LT(weald_http_end(r, WEALD_FOREVER), 0);
}

TEST(a_file_is_sent_from_the_kernel)
{
    static char data[300005];
    char name[] = "/tmp/weald-test-XXXXXX";

    CHECK_GE(served_file = mkstemp(name), 0);
    CHECK_EQ(unlink(name), 0);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)('a' + i % 23);
    CHECK_EQ(write(served_file, data, sizeof data), (ssize_t)sizeof data);
    http_serve(give_file, NULL);
    CHECK_EQ(memcmp(http_body(http_ask(HTTP_GET("/"))), data + 5, 300000), 0);
    CHECK_EQ(memcmp(http_body(http_ask(HTTP_GET("/?chunked"))), "493e0\r\n", 7), 0);
    CHECK_EQ(memcmp(http_body(http_got) + 7, data + 5, 300000), 0);
    CHECK_STR(http_body(http_got) + 300007, "\r\n0\r\n\r\n");
    http_serve(give_too_much_of_a_file, NULL);
    CHECK_EQ(strlen(http_body(http_ask(HTTP_GET("/") HTTP_GET("/")))), 300005);
}

/* ---- another protocol ---- */

static void upgrade(weald_http_request r, void *user)
{
    const char *line;
    weald_stream s;

    (void)user;
    CHECK_EQ(weald_http_add_header(r, "X", "y"), 0);
    CHECK_GT(s = weald_http_upgrade(r, "shout", WEALD_FOREVER), 0);
    while (weald_stream_line(s, &line, NULL, 100, WEALD_FOREVER) == 1) {
        CHECK_EQ(weald_stream_write(s, line, strlen(line), NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_write(s, "!\n", 2, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
    }
    CHECK_EQ(weald_http_reply(r, 200, NULL, NULL, 0, WEALD_FOREVER), WEALD_EALREADY);
}

TEST(a_connection_is_handed_over_to_another_protocol)
{
    http_serve(upgrade, NULL);
    CHECK_STR(
        http_ask("GET / HTTP/1.1\r\nHost: oak\r\nUpgrade: shout\r\nConnection: upgrade\r\n\r\nfirst\nsecond\n"),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\nX: y\r\n\r\nfirst!\nsecond!\n");
    http_wait_for(0);
}

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
    http_serve(wait_long, NULL);
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
