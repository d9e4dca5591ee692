//! Fibers: a stack with a suspended computation on it.
//!
//! ```text
//! begin --resume, pass--> running --suspend, pass--> suspended --resume, pass--> running --return--> done
//!                                                        |
//!                                                        +--clear-------> forgotten (never unwound)
//! ```
//!
//! The thread's root stack resumes a fiber, and a fiber suspends to the root, or passes
//! straight to another one that is suspended: that saves half of the switches. The root
//! stack has a fiber too, so that it can pass and be passed to. A fiber that returns,
//! returns to the root. There are two ways to switch, with one interface:
//! `native` (x86-64) and `portable` (corosensei: other architectures, and builds with
//! the feature `sanitizer`, whose runtime must be told of every switch). See `native`
//! for why there are two; `portable` never passes.

#[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
mod native;
#[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
use native as switching;

#[cfg(any(test, not(target_arch = "x86_64"), feature = "sanitizer"))]
#[cfg_attr(test, allow(dead_code))] // its tests do not pass, and ask nothing
mod portable;
#[cfg(any(not(target_arch = "x86_64"), feature = "sanitizer"))]
use portable as switching;

/// The thread's own stack, see `native`.
pub use switching::{Root, Serve};

/// What a fiber runs. It must not unwind.
pub type Body = extern "C" fn(*const ());

/// A place for a computation. It must stay where it is while there is one.
#[derive(Default)]
#[repr(transparent)]
pub struct Fiber(switching::Fiber);

impl Fiber {
    /// Whether the body may go on, on its stack, as the body of another fiber that has not
    /// begun: nothing but its `sp` ties a computation to its fiber.
    pub const HANDS_ON: bool = switching::Fiber::HANDS_ON;

    /// Prepares `body(data)` on the stack with these bounds; it runs when it is first
    /// resumed.
    ///
    /// # Safety
    /// Nothing is suspended here. The stack, `root` and `data` outlive the computation,
    /// and `body` does not unwind.
    #[inline]
    pub unsafe fn begin(&self, root: &Root, stack: (usize, usize), body: Body, data: *const ()) {
        // SAFETY: by contract.
        unsafe { self.0.begin(root, stack, body, data) };
    }

    /// Whether another fiber may pass to it.
    #[inline(always)]
    pub fn is_suspended(&self) -> bool {
        self.0.is_suspended()
    }

    /// About where its frames begin while it is suspended; 0 if nobody knows.
    #[inline(always)]
    pub fn sp(&self) -> usize {
        self.0.sp()
    }

    /// Runs the fiber until the root goes on: because a fiber suspended (false), or
    /// because one returned (true). It need not be this one.
    ///
    /// # Safety
    /// On the root, and a computation has begun here and is suspended.
    #[inline(always)]
    pub unsafe fn resume(&self, root: &Root) -> bool {
        // SAFETY: by contract.
        unsafe { self.0.resume(root) }
    }

    /// Suspends the running fiber; returns when it is resumed. The values returned are
    /// this fiber and the root, known sooner than those that a caller kept (see
    /// `native::switch`).
    ///
    /// # Safety
    /// Called on this fiber's own stack.
    #[inline(always)]
    pub unsafe fn suspend(&self, root: &Root) -> (*const Fiber, *const Root) {
        // SAFETY: by contract.
        let (me, root) = unsafe { self.0.suspend(root) };
        (me.cast(), root)
    }

    /// Suspends the running fiber and goes on with `to`. Returns as `suspend`.
    ///
    /// # Safety
    /// Called on this fiber's own stack; `to.is_suspended()`, or it is this very fiber.
    #[inline(always)]
    pub unsafe fn pass(&self, to: &Fiber, root: &Root) -> (*const Fiber, *const Root) {
        // SAFETY: by contract.
        let (me, root) = unsafe { self.0.pass(&to.0, root) };
        (me.cast(), root)
    }

    /// Goes on with `to` and forgets where it is.
    ///
    /// # Safety
    /// Not on the root; `to.is_suspended()`, and is not what runs. The stack under the call
    /// is not used again by whoever owns it now.
    #[inline(always)]
    pub unsafe fn leave(to: &Fiber, root: &Root) -> ! {
        // SAFETY: by contract.
        unsafe { switching::Fiber::leave(&to.0, root) }
    }

    /// As `leave`, and the root goes on, as after a `suspend`.
    ///
    /// # Safety
    /// As for `leave`.
    #[inline(always)]
    pub unsafe fn leave_to_root(root: &Root) -> ! {
        // SAFETY: by contract.
        unsafe { switching::Fiber::leave_to_root(root) }
    }

    /// The root of the thread whose own stack `self` stands for. While that waits in `pass`,
    /// `serve` does the root's work there.
    ///
    /// # Safety
    /// `self` outlives the root.
    pub unsafe fn root(&self, serve: Serve) -> Root {
        // SAFETY: by contract.
        unsafe { Root::new(&self.0, serve) }
    }

    /// Forgets the computation, which has returned or is never unwound.
    #[inline]
    pub fn clear(&self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    extern "C" fn never<R>(_: *const R, _: bool) {
        unreachable!("the test is the root");
    }

    /// Both ways of switching must pass the same tests.
    macro_rules! tests_for {
        ($module:ident) => {
            mod $module {
                use crate::fiber::tests::never;
                use crate::fiber::$module::{Fiber, Root};
                use crate::stack::{Stack, Stacks};
                use std::cell::Cell;

                /// A fiber and what it works on, as a greenlet's record has them.
                struct Shared {
                    fiber: Fiber,
                    root: Root,
                    steps: Cell<u32>,
                }

                impl Default for Shared {
                    fn default() -> Shared {
                        // SAFETY: never freed.
                        let root = unsafe { Root::new(Box::leak(Box::default()), never) };
                        Shared { fiber: Fiber::default(), root, steps: Cell::new(0) }
                    }
                }

                impl Shared {
                    fn resume(&self) -> bool {
                        // SAFETY: the test runs on the root.
                        unsafe { self.fiber.resume(&self.root) }
                    }
                }

                extern "C" fn body(shared: *const ()) {
                    // SAFETY: the test keeps it alive.
                    let shared = unsafe { &*shared.cast::<Shared>() };
                    for _ in 0..3 {
                        shared.steps.set(shared.steps.get() + 1);
                        // SAFETY: on the fiber's own stack.
                        unsafe { shared.fiber.suspend(&shared.root) };
                    }
                }

                fn start(stacks: &Stacks, shared: &Shared) -> Stack {
                    let class = stacks.class(0).unwrap();
                    stacks.reserve(class).unwrap();
                    let stack = stacks.take(class).unwrap();
                    let data = std::ptr::from_ref(shared).cast();
                    // SAFETY: the test keeps `shared`, and the body does not panic.
                    unsafe { shared.fiber.begin(&shared.root, stacks.bounds(class, &stack), body, data) };
                    stack
                }

                #[test]
                fn a_fiber_runs_from_suspension_to_suspension() {
                    let (stacks, shared) = (Stacks::new(), Shared::default());
                    let stack = start(&stacks, &shared);
                    for step in 1..=3 {
                        assert!(!shared.resume());
                        assert_eq!(shared.steps.get(), step);
                    }
                    assert!(shared.resume());
                    shared.fiber.clear();
                    stacks.give(stacks.default_class(), stack);
                }

                #[test]
                fn an_abandoned_fiber_leaves_its_stack() {
                    let (stacks, shared) = (Stacks::new(), Shared::default());
                    let stack = start(&stacks, &shared);
                    shared.resume();
                    shared.fiber.clear();
                    stacks.give(stacks.default_class(), stack);
                    assert_eq!(shared.steps.get(), 1);
                }

                #[test]
                fn two_fibers_alternate() {
                    let stacks = Stacks::new();
                    let (one, two) = (Shared::default(), Shared::default());
                    let (_a, _b) = (start(&stacks, &one), start(&stacks, &two));
                    for step in 1..=3 {
                        one.resume();
                        two.resume();
                        assert_eq!((one.steps.get(), two.steps.get()), (step, step));
                    }
                    assert!(one.resume() && two.resume());
                }
            }
        };
    }

    tests_for!(portable);
    #[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
    tests_for!(native);

    #[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
    mod passing {
        use crate::fiber::{Body, Fiber, Root};
        use crate::stack::Stacks;
        use std::cell::Cell;

        struct Two {
            fibers: [Fiber; 2],
            main: &'static Fiber,
            root: Root,
            steps: Cell<u32>,
            served: Cell<Option<bool>>,
        }

        /// The root's work in the tests below: to say why it was called.
        extern "C" fn serve(root: *const Root, returned: bool) {
            // SAFETY: it lies in a `Two`.
            let two = unsafe { &*root.byte_sub(std::mem::offset_of!(Two, root)).cast::<Two>() };
            two.served.set(Some(returned));
        }

        impl Default for Two {
            fn default() -> Two {
                let main: &Fiber = Box::leak(Box::default());
                // SAFETY: never freed.
                let root = unsafe { main.root(serve) };
                Two { fibers: Default::default(), main, root, steps: Cell::new(0), served: Cell::new(None) }
            }
        }

        impl Two {
            fn body(&self, me: usize) {
                for _ in 0..3 {
                    self.steps.set(self.steps.get() * 2 + me as u32);
                    // SAFETY: on this fiber's own stack; the other has begun.
                    unsafe { self.fibers[me].pass(&self.fibers[1 - me], &self.root) };
                    // SAFETY: as above; to oneself it is nothing.
                    unsafe { self.fibers[me].pass(&self.fibers[me], &self.root) };
                }
            }
        }

        #[test]
        fn two_fibers_pass_to_each_other_and_who_returns_returns_to_the_root() {
            let (stacks, two) = (Stacks::new(), Two::default());
            extern "C" fn body<const ME: usize>(two: *const ()) {
                // SAFETY: the test keeps `two`.
                unsafe { &*two.cast::<Two>() }.body(ME)
            }
            for (fiber, body) in two.fibers.iter().zip([body::<0> as Body, body::<1>]) {
                let class = stacks.default_class();
                stacks.reserve(class).unwrap();
                let bounds = stacks.bounds(class, &stacks.take(class).unwrap());
                // SAFETY: `two` outlives both, and nothing panics.
                unsafe { fiber.begin(&two.root, bounds, body, std::ptr::from_ref(&two).cast()) };
            }
            // SAFETY: the test is the root.
            assert!(unsafe { two.fibers[0].resume(&two.root) }, "the first returned");
            assert_eq!(two.steps.get(), 0b010101);
            // SAFETY: as above; the second waits in its last pass.
            assert!(unsafe { two.fibers[1].resume(&two.root) }, "the second returned");
        }

        #[test]
        fn the_root_passes_and_is_passed_to() {
            extern "C" fn body(two: *const ()) {
                // SAFETY: the test keeps `two`.
                let two = unsafe { &*two.cast::<Two>() };
                for step in 1..=3 {
                    two.steps.set(step);
                    // SAFETY: on this fiber's own stack, and the root waits.
                    unsafe { two.fibers[0].pass(two.main, &two.root) };
                }
                two.steps.set(4);
                // SAFETY: as above.
                unsafe { two.fibers[0].suspend(&two.root) };
            }
            let (stacks, two) = (Stacks::new(), Two::default());
            let class = stacks.default_class();
            stacks.reserve(class).unwrap();
            let bounds = stacks.bounds(class, &stacks.take(class).unwrap());
            // SAFETY: `two` outlives it, and nothing panics.
            unsafe { two.fibers[0].begin(&two.root, bounds, body, std::ptr::from_ref(&two).cast()) };
            let pass = || {
                // SAFETY: the test is main, and the fiber waits.
                let (me, root) = unsafe { two.main.pass(&two.fibers[0], &two.root) };
                assert_eq!((me, root), (&raw const *two.main, &raw const two.root));
                (two.steps.get(), two.served.take())
            };
            for step in 1..=3 {
                assert_eq!(pass(), (step, None), "main went on, not the root");
            }
            assert_eq!(pass(), (4, Some(false)), "who suspends, suspends to the root");
            assert_eq!(pass(), (4, Some(true)), "who returns, returns to the root");
        }
    }
}
