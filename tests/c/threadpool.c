/* Thread pools: a job runs once or never, its caller is told at once, and threads come and go as they are needed. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

/* ---- a gate that blocks a thread, as a driver or a database might ---- */

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int open, entered, left;
};

#define GATE {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0}

static void *pass(void *arg)
{
    struct gate *gate = (struct gate *)arg;

    pthread_mutex_lock(&gate->lock);
    gate->entered++;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->left++;
    pthread_mutex_unlock(&gate->lock);
    return gate;
}

static void open_gate(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = 1;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

/* Blocks this thread until `n` jobs stand before the gate. */
static void wait_entered(struct gate *gate, int n)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->entered < n)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

/* A pool of one thread that is stuck at `gate`. */
static weald_threadpool stuck_pool(struct gate *gate)
{
    weald_threadpool pool = weald_threadpool_new(1);
    weald_result stuck;

    CHECK_GT(pool, 0);
    stuck = weald_threadpool_submit(pool, pass, gate, NULL);
    CHECK_GT(stuck, 0);
    CHECK_EQ(weald_close(stuck), 0);
    wait_entered(gate, 1);
    return pool;
}

static void end_pool(weald_threadpool pool)
{
    CHECK_EQ(weald_threadpool_shutdown(pool, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(pool), 0);
}

static atomic_int runs;

static void *count_run(void *arg)
{
    atomic_fetch_add(&runs, 1);
    return arg;
}

static atomic_int destroyed;

static void count_destroyed(void *value)
{
    (void)value;
    atomic_fetch_add(&destroyed, 1);
}

/* ---- offload ---- */

static void *thread_of_job(void *arg)
{
    *(pthread_t *)arg = pthread_self();
    return &runs;
}

TEST(a_job_runs_in_another_thread_and_its_value_comes_back)
{
    pthread_t thread = pthread_self();
    void *value = NULL;

    CHECK_EQ(weald_offload(0, thread_of_job, &thread, &value, WEALD_FOREVER), 0);
    CHECK(!pthread_equal(thread, pthread_self()));
    CHECK_PTR(value, &runs);
    CHECK_EQ(weald_offload(0, thread_of_job, &thread, NULL, WEALD_FOREVER), 0);
}

static void *open_later(void *arg)
{
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_yield(), 0);
    open_gate((struct gate *)arg);
    return NULL;
}

TEST(greenlets_go_on_while_a_job_runs)
{
    struct gate gate = GATE;
    weald_threadpool pool = weald_threadpool_new(1);
    void *value = NULL;

    CHECK_EQ(weald_go(open_later, &gate), 0);
    CHECK_EQ(weald_offload(pool, pass, &gate, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &gate);
    end_pool(pool);
}

static void *offload_pass(void *arg)
{
    CHECK_EQ(weald_offload(0, pass, arg, NULL, WEALD_FOREVER), 0);
    return NULL;
}

static void *open_from_thread(void *arg)
{
    struct gate *gate = (struct gate *)arg;

    wait_entered(gate, 1);
    usleep(2000);
    open_gate(gate);
    return NULL;
}

TEST(an_offload_is_no_deadlock_and_keeps_weald_run_going)
{
    struct gate gate = GATE;
    pthread_t thread;

    CHECK_EQ(weald_go(offload_pass, &gate), 0);
    CHECK_EQ(pthread_create(&thread, NULL, open_from_thread, &gate), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(gate.left, 1);
    pthread_join(thread, NULL);
}

static int callback_code;

static void offload_in_callback(void *arg)
{
    callback_code = weald_offload((weald_threadpool)(intptr_t)arg, count_run, NULL, NULL, WEALD_FOREVER);
}

static void shutdown_in_callback(void *arg)
{
    callback_code = weald_threadpool_shutdown((weald_threadpool)(intptr_t)arg, WEALD_FOREVER);
}

static int in_callback(weald_callback f, int64_t arg)
{
    weald_handle hub = weald_hub();

    callback_code = 1;
    CHECK_EQ(weald_post(hub, f, (void *)(intptr_t)arg), 0);
    while (callback_code == 1)
        CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(hub), 0);
    return callback_code;
}

static int never(void) { return 0; }

TEST(offload_refuses_what_it_cannot_do_and_then_runs_nothing)
{
    weald_threadpool pool = weald_threadpool_new(1);
    weald_event other = weald_event_new(WEALD_SHARED);
    weald_hooks hooks;
    void *value = &runs;

    CHECK_EQ(weald_offload(pool, NULL, NULL, &value, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_offload(-1, count_run, NULL, &value, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_offload(other, count_run, NULL, &value, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_offload(weald_self(), count_run, NULL, &value, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_offload(pool, count_run, NULL, &value, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_offload(pool, count_run, NULL, &value, -5), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_offload(pool, count_run, NULL, &value, weald_now() - 1), WEALD_ETIMEDOUT);
    CHECK_EQ(in_callback(offload_in_callback, pool), WEALD_EWOULDBLOCK);
    memset(&hooks, 0, sizeof hooks);
    hooks.size = sizeof hooks;
    hooks.may_park = never;
    CHECK_EQ(weald_set_hooks(&hooks), 0);
    CHECK_EQ(weald_offload(pool, count_run, NULL, &value, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_threadpool_shutdown(pool, WEALD_FOREVER), WEALD_EPERM);
    CHECK_EQ(weald_set_hooks(NULL), 0);
    CHECK_PTR(value, &runs);
    CHECK_EQ(weald_threadpool_size(pool), 0);
    end_pool(pool);
    CHECK_EQ(runs, 0);
    CHECK_EQ(weald_close(other), 0);
}

TEST(the_deadline_ends_the_wait_for_a_stuck_job_which_goes_on)
{
    struct gate gate = GATE;
    weald_threadpool pool = weald_threadpool_new(1);
    void *value = &runs;
    int64_t deadline;

    do { /* on a busy machine it may pass before the job has begun */
        deadline = weald_after(WEALD_MS(5));
        CHECK_EQ(weald_offload(pool, pass, &gate, &value, deadline), WEALD_ETIMEDOUT);
        CHECK_GE(weald_now(), deadline);
    } while (gate.entered == 0);
    CHECK_PTR(value, &runs);
    CHECK_EQ(weald_threadpool_shutdown(pool, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(gate.left, 0);
    open_gate(&gate);
    end_pool(pool);
    CHECK_EQ(gate.left, 1);
    CHECK_PTR(value, &runs);
}

TEST(a_waiting_job_whose_deadline_passes_never_runs)
{
    struct gate gate = GATE;
    weald_threadpool pool = stuck_pool(&gate);

    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    open_gate(&gate);
    CHECK_EQ(weald_offload(pool, pass, &gate, NULL, WEALD_FOREVER), 0); /* behind where it was */
    end_pool(pool);
    CHECK_EQ(runs, 0);
}

TEST(a_timeout_scope_ends_an_offload)
{
    struct gate gate = GATE;
    weald_threadpool pool = stuck_pool(&gate);
    weald_handle scope = weald_timeout_start(WEALD_MS(2));

    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_timeout_fired(scope), 1);
    CHECK_EQ(weald_close(scope), 0);
    open_gate(&gate);
    end_pool(pool);
    CHECK_EQ(runs, 0);
}

struct offload {
    weald_threadpool pool;
    weald_fn job;
    void *arg, *value;
    int shield, code;
};

static void *offload(void *arg)
{
    struct offload *o = (struct offload *)arg;

    if (o->shield)
        CHECK_EQ(weald_shield(1), 0);
    o->code = weald_offload(o->pool, o->job, o->arg, &o->value, WEALD_FOREVER);
    if (o->shield)
        CHECK_EQ(weald_shield(0), 0);
    return NULL;
}

TEST(kill_ends_the_wait_for_a_job_that_runs)
{
    struct gate gate = GATE;
    struct offload o = {weald_threadpool_new(1), pass, &gate, &runs, 0, 1};
    weald_greenlet g = weald_spawn(offload, &o);

    CHECK_EQ(weald_yield(), 0);
    wait_entered(&gate, 1);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, WEALD_ECANCELED);
    CHECK_PTR(o.value, &runs);
    CHECK_EQ(gate.left, 0);
    open_gate(&gate);
    end_pool(o.pool);
    CHECK_EQ(gate.left, 1);
    CHECK_EQ(weald_close(g), 0);
}

TEST(kill_takes_a_waiting_job_out)
{
    struct gate gate = GATE;
    struct offload o = {stuck_pool(&gate), count_run, NULL, &runs, 0, 1};
    weald_greenlet g = weald_spawn(offload, &o);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, WEALD_ECANCELED);
    open_gate(&gate);
    CHECK_EQ(weald_offload(o.pool, pass, &gate, NULL, WEALD_FOREVER), 0);
    end_pool(o.pool);
    CHECK_EQ(runs, 0);
    CHECK_EQ(weald_close(g), 0);
}

static void *killed_then_offload(void *arg)
{
    CHECK_EQ(weald_kill(weald_self(), 0, WEALD_NOW), 0);
    CHECK_EQ(weald_threadpool_shutdown(((struct offload *)arg)->pool, WEALD_FOREVER), WEALD_ECANCELED);
    return offload(arg);
}

TEST(a_killed_greenlet_starts_no_job_and_shuts_no_pool)
{
    struct offload o = {weald_threadpool_new(1), count_run, NULL, NULL, 0, 1};
    weald_greenlet g = weald_spawn(killed_then_offload, &o);

    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, WEALD_ECANCELED);
    CHECK_EQ(runs, 0);
    CHECK_EQ(weald_offload(o.pool, count_run, NULL, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(runs, 1);
    end_pool(o.pool);
    CHECK_EQ(weald_close(g), 0);
}

TEST(interrupt_ends_an_offload_with_its_code)
{
    struct gate gate = GATE;
    struct offload o = {stuck_pool(&gate), count_run, NULL, NULL, 0, 1};
    weald_greenlet g = weald_spawn(offload, &o);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_interrupt(g, -4000), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, -4000);
    open_gate(&gate);
    end_pool(o.pool);
    CHECK_EQ(runs, 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_shield_makes_kill_wait_for_the_job)
{
    struct gate gate = GATE;
    struct offload o = {weald_threadpool_new(1), pass, &gate, NULL, 1, 1};
    weald_greenlet g = weald_spawn(offload, &o);

    CHECK_EQ(weald_yield(), 0);
    wait_entered(&gate, 1);
    CHECK_EQ(weald_kill(g, 0, weald_after(WEALD_MS(2))), WEALD_ETIMEDOUT);
    open_gate(&gate);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, 0);
    CHECK_PTR(o.value, &gate);
    end_pool(o.pool);
    CHECK_EQ(weald_close(g), 0);
}

static void *fail(void *arg) { return weald_fail(-4001, (const char *)arg); }

static void *fail_in_a_greenlet(void *arg)
{
    weald_greenlet g = weald_spawn(fail, arg);

    CHECK_EQ(weald_get(g, NULL, WEALD_FOREVER), -4001);
    CHECK_EQ(weald_close(g), 0);
    return arg;
}

static void ignore_failure(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g, (void)code, (void)message;
    atomic_fetch_add((atomic_int *)user, 1);
}

static void *quietly_fail_in_a_greenlet(void *arg)
{
    CHECK_EQ(weald_set_error_handler(ignore_failure, &runs), 0);
    return fail_in_a_greenlet(arg);
}

TEST(a_job_fails_by_value)
{
    static char why[] = "no such disk";
    weald_threadpool pool = weald_threadpool_new(1);
    weald_result r = weald_threadpool_submit(pool, fail, why, count_destroyed);
    void *value = &runs;

    CHECK_EQ(weald_result_get(r, &value, WEALD_FOREVER), -4001);
    CHECK_STR(weald_result_message(r), why);
    CHECK_EQ(weald_offload(pool, fail, why, &value, WEALD_FOREVER), -4001);
    CHECK_PTR(value, &runs);
    CHECK_EQ(weald_offload(pool, fail, NULL, NULL, WEALD_FOREVER), -4001);
    CHECK_EQ(weald_offload(pool, count_run, why, &value, WEALD_FOREVER), 0); /* the next one does not */
    CHECK_PTR(value, why);
    CHECK_EQ(weald_close(r), 0);
    end_pool(pool);
    CHECK_EQ(destroyed, 0);
}

TEST(a_job_may_run_greenlets_of_its_own)
{
    static char why[] = "only the greenlet";
    weald_threadpool pool = weald_threadpool_new(1);
    void *value = NULL;

    CHECK_EQ(weald_offload(pool, quietly_fail_in_a_greenlet, why, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, why);
    CHECK_EQ(runs, 1);
    end_pool(pool);
}

static void *look_at_mask(void *arg)
{
    sigset_t *mask = (sigset_t *)arg;

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, mask), 0);
    return NULL;
}

TEST(a_job_gets_no_signals_but_its_own_faults)
{
    static const int blocked[] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGALRM, SIGPIPE};
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    sigset_t before, after, job;

    look_at_mask(&before);
    CHECK_EQ(weald_offload(0, look_at_mask, &job, NULL, WEALD_FOREVER), 0);
    look_at_mask(&after);
    for (size_t i = 0; i < sizeof blocked / sizeof *blocked; i++)
        CHECK_EQ(sigismember(&job, blocked[i]), 1);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        CHECK_EQ(sigismember(&job, open[i]), 0);
    for (int signo = 1; signo < 32; signo++)
        CHECK_EQ(sigismember(&before, signo), sigismember(&after, signo));
}

static void *offload_in_thread(void *arg)
{
    void *value = NULL;

    CHECK_EQ(weald_offload((weald_threadpool)(intptr_t)arg, count_run, &runs, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &runs);
    return NULL;
}

TEST(every_thread_may_use_a_pool)
{
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    weald_threadpool pool = weald_threadpool_new(2);

    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, offload_in_thread, (void *)(intptr_t)pool), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(runs, THREADS);
    end_pool(pool);
}

/* ---- submit, cancel ---- */

TEST(submit_gives_a_result_for_the_job)
{
    weald_threadpool pool = weald_threadpool_new(1);
    weald_result r = weald_threadpool_submit(pool, count_run, &runs, count_destroyed);
    void *value = NULL;

    CHECK_GT(r, 0);
    CHECK_EQ(weald_kind(r), WEALD_KIND_RESULT);
    CHECK_EQ(weald_result_get(r, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &runs);
    CHECK_EQ(destroyed, 0);
    CHECK_EQ(weald_close(r), 0);
    end_pool(pool);
    CHECK_EQ(destroyed, 1);
}

TEST(a_job_whose_result_is_closed_runs_all_the_same)
{
    struct gate gate = GATE;
    weald_threadpool pool = stuck_pool(&gate);

    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_close(weald_threadpool_submit(pool, count_run, NULL, count_destroyed)), 0);
    open_gate(&gate);
    CHECK_EQ(weald_offload(pool, pass, &gate, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(runs, 10);
    end_pool(pool);
    CHECK_EQ(destroyed, 10);
}

static pthread_t linked_in;
static weald_result linked_to;

static void on_result(weald_handle r, void *arg)
{
    (void)arg;
    linked_in = pthread_self();
    linked_to = r;
}

TEST(the_result_of_a_job_is_delivered_in_the_hub_that_asks)
{
    weald_result r = weald_threadpool_submit(0, count_run, &runs, NULL);
    weald_wait_item item = {r, -1, 0, 0};

    CHECK_GT(weald_result_link(r, on_result, NULL), 0);
    CHECK_EQ(weald_wait(&item, 1, 1, WEALD_FOREVER), 1);
    while (!linked_to)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(linked_to, r);
    CHECK(pthread_equal(linked_in, pthread_self()));
    CHECK_EQ(weald_close(r), 0);
}

TEST(submit_refuses_bad_arguments)
{
    CHECK_EQ(weald_threadpool_submit(0, NULL, NULL, NULL), WEALD_EINVAL);
    CHECK_EQ(weald_threadpool_submit(-7, count_run, NULL, NULL), WEALD_EBADF);
    CHECK_EQ(weald_threadpool_submit(weald_self(), count_run, NULL, NULL), WEALD_EBADF);
    CHECK_EQ(runs, 0);
}

TEST(cancel_takes_back_what_has_not_begun)
{
    struct gate gate = GATE;
    weald_threadpool pool = weald_threadpool_new(1), other = weald_threadpool_new(1);
    weald_result running = weald_threadpool_submit(pool, pass, &gate, NULL);
    weald_result first = weald_threadpool_submit(pool, count_run, NULL, NULL);
    weald_result second = weald_threadpool_submit(pool, count_run, &runs, NULL);
    weald_result local = weald_result_new(0, NULL);
    void *value = &gate;

    wait_entered(&gate, 1);
    CHECK_EQ(weald_threadpool_cancel(pool, running), WEALD_EALREADY);
    CHECK_EQ(weald_threadpool_cancel(other, first), WEALD_EALREADY);
    CHECK_EQ(weald_threadpool_cancel(pool, first), 0);
    CHECK_EQ(weald_threadpool_cancel(pool, first), WEALD_EALREADY);
    CHECK_EQ(weald_result_get(first, &value, WEALD_NOW), WEALD_ECANCELED);
    CHECK_PTR(value, &gate);
    CHECK_EQ(weald_threadpool_cancel(pool, 0), WEALD_EBADF);
    CHECK_EQ(weald_threadpool_cancel(pool, local), WEALD_EBADF);
    CHECK_EQ(weald_threadpool_cancel(-1, second), WEALD_EBADF);
    open_gate(&gate);
    CHECK_EQ(weald_result_get(second, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &runs);
    CHECK_EQ(weald_threadpool_cancel(pool, second), WEALD_EALREADY);
    CHECK_EQ(runs, 1);
    CHECK_EQ(weald_close(first), 0);
    CHECK_EQ(weald_threadpool_cancel(pool, first), WEALD_EBADF);
    CHECK_EQ(weald_close(running), 0);
    CHECK_EQ(weald_close(second), 0);
    CHECK_EQ(weald_close(local), 0);
    end_pool(pool);
    end_pool(other);
}

static int came[100], came_next; /* one thread writes them */

static void *note_number(void *arg)
{
    came[came_next++] = (int)(intptr_t)arg;
    return NULL;
}

TEST(jobs_begin_in_the_order_in_which_they_came)
{
    struct gate gate = GATE;
    weald_threadpool pool = stuck_pool(&gate);

    for (int i = 0; i < 100; i++)
        CHECK_EQ(weald_close(weald_threadpool_submit(pool, note_number, (void *)(intptr_t)i, NULL)), 0);
    open_gate(&gate);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), 0);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(came[i], i);
    end_pool(pool);
}

/* ---- shutdown, close ---- */

TEST(shutdown_cancels_what_is_queued_and_waits_for_what_runs)
{
    struct gate gate = GATE;
    weald_threadpool pool = stuck_pool(&gate);
    struct offload o[3];
    weald_greenlet gs[3], opener;
    weald_result submitted = weald_threadpool_submit(pool, count_run, NULL, count_destroyed);

    for (int i = 0; i < 3; i++) {
        o[i] = (struct offload){pool, count_run, NULL, &runs, 0, 1};
        gs[i] = weald_spawn(offload, &o[i]);
    }
    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_threadpool_shutdown(pool, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_joinall(gs, 3, 0, 0, WEALD_FOREVER), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(o[i].code, WEALD_ECANCELED);
        CHECK_PTR(o[i].value, &runs);
        CHECK_EQ(weald_close(gs[i]), 0);
    }
    CHECK_EQ(weald_result_get(submitted, NULL, WEALD_NOW), WEALD_ECANCELED);
    CHECK_EQ(weald_close(submitted), 0);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_threadpool_submit(pool, count_run, NULL, NULL), WEALD_EPIPE);
    CHECK_EQ(weald_threadpool_shutdown(pool, weald_after(WEALD_MS(1))), WEALD_ETIMEDOUT);
    CHECK_EQ(gate.left, 0);

    opener = weald_spawn(open_later, &gate);
    CHECK_EQ(weald_threadpool_shutdown(pool, WEALD_FOREVER), 0);
    CHECK_EQ(gate.left, 1);
    CHECK_EQ(weald_threadpool_size(pool), 0);
    CHECK_EQ(test_threads(), 1);
    CHECK_EQ(weald_threadpool_shutdown(pool, WEALD_NOW), 0);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), WEALD_EPIPE);
    CHECK_EQ(weald_close(opener), 0);
    CHECK_EQ(weald_close(pool), 0);
    CHECK_EQ(runs, 0);
    CHECK_EQ(destroyed, 0);
}

static void *shut_own_pool(void *arg)
{
    return (void *)(intptr_t)weald_threadpool_shutdown(*(weald_threadpool *)arg, WEALD_FOREVER);
}

TEST(shutdown_refuses_what_it_cannot_do)
{
    weald_threadpool pool = weald_threadpool_new(2);
    void *code = NULL;

    CHECK_EQ(weald_threadpool_shutdown(0, WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(weald_threadpool_shutdown(weald_self(), WEALD_FOREVER), WEALD_EBADF);
    CHECK_EQ(in_callback(shutdown_in_callback, pool), WEALD_EWOULDBLOCK);
    CHECK_EQ(weald_offload(pool, shut_own_pool, &pool, &code, WEALD_FOREVER), 0);
    CHECK_EQ((intptr_t)code, WEALD_EDEADLK);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), 0); /* it has not been shut */
    end_pool(pool);
    CHECK_EQ(weald_threadpool_shutdown(pool, WEALD_NOW), WEALD_EBADF);
}

static void *shut_pool(void *arg)
{
    struct offload *o = (struct offload *)arg;

    o->code = weald_threadpool_shutdown(o->pool, WEALD_FOREVER);
    return NULL;
}

TEST(kill_ends_the_wait_for_a_shutdown)
{
    struct gate gate = GATE;
    struct offload o = {stuck_pool(&gate), NULL, NULL, NULL, 0, 1};
    weald_greenlet g = weald_spawn(shut_pool, &o);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, WEALD_ECANCELED);
    open_gate(&gate);
    end_pool(o.pool);
    CHECK_EQ(weald_close(g), 0);
}

TEST(close_ends_the_wait_for_a_shutdown)
{
    struct gate gate = GATE;
    struct offload o = {stuck_pool(&gate), NULL, NULL, NULL, 0, 1};
    weald_greenlet g = weald_spawn(shut_pool, &o);

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(o.pool), 0);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, WEALD_EBADF);
    open_gate(&gate);
    CHECK_EQ(weald_close(g), 0);
    while (test_threads() > 1)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
}

TEST(a_closed_pool_does_what_it_was_given_and_then_ends)
{
    struct gate gate = GATE;
    weald_threadpool pool = stuck_pool(&gate);
    struct offload o = {pool, count_run, &gate, NULL, 0, 1};
    weald_result r = weald_threadpool_submit(pool, count_run, &runs, NULL);
    weald_greenlet g = weald_spawn(offload, &o);
    void *value = NULL;

    CHECK_EQ(weald_yield(), 0);
    CHECK_EQ(weald_close(pool), 0);
    CHECK_EQ(weald_threadpool_size(pool), WEALD_EBADF);
    open_gate(&gate);
    CHECK_EQ(weald_result_get(r, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &runs);
    CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
    CHECK_EQ(o.code, 0);
    CHECK_PTR(o.value, &gate);
    while (test_threads() > 1)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_close(r), 0);
    CHECK_EQ(weald_close(g), 0);
}

TEST(a_hub_that_shuts_down_gives_up_its_jobs)
{
    struct gate gate = GATE;
    struct offload running = {weald_threadpool_new(1), pass, &gate, NULL, 0, 1};
    struct offload queued = {running.pool, count_run, NULL, NULL, 0, 1};

    CHECK_EQ(weald_go(offload, &running), 0);
    CHECK_EQ(weald_go(offload, &queued), 0);
    CHECK_EQ(weald_yield(), 0);
    wait_entered(&gate, 1);
    CHECK_EQ(weald_hub_shutdown(), 0);
    CHECK_EQ(running.code, WEALD_ECANCELED);
    CHECK_EQ(queued.code, WEALD_ECANCELED);
    open_gate(&gate);
    CHECK_EQ(weald_close(running.pool), 0);
    while (test_threads() > 1)
        usleep(1000);
    CHECK_EQ(gate.left, 1);
    CHECK_EQ(runs, 0);
}

static struct gate left_behind = GATE;

static void *leave_an_offload_behind(void *pool)
{
    static struct offload o;

    o = (struct offload){(weald_threadpool)(intptr_t)pool, pass, &left_behind, NULL, 0, 1};
    CHECK_EQ(weald_go(offload, &o), 0);
    CHECK_EQ(weald_yield(), 0);
    return &o;
}

TEST(a_thread_may_end_before_the_job_it_waits_for)
{
    weald_threadpool pool = weald_threadpool_new(1);
    pthread_t thread;
    void *o = NULL;

    LEAKS("an abandoned greenlet keeps its job");
    CHECK_EQ(pthread_create(&thread, NULL, leave_an_offload_behind, (void *)(intptr_t)pool), 0);
    CHECK_EQ(pthread_join(thread, &o), 0);
    wait_entered(&left_behind, 1);
    open_gate(&left_behind);
    end_pool(pool);
    CHECK_EQ(left_behind.left, 1);
    CHECK_EQ(((struct offload *)o)->code, 1); /* abandoned: the call has never returned */
}

/* ---- how many threads ---- */

TEST(threads_start_when_jobs_need_them_and_no_more_than_the_pool_may_have)
{
    enum { MOST = 3, JOBS = 10 };
    struct gate gate = GATE;
    weald_threadpool pool = weald_threadpool_new(MOST);
    weald_result rs[JOBS];

    CHECK_EQ(weald_threadpool_size(pool), 0);
    for (int i = 0; i < JOBS; i++) {
        rs[i] = weald_threadpool_submit(pool, pass, &gate, NULL);
        CHECK_EQ(weald_threadpool_size(pool), i < MOST ? i + 1 : MOST);
    }
    wait_entered(&gate, MOST);
    CHECK_EQ(test_threads(), 1 + MOST);
    CHECK_EQ(gate.entered, MOST);
    open_gate(&gate);
    for (int i = 0; i < JOBS; i++) {
        CHECK_EQ(weald_result_get(rs[i], NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(rs[i]), 0);
    }
    CHECK_EQ(gate.left, JOBS);
    end_pool(pool);
}

TEST(an_idle_thread_is_used_again)
{
    weald_threadpool pool = weald_threadpool_new(8);

    for (int i = 0; i < 20; i++) {
        CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0); /* it goes idle */
    }
    CHECK_EQ(weald_threadpool_size(pool), 1);
    end_pool(pool);
}

static void grow(weald_threadpool pool, int n)
{
    struct gate gate = GATE;
    weald_result rs[16];

    for (int i = 0; i < n; i++)
        rs[i] = weald_threadpool_submit(pool, pass, &gate, NULL);
    CHECK_EQ(weald_threadpool_size(pool), n);
    open_gate(&gate);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weald_result_get(rs[i], NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(rs[i]), 0);
    }
}

TEST(idle_threads_end)
{
    weald_threadpool pool = weald_threadpool_new(4);
    int before = test_threads();

    CHECK_EQ(weald_threadpool_set_idle(pool, WEALD_MS(5)), 0);
    grow(pool, 4);
    while (weald_threadpool_size(pool) > 0 || test_threads() > before)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), 0); /* and start again */
    CHECK_EQ(runs, 1);
    end_pool(pool);
}

TEST(threads_that_are_not_needed_end_while_another_works)
{
    weald_threadpool pool = weald_threadpool_new(4);

    grow(pool, 4);
    CHECK_EQ(weald_threadpool_set_idle(pool, WEALD_MS(30)), 0);
    while (weald_threadpool_size(pool) > 1) {
        CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_sleep(WEALD_MS(2)), 0);
    }
    end_pool(pool);
}

TEST(a_new_idle_time_holds_for_those_that_idle_already)
{
    weald_threadpool pool = weald_threadpool_new(4);

    grow(pool, 4);
    CHECK_EQ(weald_threadpool_set_idle(pool, WEALD_FOREVER), 0);
    CHECK_EQ(weald_threadpool_set_idle(pool, -2), WEALD_EINVAL);
    CHECK_EQ(weald_threadpool_set_idle(0, 1), WEALD_EBADF);
    CHECK_EQ(weald_threadpool_set_idle(weald_self(), 1), WEALD_EBADF);
    CHECK_EQ(weald_sleep(WEALD_MS(5)), 0);
    CHECK_EQ(weald_threadpool_size(pool), 4);
    CHECK_EQ(weald_threadpool_set_idle(pool, 0), 0);
    while (weald_threadpool_size(pool) > 0)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    end_pool(pool);
}

TEST(the_default_pool_counts_its_threads_too)
{
    CHECK_EQ(weald_threadpool_size(0), 0);
    CHECK_EQ(weald_offload(0, count_run, NULL, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_threadpool_size(0), 1);
    CHECK_EQ(weald_threadpool_size(-1), WEALD_EBADF);
}

/* Leaves address space for a few small things, but for no thread's stack. */
static void no_more_threads(int on)
{
    struct rlimit limit;
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    CHECK(f && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
    CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = on ? (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (4 << 20) : limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

TEST(without_a_thread_to_be_had_a_job_is_refused)
{
    weald_threadpool pool = weald_threadpool_new(4);

    if (*test_under())
        SKIP("limits on address space are not for checkers");
    CHECK_GT(weald_self(), 0);
    no_more_threads(1);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), WEALD_EAGAIN);
    CHECK_EQ(weald_threadpool_submit(pool, count_run, NULL, NULL), WEALD_EAGAIN);
    CHECK_EQ(weald_threadpool_size(pool), 0);
    no_more_threads(0);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(runs, 1);
    end_pool(pool);
}

TEST(with_fewer_threads_than_it_may_have_a_pool_works_on)
{
    struct gate gate = GATE;
    weald_threadpool pool = weald_threadpool_new(4);
    weald_result stuck = weald_threadpool_submit(pool, pass, &gate, NULL), r;

    if (*test_under())
        SKIP("limits on address space are not for checkers");
    wait_entered(&gate, 1);
    no_more_threads(1);
    r = weald_threadpool_submit(pool, count_run, NULL, NULL);
    CHECK_GT(r, 0);
    CHECK_EQ(weald_threadpool_size(pool), 1);
    open_gate(&gate);
    CHECK_EQ(weald_result_get(r, NULL, WEALD_FOREVER), 0);
    no_more_threads(0);
    CHECK_EQ(weald_close(stuck), 0);
    CHECK_EQ(weald_close(r), 0);
    end_pool(pool);
}

/* ---- storms ---- */

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

enum { STORM = 100000, STORMERS = 100 };

static atomic_uchar ran[STORM];
static int next_job, told_ok, told_late, storm_jobs;
static weald_threadpool storm_pool;

static void *mark(void *arg)
{
    atomic_uchar *mine = (atomic_uchar *)arg;

    CHECK_EQ(atomic_fetch_add(mine, 1), 0);
    return mine;
}

static void *storm(void *arg)
{
    unsigned seed = (unsigned)(intptr_t)arg;

    while (next_job < storm_jobs) {
        int i = next_job++;
        unsigned dice = next_random(&seed) % 4;
        int64_t deadline = dice == 0 ? weald_after((int64_t)(next_random(&seed) % 200000)) : WEALD_FOREVER;
        void *value = NULL;
        int code = weald_offload(storm_pool, mark, &ran[i], &value, deadline);

        if (code == 0) {
            CHECK_PTR(value, &ran[i]);
            CHECK_EQ(ran[i], 1);
            told_ok++;
        } else {
            CHECK_EQ(code, WEALD_ETIMEDOUT);
            CHECK_PTR(value, NULL);
            told_late++;
        }
    }
    return NULL;
}

TEST_WITH_LIMIT(a_storm_of_offloads_runs_each_job_once_or_never, 60)
{
    weald_greenlet gs[STORMERS];
    int ran_in_all = 0;

    storm_jobs = (int)test_rounds(STORM);
    storm_pool = weald_threadpool_new(4);
    for (int i = 0; i < STORMERS; i++)
        gs[i] = weald_spawn(storm, (void *)(intptr_t)(i + 1));
    CHECK_EQ(weald_joinall(gs, STORMERS, 0, 0, WEALD_FOREVER), STORMERS);
    CHECK_EQ(told_ok + told_late, storm_jobs);
    for (int i = 0; i < STORMERS; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    end_pool(storm_pool);
    for (int i = 0; i < storm_jobs; i++)
        ran_in_all += ran[i];
    CHECK_GE(ran_in_all, told_ok);
    CHECK_LE(ran_in_all, storm_jobs);
}

static void *killed_storm(void *arg)
{
    unsigned seed = (unsigned)(intptr_t)arg;

    for (;;) {
        int i = next_job, code;

        if (i >= storm_jobs)
            return NULL;
        next_job++;
        code = weald_offload(storm_pool, mark, &ran[i], NULL, WEALD_FOREVER);
        if (code == 0) {
            CHECK_EQ(ran[i], 1);
            told_ok++;
        } else {
            CHECK_EQ(code, WEALD_ECANCELED);
            told_late++;
            return NULL;
        }
        if (next_random(&seed) % 8 == 0)
            weald_yield();
    }
}

TEST_WITH_LIMIT(a_storm_of_kills_runs_each_job_once_or_never, 60)
{
    weald_greenlet gs[STORMERS];
    unsigned seed = 7;
    int kills = 0, ran_in_all = 0;

    storm_jobs = (int)test_rounds(STORM / 4);
    storm_pool = weald_threadpool_new(3);
    for (int i = 0; i < STORMERS; i++)
        gs[i] = weald_spawn(killed_storm, (void *)(intptr_t)(i + 1));
    while (next_job < storm_jobs) {
        int i = (int)(next_random(&seed) % STORMERS);

        CHECK_EQ(weald_kill(gs[i], 0, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(gs[i]), 0);
        gs[i] = weald_spawn(killed_storm, (void *)(intptr_t)(STORMERS + ++kills));
        CHECK_EQ(weald_sleep((int64_t)(next_random(&seed) % 100000)), 0);
    }
    CHECK_EQ(weald_joinall(gs, STORMERS, 0, 0, WEALD_FOREVER), STORMERS);
    for (int i = 0; i < STORMERS; i++)
        CHECK_EQ(weald_close(gs[i]), 0);
    end_pool(storm_pool);
    CHECK_EQ(told_ok + told_late, storm_jobs);
    for (int i = 0; i < storm_jobs; i++)
        ran_in_all += ran[i];
    CHECK_GE(ran_in_all, told_ok);
    CHECK_LE(ran_in_all, storm_jobs);
}

static atomic_int submitted, canceled;

static void *submit_storm(void *arg)
{
    unsigned seed = (unsigned)(intptr_t)arg;
    weald_result kept[8] = {0};

    for (int i = 0; i < storm_jobs / 4; i++) {
        weald_result r = weald_threadpool_submit(storm_pool, count_run, arg, count_destroyed);
        int place = (int)(next_random(&seed) % 8);

        CHECK_GT(r, 0);
        atomic_fetch_add(&submitted, 1);
        if (kept[place] && next_random(&seed) % 2 && weald_threadpool_cancel(storm_pool, kept[place]) == 0) {
            CHECK_EQ(weald_result_get(kept[place], NULL, WEALD_FOREVER), WEALD_ECANCELED);
            atomic_fetch_add(&canceled, 1);
        }
        if (kept[place])
            CHECK_EQ(weald_close(kept[place]), 0);
        kept[place] = r;
    }
    for (int i = 0; i < 8; i++)
        if (kept[i])
            CHECK_EQ(weald_close(kept[i]), 0);
    return NULL;
}

TEST_WITH_LIMIT(a_storm_of_submits_and_cancels_from_many_threads_loses_nothing, 60)
{
    pthread_t thread[4];

    storm_jobs = (int)test_rounds(STORM);
    storm_pool = weald_threadpool_new(3);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, submit_storm, (void *)(intptr_t)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(weald_close(storm_pool), 0); /* does all it was given */
    while (test_threads() > 1)
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    CHECK_EQ(runs + canceled, submitted);
    CHECK_EQ(destroyed, runs);
}

/* ---- fork ---- */

static atomic_int hammering;

static void *hammer(void *arg)
{
    weald_threadpool pool = (weald_threadpool)(intptr_t)arg;

    while (atomic_load(&hammering)) {
        weald_result r = weald_threadpool_submit(pool, count_run, NULL, NULL);

        CHECK_GT(r, 0);
        CHECK_EQ(weald_result_get(r, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_close(r), 0);
    }
    return NULL;
}

static int status_of(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    return status;
}

static void use_in_child(weald_threadpool pool, weald_threadpool stuck)
{
    void *value = NULL;

    alarm(20);
    CHECK_EQ(weald_threadpool_size(pool), 0);
    CHECK_EQ(weald_threadpool_size(stuck), 0);
    CHECK_EQ(weald_offload(stuck, count_run, &value, &value, WEALD_FOREVER), 0);
    CHECK_PTR(value, &value);
    CHECK_EQ(weald_offload(0, count_run, NULL, NULL, WEALD_FOREVER), 0);
    CHECK_EQ(weald_offload(pool, count_run, NULL, NULL, WEALD_FOREVER), 0);
    end_pool(pool);
    CHECK_EQ(weald_close(stuck), 0);
    _exit(42);
}

TEST_WITH_LIMIT(a_forked_child_starts_with_empty_pools, 60)
{
    struct gate gate = GATE;
    weald_threadpool stuck = stuck_pool(&gate), pool = weald_threadpool_new(2);
    int hammers = strcmp(test_under(), "asan") == 0 ? 0 : 2; /* its allocator may stay locked in a child */
    pthread_t thread[2];

    hammering = 1;
    for (int i = 0; i < hammers; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, hammer, (void *)(intptr_t)pool), 0);
    for (long i = 0; i < test_rounds(200); i++) {
        pid_t pid = fork();

        CHECK_GE(pid, 0);
        if (pid == 0)
            use_in_child(pool, stuck);
        CHECK_EQ(status_of(pid), 42 << 8);
    }
    hammering = 0;
    for (int i = 0; i < hammers; i++)
        pthread_join(thread[i], NULL);
    open_gate(&gate);
    CHECK_EQ(weald_offload(stuck, count_run, NULL, NULL, WEALD_FOREVER), 0); /* the parent has noticed nothing */
    end_pool(stuck);
    end_pool(pool);
}

static void *fork_in_job(void *arg)
{
    pid_t pid = fork();

    CHECK_GE(pid, 0);
    if (pid == 0)
        LEAKS("a forked child has lost the other threads, and what was theirs");
    *(pid_t *)arg = pid;
    return NULL;
}

TEST(the_child_of_a_job_that_forks_ends_with_it)
{
    pid_t pid = 0;

    CHECK_EQ(weald_offload(0, fork_in_job, &pid, NULL, WEALD_FOREVER), 0);
    CHECK_GT(pid, 0);
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weald_offload(0, count_run, NULL, NULL, WEALD_FOREVER), 0);
}

static void *at_once(void *arg) { return arg; }

TEST(an_answer_that_comes_before_the_wait_ends_no_later_one)
{
    weald_event never = weald_event_new(0);

    CHECK_GT(never, 0);
    for (long i = 0; i < test_rounds(3000); i++) {
        CHECK_EQ(weald_offload(0, at_once, NULL, NULL, WEALD_FOREVER), 0);
        CHECK_EQ(weald_event_wait(never, weald_after(WEALD_US(20))), WEALD_ETIMEDOUT);
    }
    CHECK_EQ(weald_close(never), 0);
}
