//! The server's side of a connection: request after request, in order, until one of both sides has enough.
//!
//! ```text
//!  idle --a byte--> head --all of it--> handler --> finish --> idle
//!   |                |  too slow: 408     |            |  the body's rest dropped, the handle rests
//!   v                v  wrong: 4xx        v killed     v
//!  end <---------- linger <--------------end <-- said "close"
//! ```
//!
//! After a refusal nothing that follows is read as a request. The connection lingers: we say that we are
//! done, and read on for a moment, since a close with unread bytes would make the kernel take back the
//! response as well.
//!
//! A connection that somebody else has accepted is a `Connection`: it is asked for request after request, and
//! goes the same way.

use super::exchange::{DISCARD, Exchange};
use super::head::{Framing, Refused, Scan};
use super::response::{Context, State};
use super::server::{HttpServer, LogFn};
use super::status;
use crate::error::{Error, Result};
use crate::handle::Kind;
use crate::hub::Hub;
use crate::net::address::Address;
use crate::object::{self, keep};
use crate::server::Serve;
use crate::stream::{Stream, Turn};
use crate::sys::descriptor as sys;
use crate::time::{Deadline, now};
use crate::tls::config::Config;
use libc::c_int;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

/// In whose name a record holds an exchange: no handle.
const HOLDER: i64 = -3;
const LINGER_NS: i64 = 2_000_000_000;
const LINGER: usize = 256 << 10;

/// The share that a greenlet's record has in its exchange.
struct Record(Rc<Exchange>);

impl Drop for Record {
    fn drop(&mut self) {
        self.0.server.unseat(&self.0.seat);
    }
}

/// `HttpServer` behind an `Rc`, for the server to call; and TLS, with how long a handshake may take.
pub struct Service(pub Rc<HttpServer>, pub Option<(Arc<Config>, i64)>);

impl Serve for Service {
    fn serve(&self, hub: &Hub, fd: RawFd, peer: &Address) -> c_int {
        if let Ok(exchange) = self.connect(hub, fd, peer) {
            let shake = |(config, ns): &(Arc<Config>, i64)| {
                exchange.stream.secure(hub, config, None, Deadline::after(*ns)).is_ok()
            };
            if self.1.as_ref().is_none_or(shake) {
                exchange.run(hub);
            }
            exchange.leave(hub);
        }
        0
    }

    fn shut(&self, hub: &Hub) {
        self.0.shut(hub);
    }

    fn site(&self) -> usize {
        self.0.handler as usize
    }
}

impl Service {
    /// An exchange for a new connection, which the current greenlet's record holds.
    fn connect<'a>(&self, hub: &Hub, fd: RawFd, peer: &Address) -> Result<&'a Rc<Exchange>> {
        let read_max = (self.0.limits.head + 4).max(crate::stream::READ_MAX);
        let stream = Stream::of(hub, fd, false, read_max, 0)?;
        let shared = keep(object::get::<Stream>(hub, stream)?);
        let exchange = object::in_place(|| Exchange::new(self.0.clone(), shared, stream, fd, *peer));
        // SAFETY: its record takes it out again.
        unsafe { self.0.seat(&exchange.seat) };
        let record = Box::new(Record(exchange));
        // SAFETY: boxed, and dropped at the end of this greenlet, which is past every use of this.
        let exchange = unsafe { &*std::ptr::from_ref(&record.0) };
        hub.on_end(hub.current(), HOLDER, move |_| drop(record));
        Ok(exchange)
    }
}

/// Why there is no next request.
enum Over {
    Refused(Refused),
    /// The other end has nothing more to say, or does not say it.
    End,
    /// Whoever waits for it is to do something else: there may be one later.
    Later(Error),
}

impl From<Refused> for Over {
    fn from(refused: Refused) -> Over {
        Over::Refused(refused)
    }
}

impl From<Error> for Over {
    fn from(e: Error) -> Over {
        match e {
            Error::CANCELED | Error::AGAIN | Error::TIMEDOUT | Error::BUSY | Error::NOMEM | Error::PERM => {
                Over::Later(e)
            }
            _ if e == Error::WOULDBLOCK || e == Error::DEADLK || e == Error::BADF => Over::Later(e),
            _ if e.is_interrupt() => Over::Later(e),
            _ => Over::End,
        }
    }
}

impl Exchange {
    fn run(self: &Rc<Exchange>, hub: &Hub) {
        loop {
            match self.next(hub, Deadline::NEVER) {
                Ok(()) => {}
                Err(Over::End | Over::Later(_)) => return,
                Err(Over::Refused(refused)) => return self.refuse(hub, refused),
            }
            let Ok(handle) = self.enlist(hub) else { return };
            let begun = self.server.log.map(|_| now());
            (self.server.handler)(handle, self.server.user);
            if !self.close_request(hub, handle, begun) {
                return;
            }
        }
    }

    /// Brings a request to its end, which began at `begun` if that is to be logged; whether another may follow.
    fn close_request(&self, hub: &Hub, handle: i64, begun: Option<i64>) -> bool {
        let goes_on = self.finish(hub);
        if let (Some(log), Some(begun)) = (self.server.log, begun) {
            self.log(log, handle, begun);
        }
        self.delist(hub);
        if goes_on && self.pass_body(hub) {
            return true;
        }
        if self.response.status() != 101 && self.has_leftovers(hub) {
            self.linger(hub);
        }
        false
    }

    fn log(&self, log: LogFn, handle: i64, begun: i64) {
        let (status, sent) = (self.response.status(), self.response.sent());
        log(handle, c_int::from(status), sent as i64, now() - begun, self.server.user);
    }

    // ---- the next request --------------------------------------------------------------

    /// Reads the head of the next request. By `deadline` whoever asks has waited long enough.
    fn next(&self, hub: &Hub, deadline: Deadline) -> std::result::Result<(), Over> {
        let (limits, lenient) = (&self.server.limits, &self.server.lenient);
        let mut scan = Scan::default();
        let mut until = None;
        loop {
            let bytes = self.stream.peek(hub)?;
            if !bytes.is_empty()
                && let Some((from, to)) = scan.go_on(bytes, limits, lenient)?
            {
                // SAFETY: no request is under way.
                unsafe { self.head_mut() }.read_request(&bytes[from..to], &scan, lenient)?;
                self.stream.skip(hub, to)?;
                self.open();
                return self.check_length();
            }
            let there = bytes.len();
            self.response.flush(hub, &self.stream, limits, deadline)?;
            if there == 0 {
                self.wait_idle(hub, deadline)?;
                continue;
            }
            let until = *until.get_or_insert_with(|| Deadline::after(limits.head_ns));
            match self.stream.fill(hub, there + 1, until.min(deadline)) {
                Ok(now_there) if now_there > there => {}
                Err(Error::TIMEDOUT) if until.has_passed() => return Err(Refused(408).into()),
                Err(e) => return Err(e.into()),
                _ => return Err(Over::End),
            }
        }
    }

    fn wait_idle(&self, hub: &Hub, deadline: Deadline) -> std::result::Result<(), Over> {
        if self.server.is_shut.get() {
            return Err(Over::End);
        }
        // SAFETY: no request is under way.
        unsafe { self.head_mut() }.clear();
        self.response.rest();
        self.seat.is_idle.set(true);
        let until = Deadline::after(self.server.limits.idle_ns);
        let filled = self.stream.fill(hub, 1, until.min(deadline));
        self.seat.is_idle.set(false);
        match filled {
            Ok(0) => Err(Over::End),
            Err(Error::TIMEDOUT) if until.has_passed() => Err(Over::End),
            other => Ok(other.map(drop)?),
        }
    }

    fn check_length(&self) -> std::result::Result<(), Over> {
        match self.head().framing {
            Framing::Length(n) if n > self.server.limits.body => Err(Refused(413).into()),
            _ => Ok(()),
        }
    }

    /// Says what was wrong, and ends.
    fn refuse(self: &Rc<Exchange>, hub: &Hub, Refused(code): Refused) {
        let begun = self.server.log.map(|_| now());
        // SAFETY: no request is under way.
        unsafe { self.head_mut() }.keep_line_only();
        let handle = self.enlist(hub);
        self.response.open();
        let how = Context { minor: 1, is_head: false, closes: true, server: &self.server.name };
        let phrase = status::phrase(code);
        let limits = &self.server.limits;
        let (kind, text) = (Some(&b"text/plain"[..]), phrase.as_bytes());
        let _ = self.response.reply(hub, &self.stream, limits, &how, code, kind, text, Deadline::NEVER);
        if let (Some(log), Some(begun), Ok(handle)) = (self.server.log, begun, handle) {
            self.log(log, handle, begun);
        }
        self.delist(hub);
        self.linger(hub);
    }

    // ---- after the handler -------------------------------------------------------------

    /// Brings the response to its end; whether the connection goes on.
    fn finish(&self, hub: &Hub) -> bool {
        if hub.check().is_err() || self.is_in_use() {
            return false;
        }
        let has_failed = hub.current().error.get() != 0;
        let limits = &self.server.limits;
        let _ = match self.response.state() {
            State::Open if has_failed => self.reply(hub, 500, None, b"", Deadline::NEVER),
            State::Open => self.reply(hub, self.fallback(), None, b"", Deadline::NEVER),
            // Half of a response must not look like all of it.
            State::Begun if has_failed || self.body.is_broken() => Err(Error::PIPE),
            State::Begun => self.end(hub, Deadline::NEVER),
            State::Ended if self.response.closes() => self.response.flush(hub, &self.stream, limits, Deadline::NEVER),
            _ => Ok(()),
        };
        !has_failed && !self.response.closes()
    }

    /// What is answered when the handler has not answered.
    fn fallback(&self) -> u16 {
        match self.body.failure() {
            Some(Error::TIMEDOUT) => 408,
            Some(Error::MSGSIZE) => 413,
            Some(_) => 400,
            None => 500,
        }
    }

    /// Drops what the handler has not read of the body; whether the next request can be read.
    fn pass_body(&self, hub: &Hub) -> bool {
        if self.body.is_done() {
            return true;
        }
        // The rest may be waited for, and may be wrong: the response does not wait with it.
        let _ = self.response.flush(hub, &self.stream, &self.server.limits, Deadline::NEVER);
        self.body.discard(hub, &self.stream, &self.server.limits, DISCARD, Deadline::NEVER).is_ok()
    }

    /// Whether something may come that nobody reads.
    fn has_leftovers(&self, hub: &Hub) -> bool {
        !self.body.is_done() || self.stream.peek(hub).is_ok_and(|there| !there.is_empty())
    }

    /// Before a close: has the other end read what was written, although it has sent what we do not read.
    fn linger(&self, hub: &Hub) {
        let until = Deadline::after(LINGER_NS);
        if self.stream.end(hub, until).is_err() {
            return;
        }
        let mut dropped = 0;
        while dropped < LINGER {
            let Ok(there) = self.stream.peek(hub).map(<[u8]>::len) else { return };
            if self.stream.skip(hub, there).is_err() {
                return;
            }
            dropped += there;
            match self.stream.fill(hub, 1, until) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        }
    }
}

// ---- a connection of somebody else's -------------------------------------------------------

/// Where it comes from; of no family where there is none.
fn peer_of(fd: RawFd) -> Address {
    // SAFETY: room for every address.
    let filled = Address::filled(|at, len| unsafe { sys::peer_address(fd, at, len) });
    filled.map_or_else(|_| Address::default(), |((), peer)| peer)
}

/// A connection that is asked for one request after the other, by whoever serves it.
pub struct Connection {
    exchange: Rc<Exchange>,
    /// The request that is under way, or 0; and when it began.
    current: Cell<i64>,
    begun: Cell<i64>,
    is_over: Cell<bool>,
    turn: Cell<u64>,
}

crate::hub_object!(Connection, Kind::HttpConnection);

impl Connection {
    /// Serves `stream`, whose handle is the connection's from now on. ENOMEM.
    pub fn create(hub: &Hub, server: Rc<HttpServer>, stream: &Stream, handle: i64) -> Result<i64> {
        let fd = stream.fd();
        // A greenlet that serves may have no page to spare: see docs/python.md.
        let exchange = object::in_place(|| Exchange::new(server, keep(stream), handle, fd, peer_of(fd)));
        let (current, begun, is_over, turn) = Default::default();
        object::insert(hub, Connection { exchange, current, begun, is_over, turn })
    }

    fn closed(&self, hub: &Hub) {
        self.exchange.leave(hub);
    }

    /// Ends the request before, if there is one; whether another may follow. EBUSY.
    fn close_current(&self, hub: &Hub) -> Result<bool> {
        let exchange = &self.exchange;
        if self.current.get() != 0 && exchange.is_in_use() {
            return Err(Error::BUSY);
        }
        let (before, log) = (self.current.take(), exchange.server.log);
        if before != 0 && !exchange.close_request(hub, before, log.map(|_| self.begun.get())) {
            self.is_over.set(true);
        }
        Ok(!self.is_over.get())
    }

    /// The same for who has to say something to the client before the next request, or to hear it.
    pub fn done(&self, hub: &Hub) -> Result<bool> {
        hub.may_park()?;
        hub.check()?;
        let this = keep(self);
        let _turn = Turn::take(&this.turn)?;
        let goes_on = this.close_current(hub)?;
        let exchange = &this.exchange;
        if goes_on {
            let _ = exchange.response.flush(hub, &exchange.stream, &exchange.server.limits, Deadline::NEVER);
        }
        Ok(goes_on)
    }

    /// Ends the request before, and reads the next one: its handle, or 0 when there will be none. EPROTO
    /// when what came is none: it has been refused, and is the last.
    pub fn next(&self, hub: &Hub, deadline: Deadline) -> Result<i64> {
        if !deadline.is_now() {
            hub.check()?;
        }
        let this = keep(self);
        let _turn = Turn::take(&this.turn)?;
        if !this.close_current(hub)? {
            return Ok(0);
        }
        let (exchange, log) = (&this.exchange, this.exchange.server.log);
        match exchange.next(hub, deadline) {
            Ok(()) => {
                let handle = exchange.enlist(hub)?;
                this.current.set(handle);
                if log.is_some() {
                    this.begun.set(now());
                }
                Ok(handle)
            }
            Err(Over::Later(e)) => Err(e),
            Err(Over::End) => {
                this.is_over.set(true);
                Ok(0)
            }
            Err(Over::Refused(refused)) => {
                this.is_over.set(true);
                exchange.refuse(hub, refused);
                Err(Error::PROTO)
            }
        }
    }
}
