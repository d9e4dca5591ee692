//! Waiting for descriptors.
//!
//! Level-triggered in meaning: a wait returns at once while there is something to read or room to
//! write, so a partial read followed by another wait does not hang. The descriptor stays the
//! caller's and need not be non-blocking. At most one greenlet may wait for a direction of a
//! descriptor (WEALD_EBUSY); weald_poll and io watchers may look at it as well. Regular files and
//! devices that never block are always ready.

#![allow(non_camel_case_types)]

use super::{fence, quick, slice_mut};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::poller::{READ, WRITE};
use crate::time::Deadline;
use libc::{fd_set, pollfd};
use std::ffi::c_int;

pub const WEALD_READ: c_int = 1;
pub const WEALD_WRITE: c_int = 2;
/// Reported only: the other end has hung up.
pub const WEALD_HUP: c_int = 4;
/// Reported only: an error is pending on the descriptor.
pub const WEALD_ERROR: c_int = 8;

/// Waits until `fd` is readable (data, end of file, an error, a connection to accept). May switch.
/// Returns 0. Fails with WEALD_EBADF (no open descriptor, or closed while we waited), WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED (killed, or weald_cancel_wait),
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_wait_read(fd: c_int, deadline: i64) -> c_int {
    quick(|hub| hub.wait_fd(fd, READ, Deadline::from_raw(deadline)).map(drop))
}

/// Waits until `fd` is writable (room, an error, a connection made or refused). May switch. Returns
/// 0. Fails with WEALD_EBADF (no open descriptor, or closed while we waited), WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED (killed, or weald_cancel_wait),
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_wait_write(fd: c_int, deadline: i64) -> c_int {
    quick(|hub| hub.wait_fd(fd, WRITE, Deadline::from_raw(deadline)).map(drop))
}

/// Waits for any of `events` (WEALD_READ, WEALD_WRITE) on `fd`, and returns what came, perhaps with
/// WEALD_HUP and WEALD_ERROR. May switch. Fails with WEALD_EINVAL (other bits, or none),
/// WEALD_EBADF (no open descriptor, or closed while we waited), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED (killed, or weald_cancel_wait),
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_wait_fd(fd: c_int, events: c_int, deadline: i64) -> c_int {
    quick(|hub| hub.wait_fd(fd, events as u32, Deadline::from_raw(deadline)))
}

/// Ends all waits of this thread's greenlets for `fd` with WEALD_ECANCELED; call it before closing
/// a descriptor that somebody may wait for. Does not switch. Returns how many there were. Fails
/// with the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_cancel_wait(fd: c_int) -> c_int {
    fence(|hub| Ok(hub.cancel_wait(fd)))
}

/// poll(2) that parks this greenlet alone: fills in `revents` and returns how many are not 0; 0
/// when the deadline passed. May switch. Fails with WEALD_EINVAL (`fds` NULL; more of them than the
/// process may open), WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout),
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_poll(fds: *mut pollfd, n: usize, deadline: i64) -> c_int {
    fence(|hub| {
        // SAFETY: the caller's array, which stays while this greenlet waits.
        hub.poll_fds(unsafe { slice_mut(fds, n) }?, Deadline::from_raw(deadline))
    })
}

/// select(2) that parks this greenlet alone; each set may be NULL. Returns how many bits are set;
/// 0, and the sets empty, when the deadline passed. May switch. Fails with WEALD_EINVAL (`nfds` out
/// of range), WEALD_EBADF (a closed descriptor in a set), WEALD_EPERM, WEALD_ETIMEDOUT (of a
/// surrounding weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_select(
    nfds: c_int,
    readfds: *mut fd_set,
    writefds: *mut fd_set,
    exceptfds: *mut fd_set,
    deadline: i64,
) -> c_int {
    fence(|hub| select(hub, nfds, [readfds, writefds, exceptfds], Deadline::from_raw(deadline)))
}

/// What each of select's three sets asks poll for, and which answers count for it.
const ASKS: [(i16, i16); 3] = [
    (libc::POLLIN, libc::POLLIN | libc::POLLHUP | libc::POLLERR),
    (libc::POLLOUT, libc::POLLOUT | libc::POLLERR),
    (libc::POLLPRI, libc::POLLPRI),
];

fn select(hub: &Hub, nfds: c_int, sets: [*mut fd_set; 3], deadline: Deadline) -> Result<usize> {
    if !(0..=libc::FD_SETSIZE as c_int).contains(&nfds) {
        return Err(Error::INVAL);
    }
    // SAFETY: NULL or a valid set, by the caller; the number is below FD_SETSIZE.
    let has = |set: *mut fd_set, fd| !set.is_null() && unsafe { libc::FD_ISSET(fd, set) };
    let asked = |fd| sets.iter().zip(ASKS).filter(|(s, _)| has(**s, fd)).fold(0, |all, (_, a)| all | a.0);
    let mut fds: Vec<pollfd> =
        (0..nfds).map(|fd| pollfd { fd, events: asked(fd), revents: 0 }).filter(|p| p.events != 0).collect();
    hub.poll_fds(&mut fds, deadline)?;
    if fds.iter().any(|p| p.revents & libc::POLLNVAL != 0) {
        return Err(Error::BADF);
    }
    let mut count = 0;
    for (set, (ask, answer)) in sets.into_iter().zip(ASKS).filter(|(s, _)| !s.is_null()) {
        // SAFETY: not NULL; the caller's set.
        unsafe { libc::FD_ZERO(set) };
        for p in fds.iter().filter(|p| p.events & ask != 0 && p.revents & answer != 0) {
            // SAFETY: as above, and the number came out of this set.
            unsafe { libc::FD_SET(p.fd, set) };
            count += 1;
        }
    }
    Ok(count)
}
