//! One connection: messages in and out.
//!
//! ```text
//! receive:  stream's input --head--> frame under way --pieces--> message     (or lent from the input, whole)
//!                             \--> control frames, answered on the way
//! send:     message --frame--> stream's output --> socket
//!                                   \--> no room: goes when there is, by the loop (`armed`)
//! ```
//! A message is taken over as a whole or not at all: whoever is killed or late has sent nothing,
//! or everything. Nobody is let in while more than `unsent` bytes wait. One greenlet receives at a
//! time; any number may send.

use super::deflate::{self, Agreed, Deflate};
use super::frame::{self, CONTROL, HEAD, Head, Opcode, Parsed, Utf8};
use super::{ABNORMAL, NO_CODE, NORMAL, NOT_TEXT, PROTOCOL, TOO_LARGE, is_close_code};
use crate::error::{Error, Result};
use crate::fork;
use crate::greenlet::Waiting;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::{self, insert, keep};
use crate::poller::{FdNode, GONE, WRITE};
use crate::stream::Stream;
use crate::sys::descriptor as sys;
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::ffi::CString;
use std::ptr::null_mut;
use std::rc::Rc;

/// Of a message, for those who do not say.
pub const MESSAGE: usize = 1 << 20;
/// Of what waits to go.
pub const UNSENT: usize = 256 << 10;
/// A buffer for messages is kept up to this size.
const KEEP: usize = 16 << 10;
/// Frames up to this size are put together before they go.
const SMALL: usize = 512;
/// Of a compressed message that is received in parts so much is inflated at a time.
const PACKED: usize = 4 << 10;
const CLOSE: u8 = 0x80 | Opcode::Close as u8;

#[derive(Clone, Copy)]
pub struct Limits {
    pub message: usize,
    pub unsent: usize,
}

pub struct WebSocket {
    stream: Rc<Stream>,
    /// Closed with it; 0: somebody else does.
    owned: Cell<i64>,
    is_server: bool,
    limits: Limits,
    deflate: RefCell<Option<Deflate>>,
    may_compress: bool,
    /// The subprotocol that was agreed.
    pub protocol: Option<CString>,
    /// One above `fork::generation()` while somebody receives.
    receiver: Cell<u64>,
    /// The receiver's alone.
    incoming: UnsafeCell<Incoming>,
    /// We have said that we close; the other side has.
    has_closed: Cell<bool>,
    is_closed: Cell<bool>,
    close_code: Cell<u16>,
    /// Set once: C may have been given it.
    close_reason: OnceCell<CString>,
    /// Why nothing more comes, or goes.
    broken: Cell<Option<Error>>,
    unsendable: Cell<Option<Error>>,
    /// The message that goes in parts.
    outgoing: Cell<Option<Outgoing>>,
    /// Wait for what is unsent to go.
    waiters: WaitList,
    node: FdNode,
    /// Itself, while the loop has to see what is unsent off.
    armed: RefCell<Option<Rc<WebSocket>>>,
    handle: Cell<i64>,
}

crate::hub_object!(WebSocket, Kind::WebSocket);

#[derive(Default)]
struct Incoming {
    /// The frame whose payload comes now, how much of that has come.
    frame: Option<Head>,
    came: u64,
    /// Of the message whose frames come.
    opcode: Option<Opcode>,
    is_compressed: bool,
    bytes: Vec<u8>,
    /// How much of it has been given away in parts.
    given: usize,
    text: Utf8,
    /// `bytes` has been lent.
    is_lent: bool,
}

/// A message that is sent in parts.
#[derive(Clone, Copy)]
struct Outgoing {
    opcode: Opcode,
    is_compressed: bool,
    text: Utf8,
}

/// What was received.
pub enum Got<'a> {
    /// A message; or a part of one, and whether it is the last.
    Message(Opcode, &'a [u8], bool),
    Closed,
}

/// Held by whoever receives.
struct Turn<'a>(&'a Cell<u64>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

unsafe fn there_is_room(node: *const FdNode) {
    // SAFETY: only `WebSocket`s carry this function, and the node is their field.
    let this = unsafe { &*node.byte_sub(std::mem::offset_of!(WebSocket, node)).cast::<WebSocket>() };
    let Some(hub) = Hub::existing() else { return };
    let this = keep(this);
    if this.node.got.get() & GONE != 0 {
        return this.cannot_send(hub, Error::PIPE);
    }
    this.see_off(hub);
}

impl WebSocket {
    /// A connection over `stream`, on which hands have been shaken; `owned` is its handle if it is
    /// to be closed with it. ENOMEM.
    pub fn create(
        hub: &Hub,
        stream: Rc<Stream>,
        owned: i64,
        is_server: bool,
        limits: Limits,
        agreed: Option<Agreed>,
        protocol: Option<CString>,
    ) -> Result<i64> {
        if !stream.has_fd() {
            return Err(Error::INVAL); // what waits to go must go by itself
        }
        let socket = WebSocket {
            stream,
            owned: Cell::new(owned),
            is_server,
            limits,
            deflate: RefCell::new(agreed.map(|agreed| Deflate::new(agreed, is_server))),
            may_compress: agreed.is_some(),
            protocol,
            receiver: Cell::new(0),
            incoming: UnsafeCell::default(),
            has_closed: Cell::new(false),
            is_closed: Cell::new(false),
            close_code: Cell::new(0),
            close_reason: OnceCell::new(),
            broken: Cell::new(None),
            unsendable: Cell::new(None),
            outgoing: Cell::new(None),
            waiters: WaitList::default(),
            node: FdNode::new(there_is_room).persistent(),
            armed: RefCell::default(),
            handle: Cell::new(0),
        };
        let handle = insert(hub, socket)?;
        object::get::<WebSocket>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
        self.broken.set(Some(Error::BADF));
        self.unsendable.set(Some(Error::BADF));
        let owned = self.owned.replace(0);
        if let Ok(0) = hub.table.unref(owned) {
            let _ = hub.table.remove(owned).map(|closer| closer.close());
        } else if self.receiver.get() != 0 {
            hub.poller().end_waits(self.stream.fd(), crate::poller::READ);
        }
        self.disarm(hub);
    }

    /// The code and the reason with which the other side has closed, or with which we had to.
    pub fn close_code(&self) -> u16 {
        self.close_code.get()
    }

    pub fn close_reason(&self) -> *const std::ffi::c_char {
        self.close_reason.get().map_or(c"".as_ptr(), |reason| reason.as_ptr())
    }

    pub fn unsent(&self) -> usize {
        self.stream.unsent()
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    // ---- in ----------------------------------------------------------------------------

    #[allow(clippy::mut_from_ref)]
    fn incoming(&self) -> &mut Incoming {
        // SAFETY: one thread; the caller has the turn, and holds no other reference across a wait.
        unsafe { &mut *self.incoming.get() }
    }

    /// The next message, or with `in_parts` what has come of it, which is good until the next call. What
    /// is left of a message of which a part was given is a message like any other. EPROTO, EMSGSIZE when
    /// a rule was broken, and the other side has been told; ECONNABORTED when it has left without a word;
    /// EBUSY.
    pub fn receive(&self, hub: &Hub, in_parts: bool, deadline: Deadline) -> Result<Got<'_>> {
        let this = keep(self);
        let now = fork::generation() + 1;
        if this.receiver.get() == now {
            return Err(Error::BUSY);
        }
        if let Some(e) = this.broken.get() {
            return Err(e);
        }
        if this.is_closed.get() {
            return Ok(Got::Closed);
        }
        this.receiver.set(now);
        let _turn = Turn(&this.receiver);
        let got = self.next(hub, in_parts, deadline);
        // Closed meanwhile.
        if let Some(Error::BADF) = this.broken.get() {
            return Err(Error::BADF);
        }
        got
    }

    fn next(&self, hub: &Hub, in_parts: bool, deadline: Deadline) -> Result<Got<'_>> {
        self.stream.skip(hub, 0)?; // drops what was lent before
        self.drop_lent()?;
        loop {
            if in_parts && !self.incoming().bytes.is_empty() {
                return Ok(self.part());
            }
            if let Some(head) = self.incoming().frame {
                if !self.take_payload(hub, head, in_parts, deadline)? {
                    continue;
                }
                return Ok(self.whole());
            }
            let bytes = self.stream.peek(hub)?;
            match frame::parse(bytes, self.is_server, self.may_compress) {
                Parsed::Need(n) => self.fill(hub, n, deadline)?,
                Parsed::Bad(why) => return Err(self.fail(hub, PROTOCOL, why)),
                Parsed::Head(head) if head.opcode.is_control() => {
                    if !self.control(hub, head, deadline)? {
                        return Ok(Got::Closed);
                    }
                }
                Parsed::Head(head) => {
                    let has_all = (bytes.len() - head.size) as u64 >= head.len;
                    self.begin_frame(hub, head, in_parts)?;
                    if has_all && head.fin && head.opcode != Opcode::More && !head.compressed {
                        return self.lend(hub, head);
                    }
                    self.stream.skip(hub, head.size)?;
                    let incoming = self.incoming();
                    if head.opcode != Opcode::More {
                        incoming.opcode = Some(head.opcode);
                        incoming.is_compressed = head.compressed;
                    }
                    (incoming.frame, incoming.came) = (Some(head), 0);
                }
            }
        }
    }

    /// Has `n` bytes in the stream's input.
    fn fill(&self, hub: &Hub, n: usize, deadline: Deadline) -> Result<()> {
        if self.stream.unsent() > 0 && self.armed.borrow().is_none() {
            self.see_off(hub);
        }
        if self.stream.fill(hub, n, deadline)? < n {
            self.close_code.set(ABNORMAL);
            self.broken.set(Some(Error::CONNABORTED));
            return Err(Error::CONNABORTED);
        }
        Ok(())
    }

    /// Whether a data frame may come now, and is not too large.
    fn begin_frame(&self, hub: &Hub, head: Head, in_parts: bool) -> Result<()> {
        let incoming = self.incoming();
        match (head.opcode, incoming.opcode) {
            (Opcode::More, None) => return Err(self.fail(hub, PROTOCOL, "a continuation of nothing")),
            (Opcode::More, Some(_)) | (_, None) => {}
            _ => return Err(self.fail(hub, PROTOCOL, "a message in the middle of another")),
        }
        // What is compressed is measured when it has been inflated, but is hardly longer than that.
        if !in_parts && head.len > self.limits.message.saturating_sub(incoming.bytes.len()) as u64 {
            return Err(self.fail(hub, TOO_LARGE, "the message is too large"));
        }
        Ok(())
    }

    /// A message that is one frame, and all there.
    fn lend(&self, hub: &Hub, head: Head) -> Result<Got<'_>> {
        let payload = self.stream.lend_mut(head.size, head.len as usize);
        frame::mask(payload, head.mask, 0);
        if head.opcode == Opcode::Text && std::str::from_utf8(payload).is_err() {
            return Err(self.fail(hub, NOT_TEXT, "the text is not UTF-8"));
        }
        Ok(Got::Message(head.opcode, payload, true))
    }

    /// Takes what has come of a frame's payload, or waits for more; whether the message is whole.
    fn take_payload(&self, hub: &Hub, head: Head, in_parts: bool, deadline: Deadline) -> Result<bool> {
        let left = head.len - self.incoming().came;
        if left > 0 && self.stream.peek(hub)?.is_empty() {
            self.fill(hub, 1, deadline)?;
        }
        let most = if in_parts && self.incoming().is_compressed { PACKED } else { usize::MAX };
        let n = (self.stream.peek(hub)?.len().min(most) as u64).min(left) as usize;
        let piece = self.stream.lend_mut(0, n);
        let incoming = self.incoming();
        frame::mask(piece, head.mask, (incoming.came % 4) as usize);
        incoming.came += n as u64;
        let is_last = head.fin && incoming.came == head.len;
        let done = self.add(piece, is_last, in_parts);
        self.stream.skip(hub, 0)?;
        match done {
            Ok(()) => {}
            Err(Error::MSGSIZE) => return Err(self.fail(hub, TOO_LARGE, "the message is too large")),
            Err(Error::PROTO) => return Err(self.fail(hub, PROTOCOL, "the message can not be inflated")),
            Err(Error::INVAL) => return Err(self.fail(hub, NOT_TEXT, "the text is not UTF-8")),
            Err(e) => {
                // A piece is lost, so the rest is of no use.
                self.broken.set(Some(e));
                return Err(e);
            }
        }
        if self.incoming().came == head.len {
            self.incoming().frame = None;
        }
        Ok(is_last)
    }

    /// Adds a piece to the message. MSGSIZE, PROTO, NOMEM; INVAL for what is no text.
    fn add(&self, piece: &[u8], is_last: bool, in_parts: bool) -> Result<()> {
        let (incoming, most) = (self.incoming(), self.limits.message);
        let before = incoming.bytes.len();
        if incoming.is_compressed {
            let mut deflate = self.deflate.borrow_mut();
            let deflate = deflate.as_mut().ok_or(Error::PROTO)?;
            // In parts as well: nobody gets without end what costs its sender next to nothing.
            let most = most.saturating_sub(incoming.given);
            deflate.inflate(piece, &mut incoming.bytes, most)?;
            if is_last {
                deflate.finish(&mut incoming.bytes, most)?;
            }
        } else {
            if !in_parts && piece.len() > most.saturating_sub(before) {
                return Err(Error::MSGSIZE);
            }
            incoming.bytes.try_reserve(piece.len()).map_err(|_| Error::NOMEM)?;
            incoming.bytes.extend_from_slice(piece);
        }
        if incoming.opcode == Some(Opcode::Text) {
            let goes_on = incoming.text.push(&incoming.bytes[before..]);
            if !goes_on || is_last && !incoming.text.is_whole() {
                return Err(Error::INVAL);
            }
        }
        Ok(())
    }

    fn whole(&self) -> Got<'_> {
        let incoming = self.incoming();
        let opcode = incoming.opcode.take().unwrap_or(Opcode::Binary);
        incoming.text = Utf8::default();
        (incoming.is_lent, incoming.given) = (true, 0);
        Got::Message(opcode, &incoming.bytes, true)
    }

    fn part(&self) -> Got<'_> {
        let incoming = self.incoming();
        incoming.is_lent = true;
        incoming.given = incoming.given.saturating_add(incoming.bytes.len());
        Got::Message(incoming.opcode.unwrap_or(Opcode::Binary), &incoming.bytes, false)
    }

    /// Drops what was lent of the last message. ENOMEM.
    fn drop_lent(&self) -> Result<()> {
        let incoming = self.incoming();
        if !incoming.is_lent {
            return Ok(());
        }
        if incoming.opcode.is_some() && incoming.is_compressed {
            self.deflate.borrow_mut().iter_mut().try_for_each(|deflate| deflate.passed(&incoming.bytes))?;
        }
        incoming.is_lent = false;
        incoming.bytes.clear();
        (incoming.bytes.capacity() > KEEP).then(|| incoming.bytes = Vec::new());
        Ok(())
    }

    /// Answers a control frame; whether more may come.
    fn control(&self, hub: &Hub, head: Head, deadline: Deadline) -> Result<bool> {
        let len = head.len as usize;
        self.fill(hub, head.size + len, deadline)?;
        let mut room = [0; CONTROL];
        let payload = &mut room[..len];
        payload.copy_from_slice(&self.stream.peek(hub)?[head.size..head.size + len]);
        frame::mask(payload, head.mask, 0);
        self.stream.skip(hub, head.size + len)?;
        match head.opcode {
            // Who does not read the answers gets no more of them.
            Opcode::Ping if self.stream.unsent() <= self.limits.unsent && !self.has_closed.get() => {
                self.put(hub, frame::last(Opcode::Pong), payload)?;
            }
            Opcode::Close => return self.other_closes(hub, payload).map(|()| false),
            _ => {}
        }
        Ok(true)
    }

    fn other_closes(&self, hub: &Hub, payload: &[u8]) -> Result<()> {
        let (code, reason) = match payload {
            [] => (NO_CODE, &payload[..0]),
            [_] => return Err(self.fail(hub, PROTOCOL, "half a close code")),
            [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
        };
        if !payload.is_empty() && !is_close_code(code) {
            return Err(self.fail(hub, PROTOCOL, "a close code that has no meaning"));
        }
        let Ok(text) = std::str::from_utf8(reason) else {
            return Err(self.fail(hub, NOT_TEXT, "the reason is not UTF-8"));
        };
        self.close_code.set(code);
        let _ = self.close_reason.set(CString::new(text.replace('\0', " ")).unwrap_or_default());
        self.is_closed.set(true);
        let answer = &payload[..payload.len().min(2)];
        if !self.has_closed.replace(true) {
            let _ = self.put(hub, CLOSE, answer);
        }
        Ok(())
    }

    /// The other side has broken a rule: it is told which, and this is the end.
    fn fail(&self, hub: &Hub, code: u16, why: &'static str) -> Error {
        let error = if code == TOO_LARGE { Error::MSGSIZE } else { Error::PROTO };
        self.close_code.set(code);
        let _ = self.close_reason.set(CString::new(why).unwrap_or_default());
        self.broken.set(Some(error));
        if !self.has_closed.replace(true) {
            let _ = self.put(hub, CLOSE, &[&code.to_be_bytes()[..], why.as_bytes()].concat());
        }
        error
    }

    // ---- out ---------------------------------------------------------------------------

    /// EPIPE when no more can be sent.
    fn may_send(&self) -> Result<()> {
        match self.unsendable.get() {
            Some(e) => Err(e),
            None if self.has_closed.get() => Err(Error::PIPE),
            None => Ok(()),
        }
    }

    /// Sends a message, or a ping or pong; waits while too much is unsent. EINVAL for text that is none;
    /// EBUSY for a message while another goes in parts.
    pub fn send(&self, hub: &Hub, opcode: Opcode, data: &[u8], deadline: Deadline) -> Result<()> {
        let this = keep(self);
        if opcode == Opcode::Text && std::str::from_utf8(data).is_err() || opcode.is_control() && data.len() > CONTROL {
            return Err(Error::INVAL);
        }
        this.wait_to_send(hub, deadline)?;
        if opcode.is_control() {
            return this.put(hub, frame::last(opcode), data);
        }
        if this.outgoing.get().is_some() {
            return Err(Error::BUSY);
        }
        let is_compressed = this.may_compress && data.len() >= deflate::LEAST;
        this.put_data(hub, frame::last(opcode), is_compressed, is_compressed, data, true)
    }

    /// Sends a part of a message, a frame of its own. EINVAL for text that is none, and for another kind
    /// of message than the one that has been begun.
    pub fn send_part(&self, hub: &Hub, opcode: Opcode, data: &[u8], is_last: bool, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        this.wait_to_send(hub, deadline)?;
        let begun = this.outgoing.get();
        let is_compressed = this.may_compress && (!is_last || data.len() >= deflate::LEAST);
        let mut now = begun.unwrap_or(Outgoing { opcode, is_compressed, text: Utf8::default() });
        let is_text = opcode != Opcode::Text || now.text.push(data) && (!is_last || now.text.is_whole());
        if now.opcode != opcode || !is_text {
            return Err(Error::INVAL);
        }
        let opcode = if begun.is_some() { Opcode::More } else { opcode };
        let first = if is_last { frame::last(opcode) } else { frame::not_last(opcode) };
        this.put_data(hub, first, now.is_compressed, now.is_compressed && begun.is_none(), data, is_last)?;
        this.outgoing.set((!is_last).then_some(now));
        Ok(())
    }

    /// A frame of a message, packed; `says`: it is the first one, which says so.
    fn put_data(
        &self,
        hub: &Hub,
        first: u8,
        is_compressed: bool,
        says: bool,
        data: &[u8],
        is_last: bool,
    ) -> Result<()> {
        if is_compressed && let Some(deflate) = self.deflate.borrow_mut().as_mut() {
            let packed = deflate.compress(data, is_last)?;
            let first = first | if says { frame::COMPRESSED } else { 0 };
            // The other side would miss it in what it inflates the next ones with.
            return self.put(hub, first, &packed).inspect_err(|_| self.cannot_send(hub, Error::PIPE));
        }
        self.put(hub, first, data)
    }

    /// Waits while too much is unsent.
    fn wait_to_send(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        self.may_send()?;
        self.wait_for(hub, self.limits.unsent, deadline)?;
        self.may_send()
    }

    /// Waits until no more than `most` bytes are unsent.
    fn wait_for(&self, hub: &Hub, most: usize, deadline: Deadline) -> Result<()> {
        while self.stream.unsent() > most {
            self.see_off(hub);
            if let Some(e) = self.unsendable.get() {
                return Err(e);
            }
            if self.stream.unsent() <= most {
                break;
            }
            match hub.wait_in(&self.waiters, Role::Taker, null_mut(), deadline, Waiting::Object(self.handle.get())) {
                Waited::Granted(_) => {}
                Waited::Returned(_, e) | Waited::Failed(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Puts a frame behind what is unsent, whole or not at all, and lets go what can. ENOMEM.
    fn put(&self, hub: &Hub, first: u8, data: &[u8]) -> Result<()> {
        if let Some(e) = self.unsendable.get() {
            return Err(e);
        }
        let key = (!self.is_server).then(frame::new_mask);
        let mut head = [0; HEAD];
        let size = frame::write(&mut head, first, data.len(), key);
        let mut small = [0; SMALL + HEAD];
        if data.len() <= SMALL && self.stream.unsent() == 0 {
            small[..size].copy_from_slice(&head[..size]);
            small[size..size + data.len()].copy_from_slice(data);
            frame::mask(&mut small[size..size + data.len()], key.unwrap_or_default(), 0);
            self.stream.send_now(hub, &small[..size + data.len()], &[])
        } else if key.is_none() {
            self.stream.send_now(hub, &head[..size], data)
        } else {
            let payload = self.stream.gather(&head[..size], data)?;
            frame::mask(payload, key.unwrap_or_default(), 0);
            Ok(())
        }
        .inspect_err(|e| self.is_cut(hub, *e))?;
        if self.stream.unsent() > 0 {
            self.see_off(hub);
        }
        self.unsendable.get().map_or(Ok(()), Err)
    }

    /// Of a frame that failed with EPIPE some has gone: nothing may come behind it.
    fn is_cut(&self, hub: &Hub, e: Error) {
        if e == Error::PIPE {
            self.cannot_send(hub, e);
        }
    }

    /// Lets go what can, and has the loop go on with the rest.
    fn see_off(&self, hub: &Hub) {
        match self.stream.push_some(hub) {
            Ok(()) | Err(Error::AGAIN) => {}
            Err(e) if e.is_no_room() => {}
            Err(e) => return self.cannot_send(hub, if e == Error::BADF { e } else { Error::PIPE }),
        }
        let unsent = self.stream.unsent();
        if unsent == 0 {
            self.disarm(hub);
        } else if self.armed.borrow().is_none() && hub.poller().add(&self.node, self.stream.fd(), WRITE).is_ok() {
            self.armed.replace(Some(keep(self)));
        }
        if unsent <= self.limits.unsent / 2 {
            while let Some(waiter) = self.waiters.pop() {
                hub.grant(waiter);
            }
        }
    }

    fn disarm(&self, hub: &Hub) {
        hub.poller().remove(&self.node);
        drop(self.armed.take());
    }

    fn cannot_send(&self, hub: &Hub, why: Error) {
        self.unsendable.set(Some(self.unsendable.get().unwrap_or(why)));
        hub.refuse_all(&self.waiters, why);
        self.disarm(hub);
    }

    /// Says that we close, and waits for the answer; what comes before that is dropped. When
    /// somebody else receives he gets the answer, and this waits until all has gone.
    pub fn close(&self, hub: &Hub, code: u16, reason: &[u8], deadline: Deadline) -> Result<()> {
        let this = keep(self);
        let is_text = std::str::from_utf8(reason).is_ok() && reason.len() <= CONTROL - 2;
        if code != 0 && !is_close_code(code) || !is_text || code == 0 && !reason.is_empty() {
            return Err(Error::INVAL);
        }
        if !deadline.is_now() {
            hub.check()?;
        }
        if let Some(e) = this.unsendable.get() {
            return Err(e);
        }
        if !this.has_closed.get() {
            let code = if code == 0 { NORMAL } else { code };
            this.put(hub, CLOSE, &[&code.to_be_bytes(), reason].concat())?;
            this.has_closed.set(true);
        }
        this.wait_for(hub, 0, deadline)?;
        loop {
            match this.receive(hub, false, deadline) {
                Ok(Got::Message(..)) => {}
                Ok(Got::Closed) | Err(Error::BUSY) => return this.wait_for(hub, 0, deadline),
                Err(e) => return Err(e),
            }
        }
    }

    /// A frame that `write` has made is sent to a server's client as it is; whether it has been taken.
    pub fn forward(&self, hub: &Hub, head: &[u8], data: &[u8], opcode: Opcode) -> Result<bool> {
        self.may_send()?;
        if self.outgoing.get().is_some() {
            return Err(Error::BUSY);
        }
        if self.stream.unsent() > self.limits.unsent {
            return Ok(false);
        }
        if self.is_server {
            let sent = self.stream.send_now(hub, head, data);
            sent.inspect_err(|e| self.is_cut(hub, *e))?;
            if self.stream.unsent() > 0 {
                self.see_off(hub);
            }
        } else {
            self.put(hub, frame::last(opcode), data)?;
        }
        self.unsendable.get().map_or(Ok(true), Err)
    }

    /// Hangs up on who does not read.
    pub fn drop_it(&self, hub: &Hub) {
        self.close_code.set(ABNORMAL);
        self.cannot_send(hub, Error::PIPE);
        if self.stream.is_open(hub) {
            let _ = sys::shutdown(self.stream.fd(), libc::SHUT_RDWR);
        }
    }
}
