//! Memory for when malloc has none.
//!
//! What Rust allocates by the way, a box or a name, has no way to fail: without memory the
//! process would end. So what malloc does not give comes from here, pieces of a memory that
//! is set aside, and costs nothing until then:
//!
//! ```text
//! | 64 | 64 | ... | 256 | 256 | ... | 1024 | ... | 4096 | ... | 16384 | ... |
//! ```
//!
//! As long as some of it is in use and malloc still has nothing, nothing new can be made:
//! whatever gives out a handle fails (`check`, in `Table::insert`). What there is goes on
//! working, and can be ended and closed, which gives memory back. Large blocks are asked
//! for with `try_reserve`, and come from here only if they are pieces as well.
//!
//! A piece is taken and given back by one atomic operation on its bit: a lock might be held
//! by another thread when the process forks.

use crate::error::{Error, Result};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// What a piece is aligned to: a cache line, as a record wants it.
const ALIGN: usize = 64;
/// Sizes of pieces, and how many there are of each.
const SORTS: [(usize, usize); 5] = [(64, 1024), (256, 256), (1024, 64), (4096, 16), (16384, 8)];
const BYTES: usize = all_before(SORTS.len());
/// A bit for each piece; a sort begins with a word of its own.
const WORDS: usize = words_before(SORTS.len());
/// What malloc is asked for to see whether it has memory again.
const PROBE: Layout = Layout::new::<[u64; 512]>();

const fn all_before(sort: usize) -> usize {
    if sort == 0 { 0 } else { all_before(sort - 1) + SORTS[sort - 1].0 * SORTS[sort - 1].1 }
}

const fn words_before(sort: usize) -> usize {
    if sort == 0 { 0 } else { words_before(sort - 1) + SORTS[sort - 1].1.div_ceil(64) }
}

#[repr(C, align(64))]
struct Memory(UnsafeCell<[u8; BYTES]>);

// SAFETY: each piece is used by whoever has set its bit, alone.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; BYTES]));
static TAKEN: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
/// How many pieces are taken.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// How far behind the beginning of the reserve `at` is; more than `BYTES` when it is elsewhere.
#[inline(always)]
fn offset(at: *mut u8) -> usize {
    (at as usize).wrapping_sub(MEMORY.0.get() as usize)
}

fn take(layout: Layout) -> *mut u8 {
    if layout.align() > ALIGN {
        return null_mut();
    }
    for (sort, &(size, count)) in SORTS.iter().enumerate() {
        let place = if layout.size() <= size { take_bit(words_before(sort), count) } else { None };
        if let Some(place) = place {
            IN_USE.fetch_add(1, SeqCst);
            // SAFETY: within the memory.
            return unsafe { MEMORY.0.get().cast::<u8>().add(all_before(sort) + place * size) };
        }
    }
    null_mut()
}

/// Sets one of `count` bits, from the word `first` on, that is not set.
fn take_bit(first: usize, count: usize) -> Option<usize> {
    for place in 0..count {
        let (word, bit) = (&TAKEN[first + place / 64], 1 << (place % 64));
        if word.load(Relaxed) & bit == 0 && word.fetch_or(bit, SeqCst) & bit == 0 {
            return Some(place);
        }
    }
    None
}

/// The sort of the piece there.
fn sort_at(offset: usize) -> usize {
    (0..SORTS.len()).rfind(|&sort| all_before(sort) <= offset).unwrap_or(0)
}

#[cold]
#[inline(never)]
fn give(offset: usize) {
    let sort = sort_at(offset);
    let place = (offset - all_before(sort)) / SORTS[sort].0;
    TAKEN[words_before(sort) + place / 64].fetch_and(!(1 << (place % 64)), SeqCst);
    IN_USE.fetch_sub(1, SeqCst);
}

/// ENOMEM while memory of the reserve is used, and there is no other.
#[inline(always)]
pub fn check() -> Result<()> {
    if IN_USE.load(Relaxed) == 0 { Ok(()) } else { ask_malloc() }
}

/// ENOMEM when malloc has nothing: before what the C library or std does that ends the process
/// without memory.
#[cold]
#[inline(never)]
pub fn ask_malloc() -> Result<()> {
    // SAFETY: it has a size.
    let at = std::hint::black_box(unsafe { System.alloc(PROBE) }); // or else nobody is asked
    if at.is_null() {
        return Err(Error::NOMEM);
    }
    // SAFETY: from there, with the same layout.
    unsafe { System.dealloc(at, PROBE) };
    Ok(())
}

/// malloc, and the reserve behind it.
pub struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[cold]
#[inline(never)]
fn take_zeroed(layout: Layout) -> *mut u8 {
    let at = take(layout);
    if !at.is_null() {
        // SAFETY: a piece of at least that size.
        unsafe { at.write_bytes(0, layout.size()) };
    }
    at
}

/// # Safety
/// `at` is a block of `layout`, of the reserve or of malloc's, and not used any more if this succeeds.
#[cold]
#[inline(never)]
unsafe fn move_to(at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
    if offset(at) < BYTES && size <= SORTS[sort_at(offset(at))].0 {
        return at; // and so a piece that shrinks never needs another
    }
    // SAFETY: the alignment is that of a layout, and the size by contract of `realloc` possible.
    let to = unsafe { ALLOCATOR.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
    if !to.is_null() {
        // SAFETY: both are as large as that, and one is new.
        unsafe {
            to.copy_from_nonoverlapping(at, layout.size().min(size));
            ALLOCATOR.dealloc(at, layout);
        }
    }
    to
}

// SAFETY: malloc's blocks are malloc's, and a piece of the reserve is large enough, aligned,
// and nobody else's until it is given back.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by contract.
        let at = unsafe { System.alloc(layout) };
        if at.is_null() { take(layout) } else { at }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by contract.
        let at = unsafe { System.alloc_zeroed(layout) };
        if at.is_null() { take_zeroed(layout) } else { at }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let offset = offset(at);
        if offset < BYTES {
            give(offset);
        } else {
            // SAFETY: not the reserve's, so malloc's.
            unsafe { System.dealloc(at, layout) };
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if offset(at) < BYTES {
            // SAFETY: by contract.
            return unsafe { move_to(at, layout, size) };
        }
        // SAFETY: not the reserve's, so malloc's.
        let to = unsafe { System.realloc(at, layout, size) };
        // SAFETY: by contract; and a realloc that fails has left the block as it was.
        if to.is_null() { unsafe { move_to(at, layout, size) } } else { to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test: they would see each other's pieces.
    #[test]
    fn pieces_are_aligned_apart_and_taken_again() {
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let sizes = [1, 64, 65, 300, 1024, 4000, 16384, 16384];
        let taken = sizes.map(|size| (take(layout(size)) as usize, size));
        for (i, &(at, size)) in taken.iter().enumerate() {
            assert!(at != 0 && at % ALIGN == 0);
            assert!(taken[..i].iter().all(|&(other, length)| other + length <= at || at + size <= other));
        }
        assert_eq!(IN_USE.load(SeqCst), sizes.len());
        taken.iter().for_each(|&(at, _)| give(offset(at as *mut u8)));
        assert_eq!(IN_USE.load(SeqCst), 0);
        assert!(take(layout(16385)).is_null());
        assert!(take(Layout::from_size_align(8, 128).unwrap()).is_null());

        // What small pieces have no room for goes to larger ones.
        let all: Vec<*mut u8> = (0..1025).map(|_| take(Layout::new::<u64>())).collect();
        assert!(all.iter().all(|at| !at.is_null()));
        assert!(offset(all[1024]) >= all_before(1));
        all.into_iter().for_each(|at| give(offset(at)));
        assert_eq!(IN_USE.load(SeqCst), 0);
    }
}
