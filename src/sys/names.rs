//! The C library's resolver, and the memory in which a C program gets its answers.

// They stand beside functions written in C, by pointers of the same type.
#![allow(clippy::not_unsafe_ptr_arg_deref)]

use super::{Call, may_fail};
use crate::error::{Error, Result};
use libc::{addrinfo, sockaddr, socklen_t};
use std::ffi::{CString, c_char, c_int};

/// getaddrinfo of the C library, whichever stands first in the process. Where glibc can not open
/// its files it says that there is no such name; errno says what is wrong.
pub extern "C-unwind" fn getaddrinfo(
    host: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    list: *mut *mut addrinfo,
) -> c_int {
    let errno = super::errno_location();
    // SAFETY: this thread's errno; the rest passed on as it came, and callers keep the contract
    // of getaddrinfo.
    unsafe {
        let before = errno.replace(0);
        match libc::getaddrinfo(host, service, hints, list) {
            libc::EAI_NONAME if matches!(*errno, libc::EMFILE | libc::ENFILE) => libc::EAI_SYSTEM,
            0 => {
                *errno = before;
                0
            }
            code => code,
        }
    }
}

/// The number of the network interface that has this name.
pub fn interface(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: NUL-terminated.
    Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|&number| number != 0)
}

pub extern "C-unwind" fn freeaddrinfo(list: *mut addrinfo) {
    // SAFETY: a list of `getaddrinfo`, given back once.
    unsafe { libc::freeaddrinfo(list) };
}

pub extern "C-unwind" fn getnameinfo(
    address: *const sockaddr,
    len: socklen_t,
    host: *mut c_char,
    host_size: socklen_t,
    service: *mut c_char,
    service_size: socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: passed on as it came; callers keep the contract of getnameinfo.
    unsafe { libc::getnameinfo(address, len, host, host_size, service, service_size, flags) }
}

/// Memory for what a C program gets and gives back: zeroed, aligned for anything.
pub fn allocate(len: usize) -> Result<*mut u8> {
    may_fail(Call::Alloc)?;
    // SAFETY: no pointers.
    let at = unsafe { libc::calloc(1, len) };
    if at.is_null() { Err(Error::NOMEM) } else { Ok(at.cast()) }
}

/// # Safety
/// NULL, or from `allocate` and given back once.
pub unsafe fn free<T>(at: *mut T) {
    // SAFETY: by contract.
    unsafe { libc::free(at.cast()) };
}
