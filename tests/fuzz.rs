//! What reads what comes from outside, fed with noise: seeds that are changed at random, for WEALD_FUZZ_SECONDS (1) each,
//! from WEALD_FUZZ_SEED (drawn, and printed). The claims are those of fuzz/, which asks for them under libFuzzer; this
//! is what runs everywhere.
#![cfg(feature = "websocket")]

#[path = "../fuzz/claims.rs"]
mod claims;

use claims::Draw;
use std::env;
use std::time::{Duration, Instant, SystemTime};

/// A seed with some changes.
fn changed(draw: &mut Draw, seeds: &[&[u8]], pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = draw.one_of(seeds).to_vec();
    for _ in 0..draw.below(6) {
        let at = draw.below(bytes.len() + 1);
        match draw.below(6) {
            0 | 1 => drop(bytes.splice(at..at, draw.one_of(pieces).iter().copied())),
            2 => drop(bytes.drain(at..(at + 1 + draw.below(8)).min(bytes.len()).max(at))),
            3 if at < bytes.len() => bytes[at] = draw.next() as u8,
            4 => {
                let other = draw.one_of(seeds);
                let from = draw.below(other.len());
                let to = (from + draw.below(40)).min(other.len());
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Runs `check` for its time with what is drawn.
fn for_a_while(seeds: &[&[u8]], pieces: &[&[u8]], check: fn(&[u8], &mut Draw) -> bool) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("WEALD_FUZZ_SEED").unwrap_or(clock).max(1);
    let end = Instant::now() + Duration::from_secs(number("WEALD_FUZZ_SECONDS").unwrap_or(1));
    let (mut draw, mut tried, mut taken) = (Draw::new(seed), 0u64, 0u64);
    println!("WEALD_FUZZ_SEED={seed}");
    while Instant::now() < end {
        for _ in 0..256 {
            let bytes = changed(&mut draw, seeds, pieces);
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

#[test]
fn heads() {
    for_a_while(&HEADS, &PIECES, claims::head);
}

#[test]
fn responses() {
    let seeds: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 404\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nHost: x y\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
    ];
    for_a_while(&seeds, &PIECES, claims::response);
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
    for_a_while(&seeds, &PIECES, claims::chunks);
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
    for_a_while(&seeds, &pieces, claims::address);
}

#[test]
fn messages() {
    let seeds: [&[u8]; 6] = [
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
        b"\x01\x82\0\0\0\0he\x89\x80\0\0\0\0\x80\x83\0\0\0\0llo",
        b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0",
        b"\x82\xfe\0\x80\x01\x02\x03\x04",
        b"\x82\x02\0\x01\x81\x03\xe2\x82\xac",
        b"\x88\x82\0\0\0\0\x03\xe8",
    ];
    let pieces: [&[u8]; 10] = [
        b"\x81\x80\0\0\0\0",
        b"\x00\x81\0\0\0\0\xe2",
        b"\x80\x82\0\0\0\0\x82\xac",
        b"\x89\x81\0\0\0\0p",
        b"\xc2\x85\0\0\0\0",
        b"\xff",
        b"\0",
        b"\0\0\0\0",
        b"\x88\x80\0\0\0\0",
        b"\xf2\x48\xcd\xc9\xc9\x07\0",
    ];
    for_a_while(&seeds, &pieces, claims::messages);
}

#[test]
fn deflated() {
    let seeds: [&[u8]; 6] = [
        b"\xf2\x48\xcd\xc9\xc9\x07\0",
        b"\xf2\x48\xcd\xc9\xc9\x07\0\xf2\0\x11\0\0",
        b"\xf3\x48\xcd\xc9\xc9\x07\0\0",
        b"\x00\x05\0\xfa\xffHello\0",
        b"\x4a\x4c\x1c\x05\xa3\x60\x14\x0c\x77\0\0",
        b"\x01\0\0\xff\xff\0\0",
    ];
    let pieces: [&[u8]; 6] = [b"\0", b"\x03\0", b"\0\0\xff\xff", b"\xff", b"\x4a", b"\xf2\0\x11"];
    for_a_while(&seeds, &pieces, claims::deflated);
}
