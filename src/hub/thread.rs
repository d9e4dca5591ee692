//! This thread's hub: one pointer, read in two instructions by every function of the API.
//!
//! It is never null. Where there is no hub it leads to a `Nobody`, which has a table where a
//! hub has its own, and nothing is found there: so who looks something up by a handle need
//! not ask first whether there is a hub.
//!
//! The pointer is a thread-local of the initial-exec model, which costs 2.5 ns where a call of
//! __tls_get_addr costs 4.9, and which stable Rust can not ask for: so it is written in
//! assembly, or in C (c/thread.c). It is small enough for the static TLS surplus, so a program
//! may still dlopen the library.

use super::Hub;
use crate::handle::Nowhere;
use std::mem::offset_of;

/// What there is in place of a hub. Nothing of it is looked at but the table.
#[repr(C)]
struct Nobody {
    before: [usize; offset_of!(Hub, table) / size_of::<usize>()],
    table: Nowhere,
}

const _: () = assert!(offset_of!(Nobody, table) == offset_of!(Hub, table));

impl Nobody {
    const fn new() -> Nobody {
        Nobody { before: [0; offset_of!(Hub, table) / size_of::<usize>()], table: Nowhere::empty() }
    }
}

/// In a thread that has not made a hub.
static NOT_YET: Nobody = Nobody::new();
/// In a thread whose hub has ended.
static NO_MORE: Nobody = Nobody::new();

/// This thread's hub, or what there is in place of one.
#[inline(always)]
pub fn get() -> *const Hub {
    let hub = local::get();
    // SAFETY: it begins as the address of a static, and is set to such and to hubs' alone.
    unsafe { std::hint::assert_unchecked(!hub.is_null()) };
    hub
}

pub fn set(hub: *const Hub) {
    local::set(hub);
}

pub fn end() {
    set((&raw const NO_MORE).cast());
}

pub fn has_ended() -> bool {
    get() == (&raw const NO_MORE).cast()
}

#[cfg(target_arch = "x86_64")]
mod local {
    use super::{Hub, NOT_YET};
    use std::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tdata.weald_thread_hub, \"awT\", @progbits",
        ".balign 8",
        ".hidden weald_thread_hub",
        ".globl weald_thread_hub",
        ".type weald_thread_hub, @object",
        ".size weald_thread_hub, 8",
        "weald_thread_hub:",
        ".quad {not_yet}",
        ".popsection",
        not_yet = sym NOT_YET,
    );

    #[inline(always)]
    pub fn get() -> *const Hub {
        let hub;
        // SAFETY: reads the thread-local above: the GOT holds its offset from the thread
        // pointer. Not `pure`: the value changes over the thread's life.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + weald_thread_hub@GOTTPOFF]",
                "mov {0}, qword ptr fs:[{0}]",
                out(reg) hub,
                options(nostack, preserves_flags, readonly)
            );
        }
        hub
    }

    pub fn set(hub: *const Hub) {
        // SAFETY: writes it.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + weald_thread_hub@GOTTPOFF]",
                "mov qword ptr fs:[{0}], {1}",
                out(reg) _,
                in(reg) hub,
                options(nostack, preserves_flags)
            );
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod local {
    use super::{Hub, NOT_YET};

    unsafe extern "C" {
        safe fn weald_thread_hub_get() -> *const Hub;
        safe fn weald_thread_hub_set(hub: *const Hub);
    }

    pub fn get() -> *const Hub {
        let hub = weald_thread_hub_get();
        if hub.is_null() { (&raw const NOT_YET).cast() } else { hub }
    }

    pub fn set(hub: *const Hub) {
        weald_thread_hub_set(hub);
    }
}
