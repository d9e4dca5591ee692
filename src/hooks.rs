//! Hooks for language bindings, which save their interpreter's per-thread state at
//! each switch. All run in the hub's thread; `leave` and `enter` run on the stack of
//! the greenlet concerned.

use crate::greenlet::Greenlet;
use std::ffi::{c_int, c_void};

/// (greenlet, its user word)
pub type SwitchHook = extern "C-unwind" fn(i64, *mut c_void);

#[derive(Clone, Copy, Default)]
pub struct Hooks {
    /// On its own stack, just before it suspends or ends.
    pub leave: Option<SwitchHook>,
    /// On its own stack, after each resume and before its body.
    pub enter: Option<SwitchHook>,
    pub created: Option<SwitchHook>,
    pub finished: Option<SwitchHook>,
    /// 0 forbids to suspend now: the call fails with EPERM.
    pub may_park: Option<extern "C-unwind" fn() -> c_int>,
    /// Around a poll that sleeps; `block_end(1)` after a signal.
    pub block_begin: Option<extern "C-unwind" fn()>,
    pub block_end: Option<extern "C-unwind" fn(c_int)>,
}

fn call(hook: Option<SwitchHook>, g: &Greenlet) {
    if let Some(f) = hook {
        f(g.handle.get(), g.user.get());
    }
}

impl Hooks {
    pub fn on_leave(&self, g: &Greenlet) {
        call(self.leave, g);
    }
    pub fn on_enter(&self, g: &Greenlet) {
        call(self.enter, g);
    }
    pub fn on_created(&self, g: &Greenlet) {
        call(self.created, g);
    }
    pub fn on_finished(&self, g: &Greenlet) {
        call(self.finished, g);
    }
}
