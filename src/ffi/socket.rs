//! Sockets.
//!
//! The calls of <sys/socket.h>, in which one greenlet waits instead of the thread. Sockets made here
//! are non-blocking and closed on exec; others may be blocking. What is said of reading and writing
//! goes for them as well. Close them with weald_close_fd.
//!
//! Addresses go in and out as `struct sockaddr`. As text they are "127.0.0.1:80", "[::1]:80",
//! "[fe80::1%eth0]:80" (or with the interface's number), "unix:/path", "unix:@name" (which is in no
//! file system): weald_address_parse, weald_address_text.

use super::rw::{bytes, put_pair};
use super::{blocking, fence, fence_any, fence64, put, quick64, slice_mut, text, wanted};
use crate::error::{Error, Result};
use crate::net::address::Address;
use crate::net::option::{self, SocketOption};
use crate::net::socket;
use crate::time::Deadline;
use libc::{msghdr, sockaddr, sockaddr_storage, socklen_t};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::IntoRawFd;

/// Send small pieces at once (TCP).
pub const WEALD_OPTION_NODELAY: c_int = 1;
/// Hold back what does not fill a packet (TCP).
pub const WEALD_OPTION_CORK: c_int = 2;
/// Acknowledge at once (TCP).
pub const WEALD_OPTION_QUICKACK: c_int = 3;
/// A listener tells of a connection when data has come, or so many seconds later (TCP).
pub const WEALD_OPTION_DEFER_ACCEPT: c_int = 4;
/// How many milliseconds data may stay unacknowledged (TCP).
pub const WEALD_OPTION_USER_TIMEOUT: c_int = 5;
/// Ask now and then whether the other end is still there,
pub const WEALD_OPTION_KEEPALIVE: c_int = 6;
/// after so many seconds of silence (TCP),
pub const WEALD_OPTION_KEEPIDLE: c_int = 7;
/// every so many seconds (TCP),
pub const WEALD_OPTION_KEEPINTVL: c_int = 8;
/// and give up after so many times (TCP).
pub const WEALD_OPTION_KEEPCNT: c_int = 9;
/// Bind to an address although old connections linger there.
pub const WEALD_OPTION_REUSEADDR: c_int = 10;
/// Share the address with others that share it as well.
pub const WEALD_OPTION_REUSEPORT: c_int = 11;
/// Send to broadcast addresses (UDP).
pub const WEALD_OPTION_BROADCAST: c_int = 12;
/// An IPv6 socket is none for IPv4.
pub const WEALD_OPTION_V6ONLY: c_int = 13;
/// The size of the send buffer; the kernel doubles what it is given.
pub const WEALD_OPTION_SNDBUF: c_int = 14;
/// The size of the receive buffer; the kernel doubles what it is given.
pub const WEALD_OPTION_RCVBUF: c_int = 15;
/// How many seconds close(2) waits until all is sent, 0: it resets the connection; -1: off.
pub const WEALD_OPTION_LINGER: c_int = 16;
/// Messages come with the sender's process and user (Unix).
pub const WEALD_OPTION_PASSCRED: c_int = 17;
/// To be read only: the error that is pending, as a code; reading it clears it.
pub const WEALD_OPTION_ERROR: c_int = 18;
/// To be read only: SOCK_STREAM and so on.
pub const WEALD_OPTION_TYPE: c_int = 19;
/// To be read only: 1 for a listener.
pub const WEALD_OPTION_ACCEPTCONN: c_int = 20;

/// Makes a socket, as socket(2). Close it with weald_close_fd. From any thread; does not switch. Fails with
/// WEALD_EINVAL (no such type), WEALD_EAFNOSUPPORT, WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_socket(domain: c_int, type_: c_int, protocol: c_int) -> c_int {
    fence_any(|| Ok(socket::socket(domain, type_, protocol)?.into_raw_fd())) as c_int
}

/// Makes two sockets that are connected to each other, as socketpair(2). From any thread; does not switch. Returns 0.
/// Fails with WEALD_EINVAL (`ends` NULL; no such type), WEALD_EOPNOTSUPP (not for this domain),
/// WEALD_EAFNOSUPPORT, WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_socketpair(domain: c_int, type_: c_int, protocol: c_int, ends: *mut c_int) -> c_int {
    fence_any(|| {
        wanted(ends)?;
        put_pair(ends, socket::socketpair(domain, type_, protocol)?);
        Ok(())
    }) as c_int
}

/// The caller's address, checked.
fn given(address: *const sockaddr, len: socklen_t) -> Result<Address> {
    // SAFETY: NULL or so many bytes, by the caller.
    unsafe { Address::from_raw(address, len) }
}

/// Gives the socket an address. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK,
/// WEALD_EINVAL (`address` NULL, too short or too long; it has one already), WEALD_EADDRINUSE,
/// WEALD_EADDRNOTAVAIL, or another of bind(2).
#[unsafe(no_mangle)]
pub extern "C" fn weald_bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    fence_any(|| socket::bind(fd, &given(address, len)?)) as c_int
}

/// Makes the socket one that accepts connections; `backlog` of them wait at most. From any thread;
/// does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EOPNOTSUPP (datagrams),
/// WEALD_EINVAL (connected; a Unix socket without an address), WEALD_EADDRINUSE, or another of
/// listen(2).
#[unsafe(no_mangle)]
pub extern "C" fn weald_listen(fd: c_int, backlog: c_int) -> c_int {
    fence_any(|| socket::listen(fd, backlog)) as c_int
}

/// Connects the socket, and waits until it is. What has begun goes on when the call fails by its
/// deadline, a kill or an interruption: close the socket then. With WEALD_NOW it begins
/// (WEALD_EINPROGRESS), and weald_wait_write and WEALD_OPTION_ERROR tell what came of it. May
/// switch. Returns 0. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
/// WEALD_ENOTSOCK, WEALD_EINVAL (`address` NULL, too short or too long), WEALD_EAFNOSUPPORT,
/// WEALD_ECONNREFUSED, WEALD_EISCONN, WEALD_EINPROGRESS, WEALD_EALREADY (somebody else
/// connects it), WEALD_EPERM, WEALD_EAGAIN
/// (WEALD_NOW, and a Unix listener without room), WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM, or another of connect(2).
#[unsafe(no_mangle)]
pub extern "C" fn weald_connect(fd: c_int, address: *const sockaddr, len: socklen_t, deadline: i64) -> c_int {
    fence(|hub| socket::connect(hub, fd, &given(address, len)?, Deadline::from_raw(deadline)))
}

/// Accepts the next connection, waiting for one, and returns its descriptor. `*address` (NULL: not
/// wanted) gets who it is from: `*len` says how much room there is, and then how long it is.
/// Connections that have broken meanwhile are passed over. With too many open descriptors it fails
/// and the connection goes on waiting: sleep before the next try. May switch. Fails with
/// WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_EINVAL (it
/// does not listen; `len` NULL although `address` is not), WEALD_EOPNOTSUPP (datagrams),
/// WEALD_EMFILE, WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, deadline: i64) -> c_int {
    fence(|hub| {
        check_room(address, len)?;
        let (new, from) = socket::accept(hub, fd, Deadline::from_raw(deadline))?;
        give(&from, address, len);
        Ok(new.into_raw_fd())
    })
}

fn check_room(address: *const sockaddr, len: *const socklen_t) -> Result<()> {
    if !address.is_null() && len.is_null() { Err(Error::INVAL) } else { Ok(()) }
}

/// Gives an address to the caller, as much of it as he has room for.
fn give(from: &Address, address: *mut sockaddr, len: *mut socklen_t) {
    if address.is_null() {
        return;
    }
    // SAFETY: `check_room` saw that it is not NULL; so much room is there, by the caller.
    unsafe {
        let room = (*len).min(from.len()) as usize;
        std::ptr::copy_nonoverlapping(from.as_ptr().cast::<u8>(), address.cast(), room);
        len.write(from.len());
    }
}

/// As recv(2): weald_read with `flags`. MSG_PEEK, MSG_OOB and MSG_TRUNC are good here; MSG_WAITALL
/// is not: see weald_read_exact. May switch. Fails with WEALD_EBADF (no open descriptor, or
/// weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_ENOTCONN, WEALD_EINVAL (`buffer` NULL),
/// WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_recv(fd: c_int, buffer: *mut c_void, len: usize, flags: c_int, deadline: i64) -> i64 {
    blocking!(recv)
}

extern "C" fn recv(fd: c_int, buffer: *mut c_void, len: usize, flags: c_int, deadline: i64) -> i64 {
    quick64(|hub| {
        bytes(buffer, len)?;
        // SAFETY: the caller's buffer, which is the call's until it returns.
        unsafe { socket::recv(hub, fd, buffer, len, flags, Deadline::from_raw(deadline)) }
    })
}

/// As send(2): weald_write with `flags`, such as MSG_MORE and MSG_OOB. May switch. Fails with
/// WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_EINVAL
/// (`data` NULL), WEALD_EPIPE (nobody reads it any more), WEALD_EMSGSIZE (longer than a datagram may
/// be), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM, WEALD_ECONNRESET.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_send(fd: c_int, data: *const c_void, len: usize, flags: c_int, deadline: i64) -> i64 {
    blocking!(send)
}

extern "C" fn send(fd: c_int, data: *const c_void, len: usize, flags: c_int, deadline: i64) -> i64 {
    quick64(|hub| {
        bytes(data, len)?;
        socket::send(hub, fd, data, len, flags, Deadline::from_raw(deadline))
    })
}

/// As weald_recv, and says who it is from: `from` (NULL: not wanted) and `from_len` as in
/// weald_accept. May switch. Returns how many bytes came: of a datagram, what had room. Fails with
/// WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile), WEALD_ENOTSOCK, WEALD_ENOTCONN,
/// WEALD_EINVAL (`buffer` NULL; `from_len` NULL although `from` is not), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
/// a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNREFUSED (an earlier datagram was
/// refused).
#[unsafe(no_mangle)]
pub extern "C" fn weald_recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
    deadline: i64,
) -> i64 {
    fence64(|hub| {
        bytes(buffer, len)?;
        check_room(from, from_len)?;
        let (at, room) = if from.is_null() { (from, std::ptr::null_mut()) } else { (from, from_len) };
        // SAFETY: the caller's, and the call's until it returns; room for an address, or NULL.
        unsafe { socket::recvfrom(hub, fd, (buffer, len), flags, (at, room), Deadline::from_raw(deadline)) }
    })
}

/// As weald_send, to an address; NULL: to whom the socket is connected. May switch. Returns how many
/// bytes were sent. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
/// WEALD_ENOTSOCK, WEALD_EINVAL (`data` NULL; `to` too short or too long), WEALD_EPIPE (nobody
/// reads it any more), WEALD_EMSGSIZE (longer than a datagram may be), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
/// a callback has forked meanwhile), WEALD_ENOMEM, WEALD_ECONNREFUSED (an earlier datagram was
/// refused).
#[unsafe(no_mangle)]
pub extern "C" fn weald_sendto(
    fd: c_int,
    data: *const c_void,
    len: usize,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
    deadline: i64,
) -> i64 {
    fence64(|hub| {
        bytes(data, len)?;
        let copy = if to.is_null() { None } else { Some(given(to, to_len)?) };
        let to = copy.as_ref().map_or((std::ptr::null(), 0), |a| (a.as_ptr(), a.len()));
        socket::sendto(hub, fd, (data, len), flags, to, Deadline::from_raw(deadline))
    })
}

/// As recvmsg(2): into several buffers, with the sender's address and control messages. Descriptors
/// that come so are closed on exec with MSG_CMSG_CLOEXEC in `flags`. May switch. Returns how many
/// bytes came. Fails with WEALD_EBADF (no open descriptor, or weald_close_fd meanwhile),
/// WEALD_ENOTSOCK, WEALD_ENOTCONN, WEALD_EINVAL (`message` NULL), WEALD_EPERM, WEALD_EBUSY,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that
/// a callback has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_recvmsg(fd: c_int, message: *mut msghdr, flags: c_int, deadline: i64) -> i64 {
    fence64(|hub| {
        wanted(message)?;
        // SAFETY: the caller's, and the call's until it returns.
        unsafe { socket::recvmsg(hub, fd, message, flags, Deadline::from_raw(deadline)) }
    })
}

/// As sendmsg(2): from several buffers, to an address, with control messages such as descriptors.
/// May switch. Returns how many bytes were sent. Fails with WEALD_EBADF (no open descriptor, or
/// weald_close_fd meanwhile; a descriptor to be passed is none), WEALD_ENOTSOCK, WEALD_EINVAL
/// (`message` NULL), WEALD_EPIPE (nobody reads it any more), WEALD_EMSGSIZE (longer than a datagram
/// may be), WEALD_EPERM, WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_sendmsg(fd: c_int, message: *const msghdr, flags: c_int, deadline: i64) -> i64 {
    fence64(|hub| {
        wanted(message.cast_mut())?;
        socket::sendmsg(hub, fd, message, flags, Deadline::from_raw(deadline))
    })
}

/// Ends one direction of a connection, or both: SHUT_RD, SHUT_WR, SHUT_RDWR. Whoever waits to read
/// or write so finds the end. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK,
/// WEALD_ENOTCONN, WEALD_EINVAL (no such `how`).
#[unsafe(no_mangle)]
pub extern "C" fn weald_shutdown(fd: c_int, how: c_int) -> c_int {
    fence_any(|| socket::shutdown(fd, how)) as c_int
}

/// Sets an option, one of WEALD_OPTION_, of a socket. From any thread; does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EINVAL (no such `option`, or it can only be read; no such
/// value), WEALD_EOPNOTSUPP or WEALD_ENOPROTOOPT (not for this kind of socket), or another of
/// setsockopt(2).
#[unsafe(no_mangle)]
pub extern "C" fn weald_set_option(fd: c_int, option: c_int, value: c_int) -> c_int {
    fence_any(|| option::set(fd, SocketOption::from_raw(option)?, value)) as c_int
}

/// Gets an option, one of WEALD_OPTION_, of a socket. From any thread; does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EINVAL (no such `option`; `value` NULL), WEALD_EOPNOTSUPP
/// (not for this kind of socket), or another of getsockopt(2).
#[unsafe(no_mangle)]
pub extern "C" fn weald_get_option(fd: c_int, option: c_int, value: *mut c_int) -> c_int {
    fence_any(|| {
        wanted(value)?;
        let got = option::get(fd, SocketOption::from_raw(option)?)?;
        // SAFETY: not NULL, writable by the caller.
        unsafe { put(value, got) };
        Ok(())
    }) as c_int
}

/// Says what the socket's own address is: `address` and `len` as in weald_accept. From any thread; does not switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_EINVAL (one of them NULL).
#[unsafe(no_mangle)]
pub extern "C" fn weald_local_address(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    fence_any(|| {
        wanted(address)?;
        wanted(len)?;
        give(&socket::local_address(fd)?, address, len);
        Ok(())
    }) as c_int
}

/// Says whom the socket is connected to: `address` and `len` as in weald_accept. From any thread; does not switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_ENOTSOCK, WEALD_ENOTCONN, WEALD_EINVAL (one of them
/// NULL).
#[unsafe(no_mangle)]
pub extern "C" fn weald_peer_address(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    fence_any(|| {
        wanted(address)?;
        wanted(len)?;
        give(&socket::peer_address(fd)?, address, len);
        Ok(())
    }) as c_int
}

/// Reads an address from its text, as the section's head has it. A host's name is none. Returns its
/// length, for weald_bind and weald_connect. From any thread; does not switch. Fails with
/// WEALD_EINVAL (no address; a parameter NULL).
#[unsafe(no_mangle)]
pub extern "C" fn weald_address_parse(address: *const c_char, out: *mut sockaddr_storage) -> c_int {
    fence_any(|| {
        wanted(out)?;
        // SAFETY: NULL or NUL-terminated, by the caller.
        let parsed = Address::parse(unsafe { text(address) }?.ok_or(Error::INVAL)?)?;
        // SAFETY: not NULL; room for every address, by the caller.
        unsafe { std::ptr::copy_nonoverlapping(parsed.as_ptr().cast::<sockaddr_storage>(), out, 1) };
        Ok(parsed.len())
    }) as c_int
}

/// Writes an address as text to `buf`, cut to `size` bytes with its NUL, and returns how long it is.
/// With 112 bytes none is cut. From any thread; does not switch. Fails with WEALD_EINVAL (`address`
/// NULL, too short or too long; `buf` NULL and `size` not 0).
#[unsafe(no_mangle)]
pub extern "C" fn weald_address_text(address: *const sockaddr, len: socklen_t, buf: *mut c_char, size: usize) -> c_int {
    fence_any(|| {
        let address = given(address, len)?.to_string();
        // SAFETY: the caller's buffer of `size` bytes.
        let buf = unsafe { slice_mut(buf.cast::<u8>(), size) }?;
        if let Some(room) = buf.len().checked_sub(1) {
            let n = room.min(address.len());
            buf[..n].copy_from_slice(&address.as_bytes()[..n]);
            buf[n] = 0;
        }
        Ok(address.len())
    }) as c_int
}
