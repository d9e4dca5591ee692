//! The C ABI: one file per section of `weald.h`, in reading order.
//!
//! A function checks its arguments, calls one method and converts the result. What
//! panics in between is caught here and becomes WEALD_EPANIC. The few functions that
//! are measured in nanoseconds go through `quick`, which has no landing pad of its
//! own: a panic there ends the process at the ABI's edge, with a message.

// C passes pointers; what must hold of them stands in each function's comment, and
// marking the functions unsafe would change nothing for a C caller.
#![allow(clippy::not_unsafe_ptr_arg_deref)]

// In the order in which the header is to be read.
pub mod base;
pub mod greenlet;
pub mod coro;
pub mod hub;
pub mod io;
pub mod watcher;
pub mod event;
pub mod result;
pub mod queue;
pub mod semaphore;
pub mod wait;
pub mod group;
pub mod timeout;
pub mod local;
pub mod threadpool;
pub mod signal;
pub mod rw;
pub mod socket;
pub mod stream;
pub mod dns;
pub mod endpoint;
pub mod tls;
pub mod server;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
pub mod http_client;
#[cfg(feature = "websocket")]
pub mod websocket;
pub mod file;
pub mod process;
pub mod channel;
pub mod patch;
pub mod insight;

use crate::error::{Error, Result};
use crate::fence as guard;
use crate::handle::Object;
use crate::hub::Hub;
use crate::object;
use std::ffi::{CStr, c_char, c_int};

/// The body of a naked function that calls `$inner`, which is likely to switch, and
/// returns with a jump.
///
/// A `ret` is predicted from the calls made before it, and after a switch those were
/// another greenlet's. Here the `ret` of `$inner` always goes to the same place,
/// whoever runs, so it is predicted; and the way on to the caller is an indirect jump,
/// which the predictor learns from history. It takes a rendezvous from 34 to 20 ns.
macro_rules! blocking {
    ($inner:path) => {{
        #[cfg(target_arch = "x86_64")]
        std::arch::naked_asm!(
            ".cfi_startproc",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "call {}",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "pop rcx",
            ".cfi_adjust_cfa_offset -8",
            ".cfi_register rip, rcx",
            "jmp rcx",
            ".cfi_endproc",
            sym $inner
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::naked_asm!("b {}", sym $inner);
    }};
}
pub(crate) use blocking;

/// What a successful call may return.
pub(crate) trait Code {
    fn code(self) -> i64;
}

impl Code for () {
    fn code(self) -> i64 {
        0
    }
}
impl Code for bool {
    fn code(self) -> i64 {
        i64::from(self)
    }
}
impl Code for i32 {
    fn code(self) -> i64 {
        i64::from(self)
    }
}
impl Code for u32 {
    fn code(self) -> i64 {
        i64::from(self)
    }
}
impl Code for i64 {
    fn code(self) -> i64 {
        self
    }
}
impl Code for usize {
    fn code(self) -> i64 {
        i64::try_from(self).unwrap_or(i64::MAX)
    }
}

#[inline(always)]
fn convert<T: Code>(result: Result<T>) -> i64 {
    match result {
        Ok(value) => value.code(),
        Err(e) => i64::from(e.code()),
    }
}

/// As `convert`, for a code.
#[inline(always)]
pub(crate) fn code<T: Code>(result: Result<T>) -> c_int {
    convert(result) as c_int
}

/// This thread's hub and the object of its that `handle` stands for: what a short way
/// begins with. A longer way gets both passed on, so that nothing is looked up twice.
#[inline(always)]
pub(crate) fn existing<T: Object>(handle: i64) -> Option<(&'static Hub, &'static T)> {
    let (hub, table) = Hub::here();
    // SAFETY: in the table, so alive, until something can close the handle: the callers
    // do not use it past that. And whose table has something in it is a hub.
    table.get::<T>(handle).ok().map(|object| unsafe { (&*hub, &*object) })
}

/// Whether a call of a greenlet that wants no attention may wait with nothing looked at first.
#[inline(always)]
pub(crate) fn may_wait_plainly(hub: &Hub, deadline: i64) -> bool {
    deadline == crate::time::FOREVER && hub.hooks.get().is_none()
}

/// The code for a handle for which `existing` has nothing.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn no_object<T: Object>(handle: i64) -> c_int {
    fence(|hub| object::get::<T>(hub, handle).map(|_| ()))
}

/// Runs `f`, with nothing but the fence.
pub(crate) fn fence_any<T: Code>(f: impl FnOnce() -> Result<T>) -> i64 {
    match guard::call(|| "a weald call".into(), f) {
        Ok(result) => convert(result),
        Err(message) => {
            crate::sys::descriptor::tell(&format!("weald: a panic was caught at the library's edge: {message}\n"));
            i64::from(Error::PANIC.code())
        }
    }
}

/// Runs `f` with this thread's hub, inside the fence; a handle or a 64-bit count.
pub(crate) fn fence64<T: Code>(f: impl FnOnce(&'static Hub) -> Result<T>) -> i64 {
    fence_any(|| f(Hub::get()?))
}

/// As `fence64`, for a code.
pub(crate) fn fence<T: Code>(f: impl FnOnce(&'static Hub) -> Result<T>) -> c_int {
    fence64(f) as c_int
}

/// Runs `f` with this thread's hub and without the fence.
#[inline(always)]
pub(crate) fn quick64<T: Code>(f: impl FnOnce(&'static Hub) -> Result<T>) -> i64 {
    match Hub::get() {
        Ok(hub) => convert(f(hub)),
        Err(e) => i64::from(e.code()),
    }
}

/// As `quick64`, for a code.
#[inline(always)]
pub(crate) fn quick<T: Code>(f: impl FnOnce(&'static Hub) -> Result<T>) -> c_int {
    quick64(f) as c_int
}

/// A callback that must be there.
pub(crate) fn some<F>(f: Option<F>) -> Result<F> {
    f.ok_or(Error::INVAL)
}

/// A C string, or nothing for NULL. EINVAL when it is not UTF-8.
///
/// # Safety
/// `text` is NULL or NUL-terminated, and stays for the caller's lifetime `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(text) }.to_str().map(Some).map_err(|_| Error::INVAL)
}

/// A slice from a pointer and a count.
///
/// # Safety
/// `at` is NULL or points to `n` values that stay for `'a`.
pub(crate) unsafe fn slice<'a, T>(at: *const T, n: usize) -> Result<&'a [T]> {
    if n == 0 {
        return Ok(&[]);
    }
    if at.is_null() || !at.is_aligned() || n > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Error::INVAL);
    }
    // SAFETY: not NULL, aligned and of a possible size; the rest by contract.
    Ok(unsafe { std::slice::from_raw_parts(at, n) })
}

/// As `slice`, to be written.
///
/// # Safety
/// As for `slice`, and nobody else uses the values meanwhile.
pub(crate) unsafe fn slice_mut<'a, T>(at: *mut T, n: usize) -> Result<&'a mut [T]> {
    // SAFETY: by contract; checked alike.
    unsafe { slice(at.cast_const(), n) }?;
    if n == 0 {
        return Ok(&mut []);
    }
    // SAFETY: checked by `slice`; exclusive by contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(at, n) })
}

/// Writes an output where the caller wants it; NULL means that he does not.
///
/// # Safety
/// `at` is NULL or writable.
#[inline(always)]
pub(crate) unsafe fn put<T>(at: *mut T, value: T) {
    if !at.is_null() {
        // SAFETY: not NULL, and writable by contract.
        unsafe { at.write(value) };
    }
}

/// An output that must be there.
#[inline(always)]
pub(crate) fn wanted<T>(at: *mut T) -> Result<()> {
    if at.is_null() { Err(Error::INVAL) } else { Ok(()) }
}

/// Reads an option struct whose first field is its size as the caller compiled it;
/// fields that he does not know of stay as in `T::default()`.
///
/// # Safety
/// `at` is NULL or points to a struct as large as its first field says.
pub(crate) unsafe fn options<T: Copy + Default>(at: *const T) -> Result<T> {
    let mut options = T::default();
    if at.is_null() {
        return Ok(options);
    }
    // SAFETY: every option struct begins with `size_t size`.
    let size = unsafe { at.cast::<usize>().read() };
    // An older program's struct is shorter, but it ends between two fields.
    if size < size_of::<usize>() || size % align_of::<usize>() != 0 || size > 4096 {
        return Err(Error::INVAL);
    }
    let known = size.min(size_of::<T>());
    // SAFETY: both have at least `known` bytes; T is plain data.
    unsafe { std::ptr::copy_nonoverlapping(at.cast::<u8>(), (&raw mut options).cast::<u8>(), known) };
    Ok(options)
}
