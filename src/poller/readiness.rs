//! What can be there of a descriptor, in our bits and in epoll's.

use crate::error::Error;

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const HUP: u32 = 4;
pub const ERROR: u32 = 8;
/// The descriptor was closed or reused under the waiter, or can not be waited for any
/// more: then why is in the upper half, see `lost`.
pub const GONE: u32 = 16;
const WHY_SHIFT: u32 = 16;

/// Urgent data, and the other end's half of the connection closed: for poll alone.
pub const PRI: u32 = 64;
pub const RDHUP: u32 = 128;
/// The wait was called off.
pub const CANCELLED: u32 = 32;

/// What those are told whose descriptor can not be waited for any more.
pub(super) fn lost(why: Error) -> u32 {
    GONE | why.code().unsigned_abs() << WHY_SHIFT
}

/// With which code a greenlet goes on that waited for a descriptor.
#[inline(always)]
pub fn wake_code(got: u32) -> i32 {
    match got {
        _ if got & (GONE | CANCELLED) == 0 => 0,
        _ if got >> WHY_SHIFT != 0 => -((got >> WHY_SHIFT) as i32),
        _ if got & GONE != 0 => Error::BADF.code(),
        _ => Error::CANCELED.code(),
    }
}

/// What a registration for edges asks for besides, whoever waits: for what does not show in a
/// short read, too.
pub(super) const EDGE_BITS: u32 = (libc::EPOLLET | libc::EPOLLRDHUP | libc::EPOLLPRI) as u32;

pub(super) fn to_epoll(wanted: u32) -> u32 {
    let mut bits = 0;
    if wanted & READ != 0 {
        bits |= libc::EPOLLIN;
    }
    if wanted & WRITE != 0 {
        bits |= libc::EPOLLOUT;
    }
    if wanted & PRI != 0 {
        bits |= libc::EPOLLPRI;
    }
    if wanted & RDHUP != 0 {
        bits |= libc::EPOLLRDHUP;
    }
    bits as u32
}

#[inline]
pub(super) fn from_epoll(bits: u32) -> u32 {
    if bits == libc::EPOLLIN as u32 {
        return READ; // the usual one
    }
    let has = |b: i32| bits & b as u32 != 0;
    let mut got = 0;
    if has(libc::EPOLLIN) {
        got |= READ;
    }
    if has(libc::EPOLLOUT) {
        got |= WRITE;
    }
    if has(libc::EPOLLPRI) {
        got |= PRI;
    }
    if has(libc::EPOLLRDHUP) {
        got |= RDHUP;
    }
    // Whoever waits, in either direction, learns of an end or an error by trying.
    if has(libc::EPOLLHUP) {
        got |= READ | WRITE | HUP;
    }
    if has(libc::EPOLLERR) {
        got |= READ | WRITE | ERROR;
    }
    got
}
