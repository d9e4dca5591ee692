//! Stacks for fibers: slabs of many, one mapping each, a guard page below every
//! stack, handed out last in, first out.
//!
//! ```text
//! slab   | guard | stack 0 <--grows | guard | stack 1 <--grows | ...
//! free   [ cold cold cold | warm warm warm ]  <- pop and push here
//!                         ^ trimmed
//! ```
//!
//! The stride is the stack plus its guard and so no power of two: parked stacks do
//! not fight for the same cache sets (measured 4.4-5.0 ns a yield at 1000
//! greenlets against 6.5-6.9 with a power of two).
//!
//! A stack stays warm in the list; those that were not needed for a while are
//! given back to the kernel by `trim`, whole slabs are unmapped.

use crate::error::{Error, Result};
use crate::sys;
use corosensei::stack::valgrind::ValgrindStackRegistration;
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;

pub const DEFAULT_SIZE: usize = 256 * 1024;
pub const MIN_SIZE: usize = 16 * 1024;
pub const MAX_SIZE: usize = 1 << 30;

/// Warm stacks that a class always keeps.
const KEEP_WARM: usize = 64;
/// At most so many stacks are trimmed in one go, so that a turn stays short.
const TRIM_STEP: usize = 512;
const FIRST_SLAB: usize = 4;
const LARGEST_SLAB: usize = 256;
/// Slabs from this size on belong to a burst: their first pages are faulted in
/// with one call for all, which is cheaper than one fault each.
const POPULATE_FROM: usize = 64;

/// One stack, on loan from its class.
pub struct Stack {
    /// One past the highest usable byte.
    top: usize,
    size: u32,
    slab: u32,
    class: Class,
}

/// Names a stack size; the default size is class 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class(u16);

impl Stack {
    pub fn top(&self) -> usize {
        self.top
    }
    pub fn low(&self) -> usize {
        self.top - self.size as usize
    }
    pub fn size(&self) -> usize {
        self.size as usize
    }
}

// SAFETY: the range below `low` is a guard page, and `size` is at least MIN_SIZE.
unsafe impl corosensei::stack::Stack for Stack {
    #[inline]
    fn base(&self) -> corosensei::stack::StackPointer {
        // SAFETY: an address inside a mapping is not zero.
        unsafe { NonZeroUsize::new_unchecked(self.top) }
    }
    #[inline]
    fn limit(&self) -> corosensei::stack::StackPointer {
        // SAFETY: as above.
        unsafe { NonZeroUsize::new_unchecked(self.top - self.size as usize) }
    }
}

#[derive(Clone, Copy)]
struct Free {
    top: usize,
    slab: u32,
}

struct Slab {
    base: *mut u8,
    stacks: usize,
    /// How many of its stacks lie trimmed in the free list.
    cold: usize,
    is_prepared: bool,
    _valgrind: Vec<ValgrindStackRegistration>,
}

/// All stacks of one size.
struct Pool {
    size: usize,
    page: usize,
    /// Bytes below each stack that trap.
    guard: usize,
    free: Vec<Free>,
    /// `free[..cold]` have no memory behind them.
    cold: usize,
    /// Free stacks promised to greenlets that have not started.
    reserved: usize,
    /// The fewest free stacks since the last trim: that many were not needed.
    low_water: usize,
    /// Stacks in all slabs.
    total: usize,
    slabs: Vec<Option<Slab>>,
}

impl Pool {
    fn new(size: usize, page: usize) -> Pool {
        let guard = page * guard_pages();
        Pool { guard, size, page, free: Vec::new(), cold: 0, reserved: 0, low_water: 0, total: 0, slabs: Vec::new() }
    }

    /// From one stack to the next. No power of two, see above.
    fn stride(&self) -> usize {
        self.size + self.guard
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Result<()> {
        let stacks = (self.total / 2).next_power_of_two().clamp(FIRST_SLAB, LARGEST_SLAB);
        // A huge size class must not map a huge slab.
        let stacks = stacks.min((64 << 20) / self.stride()).max(1);
        self.free.try_reserve(stacks).map_err(|_| Error::NOMEM)?;
        let slab = self.map_slab(stacks).or_else(|e| if stacks > 1 { self.map_slab(1) } else { Err(e) })?;
        let (base, stacks) = (slab.base as usize, slab.stacks);
        let place = self.slabs.iter().position(Option::is_none).unwrap_or(self.slabs.len());
        if place == self.slabs.len() {
            self.slabs.push(None);
        }
        self.slabs[place] = Some(slab);
        self.total += stacks;
        // The lowest address is to be taken first.
        let stride = self.stride();
        self.free.extend((1..=stacks).rev().map(|i| Free { top: base + i * stride, slab: place as u32 }));
        Ok(())
    }

    fn map_slab(&self, stacks: usize) -> Result<Slab> {
        let base = sys::map(stacks * self.stride())?;
        let mut slab = Slab { base, stacks, cold: 0, is_prepared: false, _valgrind: Vec::new() };
        if !sys::has_guard_markers()
            && let Err(e) = self.prepare(&mut slab)
        {
            // SAFETY: the mapping was made above and nobody has seen it.
            unsafe { sys::unmap(base, stacks * self.stride()) };
            return Err(e);
        }
        Ok(slab)
    }

    /// Guards the stacks of a slab; done when the first of them is taken, so that a
    /// burst of greenlets which end without ever blocking, and share one stack, does
    /// not pay for stacks that only stood by. (Where guards are mappings of their own,
    /// they are made at once, so that reaching vm.max_map_count fails the spawn.)
    #[cold]
    #[inline(never)]
    fn prepare(&self, slab: &mut Slab) -> Result<()> {
        let range = |offset: usize, len| libc::iovec { iov_base: slab.base.wrapping_add(offset).cast(), iov_len: len };
        let guards: Vec<_> = (0..slab.stacks).map(|i| range(i * self.stride(), self.guard)).collect();
        sys::guard(&guards)?;
        if slab.stacks >= POPULATE_FROM {
            let tops: Vec<_> = (1..=slab.stacks).map(|i| range(i * self.stride() - self.page, self.page)).collect();
            sys::populate(&tops);
        }
        let register = |i: usize| {
            ValgrindStackRegistration::new(slab.base.wrapping_add(i * self.stride() + self.guard), self.size)
        };
        slab._valgrind = (0..slab.stacks).map(register).collect();
        slab.is_prepared = true;
        Ok(())
    }

    #[inline]
    fn reserve(&mut self) -> Result<()> {
        if self.free.len() <= self.reserved {
            self.grow()?;
        }
        self.reserved += 1;
        Ok(())
    }

    /// Takes a stack that was reserved; the reservation stays when that fails.
    #[inline]
    fn take(&mut self, class: Class) -> Result<Stack> {
        let free = *self.free.last().expect("a stack was reserved");
        let slab = self.slabs[free.slab as usize].as_ref().expect("a free stack lies in a slab");
        if !slab.is_prepared {
            self.prepare_at(free.slab)?;
        }
        self.free.pop();
        self.reserved -= 1;
        let left = self.free.len();
        if left < self.low_water {
            self.low_water = left;
        }
        if left < self.cold {
            self.cold = left;
            if let Some(slab) = &mut self.slabs[free.slab as usize] {
                slab.cold -= 1;
            }
        }
        Ok(Stack { top: free.top, size: self.size as u32, slab: free.slab, class })
    }

    #[cold]
    fn prepare_at(&mut self, place: u32) -> Result<()> {
        let Some(mut slab) = self.slabs[place as usize].take() else { return Ok(()) };
        let prepared = self.prepare(&mut slab);
        self.slabs[place as usize] = Some(slab);
        prepared
    }

    /// Free stacks that were not needed since the last trim and still hold memory.
    fn idle(&self) -> usize {
        self.low_water.saturating_sub(KEEP_WARM).saturating_sub(self.cold)
    }

    /// One step of giving memory back; true when there is more to do now.
    fn trim(&mut self) -> bool {
        let step = self.idle().min(TRIM_STEP);
        let part = &self.free[self.cold..self.cold + step];
        let ranges: Vec<_> =
            part.iter().map(|f| libc::iovec { iov_base: (f.top - self.size) as *mut _, iov_len: self.size }).collect();
        sys::give_back(&ranges);
        for f in part {
            if let Some(slab) = &mut self.slabs[f.slab as usize] {
                slab.cold += 1;
            }
        }
        self.cold += step;
        if step == TRIM_STEP {
            return true;
        }
        self.unmap_cold_slabs();
        self.low_water = self.free.len();
        false
    }

    fn unmap_cold_slabs(&mut self) {
        let mut budget = self.free.len() - self.reserved.min(self.free.len());
        let mut gone = vec![false; self.slabs.len()];
        let stride = self.stride();
        for (i, place) in self.slabs.iter_mut().enumerate() {
            let Some(slab) = place else { continue };
            if slab.cold < slab.stacks || slab.stacks < POPULATE_FROM || slab.stacks > budget {
                continue;
            }
            budget -= slab.stacks;
            self.total -= slab.stacks;
            gone[i] = true;
            // SAFETY: all of its stacks are in the free list, and leave it below.
            unsafe { sys::unmap(slab.base, slab.stacks * stride) };
            *place = None;
        }
        if gone.iter().any(|&g| g) {
            let before = self.free.len();
            self.free.retain(|f| !gone[f.slab as usize]);
            self.cold -= before - self.free.len();
            self.free.shrink_to(self.free.len() * 2);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let stride = self.stride();
        for slab in self.slabs.drain(..).flatten() {
            // SAFETY: the hub drops its stacks after its last greenlet is gone.
            unsafe { sys::unmap(slab.base, slab.stacks * stride) };
        }
    }
}

/// A frame with a large array may step over one page without touching it, into the
/// neighbour's stack. Markers cost page-table entries alone, so there are many.
pub fn guard_pages() -> usize {
    if sys::has_guard_markers() { 17 } else { 1 }
}

/// The stacks of one hub, by class.
pub struct Stacks {
    pools: UnsafeCell<Vec<Pool>>,
    page: usize,
    trimming: Cell<bool>,
}

impl Default for Stacks {
    fn default() -> Stacks {
        Stacks::new()
    }
}

impl Stacks {
    pub fn new() -> Stacks {
        let page = sys::page_size();
        Stacks { pools: UnsafeCell::new(vec![Pool::new(DEFAULT_SIZE, page)]), page, trimming: Cell::new(false) }
    }

    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn pools(&self) -> &mut Vec<Pool> {
        // SAFETY: one thread; no reference outlives the method that took it, and
        // none of the methods calls out.
        unsafe { &mut *self.pools.get() }
    }

    /// The class for stacks of `size` bytes (0: the default), rounded up to pages.
    pub fn class(&self, size: usize) -> Result<Class> {
        if size == 0 {
            return Ok(Class(0));
        }
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return Err(Error::INVAL);
        }
        let size = size.next_multiple_of(self.page);
        let pools = self.pools();
        if let Some(i) = pools.iter().position(|p| p.size == size) {
            return Ok(Class(i as u16));
        }
        if pools.len() > u16::MAX as usize {
            return Err(Error::NOMEM);
        }
        pools.push(Pool::new(size, self.page));
        Ok(Class(pools.len() as u16 - 1))
    }

    pub fn default_class(&self) -> Class {
        Class(0)
    }

    /// Promises a stack to a greenlet, so that starting it later can not fail.
    #[inline]
    pub fn reserve(&self, class: Class) -> Result<()> {
        self.pools()[class.0 as usize].reserve()
    }

    /// Takes a promise back, unused.
    pub fn unreserve(&self, class: Class) {
        self.pools()[class.0 as usize].reserved -= 1;
    }

    /// Redeems a promise; ENOMEM, the promise kept, if even guarding it fails.
    #[inline]
    pub fn take(&self, class: Class) -> Result<Stack> {
        self.pools()[class.0 as usize].take(class)
    }

    #[inline]
    pub fn give(&self, stack: Stack) {
        let pool = &mut self.pools()[stack.class.0 as usize];
        pool.free.push(Free { top: stack.top, slab: stack.slab });
    }

    pub fn size_of(&self, class: Class) -> usize {
        self.pools()[class.0 as usize].size
    }

    /// Whether memory could be given back now.
    pub fn has_idle(&self) -> bool {
        self.trimming.get() || self.pools().iter().any(|p| p.free.len() > p.cold + KEEP_WARM)
    }

    /// One bounded step of giving back what was not needed since the last round.
    /// True when it wants to be called again soon.
    pub fn trim(&self) -> bool {
        let mut more = false;
        for pool in self.pools() {
            more |= pool.trim();
        }
        self.trimming.set(more);
        more
    }

    /// Bytes mapped for stacks, used or free.
    pub fn mapped(&self) -> usize {
        self.pools().iter().map(|p| p.slabs.iter().flatten().map(|s| s.stacks * p.stride()).sum::<usize>()).sum()
    }

    /// Bytes below each stack that trap.
    pub fn guard(&self) -> usize {
        self.page * guard_pages()
    }

    pub fn page(&self) -> usize {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_many(stacks: &Stacks, class: Class, n: usize) -> Vec<Stack> {
        (0..n)
            .map(|_| {
                stacks.reserve(class).unwrap();
                stacks.take(class).unwrap()
            })
            .collect()
    }

    fn touch(stack: &Stack) {
        // SAFETY: the top word of a stack that we own.
        unsafe { *((stack.top() - 8) as *mut u64) = 7 };
    }

    #[test]
    fn the_stack_given_back_last_is_taken_first() {
        let stacks = Stacks::new();
        let mut two = take_many(&stacks, Class(0), 2);
        let top = two[1].top();
        stacks.give(two.remove(0));
        stacks.give(two.remove(0));
        assert_eq!(take_many(&stacks, Class(0), 1)[0].top(), top);
    }

    #[test]
    fn stacks_do_not_overlap_and_sizes_are_honoured() {
        let stacks = Stacks::new();
        let class = stacks.class(20_000).unwrap();
        let mut all = take_many(&stacks, class, 300);
        all.sort_by_key(Stack::top);
        assert!(all.windows(2).all(|w| w[0].top() < w[1].low()));
        assert!(all.iter().all(|s| s.size() == 20_480));
        all.iter().for_each(touch);
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let stacks = Stacks::new();
        assert_eq!(stacks.class(100), Err(Error::INVAL));
        assert_eq!(stacks.class(usize::MAX), Err(Error::INVAL));
        assert_eq!(stacks.class(0), Ok(Class(0)));
    }

    #[test]
    fn a_burst_is_unmapped_when_it_is_over() {
        let stacks = Stacks::new();
        let all = take_many(&stacks, Class(0), 3000);
        all.iter().for_each(touch);
        let peak = stacks.mapped();
        all.into_iter().for_each(|s| stacks.give(s));
        assert!(stacks.has_idle());
        for _ in 0..20 {
            while stacks.trim() {}
        }
        assert!(stacks.mapped() < peak / 8, "{} of {peak} still mapped", stacks.mapped());
        take_many(&stacks, Class(0), 3000).iter().for_each(touch);
    }
}
