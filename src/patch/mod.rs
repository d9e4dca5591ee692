//! C libraries that nobody has changed, made cooperative: what they call in the C library
//! is exchanged, at run time, for calls that park one greenlet and no thread.
//!
//! ```text
//! libpq --- poll ---> its slot ---> poll of libc
//!                         |
//!                         +-------> hook: in a greenlet?  no: on to libc, as if nothing were here
//!                                              |
//!                                             yes: try, park, try again; -1 and errno
//! ```
//! `elf` finds the slots, `library` knows what is loaded and what is never touched, `slots`
//! writes, `rules` remembers what is wanted; `symbol` is the list of functions, `stub` the
//! way in, `call` decides, and `hook` has the functions themselves.
//!
//! Hooks keep no state: nothing is known of descriptors, and O_NONBLOCK stays what the
//! program has made it. Where a hook may not park, the call is the C library's own.
//!
//! All of it is for Linux on x86-64 with glibc. Elsewhere the same functions fail with
//! ENOSYS.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
#[path = "without.rs"]
mod rules;

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod call;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod count;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod elf;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod handler;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod hook;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod library;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod loading;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod rules;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod slots;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod stub;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod symbol;

pub use rules::{all, library, report, unpatch, update};

// Sets of functions, see ffi::patch.
pub const POLL: u32 = 1;
pub const TRANSFER: u32 = 2;
pub const SOCKET: u32 = 4;
pub const SLEEP: u32 = 8;
pub const NAMES: u32 = 16;
pub const PROCESS: u32 = 32;
pub const EVERYTHING: u32 = POLL | TRANSFER | SOCKET | SLEEP | NAMES | PROCESS;
