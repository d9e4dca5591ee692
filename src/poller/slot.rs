//! What is known of a descriptor's number, and who waits for it.

use super::node::FdNode;
use super::trust::Trust;

pub(super) struct Slot {
    pub(super) first: *const FdNode,
    /// Interest known to the kernel.
    pub(super) armed: u32,
    pub(super) registered: bool,
    pub(super) unverified: bool,
    /// It is in these queues of the unverified.
    pub(super) queued: [bool; 3],
    /// What was read last was all there was.
    pub(super) drained: bool,
    pub(super) nature: Nature,
    pub(super) edges: Edges,
    /// Events in a row that nobody waited for.
    pub(super) unwanted: u16,
    pub(super) generation: u32,
    /// When the last wait began, or an event proved the registration.
    pub(super) since: i64,
    pub(super) trust: Trust,
    /// How often this number has been closed or given out by calls of ours.
    pub(super) life: u32,
}

pub(super) const EMPTY: Slot = Slot {
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
pub(super) struct Edges {
    /// It is a TCP connection: see the head of this file.
    pub(super) may: bool,
    /// Somebody waits, or has waited, for what is there, and not for what comes.
    pub(super) must_not: bool,
    /// It is registered so.
    pub(super) registered: bool,
    /// A short read does not mean that nothing is left: it has ended, or has urgent data.
    pub(super) wary: bool,
}

impl Edges {
    pub(super) const NONE: Edges = Edges { may: false, must_not: false, registered: false, wary: false };
    pub(super) const BITS: u32 = (libc::EPOLLET | libc::EPOLLRDHUP | libc::EPOLLPRI) as u32;
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
    pub(super) fn nodes(&self) -> Nodes {
        Nodes(self.first)
    }

    pub(super) fn wanted(&self) -> u32 {
        self.nodes().fold(0, |all, n| all | n.wanted.get())
    }

    /// The registration is what it was taken for.
    pub(super) fn trust_proved(&mut self) {
        self.unverified = false;
        self.nodes().for_each(|n| n.trusting.set(false));
    }

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
