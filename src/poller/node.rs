//! Somebody's interest in a descriptor, a node in the list of its slot.

use std::cell::Cell;
use std::os::fd::RawFd;

pub type NotifyFn = unsafe fn(*const FdNode);

/// Before anything was waited for.
pub(super) const LONG_AGO: i64 = i64::MIN / 2;

/// Somebody's interest in a descriptor. Its owner removes it before going away.
pub struct FdNode {
    pub(super) fd: Cell<RawFd>,
    pub(super) wanted: Cell<u32>,
    /// What came, valid when `notify` is called.
    pub got: Cell<u32>,
    /// Only one exclusive node may want a direction of a descriptor.
    pub(super) exclusive: Cell<bool>,
    /// Stays linked when notified (watchers).
    pub(super) persistent: Cell<bool>,
    /// Began on a registration that has not been verified since.
    pub(super) trusting: Cell<bool>,
    pub(super) notify: Cell<NotifyFn>,
    pub(super) next: Cell<*const FdNode>,
    pub(super) prev: Cell<*const FdNode>,
    pub(super) linked: Cell<bool>,
    /// When its wait for this descriptor began, or an event proved the registration meanwhile.
    pub(super) since: Cell<i64>,
}

impl FdNode {
    pub const fn new(notify: NotifyFn) -> FdNode {
        FdNode {
            fd: Cell::new(-1),
            wanted: Cell::new(0),
            got: Cell::new(0),
            exclusive: Cell::new(false),
            persistent: Cell::new(false),
            trusting: Cell::new(false),
            notify: Cell::new(notify),
            next: Cell::new(std::ptr::null()),
            prev: Cell::new(std::ptr::null()),
            linked: Cell::new(false),
            since: Cell::new(LONG_AGO),
        }
    }

    pub fn exclusive(self) -> FdNode {
        self.exclusive.set(true);
        self
    }

    pub fn persistent(self) -> FdNode {
        self.persistent.set(true);
        self
    }

    pub fn is_linked(&self) -> bool {
        self.linked.get()
    }

    pub fn fd(&self) -> RawFd {
        self.fd.get()
    }
}
