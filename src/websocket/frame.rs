//! Frames: their heads, their masks, and text that is checked as it comes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Opcode {
    More = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::More,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The most that a control frame carries.
pub const CONTROL: usize = 125;
/// No head is longer.
pub const HEAD: usize = 14;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    pub fin: bool,
    pub compressed: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    pub len: u64,
    /// Of the head itself.
    pub size: usize,
}

#[derive(PartialEq, Eq, Debug)]
pub enum Parsed {
    Head(Head),
    /// So many bytes are needed to tell.
    Need(usize),
    /// It breaks a rule.
    Bad(&'static str),
}

/// Reads the head that `bytes` begin with. `masked`: a client has sent it; `may_compress`: that has
/// been agreed.
pub fn parse(bytes: &[u8], masked: bool, may_compress: bool) -> Parsed {
    let [first, second, ..] = *bytes else { return Parsed::Need(2) };
    let Some(opcode) = Opcode::from_bits(first & 15) else { return Parsed::Bad("an opcode that has no meaning") };
    let (fin, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
    if first & 0x30 != 0 || compressed && (!may_compress || opcode.is_control() || opcode == Opcode::More) {
        return Parsed::Bad("a reserved bit is set");
    }
    if (second & 0x80 != 0) != masked {
        return Parsed::Bad(if masked { "a client's frame without a mask" } else { "a server's frame with a mask" });
    }
    let short = second & 0x7f;
    if opcode.is_control() && !fin {
        return Parsed::Bad("a control frame in pieces");
    }
    if opcode.is_control() && usize::from(short) > CONTROL {
        return Parsed::Bad("a control frame of more than 125 bytes");
    }
    let more = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let size = 2 + more + if masked { 4 } else { 0 };
    if bytes.len() < size {
        return Parsed::Need(size);
    }
    let len = match short {
        126 => u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => u64::from_be_bytes(std::array::from_fn(|i| bytes[2 + i])),
        short => u64::from(short),
    };
    let least = match short {
        126 => 126,
        127 => 65536,
        _ => 0,
    };
    if len < least || len >> 63 != 0 {
        return Parsed::Bad("a length that is not written as it should be");
    }
    let mask = if masked { std::array::from_fn(|i| bytes[2 + more + i]) } else { [0; 4] };
    Parsed::Head(Head { fin, compressed, opcode, mask, len, size })
}

/// The first byte of a frame that is a whole message, or the last of one.
pub fn last(opcode: Opcode) -> u8 {
    0x80 | opcode as u8
}

/// That of the first of several, or one in their middle.
pub fn not_last(opcode: Opcode) -> u8 {
    opcode as u8
}

/// With that, a message is compressed.
pub const COMPRESSED: u8 = 0x40;

/// Writes a head that begins with `first`; how long it is.
pub fn write(out: &mut [u8; HEAD], first: u8, len: usize, mask: Option<[u8; 4]>) -> usize {
    out[0] = first;
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut at = 2;
    match len {
        0..126 => out[1] = bit | len as u8,
        126..65536 => {
            out[1] = bit | 126;
            out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            at = 4;
        }
        _ => {
            out[1] = bit | 127;
            out[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            at = 10;
        }
    }
    if let Some(mask) = mask {
        out[at..at + 4].copy_from_slice(&mask);
        at += 4;
    }
    at
}

/// Puts the mask on, or takes it off; `phase` bytes of the payload came before these.
pub fn mask(bytes: &mut [u8], mask: [u8; 4], phase: usize) {
    if mask == [0; 4] {
        return;
    }
    let turned: [u8; 4] = std::array::from_fn(|i| mask[(i + phase) % 4]);
    let wide = u64::from_ne_bytes(std::array::from_fn(|i| turned[i % 4]));
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(turned.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// A mask that nobody can guess: whoever has a part in what is sent must not choose what is on the wire.
pub fn new_mask() -> [u8; 4] {
    // Threads take from one well; a fork's child has another process number in it.
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 4];
    // SAFETY: four bytes of our own.
    if unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), 4, libc::GRND_NONBLOCK) } != 4 {
        let n = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed) ^ crate::time::now() as u64;
        bytes =
            ((n ^ n >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32).to_le_bytes()[..4].try_into().unwrap_or([1; 4]);
    }
    bytes
}

/// Text that comes in pieces, which may cut a character.
#[derive(Clone, Copy, Default)]
pub struct Utf8 {
    tail: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Whether what has come so far can be the beginning of text.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&first, rest)) = bytes.split_first() else { return true };
            self.tail[self.len] = first;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.tail[..self.len]) {
                Ok(_) => self.len = 0,
                Err(e) if e.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(e) if e.error_len().is_some() => false,
            Err(e) => {
                let tail = &bytes[e.valid_up_to()..];
                self.tail[..tail.len()].copy_from_slice(tail);
                self.len = tail.len();
                true
            }
        }
    }

    /// Whether it may end here.
    pub fn is_whole(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_is_read_as_it_was_written_wherever_it_is_cut() {
        for opcode in [Opcode::More, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong] {
            for len in [0usize, 1, 125, 126, 127, 65535, 65536, 1 << 40] {
                for key in [None, Some([1, 2, 3, 4])] {
                    if opcode.is_control() && len > CONTROL {
                        continue;
                    }
                    let mut out = [0; HEAD];
                    let size = write(&mut out, last(opcode), len, key);
                    for cut in 0..size {
                        assert!(
                            matches!(parse(&out[..cut], key.is_some(), false), Parsed::Need(n) if n > cut && n <= size)
                        );
                    }
                    let mask = key.unwrap_or_default();
                    let head = Head { fin: true, compressed: false, opcode, mask, len: len as u64, size };
                    assert_eq!(parse(&out, key.is_some(), false), Parsed::Head(head));
                    assert!(matches!(parse(&out, key.is_none(), false), Parsed::Bad(_)));
                }
            }
        }
    }

    #[test]
    fn every_first_two_bytes_are_taken_or_refused_as_the_rules_say() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                for may_compress in [false, true] {
                    let bytes = [first, second, 0, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9];
                    let opcode = first & 15;
                    let control = opcode >= 8;
                    let known = matches!(opcode, 0..=2 | 8..=10);
                    let reserved = first & 0x30 != 0 || first & 0x40 != 0 && (!may_compress || control || opcode == 0);
                    let pieces = control && (first & 0x80 == 0 || second & 0x7f > 125);
                    let long = second & 0x7f == 126; // and says 0
                    let good = known && !reserved && second & 0x80 != 0 && !pieces && !long;
                    let parsed = parse(&bytes, true, may_compress);
                    assert_eq!(matches!(parsed, Parsed::Head(_)), good, "{first:02x} {second:02x} {parsed:?}");
                }
            }
        }
    }

    #[test]
    fn a_mask_is_the_same_in_every_piece() {
        let plain: Vec<u8> = (0..100).collect();
        let mut whole = plain.clone();
        mask(&mut whole, [1, 2, 3, 4], 0);
        assert!(whole.iter().zip(&plain).enumerate().all(|(i, (a, b))| *a == b ^ [1, 2, 3, 4][i % 4]));
        for cut in 0..=100 {
            let mut pieces = plain.clone();
            let (first, second) = pieces.split_at_mut(cut);
            mask(first, [1, 2, 3, 4], 0);
            mask(second, [1, 2, 3, 4], cut);
            assert_eq!(pieces, whole);
        }
    }

    #[test]
    fn text_is_refused_at_the_first_byte_that_makes_it_none() {
        let texts: [(&[u8], usize); 8] = [
            ("κόσμε, 木の葉 🌲".as_bytes(), usize::MAX),
            (b"a\xffb", 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xc0\xaf", 0),
            (b"\xe2\x82a", 2),
            (b"\xf0\x9f\x8c\xb2\xf0\x9f\x8c(", 7),
            (b"\x80", 0),
        ];
        for (text, bad) in texts {
            for cut in 0..=text.len() {
                let mut utf8 = Utf8::default();
                let first = utf8.push(&text[..cut]);
                assert_eq!(first, bad >= cut, "{text:x?} {cut}");
                if first {
                    assert_eq!(utf8.push(&text[cut..]), bad == usize::MAX);
                }
            }
            let mut one_by_one = Utf8::default();
            let stopped = text.iter().position(|b| !one_by_one.push(&[*b])).unwrap_or(usize::MAX);
            assert_eq!(stopped, bad);
        }
        let mut cut = Utf8::default();
        assert!(cut.push(b"\xe2\x82") && !cut.is_whole());
    }
}
