//! The slots of a loaded program or library: the places that hold the addresses of
//! functions which it calls and others define.
//!
//! ```text
//! program headers --> PT_DYNAMIC --> DT_JMPREL, DT_RELA --> a slot and a symbol
//!                                    DT_SYMTAB, DT_STRTAB --> the symbol's name
//! ```
//! All is read from memory, and nothing is believed: whatever does not lie in a readable
//! segment is not there.

use crate::sys::loader::{Mapping, Object};
use libc::{PT_DYNAMIC, PT_GNU_RELRO, PT_LOAD};
use std::ops::Range;

const DT_NULL: u64 = 0;
const DT_PLTRELSZ: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_SONAME: u64 = 14;
const DT_PLTREL: u64 = 20;
const DT_JMPREL: u64 = 23;

/// A table of function pointers has them, GOT slots that are not called through the PLT
/// (`-fno-plt`) have them, the PLT's slots have them.
const R_64: u32 = 1;
const R_GLOB_DAT: u32 = 6;
const R_JUMP_SLOT: u32 = 7;

const PAGE: usize = 4096;
const RELOCATION: usize = 24;
const SYMBOL: usize = 24;
/// More entries than that a dynamic section does not have.
const MOST_ENTRIES: usize = 1024;
/// Longer than the names that are looked for.
const MOST_NAME: usize = 64;

pub struct Image {
    base: usize,
    /// What can be read, in order.
    segments: Vec<Range<usize>>,
    /// Becomes read-only when the loader has filled it in.
    pub relro: Range<usize>,
    strings: usize,
    symbols: usize,
    /// The two tables, from and to.
    relocations: [Range<usize>; 2],
    soname: Option<usize>,
}

impl Image {
    /// None when it has no dynamic section that makes sense.
    pub fn read(object: &Object, mappings: &[Mapping]) -> Option<Image> {
        let place = |header: &libc::Elf64_Phdr| {
            let from = object.base.wrapping_add(header.p_vaddr as usize);
            from..from.saturating_add(header.p_memsz as usize)
        };
        let of_kind = |kind| object.headers.iter().filter(move |header| header.p_type == kind);
        let segments = of_kind(PT_LOAD).map(|h| readable(place(h), mappings)).filter(|s| !s.is_empty()).collect();
        // The loader protects whole pages: the last one stays writable if others share it.
        let relro = of_kind(PT_GNU_RELRO).next().map(place).unwrap_or_default();
        let relro = relro.start & !(PAGE - 1)..relro.end & !(PAGE - 1);
        let mut image = Image {
            base: object.base,
            segments,
            relro,
            strings: 0,
            symbols: 0,
            relocations: [0..0, 0..0],
            soname: None,
        };
        let dynamic = of_kind(PT_DYNAMIC).next().map(place)?;
        image.read_dynamic(dynamic.start)?;
        Some(image)
    }

    fn read_dynamic(&mut self, mut at: usize) -> Option<()> {
        let (mut rela, mut rela_size, mut plt, mut plt_size, mut soname) = (0, 0, 0, 0, None);
        for _ in 0..MOST_ENTRIES {
            let (tag, value) = (self.word(at)?, self.word(at.wrapping_add(8))? as usize);
            match tag {
                DT_NULL => break,
                DT_STRTAB => self.strings = self.address(value)?,
                DT_SYMTAB => self.symbols = self.address(value)?,
                DT_RELA => rela = self.address(value)?,
                DT_RELASZ => rela_size = value,
                DT_JMPREL => plt = self.address(value)?,
                DT_PLTRELSZ => plt_size = value,
                DT_PLTREL if value as u64 != DT_RELA => return None,
                DT_SONAME => soname = Some(value),
                _ => {}
            }
            at = at.wrapping_add(16);
        }
        let table = |from: usize, size: usize| from..from.saturating_add(if from == 0 { 0 } else { size });
        self.relocations = [table(plt, plt_size), table(rela, rela_size)];
        self.soname = soname.map(|offset| self.strings.wrapping_add(offset));
        (self.strings != 0 && self.symbols != 0).then_some(())
    }

    /// The loader writes addresses into the section where it may, and leaves offsets where
    /// it may not (or has not come to it yet).
    fn address(&self, value: usize) -> Option<usize> {
        [value, self.base.wrapping_add(value)].into_iter().find(|&at| self.holds(at, 1))
    }

    fn holds(&self, at: usize, len: usize) -> bool {
        self.segments.iter().any(|s| s.start <= at && at < s.end && len <= s.end - at)
    }

    fn word(&self, at: usize) -> Option<u64> {
        // SAFETY: mapped and readable, see `segments`, as long as the object is loaded.
        self.holds(at, 8).then(|| unsafe { (at as *const u64).read_unaligned() })
    }

    fn half(&self, at: usize) -> Option<u32> {
        // SAFETY: as above.
        self.holds(at, 4).then(|| unsafe { (at as *const u32).read_unaligned() })
    }

    /// A text, without its NUL; nothing when it is too long for us.
    fn text(&self, at: usize) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|s| s.contains(&at))?;
        let most = MOST_NAME.min(segment.end - at);
        // SAFETY: mapped and readable, as above; text tables are not written to.
        let bytes = unsafe { std::slice::from_raw_parts(at as *const u8, most) };
        bytes.iter().position(|&b| b == 0).map(|end| &bytes[..end])
    }

    pub fn soname(&self) -> Option<&[u8]> {
        self.text(self.soname?)
    }

    /// From its first byte to its last.
    pub fn range(&self) -> Range<usize> {
        let from = self.segments.iter().map(|s| s.start).min().unwrap_or(0);
        from..self.segments.iter().map(|s| s.end).max().unwrap_or(0)
    }

    /// Calls `found` with the address of each slot for a function that others define, and
    /// the function's name.
    pub fn slots(&self, mut found: impl FnMut(usize, &[u8])) {
        for table in &self.relocations {
            for at in table.clone().step_by(RELOCATION) {
                let Some((place, info)) = self.word(at).zip(self.word(at + 8)) else { break };
                if matches!(info as u32, R_64 | R_GLOB_DAT | R_JUMP_SLOT)
                    && let Some(name) = self.undefined((info >> 32) as usize)
                    && let place = self.base.wrapping_add(place as usize)
                    && place % 8 == 0
                    && self.holds(place, 8)
                    && self.word(at + 16).is_some_and(|addend| addend == 0 || info as u32 != R_64)
                {
                    found(place, name);
                }
            }
        }
    }

    /// What stands in a slot.
    pub fn value(&self, slot: usize) -> Option<usize> {
        self.word(slot).map(|word| word as usize)
    }

    /// The name of a symbol that this object does not define.
    fn undefined(&self, index: usize) -> Option<&[u8]> {
        let at = self.symbols.checked_add(index.checked_mul(SYMBOL)?)?;
        let section = self.half(at.checked_add(4)?)? >> 16;
        if index == 0 || section != 0 {
            return None;
        }
        self.text(self.strings.checked_add(self.half(at)? as usize)?)
    }
}

/// The beginning of `wanted` that is readable without a gap.
fn readable(wanted: Range<usize>, mappings: &[Mapping]) -> Range<usize> {
    let mut end = wanted.start;
    let first = mappings.partition_point(|m| m.range.end <= wanted.start);
    for m in mappings[first..].iter().take_while(|m| m.can_read) {
        if m.range.start > end || end >= wanted.end {
            break;
        }
        end = m.range.end;
    }
    wanted.start..end.min(wanted.end).max(wanted.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::loader;

    #[test]
    fn every_loaded_object_has_slots_for_what_it_calls() {
        let mappings = loader::mappings().unwrap();
        let mut names = Vec::new();
        loader::with_objects(|objects, _| {
            for object in objects {
                if let Some(image) = Image::read(object, &mappings) {
                    image.slots(|_, name| names.push(name.to_vec()));
                }
            }
            Ok(())
        })
        .unwrap();
        assert!(names.iter().any(|n| n == b"write"), "this program writes");
    }

    /// A library of one page, as wrong as it likes.
    fn odd(headers: &[libc::Elf64_Phdr], page: &[u64]) -> usize {
        let base = page.as_ptr() as usize;
        let mappings = [loader::Mapping { range: base..base + size_of_val(page), can_read: true, can_write: true }];
        let object = Object { base, path: c"odd", headers };
        let mut count = 0;
        if let Some(image) = Image::read(&object, &mappings) {
            image.slots(|_, _| count += 1);
            assert!(image.soname().is_none_or(|name| name.len() < MOST_NAME));
        }
        count
    }

    fn header(kind: u32, from: u64, len: u64) -> libc::Elf64_Phdr {
        libc::Elf64_Phdr {
            p_type: kind,
            p_flags: 4,
            p_offset: 0,
            p_vaddr: from,
            p_paddr: 0,
            p_filesz: len,
            p_memsz: len,
            p_align: 8,
        }
    }

    #[test]
    fn odd_data_is_nothing_and_harms_nobody() {
        let words = 512;
        let headers = [header(PT_LOAD, 0, words * 8), header(PT_DYNAMIC, 64, words * 8), header(PT_GNU_RELRO, 0, 4096)];
        let mut seed = 88172645463325252u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..20_000 {
            let mut page = vec![0u64; words as usize];
            // Tags that mean something, with values that point anywhere, mostly inside.
            for pair in page[8..40].chunks_exact_mut(2) {
                pair[0] = [DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_JMPREL, DT_PLTRELSZ, DT_SONAME, 99]
                    [random() as usize % 8];
                pair[1] = if round % 4 == 0 { random() } else { random() % (words * 8) };
            }
            page[40..].iter_mut().for_each(|w| *w = if random() % 3 == 0 { random() } else { random() % 4096 });
            odd(&headers, &page);
        }
        let page = vec![u64::MAX; words as usize];
        assert_eq!(odd(&headers, &page), 0);
        assert_eq!(odd(&[], &page), 0);
        assert_eq!(odd(&[header(PT_DYNAMIC, u64::MAX, 8), header(PT_LOAD, 8, u64::MAX)], &page), 0);
    }

    #[test]
    fn what_is_not_mapped_is_not_read() {
        let map = |from, to, can_read| loader::Mapping { range: from..to, can_read, can_write: false };
        let all = [map(10, 20, true), map(20, 30, true), map(40, 50, true), map(50, 60, false)];
        assert_eq!(readable(12..28, &all), 12..28);
        assert_eq!(readable(12..45, &all), 12..30);
        assert!(readable(30..45, &all).is_empty());
        assert_eq!(readable(45..55, &all), 45..50);
        assert!(readable(55..58, &all).is_empty());
    }
}
