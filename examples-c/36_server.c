/* 36_server: a server that ends in order: the door is shut, who is inside has a moment to finish.
 *
 * weald_server_serve is a server's main program. It returns when the server has been stopped and
 * its connections have ended. Stopping it is plain code in a greenlet that waits for SIGTERM: the
 * listener is closed at once, connections get a grace of 500 ms, and those left are killed. A killed
 * handler learns of it by WEALD_ECANCELED and says goodbye. Here the customers are in the program.
 *
 * Build:  cc -std=c11 36_server.c $(pkg-config --cflags --libs weald) -o 36_server
 * Prints:
 *   eve: welcome
 *   bob: welcome
 *   SIGTERM: closed, 2 inside
 *   eve leaves in time
 *   1 had to be sent away
 *   bob: we are closing
 *   carl comes too late: ECONNREFUSED
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weald.h>

static weald_handle server, stopper;
static char address[32];

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void say(int fd, const char *text) /* so little always fits */
{
    must(send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 ? -errno : 0, "send");
}

static int serve(int fd, const struct sockaddr *peer, socklen_t peer_len, void *greeting)
{
    (void)peer, (void)peer_len;
    say(fd, greeting);
    if (weald_wait_read(fd, WEALD_FOREVER) == WEALD_ECANCELED) /* else: the other end has gone */
        say(fd, "we are closing");
    return 0; /* and the connection is closed */
}

static void *stop(void *unused)
{
    const int signo = SIGTERM;
    must(weald_signal_wait(&signo, 1, WEALD_FOREVER), "signal wait");
    printf("SIGTERM: closed, %d inside\n", (int)weald_server_count(server));
    int64_t left = must(weald_server_stop(server, weald_after(WEALD_MS(500))), "stop");
    printf("%d had to be sent away\n", (int)left);
    return unused;
}

static void hear(int fd, const char *who)
{
    char text[32];
    must(weald_wait_read(fd, WEALD_FOREVER), "wait to hear");
    printf("%s: %.*s\n", who, (int)must(recv(fd, text, sizeof text, 0), "recv"), text);
}

static void *customers(void *unused)
{
    int eve = (int)must(weald_tcp_connect(address, weald_after(WEALD_SEC(2))), "connect");
    hear(eve, "eve");
    int bob = (int)must(weald_tcp_connect(address, weald_after(WEALD_SEC(2))), "connect");
    hear(bob, "bob");
    raise(SIGTERM);
    must(weald_sleep(WEALD_MS(5)), "sleep");
    puts("eve leaves in time");
    close(eve);
    must(weald_join(stopper, WEALD_FOREVER), "join"); /* so long bob stays */
    hear(bob, "bob");
    close(bob);
    return unused;
}

int main(void)
{
    server = must(weald_server_new("127.0.0.1:0", serve, "welcome", NULL), "server");
    snprintf(address, sizeof address, "127.0.0.1:%d", (int)must(weald_server_port(server), "port"));
    stopper = must(weald_spawn(stop, NULL), "spawn");
    must(weald_go(customers, NULL), "go");
    must(weald_server_serve(server, WEALD_FOREVER), "serve");
    must(weald_run(WEALD_FOREVER), "run"); /* the greenlets end */
    printf("carl comes too late: %s\n", weald_strcode(weald_tcp_connect(address, WEALD_FOREVER)));
    must(weald_close(stopper), "close");
    must(weald_close(server), "close");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
