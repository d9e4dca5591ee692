//! Events.
//!
//! A flag that greenlets wait for. Made with WEALD_SHARED it may be used from every thread, and
//! waiting for it is never taken for a deadlock.

#![allow(non_camel_case_types)]

use super::base::WEALD_SHARED;
use super::{fence, fence_any, fence64, quick};
use crate::error::{Error, Result};
use crate::handle;
use crate::hub::Hub;
use crate::object;
use crate::registry;
use crate::sync::event::Event;
use crate::sync::shared::SharedEvent;
use crate::time::Deadline;
use std::ffi::c_int;

/// A handle to an event.
pub type weald_event = i64;

/// Whether the object behind `handle` is one that threads share.
pub(super) fn is_shared(handle: i64) -> bool {
    handle > 0 && handle::hub_of(handle) == 0
}

/// Whether `flags` ask for a shared object; EINVAL for other bits.
pub(super) fn wants_shared(flags: c_int) -> Result<bool> {
    if flags & !WEALD_SHARED != 0 { Err(Error::INVAL) } else { Ok(flags & WEALD_SHARED != 0) }
}

/// Makes an event, not set. `flags`: 0 or WEALD_SHARED. Close it. Does not switch. Fails with
/// WEALD_EINVAL (other flags), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_event_new(flags: c_int) -> weald_event {
    fence64(|hub| if wants_shared(flags)? { SharedEvent::create() } else { Event::create(hub) })
}

/// Sets the event: everybody who waits goes on, in the order they came. Does not switch. Returns 0.
/// Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_event_set(e: weald_event) -> c_int {
    if is_shared(e) {
        return fence_any(|| registry::shared::<SharedEvent>(e).map(|e| e.set())) as c_int;
    }
    quick(|hub| object::get::<Event>(hub, e).map(|e| e.set(hub)))
}

/// Takes the flag back. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_event_clear(e: weald_event) -> c_int {
    if is_shared(e) {
        return fence_any(|| registry::shared::<SharedEvent>(e).map(|e| e.clear())) as c_int;
    }
    quick(|hub| object::get::<Event>(hub, e).map(|e| e.clear()))
}

/// 1 when it is set, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_event_is_set(e: weald_event) -> c_int {
    if is_shared(e) {
        return fence_any(|| registry::shared::<SharedEvent>(e).map(|e| e.is_set())) as c_int;
    }
    quick(|hub| object::get::<Event>(hub, e).map(|e| e.is_set()))
}

/// Waits until the event is set. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
/// closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_event_wait(e: weald_event, deadline: i64) -> c_int {
    let deadline = Deadline::from_raw(deadline);
    if is_shared(e) {
        return fence(|hub: &Hub| registry::shared::<SharedEvent>(e)?.wait(hub, e, deadline));
    }
    quick(|hub| object::get::<Event>(hub, e)?.wait(hub, deadline))
}
