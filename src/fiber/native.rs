//! Fibers on x86-64: a switch that does not disturb the return predictor.
//!
//! corosensei resumes with `call` and suspends with `ret`. That pairs up as long as a
//! coroutine suspends in the very frame it was resumed in. Behind a C ABI it never
//! does: the library's function was called by C, so each switch leaves the return
//! predictor off by the frames in between, and every `ret` of theirs is mispredicted:
//! a yield of two greenlets costs 45 ns. Here both directions are jumps; returns stay
//! predicted as long as greenlets that alternate suspend at like places: 7 ns.
//!
//! A suspended context, on its own stack, and where `sp` points:
//!
//! ```text
//!        | ...              |
//!        +------------------+
//!        | saved rbp        |
//!        | saved rbx        |
//!  sp -> | where to go on   |
//!        +------------------+
//! ```
//! The other callee-saved registers are clobbers of the switch, so the compiler saves
//! those that are in use. MXCSR and the x87 control word are not switched: like
//! fesetround itself, they belong to the thread.

use super::Body;
use crate::stack::Stack;
use std::arch::{asm, naked_asm};
use std::cell::Cell;

pub struct Fiber {
    stack: Stack,
    /// Where the fiber goes on, while it is suspended.
    sp: Cell<usize>,
    /// Where the root goes on, while the fiber runs.
    root_sp: Cell<usize>,
    done: Cell<bool>,
    body: Body,
    data: *const (),
}

/// Saves the current context to `*save` and goes on at `to`.
///
/// # Safety
/// `to` was saved by this function, or laid out by `Fiber::new`, and is used once.
#[inline(always)]
unsafe fn switch(save: *mut usize, to: usize, fiber: *const Fiber) {
    // SAFETY: by contract; everything that is not saved is declared clobbered.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov [rdi], rsp",
            "mov rsp, rsi",
            "pop rax",
            "jmp rax",
            "2:",
            "pop rbx",
            "pop rbp",
            inout("rdi") save => _,
            inout("rsi") to => _,
            inout("rdx") fiber => _,
            out("rax") _, out("rcx") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("sysv64"),
        );
    }
}

/// The first thing on a new stack. An unwinder or debugger stops here: there is no
/// return address.
#[unsafe(naked)]
extern "C" fn enter() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "mov rdi, rdx",
        "call {run}",
        "ud2",
        ".cfi_endproc",
        run = sym run,
    )
}

extern "C" fn run(fiber: *const Fiber) -> ! {
    // SAFETY: the address that `resume` passed, where the fiber stays while it runs.
    let fiber = unsafe { &*fiber };
    (fiber.body)(fiber.data);
    fiber.done.set(true);
    let mut nowhere = 0;
    // SAFETY: the root saved itself when it resumed us; we are not resumed again.
    unsafe { switch(&mut nowhere, fiber.root_sp.get(), fiber) };
    unreachable!("a fiber that is done was resumed");
}

impl Fiber {
    /// # Safety
    /// As for `Fiber::new` in the parent module.
    #[inline]
    pub unsafe fn new(stack: Stack, body: Body, data: *const ()) -> Fiber {
        // Once the address has been popped the stack is aligned to 16, as the ABI wants
        // it before a call.
        let sp = stack.top() - 24;
        // SAFETY: the topmost words of a stack that is ours.
        unsafe { (sp as *mut usize).write(enter as *const () as usize) };
        Fiber { stack, sp: Cell::new(sp), root_sp: Cell::new(0), done: Cell::new(false), body, data }
    }

    #[inline(always)]
    pub fn resume(&mut self) -> bool {
        // SAFETY: `sp` was saved by `suspend` or laid out by `new`.
        unsafe { switch(self.root_sp.as_ptr(), self.sp.get(), self) };
        self.done.get()
    }

    /// # Safety
    /// Called on this fiber's own stack.
    #[inline(always)]
    pub unsafe fn suspend(&self) {
        // SAFETY: by contract we run, so the root waits at `root_sp`.
        unsafe { switch(self.sp.as_ptr(), self.root_sp.get(), self) };
    }

    pub fn into_stack(self) -> Stack {
        self.stack
    }

    pub fn abandon(self) -> Stack {
        self.stack
    }
}
