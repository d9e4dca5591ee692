//! Error codes: negated errno values, plus a few of our own above 2000.
//!
//! `Error` always holds a negative code. Inside the library everything returns
//! `Result`; `ffi` converts once, at the fence. One table yields names and texts.
//! A code's number is never reused.

use std::ffi::CStr;

/// A failure, as the C side will see it: a negative code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(i32);

pub type Result<T> = std::result::Result<T, Error>;

/// First code of our own; errno values end well below.
const OWN_BASE: i32 = 2000;
/// Those of names: a hundred further on, so that each list can grow.
const EAI_BASE: i32 = 2100;
/// What glibc and musl have, and the libc crate does not name.
const EAI_ADDRFAMILY: i32 = -9;

impl Error {
    pub const PERM: Error = Error(-libc::EPERM);
    pub const NOENT: Error = Error(-libc::ENOENT);
    pub const INTR: Error = Error(-libc::EINTR);
    pub const BADF: Error = Error(-libc::EBADF);
    pub const CHILD: Error = Error(-libc::ECHILD);
    pub const AGAIN: Error = Error(-libc::EAGAIN);
    pub const NOMEM: Error = Error(-libc::ENOMEM);
    pub const ACCES: Error = Error(-libc::EACCES);
    pub const FAULT: Error = Error(-libc::EFAULT);
    pub const BUSY: Error = Error(-libc::EBUSY);
    pub const INVAL: Error = Error(-libc::EINVAL);
    pub const PIPE: Error = Error(-libc::EPIPE);
    pub const DEADLK: Error = Error(-libc::EDEADLK);
    pub const NOSYS: Error = Error(-libc::ENOSYS);
    pub const NOTSOCK: Error = Error(-libc::ENOTSOCK);
    pub const OPNOTSUPP: Error = Error(-libc::EOPNOTSUPP);
    pub const MSGSIZE: Error = Error(-libc::EMSGSIZE);
    pub const INPROGRESS: Error = Error(-libc::EINPROGRESS);
    pub const ADDRINUSE: Error = Error(-libc::EADDRINUSE);
    pub const CONNABORTED: Error = Error(-libc::ECONNABORTED);
    pub const CONNRESET: Error = Error(-libc::ECONNRESET);
    pub const CONNREFUSED: Error = Error(-libc::ECONNREFUSED);
    pub const OVERFLOW: Error = Error(-libc::EOVERFLOW);
    pub const PROTO: Error = Error(-libc::EPROTO);
    pub const SRCH: Error = Error(-libc::ESRCH);
    pub const TIMEDOUT: Error = Error(-libc::ETIMEDOUT);
    pub const ALREADY: Error = Error(-libc::EALREADY);
    pub const CANCELED: Error = Error(-libc::ECANCELED);
    pub const SHUTDOWN: Error = Error(-libc::ESHUTDOWN);
    /// A blocking call in a loop callback. Its own number, so that it is never
    /// mistaken for "try again".
    pub const WOULDBLOCK: Error = Error(-(OWN_BASE + 1));
    /// A panic was caught at the fence: a defect of ours or of a callback.
    pub const PANIC: Error = Error(-(OWN_BASE + 2));

    /// The other side has not shown who it is.
    pub const CERTIFICATE: Error = Error(-(OWN_BASE + 10));

    // Answers of a resolver, which have no errno.
    pub const EAI_BADFLAGS: Error = Error(-(EAI_BASE + 1));
    pub const EAI_NONAME: Error = Error(-(EAI_BASE + 2));
    pub const EAI_AGAIN: Error = Error(-(EAI_BASE + 3));
    pub const EAI_FAIL: Error = Error(-(EAI_BASE + 4));
    pub const EAI_NODATA: Error = Error(-(EAI_BASE + 5));
    pub const EAI_FAMILY: Error = Error(-(EAI_BASE + 6));
    pub const EAI_SOCKTYPE: Error = Error(-(EAI_BASE + 7));
    pub const EAI_SERVICE: Error = Error(-(EAI_BASE + 8));
    pub const EAI_ADDRFAMILY: Error = Error(-(EAI_BASE + 9));
    pub const EAI_OVERFLOW: Error = Error(-(EAI_BASE + 12));

    /// An error from a raw code; anything that is not negative becomes `INVAL`.
    pub const fn from_code(code: i32) -> Error {
        if code < 0 { Error(code) } else { Error::INVAL }
    }

    /// The current thread's errno.
    pub fn last_os() -> Error {
        Error::from_errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// What a binding has interrupted a call with, see weald_interrupt: EINTR, or a number that is neither
    /// the system's nor ours. It says nothing of what the call was about.
    pub const fn is_interrupt(self) -> bool {
        self.0 == -libc::EINTR || self.0 < -4095
    }

    /// Something of the system's is used up, for now.
    pub fn is_no_room(self) -> bool {
        matches!(-self.code(), libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    }

    pub const fn from_errno(errno: i32) -> Error {
        Error::from_code(-errno.abs())
    }

    /// What getaddrinfo or getnameinfo returned, with errno as it was then.
    pub fn from_eai(eai: i32, errno: i32) -> Error {
        match eai {
            libc::EAI_BADFLAGS => Error::EAI_BADFLAGS,
            libc::EAI_NONAME => Error::EAI_NONAME,
            libc::EAI_AGAIN => Error::EAI_AGAIN,
            libc::EAI_NODATA => Error::EAI_NODATA,
            libc::EAI_FAMILY => Error::EAI_FAMILY,
            libc::EAI_SOCKTYPE => Error::EAI_SOCKTYPE,
            libc::EAI_SERVICE => Error::EAI_SERVICE,
            libc::EAI_OVERFLOW => Error::EAI_OVERFLOW,
            libc::EAI_MEMORY => Error::NOMEM,
            libc::EAI_SYSTEM if errno != 0 => Error::from_errno(errno),
            EAI_ADDRFAMILY => Error::EAI_ADDRFAMILY,
            _ => Error::EAI_FAIL,
        }
    }

    pub fn code(self) -> i32 {
        self.0
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Error {
        Error::from_errno(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Error({})", name(self.0).to_string_lossy())
    }
}

struct Entry {
    code: i32,
    name: &'static CStr,
    text: &'static CStr,
}

macro_rules! table {
    ($($code:expr, $name:literal, $text:literal;)*) => {
        const TABLE: &[Entry] = &[$(Entry { code: $code, name: $name, text: $text },)*];
    };
}

table! {
    0, c"OK", c"success";
    -libc::EPERM, c"EPERM", c"not permitted: wrong thread, or not the owner";
    -libc::ENOENT, c"ENOENT", c"no such file or directory";
    -libc::ESRCH, c"ESRCH", c"no such process";
    -libc::EINTR, c"EINTR", c"interrupted";
    -libc::EIO, c"EIO", c"input/output error";
    -libc::ENXIO, c"ENXIO", c"no such device or address";
    -libc::E2BIG, c"E2BIG", c"argument list too long";
    -libc::EBADF, c"EBADF", c"bad handle or file descriptor: stale, closed, or of another kind";
    -libc::ECHILD, c"ECHILD", c"no such child process";
    -libc::EAGAIN, c"EAGAIN", c"not ready now: try again, or give a deadline to wait";
    -libc::ENOMEM, c"ENOMEM", c"out of memory, or of mappings for stacks: see vm.max_map_count";
    -libc::EACCES, c"EACCES", c"permission denied";
    -libc::EFAULT, c"EFAULT", c"bad address";
    -libc::EBUSY, c"EBUSY", c"busy: somebody else waits for this already";
    -libc::EEXIST, c"EEXIST", c"exists already";
    -libc::ENODEV, c"ENODEV", c"no such device";
    -libc::ENOTDIR, c"ENOTDIR", c"not a directory";
    -libc::EISDIR, c"EISDIR", c"is a directory";
    -libc::EINVAL, c"EINVAL", c"invalid argument";
    -libc::ENFILE, c"ENFILE", c"too many open files in the system";
    -libc::EMFILE, c"EMFILE", c"too many open files in this process: raise RLIMIT_NOFILE";
    -libc::EFBIG, c"EFBIG", c"file too large";
    -libc::ENOSPC, c"ENOSPC", c"no space left";
    -libc::ESPIPE, c"ESPIPE", c"illegal seek";
    -libc::EROFS, c"EROFS", c"read-only file system";
    -libc::EPIPE, c"EPIPE", c"closed: the other end, the queue or the barrier is gone";
    -libc::EDOM, c"EDOM", c"argument outside its domain";
    -libc::ERANGE, c"ERANGE", c"result out of range";
    -libc::EDEADLK, c"EDEADLK", c"deadlock: nothing is left that could end this wait";
    -libc::ENAMETOOLONG, c"ENAMETOOLONG", c"name too long";
    -libc::ENOSYS, c"ENOSYS", c"not available on this system";
    -libc::EOVERFLOW, c"EOVERFLOW", c"value too large: released more often than acquired";
    -libc::ENOTSOCK, c"ENOTSOCK", c"not a socket";
    -libc::EMSGSIZE, c"EMSGSIZE", c"message too long";
    -libc::EPROTO, c"EPROTO", c"protocol error";
    -libc::ENOPROTOOPT, c"ENOPROTOOPT", c"this socket has no such option";
    -libc::EDESTADDRREQ, c"EDESTADDRREQ", c"no address was given to send to";
    -libc::EPROTOTYPE, c"EPROTOTYPE", c"wrong kind of socket";
    -libc::EPROTONOSUPPORT, c"EPROTONOSUPPORT", c"no such protocol";
    -libc::EAFNOSUPPORT, c"EAFNOSUPPORT", c"no such family of addresses, or not that of the socket";
    -libc::EOPNOTSUPP, c"EOPNOTSUPP", c"operation not supported";
    -libc::EADDRINUSE, c"EADDRINUSE", c"address in use";
    -libc::EADDRNOTAVAIL, c"EADDRNOTAVAIL", c"address not available";
    -libc::ENETUNREACH, c"ENETUNREACH", c"network unreachable";
    -libc::ECONNABORTED, c"ECONNABORTED", c"connection aborted";
    -libc::ECONNRESET, c"ECONNRESET", c"connection reset by peer";
    -libc::ENOBUFS, c"ENOBUFS", c"no buffer space";
    -libc::EISCONN, c"EISCONN", c"connected already";
    -libc::ENOTCONN, c"ENOTCONN", c"not connected";
    -libc::ESHUTDOWN, c"ESHUTDOWN", c"the hub has been shut down";
    -libc::ETIMEDOUT, c"ETIMEDOUT", c"the deadline has passed";
    -libc::ECONNREFUSED, c"ECONNREFUSED", c"connection refused";
    -libc::EHOSTUNREACH, c"EHOSTUNREACH", c"no route to host";
    -libc::EALREADY, c"EALREADY", c"done already";
    -libc::EINPROGRESS, c"EINPROGRESS", c"in progress";
    -libc::ECANCELED, c"ECANCELED", c"cancelled: the greenlet was killed or the wait called off";
    Error::WOULDBLOCK.0, c"EWOULDBLOCK", c"would block: a loop callback must not wait; spawn a greenlet instead";
    Error::PANIC.0, c"EPANIC", c"a panic was caught at the library's edge; see the error report";
    Error::CERTIFICATE.0, c"ECERTIFICATE", c"the other side's certificate was not accepted; weald_error_message says why";
    Error::EAI_BADFLAGS.0, c"EAI_BADFLAGS", c"bad flags for a lookup";
    Error::EAI_NONAME.0, c"EAI_NONAME", c"no such name or service";
    Error::EAI_AGAIN.0, c"EAI_AGAIN", c"the name server did not answer: try again later";
    Error::EAI_FAIL.0, c"EAI_FAIL", c"the name server has failed";
    Error::EAI_NODATA.0, c"EAI_NODATA", c"the name has no address";
    Error::EAI_FAMILY.0, c"EAI_FAMILY", c"address family not supported for names";
    Error::EAI_SOCKTYPE.0, c"EAI_SOCKTYPE", c"socket type not supported";
    Error::EAI_SERVICE.0, c"EAI_SERVICE", c"the service is not there for this type of socket";
    Error::EAI_ADDRFAMILY.0, c"EAI_ADDRFAMILY", c"the name has no address of this family";
    Error::EAI_OVERFLOW.0, c"EAI_OVERFLOW", c"the name does not fit into the buffer";
}

fn find(code: i32) -> Option<&'static Entry> {
    let code = if code > 0 { -code } else { code };
    TABLE.iter().find(|e| e.code == code)
}

/// The code's short name, "ETIMEDOUT"; "UNKNOWN" for a number not in the table.
pub fn name(code: i32) -> &'static CStr {
    find(code).map_or(c"UNKNOWN", |e| e.name)
}

/// The code's text.
pub fn text(code: i32) -> &'static CStr {
    find(code).map_or(c"unknown error code", |e| e.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once() {
        for (i, e) in TABLE.iter().enumerate() {
            assert!(TABLE[..i].iter().all(|o| o.code != e.code && o.name != e.name));
        }
    }

    #[test]
    fn a_code_is_never_positive() {
        assert_eq!(Error::from_code(5), Error::INVAL);
        assert_eq!(Error::from_errno(libc::EPIPE), Error::PIPE);
    }
}
