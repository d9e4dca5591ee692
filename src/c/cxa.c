/* Where this thread's C++ runtime keeps the exceptions in flight, or NULL in a program without C++.
 *
 * It is C because stable Rust knows no weak symbols, and a weak one is all that finds the runtime in a program that is
 * linked statically: there is nothing for dlsym to look through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

extern void *__cxa_get_globals(void) __attribute__((weak));

static void *(*find(void))(void)
{
    /* Those who load a plugin keep its libraries to themselves, as interpreters do: dlsym alone would not see them. */
    static const char *const runtimes[] = {NULL, "libstdc++.so.6", "libc++abi.so.1"};

    if (__cxa_get_globals)
        return __cxa_get_globals;
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        void *found = runtime ? dlsym(runtime, "__cxa_get_globals") : NULL;
        if (runtime)
            dlclose(runtime); /* it was there before, and stays */
        if (found)
            return (void *(*)(void))found;
    }
    return NULL;
}

__attribute__((visibility("hidden"))) void *weald_cxa_globals(void)
{
    void *(*globals)(void) = find();

    return globals ? globals() : NULL;
}
