//! Greenlets.
//!
//! A greenlet is a function that runs on a stack of its own until it blocks in a function of this
//! library; then others run. All greenlets of a thread share that thread, so nothing else runs
//! between two blocking calls. The thread's own stack is a greenlet as well, called main, which can
//! not be killed.

#![allow(non_camel_case_types)]

use super::base::weald_handle;
use super::{
    blocking, code, existing, fence, fence64, may_wait_plainly, no_object, options, put, quick, quick64, slice, some,
    text, wanted,
};
use crate::error::{Error, Result};
use crate::greenlet::{Body, Greenlet, LinkFn, LinkWhen, State};
use crate::hub::Hub;
use crate::life::Options;
use crate::sync::select::{self, Target};
use crate::time::Deadline;
use crate::{group, iwait, threadpool};
use std::ffi::{c_char, c_int, c_void};

/// A handle to a greenlet.
pub type weald_greenlet = i64;
/// What a greenlet runs; what it returns is its value.
pub type weald_fn = Option<extern "C-unwind" fn(arg: *mut c_void) -> *mut c_void>;
/// Destroys a value or an argument.
pub type weald_destroy_fn = Option<extern "C-unwind" fn(value: *mut c_void)>;
/// Called in the loop when a greenlet or result has ended: it must not block.
pub type weald_link_fn = Option<extern "C-unwind" fn(ended: weald_handle, arg: *mut c_void)>;

/// For `weald_spawn_options.flags`: no handle is given out, 0 is returned.
pub const WEALD_SPAWN_DETACHED: c_int = 1;

/// How to make a greenlet. Set `size` to sizeof(weald_spawn_options) and what you do not need to
/// zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_spawn_options {
    /// sizeof(weald_spawn_options)
    pub size: usize,
    /// For reports; copied. NULL: none.
    pub name: *const c_char,
    /// Bytes of stack, at least 16 KiB; only what is touched takes memory. 0: 256 KiB.
    pub stack_size: usize,
    /// Starts so many nanoseconds later. 0: now.
    pub delay_ns: i64,
    /// Called once on the argument when the greenlet ends, whether or not it ran.
    pub destroy: weald_destroy_fn,
    /// A group or pool to join; 0: none. A pool that is full makes the call wait.
    pub group: weald_handle,
    /// WEALD_SPAWN_...
    pub flags: c_int,
    /// The user word of bindings; see weald_user.
    pub user: *mut c_void,
}

impl Default for weald_spawn_options {
    fn default() -> Self {
        // SAFETY: all fields may be zero.
        unsafe { std::mem::zeroed() }
    }
}

extern "C" fn spawn(f: weald_fn, arg: *mut c_void, site: usize) -> i64 {
    if let Some(hub) = Hub::existing()
        && let Some(body) = f
        && let Some(g) = hub.spawn_at_hand(Body::Greenlet(body), arg, site)
    {
        return g.handle.get();
    }
    spawn_slowly(f, arg, site)
}

#[inline(never)]
extern "C" fn spawn_slowly(f: weald_fn, arg: *mut c_void, site: usize) -> i64 {
    quick64(|hub| Ok(hub.spawn(Body::Greenlet(some(f)?), arg, site)?.handle.get()))
}

extern "C" fn spawn_with(f: weald_fn, arg: *mut c_void, o: *const weald_spawn_options, site: usize) -> i64 {
    make(f.map(Body::Greenlet), arg, o, site, true)
}

extern "C" fn new_at(f: weald_fn, arg: *mut c_void, o: *const weald_spawn_options, site: usize) -> i64 {
    make(f.map(Body::Greenlet), arg, o, site, false)
}

extern "C" fn go(f: weald_fn, arg: *mut c_void, site: usize) -> c_int {
    if let Some(hub) = Hub::existing()
        && let Some(body) = f
        && let Some(g) = hub.spawn_at_hand(Body::Greenlet(body), arg, site)
    {
        return code(hub.table.unref(g.handle.get()).map(|_| g.is_let_go.set(true)));
    }
    go_slowly(f, arg, site)
}

#[inline(never)]
extern "C" fn go_slowly(f: weald_fn, arg: *mut c_void, site: usize) -> c_int {
    quick(|hub| {
        let g = hub.spawn(Body::Greenlet(some(f)?), arg, site)?;
        hub.let_go(g);
        Ok(())
    })
}

/// The common part of spawn with options, new, and coroutines.
pub(super) fn make(
    body: Option<Body>,
    arg: *mut c_void,
    o: *const weald_spawn_options,
    site: usize,
    start: bool,
) -> i64 {
    fence64(|hub| {
        let body = some(body)?;
        // SAFETY: the caller passes NULL or a struct whose first field is its size.
        let o: weald_spawn_options = unsafe { options(o) }?;
        // SAFETY: NULL or a C string, by the caller.
        let name = unsafe { text(o.name) }?;
        let detached = o.flags & WEALD_SPAWN_DETACHED != 0;
        if o.flags & !WEALD_SPAWN_DETACHED != 0 || o.delay_ns < 0 || (detached && !start) {
            return Err(Error::INVAL);
        }
        let how = Options {
            name,
            stack_size: o.stack_size,
            delay_ns: o.delay_ns,
            destroy: o.destroy,
            detached,
            user: o.user,
            site,
        };
        let g = group::spawn_into(hub, o.group, body, arg, &how, start)?;
        Ok(if detached { 0 } else { g })
    })
}

/// Goes on to `$to` with the caller's return address as argument number `$n`: where
/// the greenlet was spawned. In a naked function, because no other way shows it.
macro_rules! jump_with_site {
    (2, $to:ident) => {
        jump_with_site!("mov rdx, [rsp]", "mov x2, x30", $to)
    };
    (3, $to:ident) => {
        jump_with_site!("mov rcx, [rsp]", "mov x3, x30", $to)
    };
    (4, $to:ident) => {
        jump_with_site!("mov r8, [rsp]", "mov x4, x30", $to)
    };
    ($x86:literal, $arm:literal, $to:ident) => {{
        #[cfg(target_arch = "x86_64")]
        std::arch::naked_asm!($x86, "jmp {}", sym $to);
        #[cfg(target_arch = "aarch64")]
        std::arch::naked_asm!($arm, "b {}", sym $to);
    }};
}
pub(super) use jump_with_site;

/// Makes a greenlet that will run `f(arg)`, behind everything that is ready now. The handle is the
/// caller's to close; closing it does not end the greenlet. Does not switch. Fails with
/// WEALD_EINVAL (`f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_spawn(f: weald_fn, arg: *mut c_void) -> weald_greenlet {
    jump_with_site!(2, spawn)
}

/// As weald_spawn, with options (NULL: none). May switch, but only to wait for room in a pool.
/// Returns a handle, or 0 for a detached one. Fails with WEALD_EINVAL (`f` NULL; an option out of
/// range; a name that is not UTF-8; a size that can not be), WEALD_ENOMEM; with a group,
/// WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM; and in a full pool WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_spawn_with(
    f: weald_fn,
    arg: *mut c_void,
    options: *const weald_spawn_options,
) -> weald_greenlet {
    jump_with_site!(3, spawn_with)
}

/// Fire and forget: as weald_spawn, but there is no handle to close. Does not switch. Returns 0.
/// Fails with WEALD_EINVAL (`f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_go(f: weald_fn, arg: *mut c_void) -> c_int {
    jump_with_site!(2, go)
}

/// As weald_spawn_with, but not started: `delay_ns` is not looked at, and it can not be detached.
/// Closing the handle of one that was never started destroys its argument. May switch, as
/// weald_spawn_with. Fails with WEALD_EINVAL (`f` NULL; an option out of range; detached; a name
/// that is not UTF-8; a size that can not be), WEALD_ENOMEM; with a group, WEALD_EBADF (also when
/// it is closed meanwhile), WEALD_EPERM; and in a full pool WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_greenlet_new(
    f: weald_fn,
    arg: *mut c_void,
    options: *const weald_spawn_options,
) -> weald_greenlet {
    jump_with_site!(3, new_at)
}

fn startable(hub: &Hub, g: i64) -> Result<&crate::greenlet::Greenlet> {
    let g = hub.greenlet(g)?;
    match g.state.get() {
        State::New if !hub.is_coroutine(g) => Ok(g),
        State::New => Err(Error::INVAL),
        _ => Err(Error::ALREADY),
    }
}

/// Starts a greenlet made by weald_greenlet_new, behind everything that is ready; one that was to
/// start later as well. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM,
/// WEALD_EALREADY (started before), WEALD_EINVAL (a coroutine).
#[unsafe(no_mangle)]
pub extern "C" fn weald_start(g: weald_greenlet) -> c_int {
    fence(|hub| {
        hub.start(startable(hub, g)?);
        Ok(())
    })
}

/// Starts it `delay_ns` nanoseconds later; killing it before means that it never runs. Until then
/// it is not started, and a second call sets another delay. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EALREADY (started before), WEALD_EINVAL (a coroutine; a negative
/// delay), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_start_later(g: weald_greenlet, delay_ns: i64) -> c_int {
    fence(|hub| {
        let g = startable(hub, g)?;
        if delay_ns < 0 {
            return Err(Error::INVAL);
        }
        hub.start_later(g, delay_ns)
    })
}

/// Waits until `g` has ended, however it ended. May switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_EDEADLK (also for oneself).
#[unsafe(no_mangle)]
pub extern "C" fn weald_join(g: weald_greenlet, deadline: i64) -> c_int {
    let Some((hub, g)) = existing::<Greenlet>(g) else { return no_object::<Greenlet>(g) };
    let me = hub.current();
    if me.attention.get() != 0 || std::ptr::eq(g, me) {
        return join(g, deadline, hub);
    }
    match g.is_done() {
        true => 0,
        false if may_wait_plainly(hub, deadline) => await_end(g, deadline, hub),
        false => join(g, deadline, hub),
    }
}

#[unsafe(naked)]
extern "C" fn await_end(g: &Greenlet, deadline: i64, hub: &Hub) -> c_int {
    blocking!(join_plainly)
}

extern "C" fn join_plainly(g: &Greenlet, _: i64, hub: &Hub) -> c_int {
    code(hub.join_plainly(g))
}

#[unsafe(naked)]
extern "C" fn join(g: &Greenlet, deadline: i64, hub: &Hub) -> c_int {
    blocking!(join_by_waiting)
}

extern "C" fn join_by_waiting(g: &Greenlet, deadline: i64, hub: &Hub) -> c_int {
    code(hub.join(g, Deadline::from_raw(deadline)))
}

/// For weald_joinall: return the first failure's code at once.
pub const WEALD_JOIN_RAISE: c_int = 1;

/// Waits until `count` of the `n` greenlets have ended (0: all of them), and returns how many have.
/// With WEALD_JOIN_RAISE in `flags` it returns the code of the first that failed, as soon as it
/// has. May switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`gs` NULL; `count` above
/// `n`; other flags), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_ENOMEM, WEALD_EDEADLK, and with WEALD_JOIN_RAISE a greenlet's own code.
#[unsafe(no_mangle)]
pub extern "C" fn weald_joinall(gs: *const weald_greenlet, n: usize, count: usize, flags: c_int, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's array, which stays while this greenlet waits.
        let gs = unsafe { slice(gs, n) }?;
        if flags & !WEALD_JOIN_RAISE != 0 || count > n {
            return Err(Error::INVAL);
        }
        iwait::joinall(hub, gs, count, flags & WEALD_JOIN_RAISE != 0, Deadline::from_raw(deadline))
    })
}

/// Waits until one of the `n` greenlets has ended, and returns its index. May switch. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`gs` NULL; `n` 0), WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_join_any(gs: *const weald_greenlet, n: usize, deadline: i64) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's array, which stays while this greenlet waits.
        let gs = unsafe { slice(gs, n) }?;
        if n == 0 {
            return Err(Error::INVAL);
        }
        let targets: Vec<Target> = gs.iter().map(|&object| Target { object, fd: -1, events: 0 }).collect();
        for &g in gs {
            hub.greenlet(g)?;
        }
        let ready = select::wait(hub, &targets, 1, Deadline::from_raw(deadline))?;
        ready.iter().position(|&r| r).ok_or(Error::INVAL)
    })
}

/// Makes an iterator over the `n` greenlets, in the order in which they end; close it. Does not
/// switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`gs` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_iwait(gs: *const weald_greenlet, n: usize) -> weald_handle {
    fence64(|hub| {
        // SAFETY: the caller's array; it is not kept.
        iwait::Iwait::create(hub, unsafe { slice(gs, n) }?)
    })
}

/// Waits for the next greenlet to end: 1 and its handle, borrowed, in `*g`; or 0 when all have been
/// returned. May switch. Fails with WEALD_EBADF (also when the iterator is closed meanwhile),
/// WEALD_EPERM, WEALD_EINVAL (`g` NULL), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_iwait_next(it: weald_handle, g: *mut weald_greenlet, deadline: i64) -> c_int {
    fence(|hub| {
        wanted(g)?;
        let it: &iwait::Iwait = crate::object::get(hub, it)?;
        let next = it.next(hub, Deadline::from_raw(deadline))?;
        if let Some(ended) = next {
            // SAFETY: not NULL, writable by the caller.
            unsafe { put(g, ended) };
        }
        Ok(next.is_some())
    })
}

/// Waits for the end of `g` and gets its value into `*value` (NULL: not wanted). If it failed,
/// returns the failure's code; weald_error tells that from a failure of the wait. May switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK (also for oneself), or the code that `g` failed
/// with.
#[unsafe(no_mangle)]
pub extern "C" fn weald_get(g: weald_greenlet, value: *mut *mut c_void, deadline: i64) -> c_int {
    quick(|hub| {
        let g = hub.greenlet(g)?;
        hub.retain(g);
        let joined = hub.join(g, Deadline::from_raw(deadline));
        let outcome = joined.and_then(|()| g.failure().map_or(Ok(g.value.get()), Err));
        hub.release(g);
        // SAFETY: NULL or writable, by the caller.
        outcome.map(|v| unsafe { put(value, v) })
    })
}

/// Marks the current greenlet as failed, with a negative code (another counts as WEALD_EINVAL) and
/// a message, which is copied (NULL, or not UTF-8: none), and returns NULL, so that a body ends
/// with `return weald_fail(WEALD_EPIPE, "peer gone");`. It does not end the greenlet by itself;
/// whatever its function returns is not its value any more. In a job of a thread pool it marks the
/// job; in main and in callbacks it does nothing. Never fails. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_fail(code: c_int, message: *const c_char) -> *mut c_void {
    // SAFETY: NULL or a C string, by the caller.
    let message = unsafe { text(message) }.ok().flatten();
    if !threadpool::fail_job(code, message) {
        fence(|hub| {
            hub.fail(code, message);
            Ok(())
        });
    }
    std::ptr::null_mut()
}

/// The message that `g` failed with; while it has not, what went wrong with the last call of it that
/// TLS or WebSocket failed; "" if there is none, for a bad handle, and for another thread's. Never
/// NULL; good until the handle is closed, weald_fail called again, or another such call fails. Does
/// not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_error_message(g: weald_greenlet) -> *const c_char {
    let find = || -> Option<*const c_char> {
        let g = Hub::existing()?.greenlet(g).ok()?;
        g.peek_extra(|x| x.message.as_ref().map(|m| m.as_ptr())).flatten()
    };
    find().unwrap_or(c"".as_ptr())
}

/// Kills `g`: its current and every later blocking call returns WEALD_ECANCELED, until it ends. One
/// that has not begun never will; its argument is destroyed. `reason` is kept (0: WEALD_ECANCELED).
/// With WEALD_NOW it is only marked; with any other deadline the call waits for its end, unless `g`
/// is the caller. May switch. Returns 0, also when it had ended before. Fails with WEALD_EBADF,
/// WEALD_EPERM (main; another thread's; a hook forbids to wait), WEALD_EINVAL (a positive reason),
/// WEALD_EWOULDBLOCK (in a callback that would wait); and, when it has been marked,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EDEADLK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_kill(g: weald_greenlet, reason: c_int, deadline: i64) -> c_int {
    fence(|hub| {
        let g = hub.greenlet(g)?;
        if reason > 0 {
            return Err(Error::INVAL);
        }
        if hub.is_main(g) {
            return Err(Error::PERM);
        }
        let deadline = Deadline::from_raw(deadline);
        let waits = !deadline.is_now() && !std::ptr::eq(g, hub.current());
        if waits && !g.is_done() {
            hub.may_park()?;
        }
        hub.kill(g, reason);
        if waits { hub.join(g, deadline) } else { Ok(()) }
    })
}

/// Kills all `n` greenlets, then waits for their ends as weald_kill does. May switch. Returns 0.
/// Fails, and kills none, with WEALD_EBADF, WEALD_EPERM (main; another thread's; a hook forbids to
/// wait), WEALD_EINVAL (`gs` NULL; a positive reason), WEALD_EWOULDBLOCK (in a callback that would
/// wait); and, when all have been marked, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EDEADLK,
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_killall(gs: *const weald_greenlet, n: usize, reason: c_int, deadline: i64) -> c_int {
    fence(|hub| {
        // SAFETY: the caller's array, which stays while this greenlet waits.
        let gs = unsafe { slice(gs, n) }?;
        if reason > 0 {
            return Err(Error::INVAL);
        }
        for &g in gs {
            let g = hub.greenlet(g)?;
            if hub.is_main(g) {
                return Err(Error::PERM);
            }
        }
        let deadline = Deadline::from_raw(deadline);
        let me = hub.current().handle.get();
        let others: Vec<i64> = gs.iter().copied().filter(|&g| g != me).collect();
        let goes_on = |&g: &i64| hub.greenlet(g).is_ok_and(|g| !g.is_done());
        if !deadline.is_now() && others.iter().any(goes_on) {
            hub.may_park()?;
        }
        gs.iter().filter_map(|&g| hub.greenlet(g).ok()).for_each(|g| hub.kill(g, reason));
        if deadline.is_now() {
            return Ok(());
        }
        iwait::joinall(hub, &others, 0, false, deadline).map(|_| ())
    })
}

/// Makes the current (or, if it is not blocked, the next) blocking call of `g` return `code`, once.
/// For bindings, which raise an exception of theirs there. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`code` not negative), WEALD_EALREADY (it has ended).
#[unsafe(no_mangle)]
pub extern "C" fn weald_interrupt(g: weald_greenlet, code: c_int) -> c_int {
    fence(|hub| {
        let g = hub.greenlet(g)?;
        if code >= 0 {
            return Err(Error::INVAL);
        }
        if g.is_done() {
            return Err(Error::ALREADY);
        }
        hub.interrupt(g, code);
        Ok(())
    })
}

/// The reason that `g` was killed with, a negative number; 0 if it was not. Does not switch. Fails
/// with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_kill_reason(g: weald_greenlet) -> c_int {
    fence(|hub| Ok(hub.greenlet(g)?.kill_reason.get()))
}

/// Holds back killing from the current greenlet (1), so that cleanup code may block; 0 takes one
/// level back, and a kill that came meanwhile works from then on. Does not switch. Returns 0. Fails
/// with WEALD_EINVAL (more taken back than given), WEALD_EWOULDBLOCK (in a callback: no greenlet).
#[unsafe(no_mangle)]
pub extern "C" fn weald_shield(on: c_int) -> c_int {
    fence(|hub| hub.shield(on != 0))
}

/// Whether the current greenlet has been killed and is not shielded. Does not switch. Returns 0 if
/// not. Fails with WEALD_ECANCELED if so.
#[unsafe(no_mangle)]
pub extern "C" fn weald_cancelled() -> c_int {
    fence(|hub| {
        let killed = hub.current().attention.get() & crate::greenlet::KILLED != 0;
        if killed { Err(Error::CANCELED) } else { Ok(()) }
    })
}

/// For weald_link: whatever the end.
pub const WEALD_LINK_ALWAYS: c_int = 0;
/// ... only when it ended with a value.
pub const WEALD_LINK_VALUE: c_int = 1;
/// ... only when it failed or was killed before it began.
pub const WEALD_LINK_ERROR: c_int = 2;

/// Has `f(g, arg)` run in the loop when `g` ends; in the next turn if it has ended. `when`:
/// WEALD_LINK_... Does not switch. Returns the link's number, above 0, for weald_unlink. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` NULL; no such `when`).
#[unsafe(no_mangle)]
pub extern "C" fn weald_link(g: weald_greenlet, f: weald_link_fn, arg: *mut c_void, when: c_int) -> i64 {
    fence64(|hub| {
        let g = hub.greenlet(g)?;
        let when = match when {
            WEALD_LINK_ALWAYS => LinkWhen::Always,
            WEALD_LINK_VALUE => LinkWhen::Value,
            WEALD_LINK_ERROR => LinkWhen::Error,
            _ => return Err(Error::INVAL),
        };
        let f: LinkFn = some(f)?;
        Ok(hub.link(g, f, arg, when))
    })
}

/// Takes a link back, also of one that has ended: its callback will not run. Does not switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ENOENT (no such link, or it has run).
#[unsafe(no_mangle)]
pub extern "C" fn weald_unlink(g: weald_greenlet, link: i64) -> c_int {
    fence(|hub| hub.unlink(hub.greenlet(g)?, link))
}

pub const WEALD_STATE_NEW: c_int = 0;
pub const WEALD_STATE_READY: c_int = 1;
pub const WEALD_STATE_RUNNING: c_int = 2;
pub const WEALD_STATE_PARKED: c_int = 3;
pub const WEALD_STATE_SWITCHED: c_int = 4;
pub const WEALD_STATE_DONE: c_int = 5;

/// What `g` does: WEALD_STATE_... Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_state(g: weald_greenlet) -> c_int {
    fence(|hub| Ok(hub.greenlet(g)?.state.get() as i32))
}

/// 1 when `g` has been started (and perhaps ended), else 0, also when it was killed before it
/// began. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_started(g: weald_greenlet) -> c_int {
    fence(|hub| {
        let g = hub.greenlet(g)?;
        Ok(if g.is_done() { g.started.get() } else { g.state.get() != State::New })
    })
}

/// 1 when `g` has ended, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_ready(g: weald_greenlet) -> c_int {
    fence(|hub| Ok(hub.greenlet(g)?.is_done()))
}

/// 1 when `g` has ended with a value, else 0. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_successful(g: weald_greenlet) -> c_int {
    fence(|hub| Ok(hub.greenlet(g)?.is_successful()))
}

/// Gets the value of a greenlet that has ended well, without waiting. Does not switch. Returns 0.
/// Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`value` NULL), WEALD_EAGAIN (not ended), or
/// the code that `g` failed with.
#[unsafe(no_mangle)]
pub extern "C" fn weald_value(g: weald_greenlet, value: *mut *mut c_void) -> c_int {
    fence(|hub| {
        let g = hub.greenlet(g)?;
        wanted(value)?;
        if !g.is_done() {
            return Err(Error::AGAIN);
        }
        let v = g.failure().map_or(Ok(g.value.get()), Err)?;
        // SAFETY: not NULL, writable by the caller.
        unsafe { put(value, v) };
        Ok(())
    })
}

/// The code that `g` failed with, 0 if it has not (yet); WEALD_ECANCELED when it was killed before
/// it began. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_error(g: weald_greenlet) -> c_int {
    fence(|hub| Ok(hub.greenlet(g)?.error.get()))
}

/// The greenlet that runs: borrowed, do not close it. 0 in a loop callback. Does not switch. Fails
/// with the hub's codes alone.
#[unsafe(no_mangle)]
pub extern "C" fn weald_self() -> weald_greenlet {
    quick64(|hub| Ok(hub.current().handle.get()))
}

/// The greenlet that spawned `g`, borrowed; 0 if it is gone, and for main. Of a coroutine: who it
/// returns to. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_parent(g: weald_greenlet) -> weald_greenlet {
    fence64(|hub| {
        let parent = hub.greenlet(g)?.parent.get();
        Ok(hub.greenlet(parent).map_or(0, |p| p.handle.get()))
    })
}

/// A small number for people, not used twice in one hub; main is 0. Does not switch. Fails with
/// WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_id(g: weald_greenlet) -> i64 {
    fence64(|hub| Ok(hub.greenlet(g)?.id.get()))
}

/// Names `g` for reports; copied, NULL takes the name away. Does not switch. Returns 0. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (not UTF-8).
#[unsafe(no_mangle)]
pub extern "C" fn weald_set_name(g: weald_greenlet, name: *const c_char) -> c_int {
    fence(|hub| {
        let g = hub.greenlet(g)?;
        // SAFETY: NULL or a C string, by the caller.
        let name = unsafe { text(name) }?;
        g.with_extra(|x| x.name = name.map(Into::into));
        Ok(())
    })
}

/// Writes the name of `g` to `buf` as snprintf would, cut to `len` bytes with a NUL, and returns
/// its whole length, 0 if it has none. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM,
/// WEALD_EINVAL (`buf` NULL and `len` not 0).
#[unsafe(no_mangle)]
pub extern "C" fn weald_name(g: weald_greenlet, buf: *mut c_char, len: usize) -> c_int {
    fence(|hub| {
        let name = hub.greenlet(g)?.name();
        // SAFETY: the caller's buffer of `len` bytes.
        let buf = unsafe { super::slice_mut(buf.cast::<u8>(), len) }?;
        if let Some(room) = buf.len().checked_sub(1) {
            let n = room.min(name.len());
            buf[..n].copy_from_slice(&name.as_bytes()[..n]);
            buf[n] = 0;
        }
        Ok(name.len())
    })
}

/// Where `g` was spawned: the return address of the call, for dladdr or addr2line. NULL for main,
/// for a bad handle, and for another thread's. Does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_spawn_site(g: weald_greenlet) -> *mut c_void {
    let site = Hub::existing().and_then(|hub| hub.greenlet(g).ok()).map_or(0, |g| g.site.get());
    site as *mut c_void
}

/// Sleeps for `ns` nanoseconds; 0 or less is one weald_yield, INT64_MAX sleeps until it is killed
/// or interrupted. May switch. Returns 0. Fails with WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding
/// weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (INT64_MAX), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_sleep(ns: i64) -> c_int {
    quick(|hub| if ns <= 0 { hub.yield_now() } else { hub.sleep_until(Deadline::after(ns)) })
}

/// Sleeps until `deadline`; one that has passed and WEALD_NOW are one weald_yield, WEALD_FOREVER
/// sleeps until it is killed or interrupted. May switch. Returns 0. Fails with WEALD_EPERM,
/// WEALD_ETIMEDOUT (of a surrounding weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (WEALD_FOREVER), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_sleep_until(deadline: i64) -> c_int {
    quick(|hub| hub.sleep_until(Deadline::from_raw(deadline)))
}

/// Lets everything run that is ready now, then goes on. May switch. Returns 0. Fails with
/// WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout), WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_yield() -> c_int {
    blocking!(yield_now)
}

extern "C" fn yield_now() -> c_int {
    match Hub::existing().and_then(Hub::yield_at_hand) {
        Some(yielded) => code(yielded),
        None => yield_by_waiting(),
    }
}

/// Jumped to, so that who suspends here suspends at the depth of the others: see `blocking`.
#[inline(never)]
extern "C" fn yield_by_waiting() -> c_int {
    quick(|hub| hub.yield_now())
}

/// Goes on when nothing else is ready; among those who wait so, a higher priority first. May
/// switch. Returns 0. Fails with WEALD_EPERM, WEALD_ETIMEDOUT (of a surrounding weald_timeout),
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_idle(priority: c_int) -> c_int {
    quick(|hub| hub.idle(priority))
}
