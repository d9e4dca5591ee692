/* Has the main function of a shared object run, as an interpreter loads a plugin: its libraries are its own, and weald
 * was there before them. */
#include <dlfcn.h>
#include <stdio.h>
#include <weald.h>

int main(int argc, char **argv)
{
    void *plugin = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    int (*run)(int, char **) = plugin ? (int (*)(int, char **))dlsym(plugin, "main") : NULL;

    if (!run || weald_abi_version() <= 0) {
        fprintf(stderr, "%s\n", argc > 1 ? dlerror() : "usage: loader PLUGIN ...");
        return 2;
    }
    return run(argc - 1, argv + 1);
}
