/* Runs a program as on Linux 5.10: what is newer is not there. Its answers are the kernel's own of that time. A program
 * cannot get rid of it, nor can its children.
 *
 *     older PROGRAM ARGUMENT...
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers and flags that an older libc does not know: they are the same on every machine. */
enum {
    IO_URING_SETUP = 425,
    PROCESS_MADVISE = 440,
    EPOLL_PWAIT2 = 441,
    MSEAL = 462,

    POPULATE_READ = 22,  /* madvise, 5.14 */
    POPULATE_WRITE = 23, /* 5.14 */
    COLLAPSE = 25,       /* 6.1, and all that came after it: guards 6.13 */

    RWF_KNOWN = 0x1f, /* preadv2, pwritev2: up to RWF_APPEND */
};

#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define GO_ON_IF(test, value, skip) BPF_JUMP(BPF_JMP | (test) | BPF_K, value, 0, skip)
#define FAIL(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define FAIL_IF(test, value, error) GO_ON_IF(test, value, 1), FAIL(error)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static struct sock_filter program[] = {
    LOAD(nr),
    FAIL_IF(BPF_JEQ, EPOLL_PWAIT2, ENOSYS),
    FAIL_IF(BPF_JEQ, MSEAL, ENOSYS),
    FAIL_IF(BPF_JEQ, IO_URING_SETUP, ENOSYS), /* it is older, and turned off in many places */
    FAIL_IF(BPF_JEQ, PROCESS_MADVISE, ENOSYS),

    GO_ON_IF(BPF_JEQ, SYS_madvise, 8),
    LOAD(args[2]),
    FAIL_IF(BPF_JGE, COLLAPSE, EINVAL),
    FAIL_IF(BPF_JEQ, POPULATE_READ, EINVAL),
    FAIL_IF(BPF_JEQ, POPULATE_WRITE, EINVAL),
    ALLOW,

    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 1, 0),
    GO_ON_IF(BPF_JEQ, SYS_pwritev2, 3),
    LOAD(args[5]),
    FAIL_IF(BPF_JSET, (__u32)~RWF_KNOWN, EOPNOTSUPP),

    ALLOW,
};

int main(int argc, char **argv)
{
    struct sock_fprog filter = {sizeof program / sizeof *program, program};

    if (argc < 2)
        return fprintf(stderr, "usage: %s PROGRAM ARGUMENT...\n", argv[0]), 2;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        return perror("seccomp"), 2;
    execv(argv[1], argv + 1);
    return perror(argv[1]), 2;
}
