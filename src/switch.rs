//! Raw switching between coroutines: what `greenlet` is to gevent.
//!
//! A coroutine is a greenlet that nobody schedules: it runs when somebody switches
//! to it. A switch suspends to the root, which resumes the target next. Under the
//! hub a coroutine may also block; then it is parked and woken like any greenlet.

use crate::error::{Error, Result};
use crate::greenlet::{Body, Greenlet, State, Waiting};
use crate::hub::Hub;
use crate::time::Deadline;
use std::ffi::c_void;

impl Hub {
    /// The usual switch, as `switch_to`, from one who may wait (so it is not the loop) to one
    /// who waits for it. None, with nothing done, where there is more to it.
    #[inline(always)]
    pub fn switch_at_hand(&self, to: &Greenlet, value: *mut c_void) -> Option<Result<*mut c_void>> {
        let me = self.current();
        if me.attention.get() != 0 || to.state.get() != State::Switched || !self.switches_plainly() {
            return None;
        }
        to.value.set(value);
        to.wake_code.set(0);
        to.orphan.set(false);
        me.state.set(State::Switched);
        me.waiting.set(Waiting::Switched);
        Some(received(self.pass_to_suspended(me, to).1))
    }

    /// Switches to `to`, handing it `value`; returns what is handed to us when
    /// somebody switches back, or the code thrown into us.
    pub fn switch_to(&self, to: &Greenlet, value: *mut c_void) -> Result<*mut c_void> {
        let me = self.current();
        self.check()?;
        if std::ptr::eq(to, me) {
            return Ok(value);
        }
        self.accepts_switch(to)?;
        if to.state.get() == State::New {
            self.start_by_switch(to)?;
        }
        to.value.set(value);
        to.wake_code.set(0);
        self.leave_for(me, to)
    }

    /// Switches to `to`, whose switch fails with `code`. A coroutine that has not
    /// begun never will: the code goes on to its parent.
    pub fn throw_into(&self, to: &Greenlet, code: i32) -> Result<*mut c_void> {
        self.check()?;
        let me = self.current();
        if std::ptr::eq(to, me) {
            return Err(Error::from_code(code));
        }
        self.accepts_switch(to)?;
        if to.state.get() != State::New {
            to.wake_code.set(code);
            return self.leave_for(me, to);
        }
        self.retain(to);
        self.end_by_throw(to, code);
        // Its parent may be us: from here on we count as switched away.
        me.state.set(State::Switched);
        me.wake_code.set(0);
        self.return_to_parent(to);
        self.release(to);
        let next = self.next.get();
        if next.is_null() || std::ptr::eq(next, me) {
            self.next.set(std::ptr::null());
            me.state.set(State::Running);
            return received(me);
        }
        self.next.set(std::ptr::null());
        me.waiting.set(Waiting::Switched);
        // SAFETY: `return_to_parent` saw it alive, and nothing ran since.
        self.suspend_for(me, unsafe { &*next });
        received(me)
    }

    /// Waits until somebody switches to the current greenlet or wakes it; returns what it
    /// is handed then.
    pub fn wait_for_switch(&self, deadline: Deadline) -> Result<*mut c_void> {
        self.check()?;
        self.may_park()?;
        let me = self.current();
        self.before_park(me, deadline)?;
        me.wake_code.set(0);
        me.value.set(std::ptr::null_mut());
        self.note_wait(me, Waiting::Switched);
        me.state.set(State::Switched);
        let (hub, me) = self.suspend(me);
        hub.timers.cancel(&me.timer); // of whoever was switched to at once
        hub.outcome(me).map(|()| me.value.get())
    }

    /// As a switch to `to` with `value`, but the loop makes it, in its turn.
    pub fn switch_later(&self, to: &Greenlet, value: *mut c_void) -> Result<()> {
        if to.state.get() != State::Switched {
            self.accepts_first_switch(to)?;
            self.start_by_switch(to)?;
        }
        to.value.set(value);
        self.switch_on(to, 0);
        Ok(())
    }

    /// Has a greenlet that waits for a switch go on in its turn: with its value, or failing
    /// with `code`.
    pub fn switch_on(&self, g: &Greenlet, code: i32) {
        g.orphan.set(false);
        g.wake_code.set(code);
        g.state.set(State::Ready);
        self.ready.push(g);
    }

    /// Makes `parent` the one that `g`, a coroutine, returns to. EINVAL when that would be
    /// itself in the end.
    pub fn set_parent(&self, g: &Greenlet, parent: &Greenlet) -> Result<()> {
        if !self.is_coroutine(g) {
            return Err(Error::INVAL);
        }
        let mut above = Some(parent);
        while let Some(one) = above {
            if std::ptr::eq(one, g) {
                return Err(Error::INVAL);
            }
            above = self.greenlet(one.parent.get()).ok().filter(|_| self.is_coroutine(one));
        }
        g.parent.set(parent.handle.get());
        Ok(())
    }

    #[inline(always)]
    fn accepts_switch(&self, to: &Greenlet) -> Result<()> {
        self.may_park()?;
        // No match: it would become an indirect jump.
        if to.state.get() == State::Switched {
            return Ok(());
        }
        self.accepts_first_switch(to)
    }

    #[cold]
    fn accepts_first_switch(&self, to: &Greenlet) -> Result<()> {
        match to.state.get() {
            State::New if self.is_coroutine(to) => Ok(()),
            // Its end would return to nobody.
            State::New => Err(Error::INVAL),
            State::Done => Err(Error::ALREADY),
            _ => Err(Error::BUSY),
        }
    }

    /// Here and not at its first resume: without a stack it is our switch that fails.
    fn start_by_switch(&self, to: &Greenlet) -> Result<()> {
        self.give_stack(to)?;
        self.timers.cancel(&to.timer);
        self.alive.set(self.alive.get() + 1);
        Ok(())
    }

    #[inline(always)]
    fn leave_for(&self, me: &Greenlet, to: &Greenlet) -> Result<*mut c_void> {
        to.orphan.set(false);
        me.state.set(State::Switched);
        me.waiting.set(Waiting::Switched);
        let (_, me) = self.suspend_for(me, to);
        received(me)
    }

    /// A coroutine has ended: its parent (or main) gets the value or the code, if it
    /// can be switched to.
    pub fn return_to_parent(&self, g: &Greenlet) {
        if g.orphan.get() {
            return;
        }
        let parent = self.greenlet(g.parent.get()).ok().filter(|p| p.state.get() == State::Switched);
        let main = Some(&*self.main).filter(|m| m.state.get() == State::Switched);
        let Some(parent) = parent.or(main) else { return };
        parent.value.set(g.value.get());
        parent.wake_code.set(g.error.get());
        self.next.set(parent);
    }

    pub fn is_coroutine(&self, g: &Greenlet) -> bool {
        matches!(g.body.get(), Body::Coroutine(_))
    }
}

/// What was handed to the greenlet that goes on after a switch.
#[inline]
fn received(me: &Greenlet) -> Result<*mut c_void> {
    match me.wake_code.get() {
        0 => Ok(me.value.get()),
        code => Err(Error::from_code(code)),
    }
}
