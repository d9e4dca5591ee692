//! How other threads reach a hub: an inbox and a way to wake its poller.
//!
//! ```text
//! sender:  push under lock; raise `pending`; if the hub was `asleep`, wake it
//! hub:     raise `asleep`; look at `pending` again; sleep; lower `asleep`
//! ```
//! Both sides raise their own flag before they look at the other's, so a post is seen
//! before sleeping or the sleeper is woken; and a hub that is awake anyway costs the
//! sender no system call. The flags are swapped, not stored: of two swaps the later one
//! sees the earlier, and all that was before it. That is enough for the proof, costs the
//! same, and loom, which checks it (tests/loom), knows swaps but no sequentially
//! consistent stores.

use std::collections::VecDeque;

#[cfg(loom)]
use loom::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};
#[cfg(not(loom))]
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// Wakes a sleeping poller.
pub trait Wake {
    fn wake(&self);
}

#[cfg(not(loom))]
impl Wake for std::sync::Arc<mio::Waker> {
    fn wake(&self) {
        // It can fail only when the counter is full, and then it is readable.
        let _ = mio::Waker::wake(self);
    }
}

pub struct Mailbox<T, W> {
    inbox: Mutex<Option<VecDeque<T>>>,
    pending: AtomicBool,
    asleep: AtomicBool,
    /// Gone with the hub: it holds a descriptor, and the mailbox may be kept for long.
    waker: Mutex<Option<W>>,
}

impl<T, W: Wake> Mailbox<T, W> {
    pub fn new(waker: W) -> Mailbox<T, W> {
        Mailbox {
            inbox: Mutex::new(Some(VecDeque::new())),
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            waker: Mutex::new(Some(waker)),
        }
    }

    fn inbox(&self) -> impl std::ops::DerefMut<Target = Option<VecDeque<T>>> + '_ {
        // Nothing under the lock panics half way, so a poisoned lock is a whole one.
        self.inbox.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn waker(&self) -> impl std::ops::DerefMut<Target = Option<W>> + '_ {
        self.waker.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Puts `item` in the inbox; gives it back when the hub is gone.
    pub fn post(&self, item: T) -> Result<(), T> {
        match self.inbox().as_mut() {
            Some(queue) => queue.push_back(item),
            None => return Err(item),
        }
        self.pending.swap(true, SeqCst);
        if self.asleep.swap(false, SeqCst)
            && let Some(waker) = &*self.waker()
        {
            waker.wake();
        }
        Ok(())
    }

    /// What has come, at most so many; the others stay pending. Called by the hub.
    pub fn take(&self, most: usize) -> VecDeque<T> {
        if !self.pending.swap(false, SeqCst) {
            return VecDeque::new();
        }
        let mut inbox = self.inbox();
        let Some(queue) = inbox.as_mut() else { return VecDeque::new() };
        if queue.len() <= most {
            return std::mem::take(queue);
        }
        self.pending.swap(true, SeqCst);
        queue.drain(..most).collect()
    }

    #[inline]
    pub fn has_pending(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Announces sleep; false when something has come and sleeping would be wrong.
    pub fn may_sleep(&self) -> bool {
        self.asleep.swap(true, SeqCst);
        if self.pending.load(SeqCst) {
            self.asleep.swap(false, SeqCst);
            return false;
        }
        true
    }

    /// A foreign loop sleeps for us from now on, whatever has come.
    pub fn entrust(&self) {
        self.asleep.store(true, SeqCst);
        if self.pending.load(SeqCst)
            && let Some(waker) = &*self.waker.lock().unwrap_or_else(|e| e.into_inner())
        {
            waker.wake();
        }
    }

    pub fn awake(&self) {
        // No store: by this swap the hub sees what those have posted who took it for awake.
        self.asleep.swap(false, SeqCst);
    }

    /// The poller has another waker now. The hub is awake: who posts meanwhile need not
    /// wake it.
    pub fn set_waker(&self, waker: W) {
        *self.waker.lock().unwrap_or_else(|e| e.into_inner()) = Some(waker);
    }

    /// In a forked child, where a sender may have held the locks: an empty inbox and
    /// a waker for the new poller. The old inbox is leaked, never unlocked.
    pub fn reset(&self, waker: W) {
        let this = std::ptr::from_ref(self).cast_mut();
        // SAFETY: the waker's lock is taken by senders, who only read it; its own hub alone
        // changes it, and that one is forking. So it is whole, and read once: `write_over`
        // forgets it.
        let old = unsafe { std::ptr::read((*this).waker.get_mut().unwrap_or_else(|e| e.into_inner())) };
        self.write_over(Some(VecDeque::new()), Some(waker));
        drop(old); // closes our copy of the parent's descriptor
    }

    /// In a forked child, for the hub of a thread that is not there: refuses everything.
    pub fn abandon(&self) {
        self.write_over(None, None);
    }

    fn write_over(&self, inbox: Option<VecDeque<T>>, waker: Option<W>) {
        let this = std::ptr::from_ref(self).cast_mut();
        // SAFETY: both fields are there to be changed through a shared reference, whoever
        // has them locked is not there, and the child's one thread, which is in fork, has
        // no reference into them. What was in them is not looked at.
        unsafe {
            (&raw mut (*this).inbox).write(Mutex::new(inbox));
            (&raw mut (*this).waker).write(Mutex::new(waker));
        }
        self.pending.store(false, SeqCst);
        self.asleep.store(false, SeqCst);
    }

    /// Refuses everything from now on; returns what was still there.
    pub fn close(&self) -> VecDeque<T> {
        let left = self.inbox().take().unwrap_or_default();
        *self.waker() = None;
        left
    }
}
