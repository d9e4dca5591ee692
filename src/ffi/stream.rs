//! Streams.
//!
//! A stream is a descriptor with a buffer for each direction: lines, delimited and counted pieces
//! are read from it, and small writes are gathered. It holds no buffer while it waits for its first
//! byte, nor when all has been read and flushed. While a stream is used its descriptor should not be
//! read and written directly.
//!
//! A call that fails has lost nothing: what it had read stays in the stream and is what the next
//! one finds. After WEALD_ECONNRESET whoever wants more gets it again, and no end. Pointers into
//! the stream (weald_stream_line, weald_stream_read_until, weald_stream_peek) are good until the
//! next call that reads from it or closes it. One greenlet at a time may read a stream, and one
//! write it (WEALD_EBUSY).
//!
//! A stream over which TLS is spoken, see weald_tls_connect, is read and written like any other. Its
//! calls can also fail with WEALD_EPROTO, WEALD_ECERTIFICATE and WEALD_ECONNABORTED, as
//! weald_tls_connect does.

#![allow(non_camel_case_types)]

use super::rw::bytes;
use super::{blocking, existing, fence, fence64, options, put, slice, some, wanted};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object;
use crate::stream::{Foreign, Stream};
use crate::time::Deadline;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

/// A handle to a stream.
pub type weald_stream = i64;

/// Reads up to `len` bytes into `buffer`, waiting for them until `deadline`: how many, 0 at the end, or a
/// code.
pub type weald_stream_read_fn =
    Option<extern "C-unwind" fn(buffer: *mut c_void, len: usize, deadline: i64, user: *mut c_void) -> i64>;

/// Writes some of `data`, as above.
pub type weald_stream_write_fn =
    Option<extern "C-unwind" fn(data: *const c_void, len: usize, deadline: i64, user: *mut c_void) -> i64>;

/// Is called when a stream has been closed, and no call of it is left.
pub type weald_stream_close_fn = Option<extern "C-unwind" fn(user: *mut c_void)>;

/// What a stream reads and writes by instead of a descriptor.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct weald_stream_functions {
    pub size: usize,
    pub read: weald_stream_read_fn,
    pub write: weald_stream_write_fn,
    /// NULL: nobody is told.
    pub close: weald_stream_close_fn,
}

/// The descriptor stays the caller's: weald_close does not close it.
pub const WEALD_STREAM_BORROWS: c_int = 1;

/// How a stream is made; begin with `{.size = sizeof options}`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct weald_stream_options {
    pub size: usize,
    /// 0, or WEALD_STREAM_BORROWS.
    pub flags: c_int,
    /// How much is read ahead at most; 0: 64 KiB.
    pub read_max: usize,
    /// How much weald_stream_write gathers before it writes; 0: 16 KiB.
    pub write_size: usize,
}

/// Makes a stream of a descriptor, which belongs to it from now on: weald_close closes both. If the
/// call fails it stays the caller's. `how`: NULL for the usual. What has been written and not
/// flushed is lost with the close. Whoever reads or writes the stream when it is closed fails with
/// WEALD_EBADF. Does not switch. Fails with WEALD_EBADF (no open descriptor), WEALD_EINVAL (other
/// flags; no `size`), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_new(fd: c_int, how: *const weald_stream_options) -> weald_stream {
    fence64(|hub| {
        // SAFETY: NULL or an option struct of the caller's.
        let how = unsafe { options(how) }?;
        if how.flags & !WEALD_STREAM_BORROWS != 0 {
            return Err(Error::INVAL);
        }
        Stream::create(hub, fd, how.flags & WEALD_STREAM_BORROWS == 0, how.read_max, how.write_size)
    })
}

/// Makes a stream that reads and writes by calls of `functions`, which get `user` and may wait: over
/// somebody else's TLS, or in memory. A code that they return is what the stream's call fails with.
/// `how`: NULL for the usual; its flags are 0. It has no descriptor (weald_stream_fd: WEALD_EBADF), no
/// TLS of its own (WEALD_EINVAL) and no WebSocket (WEALD_EINVAL), and weald_stream_end flushes it and
/// fails with WEALD_ENOTSOCK. Does not switch. Fails with WEALD_EINVAL (`functions`, or one of the
/// first two, NULL; flags; no `size`), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_over(
    functions: *const weald_stream_functions,
    user: *mut c_void,
    how: *const weald_stream_options,
) -> weald_stream {
    fence64(|hub| {
        wanted(functions.cast_mut())?;
        // SAFETY: structs of the caller's; `how` may be NULL.
        let (functions, how) = unsafe { (options(functions)?, options(how)?) };
        if how.flags != 0 {
            return Err(Error::INVAL);
        }
        let (read, write) = (some(functions.read)?, some(functions.write)?);
        let foreign = Foreign { read, write, close: Cell::new(functions.close), user };
        Stream::over(hub, foreign, how.read_max, how.write_size)
    })
}

fn with<R>(hub: &Hub, s: weald_stream, f: impl FnOnce(&Stream) -> Result<R>) -> Result<R> {
    f(object::get::<Stream>(hub, s)?)
}

/// Reads what is there, up to `len` bytes, from the stream's buffer or else from the descriptor, and
/// waits while that is nothing. Returns how many; 0 at the end. May switch. Fails with WEALD_EBADF
/// (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`buffer` NULL), WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
/// a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_stream_read(s: weald_stream, buffer: *mut c_void, len: usize, deadline: i64) -> i64 {
    blocking!(read)
}

extern "C" fn read(s: weald_stream, buffer: *mut c_void, len: usize, deadline: i64) -> i64 {
    fence64(|hub| {
        bytes(buffer, len)?;
        // SAFETY: the caller's buffer, which is the call's until it returns.
        with(hub, s, |s| unsafe { s.read(hub, buffer.cast(), len, Deadline::from_raw(deadline)) })
    })
}

/// Reads `len` bytes, all of them. `*done` (NULL: not wanted) says how many are in `buffer`, also
/// when the call fails. May switch. Returns 0. Fails with WEALD_EPIPE (the end came first),
/// WEALD_EBADF (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`buffer` NULL),
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_read_exact(
    s: weald_stream,
    buffer: *mut c_void,
    len: usize,
    done: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        bytes(buffer, len)?;
        let stream = object::get::<Stream>(hub, s)?;
        // SAFETY: the caller's buffer, which is the call's until it returns.
        let (n, result) = unsafe { stream.read_exact(hub, buffer.cast(), len, Deadline::from_raw(deadline)) };
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(done, n) };
        result
    })
}

/// Reads a line, of up to `max` bytes, and returns 1; 0 at the end, and no line. `*line` points into
/// the stream, without "\n" or "\r\n" and with a NUL behind it; `*len` (NULL: not wanted) is its
/// length. The last line need not end. After WEALD_EMSGSIZE the line is still there, to be read
/// otherwise. May switch. Fails with WEALD_EBADF (also when it or its descriptor is closed
/// meanwhile), WEALD_EINVAL (`line` NULL), WEALD_EMSGSIZE (longer than `max`), WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
/// a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_line(
    s: weald_stream,
    line: *mut *const c_char,
    len: *mut usize,
    max: usize,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        wanted(line)?;
        let stream = object::get::<Stream>(hub, s)?;
        let Some(found) = stream.line(hub, max, Deadline::from_raw(deadline))? else { return Ok(false) };
        // SAFETY: not NULL, or NULL and not wanted; writable by the caller.
        unsafe {
            put(line, found.as_ptr().cast());
            put(len, found.len());
        }
        Ok(true)
    })
}

/// Reads up to `delimiter`, `n` bytes that are dropped behind `max` others at most, and returns 1; 0
/// at the end, when nothing is left. `*data` points into the stream, `*len` says how many bytes
/// there are. May switch. Fails with WEALD_EPIPE (the end came before the delimiter), WEALD_EBADF
/// (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`delimiter`, `data` or `len`
/// NULL; `n` 0), WEALD_EMSGSIZE (more than `max`), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_read_until(
    s: weald_stream,
    delimiter: *const c_void,
    n: usize,
    data: *mut *const c_void,
    len: *mut usize,
    max: usize,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        wanted(data)?;
        wanted(len)?;
        // SAFETY: the caller's bytes, which stay until the call returns.
        let delimiter = unsafe { slice(delimiter.cast::<u8>(), n) }?;
        let stream = object::get::<Stream>(hub, s)?;
        let found = stream.until(hub, delimiter, max, Deadline::from_raw(deadline))?;
        let Some(found) = found else { return Ok(false) };
        // SAFETY: neither is NULL; writable by the caller.
        unsafe {
            put(data, found.as_ptr().cast());
            put(len, found.len());
        }
        Ok(true)
    })
}

/// Waits until at least `n` bytes are in the stream's buffer, for weald_stream_peek, and returns how
/// many there are; fewer at the end. May switch. Fails with WEALD_EBADF (also when it or its
/// descriptor is closed meanwhile), WEALD_EINVAL (`n` larger than `read_max`), WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
/// a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_fill(s: weald_stream, n: usize, deadline: i64) -> i64 {
    fence64(|hub| with(hub, s, |s| s.may_fill(n).and_then(|()| s.fill(hub, n, Deadline::from_raw(deadline)))))
}

/// Shows what is in the stream's buffer and leaves it there: `*data` points to it (NULL when that is
/// nothing), and the call returns how many bytes there are. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM, WEALD_EBUSY (another greenlet reads), WEALD_EINVAL (`data` NULL).
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_peek(s: weald_stream, data: *mut *const c_void) -> i64 {
    fence64(|hub| {
        wanted(data)?;
        with(hub, s, |s| {
            let there = s.peek_alone(hub)?;
            let at = if there.is_empty() { std::ptr::null() } else { there.as_ptr().cast() };
            // SAFETY: not NULL; writable by the caller.
            unsafe { put(data, at) };
            Ok(there.len())
        })
    })
}

/// Drops `n` bytes of the stream's buffer, which have been seen with weald_stream_peek. Does not
/// switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EINVAL (more than
/// there are).
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_skip(s: weald_stream, n: usize) -> c_int {
    fence(|hub| with(hub, s, |s| s.skip(hub, n)))
}

/// Puts `len` bytes in front of what is in the stream's buffer, copied: they are read next. For those who
/// have looked at what was not for them. Does not switch. Returns 0. Fails with WEALD_EINVAL (`data`
/// NULL), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_unread(s: weald_stream, data: *const c_void, len: usize) -> c_int {
    fence(|hub| {
        // SAFETY: the caller's bytes, which stay until the call returns.
        let data = unsafe { slice(data.cast::<u8>(), len) }?;
        with(hub, s, |s| s.unread(hub, data))
    })
}

/// Takes `len` bytes over, all of them: they are gathered in the stream's buffer until it is full,
/// and then written. `*done` (NULL: not wanted) says how many were taken, also when the call fails.
/// May switch. Returns 0. Fails with WEALD_EPIPE (nobody reads it any more), WEALD_EBADF (also when
/// it or its descriptor is closed meanwhile), WEALD_EINVAL (`data` NULL), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
/// a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_write(
    s: weald_stream,
    data: *const c_void,
    len: usize,
    done: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        // SAFETY: the caller's bytes, which stay until the call returns.
        let data = unsafe { slice(data.cast::<u8>(), len) }?;
        let (n, result) = object::get::<Stream>(hub, s)?.write(hub, data, Deadline::from_raw(deadline));
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(done, n) };
        result
    })
}

/// Writes what has been gathered; what could not be written when the call fails is kept. May switch.
/// Returns 0. Fails with WEALD_EPIPE (nobody reads it any more), WEALD_EBADF (also when it or its
/// descriptor is closed meanwhile), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_flush(s: weald_stream, deadline: i64) -> c_int {
    fence(|hub| with(hub, s, |s| s.flush(hub, Deadline::from_raw(deadline))))
}

/// Writes what has been gathered and says that no more will come: the other side reads the end when
/// it has read the rest. Reading goes on. May switch. Returns 0. Fails with WEALD_EPIPE (nobody reads
/// it any more), WEALD_ENOTSOCK (what is no socket can only be closed), WEALD_EBADF (also when it or
/// its descriptor is closed meanwhile), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_end(s: weald_stream, deadline: i64) -> c_int {
    fence(|hub| with(hub, s, |s| s.end(hub, Deadline::from_raw(deadline))))
}

/// How many bytes have been gathered and not flushed. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_unsent(s: weald_stream) -> i64 {
    fence64(|hub| with(hub, s, |s| Ok(s.unsent())))
}

/// The stream's descriptor, which stays the stream's: for options, addresses and weald_shutdown.
/// Does not switch. Fails with WEALD_EBADF (also when it has none, see weald_stream_over), WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_fd(s: weald_stream) -> c_int {
    match existing::<Stream>(s) {
        Some((_, stream)) if !stream.has_fd() => Error::BADF.code(),
        Some((_, stream)) => stream.fd(),
        None => super::no_object::<Stream>(s),
    }
}
