//! Watchers: callbacks on the loop.
//!
//! A watcher is made stopped; while it is started its callback runs in the loop whenever what it
//! watches happens. A callback must not block: a call that would fails with WEALD_EWOULDBLOCK. It
//! may do everything else: stop, start and close watchers, its own included, spawn greenlets, set
//! events. When several are due in one turn, those of higher priority come first, equal ones in the
//! order they became due.
//!
//! A started watcher keeps weald_run going, and a wait of main from being taken for a deadlock,
//! unless it is unref'd. Closing stops it. In a forked child every watcher is stopped; it may be
//! started there. weald_wait takes watchers as well: one is ready when its callback has run
//! since its start.

#![allow(non_camel_case_types)]

use super::{fence, fence_any, fence64, some};
use crate::error::{Error, Result};
use crate::hub::{Hub, Phase};
use crate::object;
use crate::watcher::{self, Source, Watcher};
use std::ffi::{CStr, c_char, c_int, c_void};

/// A handle to a watcher.
pub type weald_watcher = i64;
/// Called in the loop. `what`: io: the events that came (WEALD_READ, WEALD_WRITE, WEALD_HUP,
/// WEALD_ERROR); signal: its number; child: the wait status, or WEALD_ECHILD; stat: 1; others: 0.
pub type weald_watcher_fn = Option<extern "C-unwind" fn(w: weald_watcher, what: c_int, user: *mut c_void)>;

fn make(source: impl FnOnce() -> Result<Source>, f: weald_watcher_fn, user: *mut c_void) -> i64 {
    fence64(|hub| Watcher::create(hub, source()?, some(f)?, user))
}

fn get(hub: &Hub, w: weald_watcher) -> Result<&Watcher> {
    object::get(hub, w)
}

/// Watches a descriptor for `events`: WEALD_READ, WEALD_WRITE or both. The callback runs in every
/// turn while one of them is there, so it reads or writes, or stops. Several watchers may watch one
/// descriptor, and greenlets wait for it as well. A regular file is always ready. When the
/// descriptor is closed behind its back, the callback gets WEALD_ERROR alone, once, and the watcher
/// is stopped: stop it before closing. The descriptor stays the caller's. Close the watcher. Does
/// not switch. Fails with WEALD_EBADF (a negative descriptor), WEALD_EINVAL (other events, or none;
/// `f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_io_watcher(fd: c_int, events: c_int, f: weald_watcher_fn, user: *mut c_void) -> weald_watcher {
    make(|| Ok(Source::Io { fd, events: events as u32 }), f, user)
}

/// Fires `after_ns` nanoseconds after its start (0 or less: in the next turn), then every
/// `repeat_ns`; with 0 it fires once and is stopped before its callback runs. It does not drift:
/// the n-th firing is due at start + after + n * repeat, however long callbacks take, and one that
/// is late stands for all that were missed. Timers that are due at the same moment fire in the
/// order they were started. INT64_MAX: never. Close it. Does not switch. Fails with WEALD_EINVAL (a
/// negative repeat; `f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_timer_watcher(
    after_ns: i64,
    repeat_ns: i64,
    f: weald_watcher_fn,
    user: *mut c_void,
) -> weald_watcher {
    make(|| Ok(Source::Timer { after: after_ns, repeat: repeat_ns }), f, user)
}

/// Watches for a signal, wherever in the process it arrives. While it is started the signal does
/// not do what it does by default, nor call a handler that was there before (SIGCHLD's is called as
/// well); the last to lose interest in the signal restores that. Two that come before the loop
/// looks are one callback. Close it. Does not switch. Fails with WEALD_EINVAL (no such signal; one
/// that can not be caught, or that a fault raises: SIGSEGV, SIGBUS, SIGFPE, SIGILL; `f` NULL),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_signal_watcher(signo: c_int, f: weald_watcher_fn, user: *mut c_void) -> weald_watcher {
    make(|| Ok(Source::Signal(signo)), f, user)
}

/// Watches for the end of a child process, reaps it, and is stopped. The callback gets its wait
/// status (see waitpid(2)), or WEALD_ECHILD when `pid` is no child of this process or somebody else
/// has reaped it. Several watchers of one thread may watch the same child; each gets the status.
/// Close it. Does not switch. Fails with WEALD_EINVAL (`pid` 0 or less; `f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_child_watcher(pid: c_int, f: weald_watcher_fn, user: *mut c_void) -> weald_watcher {
    make(|| Ok(Source::Child(pid)), f, user)
}

/// Fires when weald_async_send is called for it, from any thread. Close it. Does not switch. Fails
/// with WEALD_EINVAL (`f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_async_watcher(f: weald_watcher_fn, user: *mut c_void) -> weald_watcher {
    make(|| Ok(Source::Async), f, user)
}

/// Fires in each turn in which nothing else is to be done, and keeps the loop from sleeping: stop
/// it when the work is done. Close it. Does not switch. Fails with WEALD_EINVAL (`f` NULL),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_idle_watcher(f: weald_watcher_fn, user: *mut c_void) -> weald_watcher {
    make(|| Ok(Source::Loop(Phase::Idle)), f, user)
}

/// Fires just before the loop looks for events or sleeps. Close it. Does not switch. Fails with
/// WEALD_EINVAL (`f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_prepare_watcher(f: weald_watcher_fn, user: *mut c_void) -> weald_watcher {
    make(|| Ok(Source::Loop(Phase::Prepare)), f, user)
}

/// Fires just after the loop has looked for events, and behind their callbacks (before them with a
/// higher priority). Close it. Does not switch. Fails with WEALD_EINVAL (`f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_check_watcher(f: weald_watcher_fn, user: *mut c_void) -> weald_watcher {
    make(|| Ok(Source::Loop(Phase::Check)), f, user)
}

/// Looks at `path` (copied) every `interval_ns` nanoseconds (0: 5 seconds) and fires when what
/// stat(2) says has changed, but for the time of last access; coming into being and vanishing are
/// changes. It looks with a blocking stat(2), so the path should be on a file system that answers.
/// Close it. Does not switch. Fails with WEALD_EINVAL (`path` NULL or empty; a negative interval;
/// `f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stat_watcher(
    path: *const c_char,
    interval_ns: i64,
    f: weald_watcher_fn,
    user: *mut c_void,
) -> weald_watcher {
    let source = || {
        if path.is_null() {
            return Err(Error::INVAL);
        }
        // SAFETY: not NULL; a C string, by the caller.
        let path = unsafe { CStr::from_ptr(path) }.to_owned();
        Ok(Source::Stat { path, interval: watcher::stat_interval(interval_ns) })
    };
    make(source, f, user)
}

/// Begins to watch; does nothing if it does already. Does not switch. Returns 0. Fails with
/// WEALD_EBADF (the handle, or an io watcher's descriptor is not open), WEALD_EPERM, WEALD_ENOMEM,
/// WEALD_EMFILE (signals and children take a descriptor).
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_start(w: weald_watcher) -> c_int {
    fence(|hub| get(hub, w)?.start(hub))
}

/// Ceases to watch; a callback that is pending does not run. Does nothing if it is stopped. Does
/// not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_stop(w: weald_watcher) -> c_int {
    fence(|hub| get(hub, w).map(|w| w.stop(hub)))
}

/// 1 from its start until it is stopped, or stops by itself (a timer that does not repeat, a child
/// that has ended), else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_active(w: weald_watcher) -> c_int {
    fence(|hub| get(hub, w).map(Watcher::is_active))
}

/// 1 when something has happened and the callback has still to run, else 0. Does not switch. Fails
/// with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_pending(w: weald_watcher) -> c_int {
    fence(|hub| get(hub, w).map(Watcher::is_pending))
}

/// Has a repeating timer, started or not, fire one interval from now and so on: call it at each
/// sign of life and the timer fires after a silence. A callback that is pending does not run. Does
/// not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (no timer, or one that
/// does not repeat), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_again(w: weald_watcher) -> c_int {
    fence(|hub| get(hub, w)?.again(hub))
}

/// Undoes weald_watcher_unref. They do not count: one undoes any number. Does not switch. Returns
/// 0. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_ref(w: weald_watcher) -> c_int {
    fence(|hub| get(hub, w).map(|w| w.set_counted(hub, true)))
}

/// From now on it does not keep the loop running. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_unref(w: weald_watcher) -> c_int {
    fence(|hub| get(hub, w).map(|w| w.set_counted(hub, false)))
}

/// Sets the priority, -2 to 2 (0 at first), for the next time something happens. Does not switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (out of range).
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_set_priority(w: weald_watcher, priority: c_int) -> c_int {
    fence(|hub| get(hub, w)?.set_priority(priority))
}

/// Sets what the callback gets as `user`. Does not switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_set_user(w: weald_watcher, user: *mut c_void) -> c_int {
    fence(|hub| get(hub, w).map(|w| w.user.set(user)))
}

/// What the callback gets as `user`; NULL for a bad handle, and for another thread's. Does not
/// switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_watcher_user(w: weald_watcher) -> *mut c_void {
    let found = Hub::existing().and_then(|hub| get(hub, w).ok());
    found.map_or(std::ptr::null_mut(), |w| w.user.get())
}

/// Has the callback of an async watcher run, waking its loop if it sleeps. Several calls before it
/// runs are one; what the caller wrote before the call, the callback sees. Not from a signal
/// handler. From any thread; does not switch. Returns 0, also for a watcher that is not started:
/// nothing happens. Fails with WEALD_EBADF (in another thread than the watcher's, a closed handle
/// may go unnoticed), WEALD_EINVAL (another kind of watcher; noticed in its own thread).
#[unsafe(no_mangle)]
pub extern "C" fn weald_async_send(w: weald_watcher) -> c_int {
    fence_any(|| watcher::send(w)) as c_int
}
