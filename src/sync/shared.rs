//! Event, result and queue that several threads (and their hubs) share.
//!
//! State under a mutex, waiters as tickets. A giver grants a ticket under the lock;
//! a waiter whose deadline passed or who was killed takes its ticket out under the
//! lock, and finds out there whether it was granted after all.
//!
//! No code of the user's runs under a lock, but for the comparators of queues.
//!
//! The lock is held inside a `fork::Section`, so a forked child finds it free. Whoever
//! takes it there for the first time throws out the tickets of the parent's waiters.

use crate::error::{Error, Result};
use crate::fence;
use crate::fork::{self, Section};
use crate::greenlet::{DestroyFn, KILLED, LinkFn, Waiting};
use crate::handle::{Kind, Object};
use crate::hub::{Callback, Hub};
use crate::registry::{self, Remote, SharedObject};
use crate::sync::queue::{Order, Store};
use crate::sync::result::Outcome;
use crate::ticket::Ticket;
use crate::time::Deadline;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_void};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

type Tickets = VecDeque<Arc<Ticket>>;
type Item = *mut c_void;

/// What the mutex of a shared object guards.
trait Guarded {
    /// `fork::generation()` when the tickets were last looked through.
    fn generation(&mut self) -> &mut u64;
    fn tickets(&mut self) -> impl Iterator<Item = &mut Tickets>;
}

/// A lock that is held.
struct Held<'a, T> {
    // The lock is let go of first: fields are dropped in order.
    state: MutexGuard<'a, T>,
    _section: Section,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

fn lock<T: Guarded>(mutex: &Mutex<T>) -> Held<'_, T> {
    let section = Section::enter();
    let mut state = mutex.lock().unwrap_or_else(|e| e.into_inner());
    if *state.generation() != fork::generation() {
        *state.generation() = fork::generation();
        state.tickets().for_each(|tickets| tickets.retain(|t| !t.is_void()));
    }
    Held { state, _section: section }
}

fn nudge(ticket: &Arc<Ticket>) {
    ticket.nudge(); // a hub that has ended needs none
}

fn take_out(tickets: &mut Tickets, ticket: &Arc<Ticket>) {
    if let Some(place) = tickets.iter().position(|t| Arc::ptr_eq(t, ticket)) {
        tickets.remove(place);
    }
}

fn observe(tickets: &mut Tickets, ticket: &Arc<Ticket>, on: bool) {
    if on { tickets.push_back(ticket.clone()) } else { take_out(tickets, ticket) }
}

fn destroy(f: Option<DestroyFn>, value: Item) {
    if let Some(f) = f {
        let _ = fence::call(|| "a destructor".into(), || f(value));
    }
}

macro_rules! shared_object {
    ($type:ty, $kind:expr) => {
        // SAFETY: everything in it is under a mutex or atomic; the pointers it
        // carries are the user's to share, which is what it was made for.
        unsafe impl Send for $type {}
        // SAFETY: as above.
        unsafe impl Sync for $type {}
        // SAFETY: `close` drops the Arc that `registry::share` stored.
        unsafe impl Object for $type {
            const KIND: Kind = $kind;
            unsafe fn close(this: *const Self) {
                // SAFETY: stored by `registry::share`.
                unsafe { Arc::from_raw(this) }.closed();
            }
        }
        // SAFETY: as above.
        unsafe impl SharedObject for $type {}
    };
}

/// Whether a call may be made at all, and whether it may wait when it must. Asked before
/// anything is locked: the binding's answer is code of its own.
fn may_park(hub: &Hub, deadline: Deadline) -> Result<Result<()>> {
    if deadline.is_now() {
        return Ok(Err(Error::AGAIN));
    }
    hub.check()?;
    Ok(hub.may_park())
}

/// A hand-over has won over what ended the wait: an interrupt is for the next call, and no
/// timeout has cut this one short.
fn pass_on(hub: &Hub, result: &Result<()>) {
    match *result {
        Err(Error::TIMEDOUT) => hub.unfire_scopes(hub.current()),
        Err(e) if e != Error::CANCELED => hub.interrupt(hub.current(), e.code()),
        _ => {}
    }
}

// ---- a flag to wait for: what event and result have in common --------------------

struct Gate {
    open: bool,
    closed: bool,
    waiters: Tickets,
    generation: u64,
}

impl Guarded for Gate {
    fn generation(&mut self) -> &mut u64 {
        &mut self.generation
    }
    fn tickets(&mut self) -> impl Iterator<Item = &mut Tickets> {
        [&mut self.waiters].into_iter()
    }
}

impl Gate {
    fn new() -> Mutex<Gate> {
        let generation = fork::generation();
        Mutex::new(Gate { open: false, closed: false, waiters: Tickets::new(), generation })
    }

    fn release_all(&mut self) {
        for ticket in self.waiters.drain(..) {
            ticket.grant();
        }
    }
}

fn wait_at(gate: &Mutex<Gate>, hub: &Hub, handle: i64, deadline: Deadline) -> Result<()> {
    let may_park = may_park(hub, deadline)?;
    let ticket = {
        let mut gate = lock(gate);
        if gate.open {
            return Ok(());
        }
        may_park?;
        let ticket = Ticket::new(hub, std::ptr::null_mut());
        gate.waiters.push_back(ticket.clone());
        ticket
    };
    let mut result = Ok(());
    while result.is_ok() && !ticket.is_granted() {
        result = ticket.park(hub, deadline, Waiting::Object(handle));
    }
    let mut gate = lock(gate);
    take_out(&mut gate.waiters, &ticket);
    if gate.closed {
        return Err(Error::BADF);
    }
    if ticket.is_granted() {
        pass_on(hub, &result);
        return Ok(());
    }
    result
}

// ---- event ---------------------------------------------------------------------

pub struct SharedEvent {
    gate: Mutex<Gate>,
}

shared_object!(SharedEvent, Kind::Event);

impl Default for SharedEvent {
    fn default() -> Self {
        SharedEvent { gate: Gate::new() }
    }
}

impl SharedEvent {
    pub fn create() -> Result<i64> {
        registry::share(Arc::new(SharedEvent::default()))
    }

    /// Nobody sets it any more: who waits gets EBADF.
    pub fn closed(&self) {
        let mut gate = lock(&self.gate);
        gate.closed = true;
        gate.release_all();
    }

    pub fn set(&self) {
        let mut gate = lock(&self.gate);
        gate.open = true;
        gate.release_all();
    }

    pub fn clear(&self) {
        lock(&self.gate).open = false;
    }

    pub fn is_set(&self) -> bool {
        lock(&self.gate).open
    }

    pub fn wait(&self, hub: &Hub, handle: i64, deadline: Deadline) -> Result<()> {
        wait_at(&self.gate, hub, handle, deadline)
    }

    /// Has `ticket` wake when it is set, or not any more.
    pub fn observe(&self, ticket: &Arc<Ticket>, on: bool) {
        observe(&mut lock(&self.gate).waiters, ticket, on);
    }
}

// ---- result --------------------------------------------------------------------

/// Stays in the list when the result is set, until it has come to its thread's loop:
/// whoever sets `gone` first, that or an unlink, has it.
#[derive(Clone)]
struct RemoteLink {
    gone: Arc<AtomicBool>,
    id: i64,
    remote: Arc<Remote>,
    call: LinkFn,
    arg: *mut c_void,
}

pub struct SharedResult {
    gate: Mutex<Gate>,
    outcome: OnceLock<Outcome>,
    destroy: Option<DestroyFn>,
    links: Mutex<Vec<RemoteLink>>,
}

shared_object!(SharedResult, Kind::Result);

/// Carries a pointer of the user's to another thread.
struct Carried(*mut c_void);
// SAFETY: the user shares it by linking from one thread what another one sets.
unsafe impl Send for Carried {}

fn post_link(link: &RemoteLink, handle: i64) {
    let (id, call, arg, gone) = (link.id, link.call, Carried(link.arg), link.gone.clone());
    let _ = link.remote.task(move || {
        let arg = arg;
        if let Some(hub) = Hub::existing().filter(|_| !gone.swap(true, SeqCst)) {
            hub.later(Callback::Link(call, handle, arg.0, id));
        }
    });
}

impl SharedResult {
    pub fn new(destroy: Option<DestroyFn>) -> Arc<SharedResult> {
        let links = Mutex::new(Vec::new());
        Arc::new(SharedResult { gate: Gate::new(), outcome: OnceLock::new(), destroy, links })
    }

    fn closed(&self) {
        let mut gate = lock(&self.gate);
        gate.closed = true;
        gate.release_all();
        self.links(&gate).clear();
    }

    /// Under the gate's lock, so that it is a formality.
    fn links(&self, _gate: &Held<Gate>) -> MutexGuard<'_, Vec<RemoteLink>> {
        self.links.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn is_set(&self) -> bool {
        self.outcome.get().is_some()
    }

    pub fn set(&self, handle: i64, outcome: Outcome) -> Result<()> {
        let mut gate = lock(&self.gate);
        self.outcome.set(outcome).map_err(|_| Error::ALREADY)?;
        gate.open = true;
        gate.release_all();
        self.links(&gate).iter().for_each(|link| post_link(link, handle));
        Ok(())
    }

    pub fn wait(&self, hub: &Hub, handle: i64, deadline: Deadline) -> Result<()> {
        wait_at(&self.gate, hub, handle, deadline)
    }

    /// Has `ticket` wake when it is set, or not any more.
    pub fn observe(&self, ticket: &Arc<Ticket>, on: bool) {
        observe(&mut lock(&self.gate).waiters, ticket, on);
    }

    pub fn get(&self, hub: &Hub, handle: i64, deadline: Deadline) -> Result<Item> {
        self.wait(hub, handle, deadline)?;
        self.outcome.get().ok_or(Error::BADF)?.get()
    }

    pub fn message(&self) -> *const std::ffi::c_char {
        let message: Option<&CStr> = self.outcome.get().and_then(|o| o.message.as_deref());
        message.unwrap_or(c"").as_ptr()
    }

    /// `call` runs in the loop of the thread that links.
    pub fn link(&self, hub: &Hub, handle: i64, call: LinkFn, arg: *mut c_void) -> i64 {
        let id = hub.next_link.get();
        hub.next_link.set(id + 1);
        let gate = lock(&self.gate);
        if self.is_set() {
            hub.later(Callback::Link(call, handle, arg, id));
        } else {
            self.links(&gate).push(RemoteLink { gone: Arc::default(), id, remote: hub.remote.clone(), call, arg });
        }
        id
    }

    pub fn unlink(&self, hub: &Hub, handle: i64, id: i64) -> Result<()> {
        let gate = lock(&self.gate);
        let mut links = self.links(&gate);
        let mine = |l: &RemoteLink| l.id == id && l.remote.number == hub.remote.number;
        match links.iter().position(mine).map(|place| links.remove(place)) {
            Some(link) if !link.gone.swap(true, SeqCst) => Ok(()),
            _ => hub.take_back_link(handle, id),
        }
    }
}

impl Drop for SharedResult {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.get().filter(|o| o.code == 0) {
            destroy(self.destroy, outcome.value);
        }
    }
}

/// A failure with its message, for a result.
pub fn failure(code: i32, message: &str) -> Outcome {
    Outcome::failure(code, CString::new(message.replace('\0', " ")).ok())
}

// ---- queue ---------------------------------------------------------------------

struct State {
    store: Store,
    getters: Tickets,
    putters: Tickets,
    joiners: Tickets,
    /// Told to look again whenever something is put.
    observers: Tickets,
    shut: bool,
    closed: bool,
    unfinished: usize,
    generation: u64,
}

impl Guarded for State {
    fn generation(&mut self) -> &mut u64 {
        &mut self.generation
    }
    fn tickets(&mut self) -> impl Iterator<Item = &mut Tickets> {
        [&mut self.getters, &mut self.putters, &mut self.joiners, &mut self.observers].into_iter()
    }
}

pub struct SharedQueue {
    state: Mutex<State>,
    /// The thread that holds the lock, for comparators that use their own queue.
    holder: AtomicUsize,
    /// Its comparator has closed it, while the lock was held.
    closes_later: AtomicBool,
    capacity: usize,
    destroy: Option<DestroyFn>,
}

/// The state of a queue, locked.
struct Open<'q> {
    queue: &'q SharedQueue,
    /// There until it is dropped.
    state: ManuallyDrop<Held<'q, State>>,
}

impl Deref for Open<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Open<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.queue.holder.store(0, Relaxed);
        // SAFETY: here alone, and nobody uses it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.state) };
        if self.queue.closes_later.swap(false, Relaxed) {
            self.queue.closed();
        }
    }
}

shared_object!(SharedQueue, Kind::Queue);

impl SharedQueue {
    pub fn create(order: Order, capacity: usize, destroy: Option<DestroyFn>) -> Result<i64> {
        let state = State {
            store: Store::new(order),
            getters: Tickets::new(),
            putters: Tickets::new(),
            joiners: Tickets::new(),
            observers: Tickets::new(),
            shut: false,
            closed: false,
            unfinished: 0,
            generation: fork::generation(),
        };
        registry::share(Arc::new(SharedQueue {
            state: Mutex::new(state),
            holder: AtomicUsize::new(0),
            closes_later: AtomicBool::new(false),
            capacity,
            destroy,
        }))
    }

    /// EBUSY for a comparator of ours.
    fn open(&self) -> Result<Open<'_>> {
        let me = fork::this_thread();
        if self.holder.load(Relaxed) == me {
            return Err(Error::BUSY);
        }
        let state = ManuallyDrop::new(lock(&self.state));
        self.holder.store(me, Relaxed);
        Ok(Open { queue: self, state })
    }

    fn closed(&self) {
        let items: Vec<Item> = {
            let Ok(mut s) = self.open() else { return self.closes_later.store(true, Relaxed) };
            (s.shut, s.closed) = (true, true);
            let State { getters, putters, joiners, observers, .. } = &mut *s;
            let all = getters.iter().chain(putters.iter()).chain(joiners.iter()).chain(observers.iter());
            all.for_each(nudge);
            std::iter::from_fn(|| s.store.pop()).collect()
        };
        items.into_iter().for_each(|item| destroy(self.destroy, item));
    }

    pub fn len(&self) -> Result<usize> {
        Ok(self.open()?.store.len())
    }

    pub fn is_empty(&self) -> Result<bool> {
        let s = self.open()?;
        Ok(s.store.is_empty() && s.putters.is_empty())
    }

    pub fn is_full(&self) -> Result<bool> {
        Ok(self.len()? >= self.capacity)
    }

    fn ended(s: &State) -> Error {
        if s.closed { Error::BADF } else { Error::PIPE }
    }

    /// Gives `item` to somebody who waits, or stores it if there is room.
    fn offer(&self, s: &mut State, item: Item) -> Result<bool> {
        let arrival = s.store.arrive();
        if Self::hand_over(s, item, arrival) {
        } else if s.store.len() < self.capacity {
            s.store.reserve()?;
            s.store.push(item);
        } else {
            return Ok(false);
        }
        s.unfinished += 1;
        s.observers.iter().for_each(nudge);
        Ok(true)
    }

    /// Hands `item` to the first getter whose hub lives.
    fn hand_over(s: &mut State, item: Item, arrival: u64) -> bool {
        while let Some(ticket) = s.getters.pop_front() {
            ticket.set_value(item);
            ticket.set_arrival(arrival);
            if ticket.grant() {
                return true;
            }
        }
        false
    }

    /// Has `ticket` nudged when something is put, or not any more.
    pub fn observe(&self, ticket: &Arc<Ticket>, on: bool) {
        if let Ok(mut s) = self.open() {
            observe(&mut s.observers, ticket, on);
        }
    }

    /// A get would not wait.
    pub fn is_ready(&self) -> Result<bool> {
        let s = self.open()?;
        Ok(s.shut || !s.store.is_empty() || !s.putters.is_empty())
    }

    pub fn put(&self, hub: &Hub, handle: i64, item: Item, deadline: Deadline) -> Result<()> {
        let may_park = may_park(hub, deadline)?;
        let ticket = {
            let mut s = self.open()?;
            if s.shut {
                return Err(Self::ended(&s));
            }
            if self.offer(&mut s, item)? {
                return Ok(());
            }
            may_park?;
            let ticket = Ticket::new(hub, item);
            s.putters.push_back(ticket.clone());
            s.observers.iter().for_each(nudge);
            ticket
        };
        let mut result = Ok(());
        while result.is_ok() && !ticket.is_granted() && !self.open()?.shut {
            result = ticket.park(hub, deadline, Waiting::Object(handle));
        }
        let mut s = self.open()?;
        if ticket.is_granted() {
            pass_on(hub, &result);
            return Ok(()); // taken is taken, killed or not
        }
        take_out(&mut s.putters, &ticket);
        result.and(Err(Self::ended(&s)))
    }

    /// An item that is there, and room made for a waiting putter's.
    fn take(&self, s: &mut State) -> Option<Item> {
        let item = match s.store.pop() {
            Some(item) => item,
            None => return self.take_from_putter(s),
        };
        while s.store.len() < self.capacity && s.store.reserve().is_ok() {
            let Some(next) = self.take_from_putter(s) else { break };
            s.store.push(next);
        }
        Some(item)
    }

    fn take_from_putter(&self, s: &mut State) -> Option<Item> {
        // One whose hub has ended has taken its item with it.
        let ticket = std::iter::from_fn(|| s.putters.pop_front()).find(|t| t.grant())?;
        s.unfinished += 1;
        Some(ticket.value())
    }

    pub fn get(self: &Arc<Self>, hub: &Hub, handle: i64, deadline: Deadline) -> Result<Item> {
        let may_park = may_park(hub, deadline)?;
        let ticket = {
            let mut s = self.open()?;
            if let Some(item) = self.take(&mut s) {
                return Ok(item);
            }
            if s.shut {
                return Err(Self::ended(&s));
            }
            may_park?;
            let ticket = Ticket::new(hub, std::ptr::null_mut());
            let queue = Arc::downgrade(self);
            ticket.if_lost(move |ticket| {
                if let Some(queue) = queue.upgrade() {
                    let _ = queue.open().map(|s| queue.give_back(s, ticket)); // not in a comparator
                }
            });
            s.getters.push_back(ticket.clone());
            ticket
        };
        let mut result = Ok(());
        while result.is_ok() && !ticket.is_granted() && !self.open()?.shut {
            result = ticket.park(hub, deadline, Waiting::Object(handle));
        }
        let mut s = self.open()?;
        // It may have been granted before it parked, and the news still be on its way.
        ticket.retire();
        if !ticket.is_granted() {
            take_out(&mut s.getters, &ticket);
            return result.and(Err(Self::ended(&s)));
        }
        if hub.current().attention.get() & KILLED != 0 {
            self.give_back(s, &ticket);
            return Err(Error::CANCELED);
        }
        pass_on(hub, &result);
        Ok(ticket.value())
    }

    fn give_back(&self, mut s: Open, ticket: &Ticket) {
        let item = ticket.value();
        if s.closed {
            drop(s);
            destroy(self.destroy, item);
        } else if !Self::hand_over(&mut s, item, ticket.arrival()) {
            s.store.put_back(item, ticket.arrival());
            s.observers.iter().for_each(nudge);
        }
    }

    /// Only what is there now: other threads may take it before you look again.
    pub fn peek(&self) -> Result<Item> {
        let s = self.open()?;
        let waiting = s.putters.front().map(|t| t.value());
        s.store.peek().or(waiting).ok_or(if s.shut { Self::ended(&s) } else { Error::AGAIN })
    }

    pub fn shut(&self) -> Result<()> {
        let mut s = self.open()?;
        s.shut = true;
        s.getters.iter().chain(s.putters.iter()).chain(s.observers.iter()).for_each(nudge);
        Ok(())
    }

    pub fn task_done(&self) -> Result<()> {
        let mut s = self.open()?;
        s.unfinished = s.unfinished.checked_sub(1).ok_or(Error::OVERFLOW)?;
        if s.unfinished == 0 {
            s.joiners.drain(..).for_each(|t| {
                t.grant();
            });
        }
        Ok(())
    }

    pub fn join(&self, hub: &Hub, handle: i64, deadline: Deadline) -> Result<()> {
        let may_park = may_park(hub, deadline)?;
        let ticket = {
            let mut s = self.open()?;
            if s.unfinished == 0 {
                return Ok(());
            }
            may_park?;
            let ticket = Ticket::new(hub, std::ptr::null_mut());
            s.joiners.push_back(ticket.clone());
            ticket
        };
        let mut result = Ok(());
        while result.is_ok() && !ticket.is_granted() && !self.open()?.closed {
            result = ticket.park(hub, deadline, Waiting::Object(handle));
        }
        let mut s = self.open()?;
        take_out(&mut s.joiners, &ticket);
        if ticket.is_granted() {
            pass_on(hub, &result);
            return Ok(());
        }
        result.and(Err(Error::BADF))
    }
}
