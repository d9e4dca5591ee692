/* 31_families: servers and clients over TCP, UDP and Unix sockets, all in one thread.
 *
 * weald_address_parse takes each kind of address as text, so the same code listens everywhere. A
 * datagram socket has no connections: the server answers to where each datagram came from.
 *
 * Build:  cc -std=c11 31_families.c $(pkg-config --cflags --libs weald) -o 31_families
 * Prints:
 *   tcp 127.0.0.1: HELLO
 *   unix:@weald-families: HELLO
 *   udp 127.0.0.1: HELLO
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <weald.h>

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

struct place {
    const char *name, *text;
    int type, fd;
    struct sockaddr_storage address;
    socklen_t length;
};

static struct sockaddr *at(struct sockaddr_storage *address) { return (struct sockaddr *)address; }

/* A socket at the place; then the place knows the port that it was given. */
static void open_at(struct place *p)
{
    p->length = (socklen_t)must(weald_address_parse(p->text, &p->address), p->text);
    p->fd = (int)must(weald_socket(p->address.ss_family, p->type, 0), "socket");
    must(weald_bind(p->fd, at(&p->address), p->length), "bind");
    p->length = sizeof p->address;
    must(weald_local_address(p->fd, at(&p->address), &p->length), "local address");
}

static void *answer_one(void *arg) /* in capitals */
{
    struct place *p = arg;
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    char text[64];
    int fd = p->type == SOCK_DGRAM ? p->fd : (int)must(weald_accept(p->fd, at(&from), &length, WEALD_FOREVER), "accept");
    int64_t n = must(weald_recvfrom(fd, text, sizeof text, 0, at(&from), &length, WEALD_FOREVER), "recvfrom");

    for (int64_t i = 0; i < n; i++)
        text[i] = (char)toupper((unsigned char)text[i]);
    if (p->type == SOCK_DGRAM)
        must(weald_sendto(fd, text, (size_t)n, 0, at(&from), length, WEALD_FOREVER), "sendto");
    else
        must(weald_write_all(fd, text, (size_t)n, NULL, WEALD_FOREVER), "write");
    must(weald_close_fd(fd), "close");
    return NULL;
}

static void ask(struct place *p)
{
    char text[64] = "";
    int64_t limit = weald_after(WEALD_SEC(5));
    int fd = (int)must(weald_socket(p->address.ss_family, p->type, 0), "socket");

    must(weald_connect(fd, at(&p->address), p->length, limit), "connect");
    must(weald_send(fd, "hello", 5, 0, limit), "send");
    must(weald_recv(fd, text, sizeof text - 1, 0, limit), "recv");
    printf("%s: %s\n", p->name, text);
    must(weald_close_fd(fd), "close");
}

int main(void)
{
    struct place places[] = {{.name = "tcp 127.0.0.1", .text = "127.0.0.1:0", .type = SOCK_STREAM},
                             {.name = "unix:@weald-families", .text = "unix:@weald-families", .type = SOCK_STREAM},
                             {.name = "udp 127.0.0.1", .text = "127.0.0.1:0", .type = SOCK_DGRAM}};

    for (int i = 0; i < 3; i++) {
        open_at(&places[i]);
        if (places[i].type == SOCK_STREAM)
            must(weald_listen(places[i].fd, 8), "listen");
        must(weald_go(answer_one, &places[i]), "go");
    }
    for (int i = 0; i < 3; i++)
        ask(&places[i]);
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
