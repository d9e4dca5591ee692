//! Listeners by address: TCP, Unix, UDP, and those that systemd has opened for us.
//!
//! A Unix listener that was not ended in order leaves its file behind, and bind(2)
//! refuses a path that exists. Whether somebody listens there is found out by
//! connecting: a socket that refuses is nobody's, and its file goes.

use super::address::Address;
use super::socket;
use crate::error::{Error, Result};
use crate::sys::descriptor as sys;
use libc::c_int;
use std::ffi::{CStr, CString};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Several listeners may have the same address, and the kernel shares out among them.
pub const REUSEPORT: c_int = 1;
/// An IPv6 listener is for IPv6 alone.
pub const V6ONLY: c_int = 2;

/// Where systemd's begin.
const INHERITED_FROM: RawFd = 3;

/// A TCP listener. EINVAL, EADDRINUSE, EADDRNOTAVAIL, and what else bind(2) finds wrong.
pub fn tcp(text: &str, backlog: c_int, flags: c_int) -> Result<OwnedFd> {
    let fd = bound(text, libc::SOCK_STREAM, flags)?;
    socket::listen(fd.as_raw_fd(), most(backlog))?;
    Ok(fd)
}

/// A UDP socket that has an address.
pub fn udp(text: &str, flags: c_int) -> Result<OwnedFd> {
    bound(text, libc::SOCK_DGRAM, flags)
}

/// The kernel cuts it to what it allows.
fn most(backlog: c_int) -> c_int {
    if backlog <= 0 { c_int::MAX } else { backlog }
}

/// An empty host and `*` are every address of this machine, of both families if it has.
fn bound(text: &str, kind: c_int, flags: c_int) -> Result<OwnedFd> {
    if flags & !(REUSEPORT | V6ONLY) != 0 {
        return Err(Error::INVAL);
    }
    let (host, port) = Address::split(text)?;
    if !matches!(host, "" | "*") {
        return bind(text, kind, flags);
    }
    bind(&format!("[::]:{port}"), kind, flags).or_else(|e| match -e.code() {
        libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL => bind(&format!("0.0.0.0:{port}"), kind, flags),
        _ => Err(e),
    })
}

fn bind(text: &str, kind: c_int, flags: c_int) -> Result<OwnedFd> {
    let address = Address::from(text.parse::<SocketAddr>().map_err(|_| Error::INVAL)?);
    let fd = socket::socket(address.family(), kind, 0)?;
    let set = |level, name, on: bool| sys::set_option(fd.as_raw_fd(), level, name, &c_int::from(on));
    if kind == libc::SOCK_STREAM {
        // Connections of the one before may be ending still.
        set(libc::SOL_SOCKET, libc::SO_REUSEADDR, true)?;
    }
    if flags & REUSEPORT != 0 {
        set(libc::SOL_SOCKET, libc::SO_REUSEPORT, true)?;
    }
    if address.family() == libc::AF_INET6 {
        set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, flags & V6ONLY != 0)?;
    }
    socket::bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

// ---- Unix ---------------------------------------------------------------------------

/// A file that a listener has made, to take away with it.
#[derive(PartialEq, Eq, Debug)]
pub struct SocketFile {
    path: CString,
    is: (u64, u64),
}

impl SocketFile {
    fn at(path: &str) -> Option<SocketFile> {
        let path = CString::new(path).ok()?;
        let is = sys::socket_file(&path)?;
        Some(SocketFile { path, is })
    }

    /// Unless another has taken its place.
    pub fn remove(&self) {
        if sys::socket_file(&self.path) == Some(self.is) {
            let _ = sys::unlink(&self.path);
        }
    }
}

/// A stream listener at a path (a file, or `@` and a name), and its file. EINVAL,
/// EADDRINUSE when somebody listens there or the file is something else.
pub fn unix(path: &str, backlog: c_int) -> Result<(OwnedFd, Option<SocketFile>)> {
    if path.is_empty() {
        return Err(Error::INVAL); // nobody could find it
    }
    let address = Address::unix(path)?;
    let fd = socket::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    if let Err(e) = socket::bind(fd.as_raw_fd(), &address) {
        if e != Error::ADDRINUSE || path.starts_with('@') {
            return Err(e);
        }
        stale(path, &address).ok_or(e)?.remove();
        socket::bind(fd.as_raw_fd(), &address)?;
    }
    let file = if path.starts_with('@') { None } else { SocketFile::at(path) };
    if let Err(e) = socket::listen(fd.as_raw_fd(), most(backlog)) {
        file.iter().for_each(SocketFile::remove);
        return Err(e);
    }
    Ok((fd, file))
}

/// The file at `path`, if it is a socket that nobody listens at.
fn stale(path: &str, address: &Address) -> Option<SocketFile> {
    let file = SocketFile::at(path)?; // before the question: another's answer is not for this one
    let probe = socket::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).ok()?;
    let refused = socket::begin_connect(probe.as_raw_fd(), address) == Err(Error::CONNREFUSED);
    refused.then_some(file)
}

// ---- systemd ------------------------------------------------------------------------

fn number(name: &str) -> Option<i32> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many sockets were handed to this process (LISTEN_PID, LISTEN_FDS). Each is made
/// non-blocking and closed on exec, like our own. EBADF when one of them is not there.
pub fn inherited() -> Result<c_int> {
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return Ok(0);
    }
    let count = number("LISTEN_FDS").unwrap_or(0).max(0);
    for i in 0..count {
        let fd = INHERITED_FROM.saturating_add(i);
        sys::close_on_exec(fd)?;
        sys::set_nonblocking(fd, true)?;
    }
    Ok(count)
}

/// The first of them that is called `name` (LISTEN_FDNAMES). ENOENT.
pub fn inherited_by_name(name: &CStr) -> Result<RawFd> {
    let count = inherited()?;
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let place = names.split(':').take(count as usize).position(|one| one.as_bytes() == name.to_bytes());
    Ok(INHERITED_FROM + place.ok_or(Error::NOENT)? as RawFd)
}
