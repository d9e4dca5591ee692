//! Why a wait may rely on a registration that may be gone, how long it may, and who does.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// Why a wait may rely on a registration, which says how long it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Trust {
    /// It must not be woken for nothing.
    Strict,
    /// The same, but an event has proved the registration a moment ago.
    Fresh,
    /// It tries for itself.
    Patient,
}

pub(super) const TRUSTS: [Trust; 3] = [Trust::Strict, Trust::Fresh, Trust::Patient];

/// So long an event may take that proves a registration for nothing. In a dialogue it
/// comes sooner, and each wait is spared the two system calls of a verification, and the
/// clock an interrupt; a hundred connections that are served in turn wait for many
/// milliseconds each.
const TRUST_NS: [i64; 3] = [1_000_000, 10_000_000, 100_000_000];
/// The same in a program that has closed a descriptor behind our back.
const MISTRUST_NS: [i64; 3] = [1_000_000, 1_000_000, 20_000_000];

/// A registration that has been proved within this time is fresh.
pub(super) const FRESH_NS: i64 = 500_000;

/// Whose turn to be verified comes, and when.
pub(super) struct Unverified {
    queues: [UnsafeCell<VecDeque<RawFd>>; 3],
    /// When some may be verified again.
    pub(super) verify_at: Cell<i64>,
    /// `TRUST_NS`, or `MISTRUST_NS`.
    patience: Cell<[i64; 3]>,
}

impl Unverified {
    pub(super) fn new() -> Unverified {
        Unverified { queues: Default::default(), verify_at: Cell::new(0), patience: Cell::new(TRUST_NS) }
    }

    /// Each once; some have been verified since, by an event.
    #[allow(clippy::mut_from_ref)]
    pub(super) fn queue(&self, trust: Trust) -> &mut VecDeque<RawFd> {
        // SAFETY: one thread; no reference is held while a method of the poller is called.
        unsafe { &mut *self.queues[trust as usize].get() }
    }

    #[inline(always)]
    pub(super) fn push(&self, trust: Trust, fd: RawFd) {
        self.queue(trust).push_back(fd);
    }

    /// How long a wait that trusts so may wait to be verified.
    pub(super) fn patience(&self, trust: Trust) -> i64 {
        self.patience.get()[trust as usize]
    }

    /// A registration has turned out to be gone.
    pub(super) fn mistrust(&self) {
        self.patience.set(MISTRUST_NS);
    }
}
