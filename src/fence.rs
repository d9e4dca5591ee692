//! Calling code that is not ours, so that nothing unwinds through what is.
//!
//! A Rust panic becomes an `Err` with its message. A C++ exception, or the forced
//! unwinding of `pthread_exit`, can not be caught here: the process ends with a
//! message that says what to do, before any frame of ours is torn down.

use crate::sys::descriptor;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs while something that is not a panic unwinds through a call.
struct ForeignUnwind<W: Fn() -> String> {
    who: W,
}

impl<W: Fn() -> String> Drop for ForeignUnwind<W> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let who = (self.who)();
            descriptor::tell(&format!(
                "weald: a C++ exception (or pthread_exit) left {who}. Catch exceptions before \
                 they leave, or start it through weald.hpp, which carries them to the joiner. Aborting.\n"
            ));
            std::process::abort();
        }
    }
}

fn message_of(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| s.to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    // A payload with a destructor that panics must not take us with it.
    std::mem::forget(payload);
    text.unwrap_or_else(|| "panic".to_owned())
}

/// Calls `f`; a panic comes back as its message.
#[inline]
pub fn call<R>(who: impl Fn() -> String, f: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let guard = ForeignUnwind { who };
        let result = f();
        std::mem::forget(guard);
        result
    }))
    .map_err(message_of)
}
