//! A server as its connections know it: who answers, what it allows, and whether it goes on.
//!
//! Each connection has a seat, so that a server that is shut can tell those to leave that wait for a request.

use super::config::{Lenient, Limits};
use crate::hub::Hub;
use crate::poller::READ;
use crate::server::Listener;
use crate::sys::descriptor as sys;
use libc::c_int;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

pub type HandlerFn = extern "C-unwind" fn(i64, *mut c_void);
/// Called with the request, its status, the bytes of the body sent and the nanoseconds it took.
pub type LogFn = extern "C-unwind" fn(i64, c_int, i64, i64, *mut c_void);

pub struct HttpServer {
    pub handler: HandlerFn,
    pub user: *mut c_void,
    pub limits: Limits,
    pub lenient: Lenient,
    pub log: Option<LogFn>,
    /// The Server header's value.
    pub name: Box<[u8]>,
    pub is_shut: Cell<bool>,
    /// Those of the connections that it has accepted itself.
    seats: RefCell<Vec<*const Seat>>,
}

/// A connection among those of its server.
pub struct Seat {
    pub fd: RawFd,
    /// Nothing is under way: waits for a request.
    pub is_idle: Cell<bool>,
    place: Cell<usize>,
}

impl Seat {
    pub fn new(fd: RawFd) -> Seat {
        Seat { fd, is_idle: Cell::new(false), place: Cell::new(0) }
    }
}

impl HttpServer {
    pub fn new(
        handler: HandlerFn,
        user: *mut c_void,
        limits: Limits,
        lenient: Lenient,
        log: Option<LogFn>,
        name: &[u8],
    ) -> Rc<HttpServer> {
        let (is_shut, seats) = Default::default();
        Rc::new(HttpServer { handler, user, limits, lenient, log, name: name.into(), is_shut, seats })
    }

    /// Connections inherit this from their listener; one that is no TCP has nothing to set. The kernel keeps
    /// a connection back until its first bytes have come, or for a second: then it is read at once, and not
    /// tried, waited for and read. A closing one costs 15.5 us instead of 21.6 with wrk, 19.8 for 28.0 with
    /// ab (medians of six runs in turn). With HTTP and TLS it is the client who speaks first.
    pub fn prepare(listener: &Listener) {
        let fd = match listener {
            Listener::Own(fd, _) => fd.as_raw_fd(),
            Listener::Theirs(fd) => *fd,
        };
        for option in [libc::TCP_NODELAY, libc::TCP_DEFER_ACCEPT] {
            let _ = sys::set_option(fd, libc::IPPROTO_TCP, option, &1);
        }
    }

    /// Takes a connection in.
    ///
    /// # Safety
    /// It stays where it is until `unseat`.
    pub unsafe fn seat(&self, seat: &Seat) {
        let mut all = self.seats.borrow_mut();
        seat.place.set(all.len());
        all.push(seat);
    }

    pub fn unseat(&self, seat: &Seat) {
        let mut all = self.seats.borrow_mut();
        let place = seat.place.get();
        all.swap_remove(place);
        if let Some(&moved) = all.get(place) {
            // SAFETY: each stays where it is as long as it is in here, by the contract of `seat`.
            unsafe { &*moved }.place.set(place);
        }
    }

    /// From now on no connection waits for another request.
    pub fn shut(&self, hub: &Hub) {
        self.is_shut.set(true);
        for &seat in self.seats.borrow().iter() {
            // SAFETY: as above.
            let seat = unsafe { &*seat };
            if seat.is_idle.get() {
                hub.poller().end_waits(seat.fd, READ);
            }
        }
    }

    /// Whether a connection ends after its `n`-th request.
    pub fn ends_after(&self, n: usize) -> bool {
        self.is_shut.get() || n >= self.limits.requests
    }
}
