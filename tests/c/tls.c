/* TLS over streams. */
#include "greenlets.h"
#include "lines.h"
#include "net.h"
#include "starve.h"
#include "tls.h"

#define HANDLE(p) ((int64_t)(intptr_t)(p))
#define POINTER(n) ((void *)(intptr_t)(n))

/* ---- what is agreed ---- */

TEST(two_streams_shake_hands_and_talk)
{
    struct tls_pair pair = tls_pair();
    weald_tls_info client = tls_info(pair.client), server = tls_info(pair.server);
    const char *line;

    CHECK_STR(client.protocol, "TLSv1.3");
    CHECK_CONTAINS(client.cipher, "TLS_");
    CHECK_STR(client.cipher, server.cipher);
    CHECK_GT(client.certificate_len, 100);
    CHECK_EQ(server.certificate_len, 0);
    CHECK_EQ(server.server_name_len, 8);
    CHECK_EQ(memcmp(server.server_name, "oak.test", 8), 0);
    CHECK_EQ(client.alpn_len, 0);
    CHECK_EQ(client.resumed, 0);
    tls_say(pair.client, pair.server, "hello");
    tls_say(pair.server, pair.client, "good day");
    CHECK_EQ(weald_stream_write(pair.client, "one\r\ntwo\n", 9, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_unsent(pair.client), 9);
    CHECK_EQ(weald_stream_flush(pair.client, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_unsent(pair.client), 0);
    CHECK_EQ(weald_stream_line(pair.server, &line, NULL, 10, WEALD_FOREVER), 1);
    CHECK_STR(line, "one");
    CHECK_EQ(weald_stream_fill(pair.server, 4, WEALD_NOW), 4);
    CHECK_EQ(weald_stream_skip(pair.server, 4), 0);
    tls_close(&pair);
}

static void agree(weald_tls_options client, weald_tls_options server, const char *protocol, const char *alpn)
{
    weald_tls_config ours = weald_tls_client(&client), theirs = weald_tls_server(&server);
    struct tls_pair pair = tls_streams(unix_pair);

    CHECK_GT(ours, 0);
    CHECK_GT(theirs, 0);
    tls_shake(&pair, ours, theirs, "oak.test");
    if (protocol) {
        weald_tls_info info;
        CHECK_EQ(pair.client_code, 0);
        CHECK_EQ(pair.server_code, 0);
        info = tls_info(pair.server);
        CHECK_STR(info.protocol, protocol);
        CHECK_EQ(info.alpn_len, strlen(alpn));
        CHECK(info.alpn_len == 0 || memcmp(info.alpn, alpn, info.alpn_len) == 0);
        tls_say(pair.client, pair.server, "yes");
    } else {
        CHECK_EQ(pair.client_code, WEALD_EPROTO);
        CHECK_EQ(pair.server_code, WEALD_EPROTO);
        CHECK_CONTAINS(pair.server_why, alpn);
    }
    tls_close(&pair);
    CHECK_EQ(weald_close(ours), 0);
    CHECK_EQ(weald_close(theirs), 0);
}

TEST(the_protocol_that_the_server_likes_best_is_chosen)
{
    weald_tls_options client = tls_client_options(), server = tls_server_options("server");

    client.alpn = "h2,http/1.1";
    agree(client, server, "TLSv1.3", "");
    server.alpn = "http/1.1,h2";
    agree(client, server, "TLSv1.3", "http/1.1");
    client.alpn = NULL;
    agree(client, server, "TLSv1.3", "");
    client.alpn = "spdy/3";
    agree(client, server, NULL, "ALPN");
    server.flags = client.flags = WEALD_TLS_ONLY_1_3;
    client.alpn = "h2";
    agree(client, server, "TLSv1.3", "h2");
}

TEST(certificates_may_be_text_and_share_a_file_with_their_keys)
{
    weald_tls_options client = tls_client_options(), server = tls_server_options("server");

    client.roots = tls_text("root.pem");
    server.certificate = tls_text("both.pem");
    server.key = NULL;
    agree(client, server, "TLSv1.3", "");
    server.certificate = tls_file("both.pem");
    agree(client, server, "TLSv1.3", "");
}

static struct tls_pair shaken(weald_tls_config client, weald_tls_config server, const char *name)
{
    struct tls_pair pair = tls_streams(tcp_pair);
    tls_shake(&pair, client, server, name);
    return pair;
}

/* What the client knows of the server's certificate. */
static void shown(weald_tls_config client, weald_tls_config server, const char *name, char *der, size_t *len)
{
    struct tls_pair pair = shaken(client, server, name);
    weald_tls_info info;

    CHECK_EQ(pair.client_code, 0);
    info = tls_info(pair.client);
    CHECK_LE(info.certificate_len, 2000);
    memcpy(der, info.certificate, *len = info.certificate_len);
    tls_close(&pair);
}

TEST(a_server_with_several_certificates_shows_the_one_for_the_name)
{
    weald_tls_config client = tls_client(), server = tls_server("server");
    char oak[2000], elm[2000], other[2000];
    size_t oak_len, elm_len, len;
    struct tls_pair pair;

    shown(client, server, "oak.test", oak, &oak_len);
    pair = shaken(client, server, "elm.test");
    CHECK_EQ(pair.client_code, WEALD_ECERTIFICATE);
    CHECK_CONTAINS(pair.client_why, "not for elm.test, but for");
    tls_close(&pair);
    CHECK_EQ(weald_tls_add_certificate(server, tls_file("second.pem"), tls_file("second.key")), 0);
    shown(client, server, "elm.test", elm, &elm_len);
    CHECK(oak_len != elm_len || memcmp(oak, elm, oak_len) != 0);
    shown(client, server, "a.elm.test", other, &len);
    CHECK(len == elm_len && memcmp(other, elm, len) == 0);
    shown(client, server, "127.0.0.1", other, &len); /* no name is asked for */
    CHECK(len == oak_len && memcmp(other, oak, len) == 0);
    CHECK_EQ(weald_tls_add_certificate(client, tls_file("second.pem"), tls_file("second.key")), WEALD_EINVAL);
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(weald_close(server), 0);
}

static void copy(const char *from, const char *to)
{
    FILE *f = fopen(to, "w");
    CHECK(f != NULL);
    CHECK_GE(fputs(tls_text(from), f), 0);
    CHECK_EQ(fclose(f), 0);
}

TEST(a_reload_is_for_those_who_come_and_leaves_those_who_are_there)
{
    char certificate[] = "/tmp/weald-test-XXXXXX", key[] = "/tmp/weald-test-XXXXXX";
    char before[2000], after[2000];
    size_t before_len, after_len;
    weald_tls_options how = tls_server_options("server");
    weald_tls_config client = tls_client(), server;
    struct tls_pair old, refused;

    close(mkstemp(certificate));
    close(mkstemp(key));
    how.certificate = certificate;
    how.key = key;
    copy("server.pem", certificate);
    copy("server.key", key);
    CHECK_GT(server = weald_tls_server(&how), 0);
    old = shaken(client, server, "oak.test");
    shown(client, server, "oak.test", before, &before_len);

    copy("renewed.pem", certificate); /* the key is still the old one */
    CHECK_EQ(weald_tls_reload(server), WEALD_EINVAL);
    CHECK_CONTAINS(tls_why(), "is not that of the first certificate");
    refused = shaken(client, server, "oak.test");
    CHECK_EQ(refused.client_code, 0);
    tls_close(&refused);

    copy("renewed.key", key);
    CHECK_EQ(weald_tls_reload(server), 0);
    weald_tls_config fresh = tls_client(); /* it has no ticket */
    shown(fresh, server, "oak.test", after, &after_len);
    CHECK(before_len != after_len || memcmp(before, after, before_len) != 0);
    tls_say(old.client, old.server, "still here");
    tls_say(old.server, old.client, "so am I");
    tls_close(&old);
    CHECK_EQ(unlink(certificate), 0);
    CHECK_EQ(weald_tls_reload(server), WEALD_ENOENT);
    CHECK_EQ(unlink(key), 0);
    CHECK_EQ(weald_close(fresh), 0);
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(weald_close(server), 0);
}

TEST(a_second_connection_goes_on_with_the_session_of_the_first)
{
    for (int mode = 0; mode < 2; mode++) {
        weald_tls_options how = tls_server_options("server");
        weald_tls_config client = tls_client(), server;

        how.flags = mode ? WEALD_TLS_NO_TICKETS : 0;
        CHECK_GT(server = weald_tls_server(&how), 0);
        for (int i = 0; i < 3; i++) {
            struct tls_pair pair = shaken(client, server, "oak.test");
            CHECK_EQ(pair.client_code, 0);
            CHECK_EQ(tls_info(pair.server).resumed, i > 0 && !mode);
            CHECK_EQ(tls_info(pair.client).resumed, i > 0 && !mode);
            CHECK_GT(tls_info(pair.client).certificate_len, 0);
            tls_say(pair.server, pair.client, "take a ticket"); /* it comes before this */
            if (i == 1)
                CHECK_EQ(weald_tls_reload(server), 0); /* tickets outlast it */
            tls_close(&pair);
        }
        CHECK_EQ(weald_close(client), 0);
        CHECK_EQ(weald_close(server), 0);
    }
}

/* ---- who is not let in ---- */

static void not_trusted(const char *who, const char *name, const char *why)
{
    weald_tls_config client = tls_client(), server = tls_server(who);
    struct tls_pair pair = shaken(client, server, name);

    CHECK_EQ(pair.client_code, WEALD_ECERTIFICATE);
    CHECK_CONTAINS(pair.client_why, why);
    CHECK_EQ(pair.server_code, WEALD_EPROTO);
    CHECK_CONTAINS(pair.server_why, "the client has given up");
    tls_close(&pair);
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(weald_close(server), 0);
}

TEST(a_client_says_which_check_of_the_server_failed)
{
    not_trusted("server", "ash.test", "is for another name: not for ash.test, but for ");
    not_trusted("server", "127.0.0.2", "is for another name");
    not_trusted("expired", "oak.test", "has expired");
    not_trusted("early", "oak.test", "is not valid yet");
    not_trusted("stranger", "oak.test", "is signed by nobody we trust");
    not_trusted("client", "ash.test", "is not for this purpose");
}

TEST(an_insecure_client_takes_anybody)
{
    static const char *const those[] = {"expired", "stranger", "server"};

    for (int i = 0; i < 3; i++) {
        weald_tls_options how = {.size = sizeof how, .flags = WEALD_TLS_INSECURE};
        weald_tls_config client = weald_tls_client(&how), server = tls_server(those[i]);
        struct tls_pair pair = shaken(client, server, "nobody.test");

        CHECK_EQ(pair.client_code, 0);
        tls_say(pair.client, pair.server, "whoever you are");
        tls_close(&pair);
        CHECK_EQ(weald_close(client), 0);
        CHECK_EQ(weald_close(server), 0);
    }
}

/* The server's code, and the client's with its first read: in 1.3 it does not know earlier. */
static void client_shows(const char *who, int flags, int code, const char *why, const char *told)
{
    weald_tls_options ours = tls_client_options(), theirs = tls_server_options("server");
    weald_tls_config client, server;
    struct tls_pair pair;
    char byte;

    if (who) {
        weald_tls_options own = tls_server_options(who);
        ours.certificate = own.certificate;
        ours.key = own.key;
    }
    theirs.flags = flags;
    theirs.roots = tls_file("root.pem");
    CHECK_GT(client = weald_tls_client(&ours), 0);
    CHECK_GT(server = weald_tls_server(&theirs), 0);
    for (int again = 0; again < (code ? 1 : 2); again++) {
        pair = shaken(client, server, "oak.test");
        CHECK_EQ(pair.server_code, code);
        if (code == 0) {
            CHECK_EQ(pair.client_code, 0);
            CHECK_EQ(tls_info(pair.server).certificate_len > 0, who != NULL);
            CHECK_EQ(tls_info(pair.server).resumed, again);
            tls_say(pair.server, pair.client, "be welcome");
        } else {
            CHECK_CONTAINS(pair.server_why, why);
            CHECK_EQ(weald_stream_read(pair.client, &byte, 1, WEALD_FOREVER), WEALD_EPROTO);
            CHECK_CONTAINS(tls_why(), told);
            CHECK_EQ(weald_stream_write(pair.client, "x", 1, NULL, WEALD_NOW), 0);
            CHECK_EQ(weald_stream_flush(pair.client, WEALD_NOW), WEALD_EPROTO);
        }
        tls_close(&pair);
    }
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(weald_close(server), 0);
}

TEST(a_server_asks_for_a_client_s_certificate)
{
    client_shows("client", WEALD_TLS_PEER_REQUIRED, 0, NULL, NULL);
    client_shows("client", WEALD_TLS_PEER_OPTIONAL, 0, NULL, NULL);
    client_shows(NULL, WEALD_TLS_PEER_OPTIONAL, 0, NULL, NULL);
    client_shows(NULL, WEALD_TLS_PEER_REQUIRED, WEALD_ECERTIFICATE, "has shown no certificate",
                 "it requires a certificate of ours");
    client_shows("intruder", WEALD_TLS_PEER_REQUIRED, WEALD_ECERTIFICATE, "is signed by nobody we trust",
                 "it trusts nobody who has signed");
    client_shows("intruder", WEALD_TLS_PEER_OPTIONAL, WEALD_ECERTIFICATE, "is signed by nobody we trust",
                 "it trusts nobody who has signed");
}

TEST(who_was_accepted_before_a_reload_must_show_his_certificate_again)
{
    char roots[] = "/tmp/weald-test-XXXXXX";
    weald_tls_options ours = tls_client_options(), theirs = tls_server_options("server");
    weald_tls_options own = tls_server_options("client");
    weald_tls_config client, server;
    struct tls_pair pair;

    close(mkstemp(roots));
    copy("root.pem", roots);
    ours.certificate = own.certificate;
    ours.key = own.key;
    theirs.flags = WEALD_TLS_PEER_REQUIRED;
    theirs.roots = roots;
    CHECK_GT(client = weald_tls_client(&ours), 0);
    CHECK_GT(server = weald_tls_server(&theirs), 0);
    pair = shaken(client, server, "oak.test");
    CHECK_EQ(pair.server_code, 0);
    tls_say(pair.server, pair.client, "take a ticket");
    tls_close(&pair);
    copy("other.pem", roots);
    CHECK_EQ(weald_tls_reload(server), 0);
    pair = shaken(client, server, "oak.test");
    CHECK_EQ(pair.server_code, WEALD_ECERTIFICATE);
    tls_close(&pair);
    CHECK_EQ(unlink(roots), 0);
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(weald_close(server), 0);
}

/* ---- handshakes that fail ---- */

/* The server's code when the other end is a plain descriptor that says `text`, and then hangs up or stays. */
static int accepted(const char *text, size_t len, int hangs_up, char *why)
{
    weald_tls_config config = tls_server("server");
    int ends[2], code;
    weald_stream s;

    tcp_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[0], NULL), 0);
    CHECK_EQ(weald_write_all(ends[1], text, len, NULL, WEALD_FOREVER), 0);
    if (hangs_up)
        CHECK_EQ(weald_close_fd(ends[1]), 0);
    code = weald_tls_accept(s, config, weald_after(WEALD_MS(50)));
    snprintf(why, 400, "%s", code == WEALD_ETIMEDOUT ? "" : tls_why());
    CHECK_EQ(weald_tls_accept(s, config, weald_after(WEALD_MS(1))), code); /* and so it stays */
    CHECK_EQ(weald_close(s), 0);
    if (!hangs_up)
        CHECK_EQ(weald_close_fd(ends[1]), 0);
    CHECK_EQ(weald_close(config), 0);
    return code;
}

TEST(what_is_no_handshake_is_refused_with_a_reason)
{
    static const char hello[] = {22, 3, 1, 0, 100, 1, 0, 0, 96, 3, 3};
    char why[400];

    CHECK_EQ(accepted("GET / HTTP/1.1\r\n\r\n", 18, 0, why), WEALD_EPROTO);
    CHECK_CONTAINS(why, "is it the right port?");
    CHECK_EQ(accepted("\0\0\0\0\0\0\0\0", 8, 0, why), WEALD_EPROTO);
    CHECK_EQ(accepted("\x16\x03\x01\xff\xff", 5, 0, why), WEALD_EPROTO);
    CHECK_EQ(accepted("\x15\x03\x01\0\2\2\50", 7, 0, why), WEALD_EPROTO); /* an alert */
    CHECK_CONTAINS(why, "has given up");
    CHECK_EQ(accepted(hello, sizeof hello, 0, why), WEALD_ETIMEDOUT);
    CHECK_EQ(accepted("", 0, 0, why), WEALD_ETIMEDOUT);
    CHECK_EQ(accepted(hello, sizeof hello, 1, why), WEALD_ECONNABORTED);
    CHECK_CONTAINS(why, "in the middle of the handshake");
    CHECK_EQ(accepted("", 0, 1, why), WEALD_ECONNABORTED);
}

static int connected(const char *text, size_t len, int reset, char *why)
{
    weald_tls_config config = tls_client();
    char hello[4096];
    int ends[2], code;
    weald_stream s;

    tcp_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[1], NULL), 0);
    CHECK_EQ(weald_tls_connect(s, config, "oak.test", WEALD_NOW), WEALD_EAGAIN);
    if (reset) {
        CHECK_EQ(weald_set_option(ends[0], WEALD_OPTION_LINGER, 0), 0);
    } else {
        CHECK_GT(weald_read(ends[0], hello, sizeof hello, WEALD_FOREVER), 50);
        CHECK_EQ(weald_write_all(ends[0], text, len, NULL, WEALD_FOREVER), 0);
    }
    CHECK_EQ(weald_close_fd(ends[0]), 0);
    code = weald_tls_connect(s, config, "oak.test", weald_after(WEALD_MS(500)));
    snprintf(why, 400, "%s", tls_why());
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(weald_close(config), 0);
    return code;
}

TEST(a_server_that_is_none_is_told_apart)
{
    char why[400];

    CHECK_EQ(connected("SSH-2.0-OpenSSH_9\r\n", 19, 0, why), WEALD_EPROTO);
    CHECK_CONTAINS(why, "is it the right port?");
    CHECK_EQ(connected("\x15\x03\x03\0\2\2\x46", 7, 0, why), WEALD_EPROTO);
    CHECK_CONTAINS(why, "a version of TLS");
    CHECK_EQ(connected("", 0, 0, why), WEALD_ECONNABORTED);
    CHECK_EQ(connected("", 0, 1, why), WEALD_ECONNRESET);
}

/* ---- byte by byte ---- */

struct relay {
    int from, to;
};

static void *byte_by_byte(void *arg)
{
    struct relay *relay = arg;
    char byte;
    int64_t n;

    while ((n = weald_read(relay->from, &byte, 1, WEALD_FOREVER)) == 1)
        if (weald_write(relay->to, &byte, 1, WEALD_FOREVER) != 1)
            break;
    if (n == 0)
        weald_shutdown(relay->to, SHUT_WR);
    return NULL;
}

/* Two relays between a client and a server that have shaken hands, and the relays' ends. */
static struct relay there, back;
static weald_greenlet relays[2];

static struct tls_pair relayed(void)
{
    int client[2], server[2];
    struct tls_pair pair = {0};

    unix_pair(client);
    unix_pair(server);
    there = (struct relay){client[1], server[1]};
    back = (struct relay){server[1], client[1]};
    relays[0] = spawned(byte_by_byte, &there);
    relays[1] = spawned(byte_by_byte, &back);
    CHECK_GT(pair.client = weald_stream_new(client[0], NULL), 0);
    CHECK_GT(pair.server = weald_stream_new(server[0], NULL), 0);
    tls_shake(&pair, tls_client(), tls_server("server"), "oak.test");
    CHECK_EQ(pair.client_code, 0);
    CHECK_EQ(pair.server_code, 0);
    return pair;
}

TEST(a_connection_that_gives_a_byte_at_a_time_is_one)
{
    struct tls_pair pair = relayed();
    static char large[40000], got[40000];
    char byte;

    tls_say(pair.client, pair.server, "slowly");
    memset(large, 'x', sizeof large);
    CHECK_EQ(weald_stream_write(pair.server, large, sizeof large, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_end(pair.server, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read_exact(pair.client, got, sizeof got, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(memcmp(got, large, sizeof got), 0);
    CHECK_EQ(weald_stream_read(pair.client, &byte, 1, WEALD_FOREVER), 0);
    tls_close(&pair);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weald_join(relays[i], weald_after(WEALD_SEC(5))), 0);
    weald_close_fd(there.from);
    weald_close_fd(there.to);
}

/* ---- much, in all sizes, both ways at once ---- */

static unsigned char nth(size_t i) { return (unsigned char)(i * 7 + (i >> 10)); }

enum { LOTS = 3000000 };

static void *write_lots(void *s)
{
    unsigned char *bytes = malloc(LOTS);

    for (size_t i = 0; i < LOTS; i++)
        bytes[i] = nth(i);
    for (size_t at = 0, size = 1; at < LOTS; size = size * 3 % 70001 + 1) {
        size_t n = size < LOTS - at ? size : LOTS - at;
        CHECK_EQ(weald_stream_write(HANDLE(s), bytes + at, n, NULL, WEALD_FOREVER), 0);
        at += n;
        if (size % 5 == 0)
            CHECK_EQ(weald_stream_flush(HANDLE(s), WEALD_FOREVER), 0);
    }
    CHECK_EQ(weald_stream_end(HANDLE(s), WEALD_FOREVER), 0);
    free(bytes);
    return NULL;
}

static void *read_lots(void *s)
{
    static unsigned char bytes[100000];
    size_t all = 0, wrong = 0;
    int64_t n;

    for (size_t size = 1; (n = weald_stream_read(HANDLE(s), bytes, size, WEALD_FOREVER)) > 0; size = size * 5 % 90001 + 1)
        for (int64_t i = 0; i < n; i++)
            wrong += bytes[i] != nth(all++);
    CHECK_EQ(n, 0);
    CHECK_EQ(wrong, 0);
    return POINTER(all);
}

TEST(what_is_written_in_all_sizes_comes_in_order_both_ways_at_once)
{
    struct tls_pair pair = tls_pair();
    weald_greenlet all[4] = {
        spawned(write_lots, POINTER(pair.client)), spawned(write_lots, POINTER(pair.server)),
        spawned(read_lots, POINTER(pair.client)), spawned(read_lots, POINTER(pair.server)),
    };

    for (int i = 0; i < 4; i++)
        CHECK_EQ(outcome(all[i]), i < 2 ? 0 : LOTS);
    tls_close(&pair);
}

/* ---- the end ---- */

TEST(an_end_that_was_said_is_an_end_and_one_that_was_not_is_an_error)
{
    char byte;
    struct tls_pair pair = tls_pair();

    tls_say(pair.client, pair.server, "x");
    CHECK_EQ(weald_stream_end(pair.client, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read(pair.server, &byte, 1, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read(pair.server, &byte, 1, WEALD_FOREVER), 0);
    tls_say(pair.server, pair.client, "the other way it goes on");
    CHECK_EQ(weald_stream_write(pair.client, "x", 1, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(pair.client, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(pair.server), 0); /* says it as well */
    CHECK_EQ(weald_stream_read(pair.client, &byte, 1, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(pair.client), 0);

    pair = tls_pair();
    CHECK_EQ(weald_stream_write(pair.server, "lost", 4, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_close(pair.server), 0); /* not all had gone, so this is no end */
    CHECK_EQ(weald_stream_read(pair.client, &byte, 1, WEALD_FOREVER), WEALD_ECONNABORTED);
    CHECK_CONTAINS(tls_why(), "without a close_notify");
    CHECK_EQ(weald_stream_read(pair.client, &byte, 1, WEALD_FOREVER), WEALD_ECONNABORTED);
    CHECK_EQ(weald_close(pair.client), 0);

    pair = tls_pair();
    tls_say(pair.server, pair.client, "let us see");
    CHECK_EQ(weald_stream_write(pair.server, "line, and hal", 13, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_flush(pair.server, WEALD_FOREVER), 0);
    CHECK_EQ(weald_shutdown(weald_stream_fd(pair.server), SHUT_WR), 0);
    CHECK_EQ(weald_stream_fill(pair.client, 20, WEALD_FOREVER), WEALD_ECONNABORTED);
    CHECK_EQ(weald_stream_skip(pair.client, 13), 0); /* it has come, and is there */
    tls_close(&pair);
}

/* A record is changed on its way. */
TEST(a_record_that_was_changed_is_noticed)
{
    struct tls_pair pair = relayed();
    char byte, record[200];
    int64_t n;

    tls_say(pair.client, pair.server, "unchanged");
    CHECK_EQ(weald_kill(relays[0], 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_write(pair.client, "changed", 7, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_flush(pair.client, WEALD_FOREVER), 0);
    CHECK_GT(n = weald_read(there.from, record, sizeof record, WEALD_FOREVER), 20);
    record[n - 1] ^= 1;
    CHECK_EQ(weald_write_all(there.to, record, (size_t)n, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read(pair.server, &byte, 1, WEALD_FOREVER), WEALD_EPROTO);
    CHECK_CONTAINS(tls_why(), "can not be decrypted");
    CHECK_EQ(weald_stream_read(pair.client, &byte, 1, WEALD_FOREVER), WEALD_EPROTO); /* its alert */
    CHECK_CONTAINS(tls_why(), "has given up");
    tls_close(&pair);
}

/* ---- cut short ---- */

static weald_tls_config shared_client, shared_server;

static void *connect_it(void *s)
{
    return POINTER(weald_tls_connect(HANDLE(s), shared_client, "oak.test", WEALD_FOREVER));
}
static void *accept_it(void *s) { return POINTER(weald_tls_accept(HANDLE(s), shared_server, WEALD_FOREVER)); }

TEST(a_handshake_that_was_cut_short_anywhere_goes_on)
{
    shared_client = tls_client();
    shared_server = tls_server("server");
    for (int steps = 0; steps < 8; steps++)
        for (int who = 0; who < 2; who++) {
            struct tls_pair pair = tls_streams(unix_pair);
            weald_greenlet g[2] = {spawned(connect_it, POINTER(pair.client)), spawned(accept_it, POINTER(pair.server))};
            intptr_t code;

            for (int i = 0; i < steps; i++)
                CHECK_EQ(weald_sleep(0), 0);
            CHECK_EQ(weald_kill(g[who], 0, WEALD_FOREVER), 0);
            code = steps == 0 ? WEALD_ECANCELED : outcome(g[who]);
            CHECK(code == 0 || code == WEALD_ECANCELED);
            /* The handshake goes on with a write on this side, or another call. */
            if (steps % 2) {
                weald_stream s = who ? pair.server : pair.client;
                if (code == 0) {
                    CHECK_EQ(who ? HANDLE(accept_it(POINTER(s))) : HANDLE(connect_it(POINTER(s))), WEALD_EALREADY);
                } else if (weald_tls_info_get(s, &(weald_tls_info){.size = sizeof(weald_tls_info)}) == WEALD_EAGAIN) {
                    CHECK_EQ(weald_stream_write(s, "now", 3, NULL, WEALD_FOREVER), 0);
                    CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
                    CHECK_EQ(weald_join(g[!who], WEALD_FOREVER), 0);
                    char three[3];
                    CHECK_EQ(weald_stream_read_exact(who ? pair.client : pair.server, three, 3, NULL, WEALD_FOREVER), 0);
                } else {
                    code = who ? HANDLE(accept_it(POINTER(s))) : HANDLE(connect_it(POINTER(s)));
                    CHECK(code == 0 || code == WEALD_EALREADY);
                }
            } else {
                code = who ? HANDLE(accept_it(POINTER(pair.server))) : HANDLE(connect_it(POINTER(pair.client)));
                CHECK(code == 0 || code == WEALD_EALREADY);
            }
            CHECK_EQ(outcome(g[!who]), 0);
            tls_say(pair.client, pair.server, "whole");
            tls_say(pair.server, pair.client, "whole as well");
            tls_close(&pair);
        }
}

static weald_stream line_writer;

static void put_line(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(weald_stream_write(line_writer, bytes + i, 1, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(line_writer, WEALD_FOREVER), 0);
}

static void end_lines(void) { CHECK_EQ(weald_stream_end(line_writer, WEALD_FOREVER), 0); }

TEST(no_line_is_lost_or_cut_when_reader_and_writer_are_killed)
{
    struct tls_pair pair = tls_pair();

    line_writer = pair.client;
    lines_survive_kills(pair.server, put_line, end_lines, test_rounds(2000));
    tls_close(&pair);
}

TEST(a_write_cut_short_tells_what_it_took_and_loses_nothing)
{
    unsigned char *bytes = malloc(LOTS);
    struct tls_pair pair = tls_pair_over(unix_pair);
    size_t at = 0, done;
    weald_greenlet g;
    int code;

    for (size_t i = 0; i < LOTS; i++)
        bytes[i] = nth(i);
    for (int i = 0; i < 20 && at < LOTS; i++) { /* nobody reads: soon it is full */
        code = weald_stream_write(pair.client, bytes + at, LOTS - at, &done, weald_after(WEALD_MS(i % 3)));
        at += done;
        CHECK(code == WEALD_ETIMEDOUT || at == LOTS);
    }
    CHECK_GT(weald_stream_unsent(pair.client), 0);
    CHECK_EQ(weald_stream_flush(pair.client, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_stream_flush(pair.client, WEALD_NOW), WEALD_EAGAIN);
    g = spawned(read_lots, POINTER(pair.server));
    CHECK_EQ(weald_stream_write(pair.client, bytes + at, LOTS - at, &done, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_end(pair.client, WEALD_FOREVER), 0);
    CHECK_EQ(outcome(g), LOTS);
    free(bytes);
    tls_close(&pair);
}

TEST(plain_talk_comes_before_the_handshake)
{
    struct tls_pair pair = tls_streams(tcp_pair);
    weald_tls_config client = tls_client(), server = tls_server("server");
    const char *line;

    CHECK_EQ(weald_stream_write(pair.server, "220 go ahead\r\n", 14, NULL, WEALD_NOW), 0); /* goes with the handshake */
    CHECK_EQ(weald_stream_write(pair.client, "STARTTLS\r\n", 10, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_tls_connect(pair.client, client, "oak.test", WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_stream_line(pair.server, &line, NULL, 100, WEALD_FOREVER), 1); /* reads ahead */
    CHECK_STR(line, "STARTTLS");
    CHECK_EQ(weald_close(pair.client), 0);
    CHECK_EQ(weald_close(pair.server), 0);

    pair = tls_streams(tcp_pair);
    CHECK_EQ(weald_stream_write(pair.client, "STARTTLS\r\n", 10, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_tls_connect(pair.client, client, "oak.test", WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_stream_line(pair.server, &line, NULL, 100, WEALD_FOREVER), 1);
    tls_shake(&pair, client, server, "oak.test");
    CHECK_EQ(pair.client_code, 0);
    CHECK_EQ(pair.server_code, 0);
    tls_say(pair.client, pair.server, "in secret");
    CHECK_EQ(weald_tls_connect(pair.client, client, "oak.test", WEALD_NOW), WEALD_EALREADY);
    CHECK_EQ(weald_tls_accept(pair.client, server, WEALD_NOW), WEALD_EALREADY);
    tls_close(&pair);
}


TEST(a_forked_child_has_no_part_in_it)
{
    struct tls_pair pair = tls_pair();
    char byte;
    int status;
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(weald_stream_read(pair.client, &byte, 1, WEALD_NOW), WEALD_EPERM);
        CHECK_EQ(weald_stream_write(pair.client, "x", 1, NULL, WEALD_NOW), 0);
        CHECK_EQ(weald_stream_flush(pair.client, WEALD_NOW), WEALD_EPERM);
        CHECK_EQ(weald_stream_end(pair.server, WEALD_NOW), WEALD_EPERM);
        tls_close(&pair);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    tls_say(pair.client, pair.server, "here it goes on");
    tls_close(&pair);
}

/* ---- memory ---- */

TEST_WITH_LIMIT(an_idle_connection_holds_little, 120)
{
    enum { PAIRS = 500 };
    static struct tls_pair pairs[PAIRS];
    weald_tls_config client = tls_client(), server = tls_server("server");
    long before, after;

    if (*test_under())
        SKIP("memory is the checker's here");
    for (int round = 0; round < 2; round++) {
        before = test_rss();
        for (int i = 0; i < PAIRS; i++) {
            pairs[i] = tls_streams(unix_pair);
            tls_shake(&pairs[i], client, server, "oak.test");
            CHECK_EQ(pairs[i].client_code, 0);
            tls_say(pairs[i].client, pairs[i].server, "a word");
            tls_say(pairs[i].server, pairs[i].client, "a word");
        }
        after = test_rss();
        printf("%ld bytes for each of %d connections, both ends\n", (after - before) / PAIRS, PAIRS);
        if (round == 0)
            CHECK_LT((after - before) / PAIRS, 40000);
        for (int i = 0; i < PAIRS; i++)
            tls_close(&pairs[i]);
    }
}

static int idle_session(weald_stream s, const struct sockaddr *peer, socklen_t len, void *user)
{
    char byte;

    (void)peer, (void)len, (void)user;
    while (weald_stream_read(s, &byte, 1, WEALD_FOREVER) == 1)
        if (weald_stream_write(s, &byte, 1, NULL, WEALD_FOREVER) < 0 || weald_stream_flush(s, WEALD_FOREVER) < 0)
            break;
    return 0;
}

static weald_stream dial(int port);

TEST_WITH_LIMIT(a_thousand_idle_connections_of_a_server_hold_little, 120)
{
    enum { WARM = 50, IDLE = 1000 };
    static weald_stream clients[WARM + IDLE];
    struct rlimit files;
    weald_tls_config client = tls_client(), config = tls_server("server");
    weald_server_options how = {.size = sizeof how, .tls = config};
    weald_server server;
    long before = 0;

    if (*test_under())
        SKIP("memory is the checker's here");
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
    if (files.rlim_max < 2 * (WARM + IDLE) + 50)
        SKIP("too few descriptors are allowed");
    files.rlim_cur = files.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    CHECK_GT(server = weald_stream_server_new("127.0.0.1:0", idle_session, NULL, &how), 0);
    CHECK_EQ(weald_server_start(server), 0);
    for (int i = 0; i < WARM + IDLE; i++) {
        char byte = 'x';

        if (i == WARM)
            before = test_rss();
        clients[i] = dial(weald_server_port(server));
        CHECK_EQ(weald_tls_connect(clients[i], client, "localhost", weald_after(WEALD_SEC(10))), 0);
        CHECK_EQ(weald_stream_write(clients[i], &byte, 1, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_flush(clients[i], WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_read_exact(clients[i], &byte, 1, NULL, WEALD_FOREVER), 0);
    }
    printf("%ld bytes for each of %d connections, both ends and a greenlet\n", (test_rss() - before) / IDLE, IDLE);
    CHECK_LT((test_rss() - before) / IDLE, 26000);
    for (int i = 0; i < WARM + IDLE; i++)
        CHECK_EQ(weald_close(clients[i]), 0);
    CHECK_EQ(weald_server_stop(server, weald_after(WEALD_SEC(10))), 0);
}

/* ---- servers ---- */

static int64_t served;

static int echo_session(weald_stream s, const struct sockaddr *peer, socklen_t len, void *user)
{
    const char *line;
    size_t n;

    (void)peer, (void)len, (void)user;
    served++;
    while (weald_stream_line(s, &line, &n, 1000, WEALD_FOREVER) == 1) {
        CHECK_EQ(weald_stream_write(s, line, n, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_write(s, "\n", 1, NULL, WEALD_FOREVER), 0);
        if (strcmp(line, "bye") == 0)
            return 0; /* what has been gathered goes by itself */
        CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
    }
    return 0;
}

static weald_stream dial(int port)
{
    char at[32];
    int fd;
    weald_stream s;

    snprintf(at, sizeof at, "127.0.0.1:%d", port);
    CHECK_GE(fd = weald_tcp_connect(at, WEALD_FOREVER), 0);
    CHECK_GT(s = weald_stream_new(fd, NULL), 0);
    return s;
}

TEST(a_server_gives_its_handlers_streams_that_have_shaken_hands)
{
    weald_tls_config client = tls_client(), server = tls_server("server");
    weald_server_options how = {.size = sizeof how, .tls = server, .handshake_ns = WEALD_MS(30)};
    weald_server all = weald_stream_server_new("127.0.0.1:0", echo_session, NULL, &how);
    weald_stream good, silent, garbage;
    const char *line;
    char byte;

    CHECK_GT(all, 0);
    CHECK_EQ(weald_close(server), 0);
    CHECK_EQ(weald_server_start(all), 0);
    good = dial(weald_server_port(all));
    CHECK_EQ(weald_tls_connect(good, client, "localhost", WEALD_FOREVER), 0);
    silent = dial(weald_server_port(all));
    garbage = dial(weald_server_port(all));
    CHECK_EQ(weald_stream_write(garbage, "hello there, server\n", 20, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_flush(garbage, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_write(good, "hello\nbye\n", 10, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_flush(good, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_line(good, &line, NULL, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "hello");
    CHECK_EQ(weald_stream_line(good, &line, NULL, 100, WEALD_FOREVER), 1);
    CHECK_STR(line, "bye");
    CHECK_EQ(weald_stream_line(good, &line, NULL, 100, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read(silent, &byte, 1, weald_after(WEALD_SEC(5))), 0); /* hung up on */
    while (weald_stream_read(garbage, &byte, 1, weald_after(WEALD_SEC(5))) == 1) /* an alert, and the end */
        ;
    CHECK_EQ(served, 1);
    CHECK_EQ(weald_close(good), 0);
    CHECK_EQ(weald_close(silent), 0);
    CHECK_EQ(weald_close(garbage), 0);
    CHECK_EQ(weald_server_stop(all, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(weald_close(all), 0);
    CHECK_EQ(weald_close(client), 0);
}

static weald_stream kept;

static int keep_session(weald_stream s, const struct sockaddr *peer, socklen_t len, void *user)
{
    (void)peer, (void)len, (void)user;
    kept = s;
    return WEALD_KEEP;
}

TEST(a_handler_may_keep_its_stream_or_close_it_and_without_tls_it_is_plain)
{
    int fd = weald_tcp_listen("127.0.0.1:0", 0, 0);
    weald_server all = weald_stream_server_from_fd(fd, keep_session, NULL, NULL);
    weald_stream s;

    CHECK_GT(all, 0);
    CHECK_EQ(weald_server_start(all), 0);
    s = dial(weald_server_port(all));
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_server_count(all), 0);
    tls_say(s, kept, "still open");
    CHECK_EQ(weald_close(kept), 0);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(weald_close(all), 0);
    CHECK_GE(weald_close_fd(fd), 0);
}

static void answer(weald_http_request r, void *unused)
{
    (void)unused;
    CHECK_EQ(weald_http_reply(r, 200, "text/plain", "leaves\n", 7, WEALD_FOREVER), 0);
}

TEST(a_server_of_http_speaks_tls_as_well)
{
    weald_tls_config client = tls_client(), server = tls_server("server");
    weald_server_options below = {.size = sizeof below, .tls = server, .handshake_ns = WEALD_MS(20)};
    weald_http_options how = {.size = sizeof how, .server = &below};
    weald_server all = weald_http_server_new("127.0.0.1:0", answer, NULL, &how);
    weald_stream s, silent;
    const char *line;
    char byte;

    CHECK_GT(all, 0);
    CHECK_EQ(weald_server_start(all), 0);
    s = dial(weald_server_port(all));
    silent = dial(weald_server_port(all));
    CHECK_EQ(weald_tls_connect(s, client, "localhost", WEALD_FOREVER), 0);
    for (int i = 0; i < 3; i++) {
        const char *request = i < 2 ? "GET / HTTP/1.1\r\nHost: a\r\n\r\n" : "rubbish\r\n\r\n";
        CHECK_EQ(weald_stream_write(s, request, strlen(request), NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_flush(s, WEALD_FOREVER), 0);
        CHECK_EQ(weald_stream_line(s, &line, NULL, 1000, WEALD_FOREVER), 1);
        CHECK_CONTAINS(line, i < 2 ? "HTTP/1.1 200" : "HTTP/1.1 400");
        while (i < 2 && weald_stream_line(s, &line, NULL, 1000, WEALD_FOREVER) == 1 && strcmp(line, "leaves"))
            ;
    }
    while (weald_stream_line(s, &line, NULL, 1000, WEALD_FOREVER) == 1) /* and an orderly end */
        ;
    CHECK_EQ(weald_stream_line(s, &line, NULL, 1000, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read(silent, &byte, 1, weald_after(WEALD_SEC(5))), 0);
    CHECK_EQ(weald_close(s), 0);
    CHECK_EQ(weald_close(silent), 0);
    CHECK_EQ(weald_server_stop(all, weald_after(WEALD_SEC(5))), 0);
}

static int wait_session(weald_stream s, const struct sockaddr *peer, socklen_t len, void *user)
{
    char byte;
    (void)peer, (void)len, (void)user;
    weald_stream_read(s, &byte, 1, WEALD_FOREVER);
    return 0;
}

TEST(a_stopped_server_closes_its_streams)
{
    weald_tls_config client = tls_client(), server = tls_server("server");
    weald_server_options how = {.size = sizeof how, .tls = server};
    weald_server all = weald_stream_server_new("127.0.0.1:0", wait_session, NULL, &how);
    weald_stream s[2];
    int fds;
    char byte;

    CHECK_EQ(weald_server_start(all), 0);
    fds = test_fds();
    for (int i = 0; i < 2; i++)
        s[i] = dial(weald_server_port(all));
    CHECK_EQ(weald_tls_connect(s[0], client, "localhost", WEALD_FOREVER), 0);
    CHECK_EQ(weald_tls_connect(s[1], client, "localhost", WEALD_NOW), WEALD_EAGAIN); /* in the middle */
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    CHECK_EQ(weald_server_count(all), 2);
    CHECK_EQ(weald_server_stop(all, weald_after(WEALD_MS(5))), 2);
    CHECK_LE(weald_stream_read(s[0], &byte, 1, WEALD_FOREVER), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weald_close(s[i]), 0);
    CHECK_LT(test_fds(), fds);
    CHECK_EQ(weald_close(all), 0);
}

/* ---- codes ---- */

TEST(configs_that_make_no_sense_are_refused_with_a_reason)
{
    weald_tls_options how = tls_server_options("server"), none = {.size = 0}, empty = {.size = sizeof empty};
    weald_tls_config client = tls_client(), server = tls_server("server");
    struct tls_pair pair = tls_streams(unix_pair);
    weald_tls_info info = {.size = sizeof info}, wrong = {.size = 1};
    weald_server_options options = {.size = sizeof options, .tls = client};

    CHECK_EQ(weald_tls_server(&none), WEALD_EINVAL);
    CHECK_EQ(weald_tls_client(&none), WEALD_EINVAL);
    CHECK_EQ(weald_tls_server(NULL), WEALD_EINVAL);
    CHECK_CONTAINS(tls_why(), "needs a certificate");
    how.key = tls_file("second.key");
    CHECK_EQ(weald_tls_server(&how), WEALD_EINVAL);
    CHECK_CONTAINS(tls_why(), "is not that of the first certificate");
    how.key = tls_file("server.pem");
    CHECK_EQ(weald_tls_server(&how), WEALD_EINVAL);
    CHECK_CONTAINS(tls_why(), "no private key");
    how.key = tls_file("nowhere");
    CHECK_EQ(weald_tls_server(&how), WEALD_ENOENT);
    CHECK_CONTAINS(tls_why(), "can not read");
    how = tls_server_options("server");
    how.certificate = tls_file("server.key");
    CHECK_EQ(weald_tls_server(&how), WEALD_EINVAL);
    CHECK_CONTAINS(tls_why(), "no certificate");
    how.certificate = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    CHECK_EQ(weald_tls_server(&how), WEALD_EINVAL);
    how = tls_server_options("server");
    how.alpn = "h2,,http/1.1";
    CHECK_EQ(weald_tls_server(&how), WEALD_EINVAL);
    how.alpn = NULL;
    how.flags = WEALD_TLS_INSECURE;
    CHECK_EQ(weald_tls_server(&how), WEALD_EINVAL);
    empty.flags = WEALD_TLS_PEER_REQUIRED;
    CHECK_EQ(weald_tls_client(&empty), WEALD_EINVAL);
    empty.flags = 0;
    empty.roots = tls_file("nowhere");
    CHECK_EQ(weald_tls_client(&empty), WEALD_ENOENT);
    setenv("SSL_CERT_FILE", "/dev/null", 1);
    setenv("SSL_CERT_DIR", "/nowhere", 1);
    empty.roots = NULL;
    CHECK_EQ(weald_tls_client(&empty), WEALD_ENOENT);
    CHECK_CONTAINS(tls_why(), "the system has no root certificates");

    CHECK_EQ(weald_tls_add_certificate(server, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_tls_add_certificate(server, tls_file("nowhere"), NULL), WEALD_ENOENT);
    CHECK_EQ(weald_tls_add_certificate(pair.client, tls_file("both.pem"), NULL), WEALD_EBADF);
    CHECK_EQ(weald_tls_reload(pair.client), WEALD_EBADF);
    CHECK_EQ(weald_tls_connect(pair.client, server, "oak.test", WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_tls_accept(pair.server, client, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_tls_connect(pair.client, client, NULL, WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_tls_connect(pair.client, client, "no name", WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_tls_connect(pair.client, client, "", WEALD_NOW), WEALD_EINVAL);
    CHECK_EQ(weald_tls_connect(client, client, "oak.test", WEALD_NOW), WEALD_EBADF);
    CHECK_EQ(weald_tls_info_get(pair.client, &info), WEALD_EINVAL);
    CHECK_EQ(weald_tls_info_get(pair.client, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_tls_info_get(pair.client, &wrong), WEALD_EINVAL);
    CHECK_EQ(weald_tls_info_get(client, &info), WEALD_EBADF);
    CHECK_EQ(weald_tls_connect(pair.client, client, "oak.test", WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_tls_info_get(pair.client, &info), WEALD_EAGAIN);
    tls_close(&pair);
    CHECK_EQ(weald_kind(client), WEALD_KIND_TLS_CONFIG);

    CHECK_EQ(weald_stream_server_new("127.0.0.1:0", echo_session, NULL, &options), WEALD_EINVAL);
    options.tls = 12345;
    CHECK_EQ(weald_stream_server_new("127.0.0.1:0", echo_session, NULL, &options), WEALD_EBADF);
    options.tls = 0;
    options.handshake_ns = -1;
    CHECK_EQ(weald_stream_server_new("127.0.0.1:0", echo_session, NULL, &options), WEALD_EINVAL);
}

/* Each call that has to wait, on a connection where it does. */
static struct tls_pair current;
static int64_t shake_client(int64_t d) { return weald_tls_connect(current.client, shared_client, "oak.test", d); }
static int64_t shake_server(int64_t d) { return weald_tls_accept(current.server, shared_server, d); }
static int64_t end_it(int64_t d) { return weald_stream_end(current.client, d); }
static int64_t (*const calls[])(int64_t) = {shake_client, shake_server, end_it};
static int64_t (*call)(int64_t);
static int64_t for_ever(void) { return call(WEALD_FOREVER); }

static void prepare(int i)
{
    int ends[2];
    static char lots[1000000];

    call = calls[i];
    unix_pair(ends);
    CHECK_GT(current.client = weald_stream_new(ends[0], NULL), 0);
    CHECK_GT(current.server = weald_stream_new(ends[1], NULL), 0);
    if (call == end_it) /* there is no room */
        CHECK_EQ(weald_stream_write(current.client, lots, sizeof lots, NULL, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_stream_write(current.client, "x", call == end_it, NULL, WEALD_NOW), 0);
}

static void *make_call(void *unused)
{
    (void)unused;
    return POINTER(call(WEALD_FOREVER));
}

static void of_another_thread(void)
{
    weald_tls_info info = {.size = sizeof info};
    CHECK_EQ(call(WEALD_NOW), WEALD_EPERM);
    CHECK_EQ(weald_tls_info_get(current.client, &info), WEALD_EPERM);
}

TEST(calls_of_tls_tell_why_they_did_not_wait)
{
    shared_client = tls_client();
    shared_server = tls_server("server");
    for (int i = 0; i < 3; i++) {
        weald_greenlet g;

        prepare(i);
        CHECK_EQ(call(WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(call(weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
        CHECK_EQ(in_a_timeout(for_ever), WEALD_ETIMEDOUT);
        CHECK_EQ(when_killed(for_ever), WEALD_ECANCELED);
        CHECK_EQ(in_a_callback(for_ever), WEALD_EWOULDBLOCK);
        CHECK_EQ(when_forbidden(for_ever), WEALD_EPERM);
        in_another_thread(of_another_thread);
        g = spawned(make_call, NULL);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(call(WEALD_FOREVER), WEALD_EBUSY);
        CHECK_EQ(weald_close(call == shake_server ? current.server : current.client), 0);
        CHECK_EQ(outcome(g), WEALD_EBADF);
        CHECK_EQ(call(WEALD_FOREVER), WEALD_EBADF);
        CHECK_EQ(weald_close(call == shake_server ? current.client : current.server), 0);
    }
}

/* What lets the parent's call succeed; its child has no watchers. */
static void let_it_end(weald_watcher w, int what, void *user)
{
    static char some[10000];

    (void)w, (void)what, (void)user;
    if (call == shake_client)
        weald_tls_accept(current.server, shared_server, WEALD_NOW);
    else if (call == shake_server)
        weald_tls_connect(current.client, shared_client, "oak.test", WEALD_NOW);
    else
        while (weald_stream_read(current.server, some, sizeof some, WEALD_NOW) > 0)
            ;
}

static void deadlock_of(int i)
{
    weald_watcher later = weald_timer_watcher(WEALD_MS(50), WEALD_MS(5), let_it_end, NULL);

    shared_client = tls_client();
    shared_server = tls_server("server");
    prepare(i);
    CHECK_EQ(weald_watcher_start(later), 0);
    CHECK_EQ(in_a_forked_child(for_ever), WEALD_EDEADLK);
}

TEST(to_connect_in_a_child_that_a_callback_forks_is_a_deadlock) { deadlock_of(0); }
TEST(to_accept_in_a_child_that_a_callback_forks_is_a_deadlock) { deadlock_of(1); }
TEST(to_end_in_a_child_that_a_callback_forks_is_a_deadlock) { deadlock_of(2); }

TEST(no_call_of_tls_waits_without_memory)
{
    int64_t codes[5];
    int listener = weald_tcp_listen("127.0.0.1:0", 0, 0);

    shared_client = tls_client();
    shared_server = tls_server("server");
    prepare(0);
    CHECK_EQ(shake_client(WEALD_NOW), WEALD_EAGAIN);
    struct tls_pair begun = current;
    prepare(1);
    CHECK_EQ(shake_server(WEALD_NOW), WEALD_EAGAIN);
    struct tls_pair waiting = current;
    prepare(2);
    starve();
    codes[0] = end_it(soon());
    current = begun;
    codes[1] = shake_client(soon());
    current = waiting;
    codes[2] = shake_server(soon());
    codes[3] = weald_stream_server_new("127.0.0.1:0", echo_session, NULL, NULL);
    codes[4] = weald_stream_server_from_fd(listener, echo_session, NULL, NULL);
    feed();
    for (int i = 0; i < 5; i++)
        CHECK_EQ(codes[i], WEALD_ENOMEM);
}

TEST(who_has_hung_up_before_the_handshake_is_told_apart)
{
    struct tls_pair pair = tls_streams(unix_pair);

    shared_client = tls_client();
    shared_server = tls_server("server");
    CHECK_EQ(weald_close(pair.server), 0);
    CHECK_EQ(weald_tls_connect(pair.client, shared_client, "oak.test", WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(pair.client), 0);
    pair = tls_streams(unix_pair);
    CHECK_EQ(weald_tls_connect(pair.client, shared_client, "oak.test", WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_close(pair.client), 0);
    CHECK_EQ(weald_tls_accept(pair.server, shared_server, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(pair.server), 0);
    pair = tls_streams(tcp_pair);
    CHECK_EQ(weald_set_option(weald_stream_fd(pair.client), WEALD_OPTION_LINGER, 0), 0);
    CHECK_EQ(weald_close(pair.client), 0);
    CHECK_EQ(weald_tls_accept(pair.server, shared_server, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_close(pair.server), 0);
}

static weald_group their_pool;
static int their_listener;

static void serve_from_elsewhere(void)
{
    weald_server_options options = {.size = sizeof options, .pool = their_pool};

    CHECK_EQ(weald_stream_server_new("127.0.0.1:0", echo_session, NULL, &options), WEALD_EPERM);
    CHECK_EQ(weald_stream_server_from_fd(their_listener, echo_session, NULL, &options), WEALD_EPERM);
}

TEST(a_server_of_streams_that_can_not_be_says_why)
{
    int ends[2];

    CHECK_GT(their_pool = weald_pool_new(1), 0);
    CHECK_GE(their_listener = weald_tcp_listen("127.0.0.1:0", 0, 0), 0);
    in_another_thread(serve_from_elsewhere);
    unix_pair(ends);
    CHECK_EQ(weald_stream_server_new(net_at("127.0.0.1", net_port(their_listener)), echo_session, NULL, NULL),
             WEALD_EADDRINUSE);
    CHECK_EQ(weald_stream_server_new("127.0.0.1:0", NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stream_server_from_fd(their_listener, NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stream_server_from_fd(-1, echo_session, NULL, NULL), WEALD_EBADF);
    CHECK_EQ(weald_stream_server_from_fd(0, echo_session, NULL, NULL), WEALD_ENOTSOCK);
    net_no_more_fds();
    CHECK_EQ(weald_stream_server_new("127.0.0.1:0", echo_session, NULL, NULL), WEALD_EMFILE);
    net_fds_again();
}

/* ---- threads, small stacks ---- */

static void talk_elsewhere(void)
{
    struct tls_pair pair = tls_streams(tcp_pair);

    tls_shake(&pair, shared_client, shared_server, "oak.test");
    CHECK_EQ(pair.client_code, 0);
    tls_say(pair.client, pair.server, "from another thread");
    CHECK_EQ(weald_tls_reload(shared_server), 0);
    tls_close(&pair);
}

TEST(a_config_is_for_every_thread)
{
    shared_client = tls_client();
    shared_server = tls_server("server");
    in_another_thread(talk_elsewhere);
    talk_elsewhere();
    CHECK_EQ(weald_close(shared_client), 0);
    CHECK_EQ(weald_close(shared_server), 0);
}

TEST(a_handshake_fits_on_a_small_stack)
{
    struct tls_pair pair = tls_streams(tcp_pair);
    weald_spawn_options small = {.size = sizeof small, .stack_size = 32 << 10};
    weald_greenlet both[2];
    weald_tls_options ours = tls_client_options(), own = tls_server_options("client"), how = tls_server_options("server");

    ours.certificate = own.certificate; /* with certificates checked on both sides */
    ours.key = own.key;
    how.flags = WEALD_TLS_PEER_REQUIRED;
    how.roots = ours.roots;
    CHECK_GT(shared_client = weald_tls_client(&ours), 0);
    CHECK_GT(shared_server = weald_tls_server(&how), 0);
    CHECK_GT(both[0] = weald_spawn_with(connect_it, POINTER(pair.client), &small), 0);
    CHECK_GT(both[1] = weald_spawn_with(accept_it, POINTER(pair.server), &small), 0);
    CHECK_EQ(outcome(both[0]), 0);
    CHECK_EQ(outcome(both[1]), 0);
    tls_say(pair.client, pair.server, "there was room");
    tls_close(&pair);
}

TEST(an_end_of_what_is_no_socket_or_of_nobody_s_is_refused)
{
    int ends[2];
    weald_stream s;

    CHECK_EQ(pipe(ends), 0);
    CHECK_GT(s = weald_stream_new(ends[1], NULL), 0);
    CHECK_EQ(weald_stream_end(s, WEALD_FOREVER), WEALD_ENOTSOCK);
    CHECK_EQ(weald_close(s), 0);
    unix_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[1], NULL), 0);
    CHECK_EQ(weald_stream_write(s, "x", 1, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_close_fd(ends[0]), 0);
    CHECK_EQ(weald_stream_end(s, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(s), 0);
    tcp_pair(ends);
    CHECK_GT(s = weald_stream_new(ends[1], NULL), 0);
    CHECK_EQ(weald_stream_write(s, "x", 1, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_set_option(ends[0], WEALD_OPTION_LINGER, 0), 0);
    CHECK_EQ(weald_close_fd(ends[0]), 0);
    CHECK_EQ(weald_wait_read(ends[1], WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_end(s, WEALD_FOREVER), WEALD_ECONNRESET);
    CHECK_EQ(weald_close(s), 0);
}

TEST(a_stream_without_tls_ends_one_way_and_goes_on_the_other)
{
    struct tls_pair pair = tls_streams(tcp_pair);
    char got[8] = "";

    CHECK_EQ(weald_stream_write(pair.client, "last", 4, NULL, WEALD_NOW), 0);
    CHECK_EQ(weald_stream_end(pair.client, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read_exact(pair.server, got, 5, NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_STR(got, "last");
    tls_say(pair.server, pair.client, "and back");
    tls_close(&pair);
}
