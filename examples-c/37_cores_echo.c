/* 37_cores_echo: an echo server on every core: one process, one address, a hub and a server each.
 *
 * A greenlet never leaves its thread, and neither does a server. Each worker therefore has one of
 * its own, at the same address with WEALD_REUSEPORT, and the kernel shares out the connections.
 * main's server is one of them, and finds a port for all; a shared event ends the others.
 *
 * Build:  cc -std=c11 37_cores_echo.c $(pkg-config --cflags --libs weald) -pthread -o 37_cores_echo
 * Prints:
 *   100 connections echoed
 *   served by main and 2 workers: 100
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weald.h>

enum { CORES = 2, CONNECTIONS = 100 };
static char address[32] = "127.0.0.1:0";
static weald_event closing;
static atomic_int served;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static int echo(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char text[64];
    ssize_t got;
    (void)peer, (void)peer_len, (void)user;
    while (weald_wait_read(fd, WEALD_FOREVER) == 0 && (got = recv(fd, text, sizeof text, 0)) > 0)
        must(send(fd, text, (size_t)got, MSG_NOSIGNAL) == got ? 0 : -errno, "send");
    atomic_fetch_add(&served, 1);
    return 0;
}

static weald_server start(void)
{
    weald_server_options options = {.size = sizeof options, .flags = WEALD_REUSEPORT};
    weald_server server = must(weald_server_new(address, echo, NULL, &options), "server");
    must(weald_server_start(server), "start");
    return server;
}

static void *worker(void *unused)
{
    weald_server server = start();
    must(weald_event_wait(closing, WEALD_FOREVER), "wait");
    must(weald_server_stop(server, WEALD_FOREVER), "stop");
    return unused;
}

static void *client(void *echoed)
{
    char back[8] = "";
    int fd = (int)must(weald_tcp_connect(address, weald_after(WEALD_SEC(5))), "connect");
    must(send(fd, "hello", 5, MSG_NOSIGNAL) == 5 ? 0 : -errno, "send");
    must(weald_wait_read(fd, weald_after(WEALD_SEC(5))), "wait for the echo");
    must(recv(fd, back, sizeof back, 0) < 0 ? -errno : 0, "recv");
    *(int *)echoed += strcmp(back, "hello") == 0;
    close(fd);
    return NULL;
}

int main(void)
{
    int echoed = 0;
    weald_group clients = must(weald_group_new(), "group");
    weald_server server = start();
    snprintf(address, sizeof address, "127.0.0.1:%d", (int)must(weald_server_port(server), "port"));
    closing = must(weald_event_new(WEALD_SHARED), "event");
    weald_workers workers = must(weald_workers_start(CORES), "start workers");
    for (size_t i = 0; i < CORES; i++)
        must(weald_workers_spawn(workers, i, worker, NULL), "spawn");
    for (int i = 0; i < CONNECTIONS; i++)
        must(weald_group_spawn(clients, client, &echoed), "spawn");
    must(weald_group_join(clients, WEALD_FOREVER), "join clients");
    printf("%d connections echoed\n", echoed);

    must(weald_event_set(closing), "set");
    must(weald_server_stop(server, WEALD_FOREVER), "stop");
    must(weald_workers_join(workers, WEALD_FOREVER), "join workers");
    printf("served by main and %d workers: %d\n", CORES, atomic_load(&served));
    const weald_handle all[] = {clients, server, workers, closing};
    for (int i = 0; i < 4; i++)
        must(weald_close(all[i]), "close");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
