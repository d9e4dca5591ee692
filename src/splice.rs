//! Moving bytes between two descriptors in the kernel: sendfile(2), splice(2).
//!
//! Neither can be told for every kind of descriptor not to wait. A socket that is blocking is
//! made non-blocking for as long as the system call takes; a file's bytes are brought into
//! memory by a thread first.

use crate::disk;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::io::look;
use crate::poller::{READ, WRITE};
use crate::sys::descriptor as sys;
use crate::time::{Deadline, after};
use std::os::fd::RawFd;

/// So much of a file is brought into memory at a time.
const CHUNK: usize = 256 << 10;
/// When neither end is what a splice waits for.
const PAUSE_NS: i64 = 1_000_000;

/// Calls `call` while `fd` is non-blocking.
fn without_waiting(fd: RawFd, call: impl FnOnce() -> Result<usize>) -> Result<usize> {
    if sys::is_nonblocking(fd)? || sys::is_file(fd) {
        return call();
    }
    sys::set_nonblocking(fd, true)?;
    let done = call();
    let _ = sys::set_nonblocking(fd, false);
    done
}

/// Moves up to `len` bytes of `file`, from `at` or its own position on, to `out`; fewer at
/// its end. What was moved is counted in `at`, or the file's position, also on failure. `check` says
/// before each try whether `out` is still what it was: its number may be another's after a wait.
pub fn sendfile(
    hub: &Hub,
    out: RawFd,
    file: RawFd,
    mut at: Option<&mut i64>,
    len: usize,
    deadline: Deadline,
    check: impl Fn() -> Result<()>,
) -> Result<usize> {
    let mut done = 0;
    while done < len {
        let chunk = CHUNK.min(len - done);
        if !deadline.is_now() {
            disk::bring_in(hub, file, at.as_deref().copied(), chunk, deadline)?;
        }
        check()?;
        let moved = hub.until_done(out, WRITE, deadline, |_| {
            check()?;
            without_waiting(out, || sys::sendfile(out, file, at.as_deref_mut(), chunk))
        });
        match moved {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Error::INVAL | Error::NOSYS) if done == 0 => {
                return splice(hub, (file, at), (out, None), len, deadline); // one of them is a pipe
            }
            Err(Error::AGAIN) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// A descriptor and, if it is a file, perhaps a place in it that goes on.
type End<'a> = (RawFd, Option<&'a mut i64>);

/// Moves at least a byte; 0 at the end. One of the two is a pipe: EINVAL.
pub fn splice(hub: &Hub, from: End, to: End, len: usize, deadline: Deadline) -> Result<usize> {
    let ((from, mut from_at), (to, mut to_at)) = (from, to);
    let mut attempt = || {
        without_waiting(from, || {
            without_waiting(to, || sys::splice(from, from_at.as_deref_mut(), to, to_at.as_deref_mut(), len))
        })
    };
    if deadline.is_now() {
        return attempt();
    }
    hub.check()?;
    loop {
        match attempt() {
            Err(Error::AGAIN) => {}
            done => return done,
        }
        let waited = match (look(from, READ), look(to, WRITE)) {
            (Err(Error::AGAIN), _) => hub.wait_to_try(from, READ, deadline).map(drop),
            (_, Err(Error::AGAIN)) => hub.wait_to_try(to, WRITE, deadline).map(drop),
            _ if deadline.has_passed() => Err(Error::TIMEDOUT),
            _ => hub.sleep_until(deadline.min(Deadline::from_raw(after(PAUSE_NS)))),
        };
        match waited {
            Err(Error::TIMEDOUT) => {
                let done = attempt().map_err(|e| if e == Error::AGAIN { Error::TIMEDOUT } else { e });
                if done.is_ok() {
                    hub.unfire_scopes(hub.current());
                }
                return done;
            }
            waited => waited?,
        }
    }
}
