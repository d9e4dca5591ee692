//! HTTP servers.
//!
//! An HTTP/1.1 server is a server (weald_server_start, weald_server_stop and the others take it) whose
//! handler gets requests. Each connection has a greenlet, which calls the handler for one request after
//! the other, in order; a handler reads the body as it comes and writes the response as it goes, and may
//! wait in between for whatever it likes.
//!
//! A request's handle is good until its handler returns, in any greenlet of the thread, and is not to be
//! closed. So are the texts of a request, which end with a NUL. One greenlet at a time may read a
//! request, and one answer it (WEALD_EBUSY). Besides its deadline a call has the server's limits: who
//! sends or reads too slowly is hung up on (WEALD_ETIMEDOUT). When a handler returns without an answer
//! the answer is 500, or what was wrong with the request's body; an answer that it has begun is ended,
//! unless it has called weald_fail or was killed: then the connection is closed, so that half an answer
//! does not look like a whole one.
//!
//! A connection that was accepted by other means is served by weald_http_connection_new and weald_http_next.
//!
//! What comes in is read strictly: what two readers might understand differently is refused, and the
//! handler does not see it. weald_http_lenient has what can be allowed.

#![allow(non_camel_case_types)]

use super::rw::bytes;
use super::server::{at_address, limits as server_limits, weald_server, weald_server_options};
use super::stream::weald_stream;
use super::{existing, fence, fence64, options, put, slice, some, wanted};
use crate::error::{Error, Result};
use crate::heap::Block;
use crate::http::config::{Lenient, Limits};
use crate::http::connection::{Connection, Service};
use crate::http::events::Event;
use crate::http::exchange::Exchange;
use crate::http::head::Head;
use crate::http::server::HttpServer;
use crate::hub::Hub;
use crate::object;
use crate::server::{Handler, Listener, Server};
use crate::stream::Stream;
use crate::time::Deadline;
use libc::{sockaddr, socklen_t};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::rc::Rc;

/// A handle to a request and its response.
pub type weald_http_request = i64;

/// A handle to a connection of weald_http_connection_new.
pub type weald_http_connection = i64;

/// Answers a request. It runs in the connection's greenlet.
pub type weald_http_handler_fn = Option<extern "C-unwind" fn(request: weald_http_request, user: *mut c_void)>;

/// Is told of each request when it has been answered: its status (0: it was not), how many bytes of a
/// body were sent, and how long it took, in nanoseconds. Of a request that was refused unseen the
/// method may be "". It must not wait.
pub type weald_http_log_fn = Option<
    extern "C-unwind" fn(request: weald_http_request, status: c_int, sent: i64, took_ns: i64, user: *mut c_void),
>;

/// What a server takes that is not HTTP as it should be, where the field is not 0. Whoever is in front
/// of the server should agree about it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct weald_http_lenient {
    pub size: usize,
    /// Lines that end with LF alone.
    pub bare_lf: c_int,
    /// Headers that go on in the next line, which begins with a space.
    pub folding: c_int,
    /// Spaces between a header's name and the colon.
    pub space_before_colon: c_int,
    /// HTTP/1.1 without Host.
    pub no_host: c_int,
    /// Headers with an underscore in their names, which are left out otherwise: "X_Y" and "X-Y" are the
    /// same for whoever makes variables of them.
    pub underscores: c_int,
    /// UTF-8 in the target.
    pub raw_target: c_int,
}

/// How an HTTP server is made; what is 0 is as usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_http_options {
    pub size: usize,
    /// Those of every server; NULL: as usual.
    pub server: *const weald_server_options,
    /// NULL: nothing.
    pub lenient: *const weald_http_lenient,
    /// What Server says; NULL: there is none.
    pub name: *const c_char,
    /// NULL: nobody is told. It gets the handler's `user`.
    pub log: weald_http_log_fn,
    /// Bytes of a request line (414); 8 KiB.
    pub max_line: usize,
    /// Bytes of a head (431); 64 KiB.
    pub max_head: usize,
    /// Headers (431); 100.
    pub max_headers: usize,
    /// Bytes of a body (413); 64 MiB.
    pub max_body: usize,
    /// Requests of one connection, then it is closed; 10,000.
    pub max_requests: usize,
    /// For the whole head, from its first byte on (408); 10 s.
    pub head_ns: i64,
    /// For a connection that waits for a request; 60 s.
    pub idle_ns: i64,
    /// For a body, besides what `min_rate` gives it (408); 20 s.
    pub body_ns: i64,
    /// For each 64 KiB of an answer; 30 s.
    pub write_ns: i64,
    /// Bytes a second that a body has at least, in the long run; 500.
    pub min_rate: usize,
}

impl Default for weald_http_options {
    fn default() -> Self {
        // SAFETY: all zero is a valid value: no pointers, no function.
        unsafe { std::mem::zeroed() }
    }
}

fn lenient(given: &weald_http_lenient) -> Lenient {
    Lenient {
        bare_lf: given.bare_lf != 0,
        folding: given.folding != 0,
        space_before_colon: given.space_before_colon != 0,
        no_host: given.no_host != 0,
        underscores: given.underscores != 0,
        raw_target: given.raw_target != 0,
    }
}

/// EINVAL for a negative time.
fn limits(given: &weald_http_options) -> Result<Limits> {
    let usual = Limits::default();
    let size = |given: usize, usual: usize| if given == 0 { usual } else { given };
    let time = |given: i64, usual: i64| match given {
        0 => Ok(usual),
        1.. => Ok(given),
        _ => Err(Error::INVAL),
    };
    Ok(Limits {
        line: size(given.max_line, usual.line),
        head: size(given.max_head, usual.head).min(1 << 24),
        headers: size(given.max_headers, usual.headers).min(1 << 16),
        body: size(given.max_body, usual.body as usize) as u64,
        requests: size(given.max_requests, usual.requests),
        head_ns: time(given.head_ns, usual.head_ns)?,
        idle_ns: time(given.idle_ns, usual.idle_ns)?,
        body_ns: time(given.body_ns, usual.body_ns)?,
        write_ns: time(given.write_ns, usual.write_ns)?,
        rate: size(given.min_rate, usual.rate as usize) as u64,
    })
}

fn make(
    hub: &Hub,
    listener: impl FnOnce(&weald_server_options) -> Result<Listener>,
    handler: weald_http_handler_fn,
    user: *mut c_void,
    how: *const weald_http_options,
) -> Result<i64> {
    let handler = some(handler)?;
    // SAFETY: NULL or structs as large as they say, by the caller.
    let (how, server, relaxed) = unsafe {
        let how: weald_http_options = options(how)?;
        (how, options(how.server)?, options(how.lenient)?)
    };
    // SAFETY: NULL or NUL-terminated, by the caller.
    let name = unsafe { c_bytes(how.name) }.unwrap_or_default();
    if !crate::http::field::is_value(name) {
        return Err(Error::INVAL);
    }
    let limits = limits(&how)?;
    let bounds = server_limits(&server, true)?;
    let listener = listener(&server)?;
    HttpServer::prepare(&listener);
    let service = HttpServer::new(handler, user, limits, lenient(&relaxed), how.log, name);
    let tls = bounds.tls.clone().map(|config| (config, bounds.handshake_ns));
    Server::create(hub, listener, Handler::Native(Rc::new(Service(service, tls))), user, bounds)
}

/// The bytes of a C string.
///
/// # Safety
/// `at` is NULL or NUL-terminated, and stays for `'a`.
pub(super) unsafe fn c_bytes<'a>(at: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: by contract.
    (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) }.to_bytes())
}

/// Names and values in turn.
///
/// # Safety
/// NULL, or texts behind which there is a NULL, which stay for `'a`.
pub(super) unsafe fn headers<'a>(mut at: *const *const c_char) -> Result<Vec<(&'a [u8], &'a [u8])>> {
    let mut all = Vec::new();
    if at.is_null() {
        return Ok(all);
    }
    // SAFETY: by contract, until the NULL is seen.
    while let Some(name) = unsafe { c_bytes(*at) } {
        // SAFETY: behind a name is a value, or the NULL.
        let value = unsafe { c_bytes(*at.add(1)) }.ok_or(Error::INVAL)?;
        all.push((name, value));
        // SAFETY: behind a value is a name, or the NULL.
        at = unsafe { at.add(2) };
    }
    Ok(all)
}

/// Makes an HTTP server that listens at `address` from now on, and serves when it is started:
/// otherwise as weald_server_new. `handler` gets `user`. `how` NULL: all as usual. Close it; then it
/// does not accept any more. When it is shut, connections end as soon as the requests that they have
/// begun are answered. Who connects and says nothing is accepted after a second (TCP_DEFER_ACCEPT), others
/// with their first bytes. Does not switch. Fails with WEALD_EINVAL (`address` or `handler` NULL, no such
/// text, a `size`, flags, a negative time), WEALD_EBADF (pool), WEALD_EPERM (a pool of another
/// thread), WEALD_EADDRINUSE, and what else bind(2) fails with, WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_server_new(
    address: *const c_char,
    handler: weald_http_handler_fn,
    user: *mut c_void,
    how: *const weald_http_options,
) -> weald_server {
    fence64(|hub| make(hub, |server| at_address(address, true, server), handler, user, how))
}

/// As weald_http_server_new, for a socket that listens already, as weald_server_from_fd. Does not
/// switch. Fails with WEALD_EINVAL (`handler` NULL; it does not listen; a `size`, a negative time),
/// WEALD_EBADF (`fd`, pool), WEALD_ENOTSOCK, WEALD_EPERM (a pool of another thread), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_server_from_fd(
    fd: c_int,
    handler: weald_http_handler_fn,
    user: *mut c_void,
    how: *const weald_http_options,
) -> weald_server {
    fence64(|hub| make(hub, |_| Ok(Listener::Theirs(fd)), handler, user, how))
}

/// Serves HTTP at `address` until this greenlet is killed or the listener fails: a program's whole
/// main. As weald_http_server_new and weald_server_serve; the server is closed when it returns. May
/// switch. Fails with WEALD_EINVAL (as weald_http_server_new), WEALD_EBADF (pool, or one that was closed
/// meanwhile), WEALD_EPERM (a pool of another thread), WEALD_EADDRINUSE, and what else bind(2) or accept(2) fails
/// with, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_serve(
    address: *const c_char,
    handler: weald_http_handler_fn,
    user: *mut c_void,
    how: *const weald_http_options,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        let server = make(hub, |server| at_address(address, true, server), handler, user, how)?;
        let served = object::get::<Server>(hub, server)?.serve(hub, Deadline::from_raw(deadline));
        if let Ok(closer) = hub.table.remove(server) {
            closer.close();
        }
        served
    })
}

extern "C-unwind" fn nobody(_: weald_http_request, _: *mut c_void) {}

/// Makes a server's side of the connection `s`, whose requests weald_http_next reads one by one: for
/// connections that were accepted, or secured, by other means than weald_http_server_new's. The stream
/// is the connection's from now on, and closed with it; if the call fails it stays the caller's. Of
/// `how` (NULL: all as usual) `server` is not looked at; `log` gets `user`. Does not switch. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (a `size`, a negative time, `name` no text for a header),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_connection_new(
    s: weald_stream,
    user: *mut c_void,
    how: *const weald_http_options,
) -> weald_http_connection {
    fence64(|hub| {
        let stream = object::get::<Stream>(hub, s)?;
        // SAFETY: NULL or structs as large as they say, by the caller.
        let (how, relaxed) = unsafe {
            let how: weald_http_options = options(how)?;
            (how, options(how.lenient)?)
        };
        // SAFETY: NULL or NUL-terminated, by the caller.
        let name = unsafe { c_bytes(how.name) }.unwrap_or_default();
        if !crate::http::field::is_value(name) {
            return Err(Error::INVAL);
        }
        let server = HttpServer::new(nobody, user, limits(&how)?, lenient(&relaxed), how.log, name);
        Connection::create(hub, server, stream, s)
    })
}

/// Brings the request before, if there was one, to its end, as when a server's handler returns, and
/// waits for the next: its handle, which is good until the next call. Returns 0 when there will be
/// none: the client has left or is idle for too long, or one of both sides has said "close". Close the
/// connection to break off. May switch. Fails with WEALD_EPROTO (what came is no request, or too large
/// or too slow: it has been refused with the status that `log` was told, and is the last), WEALD_EBADF
/// (also when the connection is closed meanwhile), WEALD_EPERM, WEALD_EBUSY (another greenlet waits
/// here, or uses the request before), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_next(connection: weald_http_connection, deadline: i64) -> weald_http_request {
    fence64(|hub| object::get::<Connection>(hub, connection)?.next(hub, Deadline::from_raw(deadline)))
}

/// As weald_http_next, but does not wait for the next request: for who reads the connection's stream
/// between two of them. May switch. Returns 1, or 0 when there will be no other request. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_ECANCELED, WEALD_EWOULDBLOCK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_done(connection: weald_http_connection) -> c_int {
    fence(|hub| object::get::<Connection>(hub, connection)?.done(hub))
}

// ---- the request ------------------------------------------------------------------

fn with<R>(request: weald_http_request, f: impl FnOnce(&'static Hub, &Exchange) -> Result<R>) -> Result<R> {
    let hub = Hub::get()?;
    f(hub, object::get::<Exchange>(hub, request)?)
}

/// A text of a request, which has a NUL behind it; NULL for a handle that is none.
#[inline(always)]
fn text_of(request: weald_http_request, f: impl FnOnce(&Exchange) -> Option<&[u8]>) -> *const c_char {
    existing::<Exchange>(request).and_then(|(_, exchange)| f(exchange).map(terminated)).unwrap_or(std::ptr::null())
}

pub(super) fn terminated(text: &[u8]) -> *const c_char {
    if text.is_empty() { c"".as_ptr() } else { text.as_ptr().cast() }
}

/// A head's `i`-th header goes to `*name` and `*value`; whether there is one.
///
/// # Safety
/// Each is NULL or writable.
#[inline(always)]
pub(super) unsafe fn put_field(head: &Head, i: usize, name: *mut *const c_char, value: *mut *const c_char) -> bool {
    let Some((its_name, its_value)) = head.field(i) else { return false };
    // SAFETY: by contract.
    unsafe {
        put(name, terminated(its_name));
        put(value, terminated(its_value));
    }
    true
}

/// The method: "GET". NULL for a handle that is no request. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_method(request: weald_http_request) -> *const c_char {
    text_of(request, |exchange| Some(exchange.head().method()))
}

/// The target as it was sent: "/a%20path?query", for a proxy "http://host/path", or "*". NULL for a
/// handle that is no request. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_target(request: weald_http_request) -> *const c_char {
    text_of(request, |exchange| Some(exchange.head().target()))
}

/// The target's path, decoded: "/a path". It may have "..", and any bytes but NUL. NULL when it can
/// not be decoded, or for a handle that is no request. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_path(request: weald_http_request) -> *const c_char {
    text_of(request, Exchange::path)
}

/// What stands behind the "?" of the target, as it was sent; NULL when there is none. Does not
/// switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_query(request: weald_http_request) -> *const c_char {
    text_of(request, Exchange::query)
}

/// The first header of that name, whatever its case; NULL when there is none. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_header(request: weald_http_request, name: *const c_char) -> *const c_char {
    // SAFETY: NULL or NUL-terminated, by the caller.
    let Some(name) = (unsafe { c_bytes(name) }) else { return std::ptr::null() };
    text_of(request, |exchange| exchange.head().get(name))
}

/// The `i`-th header, from 0 on, in the order in which they came: its name and value go to `*name`
/// and `*value` (NULL: not wanted). Returns 1, or 0 when there are not so many. Does not switch.
/// Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_header_at(
    request: weald_http_request,
    i: usize,
    name: *mut *const c_char,
    value: *mut *const c_char,
) -> c_int {
    // SAFETY: NULL or writable, by the caller.
    fence(|_| with(request, |_, exchange| Ok(unsafe { put_field(exchange.head(), i, name, value) })))
}

/// The version: 10 or 11. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_version(request: weald_http_request) -> c_int {
    fence(|_| with(request, |_, exchange| Ok(10 + i32::from(exchange.head().minor))))
}

/// Where the request comes from; `*len` (NULL: not wanted) is the address's length. Good as long as
/// the request. NULL for a handle that is no request. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_peer(request: weald_http_request, len: *mut socklen_t) -> *const sockaddr {
    let Some((_, exchange)) = existing::<Exchange>(request) else { return std::ptr::null() };
    // SAFETY: NULL or writable, by the caller.
    unsafe { put(len, exchange.peer.len()) };
    exchange.peer.as_ptr()
}

/// How many bytes of the body are still to be read; -1 when nobody knows, since it comes in chunks:
/// so 0 means that there are none. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_body_left(request: weald_http_request) -> i64 {
    fence64(|_| with(request, |_, exchange| Ok(exchange.body.left().map_or(-1, |left| left as i64))))
}

/// Reads what is there of the body, up to `len` bytes, and waits while that is nothing; 0 at its
/// end. A client that waits to be asked for the body (Expect) is asked now. After WEALD_EPIPE,
/// WEALD_EPROTO, WEALD_EMSGSIZE and the server's WEALD_ETIMEDOUT the connection ends with this
/// request. May switch. Returns how many. Fails with WEALD_EPIPE (the client has left before the
/// end), WEALD_EPROTO (the chunks are none), WEALD_EMSGSIZE (more than `max_body`), WEALD_EBADF,
/// WEALD_EINVAL (`buffer` NULL), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_read(request: weald_http_request, buffer: *mut c_void, len: usize, deadline: i64) -> i64 {
    fence64(|_| {
        bytes(buffer, len)?;
        // SAFETY: the caller's buffer, which is the call's until it returns.
        with(request, |hub, exchange| unsafe { exchange.read(hub, buffer.cast(), len, Deadline::from_raw(deadline)) })
    })
}

/// Tells a client that waits to be asked for the body (Expect) that it may send it, as reading does,
/// also when some of it is there already. May switch. Returns 1, or 0 when the client does not wait, has
/// been told, or is being answered. Fails with WEALD_EPIPE (the client has left), WEALD_EBADF,
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_continue(request: weald_http_request, deadline: i64) -> c_int {
    fence(|_| with(request, |hub, exchange| exchange.proceed(hub, Deadline::from_raw(deadline))))
}

/// Reads what is left of the body, up to `max` bytes: `*data` is its memory, which is the caller's,
/// for weald_free, with a NUL behind its `*len` bytes (`len` NULL: not wanted). What a call that fails
/// has read is lost, also when it was too late: another one gets what comes behind it. May switch. Returns 0. Fails with WEALD_EMSGSIZE (longer than
/// `max`, or than `max_body`), WEALD_EPIPE (the client has left before the end), WEALD_EPROTO (the
/// chunks are none), WEALD_EBADF, WEALD_EINVAL (`data` NULL), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_read_all(
    request: weald_http_request,
    max: usize,
    data: *mut *mut c_void,
    len: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|_| {
        wanted(data)?;
        let mut all = Block::new();
        all.reserve(0)?;
        with(request, |hub, exchange| exchange.read_all(hub, max, &mut all, Deadline::from_raw(deadline)))?;
        // SAFETY: `data` is not NULL, `len` may be; writable by the caller.
        unsafe {
            put(len, all.len());
            put(data, all.give());
        }
        Ok(())
    })
}

/// Reads the rest of the body and drops it. What a handler leaves unread is dropped after it has
/// returned if it is less than 64 KiB; otherwise the connection is closed. May switch. Returns 0.
/// Fails with WEALD_EPIPE (the client has left before the end), WEALD_EPROTO (the chunks are none),
/// WEALD_EMSGSIZE (more than `max_body`), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_discard(request: weald_http_request, deadline: i64) -> c_int {
    fence(|_| with(request, |hub, exchange| exchange.discard(hub, Deadline::from_raw(deadline))))
}

// ---- the response -----------------------------------------------------------------

/// A status from 200 to 999.
fn status(given: c_int) -> Result<u16> {
    u16::try_from(given).map_err(|_| Error::INVAL)
}

/// Answers `request`, with all of the body at once. `type` is the Content-Type (NULL: none). Headers
/// are added before. An answer that has no body (to HEAD; 204, 304) says how long it would be, and
/// leaves it out. May switch. Returns 0. Fails with WEALD_EALREADY (it has been answered),
/// WEALD_EINVAL (`status` below 200 or above 999, `type` no text for a header, `data` NULL),
/// WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_reply(
    request: weald_http_request,
    status: c_int,
    r#type: *const c_char,
    data: *const c_void,
    len: usize,
    deadline: i64,
) -> c_int {
    fence(|_| {
        // SAFETY: the caller's bytes, which stay until the call returns.
        let (content_type, data) = unsafe { (c_bytes(r#type), slice(data.cast::<u8>(), len)?) };
        let status = self::status(status)?;
        with(request, |hub, exchange| exchange.reply(hub, status, content_type, data, Deadline::from_raw(deadline)))
    })
}

/// Sends an interim answer: `status` is 102, or 103 with what the client had better fetch already, or
/// another one up to 199. `headers` are its own, names and values in turn, NULL behind the last (NULL:
/// none). The answer is still to come, and 100 is said by itself. An HTTP/1.0 client is sent nothing. May
/// switch. Returns 0. Fails with WEALD_EALREADY (the answer has been begun), WEALD_EINVAL (`status` below
/// 102 or above 199; a header that is none, or Connection, Content-Length or Transfer-Encoding), WEALD_EPIPE
/// (the client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_ENOMEM, WEALD_ECONNRESET; with
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED or WEALD_EWOULDBLOCK it goes with what is sent next.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_inform(
    request: weald_http_request,
    status: c_int,
    headers: *const *const c_char,
    deadline: i64,
) -> c_int {
    fence(|_| {
        let status = self::status(status)?;
        if !(102..200).contains(&status) {
            return Err(Error::INVAL);
        }
        // SAFETY: NULL or texts with a NULL behind them, by the caller.
        let headers = unsafe { self::headers(headers) }?;
        with(request, |hub, exchange| exchange.inform(hub, status, &headers, Deadline::from_raw(deadline)))
    })
}

/// Adds a header to the answer, before it is begun. Afterwards it is a trailer, of an answer in
/// chunks; an HTTP/1.0 client gets none. Content-Length and Transfer-Encoding are the library's;
/// "Connection: close" ends the connection after this answer; Date is there unless it is added here.
/// Both texts are copied. Does not switch. Returns 0. Fails with WEALD_EINVAL (NULL; no name, or a
/// value with a line's end or another control character in it; the library's own; a trailer where
/// there is none), WEALD_EALREADY (the answer has ended), WEALD_EPIPE (the client has left),
/// WEALD_ETIMEDOUT (it was too slow), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_add_header(
    request: weald_http_request,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    fence(|_| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let (name, value) = unsafe { (c_bytes(name).ok_or(Error::INVAL)?, c_bytes(value).ok_or(Error::INVAL)?) };
        with(request, |_, exchange| exchange.response.add(name, value))
    })
}

/// Begins the answer. `reason` is the status's phrase (NULL: the usual one). `length` is what the
/// body will have, or -1: then it goes in chunks, or to an HTTP/1.0 client until the connection
/// ends. Nothing is sent before the first bytes of the body, weald_http_flush or weald_http_end.
/// Does not switch. Returns 0. Fails with WEALD_EALREADY (it has been begun), WEALD_EINVAL (`status`
/// below 200 or above 999, `reason` no text for a header, `length` below -1), WEALD_EPIPE (the
/// client has left), WEALD_ETIMEDOUT (it was too slow), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY,
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_begin(
    request: weald_http_request,
    status: c_int,
    reason: *const c_char,
    length: i64,
) -> c_int {
    fence(|_| {
        let status = self::status(status)?;
        let length = match length {
            -1 => None,
            n => Some(u64::try_from(n).map_err(|_| Error::INVAL)?),
        };
        // SAFETY: NULL or NUL-terminated, by the caller.
        let reason = unsafe { c_bytes(reason) };
        with(request, |_, exchange| exchange.response.begin(&exchange.context(), status, reason, length))
    })
}

/// Takes `len` bytes of the body over, all of them: small pieces are gathered, large ones written at
/// once. `*done` (NULL: not wanted) says how many were taken, also when the call fails: go on behind
/// them. May switch. Returns 0. Fails with WEALD_EINVAL (`data` NULL; the answer has not been
/// begun), WEALD_EALREADY (it has ended), WEALD_EMSGSIZE (more than was announced), WEALD_EPIPE (the
/// client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_write(
    request: weald_http_request,
    data: *const c_void,
    len: usize,
    done: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|_| {
        // SAFETY: the caller's bytes, which stay until the call returns.
        let data = unsafe { slice(data.cast::<u8>(), len) }?;
        let (n, result) = with(request, |hub, exchange| Ok(exchange.write(hub, data, Deadline::from_raw(deadline))))?;
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(done, n) };
        result
    })
}

/// Sends `len` bytes of the file `fd` from `offset` on, as part of the body, from the kernel where
/// that is possible. The file stays the caller's. Returns how many were sent: all of them. May
/// switch. Fails with WEALD_EPIPE (the file has fewer, or the client has left; either way the answer
/// can not be ended any more), WEALD_EINVAL (a negative `offset` or `len`; the answer has not been
/// begun), WEALD_EALREADY (it has ended), WEALD_EMSGSIZE (more than was announced), WEALD_EBADF
/// (also `fd`), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_sendfile(
    request: weald_http_request,
    fd: c_int,
    offset: i64,
    len: i64,
    deadline: i64,
) -> i64 {
    fence64(|_| {
        let len = u64::try_from(len).map_err(|_| Error::INVAL)?;
        with(request, |hub, exchange| {
            let (n, result) = exchange.send_file(hub, fd, offset, len, Deadline::from_raw(deadline));
            result.map(|()| n as i64)
        })
    })
}

/// Sends what has been gathered: for an answer that goes on later. May switch. Returns 0. Fails with
/// WEALD_EINVAL (the answer has not been begun), WEALD_EPIPE (the client has left), WEALD_EBADF,
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_flush(request: weald_http_request, deadline: i64) -> c_int {
    fence(|_| with(request, |hub, exchange| exchange.flush(hub, Deadline::from_raw(deadline))))
}

/// Ends the answer, and sends what has been gathered. May switch. Returns 0. Fails with WEALD_EINVAL
/// (it has not been begun; less was written than was announced: then the connection is closed),
/// WEALD_EALREADY (it has ended), WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_end(request: weald_http_request, deadline: i64) -> c_int {
    fence(|_| with(request, |hub, exchange| exchange.end(hub, Deadline::from_raw(deadline))))
}

/// Answers 101 with the headers that were added, and gives the connection over to `protocol`: a
/// stream, which is the request's and good as long as it, with what the client has sent already. The
/// connection is closed when the handler returns. May switch. Fails with WEALD_EINVAL (`protocol`
/// NULL or no text for a header; the request has a body that was not read, or is HTTP/1.0),
/// WEALD_EALREADY (it has been answered), WEALD_EPIPE (the client has left), WEALD_EBADF,
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_upgrade(
    request: weald_http_request,
    protocol: *const c_char,
    deadline: i64,
) -> weald_stream {
    fence64(|_| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let protocol = unsafe { c_bytes(protocol) }.ok_or(Error::INVAL)?;
        with(request, |hub, exchange| exchange.upgrade(hub, protocol, Deadline::from_raw(deadline)))
    })
}

/// Answers with the file `path`: all of it or the part that is asked for (Range), or says that the
/// client has it already (If-None-Match, If-Modified-Since); 404 when there is none, 403 when it may
/// not be read, 405 to other methods than GET and HEAD. Its type is told by the end of its name. May
/// switch. Returns 0, whatever the status. Fails with WEALD_EINVAL (`path` NULL), WEALD_EALREADY
/// (the request has been answered), WEALD_EPIPE (the client has left, or the file has got shorter),
/// WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_EMFILE,
/// WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_file(request: weald_http_request, path: *const c_char, deadline: i64) -> c_int {
    fence(|_| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let path = unsafe { c_bytes(path) }.ok_or(Error::INVAL)?;
        with(request, |hub, exchange| exchange.serve_file(hub, path, Deadline::from_raw(deadline)))
    })
}

/// Answers with the file `name` in `folder`, as weald_http_file: `name` is weald_http_path, or what
/// is left of it behind a prefix; NULL, which a path is that can not be decoded, is 404. "", and a
/// name that ends with "/", is the index.html there. Names with "..", and those in which something
/// begins with a dot, are 404; symbolic links are followed. May switch. Returns 0, whatever the
/// status. Fails with WEALD_EINVAL (`folder` NULL), WEALD_EALREADY (the request has been answered),
/// WEALD_EPIPE (the client has left, or the file has got shorter), WEALD_EBADF, WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
/// a child that a callback has forked meanwhile), WEALD_EMFILE, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_folder(
    request: weald_http_request,
    folder: *const c_char,
    name: *const c_char,
    deadline: i64,
) -> c_int {
    fence(|_| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let (folder, name) = unsafe { (c_bytes(folder).ok_or(Error::INVAL)?, c_bytes(name)) };
        // A path that can not be decoded is NULL: there is no such file.
        let name = name.unwrap_or(b"..");
        with(request, |hub, exchange| exchange.serve_folder(hub, folder, name, Deadline::from_raw(deadline)))
    })
}

/// Begins an answer of server-sent events, and sends its head. The client says in the header
/// "Last-Event-ID" what it has seen. May switch. Returns 0. Fails with WEALD_EALREADY (the request
/// has been answered), WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_events(request: weald_http_request, deadline: i64) -> c_int {
    fence(|_| with(request, |hub, exchange| exchange.begin_events(hub, Deadline::from_raw(deadline))))
}

/// Sends an event of such an answer at once: its `name` and `id` (NULL: none) and its text, of any
/// number of lines. Without `data` (NULL) it is a comment: something to say now and then, so that
/// nobody on the way takes the connection for dead, and it is noticed when the client has left. May
/// switch. Returns 0. Fails with WEALD_EINVAL (a line's end in `name` or `id`; the answer has not
/// been begun), WEALD_EALREADY (it has ended), WEALD_EMSGSIZE (an answer of known length has no
/// room), WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_event(
    request: weald_http_request,
    name: *const c_char,
    id: *const c_char,
    data: *const c_char,
    deadline: i64,
) -> c_int {
    fence(|_| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let event = unsafe { Event { name: c_bytes(name), id: c_bytes(id), data: c_bytes(data) } };
        with(request, |hub, exchange| exchange.send_event(hub, &event, Deadline::from_raw(deadline)))
    })
}
