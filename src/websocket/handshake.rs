//! From HTTP to WebSocket: a server's answer to a request, a client's request and what it makes of the answer.

use super::connection::{Limits, MESSAGE, UNSENT, WebSocket};
use super::deflate::Agreed;
use super::frame::new_mask;
use crate::error::{Error, Result};
use crate::http::exchange::Exchange;
use crate::http::field::{is_token, is_value, parts};
use crate::hub::Hub;
use crate::net::dial;
use crate::object::{self, keep};
use crate::rw;
use crate::stream::Stream;
use crate::time::Deadline;
use crate::tls::Failure;
use crate::tls::config::Config;
use std::ffi::CString;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

/// What a server puts behind the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The answer's head has no more.
const HEAD: usize = 16 << 10;

#[derive(Clone, Default)]
pub struct How {
    pub deflate: bool,
    /// Each compressed message by itself.
    pub forgets: bool,
    pub limits: Limits,
    /// Subprotocols, of a server the best first.
    pub protocols: Vec<String>,
    /// A server's: whose pages may connect; none: all.
    pub origins: Vec<String>,
    /// A client's: lines of the request, each with its end.
    pub headers: String,
    pub tls: Option<Arc<Config>>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { message: MESSAGE, unsent: UNSENT }
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let n = three.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        let digit = |i: usize| LETTERS[(n >> (18 - 6 * i)) as usize % 64] as char;
        (0..4).for_each(|i| out.push(if i <= three.len() { digit(i) } else { '=' }));
    }
    out
}

/// What a server answers to `key`.
fn accepted(key: &[u8]) -> String {
    let mut sha = sha1_smol::Sha1::new();
    sha.update(key);
    sha.update(GUID);
    base64(&sha.digest().bytes())
}

/// Sixteen bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(letter)
}

fn has(list: Option<&[u8]>, word: &str) -> bool {
    list.is_some_and(|list| parts(list).any(|part| part.eq_ignore_ascii_case(word.as_bytes())))
}

fn text(value: Option<&[u8]>) -> &str {
    value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// All headers of that name, as one list.
fn joined(exchange: &Exchange, name: &[u8]) -> String {
    let all = exchange.head().fields().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    all.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>().join(",")
}

/// Makes a request one, as its server; a handle. EPROTO when it does not ask for that, EACCES when its
/// page may not: it has been answered so then.
pub fn accept(hub: &Hub, exchange: &Exchange, how: &How, deadline: Deadline) -> Result<i64> {
    let exchange = keep(exchange);
    if !exchange.stream.has_fd() {
        return Err(Error::INVAL);
    }
    let head = exchange.head();
    let get = |name: &str| head.get(name.as_bytes());
    let refuse = |status, why: &str, error| {
        exchange.reply(hub, status, Some(b"text/plain"), why.as_bytes(), deadline)?;
        Err(error)
    };
    if head.method() != b"GET" || !has(get("connection"), "upgrade") || !has(get("upgrade"), "websocket") {
        exchange.response.add(b"Upgrade", b"websocket")?;
        return refuse(426, "This is for WebSocket.\n", Error::PROTO);
    }
    if get("sec-websocket-version") != Some(b"13") {
        exchange.response.add(b"Sec-WebSocket-Version", b"13")?;
        return refuse(426, "Another version of WebSocket is needed.\n", Error::PROTO);
    }
    let Some(key) = get("sec-websocket-key").filter(|key| is_key(key)) else {
        return refuse(400, "This is no key.\n", Error::PROTO);
    };
    let origin = text(get("origin"));
    if !how.origins.is_empty() && !how.origins.iter().any(|one| one.eq_ignore_ascii_case(origin)) {
        return refuse(403, "Not from that page.\n", Error::ACCES);
    }
    let add = |name: &[u8], value: &str| exchange.response.add(name, value.as_bytes());
    add(b"Sec-WebSocket-Accept", &accepted(key))?;
    let offered = joined(&exchange, b"sec-websocket-protocol");
    let protocol = how.protocols.iter().find(|ours| offered.split(',').any(|theirs| theirs.trim() == *ours));
    if let Some(protocol) = protocol {
        add(b"Sec-WebSocket-Protocol", protocol)?;
    }
    let offers = joined(&exchange, b"sec-websocket-extensions");
    let agreed = if how.deflate { Agreed::choose(&offers, how.forgets) } else { None };
    if let Some((_, answer)) = &agreed {
        add(b"Sec-WebSocket-Extensions", answer)?;
    }
    let protocol = protocol.and_then(|p| CString::new(p.as_str()).ok());
    let stream = exchange.stream.clone();
    let agreed = agreed.map(|(agreed, _)| agreed);
    let handle = WebSocket::create(hub, stream, 0, true, how.limits, agreed, protocol)?;
    exchange.upgrade(hub, b"websocket", deadline).map(|_| handle).inspect_err(|_| {
        let _ = hub.table.remove(handle).map(|closer| closer.close());
    })
}

/// The parts of "ws://host:port/path".
struct Url<'a> {
    is_secure: bool,
    host: &'a str,
    /// As the request names it, and as it is dialled.
    authority: &'a str,
    address: String,
    path: String,
}

fn parse(url: &str) -> Option<Url<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let is_secure = match scheme {
        "ws" => false,
        "wss" => true,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.contains('#')
        || authority.is_empty()
        || authority.contains('@')
        || !url.bytes().all(|b| b.is_ascii_graphic())
    {
        return None;
    }
    let has_port = authority.rfind(':').is_some_and(|at| !authority[at..].contains(']'));
    let port = if is_secure { 443 } else { 80 };
    let address = if has_port { authority.to_string() } else { format!("{authority}:{port}") };
    let host = if has_port { authority.rsplit_once(':')?.0 } else { authority };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    Some(Url { is_secure, host, authority, address, path })
}

/// Whether what goes into the request leaves it a request.
fn is_sound(how: &How) -> bool {
    let line = |line: &str| {
        line.split_once(':').is_some_and(|(name, value)| is_token(name.as_bytes()) && is_value(value.as_bytes()))
    };
    how.protocols.iter().all(|p| is_token(p.as_bytes()))
        && (how.headers.is_empty() || how.headers.ends_with("\r\n"))
        && how.headers.split_terminator("\r\n").all(line)
}

/// Connects to `url`; a handle. EINVAL; EPROTO when the server does not agree.
pub fn connect(hub: &Hub, url: &str, how: &How, deadline: Deadline) -> Result<i64> {
    let url = parse(url).filter(|_| is_sound(how)).ok_or(Error::INVAL)?;
    if url.is_secure && how.tls.is_none() {
        return Err(hub.explain(&Failure::new(Error::INVAL, "wss: needs a config of TLS")));
    }
    let fd = dial::dial(hub, &url.address, libc::SOCK_STREAM, deadline)?.into_raw_fd();
    let _ = crate::sys::descriptor::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1);
    let handle = Stream::create(hub, fd, true, 0, 0).inspect_err(|_| {
        let _ = rw::close(fd);
    })?;
    // In the hub's table, and closed with that if our stack is abandoned.
    let done = shake(hub, handle, &url, how, deadline);
    done.inspect_err(|_| {
        if let Ok(0) = hub.table.unref(handle) {
            let _ = hub.table.remove(handle).map(|closer| closer.close());
        }
    })
}

fn shake(hub: &Hub, handle: i64, url: &Url<'_>, how: &How, deadline: Deadline) -> Result<i64> {
    let stream = keep(object::get::<Stream>(hub, handle)?);
    if let Some(config) = how.tls.as_ref().filter(|_| url.is_secure) {
        stream.secure(hub, config, Some(url.host), deadline)?;
    }
    let key = base64(&[new_mask(), new_mask(), new_mask(), new_mask()].concat());
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\n",
        url.path, url.authority
    );
    if !how.protocols.is_empty() {
        request += &format!("Sec-WebSocket-Protocol: {}\r\n", how.protocols.join(", "));
    }
    if how.deflate {
        request += &format!("Sec-WebSocket-Extensions: {}\r\n", Agreed::offer(how.forgets));
    }
    request += &how.headers;
    request += "\r\n";
    let (_, sent) = stream.send(hub, request.as_bytes(), deadline);
    sent?;
    let refused = |why: String| Err(hub.explain(&Failure::new(Error::PROTO, why)));
    let answer = match stream.until(hub, b"\r\n\r\n", HEAD, deadline) {
        Ok(Some(answer)) => [answer, b"\r\n\r\n"].concat(),
        Ok(None) | Err(Error::PIPE) => return refused("the server has hung up instead of answering".into()),
        Err(Error::MSGSIZE) => return refused("the server's answer is too long".into()),
        Err(e) => return Err(e),
    };
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    if !matches!(parsed.parse(&answer), Ok(httparse::Status::Complete(_))) {
        return refused("the server's answer is not HTTP".into());
    }
    if parsed.code != Some(101) {
        return refused(format!("the server answers {} {}", parsed.code.unwrap_or(0), parsed.reason.unwrap_or("")));
    }
    let all = |name: &str| {
        let named = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        let values: Vec<&[u8]> = named.map(|field| field.value).collect();
        (!values.is_empty()).then(|| values.join(&b","[..]))
    };
    if !has(all("upgrade").as_deref(), "websocket") || !has(all("connection").as_deref(), "upgrade") {
        return refused("the server changes to another protocol".into());
    }
    if all("sec-websocket-accept").as_deref() != Some(accepted(key.as_bytes()).as_bytes()) {
        return refused("the server has not understood the key: it may be no WebSocket at all".into());
    }
    let protocol = all("sec-websocket-protocol").map(|p| String::from_utf8_lossy(&p).into_owned());
    if protocol.as_ref().is_some_and(|p| !how.protocols.contains(p)) {
        return refused("the server has chosen a protocol that was not offered".into());
    }
    let agreed = match all("sec-websocket-extensions") {
        None => None,
        Some(answer) => match Agreed::answered(&String::from_utf8_lossy(&answer), how.forgets) {
            Some(agreed) if how.deflate => Some(agreed),
            _ => return refused("the server has chosen an extension that was not offered".into()),
        },
    };
    let protocol = protocol.and_then(|p| CString::new(p).ok());
    WebSocket::create(hub, stream, handle, false, how.limits, agreed, protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        assert_eq!(accepted(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in [&b""[..], b"dGhlIHNhbXBsZSBub25jZQ=", b"dGhlIHNhbXBsZSBub25jZQ=!", b"dGhlIHNhbXBsZSBub25jZ==="] {
            assert!(!is_key(bad));
        }
        assert_eq!((base64(b""), base64(b"a"), base64(b"ab")), ("".into(), "YQ==".into(), "YWI=".into()));
    }

    #[test]
    fn an_url_is_taken_apart() {
        let of = |url| parse(url).map(|u| (u.is_secure, u.host.to_string(), u.address, u.path));
        let some =
            |secure, host: &str, address: &str, path: &str| Some((secure, host.into(), address.into(), path.into()));
        assert_eq!(of("ws://oak.test/chat?x=1"), some(false, "oak.test", "oak.test:80", "/chat?x=1"));
        assert_eq!(of("wss://oak.test:8443"), some(true, "oak.test", "oak.test:8443", "/"));
        assert_eq!(of("wss://[::1]?a"), some(true, "::1", "[::1]:443", "/?a"));
        assert_eq!(of("ws://[::1]:99/"), some(false, "::1", "[::1]:99", "/"));
        for bad in ["", "http://a/", "ws:/a", "ws:///a", "ws://a/#b", "ws://me@a/", "ws://a/ b", "ws://a/\r\n"] {
            assert!(of(bad).is_none(), "{bad}");
        }
    }
}
