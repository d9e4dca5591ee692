//! Locks: owned by a greenlet, handed on in order. A reentrant lock may be taken
//! again by its owner.

use crate::error::{Error, Result};
use crate::greenlet::{Greenlet, Waiting};
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::insert;
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::Cell;

pub struct Lock {
    /// The owner's handle; 0 when free.
    owner: Cell<i64>,
    /// How often the owner has taken it.
    depth: Cell<u64>,
    reentrant: bool,
    pub waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Lock, Kind::Lock);

impl Lock {
    pub fn create(hub: &Hub, reentrant: bool) -> Result<i64> {
        let lock = Lock {
            owner: Cell::new(0),
            depth: Cell::new(0),
            reentrant,
            waiters: WaitList::default(),
            handle: Cell::new(0),
        };
        let handle = insert(hub, lock)?;
        crate::object::get::<Lock>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
    }

    pub fn is_held(&self) -> bool {
        self.owner.get() != 0
    }

    pub fn is_held_by(&self, g: &Greenlet) -> bool {
        self.owner.get() == g.handle.get() && self.is_held()
    }

    /// Takes the lock if it is free, unless there is something to look at first.
    #[inline(always)]
    pub fn try_acquire(&self, hub: &Hub) -> bool {
        let g = hub.current();
        if self.owner.get() != 0 || g.attention.get() != 0 || g.handle.get() == 0 {
            return false;
        }
        self.owner.set(g.handle.get());
        self.depth.set(1);
        true
    }

    #[inline(always)]
    pub fn acquire(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        let me = hub.current().handle.get();
        if self.owner.get() == 0 && me != 0 {
            self.owner.set(me);
            self.depth.set(1);
            return Ok(());
        }
        self.acquire_held(hub, me, deadline)
    }

    #[inline(always)]
    fn acquire_held(&self, hub: &Hub, me: i64, deadline: Deadline) -> Result<()> {
        if me == 0 {
            return Err(Error::WOULDBLOCK); // the loop can not own a lock
        }
        if self.owner.get() == me {
            if !self.reentrant {
                return Err(if deadline.is_now() { Error::AGAIN } else { Error::DEADLK });
            }
            self.depth.set(self.depth.get() + 1);
            return Ok(());
        }
        let handle = self.handle.get();
        match hub.wait_in(&self.waiters, Role::Taker, std::ptr::null_mut(), deadline, Waiting::Object(handle)) {
            Waited::Granted(_) => Ok(()),
            Waited::Returned(_, e) => {
                give_back(hub, handle);
                Err(e)
            }
            Waited::Failed(e) => Err(e),
        }
    }

    #[inline(always)]
    pub fn release(&self, hub: &Hub) -> Result<()> {
        if !self.is_held_by(hub.current()) {
            return Err(Error::PERM);
        }
        let depth = self.depth.get() - 1;
        self.depth.set(depth);
        if depth == 0 {
            self.hand_on(hub);
        }
        Ok(())
    }

    /// Gives the lock to the first who waits, or leaves it free.
    #[inline]
    fn hand_on(&self, hub: &Hub) {
        match hub.first_taker(&self.waiters) {
            Some(node) => {
                self.waiters.remove_first(node);
                // SAFETY: the owner of a linked node is a living record.
                let next = unsafe { &*node.owner.get().cast::<Greenlet>() };
                self.owner.set(next.handle.get());
                self.depth.set(1);
                hub.grant(node);
            }
            None => self.owner.set(0),
        }
    }

    /// Lets go of the lock whatever its depth; returns the depth for `restore`.
    pub fn release_all(&self, hub: &Hub) -> Result<u64> {
        if !self.is_held_by(hub.current()) {
            return Err(Error::PERM);
        }
        let depth = self.depth.get();
        self.hand_on(hub);
        Ok(depth)
    }

    /// Takes the lock again, whatever happens to the greenlet meanwhile: who waited
    /// on a condition holds the lock when the wait returns, even if it was killed.
    pub fn restore(&self, hub: &Hub, depth: u64) -> Result<()> {
        let g = hub.current();
        // Closed while nobody held it: there is no lock any more that one could take.
        crate::object::get::<Lock>(hub, self.handle.get())?;
        loop {
            let attention = g.attention.replace(0);
            g.set_shield(g.shield.get() + 1);
            let taken = self.acquire(hub, Deadline::NEVER);
            g.set_shield(g.shield.get() - 1);
            g.attention.set(g.attention.get() | attention);
            if g.kill_reason.get() != 0 && g.shield.get() == 0 {
                g.flag(crate::greenlet::KILLED);
            }
            match taken {
                Ok(()) => {
                    self.depth.set(depth);
                    return Ok(());
                }
                // The lock is gone, or nobody will ever release it.
                Err(e) if g.node.refused.get() => return Err(e),
                // It can not wait at all here.
                Err(e) if e == Error::PERM || e == Error::WOULDBLOCK || e == Error::NOMEM => return Err(e),
                // An interrupt meant for the caller: hand it on to its next call.
                Err(e) => hub.interrupt(g, e.code()),
            }
        }
    }
}

/// A lock that was handed to one who was killed goes to the next; it may have been
/// closed since.
#[cold]
#[inline(never)]
fn give_back(hub: &Hub, handle: i64) {
    if let Ok(lock) = crate::object::get::<Lock>(hub, handle) {
        lock.hand_on(hub);
    }
}
