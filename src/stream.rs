//! A stream: a descriptor with a buffer for each direction.
//!
//! ```text
//!   descriptor --read--> scratch --copy--> input --> line, until, exact, peek
//!   descriptor <--writev-- output <--copy-- write
//! ```
//!
//! What is read goes to memory that the thread's streams share first, and then to an input of
//! the size it needs: a stream that waits for its first byte holds no buffer, and neither
//! does one whose bytes have all been read or flushed. What a call hands out of the input
//! stays until the next call that reads: that one drops it.
//!
//! A call that fails leaves what it has read in the input, so a kill or a deadline in the
//! middle of a line loses nothing. One greenlet reads at a time, and one writes: EBUSY.
//!
//! With TLS a session stands between the buffers and the descriptor: `stream/secure.rs`. Instead of a
//! descriptor there may be functions of the user's: `stream/foreign.rs`.

mod foreign;
mod secure;

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::fork;
use crate::handle::Kind;
use crate::hub::{Callback, Hub};
use crate::object::{insert, keep};
use crate::poller::{READ, WRITE};
use crate::rw::{self, Known};
use crate::sys::descriptor as sys;
use crate::sys::{Call, may_fail};
use crate::time::Deadline;
use crate::tls::session::Session;
use libc::iovec;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::os::fd::RawFd;

/// How much is read at a time.
const SCRATCH: usize = 64 << 10;
pub const READ_MAX: usize = 64 << 10;
pub const WRITE_SIZE: usize = 16 << 10;
/// Reads of so much go to their buffer directly.
const LARGE: usize = 4096;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

pub use foreign::Foreign;

pub struct Stream {
    /// -1 if there is none, but `foreign`.
    fd: RawFd,
    /// The number's life when this was made, see `Poller::life`.
    life: u32,
    owns: bool,
    read_max: usize,
    write_size: usize,
    closed: Cell<bool>,
    /// The other end has reset the connection. The kernel says so once, and then that all has been read.
    was_reset: Cell<bool>,
    /// One above `fork::generation()` while somebody reads or writes, else 0: in a child nobody does.
    reader: Cell<u64>,
    writer: Cell<u64>,
    /// Whoever has made himself `reader`, and `writer`, is alone with these.
    input: UnsafeCell<Buffer>,
    output: UnsafeCell<Buffer>,
    /// What makes it a stream of TLS. It does no I/O: whoever has it does not suspend.
    tls: UnsafeCell<Option<Box<Session>>>,
    foreign: Option<Box<Foreign>>,
}

crate::hub_object!(Stream, Kind::Stream);

/// Holds a direction of a stream while a call uses it.
pub(crate) struct Turn<'a>(&'a Cell<u64>);

impl<'a> Turn<'a> {
    pub(crate) fn take(of: &'a Cell<u64>) -> Result<Turn<'a>> {
        let now = fork::generation() + 1;
        if of.get() == now {
            return Err(Error::BUSY);
        }
        of.set(now);
        Ok(Turn(of))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

/// What the kernel keeps for the end of a connection goes now, if that is still to come.
extern "C-unwind" fn let_go(name: *mut c_void) {
    let (fd, life) = (name.addr() as u32 as RawFd, (name.addr() as u64 >> 32) as u32);
    if Hub::existing().is_some_and(|hub| hub.poller().life(fd) == life) {
        let _ = sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1);
    }
}

/// Finds `what` in `bytes` from `from` on.
fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let part = bytes.get(from..)?;
    // SAFETY: both slices' own bytes.
    let at = unsafe { libc::memmem(part.as_ptr().cast(), part.len(), what.as_ptr().cast(), what.len()) };
    (!at.is_null()).then(|| at as usize - bytes.as_ptr() as usize)
}

impl Stream {
    /// 0 for the usual sizes. EBADF, ENOMEM.
    pub fn create(hub: &Hub, fd: RawFd, owns: bool, read_max: usize, write_size: usize) -> Result<i64> {
        sys::is_nonblocking(fd)?;
        Stream::of(hub, fd, owns, read_max, write_size)
    }

    /// The same of what is known to be a descriptor. ENOMEM.
    pub fn of(hub: &Hub, fd: RawFd, owns: bool, read_max: usize, write_size: usize) -> Result<i64> {
        Stream::with(hub, fd, None, owns, read_max, write_size)
    }

    fn with(
        hub: &Hub,
        fd: RawFd,
        foreign: Option<Box<Foreign>>,
        owns: bool,
        read_max: usize,
        write_size: usize,
    ) -> Result<i64> {
        let or = |size, usual| if size == 0 { usual } else { size };
        insert(
            hub,
            Stream {
                fd,
                foreign,
                life: hub.poller().life(fd),
                owns,
                read_max: or(read_max, READ_MAX),
                write_size: or(write_size, WRITE_SIZE),
                closed: Cell::new(false),
                was_reset: Cell::new(false),
                reader: Cell::new(0),
                writer: Cell::new(0),
                input: UnsafeCell::default(),
                output: UnsafeCell::default(),
                tls: UnsafeCell::default(),
            },
        )
    }

    fn closed(&self, hub: &Hub) {
        let is_open = self.check(hub).is_ok();
        if is_open && self.tls().is_some() {
            self.say_goodbye(hub);
        }
        self.closed.set(true);
        if self.foreign.is_some() {
            return; // with the last share in it
        }
        if self.owns && is_open {
            let _ = rw::close(self.fd);
        } else if is_open {
            let used = |turn: &Cell<u64>, direction| if turn.get() != 0 { direction } else { 0 };
            hub.poller().end_waits(self.fd, used(&self.reader, READ) | used(&self.writer, WRITE));
        }
    }

    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Whether it can not be waited for.
    pub fn is_file(&self) -> bool {
        sys::is_file(self.fd)
    }

    /// EBADF when its handle or its descriptor has been closed.
    #[inline]
    pub fn check(&self, hub: &Hub) -> Result<()> {
        let is_open = !self.closed.get() && hub.poller().life(self.fd) == self.life;
        if is_open { Ok(()) } else { Err(Error::BADF) }
    }

    /// Whether its descriptor is still the one that it was made for.
    pub fn is_open(&self, hub: &Hub) -> bool {
        self.check(hub).is_ok()
    }

    #[allow(clippy::mut_from_ref)]
    fn input(&self) -> &mut Buffer {
        // SAFETY: one thread; the callers have the turn, or do not suspend, and hold no
        // other reference to it.
        unsafe { &mut *self.input.get() }
    }

    #[allow(clippy::mut_from_ref)]
    fn output(&self) -> &mut Buffer {
        // SAFETY: as above.
        unsafe { &mut *self.output.get() }
    }

    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    fn tls(&self) -> Option<&mut Session> {
        // SAFETY: one thread, and none of the session's methods suspends or calls back; the
        // callers hold no other reference to it.
        unsafe { &mut *self.tls.get() }.as_deref_mut()
    }

    fn begin_read(&self, hub: &Hub, deadline: Deadline) -> Result<Turn<'_>> {
        if !deadline.is_now() {
            hub.check()?;
        }
        self.check(hub)?;
        let turn = Turn::take(&self.reader)?;
        self.input().settle();
        Ok(turn)
    }

    /// Reads what is there to the input, up to `most` bytes; 0 at the end.
    fn more(&self, hub: &Hub, most: usize, deadline: Deadline) -> Result<usize> {
        if self.tls().is_some() {
            // SAFETY: no room is given.
            return unsafe { self.more_secure(hub, most, (std::ptr::null_mut(), 0), deadline) };
        }
        if let Some(foreign) = &self.foreign {
            return self.more_foreign(foreign, most, deadline);
        }
        let most = most.min(SCRATCH);
        self.unless_reset(|| {
            hub.until_done(self.fd, READ, deadline, |known| {
                self.check(hub)?;
                self.try_more(hub, most, known, deadline)
            })
        })
    }

    /// Reads, and remembers a reset: what came before it is no whole, and must not end like one.
    fn unless_reset(&self, read: impl FnOnce() -> Result<usize>) -> Result<usize> {
        if self.was_reset.get() { Err(Error::CONNRESET) } else { self.minding_reset(read()) }
    }

    fn minding_reset(&self, outcome: Result<usize>) -> Result<usize> {
        if outcome == Err(Error::CONNRESET) {
            self.was_reset.set(true);
        }
        outcome
    }

    fn try_more(&self, hub: &Hub, most: usize, known: Known, deadline: Deadline) -> Result<usize> {
        if !self.input().is_empty() {
            self.input().reserve(most)?;
        }
        // A file's read may suspend: others must not find our scratch taken for long.
        let mut scratch = SPARE.take();
        if scratch.capacity() < SCRATCH {
            scratch.try_reserve_exact(SCRATCH).map_err(|_| Error::NOMEM)?;
        }
        // SAFETY: it has room for so much, and is this call's alone.
        let read = unsafe { rw::try_read(hub, self.fd, scratch.as_mut_ptr(), most, known, deadline) };
        if let Ok(n) = read {
            // SAFETY: so many have just been written.
            unsafe { scratch.set_len(n) };
            self.take_in(&mut scratch);
        }
        scratch.clear();
        SPARE.set(scratch);
        read
    }

    /// Appends what was read. Where there is no memory for a copy the scratch itself is kept.
    fn take_in(&self, scratch: &mut Vec<u8>) {
        let input = self.input();
        if input.is_empty() {
            input.empty();
            if scratch.len() > SCRATCH / 4 || input.reserve(scratch.len()).is_err() {
                return std::mem::swap(&mut input.held().bytes, scratch);
            }
        }
        input.push(scratch);
    }

    /// EINVAL for more bytes than its user wants to have in memory. A protocol that stands on it may ask
    /// `fill` for as many as its own limits say.
    pub fn may_fill(&self, n: usize) -> Result<()> {
        if n > self.read_max { Err(Error::INVAL) } else { Ok(()) }
    }

    /// Has at least `n` bytes in the input, unless the end comes first; how many there are.
    pub fn fill(&self, hub: &Hub, n: usize, deadline: Deadline) -> Result<usize> {
        let this = keep(self);
        let _turn = this.begin_read(hub, deadline)?;
        this.fill_to(hub, n, deadline)
    }

    fn fill_to(&self, hub: &Hub, n: usize, deadline: Deadline) -> Result<usize> {
        while self.input().len() < n {
            let room = self.read_max.max(n) - self.input().len();
            if self.more(hub, room, deadline)? == 0 {
                break;
            }
        }
        Ok(self.input().len())
    }

    /// What is in the input now.
    pub fn peek(&self, hub: &Hub) -> Result<&[u8]> {
        self.check(hub)?;
        Ok(self.input().get())
    }

    /// The same for somebody who keeps it for a while: EBUSY while another reads, who would move it.
    pub fn peek_alone(&self, hub: &Hub) -> Result<&[u8]> {
        self.check(hub)?;
        Turn::take(&self.reader)?;
        Ok(self.input().get())
    }

    /// Drops `n` bytes of the input. EINVAL when there are not so many.
    pub fn skip(&self, hub: &Hub, n: usize) -> Result<()> {
        let _turn = self.begin_read(hub, Deadline::NOW)?;
        if n > self.input().len() {
            return Err(Error::INVAL);
        }
        self.input().drop_front(n);
        Ok(())
    }

    /// Whether nothing has been read that nobody has taken.
    pub fn input_is_empty(&self) -> bool {
        self.input().is_empty()
    }

    /// Whether it has a descriptor, which the loop can watch.
    pub fn has_fd(&self) -> bool {
        self.foreign.is_none()
    }

    /// Puts bytes in front of the input, to be read again. EBUSY, ENOMEM.
    pub fn unread(&self, hub: &Hub, bytes: &[u8]) -> Result<()> {
        let _turn = self.begin_read(hub, Deadline::NOW)?;
        self.input().put_back(bytes)
    }

    /// Copies from the input; how much there was.
    ///
    /// # Safety
    /// `at` points to `len` bytes that are this call's alone.
    unsafe fn copy_out(&self, at: *mut u8, len: usize) -> usize {
        let n = self.input().len().min(len);
        // SAFETY: so many are there, and by contract there is room.
        unsafe { std::ptr::copy_nonoverlapping(self.input().get().as_ptr(), at, n) };
        self.input().drop_front(n);
        n
    }

    /// Reads what is there, at least a byte; 0 at the end.
    ///
    /// # Safety
    /// `at` points to `len` bytes that are this call's alone until it returns.
    pub unsafe fn read(&self, hub: &Hub, at: *mut u8, len: usize, deadline: Deadline) -> Result<usize> {
        let this = keep(self);
        let _turn = this.begin_read(hub, deadline)?;
        // SAFETY: by contract.
        unsafe { this.read_some(hub, at, len, deadline) }
    }

    unsafe fn read_some(&self, hub: &Hub, at: *mut u8, len: usize, deadline: Deadline) -> Result<usize> {
        if len == 0 {
            return Ok(0);
        }
        if self.input().is_empty() {
            if self.tls().is_some() {
                // SAFETY: by contract.
                return unsafe { self.more_secure(hub, self.read_max, (at, len), deadline) };
            }
            if let (Some(foreign), true) = (&self.foreign, len >= LARGE) {
                // SAFETY: by contract.
                return unsafe { foreign.read(at, len, deadline) };
            }
            if len >= LARGE {
                return self.unless_reset(|| {
                    hub.until_done(self.fd, READ, deadline, |known| {
                        self.check(hub)?;
                        // SAFETY: by contract.
                        unsafe { rw::try_read(hub, self.fd, at, len, known, deadline) }
                    })
                });
            }
            self.more(hub, self.read_max, deadline)?;
        }
        // SAFETY: by contract.
        Ok(unsafe { self.copy_out(at, len) })
    }

    /// Reads `len` bytes; how many it has read, and why no more: EPIPE at the end.
    ///
    /// # Safety
    /// As for `read`.
    pub unsafe fn read_exact(&self, hub: &Hub, at: *mut u8, len: usize, deadline: Deadline) -> (usize, Result<()>) {
        let this = keep(self);
        let _turn = match this.begin_read(hub, deadline) {
            Ok(turn) => turn,
            Err(e) => return (0, Err(e)),
        };
        let mut done = 0;
        while done < len {
            // SAFETY: by contract; no more than `len` are read.
            match unsafe { this.read_some(hub, at.add(done), len - done, deadline) } {
                Ok(0) => return (done, Err(Error::PIPE)),
                Ok(n) => done += n,
                Err(e) => return (done, Err(e)),
            }
        }
        (done, Ok(()))
    }

    /// What stands before `delimiter`, which is dropped. `None` at the end, when nothing is
    /// left; EPIPE when it comes before the delimiter; EMSGSIZE when more than `max` bytes
    /// do. The slice is good until the next call that reads.
    pub fn until(&self, hub: &Hub, delimiter: &[u8], max: usize, deadline: Deadline) -> Result<Option<&[u8]>> {
        let this = keep(self);
        let _turn = this.begin_read(hub, deadline)?;
        match this.find(hub, delimiter, max, |_| false, deadline)? {
            Some(len) => Ok(Some(self.lend(len, len + delimiter.len()))),
            None if this.input().is_empty() => Ok(None),
            None => Err(Error::PIPE),
        }
    }

    /// A line without its end, which is "\n" or "\r\n", and with a NUL behind it; `None` at
    /// the end. The last one may have no end. EMSGSIZE when it is longer than `max`.
    pub fn line(&self, hub: &Hub, max: usize, deadline: Deadline) -> Result<Option<&[u8]>> {
        let this = keep(self);
        let _turn = this.begin_read(hub, deadline)?;
        // One byte above `max` may be the return of its end.
        let is_too_long = |bytes: &[u8]| bytes.get(max).is_some_and(|&byte| byte != b'\r');
        let found = this.find(hub, b"\n", max.saturating_add(1), is_too_long, deadline)?;
        let whole = found.unwrap_or(this.input().len());
        if found.is_none() {
            if whole == 0 {
                return Ok(None);
            }
            // It ends without one, so here is no byte that the NUL could replace.
            this.input().reserve(1)?;
        }
        let has_return = found.is_some() && this.input().get()[..whole].ends_with(b"\r");
        let len = whole - usize::from(has_return);
        if len > max {
            return Err(Error::MSGSIZE);
        }
        if found.is_none() {
            this.input().push(&[0]);
        }
        let input = this.input().held();
        let end = input.from + len;
        input.bytes[end] = 0;
        Ok(Some(self.lend(len, whole + 1)))
    }

    /// Hands out the first `len` bytes of the input; `taken` go with the next call.
    fn lend(&self, len: usize, taken: usize) -> &[u8] {
        let input = self.input().held();
        let from = input.from;
        input.lent = taken;
        &input.bytes[from..from + len]
    }

    /// Hands out `len` bytes of the input, behind `before` others, to be changed; all go with the next
    /// call. There are so many.
    #[allow(clippy::mut_from_ref)]
    pub fn lend_mut(&self, before: usize, len: usize) -> &mut [u8] {
        if before + len == 0 {
            return &mut [];
        }
        let input = self.input().held();
        let from = input.from + before;
        input.lent = before + len;
        &mut input.bytes[from..from + len]
    }

    /// Reads until `what` is in the input, which then begins with so many bytes before it;
    /// `None` at the end. EMSGSIZE, also when `is_too_long` says so of what has come without it.
    fn find(
        &self,
        hub: &Hub,
        what: &[u8],
        max: usize,
        is_too_long: impl Fn(&[u8]) -> bool,
        deadline: Deadline,
    ) -> Result<Option<usize>> {
        if what.is_empty() {
            return Err(Error::INVAL);
        }
        let mut looked = 0;
        loop {
            let bytes = self.input().get();
            if let Some(at) = find(bytes, looked, what) {
                return if at > max { Err(Error::MSGSIZE) } else { Ok(Some(at)) };
            }
            looked = bytes.len().saturating_sub(what.len() - 1);
            let may_come = (looked..=max.min(bytes.len())).any(|at| what.starts_with(&bytes[at..]));
            if !may_come || is_too_long(bytes) {
                return Err(Error::MSGSIZE);
            }
            // A byte more than can be good, so that too much is noticed.
            let room = self.read_max.max(max.saturating_add(what.len())) - bytes.len();
            if self.more(hub, room.max(1), deadline)? == 0 {
                return Ok(None);
            }
        }
    }

    // ---- writing -----------------------------------------------------------------------

    fn begin_write(&self, hub: &Hub, deadline: Deadline) -> Result<Turn<'_>> {
        if !deadline.is_now() {
            hub.check()?;
        }
        self.check(hub)?;
        Turn::take(&self.writer)
    }

    /// How many bytes have not been flushed.
    pub fn unsent(&self) -> usize {
        self.output().len() + self.tls().map_or(0, |tls| tls.sending().len())
    }

    /// Writes some of the output and of `data` behind it; how much of `data`.
    fn put_out(&self, hub: &Hub, data: &[u8], deadline: Deadline) -> Result<usize> {
        if self.tls().is_some() {
            return self.put_out_secure(hub, data, deadline);
        }
        if let Some(foreign) = &self.foreign {
            return self.put_out_foreign(foreign, data, deadline);
        }
        let mut kept = 0;
        let put_out = hub.until_done(self.fd, WRITE, deadline, |known| {
            self.check(hub)?;
            // Some may have gone by itself while we waited, see `push_some`, and all of it.
            kept = self.output().len();
            if kept + data.len() == 0 {
                return Ok(0);
            }
            let one = |bytes: &[u8]| iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let both = [one(self.output().get()), one(data)];
            match (kept, data.len()) {
                (0, len) => rw::try_write(hub, self.fd, data.as_ptr(), len, known, deadline),
                (_, 0) => rw::try_write(hub, self.fd, both[0].iov_base.cast(), kept, known, deadline),
                _ => rw::try_writev(hub, self.fd, &both, known, deadline),
            }
        });
        let n = self.minding_reset(put_out)?;
        if kept > 0 {
            self.output().drop_front(n.min(kept));
        }
        Ok(n.saturating_sub(kept))
    }

    /// Takes `data` over: into the buffer if it has room, else what was there before and as
    /// much of `data` as is needed is written. How much was taken, and why no more.
    pub fn write(&self, hub: &Hub, data: &[u8], deadline: Deadline) -> (usize, Result<()>) {
        let this = keep(self);
        let _turn = match this.begin_write(hub, deadline) {
            Ok(turn) => turn,
            Err(e) => return (0, Err(e)),
        };
        let mut done = 0;
        while this.unsent() + data.len() - done > this.write_size {
            match this.put_out(hub, &data[done..], deadline) {
                Ok(n) => done += n,
                Err(e) => return (done, Err(e)),
            }
            if done == data.len() {
                return (done, Ok(()));
            }
        }
        let rest = &data[done..];
        match this.output().reserve(rest.len()) {
            Ok(()) => {
                this.output().push(rest);
                (data.len(), Ok(()))
            }
            Err(e) => (done, Err(e)),
        }
    }

    /// Writes what was there before and all of `data`, which is not copied: how much of it,
    /// and why no more.
    pub fn send(&self, hub: &Hub, data: &[u8], deadline: Deadline) -> (usize, Result<()>) {
        let this = keep(self);
        let _turn = match this.begin_write(hub, deadline) {
            Ok(turn) => turn,
            Err(e) => return (0, Err(e)),
        };
        let mut done = 0;
        while done < data.len() || this.unsent() > 0 {
            match this.put_out(hub, &data[done..], deadline) {
                Ok(n) => done += n,
                Err(e) => return (done, Err(e)),
            }
        }
        (done, Ok(()))
    }

    /// Sends what goes of `data` at once, behind which nothing is said but the end; how much that is. The
    /// kernel keeps it for that: one segment instead of two, which is a fifth of what a closing connection
    /// costs (21.3 us for 25.9 with wrk, 24.3 for 28.8 with ab, medians of eight runs in turn). Should the
    /// end not come in this turn of the loop it goes without; the kernel itself waits for 0.2 s.
    pub fn send_last(&self, hub: &Hub, data: &[u8]) -> Result<usize> {
        let _turn = self.begin_write(hub, Deadline::NEVER)?;
        let name = u64::from(self.life) << 32 | self.fd as u64;
        let Ok(name) = usize::try_from(name) else { return Ok(0) };
        if self.unsent() > 0 || self.tls().is_some() || data.is_empty() {
            return Ok(0);
        }
        let n = sys::send(self.fd, data.as_ptr().cast(), data.len(), libc::MSG_MORE)?;
        hub.after_turn(Callback::Call(let_go, std::ptr::without_provenance_mut(name)));
        Ok(n)
    }

    /// The descriptor, if what is written to it is what the other end reads: so the kernel may
    /// write there as well, when all has been flushed.
    pub fn plain_fd(&self) -> Option<RawFd> {
        (self.tls().is_none() && self.foreign.is_none()).then_some(self.fd)
    }

    /// Writes all of the output.
    pub fn flush(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        let _turn = this.begin_write(hub, deadline)?;
        this.flush_all(hub, deadline)
    }

    fn flush_all(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        while self.unsent() > 0 {
            self.put_out(hub, &[], deadline)?;
        }
        Ok(())
    }

    // ---- what goes by itself: never waits, and takes no turn -------------------------------

    /// Puts both behind what has not gone yet; the second, to be changed. ENOMEM.
    #[allow(clippy::mut_from_ref)]
    pub fn gather(&self, first: &[u8], second: &[u8]) -> Result<&mut [u8]> {
        may_fail(Call::Alloc)?;
        let output = self.output();
        output.reserve(first.len() + second.len())?;
        output.push(first);
        output.push(second);
        let there = output.get_mut();
        let from = there.len() - second.len();
        Ok(&mut there[from..])
    }

    /// As `gather`, but what can go at once goes without being copied. EPIPE when some has gone and
    /// there is no memory for the rest.
    pub fn send_now(&self, hub: &Hub, first: &[u8], second: &[u8]) -> Result<()> {
        self.check(hub)?;
        let mut gone = 0;
        if self.unsent() == 0 && self.tls().is_none() && self.foreign.is_none() {
            let one = |bytes: &[u8]| iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let (known, now) = (Known::Nothing, Deadline::NOW);
            let tried = match second.is_empty() {
                true => rw::try_write(hub, self.fd, first.as_ptr(), first.len(), known, now),
                false => rw::try_writev(hub, self.fd, &[one(first), one(second)], known, now),
            };
            // What went wrong otherwise is found out by `push_some`.
            gone = tried.unwrap_or(0);
            if gone == first.len() + second.len() {
                return Ok(());
            }
        }
        let of_first = gone.min(first.len());
        let kept = self.gather(&first[of_first..], &second[gone - of_first..]).map(drop);
        kept.map_err(|e| if gone > 0 { Error::PIPE } else { e })
    }

    /// Writes what goes without waiting. EAGAIN when that is not all.
    pub fn push_some(&self, hub: &Hub) -> Result<()> {
        self.check(hub)?;
        if self.foreign.is_some() && self.unsent() > 0 {
            return Err(Error::AGAIN);
        }
        while self.unsent() > 0 {
            if self.tls().is_some() {
                self.put_out_secure(hub, &[], Deadline::NOW)?;
            } else {
                let there = self.output().get();
                let n = rw::try_write(hub, self.fd, there.as_ptr(), there.len(), Known::Nothing, Deadline::NOW)?;
                self.output().drop_front(n);
            }
        }
        Ok(())
    }

    /// Writes all of the output and says that no more will come. ENOTSOCK for what can only
    /// be closed.
    pub fn end(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        let _turn = this.begin_write(hub, deadline)?;
        this.flush_all(hub, deadline)?;
        if this.tls().is_some() {
            this.end_secure(hub, deadline)?;
        }
        if this.foreign.is_some() {
            return Err(Error::NOTSOCK);
        }
        match sys::shutdown(this.fd, libc::SHUT_WR) {
            Err(e) if e == Error::from_errno(libc::ENOTCONN) => Err(Error::PIPE),
            done => done,
        }
    }
}
