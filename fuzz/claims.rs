//! What must be true of whatever comes from outside, beside "it does not panic": however the bytes are cut, the same
//! comes of them; what is taken has no byte in it that could end a line; and written down anew, it is read as the
//! same. tests/fuzz.rs asks for it with noise, the targets of fuzz/ under libFuzzer.
//!
//! Each gets bytes, and what to draw the rest from: the limits, where to cut. Each says whether they were taken.

use std::ffi::{c_int, c_void};
use weald::error::Error;
use weald::ffi::base::*;
use weald::ffi::stream::*;
use weald::ffi::websocket::*;
use weald::http::chunk::{Chunks, Next};
use weald::http::config::{Lenient, Limits};
use weald::http::head::{Framing, Head, Refused, Scan};
use weald::http::url::Url;
use weald::http::{date, field};
use weald::websocket::deflate::{Agreed, Deflate};

/// xorshift64*: the same numbers everywhere.
#[derive(Clone)]
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed | 1)
    }

    /// From the first bytes of `input`, for a caller whose choices are in there; what is left of it.
    #[allow(dead_code)] // tests/fuzz.rs draws from the clock
    pub fn from(input: &[u8]) -> (Draw, &[u8]) {
        let (first, rest) = input.split_at(input.len().min(2));
        (Draw::new(first.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)) << 1), rest)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    #[allow(dead_code)] // the targets draw no seeds
    pub fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Where to cut `bytes` in three.
fn cut<'a>(bytes: &'a [u8], draw: &mut Draw) -> [&'a [u8]; 3] {
    let (a, b) = (draw.below(bytes.len() + 1), draw.below(bytes.len() + 1));
    let (a, b) = (a.min(b), a.max(b));
    [&bytes[..a], &bytes[a..b], &bytes[b..]]
}

// ---- HTTP ---------------------------------------------------------------------------

fn limits(draw: &mut Draw) -> Limits {
    let usual = Limits::default();
    match draw.below(4) {
        0 => {
            let line = 1 + draw.below(40);
            Limits { line, head: line + 2 + draw.below(60), headers: draw.below(4), ..usual }
        }
        _ => usual,
    }
}

fn lenient(draw: &mut Draw) -> Lenient {
    let bits = if draw.below(2) == 0 { 0 } else { draw.next() };
    Lenient {
        bare_lf: bits & 1 != 0,
        folding: bits & 2 != 0,
        space_before_colon: bits & 4 != 0,
        no_host: bits & 8 != 0,
        underscores: bits & 16 != 0,
        raw_target: bits & 32 != 0,
    }
}

/// What comes of a head in pieces: it, and where it ends; `None` if it is not all there.
fn read(
    pieces: &[&[u8]],
    limits: &Limits,
    lenient: &Lenient,
    is_response: bool,
) -> Result<Option<(Head, usize)>, Refused> {
    let mut scan = if is_response { Scan::of_response() } else { Scan::default() };
    let mut there = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        there.extend_from_slice(piece);
        let Some((from, to)) = scan.go_on(&there, limits, lenient)? else { continue };
        let mut head = Head::default();
        match is_response {
            true => head.read_response(&there[from..to], &scan, false)?,
            false => head.read_request(&there[from..to], &scan, lenient)?,
        }
        return Ok(Some((head, to)));
    }
    Ok(None)
}

/// What matters of it.
type Summary = (Vec<u8>, Vec<u8>, u8, Framing, bool, Vec<(Vec<u8>, Vec<u8>)>);

fn summary(head: &Head) -> Summary {
    let fields = head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    (head.method().to_vec(), head.target().to_vec(), head.minor, head.framing, head.keeps_alive, fields)
}

pub fn head(bytes: &[u8], draw: &mut Draw) -> bool {
    let (limits, lenient) = (limits(draw), lenient(draw));
    let whole = read(&[bytes], &limits, &lenient, false);
    let pieces = cut(bytes, draw);
    let cut = read(&pieces, &limits, &lenient, false);
    let text = String::from_utf8_lossy(bytes);
    match (&whole, &cut) {
        (Ok(Some((one, end))), Ok(Some((other, other_end)))) => {
            assert_eq!((summary(one), end), (summary(other), other_end), "{text:?}");
        }
        (Err(one), Err(other)) => assert_eq!(one, other, "{text:?}"),
        (Ok(None), Ok(None)) => {}
        _ => panic!("{text:?}: whole {:?}, {pieces:?} {:?}", whole.map(|_| ()), cut.map(|_| ())),
    }
    let Ok(Some((head, _))) = whole else { return false };
    assert!(field::is_token(head.method()) && !head.target().is_empty(), "{text:?}");
    let mut anew =
        [head.method(), b" ", head.target(), if head.minor == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" }]
            .concat();
    for (name, value) in head.fields() {
        assert!(
            field::is_token(name) && field::is_value(value) && value.trim_ascii() == value,
            "{text:?}: {name:?} {value:?}"
        );
        anew.extend([name, b": ", value, b"\r\n"].concat());
    }
    anew.extend(b"\r\n");
    let strict =
        Lenient { no_host: lenient.no_host, underscores: true, raw_target: lenient.raw_target, ..Lenient::default() };
    let again = read(&[&anew], &Limits::default(), &strict, false)
        .ok()
        .flatten()
        .unwrap_or_else(|| panic!("{text:?} is not read anew"));
    assert_eq!(summary(&head), summary(&again.0), "{text:?}");
    true
}

pub fn response(bytes: &[u8], draw: &mut Draw) -> bool {
    let at = draw.below(bytes.len() + 1);
    let (limits, lenient) = (limits(draw), Lenient::default());
    let whole = read(&[bytes], &limits, &lenient, true);
    let cut = read(&[&bytes[..at], &bytes[at..]], &limits, &lenient, true);
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(whole.is_ok(), cut.is_ok(), "{text:?} cut at {at}");
    let Ok(Some((head, _))) = whole else { return false };
    assert!((100..=999).contains(&head.status));
    assert!(head.fields().all(|(name, value)| field::is_token(name) && field::is_value(value)), "{text:?}");
    true
}

/// The data of a body that comes in pieces, and how many bytes it took.
fn unchunked(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, Error> {
    let (mut chunks, mut data, mut there, mut used) = (Chunks::new(), Vec::new(), Vec::new(), 0);
    for piece in pieces {
        there.extend_from_slice(piece);
        loop {
            let (n, next) = chunks.frame(&there)?;
            there.drain(..n);
            used += n;
            match next {
                Next::End => return Ok(Some((data, used))),
                Next::Data(left) if !there.is_empty() => {
                    let n = there.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    data.extend(there.drain(..n));
                    used += n;
                    chunks.took(n as u64);
                }
                _ => break,
            }
        }
    }
    Ok(None)
}

pub fn chunks(bytes: &[u8], draw: &mut Draw) -> bool {
    let at = draw.below(bytes.len() + 1);
    let whole = unchunked(&[bytes]);
    let each: Vec<&[u8]> = bytes.chunks(1).collect();
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(whole, unchunked(&[&bytes[..at], &bytes[at..]]), "{text:?} cut at {at}");
    assert_eq!(whole, unchunked(&each), "{text:?} byte by byte");
    let Ok(Some((data, used))) = whole else { return false };
    assert!(used <= bytes.len() && data.len() <= used && bytes[..used].ends_with(b"\r\n"), "{text:?}");
    true
}

pub fn address(bytes: &[u8], _: &mut Draw) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    assert!(date::parse(bytes).is_none_or(|second| date::format(second)[..] == *bytes));
    let here = Url::parse("http://oak/a/b?c").unwrap();
    for url in [Url::parse(text), here.join(text)].into_iter().flatten() {
        assert!(url.target.starts_with('/') && !url.host().is_empty(), "{text:?}");
        assert!(url.text().bytes().all(|b| b > b' ' && b < 127), "{text:?}");
        assert_eq!(Url::parse(&url.text()).as_ref(), Ok(&url), "{text:?}");
    }
    let mut path = Vec::new();
    assert!(field::decode_path(bytes, &mut path).is_none() || !path.contains(&0), "{text:?}");
    Url::parse(text).is_ok()
}

// ---- WebSocket ----------------------------------------------------------------------

const MESSAGE: usize = 300;

/// What a connection has received, how that ended, and what it has answered.
type Talk = (Vec<(c_int, Vec<u8>)>, c_int, Vec<u8>);

/// What comes of frames in pieces, each of which has come before the next is sent.
fn talk(pieces: &[&[u8]], flags: c_int, read_max: usize) -> Talk {
    let mut ends: [c_int; 2] = [0; 2];
    // SAFETY: room for two.
    assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0, &mut ends[0]) }, 0);
    let size = size_of::<weald_stream_options>();
    let held = weald_stream_options { size, read_max, ..weald_stream_options::default() };
    let size = size_of::<weald_websocket_options>();
    let how = weald_websocket_options { size, flags, max_message: MESSAGE, ..weald_websocket_options::default() };
    let w = weald_websocket_new(weald_stream_new(ends[0], &held), &how);
    assert!(w > 0);
    let (mut all, mut answers, mut code) = (Vec::new(), vec![0u8; 1 << 16], WEALD_EAGAIN);
    let mut receive = || {
        let (mut data, mut len) = (std::ptr::null::<c_void>(), 0);
        loop {
            match weald_websocket_receive(w, &mut data, &mut len, WEALD_NOW) {
                kind @ 1.. => {
                    assert!(len <= MESSAGE);
                    let text = match len {
                        0 => &[],
                        // SAFETY: so many bytes are there until the next call.
                        _ => unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) },
                    };
                    assert!(kind != WEALD_WEBSOCKET_TEXT || std::str::from_utf8(text).is_ok());
                    all.push((kind, text.to_vec()));
                }
                code => return code,
            }
        }
    };
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        if code == WEALD_EAGAIN {
            // SAFETY: the slice's own bytes.
            let sent = unsafe { libc::send(ends[1], piece.as_ptr().cast(), piece.len(), libc::MSG_NOSIGNAL) };
            assert_eq!(sent, piece.len() as isize);
            code = receive();
        }
    }
    // SAFETY: no pointers.
    unsafe { libc::shutdown(ends[1], libc::SHUT_WR) };
    if code == WEALD_EAGAIN {
        code = receive();
    }
    // SAFETY: room for so much.
    let n = unsafe { libc::recv(ends[1], answers.as_mut_ptr().cast(), answers.len(), 0) };
    answers.truncate(n.max(0) as usize);
    assert_eq!(weald_close(w), 0);
    // SAFETY: ours.
    unsafe { libc::close(ends[1]) };
    (all, code, answers)
}

pub fn messages(bytes: &[u8], draw: &mut Draw) -> bool {
    let bytes = &bytes[..bytes.len().min(4096)];
    let client = if draw.below(4) == 0 { WEALD_WEBSOCKET_CLIENT } else { 0 };
    let flags = client | if draw.below(2) == 0 { WEALD_WEBSOCKET_DEFLATE } else { 0 };
    let (one, other) = (talk(&[bytes], flags, 0), talk(&cut(bytes, draw), flags, draw.below(200)));
    let wrong = |code| code == WEALD_EPROTO || code == WEALD_EMSGSIZE;
    assert!(wrong(one.1) || one.1 == 0 || one.1 == WEALD_ECONNABORTED, "{bytes:?}: {}", one.1);
    assert_eq!(one.0, other.0, "{bytes:?}");
    assert!(one.1 == other.1 || wrong(one.1) && wrong(other.1), "{bytes:?}: {} and {}", one.1, other.1);
    // A client's answers have masks.
    if client == 0 && !wrong(one.1) {
        assert_eq!(one.2, other.2, "{bytes:?}");
    }
    !one.0.is_empty()
}

/// Inflates a message that comes in pieces.
fn inflate(from: &mut Deflate, pieces: &[&[u8]], most: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    pieces.iter().try_for_each(|piece| from.inflate(piece, &mut out, most))?;
    from.finish(&mut out, most)?;
    assert!(out.len() <= most);
    Ok(out)
}

pub fn deflated(bytes: &[u8], draw: &mut Draw) -> bool {
    let most = if draw.below(4) == 0 { draw.below(100) } else { 1 << 16 };
    let (forgets, bits) = (draw.below(2) == 0, 9 + draw.below(7) as u8);
    let agreed = Agreed { server_forgets: forgets, server_bits: bits, ..Agreed::default() };
    let [mut one, mut other] = [Deflate::new(agreed, false), Deflate::new(agreed, false)];
    let mut taken = false;
    for message in cut(bytes, draw) {
        let (whole, pieces) = (inflate(&mut one, &[message], most), inflate(&mut other, &cut(message, draw), most));
        assert!(whole == pieces || whole.is_err() && pieces.is_err(), "{bytes:?}");
        taken |= whole.as_ref().is_ok_and(|text| !text.is_empty());
        if whole.is_err() {
            break;
        }
    }
    if draw.below(8) == 0 {
        let [mut from, mut to] = [Deflate::new(agreed, true), Deflate::new(agreed, false)];
        for message in cut(bytes, draw) {
            let sent = from.compress(message, true).unwrap();
            assert_eq!(inflate(&mut to, &cut(&sent, draw), 1 << 20).as_deref(), Ok(message), "{bytes:?}");
        }
    }
    taken
}
