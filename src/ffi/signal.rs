//! Signals, waited for.
//!
//! Each interested thread gets a signal: all its watchers (see weald_signal_watcher), and the first
//! of its greenlets that waits. What was there before is restored when nobody is interested any
//! more, at the latest when the last hub ends; a forked child begins with it.

#![allow(non_camel_case_types)]

use super::hub::weald_callback;
use super::{fence, slice, some};
use crate::signal;
use crate::time::Deadline;
use std::ffi::{c_int, c_void};

/// Waits until one of `n` signals comes, and returns its number. From the first call on these
/// signals are caught for this thread, whatever the call returns, until weald_signal_release or the
/// end of the hub: one that comes while nobody waits is given to the next who does; two of the same
/// number are then one. Call it once with WEALD_NOW to begin catching. May switch. Fails with
/// WEALD_EINVAL (`signos` NULL; `n` 0; a number that is no signal, can not be caught, or that a
/// fault raises: SIGSEGV, SIGBUS, SIGFPE, SIGILL), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED (killed, or weald_signal_release), WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child
/// that a callback has forked meanwhile), WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_signal_wait(signos: *const c_int, n: usize, deadline: i64) -> c_int {
    fence(|hub| {
        // SAFETY: the caller's array; read before anything waits.
        let set = signal::set_of(unsafe { slice(signos, n) }?)?;
        signal::wait(hub, set, Deadline::from_raw(deadline))
    })
}

/// Ends what weald_signal_wait has begun in this thread for these signals: they do again what they
/// did before, if nobody else is interested; one that has come and was not waited for is forgotten;
/// greenlets that wait for one of them get WEALD_ECANCELED. Does not switch. Returns 0. Fails with
/// WEALD_EINVAL (as weald_signal_wait).
#[unsafe(no_mangle)]
pub extern "C" fn weald_signal_release(signos: *const c_int, n: usize) -> c_int {
    fence(|hub| {
        // SAFETY: the caller's array, read only here.
        let set = signal::set_of(unsafe { slice(signos, n) }?)?;
        signal::release(hub, set);
        Ok(())
    })
}

/// For an orderly end: has `f(arg)` run once in the loop when the first of SIGINT, SIGTERM and
/// SIGQUIT comes. Let it set an event, kill a group or call weald_stop; it must not block. From
/// then on the three do again what they did before, so a second one ends a program that takes too
/// long. A loop that has not looked for a second since the first one does not stop the next from
/// ending the program either. It does not keep the loop running. Does not switch. Returns 0. Fails
/// with WEALD_EINVAL (`f` NULL), WEALD_EALREADY (this thread has one that has not run),
/// WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_on_terminate(f: weald_callback, arg: *mut c_void) -> c_int {
    fence(|hub| signal::on_terminate(hub, some(f)?, arg))
}
