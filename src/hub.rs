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
mod pass;
mod thread;
mod turn;

use crate::error::{Error, Result};
use crate::fence;
use crate::fiber::Root;
use crate::greenlet::{Greenlet, LOOPING, LinkFn, Record, State, Waiting};
use crate::handle::Table;
use crate::hooks::Hooks;
use crate::poller::Poller;
use crate::ready::Ring;
use crate::registry::{self, Post, PostFn, Remote};
use crate::spare::Spares;
use crate::stack::Stacks;
use crate::stats::Stats;
use crate::timer::Timers;
use crate::waitlist::WaitList;
use crate::{fork, overflow, remote, sys};
use std::any::{Any, TypeId};
use std::cell::{Cell, UnsafeCell};
use std::collections::{HashMap, VecDeque};
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Greenlets resumed between two looks at the clock. With 64 a look costs a yield
/// 0.4 ns; when slices are long the number shrinks (see `adapt`).
const SLICES: i32 = 64;

/// A round runs as many posts of other threads as it resumes greenlets, so that those which
/// posts make do not become more and more, with a stack each; but not fewer than this.
const FEWEST_POSTS: i32 = 8;

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
        crate::reserve::ask_malloc()?; // glibc ends a process that can not note a thread's end
        let poller = Poller::new()?;
        let number = registry::take_number()?;
        let mailbox = remote::Mailbox::new(poller.waker());
        let remote = Arc::new(Remote { number: number.number, mailbox, exposed: AtomicUsize::new(0) });
        let stacks = Stacks::new();
        let class = stacks.class(0)?;
        let record = |id| Record::new(id, class, Hub::greenlet_timer, Hub::greenlet_fd);
        let (main, looper) = (record(0)?, record(-1)?);
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
            looper,
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
        let slices = self.slices.get().max(FEWEST_POSTS);
        let mut posts = self.remote.mailbox.take(slices as usize);
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
