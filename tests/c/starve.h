/* A process without memory, for claims about WEALD_ENOMEM: what the library keeps in one piece is filled to the brim
 * first (its timers, and its tables of handles), and then there is no memory left to make it larger. Small things still
 * find room in what was given back before. `feed` ends it; call it before the test does. */
#ifndef WEALD_TEST_STARVE_H
#define WEALD_TEST_STARVE_H

#include "test.h"
#include <sys/resource.h>

/* Each is kept in an array whose length is a power of two; the most used kinds of handles in arrays of their own. */
enum { STARVE_TIMERS = 1 << 15, STARVE_HANDLES = 1 << 16, STARVE_SHARED = 1 << 15, STARVE_OWN = 256 };

/* What is left, in small pieces that do not touch. */
enum { STARVE_PIECE = 2048, STARVE_LEFT = 16 };

static struct rlimit starve_before;
static void *starve_pieces;

static void starve_never(weald_watcher w, int what, void *user)
{
    (void)w, (void)what, (void)user;
    CHECK(!"a timer that is due in an hour");
}

static weald_handle starve_event(void) { return weald_event_new(0); }
static weald_handle starve_shared_event(void) { return weald_event_new(WEALD_SHARED); }
static weald_handle starve_queue(void) { return weald_queue_new(WEALD_FIFO, 1, NULL); }
static weald_handle starve_shared_queue(void) { return weald_queue_new(WEALD_SHARED, 1, NULL); }
static weald_handle starve_semaphore(void) { return weald_semaphore_new(0); }
static void *starve_unused(void *arg) { return arg; }
static weald_handle starve_greenlet(void) { return weald_greenlet_new(starve_unused, NULL, NULL); }

static void starve_last(weald_handle (*make)(void), int length)
{
    weald_handle last;
    do
        CHECK_GT(last = make(), 0);
    while ((last >> 5 & 0x3fffff) != length - 1);
}

/* The next timer, or the next handle of this thread or of all threads, needs a larger array. */
static void starve_fill(void)
{
    while (test_stats().timers < STARVE_TIMERS) {
        weald_watcher w = weald_timer_watcher(WEALD_SEC(3600), 0, starve_never, NULL);
        CHECK_GT(w, 0);
        CHECK_EQ(weald_watcher_unref(w), 0);
        CHECK_EQ(weald_watcher_start(w), 0);
    }
    /* The place of a handle among those of its sort is in 22 of its bits, above those of its kind. */
    starve_last(starve_event, STARVE_HANDLES);
    starve_last(starve_shared_event, STARVE_SHARED);
    starve_last(starve_greenlet, STARVE_OWN);
    starve_last(starve_queue, STARVE_OWN);
    starve_last(starve_shared_queue, STARVE_OWN);
    starve_last(starve_semaphore, STARVE_OWN);
}

static void starve_keep(void *piece)
{
    *(void **)piece = starve_pieces;
    starve_pieces = piece;
}

/* Takes all that malloc still has in pieces of `size`, and keeps them in a list. */
static void starve_eat(size_t size)
{
    void *piece;
    while ((piece = malloc(size)))
        starve_keep(piece);
}

/* Skips where a checker has memory of its own. */
static TEST_UNUSED void starve(void)
{
    struct rlimit none;
    void *pieces[2 * STARVE_LEFT + 1];

    LEAKS("what fills the tables is not closed");
    if (*test_under())
        SKIP("the checker needs memory of its own");
    starve_fill();
    for (int i = 0; i <= 2 * STARVE_LEFT; i++)
        CHECK(pieces[i] = malloc(STARVE_PIECE));
    CHECK_EQ(getrlimit(RLIMIT_AS, &starve_before), 0);
    none = starve_before;
    none.rlim_cur = 1 << 20; /* less than there is already: nothing can be added */
    CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
    for (size_t size = 1 << 20; size >= STARVE_PIECE; size /= 2)
        starve_eat(size);
    for (int i = 0; i <= 2 * STARVE_LEFT; i++)
        i % 2 ? free(pieces[i]) : starve_keep(pieces[i]);
}

static TEST_UNUSED void feed(void)
{
    CHECK_EQ(setrlimit(RLIMIT_AS, &starve_before), 0);
    while (starve_pieces) {
        void *next = *(void **)starve_pieces;
        free(starve_pieces);
        starve_pieces = next;
    }
}

/* A moment to wait for: only such a wait needs a timer. */
static TEST_UNUSED int64_t soon(void) { return weald_after(WEALD_SEC(1)); }

#endif /* WEALD_TEST_STARVE_H */
