/* Codes of what looks into the library, where other tests do not provoke them. */
#include "errors.h"
#include <fcntl.h>

TEST(a_dump_that_nobody_reads_is_epipe)
{
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    close(ends[0]);
    CHECK_EQ(weald_dump(ends[1]), WEALD_EPIPE);
    close(ends[1]);
}

static void *fail_by_itself(void *unused)
{
    (void)unused;
    return weald_fail(WEALD_EPIPE, "nobody reads this");
}

/* Neither killed by SIGPIPE nor by a write that fails. */
TEST(a_report_that_nobody_reads_harms_nobody)
{
    void (*const dispositions[])(int) = {SIG_DFL, SIG_IGN};
    int kept = dup(STDERR_FILENO), ends[2];

    CHECK_EQ(pipe(ends), 0);
    close(ends[0]);
    CHECK_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    for (int i = 0; i < 2; i++) {
        weald_greenlet failing;

        signal(SIGPIPE, dispositions[i]);
        failing = weald_spawn(fail_by_itself, NULL);
        CHECK_EQ(weald_get(failing, NULL, WEALD_FOREVER), WEALD_EPIPE);
        CHECK_EQ(weald_sleep(INT64_MAX), WEALD_EDEADLK);
        CHECK_EQ(weald_close(failing), 0);
    }
    CHECK_EQ(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    close(kept);
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
