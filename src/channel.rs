//! Messages between processes: each with its length before it, over a socket or two pipes.
//!
//! ```text
//! send:     message --> [ what has not gone yet ] --> 4 bytes of length, the message --> the other side
//! receive:  the other side --> [ what has come of the next one ] --> message
//! ```
//!
//! Both are kept in the channel and not by whoever waits, so a call that is cut short in the
//! middle of a message leaves the stream in step: what has begun to go goes first with the
//! next call, what has come is there for it.
//!
//! One greenlet sends and one receives at a time. In a forked child no greenlet of the
//! parent's does either.

use crate::error::{Error, Result};
use crate::handle::Kind;
use crate::heap::Block;
use crate::hub::Hub;
use crate::object::{self, insert, keep};
use crate::poller::{READ, WRITE};
use crate::process::Process;
use crate::rw;
use crate::sys::descriptor;
use crate::time::Deadline;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::os::fd::{IntoRawFd, RawFd};
use std::rc::{Rc, Weak};

/// The length of a message, lowest byte first.
const HEAD: usize = 4;
/// The largest message, for those who do not say.
pub const USUAL_LIMIT: usize = 16 << 20;
pub const MOST: usize = u32::MAX as usize;
/// A message that is told to be long gets its memory as it comes.
const STEP: usize = 64 << 10;
/// So much memory is kept for the next message to go.
const KEEP: usize = 64 << 10;

pub struct Channel {
    read_fd: Cell<RawFd>,
    write_fd: Cell<RawFd>,
    /// No message is longer, either way.
    limit: usize,
    outgoing: RefCell<Outgoing>,
    incoming: RefCell<Incoming>,
    sending: Cell<bool>,
    receiving: Cell<bool>,
}

crate::hub_object!(Channel, Kind::Channel);

#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    gone: usize,
}

impl Outgoing {
    fn left(&self) -> usize {
        self.bytes.len() - self.gone
    }

    /// ENOMEM, and nothing is added.
    fn add(&mut self, message: &[u8]) -> Result<()> {
        self.bytes.drain(..std::mem::take(&mut self.gone));
        crate::sys::may_fail(crate::sys::Call::Alloc)?;
        self.bytes.try_reserve(HEAD + message.len()).map_err(|_| Error::NOMEM)?;
        self.bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(message);
        Ok(())
    }

    fn all_gone(&mut self) {
        (self.bytes.len() > KEEP).then(|| self.bytes = Vec::new());
        self.bytes.clear();
        self.gone = 0;
    }
}

#[derive(Default)]
struct Incoming {
    head: [u8; HEAD],
    head_len: usize,
    message: Block,
    /// Of a message above the limit, how much is still to come and be dropped.
    to_drop: usize,
}

/// What a read was for.
#[derive(PartialEq)]
enum Step {
    More,
    Whole,
    TooLong,
}

impl Incoming {
    fn is_between(&self) -> bool {
        self.head_len == 0 && self.to_drop == 0
    }

    fn len(&self) -> usize {
        u32::from_le_bytes(self.head) as usize
    }

    /// Reads once, into what is missing; 0: the other side has ended.
    fn read(&mut self, mut read: impl FnMut(*mut u8, usize) -> Result<usize>) -> Result<usize> {
        if self.to_drop > 0 {
            let mut dropped = [0u8; 4096];
            let n = read(dropped.as_mut_ptr(), self.to_drop.min(dropped.len()))?;
            self.to_drop -= n;
            return Ok(n);
        }
        if self.head_len < HEAD {
            let rest = &mut self.head[self.head_len..];
            let n = read(rest.as_mut_ptr(), rest.len())?;
            self.head_len += n;
            return Ok(n);
        }
        let missing = self.len() - self.message.len();
        self.message.reserve(missing.min(STEP))?;
        let room = self.message.spare();
        let n = read(room.as_mut_ptr().cast(), missing.min(room.len()))?;
        // SAFETY: read has filled so much.
        unsafe { self.message.filled(n) };
        Ok(n)
    }

    fn step(&mut self, limit: usize) -> Step {
        if self.to_drop > 0 || self.head_len < HEAD {
            return Step::More;
        }
        if self.len() > limit {
            self.to_drop = self.len();
            self.head_len = 0;
            return Step::TooLong;
        }
        if self.message.len() < self.len() { Step::More } else { Step::Whole }
    }

    fn take(&mut self) -> Result<Block> {
        self.message.reserve(0)?; // if only for a NUL
        self.head_len = 0;
        Ok(std::mem::take(&mut self.message))
    }
}

/// Lowered again however a call ends; what is abandoned is so with its hub.
struct Turn(Rc<Channel>, fn(&Channel) -> &Cell<bool>);

impl Turn {
    /// EBUSY.
    fn take(channel: &Channel, flag: fn(&Channel) -> &Cell<bool>) -> Result<Turn> {
        if flag(channel).replace(true) { Err(Error::BUSY) } else { Ok(Turn(keep(channel), flag)) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.1(&self.0).set(false);
    }
}

impl Channel {
    /// On descriptors that are the channel's from now on, and may be one. ENOMEM, and they
    /// are not; EINVAL for files, which have no other side. `limit` 0: the usual one.
    pub fn open(hub: &Hub, read_fd: RawFd, write_fd: RawFd, limit: usize) -> Result<i64> {
        if limit > MOST || descriptor::is_file(read_fd) || descriptor::is_file(write_fd) {
            return Err(Error::INVAL);
        }
        let channels = Channels::of(hub);
        channels.get_known(hub);
        let channel = Channel {
            read_fd: Cell::new(read_fd),
            write_fd: Cell::new(write_fd),
            limit: if limit == 0 { USUAL_LIMIT } else { limit },
            outgoing: RefCell::default(),
            incoming: RefCell::default(),
            sending: Cell::new(false),
            receiving: Cell::new(false),
        };
        let handle = insert(hub, channel)?;
        channels.add(&keep(object::get::<Channel>(hub, handle)?));
        Ok(handle)
    }

    /// Two that are connected. EMFILE, ENOMEM.
    pub fn pair(hub: &Hub, limit: usize) -> Result<[i64; 2]> {
        if limit > MOST {
            return Err(Error::INVAL);
        }
        let ends = descriptor::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
        let mut handles = [0; 2];
        for (i, end) in ends.into_iter().enumerate() {
            let fd = end.into_raw_fd();
            hub.poller().is_new(fd);
            handles[i] = Channel::open(hub, fd, fd, limit).inspect_err(|_| {
                crate::sys::close(fd);
                close_handle(hub, handles[0]);
            })?;
        }
        Ok(handles)
    }

    /// A child that runs `body` with its end of a channel; the process, and our end. It has
    /// no other channel of this hub's. EMFILE, ENOMEM, EAGAIN, and those of `Process::fork`.
    pub fn fork(hub: &Hub, limit: usize, body: impl FnOnce(i64) -> c_int) -> Result<(i64, i64)> {
        let [ours, theirs] = Channel::pair(hub, limit)?;
        let made = Process::fork(hub, |hub| {
            let mine = object::get::<Channel>(hub, theirs).map(keep).ok();
            let others = Channels::of(hub).all();
            others.iter().filter(|c| !mine.as_ref().is_some_and(|m| Rc::ptr_eq(m, c))).for_each(|c| c.close_fds());
            drop((mine, others));
            body(theirs)
        });
        close_handle(hub, theirs);
        match made {
            Ok(process) => Ok((process, ours)),
            Err(e) => {
                close_handle(hub, ours);
                Err(e)
            }
        }
    }

    fn closed(&self, _: &Hub) {
        self.close_fds();
    }

    /// Whoever waits gets EBADF, and so does every later call.
    fn close_fds(&self) {
        let (read_fd, write_fd) = (self.read_fd.replace(-1), self.write_fd.replace(-1));
        if write_fd >= 0 && write_fd != read_fd {
            let _ = rw::close(write_fd);
        }
        if read_fd >= 0 {
            let _ = rw::close(read_fd);
        }
    }

    /// The other side will read the end. What has not gone yet never will. EPIPE when that
    /// has been done.
    pub fn shut(&self) -> Result<()> {
        let fd = self.writing_fd()?;
        if fd == self.read_fd.get() {
            // Whoever waits to send is told by the kernel.
            descriptor::shutdown(fd, libc::SHUT_WR)?;
        } else {
            let _ = rw::close(fd);
        }
        self.write_fd.set(-1);
        if !self.sending.get() {
            self.outgoing.borrow_mut().all_gone();
        }
        Ok(())
    }

    /// EBADF when it is closed, EPIPE when it is shut.
    fn writing_fd(&self) -> Result<RawFd> {
        match (self.write_fd.get(), self.read_fd.get()) {
            (-1, -1) => Err(Error::BADF),
            (-1, _) => Err(Error::PIPE),
            (fd, _) => Ok(fd),
        }
    }

    /// The descriptor that is read from or written to. EBADF, EPIPE as above, EINVAL.
    pub fn fd(&self, wanted: u32) -> Result<RawFd> {
        match wanted {
            READ if self.read_fd.get() < 0 => Err(Error::BADF),
            READ => Ok(self.read_fd.get()),
            WRITE => self.writing_fd(),
            _ => Err(Error::INVAL),
        }
    }

    // ---- out ---------------------------------------------------------------------------

    /// How many bytes of messages that have begun to go are still here.
    pub fn unsent(&self) -> usize {
        self.outgoing.borrow().left()
    }

    /// Sends a message. When that fails and no byte of it has gone it has not been sent;
    /// otherwise its rest goes first with the next call. EMSGSIZE, EPIPE, EBUSY.
    pub fn send(&self, hub: &Hub, message: &[u8], deadline: Deadline) -> Result<()> {
        if message.len() > self.limit {
            return Err(Error::MSGSIZE);
        }
        self.writing_fd()?;
        let _turn = Turn::take(self, |c| &c.sending)?;
        let before = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.add(message)?;
            outgoing.bytes.len() - HEAD - message.len()
        };
        let sent = self.push(hub, deadline);
        if sent.is_err() {
            let mut outgoing = self.outgoing.borrow_mut();
            if outgoing.gone <= before {
                outgoing.bytes.truncate(before);
            }
        }
        sent
    }

    /// Sends what is left of earlier messages.
    pub fn flush(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        self.writing_fd()?;
        let _turn = Turn::take(self, |c| &c.sending)?;
        self.push(hub, deadline)
    }

    fn push(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        while self.unsent() > 0 {
            let fd = self.writing_fd()?;
            let n = hub.until_done(fd, WRITE, deadline, |known| {
                let outgoing = self.outgoing.borrow();
                let rest = &outgoing.bytes[outgoing.gone..];
                rw::try_write(hub, fd, rest.as_ptr(), rest.len(), known, deadline)
            });
            let n = match n {
                Err(e) if e == RESET => Err(Error::PIPE),
                // Closed or shut meanwhile; the number may be another's by now.
                n if self.write_fd.get() != fd => Err(self.writing_fd().err().or(n.err()).unwrap_or(Error::BADF)),
                n => n,
            }?;
            self.outgoing.borrow_mut().gone += n;
        }
        self.outgoing.borrow_mut().all_gone();
        Ok(())
    }

    // ---- in ----------------------------------------------------------------------------

    /// The next message. EPIPE when the other side has ended, EPROTO when that was in the
    /// middle of one; EMSGSIZE for one above the limit, which is dropped; EBUSY.
    pub fn receive(&self, hub: &Hub, deadline: Deadline) -> Result<Block> {
        self.fd(READ)?;
        let _turn = Turn::take(self, |c| &c.receiving)?;
        loop {
            let step = self.incoming.borrow_mut().step(self.limit);
            match step {
                Step::Whole => return self.incoming.borrow_mut().take(),
                Step::TooLong => return Err(Error::MSGSIZE),
                Step::More => {}
            }
            let fd = self.fd(READ)?;
            let n = hub.until_done(fd, READ, deadline, |known| {
                // SAFETY: room of the buffer's own, which stays while it is borrowed.
                self.incoming.borrow_mut().read(|at, len| unsafe { rw::try_read(hub, fd, at, len, known, deadline) })
            });
            match n {
                Err(e) if e == RESET => return Err(self.ended()),
                Ok(0) => return Err(self.ended()),
                n if self.read_fd.get() == fd => n?,
                _ => return Err(Error::BADF),
            };
        }
    }

    fn ended(&self) -> Error {
        if self.incoming.borrow().is_between() { Error::PIPE } else { Error::PROTO }
    }
}

/// The other side was closed with something unread.
const RESET: Error = Error::from_errno(libc::ECONNRESET);

fn close_handle(hub: &Hub, handle: i64) {
    let _ = hub.table.remove(handle).map(|closer| closer.close());
}

// ---- the channels of a hub --------------------------------------------------------------

#[derive(Default)]
struct Channels {
    known: Cell<bool>,
    /// Those with a handle, and some that are gone.
    list: RefCell<Vec<Weak<Channel>>>,
}

impl Channels {
    fn of(hub: &Hub) -> &Channels {
        hub.extension::<Channels>()
    }

    fn get_known(&self, hub: &Hub) {
        if !self.known.replace(true) {
            hub.at_fork(after_fork);
        }
    }

    /// Those that are gone leave when the list would grow.
    fn add(&self, channel: &Rc<Channel>) {
        let mut list = self.list.borrow_mut();
        if list.len() == list.capacity() {
            list.retain(|one| one.strong_count() > 0);
        }
        list.push(Rc::downgrade(channel));
    }

    fn all(&self) -> Vec<Rc<Channel>> {
        self.list.borrow().iter().filter_map(Weak::upgrade).collect()
    }
}

/// Whoever was sending or receiving is the parent's.
fn after_fork(hub: &Hub) {
    for channel in Channels::of(hub).all() {
        channel.sending.set(false);
        channel.receiving.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` by `most` at a time; the messages that come of them.
    fn messages(bytes: &[u8], most: usize, limit: usize) -> Vec<Result<Vec<u8>>> {
        let (mut incoming, mut rest, mut got) = (Incoming::default(), bytes, Vec::new());
        loop {
            match incoming.step(limit) {
                Step::Whole => got.push(incoming.take().map(|block| block.to_vec())),
                Step::TooLong => got.push(Err(Error::MSGSIZE)),
                Step::More if rest.is_empty() => break,
                Step::More => {
                    let read = |at: *mut u8, len: usize| {
                        let n = len.min(most).min(rest.len());
                        // SAFETY: there is room for `len` bytes.
                        unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), at, n) };
                        rest = &rest[n..];
                        Ok(n)
                    };
                    incoming.read(read).unwrap();
                }
            }
        }
        assert!(incoming.is_between());
        got
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let mut out = Outgoing::default();
        let sent: [&[u8]; 4] = [b"", b"a", b"some text", &[7; 9000]];
        sent.iter().for_each(|message| out.add(message).unwrap());
        for most in [1, 2, 3, 4, 5, 1000, usize::MAX] {
            let got = messages(&out.bytes, most, 1 << 20);
            assert_eq!(got, sent.map(|message| Ok(message.to_vec())));
        }
    }

    #[test]
    fn a_message_above_the_limit_is_dropped_and_the_next_one_comes() {
        let mut out = Outgoing::default();
        let sent: [&[u8]; 3] = [b"one", &[0; 5000], b"two"];
        sent.iter().for_each(|message| out.add(message).unwrap());
        for most in [1, 7, usize::MAX] {
            let got = messages(&out.bytes, most, 4);
            assert_eq!(got, [Ok(b"one".to_vec()), Err(Error::MSGSIZE), Ok(b"two".to_vec())]);
        }
    }
}
