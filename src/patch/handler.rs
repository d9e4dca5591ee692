//! Whether a signal handler runs: what it calls must not park, for what it has interrupted
//! may be anything, the hub too.
//!
//! A handler runs with its signal blocked. So nobody runs one when no signal that has a
//! handler is blocked, which is the usual case and one system call. If there is one, the
//! frame that the kernel has put on the stack is looked for:
//!
//! ```text
//! stack pointer   frames of the handler ...
//!                 address of the restorer          <-- the kernel's frame begins
//!                 what was interrupted: registers, and, twice, the signals that were blocked then
//!                 frames of what was interrupted ...
//! ```
//! It is one if the signal is not among those that were blocked then. Handlers set with
//! SA_NODEFER or SA_RESETHAND are not found out, unless they run on a stack of their own.

use crate::hub::Hub;
use crate::sys::glibc;
use libc::c_int;

/// The kernel's struct sigaction.
#[repr(C)]
#[derive(Default)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SIGNALS: c_int = 64;
const SET: usize = 8;
/// The frame: the address of the restorer, and a ucontext (flags, link, stack, registers, mask).
const LINK: usize = 8 + 8;
const STACK_POINTER: usize = 8 + 40 + 15 * 8;
const OLD_MASK: usize = 8 + 40 + 21 * 8;
const MASK: usize = 8 + 40 + 256;
/// How far to look. A handler's own frames are not deeper, as a rule.
const FARTHEST: usize = 256 * 1024;

/// On the stack that is current: a handler runs, or looks as if it did.
pub fn is_running(hub: &Hub) -> bool {
    let here = 0u8;
    let sp = (&raw const here) as usize;
    let bounds = hub.stack_bounds(hub.current());
    if bounds.is_some_and(|(low, high)| !(low..high).contains(&sp)) {
        return true; // on the stack for signals
    }
    let blocked = blocked();
    blocked != 0 && (is_on_signal_stack() || is_in_a_frame(blocked, sp, bounds))
}

#[cold]
fn is_in_a_frame(blocked: u64, sp: usize, bounds: Option<(usize, usize)>) -> bool {
    let top = bounds.map_or_else(|| top_of_thread(sp), |(_, high)| high).min(sp.saturating_add(FARTHEST));
    (1..=SIGNALS).filter(|signo| blocked & bit(*signo) != 0).any(|signo| {
        let action = action(signo);
        action.handler > 1 && has_frame(signo, action.restorer, sp & !7, top)
    })
}

fn has_frame(signo: c_int, restorer: usize, from: usize, top: usize) -> bool {
    // SAFETY: between the stack pointer and the end of the stack, all of it is there.
    let word = |at: usize| unsafe { (at as *const usize).read_volatile() };
    let end = top.saturating_sub(MASK + 8);
    (from..end).step_by(8).any(|at| {
        word(at) == restorer
            && word(at + LINK) == 0
            && word(at + MASK) as u64 & bit(signo) == 0
            && word(at + OLD_MASK) == word(at + MASK)
            && word(at + STACK_POINTER) > at
    })
}

fn bit(signo: c_int) -> u64 {
    1 << (signo - 1)
}

/// Nothing of a thread's stack lies above this: glibc keeps what it knows of a thread at the
/// end of its stack, and the first one's it remembers.
fn top_of_thread(sp: usize) -> usize {
    let thread: usize;
    // SAFETY: the first word of the thread's control block is its own address.
    unsafe { std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) thread, options(nostack, readonly)) };
    // SAFETY: set by the loader, before anything else runs.
    let first = unsafe { glibc::__libc_stack_end } as usize;
    [thread, first].into_iter().filter(|&end| end > sp).min().unwrap_or(sp)
}

/// The signals that this thread does not take now. The system call itself: its wrappers
/// leave out those that glibc uses.
fn blocked() -> u64 {
    let mut mask = 0u64;
    // SAFETY: asks only; a set of eight bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, 0, std::ptr::null::<u64>(), &raw mut mask, SET) };
    mask
}

fn action(signo: c_int) -> Action {
    let mut action = Action::default();
    // SAFETY: asks only, into the kernel's struct.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signo, std::ptr::null::<Action>(), &raw mut action, SET) };
    action
}

fn is_on_signal_stack() -> bool {
    // SAFETY: an all-zero stack is a valid value.
    let mut stack: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: asks only.
    unsafe { libc::sigaltstack(std::ptr::null(), &mut stack) == 0 && stack.ss_flags & libc::SS_ONSTACK != 0 }
}
