//! Semaphore: permits, handed to waiters in order. A bounded one refuses to hold
//! more permits than it began with.

use crate::error::{Error, Result};
use crate::greenlet::Waiting;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::insert;
use crate::time::Deadline;
use crate::wait::{AtHand, Waited};
use crate::waitlist::{Role, WaitList};
use std::cell::Cell;

pub struct Semaphore {
    /// More than 0 only while no taker waits: a release goes to a taker first.
    permits: Cell<i64>,
    bound: i64,
    pub waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Semaphore, Kind::Semaphore);

impl Semaphore {
    /// `bounded`: over-release is an error.
    pub fn create(hub: &Hub, permits: i64, bounded: bool) -> Result<i64> {
        if permits < 0 {
            return Err(Error::INVAL);
        }
        let bound = if bounded { permits } else { i64::MAX };
        let semaphore =
            Semaphore { permits: Cell::new(permits), bound, waiters: WaitList::default(), handle: Cell::new(0) };
        let handle = insert(hub, semaphore)?;
        crate::object::get::<Semaphore>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
    }

    pub fn count(&self) -> i64 {
        self.permits.get()
    }

    /// Takes a permit that is free, unless there is something to look at first.
    #[inline(always)]
    pub fn try_acquire(&self, hub: &Hub) -> AtHand<()> {
        if hub.current().attention.get() != 0 {
            return AtHand::Unknown;
        }
        let permits = self.permits.get();
        if permits <= 0 {
            return AtHand::MustWait;
        }
        self.permits.set(permits - 1);
        AtHand::Done(())
    }

    /// Gives a permit back where nobody waits, or to who waits for ever.
    #[inline(always)]
    pub fn try_release(&self, hub: &Hub) -> bool {
        let permits = self.permits.get();
        if permits >= self.bound {
            return false;
        }
        match self.waiters.first() {
            Some(node) => hub.grant_first(&self.waiters, node),
            None => {
                self.permits.set(permits + 1);
                true
            }
        }
    }

    #[inline(always)]
    pub fn acquire(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        let permits = self.permits.get();
        if permits > 0 {
            self.permits.set(permits - 1);
            return Ok(());
        }
        self.acquire_by_waiting(hub, deadline)
    }

    #[inline(always)]
    fn acquire_by_waiting(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let handle = self.handle.get();
        outcome(
            hub,
            handle,
            hub.wait_in(&self.waiters, Role::Taker, std::ptr::null_mut(), deadline, Waiting::Object(handle)),
        )
    }

    /// What is left to do where `try_acquire` found that it must wait, see `Hub::wait_plainly_in`.
    #[inline(always)]
    pub fn acquire_plainly(&self, hub: &Hub) -> Result<()> {
        let handle = self.handle.get();
        outcome(hub, handle, hub.wait_plainly_in(&self.waiters, std::ptr::null_mut(), Waiting::Object(handle)))
    }

    #[inline(always)]
    pub fn release(&self, hub: &Hub) -> Result<()> {
        if self.permits.get() >= self.bound {
            return Err(Error::OVERFLOW);
        }
        self.give(hub);
        Ok(())
    }

    #[inline(always)]
    fn give(&self, hub: &Hub) {
        match hub.first_taker(&self.waiters) {
            Some(node) => {
                self.waiters.remove_first(node);
                hub.grant(node);
            }
            None => self.permits.set(self.permits.get() + 1),
        }
    }
}

#[inline(always)]
fn outcome(hub: &Hub, handle: i64, waited: Waited) -> Result<()> {
    match waited {
        Waited::Granted(_) => Ok(()),
        Waited::Returned(_, e) => {
            give_back(hub, handle);
            Err(e)
        }
        Waited::Failed(e) => Err(e),
    }
}

/// A permit that was handed to one who was killed goes to the next; the semaphore may
/// have been closed since.
#[cold]
#[inline(never)]
fn give_back(hub: &Hub, handle: i64) {
    if let Ok(semaphore) = crate::object::get::<Semaphore>(hub, handle) {
        semaphore.give(hub);
    }
}
