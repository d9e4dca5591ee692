//! Waiting for another thread: a ticket is held by the waiter and by whoever will
//! end the wait.
//!
//! The giver fills in a value and posts a wake-up to the waiter's hub. Filling in
//! and giving up are decided under the lock of the object the ticket waits in, so a
//! value is never lost between the two: either the waiter finds it, or the giver
//! finds that the waiter has left.
//!
//! In a forked child the tickets of the parent's waiters are still in the objects. Who
//! waited with them is not there (`is_void`), but for main when it is main that went on.

use crate::error::Result;
use crate::fork;
use crate::greenlet::{State, Waiting};
use crate::hub::Hub;
use crate::registry::Remote;
use crate::time::Deadline;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

type GiveBack = Box<dyn Fn(&Ticket) + Send + Sync>;

pub struct Ticket {
    give_back: OnceLock<GiveBack>,
    remote: Arc<Remote>,
    greenlet: i64,
    /// `fork::generation()` when it was made.
    generation: u64,
    /// The waiter is (or is about to be) parked on this ticket.
    waiting: AtomicBool,
    granted: AtomicBool,
    value: AtomicPtr<c_void>,
    arrival: AtomicU64,
}

impl Ticket {
    /// A ticket for the current greenlet, which hands over `value` (or null).
    pub fn new(hub: &Hub, value: *mut c_void) -> Arc<Ticket> {
        Arc::new(Ticket {
            give_back: OnceLock::new(),
            remote: hub.remote.clone(),
            greenlet: hub.current().handle.get(),
            generation: fork::generation(),
            waiting: AtomicBool::new(true),
            granted: AtomicBool::new(false),
            value: AtomicPtr::new(value),
            arrival: AtomicU64::new(0),
        })
    }

    pub fn value(&self) -> *mut c_void {
        self.value.load(SeqCst)
    }

    pub fn set_value(&self, value: *mut c_void) {
        self.value.store(value, SeqCst);
    }

    pub fn is_granted(&self) -> bool {
        self.granted.load(SeqCst)
    }

    /// The waiter is the parent's.
    pub fn is_void(&self) -> bool {
        !fork::has_survived(self.generation, self.greenlet)
    }

    /// Ends the wait: called once, from any thread. False when the waiter's hub has
    /// ended, and the waiter with it: then nothing was handed over.
    pub fn grant(self: &Arc<Ticket>) -> bool {
        self.granted.store(true, SeqCst);
        self.nudge()
    }

    /// Has the waiter look again, without granting anything.
    pub fn nudge(self: &Arc<Ticket>) -> bool {
        let delivery = Delivery { ticket: self.clone(), arrived: false };
        // A mailbox that is closed drops the delivery here and now, under the giver's
        // lock: then the giver hears of it by what we return.
        POSTING.set(true);
        let posted = self.remote.task(move || delivery.arrive()).is_ok();
        POSTING.set(false);
        posted
    }

    /// Says what becomes of a value that was granted when the waiter's hub ends before
    /// it hears of it.
    pub fn if_lost(&self, give_back: impl Fn(&Ticket) + Send + Sync + 'static) {
        let _ = self.give_back.set(Box::new(give_back));
    }

    /// The wait is over: a nudge that is still on its way must not end another one.
    pub fn retire(&self) {
        self.waiting.store(false, SeqCst);
    }

    /// Its place among what was handed over, to put it back there.
    pub fn arrival(&self) -> u64 {
        self.arrival.load(SeqCst)
    }

    pub fn set_arrival(&self, arrival: u64) {
        self.arrival.store(arrival, SeqCst);
    }

    fn arrive(&self) {
        let Some(hub) = Hub::existing() else { return };
        if !self.waiting.load(SeqCst) {
            return; // it left by deadline or kill
        }
        if let Ok(g) = hub.greenlet(self.greenlet)
            && g.state.get() == State::Parked
        {
            hub.wake(g, 0);
        }
    }

    /// Parks the current greenlet until the ticket is granted or nudged, or until
    /// the wait fails. Somebody outside may end it, so it is never a deadlock.
    pub fn park(&self, hub: &Hub, deadline: Deadline, why: Waiting) -> Result<()> {
        if self.is_granted() {
            return Ok(());
        }
        self.waiting.store(true, SeqCst);
        hub.hold();
        let mains = hub.is_main(hub.current()).then(|| MainWaits::on(hub, self));
        let result = hub.park(deadline, why);
        if let Some(mains) = mains {
            mains.ticket.set(std::ptr::null());
        }
        hub.unhold();
        self.waiting.store(false, SeqCst);
        result
    }
}

/// The ticket that a hub's main greenlet is parked on.
struct MainWaits {
    ticket: Cell<*const Ticket>,
    is_known: Cell<bool>,
}

impl Default for MainWaits {
    fn default() -> MainWaits {
        MainWaits { ticket: Cell::new(std::ptr::null()), is_known: Cell::new(false) }
    }
}

impl MainWaits {
    fn on<'h>(hub: &'h Hub, ticket: &Ticket) -> &'h MainWaits {
        let mains = hub.extension::<MainWaits>();
        if !mains.is_known.replace(true) {
            hub.at_fork(MainWaits::after_fork);
        }
        mains.ticket.set(ticket);
        mains
    }

    /// In a forked child: a wake-up that was on its way to main is the parent's.
    fn after_fork(hub: &Hub) {
        let ticket = hub.extension::<MainWaits>().ticket.get();
        // SAFETY: null, or set by `park`, which is on main's stack: the ticket is its own.
        if unsafe { ticket.as_ref() }.is_some_and(Ticket::is_granted) {
            hub.wake(&hub.main, 0);
        }
    }
}

thread_local! {
    static POSTING: Cell<bool> = const { Cell::new(false) };
}

/// A wake-up on its way to the waiter's hub. One that is dropped instead (the hub has
/// ended meanwhile) gives back what was granted.
struct Delivery {
    ticket: Arc<Ticket>,
    arrived: bool,
}

impl Delivery {
    fn arrive(mut self) {
        self.arrived = true;
        self.ticket.arrive();
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let ticket = &self.ticket;
        if !self.arrived
            && !POSTING.get()
            && ticket.is_granted()
            && ticket.waiting.swap(false, SeqCst)
            && let Some(give_back) = ticket.give_back.get()
        {
            give_back(ticket);
        }
    }
}
