//! The calls on sockets, each of which parks one greenlet and no thread.
//!
//! Descriptors made here are non-blocking and closed on exec. Those of others may be
//! blocking: only connect has to change that, for as long as its system call takes.

use super::address::Address;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::poller::{READ, WRITE};
use crate::rw::Known;
use crate::sys::descriptor as sys;
use crate::time::{Deadline, after};
use libc::{c_int, c_void, msghdr, sockaddr, socklen_t};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// How long to wait before a Unix listener without room is tried again, at first and at most.
const FULL_BACKLOG_NS: (i64, i64) = (1_000_000, 50_000_000);

/// What accept(2) reports of a connection that has broken already, or of its network.
pub const BROKEN: [c_int; 9] = [
    libc::ECONNABORTED,
    libc::EPROTO,
    libc::ENETDOWN,
    libc::ENOPROTOOPT,
    libc::EHOSTDOWN,
    libc::ENONET,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::ETIMEDOUT,
];

/// A hub that exists forgets what it knew of a number that has just been given out.
fn known_as_new(fd: OwnedFd) -> OwnedFd {
    if let Some(hub) = Hub::existing() {
        hub.poller().is_new(fd.as_raw_fd());
    }
    fd
}

pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<OwnedFd> {
    sys::socket(domain, kind, protocol).map(known_as_new)
}

pub fn socketpair(domain: c_int, kind: c_int, protocol: c_int) -> Result<[OwnedFd; 2]> {
    Ok(sys::socketpair(domain, kind, protocol)?.map(known_as_new))
}

pub fn pipe() -> Result<[OwnedFd; 2]> {
    Ok(sys::pipe()?.map(known_as_new))
}

pub fn bind(fd: RawFd, address: &Address) -> Result<()> {
    // SAFETY: its own pointer and length.
    unsafe { sys::bind(fd, address.as_ptr(), address.len()) }
}

pub fn listen(fd: RawFd, backlog: c_int) -> Result<()> {
    sys::listen(fd, backlog)
}

pub fn shutdown(fd: RawFd, how: c_int) -> Result<()> {
    sys::shutdown(fd, how)
}

pub fn local_address(fd: RawFd) -> Result<Address> {
    // SAFETY: `filled` gives room and its size.
    Ok(Address::filled(|at, len| unsafe { sys::local_address(fd, at, len) })?.1)
}

pub fn peer_address(fd: RawFd) -> Result<Address> {
    // SAFETY: as above.
    Ok(Address::filled(|at, len| unsafe { sys::peer_address(fd, at, len) })?.1)
}

/// connect(2) that does not wait, whatever the descriptor's flags.
pub(super) fn begin_connect(fd: RawFd, address: &Address) -> Result<()> {
    // SAFETY: its own pointer and length.
    let connect = || unsafe { sys::connect(fd, address.as_ptr(), address.len()) };
    if sys::is_nonblocking(fd)? {
        return connect();
    }
    sys::set_nonblocking(fd, true)?;
    let begun = connect();
    let _ = sys::set_nonblocking(fd, false);
    begun
}

/// What became of a connection in the making, which asking for it once more tells: EAGAIN
/// when nothing has yet. It also ends the making: the next who asks is told EISCONN.
pub(super) fn connected(fd: RawFd, address: &Address) -> Result<()> {
    match begin_connect(fd, address) {
        Err(Error::ALREADY | Error::INPROGRESS | Error::INTR) => Err(Error::AGAIN),
        Err(e) if e == Error::from_errno(libc::EISCONN) => Ok(()),
        done => done,
    }
}

pub fn is_tcp(fd: RawFd) -> bool {
    sys::get_option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) == Ok(libc::IPPROTO_TCP)
}

/// Tells the poller of a connection that there is since just now, if it is TCP.
pub fn note_connection(hub: &Hub, fd: RawFd, peer: &Address) {
    if matches!(peer.family(), libc::AF_INET | libc::AF_INET6) && is_tcp(fd) {
        hub.poller().is_connection(fd);
    }
}

/// Connects. EINPROGRESS when the deadline is "now" and it has only begun. What was begun
/// goes on when this fails by its deadline or a kill: the caller closes the descriptor.
pub fn connect(hub: &Hub, fd: RawFd, address: &Address, deadline: Deadline) -> Result<()> {
    make_connection(hub, fd, address, deadline)?;
    note_connection(hub, fd, address);
    Ok(())
}

fn make_connection(hub: &Hub, fd: RawFd, address: &Address, deadline: Deadline) -> Result<()> {
    if !deadline.is_now() {
        hub.check()?;
    }
    let mut pause = FULL_BACKLOG_NS.0;
    loop {
        match begin_connect(fd, address) {
            Ok(()) => return Ok(()),
            Err(Error::INPROGRESS | Error::INTR) => break,
            // A Unix listener whose backlog is full. Nothing tells when it has room.
            Err(Error::AGAIN) if !deadline.is_now() => {
                let again = Deadline::from_raw(after(pause));
                if again > deadline {
                    hub.sleep_until(deadline)?;
                    return Err(Error::TIMEDOUT);
                }
                hub.sleep_until(again)?;
                pause = (2 * pause).min(FULL_BACKLOG_NS.1);
            }
            Err(e) => return Err(e),
        }
    }
    if deadline.is_now() {
        return Err(Error::INPROGRESS);
    }
    loop {
        match hub.wait_to_try(fd, WRITE, deadline) {
            Ok(_) => {}
            // Made is made, however late we are: then no scope has cut us short.
            Err(Error::TIMEDOUT) => {
                connected(fd, address).map_err(|e| if e == Error::AGAIN { Error::TIMEDOUT } else { e })?;
                hub.unfire_scopes(hub.current());
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        match connected(fd, address) {
            Err(Error::AGAIN) => {}
            done => return done,
        }
    }
}

/// The next connection, and who it is from.
pub fn accept(hub: &Hub, fd: RawFd, deadline: Deadline) -> Result<(OwnedFd, Address)> {
    let mut accepted = None;
    let is_safe = sys::is_nonblocking(fd)?;
    hub.until_done(fd, READ, deadline, |known| {
        // A listener that is blocking is waited for first.
        if known == Known::Nothing && !is_safe {
            crate::io::look(fd, READ)?;
        }
        // SAFETY: `filled` gives room and its size.
        match Address::filled(|at, len| unsafe { sys::accept(fd, at, len) }) {
            Ok(new) => {
                accepted = Some(new);
                Ok(0)
            }
            Err(e) if BROKEN.contains(&-e.code()) => Err(Error::AGAIN),
            Err(e) => Err(e),
        }
    })?;
    let (new, address) = accepted.ok_or(Error::AGAIN)?;
    hub.poller().is_new(new.as_raw_fd());
    note_connection(hub, new.as_raw_fd(), &address);
    Ok((new, address))
}

// ---- messages ------------------------------------------------------------------------

/// # Safety
/// `at` points to `len` bytes that are this call's alone until it returns.
#[inline(always)]
pub unsafe fn recv(
    hub: &Hub,
    fd: RawFd,
    at: *mut c_void,
    len: usize,
    flags: c_int,
    deadline: Deadline,
) -> Result<usize> {
    hub.until_done(fd, READ, deadline, |_| {
        // SAFETY: by contract.
        let n = unsafe { sys::recv(fd, at, len, flags) }?;
        // A peek leaves what it saw; a datagram's length says nothing of the next one, but
        // then the wait is short.
        let all = n < len && n > 0 && flags & (libc::MSG_PEEK | libc::MSG_OOB | libc::MSG_TRUNC) == 0;
        hub.poller().has_read(fd, all);
        Ok(n)
    })
}

#[inline(always)]
pub fn send(hub: &Hub, fd: RawFd, at: *const c_void, len: usize, flags: c_int, deadline: Deadline) -> Result<usize> {
    hub.until_done(fd, WRITE, deadline, |_| sys::send(fd, at, len, flags))
}

/// # Safety
/// As for `recv`; `from` and `from_len` as for recvfrom(2).
pub unsafe fn recvfrom(
    hub: &Hub,
    fd: RawFd,
    (at, len): (*mut c_void, usize),
    flags: c_int,
    (from, from_len): (*mut sockaddr, *mut socklen_t),
    deadline: Deadline,
) -> Result<usize> {
    // SAFETY: by contract.
    hub.until_done(fd, READ, deadline, |_| unsafe { sys::recvfrom(fd, at, len, flags, from, from_len) })
}

/// `to` and `to_len` as for sendto(2).
pub fn sendto(
    hub: &Hub,
    fd: RawFd,
    (at, len): (*const c_void, usize),
    flags: c_int,
    (to, to_len): (*const sockaddr, socklen_t),
    deadline: Deadline,
) -> Result<usize> {
    hub.until_done(fd, WRITE, deadline, |_| sys::sendto(fd, at, len, flags, to, to_len))
}

/// # Safety
/// `message` and what it points to are as for recvmsg(2), and this call's alone.
pub unsafe fn recvmsg(hub: &Hub, fd: RawFd, message: *mut msghdr, flags: c_int, deadline: Deadline) -> Result<usize> {
    // SAFETY: by contract.
    hub.until_done(fd, READ, deadline, |_| unsafe { sys::recvmsg(fd, message, flags) })
}

pub fn sendmsg(hub: &Hub, fd: RawFd, message: *const msghdr, flags: c_int, deadline: Deadline) -> Result<usize> {
    hub.until_done(fd, WRITE, deadline, |_| sys::sendmsg(fd, message, flags))
}
