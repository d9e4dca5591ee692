//! Waiting for several things at once: greenlets, events, results, queues,
//! semaphores, locks, timers, descriptors.
//!
//! The waiter observes: it is told to look again, and takes nothing. What it reports
//! as ready is ready when it returns, because nothing runs in between.

use crate::error::{Error, Result};
use crate::greenlet::{Greenlet, Waiting};
use crate::handle::{self, Kind};
use crate::hub::Hub;
use crate::io::{Waiter, look};
use crate::object;
use crate::poller::{Added, GONE};
use crate::registry;
use crate::sync::event::Event;
use crate::sync::lock::Lock;
use crate::sync::queue::Queue;
use crate::sync::result::AsyncResult;
use crate::sync::semaphore::Semaphore;
use crate::sync::shared::{SharedEvent, SharedQueue, SharedResult};
use crate::ticket::Ticket;
use crate::time::Deadline;
use crate::waitlist::{Role, WaitList, WaitNode};
use crate::watcher::Watcher;
use std::cell::RefCell;
use std::sync::Arc;

/// One thing to wait for: an object, or (handle 0) a descriptor.
#[derive(Clone, Copy)]
pub struct Target {
    pub object: i64,
    pub fd: i32,
    pub events: u32,
}

/// What an object offers to somebody who waits for several.
enum View<'h> {
    Local(bool, &'h WaitList),
    Event(Arc<SharedEvent>),
    Result(Arc<SharedResult>),
    Queue(Arc<SharedQueue>),
}

impl View<'_> {
    fn of(hub: &Hub, h: i64) -> Result<View<'_>> {
        if handle::hub_of(h) == 0 {
            return View::of_shared(h);
        }
        let is = |kind: Kind| handle::kind_of(h) == kind as u8;
        Ok(if is(Kind::Greenlet) {
            let g = hub.greenlet(h)?;
            View::Local(g.is_done(), &g.joiners)
        } else if is(Kind::Event) {
            let e: &Event = object::get(hub, h)?;
            View::Local(e.is_set(), &e.waiters)
        } else if is(Kind::Result) {
            let r: &AsyncResult = object::get(hub, h)?;
            View::Local(r.is_set(), &r.waiters)
        } else if is(Kind::Queue) {
            let q = Queue::get_free(hub, h)?;
            View::Local(q.is_ready(), &q.getters)
        } else if is(Kind::Semaphore) {
            let s: &Semaphore = object::get(hub, h)?;
            View::Local(s.count() > 0, &s.waiters)
        } else if is(Kind::Lock) {
            let l: &Lock = object::get(hub, h)?;
            View::Local(!l.is_held(), &l.waiters)
        } else if is(Kind::Watcher) {
            let w: &Watcher = object::get(hub, h)?;
            View::Local(w.has_fired(), w.waiters())
        } else {
            return Err(Error::BADF);
        })
    }

    fn of_shared(h: i64) -> Result<View<'static>> {
        match handle::kind_of(h) {
            k if k == Kind::Event as u8 => Ok(View::Event(registry::shared(h)?)),
            k if k == Kind::Result as u8 => Ok(View::Result(registry::shared(h)?)),
            k if k == Kind::Queue as u8 => Ok(View::Queue(registry::shared(h)?)),
            _ => Err(Error::BADF),
        }
    }

    fn is_ready(&self) -> Result<bool> {
        Ok(match self {
            View::Local(ready, _) => *ready,
            View::Event(e) => e.is_set(),
            View::Result(r) => r.is_set(),
            View::Queue(q) => q.is_ready()?,
        })
    }

    /// Adds or removes a ticket that is nudged when there is reason to look again.
    fn observe(&self, ticket: &Arc<Ticket>, on: bool) {
        match self {
            View::Local(..) => {}
            View::Event(e) => e.observe(ticket, on),
            View::Result(r) => r.observe(ticket, on),
            View::Queue(q) => q.observe(ticket, on),
        }
    }
}

/// Everything that is linked while waiting; kept in the record, see `Extra::many`.
struct Links {
    nodes: Box<[WaitNode]>,
    fds: Box<[Waiter]>,
    shared: RefCell<Vec<(i64, Arc<Ticket>)>>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.nodes.iter().for_each(WaitNode::unlink);
        if let Some(hub) = Hub::existing() {
            self.fds.iter().for_each(|w| hub.poller().remove(&w.node));
        }
        for (h, ticket) in self.shared.get_mut().iter() {
            ticket.retire();
            if let Ok(view) = View::of_shared(*h) {
                view.observe(ticket, false);
            }
        }
    }
}

impl Target {
    fn is_ready(&self, hub: &Hub) -> Result<bool> {
        if self.object != 0 {
            return View::of(hub, self.object)?.is_ready();
        }
        match look(self.fd, self.events) {
            Ok(_) => Ok(true),
            Err(Error::AGAIN) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Waits until `how_many` of `targets` are ready (0: all of them); which ones are.
pub fn wait(hub: &Hub, targets: &[Target], how_many: usize, deadline: Deadline) -> Result<Vec<bool>> {
    if !deadline.is_now() {
        hub.check()?;
    }
    if how_many > targets.len() {
        return Err(Error::INVAL);
    }
    let wanted = if how_many == 0 { targets.len() } else { how_many };
    loop {
        let ready: Vec<bool> = targets.iter().map(|t| t.is_ready(hub)).collect::<Result<_>>()?;
        if ready.iter().filter(|&&r| r).count() >= wanted {
            return Ok(ready);
        }
        if deadline.is_now() {
            return Err(Error::AGAIN);
        }
        park_on(hub, targets, &ready, deadline)?;
        hub.check()?; // told in vain, perhaps, and killed since
    }
}

fn park_on(hub: &Hub, targets: &[Target], ready: &[bool], deadline: Deadline) -> Result<()> {
    hub.may_park()?;
    let g = hub.current();
    let waiting: Vec<&Target> = targets.iter().zip(ready).filter(|(_, r)| !**r).map(|(t, _)| t).collect();
    let links = Box::new(Links {
        nodes: waiting.iter().map(|_| WaitNode::default()).collect(),
        fds: waiting.iter().filter(|t| t.object == 0).map(|_| Waiter::new(g)).collect(),
        shared: RefCell::default(),
    });
    let links_ptr: *const Links = &*links;
    g.with_extra(|x| x.many = Some(links));
    // SAFETY: boxed, and taken out of the record below.
    let links = unsafe { &*links_ptr };
    let linked = link_all(hub, g, &waiting, links);
    let shared = !links.shared.borrow().is_empty();
    if shared {
        hub.hold(); // another thread may end the wait: no deadlock
    }
    let result = linked.and_then(|()| hub.park(deadline, Waiting::Objects(waiting.len() as u32)));
    if shared {
        hub.unhold();
    }
    // Something was closed while we looked elsewhere: the next look says what.
    let closed = links.nodes.iter().any(|n| n.refused.get()) || links.fds.iter().any(|w| w.node.got.get() & GONE != 0);
    drop(g.peek_extra(|x| x.many.take()));
    if closed { Ok(()) } else { result }
}

/// Enters every list. What it has entered when it fails leaves with `links`.
fn link_all(hub: &Hub, g: &Greenlet, targets: &[&Target], links: &Links) -> Result<()> {
    let mut fds = links.fds.iter();
    for (target, node) in targets.iter().zip(&links.nodes) {
        if target.object == 0 {
            let Some(waiter) = fds.next() else { continue };
            if hub.poller().add(&waiter.node, target.fd, target.events)? == Added::AlwaysReady {
                waiter.node.got.set(GONE); // never waits: `look` will see it
                return Err(Error::BADF);
            }
            continue;
        }
        match View::of(hub, target.object)? {
            View::Local(_, list) => {
                node.owner.set(std::ptr::from_ref(g).cast());
                node.role.set(Role::Observer);
                list.push(node);
            }
            view => {
                let ticket = Ticket::new(hub, std::ptr::null_mut());
                links.shared.borrow_mut().push((target.object, ticket.clone()));
                view.observe(&ticket, true);
                if view.is_ready()? {
                    ticket.nudge(); // it came while we were entering
                }
            }
        }
    }
    Ok(())
}
