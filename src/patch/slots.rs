//! Writing to slots, and to none that the loader is still at work on.
//!
//! Slots that are read-only after relocation (RELRO) are opened page by page and closed
//! again. As long as such a page can be written to, its library is still being loaded, by
//! another thread: it is left for later, for when the loader closes it and we do not expect
//! that, the process would end.

use super::elf::Image;
use crate::error::{Error, Result};
use crate::sys::loader::{self, Mapping};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const PAGE: usize = 4096;

/// A place and what to write there, if `expected` is what stands there.
#[derive(Clone, Copy)]
pub struct Change {
    pub at: usize,
    pub expected: usize,
    pub value: usize,
}

/// What stands at `at`.
///
/// # Safety
/// A slot of a library that is loaded.
pub unsafe fn value(at: usize) -> usize {
    // SAFETY: by contract, and `elf` gives aligned places alone.
    unsafe { &*(at as *const AtomicUsize) }.load(SeqCst)
}

/// Makes all of the changes, or none. EAGAIN when the library is being loaded; EACCES when
/// its pages can not be opened.
///
/// # Safety
/// Slots of the library of `image`, which is loaded.
pub unsafe fn write(image: &Image, mappings: &[Mapping], changes: &[Change]) -> Result<()> {
    let mut pages: Vec<usize> = Vec::new();
    for change in changes {
        let page = change.at & !(PAGE - 1);
        match (image.relro.contains(&change.at), can_write(mappings, change.at)) {
            (true, true) => return Err(Error::AGAIN),
            (false, false) => return Err(Error::ACCES),
            (true, false) if !pages.contains(&page) => pages.push(page),
            _ => {}
        }
    }
    let mut opened = 0;
    let all_open = pages.iter().try_for_each(|&page| {
        // SAFETY: a page of the library's RELRO segment, which the loader has done with.
        unsafe { loader::open_pages(page, PAGE, true) }.inspect(|()| opened += 1)
    });
    if all_open.is_ok() {
        for change in changes {
            // SAFETY: by contract; writable, or opened just now.
            let slot = unsafe { &*(change.at as *const AtomicUsize) };
            let _ = slot.compare_exchange(change.expected, change.value, SeqCst, SeqCst);
        }
    }
    for &page in &pages[..opened] {
        // A page that stays open would be taken for one that the loader is at work on.
        // SAFETY: as above.
        let close = || unsafe { loader::open_pages(page, PAGE, false) };
        let _ = close().or_else(|_| close());
    }
    all_open.map_err(|e| if e == Error::NOMEM { e } else { Error::ACCES })
}

fn can_write(mappings: &[Mapping], at: usize) -> bool {
    let place = mappings.partition_point(|m| m.range.end <= at);
    mappings.get(place).is_some_and(|m| m.range.contains(&at) && m.can_write)
}
