//! Numbers that are given out and closed by calls of ours.

use super::slot::{REGISTERED, SUSPECT};
use super::{GONE, Poller};
use std::os::fd::RawFd;

impl Poller {
    /// Changes when the number is closed or given out by a call of ours. A greenlet that
    /// was woken for `fd` sees by it whether that is still what it waited for.
    #[inline(always)]
    pub fn life(&self, fd: RawFd) -> u32 {
        self.slot(fd).map_or(0, |s| s.life)
    }

    /// The kernel has just given out this number: what is known of it is of another file.
    pub fn is_new(&self, fd: RawFd) {
        let Some(slot) = self.slot(fd) else { return };
        slot.life = slot.life.wrapping_add(1);
        slot.nodes().for_each(|node| self.tell(node, GONE));
        self.is_unarmed(fd);
    }

    /// The owner of `fd` is about to close it: everybody who waits for it fails with
    /// EBADF, watchers too; how many.
    pub fn closes(&self, fd: RawFd) -> usize {
        let Some(slot) = self.slot(fd) else { return 0 };
        slot.life = slot.life.wrapping_add(1);
        let told = slot.nodes().map(|node| self.tell(node, GONE)).count();
        self.forget(fd);
        told
    }

    /// The greenlets that wait for `directions` of `fd` fail with EBADF, although it stays open.
    pub fn end_waits(&self, fd: RawFd, directions: u32) {
        let Some(slot) = self.slot(fd) else { return };
        let those = slot.nodes().filter(|n| n.exclusive.get() && n.wanted.get() & directions != 0);
        those.for_each(|node| self.tell(node, GONE));
    }

    /// Before its owner closes `fd`, which nobody waits for any more: takes back the
    /// registration, which would live on with a copy of `fd` in a forked child.
    pub fn forget(&self, fd: RawFd) {
        let Some(slot) = self.slot(fd) else { return };
        let was_registered = slot.is(REGISTERED);
        slot.is_unknown();
        slot.clear(SUSPECT);
        if was_registered {
            let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0);
        }
    }
}
