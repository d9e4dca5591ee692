//! Wakes a poll at a given time, without a time-out on the poll.
//!
//! A time-out costs the kernel a timer that is set and taken back with every sleep; one
//! that is soon reprograms the clock besides, which in a virtual machine is a microsecond.
//! Chores that may be late are due again and again while a program talks, so they have a
//! timer that stays set over many sleeps.

use crate::error::Result;
use crate::sys;
use std::cell::Cell;
use std::os::fd::RawFd;

pub struct Alarm {
    fd: RawFd,
    /// When it rings, or has rung.
    at: Cell<i64>,
}

impl Alarm {
    /// EMFILE, ENOMEM; ENOSYS in a sandbox.
    pub fn new() -> Result<Alarm> {
        Ok(Alarm { fd: sys::timerfd_create()?, at: Cell::new(0) })
    }

    /// Readable once it has rung; nobody reads it, so it is to be watched for edges.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Sees to it that it rings at `at` at the latest, after `now`.
    pub fn ring_by(&self, now: i64, at: i64) -> Result<()> {
        if now < self.at.get() && self.at.get() <= at {
            return Ok(());
        }
        self.at.set(0);
        sys::timerfd_set(self.fd, at)?;
        self.at.set(at);
        Ok(())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        sys::close(self.fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_at_the_earliest_time_it_was_set_to() {
        let alarm = Alarm::new().unwrap();
        let rings = |ms: i32| {
            let mut fds = [libc::pollfd { fd: alarm.fd(), events: libc::POLLIN, revents: 0 }];
            // SAFETY: one entry, which lives through the call.
            unsafe { libc::poll(fds.as_mut_ptr(), 1, ms) == 1 }
        };
        let now = sys::monotonic_ns();
        alarm.ring_by(now, now + 3_600_000_000_000).unwrap();
        assert!(!rings(0));
        alarm.ring_by(now, now + 1_000_000).unwrap();
        alarm.ring_by(now, now + 3_600_000_000_000).unwrap(); // it rings before that
        assert!(rings(10_000));
        alarm.ring_by(sys::monotonic_ns(), now + 3_600_000_000_000).unwrap();
        assert!(!rings(0));
    }
}
