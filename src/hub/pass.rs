//! Passing from one greenlet to the next: what a switch saves, and who goes on.

use super::Hub;
use crate::fiber::{Fiber, Root};
use crate::greenlet::{Greenlet, State};
use crate::hooks::Hooks;
use crate::sys;
use std::ffi::c_int;

impl Hub {
    // What belongs to the running greenlet but lives in the thread: errno, and C++'s
    // exceptions in flight. The binding's `leave` hook saves the rest.

    #[inline(always)]
    pub(super) fn errno(&self) -> c_int {
        // SAFETY: this thread's.
        unsafe { *self.errno }
    }

    /// What `g` does first, with the errno that it left.
    #[inline(always)]
    pub(super) fn go_on(&self, g: &Greenlet, errno: c_int) {
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

    pub(super) fn take_exceptions(&self) -> [usize; 2] {
        // SAFETY: as above.
        unsafe { self.cxa.get().replace([0; 2]) }
    }

    pub(super) fn give_exceptions(&self, exceptions: [usize; 2]) {
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
    pub(super) fn call_leave_hook(&self, g: &Greenlet) {
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
    pub(super) fn look_for_cxa(&self) {
        let found = sys::cxa_globals();
        // Without C++ there is nothing to switch; a place of our own spares the test.
        self.cxa.set(if found.is_null() { self.no_cxa.get() } else { found });
    }

    /// Gives control away; returns when the current greenlet is resumed. One of the two
    /// places where a greenlet stops running. Inlined into every function that blocks:
    /// each frame between here and the caller costs a return that may be mispredicted. (With
    /// the way to the root alone in a function of its own, which one yield of 64 takes, a
    /// yield cost 8.9 ns instead of 7.7.)
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
        if !self.switches_plainly() {
            return None;
        }
        // SAFETY: who is in the ready ring is alive.
        let may_go = |next: *const Greenlet| unsafe { &*next }.fiber.is_suspended() && self.spends_budget();
        let next = self.ready.exchange(g, may_go)?;
        g.state.set(State::Ready);
        self.prefetch();
        // SAFETY: as above.
        Some(self.pass_to_suspended(g, unsafe { &*next }))
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
        if next.fiber.is_suspended() || self.begins_at_hand(next) {
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
    pub(super) extern "C" fn be_root(root: *const Root, returned: bool) {
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
}
