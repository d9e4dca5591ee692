//! TLS on a stream, by rustls.
//!
//! ```text
//! config       what both ends agree to: certificates, roots, versions; any thread, any number of streams
//!    |
//! session      one connection: records in, plain bytes out, and the other way round; does no I/O
//!    |
//! stream       moves the records, and waits
//! ```
//! Without the cargo feature `tls` the same things are there and fail with ENOSYS.

#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
pub mod config;
#[cfg(feature = "tls")]
mod failure;
#[cfg(feature = "tls")]
pub mod session;

#[cfg(not(feature = "tls"))]
#[path = "without.rs"]
pub mod config;
#[cfg(not(feature = "tls"))]
pub use config as session;

use crate::error::Error;

/// What went wrong: a code, and a sentence for whoever has to do something about it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub error: Error,
    pub text: String,
}

impl Failure {
    pub fn new(error: Error, text: impl Into<String>) -> Failure {
        Failure { error, text: text.into() }
    }
}

/// Who begins the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Client,
    Server,
}

/// How a config is made. Texts are a file's name or, with "-----BEGIN" in them, PEM themselves.
#[derive(Clone, Default)]
pub struct How {
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub roots: Option<String>,
    /// In the order of preference.
    pub alpn: Vec<Vec<u8>>,
    /// Whose certificate is wanted: the other side's, by a server. A client always wants it.
    pub peer: Peer,
    pub tickets: bool,
    pub only_13: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Peer {
    #[default]
    Usual,
    Optional,
    Required,
    /// A client takes whoever is there.
    Unchecked,
}

/// What a handshake has come to.
pub struct About<'a> {
    pub protocol: &'static std::ffi::CStr,
    pub cipher: &'static std::ffi::CStr,
    pub alpn: &'a [u8],
    pub server_name: &'a [u8],
    /// The other side's own certificate.
    pub certificate: &'a [u8],
    pub is_resumed: bool,
}
