//! The sweep: once a second all waits are looked through, in small steps,
//! while the hub is active. That finds descriptors which were closed while somebody waits.

use super::Poller;
use super::trust::Trust;
use std::cell::Cell;
use std::os::fd::RawFd;

/// So many descriptors are swept in one turn.
const SWEEP_STEP: usize = 128;
pub(super) const SWEEP_EVERY_NS: i64 = 1_000_000_000;

#[derive(Default)]
pub(super) struct Sweep {
    at: Cell<i64>,
    /// Where it goes on.
    from: Cell<usize>,
    /// The hub has been active since the last one began.
    is_wanted: Cell<bool>,
}

impl Sweep {
    /// Something has run that may have closed a descriptor.
    #[inline(always)]
    pub(super) fn note_activity(&self) {
        self.is_wanted.set(true);
    }
}

impl Poller {
    /// Greenlets have run: one of them may have closed something.
    #[inline]
    pub fn note_activity(&self) {
        self.sweep.note_activity();
    }

    /// When the next sweep is wanted: only while something is waited for and the
    /// hub has been active since the last one. An idle hub is not woken.
    pub fn sweep_due(&self) -> Option<i64> {
        (self.linked.get() > 0 && (self.sweep.is_wanted.get() || self.sweep.from.get() > 0))
            .then(|| self.sweep.at.get())
    }

    /// Looks at some of the descriptors that are waited for, whether they still are
    /// what they were when the wait began.
    pub fn sweep(&self, now: i64) {
        if self.sweep.at.get() == 0 {
            self.sweep.at.set(now + SWEEP_EVERY_NS);
            return;
        }
        if now < self.sweep.at.get() {
            return;
        }
        let from = self.sweep.from.get();
        if from == 0 {
            self.sweep.is_wanted.set(false);
        }
        let waited = |i: &usize| {
            let slot = &self.slots()[*i];
            let is_young = slot.trust == Trust::Patient && slot.since() > now - self.unverified.patience(slot.trust);
            !slot.first.is_null() && !is_young
        };
        let some: Vec<usize> = (from..self.slots().len()).filter(waited).take(SWEEP_STEP).collect();
        for &i in &some {
            self.look_again(i as RawFd);
        }
        match some.last() {
            Some(&last) if some.len() == SWEEP_STEP => self.sweep.from.set(last + 1),
            _ => {
                self.sweep.from.set(0);
                self.sweep.at.set(now + SWEEP_EVERY_NS);
            }
        }
    }
}
