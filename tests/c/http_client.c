/* HTTP clients: connections that are used again, redirects, bodies both ways, and servers that are not what they should
 * be. */
#include "errors.h"
#include "http.h"
#include "starve.h"
#include "tls.h"

static weald_http_client client;

static const char *at(const char *target)
{
    static char urls[4][200];
    static int next;
    char *url = urls[next++ % 4];

    snprintf(url, sizeof urls[0], "http://127.0.0.1:%d%s", http_port, target);
    return url;
}

static weald_http_response get(const char *target)
{
    weald_http_response r;

    if (!client)
        CHECK_GT(client = weald_http_client_new(NULL), 0);
    CHECK_GT(r = weald_http_fetch(client, at(target), NULL, WEALD_FOREVER), 0);
    return r;
}

/* All of it, in memory that the next call overwrites. */
static const char *body_of(weald_http_response r)
{
    static char text[1 << 16];
    void *data;
    size_t len;

    CHECK_EQ(weald_http_response_read_all(r, sizeof text - 1, &data, &len, WEALD_FOREVER), 0);
    memcpy(text, data, len + 1);
    weald_free(data);
    return text;
}

/* ---- a server that does what its target says ---- */

static void say_request(weald_http_request r)
{
    char text[2000];
    const char *name, *value;
    void *data;
    size_t len;
    int n = snprintf(text, sizeof text, "%s %s;", weald_http_method(r), weald_http_target(r));

    for (size_t i = 0; weald_http_header_at(r, i, &name, &value) == 1; i++)
        if (strcmp(name, "Host") != 0)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s=%s;", name, value);
    CHECK_EQ(weald_http_read_all(r, 1000, &data, &len, WEALD_FOREVER), 0);
    n += snprintf(text + n, sizeof text - (size_t)n, "%s", (char *)data);
    weald_free(data);
    http_reply_text(r, text);
}

static void redirect(weald_http_request r, int status, const char *location)
{
    CHECK_EQ(weald_http_add_header(r, "Location", location), 0);
    CHECK_EQ(weald_http_reply(r, status, NULL, "moved", 5, WEALD_FOREVER), 0);
}

static weald_event gate;

static void do_as_told(weald_http_request r, void *user)
{
    const char *target = weald_http_target(r);
    char text[100];
    int n;

    (void)user;
    http_seen++;
    if (strcmp(target, "/chunks") == 0) {
        CHECK_EQ(weald_http_begin(r, 200, NULL, -1), 0);
        for (int i = 0; i < 5; i++) {
            CHECK_EQ(weald_http_write(r, "piece ", 6, NULL, WEALD_FOREVER), 0);
            CHECK_EQ(weald_http_flush(r, WEALD_FOREVER), 0);
        }
    } else if (strcmp(target, "/close") == 0) {
        CHECK_EQ(weald_http_add_header(r, "Connection", "close"), 0);
        http_reply_text(r, "bye");
    } else if (sscanf(target, "/to/%d/%99s", &n, text) == 2) {
        redirect(r, n, text[0] == 'h' ? text : target + 8);
    } else if (sscanf(target, "/again/%d", &n) == 1) {
        snprintf(text, sizeof text, "%d", n + 1);
        redirect(r, 302, text);
    } else if (strcmp(target, "/missing") == 0) {
        CHECK_EQ(weald_http_reply(r, 404, "text/plain", "no", 2, WEALD_FOREVER), 0);
    } else if (strcmp(target, "/nothing") == 0) {
        CHECK_EQ(weald_http_reply(r, 204, NULL, NULL, 0, WEALD_FOREVER), 0);
    } else if (strcmp(target, "/large") == 0) {
        static char large[1 << 20];
        weald_http_reply(r, 200, NULL, large, sizeof large, WEALD_FOREVER);
    } else if (strcmp(target, "/half") == 0) {
        CHECK_EQ(weald_http_begin(r, 200, NULL, 10), 0);
        CHECK_EQ(weald_http_write(r, "half", 4, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_http_flush(r, WEALD_FOREVER), 0);
        if (gate)
            weald_event_wait(gate, WEALD_FOREVER);
    } else if (strcmp(target, "/silent") == 0) {
        weald_event_wait(gate, WEALD_FOREVER);
    } else {
        say_request(r);
    }
}

TEST(a_response_is_what_the_server_says)
{
    weald_http_response r;
    const char *name, *value;

    http_serve(do_as_told, NULL);
    r = get("/a?b");
    CHECK_EQ(weald_kind(r), WEALD_KIND_HTTP_RESPONSE);
    CHECK_EQ(weald_kind(client), WEALD_KIND_HTTP_CLIENT);
    CHECK_EQ(weald_http_response_status(r), 200);
    CHECK_STR(weald_http_response_reason(r), "OK");
    CHECK_STR(weald_http_response_url(r), at("/a?b"));
    CHECK_STR(weald_http_response_header(r, "content-TYPE"), "text/plain");
    CHECK(!weald_http_response_header(r, "X"));
    CHECK_EQ(weald_http_response_header_at(r, 0, &name, &value), 1);
    CHECK_STR(name, "Date");
    CHECK_EQ(weald_http_response_header_at(r, 99, &name, &value), 0);
    CHECK_GT(weald_http_response_left(r), 0);
    CHECK_STR(body_of(r), "GET /a?b;User-Agent=weald/" WEALD_VERSION ";Accept=*/*;");
    CHECK_EQ(weald_http_response_left(r), 0);
    CHECK_EQ(weald_http_response_read(r, http_got, 10, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(r), 0);
    r = get("/missing");
    CHECK_EQ(weald_http_response_status(r), 404);
    CHECK_STR(weald_http_response_reason(r), "Not Found");
    CHECK_EQ(weald_close(r), 0);
    r = get("/nothing");
    CHECK_EQ(weald_http_response_status(r), 204);
    CHECK_STR(body_of(r), "");
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_close(client), 0);
}

TEST(a_connection_is_used_again)
{
    weald_http_response r, other;

    http_serve(do_as_told, NULL);
    for (int i = 0; i < 5; i++) {
        r = get(i % 2 ? "/chunks" : "/a");
        if (i % 2)
            CHECK_STR(body_of(r), "piece piece piece piece piece ");
        CHECK_EQ(weald_close(r), 0);
        CHECK_EQ(weald_http_client_idle(client), 1);
    }
    CHECK_EQ(weald_server_accepted(http_server), 1);
    r = get("/a"), other = get("/b"); /* two at a time need two */
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_close(other), 0);
    CHECK_EQ(weald_server_accepted(http_server), 2);
    CHECK_EQ(weald_http_client_idle(client), 2);
    r = get("/close");
    CHECK_STR(body_of(r), "bye");
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_http_client_idle(client), 1);
    r = get("/large"); /* nobody reads so much for the sake of a connection */
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_http_client_idle(client), 0);
    CHECK_EQ(weald_close(client), 0);
    http_wait_for(0);
}

TEST(a_connection_that_the_server_has_closed_is_not_used_again)
{
    weald_http_options options = {.size = sizeof options, .idle_ns = WEALD_MS(10)};

    http_serve(do_as_told, &options);
    CHECK_EQ(weald_close(get("/a")), 0);
    CHECK_EQ(weald_http_client_idle(client), 1);
    http_wait_for(0);
    CHECK_EQ(weald_close(get("/a")), 0);
    CHECK_EQ(weald_server_accepted(http_server), 2);
}

static int hang_up_on_the_second(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char text[1000];

    (void)peer, (void)peer_len, (void)user;
    http_seen++;
    CHECK_GT(net_read(fd, text, sizeof text), 0);
    net_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    CHECK_GT(net_read(fd, text, sizeof text), 0);
    if (user)
        net_write(fd, (const char *)user);
    return 0;
}

static void serve_plainly(weald_stream_handler_fn handler, void *user)
{
    CHECK_GT(http_server = weald_server_new("127.0.0.1:0", handler, user, NULL), 0);
    CHECK_EQ(weald_server_start(http_server), 0);
    http_port = weald_server_port(http_server);
}

TEST(what_may_be_asked_twice_is_when_the_server_hangs_up_just_then)
{
    weald_http_fetch_options post = {.size = sizeof post, .body = "x", .body_len = 1};

    serve_plainly(hang_up_on_the_second, NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(get("/a")), 0);
    CHECK_EQ(http_seen, 3);
    CHECK_EQ(weald_http_fetch(client, at("/a"), &post, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(http_seen, 3);
}

TEST(who_has_begun_to_answer_is_not_asked_again)
{
    serve_plainly(hang_up_on_the_second, (void *)(intptr_t)"HTTP/1.1 103 Early Hints\r\n\r\n");
    CHECK_EQ(weald_close(get("/a")), 0);
    CHECK_EQ(weald_http_fetch(client, at("/a"), NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(http_seen, 1);
}

TEST(redirects_are_followed)
{
    weald_http_client_options options = {.size = sizeof options, .max_redirects = -1};
    weald_http_fetch_options post = {.size = sizeof post, .body = "x", .body_len = 1};
    weald_http_response r;

    http_serve(do_as_told, NULL);
    r = get("/to/301/x");
    CHECK_STR(weald_http_response_url(r), at("/to/301/x"));
    CHECK_EQ(weald_http_response_status(r), 301); /* to itself, ten times */
    CHECK_EQ(http_seen, 11);
    CHECK_EQ(weald_close(r), 0);
    r = get("/again/1");
    CHECK_EQ(http_seen, 22);
    CHECK_STR(weald_http_response_url(r), at("/again/11"));
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_server_accepted(http_server), 1);
    for (int status = 301; status <= 308; status = status == 303 ? 307 : status + 1) {
        char target[200], wanted[100];
        snprintf(target, sizeof target, "/to/%d/http://127.0.0.1:%d/there", status, http_port);
        CHECK_GT(r = weald_http_fetch(client, at(target), &post, WEALD_FOREVER), 0);
        snprintf(wanted, sizeof wanted, "%s /there;", status < 307 ? "GET" : "POST");
        CHECK_EQ(strncmp(body_of(r), wanted, strlen(wanted)), 0);
        CHECK_EQ(weald_close(r), 0);
    }
    CHECK_EQ(weald_close(client), 0);
    CHECK_GT(client = weald_http_client_new(&options), 0);
    r = get("/again/1");
    CHECK_EQ(weald_http_response_status(r), 302);
    CHECK_EQ(weald_close(r), 0);
}

static int pieces_left;
static int64_t give_piece(void *buffer, size_t size, void *user)
{
    CHECK_PTR(user, &pieces_left);
    CHECK_GE(size, 6);
    CHECK_EQ(weald_yield(), 0);
    if (pieces_left < 0)
        return -1234;
    memcpy(buffer, "piece ", 6);
    return pieces_left-- > 0 ? 6 : 0;
}

TEST(a_request_has_what_it_is_given)
{
    const char *const headers[] = {"X-A", "b", "Accept", "c", "User-Agent", "me", NULL};
    weald_http_fetch_options how = {.size = sizeof how, .headers = headers};
    weald_http_response r;

    http_serve(do_as_told, NULL);
    CHECK_GT(client = weald_http_client_new(NULL), 0);
    CHECK_GT(r = weald_http_fetch(client, at(""), &how, WEALD_FOREVER), 0);
    CHECK_STR(body_of(r), "GET /;X-A=b;Accept=c;User-Agent=me;");
    CHECK_EQ(weald_close(r), 0);
    how.body = "hello", how.body_len = 5;
    CHECK_GT(r = weald_http_fetch(client, at("/p"), &how, WEALD_FOREVER), 0);
    CHECK_STR(body_of(r), "POST /p;X-A=b;Accept=c;User-Agent=me;Content-Length=5;hello");
    CHECK_EQ(weald_close(r), 0);
    how.body = NULL, how.body_len = 0, how.body_fn = give_piece, how.user = &pieces_left, how.method = "PUT",
    pieces_left = 3;
    CHECK_GT(r = weald_http_fetch(client, at("/p"), &how, WEALD_FOREVER), 0);
    CHECK_STR(body_of(r), "PUT /p;X-A=b;Accept=c;User-Agent=me;Transfer-Encoding=chunked;piece piece piece ");
    CHECK_EQ(weald_close(r), 0);
    pieces_left = -1;
    CHECK_EQ(weald_http_fetch(client, at("/p"), &how, WEALD_FOREVER), -1234);
    how.body_fn = NULL, how.method = "HEAD";
    CHECK_GT(r = weald_http_fetch(client, at("/large"), &how, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_response_left(r), 0);
    CHECK_STR(weald_http_response_header(r, "Content-Length"), "1048576");
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_http_client_idle(client), 1);
}

/* A body that is another response's. */
static int64_t pass_on(void *buffer, size_t size, void *user)
{
    weald_http_response *from = user;

    if (!*from)
        CHECK_GT(*from = weald_http_fetch(client, at("/chunks"), NULL, WEALD_FOREVER), 0);
    return weald_http_response_read(*from, buffer, size, WEALD_FOREVER);
}

TEST(a_body_may_be_fetched_while_it_is_sent)
{
    weald_http_response from = 0, r;
    weald_http_fetch_options how = {.size = sizeof how, .body_fn = pass_on, .user = &from};

    http_serve(do_as_told, NULL);
    CHECK_GT(client = weald_http_client_new(NULL), 0);
    CHECK_GT(r = weald_http_fetch(client, at("/p"), &how, WEALD_FOREVER), 0);
    CHECK_CONTAINS(body_of(r), "Transfer-Encoding=chunked;piece piece piece piece piece ");
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_close(from), 0);
    CHECK_EQ(weald_http_client_idle(client), 2);
}

/* ---- servers that are not what they should be ---- */

static int say(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char text[1000];

    (void)peer, (void)peer_len;
    CHECK_GT(net_read(fd, text, sizeof text), 0);
    net_write(fd, (const char *)user);
    return 0;
}

static int64_t ask_one_that_says(const char *text)
{
    int64_t r;

    serve_plainly(say, (void *)(intptr_t)text);
    if (!client)
        CHECK_GT(client = weald_http_client_new(NULL), 0);
    r = weald_http_fetch(client, at("/"), NULL, WEALD_FOREVER);
    CHECK_EQ(weald_close(http_server), 0);
    return r;
}

TEST(a_server_that_does_not_speak_http_is_eproto)
{
    static const char *const wrong[] = {
        "SSH-2.0-x\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "\x15\x03\x01\x00\x02\x02",
    };
    char many[3000] = "";

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(ask_one_that_says(wrong[i]), WEALD_EPROTO);
    for (int i = 0; i < 20; i++)
        strcat(many, "HTTP/1.1 100 Continue\r\n\r\n");
    CHECK_EQ(ask_one_that_says(many), WEALD_EPROTO);
    CHECK_EQ(ask_one_that_says("HTTP/1.1 200 OK\r\nA: b"), WEALD_EPIPE);
    CHECK_EQ(ask_one_that_says(""), WEALD_EPIPE);
}

/* A head of `size` bytes, with a body behind it. */
static const char *head_of(size_t size)
{
    static char text[400000];
    int n = sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: ");

    memset(text + n, 'a', size - (size_t)n - 4);
    strcpy(text + size - 4, "\r\n\r\nhello");
    return text;
}

TEST(a_response_s_head_may_be_as_long_as_the_client_says)
{
    static const size_t sizes[] = {256, 65535, 65536, 65537, 300000};
    weald_http_client_options how = {.size = sizeof how};
    int64_t r;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        how.max_head = sizes[i];
        CHECK_GT(client = weald_http_client_new(&how), 0);
        CHECK_GT(r = ask_one_that_says(head_of(sizes[i])), 0);
        CHECK_EQ(strlen(weald_http_response_header(r, "a")), sizes[i] - 43);
        CHECK_STR(body_of(r), "hello");
        CHECK_EQ(weald_close(r), 0);
        CHECK_EQ(ask_one_that_says(head_of(sizes[i] + 1)), WEALD_EPROTO);
        CHECK_EQ(weald_close(client), 0);
    }
    client = 0; /* as usual: 64 KiB */
    CHECK_GT(r = ask_one_that_says(head_of(65536)), 0);
    CHECK_EQ(ask_one_that_says(head_of(65537)), WEALD_EPROTO);
}

static char told[1000];

static void tell(weald_http_response r, void *user)
{
    const char *link = weald_http_response_header(r, "Link");
    char text[1];

    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_STR(weald_http_response_url(r), (const char *)user);
    CHECK_EQ(weald_http_response_left(r), 0);
    CHECK_EQ(weald_http_response_read(r, text, 1, WEALD_FOREVER), 0);
    sprintf(told + strlen(told), "%d %s;", weald_http_response_status(r), link ? link : "-");
}

TEST(interim_responses_are_told_or_passed_over)
{
    static const char text[] = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    weald_http_fetch_options how = {.size = sizeof how, .interim_fn = tell};
    int64_t r;

    CHECK_GT(r = ask_one_that_says(text), 0);
    CHECK_STR(body_of(r), "hello");
    CHECK_EQ(weald_close(r), 0);
    CHECK_STR(told, "");
    serve_plainly(say, (void *)(intptr_t)text);
    how.user = (void *)(intptr_t)at("/x");
    CHECK_GT(r = weald_http_fetch(client, how.user, &how, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_response_status(r), 200);
    CHECK_STR(body_of(r), "hello");
    CHECK_EQ(weald_close(r), 0);
    CHECK_STR(told, "102 -;103 </a>;");
    /* Nobody has asked for another protocol. */
    CHECK_EQ(ask_one_that_says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), WEALD_EPROTO);
}

TEST(a_body_without_a_length_ends_with_the_connection)
{
    int64_t r;

    CHECK_GT(r = ask_one_that_says("HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.0 200\r\n\r\nall of it"), 0);
    CHECK_STR(weald_http_response_reason(r), "");
    CHECK_EQ(weald_http_response_left(r), -1);
    CHECK_STR(body_of(r), "all of it");
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_http_client_idle(client), 0);
    CHECK_GT(r = ask_one_that_says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx"), 0);
    CHECK_EQ(weald_http_response_read(r, http_got, 10, WEALD_FOREVER), 3);
    CHECK_EQ(weald_http_response_read(r, http_got, 10, WEALD_FOREVER), WEALD_EPROTO);
    CHECK_EQ(weald_close(r), 0);
}

TEST(a_client_outlived_by_its_responses)
{
    weald_http_response r;

    http_serve(do_as_told, NULL);
    r = get("/a");
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(strncmp(body_of(r), "GET /a;", 7), 0);
    CHECK_EQ(weald_close(r), 0);
    http_wait_for(0); /* the connection went with it */
}

/* ---- over TLS ---- */

static int cuts(weald_stream s, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    int fd = weald_stream_fd(s);

    (void)peer, (void)peer_len, (void)user;
    CHECK_GT(weald_stream_fill(s, 1, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_write(s, "HTTP/1.1 200 OK\r\n\r\nhalf", 23, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
    CHECK_EQ(shutdown(fd, SHUT_WR), 0); /* without a word */
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    return 0;
}

TEST(https_is_http_over_tls)
{
    weald_server_options below = {.size = sizeof below, .tls = tls_server("server")};
    weald_http_options how = {.size = sizeof how, .server = &below};
    weald_http_client_options knows = {.size = sizeof knows, .tls = tls_client()};
    weald_http_response r;
    char url[100];
    void *data;

    CHECK_GT(http_server = weald_http_server_new("127.0.0.1:0", do_as_told, NULL, &how), 0);
    CHECK_EQ(weald_server_start(http_server), 0);
    http_port = weald_server_port(http_server);
    CHECK_GT(client = weald_http_client_new(&knows), 0);
    snprintf(url, sizeof url, "https://127.0.0.1:%d/chunks", http_port);
    for (int i = 0; i < 3; i++) {
        CHECK_GT(r = weald_http_fetch(client, url, NULL, WEALD_FOREVER), 0);
        CHECK_STR(body_of(r), "piece piece piece piece piece ");
        CHECK_EQ(weald_close(r), 0);
    }
    CHECK_EQ(weald_server_accepted(http_server), 1);
    snprintf(url, sizeof url, "https://127.0.0.1:%d/to/302/%s", http_port, at("/secret")); /* which is not followed */
    CHECK_GT(r = weald_http_fetch(client, url, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_response_status(r), 302);
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_http_fetch(client, at("/"), NULL, WEALD_FOREVER), WEALD_EPROTO); /* it is told so, by TLS */
    CHECK_EQ(weald_close(client), 0);
    CHECK_GT(client = weald_http_client_new(NULL), 0); /* trusts whom the system trusts */
    CHECK_EQ(weald_http_fetch(client, url, NULL, WEALD_FOREVER), WEALD_ECERTIFICATE);
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(weald_close(http_server), 0);
    knows.tls = below.tls;
    CHECK_EQ(weald_http_client_new(&knows), WEALD_EINVAL); /* a server's */

    CHECK_GT(http_server = weald_stream_server_new("127.0.0.1:0", cuts, NULL, &below), 0);
    CHECK_EQ(weald_server_start(http_server), 0);
    snprintf(url, sizeof url, "https://127.0.0.1:%d/", weald_server_port(http_server));
    knows.tls = tls_client();
    CHECK_GT(client = weald_http_client_new(&knows), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_GT(r = weald_http_fetch(client, url, NULL, WEALD_FOREVER), 0);
        if (i == 0) {
            CHECK_EQ(weald_http_response_read(r, http_got, 4, WEALD_FOREVER), 4);
            CHECK_EQ(weald_http_response_read(r, http_got, 4, WEALD_FOREVER), WEALD_ECONNABORTED);
        } else {
            CHECK_EQ(weald_http_response_read_all(r, 10, &data, NULL, WEALD_FOREVER), WEALD_ECONNABORTED);
        }
        CHECK_EQ(weald_close(r), 0);
    }
}

/* ---- codes ---- */

static weald_http_response response;
static int64_t f_fetch(int64_t d)
{
    int64_t r = weald_http_fetch(client, at("/silent"), NULL, d);
    if (r > 0)
        CHECK_EQ(weald_close(r), 0);
    return r;
}
static int64_t f_read(int64_t d) { return weald_http_response_read(response, http_got, 10, d); }
static int64_t f_read_all(int64_t d)
{
    void *data = NULL;
    int64_t code = weald_http_response_read_all(response, 100, &data, NULL, d);
    weald_free(data);
    return code;
}

static const struct transfer calls[] = {
    {"weald_http_fetch", f_fetch, NULL, 0, NULL, 0},
    {"weald_http_response_read", f_read, NULL, 0, NULL, 0},
    {"weald_http_response_read_all", f_read_all, NULL, 0, NULL, 0},
};
enum { CALLS = sizeof calls / sizeof *calls };
static const struct transfer *current;
static int64_t for_ever(void) { return current->call(WEALD_FOREVER); }

/* A server from which nothing comes, until `gate` is set. */
static void prepare(void)
{
    CHECK_GT(gate = weald_event_new(0), 0);
    http_serve(do_as_told, NULL);
    response = get("/half");
    CHECK_EQ(weald_http_response_read(response, http_got, 4, WEALD_FOREVER), 4);
}

static void finish(void)
{
    weald_close(response);
    CHECK_GE(weald_server_stop(http_server, WEALD_NOW), 0);
    CHECK_EQ(weald_close(gate), 0);
    CHECK_EQ(weald_close(client), 0);
    client = 0;
}

#define EACH_CALL (current = calls; current < calls + CALLS; current++)
#define CHECK_FRESH(got, wanted)                                                  \
    do {                                                                          \
        prepare();                                                                \
        TRANSFER_CHECK(current, got, wanted);                                     \
        finish();                                                                 \
    } while (0)

static void *make_current(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)current->call(WEALD_FOREVER);
}

TEST(calls_of_clients_tell_why_they_did_not_wait)
{
    for EACH_CALL {
        CHECK_FRESH(current->call(WEALD_NOW), WEALD_EAGAIN);
        CHECK_FRESH(current->call(weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
        CHECK_FRESH(in_a_timeout(for_ever), WEALD_ETIMEDOUT);
        CHECK_FRESH(when_killed(for_ever), WEALD_ECANCELED);
        CHECK_FRESH(in_a_callback(for_ever), WEALD_EWOULDBLOCK);
        CHECK_FRESH(when_forbidden(for_ever), WEALD_EPERM);
        if (current == calls)
            continue;
        prepare();
        weald_close(weald_spawn(make_current, NULL));
        CHECK_EQ(weald_yield(), 0);
        TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_EBUSY);
        finish();
        TRANSFER_CHECK(current, current->call(WEALD_FOREVER), WEALD_EBADF);
    }
}

static int keeps_quiet(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char text[1000];
    struct linger at_once = {1, 0};

    (void)peer, (void)peer_len;
    CHECK_GT(net_read(fd, text, sizeof text), 0);
    if (user)
        net_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    return 0;
}

TEST(a_server_that_resets_is_noticed)
{
    for EACH_CALL {
        serve_plainly(keeps_quiet, current == calls ? NULL : (void *)1);
        CHECK_GT(client = weald_http_client_new(NULL), 0);
        if (current != calls) {
            CHECK_GT(response = weald_http_fetch(client, at("/"), NULL, WEALD_FOREVER), 0);
            CHECK_EQ(weald_http_response_read(response, http_got, 3, WEALD_FOREVER), 3);
        }
        TRANSFER_CHECK(current, for_ever(), WEALD_ECONNRESET);
        CHECK_EQ(weald_close(http_server), 0);
    }
}

static int hangs_up_in_the_middle(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char text[1000];

    (void)peer, (void)peer_len;
    CHECK_GT(net_read(fd, text, sizeof text), 0);
    net_write(fd, (const char *)user);
    return 0;
}

TEST(bodies_that_break_off_are_wrong_or_too_long)
{
    static const struct {
        const char *text;
        int code;
    } bodies[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", WEALD_EPIPE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", WEALD_EPIPE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", WEALD_EPROTO},
        {"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", WEALD_EMSGSIZE},
    };

    for (current = calls + 1; current < calls + CALLS; current++)
        for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
            serve_plainly(hangs_up_in_the_middle, (void *)(intptr_t)bodies[i].text);
            CHECK_GT(client = weald_http_client_new(NULL), 0);
            CHECK_GT(response = weald_http_fetch(client, at("/"), NULL, WEALD_FOREVER), 0);
            if (bodies[i].code != WEALD_EMSGSIZE || current->call == f_read_all)
                TRANSFER_CHECK(current, for_ever(), bodies[i].code);
            CHECK_EQ(weald_close(response), 0);
            CHECK_EQ(weald_close(http_server), 0);
        }
}

TEST(wrong_arguments_of_clients_are_einval)
{
    static const char *const urls[] = {
        "", "oak", "ftp://oak/", "http://", "http://a b/", "http://oak/\r\n", "http://me@oak/", "http://oak/\xfc"};
    static const char *const bad[][3] = {{"A b", "c"}, {"A", "b\r\nC: d"}, {"Host", "elm"}, {"Content-Length", "1"},
                                         {"transfer-encoding", "x"}, {"Connection", "close"}, {"A", NULL}};
    weald_http_fetch_options how = {.size = sizeof how};
    weald_http_client_options late = {.size = sizeof late, .idle_ns = -1},
                              many = {.size = sizeof many, .max_redirects = -2},
                              named = {.size = sizeof named, .name = "a\nb"}, short_one = {.size = 3},
                              foreign = {.size = sizeof foreign, .tls = 12345};
    weald_group group;

    CHECK_EQ(weald_http_client_new(&late), WEALD_EINVAL);
    CHECK_EQ(weald_http_client_new(&many), WEALD_EINVAL);
    CHECK_EQ(weald_http_client_new(&named), WEALD_EINVAL);
    CHECK_EQ(weald_http_client_new(&short_one), WEALD_EINVAL);
    CHECK_EQ(weald_http_client_new(&foreign), WEALD_EBADF);
    CHECK_GT(client = weald_http_client_new(NULL), 0);
    CHECK_EQ(weald_http_fetch(client, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        CHECK_EQ(weald_http_fetch(client, urls[i], NULL, WEALD_FOREVER), WEALD_EINVAL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        how.headers = bad[i];
        CHECK_EQ(weald_http_fetch(client, "http://127.0.0.1:1/", &how, WEALD_FOREVER), WEALD_EINVAL);
    }
    how.headers = NULL;
    for (int i = 0; i < 3; i++) {
        how.method = (const char *[]){"", "GET /", "CONNECT"}[i];
        CHECK_EQ(weald_http_fetch(client, "http://127.0.0.1:1/", &how, WEALD_FOREVER), WEALD_EINVAL);
    }
    CHECK_EQ(weald_http_fetch(client, "http://nobody.invalid/", NULL, WEALD_FOREVER), WEALD_EAI_NONAME);
    CHECK_EQ(weald_http_fetch(client, "http://127.0.0.1:1/", NULL, WEALD_FOREVER), WEALD_ECONNREFUSED);
    CHECK_GT(group = weald_group_new(), 0);
    CHECK_EQ(weald_http_fetch(group, "http://127.0.0.1:1/", NULL, WEALD_FOREVER), WEALD_EBADF);
    net_no_more_fds();
    CHECK_EQ(weald_http_fetch(client, "http://127.0.0.1:1/", NULL, WEALD_FOREVER), WEALD_EMFILE);
    net_fds_again();
}

static int64_t wanted_code;

static void with_another(void)
{
    void *data;

    CHECK_EQ(weald_http_client_idle(client), wanted_code);
    CHECK_EQ(weald_http_fetch(client, "http://127.0.0.1:1/", NULL, WEALD_FOREVER), wanted_code);
    CHECK_EQ(weald_http_response_status(response), wanted_code);
    CHECK_EQ(weald_http_response_header_at(response, 0, NULL, NULL), wanted_code);
    CHECK_EQ(weald_http_response_left(response), wanted_code);
    CHECK_EQ(weald_http_response_read(response, http_got, 1, WEALD_FOREVER), wanted_code);
    CHECK_EQ(weald_http_response_read_all(response, 1, &data, NULL, WEALD_FOREVER), wanted_code);
    CHECK_EQ(weald_http_response_read(response, NULL, 1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_http_response_read_all(response, 1, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK(!weald_http_response_reason(response) && !weald_http_response_url(response));
    CHECK(!weald_http_response_header(response, "Date"));
}

TEST(clients_and_responses_are_of_their_thread_and_end)
{
    http_serve(do_as_told, NULL);
    response = get("/a");
    CHECK(!weald_http_response_header(response, NULL));
    wanted_code = WEALD_EPERM;
    in_another_thread(with_another);
    CHECK_EQ(weald_close(response), 0);
    CHECK_EQ(weald_close(client), 0);
    wanted_code = WEALD_EBADF;
    with_another();
}

TEST(nothing_is_fetched_without_memory)
{
    prepare();
    starve();
    CHECK_EQ(weald_http_client_new(NULL), WEALD_ENOMEM);
    for EACH_CALL
        TRANSFER_CHECK(current, current->call(soon()), WEALD_ENOMEM);
    feed();
}

/* What is waited for is another process's, so that nothing here can end the wait. */
TEST(clients_in_a_child_that_a_callback_has_forked_meanwhile)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = net_address("127.0.0.1", 0);
    pid_t server;

    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(listen(listener, 10), 0);
    http_port = net_port(listener);
    server = fork();
    CHECK_GE(server, 0);
    if (server == 0)
        for (;;) {
            int fd = accept(listener, NULL, NULL);
            char text[1000];
            if (read(fd, text, sizeof text) > 0 && strstr(text, "/half"))
                net_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            usleep(400000); /* by then both have looked */
            net_write(fd, strstr(text, "/half") ? "123456" : "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            close(fd);
        }
    for EACH_CALL {
        CHECK_GT(client = weald_http_client_new(NULL), 0);
        if (current != calls) {
            response = get("/half");
            CHECK_EQ(weald_http_response_read(response, http_got, 4, WEALD_FOREVER), 4);
        }
        errors_child = -1;
        TRANSFER_CHECK(current, in_a_forked_child(for_ever), WEALD_EDEADLK);
        CHECK_EQ(weald_close(client), 0);
    }
    CHECK_EQ(kill(server, SIGKILL), 0);
}
