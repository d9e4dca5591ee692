//! A greenlet's record: its state, its result, who waits for it, what it waits for.
//!
//! ```text
//!        start            resume           body returns
//!  NEW ---------> READY ---------> RUNNING -----------> DONE
//!                  ^  ^             |   |
//!                  |  +--- wake ----+   | switch (raw)
//!                  |     PARKED <---+   v
//!                  +------------- SWITCHED
//! ```
//!
//! Records are counted by hand: one reference for the handle table, one while the
//! greenlet is not done, one per `GreenletRef`. The stack is attached at the first
//! resume and given back at the end, so that a finished greenlet whose handle is
//! still open, or a thousand that have not started, hold no stack.

use crate::block;
use crate::error::{Error, Result};
use crate::fiber::Fiber;
use crate::poller::{FdNode, NotifyFn};
use crate::stack::{Class, Stack};
use crate::timer::{FireFn, TimerNode};
use crate::waitlist::{WaitList, WaitNode};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CString, c_void};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    New = 0,
    Ready = 1,
    Running = 2,
    Parked = 3,
    Switched = 4,
    Done = 5,
}

pub type Fn = extern "C-unwind" fn(*mut c_void) -> *mut c_void;
pub type CoroFn = extern "C-unwind" fn(*mut c_void, *mut c_void) -> *mut c_void;
pub type DestroyFn = extern "C-unwind" fn(*mut c_void);
pub type LinkFn = extern "C-unwind" fn(i64, *mut c_void);

/// What a greenlet runs.
#[derive(Clone, Copy)]
pub enum Body {
    /// The main greenlet and the loop itself: they have no body of their own.
    None,
    Greenlet(Fn),
    /// Gets the first value switched in as well, and returns to its parent.
    Coroutine(CoroFn),
}

/// What a parked greenlet waits for, for people to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    Nothing,
    Sleep,
    Idle,
    Fd(i32, u32),
    Fds(u32),
    Object(i64),
    Objects(u32),
    Join(i64),
    Thread,
    Signal,
    Switched,
}

// Reasons to look before blocking, `Greenlet::attention`.
pub const KILLED: u8 = 1;
pub const INTERRUPTED: u8 = 2;
pub const SCOPED: u8 = 4;
/// Never goes away: it stands for the loop, which must not block at all.
pub const LOOPING: u8 = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum LinkWhen {
    Always = 0,
    Value = 1,
    Error = 2,
}

pub struct Link {
    pub id: i64,
    pub call: LinkFn,
    pub arg: *mut c_void,
    pub when: LinkWhen,
}

/// A scoped timeout: every blocking call inside fails once the deadline has passed.
pub struct Scope {
    pub deadline: Cell<i64>,
    pub fired: Cell<bool>,
    pub active: Cell<bool>,
    /// The greenlet whose calls it bounds.
    pub owner: Cell<i64>,
}

/// Something to do when a greenlet ends.
pub struct OnEnd {
    /// The handle of whoever wants it, to take it back.
    pub owner: i64,
    /// Gets the greenlet's handle.
    pub call: Box<dyn FnOnce(i64)>,
}

/// What few greenlets have.
#[derive(Default)]
pub struct Extra {
    pub name: Option<Box<str>>,
    pub message: Option<CString>,
    pub links: Vec<Link>,
    pub scopes: Vec<Rc<Scope>>,
    /// Greenlet-local values by key index; see `local`.
    pub locals: Vec<(i64, *mut c_void)>,
    /// Called in the hub when it has ended (groups); see `Hub::finish`.
    pub on_end: Vec<OnEnd>,
    /// Nodes of a wait on many things, kept here so that they outlive the stack.
    pub many: Option<Box<dyn Any>>,
}

/// In cache lines of its own, see `Record`.
#[repr(C)]
pub struct Greenlet {
    // The first cache line: what every switch and every hand-over touches.
    pub fiber: Fiber,
    pub state: Cell<State>,
    pub attention: Cell<u8>,
    pub started: Cell<bool>,
    /// A coroutine that the loop resumed, because it was killed: nobody switched to it,
    /// so nobody waits for what it returns.
    pub orphan: Cell<bool>,
    pub wake_code: Cell<i32>,
    pub node: WaitNode,
    // The second and third: what a life touches.
    pub handle: Cell<i64>,
    pub refs: Cell<u32>,
    pub class: Cell<Class>,
    /// The last reference to its handle was dropped while it had not ended.
    pub is_let_go: Cell<bool>,
    /// It has something that few have, see `clean`: there is more to its end.
    pub is_dirty: Cell<bool>,
    pub stack: Cell<Option<Stack>>,
    pub body: Cell<Body>,
    pub arg: Cell<*mut c_void>,
    /// The result; for a coroutine also the value in transit.
    pub value: Cell<*mut c_void>,
    pub error: Cell<i32>,
    pub kill_reason: Cell<i32>,

    pub joiners: WaitList,
    pub destroy: Cell<Option<DestroyFn>>,
    pub parent: Cell<i64>,
    pub id: Cell<i64>,
    pub site: Cell<usize>,
    pub born: Cell<i64>,
    extra: UnsafeCell<Option<Box<Extra>>>,
    // The fourth: what a wait touches besides the first.
    pub timer: TimerNode,
    pub waiting: Cell<Waiting>,
    pub since: Cell<i64>,
    /// The deadline of its own that a parked greenlet in a scope has.
    pub own_deadline: Cell<i64>,
    pub user: Cell<*mut c_void>,
    pub interrupt: Cell<i32>,
    pub shield: Cell<u32>,
    /// For a wait for one descriptor.
    pub fd_node: FdNode,
}

/// A record's owner, as a box is. It begins at a cache line.
pub struct Record(NonNull<Greenlet>);

const _: () = assert!(size_of::<Greenlet>() <= block::SIZE && align_of::<Greenlet>() <= 64);

impl Record {
    /// A record, in the place that it stays in: its node knows where that is. ENOMEM.
    pub fn new(id: i64, class: Class, fire: FireFn, notify: NotifyFn) -> Result<Record> {
        let at: NonNull<Greenlet> = block::take()?.cast();
        // SAFETY: room for it, and aligned.
        unsafe { at.write(Greenlet::new(id, class, fire, notify)) };
        let record = Record(at);
        record.node.owner.set(at.as_ptr().cast_const().cast());
        Ok(record)
    }

    /// Leaves it to the caller, for `from_raw`.
    pub fn into_raw(self) -> *const Greenlet {
        std::mem::ManuallyDrop::new(self).0.as_ptr().cast_const()
    }

    /// # Safety
    /// It came from `into_raw`, and nobody else owns it.
    pub unsafe fn from_raw(g: *const Greenlet) -> Record {
        // SAFETY: by contract not null.
        Record(unsafe { NonNull::new_unchecked(g.cast_mut()) })
    }
}

impl Deref for Record {
    type Target = Greenlet;
    #[inline(always)]
    fn deref(&self) -> &Greenlet {
        // SAFETY: alive as long as its owner.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for Record {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Greenlet {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and nobody uses it any more.
        unsafe {
            self.0.drop_in_place();
            block::give(self.0.cast());
        }
    }
}

impl Greenlet {
    fn new(id: i64, class: Class, fire: FireFn, notify: NotifyFn) -> Greenlet {
        Greenlet {
            fiber: Fiber::default(),
            state: Cell::new(State::New),
            attention: Cell::new(0),
            started: Cell::new(false),
            orphan: Cell::new(false),
            wake_code: Cell::new(0),
            refs: Cell::new(0),
            class: Cell::new(class),
            is_let_go: Cell::new(false),
            is_dirty: Cell::new(false),
            stack: Cell::new(None),
            node: WaitNode::default(),
            timer: TimerNode::new(fire),
            fd_node: FdNode::new(notify).exclusive(),
            waiting: Cell::new(Waiting::Nothing),
            since: Cell::new(0),
            own_deadline: Cell::new(0),
            handle: Cell::new(0),
            body: Cell::new(Body::None),
            arg: Cell::new(std::ptr::null_mut()),
            destroy: Cell::new(None),
            value: Cell::new(std::ptr::null_mut()),
            error: Cell::new(0),
            kill_reason: Cell::new(0),
            interrupt: Cell::new(0),
            shield: Cell::new(0),
            joiners: WaitList::default(),
            parent: Cell::new(0),
            id: Cell::new(id),
            site: Cell::new(0),
            born: Cell::new(0),
            user: Cell::new(std::ptr::null_mut()),
            extra: UnsafeCell::new(None),
        }
    }

    /// The greenlet that a fiber lies in.
    ///
    /// # Safety
    /// `fiber` is the `fiber` field of a living record.
    #[inline(always)]
    pub unsafe fn of_fiber<'a>(fiber: *const Fiber) -> &'a Greenlet {
        // SAFETY: by contract.
        unsafe { &*fiber.byte_sub(std::mem::offset_of!(Greenlet, fiber)).cast::<Greenlet>() }
    }

    /// The greenlet that a timer node lies in.
    ///
    /// # Safety
    /// `node` is the `timer` field of a living record.
    pub unsafe fn of_timer<'a>(node: *const TimerNode) -> &'a Greenlet {
        // SAFETY: by contract.
        unsafe { &*node.byte_sub(std::mem::offset_of!(Greenlet, timer)).cast::<Greenlet>() }
    }

    /// The greenlet that a descriptor node lies in.
    ///
    /// # Safety
    /// `node` is the `fd_node` field of a living record.
    pub unsafe fn of_fd_node<'a>(node: *const FdNode) -> &'a Greenlet {
        // SAFETY: by contract.
        unsafe { &*node.byte_sub(std::mem::offset_of!(Greenlet, fd_node)).cast::<Greenlet>() }
    }

    pub fn is_done(&self) -> bool {
        self.state.get() == State::Done
    }

    /// Nothing has gone wrong with it so far.
    pub fn is_successful(&self) -> bool {
        self.is_done() && self.error.get() == 0
    }

    #[inline]
    pub fn failure(&self) -> Option<Error> {
        let code = self.error.get();
        (code != 0).then(|| Error::from_code(code))
    }

    pub fn set_user(&self, user: *mut c_void) {
        self.user.set(user);
        self.is_dirty.set(true);
    }

    pub fn set_destructor(&self, destroy: Option<DestroyFn>) {
        self.destroy.set(destroy);
        self.is_dirty.set(true);
    }

    pub fn set_shield(&self, depth: u32) {
        self.shield.set(depth);
        self.is_dirty.set(true);
    }

    #[inline]
    pub fn flag(&self, bit: u8) {
        self.attention.set(self.attention.get() | bit);
    }

    #[inline]
    pub fn unflag(&self, bit: u8) {
        self.attention.set(self.attention.get() & !bit);
    }

    #[inline]
    pub fn has_extra(&self) -> bool {
        // SAFETY: a read; no reference into it is alive between calls.
        unsafe { (*self.extra.get()).is_some() }
    }

    /// Works on what few greenlets have. `with` must not call out of the library.
    pub fn with_extra<R>(&self, with: impl FnOnce(&mut Extra) -> R) -> R {
        // SAFETY: one thread, and by contract no second call is made inside.
        let extra = unsafe { &mut *self.extra.get() };
        self.is_dirty.set(true);
        with(extra.get_or_insert_default())
    }

    /// As `with_extra`, but does not make one.
    pub fn peek_extra<R>(&self, with: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        // SAFETY: as above.
        unsafe { &mut *self.extra.get() }.as_deref_mut().map(with)
    }

    /// Puts in order what few greenlets have, for the next one.
    pub fn clean(&mut self) {
        *self.extra.get_mut() = None;
        self.destroy.set(None);
        self.shield.set(0);
        self.interrupt.set(0);
        self.user.set(std::ptr::null_mut());
        self.is_dirty.set(false);
    }

    pub fn name(&self) -> String {
        self.peek_extra(|x| x.name.as_deref().map(str::to_owned)).flatten().unwrap_or_default()
    }

    /// "'name' (#7)" or "#7", for reports.
    pub fn label(&self) -> String {
        match self.name() {
            n if n.is_empty() => format!("#{}", self.id.get()),
            n => format!("'{n}' (#{})", self.id.get()),
        }
    }

    /// Forgets what was suspended and takes the stack that it was on.
    pub fn take_stack(&self) -> Option<Stack> {
        self.fiber.clear();
        self.stack.take()
    }
}

// The comments above say which fields share a line, where a fiber is one word.
#[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
const _: () = {
    assert!(std::mem::offset_of!(Greenlet, handle) == 64);
    assert!(std::mem::offset_of!(Greenlet, joiners) == 128);
    assert!(std::mem::offset_of!(Greenlet, timer) == 192);
    assert!(std::mem::offset_of!(Greenlet, fd_node) == 256);
};
