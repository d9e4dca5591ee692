// weald.hpp: events, results, semaphores, locks, conditions, barriers, and what their handles do.
#include <memory>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <weald.hpp>

#include "../c/test.h"
#include "counted.h"
#include "thrown.h"

using namespace std::chrono_literals;

// ---- handles ----

TEST(a_copy_is_another_name_for_the_same_object)
{
    weald::event a;
    {
        weald::event b = a;
        CHECK(a == b);
        b.set();
    }
    CHECK(a.is_set());
    weald::event c;
    CHECK(a != c);
    c = a;
    CHECK(c.is_set());
}

TEST(the_object_is_closed_with_its_last_handle)
{
    auto *e = new weald::event;
    const weald_handle h = e->native_handle();
    weald::event other = *e;
    delete e;
    CHECK_EQ(weald_kind(h), WEALD_KIND_EVENT);
    other = weald::event();
    CHECK_EQ(weald_kind(h), WEALD_EBADF);
}

TEST(a_handle_that_was_moved_from_is_ebadf)
{
    weald::event a, b = std::move(a);
    CHECK_EQ(a.native_handle(), 0);
    CHECK_EQ(thrown_by([&] { a.set(); }), WEALD_EBADF);
    CHECK_EQ(thrown_by([&] { weald::event c = a; }), WEALD_EBADF);
    b.set();
    b = std::move(*&b); // itself
    CHECK(b.is_set());
}

TEST(a_greenlet_keeps_what_it_captures)
{
    int done = 0;
    {
        weald::event e;
        weald::go([e, &done] {
            e.wait();
            done++;
        });
        weald::go([e] {
            weald::sleep(1ms);
            e.set();
        });
    }
    weald::run();
    CHECK_EQ(done, 1);
}

TEST(handles_may_outlive_the_hub)
{
    static weald::event at_exit; // its destructor runs after the thread's hub has gone
    weald::queue<counted> q;
    q.put(counted(1));
    weald::mutex m;
    std::unique_lock held(m);
    at_exit.set();
    weald::shutdown();
    CHECK_EQ(counted::alive, 0);
    CHECK_EQ(thrown_by([&] { q.put(counted(2)); }), WEALD_ESHUTDOWN);
    CHECK_EQ(counted::alive, 0);
}

// ---- event ----

TEST(an_event_wakes_everybody)
{
    weald::event e;
    int woken = 0;
    std::vector<weald::greenlet<>> all;
    for (int i = 0; i < 3; i++)
        all.push_back(weald::spawn([&] {
            e.wait();
            woken++;
        }));
    weald::yield();
    CHECK_EQ(woken, 0);
    e.set();
    weald::join_all(all);
    CHECK_EQ(woken, 3);
    e.clear();
    CHECK(!e.is_set());
    CHECK(!e.try_wait());
    CHECK(!e.try_wait(1ms));
    CHECK(throws_a<weald::timed_out>([&] { e.wait(1ms); }));
}

TEST(a_wait_in_a_callback_would_block)
{
    weald::event e;
    bool refused = false;
    auto w = weald::watcher::timer(0ms, [&] { refused = throws_a<weald::would_block>([&] { e.wait(); }); });
    weald::run();
    CHECK(refused);
}

// ---- result ----

TEST(a_result_is_read_by_many_and_set_once)
{
    weald::result<std::string> r;
    std::vector<weald::greenlet<std::string>> all;
    for (int i = 0; i < 3; i++)
        all.push_back(weald::spawn([r] { return r.get(); }));
    weald::yield();
    CHECK(!r.ready());
    CHECK(!r.try_wait(1ms));
    CHECK(throws_a<weald::not_ready>([&] { r.get(weald::now); }));
    r.set("a text that is too long to lie in its object");
    for (auto &g : all)
        CHECK_STR(g.get().c_str(), "a text that is too long to lie in its object");
    CHECK_EQ(thrown_by([&] { r.set("again"); }), WEALD_EALREADY);
    CHECK_PTR(&r.get(), &r.get());
    r.wait();
}

TEST(a_result_carries_the_very_exception)
{
    weald::result<int> r;
    auto e = std::make_exception_ptr(std::runtime_error("spoilt"));
    r.fail(e);
    for (int i = 0; i < 2; i++) {
        try {
            r.get();
            CHECK(!"reached");
        } catch (const std::runtime_error &) {
            CHECK(std::current_exception() == e);
        }
    }
    r.wait(); // which is no failure of the wait
}

TEST(results_of_void_and_of_references)
{
    weald::result<> done;
    done.set();
    done.get();
    int here = 1;
    weald::result<int &> where;
    where.set(here);
    where.get() = 2;
    CHECK_EQ(here, 2);
}

TEST(a_results_value_dies_once)
{
    {
        weald::result<counted> r;
        r.set(1);
        CHECK_EQ(thrown_by([&] { r.set(2); }), WEALD_EALREADY);
        CHECK_EQ(counted::alive, 1);
        CHECK_EQ(r.get().number, 1);
    }
    CHECK_EQ(counted::alive, 0);
}

// ---- semaphore ----

TEST(a_semaphore_hands_its_permits_on)
{
    weald::semaphore s(2);
    s.acquire();
    s.acquire();
    CHECK(!s.try_acquire());
    CHECK(!s.try_acquire(1ms));
    CHECK(throws_a<weald::timed_out>([&] { s.acquire(1ms); }));
    auto g = weald::spawn([s] { s.acquire(); });
    weald::yield();
    s.release();
    g.join();
    CHECK_EQ(s.count(), 0);
    s.release();
    CHECK_EQ(s.count(), 1);
}

TEST(a_bounded_semaphore_notices_a_release_too_many)
{
    weald::bounded_semaphore s(1);
    CHECK_EQ(thrown_by([&] { s.release(); }), WEALD_EOVERFLOW);
    CHECK(s.try_acquire());
    s.release();
}

// ---- locks ----

TEST(a_mutex_goes_with_the_standard_guards)
{
    weald::mutex m, n;
    std::string order;
    auto work = [&](char c) {
        std::lock_guard hold(m);
        order += c;
        weald::yield(); // the others wait for the lock meanwhile
        order += c;
    };
    auto a = weald::spawn(work, 'a'), b = weald::spawn(work, 'b');
    a.join();
    b.join();
    CHECK_STR(order.c_str(), "aabb");
    {
        std::scoped_lock both(m, n);
        CHECK(m.held());
        CHECK(n.held());
    }
    CHECK(!m.held());
    std::unique_lock late(m, std::defer_lock);
    CHECK(late.try_lock_for(1ms));
    late.unlock();
    CHECK(late.try_lock_until(std::chrono::steady_clock::now() + 1ms));
}

TEST(a_mutex_is_released_when_an_exception_or_a_kill_unwinds)
{
    be_quiet();
    weald::mutex m;
    auto thrower = weald::spawn([m] {
        std::lock_guard hold(m);
        weald::sleep(1ms);
        throw std::runtime_error("out");
    });
    auto victim = weald::spawn([m] {
        std::lock_guard hold(m);
        weald::sleep(100s);
    });
    thrower.join();
    weald::yield();
    CHECK(m.held());
    CHECK(!m.try_lock());
    CHECK(!m.try_lock(1ms));
    victim.kill();
    CHECK(m.try_lock());
    CHECK(throws_a<weald::deadlock>([&] { m.lock(); })); // held by ourselves
    CHECK(!m.try_lock());
    m.unlock();
    CHECK_EQ(thrown_by([&] { m.unlock(); }), WEALD_EPERM);
}

TEST(a_guard_of_a_lock_that_was_lost_does_not_end_the_program)
{
    weald::mutex m;
    bool caught = false;
    try {
        std::lock_guard hold(m);
        m.unlock(); // as a wait that has lost its lock would
        throw 1;
    } catch (int) {
        caught = true;
    }
    CHECK(caught);
}

TEST(a_recursive_mutex_is_locked_again_by_its_owner)
{
    weald::recursive_mutex m;
    std::unique_lock outer(m);
    {
        std::unique_lock inner(m);
    }
    auto other = weald::spawn([m] { return m.try_lock(); });
    CHECK(!other.get());
    outer.unlock();
    CHECK(!m.held());
}

TEST(a_shared_mutex_has_many_readers_or_one_writer)
{
    weald::shared_mutex m;
    int readers = 0, most = 0;
    std::vector<weald::greenlet<>> all;
    for (int i = 0; i < 3; i++)
        all.push_back(weald::spawn([&] {
            std::shared_lock hold(m);
            most = ++readers > most ? readers : most;
            weald::sleep(1ms);
            readers--;
        }));
    all.push_back(weald::spawn([&] {
        std::unique_lock hold(m);
        CHECK_EQ(readers, 0);
        most += 10;
    }));
    weald::join_all(all);
    CHECK_EQ(most, 13);
    std::unique_lock writer(m);
    auto reader = weald::spawn([m] {
        std::shared_lock hold(m, std::defer_lock);
        CHECK(!hold.try_lock());
        CHECK(!hold.try_lock_until(std::chrono::steady_clock::now() + 1ms));
        return hold.try_lock_for(1ms);
    });
    CHECK(!reader.get());
    CHECK(throws_a<weald::deadlock>([&] { m.lock_shared(1ms); }));
    writer.unlock();
    CHECK(writer.try_lock_for(1ms));
}

// ---- conditions and barriers ----

TEST(a_condition_lets_the_lock_go_and_takes_it_again)
{
    weald::mutex m;
    weald::condition c;
    std::vector<int> box;
    auto getter = weald::spawn([&] {
        std::unique_lock held(m);
        c.wait(held, [&] { return !box.empty(); });
        CHECK(m.held());
        return box.back();
    });
    weald::yield();
    {
        std::lock_guard hold(m);
        CHECK_EQ(c.notify_one(), 1); // for nothing: it looks, and waits on
    }
    weald::yield();
    {
        std::lock_guard hold(m);
        box.push_back(4);
        CHECK_EQ(c.notify_all(), 1);
    }
    CHECK_EQ(getter.get(), 4);
    CHECK_EQ(c.notify_one(), 0);
}

TEST(a_condition_gives_up_at_the_deadline_and_holds_the_lock)
{
    weald::mutex m;
    weald::condition c;
    std::unique_lock held(m);
    CHECK(throws_a<weald::timed_out>([&] { c.wait(held, 1ms); }));
    CHECK(throws_a<weald::timed_out>([&] { c.wait(held, [] { return false; }, 1ms); }));
    CHECK(!c.try_wait(held, 1ms));
    CHECK(!c.try_wait(held, [] { return false; }, 1ms));
    CHECK(c.try_wait(held, [] { return true; }, 1ms));
    CHECK(m.held());
    held.unlock();
    CHECK_EQ(thrown_by([&] {
                 std::unique_lock other(m, std::defer_lock);
                 c.wait(other);
             }),
             WEALD_EPERM);
}

TEST(a_kill_in_a_condition_unlocks_on_the_way_out)
{
    weald::recursive_mutex m;
    weald::condition c;
    auto g = weald::spawn([&] {
        std::unique_lock held(m);
        c.wait(held);
    });
    weald::yield();
    g.kill();
    CHECK(!m.held());
}

TEST(a_barrier_tells_the_last)
{
    weald::barrier b(3);
    int last = 0;
    std::vector<weald::greenlet<>> all;
    for (int i = 0; i < 3; i++)
        all.push_back(weald::spawn([&] { last += b.wait(); }));
    weald::join_all(all);
    CHECK_EQ(last, 1);
    CHECK(throws_a<weald::timed_out>([&] { b.wait(1ms); })); // which breaks it
    CHECK(throws_a<weald::closed>([&] { b.wait(); }));
    b.reset();
    CHECK(throws_a<weald::not_ready>([&] { b.wait(weald::now); }));
    b.reset();
    b.abort();
    CHECK(throws_a<weald::closed>([&] { b.wait(); }));
}
