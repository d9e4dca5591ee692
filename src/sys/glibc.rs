//! What glibc has and the libc crate does not.

use libc::{c_char, c_int, c_void, hostent, nfds_t, pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec};

unsafe extern "C" {
    pub fn __poll_chk(fds: *mut pollfd, n: nfds_t, timeout: c_int, room: size_t) -> c_int;
    pub fn __ppoll_chk(
        fds: *mut pollfd,
        n: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
        room: size_t,
    ) -> c_int;
    pub fn __read_chk(fd: c_int, at: *mut c_void, len: size_t, room: size_t) -> ssize_t;
    pub fn __recv_chk(fd: c_int, at: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t;
    pub fn __recvfrom_chk(
        fd: c_int,
        at: *mut c_void,
        len: size_t,
        room: size_t,
        flags: c_int,
        from: *mut sockaddr,
        from_len: *mut socklen_t,
    ) -> ssize_t;

    pub fn __h_errno_location() -> *mut c_int;
    pub fn gethostbyname(name: *const c_char) -> *mut hostent;
    pub fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent;
    pub fn gethostbyaddr(part: *const c_void, len: socklen_t, family: c_int) -> *mut hostent;
    pub fn gethostbyname_r(
        name: *const c_char,
        host: *mut hostent,
        buffer: *mut c_char,
        len: size_t,
        result: *mut *mut hostent,
        h_errno: *mut c_int,
    ) -> c_int;
    pub fn gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        host: *mut hostent,
        buffer: *mut c_char,
        len: size_t,
        result: *mut *mut hostent,
        h_errno: *mut c_int,
    ) -> c_int;
    pub fn gethostbyaddr_r(
        part: *const c_void,
        part_len: socklen_t,
        family: c_int,
        host: *mut hostent,
        buffer: *mut c_char,
        len: size_t,
        result: *mut *mut hostent,
        h_errno: *mut c_int,
    ) -> c_int;

    pub fn dlmopen(list: libc::Lmid_t, path: *const c_char, flags: c_int) -> *mut c_void;
    pub fn dlvsym(library: *mut c_void, name: *const c_char, version: *const c_char) -> *mut c_void;

    /// Where the first thread's stack begins.
    pub static __libc_stack_end: *const c_void;
}
