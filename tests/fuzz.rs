//! What HTTP is read by, fed with noise: seeds that are changed at random, for WEALD_FUZZ_SECONDS (1) each, from
//! WEALD_FUZZ_SEED (drawn, and printed).
//!
//! Beside "it does not panic" there are claims: however the bytes are cut, the same comes of them; what is taken has no byte
//! in it that could end a line; and written down anew, it is read as the same.
#![cfg(feature = "http")]

use std::env;
use std::time::{Duration, Instant, SystemTime};
use weald::error::Error;
use weald::http::chunk::{Chunks, Next};
use weald::http::config::{Lenient, Limits};
use weald::http::head::{Framing, Head, Refused, Scan};
use weald::http::url::Url;
use weald::http::{date, field};

/// xorshift64*: the same numbers everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// A seed with some changes.
    fn changed(&mut self, seeds: &[&[u8]], pieces: &[&[u8]]) -> Vec<u8> {
        let mut bytes = self.one_of(seeds).to_vec();
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 | 1 => drop(bytes.splice(at..at, self.one_of(pieces).iter().copied())),
                2 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()).max(at))),
                3 if at < bytes.len() => bytes[at] = self.next() as u8,
                4 => {
                    let other = self.one_of(seeds);
                    let from = self.below(other.len());
                    let to = (from + self.below(40)).min(other.len());
                    drop(bytes.splice(at..at, other[from..to].iter().copied()));
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

/// Runs `check` for its time with what is drawn.
fn for_a_while(seeds: &[&[u8]], pieces: &[&[u8]], check: fn(&[u8], &mut Draw) -> bool) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("WEALD_FUZZ_SEED").unwrap_or(clock).max(1);
    let end = Instant::now() + Duration::from_secs(number("WEALD_FUZZ_SECONDS").unwrap_or(1));
    let (mut draw, mut tried, mut taken) = (Draw(seed), 0u64, 0u64);
    println!("WEALD_FUZZ_SEED={seed}");
    while Instant::now() < end {
        for _ in 0..256 {
            let bytes = draw.changed(seeds, pieces);
            tried += 1;
            taken += u64::from(check(&bytes, &mut draw));
        }
    }
    println!("{tried} tried, {taken} taken");
    assert!(taken * 100 > tried && taken < tried, "{taken} of {tried}: neither all nor nothing is right");
}

const HEADS: [&[u8]; 8] = [
    b"GET / HTTP/1.1\r\nHost: oak\r\n\r\n",
    b"GET /a%20b?c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: oak:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nA_b: c\r\n\r\n",
    b"PUT http://oak/x HTTP/1.1\r\nHost: oak\r\nX: a, b\r\nEmpty:\r\nx:  y \t\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: oak\r\nFolded: a\r\n b\r\n\r\n",
    b"\r\nGET / HTTP/1.1\nHost : oak\n\n",
    b"GET /\xc3\xbc HTTP/1.1\r\nHost: oak\r\nConnection: close, x\r\n\r\n",
];

const PIECES: [&[u8]; 30] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"f",
    b"+",
    b"-",
    b"_",
    b"%00",
    b"#",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: elm\r\n",
    b" HTTP/1.1",
    b"chunked",
    b"0\r\n\r\n",
    b"ffffffffffffffff",
    b"Expect: x\r\n",
    b"HTTP/1.1 200 OK\r\n",
];

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
fn read(pieces: &[&[u8]], lenient: &Lenient, is_response: bool) -> Result<Option<(Head, usize)>, Refused> {
    let (mut scan, mut there, limits) = (Scan::default(), Vec::new(), Limits::default());
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        there.extend_from_slice(piece);
        let Some((from, to)) = scan.go_on(&there, &limits, lenient)? else { continue };
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
fn summary(head: &Head) -> (Vec<u8>, Vec<u8>, u8, Framing, bool, Vec<(Vec<u8>, Vec<u8>)>) {
    let fields = head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    (head.method().to_vec(), head.target().to_vec(), head.minor, head.framing, head.keeps_alive, fields)
}

fn check_head(bytes: &[u8], draw: &mut Draw) -> bool {
    let lenient = lenient(draw);
    let whole = read(&[bytes], &lenient, false);
    let (a, b) = (draw.below(bytes.len() + 1), draw.below(bytes.len() + 1));
    let (a, b) = (a.min(b), a.max(b));
    let cut = read(&[&bytes[..a], &bytes[a..b], &bytes[b..]], &lenient, false);
    let text = String::from_utf8_lossy(bytes);
    match (&whole, &cut) {
        (Ok(Some((one, end))), Ok(Some((other, other_end)))) => {
            assert_eq!((summary(one), end), (summary(other), other_end), "{text:?}");
        }
        (Err(one), Err(other)) => assert_eq!(one, other, "{text:?}"),
        (Ok(None), Ok(None)) => {}
        _ => panic!("{text:?}: whole {:?}, cut at {a} and {b} {:?}", whole.map(|_| ()), cut.map(|_| ())),
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
    let again = read(&[&anew], &strict, false).ok().flatten().unwrap_or_else(|| panic!("{text:?} is not read anew"));
    assert_eq!(summary(&head), summary(&again.0), "{text:?}");
    true
}

#[test]
fn heads() {
    for_a_while(&HEADS, &PIECES, check_head);
}

fn check_response(bytes: &[u8], draw: &mut Draw) -> bool {
    let at = draw.below(bytes.len() + 1);
    let whole = read(&[bytes], &Lenient::default(), true);
    let cut = read(&[&bytes[..at], &bytes[at..]], &Lenient::default(), true);
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(whole.is_ok(), cut.is_ok(), "{text:?} cut at {at}");
    let Ok(Some((head, _))) = whole else { return false };
    assert!((100..=999).contains(&head.status));
    assert!(head.fields().all(|(name, value)| field::is_token(name) && field::is_value(value)), "{text:?}");
    true
}

#[test]
fn responses() {
    let seeds: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 404\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nHost: x y\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
    ];
    for_a_while(&seeds, &PIECES, check_response);
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

fn check_chunks(bytes: &[u8], draw: &mut Draw) -> bool {
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

#[test]
fn chunks() {
    let seeds: [&[u8]; 5] = [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"a;b=c\r\n0123456789\r\n00\r\nT: u\r\nV: w\r\n\r\n",
        b"1\r\nx\r\n1;\"q\"\r\ny\r\n0;e\r\n\r\nGET / HTTP/1.1\r\n",
        b"2\r\n\r\n\r\n0\r\n\r\n",
    ];
    for_a_while(&seeds, &PIECES, check_chunks);
}

fn check_address(bytes: &[u8], _: &mut Draw) -> bool {
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

#[test]
fn addresses() {
    let seeds: [&[u8]; 6] = [
        b"http://oak/",
        b"https://oak:8080/a/b/../c?d#e",
        b"http://[::1]:80/%41%00",
        b"//elm/x",
        b"../a/./b",
        b"Sun, 06 Nov 1994 08:49:37 GMT",
    ];
    let pieces: [&[u8]; 14] =
        [b"/", b"?", b"#", b":", b"@", b"[", b"]", b"..", b"%", b"%2f", b" ", b"\r\n", b"http://", b"\xc3\xbc"];
    for_a_while(&seeds, &pieces, check_address);
}
