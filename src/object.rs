//! Objects behind handles that one hub owns: an `Rc` in the hub's table.

use crate::error::Result;
use crate::handle::Object;
use crate::hub::Hub;
use std::rc::Rc;

/// Gives `object` a handle in `hub`.
pub fn insert<T: Object>(hub: &Hub, object: T) -> Result<i64> {
    let raw = Rc::into_raw(Rc::new(object));
    hub.table.insert(raw).inspect_err(|_| {
        // SAFETY: the table did not take it.
        drop(unsafe { Rc::from_raw(raw) });
    })
}

/// `Rc::new` of something large: it is written where it is to be, and not on the stack before.
#[inline(always)]
pub fn in_place<T>(make: impl FnOnce() -> T) -> Rc<T> {
    let mut room = Rc::<T>::new_uninit();
    Rc::get_mut(&mut room).expect("nobody else has it").write(make());
    // SAFETY: it has just been written.
    unsafe { room.assume_init() }
}

/// The object behind `handle`. EBADF; EPERM when it is another thread's.
///
/// The reference is good until something can close the handle: a call that suspends
/// or calls out takes a share first (`keep`).
#[inline(always)]
pub fn get<T: Object>(hub: &Hub, handle: i64) -> Result<&T> {
    match hub.table.get::<T>(handle) {
        // SAFETY: in the table, so alive.
        Ok(object) => Ok(unsafe { &*object }),
        Err(e) => Err(hub.why_not(handle, e)),
    }
}

/// A share in an object from the table.
pub fn keep<T: Object>(object: &T) -> Rc<T> {
    // SAFETY: every object in a hub's table came from `Rc::into_raw` in `insert`.
    unsafe {
        Rc::increment_strong_count(object);
        Rc::from_raw(object)
    }
}

/// Takes back the share that the table held.
///
/// # Safety
/// Called once, by `Object::close`, with the pointer that `insert` stored.
pub unsafe fn take_back<T: Object>(object: *const T) -> Rc<T> {
    // SAFETY: by contract.
    unsafe { Rc::from_raw(object) }
}

/// Implements `Object` for a type whose last handle has been closed: calls its
/// `closed(&self, hub)` and drops the table's share.
#[macro_export]
macro_rules! hub_object {
    ($type:ty, $kind:expr) => {
        // SAFETY: `close` takes back the share that `object::insert` stored.
        unsafe impl $crate::handle::Object for $type {
            const KIND: $crate::handle::Kind = $kind;
            unsafe fn close(this: *const Self) {
                // SAFETY: by contract of `Object::close`.
                let object = unsafe { $crate::object::take_back(this) };
                if let Some(hub) = $crate::hub::Hub::existing() {
                    object.closed(hub);
                }
            }
        }
    };
}

/// Calls a destructor of the user's, if there is one; a panic in it is reported.
pub fn destroy(hub: &Hub, f: Option<crate::greenlet::DestroyFn>, value: *mut std::ffi::c_void) {
    let Some(f) = f else { return };
    if let Err(message) = crate::fence::call(|| "a destructor".into(), || f(value)) {
        hub.report_failure(0, crate::error::Error::PANIC, &message);
    }
}
