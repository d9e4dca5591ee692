// weald.hpp: greenlets, what they are given and what they come to.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <pthread.h>
#include <weald.hpp>

#include "../c/test.h"
#include "counted.h"
#include "thrown.h"

using namespace std::chrono_literals;

namespace {

struct oops : std::runtime_error {
    using runtime_error::runtime_error;
};

} // namespace

// ---- values in and out ----

TEST(get_returns_what_the_body_returned)
{
    auto sum = weald::spawn([](int a, int b) { return a + b; }, 20, 22);
    auto text = weald::spawn([] { return std::string("a text that is too long to lie in its object"); });
    auto nothing = weald::spawn([] {});

    static_assert(std::is_same_v<decltype(sum), weald::greenlet<int>>);
    static_assert(std::is_same_v<decltype(nothing), weald::greenlet<>>);
    CHECK_EQ(sum.get(), 42);
    CHECK_STR(text.get().c_str(), "a text that is too long to lie in its object");
    nothing.get();
}

TEST(a_body_may_return_a_reference_or_what_can_only_be_moved)
{
    int here = 1;
    auto reference = weald::spawn([&here]() -> int & { return here; });
    auto moved = weald::spawn([] { return std::make_unique<int>(7); });

    CHECK_PTR(&reference.get(), &here);
    CHECK_EQ(*moved.get(), 7);
}

TEST(arguments_are_moved_in_and_references_are_wrapped)
{
    int seen = 0;
    auto owner = std::make_unique<int>(5);
    weald::spawn([](std::unique_ptr<int> p, int &out) { out = *p; }, std::move(owner), std::ref(seen)).join();
    CHECK(!owner);
    CHECK_EQ(seen, 5);
}

TEST(a_member_function_may_be_the_body)
{
    struct robin {
        int songs = 0;
        int sing(int n) { return songs += n; }
    } bird;
    auto g = weald::spawn(&robin::sing, &bird, 3);
    CHECK_EQ(g.get(), 3);
    CHECK_EQ(bird.songs, 3);
}

TEST(a_second_get_is_ealready)
{
    auto g = weald::spawn([] { return 1; });
    CHECK_EQ(g.get(), 1);
    CHECK_EQ(thrown_by([&] { g.get(); }), WEALD_EALREADY);
}

TEST(a_greenlet_is_moved_and_an_empty_one_is_ebadf)
{
    weald::greenlet<int> g;
    CHECK_EQ(thrown_by([&] { g.get(); }), WEALD_EBADF);
    g = weald::spawn([] { return 3; });
    auto h = std::move(g);
    CHECK_EQ(h.get(), 3);
    static_assert(!std::is_copy_constructible_v<weald::greenlet<int>>);
    static_assert(std::is_nothrow_move_constructible_v<weald::greenlet<int>>);
}

TEST(a_greenlet_without_its_owner_runs_on)
{
    int ran = 0;
    {
        auto g = weald::spawn([&] {
            weald::yield();
            ran++;
        });
    }
    weald::spawn([&] { ran++; }).detach();
    weald::run();
    CHECK_EQ(ran, 2);
}

// ---- exceptions on their way to the joiner ----

TEST(get_rethrows_the_very_exception_that_left_the_body)
{
    const void *left = nullptr;
    be_quiet();
    auto g = weald::spawn([&]() -> int {
        try {
            throw oops("out");
        } catch (const oops &e) {
            left = &e;
            throw;
        }
    });
    for (int i = 0; i < 2; i++) { // as often as it is asked
        try {
            g.get();
            CHECK(!"reached");
        } catch (const oops &e) {
            CHECK_PTR(&e, left);
            CHECK_STR(e.what(), "out");
        }
    }
    CHECK(g.done());
    CHECK(!g.successful());
    g.join(); // which is no failure of the wait
}

TEST(what_is_no_std_exception_is_carried_as_well)
{
    be_quiet();
    auto g = weald::spawn([] { throw 17; });
    int caught = 0;
    try {
        g.get();
    } catch (int n) {
        caught = n;
    }
    CHECK_EQ(caught, 17);
}

TEST(the_exception_object_dies_with_the_last_who_holds_it)
{
    be_quiet();
    {
        auto g = weald::spawn([] { throw counted(9); });
        try {
            g.get();
        } catch (const counted &c) {
            CHECK_EQ(c.number, 9);
        }
        CHECK_EQ(counted::alive, 1);
    }
    CHECK_EQ(counted::alive, 0);
}

TEST(the_error_handler_and_c_code_get_a_code_and_the_text)
{
    std::string texts;
    tell(texts);
    auto own = weald::spawn([] { throw oops("of my own"); });
    auto any = weald::spawn([] { throw 1; });
    auto memory = weald::spawn([] { throw std::bad_alloc(); });
    auto system = weald::spawn([] { throw std::system_error(EMFILE, std::system_category(), "open"); });
    auto generic = weald::spawn([] { throw std::system_error(std::make_error_code(std::errc::no_such_file_or_directory)); });
    auto ours = weald::spawn([] { throw weald::error(WEALD_EBUSY, "the oven"); });
    weald::run();
    CHECK_EQ(weald_error(own.native_handle()), weald::raised);
    CHECK_EQ(weald_error(any.native_handle()), weald::raised);
    CHECK_EQ(weald_error(memory.native_handle()), WEALD_ENOMEM);
    CHECK_EQ(weald_error(system.native_handle()), WEALD_EMFILE);
    CHECK_EQ(weald_error(generic.native_handle()), WEALD_ENOENT);
    CHECK_EQ(weald_error(ours.native_handle()), WEALD_EBUSY);
    CHECK_STR(weald_error_message(own.native_handle()), "of my own");
    CHECK_CONTAINS(texts.c_str(), "of my own\n");
    CHECK_CONTAINS(texts.c_str(), "EMFILE: open: ");
    CHECK_CONTAINS(texts.c_str(), "EBUSY: the oven: ");
    CHECK_EQ(std::count(texts.begin(), texts.end(), '\n'), 6);
}

TEST(a_text_that_is_not_utf8_is_still_a_failure)
{
    be_quiet();
    auto g = weald::spawn([] { throw oops("caf\xe9"); });
    g.join();
    CHECK_EQ(weald_error(g.native_handle()), weald::raised);
    try {
        g.get();
        CHECK(!"reached");
    } catch (const oops &e) {
        CHECK_STR(e.what(), "caf\xe9");
    }
}

TEST(an_exception_that_nobody_waits_for_is_told_to_the_error_handler)
{
    std::string texts;
    tell(texts);
    weald::go([] { throw oops("alone"); });
    weald::run();
    CHECK_CONTAINS(texts.c_str(), ": alone\n");
}

TEST(a_failure_of_c_code_in_the_body_has_a_code_and_a_message)
{
    be_quiet();
    auto g = weald::spawn([] {
        weald_fail(WEALD_EPIPE, "peer gone");
        return 1;
    });
    try {
        g.get();
        CHECK(!"reached");
    } catch (const weald::closed &e) {
        CHECK_CONTAINS(e.what(), "peer gone");
    }
}

TEST(an_exception_fits_on_the_smallest_stack)
{
    be_quiet();
    weald::spawn_options how;
    how.stack_size = 16 << 10;
    auto g = weald::spawn(how, [] { throw oops("small"); });
    CHECK(throws_a<oops>([&] { g.get(); }));
}

TEST(pthread_exit_in_a_body_still_aborts_with_a_clear_message)
{
    char text[4096];
    int status = test_in_child([] { weald::spawn([] { pthread_exit(nullptr); }).join(); }, text, sizeof text);
    CHECK_CONTAINS(text, "pthread_exit");
    CHECK_CONTAINS(text, "entry function");
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGABRT);
}

TEST(the_raw_api_names_this_header_when_it_aborts)
{
    char text[4096];
    auto body = [] {
        weald_greenlet g = weald_spawn([](void *) -> void * { throw oops("raw"); }, nullptr);
        weald_join(g, WEALD_FOREVER);
    };
    int status = test_in_child(body, text, sizeof text);
    CHECK_CONTAINS(text, "weald.hpp");
    CHECK(WIFSIGNALED(status));
}

// ---- exceptions and switches ----

TEST(catch_blocks_of_several_greenlets_interleave)
{
    std::vector<weald::greenlet<std::string>> all;
    for (int i = 0; i < 20; i++)
        all.push_back(weald::spawn([i] {
            std::string text;
            try {
                try {
                    throw oops(std::to_string(i));
                } catch (const oops &) {
                    for (int turn = 0; turn <= i % 5; turn++)
                        weald::yield();
                    throw; // the same one, whatever others have caught meanwhile
                }
            } catch (const oops &e) {
                text = e.what();
                weald::sleep(1ms);
                try {
                    throw; // once more, after others have ended
                } catch (const oops &again) {
                    text += again.what();
                }
            }
            return text;
        }));
    for (int i = 0; i < 20; i++)
        CHECK_STR(all[static_cast<std::size_t>(i)].get().c_str(), (std::to_string(i) + std::to_string(i)).c_str());
    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK(std::current_exception() == nullptr);
}

TEST(uncaught_exceptions_are_counted_for_each_greenlet)
{
    struct looks_on_the_way_out {
        int &seen;
        ~looks_on_the_way_out()
        {
            weald_yield(); // the others run, each with an exception of its own in flight
            seen += std::uncaught_exceptions();
        }
    };
    int seen[3] = {0, 0, 0}, calm = 0;
    std::vector<weald::greenlet<>> all;
    for (int &mine : seen)
        all.push_back(weald::spawn([&mine] {
            try {
                looks_on_the_way_out look{mine};
                throw oops("unwinding");
            } catch (const oops &) {
                weald::yield();
                mine += 10 * std::uncaught_exceptions();
            }
        }));
    all.push_back(weald::spawn([&] {
        for (int i = 0; i < 4; i++) {
            calm += std::uncaught_exceptions();
            weald::yield();
        }
    }));
    weald::join_all(all);
    for (int n : seen)
        CHECK_EQ(n, 1);
    CHECK_EQ(calm, 0);
}

TEST(get_in_a_catch_block_keeps_what_is_being_handled)
{
    be_quiet();
    try {
        throw oops("outer");
    } catch (const oops &outer) {
        auto g = weald::spawn([] { throw oops("inner"); });
        try {
            g.get();
        } catch (const oops &inner) {
            CHECK_STR(inner.what(), "inner");
        }
        CHECK_STR(outer.what(), "outer");
        try {
            throw;
        } catch (const oops &again) {
            CHECK_STR(again.what(), "outer");
        }
    }
}

TEST(an_exception_may_pass_through_several_joiners)
{
    be_quiet();
    auto g = weald::spawn([] {
        auto inner = weald::spawn([] {
            auto innermost = weald::spawn([]() -> int { throw oops("deep"); });
            return innermost.get();
        });
        return inner.get();
    });
    CHECK(throws_a<oops>([&] { g.get(); }));
}

// ---- kill ----

TEST(kill_unwinds_the_stack_and_the_base_catches)
{
    std::string texts;
    tell(texts);
    int caught = 0;
    auto g = weald::spawn([&] {
        counted on_the_stack;
        try {
            weald::sleep(100s);
        } catch (const weald::cancelled &) {
            caught++;
            throw;
        }
    });
    weald::yield();
    CHECK_EQ(counted::alive, 1);
    g.kill();
    CHECK(g.done());
    CHECK_EQ(caught, 1);
    CHECK_EQ(counted::alive, 0);
    CHECK_EQ(thrown_by([&] { g.get(); }), WEALD_ECANCELED);
    CHECK_STR(texts.c_str(), ""); // being killed is no failure to tell of
}

TEST(a_kill_that_is_swallowed_comes_again)
{
    int waits = 0;
    auto g = weald::spawn([&] {
        for (; waits < 3; waits++)
            CHECK_EQ(thrown_by([] { weald::sleep(100s); }), WEALD_ECANCELED);
        CHECK(weald::killed());
        return 5;
    });
    weald::yield();
    g.kill();
    CHECK_EQ(waits, 3);
    CHECK_EQ(g.get(), 5); // it had the last word
}

TEST(kill_at_now_only_tells)
{
    auto g = weald::spawn([] { weald::sleep(100s); });
    weald::yield();
    g.kill(weald::now);
    CHECK(!g.done());
    CHECK(g.try_join(weald::forever));
}

TEST(one_that_is_killed_before_it_begins_never_runs)
{
    int ran = 0;
    {
        auto g = weald::spawn([&ran, c = counted()] { ran++; });
        CHECK_EQ(counted::alive, 1);
        g.kill();
        CHECK_EQ(counted::alive, 0); // though the owner is still there
        CHECK_EQ(thrown_by([&] { g.get(); }), WEALD_ECANCELED);
    }
    CHECK_EQ(ran, 0);
    CHECK_EQ(counted::alive, 0);
}

TEST(a_shield_holds_a_kill_back)
{
    bool rested = false, killed_inside = true;
    auto g = weald::spawn([&] {
        try {
            weald::sleep(100s);
        } catch (const weald::cancelled &) {
            {
                weald::shield cleanup;
                weald::sleep(1ms);
                rested = true;
                killed_inside = weald::killed();
            }
            weald::sleep(1ms); // throws again
            rested = false;
        }
    });
    weald::yield();
    g.kill();
    CHECK(rested);
    CHECK(!killed_inside);
    CHECK_EQ(thrown_by([&] { g.get(); }), WEALD_ECANCELED);
}

TEST(one_that_gets_from_a_killed_one_fails_itself)
{
    std::string texts;
    tell(texts);
    auto victim = weald::spawn([] { weald::sleep(100s); });
    auto joiner = weald::spawn([&] { victim.get(); });
    weald::yield();
    victim.kill();
    CHECK_EQ(thrown_by([&] { joiner.get(); }), WEALD_ECANCELED);
    CHECK_CONTAINS(texts.c_str(), "ECANCELED"); // nobody has killed the joiner
}

// ---- destroyed exactly once ----

TEST(function_and_arguments_die_when_the_greenlet_ends)
{
    {
        auto g = weald::spawn([c = counted(1)](counted d, const counted &e) { return c.number + d.number + e.number; },
                              counted(2), counted(3));
        CHECK_EQ(counted::alive, 3);
        g.join();
        CHECK_EQ(counted::alive, 0);
        CHECK_EQ(g.get(), 6);
    }
    CHECK_EQ(counted::alive, 0);
    CHECK_GE(counted::made, 3);
}

TEST(they_die_when_the_body_throws)
{
    be_quiet();
    auto g = weald::spawn([c = counted()] { throw oops("out"); });
    g.join();
    CHECK_EQ(counted::alive, 0);
}

TEST(they_die_when_the_spawn_fails)
{
    weald::spawn_options how;
    how.stack_size = 1; // too small
    CHECK_EQ(thrown_by([&] { weald::spawn(how, [c = counted()](counted) {}, counted()); }), WEALD_EINVAL);
    CHECK_EQ(thrown_by([&] { weald::go(how, [c = counted()](counted) {}, counted()); }), WEALD_EINVAL);
    CHECK_EQ(counted::alive, 0);
    how.stack_size = 0;
    how.name = "caf\xe9"; // not UTF-8
    CHECK_EQ(thrown_by([&] { weald::spawn(how, [c = counted()] {}); }), WEALD_EINVAL);
    CHECK_EQ(counted::alive, 0);
}

TEST(they_die_when_the_wait_for_room_in_a_pool_is_killed)
{
    weald::pool one(1);
    auto sitter = one.spawn([] { weald::sleep(100s); });
    auto spawner = weald::spawn([&] { one.spawn([c = counted()] {}); });
    weald::yield();
    CHECK_GE(counted::alive, 1);
    spawner.kill();
    CHECK_EQ(counted::alive, 0);
    sitter.kill();
}

TEST(they_die_when_the_hub_is_shut_down)
{
    weald::spawn_options later;
    later.delay = 100s;
    auto begun = weald::spawn([c = counted()] {
        counted on_the_stack;
        weald::sleep(100s);
    });
    weald::yield();
    auto ready = weald::spawn([c = counted()] {});
    auto delayed = weald::spawn(later, [c = counted()] {});
    weald::go([c = counted()] {});
    weald::go(later, [c = counted()] {});
    CHECK_EQ(counted::alive, 6);
    CHECK_EQ(weald::shutdown(), 0);
    CHECK_EQ(counted::alive, 0);
    CHECK_EQ(thrown_by([&] { begun.get(); }), WEALD_ESHUTDOWN);
}

TEST(they_die_with_a_thread_that_ends)
{
    pthread_t thread;
    auto body = [](void *) -> void * {
        weald::go([c = counted()] {});
        return nullptr; // nobody has run the loop
    };
    CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
    CHECK_EQ(pthread_join(thread, nullptr), 0);
    CHECK_GT(counted::made, 0);
    CHECK_EQ(counted::alive, 0);
}

TEST(a_value_that_nobody_gets_dies_with_the_owner)
{
    {
        auto g = weald::spawn([] { return counted(1); });
        g.join();
        CHECK_EQ(counted::alive, 1);
    }
    CHECK_EQ(counted::alive, 0);
    weald::spawn([] { return counted(2); }).detach();
    weald::run();
    CHECK_EQ(counted::alive, 0);
}

// ---- options and waiting ----

TEST(options_name_delay_and_size)
{
    weald::spawn_options how;
    how.name = "sam";
    how.delay = 20ms;
    how.stack_size = 64 << 10;
    const int64_t began = test_clock();
    auto g = weald::spawn(how, [] {
        void *low, *high;
        CHECK_EQ(weald_stack_bounds(weald_self(), &low, &high), 0);
        return static_cast<char *>(high) - static_cast<char *>(low);
    });
    char name[8];
    CHECK_EQ(weald_name(g.native_handle(), name, sizeof name), 3);
    CHECK_STR(name, "sam");
    const auto size = g.get();
    CHECK_GE(size, 64 << 10);
    CHECK_LT(size, 256 << 10);
    CHECK_GE(test_clock() - began, WEALD_MS(20));
}

TEST(options_put_it_in_a_group)
{
    weald::group herd;
    weald::spawn_options how;
    how.group = herd.native_handle();
    auto g = weald::spawn(how, [] { weald::sleep(100s); });
    CHECK(herd.contains(g));
    herd.kill();
    CHECK(g.done());
}

TEST(join_waits_until_the_deadline)
{
    auto g = weald::spawn([] { weald::sleep(100s); });
    CHECK_EQ(thrown_by([&] { g.join(weald::now); }), WEALD_EAGAIN);
    CHECK_EQ(thrown_by([&] { g.join(1ms); }), WEALD_ETIMEDOUT);
    CHECK_EQ(thrown_by([&] { g.get(1ms); }), WEALD_ETIMEDOUT);
    CHECK(!g.try_join());
    CHECK(!g.try_join(1ms));
    g.kill();
    CHECK(g.try_join());
}

TEST(joining_what_can_not_end_is_a_deadlock)
{
    weald_set_report_handler([](const char *, void *) {}, nullptr);
    weald::event never;
    auto g = weald::spawn([never] { never.wait(); });
    CHECK(throws_a<weald::deadlock>([&] { g.join(); }));
    g.kill();
}

TEST(join_all_join_any_and_kill_all_take_containers)
{
    std::vector<weald::greenlet<int>> all;
    for (int n : {30, 10, 20})
        all.push_back(weald::spawn([n] {
            weald::sleep(std::chrono::milliseconds(n));
            return n;
        }));
    CHECK_EQ(weald::join_any(all), 1);
    CHECK_EQ(thrown_by([&] { weald::join_all(all, 1ms); }), WEALD_ETIMEDOUT);
    weald::join_all(all);
    CHECK_EQ(all[0].get() + all[1].get() + all[2].get(), 60);

    std::vector<weald::any_greenlet> mixed;
    mixed.push_back(weald::spawn([] { weald::sleep(100s); }));
    mixed.push_back(weald::spawn([] {
        weald::sleep(100s);
        return 1;
    }));
    weald::yield();
    weald::kill_all(mixed);
    CHECK(mixed[0].done());
    CHECK(mixed[1].done());
}

TEST(sleep_yield_and_idle_take_turns)
{
    std::string order;
    auto idler = weald::spawn([&] {
        weald::idle();
        order += 'i';
    });
    auto first = weald::spawn([&] {
        order += 'a';
        weald::yield();
        order += 'c';
    });
    auto second = weald::spawn([&] { order += 'b'; });
    const int64_t began = test_clock();
    weald::sleep(2ms);
    CHECK_GE(test_clock() - began, WEALD_MS(2));
    idler.join();
    CHECK_STR(order.c_str(), "abci");
    weald::sleep_until(std::chrono::steady_clock::now() + 1ms);
    weald::sleep_until(weald::now);
}
