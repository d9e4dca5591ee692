//! sleep and its like.

use crate::error::Result;
use crate::patch::call::{Call, errno_of};
use crate::time::{Deadline, now};
use libc::{c_int, c_uint, clockid_t, timespec, useconds_t};

/// The call, if it is one that may sleep here.
fn admitted() -> Option<Call> {
    Call::admitted().filter(Call::may_wait)
}

/// How it ended, and how much time was left.
fn sleep_for(call: &Call, ns: i64) -> (Result<()>, i64) {
    call.parks();
    let until = Deadline::after(ns);
    let slept = call.hub.sleep_until(if ns == 0 { Deadline::NOW } else { until });
    let left = if slept.is_ok() { 0 } else { (until.ns() - now()).max(0) };
    (slept, left)
}

fn nanoseconds(t: &timespec) -> Option<i64> {
    let is_good = t.tv_sec >= 0 && (0..1_000_000_000).contains(&t.tv_nsec);
    is_good.then(|| t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec))
}

fn spec(ns: i64) -> timespec {
    timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
}

/// # Safety
/// None of it.
pub unsafe extern "C" fn sleep(seconds: c_uint) -> c_uint {
    // SAFETY: no pointers.
    let Some(call) = admitted() else { return unsafe { libc::sleep(seconds) } };
    let (slept, left) = sleep_for(&call, i64::from(seconds) * 1_000_000_000);
    call.finish(slept.map(|()| 0));
    ((left + 999_999_999) / 1_000_000_000) as c_uint
}

/// # Safety
/// None of it.
pub unsafe extern "C" fn usleep(us: useconds_t) -> c_int {
    // SAFETY: no pointers.
    let Some(call) = admitted() else { return unsafe { libc::usleep(us) } };
    let (slept, _) = sleep_for(&call, i64::from(us) * 1000);
    call.finish_int(slept.map(|()| 0))
}

/// # Safety
/// As for nanosleep(2).
pub unsafe extern "C" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: by contract a time, and room for one or NULL.
    let (wanted, rest) = unsafe { (time.as_ref().and_then(nanoseconds), left.as_mut()) };
    let Some((ns, call)) = wanted.zip(admitted()) else {
        // SAFETY: by contract.
        return unsafe { libc::nanosleep(time, left) };
    };
    let (slept, left_ns) = sleep_for(&call, ns);
    if let (Err(_), Some(rest)) = (slept, rest) {
        *rest = spec(left_ns);
    }
    call.finish_int(slept.map(|()| 0))
}

/// What `clock` says; none for one that is not known, or does not go on by itself.
fn clock_now(clock: clockid_t) -> Option<i64> {
    const THEY_GO_ON: [clockid_t; 4] =
        [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_TAI];
    let mut t = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is writable.
    let is_known = THEY_GO_ON.contains(&clock) && unsafe { libc::clock_gettime(clock, &mut t) } == 0;
    is_known.then(|| t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec))
}

/// A clock that is set meanwhile is noticed after so long.
const LOOK_EVERY_NS: i64 = 1_000_000_000;

/// Sleeps until `clock` says `until`.
fn sleep_until(call: &Call, clock: clockid_t, until: i64) -> (Result<()>, i64) {
    let left = || until.saturating_sub(clock_now(clock).unwrap_or(i64::MAX)).max(0);
    loop {
        let piece = if clock == libc::CLOCK_MONOTONIC { left() } else { left().min(LOOK_EVERY_NS) };
        let ended = sleep_for(call, piece);
        if ended.0.is_err() || left() == 0 {
            return ended;
        }
    }
}

/// Returns the error, as the C library's does.
///
/// # Safety
/// As for clock_nanosleep(2).
pub unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: by contract a time, and room for one or NULL.
    let (wanted, rest) = unsafe { (time.as_ref().and_then(nanoseconds), left.as_mut()) };
    let Some((ns, call)) = wanted.filter(|_| clock_now(clock).is_some()).zip(admitted()) else {
        // SAFETY: by contract.
        return unsafe { libc::clock_nanosleep(clock, flags, time, left) };
    };
    let (slept, left_ns) = match flags & libc::TIMER_ABSTIME {
        0 => sleep_for(&call, ns),
        _ => sleep_until(&call, clock, ns),
    };
    // It leaves errno alone.
    call.finish(Ok(0));
    match slept {
        Ok(()) => 0,
        Err(e) => {
            if let (Some(rest), 0) = (rest, flags & libc::TIMER_ABSTIME) {
                *rest = spec(left_ns);
            }
            errno_of(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_stand_still_are_not_slept_by() {
        assert!(clock_now(libc::CLOCK_REALTIME).is_some());
        assert_eq!(clock_now(libc::CLOCK_PROCESS_CPUTIME_ID), None);
        assert_eq!(clock_now(-12345), None);
        assert_eq!(nanoseconds(&timespec { tv_sec: 1, tv_nsec: 1_000_000_000 }), None);
        assert_eq!(nanoseconds(&timespec { tv_sec: i64::MAX, tv_nsec: 0 }), Some(i64::MAX));
    }
}
