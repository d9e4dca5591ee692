// A user's program in C++: finds weald.hpp, runs a greenlet, says so by its exit status.
#include <weald.hpp>

int main()
{
    return weald::spawn([] { return 41; }).get() + 1 == 42 ? 0 : 1;
}
