//! The epoll that descriptors are registered with, and the one around it.

use crate::alarm::Alarm;
use crate::error::Result;
use crate::sys;
use mio::{Poll, Token, Waker};
use std::cell::Cell;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// What the events of what is no descriptor of ours carry: numbers that no descriptor has.
const WAKER: Token = Token(usize::MAX);
pub(super) const ALARM: u64 = u64::MAX - 1;

/// No descriptor.
pub(super) const NONE: RawFd = -1;

/// What mio makes for us.
pub(super) struct Epoll {
    pub(super) poll: Poll,
    pub(super) waker: Arc<Waker>,
    /// Without one there are time-outs.
    pub(super) alarm: Option<Alarm>,
}

impl Epoll {
    pub(super) fn new() -> Result<Epoll> {
        sys::may_fail(sys::Call::Poller)?;
        let poll = Poll::new()?;
        sys::may_fail(sys::Call::Poller)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let alarm = Alarm::new().ok().filter(|alarm| {
            let events = libc::EPOLLIN | libc::EPOLLET;
            sys::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, alarm.fd(), events as u32, ALARM).is_ok()
        });
        Ok(Epoll { poll, waker, alarm })
    }
}

/// The descriptor that a foreign loop polls: an epoll of its own, around ours, because
/// ours may be made anew and would drop out of whatever watches it.
pub(super) struct Outer(pub(super) Cell<RawFd>);

impl Outer {
    pub(super) fn get(&self) -> Option<RawFd> {
        Some(self.0.get()).filter(|&fd| fd != NONE)
    }

    pub(super) fn watch(&self, epoll: RawFd) -> Result<()> {
        self.get().map_or(Ok(()), |fd| sys::epoll_ctl(fd, libc::EPOLL_CTL_ADD, epoll, libc::EPOLLIN as u32, 0))
    }

    pub(super) fn unwatch(&self, epoll: RawFd) {
        if let Some(fd) = self.get() {
            let _ = sys::epoll_ctl(fd, libc::EPOLL_CTL_DEL, epoll, 0, 0);
        }
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        if let Some(fd) = self.get() {
            sys::close(fd);
        }
    }
}
