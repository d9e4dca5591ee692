/* What a call throws, for claims about it. */
#ifndef WEALD_TEST_THROWN_H
#define WEALD_TEST_THROWN_H

#include <weald.hpp>

/* The code of the weald::error that `f` throws; 0 if it throws nothing, 1 for anything else. */
template <class F> int thrown_by(F f)
{
    try {
        f();
    } catch (const weald::error &e) {
        return e.code().value();
    } catch (...) {
        return 1;
    }
    return 0;
}

/* Whether `f` throws an E. */
template <class E, class F> bool throws_a(F f)
{
    try {
        f();
    } catch (const E &) {
        return true;
    }
    return false;
}

/* Puts "CODE: message" for each failure into `to`, instead of a line on stderr. */
inline void tell(std::string &to)
{
    const auto told = [](weald_greenlet, int code, const char *message, void *text) {
        *static_cast<std::string *>(text) += std::string(weald_strcode(code)) + ": " + message + "\n";
    };
    weald_set_error_handler(told, &to);
}

/* For greenlets that fail on purpose. */
inline void be_quiet()
{
    weald_set_error_handler([](weald_greenlet, int, const char *, void *) {}, nullptr);
}

#endif // WEALD_TEST_THROWN_H
