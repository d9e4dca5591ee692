//! Patching.
//!
//! Makes C libraries cooperative that know nothing of greenlets: what they call in the C library
//! (poll, read, connect, sleep, getaddrinfo...) then parks the calling greenlet alone. The addresses
//! are exchanged in memory, in the libraries that are named or in all; no file is changed. A call
//! that is not made by a greenlet stays the C library's: on threads without a hub, in callbacks of
//! the loop, in signal handlers, in constructors, and where a binding forbids to park.
//!
//! Patched calls return what the C library's return, -1 and errno; a killed greenlet's fail with
//! ECANCELED, and those whose weald_timeout has passed with ETIMEDOUT. O_NONBLOCK, MSG_DONTWAIT,
//! SO_RCVTIMEO and SO_SNDTIMEO keep their meaning. What stays blocking: direct system calls, stdio,
//! files, locks of pthreads, calls with a signal mask, and functions whose address somebody took
//! before. The program itself and the libraries that it is linked with are patched alike; the C
//! library, its parts, the loader, sanitizers and this library never are.
//!
//! For Linux on x86-64 with glibc; elsewhere all of it fails with WEALD_ENOSYS.

use super::{fence_any, text};
use crate::patch;
use crate::sys::descriptor;
use std::ffi::{c_char, c_int};

/// poll, ppoll, select, pselect, epoll_wait, epoll_pwait.
pub const WEALD_PATCH_POLL: c_int = 1;
/// read, write, readv, writev, recv, recvfrom, recvmsg, send, sendto, sendmsg.
pub const WEALD_PATCH_TRANSFER: c_int = 2;
/// connect, accept, accept4, close.
pub const WEALD_PATCH_SOCKET: c_int = 4;
/// sleep, usleep, nanosleep, clock_nanosleep.
pub const WEALD_PATCH_SLEEP: c_int = 8;
/// getaddrinfo, getnameinfo, gethostbyname, gethostbyaddr and their like.
pub const WEALD_PATCH_NAMES: c_int = 16;
/// waitpid and wait4 for one child that ends.
pub const WEALD_PATCH_PROCESS: c_int = 32;

/// Patches the functions of `set` (WEALD_PATCH_..., or'd; 0: all of them) in the program and in
/// every library that is loaded, and in those that are loaded later: before dlsym gives out
/// anything of theirs, or when weald_patch_update is called. Sets of several calls add up. Returns
/// how many slots lead to this library now. From any thread; does not switch. Fails with
/// WEALD_EINVAL (other bits), WEALD_ENOENT (there is no /proc), WEALD_EMFILE, WEALD_ENOMEM,
/// WEALD_ENOSYS.
#[unsafe(no_mangle)]
pub extern "C" fn weald_patch_all(set: c_int) -> c_int {
    fence_any(|| patch::all(set as u32)) as c_int
}

/// As weald_patch_all, for one library: `name` is its path, its file's name or its soname, as
/// "libpq.so.5"; NULL: the program. When it is unloaded and loaded again, call it once more.
/// Returns how many of its slots lead to this library now. From any thread; does not switch. Fails
/// with WEALD_EINVAL (other bits; an empty name, or no UTF-8), WEALD_ENOENT (no such library is
/// loaded; there is no /proc), WEALD_EPERM (one that is never patched), WEALD_EACCES (its pages are
/// sealed), WEALD_EAGAIN (another thread is loading it), WEALD_EMFILE, WEALD_ENOMEM, WEALD_ENOSYS.
#[unsafe(no_mangle)]
pub extern "C" fn weald_patch_library(name: *const c_char, set: c_int) -> c_int {
    // SAFETY: NULL or NUL-terminated, by the caller.
    fence_any(|| patch::library(unsafe { text(name) }?, set as u32)) as c_int
}

/// Patches what was loaded since. Returns how many slots lead to this library now. From any thread;
/// does not switch. Fails with WEALD_ENOENT (there is no /proc), WEALD_EMFILE, WEALD_ENOMEM,
/// WEALD_ENOSYS.
#[unsafe(no_mangle)]
pub extern "C" fn weald_patch_update() -> c_int {
    fence_any(patch::update) as c_int
}

/// Undoes all of it: every slot leads where it led before. Calls under way end as they would have.
/// Returns how many slots there were. From any thread; does not switch. Fails with WEALD_ENOENT
/// (there is no /proc), WEALD_EACCES (pages have been sealed since), WEALD_EMFILE, WEALD_ENOMEM,
/// WEALD_ENOSYS.
#[unsafe(no_mangle)]
pub extern "C" fn weald_unpatch() -> c_int {
    fence_any(patch::unpatch) as c_int
}

/// Writes to `fd`, for every library that is patched: how many slots each function has, how often
/// it was called, and how many of those calls waited. Calls are counted by the address that they
/// return to. From any thread; does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EAGAIN,
/// WEALD_EPIPE, or whatever else write(2) fails with; WEALD_ENOSYS.
#[unsafe(no_mangle)]
pub extern "C" fn weald_patch_report(fd: c_int) -> c_int {
    fence_any(|| descriptor::write_text(fd, &patch::report()?)) as c_int
}
