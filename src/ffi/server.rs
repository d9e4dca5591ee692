//! Servers.
//!
//! A server accepts connections in a greenlet of its own, and calls a handler for each in another.
//! The handler's code is as straight as if it blocked; when it returns the connection is closed. A
//! server belongs to its thread. For more cores give each worker one, at the same address with
//! WEALD_REUSEPORT.

#![allow(non_camel_case_types)]

use super::group::weald_group;
use super::stream::weald_stream;
use super::tls::{self, weald_tls_config};
use super::{fence, fence64, options, some, text};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::net::listener;
use crate::object;
use crate::server::{self, Handler, Limits, Listener, Server};
use crate::time::Deadline;
use crate::tls::Side;
use libc::{sockaddr, socklen_t};
use std::ffi::{c_char, c_int, c_void};

/// A handle to a server.
pub type weald_server = i64;

/// What a handler returns that goes on using the descriptor, and closes it itself.
pub const WEALD_KEEP: c_int = 1;

/// Serves a connection, in a greenlet of its own. `fd` is non-blocking and closed on exec; `peer`
/// is good until the handler returns. Returns 0, and the library closes `fd`, or WEALD_KEEP. When
/// the greenlet is killed before it has begun no handler is called, and the connection is closed.
pub type weald_stream_handler_fn =
    Option<extern "C-unwind" fn(fd: c_int, peer: *const sockaddr, peer_len: socklen_t, user: *mut c_void) -> c_int>;

/// Serves a connection as a stream, in a greenlet of its own. `peer` is good until the handler
/// returns. Returns 0, and the library writes what has been gathered, ends the stream and closes it,
/// or WEALD_KEEP: then the handler has, or will.
pub type weald_session_handler_fn = Option<
    extern "C-unwind" fn(s: weald_stream, peer: *const sockaddr, peer_len: socklen_t, user: *mut c_void) -> c_int,
>;

/// Serves a datagram, in a greenlet of its own. `fd` is the server's socket, to answer with; it
/// stays the server's. `data` and `peer` are good until the handler returns.
pub type weald_datagram_handler_fn = Option<
    extern "C-unwind" fn(
        fd: c_int,
        data: *const c_void,
        len: usize,
        peer: *const sockaddr,
        peer_len: socklen_t,
        user: *mut c_void,
    ),
>;

/// What can be set about a server; what is 0 is as if there were none.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct weald_server_options {
    pub size: usize,
    /// How many connections wait to be accepted; 0: as many as the system allows.
    pub backlog: c_int,
    /// WEALD_REUSEPORT, WEALD_V6ONLY.
    pub flags: c_int,
    /// How many connections (datagrams) are served at a time; 0: any number. A server that is full
    /// does not accept: the others wait in the kernel's queue.
    pub max_connections: usize,
    /// A pool in which they take room as well; 0: none. Keep it open as long as the server.
    pub pool: weald_group,
    /// How many are accepted in a row before other greenlets have a turn; 0: 64.
    pub max_accept: usize,
    /// Of the greenlets; 0: the usual one.
    pub stack_size: usize,
    /// Of servers of streams and of HTTP: TLS is spoken, and the handler called after the handshake; 0: not.
    /// From weald_tls_server. It may be closed before the server.
    pub tls: weald_tls_config,
    /// How long a handshake may take; 0: ten seconds. Who has not finished it then is hung up on.
    pub handshake_ns: i64,
}

/// For those who do not say how long a handshake may take.
const HANDSHAKE_NS: i64 = 10_000_000_000;

/// `speaks`: connections may begin with TLS.
pub(super) fn limits(given: &weald_server_options, speaks: bool) -> Result<Limits> {
    if given.handshake_ns < 0 || !speaks && (given.tls != 0 || given.handshake_ns != 0) {
        return Err(Error::INVAL);
    }
    Ok(Limits {
        connections: given.max_connections,
        pool: given.pool,
        max_accept: match given.max_accept {
            0 => server::MAX_ACCEPT,
            n => u32::try_from(n).unwrap_or(u32::MAX),
        },
        stack_size: given.stack_size,
        tls: if given.tls == 0 { None } else { Some(tls::config_of(given.tls, Side::Server)?) },
        handshake_ns: if given.handshake_ns == 0 { HANDSHAKE_NS } else { given.handshake_ns },
    })
}

pub(super) fn at_address(address: *const c_char, is_stream: bool, how: &weald_server_options) -> Result<Listener> {
    // SAFETY: NULL or NUL-terminated, by the caller.
    let address = unsafe { text(address) }?.ok_or(Error::INVAL)?;
    if !is_stream {
        return Ok(Listener::Own(listener::udp(address, how.flags)?, None));
    }
    let (fd, file) = match address.strip_prefix("unix:") {
        Some(path) if how.flags == 0 => listener::unix(path, how.backlog)?,
        Some(_) => return Err(Error::INVAL),
        None => (listener::tcp(address, how.backlog, how.flags)?, None),
    };
    Ok(Listener::Own(fd, file))
}

fn make(
    hub: &Hub,
    listener: impl FnOnce(&weald_server_options) -> Result<Listener>,
    handler: Handler,
    user: *mut c_void,
    how: *const weald_server_options,
) -> Result<i64> {
    // SAFETY: NULL or a struct as large as it says, by the caller.
    let how: weald_server_options = unsafe { options(how) }?;
    let limits = limits(&how, matches!(handler, Handler::Session(_)))?;
    let listener = listener(&how)?;
    Server::create(hub, listener, handler, user, limits)
}

/// Makes a server that listens at `address` from now on, and accepts when it is started. `address`
/// is as for weald_tcp_listen, or "unix:/path" or "unix:@name", as for weald_unix_listen; a socket
/// file goes with the server. `handler` gets `user`. `options` NULL: all as usual. Close it: then
/// it does not accept any more, and its connections are served to their end. Does not switch. Fails
/// with WEALD_EINVAL (`address` or `handler` NULL, no such text, `size`, flags, `stack_size`),
/// WEALD_EBADF (pool), WEALD_EPERM (a pool of another thread), WEALD_EADDRINUSE, and what else
/// bind(2) fails with, WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_new(
    address: *const c_char,
    handler: weald_stream_handler_fn,
    user: *mut c_void,
    options: *const weald_server_options,
) -> weald_server {
    fence64(|hub| {
        let handler = Handler::Stream(some(handler)?);
        make(hub, |how| at_address(address, true, how), handler, user, options)
    })
}

/// As weald_server_new, for a socket that listens already: inherited from systemd, or shared with
/// other hubs or processes. It stays the caller's, open when the server is shut, and is made
/// non-blocking when it is started. Does not switch. Fails with WEALD_EINVAL (`handler` NULL; it
/// does not listen; `size`, `stack_size`), WEALD_EBADF (`fd`, pool), WEALD_ENOTSOCK, WEALD_EPERM (a
/// pool of another thread), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_from_fd(
    fd: c_int,
    handler: weald_stream_handler_fn,
    user: *mut c_void,
    options: *const weald_server_options,
) -> weald_server {
    fence64(|hub| make(hub, |_| Ok(Listener::Theirs(fd)), Handler::Stream(some(handler)?), user, options))
}

/// As weald_server_new, with connections as streams, and TLS on them if `options` say so. When a
/// handshake fails the connection is closed and no handler called. Does not switch. Fails with
/// WEALD_EINVAL (`address` or `handler` NULL, no such text, `size`, flags, `stack_size`; a config of
/// weald_tls_client), WEALD_EBADF (pool, config), WEALD_EPERM (a pool of another thread),
/// WEALD_EADDRINUSE, and what else bind(2) fails with, WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_server_new(
    address: *const c_char,
    handler: weald_session_handler_fn,
    user: *mut c_void,
    options: *const weald_server_options,
) -> weald_server {
    fence64(|hub| {
        let handler = Handler::Session(some(handler)?);
        make(hub, |how| at_address(address, true, how), handler, user, options)
    })
}

/// As weald_server_from_fd, with connections as streams. Does not switch. Fails with WEALD_EINVAL
/// (`handler` NULL; it does not listen; `size`, `stack_size`; a config of weald_tls_client),
/// WEALD_EBADF (`fd`, pool, config), WEALD_ENOTSOCK, WEALD_EPERM (a pool of another thread),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_stream_server_from_fd(
    fd: c_int,
    handler: weald_session_handler_fn,
    user: *mut c_void,
    options: *const weald_server_options,
) -> weald_server {
    fence64(|hub| make(hub, |_| Ok(Listener::Theirs(fd)), Handler::Session(some(handler)?), user, options))
}

/// Makes a server for the UDP datagrams that come to `address`, as for weald_udp_bind. Otherwise as
/// weald_server_new; a datagram is what a connection is there. Does not switch. Fails with
/// WEALD_EINVAL (`address` or `handler` NULL, no such text, `size`, flags, `stack_size`),
/// WEALD_EBADF (pool), WEALD_EPERM (a pool of another thread), WEALD_EADDRINUSE, and what else
/// bind(2) fails with, WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_datagram_server_new(
    address: *const c_char,
    handler: weald_datagram_handler_fn,
    user: *mut c_void,
    options: *const weald_server_options,
) -> weald_server {
    fence64(|hub| {
        let handler = Handler::Datagram(some(handler)?);
        make(hub, |how| at_address(address, false, how), handler, user, options)
    })
}

/// As weald_datagram_server_new, for a socket that has its address already, of any family. It stays
/// the caller's. Does not switch. Fails with WEALD_EINVAL (`handler` NULL; a socket that listens;
/// `size`, `stack_size`), WEALD_EBADF (`fd`, pool), WEALD_ENOTSOCK, WEALD_EPERM (a pool of another
/// thread), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_datagram_server_from_fd(
    fd: c_int,
    handler: weald_datagram_handler_fn,
    user: *mut c_void,
    options: *const weald_server_options,
) -> weald_server {
    fence64(|hub| make(hub, |_| Ok(Listener::Theirs(fd)), Handler::Datagram(some(handler)?), user, options))
}

fn with<T>(s: i64, call: impl FnOnce(&'static Hub, &Server) -> Result<T>) -> Result<T> {
    let hub = Hub::get()?;
    call(hub, object::get(hub, s)?)
}

/// Has `s` begin to accept. When descriptors or memory run out it pauses, from 10 ms up to a
/// second, tells the error handler (every ten seconds at most), and goes on as soon as a connection
/// ends; when that takes long it hangs up on those who wait. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has begun), WEALD_EPIPE (it is shut), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_start(s: weald_server) -> c_int {
    fence(|_| with(s, |hub, server| server.start(hub)))
}

/// Starts `s`, unless it has been, and waits until it has been shut and its connections have ended:
/// a server's main program. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
/// meanwhile; also when its listener or its pool was), another code that accept(2) failed with for
/// good, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT (and it goes on serving), WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a handler of its own; in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_serve(s: weald_server, deadline: i64) -> c_int {
    fence(|_| with(s, |hub, server| server.serve(hub, Deadline::from_raw(deadline))))
}

/// Has `s` accept no more; its address is free then. Its connections are served to their end. From
/// a handler or a callback as well. Does not switch. Returns 0, also when it was shut before. Fails
/// with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_shut(s: weald_server) -> c_int {
    fence(|_| {
        with(s, |hub, server| {
            server.shut(hub);
            Ok(())
        })
    })
}

/// Shuts `s`, gives its connections until `grace` to end, kills those that are left, and waits for
/// their ends, for as long as their cleaning up takes. With WEALD_NOW it kills at once and waits
/// for nothing. May switch. Returns how many it had to kill. Fails with WEALD_EBADF (also when it
/// is closed meanwhile), WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout),
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a handler of its own; in a child that a
/// callback has forked meanwhile; in main, when what is left can not end), WEALD_ENOMEM. A call
/// that fails while it waits has shut `s` all the same.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_stop(s: weald_server, grace: i64) -> i64 {
    fence64(|_| with(s, |hub, server| server.stop(hub, Deadline::from_raw(grace))))
}

/// How many connections (datagrams) are being served. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_count(s: weald_server) -> i64 {
    fence64(|_| with(s, |_, server| Ok(server.count())))
}

/// How many there have been. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_accepted(s: weald_server) -> i64 {
    fence64(|_| with(s, |_, server| Ok(server.accepted() as i64)))
}

/// The descriptor that `s` listens at; it stays the server's. Does not switch. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EPIPE (it is shut).
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_fd(s: weald_server) -> c_int {
    fence(|_| with(s, |_, server| server.fd()))
}

/// The port that `s` listens at; 0 for a Unix socket. Does not switch. Fails with WEALD_EBADF (also
/// when a listener of the caller's was closed), WEALD_EPERM, WEALD_EPIPE (it is shut).
#[unsafe(no_mangle)]
pub extern "C" fn weald_server_port(s: weald_server) -> c_int {
    fence(|_| with(s, |_, server| Ok(i32::from(server.port()?))))
}
