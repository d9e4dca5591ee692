//! Handles: from an `int64_t` to an object, safely.
//!
//! ```text
//!  63   62..53   52..27       26..5      4..0
//! +---+--------+------------+----------+--------+
//! | 0 |  hub   | generation |  index   |  kind  |
//! +---+--------+------------+----------+--------+
//! ```
//!
//! A slot is as many bytes as there are kinds, so the index is where it stands: a slot's
//! address is a mask and an addition away. What a thread without a hub has in the place of
//! its hub begins with a table as well, in which nothing is found (`NOBODY`).
//!
//! A table belongs to one hub; hub number 0 is the table of shared objects. A slot
//! remembers the whole handle it gave out, so one comparison checks hub, generation and
//! index at once; and the kind as well where that has slots of its own, as the most used
//! kinds have. When a slot's generation is used up the
//! slot is retired, never wrapped: a stale handle can not come alive again.
//!
//! One handle per object, counted: `dup` adds a reference, `close` drops one, the
//! last one closes the object.

use crate::error::{Error, Result};
use crate::{reserve, sys};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

const KIND_BITS: u32 = 5;
const INDEX_BITS: u32 = 22;
const GENERATION_BITS: u32 = 26;
const HUB_BITS: u32 = 10;
const INDEX_SHIFT: u32 = KIND_BITS;
const GENERATION_SHIFT: u32 = INDEX_SHIFT + INDEX_BITS;
const HUB_SHIFT: u32 = GENERATION_SHIFT + GENERATION_BITS;
const KIND_MASK: i64 = (1 << KIND_BITS) - 1;
const MAX_GENERATION: u32 = (1 << GENERATION_BITS) - 1;
pub const MAX_HUBS: usize = 1 << HUB_BITS;
/// The hub of a `Nowhere`.
const NOWHERE: usize = MAX_HUBS;
/// More references than anybody drops by mistake, see `Table::hold`.
const HOLD: u32 = 1 << 31;

/// What a handle stands for. The numbers are part of the ABI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Greenlet = 1,
    Hub = 2,
    Watcher = 3,
    Event = 4,
    Result = 5,
    Queue = 6,
    Semaphore = 7,
    Lock = 8,
    Condition = 9,
    RwLock = 10,
    Barrier = 11,
    Group = 12,
    Iterator = 13,
    Timeout = 14,
    Local = 15,
    ThreadPool = 16,
    Workers = 17,
    Imap = 18,
    Stream = 19,
    Server = 20,
    Process = 22,
    Channel = 23,
    Folder = 24,
    TlsConfig = 25,
    WebSocket = 26,
    HttpRequest = 28,
    HttpClient = 29,
    HttpResponse = 30,
    HttpConnection = 31,
}

/// The kind's number in a handle, whether or not the handle is alive.
#[inline]
pub fn kind_of(handle: i64) -> u8 {
    (handle & KIND_MASK) as u8
}

#[inline]
fn index_of(handle: i64) -> usize {
    (handle >> INDEX_SHIFT) as usize & ((1 << INDEX_BITS) - 1)
}

#[inline]
pub fn hub_of(handle: i64) -> usize {
    (handle >> HUB_SHIFT) as usize & (MAX_HUBS - 1)
}

/// An object that a table can hold.
///
/// # Safety
/// `close` is called once, with the pointer that was inserted; until then that
/// pointer is valid.
pub unsafe trait Object {
    const KIND: Kind;
    /// The last handle reference is gone: wake who waits, drop the table's share.
    ///
    /// # Safety
    /// `this` is the inserted pointer, and is not used through the table again.
    unsafe fn close(this: *const Self);
}

type CloseFn = unsafe fn(*const ());

/// All zero as long as it has not been used, so that the memory of a table which has just
/// doubled is not touched.
struct Slot {
    /// The handle given out last, or what `out_of_use` makes of it; 0 when there was none.
    handle: i64,
    object: *const (),
    close: Option<CloseFn>,
    refs: u32,
    /// How far behind the next slot the next free one is, modulo 2^32.
    next_free: u32,
}

/// A slot's place in bytes is a handle's index and as many zeros as a kind has bits.
const _: () = assert!(size_of::<Slot>() == 1 << INDEX_SHIFT);

/// What the slot of `handle` holds while that is not in use: a number with another index.
/// Whoever makes it up is not sent to this slot, so a match needs no second look.
#[inline(always)]
const fn out_of_use(handle: i64) -> i64 {
    handle ^ (1 << INDEX_SHIFT)
}

/// How many sorts of slots there are: of each kind below, and of all others together, which
/// come first.
const SORTS: usize = 4;
const GREENLETS: u8 = Kind::Greenlet as u8;
const QUEUES: u8 = Kind::Queue as u8;
const SEMAPHORES: u8 = Kind::Semaphore as u8;

#[inline(always)]
const fn sort_of(kind: u8) -> usize {
    match kind {
        GREENLETS => 1,
        QUEUES => 2,
        SEMAPHORES => 3,
        _ => 0,
    }
}

/// Slots that a sort begins with.
const FIRST: usize = 16;

/// The slots of objects of one sort.
struct Slots {
    /// The first slot, and where the last is behind it, in bytes. There are a power of two of
    /// them, so that looking up needs a mask and no bounds check.
    base: Cell<*mut Slot>,
    mask: Cell<usize>,
    /// Where the slots are when they are more than the `FIRST`.
    grown: UnsafeCell<Vec<Slot>>,
    /// The number of slots when none is free.
    first_free: Cell<u32>,
}

#[repr(C)]
pub struct Table {
    sorts: [Slots; SORTS],
    /// The first slots of every sort, so that a first object of its kind needs no memory.
    _first: Vec<Slot>,
    hub: usize,
    first_generation: u32,
    /// Handles from here on are of the last generation: see `may_be_renewed`.
    last_generation: i64,
    live: Cell<usize>,
}

/// So many slots that have not been used; none from the reserve, which is for small things.
fn unused(n: usize) -> Result<Vec<Slot>> {
    sys::may_fail(sys::Call::Alloc)?;
    let layout = Layout::array::<Slot>(n).map_err(|_| Error::NOMEM)?;
    // SAFETY: it has a size.
    let memory = unsafe { System.alloc_zeroed(layout) }.cast::<Slot>();
    if memory.is_null() {
        return Err(Error::NOMEM);
    }
    // SAFETY: memory for so many, which may be zero; malloc's, which our allocator gives back to it.
    Ok(unsafe { Vec::from_raw_parts(memory, n, n) })
}

/// A table in which nothing is, and nothing may be put.
#[repr(C)]
pub struct Nowhere(Table);

// SAFETY: nobody writes to it.
unsafe impl Sync for Nowhere {}

/// What its two slots hold: of any handle, a number with another index.
struct Neither([Slot; 2]);

// SAFETY: nobody writes to them.
unsafe impl Sync for Neither {}

static NEITHER: Neither = {
    const fn slot(handle: i64) -> Slot {
        Slot { handle, object: std::ptr::null(), close: None, refs: 0, next_free: 0 }
    }
    Neither([slot(out_of_use(0)), slot(0)])
};

impl Nowhere {
    pub const fn empty() -> Nowhere {
        const fn slots() -> Slots {
            Slots {
                base: Cell::new((&raw const NEITHER.0).cast::<Slot>().cast_mut()),
                mask: Cell::new(size_of::<Slot>()),
                grown: UnsafeCell::new(Vec::new()),
                first_free: Cell::new(2),
            }
        }
        Nowhere(Table {
            sorts: [const { slots() }; SORTS],
            _first: Vec::new(),
            hub: NOWHERE,
            first_generation: MAX_GENERATION,
            last_generation: 0,
            live: Cell::new(0),
        })
    }
}

unsafe fn close_erased<T: Object>(object: *const ()) {
    // SAFETY: only `insert::<T>` pairs this function with a pointer, of type T.
    unsafe { T::close(object.cast::<T>()) }
}

impl Slots {
    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn all(&self) -> &mut [Slot] {
        // SAFETY: `base` has so many. The table is used by one thread (or under one lock),
        // and no reference made here outlives the method that made it.
        unsafe { std::slice::from_raw_parts_mut(self.base.get(), self.len()) }
    }

    #[inline]
    fn len(&self) -> usize {
        self.mask.get() / size_of::<Slot>() + 1
    }

    /// Where the slot of `handle` would be, whatever that is.
    #[inline(always)]
    fn place(&self, handle: i64) -> *mut Slot {
        // SAFETY: the mask keeps us inside: there are at most as many slots as an index has
        // values, and it leaves nothing of the kind, so that the place is a slot's.
        unsafe { self.base.get().byte_add(handle as usize & self.mask.get()) }
    }

    #[cold]
    fn grow(&self) -> Result<()> {
        let old = self.all();
        let new = old.len() * 2;
        if new > 1 << INDEX_BITS {
            return Err(Error::NOMEM);
        }
        let mut grown = unused(new)?;
        // SAFETY: memory for more of them, where the old ones move.
        unsafe { std::ptr::copy_nonoverlapping(old.as_ptr(), grown.as_mut_ptr(), old.len()) };
        self.base.set(grown.as_mut_ptr());
        self.mask.set((new - 1) * size_of::<Slot>());
        // SAFETY: nothing points to those that are freed here.
        unsafe { *self.grown.get() = grown };
        Ok(())
    }

    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    fn slot(&self, handle: i64) -> Result<&mut Slot> {
        let slot = self.place(handle);
        // SAFETY: no other reference into the slots is alive. None is made where it is not the
        // handle's: then it may be that of a table for reading only.
        if unsafe { (*slot).handle } == handle { Ok(unsafe { &mut *slot }) } else { Err(Error::BADF) }
    }

    /// The handles in use.
    fn handles(&self) -> impl Iterator<Item = i64> {
        let is_in_use = |(index, slot): &(usize, &mut Slot)| index_of(slot.handle) == *index;
        self.all().iter_mut().enumerate().filter(is_in_use).map(|(_, slot)| slot.handle)
    }
}

impl Table {
    /// A table whose handles name `hub` and start at `first_generation`, which is
    /// above every generation an earlier hub of the same number has used.
    pub fn new(hub: usize, first_generation: u32) -> Result<Table> {
        let mut first = unused(SORTS * FIRST)?;
        let sorts = std::array::from_fn(|sort| {
            let slots = &mut first[sort * FIRST..(sort + 1) * FIRST];
            slots[0].handle = out_of_use(0); // the others hold a number with another index as it is
            Slots {
                base: Cell::new(slots.as_mut_ptr()),
                mask: Cell::new((FIRST - 1) * size_of::<Slot>()),
                grown: UnsafeCell::new(Vec::new()),
                first_free: Cell::new(0),
            }
        });
        let last_generation = first_of(hub, MAX_GENERATION);
        Ok(Table { sorts, _first: first, hub, first_generation, last_generation, live: Cell::new(0) })
    }

    #[inline(always)]
    pub fn is_nowhere(&self) -> bool {
        self.hub == NOWHERE
    }

    #[inline(always)]
    fn of(&self, kind: Kind) -> &Slots {
        &self.sorts[sort_of(kind as u8)]
    }

    #[inline(always)]
    fn slot_of<T: Object>(&self, handle: i64) -> Result<&mut Slot> {
        let slot = self.of(T::KIND).slot(handle)?;
        let is_alone = const { sort_of(T::KIND as u8) != 0 };
        if is_alone || kind_of(handle) == T::KIND as u8 { Ok(slot) } else { Err(Error::BADF) }
    }

    /// The slots where `handle` would be, whatever it is.
    #[inline(always)]
    fn place_of(&self, handle: i64) -> &Slots {
        &self.sorts[sort_of(kind_of(handle))]
    }

    /// Gives `object` a handle with one reference. ENOMEM also when `object` has its memory
    /// from the reserve.
    #[inline]
    pub fn insert<T: Object>(&self, object: *const T) -> Result<i64> {
        reserve::check()?;
        let slots = self.of(T::KIND);
        if slots.first_free.get() as usize >= slots.len() {
            slots.grow()?;
        }
        let index = slots.first_free.get();
        let slot = &mut slots.all()[index as usize];
        let generation = (generation_of(slot.handle) + 1).max(self.first_generation);
        let handle = first_of(self.hub, generation) | ((index as i64) << INDEX_SHIFT) | T::KIND as i64;
        // Lowest index first, so that handles are dense and deterministic.
        slots.first_free.set((index + 1).wrapping_add(slot.next_free));
        slot.handle = handle;
        slot.object = object.cast();
        slot.close = Some(close_erased::<T>);
        slot.refs = 1;
        self.live.set(self.live.get() + 1);
        Ok(handle)
    }

    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn slot(&self, handle: i64) -> Result<&mut Slot> {
        self.place_of(handle).slot(handle)
    }

    /// Takes a handle out of use and leaves its object in the slot, for `renew`.
    #[inline(always)]
    pub fn rest(&self, handle: i64) {
        if let Ok(slot) = self.slot(handle) {
            slot.handle = out_of_use(handle);
            self.live.set(self.live.get() - 1);
        }
    }

    /// Gives the object of a handle that rests the next one, with one reference. The
    /// handle, one of T's, `may_be_renewed`.
    #[inline(always)]
    pub fn renew<T: Object>(&self, resting: i64) -> i64 {
        let slots = self.of(T::KIND);
        let handle = resting + (1 << GENERATION_SHIFT);
        // SAFETY: as in `Slots::slot`; what rests has a slot.
        let slot = unsafe { &mut *slots.place(handle) };
        debug_assert!(slot.handle == out_of_use(resting) && may_be_renewed(resting));
        slot.handle = handle;
        slot.refs = 1;
        self.live.set(self.live.get() + 1);
        handle
    }

    /// Frees the slot of a handle that rests.
    pub fn free(&self, resting: i64) {
        let slots = self.place_of(resting);
        let index = index_of(resting);
        let slot = &mut slots.all()[index];
        slot.object = std::ptr::null();
        if may_be_renewed(resting) {
            slot.next_free = slots.first_free.get().wrapping_sub(index as u32 + 1);
            slots.first_free.set(index as u32);
        }
    }

    /// As `get`, and drops one reference; says how many are left.
    pub fn unref_object<T: Object>(&self, handle: i64) -> Result<(*const T, u32)> {
        let slot = self.slot_of::<T>(handle)?;
        slot.refs = slot.refs.checked_sub(1).ok_or(Error::BADF)?;
        Ok((slot.object.cast(), slot.refs))
    }

    /// Drops the one reference to a handle, and it rests, if its object `may_go` and it may be
    /// renewed. None, with nothing done, if not, or if there are more.
    #[inline(always)]
    pub fn rest_if<T: Object>(&self, handle: i64, may_go: impl Fn(*const T) -> bool) -> Option<*const T> {
        let slot = self.slot_of::<T>(handle).ok()?;
        let object = slot.object.cast();
        if slot.refs != 1 || handle >= self.last_generation || !may_go(object) {
            return None;
        }
        slot.handle = out_of_use(handle);
        self.live.set(self.live.get() - 1);
        Some(object)
    }

    /// The object behind a handle of kind `T::KIND`.
    #[inline(always)]
    pub fn get<T: Object>(&self, handle: i64) -> Result<*const T> {
        Ok(self.slot_of::<T>(handle)?.object.cast())
    }

    pub fn contains(&self, handle: i64) -> bool {
        self.slot(handle).is_ok()
    }

    /// One more reference.
    pub fn dup(&self, handle: i64) -> Result<()> {
        let slot = self.slot(handle)?;
        slot.refs = slot.refs.checked_add(1).ok_or(Error::OVERFLOW)?;
        Ok(())
    }

    /// Until `unhold` no `unref` drops the last reference.
    pub fn hold(&self, handle: i64) {
        if let Ok(slot) = self.slot(handle) {
            slot.refs += HOLD;
        }
    }

    /// One reference is left, whatever was done meanwhile.
    pub fn unhold(&self, handle: i64) {
        if let Ok(slot) = self.slot(handle) {
            slot.refs = slot.refs.saturating_sub(HOLD).max(1);
        }
    }

    /// References held, 0 for a greenlet that runs on after its handle was closed.
    pub fn refs(&self, handle: i64) -> Result<u32> {
        Ok(self.slot(handle)?.refs)
    }

    /// Drops one reference without closing; says how many are left.
    pub fn unref(&self, handle: i64) -> Result<u32> {
        let slot = self.slot(handle)?;
        slot.refs = slot.refs.checked_sub(1).ok_or(Error::BADF)?;
        Ok(slot.refs)
    }

    /// Takes the handle out of use and returns what closes its object.
    #[inline]
    pub fn remove(&self, handle: i64) -> Result<Closer> {
        let slot = self.slot(handle)?;
        let closer = Closer { object: slot.object, close: slot.close };
        self.rest(handle);
        self.free(handle);
        Ok(closer)
    }

    /// Every live handle, in order of index.
    pub fn handles(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.sorts.iter().flat_map(Slots::handles).collect();
        all.sort_by_key(|&h| index_of(h));
        all
    }

    /// Those of one kind.
    pub fn handles_of(&self, kind: Kind) -> Vec<i64> {
        self.of(kind).handles().filter(|&h| kind_of(h) == kind as u8).collect()
    }

    pub fn live(&self) -> usize {
        self.live.get()
    }

    /// One above the highest generation given out: where the next hub of this
    /// number starts.
    pub fn next_generation(&self) -> u32 {
        let used = self.sorts.iter().flat_map(|slots| slots.all().iter().map(|s| generation_of(s.handle) + 1));
        used.fold(self.first_generation, u32::max)
    }
}

/// The first handle of a hub's generation, if there were one.
#[inline]
fn first_of(hub: usize, generation: u32) -> i64 {
    ((hub as i64) << HUB_SHIFT) | ((generation as i64) << GENERATION_SHIFT)
}

#[inline]
fn generation_of(handle: i64) -> u32 {
    ((handle >> GENERATION_SHIFT) & MAX_GENERATION as i64) as u32
}

/// Whether the handle's slot can give out another one.
#[inline]
pub fn may_be_renewed(handle: i64) -> bool {
    generation_of(handle) < MAX_GENERATION
}

/// True when a new hub may start at `generation` and has room to live.
pub fn generation_is_usable(generation: u32) -> bool {
    generation < MAX_GENERATION / 2
}

/// What is left of a removed slot: the object, still to be closed. The caller
/// closes it after it has let go of the table (or its lock), because closing may
/// run code that uses the table.
pub struct Closer {
    object: *const (),
    close: Option<CloseFn>,
}

impl Closer {
    pub fn close(self) {
        if let Some(close) = self.close {
            // SAFETY: `insert` put the two together and `remove` took them out once.
            unsafe { close(self.object) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing;
    // SAFETY: close does nothing.
    unsafe impl Object for Thing {
        const KIND: Kind = Kind::Event;
        unsafe fn close(_: *const Thing) {}
    }
    struct Other;
    // SAFETY: close does nothing.
    unsafe impl Object for Other {
        const KIND: Kind = Kind::Queue;
        unsafe fn close(_: *const Other) {}
    }

    #[test]
    fn stale_handle_is_rejected_after_reuse() {
        let table = Table::new(1, 1).unwrap();
        let first = table.insert(&Thing).unwrap();
        table.remove(first).unwrap().close();
        let second = table.insert(&Thing).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.get::<Thing>(first).unwrap_err(), Error::BADF);
        assert!(table.get::<Thing>(second).is_ok());
    }

    #[test]
    fn wrong_kind_wrong_hub_and_noise_are_rejected() {
        let table = Table::new(1, 1).unwrap();
        let h = table.insert(&Thing).unwrap();
        assert!(table.get::<Other>(h).is_err());
        assert!(Table::new(2, 1).unwrap().get::<Thing>(h).is_err());
        for noise in [0, -1, i64::MIN, i64::MAX, h ^ (1 << 40), h + 1, h | i64::MIN] {
            assert!(table.get::<Thing>(noise).is_err());
        }
    }

    #[test]
    fn the_number_that_a_free_slot_holds_is_no_handle() {
        let table = Table::new(1, 1).unwrap();
        let is_a_handle = |made_up| {
            let any = table.contains(made_up) || table.dup(made_up).is_ok() || table.unref(made_up).is_ok();
            any || table.remove(made_up).is_ok() || table.get::<Thing>(made_up).is_ok()
        };
        let noise: Vec<i64> =
            (0..70).flat_map(|n| [n, n << INDEX_SHIFT, n << INDEX_SHIFT | Kind::Event as i64]).collect();
        assert!(!noise.iter().any(|&n| is_a_handle(n)), "without objects");
        let all: Vec<i64> = (0..20).map(|_| table.insert(&Thing).unwrap()).collect();
        assert!(!noise.iter().any(|&n| is_a_handle(n)), "with slots that were never used");
        all.iter().for_each(|&h| table.remove(h).unwrap().close());
        let held: Vec<i64> = table.of(Kind::Event).all().iter().map(|slot| slot.handle).collect();
        assert!(!held.iter().any(|&n| is_a_handle(n)), "with free ones");
        assert!(!all.iter().any(|&h| is_a_handle(h) || is_a_handle(out_of_use(h)) || is_a_handle(h | i64::MIN)));
    }

    #[test]
    fn nothing_is_found_nowhere() {
        static NOWHERE: Nowhere = Nowhere::empty();
        let table = Table::new(1, 1).unwrap();
        let all: Vec<i64> = (0..100).map(|_| table.insert(&Thing).unwrap()).collect();
        for h in all.into_iter().chain(0..1000).chain([-1, i64::MIN, i64::MAX]) {
            for any in [h, h & !KIND_MASK, h | Kind::Queue as i64, out_of_use(h)] {
                assert!(NOWHERE.0.get::<Thing>(any).is_err() && NOWHERE.0.get::<Other>(any).is_err());
                assert!(!NOWHERE.0.contains(any));
            }
        }
    }

    #[test]
    fn slot_is_retired_when_its_generation_is_used_up() {
        let table = Table::new(1, MAX_GENERATION).unwrap();
        let h = table.insert(&Thing).unwrap();
        table.remove(h).unwrap().close();
        let next = table.insert(&Thing).unwrap();
        assert_ne!(index_of(next), index_of(h));
    }

    #[test]
    fn a_renewed_handle_is_another_one_for_the_same_object() {
        let table = Table::new(1, 1).unwrap();
        let first = table.insert(&Thing).unwrap();
        table.rest(first);
        assert_eq!((table.get::<Thing>(first), table.live()), (Err(Error::BADF), 0));
        let second = table.renew::<Thing>(first);
        assert_ne!(first, second);
        assert!(table.get::<Thing>(first).is_err() && table.get::<Thing>(second).is_ok());
        assert_eq!((table.refs(second), table.live()), (Ok(1), 1));
        table.rest(second);
        table.free(second);
        let third = table.insert(&Thing).unwrap();
        assert_eq!(index_of(third), index_of(first));
        assert!(table.get::<Thing>(second).is_err());
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_not_renewed() {
        let table = Table::new(1, MAX_GENERATION - 1).unwrap();
        let first = table.insert(&Thing).unwrap();
        assert!(may_be_renewed(first));
        table.rest(first);
        let last = table.renew::<Thing>(first);
        assert!(!may_be_renewed(last));
        assert_eq!(table.rest_if::<Thing>(last, |_| true), None);
        let table = Table::new(1, MAX_GENERATION - 1).unwrap();
        assert!(table.rest_if::<Thing>(table.insert(&Thing).unwrap(), |_| true).is_some());
    }

    #[test]
    fn ten_thousand_handles_are_distinct() {
        let table = Table::new(3, 1).unwrap();
        let mut all: Vec<i64> = (0..10_000).map(|_| table.insert(&Thing).unwrap()).collect();
        assert_eq!(table.live(), 10_000);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(|&h| h > 0));
    }
}
