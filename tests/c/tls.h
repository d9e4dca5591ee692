/* Certificates (tests/certificates.rs makes them) and pairs of streams for the tests of TLS. */
#ifndef WEALD_TEST_TLS_H
#define WEALD_TEST_TLS_H

#include "errors.h"
#include "transfers.h"

/* The name of a file there; a few are good at a time. */
static TEST_UNUSED const char *tls_file(const char *name)
{
    static char texts[16][300];
    static int next;
    char *text = texts[next++ % 16];
    const char *folder = getenv("WEALD_CERTIFICATES");

    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind takes what ring's assembly decrypts for uninitialised");
    if (!folder)
        SKIP("WEALD_CERTIFICATES names no folder with certificates: run this with tests/run.py");
    snprintf(text, sizeof texts[0], "%s/%s", folder, name);
    return text;
}

static TEST_UNUSED char *tls_text(const char *name)
{
    static char texts[4][8192];
    static int next;
    char *text = texts[next++ % 4];
    FILE *f = fopen(tls_file(name), "r");

    CHECK(f != NULL);
    text[fread(text, 1, sizeof texts[0] - 1, f)] = '\0';
    fclose(f);
    return text;
}

/* What is said of the last failure. */
static TEST_UNUSED const char *tls_why(void) { return weald_error_message(weald_self()); }

static TEST_UNUSED weald_tls_options tls_server_options(const char *who)
{
    static char texts[16][64];
    static int next;
    char *certificate = texts[next++ % 16], *key = texts[next++ % 16];

    snprintf(certificate, sizeof texts[0], "%s.pem", who);
    snprintf(key, sizeof texts[0], "%s.key", who);
    return (weald_tls_options){
        .size = sizeof(weald_tls_options), .certificate = tls_file(certificate), .key = tls_file(key)};
}

static TEST_UNUSED weald_tls_config tls_server(const char *who)
{
    weald_tls_options how = tls_server_options(who);
    weald_tls_config config = weald_tls_server(&how);

    CHECK_GT(config, 0);
    return config;
}

static TEST_UNUSED weald_tls_options tls_client_options(void)
{
    return (weald_tls_options){.size = sizeof(weald_tls_options), .roots = tls_file("root.pem")};
}

static TEST_UNUSED weald_tls_config tls_client(void)
{
    weald_tls_options how = tls_client_options();
    weald_tls_config config = weald_tls_client(&how);

    CHECK_GT(config, 0);
    return config;
}

/* Both ends of a connection, over TCP or over a socket pair. */
struct tls_pair {
    weald_stream client, server;
    int client_code, server_code;
    char client_why[400], server_why[400];
    weald_tls_config server_config;
};

static void *tls_accepting(void *arg)
{
    struct tls_pair *pair = arg;
    pair->server_code = weald_tls_accept(pair->server, pair->server_config, weald_after(WEALD_SEC(10)));
    snprintf(pair->server_why, sizeof pair->server_why, "%s", tls_why());
    return NULL;
}

static TEST_UNUSED struct tls_pair tls_streams(void (*connected)(int ends[2]))
{
    struct tls_pair pair = {0};
    int ends[2];

    connected(ends);
    CHECK_GT(pair.server = weald_stream_new(ends[0], NULL), 0);
    CHECK_GT(pair.client = weald_stream_new(ends[1], NULL), 0);
    return pair;
}

/* Shakes hands on both ends; the codes and what is said of them are in `pair`. */
static TEST_UNUSED void tls_shake(struct tls_pair *pair, weald_tls_config client, weald_tls_config server,
                                  const char *name)
{
    weald_greenlet g;

    pair->server_config = server;
    CHECK_GT(g = weald_spawn(tls_accepting, pair), 0);
    pair->client_code = weald_tls_connect(pair->client, client, name, weald_after(WEALD_SEC(10)));
    snprintf(pair->client_why, sizeof pair->client_why, "%s", tls_why());
    if (pair->client_code < 0) { /* or the server would wait for ever */
        CHECK_EQ(weald_close(pair->client), 0);
        pair->client = 0;
    }
    CHECK_EQ(weald_join(g, weald_after(WEALD_SEC(20))), 0);
    CHECK_EQ(weald_close(g), 0);
}

/* A pair that has shaken hands. */
static TEST_UNUSED struct tls_pair tls_pair_over(void (*connected)(int ends[2]))
{
    struct tls_pair pair = tls_streams(connected);
    weald_tls_config client = tls_client(), server = tls_server("server");

    tls_shake(&pair, client, server, "oak.test");
    CHECK_EQ(pair.client_code, 0);
    CHECK_EQ(pair.server_code, 0);
    CHECK_EQ(weald_close(client), 0);
    CHECK_EQ(weald_close(server), 0);
    return pair;
}

static TEST_UNUSED struct tls_pair tls_pair(void) { return tls_pair_over(tcp_pair); }

static TEST_UNUSED void tls_close(struct tls_pair *pair)
{
    if (pair->client)
        CHECK_EQ(weald_close(pair->client), 0);
    if (pair->server)
        CHECK_EQ(weald_close(pair->server), 0);
}

static TEST_UNUSED weald_tls_info tls_info(weald_stream s)
{
    weald_tls_info info = {.size = sizeof info};
    CHECK_EQ(weald_tls_info_get(s, &info), 0);
    return info;
}

/* Says `text` from one end to the other. */
static TEST_UNUSED void tls_say(weald_stream from, weald_stream to, const char *text)
{
    char back[200] = "";

    CHECK_EQ(weald_stream_write(from, text, strlen(text), NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_flush(from, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stream_read_exact(to, back, strlen(text), NULL, weald_after(WEALD_SEC(10))), 0);
    CHECK_STR(back, text);
}

#endif /* WEALD_TEST_TLS_H */
