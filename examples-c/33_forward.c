/* 33_forward: a port forwarder. What comes in at one port goes out to another, both ways.
 *
 * Two greenlets for each connection, one for each direction. The end of one direction is passed on
 * with weald_shutdown, and the other one goes on until its own end.
 *
 * Build:  cc -std=c11 33_forward.c $(pkg-config --cflags --libs weald) -o 33_forward
 * Prints:
 *   through the forwarder: olleh
 *   through the forwarder: dlrow
 */
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

struct port {
    struct sockaddr_storage address;
    socklen_t length;
    int listener;
};
static struct port inside, outside; /* the real server's, and the forwarder's */

static void open_port(struct port *p)
{
    int length = (int)must(weald_address_parse("127.0.0.1:0", &p->address), "address");

    p->listener = (int)must(weald_socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(weald_bind(p->listener, (struct sockaddr *)&p->address, (socklen_t)length), "bind");
    must(weald_listen(p->listener, 16), "listen");
    p->length = sizeof p->address;
    must(weald_local_address(p->listener, (struct sockaddr *)&p->address, &p->length), "local address");
}

static int dial(struct port *p)
{
    int fd = (int)must(weald_socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(weald_connect(fd, (struct sockaddr *)&p->address, p->length, weald_after(WEALD_SEC(5))), "connect");
    return fd;
}

/* ---- the forwarder ---- */

static void *copy(void *arg) /* from the first of two descriptors to the second */
{
    int *fds = arg;
    char bytes[4096];
    int64_t n;

    while ((n = weald_read(fds[0], bytes, sizeof bytes, WEALD_FOREVER)) > 0)
        if (weald_write_all(fds[1], bytes, (size_t)n, NULL, WEALD_FOREVER) < 0)
            break;
    weald_shutdown(fds[1], SHUT_WR); /* that may be gone already */
    return NULL;
}

static void *forward_one(void *client)
{
    int server = dial(&inside), there[] = {(int)(intptr_t)client, server}, back[] = {server, (int)(intptr_t)client};
    weald_greenlet g = must(weald_spawn(copy, there), "spawn");

    copy(back);
    must(weald_join(g, WEALD_FOREVER), "join"); /* `there` lies on this stack */
    must(weald_close(g), "close");
    must(weald_close_fd(server), "close");
    must(weald_close_fd((int)(intptr_t)client), "close");
    return NULL;
}

/* Each connection of a port gets a greenlet, until its listener is closed. */
static void *accept_for(struct port *p, weald_fn handler)
{
    for (intptr_t fd; (fd = weald_accept(p->listener, NULL, NULL, WEALD_FOREVER)) >= 0;)
        must(weald_go(handler, (void *)fd), "go");
    return NULL;
}

/* ---- a server that says everything backwards, when it has heard all ---- */

static void *backwards(void *fd)
{
    char text[64], turned[64];
    size_t n = 0;

    weald_read_exact((int)(intptr_t)fd, text, sizeof text, &n, WEALD_FOREVER); /* to the end: WEALD_EPIPE */
    for (size_t i = 0; i < n; i++)
        turned[i] = text[n - 1 - i];
    must(weald_write_all((int)(intptr_t)fd, turned, n, NULL, WEALD_FOREVER), "write");
    must(weald_close_fd((int)(intptr_t)fd), "close");
    return NULL;
}

static void *forwarder(void *unused) { return (void)unused, accept_for(&outside, forward_one); }
static void *server(void *unused) { return (void)unused, accept_for(&inside, backwards); }

static void say(const char *text)
{
    char answer[64] = "";
    int fd = dial(&outside);

    must(weald_write_all(fd, text, strlen(text), NULL, WEALD_FOREVER), "write");
    must(weald_shutdown(fd, SHUT_WR), "shutdown"); /* that is all, but we still listen */
    must(weald_read_exact(fd, answer, strlen(text), NULL, weald_after(WEALD_SEC(5))), "read");
    printf("through the forwarder: %s\n", answer);
    must(weald_close_fd(fd), "close");
}

int main(void)
{
    open_port(&inside);
    open_port(&outside);
    must(weald_go(server, NULL), "go");
    must(weald_go(forwarder, NULL), "go");
    say("hello");
    say("world");
    must(weald_close_fd(outside.listener), "close");
    must(weald_close_fd(inside.listener), "close");
    must(weald_run(WEALD_FOREVER), "run");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
