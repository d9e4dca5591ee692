//! Reading and writing.
//!
//! Descriptors of every kind: sockets, pipes, terminals, eventfds and the like, and files. Each call
//! tries first and lets other greenlets run while there is nothing to read or no room to write. The
//! descriptor stays the caller's, its flags stay as they are, and it may be blocking. No call raises
//! SIGPIPE, and none returns WEALD_EINTR by itself. What is no memory for the kernel to use is
//! WEALD_EFAULT.
//!
//! One greenlet at a time may wait to read a descriptor, and one to write it (WEALD_EBUSY). A
//! greenlet that is killed, interrupted or out of time has lost nothing: what was read or written is
//! reported, and a call that fails has read nothing. Files are the exception for writing: a thread
//! does what the kernel can not do at once, and goes on with it when its greenlet does not wait any
//! more.
//!
//! Besides the codes that stand with a function it fails with those of its system call, such as
//! WEALD_ECONNRESET or -EIO.

use super::{blocking, fence, fence_any, fence64, put, quick, quick64, slice, wanted};
use crate::error::{Error, Result};
use crate::net::socket;
use crate::sys::descriptor as sys;
use crate::time::Deadline;
use crate::{rw, splice};
use libc::iovec;
use std::ffi::{c_int, c_void};
use std::os::fd::IntoRawFd;

/// What the caller says is so many bytes.
#[inline(always)]
pub(super) fn bytes<T>(at: *const T, len: usize) -> Result<()> {
    if at.is_null() && len > 0 { Err(Error::INVAL) } else { Ok(()) }
}

/// Reads what is there, up to `len` bytes, and waits while that is nothing. Returns how many; 0 at
/// the end: of a file, or when the other end has closed. Of a datagram what has no room in `buffer`
/// is lost. Of a file that is not in memory a megabyte at most is read at a time. A fifo that nobody
/// has opened to write yet is waited for. May switch. Fails
/// with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`buffer` NULL),
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_read(fd: c_int, buffer: *mut c_void, len: usize, deadline: i64) -> i64 {
    blocking!(read)
}

extern "C" fn read(fd: c_int, buffer: *mut c_void, len: usize, deadline: i64) -> i64 {
    quick64(|hub| {
        bytes(buffer, len)?;
        // SAFETY: the caller's buffer, which is the call's until it returns.
        unsafe { rw::read_at(hub, fd, buffer.cast(), len, Deadline::from_raw(deadline)) }
    })
}

/// Writes what there is room for, up to `len` bytes, and waits while that is none. Returns how many.
/// May switch. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
/// WEALD_EINVAL (`data` NULL), WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
/// a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_write(fd: c_int, data: *const c_void, len: usize, deadline: i64) -> i64 {
    blocking!(write)
}

extern "C" fn write(fd: c_int, data: *const c_void, len: usize, deadline: i64) -> i64 {
    quick64(|hub| {
        bytes(data, len)?;
        rw::write_at(hub, fd, data.cast(), len, Deadline::from_raw(deadline))
    })
}

/// The caller's buffers.
///
/// # Safety
/// `iov` is NULL or points to `n` of them, which stay for `'a`.
unsafe fn buffers<'a>(iov: *const iovec, n: usize) -> Result<&'a [iovec]> {
    // SAFETY: by contract.
    let iov = unsafe { slice(iov, n) }?;
    if n > sys::IOV_MAX {
        return Err(Error::INVAL);
    }
    iov.iter().try_for_each(|one| bytes(one.iov_base, one.iov_len))?;
    Ok(iov)
}

/// As weald_read, into `n` buffers, one after the other. May switch. Fails with WEALD_EBADF (no open
/// descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`iov` or a buffer NULL; more than 1024),
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_readv(fd: c_int, iov: *const iovec, n: usize, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's, which are the call's until it returns.
        unsafe { rw::readv(hub, fd, buffers(iov, n)?, Deadline::from_raw(deadline)) }
    })
}

/// As weald_write, from `n` buffers, one after the other. May switch. Fails with WEALD_EBADF (no
/// open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`iov` or a buffer NULL; more than
/// 1024), WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_writev(fd: c_int, iov: *const iovec, n: usize, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's, which stay until the call returns.
        rw::writev(hub, fd, unsafe { buffers(iov, n) }?, Deadline::from_raw(deadline))
    })
}

/// Reads `len` bytes, all of them. `*done` (NULL: not wanted) says how many were read, also when the
/// call fails. May switch. Returns 0. Fails with WEALD_EPIPE (the end came first), WEALD_EBADF (no
/// open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`buffer` NULL), WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
/// a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_read_exact(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    done: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        bytes(buffer, len)?;
        // SAFETY: the caller's buffer, which is the call's until it returns.
        let (n, result) = unsafe { rw::read_exact(hub, fd, buffer.cast(), len, Deadline::from_raw(deadline)) };
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(done, n) };
        result
    })
}

/// Writes `len` bytes, all of them. `*done` (NULL: not wanted) says how many were written, also when
/// the call fails. May switch. Returns 0. Fails with WEALD_EPIPE (nobody reads it any more),
/// WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL (`data` NULL),
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_write_all(
    fd: c_int,
    data: *const c_void,
    len: usize,
    done: *mut usize,
    deadline: i64,
) -> c_int {
    quick(|hub| {
        bytes(data, len)?;
        let (n, result) = rw::write_all_at(hub, fd, data.cast(), len, Deadline::from_raw(deadline));
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(done, n) };
        result
    })
}

/// Reads up to `len` bytes of a file from `offset` on; its own position stays. Returns how many; 0
/// at the end. What is in memory is read at once, the rest by a thread, a megabyte at most at a
/// time. Any number of greenlets may read and write one file so. May switch. Fails with WEALD_EBADF
/// (no open descriptor), WEALD_EINVAL (`buffer` NULL; `offset` negative), WEALD_ESPIPE (no file),
/// WEALD_EPERM, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_pread(fd: c_int, buffer: *mut c_void, len: usize, offset: i64, deadline: i64) -> i64 {
    fence64(|hub| {
        bytes(buffer, len)?;
        let one = [iovec { iov_base: buffer, iov_len: len }];
        // SAFETY: the caller's buffer, which is the call's until it returns.
        unsafe { rw::pread(hub, fd, &one, offset, Deadline::from_raw(deadline)) }
    })
}

/// Writes up to `len` bytes to a file at `offset`; its own position stays. Returns how many. What
/// the kernel can not do at once a thread does, a megabyte at most at a time: when the call is cut
/// short by its deadline or a kill the thread goes on, and whether the bytes are written is not
/// known. May switch. Fails with WEALD_EBADF (no open descriptor), WEALD_EINVAL (`data` NULL;
/// `offset` negative), WEALD_ESPIPE (no file), WEALD_EPERM, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_pwrite(fd: c_int, data: *const c_void, len: usize, offset: i64, deadline: i64) -> i64 {
    fence64(|hub| {
        bytes(data, len)?;
        let one = [iovec { iov_base: data.cast_mut(), iov_len: len }];
        rw::pwrite(hub, fd, &one, offset, Deadline::from_raw(deadline))
    })
}

/// A number that the caller gave a place for.
///
/// # Safety
/// `at` is NULL or points to a number that is `'a`'s alone.
unsafe fn place<'a>(at: *mut i64) -> Result<Option<&'a mut i64>> {
    // SAFETY: by contract.
    let place = unsafe { at.as_mut() };
    if place.as_ref().is_some_and(|p| **p < 0) { Err(Error::INVAL) } else { Ok(place) }
}

/// Sends up to `len` bytes of a file to `out_fd`, all of them if it is so long. `*offset` says where
/// they begin and goes on with each that is sent; NULL: they begin at the file's own position, which
/// goes on. So a call that fails has told what was sent before. Returns how many; 0 at the file's
/// end. What is not in memory a thread reads first. `file_fd` may be a pipe, as for weald_splice.
/// May switch. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
/// WEALD_EINVAL (`*offset` negative; `file_fd` is neither file nor pipe), WEALD_ESPIPE (an offset
/// for what is no file), WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child
/// that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_sendfile(out_fd: c_int, file_fd: c_int, offset: *mut i64, len: usize, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: NULL or a number of the caller's.
        let place = unsafe { place(offset) }?;
        splice::sendfile(hub, out_fd, file_fd, place, len, Deadline::from_raw(deadline), || Ok(()))
    })
}

/// Moves up to `len` bytes from one descriptor to the other without copying them; one of the two is
/// a pipe. The offsets are for files, and as for weald_sendfile. Returns how many; 0 at the end. May
/// switch. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_EINVAL
/// (an offset negative; neither is a pipe), WEALD_ESPIPE (an offset for what is no file),
/// WEALD_EPIPE (nobody reads it any more), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_splice(
    in_fd: c_int,
    in_offset: *mut i64,
    out_fd: c_int,
    out_offset: *mut i64,
    len: usize,
    deadline: i64,
) -> i64 {
    fence64(|hub| {
        // SAFETY: NULL or numbers of the caller's.
        let (from, to) = unsafe { ((in_fd, place(in_offset)?), (out_fd, place(out_offset)?)) };
        splice::splice(hub, from, to, len, Deadline::from_raw(deadline))
    })
}

/// Makes a pipe: what is written to `ends[1]` is read from `ends[0]`. Both are non-blocking and
/// closed on exec. From any thread; does not switch. Returns 0. Fails with WEALD_EINVAL (`ends` NULL), WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_pipe(ends: *mut c_int) -> c_int {
    fence_any(|| {
        wanted(ends)?;
        put_pair(ends, socket::pipe()?);
        Ok(())
    }) as c_int
}

/// Writes two descriptors, the caller's from now on, to `ends`, which is not NULL.
pub(super) fn put_pair(ends: *mut c_int, pair: [std::os::fd::OwnedFd; 2]) {
    let pair = pair.map(IntoRawFd::into_raw_fd);
    // SAFETY: not NULL; room for two, by the caller.
    unsafe { ends.cast::<[c_int; 2]>().write(pair) };
}

/// Closes a descriptor, of whatever kind: whoever of this thread's greenlets waits for it fails with
/// WEALD_EBADF, once, and its watchers stop. After a close(2) of one's own they learn of it up to a
/// second later, and who then waits for a new descriptor of the same number may be told a
/// millisecond too late, the first few times a tenth of a second. From any thread; does not switch.
/// Returns how many waits and watchers there were. Fails with WEALD_EBADF.
#[unsafe(no_mangle)]
pub extern "C" fn weald_close_fd(fd: c_int) -> c_int {
    fence_any(|| rw::close(fd)) as c_int
}
