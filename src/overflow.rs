//! Stack overflow: says which greenlet it was and what to do, then lets the signal
//! do what it would have done.
//!
//! The handler runs on an alternate signal stack and uses nothing but write(2).

use crate::once::Deed;
use crate::sys;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};

const SIGNAL_STACK: usize = 64 * 1024;
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What was there before, per signal.
static mut PREVIOUS: [std::mem::MaybeUninit<libc::sigaction>; 2] = [std::mem::MaybeUninit::uninit(); 2];
/// Says whose stack it was, if the address is in its guard page; runs in the handler.
pub type ExplainFn = fn(usize);

static EXPLAIN: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

struct SignalStack(Cell<*mut u8>);

impl Drop for SignalStack {
    fn drop(&mut self) {
        let at = self.0.get();
        if !at.is_null() {
            let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            // SAFETY: ours, and not in use: this thread is not in the handler.
            unsafe {
                libc::sigaltstack(&off, std::ptr::null_mut());
                sys::unmap(at, SIGNAL_STACK);
            }
        }
    }
}

thread_local! {
    static STACK: SignalStack = const { SignalStack(Cell::new(std::ptr::null_mut())) };
}

/// Gives this thread an alternate signal stack if it has none, and the process the
/// handler, once.
pub fn install(explain: ExplainFn) {
    STACK.with(|own| {
        // SAFETY: a query into a zeroed struct.
        let mut now: libc::stack_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        unsafe { libc::sigaltstack(std::ptr::null(), &mut now) };
        if now.ss_flags & libc::SS_DISABLE == 0 || !own.0.get().is_null() {
            return;
        }
        let Ok(at) = sys::map(SIGNAL_STACK) else { return };
        let stack = libc::stack_t { ss_sp: at.cast(), ss_flags: 0, ss_size: SIGNAL_STACK };
        // SAFETY: fresh memory that stays until the thread ends.
        unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
        own.0.set(at);
    });
    static DONE: Deed = Deed::new();
    DONE.once(|| {
        EXPLAIN.store(explain as *mut (), SeqCst);
        for (i, signo) in SIGNALS.into_iter().enumerate() {
            // SAFETY: zero is a valid sigaction.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            // SAFETY: zero is a valid sigaction, and `before` is writable.
            let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            unsafe { libc::sigaction(signo, std::ptr::null(), &mut before) };
            if before.sa_sigaction != action.sa_sigaction {
                // SAFETY: one thread of this process at a time; the handler reads it later.
                unsafe { (&raw mut PREVIOUS[i]).cast::<libc::sigaction>().write(before) };
                // SAFETY: a valid action.
                unsafe { libc::sigaction(signo, &action, std::ptr::null_mut()) };
            }
        }
    });
}

extern "C" fn handler(signo: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let address = unsafe { (*info).si_addr() } as usize;
    let explain = EXPLAIN.load(SeqCst);
    if !explain.is_null() {
        // SAFETY: a function of this type, see `install`.
        unsafe { std::mem::transmute::<*mut (), ExplainFn>(explain)(address) };
    }
    // Back to what was there before; returning runs the faulting instruction again,
    // so a debugger, a core dump or another handler sees the original fault.
    let place = if signo == SIGNALS[0] { 0 } else { 1 };
    // SAFETY: filled in by `install` before this handler could run.
    unsafe { libc::sigaction(signo, (&raw const PREVIOUS[place]).cast(), std::ptr::null_mut()) };
    // SAFETY: as above; raise is async-signal-safe.
    if unsafe { (*info).si_code } <= 0 {
        // Sent by somebody: there is no instruction that would fault again.
        // SAFETY: as above.
        unsafe { libc::raise(signo) };
    }
}

/// Writes what is to be said of a greenlet whose stack of `size` bytes is used up.
pub fn report(name: Option<&str>, id: i64, size: usize) {
    let mut text = Text { buffer: [0; 512], len: 0 };
    text.add("weald: stack overflow in greenlet ");
    if let Some(name) = name {
        text.add("'");
        text.add(name);
        text.add("' ");
    }
    text.add("#");
    text.number(id as usize);
    text.add(": its stack of ");
    text.number(size / 1024);
    text.add(" KiB is used up. Raise stack_size in weald_spawn_options.\n");
    let _ = sys::write_all(2, &text.buffer[..text.len]);
}

/// Formats without allocating.
struct Text {
    buffer: [u8; 512],
    len: usize,
}

impl Text {
    fn add(&mut self, part: &str) {
        for &b in part.as_bytes() {
            if self.len < self.buffer.len() {
                self.buffer[self.len] = b;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, n: usize) {
        if n >= 10 {
            self.number(n / 10);
        }
        self.add(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"][n % 10]);
    }
}
