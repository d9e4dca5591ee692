//! Queues of pointers: first in first out, last in first out, by priority; bounded,
//! unbounded, or without room at all (a rendezvous: put waits for its get).
//!
//! ```text
//! putters (wait for room) --> items (at most `capacity`) --> getters (wait for items)
//! ```
//! Putters wait only while the queue is full and getters only while it is empty, so
//! at most one of the two lists has takers in it.

use crate::error::{Error, Result};
use crate::greenlet::{DestroyFn, Waiting};
use crate::handle::Kind;
use crate::hub::{Callback, Hub};
use crate::object::{destroy, insert, keep};
use crate::ready::Ring;
use crate::time::Deadline;
use crate::wait::{AtHand, Waited};
use crate::waitlist::{Role, WaitList};
use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};

type Item = *mut c_void;
pub type CompareFn = extern "C-unwind" fn(*const c_void, *const c_void) -> c_int;

/// In which order items leave.
#[derive(Clone, Copy)]
pub enum Order {
    Fifo,
    Lifo,
    /// The least by the comparator first, equal ones in the order they came.
    Priority(CompareFn),
}

/// The items of a queue. Used by one thread at a time (or under a lock).
pub struct Store {
    order: Order,
    /// The items of a first-in-first-out queue.
    fifo: Ring<c_void>,
    /// Those of the other sorts: a stack, or a heap.
    items: Vec<Item>,
    /// Arrival numbers, for a priority queue only, in step with `items`.
    arrivals: Vec<u64>,
    next_arrival: u64,
    /// Items that were handed over and came back, by arrival; all of them older than
    /// `items`. Not used by a priority queue, which sorts them in.
    returned: VecDeque<(u64, Item)>,
}

impl Store {
    pub fn new(order: Order) -> Store {
        Store {
            order,
            fifo: Ring::default(),
            items: Vec::new(),
            arrivals: Vec::new(),
            next_arrival: 0,
            returned: VecDeque::new(),
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.fifo.len() + self.items.len() + self.returned.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for one more; and for as many as have come back, because when these
    /// leave, items of putters that wait now take their places.
    pub fn reserve(&mut self) -> Result<()> {
        if let Order::Fifo = self.order {
            if self.returned.is_empty() && self.fifo.has_room() {
                return Ok(());
            }
            crate::sys::may_fail(crate::sys::Call::Alloc)?;
            return self.fifo.make_room_for(self.len() + 1);
        }
        if self.len() >= self.items.capacity() {
            crate::sys::may_fail(crate::sys::Call::Alloc)?;
            self.items.try_reserve(self.returned.len() + 1).map_err(|_| Error::NOMEM)?;
            self.arrivals.try_reserve(self.returned.len() + 1).map_err(|_| Error::NOMEM)?;
        }
        Ok(())
    }

    /// The arrival number of an item that is handed over past the store.
    pub fn arrive(&mut self) -> u64 {
        self.next_arrival += 1;
        self.next_arrival
    }

    /// The arrival number whose low half is `low`, one of the last 2^32.
    pub fn arrival_of(&self, low: u32) -> u64 {
        self.next_arrival - u64::from((self.next_arrival as u32).wrapping_sub(low))
    }

    #[inline]
    pub fn push(&mut self, item: Item) {
        match self.order {
            Order::Priority(compare) => {
                let arrival = self.arrive();
                self.sort_in(compare, item, arrival);
            }
            Order::Lifo => self.items.push(item),
            Order::Fifo => self.fifo.push(item),
        }
    }

    fn sort_in(&mut self, compare: CompareFn, item: Item, arrival: u64) {
        let _unsuspended = Hub::unsuspended();
        self.items.push(item);
        self.arrivals.push(arrival);
        self.sift_up(compare, self.items.len() - 1);
    }

    /// Puts an item back that was handed over as number `arrival`, in its old place.
    pub fn put_back(&mut self, item: Item, arrival: u64) {
        if let Order::Priority(compare) = self.order {
            return self.sort_in(compare, item, arrival);
        }
        let place = self.returned.partition_point(|(a, _)| *a < arrival);
        self.returned.insert(place, (arrival, item));
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Item> {
        if !self.returned.is_empty() {
            return self.pop_returned();
        }
        match self.order {
            Order::Fifo => self.fifo.pop().map(<*const c_void>::cast_mut),
            Order::Lifo => self.items.pop(),
            Order::Priority(compare) => self.pop_least(compare),
        }
    }

    #[cold]
    fn pop_returned(&mut self) -> Option<Item> {
        match self.order {
            Order::Lifo => self.items.pop().or_else(|| self.returned.pop_back().map(|r| r.1)),
            _ => self.returned.pop_front().map(|r| r.1),
        }
    }

    pub fn peek(&self) -> Option<Item> {
        match self.order {
            Order::Lifo => self.items.last().copied().or(self.returned.back().map(|r| r.1)),
            Order::Priority(_) => self.items.first().copied(),
            Order::Fifo => self.returned.front().map(|r| r.1).or(self.fifo.peek(0).map(<*const c_void>::cast_mut)),
        }
    }

    fn before(&self, compare: CompareFn, a: usize, b: usize) -> bool {
        match compare(self.items[a], self.items[b]) {
            0 => self.arrivals[a] < self.arrivals[b],
            order => order < 0,
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
        self.arrivals.swap(a, b);
    }

    fn sift_up(&mut self, compare: CompareFn, mut at: usize) {
        while at > 0 && self.before(compare, at, (at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn pop_least(&mut self, compare: CompareFn) -> Option<Item> {
        let _unsuspended = Hub::unsuspended();
        let last = self.items.len().checked_sub(1)?;
        self.swap(0, last);
        let least = self.items.pop();
        self.arrivals.pop();
        let mut at = 0;
        loop {
            let children = (2 * at + 1..last).take(2);
            let Some(child) = children.reduce(|a, b| if self.before(compare, b, a) { b } else { a }) else {
                return least;
            };
            if !self.before(compare, child, at) {
                return least;
            }
            self.swap(at, child);
            at = child;
        }
    }
}

pub struct Queue {
    store: UnsafeCell<Store>,
    capacity: usize,
    destroy: Option<DestroyFn>,
    pub getters: WaitList,
    putters: WaitList,
    shut: Cell<bool>,
    /// See `look_whether_plain`.
    plain: Cell<bool>,
    /// A priority queue: working on its store calls the user's comparator.
    is_sorted: bool,
    /// The comparator runs, and nothing else may touch the store.
    busy: Cell<bool>,
    /// Items put and not yet done, for `join`.
    unfinished: Cell<usize>,
    joiners: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Queue, Kind::Queue);

impl Queue {
    pub fn create(hub: &Hub, order: Order, capacity: usize, destroy: Option<DestroyFn>) -> Result<i64> {
        let queue = Queue {
            store: UnsafeCell::new(Store::new(order)),
            capacity,
            destroy,
            getters: WaitList::default(),
            putters: WaitList::default(),
            shut: Cell::new(false),
            plain: Cell::new(matches!(order, Order::Fifo)),
            is_sorted: matches!(order, Order::Priority(_)),
            busy: Cell::new(false),
            unfinished: Cell::new(0),
            joiners: WaitList::default(),
            handle: Cell::new(0),
        };
        let handle = insert(hub, queue)?;
        crate::object::get::<Queue>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn store(&self) -> &mut Store {
        // SAFETY: one thread; no reference is held over a suspension. The comparator of a
        // priority queue runs under one: then the queue is busy, which `free` refuses to
        // everybody outside this file, and `closed` minds.
        unsafe { &mut *self.store.get() }
    }

    /// The queue behind a handle, if it is free.
    #[inline(always)]
    pub fn get_free(hub: &Hub, handle: i64) -> Result<&Queue> {
        crate::object::get::<Queue>(hub, handle)?.free()
    }

    /// EBUSY for a comparator that uses its own queue.
    #[inline(always)]
    pub fn free(&self) -> Result<&Queue> {
        if self.busy.get() { Err(Error::BUSY) } else { Ok(self) }
    }

    /// Works on the store of a priority queue, whose comparator may even close the queue.
    #[cold]
    fn sorted<R>(&self, hub: &Hub, work: impl FnOnce(&mut Store) -> R) -> R {
        struct Busy<'q>(&'q Cell<bool>);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        let this = keep(self);
        this.busy.set(true);
        let busy = Busy(&this.busy);
        let result = work(this.store());
        drop(busy);
        if this.handle_is_closed(hub) {
            this.drain(hub);
            // Our callers go on with the queue: it stays until the loop's next turn.
            hub.later(Callback::Task(Box::new(move |_| drop(this))));
        }
        result
    }

    #[inline(always)]
    fn push(&self, hub: &Hub, item: Item) {
        if self.is_sorted { self.sorted(hub, |store| store.push(item)) } else { self.store().push(item) }
    }

    #[inline(always)]
    fn pop(&self, hub: &Hub) -> Option<Item> {
        if self.is_sorted { self.sorted(hub, Store::pop) } else { self.store().pop() }
    }

    fn closed(&self, hub: &Hub) {
        self.shut.set(true);
        hub.refuse_all(&self.getters, Error::BADF);
        hub.refuse_all(&self.putters, Error::BADF);
        hub.refuse_all(&self.joiners, Error::BADF);
        if !self.busy.get() {
            self.look_whether_plain();
            self.drain(hub);
        } // or else by its own comparator: `sorted` goes on
    }

    fn drain(&self, hub: &Hub) {
        while let Some(item) = self.store().pop() {
            destroy(hub, self.destroy, item);
        }
    }

    pub fn len(&self) -> usize {
        self.store().len()
    }

    pub fn is_empty(&self) -> bool {
        self.store().is_empty() && self.putters.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.store().len() >= self.capacity
    }

    /// A get would not wait.
    pub fn is_ready(&self) -> bool {
        !self.is_empty() || self.shut.get()
    }

    fn why(&self) -> Waiting {
        Waiting::Object(self.handle.get())
    }

    // ---- the short way -----------------------------------------------------------

    /// Puts into a plain queue that has room, or gives to who waits for it, where there is
    /// nothing to look at first. Otherwise everything is as it was.
    #[inline(always)]
    pub fn try_put(&self, hub: &Hub, item: Item) -> AtHand<()> {
        let store = self.store();
        if !self.plain.get() || hub.current().attention.get() != 0 {
            return AtHand::Unknown;
        }
        match self.getters.first() {
            None if store.fifo.len() < self.capacity && store.fifo.has_room() => store.fifo.push(item),
            None if self.capacity == 0 => return AtHand::MustWait,
            Some(node) if hub.grant_first(&self.getters, node) => {
                node.value.set(item);
                node.arrival.set(store.arrive() as u32);
            }
            _ => return AtHand::Unknown,
        }
        self.unfinished.set(self.unfinished.get() + 1);
        AtHand::Done(())
    }

    /// Gets from a plain queue, or from who waits to put into an empty one.
    #[inline(always)]
    pub fn try_get(&self, hub: &Hub) -> AtHand<Item> {
        if !self.plain.get() || hub.current().attention.get() != 0 {
            return AtHand::Unknown;
        }
        let Some(node) = self.putters.first() else {
            return match self.store().fifo.pop() {
                Some(item) => AtHand::Done(item.cast_mut()),
                None => AtHand::MustWait,
            };
        };
        if !self.store().fifo.is_empty() || !hub.grant_first(&self.putters, node) {
            return AtHand::Unknown;
        }
        self.unfinished.set(self.unfinished.get() + 1);
        AtHand::Done(node.value.get())
    }

    /// What is left to do where `try_put` found that it must wait, see `Hub::wait_plainly_in`.
    #[inline(always)]
    pub fn put_plainly(&self, hub: &Hub, item: Item) -> Result<()> {
        put_outcome(hub.wait_plainly_in(&self.putters, item, self.why()))
    }

    #[inline(always)]
    pub fn get_plainly(&self, hub: &Hub) -> Result<Item> {
        let this = keep(self);
        let waited = hub.wait_plainly_in(&this.getters, std::ptr::null_mut(), this.why());
        this.got(hub, waited)
    }

    /// Whether the short way may be taken at all: nothing but a ring of items.
    fn look_whether_plain(&self) {
        let store = self.store();
        self.plain.set(!self.shut.get() && store.returned.is_empty() && matches!(store.order, Order::Fifo));
    }

    // ---- put -------------------------------------------------------------------

    #[inline(always)]
    pub fn put(&self, hub: &Hub, item: Item, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if self.shut.get() {
            return Err(Error::PIPE);
        }
        if !self.getters.is_empty()
            && let Some(node) = hub.first_taker(&self.getters)
        {
            self.getters.remove_first(node);
            node.value.set(item);
            node.arrival.set(self.store().arrive() as u32);
            self.unfinished.set(self.unfinished.get() + 1);
            hub.grant(node);
            return Ok(());
        }
        let store = self.store();
        if store.len() < self.capacity {
            store.reserve()?;
            self.push(hub, item);
            self.unfinished.set(self.unfinished.get() + 1);
            return Ok(());
        }
        self.put_by_waiting(hub, item, deadline)
    }

    #[inline(always)]
    fn put_by_waiting(&self, hub: &Hub, item: Item, deadline: Deadline) -> Result<()> {
        // Room for the day when a getter moves our item in; none does in a rendezvous.
        if self.capacity > 0 {
            self.store().reserve()?;
        }
        put_outcome(hub.wait_in(&self.putters, Role::Taker, item, deadline, self.why()))
    }

    // ---- get -------------------------------------------------------------------

    #[inline(always)]
    pub fn get(&self, hub: &Hub, deadline: Deadline) -> Result<Item> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if let Some(item) = self.pop(hub) {
            if !self.plain.get() {
                self.look_whether_plain();
            }
            if !self.putters.is_empty() {
                self.refill(hub);
            }
            return Ok(item);
        }
        if let Some(item) = self.take_from_putter(hub) {
            return Ok(item);
        }
        self.get_by_waiting(hub, deadline)
    }

    #[inline(always)]
    fn get_by_waiting(&self, hub: &Hub, deadline: Deadline) -> Result<Item> {
        if self.shut.get() {
            return Err(Error::PIPE);
        }
        let this = keep(self);
        let waited = hub.wait_in(&this.getters, Role::Taker, std::ptr::null_mut(), deadline, this.why());
        this.got(hub, waited)
    }

    #[inline(always)]
    fn got(&self, hub: &Hub, waited: Waited) -> Result<Item> {
        match waited {
            Waited::Granted(item) => Ok(item),
            Waited::Returned(item, e) => {
                self.give_back(hub, item, self.store().arrival_of(hub.current().node.arrival.get()));
                Err(e)
            }
            Waited::Failed(e) => Err(e),
        }
    }

    /// Moves the items of waiting putters into the room there is now.
    fn refill(&self, hub: &Hub) {
        while self.store().len() < self.capacity
            && let Some(item) = self.take_from_putter(hub)
        {
            self.push(hub, item);
        }
    }

    #[inline(always)]
    fn take_from_putter(&self, hub: &Hub) -> Option<Item> {
        let node = hub.first_taker(&self.putters)?;
        self.putters.remove_first(node);
        self.unfinished.set(self.unfinished.get() + 1);
        let item = node.value.get();
        hub.grant(node);
        Some(item)
    }

    /// An item whose getter was killed goes to the next getter, or to the front. It
    /// may stand one above the capacity; it was in the queue before.
    #[cold]
    #[inline(never)]
    fn give_back(&self, hub: &Hub, item: Item, arrival: u64) {
        if self.handle_is_closed(hub) {
            return destroy(hub, self.destroy, item);
        }
        match hub.first_taker(&self.getters) {
            Some(node) => {
                node.unlink();
                node.value.set(item);
                node.arrival.set(arrival as u32);
                hub.grant(node);
            }
            None => {
                match self.is_sorted {
                    true => self.sorted(hub, |store| store.put_back(item, arrival)),
                    false => self.store().put_back(item, arrival),
                }
                self.look_whether_plain();
            }
        }
    }

    fn handle_is_closed(&self, hub: &Hub) -> bool {
        !hub.table.contains(self.handle.get())
    }

    /// The item that `get` would return, left where it is.
    pub fn peek(&self, hub: &Hub, deadline: Deadline) -> Result<Item> {
        if !deadline.is_now() {
            hub.check()?;
        }
        let this = keep(self);
        loop {
            let waiting = this.putters.iter().find(|n| n.role.get() != Role::Observer);
            if let Some(item) = this.store().peek().or(waiting.map(|n| n.value.get())) {
                return Ok(item);
            }
            if this.shut.get() {
                return Err(Error::PIPE);
            }
            // An observer: told when something comes, then it looks again.
            match hub.wait_in(&this.getters, Role::Observer, std::ptr::null_mut(), deadline, this.why()) {
                Waited::Granted(_) => hub.check()?,
                Waited::Returned(_, e) | Waited::Failed(e) => return Err(e),
            }
        }
    }

    // ---- the end ---------------------------------------------------------------

    /// No more puts: what is in is drained, then gets fail with EPIPE.
    pub fn shut(&self, hub: &Hub) {
        self.shut.set(true);
        self.look_whether_plain();
        hub.refuse_all(&self.putters, Error::PIPE);
        while let Some(node) = self.getters.pop() {
            match node.role.get() {
                Role::Observer => hub.grant(node),
                _ => hub.refuse(node, Error::PIPE),
            }
        }
    }

    /// One item that was got has been dealt with.
    pub fn task_done(&self, hub: &Hub) -> Result<()> {
        let left = self.unfinished.get().checked_sub(1).ok_or(Error::OVERFLOW)?;
        self.unfinished.set(left);
        if left == 0 {
            while let Some(node) = self.joiners.pop() {
                hub.grant(node);
            }
        }
        Ok(())
    }

    /// Waits until everything that was put has been dealt with.
    pub fn join(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if self.unfinished.get() == 0 {
            return Ok(());
        }
        let this = keep(self);
        match hub.wait_in(&this.joiners, Role::Taker, std::ptr::null_mut(), deadline, this.why()) {
            Waited::Granted(_) => Ok(()),
            Waited::Returned(_, e) | Waited::Failed(e) => Err(e),
        }
    }
}

#[inline(always)]
fn put_outcome(waited: Waited) -> Result<()> {
    match waited {
        // Taken is taken, even if we were killed since: the next call will fail.
        Waited::Granted(_) | Waited::Returned(..) => Ok(()),
        Waited::Failed(e) => Err(e),
    }
}
