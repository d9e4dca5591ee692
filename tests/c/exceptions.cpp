// C++ code in greenlets: what stays inside is fine, what would cross into C ends the program with a clear word.
#include <exception>
#include <stdexcept>
#include <string>

#include <pthread.h>

#include "test.h"

namespace {

void *throw_and_catch(void *arg)
{
    try {
        weald_yield();
        throw std::runtime_error("inside");
    } catch (const std::runtime_error &e) {
        weald_yield(); // another greenlet handles its own exception meanwhile
        *static_cast<std::string *>(arg) = e.what();
    }
    return nullptr;
}

void *throw_out(void *) { throw std::runtime_error("out of the entry function"); }

void let_one_out()
{
    weald_greenlet g = weald_spawn(throw_out, nullptr);
    weald_join(g, WEALD_FOREVER);
}

} // namespace

TEST(exceptions_caught_inside_interleave)
{
    std::string texts[3];
    weald_greenlet gs[3];

    for (int i = 0; i < 3; i++)
        gs[i] = weald_spawn(throw_and_catch, &texts[i]);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_STR(texts[i].c_str(), "inside");
        CHECK_EQ(weald_close(gs[i]), 0);
    }
}

TEST(an_exception_that_leaves_an_entry_function_aborts_with_a_clear_message)
{
    char text[4096];
    int status = test_in_child(let_one_out, text, sizeof text);

    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGABRT);
    CHECK_CONTAINS(text, "exception");
}

namespace {

// Its destructor runs while an exception is on its way, and yields.
struct YieldsOnTheWayOut {
    int *seen;
    ~YieldsOnTheWayOut()
    {
        weald_yield();
        *seen = std::uncaught_exceptions();
    }
};

void *throw_through_a_yield(void *arg)
{
    try {
        YieldsOnTheWayOut guard{static_cast<int *>(arg)};
        throw 1;
    } catch (int) {
    }
    return nullptr;
}

void *count_uncaught(void *arg)
{
    int *most = static_cast<int *>(arg);
    for (int i = 0; i < 5; i++) {
        if (std::uncaught_exceptions() > *most)
            *most = std::uncaught_exceptions();
        weald_yield();
    }
    return nullptr;
}

void *catch_and_rethrow_later(void *arg)
{
    auto *text = static_cast<std::string *>(arg);
    try {
        try {
            throw std::runtime_error(*text);
        } catch (...) {
            weald_sleep(WEALD_MS(1));
            throw; // the same one, whatever others have caught meanwhile
        }
    } catch (const std::exception &e) {
        *text = std::string("again: ") + e.what();
    }
    return nullptr;
}

void *switch_in_a_catch_block(void *first, void *arg)
{
    auto *trips = static_cast<int *>(arg);
    weald_greenlet main = *static_cast<weald_greenlet *>(first);
    if (std::current_exception() || std::uncaught_exceptions())
        return nullptr; // it began with another's
    try {
        throw std::runtime_error("the coroutine's");
    } catch (const std::exception &) {
        while (++*trips < 3)
            weald_switch(main, nullptr, nullptr);
        try {
            throw;
        } catch (const std::exception &again) {
            *trips += std::string(again.what()) == "the coroutine's";
        }
    }
    return nullptr;
}

void *throw_out_of_a_coroutine(void *, void *) { throw std::runtime_error("out of a coroutine"); }

void let_one_out_of_a_coroutine()
{
    weald_greenlet c = weald_coro_new(throw_out_of_a_coroutine, nullptr, 0, nullptr);
    weald_switch(c, nullptr, nullptr);
}

void throw_out_of_a_callback(void *) { throw std::runtime_error("out of a callback"); }

void let_one_out_of_a_callback()
{
    weald_handle hub = weald_hub();
    weald_post(hub, throw_out_of_a_callback, nullptr);
    weald_sleep(WEALD_MS(1));
}

void throw_out_of_a_link(weald_handle, void *) { throw std::runtime_error("out of a link"); }

void *return_it(void *arg) { return arg; }

void let_one_out_of_a_link()
{
    weald_greenlet g = weald_spawn(return_it, nullptr);
    weald_link(g, throw_out_of_a_link, nullptr, WEALD_LINK_ALWAYS);
    weald_sleep(WEALD_MS(1));
}

void throw_out_of_a_destructor(void *) { throw std::runtime_error("out of a destructor"); }

void let_one_out_of_a_destructor()
{
    weald_spawn_options o{};
    o.size = sizeof o;
    o.destroy = throw_out_of_a_destructor;
    weald_join(weald_spawn_with(return_it, nullptr, &o), WEALD_FOREVER);
}

void *exit_the_thread(void *) { pthread_exit(nullptr); }

void exit_the_thread_in_a_greenlet() { weald_join(weald_spawn(exit_the_thread, nullptr), WEALD_FOREVER); }

void aborts_with(test_fn body, const char *word, const char *where)
{
    char text[4096];
    int status = test_in_child(body, text, sizeof text);

    CHECK_CONTAINS(text, word);
    CHECK_CONTAINS(text, where);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGABRT);
}

} // namespace

TEST(an_exception_on_its_way_is_its_greenlets_own)
{
    int own = 0, others = 0;
    weald_greenlet gs[2] = {weald_spawn(throw_through_a_yield, &own), weald_spawn(count_uncaught, &others)};

    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK_EQ(weald_joinall(gs, 2, 0, 0, WEALD_FOREVER), 2);
    CHECK_EQ(own, 1);
    CHECK_EQ(others, 0);
    CHECK_EQ(std::uncaught_exceptions(), 0);
    for (weald_greenlet g : gs)
        CHECK_EQ(weald_close(g), 0);
}

TEST(an_exception_is_rethrown_after_others_were_caught_meanwhile)
{
    std::string texts[3] = {"a", "b", "c"};
    weald_greenlet gs[3];

    for (int i = 0; i < 3; i++)
        gs[i] = weald_spawn(catch_and_rethrow_later, &texts[i]);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    CHECK_STR(texts[0].c_str(), "again: a");
    CHECK_STR(texts[1].c_str(), "again: b");
    CHECK_STR(texts[2].c_str(), "again: c");
    for (weald_greenlet g : gs)
        CHECK_EQ(weald_close(g), 0);
}

TEST(main_may_wait_in_a_catch_block)
{
    std::string text = "g";
    weald_greenlet g = weald_spawn(catch_and_rethrow_later, &text);

    try {
        throw std::runtime_error("main's");
    } catch (const std::exception &e) {
        CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
        CHECK_STR(e.what(), "main's");
        try {
            throw;
        } catch (const std::exception &again) {
            CHECK_STR(again.what(), "main's");
        }
    }
    CHECK_STR(text.c_str(), "again: g");
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_raw_switch_in_a_catch_block_takes_its_exception_along)
{
    int trips = 0;
    weald_greenlet main = weald_self();
    weald_greenlet c = weald_coro_new(switch_in_a_catch_block, &trips, 0, nullptr);

    try {
        throw std::runtime_error("main's");
    } catch (const std::exception &) {
        while (!weald_ready(c))
            CHECK_EQ(weald_switch(c, &main, nullptr), 0);
        try {
            throw;
        } catch (const std::exception &again) {
            CHECK_STR(again.what(), "main's");
        }
    }
    CHECK_EQ(trips, 4);
    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK_EQ(weald_close(c), 0);
}

TEST(the_loop_may_be_run_in_a_catch_block)
{
    std::string text = "g";
    int others = 0;
    weald_greenlet gs[2] = {weald_spawn(catch_and_rethrow_later, &text), weald_spawn(count_uncaught, &others)};

    try {
        throw std::runtime_error("main's");
    } catch (const std::exception &) {
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        CHECK(std::current_exception() != nullptr);
        try {
            throw;
        } catch (const std::exception &again) {
            CHECK_STR(again.what(), "main's");
        }
    }
    CHECK_STR(text.c_str(), "again: g");
    CHECK_EQ(others, 0);
    for (weald_greenlet g : gs)
        CHECK_EQ(weald_close(g), 0);
}

TEST(an_exception_that_leaves_a_coroutine_aborts_with_a_clear_message)
{
    aborts_with(let_one_out_of_a_coroutine, "exception", "entry function");
}

TEST(an_exception_that_leaves_a_callback_aborts_with_a_clear_message)
{
    aborts_with(let_one_out_of_a_callback, "exception", "posted callback");
}

TEST(an_exception_that_leaves_a_link_aborts_with_a_clear_message)
{
    aborts_with(let_one_out_of_a_link, "exception", "link callback");
}

TEST(an_exception_that_leaves_a_destructor_aborts_with_a_clear_message)
{
    aborts_with(let_one_out_of_a_destructor, "exception", "destructor");
}

TEST(pthread_exit_in_a_greenlet_aborts_with_a_clear_message)
{
    aborts_with(exit_the_thread_in_a_greenlet, "pthread_exit", "entry function");
}
