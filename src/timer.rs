//! Timers: a 4-ary heap whose entries cache their deadline, so that sifting does
//! not touch the timers themselves; each timer knows its place, so that cancelling
//! is a sift and not a search.
//!
//! Equal deadlines fire in the order they were set (the entry's sequence number).
//! Measured against a hashed wheel, the heap costs the same up to 100,000 timers
//! and a tenth more at a million, where page faults of the stacks dominate anyway.
//!
//! A timer is a node inside its owner (a greenlet, a watcher). The owner must
//! cancel it before it goes away.

use crate::error::{Error, Result};
use crate::sys;
use std::cell::{Cell, UnsafeCell};

const IDLE: u32 = u32::MAX;
const FANOUT: usize = 4;

/// Called when the timer is due, after it has left the heap.
pub type FireFn = unsafe fn(*const TimerNode);

pub struct TimerNode {
    place: Cell<u32>,
    /// Whether this timer alone keeps the loop running.
    pub counted: Cell<bool>,
    pub fire: Cell<FireFn>,
}

unsafe fn fire_nothing(_: *const TimerNode) {}

impl TimerNode {
    pub const fn new(fire: FireFn) -> TimerNode {
        TimerNode { place: Cell::new(IDLE), counted: Cell::new(true), fire: Cell::new(fire) }
    }

    #[inline]
    pub fn is_set(&self) -> bool {
        self.place.get() != IDLE
    }
}

impl Default for TimerNode {
    fn default() -> Self {
        TimerNode::new(fire_nothing)
    }
}

#[derive(Clone, Copy)]
struct Entry {
    deadline: i64,
    sequence: u64,
    node: *const TimerNode,
}

impl Entry {
    #[inline]
    fn before(&self, other: &Entry) -> bool {
        (self.deadline, self.sequence) < (other.deadline, other.sequence)
    }

    #[inline]
    fn node(&self) -> &TimerNode {
        // SAFETY: a node is in the heap only while its owner lives: owners cancel
        // before they go away.
        unsafe { &*self.node }
    }
}

#[derive(Default)]
pub struct Timers {
    heap: UnsafeCell<Vec<Entry>>,
    next_sequence: Cell<u64>,
    counted: Cell<usize>,
}

impl Timers {
    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn heap(&self) -> &mut Vec<Entry> {
        // SAFETY: one thread; no reference outlives the method that took it, and
        // none of the methods calls out while it holds one.
        unsafe { &mut *self.heap.get() }
    }

    /// Sets `node` for `deadline` (it must not be set). The node must stay where
    /// it is until it fires or is cancelled.
    pub fn set(&self, node: &TimerNode, deadline: i64) -> Result<()> {
        debug_assert!(!node.is_set());
        let heap = self.heap();
        if heap.len() == heap.capacity() {
            sys::may_fail(sys::Call::Alloc)?;
            heap.try_reserve(1).map_err(|_| Error::NOMEM)?;
        }
        let sequence = self.next_sequence.get();
        self.next_sequence.set(sequence + 1);
        heap.push(Entry { deadline, sequence, node });
        self.sift_up(heap.len() - 1);
        if node.counted.get() {
            self.counted.set(self.counted.get() + 1);
        }
        Ok(())
    }

    /// Cancels `node`; does nothing when it is not set.
    #[inline(always)]
    pub fn cancel(&self, node: &TimerNode) {
        if node.is_set() {
            self.remove_at(node.place.get() as usize);
        }
    }

    /// Changes whether `node` keeps the loop running.
    pub fn set_counted(&self, node: &TimerNode, counted: bool) {
        if node.counted.replace(counted) != counted && node.is_set() {
            let n = self.counted.get();
            self.counted.set(if counted { n + 1 } else { n - 1 });
        }
    }

    #[inline(never)]
    fn remove_at(&self, at: usize) {
        let heap = self.heap();
        let removed = heap.swap_remove(at);
        removed.node().place.set(IDLE);
        if removed.node().counted.get() {
            self.counted.set(self.counted.get() - 1);
        }
        if at < heap.len() {
            self.sift_down(at);
            self.sift_up(at);
        }
        // Give memory back after a burst, but not at every small swing.
        if heap.capacity() > 4096 && heap.len() < heap.capacity() / 4 {
            heap.shrink_to(heap.capacity() / 2);
        }
    }

    fn sift_up(&self, mut at: usize) {
        let heap = self.heap();
        let moving = heap[at];
        while at > 0 {
            let parent = (at - 1) / FANOUT;
            if !moving.before(&heap[parent]) {
                break;
            }
            heap[at] = heap[parent];
            heap[at].node().place.set(at as u32);
            at = parent;
        }
        heap[at] = moving;
        moving.node().place.set(at as u32);
    }

    fn sift_down(&self, mut at: usize) {
        let heap = self.heap();
        let moving = heap[at];
        loop {
            let first = at * FANOUT + 1;
            let Some(least) =
                (first..heap.len().min(first + FANOUT)).reduce(|a, b| if heap[b].before(&heap[a]) { b } else { a })
            else {
                break;
            };
            if !heap[least].before(&moving) {
                break;
            }
            heap[at] = heap[least];
            heap[at].node().place.set(at as u32);
            at = least;
        }
        heap[at] = moving;
        moving.node().place.set(at as u32);
    }

    /// When `node` is due, if it is set.
    pub fn deadline(&self, node: &TimerNode) -> Option<i64> {
        node.is_set().then(|| self.heap()[node.place.get() as usize].deadline)
    }

    /// When the next timer is due, if any is set.
    #[inline]
    pub fn next_due(&self) -> Option<i64> {
        self.heap().first().map(|e| e.deadline)
    }

    /// Whether a timer is set that keeps the loop running.
    #[inline]
    pub fn any_counted(&self) -> bool {
        self.counted.get() > 0
    }

    pub fn len(&self) -> usize {
        self.heap().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A mark for `pop_due`: timers set from here on are left for the next turn.
    pub fn mark(&self) -> u64 {
        self.next_sequence.get()
    }

    /// Takes out one timer that is due at `now` and was set before `mark`. A timer
    /// set by a callback for "now" has a later sequence, so a timer that re-arms
    /// itself with zero can not keep the turn from going on to I/O.
    #[inline]
    pub fn pop_due(&self, now: i64, mark: u64) -> Option<*const TimerNode> {
        let first = self.heap().first()?;
        if first.deadline > now || first.sequence >= mark {
            return None;
        }
        let node = first.node;
        self.remove_at(0);
        Some(node)
    }

    /// Forgets everything (in a forked child).
    pub fn clear(&self) {
        for e in std::mem::take(self.heap()) {
            e.node().place.set(IDLE);
        }
        self.counted.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(timers: &Timers, nodes: &[TimerNode], now: i64) -> Vec<usize> {
        let mark = timers.mark();
        std::iter::from_fn(|| timers.pop_due(now, mark))
            .map(|p| nodes.iter().position(|n| std::ptr::eq(n, p)).unwrap())
            .collect()
    }

    #[test]
    fn timers_fire_by_deadline_then_in_the_order_they_were_set() {
        let timers = Timers::default();
        let nodes: Vec<TimerNode> = (0..1000).map(|_| TimerNode::default()).collect();
        let due = |i: usize| (i as i64 * 7919) % 10;
        for (i, n) in nodes.iter().enumerate() {
            timers.set(n, due(i)).unwrap();
        }
        let mut expected: Vec<usize> = (0..1000).collect();
        expected.sort_by_key(|&i| due(i));
        assert_eq!(drain(&timers, &nodes, 100), expected);
        assert!(timers.is_empty() && !timers.any_counted());
    }

    #[test]
    fn cancelled_timers_do_not_fire() {
        let timers = Timers::default();
        let nodes: Vec<TimerNode> = (0..100).map(|_| TimerNode::default()).collect();
        for (i, n) in nodes.iter().enumerate() {
            timers.set(n, (i as i64 * 37) % 50).unwrap();
        }
        nodes.iter().step_by(3).for_each(|n| timers.cancel(n));
        let fired = drain(&timers, &nodes, 100);
        assert!(fired.iter().all(|i| i % 3 != 0));
        assert_eq!(fired.len(), 66);
    }

    #[test]
    fn timer_set_while_draining_waits_for_the_next_turn() {
        let timers = Timers::default();
        let (a, b) = (TimerNode::default(), TimerNode::default());
        timers.set(&a, 5).unwrap();
        let mark = timers.mark();
        assert!(timers.pop_due(10, mark).is_some());
        timers.set(&b, 5).unwrap();
        assert!(timers.pop_due(10, mark).is_none());
        assert!(timers.pop_due(10, timers.mark()).is_some());
    }

    #[test]
    fn a_million_set_and_cancel_gives_memory_back() {
        let timers = Timers::default();
        let nodes: Vec<TimerNode> = (0..1_000_000).map(|_| TimerNode::default()).collect();
        for (i, n) in nodes.iter().enumerate() {
            timers.set(n, i as i64).unwrap();
        }
        nodes.iter().for_each(|n| timers.cancel(n));
        assert!(timers.heap().capacity() <= 8192);
    }
}
