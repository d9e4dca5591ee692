/* weald.hpp: weald.h for C++17 and later. One header, nothing to link but the library.
 *
 *     auto g = weald::spawn([](int n) { weald::sleep(10ms); return n * 2; }, 21);
 *     int answer = g.get();        // 42, or the very exception that left the body
 *
 * Four rules hold everywhere:
 *
 * - A call that fails throws weald::error, or one of its heirs: timed_out, cancelled, closed ... A call named try_...
 *   says false, or nothing, when it is not ready by the deadline, and throws for everything else.
 * - A wait takes a weald::deadline last: a std::chrono duration, a time point, weald::now or weald::forever.
 * - An object is a counted handle, as a shared_ptr is: a copy is another name for the same object, which is closed with
 *   the last of them. So a greenlet keeps what it needs by capturing it by value. Greenlets, timeouts and watchers have
 *   one owner and can only be moved.
 * - A greenlet that is killed gets `cancelled` from its current and every later wait: its stack unwinds, and the
 *   exception is caught at the base. Whoever swallows it meets it again at the next wait.
 *
 * No exception crosses a frame of the library. What leaves a body goes to whoever calls get(), and its what() to the
 * error handler; what leaves a callback of the loop goes to the error handler. Destructors, comparators and move
 * constructors that the library calls must not throw.
 *
 * Objects belong to the thread that made them, unless they were made weald::shared. What is not here, call as in C:
 * native_handle() is the handle. weald.h says what each call may fail with.
 */
#ifndef WEALD_HPP
#define WEALD_HPP

#if !defined(__cplusplus) || __cplusplus < 201703L
#error "weald.hpp needs C++17"
#endif
#if !defined(__cpp_exceptions)
#error "weald.hpp needs exceptions"
#endif

#include <weald.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

// Visible also where a library is compiled with -fvisibility=hidden: an exception is thrown in one and caught in
// another.
namespace weald __attribute__((visibility("default"))) {

// ---- errors ---------------------------------------------------------------------------------------------------------

/// The code of a failure that is an exception of the program's own, as C code and error handlers see it.
inline constexpr int raised = -10001;

namespace detail {

class error_category final : public std::error_category {
    const char *name() const noexcept override { return "weald"; }

    std::string message(int code) const override { return code == raised ? "a C++ exception" : weald_strerror(code); }

    // WEALD_ETIMEDOUT is -ETIMEDOUT, so it compares equal to std::errc::timed_out; codes of our own have no errno.
    std::error_condition default_error_condition(int code) const noexcept override
    {
        if (code < 0 && code > WEALD_EWOULDBLOCK)
            return {-code, std::generic_category()};
        return {code, *this};
    }
};

} // namespace detail

/// The category of the library's codes: their texts are weald_strerror's.
inline const std::error_category &category() noexcept
{
    static const detail::error_category one;
    return one;
}

/// A call that failed. code().value() is the negative code of weald.h; code() == std::errc::timed_out works, too.
class error : public std::system_error {
public:
    explicit error(int code) : system_error(code, category()) {}
    error(int code, const std::string &what) : system_error(code, category(), what) {}
};

/// The deadline, or that of a surrounding timeout, has passed.
struct timed_out : error {
    explicit timed_out(const std::string &what) : error(WEALD_ETIMEDOUT, what) {}
};

/// This greenlet was killed, or its wait called off; or (from get) the other greenlet was killed.
struct cancelled : error {
    explicit cancelled(const std::string &what) : error(WEALD_ECANCELED, what) {}
};

/// Not ready, and the deadline was weald::now.
struct not_ready : error {
    explicit not_ready(const std::string &what) : error(WEALD_EAGAIN, what) {}
};

/// A wait in a callback of the loop, which must not wait: spawn a greenlet there.
struct would_block : error {
    explicit would_block(const std::string &what) : error(WEALD_EWOULDBLOCK, what) {}
};

/// The queue is shut, the barrier broken, the pool at its end.
struct closed : error {
    explicit closed(const std::string &what) : error(WEALD_EPIPE, what) {}
};

/// Nothing is left that could end this wait.
struct deadlock : error {
    explicit deadlock(const std::string &what) : error(WEALD_EDEADLK, what) {}
};

/// Throws the exception for a negative code.
[[noreturn]] inline void throw_error(int code, const std::string &what)
{
    switch (code) {
    case WEALD_ETIMEDOUT: throw timed_out(what);
    case WEALD_ECANCELED: throw cancelled(what);
    case WEALD_EAGAIN: throw not_ready(what);
    case WEALD_EWOULDBLOCK: throw would_block(what);
    case WEALD_EPIPE: throw closed(what);
    case WEALD_EDEADLK: throw deadlock(what);
    default: throw error(code, what);
    }
}

/// What a function of weald.h returned, if it is no failure.
template <class Code> Code check(Code code, const char *what)
{
    if (code < 0)
        throw_error(static_cast<int>(code), what);
    return code;
}

// ---- deadlines ------------------------------------------------------------------------------------------------------

namespace detail {

/// A span in nanoseconds. What does not fit becomes the most or the least that does; a fraction of one is rounded up,
/// so that nobody wakes too early; NaN is nothing.
template <class Rep, class Period> std::int64_t nanoseconds(const std::chrono::duration<Rep, Period> &span) noexcept
{
    constexpr auto most = std::numeric_limits<std::int64_t>::max(), least = std::numeric_limits<std::int64_t>::min();
    using factor = std::ratio_divide<Period, std::nano>;
    if constexpr (std::is_integral_v<Rep>) {
        std::int64_t ns = 0;
        if (__builtin_mul_overflow(span.count(), factor::num, &ns))
            return span.count() < 0 ? least : most;
        return ns / factor::den + (ns % factor::den > 0);
    } else {
        const auto ns = static_cast<long double>(span.count()) * factor::num / factor::den;
        if (ns >= 9223372036854775807.0L)
            return most;
        if (ns <= -9223372036854775807.0L)
            return least;
        const auto whole = ns == ns ? static_cast<std::int64_t>(ns) : 0;
        return whole + (static_cast<long double>(whole) < ns);
    }
}

inline std::int64_t difference(std::int64_t a, std::int64_t b) noexcept
{
    std::int64_t d = 0;
    if (!__builtin_sub_overflow(a, b, &d))
        return d;
    return b > 0 ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
}

} // namespace detail

/// A span of time: any std::chrono duration, in nanoseconds. What does not fit becomes the most, or the least, that
/// does.
class timespan {
public:
    template <class Rep, class Period>
    timespan(const std::chrono::duration<Rep, Period> &span) noexcept : ns_(detail::nanoseconds(span))
    {
    }
    std::int64_t ns() const noexcept { return ns_; }

private:
    std::int64_t ns_;
};

/// Until when to wait: a moment on the monotonic clock, never, or not at all. A duration counts from when it becomes a
/// deadline, so make one and hand it down a chain of calls.
class deadline {
public:
    /// Never passes.
    constexpr deadline() noexcept = default;

    /// So long from now. A span that is not above zero has passed: timed_out, where weald::now gives not_ready.
    template <class Rep, class Period>
    deadline(const std::chrono::duration<Rep, Period> &span) noexcept : ns_(weald_after(detail::nanoseconds(span)))
    {
    }

    /// steady_clock is the library's own clock.
    template <class Span>
    deadline(const std::chrono::time_point<std::chrono::steady_clock, Span> &moment) noexcept
        : ns_(detail::nanoseconds(moment.time_since_epoch()))
    {
        if (ns_ < 1)
            ns_ = 1; // it has passed; 0 and -1 mean something else
    }

    /// A moment on another clock, by what that clock says now: setting it later changes nothing.
    template <class Clock, class Span>
    deadline(const std::chrono::time_point<Clock, Span> &moment)
        : ns_(weald_after(detail::difference(detail::nanoseconds(moment.time_since_epoch()),
                                             detail::nanoseconds(Clock::now().time_since_epoch()))))
    {
    }

    /// From and to what functions of weald.h take.
    static constexpr deadline from_raw(std::int64_t ns) noexcept
    {
        deadline d;
        d.ns_ = ns;
        return d;
    }
    constexpr std::int64_t raw() const noexcept { return ns_; }

    bool passed() const noexcept { return ns_ != WEALD_FOREVER && ns_ <= weald_now(); }

    /// Nanoseconds until then, INT64_MAX for never.
    std::int64_t left() const noexcept
    {
        return ns_ == WEALD_FOREVER ? std::numeric_limits<std::int64_t>::max() : detail::difference(ns_, weald_now());
    }

    friend constexpr bool operator==(deadline a, deadline b) noexcept { return a.ns_ == b.ns_; }
    friend constexpr bool operator!=(deadline a, deadline b) noexcept { return a.ns_ != b.ns_; }

private:
    std::int64_t ns_ = WEALD_FOREVER;
};

/// Waits as long as it takes.
inline constexpr deadline forever{};
/// Does not wait.
inline constexpr deadline now = deadline::from_raw(WEALD_NOW);

namespace detail {

/// For the try_... calls: false when it was not ready by `d`. A surrounding timeout that ran out first throws.
inline bool in_time(int code, deadline d, const char *what)
{
    if (code == WEALD_EAGAIN || (code == WEALD_ETIMEDOUT && d.passed()))
        return false;
    check(code, what);
    return true;
}

} // namespace detail

// ---- handles --------------------------------------------------------------------------------------------------------

/// A handle with one owner. One that was moved from stands for nothing: its calls fail with WEALD_EBADF.
class unique_handle {
public:
    unique_handle(unique_handle &&other) noexcept : handle_(std::exchange(other.handle_, 0)) {}
    unique_handle &operator=(unique_handle &&other) noexcept
    {
        if (this != &other)
            reset(std::exchange(other.handle_, 0));
        return *this;
    }
    ~unique_handle() { reset(); }

    weald_handle native_handle() const noexcept { return handle_; }

protected:
    explicit unique_handle(weald_handle handle) noexcept : handle_(handle) {}

    void reset(weald_handle handle = 0) noexcept
    {
        // It fails only when the hub has been shut down, which has closed it, or in a thread that is not its own.
        if (const weald_handle old = std::exchange(handle_, handle))
            weald_close(old);
    }

private:
    weald_handle handle_;
};

/// A handle that counts: a copy is another name for the same object.
class shared_handle : public unique_handle {
public:
    shared_handle(shared_handle &&) noexcept = default;
    shared_handle &operator=(shared_handle &&) noexcept = default;
    shared_handle(const shared_handle &other) : unique_handle(check(weald_dup(other.native_handle()), "weald_dup")) {}
    shared_handle &operator=(const shared_handle &other) { return *this = shared_handle(other); }

    friend bool operator==(const shared_handle &a, const shared_handle &b) noexcept
    {
        return a.native_handle() == b.native_handle();
    }
    friend bool operator!=(const shared_handle &a, const shared_handle &b) noexcept { return !(a == b); }

protected:
    using unique_handle::unique_handle;
    shared_handle(weald_handle made, const char *what) : unique_handle(check(made, what)) {}
};

/// Who may use an event, result or queue.
enum class sharing : int { no = 0, yes = WEALD_SHARED };
/// Every thread may.
inline constexpr sharing shared = sharing::yes;

// ---- what a body comes to -------------------------------------------------------------------------------------------

namespace detail {

/// Throws what C code has failed with; `what` where it gave no message.
[[noreturn]] inline void throw_failure(int code, const char *message, const char *what)
{
    throw_error(code, *message ? message : what);
}

/// The code and the text of the exception that is being handled, for C code and the error handler.
inline void mark_failed() noexcept
{
    try {
        throw;
    } catch (const std::system_error &e) {
        const auto &kind = e.code().category();
        const int code = e.code().value();
        const bool is_errno = kind == std::generic_category() || kind == std::system_category();
        weald_fail(kind == category() && code < 0 ? code : is_errno && code > 0 ? -code : raised, e.what());
    } catch (const std::bad_alloc &e) {
        weald_fail(WEALD_ENOMEM, e.what());
    } catch (const std::exception &e) {
        weald_fail(raised, e.what());
    } catch (...) {
        weald_fail(raised, "a C++ exception that is no std::exception");
    }
}

/// Runs `f` and hands what it throws to `failed`, but for the unwinding of pthread_exit, which no handler may end: the
/// library's fence stops the program with a word about it. (That unwinding has no object, which UBSan minds.)
template <class F, class Failed> __attribute__((no_sanitize("undefined"))) void fenced(F &&f, Failed &&failed)
{
    try {
        f();
    }
#ifdef __GLIBCXX__
    catch (abi::__forced_unwind &) {
        throw;
    }
#endif
    catch (...) {
        failed();
    }
}

/// How what a body returns is kept.
template <class T> struct kept {
    using type = std::remove_cv_t<T>;
};
template <class T> struct kept<T &> {
    using type = T *;
};
template <> struct kept<void> {
    using type = std::monostate;
};

/// Nothing yet, a value, or an exception.
template <class T> class outcome {
    static_assert(!std::is_rvalue_reference_v<T>, "a body may return a value or an lvalue, not a T &&");
    static constexpr bool is_void = std::is_void_v<T>, is_reference = std::is_reference_v<T>;
    using stored = typename kept<T>::type;

public:
    outcome() = default;
    explicit outcome(std::exception_ptr e) : state_(std::in_place_index<2>, std::move(e)) {}
    template <class... V> explicit outcome(std::in_place_t, V &&...value)
    {
        if constexpr (is_reference)
            state_.template emplace<1>(std::addressof(value...));
        else
            state_.template emplace<1>(std::forward<V>(value)...);
    }

    bool failed() const noexcept { return state_.index() == 2; }

    /// Takes what `f` returns or throws; the latter marks the greenlet, or the job, that runs as failed.
    template <class F> void fill(F &&f)
    {
        const auto keep_exception = [this] {
            state_.template emplace<2>(std::current_exception());
            mark_failed();
        };
        fenced(
            [&] {
                if constexpr (is_void) {
                    f();
                    state_.template emplace<1>();
                } else if constexpr (is_reference) {
                    state_.template emplace<1>(std::addressof(f()));
                } else {
                    state_.template emplace<1>(f());
                }
            },
            keep_exception);
    }

    /// Throws what there is to throw.
    void look(const char *what) const
    {
        if (failed())
            std::rethrow_exception(std::get<2>(state_));
        if (state_.index() != 1)
            throw_error(WEALD_EALREADY, what);
    }

    /// The value, once.
    T take(const char *what)
    {
        look(what);
        if constexpr (is_reference) {
            return *std::get<1>(state_);
        } else if constexpr (!is_void) {
            stored value = std::move(std::get<1>(state_));
            state_.template emplace<0>();
            return value;
        }
    }

    /// The value, where it is.
    std::add_lvalue_reference_t<const T> peek(const char *what) const // U & for U &, void for void
    {
        look(what);
        if constexpr (is_reference)
            return *std::get<1>(state_);
        else if constexpr (!is_void)
            return std::get<1>(state_);
    }

private:
    std::variant<std::monostate, stored, std::exception_ptr> state_;
};

/// What a function returns that was copied or moved away, with its arguments, and is called once, as std::thread does.
template <class F, class... A> using value_of = std::invoke_result_t<std::decay_t<F>, std::decay_t<A>...>;

/// A call under way and what becomes of it: one block for who runs it and who waits for it. `self` is the share of who
/// runs it, given up at the end of the run, or by whoever learns that there will be none.
template <class F, class... A> struct task final : outcome<value_of<F, A...>> {
    using value = value_of<F, A...>;

    std::optional<std::tuple<std::decay_t<F>, std::decay_t<A>...>> body;
    std::atomic<bool> begun{false};
    std::shared_ptr<task> self;

    explicit task(F &&f, A &&...args) : body(std::in_place, std::forward<F>(f), std::forward<A>(args)...) {}

    static std::shared_ptr<task> make(F &&f, A &&...args)
    {
        auto made = std::make_shared<task>(std::forward<F>(f), std::forward<A>(args)...);
        made->self = made;
        return made;
    }

    static void *run(void *arg)
    {
        auto *t = static_cast<task *>(arg);
        t->begun = true;
        const auto invoke = [](auto &&...part) -> value { return std::invoke(std::forward<decltype(part)>(part)...); };
        t->fill([&]() -> value { return std::apply(invoke, std::move(*t->body)); });
        return nullptr;
    }

    static void end(void *arg) noexcept
    {
        const auto last = std::move(static_cast<task *>(arg)->self);
        last->body.reset();
    }
};

} // namespace detail

// ---- greenlets ------------------------------------------------------------------------------------------------------

/// How to spawn: weald::spawn_options{.name = "reader", .stack_size = 64 << 10} in C++20.
struct spawn_options {
    /// For reports and dumps.
    std::string name{};
    /// Bytes, at least 16 KiB; 0 for the usual 256 KiB, of which only what is touched takes memory.
    std::size_t stack_size = 0;
    /// Starts so much later.
    timespan delay = std::chrono::nanoseconds(0);
    /// The native_handle() of a group or pool to join; a full pool makes spawn wait.
    weald_group group = 0;
};

/// A greenlet, whatever it returns. When its owner goes it runs on by itself: what it captured by reference must
/// outlive it, so join it or kill it first, or capture by value.
class any_greenlet : public unique_handle {
public:
    /// Waits for its end, however it ends.
    void join(deadline d = forever) const { check(weald_join(native_handle(), d.raw()), "weald_join"); }
    bool try_join(deadline d = now) const
    {
        return detail::in_time(weald_join(native_handle(), d.raw()), d, "weald_join");
    }

    /// Has its current and every later wait throw `cancelled`, and waits for its end; at weald::now it is only told.
    /// One that has not begun never will.
    void kill(deadline d = forever) const { check(weald_kill(native_handle(), 0, d.raw()), "weald_kill"); }

    /// Whether it has ended.
    bool done() const { return check(weald_ready(native_handle()), "weald_ready") != 0; }

    /// Whether it has ended, and not by an exception.
    bool successful() const { return check(weald_successful(native_handle()), "weald_successful") != 0; }

    /// Lets it run on by itself: as the destructor.
    void detach() noexcept { reset(); }

protected:
    using unique_handle::unique_handle;
};

/// The one who may join a greenlet, kill it, and get what its body returned.
template <class T = void> class greenlet : public any_greenlet {
public:
    /// None: a place for one to come.
    greenlet() noexcept : any_greenlet(0) {}

    greenlet(weald_greenlet handle, std::shared_ptr<detail::outcome<T>> outcome) noexcept
        : any_greenlet(handle), outcome_(std::move(outcome))
    {
    }

    /// Waits for its end. Returns what the body returned, once: a second get fails with WEALD_EALREADY. Rethrows the
    /// very exception that left the body; that of a greenlet that was killed is `cancelled`.
    T get(deadline d = forever)
    {
        join(d);
        // Killed before it began, or failed by weald_fail in C code: there is a code and no exception.
        if (const int code = weald_error(native_handle()); code < 0 && !outcome_->failed())
            detail::throw_failure(code, weald_error_message(native_handle()), "weald_get");
        return outcome_->take("greenlet::get");
    }

private:
    std::shared_ptr<detail::outcome<T>> outcome_;
};

namespace detail {

/// Spawns a task. If that fails it is destroyed here and now, else at the end of the greenlet, whether or not it ran.
template <class Task> weald_greenlet launch(const std::shared_ptr<Task> &task, const spawn_options &how, int flags)
{
    weald_spawn_options o{};
    o.size = sizeof o;
    o.name = how.name.empty() ? nullptr : how.name.c_str();
    o.stack_size = how.stack_size;
    o.delay_ns = how.delay.ns();
    o.destroy = Task::end;
    o.group = how.group;
    o.flags = flags;
    const weald_greenlet g = weald_spawn_with(Task::run, task.get(), &o);
    if (g < 0) {
        task->self.reset();
        throw_error(static_cast<int>(g), "weald_spawn_with");
    }
    return g;
}

} // namespace detail

/// Runs f(args...) in a greenlet, behind everything that is ready now. As with std::thread, function and arguments are
/// copied or moved to the heap (std::ref refers); they are destroyed when the greenlet ends, also if it never ran.
template <class F, class... A> greenlet<detail::value_of<F, A...>> spawn(const spawn_options &how, F &&f, A &&...args)
{
    auto task = detail::task<F, A...>::make(std::forward<F>(f), std::forward<A>(args)...);
    const weald_greenlet g = detail::launch(task, how, 0);
    return {g, std::move(task)};
}

template <class F, class... A> greenlet<detail::value_of<F, A...>> spawn(F &&f, A &&...args)
{
    return spawn(spawn_options{}, std::forward<F>(f), std::forward<A>(args)...);
}

/// As spawn, but nobody waits for it: the error handler is told of what it throws.
template <class F, class... A, class = detail::value_of<F, A...>> void go(const spawn_options &how, F &&f, A &&...args)
{
    auto task = detail::task<F, A...>::make(std::forward<F>(f), std::forward<A>(args)...);
    detail::launch(task, how, WEALD_SPAWN_DETACHED);
}

template <class F, class... A, class = detail::value_of<F, A...>> void go(F &&f, A &&...args)
{
    go(spawn_options{}, std::forward<F>(f), std::forward<A>(args)...);
}

namespace detail {

template <class Range> std::vector<weald_greenlet> handles(const Range &greenlets)
{
    std::vector<weald_greenlet> all;
    for (const any_greenlet &g : greenlets)
        all.push_back(g.native_handle());
    return all;
}

} // namespace detail

/// Waits for the end of all greenlets of a container.
template <class Range> void join_all(const Range &greenlets, deadline d = forever)
{
    const auto all = detail::handles(greenlets);
    check(weald_joinall(all.data(), all.size(), 0, 0, d.raw()), "weald_joinall");
}

/// Waits for the end of one greenlet of a container: its place.
template <class Range> std::size_t join_any(const Range &greenlets, deadline d = forever)
{
    const auto all = detail::handles(greenlets);
    return static_cast<std::size_t>(check(weald_join_any(all.data(), all.size(), d.raw()), "weald_join_any"));
}

/// Kills all greenlets of a container, then waits for their ends.
template <class Range> void kill_all(const Range &greenlets, deadline d = forever)
{
    const auto all = detail::handles(greenlets);
    check(weald_killall(all.data(), all.size(), 0, d.raw()), "weald_killall");
}

/// Sleeps; zero or less is one yield.
inline void sleep(timespan span) { check(weald_sleep(span.ns()), "weald_sleep"); }

/// Sleeps until then.
inline void sleep_until(deadline d) { check(weald_sleep_until(d.raw()), "weald_sleep_until"); }

/// Lets everything run that is ready now, then goes on.
inline void yield() { check(weald_yield(), "weald_yield"); }

/// Goes on when nothing else is ready; a higher priority first.
inline void idle(int priority = 0) { check(weald_idle(priority), "weald_idle"); }

/// Whether this greenlet has been killed: for long computations, which do not wait.
inline bool killed() noexcept { return weald_cancelled() != 0; }

/// While it lives, kills of this greenlet are held back, so that cleanup may wait. Deadlines and timeouts are not. A
/// destructor must not throw, so one that waits behind a shield still catches.
class shield {
public:
    shield() { check(weald_shield(1), "weald_shield"); }
    ~shield() { weald_shield(0); }
    shield(const shield &) = delete;
    shield &operator=(const shield &) = delete;
};

namespace detail {

/// An exception has left a callback of the loop, where nobody can be told: it becomes the failure of a greenlet, of
/// which the error handler is told. Without memory for one the program ends.
inline void disown(const char *where) noexcept
{
    go(spawn_options{where}, [e = std::current_exception()] { std::rethrow_exception(e); });
}

} // namespace detail

// ---- the hub --------------------------------------------------------------------------------------------------------

/// Runs the loop until nothing is left to do, or stop(). From main only. Throws timed_out at the deadline.
inline void run(deadline d = forever) { check(weald_run(d.raw()), "weald_run"); }

/// Runs one turn of the loop; whether there is more to do. From main only.
inline bool run_once(bool wait = true)
{
    return check(weald_run_once(wait ? WEALD_RUN_ONCE : WEALD_RUN_NOWAIT), "weald_run_once") != 0;
}

/// Makes run() return after this turn.
inline void stop() noexcept { weald_stop(); }

/// Ends this thread's hub: kills every greenlet and lets it unwind as long as it need not wait. Returns how many did
/// not end; what those hold on their stacks is lost. From main only.
inline std::int64_t shutdown() { return check(weald_hub_shutdown(), "weald_hub_shutdown"); }

/// This thread's hub, for other threads to post to. While one is open, main's waits are not taken for a deadlock.
class hub : public shared_handle {
public:
    hub() : shared_handle(weald_hub(), "weald_hub") {}

    /// Has `f()` run in the hub's loop, where it must not wait. From any thread. If the hub ends first, `f` is lost
    /// with what it holds.
    template <class F> void post(F f) const
    {
        auto boxed = std::make_unique<F>(std::move(f));
        check(weald_post(native_handle(), run<F>, boxed.get()), "weald_post");
        boxed.release();
    }

private:
    template <class F> static void run(void *arg)
    {
        const std::unique_ptr<F> f(static_cast<F *>(arg));
        detail::fenced(*f, [] { detail::disown("a posted callback"); });
    }
};

// ---- waiting for descriptors and for several things -----------------------------------------------------------------

/// Waits until `fd` is readable.
inline void wait_read(int fd, deadline d = forever) { check(weald_wait_read(fd, d.raw()), "weald_wait_read"); }
inline bool try_wait_read(int fd, deadline d = now)
{
    return detail::in_time(weald_wait_read(fd, d.raw()), d, "weald_wait_read");
}

/// Waits until `fd` is writable.
inline void wait_write(int fd, deadline d = forever) { check(weald_wait_write(fd, d.raw()), "weald_wait_write"); }
inline bool try_wait_write(int fd, deadline d = now)
{
    return detail::in_time(weald_wait_write(fd, d.raw()), d, "weald_wait_write");
}

/// Waits for any of `events` (WEALD_READ, WEALD_WRITE): what came, perhaps with WEALD_HUP and WEALD_ERROR.
inline int wait_fd(int fd, int events, deadline d = forever)
{
    return check(weald_wait_fd(fd, events, d.raw()), "weald_wait_fd");
}

/// Ends all waits for `fd` with `cancelled`; call it before closing a descriptor that somebody may wait for.
inline void cancel_wait(int fd) { check(weald_cancel_wait(fd), "weald_cancel_wait"); }

/// Something to wait for: a greenlet (has ended), event or result (is set), queue (has an item, or is shut), semaphore
/// (has a permit), mutex (is free), watcher (has fired), or a descriptor.
struct waitable : weald_wait_item {
    waitable(const unique_handle &h) noexcept : weald_wait_item{h.native_handle(), 0, 0, 0} {}
    waitable(int descriptor, int what) noexcept : weald_wait_item{0, descriptor, what, 0} {}
};

inline waitable readable(int fd) noexcept { return {fd, WEALD_READ}; }
inline waitable writable(int fd) noexcept { return {fd, WEALD_WRITE}; }

/// Waits until one of them is ready: the place of the first that is. Nothing is taken: try_get or try_lock then, which
/// succeeds because nothing runs in between. (Another thread may be faster at a shared object.)
inline std::size_t wait_any(const std::vector<waitable> &all, deadline d = forever)
{
    std::vector<weald_wait_item> items(all.begin(), all.end());
    check(weald_wait(items.data(), items.size(), 1, d.raw()), "weald_wait");
    std::size_t first = 0;
    while (!items[first].ready)
        first++;
    return first;
}

/// Waits until all of them are ready.
inline void wait_all(const std::vector<waitable> &all, deadline d = forever)
{
    std::vector<weald_wait_item> items(all.begin(), all.end());
    check(weald_wait(items.data(), items.size(), 0, d.raw()), "weald_wait");
}

// ---- events and results ---------------------------------------------------------------------------------------------

/// A flag to wait for.
class event : public shared_handle {
public:
    explicit event(sharing s = sharing::no) : shared_handle(weald_event_new(static_cast<int>(s)), "weald_event_new") {}

    /// Everybody who waits goes on.
    void set() const { check(weald_event_set(native_handle()), "weald_event_set"); }
    void clear() const { check(weald_event_clear(native_handle()), "weald_event_clear"); }
    bool is_set() const { return check(weald_event_is_set(native_handle()), "weald_event_is_set") != 0; }

    void wait(deadline d = forever) const { check(weald_event_wait(native_handle(), d.raw()), "weald_event_wait"); }
    bool try_wait(deadline d = now) const
    {
        return detail::in_time(weald_event_wait(native_handle(), d.raw()), d, "weald_event_wait");
    }
};

/// A value, or an exception, that comes once, for any number of readers. It must be set by this class only.
template <class T = void> class result : public shared_handle {
public:
    using reference = std::add_lvalue_reference_t<const T>;

    explicit result(sharing s = sharing::no)
        : shared_handle(weald_result_new(static_cast<int>(s), destroy), "weald_result_new")
    {
    }

    /// Makes the value of `value...` and wakes who waits. A second time fails with WEALD_EALREADY.
    template <class... V> void set(V &&...value) const
    {
        give(std::make_unique<outcome>(std::in_place, std::forward<V>(value)...));
    }

    /// Has every get throw `e`.
    void fail(std::exception_ptr e) const { give(std::make_unique<outcome>(std::move(e))); }

    /// Waits for the value, which lives as long as the result; or throws what it failed with.
    reference get(deadline d = forever) const
    {
        void *box = nullptr;
        check(weald_result_get(native_handle(), &box, d.raw()), "weald_result_get");
        return static_cast<outcome *>(box)->peek("result::get");
    }

    /// Waits until it is set, whatever to.
    void wait(deadline d = forever) const { check(weald_result_wait(native_handle(), d.raw()), "weald_result_wait"); }
    bool try_wait(deadline d = now) const
    {
        return detail::in_time(weald_result_wait(native_handle(), d.raw()), d, "weald_result_wait");
    }

    bool ready() const { return check(weald_result_ready(native_handle()), "weald_result_ready") != 0; }

private:
    using outcome = detail::outcome<T>;

    static void destroy(void *box) noexcept { delete static_cast<outcome *>(box); }

    void give(std::unique_ptr<outcome> box) const
    {
        check(weald_result_set(native_handle(), box.get()), "weald_result_set");
        box.release();
    }
};

// ---- queues ---------------------------------------------------------------------------------------------------------

/// The capacity of a queue without a bound.
inline constexpr std::size_t unbounded = WEALD_UNBOUNDED;

namespace detail {

template <class T>
inline constexpr bool fits_in_a_pointer = sizeof(T) <= sizeof(void *) && std::is_trivially_copyable_v<T> &&
                                          std::is_trivially_default_constructible_v<T>;

/// How a T travels through a queue of void *: in the pointer itself where it fits, else in a box of its own.
template <class T, bool = fits_in_a_pointer<T>> struct parcel {
    static constexpr weald_destroy_fn destroy = [](void *p) { delete static_cast<T *>(p); };

    static void *pack(T &&item) { return new T(std::move(item)); }
    static const T &look(const void *p) { return *static_cast<const T *>(p); }
    static T unpack(void *p)
    {
        const std::unique_ptr<T> box(static_cast<T *>(p));
        return std::move(*box);
    }
    static void give_back(void *p, T &to)
    {
        const std::unique_ptr<T> box(static_cast<T *>(p));
        if constexpr (std::is_move_assignable_v<T>)
            to = std::move(*box);
    }
};

template <class T> struct parcel<T, true> {
    static constexpr weald_destroy_fn destroy = nullptr;

    static void *pack(const T &item)
    {
        void *p = nullptr;
        std::memcpy(&p, &item, sizeof item);
        return p;
    }
    static T look(const void *p)
    {
        T item;
        std::memcpy(&item, &p, sizeof item);
        return item;
    }
    static T unpack(void *p) { return look(p); }
    static void give_back(void *, T &) {}
};

} // namespace detail

/// A queue of Ts: first in, first out. It owns what is in it: an item is either with the putter, in the queue, or with
/// the getter, whatever a deadline or a kill does, and what is left is destroyed with the queue.
///
///     for (auto &job : jobs)      // until somebody calls jobs.shut() and it is drained
///         work(job);
template <class T> class queue : public shared_handle {
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && std::is_move_constructible_v<T>);

public:
    explicit queue(std::size_t capacity = unbounded, sharing s = sharing::no) : queue(WEALD_FIFO, capacity, s) {}
    explicit queue(sharing s) : queue(WEALD_FIFO, unbounded, s) {}

    /// Waits for room. If it fails `item` is as it was (unless a T can not be assigned to). `closed` when it is shut.
    void put(T &&item, deadline d = forever) const { check(offer(item, d), "weald_queue_put"); }
    void put(const T &item, deadline d = forever) const { put(T(item), d); }
    bool try_put(T &&item, deadline d = now) const { return detail::in_time(offer(item, d), d, "weald_queue_put"); }
    bool try_put(const T &item, deadline d = now) const { return try_put(T(item), d); }

    /// Waits for an item. `closed` when the queue is shut and drained.
    T get(deadline d = forever) const
    {
        void *item = nullptr;
        check(weald_queue_get(native_handle(), &item, d.raw()), "weald_queue_get");
        return parcel::unpack(item);
    }

    /// Nothing when none came in time.
    std::optional<T> try_get(deadline d = now) const
    {
        void *item = nullptr;
        if (detail::in_time(weald_queue_get(native_handle(), &item, d.raw()), d, "weald_queue_get"))
            return parcel::unpack(item);
        return std::nullopt;
    }

    /// Waits for an item; nothing when the queue is shut and drained.
    std::optional<T> next(deadline d = forever) const
    {
        void *item = nullptr;
        const int code = weald_queue_get(native_handle(), &item, d.raw());
        if (code == WEALD_EPIPE)
            return std::nullopt;
        check(code, "weald_queue_get");
        return parcel::unpack(item);
    }

    /// Takes no more items; what is in it can still be got.
    void shut() const { check(weald_queue_shut(native_handle()), "weald_queue_shut"); }

    std::size_t size() const
    {
        return static_cast<std::size_t>(check(weald_queue_len(native_handle()), "weald_queue_len"));
    }
    /// Whether a get would wait.
    bool empty() const { return check(weald_queue_empty(native_handle()), "weald_queue_empty") != 0; }
    /// Whether a put would wait.
    bool full() const { return check(weald_queue_full(native_handle()), "weald_queue_full") != 0; }

    /// Says that one item that was got has been dealt with.
    void task_done() const { check(weald_queue_task_done(native_handle()), "weald_queue_task_done"); }
    /// Waits until every item that was put has been dealt with.
    void join(deadline d = forever) const { check(weald_queue_join(native_handle(), d.raw()), "weald_queue_join"); }

    struct sentinel {};

    /// For range-for: gets the items.
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = T;
        using difference_type = std::ptrdiff_t;
        using pointer = T *;
        using reference = T &;

        explicit iterator(const queue &from) : from_(from), item_(from_.next()) {}
        T &operator*() { return *item_; }
        T *operator->() { return &*item_; }
        iterator &operator++()
        {
            item_.reset();
            if (auto next = from_.next())
                item_.emplace(std::move(*next));
            return *this;
        }
        friend bool operator==(const iterator &i, sentinel) noexcept { return !i.item_; }
        friend bool operator!=(const iterator &i, sentinel) noexcept { return i.item_.has_value(); }

    private:
        queue from_;
        std::optional<T> item_;
    };

    iterator begin() const { return iterator(*this); }
    sentinel end() const noexcept { return {}; }

protected:
    using parcel = detail::parcel<T>;

    queue(int flags, std::size_t capacity, sharing s)
        : shared_handle(weald_queue_new(flags | static_cast<int>(s), capacity, parcel::destroy), "weald_queue_new")
    {
    }
    queue(weald_compare_fn compare, std::size_t capacity, sharing s)
        : shared_handle(weald_priority_queue_new(static_cast<int>(s), capacity, compare, parcel::destroy),
                        "weald_priority_queue_new")
    {
    }

private:
    int offer(T &item, deadline d) const
    {
        void *packed = parcel::pack(std::move(item));
        const int code = weald_queue_put(native_handle(), packed, d.raw());
        if (code < 0)
            parcel::give_back(packed, item);
        return code;
    }
};

/// Last in, first out.
template <class T> class lifo_queue : public queue<T> {
public:
    explicit lifo_queue(std::size_t capacity = unbounded, sharing s = sharing::no)
        : queue<T>(WEALD_LIFO, capacity, s)
    {
    }
};

/// The least item by `Less` leaves first (std::priority_queue would let the greatest go); equal ones in the order they
/// came. `Less` is made anew for each comparison.
template <class T, class Less = std::less<T>> class priority_queue : public queue<T> {
public:
    explicit priority_queue(std::size_t capacity = unbounded, sharing s = sharing::no)
        : queue<T>(compare, capacity, s)
    {
    }

private:
    static int compare(const void *a, const void *b) noexcept
    {
        const T &x = queue<T>::parcel::look(a), &y = queue<T>::parcel::look(b);
        return Less()(x, y) ? -1 : Less()(y, x) ? 1 : 0;
    }
};

/// No room at all: a put waits for its get.
template <class T> class channel : public queue<T> {
public:
    explicit channel(sharing s = sharing::no) : queue<T>(0, s) {}
};

// ---- semaphores, locks, conditions, barriers ------------------------------------------------------------------------

/// Permits to take and to give back.
class semaphore : public shared_handle {
public:
    explicit semaphore(std::int64_t permits) : shared_handle(weald_semaphore_new(permits), "weald_semaphore_new") {}

    void acquire(deadline d = forever) const
    {
        check(weald_semaphore_acquire(native_handle(), d.raw()), "weald_semaphore_acquire");
    }
    bool try_acquire(deadline d = now) const
    {
        return detail::in_time(weald_semaphore_acquire(native_handle(), d.raw()), d, "weald_semaphore_acquire");
    }
    void release() const { check(weald_semaphore_release(native_handle()), "weald_semaphore_release"); }
    std::int64_t count() const { return check(weald_semaphore_count(native_handle()), "weald_semaphore_count"); }

protected:
    using shared_handle::shared_handle;
};

/// Never has more permits than it began with: a release too many fails with WEALD_EOVERFLOW.
class bounded_semaphore : public semaphore {
public:
    explicit bounded_semaphore(std::int64_t permits)
        : semaphore(weald_bounded_semaphore_new(permits), "weald_bounded_semaphore_new")
    {
    }
};

namespace detail {

/// What an unlock came to. One by somebody who does not hold it is a mistake; but a destructor on the way out of a wait
/// that has lost its lock must not end the program, and the locks of a hub that was shut down are gone.
inline void unlocked(int code, const char *what)
{
    if (code == WEALD_EPERM && std::uncaught_exceptions() == 0)
        throw_error(code, what);
}

} // namespace detail

/// A lock, owned by the greenlet that holds it. Goes with std::lock_guard, std::unique_lock and std::scoped_lock.
class mutex : public shared_handle {
public:
    mutex() : shared_handle(weald_lock_new(), "weald_lock_new") {}

    void lock(deadline d = forever) const { check(weald_lock_acquire(native_handle(), d.raw()), "weald_lock_acquire"); }
    bool try_lock(deadline d = now) const
    {
        return detail::in_time(weald_lock_acquire(native_handle(), d.raw()), d, "weald_lock_acquire");
    }
    bool try_lock_for(deadline d) const { return try_lock(d); }
    bool try_lock_until(deadline d) const { return try_lock(d); }
    void unlock() const { detail::unlocked(weald_lock_release(native_handle()), "weald_lock_release"); }
    bool held() const { return check(weald_lock_held(native_handle()), "weald_lock_held") != 0; }

protected:
    using shared_handle::shared_handle;
};

/// Its owner may lock it again, and unlocks it as often.
class recursive_mutex : public mutex {
public:
    recursive_mutex() : mutex(weald_rlock_new(), "weald_rlock_new") {}
};

/// For many readers or one writer, served in the order they came. Goes with std::shared_lock as well.
class shared_mutex : public shared_handle {
public:
    shared_mutex() : shared_handle(weald_rwlock_new(), "weald_rwlock_new") {}

    void lock(deadline d = forever) const { check(weald_rwlock_write(native_handle(), d.raw()), "weald_rwlock_write"); }
    bool try_lock(deadline d = now) const
    {
        return detail::in_time(weald_rwlock_write(native_handle(), d.raw()), d, "weald_rwlock_write");
    }
    bool try_lock_for(deadline d) const { return try_lock(d); }
    bool try_lock_until(deadline d) const { return try_lock(d); }
    void unlock() const { detail::unlocked(weald_rwlock_release(native_handle()), "weald_rwlock_release"); }

    void lock_shared(deadline d = forever) const
    {
        check(weald_rwlock_read(native_handle(), d.raw()), "weald_rwlock_read");
    }
    bool try_lock_shared(deadline d = now) const
    {
        return detail::in_time(weald_rwlock_read(native_handle(), d.raw()), d, "weald_rwlock_read");
    }
    bool try_lock_shared_for(deadline d) const { return try_lock_shared(d); }
    bool try_lock_shared_until(deadline d) const { return try_lock_shared(d); }
    void unlock_shared() const { unlock(); }
};

/// Waits for what others do under a mutex.
class condition : public shared_handle {
public:
    condition() : shared_handle(weald_condition_new(), "weald_condition_new") {}

    /// Lets the lock go, waits to be notified, takes it again: it is held however the wait ends.
    template <class Mutex> void wait(std::unique_lock<Mutex> &held, deadline d = forever) const
    {
        check(again(held, d), "weald_condition_wait");
    }

    /// Waits until `ready()`, which is asked under the lock.
    template <class Mutex, class Ready, class = std::enable_if_t<std::is_invocable_r_v<bool, Ready &>>>
    void wait(std::unique_lock<Mutex> &held, Ready ready, deadline d = forever) const
    {
        while (!ready())
            wait(held, d);
    }

    /// Whether it was notified by the deadline; or `ready()` then.
    template <class Mutex> bool try_wait(std::unique_lock<Mutex> &held, deadline d) const
    {
        return detail::in_time(again(held, d), d, "weald_condition_wait");
    }
    template <class Mutex, class Ready, class = std::enable_if_t<std::is_invocable_r_v<bool, Ready &>>>
    bool try_wait(std::unique_lock<Mutex> &held, Ready ready, deadline d) const
    {
        while (!ready())
            if (!try_wait(held, d))
                return ready();
        return true;
    }

    /// How many were notified.
    int notify_one() const { return check(weald_condition_notify(native_handle(), 1), "weald_condition_notify"); }
    int notify_all() const
    {
        return check(weald_condition_notify_all(native_handle()), "weald_condition_notify_all");
    }

private:
    template <class Mutex> int again(std::unique_lock<Mutex> &held, deadline d) const
    {
        return weald_condition_wait(native_handle(), held.mutex()->native_handle(), d.raw());
    }
};

/// Where so many greenlets meet, again and again.
class barrier : public shared_handle {
public:
    explicit barrier(std::size_t parties) : shared_handle(weald_barrier_new(parties), "weald_barrier_new") {}

    /// Waits until all are here; true for the last. One that leaves early breaks the barrier: `closed` for the others.
    bool wait(deadline d = forever) const
    {
        return check(weald_barrier_wait(native_handle(), d.raw()), "weald_barrier_wait") != 0;
    }
    void abort() const { check(weald_barrier_abort(native_handle()), "weald_barrier_abort"); }
    void reset() const { check(weald_barrier_reset(native_handle()), "weald_barrier_reset"); }
};

// ---- groups and pools -----------------------------------------------------------------------------------------------

/// Greenlets that are joined and killed together. They live on when the group goes.
class group : public shared_handle {
public:
    group() : shared_handle(weald_group_new(), "weald_group_new") {}

    /// Spawns a member; a full pool makes it wait.
    template <class F, class... A> greenlet<detail::value_of<F, A...>> spawn(F &&f, A &&...args) const
    {
        return spawn(spawn_options{}, std::forward<F>(f), std::forward<A>(args)...);
    }
    template <class F, class... A>
    greenlet<detail::value_of<F, A...>> spawn(spawn_options how, F &&f, A &&...args) const
    {
        how.group = native_handle();
        return weald::spawn(how, std::forward<F>(f), std::forward<A>(args)...);
    }
    template <class F, class... A, class = detail::value_of<F, A...>> void go(F &&f, A &&...args) const
    {
        go(spawn_options{}, std::forward<F>(f), std::forward<A>(args)...);
    }
    template <class F, class... A, class = detail::value_of<F, A...>>
    void go(spawn_options how, F &&f, A &&...args) const
    {
        how.group = native_handle();
        weald::go(how, std::forward<F>(f), std::forward<A>(args)...);
    }

    void add(const any_greenlet &g, deadline d = forever) const
    {
        check(weald_group_add(native_handle(), g.native_handle(), d.raw()), "weald_group_add");
    }
    bool contains(const any_greenlet &g) const
    {
        return check(weald_group_contains(native_handle(), g.native_handle()), "weald_group_contains") != 0;
    }
    std::size_t size() const
    {
        return static_cast<std::size_t>(check(weald_group_len(native_handle()), "weald_group_len"));
    }

    /// Waits until no member is left.
    void join(deadline d = forever) const { check(weald_group_join(native_handle(), d.raw()), "weald_group_join"); }
    bool try_join(deadline d = now) const
    {
        return detail::in_time(weald_group_join(native_handle(), d.raw()), d, "weald_group_join");
    }

    /// Kills every member but the caller, and waits for their ends; at weald::now they are only told.
    void kill(deadline d = forever) const { check(weald_group_kill(native_handle(), 0, d.raw()), "weald_group_kill"); }

    /// Calls f(item) in a greenlet for each item, and waits for all: a vector of what they returned, in the order of
    /// the items (nothing if that is void). One that throws does not stop the others; then the first exception in the
    /// order of items is rethrown. Items are copied, or moved out of a temporary container. If the wait itself fails,
    /// those that have not ended are killed.
    template <class Range, class F> auto map(Range &&items, F f, deadline d = forever) const
    {
        using std::begin;
        using item = std::decay_t<decltype(*begin(items))>;
        using value = std::invoke_result_t<F &, item &>;
        struct crew {
            std::vector<greenlet<value>> members;
            ~crew()
            {
                for (const auto &g : members)
                    weald_kill(g.native_handle(), 0, WEALD_NOW);
            }
        } all;

        const auto shared_f = std::make_shared<F>(std::move(f));
        const auto work = [shared_f](item &&one) -> value { return std::invoke(*shared_f, one); };
        for (auto &&one : items) {
            check(weald_pool_wait_available(native_handle(), d.raw()), "weald_pool_wait_available");
            if constexpr (std::is_lvalue_reference_v<Range>)
                all.members.push_back(spawn(work, one));
            else
                all.members.push_back(spawn(work, std::move(one)));
        }
        join_all(all.members, d);
        return collect(all.members);
    }

protected:
    using shared_handle::shared_handle;

private:
    template <class T> static auto collect(std::vector<greenlet<T>> &members)
    {
        if constexpr (std::is_void_v<T>) {
            for (auto &g : members)
                g.get();
        } else {
            using referred = std::reference_wrapper<std::remove_reference_t<T>>;
            std::vector<std::conditional_t<std::is_reference_v<T>, referred, T>> values;
            values.reserve(members.size());
            for (auto &g : members)
                values.push_back(g.get());
            return values;
        }
    }
};

/// A group of at most so many: spawn waits for room.
class pool : public group {
public:
    explicit pool(std::size_t size) : group(weald_pool_new(size), "weald_pool_new") {}

    /// How many more fit.
    std::size_t free_count() const
    {
        return static_cast<std::size_t>(check(weald_pool_free_count(native_handle()), "weald_pool_free_count"));
    }
    void wait_available(deadline d = forever) const
    {
        check(weald_pool_wait_available(native_handle(), d.raw()), "weald_pool_wait_available");
    }

    /// Spawns if there is room now.
    template <class F, class... A>
    std::optional<greenlet<detail::value_of<F, A...>>> try_spawn(F &&f, A &&...args) const
    {
        if (free_count() == 0)
            return std::nullopt;
        return spawn(std::forward<F>(f), std::forward<A>(args)...);
    }
};

// ---- timeouts and locals --------------------------------------------------------------------------------------------

/// A time limit for everything that this greenlet does in a scope: once it has passed, every wait throws timed_out.
///
///     weald::timeout limit(250ms);
///     try { talk(); } catch (const weald::timed_out &) { if (!limit.fired()) throw; }   // not ours
class timeout : public unique_handle {
public:
    explicit timeout(deadline d) : unique_handle(check(weald_timeout_start(d.left()), "weald_timeout_start")) {}

    /// Whether a wait has failed because of it.
    bool fired() const { return check(weald_timeout_fired(native_handle()), "weald_timeout_fired") != 0; }
    /// Ends it before the scope does.
    void cancel() const { check(weald_timeout_cancel(native_handle()), "weald_timeout_cancel"); }
    /// Sets it again, whatever became of it.
    void restart(deadline d) const { check(weald_timeout_restart(native_handle(), d.left()), "weald_timeout_restart"); }
};

/// A variable of which every greenlet has its own, T() at first, destroyed at its end. A key belongs to its thread.
template <class T> class local : public shared_handle {
public:
    local() : shared_handle(weald_local_new(destroy), "weald_local_new") {}

    /// This greenlet's value, if it has one.
    T *find() const noexcept { return static_cast<T *>(weald_local_get(native_handle())); }

    T &get() const
    {
        T *value = find();
        return value ? *value : keep(std::make_unique<T>());
    }
    T &set(T to) const
    {
        if (T *value = find())
            return *value = std::move(to);
        return keep(std::make_unique<T>(std::move(to)));
    }
    T &operator*() const { return get(); }
    T *operator->() const { return &get(); }

private:
    static void destroy(void *value) noexcept { delete static_cast<T *>(value); }

    T &keep(std::unique_ptr<T> value) const
    {
        check(weald_local_set(native_handle(), value.get()), "weald_local_set");
        return *value.release();
    }
};

// ---- threads --------------------------------------------------------------------------------------------------------

namespace detail {

/// Runs a task in a thread of `pool` while this greenlet waits. When the wait fails, a job that has not begun never
/// will and is destroyed here; one that runs goes on and is destroyed there. (One that a shutdown of the pool takes
/// out in this very moment is told to nobody, and lost.)
template <class F, class... A> value_of<F, A...> offload_to(weald_threadpool pool, deadline d, F &&f, A &&...args)
{
    struct closer {
        weald_result handle;
        ~closer() { weald_close(handle); }
    };

    if (d == now || killed())
        throw_error(d == now ? WEALD_EAGAIN : WEALD_ECANCELED, "offload");
    const auto job = task<F, A...>::make(std::forward<F>(f), std::forward<A>(args)...);
    const auto work = [](void *arg) {
        task<F, A...>::run(arg);
        task<F, A...>::end(arg);
        return static_cast<void *>(nullptr);
    };
    const weald_result r = weald_threadpool_submit(pool, work, job.get(), nullptr);
    if (r < 0) {
        job->self.reset();
        throw_error(static_cast<int>(r), "weald_threadpool_submit");
    }
    const closer last{r};

    const int waited = weald_result_wait(r, d.raw());
    if (waited == 0 && job->begun) {
        // Failed by weald_fail in C code: there is a code and no exception.
        if (const int code = weald_result_get(r, nullptr, WEALD_NOW); code < 0 && !job->failed())
            throw_failure(code, weald_result_message(r), "offload");
        return job->take("offload");
    }
    if (waited == 0 || weald_threadpool_cancel(pool, r) == 0)
        job->self.reset(); // it was taken out of the pool, and never ran
    throw_error(waited == 0 ? WEALD_ECANCELED : waited, "offload");
}

} // namespace detail

/// Runs f(args...) in a thread of the library's pool while this greenlet waits, and returns what it returned or
/// throws what it threw. For what blocks the thread. If the wait fails the job may go on: it must not refer to this
/// stack then.
template <class F, class... A> detail::value_of<F, A...> offload(F &&f, A &&...args)
{
    return detail::offload_to(0, forever, std::forward<F>(f), std::forward<A>(args)...);
}
template <class F, class... A> detail::value_of<F, A...> offload(deadline d, F &&f, A &&...args)
{
    return detail::offload_to(0, d, std::forward<F>(f), std::forward<A>(args)...);
}

/// Threads of one's own for offload. Every thread may use it.
class thread_pool : public shared_handle {
public:
    /// At most so many threads; 0: as many as the machine has cores, and four.
    explicit thread_pool(std::size_t most = 0) : shared_handle(weald_threadpool_new(most), "weald_threadpool_new") {}

    template <class F, class... A> detail::value_of<F, A...> offload(F &&f, A &&...args) const
    {
        return detail::offload_to(native_handle(), forever, std::forward<F>(f), std::forward<A>(args)...);
    }
    template <class F, class... A> detail::value_of<F, A...> offload(deadline d, F &&f, A &&...args) const
    {
        return detail::offload_to(native_handle(), d, std::forward<F>(f), std::forward<A>(args)...);
    }

    /// How many threads there are now.
    std::size_t size() const
    {
        return static_cast<std::size_t>(check(weald_threadpool_size(native_handle()), "weald_threadpool_size"));
    }
    /// Takes no more jobs, and waits for those that run.
    void shutdown(deadline d = forever) const
    {
        check(weald_threadpool_shutdown(native_handle(), d.raw()), "weald_threadpool_shutdown");
    }
};

/// Threads with a hub each, to which greenlets are sent. Every thread may use them.
class workers : public shared_handle {
public:
    /// So many; 0: one a core.
    explicit workers(std::size_t n = 0) : shared_handle(weald_workers_start(n), "weald_workers_start") {}

    /// Runs f(args...) as a greenlet of the worker whose turn it is. What it throws goes to that worker's error
    /// handler.
    template <class F, class... A, class = detail::value_of<F, A...>> void go(F &&f, A &&...args) const
    {
        auto task = detail::task<F, A...>::make(std::forward<F>(f), std::forward<A>(args)...);
        const auto work = [](void *arg) {
            const auto last = std::move(static_cast<detail::task<F, A...> *>(arg)->self);
            return detail::task<F, A...>::run(arg);
        };
        const int code = weald_workers_spawn(native_handle(), SIZE_MAX, work, task.get());
        if (code < 0)
            task->self.reset();
        check(code, "weald_workers_spawn");
    }

    /// Waits until their greenlets, and then they themselves, have ended. They take no more.
    void join(deadline d = forever) const { check(weald_workers_join(native_handle(), d.raw()), "weald_workers_join"); }
};

// ---- watchers and signals -------------------------------------------------------------------------------------------

/// A callback on the loop: it watches from the moment it is made until it goes, and may go in its own callback. The
/// callback must not wait. It is called with what happened (see weald_watcher_fn), or with nothing if it takes nothing.
/// While it is started it keeps run() going, unless unref() says otherwise.
class watcher : public unique_handle {
public:
    /// Fires after a span, and again in each `repeat` if that is not zero.
    template <class F> static watcher timer(timespan after, timespan repeat, F f)
    {
        return make(std::move(f), [&](void *to) { return weald_timer_watcher(after.ns(), repeat.ns(), fire, to); });
    }
    template <class F> static watcher timer(timespan after, F f)
    {
        return timer(after, std::chrono::nanoseconds(0), std::move(f));
    }
    /// Each time the signal comes. It does not do meanwhile what it did before.
    template <class F> static watcher signal(int signo, F f)
    {
        return make(std::move(f), [&](void *to) { return weald_signal_watcher(signo, fire, to); });
    }
    /// In every turn in which one of `events` is there.
    template <class F> static watcher io(int fd, int events, F f)
    {
        return make(std::move(f), [&](void *to) { return weald_io_watcher(fd, events, fire, to); });
    }
    /// When the child process ends: gets its wait status.
    template <class F> static watcher child(int pid, F f)
    {
        return make(std::move(f), [&](void *to) { return weald_child_watcher(pid, fire, to); });
    }
    /// When somebody calls send(), from any thread.
    template <class F> static watcher async(F f)
    {
        return make(std::move(f), [&](void *to) { return weald_async_watcher(fire, to); });
    }
    /// In each turn in which nothing else is to be done.
    template <class F> static watcher idle(F f)
    {
        return make(std::move(f), [&](void *to) { return weald_idle_watcher(fire, to); });
    }
    /// Before the loop looks for events.
    template <class F> static watcher prepare(F f)
    {
        return make(std::move(f), [&](void *to) { return weald_prepare_watcher(fire, to); });
    }
    /// After the loop has looked for events.
    template <class F> static watcher check(F f)
    {
        return make(std::move(f), [&](void *to) { return weald_check_watcher(fire, to); });
    }
    /// When what stat(2) says of a path has changed.
    template <class F> static watcher stat(const std::string &path, timespan interval, F f)
    {
        return make(std::move(f), [&](void *to) { return weald_stat_watcher(path.c_str(), interval.ns(), fire, to); });
    }

    watcher(watcher &&) noexcept = default;
    watcher &operator=(watcher &&other) noexcept
    {
        unique_handle::operator=(std::move(other)); // stops ours before its callback goes
        callback_ = std::move(other.callback_);
        return *this;
    }
    ~watcher() { reset(); }

    void start() const { weald::check(weald_watcher_start(native_handle()), "weald_watcher_start"); }
    void stop() const { weald::check(weald_watcher_stop(native_handle()), "weald_watcher_stop"); }
    /// Has a repeating timer count anew from now.
    void again() const { weald::check(weald_watcher_again(native_handle()), "weald_watcher_again"); }
    /// Has the callback of an async watcher run.
    void send() const { weald::check(weald_async_send(native_handle()), "weald_async_send"); }
    bool active() const { return weald::check(weald_watcher_active(native_handle()), "weald_watcher_active") != 0; }
    void ref() const { weald::check(weald_watcher_ref(native_handle()), "weald_watcher_ref"); }
    void unref() const { weald::check(weald_watcher_unref(native_handle()), "weald_watcher_unref"); }
    void set_priority(int p) const
    {
        weald::check(weald_watcher_set_priority(native_handle(), p), "weald_watcher_set_priority");
    }

private:
    struct callback : std::enable_shared_from_this<callback> {
        std::function<void(int)> call;
    };

    watcher(weald_handle handle, std::shared_ptr<callback> c) : unique_handle(handle), callback_(std::move(c)) {}

    template <class F, class Make> static watcher make(F f, Make &&handle_for)
    {
        auto c = std::make_shared<callback>();
        if constexpr (std::is_invocable_v<F &, int>)
            c->call = std::move(f);
        else
            c->call = [f = std::move(f)](int) mutable { f(); };
        watcher w(weald::check(handle_for(c.get()), "making a watcher"), c);
        w.start();
        return w;
    }

    static void fire(weald_watcher, int what, void *user)
    {
        // A share: the callback may end the watcher.
        const auto c = static_cast<callback *>(user)->shared_from_this();
        detail::fenced([&] { c->call(what); }, [] { detail::disown("the callback of a watcher"); });
    }

    std::shared_ptr<callback> callback_;
};

/// Waits until one of the signals comes: its number. From the first call on they are caught for this thread.
inline int wait_signal(std::initializer_list<int> signals, deadline d = forever)
{
    return check(weald_signal_wait(signals.begin(), signals.size(), d.raw()), "weald_signal_wait");
}

/// Ends that: the signals do again what they did before.
inline void ignore_signals(std::initializer_list<int> signals)
{
    check(weald_signal_release(signals.begin(), signals.size()), "weald_signal_release");
}

} // namespace weald

#endif // WEALD_HPP
