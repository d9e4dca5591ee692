//! What the calls that read and write leave word of: that a descriptor is empty, so that the next
//! read need not try first, and whether it is a socket. All that is a hint: a wrong one costs a
//! system call.

use super::slot::{DRAINED, HAS_EDGES, MAY_EDGES, NO_EDGES, Nature, REGISTERED, WARY};
use super::{Poller, READ};
use crate::error::Result;
use std::os::fd::RawFd;

/// What a call is to do first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    Try,
    Wait,
}

impl Poller {
    /// What a call does first that wants to read or write `fd`.
    #[inline(always)]
    pub fn advice(&self, fd: RawFd, wanted: u32) -> Advice {
        let Some(slot) = self.slot(fd) else { return Advice::Try };
        let is_empty = wanted == READ && slot.is(DRAINED) && slot.is(REGISTERED);
        // Who comes while another waits is told so when it waits as well.
        let is_taken = !slot.first.is_null() && slot.nodes().any(|n| n.exclusive.get() && n.wanted.get() & wanted != 0);
        if is_empty || is_taken { Advice::Wait } else { Advice::Try }
    }

    /// `fd` was read; whether that was all there was.
    #[inline(always)]
    pub fn has_read(&self, fd: RawFd, all: bool) {
        if let Some(slot) = self.slot(fd) {
            slot.set(DRAINED, all && !(slot.is(HAS_EDGES) && slot.is(WARY)));
        }
    }

    /// `fd` is a TCP connection that this program has just made or taken.
    pub fn is_connection(&self, fd: RawFd) {
        if let Ok(slot) = self.slot_for(fd) {
            slot.set(MAY_EDGES, true);
            // Who waited for it to be made does not wait any more.
            if slot.first.is_null() {
                slot.clear(NO_EDGES);
            }
        }
    }

    #[inline(always)]
    pub fn nature(&self, fd: RawFd) -> Nature {
        self.slot(fd).map_or(Nature::Unknown, |s| s.nature)
    }

    /// EBADF, ENOMEM.
    pub fn set_nature(&self, fd: RawFd, nature: Nature) -> Result<()> {
        self.slot_for(fd)?.nature = nature;
        Ok(())
    }
}
