/* 02_pipeline: three stages joined by bounded queues that own what is in them.
 *
 * A full queue holds its putter back, so no stage runs ahead. Range-for takes items until the queue is shut and
 * drained. A queue is a handle: each greenlet captures its own copy, and what nobody has taken is destroyed with the
 * last of them.
 *
 * Build:  c++ -std=c++17 02_pipeline.cpp $(pkg-config --cflags --libs weald) -o 02_pipeline
 * Prints:
 *   sawn oak 1
 *   sawn oak 2
 *   painted oak 1
 *   painted oak 2
 *   sawn elm 3
 *   sawn elm 4
 *   painted elm 3
 *   painted elm 4
 *   4 planks; of the two that came too late none is left
 */
#include <iostream>
#include <memory>
#include <string>

#include <weald.hpp>

struct plank {
    static inline int alive = 0;
    std::string text;

    explicit plank(std::string t) : text(std::move(t)) { alive++; }
    ~plank() { alive--; }
    plank(const plank &) = delete;
    plank &operator=(const plank &) = delete;
};

using planks = weald::queue<std::unique_ptr<plank>>;

static void saw(const planks &out)
{
    int number = 0;
    for (const char *tree : {"oak", "oak", "elm", "elm"}) {
        std::cout << "sawn " << tree << ' ' << ++number << '\n';
        out.put(std::make_unique<plank>(tree + (' ' + std::to_string(number))));
    }
    out.shut();
}

static void paint(const planks &in, const planks &out)
{
    for (auto &p : in) {
        std::cout << "painted " << p->text << '\n';
        out.put(std::move(p));
    }
    out.shut();
}

int main()
{
    int count = 0;
    {
        planks sawn(1), painted(1);
        weald::go([sawn] { saw(sawn); });
        weald::go([sawn, painted] { paint(sawn, painted); });
        while (painted.next())
            count++;

        planks too_late(2);
        too_late.put(std::make_unique<plank>("fir 5"));
        too_late.put(std::make_unique<plank>("fir 6"));
    }
    std::cout << count << " planks; of the two that came too late " << (plank::alive == 0 ? "none" : "some")
              << " is left\n";
    return plank::alive;
}
