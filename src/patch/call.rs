//! A patched call: whether it is a greenlet's, how it waits, what it returns.
//!
//! ```text
//! admit     a greenlet runs on this thread, not the loop?          no: the C library's
//! begin     killed, interrupted, a scope's time is up?             -1 and errno
//!           the attempt                                            done
//! may_wait  no signal handler, no constructor, no veto?            no: the C library's
//! wait      park, and try again
//! ```
//! What comes before `may_wait` only looks: it may be made in a signal handler that has
//! interrupted the hub at anything.

use super::count::{self, Count};
use super::{handler, loading};
use crate::error::{Error, Result};
use crate::greenlet::State;
use crate::hub::Hub;
use crate::poller::{Added, READ, WRITE};
use crate::sys;
use crate::sys::descriptor;
use crate::time::Deadline;
use libc::{c_int, pollfd};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

/// Counts a call; whether it may be a greenlet's.
pub extern "C" fn admit(symbol: usize, caller: usize) -> bool {
    let count = count::of(caller, symbol);
    count.calls.fetch_add(1, Relaxed);
    let Some(hub) = Hub::existing() else { return false };
    // A loop that is asleep, on main's stack or on its own: this is a signal handler. With a
    // foreign loop main is that loop.
    let is_loop = hub.is_main(hub.current()) && (hub.in_loop.get() || hub.is_embedded());
    if hub.in_callback() || is_loop || hub.current().state.get() != State::Running {
        return false;
    }
    hub.hooked.set(std::ptr::from_ref(count).cast());
    true
}

pub struct Call {
    pub hub: &'static Hub,
    count: &'static Count,
    /// What it was before: success leaves it alone.
    errno: c_int,
}

impl Call {
    /// The call that has just been admitted. None for a caller of ours who was not.
    pub fn admitted() -> Option<Call> {
        let hub = Hub::existing()?;
        // SAFETY: set by `admit`; counts stay for ever.
        let count = unsafe { hub.hooked.get().cast::<Count>().as_ref() }?;
        // SAFETY: this thread's errno.
        Some(Call { hub, count, errno: unsafe { *sys::errno_location() } })
    }

    /// Nothing speaks against parking here and now.
    pub fn may_wait(&self) -> bool {
        !handler::is_running(self.hub) && !loading::is_under_way(self.hub) && self.hub.may_park().is_ok()
    }

    /// What `check` says, for a call that would wait; nothing for one that would not.
    pub fn begin(&self, would_wait: impl FnOnce() -> bool) -> Result<()> {
        let attention = self.hub.current().attention.get();
        if attention == 0 || !would_wait() || !self.may_wait() { Ok(()) } else { self.hub.check() }
    }

    /// Whoever never has to wait lets others run now and then. EBADF.
    pub fn take_turn(&self, fd: RawFd) -> Result<()> {
        match self.hub.turn.get() {
            0 if self.may_wait() => self.hub.let_others_run(fd),
            0 => Ok(()),
            left => {
                self.hub.turn.set(left - 1);
                Ok(())
            }
        }
    }

    pub fn parks(&self) {
        self.count.parked.fetch_add(1, Relaxed);
    }

    /// Waits for `wanted` on `fd`. False when it can not be waited for: it never blocks.
    pub fn wait(&self, fd: RawFd, wanted: u32, deadline: Deadline) -> Result<bool> {
        self.parks();
        match self.hub.wait_to_try(fd, wanted, deadline) {
            Ok(added) => Ok(added == Added::Waiting),
            // Another greenlet waits for the same: the C library lets any number of them.
            Err(Error::BUSY) => {
                let events = if wanted & READ != 0 { libc::POLLIN } else { 0 }
                    | if wanted & WRITE != 0 { libc::POLLOUT } else { 0 };
                self.hub.park_on(&[pollfd { fd, events, revents: 0 }], deadline).map(|()| true)
            }
            Err(e) => Err(e),
        }
    }

    /// As the C library returns it.
    pub fn finish(&self, result: Result<usize>) -> isize {
        match result {
            Ok(n) => {
                set_errno(self.errno);
                n as isize
            }
            Err(e) => {
                set_errno(errno_of(e));
                -1
            }
        }
    }

    /// The same, for those who return an int.
    pub fn finish_int(&self, result: Result<usize>) -> c_int {
        self.finish(result) as c_int
    }
}

pub fn set_errno(errno: c_int) {
    // SAFETY: this thread's errno.
    unsafe { *sys::errno_location() = errno };
}

/// What no system knows becomes what a system would say.
pub fn errno_of(e: Error) -> c_int {
    match e {
        Error::WOULDBLOCK => libc::EAGAIN,
        e if (1..=4095).contains(&-e.code()) && -e.code() < 2000 => -e.code(),
        e if e.is_interrupt() => libc::EINTR,
        _ => libc::EIO,
    }
}

/// When a wait for `wanted` ends by the socket's own option (SO_RCVTIMEO, SO_SNDTIMEO).
pub fn time_limit(fd: RawFd, wanted: u32) -> Deadline {
    let name = if wanted == READ { libc::SO_RCVTIMEO } else { libc::SO_SNDTIMEO };
    match descriptor::get_option::<[i64; 2]>(fd, libc::SOL_SOCKET, name) {
        Ok([seconds, us]) if seconds > 0 || us > 0 => {
            Deadline::after(seconds.saturating_mul(1_000_000_000).saturating_add(us.saturating_mul(1000)))
        }
        _ => Deadline::NEVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_becomes_an_errno() {
        assert_eq!(errno_of(Error::CANCELED), libc::ECANCELED);
        assert_eq!(errno_of(Error::TIMEDOUT), libc::ETIMEDOUT);
        assert_eq!(errno_of(Error::WOULDBLOCK), libc::EAGAIN);
        assert_eq!(errno_of(Error::PANIC), libc::EIO);
        assert_eq!(errno_of(Error::from_code(-100_000)), libc::EINTR);
    }
}
