/* 01_breakfast: greenlets return values and throw exceptions, and get() brings both to whoever waits.
 *
 * Everything cooks at once: what is done first is first on the table. What leaves a greenlet is the very exception that
 * was thrown in it. The error handler is told as well, and would write a line to stderr; here it is silenced.
 *
 * Build:  c++ -std=c++17 01_breakfast.cpp $(pkg-config --cflags --libs weald) -o 01_breakfast
 * Prints:
 *   all is on the stove
 *   eggs: 3
 *   coffee: black
 *   toast: side 2 is burnt
 *   on the table: coffee, eggs, and no toast
 */
#include <chrono>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <weald.hpp>

using namespace std::chrono_literals;

struct burnt : std::runtime_error {
    int side;
    explicit burnt(int s) : runtime_error("burnt"), side(s) {}
};

static std::string table;

static int boil(int eggs)
{
    weald::sleep(30ms);
    table += "eggs, ";
    return eggs;
}

static std::string toast()
{
    weald::sleep(10ms);
    throw burnt(2);
}

int main()
{
    weald_set_error_handler([](weald_greenlet, int, const char *, void *) {}, nullptr);
    auto eggs = weald::spawn(boil, 3);
    auto coffee = weald::spawn(
        [](std::unique_ptr<std::string> cup) {
            weald::sleep(10ms);
            table += "coffee, ";
            return cup;
        },
        std::make_unique<std::string>("black"));
    auto bread = weald::spawn(toast);
    std::cout << "all is on the stove\n";

    std::cout << "eggs: " << eggs.get() << '\n';
    std::cout << "coffee: " << *coffee.get() << '\n';
    try {
        std::cout << "toast: " + bread.get() + '\n';
    } catch (const burnt &e) {
        std::cout << "toast: side " << e.side << " is " << e.what() << '\n';
    }
    std::cout << "on the table: " << table << "and no toast\n";
}
