/* Names: what is a number is answered at once, a lookup holds up nobody but who waits for it, and the cache is neither
 * too forgetful nor too sure. Nothing here asks a name server: the names are those of a resolver in this file. */
#include "errors.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/resource.h>

/* ---- a resolver ----
 *
 * oak.test              127.0.0.1 and ::1; its canonical name is tree.test
 * stuck...              as oak.test, once the gate is open
 * slow.test             as oak.test, after a tenth of a second
 * -2.test and its like  that EAI_ code, with EMFILE in errno
 * any other name        EAI_NONAME
 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int open_wide, stuck;
static atomic_int asked, lists;

static void wait_for_gate(void)
{
    pthread_mutex_lock(&lock);
    stuck++;
    pthread_cond_broadcast(&changed);
    while (!open_wide)
        pthread_cond_wait(&changed, &lock);
    stuck--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void open_gate(void)
{
    pthread_mutex_lock(&lock);
    open_wide = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Blocks this thread until `n` lookups stand before the gate. */
static void wait_stuck(int n)
{
    pthread_mutex_lock(&lock);
    while (stuck != n)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static int get(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    struct addrinfo numeric = *hints, *second;
    int code;

    atomic_fetch_add(&asked, 1);
    if (!host)
        return EAI_NONAME;
    if (*host == '-') {
        errno = EMFILE;
        return atoi(host);
    }
    if (strncmp(host, "stuck", 5) == 0)
        wait_for_gate();
    else if (strcmp(host, "slow.test") == 0)
        usleep(100000);
    else if (strcmp(host, "oak.test") != 0)
        return EAI_NONAME;
    numeric.ai_flags &= ~AI_ADDRCONFIG;
    if ((code = getaddrinfo(hints->ai_family == AF_INET6 ? "::1" : "127.0.0.1", service, &numeric, list)) != 0)
        return code;
    if (hints->ai_family == AF_UNSPEC && (code = getaddrinfo("::1", service, &numeric, &second)) == 0) {
        struct addrinfo *end = *list;
        while (end->ai_next)
            end = end->ai_next;
        end->ai_next = second;
    }
    if (hints->ai_flags & AI_CANONNAME) {
        free((*list)->ai_canonname);
        (*list)->ai_canonname = strdup("tree.test");
    }
    atomic_fetch_add(&lists, 1);
    return 0;
}

static void give_back(struct addrinfo *list)
{
    atomic_fetch_sub(&lists, 1);
    freeaddrinfo(list);
}

/* Port 1 is oak.test, port 2 stuck, port 3 slow; a higher one is that code. */
static int name(const struct sockaddr *address, socklen_t len, char *host, socklen_t host_size, char *service,
                socklen_t service_size, int flags)
{
    int port = ntohs(((const struct sockaddr_in *)address)->sin_port);

    (void)len, (void)flags;
    atomic_fetch_add(&asked, 1);
    if (port > 3) {
        errno = EMFILE;
        return -port;
    }
    if (port == 2)
        wait_for_gate();
    if (port == 3)
        usleep(100000);
    snprintf(host, host_size, "oak.test");
    snprintf(service, service_size, "acorns");
    return 0;
}

static void use_ours(void)
{
    weald_resolver ours = {.size = sizeof ours, .getaddrinfo = get, .freeaddrinfo = give_back, .getnameinfo = name};
    CHECK_EQ(weald_set_resolver(&ours), 0);
}

static struct addrinfo *list;
static struct hostent *host;

static int64_t find(const char *host, int64_t deadline) { return weald_getaddrinfo(host, "80", NULL, &list, deadline); }

/* The addresses in a list, with ports: "127.0.0.1:80 ::1:80". */
static const char *shown(const struct addrinfo *one)
{
    static _Thread_local char text[256];
    char address[INET6_ADDRSTRLEN];

    *text = 0;
    for (; one; one = one->ai_next) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)one->ai_addr;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)one->ai_addr;
        int is4 = one->ai_family == AF_INET;
        CHECK_EQ(one->ai_addrlen, is4 ? sizeof *v4 : sizeof *v6);
        CHECK_EQ(one->ai_addr->sa_family, one->ai_family);
        CHECK(inet_ntop(one->ai_family, is4 ? (const void *)&v4->sin_addr : &v6->sin6_addr, address, sizeof address));
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s:%d", *text ? " " : "", address,
                 ntohs(is4 ? v4->sin_port : v6->sin6_port));
    }
    return text;
}

static void check_found(const char *name, const char *expected)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;

    CHECK_EQ(weald_getaddrinfo(name, "80", &hints, &found, WEALD_FOREVER), 0);
    CHECK_STR(shown(found), expected);
    weald_freeaddrinfo(found);
}

/* ---- at once ---- */

static int64_t find_number(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    CHECK_EQ(weald_getaddrinfo("127.0.0.1", "80", NULL, &list, WEALD_NOW), 0);
    weald_freeaddrinfo(list);
    CHECK_EQ(weald_getaddrinfo("::1", NULL, NULL, &list, WEALD_NOW), 0);
    weald_freeaddrinfo(list);
    CHECK_EQ(weald_getaddrinfo(NULL, "80", &hints, &list, WEALD_NOW), 0);
    weald_freeaddrinfo(list);
    return weald_getaddrinfo("127.0.0.1", NULL, &hints, &list, WEALD_FOREVER);
}

TEST(numbers_are_answered_at_once_without_a_thread_even_in_a_callback)
{
    int before = test_threads();

    use_ours();
    CHECK_EQ(in_a_callback(find_number), 0);
    CHECK_STR(shown(list), "127.0.0.1:0");
    weald_freeaddrinfo(list);
    CHECK_EQ(asked, 0);
    CHECK_EQ(test_threads(), before);
    CHECK_EQ(weald_dns_cached(), 0);
}

TEST(numbers_are_found_as_the_c_library_finds_them)
{
    const char *hosts[] = {"127.0.0.1", "::1", "127.1", "0x7f000001", "fe80::1%lo", "::ffff:127.0.0.1"};

    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct addrinfo *theirs = NULL;
        char expected[256];
        CHECK_EQ(getaddrinfo(hosts[i], "443", NULL, &theirs), 0);
        snprintf(expected, sizeof expected, "%s", shown(theirs));
        freeaddrinfo(theirs);
        CHECK_EQ(weald_getaddrinfo(hosts[i], "443", NULL, &list, WEALD_NOW), 0);
        CHECK_STR(shown(list), expected);
        weald_freeaddrinfo(list);
    }
}

TEST(a_name_that_is_to_be_a_number_is_noname_at_once)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};

    use_ours();
    CHECK_EQ(weald_getaddrinfo("oak.test", "80", &hints, &list, WEALD_FOREVER), WEALD_EAI_NONAME);
    CHECK_EQ(weald_getaddrinfo("127.0.0.1", "http", &hints, &list, WEALD_FOREVER), WEALD_EAI_NONAME);
    CHECK_EQ(weald_getaddrinfo(NULL, NULL, NULL, &list, WEALD_FOREVER), WEALD_EAI_NONAME);
    CHECK_EQ(asked, 0);
}

TEST(an_address_as_numbers_needs_no_thread)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(0x7f000001)};
    const struct sockaddr *a = (const struct sockaddr *)&address;
    char host[64] = "x", service[8] = "y";

    use_ours();
    CHECK_EQ(weald_getnameinfo(a, sizeof address, host, sizeof host, service, sizeof service,
                               NI_NUMERICHOST | NI_NUMERICSERV, WEALD_NOW), 0);
    CHECK_STR(host, "127.0.0.1");
    CHECK_STR(service, "80");
    /* What is not wanted need not be looked up, nor have a name. */
    CHECK_EQ(weald_getnameinfo(a, sizeof address, NULL, 0, service, sizeof service, NI_NUMERICSERV | NI_NAMEREQD,
                               WEALD_NOW), 0);
    CHECK_EQ(weald_getnameinfo(a, sizeof address, host, sizeof host, NULL, 0, NI_NUMERICHOST, WEALD_NOW), 0);
    CHECK_EQ(asked, 0);
}

/* ---- lookups ---- */

TEST(names_are_found_by_the_c_library_unless_told_otherwise)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found;

    CHECK_EQ(weald_getaddrinfo("localhost", "80", &hints, &found, WEALD_FOREVER), 0);
    CHECK_CONTAINS(shown(found), "127.0.0.1:80");
    weald_freeaddrinfo(found);
    use_ours();
    CHECK_EQ(weald_getaddrinfo("localhost", "80", &hints, &found, WEALD_FOREVER), WEALD_EAI_NONAME);
    CHECK_EQ(weald_set_resolver(NULL), 0);
    CHECK_EQ(weald_getaddrinfo("localhost", "80", &hints, &found, WEALD_FOREVER), 0);
    weald_freeaddrinfo(found);
}

TEST(the_answer_is_a_copy_and_the_resolver_gets_its_own_list_back)
{
    struct addrinfo hints = {.ai_flags = AI_CANONNAME, .ai_socktype = SOCK_STREAM}, *found = NULL;

    use_ours();
    CHECK_EQ(weald_getaddrinfo("oak.test", "80", &hints, &found, WEALD_FOREVER), 0);
    CHECK_EQ(lists, 0);
    CHECK_STR(shown(found), "127.0.0.1:80 ::1:80");
    CHECK_STR(found->ai_canonname, "tree.test");
    CHECK_EQ(found->ai_socktype, SOCK_STREAM);
    CHECK_EQ(found->ai_next->ai_family, AF_INET6);
    weald_freeaddrinfo(found->ai_next); /* lists can be freed in parts */
    found->ai_next = NULL;
    CHECK_STR(shown(found), "127.0.0.1:80");
    weald_freeaddrinfo(found);
    weald_freeaddrinfo(NULL);
}

static void *count_yields(void *counter)
{
    while (*(int *)counter >= 0) {
        ++*(int *)counter;
        CHECK_EQ(weald_sleep(WEALD_MS(1)), 0);
    }
    return NULL;
}

TEST(greenlets_go_on_while_a_name_is_looked_up)
{
    int counter = 0;

    use_ours();
    CHECK_EQ(weald_go(count_yields, &counter), 0);
    check_found("slow.test", "127.0.0.1:80 ::1:80");
    CHECK_GT(counter, 5);
    counter = -1;
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

/* ---- stuck lookups ---- */

TEST(a_stuck_lookup_does_not_hold_who_has_a_deadline)
{
    int64_t before;
    struct addrinfo *untouched = (struct addrinfo *)&lock;

    use_ours();
    before = weald_now();
    CHECK_EQ(weald_getaddrinfo("stuck.test", "80", NULL, &untouched, weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_GE(weald_now() - before, WEALD_MS(20));
    CHECK_LT(weald_now() - before, WEALD_SEC(5));
    CHECK_PTR(untouched, &lock);
    open_gate();
}

static void *find_stuck(void *code)
{
    *(int64_t *)code = find("stuck.test", WEALD_FOREVER);
    return NULL;
}

TEST(a_stuck_lookup_does_not_hold_who_is_killed)
{
    int64_t code = 1, before;
    weald_greenlet g;

    use_ours();
    CHECK_GT(g = weald_spawn(find_stuck, &code), 0);
    CHECK_EQ(weald_yield(), 0);
    wait_stuck(1);
    before = weald_now();
    CHECK_EQ(weald_kill(g, 0, WEALD_FOREVER), 0);
    CHECK_LT(weald_now() - before, WEALD_SEC(5));
    CHECK_EQ(code, WEALD_ECANCELED);
    CHECK_EQ(weald_close(g), 0);
    open_gate();
}

TEST(ten_stuck_lookups_do_not_stop_the_eleventh)
{
    int64_t codes[10];

    use_ours();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weald_go(find_stuck, &codes[i]), 0);
    CHECK_EQ(weald_yield(), 0);
    wait_stuck(10);
    check_found("oak.test", "127.0.0.1:80 ::1:80");
    open_gate();
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(codes[i], 0);
    wait_stuck(0);
}

static void *find_and_free(void *name)
{
    struct addrinfo *found;
    CHECK_EQ(weald_getaddrinfo((const char *)name, "80", NULL, &found, WEALD_FOREVER), 0);
    weald_freeaddrinfo(found);
    return NULL;
}

TEST(there_is_a_bound_to_stuck_lookups_and_the_next_one_waits_its_turn)
{
    enum { MOST = 128 };

    use_ours();
    for (int i = 0; i < MOST; i++)
        CHECK_EQ(weald_go(find_and_free, (void *)(intptr_t) "stuck.test"), 0);
    CHECK_EQ(weald_yield(), 0);
    wait_stuck(MOST);
    CHECK_EQ(find("oak.test", weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_EQ(asked, MOST);
    CHECK_EQ(find("127.0.0.1", WEALD_NOW), 0);
    weald_freeaddrinfo(list);
    open_gate();
    check_found("oak.test", "127.0.0.1:80 ::1:80");
    CHECK_EQ(weald_run(WEALD_FOREVER), 0);
}

TEST(what_comes_too_late_for_the_asker_is_good_for_the_next)
{
    use_ours();
    CHECK_EQ(find("stuck.test", weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    open_gate();
    while (weald_dns_cached() == 0)
        usleep(1000);
    CHECK_EQ(find("stuck.test", WEALD_NOW), 0);
    weald_freeaddrinfo(list);
    CHECK_EQ(asked, 1);
}

TEST(the_hub_ends_while_a_lookup_is_stuck)
{
    static int64_t code;

    LEAKS("the greenlet is in the middle of a lookup, whose answer is never asked for");
    use_ours();
    CHECK_EQ(weald_go(find_stuck, &code), 0);
    CHECK_EQ(weald_yield(), 0);
    wait_stuck(1);
    CHECK_GE(weald_hub_shutdown(), 0);
    open_gate();
    wait_stuck(0);
}

/* ---- the cache ---- */

static int64_t find_oak(void) { return find("oak.test", WEALD_FOREVER); }

TEST(a_name_is_looked_up_once_and_then_known_even_in_a_callback)
{
    use_ours();
    CHECK_EQ(find_oak(), 0);
    weald_freeaddrinfo(list);
    CHECK_EQ(asked, 1);
    CHECK_EQ(weald_dns_cached(), 1);
    CHECK_EQ(in_a_callback(find_oak), 0);
    CHECK_CONTAINS(shown(list), "127.0.0.1:80");
    weald_freeaddrinfo(list);
    CHECK_EQ(find("oak.test", WEALD_NOW), 0);
    weald_freeaddrinfo(list);
    CHECK_EQ(asked, 1);
    /* Another question. */
    CHECK_EQ(weald_getaddrinfo("oak.test", "81", NULL, &list, WEALD_NOW), WEALD_EAGAIN);
}

TEST(answers_get_old)
{
    use_ours();
    CHECK_EQ(weald_dns_set_ttl(WEALD_MS(30), 0), 0);
    for (int i = 1; i <= 2; i++) {
        check_found("oak.test", "127.0.0.1:80 ::1:80");
        check_found("oak.test", "127.0.0.1:80 ::1:80");
        CHECK_LE(asked, 2 * i); /* once, unless this thread was off the processor for long */
        CHECK_EQ(weald_sleep(WEALD_MS(40)), 0);
        CHECK_EQ(weald_dns_cached(), 0);
    }
    CHECK_GE(asked, 2);
}

TEST(the_cache_can_be_turned_off_and_cleared)
{
    use_ours();
    check_found("oak.test", "127.0.0.1:80 ::1:80");
    CHECK_EQ(weald_dns_clear(), 0);
    CHECK_EQ(weald_dns_cached(), 0);
    check_found("oak.test", "127.0.0.1:80 ::1:80");
    CHECK_EQ(asked, 2);
    CHECK_EQ(weald_dns_set_ttl(0, 0), 0);
    for (int i = 3; i <= 5; i++) {
        check_found("oak.test", "127.0.0.1:80 ::1:80");
        CHECK_EQ(find("ash.test", WEALD_FOREVER), WEALD_EAI_NONAME);
        CHECK_EQ(asked, 2 * i - 2);
        CHECK_EQ(weald_dns_cached(), 0);
    }
    CHECK_EQ(weald_dns_set_ttl(-1, 0), WEALD_EINVAL);
    CHECK_EQ(weald_dns_set_ttl(0, -1), WEALD_EINVAL);
}

TEST(that_there_is_no_such_name_is_known_for_a_short_time)
{
    use_ours();
    CHECK_EQ(weald_dns_set_ttl(WEALD_SEC(100), WEALD_MS(500)), 0);
    CHECK_EQ(find("ash.test", WEALD_FOREVER), WEALD_EAI_NONAME);
    CHECK_EQ(find("ash.test", WEALD_NOW), WEALD_EAI_NONAME);
    CHECK_EQ(asked, 1);
    CHECK_EQ(weald_sleep(WEALD_MS(520)), 0);
    CHECK_EQ(find("ash.test", WEALD_NOW), WEALD_EAGAIN);
}

/* By the C library, which then says that there is no such name. */
TEST(a_name_for_which_no_file_can_be_opened_is_looked_up_again)
{
    struct rlimit few, more;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &more), 0);
    CHECK_EQ(weald_yield(), 0);
    test_take_descriptors(40);
    CHECK_EQ(find("localhost", WEALD_FOREVER), WEALD_EMFILE);
    few = more;
    few.rlim_cur = 60;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQ(find("localhost", WEALD_FOREVER), 0);
    weald_freeaddrinfo(list);
}

TEST(that_a_server_did_not_answer_is_not_kept)
{
    use_ours();
    for (int i = 1; i <= 2; i++) {
        CHECK_EQ(find("-3.test", WEALD_FOREVER), WEALD_EAI_AGAIN);
        CHECK_EQ(find("-11.test", WEALD_FOREVER), WEALD_EMFILE);
        CHECK_EQ(asked, 2 * i);
    }
    CHECK_EQ(weald_dns_cached(), 0);
}

TEST(what_was_asked_before_the_cache_was_cleared_is_not_kept)
{
    use_ours();
    CHECK_EQ(find("stuck.test", weald_after(WEALD_MS(20))), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_dns_clear(), 0);
    open_gate();
    wait_stuck(0);
    usleep(50000);
    CHECK_EQ(weald_dns_cached(), 0);
}

TEST(the_cache_does_not_grow_for_ever)
{
    char name[32];

    use_ours();
    CHECK_EQ(weald_dns_set_ttl(WEALD_SEC(100), WEALD_SEC(100)), 0);
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "ash-%d.test", i);
        CHECK_EQ(find(name, WEALD_FOREVER), WEALD_EAI_NONAME);
    }
    CHECK_LE(weald_dns_cached(), 512);
    CHECK_GE(weald_dns_cached(), 500);
    CHECK_EQ(find(name, WEALD_NOW), WEALD_EAI_NONAME);
}

TEST(a_resolver_is_whole_or_refused)
{
    weald_resolver half = {.size = sizeof half, .getaddrinfo = get}, wrong = {.size = 3};

    CHECK_EQ(weald_set_resolver(&half), WEALD_EINVAL);
    CHECK_EQ(weald_set_resolver(&wrong), WEALD_EINVAL);
    half.getaddrinfo = NULL;
    half.freeaddrinfo = give_back;
    CHECK_EQ(weald_set_resolver(&half), WEALD_EINVAL);
    half.freeaddrinfo = NULL;
    CHECK_EQ(weald_set_resolver(&half), 0);
}

/* ---- the other way, and the older functions ---- */

static struct sockaddr_in on_port(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(0x7f000001);
    return address;
}

static int64_t call_it(int port, size_t host_size, size_t service_size)
{
    struct sockaddr_in address = on_port(port);
    static char host[64], service[64];
    int64_t code;

    strcpy(host, "untouched");
    strcpy(service, "untouched");
    code = weald_getnameinfo((struct sockaddr *)&address, sizeof address, host, host_size, service, service_size, 0,
                             WEALD_FOREVER);
    CHECK_STR(host, code < 0 ? "untouched" : "oak.test");
    CHECK_STR(service, code < 0 ? "untouched" : "acorns");
    return code;
}

TEST(an_address_gets_its_name_or_the_buffers_are_left_alone)
{
    use_ours();
    CHECK_EQ(call_it(1, 9, 7), 0);
    CHECK_EQ(call_it(1, 8, 7), WEALD_EAI_OVERFLOW);
    CHECK_EQ(call_it(1, 9, 6), WEALD_EAI_OVERFLOW);
    CHECK_EQ(call_it(8, 64, 64), WEALD_EAI_SERVICE);
    CHECK_EQ(asked, 2); /* the right ones from the cache */
}

TEST(gethostbyname_tells_the_canonical_name_the_alias_and_each_address_once)
{
    struct hostent *other;

    use_ours();
    CHECK_EQ(weald_gethostbyname("oak.test", &host, WEALD_FOREVER), 0);
    CHECK_STR(host->h_name, "tree.test");
    CHECK_STR(host->h_aliases[0], "oak.test");
    CHECK_PTR(host->h_aliases[1], NULL);
    CHECK_EQ(host->h_addrtype, AF_INET);
    CHECK_EQ(host->h_length, 4);
    CHECK_EQ(memcmp(host->h_addr_list[0], "\x7f\0\0\1", 4), 0);
    CHECK_PTR(host->h_addr_list[1], NULL);
    CHECK_EQ(weald_gethostbyname_ex("oak.test", AF_INET6, &other, WEALD_FOREVER), 0);
    CHECK_EQ(other->h_length, 16);
    CHECK_EQ(memcmp(other->h_addr_list[0], &in6addr_loopback, 16), 0);
    CHECK_EQ(memcmp(host->h_addr_list[0], "\x7f\0\0\1", 4), 0); /* no static storage */
    weald_freehostent(other);
    weald_freehostent(host);
    CHECK_EQ(weald_gethostbyname("127.0.0.1", &host, WEALD_NOW), 0);
    CHECK_STR(host->h_name, "127.0.0.1");
    CHECK_PTR(host->h_aliases[0], NULL);
    weald_freehostent(host);
    weald_freehostent(NULL);
}

TEST(gethostbyaddr_tells_the_name_of_an_address)
{
    use_ours();
    CHECK_EQ(weald_gethostbyaddr("\x7f\0\0\1", 4, AF_INET, &host, WEALD_FOREVER), 0);
    CHECK_STR(host->h_name, "oak.test");
    CHECK_EQ(host->h_addrtype, AF_INET);
    CHECK_EQ(memcmp(host->h_addr_list[0], "\x7f\0\0\1", 4), 0);
    CHECK_PTR(host->h_addr_list[1], NULL);
    CHECK_PTR(host->h_aliases[0], NULL);
    weald_freehostent(host);
    CHECK_EQ(weald_set_resolver(NULL), 0);
    CHECK_EQ(weald_gethostbyaddr("\x7f\0\0\1", 4, AF_INET, &host, WEALD_FOREVER), 0);
    CHECK_STR(host->h_name, "localhost");
    weald_freehostent(host);
}

/* ---- every code ---- */

static const char *asks_for = "stuck.test";
static int port_of_it = 2;

static int64_t by_list(void) { return weald_getaddrinfo(asks_for, NULL, NULL, &list, WEALD_FOREVER); }
static int64_t by_name(void) { return weald_gethostbyname(asks_for, &host, WEALD_FOREVER); }
static int64_t by_name_6(void) { return weald_gethostbyname_ex(asks_for, AF_INET6, &host, WEALD_FOREVER); }

static int64_t by_address(void)
{
    struct sockaddr_in address = on_port(port_of_it);
    char name[64];
    return weald_getnameinfo((struct sockaddr *)&address, sizeof address, name, sizeof name, NULL, 0, 0, WEALD_FOREVER);
}

/* It asks for port 0, so the port is told to the resolver by the side. */
static int name_by_side(const struct sockaddr *address, socklen_t len, char *host, socklen_t host_size, char *service,
                        socklen_t service_size, int flags)
{
    struct sockaddr_in with = on_port(port_of_it);
    (void)address;
    return name((struct sockaddr *)&with, len, host, host_size, service, service_size, flags);
}

static int64_t by_part(void)
{
    weald_resolver side = {.size = sizeof side, .getnameinfo = name_by_side};
    CHECK_EQ(weald_set_resolver(&side), 0);
    return weald_gethostbyaddr("\x7f\0\0\1", 4, AF_INET, &host, WEALD_FOREVER);
}

static errors_call calls[] = {by_list, by_name, by_name_6, by_address, by_part};
enum { CALLS = sizeof calls / sizeof *calls };

TEST(a_lookup_can_end_in_every_way_that_a_wait_can)
{
    for (int i = 0; i < CALLS; i++) {
        use_ours();
        CHECK_EQ(when_killed(calls[i]), WEALD_ECANCELED);
        CHECK_EQ(in_a_timeout(calls[i]), WEALD_ETIMEDOUT);
        CHECK_EQ(in_a_callback(calls[i]), WEALD_EWOULDBLOCK);
        CHECK_EQ(when_forbidden(calls[i]), WEALD_EPERM);
    }
    open_gate();
}

static void in_child(errors_call call)
{
    asks_for = "slow.test";
    port_of_it = 3;
    use_ours();
    CHECK_EQ(in_a_forked_child(call), WEALD_EDEADLK);
}

TEST(a_list_of_the_parent_is_a_deadlock_in_a_child_that_a_callback_forks) { in_child(by_list); }
TEST(a_host_of_the_parent_is_a_deadlock_in_a_child_that_a_callback_forks) { in_child(by_name); }
TEST(a_host6_of_the_parent_is_a_deadlock_in_a_child_that_a_callback_forks) { in_child(by_name_6); }
TEST(a_name_of_the_parent_is_a_deadlock_in_a_child_that_a_callback_forks) { in_child(by_address); }
TEST(a_name_of_the_parent_by_part_is_a_deadlock_in_a_child_that_a_callback_forks) { in_child(by_part); }

TEST(the_answers_of_a_resolver_have_codes_of_their_own)
{
    const struct {
        int eai, code;
    } all[] = {
        {EAI_BADFLAGS, WEALD_EAI_BADFLAGS}, {EAI_NONAME, WEALD_EAI_NONAME},
        {EAI_AGAIN, WEALD_EAI_AGAIN},       {EAI_FAIL, WEALD_EAI_FAIL},
        {-5 /* NODATA */, WEALD_EAI_NODATA}, {EAI_FAMILY, WEALD_EAI_FAMILY},
        {EAI_SOCKTYPE, WEALD_EAI_SOCKTYPE}, {EAI_SERVICE, WEALD_EAI_SERVICE},
        {-9 /* ADDRFAMILY */, WEALD_EAI_ADDRFAMILY}, {EAI_MEMORY, WEALD_ENOMEM},
        {EAI_SYSTEM, WEALD_EMFILE},         {EAI_OVERFLOW, WEALD_EAI_OVERFLOW},
        {-77, WEALD_EAI_FAIL},
    };
    char text[16];

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        snprintf(text, sizeof text, "%d.test", all[i].eai);
        asks_for = text;
        port_of_it = -all[i].eai;
        for (int c = 0; c < CALLS; c++) {
            use_ours();
            if (port_of_it > 3 || c < 3)
                CHECK_EQ(calls[c](), all[i].code);
        }
        CHECK(strcmp(weald_strcode(all[i].code), "UNKNOWN") != 0);
        CHECK(strcmp(weald_strerror(all[i].code), weald_strerror(-4095)) != 0);
    }
    CHECK_STR(weald_strcode(WEALD_EAI_NONAME), "EAI_NONAME");
}

static int low;
static int low_name(const struct sockaddr *address, socklen_t len, char *host, socklen_t host_size, char *service,
                    socklen_t service_size, int flags)
{
    (void)address, (void)len, (void)host, (void)host_size, (void)service, (void)service_size, (void)flags;
    return low;
}

TEST(the_low_answers_of_getnameinfo_have_codes_of_their_own_too)
{
    const int codes[] = {0, WEALD_EAI_BADFLAGS, WEALD_EAI_NONAME, WEALD_EAI_AGAIN};
    weald_resolver resolver = {.size = sizeof resolver, .getnameinfo = low_name};

    for (int i = 1; i <= 3; i++) {
        low = -i;
        CHECK_EQ(weald_set_resolver(&resolver), 0);
        CHECK_EQ(by_address(), codes[i]);
        CHECK_EQ(weald_set_resolver(&resolver), 0);
        CHECK_EQ(weald_gethostbyaddr("\x7f\0\0\1", 4, AF_INET, &host, WEALD_FOREVER), codes[i]);
    }
}

TEST(arguments_that_can_not_be_are_refused)
{
    struct sockaddr_in address = on_port(1);
    const struct sockaddr *a = (const struct sockaddr *)&address;
    char text[8];

    use_ours();
    CHECK_EQ(weald_getaddrinfo("oak.test", NULL, NULL, NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_getnameinfo(NULL, sizeof address, text, sizeof text, NULL, 0, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_getnameinfo(a, sizeof address, NULL, 8, text, 0, 0, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_getnameinfo(a, 4000, text, sizeof text, NULL, 0, 0, WEALD_FOREVER), WEALD_EAI_FAMILY);
    CHECK_EQ(weald_getnameinfo(a, 1, text, sizeof text, NULL, 0, NI_NUMERICHOST, WEALD_FOREVER), WEALD_EAI_FAMILY);
    CHECK_EQ(weald_gethostbyname(NULL, &host, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_gethostbyname("oak.test", NULL, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_gethostbyname_ex(NULL, AF_INET, &host, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_gethostbyname_ex("oak.test", AF_UNIX, &host, WEALD_FOREVER), WEALD_EAI_FAMILY);
    CHECK_EQ(weald_gethostbyaddr(NULL, 4, AF_INET, &host, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_gethostbyaddr(text, 5, AF_INET, &host, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_gethostbyaddr(text, 4000, AF_INET, &host, WEALD_FOREVER), WEALD_EINVAL);
    CHECK_EQ(weald_gethostbyaddr(text, 4, AF_UNIX, &host, WEALD_FOREVER), WEALD_EAI_FAMILY);
    CHECK_EQ(asked, 0);
}

TEST(without_time_nothing_is_looked_up)
{
    struct sockaddr_in address = on_port(1);
    char text[8];

    use_ours();
    CHECK_EQ(find("oak.test", WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(find("oak.test", 1), WEALD_ETIMEDOUT);
    CHECK_EQ(weald_gethostbyname("oak.test", &host, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_gethostbyname_ex("oak.test", AF_INET6, &host, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_gethostbyaddr("\x7f\0\0\1", 4, AF_INET, &host, WEALD_NOW), WEALD_EAGAIN);
    CHECK_EQ(weald_getnameinfo((struct sockaddr *)&address, sizeof address, text, sizeof text, NULL, 0, 0, WEALD_NOW),
             WEALD_EAGAIN);
    CHECK_EQ(asked, 0);
}

/* ---- threads, forks, and no descriptors ---- */

static void find_often(void)
{
    for (int i = 0; i < 200; i++) {
        if (i % 50 == 0)
            CHECK_EQ(weald_dns_clear(), 0);
        check_found("oak.test", "127.0.0.1:80 ::1:80");
    }
}

static void *hub_of_its_own(void *unused)
{
    find_often();
    CHECK_EQ(weald_hub_shutdown(), 0);
    return unused;
}

TEST(hubs_share_the_cache_and_the_threads)
{
    pthread_t all[4];

    use_ours();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&all[i], NULL, hub_of_its_own, NULL), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(all[i], NULL), 0);
    CHECK_LE(asked, 4 * 4 * 4);
}

TEST(a_forked_child_has_the_cache_and_looks_up_on_its_own)
{
    int status;
    pid_t child;

    use_ours();
    check_found("oak.test", "127.0.0.1:80 ::1:80");
    CHECK_GE(child = fork(), 0);
    if (child == 0) {
        check_found("oak.test", "127.0.0.1:80 ::1:80");
        CHECK_EQ(asked, 1);
        check_found("slow.test", "127.0.0.1:80 ::1:80");
        CHECK_EQ(asked, 2);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

TEST(a_lookup_without_descriptors_fails_and_the_next_one_does_not)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found = NULL;
    struct rlimit before, none;

    CHECK_GT(weald_self(), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_LT(weald_getaddrinfo("localhost", "80", &hints, &found, WEALD_FOREVER), 0);
    CHECK_PTR(found, NULL);
    CHECK_EQ(weald_getaddrinfo("127.0.0.1", "80", &hints, &found, WEALD_NOW), 0);
    weald_freeaddrinfo(found);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(weald_dns_clear(), 0);
    CHECK_EQ(weald_getaddrinfo("localhost", "80", &hints, &found, WEALD_FOREVER), 0);
    weald_freeaddrinfo(found);
}
