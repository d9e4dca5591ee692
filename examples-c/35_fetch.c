/* 35_fetch: many pages from many hosts at once, by a pool of three.
 *
 * weald_tcp_connect looks up the name, tries the host's addresses one beside the other, and returns
 * the first that answers. weald_group_map runs fetch over all pages, three at a time, and keeps
 * their order; each fetch has two seconds. Here the hosts are one slow server of this program.
 *
 * Build:  cc -std=c11 35_fetch.c $(pkg-config --cflags --libs weald) -o 35_fetch
 * Prints:
 *   localhost/oak: the page of oak
 *   127.0.0.1/ash: the page of ash
 *   localhost/elm: the page of elm
 *   127.0.0.1/fir: the page of fir
 *   at most 3 at once
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weald.h>

enum { PAGES = 4, SIZE = 64 };
struct page {
    const char *host, *name;
    char text[SIZE];
};
static int port, most;
static weald_server server;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

/* What has come, as text (which is all zero before); so little comes in one piece. */
static int read_text(int fd, char *text, int64_t deadline)
{
    int code = weald_wait_read(fd, deadline);
    return code < 0 ? code : recv(fd, text, SIZE - 1, 0) < 0 ? -errno : 0;
}

static int serve(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    char name[SIZE] = "", page[2 * SIZE];

    (void)peer, (void)peer_len, (void)user;
    most = weald_server_count(server) > most ? (int)weald_server_count(server) : most;
    must(read_text(fd, name, WEALD_FOREVER), "read a name");
    must(weald_sleep(WEALD_MS(100)), "sleep");
    snprintf(page, sizeof page, "the page of %s", name);
    must(send(fd, page, strlen(page), MSG_NOSIGNAL), "send");
    return 0;
}

static int fetch(void *item, void **out, void *user)
{
    struct page *page = item;
    int64_t deadline = weald_after(WEALD_SEC(2));
    char address[SIZE];

    (void)user;
    *out = page;
    snprintf(address, sizeof address, "%s:%d", page->host, port);
    int fd = weald_tcp_connect(address, deadline);
    if (fd < 0)
        return fd;
    must(send(fd, page->name, strlen(page->name), MSG_NOSIGNAL), "send");
    int code = read_text(fd, page->text, deadline);
    close(fd);
    return code;
}

int main(void)
{
    struct page pages[PAGES] = {{"localhost", "oak", ""}, {"127.0.0.1", "ash", ""},
                                {"localhost", "elm", ""}, {"127.0.0.1", "fir", ""}};
    void *items[PAGES], *fetched[PAGES];

    server = must(weald_server_new("*:0", serve, NULL, NULL), "server");
    must(weald_server_start(server), "start");
    port = (int)must(weald_server_port(server), "port");
    weald_group pool = must(weald_pool_new(3), "pool");
    for (int i = 0; i < PAGES; i++)
        items[i] = &pages[i];
    must(weald_group_map(pool, fetch, NULL, items, PAGES, fetched, NULL, WEALD_FOREVER), "map");
    for (int i = 0; i < PAGES; i++)
        printf("%s/%s: %s\n", pages[i].host, pages[i].name, pages[i].text);
    printf("at most %d at once\n", most);
    must(weald_server_stop(server, weald_after(WEALD_SEC(1))), "stop");
    must(weald_close(pool), "close pool");
    must(weald_close(server), "close server");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
