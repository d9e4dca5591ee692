//! The hub: one per thread, and its loop.
//!
//! The root stack runs the loop: when the thread's own (main) greenlet blocks, the
//! loop runs right there until main may go on. One that blocks or ends passes straight to
//! the next that is ready, main as well, and to the root when there is none, or when its
//! time for a look round has come.
//!
//! ```text
//!         +--> ready greenlets, first in first out, for a bounded time
//!         |      |
//!         |    posts from other threads
//!         |      |
//!         |    due timers
//!         |      |
//!         |    callbacks: links, watchers
//!         |      |
//!         +----poll: only asked when there is other work, slept in when there is none
//! ```
//!
//! All state is in `Cell`s and private rings: no `&mut Hub` exists, so nothing is
//! borrowed while a greenlet is suspended.

mod child;
mod thread;

use crate::error::{Error, Result};
use crate::fence;
use crate::fiber::{Fiber, Root};
use crate::greenlet::{Greenlet, LOOPING, LinkFn, Record, State, Waiting};
use crate::handle::Table;
use crate::hooks::Hooks;
use crate::poller::{self, FdNode, Poller};
use crate::ready::Ring;
use crate::registry::{self, Post, PostFn, Remote};
use crate::spare::Spares;
use crate::stack::Stacks;
use crate::stats::Stats;
use crate::timer::{TimerNode, Timers};
use crate::waitlist::WaitList;
use crate::{fork, overflow, remote, sys};
use std::any::{Any, TypeId};
use std::cell::{Cell, UnsafeCell};
use std::collections::{HashMap, VecDeque};
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Greenlets resumed between two looks at the clock. With 64 a look costs a yield
/// 0.4 ns; when slices are long the number shrinks (see `adapt`).
const SLICES: i32 = 64;
/// A poll at least every so many resumes while descriptors are waited for: every 64
/// cost a yield 42 % more, 256 costs 10 %.
const POLL_EVERY: u32 = 256;
/// ... and at least so often,
const POLL_EVERY_NS: i64 = 1_000_000;
/// or so often while those who were ready after the last one have not all run: whom a poll
/// wakes would come behind them anyway, and it reports what it reported before once more.
const POLL_BEHIND_NS: i64 = 10_000_000;
/// Records freed before malloc is told to give memory back.
const MANY_RECORDS: usize = 4096;
const TRIM_EVERY_NS: i64 = 100_000_000;

/// Work for the loop, in order.
pub enum Callback {
    /// With the link's number: until it runs it may be taken back.
    Link(LinkFn, i64, *mut c_void, i64),
    Call(PostFn, *mut c_void),
    Task(Box<dyn FnOnce(&Hub)>),
}

pub type ErrorFn = extern "C-unwind" fn(i64, c_int, *const c_char, *mut c_void);
pub type ReportFn = extern "C-unwind" fn(*const c_char, *mut c_void);

/// A watcher's place in the loop; see `watcher`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Prepare,
    Check,
    Idle,
}

type PhaseFn = dyn Fn(&Hub, Phase);

/// Laid out as it stands here: what every switch touches lies together.
#[repr(C)]
pub struct Hub {
    pub current: Cell<*const Greenlet>,
    /// Resumes until the loop looks round: below 0 when that is overdue.
    pub budget: Cell<i32>,
    /// A switch is more than a switch: there are hooks, or a foreign loop runs us.
    is_attended: Cell<bool>,
    pub hooks: Cell<Option<&'static Hooks>>,
    errno: *mut c_int,
    cxa: Cell<*mut [usize; 2]>,
    pub root: Root,
    /// Taken once a turn: the time that reports use.
    pub now: Cell<i64>,
    pub ready: Ring<Greenlet>,
    pub table: Table,

    no_cxa: UnsafeCell<[usize; 2]>,
    all_hooks: UnsafeCell<Vec<*const Hooks>>,
    /// Whom to resume next, past the ready queue (raw switch).
    pub next: Cell<*const Greenlet>,
    pub main: Record,
    /// Stands for the loop while callbacks run.
    pub looper: Record,
    pub stacks: Stacks,
    pub timers: Timers,
    pub stats: Stats,

    poller: UnsafeCell<Poller>,
    pub remote: Arc<Remote>,
    callbacks: UnsafeCell<VecDeque<Callback>>,
    round_at: Cell<i64>,
    pub slices: Cell<i32>,
    /// Calls in a row that a greenlet may make without waiting, see `rw`.
    pub turn: Cell<i32>,
    polled_at: Cell<i64>,
    resumes_since_poll: Cell<u32>,
    /// How many were ready after the last poll.
    ready_at_poll: Cell<usize>,
    trim_at: Cell<i64>,
    /// What keeps the loop running besides timers, descriptors and ready greenlets:
    /// watchers, jobs in threads, waits on shared objects.
    holds: Cell<usize>,
    /// Greenlets that have started and not ended.
    pub alive: Cell<usize>,
    pub idlers: WaitList,
    /// How many watchers each phase has; 0 skips it.
    pub phase_counts: [Cell<u32>; 3],
    phase_fn: UnsafeCell<Option<Box<PhaseFn>>>,
    at_fork: Cell<Vec<fn(&Hub)>>,
    pub error_handler: Cell<Option<(ErrorFn, *mut c_void)>>,
    pub report_handler: Cell<Option<(ReportFn, *mut c_void)>>,
    pub stop: Cell<bool>,
    pub in_loop: Cell<bool>,
    /// A foreign loop watches our descriptor.
    embedded: Cell<bool>,
    /// In a child forked by a greenlet: main is the parent's.
    pub main_is_gone: Cell<bool>,
    pub next_id: Cell<i64>,
    pub next_link: Cell<i64>,
    pub spares: Spares,
    /// Records given back to malloc since it was last told to give memory back.
    pub records_freed: Cell<usize>,
    /// The patched call that is being made: where it is counted; see `patch`.
    pub hooked: Cell<*const c_void>,
    /// State of higher layers that lives as long as the hub, one value a type.
    extensions: UnsafeCell<HashMap<TypeId, Box<dyn Any>>>,
}

thread_local! {
    /// Ends the hub of a thread that ends.
    static AT_THREAD_EXIT: AtThreadExit = const { AtThreadExit };
}

struct AtThreadExit;

impl Drop for AtThreadExit {
    fn drop(&mut self) {
        end_with_thread();
    }
}

extern "C" fn end_with_thread() {
    if let Some(hub) = Hub::existing() {
        if !hub.is_main(hub.current()) {
            // exit() called in a greenlet or a callback: we stand on a stack of the
            // hub, or in its loop. The process ends; the hub is left as it is.
            return thread::end();
        }
        // Running greenlets from a thread's destructors would call code whose
        // own thread-locals are gone: they are abandoned instead.
        hub.as_loop(&|| "the end of a thread".into(), || hub.close_objects());
        // SAFETY: the thread's last use of its hub.
        unsafe { Hub::free() };
    }
}

/// See `Hub::unsuspended`.
pub struct Unsuspended {
    before: Option<*const Greenlet>,
}

impl Drop for Unsuspended {
    fn drop(&mut self) {
        if let (Some(hub), Some(before)) = (Hub::existing(), self.before) {
            hub.current.set(before);
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for &hooks in self.all_hooks.get_mut().iter() {
            // SAFETY: made by `set_hooks` from a Box; nothing switches any more.
            drop(unsafe { Box::from_raw(hooks.cast_mut()) });
        }
    }
}

impl Hub {
    /// This thread's hub, if it has one.
    #[inline(always)]
    pub fn existing() -> Option<&'static Hub> {
        let (hub, table) = Hub::here();
        // SAFETY: set by `create`, reset by `free`; 'static as far as this thread
        // can tell, because only `free` ends it, at shutdown or thread exit.
        (!table.is_nowhere()).then(|| unsafe { &*hub })
    }

    /// This thread's table, and the hub, if it has one: it has, if anything is in the table.
    #[inline(always)]
    pub fn here() -> (*const Hub, &'static Table) {
        let hub = thread::get();
        // SAFETY: as above; and what is in place of a hub has a table, too.
        (hub, unsafe { &(*hub).table })
    }

    /// This thread's hub, made on first use. ENOMEM, EMFILE, ESHUTDOWN.
    #[inline(always)]
    pub fn get() -> Result<&'static Hub> {
        match Hub::existing() {
            Some(hub) => Ok(hub),
            None => match Hub::create_here() {
                0 => Ok(Hub::existing().expect("just made")),
                code => Err(Error::from_code(code)),
            },
        }
    }

    /// As `create`, with a code: a `Result` that holds a pointer comes back in memory,
    /// and then the hub would go through memory on the usual way as well.
    #[cold]
    #[inline(never)]
    fn create_here() -> i32 {
        sys::keeping_errno(Hub::create).map_or_else(|e| e.code(), |()| 0)
    }

    fn create() -> Result<()> {
        if thread::has_ended() {
            return Err(Error::SHUTDOWN);
        }
        let poller = Poller::new()?;
        let number = registry::take_number()?;
        let mailbox = remote::Mailbox::new(poller.waker());
        let remote = Arc::new(Remote { number: number.number, mailbox, exposed: AtomicUsize::new(0) });
        let stacks = Stacks::new();
        let class = stacks.class(0)?;
        let record = |id| Record::new(id, class, Hub::greenlet_timer, Hub::greenlet_fd);
        let main = record(0);
        let hub = Box::new(Hub {
            current: Cell::new(std::ptr::null()),
            ready: Ring::default(),
            budget: Cell::new(SLICES),
            // SAFETY: main's record lies in the same hub.
            root: unsafe { main.fiber.root(Hub::be_root) },
            errno: sys::errno_location(),
            cxa: Cell::new(std::ptr::null_mut()),
            no_cxa: UnsafeCell::new([0; 2]),
            hooks: Cell::new(None),
            is_attended: Cell::new(false),
            all_hooks: UnsafeCell::new(Vec::new()),
            next: Cell::new(std::ptr::null()),
            main,
            looper: record(-1),
            table: Table::new(number.number, number.first_generation)?,
            stacks,
            timers: Timers::default(),
            stats: Stats::default(),
            poller: UnsafeCell::new(poller),
            remote,
            callbacks: UnsafeCell::new(VecDeque::new()),
            now: Cell::new(sys::monotonic_ns()),
            round_at: Cell::new(sys::monotonic_ns()),
            slices: Cell::new(SLICES),
            turn: Cell::new(SLICES),
            polled_at: Cell::new(0),
            resumes_since_poll: Cell::new(0),
            ready_at_poll: Cell::new(0),
            trim_at: Cell::new(0),
            holds: Cell::new(0),
            alive: Cell::new(0),
            idlers: WaitList::default(),
            phase_counts: [Cell::new(0), Cell::new(0), Cell::new(0)],
            phase_fn: UnsafeCell::new(None),
            at_fork: Cell::new(Vec::new()),
            error_handler: Cell::new(None),
            report_handler: Cell::new(None),
            stop: Cell::new(false),
            in_loop: Cell::new(false),
            embedded: Cell::new(false),
            main_is_gone: Cell::new(false),
            next_id: Cell::new(1),
            next_link: Cell::new(1),
            spares: Spares::default(),
            records_freed: Cell::new(0),
            hooked: Cell::new(std::ptr::null()),
            extensions: UnsafeCell::new(HashMap::new()),
        });
        hub.look_for_cxa();
        hub.ready.reserve_one()?; // main's place
        hub.main.state.set(State::Running);
        hub.main.started.set(true);
        hub.main.refs.set(1);
        hub.main.born.set(hub.now.get());
        let main: *const Greenlet = &*hub.main;
        hub.main.handle.set(hub.table.insert(main)?);
        hub.table.unref(hub.main.handle.get())?; // nobody may close it
        hub.looper.state.set(State::Running);
        hub.looper.flag(LOOPING);
        hub.current.set(main);
        registry::publish(&hub.remote);
        number.keep();
        Hub::watch_forks();
        overflow::install(Hub::explain_overflow);
        thread::set(Box::into_raw(hub));
        AT_THREAD_EXIT.with(|_| ());
        // The end of thread-locals may be over: when a destructor of pthread_key_create's
        // makes the first call.
        sys::at_late_thread_end(end_with_thread);
        Ok(())
    }

    /// Ends this thread's hub for good; the thread gets ESHUTDOWN from now on.
    ///
    /// # Safety
    /// Nothing on any stack uses the hub any more, but for the caller's frames that
    /// return without touching it.
    pub unsafe fn free() {
        let hub = thread::get().cast_mut();
        // SAFETY: made by `create` from a Box; by contract the last use.
        let hub = unsafe { Box::from_raw(hub) };
        drop(hub.remote.mailbox.close());
        // Extensions may still look for the hub while they are dropped.
        // SAFETY: no other reference into the map.
        drop(std::mem::take(unsafe { &mut *hub.extensions.get() }));
        thread::end();
        registry::give_number(hub.remote.number, hub.table.next_generation());
        drop(hub);
    }

    #[inline(always)]
    pub fn current(&self) -> &Greenlet {
        // SAFETY: set to a living record before anything runs; a running greenlet's
        // record is held by the scheduler.
        unsafe { &*self.current.get() }
    }

    #[inline(always)]
    pub fn is_main(&self, g: &Greenlet) -> bool {
        std::ptr::eq(g, &*self.main)
    }

    /// A foreign loop drives it: main is that loop.
    pub fn is_embedded(&self) -> bool {
        self.embedded.get()
    }

    #[inline(always)]
    pub fn in_callback(&self) -> bool {
        std::ptr::eq(self.current.get(), &*self.looper)
    }

    #[inline]
    pub fn poller(&self) -> &Poller {
        // SAFETY: replaced in a forked child only, where nobody is using it.
        unsafe { &*self.poller.get() }
    }

    /// # Safety
    /// In a forked child, before anything polls.
    pub unsafe fn poller_mut(&self) -> *mut Poller {
        self.poller.get()
    }

    /// State of a higher layer, one value of a type per hub.
    pub fn extension<T: Default + 'static>(&self) -> &T {
        // SAFETY: values are boxed and never removed, so the reference stays good
        // while the map grows; no reference to the map itself is kept.
        let map = unsafe { &mut *self.extensions.get() };
        let value = map.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(T::default()));
        let value: *const dyn Any = &**value;
        // SAFETY: as above.
        unsafe { &*value }.downcast_ref().expect("keyed by its type")
    }

    // ---- what keeps the loop running -------------------------------------------

    pub fn hold(&self) {
        self.holds.set(self.holds.get() + 1);
    }

    pub fn unhold(&self) {
        // In a child forked by a callback main still waits, and its hold is cleared.
        self.holds.set(self.holds.get().saturating_sub(1));
    }

    pub fn clear_holds(&self) {
        self.holds.set(0);
    }

    /// Nothing is ready and nothing can become ready by itself.
    pub fn nothing_left(&self) -> bool {
        self.ready.is_empty()
            && !self.timers.any_counted()
            && self.poller().waiting() == 0
            && self.holds.get() == 0
            && self.callbacks().is_empty()
            && self.idlers.is_empty()
            && !self.remote.mailbox.has_pending()
    }

    // ---- callbacks -------------------------------------------------------------

    #[allow(clippy::mut_from_ref)]
    fn callbacks(&self) -> &mut VecDeque<Callback> {
        // SAFETY: one thread, and no reference is kept while a callback runs.
        unsafe { &mut *self.callbacks.get() }
    }

    /// Has `callback` run by the loop, after those that wait already.
    pub fn later(&self, callback: Callback) {
        self.callbacks().push_back(callback);
        self.budget.set(0); // the loop looks soon
    }

    /// The same, when those who are ready have had their turn.
    pub fn after_turn(&self, callback: Callback) {
        self.callbacks().push_back(callback);
    }

    /// Takes back a link that waits for its turn. ENOENT.
    pub fn take_back_link(&self, of: i64, number: i64) -> Result<()> {
        let is_it = |c: &&mut Callback| matches!(c, Callback::Link(_, h, _, n) if (*h, *n) == (of, number));
        let found = self.callbacks().iter_mut().find(is_it).ok_or(Error::NOENT)?;
        *found = Callback::Task(Box::new(|_| ())); // its place stays: the turn counts them
        Ok(())
    }

    /// Runs `f` as the loop: blocking in it is an error, a panic is reported.
    pub fn as_loop(&self, who: &dyn Fn() -> String, f: impl FnOnce()) {
        let before = self.current.replace(&*self.looper);
        if let Err(message) = fence::call(who, f) {
            self.report_failure(0, Error::PANIC, &format!("{}: {message}", who()));
        }
        self.current.set(before);
    }

    /// As `as_loop`, in this thread's hub if it has one, for a function of the user's that
    /// is called from the middle of something: until the guard goes nothing can suspend.
    pub fn unsuspended() -> Unsuspended {
        let hub = Hub::existing();
        Unsuspended { before: hub.map(|hub| hub.current.replace(&*hub.looper)) }
    }

    /// In a forked child: what was to be called is the parent's to call.
    pub fn forget_callbacks(&self) {
        self.callbacks().clear();
    }

    /// In a forked child: higher layers put their state in order.
    pub fn fork_extensions(&self) {
        let all = self.at_fork.take();
        all.iter().for_each(|f| f(self));
        self.at_fork.set(all); // the child may fork as well
    }

    /// Has `f` run in a forked child.
    pub fn at_fork(&self, f: fn(&Hub)) {
        let mut all = self.at_fork.take();
        all.push(f);
        self.at_fork.set(all);
    }

    fn run_callbacks(&self) {
        // Those that come meanwhile wait for the next turn.
        for _ in 0..self.callbacks().len() {
            let Some(callback) = self.callbacks().pop_front() else { return };
            self.run_callback(callback);
        }
    }

    fn run_callback(&self, callback: Callback) {
        match callback {
            Callback::Link(f, handle, arg, _) => self.as_loop(&|| "a link callback".into(), || f(handle, arg)),
            Callback::Call(f, arg) => self.as_loop(&|| "a posted callback".into(), || f(arg)),
            Callback::Task(f) => self.as_loop(&|| "a loop task".into(), || f(self)),
        }
    }

    fn run_posts(&self) {
        let generation = fork::generation();
        let mut posts = self.remote.mailbox.take();
        while let Some(post) = posts.pop_front() {
            match post {
                Post::Call(f, arg) => self.run_callback(Callback::Call(f, arg)),
                Post::Task(f) => self.as_loop(&|| "a posted task".into(), f),
            }
            if fork::generation() != generation {
                return std::mem::forget(posts); // it has forked, and they are the parent's
            }
        }
    }

    pub fn set_phase_fn(&self, f: Box<PhaseFn>) {
        // SAFETY: set once by the watcher layer, before any phase counts.
        unsafe { *self.phase_fn.get() = Some(f) };
    }

    /// Runs a phase's watchers; false when it has none.
    fn phase(&self, phase: Phase) -> bool {
        if self.phase_counts[phase as usize].get() > 0
            // SAFETY: set once, see above.
            && let Some(f) = unsafe { &*self.phase_fn.get() }
        {
            f(self, phase);
            return true;
        }
        false
    }

    // ---- the loop --------------------------------------------------------------

    /// Runs `g`, and whom it switches to, until somebody suspends to the root without naming
    /// a successor. True when main is to go on.
    ///
    /// Inlined into the loop: a frame of its own would stand on the return predictor
    /// when the greenlet goes on, and its first `ret` would be mispredicted.
    #[inline(always)]
    fn resume(&self, mut g: &Greenlet) -> bool {
        loop {
            if self.is_main(g) {
                return true;
            }
            if g.started.get() || self.begin(g) {
                self.current.set(g);
                g.state.set(State::Running);
                // SAFETY: on the root, and a greenlet that has begun and not ended and
                // does not run is suspended.
                if unsafe { g.fiber.resume(&self.root) } {
                    self.finish(self.current()); // perhaps one that `g` passed to
                } else if std::ptr::eq(self.current.get(), &*self.main) {
                    return true; // somebody has passed to it (or else that one may be gone)
                }
            }
            let next = self.next.replace(std::ptr::null());
            if next.is_null() {
                return false;
            }
            // SAFETY: whoever set `next` saw it alive, and nothing ran since.
            g = unsafe { &*next };
        }
    }

    /// Runs ready greenlets until the budget is used up (false), none is left
    /// (false), or it is main's turn (true).
    #[inline(always)]
    fn run_ready(&self) -> bool {
        while self.spends_budget() {
            let Some(g) = self.ready.pop() else { return false };
            self.prefetch();
            // SAFETY: what is in the ready ring is alive.
            let g = unsafe { &*g };
            if self.resume(g) {
                return true;
            }
        }
        false
    }

    /// Fetches who comes soon: first the record, then, when that has arrived, the
    /// stack it points to. At 100,000 greenlets this halves the cost of a yield.
    #[inline(always)]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let fetch = |at: usize| {
                // SAFETY: a prefetch never faults.
                unsafe { _mm_prefetch(at as *const i8, _MM_HINT_T0) }
            };
            if let Some(g) = self.ready.peek(5) {
                let record = g as usize;
                [0, 192].iter().for_each(|line| fetch(record + line));
                let sp = match self.ready.peek(2) {
                    // SAFETY: who is in the ring is alive.
                    Some(g) => unsafe { (*g).fiber.sp() },
                    None => 0,
                };
                // Not begun: no stack yet, and fetching from nowhere costs a page walk.
                if sp != 0 {
                    [0, 64, 128].iter().for_each(|line| fetch(sp + line));
                }
            }
        }
    }

    /// The loop, on main's stack, until main may go on.
    #[inline(never)]
    pub fn run_until_main(&self) {
        // Who had to go by way of the root has named a successor.
        let next = self.next.replace(std::ptr::null());
        // SAFETY: see `resume`.
        if (!next.is_null() && self.resume(unsafe { &*next })) || self.run_ready() {
            return self.main_goes_on();
        }
        self.run_slowly_until_main();
    }

    #[cold]
    #[inline(never)]
    fn run_slowly_until_main(&self) {
        while !self.run_ready() {
            if self.nothing_left() && !self.main_may_be_woken_from_outside() {
                self.report_deadlock();
                self.fail_main();
            } else {
                self.round(None);
            }
        }
        self.main_goes_on();
    }

    #[inline(always)]
    fn main_goes_on(&self) {
        self.root.leave_loop();
        self.current.set(&*self.main);
        self.main.state.set(State::Running);
    }

    /// Main's wait can not end: it fails with EDEADLK.
    fn fail_main(&self) {
        if self.main_is_gone.get() {
            fork::exit_child();
        }
        self.main.node.refused.set(true);
        match self.main.state.get() {
            State::Switched => self.wake_switched(&self.main, Error::DEADLK.code()),
            _ => self.wake(&self.main, Error::DEADLK.code()),
        }
        self.budget.set(self.budget.get().max(1));
    }

    fn main_may_be_woken_from_outside(&self) -> bool {
        self.remote.exposed.load(SeqCst) > 0
    }

    /// Runs until nothing is left (or what is left can not go on: EDEADLK), `stop`,
    /// or the deadline.
    pub fn run(&self, deadline: i64) -> Result<()> {
        self.enter_loop(|| {
            loop {
                self.run_ready();
                if self.stop.replace(false) {
                    return Ok(());
                }
                if self.nothing_left() {
                    if self.alive.get() == 0 {
                        return Ok(());
                    }
                    if !self.main_may_be_woken_from_outside() {
                        self.report_deadlock();
                        return Err(Error::DEADLK);
                    }
                }
                if deadline <= sys::monotonic_ns() {
                    return Err(Error::TIMEDOUT);
                }
                self.round(Some(deadline));
            }
        })
    }

    /// One turn: everything that is ready now, once. Sleeps first only if `wait`.
    /// True when there is more to do.
    pub fn run_once(&self, wait: bool) -> Result<bool> {
        self.enter_loop(|| {
            let limit = if wait && !self.nothing_left() { None } else { Some(0) };
            self.budget.set(0);
            self.round(limit);
            // Those that are ready now, not those that they make ready.
            for _ in 0..self.ready.len() {
                self.budget.set(1);
                self.run_ready();
            }
            self.run_callbacks();
            // As before a sleep of our own: a foreign loop sleeps for us.
            if self.poller().has_unverified() {
                self.poller().verify();
            }
            self.remote.mailbox.may_sleep();
            Ok(!self.nothing_left())
        })
    }

    fn enter_loop<R>(&self, run: impl FnOnce() -> Result<R>) -> Result<R> {
        if self.in_callback() {
            return Err(Error::WOULDBLOCK);
        }
        if !self.is_main(self.current()) {
            return Err(Error::PERM); // greenlets run in the loop, they do not run it
        }
        self.in_loop.set(true);
        if self.hooks.get().is_some() {
            self.call_leave_hook(&self.main);
        }
        let (errno, exceptions) = (self.errno(), self.take_exceptions());
        let result = run();
        self.root.leave_loop();
        self.current.set(&*self.main);
        if self.main_is_gone.get() {
            self.outlive_main();
        }
        self.go_on(&self.main, errno);
        self.give_exceptions(exceptions);
        self.in_loop.set(false);
        result
    }

    /// In a child forked by a greenlet while main ran the loop: main must not go on,
    /// the kept greenlet does; its end is the child's.
    fn outlive_main(&self) -> ! {
        loop {
            self.run_ready();
            if self.nothing_left() && !self.main_may_be_woken_from_outside() {
                self.report_deadlock();
                fork::exit_child();
            }
            self.round(None);
        }
    }

    /// Everything but running greenlets: the lower half of the picture above. Sleeps
    /// when nothing is ready, at most until `limit`.
    pub fn round(&self, limit: Option<i64>) {
        let now = sys::monotonic_ns();
        self.adapt(now);
        self.stats.turns.set(self.stats.turns.get() + 1);
        // What is run here may stop the loop, or end the last thing that it runs for:
        // then the caller looks again before we sleep.
        let mut ran = false;
        if self.remote.mailbox.has_pending() {
            self.run_posts();
            ran = true;
        }
        self.fire_timers(now);
        if !self.callbacks().is_empty() {
            self.run_callbacks();
            ran = true;
        }
        if now >= self.trim_at.get() {
            let more = self.stacks.trim();
            self.trim_at.set(if more { now } else { now + TRIM_EVERY_NS });
            if self.records_freed.get() >= MANY_RECORDS && !self.stacks.puts_off() {
                self.records_freed.set(0);
                sys::trim_heap();
            }
        }
        if !ran && self.ready.is_empty() && self.callbacks().is_empty() {
            self.sleep(now, limit);
        } else if self.poll_is_due(now) {
            self.poll_now(now);
        }
        // Callbacks that called for another turn must not keep greenlets from theirs.
        if !self.stop.get() {
            self.budget.set(self.slices.get());
        }
    }

    /// Takes the time, and adapts how many greenlets run between two looks at the
    /// clock: when slices are long, fewer, so that timers and I/O are not starved.
    fn adapt(&self, now: i64) {
        let used = (self.slices.get() - self.budget.get().max(0)).max(1);
        let took = (now - self.round_at.get()).max(0);
        // Divisions are slow, and as a rule the slices are short.
        let are_short = took.saturating_mul(i64::from(SLICES)) <= POLL_EVERY_NS * i64::from(used);
        let fitting = || POLL_EVERY_NS * i64::from(used) / took;
        let slices = if are_short { SLICES } else { fitting().max(1) as i32 };
        self.resumes_since_poll.set(self.resumes_since_poll.get().saturating_add(used.unsigned_abs()));
        self.stats.resumes.set(self.stats.resumes.get() + u64::from(used.unsigned_abs()));
        if self.budget.get() < self.slices.get() {
            self.poller().note_activity();
        }
        self.slices.set(slices);
        self.budget.set(slices);
        self.round_at.set(now);
        self.now.set(now);
    }

    fn poll_is_due(&self, now: i64) -> bool {
        let around = [Phase::Prepare, Phase::Check].iter().any(|&p| self.phase_counts[p as usize].get() > 0);
        let (linked, resumes) = (self.poller().linked(), self.resumes_since_poll.get());
        // Watchers are called by the loop, and wait behind nobody.
        let only_greenlets = !around && linked == self.poller().waiting();
        let is_behind = only_greenlets && (resumes as usize) < self.ready_at_poll.get();
        let (most, longest) = if is_behind { (u32::MAX, POLL_BEHIND_NS) } else { (POLL_EVERY, POLL_EVERY_NS) };
        (linked > 0 || around) && (resumes >= most || now - self.polled_at.get() >= longest)
    }

    /// The poller has just been asked.
    fn polled(&self, now: i64) {
        self.polled_at.set(now);
        self.poller().polled(now);
        self.resumes_since_poll.set(0);
        self.ready_at_poll.set(self.ready.len());
    }

    fn poll_now(&self, now: i64) {
        self.phase(Phase::Prepare);
        let poller = self.poller();
        if poller.has_unverified() {
            poller.verify_old(now);
        }
        if poller.sweep_due().is_some_and(|at| now >= at) {
            poller.sweep(now);
        }
        let _ = self.ask(Some(0));
        self.polled(now);
        self.phase(Phase::Check);
    }

    fn fire_timers(&self, now: i64) {
        if self.timers.next_due().is_none_or(|due| due > now) {
            return;
        }
        let mark = self.timers.mark();
        while let Some(node) = self.timers.pop_due(now, mark) {
            // SAFETY: a node is set only while its owner lives, and has just been
            // taken out; the function was set by that owner.
            unsafe { (*node).fire.get()(node) };
        }
    }

    /// # Safety
    /// `node` is the timer of a living record, and has just left the heap.
    pub unsafe fn greenlet_timer(node: *const TimerNode) {
        // SAFETY: only greenlets' own timers carry this function.
        let g = unsafe { Greenlet::of_timer(node) };
        let hub = Hub::existing().expect("timers fire in a hub");
        match g.state.get() {
            State::New => hub.start(g),
            State::Switched => hub.switch_on(g, Error::TIMEDOUT.code()),
            _ => hub.wake(g, Error::TIMEDOUT.code()),
        }
    }

    /// # Safety
    /// `node` is the descriptor node of a living record.
    pub unsafe fn greenlet_fd(node: *const FdNode) {
        // SAFETY: only greenlets' own nodes carry this function.
        let g = unsafe { Greenlet::of_fd_node(node) };
        if let Some(hub) = Hub::existing() {
            hub.wake(g, poller::wake_code(g.fd_node.got.get()));
        }
    }

    /// Nothing is ready: waits for something to come.
    fn sleep(&self, now: i64, limit: Option<i64>) {
        let prepares = self.phase_counts[Phase::Prepare as usize].get() > 0;
        let was_left = prepares && !self.nothing_left();
        let prepared = prepares && self.phase(Phase::Prepare);
        let now = if prepared { sys::monotonic_ns() } else { now };
        // As in `round`: its watchers may stop the loop, or end what it runs for.
        let ended = prepared && (self.stop.get() || (was_left && self.nothing_left()));
        let poller = self.poller();
        if poller.sweep_due().is_some_and(|at| now >= at) {
            poller.sweep(now);
        }
        let idle = !self.idlers.is_empty() || self.phase_counts[Phase::Idle as usize].get() > 0;
        let is_busy = || idle || ended || !self.ready.is_empty() || !self.callbacks().is_empty();
        if poller.has_unverified() {
            poller.verify_old(now);
        }
        let mut now = now;
        loop {
            let timeout = if is_busy() { Some(0) } else { self.time_to_sleep(now, limit) };
            let verify_at = poller.patience().map_or(i64::MAX, |patience| now + patience);
            let chores_at = self.chores_at().min(verify_at);
            let ends_at = timeout.map_or(i64::MAX, |timeout| now + timeout);
            // The alarm is for what is due again and again while a program talks.
            let rings = || chores_at == verify_at && poller.ring_by(now, chores_at);
            let timeout = if chores_at < ends_at && !rings() { Some((chores_at - now).max(0)) } else { timeout };
            if self.wait(timeout) {
                break;
            }
            now = sys::monotonic_ns();
            if poller.has_unverified() {
                poller.verify_all_old(now);
            }
            if is_busy() || self.chores_at() <= now || self.time_to_sleep(now, limit) == Some(0) {
                break; // the rest is the round's
            }
        }
        let now = sys::monotonic_ns();
        self.now.set(now);
        self.polled(now);
        self.fire_timers(now);
        self.phase(Phase::Check);
        if self.ready.is_empty() && self.callbacks().is_empty() {
            self.phase(Phase::Idle);
            if let Some(node) = self.idlers.pop() {
                self.grant(node);
            }
        }
        self.round_at.set(now);
    }

    /// When a foreign loop must step us: a raw deadline.
    pub fn next_deadline(&self) -> i64 {
        let idle = !self.idlers.is_empty() || self.phase_counts[Phase::Idle as usize].get() > 0;
        if idle || !self.ready.is_empty() || !self.callbacks().is_empty() || self.remote.mailbox.has_pending() {
            return crate::time::NOW;
        }
        match self.time_to_sleep(0, None).unwrap_or(i64::MAX).min(self.chores_at()) {
            i64::MAX => crate::time::FOREVER,
            at => at.max(1),
        }
    }

    /// How long nothing is due but chores: `None` is for ever.
    fn time_to_sleep(&self, now: i64, limit: Option<i64>) -> Option<i64> {
        let until = self.timers.next_due().unwrap_or(i64::MAX).min(limit.unwrap_or(i64::MAX));
        (until != i64::MAX).then(|| (until - now).max(0))
    }

    /// When a round has something to tidy up, which may be late.
    fn chores_at(&self) -> i64 {
        let idle = self.stacks.has_idle() || self.records_freed.get() >= MANY_RECORDS;
        let trim = if idle { self.trim_at.get() } else { i64::MAX };
        trim.min(self.poller().sweep_due().unwrap_or(i64::MAX))
    }

    fn ask(&self, timeout: Option<i64>) -> Result<usize> {
        self.poller().others_run(!self.ready.is_empty());
        let outcome = self.poller().poll(timeout);
        if let Some(waker) = self.poller().new_waker() {
            self.remote.mailbox.set_waker(waker);
        }
        outcome
    }

    /// Polls, and sleeps up to `timeout`, unless somebody has posted something. False when
    /// the time has passed and nothing has come.
    fn wait(&self, timeout: Option<i64>) -> bool {
        let timeout = if self.remote.mailbox.may_sleep() { timeout } else { Some(0) };
        let sleeps = timeout != Some(0);
        let hooks = self.hooks.get().filter(|_| sleeps);
        if let Some(begin) = hooks.and_then(|h| h.block_begin) {
            self.as_loop(&|| "the hook before the sleep".into(), || begin());
        }
        self.stats.polls.set(self.stats.polls.get() + 1);
        let outcome = self.ask(timeout);
        self.remote.mailbox.awake();
        if let Some(end) = hooks.and_then(|h| h.block_end) {
            let interrupted = c_int::from(outcome == Err(Error::INTR));
            self.as_loop(&|| "the hook after the sleep".into(), || end(interrupted));
        }
        !sleeps || outcome != Ok(0)
    }

    // ---- switching -------------------------------------------------------------

    // What belongs to the running greenlet but lives in the thread: errno, and C++'s
    // exceptions in flight. The binding's `leave` hook saves the rest.

    #[inline(always)]
    fn errno(&self) -> c_int {
        // SAFETY: this thread's.
        unsafe { *self.errno }
    }

    /// What `g` does first, with the errno that it left.
    #[inline(always)]
    fn go_on(&self, g: &Greenlet, errno: c_int) {
        if self.is_attended.get() {
            self.attend(g);
        }
        // As a rule it is as it was, and a store would have the next switch wait for it: that
        // cost a raw switch a tenth.
        if self.errno() != errno {
            // SAFETY: this thread's.
            unsafe { *self.errno = errno };
        }
    }

    /// Whether C++ code on this stack is handling an exception, or unwinding for one. Few
    /// that suspend are, and those take theirs with them: so nobody else finds any.
    #[inline(always)]
    fn has_exceptions(&self) -> bool {
        // SAFETY: this thread's, as long as it lives (or, without C++, as long as the hub).
        let [caught, uncaught] = unsafe { *self.cxa.get() };
        caught | uncaught != 0
    }

    fn take_exceptions(&self) -> [usize; 2] {
        // SAFETY: as above.
        unsafe { self.cxa.get().replace([0; 2]) }
    }

    fn give_exceptions(&self, exceptions: [usize; 2]) {
        // SAFETY: as above.
        unsafe { *self.cxa.get() = exceptions };
    }

    /// What `g` does first where a switch is more than a switch.
    #[cold]
    #[inline(never)]
    fn attend(&self, g: &Greenlet) {
        if self.embedded.get() && self.is_main(g) {
            self.remote.mailbox.entrust();
        }
        self.call_enter_hook(g);
    }

    /// A foreign loop sleeps for us from now on.
    pub fn embed(&self) {
        self.embedded.set(true);
        self.is_attended.set(true);
        self.remote.mailbox.entrust(); // from now on a post makes its descriptor readable
    }

    #[cold]
    #[inline(never)]
    fn call_leave_hook(&self, g: &Greenlet) {
        if let Some(hooks) = self.hooks.get() {
            hooks.on_leave(g);
        }
    }

    #[cold]
    #[inline(never)]
    pub fn call_enter_hook(&self, g: &Greenlet) {
        if let Some(hooks) = self.hooks.get() {
            hooks.on_enter(g);
        }
    }

    /// Sets the binding's hooks. Old ones are kept until the hub ends: a switch may be
    /// inside them.
    pub fn set_hooks(&self, hooks: Option<Hooks>) {
        let hooks = hooks.map(|h| {
            let kept: *const Hooks = Box::into_raw(Box::new(h));
            // SAFETY: freed by `drop` alone; the vector is touched nowhere else.
            unsafe { (*self.all_hooks.get()).push(kept) };
            // SAFETY: just made, and kept until the hub ends.
            unsafe { &*kept }
        });
        self.hooks.set(hooks);
        self.is_attended.set(hooks.is_some() || self.embedded.get());
    }

    /// Looks for C++, which must have been loaded by now.
    fn look_for_cxa(&self) {
        let found = sys::cxa_globals();
        // Without C++ there is nothing to switch; a place of our own spares the test.
        self.cxa.set(if found.is_null() { self.no_cxa.get() } else { found });
    }

    /// Gives control away; returns when the current greenlet is resumed. One of the two
    /// places where a greenlet stops running. Inlined into every function that blocks:
    /// each frame between here and the caller costs a return that may be mispredicted.
    ///
    /// Returns this hub and `g` once more: use these from here on, they are known before
    /// the stack that holds the others has been read.
    #[inline(always)]
    pub fn suspend<'a>(&'a self, g: &'a Greenlet) -> (&'a Hub, &'a Greenlet) {
        if self.hooks.get().is_some() {
            self.call_leave_hook(g);
        }
        self.suspend_plainly(g)
    }

    /// As `suspend`, where there are no hooks.
    #[inline(always)]
    pub fn suspend_plainly<'a>(&'a self, g: &'a Greenlet) -> (&'a Hub, &'a Greenlet) {
        if self.has_exceptions() {
            return self.suspend_in_flight(g, None);
        }
        let errno = self.errno();
        let (hub, g) = self.give_way(g);
        hub.go_on(g, errno);
        (hub, g)
    }

    /// As `suspend_plainly`, or as `pass_plainly` to `to`, with C++'s exceptions in flight.
    #[cold]
    #[inline(never)]
    fn suspend_in_flight<'a>(&'a self, g: &'a Greenlet, to: Option<&Greenlet>) -> (&'a Hub, &'a Greenlet) {
        let (errno, exceptions) = (self.errno(), self.take_exceptions());
        let (hub, g) = match to {
            Some(to) => self.pass(g, to),
            None => self.give_way(g),
        };
        hub.go_on(g, errno);
        hub.give_exceptions(exceptions);
        (hub, g)
    }

    /// Lets who is first in line go on, and is last in it. None, with nothing done, where
    /// that takes more than a switch: the usual yield has a short way of its own.
    #[inline(always)]
    pub fn take_turns<'a>(&'a self, g: &'a Greenlet) -> Option<(&'a Hub, &'a Greenlet)> {
        if self.ready.is_empty() || !self.switches_plainly() || !self.spends_budget() {
            return None;
        }
        // SAFETY: who is in the ready ring is alive.
        let next = unsafe { &*self.ready.peek(0)? };
        if !next.fiber.is_suspended() {
            return None;
        }
        g.state.set(State::Ready);
        self.ready.exchange(g);
        self.prefetch();
        Some(self.pass_to_suspended(g, next))
    }

    /// As `suspend`, and `to` goes on, past those who are ready.
    #[inline(always)]
    pub fn suspend_for<'a>(&'a self, g: &'a Greenlet, to: &Greenlet) -> (&'a Hub, &'a Greenlet) {
        if self.hooks.get().is_some() {
            self.call_leave_hook(g);
        }
        self.pass_plainly(g, to)
    }

    /// As `suspend_for`, where there are no hooks.
    #[inline(always)]
    fn pass_plainly<'a>(&'a self, g: &'a Greenlet, to: &Greenlet) -> (&'a Hub, &'a Greenlet) {
        if self.has_exceptions() {
            return self.suspend_in_flight(g, Some(to));
        }
        let errno = self.errno();
        let (hub, g) = self.pass(g, to);
        hub.go_on(g, errno);
        (hub, g)
    }

    /// Whether a switch is a switch and nothing else: see `pass_to_suspended`.
    #[inline(always)]
    pub fn switches_plainly(&self) -> bool {
        Fiber::HANDS_ON && self.hooks.get().is_none() && !self.has_exceptions()
    }

    /// As `suspend_for`, where `switches_plainly`, to one that has begun.
    #[inline(always)]
    pub fn pass_to_suspended<'a>(&'a self, g: &'a Greenlet, to: &Greenlet) -> (&'a Hub, &'a Greenlet) {
        let errno = self.errno();
        let (hub, g) = self.go_on_with(g, to);
        hub.go_on(g, errno);
        (hub, g)
    }

    /// Goes on with who comes next: directly if it is suspended, else by the root.
    #[inline(always)]
    fn give_way<'a>(&'a self, g: &'a Greenlet) -> (&'a Hub, &'a Greenlet) {
        if self.spends_budget()
            && let Some(next) = self.ready.pop()
        {
            self.prefetch();
            // SAFETY: what is in the ready ring is alive.
            return self.pass(g, unsafe { &*next });
        }
        self.give_way_to_root(g)
    }

    /// Out of the way, so that those who find somebody go straight on.
    #[cold]
    #[inline(never)]
    fn give_way_to_root<'a>(&'a self, g: &'a Greenlet) -> (&'a Hub, &'a Greenlet) {
        self.suspend_to_root(g)
    }

    /// One resume less until the loop looks round; false when it is time to. What is spent
    /// and not used does no harm.
    #[inline(always)]
    pub fn spends_budget(&self) -> bool {
        let left = self.budget.get() - 1;
        self.budget.set(left);
        left >= 0
    }

    /// Goes on with `next`, whose turn it is.
    #[inline(always)]
    fn pass<'a>(&'a self, g: &'a Greenlet, next: &Greenlet) -> (&'a Hub, &'a Greenlet) {
        if next.fiber.is_suspended() { self.go_on_with(g, next) } else { self.pass_to_fresh(g, next) }
    }

    /// As `pass`, to one that has not begun; as `give_way_to_root`, out of the way.
    #[cold]
    #[inline(never)]
    fn pass_to_fresh<'a>(&'a self, g: &'a Greenlet, next: &Greenlet) -> (&'a Hub, &'a Greenlet) {
        if self.begins_at_hand(next) {
            return self.go_on_with(g, next);
        }
        // It is over before it has begun, or fibers go by way of the root.
        self.next.set(next);
        self.suspend_to_root(g)
    }

    /// As `pass`, to one that is suspended, or is `g` itself.
    #[inline(always)]
    fn go_on_with<'a>(&'a self, g: &'a Greenlet, next: &Greenlet) -> (&'a Hub, &'a Greenlet) {
        self.current.set(next);
        next.state.set(State::Running);
        // SAFETY: g is current, so this is its stack; the other is suspended.
        Hub::who_goes_on(unsafe { g.fiber.pass(&next.fiber, &self.root) })
    }

    #[inline(always)]
    fn suspend_to_root<'a>(&'a self, g: &'a Greenlet) -> (&'a Hub, &'a Greenlet) {
        if self.is_main(g) {
            self.run_until_main(); // this is the root
            return (self, &self.main);
        }
        // SAFETY: g is current, so this is its stack.
        Hub::who_goes_on(unsafe { g.fiber.suspend(&self.root) })
    }

    /// The hub and the greenlet that go on after a switch.
    #[inline(always)]
    fn who_goes_on<'a>((fiber, root): (*const Fiber, *const Root)) -> (&'a Hub, &'a Greenlet) {
        // SAFETY: a switch returns the fiber that suspended and its hub's root, and
        // fibers lie in living records.
        unsafe { (Hub::of_root(root), Greenlet::of_fiber(fiber)) }
    }

    /// # Safety
    /// `root` is a hub's.
    #[inline(always)]
    unsafe fn of_root<'a>(root: *const Root) -> &'a Hub {
        // SAFETY: by contract.
        unsafe { &*root.byte_sub(std::mem::offset_of!(Hub, root)).cast() }
    }

    /// Runs the loop on main's stack, which somebody has suspended to, or `returned` to,
    /// while main waits, until it is main's turn.
    extern "C" fn be_root(root: *const Root, returned: bool) {
        // SAFETY: this function was given to hubs' roots alone.
        let hub = unsafe { Hub::of_root(root) };
        if returned {
            hub.finish(hub.current());
        }
        hub.run_until_main();
    }

    /// Makes a parked greenlet ready; `code` is 0 or why its wait failed.
    #[inline(always)]
    pub fn wake(&self, g: &Greenlet, code: i32) {
        if g.state.get() == State::Parked {
            self.timers.cancel(&g.timer);
            if code != 0 {
                // Its wait has failed: nothing must be handed to it from now on.
                g.node.unlink();
            }
            g.wake_code.set(code);
            g.state.set(State::Ready);
            self.ready.push(g);
        }
    }

    pub fn reset_clock(&self) {
        self.trim_at.set(0);
        self.round_at.set(sys::monotonic_ns());
    }

    // ---- reports ---------------------------------------------------------------

    /// Says so if `address` lies in the guard page of the running greenlet.
    fn explain_overflow(address: usize) {
        let Some(hub) = Hub::existing() else { return };
        let g = hub.current();
        let Some((low, top)) = hub.stack_bounds(g) else { return };
        if (low - hub.stacks.guard()..low).contains(&address) {
            g.peek_extra(|x| overflow::report(x.name.as_deref(), g.id.get(), top - low))
                .unwrap_or_else(|| overflow::report(None, g.id.get(), top - low));
        }
    }

    /// Tells the error handler of a failure (`greenlet` 0: of the loop).
    pub fn report_failure(&self, greenlet: i64, error: Error, message: &str) {
        let text = std::ffi::CString::new(message.replace('\0', " ")).unwrap_or_default();
        match self.error_handler.get() {
            Some((f, user)) => {
                let call = || f(greenlet, error.code(), text.as_ptr(), user);
                if fence::call(|| "the error handler".into(), call).is_err() {
                    sys::descriptor::tell("weald: the error handler panicked\n");
                }
            }
            None => {
                let text = self.failure_text(greenlet, error, message);
                sys::descriptor::tell(&format!("weald: {text}\n"));
            }
        }
    }

    /// Gives a report to the report handler, as the loop, or to stderr.
    pub fn report(&self, text: &str) {
        let Some((f, user)) = self.report_handler.get() else {
            return sys::descriptor::tell(text);
        };
        let text = std::ffi::CString::new(text.replace('\0', " ")).unwrap_or_default();
        self.as_loop(&|| "the report handler".into(), || f(text.as_ptr(), user));
    }

    /// For reports: what the current greenlet is about to wait for.
    #[inline(always)]
    pub fn note_wait(&self, g: &Greenlet, why: Waiting) {
        g.waiting.set(why);
        g.since.set(self.now.get());
    }
}
