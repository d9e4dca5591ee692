//! Parking and waking: how a greenlet waits for something.
//!
//! ```text
//! check       may it block at all? killed, interrupted, a scope's timeout: no
//! note, link  say what it waits for, enter the lists of those who can end the wait
//! park        suspend until woken, or until the deadline
//! unlink      whatever ended it: no list points to it any more
//! ```
//!
//! Who ends a wait gives a code: 0, or why it failed. A taker in a list is *granted*
//! what it waited for in the same step that makes it ready, so a deadline can not
//! come in between. A kill can: then the waiter gives back what it was granted.

use crate::error::{Error, Result};
use crate::greenlet::{Greenlet, INTERRUPTED, KILLED, SCOPED, State, Waiting};
use crate::hub::Hub;
use crate::time::{Deadline, now};
use crate::waitlist::{Role, WaitList, WaitNode};
use std::ffi::c_void;

/// How a wait in a list ended.
pub enum Waited {
    Granted(*mut c_void),
    /// Granted, but killed before it could run: the caller gives it back.
    Returned(*mut c_void, Error),
    Failed(Error),
}

/// What a short way has come to.
pub enum AtHand<T> {
    Done(T),
    /// There is nothing to do but to wait, and nothing to look at before that but the
    /// deadline and the hooks.
    MustWait,
    /// Nothing was done: the long way knows.
    Unknown,
}

impl Hub {
    /// Whether the current greenlet may make a blocking call: ECANCELED when it was
    /// killed, the code it was interrupted with, ETIMEDOUT in an expired scope.
    #[inline(always)]
    pub fn check(&self) -> Result<()> {
        let g = self.current();
        if g.attention.get() == 0 { Ok(()) } else { self.check_attention(g) }
    }

    #[cold]
    #[inline(never)]
    fn check_attention(&self, g: &Greenlet) -> Result<()> {
        let attention = g.attention.get();
        if attention & KILLED != 0 {
            return Err(Error::CANCELED);
        }
        if attention & INTERRUPTED != 0 {
            g.unflag(INTERRUPTED);
            return Err(Error::from_code(g.interrupt.take()));
        }
        if attention & SCOPED != 0 && self.expire_scopes(g) {
            return Err(Error::TIMEDOUT);
        }
        Ok(())
    }

    /// Marks the scopes of `g` whose time has come; whether there are any.
    fn expire_scopes(&self, g: &Greenlet) -> bool {
        let now = now();
        g.peek_extra(|x| {
            let mut any = false;
            for scope in x.scopes.iter().filter(|s| s.active.get() && s.deadline.get() <= now) {
                scope.fired.set(true);
                any = true;
            }
            any
        })
        .unwrap_or(false)
    }

    /// Takes back what a call that has succeeded after all has marked. Of the scopes that
    /// are active none can have fired before it: it would have failed at once.
    pub fn unfire_scopes(&self, g: &Greenlet) {
        g.peek_extra(|x| x.scopes.iter().filter(|s| s.active.get()).for_each(|s| s.fired.set(false)));
    }

    /// The earliest of `deadline` and the scopes of `g`.
    #[cold]
    fn scoped(&self, g: &Greenlet, deadline: Deadline) -> Deadline {
        let scopes = g.peek_extra(|x| x.scopes.iter().filter(|s| s.active.get()).map(|s| s.deadline.get()).min());
        let nearest = scopes.flatten().unwrap_or(i64::MAX).max(1);
        deadline.min(Deadline::from_raw(nearest))
    }

    /// Whether the current greenlet may suspend here at all: not in a loop callback,
    /// and not when the binding forbids it now.
    #[inline(always)]
    pub fn may_park(&self) -> Result<()> {
        if self.hooks.get().is_none() && !self.in_callback() { Ok(()) } else { self.may_park_at_all() }
    }

    #[cold]
    #[inline(never)]
    fn may_park_at_all(&self) -> Result<()> {
        if self.in_callback() {
            return Err(Error::WOULDBLOCK);
        }
        match self.hooks.get().and_then(|h| h.may_park) {
            Some(may_park) if may_park() == 0 => Err(Error::PERM),
            _ => Ok(()),
        }
    }

    /// Suspends the current greenlet until somebody wakes it, or until `deadline`
    /// (ETIMEDOUT; EAGAIN when that is "now"). The caller has called `check`, and
    /// has put the greenlet where it will be found.
    #[inline(always)]
    pub fn park(&self, deadline: Deadline, why: Waiting) -> Result<()> {
        let g = self.current();
        self.before_park(g, deadline)?;
        let (hub, g) = self.suspend_parked(g, why);
        hub.outcome(g)
    }

    /// The last thing that may fail before a wait: from here on `g` has its timer.
    #[inline(always)]
    pub fn before_park(&self, g: &Greenlet, deadline: Deadline) -> Result<()> {
        // The loop's own record always wants attention, so this is no callback either.
        let is_usual = deadline.is_never() && g.attention.get() == 0 && self.hooks.get().is_none();
        if is_usual { Ok(()) } else { self.before_unusual_park(g, deadline) }
    }

    #[inline(never)]
    fn before_unusual_park(&self, g: &Greenlet, deadline: Deadline) -> Result<()> {
        if deadline.is_now() {
            return Err(Error::AGAIN);
        }
        self.may_park()?;
        let mut deadline = deadline;
        if g.attention.get() & SCOPED != 0 {
            g.own_deadline.set(deadline.ns());
            deadline = self.scoped(g, deadline);
        }
        if !deadline.is_never() {
            if deadline.has_passed() {
                return self.timed_out(g);
            }
            self.timers.set(&g.timer, deadline.ns())?;
        }
        Ok(())
    }

    #[inline(always)]
    fn suspend_parked<'a>(&'a self, g: &'a Greenlet, why: Waiting) -> (&'a Hub, &'a Greenlet) {
        self.note_wait(g, why);
        g.state.set(State::Parked);
        self.suspend(g)
    }

    /// How the wait that `g` comes back from has ended.
    #[inline(always)]
    pub fn outcome(&self, g: &Greenlet) -> Result<()> {
        match g.wake_code.get() {
            0 => Ok(()),
            code if code == Error::TIMEDOUT.code() => self.timed_out(g),
            code => Err(Error::from_code(code)),
        }
    }

    /// The scopes of `g` have changed: if it is parked, so does its timer.
    pub fn rescope(&self, g: &Greenlet) {
        if !matches!(g.state.get(), State::Parked | State::Switched) || !g.timer.is_set() {
            return;
        }
        let deadline = self.scoped(g, Deadline::from_raw(g.own_deadline.get()));
        self.timers.cancel(&g.timer);
        if !deadline.is_never() {
            // There is room: a timer was cancelled just now.
            let _ = self.timers.set(&g.timer, deadline.ns());
        }
    }

    #[cold]
    fn timed_out(&self, g: &Greenlet) -> Result<()> {
        if g.attention.get() & SCOPED != 0 {
            self.expire_scopes(g);
        }
        Err(Error::TIMEDOUT)
    }

    /// Waits in `list` until granted. `value` is what this waiter hands over. The list
    /// may be gone when this returns, with the object it lies in, unless the caller has
    /// a share in that.
    #[inline(always)]
    pub fn wait_in(&self, list: &WaitList, role: Role, value: *mut c_void, deadline: Deadline, why: Waiting) -> Waited {
        let g = self.current();
        if let Err(e) = self.before_park(g, deadline) {
            g.node.refused.set(false);
            return Waited::Failed(e);
        }
        list.enter(&g.node, role, value);
        let (hub, g) = self.suspend_parked(g, why);
        hub.waited(g)
    }

    /// As `wait_in`, as a taker and for ever, of one who wants no attention, where there are
    /// no hooks.
    #[inline(always)]
    pub fn wait_plainly_in(&self, list: &WaitList, value: *mut c_void, why: Waiting) -> Waited {
        let g = self.current();
        list.enter_plainly(&g.node, value);
        self.note_wait(g, why);
        g.state.set(State::Parked);
        let (hub, g) = self.suspend_plainly(g);
        hub.waited(g)
    }

    /// How the wait in a list that `g` comes back from has ended.
    #[inline(always)]
    fn waited(&self, g: &Greenlet) -> Waited {
        let node = &g.node;
        if node.granted.get() {
            if g.attention.get() & KILLED != 0 {
                return Waited::Returned(node.value.get(), Error::CANCELED);
            }
            return Waited::Granted(node.value.get());
        }
        self.not_granted(g)
    }

    #[cold]
    #[inline(never)]
    fn not_granted(&self, g: &Greenlet) -> Waited {
        g.node.unlink();
        // Not granted and not failed: woken to look at the object's end.
        Waited::Failed(self.outcome(g).err().unwrap_or(Error::BADF))
    }

    /// Ends the wait of a node that has left its list: it has what it waited for.
    #[inline(always)]
    pub fn grant(&self, node: &WaitNode) {
        node.granted.set(true);
        // SAFETY: the owner of a linked node is a living record.
        self.wake(unsafe { &*node.owner.get().cast::<Greenlet>() }, 0);
    }

    /// Ends the wait of a list's first node, as `remove_first` and `grant` do, if that takes
    /// no call: it waits plainly. So a short way needs no frame.
    #[inline(always)]
    pub fn grant_first(&self, list: &WaitList, node: &WaitNode) -> bool {
        if !node.is_plain.get() {
            return false;
        }
        // SAFETY: as above.
        let g = unsafe { &*node.owner.get().cast::<Greenlet>() };
        debug_assert!(g.state.get() == State::Parked && !g.timer.is_set());
        list.remove_first(node);
        node.granted.set(true);
        g.state.set(State::Ready);
        self.ready.push(g);
        true
    }

    /// Ends the wait of a node that has left its list, with a failure.
    pub fn refuse(&self, node: &WaitNode, error: Error) {
        node.refused.set(true);
        // SAFETY: as above.
        self.wake(unsafe { &*node.owner.get().cast::<Greenlet>() }, error.code());
    }

    /// Everybody in `list` fails with `error`.
    pub fn refuse_all(&self, list: &WaitList, error: Error) {
        while let Some(node) = list.pop() {
            self.refuse(node, error);
        }
    }

    /// Tells the observers at the head of `list` to look again, and returns the
    /// first taker behind them, which stays in the list.
    #[inline(always)]
    pub fn first_taker<'a>(&self, list: &'a WaitList) -> Option<&'a WaitNode> {
        let node = list.first()?;
        if node.role.get() != Role::Observer { Some(node) } else { self.taker_behind_observers(list) }
    }

    #[cold]
    #[inline(never)]
    fn taker_behind_observers<'a>(&self, list: &'a WaitList) -> Option<&'a WaitNode> {
        loop {
            let node = list.first()?;
            if node.role.get() != Role::Observer {
                return Some(node);
            }
            node.unlink();
            self.grant(node);
        }
    }

    /// The usual yield, as `yield_now`. None, with nothing done, where there is more to it.
    #[inline(always)]
    pub fn yield_at_hand(&self) -> Option<Result<()>> {
        let g = self.current();
        if g.attention.get() != 0 {
            return None;
        }
        let (hub, g) = self.take_turns(g)?;
        Some(hub.check_after(g))
    }

    /// Lets everything that is ready run first.
    #[inline(always)]
    pub fn yield_now(&self) -> Result<()> {
        let g = self.current();
        self.check()?;
        // Alone: nothing to wait for, but now and then the loop must look round.
        if self.ready.is_empty() && !self.in_callback() && self.spends_budget() {
            return Ok(());
        }
        self.may_park()?;
        g.state.set(State::Ready);
        self.ready.push(g);
        let (hub, g) = self.suspend(g);
        hub.check_after(g)
    }

    /// A kill or interrupt that came while `g` was ready to go on.
    #[inline]
    fn check_after(&self, g: &Greenlet) -> Result<()> {
        if g.attention.get() & (KILLED | INTERRUPTED) == 0 { Ok(()) } else { self.check_attention(g) }
    }

    /// Sleeps until `deadline`; zero and the past are one yield.
    pub fn sleep_until(&self, deadline: Deadline) -> Result<()> {
        self.check()?;
        if deadline.is_now() || deadline.has_passed() {
            return self.yield_now();
        }
        let g = self.current();
        let scopes_before = g.attention.get() & SCOPED;
        g.waiting.set(Waiting::Nothing);
        match self.park(deadline, Waiting::Sleep) {
            // Its own deadline is the sleep's success; a scope's is not.
            Err(Error::TIMEDOUT) if deadline.has_passed() => {
                if scopes_before != 0 && self.expire_scopes(g) {
                    return Err(Error::TIMEDOUT);
                }
                // It may have passed between the two looks at the clock.
                if g.waiting.get() == Waiting::Nothing { self.yield_now() } else { self.check_after(g) }
            }
            other => other,
        }
    }

    /// Goes on when nothing else is ready; a higher priority first.
    pub fn idle(&self, priority: i32) -> Result<()> {
        self.check()?;
        self.may_park()?;
        // The value slot holds the priority; equal priorities go in order.
        let place = self.idlers.iter().find(|n| (n.value.get() as isize as i32) < priority);
        let later: Vec<&WaitNode> = match place {
            Some(first) => self.idlers.iter().skip_while(|n| !std::ptr::eq(*n, first)).collect(),
            None => Vec::new(),
        };
        later.iter().for_each(|n| n.unlink());
        let g = self.current();
        self.idlers.enter(&g.node, Role::Taker, priority as isize as *mut c_void);
        later.iter().for_each(|n| self.idlers.push(n));
        let result = self.park(Deadline::NEVER, Waiting::Idle);
        g.node.unlink();
        result
    }
}
