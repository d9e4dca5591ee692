//! Results.
//!
//! A value or a failure that is set once and waited for by many: a promise. Made with WEALD_SHARED
//! it may be used from every thread, and waiting for it is never taken for a deadlock.

#![allow(non_camel_case_types)]

use super::event::{is_shared, wants_shared};
use super::greenlet::{weald_destroy_fn, weald_link_fn};
use super::{fence, fence_any, fence64, put, some, text};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object;
use crate::registry;
use crate::sync::result::{AsyncResult, Outcome};
use crate::sync::shared::{self, SharedResult};
use crate::time::Deadline;
use std::ffi::{c_char, c_int, c_void};

/// A handle to a result.
pub type weald_result = i64;

/// Makes a result, not set. `flags`: 0 or WEALD_SHARED. `destroy` (NULL: none) gets the value when
/// the result is closed. Close it. Does not switch. Fails with WEALD_EINVAL (other flags),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_new(flags: c_int, destroy: weald_destroy_fn) -> weald_result {
    fence64(|hub| match wants_shared(flags)? {
        true => registry::share(SharedResult::new(destroy)),
        false => AsyncResult::create(hub, destroy),
    })
}

fn settle(r: i64, outcome: Outcome) -> c_int {
    if is_shared(r) {
        return fence_any(|| registry::shared::<SharedResult>(r)?.set(r, outcome)) as c_int;
    }
    fence(|hub| object::get::<AsyncResult>(hub, r)?.set(hub, outcome))
}

/// Sets the value, which belongs to the result from then on, and wakes who waits. Does not switch.
/// Returns 0. Fails with WEALD_EALREADY (set before: the value stays the caller's), WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_set(r: weald_result, value: *mut c_void) -> c_int {
    settle(r, Outcome::value(value))
}

/// Sets a failure: a negative code and a message (NULL: none), which is copied. Does not switch.
/// Returns 0. Fails with WEALD_EALREADY (set before), WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL
/// (`code` not negative; message not UTF-8).
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_fail(r: weald_result, code: c_int, message: *const c_char) -> c_int {
    // SAFETY: NULL or a C string, by the caller.
    let message = match unsafe { text(message) } {
        Ok(message) if code < 0 => message.unwrap_or_default(),
        _ => return Error::INVAL.code(),
    };
    settle(r, shared::failure(code, message))
}

/// Waits until it is set, and gets the value into `*value` (NULL: not wanted); it stays the
/// result's. If a failure was set, returns its code. May switch. Returns 0. Fails with WEALD_EBADF
/// (also when it is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK, or the failure's code.
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_get(r: weald_result, value: *mut *mut c_void, deadline: i64) -> c_int {
    fence(|hub| {
        let deadline = Deadline::from_raw(deadline);
        let got = match is_shared(r) {
            true => registry::shared::<SharedResult>(r)?.get(hub, r, deadline),
            false => object::get::<AsyncResult>(hub, r)?.get(hub, deadline),
        }?;
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(value, got) };
        Ok(())
    })
}

/// Waits until it is set, whatever to. May switch. Returns 0. Fails with WEALD_EBADF (also when it
/// is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_wait(r: weald_result, deadline: i64) -> c_int {
    fence(|hub| {
        let deadline = Deadline::from_raw(deadline);
        match is_shared(r) {
            true => registry::shared::<SharedResult>(r)?.wait(hub, r, deadline),
            false => object::get::<AsyncResult>(hub, r)?.wait(hub, deadline),
        }
    })
}

/// 1 when it is set, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_ready(r: weald_result) -> c_int {
    if is_shared(r) {
        return fence_any(|| registry::shared::<SharedResult>(r).map(|r| r.is_set())) as c_int;
    }
    fence(|hub| object::get::<AsyncResult>(hub, r).map(|r| r.is_set()))
}

/// The message of the failure; "" if there is none, for a bad handle, and for another thread's.
/// Never NULL; good until the result is closed. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_message(r: weald_result) -> *const c_char {
    let find = || -> Result<*const c_char> {
        if is_shared(r) {
            return Ok(registry::shared::<SharedResult>(r)?.message());
        }
        let hub = Hub::existing().ok_or(Error::BADF)?;
        Ok(object::get::<AsyncResult>(hub, r)?.message())
    };
    find().unwrap_or(c"".as_ptr())
}

/// Has `f(r, arg)` run in this thread's loop when the result is set; in the next turn if it is.
/// Does not switch. Returns the link's number, above 0. Fails with WEALD_EBADF, WEALD_EPERM,
/// WEALD_EINVAL (`f` NULL).
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_link(r: weald_result, f: weald_link_fn, arg: *mut c_void) -> i64 {
    fence64(|hub| {
        let f = some(f)?;
        match is_shared(r) {
            true => Ok(registry::shared::<SharedResult>(r)?.link(hub, r, f, arg)),
            false => Ok(object::get::<AsyncResult>(hub, r)?.link(hub, f, arg)),
        }
    })
}

/// Takes back a link of this thread, also of a result that is set: its callback will not run. Does
/// not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ENOENT (no such link, or it has
/// run).
#[unsafe(no_mangle)]
pub extern "C" fn weald_result_unlink(r: weald_result, link: i64) -> c_int {
    fence(|hub| match is_shared(r) {
        true => registry::shared::<SharedResult>(r)?.unlink(hub, r, link),
        false => object::get::<AsyncResult>(hub, r)?.unlink(hub, link),
    })
}
