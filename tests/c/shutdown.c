/* The end of a hub. */
#include "greenlets.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>

static char order[128];

static weald_spawn_options options(void)
{
    weald_spawn_options o;
    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    return o;
}

static char report[4096];
static int reports;
static void keep_report(const char *text, void *user)
{
    (void)user;
    CHECK_LT(strlen(text), sizeof report);
    strcpy(report, text);
    reports++;
}

static weald_event gate;
static void make_gate(void) { CHECK_GT(gate = weald_event_new(0), 0); }

static void *wait_and_note(void *arg)
{
    int code = weald_event_wait(gate, WEALD_FOREVER);
    CHECK_EQ(code, WEALD_ECANCELED);
    strcat(order, (const char *)arg);
    return arg;
}

static int destroyed;
static void count_destroyed(void *value)
{
    (void)value;
    destroyed++;
}

static void *never_called(void *arg)
{
    (void)arg;
    fprintf(stderr, "the body of a greenlet ran that must not\n");
    test_leave(TEST_FAILED);
}

/* ---- greenlets ---- */

TEST(a_shutdown_without_anything_is_0)
{
    int fds = test_fds();

    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(weald_hub_shutdown(), WEALD_ESHUTDOWN);
    CHECK_EQ(test_fds(), fds);
}

TEST(the_parked_are_killed_and_clean_up)
{
    CHECK_EQ(weald_set_report_handler(keep_report, NULL), 0);
    make_gate();
    spawned(wait_and_note, (char[]){"a"});
    CHECK_EQ(weald_go(wait_and_note, (char[]){"b"}), 0);
    spawned(wait_and_note, (char[]){"c"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_STR(order, "abc");
    CHECK_EQ(reports, 0);
}

static void *sleep_long(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_SEC(100)), WEALD_ECANCELED);
    strcat(order, (const char *)arg);
    return arg;
}

static void *wait_for_pipe(void *arg)
{
    int p[2];
    CHECK_EQ(pipe(p), 0);
    CHECK_EQ(weald_wait_read(p[0], WEALD_FOREVER), WEALD_ECANCELED);
    CHECK_EQ(close(p[0]), 0);
    CHECK_EQ(close(p[1]), 0);
    strcat(order, (const char *)arg);
    return arg;
}

static weald_greenlet other;
static void *join_other(void *arg)
{
    CHECK_EQ(weald_join(other, WEALD_FOREVER), WEALD_ECANCELED);
    strcat(order, (const char *)arg);
    return arg;
}

TEST(whatever_they_wait_for)
{
    CHECK_EQ(weald_set_report_handler(keep_report, NULL), 0);
    other = spawned(sleep_long, (char[]){"s"});
    spawned(wait_for_pipe, (char[]){"p"});
    spawned(join_other, (char[]){"j"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_STR(order, "spj");
}

TEST(those_that_have_not_begun_never_will_and_their_arguments_are_destroyed)
{
    weald_spawn_options o = options();

    o.destroy = count_destroyed;
    CHECK_GT(weald_greenlet_new(never_called, NULL, &o), 0); /* not started */
    CHECK_GT(weald_spawn_with(never_called, NULL, &o), 0);   /* ready */
    o.delay_ns = WEALD_SEC(100);
    CHECK_GT(weald_spawn_with(never_called, NULL, &o), 0);   /* delayed */
    o.flags = WEALD_SPAWN_DETACHED;
    CHECK_EQ(weald_spawn_with(never_called, NULL, &o), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(destroyed, 4);
}

static void *never_switched_to(void *first, void *arg)
{
    (void)first;
    return never_called(arg);
}

TEST(a_coroutine_that_has_not_begun_has_its_argument_destroyed)
{
    weald_spawn_options o = options();

    o.destroy = count_destroyed;
    CHECK_GT(weald_coro_new(never_switched_to, NULL, 0, &o), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(destroyed, 1);
}

static void *switch_home(void *first, void *arg)
{
    CHECK_EQ(weald_switch(weald_main(), first, NULL), WEALD_ECANCELED);
    strcat(order, (const char *)arg);
    return NULL;
}

TEST(a_coroutine_that_waits_in_a_switch_gets_ecanceled)
{
    weald_greenlet c = weald_coro_new(switch_home, (char[]){"c"}, 0, NULL);

    CHECK_EQ(weald_switch(c, NULL, NULL), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_STR(order, "c");
}

static void *ignore_kills(void *arg)
{
    CHECK_EQ(weald_shield(1), 0);
    weald_event_wait(gate, WEALD_FOREVER);
    strcat(order, "never");
    return arg;
}

static void spawn_named(const char *name, weald_fn fn)
{
    weald_spawn_options o = options();
    o.name = name;
    CHECK_GT(weald_spawn_with(fn, NULL, &o), 0);
}

TEST(those_that_do_not_end_are_abandoned_counted_and_named)
{
    CHECK_EQ(weald_set_report_handler(keep_report, NULL), 0);
    make_gate();
    spawn_named("mule", ignore_kills);
    spawn_named("donkey", ignore_kills);
    spawned(wait_and_note, (char[]){"a"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 2);
    CHECK_STR(order, "a");
    CHECK_EQ(reports, 1);
    CHECK_CONTAINS(report, "mule");
    CHECK_CONTAINS(report, "donkey");
    CHECK_CONTAINS(report, "shutdown");
}

static void *yield_for_ever(void *arg)
{
    CHECK_EQ(weald_shield(1), 0);
    while (weald_yield() == 0)
        ;
    return arg;
}

TEST(one_that_only_yields_and_never_ends_is_abandoned_too)
{
    CHECK_EQ(weald_set_report_handler(keep_report, NULL), 0);
    spawn_named("mule", yield_for_ever);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 1);
    CHECK_CONTAINS(report, "mule");
}

static void *clean_up_with_yields(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_SEC(100)), WEALD_ECANCELED);
    CHECK_EQ(weald_shield(1), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_yield(), 0);
    strcat(order, (const char *)arg);
    return arg;
}

TEST(cleaning_up_may_yield)
{
    spawned(clean_up_with_yields, (char[]){"y"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_STR(order, "y");
}

static void *note(void *arg)
{
    strcat(order, (const char *)arg);
    return arg;
}

static void *clean_up_with_help(void *arg)
{
    weald_greenlet helper;

    CHECK_EQ(weald_sleep(WEALD_SEC(100)), WEALD_ECANCELED);
    CHECK_EQ(weald_shield(1), 0);
    helper = spawned(note, arg);
    CHECK_EQ(weald_join(helper, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(helper), 0);
    return note(arg);
}

TEST(cleaning_up_may_spawn_and_join)
{
    spawned(clean_up_with_help, (char[]){"h"});
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_STR(order, "hh");
}

static void note_link(weald_handle ended, void *arg)
{
    CHECK_GT(ended, 0);
    strcat(order, (const char *)arg);
}

static void *spawn_another_waiter(void *arg)
{
    wait_and_note(arg);
    spawned(wait_and_note, (void *)"b");
    return arg;
}

TEST(who_is_spawned_by_somebody_who_cleans_up_is_killed_as_well)
{
    make_gate();
    spawned(spawn_another_waiter, (void *)"a");
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_STR(order, "ab");
}

static int chain;
static void *spawn_the_next(void *arg)
{
    chain++;
    weald_spawn(spawn_the_next, arg);
    return weald_sleep(INT64_MAX) == WEALD_ECANCELED ? arg : NULL;
}

TEST(a_chain_without_end_does_not_keep_a_hub_alive)
{
    spawned(spawn_the_next, NULL);
    CHECK_EQ(weald_set_report_handler(keep_report, NULL), 0);
    CHECK_GE(weald_hub_shutdown(), 0);
    CHECK_LT(chain, 10000);
}

TEST(links_of_those_that_end_fire)
{
    weald_greenlet g;

    make_gate();
    g = spawned(wait_and_note, (char[]){"a"});
    CHECK_GT(weald_link(g, note_link, (char[]){"l"}, WEALD_LINK_ALWAYS), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_STR(order, "al");
}

/* ---- what is given back ---- */

static void *sleep_long_quietly(void *arg)
{
    weald_sleep(WEALD_SEC(100));
    return arg;
}

static void *hub_of_a_thread(void *arg)
{
    weald_queue q = weald_queue_new(0, WEALD_UNBOUNDED, count_destroyed);
    weald_result r = weald_result_new(0, count_destroyed);
    weald_local key = weald_local_new(count_destroyed);
    weald_timeout t = weald_timeout_start(WEALD_SEC(100));

    CHECK_GT(q, 0);
    CHECK_GT(r, 0);
    CHECK_GT(t, 0);
    CHECK_EQ(weald_queue_put(q, &q, WEALD_NOW), 0);
    CHECK_EQ(weald_result_set(r, &r), 0);
    CHECK_EQ(weald_local_set(key, &key), 0);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(weald_go(sleep_long_quietly, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return arg;
}

static void run_in_thread(void *(*fn)(void *))
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fn, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(values_in_open_objects_are_destroyed)
{
    run_in_thread(hub_of_a_thread);
    CHECK_EQ(destroyed, 3);
}

TEST(a_hundred_hubs_leave_neither_descriptors_nor_mappings)
{
    int fds, mappings = 0;

    run_in_thread(hub_of_a_thread);
    fds = test_fds();
    for (int i = 0; i < 100; i++) {
        run_in_thread(hub_of_a_thread);
        if (i == 10)
            mappings = test_mappings();
    }
    CHECK_EQ(test_fds(), fds);
    if (!*test_under())
        CHECK_LE(test_mappings(), mappings + 4);
}

static void *abandon_in_thread(void *arg)
{
    CHECK_EQ(weald_set_report_handler(keep_report, NULL), 0);
    make_gate();
    for (int i = 0; i < 100; i++)
        CHECK_EQ(weald_go(ignore_kills, NULL), 0);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 100);
    return arg;
}

TEST(the_stacks_of_the_abandoned_are_given_back)
{
    int mappings = 0;
    long rss = 0;

    LEAKS("what the abandoned hold on their stacks");
    for (int i = 0; i < 50; i++) {
        run_in_thread(abandon_in_thread);
        if (i == 10) {
            mappings = test_mappings();
            rss = test_rss();
        }
    }
    if (!*test_under()) {
        CHECK_LE(test_mappings(), mappings + 4);
        CHECK_LT(test_rss() - rss, 2L << 20);
    }
}

TEST(the_thread_may_not_have_a_second_hub_but_others_may)
{
    CHECK_EQ(weald_hub_shutdown(), 0);
    run_in_thread(hub_of_a_thread);
    CHECK_EQ(weald_yield(), WEALD_ESHUTDOWN);
}

/* ---- afterwards ---- */

static void *coro_body(void *first, void *arg)
{
    (void)arg;
    return first;
}

static void nothing(void *arg) { (void)arg; }

static void ignore_failure(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message, (void)user;
}

TEST(afterwards_every_call_is_eshutdown)
{
    weald_stats stats = {.size = sizeof stats};
    weald_hooks hooks;
    weald_greenlet g = spawned(note, order), one;
    struct pollfd fd = {.fd = 0, .events = POLLIN};
    void *p;
    char name[8];

    memset(&hooks, 0, sizeof hooks);
    hooks.size = sizeof hooks;
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(weald_spawn(note, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_spawn_with(note, NULL, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_go(note, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_greenlet_new(note, NULL, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_start(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_start_later(g, 1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_joinall(&g, 1, 0, 0, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_join_any(&g, 1, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_iwait(&g, 1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_iwait_next(g, &one, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_get(g, &p, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_PTR(weald_fail(WEALD_EPIPE, "x"), NULL);
    CHECK_STR(weald_error_message(g), "");
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_killall(&g, 1, 0, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_interrupt(g, WEALD_EINTR), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_kill_reason(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_shield(1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_cancelled(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_link(g, note_link, NULL, WEALD_LINK_ALWAYS), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_unlink(g, 1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_state(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_started(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_ready(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_successful(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_value(g, &p), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_error(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_self(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_parent(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_id(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_set_name(g, "x"), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_name(g, name, sizeof name), WEALD_ESHUTDOWN);
    CHECK_PTR(weald_spawn_site(g), NULL);
    CHECK_EQ(weald_sleep(1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_sleep_until(1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_yield(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_idle(0), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_coro_new(coro_body, NULL, 0, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_switch(g, NULL, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_throw(g, WEALD_EPIPE, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_current(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_main(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_dead(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_hub(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_run(WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_run_once(WEALD_RUN_ONCE), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_stop(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_hub_fd(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_hub_next_deadline(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_hub_step(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_set_error_handler(ignore_failure, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_set_report_handler(keep_report, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_hub_shutdown(), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_wait_read(0, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_wait_write(0, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_wait_fd(0, WEALD_READ, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_cancel_wait(0), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_poll(&fd, 1, WEALD_FOREVER), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_select(0, NULL, NULL, NULL, WEALD_NOW), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_timeout_start(1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_timeout_fired(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_timeout_cancel(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_timeout_restart(g, 1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_local_new(NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_local_set(g, NULL), WEALD_ESHUTDOWN);
    CHECK_PTR(weald_local_get(g), NULL);
    CHECK_EQ(weald_dump(STDERR_FILENO), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_stats_get(&stats), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_list(&one, 1), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_stack_bounds(g, &p, &p), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_stack_used(g), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_set_hooks(&hooks), WEALD_ESHUTDOWN);
    CHECK_PTR(weald_user(g), NULL);
    CHECK_EQ(weald_set_user(g, NULL), WEALD_ESHUTDOWN);
}

TEST(what_needs_no_hub_still_works_afterwards)
{
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_GT(weald_now(), 0);
    CHECK_GT(weald_after(1), 0);
    CHECK_STR(weald_strcode(WEALD_ESHUTDOWN), "ESHUTDOWN");
    CHECK(*weald_strerror(WEALD_ESHUTDOWN) != '\0');
}

TEST(a_handle_of_the_ended_hub_is_closed_all_the_same)
{
    weald_handle hub = weald_hub();
    weald_greenlet g = spawned(note, order);

    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_LT(weald_close(g), 0);
    CHECK_EQ(weald_post(hub, nothing, NULL), WEALD_ESHUTDOWN);
    CHECK_EQ(weald_close(hub), 0);
    CHECK_EQ(weald_post(hub, nothing, NULL), WEALD_EBADF);
}

static void *post_to_main(void *hub)
{
    CHECK_EQ(weald_post(*(weald_handle *)hub, nothing, NULL), WEALD_ESHUTDOWN);
    return NULL;
}

TEST(another_threads_post_to_an_ended_hub_is_eshutdown)
{
    weald_handle hub = weald_hub();
    pthread_t thread;

    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(pthread_create(&thread, NULL, post_to_main, &hub), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static long posted, ran;
static void count_run(void *arg)
{
    (void)arg;
    ran++;
}

static void *post_until_it_has_ended(void *hub)
{
    while (weald_post(*(weald_handle *)hub, count_run, NULL) == 0)
        posted++;
    return NULL;
}

TEST(a_shutdown_under_a_storm_of_posts_ends)
{
    weald_handle hub = weald_hub();
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, post_until_it_has_ended, &hub), 0);
    int64_t limit = weald_after(WEALD_SEC(20));
    while (ran == 0 && weald_now() < limit) /* until the other thread has had the processor */
        CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_GT(ran, 0);
    CHECK_LE(ran, posted + 1);
    CHECK_EQ(weald_close(hub), 0);
}

static void abandon_without_a_handler(void)
{
    make_gate();
    spawn_named("mule", ignore_kills);
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_hub_shutdown(), 1);
}

TEST(without_a_report_handler_the_abandoned_are_named_on_stderr)
{
    char text[4096];

    CHECK_EQ(test_in_child(abandon_without_a_handler, text, sizeof text), 0);
    CHECK_CONTAINS(text, "mule");
}

static void *end_with_the_thread(void *arg)
{
    weald_spawn_options o = options();

    o.destroy = count_destroyed;
    CHECK_GT(weald_spawn_with(never_called, NULL, &o), 0);
    CHECK_GT(weald_greenlet_new(never_called, NULL, &o), 0);
    return arg;
}

TEST(a_thread_that_ends_runs_nobody_and_destroys_the_arguments)
{
    run_in_thread(end_with_the_thread);
    CHECK_EQ(destroyed, 2);
}

/* Makes more to be destroyed, `left` times. */
static int left;

static void destroy_and_make(void *value)
{
    weald_spawn_options o = options();
    weald_greenlet g;
    weald_result r;

    destroyed++;
    if (left-- <= 0)
        return;
    o.destroy = destroy_and_make;
    CHECK_GT(r = weald_result_new(0, count_destroyed), 0);
    CHECK_EQ(weald_result_set(r, value), 0);
    CHECK_GT(g = weald_spawn_with(never_called, value, &o), 0);
    if (left % 2)
        CHECK_EQ(weald_close(g), 0);
    CHECK_EQ(weald_go(never_called, NULL), 0);
    CHECK_EQ(weald_yield(), WEALD_EWOULDBLOCK);
}

static void *leave_what_makes_more(void *arg)
{
    weald_result r = weald_result_new(0, destroy_and_make);

    left = 5;
    destroyed = 0;
    for (int i = 0; i < 20; i++) { /* spare records, to be used again */
        weald_greenlet g = weald_spawn(note, (void *)"");
        CHECK_GT(g, 0);
        if (i % 2)
            CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    }
    CHECK_EQ(weald_result_set(r, order), 0);
    return arg;
}

TEST(what_destructors_make_at_the_end_of_a_hub_is_destroyed_as_well)
{
    run_in_thread(leave_what_makes_more);
    CHECK_EQ(destroyed, 1 + 2 * 5);
    leave_what_makes_more(NULL);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(destroyed, 1 + 2 * 5);
}

static void destroy_for_ever(void *value)
{
    weald_result r = weald_result_new(0, destroy_for_ever);

    destroyed++;
    CHECK_GT(r, 0);
    CHECK_EQ(weald_result_set(r, value), 0);
}

TEST(a_destructor_that_always_makes_another_does_not_keep_a_hub_alive)
{
    weald_result r = weald_result_new(0, destroy_for_ever);

    CHECK_EQ(weald_result_set(r, order), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_GT(destroyed, 1);
    LEAKS("the last that was made");
}

static pthread_key_t at_the_very_end;
static int ended_late;

static void call_late(void *arg)
{
    weald_greenlet g = spawned(note, (void *)"");

    (void)arg;
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(g), 0);
    ended_late++;
}

static void *set_key(void *arg)
{
    CHECK_EQ(pthread_setspecific(at_the_very_end, &ended_late), 0);
    return arg;
}

/* Then the end of thread-locals is over. */
TEST(a_thread_whose_first_call_comes_in_a_destructor_of_its_keys_leaves_nothing)
{
    int fds;

    CHECK_EQ(pthread_key_create(&at_the_very_end, call_late), 0);
    CHECK_EQ(weald_yield(), 0);
    fds = test_fds();
    for (int i = 0; i < 50; i++)
        run_in_thread(set_key);
    LEAKS("what glibc notes of a thread-local that is made so late");
    CHECK_EQ(ended_late, 50);
    CHECK_EQ(test_fds(), fds);
}
