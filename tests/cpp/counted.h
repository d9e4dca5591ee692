/* A value that knows how many of its kind live, for claims that something is destroyed exactly once: a second
 * destruction makes the number too small, a missing one leaves it too large. */
#ifndef WEALD_TEST_COUNTED_H
#define WEALD_TEST_COUNTED_H

#include <atomic>
#include <utility>

struct counted {
    static inline std::atomic<int> alive{0}, made{0};
    int number;

    explicit counted(int n = 0) : number(n) { count(); }
    counted(const counted &other) : number(other.number) { count(); }
    counted(counted &&other) noexcept : number(std::exchange(other.number, -1)) { count(); }
    counted &operator=(const counted &) = default;
    counted &operator=(counted &&other) noexcept
    {
        number = std::exchange(other.number, -1);
        return *this;
    }
    ~counted()
    {
        alive--;
        number = -2;
    }
    friend bool operator<(const counted &a, const counted &b) { return a.number < b.number; }

private:
    static void count()
    {
        alive++;
        made++;
    }
};

#endif // WEALD_TEST_COUNTED_H
