//! Regular files, whose reads and writes may wait for a disk: a thread does those.
//!
//! What the page cache has, or has room for, is moved at once (RWF_NOWAIT, see `rw`). For
//! the rest a job reads into memory of its own, or writes a copy: whoever is killed or out
//! of time leaves at once, and the job touches nothing of his.
//!
//! A read moves the file's position itself, when it has the bytes. So a read that was given
//! up has read nothing, and of two at a time the later one begins again behind the first.

use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::sys::descriptor::{self as sys, HERE};
use crate::threadpool;
use crate::time::Deadline;
use libc::iovec;
use std::os::fd::RawFd;
use std::sync::Arc;

/// So much is moved at a time: it takes that memory a second time.
pub const MOST: usize = 1 << 20;

fn total(iov: &[iovec]) -> usize {
    iov.iter().fold(0usize, |all, one| all.saturating_add(one.iov_len))
}

/// Runs `work` in a thread; here, when there is no thread to be had.
fn offload<T: Send + 'static>(
    hub: &Hub,
    deadline: Deadline,
    work: impl Fn() -> Result<T> + Send + Clone + 'static,
) -> Result<T> {
    match threadpool::default().offload(hub, work.clone(), deadline) {
        Err(Error::AGAIN) => work(),
        done => done?,
    }
}

fn read_anew(fd: RawFd, at: i64, len: usize) -> Result<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::NOMEM)?;
    let room = [iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len }];
    // SAFETY: the vector's room.
    let n = unsafe { sys::read_there(fd, &room, at) }?;
    // SAFETY: the kernel has written so many.
    unsafe { bytes.set_len(n) };
    Ok(bytes)
}

/// Copies `bytes` to the buffers.
///
/// # Safety
/// The buffers are there for this call to write to, and have room.
unsafe fn scatter(mut bytes: &[u8], iov: &[iovec]) {
    for one in iov {
        let (now, later) = bytes.split_at(one.iov_len.min(bytes.len()));
        // SAFETY: by contract.
        unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), one.iov_base.cast(), now.len()) };
        bytes = later;
    }
}

fn gather(iov: &[iovec]) -> Result<Vec<u8>> {
    let len = total(iov).min(MOST);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::NOMEM)?;
    for one in iov {
        let n = one.iov_len.min(len - bytes.len());
        // SAFETY: the caller's buffers, to be read.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(one.iov_base.cast(), n) });
    }
    Ok(bytes)
}

/// Reads a file at `at`, or HERE. What is no file never waits, and is read directly.
///
/// # Safety
/// The buffers are there for this call to write to.
#[cold]
pub unsafe fn read(hub: &Hub, fd: RawFd, iov: &[iovec], at: i64, deadline: Deadline) -> Result<usize> {
    let len = total(iov).min(MOST);
    if deadline.is_now() || len == 0 || !sys::is_file(fd) {
        // SAFETY: by contract.
        return unsafe { if at == HERE { sys::read(fd, iov) } else { sys::read_there(fd, iov, at) } };
    }
    let life = hub.poller().life(fd);
    loop {
        let from = if at == HERE { sys::position(fd)? } else { at };
        let bytes = offload(hub, deadline, move || read_anew(fd, from, len))?;
        if hub.poller().life(fd) != life {
            return Err(Error::BADF);
        }
        if at == HERE {
            if sys::position(fd)? != from {
                continue; // somebody else has read this meanwhile
            }
            sys::set_position(fd, from + bytes.len() as i64)?;
        }
        // SAFETY: by contract; no more was read than they hold.
        unsafe { scatter(&bytes, iov) };
        return Ok(bytes.len());
    }
}

/// As `read`, for writing.
#[cold]
pub fn write(hub: &Hub, fd: RawFd, iov: &[iovec], at: i64, deadline: Deadline) -> Result<usize> {
    if deadline.is_now() || total(iov) == 0 || !sys::is_file(fd) {
        return if at == HERE { sys::write(fd, iov) } else { sys::write_there(fd, iov, at) };
    }
    let bytes = Arc::new(gather(iov)?);
    offload(hub, deadline, move || {
        let one = [iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }];
        if at == HERE { sys::write(fd, &one) } else { sys::write_there(fd, &one, at) }
    })
}

/// Has `len` bytes of a file from `at` on (or its own position) in memory, if it is one and
/// they are not there, by reading them in a thread.
pub fn bring_in(hub: &Hub, fd: RawFd, at: Option<i64>, len: usize, deadline: Deadline) -> Result<()> {
    if len == 0 || !sys::is_file(fd) {
        return Ok(());
    }
    let at = at.map_or_else(|| sys::position(fd), Ok)?;
    let last = at.saturating_add(len as i64 - 1);
    if is_in_memory(fd, at) && is_in_memory(fd, last) {
        return Ok(());
    }
    offload(hub, deadline, move || read_anew(fd, at, len)).map(drop)
}

/// Also what lies behind the end; also where the kernel does not say.
fn is_in_memory(fd: RawFd, at: i64) -> bool {
    let mut byte = 0u8;
    let one = [iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 }];
    // SAFETY: a byte of ours.
    unsafe { sys::read_nowait(fd, &one, at) != Err(Error::AGAIN) }
}
