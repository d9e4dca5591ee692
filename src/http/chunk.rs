//! The chunked coding, read: what is framing and what is data, whatever pieces it comes in.
//!
//! ```text
//!  5;ext CR LF  hello CR LF  0 CR LF  Name: value CR LF  CR LF
//!  size         data         last     trailer            end
//! ```
//!
//! Strict: plain hexadecimal sizes, exact line ends, few and short extensions, trailers that would be good
//! headers. Extensions and trailers are looked at and dropped. It is a value without memory, so whoever
//! reads may copy it, go on, and keep what he has got to.

use super::field::{is_token_byte, is_value_byte};
use crate::error::{Error, Result};

/// Digits of a size.
const DIGITS: u8 = 15;
/// Bytes of extensions in a line, and in all lines of a body.
const EXTENSION: u32 = 256;
const EXTENSIONS: u32 = 16 << 10;
/// Bytes and lines of trailers.
const TRAILER: u32 = 8 << 10;
const TRAILERS: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// Where a trailer or the end may begin.
    Line,
    Name,
    Value,
    LineEnd,
    LastEnd,
    Done,
}

#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    state: State,
    /// Of a chunk's data.
    left: u64,
    digits: u8,
    /// Of extensions in this line; of extensions; of trailers, and their lines.
    extension: u32,
    extensions: u32,
    trailer: u32,
    trailers: u32,
    /// A digest of the trailer's name, so far.
    name: u32,
}

/// Trailers that somebody might take for what frames a message.
const FORBIDDEN: [u32; 3] = [digest_of(b"content-length"), digest_of(b"transfer-encoding"), digest_of(b"host")];
const NO_NAME: u32 = 0x811c_9dc5;

/// FNV-1a, of small letters.
const fn digest(before: u32, byte: u8) -> u32 {
    (before ^ byte.to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193)
}

const fn digest_of(name: &[u8]) -> u32 {
    let (mut all, mut i) = (NO_NAME, 0);
    while i < name.len() {
        all = digest(all, name[i]);
        i += 1;
    }
    all
}

/// What comes next in the bytes that are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// So many bytes of data at least, of which some may be there.
    Data(u64),
    /// Nothing, before there are more bytes.
    More,
    /// The body has ended.
    End,
}

impl Chunks {
    pub const fn new() -> Chunks {
        Chunks {
            state: State::Size,
            left: 0,
            digits: 0,
            extension: 0,
            extensions: 0,
            trailer: 0,
            trailers: 0,
            name: NO_NAME,
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads framing at the front of `bytes`: how many bytes it has, and what follows it. EPROTO.
    pub fn frame(&mut self, bytes: &[u8]) -> Result<(usize, Next)> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data => return Ok((at, Next::Data(self.left))),
                State::Done => return Ok((at, Next::End)),
                _ => {}
            }
            let Some(&byte) = bytes.get(at) else { return Ok((at, Next::More)) };
            self.state = self.step(byte).ok_or(Error::PROTO)?;
            at += 1;
        }
    }

    /// `n` bytes of data have been taken, no more than there were.
    pub fn took(&mut self, n: u64) {
        self.left -= n;
        if self.left == 0 {
            self.state = State::DataReturn;
        }
    }

    fn step(&mut self, byte: u8) -> Option<State> {
        use State::*;
        let to = match (self.state, byte) {
            (Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < DIGITS => {
                self.digits += 1;
                let digit = (byte as char).to_digit(16)?;
                self.left = self.left * 16 + u64::from(digit);
                Size
            }
            (Size, b';') if self.digits > 0 => Extension,
            (Size, b'\r') if self.digits > 0 => SizeEnd,
            (Extension, b'\r') => SizeEnd,
            (Extension, _) if is_value_byte(byte) => {
                self.extension += 1;
                self.extensions += 1;
                (self.extension <= EXTENSION && self.extensions <= EXTENSIONS).then_some(Extension)?
            }
            (SizeEnd, b'\n') => {
                (self.digits, self.extension) = (0, 0);
                if self.left == 0 { Line } else { Data }
            }
            (DataReturn, b'\r') => DataEnd,
            (DataEnd, b'\n') => Size,
            (Line, b'\r') => LastEnd,
            (LastEnd, b'\n') => Done,
            (Line, _) if is_token_byte(byte) => {
                self.trailers += 1;
                self.name = digest(NO_NAME, byte);
                (self.trailers <= TRAILERS && self.may_trail()).then_some(Name)?
            }
            (Name, b':') => (!FORBIDDEN.contains(&self.name)).then_some(Value)?,
            (Name, _) if is_token_byte(byte) => {
                self.name = digest(self.name, byte);
                self.may_trail().then_some(Name)?
            }
            (Value, b'\r') => LineEnd,
            (Value, _) if is_value_byte(byte) => self.may_trail().then_some(Value)?,
            (LineEnd, b'\n') => Line,
            _ => return None,
        };
        Some(to)
    }

    fn may_trail(&mut self) -> bool {
        self.trailer += 1;
        self.trailer <= TRAILER
    }
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that comes in pieces, and what follows it.
    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>)> {
        let (mut chunks, mut data, mut there) = (Chunks::new(), Vec::new(), Vec::new());
        for piece in pieces {
            there.extend_from_slice(piece);
            loop {
                let (n, next) = chunks.frame(&there)?;
                there.drain(..n);
                match next {
                    Next::Data(left) if !there.is_empty() => {
                        let n = there.len().min(left as usize);
                        data.extend(there.drain(..n));
                        chunks.took(n as u64);
                    }
                    _ => break,
                }
            }
        }
        if chunks.is_done() { Ok((data, there)) } else { Err(Error::AGAIN) }
    }

    const GOOD: [(&[u8], &[u8], &[u8]); 8] = [
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n", b"hello", b"GET / HTTP/1.1\r\n"),
        (b"a\r\n0123456789\r\n00A\r\n0123456789\r\n000\r\n\r\n", b"01234567890123456789", b""),
        (b"1;a=b;c=\"d e\"\r\nx\r\n0;last\r\n\r\n", b"x", b""),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b""),
        (b"1\r\nx\r\n0\r\nDigest: a\r\nX-Y:\r\n\r\n", b"x", b""),
        (b"1\r\nx\r\n0\r\nA: \xc3\xbc\t!\r\n\r\nrest", b"x", b"rest"),
    ];

    /// What has desynchronised servers, and what is just not right.
    const BAD: [&[u8]; 35] = [
        b"\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nA: b\r\ntransfer-ENCODING: chunked\r\n\r\n",
        b"0\r\nHost: elm\r\n\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\nx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b" 1\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"1_0\r\n",
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"1\r\nxx\r\n0\r\n\r\n",
        b"1\r\nx0\r\n\r\n",
        b"2\r\nx\r\n0\r\n\r\n",
        b"1\r\nx\r\n0\n\n",
        b"1\r\nx\r\n0\r\n\n",
        b"1\rx\r\n0\r\n\r\n",
        b"1;a\nx\r\n0\r\n\r\n",
        b"1;\nx\r\n0\r\n\r\n",
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"1;\0\r\nx\r\n0\r\n\r\n",
        b"1000000000000000\r\n",
        b"ffffffffffffffff1\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\nA\r\n\r\n",
        b"0\r\nA: b\nC: d\r\n\r\n",
        b"0\r\nA: \0\r\n\r\n",
        b"0\r\nA: b\r\r\n\r\n",
        b";\r\n",
        b"\xef\xbc\x91\r\nx\r\n0\r\n\r\n",
    ];

    #[test]
    fn good_bodies_are_read_however_they_are_cut() {
        for (bytes, data, rest) in GOOD {
            assert_eq!(read(&[bytes]).unwrap(), (data.to_vec(), rest.to_vec()));
            for at in 0..=bytes.len() {
                assert_eq!(read(&[&bytes[..at], &bytes[at..]]).unwrap(), (data.to_vec(), rest.to_vec()));
            }
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&each).unwrap(), (data.to_vec(), rest.to_vec()));
        }
    }

    #[test]
    fn bad_bodies_are_refused_however_they_are_cut() {
        for bytes in BAD {
            let text = String::from_utf8_lossy(bytes);
            for at in 0..=bytes.len() {
                assert_eq!(read(&[&bytes[..at], &bytes[at..]]), Err(Error::PROTO), "{text:?} cut at {at}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_have_their_limits() {
        let long = |n: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(n)).into_bytes();
        assert!(read(&[&long(256)]).is_ok());
        assert_eq!(read(&[&long(257)]), Err(Error::PROTO));
        let many = |n: usize| format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(n)).into_bytes();
        assert!(read(&[&many(81)]).is_ok());
        assert_eq!(read(&[&many(82)]), Err(Error::PROTO));
        let trailers =
            |n: usize, len: usize| format!("0\r\n{}\r\n", format!("a:{}\r\n", "v".repeat(len)).repeat(n)).into_bytes();
        assert!(read(&[&trailers(64, 1)]).is_ok());
        assert_eq!(read(&[&trailers(65, 1)]), Err(Error::PROTO));
        assert_eq!(read(&[&trailers(1, 9000)]), Err(Error::PROTO));
    }

    #[test]
    fn a_copy_goes_on_by_itself() {
        let mut chunks = Chunks::new();
        assert_eq!(chunks.frame(b"5\r\nhel"), Ok((3, Next::Data(5))));
        let mut copy = chunks;
        copy.took(5);
        assert_eq!(copy.frame(b"\r\n0\r\n\r\n"), Ok((7, Next::End)));
        chunks.took(3);
        assert_eq!(chunks.frame(b"lo"), Ok((0, Next::Data(2))));
    }
}
