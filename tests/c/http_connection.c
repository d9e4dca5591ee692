/* Connections that are asked for one request after the other. */
#include "errors.h"
#include "http.h"
#include "starve.h"

static int client; /* the other end */
static weald_http_connection connection;
static int told, told_times;

static void log_it(weald_http_request r, int status, int64_t sent, int64_t took_ns, void *user)
{
    (void)r, (void)sent, (void)took_ns;
    CHECK(user == &told);
    told = status;
    told_times++;
}

static weald_stream a_stream(void)
{
    int ends[2];
    weald_stream s;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    client = ends[1];
    CHECK_GT(s = weald_stream_new(ends[0], NULL), 0);
    return s;
}

static void serve_with(weald_http_options how)
{
    how.size = sizeof how;
    how.log = log_it;
    told = told_times = 0;
    CHECK_GT(connection = weald_http_connection_new(a_stream(), &told, &how), 0);
    CHECK_EQ(weald_kind(connection), WEALD_KIND_HTTP_CONNECTION);
}

static void serve(void) { serve_with((weald_http_options){0}); }

static void say(const char *text) { CHECK_EQ(send(client, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text)); }

static weald_http_request next(void) { return weald_http_next(connection, WEALD_FOREVER); }

/* What has come so far. */
static const char *heard(void)
{
    ssize_t n = recv(client, http_got, sizeof http_got - 1, MSG_DONTWAIT);

    http_got[n > 0 ? n : 0] = 0;
    return http_got;
}

TEST(requests_are_answered_one_by_one)
{
    weald_http_request first, second;

    serve();
    say(HTTP_GET("/1") HTTP_GET("/2"));
    CHECK_GT(first = next(), 0);
    CHECK_STR(weald_http_target(first), "/1");
    http_reply_text(first, "one");
    CHECK_GT(second = next(), 0);
    CHECK(!weald_http_target(first)); /* good until the next call */
    CHECK_STR(weald_http_target(second), "/2");
    CHECK_EQ(weald_http_add_header(second, "Connection", "close"), 0);
    http_reply_text(second, "two");
    CHECK_EQ(next(), 0);
    CHECK_EQ(next(), 0); /* and again */
    CHECK_EQ(told_times, 2);
    CHECK_CONTAINS(http_rest((weald_close(connection), client)), "one");
    CHECK_CONTAINS(http_got, "two");
}

TEST(a_request_that_was_not_answered_is_500)
{
    serve();
    say(HTTP_GET("/"));
    CHECK_GT(next(), 0);
    CHECK_EQ(shutdown(client, SHUT_WR), 0);
    CHECK_EQ(next(), 0);
    CHECK_EQ(http_status(heard()), 500);
    CHECK_EQ(told, 500);
    CHECK_EQ(weald_close(connection), 0);
}

TEST(what_is_no_request_is_refused_and_is_the_last)
{
    serve();
    say("GET /\r\n"); /* told at once, and not when the headers have come */
    CHECK_EQ(shutdown(client, SHUT_WR), 0);
    CHECK_EQ(next(), WEALD_EPROTO);
    CHECK_EQ(told, 400);
    CHECK_EQ(http_status(heard()), 400);
    CHECK_EQ(next(), 0);
    CHECK_EQ(weald_close(connection), 0);

    serve();
    say("GET / HTTP/1.1\r\n");
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_http_next(connection, WEALD_NOW), WEALD_EAGAIN); /* nothing is lost by that */
    CHECK_EQ(weald_http_next(connection, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(shutdown(client, SHUT_WR), 0);
    CHECK_EQ(next(), 0); /* cut short */
    CHECK_EQ(weald_close(connection), 0);

    serve_with((weald_http_options){.head_ns = WEALD_MS(5)});
    say("GET / HTTP/1.1\r\n");
    CHECK_EQ(next(), WEALD_EPROTO); /* too slow */
    CHECK_EQ(told, 408);
    CHECK_EQ(weald_close(connection), 0);

    serve_with((weald_http_options){.head_ns = WEALD_MS(5), .idle_ns = WEALD_MS(5)});
    CHECK_EQ(next(), 0); /* idle */
    CHECK_EQ(weald_close(connection), 0);
}

TEST(a_response_goes_out_before_the_rest_of_a_bad_body_is_found)
{
    weald_http_request r;

    serve();
    say("PUT / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nBad name: x\r\n\r\n");
    CHECK_GT(r = next(), 0);
    http_reply_text(r, "so far so good");
    CHECK_EQ(shutdown(client, SHUT_WR), 0);
    CHECK_EQ(next(), 0);
    CHECK_CONTAINS(heard(), "so far so good");
    CHECK_EQ(weald_close(connection), 0);
}

TEST(a_body_is_asked_for_once)
{
    weald_http_request r;
    char body[4];

    serve();
    say("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nwood");
    CHECK_GT(r = next(), 0);
    CHECK_EQ(weald_http_continue(r, WEALD_FOREVER), 1);
    CHECK_EQ(weald_http_continue(r, WEALD_FOREVER), 0);
    CHECK_STR(heard(), "HTTP/1.1 100 Continue\r\n\r\n");
    CHECK_EQ(weald_http_read(r, body, sizeof body, WEALD_FOREVER), 4);
    http_reply_text(r, "x");
    CHECK_EQ(weald_http_continue(r, WEALD_FOREVER), 0);
    CHECK(!strstr(heard(), "100"));
    /* Who has sent the body unasked goes on, also when it was not read. */
    say("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nwood" HTTP_GET("/behind"));
    CHECK_GT(r = next(), 0);
    http_reply_text(r, "unread");
    CHECK(!strstr(heard(), "Connection: close"));
    CHECK_GT(r = next(), 0);
    CHECK_STR(weald_http_target(r), "/behind");
    CHECK_EQ(weald_http_continue(r, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(connection), 0);
    CHECK(!weald_http_target(r));
}

/* ---- over functions ---- */

static int64_t read_here(void *buffer, size_t len, int64_t deadline, void *user)
{
    (void)user;
    return weald_recv(client, buffer, len, 0, deadline);
}

static int64_t write_here(const void *data, size_t len, int64_t deadline, void *user)
{
    (void)user;
    return weald_send(client, data, len, 0, deadline);
}

TEST(a_connection_may_be_over_functions)
{
    const weald_stream_functions functions = {.size = sizeof functions, .read = read_here, .write = write_here};
    int ends[2];
    weald_http_request r;
    socklen_t len;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    client = ends[0];
    CHECK_GT(connection = weald_http_connection_new(weald_stream_over(&functions, NULL, NULL), NULL, NULL), 0);
    CHECK_EQ(send(ends[1], HTTP_GET("/far"), strlen(HTTP_GET("/far")), MSG_NOSIGNAL), (ssize_t)strlen(HTTP_GET("/far")));
    CHECK_GT(r = next(), 0);
    CHECK_STR(weald_http_target(r), "/far");
    CHECK_EQ(weald_http_peer(r, &len)->sa_family, AF_UNSPEC);
    http_reply_text(r, "away");
    CHECK_EQ(weald_websocket_accept(r, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(shutdown(ends[1], SHUT_WR), 0);
    CHECK_EQ(next(), 0);
    CHECK_EQ(weald_close(connection), 0);
    CHECK_EQ(close(ends[0]), 0);
    CHECK_CONTAINS(http_rest(ends[1]), "away");
}

/* ---- codes ---- */

static int64_t for_ever(void) { return next(); }

static void *wait_for_one(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)next();
}

static weald_http_request current;

static void *read_current(void *unused)
{
    char body[10];
    (void)unused;
    return (void *)(intptr_t)weald_http_read(current, body, sizeof body, WEALD_FOREVER);
}

TEST(next_tells_why_it_has_none)
{
    weald_greenlet g;
    void *value;

    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    serve();
    CHECK_EQ(weald_http_next(connection, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_http_next(connection, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_timeout(for_ever), WEALD_ETIMEDOUT);
    CHECK_EQ(when_killed(for_ever), WEALD_ECANCELED);
    CHECK_EQ(in_a_callback(for_ever), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(for_ever), WEALD_EPERM);
    CHECK_GT(g = weald_spawn(wait_for_one, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(next(), WEALD_EBUSY);
    say("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 10\r\n\r\n"); /* all this has lost nothing */
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_GT(current = (weald_http_request)(intptr_t)value, 0);
    CHECK_GT(g = weald_spawn(read_current, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(next(), WEALD_EBUSY); /* the request before is being read */
    say("0123456789");
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    http_reply_text(current, "x");
    CHECK_GT(g = weald_spawn(wait_for_one, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(connection), 0);
    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_EQ((int64_t)(intptr_t)value, WEALD_EBADF);
    CHECK_EQ(next(), WEALD_EBADF);
}

static int64_t c_done(void) { return weald_http_done(connection); }

static void *kill_me(void *result)
{
    weald_kill(weald_self(), 0, WEALD_NOW);
    *(int64_t *)result = c_done();
    return NULL;
}

TEST(the_stream_can_be_read_between_two_requests)
{
    weald_stream s = a_stream();
    const char *line;
    int64_t code = 0;
    weald_greenlet g;

    CHECK_EQ(weald_set_report_handler(errors_no_report, NULL), 0);
    CHECK_GT(connection = weald_http_connection_new(s, NULL, NULL), 0);
    CHECK_EQ(c_done(), 1); /* there was none */
    CHECK_EQ(in_a_callback(c_done), WEALD_EWOULDBLOCK);
    CHECK_EQ(when_forbidden(c_done), WEALD_EPERM);
    CHECK_GT(g = weald_spawn(kill_me, &code), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(code, WEALD_ECANCELED);
    CHECK_GT(g = weald_spawn(wait_for_one, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(c_done(), WEALD_EBUSY);
    say("PUT / HTTP/1.1\r\nHost: oak\r\nContent-Length: 4\r\n\r\nwoodsomething else\n" HTTP_GET("/2"));
    CHECK_EQ(weald_get(g, (void **)&current, WEALD_FOREVER), 0);
    http_reply_text(current, "x");
    CHECK_EQ(c_done(), 1); /* the answer has gone, and the body is passed over */
    CHECK(!weald_http_target(current));
    CHECK_EQ(http_status(heard()), 200);
    CHECK_EQ(weald_stream_line(s, &line, NULL, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "something else");
    CHECK_GT(current = next(), 0);
    CHECK_STR(weald_http_target(current), "/2");
    CHECK_EQ(weald_http_add_header(current, "Connection", "close"), 0);
    http_reply_text(current, "x");
    CHECK_EQ(c_done(), 0);
    CHECK_EQ(weald_close(connection), 0);
    CHECK_EQ(c_done(), WEALD_EBADF);
}

static int64_t interrupted(void) { return weald_interrupt(weald_self(), -12345) == 0 ? next() : 0; }

TEST(a_binding_s_interruption_ends_nothing)
{
    serve();
    CHECK_EQ(interrupted(), -12345);
    say(HTTP_GET("/"));
    CHECK_GT(next(), 0);
    CHECK_EQ(weald_close(connection), 0);
}

static void of_another_thread(void)
{
    CHECK_EQ(weald_http_next(connection, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_http_done(connection), WEALD_EPERM);
    CHECK_EQ(weald_http_connection_new(connection, NULL, NULL), WEALD_EPERM);
}

TEST(arguments_that_make_no_sense_are_refused)
{
    weald_http_options how = {.size = sizeof how, .name = "a\nb"}, none = {.size = 0};
    weald_stream s = a_stream();

    CHECK_EQ(weald_http_connection_new(s, NULL, &how), WEALD_EINVAL);
    CHECK_EQ(weald_http_connection_new(s, NULL, &none), WEALD_EINVAL);
    how = (weald_http_options){.size = sizeof how, .idle_ns = -1};
    CHECK_EQ(weald_http_connection_new(s, NULL, &how), WEALD_EINVAL);
    CHECK_EQ(weald_http_connection_new(77, NULL, NULL), WEALD_EBADF);
    CHECK_GT(connection = weald_http_connection_new(s, NULL, NULL), 0);
    in_another_thread(of_another_thread);
    CHECK_EQ(weald_close(connection), 0);
    CHECK_EQ(weald_stream_skip(s, 0), WEALD_EBADF); /* it went with the connection */
}

TEST(no_request_is_waited_for_without_memory)
{
    weald_stream s = a_stream();

    serve();
    starve();
    CHECK_EQ(weald_http_connection_new(s, NULL, NULL), WEALD_ENOMEM);
    CHECK_EQ(weald_http_next(connection, weald_after(WEALD_MS(20))), WEALD_ENOMEM);
    feed();
}
