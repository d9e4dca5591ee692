//! poll, select and epoll_wait, and their like. Those that are given a signal mask stay as
//! they are: the mask is the thread's, and other greenlets would run with it.

use crate::error::{Error, Result};
use crate::patch::call::Call;
use crate::poller::READ;
use crate::sys::glibc;
use crate::time::{Deadline, now};
use libc::{c_int, c_long, epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

fn in_ms(timeout: c_int) -> Deadline {
    if timeout < 0 { Deadline::NEVER } else { Deadline::after(i64::from(timeout) * 1_000_000) }
}

/// None for one that the kernel would refuse.
fn span(seconds: i64, ns: i64) -> Option<i64> {
    let is_good = seconds >= 0 && (0..1_000_000_000).contains(&ns);
    is_good.then(|| seconds.saturating_mul(1_000_000_000).saturating_add(ns))
}

/// Waits until something is there, which `fds` say then. `now`: the same without waiting.
fn wait(call: &Call, fds: &mut [pollfd], deadline: Deadline) -> Result<usize> {
    call.parks();
    call.hub.poll_fds(fds, deadline)
}

/// # Safety
/// As for poll(2).
pub unsafe extern "C" fn poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int {
    // SAFETY: by contract.
    let plain = |timeout| unsafe { libc::poll(fds, n, timeout) };
    let Some(call) = Call::admitted().filter(|_| timeout != 0) else { return plain(timeout) };
    if let Err(e) = call.begin(|| true) {
        return call.finish_int(Err(e));
    }
    match plain(0) {
        0 if call.may_wait() => {}
        0 => return plain(timeout),
        done => return done,
    }
    // SAFETY: the kernel has just looked at all of them.
    let fds = if n == 0 { &mut [] } else { unsafe { std::slice::from_raw_parts_mut(fds, n as usize) } };
    call.finish_int(wait(&call, fds, in_ms(timeout)))
}

/// # Safety
/// As for poll(2).
pub unsafe extern "C" fn poll_chk(fds: *mut pollfd, n: nfds_t, timeout: c_int, room: usize) -> c_int {
    // SAFETY: by contract. It ends the process if there is not so much room.
    unsafe {
        if room / size_of::<pollfd>() < n as usize {
            glibc::__poll_chk(fds, n, timeout, room)
        } else {
            poll(fds, n, timeout)
        }
    }
}

/// # Safety
/// As for ppoll(2).
pub unsafe extern "C" fn ppoll(fds: *mut pollfd, n: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
    // SAFETY: by contract.
    let plain = |timeout| unsafe { libc::ppoll(fds, n, timeout, mask) };
    let Some(call) = Call::admitted().filter(|_| mask.is_null()) else { return plain(timeout) };
    // SAFETY: NULL or a time.
    let ns = unsafe { timeout.as_ref() }.map_or(Some(i64::MAX), |t| span(t.tv_sec, t.tv_nsec));
    let Some(ns) = ns.filter(|&ns| ns > 0) else { return plain(timeout) };
    if let Err(e) = call.begin(|| true) {
        return call.finish_int(Err(e));
    }
    match plain(&timespec { tv_sec: 0, tv_nsec: 0 }) {
        0 if call.may_wait() => {}
        0 => return plain(timeout),
        done => return done,
    }
    // SAFETY: the kernel has just looked at all of them.
    let fds = if n == 0 { &mut [] } else { unsafe { std::slice::from_raw_parts_mut(fds, n as usize) } };
    call.finish_int(wait(&call, fds, Deadline::after(ns)))
}

/// # Safety
/// As for ppoll(2).
pub unsafe extern "C" fn ppoll_chk(
    fds: *mut pollfd,
    n: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: usize,
) -> c_int {
    let is_too_small = room / size_of::<pollfd>() < n as usize;
    // SAFETY: by contract. It ends the process if there is not so much room.
    unsafe { if is_too_small { glibc::__ppoll_chk(fds, n, timeout, mask, room) } else { ppoll(fds, n, timeout, mask) } }
}

// ---- select ---------------------------------------------------------------------------

/// What each of select's three sets asks poll for, and which answers count for it.
const ASKS: [(i16, i16); 3] = [
    (libc::POLLIN, libc::POLLIN | libc::POLLHUP | libc::POLLERR),
    (libc::POLLOUT, libc::POLLOUT | libc::POLLERR),
    (libc::POLLPRI, libc::POLLPRI),
];
const WORD: usize = c_long::BITS as usize;

/// The sets, of any size: a program may have larger ones than fd_set.
struct Sets {
    sets: [*mut c_long; 3],
    nfds: usize,
}

impl Sets {
    fn has(&self, set: usize, fd: usize) -> bool {
        let at = self.sets[set];
        // SAFETY: NULL, or a set that has a bit for each number below nfds.
        !at.is_null() && unsafe { at.add(fd / WORD).read() } >> (fd % WORD) & 1 != 0
    }

    fn asked(&self) -> Result<Vec<pollfd>> {
        let mut fds = Vec::new();
        for fd in 0..self.nfds {
            let events = (0..3).filter(|&set| self.has(set, fd)).fold(0, |all, set| all | ASKS[set].0);
            if events != 0 {
                fds.try_reserve(1).map_err(|_| Error::NOMEM)?;
                fds.push(pollfd { fd: fd as c_int, events, revents: 0 });
            }
        }
        Ok(fds)
    }

    /// Says in the sets what came, and how many bits that is.
    fn answer(&self, fds: &[pollfd]) -> Result<usize> {
        if fds.iter().any(|p| p.revents & libc::POLLNVAL != 0) {
            return Err(Error::BADF);
        }
        let mut count = 0;
        for (&at, (ask, answer)) in self.sets.iter().zip(ASKS).filter(|(at, _)| !at.is_null()) {
            for word in 0..self.nfds.div_ceil(WORD) {
                // SAFETY: as in `has`.
                unsafe { at.add(word).write(0) };
            }
            for p in fds.iter().filter(|p| p.events & ask != 0 && p.revents & answer != 0) {
                // SAFETY: as above: the number came out of a set.
                unsafe { *at.add(p.fd as usize / WORD) |= 1 << (p.fd as usize % WORD) };
                count += 1;
            }
        }
        Ok(count)
    }
}

/// None when the C library is to do it.
fn select_until(nfds: c_int, sets: [*mut fd_set; 3], ns: Option<i64>) -> Option<c_int> {
    let call = Call::admitted().filter(|_| nfds >= 0)?;
    let ns = ns.filter(|&ns| ns > 0)?;
    if let Err(e) = call.begin(|| true) {
        return Some(call.finish_int(Err(e)));
    }
    if !call.may_wait() {
        return None;
    }
    let sets = Sets { sets: sets.map(<*mut fd_set>::cast), nfds: nfds as usize };
    let waits = || {
        let mut fds = sets.asked()?;
        wait(&call, &mut fds, if ns == i64::MAX { Deadline::NEVER } else { Deadline::after(ns) })?;
        sets.answer(&fds)
    };
    Some(call.finish_int(waits()))
}

/// # Safety
/// As for select(2).
pub unsafe extern "C" fn select(
    nfds: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: NULL or a time.
    let ns = unsafe { timeout.as_ref() }.map_or(Some(i64::MAX), |t| span(t.tv_sec, t.tv_usec.saturating_mul(1000)));
    let began = now();
    let Some(done) = select_until(nfds, [read, write, except], ns) else {
        // SAFETY: by contract.
        return unsafe { libc::select(nfds, read, write, except, timeout) };
    };
    // As Linux does it: what is left of the time.
    // SAFETY: NULL or a time.
    if let (Some(t), Some(ns)) = (unsafe { timeout.as_mut() }, ns) {
        let left = ns.saturating_sub(now() - began).max(0);
        (t.tv_sec, t.tv_usec) = (left / 1_000_000_000, left % 1_000_000_000 / 1000);
    }
    done
}

/// # Safety
/// As for pselect(2).
pub unsafe extern "C" fn pselect(
    nfds: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: NULL or a time.
    let ns = unsafe { timeout.as_ref() }.map_or(Some(i64::MAX), |t| span(t.tv_sec, t.tv_nsec));
    let done = if mask.is_null() { select_until(nfds, [read, write, except], ns) } else { None };
    // SAFETY: by contract.
    done.unwrap_or_else(|| unsafe { libc::pselect(nfds, read, write, except, timeout, mask) })
}

// ---- epoll ----------------------------------------------------------------------------

/// # Safety
/// As for epoll_wait(2).
pub unsafe extern "C" fn epoll_wait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int {
    // SAFETY: by contract.
    let plain = |timeout| unsafe { libc::epoll_wait(epoll, events, most, timeout) };
    let Some(call) = Call::admitted().filter(|_| timeout != 0) else { return plain(timeout) };
    if let Err(e) = call.begin(|| true) {
        return call.finish_int(Err(e));
    }
    let deadline = in_ms(timeout);
    let mut may_wait = false;
    loop {
        let got = plain(0);
        if got != 0 {
            return got;
        }
        may_wait = may_wait || call.may_wait();
        if !may_wait {
            return plain(timeout);
        }
        match call.wait(epoll, READ, deadline) {
            Ok(_) => {}
            // What is there is there, however late we are.
            Err(Error::TIMEDOUT) if deadline.has_passed() => return plain(0),
            Err(e) => return call.finish_int(Err(e)),
        }
    }
}

/// # Safety
/// As for epoll_pwait(2).
pub unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: by contract.
    unsafe {
        if mask.is_null() {
            epoll_wait(epoll, events, most, timeout)
        } else {
            libc::epoll_pwait(epoll, events, most, timeout, mask)
        }
    }
}
