//! Certificates and keys: read from PEM, and the right one found for a client.

use super::Failure;
use crate::error::Error;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::cell::RefCell;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Failure>;

/// The text itself when it is PEM, else what the file of that name has; and what to call it.
fn pem(text: &str) -> Result<(Vec<u8>, String)> {
    if text.contains("-----BEGIN") {
        return Ok((text.as_bytes().to_vec(), "the PEM text".into()));
    }
    match std::fs::read(text) {
        Ok(bytes) => Ok((bytes, text.into())),
        Err(e) => {
            let why = format!("can not read {text}: {e}");
            Err(Failure::new(e.into(), why))
        }
    }
}

fn invalid(text: String) -> Failure {
    Failure::new(Error::INVAL, text)
}

fn certificates(text: &str) -> Result<(Vec<CertificateDer<'static>>, String)> {
    let (bytes, name) = pem(text)?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<std::result::Result<Vec<_>, _>>();
    let all = all.map_err(|e| invalid(format!("{name} is not PEM: {e}")))?;
    if all.is_empty() {
        return Err(invalid(format!("there is no certificate in {name}")));
    }
    Ok((all, name))
}

/// A certificate, with those that vouch for it behind it, and its key. `key` `None`: in the same file.
pub fn load(provider: &CryptoProvider, certificate: &str, key: Option<&str>) -> Result<Arc<CertifiedKey>> {
    let (chain, name) = certificates(certificate)?;
    let (bytes, key_name) = pem(key.unwrap_or(certificate))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| invalid(format!("there is no private key in {key_name} (an encrypted one can not be read)")))?;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(both) => Ok(Arc::new(both)),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(invalid(format!("the key in {key_name} is not that of the first certificate in {name}")))
        }
        Err(e) => Err(invalid(format!("{name} and {key_name} can not be used: {e}"))),
    }
}

/// Whom we trust: those of a file, or the system's.
pub fn roots(text: Option<&str>) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    let Some(text) = text else {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            let text = "the system has no root certificates: install ca-certificates, or give roots";
            return Err(Failure::new(Error::NOENT, text));
        }
        return Ok(Arc::new(store));
    };
    let (all, name) = certificates(text)?;
    for one in all {
        store.add(one).map_err(|e| invalid(format!("a root certificate of {name} can not be used: {e}")))?;
    }
    Ok(Arc::new(store))
}

/// A server's certificates: the first that is for the name that the client asks for, else the first.
#[derive(Debug)]
pub struct Certificates(pub Vec<Arc<CertifiedKey>>);

thread_local! {
    /// The name that the last client to be answered has asked for; rustls does not tell.
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The name that was asked for in the handshake message that has just been processed.
pub fn asked() -> Option<Box<str>> {
    ASKED.take()
}

fn is_for(one: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = one.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(hello.server_name().map(Into::into));
        if let [one] = &self.0[..] {
            return Some(one.clone());
        }
        let fits = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let by_name = name.and_then(|name| self.0.iter().filter(fits).find(|one| is_for(one, &name)));
        by_name.or_else(|| self.0.iter().find(fits)).cloned()
    }
}
