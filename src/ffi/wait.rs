//! Waiting for several things.

#![allow(non_camel_case_types)]

use super::base::weald_handle;
use super::{fence64, slice_mut};
use crate::error::Error;
use crate::poller::{READ, WRITE};
use crate::sync::select::{self, Target};
use crate::time::Deadline;
use std::ffi::c_int;

/// One thing to wait for: an object, or with `object` 0 a descriptor.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_wait_item {
    /// A greenlet (has ended), event or result (is set), queue (has an item, or is shut), semaphore
    /// (has a permit), lock (is free), watcher (its callback has run since its start); or 0.
    pub object: weald_handle,
    /// With `object` 0: the descriptor,
    pub fd: c_int,
    /// and what to wait for on it: WEALD_READ, WEALD_WRITE.
    pub events: c_int,
    /// Filled in: 1 when it is ready, else 0.
    pub ready: c_int,
}

/// Waits until `how_many` of the `n` items are ready (0: all of them), says in their `ready` which
/// are, and returns how many. Nothing is taken: get or acquire with WEALD_NOW, which succeeds
/// because nothing runs in between. (Another thread may be faster at a shared object.) May switch.
/// Fails with WEALD_EINVAL (`items` NULL; `how_many` above `n`; no such events), WEALD_EBADF (a
/// handle of another kind, or closed meanwhile; no open descriptor), WEALD_EPERM, WEALD_EBUSY
/// (called by the comparator of one of them), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_wait(items: *mut weald_wait_item, n: usize, how_many: usize, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's array, which stays while this greenlet waits.
        let items = unsafe { slice_mut(items, n) }?;
        let good = |i: &weald_wait_item| {
            let events = i.events as u32;
            i.object != 0 || (events != 0 && events & !(READ | WRITE) == 0)
        };
        if !items.iter().all(good) {
            return Err(Error::INVAL);
        }
        let target = |i: &weald_wait_item| Target { object: i.object, fd: i.fd, events: i.events as u32 };
        let targets: Vec<Target> = items.iter().map(target).collect();
        let ready = select::wait(hub, &targets, how_many, Deadline::from_raw(deadline))?;
        for (item, &r) in items.iter_mut().zip(&ready) {
            item.ready = c_int::from(r);
        }
        Ok(ready.into_iter().filter(|&r| r).count())
    })
}
