//! Watchers: callbacks on the loop, for those who want one instead of a greenlet.
//!
//! ```text
//!            start                something happens            the loop's turn
//!  stopped ---------> active ------------------------> pending ----------------> callback
//!     ^                 |  ^--- goes on, or is over: once-timers, children ----------'
//!     +----- stop ------+
//! ```
//!
//! What happens only marks a watcher as pending; the callbacks run in the loop, those
//! of higher priority first, equal ones in the order they became pending. What
//! becomes pending meanwhile waits for the next turn, so a watcher that wakes itself
//! can not keep the loop from polling.
//!
//! An active watcher keeps the loop running (`hub.hold`) unless it is unref'd; its
//! own timer and descriptor nodes do not count. Closing stops: an active watcher is in
//! the handle table, so nodes never outlive their owner.

use crate::error::{Error, Result};
use crate::handle::{Kind, kind_of};
use crate::hub::{Callback, Hub, Phase};
use crate::object::{self, insert, keep};
use crate::poller::{Added, ERROR, FdNode, GONE, READ, WRITE};
use crate::registry;
use crate::signal;
use crate::sys;
use crate::timer::TimerNode;
use crate::waitlist::WaitList;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{CString, c_int, c_void};
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// (watcher, what happened, user data)
pub type WatcherFn = extern "C-unwind" fn(i64, c_int, *mut c_void);

pub const MAX_PRIORITY: i32 = 2;
const PRIORITIES: usize = 2 * MAX_PRIORITY as usize + 1;
const STAT_INTERVAL_NS: i64 = 5_000_000_000;

/// What a watcher watches.
pub enum Source {
    Io { fd: RawFd, events: u32 },
    Timer { after: i64, repeat: i64 },
    Signal(c_int),
    Child(i32),
    Async,
    Loop(Phase),
    Stat { path: CString, interval: i64 },
}

/// What a stat watcher compares; `None` while the path names nothing.
type Look = Option<[i64; 11]>;

pub struct Watcher {
    source: Source,
    call: WatcherFn,
    pub user: Cell<*mut c_void>,
    handle: Cell<i64>,
    priority: Cell<i32>,
    active: Cell<bool>,
    /// Keeps the loop running while active.
    counted: Cell<bool>,
    /// Its ticket in the queue of callbacks to run; 0 when not pending.
    pending: Cell<u64>,
    /// What the callback will be told: io events add up.
    what: Cell<c_int>,
    /// Something has happened since the last start.
    fired: Cell<bool>,
    waiters: WaitList,
    /// Io: `fd`. Child: the pidfd.
    node: FdNode,
    /// Io: epoll refuses the descriptor because it never blocks.
    always_ready: Cell<bool>,
    /// Child: -1 when SIGCHLD is listened to instead.
    pidfd: Cell<RawFd>,
    /// Timer, Stat.
    timer: TimerNode,
    /// Timer: when it fires next.
    due: Cell<i64>,
    look: Cell<Look>,
}

crate::hub_object!(Watcher, Kind::Watcher);

impl Watcher {
    /// A stopped watcher. EINVAL, EBADF, ENOMEM.
    pub fn create(hub: &Hub, source: Source, call: WatcherFn, user: *mut c_void) -> Result<i64> {
        source.check()?;
        let timer = TimerNode::new(timer_fired);
        timer.counted.set(false);
        let handle = insert(
            hub,
            Watcher {
                source,
                call,
                user: Cell::new(user),
                handle: Cell::new(0),
                priority: Cell::new(0),
                active: Cell::new(false),
                counted: Cell::new(true),
                pending: Cell::new(0),
                what: Cell::new(0),
                fired: Cell::new(false),
                waiters: WaitList::default(),
                node: FdNode::new(fd_ready).persistent(),
                always_ready: Cell::new(false),
                pidfd: Cell::new(-1),
                timer,
                due: Cell::new(0),
                look: Cell::new(None),
            },
        )?;
        object::get::<Watcher>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        self.stop(hub);
        hub.refuse_all(&self.waiters, Error::BADF);
    }

    pub fn is_active(&self) -> bool {
        self.active.get()
    }

    pub fn is_pending(&self) -> bool {
        self.pending.get() != 0
    }

    /// For `weald_wait`: it has fired at least once since it was started.
    pub fn has_fired(&self) -> bool {
        self.fired.get()
    }

    /// Those who wait for it to fire.
    pub fn waiters(&self) -> &WaitList {
        &self.waiters
    }

    /// Whether it keeps the loop running while active.
    pub fn set_counted(&self, hub: &Hub, counted: bool) {
        if self.counted.replace(counted) != counted && self.active.get() {
            if counted { hub.hold() } else { hub.unhold() }
        }
    }

    /// From the next time it becomes pending. EINVAL.
    pub fn set_priority(&self, priority: i32) -> Result<()> {
        if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&priority) {
            return Err(Error::INVAL);
        }
        self.priority.set(priority);
        Ok(())
    }

    // ---- start, stop -------------------------------------------------------------

    /// Begins to watch; nothing changes when it does already.
    pub fn start(&self, hub: &Hub) -> Result<()> {
        if self.active.get() {
            return Ok(());
        }
        Watchers::of(hub).get_known(hub);
        self.begin(hub)?;
        self.activate(hub);
        match self.source {
            Source::Io { .. } if self.always_ready.get() => self.become_pending(hub, self.always()),
            // It may have ended before, or be no child at all. Not now: others may be
            // about to be started for the same child.
            Source::Child(pid) => hub.later(Callback::Task(Box::new(move |hub| look_for_child(hub, pid)))),
            _ => {}
        }
        Ok(())
    }

    fn begin(&self, hub: &Hub) -> Result<()> {
        match &self.source {
            Source::Io { fd, events } => {
                self.always_ready.set(hub.poller().add(&self.node, *fd, *events)? == Added::AlwaysReady);
                Ok(())
            }
            Source::Timer { after, .. } => self.set_timer(hub, sys::monotonic_ns().saturating_add((*after).max(0))),
            Source::Signal(signo) => signal::subscribe(hub, *signo),
            Source::Child(pid) => self.begin_child(hub, *pid),
            Source::Async => Ok(()),
            Source::Loop(phase) => {
                let count = &hub.phase_counts[*phase as usize];
                count.set(count.get() + 1);
                Ok(())
            }
            Source::Stat { path, interval } => {
                self.set_timer(hub, sys::monotonic_ns().saturating_add(*interval))?;
                self.look.set(look_at(path));
                Ok(())
            }
        }
    }

    fn begin_child(&self, hub: &Hub, pid: i32) -> Result<()> {
        match sys::pidfd_open(pid) {
            Ok(fd) => match hub.poller().add(&self.node, fd, READ) {
                Ok(_) => {
                    self.pidfd.set(fd);
                    Ok(())
                }
                Err(e) => {
                    sys::close(fd);
                    Err(e)
                }
            },
            Err(e) if e.is_no_room() => Err(e),
            // No pidfds in this kernel, or a sandbox forbids them: SIGCHLD will do. Or
            // there is no such process: the look that follows will find that.
            Err(_) => signal::subscribe(hub, libc::SIGCHLD),
        }
    }

    fn activate(&self, hub: &Hub) {
        self.fired.set(false);
        self.active.set(true);
        if self.counted.get() {
            hub.hold();
        }
        if self.is_listed() {
            Watchers::of(hub).listed.borrow_mut().push(keep(self));
        }
    }

    /// No callback runs from now on, not even one that is pending.
    pub fn stop(&self, hub: &Hub) {
        self.pending.set(0);
        if self.active.get() {
            self.deactivate(hub);
        }
    }

    /// Ceases to watch. A pending callback still runs.
    fn deactivate(&self, hub: &Hub) {
        self.active.set(false);
        if self.counted.get() {
            hub.unhold();
        }
        if self.is_listed() {
            Watchers::of(hub).unlist(self);
        }
        hub.timers.cancel(&self.timer);
        hub.poller().remove(&self.node);
        match self.source {
            Source::Signal(signo) => signal::unsubscribe(hub, signo),
            Source::Child(_) if self.pidfd.get() < 0 => signal::unsubscribe(hub, libc::SIGCHLD),
            Source::Child(_) => self.close_pidfd(hub),
            Source::Loop(phase) => {
                let count = &hub.phase_counts[phase as usize];
                count.set(count.get() - 1);
            }
            _ => {}
        }
    }

    fn close_pidfd(&self, hub: &Hub) {
        let fd = self.pidfd.replace(-1);
        hub.poller().forget(fd);
        sys::close(fd);
    }

    /// Found by what it watches, not by a node of its own.
    fn is_listed(&self) -> bool {
        matches!(self.source, Source::Signal(_) | Source::Child(_) | Source::Loop(_))
    }

    // ---- timers --------------------------------------------------------------------

    fn set_timer(&self, hub: &Hub, due: i64) -> Result<()> {
        hub.timers.set(&self.timer, due)?;
        self.due.set(due);
        Ok(())
    }

    /// Starts a timer's period anew, whether or not it runs. EINVAL when it is no
    /// timer or does not repeat.
    pub fn again(&self, hub: &Hub) -> Result<()> {
        let Source::Timer { repeat: repeat @ 1.., .. } = self.source else { return Err(Error::INVAL) };
        Watchers::of(hub).get_known(hub);
        hub.timers.cancel(&self.timer);
        self.set_timer(hub, sys::monotonic_ns().saturating_add(repeat))?;
        self.pending.set(0);
        self.fired.set(false);
        if !self.active.get() {
            self.activate(hub);
        }
        Ok(())
    }

    /// The timer has left the heap.
    fn tick(&self, hub: &Hub) {
        match &self.source {
            Source::Timer { repeat: 0, .. } => {
                self.deactivate(hub);
                self.become_pending(hub, 0);
            }
            Source::Timer { repeat, .. } => {
                self.rearm(hub, next_on_grid(self.due.get(), *repeat, sys::monotonic_ns()));
                self.become_pending(hub, 0);
            }
            Source::Stat { path, interval } => {
                self.rearm(hub, sys::monotonic_ns().saturating_add(*interval));
                let look = look_at(path);
                if self.look.replace(look) != look {
                    self.become_pending(hub, 1);
                }
            }
            _ => {}
        }
    }

    /// It has just left the heap, so there is room; if not, it ends.
    fn rearm(&self, hub: &Hub, due: i64) {
        if self.set_timer(hub, due).is_err() {
            self.deactivate(hub);
        }
    }

    // ---- becoming pending ----------------------------------------------------------

    /// Something has happened. Runs no code of the user's.
    fn become_pending(&self, hub: &Hub, what: c_int) {
        let watchers = Watchers::of(hub);
        watchers.enqueue(self, what);
        watchers.schedule(hub);
    }

    /// What an always ready descriptor is ready for: all it was asked for.
    fn always(&self) -> c_int {
        match self.source {
            Source::Io { events, .. } => events as c_int,
            _ => 0,
        }
    }

    fn fd_got(&self, hub: &Hub, got: u32) {
        match self.source {
            Source::Child(pid) => look_for_child(hub, pid),
            _ if got & GONE != 0 => {
                // Closed or reused behind our back: told once, then it is over.
                self.deactivate(hub);
                self.become_pending(hub, ERROR as c_int);
            }
            _ => self.become_pending(hub, got as c_int),
        }
    }

    fn run_callback(&self, hub: &Hub) {
        // Who waits for it goes on when the callback has run: it has only been made ready.
        self.fired.set(true);
        while let Some(node) = self.waiters.pop() {
            hub.grant(node);
        }
        let what = self.what.take();
        let (handle, user) = (self.handle.get(), self.user.get());
        hub.as_loop(&|| "a watcher's callback".into(), || (self.call)(handle, what, user));
        if self.active.get() && self.always_ready.get() {
            self.become_pending(hub, self.always());
        }
    }

    /// In a forked child: the parent watches. What it waited for here is gone with the
    /// poller and the timers; only the copy of its descriptor is left.
    fn forget(&self) {
        self.active.set(false);
        self.pending.set(0);
        let fd = self.pidfd.replace(-1);
        if fd >= 0 {
            sys::close(fd);
        }
    }

    /// # Safety
    /// `node` is the field of that name of a living watcher.
    unsafe fn of_timer<'a>(node: *const TimerNode) -> &'a Watcher {
        // SAFETY: by contract.
        unsafe { &*node.byte_sub(offset_of!(Watcher, timer)).cast::<Watcher>() }
    }

    /// # Safety
    /// As for `of_timer`.
    unsafe fn of_node<'a>(node: *const FdNode) -> &'a Watcher {
        // SAFETY: by contract.
        unsafe { &*node.byte_sub(offset_of!(Watcher, node)).cast::<Watcher>() }
    }
}

unsafe fn timer_fired(node: *const TimerNode) {
    if let Some(hub) = Hub::existing() {
        // SAFETY: only watchers' timers carry this function; see the file's head.
        unsafe { Watcher::of_timer(node) }.tick(hub);
    }
}

unsafe fn fd_ready(node: *const FdNode) {
    if let Some(hub) = Hub::existing() {
        // SAFETY: only watchers' nodes carry this function, and a node that is told is alive.
        let got = unsafe { &*node }.got.get();
        // SAFETY: as above.
        unsafe { Watcher::of_node(node) }.fd_got(hub, got);
    }
}

impl Source {
    fn check(&self) -> Result<()> {
        let good = match self {
            Source::Io { fd, .. } if *fd < 0 => return Err(Error::BADF),
            Source::Io { events, .. } => *events != 0 && events & !(READ | WRITE) == 0,
            Source::Timer { repeat, .. } => *repeat >= 0,
            Source::Signal(signo) => return signal::check(*signo),
            Source::Child(pid) => *pid > 0,
            Source::Stat { path, interval } => !path.is_empty() && *interval > 0,
            Source::Async | Source::Loop(_) => true,
        };
        if good { Ok(()) } else { Err(Error::INVAL) }
    }
}

/// The interval of a stat watcher: 0 stands for the usual one.
pub fn stat_interval(ns: i64) -> i64 {
    if ns == 0 { STAT_INTERVAL_NS } else { ns }
}

/// The first moment after `now` that is a whole number of periods after `due`: a
/// repeating timer does not drift, and one that was held up does not catch up.
fn next_on_grid(due: i64, period: i64, now: i64) -> i64 {
    let next = due.saturating_add(period);
    if next > now {
        return next;
    }
    let periods = (now - due) / period + 1;
    due.saturating_add(period.saturating_mul(periods))
}

/// Access time is left out: reading a file does not change it.
fn look_at(path: &CString) -> Look {
    let s = sys::stat(path)?;
    Some([
        s.st_dev as i64,
        s.st_ino as i64,
        i64::from(s.st_mode),
        s.st_nlink as i64,
        i64::from(s.st_uid),
        i64::from(s.st_gid),
        s.st_size,
        s.st_mtime,
        s.st_mtime_nsec,
        s.st_ctime,
        s.st_ctime_nsec,
    ])
}

/// Reaps `pid` if it has ended, and tells every watcher of it: whoever looks first
/// takes the status away from the others.
fn look_for_child(hub: &Hub, pid: i32) {
    let watching = Watchers::of(hub).find(|w| matches!(w.source, Source::Child(p) if p == pid));
    if watching.is_empty() {
        return; // stopped meanwhile: the child is the program's to reap
    }
    match sys::reap(pid) {
        Ok(None) => {}
        Ok(Some(status)) => {
            tell_of_child(hub, watching, status);
            if let Some(told) = Watchers::of(hub).on_reap.get() {
                told(hub, pid, status);
            }
        }
        // Reaped by somebody else, or no child of ours.
        Err(_) => tell_of_child(hub, watching, Error::CHILD.code()),
    }
}

fn tell_of_child(hub: &Hub, watching: Vec<Rc<Watcher>>, what: c_int) {
    for watcher in watching {
        watcher.deactivate(hub);
        watcher.become_pending(hub, what);
    }
}

/// (hub, child, its wait status)
pub type ReapFn = fn(&Hub, i32, c_int);

/// Has `f` told of each child that is reaped for a watcher.
pub fn on_reap(hub: &Hub, f: ReapFn) {
    Watchers::of(hub).on_reap.set(Some(f));
}

/// A child has been reaped elsewhere in this hub: its watchers get the status.
pub fn reaped(hub: &Hub, pid: i32, status: c_int) {
    tell_of_child(hub, Watchers::of(hub).find(|w| matches!(w.source, Source::Child(p) if p == pid)), status);
}

/// A signal came that somebody here has subscribed to.
fn on_signal(hub: &Hub, signo: c_int) {
    let watchers = Watchers::of(hub);
    for w in watchers.find(|w| matches!(w.source, Source::Signal(s) if s == signo)) {
        w.become_pending(hub, signo);
    }
    if signo == libc::SIGCHLD {
        for w in watchers.find(|w| matches!(w.source, Source::Child(_)) && w.pidfd.get() < 0) {
            if let Source::Child(pid) = w.source {
                look_for_child(hub, pid);
            }
        }
    }
}

// ---- the watchers of a hub -------------------------------------------------------

/// Watchers in the order in which they came, each with its ticket.
type Queued = VecDeque<(u64, Rc<Watcher>)>;

#[derive(Default)]
struct Watchers {
    /// The hub knows of us.
    known: Cell<bool>,
    /// Those whose callbacks are to run, with their tickets; lowest priority first.
    queues: [RefCell<Queued>; PRIORITIES],
    last_ticket: Cell<u64>,
    /// A task that runs them waits in the hub's queue.
    scheduled: Cell<bool>,
    /// Active watchers that are found by what they watch, in the order they were
    /// started. Looked through from end to end; normally a handful.
    listed: RefCell<Vec<Rc<Watcher>>>,
    /// Somebody else who wants to know of children that are reaped here.
    on_reap: Cell<Option<ReapFn>>,
}

impl Watchers {
    fn of(hub: &Hub) -> &Watchers {
        hub.extension::<Watchers>()
    }

    fn get_known(&self, hub: &Hub) {
        if !self.known.replace(true) {
            hub.set_phase_fn(Box::new(|hub, phase| Watchers::of(hub).run_phase(hub, phase)));
            hub.at_fork(after_fork);
            signal::listen(hub, on_signal);
        }
    }

    fn find(&self, wanted: impl Fn(&Watcher) -> bool) -> Vec<Rc<Watcher>> {
        self.listed.borrow().iter().filter(|w| wanted(w)).cloned().collect()
    }

    fn unlist(&self, watcher: &Watcher) {
        self.listed.borrow_mut().retain(|w| !std::ptr::eq(&**w, watcher));
    }

    /// At its priority's end, unless it is in the queue already.
    fn enqueue(&self, watcher: &Watcher, what: c_int) {
        if watcher.is_pending() {
            watcher.what.set(watcher.what.get() | what);
            return;
        }
        let ticket = self.last_ticket.get() + 1;
        self.last_ticket.set(ticket);
        watcher.pending.set(ticket);
        watcher.what.set(what);
        let queue = (watcher.priority.get() + MAX_PRIORITY) as usize;
        self.queues[queue].borrow_mut().push_back((ticket, keep(watcher)));
    }

    fn schedule(&self, hub: &Hub) {
        if !self.scheduled.replace(true) {
            hub.later(Callback::Task(Box::new(|hub| {
                let watchers = Watchers::of(hub);
                watchers.scheduled.set(false);
                watchers.run_pending(hub);
            })));
        }
    }

    /// Runs the callbacks that are pending now.
    fn run_pending(&self, hub: &Hub) {
        let last = self.last_ticket.get();
        while let Some(watcher) = self.take_next(last) {
            watcher.run_callback(hub);
        }
    }

    /// The next in order with a ticket up to `last`. A ticket that its watcher does
    /// not hold any more is void: it was stopped.
    fn take_next(&self, last: u64) -> Option<Rc<Watcher>> {
        for queue in self.queues.iter().rev() {
            let mut queue = queue.borrow_mut();
            while queue.front().is_some_and(|(ticket, _)| *ticket <= last) {
                let (ticket, watcher) = queue.pop_front()?;
                if watcher.pending.get() == ticket {
                    watcher.pending.set(0);
                    return Some(watcher);
                }
            }
        }
        None
    }

    /// Around the poll. Its watchers, and what is pending anyway, run here and now: a
    /// task in the queue would keep the hub from sleeping.
    fn run_phase(&self, hub: &Hub, phase: Phase) {
        let is_its = |w: &Watcher| matches!(w.source, Source::Loop(p) if p == phase);
        for w in self.listed.borrow().iter().filter(|w| is_its(w)) {
            self.enqueue(w, 0);
        }
        self.run_pending(hub);
    }
}

impl Drop for Watchers {
    /// The hub of a thread that ends does not close handles, because that may run code
    /// of the user's. Ours does not, and holds descriptors.
    fn drop(&mut self) {
        let Some(hub) = Hub::existing() else { return };
        for handle in handles(hub) {
            if let Ok(closer) = hub.table.remove(handle) {
                closer.close();
            }
        }
    }
}

fn handles(hub: &Hub) -> impl Iterator<Item = i64> {
    hub.table.handles_of(Kind::Watcher).into_iter()
}

/// In a forked child every watcher is stopped; it can be started there.
fn after_fork(hub: &Hub) {
    handles(hub).filter_map(|h| object::get::<Watcher>(hub, h).ok()).for_each(Watcher::forget);
    let watchers = Watchers::of(hub);
    watchers.listed.borrow_mut().clear();
    watchers.queues.iter().for_each(|q| q.borrow_mut().clear());
    watchers.scheduled.set(false);
    hub.phase_counts.iter().for_each(|c| c.set(0));
    SENT.iter().for_each(|s| s.store(0, SeqCst));
}

// ---- async -----------------------------------------------------------------------

/// Handles with a send from another thread on its way, by hash: many sends before
/// the hub looks are one post. Two handles with the same hash push each other out;
/// then some sends are posted that need not be, none is lost.
static SENT: [AtomicI64; 256] = [const { AtomicI64::new(0) }; 256];

fn sent(handle: i64) -> &'static AtomicI64 {
    let hash = (handle as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    &SENT[hash as usize]
}

/// Has the callback of an async watcher run in its hub. From any thread. EBADF,
/// EINVAL (another kind of watcher; seen only in its own thread).
pub fn send(handle: i64) -> Result<()> {
    if let Some(hub) = Hub::existing()
        && hub.table.contains(handle)
    {
        return send_here(hub, handle);
    }
    if handle <= 0 || kind_of(handle) != Kind::Watcher as u8 {
        return Err(Error::BADF);
    }
    let remote = registry::hub_of(handle).ok_or(Error::BADF)?;
    if Hub::existing().is_some_and(|hub| hub.remote.number == remote.number) {
        return Err(Error::BADF); // ours, and stale
    }
    if sent(handle).swap(handle, SeqCst) == handle {
        return Ok(()); // the one on its way has not arrived
    }
    let arrived = move || sent(handle).compare_exchange(handle, 0, SeqCst, SeqCst);
    let posted = remote.task(move || {
        // First: a send from now on needs a post of its own.
        let _ = arrived();
        if let Some(hub) = Hub::existing() {
            let _ = send_here(hub, handle);
        }
    });
    posted.map_err(|_| {
        let _ = arrived();
        Error::BADF // the hub is ending, and its handles with it
    })
}

fn send_here(hub: &Hub, handle: i64) -> Result<()> {
    let watcher = object::get::<Watcher>(hub, handle)?;
    if !matches!(watcher.source, Source::Async) {
        return Err(Error::INVAL);
    }
    if watcher.active.get() {
        watcher.become_pending(hub, 0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeating_timer_stays_on_its_grid() {
        assert_eq!(next_on_grid(100, 10, 100), 110);
        assert_eq!(next_on_grid(100, 10, 109), 110);
        assert_eq!(next_on_grid(100, 10, 110), 120);
        assert_eq!(next_on_grid(100, 10, 137), 140);
        assert_eq!(next_on_grid(100, i64::MAX, 137), i64::MAX);
    }
}
