//! Codes, time, handles.
//!
//! The codes are negated errno values where errno has one; those of our own are below -2000. A
//! number is never reused. errno itself is not used: each greenlet has its own, saved and restored
//! over a switch.
//!
//! A handle is good in the thread that made it, and gives WEALD_EPERM in others. Any thread may use
//! the handles of hubs, thread pools, workers, and of what was made with WEALD_SHARED.

#![allow(non_camel_case_types)]

use super::{fence, fence_any, fence64};
use crate::error::{self, Error};
use crate::handle::{self, Kind};
use crate::hub::Hub;
use crate::{registry, time};
use std::ffi::{c_char, c_int};

/// Not permitted: the handle belongs to another thread, the caller is not the owner, the call is
/// for main alone, or a binding's hook forbids to wait now.
pub const WEALD_EPERM: c_int = -1;
/// No such thing: a link, a path.
pub const WEALD_ENOENT: c_int = -2;
/// Interrupted. Given by bindings to weald_interrupt, and never by the library itself.
pub const WEALD_EINTR: c_int = -4;
/// A bad handle or descriptor: stale, closed, of another kind, or no handle at all.
pub const WEALD_EBADF: c_int = -9;
/// No such child process: it was reaped by somebody else, or is the parent's.
pub const WEALD_ECHILD: c_int = -10;
/// Not ready, and the deadline was WEALD_NOW; or no thread is to be had.
pub const WEALD_EAGAIN: c_int = -11;
/// Out of memory, mappings or handles.
pub const WEALD_ENOMEM: c_int = -12;
/// The system does not permit it: a file's mode, or what it is.
pub const WEALD_EACCES: c_int = -13;
/// A bad address was given to the kernel.
pub const WEALD_EFAULT: c_int = -14;
/// Busy: another greenlet waits for this descriptor or uses this stream, the target of a switch
/// does not wait for one, or a comparator uses its own queue.
pub const WEALD_EBUSY: c_int = -16;
/// An invalid argument: a NULL callback or output, a number out of range.
pub const WEALD_EINVAL: c_int = -22;
/// Too many open descriptors in this process.
pub const WEALD_EMFILE: c_int = -24;
/// This can not be sought in: a pipe, a socket.
pub const WEALD_ESPIPE: c_int = -29;
/// Closed: the queue takes no more, the barrier is broken, or nobody reads what is written; the
/// stream ended before all was read.
pub const WEALD_EPIPE: c_int = -32;
/// A deadlock: the caller waits for itself; or, in main, nothing is left in this thread that could
/// end its wait.
pub const WEALD_EDEADLK: c_int = -35;
/// The library was built without it: TLS, HTTP or WebSocket.
pub const WEALD_ENOSYS: c_int = -38;
/// The other side has broken off in the middle of a message.
pub const WEALD_EPROTO: c_int = -71;
/// Too much: released more often than acquired.
pub const WEALD_EOVERFLOW: c_int = -75;
/// Not a socket.
pub const WEALD_ENOTSOCK: c_int = -88;
/// A message, or a line, is longer than it may be.
pub const WEALD_EMSGSIZE: c_int = -90;
/// This socket has no such option.
pub const WEALD_ENOPROTOOPT: c_int = -92;
/// This can not be done to a descriptor of this kind.
pub const WEALD_EOPNOTSUPP: c_int = -95;
/// No such family of addresses, or not that of the socket.
pub const WEALD_EAFNOSUPPORT: c_int = -97;
/// Somebody listens at this address already.
pub const WEALD_EADDRINUSE: c_int = -98;
/// Not an address of this machine.
pub const WEALD_EADDRNOTAVAIL: c_int = -99;
/// The connection has ended, and over TLS nobody has said so: what has come may be cut short.
pub const WEALD_ECONNABORTED: c_int = -103;
/// The other end has reset the connection.
pub const WEALD_ECONNRESET: c_int = -104;
/// The socket is connected already.
pub const WEALD_EISCONN: c_int = -106;
/// The socket is not connected.
pub const WEALD_ENOTCONN: c_int = -107;
/// The thread's hub has been shut down.
pub const WEALD_ESHUTDOWN: c_int = -108;
/// The deadline, or that of a surrounding weald_timeout, has passed.
pub const WEALD_ETIMEDOUT: c_int = -110;
/// Nobody listens at this address.
pub const WEALD_ECONNREFUSED: c_int = -111;
/// Done already: a result is set once, a greenlet starts once, a dead one runs no more.
pub const WEALD_EALREADY: c_int = -114;
/// It has begun and goes on: a connection that was asked for with WEALD_NOW.
pub const WEALD_EINPROGRESS: c_int = -115;
/// The greenlet was killed, or its wait called off.
pub const WEALD_ECANCELED: c_int = -125;
/// The call would have to wait, in a loop callback, which must not: spawn a greenlet there instead.
pub const WEALD_EWOULDBLOCK: c_int = -2001;
/// A panic was caught at the library's edge: in a callback written in Rust, or a defect of ours.
pub const WEALD_EPANIC: c_int = -2002;
/// The other side's certificate was not accepted; weald_error_message(weald_self()) says why.
pub const WEALD_ECERTIFICATE: c_int = -2010;

/// A deadline that never passes.
pub const WEALD_FOREVER: i64 = -1;
/// The deadline of a call that is not to wait.
pub const WEALD_NOW: i64 = 0;

/// A flag for the functions that make an event, result or queue: every thread may use it.
pub const WEALD_SHARED: c_int = 65536;

/// A handle to any kind of object: positive, never used again when it is closed.
pub type weald_handle = i64;

pub const WEALD_KIND_GREENLET: c_int = 1;
pub const WEALD_KIND_HUB: c_int = 2;
pub const WEALD_KIND_WATCHER: c_int = 3;
pub const WEALD_KIND_EVENT: c_int = 4;
pub const WEALD_KIND_RESULT: c_int = 5;
pub const WEALD_KIND_QUEUE: c_int = 6;
pub const WEALD_KIND_SEMAPHORE: c_int = 7;
pub const WEALD_KIND_LOCK: c_int = 8;
pub const WEALD_KIND_CONDITION: c_int = 9;
pub const WEALD_KIND_RWLOCK: c_int = 10;
pub const WEALD_KIND_BARRIER: c_int = 11;
pub const WEALD_KIND_GROUP: c_int = 12;
pub const WEALD_KIND_ITERATOR: c_int = 13;
pub const WEALD_KIND_TIMEOUT: c_int = 14;
pub const WEALD_KIND_LOCAL: c_int = 15;
pub const WEALD_KIND_THREADPOOL: c_int = 16;
pub const WEALD_KIND_WORKERS: c_int = 17;
pub const WEALD_KIND_IMAP: c_int = 18;
pub const WEALD_KIND_STREAM: c_int = 19;
pub const WEALD_KIND_SERVER: c_int = 20;
pub const WEALD_KIND_PROCESS: c_int = 22;
pub const WEALD_KIND_CHANNEL: c_int = 23;
pub const WEALD_KIND_FOLDER: c_int = 24;
pub const WEALD_KIND_TLS_CONFIG: c_int = 25;
pub const WEALD_KIND_WEBSOCKET: c_int = 26;
pub const WEALD_KIND_HTTP_REQUEST: c_int = 28;
pub const WEALD_KIND_HTTP_CLIENT: c_int = 29;
pub const WEALD_KIND_HTTP_RESPONSE: c_int = 30;
pub const WEALD_KIND_HTTP_CONNECTION: c_int = 31;

/// The text of a code, for people: "the deadline has passed". A positive number is taken as an
/// errno. Never NULL, never freed. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_strerror(code: c_int) -> *const c_char {
    error::text(code).as_ptr()
}

/// The short name of a code: "ETIMEDOUT"; "UNKNOWN" for a number that is none. Never NULL, never
/// freed. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_strcode(code: c_int) -> *const c_char {
    error::name(code).as_ptr()
}

/// The library's version, "0.1.0". Never fails. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The version of this ABI. It grows when something is added; the number in the library's soname
/// changes when something is taken away. Never fails. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_abi_version() -> c_int {
    1
}

/// Nanoseconds on the monotonic clock. Setting the wall clock does not touch it. Never fails. From
/// any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_now() -> i64 {
    time::now()
}

/// The deadline `ns` nanoseconds from now. Saturates: INT64_MAX is never, a negative number is a
/// deadline that has passed. Never fails. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_after(ns: i64) -> i64 {
    time::after(ns)
}

/// Drops one reference to the object behind `handle`. With the last one the object is closed:
/// whoever waits for it gets WEALD_EBADF, what it holds is destroyed, a watcher or timeout ends. A
/// greenlet is not killed by it: it runs on by itself, and one that was never started ends. Does
/// not switch. Returns 0. Fails with WEALD_EBADF (also for a handle that nobody has to close:
/// main's, or a detached greenlet's), WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_close(handle: weald_handle) -> c_int {
    if Hub::close_at_hand(handle) { 0 } else { close_slowly(handle) }
}

#[inline(never)]
extern "C" fn close_slowly(handle: i64) -> c_int {
    if handle::kind_of(handle) == Kind::Greenlet as u8 {
        return super::quick(|hub| hub.close_greenlet(handle));
    }
    if handle > 0 && handle::hub_of(handle) == 0 {
        return fence_any(|| registry::close(handle)) as c_int;
    }
    super::quick(|hub| match hub.table.unref(handle) {
        Ok(0) => hub.table.remove(handle).map(|closer| closer.close()),
        Ok(_) => Ok(()),
        Err(e) => Err(hub.why_not(handle, e)),
    })
}

/// Adds a reference to the object behind `handle`, to be dropped by a weald_close of its own, and
/// returns the handle. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EOVERFLOW (four
/// thousand million of them).
#[unsafe(no_mangle)]
pub extern "C" fn weald_dup(handle: weald_handle) -> weald_handle {
    if handle > 0 && handle::hub_of(handle) == 0 {
        return fence_any(|| registry::dup(handle).map(|()| handle));
    }
    fence64(|hub| hub.dup(handle).map(|()| handle))
}

/// What `handle` stands for: WEALD_KIND_... Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_kind(handle: weald_handle) -> c_int {
    if registry::is_shared(handle) {
        return c_int::from(handle::kind_of(handle));
    }
    fence(|hub| match hub.table.contains(handle) {
        true => Ok(i32::from(handle::kind_of(handle))),
        false => Err(hub.why_not(handle, Error::BADF)),
    })
}
