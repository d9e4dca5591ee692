// weald.hpp: run and stop, watchers, signals, descriptors, waiting for several things.
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <weald.hpp>

#include "../c/test.h"
#include "counted.h"
#include "thrown.h"

using namespace std::chrono_literals;

namespace {

struct pipe_ends {
    int ends[2];
    pipe_ends() { CHECK_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0); }
    ~pipe_ends()
    {
        close(ends[0]);
        close(ends[1]);
    }
    int in() const { return ends[0]; }
    int out() const { return ends[1]; }
    void fill() const
    {
        const char zeros[4096] = {};
        while (write(out(), zeros, sizeof zeros) > 0)
            ;
    }
    void poke() const { CHECK_EQ(write(out(), "x", 1), 1); }
};

} // namespace

// ---- run ----

TEST(run_ends_with_the_last_greenlet_or_by_stop_or_at_the_deadline)
{
    int ran = 0;
    weald::go([&] {
        weald::sleep(1ms);
        ran++;
    });
    weald::run();
    CHECK_EQ(ran, 1);
    auto sleeper = weald::spawn([] { weald::sleep(100s); });
    CHECK(throws_a<weald::timed_out>([] { weald::run(1ms); }));
    weald::go([] { weald::stop(); });
    weald::run();
    CHECK(!sleeper.done());
    CHECK(weald::run_once(false));
    sleeper.kill();
    weald::run_once();
    CHECK(!weald::run_once(false));
    auto g = weald::spawn([] { weald::run(); });
    be_quiet();
    CHECK_EQ(thrown_by([&] { g.get(); }), WEALD_EPERM); // from main only
}

// ---- watchers ----

TEST(a_timer_calls_back_once_or_again_and_again)
{
    int once = 0, often = 0;
    auto single = weald::watcher::timer(1ms, [&] { once++; });
    auto repeated = weald::watcher::timer(1ms, 1ms, [&, c = counted()](int what) {
        CHECK_EQ(what, 0);
        if (++often == 3)
            weald::stop();
    });
    weald::run();
    CHECK_EQ(once, 1);
    CHECK_EQ(often, 3);
    CHECK(!single.active());
    CHECK(repeated.active());
    repeated.stop();
    CHECK(!repeated.active());
    weald::run(); // nothing is left
    repeated.start();
    repeated.again();
    repeated.unref();
    weald::run(); // it does not keep the loop
    repeated.ref();
    CHECK(throws_a<weald::timed_out>([] { weald::run(2ms); }));
}

TEST(a_watcher_may_end_in_its_own_callback)
{
    std::unique_ptr<weald::watcher> w;
    int calls = 0;
    w = std::make_unique<weald::watcher>(weald::watcher::timer(1ms, 1ms, [&, c = counted(5)] {
        w.reset();
        CHECK_EQ(c.number, 5); // what runs is still there
        calls++;
    }));
    CHECK_EQ(counted::alive, 1);
    weald::run();
    CHECK_EQ(calls, 1);
    CHECK_EQ(counted::alive, 0);
}

TEST(a_watcher_is_moved_and_dies_once)
{
    int first = 0, second = 0;
    auto a = weald::watcher::timer(1ms, [&, c = counted()] { first++; });
    auto b = weald::watcher::timer(1ms, [&, c = counted()] { second++; });
    a = std::move(b);
    CHECK_EQ(counted::alive, 1);
    weald::run();
    CHECK_EQ(first, 0);
    CHECK_EQ(second, 1);
    static_assert(!std::is_copy_constructible_v<weald::watcher>);
}

TEST(a_watcher_that_can_not_be_made_leaves_nothing)
{
    CHECK_EQ(thrown_by([] { weald::watcher::timer(0ms, -1ms, [c = counted()] {}); }), WEALD_EINVAL);
    CHECK_EQ(thrown_by([] { weald::watcher::io(1000000, WEALD_READ, [c = counted()] {}); }), WEALD_EBADF);
    CHECK_EQ(counted::alive, 0);
}

TEST(an_exception_that_leaves_a_callback_is_told_to_the_error_handler)
{
    std::string texts;
    tell(texts);
    int calls = 0;
    weald::watcher w = weald::watcher::timer(1ms, 1ms, [&] {
        if (++calls == 3)
            w.stop();
        throw std::runtime_error("call " + std::to_string(calls));
    });
    weald::run();
    CHECK_EQ(calls, 3);
    CHECK_CONTAINS(texts.c_str(), ": call 1\n");
    CHECK_CONTAINS(texts.c_str(), ": call 3\n");
    CHECK_EQ(std::uncaught_exceptions(), 0);
}

TEST(signals_are_watched_and_waited_for)
{
    int caught = 0;
    auto w = weald::watcher::signal(SIGUSR1, [&](int signo) {
        caught = signo;
        weald::stop();
    });
    raise(SIGUSR1);
    weald::run();
    CHECK_EQ(caught, SIGUSR1);

    CHECK(throws_a<weald::not_ready>([] { weald::wait_signal({SIGUSR2, SIGHUP}, weald::now); }));
    auto g = weald::spawn([] { return weald::wait_signal({SIGUSR2, SIGHUP}); });
    weald::yield();
    raise(SIGHUP);
    CHECK_EQ(g.get(), SIGHUP);
    weald::ignore_signals({SIGUSR2, SIGHUP});
}

TEST(every_kind_of_watcher_calls_back)
{
    std::string order;
    const auto note = [&](char c) {
        return [&order, c] {
            if (order.find(c) == std::string::npos)
                order += c;
        };
    };
    pipe_ends p;
    p.poke();
    char path[] = "/tmp/weald-hpp-XXXXXX";
    const int file = mkstemp(path);
    CHECK(file >= 0);
    const pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    int status = -1;
    {
        auto io = weald::watcher::io(p.in(), WEALD_READ, [&](int what) {
            char byte; // left there, it would come again in every turn, and the loop would never be idle
            CHECK_EQ(what, WEALD_READ);
            CHECK_EQ(read(p.in(), &byte, 1), 1);
            note('r')();
        });
        auto async = weald::watcher::async(note('a'));
        auto idle = weald::watcher::idle(note('i'));
        auto prepare = weald::watcher::prepare(note('p'));
        auto check = weald::watcher::check(note('c'));
        auto stat = weald::watcher::stat(path, 1ms, note('s'));
        auto child = weald::watcher::child(pid, [&](int what) {
            status = what;
            note('d')();
        });
        check.set_priority(1);
        async.send();
        CHECK_EQ(write(file, "x", 1), 1);
        for (int i = 0; i < 5000 && order.size() < 7; i++)
            weald::sleep(1ms);
    }
    for (char c : {'r', 'a', 'i', 'p', 'c', 's', 'd'})
        CHECK(order.find(c) != std::string::npos);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 7);
    close(file);
    unlink(path);
}

// ---- descriptors ----

TEST(descriptors_are_waited_for)
{
    pipe_ends p, full;
    full.fill();
    CHECK(!weald::try_wait_read(p.in()));
    CHECK(!weald::try_wait_read(p.in(), 1ms));
    CHECK(throws_a<weald::timed_out>([&] { weald::wait_read(p.in(), 1ms); }));
    CHECK(throws_a<weald::timed_out>([&] { weald::wait_write(full.out(), 1ms); }));
    CHECK(!weald::try_wait_write(full.out()));
    CHECK(weald::try_wait_write(p.out()));
    auto g = weald::spawn([&] { weald::wait_read(p.in()); });
    weald::yield();
    p.poke();
    g.get();
    CHECK_EQ(weald::wait_fd(p.in(), WEALD_READ), WEALD_READ);
    CHECK_EQ(thrown_by([] { weald::wait_read(-1); }), WEALD_EBADF);
}

TEST(cancel_wait_throws_cancelled_into_those_who_wait)
{
    pipe_ends p;
    bool caught = false;
    auto g = weald::spawn([&] {
        caught = throws_a<weald::cancelled>([&] { weald::wait_read(p.in()); });
        weald::yield(); // it was not killed
    });
    weald::yield();
    weald::cancel_wait(p.in());
    g.get();
    CHECK(caught);
}

// ---- several things ----

TEST(wait_any_tells_the_first_that_is_ready)
{
    weald::event e;
    weald::queue<int> q;
    weald::result<> r;
    weald::semaphore s(0);
    weald::mutex m;
    pipe_ends p;
    auto sleeper = weald::spawn([] { weald::sleep(100s); });
    m.lock();
    const std::vector<weald::waitable> all{e, q, r, s, m, sleeper, weald::readable(p.in()), weald::writable(p.out())};
    const std::vector<weald::waitable> quiet(all.begin(), all.end() - 1);
    CHECK(throws_a<weald::timed_out>([&] { weald::wait_any(quiet, 1ms); }));
    CHECK_EQ(weald::wait_any(all), 7);
    p.poke();
    CHECK_EQ(weald::wait_any(all), 6);
    sleeper.kill();
    CHECK_EQ(weald::wait_any(all), 5);
    m.unlock();
    CHECK_EQ(weald::wait_any(all), 4);
    s.release();
    CHECK_EQ(weald::wait_any(all), 3);
    r.set();
    CHECK_EQ(weald::wait_any(all), 2);
    q.put(1);
    CHECK_EQ(weald::wait_any(all), 1);
    CHECK_EQ(*q.try_get(), 1);
    weald::go([e] { e.set(); });
    CHECK_EQ(weald::wait_any({q, e}), 1);
    CHECK_EQ(weald::wait_any(all), 0);
}

TEST(wait_all_waits_for_every_one)
{
    weald::event e;
    weald::queue<int> q;
    CHECK(throws_a<weald::not_ready>([&] { weald::wait_all({e, q}, weald::now); }));
    weald::go([e, q] {
        e.set();
        weald::yield();
        q.put(1);
    });
    weald::wait_all({e, q}, 10s);
    CHECK(e.is_set());
    CHECK_EQ(q.size(), 1);
    weald::barrier b(1);
    CHECK_EQ(thrown_by([&] { weald::wait_any({b}); }), WEALD_EBADF); // nothing to wait for in this way
}
