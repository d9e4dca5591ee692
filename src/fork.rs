//! fork: the child keeps the current greenlet; everything else is gone quietly.
//!
//! Handlers registered once with pthread_atfork. The parent's hub is not touched.
//! In the child, on the forking thread: other threads' hubs are forgotten, the
//! poller is made anew (the registrations live in the parent's epoll, of which we
//! only close our copy), and every greenlet but the current one is abandoned.
//!
//! When the kept greenlet is not main and its body returns, the child exits with
//! status 0: main, and whoever waited for it, are the parent's.
//!
//! What threads share is changed in *sections*. A fork waits until no other thread is in
//! one, and lets none begin one meanwhile, so that the child finds every lock free and
//! what it guards whole:
//!
//! ```text
//! a thread:   I am in one; is somebody forking?   yes: out again, and wait
//! who forks:  I am forking; who is in one?        somebody: wait
//! ```
//! Both raise their own flag before they look at the other's. The threads' flags are
//! counters on cache lines of their own, so that sections cost no traffic between cores.

use crate::once::Deed;
use crate::registry;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
};

/// What only the hub knows, in a child.
pub struct Heir {
    /// The number of this thread's hub, and the handle of the greenlet that goes on; 0 and 0.
    pub who: fn() -> (usize, i64),
    /// Makes this thread's hub one that can be used.
    pub go_on: fn(),
}

static HEIR: AtomicPtr<Heir> = AtomicPtr::new(std::ptr::null_mut());

/// Grows in every forked child. What belongs to threads remembers it, and knows by
/// it that those threads are the parent's.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Counts once `install` has been called.
pub fn generation() -> u64 {
    GENERATION.load(SeqCst)
}

/// In a child: the handle of the greenlet that went on there, 0 for a thread without one.
static KEPT: AtomicI64 = AtomicI64::new(0);

/// Whether `greenlet`, which was there in generation `then`, is there now.
pub fn has_survived(then: u64, greenlet: i64) -> bool {
    then == generation() || greenlet == KEPT.load(SeqCst)
}

// ---- sections -----------------------------------------------------------------------

/// More threads than that share counters, which costs them time alone.
const COUNTERS: usize = 64;

#[repr(align(128))]
struct Counter(AtomicUsize);

static IN_SECTIONS: [Counter; COUNTERS] = [const { Counter(AtomicUsize::new(0)) }; COUNTERS];
static FORKING: AtomicBool = AtomicBool::new(false);

/// A thread's part in it.
struct Me {
    /// How many sections it is in, one in the other.
    depth: Cell<u32>,
    /// Its counter, once it has one.
    counter: Cell<usize>,
}

impl Me {
    fn counter(&self) -> &'static AtomicUsize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        if self.counter.get() == usize::MAX {
            self.counter.set(NEXT.fetch_add(1, Relaxed) % COUNTERS);
        }
        &IN_SECTIONS[self.counter.get()].0
    }

    #[cold]
    fn step_aside(&self) {
        self.counter().fetch_sub(1, SeqCst);
        while FORKING.load(SeqCst) {
            std::thread::yield_now();
        }
        self.counter().fetch_add(1, SeqCst);
    }
}

thread_local! {
    static ME: Me = const { Me { depth: Cell::new(0), counter: Cell::new(usize::MAX) } };
}

/// A number for this thread, never 0; the same in a forked child.
pub fn this_thread() -> usize {
    ME.with(|me| std::ptr::from_ref(me) as usize)
}

/// While it lives no other thread forks. For the time that a lock is held which a forked
/// child may want.
pub struct Section(PhantomData<*const ()>);

impl Section {
    pub fn enter() -> Section {
        ME.with(|me| {
            let depth = me.depth.get();
            me.depth.set(depth + 1);
            if depth == 0 {
                me.counter().fetch_add(1, SeqCst);
                while FORKING.load(SeqCst) {
                    me.step_aside();
                }
            }
        });
        Section(PhantomData)
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        ME.with(|me| {
            me.depth.set(me.depth.get() - 1);
            if me.depth.get() == 0 {
                me.counter().fetch_sub(1, SeqCst);
            }
        });
    }
}

/// Waits until no thread but this one is in a section.
fn close_sections() {
    while FORKING.swap(true, SeqCst) {
        std::thread::yield_now(); // another thread forks as well
    }
    let ours = sections_of_ours();
    for counter in &IN_SECTIONS {
        while counter.0.load(SeqCst) > usize::from(ours.is_some_and(|ours| std::ptr::eq(ours, &counter.0))) {
            std::thread::yield_now();
        }
    }
}

/// The counter that this thread is in, if a function of the user's forks that was called
/// in a section.
fn sections_of_ours() -> Option<&'static AtomicUsize> {
    ME.with(|me| (me.depth.get() > 0).then(|| me.counter()))
}

fn open_sections() {
    FORKING.store(false, SeqCst);
}

/// In the child: those who waited for the fork to be over are not there.
fn forget_sections_of_others() {
    IN_SECTIONS.iter().for_each(|counter| counter.0.store(0, SeqCst));
    if let Some(ours) = sections_of_ours() {
        ours.store(1, SeqCst);
    }
}

// ---- the handlers -------------------------------------------------------------------

thread_local! {
    static GUARD: RefCell<Option<registry::ForkGuard>> = const { RefCell::new(None) };
}

pub fn install(heir: &'static Heir) {
    static DONE: Deed = Deed::new();
    DONE.once(|| {
        HEIR.store(std::ptr::from_ref(heir).cast_mut(), SeqCst);
        // SAFETY: three functions that stay for the life of the process.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

extern "C" fn prepare() {
    if GUARD.try_with(|g| g.borrow().is_some()).unwrap_or(false) {
        return; // installed twice, see `Deed`: the first call has done it all
    }
    close_sections();
    let guard = registry::lock_for_fork();
    let _ = GUARD.try_with(|g| *g.borrow_mut() = Some(guard));
}

/// Lets go what `prepare` holds; false when that has been done.
fn is_first() -> bool {
    GUARD.try_with(|g| g.borrow_mut().take().is_some()).unwrap_or(true)
}

extern "C" fn parent() {
    if is_first() {
        open_sections();
    }
}

extern "C" fn child() {
    if !is_first() {
        return;
    }
    GENERATION.fetch_add(1, SeqCst);
    // SAFETY: NULL or a static, see `install`.
    let Some(heir) = (unsafe { HEIR.load(SeqCst).as_ref() }) else { return };
    let (number, kept) = (heir.who)();
    KEPT.store(kept, SeqCst);
    registry::forget_others((number > 0).then_some(number));
    forget_sections_of_others();
    open_sections();
    (heir.go_on)();
}

/// The kept greenlet's end is the child's end, as a thread's would be.
pub fn exit_child() -> ! {
    // SAFETY: flushes stdio and runs atexit handlers, as returning from main would.
    unsafe { libc::exit(0) }
}
