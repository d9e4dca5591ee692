//! Readiness of descriptors: the only user of mio.
//!
//! mio makes the poller and its waker. Descriptors that belong to somebody else are
//! registered level-triggered on mio's epoll (mio itself knows edges only): waiting
//! again after a partial read must not hang. A registration stays when a wait ends,
//! so that a read loop costs no epoll_ctl; it is taken back when an event comes that
//! nobody waits for.
//!
//! The price of keeping registrations is that a descriptor may be closed and its
//! number reused behind our back; the kernel then drops the registration silently.
//! So a wait that relied on an old registration is *unverified*: it is verified (by
//! a MOD, which fails with ENOENT for a new description) before the poller sleeps for
//! longer than a moment (or than its patience, for those who try for themselves), and a few
//! in each turn if the poller never does. All waits are swept once a second while the hub
//! is active, which finds descriptors that were closed while waited for.
//!
//! TCP connections are told edges instead, as long as only calls wait for them that try for
//! themselves: the kernel then need not look at each once more before it sleeps, which is
//! some tenth of a microsecond an event. Nothing is missed by it. Whoever has seen the
//! connection empty is told of what comes later; an event that finds nobody waiting leaves
//! word that it may not be empty any more; what does not show in a short read (an end, urgent
//! data) comes with a bit of its own, and is remembered. A verification tells again besides.
//!
//! The calls that read and write themselves leave word here of what they found: that a
//! descriptor is empty, so that the next read need not try first, and whether it is a
//! socket. All that is a hint: a wrong one costs a system call.
//!
//! An event carries descriptor and generation; events of an older generation (a
//! dup'ed description that lives on) are dropped.

use crate::alarm::Alarm;
use crate::error::{Error, Result};
use crate::sys;
use mio::{Poll, Token, Waker};
use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const HUP: u32 = 4;
pub const ERROR: u32 = 8;
/// The descriptor was closed or reused under the waiter, or can not be waited for any
/// more: then why is in the upper half, see `lost`.
pub const GONE: u32 = 16;
const WHY_SHIFT: u32 = 16;

/// Urgent data, and the other end's half of the connection closed: for poll alone.
pub const PRI: u32 = 64;
pub const RDHUP: u32 = 128;
/// The wait was called off.
pub const CANCELLED: u32 = 32;

/// What those are told whose descriptor can not be waited for any more.
fn lost(why: Error) -> u32 {
    GONE | why.code().unsigned_abs() << WHY_SHIFT
}

/// With which code a greenlet goes on that waited for a descriptor.
pub fn wake_code(got: u32) -> i32 {
    match got {
        _ if got >> WHY_SHIFT != 0 => -((got >> WHY_SHIFT) as i32),
        _ if got & GONE != 0 => Error::BADF.code(),
        _ if got & CANCELLED != 0 => Error::CANCELED.code(),
        _ => 0,
    }
}

const WAKER: Token = Token(usize::MAX);
const ALARM: u64 = u64::MAX - 1;
const BATCH: usize = 256;
/// So many descriptors are swept in one turn.
const SWEEP_STEP: usize = 128;
/// So many waits are verified at a time, and so often, when the poller does not sleep.
const VERIFY_STEP: usize = 8;
const VERIFY_EVERY_NS: i64 = 500_000;
/// Why a wait may rely on a registration, which says how long it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Trust {
    /// It must not be woken for nothing.
    Strict,
    /// The same, but an event has proved the registration a moment ago.
    Fresh,
    /// It tries for itself.
    Patient,
}

const TRUSTS: [Trust; 3] = [Trust::Strict, Trust::Fresh, Trust::Patient];
/// So long an event may take that proves a registration for nothing. In a dialogue it
/// comes sooner, and each wait is spared the two system calls of a verification, and the
/// clock an interrupt; a hundred connections that are served in turn wait for many
/// milliseconds each.
const TRUST_NS: [i64; 3] = [1_000_000, 10_000_000, 100_000_000];
/// The same in a program that has closed a descriptor behind our back.
const MISTRUST_NS: [i64; 3] = [1_000_000, 1_000_000, 20_000_000];
const FRESH_NS: i64 = 500_000;
const SWEEP_EVERY_NS: i64 = 1_000_000_000;
/// How soon to try again when there is no descriptor for an epoll.
const NAP_NS: i64 = 1_000_000;

pub type NotifyFn = unsafe fn(*const FdNode);

/// Somebody's interest in a descriptor. Its owner removes it before going away.
pub struct FdNode {
    fd: Cell<RawFd>,
    wanted: Cell<u32>,
    /// What came, valid when `notify` is called.
    pub got: Cell<u32>,
    /// Only one exclusive node may want a direction of a descriptor.
    exclusive: Cell<bool>,
    /// Stays linked when notified (watchers).
    persistent: Cell<bool>,
    /// Began on a registration that has not been verified since.
    trusting: Cell<bool>,
    notify: Cell<NotifyFn>,
    next: Cell<*const FdNode>,
    prev: Cell<*const FdNode>,
    linked: Cell<bool>,
}

impl FdNode {
    pub const fn new(notify: NotifyFn) -> FdNode {
        FdNode {
            fd: Cell::new(-1),
            wanted: Cell::new(0),
            got: Cell::new(0),
            exclusive: Cell::new(false),
            persistent: Cell::new(false),
            trusting: Cell::new(false),
            notify: Cell::new(notify),
            next: Cell::new(std::ptr::null()),
            prev: Cell::new(std::ptr::null()),
            linked: Cell::new(false),
        }
    }

    pub fn exclusive(self) -> FdNode {
        self.exclusive.set(true);
        self
    }

    pub fn persistent(self) -> FdNode {
        self.persistent.set(true);
        self
    }

    pub fn is_linked(&self) -> bool {
        self.linked.get()
    }

    pub fn fd(&self) -> RawFd {
        self.fd.get()
    }
}

struct Slot {
    first: *const FdNode,
    /// Interest known to the kernel.
    armed: u32,
    registered: bool,
    unverified: bool,
    /// It is in these queues of the unverified.
    queued: [bool; 3],
    /// What was read last was all there was.
    drained: bool,
    nature: Nature,
    edges: Edges,
    /// Events in a row that nobody waited for.
    unwanted: u16,
    generation: u32,
    /// When the last wait began, or an event proved the registration.
    since: i64,
    trust: Trust,
    /// How often this number has been closed or given out by calls of ours.
    life: u32,
}

const EMPTY: Slot = Slot {
    first: std::ptr::null(),
    armed: 0,
    registered: false,
    unverified: false,
    queued: [false; 3],
    drained: false,
    nature: Nature::Unknown,
    edges: Edges::NONE,
    unwanted: 0,
    generation: 0,
    since: 0,
    trust: Trust::Strict,
    life: 0,
};

/// What there is to know about telling edges of a descriptor.
#[derive(Clone, Copy)]
struct Edges {
    /// It is a TCP connection: see the head of this file.
    may: bool,
    /// Somebody waits, or has waited, for what is there, and not for what comes.
    must_not: bool,
    /// It is registered so.
    registered: bool,
    /// A short read does not mean that nothing is left: it has ended, or has urgent data.
    wary: bool,
}

impl Edges {
    const NONE: Edges = Edges { may: false, must_not: false, registered: false, wary: false };
    const BITS: u32 = (libc::EPOLLET | libc::EPOLLRDHUP | libc::EPOLLPRI) as u32;
}

/// How a descriptor is read and written without blocking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nature {
    /// Perhaps a socket: each call can be told not to wait.
    Unknown,
    /// A pipe or the like, or a file: RWF_NOWAIT does it.
    NoWait,
    /// Something that can only be waited for before it is read or written.
    Plain,
}

/// What a call is to do first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    Try,
    Wait,
}

/// An event that nobody waits for comes again with every poll. It is borne so often:
/// mostly whoever was told of it has just not had its turn to read, and would have to
/// register anew.
const BORNE: u16 = 4;
/// So much more often, while there are greenlets that have not had their turn.
const WHILE_BUSY: u16 = 64;

/// Walks the nodes of a slot; the next pointer is read before a node is handed out.
struct Nodes(*const FdNode);

impl Iterator for Nodes {
    type Item = &'static FdNode;
    fn next(&mut self) -> Option<&'static FdNode> {
        // SAFETY: linked nodes are alive: owners remove them before they go away.
        let node = unsafe { self.0.as_ref() }?;
        self.0 = node.next.get();
        Some(node)
    }
}

impl Slot {
    fn nodes(&self) -> Nodes {
        Nodes(self.first)
    }

    fn wanted(&self) -> u32 {
        self.nodes().fold(0, |all, n| all | n.wanted.get())
    }

    /// The registration is what it was taken for.
    fn trust_proved(&mut self) {
        self.unverified = false;
        self.nodes().for_each(|n| n.trusting.set(false));
    }

    fn unlink(&mut self, node: &FdNode) {
        let (prev, next) = (node.prev.get(), node.next.get());
        // SAFETY: neighbours of a linked node are linked, so alive.
        match unsafe { prev.as_ref() } {
            Some(p) => p.next.set(next),
            None => self.first = next,
        }
        // SAFETY: as above.
        if let Some(n) = unsafe { next.as_ref() } {
            n.prev.set(prev);
        }
        node.linked.set(false);
    }

    fn link(&mut self, node: &FdNode) {
        node.prev.set(std::ptr::null());
        node.next.set(self.first);
        // SAFETY: the first node is linked, so alive.
        if let Some(n) = unsafe { self.first.as_ref() } {
            n.prev.set(node);
        }
        self.first = node;
        node.linked.set(true);
    }

    /// Somebody else waits exclusively for a direction that `node` wants.
    fn is_taken(&self, node: &FdNode) -> bool {
        node.exclusive.get() && self.nodes().any(|n| n.exclusive.get() && n.wanted.get() & node.wanted.get() != 0)
    }
}

/// Whether a wait has begun, or needs none.
#[derive(PartialEq, Eq, Debug)]
pub enum Added {
    Waiting,
    /// A regular file or the like, which epoll refuses: it never blocks.
    AlwaysReady,
}

/// No descriptor.
const NONE: RawFd = -1;

/// What mio makes for us.
struct Epoll {
    poll: Poll,
    waker: Arc<Waker>,
    /// Without one there are time-outs.
    alarm: Option<Alarm>,
}

impl Epoll {
    fn new() -> Result<Epoll> {
        sys::may_fail(sys::Call::Poller)?;
        let poll = Poll::new()?;
        sys::may_fail(sys::Call::Poller)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let alarm = Alarm::new().ok().filter(|alarm| {
            let events = libc::EPOLLIN | libc::EPOLLET;
            sys::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, alarm.fd(), events as u32, ALARM).is_ok()
        });
        Ok(Epoll { poll, waker, alarm })
    }
}

/// The descriptor that a foreign loop polls: an epoll of its own, around ours, because
/// ours may be made anew and would drop out of whatever watches it.
struct Outer(Cell<RawFd>);

impl Outer {
    fn get(&self) -> Option<RawFd> {
        Some(self.0.get()).filter(|&fd| fd != NONE)
    }

    fn watch(&self, epoll: RawFd) -> Result<()> {
        self.get().map_or(Ok(()), |fd| sys::epoll_ctl(fd, libc::EPOLL_CTL_ADD, epoll, libc::EPOLLIN as u32, 0))
    }

    fn unwatch(&self, epoll: RawFd) {
        if let Some(fd) = self.get() {
            let _ = sys::epoll_ctl(fd, libc::EPOLL_CTL_DEL, epoll, 0, 0);
        }
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        if let Some(fd) = self.get() {
            sys::close(fd);
        }
    }
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
    waiting: Cell<usize>,
    linked: Cell<usize>,
    events: UnsafeCell<Vec<libc::epoll_event>>,
    unverified: [UnsafeCell<VecDeque<RawFd>>; 3],
    /// When the hub polled last.
    polled_at: Cell<i64>,
    sweep_at: Cell<i64>,
    sweep_from: Cell<usize>,
    active_since_sweep: Cell<bool>,
    no_pwait2: Cell<bool>,
    /// When some may be verified again.
    verify_at: Cell<i64>,
    /// `TRUST_NS`, or `MISTRUST_NS`.
    patience: Cell<[i64; 3]>,
    /// Greenlets are ready that have not run yet.
    others_run: Cell<bool>,
}

fn to_epoll(wanted: u32) -> u32 {
    let mut bits = 0;
    if wanted & READ != 0 {
        bits |= libc::EPOLLIN;
    }
    if wanted & WRITE != 0 {
        bits |= libc::EPOLLOUT;
    }
    if wanted & PRI != 0 {
        bits |= libc::EPOLLPRI;
    }
    if wanted & RDHUP != 0 {
        bits |= libc::EPOLLRDHUP;
    }
    bits as u32
}

#[inline]
fn from_epoll(bits: u32) -> u32 {
    if bits == libc::EPOLLIN as u32 {
        return READ; // the usual one
    }
    let has = |b: i32| bits & b as u32 != 0;
    let mut got = 0;
    if has(libc::EPOLLIN) {
        got |= READ;
    }
    if has(libc::EPOLLOUT) {
        got |= WRITE;
    }
    if has(libc::EPOLLPRI) {
        got |= PRI;
    }
    if has(libc::EPOLLRDHUP) {
        got |= RDHUP;
    }
    // Whoever waits, in either direction, learns of an end or an error by trying.
    if has(libc::EPOLLHUP) {
        got |= READ | WRITE | HUP;
    }
    if has(libc::EPOLLERR) {
        got |= READ | WRITE | ERROR;
    }
    got
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
            waiting: Cell::new(0),
            linked: Cell::new(0),
            events: UnsafeCell::new(vec![libc::epoll_event { events: 0, u64: 0 }; BATCH]),
            unverified: Default::default(),
            polled_at: Cell::new(0),
            sweep_at: Cell::new(0),
            sweep_from: Cell::new(0),
            active_since_sweep: Cell::new(false),
            no_pwait2: Cell::new(false),
            verify_at: Cell::new(0),
            patience: Cell::new(TRUST_NS),
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
        self.waiting.get()
    }

    /// How many nodes are linked, watchers included.
    #[inline]
    pub fn linked(&self) -> usize {
        self.linked.get()
    }

    fn count(&self, node: &FdNode, change: isize) {
        self.linked.set(self.linked.get().wrapping_add_signed(change));
        if !node.persistent.get() {
            self.waiting.set(self.waiting.get().wrapping_add_signed(change));
        }
    }

    #[allow(clippy::mut_from_ref)]
    fn slots(&self) -> &mut Vec<Slot> {
        // SAFETY: one thread; no reference is held while `notify` runs or a method
        // of self is called.
        unsafe { &mut *self.slots.get() }
    }

    /// Each once; some have been verified since, by an event.
    #[allow(clippy::mut_from_ref)]
    fn unverified(&self, trust: Trust) -> &mut VecDeque<RawFd> {
        // SAFETY: as for `slots`.
        unsafe { &mut *self.unverified[trust as usize].get() }
    }

    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    fn slot(&self, fd: RawFd) -> Option<&mut Slot> {
        self.slots().get_mut(usize::try_from(fd).ok()?)
    }

    fn control(&self, op: i32, fd: RawFd, wanted: u32) -> Result<()> {
        let slot = &self.slots()[fd as usize];
        let data = (u64::from(slot.generation) << 32) | fd as u64;
        let edges = if slot.edges.registered { Edges::BITS } else { 0 };
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

    fn add_to(&self, node: &FdNode, fd: RawFd, wanted: u32, patient: bool) -> Result<Added> {
        debug_assert!(!node.is_linked());
        node.fd.set(fd);
        node.wanted.set(wanted);
        node.got.set(0);
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
        slot.edges.must_not |= !patient;
        let edges = slot.edges.may && !slot.edges.must_not;
        let had_edges = std::mem::replace(&mut slot.edges.registered, edges);
        // A watcher has a wait of its own in what never blocks: it must know at once.
        let is_armed = slot.registered && all & !slot.armed == 0 && edges == had_edges;
        let trusting = is_armed && !node.persistent.get();
        let is_fresh = !slot.unverified && self.polled_at.get() - slot.since < FRESH_NS;
        let trust = match patient {
            true => Trust::Patient,
            false if is_fresh => Trust::Fresh,
            false => Trust::Strict,
        };
        slot.trust = if slot.first.is_null() { trust } else { trust.min(slot.trust) };
        slot.since = self.polled_at.get();
        if trusting {
            slot.unverified = true;
            self.will_verify(fd);
        } else {
            match self.rearm(fd, all) {
                Ok(Added::Waiting) => {}
                Ok(Added::AlwaysReady) => return Ok(Added::AlwaysReady),
                Err(e) => {
                    self.slots()[fd as usize].edges.registered = had_edges;
                    return Err(e);
                }
            }
        }
        node.trusting.set(trusting);
        self.slots()[fd as usize].link(node);
        self.count(node, 1);
        self.active_since_sweep.set(true);
        Ok(Added::Waiting)
    }

    /// Ends a wait; does nothing when it has ended.
    pub fn remove(&self, node: &FdNode) {
        if node.is_linked() {
            self.slots()[node.fd.get() as usize].unlink(node);
            self.count(node, -1);
        }
    }

    /// What a call does first that wants to read or write `fd`.
    #[inline(always)]
    pub fn advice(&self, fd: RawFd, wanted: u32) -> Advice {
        let Some(slot) = self.slot(fd) else { return Advice::Try };
        let is_empty = wanted == READ && slot.drained && slot.registered;
        // Who comes while another waits is told so when it waits as well.
        let is_taken = !slot.first.is_null() && slot.nodes().any(|n| n.exclusive.get() && n.wanted.get() & wanted != 0);
        if is_empty || is_taken { Advice::Wait } else { Advice::Try }
    }

    /// `fd` was read; whether that was all there was.
    #[inline(always)]
    pub fn has_read(&self, fd: RawFd, all: bool) {
        if let Some(slot) = self.slot(fd) {
            slot.drained = all && !(slot.edges.registered && slot.edges.wary);
        }
    }

    /// `fd` is a TCP connection that this program has just made or taken.
    pub fn is_connection(&self, fd: RawFd) {
        if let Ok(slot) = self.slot_for(fd) {
            slot.edges.may = true;
            // Who waited for it to be made does not wait any more.
            slot.edges.must_not &= !slot.first.is_null();
        }
    }

    #[inline(always)]
    pub fn nature(&self, fd: RawFd) -> Nature {
        self.slot(fd).map_or(Nature::Unknown, |s| s.nature)
    }

    /// EBADF, ENOMEM.
    pub fn set_nature(&self, fd: RawFd, nature: Nature) -> Result<()> {
        self.slot_for(fd)?.nature = nature;
        Ok(())
    }

    /// Changes when the number is closed or given out by a call of ours. A greenlet that
    /// was woken for `fd` sees by it whether that is still what it waited for.
    #[inline(always)]
    pub fn life(&self, fd: RawFd) -> u32 {
        self.slot(fd).map_or(0, |s| s.life)
    }

    /// The kernel has just given out this number: what is known of it is of another file.
    pub fn is_new(&self, fd: RawFd) {
        let Some(slot) = self.slot(fd) else { return };
        slot.life = slot.life.wrapping_add(1);
        slot.nodes().for_each(|node| self.tell(node, GONE));
        self.is_unarmed(fd);
    }

    /// The owner of `fd` is about to close it: everybody who waits for it fails with
    /// EBADF, watchers too; how many.
    pub fn closes(&self, fd: RawFd) -> usize {
        let Some(slot) = self.slot(fd) else { return 0 };
        slot.life = slot.life.wrapping_add(1);
        let told = slot.nodes().map(|node| self.tell(node, GONE)).count();
        self.forget(fd);
        told
    }

    /// The greenlets that wait for `directions` of `fd` fail with EBADF, although it stays open.
    pub fn end_waits(&self, fd: RawFd, directions: u32) {
        let Some(slot) = self.slot(fd) else { return };
        let those = slot.nodes().filter(|n| n.exclusive.get() && n.wanted.get() & directions != 0);
        those.for_each(|node| self.tell(node, GONE));
    }

    /// Before its owner closes `fd`, which nobody waits for any more: takes back the
    /// registration, which would live on with a copy of `fd` in a forked child.
    pub fn forget(&self, fd: RawFd) {
        let Some(slot) = self.slot(fd) else { return };
        (slot.unverified, slot.drained, slot.nature) = (false, false, Nature::Unknown);
        (slot.armed, slot.edges) = (0, Edges::NONE);
        if std::mem::take(&mut slot.registered) {
            let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0);
        }
    }

    /// Tells the kernel the interest in `fd`, whatever it knows already. Whoever would
    /// then wait for nothing is told: those who wait for a description that the number
    /// does not name any more, everybody when it is closed or can not be registered, and
    /// those for whom it is ready because it never blocks.
    fn rearm(&self, fd: RawFd, wanted: u32) -> Result<Added> {
        if self.slots()[fd as usize].registered {
            match self.control(libc::EPOLL_CTL_MOD, fd, wanted) {
                Ok(()) => {
                    self.is_armed(fd, wanted);
                    return Ok(Added::Waiting);
                }
                Err(Error::NOMEM) => return Err(Error::NOMEM), // and all is as it was
                // Closed, or another description; with EPERM one that epoll refuses.
                Err(_) => {
                    self.patience.set(MISTRUST_NS);
                    self.tell_gone(fd);
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
        (slot.registered, slot.armed) = (true, wanted);
        slot.trust_proved();
    }

    fn is_unarmed(&self, fd: RawFd) {
        let slot = &mut self.slots()[fd as usize];
        (slot.registered, slot.armed, slot.unverified) = (false, 0, false);
        (slot.drained, slot.nature, slot.edges) = (false, Nature::Unknown, Edges::NONE);
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
        node.got.set(got);
        if !node.persistent.get() || got & GONE != 0 {
            self.remove(node);
        }
        // SAFETY: the node was linked, so its owner lives. `notify` only marks
        // somebody ready; it does not run user code or touch the list.
        unsafe { node.notify.get()(node) };
    }

    /// Waits for events, at most `timeout_ns` (`None`: for ever), and tells those
    /// who wait. How many events came; EINTR when a signal came instead.
    pub fn poll(&self, timeout_ns: Option<i64>) -> Result<usize> {
        let came = self.wait(timeout_ns)?;
        let mut n = came;
        for i in 0..came {
            // SAFETY: `wait` filled the first ones; the reference ends here.
            let event = unsafe { (&*self.events.get())[i] };
            if event.u64 == ALARM {
                n -= 1; // the loop looks at its chores whoever wakes it
                continue;
            }
            self.dispatch(event.u64, from_epoll(event.events));
        }
        if n > 0 {
            self.active_since_sweep.set(true);
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
        sys::epoll_wait(self.epoll_fd.get(), buffer, timeout_ns)
    }

    fn dispatch(&self, data: u64, got: u32) {
        if data == WAKER.0 as u64 {
            return; // edge-triggered: nothing to read; the inbox is looked at anyway
        }
        let (fd, generation) = (data as u32 as usize, (data >> 32) as u32);
        let slot = &mut self.slots()[fd];
        if slot.generation != generation {
            self.haunted.set(true);
            return;
        }
        slot.trust_proved();
        slot.since = self.polled_at.get();
        let ends = got & (HUP | ERROR);
        slot.drained = false;
        slot.edges.wary |= got & (HUP | ERROR | PRI | RDHUP) != 0;
        let tells_edges = slot.edges.registered;
        let mut wanted_by_somebody = false;
        for node in slot.nodes() {
            if got & node.wanted.get() != 0 {
                wanted_by_somebody = true;
                self.tell(node, got & node.wanted.get() | ends);
            }
        }
        let slot = &mut self.slots()[fd];
        if wanted_by_somebody || tells_edges {
            slot.unwanted = 0;
            return;
        }
        slot.unwanted += if self.others_run.get() { 1 } else { WHILE_BUSY };
        if slot.unwanted > BORNE * WHILE_BUSY {
            slot.unwanted = 0;
            self.disarm(fd as RawFd, got);
        }
    }

    /// An event that nobody waits for: would come again and again.
    fn disarm(&self, fd: RawFd, got: u32) {
        let slot = &mut self.slots()[fd as usize];
        let wanted = slot.wanted();
        // Hang-up and error can not be masked, only deregistered.
        if wanted == 0 && got & (HUP | ERROR) != 0 {
            (slot.registered, slot.armed) = (false, 0);
            self.must(self.control(libc::EPOLL_CTL_DEL, fd, 0));
        } else if wanted != slot.armed {
            slot.armed = wanted;
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

    /// Whether waits rely on registrations that may be gone.
    #[inline]
    pub fn has_unverified(&self) -> bool {
        self.patience().is_some()
    }

    /// How long they may, if there are any.
    #[inline]
    pub fn patience(&self) -> Option<i64> {
        let shortest = TRUSTS.into_iter().find(|&trust| !self.unverified(trust).is_empty())?;
        Some(self.patience.get()[shortest as usize])
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

    /// Verifies such waits, all of them: before a sleep.
    pub fn verify(&self) {
        for trust in TRUSTS {
            self.verify_some(trust, self.unverified(trust).len(), i64::MAX);
        }
    }

    /// Verifies all that have waited for so long: when nothing else has come.
    pub fn verify_all_old(&self, now: i64) {
        for trust in TRUSTS {
            let before = now - self.patience.get()[trust as usize];
            self.verify_some(trust, self.unverified(trust).len(), before);
        }
    }

    /// Verifies a few of those that have waited for so long, so that none is left for
    /// ever when the poller never sleeps.
    #[inline]
    pub fn verify_old(&self, now: i64) {
        if now >= self.verify_at.get() {
            self.verify_some_old(now);
        }
    }

    #[cold]
    fn verify_some_old(&self, now: i64) {
        self.verify_at.set(now + VERIFY_EVERY_NS);
        for trust in TRUSTS {
            let before = now - self.patience.get()[trust as usize];
            self.verify_some(trust, self.unverified(trust).len().min(VERIFY_STEP), before);
        }
    }

    fn verify_some(&self, trust: Trust, count: usize, before: i64) {
        for _ in 0..count {
            let Some(fd) = self.unverified(trust).pop_front() else { return };
            let slot = &mut self.slots()[fd as usize];
            slot.queued[trust as usize] = false;
            if slot.first.is_null() {
                slot.unverified = false;
            } else if slot.unverified && slot.since <= before {
                self.look_again(fd);
            }
            if self.slots()[fd as usize].unverified {
                self.will_verify(fd); // too young, or it could not be verified now
            }
        }
    }

    /// Notes that those who wait for `fd` rely on its registration.
    fn will_verify(&self, fd: RawFd) {
        let slot = &mut self.slots()[fd as usize];
        let trust = slot.trust;
        if !std::mem::replace(&mut slot.queued[trust as usize], true) {
            self.unverified(trust).push_back(fd);
        }
    }

    /// Whether those who wait for `fd` still may; `rearm` tells those who may not.
    fn look_again(&self, fd: RawFd) {
        let slot = &self.slots()[fd as usize];
        if !slot.first.is_null() {
            let _ = self.rearm(fd, slot.wanted());
        }
    }

    /// Greenlets have run: one of them may have closed something.
    #[inline]
    pub fn note_activity(&self) {
        self.active_since_sweep.set(true);
    }

    /// When the next sweep is wanted: only while something is waited for and the
    /// hub has been active since the last one. An idle hub is not woken.
    pub fn sweep_due(&self) -> Option<i64> {
        (self.linked.get() > 0 && (self.active_since_sweep.get() || self.sweep_from.get() > 0))
            .then(|| self.sweep_at.get())
    }

    /// Looks at some of the descriptors that are waited for, whether they still are
    /// what they were when the wait began.
    pub fn sweep(&self, now: i64) {
        if self.sweep_at.get() == 0 {
            self.sweep_at.set(now + SWEEP_EVERY_NS);
            return;
        }
        if now < self.sweep_at.get() {
            return;
        }
        let from = self.sweep_from.get();
        if from == 0 {
            self.active_since_sweep.set(false);
        }
        let waited = |i: &usize| {
            let slot = &self.slots()[*i];
            let is_young = slot.trust == Trust::Patient && slot.since > now - self.patience.get()[slot.trust as usize];
            !slot.first.is_null() && !is_young
        };
        let some: Vec<usize> = (from..self.slots().len()).filter(waited).take(SWEEP_STEP).collect();
        for &i in &some {
            self.look_again(i as RawFd);
        }
        match some.last() {
            Some(&last) if some.len() == SWEEP_STEP => self.sweep_from.set(last + 1),
            _ => {
                self.sweep_from.set(0);
                self.sweep_at.set(now + SWEEP_EVERY_NS);
            }
        }
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
        let lives: Vec<Slot> = self.slots().drain(..).map(|slot| Slot { life: slot.life, ..EMPTY }).collect();
        self.waiting.set(0);
        self.linked.set(0);
        self.epoll_fd.set(NONE);
        *self.slots() = lives;
        let fresh = Poller::new()?;
        let lives = std::mem::take(self.slots());
        *self = fresh;
        *self.slots() = lives;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    unsafe fn notify(_: *const FdNode) {}

    fn poller() -> Poller {
        Poller::new().unwrap()
    }

    #[test]
    fn a_second_reader_is_busy_a_writer_is_not() {
        let p = poller();
        let (a, _b) = UnixStream::pair().unwrap();
        let n: Vec<FdNode> = (0..3).map(|_| FdNode::new(notify).exclusive()).collect();
        assert_eq!(p.add(&n[0], a.as_raw_fd(), READ), Ok(Added::Waiting));
        assert_eq!(p.add(&n[1], a.as_raw_fd(), READ), Err(Error::BUSY));
        assert_eq!(p.add(&n[2], a.as_raw_fd(), WRITE), Ok(Added::Waiting));
        p.poll(Some(0)).unwrap();
        assert!(n[0].is_linked() && !n[2].is_linked());
        assert_eq!(n[2].got.get(), WRITE);
        p.remove(&n[0]);
        assert_eq!(p.waiting(), 0);
    }

    #[test]
    fn waiting_again_after_a_partial_read_is_ready() {
        let p = poller();
        let (mut a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"two").unwrap();
        for _ in 0..3 {
            let n = FdNode::new(notify);
            p.add(&n, a.as_raw_fd(), READ).unwrap();
            p.verify();
            assert_eq!(p.poll(Some(0)), Ok(1));
            assert_eq!(n.got.get(), READ);
            a.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn an_event_that_nobody_wants_comes_a_few_times_only() {
        let p = poller();
        let come = || (0..100).take_while(|_| p.poll(Some(0)) == Ok(1)).count();
        let (a, mut b) = UnixStream::pair().unwrap();
        let n = FdNode::new(notify);
        p.add(&n, a.as_raw_fd(), READ).unwrap();
        p.remove(&n);
        b.write_all(b"x").unwrap();
        assert_eq!(come(), usize::from(BORNE) + 1);
        drop(b);
        assert_eq!(come(), usize::from(BORNE) + 1); // the hang-up
        assert_eq!(p.add(&n, a.as_raw_fd(), READ), Ok(Added::Waiting));
        assert_eq!(p.poll(Some(0)), Ok(1));
        assert_ne!(n.got.get() & HUP, 0);
    }

    #[test]
    fn reuse_of_a_number_tells_the_old_waiter_and_serves_the_new_one() {
        let p = poller();
        let (a, _b) = UnixStream::pair().unwrap();
        let (c, mut d) = UnixStream::pair().unwrap();
        let fd = a.as_raw_fd();
        let (old, new) = (FdNode::new(notify).exclusive(), FdNode::new(notify).exclusive());
        p.add(&old, fd, READ).unwrap();
        // SAFETY: both are open descriptors of this test.
        assert_eq!(unsafe { libc::dup2(c.as_raw_fd(), fd) }, fd);
        assert_eq!(p.add(&new, fd, READ), Ok(Added::Waiting));
        assert_eq!(old.got.get(), GONE);
        d.write_all(b"x").unwrap();
        p.verify();
        p.poll(Some(0)).unwrap();
        assert_eq!(new.got.get(), READ);
    }

    #[test]
    fn the_sweep_finds_a_descriptor_closed_while_waited_for() {
        let p = poller();
        let (a, _b) = UnixStream::pair().unwrap();
        let n = FdNode::new(notify);
        p.add(&n, a.as_raw_fd(), READ).unwrap();
        p.sweep(1);
        drop(a);
        p.sweep(1 + SWEEP_EVERY_NS);
        assert_eq!(wake_code(n.got.get()), Error::BADF.code());
        assert_eq!(p.sweep_due(), None);
    }

    #[test]
    fn a_number_that_comes_back_as_a_file_is_gone_for_the_old_waiter_and_ready_for_the_new_one() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        for sweeps in [false, true] {
            let p = poller();
            let (a, _b) = UnixStream::pair().unwrap();
            let fd = a.as_raw_fd();
            let (old, new) = (FdNode::new(notify).exclusive(), FdNode::new(notify));
            p.add(&old, fd, READ).unwrap();
            // SAFETY: both are open descriptors of this test.
            assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), fd) }, fd);
            assert_eq!(p.add(&new, fd, READ), Ok(Added::Waiting)); // it trusts
            if sweeps {
                p.sweep(1);
                p.sweep(1 + SWEEP_EVERY_NS);
            } else {
                p.verify();
            }
            assert_eq!(wake_code(old.got.get()), Error::BADF.code());
            assert_eq!((new.got.get(), new.is_linked()), (READ, false));
            assert_eq!((p.linked(), p.has_unverified()), (0, sweeps));
        }
    }

    #[test]
    fn a_file_that_can_not_be_registered_any_more_wakes_who_waits_for_it() {
        let p = poller();
        let (a, _b) = UnixStream::pair().unwrap();
        let (fd, n) = (a.as_raw_fd(), FdNode::new(notify));
        p.add(&n, fd, READ).unwrap();
        p.remove(&n);
        // An epoll can not be registered with itself.
        // SAFETY: both are open descriptors of this test.
        assert_eq!(unsafe { libc::dup2(p.epoll_fd.get(), fd) }, fd);
        assert_eq!(p.add(&n, fd, READ), Ok(Added::Waiting)); // it trusts
        p.verify();
        assert_eq!((wake_code(n.got.get()), n.is_linked()), (Error::INVAL.code(), false));
    }

    #[test]
    fn what_a_foreign_loop_watches_stays_when_the_epoll_is_made_anew() {
        let p = poller();
        let (a, mut b) = UnixStream::pair().unwrap();
        let n = FdNode::new(notify);
        let (outer, inner) = (p.outer_fd().unwrap(), p.epoll_fd.get());
        p.add(&n, a.as_raw_fd(), READ).unwrap();
        p.renew().unwrap();
        assert_ne!(p.epoll_fd.get(), inner);
        assert_eq!(p.outer_fd(), Ok(outer));
        b.write_all(b"x").unwrap();
        let mut fds = [libc::pollfd { fd: outer, events: libc::POLLIN, revents: 0 }];
        assert_eq!(sys::poll_now(&mut fds), Ok(1));
        assert_eq!(p.poll(Some(0)), Ok(1));
        assert_eq!(n.got.get(), READ);
    }

    #[test]
    fn files_never_block_and_closed_numbers_are_refused() {
        let p = poller();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let n = FdNode::new(notify);
        assert_eq!(p.add(&n, file.as_raw_fd(), READ), Ok(Added::AlwaysReady));
        assert_eq!(p.add(&n, null.as_raw_fd(), READ), Ok(Added::AlwaysReady));
        for bad in [-1, i32::MAX, i32::MIN, 9999] {
            assert_eq!(p.add(&n, bad, READ), Err(Error::BADF));
        }
    }
}
