//! The orderly end of a hub: kill, let clean up, abandon what will not go, release
//! everything, say what was left.

use crate::error::{Error, Result};
use crate::greenlet::Greenlet;
use crate::handle::{Kind, kind_of};
use crate::hub::Hub;
use std::fmt::Write;

/// Turns that killed greenlets get to clean up without waiting for anything.
const GRACE_TURNS: usize = 1000;
/// How often destructors may make something new to be destroyed.
const GENERATIONS: usize = 1000;

impl Hub {
    /// Ends this thread's hub; how many greenlets had to be abandoned in the middle.
    pub fn shutdown(&self) -> Result<usize> {
        if self.in_callback() {
            return Err(Error::WOULDBLOCK);
        }
        if !self.is_main(self.current()) || self.in_loop.get() {
            return Err(Error::PERM);
        }
        self.kill_all(|_| true);
        let mut turns = 0..GRACE_TURNS;
        loop {
            while !self.ready.is_empty() && turns.next().is_some() && self.run_once(false).is_ok() {}
            if self.kill_all(|g| g.kill_reason.get() == 0) == 0 {
                break; // nobody has spawned another while cleaning up
            }
        }
        let left = self.left_over();
        let abandoned = self.abandon_everybody();
        if abandoned > 0 {
            self.report(&left);
        }
        self.as_loop(&|| "a shutdown".into(), || self.close_objects());
        // SAFETY: main runs, no greenlet is left, every handle is closed.
        unsafe { Hub::free() };
        Ok(abandoned)
    }

    /// Kills those `which` are wanted; how many.
    fn kill_all(&self, which: impl Fn(&Greenlet) -> bool) -> usize {
        let wanted = self.greenlets().into_iter().filter(|g| !g.is_done() && which(g));
        wanted.map(|g| self.kill(g, 0)).count()
    }

    fn left_over(&self) -> String {
        let mut text = String::from("weald: shutdown: these greenlets did not end when killed and are abandoned:\n");
        for g in self.greenlets().into_iter().filter(|g| !g.is_done() && g.started.get()) {
            let _ = writeln!(text, "  greenlet {}", g.label());
        }
        text
    }

    /// Abandons what is left and closes every handle that is still open; what destructors
    /// make meanwhile as well.
    pub fn close_objects(&self) {
        for _ in 0..GENERATIONS {
            self.abandon_everybody();
            let main = self.main.handle.get();
            let mut handles = self.table.handles();
            handles.retain(|&h| h != main);
            if handles.is_empty() {
                return;
            }
            self.close_all(handles);
        }
    }

    /// The arguments of those that have not begun are destroyed first, which may make more of
    /// them. How many were in the middle.
    fn abandon_everybody(&self) -> usize {
        for _ in 0..GENERATIONS {
            if !self.destroy_arguments() {
                break;
            }
        }
        self.abandon_all_but(&self.main)
    }

    /// Greenlets last: others may name them.
    fn close_all(&self, mut handles: Vec<i64>) {
        handles.sort_by_key(|&h| kind_of(h) == Kind::Greenlet as u8);
        for h in handles {
            if let Ok(g) = self.greenlet(h) {
                self.drop_handle(g); // its place is the spare record's, which may be used again
            } else if let Ok(closer) = self.table.remove(h) {
                closer.close();
            }
        }
    }
}
