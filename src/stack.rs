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
use std::num::NonZeroU64;

pub const DEFAULT_SIZE: usize = 256 * 1024;
pub const MIN_SIZE: usize = 16 * 1024;
pub const MAX_SIZE: usize = 1 << 30;

/// A frame with a large array may step over one page without touching it, into the
/// neighbour's stack. More of them cost addresses, and entries of page tables.
const GUARD_PAGES: usize = 17;
/// Warm stacks that a class always keeps.
const KEEP_WARM: usize = 64;
/// At most so many stacks are trimmed in one go, so that a turn stays short.
const TRIM_STEP: usize = 512;
/// ... and so many unmapped, which is cheaper.
const UNMAP_STEP: usize = 4096;
/// How many rounds of trimming a burst that is ending may put off.
const MOST_PUT_OFF: u32 = 20;
const FIRST_SLAB: usize = 4;
const LARGEST_SLAB: usize = 256;
/// Slabs from this size on belong to a burst: the first pages of so many of their stacks
/// are faulted in with one call, which is cheaper than one fault each.
const POPULATE_FROM: usize = 64;
const POPULATE_STEP: usize = 32;

/// One stack, on loan from its class, in one word: a stack that is given back is often
/// taken again at once, and what was written as one word can be read while it is still
/// on its way to the cache.
///
/// ```text
///  63..28             27..1   0
/// +------------------+-------+----------+
/// | top, without its | slab  | the slab |
/// | twelve low bits  |       | is ready |
/// +------------------+-------+----------+
/// ```
pub struct Stack(NonZeroU64);

const TOP_SHIFT: u32 = 28;
const MAX_SLABS: usize = 1 << 27;
const READY: u64 = 1;

/// Names a stack size; the default size is class 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class(u16);

impl Stack {
    fn new(top: usize, slab: usize, is_ready: bool) -> Stack {
        debug_assert!(top != 0 && top.is_multiple_of(4096) && slab < MAX_SLABS);
        let word = (top as u64) >> 12 << TOP_SHIFT | (slab as u64) << 1 | u64::from(is_ready);
        Stack(NonZeroU64::new(word).expect("a stack is not at the beginning of memory"))
    }

    /// One past the highest usable byte.
    #[inline(always)]
    pub fn top(&self) -> usize {
        (self.0.get() >> TOP_SHIFT << 12) as usize
    }

    #[inline(always)]
    fn slab(&self) -> usize {
        (self.0.get() >> 1) as usize % MAX_SLABS
    }

    #[inline(always)]
    fn is_ready(&self) -> bool {
        self.0.get() & READY != 0
    }
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
    /// They cost no mapping, and are made when a slab is used. Asked when the hub is made: in memory
    /// that the program has locked the kernel would say no.
    has_markers: bool,
    free: Vec<Stack>,
    /// `free[..cold]` have no memory behind them.
    cold: usize,
    /// Free stacks promised to greenlets that have not started.
    reserved: usize,
    /// The fewest free stacks since the last trim: that many were not needed.
    low_water: usize,
    /// The greater of `cold` and `low_water`: only below it there is something to note.
    floor: usize,
    /// How many were in use at the last trim, and how often since then it was put off.
    used_before: usize,
    put_off: u32,
    /// Stacks in all slabs.
    total: usize,
    slabs: Vec<Option<Slab>>,
}

impl Pool {
    fn new(size: usize, page: usize) -> Pool {
        let guard = page * GUARD_PAGES;
        Pool {
            guard,
            has_markers: sys::has_guard_markers(),
            size,
            page,
            free: Vec::new(),
            cold: 0,
            reserved: 0,
            low_water: 0,
            floor: 0,
            used_before: 0,
            put_off: 0,
            total: 0,
            slabs: Vec::new(),
        }
    }

    /// From one stack to the next. No power of two, see above.
    fn stride(&self) -> usize {
        self.size + self.guard
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Result<()> {
        let stacks = (self.total / 2).next_power_of_two().clamp(FIRST_SLAB, LARGEST_SLAB);
        // A huge size class must not map a huge slab. (Stacks of 3 MiB still get slabs that are populated:
        // a tenth of the CPU of 100,000 Python greenlets.)
        let stacks = stacks.min((256 << 20) / self.stride()).max(1);
        self.free.try_reserve(stacks).map_err(|_| Error::NOMEM)?;
        let slab = self.map_slab(stacks).or_else(|e| if stacks > 1 { self.map_slab(1) } else { Err(e) })?;
        let (base, stacks) = (slab.base as usize, slab.stacks);
        let place = self.slabs.iter().position(Option::is_none).unwrap_or(self.slabs.len());
        if place == MAX_SLABS {
            return Err(Error::NOMEM);
        }
        if place == self.slabs.len() {
            self.slabs.push(None);
        }
        self.slabs[place] = Some(slab);
        self.total += stacks;
        // The lowest address is to be taken first.
        let stride = self.stride();
        self.free.extend((1..=stacks).rev().map(|i| Stack::new(base + i * stride, place, false)));
        Ok(())
    }

    fn map_slab(&self, stacks: usize) -> Result<Slab> {
        let base = sys::map(stacks * self.stride())?;
        let mut slab = Slab { base, stacks, cold: 0, is_prepared: false, _valgrind: Vec::new() };
        if !self.has_markers
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
        let register = |i: usize| {
            ValgrindStackRegistration::new(slab.base.wrapping_add(i * self.stride() + self.guard), self.size)
        };
        if sys::is_under_valgrind() {
            slab._valgrind = (0..slab.stacks).map(register).collect();
        }
        slab.is_prepared = true;
        Ok(())
    }

    #[inline]
    fn reserve(&mut self) -> Result<()> {
        if self.free.len() <= self.reserved {
            sys::keeping_errno(|| self.grow())?;
        }
        self.reserved += 1;
        Ok(())
    }

    /// Takes a stack that was reserved; the reservation stays when that fails.
    #[inline(always)]
    fn take(&mut self) -> Result<Stack> {
        if self.free.last().is_none_or(|s| !s.is_ready()) {
            self.prepare_next()?;
        }
        let stack = self.free.pop().ok_or(Error::NOMEM)?;
        self.reserved -= 1;
        if self.free.len() < self.floor {
            self.note_fewest(stack.slab());
        }
        Ok(stack)
    }

    #[cold]
    #[inline(never)]
    fn note_fewest(&mut self, slab: usize) {
        let left = self.free.len();
        self.low_water = self.low_water.min(left);
        if left < self.cold {
            self.cold = left;
            if let Some(slab) = &mut self.slabs[slab] {
                slab.cold -= 1;
            }
        }
        self.floor = self.cold.max(self.low_water);
    }

    /// Makes the next free stack ready, and some of its neighbours.
    #[cold]
    #[inline(never)]
    fn prepare_next(&mut self) -> Result<()> {
        let place = self.free.last().expect("a stack was reserved").slab();
        let mut slab = self.slabs[place].take().expect("a free stack lies in a slab");
        let prepared = if slab.is_prepared { Ok(()) } else { sys::keeping_errno(|| self.prepare(&mut slab)) };
        let is_large = slab.stacks >= POPULATE_FROM;
        self.slabs[place] = Some(slab);
        prepared?;
        // None of them was taken before, so they lie together, at the end.
        let next = self.free.iter_mut().rev().take(POPULATE_STEP).take_while(|s| s.slab() == place && !s.is_ready());
        let mut tops = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: self.page }; POPULATE_STEP];
        let mut n = 0;
        for stack in next {
            *stack = Stack::new(stack.top(), place, true);
            tops[n].iov_base = (stack.top() - self.page) as *mut _;
            n += 1;
        }
        if is_large {
            sys::keeping_errno(|| sys::populate(&tops[..n]));
        }
        Ok(())
    }

    /// Free stacks that were not needed since the last trim and still hold memory.
    fn idle(&self) -> usize {
        self.low_water.saturating_sub(KEEP_WARM.max(self.reserved)).saturating_sub(self.cold)
    }

    /// One step of giving memory back; true when there is more to do now.
    fn trim(&mut self) -> bool {
        if self.is_shrinking() {
            self.low_water = self.free.len();
            self.floor = self.cold.max(self.low_water);
            return false;
        }
        if self.unmap_idle_slabs() {
            return true;
        }
        let step = self.idle().min(TRIM_STEP);
        let part = &self.free[self.cold..self.cold + step];
        let ranges: Vec<_> = part
            .iter()
            .map(|f| libc::iovec { iov_base: (f.top() - self.size) as *mut _, iov_len: self.size })
            .collect();
        sys::give_back(&ranges);
        for f in part {
            if let Some(slab) = &mut self.slabs[f.slab()] {
                slab.cold += 1;
            }
        }
        self.cold += step;
        if step < TRIM_STEP {
            self.low_water = self.free.len();
        }
        self.floor = self.cold.max(self.low_water);
        step == TRIM_STEP
    }

    /// A burst that is still ending gives its memory back more cheaply later, by whole
    /// slabs; but it may not put that off for ever.
    fn is_shrinking(&mut self) -> bool {
        let used = self.total - self.free.len();
        let before = std::mem::replace(&mut self.used_before, used);
        let shrinks = before.saturating_sub(used) > self.idle() / 64;
        self.put_off = if shrinks && self.put_off < MOST_PUT_OFF { self.put_off + 1 } else { 0 };
        self.put_off > 0
    }

    /// Unmaps slabs of which no stack was needed; true when there may be more of them.
    fn unmap_idle_slabs(&mut self) -> bool {
        let idle = &self.free[self.cold..self.cold + self.idle()];
        let mut unneeded: Vec<usize> = self.slabs.iter().map(|s| s.as_ref().map_or(0, |s| s.cold)).collect();
        idle.iter().for_each(|f| unneeded[f.slab()] += 1);
        let mut budget = self.free.len() - self.reserved.min(self.free.len());
        let mut gone = vec![false; self.slabs.len()];
        let mut stacks = 0;
        let stride = self.stride();
        for (i, place) in self.slabs.iter_mut().enumerate() {
            let Some(slab) = place else { continue };
            if unneeded[i] < slab.stacks || slab.stacks < POPULATE_FROM || slab.stacks > budget {
                continue;
            }
            stacks += slab.stacks;
            budget -= slab.stacks;
            gone[i] = true;
            // SAFETY: all of its stacks are in the free list, and leave it below.
            unsafe { sys::unmap(slab.base, slab.stacks * stride) };
            *place = None;
            if stacks >= UNMAP_STEP {
                break;
            }
        }
        if stacks > 0 {
            self.total -= stacks;
            self.cold -= self.free[..self.cold].iter().filter(|f| gone[f.slab()]).count();
            self.low_water -= stacks; // they were all below it
            self.free.retain(|f| !gone[f.slab()]);
            self.free.shrink_to(self.free.len() * 2);
            self.floor = self.cold.max(self.low_water);
        }
        stacks >= UNMAP_STEP
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

    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    fn pool(&self, class: Class) -> &mut Pool {
        // SAFETY: only `class` and `default_class` make one, of a pool that is there; pools
        // are never taken away.
        unsafe { self.pools().get_unchecked_mut(class.0 as usize) }
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
        self.pool(class).reserve()
    }

    /// As `reserve`, of the default class and without mapping more; whether there was one.
    #[inline(always)]
    pub fn reserve_at_hand(&self) -> bool {
        let pool = self.pool(self.default_class());
        if pool.reserved >= pool.free.len() {
            return false;
        }
        pool.reserved += 1;
        true
    }

    /// Takes a promise back, unused.
    #[inline(always)]
    pub fn unreserve(&self, class: Class) {
        self.pool(class).reserved -= 1;
    }

    /// Redeems a promise; ENOMEM, the promise kept, if even guarding it fails.
    #[inline]
    pub fn take(&self, class: Class) -> Result<Stack> {
        self.pool(class).take()
    }

    /// Gives back a stack that was taken from `class`.
    #[inline]
    pub fn give(&self, class: Class, stack: Stack) {
        self.pool(class).free.push(stack);
    }

    /// The part of a stack that a fiber is to use: not quite up to the top, but up to one
    /// of sixteen places below it. Otherwise the frames of all parked fibers, which are
    /// near the top, lie at like places in their pages, and share a twelfth of the cache.
    #[inline]
    pub fn span(&self, class: Class, stack: &Stack) -> (usize, usize) {
        let (low, top) = self.bounds(class, stack);
        let colour = (stack.0.get() >> TOP_SHIFT).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        (low, top - colour as usize * 128)
    }

    /// Lowest and one past the highest byte of a stack of `class`.
    #[inline]
    pub fn bounds(&self, class: Class, stack: &Stack) -> (usize, usize) {
        (stack.top() - self.pools()[class.0 as usize].size, stack.top())
    }

    /// Whether memory could be given back now.
    pub fn has_idle(&self) -> bool {
        self.trimming.get() || self.pools().iter().any(|p| p.free.len() > p.cold + KEEP_WARM)
    }

    /// Whether the last round left a burst alone that is still ending: pages that lie between
    /// records which are about to be freed as well are given back more cheaply later, too.
    pub fn puts_off(&self) -> bool {
        self.pools().iter().any(|p| p.put_off > 0)
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
        self.page * GUARD_PAGES
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
        stacks.give(Class(0), two.remove(0));
        stacks.give(Class(0), two.remove(0));
        assert_eq!(take_many(&stacks, Class(0), 1)[0].top(), top);
    }

    #[test]
    fn stacks_do_not_overlap_and_sizes_are_honoured() {
        let stacks = Stacks::new();
        let class = stacks.class(20_000).unwrap();
        let mut all = take_many(&stacks, class, 300);
        all.sort_by_key(Stack::top);
        let bounds: Vec<_> = all.iter().map(|s| stacks.bounds(class, s)).collect();
        assert!(bounds.windows(2).all(|w| w[0].1 < w[1].0));
        assert!(bounds.iter().all(|b| b.1 - b.0 == 20_480));
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
        all.into_iter().for_each(|s| stacks.give(Class(0), s));
        assert!(stacks.has_idle());
        for _ in 0..20 {
            while stacks.trim() {}
        }
        assert!(stacks.mapped() < peak / 8, "{} of {peak} still mapped", stacks.mapped());
        take_many(&stacks, Class(0), 3000).iter().for_each(touch);
    }
}
