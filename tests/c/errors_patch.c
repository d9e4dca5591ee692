/* Codes of patching. */
#include "starve.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static void *load(const char *name)
{
    const char *folder = getenv("WEALD_PLUGINS");
    char path[PATH_MAX];
    void *library;

    if (!folder)
        SKIP("needs WEALD_PLUGINS, which tests/run.py sets");
    snprintf(path, sizeof path, "%s/%s.so", folder, name);
    CHECK((library = dlopen(path, RTLD_NOW)) != NULL);
    return library;
}

/* The page that has the slots: these libraries are small. */
static void *slots_of(void *library)
{
    void *table = dlsym(library, "blocking_operations");

    CHECK(table != NULL);
    return (void *)((uintptr_t)table & ~(uintptr_t)4095);
}

TEST(what_is_no_set_and_no_name_is_einval)
{
    CHECK_EQ(weald_patch_all(64 | 1), WEALD_EINVAL);
    CHECK_EQ(weald_patch_all(-1), WEALD_EINVAL);
    CHECK_EQ(weald_patch_library(NULL, 1 << 30), WEALD_EINVAL);
    CHECK_EQ(weald_patch_library("", 0), WEALD_EINVAL);
    CHECK_EQ(weald_patch_library("\xff\xfe", 0), WEALD_EINVAL);
}

TEST(a_library_that_is_not_loaded_is_enoent)
{
    CHECK_EQ(weald_patch_library("libnowhere.so.1", 0), WEALD_ENOENT);
    CHECK_EQ(weald_patch_library("libc", 0), WEALD_ENOENT);
    CHECK_EQ(weald_unpatch(), 0); /* no rule was left */
}

TEST(what_must_block_is_eperm)
{
    CHECK_EQ(weald_patch_library("libc.so.6", 0), WEALD_EPERM);
    CHECK_EQ(weald_patch_library("ld-linux-x86-64.so.2", 0), WEALD_EPERM);
    CHECK_EQ(weald_patch_library("libweald.so.0", 0), WEALD_EPERM);
    CHECK_EQ(weald_unpatch(), 0);
}

TEST(slots_that_can_not_be_written_to_are_eacces)
{
    void *page = slots_of(load("blocking_lazy"));
    int n;

    CHECK_EQ(mprotect(page, 4096, PROT_READ), 0);
    CHECK_EQ(weald_patch_library("blocking_lazy.so", 0), WEALD_EACCES);
    CHECK_EQ(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
    CHECK_GT(n = weald_patch_library("blocking_lazy.so", 0), 0);
    CHECK_EQ(mprotect(page, 4096, PROT_READ), 0);
    CHECK_EQ(weald_unpatch(), WEALD_EACCES);
    CHECK_EQ(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
    CHECK_EQ(weald_unpatch(), n);
}

/* Not on every kernel: the case before stands for it there. */
TEST(pages_that_are_sealed_are_eacces_and_the_report_says_so)
{
    void *page = slots_of(load("blocking_sealed"));
    char text[20000] = "";
    int ends[2];

    if (syscall(462, page, 4096, 0) != 0)
        SKIP("the kernel has no mseal");
    CHECK_EQ(weald_patch_library("blocking_sealed.so", 0), WEALD_EACCES);
    CHECK_GT(weald_patch_all(0), 0);
    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    CHECK_EQ(weald_patch_report(ends[1]), 0);
    CHECK_GT(read(ends[0], text, sizeof text - 1), 0);
    CHECK_CONTAINS(text, "  blocking_sealed.so: 0 slots\n    others can not be patched: its pages are sealed");
}

TEST(a_library_that_is_being_loaded_is_eagain)
{
    void *page = slots_of(load("blocking_now"));

    /* As it is until the loader has done with it. */
    CHECK_EQ(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
    CHECK_EQ(weald_patch_library("blocking_now.so", 0), WEALD_EAGAIN);
    CHECK_GE(weald_patch_all(0), 0); /* the others */
    CHECK_EQ(mprotect(page, 4096, PROT_READ), 0);
    CHECK_GT(weald_patch_library("blocking_now.so", 0), 0);
}

static void expect_everywhere(int code)
{
    CHECK_EQ(weald_patch_all(0), code);
    CHECK_EQ(weald_patch_library(NULL, 0), code);
    CHECK_EQ(weald_patch_update(), code);
    CHECK_EQ(weald_unpatch(), code);
}

TEST(without_a_descriptor_for_proc_it_is_emfile)
{
    struct rlimit none = {0, 0}, before;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    expect_everywhere(WEALD_EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_GT(weald_patch_all(0), 0);
}

TEST(without_proc_it_is_enoent)
{
    char folder[] = "/tmp/weald-XXXXXX";
    int left;

    CHECK(mkdtemp(folder) != NULL);
    left = chroot(folder) == 0 || (unshare(CLONE_NEWUSER) == 0 && chroot(folder) == 0);
    if (left)
        expect_everywhere(WEALD_ENOENT);
    else
        SKIP("may not change the root");
}

TEST(without_memory_it_is_enomem)
{
    starve();
    expect_everywhere(WEALD_ENOMEM);
    feed();
    CHECK_GT(weald_patch_all(0), 0);
    CHECK_GT(weald_unpatch(), 0);
}

TEST(a_report_that_can_not_be_written_is_an_error)
{
    char zeros[4096] = {0};
    int ends[2];

    CHECK_EQ(weald_patch_report(-1), WEALD_EBADF);
    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    while (write(ends[1], zeros, sizeof zeros) > 0)
        ;
    CHECK_EQ(weald_patch_report(ends[1]), WEALD_EAGAIN);
    close(ends[0]);
    CHECK_EQ(weald_patch_report(ends[1]), WEALD_EPIPE);
}
