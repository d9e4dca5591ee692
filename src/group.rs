//! Groups: greenlets that are joined and killed together; and pools: groups with a
//! size, where spawning waits for room.

use crate::error::{Error, Result};
use crate::greenlet::{Body, Waiting};
use crate::handle::Kind;
use crate::hub::Hub;
use crate::life::Options;
use crate::object::{self, insert, keep};
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::rc::Rc;

pub struct Group {
    /// Members by handle; ordered, so that killing has an order.
    members: RefCell<BTreeSet<i64>>,
    /// Room taken by members and by spawns that are under way.
    taken: Cell<usize>,
    size: usize,
    /// Wait for room (pools).
    spawners: WaitList,
    /// Wait for everybody's end.
    joiners: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Group, Kind::Group);

impl Group {
    /// A group, or with a size a pool.
    pub fn create(hub: &Hub, size: Option<usize>) -> Result<i64> {
        if size == Some(0) {
            return Err(Error::INVAL);
        }
        let group = Group {
            members: RefCell::default(),
            taken: Cell::new(0),
            size: size.unwrap_or(usize::MAX),
            spawners: WaitList::default(),
            joiners: WaitList::default(),
            handle: Cell::new(0),
        };
        let handle = insert(hub, group)?;
        object::get::<Group>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    /// Its members live on; those who wait for it do not wait any more.
    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.spawners, Error::BADF);
        hub.refuse_all(&self.joiners, Error::BADF);
    }

    pub fn len(&self) -> usize {
        self.members.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, g: i64) -> bool {
        self.members.borrow().contains(&g)
    }

    pub fn is_pool(&self) -> bool {
        self.size != usize::MAX
    }

    pub fn free_count(&self) -> usize {
        self.size - self.taken.get()
    }

    fn why(&self) -> Waiting {
        Waiting::Object(self.handle.get())
    }

    // ---- room ------------------------------------------------------------------

    /// Takes room for one, waiting for it if need be.
    fn take_room(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if self.free_count() > 0 {
            self.taken.set(self.taken.get() + 1);
            return Ok(());
        }
        if !deadline.is_now() {
            hub.check()?;
        }
        match hub.wait_in(&self.spawners, Role::Taker, std::ptr::null_mut(), deadline, self.why()) {
            Waited::Granted(_) => Ok(()), // the room was handed over
            Waited::Returned(_, e) => {
                self.give_room(hub);
                Err(e)
            }
            Waited::Failed(e) => Err(e),
        }
    }

    fn give_room(&self, hub: &Hub) {
        match hub.first_taker(&self.spawners) {
            Some(node) => {
                node.unlink();
                hub.grant(node);
            }
            None => self.taken.set(self.taken.get() - 1),
        }
    }

    /// Waits until a spawn would not wait.
    pub fn wait_available(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        loop {
            if !deadline.is_now() {
                hub.check()?;
            }
            if this.free_count() > 0 {
                return Ok(());
            }
            match hub.wait_in(&this.spawners, Role::Observer, std::ptr::null_mut(), deadline, this.why()) {
                Waited::Granted(_) => {}
                Waited::Returned(_, e) | Waited::Failed(e) => return Err(e),
            }
        }
    }

    // ---- members ---------------------------------------------------------------

    /// Spawns a member. In a pool that is full: EAGAIN at WEALD_NOW, else waits.
    pub fn spawn(
        &self,
        hub: &Hub,
        body: Body,
        arg: *mut c_void,
        how: &Options,
        start: bool,
        deadline: Deadline,
    ) -> Result<i64> {
        let this = keep(self);
        this.take_room(hub, deadline)?;
        match hub.spawn_with(body, arg, how, start) {
            Ok(g) => {
                this.adopt(g.handle.get(), hub)?;
                Ok(g.handle.get())
            }
            Err(e) => {
                this.give_room(hub);
                Err(e)
            }
        }
    }

    fn adopt(self: &Rc<Group>, handle: i64, hub: &Hub) -> Result<()> {
        let g = hub.greenlet(handle)?;
        self.members.borrow_mut().insert(handle);
        let this = self.clone();
        hub.on_end(g, self.handle.get(), move |h| this.left_by(h));
        Ok(())
    }

    /// Adds a greenlet that exists already.
    pub fn add(&self, hub: &Hub, handle: i64, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        if hub.greenlet(handle)?.is_done() || this.contains(handle) {
            return Ok(());
        }
        this.take_room(hub, deadline)?;
        // It may have ended while we waited for room.
        if !this.contains(handle) && hub.greenlet(handle).is_ok_and(|g| !g.is_done()) {
            return this.adopt(handle, hub);
        }
        this.give_room(hub);
        Ok(())
    }

    /// Lets a member go without ending it.
    pub fn discard(&self, hub: &Hub, handle: i64) -> Result<()> {
        hub.greenlet(handle)?;
        if self.contains(handle) {
            hub.forget_on_end(hub.greenlet(handle)?, self.handle.get());
            self.left_by(handle);
        }
        Ok(())
    }

    fn left_by(&self, handle: i64) {
        if !self.members.borrow_mut().remove(&handle) {
            return; // discarded before
        }
        let Some(hub) = Hub::existing() else { return };
        self.give_room(hub);
        if self.is_empty() {
            while let Some(node) = self.joiners.pop() {
                hub.grant(node);
            }
        }
    }

    /// Waits until no member is left.
    pub fn join(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if self.is_empty() {
            return Ok(());
        }
        if self.contains(hub.current().handle.get()) {
            return Err(Error::DEADLK);
        }
        let this = keep(self);
        match hub.wait_in(&this.joiners, Role::Taker, std::ptr::null_mut(), deadline, this.why()) {
            Waited::Granted(_) => Ok(()),
            Waited::Returned(_, e) | Waited::Failed(e) => Err(e),
        }
    }

    /// Kills every member but the caller; waits for their ends unless at WEALD_NOW.
    pub fn kill(&self, hub: &Hub, reason: i32, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        let me = hub.current().handle.get();
        let members: Vec<i64> = this.members.borrow().iter().copied().collect();
        let others: Vec<i64> = members.into_iter().filter(|&h| h != me).collect();
        if !deadline.is_now() && !others.is_empty() {
            hub.may_park()?;
        }
        others.iter().filter_map(|&h| hub.greenlet(h).ok()).for_each(|g| hub.kill(g, reason));
        if deadline.is_now() {
            return Ok(());
        }
        let others: Vec<i64> = others.into_iter().filter(|&h| hub.greenlet(h).is_ok()).collect();
        crate::iwait::joinall(hub, &others, 0, false, deadline).map(|_| ())
    }
}

/// Spawns into the group or pool `group`, or (0) into none.
pub fn spawn_into(hub: &Hub, group: i64, body: Body, arg: *mut c_void, how: &Options, start: bool) -> Result<i64> {
    if group == 0 {
        return Ok(hub.spawn_with(body, arg, how, start)?.handle.get());
    }
    let group: &Group = object::get(hub, group)?;
    group.spawn(hub, body, arg, how, start, Deadline::NEVER)
}
