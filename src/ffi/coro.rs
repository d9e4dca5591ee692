//! Coroutines: raw switching.
//!
//! A coroutine runs when somebody switches to it, and only then: what `greenlet` is to gevent. No
//! loop is needed; but a coroutine may also block in any function of the library, then the loop
//! runs others. Greenlets and main can be switched to as well, while they wait in a switch
//! themselves.

#![allow(non_camel_case_types)]

use super::greenlet::{jump_with_site, make, weald_greenlet, weald_spawn_options};
use super::{blocking, code, existing, fence, no_object, put, quick, quick64};
use crate::error::{Error, Result};
use crate::greenlet::{Body, Greenlet};
use crate::hub::Hub;
use crate::time::Deadline;
use std::ffi::{c_int, c_void};

/// What a coroutine runs: gets the first value switched to it; what it returns goes to its parent.
pub type weald_coro_fn = Option<extern "C-unwind" fn(first: *mut c_void, arg: *mut c_void) -> *mut c_void>;

extern "C" fn coro_at(
    f: weald_coro_fn,
    arg: *mut c_void,
    parent: i64,
    o: *const weald_spawn_options,
    site: usize,
) -> i64 {
    let parent_is_good = || -> Result<()> {
        if parent != 0 {
            Hub::get()?.greenlet(parent)?;
        }
        Ok(())
    };
    if let Err(e) = parent_is_good() {
        return i64::from(e.code());
    }
    let handle = make(f.map(Body::Coroutine), arg, o, site, false);
    if handle > 0 && parent != 0 {
        fence(|hub| {
            hub.greenlet(handle)?.parent.set(parent);
            Ok(())
        });
    }
    handle
}

/// Makes a coroutine that will run `f(first value, arg)` when it is first switched to, and returns
/// to `parent` (0: the current greenlet) when it ends; a parent that can not be switched to then is
/// replaced by main. Close the handle. Options as for weald_greenlet_new (NULL: none). May switch,
/// as weald_spawn_with. Fails with WEALD_EINVAL (`f` NULL; an option out of range; detached; a name
/// that is not UTF-8; a size that can not be), WEALD_EBADF (the parent, or a group), WEALD_EPERM
/// (another thread's), WEALD_ENOMEM; and in a full pool WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_coro_new(
    f: weald_coro_fn,
    arg: *mut c_void,
    parent: weald_greenlet,
    options: *const weald_spawn_options,
) -> weald_greenlet {
    jump_with_site!(4, coro_at)
}

/// Switches to `to`, handing it `value`: its own switch returns it there, or its function gets it.
/// Returns when somebody switches back: 0 and what was handed to us in `*received` (NULL: not
/// wanted), or the code that was thrown. Switching to oneself returns at once. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has ended), WEALD_EINVAL (a greenlet that has not
/// begun: start it), WEALD_EBUSY (it waits for something else, or is ready to run), WEALD_ETIMEDOUT
/// (of a surrounding weald_timeout, before it switches), WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK, WEALD_ENOMEM (no stack for one that has not begun; it may be tried again). May
/// switch.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_switch(to: weald_greenlet, value: *mut c_void, received: *mut *mut c_void) -> c_int {
    blocking!(switch)
}

extern "C" fn switch(to: weald_greenlet, value: *mut c_void, received: *mut *mut c_void) -> c_int {
    let Some((hub, to)) = existing::<Greenlet>(to) else { return no_object::<Greenlet>(to) };
    code(hub.switch_to(to, value).map(|got| {
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(received, got) };
    }))
}

/// Switches to `into`, whose switch returns `code`. One that has not begun never will: it ends with
/// `code`, which goes on to its parent. May switch. Returns as weald_switch does; thrown to
/// oneself, `code`. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has ended),
/// WEALD_EINVAL (`code` not negative; a greenlet that has not begun: kill it), WEALD_EBUSY (it
/// waits for something else, or is ready to run), WEALD_ETIMEDOUT (of a surrounding weald_timeout,
/// before it switches), WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_throw(into: weald_greenlet, code: c_int, received: *mut *mut c_void) -> c_int {
    quick(|hub| {
        let into = hub.greenlet(into)?;
        if code >= 0 {
            return Err(Error::INVAL);
        }
        let got = hub.throw_into(into, code)?;
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(received, got) };
        Ok(())
    })
}

/// Waits until somebody switches to this greenlet or wakes it, and gets what it is handed then
/// (NULL: not wanted). What weald_switch is without somebody to switch to. May switch. Returns 0,
/// or the code that was thrown. Fails with WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_park(received: *mut *mut c_void, deadline: i64) -> c_int {
    quick(|hub| {
        let got = hub.wait_for_switch(Deadline::from_raw(deadline))?;
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(received, got) };
        Ok(())
    })
}

/// Has `to` go on with `value`, as weald_switch would, but in its turn, while the caller goes on:
/// in a loop callback, where there is nobody to switch from, or to wake several at once. Does not
/// switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (it has ended),
/// WEALD_EINVAL (a greenlet that has not begun: start it), WEALD_EBUSY (it runs, waits for
/// something else, or is ready to run), WEALD_ENOMEM (no stack for one that has not begun).
#[unsafe(no_mangle)]
pub extern "C" fn weald_wake(to: weald_greenlet, value: *mut c_void) -> c_int {
    quick(|hub| hub.switch_later(hub.greenlet(to)?, value))
}

/// Makes `parent` the one that the coroutine `c` returns to when it ends, instead of the one it was
/// made with. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`c` is
/// no coroutine; it would return to itself in the end).
#[unsafe(no_mangle)]
pub extern "C" fn weald_coro_set_parent(c: weald_greenlet, parent: weald_greenlet) -> c_int {
    fence(|hub| hub.set_parent(hub.greenlet(c)?, hub.greenlet(parent)?))
}

/// Ends a greenlet or coroutine that waits in weald_switch or weald_park without running it ever
/// again: its stack is given back as it is. For bindings whose runtime has no use for it any more;
/// everybody else kills. Its locals are destroyed, its argument is not; whoever waits for it is
/// told, and the code is WEALD_ECANCELED. One that has not begun is ended as by a kill. Does not
/// switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM (also for main), WEALD_EALREADY (it has
/// ended), WEALD_EBUSY (it runs, is ready to run, or waits for something else).
#[unsafe(no_mangle)]
pub extern "C" fn weald_abandon(g: weald_greenlet) -> c_int {
    fence(|hub| hub.forget(hub.greenlet(g)?))
}

/// The greenlet or coroutine that runs; the same as weald_self. Borrowed. 0 in a loop callback.
/// Does not switch. Fails with the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_current() -> weald_greenlet {
    quick64(|hub| Ok(hub.current().handle.get()))
}

/// The thread's own greenlet. Borrowed. Does not switch. Fails with the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_main() -> weald_greenlet {
    quick64(|hub| Ok(hub.main.handle.get()))
}

/// 1 when the coroutine or greenlet has ended, else 0. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_dead(g: weald_greenlet) -> c_int {
    fence(|hub| Ok(hub.greenlet(g)?.is_done()))
}
