//! Barrier: so many greenlets meet, then all go on.

use crate::error::{Error, Result};
use crate::greenlet::Waiting;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::{insert, keep};
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::Cell;

pub struct Barrier {
    parties: usize,
    arrived: Cell<usize>,
    /// Which meeting they arrive for.
    meeting: Cell<u64>,
    broken: Cell<bool>,
    waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Barrier, Kind::Barrier);

impl Barrier {
    pub fn create(hub: &Hub, parties: usize) -> Result<i64> {
        if parties == 0 {
            return Err(Error::INVAL);
        }
        let barrier = Barrier {
            parties,
            arrived: Cell::new(0),
            meeting: Cell::new(0),
            broken: Cell::new(false),
            waiters: WaitList::default(),
            handle: Cell::new(0),
        };
        let handle = insert(hub, barrier)?;
        crate::object::get::<Barrier>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
    }

    /// True for the last to arrive. One that leaves early (deadline, kill) breaks
    /// the barrier: the others get EPIPE, or they would wait for ever. But it breaks the
    /// meeting that it came for, and not a later one.
    pub fn wait(&self, hub: &Hub, deadline: Deadline) -> Result<bool> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if self.broken.get() {
            return Err(Error::PIPE);
        }
        if self.arrived.get() + 1 == self.parties {
            self.next_meeting();
            while let Some(node) = self.waiters.pop() {
                hub.grant(node);
            }
            return Ok(true);
        }
        if deadline.is_now() {
            return Err(Error::AGAIN);
        }
        hub.may_park()?;
        let this = keep(self);
        this.arrived.set(this.arrived.get() + 1);
        let meeting = this.meeting.get();
        let why = Waiting::Object(this.handle.get());
        match hub.wait_in(&this.waiters, Role::Taker, std::ptr::null_mut(), deadline, why) {
            Waited::Granted(_) => Ok(false),
            Waited::Returned(_, e) => Err(e),
            Waited::Failed(e) => {
                // A barrier that broke, was reset or opened has gone on already.
                if this.meeting.get() == meeting {
                    this.abort(hub);
                }
                Err(e)
            }
        }
    }

    fn next_meeting(&self) {
        self.arrived.set(0);
        self.meeting.set(self.meeting.get() + 1);
    }

    /// Everybody who waits, and everybody who comes, gets EPIPE, until `reset`.
    pub fn abort(&self, hub: &Hub) {
        self.broken.set(true);
        self.next_meeting();
        hub.refuse_all(&self.waiters, Error::PIPE);
    }

    /// As new; those who wait now get EPIPE.
    pub fn reset(&self, hub: &Hub) {
        self.abort(hub);
        self.broken.set(false);
    }
}
