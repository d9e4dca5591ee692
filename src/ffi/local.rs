//! Greenlet-local values.

#![allow(non_camel_case_types)]

use super::greenlet::weald_destroy_fn;
use super::{fence, fence64};
use crate::hub::Hub;
use crate::local::{self, Key};
use std::ffi::{c_int, c_void};

/// A key under which every greenlet has a value of its own.
pub type weald_local = i64;

/// Makes a key. `destroy` (NULL: none) gets each value that is not NULL when its greenlet ends,
/// when it is replaced, or when the key is closed. At the end it runs in the greenlet, and may set
/// values again: they are destroyed as well, up to four times, as with pthreads. Close it. Does not
/// switch. Fails with WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_local_new(destroy: weald_destroy_fn) -> weald_local {
    fence64(|hub| Key::create(hub, destroy))
}

/// Sets the current greenlet's value; the one it had is destroyed. Does not switch. Returns 0.
/// Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EWOULDBLOCK (in a callback: no greenlet).
#[unsafe(no_mangle)]
pub extern "C" fn weald_local_set(key: weald_local, value: *mut c_void) -> c_int {
    fence(|hub| local::set(hub, key, value))
}

/// The current greenlet's value; NULL when it has none, for a bad key, for another thread's, and in
/// a callback. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_local_get(key: weald_local) -> *mut c_void {
    let value = Hub::existing().and_then(|hub| local::get(hub, key).ok());
    value.unwrap_or(std::ptr::null_mut())
}
