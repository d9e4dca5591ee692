//! Names.
//!
//! Lookups run in threads of their own, so that other greenlets go on, and a caller who gives up
//! waiting (deadline, kill) goes at once, however long his lookup may still take. A lookup that is
//! stuck holds up no other one, as long as there are fewer than 128. What is a number needs no
//! thread: it is answered at once, and so is what the cache knows. An answer is kept for ten
//! seconds, that there is no such name for one; see weald_dns_set_ttl.
//!
//! Lists and hosts that a function gives belong to the caller, who gives them back with
//! weald_freeaddrinfo or weald_freehostent, in any thread. <netdb.h> has the structs and flags.

#![allow(non_camel_case_types)]

use super::{fence, fence_any, slice, wanted};
use crate::dns::{self, Question, Resolver};
use crate::error::{Error, Result};
use crate::time::Deadline;
use libc::{addrinfo, hostent, sockaddr, socklen_t};
use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// The resolver is asked for something that it does not know, or that does not go together.
pub const WEALD_EAI_BADFLAGS: c_int = -2101;
/// There is no such name or service.
pub const WEALD_EAI_NONAME: c_int = -2102;
/// The name server did not answer: it may later.
pub const WEALD_EAI_AGAIN: c_int = -2103;
/// The name server has failed, and will again.
pub const WEALD_EAI_FAIL: c_int = -2104;
/// The name exists, but has no address.
pub const WEALD_EAI_NODATA: c_int = -2105;
/// The address family is not supported.
pub const WEALD_EAI_FAMILY: c_int = -2106;
/// The type of socket is not supported, or does not go with the protocol.
pub const WEALD_EAI_SOCKTYPE: c_int = -2107;
/// There is no such service for this type of socket.
pub const WEALD_EAI_SERVICE: c_int = -2108;
/// The name has no address of the family that was asked for.
pub const WEALD_EAI_ADDRFAMILY: c_int = -2109;
/// A name does not fit into the buffer.
pub const WEALD_EAI_OVERFLOW: c_int = -2112;

/// As getaddrinfo(3), returning 0 or an EAI_ code.
pub type weald_getaddrinfo_fn = Option<
    extern "C-unwind" fn(
        host: *const c_char,
        service: *const c_char,
        hints: *const addrinfo,
        list: *mut *mut addrinfo,
    ) -> c_int,
>;
/// Frees a list that such a function has made.
pub type weald_freeaddrinfo_fn = Option<extern "C-unwind" fn(list: *mut addrinfo)>;
/// As getnameinfo(3), returning 0 or an EAI_ code.
pub type weald_getnameinfo_fn = Option<
    extern "C-unwind" fn(
        address: *const sockaddr,
        len: socklen_t,
        host: *mut c_char,
        host_size: socklen_t,
        service: *mut c_char,
        service_size: socklen_t,
        flags: c_int,
    ) -> c_int,
>;

/// Who is asked for names; a function that is NULL is the C library's.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct weald_resolver {
    pub size: usize,
    /// Both or neither. They are called in any thread, several at a time, and may block.
    pub getaddrinfo: weald_getaddrinfo_fn,
    pub freeaddrinfo: weald_freeaddrinfo_fn,
    pub getnameinfo: weald_getnameinfo_fn,
}

/// A C string, copied; nothing for NULL.
///
/// # Safety
/// NULL or NUL-terminated.
unsafe fn owned(text: *const c_char) -> Option<CString> {
    // SAFETY: by contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

/// As getaddrinfo(3): the addresses of `host` (NULL: this machine, or any of its addresses with
/// AI_PASSIVE) with the port of `service` (NULL: none), as `hints` (NULL: any) wants them, in
/// `*list`. Give it back with weald_freeaddrinfo. WEALD_NOW looks nothing up: it gives what is
/// numeric or in the cache. May switch. Returns 0. Fails with WEALD_EINVAL (`list` NULL),
/// WEALD_EAI_BADFLAGS, WEALD_EAI_NONAME (also when `host` and `service` are both NULL),
/// WEALD_EAI_AGAIN, WEALD_EAI_FAIL, WEALD_EAI_NODATA, WEALD_EAI_FAMILY, WEALD_EAI_SOCKTYPE,
/// WEALD_EAI_SERVICE, WEALD_EAI_ADDRFAMILY, WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no
/// thread to be had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a
/// child that a callback has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a
/// system call fail, as WEALD_EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn weald_getaddrinfo(
    host: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    list: *mut *mut addrinfo,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        wanted(list)?;
        // SAFETY: NULL or the caller's.
        let hints = unsafe { hints.as_ref() };
        let question = Question {
            // SAFETY: NULL or NUL-terminated, by the caller.
            host: unsafe { owned(host) },
            // SAFETY: as above.
            service: unsafe { owned(service) },
            flags: hints.map_or(libc::AI_V4MAPPED | libc::AI_ADDRCONFIG, |h| h.ai_flags),
            family: hints.map_or(libc::AF_UNSPEC, |h| h.ai_family),
            kind: hints.map_or(0, |h| h.ai_socktype),
            protocol: hints.map_or(0, |h| h.ai_protocol),
        };
        let found = dns::addresses(hub, question, Deadline::from_raw(deadline))?;
        let made = dns::list(&found)?;
        // SAFETY: not NULL, writable by the caller.
        unsafe { list.write(made) };
        Ok(())
    })
}

/// Gives back a list of weald_getaddrinfo, or the rest of one from an entry on; NULL is none. Never
/// fails. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_freeaddrinfo(list: *mut addrinfo) {
    // SAFETY: NULL or what `weald_getaddrinfo` gave, given back once, by the caller.
    unsafe { dns::free_list(list) };
}

/// As getnameinfo(3): the name of the host with `address` in `host` (NULL: not wanted), the name of
/// its port in `service` (NULL: not wanted), and their numbers where there are none. `flags` are
/// getnameinfo's. May switch. Returns 0. Fails with WEALD_EINVAL (`address` NULL; neither is
/// wanted), WEALD_EAI_BADFLAGS, WEALD_EAI_NONAME (with NI_NAMEREQD), WEALD_EAI_AGAIN,
/// WEALD_EAI_FAIL, WEALD_EAI_FAMILY (also a wrong `len`), WEALD_EAI_OVERFLOW (a buffer is too
/// small; nothing is written), WEALD_EPERM, WEALD_EAGAIN (WEALD_NOW, or there is no thread to be
/// had), WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a
/// callback has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a system call
/// fail.
#[unsafe(no_mangle)]
pub extern "C" fn weald_getnameinfo(
    address: *const sockaddr,
    len: socklen_t,
    host: *mut c_char,
    host_size: usize,
    service: *mut c_char,
    service_size: usize,
    flags: c_int,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        let outs = [(host, host_size), (service, service_size)];
        if address.is_null() || outs.iter().all(|(at, size)| at.is_null() || *size == 0) {
            return Err(Error::INVAL);
        }
        if len as usize > size_of::<libc::sockaddr_storage>() {
            return Err(Error::EAI_FAMILY);
        }
        // SAFETY: as many bytes, by the caller; bytes are always aligned.
        let bytes = unsafe { slice(address.cast::<u8>(), len as usize) }?;
        // What is not wanted need not be looked up.
        let not_wanted = |at: *mut c_char, size, flag| if at.is_null() || size == 0 { flag } else { 0 };
        // Nor does it have to have a name.
        let flags = if host.is_null() || host_size == 0 { flags & !libc::NI_NAMEREQD } else { flags };
        let flags = flags
            | not_wanted(host, host_size, libc::NI_NUMERICHOST)
            | not_wanted(service, service_size, libc::NI_NUMERICSERV);
        let named = dns::name(hub, bytes, flags, Deadline::from_raw(deadline))?;
        let texts = [&named.host, &named.service].map(|text| text.to_bytes_with_nul());
        let given = || outs.iter().zip(texts).filter(|((at, size), _)| !at.is_null() && *size > 0);
        if given().any(|((_, size), text)| text.len() > *size) {
            return Err(Error::EAI_OVERFLOW);
        }
        for ((at, _), text) in given() {
            // SAFETY: not NULL, and room for it, by the caller's word on the size.
            unsafe { at.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        }
        Ok(())
    })
}

fn host(out: *mut *mut hostent, find: impl FnOnce() -> Result<*mut hostent>) -> Result<()> {
    wanted(out)?;
    let found = find()?;
    // SAFETY: not NULL, writable by the caller.
    unsafe { out.write(found) };
    Ok(())
}

/// As gethostbyname(3), without the static storage: the IPv4 addresses of `name` in `*host`, with
/// its canonical name, and `name` as an alias if that is another. Give it back with
/// weald_freehostent. May switch. Returns 0. Fails with WEALD_EINVAL (`name` or `host` NULL),
/// WEALD_EAI_NONAME, WEALD_EAI_AGAIN, WEALD_EAI_FAIL, WEALD_EAI_NODATA, WEALD_EAI_ADDRFAMILY,
/// WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK
/// (in a child that a callback has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that
/// had a system call fail.
#[unsafe(no_mangle)]
pub extern "C" fn weald_gethostbyname(name: *const c_char, host: *mut *mut hostent, deadline: i64) -> c_int {
    weald_gethostbyname_ex(name, libc::AF_INET, host, deadline)
}

/// As weald_gethostbyname, for the addresses of `family`: AF_INET or AF_INET6. Give it back with
/// weald_freehostent. May switch. Returns 0. Fails with WEALD_EINVAL (`name` or `host` NULL),
/// WEALD_EAI_FAMILY (another family), WEALD_EAI_NONAME, WEALD_EAI_AGAIN, WEALD_EAI_FAIL,
/// WEALD_EAI_NODATA, WEALD_EAI_ADDRFAMILY, WEALD_EPERM, WEALD_EAGAIN, WEALD_ETIMEDOUT,
/// WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback has forked
/// meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a system call fail.
#[unsafe(no_mangle)]
pub extern "C" fn weald_gethostbyname_ex(
    name: *const c_char,
    family: c_int,
    host: *mut *mut hostent,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        // SAFETY: NULL or NUL-terminated, by the caller.
        let name = unsafe { owned(name) }.ok_or(Error::INVAL)?;
        self::host(host, || dns::host_by_name(hub, &name, family, Deadline::from_raw(deadline)))
    })
}

/// As gethostbyaddr(3): the host that has the address at `address`, of `len` bytes (4 or 16) and
/// `family` (AF_INET or AF_INET6), in `*host`. Give it back with weald_freehostent. May switch.
/// Returns 0. Fails with WEALD_EINVAL (`address` or `host` NULL, a wrong `len`), WEALD_EAI_FAMILY
/// (another family), WEALD_EAI_NONAME, WEALD_EAI_AGAIN, WEALD_EAI_FAIL, WEALD_EPERM, WEALD_EAGAIN,
/// WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a child that a callback
/// has forked meanwhile), WEALD_ENOMEM, or the errno of a resolver that had a system call fail.
#[unsafe(no_mangle)]
pub extern "C" fn weald_gethostbyaddr(
    address: *const c_void,
    len: socklen_t,
    family: c_int,
    host: *mut *mut hostent,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        wanted(address.cast_mut())?;
        if len as usize > size_of::<libc::sockaddr_storage>() {
            return Err(Error::INVAL);
        }
        // SAFETY: as many bytes, by the caller.
        let bytes = unsafe { slice(address.cast::<u8>(), len as usize) }?;
        self::host(host, || dns::host_by_address(hub, bytes, family, Deadline::from_raw(deadline)))
    })
}

/// Gives back what one of the functions above has given; NULL is nothing. Never fails. From any
/// thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_freehostent(host: *mut hostent) {
    // SAFETY: one piece that `Host::to_c` made, or NULL.
    unsafe { crate::sys::names::free(host) };
}

/// Has `resolver` (NULL: the C library) asked for names from now on, in the whole process; what is
/// numeric it is not asked. Clears the cache. From any thread; does not switch. Returns 0. Fails
/// with WEALD_EINVAL (`size`; `getaddrinfo` without `freeaddrinfo`, or the other way round).
#[unsafe(no_mangle)]
pub extern "C" fn weald_set_resolver(resolver: *const weald_resolver) -> c_int {
    fence_any(|| {
        // SAFETY: NULL or a struct as large as it says, by the caller.
        let given: weald_resolver = unsafe { super::options(resolver) }?;
        let (get, free) = match (given.getaddrinfo, given.freeaddrinfo) {
            (Some(get), Some(free)) => (get, free),
            (None, None) => (dns::LIBC.get, dns::LIBC.free),
            _ => return Err(Error::INVAL),
        };
        dns::set_resolver(Some(Resolver { get, free, name: given.getnameinfo.unwrap_or(dns::LIBC.name) }));
        Ok(())
    }) as c_int
}

/// Sets how long the cache keeps answers, and how long it keeps that there is no such name; 0 keeps
/// none. For the whole process; what is in the cache is forgotten. Ten seconds and one, unless set.
/// From any thread; does not switch. Returns 0. Fails with WEALD_EINVAL (a negative time).
#[unsafe(no_mangle)]
pub extern "C" fn weald_dns_set_ttl(ttl_ns: i64, negative_ttl_ns: i64) -> c_int {
    fence_any(|| {
        if ttl_ns < 0 || negative_ttl_ns < 0 {
            return Err(Error::INVAL);
        }
        dns::set_ttl(ttl_ns, negative_ttl_ns);
        Ok(())
    }) as c_int
}

/// Forgets what the cache has, and does not keep what lookups under way will find. From any thread;
/// does not switch. Never fails: returns 0.
#[unsafe(no_mangle)]
pub extern "C" fn weald_dns_clear() -> c_int {
    fence_any(|| {
        dns::clear_cache();
        Ok(())
    }) as c_int
}

/// How many answers the cache has. Never fails. From any thread; does not switch.
#[unsafe(no_mangle)]
pub extern "C" fn weald_dns_cached() -> i64 {
    fence_any(|| Ok(dns::cached()))
}
