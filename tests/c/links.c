/* Links: what is called when a greenlet has ended. */
#include "bodies.h"

/* ---- links ---- */

static weald_handle linked[8];
static int links;

static void note_link(weald_handle ended, void *arg)
{
    CHECK_EQ(weald_self(), 0); /* in the loop */
    linked[links++] = ended;
    strcat(order, (const char *)arg);
}

TEST(links_fire_in_order_after_the_end)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_GT(weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"2"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"3"}, WEALD_LINK_ALWAYS), 0);
    drain();
    CHECK_STR(order, "123");
    CHECK_EQ(linked[0], g);
    CHECK_EQ(weald_close(g), 0);
}

TEST(links_may_be_for_a_value_or_for_a_failure_alone)
{
    weald_greenlet good = spawned(return_it, NULL), bad;

    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), 0);
    bad = spawned(fail_silently, (void *)(intptr_t)WEALD_EPIPE);
    CHECK_GT(weald_link(good, note_link, (char[]){"v"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(good, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_GT(weald_link(bad, note_link, (char[]){"V"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(bad, note_link, (char[]){"E"}, WEALD_LINK_ERROR), 0);
    CHECK_GT(weald_link(bad, note_link, (char[]){"A"}, WEALD_LINK_ALWAYS), 0);
    drain();
    CHECK_STR(order, "vEA");
    CHECK_EQ(weald_close(good), 0);
    CHECK_EQ(weald_close(bad), 0);
}

TEST(links_of_one_killed_before_it_began_fire_as_failures)
{
    weald_greenlet g = weald_greenlet_new(never_called, NULL, NULL);

    CHECK_GT(weald_link(g, note_link, (char[]){"v"}, WEALD_LINK_VALUE), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"a"}, WEALD_LINK_ALWAYS), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    drain();
    CHECK_STR(order, "ea");
    CHECK_EQ(weald_close(g), 0);
}

TEST(links_of_one_that_was_never_started_fire_when_it_is_closed)
{
    weald_greenlet g = weald_greenlet_new(never_called, NULL, NULL);

    CHECK_GT(weald_link(g, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_STR(order, "");
    drain();
    CHECK_STR(order, "e");
}

TEST(a_link_made_after_the_end_fires_in_the_next_turn)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"a"}, WEALD_LINK_ALWAYS), 0);
    CHECK_GT(weald_link(g, note_link, (char[]){"e"}, WEALD_LINK_ERROR), 0);
    CHECK_STR(order, "");
    drain();
    CHECK_STR(order, "a");
    CHECK_EQ(weald_close(g), 0);
}

TEST(an_unlinked_callback_does_not_run)
{
    weald_greenlet g = spawned(return_it, NULL);
    int64_t first = weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS);
    int64_t second = weald_link(g, note_link, (char[]){"2"}, WEALD_LINK_ALWAYS);

    CHECK_NE(first, second);
    CHECK_EQ(weald_unlink(g, first), 0);
    CHECK_EQ(weald_unlink(g, first), WEALD_ENOENT);
    CHECK_EQ(weald_unlink(g, 0), WEALD_ENOENT);
    CHECK_EQ(weald_unlink(g, -1), WEALD_ENOENT);
    drain();
    CHECK_STR(order, "2");
    CHECK_EQ(weald_unlink(g, second), WEALD_ENOENT);
    CHECK_EQ(weald_close(g), 0);
}

static int64_t other_link;

static void unlink_other(weald_handle ended, void *expected)
{
    note_link(ended, "u");
    CHECK_EQ(weald_unlink(ended, other_link), (int)(intptr_t)expected);
}

TEST(a_callback_may_unlink_those_behind_it)
{
    weald_greenlet g = spawned(return_it, NULL);

    other_link = weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS);
    CHECK_GT(weald_link(g, unlink_other, (void *)(intptr_t)WEALD_ENOENT, WEALD_LINK_ALWAYS), 0); /* it has fired */
    drain();
    CHECK_STR(order, "1u");
    CHECK_GT(weald_link(g, unlink_other, NULL, WEALD_LINK_ALWAYS), 0);
    other_link = weald_link(g, note_link, (char[]){"2"}, WEALD_LINK_ALWAYS);
    CHECK_GT(weald_link(g, note_link, (char[]){"3"}, WEALD_LINK_ALWAYS), 0);
    drain();
    CHECK_STR(order, "1uu3");
    CHECK_EQ(weald_close(g), 0);
}

TEST(until_it_fires_a_link_to_one_that_has_ended_is_taken_back)
{
    weald_greenlet g = spawned(return_it, NULL), other = spawned(return_it, NULL);
    int64_t late;

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    late = weald_link(g, note_link, (char[]){"1"}, WEALD_LINK_ALWAYS);
    CHECK_EQ(weald_unlink(other, late), WEALD_ENOENT); /* another's */
    CHECK_EQ(weald_unlink(g, late), 0);
    CHECK_EQ(weald_unlink(g, late), WEALD_ENOENT);
    drain();
    CHECK_STR(order, "");
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(other), 0);
}

TEST(a_link_needs_a_function_and_a_known_occasion)
{
    weald_greenlet g = spawned(return_it, NULL);

    CHECK_EQ(weald_link(g, NULL, NULL, WEALD_LINK_ALWAYS), WEALD_EINVAL);
    CHECK_EQ(weald_link(g, note_link, NULL, 3), WEALD_EINVAL);
    CHECK_EQ(weald_link(g, note_link, NULL, -1), WEALD_EINVAL);
    join_and_close(g);
    drain();
    CHECK_EQ(links, 0);
}

static void *open_gate(void *arg)
{
    CHECK_EQ(weald_event_set(gate), 0);
    return arg;
}

static void spawn_from_link(weald_handle ended, void *arg)
{
    (void)ended, (void)arg;
    CHECK_EQ(weald_go(open_gate, NULL), 0);
}

TEST(a_link_may_spawn_and_wake)
{
    weald_greenlet g;

    make_gate();
    g = spawned(return_it, NULL);
    CHECK_GT(weald_link(g, spawn_from_link, NULL, WEALD_LINK_ALWAYS), 0);
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_close(gate), 0);
}
