//! Groups and pools.
//!
//! A group holds greenlets that are joined and killed together; a member leaves when it ends. A
//! pool is a group of a certain size: spawning waits while it is full.

#![allow(non_camel_case_types)]

use super::base::weald_handle;
use super::greenlet::{jump_with_site, weald_fn, weald_greenlet};
use super::result::weald_result;
use super::{fence, fence64, put, slice, slice_mut, some, wanted};
use crate::error::{Error, Result};
use crate::greenlet::Body;
use crate::group::Group;
use crate::hub::Hub;
use crate::life::Options;
use crate::map::{self, Items, MapFn, NextFn, Results, Source};
use crate::object;
use crate::time::Deadline;
use std::ffi::{c_int, c_void};

/// A handle to a group or a pool.
pub type weald_group = i64;

fn group(hub: &Hub, g: i64) -> Result<&Group> {
    object::get(hub, g)
}

/// Makes a group. Close it; its members live on. Does not switch. Fails with WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_new() -> weald_group {
    fence64(|hub| Group::create(hub, None))
}

/// Makes a pool of `size`: a group of at most so many. Close it. Does not switch. Fails with
/// WEALD_EINVAL (0), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_pool_new(size: usize) -> weald_group {
    fence64(|hub| Group::create(hub, Some(size)))
}

/// Adds a greenlet; one that has ended is not added, which is no error. A full pool makes it wait.
/// May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM,
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_add(grp: weald_group, g: weald_greenlet, deadline: i64) -> c_int {
    fence(|hub| group(hub, grp)?.add(hub, g, Deadline::from_raw(deadline)))
}

/// Lets a greenlet leave the group; it runs on. One that is no member is no error. Does not switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_discard(grp: weald_group, g: weald_greenlet) -> c_int {
    fence(|hub| group(hub, grp)?.discard(hub, g))
}

fn spawn_in(grp: i64, f: weald_fn, arg: *mut c_void, site: usize, deadline: Deadline) -> i64 {
    fence64(|hub| {
        let how = Options { site, ..Options::default() };
        group(hub, grp)?.spawn(hub, Body::Greenlet(some(f)?), arg, &how, true, deadline)
    })
}

extern "C" fn group_spawn(grp: i64, f: weald_fn, arg: *mut c_void, site: usize) -> i64 {
    spawn_in(grp, f, arg, site, Deadline::NEVER)
}

extern "C" fn try_spawn(grp: i64, f: weald_fn, arg: *mut c_void, site: usize) -> i64 {
    spawn_in(grp, f, arg, site, Deadline::NOW)
}

/// Spawns a member that runs `f(arg)`; a full pool makes it wait. Close the handle. May switch.
/// Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EINVAL (`f` NULL),
/// WEALD_ETIMEDOUT (of a surrounding weald_timeout), WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_group_spawn(grp: weald_group, f: weald_fn, arg: *mut c_void) -> weald_greenlet {
    jump_with_site!(3, group_spawn)
}

/// As weald_group_spawn, but it does not wait for room. Close the handle. Does not switch. Fails
/// with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` NULL), WEALD_EAGAIN (the pool is full),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_pool_try_spawn(pool: weald_group, f: weald_fn, arg: *mut c_void) -> weald_greenlet {
    jump_with_site!(3, try_spawn)
}

/// Waits until no member is left. May switch. Returns 0. Fails with WEALD_EBADF (also when it is
/// closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK (also when the caller is a member).
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_join(grp: weald_group, deadline: i64) -> c_int {
    fence(|hub| group(hub, grp)?.join(hub, Deadline::from_raw(deadline)))
}

/// Kills every member but the caller, and waits for their ends unless at WEALD_NOW. May switch.
/// Returns 0. Fails, and kills none, with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (a positive
/// reason), WEALD_EWOULDBLOCK (in a callback that would wait); and, when all have been marked,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EDEADLK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_kill(grp: weald_group, reason: c_int, deadline: i64) -> c_int {
    fence(|hub| {
        let group = group(hub, grp)?;
        if reason > 0 {
            return Err(Error::INVAL);
        }
        group.kill(hub, reason, Deadline::from_raw(deadline))
    })
}

/// How many members there are. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_len(grp: weald_group) -> i64 {
    fence64(|hub| Ok(group(hub, grp)?.len()))
}

/// 1 when `g` is a member, else 0. Does not switch. Fails with WEALD_EBADF (either handle),
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_contains(grp: weald_group, g: weald_greenlet) -> c_int {
    fence(|hub| {
        let group = group(hub, grp)?;
        Ok(group.contains(hub.greenlet(g)?.handle.get()))
    })
}

/// How many more members fit; INT64_MAX in a group. Does not switch. Fails with WEALD_EBADF,
/// WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_pool_free_count(pool: weald_group) -> i64 {
    fence64(|hub| Ok(group(hub, pool)?.free_count()))
}

/// Waits until a spawn would not wait. May switch. Returns 0. Fails with WEALD_EBADF (also when it
/// is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK.
#[unsafe(no_mangle)]
pub extern "C" fn weald_pool_wait_available(pool: weald_group, deadline: i64) -> c_int {
    fence(|hub| group(hub, pool)?.wait_available(hub, Deadline::from_raw(deadline)))
}

/// Works on one item: puts a result in `*out` and returns 0 or more, or returns a negative code.
/// Runs in a greenlet.
pub type weald_map_fn =
    Option<extern "C-unwind" fn(item: *mut c_void, out: *mut *mut c_void, user: *mut c_void) -> c_int>;
/// Gives the next item: 1 and `*item`, 0 at the end, or a negative code, which ends it as well.
/// Runs in a greenlet and may block.
pub type weald_next_fn = Option<extern "C-unwind" fn(item: *mut *mut c_void, source: *mut c_void) -> c_int>;

/// Works on `n` items in greenlets of the group and waits for all. `outs` gets the results in the
/// order of the items (NULL for those that failed), `codes` (NULL: not wanted) 0 or each one's
/// failure; one that fails does not stop the others. When the wait itself fails nothing is written,
/// and greenlets may go on. May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM,
/// WEALD_EINVAL (`f`, `items` or `outs` NULL), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK, or the first failure's code in the order of
/// items.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_map(
    grp: weald_group,
    f: weald_map_fn,
    user: *mut c_void,
    items: *const *mut c_void,
    n: usize,
    outs: *mut *mut c_void,
    codes: *mut c_int,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        let group = group(hub, grp)?;
        let f: MapFn = some(f)?;
        // SAFETY: the caller's arrays of `n`, which stay while this greenlet waits.
        let items = unsafe { slice(items, n) }?;
        // SAFETY: as above; results are wanted.
        let outs = unsafe { slice_mut(outs, n) }?;
        let ones = map::map(hub, group, f, user, items, Deadline::from_raw(deadline))?;
        let mut first = 0;
        for (i, one) in ones.iter().enumerate().take(n) {
            let code = one.err().unwrap_or(0);
            outs[i] = one.unwrap_or(0) as *mut c_void;
            if !codes.is_null() {
                // SAFETY: the caller's array of `n`.
                unsafe { codes.add(i).write(code) };
            }
            if first == 0 {
                first = code;
            }
        }
        if first < 0 { Err(Error::from_code(first)) } else { Ok(()) }
    })
}

fn imap(
    grp: i64,
    f: weald_map_fn,
    user: *mut c_void,
    source: (weald_next_fn, *mut c_void),
    maxsize: usize,
    ordered: bool,
) -> i64 {
    fence64(|hub| {
        let group = group(hub, grp)?;
        let next: NextFn = some(source.0)?;
        let source = Source { items: Items::From(next, source.1), map: some(f)?, user };
        Results::create(hub, group, source, maxsize, ordered)
    })
}

/// Works on the items that `next(&item, source)` gives, in greenlets of the group, and returns an
/// iterator over the results in the order of the items. At most `maxsize` items are under way or
/// unread (0: no bound). `source` must stay until the iterator has ended or is closed and the loop
/// has run. Close it. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` or
/// `next` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_imap(
    grp: weald_group,
    f: weald_map_fn,
    user: *mut c_void,
    next: weald_next_fn,
    source: *mut c_void,
    maxsize: usize,
) -> weald_handle {
    imap(grp, f, user, (next, source), maxsize, true)
}

/// As weald_group_imap, but the results come in the order in which they are done. Close it. Does
/// not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` or `next` NULL),
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_imap_unordered(
    grp: weald_group,
    f: weald_map_fn,
    user: *mut c_void,
    next: weald_next_fn,
    source: *mut c_void,
    maxsize: usize,
) -> weald_handle {
    imap(grp, f, user, (next, source), maxsize, false)
}

/// Waits for the next result: 1 and `*out`; 0 at the end; or a negative code: that item's failure,
/// in `*item_code` (NULL: not wanted) as well, so that it can be told from a failure of the wait:
/// that leaves it as it is, so set it to 0 before each call. Go on calling after an item's failure.
/// May switch. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EPERM, WEALD_EINVAL
/// (`out` NULL), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM,
/// WEALD_EDEADLK, or the item's failure.
#[unsafe(no_mangle)]
pub extern "C" fn weald_imap_next(
    it: weald_handle,
    out: *mut *mut c_void,
    item_code: *mut c_int,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        wanted(out)?;
        let results: &Results = object::get(hub, it)?;
        let one = results.next(hub, Deadline::from_raw(deadline))?;
        let code = one.and_then(|o| o.err()).unwrap_or(0);
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(item_code, code) };
        match one {
            None => Ok(0),
            Some(Ok(value)) => {
                // SAFETY: not NULL, writable by the caller.
                unsafe { put(out, value as *mut c_void) };
                Ok(1)
            }
            Some(Err(code)) => Err(Error::from_code(code)),
        }
    })
}

/// Works on one item in a greenlet of the group and waits for its result in `*out` (NULL: not
/// wanted). May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`f` NULL),
/// WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM, WEALD_EDEADLK,
/// or the item's failure.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_apply(
    grp: weald_group,
    f: weald_map_fn,
    user: *mut c_void,
    item: *mut c_void,
    out: *mut *mut c_void,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        let ones = map::map(hub, group(hub, grp)?, some(f)?, user, &[item], Deadline::from_raw(deadline))?;
        match ones.first() {
            Some(Ok(value)) => {
                // SAFETY: NULL or writable, by the caller.
                unsafe { put(out, *value as *mut c_void) };
                Ok(())
            }
            Some(Err(code)) => Err(Error::from_code(*code)),
            None => Err(Error::CANCELED),
        }
    })
}

/// Works on one item in a greenlet of the group, and returns a result that will be set. Never waits
/// for room itself. Close it. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL
/// (`f` NULL), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_group_apply_async(
    grp: weald_group,
    f: weald_map_fn,
    user: *mut c_void,
    item: *mut c_void,
) -> weald_result {
    fence64(|hub| map::apply_async(hub, group(hub, grp)?, some(f)?, user, item))
}
