//! TLS.
//!
//! A config says what one side knows: its certificate, whom it trusts. weald_tls_connect or
//! weald_tls_accept shakes hands over a stream, which then is read and written as before, encrypted.
//! TLS 1.3 and 1.2 are spoken; older versions, and ciphers that are known to be weak, are not there.
//!
//! When a call fails because of TLS, weald_error_message(weald_self()) says in a sentence what was
//! wrong and what to do. The end of a stream is 0 only if the other side has said that it ends
//! (close_notify): without that it is WEALD_ECONNABORTED, since anybody on the way can cut a
//! connection. weald_stream_end says it for this side, and so does weald_close when all has been
//! flushed.
//!
//! A session belongs to the process that has shaken hands: fork first, and shake hands in the child.
//!
//! What the code of TLS itself needs of memory, some kilobytes for a handshake, it must get: without
//! that the process ends. A handshake takes up to 24 KiB of its greenlet's stack.
//!
//! A library that was built without TLS has these functions all the same; those that make a config
//! fail there, with ENOSYS.

#![allow(non_camel_case_types)]

use super::stream::weald_stream;
use super::{fence, fence_any, options, text, wanted};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object;
use crate::registry;
use crate::stream::Stream;
use crate::time::Deadline;
use crate::tls::config::Config;
use crate::tls::{Failure, How, Peer, Side};
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

/// A handle to what one side of TLS knows, for any number of streams in any thread.
pub type weald_tls_config = i64;

/// A server asks for a client's certificate, and does without. Those of `roots` may have signed it.
pub const WEALD_TLS_PEER_OPTIONAL: c_int = 1;
/// A server refuses clients that show no certificate.
pub const WEALD_TLS_PEER_REQUIRED: c_int = 2;
/// A client takes every server, whoever it is: an attacker too. For tests.
pub const WEALD_TLS_INSECURE: c_int = 4;
/// No tickets: each connection is a whole handshake.
pub const WEALD_TLS_NO_TICKETS: c_int = 8;
/// No version below 1.3.
pub const WEALD_TLS_ONLY_1_3: c_int = 16;

/// What one side knows; begin with `{.size = sizeof options}`. A text that has "-----BEGIN" in it is
/// PEM itself; any other is the name of a file with PEM.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_tls_options {
    pub size: usize,
    /// WEALD_TLS_PEER_OPTIONAL and the others.
    pub flags: c_int,
    /// One's own certificate, first, and those that vouch for it. A server must have one.
    pub certificate: *const c_char,
    /// Its private key, not encrypted. NULL: it is where the certificate is.
    pub key: *const c_char,
    /// Certificates of those whom one trusts. NULL: the system's, also from SSL_CERT_FILE and
    /// SSL_CERT_DIR. A server needs them for WEALD_TLS_PEER_ flags alone.
    pub roots: *const c_char,
    /// Protocols (ALPN), the best one first, with commas: "h2,http/1.1". NULL: none. A server
    /// refuses who offers some and none of these.
    pub alpn: *const c_char,
}

impl Default for weald_tls_options {
    fn default() -> Self {
        let none = std::ptr::null();
        weald_tls_options { size: 0, flags: 0, certificate: none, key: none, roots: none, alpn: none }
    }
}

fn owned(at: *const c_char) -> Result<Option<String>> {
    // SAFETY: NULL or NUL-terminated, by the caller.
    Ok(unsafe { text(at) }?.map(Into::into))
}

fn protocols(names: Option<String>) -> Result<Vec<Vec<u8>>> {
    let Some(names) = names else { return Ok(Vec::new()) };
    let fits = |name: &str| (1..=255).contains(&name.len());
    names.split(',').map(|name| if fits(name) { Ok(name.into()) } else { Err(Error::INVAL) }).collect()
}

/// Leaves the sentence where weald_error_message finds it, if this thread has or can have a hub.
fn explained(failure: Failure) -> Error {
    Hub::get().map_or(failure.error, |hub| hub.explain(&failure))
}

fn create(side: Side, given: *const weald_tls_options) -> Result<i64> {
    // SAFETY: NULL or a struct as large as it says, by the caller.
    let given: weald_tls_options = unsafe { options(given) }?;
    let has = |flag| given.flags & flag != 0;
    let of_side = match side {
        Side::Client => WEALD_TLS_INSECURE,
        Side::Server => WEALD_TLS_PEER_OPTIONAL | WEALD_TLS_PEER_REQUIRED,
    };
    if given.flags & !(of_side | WEALD_TLS_NO_TICKETS | WEALD_TLS_ONLY_1_3) != 0 {
        return Err(Error::INVAL);
    }
    let how = How {
        certificate: owned(given.certificate)?,
        key: owned(given.key)?,
        roots: owned(given.roots)?,
        alpn: protocols(owned(given.alpn)?)?,
        peer: match () {
            () if has(WEALD_TLS_INSECURE) => Peer::Unchecked,
            () if has(WEALD_TLS_PEER_REQUIRED) => Peer::Required,
            () if has(WEALD_TLS_PEER_OPTIONAL) => Peer::Optional,
            () => Peer::Usual,
        },
        tickets: !has(WEALD_TLS_NO_TICKETS),
        only_13: has(WEALD_TLS_ONLY_1_3),
    };
    Config::create(side, how).map_err(explained)
}

/// Makes what a client knows: `how` NULL: the system's roots. Reads files. From any thread; does not
/// switch. Fails with WEALD_EINVAL (`size`; other flags, a server's among them; what is no PEM, or
/// not what it should be; a key that does not belong to its certificate; `alpn`), WEALD_ENOENT (no
/// such file; the system has no roots) or another code with which a file can not be read. The
/// message says which.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tls_client(how: *const weald_tls_options) -> weald_tls_config {
    fence_any(|| create(Side::Client, how))
}

/// Makes what a server knows; it must have a certificate. Reads files. From any thread; does not
/// switch. Fails with WEALD_EINVAL (`size`; other flags, a client's among them; no certificate; what
/// is no PEM, or not what it should be; a key that does not belong to its certificate; `alpn`),
/// WEALD_ENOENT (no such file) or another code with which a file can not be read. The message says
/// which.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tls_server(how: *const weald_tls_options) -> weald_tls_config {
    fence_any(|| create(Side::Server, how))
}

/// A config of that side. EBADF, EINVAL.
pub(super) fn config_of(handle: i64, side: Side) -> Result<Arc<Config>> {
    let config = registry::shared::<Config>(handle)?;
    if config.side == side { Ok(config) } else { Err(Error::INVAL) }
}

/// Gives a server one certificate more, for clients that ask for a name that is in it (SNI). Who asks
/// for a name that is in none, or for none, is shown the first. Texts as in the options; `key` NULL:
/// it is where the certificate is. For handshakes from then on. Reads files. From any thread; does
/// not switch. Returns 0. Fails with WEALD_EBADF, WEALD_EINVAL (a client's config; `certificate`
/// NULL; what is no PEM, or not what it should be; a key that does not belong to it), WEALD_ENOENT
/// (no such file) or another code with which a file can not be read; then nothing has changed.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tls_add_certificate(
    config: weald_tls_config,
    certificate: *const c_char,
    key: *const c_char,
) -> c_int {
    fence_any(|| {
        let config = registry::shared::<Config>(config)?;
        let certificate = owned(certificate)?.ok_or(Error::INVAL)?;
        config.add(&certificate, owned(key)?.as_deref()).map_err(explained)
    }) as c_int
}

/// Reads all files of a config again: certificates and keys that were renewed, roots. Handshakes
/// from then on use what is there now; whoever is connected stays so. From any thread; does not
/// switch. Returns 0. Fails with WEALD_EBADF, WEALD_EINVAL (what is no PEM, or not what it should be;
/// a key that does not belong to its certificate), WEALD_ENOENT (no such file) or another code with
/// which a file can not be read; then all is as it was.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tls_reload(config: weald_tls_config) -> c_int {
    fence_any(|| registry::shared::<Config>(config)?.reload().map_err(explained)) as c_int
}

/// Shakes hands over `s` as the client of the server `name`, which its certificate must be for: a
/// host's name or an address. From then on `s` is encrypted. What has been gathered before goes
/// first, as it is (STARTTLS). A handshake that a deadline or a kill has cut short goes on with
/// another call, or with the first that reads or flushes. May switch. Returns 0. Fails with
/// WEALD_ECERTIFICATE (the server's certificate was not accepted), WEALD_EPROTO (what came is not
/// TLS, or there is nothing in common, or the server has given up), WEALD_ECONNABORTED (it has hung
/// up), WEALD_EBADF (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (`name` NULL or
/// none; a server's config), WEALD_EALREADY (`s` is encrypted), WEALD_EPERM (also in a forked child of
/// whoever began), WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK,
/// WEALD_EDEADLK (in a child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_EPIPE,
/// WEALD_ECONNRESET. After the first three, and the last two, close it.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tls_connect(
    s: weald_stream,
    config: weald_tls_config,
    name: *const c_char,
    deadline: i64,
) -> c_int {
    fence(|hub| {
        let stream = object::get::<Stream>(hub, s)?;
        let config = config_of(config, Side::Client)?;
        // SAFETY: NULL or NUL-terminated, by the caller.
        let name = unsafe { text(name) }?.ok_or(Error::INVAL)?;
        stream.secure(hub, &config, Some(name), Deadline::from_raw(deadline))
    })
}

/// As weald_tls_connect, as the server. May switch. Returns 0. Fails with WEALD_ECERTIFICATE (the
/// client's certificate was not accepted, or it has none), WEALD_EPROTO (what came is not TLS, or
/// there is nothing in common, or the client has given up), WEALD_ECONNABORTED (it has hung up),
/// WEALD_EBADF (also when it or its descriptor is closed meanwhile), WEALD_EINVAL (a client's config),
/// WEALD_EALREADY (`s` is encrypted), WEALD_EPERM (also in a forked child of whoever began),
/// WEALD_EBUSY, WEALD_EAGAIN, WEALD_ETIMEDOUT, WEALD_ECANCELED, WEALD_EWOULDBLOCK, WEALD_EDEADLK (in a
/// child that a callback has forked meanwhile), WEALD_ENOMEM, WEALD_EPIPE, WEALD_ECONNRESET. After the
/// first three, and the last two, close it.
#[unsafe(no_mangle)]
pub extern "C" fn weald_tls_accept(s: weald_stream, config: weald_tls_config, deadline: i64) -> c_int {
    fence(|hub| {
        let stream = object::get::<Stream>(hub, s)?;
        stream.secure(hub, &*config_of(config, Side::Server)?, None, Deadline::from_raw(deadline))
    })
}

/// What a handshake has come to; begin with `{.size = sizeof info}`. The pointers are good until the
/// stream is closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct weald_tls_info {
    pub size: usize,
    /// Whether it went on with an earlier session.
    pub resumed: c_int,
    /// "TLSv1.3", "TLSv1.2".
    pub protocol: *const c_char,
    /// "TLS_AES_128_GCM_SHA256".
    pub cipher: *const c_char,
    /// The protocol that was chosen (ALPN), no NUL behind it.
    pub alpn: *const c_char,
    pub alpn_len: usize,
    /// Of a server: the name that the client has asked for (SNI), no NUL behind it.
    pub server_name: *const c_char,
    pub server_name_len: usize,
    /// The other side's certificate, as DER.
    pub certificate: *const c_void,
    pub certificate_len: usize,
}

/// Fills in `info`, as far as its `size` goes; what there is not is NULL and 0. Does not switch.
/// Returns 0. Fails with WEALD_EBADF, WEALD_EPERM, WEALD_EINVAL (`info` NULL, `size`; a stream without
/// TLS), WEALD_EAGAIN (the handshake has not ended).
#[unsafe(no_mangle)]
pub extern "C" fn weald_tls_info_get(s: weald_stream, info: *mut weald_tls_info) -> c_int {
    fence(|hub| {
        wanted(info)?;
        // SAFETY: not NULL; begins with its size.
        let size = unsafe { info.cast::<usize>().read() };
        if size < size_of::<usize>() || size % align_of::<usize>() != 0 || size > 4096 {
            return Err(Error::INVAL);
        }
        let about = object::get::<Stream>(hub, s)?.about_tls(hub)?;
        let at = |bytes: &[u8]| if bytes.is_empty() { std::ptr::null() } else { bytes.as_ptr() };
        let filled = weald_tls_info {
            size,
            resumed: c_int::from(about.is_resumed),
            protocol: about.protocol.as_ptr(),
            cipher: about.cipher.as_ptr(),
            alpn: at(about.alpn).cast(),
            alpn_len: about.alpn.len(),
            server_name: at(about.server_name).cast(),
            server_name_len: about.server_name.len(),
            certificate: at(about.certificate).cast(),
            certificate_len: about.certificate.len(),
        };
        let known = size.min(size_of::<weald_tls_info>());
        // SAFETY: the caller's, as large as it says.
        unsafe { std::ptr::copy_nonoverlapping((&raw const filled).cast::<u8>(), info.cast::<u8>(), known) };
        Ok(())
    })
}
