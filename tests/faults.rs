//! Every fallible call of the runtime made to fail in its turn, for a list of things that a program does.
//!
//! ```text
//! prepare --> count --> fail_at(n) --> act --> disarm
//!                                       |
//!                        it failed -----+---- it did not: n was met and survived, or never reached (the end)
//!                            |
//!               counts as before; act again must succeed
//! ```
//! n counts up until `act` meets no fault any more. Each try has a thread and so a hub of its own; the counter of
//! `sys::fault` is the process's, so tests take turns.
#![cfg(feature = "fault-injection")]

use std::ffi::{c_int, c_void};
use std::fs;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use weald::ffi::base::*;
use weald::ffi::coro::*;
use weald::ffi::event::*;
use weald::ffi::greenlet::*;
use weald::ffi::group::*;
use weald::ffi::hub::*;
use weald::ffi::insight::*;
use weald::ffi::io::*;
use weald::ffi::queue::*;
use weald::ffi::result::*;
use weald::ffi::signal::*;
use weald::ffi::threadpool::*;
use weald::ffi::timeout::*;
use weald::ffi::wait::*;
use weald::ffi::watcher::*;
use weald::sys::fault;

/// What a scenario has made: handles, descriptors, process ids.
type World = Vec<i64>;

struct Operation {
    /// Not counted: what `act` needs. `None`: not even a hub, which `act` makes.
    prepare: Option<fn() -> World>,
    /// The call, or calls that clean up after themselves when one fails. Not negative: it succeeded.
    act: fn(&mut World) -> i64,
    /// More that a failure must leave as it was.
    state: fn(&World) -> World,
    /// Uses and releases what `act` has made, `made` being what it returned, and what `prepare` has.
    undo: fn(&World, made: i64),
    /// How many calls in it can fail at least: an operation that meets no fault would prove nothing.
    faults: i64,
}

fn nothing(_: &World) -> World {
    Vec::new()
}

fn close_made(_: &World, made: i64) {
    assert_eq!(weald_close(made), 0);
}

fn a_hub() -> World {
    assert!(weald_self() > 0);
    Vec::new()
}

const PLAIN: Operation = Operation { prepare: Some(a_hub), act: |_| 0, state: nothing, undo: |_, _| {}, faults: 1 };

// ---- the try ----------------------------------------------------------------------

fn entries(path: &str) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

/// What a failed call must not change. The two of the process come first.
fn counts() -> Vec<u64> {
    let mut s = weald_stats { size: size_of::<weald_stats>(), ..weald_stats::default() };
    assert_eq!(weald_stats_get(&mut s), 0);
    vec![process(), s.handles, s.alive, s.spawned - s.finished, s.ready, s.timers, s.descriptors].concat_fix()
}

/// Descriptors and threads of this process.
fn process() -> [u64; 2] {
    [entries("/proc/self/fd") as u64, entries("/proc/self/task") as u64]
}
