//! Scoped timeouts: from start to cancel, every blocking call of the greenlet fails
//! with ETIMEDOUT once the time is up, and each scope knows whether it was the one.
//!
//! No timer runs for a scope: a call that parks takes the nearest deadline of its
//! greenlet's scopes into account. A scope that never fires costs a list entry.

use crate::error::{Error, Result};
use crate::greenlet::{Greenlet, Scope};
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::{self, insert};
use crate::time::after;
use std::cell::Cell;
use std::rc::Rc;

pub struct Timeout {
    scope: Rc<Scope>,
}

crate::hub_object!(Timeout, Kind::Timeout);

impl Timeout {
    /// Starts a scope for the current greenlet.
    pub fn start(hub: &Hub, ns: i64) -> Result<i64> {
        if hub.in_callback() {
            return Err(Error::WOULDBLOCK);
        }
        let g = hub.current();
        let scope = Rc::new(Scope {
            deadline: Cell::new(after(ns)),
            fired: Cell::new(false),
            active: Cell::new(true),
            owner: Cell::new(g.handle.get()),
        });
        let handle = insert(hub, Timeout { scope: scope.clone() })?;
        g.with_extra(|x| x.scopes.push(scope));
        hub.has_scopes(g, true);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        self.cancel(hub);
    }

    fn owner<'h>(&self, hub: &'h Hub) -> Result<&'h Greenlet> {
        hub.greenlet(self.scope.owner.get())
    }

    /// Whether a call has failed because of this scope.
    pub fn fired(&self) -> bool {
        self.scope.fired.get()
    }

    /// Ends the scope; whether it had fired stays known.
    pub fn cancel(&self, hub: &Hub) {
        self.scope.active.set(false);
        let Ok(g) = self.owner(hub) else { return };
        let left = g.peek_extra(|x| {
            x.scopes.retain(|s| !Rc::ptr_eq(s, &self.scope));
            x.scopes.len()
        });
        if left.is_some() && !std::ptr::eq(g, hub.current()) {
            hub.rescope(g);
        }
        hub.has_scopes(g, left.unwrap_or(0) > 0);
    }

    /// Gives the scope `ns` from now, whether it was active, fired or cancelled. Only
    /// its own greenlet may: another's may be parked on the old deadline.
    pub fn restart(&self, hub: &Hub, ns: i64) -> Result<()> {
        let is_own = |g: &&Greenlet| std::ptr::eq(*g, hub.current());
        let g = self.owner(hub).ok().filter(is_own).ok_or(Error::PERM)?;
        self.cancel(hub);
        self.scope.deadline.set(after(ns));
        self.scope.fired.set(false);
        self.scope.active.set(true);
        g.with_extra(|x| x.scopes.push(self.scope.clone()));
        hub.has_scopes(g, true);
        Ok(())
    }

    pub fn get(hub: &Hub, handle: i64) -> Result<&Timeout> {
        object::get(hub, handle)
    }
}
