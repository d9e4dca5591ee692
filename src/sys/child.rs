//! System calls about child processes: starting one, its end, its signals.
//!
//! A program is started as vfork does it: the child has the parent's memory, and the
//! thread that made it stands still until exec. So there is nothing to copy, however
//! large the parent is, and the child tells by a variable why exec failed:
//!
//! ```text
//! parent   block signals   clone ......................... the outcome   unblock
//! child                      setsid, chdir, descriptors, signals, exec
//!                                                 it failed: errno, _exit
//! ```
//! Between clone and exec nothing may allocate, lock or panic: it is all prepared before.

use super::{Call, check, may_fail};
use crate::error::{Error, Result};
use crate::once::Answer;
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::RawFd;

/// In `Launch::fds`: the number is in the child what it is in the parent.
pub const KEEP: RawFd = -1;
/// In `Launch::fds`, at 2: what 1 is.
pub const AS_OUT: RawFd = -2;

/// What a process with no limit of its own may open.
const MOST_FDS: libc::rlim_t = 1 << 20;
/// How much stack the child has before exec.
const STACK: usize = 64 << 10;

/// A program to start, and in which surroundings. The pointers stay good meanwhile.
pub struct Launch<'a> {
    /// Where it may be; the first that can be executed is.
    pub programs: &'a [CString],
    pub argv: *const *const c_char,
    pub env: *const *const c_char,
    /// Null: where the parent is.
    pub cwd: *const c_char,
    /// What the child has as 0, 1, 2 and so on.
    pub fds: Vec<RawFd>,
    pub new_session: bool,
    /// Nothing above `fds` is open in the child.
    pub close_others: bool,
}

/// A child, and a descriptor for it where there are such.
#[derive(Clone, Copy)]
pub struct Child {
    pub pid: i32,
    pub pidfd: RawFd,
}

/// What both sides see.
struct Shared<'a> {
    launch: Launch<'a>,
    /// Above every number that can be open.
    last_fd: RawFd,
    /// errno of what failed in the child; 0 after an exec.
    errno: c_int,
}

/// Starts a program. EAGAIN, ENOMEM, EMFILE, or what chdir, the descriptors or exec
/// failed with; then there is no child.
pub fn launch(launch: Launch) -> Result<Child> {
    may_fail(Call::Spawn)?;
    let by_pidfd = has_pidfds()?;
    if by_pidfd {
        may_fail(Call::PidFd)?;
    }
    let mut stack: Vec<u128> = Vec::new();
    stack.try_reserve_exact(STACK / 16).map_err(|_| Error::NOMEM)?;
    // SAFETY: the end of the allocation, whose type has a stack's alignment.
    let top = unsafe { stack.as_mut_ptr().add(STACK / 16) };
    let mut shared = Shared { launch, last_fd: last_fd(), errno: 0 };
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | if by_pidfd { libc::CLONE_PIDFD } else { 0 };

    // No handler of the program's may run in the child, in memory that is the parent's.
    let before = super::mask_signals(&every_signal());
    // SAFETY: stack and argument outlive the child's use of them: clone returns when it
    // has executed a program or ended.
    let pid = unsafe { libc::clone(child, top.cast(), flags, (&raw mut shared).cast(), &raw mut pidfd) };
    let made = check(pid);
    super::mask_signals(&before);

    let child = Child { pid: made?, pidfd };
    match shared.errno {
        0 => Ok(child),
        errno => {
            discard(child);
            Err(Error::from_errno(errno))
        }
    }
}

/// fork(2), with its handlers; `None` in the child. What stdio has not written yet is
/// written first, so that it is not written twice. EAGAIN, ENOMEM, EMFILE: no child.
pub fn fork() -> Result<Option<Child>> {
    may_fail(Call::Spawn)?;
    let by_pidfd = has_pidfds()?;
    // SAFETY: every stream of the C library's.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    // SAFETY: the child goes on with a copy of this thread; fork's handlers see to locks.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        return Ok(None);
    }
    let mut child = Child { pid, pidfd: -1 };
    if by_pidfd {
        match super::pidfd_open(pid) {
            Ok(fd) => child.pidfd = fd,
            Err(e) => {
                // SAFETY: it is ours and has not been reaped.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                discard(child);
                return Err(e);
            }
        }
    }
    Ok(Some(child))
}

/// Ends a forked child: what stdio holds is written, exit handlers are the parent's.
pub fn end(status: c_int) -> ! {
    // SAFETY: every stream of the C library's; then the end.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::_exit(status)
    }
}

/// Reaps a child that has ended or is about to.
fn discard(child: Child) {
    // SAFETY: no status is wanted.
    while unsafe { libc::waitpid(child.pid, std::ptr::null_mut(), 0) } < 0 && Error::last_os() == Error::INTR {}
    if child.pidfd >= 0 {
        super::close(child.pidfd);
    }
}

fn every_signal() -> libc::sigset_t {
    // SAFETY: an all-zero set is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable.
    unsafe { libc::sigfillset(&mut set) };
    set
}

/// Above every number that this process may open, or of a million.
pub fn last_fd() -> RawFd {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur.min(MOST_FDS) as RawFd
}

extern "C" fn child(shared: *mut c_void) -> c_int {
    // SAFETY: what `launch` passed; its thread stands still.
    let shared = unsafe { &mut *shared.cast::<Shared>() };
    shared.errno = match prepare(shared) {
        Ok(()) => execute(&shared.launch),
        Err(e) => -e.code(),
    };
    // SAFETY: ends the child alone, without a handler.
    unsafe { libc::_exit(127) }
}

fn prepare(shared: &mut Shared) -> Result<()> {
    let Shared { launch, last_fd, .. } = shared;
    if launch.new_session {
        // SAFETY: no arguments. A new child leads no group, so it does not fail.
        check(unsafe { libc::setsid() })?;
    }
    place(&mut launch.fds)?;
    if launch.close_others {
        close_from(launch.fds.len() as RawFd, *last_fd);
    }
    if !launch.cwd.is_null() {
        // SAFETY: a C string, by contract of `Launch`.
        check(unsafe { libc::chdir(launch.cwd) })?;
    }
    reset_signals();
    Ok(())
}

/// Moves each descriptor to its number: first out of the way of each other, then there.
fn place(fds: &mut [RawFd]) -> Result<()> {
    let count = fds.len() as RawFd;
    for (i, fd) in fds.iter_mut().enumerate() {
        if (0..count).contains(fd) && *fd != i as RawFd {
            // SAFETY: numbers alone.
            *fd = check(unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, count) })?;
        }
    }
    for (i, &fd) in fds.iter().enumerate() {
        let (i, fd) = (i as RawFd, if fd == AS_OUT { 1 } else { fd });
        if fd == i {
            // SAFETY: numbers alone.
            check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
        } else if fd >= 0 {
            // SAFETY: numbers alone.
            check(unsafe { libc::dup2(fd, i) })?;
        }
    }
    Ok(())
}

fn close_from(first: RawFd, last: RawFd) {
    // SAFETY: numbers alone; they are the child's copies.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } < 0 {
        (first..last).for_each(super::close);
    }
}

/// What is caught does what it does by default, and so does SIGPIPE, which libraries
/// have ignored for reasons of their own; what else is ignored stays so.
fn reset_signals() {
    for signo in 1..=libc::SIGRTMAX() {
        // SAFETY: an all-zero sigaction is a valid value: SIG_DFL.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: `action` is writable; the C library refuses its own signals.
        let known = unsafe { libc::sigaction(signo, std::ptr::null(), &mut action) } == 0;
        let ignored = action.sa_sigaction == libc::SIG_IGN && signo != libc::SIGPIPE;
        if known && action.sa_sigaction != libc::SIG_DFL && !ignored {
            action.sa_sigaction = libc::SIG_DFL;
            action.sa_flags = 0;
            // SAFETY: a valid action.
            unsafe { libc::sigaction(signo, &action, std::ptr::null_mut()) };
        }
    }
    // SAFETY: an all-zero set is the empty one.
    super::mask_signals(&unsafe { std::mem::zeroed() });
}

/// Does not return, but with an errno: of the first program that is there, though it
/// can not be executed; if none is, of the last.
fn execute(launch: &Launch) -> c_int {
    let mut outcome = libc::ENOENT;
    for program in launch.programs {
        // SAFETY: C strings in arrays that end with a null, by contract of `Launch`.
        unsafe { libc::execve(program.as_ptr(), launch.argv, launch.env) };
        // SAFETY: this thread's errno.
        match unsafe { *super::errno_location() } {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => outcome = libc::EACCES,
            errno => return errno,
        }
    }
    outcome
}

// ---- pipes --------------------------------------------------------------------------

/// A pipe that no child inherits by itself: where to read, where to write.
pub fn pipe() -> Result<[RawFd; 2]> {
    may_fail(Call::Open)?;
    let mut ends = [-1; 2];
    // SAFETY: room for two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok(ends)
}

/// /dev/null, to read from and to write to.
pub fn null() -> Result<RawFd> {
    may_fail(Call::Open)?;
    // SAFETY: a C string.
    check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) })
}

/// How many bytes can be read at once.
pub fn available(fd: RawFd) -> Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: FIONREAD writes an int.
    check(unsafe { libc::ioctl(fd, libc::FIONREAD, &mut bytes) })?;
    Ok(bytes.max(0) as usize)
}

// ---- its end, its signals -------------------------------------------------------------

/// Whether a child can be waited for and signalled by a descriptor here: Linux 5.4, and no
/// sandbox that forbids it. Asked until there is an answer: EMFILE, ENOMEM.
pub fn has_pidfds() -> Result<bool> {
    static ANSWER: Answer = Answer::new();
    if let Some(has) = ANSWER.known() {
        return Ok(has);
    }
    // SAFETY: no arguments.
    let has = match super::pidfd_open(unsafe { libc::getpid() }) {
        Ok(fd) => {
            let has = reap(Child { pid: 0, pidfd: fd }) == Err(Error::CHILD); // we are no child of ours
            super::close(fd);
            has
        }
        Err(e) if e.is_no_room() => return Err(e),
        Err(_) => false,
    };
    Ok(ANSWER.is(has))
}

/// Reaps a child if it has ended: `Some(wait status)`, or `None` while it runs. ECHILD when
/// somebody else has.
pub fn reap(child: Child) -> Result<Option<i32>> {
    if child.pidfd < 0 {
        return super::reap(child.pid);
    }
    // SAFETY: an all-zero siginfo is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is writable.
    check(unsafe { libc::waitid(libc::P_PIDFD, child.pidfd as libc::id_t, &mut info, libc::WEXITED | libc::WNOHANG) })?;
    // SAFETY: waitid has filled it in, or it is zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some(match info.si_code {
        libc::CLD_EXITED => status << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    }))
}

/// EINVAL, EPERM; ESRCH when it has been reaped.
pub fn signal(child: Child, signo: c_int) -> Result<()> {
    if child.pidfd < 0 {
        // SAFETY: numbers alone; a child that is not reaped keeps its number.
        return check(unsafe { libc::kill(child.pid, signo) }).map(drop);
    }
    // SAFETY: no siginfo is given.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, child.pidfd, signo, std::ptr::null_mut::<libc::siginfo_t>(), 0)
    };
    check(sent as c_int).map(drop)
}
