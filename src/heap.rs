//! Memory that goes to the program: from malloc, freed by `weald_free`.
//!
//! A block grows while something is read into it. A NUL follows what it holds, so that
//! text is a C string.

use crate::error::{Error, Result};
use crate::sys;
use std::ffi::c_void;
use std::mem::MaybeUninit;

pub struct Block {
    at: *mut u8,
    len: usize,
    /// Without the NUL's place.
    room: usize,
}

// SAFETY: it owns its memory, as a vector does.
unsafe impl Send for Block {}

impl Block {
    pub const fn new() -> Block {
        Block { at: std::ptr::null_mut(), len: 0, room: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `more` bytes behind what it holds. ENOMEM.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        if !self.at.is_null() && self.room - self.len >= more {
            return Ok(());
        }
        let room = self.len.checked_add(more).ok_or(Error::NOMEM)?.max(self.room.saturating_mul(2));
        let size = room.checked_add(1).filter(|&size| size <= isize::MAX as usize).ok_or(Error::NOMEM)?;
        sys::may_fail(sys::Call::Alloc)?;
        // SAFETY: null or from here.
        let at = unsafe { libc::realloc(self.at.cast(), size) }.cast::<u8>();
        if at.is_null() {
            return Err(Error::NOMEM);
        }
        (self.at, self.room) = (at, room);
        Ok(())
    }

    /// The room behind what it holds.
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        if self.at.is_null() {
            return &mut [];
        }
        // SAFETY: `reserve` made that much room, and it is ours.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(self.len).cast(), self.room - self.len) }
    }

    /// # Safety
    /// `n` bytes have been written to `spare`.
    pub unsafe fn filled(&mut self, n: usize) {
        debug_assert!(n <= self.room - self.len);
        self.len += n;
    }

    /// ENOMEM.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.reserve(bytes.len())?;
        // SAFETY: as much room as there are bytes, and nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.add(self.len), bytes.len()) };
        self.len += bytes.len();
        Ok(())
    }

    /// Its memory, no more of it than it needs, which is the caller's from now on, with a
    /// NUL behind it; null when nothing has ever been reserved.
    pub fn give(self) -> *mut c_void {
        if self.at.is_null() {
            return std::ptr::null_mut();
        }
        // SAFETY: there is always room for a NUL.
        unsafe { self.at.add(self.len).write(0) };
        // SAFETY: from here, and not larger than it was.
        let smaller = unsafe { libc::realloc(self.at.cast(), self.len + 1) };
        let at = if smaller.is_null() { self.at.cast() } else { smaller };
        std::mem::forget(self);
        at
    }
}

impl Default for Block {
    fn default() -> Block {
        Block::new()
    }
}

impl std::ops::Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: that much has been written.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: null, or from `reserve` and not given away.
        unsafe { free(self.at.cast()) };
    }
}

/// # Safety
/// `at` is null or was given away by a block, and is not used any more.
pub unsafe fn free(at: *mut c_void) {
    // SAFETY: by contract.
    unsafe { libc::free(at) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_away_ends_with_a_nul() {
        for text in [&b""[..], b"a", b"a longer text"] {
            let mut block = Block::new();
            block.reserve(0).unwrap();
            text.iter().for_each(|&byte| block.push(&[byte]).unwrap());
            assert_eq!(&*block, text);
            let at = block.give();
            // SAFETY: given away just now, with a NUL.
            assert_eq!(unsafe { std::ffi::CStr::from_ptr(at.cast()) }.to_bytes(), text);
            // SAFETY: as above.
            unsafe { free(at) };
        }
    }

    #[test]
    fn more_than_there_can_be_is_enomem() {
        assert_eq!(Block::new().reserve(usize::MAX), Err(Error::NOMEM));
        assert_eq!(Block::new().reserve(isize::MAX as usize), Err(Error::NOMEM));
    }
}
