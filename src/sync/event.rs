//! Event: a flag that greenlets wait for.

use crate::error::{Error, Result};
use crate::greenlet::Waiting;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::insert;
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::Cell;

#[derive(Default)]
pub struct Event {
    set: Cell<bool>,
    pub waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Event, Kind::Event);

impl Event {
    pub fn create(hub: &Hub) -> Result<i64> {
        let handle = insert(hub, Event::default())?;
        crate::object::get::<Event>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
    }

    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Everybody who waits goes on, even if it is cleared before they run.
    pub fn set(&self, hub: &Hub) {
        self.set.set(true);
        while let Some(node) = self.waiters.pop() {
            hub.grant(node);
        }
    }

    pub fn clear(&self) {
        self.set.set(false);
    }

    #[inline]
    pub fn wait(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if self.set.get() {
            return Ok(());
        }
        let why = Waiting::Object(self.handle.get());
        match hub.wait_in(&self.waiters, Role::Taker, std::ptr::null_mut(), deadline, why) {
            Waited::Granted(_) => Ok(()),
            Waited::Returned(_, e) | Waited::Failed(e) => Err(e),
        }
    }
}
