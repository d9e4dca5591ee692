//! What streams need to know for TLS: certificates, whom to trust, which versions.
//!
//! A config is for any number of streams, in any thread. `reload` reads its files again:
//! handshakes from then on use what is there now, and whoever is connected stays so.

use super::certificate::{self, Certificates};
use super::{Failure, How, Peer, Side};
use crate::error::Error;
use crate::fork::Section;
use crate::handle::{Kind, Object};
use crate::registry::{self, SharedObject};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, SupportedProtocolVersion, version};
use std::sync::{Arc, Mutex, OnceLock};

type Result<T> = std::result::Result<T, Failure>;

#[derive(Clone)]
pub enum Made {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

struct State {
    how: How,
    /// More certificates of a server, for other names.
    more: Vec<(String, Option<String>)>,
    /// What tickets are sealed with.
    tickets: Option<Arc<dyn ProducesTickets>>,
    made: Made,
}

pub struct Config {
    pub side: Side,
    state: Mutex<State>,
}

// SAFETY: `close` drops the Arc that `registry::share` stored.
unsafe impl Object for Config {
    const KIND: Kind = Kind::TlsConfig;
    unsafe fn close(this: *const Self) {
        // SAFETY: stored by `registry::share`.
        drop(unsafe { Arc::from_raw(this) });
    }
}
// SAFETY: as above.
unsafe impl SharedObject for Config {}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider()))
}

fn versions(how: &How) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    if how.only_13 { &BOTH[..1] } else { BOTH }
}

fn other(e: impl std::fmt::Display) -> Failure {
    Failure::new(Error::INVAL, e.to_string())
}

impl Config {
    /// A handle to a new one.
    pub fn create(side: Side, how: How) -> Result<i64> {
        let tickets = match side {
            Side::Server if how.tickets => Some(ring::Ticketer::new().map_err(other)?),
            _ => None,
        };
        let made = make(side, &how, &[], tickets.as_ref())?;
        let state = Mutex::new(State { how, more: Vec::new(), tickets, made });
        let config = Arc::new(Config { side, state });
        registry::share(config).map_err(|e| Failure::new(e, "no room for another handle"))
    }

    /// Changes it by `change`, or fails and leaves it as it was.
    fn change(&self, change: impl FnOnce(&mut Vec<(String, Option<String>)>)) -> Result<()> {
        let (how, mut more, mut tickets) = {
            let _section = Section::enter();
            let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
            (state.how.clone(), state.more.clone(), state.tickets.clone())
        };
        change(&mut more);
        // Who was accepted before, and is not any more, must not come back with a ticket.
        if tickets.is_some() && how.peer != Peer::Usual {
            tickets = Some(ring::Ticketer::new().map_err(other)?);
        }
        // Files are read with no lock held.
        let made = make(self.side, &how, &more, tickets.as_ref())?;
        let _section = Section::enter();
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        (state.more, state.tickets, state.made) = (more, tickets, made);
        Ok(())
    }

    /// Reads its files again.
    pub fn reload(&self) -> Result<()> {
        self.change(|_| ())
    }

    /// Another certificate of a server, for clients that ask for one of its names.
    pub fn add(&self, certificate: &str, key: Option<&str>) -> Result<()> {
        if self.side == Side::Client {
            return Err(Failure::new(Error::INVAL, "a client has one certificate, if any"));
        }
        self.change(|more| more.push((certificate.into(), key.map(Into::into))))
    }

    pub fn made(&self) -> Made {
        let _section = Section::enter();
        self.state.lock().unwrap_or_else(|e| e.into_inner()).made.clone()
    }
}

fn make(
    side: Side,
    how: &How,
    more: &[(String, Option<String>)],
    tickets: Option<&Arc<dyn ProducesTickets>>,
) -> Result<Made> {
    match side {
        Side::Client => client(how).map(|config| Made::Client(Arc::new(config))),
        Side::Server => server(how, more, tickets).map(|config| Made::Server(Arc::new(config))),
    }
}

fn client(how: &How) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider().clone());
    let builder = builder.with_protocol_versions(versions(how)).map_err(other)?;
    let builder = if how.peer == Peer::Unchecked {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody))
    } else {
        builder.with_root_certificates(certificate::roots(how.roots.as_deref())?)
    };
    let mut config = match &how.certificate {
        Some(text) => {
            let own = certificate::load(provider(), text, how.key.as_deref())?;
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols.clone_from(&how.alpn);
    if !how.tickets {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

fn server(
    how: &How,
    more: &[(String, Option<String>)],
    tickets: Option<&Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig> {
    let Some(first) = &how.certificate else {
        return Err(Failure::new(Error::INVAL, "a server needs a certificate and its key"));
    };
    let mut all = vec![certificate::load(provider(), first, how.key.as_deref())?];
    for (text, key) in more {
        all.push(certificate::load(provider(), text, key.as_deref())?);
    }
    let builder = ServerConfig::builder_with_provider(provider().clone());
    let builder = builder.with_protocol_versions(versions(how)).map_err(other)?;
    let builder = if matches!(how.peer, Peer::Optional | Peer::Required) {
        let roots = certificate::roots(how.roots.as_deref())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider().clone());
        let verifier = if how.peer == Peer::Optional { verifier.allow_unauthenticated() } else { verifier };
        builder.with_client_cert_verifier(verifier.build().map_err(other)?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(all)));
    config.alpn_protocols.clone_from(&how.alpn);
    // Sealed in the ticket that the client keeps, a session costs no memory here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match tickets {
        Some(tickets) => config.ticketer = tickets.clone(),
        None => config.send_tls13_tickets = 0,
    }
    Ok(config)
}

/// Takes every certificate, as long as its owner has the key to it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
