// weald.hpp: errors and deadlines.
#include <cmath>
#include <limits>

#include <weald.hpp>

#include "../c/test.h"
#include "thrown.h"

using namespace std::chrono_literals;
using std::chrono::steady_clock;

// ---- errors ----

TEST(an_error_has_the_librarys_text_and_code)
{
    const weald::error e(WEALD_EBUSY, "the oven");
    CHECK_STR(e.what(), (std::string("the oven: ") + weald_strerror(WEALD_EBUSY)).c_str());
    CHECK_STR(weald::error(WEALD_EPANIC).what(), weald_strerror(WEALD_EPANIC));
    CHECK_EQ(e.code().value(), WEALD_EBUSY);
    CHECK(e.code().category() == weald::category());
    CHECK_STR(weald::category().name(), "weald");
    CHECK_STR(weald::category().message(weald::raised).c_str(), "a C++ exception");
}

TEST(codes_compare_with_std_errc)
{
    CHECK(weald::error(WEALD_ETIMEDOUT).code() == std::errc::timed_out);
    CHECK(weald::error(WEALD_ECANCELED).code() == std::errc::operation_canceled);
    CHECK(weald::error(WEALD_EAGAIN).code() == std::errc::resource_unavailable_try_again);
    CHECK(weald::error(WEALD_EPIPE).code() == std::errc::broken_pipe);
    // A wait in a callback is not "try again", whatever the name says.
    CHECK(weald::error(WEALD_EWOULDBLOCK).code() != std::errc::operation_would_block);
    CHECK(weald::error(weald::raised).code() != std::errc::timed_out);
    for (int own : {WEALD_EWOULDBLOCK, WEALD_EPANIC, weald::raised})
        CHECK(weald::error(own).code().default_error_condition().category() == weald::category());
}

TEST(each_code_has_its_class)
{
    CHECK(throws_a<weald::timed_out>([] { weald::check(WEALD_ETIMEDOUT, "x"); }));
    CHECK(throws_a<weald::cancelled>([] { weald::check(WEALD_ECANCELED, "x"); }));
    CHECK(throws_a<weald::not_ready>([] { weald::check(WEALD_EAGAIN, "x"); }));
    CHECK(throws_a<weald::would_block>([] { weald::check(WEALD_EWOULDBLOCK, "x"); }));
    CHECK(throws_a<weald::closed>([] { weald::check(WEALD_EPIPE, "x"); }));
    CHECK(throws_a<weald::deadlock>([] { weald::check(WEALD_EDEADLK, "x"); }));
    CHECK(throws_a<std::system_error>([] { weald::check(WEALD_ENOMEM, "x"); }));
    CHECK_EQ(weald::check(3, "x"), 3);
    CHECK_EQ(thrown_by([] { weald::check(int64_t{-5}, "x"); }), -5);
}

TEST(every_class_tells_its_code)
{
    for (int code : {WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EAGAIN, WEALD_EWOULDBLOCK, WEALD_EPIPE, WEALD_EDEADLK})
        CHECK_EQ(thrown_by([=] { weald::check(code, "x"); }), code);
}

// ---- deadlines ----

TEST(a_duration_counts_from_now)
{
    const int64_t before = weald_now();
    const weald::deadline d = 250ms;
    CHECK_GE(d.raw(), before + WEALD_MS(250));
    CHECK_LE(d.raw(), weald_now() + WEALD_MS(250));
    CHECK_LE(d.left(), WEALD_MS(250));
    CHECK(!d.passed());
}

TEST(a_span_that_does_not_fit_saturates)
{
    using weald::timespan;
    constexpr int64_t most = std::numeric_limits<int64_t>::max(), least = std::numeric_limits<int64_t>::min();
    CHECK_EQ(timespan(std::chrono::hours::max()).ns(), most);
    CHECK_EQ(timespan(std::chrono::hours::min()).ns(), least);
    CHECK_EQ(timespan(std::chrono::nanoseconds::max()).ns(), most);
    CHECK_EQ(timespan(std::chrono::nanoseconds::min()).ns(), least);
    CHECK_EQ(timespan(std::chrono::duration<uint64_t, std::nano>(UINT64_MAX)).ns(), most);
    CHECK_EQ(timespan(std::chrono::duration<double>(1e300)).ns(), most);
    CHECK_EQ(timespan(std::chrono::duration<double>(-1e300)).ns(), least);
    CHECK_EQ(timespan(std::chrono::duration<double>(INFINITY)).ns(), most);
    CHECK_EQ(timespan(std::chrono::duration<double>(-INFINITY)).ns(), least);
    CHECK_EQ(timespan(std::chrono::duration<double>(NAN)).ns(), 0);
    CHECK_EQ(timespan(std::chrono::duration<int64_t, std::ratio<86400 * 366>>(400)).ns(), most);
    CHECK_EQ(timespan(std::chrono::duration<int8_t, std::ratio<3600>>(-128)).ns(), -128 * WEALD_SEC(3600));
}

TEST(a_fraction_of_a_nanosecond_is_rounded_up)
{
    using weald::timespan;
    CHECK_EQ(timespan(std::chrono::duration<int64_t, std::pico>(1)).ns(), 1);
    CHECK_EQ(timespan(std::chrono::duration<int64_t, std::pico>(1000)).ns(), 1);
    CHECK_EQ(timespan(std::chrono::duration<int64_t, std::pico>(1001)).ns(), 2);
    CHECK_EQ(timespan(std::chrono::duration<int64_t, std::pico>(-1001)).ns(), -1);
    CHECK_EQ(timespan(std::chrono::duration<double, std::nano>(1.5)).ns(), 2);
    CHECK_EQ(timespan(std::chrono::duration<double>(0.25)).ns(), WEALD_MS(250));
    CHECK_EQ(timespan(std::chrono::duration<int, std::ratio<1, 3>>(1)).ns(), 333333334);
}

TEST(the_longest_duration_never_passes)
{
    CHECK_EQ(weald::deadline(std::chrono::hours::max()).raw(), std::numeric_limits<int64_t>::max());
    CHECK_EQ(weald::deadline(steady_clock::time_point::max()).raw(), std::numeric_limits<int64_t>::max());
    weald::event e;
    auto g = weald::spawn([e] {
        weald::sleep(1ms);
        e.set();
    });
    e.wait(std::chrono::hours::max());
}

TEST(what_has_passed_is_timed_out_and_now_is_not_ready)
{
    weald::event never;
    CHECK_EQ(thrown_by([&] { never.wait(weald::now); }), WEALD_EAGAIN);
    CHECK_EQ(thrown_by([&] { never.wait(0ms); }), WEALD_ETIMEDOUT);
    CHECK_EQ(thrown_by([&] { never.wait(-1ns); }), WEALD_ETIMEDOUT);
    CHECK_EQ(thrown_by([&] { never.wait(std::chrono::hours::min()); }), WEALD_ETIMEDOUT);
    CHECK_EQ(thrown_by([&] { never.wait(steady_clock::time_point()); }), WEALD_ETIMEDOUT);
    CHECK_EQ(thrown_by([&] { never.wait(steady_clock::time_point(-1ns)); }), WEALD_ETIMEDOUT);
    CHECK_EQ(thrown_by([&] { never.wait(steady_clock::time_point::min()); }), WEALD_ETIMEDOUT);
    CHECK_EQ(thrown_by([&] { never.wait(std::chrono::system_clock::time_point::min()); }), WEALD_ETIMEDOUT);
}

TEST(a_steady_time_point_is_taken_as_it_is)
{
    const auto moment = steady_clock::now() + 5ms;
    const weald::deadline d = moment;
    CHECK_EQ(d.raw(), moment.time_since_epoch().count());
    weald::sleep_until(d);
    CHECK(steady_clock::now() >= moment);
    CHECK(d.passed());
    CHECK_LE(d.left(), 0);
}

TEST(another_clock_is_read_once)
{
    const int64_t before = weald_now();
    const weald::deadline d = std::chrono::system_clock::now() + 1h;
    CHECK_GT(d.raw(), before + WEALD_SEC(3590));
    CHECK_LT(d.raw(), before + WEALD_SEC(3610));
    CHECK_GT(weald::deadline(std::chrono::system_clock::time_point::max()).left(), WEALD_SEC(3600));
}

TEST(forever_and_now_are_constants)
{
    static_assert(weald::forever.raw() == WEALD_FOREVER);
    static_assert(weald::now.raw() == WEALD_NOW);
    static_assert(weald::now != weald::forever);
    CHECK(!weald::forever.passed());
    CHECK_EQ(weald::forever.left(), std::numeric_limits<int64_t>::max());
    CHECK(weald::now.passed());
}
