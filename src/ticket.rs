//! Waiting for another thread: a ticket is held by the waiter and by whoever will
//! end the wait.
//!
//! The giver fills in a value and posts a wake-up to the waiter's hub. Filling in
//! and giving up are decided under the lock of the object the ticket waits in, so a
//! value is never lost between the two: either the waiter finds it, or the giver
//! finds that the waiter has left.

use crate::error::Result;
use crate::greenlet::{State, Waiting};
use crate::hub::Hub;
use crate::registry::Remote;
use crate::time::Deadline;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::SeqCst};

pub struct Ticket {
    remote: Arc<Remote>,
    greenlet: i64,
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
            remote: hub.remote.clone(),
            greenlet: hub.current().handle.get(),
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

    /// Ends the wait: called once, from any thread. False when the waiter's hub has
    /// ended, and the waiter with it: then nothing was handed over.
    pub fn grant(self: &Arc<Ticket>) -> bool {
        self.granted.store(true, SeqCst);
        self.nudge()
    }

    /// Has the waiter look again, without granting anything.
    pub fn nudge(self: &Arc<Ticket>) -> bool {
        let ticket = self.clone();
        self.remote.task(move || ticket.arrive()).is_ok()
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
        let result = hub.park(deadline, why);
        hub.unhold();
        self.waiting.store(false, SeqCst);
        result
    }
}
