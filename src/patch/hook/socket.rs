//! connect, accept and close.

use crate::error::{Error, Result};
use crate::net::address::Address;
use crate::net::socket;
use crate::patch::call::{Call, time_limit};
use crate::patch::handler;
use crate::poller::{READ, WRITE};
use crate::sys::descriptor;
use libc::{c_int, sockaddr, socklen_t};
use std::os::fd::RawFd;

/// # Safety
/// As for connect(2).
pub unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: by contract.
    let plain = || unsafe { libc::connect(fd, address, len) };
    let Some(call) = Call::admitted().filter(|_| descriptor::is_nonblocking(fd) == Ok(false)) else { return plain() };
    // SAFETY: by contract.
    let Some(to) = (unsafe { streams_to(fd, address, len) }) else { return plain() };
    if let Err(e) = call.begin(|| true) {
        return call.finish_int(Err(e));
    }
    if !call.may_wait() {
        return plain();
    }
    call.parks();
    let deadline = time_limit(fd, WRITE);
    let made = match socket::connect(call.hub, fd, &to, deadline) {
        // By the socket's own option.
        Err(Error::TIMEDOUT) if deadline.has_passed() => Err(Error::INPROGRESS),
        made => made,
    };
    call.finish_int(made.map(|()| 0))
}

/// Where to, if that may take time.
///
/// # Safety
/// As for connect(2).
unsafe fn streams_to(fd: RawFd, address: *const sockaddr, len: socklen_t) -> Option<Address> {
    if address.is_null() || (len as usize) < size_of::<libc::sa_family_t>() {
        return None;
    }
    // SAFETY: by contract.
    let to = unsafe { Address::from_raw(address, len) }.ok()?;
    let takes_time = matches!(to.family(), libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX);
    (takes_time && kind_of(fd) != Some(libc::SOCK_DGRAM)).then_some(to)
}

fn kind_of(fd: RawFd) -> Option<c_int> {
    descriptor::get_option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_TYPE).ok()
}

/// # Safety
/// As for accept(2).
pub unsafe extern "C" fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: by contract.
    unsafe { accept4(fd, address, len, 0) }
}

/// # Safety
/// As for accept4(2).
pub unsafe extern "C" fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    // SAFETY: by contract.
    let plain = || unsafe { libc::accept4(fd, address, len, flags) };
    let Some(call) = Call::admitted().filter(|_| descriptor::is_nonblocking(fd) == Ok(false)) else {
        return known_as_new(plain());
    };
    match wait_for_connection(&call, fd) {
        // Another process may be faster; then the C library waits.
        Ok(true) => {
            call.finish(Ok(0)); // errno
            known_as_new(plain())
        }
        Ok(false) => known_as_new(plain()),
        Err(e) => call.finish_int(Err(e)),
    }
}

/// False when the C library is to wait.
fn wait_for_connection(call: &Call, fd: RawFd) -> Result<bool> {
    call.begin(|| true)?;
    call.take_turn(fd)?;
    let mut deadline = None;
    loop {
        match crate::io::look(fd, READ) {
            Err(Error::AGAIN) => {}
            _ => return Ok(true), // or it fails, and says why
        }
        if deadline.is_none() && !call.may_wait() {
            return Ok(false);
        }
        let until = *deadline.get_or_insert_with(|| time_limit(fd, READ));
        match call.wait(fd, READ, until) {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(Error::TIMEDOUT) if until.has_passed() => {
                return crate::io::look(fd, READ).map(|_| true);
            }
            Err(e) => return Err(e),
        }
    }
}

/// What the hub knows of the number is of another file.
fn known_as_new(fd: c_int) -> c_int {
    if let Some(call) = Call::admitted().filter(|call| fd >= 0 && !handler::is_running(call.hub)) {
        call.hub.poller().is_new(fd);
    }
    fd
}

/// Those who wait for it are told.
///
/// # Safety
/// None of it.
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(call) = Call::admitted().filter(|call| fd >= 0 && !handler::is_running(call.hub)) {
        call.hub.poller().closes(fd);
        call.finish(Ok(0)); // errno
    }
    // SAFETY: no pointers.
    unsafe { libc::close(fd) }
}
