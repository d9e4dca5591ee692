//! Files.
//!
//! What can take time at a disk or a server runs in threads of the library's, at most sixteen at a
//! time, while the greenlets go on. Whoever waits may leave at any time, by deadline, kill or
//! interrupt: a call that has not begun then never will. One that has begun goes on in its thread,
//! which touches no memory of the caller's: what it still opens is closed, what it still reads is
//! dropped, but what it writes or removes is written or removed. Do not close its descriptor
//! meanwhile.
//!
//! Descriptors are plain ones, and other calls may be made on them as well. Names are looked for
//! from the folder that the process is in. Every code with which the system refuses may come, as
//! -EISDIR or -ENOSPC.

#![allow(non_camel_case_types)]

use super::{fence, fence64, put, slice, slice_mut, wanted};
use crate::error::{Error, Result};
use crate::file::{self, Folder};
use crate::object;
use crate::time::Deadline;
use libc::stat;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

/// A handle to what a folder holds.
pub type weald_folder = i64;

/// A copy of a path for a thread. EINVAL for NULL.
fn path(at: *const c_char) -> Result<CString> {
    if at.is_null() {
        return Err(Error::INVAL);
    }
    // SAFETY: not NULL, so a C string, by the caller.
    let bytes = unsafe { CStr::from_ptr(at) }.to_bytes_with_nul();
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Error::NOMEM)?;
    copy.extend_from_slice(bytes);
    CString::from_vec_with_nul(copy).map_err(|_| Error::INVAL)
}

/// Opens a file as open(2) does, with its `flags` and, for a new file, its `mode`: a descriptor,
/// which no child inherits. May switch. Fails with WEALD_EINVAL (`name` NULL), WEALD_ENOENT,
/// WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_open(name: *const c_char, flags: c_int, mode: c_uint, deadline: i64) -> c_int {
    fence(|hub| file::open(hub, path(name)?, flags, mode, Deadline::from_raw(deadline)))
}

/// Closes a descriptor that may take its time, of a file on a server perhaps, and tells what became
/// of earlier writes. It is closed in any case, also when the call fails with another code than
/// WEALD_EBADF; greenlets of this thread that wait for it get WEALD_EBADF. May switch. Returns 0.
/// Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_close(fd: c_int, deadline: i64) -> c_int {
    fence(|hub| file::close(hub, fd, Deadline::from_raw(deadline)))
}

/// Reads `len` bytes at `offset`, fewer only at the end of the file, or when something fails after
/// the first of them; the file's own position stays. What the system has in memory is read at once,
/// without a thread. May switch. Returns how many. Fails with WEALD_EINVAL (`buffer` NULL; an
/// `offset` below 0), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_read(fd: c_int, buffer: *mut c_void, len: usize, offset: i64, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's buffer, which stays while this greenlet waits; written by it alone.
        let into = unsafe { slice_mut(buffer.cast::<u8>(), len) }?;
        file::read(hub, fd, into, offset, Deadline::from_raw(deadline))
    })
}

/// Writes `len` bytes at `offset`, fewer only when something fails after the first of them; the
/// file's own position stays. The bytes are copied, a megabyte at a time. When the call fails the
/// first of them may still be written, see above. May switch. Returns how many. Fails with
/// WEALD_EINVAL (`data` NULL; an `offset` below 0), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN
/// (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_write(fd: c_int, data: *const c_void, len: usize, offset: i64, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's data, which stays while this greenlet waits.
        let bytes = unsafe { slice(data.cast::<u8>(), len) }?;
        file::write(hub, fd, bytes, offset, Deadline::from_raw(deadline))
    })
}

/// Waits until what was written to `fd` is on the disk; with `data_only` as fdatasync(2) does, else
/// as fsync(2). May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN
/// (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_sync(fd: c_int, data_only: c_int, deadline: i64) -> c_int {
    fence(|hub| file::sync(hub, fd, data_only != 0, Deadline::from_raw(deadline)))
}

/// Makes a file `length` bytes long. May switch. Returns 0. Fails with WEALD_EINVAL (below 0; not
/// opened to be written), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be
/// had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
/// callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_truncate(fd: c_int, length: i64, deadline: i64) -> c_int {
    fence(|hub| file::truncate(hub, fd, length, Deadline::from_raw(deadline)))
}

/// Fills in `*status` as stat(2) does. May switch. Returns 0. Fails with WEALD_EINVAL (`name` or
/// `status` NULL), WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_stat(name: *const c_char, status: *mut stat, deadline: i64) -> c_int {
    fence(|hub| {
        wanted(status)?;
        let found = file::status(hub, path(name)?, true, Deadline::from_raw(deadline))?;
        // SAFETY: writable, by the caller.
        unsafe { put(status, found) };
        Ok(())
    })
}

/// As weald_file_stat, of a symbolic link itself. May switch. Returns 0. Fails with WEALD_EINVAL
/// (`name` or `status` NULL), WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to
/// be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
/// callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_lstat(name: *const c_char, status: *mut stat, deadline: i64) -> c_int {
    fence(|hub| {
        wanted(status)?;
        let found = file::status(hub, path(name)?, false, Deadline::from_raw(deadline))?;
        // SAFETY: writable, by the caller.
        unsafe { put(status, found) };
        Ok(())
    })
}

/// As weald_file_stat, of an open descriptor. May switch. Returns 0. Fails with WEALD_EINVAL
/// (`status` NULL), WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had),
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_fstat(fd: c_int, status: *mut stat, deadline: i64) -> c_int {
    fence(|hub| {
        wanted(status)?;
        let found = file::status_of(hub, fd, Deadline::from_raw(deadline))?;
        // SAFETY: writable, by the caller.
        unsafe { put(status, found) };
        Ok(())
    })
}

/// Gives a file or folder another name, in the place of what had it before. May switch. Returns 0.
/// Fails with WEALD_EINVAL (`from` or `to` NULL; into itself), WEALD_ENOENT, WEALD_EPERM,
/// WEALD_EAGAIN (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_rename(from: *const c_char, to: *const c_char, deadline: i64) -> c_int {
    fence(|hub| file::rename(hub, path(from)?, path(to)?, Deadline::from_raw(deadline)))
}

/// Removes a file, or a symbolic link, as unlink(2) does. May switch. Returns 0. Fails with
/// WEALD_EINVAL (`name` NULL), WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to
/// be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
/// callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_file_remove(name: *const c_char, deadline: i64) -> c_int {
    fence(|hub| file::remove(hub, path(name)?, Deadline::from_raw(deadline)))
}

/// Makes a folder, as mkdir(2) does. May switch. Returns 0. Fails with WEALD_EINVAL (`name` NULL),
/// WEALD_ENOENT (the one that it would be in), WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread
/// to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
/// a callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_folder_make(name: *const c_char, mode: c_uint, deadline: i64) -> c_int {
    fence(|hub| file::make_folder(hub, path(name)?, mode, Deadline::from_raw(deadline)))
}

/// Removes a folder that is empty. May switch. Returns 0. Fails with WEALD_EINVAL (`name` NULL),
/// WEALD_ENOENT, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_folder_remove(name: *const c_char, deadline: i64) -> c_int {
    fence(|hub| file::remove_folder(hub, path(name)?, Deadline::from_raw(deadline)))
}

/// Reads what a folder holds, all of it: a handle, for weald_folder_next. Close it. May switch.
/// Fails with WEALD_EINVAL (`name` NULL), WEALD_ENOENT, WEALD_EMFILE, WEALD_EPERM, WEALD_EAGAIN
/// (WEALD_NOW, or no thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_folder_read(name: *const c_char, deadline: i64) -> weald_folder {
    fence64(|hub| Folder::open(hub, path(name)?, Deadline::from_raw(deadline)))
}

/// The next name in a folder, in the order of their bytes, without "." and "..": 1, with `*name`,
/// which is good until the folder is closed, and in `*kind` (NULL: not wanted) what it is, as
/// readdir(3) says it: DT_REG, DT_DIR, or DT_UNKNOWN where that takes weald_file_lstat. 0 behind
/// the last. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`name` NULL).
#[unsafe(no_mangle)]
pub extern "C" fn weald_folder_next(folder: weald_folder, name: *mut *const c_char, kind: *mut c_int) -> c_int {
    fence(|hub| {
        let folder = object::get::<Folder>(hub, folder)?;
        wanted(name)?;
        let next = folder.next();
        if let Some((text, is)) = next {
            // SAFETY: writable, or NULL where that is fine, by the caller.
            unsafe {
                put(name, text.as_ptr());
                put(kind, c_int::from(is));
            }
        }
        Ok(next.is_some())
    })
}
