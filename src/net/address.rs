//! Socket addresses of every family, as the kernel takes and gives them.
//!
//! As text: `127.0.0.1:80`, `[::1]:80`, `[fe80::1%2]:80` (the scope is an interface's
//! number, and read as its name as well), `unix:/path`, `unix:@name` (abstract), `unix:` (a socket without a name).

use crate::error::{Error, Result};
use crate::sys::names;
use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, sockaddr_un, socklen_t};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

#[derive(Clone, Copy)]
pub struct Address {
    storage: sockaddr_storage,
    len: socklen_t,
}

/// Where the path begins in a Unix address.
const PATH_AT: usize = std::mem::offset_of!(sockaddr_un, sun_path);

impl Default for Address {
    fn default() -> Address {
        // SAFETY: an all-zero storage is a valid value, of the family AF_UNSPEC.
        Address { storage: unsafe { std::mem::zeroed() }, len: size_of::<sockaddr_storage>() as socklen_t }
    }
}

impl Address {
    /// A copy of the caller's. EINVAL when it is NULL or no address can be so long.
    ///
    /// # Safety
    /// `at` is NULL or points to `len` bytes.
    pub unsafe fn from_raw(at: *const sockaddr, len: socklen_t) -> Result<Address> {
        let size = len as usize;
        if at.is_null() || size < size_of::<sa_family_t>() || size > size_of::<sockaddr_storage>() {
            return Err(Error::INVAL);
        }
        let mut address = Address { len, ..Address::default() };
        // SAFETY: both have `size` bytes.
        unsafe { std::ptr::copy_nonoverlapping(at.cast::<u8>(), (&raw mut address.storage).cast::<u8>(), size) };
        Ok(address)
    }

    /// An address that `fill` writes, as accept(2) and its like do.
    pub fn filled<R>(fill: impl FnOnce(*mut sockaddr, *mut socklen_t) -> Result<R>) -> Result<(R, Address)> {
        let mut address = Address::default();
        let done = fill((&raw mut address.storage).cast(), &mut address.len)?;
        // The kernel tells the whole length of what it had to cut.
        address.len = address.len.min(size_of::<sockaddr_storage>() as socklen_t);
        Ok((done, address))
    }

    pub fn as_ptr(&self) -> *const sockaddr {
        (&raw const self.storage).cast()
    }

    pub fn len(&self) -> socklen_t {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn family(&self) -> i32 {
        i32::from(self.storage.ss_family)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the storage's own bytes; `len` is not more than its size.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), self.len as usize) }
    }

    fn v4(&self) -> Option<&sockaddr_in> {
        let fits = self.family() == libc::AF_INET && self.len as usize >= size_of::<sockaddr_in>();
        // SAFETY: the family says what it is, and the storage is aligned for every kind.
        fits.then(|| unsafe { &*(&raw const self.storage).cast() })
    }

    fn v6(&self) -> Option<&sockaddr_in6> {
        let fits = self.family() == libc::AF_INET6 && self.len as usize >= size_of::<sockaddr_in6>();
        // SAFETY: as above.
        fits.then(|| unsafe { &*(&raw const self.storage).cast() })
    }

    /// The address and port, if it has any.
    pub fn ip(&self) -> Option<SocketAddr> {
        if let Some(a) = self.v4() {
            let ip = Ipv4Addr::from(a.sin_addr.s_addr.to_ne_bytes());
            return Some(SocketAddrV4::new(ip, u16::from_be(a.sin_port)).into());
        }
        let a = self.v6()?;
        let (ip, port) = (Ipv6Addr::from(a.sin6_addr.s6_addr), u16::from_be(a.sin6_port));
        Some(SocketAddrV6::new(ip, port, a.sin6_flowinfo, a.sin6_scope_id).into())
    }

    /// `unix:` of this path; `@` in front stands for a name that is in no file system.
    pub fn unix(path: &str) -> Result<Address> {
        let room = size_of::<sockaddr_un>() - PATH_AT;
        // A path ends with a NUL, an abstract name begins with one.
        if path.len() + 1 > room || path.contains('\0') {
            return Err(Error::INVAL);
        }
        let mut address = Address { len: PATH_AT as socklen_t, ..Address::default() };
        address.storage.ss_family = libc::AF_UNIX as sa_family_t;
        if path.is_empty() {
            return Ok(address);
        }
        let abstract_name = path.starts_with('@');
        // SAFETY: the storage is larger than a sockaddr_un, in which the path has room.
        unsafe {
            let at = (&raw mut address.storage).cast::<u8>().add(PATH_AT);
            std::ptr::copy_nonoverlapping(path.as_ptr(), at, path.len());
            if abstract_name {
                at.write(0);
            }
        }
        address.len += (path.len() + usize::from(!abstract_name)) as socklen_t;
        Ok(address)
    }

    /// The two parts of "host:port", without the brackets of an IPv6 address. EINVAL, also for a
    /// number that is no port: resolvers take it modulo 65536.
    pub fn split(text: &str) -> Result<(&str, &str)> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:"),
            None => text.split_once(':').filter(|(_, port)| !port.contains(':')),
        }
        .ok_or(Error::INVAL)?;
        let digits = port.trim_start().trim_start_matches(['+', '-']);
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        if is_number && port.parse::<u16>().is_err() { Err(Error::INVAL) } else { Ok((host, port)) }
    }

    /// From its text; EINVAL when it is none. A host's name is none.
    pub fn parse(text: &str) -> Result<Address> {
        match text.strip_prefix("unix:") {
            Some(path) => Address::unix(path),
            None => match text.parse::<SocketAddr>() {
                Ok(address) => Ok(address.into()),
                Err(_) => {
                    let numbered = with_numbered_scope(text).ok_or(Error::INVAL)?;
                    numbered.parse::<SocketAddr>().map(Address::from).map_err(|_| Error::INVAL)
                }
            },
        }
    }
}

/// `[fe80::1%eth0]:80` with the interface's number in the place of its name.
fn with_numbered_scope(text: &str) -> Option<String> {
    let (address, rest) = text.split_once('%')?;
    let (name, port) = rest.split_once(']')?;
    Some(format!("{address}%{}]{port}", names::interface(name)?))
}

impl From<SocketAddr> for Address {
    fn from(from: SocketAddr) -> Address {
        let mut address = Address::default();
        match from {
            SocketAddr::V4(a) => {
                // SAFETY: an all-zero sockaddr_in is a valid value.
                let mut v4: sockaddr_in = unsafe { std::mem::zeroed() };
                v4.sin_family = libc::AF_INET as sa_family_t;
                v4.sin_port = a.port().to_be();
                v4.sin_addr.s_addr = u32::from_ne_bytes(a.ip().octets());
                address.len = size_of::<sockaddr_in>() as socklen_t;
                // SAFETY: the storage has room and alignment for every kind.
                unsafe { (&raw mut address.storage).cast::<sockaddr_in>().write(v4) };
            }
            SocketAddr::V6(a) => {
                // SAFETY: an all-zero sockaddr_in6 is a valid value.
                let mut v6: sockaddr_in6 = unsafe { std::mem::zeroed() };
                v6.sin6_family = libc::AF_INET6 as sa_family_t;
                v6.sin6_port = a.port().to_be();
                v6.sin6_addr.s6_addr = a.ip().octets();
                (v6.sin6_flowinfo, v6.sin6_scope_id) = (a.flowinfo(), a.scope_id());
                address.len = size_of::<sockaddr_in6>() as socklen_t;
                // SAFETY: as above.
                unsafe { (&raw mut address.storage).cast::<sockaddr_in6>().write(v6) };
            }
        }
        address
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = self.ip() {
            return write!(f, "{ip}");
        }
        if self.family() != libc::AF_UNIX {
            return write!(f, "family {}", self.family());
        }
        let path = self.bytes().get(PATH_AT..).unwrap_or_default();
        match path.split_first() {
            None => f.write_str("unix:"),
            Some((0, name)) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            Some(_) => {
                let end = path.iter().position(|&b| b == 0).unwrap_or(path.len());
                write!(f, "unix:{}", String::from_utf8_lossy(&path[..end]))
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%2]:7", "unix:/tmp/x", "unix:@name", "unix:"] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            // SAFETY: its own pointer and length.
            let copy = unsafe { Address::from_raw(address.as_ptr(), address.len()) }.unwrap();
            assert_eq!(copy.to_string(), text);
        }
    }

    #[test]
    fn host_and_port_are_told_apart_by_the_brackets() {
        for (text, parts) in [("oak:80", ("oak", "80")), ("[::1]:http", ("::1", "http")), (":7", ("", "7"))] {
            assert_eq!(Address::split(text), Ok(parts));
        }
        for text in ["", "oak", "oak:", "::1:80", "[::1]", "[::1]80", "[::1]:", "[::1"] {
            assert_eq!(Address::split(text), Err(Error::INVAL));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("unix:/{}", "x".repeat(108));
        for text in ["", "localhost:80", "127.0.0.1", "::1:80", "1.2.3.4:65536", "unix:a\0b", &long] {
            assert_eq!(Address::parse(text).map(|_| ()), Err(Error::INVAL));
        }
        let address = Address::default();
        for len in [0, 1, 129] {
            // SAFETY: refused by the length alone.
            assert_eq!(unsafe { Address::from_raw(address.as_ptr(), len) }.map(|_| ()), Err(Error::INVAL));
        }
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { Address::from_raw(std::ptr::null(), 16) }.map(|_| ()), Err(Error::INVAL));
    }
}
