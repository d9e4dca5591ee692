/* The C library's calls that block: what the floor of a row is that has no descriptors to wait for. */
#include "../bench.h"
#include <netdb.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static void run_true(void)
{
    char *argv[] = {TRUE_PROGRAM, NULL};
    int status = 0;
    pid_t pid;
    errno = posix_spawn(&pid, TRUE_PROGRAM, NULL, NULL, argv, environ);
    if (errno || waitpid(pid, &status, 0) != pid || status)
        fail(TRUE_PROGRAM);
}

static void process(const long *n)
{
    run_true();
    struct usage t0 = usage_now();
    for (long i = 0; i < n[0]; i++)
        run_true();
    report_usage(t0, n[0]);
}

static void look_up(void)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list;
    if (getaddrinfo(LOCAL_NAME, "80", &hints, &list))
        fail("getaddrinfo");
    freeaddrinfo(list);
}

static void name(const long *n)
{
    look_up();
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        look_up();
    report_ns("ns", t0, n[0]);
}

static const struct row rows[] = {{"process", process}, {"name", name}, {NULL, NULL}};

int main(int argc, char **argv)
{
    return run_row(argc, argv, rows);
}
