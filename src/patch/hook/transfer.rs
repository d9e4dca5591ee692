//! read, write, recv, send and their like.
//!
//! What the C library promises of a descriptor that blocks holds here too: a write moves
//! everything, unless it fails in the middle; MSG_WAITALL reads everything; SIGPIPE comes.
//! Files are read and written by the C library: they are never waited for.

use crate::error::{Error, Result};
use crate::patch::call::{Call, time_limit};
use crate::poller::{READ, WRITE};
use crate::sys::{descriptor, glibc};
use crate::time::{Deadline, now};
use libc::{c_int, c_void, iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use std::os::fd::RawFd;

/// What the C library has returned.
fn result(n: ssize_t) -> Result<usize> {
    if n >= 0 { Ok(n as usize) } else { Err(Error::last_os()) }
}

/// One that was not to wait, as it came.
const NEVER_WAIT: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB;

/// A descriptor, and what it is to be ready for.
#[derive(Clone, Copy)]
struct Transfer<'a> {
    call: &'a Call,
    fd: RawFd,
    wanted: u32,
}

/// How an attempt may be made.
enum How {
    /// It must not wait.
    Now,
    /// poll(2) has said that it is ready, or it can not be waited for.
    Ready,
}

/// Why `run` has no result of its own.
enum Instead {
    /// It is not to wait, or can not: the C library does it.
    Plain,
    Failed(Error),
}

impl From<Error> for Instead {
    fn from(e: Error) -> Instead {
        Instead::Failed(e)
    }
}

impl Transfer<'_> {
    fn is_nonblocking(&self) -> bool {
        descriptor::is_nonblocking(self.fd) != Ok(false)
    }

    /// Tries until `all` bytes have been moved, or fewer if `is_enough` with those. `attempt`
    /// gets how many there are already.
    fn run(
        &self,
        all: usize,
        is_enough: impl Fn(usize) -> bool,
        mut attempt: impl FnMut(usize, How) -> Result<usize>,
    ) -> std::result::Result<usize, Instead> {
        self.call.begin(|| !self.is_nonblocking())?;
        self.call.take_turn(self.fd)?;
        let (mut done, mut deadline, mut may_park) = (0, None, true);
        loop {
            match attempt(done, How::Now) {
                // A try that moves nothing, though there is room for something, is the end.
                Ok(n) if n == 0 || done + n >= all || is_enough(done + n) => return Ok(done + n),
                Ok(n) => done += n,
                Err(Error::AGAIN) => {}
                Err(e) => return if done > 0 { Ok(done) } else { Err(e.into()) },
            }
            let deadline = match deadline {
                Some(set) => set,
                None if self.is_nonblocking() => return if done > 0 { Ok(done) } else { Err(Error::AGAIN.into()) },
                None => {
                    may_park = self.call.may_wait();
                    if done == 0 && !may_park {
                        return Err(Instead::Plain);
                    }
                    *deadline.insert(time_limit(self.fd, self.wanted))
                }
            };
            // In the middle of it the C library can not be asked to go on.
            let waited = if may_park { self.call.wait(self.fd, self.wanted, deadline) } else { self.block(deadline) };
            if let Some(end) = self.waited(waited, done, deadline, &mut attempt) {
                return end;
            }
        }
    }

    /// Waits with all of the thread.
    fn block(&self, deadline: Deadline) -> Result<bool> {
        let events = if self.wanted == READ { libc::POLLIN } else { libc::POLLOUT };
        let mut one = libc::pollfd { fd: self.fd, events, revents: 0 };
        let left = || (deadline.ns() - now() + 999_999) / 1_000_000;
        let timeout = if deadline.is_never() { -1 } else { c_int::try_from(left()).unwrap_or(c_int::MAX).max(0) };
        // SAFETY: one descriptor.
        match result(unsafe { libc::poll(&mut one, 1, timeout) } as ssize_t)? {
            0 => Err(Error::TIMEDOUT),
            _ => Ok(true),
        }
    }

    /// How it all ends, if it does after such a wait.
    fn waited(
        &self,
        waited: Result<bool>,
        done: usize,
        deadline: Deadline,
        attempt: &mut impl FnMut(usize, How) -> Result<usize>,
    ) -> Option<std::result::Result<usize, Instead>> {
        let failed = |e: Error| if done > 0 { Ok(done) } else { Err(e.into()) };
        match waited {
            Ok(true) => None,
            Ok(false) => Some(attempt(done, How::Ready).map(|n| done + n).or_else(failed)),
            Err(Error::TIMEDOUT) if deadline.has_passed() => {
                Some(attempt(done, How::Now).map(|n| done + n).or_else(failed))
            }
            Err(e) => Some(failed(e)),
        }
    }

    fn finish(&self, ended: std::result::Result<usize, Instead>, plain: impl FnOnce() -> ssize_t) -> ssize_t {
        match ended {
            Ok(n) => self.call.finish(Ok(n)),
            Err(Instead::Failed(e)) => self.call.finish(Err(e)),
            Err(Instead::Plain) => {
                self.call.finish(Ok(0)); // errno
                plain()
            }
        }
    }
}

fn any(_: usize) -> bool {
    true
}

fn all_of_it(_: usize) -> bool {
    false
}

/// Whether a failure says that this file can not be asked like that.
fn is_refusal(e: Error) -> bool {
    matches!(e, Error::OPNOTSUPP | Error::NOSYS | Error::INVAL)
}

fn total(iov: &[iovec]) -> usize {
    iov.iter().fold(0usize, |all, one| all.saturating_add(one.iov_len))
}

/// The buffers of a call; none where the C library is to refuse them.
///
/// # Safety
/// As for readv(2).
unsafe fn buffers<'a>(iov: *const iovec, n: c_int) -> &'a [iovec] {
    let is_good = !iov.is_null() && n > 0 && n as usize <= descriptor::IOV_MAX;
    // SAFETY: by contract.
    if is_good { unsafe { std::slice::from_raw_parts(iov, n as usize) } } else { &[] }
}

// ---- what is no socket ----------------------------------------------------------------

/// Reads what is there, from a pipe, a terminal or another thing that is no socket.
///
/// # Safety
/// As for readv(2).
unsafe fn read_other(fd: RawFd, iov: &[iovec], how: How) -> Result<usize> {
    // SAFETY: by contract.
    let plain = || result(unsafe { libc::readv(fd, iov.as_ptr(), iov.len() as c_int) });
    if let How::Ready = how {
        return plain();
    }
    if descriptor::is_file(fd) {
        return plain();
    }
    // SAFETY: by contract.
    match unsafe { descriptor::read_nowait(fd, iov, descriptor::HERE) } {
        Err(e) if is_refusal(e) => match crate::io::look(fd, READ) {
            Ok(_) => plain(),
            Err(e) => Err(e),
        },
        done => done,
    }
}

/// The same, for writing.
fn write_other(fd: RawFd, iov: &[iovec], how: How) -> Result<usize> {
    // SAFETY: the kernel reads, and checks what it reads.
    let plain = || result(unsafe { libc::writev(fd, iov.as_ptr(), iov.len() as c_int) });
    if let How::Ready = how {
        return plain();
    }
    if descriptor::is_file(fd) {
        return plain();
    }
    // SAFETY: as above. With SIGPIPE, as the C library's.
    let nowait = || unsafe {
        libc::syscall(libc::SYS_pwritev2, fd, iov.as_ptr(), iov.len(), -1isize, -1isize, libc::RWF_NOWAIT as isize)
            as isize
    };
    match result(nowait()) {
        Err(e) if is_refusal(e) => match crate::io::look(fd, WRITE) {
            Ok(_) => plain(),
            Err(e) => Err(e),
        },
        done => done,
    }
}

// ---- reading --------------------------------------------------------------------------

/// # Safety
/// As for read(2).
pub unsafe extern "C" fn read(fd: c_int, at: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: by contract.
    let plain = || unsafe { libc::read(fd, at, len) };
    let Some(call) = Call::admitted() else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: READ };
    let one = [iovec { iov_base: at, iov_len: len }];
    let ended = transfer.run(len, any, |_, how| {
        // SAFETY: by contract.
        match result(unsafe { libc::recv(fd, at, len, libc::MSG_DONTWAIT) }) {
            // SAFETY: by contract.
            Err(Error::NOTSOCK) => unsafe { read_other(fd, &one, how) },
            done => done,
        }
    });
    transfer.finish(ended, plain)
}

/// # Safety
/// As for read(2).
pub unsafe extern "C" fn read_chk(fd: c_int, at: *mut c_void, len: size_t, room: size_t) -> ssize_t {
    // SAFETY: by contract. It ends the process if there is not so much room.
    unsafe { if len > room { glibc::__read_chk(fd, at, len, room) } else { read(fd, at, len) } }
}

/// # Safety
/// As for readv(2).
pub unsafe extern "C" fn readv(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t {
    // SAFETY: by contract.
    let (plain, those) = (|| unsafe { libc::readv(fd, iov, n) }, unsafe { buffers(iov, n) });
    let Some(call) = Call::admitted().filter(|_| !those.is_empty()) else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: READ };
    let ended = transfer.run(total(those), any, |_, how| {
        let mut message = message_of(those);
        // SAFETY: by contract.
        match result(unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) }) {
            // SAFETY: by contract.
            Err(Error::NOTSOCK) => unsafe { read_other(fd, those, how) },
            done => done,
        }
    });
    transfer.finish(ended, plain)
}

fn message_of(iov: &[iovec]) -> msghdr {
    // SAFETY: an all-zero message is a valid value.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iov.as_ptr().cast_mut();
    message.msg_iovlen = iov.len() as _;
    message
}

/// # Safety
/// As for recv(2).
pub unsafe extern "C" fn recv(fd: c_int, at: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: by contract.
    unsafe { recvfrom(fd, at, len, flags, std::ptr::null_mut(), std::ptr::null_mut()) }
}

/// # Safety
/// As for recv(2).
pub unsafe extern "C" fn recv_chk(fd: c_int, at: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t {
    // SAFETY: by contract. It ends the process if there is not so much room.
    unsafe { if len > room { glibc::__recv_chk(fd, at, len, room, flags) } else { recv(fd, at, len, flags) } }
}

/// What is to be read whole, which a peek never is.
fn wants_all(flags: c_int) -> bool {
    flags & (libc::MSG_WAITALL | libc::MSG_PEEK) == libc::MSG_WAITALL
}

/// A peek for all of it leaves what is there, so that it can not be waited for more.
fn is_plain(flags: c_int) -> bool {
    flags & NEVER_WAIT != 0 || flags & libc::MSG_WAITALL != 0 && !wants_all(flags)
}

/// # Safety
/// As for recvfrom(2).
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    at: *mut c_void,
    len: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: by contract.
    let plain = || unsafe { libc::recvfrom(fd, at, len, flags, from, from_len) };
    let Some(call) = Call::admitted().filter(|_| !is_plain(flags)) else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: READ };
    // A message is whole, however short.
    let waits_for_all = wants_all(flags) && is_stream(fd);
    let ended = transfer.run(
        len,
        |_| !waits_for_all,
        |done, _| {
            let at = at.wrapping_byte_add(done);
            // SAFETY: by contract; no more than there was room for.
            result(unsafe { libc::recvfrom(fd, at, len - done, flags | libc::MSG_DONTWAIT, from, from_len) })
        },
    );
    transfer.finish(ended, plain)
}

fn is_stream(fd: RawFd) -> bool {
    descriptor::get_option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)
}

/// # Safety
/// As for recvfrom(2).
pub unsafe extern "C" fn recvfrom_chk(
    fd: c_int,
    at: *mut c_void,
    len: size_t,
    room: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: by contract. It ends the process if there is not so much room.
    unsafe {
        if len > room {
            glibc::__recvfrom_chk(fd, at, len, room, flags, from, from_len)
        } else {
            recvfrom(fd, at, len, flags, from, from_len)
        }
    }
}

/// # Safety
/// As for recvmsg(2).
pub unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: by contract.
    let plain = || unsafe { libc::recvmsg(fd, message, flags) };
    // To go on in the middle of a message's buffers would take another message.
    let is_plain = flags & (NEVER_WAIT | libc::MSG_WAITALL) != 0 || message.is_null();
    let Some(call) = Call::admitted().filter(|_| !is_plain) else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: READ };
    let ended = transfer.run(usize::MAX, any, |_, _| {
        // SAFETY: by contract; one that fails leaves the message as it was.
        result(unsafe { libc::recvmsg(fd, message, flags | libc::MSG_DONTWAIT) })
    });
    transfer.finish(ended, plain)
}

// ---- writing --------------------------------------------------------------------------

/// # Safety
/// As for write(2).
pub unsafe extern "C" fn write(fd: c_int, at: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: by contract.
    let plain = || unsafe { libc::write(fd, at, len) };
    let Some(call) = Call::admitted() else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: WRITE };
    let ended = transfer.run(len, all_of_it, |done, how| {
        let rest = iovec { iov_base: at.wrapping_byte_add(done).cast_mut(), iov_len: len - done };
        // SAFETY: by contract.
        match result(unsafe { libc::send(fd, rest.iov_base, rest.iov_len, libc::MSG_DONTWAIT) }) {
            Err(Error::NOTSOCK) => write_other(fd, &[rest], how),
            done => done,
        }
    });
    transfer.finish(ended, plain)
}

/// What is left of the buffers behind `done` bytes: all of them, or the rest of one.
enum Rest<'a> {
    All(&'a [iovec]),
    One([iovec; 1]),
}

fn rest(iov: &[iovec], mut done: usize) -> Rest<'_> {
    for (i, one) in iov.iter().enumerate() {
        if done == 0 {
            return Rest::All(&iov[i..]);
        }
        if done < one.iov_len {
            return Rest::One([iovec { iov_base: one.iov_base.wrapping_byte_add(done), iov_len: one.iov_len - done }]);
        }
        done -= one.iov_len;
    }
    Rest::All(&[])
}

impl Rest<'_> {
    fn buffers(&self) -> &[iovec] {
        match self {
            Rest::All(iov) => iov,
            Rest::One(one) => one,
        }
    }
}

/// # Safety
/// As for writev(2).
pub unsafe extern "C" fn writev(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t {
    // SAFETY: by contract.
    let (plain, those) = (|| unsafe { libc::writev(fd, iov, n) }, unsafe { buffers(iov, n) });
    let Some(call) = Call::admitted().filter(|_| !those.is_empty()) else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: WRITE };
    let ended = transfer.run(total(those), all_of_it, |done, how| {
        let rest = rest(those, done);
        let message = message_of(rest.buffers());
        // SAFETY: by contract.
        match result(unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT) }) {
            Err(Error::NOTSOCK) => write_other(fd, rest.buffers(), how),
            done => done,
        }
    });
    transfer.finish(ended, plain)
}

/// # Safety
/// As for send(2).
pub unsafe extern "C" fn send(fd: c_int, at: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: by contract.
    unsafe { sendto(fd, at, len, flags, std::ptr::null(), 0) }
}

/// # Safety
/// As for sendto(2).
pub unsafe extern "C" fn sendto(
    fd: c_int,
    at: *const c_void,
    len: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
) -> ssize_t {
    // SAFETY: by contract.
    let plain = || unsafe { libc::sendto(fd, at, len, flags, to, to_len) };
    let Some(call) = Call::admitted().filter(|_| flags & libc::MSG_DONTWAIT == 0) else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: WRITE };
    let ended = transfer.run(len, all_of_it, |done, _| {
        let at = at.wrapping_byte_add(done);
        // SAFETY: by contract.
        result(unsafe { libc::sendto(fd, at, len - done, flags | libc::MSG_DONTWAIT, to, to_len) })
    });
    transfer.finish(ended, plain)
}

/// # Safety
/// As for sendmsg(2).
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: by contract.
    let (plain, given) = (|| unsafe { libc::sendmsg(fd, message, flags) }, unsafe { message.as_ref() });
    // SAFETY: by contract.
    let those = given.map_or(&[][..], |m| unsafe { buffers(m.msg_iov, m.msg_iovlen.min(4096) as c_int) });
    let is_plain = flags & libc::MSG_DONTWAIT != 0;
    let Some((call, given)) = Call::admitted().filter(|_| !is_plain).zip(given) else { return plain() };
    let transfer = Transfer { call: &call, fd, wanted: WRITE };
    let ended = transfer.run(total(those), all_of_it, |done, _| {
        if done == 0 {
            // SAFETY: by contract.
            return result(unsafe { libc::sendmsg(fd, message, flags | libc::MSG_DONTWAIT) });
        }
        // What else the message carries has gone with the first piece.
        let rest = rest(those, done);
        let message = msghdr { msg_name: given.msg_name, msg_namelen: given.msg_namelen, ..message_of(rest.buffers()) };
        // SAFETY: by contract.
        result(unsafe { libc::sendmsg(fd, &message, flags | libc::MSG_DONTWAIT) })
    });
    transfer.finish(ended, plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_some_buffers_begins_where_the_last_write_ended() {
        let text = b"abcdefgh";
        let part = |from: usize, len| iovec { iov_base: text[from..].as_ptr().cast_mut().cast(), iov_len: len };
        let iov = [part(0, 3), part(3, 0), part(3, 5)];
        let left = |done| {
            let rest = rest(&iov, done);
            let all = rest.buffers().iter().map(|v| v.iov_len).sum::<usize>();
            // SAFETY: parts of the text.
            let first = rest.buffers().iter().find(|v| v.iov_len > 0).map(|v| unsafe { *v.iov_base.cast::<u8>() });
            (all, first)
        };
        assert_eq!(left(0), (8, Some(b'a')));
        assert_eq!(left(2), (1, Some(b'c')));
        assert_eq!(left(3), (5, Some(b'd')));
        assert_eq!(left(7), (1, Some(b'h')));
        assert_eq!(left(8), (0, None));
    }

    #[test]
    fn a_peek_for_everything_is_left_to_the_c_library() {
        assert!(wants_all(libc::MSG_WAITALL));
        assert!(!wants_all(libc::MSG_WAITALL | libc::MSG_PEEK));
        assert!(is_plain(libc::MSG_WAITALL | libc::MSG_PEEK) && is_plain(libc::MSG_DONTWAIT));
        assert!(!is_plain(libc::MSG_PEEK) && !is_plain(libc::MSG_WAITALL) && !is_plain(0));
    }
}
