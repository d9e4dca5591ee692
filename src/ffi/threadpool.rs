//! Threads.
//!
//! Two ways to use more than one thread. A thread pool runs functions that block while the
//! greenlets of this thread go on; its jobs run outside any greenlet. Workers are threads with a
//! hub each, to which greenlets are sent. Both kinds of object may be used from any thread, take no
//! signals in their threads, and are empty in a forked child, which starts threads of its own when
//! it needs them.

#![allow(non_camel_case_types)]

use super::greenlet::{jump_with_site, weald_destroy_fn, weald_fn};
use super::result::weald_result;
use super::{fence, fence_any, put, some};
use crate::error::{Error, Result};
use crate::registry;
use crate::threadpool::{self, ThreadPool};
use crate::time::Deadline;
use crate::workers::Workers;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// A handle to a thread pool.
pub type weald_threadpool = i64;
/// A handle to a set of workers.
pub type weald_workers = i64;

/// Calls `with` with a pool; 0 is the one that everybody shares.
fn with_pool<R>(pool: i64, with: impl FnOnce(&ThreadPool) -> Result<R>) -> Result<R> {
    if pool == 0 {
        return with(threadpool::default());
    }
    let pool = registry::shared::<ThreadPool>(pool)?;
    with(&pool)
}

fn workers(handle: i64) -> Result<Arc<Workers>> {
    registry::shared::<Workers>(handle)
}

/// Makes a pool of at most `max_threads` threads; 0: as many as the machine has cores, and four.
/// They start when they are needed and end when they have been idle for ten seconds. When no more
/// threads are to be had it works with those it has. Close it: then the jobs it has been given are
/// done, its threads end, and nobody waits for that; weald_threadpool_shutdown does. From any
/// thread; does not switch. Fails with WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_threadpool_new(max_threads: usize) -> weald_threadpool {
    fence_any(|| registry::share(Arc::new(ThreadPool::new(max_threads))))
}

/// Runs `f(arg)` in a thread of `pool` (0: a pool of the library's, for everybody) while the
/// current greenlet waits; what it returned is in `*value` (NULL: not wanted). In the job every
/// function of the library may be called, for the hub of that thread; `return weald_fail(code,
/// message)` makes this call return that code.
///
/// At the deadline, when the greenlet is killed, or when the wait is interrupted, the call returns
/// at once. A job that has not begun by then never will. One that runs goes on, and what it returns
/// is forgotten: `arg` must stay good until it has ended, and must not lie on the stack of a
/// greenlet that may be killed (or raise a weald_shield). A job must not wait for another one of
/// the same pool: all threads may come to wait so.
///
/// May switch. Returns 0. Fails with WEALD_EBADF, WEALD_EINVAL (`f` NULL), WEALD_EPIPE (the pool
/// has been shut down), WEALD_EPANIC (a panic in a job written in Rust; the error handler is told),
/// WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no thread to be had: the job will not run),
/// WEALD_ETIMEDOUT, WEALD_ECANCELED (also when the pool was shut down before the job began),
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked meanwhile),
/// WEALD_ENOMEM, or the code that the job failed with.
#[unsafe(no_mangle)]
pub extern "C" fn weald_offload(
    pool: weald_threadpool,
    f: weald_fn,
    arg: *mut c_void,
    value: *mut *mut c_void,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        let deadline = Deadline::from_raw(deadline);
        let got = with_pool(pool, |pool| pool.offload_call(hub, some(f)?, arg, deadline))?;
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(value, got) };
        Ok(())
    })
}

/// Has `f(arg)` run in a thread of `pool` (0: as above) and does not wait: returns a shared result,
/// which gets what `f` returned, or its failure. `destroy` (NULL: none) gets the value when the
/// result is closed. Close the result, at any time: the job runs all the same. `arg` must stay good
/// until it has. From any thread; does not switch. Fails with WEALD_EBADF, WEALD_EINVAL (`f` NULL),
/// WEALD_EAGAIN (there is no thread to be had), WEALD_EPIPE (shut down), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_threadpool_submit(
    pool: weald_threadpool,
    f: weald_fn,
    arg: *mut c_void,
    destroy: weald_destroy_fn,
) -> weald_result {
    fence_any(|| with_pool(pool, |pool| pool.submit(some(f)?, arg, destroy)))
}

/// Takes back a job that weald_threadpool_submit has given to `pool` (0: as above) and that has not
/// begun: it will not run, and its result fails with WEALD_ECANCELED. Takes longer the more jobs
/// wait. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EALREADY (it
/// runs or has run, or was never this pool's).
#[unsafe(no_mangle)]
pub extern "C" fn weald_threadpool_cancel(pool: weald_threadpool, result: weald_result) -> c_int {
    fence_any(|| with_pool(pool, |pool| pool.cancel(result))) as c_int
}

/// How many threads `pool` (0: as above) has now. From any thread; does not switch. Fails with
/// WEALD_EBADF.
#[unsafe(no_mangle)]
pub extern "C" fn weald_threadpool_size(pool: weald_threadpool) -> i64 {
    fence_any(|| with_pool(pool, |pool| Ok(pool.size())))
}

/// Sets how long a thread of `pool` waits for the next job before it ends; WEALD_FOREVER: it does
/// not. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF (also for 0: the
/// library's own stays as it is), WEALD_EINVAL (another negative time).
#[unsafe(no_mangle)]
pub extern "C" fn weald_threadpool_set_idle(pool: weald_threadpool, ns: i64) -> c_int {
    fence_any(|| {
        let pool = registry::shared::<ThreadPool>(pool)?;
        if ns < -1 {
            return Err(Error::INVAL);
        }
        pool.set_idle(if ns == -1 { i64::MAX } else { ns });
        Ok(())
    }) as c_int
}

/// Shuts `pool` down: it takes no more jobs; those that have not begun never will, and whoever
/// waits for one gets WEALD_ECANCELED; then waits for those that run, and for the end of the
/// threads. Called again it goes on waiting. Close the pool afterwards. From any thread; may
/// switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile, and for 0: the
/// library's own goes on), WEALD_EDEADLK (in a job of this pool; in a child that a callback has
/// forked meanwhile), WEALD_EPERM, WEALD_EWOULDBLOCK; and, while jobs still run, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_threadpool_shutdown(pool: weald_threadpool, deadline: i64) -> c_int {
    fence(|hub| registry::shared::<ThreadPool>(pool)?.shutdown(hub, pool, Deadline::from_raw(deadline)))
}

/// Starts `n` threads with a hub each; 0: as many as the machine has cores. They run the greenlets
/// that are sent to them, and sleep without any, until they are joined or closed. All of them start
/// or none; the call waits until they have. Close it: without a join before, the workers end when
/// their greenlets have, and nobody waits for that. From any thread; does not switch. Fails with
/// WEALD_EINVAL (1024 or more), WEALD_EAGAIN (no thread to be had), WEALD_ENOMEM (also for more
/// hubs than there may be), WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_workers_start(n: usize) -> weald_workers {
    fence_any(|| Workers::start(n))
}

extern "C" fn spawn_on(w: weald_workers, index: usize, f: weald_fn, arg: *mut c_void, site: usize) -> c_int {
    fence_any(|| workers(w)?.spawn(index, some(f)?, arg, site)) as c_int
}

/// Starts a greenlet that runs `f(arg)` in worker number `index`; SIZE_MAX: in the one after the
/// last that was given one. What is sent to one worker starts in the order in which it was sent.
/// There is no handle to it: shared results, events and queues tell what becomes of it; a failure
/// is told to the worker's error handler, and so is one to make it. Nothing holds the sender back:
/// a bounded queue does. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EINVAL (`f` NULL; no such worker), WEALD_EPIPE (they have been joined, or this is a forked
/// child).
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn weald_workers_spawn(w: weald_workers, index: usize, f: weald_fn, arg: *mut c_void) -> c_int {
    jump_with_site!(4, spawn_on)
}

/// Has every worker end when its greenlets have (and what else keeps a weald_run going), and waits
/// until all of them and their threads have ended. No greenlets can be sent to them any more, even
/// if the wait fails. Called again it goes on waiting. A worker whose greenlets can not go on
/// reports a deadlock and ends. From any thread; may switch. Returns 0. Fails with WEALD_EBADF
/// (also when it is closed meanwhile), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_EDEADLK (in one of these workers; in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_workers_join(w: weald_workers, deadline: i64) -> c_int {
    fence(|hub| workers(w)?.join(hub, w, Deadline::from_raw(deadline)))
}

/// How many of the workers have not ended: all until they are joined, 0 in a forked child. From any
/// thread; does not switch. Fails with WEALD_EBADF.
#[unsafe(no_mangle)]
pub extern "C" fn weald_workers_count(w: weald_workers) -> i64 {
    fence_any(|| Ok(workers(w)?.count()))
}
