//! Files as responses: whole, in part, or not at all because the client has them.
//!
//! ```text
//!  If-None-Match, If-Modified-Since --> 304
//!  Range (and If-Range)             --> 206, 416
//!  else                             --> 200
//! ```
//!
//! A file's tag is made of its time and its size. Of several ranges none is served, but the whole file, as
//! is everybody's right; one is all that players and downloads ask for.

use super::date;
use super::exchange::Exchange;
use super::field;
use crate::error::{Error, Result};
use crate::file;
use crate::hub::Hub;
use crate::object::keep;
use crate::time::Deadline;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// In whose name a record holds a file: no handle.
const HOLDER: i64 = -5;

/// Types by the end of a name; others are bytes.
const TYPES: [(&str, &str); 28] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/plain; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
];

fn type_of(name: &[u8]) -> &'static str {
    let end = name.rsplit(|&b| b == b'.').next().unwrap_or_default();
    TYPES.iter().find(|(e, _)| e.as_bytes().eq_ignore_ascii_case(end)).map_or("application/octet-stream", |(_, t)| t)
}

/// Whether a name stays in its folder and shows nothing that is hidden.
fn is_inside(name: &[u8]) -> bool {
    !name.contains(&0) && name.split(|&b| b == b'/').all(|part| !part.starts_with(b"."))
}

/// The part of `size` bytes that "bytes=..." asks for: where it begins and how long it is. `None` when
/// it is to be ignored, an error when there is no such part.
fn range(text: &[u8], size: u64) -> Option<std::result::Result<(u64, u64), ()>> {
    let one = text.strip_prefix(b"bytes=")?.trim_ascii();
    let dash = one.iter().position(|&b| b == b'-')?;
    let (from, to) = (&one[..dash], &one[dash + 1..]);
    let (begin, end) = match (field::number(from), field::number(to)) {
        (None, Some(last)) if from.is_empty() => (size.saturating_sub(last), if last == 0 { 0 } else { size }),
        (Some(begin), None) if to.is_empty() => (begin, size),
        (Some(begin), Some(last)) if begin <= last => (begin, size.min(last + 1)),
        _ => return None,
    };
    Some(if begin < end { Ok((begin, end - begin)) } else { Err(()) })
}

/// Whether one of the tags in `list` is `tag`, or it is "*".
fn names(list: &[u8], tag: &[u8]) -> bool {
    list == b"*" || field::parts(list).any(|one| one.strip_prefix(b"W/").unwrap_or(one) == tag)
}

/// A file and what one says of it.
struct Found {
    fd: i32,
    size: u64,
    tag: String,
    changed: date::Text,
    changed_at: i64,
}

impl Exchange {
    /// Answers with the file `name` in `folder`; a folder's is its index.html.
    pub fn serve_folder(&self, hub: &Hub, folder: &[u8], name: &[u8], deadline: Deadline) -> Result<()> {
        let name = name.strip_prefix(b"/").unwrap_or(name);
        if !is_inside(name) {
            return self.say(hub, 404, deadline);
        }
        let mut path = [folder, b"/", name].concat();
        if path.ends_with(b"/") {
            path.extend_from_slice(b"index.html");
        }
        self.serve_file(hub, &path, deadline)
    }

    /// Answers with the file `path`.
    pub fn serve_file(&self, hub: &Hub, path: &[u8], deadline: Deadline) -> Result<()> {
        let this = keep(self);
        if !matches!(this.head().method(), b"GET" | b"HEAD") {
            this.response.add(b"Allow", b"GET, HEAD")?;
            return this.say(hub, 405, deadline);
        }
        let count = this.count.get();
        let opened = this.find(hub, path, deadline);
        if this.count.get() != count {
            hub.forget_on_end(hub.current(), HOLDER);
            return Err(Error::BADF); // its handler has returned meanwhile, and this is another request
        }
        let done = match opened {
            Ok(Some(found)) => this.serve_found(hub, path, &found, deadline),
            Ok(None) => this.say(hub, 404, deadline),
            Err(e) => match -e.code() {
                libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::EINVAL | libc::ELOOP => {
                    this.say(hub, 404, deadline)
                }
                libc::EACCES => this.say(hub, 403, deadline),
                _ => Err(e),
            },
        };
        hub.forget_on_end(hub.current(), HOLDER); // and that closes the file
        done
    }

    /// An answer that is only its status.
    fn say(&self, hub: &Hub, status: u16, deadline: Deadline) -> Result<()> {
        let text = super::status::phrase(status);
        self.reply(hub, status, Some(b"text/plain"), text.as_bytes(), deadline)
    }

    /// The file, which the record of this greenlet holds; `None` if it is something else than a file.
    fn find(&self, hub: &Hub, path: &[u8], deadline: Deadline) -> Result<Option<Found>> {
        let path = CString::new(path).map_err(|_| Error::INVAL)?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK; // a pipe must not hold us up
        let fd = file::open(hub, path, flags, 0, deadline)?;
        // SAFETY: just opened, and nobody else's.
        let held = unsafe { OwnedFd::from_raw_fd(fd) };
        let fd = held.as_raw_fd();
        hub.on_end(hub.current(), HOLDER, move |_| drop(held));
        let about = file::status_of(hub, fd, deadline)?;
        if about.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(None);
        }
        let size = about.st_size as u64;
        let tag = format!("\"{:x}-{:x}-{size:x}\"", about.st_mtime, about.st_mtime_nsec);
        Ok(Some(Found { fd, size, tag, changed: date::format(about.st_mtime), changed_at: about.st_mtime }))
    }

    fn serve_found(&self, hub: &Hub, path: &[u8], found: &Found, deadline: Deadline) -> Result<()> {
        let (head, response) = (self.head(), &self.response);
        response.add(b"ETag", found.tag.as_bytes())?;
        response.add(b"Last-Modified", &found.changed)?;
        if self.has_it(found) {
            return self.answer(hub, found, 304, (0, 0), deadline);
        }
        response.add(b"Accept-Ranges", b"bytes")?;
        response.add(b"Content-Type", type_of(path).as_bytes())?;
        let asked = head.get(b"range").filter(|_| head.method() == b"GET" && self.is_the_same(found));
        match asked.and_then(|text| range(text, found.size)) {
            None => self.answer(hub, found, 200, (0, found.size), deadline),
            Some(Ok((from, len))) => {
                let says = format!("bytes {from}-{}/{}", from + len - 1, found.size);
                response.add(b"Content-Range", says.as_bytes())?;
                self.answer(hub, found, 206, (from, len), deadline)
            }
            Some(Err(())) => {
                response.add(b"Content-Range", format!("bytes */{}", found.size).as_bytes())?;
                self.answer(hub, found, 416, (0, 0), deadline)
            }
        }
    }

    /// Whether the client says that it has this file already.
    fn has_it(&self, found: &Found) -> bool {
        let head = self.head();
        match (head.get(b"if-none-match"), head.get(b"if-modified-since").and_then(date::parse)) {
            (Some(list), _) => names(list, found.tag.as_bytes()),
            (None, Some(since)) => found.changed_at <= since,
            (None, None) => false,
        }
    }

    /// Whether a part fits to what the client has, as far as it says what that is.
    fn is_the_same(&self, found: &Found) -> bool {
        let is = |what: &[u8]| what == found.tag.as_bytes() || what == found.changed;
        self.head().get(b"if-range").is_none_or(is)
    }

    fn answer(&self, hub: &Hub, found: &Found, status: u16, (from, len): (u64, u64), deadline: Deadline) -> Result<()> {
        self.response.begin(&self.context(), status, None, if status == 304 { None } else { Some(len) })?;
        self.send_file(hub, found.fd, from as i64, len, deadline).1?;
        self.end(hub, deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_the_file_or_none() {
        for (text, part) in [
            ("bytes=0-0", (0, 1)),
            ("bytes=0-", (0, 10)),
            ("bytes=3-5", (3, 3)),
            ("bytes=9-99", (9, 1)),
            ("bytes=-3", (7, 3)),
            ("bytes=-99", (0, 10)),
            ("bytes= 1-2 ", (1, 2)),
            ("bytes=0-999999999999999999", (0, 10)),
        ] {
            assert_eq!(range(text.as_bytes(), 10), Some(Ok(part)), "{text}");
        }
        for text in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(range(text.as_bytes(), 10), Some(Err(())), "{text}");
        }
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=+1-2",
            "bytes=1--2",
        ] {
            assert_eq!(range(text.as_bytes(), 10), None, "{text}");
        }
        assert_eq!(range(b"bytes=0-", 0), Some(Err(())));
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        for list in ["*", "\"a\"", "W/\"a\"", "\"b\", \"a\"", "\"b\",W/\"a\" , \"c\""] {
            assert!(names(list.as_bytes(), b"\"a\""), "{list}");
        }
        for list in ["", "a", "\"b\"", "\"a", "w/\"a\""] {
            assert!(!names(list.as_bytes(), b"\"a\""), "{list}");
        }
    }

    #[test]
    fn nothing_outside_or_hidden_is_served() {
        for name in ["", "a", "a/b.c", "a/", "a..b", "a./b"] {
            assert!(is_inside(name.as_bytes()), "{name}");
        }
        for name in ["..", "../a", "a/..", "a/../b", ".a", "a/.b", ".", "a/./b", "a\0b"] {
            assert!(!is_inside(name.as_bytes()), "{name}");
        }
        assert_eq!(
            (type_of(b"a/b.HTML"), type_of(b"a.b/c"), type_of(b"x.tar.gz")),
            (TYPES[0].1, "application/octet-stream", "application/gzip")
        );
    }
}
