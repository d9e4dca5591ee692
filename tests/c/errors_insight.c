/* Codes of what looks into the library, where other tests do not provoke them. */
#include "errors.h"
#include <fcntl.h>

TEST(a_dump_that_nobody_reads_is_epipe)
{
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_EQ(weald_dump(ends[1]), WEALD_EPIPE);
    close(ends[1]);
}

TEST(a_dump_to_a_full_pipe_that_does_not_block_is_eagain)
{
    char zeros[4096] = {0};
    int ends[2];

    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    while (write(ends[1], zeros, sizeof zeros) > 0)
        ;
    CHECK_EQ(weald_dump(ends[1]), WEALD_EAGAIN);
    close(ends[0]);
    close(ends[1]);
}

static weald_greenlet g;

static void look_from_elsewhere(void)
{
    void *low, *high;

    CHECK_EQ(weald_stack_bounds(g, &low, &high), WEALD_EPERM);
    CHECK_EQ(weald_stack_used(g), WEALD_EPERM);
    CHECK_EQ(weald_set_user(g, &low), WEALD_EPERM);
    CHECK_PTR(weald_user(g), NULL);
}

TEST(another_thread_s_greenlet_is_not_looked_into)
{
    int word;

    CHECK_GT(g = weald_main(), 0);
    CHECK_EQ(weald_set_user(g, &word), 0);
    in_another_thread(look_from_elsewhere);
    CHECK_PTR(weald_user(g), &word);
}
