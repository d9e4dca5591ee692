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

/// The permits of one that may never have any: who waits for them does not wait plainly, so
/// that a release need not look for that where somebody does.
const NEVER: i64 = i64::MIN;

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
        let (permits, bound) = match (permits, bounded) {
            (0, true) => (NEVER, NEVER),
            (_, true) => (permits, permits),
            (_, false) => (permits, i64::MAX),
        };
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
        self.permits.get().max(0)
    }

    /// Takes a permit that is free, unless there is something to look at first.
    #[inline(always)]
    pub fn try_acquire(&self, hub: &Hub) -> AtHand<()> {
        if hub.current().attention.get() != 0 {
            return AtHand::Unknown;
        }
        match self.permits.get() {
            0 => AtHand::MustWait,
            permits if permits > 0 => {
                self.permits.set(permits - 1);
                AtHand::Done(())
            }
            _ => AtHand::Unknown,
        }
    }

    /// Gives a permit back where nobody waits, or to who waits for ever.
    #[inline(always)]
    pub fn try_release(&self, hub: &Hub) -> bool {
        if let Some(node) = self.waiters.first() {
            return hub.grant_first(&self.waiters, node);
        }
        let permits = self.permits.get();
        let has_room = permits < self.bound;
        if has_room {
            self.permits.set(permits + 1);
        }
        has_room
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
        let why = Waiting::Object(self.handle.get());
        outcome(hub.wait_in(&self.waiters, Role::Taker, std::ptr::null_mut(), deadline, why))
    }

    /// What is left to do where `try_acquire` found that it must wait, see `Hub::wait_plainly_in`.
    #[inline(always)]
    pub fn acquire_plainly(&self, hub: &Hub) -> Result<()> {
        let why = Waiting::Object(self.handle.get());
        outcome(hub.wait_plainly_in(&self.waiters, std::ptr::null_mut(), why))
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
fn outcome(waited: Waited) -> Result<()> {
    match waited {
        Waited::Granted(_) => Ok(()),
        Waited::Returned(_, e) => {
            give_back();
            Err(e)
        }
        Waited::Failed(e) => Err(e),
    }
}

/// A permit that was handed to the current greenlet, which was killed, goes to the next; the
/// semaphore may have been closed since. Who it was stands in the greenlet: so those who come
/// back from a wait with a permit had nothing to keep over it.
#[cold]
#[inline(never)]
fn give_back() {
    let Some(hub) = Hub::existing() else { return };
    if let Waiting::Object(handle) = hub.current().waiting.get()
        && let Ok(semaphore) = crate::object::get::<Semaphore>(hub, handle)
    {
        semaphore.give(hub);
    }
}
