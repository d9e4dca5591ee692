//! A hub per core: threads that run a hub each, fed with greenlets from any thread.
//!
//! ```text
//! start --> holds its hub open --> spawn, spawn, ... --> join or close: lets go
//!                                                           |
//!           told when all have <-- ends when its greenlets have
//! ```
//!
//! The hold is what keeps an idle worker from ending, and from taking the wait for the
//! next spawn for a deadlock. Spawns and the order to let go reach the worker in the
//! order in which they were given, so every spawn that succeeded runs.

use crate::error::{Error, Result};
use crate::greenlet::Body;
use crate::handle::{Kind, MAX_HUBS, Object};
use crate::hub::Hub;
use crate::registry::{self, Remote, SharedObject};
use crate::sync::shared::SharedEvent;
use crate::threadpool::JobFn;
use crate::time::Deadline;
use crate::{fork, sys};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

pub struct Workers {
    /// `fork::generation()` when they were started.
    generation: u64,
    hubs: Vec<Arc<Remote>>,
    state: Mutex<State>,
    end: Arc<End>,
}

struct State {
    /// Whose turn it is when the caller does not mind.
    next: usize,
    /// Told to let go: no more spawns.
    ending: bool,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads themselves know of.
struct End {
    generation: u64,
    left: AtomicUsize,
    ended: SharedEvent,
}

/// Leaves when dropped, so that a worker that panics (our defect) is not waited for.
struct Leaving(Arc<End>);

impl Drop for Leaving {
    fn drop(&mut self) {
        // In the child of a fork the others are the parent's, and so may the lock be.
        if self.0.generation == fork::generation() && self.0.left.fetch_sub(1, SeqCst) == 1 {
            self.0.ended.set();
        }
    }
}

/// An argument on its way to the worker.
struct Carried(*mut c_void);
// SAFETY: the user gives it away for the other thread to use.
unsafe impl Send for Carried {}

// SAFETY: `close` drops the Arc that `registry::share` stored.
unsafe impl Object for Workers {
    const KIND: Kind = Kind::Workers;
    unsafe fn close(this: *const Self) {
        // SAFETY: stored by `registry::share`.
        unsafe { Arc::from_raw(this) }.closed();
    }
}
// SAFETY: as above.
unsafe impl SharedObject for Workers {}

/// Where workers report that they have started. No channel: its blocking receive makes
/// std's record of the calling thread, which for a program's main thread is never freed.
struct Starting {
    state: Mutex<Reports>,
    one_came: Condvar,
}

struct Reports {
    /// By number: how to reach the worker's hub, or why there is none.
    hubs: BTreeMap<usize, Result<Arc<Remote>>>,
    missing: usize,
}

impl Starting {
    fn new(n: usize) -> Arc<Starting> {
        let state = Mutex::new(Reports { hubs: BTreeMap::new(), missing: n });
        Arc::new(Starting { state, one_came: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, Reports> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// All reports, of those that could be made.
    fn wait(&self) -> BTreeMap<usize, Result<Arc<Remote>>> {
        let mut state = self.state();
        while state.missing > 0 {
            state = self.one_came.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        std::mem::take(&mut state.hubs)
    }
}

/// One worker's report; dropped without one where there is no thread to be had.
struct Reporter(Arc<Starting>);

impl Reporter {
    fn report(self, number: usize, hub: Result<Arc<Remote>>) {
        self.0.state().hubs.insert(number, hub);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.0.state().missing -= 1;
        self.0.one_came.notify_one();
    }
}

/// The life of a worker's thread.
fn work(number: usize, reporter: Reporter, _leaving: Leaving) {
    let hub = Hub::get();
    if let Ok(hub) = hub {
        hub.hold();
    }
    reporter.report(number, hub.map(|hub| hub.remote.clone()));
    let Ok(hub) = hub else { return };
    // It returns early for a weald_stop, which has no meaning here.
    while hub.run(Deadline::NEVER.ns()).is_ok() && (hub.alive.get() > 0 || !hub.nothing_left()) {}
    let _ = hub.shutdown();
}

fn let_go() {
    if let Some(hub) = Hub::existing() {
        hub.unhold();
    }
}

/// In the worker: what `Workers::spawn` has sent.
fn start_greenlet(f: JobFn, arg: Carried, site: usize) {
    let Some(hub) = Hub::existing() else { return };
    match hub.spawn(Body::Greenlet(f), arg.0, site) {
        Ok(g) => hub.let_go(g), // it has no handle
        Err(e) => hub.report_failure(0, e, "a greenlet spawned from another thread could not be made"),
    }
}

impl Workers {
    /// Starts `n` of them (0: one a core); all or none. EINVAL, EAGAIN (no thread to be
    /// had), and what making a hub can fail with.
    pub fn start(n: usize) -> Result<i64> {
        let n = if n == 0 { sys::cores() } else { n };
        if n >= MAX_HUBS {
            return Err(Error::INVAL);
        }
        Hub::watch_forks();
        let generation = fork::generation();
        let end = Arc::new(End { generation, left: AtomicUsize::new(n), ended: SharedEvent::default() });
        let starting = Starting::new(n);
        // Before the first thread: what is left over when one fails has reported as well.
        let mut reporters: Vec<Reporter> = (0..n).map(|_| Reporter(starting.clone())).collect();
        let mut thread = |i| {
            let (reporter, leaving) = (reporters.pop().ok_or(Error::AGAIN)?, Leaving(end.clone()));
            sys::thread(&format!("weald-worker-{i}"), move || work(i, reporter, leaving))
        };
        let mut threads = Vec::new();
        // No further than the first that fails.
        let mut all = (0..n).try_for_each(|i| thread(i).map(|t| threads.push(t)));
        drop(reporters);
        let hubs = starting.wait();
        all = all.and(hubs.values().try_for_each(|hub| hub.as_ref().map(drop).map_err(|e| *e)));
        let hubs = hubs.into_values().filter_map(Result::ok).collect();
        let state = Mutex::new(State { next: 0, ending: false, threads });
        let workers = Arc::new(Workers { generation, hubs, state, end });
        all.and_then(|()| registry::share(workers.clone())).inspect_err(|_| {
            workers.let_go();
            workers.join_threads();
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// In the child of a fork, where there are no workers: their lock is not touched.
    fn are_the_parents(&self) -> bool {
        self.generation != fork::generation()
    }

    /// How many have not ended.
    pub fn count(&self) -> usize {
        if self.are_the_parents() { 0 } else { self.end.left.load(SeqCst) }
    }

    /// Starts `f(arg)` as a greenlet of worker number `index`; `usize::MAX`: of whose
    /// turn it is. EINVAL, EPIPE.
    pub fn spawn(&self, index: usize, f: JobFn, arg: *mut c_void, site: usize) -> Result<()> {
        if self.are_the_parents() {
            return Err(Error::PIPE);
        }
        let mut s = self.state();
        let n = self.hubs.len();
        let index = if index == usize::MAX { s.next } else { index };
        let hub = self.hubs.get(index).ok_or(Error::INVAL)?;
        if s.ending {
            return Err(Error::PIPE);
        }
        let arg = Carried(arg);
        hub.task(move || start_greenlet(f, arg, site)).map_err(|_| Error::PIPE)?;
        s.next = (index + 1) % n;
        Ok(())
    }

    /// Has every worker end when its greenlets have, and waits for that. `handle` is
    /// theirs, for reports.
    pub fn join(&self, hub: &Hub, handle: i64, deadline: Deadline) -> Result<()> {
        if self.are_the_parents() {
            return Ok(());
        }
        if !deadline.is_now() {
            hub.check()?;
            hub.may_park()?;
        }
        if self.hubs.iter().any(|remote| Arc::ptr_eq(remote, &hub.remote)) {
            return Err(Error::DEADLK); // it would wait for its own end
        }
        self.let_go();
        self.end.ended.wait(hub, handle, deadline)?;
        self.join_threads();
        Ok(())
    }

    fn let_go(&self) {
        let mut s = self.state();
        if !std::mem::replace(&mut s.ending, true) {
            for hub in &self.hubs {
                let _ = hub.task(let_go); // one that is gone needs no telling
            }
        }
    }

    /// They have nothing left to do but to end.
    fn join_threads(&self) {
        let threads = std::mem::take(&mut self.state().threads);
        threads.into_iter().for_each(|t| drop(t.join()));
    }

    /// Without a join they end by themselves, and nobody waits for that.
    fn closed(self: Arc<Self>) {
        if self.are_the_parents() {
            // What is in it belongs to threads that do not exist here.
            return std::mem::forget(self);
        }
        self.let_go();
        self.end.ended.closed();
    }
}
