// weald.hpp: groups, pools and map.
#include <list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <weald.hpp>

#include "../c/test.h"
#include "counted.h"
#include "thrown.h"

using namespace std::chrono_literals;

TEST(a_group_joins_and_kills_its_members)
{
    weald::group herd;
    int ended = 0;
    auto quick = herd.spawn([&] { ended++; });
    auto slow = herd.spawn([&](int n) { weald::sleep(2ms); return ended += n; }, 10);
    herd.go([&] { ended += 100; });
    CHECK_EQ(herd.size(), 3);
    CHECK(herd.contains(slow));
    CHECK(!herd.try_join());
    CHECK(throws_a<weald::timed_out>([&] { herd.join(0ms); }));
    herd.join();
    CHECK_EQ(ended, 111);
    CHECK_EQ(slow.get(), 111);
    CHECK(herd.try_join());

    weald::spawn_options how;
    how.name = "sleeper";
    auto sleeper = herd.spawn(how, [] { weald::sleep(100s); });
    herd.go(how, [] { weald::sleep(100s); });
    auto guest = weald::spawn([] { weald::sleep(100s); });
    herd.add(guest);
    CHECK_EQ(herd.size(), 3);
    weald::yield();
    herd.kill();
    CHECK_EQ(herd.size(), 0);
    CHECK(guest.done());
    CHECK(sleeper.done());
}

TEST(a_pool_makes_spawn_wait_for_room)
{
    weald::pool two(2);
    int running = 0, most = 0;
    std::vector<weald::greenlet<>> all;
    for (int i = 0; i < 6; i++)
        all.push_back(two.spawn([&] {
            most = ++running > most ? running : most;
            weald::sleep(1ms);
            running--;
        }));
    CHECK_LE(two.free_count(), 1);
    two.join();
    CHECK_EQ(most, 2);
    CHECK_EQ(two.free_count(), 2);
}

TEST(try_spawn_says_no_and_destroys_what_it_was_given)
{
    weald::pool one(1);
    auto first = one.try_spawn([c = counted()] { weald::sleep(100s); });
    CHECK(first);
    CHECK(!one.try_spawn([c = counted()] {}));
    CHECK_EQ(counted::alive, 1);
    CHECK(throws_a<weald::timed_out>([&] { one.wait_available(1ms); }));
    first->kill();
    one.wait_available();
    CHECK_EQ(counted::alive, 0);
    CHECK_EQ(one.try_spawn([](int n) { return n; }, 4)->get(), 4);
}

TEST(map_returns_values_in_the_order_of_the_items)
{
    const std::list<int> items{3, 1, 2};
    weald::pool two(2);
    const auto slow_square = [](int n) {
        weald::sleep(std::chrono::milliseconds(n));
        return n * n;
    };
    const auto squares = two.map(items, slow_square);
    CHECK(squares == (std::vector<int>{9, 1, 4}));
    const int array[] = {5, 6};
    CHECK(weald::group().map(array, slow_square) == (std::vector<int>{25, 36}));
    CHECK(weald::group().map(std::vector<int>(), slow_square).empty());
}

TEST(map_takes_what_can_only_be_moved)
{
    std::vector<std::unique_ptr<int>> items;
    for (int n : {1, 2})
        items.push_back(std::make_unique<int>(n));
    auto doubled = weald::group().map(std::move(items), [](std::unique_ptr<int> &p) {
        *p *= 2;
        return std::move(p);
    });
    CHECK_EQ(*doubled[0] + *doubled[1], 6);
}

TEST(map_of_a_function_without_a_value)
{
    int sum = 0;
    weald::group().map(std::vector<int>{1, 2, 3}, [&](int n) { sum += n; });
    CHECK_EQ(sum, 6);
}

TEST(map_throws_the_first_exception_in_the_order_of_items_when_all_have_ended)
{
    be_quiet();
    int ended = 0;
    std::string caught;
    try {
        weald::group().map(std::vector<int>{4, 3, 2, 1}, [&](int n) {
            weald::sleep(std::chrono::milliseconds(n));
            ended++;
            if (n == 3 || n == 1) // the 1 is sooner
                throw std::runtime_error(std::to_string(n));
            return n;
        });
    } catch (const std::runtime_error &e) {
        caught = e.what();
    }
    CHECK_STR(caught.c_str(), "3");
    CHECK_EQ(ended, 4);
}

TEST(map_that_is_killed_or_late_kills_its_greenlets)
{
    weald::pool two(2);
    const auto sleeper = [c = counted()](int) { weald::sleep(100s); };
    auto g = weald::spawn([&] { two.map(std::vector<int>{1, 2, 3}, sleeper); }); // waits for room
    weald::yield();
    g.kill();
    two.join();
    CHECK(throws_a<weald::timed_out>([&] { two.map(std::vector<int>{1, 2}, sleeper, 1ms); }));
    CHECK(throws_a<weald::timed_out>([&] { two.map(std::vector<int>{1, 2, 3}, sleeper, 1ms); }));
    two.join();
    CHECK_EQ(counted::alive, 1); // ours
}
