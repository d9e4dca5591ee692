//! Memory for records of one size, many in a block.
//!
//! ```text
//! block  | place 0 | place 1 | ... | place 35 | how many are used, which are free
//! place  | memory, from a cache line on | its block |
//! ```
//!
//! A record that malloc gives costs what it takes to align it, and malloc's own words: an
//! eighth of it. A block goes back when none of its places is used. Each thread has blocks of
//! its own, and its records never leave it.

use crate::error::{Error, Result};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::{Cell, UnsafeCell};
use std::ptr::{NonNull, null, null_mut};

/// Bytes of a place that are the record's: whole cache lines but for a word. Where corosensei
/// switches it is longer.
pub const SIZE: usize = if cfg!(all(target_arch = "x86_64", not(feature = "sanitizer"))) { 312 } else { 376 };
/// One each where a tool is to see how each record is used.
const PLACES: u32 = if cfg!(feature = "sanitizer") { 1 } else { 36 };

#[repr(C, align(64))]
struct Place {
    memory: UnsafeCell<[u8; SIZE]>,
    block: Cell<*const Block>,
}

const _: () = assert!(size_of::<Place>() == SIZE + size_of::<*const Block>());

#[repr(C)]
struct Block {
    places: [Place; PLACES as usize],
    used: Cell<u32>,
    /// Those from here on have never been used.
    fresh: Cell<u32>,
    /// The first that is free again: each says which is next.
    free: Cell<*mut Place>,
    /// The list of those with room.
    next: Cell<*const Block>,
    prev: Cell<*const Block>,
}

thread_local! {
    /// The blocks that have room.
    static FIRST: Cell<*const Block> = const { Cell::new(null()) };
}

/// Room for a record, at a cache line. ENOMEM.
pub fn take() -> Result<NonNull<u8>> {
    let first = FIRST.get();
    let block = if first.is_null() { Block::new()? } else { first };
    // SAFETY: a block in the list is alive.
    let place = unsafe { &*block }.take();
    // SAFETY: a place of a living block, which nobody uses; its first bytes are the record's.
    unsafe {
        (&raw mut (*place).block).write(Cell::new(block));
        Ok(NonNull::new_unchecked(place.cast()))
    }
}

/// # Safety
/// `take` gave it to this thread, and nobody uses it any more.
pub unsafe fn give(record: NonNull<u8>) {
    let place: *mut Place = record.as_ptr().cast();
    // SAFETY: by contract in a block, which is alive as long as one of its places is used.
    unsafe { Block::give((*place).block.get(), place) };
}

impl Block {
    const LAYOUT: Layout = Layout::new::<Block>();

    /// An empty one, in the list.
    fn new() -> Result<*const Block> {
        // SAFETY: it has a size.
        let block: *mut Block = unsafe { alloc(Block::LAYOUT) }.cast();
        if block.is_null() {
            return Err(Error::NOMEM);
        }
        // SAFETY: memory of its layout. The places are not touched.
        let block = unsafe {
            (&raw mut (*block).used).write(Cell::new(0));
            (&raw mut (*block).fresh).write(Cell::new(0));
            (&raw mut (*block).free).write(Cell::new(null_mut()));
            (&raw mut (*block).next).write(Cell::new(null()));
            (&raw mut (*block).prev).write(Cell::new(null()));
            block.cast_const()
        };
        Block::enlist(block);
        Ok(block)
    }

    /// A place that nobody uses; there is one.
    fn take(&self) -> *mut Place {
        let free = self.free.get();
        let place = if free.is_null() {
            let at = self.fresh.get();
            self.fresh.set(at + 1);
            (&raw const self.places[at as usize]).cast_mut()
        } else {
            // SAFETY: a free place begins with the next one.
            self.free.set(unsafe { *free.cast() });
            free
        };
        self.used.set(self.used.get() + 1);
        if self.used.get() == PLACES {
            self.delist();
        }
        place
    }

    /// # Safety
    /// One of the places of a living block, which nobody uses any more; nor is the block used
    /// after this, unless another of its places is.
    unsafe fn give(block: *const Block, place: *mut Place) {
        // SAFETY: by contract.
        let this = unsafe { &*block };
        if this.used.get() == PLACES {
            Block::enlist(block);
        }
        this.used.set(this.used.get() - 1);
        if this.used.get() > 0 {
            // SAFETY: room for a pointer, and nobody's.
            unsafe { place.cast::<*mut Place>().write(this.free.replace(place)) };
            return;
        }
        this.delist();
        // SAFETY: from `new`, and by contract the last use.
        unsafe { dealloc(block.cast_mut().cast(), Block::LAYOUT) };
    }

    fn enlist(block: *const Block) {
        let next = FIRST.replace(block);
        // SAFETY: both are alive.
        unsafe {
            (*block).next.set(next);
            (*block).prev.set(null());
            if let Some(next) = next.as_ref() {
                next.prev.set(block);
            }
        }
    }

    fn delist(&self) {
        let (prev, next) = (self.prev.get(), self.next.get());
        // SAFETY: neighbours in the list are alive.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.next.set(next),
            None => FIRST.set(next),
        }
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_ref() } {
            next.prev.set(prev);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_at_cache_lines_apart_from_each_other_and_come_again() {
        let count = PLACES as usize * 5 + 7;
        let mut all: Vec<NonNull<u8>> = (0..count).map(|_| take().unwrap()).collect();
        for round in 0..3 {
            for (i, at) in all.iter().enumerate() {
                assert_eq!(at.as_ptr() as usize % 64, 0);
                // SAFETY: taken, so this test's.
                unsafe { std::ptr::write_bytes(at.as_ptr(), (i + round) as u8, SIZE) };
            }
            for (i, at) in all.iter().enumerate() {
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts(at.as_ptr(), SIZE) };
                assert!(bytes.iter().all(|&b| b == (i + round) as u8));
            }
            // Every third goes, and as many come: they find the same places, none twice.
            let mut sorted = all.clone();
            sorted.sort();
            let gone: Vec<usize> = (0..count).filter(|i| i % 3 == round).collect();
            // SAFETY: taken above, and used no more.
            gone.iter().for_each(|&i| unsafe { give(all[i]) });
            gone.iter().for_each(|&i| all[i] = take().unwrap());
            let mut again = all.clone();
            again.sort();
            assert_eq!(sorted, again);
        }
        // SAFETY: as above.
        all.into_iter().for_each(|at| unsafe { give(at) });
        assert!(FIRST.get().is_null());
    }

    #[test]
    fn what_is_left_of_a_burst_is_the_blocks_that_somebody_uses() {
        let all: Vec<NonNull<u8>> = (0..PLACES as usize * 10).map(|_| take().unwrap()).collect();
        let (kept, gone) = all.split_at(1);
        // SAFETY: taken above, and used no more.
        gone.iter().for_each(|&at| unsafe { give(at) });
        let first = FIRST.get();
        // SAFETY: in the list, so alive.
        assert!(PLACES == 1 || unsafe { (*first).next.get().is_null() && (*first).used.get() == 1 });
        // SAFETY: as above.
        unsafe { give(kept[0]) };
        assert!(FIRST.get().is_null());
    }
}
