/* Codes, time, handles: what needs no greenlet. */
#include "test.h"

TEST(version_is_that_of_the_header) { CHECK_STR(weald_version(), WEALD_VERSION); }

TEST(abi_version_is_positive) { CHECK_GT(weald_abi_version(), 0); }

TEST(every_code_is_negative_and_has_a_name_and_a_text)
{
    static const int codes[] = {WEALD_EPERM,     WEALD_EINTR,     WEALD_EBADF,    WEALD_EAGAIN,   WEALD_ENOMEM,
                                WEALD_EBUSY,     WEALD_EINVAL,    WEALD_EPIPE,    WEALD_EDEADLK,  WEALD_ETIMEDOUT,
                                WEALD_ECANCELED, WEALD_EOVERFLOW, WEALD_EALREADY, WEALD_ECHILD,   WEALD_EPANIC};

    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        CHECK_LT(codes[i], 0);
        CHECK(weald_strcode(codes[i])[0] == 'E');
        CHECK(weald_strerror(codes[i])[0] != '\0');
    }
}

TEST(codes_are_negated_errno_values)
{
    CHECK_EQ(WEALD_ETIMEDOUT, -ETIMEDOUT);
    CHECK_EQ(WEALD_ECANCELED, -ECANCELED);
    CHECK_EQ(WEALD_EBADF, -EBADF);
    CHECK_EQ(WEALD_EDEADLK, -EDEADLK);
    CHECK_STR(weald_strcode(-ETIMEDOUT), "ETIMEDOUT");
}

TEST(a_number_that_is_no_code_has_a_text_all_the_same)
{
    CHECK(weald_strerror(0) != NULL);
    CHECK(weald_strerror(-123456) != NULL);
    CHECK(weald_strerror(2147483647) != NULL);
    CHECK(weald_strerror(-2147483647 - 1) != NULL);
    CHECK(weald_strcode(-123456) != NULL);
}

TEST(span_macros_take_whole_numbers_and_fractions)
{
    CHECK_EQ(WEALD_US(3), 3000);
    CHECK_EQ(WEALD_MS(250), 250000000);
    CHECK_EQ(WEALD_SEC(3600), 3600000000000);
    CHECK_EQ(WEALD_SEC(0.5), 500000000);
    CHECK_EQ(WEALD_MS(-1), -1000000);
}

TEST(now_does_not_go_back)
{
    int64_t before = weald_now();

    CHECK_GT(before, 0);
    CHECK_GE(weald_now(), before);
}

TEST(after_saturates_and_never_makes_a_special_deadline)
{
    CHECK_EQ(weald_after(INT64_MAX), INT64_MAX);
    CHECK_GT(weald_after(0), 0);
    CHECK_NE(weald_after(INT64_MIN), WEALD_FOREVER);
    CHECK_NE(weald_after(INT64_MIN), WEALD_NOW);
    CHECK_NE(weald_after(-weald_now()), WEALD_NOW);
    CHECK_GE(weald_after(WEALD_SEC(1)) - weald_now(), WEALD_MS(900));
}

TEST(closing_what_is_no_handle_is_ebadf)
{
    CHECK_EQ(weald_close(0), WEALD_EBADF);
    CHECK_EQ(weald_close(-1), WEALD_EBADF);
    CHECK_EQ(weald_close(INT64_MAX), WEALD_EBADF);
    CHECK_EQ(weald_close(0x123456789abcdef0), WEALD_EBADF);
}

TEST(a_handle_is_closed_once)
{
    weald_handle e = weald_event_new(0);

    CHECK_GT(e, 0);
    CHECK_EQ(weald_close(e), 0);
    CHECK_EQ(weald_close(e), WEALD_EBADF);
    CHECK_EQ(weald_event_set(e), WEALD_EBADF);
}

TEST(a_stale_handle_is_rejected_after_reuse_of_its_place)
{
    weald_handle old = weald_event_new(0), fresh;

    CHECK_EQ(weald_close(old), 0);
    fresh = weald_event_new(0);
    CHECK_GT(fresh, 0);
    CHECK_NE(fresh, old);
    CHECK_EQ(weald_event_set(old), WEALD_EBADF);
    CHECK_EQ(weald_event_is_set(fresh), 0);
    CHECK_EQ(weald_close(fresh), 0);
}

/* The number that a place in the table holds while nobody has it is nobody's handle either. */
static void *nothing(void *arg) { return arg; }
TEST(a_stale_handle_with_its_sign_changed_is_ebadf)
{
    for (int i = 0; i < 3; i++) {
        weald_handle stale = i == 0   ? weald_event_new(0)
                             : i == 1 ? weald_event_new(WEALD_SHARED)
                                      : weald_spawn(nothing, NULL);
        CHECK_GT(stale, 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(weald_close(stale), 0);
        stale |= INT64_MIN;
        CHECK_EQ(weald_kind(stale), WEALD_EBADF);
        CHECK_EQ(weald_dup(stale), WEALD_EBADF);
        CHECK_EQ(weald_close(stale), WEALD_EBADF);
    }
}

TEST(a_dup_needs_a_close_of_its_own)
{
    weald_handle e = weald_event_new(0);

    CHECK_EQ(weald_dup(e), e);
    CHECK_EQ(weald_close(e), 0);
    CHECK_EQ(weald_event_set(e), 0);
    CHECK_EQ(weald_close(e), 0);
    CHECK_EQ(weald_event_set(e), WEALD_EBADF);
}

TEST(a_handle_of_another_kind_is_ebadf)
{
    weald_handle e = weald_event_new(0);

    CHECK_EQ(weald_semaphore_release(e), WEALD_EBADF);
    CHECK_EQ(weald_join(e, WEALD_NOW), WEALD_EBADF);
    CHECK_NE(weald_kind(e), weald_kind(weald_self()));
    CHECK_EQ(weald_close(e), 0);
}
