/* A server that says what it has understood: the method, the target, each header and the body, in hexadecimal, a line
 * each. It prints its port first. `server [NAME=NUMBER...]` sets limits: idle, head, body, write (milliseconds), rate,
 * requests; underscores=1 and lenient=1 allow what they name; handshake (milliseconds) makes it a server of TLS, with the
 * certificate in the folder WEALD_CERTIFICATES. Targets that begin with /large give 4 MiB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weald.h>

static void say(weald_http_request r, const char *what, const char *text, size_t len)
{
    char line[4096];
    size_t n = (size_t)snprintf(line, sizeof line, "%s ", what);

    for (size_t i = 0; i < len; i++) {
        if (n + 4 > sizeof line) {
            weald_http_write(r, line, n, NULL, WEALD_FOREVER);
            n = 0;
        }
        n += (size_t)sprintf(line + n, "%02x", (unsigned char)text[i]);
    }
    line[n++] = '\n';
    weald_http_write(r, line, n, NULL, WEALD_FOREVER);
}

static void large(weald_http_request r)
{
    static char zeros[4 << 20];

    weald_http_reply(r, 200, "text/plain", zeros, sizeof zeros, WEALD_FOREVER);
}

static void answer(weald_http_request r, void *user)
{
    const char *name, *value;
    void *body;
    size_t len;

    (void)user;
    if (strncmp(weald_http_target(r), "/large", 6) == 0)
        return large(r);
    if (weald_http_read_all(r, 16 << 20, &body, &len, WEALD_FOREVER) < 0)
        return; /* and the answer is 400, 408 or 413 */
    weald_http_add_header(r, "Content-Type", "text/plain");
    weald_http_begin(r, 200, NULL, -1);
    say(r, "method", weald_http_method(r), strlen(weald_http_method(r)));
    say(r, "target", weald_http_target(r), strlen(weald_http_target(r)));
    say(r, "version", weald_http_version(r) == 10 ? "1.0" : "1.1", 3);
    for (size_t i = 0; weald_http_header_at(r, i, &name, &value) == 1; i++) {
        say(r, "name", name, strlen(name));
        say(r, "value", value, strlen(value));
    }
    say(r, "body", body, len);
    weald_http_end(r, WEALD_FOREVER);
    weald_free(body);
}

static weald_tls_config secrets(void)
{
    char certificate[500], key[500];
    weald_tls_options tls = {.size = sizeof tls, .certificate = certificate, .key = key};

    snprintf(certificate, sizeof certificate, "%s/server.pem", getenv("WEALD_CERTIFICATES"));
    snprintf(key, sizeof key, "%s/server.key", getenv("WEALD_CERTIFICATES"));
    return weald_tls_server(&tls);
}

int main(int argc, char **argv)
{
    weald_server_options below = {.size = sizeof below};
    weald_http_lenient lenient = {.size = sizeof lenient};
    weald_http_options options = {.size = sizeof options, .server = &below, .lenient = &lenient};
    weald_server server;

    for (int i = 1; i < argc; i++) {
        char name[32];
        long number;
        if (sscanf(argv[i], "%31[a-z]=%ld", name, &number) != 2)
            return 2;
        if (strcmp(name, "idle") == 0)
            options.idle_ns = WEALD_MS(number);
        else if (strcmp(name, "head") == 0)
            options.head_ns = WEALD_MS(number);
        else if (strcmp(name, "body") == 0)
            options.body_ns = WEALD_MS(number);
        else if (strcmp(name, "write") == 0)
            options.write_ns = WEALD_MS(number);
        else if (strcmp(name, "rate") == 0)
            options.min_rate = (size_t)number;
        else if (strcmp(name, "requests") == 0)
            options.max_requests = (size_t)number;
        else if (strcmp(name, "handshake") == 0)
            below.tls = secrets(), below.handshake_ns = WEALD_MS(number);
        else if (strcmp(name, "underscores") == 0)
            lenient.underscores = 1;
        else if (strcmp(name, "lenient") == 0)
            lenient.no_host = lenient.folding = lenient.space_before_colon = 1;
        else
            return 2;
    }
    server = weald_http_server_new("127.0.0.1:0", answer, NULL, &options);
    if (server < 0)
        return 1;
    printf("%d\n", weald_server_port(server));
    fflush(stdout);
    return weald_server_serve(server, WEALD_FOREVER) < 0;
}
