/* The hub's codes, which go for every function that needs one: WEALD_ESHUTDOWN after the hub's end; WEALD_EMFILE and
 * WEALD_ENOMEM when a thread's first call can not make one. */
#include "errors.h"
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

static void *body(void *unused) { return unused; }
static void *coroutine(void *first, void *unused) { return first ? first : unused; }
static void link_fn(weald_handle ended, void *unused) { (void)ended, (void)unused; }
static void call(void *unused) { (void)unused; }
static void watch(weald_watcher w, int what, void *unused) { (void)w, (void)what, (void)unused; }
static int order(const void *a, const void *b) { return a < b ? -1 : a > b; }
static int map(void *item, void **out, void *unused)
{
    (void)unused;
    *out = item;
    return 0;
}
static int next(void **item, void *unused)
{
    (void)item, (void)unused;
    return 0;
}

static int child(weald_channel c, void *unused)
{
    (void)c, (void)unused;
    return 0;
}
static void answer_request(weald_http_request r, void *unused) { (void)r, (void)unused; }
static int serve(int fd, const struct sockaddr *peer, socklen_t peer_len, void *unused)
{
    (void)fd, (void)peer, (void)peer_len, (void)unused;
    return 0;
}
static int serve_stream(weald_stream s, const struct sockaddr *peer, socklen_t peer_len, void *unused)
{
    (void)s, (void)peer, (void)peer_len, (void)unused;
    return 0;
}
static void answer(int fd, const void *data, size_t len, const struct sockaddr *peer, socklen_t peer_len, void *unused)
{
    (void)fd, (void)data, (void)len, (void)peer, (void)peer_len, (void)unused;
}

static int expected;

/* All that need a hub; the suite `codes` sees to that. None gets as far as to look at its handle. */
static void call_all(void)
{
    weald_greenlet g = 0;
    struct pollfd fd = {.fd = 0, .events = POLLIN};
    weald_wait_item item = {.fd = 0, .events = WEALD_READ};
    weald_stats stats = {.size = sizeof stats};
    weald_tls_info info = {.size = sizeof info};
    size_t data_len;
    int last;
    weald_websocket none = 0;
    void *value = NULL, *items[1] = {NULL};
    int signo = SIGUSR1;
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct addrinfo *list;
    struct hostent *host;
    char text[64];
    char bytes[1] = "";
    struct iovec iov = {bytes, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct sockaddr address = {.sa_family = AF_UNIX};
    const char *argv[] = {"true", NULL}, *name, *line;
    weald_process_io io = {.size = sizeof io};
    weald_channel ends[2];
    weald_handle handle;
    struct stat status;
    size_t size = 0;
    const void *data;
    void *memory;

#define IS(call) CHECK_EQ(call, expected)
    IS(weald_close(0));
    IS(weald_dup(0));
    IS(weald_kind(0));

    IS(weald_spawn(body, NULL));
    IS(weald_spawn_with(body, NULL, NULL));
    IS(weald_go(body, NULL));
    IS(weald_greenlet_new(body, NULL, NULL));
    IS(weald_start(0));
    IS(weald_start_later(0, 1));
    IS(weald_join(0, WEALD_FOREVER));
    IS(weald_joinall(&g, 1, 0, 0, WEALD_FOREVER));
    IS(weald_join_any(&g, 1, WEALD_FOREVER));
    IS(weald_iwait(&g, 1));
    IS(weald_iwait_next(0, &g, WEALD_FOREVER));
    IS(weald_get(0, &value, WEALD_FOREVER));
    IS(weald_kill(0, 0, WEALD_FOREVER));
    IS(weald_killall(&g, 1, 0, WEALD_FOREVER));
    IS(weald_interrupt(0, WEALD_EINTR));
    IS(weald_kill_reason(0));
    IS(weald_shield(1));
    IS(weald_cancelled());
    IS(weald_link(0, link_fn, NULL, WEALD_LINK_ALWAYS));
    IS(weald_unlink(0, 1));
    IS(weald_state(0));
    IS(weald_started(0));
    IS(weald_ready(0));
    IS(weald_successful(0));
    IS(weald_value(0, &value));
    IS(weald_error(0));
    IS(weald_self());
    IS(weald_parent(0));
    IS(weald_id(0));
    IS(weald_set_name(0, "x"));
    IS(weald_name(0, NULL, 0));
    IS(weald_sleep(1));
    IS(weald_sleep_until(WEALD_FOREVER));
    IS(weald_yield());
    IS(weald_idle(0));

    IS(weald_coro_new(coroutine, NULL, 0, NULL));
    IS(weald_switch(0, NULL, &value));
    IS(weald_throw(0, WEALD_EINTR, &value));
    IS(weald_park(&value, WEALD_FOREVER));
    IS(weald_wake(0, NULL));
    IS(weald_coro_set_parent(0, 0));
    IS(weald_abandon(0));
    IS(weald_current());
    IS(weald_main());
    IS(weald_dead(0));

    IS(weald_hub());
    IS(weald_run(WEALD_FOREVER));
    IS(weald_run_once(WEALD_RUN_ONCE));
    IS(weald_stop());
    IS(weald_hub_fd());
    IS(weald_hub_next_deadline());
    IS(weald_hub_step());
    IS(weald_set_error_handler(NULL, NULL));
    IS(weald_set_report_handler(NULL, NULL));
    IS(weald_hub_shutdown());

    IS(weald_wait_read(0, WEALD_FOREVER));
    IS(weald_wait_write(0, WEALD_FOREVER));
    IS(weald_wait_fd(0, WEALD_READ, WEALD_FOREVER));
    IS(weald_cancel_wait(0));
    IS(weald_poll(&fd, 1, WEALD_FOREVER));
    IS(weald_select(0, NULL, NULL, NULL, WEALD_FOREVER));

    IS(weald_read(0, bytes, 1, WEALD_FOREVER));
    IS(weald_write(0, bytes, 1, WEALD_FOREVER));
    IS(weald_readv(0, &iov, 1, WEALD_FOREVER));
    IS(weald_writev(0, &iov, 1, WEALD_FOREVER));
    IS(weald_read_exact(0, bytes, 1, NULL, WEALD_FOREVER));
    IS(weald_write_all(0, bytes, 1, NULL, WEALD_FOREVER));
    IS(weald_pread(0, bytes, 1, 0, WEALD_FOREVER));
    IS(weald_pwrite(0, bytes, 1, 0, WEALD_FOREVER));
    IS(weald_sendfile(0, 0, NULL, 1, WEALD_FOREVER));
    IS(weald_splice(0, NULL, 0, NULL, 1, WEALD_FOREVER));
    IS(weald_connect(0, &address, sizeof address, WEALD_FOREVER));
    IS(weald_accept(0, NULL, NULL, WEALD_FOREVER));
    IS(weald_recv(0, bytes, 1, 0, WEALD_FOREVER));
    IS(weald_send(0, bytes, 1, 0, WEALD_FOREVER));
    IS(weald_recvfrom(0, bytes, 1, 0, NULL, NULL, WEALD_FOREVER));
    IS(weald_sendto(0, bytes, 1, 0, NULL, 0, WEALD_FOREVER));
    IS(weald_recvmsg(0, &message, 0, WEALD_FOREVER));
    IS(weald_sendmsg(0, &message, 0, WEALD_FOREVER));

    IS(weald_stream_new(0, NULL));
    IS(weald_stream_read(0, bytes, 1, WEALD_FOREVER));
    IS(weald_stream_read_exact(0, bytes, 1, NULL, WEALD_FOREVER));
    IS(weald_stream_line(0, &line, NULL, 1, WEALD_FOREVER));
    IS(weald_stream_read_until(0, bytes, 1, &data, &size, 1, WEALD_FOREVER));
    IS(weald_stream_fill(0, 1, WEALD_FOREVER));
    IS(weald_stream_peek(0, &data));
    IS(weald_stream_skip(0, 1));
    IS(weald_stream_unread(0, bytes, 1));
    IS(weald_stream_over(NULL, NULL, NULL));
    IS(weald_stream_write(0, bytes, 1, NULL, WEALD_FOREVER));
    IS(weald_stream_flush(0, WEALD_FOREVER));
    IS(weald_stream_end(0, WEALD_FOREVER));
    IS(weald_stream_unsent(0));
    IS(weald_stream_fd(0));

    IS(weald_io_watcher(0, WEALD_READ, watch, NULL));
    IS(weald_timer_watcher(1, 0, watch, NULL));
    IS(weald_signal_watcher(SIGUSR1, watch, NULL));
    IS(weald_child_watcher(1, watch, NULL));
    IS(weald_async_watcher(watch, NULL));
    IS(weald_idle_watcher(watch, NULL));
    IS(weald_prepare_watcher(watch, NULL));
    IS(weald_check_watcher(watch, NULL));
    IS(weald_stat_watcher("/", 0, watch, NULL));
    IS(weald_watcher_start(0));
    IS(weald_watcher_stop(0));
    IS(weald_watcher_active(0));
    IS(weald_watcher_pending(0));
    IS(weald_watcher_again(0));
    IS(weald_watcher_ref(0));
    IS(weald_watcher_unref(0));
    IS(weald_watcher_set_priority(0, 1));
    IS(weald_watcher_set_user(0, NULL));

    IS(weald_event_new(WEALD_SHARED));
    IS(weald_event_set(0));
    IS(weald_event_clear(0));
    IS(weald_event_is_set(0));
    IS(weald_event_wait(0, WEALD_FOREVER));
    IS(weald_result_new(WEALD_SHARED, NULL));
    IS(weald_result_set(0, NULL));
    IS(weald_result_fail(0, WEALD_EINTR, NULL));
    IS(weald_result_get(0, &value, WEALD_FOREVER));
    IS(weald_result_wait(0, WEALD_FOREVER));
    IS(weald_result_ready(0));
    IS(weald_result_link(0, link_fn, NULL));
    IS(weald_result_unlink(0, 1));
    IS(weald_queue_new(WEALD_SHARED, 1, NULL));
    IS(weald_priority_queue_new(WEALD_SHARED, 1, order, NULL));
    IS(weald_queue_put(0, NULL, WEALD_FOREVER));
    IS(weald_queue_get(0, &value, WEALD_FOREVER));
    IS(weald_queue_peek(0, &value, WEALD_FOREVER));
    IS(weald_queue_len(0));
    IS(weald_queue_full(0));
    IS(weald_queue_empty(0));
    IS(weald_queue_shut(0));
    IS(weald_queue_task_done(0));
    IS(weald_queue_join(0, WEALD_FOREVER));

    IS(weald_semaphore_new(1));
    IS(weald_bounded_semaphore_new(1));
    IS(weald_semaphore_acquire(0, WEALD_FOREVER));
    IS(weald_semaphore_release(0));
    IS(weald_semaphore_count(0));
    IS(weald_lock_new());
    IS(weald_rlock_new());
    IS(weald_lock_acquire(0, WEALD_FOREVER));
    IS(weald_lock_release(0));
    IS(weald_lock_held(0));
    IS(weald_condition_new());
    IS(weald_condition_wait(0, 0, WEALD_FOREVER));
    IS(weald_condition_notify(0, 1));
    IS(weald_condition_notify_all(0));
    IS(weald_rwlock_new());
    IS(weald_rwlock_read(0, WEALD_FOREVER));
    IS(weald_rwlock_write(0, WEALD_FOREVER));
    IS(weald_rwlock_release(0));
    IS(weald_barrier_new(1));
    IS(weald_barrier_wait(0, WEALD_FOREVER));
    IS(weald_barrier_abort(0));
    IS(weald_barrier_reset(0));
    IS(weald_wait(&item, 1, 1, WEALD_FOREVER));

    IS(weald_group_new());
    IS(weald_pool_new(1));
    IS(weald_group_add(0, 0, WEALD_FOREVER));
    IS(weald_group_discard(0, 0));
    IS(weald_group_spawn(0, body, NULL));
    IS(weald_pool_try_spawn(0, body, NULL));
    IS(weald_group_join(0, WEALD_FOREVER));
    IS(weald_group_kill(0, 0, WEALD_FOREVER));
    IS(weald_group_len(0));
    IS(weald_group_contains(0, 0));
    IS(weald_pool_free_count(0));
    IS(weald_pool_wait_available(0, WEALD_FOREVER));
    IS(weald_group_map(0, map, NULL, items, 1, items, NULL, WEALD_FOREVER));
    IS(weald_group_imap(0, map, NULL, next, NULL, 0));
    IS(weald_group_imap_unordered(0, map, NULL, next, NULL, 0));
    IS(weald_imap_next(0, &value, NULL, WEALD_FOREVER));
    IS(weald_group_apply(0, map, NULL, NULL, &value, WEALD_FOREVER));
    IS(weald_group_apply_async(0, map, NULL, NULL));

    IS(weald_timeout_start(1));
    IS(weald_timeout_fired(0));
    IS(weald_timeout_cancel(0));
    IS(weald_timeout_restart(0, 1));
    IS(weald_local_new(NULL));
    IS(weald_local_set(0, NULL));

    IS(weald_offload(0, body, NULL, &value, WEALD_FOREVER));
    IS(weald_threadpool_shutdown(0, WEALD_FOREVER));
    IS(weald_workers_join(0, WEALD_FOREVER));
    IS(weald_signal_wait(&signo, 1, WEALD_FOREVER));
    IS(weald_signal_release(&signo, 1));
    IS(weald_on_terminate(call, NULL));

    IS(weald_getaddrinfo("a.invalid", NULL, NULL, &list, WEALD_FOREVER));
    IS(weald_getnameinfo((struct sockaddr *)&in, sizeof in, text, sizeof text, NULL, 0, 0, WEALD_FOREVER));
    IS(weald_gethostbyname("a.invalid", &host, WEALD_FOREVER));
    IS(weald_gethostbyname_ex("a.invalid", AF_INET, &host, WEALD_FOREVER));
    IS(weald_gethostbyaddr(&in.sin_addr, sizeof in.sin_addr, AF_INET, &host, WEALD_FOREVER));
    IS(weald_tcp_connect("127.0.0.1:9", WEALD_FOREVER));
    IS(weald_udp_connect("127.0.0.1:9", WEALD_FOREVER));
    IS(weald_unix_connect("@weald-nobody", WEALD_FOREVER));
    IS(weald_server_new("127.0.0.1:0", serve, NULL, NULL));
    IS(weald_server_from_fd(0, serve, NULL, NULL));
    IS(weald_tls_connect(0, 0, "oak.test", WEALD_FOREVER));
    IS(weald_tls_accept(0, 0, WEALD_FOREVER));
    IS(weald_tls_info_get(0, &info));
    IS(weald_stream_server_new("127.0.0.1:0", serve_stream, NULL, NULL));
    IS(weald_stream_server_from_fd(0, serve_stream, NULL, NULL));
    IS(weald_datagram_server_new("127.0.0.1:0", answer, NULL, NULL));
    IS(weald_datagram_server_from_fd(0, answer, NULL, NULL));
    IS(weald_http_server_new("127.0.0.1:0", answer_request, NULL, NULL));
    IS(weald_http_server_from_fd(0, answer_request, NULL, NULL));
    IS(weald_http_serve("127.0.0.1:0", answer_request, NULL, NULL, WEALD_FOREVER));
    IS(weald_http_header_at(0, 0, NULL, NULL));
    IS(weald_http_version(0));
    IS(weald_http_connection_new(0, NULL, NULL));
    IS(weald_http_next(0, WEALD_FOREVER));
    IS(weald_http_done(0));
    IS(weald_http_continue(0, WEALD_FOREVER));
    IS(weald_http_body_left(0));
    IS(weald_http_read(0, bytes, 1, WEALD_FOREVER));
    IS(weald_http_read_all(0, 1, &memory, NULL, WEALD_FOREVER));
    IS(weald_http_discard(0, WEALD_FOREVER));
    IS(weald_http_reply(0, 200, NULL, NULL, 0, WEALD_FOREVER));
    IS(weald_http_add_header(0, "A", "b"));
    IS(weald_http_inform(0, 103, NULL, WEALD_FOREVER));
    IS(weald_http_begin(0, 200, NULL, 0));
    IS(weald_http_write(0, bytes, 1, NULL, WEALD_FOREVER));
    IS(weald_http_sendfile(0, 0, 0, 0, WEALD_FOREVER));
    IS(weald_http_flush(0, WEALD_FOREVER));
    IS(weald_http_end(0, WEALD_FOREVER));
    IS(weald_http_upgrade(0, "x", WEALD_FOREVER));
    IS(weald_websocket_accept(0, NULL, WEALD_FOREVER));
    IS(weald_websocket_connect("ws://127.0.0.1:9", NULL, WEALD_FOREVER));
    IS(weald_websocket_new(0, NULL));
    IS(weald_websocket_receive(0, &data, &data_len, WEALD_FOREVER));
    IS(weald_websocket_receive_part(0, &data, &data_len, &last, WEALD_FOREVER));
    IS(weald_websocket_send(0, WEALD_WEBSOCKET_TEXT, "x", 1, WEALD_FOREVER));
    IS(weald_websocket_send_part(0, WEALD_WEBSOCKET_TEXT, "x", 1, 1, WEALD_FOREVER));
    IS(weald_websocket_broadcast(&none, 1, WEALD_WEBSOCKET_TEXT, "x", 1, 0));
    IS(weald_websocket_close(0, 0, NULL, WEALD_FOREVER));
    IS(weald_websocket_close_code(0));
    IS(weald_websocket_unsent(0));
    IS(weald_websocket_fd(0));
    IS(weald_http_file(0, "x", WEALD_FOREVER));
    IS(weald_http_folder(0, "x", "y", WEALD_FOREVER));
    IS(weald_http_events(0, WEALD_FOREVER));
    IS(weald_http_event(0, NULL, NULL, "x", WEALD_FOREVER));
    IS(weald_http_client_new(NULL));
    IS(weald_http_client_idle(0));
    IS(weald_http_fetch(0, "http://127.0.0.1:1/", NULL, WEALD_FOREVER));
    IS(weald_http_response_status(0));
    IS(weald_http_response_header_at(0, 0, NULL, NULL));
    IS(weald_http_response_left(0));
    IS(weald_http_response_read(0, bytes, 1, WEALD_FOREVER));
    IS(weald_http_response_read_all(0, 1, &memory, NULL, WEALD_FOREVER));
    IS(weald_server_start(0));
    IS(weald_server_serve(0, WEALD_FOREVER));
    IS(weald_server_shut(0));
    IS(weald_server_stop(0, WEALD_FOREVER));
    IS(weald_server_count(0));
    IS(weald_server_accepted(0));
    IS(weald_server_fd(0));
    IS(weald_server_port(0));

    IS(weald_dump(STDERR_FILENO));
    IS(weald_stats_get(&stats));
    IS(weald_list(&g, 1));
    IS(weald_stack_bounds(0, &value, &value));
    IS(weald_stack_used(0));
    IS(weald_stack_spare(&value));
    IS(weald_set_hooks(NULL));
    IS(weald_set_user(0, NULL));

    IS(weald_process_spawn(argv, NULL));
    IS(weald_process_pid(0));
    IS(weald_process_fd(0, 0));
    IS(weald_process_close_fd(0, 0));
    IS(weald_process_wait(0, NULL, WEALD_FOREVER));
    IS(weald_process_poll(0, NULL));
    IS(weald_process_kill(0, 0));
    IS(weald_process_communicate(0, &io, WEALD_FOREVER));
    IS(weald_process_fork(child, NULL, &handle, 0));
    IS(weald_system("true", NULL, WEALD_FOREVER));
    IS(weald_popen("true", "r"));
    IS(weald_channel_pair(ends, 0));
    IS(weald_channel_open(0, 0, 0));
    IS(weald_channel_send(0, NULL, 0, WEALD_FOREVER));
    IS(weald_channel_flush(0, WEALD_FOREVER));
    IS(weald_channel_unsent(0));
    IS(weald_channel_receive(0, &value, &size, WEALD_FOREVER));
    IS(weald_channel_shut(0));
    IS(weald_channel_fd(0, WEALD_READ));

    IS(weald_file_open("/", 0, 0, WEALD_FOREVER));
    IS(weald_file_close(0, WEALD_FOREVER));
    IS(weald_file_read(0, &size, 1, 0, WEALD_FOREVER));
    IS(weald_file_write(0, &size, 1, 0, WEALD_FOREVER));
    IS(weald_file_sync(0, 0, WEALD_FOREVER));
    IS(weald_file_truncate(0, 0, WEALD_FOREVER));
    IS(weald_file_stat("/", &status, WEALD_FOREVER));
    IS(weald_file_lstat("/", &status, WEALD_FOREVER));
    IS(weald_file_fstat(0, &status, WEALD_FOREVER));
    IS(weald_file_rename("/", "/", WEALD_FOREVER));
    IS(weald_file_remove("/", WEALD_FOREVER));
    IS(weald_folder_make("/", 0, WEALD_FOREVER));
    IS(weald_folder_remove("/", WEALD_FOREVER));
    IS(weald_folder_read("/", WEALD_FOREVER));
    IS(weald_folder_next(0, &name, NULL));
#undef IS
}

/* Those that return a pointer have nothing to return. */
static void look_for_nothing(void)
{
    CHECK_STR(weald_error_message(0), "");
    CHECK_STR(weald_result_message(0), "");
    CHECK_PTR(weald_spawn_site(0), NULL);
    CHECK_PTR(weald_watcher_user(0), NULL);
    CHECK_PTR(weald_local_get(0), NULL);
    CHECK_PTR(weald_user(0), NULL);
    CHECK_PTR(weald_fail(WEALD_EPIPE, "nobody fails"), NULL);
}

TEST(after_the_hub_s_end_every_call_is_eshutdown)
{
    CHECK_EQ(weald_hub_shutdown(), 0);
    expected = WEALD_ESHUTDOWN;
    call_all();
    look_for_nothing();
}

static void call_without_descriptors(void)
{
    struct rlimit before, none;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    call_all();
    look_for_nothing();
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_GT(weald_self(), 0); /* the next try makes it */
}

TEST(a_first_call_without_a_descriptor_to_be_had_is_emfile)
{
    if (strcmp(test_under(), "valgrind") == 0)
        SKIP("valgrind has descriptors of its own to give");
    expected = WEALD_EMFILE;
    in_another_thread(call_without_descriptors);
}

TEST(a_first_call_without_a_number_to_be_had_is_enomem)
{
    int64_t others;

    errors_room_for_all_hubs();
    others = weald_workers_start(1022);
    if (others == WEALD_EAGAIN)
        SKIP("a thousand threads are too many for this machine");
    CHECK_GT(others, 0);
    expected = WEALD_ENOMEM;
    in_another_thread(call_all);
    in_another_thread(look_for_nothing);
    CHECK_EQ(weald_workers_join(others, WEALD_FOREVER), 0);
    CHECK_EQ(weald_close(others), 0);
}
