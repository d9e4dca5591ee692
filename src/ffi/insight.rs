//! Insight, and hooks for bindings.

#![allow(non_camel_case_types)]

use super::greenlet::weald_greenlet;
use super::{fence, fence64, options, put, quick64, slice_mut, wanted};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::hub::Hub;
use crate::sys;
use std::ffi::{c_int, c_void};

/// Writes to `fd`, for every greenlet of this thread: its name, age, state, what it waits for and
/// how long, where it was spawned, how much of its stack it has touched. Does not switch. Returns
/// 0. Fails with WEALD_EBADF, WEALD_EAGAIN, WEALD_EPIPE, or whatever else write(2) fails with.
#[unsafe(no_mangle)]
pub extern "C" fn weald_dump(fd: c_int) -> c_int {
    fence(|hub| sys::descriptor::write_text(fd, &hub.dump()))
}

/// Counters of this thread's hub.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_stats {
    /// sizeof(weald_stats)
    pub size: usize,
    /// Greenlets made, and ended, so far.
    pub spawned: u64,
    pub finished: u64,
    /// Greenlets that have started and not ended.
    pub alive: u64,
    /// Greenlets ready to run.
    pub ready: u64,
    /// About how many times greenlets were resumed: brought up to date once a turn.
    pub resumes: u64,
    /// Turns of the loop, and times that it asked the kernel for events.
    pub turns: u64,
    pub polls: u64,
    /// Timers set, and descriptors waited for.
    pub timers: u64,
    pub descriptors: u64,
    /// Open handles.
    pub handles: u64,
    /// Address space taken for stacks.
    pub stack_bytes: u64,
}

impl Default for weald_stats {
    fn default() -> Self {
        // SAFETY: all fields may be zero.
        unsafe { std::mem::zeroed() }
    }
}

/// Fills in the counters; set `stats->size` first. Does not switch. Returns 0. Fails with
/// WEALD_EINVAL (NULL, or a size that can not be).
#[unsafe(no_mangle)]
pub extern "C" fn weald_stats_get(stats: *mut weald_stats) -> c_int {
    fence(|hub| {
        wanted(stats)?;
        // SAFETY: not NULL; the caller's struct, with its size first.
        let size = unsafe { options(stats.cast_const()) }?.size;
        let s = &hub.stats;
        let now = weald_stats {
            size,
            spawned: hub.spawned(),
            finished: s.finished.get(),
            alive: hub.alive.get() as u64,
            ready: hub.ready.len() as u64,
            resumes: s.resumes.get(),
            turns: s.turns.get(),
            polls: s.polls.get(),
            timers: hub.timers.len() as u64,
            descriptors: hub.poller().linked() as u64,
            handles: hub.table.live() as u64,
            stack_bytes: hub.stacks.mapped() as u64,
        };
        let known = size.min(size_of::<weald_stats>());
        // SAFETY: the caller's struct has `size` bytes, of which we write what both know.
        unsafe { std::ptr::copy_nonoverlapping((&raw const now).cast::<u8>(), stats.cast::<u8>(), known) };
        Ok(())
    })
}

/// Writes the handles of this thread's greenlets (main first) to `out`, at most `n`, and returns
/// how many there are; they are borrowed. One that has ended is among them while its handle is open. Does not switch. Fails with WEALD_EINVAL (`out` NULL and
/// `n` not 0).
#[unsafe(no_mangle)]
pub extern "C" fn weald_list(out: *mut weald_greenlet, n: usize) -> i64 {
    fence64(|hub| {
        // SAFETY: the caller's array.
        let out = unsafe { slice_mut(out, n) }?;
        let all: Vec<i64> =
            std::iter::once(hub.main.handle.get()).chain(hub.greenlets().into_iter().map(|g| g.handle.get())).collect();
        let m = all.len().min(n);
        out[..m].copy_from_slice(&all[..m]);
        Ok(all.len())
    })
}

/// Gets the bounds of the stack of `g`, for conservative collectors: `*low` up to, not including,
/// `*high`. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (NULL),
/// WEALD_ENOENT (main, or it has no stack now: not begun, or ended).
#[unsafe(no_mangle)]
pub extern "C" fn weald_stack_bounds(g: weald_greenlet, low: *mut *mut c_void, high: *mut *mut c_void) -> c_int {
    fence(|hub| {
        let g = hub.greenlet(g)?;
        wanted(low)?;
        wanted(high)?;
        let (from, to) = hub.stack_bounds(g).ok_or(Error::NOENT)?;
        // SAFETY: not NULL, writable by the caller.
        unsafe {
            put(low, from as *mut c_void);
            put(high, to as *mut c_void);
        }
        Ok(())
    })
}

/// How many bytes of its stack `g` (or an earlier user of the same stack) has touched: a high-water
/// mark in pages. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ENOENT (main, or it
/// has no stack now: not begun, or ended).
#[unsafe(no_mangle)]
pub extern "C" fn weald_stack_used(g: weald_greenlet) -> i64 {
    fence64(|hub| {
        let (low, high) = hub.stack_bounds(hub.greenlet(g)?).ok_or(Error::NOENT)?;
        Ok(sys::resident_top(low, high, hub.stacks.page()))
    })
}

/// Gets the memory above the frames of the running greenlet's stack, which nobody uses: the frames of
/// each begin at another place of the stack's last page. What is above them is the caller's until the
/// greenlet ends. `*at` (NULL if there is none) is a multiple of 16. Does not switch. Returns how many
/// bytes there are, up to 1920; main has none. Fails with WEALD_EINVAL (NULL).
#[unsafe(no_mangle)]
pub extern "C" fn weald_stack_spare(at: *mut *mut c_void) -> i64 {
    quick64(|hub| {
        wanted(at)?;
        let (from, to) = hub.stack_spare(hub.current()).filter(|(from, to)| from < to).unwrap_or_default();
        // SAFETY: not NULL, writable by the caller.
        unsafe { put(at, from as *mut c_void) };
        Ok(to - from)
    })
}

/// Called with a greenlet and its user word (see weald_user). It must not use the library but to
/// look things up.
pub type weald_switch_hook = Option<extern "C-unwind" fn(g: weald_greenlet, user: *mut c_void)>;

/// Hooks for a binding that must save its interpreter's state. Every one may be NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_hooks {
    /// sizeof(weald_hooks)
    pub size: usize,
    /// On its own stack, just before it suspends, and at its end. Main's as well.
    pub leave: weald_switch_hook,
    /// On its own stack, after each resume and before it begins. Main's as well.
    pub enter: weald_switch_hook,
    /// When it has been made, before the call that makes it returns. The user word is that of the
    /// options; NULL without options.
    pub created: weald_switch_hook,
    /// When it has ended, not on its own stack: in the loop, or, if it had not begun, in the call
    /// that ended it. Greenlets that the end of a hub abandons do not finish.
    pub finished: weald_switch_hook,
    /// Asked before each wait; 0 forbids it: the call fails with WEALD_EPERM. It must not use the
    /// library but to look things up.
    pub may_park: Option<extern "C-unwind" fn() -> c_int>,
    /// Around the loop's sleep in the kernel; `interrupted` is 1 when a signal ended it. Like the
    /// loop's callbacks they must not block.
    pub block_begin: Option<extern "C-unwind" fn()>,
    pub block_end: Option<extern "C-unwind" fn(interrupted: c_int)>,
}

impl Default for weald_hooks {
    fn default() -> Self {
        // SAFETY: all fields may be zero: a hook that is not there.
        unsafe { std::mem::zeroed() }
    }
}

/// Sets this thread's hooks; copied. NULL takes them away. Does not switch. Returns 0. Fails with
/// WEALD_EINVAL (a size that can not be).
#[unsafe(no_mangle)]
pub extern "C" fn weald_set_hooks(hooks: *const weald_hooks) -> c_int {
    fence(|hub| {
        if hooks.is_null() {
            hub.set_hooks(None);
            return Ok(());
        }
        // SAFETY: not NULL; the caller's struct, with its size first.
        let h = unsafe { options(hooks) }?;
        hub.set_hooks(Some(Hooks {
            leave: h.leave,
            enter: h.enter,
            created: h.created,
            finished: h.finished,
            may_park: h.may_park,
            block_begin: h.block_begin,
            block_end: h.block_end,
        }));
        Ok(())
    })
}

/// The user word of `g`; NULL if none was set, for a bad handle, and for another thread's. Does not
/// switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_user(g: weald_greenlet) -> *mut c_void {
    let g = Hub::existing().and_then(|hub| hub.greenlet(g).ok());
    g.map_or(std::ptr::null_mut(), |g| g.user.get())
}

/// Sets the user word of `g`, which hooks get. Does not switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_set_user(g: weald_greenlet, user: *mut c_void) -> c_int {
    fence(|hub| {
        hub.greenlet(g)?.set_user(user);
        Ok(())
    })
}
