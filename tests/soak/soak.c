/* Everything at once, for as long as one likes: `make soak`.
 *
 * A stream server at TCP and at a Unix name, and a datagram server. Sessions talk to them, use files, run programs and
 * fork children, and each checks every byte that it gets back. Meanwhile they are killed, interrupted and timed out;
 * connections are dropped, reset and half closed in the middle; some never read what they are sent; the stream servers
 * are stopped and made anew; descriptors run out for moments; and a signal without SA_RESTART comes every few ms.
 *
 * A session may fail only for a reason that it knows of: it was killed or interrupted, its server was stopped, there
 * were no descriptors. Every ten seconds (every tenth of a shorter run) all of them end and the rest is counted: what
 * is there after the first tenth is what there may be at the end. A session that does not end is dumped.
 *
 *     SOAK_SECONDS=600     for how long
 *     WEALD_TEST_SEED=n    draws from this; what the clock decides is not repeated
 */
#include "sessions.h"

#include <pthread.h>
#include <stdarg.h>
#include <sys/time.h>

/* ---- what is counted ---- */

static struct {
    long sessions, requests, bytes, connections, cut, killed, interrupted, late, reset, datagrams, lost, files,
        programs, children;
} count;

/* ---- what every byte should be ---- */

enum { LARGEST = 100000, FILE_SIZE = 70000 };

static unsigned char pattern[LARGEST + 256];

/* `len` bytes from one of 251 places of the pattern, so that an answer to another question is noticed. */
static const unsigned char *piece(unsigned place) { return pattern + place % 251; }

static void fill_pattern(void)
{
    uint32_t x = 12345;

    for (size_t i = 0; i < sizeof pattern; i++) {
        x = x * 1664525 + 1013904223;
        pattern[i] = (unsigned char)(x >> 24);
    }
}

/* ---- the servers ---- */

/* Who began before a stop, or while there are none, may find his connection cut. */
static weald_server tcp, local, udp;
static int port, udp_port, the_file = -1;
static char unix_name[64], tcp_number[64], tcp_name[64];

/* "E place len\n" and so many bytes: the same again. "F len\n": the beginning of a file. */
static int answer(int fd, const struct sockaddr *peer, socklen_t peer_len, void *user)
{
    weald_stream_options how = {.size = sizeof how, .flags = WEALD_STREAM_BORROWS};
    weald_stream s = weald_stream_new(fd, &how);
    unsigned char *body = NULL;
    const char *line;
    int code = 0;

    (void)peer, (void)peer_len, (void)user;
    CHECK_GT(s, 0);
    while (code == 0 && weald_stream_line(s, &line, NULL, 40, WEALD_FOREVER) == 1) {
        unsigned place;
        size_t len;
        char head[48];

        if (sscanf(line, "F %zu", &len) == 1) {
            int64_t offset = 0;

            CHECK_LE(len, FILE_SIZE);
            if ((code = weald_stream_flush(s, WEALD_FOREVER)) == 0)
                code = weald_sendfile(fd, the_file, &offset, len, WEALD_FOREVER) < 0;
            continue;
        }
        CHECK_EQ(sscanf(line, "E %u %zu", &place, &len), 2);
        CHECK_LE(len, LARGEST);
        snprintf(head, sizeof head, "%s\n", line);
        CHECK(body = (unsigned char *)malloc(len + 1));
        if ((code = weald_stream_read_exact(s, body, len, NULL, WEALD_FOREVER)) == 0) {
            CHECK_EQ(memcmp(body, piece(place), len), 0);
            if ((code = weald_stream_write(s, head, strlen(head), NULL, WEALD_FOREVER)) == 0 &&
                (code = weald_stream_write(s, body, len, NULL, WEALD_FOREVER)) == 0)
                code = weald_stream_flush(s, WEALD_FOREVER);
        }
        free(body);
    }
    CHECK_EQ(weald_close(s), 0);
    return 0;
}

static void answer_datagram(int fd, const void *data, size_t len, const struct sockaddr *peer, socklen_t peer_len,
                            void *user)
{
    (void)user;
    weald_sendto(fd, data, len, 0, peer, peer_len, weald_after(WEALD_SEC(1)));
}

static weald_server listening(const char *address)
{
    weald_server_options options = {.size = sizeof options, .backlog = 512};
    weald_server s;

    /* A child that was just forked has the old listener for a moment. */
    for (int tries = 0; (s = weald_server_new(address, answer, NULL, &options)) == WEALD_EADDRINUSE && tries < 200;
         tries++)
        weald_sleep(WEALD_MS(10));
    CHECK_GT(s, 0);
    CHECK_EQ(weald_server_start(s), 0);
    return s;
}

static void open_servers(void)
{
    tcp = listening(tcp_number);
    local = listening(unix_name);
    shut = 0;
}

/* ---- sessions ---- */

enum { SESSIONS = 48 };

struct session {
    weald_greenlet g;
    int interrupts; /* it may be told to stop at any call */
    long stops, scarce;
    weald_timeout timeout;
};

static struct session sessions[SESSIONS];

static int no_descriptor(int code) { return code == WEALD_EMFILE; }

/* Whether there is a reason for `code`; what it stands in is over then. */
static int excused(const struct session *me, int code)
{
    int cut = code == WEALD_EPIPE || code == WEALD_ECONNRESET || code == WEALD_ECONNREFUSED || code == WEALD_ENOTCONN;

    if (code == WEALD_ECANCELED)
        count.killed++;
    else if (code == WEALD_ETIMEDOUT && me->timeout && weald_timeout_fired(me->timeout) == 1)
        count.late++;
    else if (code == WEALD_EADDRNOTAVAIL) /* every port waits for its minute to pass */
        weald_sleep(WEALD_MS(100));
    else if (no_descriptor(code) && (few || me->scarce != scarcities))
        ;
    else if (cut && (me->stops != stops || me->stops < 0 || few || me->scarce != scarcities))
        count.cut++;
    else
        return 0;
    return 1;
}

#define EXCUSED(me, code)                                                                                               \
    (excused(me, code) ? (void)0 : test_values(__FILE__, __LINE__, "a session fails for a reason", code, 0))

/* A deadline that cuts calls short, or none. */
static int64_t some_deadline(void)
{
    switch (below(8)) {
    case 0: return WEALD_NOW;
    case 1: return weald_after(WEALD_US(below(200)));
    case 2: return weald_after(WEALD_MS(below(5)));
    default: return WEALD_FOREVER;
    }
}

/* Whether a call that ended with `code` may just be made again: nothing of it is lost. */
static int again(const struct session *me, int code)
{
    if (code == WEALD_EINTR)
        count.interrupted++;
    else if (code == WEALD_EAGAIN)
        weald_yield();
    else if (code != WEALD_ETIMEDOUT || (me->timeout && weald_timeout_fired(me->timeout) == 1))
        return 0;
    return 1;
}

static int write_whole(const struct session *me, weald_stream s, const void *data, size_t len)
{
    const char *rest = (const char *)data;
    size_t done;
    int code;

    while ((code = weald_stream_write(s, rest, len, &done, some_deadline())) < 0 && again(me, code))
        rest += done, len -= done;
    return code;
}

static int flush_whole(const struct session *me, weald_stream s)
{
    int code;

    while ((code = weald_stream_flush(s, some_deadline())) < 0 && again(me, code))
        ;
    return code;
}

static int read_whole(const struct session *me, weald_stream s, void *data, size_t len)
{
    char *rest = (char *)data;
    size_t done;
    int code;

    while ((code = weald_stream_read_exact(s, rest, len, &done, some_deadline())) < 0 && again(me, code))
        rest += done, len -= done;
    return code;
}

static int read_line(const struct session *me, weald_stream s, const char **line)
{
    int code;

    while ((code = weald_stream_line(s, line, NULL, 40, some_deadline())) < 0 && again(me, code))
        ;
    return code == 0 ? WEALD_EPIPE : code;
}

struct question {
    char head[48];
    unsigned place;
    size_t len;
    int is_file;
};

static struct question some_question(size_t most)
{
    struct question q = {.place = below(251), .is_file = one_in(10)};

    q.len = one_in(12) ? below((unsigned)most + 1) : one_in(3) ? below(2000) : 64;
    if (q.is_file) {
        q.len = q.len > FILE_SIZE ? FILE_SIZE : q.len;
        snprintf(q.head, sizeof q.head, "F %zu\n", q.len);
    } else
        snprintf(q.head, sizeof q.head, "E %u %zu\n", q.place, q.len);
    return q;
}

static int ask(const struct session *me, weald_stream s, const struct question *q)
{
    int code = write_whole(me, s, q->head, strlen(q->head));

    if (code == 0 && !q->is_file)
        code = write_whole(me, s, piece(q->place), q->len);
    return code == 0 ? flush_whole(me, s) : code;
}

static int check_answer(const struct session *me, weald_stream s, const struct question *q, unsigned char *body)
{
    const char *line;
    int code;

    if (!q->is_file) {
        if ((code = read_line(me, s, &line)) < 0)
            return code;
        CHECK_EQ(strlen(line), strlen(q->head) - 1);
        CHECK_EQ(memcmp(line, q->head, strlen(line)), 0);
    }
    if ((code = read_whole(me, s, body, q->len)) < 0)
        return code;
    CHECK_EQ(memcmp(body, piece(q->is_file ? 0 : q->place), q->len), 0);
    count.requests++;
    count.bytes += (long)q->len;
    return 0;
}

static void reset_at_close(int fd)
{
    struct linger at_once = {1, 0};

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
}

/* All questions first, then the half close, then every answer, then the end and nothing behind it. */
static int talk_half_closed(const struct session *me, weald_stream s, unsigned char *body)
{
    struct question qs[4];
    int n = 1 + (int)below(4), code = 0;

    for (int i = 0; i < n && code == 0; i++) {
        qs[i] = some_question(3000);
        code = ask(me, s, &qs[i]);
    }
    if (code == 0)
        code = weald_shutdown(weald_stream_fd(s), SHUT_WR);
    for (int i = 0; i < n && code == 0; i++)
        code = check_answer(me, s, &qs[i], body);
    if (code == 0) {
        while ((code = (int)weald_stream_read(s, body, 1, some_deadline())) < 0 && again(me, code))
            ;
        CHECK_LE(code, 0);
    }
    return code;
}

/* Asks and asks, and reads nothing: at some time there is no room. */
static int talk_unread(const struct session *me, weald_stream s)
{
    struct question q = {.len = 50000};
    int64_t until = weald_after(WEALD_MS(20 + below(100)));
    int code = 0;

    snprintf(q.head, sizeof q.head, "E 0 %zu\n", q.len);
    while (code == 0 && weald_now() < until)
        if ((code = weald_stream_write(s, q.head, strlen(q.head), NULL, until)) == 0 &&
            (code = weald_stream_write(s, pattern, q.len, NULL, until)) == 0)
            code = weald_stream_flush(s, until);
    reset_at_close(weald_stream_fd(s));
    count.reset++;
    return code == WEALD_ETIMEDOUT && weald_now() >= until ? 0 : again(me, code) ? 0 : code;
}

static int talk(const struct session *me, weald_stream s, unsigned char *body)
{
    int n = 1 + (int)below(20), code = 0, small = one_in(10);
    unsigned end = below(8);

    if (small) {
        CHECK_EQ(weald_set_option(weald_stream_fd(s), WEALD_OPTION_SNDBUF, 1), 0);
        CHECK_EQ(weald_set_option(weald_stream_fd(s), WEALD_OPTION_RCVBUF, 1), 0);
    }
    for (int i = 0; i < n && code == 0; i++) {
        struct question q = some_question(small ? 2000 : LARGEST);

        code = ask(me, s, &q);
        if (code == 0 && i == n - 1 && end < 3) { /* drop it, reset it, or wait a little before, without the answer */
            if (end == 1)
                reset_at_close(weald_stream_fd(s)), count.reset++;
            return end == 2 ? weald_sleep(WEALD_US(below(3000))) : 0;
        }
        if (code == 0)
            code = check_answer(me, s, &q, body);
    }
    return code;
}

static int connect_somewhere(const struct session *me)
{
    int fd;

    switch (below(3)) {
    case 0: return weald_unix_connect(unix_name + strlen("unix:"), WEALD_FOREVER);
    case 1: return weald_tcp_connect(tcp_number, WEALD_FOREVER);
    }
    while ((fd = weald_tcp_connect(tcp_name, weald_after(WEALD_MS(1 + below(30))))) < 0 && again(me, fd))
        ;
    return fd;
}

static int use_connection(const struct session *me)
{
    unsigned char *body;
    weald_stream s;
    int fd = connect_somewhere(me), code;

    if (fd < 0)
        return fd;
    count.connections++;
    CHECK_GT(s = weald_stream_new(fd, NULL), 0);
    CHECK(body = (unsigned char *)malloc(LARGEST));
    code = one_in(6) ? talk_half_closed(me, s, body) : one_in(20) ? talk_unread(me, s) : talk(me, s, body);
    free(body);
    CHECK_EQ(weald_close(s), 0);
    return code;
}

/* A datagram may be lost; one that comes is whole. */
static int use_datagrams(const struct session *me)
{
    unsigned char sent[1400], got[1500];
    int fd = weald_udp_connect(net_at("127.0.0.1", udp_port), WEALD_FOREVER), code = 0;

    for (uint32_t number = 0; fd >= 0 && number < 20 && code >= 0; number++) {
        size_t len = sizeof number + below(sizeof sent - sizeof number);
        uint32_t theirs = 0;

        memcpy(sent, piece(number), sizeof sent);
        memcpy(sent, &number, sizeof number);
        if ((code = (int)weald_send(fd, sent, len, 0, WEALD_FOREVER)) < 0)
            break;
        CHECK_EQ(code, len);
        do {
            if ((code = (int)weald_recv(fd, got, sizeof got, 0, weald_after(WEALD_MS(200)))) < 0)
                break;
            CHECK_GE(code, sizeof theirs);
            memcpy(&theirs, got, sizeof theirs);
            CHECK_LE(theirs, number);
            CHECK_EQ(memcmp(got + sizeof theirs, piece(theirs) + sizeof theirs, (size_t)code - sizeof theirs), 0);
        } while (theirs < number);
        if (code >= 0) {
            CHECK_EQ(code, len);
            count.datagrams++;
        } else if (again(me, code)) {
            count.lost++;
            code = 0;
        }
    }
    if (fd < 0)
        return fd;
    CHECK_EQ(weald_close_fd(fd), 0);
    return code < 0 ? code : 0;
}

static char folder[] = "/tmp/weald-soak-XXXXXX";

static void file_name(char *name, size_t size, int number) { snprintf(name, size, "%s/%d", folder, number); }

/* Who is killed while a thread writes must not close the file under it: that part is shielded. */
static int use_file(int number)
{
    enum { PARTS = 8, PART = 5000 };
    char name[64];
    unsigned char got[PART];
    struct stat status;
    int fd, code = 0;

    file_name(name, sizeof name, number);
    if ((fd = weald_file_open(name, O_RDWR | O_CREAT | O_TRUNC, 0600, WEALD_FOREVER)) < 0)
        return fd;
    CHECK_EQ(weald_shield(1), 0);
    for (int i = 0; i < PARTS; i++)
        CHECK_EQ(weald_file_write(fd, piece((unsigned)i), PART, i * PART, WEALD_FOREVER), PART);
    CHECK_EQ(weald_file_fstat(fd, &status, WEALD_FOREVER), 0);
    CHECK_EQ(status.st_size, PARTS * PART);
    for (int i = 0; i < PARTS; i++) {
        CHECK_EQ(weald_file_read(fd, got, PART, i * PART, WEALD_FOREVER), PART);
        CHECK_EQ(memcmp(got, piece((unsigned)i), PART), 0);
    }
    CHECK_EQ(weald_file_close(fd, WEALD_FOREVER), 0);
    CHECK_EQ(weald_shield(0), 0);
    count.files++;
    if ((code = weald_file_remove(name, WEALD_FOREVER)) < 0)
        unlink(name);
    return code;
}

static int use_program(void)
{
    static const char *const cat[] = {"cat", NULL};
    weald_process_options how = {.size = sizeof how, .in = WEALD_PIPE, .out = WEALD_PIPE};
    weald_process_io io = {.size = sizeof io, .input = pattern, .input_size = 1 + below(LARGEST)};
    weald_process p = weald_process_spawn(cat, &how);
    int code;

    if (p < 0)
        return (int)p;
    while ((code = weald_process_communicate(p, &io, weald_after(WEALD_MS(1 + below(100))))) == WEALD_ETIMEDOUT)
        ;
    if (code == 0) {
        CHECK_EQ(io.status, 0);
        CHECK_EQ(io.out_size, io.input_size);
        CHECK_EQ(memcmp(io.out, pattern, io.out_size), 0);
        weald_free(io.out);
        weald_free(io.err);
        count.programs++;
    } else
        weald_process_kill(p, SIGKILL);
    CHECK_EQ(weald_close(p), 0);
    return code;
}

/* The child lets go of every other socket first: what its parent closes is to be closed. */
static int echo_messages(weald_channel c, void *unused)
{
    int in = weald_channel_fd(c, WEALD_READ), out = weald_channel_fd(c, WEALD_WRITE);
    struct stat status;
    void *data;
    size_t len;
    int code;

    (void)unused;
    for (int fd = 3; fd < 1024; fd++)
        if (fd != in && fd != out && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode))
            close(fd);
    while ((code = weald_channel_receive(c, &data, &len, WEALD_FOREVER)) == 0) {
        code = weald_channel_send(c, data, len, WEALD_FOREVER);
        weald_free(data);
        if (code < 0)
            break;
    }
    return code == WEALD_EPIPE ? 0 : 1;
}

static int use_child(void)
{
    weald_channel c;
    weald_process p = weald_process_fork(echo_messages, NULL, &c, 0);
    int code = 0, status = -1;

    if (p < 0)
        return (int)p;
    for (unsigned i = 0; i < 20 && code == 0; i++) {
        size_t want = below(20000), len;
        void *data;

        if ((code = weald_channel_send(c, piece(i), want, WEALD_FOREVER)) == 0 &&
            (code = weald_channel_receive(c, &data, &len, WEALD_FOREVER)) == 0) {
            CHECK_EQ(len, want);
            CHECK_EQ(memcmp(data, piece(i), len), 0);
            weald_free(data);
        }
    }
    CHECK_EQ(weald_close(c), 0);
    if (code == 0 && (code = weald_process_wait(p, &status, WEALD_FOREVER)) == 0) {
        CHECK_EQ(status, 0);
        count.children++;
    }
    CHECK_EQ(weald_close(p), 0);
    return code;
}

static void *session(void *arg)
{
    struct session *me = (struct session *)arg;
    unsigned what = below(400);
    int code;

    me->stops = shut ? -1 : stops;
    me->scarce = few ? -1 : scarcities;
    me->interrupts = 0;
    if (what < 360) {
        me->interrupts = 1;
        if (one_in(10))
            CHECK_GT(me->timeout = weald_timeout_start(WEALD_US(below(20000))), 0);
        code = use_connection(me);
    } else if (what < 380)
        code = use_datagrams(me);
    else if (what < 398)
        code = use_file((int)(me - sessions));
    else if (what < 399 || few) /* a forked child would say that it has no epoll */
        code = use_program();
    else
        code = use_child();
    me->interrupts = 0;
    if (code < 0 && code != WEALD_EINTR)
        EXCUSED(me, code);
    if (me->timeout)
        CHECK_EQ(weald_close(me->timeout), 0);
    me->timeout = 0;
    count.sessions++;
    return NULL;
}

static void tidy(struct session *me)
{
    if (me->timeout)
        CHECK_EQ(weald_close(me->timeout), 0);
    me->timeout = 0;
}

/* ---- what befalls them ---- */

static void stop_servers(void)
{
    CHECK_GE(weald_server_stop(tcp, one_in(2) ? WEALD_NOW : WEALD_MS(below(200))), 0);
    CHECK_GE(weald_server_stop(local, WEALD_MS(below(20))), 0);
    CHECK_EQ(weald_close(tcp), 0);
    CHECK_EQ(weald_close(local), 0);
}

static void *torment(void *unused)
{
    while (!over) {
        struct session *one = &sessions[below(SESSIONS)];

        CHECK_EQ(weald_sleep(WEALD_US(500 + below(3000))), 0);
        if (!one->g || paused)
            continue;
        if (one_in(2))
            CHECK_EQ(weald_kill(one->g, 0, WEALD_NOW), 0);
        else if (one->interrupts)
            weald_interrupt(one->g, WEALD_EINTR);
    }
    return unused;
}

static void on_tick(int signo) { (void)signo; }

static void tick(int ms)
{
    struct itimerval every = {{0, ms * 1000}, {0, ms * 1000}};
    CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
}

/* Of a greenlet that fails nobody should have to hear, but of a server without descriptors. */
static void on_error(weald_greenlet g, int code, const char *message, void *user)
{
    (void)user, (void)g;
    if (!no_descriptor(code)) {
        fprintf(stderr, "failed: %s %s\n", weald_strcode(code), message);
        test_leave(TEST_FAILED);
    }
}

/* ---- names ---- */

static int find(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    struct addrinfo numeric = {.ai_family = AF_UNSPEC};

    if (hints)
        numeric = *hints;
    numeric.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    if (strcmp(host, "soak.test") != 0)
        return EAI_NONAME;
    usleep((unsigned)(test_clock() / 1000 % 8000));
    return getaddrinfo("127.0.0.1", service, &numeric, list);
}

/* ---- what is left when all sessions have ended ---- */

/* Those for files, and those for names. */
enum { MOST_THREADS = 1 + 16 + 128 };

static int calm(void)
{
    return weald_server_count(tcp) == 0 && weald_server_count(local) == 0 && weald_server_count(udp) == 0;
}

static struct state count_what_is_left(void)
{
    struct state now;

    calm_down();
    /* One that was short of descriptors may have lost its spare one; a new one has it. */
    CHECK_EQ(weald_close(tcp), 0);
    CHECK_EQ(weald_close(local), 0);
    open_servers();
    tick(0);
    CHECK_EQ(weald_sleep(WEALD_MS(100)), 0); /* threads end what nobody waits for any more; children are reaped */
    now = state_now();
    tick(3);
    return now;
}

static void tell(int64_t began, const struct state *now)
{
    printf("%4d s  %ld requests (%ld MB) in %ld connections, %ld sessions; %ld killed, %ld interrupted, %ld late, "
           "%ld cut, %ld reset; %ld datagrams (%ld lost), %ld files, %ld programs, %ld children; %ld restarts, "
           "%ld times no descriptors; RSS %ld KiB, %d fds, %d mappings and %d threads, %ld handles\n",
           (int)((weald_now() - began) / WEALD_SEC(1)), count.requests, count.bytes / 1000000, count.connections,
           count.sessions, count.killed, count.interrupted, count.late, count.cut, count.reset, count.datagrams,
           count.lost, count.files, count.programs, count.children, stops, scarcities / 2, now->rss >> 10,
           now->fds, now->mappings, now->threads, now->handles);
    fflush(stdout);
}

static void check_own(const struct state *warm, const struct state *now)
{
    CHECK_LE(now->threads, MOST_THREADS);
    CHECK_LE(now->mappings, warm->mappings + 24); /* the C library keeps some stacks of threads that have ended */
}

static void choose_ports(void)
{
    int number;

    /* Not one that the kernel gives to a connection: it might connect to itself while there is no server. */
    do {
        port = 10000 + (int)below(20000);
        number = weald_tcp_listen(net_at("127.0.0.1", port), 1, 0);
    } while (number < 0);
    CHECK_EQ(weald_close_fd(number), 0);
    snprintf(tcp_number, sizeof tcp_number, "127.0.0.1:%d", port);
    snprintf(tcp_name, sizeof tcp_name, "soak.test:%d", port);
    snprintf(unix_name, sizeof unix_name, "unix:@weald-soak-%d", (int)getpid());
}

TEST(nothing_is_lost_and_nothing_grows)
{
    int64_t length = soak_length("");
    weald_resolver resolver = {.size = sizeof resolver, .getaddrinfo = find, .freeaddrinfo = freeaddrinfo};
    struct sigaction act = {.sa_handler = on_tick};
    int fds = test_fds();
    char name[64];

    fill_pattern();
    CHECK_EQ(sigaction(SIGALRM, &act, NULL), 0);
    CHECK_EQ(weald_set_error_handler(on_error, NULL), 0);
    CHECK_EQ(weald_set_resolver(&resolver), 0);
    CHECK_EQ(weald_dns_set_ttl(WEALD_MS(20), WEALD_MS(20)), 0);
    CHECK(mkdtemp(folder) != NULL);
    snprintf(name, sizeof name, "%s/file", folder);
    CHECK_GE(the_file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600), 0);
    CHECK_EQ(write(the_file, pattern, FILE_SIZE), FILE_SIZE);
    CHECK_EQ(unlink(name), 0);
    choose_ports();
    open_servers();
    CHECK_GT(udp = weald_datagram_server_new("127.0.0.1:0", answer_datagram, NULL, NULL), 0);
    CHECK_EQ(weald_server_start(udp), 0);
    udp_port = weald_server_port(udp);

    tick(3);
    soak(length, sessions, sizeof *sessions, SESSIONS, torment, 500);
    CHECK_GT(count.requests, 0);
    CHECK_EQ(weald_hub_shutdown(), 0);
    tick(0);
    close(the_file);
    for (int i = 0; i < SESSIONS; i++) { /* of those who were killed while a thread made it */
        file_name(name, sizeof name, i);
        unlink(name);
    }
    CHECK_EQ(rmdir(folder), 0);
    for (int tries = 0; tries < 200 && test_fds() != fds; tries++)
        usleep(10000);
    CHECK_EQ(test_fds(), fds);
    puts("no byte was lost or wrong, and memory, descriptors and mappings are flat");
}
