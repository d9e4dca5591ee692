//! Readiness of descriptors: the only user of mio.
//!
//! mio makes the poller and its waker. Descriptors that belong to somebody else are
//! registered level-triggered on mio's epoll (mio itself knows edges only): waiting
//! again after a partial read must not hang. A registration stays when a wait ends,
//! so that a read loop costs no epoll_ctl; it is taken back when an event comes that
//! nobody waits for.
//!
//! The price of keeping registrations is that a descriptor may be closed and its
//! number reused behind our back: see `verify` and `sweep`.
//!
//! TCP connections are told edges instead, as long as only calls wait for them that try for
//! themselves: the kernel then need not look at each once more before it sleeps, which is
//! some tenth of a microsecond an event. Nothing is missed by it. Whoever has seen the
//! connection empty is told of what comes later; an event that finds nobody waiting leaves
//! word that it may not be empty any more; what does not show in a short read (an end, urgent
//! data) comes with a bit of its own, and is remembered. A verification tells again besides.
//!
//! An event carries descriptor and generation; events of an older generation (a
//! dup'ed description that lives on) are dropped.

mod epoll;
mod hints;
mod life;
mod node;
mod readiness;
mod slot;
mod sweep;
#[cfg(test)]
mod tests;
mod trust;
mod verify;

pub use hints::Advice;
pub use node::{FdNode, NotifyFn};
pub use readiness::{CANCELLED, ERROR, GONE, HUP, PRI, RDHUP, READ, WRITE, wake_code};
pub use slot::Nature;

use crate::error::{Error, Result};
use crate::sys;
use epoll::{ALARM, Epoll, NONE, Outer};
use mio::Waker;
use node::LONG_AGO;
use readiness::{EDGE_BITS, from_epoll, lost, to_epoll};
use slot::{DRAINED, EMPTY, HAS_EDGES, NO_EDGES, REGISTERED, SUSPECT, Slot, UNVERIFIED, WARY};
use std::cell::{Cell, UnsafeCell};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use sweep::Sweep;
use trust::{FRESH_NS, Trust, Unverified};

const BATCH: usize = 256;

/// Of what is longer than that a millisecond is no part to speak of.
const SHORT_NS: i64 = 100_000_000;

/// How soon to try again when there is no descriptor for an epoll.
const NAP_NS: i64 = 1_000_000;

/// An event that nobody waits for comes again with every poll. It is borne so often:
/// mostly whoever was told of it has just not had its turn to read, and would have to
/// register anew.
const BORNE: u16 = 4;

/// So much more often, while there are greenlets that have not had their turn.
const WHILE_BUSY: u16 = 64;

/// Whether a wait has begun, or needs none.
#[derive(PartialEq, Eq, Debug)]
pub enum Added {
    Waiting,
    /// A regular file or the like, which epoll refuses: it never blocks.
    AlwaysReady,
}

pub struct Poller {
    epoll: UnsafeCell<Epoll>,
    /// The number of `epoll`; NONE in a forked child that could not make its own: that one is
    /// the parent's.
    epoll_fd: Cell<RawFd>,
    outer: Outer,
    /// Events come that nobody can switch off, see `renew`.
    haunted: Cell<bool>,
    renewed: Cell<bool>,
    slots: UnsafeCell<Vec<Slot>>,
    linked: Cell<usize>,
    /// So many of them are watchers.
    watching: Cell<usize>,
    events: UnsafeCell<Vec<libc::epoll_event>>,
    unverified: Unverified,
    sweep: Sweep,
    /// When the hub polled last.
    polled_at: Cell<i64>,
    no_pwait2: Cell<bool>,
    /// Greenlets are ready that have not run yet.
    others_run: Cell<bool>,
}

impl Poller {
    pub fn new() -> Result<Poller> {
        let epoll = Epoll::new()?;
        Ok(Poller {
            epoll_fd: Cell::new(epoll.poll.as_raw_fd()),
            epoll: UnsafeCell::new(epoll),
            outer: Outer(Cell::new(NONE)),
            haunted: Cell::new(false),
            renewed: Cell::new(false),
            slots: UnsafeCell::new(Vec::new()),
            linked: Cell::new(0),
            watching: Cell::new(0),
            events: UnsafeCell::new(vec![libc::epoll_event { events: 0, u64: 0 }; BATCH]),
            unverified: Unverified::new(),
            sweep: Sweep::default(),
            polled_at: Cell::new(0),
            no_pwait2: Cell::new(false),
            others_run: Cell::new(false),
        })
    }

    /// The descriptor that a foreign loop polls: readable when ours is, and the same for
    /// the life of this poller. EMFILE, ENOMEM.
    pub fn outer_fd(&self) -> Result<RawFd> {
        if self.outer.get().is_none() {
            self.have_epoll()?;
            self.outer.0.set(sys::epoll_create()?);
            if let Err(e) = self.outer.watch(self.epoll_fd.get()) {
                sys::close(self.outer.0.replace(NONE));
                return Err(e);
            }
        }
        Ok(self.outer.0.get())
    }

    /// In a forked child that could not make its own: tries again.
    fn have_epoll(&self) -> Result<()> {
        if self.epoll_fd.get() == NONE { self.renew() } else { Ok(()) }
    }

    /// How many wait, watchers not counted: those keep the loop running by themselves.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.linked.get() - self.watching.get()
    }

    /// How many nodes are linked, watchers included.
    #[inline]
    pub fn linked(&self) -> usize {
        self.linked.get()
    }

    #[allow(clippy::mut_from_ref)]
    fn slots(&self) -> &mut Vec<Slot> {
        // SAFETY: one thread; no reference is held while `notify` runs or a method
        // of self is called.
        unsafe { &mut *self.slots.get() }
    }

    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    fn slot(&self, fd: RawFd) -> Option<&mut Slot> {
        self.slots().get_mut(usize::try_from(fd).ok()?)
    }

    fn control(&self, op: i32, fd: RawFd, wanted: u32) -> Result<()> {
        let slot = &self.slots()[fd as usize];
        let data = (u64::from(slot.generation) << 32) | fd as u64;
        let edges = if slot.is(HAS_EDGES) { EDGE_BITS } else { 0 };
        sys::epoll_ctl(self.epoll_fd.get(), op, fd, to_epoll(wanted) | edges, data)
    }

    #[allow(clippy::mut_from_ref)]
    fn slot_for(&self, fd: RawFd) -> Result<&mut Slot> {
        let index = usize::try_from(fd).map_err(|_| Error::BADF)?;
        let slots = self.slots();
        if index >= slots.len() {
            // A number far above any limit is no descriptor; do not grow for it.
            // SAFETY: F_GETFD takes no pointer.
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
                return Err(Error::BADF);
            }
            // The memory doubles, and what lies behind the slots is not touched.
            let len = (index + 1).next_multiple_of(64);
            slots.try_reserve(len - slots.len()).map_err(|_| Error::NOMEM)?;
            slots.resize_with(len, || EMPTY);
        }
        Ok(&mut slots[index])
    }

    /// Begins to wait for `wanted` on `fd`. EBADF, EBUSY, ENOMEM.
    #[inline]
    pub fn add(&self, node: &FdNode, fd: RawFd, wanted: u32) -> Result<Added> {
        self.add_to(node, fd, wanted, false)
    }

    /// As `add`, for somebody who will not mind to be woken for nothing.
    #[inline]
    pub fn add_patient(&self, node: &FdNode, fd: RawFd, wanted: u32) -> Result<Added> {
        self.add_to(node, fd, wanted, true)
    }

    #[inline(always)]
    fn add_to(&self, node: &FdNode, fd: RawFd, wanted: u32, patient: bool) -> Result<Added> {
        debug_assert!(!node.is_linked());
        if node.fd.replace(fd) != fd {
            node.since.set(LONG_AGO);
        }
        node.wanted.set(wanted);
        node.got.set(0);
        match self.slot(fd) {
            // The usual wait: nobody else waits, and the kernel knows what it has to.
            Some(slot)
                if slot.first.is_null()
                    && !node.persistent.get()
                    && wanted & !slot.armed() == 0
                    && slot.is(HAS_EDGES) == (patient && slot.wants_edges()) =>
            {
                let trust = self.trust_in(slot, node, patient);
                self.rely_on(slot, fd, trust);
                self.begin(slot, node, true);
                Ok(Added::Waiting)
            }
            _ => self.add_with_care(node, fd, patient),
        }
    }

    /// Why a wait that begins now may rely on a registration.
    #[inline(always)]
    fn trust_in(&self, slot: &Slot, node: &FdNode, patient: bool) -> Trust {
        let is_fresh = || !slot.is(UNVERIFIED) && self.polled_at.get() - node.since.get() < FRESH_NS;
        match patient && !slot.is(SUSPECT) {
            true => Trust::Patient,
            false if is_fresh() => Trust::Fresh,
            false => Trust::Strict,
        }
    }

    /// Notes that a wait begins that relies on the registration of `fd`, whose slot it is.
    #[inline(always)]
    fn rely_on(&self, slot: &mut Slot, fd: RawFd, trust: Trust) {
        slot.trust = trust;
        slot.set(UNVERIFIED, true);
        if !slot.enqueue(trust) {
            self.unverified.push(trust, fd);
        }
    }

    #[inline(always)]
    fn begin(&self, slot: &mut Slot, node: &FdNode, trusting: bool) {
        node.trusting.set(trusting);
        node.since.set(self.polled_at.get());
        slot.link(node);
        self.linked.set(self.linked.get() + 1);
        self.sweep.note_activity();
    }

    #[inline(never)]
    fn add_with_care(&self, node: &FdNode, fd: RawFd, patient: bool) -> Result<Added> {
        let wanted = node.wanted.get();
        self.have_epoll()?;
        let slot = self.slot_for(fd)?;
        if slot.is_taken(node) {
            // Perhaps the other one waits for a description that is gone.
            self.rearm(fd, slot.wanted())?;
            if self.slots()[fd as usize].is_taken(node) {
                return Err(Error::BUSY);
            }
        }
        let slot = &mut self.slots()[fd as usize];
        let all = slot.wanted() | wanted;
        if !patient {
            slot.set(NO_EDGES, true);
        }
        let (edges, had_edges) = (slot.wants_edges(), slot.is(HAS_EDGES));
        slot.set(HAS_EDGES, edges);
        let is_armed = slot.is(REGISTERED) && all & !slot.armed() == 0 && edges == had_edges;
        // A watcher has a wait of its own in what never blocks: it must know at once.
        let trusting = is_armed && !node.persistent.get();
        let trust = self.trust_in(slot, node, patient);
        let trust = if slot.first.is_null() { trust } else { trust.min(slot.trust) };
        if trusting {
            self.rely_on(slot, fd, trust);
        } else {
            slot.trust = trust;
            match self.rearm(fd, all) {
                Ok(Added::Waiting) => {}
                Ok(Added::AlwaysReady) => return Ok(Added::AlwaysReady),
                Err(e) => {
                    self.slots()[fd as usize].set(HAS_EDGES, had_edges);
                    return Err(e);
                }
            }
        }
        if node.persistent.get() {
            self.watching.set(self.watching.get() + 1);
        }
        self.begin(&mut self.slots()[fd as usize], node, trusting);
        Ok(Added::Waiting)
    }

    /// Ends a wait; does nothing when it has ended.
    #[inline(always)]
    pub fn remove(&self, node: &FdNode) {
        if node.is_linked() {
            self.take_off(node);
        }
    }

    #[inline(never)]
    fn take_off(&self, node: &FdNode) {
        self.slots()[node.fd.get() as usize].unlink(node);
        self.linked.set(self.linked.get() - 1);
        if node.persistent.get() {
            self.watching.set(self.watching.get() - 1);
        }
    }

    /// Tells the kernel the interest in `fd`, whatever it knows already. Whoever would
    /// then wait for nothing is told: those who wait for a description that the number
    /// does not name any more, everybody when it is closed or can not be registered, and
    /// those for whom it is ready because it never blocks.
    fn rearm(&self, fd: RawFd, wanted: u32) -> Result<Added> {
        if self.slots()[fd as usize].is(REGISTERED) {
            match self.control(libc::EPOLL_CTL_MOD, fd, wanted) {
                Ok(()) => {
                    self.is_armed(fd, wanted);
                    return Ok(Added::Waiting);
                }
                Err(Error::NOMEM) => return Err(Error::NOMEM), // and all is as it was
                // Closed, or another description; with EPERM one that epoll refuses.
                Err(_) => {
                    self.unverified.mistrust();
                    self.tell_gone(fd);
                    self.slots()[fd as usize].set(SUSPECT, true);
                }
            }
        }
        let slot = &mut self.slots()[fd as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let added = match self.control(libc::EPOLL_CTL_ADD, fd, wanted) {
            Err(e) if e == Error::from_errno(libc::EEXIST) => self.control(libc::EPOLL_CTL_MOD, fd, wanted),
            added => added,
        };
        match added {
            Ok(()) => {
                self.is_armed(fd, wanted);
                Ok(Added::Waiting)
            }
            Err(Error::PERM) => {
                self.is_unarmed(fd);
                self.slots()[fd as usize].nodes().for_each(|n| self.tell(n, n.wanted.get()));
                Ok(Added::AlwaysReady)
            }
            Err(e) => {
                self.is_unarmed(fd);
                self.slots()[fd as usize].nodes().for_each(|n| self.tell(n, lost(e)));
                Err(e)
            }
        }
    }

    fn is_armed(&self, fd: RawFd, wanted: u32) {
        let slot = &mut self.slots()[fd as usize];
        slot.is_armed(wanted);
        slot.trust_proved();
    }

    fn is_unarmed(&self, fd: RawFd) {
        self.slots()[fd as usize].is_unknown();
    }

    /// The description that `fd` named is gone, and who waits for it is told. Who began
    /// to wait since it was last seen means the new one.
    fn tell_gone(&self, fd: RawFd) {
        self.is_unarmed(fd);
        let waits = self.slots()[fd as usize].nodes().filter(|n| !n.trusting.get());
        waits.for_each(|node| self.tell(node, GONE));
    }

    /// Calls off all waits for `fd`; how many. Watchers stay.
    pub fn cancel(&self, fd: RawFd) -> usize {
        let Some(slot) = usize::try_from(fd).ok().and_then(|i| self.slots().get(i)) else { return 0 };
        let waits = slot.nodes().filter(|n| !n.persistent.get());
        waits.map(|node| self.tell(node, CANCELLED)).count()
    }

    fn tell(&self, node: &FdNode, got: u32) {
        if !node.persistent.get() || got & GONE != 0 {
            self.remove(node);
        }
        self.notify(node, got);
    }

    /// Tells the owner of `node`, which was linked just now.
    #[inline(always)]
    fn notify(&self, node: &FdNode, got: u32) {
        node.got.set(got);
        // SAFETY: as it was linked, its owner lives. `notify` only marks somebody ready; it
        // does not run user code or touch the list.
        unsafe { node.notify.get()(node) };
    }

    /// Waits for events, at most `timeout_ns` (`None`: for ever), and tells those
    /// who wait. How many events came; EINTR when a signal came instead.
    pub fn poll(&self, timeout_ns: Option<i64>) -> Result<usize> {
        let came = self.wait(timeout_ns)?;
        let mut n = 0;
        for i in 0..came {
            // SAFETY: `wait` has filled so many; the reference ends here.
            let event = unsafe { *(&*self.events.get()).get_unchecked(i) };
            n += usize::from(self.dispatch(event.u64, event.events));
        }
        if n > 0 {
            self.sweep.note_activity();
        }
        if self.haunted.get() {
            self.renew()?;
        }
        Ok(n)
    }

    /// Has a poll that begins now end at `at` at the latest. False when only a time-out can.
    pub fn ring_by(&self, now: i64, at: i64) -> bool {
        if self.epoll_fd.get() == NONE {
            return false; // the alarm is the parent's
        }
        // SAFETY: a read; it is replaced by `renew` alone, which is not called meanwhile.
        let alarm = unsafe { &(*self.epoll.get()).alarm };
        alarm.as_ref().is_some_and(|alarm| alarm.ring_by(now, at).is_ok())
    }

    fn wait(&self, timeout_ns: Option<i64>) -> Result<usize> {
        if let Err(e) = self.have_epoll() {
            sys::nap(timeout_ns.unwrap_or(i64::MAX).min(NAP_NS)); // timers go on
            return Err(e);
        }
        // SAFETY: the only reference to the buffer; it ends with this call.
        let buffer = unsafe { &mut *self.events.get() };
        // For those without a time the older call does, and is the quicker one.
        if timeout_ns.is_some_and(|ns| ns > 0) && !self.no_pwait2.get() {
            match sys::epoll_pwait2(self.epoll_fd.get(), buffer, timeout_ns) {
                // Before Linux 5.11, or a sandbox that does not know it.
                Err(Error::NOSYS | Error::PERM) => self.no_pwait2.set(true),
                other => return other,
            }
        }
        if let Some(ns) = timeout_ns.filter(|ns| (1..SHORT_NS).contains(ns)) {
            // The older call rounds up to a millisecond; it ends sooner by this.
            let now = sys::monotonic_ns();
            self.ring_by(now, now + ns);
        }
        sys::epoll_wait(self.epoll_fd.get(), buffer, timeout_ns)
    }

    /// Tells of an event; false when it was but the alarm's.
    #[inline(always)]
    fn dispatch(&self, data: u64, bits: u32) -> bool {
        let Some(slot) = self.slots().get_mut(data as u32 as usize) else {
            // No descriptor. The waker tells edges, so there is nothing to read, and the inbox
            // is looked at anyway; the loop looks at its chores whoever wakes it.
            return data != ALARM;
        };
        if slot.generation != (data >> 32) as u32 {
            self.haunted.set(true);
            return true;
        }
        // The usual event: one waits, to read, and once.
        if bits == libc::EPOLLIN as u32
            && let Some(node) = slot.only_node()
            && node.wanted.get() == READ
            && !node.persistent.get()
        {
            slot.clear(UNVERIFIED | DRAINED);
            slot.unwanted = 0;
            slot.first = std::ptr::null();
            node.linked.set(false);
            node.trusting.set(false);
            node.since.set(self.polled_at.get());
            self.linked.set(self.linked.get() - 1);
            self.notify(node, READ);
        } else {
            self.tell_all(data as RawFd, from_epoll(bits));
        }
        true
    }

    #[inline(never)]
    fn tell_all(&self, fd: RawFd, got: u32) {
        let slot = &mut self.slots()[fd as usize];
        slot.trust_proved();
        slot.nodes().for_each(|node| node.since.set(self.polled_at.get()));
        let ends = got & (HUP | ERROR);
        slot.clear(DRAINED);
        if got & (HUP | ERROR | PRI | RDHUP) != 0 {
            slot.set(WARY, true);
        }
        let tells_edges = slot.is(HAS_EDGES);
        let mut wanted_by_somebody = false;
        for node in slot.nodes() {
            if got & node.wanted.get() != 0 {
                wanted_by_somebody = true;
                self.tell(node, got & node.wanted.get() | ends);
            }
        }
        let slot = &mut self.slots()[fd as usize];
        if wanted_by_somebody || tells_edges {
            slot.unwanted = 0;
            return;
        }
        slot.unwanted += if self.others_run.get() { 1 } else { WHILE_BUSY };
        if slot.unwanted > BORNE * WHILE_BUSY {
            slot.unwanted = 0;
            self.disarm(fd, got);
        }
    }

    /// An event that nobody waits for: would come again and again.
    fn disarm(&self, fd: RawFd, got: u32) {
        let slot = &mut self.slots()[fd as usize];
        let wanted = slot.wanted();
        // Hang-up and error can not be masked, only deregistered.
        if wanted == 0 && got & (HUP | ERROR) != 0 {
            slot.is_unregistered();
            self.must(self.control(libc::EPOLL_CTL_DEL, fd, 0));
        } else if wanted != slot.armed() {
            slot.is_armed(wanted);
            self.must(self.control(libc::EPOLL_CTL_MOD, fd, wanted));
        }
    }

    /// An unwanted event that could not be switched off would come for ever.
    fn must(&self, switched_off: Result<()>) {
        if switched_off.is_err() {
            self.haunted.set(true);
        }
    }

    /// A description whose number we do not have any more (closed here, but dup'ed or
    /// inherited elsewhere) goes on sending events, and without its number nothing can
    /// stop it: a new epoll takes the place of the old one.
    #[cold]
    fn renew(&self) -> Result<()> {
        let fresh = Epoll::new()?;
        // The old one knows what the new one can not: who waits for a number's former file.
        (0..self.slots().len() as RawFd).for_each(|fd| self.look_again(fd));
        let fd = fresh.poll.as_raw_fd();
        self.outer.watch(fd)?;
        // While it has its number: a process that has inherited it would keep it there.
        self.outer.unwatch(self.epoll_fd.replace(fd));
        // SAFETY: nobody keeps a reference to it; the old one is closed by this.
        unsafe { *self.epoll.get() = fresh };
        self.haunted.set(false);
        self.renewed.set(true);
        for fd in 0..self.slots().len() as RawFd {
            self.is_unarmed(fd);
            self.look_again(fd);
        }
        Ok(())
    }

    pub fn waker(&self) -> Arc<Waker> {
        // SAFETY: a read; it is replaced by `renew` alone, in the same thread.
        unsafe { (*self.epoll.get()).waker.clone() }
    }

    /// The waker, if it has been replaced since this was last asked.
    #[inline]
    pub fn new_waker(&self) -> Option<Arc<Waker>> {
        self.renewed.replace(false).then(|| self.waker())
    }

    /// Whether greenlets are ready that have not run yet.
    #[inline]
    pub fn others_run(&self, they_do: bool) {
        self.others_run.set(they_do);
    }

    /// The hub has polled at this time.
    #[inline]
    pub fn polled(&self, now: i64) {
        self.polled_at.set(now);
    }

    /// In a forked child: everything anew, the parent's registrations untouched.
    /// Closing our copy of its epoll does not change it.
    pub fn reopen(&mut self) -> Result<()> {
        for slot in self.slots() {
            for node in slot.nodes() {
                node.linked.set(false);
            }
        }
        // Whatever comes of the new one, the parent's registrations are not ours; the lives of
        // its numbers are.
        let lives: Vec<Slot> = self.slots().drain(..).map(|slot| Slot::of_life(slot.life)).collect();
        self.linked.set(0);
        self.watching.set(0);
        self.epoll_fd.set(NONE);
        *self.slots() = lives;
        let fresh = Poller::new()?;
        let lives = std::mem::take(self.slots());
        *self = fresh;
        *self.slots() = lives;
        Ok(())
    }
}
