//! Connecting by name: all addresses of a host raced against each other (RFC 8305).
//!
//! ```text
//! oak:80 --> 2001:db8::1  192.0.2.1  2001:db8::2       families in turn
//!            |connect.................................>
//!            |      250 ms |connect.........> the first that answers is it;
//!            |                      250 ms |connect..>  the others are closed
//! ```
//! An attempt that fails brings the next one forward. What is under way is held by the
//! greenlet's record as well: a stack may be abandoned, its descriptors must not be.

use super::address::Address;
use super::socket;
use crate::dns::{self, Question};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::rw;
use crate::time::{Deadline, after, now};
use libc::c_int;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// How long an attempt has before the next one begins beside it.
const HEAD_START_NS: i64 = 250_000_000;
/// In whose name the record holds attempts: no handle.
const HOLDER: i64 = -1;

/// A connection of `kind` (SOCK_STREAM, SOCK_DGRAM) to "host:port". EINVAL, what names
/// can fail with, what the first address failed with, and those of a wait.
pub fn dial(hub: &Hub, text: &str, kind: c_int, deadline: Deadline) -> Result<OwnedFd> {
    let addresses = look_up(hub, text, kind, deadline)?;
    let held = Held::by_the_record(hub);
    let done = match addresses[..] {
        [ref one] if !deadline.is_now() => connect(hub, &held, one, kind, deadline),
        _ => Race { addresses: addresses.into(), kind, held: &held, next_at: 0, failure: None }.run(hub, deadline),
    };
    held.release(hub);
    done
}

/// As `dial`, to a Unix socket: a path, or `@` and a name.
pub fn dial_unix(hub: &Hub, path: &str, kind: c_int, deadline: Deadline) -> Result<OwnedFd> {
    let address = Address::unix(path)?;
    if path.is_empty() {
        return Err(Error::INVAL); // a socket without a name
    }
    let held = Held::by_the_record(hub);
    let done = connect(hub, &held, &address, kind, deadline);
    held.release(hub);
    done
}

/// The one address that there is.
fn connect(hub: &Hub, held: &Held, address: &Address, kind: c_int, deadline: Deadline) -> Result<OwnedFd> {
    let fd = held.add(socket::socket(address.family(), kind, 0)?, address);
    socket::connect(hub, fd, address, deadline)?;
    held.take(fd)
}

fn look_up(hub: &Hub, text: &str, kind: c_int, deadline: Deadline) -> Result<Vec<Address>> {
    let (host, port) = Address::split(text)?;
    let owned = |text: &str| CString::new(text).map_err(|_| Error::INVAL);
    let question = Question {
        host: if host.is_empty() { None } else { Some(owned(host)?) },
        service: Some(owned(port)?),
        flags: 0,
        family: libc::AF_UNSPEC,
        kind,
        protocol: 0,
    };
    let found = dns::addresses(hub, question, deadline)?;
    let all = found.iter().filter_map(|one| {
        let bytes = one.address();
        // SAFETY: its own bytes.
        unsafe { Address::from_raw(bytes.as_ptr().cast(), bytes.len() as libc::socklen_t) }.ok()
    });
    let all = interleaved(all.collect());
    if all.is_empty() { Err(Error::EAI_NODATA) } else { Ok(all) }
}

/// In their order, but the families in turn.
fn interleaved(all: Vec<Address>) -> Vec<Address> {
    let Some(first) = all.first().map(Address::family) else { return all };
    let (mut these, mut those): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|a| a.family() == first);
    let mut turns = Vec::new();
    while !these.is_empty() || !those.is_empty() {
        turns.extend(these.pop_front());
        turns.extend(those.pop_front());
    }
    turns
}

// ---- what is under way --------------------------------------------------------------

/// The descriptors of connections in the making.
#[derive(Default)]
struct Held {
    fds: RefCell<Vec<(OwnedFd, Address)>>,
}

/// The record's share. An abandoned stack keeps its own for ever, so this one closes.
struct Records(Rc<Held>);

impl Drop for Records {
    fn drop(&mut self) {
        drop(self.0.fds.take());
    }
}

impl Held {
    fn by_the_record(hub: &Hub) -> Rc<Held> {
        let held = Rc::<Held>::default();
        let records = Records(held.clone());
        hub.on_end(hub.current(), HOLDER, move |_| drop(records));
        held
    }

    /// The losers are closed, and the record holds nothing any more.
    fn release(&self, hub: &Hub) {
        for (fd, _) in self.fds.take() {
            let _ = rw::close(fd.into_raw_fd());
        }
        hub.forget_on_end(hub.current(), HOLDER);
    }

    fn add(&self, fd: OwnedFd, to: &Address) -> RawFd {
        let number = fd.as_raw_fd();
        self.fds.borrow_mut().push((fd, *to));
        number
    }

    fn take(&self, fd: RawFd) -> Result<OwnedFd> {
        let mut fds = self.fds.borrow_mut();
        let place = fds.iter().position(|(one, _)| one.as_raw_fd() == fd).ok_or(Error::BADF)?;
        Ok(fds.remove(place).0)
    }

    /// What became of one of them; EAGAIN when nothing has yet.
    fn connected(&self, fd: RawFd) -> Result<()> {
        let to = self.fds.borrow().iter().find(|(one, _)| one.as_raw_fd() == fd).map(|(_, to)| *to);
        socket::connected(fd, &to.ok_or(Error::BADF)?)
    }

    fn is_empty(&self) -> bool {
        self.fds.borrow().is_empty()
    }
}

struct Race<'a> {
    /// Those that have not been tried.
    addresses: VecDeque<Address>,
    kind: c_int,
    held: &'a Held,
    /// When the next one begins.
    next_at: i64,
    /// Why the first that failed did: it was the best.
    failure: Option<Error>,
}

impl Race<'_> {
    fn run(mut self, hub: &Hub, deadline: Deadline) -> Result<OwnedFd> {
        if !deadline.is_now() {
            hub.check()?;
        }
        loop {
            while self.is_due(deadline) {
                if let Some(fd) = self.begin() {
                    return Ok(fd);
                }
            }
            if self.held.is_empty() {
                return Err(self.failure.unwrap_or(Error::EAI_NODATA));
            }
            if let Some(fd) = self.wait(hub, deadline)? {
                return Ok(fd);
            }
        }
    }

    fn is_due(&self, deadline: Deadline) -> bool {
        !self.addresses.is_empty() && (self.held.is_empty() || deadline.is_now() || self.next_at <= now())
    }

    fn failed(&mut self, e: Error) {
        self.failure.get_or_insert(e);
        self.next_at = 0;
    }

    /// Begins with the next address; a connection, if that is made at once.
    fn begin(&mut self) -> Option<OwnedFd> {
        let address = self.addresses.pop_front()?;
        self.next_at = after(HEAD_START_NS);
        match self.start(&address) {
            Ok(made) => made,
            Err(e) => {
                self.failed(e);
                None
            }
        }
    }

    fn start(&self, address: &Address) -> Result<Option<OwnedFd>> {
        let fd = socket::socket(address.family(), self.kind, 0)?;
        match socket::begin_connect(fd.as_raw_fd(), address) {
            Ok(()) => Ok(Some(fd)),
            Err(Error::INPROGRESS | Error::INTR) => {
                self.held.add(fd, address);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Waits until something becomes of one of them, or the next one is due.
    fn wait(&mut self, hub: &Hub, deadline: Deadline) -> Result<Option<OwnedFd>> {
        let until = match self.addresses.is_empty() {
            true => deadline,
            false => deadline.min(Deadline::from_raw(self.next_at)),
        };
        let watched =
            |(fd, _): &(OwnedFd, Address)| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        let mut fds: Vec<_> = self.held.fds.borrow().iter().map(watched).collect();
        if hub.poll_fds(&mut fds, until)? == 0 {
            return match self.addresses.is_empty() || deadline.has_passed() {
                true if deadline.is_now() => Err(Error::AGAIN),
                true => Err(Error::TIMEDOUT),
                false => Ok(None),
            };
        }
        for ready in fds.iter().filter(|one| one.revents != 0) {
            match self.held.connected(ready.fd) {
                Ok(()) => return self.held.take(ready.fd).map(Some),
                Err(Error::AGAIN) => {}
                Err(e) => {
                    let _ = rw::close(self.held.take(ready.fd)?.into_raw_fd());
                    self.failed(e);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_first_one_begins() {
        let order = |texts: &[&str]| -> Vec<String> {
            let all = texts.iter().map(|text| Address::parse(text).unwrap()).collect();
            interleaved(all).iter().map(Address::to_string).collect()
        };
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]
        );
        assert_eq!(order(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]), ["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]);
        assert!(order(&[]).is_empty());
    }
}
