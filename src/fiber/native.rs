//! Fibers on x86-64: a switch that does not disturb the return predictor, and that can
//! go from one fiber straight to another.
//!
//! corosensei resumes with `call` and suspends with `ret`. That pairs up as long as a
//! coroutine suspends in the very frame it was resumed in. Behind a C ABI it never
//! does: the library's function was called by C, so each switch leaves the return
//! predictor off by the frames in between, and every `ret` of theirs is mispredicted:
//! a yield of two greenlets costs 45 ns. Here both directions are jumps; returns stay
//! predicted as long as greenlets that alternate suspend at like places.
//!
//! A suspended context, on its own stack, and where `sp` points:
//!
//! ```text
//!        | ...              |            | body, data       |
//!        +------------------+            | root             |
//!        | saved rbp        |     sp ->  | enter            |
//!        | saved rbx        |            +------------------+
//!  sp -> | where to go on   |            one that has not begun
//!        +------------------+
//! ```
//! The other callee-saved registers are clobbers of the switch, so the compiler saves
//! those that are in use. MXCSR and the x87 control word are not switched: like
//! fesetround itself, they belong to the thread.

use super::Body;
use std::arch::{asm, naked_asm};
use std::cell::Cell;

/// Where a computation goes on while it is suspended; 0 when there is none.
#[derive(Default)]
#[repr(C)]
pub struct Fiber {
    sp: Cell<usize>, // alone, and so at the fiber's own address
}

/// The thread's own stack: while a fiber runs, it goes on where `main` says. That is a fiber
/// like any other, so who runs on this stack may pass and be passed to.
///
/// ```text
///  main passes     | main's frames |  <- main.sp: who passes to main goes on here
///  to a fiber      +---------------+
///  who suspends    | enter_root    |  laid on top by whoever wants the root, and not main:
///  to the root     +---------------+  `serve` runs below main's frames, and returns to them
///  serve resumes   | frames of the |
///  a fiber         | loop          |  <- main.sp: the loop looks who it is that goes on
/// ```
#[repr(C)]
pub struct Root {
    main: *const Fiber,
    serve: Serve,
    /// What `main` says is where the loop goes on.
    in_loop: Cell<bool>,
}

/// Does the root's work on main's stack, from whoever has suspended to it, or `returned` to
/// it, until main goes on.
pub type Serve = extern "C" fn(root: *const Root, returned: bool);

impl Root {
    /// # Safety
    /// `main` outlives the root.
    pub unsafe fn new(main: &Fiber, serve: Serve) -> Root {
        Root { main, serve, in_loop: Cell::new(false) }
    }

    /// The loop is over: main goes on.
    #[inline(always)]
    pub fn leave_loop(&self) {
        self.in_loop.set(false);
    }

    #[inline(always)]
    fn sp(&self) -> &Cell<usize> {
        // SAFETY: by contract of `new`.
        unsafe { &(*self.main).sp }
    }

    /// Where the root goes on; for one switch.
    ///
    /// # Safety
    /// Not on the root, which so is suspended.
    #[inline(always)]
    unsafe fn place(&self) -> *const usize {
        let sp = self.sp();
        if !self.in_loop.get() {
            let entry = (sp.get() - size_of::<usize>()) as *mut usize;
            // SAFETY: below the frames of a stack that is suspended nothing is in use.
            unsafe { entry.write(enter_root as *const () as usize) };
            sp.set(entry as usize);
        }
        sp.as_ptr()
    }
}

/// On main's stack, with main's suspended frames above: serves, then goes on with main as if it
/// had been switched to.
///
/// An unwinder or debugger is told where main goes on, with what registers, so that it shows
/// main's frames behind those of the loop.
#[unsafe(naked)]
extern "C" fn enter_root() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_def_cfa rsp, 24", // what `switch` has saved
        ".cfi_offset rip, -24",
        ".cfi_offset rbx, -16",
        ".cfi_offset rbp, -8",
        "mov rbx, rsp",
        ".cfi_def_cfa_register rbx",
        "mov r12, rcx",
        "and rsp, -16",
        "mov rdi, rcx",
        "mov rsi, rdx",
        "call [rcx + {serve}]",
        "mov rsp, rbx",
        "mov rsi, [r12 + {main}]",
        "mov rcx, r12",
        "xor edx, edx",
        "pop rax",
        "jmp rax",
        ".cfi_endproc",
        serve = const std::mem::offset_of!(Root, serve),
        main = const std::mem::offset_of!(Root, main),
    )
}

/// Saves the current context to `*save` and goes on at `*to`. Returns, in registers,
/// whose context it is that goes on here later (its `to`), the root, and the `done` of
/// whoever switched: a value that was spilled to this stack would be known only after
/// the stack pointer and the spill have been loaded, one after the other.
///
/// # Safety
/// `*to` was saved by this function, or laid out by `begin`, and is used once.
#[inline(always)]
unsafe fn switch(
    save: *mut usize,
    to: *const usize,
    root: *const Root,
    done: usize,
) -> (*const usize, *const Root, usize) {
    let (me, root_out, done_out);
    // SAFETY: by contract; everything that is not saved is declared clobbered.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov [rdi], rsp",
            "mov rsp, [rsi]",
            "pop rax",
            "jmp rax",
            "2:",
            "pop rbx",
            "pop rbp",
            inout("rdi") save => _,
            inout("rsi") to => me,
            inout("rdx") done => done_out,
            inout("rcx") root => root_out,
            out("rax") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    (me, root_out, done_out)
}

/// What lies at the top of a new stack, for `enter` to pop.
#[repr(C)]
struct Start {
    enter: extern "C" fn(),
    root: *const Root,
    body: Body,
    data: *const (),
}

/// The first thing on a new stack. An unwinder or debugger stops here: there is no
/// return address.
///
/// The body is jumped to. A call would stay in the return predictor when the body leaves
/// instead of returning, and then whoever goes on would return one place off: with it, and
/// with another in `Hub::succeed`, a spawn and its join cost 54 ns, without them 43.
#[unsafe(naked)]
extern "C" fn enter() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "pop rbx",
        "pop rax",
        "pop rdi",
        "and rsp, -16",
        "lea rdx, [rip + 2f]",
        "push rdx",
        "jmp rax",
        "2:",
        "mov rdi, rbx",
        "call {done}",
        "ud2",
        ".cfi_endproc",
        done = sym done,
    )
}

extern "C" fn done(root: *const Root) -> ! {
    let mut nowhere = 0;
    // SAFETY: the root outlives the computation and waits at its `sp`, because a fiber
    // runs. This stack is not used again.
    unsafe { switch(&raw mut nowhere, (*root).place(), root, 1) };
    unreachable!("a fiber that is done was resumed");
}

/// # Safety
/// As for `switch`, and nobody comes back.
#[inline(always)]
unsafe fn leave_for(to: *const usize, root: &Root) -> ! {
    let mut nowhere = 0;
    // SAFETY: by contract.
    unsafe { switch(&raw mut nowhere, to, root, 0) };
    unreachable!("a fiber that has left was resumed");
}

impl Fiber {
    /// Its stack may become another's when it is done, without a word to anybody.
    pub const HANDS_ON: bool = true;

    /// It can be passed to: it is suspended, or has not begun.
    #[inline(always)]
    pub fn is_suspended(&self) -> bool {
        self.sp.get() != 0
    }

    /// About where its frames begin while it is suspended; 0 without a computation.
    #[inline(always)]
    pub fn sp(&self) -> usize {
        self.sp.get()
    }

    /// # Safety
    /// As for `Fiber::begin` in the parent module.
    #[inline]
    pub unsafe fn begin(&self, root: &Root, (_, top): (usize, usize), body: Body, data: *const ()) {
        let words = (top - size_of::<Start>()) as *mut Start;
        let start = Start { enter, root, body, data };
        // SAFETY: the topmost words of a stack that is ours.
        unsafe { words.write(start) };
        self.sp.set(words as usize);
    }

    /// # Safety
    /// On the root, and the fiber is suspended.
    #[inline(always)]
    pub unsafe fn resume(&self, root: &Root) -> bool {
        root.in_loop.set(true);
        // SAFETY: `sp` was saved by a switch or laid out by `begin`.
        let (_, _, done) = unsafe { switch(root.sp().as_ptr(), self.sp.as_ptr(), root, 0) };
        done != 0
    }

    /// # Safety
    /// On this fiber's own stack.
    #[inline(always)]
    pub unsafe fn suspend(&self, root: &Root) -> (*const Fiber, *const Root) {
        // SAFETY: by contract a fiber runs, so the root waits at its `sp`.
        let (me, root, _) = unsafe { switch(self.sp.as_ptr(), root.place(), root, 0) };
        (me.cast(), root)
    }

    /// # Safety
    /// On this fiber's own stack, and `to` is suspended (or is this very fiber).
    #[inline(always)]
    pub unsafe fn pass(&self, to: &Fiber, root: &Root) -> (*const Fiber, *const Root) {
        // SAFETY: `to.sp` is read after ours was saved, so that passing to oneself is
        // nothing; otherwise it was saved by a switch or laid out by `begin`.
        let (me, root, _) = unsafe { switch(self.sp.as_ptr(), to.sp.as_ptr(), root, 0) };
        (me.cast(), root)
    }

    /// # Safety
    /// As for `Fiber::leave` in the parent module.
    #[inline(always)]
    pub unsafe fn leave(to: &Fiber, root: &Root) -> ! {
        // SAFETY: by contract.
        unsafe { leave_for(to.sp.as_ptr(), root) }
    }

    /// # Safety
    /// As for `Fiber::leave_to_root` in the parent module.
    #[inline(always)]
    pub unsafe fn leave_to_root(root: &Root) -> ! {
        // SAFETY: by contract the root waits.
        unsafe { leave_for(root.place(), root) }
    }

    /// Forgets the computation.
    #[inline]
    pub fn clear(&self) {
        self.sp.set(0);
    }
}
