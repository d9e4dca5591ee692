//! Messages between processes.
//!
//! A channel carries messages, each whole and in order, between this process and one that it has
//! forked, or any other at the end of a pipe; each side goes on with its other greenlets meanwhile.
//! One greenlet may send and one receive at a time. On the wire a message is its length, four bytes
//! with the lowest first, and its bytes.
//!
//! A call that is cut short leaves the channel in step. What has come of a message is kept for the
//! next weald_channel_receive. A message of which nothing has gone was not sent; the rest of one
//! that has begun to go is kept, and goes first with the next weald_channel_send or
//! weald_channel_flush; weald_channel_unsent tells which.

#![allow(non_camel_case_types)]

use super::process::weald_process;
use super::{fence, fence64, put, slice, some, wanted};
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object;
use crate::sys::file::is_open;
use crate::time::Deadline;
use std::ffi::{c_int, c_void};

/// A handle to one end of a channel.
pub type weald_channel = i64;

/// What a forked child does; its exit status. See weald_process_fork.
pub type weald_child_fn = Option<extern "C-unwind" fn(weald_channel, *mut c_void) -> c_int>;

fn get(hub: &Hub, channel: weald_channel) -> Result<&Channel> {
    object::get(hub, channel)
}

/// Makes the two ends of a channel, for this process and a child that fork(2) will make, or for two
/// greenlets: each side closes the end that is not its own. `limit` is the length of the longest
/// message, either way; 0: 16 MiB. A program that is started instead does not inherit them. Does not
/// switch. Returns 0. Fails with WEALD_EINVAL (`ends` NULL; a limit of 4 GiB or more), WEALD_EMFILE,
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_pair(ends: *mut weald_channel, limit: usize) -> c_int {
    fence(|hub| {
        wanted(ends)?;
        let pair = Channel::pair(hub, limit)?;
        // SAFETY: room for two, by the caller.
        unsafe { ends.cast::<[weald_channel; 2]>().write(pair) };
        Ok(())
    })
}

/// Makes a channel of descriptors: to read from and to write to, two pipes or one socket that
/// stands in both places. They are the channel's from now on, and closed with it. `limit` as above.
/// Does not switch. Fails with WEALD_EBADF, WEALD_EINVAL (a regular file; a limit of 4 GiB or
/// more), WEALD_ENOMEM; then the descriptors are the caller's still.
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_open(read_fd: c_int, write_fd: c_int, limit: usize) -> weald_channel {
    fence64(|hub| {
        if !is_open(read_fd) || !is_open(write_fd) {
            return Err(Error::BADF);
        }
        Channel::open(hub, read_fd, write_fd, limit)
    })
}

/// Sends a message of `len` bytes, which may be none. What the other side has no room for waits
/// until it receives. When the call fails see weald_channel_unsent. May switch. Returns 0. Fails
/// with WEALD_EBADF (also when it is closed meanwhile), WEALD_EINVAL (`data` NULL), WEALD_EMSGSIZE
/// (longer than the limit), WEALD_EPIPE (the other end has been closed, or this one shut),
/// WEALD_EBUSY (another greenlet sends), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_send(channel: weald_channel, data: *const c_void, len: usize, deadline: i64) -> c_int {
    fence(|hub| {
        let channel = get(hub, channel)?;
        // SAFETY: the caller's data, copied before anything waits.
        let message = unsafe { slice(data.cast::<u8>(), len) }?;
        channel.send(hub, message, Deadline::from_raw(deadline))
    })
}

/// Sends what is left of a message whose weald_channel_send was cut short. May switch. Returns 0.
/// Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPIPE (the other end has been
/// closed, or this one shut), WEALD_EBUSY (another greenlet sends), WEALD_EPERM, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_flush(channel: weald_channel, deadline: i64) -> c_int {
    fence(|hub| get(hub, channel)?.flush(hub, Deadline::from_raw(deadline)))
}

/// How many bytes are left of a message that has begun to go, 0 when there is none: after a
/// weald_channel_send that failed, 0 says that its message was not sent and may be sent again. Does
/// not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_unsent(channel: weald_channel) -> i64 {
    fence64(|hub| get(hub, channel).map(Channel::unsent))
}

/// Receives the next message: `*data` is its memory, which is the caller's, for weald_free, with a
/// NUL behind its `*len` bytes. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
/// meanwhile), WEALD_EINVAL (`data` or `len` NULL), WEALD_EPIPE (the other end has been closed or
/// shut, and all that it has sent has been received), WEALD_EPROTO (it was closed in the middle of a
/// message), WEALD_EMSGSIZE (longer than the limit: it is dropped, and the next call goes on behind
/// it), WEALD_EBUSY (another greenlet receives), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_receive(
    channel: weald_channel,
    data: *mut *mut c_void,
    len: *mut usize,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        let channel = get(hub, channel)?;
        wanted(data)?;
        wanted(len)?;
        let message = channel.receive(hub, Deadline::from_raw(deadline))?;
        // SAFETY: writable, by the caller.
        unsafe {
            put(len, message.len());
            put(data, message.give());
        }
        Ok(())
    })
}

/// Ends this side's sending: the other one receives what has been sent and then WEALD_EPIPE. What
/// has not gone yet, see weald_channel_unsent, never will. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EPIPE (shut already), or a code with which shutdown(2) failed.
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_shut(channel: weald_channel) -> c_int {
    fence(|hub| get(hub, channel)?.shut())
}

/// The descriptor that a channel reads from (`which` WEALD_READ) or writes to (WEALD_WRITE), for
/// weald_poll and weald_wait; it remains the channel's. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM, WEALD_EINVAL (another number), WEALD_EPIPE (shut).
#[unsafe(no_mangle)]
pub extern "C" fn weald_channel_fd(channel: weald_channel, which: c_int) -> c_int {
    fence(|hub| get(hub, channel)?.fd(which as u32))
}

/// Forks a child that calls `f` with its end of a new channel and `arg`, in a copy of this process
/// as fork(2) makes it, with this greenlet and its hub, and ends with what `f` returns as its exit
/// status: what stdio holds is written, exit handlers do not run. `*channel` is the other end, for
/// this side; close it. The child has none of this thread's other channels nor the pipes of its
/// processes, so that closing them here is seen there. The process is waited for like any other; to
/// join it, weald_process_wait. Does not switch. Fails with WEALD_EINVAL (`f` or `channel` NULL; a
/// limit of 4 GiB or more), WEALD_EPERM (a hook forbids to wait now), WEALD_EWOULDBLOCK (in a
/// callback, whose stack is no place to go on), WEALD_ECANCELED, WEALD_ETIMEDOUT (a surrounding
/// weald_timeout has passed), WEALD_EAGAIN (no more processes), WEALD_EMFILE, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_fork(
    f: weald_child_fn,
    arg: *mut c_void,
    channel: *mut weald_channel,
    limit: usize,
) -> weald_process {
    fence64(|hub| {
        let f = some(f)?;
        wanted(channel)?;
        let (process, ours) = Channel::fork(hub, limit, |theirs| f(theirs, arg))?;
        // SAFETY: writable, by the caller.
        unsafe { put(channel, ours) };
        Ok(process)
    })
}
