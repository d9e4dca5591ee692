//! Servers: a greenlet accepts, and each connection (or datagram) has one of its own.
//!
//! ```text
//! made --start--> serving --shut, stop, a failure--> shut --the last one ends--> done
//!                  |  ^                               |
//!                  v  | accept                        v
//!                 connections, in greenlets          they end, or are killed (stop)
//! ```
//!
//! The acceptor waits for room first (the server's own limit, and the user's pool), then
//! for the listener, then accepts. A connection that comes alone costs one accept(2): it
//! is not asked whether there is another, because the poller will tell. Only when it
//! tells at once is there a burst, and then all that are there are taken, up to a number.
//!
//! Without descriptors (EMFILE) it pauses, from 10 ms up to a second, and goes on at once
//! when a connection ends. Who waits meanwhile waits in the kernel's queue. When that
//! takes long, a spare descriptor is given up for as long as it takes to accept them and
//! hang up: they had better know.
//!
//! A connection's descriptor is held by the record of its greenlet, so that it is closed
//! however that ends, abandoned ones included.

use crate::error::{Error, Result};
use crate::fork;
use crate::greenlet::{Body, Waiting};
use crate::group::Group;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::life::Options;
use crate::net::address::Address;
use crate::net::listener::SocketFile;
use crate::net::socket;
use crate::object::{self, insert, keep};
use crate::poller::READ;
use crate::rw;
use crate::stream::Stream;
use crate::sys::descriptor as sys;
use crate::time::{Deadline, now};
use crate::tls::config::Config;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use libc::{c_int, sockaddr, socklen_t};
use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;

/// Connections taken in a row, before others have a turn.
pub const MAX_ACCEPT: u32 = 64;
/// How long a server without descriptors pauses, at first and at most.
const PAUSE_NS: (i64, i64) = (10_000_000, 1_000_000_000);
/// So often the error handler hears of it.
const TELL_EVERY_NS: i64 = 10_000_000_000;
/// How many it hangs up on at a time when it has paused for long.
const SHED: usize = 256;
/// How often at most it is not asked whether there is another connection.
const MOST_SKIPPED: u32 = 64;
/// What a datagram may have at most.
const MOST_DATAGRAM: usize = 64 << 10;
/// How long the last bytes of a stream may take to go.
const GOODBYE_NS: i64 = 10_000_000_000;
/// In whose name a record holds a connection: no handle.
const HOLDER: i64 = -2;

/// What a handler returns that has taken the descriptor over.
pub const KEEP: c_int = 1;

pub type StreamFn = extern "C-unwind" fn(c_int, *const sockaddr, socklen_t, *mut c_void) -> c_int;
pub type SessionFn = extern "C-unwind" fn(i64, *const sockaddr, socklen_t, *mut c_void) -> c_int;
pub type DatagramFn = extern "C-unwind" fn(c_int, *const c_void, usize, *const sockaddr, socklen_t, *mut c_void);

/// What serves connections within the library.
pub trait Serve {
    /// Serves one, in its greenlet; KEEP or 0.
    fn serve(&self, hub: &Hub, fd: RawFd, peer: &Address) -> c_int;
    /// The server has been shut: what only waits for more to do had better end.
    fn shut(&self, hub: &Hub);
    /// Where its code is.
    fn site(&self) -> usize;
}

#[derive(Clone)]
pub enum Handler {
    Stream(StreamFn),
    /// As a stream, of TLS perhaps.
    Session(SessionFn),
    Datagram(DatagramFn),
    Native(Rc<dyn Serve>),
}

impl Handler {
    /// Where the handler is, which is more to the point than where it was spawned.
    fn site(&self) -> usize {
        match self {
            Handler::Stream(f) => *f as usize,
            Handler::Session(f) => *f as usize,
            Handler::Datagram(f) => *f as usize,
            Handler::Native(serve) => serve.site(),
        }
    }
}

/// What a server serves at.
pub enum Listener {
    /// Closed when it is shut; a Unix listener's file goes as well.
    Own(OwnedFd, Option<SocketFile>),
    Theirs(RawFd),
}

pub struct Limits {
    /// Connections at a time; 0: any number.
    pub connections: usize,
    /// A pool of the user's that they take room in as well; 0: none.
    pub pool: i64,
    pub max_accept: u32,
    pub stack_size: usize,
    /// Of streams.
    pub tls: Option<Arc<Config>>,
    /// How long a handshake may take.
    pub handshake_ns: i64,
}

pub struct Server {
    handler: Handler,
    user: *mut c_void,
    limits: Limits,
    /// -1 when it is shut.
    fd: Cell<RawFd>,
    /// What it takes are TCP connections.
    is_tcp: bool,
    listener: RefCell<Option<Listener>>,
    /// `fork::generation()` when it was made: a child does not remove the parent's file.
    generation: u64,
    /// The greenlets of its connections; a pool if their number is limited.
    group: OnceCell<Rc<Group>>,
    group_handle: Cell<i64>,
    acceptor: Cell<i64>,
    is_shut: Cell<bool>,
    is_closed: Cell<bool>,
    failure: Cell<Option<Error>>,
    accepted: Cell<u64>,
    spare: RefCell<Option<OwnedFd>>,
    /// What a datagram is received in.
    buffer: RefCell<Vec<u8>>,
    /// How long the acceptor has to pause; 0: nothing is short.
    pause_ns: Cell<i64>,
    /// When the error handler was told of that last.
    told_at: Cell<i64>,
    /// Waits in it: the acceptor, while it pauses.
    pausing: WaitList,
    /// Wait for it to be shut.
    waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Server, Kind::Server);

/// Nothing to be had now, and perhaps later.
fn is_shortage(e: Error) -> bool {
    matches!(-e.code(), libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
}

// ---- what a greenlet is there for ---------------------------------------------------

/// Held by the record of its greenlet, which has but a pointer to it.
trait Job {
    fn run(&self);
    /// Its greenlet has ended, or was killed before it began.
    fn end(&self, hub: &Hub);
}

extern "C-unwind" fn run<T: Job>(job: *mut c_void) -> *mut c_void {
    // SAFETY: the record's, which drops it after the greenlet's end.
    unsafe { &*job.cast::<T>() }.run();
    null_mut()
}

struct Connection {
    server: Rc<Server>,
    /// -1 when the handler has kept it.
    fd: Cell<RawFd>,
    /// The stream whose `fd` is, 0 if there is none.
    stream: Cell<i64>,
    /// See `Poller::life`: by it we know whether the handler has closed it.
    life: u32,
    peer: Address,
}

impl Connection {
    /// Calls the handler with a stream, and ends that in good order.
    fn run_session(&self, hub: &Hub, call: SessionFn) -> Result<c_int> {
        let handle = Stream::create(hub, self.fd.get(), true, 0, 0)?;
        self.stream.set(handle);
        if let Some(config) = &self.server.limits.tls {
            let until = Deadline::after(self.server.limits.handshake_ns);
            object::get::<Stream>(hub, handle)?.secure(hub, config, None, until)?;
        }
        if call(handle, self.peer.as_ptr(), self.peer.len(), self.server.user) == KEEP {
            self.stream.set(0);
            return Ok(KEEP);
        }
        object::get::<Stream>(hub, handle)?.end(hub, Deadline::after(GOODBYE_NS))?;
        Ok(0)
    }
}

impl Job for Connection {
    fn run(&self) {
        let (fd, peer) = (self.fd.get(), &self.peer);
        let done = match &self.server.handler {
            Handler::Stream(call) => call(fd, peer.as_ptr(), peer.len(), self.server.user),
            // Who has not shaken hands, or does not read to the end, is no failure of ours.
            Handler::Session(call) => Hub::existing().map_or(0, |hub| self.run_session(hub, *call).unwrap_or(0)),
            Handler::Native(serve) => Hub::existing().map_or(0, |hub| serve.serve(hub, fd, peer)),
            Handler::Datagram(_) => 0,
        };
        if done == KEEP {
            self.fd.set(-1);
        }
    }

    fn end(&self, hub: &Hub) {
        let (fd, stream) = (self.fd.replace(-1), self.stream.replace(0));
        if stream != 0 {
            if let Ok(0) = hub.table.unref(stream) {
                let _ = hub.table.remove(stream).map(|closer| closer.close());
            }
        } else if fd >= 0 && hub.poller().life(fd) == self.life {
            let _ = rw::close(fd);
        }
        self.server.one_has_ended(hub);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let fd = self.fd.replace(-1);
        if fd >= 0 {
            // Abandoned, perhaps in a forked child: the poller is not asked.
            crate::sys::close(fd);
        }
    }
}

struct Datagram {
    server: Rc<Server>,
    call: DatagramFn,
    fd: RawFd,
    data: Box<[u8]>,
    peer: Address,
}

impl Job for Datagram {
    fn run(&self) {
        let (data, peer) = (&self.data, &self.peer);
        (self.call)(self.fd, data.as_ptr().cast(), data.len(), peer.as_ptr(), peer.len(), self.server.user);
    }

    fn end(&self, hub: &Hub) {
        self.server.one_has_ended(hub);
    }
}

impl Server {
    /// A server that does not serve yet; its handle. EBADF, ENOTSOCK, EINVAL when the
    /// socket does not listen.
    pub fn create(hub: &Hub, listener: Listener, handler: Handler, user: *mut c_void, limits: Limits) -> Result<i64> {
        let fd = match &listener {
            Listener::Own(fd, _) => fd.as_raw_fd(),
            Listener::Theirs(fd) => *fd,
        };
        let is_stream = !matches!(handler, Handler::Datagram(_));
        let listens = sys::get_option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0;
        if is_stream != listens {
            return Err(Error::INVAL);
        }
        if limits.pool != 0 {
            object::get::<Group>(hub, limits.pool)?;
        }
        hub.stacks.class(limits.stack_size)?;
        let group = Group::create(hub, Some(limits.connections).filter(|&n| n > 0))?;
        let server = Server {
            handler,
            user,
            limits,
            fd: Cell::new(fd),
            is_tcp: listens && socket::is_tcp(fd),
            listener: RefCell::new(Some(listener)),
            generation: fork::generation(),
            group: OnceCell::new(),
            group_handle: Cell::new(group),
            acceptor: Cell::new(0),
            is_shut: Cell::new(false),
            is_closed: Cell::new(false),
            failure: Cell::new(None),
            accepted: Cell::new(0),
            spare: RefCell::new(None),
            buffer: RefCell::default(),
            pause_ns: Cell::new(0),
            told_at: Cell::new(-TELL_EVERY_NS),
            pausing: WaitList::default(),
            waiters: WaitList::default(),
            handle: Cell::new(0),
        };
        let _ = server.group.set(keep(object::get::<Group>(hub, group)?));
        let handle = insert(hub, server).inspect_err(|_| {
            let _ = hub.table.remove(group).map(|closer| closer.close());
        })?;
        object::get::<Server>(hub, handle)?.handle.set(handle);
        Ok(handle)
    }

    /// Its handle has been closed: it does not accept any more. What it has accepted is
    /// served to its end.
    fn closed(&self, hub: &Hub) {
        self.is_closed.set(true);
        hub.refuse_all(&self.waiters, Error::BADF);
        self.shut(hub);
        if let Ok(closer) = hub.table.remove(self.group_handle.get()) {
            closer.close();
        }
    }

    fn group(&self) -> &Rc<Group> {
        self.group.get().expect("set when it was made")
    }

    /// How many connections there are now.
    pub fn count(&self) -> usize {
        self.group().len()
    }

    /// How many there have been.
    pub fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// The listener; EPIPE when it is shut.
    pub fn fd(&self) -> Result<RawFd> {
        if self.is_shut.get() { Err(Error::PIPE) } else { Ok(self.fd.get()) }
    }

    /// The port it serves at, 0 if it is no such thing.
    pub fn port(&self) -> Result<u16> {
        Ok(socket::local_address(self.fd()?)?.ip().map_or(0, |ip| ip.port()))
    }

    // ---- beginning and ending --------------------------------------------------

    /// Begins to accept. EPIPE when it is shut, EALREADY.
    pub fn start(&self, hub: &Hub) -> Result<()> {
        let fd = self.fd()?;
        // In a forked child it may have lost its acceptor: then it gets another.
        if self.acceptor.get() != 0 && hub.greenlet(self.acceptor.get()).is_ok_and(|g| !g.is_done()) {
            return Err(Error::ALREADY);
        }
        sys::set_nonblocking(fd, true)?;
        let this = keep(self);
        let spare = sys::spare();
        let name = format!("server at {}", socket::local_address(fd)?);
        let options = Options { name: Some(&name), site: self.handler.site(), ..Options::default() };
        let arg = std::ptr::from_ref(self).cast_mut().cast();
        let handle = hub.spawn_with(Body::Greenlet(accept), arg, &options, true)?.handle.get();
        self.spare.replace(spare.ok()); // without one it does as well
        self.acceptor.set(handle);
        hub.on_end(hub.greenlet(handle)?, HOLDER, move |_| {
            if let Some(hub) = Hub::existing() {
                this.shut(hub);
            }
        });
        hub.close_greenlet(handle)
    }

    /// Stops accepting. Who has asked meanwhile finds nobody.
    pub fn shut(&self, hub: &Hub) {
        if self.is_shut.replace(true) {
            return;
        }
        if let Ok(acceptor) = hub.greenlet(self.acceptor.get()) {
            hub.kill(acceptor, 0);
        }
        if let Handler::Native(serve) = &self.handler {
            serve.shut(hub);
        }
        self.spare.take();
        self.fd.set(-1);
        if let Some(Listener::Own(fd, file)) = self.listener.take() {
            if self.generation == fork::generation() {
                file.iter().for_each(SocketFile::remove);
            }
            let _ = rw::close(fd.into_raw_fd());
        }
        while let Some(node) = self.waiters.pop() {
            hub.grant(node);
        }
    }

    /// Waits until it is shut and its connections have ended; starts it, if need be. What
    /// ended the acceptor, and those of `join`.
    pub fn serve(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        this.must_be_outside(hub)?;
        if !deadline.is_now() {
            hub.check()?;
        }
        match this.start(hub) {
            Ok(()) | Err(Error::ALREADY | Error::PIPE) => {}
            Err(e) => return Err(e),
        }
        if !this.is_shut.get() {
            let why = Waiting::Object(this.handle.get());
            match hub.wait_in(&this.waiters, Role::Taker, null_mut(), deadline, why) {
                Waited::Granted(_) => {}
                Waited::Returned(_, e) | Waited::Failed(e) => return Err(e),
            }
        }
        if this.is_closed.get() {
            return Err(Error::BADF); // between its being shut and our turn
        }
        this.group().join(hub, deadline)?;
        this.failure.get().map_or(Ok(()), Err)
    }

    /// Stops accepting, waits until `grace` for the connections to end, kills those that
    /// are left and waits for them; how many those were. With "now" it waits for nothing.
    pub fn stop(&self, hub: &Hub, grace: Deadline) -> Result<usize> {
        let this = keep(self);
        this.must_be_outside(hub)?;
        if !grace.is_now() {
            hub.check()?;
            hub.may_park()?;
        }
        this.shut(hub);
        match this.group().join(hub, grace) {
            Ok(()) => return Ok(0),
            Err(Error::AGAIN) if grace.is_now() => {}
            Err(Error::TIMEDOUT) if grace.has_passed() => {}
            Err(e) => return Err(e),
        }
        let left = this.count();
        this.group().kill(hub, 0, if grace.is_now() { Deadline::NOW } else { Deadline::NEVER })?;
        Ok(left)
    }

    /// A handler that waited for the end of its server would wait for its own.
    fn must_be_outside(&self, hub: &Hub) -> Result<()> {
        let me = hub.current().handle.get();
        if (me != 0 && me == self.acceptor.get()) || self.group().contains(me) { Err(Error::DEADLK) } else { Ok(()) }
    }

    // ---- accepting -------------------------------------------------------------

    /// The acceptor's life: until it is killed, or the listener fails.
    fn accept_all(&self, hub: &Hub) -> Result<()> {
        let fd = self.fd.get();
        let mut hope = Hope::default();
        loop {
            self.wait_for_room(hub)?;
            hub.check()?;
            hub.wait_to_try(fd, READ, Deadline::NEVER)?;
            if !self.has_room(hub) {
                continue; // somebody else has taken it
            }
            let most = if hope.for_more() { self.limits.max_accept } else { 1 };
            let (taken, end) = self.take_up_to(hub, fd, most);
            hope.learn(most, taken);
            if taken > 0 {
                self.end_pause();
            }
            match end {
                Err(e) if is_shortage(e) => self.pause(hub, fd, e)?,
                end => end?,
            }
        }
    }

    /// As many as are there and there is room for, and no more than `most`; how many,
    /// and what went wrong.
    fn take_up_to(&self, hub: &Hub, fd: RawFd, most: u32) -> (u32, Result<()>) {
        let mut taken = 0;
        while taken < most && self.has_room(hub) {
            let one = match self.handler {
                Handler::Datagram(call) => self.take_datagram(hub, fd, call),
                _ => self.take_connection(hub, fd),
            };
            match one {
                Ok(()) => taken += 1,
                Err(Error::AGAIN) => break,
                // It broke before it was taken, or the network speaks of an earlier datagram.
                Err(e) if socket::BROKEN.contains(&-e.code()) || e == Error::CONNREFUSED => {}
                Err(e) => return (taken, Err(e)),
            }
        }
        (taken, Ok(()))
    }

    fn take_connection(&self, hub: &Hub, listener: RawFd) -> Result<()> {
        // SAFETY: `filled` gives room and its size.
        let (fd, peer) = Address::filled(|at, len| unsafe { sys::accept(listener, at, len) })?;
        let fd = fd.into_raw_fd();
        hub.poller().is_new(fd);
        if self.is_tcp {
            hub.poller().is_connection(fd);
        }
        self.accepted.set(self.accepted.get() + 1);
        let life = hub.poller().life(fd);
        self.spawn(hub, Rc::new(Connection { server: keep(self), fd: Cell::new(fd), stream: Cell::new(0), life, peer }))
    }

    fn take_datagram(&self, hub: &Hub, fd: RawFd, call: DatagramFn) -> Result<()> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.resize(MOST_DATAGRAM, 0);
        let at = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer of this server has so much room, and `filled` gives the address's.
        let (n, peer) = Address::filled(|from, len| unsafe { sys::recvfrom(fd, at, MOST_DATAGRAM, 0, from, len) })?;
        self.accepted.set(self.accepted.get() + 1);
        let data = buffer[..n].into();
        drop(buffer);
        self.spawn(hub, Rc::new(Datagram { server: keep(self), call, fd, data, peer }))
    }

    /// Gives `job` a greenlet: there is room for it. When none can be made, `job` is
    /// dropped, and with it its connection.
    fn spawn<T: Job + 'static>(&self, hub: &Hub, job: Rc<T>) -> Result<()> {
        let arg = Rc::as_ptr(&job).cast_mut().cast();
        let how = Options { stack_size: self.limits.stack_size, site: self.handler.site(), ..Options::default() };
        let body = Body::Greenlet(run::<T>);
        let (own, pool) = (self.group(), self.pool(hub)?);
        let handle = pool.unwrap_or(own).spawn(hub, body, arg, &how, true, Deadline::NOW)?;
        let held = hub.greenlet(handle)?;
        hub.on_end(held, HOLDER, move |_| {
            if let Some(hub) = Hub::existing() {
                job.end(hub);
            }
        });
        if pool.is_some() {
            own.add(hub, handle, Deadline::NOW)?;
        }
        hub.close_greenlet(handle)
    }

    fn one_has_ended(&self, hub: &Hub) {
        if let Some(acceptor) = self.pausing.pop() {
            hub.grant(acceptor);
        }
    }

    // ---- room ------------------------------------------------------------------

    fn pool<'h>(&self, hub: &'h Hub) -> Result<Option<&'h Group>> {
        if self.limits.pool == 0 { Ok(None) } else { object::get(hub, self.limits.pool).map(Some) }
    }

    fn has_room(&self, hub: &Hub) -> bool {
        let in_pool = |pool: Option<&Group>| pool.is_none_or(|pool| pool.free_count() > 0);
        self.group().free_count() > 0 && self.pool(hub).is_ok_and(in_pool)
    }

    fn wait_for_room(&self, hub: &Hub) -> Result<()> {
        loop {
            self.group().wait_available(hub, Deadline::NEVER)?;
            if let Some(pool) = self.pool(hub)? {
                pool.wait_available(hub, Deadline::NEVER)?;
            }
            if self.has_room(hub) {
                return Ok(());
            }
        }
    }

    /// Something is short: waits until a connection ends, or for a while.
    fn pause(&self, hub: &Hub, fd: RawFd, why: Error) -> Result<()> {
        let (first, most) = PAUSE_NS;
        let before = self.pause_ns.get();
        let now = now();
        if now - self.told_at.get() >= TELL_EVERY_NS {
            self.told_at.set(now);
            hub.report_failure(self.acceptor.get(), why, "the server can not accept now, and tries again");
        }
        if before == most {
            self.shed(fd);
        }
        self.pause_ns.set((2 * before).clamp(first, most));
        let until = Deadline::after(self.pause_ns.get());
        match hub.wait_in(&self.pausing, Role::Taker, null_mut(), until, Waiting::Object(self.handle.get())) {
            Waited::Granted(_) | Waited::Failed(Error::TIMEDOUT) => Ok(()),
            Waited::Returned(_, e) | Waited::Failed(e) => Err(e),
        }
    }

    /// One was taken. The spare descriptor may have been lost while they were short.
    fn end_pause(&self) {
        if self.pause_ns.replace(0) > 0 && self.spare.borrow().is_none() {
            self.spare.replace(sys::spare().ok());
        }
    }

    /// Hangs up on those who wait in the kernel's queue, with the spare descriptor.
    fn shed(&self, fd: RawFd) {
        if matches!(self.handler, Handler::Datagram(_)) || self.spare.take().is_none() {
            return;
        }
        for _ in 0..SHED {
            // SAFETY: `filled` gives room and its size.
            let taken = Address::filled(|at, len| unsafe { sys::accept(fd, at, len) });
            if taken.is_err() {
                break;
            }
        }
        self.spare.replace(sys::spare().ok());
    }
}

/// Whether a connection is likely to be followed by another at once. To ask costs a
/// system call when there is none, so after each disappointment it is asked less often.
#[derive(Default)]
struct Hope {
    skip: u32,
    disappointed: u32,
}

impl Hope {
    fn for_more(&mut self) -> bool {
        if self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    fn learn(&mut self, most: u32, taken: u32) {
        if most > 1 {
            self.disappointed = if taken > 1 { 0 } else { (2 * self.disappointed).clamp(1, MOST_SKIPPED) };
            self.skip = self.disappointed;
        }
    }
}

extern "C-unwind" fn accept(server: *mut c_void) -> *mut c_void {
    let Some(hub) = Hub::existing() else { return null_mut() };
    // SAFETY: held by the record of this greenlet.
    let server = unsafe { &*server.cast::<Server>() };
    match server.accept_all(hub) {
        Ok(()) | Err(Error::CANCELED) => {}
        Err(e) => {
            server.failure.set(Some(e));
            hub.report_failure(hub.current().handle.get(), e, "the server's listener has failed");
        }
    }
    null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_alone_is_rarely_taken_for_the_first_of_many() {
        let mut hope = Hope::default();
        let asked = (0..1000).filter(|_| {
            let asks = hope.for_more();
            hope.learn(if asks { 10 } else { 1 }, 1);
            asks
        });
        assert_eq!(asked.count(), 21);
        // In a burst every wake takes all, from the first lucky question on.
        while !hope.for_more() {}
        hope.learn(10, 10);
        assert!((0..100).all(|_| {
            let asks = hope.for_more();
            hope.learn(10, 5);
            asks
        }));
    }
}
