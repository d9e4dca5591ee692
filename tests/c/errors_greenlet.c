/* Codes of functions on greenlets and coroutines, where other tests do not provoke them. */
#include "errors.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

static weald_group full;
static weald_event gate; /* never set */
static weald_greenlet member, target;
static int destroyed;

static void *wait_for_gate(void *unused)
{
    weald_event_wait(gate, WEALD_FOREVER);
    return unused;
}

static void *end(void *unused) { return unused; }
static void *pass(void *first, void *unused)
{
    (void)unused;
    return first;
}
static void count(void *unused)
{
    (void)unused;
    destroyed++;
}

/* A pool whose only member waits for ever. */
static void fill_a_pool(void)
{
    LEAKS("the member of the pool is abandoned");
    CHECK_GT(gate = weald_event_new(0), 0);
    CHECK_GT(full = weald_pool_new(1), 0);
    CHECK_GT(member = weald_group_spawn(full, wait_for_gate, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
}

static weald_spawn_options in_pool(void)
{
    return (weald_spawn_options){.size = sizeof(weald_spawn_options), .group = full, .destroy = count};
}

static int64_t spawn_with(void)
{
    weald_spawn_options o = in_pool();
    return weald_spawn_with(end, NULL, &o);
}
static int64_t greenlet_new(void)
{
    weald_spawn_options o = in_pool();
    return weald_greenlet_new(end, NULL, &o);
}
static int64_t coro_new(void)
{
    weald_spawn_options o = in_pool();
    return weald_coro_new(pass, NULL, 0, &o);
}
static const errors_call makers[] = {spawn_with, greenlet_new, coro_new};
enum { MAKERS = sizeof makers / sizeof *makers };

TEST(a_greenlet_that_is_killed_while_it_waits_for_room_makes_none)
{
    fill_a_pool();
    for (int i = 0; i < MAKERS; i++)
        CHECK_EQ(when_killed(makers[i]), WEALD_ECANCELED);
    CHECK_EQ(weald_group_len(full), 1);
    CHECK_EQ(destroyed, 0); /* the argument stays the caller's */
}

TEST(a_timeout_bounds_the_wait_for_room)
{
    fill_a_pool();
    for (int i = 0; i < MAKERS; i++)
        CHECK_EQ(in_a_timeout(makers[i]), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_group_len(full), 1);
}

TEST(a_callback_does_not_wait_for_room)
{
    fill_a_pool();
    for (int i = 0; i < MAKERS; i++)
        CHECK_EQ(in_a_callback(makers[i]), WEALD_EWOULDBLOCK);
}

TEST(room_that_nobody_will_give_is_a_deadlock)
{
    fill_a_pool();
    for (int i = 0; i < MAKERS; i++)
        CHECK_EQ(in_a_deadlock(makers[i]), WEALD_EDEADLK);
    CHECK_EQ(weald_group_len(full), 1);
}

TEST(a_hook_forbids_to_wait_for_room)
{
    fill_a_pool();
    for (int i = 0; i < MAKERS; i++)
        CHECK_EQ(when_forbidden(makers[i]), WEALD_EPERM);
}

TEST(a_pool_that_is_closed_while_somebody_waits_for_room_is_ebadf)
{
    fill_a_pool();
    for (int i = 0; i < MAKERS; i++) {
        struct errors_wait wait = {makers[i], 0, 0};
        CHECK_EQ(weald_go(errors_make, &wait), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(wait.ended, 0);
        CHECK_EQ(weald_close(full), 0);
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(wait.code, WEALD_EBADF);
        CHECK_EQ(makers[i](), WEALD_EBADF);
        CHECK_GT(full = weald_pool_new(1), 0);
        CHECK_EQ(weald_group_add(full, member, WEALD_NOW), 0);
    }
}

static void make_elsewhere(void)
{
    for (int i = 0; i < MAKERS; i++)
        CHECK_EQ(makers[i](), WEALD_EPERM);
    CHECK_EQ(weald_coro_new(pass, NULL, member, NULL), WEALD_EPERM);
}

TEST(another_thread_s_pool_is_eperm)
{
    fill_a_pool();
    in_another_thread(make_elsewhere);
}

static int64_t kill_it(void) { return weald_kill(target, 0, WEALD_FOREVER); }
static int64_t kill_all(void) { return weald_killall(&target, 1, 0, WEALD_FOREVER); }

TEST(a_callback_kills_nobody_if_it_would_wait_for_the_end)
{
    fill_a_pool();
    target = member;
    CHECK_EQ(in_a_callback(kill_it), WEALD_EWOULDBLOCK);
    CHECK_EQ(in_a_callback(kill_all), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_kill_reason(member), 0);
}

static int64_t kill_twice(void)
{
    weald_greenlet both[] = {target, target};
    int64_t code = weald_killall(both, 2, 0, WEALD_FOREVER);

    return code ? code : weald_killall(NULL, 0, 0, WEALD_FOREVER);
}
static int64_t kill_members(void) { return weald_group_kill(full, 0, WEALD_FOREVER); }

/* As a join does there. */
TEST(a_callback_may_kill_what_has_ended_or_does_not_even_have_members)
{
    fill_a_pool();
    target = member;
    CHECK_EQ(weald_kill(member, 0, WEALD_FOREVER), 0);
    CHECK_EQ(in_a_callback(kill_it), 0);
    CHECK_EQ(in_a_callback(kill_all), 0);
    CHECK_EQ(in_a_callback(kill_twice), 0);
    CHECK_EQ(in_a_callback(kill_members), 0);
    CHECK_EQ(when_forbidden(kill_it), 0);
    CHECK_EQ(when_forbidden(kill_all), 0);
    CHECK_EQ(when_forbidden(kill_members), 0);
}

static int64_t switch_to(void) { return weald_switch(target, NULL, NULL); }
static int64_t throw_into(void) { return weald_throw(target, WEALD_EINTR, NULL); }

static int64_t switch_when_time_is_up(void)
{
    CHECK_EQ(weald_sleep(WEALD_SEC(1)), WEALD_ETIMEDOUT);
    return switch_to();
}
static int64_t throw_when_time_is_up(void)
{
    CHECK_EQ(weald_sleep(WEALD_SEC(1)), WEALD_ETIMEDOUT);
    return throw_into();
}

TEST(nobody_switches_when_the_time_of_a_timeout_is_up)
{
    CHECK_GT(target = weald_coro_new(pass, NULL, 0, NULL), 0);
    CHECK_EQ(in_a_timeout(switch_when_time_is_up), WEALD_ETIMEDOUT);
    CHECK_EQ(in_a_timeout(throw_when_time_is_up), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_state(target), WEALD_STATE_NEW);
}

static void *switch_back(void *first, void *to)
{
    (void)first;
    CHECK_EQ(weald_switch((weald_greenlet)(intptr_t)to, NULL, NULL), WEALD_EINTR);
    weald_event_wait(gate, WEALD_FOREVER); /* never goes back */
    return NULL;
}

/* A coroutine that waits in a switch; what is thrown into it, it does not hand back. */
static void make_target(void)
{
    CHECK_GT(target = weald_coro_new(switch_back, (void *)(intptr_t)weald_self(), 0, NULL), 0);
    CHECK_EQ(weald_switch(target, NULL, NULL), 0);
}

static int64_t make_target_and_throw(void)
{
    make_target();
    return throw_into();
}

TEST(a_throw_that_nobody_answers_is_a_deadlock)
{
    LEAKS("the coroutine is abandoned");
    CHECK_GT(gate = weald_event_new(0), 0);
    CHECK_EQ(in_a_deadlock(make_target_and_throw), WEALD_EDEADLK);
}

TEST(a_greenlet_that_is_killed_while_it_is_switched_away_gets_ecanceled)
{
    LEAKS("the coroutine is abandoned");
    CHECK_GT(gate = weald_event_new(0), 0);
    CHECK_EQ(when_killed(make_target_and_throw), WEALD_ECANCELED);
}

/* From now on no page can be made to trap. */
static void forbid_guards(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        SKIP("no seccomp here");
}

TEST(a_coroutine_without_a_stack_to_be_had_stays_new)
{
    if (*test_under())
        SKIP("the checker protects memory of its own");
    CHECK_GT(target = weald_coro_new(pass, NULL, 0, NULL), 0);
    forbid_guards();
    if (switch_to() == 0)
        SKIP("in this kernel the guard was made with the coroutine");
    CHECK_EQ(weald_state(target), WEALD_STATE_NEW);
    CHECK_EQ(switch_to(), WEALD_ENOMEM);
    CHECK_EQ(weald_state(target), WEALD_STATE_NEW);
}
