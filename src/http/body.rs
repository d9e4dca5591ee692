//! The body of a message, read from its stream: as long as it was said, or chunk by chunk.
//!
//! Only what belongs to the body is taken; what is behind it stays in the stream. Who sends too slowly is
//! not waited for: the body has some time, and more with every byte that comes.

use super::chunk::{Chunks, Next};
use super::config::Limits;
use super::head::Framing;
use crate::error::{Error, Result};
use crate::heap::Block;
use crate::hub::Hub;
use crate::stream::Stream;
use crate::time::{Deadline, now};
use std::cell::Cell;

#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Bytes(u64),
    Chunks(Chunks),
    ToTheEnd,
    /// It broke, and where the next message begins nobody knows.
    Broken(Error),
}

#[derive(Debug)]
pub struct Body {
    left: Cell<Left>,
    got: Cell<u64>,
    waited_ns: Cell<i64>,
}

impl Default for Body {
    fn default() -> Body {
        Body { left: Cell::new(Left::Nothing), got: Cell::new(0), waited_ns: Cell::new(0) }
    }
}

/// So much is read at a time by who wants all of it.
const PIECE: usize = 16 << 10;

impl Body {
    pub fn begin(&self, framing: Framing) {
        self.left.set(match framing {
            Framing::None => Left::Nothing,
            Framing::Length(n) => Left::Bytes(n),
            Framing::Chunked => Left::Chunks(Chunks::new()),
            Framing::ToTheEnd => Left::ToTheEnd,
        });
        self.got.set(0);
        self.waited_ns.set(0);
    }

    pub fn is_done(&self) -> bool {
        matches!(self.left.get(), Left::Nothing)
    }

    pub fn is_broken(&self) -> bool {
        self.failure().is_some()
    }

    /// What broke it.
    pub fn failure(&self) -> Option<Error> {
        if let Left::Broken(e) = self.left.get() { Some(e) } else { None }
    }

    /// How many bytes are to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self.left.get() {
            Left::Nothing => Some(0),
            Left::Bytes(n) => Some(n),
            _ => None,
        }
    }

    pub fn got(&self) -> u64 {
        self.got.get()
    }

    /// Reads some of it, at least a byte; 0 at its end. EPIPE when the sender leaves before that, EPROTO
    /// for chunks that are none, EMSGSIZE beyond `limits.body`.
    ///
    /// # Safety
    /// `at` points to `len` bytes that are this call's alone until it returns.
    pub unsafe fn read(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        at: *mut u8,
        len: usize,
        deadline: Deadline,
    ) -> Result<usize> {
        if len == 0 {
            return Ok(0);
        }
        loop {
            let (most, mut chunks) = match self.left.get() {
                Left::Nothing => return Ok(0),
                Left::Broken(e) => return Err(e),
                Left::Bytes(n) => (n, None),
                Left::ToTheEnd => (u64::MAX, None),
                Left::Chunks(chunks) => match self.frame(hub, stream, limits, chunks, deadline)? {
                    None => continue, // the end of it, or more framing
                    Some((n, chunks)) => (n, Some(chunks)),
                },
            };
            let most = most.min(len as u64) as usize;
            // SAFETY: by contract; no more than `len`.
            let n = self.patiently(hub, stream, limits, deadline, |d| unsafe { stream.read(hub, at, most, d) })?;
            if n == 0 {
                return self.ended();
            }
            self.got.set(self.got.get() + n as u64);
            match (&mut chunks, self.left.get()) {
                (Some(chunks), _) => {
                    chunks.took(n as u64);
                    self.left.set(Left::Chunks(*chunks));
                }
                (None, Left::Bytes(left)) => {
                    let left = left - n as u64;
                    self.left.set(if left == 0 { Left::Nothing } else { Left::Bytes(left) });
                }
                _ => {}
            }
            if self.got.get() > limits.body && chunks.is_some() {
                return self.breaks(Error::MSGSIZE);
            }
            return Ok(n);
        }
    }

    /// Nothing comes any more.
    fn ended(&self) -> Result<usize> {
        if let Left::ToTheEnd = self.left.get() {
            self.left.set(Left::Nothing);
            return Ok(0);
        }
        self.breaks(Error::PIPE)
    }

    fn breaks<T>(&self, e: Error) -> Result<T> {
        self.left.set(Left::Broken(e));
        Err(e)
    }

    /// Reads a chunk's framing: how much data follows, `None` if something else does.
    fn frame(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        mut chunks: Chunks,
        deadline: Deadline,
    ) -> Result<Option<(u64, Chunks)>> {
        let (n, next) = match chunks.frame(stream.peek(hub)?) {
            Ok(framed) => framed,
            Err(e) => return self.breaks(e),
        };
        stream.skip(hub, n)?;
        self.left.set(Left::Chunks(chunks));
        match next {
            Next::Data(n) => return Ok(Some((n, chunks))),
            Next::End => self.left.set(Left::Nothing),
            Next::More => {
                if self.patiently(hub, stream, limits, deadline, |d| stream.fill(hub, 1, d))? == 0 {
                    return self.breaks(Error::PIPE);
                }
            }
        }
        Ok(None)
    }

    /// Makes a call that may wait for the sender, for as long as he may take.
    fn patiently(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        deadline: Deadline,
        call: impl FnOnce(Deadline) -> Result<usize>,
    ) -> Result<usize> {
        if deadline.is_now() || !stream.peek(hub)?.is_empty() {
            return call(deadline);
        }
        let patience = limits.patience(self.got.get(), self.waited_ns.get());
        let begun = now();
        let done = call(deadline.min(patience));
        self.waited_ns.set(self.waited_ns.get() + now() - begun);
        if done == Err(Error::TIMEDOUT) && patience <= deadline && patience.has_passed() {
            return self.breaks(Error::TIMEDOUT);
        }
        done
    }

    /// Reads all of it. EMSGSIZE when it is more than `cap`; what has been read is lost then.
    pub fn read_all(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        cap: usize,
        into: &mut Block,
        deadline: Deadline,
    ) -> Result<()> {
        if self.left().is_some_and(|left| left > cap as u64) {
            return Err(Error::MSGSIZE);
        }
        into.reserve(self.left().unwrap_or(0).min(1 << 20) as usize)?;
        loop {
            if self.is_done() {
                return Ok(());
            }
            if into.len() > cap {
                return Err(Error::MSGSIZE);
            }
            let most = PIECE.max(into.spare().len()).min((cap - into.len()).saturating_add(1));
            into.reserve(most)?;
            // SAFETY: room for so much, and this call's alone.
            let n = unsafe { self.read(hub, stream, limits, into.spare().as_mut_ptr().cast(), most, deadline) }?;
            // SAFETY: so much has been read.
            unsafe { into.filled(n) };
        }
    }

    /// Reads what is left and drops it, if it is no more than `most`. EMSGSIZE.
    pub fn discard(&self, hub: &Hub, stream: &Stream, limits: &Limits, most: u64, deadline: Deadline) -> Result<()> {
        let before = self.got.get();
        while !self.is_done() {
            if self.left().unwrap_or(0) + (self.got.get() - before) > most {
                return Err(Error::MSGSIZE);
            }
            let mut drain = [0u8; 512];
            // SAFETY: an array of ours.
            unsafe { self.read(hub, stream, limits, drain.as_mut_ptr(), drain.len(), deadline) }?;
        }
        Ok(())
    }
}
