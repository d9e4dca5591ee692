/* A million greenlets at once. */
#include "test.h"

enum { MILLION = 1000000, FRAME_AND_ALL = 4608, SAMPLES = 1000 };

static weald_event gate;
static long begun, ended;

static void *wait_at_the_gate(void *arg)
{
    begun++;
    CHECK_EQ(weald_event_wait(gate, WEALD_FOREVER), 0);
    ended++;
    return arg;
}

static long available_memory(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");

    if (!f)
        return 0;
    while (fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %ld", &kib) != 1)
        ;
    fclose(f);
    return kib << 10;
}

static int compare(const void *a, const void *b)
{
    uintptr_t left = *(const uintptr_t *)a, right = *(const uintptr_t *)b;

    return left < right ? -1 : left > right;
}

/* No two stacks touch: below each there is a guard. */
static void check_guards(const weald_greenlet *some)
{
    static uintptr_t tops[SAMPLES];

    for (int i = 0; i < SAMPLES; i++) {
        void *low, *high;
        CHECK_EQ(weald_stack_bounds(some[i], &low, &high), 0);
        CHECK_GE((char *)high - (char *)low, 256 << 10);
        tops[i] = (uintptr_t)high;
    }
    qsort(tops, SAMPLES, sizeof *tops, compare);
    for (int i = 1; i < SAMPLES; i++)
        CHECK_GT(tops[i] - tops[i - 1], 256 << 10);
}

TEST_WITH_LIMIT(a_million_parked_greenlets_take_little_memory_and_few_mappings_and_give_them_back, 300)
{
    static weald_greenlet some[SAMPLES];
    long before, full, left;

    if (*test_under())
        SKIP("a million greenlets are too many for a checker");
    if (available_memory() < 8L << 30)
        SKIP("a million stacks need 5 GiB of memory, and the machine others");
    CHECK_GT(gate = weald_event_new(0), 0);
    before = test_rss();
    for (int i = 0; i < MILLION; i++) {
        weald_greenlet g = weald_spawn(wait_at_the_gate, NULL);
        if (g == WEALD_ENOMEM && test_mappings() > 10000)
            SKIP("without guard markers in the kernel, vm.max_map_count allows for fewer");
        CHECK_GT(g, 0);
        if (i % (MILLION / SAMPLES) == 0)
            some[i / (MILLION / SAMPLES)] = g;
        else
            CHECK_EQ(weald_close(g), 0);
    }
    while (begun < MILLION)
        CHECK_EQ(weald_yield(), 0);
    full = test_rss();
    CHECK_LE((full - before) / MILLION, FRAME_AND_ALL);
    CHECK_LT(test_mappings(), 10000);
    check_guards(some);
    CHECK_EQ(weald_event_set(gate), 0);
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    CHECK_EQ(ended, MILLION);
    for (int i = 0; i < SAMPLES; i++)
        CHECK_EQ(weald_close(some[i]), 0);
    for (int i = 0; i < 100 && test_rss() - before > (full - before) / 50; i++)
        CHECK_EQ(weald_sleep(WEALD_MS(100)), 0);
    left = test_rss();
    CHECK_LE(left - before, (full - before) / 50);
    CHECK_LT(test_mappings(), 1000);
}
