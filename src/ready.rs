//! A ring of pointers, first in, first out: the ready queue (and a queue's items).
//!
//! An array and not an intrusive list, for one reason: the ring shows who comes
//! next, and after that, so their records and stacks can be fetched into the cache
//! ahead of time. With 100,000 greenlets every resume is otherwise a chain of cache
//! and TLB misses.
//!
//! A greenlet is in the ring at most once. Room for every living greenlet is
//! reserved when it is created, so that waking somebody can not fail.

use crate::error::{Error, Result};
use std::cell::{Cell, UnsafeCell};

pub struct Ring<T> {
    slots: UnsafeCell<Vec<*const T>>,
    /// The number of slots, a power of two, less one.
    mask: Cell<usize>,
    /// Counts up for ever; the slot is the count modulo the length.
    head: Cell<usize>,
    tail: Cell<usize>,
    reserved: Cell<usize>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Ring {
            slots: UnsafeCell::new(vec![std::ptr::null(); 64]),
            mask: Cell::new(63),
            head: Cell::new(0),
            tail: Cell::new(0),
            reserved: Cell::new(0),
        }
    }
}

impl<T> Ring<T> {
    #[inline(always)]
    fn mask(&self) -> usize {
        self.mask.get()
    }

    #[inline(always)]
    fn slot(&self, at: usize) -> *mut *const T {
        // SAFETY: no `&mut` to the vector is alive, and the mask keeps us inside.
        unsafe { (*self.slots.get()).as_mut_ptr().add(at & self.mask()) }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.head.get() == self.tail.get()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    /// Makes sure that one more greenlet than before fits.
    #[inline]
    pub fn reserve_one(&self) -> Result<()> {
        if self.reserved.get() + 1 > self.mask() {
            self.grow()?;
        }
        self.reserved.set(self.reserved.get() + 1);
        Ok(())
    }

    /// As `reserve_one`, without growing; whether there was room.
    #[inline(always)]
    pub fn reserve_at_hand(&self) -> bool {
        let reserved = self.reserved.get();
        let fits = reserved < self.mask();
        if fits {
            self.reserved.set(reserved + 1);
        }
        fits
    }

    /// Whether one more fits now, for users that reserve nothing.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        self.len() < self.mask()
    }

    /// Makes room for `n` in all.
    pub fn make_room_for(&self, n: usize) -> Result<()> {
        while self.mask() < n {
            self.grow()?;
        }
        Ok(())
    }

    pub fn unreserve_one(&self) {
        self.reserved.set(self.reserved.get() - 1);
    }

    #[cold]
    fn grow(&self) -> Result<()> {
        let len = (self.mask() + 1) * 2;
        let mut new: Vec<*const T> = Vec::new();
        new.try_reserve_exact(len).map_err(|_| Error::NOMEM)?;
        new.resize(len, std::ptr::null());
        let count = self.len();
        for (i, place) in new.iter_mut().enumerate().take(count) {
            // SAFETY: inside the old ring.
            *place = unsafe { *self.slot(self.head.get().wrapping_add(i)) };
        }
        // SAFETY: no reference into the old vector is alive.
        unsafe { *self.slots.get() = new };
        self.mask.set(len - 1);
        self.head.set(0);
        self.tail.set(count);
        Ok(())
    }

    #[inline(always)]
    pub fn push(&self, item: *const T) {
        debug_assert!(self.len() <= self.mask());
        // SAFETY: room is reserved for everybody who can be in the ring.
        unsafe { *self.slot(self.tail.get()) = item };
        self.tail.set(self.tail.get().wrapping_add(1));
    }

    #[inline(always)]
    pub fn pop(&self) -> Option<*const T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: head < tail, so this slot was pushed.
        let item = unsafe { *self.slot(self.head.get()) };
        self.head.set(self.head.get().wrapping_add(1));
        Some(item)
    }

    /// Takes the first, if there is one and it `may_go`, and puts `item` at the end.
    #[inline(always)]
    pub fn exchange(&self, item: *const T, may_go: impl FnOnce(*const T) -> bool) -> Option<*const T> {
        let (head, tail) = (self.head.get(), self.tail.get());
        if head == tail {
            return None;
        }
        // SAFETY: the first was pushed; where the last goes there is room once it is taken.
        unsafe {
            let last = self.slot(tail);
            let first = *self.slot(head);
            if !may_go(first) {
                return None;
            }
            *last = item;
            self.head.set(head.wrapping_add(1));
            self.tail.set(tail.wrapping_add(1));
            Some(first)
        }
    }

    /// The item `n` places behind the head, if there is one.
    #[inline(always)]
    pub fn peek(&self, n: usize) -> Option<*const T> {
        // SAFETY: below the length, so this slot was pushed.
        (n < self.len()).then(|| unsafe { *self.slot(self.head.get().wrapping_add(n)) })
    }

    /// Keeps only those items that `keep` wants, in order.
    pub fn retain(&self, mut keep: impl FnMut(*const T) -> bool) {
        for _ in 0..self.len() {
            if let Some(item) = self.pop()
                && keep(item)
            {
                self.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_growth_and_wrapping() {
        let ring: Ring<u8> = Ring::default();
        let item = |i: usize| i as *const u8;
        let (mut next, mut expected) = (1, 1);
        for round in 0..50 {
            for _ in 0..round {
                ring.reserve_one().unwrap();
                ring.push(item(next));
                next += 1;
            }
            for _ in 0..round / 2 {
                assert_eq!(ring.pop(), Some(item(expected)));
                expected += 1;
            }
        }
        assert_eq!(ring.peek(0), Some(item(expected)));
        while let Some(i) = ring.pop() {
            assert_eq!(i, item(expected));
            expected += 1;
        }
        assert_eq!((expected, ring.len()), (next, 0));
    }
}
