/* The frame of the C tests: a file is a program, a TEST in it is a claim, and each claim runs in a process of its own.
 *
 *     #include "test.h"
 *     TEST(join_of_oneself_is_edeadlk)
 *     {
 *         CHECK_EQ(weald_join(weald_self(), WEALD_FOREVER), WEALD_EDEADLK);
 *     }
 *
 *     PROGRAM --list    prints "name limit-in-seconds" for each (0: the usual limit)
 *     PROGRAM NAME      runs one; exit status 0 passed, 1 failed, 77 skipped
 *
 * A failed check prints file, line and both values and ends the process at once, from any greenlet or thread. SIGQUIT,
 * which the runner sends at the time limit, dumps the greenlets first. Everything here is valid C11 and C++17.
 */
#ifndef WEALD_TEST_H
#define WEALD_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <weald.h>

#define TEST_UNUSED __attribute__((unused))
enum { TEST_FAILED = 1, TEST_SKIPPED = 77 };

/* ---- registration ---- */

typedef void (*test_fn)(void);

struct test {
    const char *name;
    test_fn body;
    int limit; /* seconds; 0: the runner's usual one */
    struct test *next;
};

static struct test *test_first, **test_last = &test_first;

static TEST_UNUSED void test_register(struct test *entry, const char *name, test_fn body, int limit)
{
    entry->name = name;
    entry->body = body;
    entry->limit = limit;
    *test_last = entry;
    test_last = &entry->next;
}

#define TEST(name) TEST_WITH_LIMIT(name, 0)

#define TEST_WITH_LIMIT(name, seconds)                                            \
    static void test_##name(void);                                                \
    __attribute__((constructor)) static void test_register_##name(void)           \
    {                                                                             \
        static struct test entry;                                                 \
        test_register(&entry, #name, test_##name, seconds);                       \
    }                                                                             \
    static void test_##name(void)

/* ---- checks ---- */

/* Ends the process from wherever we are: exit handlers of a half-run scheduler may hang. */
__attribute__((noreturn)) static TEST_UNUSED void test_leave(int status)
{
    fflush(NULL);
    _exit(status);
}

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            test_leave(TEST_FAILED);                                              \
        }                                                                         \
    } while (0)

#define CHECK_EQ(a, b) TEST_COMPARE(a, b, ==)
#define CHECK_NE(a, b) TEST_COMPARE(a, b, !=)
#define CHECK_LT(a, b) TEST_COMPARE(a, b, <)
#define CHECK_LE(a, b) TEST_COMPARE(a, b, <=)
#define CHECK_GT(a, b) TEST_COMPARE(a, b, >)
#define CHECK_GE(a, b) TEST_COMPARE(a, b, >=)

/* Numbers, shown with the name of the code where one is a code. */
#define TEST_COMPARE(a, b, op)                                                    \
    do {                                                                          \
        long long test_a = (long long)(a), test_b = (long long)(b);               \
        if (!(test_a op test_b))                                                  \
            test_values(__FILE__, __LINE__, #a " " #op " " #b, test_a, test_b);   \
    } while (0)

#define CHECK_PTR(a, b)                                                           \
    do {                                                                          \
        const void *test_a = (const void *)(a), *test_b = (const void *)(b);      \
        if (test_a != test_b) {                                                   \
            fprintf(stderr, "%s:%d: %s is %p, %s is %p\n", __FILE__, __LINE__, #a, test_a, #b, test_b); \
            test_leave(TEST_FAILED);                                              \
        }                                                                         \
    } while (0)

#define CHECK_STR(a, b)                                                           \
    do {                                                                          \
        const char *test_a = (a), *test_b = (b);                                  \
        if (!test_a || !test_b || strcmp(test_a, test_b) != 0) {                  \
            fprintf(stderr, "%s:%d: %s is \"%s\", %s is \"%s\"\n", __FILE__, __LINE__, #a,          \
                    test_a ? test_a : "(null)", #b, test_b ? test_b : "(null)");  \
            test_leave(TEST_FAILED);                                              \
        }                                                                         \
    } while (0)

/* `part` occurs somewhere in `text`. */
#define CHECK_CONTAINS(text, part)                                                \
    do {                                                                          \
        const char *test_a = (text), *test_b = (part);                            \
        if (!test_a || !strstr(test_a, test_b)) {                                 \
            fprintf(stderr, "%s:%d: no \"%s\" in %s:\n%s\n", __FILE__, __LINE__, test_b, #text,     \
                    test_a ? test_a : "(null)");                                  \
            test_leave(TEST_FAILED);                                              \
        }                                                                         \
    } while (0)

#define SKIP(reason)                                                              \
    do {                                                                          \
        printf("skipped: %s\n", reason);                                          \
        test_leave(TEST_SKIPPED);                                                 \
    } while (0)

/* For a test that loses memory on purpose, as by abandoning a greenlet: leak checkers look away, and the reason is
 * printed. */
#define LEAKS(reason)                                                             \
    do {                                                                          \
        printf("leaks: %s\n", reason);                                            \
        test_leaks = 1;                                                           \
    } while (0)

static TEST_UNUSED int test_leaks;

#ifdef __SANITIZE_ADDRESS__
#ifdef __cplusplus
extern "C"
#endif
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return test_leaks; }
#endif

static TEST_UNUSED const char *test_code(long long value)
{
    return value < 0 && value >= -4096 ? weald_strcode((int)value) : "";
}

__attribute__((noreturn)) static TEST_UNUSED void test_values(const char *file, int line, const char *claim,
                                                              long long a, long long b)
{
    fprintf(stderr, "%s:%d: not true: %s; it is %lld %s against %lld %s\n", file, line, claim, a, test_code(a), b,
            test_code(b));
    test_leave(TEST_FAILED);
}

/* ---- what a test may want to know ---- */

/* Where the suite runs slowly ("valgrind", "asan") or "" on the bare machine. */
static TEST_UNUSED const char *test_under(void)
{
    const char *under = getenv("WEALD_TEST_UNDER");
    return under ? under : "";
}

/* `n` rounds on the bare machine, a hundredth under valgrind, a tenth under ASan; at least one. */
static TEST_UNUSED long test_rounds(long n)
{
    const char *under = test_under();
    long divisor = strcmp(under, "valgrind") == 0 ? 100 : *under ? 10 : 1;
    return n / divisor > 0 ? n / divisor : 1;
}

/* An upper bound on a time, wider where the suite runs slowly. Lower bounds are strict and need no such thing. */
static TEST_UNUSED int64_t test_slack(int64_t ns)
{
    const char *under = test_under();
    return strcmp(under, "valgrind") == 0 ? ns * 50 : *under ? ns * 10 : ns;
}

static TEST_UNUSED int64_t test_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* How many descriptors this process has open. */
static TEST_UNUSED int test_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = -3; /* ".", ".." and the one of opendir */
    if (!dir)
        return -1;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static TEST_UNUSED int test_lines(const char *path)
{
    FILE *f = fopen(path, "r");
    int n = 0;
    if (!f)
        return -1;
    for (int c; (c = getc(f)) != EOF;)
        n += c == '\n';
    fclose(f);
    return n;
}

/* How many mappings, and how many bytes of memory, this process has. */
static TEST_UNUSED int test_mappings(void) { return test_lines("/proc/self/maps"); }

static TEST_UNUSED long test_rss(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f)
        return -1;
    if (fscanf(f, "%*s %ld", &pages) != 1)
        pages = -1;
    fclose(f);
    return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

/* Runs `body` in a forked child; its wait status, and what it wrote to stderr in `text`. For tests of what ends a
 * process. Call it before anything else of weald, so that the child is a fresh program. */
static TEST_UNUSED int test_in_child(test_fn body, char *text, size_t size)
{
    int ends[2], status;
    size_t got = 0;
    ssize_t n;
    pid_t pid;

    CHECK(pipe(ends) == 0);
    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGQUIT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body();
        test_leave(0);
    }
    close(ends[1]);
    while (got + 1 < size && ((n = read(ends[0], text + got, size - got - 1)) > 0 || (n < 0 && errno == EINTR)))
        got += n > 0 ? (size_t)n : 0;
    text[got] = '\0';
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    return status;
}

/* ---- the program ---- */

/* Not async-signal-safe; the process is past saving, and who waits for what is what we want to know. */
static void test_time_is_up(int signo)
{
    static const char text[] = "time limit reached; the greenlets of the main thread:\n";
    signal(signo, SIG_DFL);
    if (write(STDERR_FILENO, text, sizeof text - 1) > 0)
        weald_dump(STDERR_FILENO);
    _exit(124);
}

int main(int argc, char **argv)
{
    const struct test *t;

    if (argc != 2) {
        fprintf(stderr, "usage: %s --list | NAME\n", argv[0]);
        return 2;
    }
    if (strcmp(argv[1], "--list") == 0) {
        for (t = test_first; t; t = t->next)
            printf("%s %d\n", t->name, t->limit);
        return 0;
    }
    for (t = test_first; t; t = t->next)
        if (strcmp(argv[1], t->name) == 0) {
            signal(SIGQUIT, test_time_is_up);
            t->body();
            return 0;
        }
    fprintf(stderr, "%s: no test named %s\n", argv[0], argv[1]);
    return 2;
}

#endif /* WEALD_TEST_H */
