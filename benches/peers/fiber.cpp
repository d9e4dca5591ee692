// Boost.Fiber (libboost-fiber-dev): one thread, default round-robin scheduler. It waits
// for no descriptors, so it has no row of those.
#include "../bench.h"
#include <boost/fiber/all.hpp>
#include <boost/fiber/pooled_fixedsize_stack.hpp>
#include <chrono>
#include <vector>
namespace bf = boost::fibers;
using fibers = std::vector<bf::fiber>;

static void join_all(fibers &all)
{
    for (auto &f : all)
        f.join();
}

static void yields(const long *n)
{
    long share = n[1] / n[0], started = 0;
    bool opened = false;
    fibers all;
    for (long i = 0; i < n[0]; i++)
        all.emplace_back(bf::launch::post, [&] {
            started++;
            while (!opened)
                boost::this_fiber::yield();
            for (long k = 0; k < share; k++)
                boost::this_fiber::yield();
        });
    while (started < n[0])
        boost::this_fiber::yield();
    opened = true;
    double t0 = cpu_ns();
    join_all(all);
    report_ns("ns", t0, (double)share * n[0]);
}

// Pooled stacks: the default allocator maps and unmaps one for each fiber.
static void spawn(const long *n)
{
    bf::pooled_fixedsize_stack stacks(131072, 1024);
    fibers all(n[0]);
    double t0 = 0;
    for (long round = -1; round < n[1]; round++) {
        if (round == 0)
            t0 = cpu_ns();
        for (auto &f : all)
            f = bf::fiber(bf::launch::post, std::allocator_arg, stacks, [] {});
        join_all(all);
    }
    report_ns("ns", t0, (double)n[0] * n[1]);
}

struct gate {
    bf::mutex guard;
    bf::condition_variable changed;
    bool open = false;
    void wait()
    {
        std::unique_lock<bf::mutex> lock(guard);
        changed.wait(lock, [this] { return open; });
    }
    void release()
    {
        open = true;
        changed.notify_all();
    }
};

static void spawn_parked(fibers &all, long n, gate &g)
{
    long alive = 0;
    for (long i = 0; i < n; i++)
        all.emplace_back(bf::launch::post, [&] {
            alive++;
            g.wait();
        });
    while (alive < n)
        boost::this_fiber::yield();
}

static void park(const long *n)
{
    gate g;
    fibers all;
    all.reserve(n[0]);
    memset((void *)all.data(), 1, n[0] * sizeof(bf::fiber));
    memory before = memory_now();
    double t0 = cpu_ns();
    spawn_parked(all, n[0], g);
    report_ns("spawn", t0, n[0]);
    memory peak = report_parked(before, n[0]);
    t0 = cpu_ns();
    g.release();
    join_all(all);
    report_ns("join", t0, n[0]);
    boost::this_fiber::sleep_for(std::chrono::milliseconds(300));
    report_left(before, peak);
}

static void sleeps(const long *n)
{
    fibers all;
    long longest = n[1];
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        all.emplace_back(bf::launch::post, [=] {
            boost::this_fiber::sleep_for(std::chrono::milliseconds(random_ms(longest)));
        });
    join_all(all);
    report_ns("ns", t0, n[0]);
}

static void rendezvous(const long *n)
{
    bf::unbuffered_channel<long> there, back;
    long trips = n[0] / 2;
    bf::fiber t([&] {
        for (long i = 0, value; i < trips; i++) {
            there.pop(value);
            back.push(value);
        }
    });
    double t0 = cpu_ns();
    for (long i = 0, value; i < trips; i++) {
        there.push(i);
        back.pop(value);
    }
    report_ns("ns", t0, n[0]);
    t.join();
}

// Its capacity has to be a power of two, and is one more than what it holds.
static size_t power_of_two_above(long capacity)
{
    size_t size = 2;
    while ((long)size <= capacity)
        size *= 2;
    return size;
}

static void queue(const long *n)
{
    bf::buffered_channel<long> q(power_of_two_above(n[0]));
    long items = n[1];
    bf::fiber t([&] {
        for (long i = 0; i < items; i++)
            q.push(i);
    });
    double t0 = cpu_ns();
    for (long i = 0, value; i < items; i++)
        if (q.pop(value) != bf::channel_op_status::success || value != i)
            fail("order");
    report_ns("ns", t0, items);
    t.join();
}

// Boost 1.74 has no semaphore for fibers; this is how its manual would have one made.
struct permits {
    bf::mutex guard;
    bf::condition_variable more;
    long n = 0;
    void acquire()
    {
        std::unique_lock<bf::mutex> lock(guard);
        more.wait(lock, [this] { return n > 0; });
        n--;
    }
    void release()
    {
        std::unique_lock<bf::mutex> lock(guard);
        n++;
        more.notify_one();
    }
};

static void semaphore(const long *n)
{
    permits mine, yours;
    long trips = n[0] / 2;
    bf::fiber t([&] {
        for (long i = 0; i < trips; i++) {
            mine.acquire();
            yours.release();
        }
    });
    double t0 = cpu_ns();
    for (long i = 0; i < trips; i++) {
        mine.release();
        yours.acquire();
    }
    report_ns("ns", t0, n[0]);
    t.join();
}

static void mutex(const long *n)
{
    bf::mutex lock;
    long times = n[0] / 2;
    auto body = [&] {
        for (long i = 0; i < times; i++) {
            std::unique_lock<bf::mutex> held(lock);
            boost::this_fiber::yield();
        }
    };
    double t0 = cpu_ns();
    bf::fiber a(body), b(body);
    a.join();
    b.join();
    report_ns("ns", t0, n[0]);
}

static void idle(const long *)
{
    gate never;
    announce_idle();
    never.wait();
}

static const struct row rows[] = {
    {"yield", yields},        {"spawn", spawn},   {"park", park},
    {"sleep", sleeps},        {"queue", queue},   {"rendezvous", rendezvous},
    {"semaphore", semaphore}, {"mutex", mutex},   {"idle", idle},
    {nullptr, nullptr},
};

int main(int argc, char **argv)
{
    try {
        return run_row(argc, argv, rows);
    } catch (const std::exception &e) {
        fail(e.what());
    }
}
