/* The objects against a model. A driver draws what to do: spawn a task that makes one blocking call, kill or interrupt
 * one, release, set, put, shut, let time pass; several of these in a row before anybody else runs. A model of a few
 * lines, which knows no stacks and no nodes, does the same in its own way. Then everybody runs until nobody is ready,
 * and whose call ended, how, and in which order must be what the model says.
 *
 * Each storm is drawn from a seed, which is printed; WEALD_TEST_SEED=n makes all of them draw from that one. The clock
 * is the test's own and goes on when the driver says so, so a seed repeats exactly.
 */
#include "test.h"

/* ---- time ---- */

static const int64_t AGE = 1000000; /* nanoseconds; nobody looks at the clock so often in one age */

static int64_t age = 1, looks;

/* The library's as well: what a program defines comes first. It moves a little at each look, or a sleep of the loop's
 * would never end. */
int clock_gettime(clockid_t id, struct timespec *t)
{
    int64_t ns = AGE * age + looks++;

    (void)id;
    CHECK_LT(looks, AGE / 2);
    t->tv_sec = ns / 1000000000;
    t->tv_nsec = ns % 1000000000;
    return 0;
}

/* The middle of an age, which is never now. */
static int64_t middle(int64_t of_age) { return AGE * of_age + AGE / 2; }

/* ---- chance ---- */

static uint64_t noise;

static unsigned below(unsigned n)
{
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return (unsigned)((noise >> 20) % n);
}

/* ---- tasks, and their model ---- */

enum { TASKS = 24, STEPS = 6000, LOGGED = 4 * TASKS };

/* Which deadline a task's call has, or what surrounds it. */
enum when { NEVER, AT_ONCE, PASSED, SOON, IN_A_PASSED_SCOPE, IN_A_SCOPE, WHENS };

/* Of a task in the model. */
enum state { NONE, UNBEGUN, WAITS, READY, ENDED };

struct task {
    /* What it is to do. */
    weald_greenlet g;
    enum when when;
    int64_t last; /* SOON, IN_A_SCOPE: the age in which its time is over */
    int what, item;
    /* The model. */
    enum state state;
    int fired;   /* one of its calls has timed out */
    int killed, interrupted;
    int granted; /* it has what it waited for, and has not run since */
    int code;    /* why its wait failed, if not */
    int got;     /* the item handed to it, and its place */
    long place;
    int depth;
    long timer; /* when its wait got its timer, to order them; 0: it has none */
};

/* A list of tasks, in order. */
struct list {
    int n, at[4 * TASKS];
};

static struct task tasks[TASKS];
static struct list ready;
static long happened[2][LOGGED]; /* what did, and what should */
static int logged[2];
static long timers_set;

static void add(struct list *list, int t) { list->at[list->n++] = t; }

static void take_out(struct list *list, int t)
{
    for (int i = 0; i < list->n; i++)
        if (list->at[i] == t) {
            memmove(&list->at[i], &list->at[i + 1], (size_t)(list->n - i - 1) * sizeof *list->at);
            list->n--;
            return;
        }
}

static int first(struct list *list)
{
    int t = list->at[0];

    take_out(list, t);
    return t;
}

enum { REALLY, IN_THE_MODEL };
enum { SCOPE = 0xffff };

static void note(int where, int t, int code, int item)
{
    CHECK_LT(logged[where], LOGGED);
    happened[where][logged[where]++] = ((long)t << 48) + ((long)(item & 0xffff) << 32) + (uint32_t)code;
}

/* What a storm is about. */
struct kind {
    void (*act)(int t);    /* in the task: makes its calls and notes how each ended */
    void (*begin)(int t);  /* in the model: makes the first call */
    void (*go_on)(int t);  /* in the model: it was woken */
    void (*leave)(int t);  /* in the model: takes it out of the lists */
    void (*do_one)(void);  /* in both: something of this kind's own */
    void (*compare)(void); /* what can be seen of the object from outside */
};
static const struct kind *kind;

static void m_wake(int t, int code, int granted)
{
    CHECK_EQ(tasks[t].state, WAITS);
    tasks[t].state = READY;
    tasks[t].code = code;
    tasks[t].granted = granted;
    add(&ready, t);
}

/* What its next call is to return whatever happens; 0: nothing stands in the way. */
static int m_look(struct task *task)
{
    if (task->killed)
        return WEALD_ECANCELED;
    if (task->interrupted) {
        task->interrupted = 0;
        return WEALD_EINTR;
    }
    if (task->when == IN_A_SCOPE && task->last < age)
        return WEALD_ETIMEDOUT;
    return task->when == IN_A_PASSED_SCOPE ? WEALD_ETIMEDOUT : 0;
}

/* The same for a call with the task's own deadline: one that is not to wait does not look. */
static int m_look_before(struct task *task) { return task->when == AT_ONCE ? 0 : m_look(task); }

/* What it returns instead of waiting; 0: it waits. */
static int m_limit(const struct task *task)
{
    int has_passed = task->when == PASSED || (task->when == SOON && task->last < age);

    return task->when == AT_ONCE ? WEALD_EAGAIN : has_passed ? WEALD_ETIMEDOUT : 0;
}

/* It waits from now on, in `list` (NULL: in none). */
static void m_wait(int t, struct list *list, int has_a_deadline)
{
    struct task *task = &tasks[t];

    task->state = WAITS;
    task->timer = task->when == IN_A_SCOPE || (task->when == SOON && has_a_deadline) ? ++timers_set : 0;
    if (list)
        add(list, t);
}

/* Neither its deadline nor its scope ends it. */
static void m_wait_without_limit(int t, struct list *list)
{
    m_wait(t, list, 0);
    tasks[t].timer = 0;
}

static void m_note(int t, int code, int item)
{
    tasks[t].fired |= code == WEALD_ETIMEDOUT;
    note(IN_THE_MODEL, t, code, item);
}

static void m_end(int t, int code, int item)
{
    m_note(t, code, item);
    if (tasks[t].when == IN_A_PASSED_SCOPE || tasks[t].when == IN_A_SCOPE)
        note(IN_THE_MODEL, t, tasks[t].fired, SCOPE);
    tasks[t].state = ENDED;
}

/* How a wait has ended: 0, or the code; one that was killed after it was granted has to give it back. */
static int m_outcome(struct task *task, int *gives_back)
{
    *gives_back = task->granted && task->killed;
    return *gives_back ? WEALD_ECANCELED : task->granted ? 0 : task->code;
}

static int is_held_back(int t);

static void m_kill(int t)
{
    if (tasks[t].state == ENDED)
        return;
    tasks[t].killed = 1;
    if (tasks[t].state == WAITS && !is_held_back(t)) {
        kind->leave(t);
        m_wake(t, WEALD_ECANCELED, 0);
    }
}

static void m_interrupt(int t)
{
    if (tasks[t].state == WAITS) {
        kind->leave(t);
        m_wake(t, WEALD_EINTR, 0);
    } else {
        tasks[t].interrupted = 1;
    }
}

static void m_run(void)
{
    while (ready.n) {
        int t = first(&ready);
        if (tasks[t].state == UNBEGUN && tasks[t].killed)
            tasks[t].state = ENDED; /* it never runs */
        else if (tasks[t].state == UNBEGUN)
            kind->begin(t);
        else
            kind->go_on(t);
    }
}

/* ---- the driver ---- */

static int64_t deadline_of(int t)
{
    switch (tasks[t].when) {
    case AT_ONCE: return WEALD_NOW;
    case PASSED: return weald_now() - 1;
    case SOON: return middle(tasks[t].last);
    default: return WEALD_FOREVER;
    }
}

static void *body(void *arg)
{
    int t = (int)(intptr_t)arg;
    weald_timeout scope = 0;

    if (tasks[t].when == IN_A_PASSED_SCOPE)
        CHECK_GT(scope = weald_timeout_start(-1), 0);
    if (tasks[t].when == IN_A_SCOPE)
        CHECK_GT(scope = weald_timeout_start(middle(tasks[t].last) - weald_now()), 0);
    kind->act(t);
    if (scope) {
        note(REALLY, t, weald_timeout_fired(scope), SCOPE);
        CHECK_EQ(weald_close(scope), 0);
    }
    return arg;
}

static void settle(void)
{
    m_run();
    do
        CHECK_EQ(weald_yield(), 0);
    while (test_stats().ready);
    CHECK_EQ(logged[REALLY], logged[IN_THE_MODEL]);
    for (int i = 0; i < logged[REALLY]; i++) {
        CHECK_EQ(happened[REALLY][i] >> 48, happened[IN_THE_MODEL][i] >> 48);                   /* the task */
        CHECK_EQ((int32_t)happened[REALLY][i], (int32_t)happened[IN_THE_MODEL][i]);             /* its code */
        CHECK_EQ(happened[REALLY][i] >> 32 & 0xffff, happened[IN_THE_MODEL][i] >> 32 & 0xffff); /* the item */
    }
    logged[REALLY] = logged[IN_THE_MODEL] = 0;
    for (int t = 0; t < TASKS; t++)
        if (tasks[t].state != NONE) {
            CHECK_EQ(weald_dead(tasks[t].g), tasks[t].state == ENDED);
            if (tasks[t].state == ENDED) {
                CHECK_EQ(weald_close(tasks[t].g), 0);
                tasks[t].state = NONE;
            }
        }
    kind->compare();
}

/* A scope is told how long, and not until when: its time is over one look later. Equal ones come as they were set. */
static int m_is_due_before(const struct task *a, const struct task *b)
{
    if (a->last != b->last)
        return a->last < b->last;
    return a->when != b->when ? a->when == SOON : a->timer < b->timer;
}

/* Whose timer is due next; -1: nobody's. */
static int m_next_due(void)
{
    int due = -1;

    for (int t = 0; t < TASKS; t++)
        if (tasks[t].state == WAITS && tasks[t].timer && tasks[t].last < age &&
            (due < 0 || m_is_due_before(&tasks[t], &tasks[due])))
            due = t;
    return due;
}

static void grow_older(void)
{
    settle();
    age += 1 + below(4);
    looks = 0;
    CHECK_EQ(weald_sleep(50), 0); /* the loop fires all that is due before */
    for (int t; (t = m_next_due()) >= 0;) {
        kind->leave(t);
        m_wake(t, WEALD_ETIMEDOUT, 0);
    }
    settle();
}

static void spawn_one(int what, int item)
{
    for (int t = 0; t < TASKS; t++)
        if (tasks[t].state == NONE) {
            memset(&tasks[t], 0, sizeof tasks[t]);
            tasks[t].what = what;
            tasks[t].item = item;
            tasks[t].when = below(3) ? NEVER : (enum when)below(WHENS);
            tasks[t].last = age + below(8);
            tasks[t].state = UNBEGUN;
            CHECK_GT(tasks[t].g = weald_spawn(body, (void *)(intptr_t)t), 0);
            add(&ready, t);
            return;
        }
}

static int any_task(void)
{
    int t = (int)below(TASKS);

    return tasks[t].state == NONE ? -1 : t;
}

static void torment(void)
{
    int t = any_task();

    if (t < 0)
        return;
    if (below(2)) {
        CHECK_EQ(weald_kill(tasks[t].g, 0, WEALD_NOW), 0);
        m_kill(t);
    } else if (weald_interrupt(tasks[t].g, WEALD_EINTR) == 0) {
        m_interrupt(t);
    }
}

static void *drive(void *unused)
{
    long steps = test_rounds(STEPS);

    for (long step = 0; step < steps; step++) {
        for (unsigned n = 1 + below(5); n; n--)
            below(6) == 0 ? torment() : kind->do_one();
        if (below(3))
            settle();
        else if (below(8) == 0)
            grow_older();
    }
    for (int t = 0; t < TASKS; t++)
        if (tasks[t].state != NONE) {
            CHECK_EQ(weald_kill(tasks[t].g, 0, WEALD_NOW), 0);
            m_kill(t);
        }
    settle();
    return unused;
}

/* In main, and in a greenlet: there, those that are ready are passed to directly. */
static void storm(const struct kind *of, uint64_t seed, int in_a_greenlet)
{
    const char *given = getenv("WEALD_TEST_SEED");

    if (given)
        seed = strtoull(given, NULL, 0);
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    noise = seed * 0x9E3779B97F4A7C15u | 1;
    kind = of;
    if (in_a_greenlet) {
        weald_greenlet g = weald_spawn(drive, NULL);
        CHECK_GT(g, 0);
        CHECK_EQ(weald_join(g, WEALD_FOREVER), 0);
        CHECK_EQ(weald_error(g), 0);
        CHECK_EQ(weald_close(g), 0);
    } else {
        drive(NULL);
    }
}

/* ---- semaphores ---- */

static weald_handle object;
static struct list waiters;
static long permits, bound;

static void leave_waiters(int t) { take_out(&waiters, t); }

static void m_give(void)
{
    if (waiters.n)
        m_wake(first(&waiters), 0, 1);
    else
        permits++;
}

static void acquire_permit(int t) { note(REALLY, t, weald_semaphore_acquire(object, deadline_of(t)), 0); }

static void m_acquire_permit(int t)
{
    int code = m_look_before(&tasks[t]);

    if (!code && permits) {
        permits--;
    } else if (!code && !(code = m_limit(&tasks[t]))) {
        return m_wait(t, &waiters, 1);
    }
    m_end(t, code, 0);
}

static void m_acquired_permit(int t)
{
    int gives_back, code = m_outcome(&tasks[t], &gives_back);

    if (gives_back)
        m_give();
    m_end(t, code, 0);
}

static void use_semaphore(void)
{
    switch (below(5)) {
    case 0:
        CHECK_EQ(weald_semaphore_acquire(object, WEALD_NOW), permits ? 0 : WEALD_EAGAIN);
        permits -= permits > 0;
        break;
    case 1:
    case 2:
        CHECK_EQ(weald_semaphore_release(object), permits < bound ? 0 : WEALD_EOVERFLOW);
        if (permits < bound)
            m_give();
        break;
    default: spawn_one(0, 0);
    }
}

static void compare_semaphore(void) { CHECK_EQ(weald_semaphore_count(object), permits); }

static const struct kind semaphores = {acquire_permit, m_acquire_permit, m_acquired_permit,
                                       leave_waiters,  use_semaphore,    compare_semaphore};

TEST(semaphores_do_as_the_model)
{
    for (int i = 0; i < 4; i++) {
        permits = 3;
        bound = i & 1 ? 3 : INT64_MAX;
        object = i & 1 ? weald_bounded_semaphore_new(3) : weald_semaphore_new(3);
        storm(&semaphores, 101 + (unsigned)i, i & 2);
        CHECK_EQ(weald_close(object), 0);
    }
}

/* ---- events ---- */

static int is_set;

static void await_event(int t) { note(REALLY, t, weald_event_wait(object, deadline_of(t)), 0); }

static void m_await_event(int t)
{
    int code = m_look_before(&tasks[t]);

    if (!code && !is_set && !(code = m_limit(&tasks[t]))) {
        return m_wait(t, &waiters, 1);
    }
    m_end(t, code, 0);
}

static void m_awaited(int t)
{
    int gives_back;

    m_end(t, m_outcome(&tasks[t], &gives_back), 0);
}

static void use_event(void)
{
    switch (below(12)) {
    case 0:
        CHECK_EQ(weald_event_set(object), 0);
        is_set = 1;
        while (waiters.n)
            m_wake(first(&waiters), 0, 1);
        break;
    case 1:
    case 2:
        CHECK_EQ(weald_event_clear(object), 0);
        is_set = 0;
        break;
    default: spawn_one(0, 0);
    }
}

static void compare_event(void) { CHECK_EQ(weald_event_is_set(object), is_set); }

static const struct kind events = {await_event, m_await_event, m_awaited, leave_waiters, use_event, compare_event};

TEST(events_do_as_the_model)
{
    for (int i = 0; i < 2; i++) {
        is_set = 0;
        object = weald_event_new(0);
        storm(&events, 201 + (unsigned)i, i);
        CHECK_EQ(weald_close(object), 0);
    }
}

/* ---- queues ---- */

enum { PUT, GET, PEEK, IN_STORE = 256 };
enum { FIFO, LIFO, PRIORITY };

static struct list getters, putters;
static struct {
    int item;
    long place; /* when it came */
} store[IN_STORE];
static int stored, order, shut, next_item, destroyed;
static size_t capacity;
static long next_place;

static void destroy(void *item)
{
    (void)item;
    destroyed++;
}

static int by_sevens(const void *a, const void *b) { return (int)((intptr_t)a % 7) - (int)((intptr_t)b % 7); }

static int m_goes_first(int a, int b)
{
    if (order == PRIORITY && store[a].item % 7 != store[b].item % 7)
        return store[a].item % 7 < store[b].item % 7;
    return order == LIFO ? store[a].place > store[b].place : store[a].place < store[b].place;
}

static int m_next(void)
{
    int next = 0;

    for (int i = 1; i < stored; i++)
        if (m_goes_first(i, next))
            next = i;
    return next;
}

static void m_store(int item, long place)
{
    CHECK_LT(stored, IN_STORE);
    store[stored].item = item;
    store[stored++].place = place;
}

/* The first who waits to get, when those who only look have been told. */
static int m_getter(void)
{
    while (getters.n) {
        int t = first(&getters);
        if (tasks[t].what == GET)
            return t;
        m_wake(t, 0, 1);
    }
    return -1;
}

static void m_hand(int t, int item, long place)
{
    tasks[t].got = item;
    tasks[t].place = place;
    m_wake(t, 0, 1);
}

/* 1: it is in. */
static int m_put(int item)
{
    int t = m_getter();

    if (t >= 0)
        m_hand(t, item, next_place++);
    else if ((size_t)stored < capacity)
        m_store(item, next_place++);
    else
        return 0;
    return 1;
}

/* The next item; -1 when there is none. */
static int m_get(void)
{
    int item = -1;

    if (stored) {
        int next = m_next();
        item = store[next].item;
        store[next] = store[--stored];
        while ((size_t)stored < capacity && putters.n) {
            int t = first(&putters);
            m_store(tasks[t].item, next_place++);
            m_wake(t, 0, 1);
        }
    } else if (putters.n) {
        int t = first(&putters);
        item = tasks[t].item;
        m_wake(t, 0, 1);
    }
    return item;
}

static int m_peek(void) { return stored ? store[m_next()].item : putters.n ? tasks[putters.at[0]].item : -1; }

static void use_queue_once(int t)
{
    void *item = NULL;
    int64_t deadline = deadline_of(t);
    int code = tasks[t].what == PUT   ? weald_queue_put(object, (void *)(intptr_t)tasks[t].item, deadline)
               : tasks[t].what == GET ? weald_queue_get(object, &item, deadline)
                                      : weald_queue_peek(object, &item, deadline);

    note(REALLY, t, code, (int)(intptr_t)item);
}

static void m_try_or_wait(int t)
{
    struct task *task = &tasks[t];
    int code = 0, item = 0;

    if (task->what == PUT) {
        if (shut || m_put(task->item))
            return m_end(t, shut ? WEALD_EPIPE : 0, 0);
    } else {
        item = task->what == GET ? m_get() : m_peek();
        if (item >= 0 || shut)
            return m_end(t, item >= 0 ? 0 : WEALD_EPIPE, item >= 0 ? item : 0);
    }
    if ((code = m_limit(task)))
        return m_end(t, code, 0);
    m_wait(t, task->what == PUT ? &putters : &getters, 1);
}

static void m_use_queue(int t)
{
    int code = m_look_before(&tasks[t]);

    if (code)
        m_end(t, code, 0);
    else
        m_try_or_wait(t);
}

static void m_used_queue(int t)
{
    struct task *task = &tasks[t];
    int gives_back, code = m_outcome(task, &gives_back), other;

    if (task->what == PUT)
        return m_end(t, task->granted ? 0 : code, 0); /* taken is taken */
    if (task->what == PEEK) {
        if (code || (code = m_look(task)))
            return m_end(t, code, 0);
        return m_try_or_wait(t);
    }
    if (gives_back && (other = m_getter()) >= 0)
        m_hand(other, task->got, task->place);
    else if (gives_back)
        m_store(task->got, task->place);
    m_end(t, code, code ? 0 : task->got);
}

static void leave_queue(int t) { take_out(tasks[t].what == PUT ? &putters : &getters, t); }

static void make_queue(void)
{
    static const size_t capacities[] = {0, 1, 3, 20, 70, WEALD_UNBOUNDED};

    capacity = capacities[below(6)];
    order = (int)below(3);
    object = order == PRIORITY ? weald_priority_queue_new(0, capacity, by_sevens, destroy)
                               : weald_queue_new(order == LIFO ? WEALD_LIFO : WEALD_FIFO, capacity, destroy);
    CHECK_GT(object, 0);
    stored = shut = destroyed = 0;
}

static void shut_queue(void)
{
    CHECK_EQ(weald_queue_shut(object), 0);
    shut = 1;
    while (putters.n)
        m_wake(first(&putters), WEALD_EPIPE, 0);
    while (getters.n) {
        int t = first(&getters);
        m_wake(t, WEALD_EPIPE, tasks[t].what == PEEK);
    }
}

static void renew_queue(void)
{
    settle();
    CHECK_EQ(getters.n + putters.n, 0);
    CHECK_EQ(weald_close(object), 0);
    CHECK_EQ(destroyed, stored);
    make_queue();
}

static void use_queue(void)
{
    void *got = NULL;
    int item = next_item++ & 0x7fff, expected;

    if (shut && below(16) == 0)
        renew_queue();
    switch (below(64)) {
    case 0: shut_queue(); break;
    case 1 ... 16:
        if (stored == IN_STORE / 2)
            break;
        expected = shut ? WEALD_EPIPE : m_put(item) ? 0 : WEALD_EAGAIN;
        CHECK_EQ(weald_queue_put(object, (void *)(intptr_t)item, WEALD_NOW), expected);
        break;
    case 17 ... 28:
        expected = m_get();
        CHECK_EQ(weald_queue_get(object, &got, WEALD_NOW), expected >= 0 ? 0 : shut ? WEALD_EPIPE : WEALD_EAGAIN);
        if (expected >= 0)
            CHECK_EQ((intptr_t)got, expected);
        break;
    case 29 ... 32:
        expected = m_peek();
        CHECK_EQ(weald_queue_peek(object, &got, WEALD_NOW), expected >= 0 ? 0 : shut ? WEALD_EPIPE : WEALD_EAGAIN);
        if (expected >= 0)
            CHECK_EQ((intptr_t)got, expected);
        break;
    case 33 ... 36: spawn_one(PEEK, 0); break;
    case 37 ... 50: spawn_one(GET, 0); break;
    default: spawn_one(stored < IN_STORE / 2 ? PUT : GET, item);
    }
}

static void compare_queue(void)
{
    CHECK_EQ(weald_queue_len(object), stored);
    CHECK_EQ(weald_queue_full(object), (size_t)stored >= capacity);
    CHECK_EQ(weald_queue_empty(object), stored == 0 && putters.n == 0);
}

static const struct kind queues = {use_queue_once, m_use_queue, m_used_queue, leave_queue, use_queue, compare_queue};

TEST(queues_do_as_the_model)
{
    for (int i = 0; i < 6; i++) {
        noise = 301 + (unsigned)i;
        make_queue();
        storm(&queues, 301 + (unsigned)i, i & 1);
        CHECK_EQ(weald_close(object), 0);
    }
}

/* ---- locks and conditions ---- */

enum { HOLD, WAIT_FOR_NOTICE, WAIT_FOR_NOTICE_DEEP };
enum { TAKES, HOLDS, LISTENS, TAKES_AGAIN };

static weald_condition condition;
static struct list listeners;
static int owner;

/* Until it is killed or interrupted. */
static int stay(void) { return weald_sleep(INT64_MAX); }

static void own_lock(int t)
{
    int code = weald_lock_acquire(object, deadline_of(t)), deep = tasks[t].what == WAIT_FOR_NOTICE_DEEP;

    note(REALLY, t, code, TAKES);
    if (code)
        return;
    if (deep)
        CHECK_EQ(weald_lock_acquire(object, WEALD_NOW), 0);
    code = tasks[t].what == HOLD ? stay() : weald_condition_wait(condition, object, deadline_of(t));
    note(REALLY, t, code, HOLDS);
    CHECK_EQ(weald_lock_release(object), 0);
    if (deep)
        CHECK_EQ(weald_lock_release(object), 0);
}

static void m_hand_on(void)
{
    owner = waiters.n ? first(&waiters) : -1;
    if (owner >= 0)
        m_wake(owner, 0, 1);
}

static void m_let_go(int t, int code)
{
    m_end(t, code, HOLDS);
    m_hand_on();
}

/* It has waited for notice, and takes the lock again whatever comes; `code` is what the wait then returns. */
static void m_take_again(int t)
{
    struct task *task = &tasks[t];

    task->depth = TAKES_AGAIN;
    if (owner >= 0) {
        return m_wait_without_limit(t, &waiters);
    }
    owner = t;
    if (task->place && listeners.n) /* told, and killed: another hears it */
        m_wake(first(&listeners), 0, 1);
    m_let_go(t, task->got);
}

static void m_own(int t)
{
    struct task *task = &tasks[t];
    int code;

    m_note(t, 0, TAKES);
    if ((code = m_look(task)))
        return m_let_go(t, code);
    task->depth = HOLDS;
    if (task->what == HOLD)
        return m_wait(t, NULL, 0);
    if (task->when == AT_ONCE)
        return m_let_go(t, WEALD_EAGAIN);
    m_hand_on();
    task->depth = LISTENS;
    if ((task->got = m_limit(task)))
        return m_take_again(t);
    m_wait(t, &listeners, 1);
}

static void m_own_lock(int t)
{
    int code = m_look_before(&tasks[t]);

    tasks[t].depth = TAKES;
    if (!code && owner < 0) {
        owner = t;
        return m_own(t);
    }
    if (code || (code = m_limit(&tasks[t])))
        return m_end(t, code, TAKES);
    m_wait(t, &waiters, 1);
}

static void m_went_on_with_lock(int t)
{
    struct task *task = &tasks[t];
    int gives_back, code = m_outcome(task, &gives_back);

    switch (task->depth) {
    case TAKES:
        if (!code)
            return m_own(t);
        m_end(t, code, TAKES);
        if (gives_back)
            m_hand_on();
        return;
    case HOLDS: return m_let_go(t, code);
    case LISTENS:
        task->got = code;
        task->place = gives_back;
        return m_take_again(t);
    default:
        if (!task->granted) { /* it was interrupted: that is its next call's, and it queues again */
            task->interrupted = 1;
            return m_take_again(t);
        }
        if (task->place && listeners.n)
            m_wake(first(&listeners), 0, 1);
        m_let_go(t, task->got);
    }
}

static void leave_lock(int t)
{
    take_out(&waiters, t);
    take_out(&listeners, t);
}

static void use_lock(void)
{
    int n = 1 + (int)below(3), told = 0;

    switch (below(10)) {
    case 0:
        CHECK_EQ(weald_lock_acquire(object, WEALD_NOW), owner < 0 ? 0 : WEALD_EAGAIN);
        if (owner < 0)
            CHECK_EQ(weald_lock_release(object), 0);
        else
            CHECK_EQ(weald_lock_release(object), WEALD_EPERM);
        break;
    case 1:
    case 2:
        for (; listeners.n && told < n; told++)
            m_wake(first(&listeners), 0, 1);
        CHECK_EQ(weald_condition_notify(condition, (size_t)n), told);
        break;
    case 3:
        for (; listeners.n; told++)
            m_wake(first(&listeners), 0, 1);
        CHECK_EQ(weald_condition_notify_all(condition), told);
        break;
    case 4: torment(); break; /* or nobody ever lets go */
    case 5:
    case 6: spawn_one(HOLD, 0); break;
    case 7: spawn_one(WAIT_FOR_NOTICE_DEEP, 0); break;
    default: spawn_one(WAIT_FOR_NOTICE, 0);
    }
}

static void compare_lock(void) { CHECK_EQ(weald_lock_held(object), owner >= 0); }

static const struct kind locks = {own_lock, m_own_lock, m_went_on_with_lock, leave_lock, use_lock, compare_lock};

/* A kill of one that takes the lock again is held back until it has it. */
static int is_held_back(int t)
{
    return kind == &locks && tasks[t].state == WAITS && tasks[t].depth == TAKES_AGAIN;
}

TEST(locks_and_conditions_do_as_the_model)
{
    for (int i = 0; i < 4; i++) {
        owner = -1;
        object = weald_rlock_new();
        condition = weald_condition_new();
        storm(&locks, 401 + (unsigned)i, i & 1);
        CHECK_EQ(owner, -1);
        CHECK_EQ(weald_close(object), 0);
        CHECK_EQ(weald_close(condition), 0);
    }
}

/* ---- read-write locks ---- */

enum { READ, WRITE };

static int writer, readers;

static int m_fits(int t) { return writer < 0 && (tasks[t].what == READ || readers == 0); }

static void m_let_in(int t)
{
    if (tasks[t].what == WRITE)
        writer = t;
    else
        readers++;
}

static void m_let_those_in_who_fit(void)
{
    while (waiters.n && m_fits(waiters.at[0])) {
        int t = first(&waiters);
        m_let_in(t);
        m_wake(t, 0, 1);
    }
}

static void m_go_out(int t)
{
    if (tasks[t].what == WRITE)
        writer = -1;
    else
        readers--;
    m_let_those_in_who_fit();
}

static void be_in(int t)
{
    int64_t deadline = deadline_of(t);
    int code = tasks[t].what == READ ? weald_rwlock_read(object, deadline) : weald_rwlock_write(object, deadline);

    note(REALLY, t, code, TAKES);
    if (code)
        return;
    note(REALLY, t, stay(), HOLDS);
    CHECK_EQ(weald_rwlock_release(object), 0);
}

static void m_stay(int t)
{
    int code;

    m_note(t, 0, TAKES);
    if ((code = m_look(&tasks[t]))) {
        m_end(t, code, HOLDS);
        return m_go_out(t);
    }
    tasks[t].depth = HOLDS;
    m_wait(t, NULL, 0);
}

static void m_be_in(int t)
{
    int code = m_look_before(&tasks[t]);

    tasks[t].depth = TAKES;
    if (!code && waiters.n == 0 && m_fits(t)) {
        m_let_in(t);
        return m_stay(t);
    }
    if (code)
        return m_end(t, code, TAKES);
    if ((code = m_limit(&tasks[t]))) {
        m_end(t, code, TAKES);
        return m_let_those_in_who_fit(); /* whoever gives up looks, also for one that was killed and has not run yet */
    }
    m_wait(t, &waiters, 1);
}

static void m_was_in(int t)
{
    int gives_back, code = m_outcome(&tasks[t], &gives_back);

    if (tasks[t].depth == HOLDS) {
        m_end(t, code, HOLDS);
        return m_go_out(t);
    }
    if (!code)
        return m_stay(t);
    m_end(t, code, TAKES);
    if (gives_back)
        m_go_out(t);
    m_let_those_in_who_fit();
}

static void use_rwlock(void)
{
    switch (below(6)) {
    case 0:
    case 1: torment(); break;
    case 2:
    case 3: spawn_one(WRITE, 0); break;
    default: spawn_one(READ, 0);
    }
}

static void compare_rwlock(void)
{
    int free_for_writing = writer < 0 && readers == 0 && waiters.n == 0;

    CHECK_EQ(weald_rwlock_write(object, WEALD_NOW), free_for_writing ? 0 : WEALD_EAGAIN);
    if (free_for_writing)
        CHECK_EQ(weald_rwlock_release(object), 0);
}

static const struct kind rwlocks = {be_in, m_be_in, m_was_in, leave_waiters, use_rwlock, compare_rwlock};

TEST(read_write_locks_do_as_the_model)
{
    for (int i = 0; i < 4; i++) {
        writer = -1;
        object = weald_rwlock_new();
        storm(&rwlocks, 501 + (unsigned)i, i & 1);
        CHECK_EQ(readers, 0);
        CHECK_EQ(weald_close(object), 0);
    }
}

/* ---- barriers ---- */

enum { PARTIES = 4 };

static int arrived, broken;
static long meeting;

static void m_break(void)
{
    broken = 1;
    arrived = 0;
    meeting++;
    while (waiters.n)
        m_wake(first(&waiters), WEALD_EPIPE, 0);
}

static void meet(int t) { note(REALLY, t, weald_barrier_wait(object, deadline_of(t)), 0); }

static void m_meet(int t)
{
    int code = m_look_before(&tasks[t]);

    if (code || broken)
        return m_end(t, code ? code : WEALD_EPIPE, 0);
    if (arrived + 1 == PARTIES) {
        arrived = 0;
        meeting++;
        while (waiters.n)
            m_wake(first(&waiters), 0, 1);
        return m_end(t, 1, 0);
    }
    if (tasks[t].when == AT_ONCE)
        return m_end(t, WEALD_EAGAIN, 0);
    if ((code = m_limit(&tasks[t]))) {
        m_break();
        return m_end(t, code, 0);
    }
    arrived++;
    tasks[t].place = meeting;
    m_wait(t, &waiters, 1);
}

/* One that was killed or interrupted breaks the meeting it came for, not the next one. */
static void m_met(int t)
{
    int gives_back, code = m_outcome(&tasks[t], &gives_back);

    if (!tasks[t].granted && tasks[t].place == meeting)
        m_break();
    m_end(t, code, 0);
}

static void use_barrier(void)
{
    switch (below(24)) {
    case 0:
        CHECK_EQ(weald_barrier_abort(object), 0);
        m_break();
        break;
    case 1 ... 4:
        CHECK_EQ(weald_barrier_reset(object), 0);
        m_break();
        broken = 0;
        break;
    default: spawn_one(0, 0);
    }
}

static void compare_barrier(void) {}

static const struct kind barriers = {meet, m_meet, m_met, leave_waiters, use_barrier, compare_barrier};

TEST(barriers_do_as_the_model)
{
    for (int i = 0; i < 4; i++) {
        arrived = broken = 0;
        object = weald_barrier_new(PARTIES);
        storm(&barriers, 601 + (unsigned)i, i & 1);
        CHECK_EQ(weald_close(object), 0);
    }
}
