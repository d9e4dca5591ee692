// C++ code in greenlets: what stays inside is fine, what would cross into C ends the program with a clear word.
#include <stdexcept>
#include <string>

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
