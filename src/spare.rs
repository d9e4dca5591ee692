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

    pub fn pop(&self) -> Option<Record> {
        Some(self.last()?.take())
    }

    /// The next record, for who may leave it there.
    #[inline(always)]
    pub fn last(&self) -> Option<Last<'_>> {
        Some(Last { spares: self, place: self.count.get().checked_sub(1)? })
    }
}

/// The record in the last place.
pub struct Last<'s> {
    spares: &'s Spares,
    place: usize,
}

impl Last<'_> {
    #[inline(always)]
    pub fn take(self) -> Record {
        debug_assert!(self.spares.count.get() == self.place + 1);
        self.spares.count.set(self.place);
        // SAFETY: `push` put one there, and nobody has taken it since.
        unsafe { Record::from_raw(self.spares.places.get_unchecked(self.place).get()) }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
