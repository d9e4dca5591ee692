//! Waiting for descriptors: one, or many at a time (poll, select).

use crate::error::{Error, Result};
use crate::greenlet::{Greenlet, KILLED, Waiting};
use crate::hub::Hub;
use crate::poller::{Added, ERROR, FdNode, GONE, HUP, PRI, RDHUP, READ, WRITE, wake_code};
use crate::sys;
use crate::time::Deadline;
use std::os::fd::RawFd;

/// One of many descriptors that a greenlet waits for. It is boxed in the greenlet's
/// record (`Extra::many`): a stack may be abandoned while the node is linked.
pub struct Waiter {
    pub node: FdNode,
    greenlet: *const Greenlet,
}

unsafe fn wake_waiter(node: *const FdNode) {
    // SAFETY: only `Waiter`s carry this function, and the node is their field.
    let waiter = unsafe { &*node.byte_sub(std::mem::offset_of!(Waiter, node)).cast::<Waiter>() };
    if let Some(hub) = Hub::existing() {
        // SAFETY: the record holds the waiter, so it is alive.
        hub.wake(unsafe { &*waiter.greenlet }, wake_code(waiter.node.got.get()));
    }
}

impl Waiter {
    pub fn new(g: &Greenlet) -> Waiter {
        Waiter { node: FdNode::new(wake_waiter), greenlet: g }
    }
}

/// The waiters of one call; unlinked when it goes, however it goes.
struct Waiters(Vec<Waiter>);

impl Drop for Waiters {
    fn drop(&mut self) {
        if let Some(hub) = Hub::existing() {
            self.0.iter().for_each(|w| hub.poller().remove(&w.node));
        }
    }
}

impl Hub {
    /// Waits until one of `wanted` (READ, WRITE) is there on `fd`; what came, with HUP
    /// and ERROR. EBADF, EBUSY, EINVAL and those of `park`.
    pub fn wait_fd(&self, fd: RawFd, wanted: u32, deadline: Deadline) -> Result<u32> {
        if wanted == 0 || wanted & !(READ | WRITE) != 0 {
            return Err(Error::INVAL);
        }
        if deadline.is_now() {
            return look(fd, wanted);
        }
        self.check()?;
        self.may_park()?;
        let g = self.current();
        let node = &g.fd_node;
        if self.poller().add(node, fd, wanted)? == Added::AlwaysReady {
            return Ok(wanted);
        }
        let result = self.park(deadline, Waiting::Fd(fd, wanted));
        self.poller().remove(node);
        if result == Err(Error::TIMEDOUT) {
            // What is there is there, however late we are: then no scope has cut us short.
            let got = look(fd, wanted).map_err(|_| Error::TIMEDOUT)?;
            self.unfire_scopes(g);
            return Ok(got);
        }
        result?;
        if g.attention.get() & KILLED != 0 {
            return Err(Error::CANCELED);
        }
        Ok(node.got.get())
    }

    /// As `wait_fd`, for a call that tries by itself, before and after: there is no "now",
    /// and what came is not told. The caller has called `check`.
    #[inline(always)]
    pub fn wait_to_try(&self, fd: RawFd, wanted: u32, deadline: Deadline) -> Result<Added> {
        self.may_park()?;
        let g = self.current();
        let life = self.poller().life(fd);
        if self.poller().add_patient(&g.fd_node, fd, wanted)? == Added::AlwaysReady {
            return Ok(Added::AlwaysReady);
        }
        let result = self.park(deadline, Waiting::Fd(fd, wanted));
        self.poller().remove(&g.fd_node);
        result?;
        if g.attention.get() & KILLED != 0 {
            return Err(Error::CANCELED);
        }
        // Closed when this greenlet was ready and had not run.
        if self.poller().life(fd) != life { Err(Error::BADF) } else { Ok(Added::Waiting) }
    }

    /// Everybody who waits for `fd` fails with ECANCELED; how many.
    pub fn cancel_wait(&self, fd: RawFd) -> usize {
        self.poller().cancel(fd)
    }

    /// poll(2), parking this greenlet alone. 0 when the deadline passes.
    pub fn poll_fds(&self, fds: &mut [libc::pollfd], deadline: Deadline) -> Result<usize> {
        if !deadline.is_now() {
            self.check()?;
        }
        loop {
            let ready = sys::poll_now(fds)?;
            if ready > 0 || deadline.is_now() {
                return Ok(ready);
            }
            match self.park_on(fds, deadline) {
                Ok(()) => {}
                // Its own deadline is poll's 0; a scope's is an error.
                Err(Error::TIMEDOUT) if deadline.has_passed() => {
                    let ready = sys::poll_now(fds)?;
                    self.unfire_scopes(self.current());
                    return Ok(ready);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn park_on(&self, fds: &[libc::pollfd], deadline: Deadline) -> Result<()> {
        self.may_park()?;
        let g = self.current();
        let mut waiters = Waiters(Vec::new());
        waiters.0.try_reserve_exact(fds.len()).map_err(|_| Error::NOMEM)?;
        waiters.0.extend(fds.iter().map(|_| Waiter::new(g)));
        // From here on the nodes stay where they are: in the record.
        g.with_extra(|x| x.many = Some(Box::new(waiters)));
        let result = self.add_all(g, fds).and_then(|()| self.park(deadline, Waiting::Fds(fds.len() as u32)));
        let many = g.with_extra(|x| x.many.take());
        let waiters = many.as_ref().and_then(|m| m.downcast_ref::<Waiters>());
        let gone = waiters.is_some_and(|w| w.0.iter().any(|w| w.node.got.get() & GONE != 0));
        // Closed meanwhile: poll(2) will say POLLNVAL.
        if g.attention.get() & KILLED != 0 {
            return Err(Error::CANCELED);
        }
        if gone { Ok(()) } else { result }
    }

    fn add_all(&self, g: &Greenlet, fds: &[libc::pollfd]) -> Result<()> {
        let waiters =
            g.peek_extra(|x| x.many.as_ref().and_then(|m| m.downcast_ref::<Waiters>()).map(std::ptr::from_ref));
        let Some(waiters) = waiters.flatten() else { return Err(Error::INVAL) };
        // SAFETY: boxed in the record, and taken out only after this call.
        let waiters = unsafe { &*waiters };
        for (w, fd) in waiters.0.iter().zip(fds).filter(|(_, fd)| fd.fd >= 0) {
            // Hang-up and error are always told, asked for or not.
            let wanted = ASKED.iter().filter(|(bits, _)| fd.events & bits != 0).fold(HUP | ERROR, |all, a| all | a.1);
            self.poller().add(&w.node, fd.fd, wanted)?;
        }
        Ok(())
    }
}

/// What poll's bits mean to the poller.
const ASKED: [(i16, u32); 4] = [
    (libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND, READ),
    (libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND, WRITE),
    (libc::POLLPRI, PRI),
    (libc::POLLRDHUP, RDHUP),
];

/// What is there now, EAGAIN if nothing.
pub fn look(fd: RawFd, wanted: u32) -> Result<u32> {
    let events =
        if wanted & READ != 0 { libc::POLLIN } else { 0 } | if wanted & WRITE != 0 { libc::POLLOUT } else { 0 };
    let mut one = [libc::pollfd { fd, events, revents: 0 }];
    if fd < 0 {
        return Err(Error::BADF);
    }
    sys::poll_now(&mut one)?;
    let got = one[0].revents;
    let has = |bits: i16, mine: u32| if got & bits != 0 { mine } else { 0 };
    match got {
        0 => Err(Error::AGAIN),
        _ if got & libc::POLLNVAL != 0 => Err(Error::BADF),
        _ => Ok(has(libc::POLLIN, READ)
            | has(libc::POLLOUT, WRITE)
            | has(libc::POLLHUP, HUP | wanted)
            | has(libc::POLLERR, ERROR | wanted)),
    }
}
