//! System calls on descriptors: bytes in and out, and sockets.
//!
//! None of them waits, but for `read`, `write` and their like, which the caller uses when
//! the descriptor is ready or never blocks, or in a thread of its own. None raises SIGPIPE. What moves bytes is tried
//! again when a signal interrupts it.

use super::{Call, check, may_fail};
use crate::error::{Error, Result};
use crate::once::Answer;
use libc::{c_int, c_void, iovec, msghdr, sockaddr, socklen_t};
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Linux 6.18: no SIGPIPE from this write.
const RWF_NOSIGNAL: c_int = 0x100;

/// How many buffers one call takes.
pub const IOV_MAX: usize = 1024;

/// Makes a call that moves bytes until it is not interrupted.
#[inline(always)]
fn moved(mut call: impl FnMut() -> isize) -> Result<usize> {
    loop {
        may_fail(Call::Transfer)?;
        #[cfg(feature = "fault-injection")]
        if super::fault::interrupts() {
            continue;
        }
        let n = call();
        if n >= 0 {
            return Ok(n as usize);
        }
        match Error::last_os() {
            Error::INTR => {}
            e => return Err(e),
        }
    }
}

/// How much of `len` a call may move; all of it, but in tests.
#[inline(always)]
fn most(len: usize) -> usize {
    #[cfg(feature = "fault-injection")]
    return len.min(super::fault::longest());
    #[cfg(not(feature = "fault-injection"))]
    len
}

/// The first of the buffers alone, when a test shortens what is moved.
fn fewer(iov: &[iovec]) -> ([iovec; 1], usize) {
    let first = iov.first().copied().unwrap_or(iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
    let short = most(first.iov_len);
    let shortened = short != first.iov_len || (most(usize::MAX) != usize::MAX && iov.len() > 1);
    ([iovec { iov_len: short, ..first }], if shortened { 1 } else { iov.len() })
}

// ---- sockets: each call can be told not to wait ------------------------------------

/// # Safety
/// `at` points to `len` bytes for this call to write to.
#[inline(always)]
pub unsafe fn recv(fd: RawFd, at: *mut c_void, len: usize, flags: c_int) -> Result<usize> {
    // SAFETY: by contract.
    moved(|| unsafe { libc::recv(fd, at, most(len), flags | libc::MSG_DONTWAIT) })
}

#[inline(always)]
pub(crate) fn send(fd: RawFd, at: *const c_void, len: usize, flags: c_int) -> Result<usize> {
    // SAFETY: the kernel reads, and checks what it reads.
    moved(|| unsafe { libc::send(fd, at, most(len), flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

/// The sender's address goes to `from`, `from_len` bytes of it at most, if they are not NULL.
///
/// # Safety
/// `at` is as for `recv`, `from` and `from_len` are as for recvfrom(2).
pub unsafe fn recvfrom(
    fd: RawFd,
    at: *mut c_void,
    len: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> Result<usize> {
    // SAFETY: by contract.
    moved(|| unsafe { libc::recvfrom(fd, at, most(len), flags | libc::MSG_DONTWAIT, from, from_len) })
}

pub(crate) fn sendto(
    fd: RawFd,
    at: *const c_void,
    len: usize,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
) -> Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as for `send`.
    moved(|| unsafe { libc::sendto(fd, at, most(len), flags, to, to_len) })
}

/// # Safety
/// `message` and what it points to are as for recvmsg(2).
pub unsafe fn recvmsg(fd: RawFd, message: *mut msghdr, flags: c_int) -> Result<usize> {
    // SAFETY: by contract.
    moved(|| unsafe { libc::recvmsg(fd, message, flags | libc::MSG_DONTWAIT) })
}

pub(crate) fn sendmsg(fd: RawFd, message: *const msghdr, flags: c_int) -> Result<usize> {
    // SAFETY: as for `send`.
    moved(|| unsafe { libc::sendmsg(fd, message, flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

fn message_of(iov: &[iovec]) -> msghdr {
    // SAFETY: an all-zero message is a valid value.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iov.as_ptr().cast_mut();
    message.msg_iovlen = iov.len() as _;
    message
}

/// # Safety
/// The buffers are there for this call to write to.
pub unsafe fn recvv(fd: RawFd, iov: &[iovec]) -> Result<usize> {
    let (one, n) = fewer(iov);
    let mut message = message_of(if n == 1 { &one } else { iov });
    // SAFETY: a message that has nothing but the buffers.
    unsafe { recvmsg(fd, &mut message, 0) }
}

pub fn sendv(fd: RawFd, iov: &[iovec]) -> Result<usize> {
    let (one, n) = fewer(iov);
    sendmsg(fd, &message_of(if n == 1 { &one } else { iov }), 0)
}

// ---- anything else ------------------------------------------------------------------

/// Where in a file: its own position.
pub const HERE: i64 = -1;

/// The system call's two halves of an offset.
fn halves(at: i64) -> (usize, usize) {
    // The kernel takes the lower one's 32 bits alone where a long has no more.
    (at as usize, (at >> (usize::BITS - 1) >> 1) as usize)
}

/// Flags as `syscall` takes them: an int that it finds on the stack has half a word of garbage
/// above it.
fn word(flags: c_int) -> usize {
    flags as usize
}

fn preadv2(fd: RawFd, iov: &[iovec], at: i64, flags: c_int) -> isize {
    let (low, high) = halves(at);
    // SAFETY: the buffers are writable by the contract of those who call this.
    unsafe { libc::syscall(libc::SYS_preadv2, fd, iov.as_ptr(), iov.len(), low, high, word(flags)) as isize }
}

fn pwritev2(fd: RawFd, iov: &[iovec], at: i64, flags: c_int) -> isize {
    let (low, high) = halves(at);
    // SAFETY: the kernel reads, and checks what it reads.
    unsafe { libc::syscall(libc::SYS_pwritev2, fd, iov.as_ptr(), iov.len(), low, high, word(flags)) as isize }
}

/// Reads what is there. EAGAIN; EOPNOTSUPP (or ENOSYS) when this file can not be asked so.
///
/// # Safety
/// The buffers are there for this call to write to.
pub unsafe fn read_nowait(fd: RawFd, iov: &[iovec], at: i64) -> Result<usize> {
    let (one, n) = fewer(iov);
    moved(|| preadv2(fd, if n == 1 { &one } else { iov }, at, libc::RWF_NOWAIT))
}

/// As `read_nowait`, for writing.
pub fn write_nowait(fd: RawFd, iov: &[iovec], at: i64) -> Result<usize> {
    let (one, n) = fewer(iov);
    write_quietly(iov, |quiet| pwritev2(fd, if n == 1 { &one } else { iov }, at, libc::RWF_NOWAIT | quiet))
}

/// Reads, waiting if need be.
///
/// # Safety
/// The buffers are there for this call to write to.
pub unsafe fn read(fd: RawFd, iov: &[iovec]) -> Result<usize> {
    let (one, n) = fewer(iov);
    let iov = if n == 1 { &one } else { iov };
    // SAFETY: by contract.
    moved(|| unsafe { libc::readv(fd, iov.as_ptr(), iov.len() as c_int) })
}

/// Writes, waiting if need be.
pub fn write(fd: RawFd, iov: &[iovec]) -> Result<usize> {
    let (one, n) = fewer(iov);
    let iov = if n == 1 { &one } else { iov };
    write_quietly(iov, |quiet| match quiet {
        // SAFETY: the kernel checks the buffers.
        0 => unsafe { libc::writev(fd, iov.as_ptr(), iov.len() as c_int) },
        _ => pwritev2(fd, iov, HERE, quiet),
    })
}

/// Reads at a place in a file, waiting if need be.
///
/// # Safety
/// The buffers are there for this call to write to.
pub unsafe fn read_there(fd: RawFd, iov: &[iovec], at: i64) -> Result<usize> {
    let (one, n) = fewer(iov);
    let iov = if n == 1 { &one } else { iov };
    // SAFETY: by contract.
    moved(|| unsafe { libc::preadv64(fd, iov.as_ptr(), iov.len() as c_int, at) })
}

/// Writes at a place in a file, waiting if need be.
pub fn write_there(fd: RawFd, iov: &[iovec], at: i64) -> Result<usize> {
    let (one, n) = fewer(iov);
    let iov = if n == 1 { &one } else { iov };
    // SAFETY: the kernel reads, and checks what it reads.
    moved(|| unsafe { libc::pwritev64(fd, iov.as_ptr(), iov.len() as c_int, at) })
}

/// A file's own position. ESPIPE.
pub fn position(fd: RawFd) -> Result<i64> {
    // SAFETY: no pointers.
    let at = unsafe { libc::lseek64(fd, 0, libc::SEEK_CUR) };
    if at < 0 { Err(Error::last_os()) } else { Ok(at) }
}

pub fn set_position(fd: RawFd, at: i64) -> Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::lseek64(fd, at, libc::SEEK_SET) } < 0 { Err(Error::last_os()) } else { Ok(()) }
}

/// Moves bytes of a file to something that takes them without waiting. `at` is where
/// they begin, and goes on; NULL: the file's own position.
pub fn sendfile(out: RawFd, file: RawFd, at: Option<&mut i64>, len: usize) -> Result<usize> {
    let at = at.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: `at` is NULL or a number to be read and written.
    without_sigpipe(len, || moved(|| unsafe { libc::sendfile64(out, file, at, most(len)) }))
}

/// Moves bytes between two descriptors, one of which is a pipe.
pub fn splice(from: RawFd, from_at: Option<&mut i64>, to: RawFd, to_at: Option<&mut i64>, len: usize) -> Result<usize> {
    let from_at = from_at.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let to_at = to_at.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    // SAFETY: both places are NULL or numbers to be read and written.
    without_sigpipe(len, || moved(|| unsafe { libc::splice(from, from_at, to, to_at, most(len), flags) }))
}

/// Makes a write without SIGPIPE: the kernel is told, or the signal is held back and
/// taken away. `call` gets the flag that tells the kernel, or 0.
fn write_quietly(iov: &[iovec], call: impl Fn(c_int) -> isize) -> Result<usize> {
    if knows_nosignal() {
        match moved(|| call(RWF_NOSIGNAL)) {
            Err(Error::OPNOTSUPP) => {} // this file takes no flags at all
            done => return done,
        }
    }
    without_sigpipe(iov.iter().map(|one| one.iov_len).sum(), || moved(|| call(0)))
}

/// Whether the kernel has RWF_NOSIGNAL (asked once).
fn knows_nosignal() -> bool {
    static KNOWS: Answer = Answer::new();
    KNOWS.get(|| {
        // SAFETY: a NUL-terminated path.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        if null < 0 {
            return false;
        }
        let byte = [0u8];
        let one = iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 };
        let knows = pwritev2(null, &[one], HERE, RWF_NOSIGNAL) == 1;
        super::close(null);
        knows
    })
}

/// `len`: how much would be all of it.
fn without_sigpipe(len: usize, call: impl FnOnce() -> Result<usize>) -> Result<usize> {
    // SAFETY: all-zero sets are valid values.
    let (mut pipe, mut pending): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // SAFETY: both sets are writable.
    let was_pending = unsafe {
        libc::sigemptyset(&mut pipe);
        libc::sigaddset(&mut pipe, libc::SIGPIPE);
        libc::sigpending(&mut pending);
        libc::sigismember(&pending, libc::SIGPIPE) == 1
    };
    // SAFETY: an all-zero set is a valid value.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both are sets.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before) };
    let result = call();
    // The signal also comes with a count, when the reader has left in the middle.
    let may_be_there = result.map_or_else(|e| e == Error::PIPE, |n| n < len);
    if may_be_there && !was_pending {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a set and a time; nobody wants to know more of the signal.
        unsafe { libc::sigtimedwait(&pipe, std::ptr::null_mut(), &at_once) };
    }
    // SAFETY: the mask from before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    result
}

/// Writes all of a text.
pub fn write_text(fd: RawFd, text: &str) -> Result<()> {
    without_sigpipe(text.len(), || super::write_all(fd, text.as_bytes()).map(|()| text.len())).map(drop)
}

/// Tells people, on stderr. When nobody reads that, or it is full, nobody is told.
pub fn tell(text: &str) {
    let _ = write_text(libc::STDERR_FILENO, text);
}

/// Whether poll(2) says nothing about it: regular files, directories and disks.
pub fn is_file(fd: RawFd) -> bool {
    // SAFETY: an all-zero stat is a valid value.
    let mut s: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `s` is writable.
    let known = unsafe { libc::fstat(fd, &mut s) } == 0;
    known && matches!(s.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK)
}

/// Whether its calls return EAGAIN rather than wait.
pub fn is_nonblocking(fd: RawFd) -> Result<bool> {
    // SAFETY: no pointers.
    Ok(check(unsafe { libc::fcntl(fd, libc::F_GETFL) })? & libc::O_NONBLOCK != 0)
}

pub fn set_nonblocking(fd: RawFd, nonblocking: bool) -> Result<()> {
    may_fail(Call::Socket)?;
    let mut on = c_int::from(nonblocking);
    // SAFETY: FIONBIO reads an int.
    check(unsafe { libc::ioctl(fd, libc::FIONBIO, &mut on) }).map(drop)
}

/// Children that run another program do not get it.
pub fn close_on_exec(fd: RawFd) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Closes a descriptor of the caller's; EBADF.
pub fn close(fd: RawFd) -> Result<()> {
    // SAFETY: a number that is no descriptor is refused.
    match check(unsafe { libc::close(fd) }) {
        Err(Error::INTR) => Ok(()), // on Linux it is closed nevertheless
        done => done.map(drop),
    }
}

// ---- making them --------------------------------------------------------------------

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just given it to us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<OwnedFd> {
    may_fail(Call::Open)?;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) };
    check(fd).map(owned)
}

pub fn socketpair(domain: c_int, kind: c_int, protocol: c_int) -> Result<[OwnedFd; 2]> {
    may_fail(Call::Open)?;
    let mut pair = [-1; 2];
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: two writable ints.
    check(unsafe { libc::socketpair(domain, kind, protocol, pair.as_mut_ptr()) })?;
    Ok(pair.map(owned))
}

pub fn pipe() -> Result<[OwnedFd; 2]> {
    may_fail(Call::Open)?;
    let mut ends = [-1; 2];
    // SAFETY: two writable ints.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
    Ok(ends.map(owned))
}

/// The next connection, non-blocking. The listener waits if it is blocking itself.
///
/// # Safety
/// `address` and `len` are as for accept(2).
pub unsafe fn accept(fd: RawFd, address: *mut sockaddr, len: *mut socklen_t) -> Result<OwnedFd> {
    may_fail(Call::Open)?;
    loop {
        // SAFETY: by contract.
        let new = unsafe { libc::accept4(fd, address, len, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) };
        match check(new) {
            Err(Error::INTR) => {}
            new => return new.map(owned),
        }
    }
}

/// A descriptor to give up when there are no others.
pub fn spare() -> Result<OwnedFd> {
    may_fail(Call::Open)?;
    // SAFETY: a NUL-terminated path.
    check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }).map(owned)
}

// ---- sockets in the file system -----------------------------------------------------

/// What a socket in the file system is, device and inode, if `path` is one.
pub fn socket_file(path: &CStr) -> Option<(u64, u64)> {
    // SAFETY: an all-zero stat is a valid value.
    let mut s: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated, `s` is writable.
    let known = unsafe { libc::lstat(path.as_ptr(), &mut s) } == 0;
    (known && s.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some((s.st_dev, s.st_ino))
}

pub fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: NUL-terminated.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

// ---- what can be done to sockets ----------------------------------------------------

/// # Safety
/// `address` points to `len` bytes.
pub unsafe fn bind(fd: RawFd, address: *const sockaddr, len: socklen_t) -> Result<()> {
    may_fail(Call::Socket)?;
    // SAFETY: by contract.
    check(unsafe { libc::bind(fd, address, len) }).map(drop)
}

pub fn listen(fd: RawFd, backlog: c_int) -> Result<()> {
    may_fail(Call::Socket)?;
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd, backlog) }).map(drop)
}

/// # Safety
/// `address` points to `len` bytes.
pub unsafe fn connect(fd: RawFd, address: *const sockaddr, len: socklen_t) -> Result<()> {
    may_fail(Call::Socket)?;
    // SAFETY: by contract.
    check(unsafe { libc::connect(fd, address, len) }).map(drop)
}

pub fn shutdown(fd: RawFd, how: c_int) -> Result<()> {
    may_fail(Call::Socket)?;
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(fd, how) }).map(drop)
}

pub fn get_option<T: Default>(fd: RawFd, level: c_int, name: c_int) -> Result<T> {
    may_fail(Call::Socket)?;
    let mut value = T::default();
    let mut len = size_of::<T>() as socklen_t;
    // SAFETY: `value` has room for `len` bytes; options are plain numbers.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

pub fn set_option<T>(fd: RawFd, level: c_int, name: c_int, value: &T) -> Result<()> {
    may_fail(Call::Socket)?;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: `value` has that many bytes.
    check(unsafe { libc::setsockopt(fd, level, name, value, size_of::<T>() as socklen_t) }).map(drop)
}

/// # Safety
/// `address` and `len` are as for getsockname(2).
pub unsafe fn local_address(fd: RawFd, address: *mut sockaddr, len: *mut socklen_t) -> Result<()> {
    may_fail(Call::Socket)?;
    // SAFETY: by contract.
    check(unsafe { libc::getsockname(fd, address, len) }).map(drop)
}

/// # Safety
/// `address` and `len` are as for getpeername(2).
pub unsafe fn peer_address(fd: RawFd, address: *mut sockaddr, len: *mut socklen_t) -> Result<()> {
    may_fail(Call::Socket)?;
    // SAFETY: by contract.
    check(unsafe { libc::getpeername(fd, address, len) }).map(drop)
}
