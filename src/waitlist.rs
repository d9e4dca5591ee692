//! Lists of waiting greenlets, first in, first out.
//!
//! A node says who waits, and has a slot through which a value is handed over. It
//! lies in the greenlet's record (or, for a wait on many things, in an array that
//! the record owns), never on a stack: a stack may be abandoned, a record never is
//! while it is linked.
//!
//! A *taker* gets what it waits for handed to it and leaves the list; an *observer*
//! is only told to look again.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Taker,
    Observer,
    /// A taker of the second sort, where an object has two (readers and writers).
    Alternate,
}

#[repr(C)]
pub struct WaitNode {
    next: Cell<*const WaitNode>,
    prev: Cell<*const WaitNode>,
    list: Cell<*const WaitList>,
    pub value: Cell<*mut c_void>,
    /// The greenlet that waits (untyped here: greenlets are built on this).
    pub owner: Cell<*const ()>,
    pub role: Cell<Role>,
    pub granted: Cell<bool>,
    /// The wait was ended by its object (closed, shut, broken), not from outside.
    pub refused: Cell<bool>,
    /// A taker that is parked until it is granted or refused, with no timer: who hands over
    /// to it has nothing else to look at.
    pub is_plain: Cell<bool>,
    /// When the value was handed over, to put it back in its place: the low half of a
    /// count.
    pub arrival: Cell<u32>,
}

impl Default for WaitNode {
    fn default() -> WaitNode {
        WaitNode {
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            list: Cell::new(ptr::null()),
            owner: Cell::new(ptr::null()),
            value: Cell::new(ptr::null_mut()),
            role: Cell::new(Role::Taker),
            granted: Cell::new(false),
            refused: Cell::new(false),
            is_plain: Cell::new(false),
            arrival: Cell::new(0),
        }
    }
}

impl WaitNode {
    #[inline]
    pub fn is_linked(&self) -> bool {
        !self.list.get().is_null()
    }

    /// Leaves the list it is in, if any.
    #[inline]
    pub fn unlink(&self) {
        // SAFETY: a list unlinks all its nodes before it goes away.
        if let Some(list) = unsafe { self.list.get().as_ref() } {
            list.remove(self);
        }
    }
}

pub struct WaitList {
    first: Cell<*const WaitNode>,
    last: Cell<*const WaitNode>,
}

impl Default for WaitList {
    fn default() -> WaitList {
        WaitList { first: Cell::new(ptr::null()), last: Cell::new(ptr::null()) }
    }
}

impl WaitList {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.get().is_null()
    }

    /// Appends the node of a greenlet that is about to wait.
    #[inline(always)]
    pub fn enter(&self, node: &WaitNode, role: Role, value: *mut c_void) {
        self.enter_as(node, role, false, value);
    }

    /// As `enter`, as a taker that `is_plain`.
    #[inline(always)]
    pub fn enter_plainly(&self, node: &WaitNode, value: *mut c_void) {
        self.enter_as(node, Role::Taker, true, value);
    }

    #[inline(always)]
    fn enter_as(&self, node: &WaitNode, role: Role, is_plain: bool, value: *mut c_void) {
        node.value.set(value);
        // These four are set at once.
        node.role.set(role);
        node.granted.set(false);
        node.refused.set(false);
        node.is_plain.set(is_plain);
        self.push(node);
    }

    /// Appends a node. Node and list stay where they are while linked: nodes are in
    /// records, lists in boxed objects.
    #[inline]
    pub fn push(&self, node: &WaitNode) {
        debug_assert!(!node.is_linked());
        let last = self.last.get();
        node.prev.set(last);
        node.next.set(ptr::null());
        node.list.set(self);
        // SAFETY: linked nodes are alive.
        match unsafe { last.as_ref() } {
            Some(l) => l.next.set(node),
            None => self.first.set(node),
        }
        self.last.set(node);
    }

    #[inline(always)]
    fn remove(&self, node: &WaitNode) {
        let (prev, next) = (node.prev.get(), node.next.get());
        // SAFETY: linked nodes are alive.
        match unsafe { prev.as_ref() } {
            Some(p) => p.next.set(next),
            None => self.first.set(next),
        }
        // SAFETY: linked nodes are alive.
        match unsafe { next.as_ref() } {
            Some(n) => n.prev.set(prev),
            None => self.last.set(prev),
        }
        node.list.set(ptr::null());
    }

    #[inline]
    pub fn first(&self) -> Option<&WaitNode> {
        // SAFETY: linked nodes are alive.
        unsafe { self.first.get().as_ref() }
    }

    /// Takes out the first node.
    #[inline]
    pub fn pop(&self) -> Option<&WaitNode> {
        let first = self.first()?;
        self.remove_first(first);
        Some(first)
    }

    /// Takes out `first`, which is the first node.
    #[inline(always)]
    pub fn remove_first(&self, first: &WaitNode) {
        let next = first.next.get();
        self.first.set(next);
        // SAFETY: linked nodes are alive.
        match unsafe { next.as_ref() } {
            Some(n) => n.prev.set(ptr::null()),
            None => self.last.set(ptr::null()),
        }
        first.list.set(ptr::null());
    }

    /// The nodes as they are now; the list must not change while iterating.
    pub fn iter(&self) -> impl Iterator<Item = &WaitNode> {
        // SAFETY: linked nodes are alive.
        std::iter::successors(self.first(), |n| unsafe { n.next.get().as_ref() })
    }
}

impl Drop for WaitList {
    fn drop(&mut self) {
        // Objects wake their waiters before they go; a list that dies otherwise (an
        // abandoned hub) must still not be pointed at.
        while self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_leave_in_the_order_they_came() {
        let list = WaitList::default();
        let nodes: Vec<WaitNode> = (0..5).map(|_| WaitNode::default()).collect();
        nodes.iter().for_each(|n| list.push(n));
        nodes[0].unlink();
        nodes[2].unlink();
        nodes[4].unlink();
        nodes[4].unlink();
        let left: Vec<_> = std::iter::from_fn(|| list.pop().map(|n| n as *const _)).collect();
        assert_eq!(left, vec![&nodes[1] as *const _, &nodes[3] as *const _]);
        assert!(list.is_empty());
    }

    #[test]
    fn a_list_that_dies_lets_go_of_its_nodes() {
        let node = WaitNode::default();
        {
            let list = WaitList::default();
            list.push(&node);
        }
        assert!(!node.is_linked());
    }
}
