//! Read-write lock: many readers or one writer, served in the order they came, so
//! that neither sort starves the other. Who reads already reads again at once: behind a
//! writer who waits for him he would wait for ever.

use crate::error::{Error, Result};
use crate::greenlet::{Greenlet, Waiting};
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::{insert, keep};
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList, WaitNode};
use std::cell::{Cell, RefCell};

const READER: Role = Role::Taker;
const WRITER: Role = Role::Alternate;

#[derive(Default)]
pub struct RwLock {
    /// The writer's handle, or 0.
    writer: Cell<i64>,
    /// The readers' handles, one entry per acquisition; few at a time.
    readers: RefCell<Vec<i64>>,
    waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(RwLock, Kind::RwLock);

fn owner_of(node: &WaitNode) -> i64 {
    // SAFETY: the owner of a waiting node is a living record.
    unsafe { &*node.owner.get().cast::<Greenlet>() }.handle.get()
}

impl RwLock {
    pub fn create(hub: &Hub) -> Result<i64> {
        let handle = insert(hub, RwLock::default())?;
        crate::object::get::<RwLock>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
    }

    fn is_free_for(&self, role: Role) -> bool {
        self.writer.get() == 0 && (role == READER || self.readers.borrow().is_empty())
    }

    pub fn read(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        self.acquire(hub, READER, deadline)
    }

    pub fn write(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        self.acquire(hub, WRITER, deadline)
    }

    fn acquire(&self, hub: &Hub, role: Role, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        let me = hub.current().handle.get();
        if me == 0 {
            return Err(Error::WOULDBLOCK); // the loop can not own a lock
        }
        if self.writer.get() == me || (role == WRITER && self.readers.borrow().contains(&me)) {
            return Err(Error::DEADLK);
        }
        let reads = || role == READER && self.readers.borrow().contains(&me);
        if (self.waiters.is_empty() && self.is_free_for(role)) || reads() {
            self.take(role, me);
            return Ok(());
        }
        let this = keep(self);
        let why = Waiting::Object(this.handle.get());
        let waited = hub.wait_in(&this.waiters, role, std::ptr::null_mut(), deadline, why);
        match waited {
            Waited::Granted(_) => Ok(()),
            Waited::Returned(_, e) => {
                let _ = this.drop_hold(me);
                this.advance(hub);
                Err(e)
            }
            Waited::Failed(e) => {
                // A writer that gives up may have kept readers waiting.
                this.advance(hub);
                Err(e)
            }
        }
    }

    fn take(&self, role: Role, who: i64) {
        match role {
            WRITER => self.writer.set(who),
            _ => self.readers.borrow_mut().push(who),
        }
    }

    fn drop_hold(&self, who: i64) -> Result<()> {
        if who != 0 && self.writer.get() == who {
            self.writer.set(0);
            return Ok(());
        }
        let mut readers = self.readers.borrow_mut();
        let place = readers.iter().position(|&r| r == who).ok_or(Error::PERM)?;
        readers.swap_remove(place);
        Ok(())
    }

    pub fn release(&self, hub: &Hub) -> Result<()> {
        self.drop_hold(hub.current().handle.get())?;
        self.advance(hub);
        Ok(())
    }

    /// Lets in those at the head of the queue who fit now.
    fn advance(&self, hub: &Hub) {
        while let Some(node) = self.waiters.first().filter(|n| self.is_free_for(n.role.get())) {
            node.unlink();
            self.take(node.role.get(), owner_of(node));
            hub.grant(node);
        }
    }
}
