//! The hub: the loop that runs a thread's greenlets.
//!
//! There is one per thread, made by the first call that needs it. When main (the thread's own
//! stack) blocks, the loop runs right there; so a program may never call anything here. What keeps
//! weald_run going: greenlets that can go on, started watchers that are not unref'd, waits for
//! descriptors and time, jobs in threads.

#![allow(non_camel_case_types)]

use super::base::weald_handle;
use super::greenlet::weald_greenlet;
use super::{fence, fence_any, fence64, some};
use crate::error::Error;
use crate::registry::{self, Post, Remote};
use crate::time::Deadline;
use std::ffi::{c_char, c_int, c_void};

/// Called in the loop: it must not block.
pub type weald_callback = Option<extern "C-unwind" fn(arg: *mut c_void)>;
/// Told of a failure, once: the greenlet (0: the loop itself), the code, the message ("" if none).
/// It must not block.
pub type weald_error_fn =
    Option<extern "C-unwind" fn(g: weald_greenlet, code: c_int, message: *const c_char, user: *mut c_void)>;
/// Given a report of several lines: a deadlock, or what a shutdown abandoned. It must not block.
pub type weald_report_fn = Option<extern "C-unwind" fn(text: *const c_char, user: *mut c_void)>;

/// Makes a handle to this thread's hub, for weald_post from any thread; close it. While one is
/// open, a wait of main that nothing in this thread can end is not taken for a deadlock. Does not
/// switch. Fails with WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_hub() -> weald_handle {
    fence64(|hub| registry::expose(&hub.remote))
}

/// Has `f(arg)` run in the loop of `hub`, waking it if it sleeps. In order of posting; what has not
/// run when the hub is shut down never does. From any thread; does not switch. Returns 0. Fails
/// with WEALD_EBADF, WEALD_EINVAL (`f` NULL), WEALD_ESHUTDOWN (the hub has ended: `f` will not run).
#[unsafe(no_mangle)]
pub extern "C" fn weald_post(hub: weald_handle, f: weald_callback, arg: *mut c_void) -> c_int {
    fence_any(|| {
        let remote = registry::shared::<Remote>(hub)?;
        remote.post(Post::Call(some(f)?, arg))
    }) as c_int
}

/// Runs the loop until nothing is left to do, weald_stop, or the deadline. From main only. May
/// switch. Returns 0. Fails with WEALD_ETIMEDOUT (also at WEALD_NOW), WEALD_EDEADLK (greenlets are
/// left that nothing can wake: see the report), WEALD_EWOULDBLOCK (in a callback), WEALD_EPERM (in
/// a greenlet).
#[unsafe(no_mangle)]
pub extern "C" fn weald_run(deadline: i64) -> c_int {
    fence(|hub| hub.run(Deadline::from_raw(deadline).ns()))
}

/// For weald_run_once: do not wait.
pub const WEALD_RUN_NOWAIT: c_int = 0;
/// ... wait until there is something to do.
pub const WEALD_RUN_ONCE: c_int = 1;

/// Runs one turn of the loop: everything that is ready, once. Returns 1 if there is more to do now
/// or later, 0 if nothing is left. From main only. May switch. Fails with WEALD_EINVAL (no such
/// mode), WEALD_EWOULDBLOCK (in a callback), WEALD_EPERM (in a greenlet).
#[unsafe(no_mangle)]
pub extern "C" fn weald_run_once(mode: c_int) -> c_int {
    fence(|hub| match mode {
        WEALD_RUN_NOWAIT => hub.run_once(false),
        WEALD_RUN_ONCE => hub.run_once(true),
        _ => Err(Error::INVAL),
    })
}

/// Makes weald_run return 0 after this turn (or at once when it is next called). From greenlets and
/// callbacks. Does not switch. Returns 0. Fails with the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stop() -> c_int {
    fence(|hub| {
        hub.stop.set(true);
        hub.budget.set(0);
        Ok(())
    })
}

/// A descriptor for a foreign loop to watch: readable when weald_hub_step has an event or a post to
/// deal with. It does not tell of greenlets that are ready, nor of timers: for those ask
/// weald_hub_next_deadline after each step. It belongs to the hub: do not close it. A forked child
/// asks again. Does not switch. Fails with the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_hub_fd() -> c_int {
    fence(|hub| {
        let fd = hub.poller().outer_fd()?;
        hub.embed();
        Ok(fd)
    })
}

/// When weald_hub_step must be called next even if weald_hub_fd is not readable: WEALD_NOW, a
/// deadline, or WEALD_FOREVER. Does not switch. Fails with the hub's codes alone, all of which are
/// below WEALD_FOREVER.
#[unsafe(no_mangle)]
pub extern "C" fn weald_hub_next_deadline() -> i64 {
    fence64(|hub| Ok(hub.next_deadline()))
}

/// One turn that does not wait, for a foreign loop: the same as weald_run_once(WEALD_RUN_NOWAIT).
/// From main only. May switch. Fails with WEALD_EWOULDBLOCK (in a callback), WEALD_EPERM (in a
/// greenlet).
#[unsafe(no_mangle)]
pub extern "C" fn weald_hub_step() -> c_int {
    weald_run_once(WEALD_RUN_NOWAIT)
}

/// Sets who is told of greenlets that fail; NULL: a line on stderr. Once per failure; a killed
/// greenlet is none. Does not switch. Returns 0. Fails with the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_set_error_handler(f: weald_error_fn, user: *mut c_void) -> c_int {
    fence(|hub| {
        hub.error_handler.set(f.map(|f| (f, user)));
        Ok(())
    })
}

/// Sets who gets reports (deadlock, shutdown); NULL: stderr. Does not switch. Returns 0. Fails with
/// the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_set_report_handler(f: weald_report_fn, user: *mut c_void) -> c_int {
    fence(|hub| {
        hub.report_handler.set(f.map(|f| (f, user)));
        Ok(())
    })
}

/// Ends this thread's hub: kills every greenlet, lets them clean up without waiting, abandons those
/// that do not end (their stacks are given back, never unwound; a report names them), and closes
/// every handle, which destroys what is behind them. A thread that ends does the same to its hub,
/// but all its greenlets are abandoned, without a report; only destructors run. From main only. May
/// switch. Returns how many were abandoned. Fails with WEALD_EWOULDBLOCK (in a callback),
/// WEALD_EPERM (in a greenlet), WEALD_ESHUTDOWN (done before).
#[unsafe(no_mangle)]
pub extern "C" fn weald_hub_shutdown() -> i64 {
    fence64(|hub| hub.shutdown())
}
