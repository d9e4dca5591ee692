/* Files and events as answers. */
#include "errors.h"
#include "http.h"

static char folder[100];

static void put(const char *name, const char *text)
{
    char path[200];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK((file = fopen(path, "w")));
    CHECK_GE(fputs(text, file), 0);
    CHECK_EQ(fclose(file), 0);
}

static void answer(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_folder(r, folder, weald_http_path(r), WEALD_FOREVER), 0);
}

static void begin(void)
{
    char sub[200];

    snprintf(folder, sizeof folder, "/tmp/weald-test-XXXXXX");
    CHECK(mkdtemp(folder));
    snprintf(sub, sizeof sub, "%s/sub", folder);
    CHECK_EQ(mkdir(sub, 0700), 0);
    put("digits.txt", "0123456789");
    put("empty", "");
    put(".hidden", "secret");
    put("index.html", "<p>");
    put("sub/page.html", "<h1>");
    http_serve(answer, NULL);
}

static void end(void)
{
    char command[200];

    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK_EQ(system(command), 0);
}

static const char *ask_for(const char *target, const char *header)
{
    char text[500];

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: oak\r\n%s\r\n", target, header);
    return http_ask(text);
}

static const char *header_of(const char *name)
{
    static char value[200];
    char line[100];
    const char *at;

    snprintf(line, sizeof line, "\r\n%s: ", name);
    if (!(at = strstr(http_got, line)))
        return "";
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(line), "\r"), at + strlen(line));
    return value;
}

TEST(a_file_is_served_with_its_type)
{
    begin();
    CHECK_STR(http_body(ask_for("/digits.txt", "")), "0123456789");
    CHECK_STR(header_of("Content-Type"), "text/plain; charset=utf-8");
    CHECK_STR(header_of("Content-Length"), "10");
    CHECK_STR(header_of("Accept-Ranges"), "bytes");
    CHECK_STR(http_body(ask_for("/", "")), "<p>");
    CHECK_STR(header_of("Content-Type"), "text/html; charset=utf-8");
    CHECK_STR(http_body(ask_for("/sub/page%2Ehtml?x", "")), "<h1>");
    CHECK_STR(http_body(ask_for("/empty", "")), "");
    CHECK_STR(header_of("Content-Type"), "application/octet-stream");
    CHECK_EQ(http_status(http_got), 200);
    CHECK_STR(http_body(http_ask("HEAD /digits.txt HTTP/1.1\r\nHost: oak\r\n\r\n")), "");
    CHECK_STR(header_of("Content-Length"), "10");
    end();
}

static weald_greenlet late;
static void *serve_late(void *r)
{
    return (void *)(intptr_t)weald_http_folder((int64_t)(intptr_t)r, folder, "/digits.txt", WEALD_FOREVER);
}

static void leave_it_to_another(weald_http_request r, void *user)
{
    (void)user;
    http_seen++;
    if (strcmp(weald_http_target(r), "/first") == 0) {
        CHECK_GT(late = weald_spawn(serve_late, (void *)(intptr_t)r), 0);
        CHECK_EQ(weald_yield(), 0);
    } else {
        CHECK_EQ(weald_join(late, WEALD_FOREVER), 0);
        http_reply_text(r, "second");
    }
}

TEST(a_file_that_comes_too_late_does_not_answer_the_next_request)
{
    void *code = NULL;

    begin();
    CHECK_EQ(weald_server_stop(http_server, WEALD_NOW), 0);
    http_serve(leave_it_to_another, NULL);
    http_ask(HTTP_GET("/first") HTTP_GET("/second"));
    CHECK_EQ(http_seen, 2);
    CHECK_EQ(http_status(http_got), 500);
    CHECK_CONTAINS(http_got, "second");
    CHECK(!strstr(http_got, "0123456789"));
    CHECK_EQ(weald_get(late, &code, WEALD_FOREVER), 0);
    CHECK_EQ((intptr_t)code, WEALD_EBADF);
    end();
}

/* The server's end of the connection from `port`; -1 when there is none. */
static int end_of(int port)
{
    struct sockaddr_in peer;

    for (int fd = 3; fd < 200; fd++) {
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == port)
            return fd;
    }
    return -1;
}

static int uncached;
static weald_greenlet sending;
static void *send_uncached(void *r)
{
    return (void *)(intptr_t)weald_http_sendfile((int64_t)(intptr_t)r, uncached, 0, 1 << 20, WEALD_FOREVER);
}

static void leave_the_file(weald_http_request r, void *user)
{
    (void)user;
    CHECK_EQ(weald_http_begin(r, 200, NULL, 1 << 20), 0);
    CHECK_GT(sending = weald_spawn(send_uncached, (void *)(intptr_t)r), 0);
    CHECK_EQ(weald_yield(), 0);
}

TEST(a_file_does_not_go_to_who_has_the_descriptor_next)
{
    static char text[1 << 20];
    int ends[2], fd, theirs;
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    void *code = NULL;

    begin();
    put("long", "");
    snprintf(text, 200, "%s/long", folder);
    CHECK_GE(uncached = open(text, O_RDWR), 0);
    CHECK_EQ(write(uncached, text, sizeof text), sizeof text);
    CHECK_EQ(fsync(uncached), 0);
    CHECK_EQ(posix_fadvise(uncached, 0, 0, POSIX_FADV_DONTNEED), 0); /* so that a thread has to bring it in */
    CHECK_EQ(weald_server_stop(http_server, WEALD_NOW), 0);
    http_serve(leave_the_file, NULL);
    fd = net_plain(http_port);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    CHECK_EQ(send(fd, HTTP_GET("/"), strlen(HTTP_GET("/")), 0), (ssize_t)strlen(HTTP_GET("/")));
    while (!sending)
        CHECK_EQ(weald_yield(), 0);
    if ((theirs = end_of(ntohs(own.sin_port))) < 0)
        theirs = 199;
    while (end_of(ntohs(own.sin_port)) >= 0)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    CHECK_EQ(dup2(ends[0], theirs), theirs);
    CHECK_EQ(weald_get(sending, &code, WEALD_FOREVER), 0);
    CHECK_LT((intptr_t)code, 0);
    CHECK_EQ(recv(ends[1], text, sizeof text, MSG_DONTWAIT), -1);
    close(fd);
    close(uncached);
    end();
}

TEST(what_is_no_file_there_is_404)
{
    static const char *const targets[] = {"/missing",
                                          "/sub",
                                          "/sub/",
                                          "/digits.txt/",
                                          "/digits.txt/x",
                                          "/.hidden",
                                          "/sub/../.hidden",
                                          "/../../../../etc/passwd",
                                          "/%2e%2e/%2e%2e/etc/passwd",
                                          "/%00",
                                          "/digits.txt%00.html",
                                          "/%2fetc/passwd",
                                          "//etc/passwd",
                                          "/%zz"};
    begin();
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        CHECK_EQ(http_status(ask_for(targets[i], "")), 404);
    CHECK_EQ(http_status(http_ask("POST /digits.txt HTTP/1.1\r\nHost: oak\r\nContent-Length: 0\r\n\r\n")), 405);
    CHECK_STR(header_of("Allow"), "GET, HEAD");
    end();
}

TEST(what_the_client_has_is_not_sent_again)
{
    char tag[200], changed[200], header[500];

    begin();
    ask_for("/digits.txt", "");
    snprintf(tag, sizeof tag, "%s", header_of("ETag"));
    snprintf(changed, sizeof changed, "%s", header_of("Last-Modified"));
    snprintf(header, sizeof header, "If-None-Match: \"x\", W/%s\r\n", tag);
    CHECK_EQ(http_status(ask_for("/digits.txt", header)), 304);
    CHECK_STR(http_body(http_got), "");
    CHECK_STR(header_of("ETag"), tag);
    snprintf(header, sizeof header, "If-Modified-Since: %s\r\n", changed);
    CHECK_EQ(http_status(ask_for("/digits.txt", header)), 304);
    snprintf(header, sizeof header, "If-None-Match: \"x\"\r\nIf-Modified-Since: %s\r\n", changed);
    CHECK_EQ(http_status(ask_for("/digits.txt", header)), 200);
    CHECK_EQ(http_status(ask_for("/digits.txt", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n")), 200);
    put("digits.txt", "01234567890");
    snprintf(header, sizeof header, "If-None-Match: %s\r\n", tag);
    CHECK_EQ(http_status(ask_for("/digits.txt", header)), 200);
    end();
}

TEST(a_part_is_sent_when_it_is_asked_for)
{
    char header[500];

    begin();
    CHECK_STR(http_body(ask_for("/digits.txt", "Range: bytes=2-4\r\n")), "234");
    CHECK_EQ(http_status(http_got), 206);
    CHECK_STR(header_of("Content-Range"), "bytes 2-4/10");
    CHECK_STR(http_body(ask_for("/digits.txt", "Range: bytes=-3\r\n")), "789");
    CHECK_STR(http_body(ask_for("/digits.txt", "Range: bytes=7-99\r\n")), "789");
    CHECK_EQ(http_status(ask_for("/digits.txt", "Range: bytes=10-\r\n")), 416);
    CHECK_STR(header_of("Content-Range"), "bytes */10");
    CHECK_EQ(http_status(ask_for("/empty", "Range: bytes=0-\r\n")), 416);
    CHECK_STR(http_body(ask_for("/digits.txt", "Range: bytes=1-2,4-5\r\n")), "0123456789");
    CHECK_STR(http_body(ask_for("/digits.txt", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n")), "0123456789");
    snprintf(header, sizeof header, "Range: bytes=0-1\r\nIf-Range: %s\r\n", header_of("ETag"));
    CHECK_STR(http_body(ask_for("/digits.txt", header)), "01");
    end();
}

/* ---- events ---- */

static void send_events(weald_http_request r, void *user)
{
    const char *last = weald_http_header(r, "Last-Event-ID");

    (void)user;
    CHECK_EQ(weald_http_events(r, WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_event(r, NULL, NULL, last ? last : "begin", WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_event(r, "tick", "7", "one\ntwo", WEALD_FOREVER), 0);
    CHECK_EQ(weald_http_event(r, NULL, NULL, NULL, WEALD_FOREVER), 0);
    while (weald_http_event(r, NULL, NULL, NULL, WEALD_FOREVER) == 0)
        if (weald_sleep(WEALD_MS(1)) < 0)
            return;
    http_seen++;
}

TEST(events_come_one_by_one)
{
    int fd;

    http_serve(send_events, NULL);
    fd = net_plain(http_port);
    net_write(fd, "GET / HTTP/1.1\r\nHost: oak\r\nLast-Event-ID: 6\r\n\r\n");
    http_until(fd, ":\n\n");
    CHECK_CONTAINS(http_got, "Content-Type: text/event-stream\r\n");
    CHECK_CONTAINS(http_got, "Cache-Control: no-store\r\n");
    CHECK_CONTAINS(http_got, "\r\n\r\n9\r\ndata: 6\n\n\r\n");
    CHECK_CONTAINS(http_got, "event: tick\nid: 7\ndata: one\ndata: two\n\n\r\n");
    close(fd);
    http_wait_for(0); /* it has noticed that we left */
    CHECK_EQ(http_seen, 1);
}
