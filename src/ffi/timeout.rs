//! Timeouts.
//!
//! A timeout bounds everything its greenlet does until it is cancelled or closed: from its deadline
//! on every blocking call returns WEALD_ETIMEDOUT. Timeouts nest, and each knows whether it was the
//! one. They work on the greenlet that started them.

#![allow(non_camel_case_types)]

use super::{fence, fence64};
use crate::timeout::Timeout;
use std::ffi::c_int;

/// A handle to a timeout.
pub type weald_timeout = i64;

/// Starts a timeout of `ns` nanoseconds for the current greenlet; negative: it has passed already,
/// INT64_MAX: never. Close it. Does not switch. Fails with WEALD_ENOMEM, WEALD_EWOULDBLOCK (in a
/// callback: no greenlet).
#[unsafe(no_mangle)]
pub extern "C" fn weald_timeout_start(ns: i64) -> weald_timeout {
    fence64(|hub| Timeout::start(hub, ns))
}

/// 1 when a blocking call has failed because of this timeout, else 0. Does not switch. Fails with
/// WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_timeout_fired(t: weald_timeout) -> c_int {
    fence(|hub| Ok(Timeout::get(hub, t)?.fired()))
}

/// Ends the timeout; weald_timeout_fired still tells. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_timeout_cancel(t: weald_timeout) -> c_int {
    fence(|hub| Timeout::get(hub, t).map(|t| t.cancel(hub)))
}

/// Starts it again with `ns` from now, whatever became of it. Does not switch. Returns 0. Fails
/// with WEALD_EBADF, WEALD_EPERM (another thread's; not the greenlet that started it).
#[unsafe(no_mangle)]
pub extern "C" fn weald_timeout_restart(t: weald_timeout, ns: i64) -> c_int {
    fence(|hub| Timeout::get(hub, t)?.restart(hub, ns))
}
