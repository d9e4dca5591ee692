/* Answers of HTTP servers, which are whole or are seen not to be. */
#include "errors.h"
#include "http.h"

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
