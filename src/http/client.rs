//! The client's side: a request goes out, the head of its response comes back, the body is read later.
//!
//! ```text
//!  fetch --> pool or dial --> send --> head --redirect--> fetch
//!             ^                          |
//!             |                          v
//!             +--- all of it read --- response --> read, read... --> close
//! ```
//!
//! A connection from the pool may have been closed by the server just now. If it ends before the first byte
//! of a response, and the request may be made twice, it is made once more, on a connection of its own.

use super::body::Body;
use super::config::{Lenient, Limits};
use super::field;
use super::head::{Framing, Head, Scan};
use super::pool::{self, Pool};
use super::url::Url;
use crate::error::{Error, Result};
use crate::handle::Kind;
use crate::heap::Block;
use crate::hub::Hub;
use crate::net::dial;
use crate::object::{self, insert, keep};
use crate::registry;
use crate::stream::{READ_MAX, Stream, Turn};
use crate::time::Deadline;
use crate::tls::config::Config;
use crate::tls::{How, Side};
use std::cell::{Cell, OnceCell};
use std::ffi::c_void;
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::rc::Rc;
use std::sync::Arc;

/// Interim responses before one.
const INTERIM: usize = 16;
/// So much of a body that nobody reads is read when the response is closed.
const REST: u64 = 64 << 10;
/// A piece of a body that a function gives.
const PIECE: usize = 16 << 10;

/// Gives the next piece of a body: how long it is, 0 at the end, a code.
pub type BodyFn = extern "C-unwind" fn(*mut c_void, usize, *mut c_void) -> i64;

/// Is told of an interim response: its handle, which is closed behind it.
pub type InterimFn = extern "C-unwind" fn(i64, *mut c_void);

/// What a request's body is.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// In chunks.
    Function(BodyFn, *mut c_void),
}

pub struct Request<'a> {
    pub method: &'a [u8],
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    pub content: Content<'a>,
    /// Who is told of interim responses.
    pub interim: Option<(InterimFn, *mut c_void)>,
}

pub struct Client {
    pool: Pool,
    limits: Limits,
    /// Redirects that are followed.
    redirects: usize,
    /// The User-Agent header's value.
    name: Box<[u8]>,
    /// What it knows of TLS; with the system's roots, unless it was told otherwise.
    tls: OnceCell<Arc<Config>>,
    is_closed: Cell<bool>,
}

crate::hub_object!(Client, Kind::HttpClient);

pub struct Response {
    client: Rc<Client>,
    stream: Rc<Stream>,
    /// 0: given back to the pool.
    stream_handle: Cell<i64>,
    head: Head,
    pub body: Body,
    url: Url,
    /// The address that it comes from, with a NUL behind it.
    text: Vec<u8>,
    reader: Cell<u64>,
}

crate::hub_object!(Response, Kind::HttpResponse);

/// A connection while it is nobody's but a call's: the record closes it when the call does not come back.
struct Held(Rc<Cell<i64>>);

impl Drop for Held {
    fn drop(&mut self) {
        if let (Some(hub), stream @ 1..) = (Hub::existing(), self.0.get()) {
            pool::close(hub, stream);
        }
    }
}

impl Client {
    pub fn create(
        hub: &Hub,
        pool: Pool,
        limits: Limits,
        redirects: usize,
        name: &[u8],
        tls: Option<Arc<Config>>,
    ) -> Result<i64> {
        let tls = tls.map_or_else(OnceCell::new, OnceCell::from);
        insert(hub, Client { pool, limits, redirects, name: name.into(), tls, is_closed: Cell::new(false) })
    }

    fn tls(&self, hub: &Hub) -> Result<&Config> {
        if self.tls.get().is_none() {
            let how = How { tickets: true, ..How::default() };
            let handle = Config::create(Side::Client, how).map_err(|failure| hub.explain(&failure))?;
            let config = registry::shared::<Config>(handle)?;
            let _ = registry::close(handle); // it lives in us
            let _ = self.tls.set(config);
        }
        self.tls.get().map(|config| &**config).ok_or(Error::INVAL)
    }

    fn closed(&self, hub: &Hub) {
        self.is_closed.set(true);
        self.pool.clear(hub);
    }

    /// How many connections wait.
    pub fn idle(&self) -> usize {
        self.pool.count()
    }

    /// Makes a request and follows where it is sent; the response, of which the head has come.
    pub fn fetch(&self, hub: &Hub, url: &str, request: &Request, deadline: Deadline) -> Result<i64> {
        let this = keep(self);
        if !deadline.is_now() {
            hub.check()?;
        }
        check(request)?;
        let mut url = Url::parse(url)?;
        let mut now = Request { headers: request.headers.clone(), ..*request };
        for left in (0..=this.redirects).rev() {
            let response = this.once(hub, &url, &now, deadline)?;
            let next = if left == 0 { None } else { next(&response, &url, &mut now) };
            let Some(next) = next else {
                let stream = response.stream_handle.get();
                return insert(hub, response).inspect_err(|_| pool::close(hub, stream));
            };
            response.closed(hub);
            url = next;
        }
        Err(Error::INVAL) // not reached: the last turn has returned
    }

    /// One request and its response.
    fn once(self: &Rc<Client>, hub: &Hub, url: &Url, request: &Request, deadline: Deadline) -> Result<Response> {
        let may_repeat = !matches!(request.content, Content::Function(..))
            && [&b"GET"[..], b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"].contains(&request.method);
        if let Some(stream) = self.pool.take(hub, &url.key()) {
            match self.on(hub, stream, url, request, deadline) {
                Err((Error::PIPE | Error::CONNRESET | Error::CONNABORTED, true)) if may_repeat => {}
                done => return done.map_err(|(e, _)| e),
            }
        }
        let stream = connect(hub, url, self.limits.head + 4, deadline)?;
        self.on(hub, stream, url, request, deadline).map_err(|(e, _)| e)
    }

    /// Shakes hands, on a connection that has not.
    fn secure(&self, hub: &Hub, stream: &Stream, url: &Url, deadline: Deadline) -> Result<()> {
        if !url.is_secure || stream.plain_fd().is_none() {
            return Ok(());
        }
        stream.secure(hub, self.tls(hub)?, Some(url.host()), deadline)
    }

    /// The same on this connection, which is closed if it fails; whether it was silent then.
    fn on(
        self: &Rc<Client>,
        hub: &Hub,
        handle: i64,
        url: &Url,
        request: &Request,
        deadline: Deadline,
    ) -> std::result::Result<Response, (Error, bool)> {
        // In whose name the record holds it: no handle, and another for a request that a body's function makes.
        let holder = -handle;
        let handle = Rc::new(Cell::new(handle));
        let held = Held(handle.clone());
        hub.on_end(hub.current(), holder, move |_| drop(held));
        let done = self.exchange(hub, handle.get(), url, request, deadline);
        if done.is_ok() {
            handle.set(0); // the response's now
        }
        hub.forget_on_end(hub.current(), holder);
        done
    }

    fn exchange(
        self: &Rc<Client>,
        hub: &Hub,
        handle: i64,
        url: &Url,
        request: &Request,
        deadline: Deadline,
    ) -> std::result::Result<Response, (Error, bool)> {
        let stream = keep(object::get::<Stream>(hub, handle).map_err(|e| (e, false))?);
        self.secure(hub, &stream, url, deadline).map_err(|e| (e, false))?;
        let sent = self.send(hub, &stream, url, request, deadline);
        match sent {
            // Perhaps it has answered before it hung up.
            Ok(()) | Err(Error::PIPE | Error::CONNRESET) => {}
            Err(e) => return Err((e, false)),
        }
        let spoke = Cell::new(false);
        let is_silent = || !spoke.get() && stream.peek(hub).is_ok_and(|there| there.is_empty());
        let silent = |e: Error| (sent.err().unwrap_or(e), is_silent());
        let head = self.receive(hub, &stream, url, request, &spoke, deadline).map_err(silent)?;
        let response = self.response(&stream, url, head);
        response.body.begin(response.head.framing);
        response.stream_handle.set(handle);
        Ok(response)
    }

    /// One without a body, whose connection is another's.
    fn response(self: &Rc<Client>, stream: &Rc<Stream>, url: &Url, head: Head) -> Response {
        let mut text = url.text().into_bytes();
        text.push(0);
        Response {
            client: self.clone(),
            stream: stream.clone(),
            stream_handle: Cell::new(0),
            head,
            body: Body::default(),
            url: url.clone(),
            text,
            reader: Cell::new(0),
        }
    }

    // ---- out ---------------------------------------------------------------------------

    fn send(&self, hub: &Hub, stream: &Stream, url: &Url, request: &Request, deadline: Deadline) -> Result<()> {
        let head = self.compose(url, request)?;
        match request.content {
            Content::None => stream.send(hub, &head, deadline).1,
            Content::Bytes(bytes) => {
                stream.write(hub, &head, deadline).1?;
                stream.send(hub, bytes, deadline).1
            }
            Content::Function(next, user) => {
                stream.write(hub, &head, deadline).1?;
                send_pieces(hub, stream, next, user, deadline)
            }
        }
    }

    fn compose(&self, url: &Url, request: &Request) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        let size = request.headers.iter().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>();
        let room = size + url.target.len() + url.authority.len() + self.name.len() + 256;
        head.try_reserve(room).map_err(|_| Error::NOMEM)?;
        let has = |name: &[u8]| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut line = |parts: &[&[u8]]| parts.iter().for_each(|part| head.extend_from_slice(part));
        line(&[request.method, b" ", url.target.as_bytes(), b" HTTP/1.1\r\nHost: ", url.authority.as_bytes(), b"\r\n"]);
        if !has(b"user-agent") {
            line(&[b"User-Agent: ", &self.name, b"\r\n"]);
        }
        if !has(b"accept") {
            line(&[b"Accept: */*\r\n"]);
        }
        request.headers.iter().for_each(|(name, value)| line(&[name, b": ", value, b"\r\n"]));
        match request.content {
            Content::Bytes(bytes) => line(&[b"Content-Length: ", bytes.len().to_string().as_bytes(), b"\r\n"]),
            Content::Function(..) => line(&[b"Transfer-Encoding: chunked\r\n"]),
            Content::None if [&b"POST"[..], b"PUT", b"PATCH"].contains(&request.method) => {
                line(&[b"Content-Length: 0\r\n"])
            }
            Content::None => {}
        }
        line(&[b"\r\n"]);
        Ok(head)
    }

    // ---- and back ----------------------------------------------------------------------

    /// The head of the response, behind those that only say that it will come; `spoke`: one has come.
    fn receive(
        self: &Rc<Client>,
        hub: &Hub,
        stream: &Rc<Stream>,
        url: &Url,
        request: &Request,
        spoke: &Cell<bool>,
        deadline: Deadline,
    ) -> Result<Head> {
        for _ in 0..INTERIM {
            let head = self.receive_one(hub, stream, request.method == b"HEAD", deadline)?;
            spoke.set(true);
            match (head.status, request.interim) {
                (200.., _) => return Ok(head),
                (101, _) => break, // we have not asked for another protocol
                (_, Some((tell, user))) => {
                    let handle = insert(hub, self.response(stream, url, head))?;
                    tell(handle, user);
                    let _ = hub.table.remove(handle).map(|closer| closer.close());
                }
                _ => {}
            }
        }
        Err(Error::PROTO)
    }

    fn receive_one(&self, hub: &Hub, stream: &Stream, is_head: bool, deadline: Deadline) -> Result<Head> {
        let (mut scan, lenient) = (Scan::of_response(), Lenient::default());
        loop {
            let bytes = stream.peek(hub)?;
            if !bytes.is_empty()
                && let Some((from, to)) = scan.go_on(bytes, &self.limits, &lenient).map_err(|_| Error::PROTO)?
            {
                let mut head = Head::default();
                head.read_response(&bytes[from..to], &scan, is_head).map_err(|_| Error::PROTO)?;
                stream.skip(hub, to)?;
                return Ok(head);
            }
            let there = bytes.len();
            if stream.fill(hub, there + 1, deadline)? == there {
                return Err(Error::PIPE);
            }
        }
    }
}

/// What is the library's to say, or could break the message, is EINVAL.
fn check(request: &Request) -> Result<()> {
    const OWN: [&[u8]; 4] = [b"host", b"content-length", b"transfer-encoding", b"connection"];
    let is_own = |name: &[u8]| OWN.iter().any(|own| name.eq_ignore_ascii_case(own));
    let good = |(name, value): &(&[u8], &[u8])| field::is_token(name) && field::is_value(value) && !is_own(name);
    let is_good = field::is_token(request.method) && request.method != b"CONNECT" && request.headers.iter().all(good);
    if is_good { Ok(()) } else { Err(Error::INVAL) }
}

/// A connection that reads up to `most` bytes of a head at a time.
fn connect(hub: &Hub, url: &Url, most: usize, deadline: Deadline) -> Result<i64> {
    let fd = dial::dial(hub, &url.address(), libc::SOCK_STREAM, deadline)?;
    let _ = crate::sys::descriptor::set_option(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, &1);
    let handle = Stream::of(hub, fd.as_raw_fd(), true, most.max(READ_MAX), 0)?;
    let _ = fd.into_raw_fd(); // the stream's now
    Ok(handle)
}

fn send_pieces(hub: &Hub, stream: &Stream, next: BodyFn, user: *mut c_void, deadline: Deadline) -> Result<()> {
    let mut piece = Vec::<u8>::new();
    piece.try_reserve_exact(PIECE).map_err(|_| Error::NOMEM)?;
    loop {
        let n = next(piece.as_mut_ptr().cast(), PIECE, user);
        let n = usize::try_from(n).map_err(|_| Error::from_code(i32::try_from(n).unwrap_or(Error::INVAL.code())))?;
        if n > PIECE {
            return Err(Error::INVAL);
        }
        let mut size = [0u8; 20];
        let mut rest = &mut size[..];
        let _ = write!(rest, "{n:x}\r\n"); // there is room
        let left = rest.len();
        stream.write(hub, &size[..size.len() - left], deadline).1?;
        if n > 0 {
            // SAFETY: the function has written so much.
            unsafe { piece.set_len(n) };
            stream.write(hub, &piece, deadline).1?;
            stream.write(hub, b"\r\n", deadline).1?;
        } else {
            return stream.send(hub, b"\r\n", deadline).1;
        }
    }
}

/// Where a response sends us, and what is asked for there. `None`: nowhere, or we do not go.
fn next(response: &Response, url: &Url, request: &mut Request) -> Option<Url> {
    let status = response.head.status;
    let is_safe = request.method == b"GET" || request.method == b"HEAD";
    let becomes_get = match status {
        301 | 302 => request.method == b"POST",
        303 => !is_safe,
        307 | 308 => false,
        _ => return None,
    };
    let next = url.join(std::str::from_utf8(response.head.get(b"location")?).ok()?).ok()?;
    if url.is_secure && !next.is_secure {
        return None; // what was secret stays so
    }
    if becomes_get {
        (request.method, request.content) = (b"GET", Content::None);
        request.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with(b"content-"));
    }
    if matches!(request.content, Content::Function(..)) {
        return None; // it has been used up
    }
    if next.key() != url.key() {
        // Meant for the one, not for the other.
        const SECRETS: [&[u8]; 3] = [b"authorization", b"cookie", b"proxy-authorization"];
        request.headers.retain(|(name, _)| !SECRETS.iter().any(|s| name.eq_ignore_ascii_case(s)));
    }
    Some(next)
}

impl Response {
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The address that it comes from, with a NUL behind it.
    pub fn url(&self) -> &[u8] {
        &self.text
    }

    /// Reads some of the body, at least a byte; 0 at its end, and then the connection is free again.
    ///
    /// # Safety
    /// `at` points to `len` bytes that are this call's alone until it returns.
    pub unsafe fn read(&self, hub: &Hub, at: *mut u8, len: usize, deadline: Deadline) -> Result<usize> {
        let this = keep(self);
        let _turn = Turn::take(&this.reader)?;
        // SAFETY: by contract.
        let n = unsafe { this.body.read(hub, &this.stream, &this.client.limits, at, len, deadline) }?;
        if this.body.is_done() {
            this.give_back(hub);
        }
        Ok(n)
    }

    pub fn read_all(&self, hub: &Hub, cap: usize, into: &mut Block, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        let _turn = Turn::take(&this.reader)?;
        this.body.read_all(hub, &this.stream, &this.client.limits, cap, into, deadline)?;
        this.give_back(hub);
        Ok(())
    }

    /// The connection goes to the pool, if it can be used again, or is closed.
    fn give_back(&self, hub: &Hub) {
        let stream = self.stream_handle.replace(0);
        let is_clean = !self.client.is_closed.get()
            && self.body.is_done()
            && self.head.keeps_alive
            && self.head.framing != Framing::ToTheEnd;
        if stream != 0 && is_clean {
            self.client.pool.give(hub, &self.url.key(), stream);
        } else if stream != 0 {
            pool::close(hub, stream);
        }
    }

    fn closed(&self, hub: &Hub) {
        if self.stream_handle.get() == 0 {
            return;
        }
        if Turn::take(&self.reader).is_ok() {
            // What is there already is read for the sake of the connection; nobody waits for more.
            let _ = self.body.discard(hub, &self.stream, &self.client.limits, REST, Deadline::NOW);
        }
        self.give_back(hub);
    }
}
