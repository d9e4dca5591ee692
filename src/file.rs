//! Files and folders: what a disk or a server may take its time for.
//!
//! ```text
//! read ---- in memory already --------------------------------> the caller's buffer
//!   \
//!    +----> job in a thread, with a buffer of its own --------> copied, if anybody still waits
//! ```
//!
//! A job owns all that it uses, so whoever waits may leave at any time: what it then still
//! opens is closed, what it still reads is dropped. The threads are a pool of their own: a
//! server that does not answer may take them all, and jobs of the user's go on.

use crate::error::{Error, Result};
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object;
use crate::sys::{self, file};
use crate::threadpool::ThreadPool;
use crate::time::Deadline;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

/// So many files are waited for at a time.
const THREADS: usize = 16;
/// How much one job moves; a file's end may be far away, and its buffer is memory.
const CHUNK: usize = 1 << 20;

static POOL: ThreadPool = ThreadPool::new(THREADS);

fn wait_for<T: Send + 'static>(
    hub: &Hub,
    deadline: Deadline,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    POOL.offload(hub, job, deadline)?
}

// ---- open files -------------------------------------------------------------------

pub fn open(hub: &Hub, path: CString, flags: c_int, mode: libc::mode_t, deadline: Deadline) -> Result<RawFd> {
    let fd = wait_for(hub, deadline, move || file::open(&path, flags, mode))?;
    hub.poller().is_new(fd.as_raw_fd());
    Ok(fd.into_raw_fd())
}

/// Closes a descriptor, whatever becomes of the job.
struct Closing(Option<RawFd>);

impl Closing {
    fn now(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), sys::descriptor::close)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(fd) = self.0 {
            sys::close(fd);
        }
    }
}

/// Closes `fd`, however long that takes and whether or not somebody waits for it. EBADF,
/// and what the file system has to say of earlier writes.
pub fn close(hub: &Hub, fd: RawFd, deadline: Deadline) -> Result<()> {
    if fd < 0 || !file::is_open(fd) {
        return Err(Error::BADF);
    }
    hub.poller().closes(fd);
    let closing = Closing(Some(fd));
    wait_for(hub, deadline, move || closing.now())
}

/// Memory that a job reads into. ENOMEM.
fn buffer(len: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    sys::may_fail(sys::Call::Alloc)?;
    buffer.try_reserve_exact(len).map_err(|_| Error::NOMEM)?;
    Ok(buffer)
}

/// Moves `len` bytes piece by piece; how many. A failure after the first piece is left to
/// the next call.
fn pieces(len: usize, mut piece: impl FnMut(usize, usize) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    while done < len {
        match piece(done, (len - done).min(CHUNK)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn check_offset(offset: i64, len: usize) -> Result<()> {
    let end = i64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    if offset < 0 || end.is_none() { Err(Error::INVAL) } else { Ok(()) }
}

/// Reads at `offset` until the buffer is full or the file ends; how much.
pub fn read(hub: &Hub, fd: RawFd, into: &mut [u8], offset: i64, deadline: Deadline) -> Result<usize> {
    check_offset(offset, into.len())?;
    if !deadline.is_now() {
        hub.check()?;
    }
    let cached = read_cached(fd, into, offset)?;
    match cached {
        Cached::All(n) => Ok(n),
        Cached::Some(n) => {
            let rest = &mut into[n..];
            let offset = offset + n as i64;
            let more = pieces(rest.len(), |done, len| {
                read_piece(hub, fd, &mut rest[done..done + len], offset + done as i64, deadline)
            });
            match more {
                Err(_) if n > 0 => Ok(n),
                more => more.map(|more| n + more),
            }
        }
    }
}

/// How far one comes without waiting.
enum Cached {
    /// To the end of the file, or of the buffer.
    All(usize),
    Some(usize),
}

fn read_cached(fd: RawFd, into: &mut [u8], offset: i64) -> Result<Cached> {
    let mut done = 0;
    while done < into.len() {
        let rest = &mut into[done..];
        // SAFETY: as long as it is.
        match unsafe { file::read_nowait(fd, rest.as_mut_ptr().cast(), rest.len(), offset + done as i64) } {
            Ok(0) => break,
            Ok(n) => done += n,
            // Not in memory, or this file can not be asked so.
            Err(Error::AGAIN | Error::OPNOTSUPP | Error::NOSYS | Error::INVAL | Error::INTR) => {
                return Ok(Cached::Some(done));
            }
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(Cached::All(done))
}

fn read_piece(hub: &Hub, fd: RawFd, into: &mut [u8], offset: i64, deadline: Deadline) -> Result<usize> {
    let len = into.len();
    let mut buffer = buffer(len)?;
    let read = wait_for(hub, deadline, move || {
        // SAFETY: there is room for so much.
        let n = unsafe { file::read(fd, buffer.as_mut_ptr().cast(), len, offset) }?;
        // SAFETY: pread has filled so much.
        unsafe { buffer.set_len(n) };
        Ok(buffer)
    })?;
    into[..read.len()].copy_from_slice(&read);
    Ok(read.len())
}

/// Writes all at `offset`; how much, less only when something fails after a while.
pub fn write(hub: &Hub, fd: RawFd, bytes: &[u8], offset: i64, deadline: Deadline) -> Result<usize> {
    check_offset(offset, bytes.len())?;
    if bytes.is_empty() {
        return if file::is_open(fd) { Ok(0) } else { Err(Error::BADF) };
    }
    pieces(bytes.len(), |done, len| {
        let mut copy = buffer(len)?;
        copy.extend_from_slice(&bytes[done..done + len]);
        wait_for(hub, deadline, move || file::write(fd, &copy, offset + done as i64))
    })
}

pub fn sync(hub: &Hub, fd: RawFd, data_only: bool, deadline: Deadline) -> Result<()> {
    wait_for(hub, deadline, move || file::sync(fd, data_only))
}

pub fn truncate(hub: &Hub, fd: RawFd, len: i64, deadline: Deadline) -> Result<()> {
    wait_for(hub, deadline, move || file::truncate(fd, len))
}

// ---- by name ------------------------------------------------------------------------

pub fn status(hub: &Hub, path: CString, follow: bool, deadline: Deadline) -> Result<libc::stat> {
    wait_for(hub, deadline, move || file::status(&path, follow))
}

pub fn status_of(hub: &Hub, fd: RawFd, deadline: Deadline) -> Result<libc::stat> {
    wait_for(hub, deadline, move || file::status_of(fd))
}

pub fn rename(hub: &Hub, from: CString, to: CString, deadline: Deadline) -> Result<()> {
    wait_for(hub, deadline, move || file::rename(&from, &to))
}

pub fn remove(hub: &Hub, path: CString, deadline: Deadline) -> Result<()> {
    wait_for(hub, deadline, move || file::remove(&path))
}

pub fn make_folder(hub: &Hub, path: CString, mode: libc::mode_t, deadline: Deadline) -> Result<()> {
    wait_for(hub, deadline, move || file::make_folder(&path, mode))
}

pub fn remove_folder(hub: &Hub, path: CString, deadline: Deadline) -> Result<()> {
    wait_for(hub, deadline, move || file::remove_folder(&path))
}

// ---- what is in a folder ------------------------------------------------------------

/// The names in a folder, sorted, as they were when it was read.
pub struct Folder {
    /// The kind of each and its name, with a NUL, in one piece.
    names: Vec<u8>,
    /// Where each begins.
    places: Vec<usize>,
    next: Cell<usize>,
}

crate::hub_object!(Folder, Kind::Folder);

impl Folder {
    pub fn open(hub: &Hub, path: CString, deadline: Deadline) -> Result<i64> {
        let folder = wait_for(hub, deadline, move || Folder::read(&path))?;
        object::insert(hub, folder)
    }

    fn read(path: &CStr) -> Result<Folder> {
        let (mut names, mut places) = (Vec::new(), Vec::new());
        file::list(path, |name, kind| {
            let text = name.to_bytes_with_nul();
            let room = names.try_reserve(text.len() + 1).and_then(|()| places.try_reserve(1));
            room.map_err(|_| Error::NOMEM)?;
            places.push(names.len());
            names.push(kind);
            names.extend_from_slice(text);
            Ok(())
        })?;
        let mut folder = Folder { names, places: Vec::new(), next: Cell::new(0) };
        places.sort_unstable_by(|&a, &b| folder.at(a).0.cmp(folder.at(b).0));
        folder.places = places;
        Ok(folder)
    }

    fn at(&self, place: usize) -> (&CStr, u8) {
        let (kind, text) = (self.names[place], &self.names[place + 1..]);
        (CStr::from_bytes_until_nul(text).unwrap_or_default(), kind)
    }

    /// The next name and its kind; `None` behind the last.
    pub fn next(&self) -> Option<(&CStr, u8)> {
        let &place = self.places.get(self.next.get())?;
        self.next.set(self.next.get() + 1);
        Some(self.at(place))
    }

    fn closed(&self, _: &Hub) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_every_file_is_no_place_to_read() {
        assert_eq!(check_offset(-1, 0), Err(Error::INVAL));
        assert_eq!(check_offset(i64::MAX, 1), Err(Error::INVAL));
        assert_eq!(check_offset(i64::MAX - 1, 1), Ok(()));
    }

    #[test]
    fn a_failure_after_the_first_piece_is_for_the_next_call() {
        let until = |good: usize| {
            pieces(3 * CHUNK, |done, len| if done < good * CHUNK { Ok(len) } else { Err(Error::from_errno(libc::EIO)) })
        };
        assert_eq!(until(0), Err(Error::from_errno(libc::EIO)));
        assert_eq!(until(2), Ok(2 * CHUNK));
        assert_eq!(until(3), Ok(3 * CHUNK));
    }
}
