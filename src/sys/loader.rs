//! What the dynamic loader has brought in, and the protection of its pages.

use super::{Call, check, file, may_fail};
use crate::error::{Error, Result};
use libc::{Elf64_Phdr, c_int, c_void, dl_phdr_info};
use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// /proc gives a page at a time.
const PIECE: usize = 16384;

/// A program or library that is loaded.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    /// What is added to the addresses in its tables.
    pub base: usize,
    /// Its path; empty for the program.
    pub path: &'a CStr,
    pub headers: &'a [Elf64_Phdr],
}

/// How many objects were ever loaded, and how many are gone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    pub loaded: u64,
    pub gone: u64,
}

/// # Safety
/// As dl_iterate_phdr(3) calls it; the object is good until its lock is given up.
unsafe fn object<'a>(info: *const dl_phdr_info) -> Object<'a> {
    // SAFETY: by contract.
    let info = unsafe { &*info };
    let headers = match info.dlpi_phdr.is_null() {
        true => &[],
        // SAFETY: the loader's own table.
        false => unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) },
    };
    // SAFETY: NULL or NUL-terminated.
    let path = if info.dlpi_name.is_null() { c"" } else { unsafe { CStr::from_ptr(info.dlpi_name) } };
    Object { base: info.dlpi_addr as usize, path, headers }
}

fn iterate<F: FnMut(*const dl_phdr_info) -> bool>(mut each: F) {
    unsafe extern "C" fn call<F: FnMut(*const dl_phdr_info) -> bool>(
        info: *mut dl_phdr_info,
        _: usize,
        each: *mut c_void,
    ) -> c_int {
        // SAFETY: the closure below, which nobody else uses meanwhile.
        c_int::from(!unsafe { (*each.cast::<F>())(info) })
    }
    // SAFETY: `call` fits the closure, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(call::<F>), (&raw mut each).cast()) };
}

pub fn changes() -> Changes {
    let mut changes = Changes::default();
    iterate(|info| {
        // SAFETY: the loader's.
        changes = unsafe { Changes { loaded: (*info).dlpi_adds, gone: (*info).dlpi_subs } };
        false
    });
    changes
}

/// Calls `with` with everything that is loaded, none of which goes away meanwhile: the
/// loader's list is locked, which is a lock that may be taken twice.
pub fn with_objects<R>(with: impl FnOnce(&[Object], Changes) -> Result<R>) -> Result<R> {
    let (mut with, mut result) = (Some(with), Err(Error::NOSYS));
    iterate(|info| {
        // SAFETY: the loader's.
        let changes = unsafe { Changes { loaded: (*info).dlpi_adds, gone: (*info).dlpi_subs } };
        if let Some(with) = with.take() {
            result = collect().and_then(|objects| with(&objects, changes));
        }
        false
    });
    result
}

fn collect<'a>() -> Result<Vec<Object<'a>>> {
    may_fail(Call::Alloc)?;
    let (mut objects, mut is_full) = (Vec::new(), false);
    iterate(|info| {
        is_full |= objects.try_reserve(1).is_err();
        if !is_full {
            // SAFETY: the loader's, and it is locked.
            objects.push(unsafe { object(info) });
        }
        !is_full
    });
    if is_full { Err(Error::NOMEM) } else { Ok(objects) }
}

/// A piece of this process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub range: Range<usize>,
    pub can_read: bool,
    pub can_write: bool,
}

/// All that is mapped, in order. ENOENT where there is no /proc, EMFILE, ENOMEM.
pub fn mappings() -> Result<Vec<Mapping>> {
    let maps = file::open(c"/proc/self/maps", libc::O_RDONLY, 0)?;
    let mut text: Vec<u8> = Vec::new();
    loop {
        text.try_reserve(PIECE).map_err(|_| Error::NOMEM)?;
        let room = text.spare_capacity_mut();
        // SAFETY: the vector's room.
        let n = unsafe { file::read(maps.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), text.len() as i64) }?;
        if n == 0 {
            break;
        }
        // SAFETY: so much has been written behind what there was.
        unsafe { text.set_len(text.len() + n) };
    }
    let mut all = Vec::new();
    for mapping in text.split(|&b| b == b'\n').filter_map(mapping) {
        all.try_reserve(1).map_err(|_| Error::NOMEM)?;
        all.push(mapping);
    }
    Ok(all)
}

/// "7f00-7f10 r-xp ..."
fn mapping(line: &[u8]) -> Option<Mapping> {
    // The name at the end may be any bytes.
    let mut words = line.split(|&b| b == b' ');
    let (range, rights) = (std::str::from_utf8(words.next()?).ok()?, words.next()?);
    let (from, to) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (from, to) = (number(from)?, number(to)?);
    Some(Mapping { range: from..to, can_read: rights.first() == Some(&b'r'), can_write: rights.get(1) == Some(&b'w') })
}

/// Lets pages be written to, or not any more. EACCES, EPERM for those that are sealed.
///
/// # Safety
/// Whole pages of an object that is loaded; nobody writes to those that are closed.
pub unsafe fn open_pages(at: usize, len: usize, writable: bool) -> Result<()> {
    may_fail(Call::Protect)?;
    let rights = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    // SAFETY: by contract.
    check(unsafe { libc::mprotect(at as *mut c_void, len, rights) }).map(drop)
}

/// Keeps the library that holds `address` for the life of the process.
pub fn keep_loaded(address: usize) {
    // SAFETY: an all-zero Dl_info is a valid value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked for; the name is NULL or NUL-terminated.
    unsafe {
        if libc::dladdr(address as *const c_void, &mut info) != 0 && !info.dli_fname.is_null() {
            libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read_and_nonsense_is_passed_over() {
        let good = mapping(b"7f00-7f10 r-xp 00000000 fe:00 42 /lib/\xff.so").unwrap();
        assert_eq!(good, Mapping { range: 0x7f00..0x7f10, can_read: true, can_write: false });
        assert!(mapping(b"7f00-7f10 -w-p 0 0 0").is_some_and(|m| m.can_write && !m.can_read));
        for bad in ["", "7f00", "7f00-", "x-y r--p", "7f00-7f10"] {
            assert_eq!(mapping(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn this_program_is_loaded_and_mapped() {
        let here = this_program_is_loaded_and_mapped as fn() as usize;
        assert!(mappings().unwrap().iter().any(|m| m.range.contains(&here) && m.can_read && !m.can_write));
        let count = with_objects(|objects, changes| {
            assert!(changes.loaded >= objects.len() as u64);
            Ok(objects.len())
        });
        assert!(count.unwrap() > 1);
    }
}
