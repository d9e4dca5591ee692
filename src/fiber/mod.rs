//! Fibers: a stack with a suspended computation on it.
//!
//! ```text
//! new --resume--> running --suspend--> suspended --resume--> running --return--> done
//!                                          |
//!                                          +--abandon--> done (never unwound)
//! ```
//!
//! Only the thread's root stack resumes, so a fiber always suspends to the root. There
//! are two ways to switch, with one interface: `native` (x86-64) and `portable`
//! (corosensei: other architectures, and builds with the feature `sanitizer`, whose
//! runtime must be told of every switch). See `native` for why there are two.

use crate::stack::Stack;

#[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
mod native;
#[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
use native as switching;

#[cfg(any(test, not(target_arch = "x86_64"), feature = "sanitizer"))]
mod portable;
#[cfg(any(not(target_arch = "x86_64"), feature = "sanitizer"))]
use portable as switching;

/// What a fiber runs. It must not unwind.
pub type Body = fn(*const ());

/// A fiber. It must stay where it is from the first resume to the end.
pub struct Fiber {
    inner: switching::Fiber,
    low: usize,
    top: usize,
}

impl Fiber {
    /// A fiber that will run `body(data)`.
    ///
    /// # Safety
    /// `data` outlives the fiber, and `body` does not unwind.
    #[inline]
    pub unsafe fn new(stack: Stack, body: Body, data: *const ()) -> Fiber {
        let (low, top) = (stack.low(), stack.top());
        // SAFETY: by contract.
        Fiber { inner: unsafe { switching::Fiber::new(stack, body, data) }, low, top }
    }

    /// Runs the fiber until it suspends (false) or returns (true).
    #[inline(always)]
    pub fn resume(&mut self) -> bool {
        self.inner.resume()
    }

    /// Suspends the running fiber; returns when it is resumed.
    ///
    /// # Safety
    /// Called on this fiber's own stack.
    #[inline(always)]
    pub unsafe fn suspend(&self) {
        // SAFETY: by contract.
        unsafe { self.inner.suspend() }
    }

    /// The stack of a fiber that has returned.
    pub fn into_stack(self) -> Stack {
        self.inner.into_stack()
    }

    /// Forgets the computation without unwinding it and takes its stack.
    pub fn abandon(self) -> Stack {
        self.inner.abandon()
    }

    /// Lowest and one past the highest byte of its stack.
    pub fn bounds(&self) -> (usize, usize) {
        (self.low, self.top)
    }
}

#[cfg(test)]
mod tests {
    /// Both ways of switching must pass the same tests.
    macro_rules! tests_for {
        ($module:ident) => {
            mod $module {
                use crate::fiber::$module::Fiber;
                use crate::stack::Stacks;
                use std::cell::Cell;

                struct Shared {
                    fiber: Cell<*const Fiber>,
                    steps: Cell<u32>,
                }

                fn body(shared: *const ()) {
                    // SAFETY: the test keeps it alive.
                    let shared = unsafe { &*shared.cast::<Shared>() };
                    for _ in 0..3 {
                        shared.steps.set(shared.steps.get() + 1);
                        // SAFETY: on the fiber's own stack.
                        unsafe { (*shared.fiber.get()).suspend() };
                    }
                }

                fn start(stacks: &Stacks, shared: &Shared) -> Box<Fiber> {
                    let class = stacks.class(0).unwrap();
                    stacks.reserve(class).unwrap();
                    let data = std::ptr::from_ref(shared).cast();
                    // SAFETY: the test keeps `shared`, and the body does not panic.
                    let fiber = Box::new(unsafe { Fiber::new(stacks.take(class).unwrap(), body, data) });
                    shared.fiber.set(&*fiber);
                    fiber
                }

                fn shared() -> Shared {
                    Shared { fiber: Cell::new(std::ptr::null()), steps: Cell::new(0) }
                }

                #[test]
                fn a_fiber_runs_from_suspension_to_suspension() {
                    let (stacks, shared) = (Stacks::new(), shared());
                    let mut f = start(&stacks, &shared);
                    for step in 1..=3 {
                        assert!(!f.resume());
                        assert_eq!(shared.steps.get(), step);
                    }
                    assert!(f.resume());
                    stacks.give(f.into_stack());
                }

                #[test]
                fn an_abandoned_fiber_gives_its_stack_back() {
                    let (stacks, shared) = (Stacks::new(), shared());
                    let mut f = start(&stacks, &shared);
                    f.resume();
                    stacks.give(f.abandon());
                    assert_eq!(shared.steps.get(), 1);
                }

                #[test]
                fn two_fibers_alternate() {
                    let stacks = Stacks::new();
                    let (one, two) = (shared(), shared());
                    let (mut a, mut b) = (start(&stacks, &one), start(&stacks, &two));
                    for step in 1..=3 {
                        a.resume();
                        b.resume();
                        assert_eq!((one.steps.get(), two.steps.get()), (step, step));
                    }
                    assert!(a.resume() && b.resume());
                }
            }
        };
    }

    tests_for!(portable);
    #[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
    tests_for!(native);
}
