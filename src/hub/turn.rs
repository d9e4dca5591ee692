//! The loop's turn: whom it resumes, what it does between, how it sleeps. See the picture in
//! `hub`, and "A turn" in docs/design.md.

use super::{Hub, Phase, SLICES};
use crate::error::{Error, Result};
use crate::greenlet::{Greenlet, State};
use crate::poller::{self, FdNode};
use crate::timer::TimerNode;
use crate::{fork, sys};
use std::ffi::c_int;
use std::sync::atomic::Ordering::SeqCst;

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

impl Hub {
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
            let is_called = self.embedded.get() && self.remote.mailbox.has_pending();
            self.round(limit);
            if is_called {
                // Or else the descriptor tells a foreign loop of those posts once more.
                let _ = self.ask(Some(0));
                self.polled(self.now.get());
            }
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
}
