// weald.hpp: timeouts and locals.
#include <string>
#include <vector>

#include <weald.hpp>

#include "../c/test.h"
#include "counted.h"
#include "thrown.h"

using namespace std::chrono_literals;

TEST(a_timeout_bounds_every_wait_in_its_scope)
{
    weald::event never;
    {
        weald::timeout limit(2ms);
        CHECK(!limit.fired());
        CHECK(throws_a<weald::timed_out>([&] { never.wait(); }));
        CHECK(limit.fired());
        CHECK(throws_a<weald::timed_out>([] { weald::yield(); }));
        limit.cancel();
        weald::yield();
        limit.restart(1ms);
        CHECK(!limit.fired());
        CHECK(throws_a<weald::timed_out>([&] { never.wait(); }));
    }
    weald::yield(); // the scope is over, and the limit with it
}

TEST(nested_timeouts_know_whose_time_was_up)
{
    weald::timeout outer(100s);
    bool caught = false;
    try {
        weald::timeout inner(1ms);
        try {
            weald::sleep(100s);
        } catch (const weald::timed_out &) {
            CHECK(inner.fired());
            CHECK(!outer.fired());
            throw;
        }
    } catch (const weald::timed_out &) {
        caught = true;
    }
    CHECK(caught);
    weald::sleep(1ms);
}

TEST(a_timeout_takes_every_kind_of_deadline)
{
    weald::timeout never(weald::forever), far(std::chrono::hours::max());
    weald::sleep(1ms);
    weald::timeout at(std::chrono::steady_clock::now() + 100s);
    weald::sleep(1ms);
    {
        weald::timeout over(-1s);
        CHECK(throws_a<weald::timed_out>([] { weald::yield(); }));
        CHECK(over.fired());
        CHECK(!at.fired());
    }
    weald::timeout at_once(weald::now);
    CHECK(throws_a<weald::timed_out>([] { weald::yield(); }));
}

TEST(a_timeout_that_fires_in_a_greenlet_leaves_by_get)
{
    be_quiet();
    auto g = weald::spawn([] {
        weald::timeout limit(1ms);
        weald::sleep(100s);
    });
    CHECK(throws_a<weald::timed_out>([&] { g.get(); }));
    CHECK(g.done());
}

TEST(every_greenlet_has_a_local_of_its_own)
{
    weald::local<std::string> name;
    *name = "main's";
    std::vector<weald::greenlet<std::string>> all;
    for (const char *text : {"a", "b"})
        all.push_back(weald::spawn([name, text] {
            CHECK(!name.find());
            CHECK(name->empty());
            *name += text;
            weald::yield();
            *name += text;
            return *name;
        }));
    CHECK_STR(all[0].get().c_str(), "aa");
    CHECK_STR(all[1].get().c_str(), "bb");
    CHECK_STR(name.get().c_str(), "main's");
    CHECK_STR(name.set("another").c_str(), "another");
    CHECK_PTR(name.find(), &*name);
}

TEST(a_locals_value_dies_with_its_greenlet_and_with_its_key)
{
    {
        weald::local<counted> key;
        auto g = weald::spawn([key] {
            key.set(counted(1));
            key.set(counted(2));
            CHECK_EQ(counted::alive, 1);
            CHECK_EQ(key->number, 2);
            weald::sleep(100s);
        });
        auto h = weald::spawn([key] { key->number = 3; });
        h.join();
        weald::yield();
        CHECK_EQ(counted::alive, 1);
        g.kill();
        CHECK_EQ(counted::alive, 0);
        key->number = 4;
        CHECK_EQ(counted::alive, 1);
    }
    CHECK_EQ(counted::alive, 0);
    weald::local<counted> left;
    left->number = 5;
    weald::shutdown();
    CHECK_EQ(counted::alive, 0);
}

TEST(a_local_in_a_callback_would_block_and_nothing_is_lost)
{
    weald::local<counted> key;
    bool refused = false;
    auto w = weald::watcher::timer(0ms, [&] { refused = throws_a<weald::would_block>([&] { key.get(); }); });
    weald::run();
    CHECK(refused);
    CHECK_EQ(counted::alive, 0);
}
