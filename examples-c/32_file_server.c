/* 32_file_server: sends files over TCP without copying them.
 *
 * A client sends a name in a line and gets the length and the file. A stream reads the line;
 * weald_sendfile has the kernel move the bytes, and a thread brings in what is not in memory, so one
 * slow disk or one slow client holds up nobody else.
 *
 * Build:  cc -std=c11 32_file_server.c $(pkg-config --cflags --libs weald) -o 32_file_server
 * Prints:
 *   big: 3000000 bytes, all right
 *   small: 12 bytes, all right
 *   missing: no such file
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weald.h>

static struct sockaddr_storage address;
static socklen_t length = sizeof address;
static int files[2]; /* stand for a folder: nothing is left behind */

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void *serve_one(void *arg)
{
    weald_stream s = must(weald_stream_new((int)(intptr_t)arg, NULL), "stream");
    char head[32];
    const char *name;
    struct stat what;

    while (must(weald_stream_line(s, &name, NULL, 255, WEALD_FOREVER), "line") == 1) {
        int which = strcmp(name, "big") == 0 ? 0 : strcmp(name, "small") == 0 ? 1 : -1;
        int64_t offset = 0, size = which >= 0 && fstat(files[which], &what) == 0 ? what.st_size : -1;

        snprintf(head, sizeof head, "%lld\n", (long long)size);
        must(weald_stream_write(s, head, strlen(head), NULL, WEALD_FOREVER), "write");
        must(weald_stream_flush(s, WEALD_FOREVER), "flush"); /* before the file goes past the stream */
        if (size > 0)
            must(weald_sendfile(weald_stream_fd(s), files[which], &offset, (size_t)size, WEALD_FOREVER), "sendfile");
    }
    must(weald_close(s), "close");
    return NULL;
}

static void *serve(void *listener)
{
    for (;;) {
        intptr_t fd = weald_accept((int)(intptr_t)listener, NULL, NULL, WEALD_FOREVER);
        if (fd < 0)
            return NULL; /* the listener was closed */
        must(weald_go(serve_one, (void *)fd), "go");
    }
}

static void fetch(weald_stream s, const char *name)
{
    const char *line;
    char bytes[4096];
    long all = 0, size, wrong = 0;

    must(weald_stream_write(s, name, strlen(name), NULL, WEALD_FOREVER), "write");
    must(weald_stream_write(s, "\n", 1, NULL, WEALD_FOREVER), "write");
    must(weald_stream_flush(s, WEALD_FOREVER), "flush");
    must(weald_stream_line(s, &line, NULL, 30, WEALD_FOREVER), "answer");
    size = strtol(line, NULL, 10);
    while (all < size) {
        size_t most = (size_t)(size - all) < sizeof bytes ? (size_t)(size - all) : sizeof bytes;
        long n = (long)must(weald_stream_read(s, bytes, most, weald_after(WEALD_SEC(10))), "read");
        for (long i = 0; i < n; i++, all++)
            wrong += bytes[i] != (char)('a' + all % 26);
    }
    if (size < 0)
        printf("%s: no such file\n", name);
    else
        printf("%s: %ld bytes, %s\n", name, all, wrong ? "broken" : "all right");
}

static int a_file(long size)
{
    FILE *f = tmpfile();

    for (long i = 0; f && i < size; i++)
        putc((int)('a' + i % 26), f);
    return f && fflush(f) == 0 ? fileno(f) : (int)must(WEALD_ENOENT, "tmpfile");
}

int main(void)
{
    int at = (int)must(weald_address_parse("127.0.0.1:0", &address), "address");
    int listener = (int)must(weald_socket(AF_INET, SOCK_STREAM, 0), "socket"), fd;
    weald_stream s;

    files[0] = a_file(3000000);
    files[1] = a_file(12);
    must(weald_bind(listener, (struct sockaddr *)&address, (socklen_t)at), "bind");
    must(weald_listen(listener, 8), "listen");
    must(weald_local_address(listener, (struct sockaddr *)&address, &length), "local address");
    must(weald_go(serve, (void *)(intptr_t)listener), "go");

    fd = (int)must(weald_socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(weald_connect(fd, (struct sockaddr *)&address, length, weald_after(WEALD_SEC(5))), "connect");
    s = must(weald_stream_new(fd, NULL), "stream");
    fetch(s, "big");
    fetch(s, "small");
    fetch(s, "missing");
    must(weald_close(s), "close");
    must(weald_close_fd(listener), "close listener");
    must(weald_run(WEALD_FOREVER), "run");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
