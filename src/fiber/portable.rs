//! Fibers on corosensei: every architecture but x86-64, and sanitizer builds there.

use super::Body;
use crate::stack::Stack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::Cell;

/// The input of each resume is the address of the fiber, so that the body's first act
/// can be to leave its way out there.
type Address = usize;
type Exit = Yielder<Address, ()>;

pub struct Fiber {
    inner: Coroutine<Address, (), (), Stack>,
    exit: Cell<*const Exit>,
}

impl Fiber {
    /// # Safety
    /// As for `Fiber::new` in the parent module.
    #[inline]
    pub unsafe fn new(stack: Stack, body: Body, data: *const ()) -> Fiber {
        let run = move |exit: &Exit, fiber: Address| {
            // SAFETY: `resume` passed the fiber's address, where it stays while it runs.
            unsafe { (*(fiber as *const Fiber)).exit.set(exit) };
            body(data);
        };
        Fiber { inner: Coroutine::with_stack(stack, run), exit: Cell::new(std::ptr::null()) }
    }

    #[inline(always)]
    pub fn resume(&mut self) -> bool {
        let address = std::ptr::from_ref(self) as usize;
        matches!(self.inner.resume(address), CoroutineResult::Return(()))
    }

    /// # Safety
    /// Called on this fiber's own stack.
    #[inline(always)]
    pub unsafe fn suspend(&self) {
        // SAFETY: set before the body began; it lies at the base of this stack.
        unsafe { (*self.exit.get()).suspend(()) };
    }

    pub fn into_stack(self) -> Stack {
        self.inner.into_stack()
    }

    pub fn abandon(mut self) -> Stack {
        // SAFETY: the frames on the stack belong to C or to library code that keeps
        // nothing with a destructor across a suspension; what they own is lost, and
        // counted as abandoned by the caller.
        unsafe { self.inner.force_reset() };
        self.inner.into_stack()
    }
}
