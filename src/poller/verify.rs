//! Verification of waits that rely on an old registration.
//!
//! A descriptor may be closed and its number reused behind our back; the kernel then drops the
//! registration silently. Such a wait is verified (by a MOD, which fails with ENOENT for a new
//! description) before the poller sleeps for longer than a moment (or than its patience, for
//! those who try for themselves), and a few in each turn if the poller never does.

use super::Poller;
use super::slot::UNVERIFIED;
use super::trust::{TRUSTS, Trust};
use std::os::fd::RawFd;

/// So many waits are verified at a time, and so often, when the poller does not sleep.
const VERIFY_STEP: usize = 8;
const VERIFY_EVERY_NS: i64 = 500_000;

impl Poller {
    /// Whether waits rely on registrations that may be gone.
    #[inline]
    pub fn has_unverified(&self) -> bool {
        self.patience().is_some()
    }

    /// How long they may, if there are any.
    #[inline]
    pub fn patience(&self) -> Option<i64> {
        let shortest = TRUSTS.into_iter().find(|&trust| !self.unverified.queue(trust).is_empty())?;
        Some(self.unverified.patience(shortest))
    }

    /// Verifies such waits, all of them: before a sleep.
    pub fn verify(&self) {
        for trust in TRUSTS {
            self.verify_some(trust, self.unverified.queue(trust).len(), i64::MAX);
        }
    }

    /// Verifies all that have waited for so long: when nothing else has come.
    pub fn verify_all_old(&self, now: i64) {
        for trust in TRUSTS {
            let before = now - self.unverified.patience(trust);
            self.verify_some(trust, self.unverified.queue(trust).len(), before);
        }
    }

    /// Verifies a few of those that have waited for so long, so that none is left for
    /// ever when the poller never sleeps.
    #[inline]
    pub fn verify_old(&self, now: i64) {
        if now >= self.unverified.verify_at.get() {
            self.verify_some_old(now);
        }
    }

    #[cold]
    fn verify_some_old(&self, now: i64) {
        self.unverified.verify_at.set(now + VERIFY_EVERY_NS);
        for trust in TRUSTS {
            let before = now - self.unverified.patience(trust);
            self.verify_some(trust, self.unverified.queue(trust).len().min(VERIFY_STEP), before);
        }
    }

    fn verify_some(&self, trust: Trust, count: usize, before: i64) {
        for _ in 0..count {
            let Some(fd) = self.unverified.queue(trust).pop_front() else { return };
            let slot = &mut self.slots()[fd as usize];
            slot.dequeue(trust);
            if slot.first.is_null() {
                slot.clear(UNVERIFIED);
            } else if slot.is(UNVERIFIED) && slot.since() <= before {
                self.look_again(fd);
            }
            if self.slots()[fd as usize].is(UNVERIFIED) {
                self.will_verify(fd); // too young, or it could not be verified now
            }
        }
    }

    /// Notes that those who wait for `fd` rely on its registration.
    fn will_verify(&self, fd: RawFd) {
        let slot = &mut self.slots()[fd as usize];
        let trust = slot.trust;
        if !slot.enqueue(trust) {
            self.unverified.push(trust, fd);
        }
    }

    /// Whether those who wait for `fd` still may; `rearm` tells those who may not.
    pub(super) fn look_again(&self, fd: RawFd) {
        let slot = &self.slots()[fd as usize];
        if !slot.first.is_null() {
            let _ = self.rearm(fd, slot.wanted());
        }
    }
}
