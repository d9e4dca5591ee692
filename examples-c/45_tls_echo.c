/* 45_tls_echo: an echo server over TLS, and two clients: the second wants somebody else.
 *
 * A config says what one side knows: the server its certificate and key, the client whom it trusts. Both
 * may be files or, as here, text. The server's handler gets a stream on which hands have been shaken, and
 * is the code of any echo server. A client makes a stream of its connection, shakes hands for the name
 * that it wants to reach, and learns in a sentence what is wrong if it does.
 *
 * Build:  cc -std=c11 45_tls_echo.c $(pkg-config --cflags --libs weald) -o 45_tls_echo
 * Prints:
 *   TLSv1.3, chose echo/1, for oak.example
 *   the first says: hello, forest
 *   the second: ECERTIFICATE, the server's certificate is for another name: not for elm.example, but for oak.example
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <weald.h>

/* For this example alone: whoever reads it has the key. */
static const char certificate[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBYDCCAQagAwIBAgIUQt2FHofX86QPzxVre5MXydt6PgwwCgYIKoZIzj0EAwIw\n"
    "ITEfMB0GA1UEAwwWcmNnZW4gc2VsZiBzaWduZWQgY2VydDAgFw03NTAxMDEwMDAw\n"
    "MDBaGA80MDk2MDEwMTAwMDAwMFowITEfMB0GA1UEAwwWcmNnZW4gc2VsZiBzaWdu\n"
    "ZWQgY2VydDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNW++PhFDAmlwUNp6+X8\n"
    "bEx1qi3W6AuU93Eqzp6xNHeb1MmsxE76rR8rpaQcrWF3aMRMyWW6VyB2d+oXiRF1\n"
    "fnajGjAYMBYGA1UdEQQPMA2CC29hay5leGFtcGxlMAoGCCqGSM49BAMCA0gAMEUC\n"
    "IGoGtKNrHFOFLjJqY+7npRFpIb5WUa03YEGmyNgXPTjXAiEAnvF1cr01SX0YQm6s\n"
    "7+55X+CfqifWMD05Lid53Yb4WPs=\n"
    "-----END CERTIFICATE-----\n";
static const char key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDuYnXedaJTJWMD9v\n"
    "heyITD9OLv94T1ICEbmo80bKDbChRANCAATVvvj4RQwJpcFDaevl/GxMdaot1ugL\n"
    "lPdxKs6esTR3m9TJrMRO+q0fK6WkHK1hd2jETMllulcgdnfqF4kRdX52\n"
    "-----END PRIVATE KEY-----\n";

static int64_t must(int64_t code, const char *what)
{
    if (code >= 0)
        return code;
    fprintf(stderr, "%s: %s %s\n", what, weald_strcode((int)code), weald_error_message(weald_self()));
    exit(1);
}

static int echo(weald_stream s, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    weald_tls_info info = {.size = sizeof info};
    const char *line;
    size_t len;

    (void)peer, (void)peer_len, (void)user;
    must(weald_tls_info_get(s, &info), "info");
    printf("%s, chose %.*s, for %.*s\n", info.protocol, (int)info.alpn_len, info.alpn, (int)info.server_name_len,
           info.server_name);
    while (weald_stream_line(s, &line, &len, 1000, weald_after(WEALD_SEC(10))) == 1) {
        must(weald_stream_write(s, line, len, NULL, WEALD_FOREVER), "write");
        must(weald_stream_write(s, "\n", 1, NULL, WEALD_FOREVER), "write");
        must(weald_stream_flush(s, WEALD_FOREVER), "flush");
    }
    return 0; /* what is still to go goes, and the client is told that this is the end */
}

static weald_stream dial(weald_server server)
{
    char address[32];
    int fd;

    snprintf(address, sizeof address, "127.0.0.1:%d", weald_server_port(server));
    fd = (int)must(weald_tcp_connect(address, weald_after(WEALD_SEC(5))), "connect");
    return must(weald_stream_new(fd, NULL), "stream");
}

int main(void)
{
    weald_tls_options ours = {.size = sizeof ours, .certificate = certificate, .key = key, .alpn = "echo/1"};
    weald_tls_options trusting = {.size = sizeof trusting, .roots = certificate, .alpn = "echo/2,echo/1"};
    weald_tls_config server_config = must(weald_tls_server(&ours), "server's config");
    weald_tls_config client_config = must(weald_tls_client(&trusting), "client's config");
    weald_server_options options = {.size = sizeof options, .tls = server_config};
    weald_server server = must(weald_stream_server_new("127.0.0.1:0", echo, NULL, &options), "server");
    weald_stream first, second;
    const char *line;

    must(weald_server_start(server), "start");
    first = dial(server);
    must(weald_tls_connect(first, client_config, "oak.example", weald_after(WEALD_SEC(5))), "handshake");
    must(weald_stream_write(first, "hello, forest\n", 14, NULL, WEALD_FOREVER), "write");
    must(weald_stream_end(first, WEALD_FOREVER), "end");
    if (must(weald_stream_line(first, &line, NULL, 100, weald_after(WEALD_SEC(5))), "line") == 1)
        printf("the first says: %s\n", line);
    must(weald_close(first), "close");

    second = dial(server); /* somebody else is at this address */
    int code = weald_tls_connect(second, client_config, "elm.example", weald_after(WEALD_SEC(5)));
    printf("the second: %s, %s\n", weald_strcode(code), weald_error_message(weald_self()));
    must(weald_close(second), "close");
    must(weald_close(client_config), "close");
    must(weald_close(server_config), "close");
    must(weald_server_stop(server, weald_after(WEALD_SEC(1))), "stop");
    must(weald_close(server), "close");
    return 0;
}
