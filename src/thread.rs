//! This thread's hub: one pointer, read in two instructions (see c/thread.c).

use std::ffi::c_void;

unsafe extern "C" {
    #[cfg(not(target_arch = "x86_64"))]
    safe fn weald_thread_hub_get() -> *mut c_void;
    safe fn weald_thread_hub_set(hub: *mut c_void);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn get() -> *mut c_void {
    let hub: *mut c_void;
    // SAFETY: reads a thread-local that c/thread.c defines with the initial-exec
    // model: the GOT holds its offset from the thread pointer. Not `pure`: the
    // value changes over the thread's life.
    unsafe {
        std::arch::asm!(
            "mov {0}, qword ptr [rip + weald_thread_hub@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) hub,
            options(nostack, preserves_flags, readonly)
        );
    }
    hub
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn get() -> *mut c_void {
    weald_thread_hub_get()
}

pub fn set(hub: *mut c_void) {
    weald_thread_hub_set(hub);
}
