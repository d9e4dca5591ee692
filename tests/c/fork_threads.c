/* fork with other threads about, and what becomes of objects that threads share. */
#include "fork.h"
#include <pthread.h>

/* ---- with threads ---- */

static void *fork_in_thread(void *arg)
{
    (void)arg;
    child = forked();
    use_weald();
    if (child == 0)
        test_leave(0);
    return NULL;
}

TEST(a_child_of_a_thread_that_has_no_hub_makes_one)
{
    pthread_t thread;

    use_weald(); /* main has one, which is not the child's */
    CHECK_EQ(pthread_create(&thread, NULL, fork_in_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(status_of(child), 0);
    use_weald();
}

static volatile int stop_posting;
static void *post_on(void *hub)
{
    while (!stop_posting)
        CHECK_EQ(weald_post(*(weald_handle *)hub, note_posted, NULL), 0);
    return NULL;
}

TEST(a_fork_while_another_thread_posts_leaves_no_lock_behind)
{
    weald_handle hub = weald_hub();
    pthread_t thread;

    share();
    CHECK_EQ(pthread_create(&thread, NULL, post_on, &hub), 0);
    for (int i = 0; i < 30; i++) {
        pid_t pid = forked();
        if (pid == 0) {
            use_weald();
            CHECK_EQ(weald_post(hub, note_posted, NULL), 0);
            test_leave(0);
        }
        CHECK_EQ(weald_yield(), 0);
        CHECK_EQ(status_of(pid), 0);
    }
    stop_posting = 1;
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(hub), 0);
}

static void fork_in_destructor(void *unused) { fork_posted(unused); }

static int fork_in_comparator(const void *a, const void *b)
{
    if (posted_child < 0)
        fork_posted(NULL);
    return a < b ? -1 : a > b;
}

/* Has a function of its own called in the middle of a call of the library's, which forks. */
static void *fork_in_the_middle(void *compares)
{
    char items[2];

    posted_child = -1;
    if (compares) {
        weald_queue q = weald_priority_queue_new(0, 2, fork_in_comparator, NULL);
        CHECK_EQ(weald_queue_put(q, &items[0], WEALD_NOW), 0);
        CHECK_EQ(weald_queue_put(q, &items[1], WEALD_NOW), 0);
        CHECK_EQ(weald_queue_len(q), 2);
        CHECK_EQ(weald_close(q), 0);
    } else {
        weald_spawn_options options = {.size = sizeof options, .destroy = fork_in_destructor};
        CHECK_EQ(weald_close(weald_greenlet_new(return_it, NULL, &options)), 0);
    }
    if (posted_child == 0) {
        use_weald();
        shared->body_ended++;
        return NULL; /* and the child exits */
    }
    CHECK_EQ(status_of(posted_child), 0);
    use_weald();
    return NULL;
}

TEST(a_child_forked_in_the_middle_of_a_greenlets_call_goes_on_there)
{
    share();
    for (intptr_t compares = 0; compares < 2; compares++) {
        weald_greenlet g = spawned(fork_in_the_middle, (void *)compares);

        CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
        CHECK_NE(posted_child, 0);
        CHECK_EQ(shared->body_ended, compares + 1);
        CHECK_EQ(weald_close(g), 0);
    }
}

/* ---- objects that threads share ---- */

static weald_queue shared_queue;
static weald_event shared_event;
static weald_result shared_result;
static volatile int stop_working;

/* Keeps the locks of the shared objects busy. */
static void *work_on_shared(void *unused)
{
    void *item;

    while (!stop_working) {
        CHECK_EQ(weald_queue_put(shared_queue, &item, WEALD_FOREVER), 0);
        CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_FOREVER), 0);
        CHECK_EQ(weald_event_set(shared_event), 0);
        CHECK_EQ(weald_event_clear(shared_event), 0);
    }
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

TEST(a_fork_while_other_threads_use_shared_objects_leaves_no_lock_behind)
{
    pthread_t threads[2];
    void *item;

    shared_queue = weald_queue_new(WEALD_SHARED, WEALD_UNBOUNDED, NULL);
    shared_event = weald_event_new(WEALD_SHARED);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, work_on_shared, NULL), 0);
    for (int i = 0; i < 300; i++) {
        pid_t pid = forked();
        if (pid == 0) {
            alarm(5);
            CHECK_GE(weald_queue_len(shared_queue), 0);
            CHECK_EQ(weald_queue_put(shared_queue, &item, WEALD_NOW), 0);
            CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_NOW), 0);
            CHECK_EQ(weald_event_set(shared_event), 0);
            CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
            _exit(0);
        }
        CHECK_EQ(status_of(pid), 0);
    }
    stop_working = 1;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(weald_close(shared_queue), 0);
    CHECK_EQ(weald_close(shared_event), 0);
}

static volatile int waiting_threads;

static void *get_shared(void *unused)
{
    void *item = unused;

    waiting_threads++;
    CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_FOREVER), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return item;
}

static void *put_shared(void *item)
{
    waiting_threads++;
    CHECK_EQ(weald_queue_put(shared_queue, item, WEALD_FOREVER), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return NULL;
}

static void *wait_shared(void *unused)
{
    waiting_threads++;
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_result_wait(shared_result, WEALD_FOREVER), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

static void until_they_wait(int n)
{
    while (waiting_threads < n)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_sleep(WEALD_MS(20)), 0);
}

TEST(what_the_child_puts_into_a_shared_queue_is_not_given_to_the_parents_getter)
{
    char one, two;
    void *item = NULL;
    pthread_t thread;
    pid_t pid;

    shared_queue = weald_queue_new(WEALD_SHARED, 4, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, get_shared, NULL), 0);
    until_they_wait(1);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_queue_put(shared_queue, &one, WEALD_NOW), 0);
        CHECK_EQ(weald_queue_len(shared_queue), 1);
        CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_NOW), 0);
        CHECK_PTR(item, &one);
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_queue_put(shared_queue, &two, WEALD_NOW), 0);
    CHECK_EQ(pthread_join(thread, &item), 0);
    CHECK_PTR(item, &two);
    CHECK_EQ(weald_close(shared_queue), 0);
}

TEST(what_the_parents_putter_offers_is_not_had_in_the_child)
{
    char one;
    void *item = NULL;
    pthread_t thread;
    pid_t pid;

    shared_queue = weald_queue_new(WEALD_SHARED, 0, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, put_shared, &one), 0);
    until_they_wait(1);
    CHECK_EQ(weald_queue_empty(shared_queue), 0);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_queue_empty(shared_queue), 1);
        CHECK_EQ(weald_queue_peek(shared_queue, &item, WEALD_NOW), WEALD_EAGAIN);
        CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_NOW), WEALD_EAGAIN);
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_queue_get(shared_queue, &item, WEALD_FOREVER), 0);
    CHECK_PTR(item, &one);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weald_close(shared_queue), 0);
}

static void *set_later(void *unused)
{
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_event_set(shared_event), 0);
    CHECK_EQ(weald_result_set(shared_result, unused), 0);
    return unused;
}

TEST(a_child_waits_for_shared_objects_for_which_the_parent_waits_as_well)
{
    pthread_t thread;
    pid_t pid;

    shared_event = weald_event_new(WEALD_SHARED);
    shared_result = weald_result_new(WEALD_SHARED, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, wait_shared, NULL), 0);
    until_they_wait(1);
    pid = forked();
    /* Parent and child do the same, each with its own. */
    CHECK_EQ(weald_go(set_later, NULL), 0);
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_result_wait(shared_result, WEALD_FOREVER), 0);
    if (pid == 0)
        _exit(0);
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Main waits for something shared; a callback forks and then ends that wait, in both. */
static volatile int set_before_fork;

static void fork_and_set(void *unused)
{
    (void)unused;
    if (set_before_fork)
        CHECK_EQ(weald_event_set(shared_event), 0);
    child = forked();
    if (!set_before_fork)
        CHECK_EQ(weald_event_set(shared_event), 0);
}

static void fork_while_main_waits(void)
{
    weald_handle hub = weald_hub();

    shared_event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(weald_post(hub, fork_and_set, NULL), 0);
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_yield(), 0); /* the wake-up left nothing behind */
    CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    if (child == 0)
        _exit(0);
    CHECK_EQ(status_of(child), 0);
}

TEST(mains_wait_for_a_shared_object_ends_in_the_child_of_a_callback)
{
    fork_while_main_waits();
}

TEST(mains_wait_ends_in_the_child_when_the_wake_up_was_under_way)
{
    set_before_fork = 1;
    fork_while_main_waits();
}

static weald_greenlet joined;

static void *sleep_briefly(void *arg)
{
    CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    return arg;
}

static void fork_and_begin_others(void *unused)
{
    (void)unused;
    child = forked();
    if (child == 0) {
        CHECK_EQ(weald_set_report_handler(ignore_report, NULL), 0);
        CHECK_EQ(weald_close(joined), 0);
        joined = spawned(return_it, NULL); /* has its record */
    }
}

TEST(mains_join_of_one_that_is_gone_in_the_child_does_not_end_with_another)
{
    weald_handle hub = weald_hub();
    int code;

    joined = spawned(sleep_briefly, NULL);
    CHECK_EQ(weald_post(hub, fork_and_begin_others, NULL), 0);
    CHECK_EQ(weald_close(hub), 0);
    code = weald_join(joined, WEALD_FOREVER);
    CHECK_EQ(code, child == 0 ? WEALD_EDEADLK : 0);
    CHECK_EQ(weald_join(joined, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(joined), 0);
    if (child == 0)
        _exit(0);
    CHECK_EQ(status_of(child), 0);
}

static weald_handle other_hub;

static void *expose_and_wait(void *unused)
{
    other_hub = weald_hub();
    waiting_threads++;
    CHECK_EQ(weald_event_wait(shared_event, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(other_hub), 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

TEST(the_hubs_of_other_threads_have_ended_in_the_child)
{
    pthread_t thread;
    pid_t pid;

    shared_event = weald_event_new(WEALD_SHARED);
    CHECK_EQ(pthread_create(&thread, NULL, expose_and_wait, NULL), 0);
    until_they_wait(1);
    pid = forked();
    if (pid == 0) {
        CHECK_EQ(weald_post(other_hub, open_gate, NULL), WEALD_ESHUTDOWN);
        CHECK_EQ(weald_close(other_hub), 0);
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_event_set(shared_event), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}
