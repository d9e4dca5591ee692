//! getaddrinfo, getnameinfo and the gethostbyname family, by `dns`: in threads, with its
//! cache and its resolver. What comes back is the C library's in form, and its own
//! freeaddrinfo gives it back.

use crate::dns::{self, Question};
use crate::error::Error;
use crate::patch::call::{Call, errno_of, set_errno};
use crate::sys::{glibc, names};
use crate::time::Deadline;
use libc::{addrinfo, c_char, c_int, hostent, sockaddr, socklen_t};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;

// What glibc and musl have, and the libc crate does not name.
const EAI_ADDRFAMILY: c_int = -9;
const HOST_NOT_FOUND: c_int = 1;
const TRY_AGAIN: c_int = 2;
const NO_RECOVERY: c_int = 3;
const NO_DATA: c_int = 4;
const NETDB_INTERNAL: c_int = -1;

/// As getaddrinfo says it; errno for what it has no word for.
fn eai(e: Error) -> c_int {
    match e {
        Error::EAI_BADFLAGS => libc::EAI_BADFLAGS,
        Error::EAI_NONAME => libc::EAI_NONAME,
        Error::EAI_AGAIN => libc::EAI_AGAIN,
        Error::EAI_FAIL => libc::EAI_FAIL,
        Error::EAI_NODATA => libc::EAI_NODATA,
        Error::EAI_FAMILY => libc::EAI_FAMILY,
        Error::EAI_SOCKTYPE => libc::EAI_SOCKTYPE,
        Error::EAI_SERVICE => libc::EAI_SERVICE,
        Error::EAI_ADDRFAMILY => EAI_ADDRFAMILY,
        Error::EAI_OVERFLOW => libc::EAI_OVERFLOW,
        Error::NOMEM => libc::EAI_MEMORY,
        e => {
            set_errno(errno_of(e));
            libc::EAI_SYSTEM
        }
    }
}

/// As h_errno says it.
fn h_errno(e: Error) -> c_int {
    match e {
        Error::EAI_NONAME => HOST_NOT_FOUND,
        Error::EAI_NODATA | Error::EAI_ADDRFAMILY => NO_DATA,
        Error::EAI_AGAIN => TRY_AGAIN,
        Error::EAI_FAIL => NO_RECOVERY,
        e => {
            set_errno(errno_of(e));
            NETDB_INTERNAL
        }
    }
}

fn admitted() -> Option<Call> {
    Call::admitted().filter(Call::may_wait)
}

/// # Safety
/// NULL or NUL-terminated.
unsafe fn owned(text: *const c_char) -> Option<CString> {
    // SAFETY: by contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

/// # Safety
/// As for getaddrinfo(3).
pub unsafe extern "C" fn getaddrinfo(
    host: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    list: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: by contract.
    let plain = || unsafe { libc::getaddrinfo(host, service, hints, list) };
    let Some(call) = admitted().filter(|_| !list.is_null()) else { return plain() };
    // SAFETY: NULL or the caller's.
    let hints = unsafe { hints.as_ref() };
    // SAFETY: NULL or NUL-terminated.
    let (host, service) = unsafe { (owned(host), owned(service)) };
    let question = Question {
        host,
        service,
        // What no hints mean is not what zeros mean.
        flags: hints.map_or(libc::AI_V4MAPPED | libc::AI_ADDRCONFIG, |h| h.ai_flags),
        family: hints.map_or(libc::AF_UNSPEC, |h| h.ai_family),
        kind: hints.map_or(0, |h| h.ai_socktype),
        protocol: hints.map_or(0, |h| h.ai_protocol),
    };
    call.parks();
    match dns::addresses(call.hub, question, Deadline::NEVER).and_then(|found| dns::list(&found)) {
        Ok(made) => {
            // SAFETY: not NULL, and writable by contract.
            unsafe { list.write(made) };
            call.finish_int(Ok(0))
        }
        Err(Error::AGAIN) => plain(), // there is no thread to be had
        Err(e) => {
            call.finish(Ok(0));
            eai(e)
        }
    }
}

/// # Safety
/// As for getnameinfo(3).
pub unsafe extern "C" fn getnameinfo(
    address: *const sockaddr,
    len: socklen_t,
    host: *mut c_char,
    host_len: socklen_t,
    service: *mut c_char,
    service_len: socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: by contract.
    let plain = || unsafe { libc::getnameinfo(address, len, host, host_len, service, service_len, flags) };
    const NUMERIC: c_int = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
    let (wants_host, wants_service) = (!host.is_null() && host_len > 0, !service.is_null() && service_len > 0);
    let is_quick = flags & NUMERIC == NUMERIC || address.is_null() || !(wants_host || wants_service);
    let Some(call) = (if is_quick { None } else { admitted() }) else { return plain() };
    // SAFETY: by contract.
    let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), len as usize) };
    call.parks();
    let named = match dns::name(call.hub, bytes, flags, Deadline::NEVER) {
        Err(Error::AGAIN) => return plain(),
        named => named,
    };
    // SAFETY: by contract: as much room as is said, if any is wanted.
    let put = |wanted: bool, at: *mut c_char, room: socklen_t, text: &CStr| unsafe {
        let bytes = text.to_bytes_with_nul();
        if wanted && bytes.len() > room as usize {
            return Err(Error::EAI_OVERFLOW);
        }
        if wanted {
            at.copy_from_nonoverlapping(bytes.as_ptr().cast(), bytes.len());
        }
        Ok(())
    };
    let told = named.and_then(|named| {
        put(wants_host, host, host_len, &named.host)?;
        put(wants_service, service, service_len, &named.service)
    });
    call.finish(Ok(0));
    told.map_or_else(eai, |()| 0)
}

// ---- gethostbyname and its like -------------------------------------------------------

/// The last answer of this thread, which the next one takes the place of.
struct Last(Cell<*mut hostent>);

impl Default for Last {
    fn default() -> Last {
        Last(Cell::new(null_mut()))
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        // SAFETY: NULL, or made by `dns`.
        unsafe { names::free(self.0.get()) };
    }
}

/// Whose answer is wanted.
enum Wanted<'a> {
    Name(&'a CStr, c_int),
    Address(&'a [u8], c_int),
}

/// The answer, or none where the C library is to be asked.
fn look_up(call: &Call, wanted: &Wanted) -> Option<Result<*mut hostent, Error>> {
    call.parks();
    let found = match *wanted {
        Wanted::Name(name, family) => dns::host_by_name(call.hub, name, family, Deadline::NEVER),
        Wanted::Address(part, family) => dns::host_by_address(call.hub, part, family, Deadline::NEVER),
    };
    if found == Err(Error::AGAIN) { None } else { Some(found) }
}

/// # Safety
/// As for gethostbyname(3).
unsafe fn name_wanted<'a>(name: *const c_char, family: c_int) -> Option<Wanted<'a>> {
    let is_good = !name.is_null() && matches!(family, libc::AF_INET | libc::AF_INET6);
    // SAFETY: by contract.
    is_good.then(|| Wanted::Name(unsafe { CStr::from_ptr(name) }, family))
}

/// # Safety
/// As for gethostbyaddr(3).
unsafe fn address_wanted<'a>(part: *const c_void, len: socklen_t, family: c_int) -> Option<Wanted<'a>> {
    let is_good = !part.is_null() && matches!((family, len), (libc::AF_INET, 4) | (libc::AF_INET6, 16));
    // SAFETY: by contract.
    is_good.then(|| Wanted::Address(unsafe { std::slice::from_raw_parts(part.cast(), len as usize) }, family))
}

fn in_last(wanted: Option<Wanted>, plain: impl FnOnce() -> *mut hostent) -> *mut hostent {
    let Some((wanted, call)) = wanted.zip(admitted()) else { return plain() };
    let Some(found) = look_up(&call, &wanted) else { return plain() };
    call.finish(Ok(0));
    match found {
        Ok(host) => {
            // SAFETY: NULL, or made by `dns`; whoever had it was told that it would go.
            unsafe { names::free(call.hub.extension::<Last>().0.replace(host)) };
            host
        }
        Err(e) => {
            let code = h_errno(e);
            // SAFETY: this thread's.
            unsafe { *glibc::__h_errno_location() = code };
            null_mut()
        }
    }
}

/// # Safety
/// As for gethostbyname(3).
pub unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: by contract.
    unsafe { in_last(name_wanted(name, libc::AF_INET), || glibc::gethostbyname(name)) }
}

/// # Safety
/// As for gethostbyname2(3).
pub unsafe extern "C" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: by contract.
    unsafe { in_last(name_wanted(name, family), || glibc::gethostbyname2(name, family)) }
}

/// # Safety
/// As for gethostbyaddr(3).
pub unsafe extern "C" fn gethostbyaddr(part: *const c_void, len: socklen_t, family: c_int) -> *mut hostent {
    // SAFETY: by contract.
    unsafe { in_last(address_wanted(part, len, family), || glibc::gethostbyaddr(part, len, family)) }
}

/// Where the caller of one of the functions with _r wants the answer.
struct Room {
    host: *mut hostent,
    buffer: *mut c_char,
    len: usize,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
}

impl Room {
    /// Copies `from`, which lies in one piece with all that it points to: addresses, then
    /// names, see `dns::Host`. ERANGE.
    ///
    /// # Safety
    /// `from` was made by `dns`; the room is there.
    unsafe fn put(&self, from: &hostent) -> Result<(), c_int> {
        // SAFETY: lists that end with NULL.
        let count = |list: *mut *mut c_char| unsafe { (0..).take_while(|&i| !(*list.add(i)).is_null()).count() };
        let (addresses, aliases) = (count(from.h_addr_list), count(from.h_aliases));
        let padding = self.buffer.align_offset(align_of::<*mut c_char>());
        let pointers = addresses + 1 + aliases + 1;
        // SAFETY: texts with a NUL.
        let len_of = |text: *mut c_char| unsafe { CStr::from_ptr(text) }.to_bytes_with_nul().len();
        // SAFETY: below the counts.
        let alias = |i| unsafe { *from.h_aliases.add(i) };
        let texts = len_of(from.h_name) + (0..aliases).map(|i| len_of(alias(i))).sum::<usize>();
        let part = from.h_length as usize;
        if padding + pointers * size_of::<*mut c_char>() + addresses * part + texts > self.len {
            return Err(libc::ERANGE);
        }
        let table = self.buffer.wrapping_add(padding).cast::<*mut c_char>();
        let mut next = table.wrapping_add(pointers).cast::<c_char>();
        // SAFETY: all of it has been counted.
        let mut place = |at: *mut c_char, len: usize| unsafe {
            let placed = next;
            placed.copy_from_nonoverlapping(at, len);
            next = next.add(len);
            placed
        };
        for i in 0..addresses {
            // SAFETY: below the count; the table has a place for each.
            unsafe { table.add(i).write(place(*from.h_addr_list.add(i), part)) };
        }
        let name = place(from.h_name, len_of(from.h_name));
        let aliases_at = table.wrapping_add(addresses + 1);
        for i in 0..aliases {
            // SAFETY: as above.
            unsafe { aliases_at.add(i).write(place(alias(i), len_of(alias(i)))) };
        }
        // SAFETY: the ends of both lists, and the caller's struct.
        unsafe {
            table.add(addresses).write(null_mut());
            aliases_at.add(aliases).write(null_mut());
            self.host.write(hostent { h_name: name, h_aliases: aliases_at, h_addr_list: table, ..*from });
        }
        Ok(())
    }

    /// # Safety
    /// The room is there.
    unsafe fn look_up(&self, wanted: Option<Wanted>, plain: impl FnOnce() -> c_int) -> c_int {
        let is_whole = ![self.host.cast(), self.buffer.cast::<c_void>(), self.result.cast(), self.h_errno.cast()]
            .contains(&null_mut());
        let Some((wanted, call)) = wanted.filter(|_| is_whole).zip(admitted()) else { return plain() };
        let Some(found) = look_up(&call, &wanted) else { return plain() };
        call.finish(Ok(0));
        let (result, code, returned) = match found {
            Ok(found) => {
                // SAFETY: made by `dns`, and ours.
                let put = unsafe { self.put(&*found) };
                // SAFETY: as above; not used any more.
                unsafe { names::free(found) };
                match put {
                    Ok(()) => (self.host, 0, 0),
                    Err(errno) => (null_mut(), NETDB_INTERNAL, errno),
                }
            }
            Err(e) => {
                let code = h_errno(e);
                (null_mut(), code, if code == NETDB_INTERNAL { errno_of(e) } else { 0 })
            }
        };
        if returned != 0 {
            set_errno(returned);
        }
        // SAFETY: not NULL, writable by contract.
        unsafe {
            self.result.write(result);
            self.h_errno.write(code);
        }
        returned
    }
}

/// # Safety
/// As for gethostbyname_r(3).
pub unsafe extern "C" fn gethostbyname_r(
    name: *const c_char,
    host: *mut hostent,
    buffer: *mut c_char,
    len: usize,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    let room = Room { host, buffer, len, result, h_errno };
    // SAFETY: by contract.
    unsafe {
        room.look_up(name_wanted(name, libc::AF_INET), || {
            glibc::gethostbyname_r(name, host, buffer, len, result, h_errno)
        })
    }
}

/// # Safety
/// As for gethostbyname2_r(3).
pub unsafe extern "C" fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    host: *mut hostent,
    buffer: *mut c_char,
    len: usize,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    let room = Room { host, buffer, len, result, h_errno };
    // SAFETY: by contract.
    unsafe {
        room.look_up(name_wanted(name, family), || {
            glibc::gethostbyname2_r(name, family, host, buffer, len, result, h_errno)
        })
    }
}

/// # Safety
/// As for gethostbyaddr_r(3).
#[allow(clippy::too_many_arguments)] // the C library's
pub unsafe extern "C" fn gethostbyaddr_r(
    part: *const c_void,
    part_len: socklen_t,
    family: c_int,
    host: *mut hostent,
    buffer: *mut c_char,
    len: usize,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    let room = Room { host, buffer, len, result, h_errno };
    // SAFETY: by contract.
    unsafe {
        room.look_up(address_wanted(part, part_len, family), || {
            glibc::gethostbyaddr_r(part, part_len, family, host, buffer, len, result, h_errno)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_packed_into_the_callers_room_or_does_not_fit() {
        let parts: [&[u8]; 2] = [&[127, 0, 0, 1], &[10, 0, 0, 1]];
        let host = dns::Host { name: c"oak", aliases: &[c"tree"], family: libc::AF_INET, addresses: parts.to_vec() };
        let made = host.to_c().unwrap();
        // SAFETY: an all-zero hostent is a valid value.
        let mut out: hostent = unsafe { std::mem::zeroed() };
        let (mut result, mut code) = (null_mut(), 0);
        let mut buffer = [0 as c_char; 200];
        let mut try_with = |len: usize, from: usize| {
            let room = Room { host: &mut out, buffer: &mut buffer[from], len, result: &mut result, h_errno: &mut code };
            // SAFETY: made above; the buffer is larger than is said.
            unsafe { room.put(&*made) }
        };
        let needed = 5 * 8 + 2 * 4 + 4 + 5;
        assert_eq!(try_with(needed - 1, 0), Err(libc::ERANGE));
        for from in 0..8 {
            try_with(needed + 7, from).unwrap();
        }
        // SAFETY: filled in just now.
        unsafe {
            assert_eq!(CStr::from_ptr(out.h_name), c"oak");
            assert_eq!(CStr::from_ptr(*out.h_aliases), c"tree");
            assert!((*out.h_aliases.add(1)).is_null() && (*out.h_addr_list.add(2)).is_null());
            assert_eq!(std::slice::from_raw_parts((*out.h_addr_list.add(1)).cast::<u8>(), 4), parts[1]);
            names::free(made);
        }
    }
}
