/* What both halves of `make soak` are made of: chance, sessions that are begun again and again, what befalls them, and
 * what is left when all of them have ended.
 *
 * A session runs in a greenlet of its own, which is known so that somebody can kill it. While `paused` no session
 * begins, while `shut` there are no servers, while `few` no descriptors; `stops` and `scarcities` count how often that
 * was so, for a session to see what has happened since it began.
 */
#ifndef WEALD_SOAK_SESSIONS_H
#define WEALD_SOAK_SESSIONS_H

#include "../c/net.h"

#define NUMBER(p) ((intptr_t)(p))
#define POINTER(n) ((void *)(intptr_t)(n))

/* ---- chance ---- */

static uint64_t noise;

static unsigned below(unsigned n)
{
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return (unsigned)((noise >> 20) % n);
}

static int one_in(unsigned n) { return below(n) == 0; }

/* ---- sessions ---- */

struct session; /* begins with its greenlet */

/* What is left when all of them have ended. */
struct state {
    long rss, handles, alive;
    int fds, threads, mappings; /* without the threads' stacks */
};

static int active, paused, over, shut, few;
static long stops, scarcities;

/* The half's own: a session; what one leaves behind that was killed; its servers, and whether nobody is with them any
 * more; what is left, of which it checks what is its own against the beginning. */
static void *session(void *me);
static void tidy(struct session *me);
static void stop_servers(void);
static void open_servers(void);
static int calm(void);
static struct state count_what_is_left(void);
static void tell(int64_t began, const struct state *now);
static void check_own(const struct state *warm, const struct state *now);

static void *keep_in_session(void *me)
{
    weald_greenlet *g = (weald_greenlet *)me;

    while (!over) {
        if (paused) {
            CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
            continue;
        }
        active++;
        CHECK_GT(*g = weald_spawn(session, me), 0);
        CHECK_EQ(weald_join(*g, WEALD_FOREVER), 0);
        if (weald_successful(*g) != 1)
            CHECK_EQ(weald_error(*g), WEALD_ECANCELED); /* killed before it began */
        CHECK_EQ(weald_close(*g), 0);
        *g = 0;
        tidy((struct session *)me);
        active--;
        CHECK_EQ(weald_yield(), 0);
    }
    return NULL;
}

/* ---- what befalls them ---- */

/* Stops the servers and makes them anew, after at least so many ms. */
static void *restart(void *pause_ms)
{
    while (!over) {
        CHECK_EQ(weald_sleep(WEALD_MS(NUMBER(pause_ms) + below(2000))), 0);
        if (paused || over)
            continue;
        active++;
        stops++;
        shut = 1;
        stop_servers();
        weald_sleep(WEALD_MS(below(20)));
        while (few)
            weald_sleep(WEALD_MS(1));
        open_servers();
        active--;
    }
    return NULL;
}

static void *run_out_of_descriptors(void *unused)
{
    while (!over) {
        CHECK_EQ(weald_sleep(WEALD_MS(1000 + below(3000))), 0);
        if (paused || over || shut)
            continue;
        active++;
        scarcities++;
        few = 1;
        net_no_more_fds();
        weald_sleep(WEALD_MS(below(30)));
        net_fds_again();
        weald_sleep(WEALD_MS(20)); /* the server pauses for so long */
        few = 0;
        scarcities++;
        active--;
    }
    return unused;
}

/* ---- what is left when all sessions have ended ---- */

static void name_descriptors(void)
{
    char path[64], what[128];
    ssize_t len;

    for (int fd = 0; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if ((len = readlink(path, what, sizeof what)) >= 0)
            fprintf(stderr, "%d: %.*s\n", fd, (int)len, what);
    }
}

/* Lets no session begin any more, and waits for those that are there. */
static void calm_down(void)
{
    int64_t patience = weald_after(test_slack(WEALD_SEC(30)));

    paused = 1;
    while (active > 0 || !calm()) {
        if (weald_now() > patience) {
            fprintf(stderr, "%d sessions do not end\n", active);
            weald_dump(STDERR_FILENO);
            test_leave(TEST_FAILED);
        }
        CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    }
}

static struct state state_now(void)
{
    weald_stats stats = {.size = sizeof stats};
    struct state now;

    CHECK_EQ(weald_stats_get(&stats), 0);
    now = (struct state){test_rss(), (long)stats.handles, (long)stats.alive, test_fds(), test_threads(), 0};
    now.mappings = test_mappings() - 2 * now.threads; /* a stack and its guard */
    return now;
}

static struct state larger(struct state a, struct state b)
{
#define LARGER(field) .field = a.field > b.field ? a.field : b.field
    return (struct state){LARGER(rss), LARGER(handles), LARGER(alive), LARGER(fds), LARGER(threads),
                          LARGER(mappings)};
#undef LARGER
}

static void check_flat(const struct state *warm, const struct state *now)
{
    if (now->fds > warm->fds)
        name_descriptors();
    CHECK_LE(now->fds, warm->fds);
    CHECK_LE(now->handles, warm->handles);
    CHECK_LE(now->alive, warm->alive);
    if (!*test_under())
        CHECK_LE(now->rss, warm->rss + (4 << 20));
    check_own(warm, now);
}

/* ---- all of it ---- */

/* For how long, in ns; and the seed is said, and set. */
static int64_t soak_length(const char *what)
{
    const char *seconds = getenv("SOAK_SECONDS"), *seed = getenv("WEALD_TEST_SEED");
    int64_t length = WEALD_SEC(seconds && *seconds ? atol(seconds) : 600);

    CHECK_GT(length, 0);
    noise = seed ? strtoull(seed, NULL, 0) : (uint64_t)test_clock();
    printf("%sseed %llu, %d s\n", what, (unsigned long long)noise, (int)(length / WEALD_SEC(1)));
    noise = noise * 0x9E3779B97F4A7C15u | 1;
    return length;
}

enum { MOST_KEPT = 64 };

/* Has `n` sessions of `size` bytes under way for so long, and what befalls them; counts what is left every ten seconds
 * (every tenth of a shorter run). */
static void soak(int64_t length, void *sessions, size_t size, int n, weald_fn torment, intptr_t restart_ms)
{
    int64_t step = length / 10 < WEALD_SEC(10) ? length / 10 : WEALD_SEC(10), began = weald_now();
    weald_greenlet keepers[MOST_KEPT], fates[3];
    struct state warm = {0}, now;

    for (int i = 0; i < n; i++)
        CHECK_GT(keepers[i] = weald_spawn(keep_in_session, (char *)sessions + (size_t)i * size), 0);
    CHECK_GT(fates[0] = weald_spawn(torment, NULL), 0);
    CHECK_GT(fates[1] = weald_spawn(restart, POINTER(restart_ms)), 0);
    CHECK_GT(fates[2] = weald_spawn(run_out_of_descriptors, NULL), 0);
    for (int64_t next = began + step; next <= began + length; next += step) {
        CHECK_EQ(weald_sleep_until(next), 0);
        now = count_what_is_left();
        tell(began, &now);
        if (next <= began + length / 10)
            warm = larger(warm, now);
        else
            check_flat(&warm, &now);
        paused = 0;
    }
    over = 1;
    CHECK_EQ(weald_joinall(keepers, n, 0, 0, WEALD_FOREVER), n);
    CHECK_EQ(weald_joinall(fates, 3, 0, 0, WEALD_FOREVER), 3);
}

#endif
