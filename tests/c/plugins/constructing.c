/* A library whose constructor and destructor block: they read from the descriptor that the environment names, by the
 * function whose address it names. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static ssize_t got = -2;

static ssize_t get(int fd)
{
    const char *address = getenv("CONSTRUCTING_BY");
    ssize_t (*by)(int, void *, size_t) = (ssize_t(*)(int, void *, size_t))(uintptr_t)strtoull(address, NULL, 16);
    char byte;

    return by(fd, &byte, 1);
}

static int descriptor(void)
{
    const char *text = getenv("CONSTRUCTING_FD");
    return text ? atoi(text) : -1;
}

__attribute__((constructor)) static void begin(void) { got = get(descriptor()); }
__attribute__((destructor)) static void end(void) { get(descriptor()); }

ssize_t constructing_got(void) { return got; }
