// weald.hpp: offload, thread pools, workers, posts.
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <semaphore.h>
#include <weald.hpp>

#include "../c/test.h"
#include "counted.h"
#include "thrown.h"

using namespace std::chrono_literals;

namespace {

struct oops : std::runtime_error {
    using runtime_error::runtime_error;
};

// Something for a job to wait at, out of the hub's sight.
struct gate {
    sem_t sem;
    gate() { sem_init(&sem, 0, 0); }
    ~gate() { sem_destroy(&sem); }
    void open() { sem_post(&sem); }
    void pass()
    {
        while (sem_wait(&sem) != 0)
            ;
    }
};

// Waits for what another thread does in its own time.
template <class F> void eventually(F ready)
{
    for (int i = 0; i < 5000 && !ready(); i++)
        weald::sleep(1ms);
    CHECK(ready());
}

} // namespace

// ---- offload ----

TEST(offload_runs_in_another_thread_and_returns_the_value)
{
    const auto here = std::this_thread::get_id();
    int turns = 0;
    auto ticker = weald::spawn([&] {
        for (;; turns++)
            weald::yield();
    });
    const auto there = weald::offload([] {
        std::this_thread::sleep_for(2ms);
        return std::this_thread::get_id();
    });
    ticker.kill();
    CHECK(here != there);
    CHECK_GT(turns, 0);
    CHECK_EQ(*weald::offload([](std::unique_ptr<int> p) { return p; }, std::make_unique<int>(6)), 6);
    int out = 0;
    weald::offload([](int &to) { to = 7; }, std::ref(out));
    CHECK_EQ(out, 7);
    int &same = weald::offload([&]() -> int & { return out; });
    CHECK_PTR(&same, &out);
}

TEST(offload_throws_the_very_exception)
{
    const void *left = nullptr;
    try {
        weald::offload([&] {
            try {
                throw oops("in the thread");
            } catch (const oops &e) {
                left = &e;
                throw;
            }
        });
        CHECK(!"reached");
    } catch (const oops &e) {
        CHECK_PTR(&e, left);
        CHECK_STR(e.what(), "in the thread");
    }
}

TEST(a_failure_of_c_code_in_a_job_has_a_code_and_a_message)
{
    try {
        weald::offload([] { weald_fail(WEALD_EBUSY, "the printer"); });
        CHECK(!"reached");
    } catch (const weald::error &e) {
        CHECK_EQ(e.code().value(), WEALD_EBUSY);
        CHECK_CONTAINS(e.what(), "the printer");
    }
}

TEST(what_a_job_was_given_dies_when_it_has_run)
{
    CHECK_EQ(weald::offload([c = counted(1)](const counted &d) { return c.number + d.number; }, counted(2)), 3);
    CHECK_EQ(counted::alive, 0);
    CHECK(throws_a<oops>([] { weald::offload([c = counted()] { throw oops("out"); }); }));
    CHECK_EQ(counted::alive, 0);
}

TEST(offload_at_now_or_when_killed_does_not_begin)
{
    int ran = 0;
    CHECK(throws_a<weald::not_ready>([&] { weald::offload(weald::now, [&, c = counted()] { ran++; }); }));
    auto g = weald::spawn([&] { weald::offload([&, c = counted()] { ran++; }); });
    g.kill(weald::now);
    g.join();
    auto h = weald::spawn([&] {
        CHECK(throws_a<weald::cancelled>([] { weald::sleep(100s); }));
        CHECK(throws_a<weald::cancelled>([&] { weald::offload([&, c = counted()] { ran++; }); }));
    });
    weald::yield();
    h.kill();
    CHECK_EQ(ran, 0);
    CHECK_EQ(counted::alive, 0);
}

TEST(a_job_that_has_not_begun_never_runs_and_one_that_runs_goes_on)
{
    weald::thread_pool one(1);
    gate begun, open;
    std::atomic<int> ran{0};
    auto running = weald::spawn([&] {
        one.offload([&, c = counted()] {
            begun.open();
            open.pass();
            ran++;
        });
    });
    weald::yield();
    begun.pass();
    CHECK(throws_a<weald::timed_out>([&] { one.offload(1ms, [&, c = counted()] { ran += 10; }); }));
    auto waiting = weald::spawn([&] { one.offload([&, c = counted()] { ran += 10; }); });
    weald::yield();
    waiting.kill();
    CHECK_EQ(counted::alive, 2); // the one in the thread, and what it was moved from
    running.kill();
    CHECK_EQ(counted::alive, 1);
    open.open();
    one.shutdown();
    CHECK_EQ(ran, 1);
    CHECK_EQ(counted::alive, 0);
    CHECK(throws_a<weald::closed>([&] { one.offload([c = counted()] {}); }));
    CHECK_EQ(counted::alive, 0);
}

TEST(a_shutdown_cancels_jobs_that_wait)
{
    weald::thread_pool one(1);
    gate begun, open;
    auto running = weald::spawn([&] {
        one.offload([&] {
            begun.open();
            open.pass();
        });
    });
    auto waiting = weald::spawn([&] { one.offload([c = counted()] {}); });
    weald::yield();
    begun.pass();
    CHECK_EQ(one.size(), 1);
    auto ending = weald::spawn([&] { one.shutdown(); });
    CHECK(throws_a<weald::cancelled>([&] { waiting.get(); }));
    CHECK_EQ(counted::alive, 0);
    open.open();
    running.get();
    ending.get();
    CHECK(throws_a<weald::closed>([&] { one.offload([] {}); }));
}

TEST(many_offloads_that_time_out_lose_nothing)
{
    weald::thread_pool two(2);
    {
        std::vector<weald::greenlet<>> all;
        for (long i = 0; i < test_rounds(400); i++)
            all.push_back(weald::spawn([&two, i] {
                try {
                    two.offload(std::chrono::microseconds(i % 7 * 50), [c = counted()] { std::this_thread::yield(); });
                } catch (const weald::timed_out &) {
                }
            }));
        for (auto &g : all)
            g.get();
    }
    two.shutdown();
    CHECK_EQ(counted::alive, 0);
}

// ---- workers and posts ----

TEST(workers_run_greenlets_that_are_sent_to_them)
{
    weald::workers two(2);
    weald::queue<counted> sums(weald::unbounded, weald::shared);
    for (int i = 0; i < 10; i++)
        two.go([sums, i](const counted &c) {
            weald::sleep(1ms);
            sums.put(counted(i + c.number));
        }, counted(1));
    int sum = 0;
    for (int i = 0; i < 10; i++)
        sum += sums.get().number;
    CHECK_EQ(sum, 55);
    two.join();
    CHECK(throws_a<weald::closed>([&] { two.go([c = counted()] {}); }));
    CHECK_EQ(counted::alive, 0);
}

TEST(what_a_sent_greenlet_throws_goes_to_the_workers_error_handler)
{
    static std::string texts;
    weald::workers one(1);
    one.go([] { tell(texts); });
    one.go([c = counted()] { throw oops("far away"); });
    one.join();
    CHECK_CONTAINS(texts.c_str(), ": far away\n");
    CHECK_EQ(counted::alive, 0);
}

TEST(a_post_from_another_thread_runs_in_the_loop)
{
    weald::hub here;
    weald::event posted;
    const auto loop = std::this_thread::get_id();
    bool same = false;
    std::thread poster([here, &posted, &same, loop] {
        auto owner = std::make_unique<int>(1);
        here.post([&posted, &same, loop, owner = std::move(owner), c = counted()] {
            same = std::this_thread::get_id() == loop && *owner == 1;
            posted.set();
        });
    });
    posted.wait();
    poster.join();
    CHECK(same);
    eventually([] { return counted::alive == 0; });
}

TEST(an_exception_that_leaves_a_post_is_told_to_the_error_handler)
{
    std::string texts;
    tell(texts);
    {
        weald::hub here;
        here.post([] { throw oops("from a post"); });
    }
    weald::run();
    CHECK_CONTAINS(texts.c_str(), ": from a post\n");
}

TEST(a_post_to_a_hub_that_has_ended_fails_and_dies)
{
    weald::result<weald::hub> handed(weald::shared);
    std::thread other([handed] { handed.set(); });
    other.join();
    CHECK_EQ(thrown_by([&] { handed.get().post([c = counted()] {}); }), WEALD_ESHUTDOWN);
    CHECK_EQ(counted::alive, 0);
}
