/* weald_wait: greenlets, objects, watchers and descriptors in one call; it takes nothing. */
#include "test.h"

#include <fcntl.h>
#include <pthread.h>

static weald_event event, stop;

static weald_wait_item object(weald_handle handle)
{
    weald_wait_item item;

    memset(&item, 0, sizeof item);
    item.object = handle;
    item.ready = -1;
    return item;
}

static weald_wait_item descriptor(int fd, int events)
{
    weald_wait_item item = object(0);

    item.fd = fd;
    item.events = events;
    return item;
}

/* Waits for one handle, for ever. */
static void *wait_for_one(void *handle)
{
    weald_wait_item item = object(*(weald_handle *)handle);
    int64_t code = weald_wait(&item, 1, 1, WEALD_FOREVER);

    CHECK_EQ(item.ready, code == 1 ? 1 : -1);
    return (void *)(intptr_t)code;
}

/* A greenlet that waits already. */
static weald_greenlet waiter(weald_handle *handle)
{
    weald_greenlet g = weald_spawn(wait_for_one, handle);

    CHECK_GT(g, 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_state(g), WEALD_STATE_PARKED);
    return g;
}

/* What the greenlet returned; it is closed. */
static int code_of(weald_greenlet g)
{
    void *value = NULL;

    CHECK_EQ(weald_get(g, &value, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    return (int)(intptr_t)value;
}

static void *wait_for_stop(void *arg)
{
    (void)weald_event_wait(stop, WEALD_FOREVER);
    return arg;
}

static void keep_quiet(const char *text, void *user)
{
    CHECK_NE(text[0], 0);
    ++*(int *)user;
}

static void fired(weald_watcher w, int what, void *user)
{
    (void)w;
    (void)what;
    (void)user;
}

/* ---- every kind ---- */

enum { A_GREENLET, AN_EVENT, A_RESULT, A_QUEUE, A_SEMAPHORE, A_LOCK, A_WATCHER, A_SHARED_EVENT, A_SHARED_RESULT, A_SHARED_QUEUE,
       A_READER, A_WRITER, KINDS };

static struct {
    weald_wait_item items[KINDS];
    int read_end[2], write_end[2];
} all;

static void *hold_until_stop(void *arg)
{
    CHECK_EQ(weald_lock_acquire(all.items[A_LOCK].object, WEALD_FOREVER), 0);
    (void)weald_event_wait(stop, WEALD_FOREVER);
    CHECK_EQ(weald_lock_release(all.items[A_LOCK].object), 0);
    return arg;
}

static void make_all(void)
{
    char page[4096];

    memset(page, 0, sizeof page);
    stop = weald_event_new(0);
    all.items[A_EVENT_OR_GREENLET_PLACEHOLDER] = object(0);
}
