//! The life of a greenlet: made, started, ended, killed.

use crate::error::{Error, Result};
use crate::fence;
use crate::fiber::Fiber;
use crate::greenlet::{
    Body, DestroyFn, Greenlet, INTERRUPTED, KILLED, Link, LinkFn, LinkWhen, OnEnd, Record, SCOPED, State, Waiting,
};
use crate::handle::{Kind, Object, may_be_renewed};
use crate::hooks::Hooks;
use crate::hub::{Callback, Hub};
use crate::stack::Class;
use crate::sys;
use crate::time::Deadline;
use std::ffi::{CString, c_void};

/// How to make a greenlet; see `weald_spawn_options`.
pub struct Options<'a> {
    pub name: Option<&'a str>,
    pub stack_size: usize,
    pub delay_ns: i64,
    pub destroy: Option<DestroyFn>,
    pub detached: bool,
    pub user: *mut c_void,
    pub site: usize,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            name: None,
            stack_size: 0,
            delay_ns: 0,
            destroy: None,
            detached: false,
            user: std::ptr::null_mut(),
            site: 0,
        }
    }
}

// SAFETY: the table's reference is one of the record's; `close` gives it back.
unsafe impl Object for Greenlet {
    const KIND: Kind = Kind::Greenlet;
    unsafe fn close(this: *const Greenlet) {
        if let Some(hub) = Hub::existing() {
            // SAFETY: alive by the reference that is being dropped.
            hub.release(unsafe { &*this });
        }
    }
}

impl Hub {
    // ---- making ----------------------------------------------------------------

    /// A greenlet that has not been started. Either all of it is made or nothing.
    #[inline(always)]
    pub fn create_greenlet(&self, body: Body, arg: *mut c_void, class: Class, site: usize) -> Result<&Greenlet> {
        self.stacks.reserve(class)?;
        if let Err(e) = self.ready.reserve_one() {
            self.stacks.unreserve(class);
            return Err(e);
        }
        let record = match self.spares.pop() {
            Some(spare) => Ok(self.renewed(spare)),
            None => self.make_record(class),
        };
        let g = match record {
            Ok(g) => g,
            Err(e) => {
                self.ready.unreserve_one();
                self.stacks.unreserve(class);
                return Err(e);
            }
        };
        self.furnish(g, body, arg, class, site);
        Ok(g)
    }

    /// How many greenlets there have been: they are numbered from 1.
    pub fn spawned(&self) -> u64 {
        self.next_id.get() as u64 - 1
    }

    /// Fills in a record that is new, or was put away.
    #[inline(always)]
    fn furnish(&self, g: &Greenlet, body: Body, arg: *mut c_void, class: Class, site: usize) {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        g.id.set(id);
        // These four lie together, and are written at once.
        g.refs.set(2); // the table's, and one until it is done
        g.class.set(class);
        g.is_let_go.set(false);
        g.is_dirty.set(false);
        g.body.set(body);
        g.arg.set(arg);
        g.site.set(site);
        g.parent.set(self.current().handle.get());
        g.born.set(self.now.get());
    }

    /// A record that was put away, with its next handle.
    #[inline(always)]
    fn renewed(&self, record: Record) -> &Greenlet {
        let g: *const Greenlet = record.into_raw();
        // SAFETY: nobody else has it.
        let g = unsafe { &*g };
        g.handle.set(self.table.renew::<Greenlet>(g.handle.get()));
        g
    }

    /// A new record, with its first handle. It keeps its place in the table while it is
    /// spare.
    #[cold]
    #[inline(never)]
    fn make_record(&self, class: Class) -> Result<&Greenlet> {
        sys::may_fail(sys::Call::Alloc)?;
        let record = Record::new(0, class, Hub::greenlet_timer, Hub::greenlet_fd)?;
        record.handle.set(self.table.insert(&raw const *record)?);
        let g: *const Greenlet = record.into_raw();
        // SAFETY: just made.
        Ok(unsafe { &*g })
    }

    /// spawn with options: made, named, and started now or later.
    pub fn spawn_with(&self, body: Body, arg: *mut c_void, options: &Options, start: bool) -> Result<&Greenlet> {
        let class = self.stacks.class(options.stack_size)?;
        let g = self.create_greenlet(body, arg, class, options.site)?;
        if options.destroy.is_some() {
            g.set_destructor(options.destroy);
        }
        if !options.user.is_null() {
            g.set_user(options.user);
        }
        if let Some(name) = options.name {
            g.with_extra(|x| x.name = Some(name.into()));
        }
        let is_new = self.hooks.get().is_none_or(|hooks| self.announce(g, hooks));
        if !start || !is_new {
        } else if options.delay_ns > 0 {
            if let Err(e) = self.start_later(g, options.delay_ns) {
                self.discard(g);
                return Err(e);
            }
        } else {
            self.start(g);
        }
        if options.detached {
            self.let_go(g); // nobody but a hook has seen the handle: it dies with the greenlet
        }
        Ok(g)
    }

    /// Tells the binding of a new greenlet; whether it is new still. The hook should not
    /// use the library: should it close the handle, the spawner has it all the same.
    #[cold]
    fn announce(&self, g: &Greenlet, hooks: &Hooks) -> bool {
        let handle = g.handle.get();
        self.table.hold(handle);
        hooks.on_created(g);
        self.table.unhold(handle);
        g.state.get() == State::New
    }

    /// The short form, where all that it takes is at hand, as it is after a while. None, with
    /// nothing done, where it is not: nothing here calls anything, so no register is saved.
    #[inline(always)]
    pub fn spawn_at_hand(&self, body: Body, arg: *mut c_void, site: usize) -> Option<&Greenlet> {
        let spare = self.spares.last()?;
        if self.hooks.get().is_some() || !self.stacks.reserve_at_hand() {
            return None;
        }
        let class = self.stacks.default_class();
        if !self.ready.reserve_at_hand() {
            self.stacks.unreserve(class);
            return None;
        }
        let g = self.renewed(spare.take());
        self.furnish(g, body, arg, class, site);
        self.start_fresh(g);
        Some(g)
    }

    /// The short form.
    pub fn spawn(&self, body: Body, arg: *mut c_void, site: usize) -> Result<&Greenlet> {
        let class = self.stacks.default_class();
        let g = self.create_greenlet(body, arg, class, site)?;
        if self.hooks.get().is_none_or(|hooks| self.announce(g, hooks)) {
            self.start_fresh(g);
        }
        Ok(g)
    }

    /// Puts a new greenlet at the end of the ready queue.
    pub fn start(&self, g: &Greenlet) {
        self.timers.cancel(&g.timer);
        self.start_fresh(g);
    }

    /// As `start`, for one that was made just now.
    #[inline(always)]
    fn start_fresh(&self, g: &Greenlet) {
        g.state.set(State::Ready);
        self.alive.set(self.alive.get() + 1);
        self.ready.push(g);
    }

    pub fn start_later(&self, g: &Greenlet, delay_ns: i64) -> Result<()> {
        self.timers.cancel(&g.timer);
        self.timers.set(&g.timer, Deadline::after(delay_ns).ns())
    }

    /// Takes back a greenlet that was made and never started, its argument untouched.
    fn discard(&self, g: &Greenlet) {
        g.destroy.set(None);
        self.let_go(g); // its end drops the handle
        self.end_unstarted(g, Error::CANCELED);
    }

    // ---- running ---------------------------------------------------------------

    /// Gives a greenlet its stack at its first resume; false when it was killed
    /// before and is over already.
    #[inline(never)]
    pub fn begin(&self, g: &Greenlet) -> bool {
        if g.attention.get() & KILLED != 0 {
            self.alive.set(self.alive.get() - 1);
            self.end_unstarted(g, Error::CANCELED);
            return false;
        }
        if let Err(e) = self.give_stack(g) {
            self.alive.set(self.alive.get() - 1);
            let report = || self.report_failure(g.handle.get(), e, "no stack could be had");
            self.as_loop(&|| "the error handler".into(), report);
            self.end_unstarted(g, e);
            return false;
        }
        true
    }

    /// As `begin`, where nothing stands in the way, for who passes to it: true if it can be.
    #[inline(never)]
    pub fn begins_at_hand(&self, g: &Greenlet) -> bool {
        Fiber::HANDS_ON && !g.started.get() && g.attention.get() & KILLED == 0 && self.give_stack(g).is_ok()
    }

    /// Gives a greenlet what it runs on; ENOMEM changes nothing.
    #[inline]
    pub fn give_stack(&self, g: &Greenlet) -> Result<()> {
        let stack = self.stacks.take(g.class.get())?;
        g.started.set(true);
        // SAFETY: the record outlives its fiber; `run_body` catches what unwinds.
        unsafe {
            g.fiber.begin(&self.root, self.stacks.span(g.class.get(), &stack), run_bodies, std::ptr::from_ref(g).cast())
        };
        g.stack.set(Some(stack));
        Ok(())
    }

    /// A greenlet's fiber has returned: its stack goes back, who waits is told.
    #[inline(never)]
    pub fn finish(&self, g: &Greenlet) {
        if let Some(stack) = g.take_stack() {
            self.stacks.give(g.class.get(), stack);
        }
        self.alive.set(self.alive.get() - 1);
        if !self.is_coroutine(g) {
            return self.end(g);
        }
        // Who goes on is decided last: hooks and destructors may kill the parent.
        self.retain(g);
        self.end(g);
        self.return_to_parent(g);
        self.release(g);
    }

    /// `g`, no coroutine, has done its work, and there is no more to its end than to tell who
    /// waits. If the next in line has not begun, it begins right here, on the same stack, and
    /// is returned; if it is suspended, it goes on, and this does not return. None where the
    /// end is the root's to make.
    #[inline(always)]
    fn succeed(&self, g: &Greenlet) -> Option<&Greenlet> {
        if !Fiber::HANDS_ON {
            return None;
        }
        let Some(next) = self.next_alike(g) else { self.end_and_leave(g) };
        self.ready.pop();
        self.prefetch();
        self.stacks.unreserve(next.class.get()); // it has one without
        next.stack.set(g.take_stack());
        next.started.set(true);
        self.alive.set(self.alive.get() - 1);
        self.end_plainly(g); // and it may be gone
        self.current.set(next);
        next.state.set(State::Running);
        Some(next)
    }

    /// Who is next in line, if it has not begun and could do so on the stack of `g`.
    #[inline(always)]
    fn next_alike(&self, g: &Greenlet) -> Option<&Greenlet> {
        // SAFETY: who is in the ready ring is alive.
        let next = unsafe { &*self.ready.peek(0)? };
        let is_alike = !next.started.get() && next.class.get() == g.class.get();
        (is_alike && next.attention.get() & KILLED == 0 && self.spends_budget()).then_some(next)
    }

    /// Ends `g`, which runs, and goes on with who is next, or with the root. The stack under
    /// us goes back to its pool, which only keeps it, and nobody takes it before we leave.
    #[inline(always)]
    fn end_and_leave(&self, g: &Greenlet) -> ! {
        let class = g.class.get();
        if let Some(stack) = g.take_stack() {
            self.stacks.give(class, stack);
        }
        self.alive.set(self.alive.get() - 1);
        self.end_plainly(g); // and it may be gone
        // SAFETY: who is in the ready ring is alive.
        let next = self.ready.peek(0).map(|next| unsafe { &*next });
        let Some(next) = next.filter(|n| n.fiber.is_suspended() && self.spends_budget()) else {
            // SAFETY: this is not the root, so it waits, and nothing here is used again.
            unsafe { Fiber::leave_to_root(&self.root) }
        };
        self.ready.pop();
        self.prefetch();
        self.current.set(next);
        next.state.set(State::Running);
        // SAFETY: as above; who is ready waits.
        unsafe { Fiber::leave(&next.fiber, &self.root) }
    }

    /// A coroutine that had not begun ends with the code thrown into it.
    pub fn end_by_throw(&self, g: &Greenlet, code: i32) {
        g.error.set(code);
        g.value.set(std::ptr::null_mut());
        self.end_unstarted(g, Error::from_code(code));
    }

    fn end_unstarted(&self, g: &Greenlet, error: Error) {
        self.timers.cancel(&g.timer);
        // First of all: the destructor may try to start or kill it once more.
        g.state.set(State::Done);
        self.stacks.unreserve(g.class.get());
        g.error.set(error.code());
        if let Some(destroy) = g.destroy.take() {
            self.as_loop(&|| "an argument's destructor".into(), || destroy(g.arg.get()));
        }
        self.end(g);
    }

    fn end(&self, g: &Greenlet) {
        g.state.set(State::Done);
        if let Some(hooks) = self.hooks.get() {
            hooks.on_finished(g);
        }
        self.end_with(g, || {
            if g.has_extra() {
                self.run_links(g);
            }
        });
    }

    /// As `end`, without a hook and without links.
    #[inline(always)]
    fn end_plainly(&self, g: &Greenlet) {
        g.state.set(State::Done);
        self.end_with(g, || ());
    }

    /// Tells who waits for its end, then `others`, and drops the reference that kept it.
    #[inline(always)]
    fn end_with(&self, g: &Greenlet, others: impl FnOnce()) {
        self.ready.unreserve_one();
        self.stats.finished.set(self.stats.finished.get() + 1);
        while let Some(node) = g.joiners.pop() {
            self.grant(node);
        }
        others();
        if g.is_let_go.get() {
            self.drop_handle(g);
        }
        self.release(g);
    }

    /// Takes its handle out of use, with the table's reference.
    #[inline(always)]
    pub fn drop_handle(&self, g: &Greenlet) {
        self.table.rest(g.handle.get());
        self.release(g);
    }

    /// Drops the reference of who made it.
    pub fn let_go(&self, g: &Greenlet) {
        match self.table.unref(g.handle.get()) {
            Ok(0) if g.is_done() => self.drop_handle(g), // a hook has killed it
            Ok(0) => g.is_let_go.set(true),
            _ => {} // a hook has a reference of its own
        }
    }

    fn run_links(&self, g: &Greenlet) {
        let (links, on_end) = g.with_extra(|x| (std::mem::take(&mut x.links), std::mem::take(&mut x.on_end)));
        for link in links {
            self.fire_link(g, &link);
        }
        for todo in on_end {
            (todo.call)(g.handle.get());
        }
    }

    fn fire_link(&self, g: &Greenlet, link: &Link) {
        let wanted = match link.when {
            LinkWhen::Always => true,
            LinkWhen::Value => g.error.get() == 0,
            LinkWhen::Error => g.error.get() != 0,
        };
        if wanted {
            self.later(Callback::Link(link.call, g.handle.get(), link.arg, link.id));
        }
    }

    /// Lowest and one past the highest byte of its stack, while it has one: for reports
    /// and conservative collectors.
    pub fn stack_bounds(&self, g: &Greenlet) -> Option<(usize, usize)> {
        let stack = g.stack.take()?;
        let bounds = self.stacks.bounds(g.class.get(), &stack);
        g.stack.set(Some(stack));
        Some(bounds)
    }

    /// What lies above the frames of its stack, unused: see `Stacks::span`.
    #[inline]
    pub fn stack_spare(&self, g: &Greenlet) -> Option<(usize, usize)> {
        let stack = g.stack.take()?;
        let (_, from) = self.stacks.span(g.class.get(), &stack);
        let to = stack.top();
        g.stack.set(Some(stack));
        Some((from, to))
    }

    // ---- references ------------------------------------------------------------

    pub fn retain(&self, g: &Greenlet) {
        g.refs.set(g.refs.get() + 1);
    }

    /// Drops a reference; the last one puts the record away.
    #[inline]
    pub fn release(&self, g: &Greenlet) {
        let left = g.refs.get() - 1;
        g.refs.set(left);
        if left == 0 {
            self.put_away(g);
        }
    }

    #[inline(never)]
    fn put_away(&self, g: &Greenlet) {
        // SAFETY: left by Record::into_raw, and nobody refers to it any more.
        let mut record = unsafe { Record::from_raw(g) };
        let handle = record.handle.get();
        if self.spares.is_full() || !may_be_renewed(handle) {
            self.records_freed.set(self.records_freed.get() + 1);
            return self.table.free(handle);
        }
        if record.is_dirty.get() {
            record.clean();
        }
        self.put_away_clean(record);
    }

    #[inline(always)]
    fn put_away_clean(&self, record: Record) {
        record.state.set(State::New);
        record.attention.set(0);
        record.started.set(false);
        record.orphan.set(false);
        record.wake_code.set(0);
        record.value.set(std::ptr::null_mut());
        record.error.set(0);
        record.kill_reason.set(0);
        self.spares.push(record);
    }

    /// One more reference to a handle. A greenlet that was let go is held again.
    pub fn dup(&self, handle: i64) -> Result<()> {
        self.table.dup(handle).map_err(|e| self.why_not(handle, e))?;
        if let Ok(g) = self.table.get::<Greenlet>(handle) {
            // SAFETY: in the table, so alive.
            unsafe { &*g }.is_let_go.set(false);
        }
        Ok(())
    }

    /// The usual close of a handle, the only one of a greenlet that has ended: it is put
    /// away. False, with nothing done, where there is more to it; see `spawn_at_hand`.
    #[inline(always)]
    pub fn close_at_hand(handle: i64) -> bool {
        let (hub, table) = Hub::here();
        let is_usual = |g: *const Greenlet| {
            // SAFETY: it is in the table, so that is a hub's, and both are alive.
            let (hub, g) = unsafe { (&*hub, &*g) };
            g.is_done() && g.refs.get() == 1 && !g.is_dirty.get() && !hub.spares.is_full()
        };
        let Some(g) = table.rest_if::<Greenlet>(handle, is_usual) else { return false };
        // SAFETY: as above; and left by Record::into_raw, and the table's was the last reference.
        unsafe { (*hub).put_away_clean(Record::from_raw(g)) };
        true
    }

    /// A handle of a greenlet has been closed. A running one goes on by itself, one
    /// that can never run again ends.
    pub fn close_greenlet(&self, handle: i64) -> Result<()> {
        let (g, left) = match self.table.unref_object::<Greenlet>(handle) {
            // SAFETY: in the table, so alive.
            Ok((g, left)) => (unsafe { &*g }, left),
            Err(e) => return Err(self.why_not(handle, e)),
        };
        if left > 0 {
        } else if g.is_done() {
            self.drop_handle(g);
        } else {
            g.is_let_go.set(true);
            self.end_if_it_never_runs(g);
        }
        Ok(())
    }

    #[cold]
    fn end_if_it_never_runs(&self, g: &Greenlet) {
        match g.state.get() {
            State::New if !g.timer.is_set() => self.end_unstarted(g, Error::CANCELED),
            State::Switched if self.is_coroutine(g) => self.kill(g, 0),
            _ => {}
        }
    }

    /// The greenlet behind a handle. EPERM when it lives in another thread.
    #[inline(always)]
    pub fn greenlet(&self, handle: i64) -> Result<&Greenlet> {
        match self.table.get::<Greenlet>(handle) {
            // SAFETY: in the table, so alive.
            Ok(g) => Ok(unsafe { &*g }),
            Err(e) => Err(self.why_not(handle, e)),
        }
    }

    /// EPERM for a handle that belongs to another living hub, else `e`.
    #[cold]
    pub fn why_not(&self, handle: i64, e: Error) -> Error {
        let number = crate::handle::hub_of(handle);
        let foreign = handle > 0 && number != self.remote.number && number != 0;
        if foreign && crate::registry::hub_of(handle).is_some() { Error::PERM } else { e }
    }

    // ---- waiting for the end ---------------------------------------------------

    pub fn join(&self, g: &Greenlet, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            self.check()?;
        }
        if g.is_done() {
            return Ok(());
        }
        if std::ptr::eq(g, self.current()) {
            return Err(Error::DEADLK);
        }
        self.retain(g);
        let why = Waiting::Join(g.handle.get());
        let waited = self.wait_in(&g.joiners, crate::waitlist::Role::Taker, std::ptr::null_mut(), deadline, why);
        self.release(g);
        match waited {
            crate::wait::Waited::Granted(_) => Ok(()),
            crate::wait::Waited::Returned(_, e) | crate::wait::Waited::Failed(e) => Err(e),
        }
    }

    /// What is left to do where there is nothing to look at but that `g`, another one, has not
    /// ended, see `Hub::wait_plainly_in`. Its list is alive as long as somebody is in it.
    #[inline(always)]
    pub fn join_plainly(&self, g: &Greenlet) -> Result<()> {
        let why = Waiting::Join(g.handle.get());
        match self.wait_plainly_in(&g.joiners, std::ptr::null_mut(), why) {
            crate::wait::Waited::Granted(_) => Ok(()),
            crate::wait::Waited::Returned(_, e) | crate::wait::Waited::Failed(e) => Err(e),
        }
    }

    // ---- killing ---------------------------------------------------------------

    /// Marks a greenlet as killed: its current and every later blocking call fails.
    pub fn kill(&self, g: &Greenlet, reason: i32) {
        if g.is_done() || self.is_main(g) {
            return;
        }
        if g.kill_reason.get() == 0 {
            g.kill_reason.set(if reason == 0 { Error::CANCELED.code() } else { reason });
        }
        if g.shield.get() > 0 {
            return; // held back until the shield is lowered
        }
        g.flag(KILLED);
        match g.state.get() {
            State::New => self.start(g),
            State::Parked => self.wake(g, Error::CANCELED.code()),
            State::Switched => self.wake_switched(g, Error::CANCELED.code()),
            _ => {}
        }
    }

    /// Makes a greenlet that was switched away from ready, by the loop.
    pub fn wake_switched(&self, g: &Greenlet, code: i32) {
        g.orphan.set(true);
        g.wake_code.set(code);
        g.state.set(State::Ready);
        self.ready.push(g);
    }

    /// Makes the current or next blocking call of `g` fail once with `code`.
    pub fn interrupt(&self, g: &Greenlet, code: i32) {
        match g.state.get() {
            State::Parked => self.wake(g, code),
            State::Done => {}
            _ => {
                g.interrupt.set(code);
                g.flag(INTERRUPTED);
            }
        }
    }

    /// Raises or lowers the current greenlet's shield against being killed.
    pub fn shield(&self, on: bool) -> Result<()> {
        if self.in_callback() {
            return Err(Error::WOULDBLOCK); // the loop is nobody who could be killed
        }
        let g = self.current();
        let depth = g.shield.get();
        g.set_shield(if on { depth.checked_add(1) } else { depth.checked_sub(1) }.ok_or(Error::INVAL)?);
        if g.shield.get() > 0 {
            g.unflag(KILLED);
        } else if g.kill_reason.get() != 0 {
            g.flag(KILLED);
        }
        Ok(())
    }

    /// Marks the current greenlet as failed.
    pub fn fail(&self, code: i32, message: Option<&str>) {
        let g = self.current();
        if self.is_main(g) || self.in_callback() {
            return;
        }
        g.error.set(if code < 0 { code } else { Error::INVAL.code() });
        let text = message.and_then(|m| CString::new(m.replace('\0', " ")).ok());
        g.with_extra(|x| x.message = text);
    }

    // ---- links -----------------------------------------------------------------

    /// Has `call` run when `g` ends; at once (in the next turn) if it has.
    pub fn link(&self, g: &Greenlet, call: LinkFn, arg: *mut c_void, when: LinkWhen) -> i64 {
        let id = self.next_link.get();
        self.next_link.set(id + 1);
        let link = Link { id, call, arg, when };
        if g.is_done() {
            self.fire_link(g, &link);
        } else {
            g.with_extra(|x| x.links.push(link));
        }
        id
    }

    pub fn unlink(&self, g: &Greenlet, id: i64) -> Result<()> {
        let taken = g.peek_extra(|x| {
            let place = x.links.iter().position(|l| l.id == id)?;
            x.links.remove(place);
            Some(())
        });
        taken.flatten().map_or_else(|| self.take_back_link(g.handle.get(), id), Ok)
    }

    // ---- the hub's end ---------------------------------------------------------

    /// Every greenlet but main, by handle.
    pub fn greenlets(&self) -> Vec<&Greenlet> {
        let main = self.main.handle.get();
        let all = self.table.handles_of(Kind::Greenlet).into_iter();
        all.filter(|&h| h != main).filter_map(|h| self.greenlet(h).ok()).collect()
    }

    /// Destroys the arguments of those that will never run; whether there were any.
    pub fn destroy_arguments(&self) -> bool {
        let waiting: Vec<(DestroyFn, *mut c_void)> = self
            .greenlets()
            .into_iter()
            .filter(|g| !g.started.get() && !g.is_done())
            .filter_map(|g| g.destroy.take().map(|d| (d, g.arg.get())))
            .collect();
        let any = !waiting.is_empty();
        for (destroy, arg) in waiting {
            self.as_loop(&|| "an argument's destructor".into(), || destroy(arg));
        }
        any
    }

    /// Forgets every greenlet but `kept` without running it; how many were in the middle.
    pub fn abandon_all_but(&self, kept: &Greenlet) -> usize {
        self.ready.retain(|g| std::ptr::eq(g, &*self.main));
        let mut abandoned = 0;
        for g in self.greenlets() {
            if !g.is_done() && !std::ptr::eq(g, kept) {
                abandoned += usize::from(g.started.get());
                self.abandon(g);
            }
        }
        abandoned
    }

    /// Ends one that waits for a switch, without running it ever again: what lies on its
    /// stack is forgotten. EBUSY for those who wait for anything else: what they wait for
    /// counts on them, and would hand over to nobody.
    pub fn forget(&self, g: &Greenlet) -> Result<()> {
        match g.state.get() {
            State::Done => return Err(Error::ALREADY),
            _ if self.is_main(g) => return Err(Error::PERM),
            State::New => self.end_unstarted(g, Error::CANCELED),
            State::Switched => {
                self.take_away(g);
                g.error.set(Error::CANCELED.code());
                g.value.set(std::ptr::null_mut());
                if g.has_extra() {
                    self.as_loop(&|| "a destructor".into(), || crate::local::destroy_all(self, g));
                }
                self.end(g);
            }
            _ => return Err(Error::BUSY),
        }
        Ok(())
    }

    /// Takes a greenlet out of whatever it waits in, and its stack away.
    fn take_away(&self, g: &Greenlet) {
        g.node.unlink();
        self.timers.cancel(&g.timer);
        self.poller().remove(&g.fd_node);
        drop(g.peek_extra(|x| x.many.take()));
        match g.take_stack() {
            Some(stack) => self.stacks.give(g.class.get(), stack),
            None => self.stacks.unreserve(g.class.get()),
        }
        if g.state.get() != State::New {
            self.alive.set(self.alive.get() - 1);
        }
    }

    fn abandon(&self, g: &Greenlet) {
        self.take_away(g);
        g.state.set(State::Done);
        g.error.set(Error::CANCELED.code());
        self.ready.unreserve_one();
        // Main may join it, in a child that a callback forked: not the next one in this record.
        while g.joiners.pop().is_some() {}
        g.peek_extra(|x| (x.links.clear(), x.on_end.clear()));
        if g.is_let_go.get() {
            self.drop_handle(g);
        }
        self.release(g);
    }

    /// Has `call` run in the hub when `g` ends, on behalf of `owner`.
    pub fn on_end(&self, g: &Greenlet, owner: i64, call: impl FnOnce(i64) + 'static) {
        g.with_extra(|x| x.on_end.push(OnEnd { owner, call: Box::new(call) }));
    }

    /// Takes back what `owner` wanted to be done at the end of `g`.
    pub fn forget_on_end(&self, g: &Greenlet, owner: i64) {
        let taken = g.peek_extra(|x| {
            let (mine, others) = std::mem::take(&mut x.on_end).into_iter().partition(|t| t.owner == owner);
            x.on_end = others;
            mine
        });
        drop::<Option<Vec<OnEnd>>>(taken); // outside: what it holds may have a destructor
    }

    pub fn has_scopes(&self, g: &Greenlet, any: bool) {
        if any { g.flag(SCOPED) } else { g.unflag(SCOPED) }
    }
}

/// What runs on a new stack: a greenlet, and whoever it hands the stack on to.
extern "C" fn run_bodies(first: *const ()) {
    let (hub, _) = Hub::here();
    // SAFETY: a greenlet runs in a hub, and `begin` passed a record, which outlives its fiber.
    let (hub, mut g) = unsafe { (&*hub, &*first.cast::<Greenlet>()) };
    loop {
        let is_coroutine = run_body(hub, g);
        debug_assert!(g.error.get() == 0 || g.is_dirty.get(), "who fails has a message, or could have");
        let is_plain = !g.is_dirty.get() && hub.hooks.get().is_none();
        if (!is_plain && wind_up(hub, g)) || is_coroutine {
            return;
        }
        match hub.succeed(g) {
            Some(next) => g = next,
            None => return,
        }
    }
}

/// Runs the body of `g`; whether that is a coroutine.
#[inline(always)]
fn run_body(hub: &Hub, g: &Greenlet) -> bool {
    if hub.hooks.get().is_some() {
        hub.call_enter_hook(g);
    }
    let who = || format!("the entry function of greenlet {}", g.label());
    let arg = g.arg.get();
    let outcome = fence::call(who, || match g.body.get() {
        Body::Greenlet(f) => (f(arg), false),
        body => (run_coroutine(body, g.value.get(), arg), true),
    });
    match outcome {
        Ok((value, is_coroutine)) => {
            g.value.set(value);
            is_coroutine
        }
        Err(message) => {
            hub.fail(Error::PANIC.code(), Some(&message));
            hub.is_coroutine(g)
        }
    }
}

#[cold]
fn run_coroutine(body: Body, value: *mut c_void, arg: *mut c_void) -> *mut c_void {
    match body {
        Body::Coroutine(f) => f(value, arg),
        _ => std::ptr::null_mut(),
    }
}

/// What few greenlets have to do on their own stack when their body is over; whether the
/// rest is the root's to do.
#[cold]
#[inline(never)]
fn wind_up(hub: &Hub, g: &Greenlet) -> bool {
    if g.error.get() != 0 {
        g.value.set(std::ptr::null_mut());
        report(hub, g);
    }
    clean_up(hub, g);
    if let Some(hooks) = hub.hooks.get() {
        hooks.on_leave(g);
    }
    hub.hooks.get().is_some() || g.has_extra()
}

/// Tells the error handler, unless it is the echo of being killed.
fn report(hub: &Hub, g: &Greenlet) {
    let error = Error::from_code(g.error.get());
    if error == Error::CANCELED && g.kill_reason.get() != 0 {
        return;
    }
    let message = g.peek_extra(|x| x.message.clone()).flatten().unwrap_or_default();
    hub.report_failure(g.handle.get(), error, &message.to_string_lossy());
}

/// Destroys the argument and the greenlet's locals, on its own stack.
fn clean_up(hub: &Hub, g: &Greenlet) {
    if let Some(destroy) = g.destroy.take() {
        let done = fence::call(|| "an argument's destructor".into(), || destroy(g.arg.get()));
        if let Err(message) = done {
            hub.report_failure(g.handle.get(), Error::PANIC, &message);
        }
    }
    if g.has_extra() {
        crate::local::destroy_all(hub, g);
    }
}
