/* Codes of waits for descriptors, where other tests do not provoke them: in the child of a fork, where what the parent
 * waits for is forgotten. */
#include "errors.h"
#include <fcntl.h>
#include <sys/socket.h>

static int ends[2];

/* Ends the parent's wait; in the child no watcher runs. */
static void let_it_end(weald_watcher w, int what, void *user)
{
    char bytes[65536];

    (void)w, (void)what, (void)user;
    while (read(ends[1], bytes, sizeof bytes) > 0)
        ;
    CHECK_EQ(write(ends[1], "x", 1), 1);
}

/* Nothing to read, and no room to write. */
static void prepare(void)
{
    char zeros[4096] = {0};
    weald_watcher later = weald_timer_watcher(WEALD_MS(50), 0, let_it_end, NULL);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    while (write(ends[0], zeros, sizeof zeros) > 0)
        ;
    CHECK_GT(later, 0);
    CHECK_EQ(weald_watcher_start(later), 0);
}

static int64_t read_it(void) { return weald_wait_read(ends[0], WEALD_FOREVER); }
static int64_t write_it(void) { return weald_wait_write(ends[0], WEALD_FOREVER); }
static int64_t either(void) { return weald_wait_fd(ends[0], WEALD_READ | WEALD_WRITE, WEALD_FOREVER); }

TEST(a_wait_to_read_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    prepare();
    CHECK_EQ(in_a_forked_child(read_it), WEALD_EDEADLK);
}

TEST(a_wait_to_write_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    prepare();
    CHECK_EQ(in_a_forked_child(write_it), WEALD_EDEADLK);
}

TEST(a_wait_for_either_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    prepare();
    CHECK_EQ(in_a_forked_child(either), WEALD_EDEADLK);
}
