/* Codes of thread pools and workers, where other tests do not provoke them. */
#include "errors.h"

static void *work_for_a_while(void *unused)
{
    usleep(100000);
    return unused;
}

static int64_t offload(void) { return weald_offload(0, work_for_a_while, NULL, NULL, WEALD_FOREVER); }

TEST(a_job_of_the_parent_is_a_deadlock_in_a_child_that_a_callback_forks)
{
    CHECK_EQ(in_a_forked_child(offload), WEALD_EDEADLK);
}

TEST(more_workers_than_there_may_be_hubs_are_enomem)
{
    weald_workers few;
    int64_t code;

    errors_room_for_all_hubs();
    code = weald_workers_start(1023);
    if (code == WEALD_EAGAIN)
        SKIP("a thousand threads are too many for this machine");
    CHECK_EQ(code, WEALD_ENOMEM);
    CHECK_GT(few = weald_workers_start(2), 0); /* none of them is left */
    CHECK_EQ(weald_workers_join(few, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(few), 0);
}
