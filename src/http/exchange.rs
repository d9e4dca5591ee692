//! A request and its response: what the handle that a handler gets stands for.
//!
//! There is one for each connection, used again for each of its requests, so that a request allocates
//! nothing. Between two requests its handle rests: whoever has kept it finds it stale, and the next request
//! has another number.

use super::body::Body;
use super::head::Head;
use super::response::{Context, Response, State};
use super::server::{HttpServer, Seat};
use crate::error::{Error, Result};
use crate::handle::{Kind, may_be_renewed};
use crate::heap::Block;
use crate::hub::Hub;
use crate::net::address::Address;
use crate::object::keep;
use crate::stream::{Stream, Turn};
use crate::time::Deadline;
use std::cell::{Cell, UnsafeCell};
use std::os::fd::RawFd;
use std::rc::Rc;

/// So much of a body that nobody has read is read and dropped, so that the connection can go on.
pub const DISCARD: u64 = 64 << 10;

pub struct Exchange {
    pub server: Rc<HttpServer>,
    pub stream: Rc<Stream>,
    pub stream_handle: i64,
    pub peer: Address,
    /// 0 before the first request; rests between two.
    handle: Cell<i64>,
    is_resting: Cell<bool>,
    head: UnsafeCell<Head>,
    pub body: Body,
    pub response: Response,
    /// Its body was asked for, if that is needed.
    continued: Cell<bool>,
    reader: Cell<u64>,
    path: UnsafeCell<Vec<u8>>,
    /// Requests that this connection has had.
    pub count: Cell<usize>,
    pub seat: Seat,
}

crate::hub_object!(Exchange, Kind::HttpRequest);

impl Exchange {
    #[inline(always)]
    pub fn new(server: Rc<HttpServer>, stream: Rc<Stream>, stream_handle: i64, fd: RawFd, peer: Address) -> Exchange {
        Exchange {
            server,
            stream,
            stream_handle,
            peer,
            handle: Cell::new(0),
            is_resting: Cell::new(false),
            head: UnsafeCell::default(),
            body: Body::default(),
            response: Response::default(),
            continued: Cell::new(false),
            reader: Cell::new(0),
            path: UnsafeCell::default(),
            count: Cell::new(0),
            seat: Seat::new(fd),
        }
    }

    /// The user may close it; that ends his use of it and nothing else.
    fn closed(&self, _: &Hub) {}

    // ---- its handle --------------------------------------------------------------------

    /// Gives the request that begins its handle.
    pub fn enlist(self: &Rc<Exchange>, hub: &Hub) -> Result<i64> {
        let handle = if self.is_resting.take() {
            hub.table.renew::<Exchange>(self.handle.get())
        } else {
            let raw = Rc::into_raw(self.clone());
            hub.table.insert(raw).inspect_err(|_| {
                // SAFETY: the table did not take it.
                drop(unsafe { Rc::from_raw(raw) });
            })?
        };
        self.handle.set(handle);
        Ok(handle)
    }

    /// The request is over: its handle is good for nothing any more.
    pub fn delist(&self, hub: &Hub) {
        let handle = self.handle.get();
        if self.is_resting.get() || !hub.table.contains(handle) {
            return; // closed by the user, or not there
        }
        if may_be_renewed(handle) {
            hub.table.rest(handle);
            self.is_resting.set(true);
        } else {
            self.remove(hub, handle);
        }
    }

    fn remove(&self, hub: &Hub, handle: i64) {
        self.handle.set(0);
        if let Ok(closer) = hub.table.remove(handle) {
            closer.close();
        }
    }

    /// The connection is over.
    pub fn leave(&self, hub: &Hub) {
        if self.is_resting.take() {
            self.handle.set(hub.table.renew::<Exchange>(self.handle.get())); // with the handle goes the table's share
        }
        if self.handle.get() != 0 {
            self.remove(hub, self.handle.get());
        }
        if let Ok(closer) = hub.table.remove(self.stream_handle) {
            closer.close();
        }
    }

    // ---- the request -------------------------------------------------------------------

    pub fn head(&self) -> &Head {
        // SAFETY: written between two requests only, when no handle leads here.
        unsafe { &*self.head.get() }
    }

    /// # Safety
    /// Between two requests.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn head_mut(&self) -> &mut Head {
        // SAFETY: by contract.
        unsafe { &mut *self.head.get() }
    }

    /// For the request whose head has been read.
    pub fn open(&self) {
        self.body.begin(self.head().framing);
        self.continued.set(false);
        self.response.open();
        self.count.set(self.count.get() + 1);
    }

    /// The target's path, decoded, with a NUL behind it; `None` when it can not be.
    pub fn path(&self) -> Option<&[u8]> {
        // SAFETY: one thread; written here alone, and the same for each call of a request.
        let path = unsafe { &mut *self.path.get() };
        path.clear();
        super::field::decode_path(self.head().target(), path)?;
        path.push(0);
        Some(path)
    }

    /// What stands behind the "?", with a NUL behind it.
    pub fn query(&self) -> Option<&[u8]> {
        let target = self.head().target();
        target.iter().position(|&b| b == b'?').map(|at| &target[at + 1..])
    }

    /// Sends 100 if it is waited for.
    fn ask_for_body(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !self.head().expects || self.body.is_done() || self.response.state() != State::Open {
            return Ok(());
        }
        if !self.continued.get() && self.stream.peek(hub)?.is_empty() {
            self.response.inform(1, 100, &[])?;
        }
        self.continued.set(true);
        // Also what an earlier call has not got rid of.
        self.response.flush(hub, &self.stream, &self.server.limits, deadline)
    }

    /// Asks for the body, if it is waited for and has not been asked for; true if it has now.
    pub fn proceed(&self, hub: &Hub, deadline: Deadline) -> Result<bool> {
        let this = keep(self);
        if !this.head().expects || this.response.state() != State::Open {
            return Ok(false);
        }
        let is_new = !this.continued.get();
        if is_new {
            this.response.inform(1, 100, &[])?;
            this.continued.set(true);
        }
        // Also what an earlier call has not got rid of.
        this.response.flush(hub, &this.stream, &this.server.limits, deadline)?;
        Ok(is_new)
    }

    /// Reads some of the body, at least a byte; 0 at its end.
    ///
    /// # Safety
    /// `at` points to `len` bytes that are this call's alone until it returns.
    pub unsafe fn read(&self, hub: &Hub, at: *mut u8, len: usize, deadline: Deadline) -> Result<usize> {
        let this = keep(self);
        let _turn = Turn::take(&this.reader)?;
        this.ask_for_body(hub, deadline)?;
        // SAFETY: by contract.
        unsafe { this.body.read(hub, &this.stream, &this.server.limits, at, len, deadline) }
    }

    pub fn read_all(&self, hub: &Hub, cap: usize, into: &mut Block, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        let _turn = Turn::take(&this.reader)?;
        if this.body.left().is_some_and(|left| left > cap as u64) {
            return Err(Error::MSGSIZE); // and nobody is asked to send it
        }
        this.ask_for_body(hub, deadline)?;
        this.body.read_all(hub, &this.stream, &this.server.limits, cap, into, deadline)
    }

    pub fn discard(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        let _turn = Turn::take(&this.reader)?;
        this.ask_for_body(hub, deadline)?;
        this.body.discard(hub, &this.stream, &this.server.limits, u64::MAX / 2, deadline)
    }

    // ---- the response ------------------------------------------------------------------

    /// Sends an interim response.
    pub fn inform(&self, hub: &Hub, code: u16, headers: &[(&[u8], &[u8])], deadline: Deadline) -> Result<()> {
        let this = keep(self);
        this.response.inform(this.head().minor, code, headers)?;
        this.response.flush(hub, &this.stream, &this.server.limits, deadline)
    }

    pub fn context(&self) -> Context<'_> {
        let head = self.head();
        let closes = !head.keeps_alive || self.server.ends_after(self.count.get()) || self.is_in_the_way();
        Context { minor: head.minor, is_head: head.is_head, closes, server: &self.server.name }
    }

    /// Whether what is left of the body keeps the next request from being read.
    fn is_in_the_way(&self) -> bool {
        // Who waits to be asked has sent nothing: what is there is of a body that came unasked.
        let none_is_there = || self.stream.input_is_empty();
        let is_unasked = self.head().expects && !self.continued.get() && none_is_there();
        !self.body.is_done() && (is_unasked || self.body.is_broken() || self.body.left().is_some_and(|n| n > DISCARD))
    }

    pub fn reply(&self, hub: &Hub, status: u16, kind: Option<&[u8]>, body: &[u8], deadline: Deadline) -> Result<()> {
        let this = keep(self);
        this.response.reply(hub, &this.stream, &this.server.limits, &this.context(), status, kind, body, deadline)
    }

    pub fn write(&self, hub: &Hub, data: &[u8], deadline: Deadline) -> (usize, Result<()>) {
        let this = keep(self);
        this.response.write(hub, &this.stream, &this.server.limits, data, deadline)
    }

    pub fn flush(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        if this.response.state() == State::Open {
            return Err(Error::INVAL);
        }
        this.response.flush(hub, &this.stream, &this.server.limits, deadline)
    }

    pub fn end(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        this.response.end(hub, &this.stream, &this.server.limits, deadline)
    }

    pub fn send_file(&self, hub: &Hub, file: RawFd, from: i64, len: u64, deadline: Deadline) -> (u64, Result<()>) {
        let this = keep(self);
        this.response.send_file(hub, &this.stream, &this.server.limits, file, from, len, deadline)
    }

    /// Hands the connection over to another protocol: its stream. EINVAL when there is a body.
    pub fn upgrade(&self, hub: &Hub, protocol: &[u8], deadline: Deadline) -> Result<i64> {
        let this = keep(self);
        if !this.body.is_done() || this.head().minor == 0 {
            return Err(Error::INVAL);
        }
        this.response.switch(hub, &this.stream, &this.server.limits, protocol, deadline)?;
        Ok(this.stream_handle)
    }

    pub fn is_in_use(&self) -> bool {
        self.response.is_in_use() || Turn::take(&self.reader).is_err()
    }
}
