//! Records of greenlets kept for the next ones: as many as fit, the last one first.

use crate::greenlet::{Greenlet, Record};
use std::cell::Cell;

const MOST: usize = 1024;

pub struct Spares {
    places: Box<[Cell<*const Greenlet>; MOST]>,
    /// The places below are taken.
    count: Cell<usize>,
}

impl Default for Spares {
    fn default() -> Spares {
        Spares { places: Box::new([const { Cell::new(std::ptr::null()) }; MOST]), count: Cell::new(0) }
    }
}

impl Spares {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.count.get() >= MOST
    }

    /// There is room for it.
    #[inline(always)]
    pub fn push(&self, record: Record) {
        let count = self.count.get();
        debug_assert!(count < MOST);
        // The mask instead of a branch that is never taken, with a record to drop behind it.
        self.places[count & (MOST - 1)].set(record.into_raw());
        self.count.set(count + 1);
    }

    #[inline(always)]
    pub fn pop(&self) -> Option<Record> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        // SAFETY: `push` put one there, and nobody has taken it since.
        Some(unsafe { Record::from_raw(self.places.get_unchecked(last).get()) })
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
