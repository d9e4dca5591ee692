//! The head of a message: its first line and its headers.
//!
//! ```text
//!  GET / HTTP/1.1 CR LF      scanned for its end, line by line, as it comes
//!  Host: oak CR LF           then copied, and the copy read by httparse: names and values are places in it,
//!  CR LF                     each with a NUL behind it
//! ```
//!
//! What belongs to the framing of messages is decided here: how long the body is, whether there is one Host,
//! whether the connection goes on. Two readers that disagree about it are how requests are smuggled, so
//! whatever can be read in two ways is refused.

use super::config::{Lenient, Limits};
use super::field;
use httparse::{Header, ParserConfig};
use std::cell::RefCell;
use std::mem::MaybeUninit;

/// The status that a request is refused with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(pub u16);

pub const BAD: Refused = Refused(400);
const TOO_LONG_LINE: Refused = Refused(414);
const TOO_LARGE: Refused = Refused(431);

// ---- where it ends ------------------------------------------------------------------

/// How far the head that is coming has been looked through.
#[derive(Clone, Copy, Default, Debug)]
pub struct Scan {
    looked: usize,
    /// Where the line begins that is coming.
    line: usize,
    /// Where the head begins, behind an empty line that some send after a body.
    from: usize,
    lines: usize,
    /// What comes answers a request.
    is_response: bool,
}

impl Scan {
    pub fn of_response() -> Scan {
        Scan { is_response: true, ..Scan::default() }
    }

    /// Goes on through `bytes`, of which there are more now: where the head begins and ends, if it is all
    /// there. What is wrong for good is refused at once, before the rest has come.
    pub fn go_on(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        lenient: &Lenient,
    ) -> Result<Option<(usize, usize)>, Refused> {
        while let Some(at) = line_feed(bytes, self.looked) {
            self.looked = at + 1;
            let has_return = at > self.line && bytes[at - 1] == b'\r';
            let line = &bytes[self.line..at - usize::from(has_return)];
            self.fits(line, at + 1, limits)?;
            if !has_return && !lenient.bare_lf {
                return Err(BAD);
            }
            if line.is_empty() {
                if self.lines > 0 {
                    return Ok(Some((self.from, at + 1)));
                }
                if self.from > 0 {
                    return Err(BAD);
                }
                self.from = at + 1;
            } else {
                self.take_line(line, limits, lenient)?;
            }
            self.line = at + 1;
        }
        self.looked = bytes.len();
        let begun = &bytes[self.line..];
        self.fits(begun.strip_suffix(b"\r").unwrap_or(begun), bytes.len(), limits).map(|()| None)
    }

    /// Whether a line, or what there is of it, can be one of a head that reaches to `end` or beyond. Asked
    /// before anything else: so it does not matter how the bytes are cut.
    fn fits(&self, line: &[u8], end: usize, limits: &Limits) -> Result<(), Refused> {
        if self.lines == 0 && !line.first().is_none_or(|&b| field::is_token_byte(b)) {
            return Err(BAD); // no method begins so; it may be TLS
        }
        if self.lines == 0 && line.len() > limits.line {
            return Err(TOO_LONG_LINE);
        }
        if end - self.from > limits.head { Err(TOO_LARGE) } else { Ok(()) }
    }

    fn take_line(&mut self, line: &[u8], limits: &Limits, lenient: &Lenient) -> Result<(), Refused> {
        let goes_on = matches!(line[0], b' ' | b'\t');
        if goes_on && (self.lines < 2 || !lenient.folding) {
            return Err(BAD);
        }
        if self.lines == 0 && !self.is_response && !ends_with_version(line) {
            return Err(BAD); // the headers need not be waited for
        }
        if self.lines > limits.headers {
            return Err(TOO_LARGE);
        }
        self.lines += 1;
        Ok(())
    }

    /// How many headers the head has, at most.
    fn headers(&self) -> usize {
        self.lines
    }
}

/// Whether a request's line ends as one does: " HTTP/1.1".
fn ends_with_version(line: &[u8]) -> bool {
    matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    let part = bytes.get(from..)?;
    // SAFETY: the slice's own bytes.
    let at = unsafe { libc::memchr(part.as_ptr().cast(), i32::from(b'\n'), part.len()) };
    (!at.is_null()).then(|| at as usize - bytes.as_ptr() as usize)
}

// ---- what it says -------------------------------------------------------------------

/// A place in a head's bytes.
#[derive(Clone, Copy, Default, Debug)]
struct Place {
    at: u32,
    len: u32,
}

/// How the body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
    /// It goes on to the end of the connection: a response's alone.
    ToTheEnd,
}

#[derive(Default, Debug)]
pub struct Head {
    bytes: Vec<u8>,
    fields: Vec<(Place, Place)>,
    method: Place,
    target: Place,
    /// A response's.
    pub status: u16,
    reason: Place,
    /// 0 or 1, of HTTP/1.x.
    pub minor: u8,
    pub framing: Framing,
    /// Whether the connection goes on after this message.
    pub keeps_alive: bool,
    /// He waits for 100 before he sends the body.
    pub expects: bool,
    pub is_head: bool,
}

thread_local! {
    /// What httparse writes its headers to; a stack that has touched a page keeps it.
    static HEADERS: RefCell<Vec<MaybeUninit<Header<'static>>>> = const { RefCell::new(Vec::new()) };
}

/// What a header's line is about, for framing.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    has_type: bool,
    closes: bool,
    stays: bool,
}

impl Head {
    pub fn method(&self) -> &[u8] {
        self.text(self.method)
    }

    pub fn target(&self) -> &[u8] {
        self.text(self.target)
    }

    pub fn reason(&self) -> &[u8] {
        self.text(self.reason)
    }

    fn text(&self, place: Place) -> &[u8] {
        // Nothing was said: nothing need be there.
        if place.len == 0 && place.at == 0 {
            return &[];
        }
        &self.bytes[place.at as usize..(place.at + place.len) as usize]
    }

    /// The first header of that name. Behind each text of a head is a NUL.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let (_, value) = self.fields.iter().find(|(n, _)| self.text(*n).eq_ignore_ascii_case(name))?;
        Some(self.text(*value))
    }

    pub fn field(&self, i: usize) -> Option<(&[u8], &[u8])> {
        self.fields.get(i).map(|&(name, value)| (self.text(name), self.text(value)))
    }

    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|&(name, value)| (self.text(name), self.text(value)))
    }

    /// Forgets what it says, and gives memory back that is more than most need.
    pub fn clear(&mut self) {
        const USUAL: usize = 4 << 10;
        let (mut bytes, mut fields) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.fields));
        if bytes.capacity() > USUAL {
            (bytes, fields) = Default::default();
        }
        bytes.clear();
        fields.clear();
        *self = Head { bytes, fields, ..Head::default() };
    }

    /// What is left when it was refused: nothing that could be taken for good.
    pub fn keep_line_only(&mut self) {
        let (method, target) = (self.method, self.target);
        let whole = self.bytes.get((target.at + target.len) as usize) == Some(&0) && target.len > 0;
        if !whole {
            return self.clear();
        }
        let is_head = self.is_head;
        self.fields.clear();
        let (bytes, fields) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.fields));
        *self = Head { bytes, fields, method, target, is_head, ..Head::default() };
    }

    /// Reads a request's head, which `scan` has found to be all of `bytes`.
    pub fn read_request(&mut self, bytes: &[u8], scan: &Scan, lenient: &Lenient) -> Result<(), Refused> {
        self.clear();
        self.bytes.extend_from_slice(bytes);
        self.smooth(lenient);
        HEADERS.with_borrow_mut(|headers| {
            let mut request = httparse::Request::new(&mut []);
            let room = room(headers, scan.headers());
            // The copy stays as it is until its places are known.
            // SAFETY: `self.bytes` is not touched while `request` is used.
            let bytes: &[u8] = unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.bytes.len()) };
            let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, room);
            match parsed {
                Ok(httparse::Status::Complete(n)) if n == bytes.len() => {}
                Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
                Err(httparse::Error::Version) => return Err(version_refused(bytes)),
                _ => return Err(BAD),
            }
            let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
                return Err(BAD);
            };
            self.minor = minor;
            self.method = place(bytes, method.as_bytes());
            self.target = place(bytes, target.as_bytes());
            self.is_head = method == "HEAD";
            self.take_fields(bytes, request.headers, lenient)?;
            let seen = self.judge(bytes)?;
            check_target(method.as_bytes(), target.as_bytes(), seen.host, lenient)?;
            self.settle(&seen, lenient)
        })?;
        self.end_texts();
        Ok(())
    }

    /// Reads a response's head, as `read_request`; `is_head` if it answers HEAD.
    pub fn read_response(&mut self, bytes: &[u8], scan: &Scan, is_head: bool) -> Result<(), Refused> {
        self.clear();
        self.bytes.extend_from_slice(bytes);
        HEADERS.with_borrow_mut(|headers| {
            let mut response = httparse::Response::new(&mut []);
            let room = room(headers, scan.headers());
            // SAFETY: `self.bytes` is not touched while `response` is used.
            let bytes: &[u8] = unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.bytes.len()) };
            match ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, room) {
                Ok(httparse::Status::Complete(n)) if n == bytes.len() => {}
                _ => return Err(BAD),
            }
            let (Some(minor), Some(status)) = (response.version, response.code) else { return Err(BAD) };
            if !(100..=999).contains(&status) {
                return Err(BAD);
            }
            (self.minor, self.status, self.is_head) = (minor, status, is_head);
            self.reason =
                response.reason.filter(|r| !r.is_empty()).map_or(Place::default(), |r| place(bytes, r.as_bytes()));
            self.take_fields(bytes, response.headers, &Lenient { underscores: true, ..Lenient::default() })?;
            let seen = self.judge(bytes)?;
            let has_none = is_head || super::status::is_bodiless(status);
            self.framing = match seen.length {
                _ if has_none => Framing::None,
                _ if seen.is_chunked => Framing::Chunked,
                Some(0) => Framing::None,
                Some(length) => Framing::Length(length),
                None => Framing::ToTheEnd,
            };
            self.keeps_alive = !seen.closes && (minor > 0 || seen.stays);
            Ok(())
        })?;
        self.end_texts();
        Ok(())
    }

    /// What is allowed by name is brought into the form that is read.
    fn smooth(&mut self, lenient: &Lenient) {
        if !lenient.folding && !lenient.space_before_colon {
            return;
        }
        let bytes = &mut self.bytes;
        let mut line = 0;
        while let Some(end) = line_feed(bytes, line) {
            if lenient.folding && matches!(bytes.get(end + 1), Some(b' ' | b'\t')) {
                let from = end - usize::from(end > 0 && bytes[end - 1] == b'\r');
                bytes[from..=end].fill(b' ');
                continue; // the same line, which is longer now
            }
            if lenient.space_before_colon && line > 0 {
                move_colon(&mut bytes[line..end]);
            }
            line = end + 1;
        }
    }

    fn take_fields(&mut self, bytes: &[u8], headers: &[Header], lenient: &Lenient) -> Result<(), Refused> {
        for header in headers {
            let name = header.name.as_bytes();
            if lenient.underscores || !name.contains(&b'_') {
                let name = place(bytes, name);
                // httparse's empty value lies somewhere else: ours is where the name ends.
                let nowhere = Place { at: name.at + name.len, len: 0 };
                let value = if header.value.is_empty() { nowhere } else { place(bytes, header.value) };
                self.fields.push((name, value));
            }
        }
        Ok(())
    }

    /// Looks through the headers for those that say how the message is framed.
    fn judge<'a>(&mut self, bytes: &'a [u8]) -> Result<Seen<'a>, Refused> {
        let mut seen = Seen::default();
        let text = |p: Place| &bytes[p.at as usize..(p.at + p.len) as usize];
        for &(name, value) in &self.fields {
            let (name, value) = (text(name), text(value));
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") && self.status == 0 => {
                    let is_good = field::is_authority(value) && seen.host.replace(value).is_none();
                    is_good.then_some(()).ok_or(BAD)?;
                }
                6 if name.eq_ignore_ascii_case(b"expect") && self.minor > 0 && self.status == 0 => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refused(417));
                    }
                    self.expects = true;
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    for part in field::parts(value) {
                        seen.closes |= part.eq_ignore_ascii_case(b"close");
                        seen.stays |= part.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                // A filter might look at one of them, and we at the other.
                12 if name.eq_ignore_ascii_case(b"content-type") && std::mem::replace(&mut seen.has_type, true) => {
                    return Err(BAD);
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let length = field::number(value).ok_or(BAD)?;
                    if seen.length.replace(length).is_some() {
                        return Err(BAD);
                    }
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    if std::mem::replace(&mut seen.is_chunked, true) {
                        return Err(BAD);
                    }
                    check_coding(value)?;
                }
                _ => {}
            }
        }
        if seen.is_chunked && (seen.length.is_some() || self.minor == 0) {
            return Err(BAD);
        }
        Ok(seen)
    }

    fn settle(&mut self, seen: &Seen, lenient: &Lenient) -> Result<(), Refused> {
        if seen.host.is_none() && self.minor > 0 && !lenient.no_host {
            return Err(BAD);
        }
        self.framing = match seen.length {
            _ if seen.is_chunked => Framing::Chunked,
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        };
        self.expects &= self.framing != Framing::None;
        self.keeps_alive = !seen.closes && (self.minor > 0 || seen.stays);
        Ok(())
    }

    /// What follows each text in a head is a delimiter, which has been read.
    fn end_texts(&mut self) {
        for place in [self.method, self.target, self.reason].into_iter().filter(|place| place.len > 0) {
            self.bytes[(place.at + place.len) as usize] = 0;
        }
        for (name, value) in &self.fields {
            self.bytes[(name.at + name.len) as usize] = 0;
            self.bytes[(value.at + value.len) as usize] = 0;
        }
    }
}

fn place(bytes: &[u8], part: &[u8]) -> Place {
    Place { at: (part.as_ptr() as usize - bytes.as_ptr() as usize) as u32, len: part.len() as u32 }
}

/// Room for `n` headers, which nobody reads from before it is written.
fn room<'h, 'b>(headers: &'h mut Vec<MaybeUninit<Header<'static>>>, n: usize) -> &'h mut [MaybeUninit<Header<'b>>] {
    if headers.len() < n {
        headers.resize(n, MaybeUninit::uninit());
    }
    // SAFETY: the same but for a lifetime, and it may be anything.
    unsafe { std::slice::from_raw_parts_mut(headers.as_mut_ptr().cast(), n) }
}

/// 505 for a version that there may be, 400 for none.
fn version_refused(bytes: &[u8]) -> Refused {
    let line = bytes.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refused(505)
        }
        _ => BAD,
    }
}

/// "chunked", and nothing else: 501 for what else there may be.
fn check_coding(value: &[u8]) -> Result<(), Refused> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings: Vec<&[u8]> = field::parts(value).collect();
    let last = codings.pop().unwrap_or_default();
    let known: [&[u8]; 3] = [b"gzip", b"deflate", b"compress"];
    let is_known = |coding: &&[u8]| known.iter().any(|k| coding.eq_ignore_ascii_case(k));
    let could_be = last.eq_ignore_ascii_case(b"chunked") && !codings.is_empty() && codings.iter().all(is_known);
    Err(if could_be { Refused(501) } else { BAD })
}

/// The four forms of a target, each where it belongs.
fn check_target(method: &[u8], target: &[u8], host: Option<&[u8]>, lenient: &Lenient) -> Result<(), Refused> {
    if method == b"CONNECT" {
        return Err(if field::is_authority(target) && target.contains(&b':') { Refused(501) } else { BAD });
    }
    let is_good = |&b: &u8| (b > b' ' && b < 127 && b != b'#') || (b >= 128 && lenient.raw_target);
    if !target.iter().all(is_good) {
        return Err(BAD);
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(());
    }
    let is_scheme = |s: &&[u8]| target.len() > s.len() && target[..s.len()].eq_ignore_ascii_case(s);
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let scheme = schemes.iter().copied().find(is_scheme).ok_or(BAD)?;
    let rest = &target[scheme.len()..];
    let authority = rest.split(|&b| b == b'/' || b == b'?').next().unwrap_or_default();
    let agrees = host.is_none_or(|host| host.eq_ignore_ascii_case(authority));
    if authority.is_empty() || !field::is_authority(authority) || !agrees { Err(BAD) } else { Ok(()) }
}

/// "Name  : value" becomes "Name:   value".
fn move_colon(line: &mut [u8]) {
    let Some(colon) = line.iter().position(|&b| b == b':') else { return };
    let name = line[..colon].iter().rposition(|&b| b != b' ' && b != b'\t').map_or(0, |at| at + 1);
    if name > 0 && name < colon {
        line[name..=colon].fill(b' ');
        line[name] = b':';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a head that arrives in pieces: `None` when it is not all there.
    fn read_with(pieces: &[&[u8]], lenient: &Lenient) -> Result<Option<Head>, Refused> {
        let (mut scan, mut there, limits) = (Scan::default(), Vec::new(), Limits::default());
        for piece in pieces.iter().filter(|p| !p.is_empty()) {
            there.extend_from_slice(piece);
            if let Some((from, to)) = scan.go_on(&there, &limits, lenient)? {
                let mut head = Head::default();
                return head.read_request(&there[from..to], &scan, lenient).map(|()| Some(head));
            }
        }
        Ok(None)
    }

    fn read(bytes: &[u8]) -> Result<Option<Head>, Refused> {
        read_with(&[bytes], &Lenient::default())
    }

    /// The same however it is cut in two, and byte by byte.
    fn check(bytes: &[u8], lenient: &Lenient, expected: Option<u16>) {
        let text = String::from_utf8_lossy(bytes);
        let mut cuts: Vec<Vec<&[u8]>> = (0..=bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]).collect();
        cuts.push(bytes.chunks(1).collect());
        for pieces in cuts {
            match (read_with(&pieces, lenient), expected) {
                (Ok(Some(_)), None) => {}
                (Err(Refused(status)), Some(wanted)) if status == wanted => {}
                (other, _) => panic!("{text:?} in {} pieces: {:?}, not {expected:?}", pieces.len(), other.map(drop)),
            }
        }
    }

    const GOOD: [&str; 21] = [
        "GET / HTTP/1.1\r\nHost: oak\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: oak\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHOST:\t oak:80 \t\r\n\r\n",
        "GET /a?b=c&d=%20|{}\"^ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: oak\r\n\r\n",
        "GET http://oak/ HTTP/1.1\r\nHost: OAK\r\n\r\n",
        "GET HTTPS://oak:80?x HTTP/1.1\r\nHost: oak:80\r\n\r\n",
        "M-SEARCH / HTTP/1.1\r\nHost: oak\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 00\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: oak\r\nContent_Length: x\r\nTransfer_Encoding: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: oak\r\nEmpty:\r\nB:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: oak\r\nX: \u{fc}\tand tab\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: oak\r\n!#$%&'*+-.^`|~09azAZ: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: oak\r\nConnection: keep-alive, close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: oak\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.0\r\nExpect: whatever\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: oak\r\nX: a\r\nX: b\r\n\r\n",
    ];

    const BAD: [(&str, u16); 93] = [
        // Which line ends where.
        ("GET / HTTP/1.1\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA: b\rC: d\r\n\r\n", 400),
        ("GET / HTTP/1.1\rHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\r\n\r\n", 400),
        ("\nGET / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("\rGET / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        // The request line.
        (" GET / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: oak\r\n\r\n", 400),
        ("GET\t/\tHTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET /\u{b}HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET / x HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET /\r\nHost: oak\r\n\r\n", 400),
        ("GET\r\nHost: oak\r\n\r\n", 400),
        ("G\u{fc}T / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET: / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: oak\r\n\r\n", 505),
        ("GET / HTTP/1.2\r\nHost: oak\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: oak\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/1.10\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/01.1\r\nHost: oak\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1,1\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP /1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTPS/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1.\r\nHost: oak\r\n\r\n", 400),
        // The target.
        ("GET oak HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET /\u{fc} HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET /\u{7f} HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET /\0 HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET ftp://oak/ HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET http:// HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET http://elm/ HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("GET http://me@oak/ HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        ("CONNECT oak:443 HTTP/1.1\r\nHost: oak:443\r\n\r\n", 501),
        ("CONNECT / HTTP/1.1\r\nHost: oak\r\n\r\n", 400),
        // Host.
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: oak\r\nhost: elm\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak, elm\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak/\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: me@oak\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak:80:80\r\n\r\n", 400),
        // Headers.
        ("GET / HTTP/1.1\r\nHost : oak\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: oak\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\tx\r\nHost: oak\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA: b\r\n c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA: b\r\n\tc\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA\t: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA b: c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\n: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA: \u{1}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA: \u{7f}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\n\u{fc}: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA(b): c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA;b: c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\n\"A\": c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nA\0: c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: oak\r\nContent-Type: a/b\r\ncontent-type: a/b\r\n\r\n", 400),
        // How long the body is.
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 1, 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: +1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 0x1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 1 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 1_0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: oak\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
    ];

    #[test]
    fn good_heads_are_read_however_they_are_cut() {
        GOOD.iter().for_each(|text| check(text.as_bytes(), &Lenient::default(), None));
    }

    #[test]
    fn bad_heads_are_refused_however_they_are_cut() {
        BAD.iter().for_each(|(text, status)| check(text.as_bytes(), &Lenient::default(), Some(*status)));
    }

    #[test]
    fn each_relaxation_takes_what_it_names_and_no_more() {
        type Relaxed = fn(&mut Lenient);
        let each: [(Relaxed, &[&str]); 6] = [
            (
                |l| l.bare_lf = true,
                &[
                    "GET / HTTP/1.1\nHost: oak\n\n",
                    "\nGET / HTTP/1.1\r\nHost: oak\n\r\n",
                    "GET / HTTP/1.1\r\nHost: oak\r\n\n",
                ],
            ),
            (
                |l| l.folding = true,
                &[
                    "GET / HTTP/1.1\r\nHost: oak\r\nA: b\r\n c\r\n\r\n",
                    "GET / HTTP/1.1\r\nHost: oak\r\nA: b\r\n\tc\r\n\t d\r\n\r\n",
                ],
            ),
            (|l| l.space_before_colon = true, &["GET / HTTP/1.1\r\nHost : oak\r\nA \t: b\r\n\r\n"]),
            (|l| l.no_host = true, &["GET / HTTP/1.1\r\n\r\n"]),
            (|l| l.raw_target = true, &["GET /\u{fc} HTTP/1.1\r\nHost: oak\r\n\r\n"]),
            (|l| l.underscores = true, &["GET / HTTP/1.1\r\nHost: oak\r\nA_b: c\r\n\r\n"]),
        ];
        for (relax, taken) in each {
            let mut lenient = Lenient::default();
            relax(&mut lenient);
            taken.iter().for_each(|text| check(text.as_bytes(), &lenient, None));
            let others =
                BAD.iter().filter(|(text, _)| read_with(&[text.as_bytes()], &lenient).is_ok_and(|h| h.is_some()));
            assert!(others.clone().count() <= 4, "{:?}", others.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_was_folded_is_one_value() {
        let lenient = Lenient { folding: true, space_before_colon: true, ..Lenient::default() };
        let head = read_with(&[b"GET / HTTP/1.1\r\nHost : oak\r\nA: b\r\n  c\r\nD:\r\n e\r\n\r\n"], &lenient)
            .unwrap()
            .unwrap();
        assert_eq!(
            (head.get(b"a"), head.get(b"d"), head.get(b"host")),
            (Some(&b"b    c"[..]), Some(&b"e"[..]), Some(&b"oak"[..]))
        );
    }

    #[test]
    fn texts_are_places_in_the_copy_with_a_nul_behind() {
        let head =
            read(b"GET /x?y HTTP/1.1\r\nHost: oak\r\nEmpty:\r\nSpaced:  a b \t\r\nA_b: no\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.method(), head.target()), (&b"GET"[..], &b"/x?y"[..]));
        let all: Vec<_> = head.fields().collect();
        assert_eq!(all, [(&b"Host"[..], &b"oak"[..]), (b"Empty", b""), (b"Spaced", b"a b")]);
        for text in all.iter().flat_map(|(n, v)| [*n, *v]).chain([head.method(), head.target()]) {
            let at = text.as_ptr() as usize - head.bytes.as_ptr() as usize + text.len();
            assert_eq!(head.bytes[at], 0);
        }
    }

    #[test]
    fn framing_is_what_the_headers_say() {
        let of = |text: &str| {
            let head = read(text.as_bytes()).unwrap().unwrap();
            (head.framing, head.keeps_alive, head.expects)
        };
        assert_eq!(of("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (Framing::None, true, false));
        assert_eq!(of("GET / HTTP/1.0\r\n\r\n"), (Framing::None, false, false));
        assert_eq!(of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), (Framing::None, true, false));
        assert_eq!(of("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"), (Framing::None, false, false));
        let expect = "Expect: 100-continue\r\n";
        assert_eq!(
            of(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: 7\r\n\r\n")),
            (Framing::Length(7), true, true)
        );
        assert_eq!(
            of(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: 0\r\n\r\n")),
            (Framing::None, true, false)
        );
        assert_eq!(
            of("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (Framing::Chunked, true, false)
        );
    }

    #[test]
    fn limits_are_kept_before_all_has_come() {
        let line = format!("GET /{}", "x".repeat(8 << 10));
        assert_eq!(read(line.as_bytes()).map(drop), Err(Refused(414)));
        let fits = format!("GET /{} HTTP/1.1\r\nHost: oak\r\n\r\n", "x".repeat((8 << 10) - 14));
        assert!(read(fits.as_bytes()).unwrap().is_some());
        let headers = |n: usize| format!("GET / HTTP/1.1\r\nHost: oak\r\n{}\r\n", "a: b\r\n".repeat(n - 1));
        assert!(read(headers(100).as_bytes()).unwrap().is_some());
        assert_eq!(read(headers(101).as_bytes()).map(drop), Err(Refused(431)));
        let long = format!("GET / HTTP/1.1\r\nHost: oak\r\nA: {}", "x".repeat(64 << 10));
        assert_eq!(read(long.as_bytes()).map(drop), Err(Refused(431)));
        assert_eq!(read(b"\x16\x03\x01\x02\x00\x01").map(drop), Err(Refused(400))); // TLS
    }

    #[test]
    fn a_limit_is_exact_however_the_head_is_cut() {
        let text = b"\r\nGET /oak HTTP/1.1\r\nHost: oak\r\nA: b\r\n\r\n";
        let (line, head) = (17, text.len() - 2);
        for (line, head, expected) in [(line, head, None), (line, head - 1, Some(431)), (line - 1, head, Some(414))] {
            let limits = Limits { line, head, ..Limits::default() };
            for cut in 0..=text.len() {
                let mut scan = Scan::default();
                let lenient = Lenient::default();
                let done = match scan.go_on(&text[..cut], &limits, &lenient) {
                    Ok(None) => scan.go_on(text, &limits, &lenient),
                    done => done,
                };
                assert_eq!(done.err().map(|e| e.0), expected, "{line} {head} {cut}");
            }
        }
    }
}
