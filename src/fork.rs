//! fork: the child keeps the current greenlet; everything else is gone quietly.
//!
//! Handlers registered once with pthread_atfork. The parent's hub is not touched.
//! In the child, on the forking thread: other threads' hubs are forgotten, the
//! poller is made anew (the registrations live in the parent's epoll, of which we
//! only close our copy), and every greenlet but the current one is abandoned.
//!
//! When the kept greenlet is not main and its body returns, the child exits with
//! status 0: main, and whoever waited for it, are the parent's.

use crate::greenlet::State;
use crate::hub::Hub;
use crate::registry;
use std::cell::RefCell;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

static ONCE: Once = Once::new();

/// Grows in every forked child. What belongs to threads remembers it, and knows by
/// it that those threads are the parent's.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Counts once `install` has been called.
pub fn generation() -> u64 {
    GENERATION.load(SeqCst)
}

thread_local! {
    static GUARD: RefCell<Option<registry::ForkGuard>> = const { RefCell::new(None) };
}

pub fn install() {
    ONCE.call_once(|| {
        // SAFETY: three functions that stay for the life of the process.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

extern "C" fn prepare() {
    let guard = registry::lock_for_fork();
    let _ = GUARD.try_with(|g| *g.borrow_mut() = Some(guard));
}

extern "C" fn parent() {
    let _ = GUARD.try_with(|g| g.borrow_mut().take());
}

extern "C" fn child() {
    GENERATION.fetch_add(1, SeqCst);
    let _ = GUARD.try_with(|g| g.borrow_mut().take());
    let hub = Hub::existing();
    registry::forget_others(hub.map(|h| h.remote.number));
    if let Some(hub) = hub {
        hub.after_fork();
    }
}

impl Hub {
    fn after_fork(&self) {
        // A callback runs on main's stack: it is main that goes on.
        let kept = if self.in_callback() { &*self.main } else { self.current() };
        let main_due = self.timers.deadline(&self.main.timer).filter(|_| self.is_main(kept));
        // SAFETY: the only thread of the child, and nothing polls.
        if unsafe { (*self.poller_mut()).reopen() }.is_err() {
            eprintln!("weald: no poller in the forked child; waiting for descriptors will fail");
        }
        self.remote.mailbox.reset(self.poller().waker());
        self.timers.clear();
        self.clear_holds();
        self.forget_callbacks();
        self.abandon_all();
        self.fork_extensions();
        if let Some(due) = main_due {
            // There is room: there were more timers a moment ago.
            let _ = self.timers.set(&self.main.timer, due);
        }
        if !self.is_main(kept) {
            kept.node.unlink();
            self.ready.retain(|_| false);
            self.main_is_gone.set(true);
            // Main is the parent's; its wait here is forgotten for good.
            self.main.node.unlink();
            self.main.state.set(State::Switched);
            self.on_end(kept, 0, |_| exit_child());
        }
        self.reset_clock();
    }
}

/// The kept greenlet's end is the child's end, as a thread's would be.
pub fn exit_child() -> ! {
    // SAFETY: flushes stdio and runs atexit handlers, as returning from main would.
    unsafe { libc::exit(0) }
}
