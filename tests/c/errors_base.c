/* Codes of the functions on any handle. */
#include "errors.h"

static weald_event event;

static void use_it(void)
{
    CHECK_EQ(weald_kind(event), WEALD_EPERM);
    CHECK_EQ(weald_dup(event), WEALD_EPERM);
    CHECK_EQ(weald_close(event), WEALD_EPERM);
}

TEST(a_handle_is_of_no_use_in_another_thread)
{
    CHECK_GT(event = weald_event_new(0), 0);
    in_another_thread(use_it);
    CHECK_EQ(weald_close(event), 0);
}

TEST(a_closed_handle_is_of_no_use)
{
    for (int shared = 0; shared < 2; shared++) {
        CHECK_GT(event = weald_event_new(shared * WEALD_SHARED), 0);
        CHECK_EQ(weald_close(event), 0);
        CHECK_EQ(weald_kind(event), WEALD_EBADF);
        CHECK_EQ(weald_dup(event), WEALD_EBADF);
        CHECK_EQ(weald_close(event), WEALD_EBADF);
    }
}

static void *end(void *unused) { return unused; }

TEST(what_nobody_has_to_close_can_not_be_closed)
{
    weald_greenlet all[2];

    CHECK_EQ(weald_go(end, NULL), 0);
    CHECK_EQ(weald_list(all, 2), 2);
    CHECK_EQ(weald_close(all[0]), WEALD_EBADF); /* main */
    CHECK_EQ(weald_close(all[1]), WEALD_EBADF); /* detached */
    CHECK_EQ(weald_kind(all[1]), WEALD_KIND_GREENLET);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_kind(all[1]), WEALD_EBADF);
}
