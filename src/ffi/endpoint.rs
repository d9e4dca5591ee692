//! Connections and listeners by address.
//!
//! An address is text: "oak.example:443", "127.0.0.1:80", "[::1]:80"; for a listener ":80" or
//! "*:80" is every address of this machine. Descriptors that these functions return are
//! non-blocking, closed on exec, and belong to the caller, who closes them.

#![allow(non_camel_case_types)]

use super::{fence, fence_any, text};
use crate::error::{Error, Result};
use crate::net::{dial, listener};
use crate::time::Deadline;
use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{IntoRawFd, OwnedFd};

/// A flag for listeners: several of them may have one address, those of several hubs for example,
/// and the kernel shares out what comes among them.
pub const WEALD_REUSEPORT: c_int = 1;
/// A flag for listeners with an IPv6 address: no IPv4 connections.
pub const WEALD_V6ONLY: c_int = 2;

/// # Safety
/// `at` is NULL or NUL-terminated.
unsafe fn wanted_text<'a>(at: *const c_char) -> Result<&'a str> {
    // SAFETY: by contract.
    unsafe { text(at) }?.ok_or(Error::INVAL)
}

fn given(fd: Result<OwnedFd>) -> Result<c_int> {
    fd.map(IntoRawFd::into_raw_fd)
}

/// Connects to `address`, "host:port", by TCP. When a host has several addresses they are tried one
/// after the other, IPv6 and IPv4 in turn: the next one begins when the one before has failed, or
/// has not answered within 250 ms, and the first that answers is it. WEALD_NOW tries all of them
/// and waits for none. May switch. Returns a descriptor. Fails with WEALD_EINVAL (no such text),
/// the codes of weald_getaddrinfo, WEALD_ECONNREFUSED and what else connect(2) fails with (if no
/// address answers: what the first of them failed with), WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN
/// (WEALD_NOW, or there is no thread to be had for the name), WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tcp_connect(address: *const c_char, deadline: i64) -> c_int {
    fence(|hub| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let address = unsafe { wanted_text(address) }?;
        given(dial::dial(hub, address, libc::SOCK_STREAM, Deadline::from_raw(deadline)))
    })
}

/// Makes a UDP socket that sends to `address`, "host:port", and gets datagrams from there alone:
/// the host's first address to which there is a way. May switch, to look up the name. Returns a
/// descriptor. Fails with WEALD_EINVAL (no such text), the codes of weald_getaddrinfo, and what
/// connect(2) fails with, WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no thread
/// to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
/// a callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_udp_connect(address: *const c_char, deadline: i64) -> c_int {
    fence(|hub| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let address = unsafe { wanted_text(address) }?;
        given(dial::dial(hub, address, libc::SOCK_DGRAM, Deadline::from_raw(deadline)))
    })
}

/// Connects to the Unix stream listener at `path`; "@name" is one that is in no file system. Waits
/// while the listener has no room. May switch. Returns a descriptor. Fails with WEALD_EINVAL (NULL,
/// empty or too long), WEALD_ENOENT (no such file), WEALD_ECONNREFUSED (nobody listens), and what
/// else connect(2) fails with, WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_unix_connect(path: *const c_char, deadline: i64) -> c_int {
    fence(|hub| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let path = unsafe { wanted_text(path) }?;
        given(dial::dial_unix(hub, path, libc::SOCK_STREAM, Deadline::from_raw(deadline)))
    })
}

/// Makes a TCP listener at `address`, which must be numbers; port 0: any that is free. `backlog`
/// connections wait to be accepted at most; 0: as many as the system allows. `flags` are
/// WEALD_REUSEPORT and WEALD_V6ONLY; without the latter the listener at "[::]:80" is for IPv4 as
/// well. From any thread; does not switch. Returns a descriptor. Fails with WEALD_EINVAL (no such
/// text; other flags), WEALD_EADDRINUSE, and what else bind(2) fails with, WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tcp_listen(address: *const c_char, backlog: c_int, flags: c_int) -> c_int {
    // SAFETY: NULL or NUL-terminated, by the caller.
    fence_any(|| given(listener::tcp(unsafe { wanted_text(address) }?, backlog, flags))) as c_int
}

/// Makes a Unix stream listener at `path`; "@name" is one that is in no file system. A socket file
/// that somebody has left behind, and where nobody listens, is replaced. The file stays when the
/// descriptor is closed; remove it with unlink(2). From any thread; does not switch. Returns a
/// descriptor. Fails with WEALD_EINVAL (NULL, empty or too long), WEALD_EADDRINUSE (somebody
/// listens there, or the file is no socket), WEALD_ENOENT (no such directory), and what else
/// bind(2) fails with, WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_unix_listen(path: *const c_char, backlog: c_int) -> c_int {
    // SAFETY: NULL or NUL-terminated, by the caller.
    fence_any(|| given(listener::unix(unsafe { wanted_text(path) }?, backlog).map(|(fd, _)| fd))) as c_int
}

/// Makes a UDP socket with `address`, which must be numbers; port 0: any that is free. `flags` are
/// as for weald_tcp_listen. From any thread; does not switch. Returns a descriptor. Fails with
/// WEALD_EINVAL (no such text; other flags), WEALD_EADDRINUSE, and what else bind(2) fails with,
/// WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_udp_bind(address: *const c_char, flags: c_int) -> c_int {
    // SAFETY: NULL or NUL-terminated, by the caller.
    fence_any(|| given(listener::udp(unsafe { wanted_text(address) }?, flags))) as c_int
}

/// How many sockets systemd has handed to this process (LISTEN_PID, LISTEN_FDS): the descriptors 3,
/// 4 and so on. Makes them non-blocking and closed on exec. From any thread; does not switch. Fails
/// with WEALD_EBADF (one of them is not open).
#[unsafe(no_mangle)]
pub extern "C" fn weald_inherited_count() -> c_int {
    fence_any(listener::inherited) as c_int
}

/// The first of those sockets that is called `name` (LISTEN_FDNAMES; FileDescriptorName= in the
/// unit). From any thread; does not switch. Returns the descriptor. Fails with WEALD_EINVAL (`name`
/// NULL), WEALD_ENOENT (none has that name), WEALD_EBADF.
#[unsafe(no_mangle)]
pub extern "C" fn weald_inherited_fd(name: *const c_char) -> c_int {
    fence_any(|| {
        if name.is_null() {
            return Err(Error::INVAL);
        }
        // SAFETY: NUL-terminated, by the caller.
        listener::inherited_by_name(unsafe { CStr::from_ptr(name) })
    }) as c_int
}
