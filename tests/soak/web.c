/* HTTP, WebSocket and TLS for as long as one likes: the other half of `make soak`, beside soak.c.
 *
 * Two servers, one of them with TLS, and sessions that fetch and upload, hold long polls, listen to events, talk over
 * WebSocket, whole and in parts, compressed and not, and say what is no HTTP at all. Each checks every byte that it gets.
 * Meanwhile they are killed, or late, or leave in the middle; the servers are stopped and made anew; descriptors run out
 * for moments.
 *
 * A session may fail only for a reason that it knows of. Every ten seconds (every tenth of a shorter run) all of them
 * end and the rest is counted: what is there after the first tenth is what there may be at the end.
 *
 *     SOAK_SECONDS=600     for how long
 *     WEALD_TEST_SEED=n    draws from this; what the clock decides is not repeated
 */
#include "sessions.h"
#include "../c/tls.h"

enum { SESSIONS = 24, LARGEST = 60000, PIECE = 5000 };

static struct {
    long sessions, requests, uploads, polls, events, messages, parts, nonsense, bytes, left, killed, late, cut;
} count;

/* ---- what every byte should be ---- */

static char pattern[LARGEST + 256];

static const char *piece(unsigned place) { return pattern + place % 251; }

static void fill_pattern(void)
{
    uint32_t x = 12345;

    for (size_t i = 0; i < sizeof pattern; i++) {
        x = x * 1664525 + 1013904223;
        pattern[i] = (char)('!' + (x >> 24) % 90); /* text as well */
    }
}

static size_t some_length(void) { return one_in(6) ? below(LARGEST + 1) : one_in(3) ? below(3000) : below(100); }

/* ---- the servers ---- */

static weald_server servers[2]; /* the second has TLS */
static int ports[2], the_file = -1;
static weald_tls_config server_config, client_config;

static void answer_socket(weald_http_request r)
{
    weald_websocket_options how = {.size = sizeof how, .flags = WEALD_WEBSOCKET_DEFLATE, .max_message = LARGEST};
    weald_websocket w = weald_websocket_accept(r, &how, weald_after(WEALD_SEC(20)));
    const void *data;
    size_t len;
    int what, last = 1;

    if (w < 0)
        return;
    /* What comes in parts goes in parts. */
    while ((what = weald_websocket_receive_part(w, &data, &len, &last, weald_after(WEALD_SEC(20)))) > 0)
        if ((what = weald_websocket_send_part(w, what, data, len, last, weald_after(WEALD_SEC(20)))) < 0)
            break;
    CHECK_EQ(weald_close(w), 0);
}

static void answer(weald_http_request r, void *user)
{
    int64_t until = weald_after(WEALD_SEC(20));
    const char *target = weald_http_target(r);
    unsigned place = 0;
    size_t len = 0, done;
    char buffer[3000];
    int64_t n;

    (void)user;
    if (sscanf(target, "/whole/%u/%zu", &place, &len) == 2) {
        weald_http_reply(r, 200, "text/plain", piece(place), len, until);
    } else if (sscanf(target, "/chunks/%u/%zu", &place, &len) == 2) {
        if (weald_http_inform(r, 103, (const char *[]){"Link", "</next>", NULL}, until) < 0 ||
            weald_http_begin(r, 200, NULL, -1) < 0)
            return;
        for (size_t at = 0; at < len; at += done)
            if (weald_http_write(r, piece(place) + at, len - at < PIECE ? len - at : PIECE, &done, until) < 0)
                return;
        weald_http_end(r, until);
    } else if (sscanf(target, "/file/%zu", &len) == 1) {
        if (weald_http_begin(r, 200, NULL, (int64_t)len) == 0 &&
            weald_http_sendfile(r, the_file, 0, (int64_t)len, until) >= 0)
            weald_http_end(r, until);
    } else if (strcmp(target, "/echo") == 0) {
        if (weald_http_begin(r, 200, NULL, weald_http_body_left(r)) < 0)
            return;
        while ((n = weald_http_read(r, buffer, sizeof buffer, until)) > 0)
            if (weald_http_write(r, buffer, (size_t)n, NULL, until) < 0)
                return;
        if (n == 0)
            weald_http_end(r, until);
        else
            weald_fail(WEALD_EPIPE, NULL); /* half a body must not look like all of it */
    } else if (strcmp(target, "/poll") == 0) {
        weald_sleep(WEALD_MS(below(30)));
        weald_http_reply(r, 200, NULL, "now", 3, until);
    } else if (strcmp(target, "/events") == 0) {
        if (weald_http_events(r, until) == 0)
            for (int i = 0; i < 5 && weald_http_event(r, "tick", NULL, "tock", until) == 0; i++)
                weald_sleep(WEALD_MS(below(3)));
    } else if (strcmp(target, "/socket") == 0) {
        answer_socket(r);
    } else {
        weald_http_reply(r, 404, NULL, NULL, 0, until);
    }
}

static void open_servers(void)
{
    for (int i = 0; i < 2; i++) {
        weald_server_options how = {.size = sizeof how, .backlog = 512, .tls = i ? server_config : 0};
        weald_http_options http = {.size = sizeof http, .server = &how, .idle_ns = WEALD_SEC(5)};
        const char *at = net_at("127.0.0.1", ports[i]);

        for (int tries = 0; (servers[i] = weald_http_server_new(at, answer, NULL, &http)) == WEALD_EADDRINUSE && tries < 200;
             tries++)
            weald_sleep(WEALD_MS(10));
        CHECK_GT(servers[i], 0);
        CHECK_EQ(weald_server_start(servers[i]), 0);
        ports[i] = weald_server_port(servers[i]);
    }
    shut = 0;
}

/* ---- sessions ---- */

struct session {
    weald_greenlet g;
    long stops, scarce;
    int is_late; /* it has given less time than it may take */
};

static struct session sessions[SESSIONS];
static weald_http_client client;

/* Whether there is a reason for `code`. */
static int excused(const struct session *me, int64_t code)
{
    int cut = code == WEALD_EPIPE || code == WEALD_ECONNRESET || code == WEALD_ECONNREFUSED ||
              code == WEALD_ECONNABORTED || code == WEALD_ENOTCONN;

    if (code == WEALD_ECANCELED)
        count.killed++;
    else if (code == WEALD_ETIMEDOUT && me->is_late)
        count.late++;
    else if (code == WEALD_EADDRNOTAVAIL) /* every port waits for its minute to pass */
        weald_sleep(WEALD_MS(100));
    else if (code == WEALD_EMFILE && (few || me->scarce != scarcities))
        ;
    else if (cut && (me->stops != stops || shut || few || me->scarce != scarcities))
        count.cut++;
    else
        return 0;
    return 1;
}

#define EXCUSED(me, code)                                                                                               \
    (excused(me, code) ? (void)0 : test_values(__FILE__, __LINE__, "a session fails for a reason", code, 0))

static int64_t some_deadline(struct session *me)
{
    if (!one_in(8))
        return weald_after(WEALD_SEC(20));
    me->is_late = 1;
    return weald_after(WEALD_US(below(3000)));
}

static const char *url(char *text, const char *scheme, const char *target)
{
    int secure = one_in(3);

    sprintf(text, "%s%s://127.0.0.1:%d%s", scheme, secure ? "s" : "", ports[secure], target);
    return text;
}

/* All that comes of a body, as far as one is patient, is `wanted`. */
static int64_t check_body(weald_http_response r, const char *wanted, size_t len, int64_t until)
{
    char buffer[7000];
    size_t got = 0;
    int64_t n;

    while ((n = weald_http_response_read(r, buffer, 1 + below(sizeof buffer), until)) > 0) {
        CHECK_LE(got + (size_t)n, len);
        CHECK_EQ(memcmp(buffer, wanted + got, (size_t)n), 0);
        got += (size_t)n;
        if (one_in(200)) {
            count.left++;
            return 0;
        }
    }
    if (n == 0)
        CHECK_EQ(got, len);
    count.bytes += (long)got;
    return n;
}

static void told(weald_http_response interim, void *hints)
{
    CHECK_EQ(weald_http_response_status(interim), 103);
    CHECK_STR(weald_http_response_header(interim, "Link"), "</next>");
    ++*(int *)hints;
}

static int64_t fetch(struct session *me)
{
    unsigned way = below(3), place = way == 2 ? 0 : below(251);
    size_t len = some_length();
    int64_t until = some_deadline(me), code;
    char target[64], text[128];
    int hints = 0;
    weald_http_fetch_options how = {.size = sizeof how, .interim_fn = told, .user = &hints};
    weald_http_response r;

    if (way == 2)
        snprintf(target, sizeof target, "/file/%zu", len);
    else
        snprintf(target, sizeof target, way ? "/chunks/%u/%zu" : "/whole/%u/%zu", place, len);
    if ((r = weald_http_fetch(client, url(text, "http", target), &how, until)) < 0)
        return r;
    CHECK_EQ(weald_http_response_status(r), 200);
    CHECK_EQ(hints >= 1, way == 1);
    code = check_body(r, piece(place), len, until);
    CHECK_EQ(weald_close(r), 0);
    count.requests++;
    return code;
}

struct upload {
    unsigned place;
    size_t at, len;
};

static int64_t give(void *buffer, size_t size, void *user)
{
    struct upload *u = (struct upload *)user;
    size_t n = u->len - u->at < size ? u->len - u->at : size;

    n = n > 1 ? 1 + below((unsigned)n) : n;
    memcpy(buffer, piece(u->place) + u->at, n);
    u->at += n;
    return (int64_t)n;
}

static int64_t upload(struct session *me)
{
    struct upload u = {below(251), 0, some_length() % 20000};
    weald_http_fetch_options how = {.size = sizeof how};
    int64_t until = some_deadline(me), code;
    weald_http_response r;
    char text[128];

    if (one_in(2))
        how.body = piece(u.place), how.body_len = u.len;
    else
        how.body_fn = give, how.user = &u;
    if ((r = weald_http_fetch(client, url(text, "http", "/echo"), &how, until)) < 0)
        return r;
    code = check_body(r, piece(u.place), u.len, until);
    CHECK_EQ(weald_close(r), 0);
    count.uploads++;
    return code;
}

static int64_t wait_for_news(struct session *me)
{
    static const char events[] = "event: tick\ndata: tock\n\nevent: tick\ndata: tock\n\nevent: tick\ndata: tock\n\n"
                                 "event: tick\ndata: tock\n\nevent: tick\ndata: tock\n\n";
    int poll = one_in(2);
    int64_t until = some_deadline(me), code;
    weald_http_response r;
    char text[128];

    if ((r = weald_http_fetch(client, url(text, "http", poll ? "/poll" : "/events"), NULL, until)) < 0)
        return r;
    code = poll ? check_body(r, "now", 3, until) : check_body(r, events, sizeof events - 1, until);
    CHECK_EQ(weald_close(r), 0);
    *(poll ? &count.polls : &count.events) += 1;
    return code;
}

/* Sends a message, whole or in parts, and gets it back so. */
static int64_t one_message(weald_websocket w, int64_t until)
{
    unsigned place = below(251);
    size_t len = some_length(), at = 0, n;
    int what = one_in(2) ? WEALD_WEBSOCKET_TEXT : WEALD_WEBSOCKET_BINARY, last = 0, code;
    const void *data;

    if (one_in(2)) {
        if ((code = weald_websocket_send(w, what, piece(place), len, until)) < 0)
            return code;
    } else {
        for (int end = 0; !end; at += n) {
            n = len - at < PIECE ? len - at : PIECE;
            end = at + n == len;
            if ((code = weald_websocket_send_part(w, what, piece(place) + at, n, end, until)) < 0)
                return code;
            count.parts++;
        }
    }
    if (one_in(2)) {
        if ((code = weald_websocket_receive(w, &data, &n, until)) <= 0)
            return code ? code : WEALD_EPIPE;
        CHECK_EQ(code, what);
        CHECK_EQ(n, len);
        CHECK_EQ(memcmp(data, piece(place), len), 0);
    } else {
        for (at = 0; !last; at += n) {
            if ((code = weald_websocket_receive_part(w, &data, &n, &last, until)) <= 0)
                return code ? code : WEALD_EPIPE;
            CHECK_EQ(code, what);
            CHECK_LE(at + n, len);
            CHECK_EQ(memcmp(data, piece(place) + at, n), 0);
        }
        CHECK_EQ(at, len);
    }
    count.messages++;
    count.bytes += (long)len;
    return 0;
}

static int64_t talk(struct session *me)
{
    weald_websocket_options how = {
        .size = sizeof how, .flags = one_in(2) ? WEALD_WEBSOCKET_DEFLATE : 0, .max_message = LARGEST, .tls = client_config};
    int64_t until = some_deadline(me), code = 0;
    weald_websocket w;
    char text[128];

    if ((w = weald_websocket_connect(url(text, "ws", "/socket"), &how, until)) < 0) {
        const char *why = weald_error_message(weald_self());

        if (w == WEALD_EPROTO && strstr(why, "hung up"))
            return WEALD_EPIPE; /* in the middle of the handshake */
        if (w == WEALD_EPROTO)
            fprintf(stderr, "%s\n", why);
        return w;
    }
    for (unsigned n = 1 + below(8); n-- && code == 0;)
        code = one_message(w, until);
    if (code == 0 && !one_in(4))
        code = weald_websocket_close(w, 0, NULL, until);
    CHECK_EQ(weald_close(w), 0);
    return code;
}

/* What is no HTTP, or not all of it, or breaks off. What comes back does not matter here. */
static int64_t talk_nonsense(struct session *me)
{
    static const char *const said[] = {
        "GET / HTTP/1.1\r\nHost: o", "POST /echo HTTP/1.1\r\nHost: o\r\nContent-Length: 100000\r\n\r\nx", "\x16\x03\x01\x02",
        "GET / HTTP/1.1\nHost: o\n\n", "", "GET /whole/1/60000 HTTP/1.1\r\nHost: o\r\n\r\n",
        "GET /socket HTTP/1.1\r\nHost: o\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\xfe\xff\xff"};
    const char *text = said[below(sizeof said / sizeof *said)];
    int fd = weald_tcp_connect(net_at("127.0.0.1", ports[one_in(2)]), weald_after(WEALD_SEC(20)));
    struct linger at_once = {1, 0};
    char some[500];

    (void)me;
    if (fd < 0)
        return fd;
    weald_write_all(fd, text, strlen(text), NULL, weald_after(WEALD_SEC(20)));
    if (one_in(2))
        weald_read(fd, some, sizeof some, weald_after(WEALD_MS(below(20))));
    if (one_in(2))
        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    CHECK_EQ(weald_close_fd(fd), 0);
    count.nonsense++;
    return 0;
}

static void *session(void *arg)
{
    static int64_t (*const kinds[])(struct session *) = {fetch, fetch, upload, wait_for_news, talk, talk, talk_nonsense};
    struct session *me = (struct session *)arg;
    int64_t code;

    me->stops = shut ? -1 : stops;
    me->scarce = scarcities;
    me->is_late = 0;
    if ((code = kinds[below(sizeof kinds / sizeof *kinds)](me)) < 0)
        EXCUSED(me, code);
    count.sessions++;
    return NULL;
}

static void tidy(struct session *me) { (void)me; }

/* ---- what befalls them ---- */

static void *torment(void *unused)
{
    while (!over) {
        struct session *one = &sessions[below(SESSIONS)];

        CHECK_EQ(weald_sleep(WEALD_MS(1 + below(5))), 0);
        if (one->g && !paused)
            CHECK_EQ(weald_kill(one->g, 0, WEALD_NOW), 0);
    }
    return unused;
}

static void stop_both(int64_t grace)
{
    for (int i = 0; i < 2; i++) {
        CHECK_GE(weald_server_stop(servers[i], grace < 0 ? WEALD_NOW : weald_after(grace)), 0);
        CHECK_EQ(weald_close(servers[i]), 0);
    }
}

static void stop_servers(void) { stop_both(one_in(2) ? -1 : WEALD_MS(below(100))); }

/* Handlers fail where a body broke off, and a server without descriptors says so. */
static void on_error(weald_greenlet g, int code, const char *message, void *user)
{
    (void)user, (void)g;
    if (code != WEALD_EMFILE && code != WEALD_EPIPE) {
        fprintf(stderr, "failed: %s %s\n", weald_strcode(code), message);
        test_leave(TEST_FAILED);
    }
}

/* ---- what is left when all sessions have ended ---- */

static void new_client(void)
{
    weald_http_client_options how = {.size = sizeof how, .tls = client_config};

    CHECK_GT(client = weald_http_client_new(&how), 0);
}

static int calm(void) { return 1; }

static struct state count_what_is_left(void)
{
    calm_down();
    CHECK_EQ(weald_close(client), 0);
    new_client();
    stop_both(WEALD_SEC(1)); /* those that wait for a request, and for the rest of one */
    open_servers();
    CHECK_EQ(weald_sleep(WEALD_MS(100)), 0);
    return state_now();
}

static void tell(int64_t began, const struct state *now)
{
    printf("%4d s  web: %ld sessions, %ld requests, %ld uploads, %ld polls, %ld streams of events, %ld messages (%ld "
           "parts), %ld of nonsense, %ld MB; %ld left, %ld killed, %ld late, %ld cut; %ld restarts, %ld times no "
           "descriptors; RSS %ld KiB, %d fds, %d mappings, %ld handles\n",
           (int)((weald_now() - began) / WEALD_SEC(1)), count.sessions, count.requests, count.uploads, count.polls,
           count.events, count.messages, count.parts, count.nonsense, count.bytes / 1000000, count.left, count.killed,
           count.late, count.cut, stops, scarcities / 2, now->rss >> 10, now->fds, now->mappings, now->handles);
    fflush(stdout);
}

static void check_own(const struct state *warm, const struct state *now)
{
    if (!*test_under()) /* a checker's memory is its own affair */
        CHECK_LE(now->mappings, warm->mappings + 24);
}

TEST(nothing_of_the_web_is_lost_and_nothing_grows)
{
    int64_t length = soak_length("web: ");
    char name[] = "/tmp/weald-soak-web-XXXXXX";

    fill_pattern();
    CHECK_EQ(weald_set_error_handler(on_error, NULL), 0);
    CHECK_GE(the_file = mkostemp(name, O_CLOEXEC), 0);
    CHECK_EQ(write(the_file, pattern, LARGEST), LARGEST);
    CHECK_EQ(unlink(name), 0);
    server_config = tls_server("server");
    client_config = tls_client();
    new_client();
    open_servers();

    soak(length, sessions, sizeof *sessions, SESSIONS, torment, 1000);
    CHECK(count.requests && count.uploads && count.polls && count.events && count.messages && count.parts);
    CHECK_EQ(weald_hub_shutdown(), 0);
    puts("web: no byte was lost or wrong, and memory, descriptors and mappings are flat");
}
