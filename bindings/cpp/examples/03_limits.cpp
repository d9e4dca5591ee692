/* 03_limits: a time limit for a scope, a kill that unwinds, cleanup that may wait.
 *
 * Whatever ends a wait is an exception, so destructors put things in order on the way out, as ever. A limit knows
 * whether it was the one whose time was up. A destructor that waits itself does so behind a shield.
 *
 * Build:  c++ -std=c++17 03_limits.cpp $(pkg-config --cflags --libs weald) -o 03_limits
 * Prints:
 *   alice has the ladder
 *   alice: too slow, weald_sleep: the deadline has passed
 *   alice puts the ladder away
 *   bob has the ladder
 *   bob puts the ladder away
 *   bob: weald_sleep: cancelled: the greenlet was killed or the wait called off
 *   the ladder is free
 */
#include <chrono>
#include <iostream>
#include <mutex>
#include <string>

#include <weald.hpp>

using namespace std::chrono_literals;

// Holds the ladder for a scope, and needs some time to put it away.
class climb {
public:
    climb(const weald::mutex &ladder, std::string who) : hold_(ladder), who_(std::move(who))
    {
        std::cout << who_ << " has the ladder\n";
    }

    ~climb()
    {
        try {
            weald::shield killed_or_not;
            weald::sleep(5ms);
            std::cout << who_ << " puts the ladder away\n";
        } catch (const weald::error &e) {
            std::cout << who_ << " drops it: " << e.what() << '\n'; // a surrounding timeout would come here
        }
    }

    climb(const climb &) = delete;
    climb &operator=(const climb &) = delete;

private:
    std::lock_guard<const weald::mutex> hold_;
    std::string who_;
};

static void work(const weald::mutex &ladder, const std::string &who)
{
    climb up(ladder, who);
    weald::timeout limit(20ms);
    try {
        weald::sleep(10s);
    } catch (const weald::timed_out &e) {
        if (!limit.fired())
            throw; // somebody else's limit
        std::cout << who << ": too slow, " << e.what() << '\n';
    }
}

int main()
{
    const weald::mutex ladder;
    auto alice = weald::spawn([&] { work(ladder, "alice"); });
    auto bob = weald::spawn([&] { work(ladder, "bob"); });

    alice.get();
    weald::sleep(1ms); // bob climbs
    bob.kill();        // waits until he has put the ladder away
    try {
        bob.get();
    } catch (const weald::cancelled &e) {
        std::cout << "bob: " << e.what() << '\n';
    }
    std::cout << "the ladder is " << (ladder.held() ? "gone" : "free") << '\n';
}
