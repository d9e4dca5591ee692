//! WebSocket.
//!
//! In a handler of weald_http_server_new, weald_websocket_accept makes a request a connection of
//! WebSocket; weald_websocket_connect makes one as a client. Messages come and go as wholes, or in
//! parts by the functions that end with _part. Pings
//! are answered, and rules watched, by whoever receives: let a greenlet receive as long as the
//! connection is to live.
//!
//! What is sent is taken over whole or not at all, and goes by itself when the socket has room;
//! weald_websocket_send waits while more than `max_unsent` bytes have not gone. Any number of
//! greenlets may send, and one receive (WEALD_EBUSY).

#![allow(non_camel_case_types)]

use super::http::weald_http_request;
use super::stream::weald_stream;
use super::tls::{self, weald_tls_config};
use super::{existing, fence, fence64, options, put, slice, text, wanted};
use crate::error::{Error, Result};
use crate::http::exchange::Exchange;
use crate::hub::Hub;
use crate::object::{self, keep};
use crate::stream::Stream;
use crate::time::Deadline;
use crate::tls::Side;
use crate::websocket::connection::{Got, Limits, WebSocket};
use crate::websocket::frame::{self, Opcode};
use crate::websocket::handshake::{self, How};
use std::ffi::{c_char, c_int, c_void};

/// A handle to a connection.
pub type weald_websocket = i64;

/// What a message is: UTF-8, or bytes.
pub const WEALD_WEBSOCKET_TEXT: c_int = 1;
pub const WEALD_WEBSOCKET_BINARY: c_int = 2;
/// To be sent alone: the library receives and answers them.
pub const WEALD_WEBSOCKET_PING: c_int = 9;
pub const WEALD_WEBSOCKET_PONG: c_int = 10;

/// Messages are compressed, if the other side does so too (permessage-deflate). Costs some 300 KB a
/// connection, and time.
pub const WEALD_WEBSOCKET_DEFLATE: c_int = 1;
/// With that: each message by itself.
pub const WEALD_WEBSOCKET_NO_CONTEXT: c_int = 2;
/// Of weald_websocket_new: this side is the client.
pub const WEALD_WEBSOCKET_CLIENT: c_int = 4;
/// Of weald_websocket_broadcast: who has no room is hung up on.
pub const WEALD_WEBSOCKET_DROP_SLOW: c_int = 8;

/// How a connection is to be; begin with `{.size = sizeof options}`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_websocket_options {
    pub size: usize,
    /// WEALD_WEBSOCKET_DEFLATE, WEALD_WEBSOCKET_NO_CONTEXT, WEALD_WEBSOCKET_CLIENT.
    pub flags: c_int,
    /// The longest message to be received, inflated; 0: 1 MiB.
    pub max_message: usize,
    /// How much may wait to go before a send waits; 0: 256 KiB.
    pub max_unsent: usize,
    /// Subprotocols, with commas: of a server, the best first; the first that a client offers is taken.
    pub protocols: *const c_char,
    /// Of a server: the Origins that may connect, with commas, "https://oak.example"; NULL: all. Pages
    /// of any site can connect to a server with their reader's cookies if it does not look.
    pub origins: *const c_char,
    /// Of a client: more lines for the request, each with its "\r\n".
    pub headers: *const c_char,
    /// Of a client: for "wss:", from weald_tls_client.
    pub tls: weald_tls_config,
}

impl Default for weald_websocket_options {
    fn default() -> Self {
        let none = std::ptr::null();
        weald_websocket_options {
            size: 0,
            flags: 0,
            max_message: 0,
            max_unsent: 0,
            protocols: none,
            origins: none,
            headers: none,
            tls: 0,
        }
    }
}

fn list(at: *const c_char) -> Result<Vec<String>> {
    // SAFETY: NULL or NUL-terminated, by the caller.
    let text = unsafe { text(at) }?.unwrap_or_default();
    Ok(text.split(',').map(|one| one.trim().to_string()).filter(|one| !one.is_empty()).collect())
}

/// What is asked for, with flags of these alone.
fn how(at: *const weald_websocket_options, flags: c_int) -> Result<(How, c_int)> {
    // SAFETY: NULL or a struct as large as it says, by the caller.
    let given: weald_websocket_options = unsafe { options(at) }?;
    if given.flags & !flags != 0 || given.max_message > u32::MAX as usize {
        return Err(Error::INVAL);
    }
    let usual = Limits::default();
    let or = |size, usual| if size == 0 { usual } else { size };
    let how = How {
        deflate: given.flags & WEALD_WEBSOCKET_DEFLATE != 0,
        forgets: given.flags & WEALD_WEBSOCKET_NO_CONTEXT != 0,
        limits: Limits { message: or(given.max_message, usual.message), unsent: or(given.max_unsent, usual.unsent) },
        protocols: list(given.protocols)?,
        origins: list(given.origins)?,
        // SAFETY: NULL or NUL-terminated, by the caller.
        headers: unsafe { text(given.headers) }?.unwrap_or_default().into(),
        tls: if given.tls == 0 { None } else { Some(tls::config_of(given.tls, Side::Client)?) },
    };
    Ok((how, given.flags))
}

const PACKS: c_int = WEALD_WEBSOCKET_DEFLATE | WEALD_WEBSOCKET_NO_CONTEXT;

/// Makes the connection of a request one of WebSocket. A request that does not ask for that, or may
/// not, is answered, and the call fails. The connection is closed when the handler returns; close
/// the handle as well, and before that end it with weald_websocket_close. May switch. Fails with
/// WEALD_EPROTO (it does not ask for WebSocket, or not as it should), WEALD_EACCES (its Origin is none
/// of `origins`), WEALD_EINVAL (`size`, flags, a text that is none; the request has a body),
/// WEALD_EALREADY (it has been answered), WEALD_EPIPE (the client has left), WEALD_EBADF, WEALD_EPERM,
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_accept(
    request: weald_http_request,
    options: *const weald_websocket_options,
    deadline: i64,
) -> weald_websocket {
    fence64(|hub| {
        let exchange = object::get::<Exchange>(hub, request)?;
        let (how, _) = how(options, PACKS)?;
        handshake::accept(hub, exchange, &how, Deadline::from_raw(deadline))
    })
}

/// Connects to `url`, "ws://host:port/path" or "wss:". weald_error_message(weald_self()) says what a
/// server that does not agree has answered. May switch. Fails with WEALD_EINVAL (`url`, `size`, flags,
/// a text that is none; "wss:" without `tls`), WEALD_EPROTO (the server does not agree), the codes of
/// weald_tcp_connect and weald_tls_connect, WEALD_EBADF (`tls`), WEALD_ECONNRESET, WEALD_EMFILE,
/// WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_connect(
    url: *const c_char,
    options: *const weald_websocket_options,
    deadline: i64,
) -> weald_websocket {
    fence64(|hub| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let url = unsafe { text(url) }?.ok_or(Error::INVAL)?;
        let (how, _) = how(options, PACKS)?;
        handshake::connect(hub, url, &how, Deadline::from_raw(deadline))
    })
}

/// Speaks WebSocket over a stream on which somebody else has shaken hands, as the server, or as the
/// client with WEALD_WEBSOCKET_CLIENT; WEALD_WEBSOCKET_DEFLATE: that has been agreed, with its usual
/// parameters. The stream is the connection's from now on. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM, WEALD_EINVAL (`size`, flags, a text that is none; a stream of a file), WEALD_ENOMEM;
/// then the stream is the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_new(s: weald_stream, options: *const weald_websocket_options) -> weald_websocket {
    fence64(|hub| {
        let stream = keep(object::get::<Stream>(hub, s)?);
        let (how, flags) = how(options, PACKS | WEALD_WEBSOCKET_CLIENT)?;
        if stream.is_file() {
            return Err(Error::INVAL);
        }
        let agreed = how.deflate.then(|| crate::websocket::deflate::Agreed {
            server_forgets: how.forgets,
            client_forgets: how.forgets,
            ..Default::default()
        });
        WebSocket::create(hub, stream, s, flags & WEALD_WEBSOCKET_CLIENT == 0, how.limits, agreed, None)
    })
}

fn with<R>(w: weald_websocket, f: impl FnOnce(&'static Hub, &WebSocket) -> Result<R>) -> Result<R> {
    let hub = Hub::get()?;
    f(hub, object::get::<WebSocket>(hub, w)?)
}

/// Receives the next message and returns what it is, WEALD_WEBSOCKET_TEXT or WEALD_WEBSOCKET_BINARY; 0
/// when the other side has closed. `*data` points to it until the next call that receives from `w` or
/// closes it; `*len` is its length. May switch. Fails with WEALD_EPROTO (the other side has broken a
/// rule, and has been told), WEALD_EMSGSIZE (the message is longer than `max_message`; it has been
/// told), WEALD_ECONNABORTED (the connection has ended without a close), WEALD_EINVAL (`data` or `len`
/// NULL), WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET. After the first
/// three the connection is of no use; weald_websocket_close_reason says more.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_receive(
    w: weald_websocket,
    data: *mut *const c_void,
    len: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|_| {
        wanted(data)?;
        wanted(len)?;
        receive(w, false, data, len, std::ptr::null_mut(), deadline)
    })
}

fn receive(
    w: weald_websocket,
    in_parts: bool,
    data: *mut *const c_void,
    len: *mut usize,
    last: *mut c_int,
    deadline: i64,
) -> Result<c_int> {
    with(w, |hub, socket| match socket.receive(hub, in_parts, Deadline::from_raw(deadline))? {
        Got::Closed => Ok(0),
        Got::Message(opcode, bytes, is_last) => {
            // SAFETY: `last` may be NULL; writable by the caller.
            unsafe {
                put(data, bytes.as_ptr().cast());
                put(len, bytes.len());
                put(last, c_int::from(is_last));
            }
            Ok(opcode as c_int)
        }
    })
}

/// As weald_websocket_receive, for messages that are too large to be held whole: what has come of one
/// is given at once, in as many calls as that takes, and `*last` is 1 when the message ends with it. A
/// part of text may end in the middle of a character, and a last part may be empty. `max_message` bounds
/// only what a compressed message inflates to. weald_websocket_receive gives the rest of a message that
/// has been begun. May switch. Fails with WEALD_EPROTO, WEALD_EMSGSIZE, WEALD_ECONNABORTED (as
/// weald_websocket_receive), WEALD_EINVAL (`data`, `len` or `last` NULL), WEALD_EBADF (also when it is
/// closed meanwhile), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_receive_part(
    w: weald_websocket,
    data: *mut *const c_void,
    len: *mut usize,
    last: *mut c_int,
    deadline: i64,
) -> c_int {
    fence(|_| {
        wanted(data)?;
        wanted(len)?;
        wanted(last)?;
        receive(w, true, data, len, last, deadline)
    })
}

fn opcode(what: c_int) -> Result<Opcode> {
    match what {
        WEALD_WEBSOCKET_TEXT => Ok(Opcode::Text),
        WEALD_WEBSOCKET_BINARY => Ok(Opcode::Binary),
        WEALD_WEBSOCKET_PING => Ok(Opcode::Ping),
        WEALD_WEBSOCKET_PONG => Ok(Opcode::Pong),
        _ => Err(Error::INVAL),
    }
}

/// Sends a message, WEALD_WEBSOCKET_TEXT or WEALD_WEBSOCKET_BINARY, or a ping or pong of up to 125
/// bytes. It is taken over whole, or the call fails and nothing is sent. May switch, while more than
/// `max_unsent` bytes have not gone. Returns 0. Fails with WEALD_EPIPE (one of both has closed, or the
/// other side is gone), WEALD_EINVAL (`what`; `data` NULL; text that is no UTF-8; a ping that is too
/// long), WEALD_EBUSY (another message goes in parts), WEALD_EBADF (also when it is closed meanwhile),
/// WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_send(
    w: weald_websocket,
    what: c_int,
    data: *const c_void,
    len: usize,
    deadline: i64,
) -> c_int {
    fence(|_| {
        let opcode = opcode(what)?;
        // SAFETY: the caller's bytes, which stay until the call returns.
        let data = unsafe { slice(data.cast::<u8>(), len) }?;
        with(w, |hub, socket| socket.send(hub, opcode, data, Deadline::from_raw(deadline)))
    })
}

/// Sends a message in parts, as it comes to be: with `last` 0 more parts follow, in other calls with the
/// same `what`, WEALD_WEBSOCKET_TEXT or WEALD_WEBSOCKET_BINARY. A part of text may end in the middle of a
/// character. Until the last part other messages are WEALD_EBUSY, and a broadcast passes this connection
/// over; pings may be sent. Each part is taken over whole, or the call fails and nothing of it is sent. May
/// switch, as weald_websocket_send. Returns 0. Fails with WEALD_EPIPE (one of both has closed, or the other
/// side is gone), WEALD_EINVAL (`what`, also when the message is of the other kind; `data` NULL; text that
/// is no UTF-8), WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_send_part(
    w: weald_websocket,
    what: c_int,
    data: *const c_void,
    len: usize,
    last: c_int,
    deadline: i64,
) -> c_int {
    fence(|_| {
        let opcode = opcode(what).ok().filter(|opcode| !opcode.is_control()).ok_or(Error::INVAL)?;
        // SAFETY: the caller's bytes, which stay until the call returns.
        let data = unsafe { slice(data.cast::<u8>(), len) }?;
        with(w, |hub, socket| socket.send_part(hub, opcode, data, last != 0, Deadline::from_raw(deadline)))
    })
}

/// Sends one message to `n` connections, made into a frame once and never compressed. It waits for
/// nobody: who has more than `max_unsent` bytes to get is passed over, or hung up on with
/// WEALD_WEBSOCKET_DROP_SLOW in `flags`. Passed over are also handles that would be WEALD_EBADF, or
/// WEALD_EPERM, and connections that are closing, or on which a message goes in parts.
/// Does not switch. Returns how many get it. Fails with WEALD_EINVAL (`what`, flags; `all` or `data`
/// NULL; text that is no UTF-8).
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_broadcast(
    all: *const weald_websocket,
    n: usize,
    what: c_int,
    data: *const c_void,
    len: usize,
    flags: c_int,
) -> i64 {
    fence64(|hub| {
        let opcode = opcode(what).ok().filter(|opcode| !opcode.is_control()).ok_or(Error::INVAL)?;
        // SAFETY: the caller's arrays, which stay until the call returns.
        let (all, data) = unsafe { (slice(all, n)?, slice(data.cast::<u8>(), len)?) };
        if flags & !WEALD_WEBSOCKET_DROP_SLOW != 0 || opcode == Opcode::Text && std::str::from_utf8(data).is_err() {
            return Err(Error::INVAL);
        }
        let mut head = [0; frame::HEAD];
        let size = frame::write(&mut head, frame::last(opcode), data.len(), None);
        let mut reached = 0i64;
        for &one in all {
            let Ok(socket) = object::get::<WebSocket>(hub, one).map(keep) else { continue };
            match socket.forward(hub, &head[..size], data, opcode) {
                Ok(true) => reached += 1,
                Ok(false) if flags & WEALD_WEBSOCKET_DROP_SLOW != 0 => socket.drop_it(hub),
                _ => {}
            }
        }
        Ok(reached)
    })
}

/// Closes a connection in good order: says so, with a code of RFC 6455 (0: 1000, the usual one) and a
/// reason of up to 123 bytes (NULL: none), lets go what was sent before, and waits for the answer;
/// messages that come before that are dropped. While another greenlet receives, it gets the answer, and
/// this waits until all has gone. The handle stays. May switch. Returns 0. Fails with WEALD_EINVAL
/// (`code`, `reason`), WEALD_EPIPE (the other side is gone), WEALD_EPROTO, WEALD_EMSGSIZE,
/// WEALD_ECONNABORTED (as in weald_websocket_receive), WEALD_EBADF (also when it is closed meanwhile),
/// WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_ECONNRESET.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_close(
    w: weald_websocket,
    code: c_int,
    reason: *const c_char,
    deadline: i64,
) -> c_int {
    fence(|_| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let reason = unsafe { text(reason) }?.unwrap_or_default();
        let code = u16::try_from(code).map_err(|_| Error::INVAL)?;
        with(w, |hub, socket| socket.close(hub, code, reason.as_bytes(), Deadline::from_raw(deadline)))
    })
}

/// The code with which the other side has closed, 1005 when it gave none; 1006 when it was gone
/// without a word; the code with which it was told that it has broken a rule; 0 before that. Does not
/// switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_close_code(w: weald_websocket) -> c_int {
    fence(|_| with(w, |_, socket| Ok(i32::from(socket.close_code()))))
}

/// The reason that goes with it; "" if there is none, and for a bad handle. Never NULL; good until `w`
/// is closed. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_close_reason(w: weald_websocket) -> *const c_char {
    existing::<WebSocket>(w).map_or(c"".as_ptr(), |(_, socket)| socket.close_reason())
}

/// The subprotocol that was agreed; "" if there is none, and for a bad handle. Never NULL; good until
/// `w` is closed. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_protocol(w: weald_websocket) -> *const c_char {
    let found = existing::<WebSocket>(w).and_then(|(_, socket)| socket.protocol.as_ref());
    found.map_or(c"".as_ptr(), |protocol| protocol.as_ptr())
}

/// How many bytes have been taken over and have not gone. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_unsent(w: weald_websocket) -> i64 {
    fence64(|_| with(w, |_, socket| Ok(socket.unsent())))
}

/// The connection's descriptor, which stays its own: for addresses and options. Does not switch. Fails
/// with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_websocket_fd(w: weald_websocket) -> c_int {
    fence(|_| with(w, |_, socket| Ok(socket.stream().fd())))
}
