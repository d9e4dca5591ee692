//! Queues.
//!
//! Queues of pointers: first in first out, last in first out, by priority; bounded, unbounded, or
//! with capacity 0 a rendezvous, where each put waits for its get. An item belongs to the queue
//! from put to get. A put that fails leaves it with the caller; a getter that is killed after an
//! item was handed to it gives it back to the front. Made with WEALD_SHARED a queue may be used
//! from every thread, and waiting for it is never taken for a deadlock.

#![allow(non_camel_case_types)]

use super::base::{WEALD_SHARED, weald_handle};
use super::event::is_shared;
use super::greenlet::weald_destroy_fn;
use super::{blocking, code, existing, fence, fence_any, fence64, may_wait_plainly, no_object, put, some, wanted};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object;
use crate::registry;
use crate::sync::queue::{Order, Queue};
use crate::sync::shared::SharedQueue;
use crate::time::Deadline;
use crate::wait::AtHand;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// A handle to a queue.
pub type weald_queue = i64;
/// Orders two items as qsort does: negative when `a` comes first. It must not use the library: calls that block are
/// WEALD_EWOULDBLOCK there, and every use of its own queue but weald_close WEALD_EBUSY.
pub type weald_compare_fn = Option<extern "C-unwind" fn(a: *const c_void, b: *const c_void) -> c_int>;

pub const WEALD_FIFO: c_int = 0;
pub const WEALD_LIFO: c_int = 1;
/// The capacity of a queue without a bound.
pub const WEALD_UNBOUNDED: usize = usize::MAX;

fn create(hub: &Hub, order: Order, flags: c_int, capacity: usize, destroy: weald_destroy_fn) -> Result<weald_handle> {
    match flags & WEALD_SHARED != 0 {
        true => SharedQueue::create(order, capacity, destroy),
        false => Queue::create(hub, order, capacity, destroy),
    }
}

/// Makes a queue. `flags`: WEALD_FIFO or WEALD_LIFO, perhaps with WEALD_SHARED. `capacity`: 0 for a
/// rendezvous, WEALD_UNBOUNDED. `destroy` (NULL: none) gets what is still in the queue when it is
/// closed. Close it. Does not switch. Fails with WEALD_EINVAL (other flags), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_new(flags: c_int, capacity: usize, destroy: weald_destroy_fn) -> weald_queue {
    fence64(|hub| {
        let order = match flags & !WEALD_SHARED {
            WEALD_FIFO => Order::Fifo,
            WEALD_LIFO => Order::Lifo,
            _ => return Err(Error::INVAL),
        };
        create(hub, order, flags, capacity, destroy)
    })
}

/// Makes a queue from which the least item by `compare` leaves first, equal ones in the order they
/// came. Who waits to put, in a rendezvous always, is served in the order they came: what has not
/// been put is not compared. `flags`: 0 or WEALD_SHARED. Otherwise as weald_queue_new. Does not switch. Fails with
/// WEALD_EINVAL (other flags; `compare` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_priority_queue_new(
    flags: c_int,
    capacity: usize,
    compare: weald_compare_fn,
    destroy: weald_destroy_fn,
) -> weald_queue {
    fence64(|hub| {
        if flags & !WEALD_SHARED != 0 {
            return Err(Error::INVAL);
        }
        create(hub, Order::Priority(some(compare)?), flags, capacity, destroy)
    })
}

fn shared(q: weald_queue) -> Result<Arc<SharedQueue>> {
    registry::shared::<SharedQueue>(q)
}

#[cold]
fn put_shared(q: weald_queue, item: *mut c_void, deadline: Deadline) -> c_int {
    fence(|hub| shared(q)?.put(hub, q, item, deadline))
}

#[cold]
fn get_shared(q: weald_queue, item: *mut *mut c_void, deadline: Deadline) -> c_int {
    fence(|hub| {
        wanted(item)?;
        let got = shared(q)?.get(hub, q, deadline)?;
        // SAFETY: not NULL, writable by the caller.
        unsafe { put(item, got) };
        Ok(())
    })
}

/// Puts an item, waiting for room (or, in a rendezvous, for its getter). May switch. Returns 0.
/// Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (called by
/// its own comparator), WEALD_EPIPE (shut, perhaps meanwhile), WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_put(q: weald_queue, item: *mut c_void, deadline: i64) -> c_int {
    let Some((hub, queue)) = existing::<Queue>(q) else { return put_elsewhere(q, item, deadline) };
    match queue.try_put(hub, item) {
        AtHand::Done(()) => 0,
        AtHand::MustWait if may_wait_plainly(hub, deadline) => await_getter(queue, item, deadline, hub),
        _ => put_item(queue, item, deadline, hub),
    }
}

#[unsafe(naked)]
extern "C" fn await_getter(q: &Queue, item: *mut c_void, deadline: i64, hub: &Hub) -> c_int {
    blocking!(put_plainly)
}

extern "C" fn put_plainly(q: &Queue, item: *mut c_void, _: i64, hub: &Hub) -> c_int {
    code(q.put_plainly(hub, item))
}

#[unsafe(naked)]
extern "C" fn put_item(q: &Queue, item: *mut c_void, deadline: i64, hub: &Hub) -> c_int {
    blocking!(put_by_waiting)
}

extern "C" fn put_by_waiting(q: &Queue, item: *mut c_void, deadline: i64, hub: &Hub) -> c_int {
    code(q.free().and_then(|q| q.put(hub, item, Deadline::from_raw(deadline))))
}

#[cold]
#[inline(never)]
extern "C" fn put_elsewhere(q: weald_queue, item: *mut c_void, deadline: i64) -> c_int {
    if is_shared(q) { put_shared(q, item, Deadline::from_raw(deadline)) } else { no_object::<Queue>(q) }
}

/// Gets the next item into `*item`, waiting for one. May switch. Returns 0. Fails with WEALD_EBADF
/// (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (called by its own comparator),
/// WEALD_EINVAL (`item` NULL), WEALD_EPIPE (shut and drained), WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_get(q: weald_queue, item: *mut *mut c_void, deadline: i64) -> c_int {
    let Some((hub, queue)) = existing::<Queue>(q).filter(|_| !item.is_null()) else {
        return get_elsewhere(q, item, deadline);
    };
    match queue.try_get(hub) {
        AtHand::Done(got) => {
            // SAFETY: not NULL, writable by the caller.
            unsafe { put(item, got) };
            0
        }
        AtHand::MustWait if may_wait_plainly(hub, deadline) => await_item(queue, item, deadline, hub),
        _ => get_item(queue, item, deadline, hub),
    }
}

#[unsafe(naked)]
extern "C" fn await_item(q: &Queue, item: *mut *mut c_void, deadline: i64, hub: &Hub) -> c_int {
    blocking!(get_plainly)
}

extern "C" fn get_plainly(q: &Queue, item: *mut *mut c_void, _: i64, hub: &Hub) -> c_int {
    code(q.get_plainly(hub).map(|got| {
        // SAFETY: as in `get_by_waiting`.
        unsafe { put(item, got) }
    }))
}

#[unsafe(naked)]
extern "C" fn get_item(q: &Queue, item: *mut *mut c_void, deadline: i64, hub: &Hub) -> c_int {
    blocking!(get_by_waiting)
}

extern "C" fn get_by_waiting(q: &Queue, item: *mut *mut c_void, deadline: i64, hub: &Hub) -> c_int {
    code(q.free().and_then(|q| q.get(hub, Deadline::from_raw(deadline))).map(|got| {
        // SAFETY: the caller of weald_queue_get passes a place that is not NULL (checked
        // there) and writable.
        unsafe { put(item, got) }
    }))
}

#[cold]
#[inline(never)]
extern "C" fn get_elsewhere(q: weald_queue, item: *mut *mut c_void, deadline: i64) -> c_int {
    if is_shared(q) {
        return get_shared(q, item, Deadline::from_raw(deadline));
    }
    fence(|hub| object::get::<Queue>(hub, q).and_then(|_| wanted(item)))
}

/// Shows the next item in `*item` and leaves it in the queue, waiting for one. A shared queue is
/// looked at without waiting, whatever the deadline: WEALD_EAGAIN if it is empty. May switch.
/// Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY
/// (called by its own comparator), WEALD_EINVAL (`item` NULL), WEALD_EPIPE (shut and drained),
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_peek(q: weald_queue, item: *mut *mut c_void, deadline: i64) -> c_int {
    fence(|hub| {
        wanted(item)?;
        let got = match is_shared(q) {
            true => shared(q)?.peek()?,
            false => Queue::get_free(hub, q)?.peek(hub, Deadline::from_raw(deadline))?,
        };
        // SAFETY: not NULL, writable by the caller.
        unsafe { put(item, got) };
        Ok(())
    })
}

/// How many items are in it. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY
/// (called by its own comparator).
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_len(q: weald_queue) -> i64 {
    if is_shared(q) {
        return fence_any(|| shared(q)?.len());
    }
    fence64(|hub| Ok(Queue::get_free(hub, q)?.len()))
}

/// 1 when there is no room in it (in a rendezvous always), else 0. Does not switch. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY (called by its own comparator).
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_full(q: weald_queue) -> c_int {
    if is_shared(q) {
        return fence_any(|| shared(q)?.is_full()) as c_int;
    }
    fence(|hub| Ok(Queue::get_free(hub, q)?.is_full()))
}

/// 1 when there is nothing to get, from the queue or from who waits to put, else 0. Does not
/// switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY (called by its own comparator).
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_empty(q: weald_queue) -> c_int {
    if is_shared(q) {
        return fence_any(|| shared(q)?.is_empty()) as c_int;
    }
    fence(|hub| Ok(Queue::get_free(hub, q)?.is_empty()))
}

/// Shuts the queue for puts: they fail with WEALD_EPIPE, those that wait as well; gets drain it and
/// then fail with WEALD_EPIPE. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM,
/// WEALD_EBUSY (called by its own comparator).
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_shut(q: weald_queue) -> c_int {
    if is_shared(q) {
        return fence_any(|| shared(q)?.shut()) as c_int;
    }
    fence(|hub| Queue::get_free(hub, q).map(|q| q.shut(hub)))
}

/// Says that one item that was got has been dealt with, for weald_queue_join. Does not switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY (called by its own comparator),
/// WEALD_EOVERFLOW (more often than put).
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_task_done(q: weald_queue) -> c_int {
    if is_shared(q) {
        return fence_any(|| shared(q)?.task_done()) as c_int;
    }
    fence(|hub| Queue::get_free(hub, q)?.task_done(hub))
}

/// Waits until every item that was put has been dealt with. May switch. Returns 0. Fails with
/// WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (called by its own
/// comparator), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_queue_join(q: weald_queue, deadline: i64) -> c_int {
    fence(|hub| {
        let deadline = Deadline::from_raw(deadline);
        match is_shared(q) {
            true => shared(q)?.join(hub, q, deadline),
            false => Queue::get_free(hub, q)?.join(hub, deadline),
        }
    })
}
