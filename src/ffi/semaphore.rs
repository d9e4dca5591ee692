//! Semaphores, locks, conditions, barriers.
//!
//! Waiters are served in the order they came; a permit or lock is handed to the next one in the
//! same step. One that is killed after it was handed something hands it on.

#![allow(non_camel_case_types)]

use super::{blocking, code, existing, fence, fence64, may_wait_plainly, no_object, quick};
use crate::hub::Hub;
use crate::object;
use crate::sync::barrier::Barrier;
use crate::sync::condition::Condition;
use crate::sync::lock::Lock;
use crate::sync::rwlock::RwLock;
use crate::sync::semaphore::Semaphore;
use crate::time::Deadline;
use crate::wait::AtHand;
use std::ffi::c_int;

pub type weald_semaphore = i64;
pub type weald_lock = i64;
pub type weald_condition = i64;
pub type weald_rwlock = i64;
pub type weald_barrier = i64;

/// Makes a semaphore with so many permits. Close it. Does not switch. Fails with WEALD_EINVAL (a
/// negative number), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_semaphore_new(permits: i64) -> weald_semaphore {
    fence64(|hub| Semaphore::create(hub, permits, false))
}

/// Makes a semaphore that never has more permits than it began with. Close it. Does not switch.
/// Fails with WEALD_EINVAL (a negative number), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_bounded_semaphore_new(permits: i64) -> weald_semaphore {
    fence64(|hub| Semaphore::create(hub, permits, true))
}

/// Takes a permit, waiting for one. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
/// closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_semaphore_acquire(s: weald_semaphore, deadline: i64) -> c_int {
    let Some((hub, semaphore)) = existing::<Semaphore>(s) else { return no_object::<Semaphore>(s) };
    match semaphore.try_acquire(hub) {
        AtHand::Done(()) => 0,
        AtHand::MustWait if may_wait_plainly(hub, deadline) => await_permit(semaphore, deadline, hub),
        _ => acquire_permit(semaphore, deadline, hub),
    }
}

#[unsafe(naked)]
extern "C" fn await_permit(s: &Semaphore, deadline: i64, hub: &Hub) -> c_int {
    blocking!(acquire_plainly)
}

extern "C" fn acquire_plainly(s: &Semaphore, _: i64, hub: &Hub) -> c_int {
    code(s.acquire_plainly(hub))
}

#[unsafe(naked)]
extern "C" fn acquire_permit(s: &Semaphore, deadline: i64, hub: &Hub) -> c_int {
    blocking!(acquire_by_waiting)
}

extern "C" fn acquire_by_waiting(s: &Semaphore, deadline: i64, hub: &Hub) -> c_int {
    code(s.acquire(hub, Deadline::from_raw(deadline)))
}

/// Gives a permit back, or one more. Does not switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EPERM, WEALD_EOVERFLOW (a bounded one is full; there are INT64_MAX).
#[unsafe(no_mangle)]
pub extern "C" fn weald_semaphore_release(s: weald_semaphore) -> c_int {
    match existing::<Semaphore>(s) {
        Some((hub, semaphore)) if semaphore.try_release(hub) => 0,
        _ => release_permit(s),
    }
}

#[inline(never)]
extern "C" fn release_permit(s: weald_semaphore) -> c_int {
    quick(|hub| object::get::<Semaphore>(hub, s)?.release(hub))
}

/// How many permits are free. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_semaphore_count(s: weald_semaphore) -> i64 {
    fence64(|hub| Ok(object::get::<Semaphore>(hub, s)?.count()))
}

/// Makes a lock, owned by the greenlet that holds it. Close it. Does not switch. Fails with
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_lock_new() -> weald_lock {
    fence64(|hub| Lock::create(hub, false))
}

/// Makes a lock that its owner may take again; it must release it as often. Close it. Does not
/// switch. Fails with WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_rlock_new() -> weald_lock {
    fence64(|hub| Lock::create(hub, true))
}

/// Takes the lock, waiting for it. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
/// closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK (also when it is free: a callback can not own it), WEALD_EDEADLK (also when
/// the caller holds it and it is not reentrant), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_lock_acquire(l: weald_lock, deadline: i64) -> c_int {
    match existing::<Lock>(l) {
        Some((hub, lock)) if lock.try_acquire(hub) => 0,
        Some((hub, lock)) => acquire_lock(lock, hub, deadline),
        None => no_object::<Lock>(l),
    }
}

#[unsafe(naked)]
extern "C" fn acquire_lock(l: &Lock, hub: &Hub, deadline: i64) -> c_int {
    blocking!(lock_by_waiting)
}

extern "C" fn lock_by_waiting(l: &Lock, hub: &Hub, deadline: i64) -> c_int {
    code(l.acquire(hub, Deadline::from_raw(deadline)))
}

/// Releases the lock and hands it to the next. Does not switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EPERM (another thread's; the caller does not hold it).
#[unsafe(no_mangle)]
pub extern "C" fn weald_lock_release(l: weald_lock) -> c_int {
    quick(|hub| object::get::<Lock>(hub, l)?.release(hub))
}

/// 1 when somebody holds it, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_lock_held(l: weald_lock) -> c_int {
    fence(|hub| Ok(object::get::<Lock>(hub, l)?.is_held()))
}

/// Makes a condition. Close it. Does not switch. Fails with WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_condition_new() -> weald_condition {
    fence64(Condition::create)
}

/// Releases the lock, waits to be notified, takes the lock again: it is held when this returns,
/// however the wait ended, unless it was closed or nothing is left that could release it. May
/// switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM
/// (another thread's; the caller does not hold the lock; a hook forbids to wait), WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_condition_wait(c: weald_condition, l: weald_lock, deadline: i64) -> c_int {
    fence(|hub| {
        let lock = object::get::<Lock>(hub, l)?;
        object::get::<Condition>(hub, c)?.wait(hub, lock, Deadline::from_raw(deadline))
    })
}

/// Notifies the first `n` who wait. Does not switch. Returns how many there were. Fails with
/// WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_condition_notify(c: weald_condition, n: usize) -> c_int {
    fence(|hub| Ok(object::get::<Condition>(hub, c)?.notify(hub, n)))
}

/// Notifies everybody who waits. Does not switch. Returns how many there were. Fails with
/// WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_condition_notify_all(c: weald_condition) -> c_int {
    weald_condition_notify(c, usize::MAX)
}

/// Makes a lock for many readers or one writer. Readers and writers are served in the order they
/// came, so neither starves; but who reads already reads again at once. Close it. Does not switch.
/// Fails with WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_rwlock_new() -> weald_rwlock {
    fence64(RwLock::create)
}

/// Takes it for reading. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
/// meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK (also
/// when it is free: a callback can not own it), WEALD_EDEADLK (also when the caller is its writer),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_rwlock_read(l: weald_rwlock, deadline: i64) -> c_int {
    quick(|hub| object::get::<RwLock>(hub, l)?.read(hub, Deadline::from_raw(deadline)))
}

/// Takes it for writing. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
/// meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK (also
/// when it is free: a callback can not own it), WEALD_EDEADLK (also when the caller holds it),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_rwlock_write(l: weald_rwlock, deadline: i64) -> c_int {
    quick(|hub| object::get::<RwLock>(hub, l)?.write(hub, Deadline::from_raw(deadline)))
}

/// Releases what the caller holds of it. Does not switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EPERM (another thread's; the caller holds nothing of it).
#[unsafe(no_mangle)]
pub extern "C" fn weald_rwlock_release(l: weald_rwlock) -> c_int {
    quick(|hub| object::get::<RwLock>(hub, l)?.release(hub))
}

/// Makes a barrier where `parties` greenlets meet, again and again. Close it. Does not switch.
/// Fails with WEALD_EINVAL (0), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_barrier_new(parties: usize) -> weald_barrier {
    fence64(|hub| Barrier::create(hub, parties))
}

/// Waits until all parties are here: 1 for the last to arrive, 0 for the others. One that leaves
/// early (deadline, kill) breaks the barrier; one that does not wait (WEALD_NOW) does not. May
/// switch. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EPIPE
/// (broken or reset), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_barrier_wait(b: weald_barrier, deadline: i64) -> c_int {
    fence(|hub| object::get::<Barrier>(hub, b)?.wait(hub, Deadline::from_raw(deadline)))
}

/// Breaks the barrier: who waits or comes gets WEALD_EPIPE, until weald_barrier_reset. Does not
/// switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_barrier_abort(b: weald_barrier) -> c_int {
    fence(|hub| object::get::<Barrier>(hub, b).map(|b| b.abort(hub)))
}

/// Makes the barrier as new; who waits now gets WEALD_EPIPE. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_barrier_reset(b: weald_barrier) -> c_int {
    fence(|hub| object::get::<Barrier>(hub, b).map(|b| b.reset(hub)))
}
