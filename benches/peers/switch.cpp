// Raw context switches: Boost.Context's bare jump (fcontext), its public fiber class,
// and ucontext, which saves the signal mask by a system call at every switch.
//
//     switch fcontext | fiber | ucontext      ROUNDTRIPS    main and one coroutine
//     switch fcontext2 | ucontext2            ROUNDTRIPS    two coroutines, main waits
#include "../bench.h"
#include <boost/context/detail/fcontext.hpp>
#include <boost/context/fiber.hpp>
#include <ucontext.h>
namespace bc = boost::context;
namespace bd = boost::context::detail;

static char stack_a[65536], stack_b[65536];

static bd::fcontext_t fcontext_on(char (&stack)[65536], void (*body)(bd::transfer_t))
{
    return bd::make_fcontext(stack + sizeof stack, sizeof stack, body);
}

static void bounce_back(bd::transfer_t t)
{
    for (;;)
        t = bd::jump_fcontext(t.fctx, nullptr);
}

static void fcontext(const long *n)
{
    bd::transfer_t t = {fcontext_on(stack_a, bounce_back), nullptr};
    t = bd::jump_fcontext(t.fctx, nullptr);
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        t = bd::jump_fcontext(t.fctx, nullptr);
    report_ns("ns", t0, n[0]);
}

static long count;

static void ping_other(bd::transfer_t main)
{
    bd::transfer_t t = {fcontext_on(stack_b, bounce_back), nullptr};
    for (long i = 0; i < count; i++)
        t = bd::jump_fcontext(t.fctx, nullptr);
    bd::jump_fcontext(main.fctx, nullptr);
}

static void fcontext2(const long *n)
{
    count = n[0];
    double t0 = cpu_ns();
    bd::jump_fcontext(fcontext_on(stack_a, ping_other), nullptr);
    report_ns("ns", t0, n[0]);
}

static void fiber(const long *n)
{
    bc::fiber f([](bc::fiber &&caller) {
        for (;;)
            caller = std::move(caller).resume();
        return std::move(caller);
    });
    f = std::move(f).resume();
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        f = std::move(f).resume();
    report_ns("ns", t0, n[0]);
}

static ucontext_t home, a, b;

static void u_back_home()
{
    for (;;)
        swapcontext(&a, &home);
}

static void u_back_to_a()
{
    for (;;)
        swapcontext(&b, &a);
}

static void u_ping_b()
{
    for (long i = 0; i < count; i++)
        swapcontext(&a, &b);
    swapcontext(&a, &home);
}

static void ucontext_on(ucontext_t *context, char (&stack)[65536], void (*body)())
{
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = sizeof stack;
    makecontext(context, body, 0);
}

static void ucontext(const long *n)
{
    ucontext_on(&a, stack_a, u_back_home);
    double t0 = cpu_ns();
    for (long i = 0; i < n[0]; i++)
        swapcontext(&home, &a);
    report_ns("ns", t0, n[0]);
}

static void ucontext2(const long *n)
{
    count = n[0];
    ucontext_on(&a, stack_a, u_ping_b);
    ucontext_on(&b, stack_b, u_back_to_a);
    double t0 = cpu_ns();
    swapcontext(&home, &a);
    report_ns("ns", t0, n[0]);
}

static const struct row rows[] = {
    {"fcontext", fcontext}, {"fcontext2", fcontext2}, {"fiber", fiber},
    {"ucontext", ucontext}, {"ucontext2", ucontext2}, {nullptr, nullptr},
};

int main(int argc, char **argv)
{
    int code = run_row(argc, argv, rows);
    fflush(stdout);
    _exit(code); // the coroutines never end: no destructor may wait for them
}
