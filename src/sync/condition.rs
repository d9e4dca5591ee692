//! Condition: wait until told, with a lock let go meanwhile.

use crate::error::{Error, Result};
use crate::greenlet::Waiting;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::{insert, keep};
use crate::sync::lock::Lock;
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::Cell;

#[derive(Default)]
pub struct Condition {
    waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Condition, Kind::Condition);

impl Condition {
    pub fn create(hub: &Hub) -> Result<i64> {
        let handle = insert(hub, Condition::default())?;
        crate::object::get::<Condition>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
    }

    /// Lets go of `lock`, waits to be told, takes `lock` again, however it ended.
    pub fn wait(&self, hub: &Hub, lock: &Lock, deadline: Deadline) -> Result<()> {
        hub.check()?;
        hub.may_park()?;
        if deadline.is_now() {
            return Err(Error::AGAIN);
        }
        let (this, lock) = (keep(self), keep(lock));
        let depth = lock.release_all(hub)?;
        let why = Waiting::Object(this.handle.get());
        let waited = hub.wait_in(&this.waiters, Role::Taker, std::ptr::null_mut(), deadline, why);
        let restored = lock.restore(hub, depth);
        if let Waited::Returned(..) = waited {
            this.notify(hub, 1); // told, but killed: somebody else should hear it
        }
        restored?;
        match waited {
            Waited::Granted(_) => Ok(()),
            Waited::Returned(_, e) | Waited::Failed(e) => Err(e),
        }
    }

    /// Tells the first `n` who wait; how many there were.
    pub fn notify(&self, hub: &Hub, n: usize) -> usize {
        let mut told = 0;
        while told < n
            && let Some(node) = self.waiters.pop()
        {
            hub.grant(node);
            told += 1;
        }
        told
    }
}
