//! Reading and writing descriptors of every kind.
//!
//! ```text
//! try ---- done --------------------------------> what came of it
//!  ^ \     nothing there, no room
//!  |  +--> wait, until it is ready or the deadline passes
//!  +-------+
//! ```
//!
//! A descriptor's flags stay as they are. A socket is told with each call not to wait,
//! pipes and most others by RWF_NOWAIT; what takes neither (inotify, some terminals) is
//! waited for first, and then read, or written in pieces that fit where poll(2) sees
//! room. Files are never waited for; see `disk`. The poller keeps what was found out about
//! a descriptor, as a hint.
//!
//! After a read that had less than it asked for the next one waits without trying. A
//! greenlet that never has to wait gives way when its turn is used up.

use crate::disk;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::io::look;
use crate::poller::{Added, Advice, Nature, READ, WRITE};
use crate::sys::descriptor::{self as sys, HERE};
use crate::time::Deadline;
use libc::iovec;
use std::os::fd::RawFd;

/// What is known when an operation is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Nothing: it must not block.
    Nothing,
    /// poll(2) has said that it is ready.
    Ready,
    /// It can not be waited for: a file.
    Never,
}

/// An operation that can be tried again and again; a closure is one.
pub trait Attempt {
    fn once(&mut self, hub: &Hub, fd: RawFd, known: Known, deadline: Deadline) -> Result<usize>;
}

impl<F: FnMut(Known) -> Result<usize>> Attempt for F {
    #[inline(always)]
    fn once(&mut self, _: &Hub, _: RawFd, known: Known, _: Deadline) -> Result<usize> {
        self(known)
    }
}

/// To read, and to write, what lies together. No closures: those would be called, with what they
/// refer to in memory.
struct Read(*mut u8, usize);
struct Write(*const u8, usize);

impl Attempt for Read {
    #[inline(always)]
    fn once(&mut self, hub: &Hub, fd: RawFd, known: Known, deadline: Deadline) -> Result<usize> {
        // SAFETY: by contract of `read_at`, which alone makes one.
        unsafe { try_read(hub, fd, self.0, self.1, known, deadline) }
    }
}

impl Attempt for Write {
    #[inline(always)]
    fn once(&mut self, hub: &Hub, fd: RawFd, known: Known, deadline: Deadline) -> Result<usize> {
        try_write(hub, fd, self.0, self.1, known, deadline)
    }
}

impl Hub {
    /// Whoever never has to wait lets others run now and then. EBADF when one of them has
    /// closed `fd`.
    #[inline(always)]
    fn take_turn(&self, fd: RawFd) -> Result<()> {
        match self.turn.get() {
            0 => self.let_others_run(fd),
            left => {
                self.turn.set(left - 1);
                Ok(())
            }
        }
    }

    #[cold]
    #[inline(never)]
    pub fn let_others_run(&self, fd: RawFd) -> Result<()> {
        self.new_turn();
        if self.in_callback() {
            return Ok(());
        }
        let life = self.poller().life(fd);
        self.yield_now()?;
        if self.poller().life(fd) != life { Err(Error::BADF) } else { Ok(()) }
    }

    /// Who has waited has let the others run; one whose deadline had passed has not.
    #[inline(always)]
    fn new_turn(&self) {
        self.turn.set(self.slices.get());
    }

    /// Tries an operation on `fd` until it is done; EAGAIN means that it has to wait for
    /// `wanted` (READ, WRITE). EBADF, EBUSY, ETIMEDOUT, and those of `park`.
    #[inline(always)]
    pub fn until_done(&self, fd: RawFd, wanted: u32, deadline: Deadline, mut attempt: impl Attempt) -> Result<usize> {
        if deadline.is_now() {
            return self.at_once(fd, wanted, deadline, attempt);
        }
        self.check()?;
        self.take_turn(fd)?;
        let mut must_wait = self.poller().advice(fd, wanted) == Advice::Wait;
        let mut known = Known::Nothing;
        loop {
            if must_wait {
                known = match self.wait_to_try(fd, wanted, deadline) {
                    Ok(Added::Waiting) => {
                        self.new_turn();
                        Known::Ready
                    }
                    Ok(Added::AlwaysReady) => Known::Never,
                    // What can be done is done, however late we are: then no scope has cut us short.
                    Err(Error::TIMEDOUT) => return self.too_late(fd, wanted, deadline, attempt),
                    Err(e) => return Err(e),
                };
            }
            // In one place, so that it is compiled right here.
            match attempt.once(self, fd, known, deadline) {
                Err(Error::AGAIN) => must_wait = true,
                done => return done,
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn too_late(&self, fd: RawFd, wanted: u32, deadline: Deadline, attempt: impl Attempt) -> Result<usize> {
        match self.at_once(fd, wanted, deadline, attempt) {
            Err(Error::AGAIN) => Err(Error::TIMEDOUT),
            done => {
                self.unfire_scopes(self.current());
                done
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn at_once(&self, fd: RawFd, wanted: u32, deadline: Deadline, mut attempt: impl Attempt) -> Result<usize> {
        match attempt.once(self, fd, Known::Nothing, deadline) {
            Err(Error::AGAIN) if self.poller().nature(fd) != Nature::Unknown => {}
            done => return done,
        }
        if sys::is_file(fd) {
            return attempt.once(self, fd, Known::Never, deadline);
        }
        look(fd, wanted)?;
        attempt.once(self, fd, Known::Ready, deadline)
    }
}

/// Whether a failure says that a file can not be read or written like this.
fn is_refusal(e: Error) -> bool {
    matches!(e, Error::OPNOTSUPP | Error::NOSYS | Error::INVAL)
}

/// Tries `nowait`; where that is not to be had, `plain` when it is known to be ready, and
/// `never` when it is a file.
#[cold]
#[inline(never)]
fn try_other(
    hub: &Hub,
    fd: RawFd,
    known: Known,
    nowait: impl FnOnce() -> Result<usize>,
    plain: impl FnOnce() -> Result<usize>,
    never: impl FnOnce() -> Result<usize>,
) -> Result<usize> {
    let poller = hub.poller();
    if known == Known::Never {
        return never();
    }
    if poller.nature(fd) != Nature::Plain {
        match nowait() {
            Err(e) if is_refusal(e) => poller.set_nature(fd, Nature::Plain)?,
            done => {
                if poller.nature(fd) != Nature::NoWait {
                    poller.set_nature(fd, Nature::NoWait)?;
                }
                return done;
            }
        }
    }
    if known == Known::Ready { plain() } else { Err(Error::AGAIN) }
}

fn total(iov: &[iovec]) -> usize {
    iov.iter().fold(0usize, |all, one| all.saturating_add(one.iov_len))
}

fn one(at: *const u8, len: usize) -> [iovec; 1] {
    [iovec { iov_base: at.cast_mut().cast(), iov_len: len }]
}

/// One try to read; EAGAIN when there is nothing. A file takes until the deadline.
///
/// # Safety
/// `at` points to `len` bytes that are this call's alone until it returns.
#[inline(always)]
pub unsafe fn try_read(
    hub: &Hub,
    fd: RawFd,
    at: *mut u8,
    len: usize,
    known: Known,
    deadline: Deadline,
) -> Result<usize> {
    let mut result = Err(Error::NOTSOCK);
    if hub.poller().nature(fd) == Nature::Unknown {
        // SAFETY: by contract.
        result = unsafe { sys::recv(fd, at.cast(), len, 0) };
    }
    if result == Err(Error::NOTSOCK) {
        // SAFETY: by contract.
        result = unsafe { try_readv_other(hub, fd, &one(at, len), known, deadline) };
    }
    if let Ok(n) = result {
        hub.poller().has_read(fd, n < len && n > 0);
    }
    result
}

/// As `try_read`, into several buffers.
///
/// # Safety
/// The buffers are this call's alone until it returns.
pub unsafe fn try_readv(hub: &Hub, fd: RawFd, iov: &[iovec], known: Known, deadline: Deadline) -> Result<usize> {
    let mut result = Err(Error::NOTSOCK);
    if hub.poller().nature(fd) == Nature::Unknown {
        // SAFETY: by contract.
        result = unsafe { sys::recvv(fd, iov) };
    }
    if result == Err(Error::NOTSOCK) {
        // SAFETY: by contract.
        result = unsafe { try_readv_other(hub, fd, iov, known, deadline) };
    }
    if let Ok(n) = result {
        hub.poller().has_read(fd, n < total(iov) && n > 0);
    }
    result
}

#[cold]
unsafe fn try_readv_other(hub: &Hub, fd: RawFd, iov: &[iovec], known: Known, deadline: Deadline) -> Result<usize> {
    try_other(
        hub,
        fd,
        known,
        // SAFETY: by contract.
        || unsafe { sys::read_nowait(fd, iov, HERE) },
        // SAFETY: as above.
        || unsafe { sys::read(fd, iov) },
        // SAFETY: as above.
        || unsafe { disk::read(hub, fd, iov, HERE, deadline) },
    )
}

/// One try to write; EAGAIN when there is no room. A file takes until the deadline.
#[inline(always)]
pub fn try_write(hub: &Hub, fd: RawFd, at: *const u8, len: usize, known: Known, deadline: Deadline) -> Result<usize> {
    let mut result = Err(Error::NOTSOCK);
    if hub.poller().nature(fd) == Nature::Unknown {
        result = sys::send(fd, at.cast(), len, 0);
    }
    if result == Err(Error::NOTSOCK) {
        return try_writev_other(hub, fd, &one(at, len), known, deadline);
    }
    result
}

/// As `try_write`, from several buffers.
pub fn try_writev(hub: &Hub, fd: RawFd, iov: &[iovec], known: Known, deadline: Deadline) -> Result<usize> {
    let mut result = Err(Error::NOTSOCK);
    if hub.poller().nature(fd) == Nature::Unknown {
        result = sys::sendv(fd, iov);
    }
    if result == Err(Error::NOTSOCK) {
        return try_writev_other(hub, fd, iov, known, deadline);
    }
    result
}

#[cold]
fn try_writev_other(hub: &Hub, fd: RawFd, iov: &[iovec], known: Known, deadline: Deadline) -> Result<usize> {
    // More than poll(2) has promised room for might wait.
    let piece =
        || iov.iter().find(|v| v.iov_len > 0).map_or(NOTHING, |v| [iovec { iov_len: v.iov_len.min(PIECE), ..*v }]);
    try_other(
        hub,
        fd,
        known,
        || sys::write_nowait(fd, iov, HERE),
        || sys::write(fd, &piece()),
        || disk::write(hub, fd, iov, HERE, deadline),
    )
}

const PIECE: usize = libc::PIPE_BUF;
const NOTHING: [iovec; 1] = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }];

/// Reads what is there, at least a byte; 0 at the end.
///
/// # Safety
/// `at` points to `len` bytes that are this call's alone until it returns.
#[inline(always)]
pub unsafe fn read_at(hub: &Hub, fd: RawFd, at: *mut u8, len: usize, deadline: Deadline) -> Result<usize> {
    hub.until_done(fd, READ, deadline, Read(at, len))
}

/// Writes at least a byte.
#[inline(always)]
pub fn write_at(hub: &Hub, fd: RawFd, at: *const u8, len: usize, deadline: Deadline) -> Result<usize> {
    hub.until_done(fd, WRITE, deadline, Write(at, len))
}

pub fn read(hub: &Hub, fd: RawFd, buffer: &mut [u8], deadline: Deadline) -> Result<usize> {
    // SAFETY: borrowed until this returns.
    unsafe { read_at(hub, fd, buffer.as_mut_ptr(), buffer.len(), deadline) }
}

pub fn write(hub: &Hub, fd: RawFd, data: &[u8], deadline: Deadline) -> Result<usize> {
    write_at(hub, fd, data.as_ptr(), data.len(), deadline)
}

/// As `read`, into several buffers.
///
/// # Safety
/// The buffers are this call's alone until it returns.
pub unsafe fn readv(hub: &Hub, fd: RawFd, iov: &[iovec], deadline: Deadline) -> Result<usize> {
    // SAFETY: by contract.
    hub.until_done(fd, READ, deadline, |known| unsafe { try_readv(hub, fd, iov, known, deadline) })
}

/// As `write`, from several buffers.
pub fn writev(hub: &Hub, fd: RawFd, iov: &[iovec], deadline: Deadline) -> Result<usize> {
    hub.until_done(fd, WRITE, deadline, |known| try_writev(hub, fd, iov, known, deadline))
}

/// Reads a file at a place: at once what is in memory, the rest in a thread. ESPIPE.
///
/// # Safety
/// As for `readv`.
pub unsafe fn pread(hub: &Hub, fd: RawFd, iov: &[iovec], at: i64, deadline: Deadline) -> Result<usize> {
    // SAFETY: by contract.
    there(
        hub,
        fd,
        at,
        deadline,
        || unsafe { sys::read_nowait(fd, iov, at) },
        || unsafe { disk::read(hub, fd, iov, at, deadline) },
    )
}

/// As `pread`, for writing.
pub fn pwrite(hub: &Hub, fd: RawFd, iov: &[iovec], at: i64, deadline: Deadline) -> Result<usize> {
    there(hub, fd, at, deadline, || sys::write_nowait(fd, iov, at), || disk::write(hub, fd, iov, at, deadline))
}

fn there(
    hub: &Hub,
    fd: RawFd,
    at: i64,
    deadline: Deadline,
    nowait: impl FnOnce() -> Result<usize>,
    otherwise: impl FnOnce() -> Result<usize>,
) -> Result<usize> {
    if at < 0 {
        return Err(Error::INVAL);
    }
    if !deadline.is_now() {
        hub.check()?;
        hub.take_turn(fd)?;
    }
    match nowait() {
        Err(Error::AGAIN) => otherwise(),
        Err(e) if is_refusal(e) => otherwise(),
        done => done,
    }
}

/// Goes on until all of `len` bytes are moved, the first piece was; how many, and why no more.
/// EBADF when `fd`, which had this life, has been closed between two pieces.
fn all(
    hub: &Hub,
    (fd, life): (RawFd, u32),
    len: usize,
    first: Result<usize>,
    mut piece: impl FnMut(usize) -> Result<usize>,
) -> (usize, Result<()>) {
    let (mut done, mut last) = (0, first);
    loop {
        match last {
            Ok(0) if done < len => return (done, Err(Error::PIPE)),
            Ok(n) => done += n,
            Err(e) => return (done, Err(e)),
        }
        if done == len {
            return (done, Ok(()));
        }
        if hub.poller().life(fd) != life {
            return (done, Err(Error::BADF));
        }
        last = piece(done);
    }
}

/// Reads `buffer` full; how much was read, and why no more: EPIPE at the end.
///
/// # Safety
/// As for `read_at`.
pub unsafe fn read_exact(hub: &Hub, fd: RawFd, at: *mut u8, len: usize, deadline: Deadline) -> (usize, Result<()>) {
    if len == 0 {
        return (0, Ok(()));
    }
    let life = hub.poller().life(fd);
    // SAFETY: by contract; no more than `len` are read.
    let piece = |done| unsafe { read_at(hub, fd, at.add(done), len - done, deadline) };
    all(hub, (fd, life), len, piece(0), piece)
}

/// Writes everything; how much was written, and why no more.
#[inline(always)]
pub fn write_all_at(hub: &Hub, fd: RawFd, at: *const u8, len: usize, deadline: Deadline) -> (usize, Result<()>) {
    if len == 0 {
        return (0, Ok(()));
    }
    let life = hub.poller().life(fd);
    match write_at(hub, fd, at, len, deadline) {
        Ok(n) if n == len => (n, Ok(())), // as a rule there is room
        first => write_rest(hub, (fd, life), (at, len), first, deadline),
    }
}

#[cold]
#[inline(never)]
fn write_rest(
    hub: &Hub,
    file: (RawFd, u32),
    (at, len): (*const u8, usize),
    first: Result<usize>,
    deadline: Deadline,
) -> (usize, Result<()>) {
    all(hub, file, len, first, |done| write_at(hub, file.0, at.wrapping_add(done), len - done, deadline))
}

pub fn write_all(hub: &Hub, fd: RawFd, data: &[u8], deadline: Deadline) -> (usize, Result<()>) {
    write_all_at(hub, fd, data.as_ptr(), data.len(), deadline)
}

/// Wakes everybody of this thread's hub who waits for `fd` with EBADF, and closes it; how
/// many there were. EBADF.
pub fn close(fd: RawFd) -> Result<usize> {
    if fd < 0 {
        return Err(Error::BADF);
    }
    let told = Hub::existing().map_or(0, |hub| hub.poller().closes(fd));
    sys::close(fd)?;
    Ok(told)
}
