/* An HTTP server in the test's own thread, and a client of plain bytes. */
#ifndef WEALD_TEST_HTTP_H
#define WEALD_TEST_HTTP_H

#include "net.h"

#define HTTP_HOST "Host: oak\r\n"
#define HTTP_GET(target) "GET " target " HTTP/1.1\r\n" HTTP_HOST "\r\n"

static TEST_UNUSED weald_server http_server;
static TEST_UNUSED int http_port;
static TEST_UNUSED int http_seen; /* how many requests have reached a handler */

static TEST_UNUSED void http_serve(weald_http_handler_fn handler, const weald_http_options *options)
{
    CHECK_GT(http_server = weald_http_server_new("127.0.0.1:0", handler, NULL, options), 0);
    CHECK_EQ(weald_server_start(http_server), 0);
    CHECK_GT(http_port = weald_server_port(http_server), 0);
}

/* Waits until `n` connections are left. */
static TEST_UNUSED void http_wait_for(int n)
{
    while (weald_server_count(http_server) != n)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
}

static char http_got[1 << 20];

/* Reads to the end, and closes; all of it, with a NUL. */
static TEST_UNUSED const char *http_rest(int fd)
{
    size_t len = 0;
    int got;

    while ((got = net_read(fd, http_got + len, sizeof http_got - 1 - len)) > 0)
        len += (size_t)got;
    http_got[len] = 0;
    close(fd);
    return http_got;
}

/* Says `request`, and nothing more; what comes back until the other end closes. */
static TEST_UNUSED const char *http_ask_n(const char *request, size_t len)
{
    int fd = net_plain(http_port);

    CHECK_EQ(send(fd, request, len, MSG_NOSIGNAL), (ssize_t)len);
    CHECK_EQ(shutdown(fd, SHUT_WR), 0);
    return http_rest(fd);
}

static TEST_UNUSED const char *http_ask(const char *request) { return http_ask_n(request, strlen(request)); }

/* The status of the first response. */
static TEST_UNUSED int http_status(const char *response)
{
    return strncmp(response, "HTTP/1.1 ", 9) == 0 ? atoi(response + 9) : -1;
}

/* Behind the first head. */
static TEST_UNUSED const char *http_body(const char *response)
{
    const char *body = strstr(response, "\r\n\r\n");
    return body ? body + 4 : "";
}

/* Reads until `text` has come; all that has come since the call. */
static TEST_UNUSED const char *http_until(int fd, const char *text)
{
    size_t len = 0;
    int got;

    http_got[0] = 0;
    while (!strstr(http_got, text)) {
        CHECK_GT(got = net_read(fd, http_got + len, sizeof http_got - 1 - len), 0);
        http_got[len += (size_t)got] = 0;
    }
    return http_got;
}

static TEST_UNUSED void http_reply_text(weald_http_request r, const char *text)
{
    CHECK_EQ(weald_http_reply(r, 200, "text/plain", text, strlen(text), WEALD_FOREVER), 0);
}

/* Answers with the target. */
static TEST_UNUSED void http_say_target(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    http_reply_text(r, weald_http_target(r));
}

/* Answers late. */
static TEST_UNUSED void http_wait_long(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    if (weald_sleep(WEALD_MS(50)) == 0)
        http_reply_text(r, "late");
}

/* Answers with the body. */
static TEST_UNUSED void http_say_body(weald_http_request r, void *user)
{
    void *data;
    size_t len;

    (void)user;
    http_seen++;
    if (weald_http_read_all(r, 1 << 20, &data, &len, WEALD_FOREVER) < 0)
        return;
    CHECK_EQ(weald_http_reply(r, 200, NULL, data, len, WEALD_FOREVER), 0);
    weald_free(data);
}

#endif /* WEALD_TEST_HTTP_H */
