// weald.hpp: queues own their items, whatever ends a wait.
#include <functional>
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

TEST(items_leave_in_the_order_of_their_queue)
{
    weald::queue<int> fifo;
    weald::lifo_queue<int> lifo;
    weald::priority_queue<int> least;
    weald::priority_queue<std::string, std::greater<std::string>> greatest;
    for (int n : {2, 1, 3}) {
        fifo.put(n);
        lifo.put(n);
        least.put(n);
        greatest.put(std::to_string(n));
    }
    for (int n : {2, 1, 3})
        CHECK_EQ(fifo.get(), n);
    for (int n : {3, 1, 2})
        CHECK_EQ(lifo.get(), n);
    for (int n : {1, 2, 3})
        CHECK_EQ(least.get(), n);
    for (const char *text : {"3", "2", "1"})
        CHECK_STR(greatest.get().c_str(), text);
}

TEST(equal_priorities_leave_in_the_order_they_came)
{
    struct job {
        int urgency, number;
        bool operator<(const job &other) const { return urgency < other.urgency; }
    };
    weald::priority_queue<job> q;
    for (int i = 0; i < 6; i++)
        q.put({i % 2, i});
    for (int n : {0, 2, 4, 1, 3, 5})
        CHECK_EQ(q.get().number, n);
}

TEST(every_sort_is_a_queue)
{
    const auto feed = [](weald::queue<int> q) {
        for (int n : {2, 1, 3})
            q.put(n);
    };
    weald::priority_queue<int> q;
    feed(q);
    weald::queue<int> same = q;
    CHECK_EQ(same.get(), 1);
    CHECK_EQ(q.size(), 2);
}

TEST(small_plain_items_and_large_ones_travel_alike)
{
    enum class colour : char { red, green };
    struct plain {
        char a;
        short b;
    };
    struct large {
        long a, b, c;
    };
    weald::queue<colour> colours;
    weald::queue<plain> plains;
    weald::queue<large> larges;
    weald::queue<double> doubles;
    weald::queue<int *> pointers;
    int here = 0;
    colours.put(colour::green);
    plains.put({'x', -2});
    larges.put({1, 2, 3});
    doubles.put(0.5);
    pointers.put(&here);
    pointers.put(nullptr);
    CHECK(colours.get() == colour::green);
    CHECK_EQ(plains.get().b, -2);
    CHECK_EQ(larges.get().c, 3);
    CHECK(doubles.get() == 0.5);
    CHECK_PTR(pointers.get(), &here);
    CHECK_PTR(pointers.get(), nullptr);
}

TEST(a_bounded_queue_makes_its_putter_wait)
{
    weald::queue<int> q(1);
    std::string order;
    auto putter = weald::spawn([&] {
        for (int i = 0; i < 3; i++) {
            q.put(i);
            order += 'p';
        }
    });
    weald::yield();
    CHECK_STR(order.c_str(), "p");
    CHECK(q.full());
    for (int i = 0; i < 3; i++)
        CHECK_EQ(q.get(), i);
    putter.join();
    CHECK_STR(order.c_str(), "ppp");
    CHECK(q.empty());
}

TEST(a_channel_has_no_room)
{
    weald::channel<std::string> c;
    CHECK(!c.try_put("nobody is there"));
    auto putter = weald::spawn([c] { c.put("hello"); });
    weald::yield();
    CHECK(!putter.done());
    CHECK_STR(c.get().c_str(), "hello");
    putter.join();
}

TEST(range_for_goes_on_until_the_queue_is_shut_and_drained)
{
    weald::queue<std::unique_ptr<int>> q(2);
    auto reader = weald::spawn([q] {
        int sum = 0;
        for (auto &item : q)
            sum += *item;
        return sum;
    });
    for (int n : {1, 2, 3, 4})
        q.put(std::make_unique<int>(n));
    q.shut();
    CHECK_EQ(reader.get(), 10);
    CHECK(!q.next());
    CHECK(throws_a<weald::closed>([&] { q.get(); }));
    CHECK(throws_a<weald::closed>([&] { q.try_get(); }));
    CHECK(throws_a<weald::closed>([&] { q.put(nullptr); }));
    CHECK(throws_a<weald::closed>([&] { q.try_put(nullptr); }));
}

TEST(try_get_and_try_put_say_no)
{
    weald::queue<int> q(1);
    CHECK(!q.try_get());
    CHECK(!q.try_get(1ms));
    CHECK(q.try_put(5));
    CHECK(!q.try_put(6));
    CHECK(!q.try_put(6, 1ms));
    CHECK_EQ(*q.try_get(), 5);
    CHECK(throws_a<weald::timed_out>([&] { q.get(1ms); }));
    CHECK(throws_a<weald::timed_out>([&] { q.next(1ms); }));
    CHECK(throws_a<weald::not_ready>([&] { q.get(weald::now); }));
}

TEST(a_surrounding_timeout_is_no_answer_of_try_get)
{
    weald::queue<int> q;
    weald::timeout limit(1ms);
    CHECK(throws_a<weald::timed_out>([&] { q.try_get(100s); }));
    CHECK(limit.fired());
}

TEST(join_waits_until_every_item_is_done)
{
    weald::queue<int> q;
    int done = 0;
    for (int i = 0; i < 3; i++)
        q.put(i);
    CHECK(throws_a<weald::timed_out>([&] { q.join(1ms); }));
    weald::go([&, q] {
        for (int i = 0; i < 3; i++) {
            q.get();
            weald::yield();
            done++;
            q.task_done();
        }
    });
    q.join();
    CHECK_EQ(done, 3);
    CHECK_EQ(thrown_by([&] { q.task_done(); }), WEALD_EOVERFLOW);
}

// ---- an item has one owner, and dies once ----

TEST(a_put_that_fails_leaves_the_item_as_it_was)
{
    weald::queue<std::unique_ptr<int>> q(0);
    auto item = std::make_unique<int>(3);
    CHECK(throws_a<weald::timed_out>([&] { q.put(std::move(item), 1ms); }));
    CHECK(item && *item == 3);
    CHECK(!q.try_put(std::move(item)));
    CHECK(item && *item == 3);
    auto putter = weald::spawn([&] { q.put(std::move(item)); });
    weald::yield();
    CHECK(!item);
    putter.kill();
    CHECK(item && *item == 3);
    q.shut();
    CHECK(throws_a<weald::closed>([&] { q.put(std::move(item)); }));
    CHECK(item && *item == 3);
}

TEST(what_is_left_dies_with_the_queue)
{
    {
        weald::queue<counted> q(3);
        weald::lifo_queue<counted> stack;
        weald::priority_queue<counted> heap;
        for (int i = 0; i < 3; i++) {
            q.put(counted(i));
            stack.put(counted(i));
            heap.put(counted(i));
        }
        CHECK_EQ(counted::alive, 9);
        CHECK_EQ(q.get().number, 0);
        CHECK_EQ(counted::alive, 8);
    }
    CHECK_EQ(counted::alive, 0);
}

TEST(an_item_whose_putter_times_out_or_is_killed_dies_once)
{
    {
        weald::queue<counted> q(0);
        auto late = weald::spawn([q] { CHECK_EQ(thrown_by([&] { q.put(counted(1), 1ms); }), WEALD_ETIMEDOUT); });
        auto victim = weald::spawn([q] { q.put(counted(2)); });
        auto copier = weald::spawn([q] {
            const counted mine(3);
            q.put(mine);
        });
        late.join();
        victim.kill();
        CHECK_EQ(counted::alive, 3); // of the copier: its own, the copy, and what was moved out of that
        CHECK_EQ(q.get().number, 3);
        copier.join();
        CHECK_EQ(counted::alive, 0);
    }
}

TEST(an_item_whose_getter_is_killed_goes_to_the_next)
{
    weald::queue<counted> q;
    auto first = weald::spawn([q] { return q.get(); });
    auto second = weald::spawn([q] { return q.get(); });
    weald::yield();
    q.put(counted(7)); // handed to the first, who has not run
    first.kill(weald::now);
    CHECK_EQ(second.get().number, 7);
    CHECK_EQ(thrown_by([&] { first.get(); }), WEALD_ECANCELED);
    CHECK_EQ(counted::alive, 0);
}

TEST(items_die_once_when_the_hub_is_shut_down)
{
    weald::queue<counted> q(1);
    weald::go([q] {
        for (int i = 0;; i++)
            q.put(counted(i)); // waits with one in its hands
    });
    weald::yield();
    CHECK_EQ(counted::alive, 3); // in the queue, on its way, and the empty one that it came from
    CHECK_EQ(weald::shutdown(), 0);
    CHECK_EQ(counted::alive, 0);
}

TEST(an_item_dies_when_its_copy_or_its_queue_throws)
{
    struct fragile : counted {
        using counted::counted;
        fragile(const fragile &other) : counted(other) { throw std::runtime_error("dropped"); }
        fragile(fragile &&) = default;
        fragile &operator=(fragile &&) = default;
    };
    weald::queue<fragile> q;
    {
        const fragile item(1);
        CHECK(throws_a<std::runtime_error>([&] { q.put(item); }));
    }
    CHECK_EQ(counted::alive, 0);
    CHECK_EQ(q.size(), 0);
    q.put(fragile(2));
    CHECK_EQ(q.get().number, 2);
}

// ---- several threads ----

namespace {

struct stream {
    weald::queue<counted> items{4, weald::shared};
    weald::result<int> sum{weald::shared};
    weald::event go{weald::shared};
};

void *read_all(void *arg)
{
    auto &s = *static_cast<stream *>(arg);
    s.go.wait();
    int sum = 0;
    for (auto &item : s.items)
        sum += item.number;
    s.sum.set(sum);
    return nullptr;
}

} // namespace

TEST(a_shared_queue_event_and_result_serve_two_threads)
{
    {
        stream s;
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, nullptr, read_all, &s), 0);
        s.go.set();
        for (int i = 1; i <= 100; i++)
            s.items.put(counted(i));
        s.items.shut();
        CHECK_EQ(s.sum.get(), 5050);
        CHECK_EQ(pthread_join(thread, nullptr), 0);
        CHECK_EQ(counted::alive, 0);
    }
    stream lost;
    lost.items.put(counted(1));
    CHECK_EQ(counted::alive, 1);
    lost = stream();
    CHECK_EQ(counted::alive, 0);
}

TEST(a_queue_of_one_thread_is_eperm_in_another)
{
    static weald::queue<int> *mine;
    mine = new weald::queue<int>;
    pthread_t thread;
    auto body = [](void *) -> void * {
        CHECK_EQ(thrown_by([] { mine->put(1); }), WEALD_EPERM);
        CHECK_EQ(thrown_by([] { auto copy = *mine; }), WEALD_EPERM);
        return nullptr;
    };
    CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
    CHECK_EQ(pthread_join(thread, nullptr), 0);
    CHECK(mine->empty());
    delete mine;
}
