/* Files in the thread pool: weald_file_, weald_folder_. */
#include "starve.h"
#include "errors.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- a folder of our own ---- */

static char folder[] = "/tmp/weald-file-XXXXXX";

static void remove_folder(void)
{
    char command[64];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        perror(command);
}

static const char *in_folder(const char *name)
{
    static char paths[8][64];
    static int next;
    char *path = paths[next++ % 8];

    if (strstr(folder, "XXXXXX"))
        CHECK(mkdtemp(folder));
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int open_new(const char *name)
{
    int fd = weald_file_open(in_folder(name), O_RDWR | O_CREAT | O_EXCL, 0600, WEALD_FOREVER);

    CHECK_GE(fd, 0);
    return fd;
}

static void close_file(int fd) { CHECK_EQ(weald_file_close(fd, WEALD_FOREVER), 0); }

/* ---- what they do ---- */

TEST(a_file_is_written_read_and_closed)
{
    char text[64] = "";
    int fd = open_new("file"), fds = test_fds();

    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(weald_file_write(fd, "hello, world", 12, 0, WEALD_FOREVER), 12);
    CHECK_EQ(weald_file_write(fd, "W", 1, 7, WEALD_FOREVER), 1);
    CHECK_EQ(weald_file_write(fd, "!", 1, 20, WEALD_FOREVER), 1);
    CHECK_EQ(weald_file_write(fd, NULL, 0, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_sync(fd, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_sync(fd, 1, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_read(fd, text, sizeof text, 0, WEALD_FOREVER), 21);
    CHECK_EQ(memcmp(text, "hello, World\0\0\0\0\0\0\0\0!", 21), 0);
    CHECK_EQ(weald_file_read(fd, text, 5, 7, WEALD_FOREVER), 5);
    CHECK_EQ(memcmp(text, "World", 5), 0);
    CHECK_EQ(weald_file_read(fd, text, 5, 21, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_read(fd, text, 5, (int64_t)1 << 40, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_read(fd, NULL, 0, 0, WEALD_FOREVER), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(weald_file_truncate(fd, 5, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_read(fd, text, sizeof text, 0, WEALD_FOREVER), 5);
    close_file(fd);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
    CHECK_EQ(test_fds(), fds - 1);
    remove_folder();
}

TEST(more_than_one_piece_is_moved_in_one_call)
{
    enum { MUCH = (5 << 20) + 77 };
    char *there = malloc(MUCH), *back = calloc(1, MUCH + 100);
    int fd = open_new("large");

    for (int i = 0; i < MUCH; i++)
        there[i] = (char)(i * 13 + i / 5000);
    CHECK_EQ(weald_file_write(fd, there, MUCH, 3, WEALD_FOREVER), MUCH);
    CHECK_EQ(weald_file_read(fd, back, MUCH + 100, 3, WEALD_FOREVER), MUCH);
    CHECK_EQ(memcmp(there, back, MUCH), 0);
    /* From the disk, if the system forgets what it was asked to. */
    CHECK_EQ(weald_file_sync(fd, 0, WEALD_FOREVER), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    memset(back, 0, MUCH);
    CHECK_EQ(weald_file_read(fd, back, MUCH + 100, 3, WEALD_FOREVER), MUCH);
    CHECK_EQ(memcmp(there, back, MUCH), 0);
    close_file(fd);
    free(there);
    free(back);
    remove_folder();
}

TEST(what_is_in_memory_is_read_at_once)
{
    char text[5] = "";
    int fd = open_new("file");
    int64_t n;

    CHECK_EQ(weald_file_write(fd, "hello", 5, 0, WEALD_FOREVER), 5);
    n = weald_file_read(fd, text, 5, 0, WEALD_NOW);
    if (n == WEALD_EAGAIN)
        SKIP("this file system can not be asked so");
    CHECK_EQ(n, 5);
    CHECK_EQ(memcmp(text, "hello", 5), 0);
    close_file(fd);
    remove_folder();
}

TEST(a_file_says_what_it_is)
{
    struct stat by_name, of_link, by_fd, theirs;
    int fd = open_new("file");

    CHECK_EQ(weald_file_write(fd, "12345", 5, 0, WEALD_FOREVER), 5);
    CHECK_EQ(symlink("file", in_folder("link")), 0);
    CHECK_EQ(weald_file_stat(in_folder("link"), &by_name, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_lstat(in_folder("link"), &of_link, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_fstat(fd, &by_fd, WEALD_FOREVER), 0);
    CHECK_EQ(fstat(fd, &theirs), 0);
    CHECK_EQ(by_name.st_size, 5);
    CHECK_EQ(by_name.st_ino, theirs.st_ino);
    CHECK_EQ(by_fd.st_ino, theirs.st_ino);
    CHECK_EQ(by_fd.st_mtime, theirs.st_mtime);
    CHECK(S_ISREG(by_name.st_mode));
    CHECK(S_ISLNK(of_link.st_mode));
    close_file(fd);
    remove_folder();
}

TEST(names_come_go_and_change)
{
    close_file(open_new("file"));
    CHECK_EQ(weald_folder_make(in_folder("sub"), 0700, WEALD_FOREVER), 0);
    CHECK_EQ(weald_folder_make(in_folder("sub"), 0700, WEALD_FOREVER), -EEXIST);
    CHECK_EQ(weald_file_rename(in_folder("file"), in_folder("sub/other"), WEALD_FOREVER), 0);
    CHECK_EQ(access(in_folder("sub/other"), F_OK), 0);
    CHECK_EQ(weald_file_rename(in_folder("sub"), in_folder("sub/sub"), WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_folder_remove(in_folder("sub"), WEALD_FOREVER), -ENOTEMPTY);
    CHECK_EQ(weald_file_remove(in_folder("sub/other"), WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_remove(in_folder("sub/other"), WEALD_FOREVER), WEALD_ENOENT);
    CHECK_EQ(weald_folder_remove(in_folder("sub"), WEALD_FOREVER), 0);
    CHECK_EQ(weald_folder_remove(in_folder("sub"), WEALD_FOREVER), WEALD_ENOENT);
    CHECK_EQ(weald_file_rename(in_folder("sub"), in_folder("x"), WEALD_FOREVER), WEALD_ENOENT);
    CHECK_EQ(weald_folder_make(in_folder("no/sub"), 0700, WEALD_FOREVER), WEALD_ENOENT);
    CHECK_EQ(rmdir(folder), 0);
}

static void check_next(weald_folder f, const char *name, int kind)
{
    const char *is;
    int is_kind;

    CHECK_EQ(weald_folder_next(f, &is, &is_kind), 1);
    CHECK_STR(is, name);
    if (is_kind != DT_UNKNOWN)
        CHECK_EQ(is_kind, kind);
}

TEST(a_folder_tells_what_it_holds_in_order)
{
    const char *name = "kept";
    int kind = 77, fds;
    weald_folder f;

    close_file(open_new("b"));
    close_file(open_new("a"));
    close_file(open_new("B"));
    CHECK_EQ(mkdir(in_folder("c"), 0700), 0);
    fds = test_fds();
    CHECK_GT(f = weald_folder_read(folder, WEALD_FOREVER), 0);
    CHECK_EQ(weald_kind(f), WEALD_KIND_FOLDER);
    CHECK_EQ(test_fds(), fds);
    check_next(f, "B", DT_REG);
    check_next(f, "a", DT_REG);
    CHECK_EQ(weald_folder_next(f, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_folder_next(f, &name, NULL), 1);
    CHECK_STR(name, "b");
    check_next(f, "c", DT_DIR);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weald_folder_next(f, &name, &kind), 0);
        CHECK_STR(name, "b");
        CHECK_EQ(kind, 77);
    }
    CHECK_EQ(weald_close(f), 0);
    CHECK_EQ(weald_folder_next(f, &name, &kind), WEALD_EBADF);
    CHECK_EQ(weald_folder_read(in_folder("a"), WEALD_FOREVER), -ENOTDIR);
    CHECK_EQ(rmdir(in_folder("c")), 0);
    CHECK_GT(f = weald_folder_read("/proc/self/fd", WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(f), 0);
    remove_folder();
}

static weald_folder theirs;

static void of_another_thread(void)
{
    const char *name;
    CHECK_EQ(weald_folder_next(theirs, &name, NULL), WEALD_EPERM);
}

TEST(a_folder_is_for_its_own_thread)
{
    CHECK_GT(theirs = weald_folder_read("/", WEALD_FOREVER), 0);
    in_another_thread(of_another_thread);
    CHECK_EQ(weald_close(theirs), 0);
}

TEST(mistakes_have_their_codes)
{
    char text[8] = "kept";
    struct stat s;
    int fd = open_new("file"), read_only;

    CHECK_GE(read_only = weald_file_open(in_folder("file"), O_RDONLY, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_file_open(NULL, O_RDONLY, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_open("/no/such/file", O_RDONLY, 0, WEALD_FOREVER), WEALD_ENOENT);
    CHECK_EQ(weald_file_open("/", O_RDWR, 0, WEALD_FOREVER), -EISDIR);
    CHECK_EQ(weald_file_close(-1, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_close(999, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_read(999, text, 4, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_read(fd, NULL, 4, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_read(fd, text, 4, -1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_write(999, text, 4, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_write(999, text, 0, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_write(read_only, text, 4, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_write(fd, NULL, 4, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_write(fd, text, 4, -1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_write(fd, text, 4, INT64_MAX - 2, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_sync(999, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_truncate(999, 0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_truncate(fd, -1, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_truncate(read_only, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_stat(NULL, &s, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_stat("/", NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_stat("/no/such", &s, WEALD_FOREVER), WEALD_ENOENT);
    CHECK_EQ(weald_file_lstat(NULL, &s, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_lstat("/no/such", &s, WEALD_FOREVER), WEALD_ENOENT);
    CHECK_EQ(weald_file_fstat(fd, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_fstat(999, &s, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_file_rename(NULL, "x", WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_rename("x", NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_file_remove(NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_folder_make(NULL, 0700, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_folder_remove(NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_folder_read(NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_folder_read("/no/such", WEALD_FOREVER), WEALD_ENOENT);
    CHECK_STR(text, "kept");
    close_file(fd);
    close_file(read_only);
    remove_folder();
}

TEST(no_descriptors_no_file)
{

    CHECK_GT(weald_self(), 0);
    test_take_descriptors(40);
    CHECK_EQ(weald_file_open("/", O_RDONLY, 0, WEALD_FOREVER), WEALD_EMFILE);
    CHECK_EQ(weald_folder_read("/", WEALD_FOREVER), WEALD_EMFILE);
}

/* ---- calls that are cut short ---- */

enum { THREADS = 16 };
static int file;    /* open, and empty */
static int unasked; /* one that can not say what is in memory */
static weald_greenlet stuck[THREADS];

static void *open_fifo(void *unused)
{
    int fd = weald_file_open(in_folder("fifo"), O_RDONLY, 0, WEALD_FOREVER);

    CHECK_GE(fd, 0);
    close_file(fd);
    return unused;
}

/* All threads wait in open(2), for somebody who writes to a pipe. */
static void stick(void)
{
    if (!file) {
        file = open_new("file");
        CHECK_GE(unasked = open("/proc/self/status", O_RDONLY), 0);
        CHECK_EQ(mkfifo(in_folder("fifo"), 0600), 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_GT(stuck[i] = weald_spawn(open_fifo, NULL), 0);
    CHECK_EQ(weald_sleep(test_slack(WEALD_MS(20))), 0);
}

static void unstick(void)
{
    int fd = open(in_folder("fifo"), O_WRONLY | O_NONBLOCK);

    CHECK_GE(fd, 0);
    CHECK_EQ(weald_joinall(stuck, THREADS, 0, 0, WEALD_FOREVER), THREADS);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(weald_close(stuck[i]), 0);
    close(fd);
}

static int64_t deadline = WEALD_FOREVER;
static struct stat untouched;
static char buffer[4096];

static int64_t f_open(void) { return weald_file_open("/", O_RDONLY, 0, deadline); }
static int64_t f_close(void) { return weald_file_close(dup(file), deadline); }
static int64_t f_read(void) { return weald_file_read(unasked, buffer, sizeof buffer, 0, deadline); }
static int64_t f_write(void) { return weald_file_write(file, "x", 1, 0, deadline); }
static int64_t f_sync(void) { return weald_file_sync(file, 0, deadline); }
static int64_t f_truncate(void) { return weald_file_truncate(file, 9, deadline); }
static int64_t f_stat(void) { return weald_file_stat("/", &untouched, deadline); }
static int64_t f_lstat(void) { return weald_file_lstat("/", &untouched, deadline); }
static int64_t f_fstat(void) { return weald_file_fstat(file, &untouched, deadline); }
static int64_t f_rename(void) { return weald_file_rename(in_folder("file"), in_folder("new"), deadline); }
static int64_t f_remove(void) { return weald_file_remove(in_folder("file"), deadline); }
static int64_t f_make(void) { return weald_folder_make(in_folder("sub"), 0700, deadline); }
static int64_t f_remove_folder(void) { return weald_folder_remove(in_folder("kept"), deadline); }
static int64_t f_list(void) { return weald_folder_read("/", deadline); }

static const errors_call calls[] = {f_open, f_close, f_read, f_write, f_sync, f_truncate, f_stat, f_lstat, f_fstat,
                                    f_rename, f_remove, f_make, f_remove_folder, f_list};
enum { CALLS = sizeof calls / sizeof *calls };

static void nothing_was_done(void)
{
    struct stat s;

    CHECK_EQ(fstat(file, &s), 0);
    CHECK_EQ(s.st_size, 0);
    CHECK_EQ(s.st_nlink, 1);
    CHECK_EQ(access(in_folder("file"), F_OK), 0);
    CHECK_EQ(access(in_folder("new"), F_OK), -1);
    CHECK_EQ(access(in_folder("sub"), F_OK), -1);
    CHECK_EQ(access(in_folder("kept"), F_OK), 0);
    CHECK_EQ(untouched.st_mode, 0);
    CHECK_EQ(buffer[0], 0);
}

TEST_WITH_LIMIT(a_call_that_is_cut_short_before_it_begins_never_does, 60)
{
    int fds;

    CHECK_EQ(mkdir(in_folder("kept"), 0700), 0);
    stick();
    fds = test_fds();
    for (int i = 0; i < CALLS; i++) {
        deadline = WEALD_NOW;
        CHECK_EQ(calls[i](), WEALD_EAGAIN);
        deadline = weald_after(WEALD_MS(2));
        CHECK_EQ(calls[i](), WEALD_ETIMEDOUT);
        deadline = WEALD_FOREVER;
        CHECK_EQ(when_killed(calls[i]), WEALD_ECANCELED);
        CHECK_EQ(in_a_timeout(calls[i]), WEALD_ETIMEDOUT);
        CHECK_EQ(in_a_callback(calls[i]), WEALD_EWOULDBLOCK);
        CHECK_EQ(when_forbidden(calls[i]), WEALD_EPERM);
        CHECK_EQ(test_fds(), fds); /* weald_file_close closes in any case */
    }
    unstick();
    nothing_was_done();
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(test_fds(), fds);
    remove_folder();
}

static void free_the_threads(weald_watcher w, int what, void *user)
{
    (void)w, (void)what, (void)user;
    CHECK_GE(open(in_folder("fifo"), O_WRONLY | O_NONBLOCK), 0);
}

TEST_WITH_LIMIT(in_a_child_that_a_callback_forks_nobody_is_waited_for, 60)
{
    CHECK_EQ(mkdir(in_folder("kept"), 0700), 0);
    for (int i = 0; i < CALLS; i++) {
        weald_watcher later = weald_timer_watcher(WEALD_MS(30), 0, free_the_threads, NULL);
        int fd;

        if (i == 0)
            stick();
        CHECK_EQ(weald_watcher_start(later), 0);
        CHECK_EQ(in_a_forked_child(calls[i]), WEALD_EDEADLK);
        CHECK_EQ(weald_joinall(stuck, THREADS, 0, 0, WEALD_FOREVER), THREADS);
        CHECK_EQ(weald_close(later), 0);
        for (fd = 3; fd < 100; fd++)
            if (fd != file && fcntl(fd, F_GETFL) != -1 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
                close(fd);
        if (calls[i] == f_rename)
            CHECK_EQ(rename(in_folder("new"), in_folder("file")), 0);
        if (i + 1 < CALLS)
            stick();
    }
    remove_folder();
}

static void *open_late(void *code)
{
    *(int *)code = weald_file_open(in_folder("fifo"), O_RDONLY, 0, weald_after(WEALD_MS(10)));
    return NULL;
}

TEST(an_open_that_succeeds_too_late_leaves_no_descriptor)
{
    int fds, code = 77, fd;

    CHECK_EQ(mkfifo(in_folder("fifo"), 0600), 0);
    CHECK_GT(weald_self(), 0);
    fds = test_fds();
    open_late(&code);
    CHECK_EQ(code, WEALD_ETIMEDOUT);
    signal(SIGPIPE, SIG_IGN);
    /* Now it succeeds: at once, or when the thread has come as far as to wait for it. */
    while ((fd = open(in_folder("fifo"), O_WRONLY | O_NONBLOCK)) < 0 && errno == ENXIO)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_GE(fd, 0);
    while (write(fd, "", 1) == 1) /* until the late one has closed its end */
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    close(fd);
    CHECK_EQ(test_fds(), fds);
    remove_folder();
}

TEST(without_a_thread_to_be_had_there_is_eagain)
{
    struct rlimit limit, none;

    if (*test_under())
        SKIP("limits on address space are not for checkers");
    CHECK_GT(weald_self(), 0);
    CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
    none = limit;
    none.rlim_cur = 1 << 20;
    CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
    CHECK_EQ(f_stat(), WEALD_EAGAIN);
    CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
    CHECK_EQ(f_stat(), 0);
}

TEST_WITH_LIMIT(nobody_waits_for_a_file_without_memory, 60)
{
    CHECK_EQ(mkdir(in_folder("kept"), 0700), 0);
    stick();
    starve();
    for (int i = 0; i < CALLS; i++) {
        deadline = soon();
        CHECK_EQ(calls[i](), WEALD_ENOMEM);
    }
    feed();
    unstick();
    nothing_was_done();
    remove_folder();
}

/* ---- storms ---- */

enum { FILES = 8 };

static void *use_a_file(void *arg)
{
    int number = (int)(intptr_t)arg, fd;
    char name[16], text[600], back[600];
    struct stat s;

    snprintf(name, sizeof name, "storm-%d", number);
    CHECK_GE(fd = open_new(name), 0);
    for (int i = 0; i < test_rounds(200); i++) {
        int64_t at = (i * 37) % 1000, n = 1 + (i * 91) % 600;

        memset(text, i + number, sizeof text);
        CHECK_EQ(weald_file_write(fd, text, (size_t)n, at, WEALD_FOREVER), n);
        if (i % 10 == 0)
            weald_file_read(fd, back, sizeof back, 5000, weald_after(WEALD_US(i % 20)));
        CHECK_EQ(weald_file_read(fd, back, (size_t)n, at, WEALD_FOREVER), n);
        CHECK_EQ(memcmp(text, back, (size_t)n), 0);
        CHECK_EQ(weald_file_fstat(fd, &s, WEALD_FOREVER), 0);
        CHECK_GE(s.st_size, at + n);
    }
    close_file(fd);
    return NULL;
}

TEST_WITH_LIMIT(many_greenlets_use_many_files, 60)
{
    weald_greenlet gs[FILES];

    in_folder("");
    for (int i = 0; i < FILES; i++)
        CHECK_GT(gs[i] = weald_spawn(use_a_file, (void *)(intptr_t)i), 0);
    CHECK_EQ(weald_joinall(gs, FILES, 0, 0, WEALD_FOREVER), FILES);
    remove_folder();
}
