//! The hub in a forked child: it keeps the greenlet that forked, and forgets the rest.

use super::Hub;
use crate::fork::{self, Heir};
use crate::greenlet::{Greenlet, State};
use crate::sys;

static HEIR: Heir = Heir {
    who: || Hub::existing().map_or((0, 0), |hub| (hub.remote.number, hub.kept().handle.get())),
    go_on: || {
        if let Some(hub) = Hub::existing() {
            hub.after_fork();
        }
    },
};

impl Hub {
    /// Has every fork from now on leave a child that can go on with its hub.
    pub fn watch_forks() {
        fork::install(&HEIR);
    }

    /// Who goes on in a child: whose stack this is. Callbacks run on main's, but for those
    /// in the middle of a greenlet's call, like destructors and comparators.
    fn kept(&self) -> &Greenlet {
        if !self.in_callback() {
            return self.current();
        }
        let marker = 0u8;
        let here = &raw const marker as usize;
        let is_here = |g: &&Greenlet| self.stack_bounds(g).is_some_and(|(low, top)| (low..top).contains(&here));
        self.greenlets().into_iter().find(is_here).unwrap_or(&self.main)
    }

    fn after_fork(&self) {
        let kept = self.kept();
        let main_due = self.timers.deadline(&self.main.timer).filter(|_| self.is_main(kept));
        // SAFETY: the only thread of the child, and nothing polls.
        if unsafe { (*self.poller_mut()).reopen() }.is_err() {
            sys::descriptor::tell("weald: no epoll for the forked child; it will try again\n");
        }
        self.remote.mailbox.reset(self.poller().waker());
        self.timers.clear();
        self.clear_holds();
        self.forget_callbacks();
        self.abandon_all_but(kept);
        self.fork_extensions();
        if let Some(due) = main_due
            && self.main.state.get() == State::Parked
        {
            // There is room: there were more timers a moment ago.
            let _ = self.timers.set(&self.main.timer, due);
        }
        if !self.is_main(kept) {
            kept.node.unlink();
            self.ready.retain(|_| false);
            self.main_is_gone.set(true);
            // Main is the parent's; its wait here is forgotten for good. Who is ready is neither
            // woken nor switched to, and in the ring it is not.
            self.main.node.unlink();
            self.main.state.set(State::Ready);
            self.on_end(kept, 0, |_| fork::exit_child());
        }
        self.reset_clock();
    }
}
