//! What is known of a descriptor's number, and who waits for it.
//!
//! There is one for every number below the highest that was waited for, so it is small.

use super::node::FdNode;
use super::trust::{TRUSTS, Trust};

pub(super) struct Slot {
    pub(super) first: *const FdNode,
    pub(super) generation: u32,
    /// How often this number has been closed or given out by calls of ours.
    pub(super) life: u32,
    /// What is so: the constants below.
    facts: u16,
    /// Events in a row that nobody waited for.
    pub(super) unwanted: u16,
    /// Interest known to the kernel; none of a number that is not registered.
    armed: u8,
    pub(super) nature: Nature,
    pub(super) trust: Trust,
}

/// The kernel knows it.
pub(super) const REGISTERED: u16 = 1;
/// Somebody relies on the registration, and nothing has proved it since.
pub(super) const UNVERIFIED: u16 = 2;
/// What was read last was all there was.
pub(super) const DRAINED: u16 = 4;
/// It is a TCP connection, so it may tell edges: see the head of `poller`.
pub(super) const MAY_EDGES: u16 = 8;
/// Somebody waits, or has waited, for what is there, and not for what comes.
pub(super) const NO_EDGES: u16 = 16;
/// It is registered for edges.
pub(super) const HAS_EDGES: u16 = 32;
/// A short read does not mean that nothing is left: it has ended, or has urgent data.
pub(super) const WARY: u16 = 64;
/// It is in the queue of those who trust so.
const QUEUED: u16 = 128;
/// This number has been closed behind our back, and will be again: nobody is patient with it.
pub(super) const SUSPECT: u16 = QUEUED << TRUSTS.len();

pub(super) const EMPTY: Slot = Slot {
    first: std::ptr::null(),
    generation: 0,
    life: 0,
    facts: 0,
    unwanted: 0,
    armed: 0,
    nature: Nature::Unknown,
    trust: Trust::Strict,
};

const _: () = assert!(size_of::<Slot>() == 24);

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

/// Walks the nodes of a slot; the next pointer is read before a node is handed out.
pub(super) struct Nodes(*const FdNode);

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
    /// As `EMPTY`, of a number that has been closed or given out so often.
    pub(super) fn of_life(life: u32) -> Slot {
        Slot { life, ..EMPTY }
    }

    /// Whether one of these is so.
    #[inline(always)]
    pub(super) fn is(&self, facts: u16) -> bool {
        self.facts & facts != 0
    }

    #[inline(always)]
    pub(super) fn set(&mut self, fact: u16, so: bool) {
        self.facts = if so { self.facts | fact } else { self.facts & !fact };
    }

    #[inline(always)]
    pub(super) fn clear(&mut self, facts: u16) {
        self.facts &= !facts;
    }

    /// Interest known to the kernel.
    #[inline(always)]
    pub(super) fn armed(&self) -> u32 {
        u32::from(self.armed)
    }

    /// The kernel knows this interest now.
    pub(super) fn is_armed(&mut self, wanted: u32) {
        self.armed = wanted as u8; // the bits that can be wanted fit
        self.set(REGISTERED, true);
    }

    /// The kernel does not know it any more.
    pub(super) fn is_unregistered(&mut self) {
        self.armed = 0;
        self.clear(REGISTERED);
    }

    /// Nothing is known of what it stands for now.
    pub(super) fn is_unknown(&mut self) {
        self.is_unregistered();
        self.nature = Nature::Unknown;
        self.clear(UNVERIFIED | DRAINED | MAY_EDGES | NO_EDGES | HAS_EDGES | WARY);
    }

    /// When the last of those who wait began to.
    pub(super) fn since(&self) -> i64 {
        self.nodes().next().map_or(0, |node| node.since.get())
    }

    /// Whether it is to tell edges.
    #[inline(always)]
    pub(super) fn wants_edges(&self) -> bool {
        self.facts & (MAY_EDGES | NO_EDGES) == MAY_EDGES
    }

    /// Notes that it is in the queue of those who trust so; whether it was.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, trust: Trust) -> bool {
        let was = self.is(QUEUED << trust as u16);
        self.set(QUEUED << trust as u16, true);
        was
    }

    pub(super) fn dequeue(&mut self, trust: Trust) {
        self.clear(QUEUED << trust as u16);
    }

    pub(super) fn nodes(&self) -> Nodes {
        Nodes(self.first)
    }

    /// Who waits, if that is one alone.
    #[inline(always)]
    pub(super) fn only_node(&self) -> Option<&'static FdNode> {
        // SAFETY: as in `Nodes`.
        unsafe { self.first.as_ref() }.filter(|node| node.next.get().is_null())
    }

    pub(super) fn wanted(&self) -> u32 {
        self.nodes().fold(0, |all, n| all | n.wanted.get())
    }

    /// The registration is what it was taken for.
    pub(super) fn trust_proved(&mut self) {
        self.clear(UNVERIFIED);
        self.nodes().for_each(|n| n.trusting.set(false));
    }

    #[inline(always)]
    pub(super) fn unlink(&mut self, node: &FdNode) {
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

    #[inline(always)]
    pub(super) fn link(&mut self, node: &FdNode) {
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
    pub(super) fn is_taken(&self, node: &FdNode) -> bool {
        node.exclusive.get() && self.nodes().any(|n| n.exclusive.get() && n.wanted.get() & node.wanted.get() != 0)
    }
}
