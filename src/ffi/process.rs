//! Processes.
//!
//! A process is a child of this one, made by weald_process_spawn in any thread, greenlet or
//! callback. It is reaped as soon as it ends and the loop runs, whether or not somebody waits for
//! it, and also when its handle was closed before: there are no zombies. Somebody else in the
//! process may still reap it first, with a waitpid of his own; then it is WEALD_ECHILD.
//!
//! Descriptors of the library's are never inherited by a child. Wait statuses are those of
//! waitpid(2); weald_exit_code and weald_exit_signal read them.

#![allow(non_camel_case_types)]

use super::{fence, fence64, options, put, slice};
use crate::error::{Error, Result};
use crate::heap;
use crate::hub::Hub;
use crate::object;
use crate::process::{self, Process, Setup, Stdio};
use crate::sys::child;
use crate::time::Deadline;
use std::ffi::{CStr, c_char, c_int, c_void};

/// A handle to a process.
pub type weald_process = i64;

/// What a child gets as one of its first three descriptors: this process's own.
pub const WEALD_INHERIT: c_int = 0;
/// /dev/null.
pub const WEALD_NULL: c_int = -1;
/// A pipe; weald_process_fd is its other end.
pub const WEALD_PIPE: c_int = -2;
/// For `err`: the same as `out`.
pub const WEALD_TO_OUT: c_int = -3;

/// For `flags`: the child leads a new session, without a terminal.
pub const WEALD_NEW_SESSION: c_int = 1;
/// For `flags`: the child has no descriptors but the first three and `fds`. Otherwise it inherits
/// all that are not close-on-exec.
pub const WEALD_CLOSE_FDS: c_int = 2;

/// How to start a program; see weald_process_spawn. What is zero or NULL is inherited. `in`, `out`
/// and `err` are WEALD_INHERIT, WEALD_NULL, WEALD_PIPE, or a descriptor above 0, which the child
/// gets a copy of.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_process_options {
    /// sizeof(weald_process_options)
    pub size: usize,
    /// The program's file; NULL: argv[0].
    pub program: *const c_char,
    /// NAME=value, up to a NULL.
    pub env: *const *const c_char,
    /// Where it runs.
    pub cwd: *const c_char,
    pub r#in: c_int,
    pub out: c_int,
    pub err: c_int,
    /// WEALD_NEW_SESSION, WEALD_CLOSE_FDS.
    pub flags: c_int,
    /// What the child has as descriptors 3, 4 and so on; negative: as without this.
    pub fds: *const c_int,
    pub fds_count: usize,
}

impl Default for weald_process_options {
    fn default() -> Self {
        // SAFETY: NULL pointers and zeros are what the struct calls "inherited".
        unsafe { std::mem::zeroed() }
    }
}

/// What goes into a child and what comes out; see weald_process_communicate.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_process_io {
    /// sizeof(weald_process_io)
    pub size: usize,
    /// What it reads; NULL: nothing.
    pub input: *const c_void,
    pub input_size: usize,
    /// How much it may write, to each of the two; 0: as much as it likes.
    pub limit: usize,
    /// Filled in: what it wrote, with a NUL behind it; NULL when that was no pipe. For weald_free.
    pub out: *mut c_char,
    pub out_size: usize,
    pub err: *mut c_char,
    pub err_size: usize,
    /// Filled in: its wait status.
    pub status: c_int,
}

fn get(hub: &Hub, p: weald_process) -> Result<&Process> {
    object::get(hub, p)
}

fn stdio(which: usize, n: c_int) -> Result<Stdio> {
    match n {
        WEALD_INHERIT => Ok(Stdio::Inherit),
        WEALD_NULL => Ok(Stdio::Null),
        WEALD_PIPE => Ok(Stdio::Pipe),
        WEALD_TO_OUT if which == 2 => Ok(Stdio::Out),
        1.. => Ok(Stdio::Fd(n)),
        _ => Err(Error::INVAL),
    }
}

/// A C string that must be there.
///
/// # Safety
/// NULL or NUL-terminated, for as long as it is used.
unsafe fn string<'a>(at: *const c_char) -> Result<&'a CStr> {
    if at.is_null() {
        return Err(Error::INVAL);
    }
    // SAFETY: not NULL; the rest by contract.
    Ok(unsafe { CStr::from_ptr(at) })
}

/// Starts a program with the arguments `argv`, which end with a NULL; `options` may be NULL. A
/// program without a slash in its name is looked for in the PATH of the environment that it will
/// have; a relative one is looked for from `cwd`. In the child no signal is blocked, and what this
/// process catches does what it does by default, as does SIGPIPE. Returns when the program has
/// been found and begun, as vfork(2) does, at no cost that grows with this process. Close it: a
/// child that runs goes on, and its pipes are closed. Does not switch. Fails with WEALD_EINVAL
/// (`argv` or its first NULL; a number or flag that has no meaning; more descriptors than it may
/// have), WEALD_EBADF (a descriptor
/// that is not open), WEALD_EAGAIN (no more processes), WEALD_ENOMEM, WEALD_EMFILE, WEALD_ENOENT
/// (no such program or folder), or another code with which chdir(2) or execve(2) failed, as
/// WEALD_EACCES.
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_spawn(
    argv: *const *const c_char,
    options: *const weald_process_options,
) -> weald_process {
    fence64(|hub| {
        // SAFETY: NULL, or as large as it says, by the caller.
        let o = unsafe { self::options(options) }?;
        // SAFETY: an array that ends with a NULL, by the caller.
        let first = if argv.is_null() { std::ptr::null() } else { unsafe { argv.read() } };
        // SAFETY: a C string, by the caller; used before this returns.
        let first = unsafe { string(first) }?;
        if o.flags & !(WEALD_NEW_SESSION | WEALD_CLOSE_FDS) != 0 {
            return Err(Error::INVAL);
        }
        // No process can have more.
        if o.fds_count > child::last_fd() as usize {
            return Err(Error::INVAL);
        }
        let setup = Setup {
            argv,
            // SAFETY: as for the first.
            program: if o.program.is_null() { first } else { unsafe { string(o.program) }? },
            env: o.env,
            cwd: o.cwd,
            stdio: [stdio(0, o.r#in)?, stdio(1, o.out)?, stdio(2, o.err)?],
            // SAFETY: the caller's array; used before this returns.
            fds: unsafe { slice(o.fds, o.fds_count) }?,
            new_session: o.flags & WEALD_NEW_SESSION != 0,
            close_fds: o.flags & WEALD_CLOSE_FDS != 0,
        };
        Process::spawn(hub, &setup)
    })
}

/// The process's number. It is not given to another process before this one has been reaped; use
/// weald_process_kill, which knows. Does not switch. Fails with WEALD_EBADF, WEALD_EPERM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_pid(p: weald_process) -> c_int {
    fence(|hub| get(hub, p).map(Process::pid))
}

/// The other end of a pipe that the child has as descriptor `which`: 0 to write, 1 or 2 to read. It
/// does not block: a call that would fails with EAGAIN, so wait with weald_wait_read or
/// weald_wait_write. It remains the process's, and is closed with it. Does not switch. Fails with
/// WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (another number), WEALD_ENOENT (no pipe, or closed).
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_fd(p: weald_process, which: c_int) -> c_int {
    fence(|hub| get(hub, p)?.end_fd(which))
}

/// Closes what weald_process_fd returns: 0, and the child reads the end of its input. Greenlets
/// that wait for it get WEALD_ECANCELED. Does not switch. Returns 0. Fails with WEALD_EBADF,
/// WEALD_EPERM, WEALD_EINVAL (another number), WEALD_ENOENT (no pipe, or closed).
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_close_fd(p: weald_process, which: c_int) -> c_int {
    fence(|hub| get(hub, p)?.close_fd(which))
}

/// Waits until the process has ended; its wait status is in `*status` (NULL: not wanted). Any
/// number of greenlets may wait, and one that comes later gets it as well. The process runs on when
/// the wait fails. May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed
/// meanwhile), WEALD_EPERM, WEALD_ECHILD (reaped by somebody else; in a forked child, to which it
/// does not belong), WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_wait(p: weald_process, status: *mut c_int, deadline: i64) -> c_int {
    fence(|hub| {
        let ended = get(hub, p)?.wait(hub, Deadline::from_raw(deadline))?;
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(status, ended) };
        Ok(())
    })
}

/// 1 when the process has ended, with its wait status in `*status` (NULL: not wanted), else 0. Does
/// not switch. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_ECHILD (as weald_process_wait).
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_poll(p: weald_process, status: *mut c_int) -> c_int {
    fence(|hub| {
        let ended = get(hub, p)?.poll(hub)?;
        if let Some(ended) = ended {
            // SAFETY: NULL or writable, by the caller.
            unsafe { put(status, ended) };
        }
        Ok(ended.is_some())
    })
}

/// Sends the process a signal, and never another one that has its number by now. 0 only looks
/// whether one may. Does not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EPERM (also when the
/// process has become another user's), WEALD_EINVAL (no such signal), WEALD_EALREADY (it has
/// ended), WEALD_ECHILD (as weald_process_wait).
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_kill(p: weald_process, signo: c_int) -> c_int {
    fence(|hub| get(hub, p)?.kill(hub, signo))
}

/// Talks to a process to its end: writes `input` to it and closes that pipe, reads what it writes,
/// both at a time so that neither side gets stuck, and waits for it. A process that does not read
/// its input is not a failure. What has come when it has ended counts: one of its own children that
/// keeps the pipe open is not waited for.
///
/// On success `out`, `err`, their sizes and `status` of `*io` are filled in; give `out` and `err` to
/// weald_free. When the call fails what was written and read is kept: call it again, with the same
/// input, to go on, or kill and close the process. It may have read from the pipes before.
///
/// May switch. Returns 0. Fails with WEALD_EBADF (also when it is closed meanwhile), WEALD_EINVAL
/// (`io` or `input` NULL; a size that no version of it has had), WEALD_EBUSY (another greenlet does
/// it), WEALD_EMSGSIZE (it wrote more than `limit`; it is not killed), WEALD_ECHILD (as
/// weald_process_wait), WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED,
/// WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_process_communicate(p: weald_process, io: *mut weald_process_io, deadline: i64) -> c_int {
    fence(|hub| {
        let process = get(hub, p)?;
        // SAFETY: NULL, or as large as it says, by the caller; it stays while this greenlet waits.
        let size = unsafe { io.cast::<usize>().as_ref() }.ok_or(Error::INVAL)?;
        if *size < size_of::<weald_process_io>() {
            return Err(Error::INVAL);
        }
        // SAFETY: as large as it says; checked.
        let io = unsafe { &mut *io };
        // SAFETY: the caller's memory, which stays while this greenlet waits.
        let input = unsafe { slice(io.input.cast::<u8>(), io.input_size) }?;
        let limit = if io.limit == 0 { usize::MAX } else { io.limit };
        let said = process.communicate(hub, input, limit, Deadline::from_raw(deadline))?;
        let (out_size, err_size) =
            (said.out.as_deref().map_or(0, <[u8]>::len), said.err.as_deref().map_or(0, <[u8]>::len));
        io.out = said.out.map_or(std::ptr::null_mut(), |block| block.give().cast());
        io.err = said.err.map_or(std::ptr::null_mut(), |block| block.give().cast());
        (io.out_size, io.err_size, io.status) = (out_size, err_size, said.status);
        Ok(())
    })
}

/// Runs `command` in /bin/sh and waits for it, as system(3) does, while other greenlets go on; the
/// wait status is in `*status` (NULL: not wanted). When the wait is cut short the shell is killed,
/// but not what it has started. May switch. Returns 0. Fails with WEALD_EINVAL (`command` NULL),
/// WEALD_EPERM, WEALD_ECHILD (reaped by somebody else), WEALD_EAGAIN (WEALD_NOW, or no more
/// processes), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn weald_system(command: *const c_char, status: *mut c_int, deadline: i64) -> c_int {
    fence(|hub| {
        // SAFETY: NULL or a C string, by the caller; used before anything waits.
        let ended = process::system(hub, unsafe { string(command) }?, Deadline::from_raw(deadline))?;
        // SAFETY: NULL or writable, by the caller.
        unsafe { put(status, ended) };
        Ok(())
    })
}

/// Starts `command` in /bin/sh with a pipe, as popen(3) does: `mode` "r" to read what it writes, "w"
/// to write what it reads, "rw" for both; see weald_process_fd. Close it after a weald_process_wait,
/// which together are pclose(3). Does not switch. Fails with WEALD_EINVAL (`command` NULL; another
/// mode), WEALD_EAGAIN (no more processes), WEALD_ENOMEM, WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_popen(command: *const c_char, mode: *const c_char) -> weald_process {
    fence64(|hub| {
        // SAFETY: NULL or C strings, by the caller; used before this returns.
        let (command, mode) = unsafe { (string(command)?, string(mode)?) };
        let (r#in, out) = match mode.to_bytes() {
            b"r" => (Stdio::Inherit, Stdio::Pipe),
            b"w" => (Stdio::Pipe, Stdio::Inherit),
            b"rw" => (Stdio::Pipe, Stdio::Pipe),
            _ => return Err(Error::INVAL),
        };
        process::shell(hub, command, [r#in, out, Stdio::Inherit])
    })
}

/// What a shell says of a wait status: the exit status, or 128 and the number of the signal that
/// ended the process. Never fails. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_exit_code(status: c_int) -> c_int {
    process::exit_code(status)
}

/// The signal that ended the process, or 0 when it ended by itself. Never fails. From any thread;
/// does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_exit_signal(status: c_int) -> c_int {
    process::exit_signal(status)
}

/// Frees memory that a function of the library has allocated for its caller, where its comment says
/// so; NULL is fine. From any thread; does not switch. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn weald_free(memory: *mut c_void) {
    // SAFETY: from the library and not used any more, by the caller.
    unsafe { heap::free(memory) };
}
