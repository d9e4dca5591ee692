//! A response on its way out: head, then body, in as few writes as can be.
//!
//! ```text
//!  open --begin--> begun --write, write...--> end--> ended
//!        (add_header before it)   (add_trailer)          anything that fails in the middle: broken
//! ```
//!
//! The head waits for the first bytes of the body and small pieces for each other, in `out`. Large pieces go
//! to the socket from where they are, together with what waits. A response that broke off is never ended
//! as if it were whole: the connection is closed instead.

use super::config::Limits;
use super::{date, field, status};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::rw;
use crate::splice;
use crate::stream::{Stream, Turn};
use crate::time::Deadline;
use std::cell::{Cell, UnsafeCell};
use std::io::Write;
use std::os::fd::RawFd;

/// Pieces of so much are copied, as long as no more than so much waits.
const SMALL: usize = 2 << 10;
const GATHER: usize = 8 << 10;
/// So much of a piece is written in the time that a piece has.
const PIECE: usize = 64 << 10;
/// The same where the kernel reads it from a file.
const FILE_PIECE: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Open,
    Begun,
    Ended,
    Broken(Error),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// HEAD, 204, 304: what is written is dropped.
    Nothing,
    /// So many bytes are still to be written.
    Length(u64),
    /// So many of the chunk that has been begun.
    Chunked(u64),
    /// As many as there are, until the connection ends.
    ToTheEnd,
}

/// What a response must know of its request and its connection.
pub struct Context<'a> {
    pub minor: u8,
    pub is_head: bool,
    /// The connection ends after it.
    pub closes: bool,
    /// The Server header's value; "": none.
    pub server: &'a [u8],
}

pub struct Response {
    state: Cell<State>,
    kind: Cell<Kind>,
    status: Cell<u16>,
    /// Bytes of the body that were taken over.
    sent: Cell<u64>,
    closes: Cell<bool>,
    has_date: Cell<bool>,
    turn: Cell<u64>,
    /// Whoever has the turn is alone with these. Headers, later trailers, of the user's:
    lines: UnsafeCell<Vec<u8>>,
    /// What waits to be written; of earlier responses as well.
    out: UnsafeCell<Vec<u8>>,
}

impl Default for Response {
    fn default() -> Response {
        Response {
            state: Cell::new(State::Open),
            kind: Cell::new(Kind::Nothing),
            status: Cell::new(0),
            sent: Cell::new(0),
            closes: Cell::new(false),
            has_date: Cell::new(false),
            turn: Cell::new(0),
            lines: UnsafeCell::default(),
            out: UnsafeCell::default(),
        }
    }
}

fn push(to: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| to.extend_from_slice(part));
}

fn push_number(to: &mut Vec<u8>, n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return to.extend_from_slice(&digits[at..]);
        }
    }
}

impl Response {
    /// For the next request of the connection.
    pub fn open(&self) {
        self.state.set(State::Open);
        self.kind.set(Kind::Nothing);
        self.status.set(0);
        self.sent.set(0);
        self.closes.set(false);
        self.has_date.set(false);
        self.lines().clear();
    }

    /// Gives memory back that is more than most need.
    pub fn rest(&self) {
        for buffer in [self.lines(), self.out()] {
            if buffer.capacity() > 2 * SMALL && buffer.is_empty() {
                *buffer = Vec::new();
            }
        }
    }

    pub fn state(&self) -> State {
        self.state.get()
    }

    pub fn status(&self) -> u16 {
        self.status.get()
    }

    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Whether the connection can not go on after it, by what it says or how it went.
    pub fn closes(&self) -> bool {
        self.closes.get() || self.state.get() != State::Ended
    }

    pub fn is_in_use(&self) -> bool {
        Turn::take(&self.turn).is_err()
    }

    #[allow(clippy::mut_from_ref)]
    fn lines(&self) -> &mut Vec<u8> {
        // SAFETY: one thread; the callers have the turn, or do not suspend and find it free.
        unsafe { &mut *self.lines.get() }
    }

    #[allow(clippy::mut_from_ref)]
    fn out(&self) -> &mut Vec<u8> {
        // SAFETY: as above.
        unsafe { &mut *self.out.get() }
    }

    fn breaks(&self, e: Error) -> Error {
        self.state.set(State::Broken(e));
        e
    }

    /// What a call finds that wants to write: EALREADY when it has ended, what broke it.
    fn must_be(&self, wanted: State) -> Result<()> {
        match self.state.get() {
            State::Broken(e) => Err(e),
            state if state == wanted => Ok(()),
            State::Open => Err(Error::INVAL),
            _ => Err(Error::ALREADY),
        }
    }

    // ---- the head ----------------------------------------------------------------------

    /// Adds a header, or behind the head a trailer. EINVAL for what would break the message, or is the
    /// library's to say; EALREADY.
    pub fn add(&self, name: &[u8], value: &[u8]) -> Result<()> {
        let _turn = Turn::take(&self.turn)?;
        if !field::is_token(name) || !field::is_value(value) {
            return Err(Error::INVAL);
        }
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        if is(b"content-length") || is(b"transfer-encoding") {
            return Err(Error::INVAL);
        }
        match self.state.get() {
            State::Open if is(b"connection") => {
                let mut others = field::parts(value).filter(|p| !p.eq_ignore_ascii_case(b"keep-alive")).peekable();
                if others.peek().is_some_and(|p| p.eq_ignore_ascii_case(b"close")) {
                    self.closes.set(true);
                    return Ok(());
                }
                if others.peek().is_none() {
                    return Ok(()); // it is said where it must be
                }
            }
            State::Open => {
                if is(b"date") {
                    self.has_date.set(true);
                }
            }
            State::Begun if matches!(self.kind.get(), Kind::Length(_)) => return Err(Error::INVAL),
            State::Begun => {}
            State::Ended => return Err(Error::ALREADY),
            State::Broken(e) => return Err(e),
        }
        self.lines().try_reserve(name.len() + value.len() + 4).map_err(|_| Error::NOMEM)?;
        push(self.lines(), &[name, b": ", value, b"\r\n"]);
        Ok(())
    }

    /// Composes the head; `length` of the body, if it is known. Nothing is written yet.
    pub fn begin(&self, how: &Context, code: u16, reason: Option<&[u8]>, length: Option<u64>) -> Result<()> {
        let _turn = Turn::take(&self.turn)?;
        self.begin_with_turn(how, code, reason, length)
    }

    fn begin_with_turn(&self, how: &Context, code: u16, reason: Option<&[u8]>, length: Option<u64>) -> Result<()> {
        match self.state.get() {
            State::Open => {}
            State::Broken(e) => return Err(e),
            _ => return Err(Error::ALREADY),
        }
        let reason = reason.unwrap_or(status::phrase(code).as_bytes());
        if !(200..=999).contains(&code) || !field::is_value(reason) {
            return Err(Error::INVAL);
        }
        let is_bodiless = status::is_bodiless(code);
        let (kind, says) = match length {
            _ if code == 204 => (Kind::Nothing, None),
            Some(length) => (Kind::Length(length), Some(length)),
            None if code == 304 => (Kind::Nothing, None),
            None if how.minor == 0 => (Kind::ToTheEnd, None),
            None => (Kind::Chunked(0), None),
        };
        if kind == Kind::ToTheEnd {
            self.closes.set(true);
        }
        self.closes.set(self.closes.get() || how.closes);
        let out = self.out();
        out.try_reserve(256 + self.lines().len()).map_err(|_| Error::NOMEM)?;
        self.compose(how, code, reason, kind, says);
        let kind = if how.is_head || is_bodiless { Kind::Nothing } else { kind };
        self.lines().clear();
        self.kind.set(kind);
        self.status.set(code);
        self.state.set(State::Begun);
        Ok(())
    }

    fn compose(&self, how: &Context, code: u16, reason: &[u8], kind: Kind, length: Option<u64>) {
        let out = self.out();
        if code == 200 && reason == b"OK" {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            out.extend_from_slice(b"HTTP/1.1 ");
            push_number(out, u64::from(code));
            push(out, &[b" ", reason, b"\r\n"]);
        }
        if !self.has_date.get() {
            push(out, &[b"Date: ", &date::now(), b"\r\n"]);
        }
        if !how.server.is_empty() {
            push(out, &[b"Server: ", how.server, b"\r\n"]);
        }
        out.extend_from_slice(self.lines());
        if let Some(length) = length {
            out.extend_from_slice(b"Content-Length: ");
            push_number(out, length);
            out.extend_from_slice(b"\r\n");
        } else if matches!(kind, Kind::Chunked(_)) {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        out.extend_from_slice(match (self.closes.get(), how.minor) {
            (true, _) => b"Connection: close\r\n\r\n",
            (false, 0) => b"Connection: keep-alive\r\n\r\n",
            (false, _) => b"\r\n",
        });
    }

    /// Head and body at once; `content_type` of the body, if it has any.
    #[allow(clippy::too_many_arguments)]
    pub fn reply(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        how: &Context,
        code: u16,
        content_type: Option<&[u8]>,
        body: &[u8],
        deadline: Deadline,
    ) -> Result<()> {
        let _turn = Turn::take(&self.turn)?;
        let added = self.lines().len();
        if let (Some(content_type), State::Open) = (content_type, self.state.get()) {
            if !field::is_value(content_type) || !(200..=999).contains(&code) {
                return Err(Error::INVAL);
            }
            push(self.lines(), &[b"Content-Type: ", content_type, b"\r\n"]);
        }
        let begun = self.begin_with_turn(how, code, None, Some(body.len() as u64));
        begun.inspect_err(|_| self.lines().truncate(added))?;
        self.write_with_turn(hub, stream, limits, body, deadline).1?;
        self.end_with_turn(hub, stream, limits, deadline)
    }

    // ---- the body ----------------------------------------------------------------------

    /// Takes `data` over; how much of it, and why no more. EMSGSIZE when it is more than was announced.
    pub fn write(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        data: &[u8],
        deadline: Deadline,
    ) -> (usize, Result<()>) {
        match Turn::take(&self.turn) {
            Ok(_turn) => self.write_with_turn(hub, stream, limits, data, deadline),
            Err(e) => (0, Err(e)),
        }
    }

    fn write_with_turn(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        data: &[u8],
        deadline: Deadline,
    ) -> (usize, Result<()>) {
        if let Err(e) = self.must_be(State::Begun).and_then(|()| self.may_take(data.len() as u64)) {
            return (0, Err(e));
        }
        if data.is_empty() || self.kind.get() == Kind::Nothing {
            return (data.len(), Ok(()));
        }
        let mut done = 0;
        // A chunk that a call before has not got to the end of comes first, and may not be all.
        while done < data.len() {
            let most = self.open_chunk((data.len() - done) as u64) as usize;
            let (n, result) = self.put(hub, stream, limits, &data[done..done + most], deadline);
            self.took(n as u64);
            done += n;
            if result.is_err() {
                return (done, result);
            }
        }
        (done, Ok(()))
    }

    fn may_take(&self, n: u64) -> Result<()> {
        match self.kind.get() {
            Kind::Length(left) if n > left => Err(Error::MSGSIZE),
            _ => Ok(()),
        }
    }

    /// Writes a chunk's size, if none is begun; how much of `n` belongs to this one.
    fn open_chunk(&self, n: u64) -> u64 {
        match self.kind.get() {
            Kind::Chunked(0) => {
                let _ = write!(self.out(), "{n:x}\r\n"); // a vector takes everything
                self.kind.set(Kind::Chunked(n));
                n
            }
            Kind::Chunked(left) => n.min(left),
            _ => n,
        }
    }

    fn took(&self, n: u64) {
        self.sent.set(self.sent.get() + n);
        match self.kind.get() {
            Kind::Length(left) => self.kind.set(Kind::Length(left - n)),
            Kind::Chunked(left) if n > 0 => {
                self.kind.set(Kind::Chunked(left - n));
                if left == n {
                    self.out().extend_from_slice(b"\r\n");
                }
            }
            _ => {}
        }
    }

    fn put(&self, hub: &Hub, stream: &Stream, limits: &Limits, data: &[u8], deadline: Deadline) -> (usize, Result<()>) {
        let out = self.out();
        if data.len() <= SMALL && out.len() + data.len() <= GATHER {
            if out.try_reserve(data.len()).is_err() {
                return (0, Err(Error::NOMEM));
            }
            out.extend_from_slice(data);
            return (data.len(), Ok(()));
        }
        let mut done = 0;
        while done < data.len() {
            let end = data.len().min(done + PIECE);
            let moved = self.in_time(limits, deadline, |deadline| {
                if !self.out().is_empty() {
                    let (n, result) = stream.write(hub, self.out(), deadline);
                    self.out().drain(..n);
                    result?;
                }
                let (n, result) = stream.send(hub, &data[done..end], deadline);
                done += n;
                result
            });
            if moved.is_err() {
                return (done, moved);
            }
        }
        (done, Ok(()))
    }

    /// Makes a call that may wait for the reader, for as long as he may take.
    fn in_time(&self, limits: &Limits, deadline: Deadline, call: impl FnOnce(Deadline) -> Result<()>) -> Result<()> {
        let patience = if deadline.is_now() { deadline } else { Deadline::after(limits.write_ns) };
        match call(deadline.min(patience)) {
            Err(Error::TIMEDOUT) if patience <= deadline && patience.has_passed() => Err(self.breaks(Error::TIMEDOUT)),
            Err(e @ (Error::AGAIN | Error::TIMEDOUT | Error::CANCELED | Error::NOMEM | Error::BUSY)) => Err(e),
            Err(e) if e == Error::WOULDBLOCK || e == Error::DEADLK || e.is_interrupt() => Err(e),
            Err(e) => Err(self.breaks(e)), // the other end is gone
            done => done,
        }
    }

    fn flush_with_turn(&self, hub: &Hub, stream: &Stream, limits: &Limits, deadline: Deadline) -> Result<()> {
        if self.out().is_empty() && stream.unsent() == 0 {
            return Ok(());
        }
        self.in_time(limits, deadline, |deadline| {
            let (n, result) = stream.send(hub, self.out(), deadline);
            if n == self.out().len() {
                self.out().clear();
            } else {
                self.out().drain(..n);
            }
            result
        })
    }

    /// Writes what waits.
    pub fn flush(&self, hub: &Hub, stream: &Stream, limits: &Limits, deadline: Deadline) -> Result<()> {
        let _turn = Turn::take(&self.turn)?;
        self.flush_with_turn(hub, stream, limits, deadline)
    }

    /// Says that it is whole, and writes what waits, unless another request is there already: then the
    /// responses go together. EINVAL when there are fewer bytes than were announced: then it is broken.
    pub fn end(&self, hub: &Hub, stream: &Stream, limits: &Limits, deadline: Deadline) -> Result<()> {
        let _turn = Turn::take(&self.turn)?;
        self.end_with_turn(hub, stream, limits, deadline)
    }

    fn end_with_turn(&self, hub: &Hub, stream: &Stream, limits: &Limits, deadline: Deadline) -> Result<()> {
        self.must_be(State::Begun)?;
        match self.kind.get() {
            Kind::Length(0) | Kind::Nothing | Kind::ToTheEnd => {}
            Kind::Chunked(0) => push(self.out(), &[b"0\r\n", self.lines(), b"\r\n"]),
            Kind::Length(_) | Kind::Chunked(_) => return Err(self.breaks(Error::INVAL)),
        }
        self.state.set(State::Ended);
        let others_come =
            !self.closes.get() && self.out().len() < GATHER && stream.peek(hub).is_ok_and(|p| !p.is_empty());
        if others_come { Ok(()) } else { self.flush_with_turn(hub, stream, limits, deadline) }
    }

    /// Sends `len` bytes of a file from `from` on, as part of the body; how many. EPIPE when the file has
    /// fewer: then it is broken.
    #[allow(clippy::too_many_arguments)]
    pub fn send_file(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        file: RawFd,
        from: i64,
        len: u64,
        deadline: Deadline,
    ) -> (u64, Result<()>) {
        let _turn = match Turn::take(&self.turn) {
            Ok(turn) => turn,
            Err(e) => return (0, Err(e)),
        };
        if let Err(e) = self.must_be(State::Begun).and_then(|()| self.may_take(len)) {
            return (0, Err(e));
        }
        if from < 0 || from.checked_add_unsigned(len).is_none() {
            return (0, Err(Error::INVAL));
        }
        if len == 0 || self.kind.get() == Kind::Nothing {
            return (len, Ok(()));
        }
        let (mut at, mut done) = (from, 0);
        while done < len {
            let most = self.open_chunk(len - done).min(FILE_PIECE as u64) as usize;
            let before = at;
            let moved = self.in_time(limits, deadline, |deadline| {
                let (n, result) = stream.send(hub, self.out(), deadline);
                self.out().drain(..n);
                result?;
                let n = match stream.plain_fd() {
                    Some(fd) => splice::sendfile(hub, fd, file, Some(&mut at), most, deadline, || stream.check(hub))?,
                    None => copy_piece(hub, stream, file, &mut at, most, deadline)?,
                };
                if n == 0 { Err(Error::NOENT) } else { Ok(()) }
            });
            self.took((at - before) as u64);
            done += (at - before) as u64;
            match moved {
                Ok(()) => {}
                // The file is shorter than it was said to be.
                Err(Error::NOENT) => return (done, Err(self.breaks(Error::PIPE))),
                Err(e) => return (done, Err(e)),
            }
        }
        (done, Ok(()))
    }

    /// What was said before the connection is another protocol's: 101, and the headers that were added.
    pub fn switch(
        &self,
        hub: &Hub,
        stream: &Stream,
        limits: &Limits,
        protocol: &[u8],
        deadline: Deadline,
    ) -> Result<()> {
        let _turn = Turn::take(&self.turn)?;
        match self.state.get() {
            State::Open => {}
            State::Broken(e) => return Err(e),
            _ => return Err(Error::ALREADY),
        }
        if !field::is_value(protocol) || protocol.is_empty() {
            return Err(Error::INVAL);
        }
        let head: [&[u8]; 5] = [
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ",
            protocol,
            b"\r\n",
            self.lines(),
            b"\r\n",
        ];
        push(self.out(), &head);
        self.status.set(101);
        self.closes.set(true);
        self.state.set(State::Ended);
        self.flush_with_turn(hub, stream, limits, deadline)
    }

    /// An interim response before it, with headers of its own; it waits for a flush. HTTP/1.0 has none.
    /// EINVAL, EALREADY.
    pub fn inform(&self, minor: u8, code: u16, headers: &[(&[u8], &[u8])]) -> Result<()> {
        let _turn = Turn::take(&self.turn)?;
        self.must_be(State::Open)?;
        const OWN: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"connection"];
        let is_own = |name: &[u8]| OWN.iter().any(|own| name.eq_ignore_ascii_case(own));
        if !headers.iter().all(|(name, value)| field::is_token(name) && field::is_value(value) && !is_own(name)) {
            return Err(Error::INVAL);
        }
        if minor == 0 {
            return Ok(());
        }
        let out = self.out();
        let size = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
        out.try_reserve(size + 64).map_err(|_| Error::NOMEM)?;
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(code));
        push(out, &[b" ", status::phrase(code).as_bytes(), b"\r\n"]);
        headers.iter().for_each(|(name, value)| push(out, &[name, b": ", value, b"\r\n"]));
        push(out, &[b"\r\n"]);
        Ok(())
    }
}

/// Where the kernel can not write to the other end: by way of our memory.
fn copy_piece(hub: &Hub, stream: &Stream, file: RawFd, at: &mut i64, most: usize, deadline: Deadline) -> Result<usize> {
    let mut piece = Vec::<u8>::new();
    let most = most.min(PIECE);
    piece.try_reserve_exact(most).map_err(|_| Error::NOMEM)?;
    let into = [libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: most }];
    // SAFETY: room for so much, which is this call's alone.
    let n = unsafe { rw::pread(hub, file, &into, *at, deadline) }?;
    // SAFETY: so much has been read.
    unsafe { piece.set_len(n) };
    let (n, result) = stream.send(hub, &piece, deadline);
    *at += n as i64;
    result.map(|()| n)
}
