//! Every system call the runtime makes, as a function that returns `Result`.
//!
//! Under the feature `fault-injection` a test can make the n-th of these calls
//! fail (`fault::fail_at`), to see that each failure leaves everything as it was.

pub mod child;
pub mod descriptor;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
pub mod glibc;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
pub mod loader;
pub mod names;
pub mod file;

use crate::error::{Error, Result};
use crate::once::{Answer, Deed};
use std::ffi::{CStr, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

/// Which call is about to be made, for fault injection and its reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Call {
    Alloc,
    Mmap,
    Protect,
    Poller,
    EpollCtl,
    Thread,
    PidFd,
    EventFd,
    Sigaction,
    Spawn,
    /// A new descriptor of any kind.
    Open,
    /// Bytes to or from a descriptor.
    Transfer,
    /// A question about a socket, or a change to it.
    Socket,
}

#[cfg(feature = "fault-injection")]
pub mod fault {
    //! Counts down over all fallible calls of the process and fails the one that
    //! reaches zero, once.
    use super::Call;
    use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering::SeqCst};

    static COUNTDOWN: AtomicI64 = AtomicI64::new(-1);
    static FAILED: AtomicU32 = AtomicU32::new(u32::MAX);

    /// Makes the `n`-th fallible call from now fail (0: the next one).
    pub fn fail_at(n: i64) {
        FAILED.store(u32::MAX, SeqCst);
        COUNTDOWN.store(n, SeqCst);
    }

    /// Stops injecting; says whether a call was made to fail.
    pub fn disarm() -> bool {
        COUNTDOWN.store(-1, SeqCst);
        FAILED.load(SeqCst) != u32::MAX
    }

    static LONGEST: AtomicUsize = AtomicUsize::new(usize::MAX);
    static INTERRUPT_EVERY: AtomicU32 = AtomicU32::new(0);
    static TRANSFERS: AtomicU32 = AtomicU32::new(0);

    /// Lets no read or write move more than `longest` bytes, and each `interrupt_every`-th
    /// of them (0: none) be interrupted first.
    pub fn disturb(longest: usize, interrupt_every: u32) {
        LONGEST.store(longest, SeqCst);
        INTERRUPT_EVERY.store(interrupt_every, SeqCst);
    }

    pub(super) fn longest() -> usize {
        LONGEST.load(SeqCst)
    }

    pub(super) fn interrupts() -> bool {
        let every = INTERRUPT_EVERY.load(SeqCst);
        every > 0 && TRANSFERS.fetch_add(1, SeqCst).is_multiple_of(every)
    }

    pub(super) fn hit(call: Call) -> bool {
        if COUNTDOWN.load(SeqCst) < 0 || COUNTDOWN.fetch_sub(1, SeqCst) != 0 {
            return false;
        }
        FAILED.store(call as u32, SeqCst);
        true
    }
}

/// Fails when a test wants this call to fail.
#[inline(always)]
pub fn may_fail(_call: Call) -> Result<()> {
    #[cfg(feature = "fault-injection")]
    if fault::hit(_call) {
        return Err(match _call {
            Call::Poller | Call::PidFd | Call::EventFd | Call::Open => Error::from_errno(libc::EMFILE),
            Call::Thread | Call::Spawn => Error::AGAIN,
            _ => Error::NOMEM,
        });
    }
    Ok(())
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(Error::last_os()) } else { Ok(result) }
}

#[inline]
pub fn monotonic_ns() -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// Seconds since 1970, by the wall's clock, as of its last tick.
pub fn wall_seconds() -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut t) };
    t.tv_sec
}

/// Has `f` run at the end of this thread, behind the destructors of its thread-locals. For
/// one function alone. Where there is no key to be had, nobody is called.
pub fn at_late_thread_end(f: extern "C" fn()) {
    static MADE: Deed = Deed::new();
    /// One more than the key, 0: there is none.
    static KEY: AtomicU64 = AtomicU64::new(0);
    extern "C" fn call(f: *mut c_void) {
        // SAFETY: what is set below.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn()>(f)() }
    }
    MADE.once(|| {
        let mut key = 0;
        // SAFETY: `key` is writable.
        if unsafe { libc::pthread_key_create(&mut key, Some(call)) } == 0 {
            KEY.store(u64::from(key) + 1, SeqCst);
        }
    });
    if let Some(key) = KEY.load(SeqCst).checked_sub(1) {
        // SAFETY: a key of ours, which is never deleted.
        unsafe { libc::pthread_setspecific(key as libc::pthread_key_t, f as *const c_void) };
    }
}

/// Where this thread keeps errno. The address does not change while the thread
/// lives, so the hub asks once.
pub fn errno_location() -> *mut c_int {
    // SAFETY: always callable.
    unsafe { libc::__errno_location() }
}

/// Runs `f`, which makes system calls that may fail, and leaves errno as it was: it is the
/// running greenlet's.
pub fn keeping_errno<R>(f: impl FnOnce() -> R) -> R {
    let errno = errno_location();
    // SAFETY: this thread's errno.
    let before = unsafe { *errno };
    let result = f();
    // SAFETY: as above.
    unsafe { *errno = before };
    result
}

/// The thread's block of C++ exception state, or null in a program without C++.
pub fn cxa_globals() -> *mut [usize; 2] {
    unsafe extern "C" {
        safe fn weald_cxa_globals() -> *mut c_void; // see c/cxa.c
    }
    weald_cxa_globals().cast()
}

pub fn page_size() -> usize {
    // SAFETY: no arguments to get wrong.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Fresh zeroed memory, not counted against the commit limit, without huge pages:
/// neighbouring stacks would merge into one and fill it.
pub fn map(len: usize) -> Result<*mut u8> {
    may_fail(Call::Mmap)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(Error::last_os());
    }
    // SAFETY: the mapping just made. Failure (no huge pages built in) is harmless.
    unsafe { libc::madvise(at, len, libc::MADV_NOHUGEPAGE) };
    Ok(at.cast())
}

/// # Safety
/// The range is a whole mapping of ours and nothing uses it any more.
pub unsafe fn unmap(at: *mut u8, len: usize) {
    // SAFETY: by contract.
    unsafe { libc::munmap(at.cast(), len) };
}

/// Linux 6.13: guard pages without a mapping of their own.
const MADV_GUARD_INSTALL: c_int = 102;
/// Linux 6.14: "this process" where a pidfd is wanted.
const PIDFD_SELF: c_int = -10000;

/// Applies `advice` to each range in one system call; how many bytes it covered.
fn advise_many(ranges: &[libc::iovec], advice: c_int) -> Result<usize> {
    // SAFETY: the kernel checks the ranges; callers pass stack memory of ours.
    let n = unsafe { libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, ranges.as_ptr(), ranges.len(), advice, 0) };
    if n < 0 { Err(Error::last_os()) } else { Ok(n as usize) }
}

/// How many ranges one vectored call takes.
const IOV_MAX: usize = 1024;

fn advise_each(ranges: &[libc::iovec], advice: c_int) -> Result<()> {
    for r in ranges {
        // SAFETY: as for `advise_many`.
        check(unsafe { libc::madvise(r.iov_base, r.iov_len, advice) })?;
    }
    Ok(())
}

fn advise(ranges: &[libc::iovec], advice: c_int) -> Result<()> {
    for part in ranges.chunks(IOV_MAX) {
        let want: usize = part.iter().map(|r| r.iov_len).sum();
        if advise_many(part, advice) != Ok(want) {
            // An older kernel, or stopped half way: doing it again is harmless.
            advise_each(part, advice)?;
        }
    }
    Ok(())
}

/// Makes every page in `ranges` trap. Where the kernel has no guard markers this
/// splits mappings, and vm.max_map_count is the limit.
pub fn guard(ranges: &[libc::iovec]) -> Result<()> {
    may_fail(Call::Protect)?;
    if advise(ranges, MADV_GUARD_INSTALL).is_ok() {
        return Ok(());
    }
    for r in ranges {
        // SAFETY: pages of ours that nobody uses.
        check(unsafe { libc::mprotect(r.iov_base, r.iov_len, libc::PROT_NONE) })?;
    }
    Ok(())
}

/// Whether guard pages cost no mapping of their own here (asked once).
pub fn has_guard_markers() -> bool {
    static HAS: Answer = Answer::new();
    HAS.get(|| {
        let page = page_size();
        let Ok(at) = map(page) else { return false };
        let range = libc::iovec { iov_base: at.cast(), iov_len: page };
        let has = advise_each(&[range], MADV_GUARD_INSTALL).is_ok();
        // SAFETY: mapped above.
        unsafe { unmap(at, page) };
        has
    })
}

/// Whether valgrind runs this process, and wants to know of stacks: it preloads a library.
pub fn is_under_valgrind() -> bool {
    static IS: Answer = Answer::new();
    IS.get(|| {
        // SAFETY: a NUL-terminated name; what comes back is NULL or NUL-terminated.
        let preloaded = unsafe { libc::getenv(c"LD_PRELOAD".as_ptr()) };
        // SAFETY: as above.
        !preloaded.is_null() && unsafe { CStr::from_ptr(preloaded) }.to_bytes().windows(9).any(|w| w == b"vgpreload")
    })
}

/// Gives free pages of the heap back, after a burst of greenlets has ended: their
/// records were allocated in a row, and malloc keeps what it can not cut off the end.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no arguments to get wrong.
    unsafe {
        libc::malloc_trim(64 * 1024);
    }
}

/// Faults the pages in now, many in one call. Failure only means that they are
/// faulted in one by one later.
pub fn populate(ranges: &[libc::iovec]) {
    let _ = advise_many(ranges, libc::MADV_POPULATE_WRITE);
}

/// Gives the pages' memory back; they read as zero when touched again.
pub fn give_back(ranges: &[libc::iovec]) {
    let _ = advise(ranges, libc::MADV_DONTNEED);
}

/// How many bytes at the top of `[low, high)` are in memory without a gap.
pub fn resident_top(low: usize, high: usize, page: usize) -> usize {
    let mut resident = vec![0u8; (high - low) / page];
    // SAFETY: the range is mapped memory of ours, the vector has a byte a page.
    if unsafe { libc::mincore(low as *mut c_void, high - low, resident.as_mut_ptr()) } != 0 {
        return 0;
    }
    resident.iter().rev().take_while(|&&r| r & 1 != 0).count() * page
}

pub fn epoll_create() -> Result<RawFd> {
    may_fail(Call::Poller)?;
    // SAFETY: no pointers.
    check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// A timer of the monotonic clock.
pub fn timerfd_create() -> Result<RawFd> {
    may_fail(Call::Poller)?;
    // SAFETY: no pointers.
    check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })
}

/// Has it ring at `at`, and not at what was set before.
pub fn timerfd_set(timer: RawFd, at: i64) -> Result<()> {
    may_fail(Call::EpollCtl)?;
    let at = at.max(1);
    let value = libc::timespec { tv_sec: at / 1_000_000_000, tv_nsec: at % 1_000_000_000 };
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let spec = libc::itimerspec { it_interval: never, it_value: value };
    // SAFETY: `spec` lives through the call; NULL: what was set before is not wanted.
    check(unsafe { libc::timerfd_settime(timer, libc::TFD_TIMER_ABSTIME, &spec, std::ptr::null_mut()) }).map(drop)
}

pub fn epoll_ctl(epoll: RawFd, op: c_int, fd: RawFd, events: u32, data: u64) -> Result<()> {
    may_fail(Call::EpollCtl)?;
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: `event` lives through the call.
    check(unsafe { libc::epoll_ctl(epoll, op, fd, &mut event) }).map(drop)
}

/// Waits with a nanosecond timeout. `None` waits for ever. ENOSYS before Linux 5.11.
pub fn epoll_pwait2(epoll: RawFd, events: &mut [libc::epoll_event], timeout_ns: Option<i64>) -> Result<usize> {
    let spec = timeout_ns.map(|ns| libc::timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 });
    let spec_ptr = spec.as_ref().map_or(std::ptr::null(), |s| s as *const libc::timespec);
    // SAFETY: buffer and timespec live through the call; no signal mask is given.
    let n = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll,
            events.as_mut_ptr(),
            events.len() as c_int,
            spec_ptr,
            std::ptr::null::<c_void>(),
            8usize,
        )
    };
    if n < 0 { Err(Error::last_os()) } else { Ok(n as usize) }
}

/// As `epoll_pwait2`, in whole milliseconds: rounded up, because a deadline is not early.
pub fn epoll_wait(epoll: RawFd, events: &mut [libc::epoll_event], timeout_ns: Option<i64>) -> Result<usize> {
    let rounded = |ns: i64| c_int::try_from(ns.saturating_add(999_999) / 1_000_000).unwrap_or(c_int::MAX);
    let timeout = timeout_ns.map_or(-1, rounded);
    // SAFETY: the buffer lives through the call.
    let n = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as c_int, timeout) };
    Ok(check(n)? as usize)
}

/// Does nothing for a while; less when a signal comes.
pub fn nap(ns: i64) {
    let time = libc::timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 };
    // SAFETY: `time` lives through the call.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
}

/// poll(2) without waiting.
pub fn poll_now(fds: &mut [libc::pollfd]) -> Result<usize> {
    // The kernel looks at half of a long alone.
    let n = u32::try_from(fds.len()).map_err(|_| Error::INVAL)?;
    // SAFETY: a valid slice.
    Ok(check(unsafe { libc::poll(fds.as_mut_ptr(), libc::nfds_t::from(n), 0) })? as usize)
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd_open(pid: i32) -> Result<RawFd> {
    may_fail(Call::PidFd)?;
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 { Err(Error::last_os()) } else { Ok(fd as RawFd) }
}

/// Reaps `pid` if it has ended: `Some(status)`, or `None` while it runs.
pub fn reap(pid: i32) -> Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let r = check(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) })?;
    Ok((r == pid).then_some(status))
}

/// A counter that a signal handler may write to and a poller can wait for.
pub fn eventfd() -> Result<RawFd> {
    may_fail(Call::EventFd)?;
    // SAFETY: no pointers.
    check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// Empties an eventfd.
pub fn drain(fd: RawFd) {
    let mut count = 0u64;
    // SAFETY: eight writable bytes; a failure means that it is empty already.
    unsafe { libc::read(fd, (&raw mut count).cast(), 8) };
}

/// The action of a signal, replaced by `new` if there is one.
pub fn sigaction(signo: c_int, new: Option<&libc::sigaction>) -> Result<libc::sigaction> {
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: an all-zero sigaction is a valid value.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both point to a sigaction, or `new` is null.
    check(unsafe { libc::sigaction(signo, new, &mut before) }).map(|_| before)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// What a thread's own mistakes raise. Blocked, they would end the process without
/// asking the handlers that tell what happened.
const FAULTS: [c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];
/// Address space, touched as it is used: what a C program's threads usually have.
const THREAD_STACK: usize = 8 << 20;

/// A thread that takes no signals: they are for the threads that know about them. The
/// mask is inherited, so there is no moment at which it would take one.
pub fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    may_fail(Call::Thread)?;
    crate::reserve::ask_malloc().map_err(|_| Error::AGAIN)?;
    let builder = std::thread::Builder::new().name(name.into()).stack_size(THREAD_STACK);
    let before = mask_signals(&all_but_faults());
    let started = builder.spawn(body);
    mask_signals(&before);
    started.map_err(|_| Error::AGAIN)
}

fn all_but_faults() -> libc::sigset_t {
    // SAFETY: an all-zero set is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable, the signals exist.
    unsafe {
        libc::sigfillset(&mut set);
        FAULTS.iter().for_each(|&signo| {
            libc::sigdelset(&mut set, signo);
        });
    }
    set
}

/// Sets this thread's mask; the one before.
fn mask_signals(mask: &libc::sigset_t) -> libc::sigset_t {
    // SAFETY: an all-zero set is a valid value.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both are sets; the call fails for a wrong first argument alone.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, &mut before) };
    before
}

pub fn close(fd: RawFd) {
    // SAFETY: callers own the descriptor.
    unsafe { libc::close(fd) };
}

pub fn write_all(fd: RawFd, mut text: &[u8]) -> Result<()> {
    while !text.is_empty() {
        // SAFETY: a valid slice.
        let n = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
        if n >= 0 {
            text = &text[n as usize..];
        } else if Error::last_os() != Error::INTR {
            return Err(Error::last_os());
        }
    }
    Ok(())
}

/// `None` when there is nothing to tell: the path does not exist.
pub fn stat(path: &CStr) -> Option<libc::stat> {
    // SAFETY: an all-zero stat is a valid value.
    let mut s: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: path is NUL-terminated, `s` is writable.
    (unsafe { libc::stat(path.as_ptr(), &mut s) } == 0).then_some(s)
}

/// "function+0x12 (object)" for a code address.
pub fn symbol(address: usize) -> String {
    // SAFETY: an all-zero Dl_info is a valid value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked for.
    if address == 0 || unsafe { libc::dladdr(address as *const c_void, &mut info) } == 0 {
        return format!("{address:#x}");
    }
    let text = |p: *const std::ffi::c_char| {
        // SAFETY: dladdr gives NULL or a string that lives as long as the object.
        (!p.is_null()).then(|| unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned())
    };
    let object = text(info.dli_fname).unwrap_or_default();
    let object = object.rsplit('/').next().unwrap_or_default();
    match text(info.dli_sname) {
        Some(name) => format!("{name}+{:#x} ({object})", address - info.dli_saddr as usize),
        None => format!("{object}+{:#x}", address - info.dli_fbase as usize),
    }
}
