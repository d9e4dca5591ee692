//! System calls on files and folders. Each may wait for a disk or a server, so they are made in threads of a pool, but
//! for those that are told not to wait.

use super::{Call, check, may_fail};
use crate::error::{Error, Result};
use libc::{c_int, c_void, iovec, off_t};
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Makes a call until no signal interrupts it.
fn again<T: From<i8> + PartialOrd>(mut call: impl FnMut() -> T) -> Result<T> {
    loop {
        let result = call();
        if result >= T::from(0) {
            return Ok(result);
        }
        match Error::last_os() {
            Error::INTR => {}
            e => return Err(e),
        }
    }
}

pub fn open(path: &CStr, flags: c_int, mode: libc::mode_t) -> Result<OwnedFd> {
    may_fail(Call::Open)?;
    // SAFETY: a C string.
    let fd = again(|| unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// What is read at `offset`, 0 at the end.
///
/// # Safety
/// `at` has room for `len` bytes.
pub unsafe fn read(fd: RawFd, at: *mut c_void, len: usize, offset: i64) -> Result<usize> {
    may_fail(Call::Transfer)?;
    // SAFETY: by contract.
    again(|| unsafe { libc::pread(fd, at, len, offset) }).map(|n| n as usize)
}

pub fn write(fd: RawFd, bytes: &[u8], offset: i64) -> Result<usize> {
    may_fail(Call::Transfer)?;
    // SAFETY: a readable slice.
    again(|| unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), bytes.len(), offset) }).map(|n| n as usize)
}

/// What is in memory: perhaps less than there is. EAGAIN when nothing is; EOPNOTSUPP, ENOSYS where one can not ask.
///
/// # Safety
/// `at` has room for `len` bytes.
pub unsafe fn read_nowait(fd: RawFd, at: *mut c_void, len: usize, offset: i64) -> Result<usize> {
    may_fail(Call::Transfer)?;
    let one = iovec { iov_base: at, iov_len: len };
    // The offset's upper half is its own argument, which 64-bit kernels ignore.
    // SAFETY: by contract; one buffer.
    let n = unsafe { libc::syscall(libc::SYS_preadv2, fd, &raw const one, 1, offset, 0, libc::RWF_NOWAIT as usize) };
    if n < 0 { Err(Error::last_os()) } else { Ok(n as usize) }
}

pub fn sync(fd: RawFd, data_only: bool) -> Result<()> {
    // SAFETY: no pointers.
    again(|| unsafe { if data_only { libc::fdatasync(fd) } else { libc::fsync(fd) } }).map(drop)
}

pub fn truncate(fd: RawFd, len: off_t) -> Result<()> {
    // SAFETY: no pointers.
    again(|| unsafe { libc::ftruncate(fd, len) }).map(drop)
}

fn status_by(call: impl FnOnce(*mut libc::stat) -> c_int) -> Result<libc::stat> {
    // SAFETY: an all-zero stat is a valid value.
    let mut s: libc::stat = unsafe { std::mem::zeroed() };
    check(call(&mut s))?;
    Ok(s)
}

/// Of what a link points to, if `follow`.
pub fn status(path: &CStr, follow: bool) -> Result<libc::stat> {
    // SAFETY: a C string, a writable stat.
    status_by(|s| unsafe { if follow { libc::stat(path.as_ptr(), s) } else { libc::lstat(path.as_ptr(), s) } })
}

pub fn status_of(fd: RawFd) -> Result<libc::stat> {
    // SAFETY: a writable stat.
    status_by(|s| unsafe { libc::fstat(fd, s) })
}

pub fn rename(from: &CStr, to: &CStr) -> Result<()> {
    // SAFETY: C strings.
    check(unsafe { libc::rename(from.as_ptr(), to.as_ptr()) }).map(drop)
}

pub fn remove(path: &CStr) -> Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

pub fn make_folder(path: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) }).map(drop)
}

pub fn remove_folder(path: &CStr) -> Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::rmdir(path.as_ptr()) }).map(drop)
}

/// An open folder.
struct Open(*mut libc::DIR);

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: from opendir, closed once.
        unsafe { libc::closedir(self.0) };
    }
}

/// Tells each name in a folder, with its kind (DT_REG and so on), until `tell` fails. "." and ".." are no names.
pub fn list(path: &CStr, mut tell: impl FnMut(&CStr, u8) -> Result<()>) -> Result<()> {
    may_fail(Call::Open)?;
    // SAFETY: a C string.
    let folder = Open(unsafe { libc::opendir(path.as_ptr()) });
    if folder.0.is_null() {
        std::mem::forget(folder);
        return Err(Error::last_os());
    }
    loop {
        // SAFETY: this thread's errno, which alone tells the end from a failure.
        unsafe { *super::errno_location() = 0 };
        // SAFETY: an open folder, which nobody else uses.
        let entry = unsafe { libc::readdir(folder.0) };
        if entry.is_null() {
            // SAFETY: as above.
            let errno = unsafe { *super::errno_location() };
            return if errno == 0 { Ok(()) } else { Err(Error::from_errno(errno)) };
        }
        // SAFETY: good until the next readdir; the name ends with a NUL.
        let (name, kind) = unsafe { (CStr::from_ptr((*entry).d_name.as_ptr()), (*entry).d_type) };
        if !matches!(name.to_bytes(), b"." | b"..") {
            tell(name, kind)?;
        }
    }
}
