/* A library as others write them: it knows nothing of weald, and blocks. Loaded by patch.c, which calls what it calls
 * through the table; the way in which the addresses get there depends on how it was linked (see harness/build.py). */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Kept in data: relocations of another kind. */
struct operations {
    ssize_t (*read)(int fd, void *at, size_t len);
    int (*poll)(struct pollfd *fds, nfds_t n, int timeout);
};
const struct operations blocking_operations = {read, poll};

ssize_t blocking_read(int fd, void *at, size_t len)
{
    ssize_t n = read(fd, at, len);
    return n; /* not a jump: the library is who called */
}

ssize_t blocking_write(int fd, const void *at, size_t len)
{
    ssize_t n = write(fd, at, len);
    return n;
}

int blocking_poll(int fd, int timeout)
{
    struct pollfd one = {fd, POLLIN, 0};
    int n = poll(&one, 1, timeout);
    return n;
}

void blocking_sleep(unsigned us) { usleep(us); }

/* In buffers whose size the compiler knows, when it is asked to check. */
int blocking_checked(int fd, int n, size_t len)
{
    struct pollfd fds[2] = {{fd, POLLIN, 0}, {fd, POLLIN, 0}};
    char first[8], second[8], third[8];

    if (poll(fds, n, -1) < 0 || ppoll(fds, n, NULL, NULL) < 0)
        return -1;
    return (int)(read(fd, first, len) + recv(fd, second, len, 0) + recvfrom(fd, third, len, 0, NULL, NULL));
}
