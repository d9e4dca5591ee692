//! waitpid and wait4 for one child: its pidfd is waited for, and then it is reaped by the
//! C library. Waits for any child, and for one that stops, are left to it altogether.

use crate::error::Result;
use crate::patch::call::Call;
use crate::poller::READ;
use crate::sys;
use crate::time::Deadline;
use libc::{c_int, pid_t, rusage};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// In whose name the greenlet's record holds the pidfd: no handle.
const HOLDER: i64 = -2;
/// How long until the next look without a pidfd, at first and at most.
const LOOK_EVERY_NS: (i64, i64) = (1_000_000, 32_000_000);

/// # Safety
/// As for waitpid(2).
pub unsafe extern "C" fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    // SAFETY: by contract.
    unsafe { wait4(pid, status, options, std::ptr::null_mut()) }
}

/// # Safety
/// As for wait4(2).
pub unsafe extern "C" fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
    // SAFETY: by contract.
    let plain = |options| unsafe { libc::wait4(pid, status, options, usage) };
    let Some(call) = Call::admitted().filter(|_| pid > 0 && options == 0) else { return plain(options) };
    if let Err(e) = call.begin(|| true) {
        return call.finish_int(Err(e));
    }
    let mut pause = LOOK_EVERY_NS.0;
    loop {
        let reaped = plain(libc::WNOHANG);
        if reaped != 0 {
            return reaped;
        }
        if !call.may_wait() {
            return plain(options);
        }
        let waited = match sys::pidfd_open(pid) {
            Ok(fd) => wait_for_end(&call, fd),
            Err(_) => look_later(&call, &mut pause),
        };
        if let Err(e) = waited {
            return call.finish_int(Err(e));
        }
    }
}

/// Where there are no pidfds, or no descriptor is to be had.
fn look_later(call: &Call, pause: &mut i64) -> Result<()> {
    call.parks();
    let until = Deadline::after(*pause);
    *pause = (2 * *pause).min(LOOK_EVERY_NS.1);
    call.hub.sleep_until(until)
}

fn wait_for_end(call: &Call, fd: RawFd) -> Result<()> {
    // SAFETY: the kernel has just given it to us.
    let held = unsafe { OwnedFd::from_raw_fd(fd) };
    // A stack may be abandoned, its descriptors must not be.
    call.hub.on_end(call.hub.current(), HOLDER, move |_| drop(held));
    call.hub.poller().is_new(fd);
    let waited = call.wait(fd, READ, Deadline::NEVER);
    call.hub.poller().forget(fd);
    call.hub.forget_on_end(call.hub.current(), HOLDER);
    waited.map(drop)
}
