/* Insight, and hooks for bindings. */
#include "greenlets.h"
#include "waits.h"
#include <pthread.h>
#include <sys/time.h>

static weald_spawn_options options(void)
{
    weald_spawn_options o;
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    return o;
}

static weald_greenlet named(const char *name, weald_fn fn, void *arg)
{
    weald_spawn_options o = options();
    weald_greenlet g;

    o.name = name;
    g = weald_spawn_with(fn, arg, &o);
    CHECK_GT(g, 0);
    return g;
}

static void join_and_close(weald_greenlet g)
{
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
}

static void *return_it(void *arg) { return arg; }

static weald_event gate;
static void make_gate(void) { CHECK_GT(gate = weald_event_new(0), 0); }
static void *wait_at_gate(void *arg)
{
    weald_event_wait(gate, WEALD_FOREVER);
    return arg;
}

static void *sleep_long(void *arg)
{
    weald_sleep(WEALD_SEC(100));
    return arg;
}

/* ---- the dump ---- */

/* The dump, to be freed. */
static char *dumped(void)
{
    FILE *f = tmpfile();
    char *text;
    long size;

    CHECK(f != NULL);
    CHECK_EQ(weald_dump(fileno(f)), 0);
    CHECK_EQ(fseek(f, 0, SEEK_END), 0);
    size = ftell(f);
    rewind(f);
    text = (char *)calloc(1, (size_t)size + 1);
    CHECK(text != NULL);
    CHECK_EQ(fread(text, 1, (size_t)size, f), size);
    fclose(f);
    return text;
}

/* `part` is in the line of the dump that has `name`. */
static void check_line(const char *dump, const char *name, const char *part)
{
    const char *at = strstr(dump, name);
    char line[1024] = "";

    CHECK_CONTAINS(dump, name);
    while (at > dump && at[-1] != '\n')
        at--;
    strncpy(line, at, strcspn(at, "\n") < sizeof line ? strcspn(at, "\n") : sizeof line - 1);
    CHECK_CONTAINS(line, part);
}

static int empty_pipe[2];
static void *wait_for_pipe(void *arg)
{
    weald_wait_read(empty_pipe[0], WEALD_FOREVER);
    return arg;
}

static void *poll_pipe(void *arg)
{
    struct pollfd fds[2] = {{.fd = empty_pipe[0], .events = POLLIN}, {.fd = -1}};
    weald_poll(fds, 2, WEALD_FOREVER);
    return arg;
}

static void *join_arg(void *g)
{
    weald_join(*(weald_greenlet *)g, WEALD_FOREVER);
    return NULL;
}

static void *switch_home(void *first, void *arg)
{
    (void)arg;
    weald_switch(weald_main(), first, NULL);
    return NULL;
}

TEST(the_dump_tells_each_greenlets_name_state_and_what_it_waits_for)
{
    weald_spawn_options o = options();
    weald_greenlet all[9];
    char *dump, number[32];

    make_gate();
    CHECK_EQ(pipe(empty_pipe), 0);
    all[0] = named("alder", wait_at_gate, NULL);
    all[1] = named("beech", sleep_long, NULL);
    all[2] = named("cedar", wait_for_pipe, NULL);
    all[3] = named("dogwood", poll_pipe, NULL);
    all[4] = named("elm", join_arg, &all[0]);
    all[5] = named("fir", return_it, NULL);
    o.name = "gingko";
    all[6] = weald_coro_new(switch_home, NULL, 0, &o);
    CHECK_EQ(weald_switch(all[6], NULL, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    o.name = "hazel";
    all[7] = weald_greenlet_new(return_it, NULL, &o);
    all[8] = named("ironwood", return_it, NULL);
    dump = dumped();
    check_line(dump, "alder", "event");
    check_line(dump, "beech", "sleep");
    snprintf(number, sizeof number, "descriptor %d", empty_pipe[0]);
    check_line(dump, "cedar", number);
    check_line(dump, "dogwood", "descriptors");
    check_line(dump, "elm", "alder");
    check_line(dump, "fir", "finished");
    check_line(dump, "gingko", "switch");
    check_line(dump, "hazel", "not started");
    check_line(dump, "ironwood", "ready");
    check_line(dump, "main", "running");
    check_line(dump, "alder", "since");
    check_line(dump, "alder", "age");
    check_line(dump, "alder", "spawned at");
    check_line(dump, "alder", "stack");
    free(dump);
    CHECK_EQ(weald_killall(all, 6, 0, WEALD_FOREVER), 0);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(weald_close(all[i]), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(the_dump_marks_the_killed)
{
    weald_greenlet g;
    char *dump;

    make_gate();
    g = named("alder", wait_at_gate, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_NOW), 0);
    dump = dumped();
    check_line(dump, "alder", "killed");
    free(dump);
    join_and_close(g);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(the_dump_of_thousands_has_a_line_for_each)
{
    enum { N = 3000 };
    char *dump;
    int lines = 0;

    make_gate();
    for (int i = 0; i < N; i++)
        CHECK_EQ(weald_go(wait_at_gate, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    dump = dumped();
    for (const char *c = dump; *c; c++)
        lines += *c == '\n';
    CHECK_GE(lines, N + 1);
    free(dump);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(gate), 0);
}

TEST(a_dump_that_can_not_be_written_fails_with_the_code_of_the_write)
{
    int p[2];

    CHECK_EQ(weald_dump(-1), WEALD_EBADF);
    CHECK_EQ(weald_dump(100000), WEALD_EBADF);
    CHECK_EQ(pipe(p), 0);
    CHECK_EQ(weald_dump(p[0]), WEALD_EBADF); /* open for reading alone */
}

/* ---- counters ---- */

TEST(the_counters_follow_the_greenlets)
{
    weald_stats at_first = test_stats(), now;
    weald_greenlet gs[3];

    make_gate();
    CHECK_EQ(pipe(empty_pipe), 0);
    CHECK_EQ(at_first.alive, 0);
    gs[0] = spawned(wait_at_gate, NULL);
    gs[1] = spawned(sleep_long, NULL);
    gs[2] = spawned(wait_for_pipe, NULL);
    now = test_stats();
    CHECK_EQ(now.spawned - at_first.spawned, 3);
    CHECK_EQ(now.finished, at_first.finished);
    CHECK_EQ(now.alive, 3);
    CHECK_EQ(now.ready, 3);
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
    now = test_stats();
    CHECK_EQ(now.ready, 0);
    CHECK_EQ(now.timers, 1);
    CHECK_EQ(now.descriptors, 1);
    CHECK_EQ(now.handles - at_first.handles, 4); /* and the event */
    CHECK_GT(now.stack_bytes, 3 * 256 * 1024 - 1);
    CHECK_GT(now.turns, at_first.turns);
    CHECK_GT(now.polls, at_first.polls);
    CHECK_GT(now.resumes, at_first.resumes);
    CHECK_EQ(weald_killall(gs, 3, 0, WEALD_FOREVER), 0);
    now = test_stats();
    CHECK_EQ(now.finished - at_first.finished, 3);
    CHECK_EQ(now.alive, 0);
    CHECK_EQ(now.timers, 0);
    CHECK_EQ(now.descriptors, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    CHECK_EQ(weald_close(gate), 0);
    CHECK_EQ(test_stats().handles, at_first.handles);
}

TEST(those_that_never_began_are_finished_and_not_alive)
{
    weald_stats at_first = test_stats();
    weald_greenlet closed = weald_greenlet_new(return_it, NULL, NULL);
    weald_greenlet killed = weald_greenlet_new(return_it, NULL, NULL);
    weald_greenlet thrown = weald_coro_new(switch_home, NULL, 0, NULL);

    CHECK_EQ(weald_close(closed), 0);
    CHECK_EQ(weald_kill(killed, 0, WEALD_FOREVER), 0);
    CHECK_EQ(weald_throw(thrown, WEALD_EPIPE, NULL), WEALD_EPIPE);
    CHECK_EQ(test_stats().finished - at_first.finished, 3);
    CHECK_EQ(test_stats().alive, 0);
    CHECK_EQ(weald_close(killed), 0);
    CHECK_EQ(weald_close(thrown), 0);
    CHECK_EQ(test_stats().handles, at_first.handles);
}

TEST(a_size_that_can_not_be_is_einval)
{
    weald_stats s;

    memset(&s, 0, sizeof s);
    CHECK_EQ(weald_stats_get(NULL), WEALD_EINVAL);
    CHECK_EQ(weald_stats_get(&s), WEALD_EINVAL);
    s.size = sizeof s - 1;
    CHECK_EQ(weald_stats_get(&s), WEALD_EINVAL);
    s.size = SIZE_MAX;
    CHECK_EQ(weald_stats_get(&s), WEALD_EINVAL);
}

TEST(a_newer_programs_larger_struct_is_filled_as_far_as_it_is_known)
{
    struct {
        weald_stats known;
        char unknown[64];
    } s;

    memset(&s, 0x55, sizeof s);
    s.known.size = sizeof s;
    CHECK_EQ(weald_stats_get(&s.known), 0);
    CHECK_EQ(s.known.alive, 0);
    CHECK_EQ(s.unknown[0], 0x55);
    CHECK_EQ(s.unknown[63], 0x55);
}

/* ---- the list ---- */

TEST(the_list_has_main_first_and_everybody_once)
{
    weald_greenlet all[8] = {0}, g, h;

    CHECK_EQ(weald_list(all, 8), 1);
    CHECK_EQ(all[0], weald_main());
    g = spawned(return_it, NULL);
    h = weald_greenlet_new(return_it, NULL, NULL);
    CHECK_EQ(weald_list(all, 8), 3);
    CHECK_EQ(all[0], weald_main());
    CHECK((all[1] == g && all[2] == h) || (all[1] == h && all[2] == g));
    CHECK_EQ(weald_close(g), 0); /* it runs on, and is in the list */
    CHECK_EQ(weald_close(h), 0);
    CHECK_EQ(weald_list(all, 8), 2);
    CHECK_EQ(all[1], g);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_list(all, 8), 1);
}

TEST(the_list_is_cut_and_counted_in_full)
{
    weald_greenlet all[2] = {0, 77}, gs[3];

    for (int i = 0; i < 3; i++)
        gs[i] = spawned(return_it, NULL);
    CHECK_EQ(weald_list(all, 1), 4);
    CHECK_EQ(all[0], weald_main());
    CHECK_EQ(all[1], 77);
    CHECK_EQ(weald_list(NULL, 0), 4);
    CHECK_EQ(weald_list(NULL, 1), WEALD_EINVAL);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
}

/* ---- stacks ---- */

static void *check_own_stack(void *arg)
{
    char here;
    void *low, *high;

    CHECK_EQ(weald_stack_bounds(weald_self(), &low, &high), 0);
    CHECK((char *)low <= &here);
    CHECK(&here < (char *)high);
    CHECK_GT(weald_stack_used(weald_self()), 0);
    CHECK_LE(weald_stack_used(weald_self()), (char *)high - (char *)low);
    (void)arg;
    return (void *)((char *)high - (char *)low);
}

TEST(a_greenlets_frames_lie_within_its_stacks_bounds)
{
    const size_t sizes[] = {0, 16 * 1024, 64 * 1024, 1 << 20};
    const size_t expected[] = {256 * 1024, 16 * 1024, 64 * 1024, 1 << 20};

    for (int i = 0; i < 4; i++) {
        weald_spawn_options o = options();
        weald_greenlet g;
        void *size;

        o.stack_size = sizes[i];
        g = weald_spawn_with(check_own_stack, NULL, &o);
        CHECK_EQ(weald_get(g, &size, WEALD_FOREVER), 0);
        CHECK_GE((size_t)size, expected[i]);
        CHECK_LE((size_t)size, expected[i] + 64 * 1024);
        CHECK_EQ(weald_close(g), 0);
    }
}

/* Touches about so many KiB of stack. */
__attribute__((noinline)) static int touch(int kib)
{
    volatile char block[1024];

    memset((char *)block, kib, sizeof block);
    return kib <= 1 ? block[17] : touch(kib - 1) + block[17];
}

static void *touch_and_wait(void *kib)
{
    touch((int)(intptr_t)kib);
    return wait_at_gate(NULL);
}

TEST(the_high_water_mark_of_a_stack_grows_with_its_use)
{
    weald_greenlet little, much;

    if (strcmp(test_under(), "asan") == 0)
        SKIP("frames are larger under ASan");
    make_gate();
    little = spawned(touch_and_wait, (void *)1);
    much = spawned(touch_and_wait, (void *)100);
    CHECK_EQ(weald_yield(), 0);
    CHECK_GT(weald_stack_used(little), 0);
    CHECK_LT(weald_stack_used(little), 64 * 1024);
    CHECK_GE(weald_stack_used(much), 100 * 1024);
    CHECK_LE(weald_stack_used(much), 256 * 1024);
    CHECK_EQ(weald_event_set(gate), 0);
    join_and_close(little);
    join_and_close(much);
    CHECK_EQ(weald_close(gate), 0);
}

/* What is above the frames can be written, and is still there when others have run. */
static void *use_spare(void *arg)
{
    char here;
    void *at, *low, *high;
    int64_t n = weald_stack_spare(&at);

    CHECK_GE(n, 0);
    CHECK_LE(n, 1920);
    if (n == 0) {
        CHECK_PTR(at, NULL);
        CHECK_EQ(weald_yield(), 0); /* and the next one begins on another stack */
        return NULL;
    }
    CHECK_EQ((uintptr_t)at % 16, 0);
    CHECK_EQ(weald_stack_bounds(weald_self(), &low, &high), 0);
    CHECK((char *)at > &here);
    CHECK_PTR((char *)at + n, high);
    memset(at, (int)(intptr_t)arg, (size_t)n);
    CHECK_EQ(weald_yield(), 0);
    touch(2);
    CHECK_EQ(weald_yield(), 0);
    for (int64_t i = 0; i < n; i++)
        CHECK_EQ(((char *)at)[i], (char)(intptr_t)arg);
    return (void *)(intptr_t)n;
}

TEST(what_lies_above_the_frames_is_the_greenlets)
{
    weald_greenlet gs[32];
    int64_t sum = 0;
    void *at = &gate, *n;

    CHECK_EQ(weald_stack_spare(&at), 0);
    CHECK_PTR(at, NULL);
    CHECK_EQ(weald_stack_spare(NULL), WEALD_EINVAL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 32; i++)
            gs[i] = spawned(use_spare, (void *)(intptr_t)(i + 1));
        for (int i = 0; i < 32; i++) {
            CHECK_EQ(weald_get(gs[i], &n, WEALD_FOREVER), 0);
            CHECK_EQ(weald_close(gs[i]), 0);
            sum += (intptr_t)n;
        }
    }
    CHECK_GT(sum, 0);
}

TEST(one_without_a_stack_has_no_bounds)
{
    void *low = &gate, *high = &gate;
    weald_greenlet g = weald_greenlet_new(return_it, NULL, NULL);

    CHECK_EQ(weald_stack_bounds(weald_main(), &low, &high), WEALD_ENOENT);
    CHECK_EQ(weald_stack_used(weald_main()), WEALD_ENOENT);
    CHECK_EQ(weald_stack_bounds(g, &low, &high), WEALD_ENOENT);
    CHECK_EQ(weald_stack_used(g), WEALD_ENOENT);
    CHECK_EQ(weald_start(g), 0);
    CHECK_EQ(weald_stack_bounds(g, &low, &high), WEALD_ENOENT);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_stack_bounds(g, &low, &high), WEALD_ENOENT);
    CHECK_EQ(weald_stack_used(g), WEALD_ENOENT);
    CHECK_PTR(low, &gate);
    CHECK_PTR(high, &gate);
    CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_stack_bounds(g, &low, &high), WEALD_EBADF);
    CHECK_EQ(weald_stack_used(g), WEALD_EBADF);
}

TEST(bounds_need_two_places)
{
    void *at;
    weald_greenlet g;

    make_gate();
    g = spawned(wait_at_gate, NULL);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_stack_bounds(g, NULL, &at), WEALD_EINVAL);
    CHECK_EQ(weald_stack_bounds(g, &at, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_event_set(gate), 0);
    join_and_close(g);
    CHECK_EQ(weald_close(gate), 0);
}

/* ---- user words ---- */

TEST(the_user_word_is_that_of_the_options_until_it_is_set)
{
    weald_spawn_options o = options();
    weald_greenlet g;

    o.user = &o;
    g = weald_spawn_with(return_it, NULL, &o);
    CHECK_PTR(weald_user(g), &o);
    CHECK_EQ(weald_set_user(g, &g), 0);
    CHECK_PTR(weald_user(g), &g);
    CHECK_PTR(weald_user(weald_main()), NULL);
    CHECK_EQ(weald_set_user(weald_main(), &gate), 0);
    CHECK_PTR(weald_user(weald_main()), &gate);
    join_and_close(g);
    CHECK_PTR(weald_user(g), NULL);
    CHECK_EQ(weald_set_user(g, &g), WEALD_EBADF);
    CHECK_PTR(weald_user(0), NULL);
    CHECK_EQ(weald_set_user(-1, NULL), WEALD_EBADF);
}

TEST(the_user_word_does_not_pass_to_the_next_user_of_the_record)
{
    weald_spawn_options o = options();
    weald_greenlet g;

    o.user = &o;
    join_and_close(weald_spawn_with(return_it, NULL, &o));
    g = spawned(return_it, NULL);
    CHECK_PTR(weald_user(g), NULL);
    join_and_close(g);
}

/* ---- hooks ---- */

static char order[512];

/* "+m" main is entered, "-a" the one with the user word "a" is left, "*a" made, "/a" ended. */
static void note(char what, void *user)
{
    char text[8];
    snprintf(text, sizeof text, "%c%s", what, user ? (const char *)user : "?");
    strcat(order, text);
}

static void leave(weald_greenlet g, void *user)
{
    CHECK_EQ(weald_self(), g);
    CHECK_PTR(weald_user(g), user);
    note('-', user);
}

static void enter(weald_greenlet g, void *user)
{
    CHECK_GT(g, 0);
    note('+', user);
}

static void created(weald_greenlet g, void *user)
{
    CHECK_GT(g, 0);
    note('*', user);
}

static void finished(weald_greenlet g, void *user)
{
    CHECK_GT(g, 0);
    note('/', user);
}

static weald_hooks hooks(void)
{
    weald_hooks h;
    memset(&h, 0, sizeof h);
    h.size = sizeof h;
    return h;
}

static void watch_switches(void)
{
    weald_hooks h = hooks();

    h.leave = leave;
    h.enter = enter;
    h.created = created;
    h.finished = finished;
    CHECK_EQ(weald_set_hooks(&h), 0);
    memset(&h, 0xff, sizeof h); /* they are copied */
    CHECK_EQ(weald_set_user(weald_main(), (char[]){"m"}), 0);
}

static weald_greenlet with_user(const char *user, weald_fn fn)
{
    weald_spawn_options o = options();
    weald_greenlet g;

    o.user = (void *)user;
    g = weald_spawn_with(fn, NULL, &o);
    CHECK_GT(g, 0);
    return g;
}

static void *yield_once(void *arg)
{
    strcat(order, ".");
    CHECK_EQ(weald_yield(), 0);
    strcat(order, ".");
    return arg;
}

TEST(hooks_see_every_switch_in_order)
{
    static char m[] = "m";
    weald_greenlet a, b;

    watch_switches();
    CHECK_EQ(weald_set_user(weald_main(), m), 0);
    a = with_user("a", yield_once);
    b = with_user("b", yield_once);
    CHECK_STR(order, "*a*b");
    *order = '\0';
    CHECK_EQ(weald_join(b, WEALD_FOREVER), 0);
    CHECK_STR(order, "-m+a.-a+b.-b+a.-a/a+b.-b/b+m");
    CHECK_EQ(weald_set_hooks(NULL), 0);
    *order = '\0';
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_close(a), 0);
    CHECK_EQ(weald_close(b), 0);
}

static void *switch_home_noting(void *first, void *arg)
{
    strcat(order, ".");
    CHECK_EQ(weald_switch(weald_main(), first, NULL), 0);
    return arg;
}

TEST(hooks_see_main_run_the_loop)
{
    static char m[] = "m";
    weald_greenlet a;

    watch_switches();
    CHECK_EQ(weald_set_user(weald_main(), m), 0);
    a = with_user("a", yield_once);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_STR(order, "*a-m+a..-a/a+m");
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_close(a), 0);
}

TEST(hooks_see_raw_switches)
{
    static char m[] = "m";
    weald_spawn_options o = options();
    weald_greenlet c;

    watch_switches();
    CHECK_EQ(weald_set_user(weald_main(), m), 0);
    o.user = (char[]){"c"};
    c = weald_coro_new(switch_home_noting, NULL, 0, &o);
    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    CHECK_STR(order, "*c-m+c.-c+m");
    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    CHECK_STR(order, "*c-m+c.-c+m-m+c-c/c+m");
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_close(c), 0);
}

static weald_semaphore turn;

static void *watch_and_wake_main(void *arg)
{
    static char m[] = "m", g[] = "g";

    watch_switches();
    CHECK_EQ(weald_set_user(weald_main(), m), 0);
    CHECK_EQ(weald_set_user(weald_self(), g), 0);
    CHECK_EQ(weald_semaphore_release(turn), 0);
    CHECK_EQ(weald_yield(), 0);
    return arg;
}

/* Main left before there were hooks, the short way; it comes back with them. */
TEST(who_waited_when_the_hooks_were_set_is_entered)
{
    weald_greenlet g;

    CHECK_GT(turn = weald_semaphore_new(0), 0);
    g = spawned(watch_and_wake_main, NULL);
    CHECK_EQ(weald_semaphore_acquire(turn, WEALD_FOREVER), 0);
    CHECK_STR(order, "-g+m");
    join_and_close(g);
    CHECK_STR(order, "-g+m-m+g-g/g+m");
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_close(turn), 0);
}

TEST(one_that_never_runs_is_created_and_finished_and_not_entered)
{
    weald_spawn_options o = options();
    weald_greenlet g;

    watch_switches();
    o.user = (char[]){"g"};
    g = weald_greenlet_new(return_it, NULL, &o);
    CHECK_EQ(weald_close(g), 0);
    CHECK_STR(order, "*g/g");
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

TEST(hooks_are_told_of_those_without_a_handle_too)
{
    static char m[] = "m";

    watch_switches();
    CHECK_EQ(weald_set_user(weald_main(), m), 0);
    CHECK_EQ(weald_go(return_it, NULL), 0);
    CHECK_STR(order, "*?");
    CHECK_EQ(weald_yield(), 0);
    CHECK_STR(order, "*?-m+?-?/?+m");
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

/* Hooks should look things up and do no more; one that does more does no harm. */
static int (*meddle)(weald_greenlet);
static int meddled, ran;

static int kill_it(weald_greenlet g) { return weald_kill(g, 0, WEALD_NOW); }

static void meddling(weald_greenlet g, void *user)
{
    (void)user;
    meddled++;
    CHECK_EQ(meddle(g), 0);
}

static void *count_run(void *arg)
{
    ran++;
    return arg;
}

TEST(a_created_hook_that_closes_starts_or_kills_does_no_harm)
{
    static int (*const what[])(weald_greenlet) = {weald_close, weald_start, kill_it};
    weald_spawn_options detached = options(), later = options(), detached_later = options();
    weald_hooks h = hooks();

    detached.flags = detached_later.flags = WEALD_SPAWN_DETACHED;
    later.delay_ns = detached_later.delay_ns = WEALD_MS(1);
    h.created = meddling;
    for (int i = 0; i < 3; i++) {
        int closes = what[i] == weald_close, runs = what[i] != kill_it;
        weald_greenlet g[3];
        uint64_t handles;

        meddle = what[i];
        meddled = ran = 0;
        handles = test_stats().handles;
        CHECK_EQ(weald_set_hooks(&h), 0);
        g[0] = weald_spawn(count_run, NULL);
        g[1] = weald_spawn_with(count_run, NULL, &later);
        g[2] = weald_greenlet_new(count_run, NULL, NULL);
        CHECK_EQ(weald_go(count_run, NULL), 0);
        CHECK_EQ(weald_spawn_with(count_run, NULL, &detached), 0);
        CHECK_EQ(weald_spawn_with(count_run, NULL, &detached_later), 0);
        CHECK_EQ(weald_set_hooks(NULL), 0);
        CHECK_EQ(meddled, 6);
        if (closes)
            CHECK_EQ(weald_start(g[2]), 0);
        CHECK_EQ(weald_run(WEALD_FOREVER), 0);
        CHECK_EQ(ran, runs ? 6 : 0);
        for (int k = 0; k < 3; k++)
            CHECK_EQ(weald_close(g[k]), 0); /* the spawner has it all the same */
        CHECK_EQ(test_stats().handles, handles);
        CHECK_EQ(test_stats().alive, 0);
    }
}

TEST(hooks_of_an_impossible_size_are_einval)
{
    weald_hooks h = hooks();

    h.size = 0;
    CHECK_EQ(weald_set_hooks(&h), WEALD_EINVAL);
    h.size = sizeof h - 1;
    CHECK_EQ(weald_set_hooks(&h), WEALD_EINVAL);
    h.size = SIZE_MAX;
    CHECK_EQ(weald_set_hooks(&h), WEALD_EINVAL);
}

TEST(the_larger_hooks_of_a_newer_program_are_understood)
{
    struct {
        weald_hooks known;
        char unknown[64];
    } h;

    memset(&h, 0, sizeof h);
    h.known.size = sizeof h;
    h.known.leave = leave;
    h.known.enter = enter;
    CHECK_EQ(weald_set_hooks(&h.known), 0);
    join_and_close(with_user("a", return_it));
    CHECK_STR(order, "-?+a-a+?");
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

static int park_allowed, park_asked;
static int may_park(void)
{
    park_asked++;
    return park_allowed;
}

static void forbid_parking(void)
{
    weald_hooks h = hooks();
    h.may_park = may_park;
    CHECK_EQ(weald_set_hooks(&h), 0);
}

TEST(a_binding_that_forbids_to_suspend_makes_every_wait_eperm)
{
    waits_prepare();
    forbid_parking();
    for (int i = 0; i < WAITS; i++)
        WAITS_CHECK(&waits[i], waits[i].call(WEALD_FOREVER), WEALD_EPERM);
    for (int i = 0; i < WAITS; i++)
        if (!(waits[i].what & WAITS_FOR_TIME))
            WAITS_CHECK(&waits[i], waits[i].call(weald_after(WEALD_SEC(10))), WEALD_EPERM);
    CHECK_EQ(weald_idle(0), WEALD_EPERM);
    CHECK_EQ(weald_sleep_until(WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_go(return_it, NULL), 0);
    CHECK_EQ(weald_yield(), WEALD_EPERM);
    CHECK_GT(park_asked, 0);
    park_allowed = 1;
    for (int i = 0; i < WAITS; i++)
        if (!(waits[i].what & WAITS_FOR_TIME))
            WAITS_CHECK(&waits[i], waits[i].call(weald_after(WEALD_MS(1))),
                        waits[i].what & WAITS_AND_RETURNS_0 ? 0 : WEALD_ETIMEDOUT);
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

TEST(what_does_not_wait_is_not_forbidden)
{
    waits_prepare();
    forbid_parking();
    for (int i = 0; i < WAITS; i++)
        if (!(waits[i].what & WAITS_FOR_TIME))
            WAITS_CHECK(&waits[i], waits[i].call(WEALD_NOW), waits[i].what & WAITS_AND_RETURNS_0 ? 0 : WEALD_EAGAIN);
    CHECK_EQ(weald_kill(waits_greenlet, 0, WEALD_NOW), 0);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_EQ(weald_join(waits_greenlet, WEALD_FOREVER), 0);
    CHECK_EQ(weald_join(waits_greenlet, WEALD_FOREVER), 0);
}

static int began, ended, interrupted;
static void block_begin(void)
{
    CHECK_EQ(began, ended);
    began++;
}

static void block_end(int by_a_signal)
{
    ended++;
    CHECK_EQ(began, ended);
    interrupted += by_a_signal;
}

static void watch_blocking(void)
{
    weald_hooks h = hooks();
    h.block_begin = block_begin;
    h.block_end = block_end;
    CHECK_EQ(weald_set_hooks(&h), 0);
}

TEST(the_sleep_in_the_kernel_is_announced_and_its_end_too)
{
    watch_blocking();
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_GE(began, 1);
    CHECK_EQ(began, ended);
    CHECK_EQ(interrupted, 0);
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

static int looked;
static void look_round(void)
{
    looked++;
    CHECK_EQ(weald_self(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(1)), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_yield(), WEALD_EWOULDBLOCK);
}
static void look_round_again(int interrupted)
{
    (void)interrupted;
    look_round();
}

TEST(the_hooks_around_the_sleep_are_the_loops)
{
    weald_hooks h = hooks();

    h.block_begin = look_round;
    h.block_end = look_round_again;
    CHECK_EQ(weald_set_hooks(&h), 0);
    CHECK_EQ(weald_go(return_it, NULL), 0); /* it has ended when the loop sleeps */
    CHECK_EQ(weald_sleep(WEALD_MS(100)), 0);
    CHECK_GE(looked, 2);
    CHECK_EQ(weald_self(), weald_main());
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

TEST(a_turn_that_does_not_sleep_is_not_announced)
{
    watch_blocking();
    CHECK_EQ(weald_go(return_it, NULL), 0);
    CHECK_GE(weald_run_once(WEALD_RUN_NOWAIT), 0);
    CHECK_GE(weald_hub_step(), 0);
    CHECK_EQ(began, 0);
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

static void nothing(int signo) { (void)signo; }

TEST(a_signal_that_ends_the_sleep_in_the_kernel_is_told)
{
    struct itimerval once = {{0, 0}, {0, 20000}};
    int64_t start = test_clock();

    signal(SIGALRM, nothing);
    watch_blocking();
    CHECK_EQ(setitimer(ITIMER_REAL, &once, NULL), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(100)), 0);
    CHECK_GE(test_clock() - start, WEALD_MS(100));
    CHECK_EQ(interrupted, 1);
    CHECK_EQ(began, ended);
    CHECK_EQ(weald_set_hooks(NULL), 0);
}

static void *no_hooks_here(void *arg)
{
    join_and_close(spawned(return_it, NULL));
    return arg;
}

TEST(hooks_are_this_threads_alone)
{
    pthread_t thread;

    watch_switches();
    CHECK_EQ(pthread_create(&thread, NULL, no_hooks_here, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_STR(order, "");
    CHECK_EQ(weald_set_hooks(NULL), 0);
}
