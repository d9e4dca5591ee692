/* The half of the noise harness that does not depend on the header: tests/noise.py writes the other half, a table with
 * one entry for each exported function, and includes this.
 *
 *     PROGRAM --list    names the functions
 *     PROGRAM NAME      tries one; exit status 0 or 1
 *
 * Three kinds of noise. Into each handle argument: nothing, wild numbers, closed handles, handles of other kinds and of
 * another thread; each must give an error. Into each pointer: NULL. Into each number: extremes. Whatever comes, the call
 * must return, and no signal may arrive; memory that a caller must own is never lied about. Each try starts from a fresh
 * forked process, because a call that succeeds may well change what the next one sees.
 */
#ifndef WEALD_NOISE_H
#define WEALD_NOISE_H

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weald.h>

enum { MOST_SLOTS = 24, SECONDS_TO_RETURN = 10, RANDOMS = 40 };
enum { MADE_LATER = -1000 }; /* a plausible number that the table cannot know */

enum slot_kind { HANDLE, HANDLE_INSIDE, NUMBER, POINTER };

/* What a call gives back, and how a bad handle shows in it. */
enum result_kind { CODE, NEW_HANDLE, OBJECT, TEXT };

struct slot {
    const char *name;
    enum slot_kind kind;
    unsigned long long accepts; /* HANDLE: a bit for each kind of the kit */
    long long plausible;        /* NUMBER */
};

struct args {
    long long value[MOST_SLOTS]; /* handles and numbers */
    int null;                    /* the slot whose pointer is NULL, or -1 */
};

struct function {
    const char *name;
    long long (*call)(const struct args *a);
    enum result_kind result;
    int any_thread;            /* a handle of another thread is welcome */
    const char *bad_is_fine;   /* why a bad handle is no error here, or NULL */
    const char *numbers_block; /* why no wild numbers go in, or NULL */
    int slots;
    struct slot slot[MOST_SLOTS];
};

struct kind {
    const char *name;
    long long (*make)(void);
};

/* The generated half. */
extern const struct function functions[];
extern const struct kind kinds[];
extern const int kind_count;

/* ---- what the generated calls point at ---- */

static char noise_buffer[4096];
static void *noise_values[8];
static int noise_pipe[2], noise_numbers[8];
static pid_t noise_child; /* of this process, and never a whole group */
static struct pollfd noise_polled;
static fd_set noise_set;

static __attribute__((unused)) void *noise_body(void *arg) { return arg; }

/* ---- the kit: a handle of every kind ---- */

enum { MOST_KINDS = 48 };
static long long good[MOST_KINDS], closed[MOST_KINDS], foreign[MOST_KINDS];

static void *make_foreign(void *ready)
{
    for (int i = 0; i < kind_count; i++)
        foreign[i] = kinds[i].make();
    pthread_barrier_wait((pthread_barrier_t *)ready);
    for (;;)
        pause();
    return NULL;
}

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    fflush(NULL);
    _exit(1);
}

static void make_child(void)
{
    noise_child = fork();
    if (noise_child < 0)
        die("fork");
    if (noise_child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
}

static void make_kit(void)
{
    pthread_barrier_t *ready = (pthread_barrier_t *)malloc(sizeof *ready);
    pthread_t thread;

    make_child();
    if (pipe(noise_pipe) != 0)
        die("pipe");
    /* An end of it: a closed handle whose place has been taken by another of its kind. */
    for (int i = 0; i < kind_count; i++) {
        closed[i] = kinds[i].make();
        if (closed[i] <= 0) {
            fprintf(stderr, "no %s: %s\n", kinds[i].name, weald_strerror((int)closed[i]));
            die("the kit cannot be made");
        }
        if (weald_close(closed[i]) != 0)
            die("weald_close refuses a good handle");
    }
    weald_sleep(0);
    weald_sleep(0); /* closed greenlets run to their end */
    for (int i = 0; i < kind_count; i++)
        good[i] = kinds[i].make();
    pthread_barrier_init(ready, NULL, 2);
    if (pthread_create(&thread, NULL, make_foreign, ready) != 0)
        die("pthread_create");
    pthread_barrier_wait(ready);
}

static long long a_good_one(unsigned long long accepts)
{
    for (int i = 0; i < kind_count; i++)
        if (accepts >> i & 1)
            return good[i];
    return good[0];
}

static struct args plausible(const struct function *f)
{
    struct args a;

    memset(&a, 0, sizeof a);
    a.null = -1;
    for (int i = 0; i < f->slots; i++)
        a.value[i] = f->slot[i].kind == HANDLE ? a_good_one(f->slot[i].accepts) : f->slot[i].plausible;
    return a;
}

/* ---- one try ---- */

/* Shared with the parent: what was being tried when the child ended. */
struct progress {
    char what[200];
    long long value, result;
    int finished;
};
static struct progress *progress;

static void trying(const char *slot, const char *what, long long value)
{
    snprintf(progress->what, sizeof progress->what, "%s: %s", slot, what);
    progress->value = value;
}

static int is_an_error(const struct function *f, long long result)
{
    switch (f->result) {
    case OBJECT: return result == 0;
    case NEW_HANDLE: return result <= 0;
    case TEXT: return 1;
    default: return result < 0;
    }
}

/* TEXT is read to its end here: it must be readable, whatever the handle was. */
static long long call(const struct function *f, const struct args *a)
{
    long long result = f->call(a);

    if (f->result == TEXT && result != 0)
        (void)!strlen((const char *)(intptr_t)result);
    return result;
}

static void expect_error(const struct function *f, struct args a, int slot, const char *what, long long value)
{
    long long result;

    trying(f->slot[slot].name, what, value);
    a.value[slot] = value;
    result = call(f, &a);
    progress->result = result;
    if (!is_an_error(f, result) && !f->bad_is_fine)
        die("a bad handle was taken for a good one");
}

static unsigned long long random_state = 0x9e3779b97f4a7c15ull;
static long long random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (long long)random_state;
}

/* All bad handles into one slot, one after the other: each fails, so nothing changes between them. */
static void try_handles(const struct function *f, int slot)
{
    static const long long wild[] = {-1, 1, 2, 1000, INT_MAX, LLONG_MAX, LLONG_MIN, 1ll << 62, 0x0101010101010101ll};
    struct args a = plausible(f);
    char what[120];

    if (f->slot[slot].kind == HANDLE)
        expect_error(f, a, slot, "nothing", 0);
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++)
        expect_error(f, a, slot, "a wild number", wild[i]);
    for (int i = 0; i < RANDOMS; i++)
        expect_error(f, a, slot, "a random number", random_number());
    for (int i = 0; i < kind_count; i++) {
        snprintf(what, sizeof what, "a closed %s", kinds[i].name);
        expect_error(f, a, slot, what, closed[i]);
        if (!(f->slot[slot].accepts >> i & 1)) {
            snprintf(what, sizeof what, "a handle of the wrong kind: %s", kinds[i].name);
            expect_error(f, a, slot, what, good[i]);
        }
        if (!f->any_thread) {
            snprintf(what, sizeof what, "another thread's %s", kinds[i].name);
            expect_error(f, a, slot, what, foreign[i]);
        }
    }
}

/* Handles with a bit turned over: one may hit a live object, so only survival counts. */
static void try_turned_bits(const struct function *f, int slot)
{
    struct args a = plausible(f);
    long long start = a.value[slot];

    for (int bit = 0; bit < 64; bit++) {
        a.value[slot] = start ^ (long long)(1ull << bit);
        trying(f->slot[slot].name, "a bit turned over", a.value[slot]);
        progress->result = call(f, &a);
    }
}

static void try_null(const struct function *f, int slot)
{
    struct args a = plausible(f);

    trying(f->slot[slot].name, "NULL", 0);
    a.null = slot;
    progress->result = call(f, &a);
}

static const long long extremes[] = {-1, 0, 1, INT_MAX, INT_MIN, LLONG_MAX, LLONG_MIN};
enum { EXTREMES = sizeof extremes / sizeof *extremes, NUMBERS = EXTREMES + 3 };
static int which_number;

static void try_number(const struct function *f, int slot)
{
    struct args a = plausible(f);
    int i;

    for (i = EXTREMES; i <= which_number; i++)
        a.value[slot] = random_number();
    if (which_number < EXTREMES)
        a.value[slot] = extremes[which_number];
    trying(f->slot[slot].name, "a wild number", a.value[slot]);
    progress->result = call(f, &a);
}

/* ---- in a child of its own ---- */

typedef void (*try_fn)(const struct function *f, int slot);

static int in_child(const struct function *f, int slot, try_fn body)
{
    int status;
    pid_t pid;

    memset(progress, 0, sizeof *progress);
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        alarm(SECONDS_TO_RETURN);
        make_kit();
        body(f, slot);
        progress->finished = 1;
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && progress->finished)
        return 0;
    printf("%s: %s (%lld, 0x%llx): ", f->name, progress->what, progress->value, (unsigned long long)progress->value);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        printf("did not return in %d s\n", SECONDS_TO_RETURN);
    else if (WIFSIGNALED(status))
        printf("died by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 1)
        printf("returned %lld\n", progress->result);
    else
        printf("ended the process with status %d\n", WEXITSTATUS(status));
    return 1;
}

static int try_function(const struct function *f)
{
    int failures = 0;

    for (int slot = 0; slot < f->slots; slot++)
        switch (f->slot[slot].kind) {
        case HANDLE:
        case HANDLE_INSIDE:
            failures += in_child(f, slot, try_handles);
            failures += in_child(f, slot, try_turned_bits);
            break;
        case POINTER: failures += in_child(f, slot, try_null); break;
        case NUMBER:
            for (which_number = 0; !f->numbers_block && which_number < NUMBERS; which_number++)
                failures += in_child(f, slot, try_number);
            break;
        }
    return failures;
}

int main(int argc, char **argv)
{
    const struct function *f;

    progress = (struct progress *)mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                                       0);
    if (argc != 2 || progress == MAP_FAILED)
        return 2;
    for (f = functions; f->name; f++)
        if (strcmp(argv[1], "--list") == 0)
            printf("%s 300\n", f->name);
        else if (strcmp(argv[1], f->name) == 0)
            return try_function(f) ? 1 : 0;
    return strcmp(argv[1], "--list") == 0 ? 0 : 2;
}

#endif /* WEALD_NOISE_H */
