/* WebSocket: frames by the byte, messages, closes, and HTTP before them. */
#include "greenlets.h"
#include "http.h"
#include "starve.h"
#include "tls.h"

#define HANDLE(p) ((int64_t)(intptr_t)(p))
#define POINTER(n) ((void *)(intptr_t)(n))
enum { TEXT = WEALD_WEBSOCKET_TEXT, BINARY = WEALD_WEBSOCKET_BINARY };

static weald_websocket socket_of(int fd, int flags, size_t max_message, size_t max_unsent)
{
    weald_websocket_options how = {
        .size = sizeof how, .flags = flags, .max_message = max_message, .max_unsent = max_unsent};
    weald_stream s = weald_stream_new(fd, NULL);
    weald_websocket w;

    CHECK_GT(s, 0);
    CHECK_GT(w = weald_websocket_new(s, &how), 0);
    CHECK_EQ(weald_kind(w), WEALD_KIND_WEBSOCKET);
    return w;
}

struct sockets {
    weald_websocket server, client;
};

static struct sockets sockets(int flags)
{
    int ends[2];

    unix_pair(ends);
    return (struct sockets){socket_of(ends[0], flags, 0, 0), socket_of(ends[1], flags | WEALD_WEBSOCKET_CLIENT, 0, 0)};
}

static void close_both(struct sockets s)
{
    CHECK_EQ(weald_close(s.server), 0);
    CHECK_EQ(weald_close(s.client), 0);
}

/* The next message of `w` is `text`, of that kind. */
#define GETS(w, kind, text)                                                       \
    do {                                                                          \
        const void *data_ = NULL;                                                 \
        size_t len_ = 0;                                                          \
        CHECK_EQ(weald_websocket_receive(w, &data_, &len_, weald_after(WEALD_SEC(5))), kind); \
        CHECK_EQ(len_, strlen(text));                                             \
        CHECK_EQ(memcmp(data_, text, len_), 0);                                   \
    } while (0)

static int receives(weald_websocket w, int64_t deadline)
{
    const void *data;
    size_t len;
    return weald_websocket_receive(w, &data, &len, deadline);
}

static void says(weald_websocket w, const char *text)
{
    CHECK_EQ(weald_websocket_send(w, TEXT, text, strlen(text), WEALD_FOREVER), 0);
}

/* ---- messages ---- */

TEST(messages_of_all_sizes_go_both_ways)
{
    static const size_t sizes[] = {0, 1, 125, 126, 127, 2047, 2048, 2049, 65535, 65536, 70000, 200000};
    static char large[200000];
    const void *data;
    size_t len;

    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7 + (i >> 10));
    for (int flags = 0; flags < 4; flags++) {
        struct sockets s = sockets(flags);

        for (int round = 0; round < 2; round++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                weald_websocket from = i % 2 ? s.client : s.server, to = i % 2 ? s.server : s.client;
                CHECK_EQ(weald_websocket_send(from, BINARY, large, sizes[i], WEALD_FOREVER), 0);
                CHECK_EQ(weald_websocket_receive(to, &data, &len, weald_after(WEALD_SEC(5))), BINARY);
                CHECK_EQ(len, sizes[i]);
                CHECK_EQ(memcmp(data, large, len), 0);
            }
        CHECK_EQ(weald_websocket_unsent(s.client), 0);
        close_both(s);
    }
}

/* What is read ahead of a message is the connection's own affair. */
TEST(a_stream_that_may_hold_one_byte_carries_messages_of_all_sizes)
{
    static const size_t sizes[] = {0, 1, 125, 126, 4000, 70000};
    static char text[70000], ping[125];
    weald_stream_options tiny = {.size = sizeof tiny, .read_max = 1};
    weald_websocket_options how = {.size = sizeof how};
    weald_websocket w[2];
    const void *data;
    size_t len;
    int ends[2];

    unix_pair(ends);
    for (int i = 0; i < 2; i++) {
        how.flags = i ? WEALD_WEBSOCKET_CLIENT : 0;
        CHECK_GT(w[i] = weald_websocket_new(weald_stream_new(ends[i], &tiny), &how), 0);
    }
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int from = 0; from < 2; from++) {
            CHECK_EQ(weald_websocket_send(w[from], WEALD_WEBSOCKET_PING, ping, sizeof ping, WEALD_FOREVER), 0);
            CHECK_EQ(weald_websocket_send(w[from], TEXT, text, sizes[i], WEALD_FOREVER), 0);
            CHECK_EQ(weald_websocket_receive(w[!from], &data, &len, weald_after(WEALD_SEC(5))), TEXT);
            CHECK_EQ(len, sizes[i]);
            CHECK_EQ(memcmp(data, text, len), 0);
        }
    close_both((struct sockets){w[0], w[1]});
}

TEST(a_file_carries_no_messages)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    weald_stream s = weald_stream_new(fd, NULL);

    CHECK_GT(s, 0);
    CHECK_EQ(weald_websocket_new(s, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_close(s), 0); /* is still the caller's */
}

TEST(several_messages_in_one_piece_come_one_by_one)
{
    struct sockets s = sockets(0);

    for (int i = 0; i < 100; i++) {
        says(s.client, "one");
        says(s.client, "δύο 🌲");
        CHECK_EQ(weald_websocket_send(s.client, WEALD_WEBSOCKET_PING, "?", 1, WEALD_FOREVER), 0);
    }
    for (int i = 0; i < 100; i++) {
        GETS(s.server, TEXT, "one");
        GETS(s.server, TEXT, "δύο 🌲");
    }
    CHECK_EQ(receives(s.server, WEALD_NOW), WEALD_EAGAIN);
    close_both(s);
}

TEST(text_that_is_none_is_not_sent)
{
    struct sockets s = sockets(0);

    CHECK_EQ(weald_websocket_send(s.client, TEXT, "\xff", 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_send(s.client, 3, "x", 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_send(s.client, 8, "x", 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_send(s.client, WEALD_WEBSOCKET_PING, http_got, 126, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_send(s.client, TEXT, NULL, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(receives(s.server, WEALD_NOW), WEALD_EAGAIN);
    close_both(s);
}

/* ---- rules, by the byte ---- */

/* Frames of a client; the mask is 0, so that the payload can be read here. */
#define M "\x80\0\0\0\0"
#define FRAME(first, n, payload) first n "\0\0\0\0" payload

static const struct rule {
    const char *name;
    const char *bytes;
    size_t len;
    int flags;
    int got; /* what the first receive returns */
    const char *message; /* or what comes of it */
    int code; /* of the close frame that the client gets; 0: none */
    const char *back; /* all that the client gets */
    size_t back_len;
} rules[] = {
#define TEXT_OF(text) text, sizeof text - 1
#define GOOD(name, bytes, kind, message) {name, TEXT_OF(bytes), 0, kind, message, 0, TEXT_OF("")}
#define BAD(name, bytes, flags, code) {name, TEXT_OF(bytes), flags, (code) == 1009 ? WEALD_EMSGSIZE : WEALD_EPROTO, NULL, code, TEXT_OF("")}
    GOOD("text", "\x81\x85\0\0\0\0hello", TEXT, "hello"),
    GOOD("masked text", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", TEXT, "Hello"),
    GOOD("binary", "\x82\x81\0\0\0\0x", BINARY, "x"),
    GOOD("nothing", "\x81\x80\1\2\3\4", TEXT, ""),
    GOOD("two pieces", "\x01\x82\0\0\0\0he\x80\x83\0\0\0\0llo", TEXT, "hello"),
    GOOD("empty pieces", "\x01\x80\0\0\0\0\x00\x80\0\0\0\0\x80\x81\0\0\0\0o", TEXT, "o"),
    GOOD("a character cut by frames", "\x01\x81\0\0\0\0\xce\x80\x81\0\0\0\0\xba", TEXT, "\xce\xba"),
    {"a ping", TEXT_OF("\x89\x83\0\0\0\0abc\x81\x81\0\0\0\0x"), 0, TEXT, "x", 0, TEXT_OF("\x8a\x03""abc")},
    {"a ping between pieces", TEXT_OF("\x01\x81\0\0\0\0x\x89\x80\0\0\0\0\x80\x81\0\0\0\0y"), 0, TEXT, "xy", 0,
     TEXT_OF("\x8a\0")},
    GOOD("a pong that nobody has asked for", "\x8a\x81\0\0\0\0z\x82\x81\0\0\0\0x", BINARY, "x"),
    GOOD("long length", "\x82\xfe\0\x7e\0\0\0\0"
         "123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 "
         "123456789 123456789 123456", BINARY,
         "123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 "
         "123456789 123456789 123456"),
    {"close", TEXT_OF("\x88\x82\0\0\0\0\x03\xe8"), 0, 0, NULL, 0, TEXT_OF("\x88\x02\x03\xe8")},
    {"close without a code", TEXT_OF("\x88\x80\0\0\0\0"), 0, 0, NULL, 0, TEXT_OF("\x88\0")},
    {"close with a reason", TEXT_OF("\x88\x85\0\0\0\0\x0f\xa0""bye"), 0, 0, NULL, 0, TEXT_OF("\x88\x02\x0f\xa0")},
    {"close between pieces", TEXT_OF("\x01\x81\0\0\0\0x\x88\x82\0\0\0\0\x03\xe8"), 0, 0, NULL, 0,
     TEXT_OF("\x88\x02\x03\xe8")},
    BAD("no mask", "\x81\x05hello", 0, 1002),
    BAD("RSV1", "\xc1\x81\0\0\0\0x", 0, 1002),
    BAD("RSV2", "\xa1\x81\0\0\0\0x", 0, 1002),
    BAD("RSV3", "\x91\x81\0\0\0\0x", 0, 1002),
    BAD("RSV1 of a control frame", "\xc9\x81\0\0\0\0x", 1, 1002),
    BAD("RSV1 of a second piece", "\x01\x81\0\0\0\0x\xc0\x81\0\0\0\0x", 1, 1002),
    BAD("opcode 3", "\x83\x81\0\0\0\0x", 0, 1002),
    BAD("opcode 7", "\x87\x80\0\0\0\0", 0, 1002),
    BAD("opcode 11", "\x8b\x80\0\0\0\0", 0, 1002),
    BAD("opcode 15", "\x8f\x80\0\0\0\0", 0, 1002),
    BAD("a ping in pieces", "\x09\x81\0\0\0\0x", 0, 1002),
    BAD("a long ping", "\x89\xfe\0\x7e\0\0\0\0", 0, 1002),
    BAD("a continuation of nothing", "\x80\x81\0\0\0\0x", 0, 1002),
    BAD("a message in another", "\x01\x81\0\0\0\0x\x81\x81\0\0\0\0y", 0, 1002),
    BAD("16 bits for 125", "\x82\xfe\0\x7d\0\0\0\0", 0, 1002),
    BAD("64 bits for 65535", "\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 0, 1002),
    BAD("the highest bit", "\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 0, 1002),
    BAD("half a close code", "\x88\x81\0\0\0\0\x03", 0, 1002),
    BAD("close code 0", "\x88\x82\0\0\0\0\0\0", 0, 1002),
    BAD("close code 999", "\x88\x82\0\0\0\0\x03\xe7", 0, 1002),
    BAD("close code 1004", "\x88\x82\0\0\0\0\x03\xec", 0, 1002),
    BAD("close code 1005", "\x88\x82\0\0\0\0\x03\xed", 0, 1002),
    BAD("close code 1006", "\x88\x82\0\0\0\0\x03\xee", 0, 1002),
    BAD("close code 1015", "\x88\x82\0\0\0\0\x03\xf7", 0, 1002),
    BAD("close code 2999", "\x88\x82\0\0\0\0\x0b\xb7", 0, 1002),
    BAD("close code 5000", "\x88\x82\0\0\0\0\x13\x88", 0, 1002),
    BAD("a reason that is no text", "\x88\x83\0\0\0\0\x03\xe8\xff", 0, 1007),
    BAD("no text", "\x81\x81\0\0\0\0\xff", 0, 1007),
    BAD("a surrogate", "\x81\x83\0\0\0\0\xed\xa0\x80", 0, 1007),
    BAD("half a character", "\x81\x81\0\0\0\0\xce", 0, 1007),
    BAD("half a character in pieces", "\x01\x81\0\0\0\0\xce\x80\x80\0\0\0\0", 0, 1007),
    BAD("no text, and the rest never comes", "\x01\x82\0\0\0\0\xc0\xaf", 0, 1007),
    BAD("no text in the middle of a frame", "\x81\xfe\x10\0\0\0\0\0a\xf4\x90", 0, 1007),
    BAD("too large", "\x82\xfe\x10\1\0\0\0\0", 0, 1009),
    BAD("too large by far", "\x82\xff\0\0\1\0\0\0\0\0\0\0\0\0", 0, 1009),
    BAD("what can not be inflated", "\xc2\x84\0\0\0\0\xff\xff\xff\xff", 1, 1002),
};
enum { RULES = sizeof rules / sizeof *rules, LARGEST = 4096 };

#define RULE_CHECK(rule, cut, a, b)                                               \
    do {                                                                          \
        long long a_ = (a), b_ = (b);                                             \
        if (a_ != b_)                                                             \
            fprintf(stderr, "rule \"%s\" cut at %zu: ", (rule)->name, (size_t)(cut)); \
        CHECK_EQ(a_, b_);                                                         \
    } while (0)

struct feed {
    int fd;
    const char *bytes;
    size_t len, cut;
};

static void *feed_it(void *arg)
{
    struct feed *f = arg;

    CHECK_EQ(weald_write_all(f->fd, f->bytes, f->cut, NULL, WEALD_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_sleep(0), 0);
    /* It may have been refused already. */
    weald_write_all(f->fd, f->bytes + f->cut, f->len - f->cut, NULL, WEALD_FOREVER);
    return NULL;
}

static void obeys(const struct rule *rule, size_t cut)
{
    int ends[2], got;
    const void *data;
    size_t len;
    unsigned char back[300];
    int64_t n;

    unix_pair(ends);
    weald_websocket w = socket_of(ends[0], rule->flags, LARGEST, 0);
    struct feed feed = {ends[1], rule->bytes, rule->len, cut};
    weald_greenlet g = spawned(feed_it, &feed);

    got = weald_websocket_receive(w, &data, &len, weald_after(WEALD_SEC(5)));
    RULE_CHECK(rule, cut, got, rule->got);
    if (got > 0) {
        RULE_CHECK(rule, cut, len, strlen(rule->message));
        RULE_CHECK(rule, cut, memcmp(data, rule->message, len), 0);
    } else {
        RULE_CHECK(rule, cut, receives(w, WEALD_NOW), got);
        RULE_CHECK(rule, cut, weald_websocket_send(w, TEXT, "x", 1, WEALD_NOW), WEALD_EPIPE);
    }
    outcome(g);
    n = weald_read(ends[1], back, sizeof back, WEALD_NOW);
    if (rule->code) {
        CHECK_GE(n, 4);
        RULE_CHECK(rule, cut, back[0], 0x88);
        RULE_CHECK(rule, cut, back[2] << 8 | back[3], rule->code);
        RULE_CHECK(rule, cut, weald_websocket_close_code(w), rule->code);
        CHECK_GT(strlen(weald_websocket_close_reason(w)), 5);
    } else {
        RULE_CHECK(rule, cut, n, rule->back_len ? (int64_t)rule->back_len : WEALD_EAGAIN);
        RULE_CHECK(rule, cut, rule->back_len ? memcmp(back, rule->back, rule->back_len) : 0, 0);
    }
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
}

TEST(every_rule_holds_wherever_the_bytes_are_cut)
{
    for (const struct rule *rule = rules; rule < rules + RULES; rule++)
        for (size_t cut = 0; cut <= rule->len; cut++)
            obeys(rule, cut);
}

TEST(a_client_takes_no_masks)
{
    int ends[2];
    unsigned char back[200];

    unix_pair(ends);
    weald_websocket w = socket_of(ends[0], WEALD_WEBSOCKET_CLIENT, 0, 0);
    CHECK_EQ(weald_write(ends[1], "\x81\x81\0\0\0\0x", 7, WEALD_NOW), 7);
    CHECK_EQ(receives(w, WEALD_FOREVER), WEALD_EPROTO);
    CHECK_GT(weald_read(ends[1], back, sizeof back, WEALD_NOW), 8);
    CHECK_EQ(back[0], 0x88);
    CHECK_EQ(back[1] & 0x80, 0x80); /* and puts its own on */
    CHECK_EQ((back[2] ^ back[6]) << 8 | (back[3] ^ back[7]), 1002);
    CHECK_EQ(weald_close(w), 0);
    weald_close_fd(ends[1]);
}

/* 10 MB of zeros, deflated. */
TEST(a_message_that_inflates_to_too_much_is_stopped)
{
    enum { LOTS = 10000000 };
    char *zeros = calloc(1, LOTS);
    int ends[2];
    long before;

    unix_pair(ends);
    weald_websocket small = socket_of(ends[0], WEALD_WEBSOCKET_DEFLATE, 100000, 0);
    weald_websocket sender = socket_of(ends[1], WEALD_WEBSOCKET_DEFLATE | WEALD_WEBSOCKET_CLIENT, 0, 0);
    CHECK_EQ(weald_websocket_send(sender, BINARY, zeros, 100000, WEALD_FOREVER), 0);
    CHECK_EQ(receives(small, WEALD_FOREVER), BINARY);
    CHECK_EQ(weald_websocket_send(sender, BINARY, zeros, LOTS, WEALD_FOREVER), 0);
    CHECK_LT(weald_websocket_unsent(sender), LOTS / 100);
    before = test_rss();
    CHECK_EQ(receives(small, WEALD_FOREVER), WEALD_EMSGSIZE);
    CHECK_EQ(weald_websocket_close_code(small), 1009);
    if (!*test_under())
        CHECK_LT(test_rss() - before, 1000000);
    CHECK_EQ(receives(sender, WEALD_FOREVER), 0);
    CHECK_EQ(weald_websocket_close_code(sender), 1009);
    free(zeros);
    CHECK_EQ(weald_close(small), 0);
    CHECK_EQ(weald_close(sender), 0);
}

static uint64_t drawn(uint64_t *seed) { return (*seed = *seed * 6364136223846793005u + 1442695040888963407u) >> 33; }

/* Random damage: no crash, and nothing but messages or a refusal. */
TEST_WITH_LIMIT(damaged_frames_are_refused_or_taken_and_no_more, 300)
{
    static unsigned char bytes[4096];
    static const char seedling[] = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x01\x82\0\0\0\0he\x89\x80\0\0\0\0\x80\x83\0\0"
                                   "\0\0llo\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0\x82\xfe\0\x80\1\2\3\4";
    const char *seconds = getenv("FUZZ_SECONDS"), *given = getenv("WEALD_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)test_clock();
    int64_t end = weald_after(seconds ? WEALD_SEC(atoi(seconds)) : WEALD_MS(500));
    long taken = 0, refused = 0, left = 0;

    printf("seed %llu\n", (unsigned long long)seed);
    while (weald_now() < end) {
        int ends[2], flags;
        size_t len = 0;
        int got;
#define DRAW(n) (drawn(&seed) % (n))

        while (len + sizeof seedling < sizeof bytes && DRAW(4))
            memcpy(bytes + len, seedling, sizeof seedling - 1), len += sizeof seedling - 1;
        for (uint64_t n = DRAW(6); n-- && len;) {
            size_t at = DRAW(len), some = DRAW(8);
            if (DRAW(3) == 0 && at + some < len)
                memmove(bytes + at, bytes + at + some, len - at - some), len -= some;
            else
                bytes[at] = DRAW(2) ? (unsigned char)DRAW(256) : (unsigned char)(bytes[at] ^ 1 << DRAW(8));
        }
        flags = (int)DRAW(2);
        flags |= DRAW(4) ? 0 : WEALD_WEBSOCKET_CLIENT;
        unix_pair(ends);
        weald_websocket w = socket_of(ends[0], flags, DRAW(2) ? 300 : 0, 0);
        CHECK_EQ(weald_write_all(ends[1], bytes, len, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_shutdown(ends[1], SHUT_WR), 0);
        while ((got = receives(w, WEALD_FOREVER)) > 0)
            taken++;
        CHECK(got == 0 || got == WEALD_EPROTO || got == WEALD_EMSGSIZE || got == WEALD_ECONNABORTED);
        got == WEALD_ECONNABORTED || got == 0 ? left++ : refused++;
        CHECK_EQ(weald_close(w), 0);
        CHECK_EQ(weald_close_fd(ends[1]), 0);
    }
    printf("%ld messages, %ld refused, %ld ended\n", taken, refused, left);
    CHECK_GT(taken, 0);
    CHECK_GT(refused, 0);
}

/* ---- cut short ---- */

static void *receive_and_count(void *w)
{
    const void *data;
    size_t len;
    intptr_t n = 0;

    while (weald_websocket_receive(HANDLE(w), &data, &len, WEALD_FOREVER) == TEXT && len == 12 &&
           memcmp(data, "twelve chars", 12) == 0)
        n++;
    return POINTER(n);
}

static long received;
static void *count_received(void *w)
{
    const void *data;
    size_t len;

    while (weald_websocket_receive(HANDLE(w), &data, &len, WEALD_FOREVER) == TEXT) {
        CHECK_EQ(len, 12);
        received++;
    }
    return NULL;
}

TEST(no_message_is_lost_or_cut_when_its_receiver_is_killed)
{
    for (int flags = 0; flags < 2; flags++) {
        /* Three frames, one byte after the other. */
        static const char bytes[] = "\x01\x86\0\0\0\0twelve\x00\x81\0\0\0\0 \x80\x85\0\0\0\0chars";
        int ends[2];
        size_t sent = 0;

        unix_pair(ends);
        weald_websocket w = socket_of(ends[0], flags, 0, 0);
        received = 0;
        for (long i = 0; i < test_rounds(2000); i++) {
            weald_greenlet g = spawned(count_received, POINTER(w));
            CHECK_EQ(weald_yield(), 0);
            for (long n = i % 5 + 1; n--; sent++)
                CHECK_EQ(weald_write(ends[1], bytes + sent % (sizeof bytes - 1), 1, WEALD_FOREVER), 1);
            if (i % 2)
                CHECK_EQ(weald_sleep(0), 0);
            CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
            CHECK_EQ(weald_close(g), 0);
        }
        CHECK_EQ(weald_close_fd(ends[1]), 0);
        outcome(spawned(count_received, POINTER(w)));
        CHECK_EQ(received, (long)(sent / (sizeof bytes - 1)));
        CHECK_EQ(weald_close(w), 0);
    }
}

static void *send_one(void *w)
{
    static char large[100000];
    return POINTER(weald_websocket_send(HANDLE(w), BINARY, large, sizeof large, WEALD_FOREVER));
}

TEST(who_sends_waits_while_too_much_is_unsent_and_what_is_taken_over_goes_by_itself)
{
    int ends[2], n = 0;
    const void *data;
    size_t len;
    static char large[100000];
    weald_greenlet killed, waiting;

    unix_pair(ends);
    weald_websocket w = socket_of(ends[0], 0, 0, 300000);
    weald_websocket other = socket_of(ends[1], WEALD_WEBSOCKET_CLIENT, 0, 0);
    while (weald_websocket_send(w, BINARY, large, sizeof large, WEALD_NOW) == 0)
        n++;
    CHECK_GT(n, 2);
    CHECK_GT(weald_websocket_unsent(w), 300000);
    CHECK_EQ(weald_websocket_send(w, TEXT, "x", 1, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    killed = spawned(send_one, POINTER(w));
    waiting = spawned(send_one, POINTER(w));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(killed, 0, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(killed), WEALD_ECANCELED);
    for (int i = 0; i < n + 1; i++) { /* nobody flushes */
        CHECK_EQ(weald_websocket_receive(other, &data, &len, weald_after(WEALD_SEC(5))), BINARY);
        CHECK_EQ(len, sizeof large);
    }
    CHECK_EQ(outcome(waiting), 0);
    CHECK_EQ(receives(other, weald_after(WEALD_MS(5))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_websocket_unsent(w), 0);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(other), 0);
}

static void *flush_it(void *s) { return POINTER(weald_stream_flush(HANDLE(s), weald_after(WEALD_SEC(20)))); }

TEST(what_goes_by_itself_while_its_stream_is_flushed_goes_once)
{
    weald_websocket_options how = {.size = sizeof how};
    int ends[2];
    static char large[4000000], some[4096];
    weald_websocket w;
    weald_stream s;
    weald_greenlet flushing;
    int64_t got, all = 0;

    unix_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[0], NULL), 0);
    CHECK_GT(w = weald_websocket_new(s, &how), 0);
    memset(large, 'x', sizeof large);
    CHECK_EQ(weald_websocket_send(w, BINARY, large, sizeof large, WEALD_NOW), 0);
    flushing = spawned(flush_it, POINTER(s));
    while (weald_websocket_unsent(w) > 0 || weald_yield() == 0) {
        CHECK_GE(got = weald_read(ends[1], some, sizeof some, weald_after(WEALD_MS(100))), WEALD_ETIMEDOUT);
        if (got <= 0)
            break;
        all += got;
    }
    CHECK_EQ(all, (int64_t)sizeof large + 10);
    CHECK_EQ(outcome(flushing), 0);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
}

/* ---- in parts ---- */

/* What comes of a message in parts, in memory that stays; its kind. */
static int whole_of(weald_websocket w, char *text, size_t size, size_t *len, int *parts)
{
    const void *data;
    size_t n;
    int kind, last = 0;

    for (*len = 0, *parts = 0; !last; *len += n, ++*parts) {
        CHECK_GT(kind = weald_websocket_receive_part(w, &data, &n, &last, weald_after(WEALD_SEC(5))), 0);
        CHECK_LE(*len + n, size);
        memcpy(text + *len, data, n);
    }
    return kind;
}

static void *send_in_parts(void *w)
{
    static char text[7000];

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i % 26);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(weald_websocket_send_part(HANDLE(w), BINARY, text, sizeof text, i == 99, WEALD_FOREVER), 0);
    return NULL;
}

TEST(messages_come_and_go_in_parts)
{
    static char got[1 << 20];
    static const char tree[] = "\xf0\x9f\x8c\xb2";
    size_t len;
    int parts, last;
    const void *data;

    for (int flags = 0; flags < 4; flags++) {
        struct sockets s = sockets(flags);
        weald_greenlet g;

        /* Of bytes, more than the socket holds. */
        g = spawned(send_in_parts, POINTER(s.server));
        CHECK_EQ(whole_of(s.client, got, sizeof got, &len, &parts), BINARY);
        CHECK_EQ(outcome(g), 0);
        CHECK_EQ(len, 700000);
        CHECK_GT(parts, 10);
        for (size_t i = 0; i < len; i++)
            CHECK_EQ(got[i], 'a' + i % 7000 % 26);

        /* Of text, through the middle of a character, with a ping in between, and an empty end. */
        for (size_t i = 0; i < 4; i++) {
            CHECK_EQ(weald_websocket_send_part(s.client, TEXT, tree + i, 1, 0, WEALD_FOREVER), 0);
            CHECK_EQ(weald_websocket_send(s.client, WEALD_WEBSOCKET_PING, "p", 1, WEALD_FOREVER), 0);
            CHECK_EQ(weald_websocket_send(s.client, TEXT, "x", 1, WEALD_FOREVER), WEALD_EBUSY);
            CHECK_EQ(weald_websocket_broadcast(&s.client, 1, TEXT, "x", 1, WEALD_WEBSOCKET_DROP_SLOW), 0);
        }
        CHECK_EQ(weald_websocket_send_part(s.client, BINARY, "x", 1, 1, WEALD_FOREVER), WEALD_EINVAL);
        CHECK_EQ(weald_websocket_send_part(s.client, TEXT, "\xff", 1, 1, WEALD_FOREVER), WEALD_EINVAL);
        CHECK_EQ(weald_websocket_send_part(s.client, TEXT, "\xe2", 1, 1, WEALD_FOREVER), WEALD_EINVAL);
        CHECK_EQ(weald_websocket_send_part(s.client, TEXT, NULL, 0, 1, WEALD_FOREVER), 0);
        says(s.client, "another");
        CHECK_EQ(whole_of(s.server, got, sizeof got, &len, &parts), TEXT);
        CHECK_EQ(len, 4);
        CHECK_EQ(memcmp(got, tree, 4), 0);
        GETS(s.server, TEXT, "another");

        /* The rest of one is a message. */
        CHECK_EQ(weald_websocket_send_part(s.server, TEXT, "leaves", 6, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_websocket_receive_part(s.client, &data, &len, &last, WEALD_FOREVER), TEXT);
        CHECK(len == 6 && !last && memcmp(data, "leaves", 6) == 0);
        CHECK_EQ(receives(s.client, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
        CHECK_EQ(weald_websocket_send_part(s.server, TEXT, " of ", 4, 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_websocket_send_part(s.server, TEXT, "grass", 5, 1, WEALD_FOREVER), 0);
        GETS(s.client, TEXT, " of grass");
        close_both(s);
    }
}

TEST(a_message_in_parts_may_be_longer_than_a_message_but_not_inflate_without_end)
{
    enum { MOST = 50000 };
    static char lots[10 * MOST];
    size_t len = 0, n;
    int ends[2], last = 0, got;
    const void *data;

    for (int flags = 0; flags < 2; flags++) {
        unix_pair(ends);
        weald_websocket from = socket_of(ends[0], flags, 0, 0);
        weald_websocket to = socket_of(ends[1], flags | WEALD_WEBSOCKET_CLIENT, MOST, 0);

        CHECK_EQ(weald_websocket_send(from, BINARY, lots, sizeof lots, WEALD_FOREVER), 0);
        for (len = 0, last = 0; !last; len += n)
            if ((got = weald_websocket_receive_part(to, &data, &n, &last, weald_after(WEALD_SEC(5)))) < 0)
                break;
        CHECK_EQ(got, flags ? WEALD_EMSGSIZE : BINARY);
        if (flags)
            CHECK_LE(len, MOST);
        else
            CHECK_EQ(len, sizeof lots);

        /* What is left of it is measured again. */
        if (!flags) {
            CHECK_EQ(weald_websocket_send_part(from, BINARY, lots, MOST / 2, 0, WEALD_FOREVER), 0);
            CHECK_EQ(weald_websocket_receive_part(to, &data, &n, &last, WEALD_FOREVER), BINARY);
            CHECK_EQ(weald_websocket_send_part(from, BINARY, lots, MOST + 1, 1, WEALD_FOREVER), 0);
            CHECK_EQ(receives(to, WEALD_FOREVER), WEALD_EMSGSIZE);
            CHECK_EQ(weald_websocket_close_code(to), 1009);
        }
        CHECK_EQ(weald_close(from), 0);
        CHECK_EQ(weald_close(to), 0);
    }
}

/* ---- broadcast ---- */

TEST(a_broadcast_reaches_all_but_those_who_do_not_read)
{
    enum { N = 20 };
    weald_websocket to[N + 2], from[N];
    static char large[50000];
    int ends[2];

    for (int i = 0; i < N; i++) {
        unix_pair(ends);
        to[i] = socket_of(ends[0], i % 2, 0, 100000);
        from[i] = socket_of(ends[1], i % 2 | WEALD_WEBSOCKET_CLIENT, 0, 0);
    }
    to[N] = to[N + 1] = 0; /* none */
    CHECK_EQ(weald_websocket_broadcast(to, N + 2, TEXT, "to all", 6, 0), N);
    for (int i = 0; i < N; i++)
        GETS(from[i], TEXT, "to all");
    while (weald_websocket_send(to[3], BINARY, large, sizeof large, WEALD_NOW) == 0)
        ;
    CHECK_EQ(weald_websocket_broadcast(to, N, BINARY, large, sizeof large, 0), N - 1);
    CHECK_EQ(weald_websocket_broadcast(to, N, TEXT, "x", 1, WEALD_WEBSOCKET_DROP_SLOW), N - 1);
    CHECK_EQ(weald_websocket_send(to[3], TEXT, "x", 1, WEALD_NOW), WEALD_EPIPE);
    CHECK_EQ(receives(to[3], weald_after(WEALD_SEC(1))), WEALD_ECONNABORTED);
    for (int i = 0; i < N; i++) {
        if (i != 3) {
            CHECK_EQ(receives(from[i], weald_after(WEALD_SEC(1))), BINARY);
            GETS(from[i], TEXT, "x");
        }
        CHECK_EQ(weald_close(to[i]), 0);
        CHECK_EQ(weald_close(from[i]), 0);
    }
    CHECK_EQ(weald_websocket_broadcast(NULL, 1, TEXT, "x", 1, 0), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_broadcast(to, 1, TEXT, NULL, 1, 0), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_broadcast(to, 1, WEALD_WEBSOCKET_PING, "x", 1, 0), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_broadcast(to, 1, TEXT, "\xff", 1, 0), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_broadcast(to, 1, TEXT, "x", 1, 1), WEALD_EINVAL);
}

/* ---- closes ---- */

static void *close_it(void *w) { return POINTER(weald_websocket_close(HANDLE(w), 4000, "enough", weald_after(WEALD_SEC(5)))); }

TEST(a_close_is_answered_and_comes_behind_what_was_sent)
{
    struct sockets s = sockets(0);
    weald_greenlet g;

    says(s.server, "before");
    g = spawned(close_it, POINTER(s.server));
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_websocket_send(s.server, TEXT, "x", 1, WEALD_FOREVER), WEALD_EPIPE);
    says(s.client, "is dropped");
    GETS(s.client, TEXT, "before");
    CHECK_EQ(receives(s.client, WEALD_FOREVER), 0);
    CHECK_EQ(receives(s.client, WEALD_FOREVER), 0);
    CHECK_EQ(weald_websocket_close_code(s.client), 4000);
    CHECK_STR(weald_websocket_close_reason(s.client), "enough");
    CHECK_EQ(weald_websocket_send(s.client, TEXT, "x", 1, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(outcome(g), 0);
    CHECK_EQ(weald_websocket_close_code(s.server), 4000);
    CHECK_EQ(weald_websocket_close(s.client, 0, NULL, WEALD_FOREVER), 0); /* it is closed already */
    close_both(s);
}

TEST(a_reason_that_was_asked_for_before_the_close_stays)
{
    struct sockets s = sockets(0);
    const char *before = weald_websocket_close_reason(s.server);

    CHECK_STR(before, "");
    CHECK_EQ(weald_websocket_close(s.client, 1000, "enough", WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(receives(s.server, WEALD_FOREVER), 0);
    CHECK_STR(weald_websocket_close_reason(s.server), "enough");
    CHECK_STR(before, "");
    CHECK_PTR(before, weald_websocket_close_reason(0));
    close_both(s);
}

TEST(a_close_while_another_greenlet_receives_leaves_it_the_answer)
{
    struct sockets s = sockets(0);
    weald_greenlet receiver = spawned(receive_and_count, POINTER(s.server)), other;

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_websocket_close(s.server, 1001, NULL, WEALD_FOREVER), 0);
    other = spawned(receive_and_count, POINTER(s.client));
    CHECK_EQ(outcome(other), 0);
    CHECK_EQ(outcome(receiver), 0);
    CHECK_EQ(weald_websocket_close_code(s.client), 1001);
    close_both(s);
}

TEST(an_end_without_a_close_is_an_error)
{
    const void *data;
    size_t len;
    int last;
    int ends[2];
    weald_websocket w;

    unix_pair(ends);
    w = socket_of(ends[0], 0, 0, 0);
    CHECK_EQ(weald_websocket_close_code(w), 0);
    CHECK_EQ(weald_write(ends[1], "\x81\x85", 2, WEALD_NOW), 2);
    CHECK_EQ(weald_close_fd(ends[1]), 0);
    CHECK_EQ(receives(w, WEALD_FOREVER), WEALD_ECONNABORTED);
    CHECK_EQ(receives(w, WEALD_FOREVER), WEALD_ECONNABORTED);
    CHECK_EQ(weald_websocket_receive_part(w, &data, &len, &last, WEALD_FOREVER), WEALD_ECONNABORTED);
    CHECK_EQ(weald_websocket_close_code(w), 1006);
    CHECK_EQ(weald_websocket_send(w, TEXT, "x", 1, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_websocket_close(w, 0, NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(w), 0);
}

/* ---- HTTP ---- */

static weald_websocket_options accepting = {.size = sizeof accepting};
static int64_t accepted;

static void echo(weald_http_request r, void *unused)
{
    const void *data;
    size_t len;
    int what;
    weald_websocket w = accepted = weald_websocket_accept(r, &accepting, WEALD_FOREVER);

    (void)unused;
    if (w < 0)
        return;
    while ((what = weald_websocket_receive(w, &data, &len, WEALD_FOREVER)) > 0)
        CHECK_EQ(weald_websocket_send(w, what, data, len, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(w), 0);
}

static const char *url_of(const char *scheme, const char *path)
{
    static char text[100];
    snprintf(text, sizeof text, "%s://localhost:%d%s", scheme, http_port, path);
    return text;
}

static void leave_it(weald_http_request r, void *unused)
{
    static char large[4000000];

    (void)unused;
    memset(large, 'x', sizeof large);
    CHECK_GT(accepted = weald_websocket_accept(r, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_websocket_send(accepted, BINARY, large, sizeof large, WEALD_FOREVER), 0);
}

TEST(a_handler_that_leaves_lets_go_what_was_sent_and_nothing_else)
{
    weald_websocket_options how = {.size = sizeof how, .max_message = 5000000};
    const void *data;
    size_t len;
    weald_websocket w;

    http_serve(leave_it, NULL);
    CHECK_GT(w = weald_websocket_connect(url_of("ws", "/"), &how, WEALD_FOREVER), 0);
    CHECK_EQ(weald_websocket_receive(w, &data, &len, WEALD_FOREVER), BINARY);
    CHECK_EQ(len, 4000000);
    CHECK_EQ(receives(w, WEALD_FOREVER), WEALD_ECONNABORTED);
    CHECK_EQ(weald_close(w), 0);
    CHECK_EQ(weald_close(accepted), 0);
}

static void echoes(weald_websocket w)
{
    says(w, "over the wire");
    GETS(w, TEXT, "over the wire");
    CHECK_EQ(weald_websocket_close(w, 0, NULL, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(weald_websocket_close_code(w), 1000);
    CHECK_EQ(weald_close(w), 0);
}

TEST(a_client_and_a_server_agree_over_http_and_https)
{
    weald_tls_config client = tls_client(), server = tls_server("server");
    weald_server_options below = {.size = sizeof below, .tls = server};
    weald_http_options how = {.size = sizeof how, .server = &below};
    weald_websocket_options asking = {.size = sizeof asking, .tls = client, .protocols = "chess, draughts"};
    weald_websocket w;

    accepting.protocols = "draughts,chess";
    for (int i = 0; i < 8; i++) {
        accepting.flags = i & 1 ? WEALD_WEBSOCKET_DEFLATE : 0;
        asking.flags = i & 2 ? WEALD_WEBSOCKET_DEFLATE | WEALD_WEBSOCKET_NO_CONTEXT : 0;
        http_serve(echo, i & 4 ? &how : NULL);
        CHECK_GT(w = weald_websocket_connect(url_of(i & 4 ? "wss" : "ws", "/a?b"), &asking, WEALD_FOREVER), 0);
        CHECK_STR(weald_websocket_protocol(w), "draughts");
        CHECK_GE(weald_websocket_fd(w), 0);
        echoes(w);
        CHECK_EQ(weald_server_stop(http_server, weald_after(WEALD_SEC(5))), 0);
        CHECK_EQ(weald_close(http_server), 0);
    }
}

#define HELLO "GET /chat HTTP/1.1\r\nHost: oak\r\n"
#define ASKS "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"

static const struct {
    const char *request;
    int status;
    int64_t code;
    const char *answer;
} requests[] = {
    {HELLO ASKS KEY V13 "\r\n", 101, 1, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"},
    {HELLO ASKS KEY V13 "Origin: https://oak.test\r\n\r\n", 101, 1, "Upgrade: websocket\r\n"},
    {HELLO ASKS KEY V13 "Sec-WebSocket-Extensions: x, permessage-deflate; server_max_window_bits=10\r\n\r\n", 101, 1,
     "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n"},
    {HELLO ASKS KEY V13 "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b, chat\r\n\r\n", 101, 1,
     "Sec-WebSocket-Protocol: chat\r\n"},
    {HELLO "\r\n", 426, WEALD_EPROTO, "Upgrade: websocket"},
    {HELLO "Upgrade: websocket\r\n" KEY V13 "\r\n", 426, WEALD_EPROTO, ""},
    {HELLO "Connection: upgrade\r\nUpgrade: h2c\r\n" KEY V13 "\r\n", 426, WEALD_EPROTO, ""},
    {HELLO ASKS KEY "\r\n", 426, WEALD_EPROTO, "Sec-WebSocket-Version: 13"},
    {HELLO ASKS KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426, WEALD_EPROTO, "Sec-WebSocket-Version: 13"},
    {HELLO ASKS V13 "\r\n", 400, WEALD_EPROTO, ""},
    {HELLO ASKS V13 "Sec-WebSocket-Key: short\r\n\r\n", 400, WEALD_EPROTO, ""},
    {"POST /chat HTTP/1.1\r\nHost: oak\r\nContent-Length: 0\r\n" ASKS KEY V13 "\r\n", 426, WEALD_EPROTO, ""},
};

TEST(a_request_is_accepted_or_answered_otherwise)
{
    accepting.flags = WEALD_WEBSOCKET_DEFLATE;
    accepting.protocols = "chat";
    http_serve(echo, NULL);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        const char *answer = http_ask(requests[i].request);
        CHECK_EQ(http_status(answer), requests[i].status);
        CHECK_CONTAINS(answer, requests[i].answer);
        if (requests[i].code < 0)
            CHECK_EQ(accepted, requests[i].code);
        else
            CHECK_GT(accepted, 0);
    }
    accepting.flags = WEALD_WEBSOCKET_CLIENT;
    CHECK_EQ(http_status(http_ask(requests[0].request)), 500); /* nobody has answered */
    CHECK_EQ(accepted, WEALD_EINVAL);
    accepting.flags = 0;
    accepting.origins = "https://oak.test, https://elm.test";
    CHECK_EQ(http_status(http_ask(HELLO ASKS KEY V13 "Origin: https://ELM.test\r\n\r\n")), 101);
    CHECK_EQ(http_status(http_ask(HELLO ASKS KEY V13 "Origin: https://elm.test.evil.test\r\n\r\n")), 403);
    CHECK_EQ(accepted, WEALD_EACCES);
    CHECK_EQ(http_status(http_ask(HELLO ASKS KEY V13 "\r\n")), 403);
}

static const char *other_answer;
static void answer_otherwise(weald_http_request r, void *unused)
{
    weald_stream s;

    (void)unused;
    CHECK_EQ(weald_http_add_header(r, "Sec-WebSocket-Accept", other_answer), 0);
    if (strcmp(other_answer, "none") == 0)
        return http_reply_text(r, "a page");
    CHECK_GT(s = weald_http_upgrade(r, strcmp(other_answer, "h2") ? "websocket" : "h2c", WEALD_FOREVER), 0);
}

static void hang_up(weald_http_request r, void *unused)
{
    (void)unused;
    weald_shutdown(weald_stream_fd(weald_http_upgrade(r, "websocket", WEALD_NOW)), SHUT_RDWR);
}

TEST(a_client_does_not_take_any_answer_for_a_yes)
{
    static const struct {
        const char *answer, *why;
    } those[] = {{"none", "answers 200"}, {"h2", "another protocol"}, {"wrong", "has not understood the key"}};
    weald_websocket_options bad = {.size = sizeof bad, .flags = 64}, none = {.size = 0};
    weald_websocket_options line = {.size = sizeof line, .headers = "no header\r\n"};
    weald_websocket_options large = {.size = sizeof large, .max_message = SIZE_MAX};
    weald_websocket_options config = {.size = sizeof config, .tls = tls_server("server")};

    http_serve(answer_otherwise, NULL);
    for (int i = 0; i < 3; i++) {
        other_answer = those[i].answer;
        CHECK_EQ(weald_websocket_connect(url_of("ws", ""), NULL, WEALD_FOREVER), WEALD_EPROTO);
        CHECK_CONTAINS(weald_error_message(weald_self()), those[i].why);
    }
    CHECK_EQ(weald_websocket_connect(url_of("http", ""), NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect(url_of("wss", ""), NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect(NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect("ws://a/ b", NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), &bad, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), &none, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), &line, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), &large, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), &config, WEALD_FOREVER), WEALD_EINVAL);
    for (int i = 0; i < 5; i++) {
        line.headers = (const char *[]){"X: a", "X: a\n", "X: a\n\r\n", "X: a\n\n\r\nY: b\r\n", "X:\n a\r\n"}[i];
        CHECK_EQ(weald_websocket_connect(url_of("ws", ""), &line, WEALD_FOREVER), WEALD_EINVAL);
    }
    config.tls = 77;
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), &config, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_server_stop(http_server, WEALD_NOW), 0);
    CHECK_EQ(weald_close(http_server), 0);
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), NULL, WEALD_FOREVER), WEALD_ECONNREFUSED);
    http_serve(hang_up, NULL);
    CHECK_LT(weald_websocket_connect(url_of("ws", ""), NULL, WEALD_FOREVER), 0);
}

static void *reset_it(void *listener)
{
    int fd = weald_accept((int)HANDLE(listener), NULL, NULL, WEALD_FOREVER);

    CHECK_EQ(weald_wait_read(fd, WEALD_FOREVER), 0);
    CHECK_EQ(weald_set_option(fd, WEALD_OPTION_LINGER, 0), 0);
    CHECK_EQ(weald_close_fd(fd), 0);
    return NULL;
}

TEST(a_client_that_is_reset_or_has_no_descriptor_says_so)
{
    int listener = weald_tcp_listen("127.0.0.1:0", 0, 0);
    weald_greenlet g = spawned(reset_it, POINTER(listener));

    http_port = net_port(listener);
    CHECK_EQ(weald_websocket_connect(url_of("ws", ""), NULL, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(outcome(g), 0);
    net_no_more_fds();
    CHECK_EQ(weald_websocket_connect("ws://127.0.0.1:9", NULL, WEALD_FOREVER), WEALD_EMFILE);
    net_fds_again();
}

/* ---- codes ---- */

static weald_websocket quiet_one, full_one;
static int quiet_other, full_other;
static struct net_silent silent;
static char silent_url[64];

static int64_t w_receive(int64_t d) { return receives(quiet_one, d); }
static int64_t w_receive_part(int64_t d)
{
    const void *data;
    size_t len;
    int last;
    return weald_websocket_receive_part(quiet_one, &data, &len, &last, d);
}
static int64_t w_send_part(int64_t d) { return weald_websocket_send_part(full_one, TEXT, "x", 1, 1, d); }
static int64_t w_send(int64_t d) { return weald_websocket_send(full_one, TEXT, "x", 1, d); }
static int64_t w_close(int64_t d) { return weald_websocket_close(quiet_one, 0, NULL, d); }
static int64_t w_connect(int64_t d) { return weald_websocket_connect(silent_url, NULL, d); }
static int64_t (*const calls[])(int64_t) = {w_receive, w_send, w_close, w_receive_part, w_send_part, w_connect};
enum { CALLS = 6 };
static int64_t (*call)(int64_t);
static int64_t for_ever(void) { return call(WEALD_FOREVER); }

static void prepare(int i)
{
    int ends[2];
    static char lots[1000000];

    call = calls[i];
    unix_pair(ends);
    quiet_one = socket_of(ends[0], 0, 0, 0);
    quiet_other = ends[1];
    unix_pair(ends);
    full_one = socket_of(ends[0], 0, 0, 1);
    full_other = ends[1];
    CHECK_EQ(weald_websocket_send(full_one, BINARY, lots, sizeof lots, WEALD_NOW), 0);
    if (!silent.port) {
        silent = net_silent("127.0.0.1", 0);
        snprintf(silent_url, sizeof silent_url, "ws://127.0.0.1:%d", silent.port);
    }
}

static void *make_call(void *unused)
{
    (void)unused;
    return POINTER(call(WEALD_FOREVER));
}

static void of_another_thread(void)
{
    weald_stream s = weald_stream_new(dup(0), NULL);

    CHECK_EQ(w_receive(WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(w_send(WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(w_receive_part(WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(w_send_part(WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(w_close(WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_websocket_close_code(quiet_one), WEALD_EPERM);
    CHECK_EQ(weald_websocket_unsent(quiet_one), WEALD_EPERM);
    CHECK_EQ(weald_websocket_fd(quiet_one), WEALD_EPERM);
    CHECK_EQ(weald_websocket_accept(quiet_one, NULL, WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_websocket_new(quiet_one, NULL), WEALD_EPERM);
    CHECK_STR(weald_websocket_close_reason(quiet_one), "");
    CHECK_STR(weald_websocket_protocol(quiet_one), "");
    weald_close(s);
}

TEST(calls_on_connections_tell_why_they_did_not_wait)
{
    for (int i = 0; i < CALLS; i++) {
        weald_greenlet g;

        prepare(i);
        CHECK_EQ(call(WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(call(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
        CHECK_EQ(in_a_timeout(for_ever), WEALD_ETIMEDOUT);
        CHECK_EQ(when_killed(for_ever), WEALD_ECANCELED);
        CHECK_EQ(in_a_callback(for_ever), WEALD_EWOULDBLOCK);
        CHECK_EQ(when_forbidden(for_ever), WEALD_EPERM);
        if (call == w_connect)
            continue;
        in_another_thread(of_another_thread);
        g = spawned(make_call, NULL);
        CHECK_EQ(weald_yield(), 0);
        int sends = call == w_send || call == w_send_part;
        if (call == w_receive || call == w_receive_part)
            CHECK_EQ(call(WEALD_FOREVER), WEALD_EBUSY);
        CHECK_EQ(weald_close(sends ? full_one : quiet_one), 0);
        CHECK_EQ(outcome(g), WEALD_EBADF);
        CHECK_EQ(call(WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_close(sends ? quiet_one : full_one), 0);
        CHECK_EQ(weald_close_fd(quiet_other), 0);
        CHECK_EQ(weald_close_fd(full_other), 0);
    }
}

TEST(no_call_on_a_connection_waits_without_memory)
{
    int64_t codes[7];
    int ends[2];
    weald_stream s;

    prepare(0);
    unix_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[0], NULL), 0);
    starve();
    codes[0] = w_receive(soon());
    codes[1] = w_send(soon());
    codes[2] = w_close(soon());
    codes[3] = w_connect(soon());
    codes[4] = weald_websocket_new(s, NULL);
    codes[5] = w_receive_part(soon());
    codes[6] = w_send_part(soon());
    feed();
    for (int i = 0; i < 7; i++)
        CHECK_EQ(codes[i], WEALD_ENOMEM);
    CHECK_EQ(weald_close(s), 0); /* is still the caller's */
}

TEST(a_reset_connection_says_so)
{
    for (int i = 0; i < 5; i++) {
        int ends[2];

        tcp_pair(ends);
        quiet_one = full_one = socket_of(ends[0], 0, 0, 0);
        if (i == 2)
            CHECK_EQ(weald_websocket_close(quiet_one, 0, NULL, WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(weald_set_option(ends[1], WEALD_OPTION_LINGER, 0), 0);
        CHECK_EQ(weald_close_fd(ends[1]), 0);
        CHECK_EQ(weald_wait_read(ends[0], WEALD_FOREVER), 0);
        CHECK_EQ(calls[i](WEALD_FOREVER), i % 3 == 1 ? WEALD_EPIPE : WEALD_ECONNRESET);
        CHECK_EQ(weald_close(quiet_one), 0);
    }
}

TEST(closes_that_make_no_sense_are_refused_and_those_of_the_other_side_are_told)
{
    static const char *const bytes[] = {"\x81\x05", "\x82\xff\0\0\1\0\0\0\0\0\0\0\0\0", ""};
    static const size_t lens[] = {2, 14, 0};
    static const int codes[] = {WEALD_EPROTO, WEALD_EMSGSIZE, WEALD_ECONNABORTED};
    weald_stream_options borrows = {.size = sizeof borrows};
    char reason[130];
    const void *data;
    size_t len;
    int last;

    prepare(0);
    memset(reason, 'x', sizeof reason);
    reason[124] = '\0';
    CHECK_EQ(weald_websocket_close(quiet_one, 1005, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_close(quiet_one, -1, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_close(quiet_one, 70000, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_close(quiet_one, 0, "why", WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_close(quiet_one, 1000, reason, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_receive(quiet_one, NULL, &len, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_receive(quiet_one, &data, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_receive_part(quiet_one, NULL, &len, &last, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_receive_part(quiet_one, &data, NULL, &last, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_receive_part(quiet_one, &data, &len, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_send_part(quiet_one, WEALD_WEBSOCKET_PING, "x", 1, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_send_part(quiet_one, TEXT, NULL, 1, 1, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_websocket_accept(0, NULL, WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_websocket_new(0, NULL), WEALD_EBADF);
    CHECK_EQ(weald_websocket_close_code(0), WEALD_EBADF);
    CHECK_EQ(weald_websocket_unsent(0), WEALD_EBADF);
    CHECK_EQ(weald_websocket_fd(0), WEALD_EBADF);
    for (int i = 0; i < 3; i++) {
        prepare(0);
        CHECK_EQ(weald_write_all(quiet_other, bytes[i], lens[i], NULL, WEALD_FOREVER), 0);
        if (i == 2)
            CHECK_EQ(weald_shutdown(quiet_other, SHUT_WR), 0);
        CHECK_EQ(weald_websocket_close(quiet_one, 0, NULL, WEALD_FOREVER), codes[i]);
        CHECK_EQ(w_receive_part(WEALD_FOREVER), codes[i]);
    }
    borrows.flags = 0;
    weald_websocket_options how = {.size = sizeof how, .flags = 64};
    weald_stream s = weald_stream_new(dup(quiet_other), &borrows);
    CHECK_EQ(weald_websocket_new(s, &how), WEALD_EINVAL);
    CHECK_EQ(weald_close(s), 0);
}
