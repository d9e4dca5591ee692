//! HTTP clients.
//!
//! weald_http_fetch makes a request and returns its response as soon as the head has come; the body is
//! read as it comes. A client keeps connections that can be used again, follows redirects, and speaks
//! TLS to "https:" addresses. It belongs to its thread; any number of greenlets may use it at a time.
//!
//! A response is to be closed: then its connection is another request's, if all of the body has been
//! read or is there already, and is closed otherwise. The texts of a response are good until then.
//! One greenlet at a time may read it (WEALD_EBUSY).

#![allow(non_camel_case_types)]

use super::http::{c_bytes, headers, put_field, terminated};
use super::rw::bytes;
use super::tls::{config_of, weald_tls_config};
use super::{existing, fence, fence64, options, put, slice, wanted};
use crate::error::{Error, Result};
use crate::heap::Block;
use crate::http::client::{Client, Content, Request, Response};
use crate::http::config::Limits;
use crate::http::field;
use crate::http::pool::Pool;
use crate::hub::Hub;
use crate::object;
use crate::time::Deadline;
use crate::tls::Side;
use std::ffi::{c_char, c_int, c_void};

/// A handle to a client.
pub type weald_http_client = i64;

/// A handle to a response that a client has got.
pub type weald_http_response = i64;

/// How a client is made; what is 0 is as usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_http_client_options {
    pub size: usize,
    /// What it knows of TLS: a client's config; 0: it trusts whom the system trusts.
    pub tls: weald_tls_config,
    /// What User-Agent says; NULL: "weald/" and the version.
    pub name: *const c_char,
    /// Connections to one server that are kept; 8.
    pub max_idle: usize,
    /// For how long; 15 s.
    pub idle_ns: i64,
    /// Redirects that are followed; 0: 10, -1: none.
    pub max_redirects: c_int,
    /// Bytes of a response's head (WEALD_EPROTO beyond it); 64 KiB, 16 MiB at most.
    pub max_head: usize,
    /// Headers of a response; 100.
    pub max_headers: usize,
}

impl Default for weald_http_client_options {
    fn default() -> Self {
        // SAFETY: all zero is a valid value: no pointers.
        unsafe { std::mem::zeroed() }
    }
}

/// Gives the next piece of a request's body: writes up to `size` bytes to `buffer` and returns how
/// many, 0 at the end, or a negative code, with which the fetch fails. It may wait.
pub type weald_http_body_fn = Option<extern "C-unwind" fn(buffer: *mut c_void, size: usize, user: *mut c_void) -> i64>;

/// Is told of an interim response, such as 103 with what the page will need: its status and headers are
/// those of `interim`, which is good until this returns. It may wait, as long as the fetch may.
pub type weald_http_interim_fn = Option<extern "C-unwind" fn(interim: weald_http_response, user: *mut c_void)>;

/// What is asked for; begin with `{.size = sizeof options}`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_http_fetch_options {
    pub size: usize,
    /// NULL: "GET", or "POST" if there is a body.
    pub method: *const c_char,
    /// Names and values in turn, NULL behind the last; NULL: none. Host, Connection, Content-Length
    /// and Transfer-Encoding are the library's.
    pub headers: *const *const c_char,
    /// The body; NULL: none.
    pub body: *const c_void,
    pub body_len: usize,
    /// What gives the body in pieces, if `body` is NULL; NULL: nothing. It gets `user`.
    pub body_fn: weald_http_body_fn,
    pub user: *mut c_void,
    /// Is told of interim responses; NULL: they are passed over. It gets `user`.
    pub interim_fn: weald_http_interim_fn,
}

impl Default for weald_http_fetch_options {
    fn default() -> Self {
        // SAFETY: all zero is a valid value: no pointers, no function.
        unsafe { std::mem::zeroed() }
    }
}

/// Makes a client. `how` NULL: all as usual. Does not switch. Fails with WEALD_EINVAL (`size`; a
/// name with a line's end in it; negative numbers; a server's config), WEALD_EBADF (`tls`),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_client_new(how: *const weald_http_client_options) -> weald_http_client {
    fence64(|hub| {
        // SAFETY: NULL or a struct as large as it says, by the caller.
        let how: weald_http_client_options = unsafe { options(how) }?;
        // SAFETY: NULL or NUL-terminated, by the caller.
        let name = unsafe { c_bytes(how.name) }.unwrap_or(concat!("weald/", env!("CARGO_PKG_VERSION")).as_bytes());
        if !field::is_value(name) || how.idle_ns < 0 || how.max_redirects < -1 {
            return Err(Error::INVAL);
        }
        let or = |given: usize, usual: usize| if given == 0 { usual } else { given };
        let idle_ns = if how.idle_ns == 0 { 15_000_000_000 } else { how.idle_ns };
        let redirects = match how.max_redirects {
            0 => 10,
            n => usize::try_from(n).unwrap_or(0),
        };
        let head = or(how.max_head, 64 << 10).clamp(256, 1 << 24);
        let never = i64::MAX; // a call's deadline says how long it waits
        let limits = Limits {
            line: head,
            head,
            headers: or(how.max_headers, 100).min(1 << 16),
            body: u64::MAX,
            body_ns: never,
            write_ns: never,
            ..Limits::default()
        };
        let tls = if how.tls == 0 { None } else { Some(config_of(how.tls, Side::Client)?) };
        Client::create(hub, Pool::new(or(how.max_idle, 8), idle_ns), limits, redirects, name, tls)
    })
}

/// The connections that a client keeps for other requests. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_client_idle(client: weald_http_client) -> i64 {
    fence64(|hub| object::get::<Client>(hub, client).map(Client::idle))
}

/// Asks for `url` ("http://host:port/path?query" or "https:"), and follows redirects: the response,
/// of which the head has come; close it. `how` NULL: GET. A status such as 404 is a response as
/// well. Of a redirect that is not followed (too many; from "https:" to "http:"; with a body that is
/// used up) the response is the redirect itself. A request that is sent on another connection than
/// its first one, since the server had closed that, is one that may be made twice. May switch. Fails
/// with WEALD_EINVAL (`url` NULL or none; `size`; no method, or a header that is none or the
/// library's), the WEALD_EAI_ codes (no such host), WEALD_ECONNREFUSED and what else connect(2)
/// fails with, WEALD_ECERTIFICATE and what else weald_tls_connect fails with, WEALD_EPROTO (what
/// came is no HTTP), WEALD_EPIPE (the server has hung up before the head's end), WEALD_ECONNRESET,
/// WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_EMFILE, WEALD_ENOMEM, or
/// the code of `body_fn`.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_fetch(
    client: weald_http_client,
    url: *const c_char,
    how: *const weald_http_fetch_options,
    deadline: i64,
) -> weald_http_response {
    fence64(|hub| {
        let client = object::get::<Client>(hub, client)?;
        // SAFETY: NULL or a struct as large as it says, with texts and bytes that stay, by the caller.
        let (how, url) = unsafe { (options(how)?, c_bytes(url).ok_or(Error::INVAL)?) };
        let how: weald_http_fetch_options = how;
        // SAFETY: as above.
        let (method, headers, body) =
            unsafe { (c_bytes(how.method), headers(how.headers)?, slice(how.body.cast::<u8>(), how.body_len)?) };
        let content = match how.body_fn {
            _ if !how.body.is_null() => Content::Bytes(body),
            Some(next) => Content::Function(next, how.user),
            None => Content::None,
        };
        let usual = if matches!(content, Content::None) { &b"GET"[..] } else { b"POST" };
        let interim = how.interim_fn.map(|tell| (tell, how.user));
        let request = Request { method: method.unwrap_or(usual), headers, content, interim };
        let url = std::str::from_utf8(url).map_err(|_| Error::INVAL)?;
        client.fetch(hub, url, &request, Deadline::from_raw(deadline))
    })
}

// ---- the response -----------------------------------------------------------------

fn with<R>(response: weald_http_response, f: impl FnOnce(&'static Hub, &Response) -> Result<R>) -> Result<R> {
    let hub = Hub::get()?;
    f(hub, object::get::<Response>(hub, response)?)
}

/// A text of a response, which has a NUL behind it; NULL for a handle that is none.
fn text_of(response: weald_http_response, f: impl FnOnce(&Response) -> Option<&[u8]>) -> *const c_char {
    existing::<Response>(response).and_then(|(_, r)| f(r).map(terminated)).unwrap_or(std::ptr::null())
}

/// The status: 200. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_status(response: weald_http_response) -> c_int {
    fence(|_| with(response, |_, r| Ok(i32::from(r.head().status))))
}

/// The status's phrase, or "". NULL for a handle that is no response. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_reason(response: weald_http_response) -> *const c_char {
    text_of(response, |r| Some(r.head().reason()))
}

/// The address that it comes from, which may be another than was asked for. NULL for a handle that
/// is no response. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_url(response: weald_http_response) -> *const c_char {
    text_of(response, |r| Some(r.url()))
}

/// The first header of that name, whatever its case; NULL when there is none. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_header(response: weald_http_response, name: *const c_char) -> *const c_char {
    // SAFETY: NULL or NUL-terminated, by the caller.
    let Some(name) = (unsafe { c_bytes(name) }) else { return std::ptr::null() };
    text_of(response, |r| r.head().get(name))
}

/// The `i`-th header, as weald_http_header_at. Returns 1, or 0 when there are not so many. Does not
/// switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_header_at(
    response: weald_http_response,
    i: usize,
    name: *mut *const c_char,
    value: *mut *const c_char,
) -> c_int {
    // SAFETY: NULL or writable, by the caller.
    fence(|_| with(response, |_, r| Ok(unsafe { put_field(r.head(), i, name, value) })))
}

/// How many bytes of the body are still to be read; -1 when nobody knows. Does not switch. Fails
/// with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_left(response: weald_http_response) -> i64 {
    fence64(|_| with(response, |_, r| Ok(r.body.left().map_or(-1, |left| left as i64))))
}

/// Reads what is there of the body, up to `len` bytes, and waits while that is nothing; 0 at its
/// end. May switch. Returns how many. Fails with WEALD_EPIPE (the server has hung up before the
/// end), WEALD_EPROTO (the chunks are none), WEALD_EBADF, WEALD_EINVAL (`buffer` NULL), WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in
/// a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET, WEALD_ECONNABORTED
/// (of TLS that was cut).
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_read(
    response: weald_http_response,
    buffer: *mut c_void,
    len: usize,
    deadline: i64,
) -> i64 {
    fence64(|_| {
        bytes(buffer, len)?;
        // SAFETY: the caller's buffer, which is the call's until it returns.
        with(response, |hub, r| unsafe { r.read(hub, buffer.cast(), len, Deadline::from_raw(deadline)) })
    })
}

/// Reads what is left of the body, up to `max` bytes: `*data` is its memory, which is the caller's,
/// for weald_free, with a NUL behind its `*len` bytes (`len` NULL: not wanted). What a call that fails
/// has read is lost, also when it was too late: another one gets what comes behind it. May switch.
/// Returns 0. Fails with WEALD_EMSGSIZE (longer than `max`), WEALD_EPIPE (the
/// server has hung up before the end), WEALD_EPROTO (the chunks are none), WEALD_EBADF, WEALD_EINVAL
/// (`data` NULL), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM,
/// WEALD_ECONNRESET, WEALD_ECONNABORTED (of TLS that was cut).
#[unsafe(no_mangle)]
pub extern "C" fn weald_http_response_read_all(
    response: weald_http_response,
    max: usize,
    data: *mut *mut c_void,
    len: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|_| {
        wanted(data)?;
        let mut all = Block::new();
        all.reserve(0)?;
        with(response, |hub, r| r.read_all(hub, max, &mut all, Deadline::from_raw(deadline)))?;
        // SAFETY: `data` is not NULL, `len` may be; writable by the caller.
        unsafe {
            put(len, all.len());
            put(data, all.give());
        }
        Ok(())
    })
}
