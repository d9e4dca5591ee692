//! Fibers on corosensei: every architecture but x86-64, and sanitizer builds there.
//! They always suspend to the root.

use super::Body;
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, UnsafeCell};

/// The input of each resume is the address of the fiber, so that the body's first act
/// can be to leave its way out there.
type Address = usize;
type Exit = Yielder<Address, ()>;

pub struct Fiber {
    inner: UnsafeCell<Option<Coroutine<Address, (), (), Borrowed>>>,
    exit: Cell<*const Exit>,
}

/// Never called: main does not pass.
pub type Serve = extern "C" fn(root: *const Root, returned: bool);

/// Where the root goes on is corosensei's affair.
pub struct Root(());

impl Root {
    /// # Safety
    /// None is needed here.
    pub unsafe fn new(_: &Fiber, _: Serve) -> Root {
        Root(())
    }

    /// Nobody asks where it goes on.
    pub fn leave_loop(&self) {}
}

/// A stack that somebody else owns.
struct Borrowed {
    low: StackPointer,
    top: StackPointer,
}

// SAFETY: `Fiber::begin` is given a stack with a guard below it.
unsafe impl Stack for Borrowed {
    fn base(&self) -> StackPointer {
        self.top
    }
    fn limit(&self) -> StackPointer {
        self.low
    }
}

impl Default for Fiber {
    fn default() -> Fiber {
        Fiber { inner: UnsafeCell::new(None), exit: Cell::new(std::ptr::null()) }
    }
}

impl Fiber {
    /// corosensei keeps the stack where its coroutine is.
    pub const HANDS_ON: bool = false;

    /// Never: corosensei goes through the root.
    pub fn is_suspended(&self) -> bool {
        false
    }

    pub fn sp(&self) -> usize {
        0
    }

    /// # Safety
    /// As for `Fiber::begin` in the parent module.
    pub unsafe fn begin(&self, _: &Root, (low, top): (usize, usize), body: Body, data: *const ()) {
        let run = move |exit: &Exit, fiber: Address| {
            // SAFETY: `resume` passed the fiber's address, where it stays while it runs.
            unsafe { (*(fiber as *const Fiber)).exit.set(exit) };
            body(data);
        };
        let pointer = |address| StackPointer::new(address).expect("a stack is not at the beginning of memory");
        let stack = Borrowed { low: pointer(low), top: pointer(top) };
        // SAFETY: on the root, and nothing of an earlier computation is running.
        unsafe { *self.inner.get() = Some(Coroutine::with_stack(stack, run)) };
    }

    /// # Safety
    /// On the root, and the fiber is suspended.
    pub unsafe fn resume(&self, _: &Root) -> bool {
        let address = std::ptr::from_ref(self) as usize;
        // SAFETY: only the root touches the coroutine; the fiber that runs meanwhile
        // uses its exit alone.
        let inner = unsafe { (*self.inner.get()).as_mut() }.expect("it has begun");
        matches!(inner.resume(address), CoroutineResult::Return(()))
    }

    /// # Safety
    /// On this fiber's own stack.
    pub unsafe fn suspend(&self, root: &Root) -> (*const Fiber, *const Root) {
        // SAFETY: set before the body began; it lies at the base of this stack.
        unsafe { (*self.exit.get()).suspend(()) };
        (self, root)
    }

    /// # Safety
    /// Never called: nothing here `is_suspended`.
    pub unsafe fn pass(&self, _: &Fiber, _: &Root) -> (*const Fiber, *const Root) {
        unreachable!("only the root resumes");
    }

    /// # Safety
    /// Never called: nothing here `HANDS_ON`.
    pub unsafe fn leave(_: &Fiber, _: &Root) -> ! {
        unreachable!("only the root resumes");
    }

    /// # Safety
    /// As for `leave`.
    pub unsafe fn leave_to_root(_: &Root) -> ! {
        unreachable!("a body returns to the root");
    }

    /// Forgets the computation.
    pub fn clear(&self) {
        // SAFETY: on the root, or the computation is not this thread's any more; it is
        // not running.
        if let Some(mut inner) = unsafe { (*self.inner.get()).take() }
            && !inner.done()
        {
            // SAFETY: the frames on the stack belong to C or to library code that keeps
            // nothing with a destructor across a suspension; what they own is lost, and
            // counted as abandoned by the caller.
            unsafe { inner.force_reset() };
        }
    }
}
