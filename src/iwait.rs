//! Waiting for several greenlets: in order of completion, or until enough have ended.

use crate::error::{Error, Result};
use crate::greenlet::Waiting;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::object::{self, insert, keep};
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// An iterator over greenlets in the order in which they end.
#[derive(Default)]
pub struct Iwait {
    ended: RefCell<VecDeque<i64>>,
    left: Cell<usize>,
    /// All of them, to take back what was left with those that have not ended.
    watched: RefCell<Vec<i64>>,
    waiters: WaitList,
    handle: Cell<i64>,
    is_closed: Cell<bool>,
}

impl Iwait {
    pub fn create(hub: &Hub, gs: &[i64]) -> Result<i64> {
        for &g in gs {
            hub.greenlet(g)?;
        }
        let handle = insert(hub, Iwait::default())?;
        let it = keep(object::get::<Iwait>(hub, handle)?);
        it.handle.set(handle);
        it.left.set(gs.len());
        it.watched.replace(gs.to_vec());
        for &g in gs {
            let g = hub.greenlet(g)?;
            if g.is_done() {
                it.ended.borrow_mut().push_back(g.handle.get());
                continue;
            }
            let noting = it.clone();
            hub.on_end(g, handle, move |h| noting.note(h));
        }
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        self.is_closed.set(true);
        hub.refuse_all(&self.waiters, Error::BADF);
        for g in self.watched.take() {
            if let Ok(g) = hub.greenlet(g) {
                hub.forget_on_end(g, self.handle.get());
            }
        }
    }

    fn note(&self, ended: i64) {
        if self.is_closed.get() {
            return;
        }
        self.ended.borrow_mut().push_back(ended);
        let Some(hub) = Hub::existing() else { return };
        // All look again: the first takes it, the others see whether more will come.
        while let Some(node) = self.waiters.pop() {
            hub.grant(node);
        }
    }

    /// The next that has ended; `None` when all have been returned.
    pub fn next(&self, hub: &Hub, deadline: Deadline) -> Result<Option<i64>> {
        let this = keep(self);
        loop {
            if !deadline.is_now() {
                hub.check()?;
            }
            if this.left.get() == 0 {
                return Ok(None);
            }
            let next = this.ended.borrow_mut().pop_front();
            if let Some(g) = next {
                this.left.set(this.left.get() - 1);
                return Ok(Some(g));
            }
            let why = Waiting::Object(this.handle.get());
            match hub.wait_in(&this.waiters, Role::Taker, std::ptr::null_mut(), deadline, why) {
                Waited::Granted(_) => {}
                Waited::Returned(_, e) | Waited::Failed(e) => return Err(e),
            }
        }
    }
}

crate::hub_object!(Iwait, Kind::Iterator);

/// Waits until `count` (0: all) have ended; how many have. With `raise` the first
/// failure ends the wait.
pub fn joinall(hub: &Hub, gs: &[i64], count: usize, raise: bool, deadline: Deadline) -> Result<usize> {
    if !deadline.is_now() {
        hub.check()?;
    }
    let wanted = if count == 0 { gs.len() } else { count };
    if deadline.is_now() && !raise {
        let ended = gs.iter().map(|&g| hub.greenlet(g).map(|g| usize::from(g.is_done()))).sum::<Result<usize>>()?;
        return if ended >= wanted { Ok(ended) } else { Err(Error::AGAIN) };
    }
    let handle = Iwait::create(hub, gs)?;
    let outcome = count_ends(hub, handle, wanted, raise, deadline);
    hub.table.remove(handle)?.close();
    outcome
}

fn count_ends(hub: &Hub, it: i64, wanted: usize, raise: bool, deadline: Deadline) -> Result<usize> {
    let it = keep(object::get::<Iwait>(hub, it)?);
    let mut ended = 0;
    // Who is counted is looked at, those that ended meanwhile as well.
    while ended < wanted || (raise && !it.ended.borrow().is_empty()) {
        let Some(g) = it.next(hub, deadline)? else { break };
        ended += 1;
        if raise
            && let Ok(g) = hub.greenlet(g)
            && let Some(e) = g.failure()
        {
            return Err(e);
        }
    }
    Ok(ended + it.ended.borrow().len())
}
