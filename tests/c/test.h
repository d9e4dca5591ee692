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
#include <sys/resource.h>
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

/* Each check is one call, so that a compound literal in it lives as long as the function that has the check: a block of
 * the macro's own would end its life, and a greenlet that was given it would read a dead object. */
#define TEST_HERE __FILE__, __LINE__

#define CHECK(condition) ((condition) ? (void)0 : test_untrue(TEST_HERE, #condition))

/* Numbers, shown with the name of the code where one is a code. */
#define CHECK_EQ(a, b) TEST_COMPARE(a, "==", b)
#define CHECK_NE(a, b) TEST_COMPARE(a, "!=", b)
#define CHECK_LT(a, b) TEST_COMPARE(a, "<", b)
#define CHECK_LE(a, b) TEST_COMPARE(a, "<=", b)
#define CHECK_GT(a, b) TEST_COMPARE(a, ">", b)
#define CHECK_GE(a, b) TEST_COMPARE(a, ">=", b)
#define TEST_COMPARE(a, op, b) test_compare(TEST_HERE, #a " " op " " #b, (long long)(a), op, (long long)(b))

#define CHECK_PTR(a, b) test_same_pointer(TEST_HERE, #a, (const void *)(a), #b, (const void *)(b))
#define CHECK_STR(a, b) test_same_text(TEST_HERE, #a, (a), #b, (b))

/* `part` occurs somewhere in `text`. */
#define CHECK_CONTAINS(text, part) test_contains(TEST_HERE, #text, (text), (part))

#define SKIP(reason)                                                              \
    do {                                                                          \
        printf("skipped: %s\n", reason);                                          \
        test_leave(TEST_SKIPPED);                                                 \
    } while (0)

/* For a test that loses memory on purpose, as by abandoning a greenlet: the runner does not mind then. */
#define LEAKS(reason) printf("leaks: %s\n", reason)

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

__attribute__((noreturn)) static TEST_UNUSED void test_untrue(const char *file, int line, const char *claim)
{
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, claim);
    test_leave(TEST_FAILED);
}

static TEST_UNUSED void test_compare(const char *file, int line, const char *claim, long long a, const char *op,
                                     long long b)
{
    int same = a == b, equal_wanted = op[1] == '=' && op[0] != '!';
    int holds = (same && equal_wanted) || (op[0] == '!' && !same) || (op[0] == '<' && a < b) || (op[0] == '>' && a > b);

    if (!holds)
        test_values(file, line, claim, a, b);
}

static TEST_UNUSED void test_same_pointer(const char *file, int line, const char *name_a, const void *a,
                                          const char *name_b, const void *b)
{
    if (a == b)
        return;
    fprintf(stderr, "%s:%d: %s is %p, %s is %p\n", file, line, name_a, a, name_b, b);
    test_leave(TEST_FAILED);
}

static TEST_UNUSED void test_same_text(const char *file, int line, const char *name_a, const char *a,
                                       const char *name_b, const char *b)
{
    if (a && b && strcmp(a, b) == 0)
        return;
    fprintf(stderr, "%s:%d: %s is \"%s\", %s is \"%s\"\n", file, line, name_a, a ? a : "(null)", name_b,
            b ? b : "(null)");
    test_leave(TEST_FAILED);
}

static TEST_UNUSED void test_contains(const char *file, int line, const char *name, const char *text, const char *part)
{
    if (text && part && strstr(text, part))
        return;
    fprintf(stderr, "%s:%d: no \"%s\" in %s:\n%s\n", file, line, part ? part : "(null)", name,
            text ? text : "(null)");
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
static TEST_UNUSED int test_entries(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = -2; /* "." and ".." */
    if (!dir)
        return -1;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static TEST_UNUSED int test_fds(void) { return test_entries("/proc/self/fd") - 1; /* the one of opendir */ }

static TEST_UNUSED int test_threads(void) { return test_entries("/proc/self/task"); }

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

static TEST_UNUSED weald_stats test_stats(void)
{
    weald_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    CHECK_EQ(weald_stats_get(&stats), 0);
    return stats;
}

/* A child has ended, or will, and well. */
static TEST_UNUSED void test_ends_well(pid_t pid)
{
    int status;

    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

/* Leaves `limit` descriptors to the process, and takes them all. */
static TEST_UNUSED void test_take_descriptors(rlim_t limit)
{
    struct rlimit few;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &few), 0);
    few.rlim_cur = limit;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(STDERR_FILENO) >= 0)
        ;
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
