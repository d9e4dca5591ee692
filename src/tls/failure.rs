//! What rustls says went wrong, for people: which check failed, and what to do.

use super::{Failure, Side};
use crate::error::Error;
use rustls::{AlertDescription, CertificateError, PeerIncompatible};

/// What ended a session of `side`.
pub fn explain(e: &rustls::Error, side: Side) -> Failure {
    use rustls::Error as Tls;
    let whose = if side == Side::Client { "server" } else { "client" };
    match e {
        Tls::InvalidCertificate(why) => Failure::new(Error::CERTIFICATE, certificate(why, whose)),
        Tls::NoCertificatesPresented => {
            Failure::new(Error::CERTIFICATE, format!("the {whose} has shown no certificate, and one is required"))
        }
        Tls::AlertReceived(alert) => Failure::new(Error::PROTO, alert_text(*alert, whose)),
        Tls::NoApplicationProtocol => {
            Failure::new(Error::PROTO, format!("no protocol (ALPN) that the {whose} offers is among ours"))
        }
        Tls::PeerIncompatible(why) => Failure::new(Error::PROTO, incompatible(why, whose)),
        Tls::InvalidMessage(why) => Failure::new(
            Error::PROTO,
            format!("what the {whose} has sent is not TLS, or broken ({why:?}): is it the right port?"),
        ),
        Tls::DecryptError => Failure::new(
            Error::PROTO,
            format!("a record of the {whose} can not be decrypted: it was changed on its way, or cut"),
        ),
        Tls::FailedToGetCurrentTime | Tls::FailedToGetRandomBytes => Failure::new(Error::AGAIN, e.to_string()),
        other => Failure::new(Error::PROTO, format!("the {whose} does not keep to TLS: {other}")),
    }
}

/// `DnsName("oak.example")` is what rustls has for a name.
fn names(presented: &[String]) -> String {
    let plain = |one: &String| one.split('"').nth(1).unwrap_or(one).to_string();
    presented.iter().map(plain).collect::<Vec<_>>().join(", ")
}

fn certificate(why: &CertificateError, whose: &str) -> String {
    use CertificateError as Why;
    let what = match why {
        Why::Expired | Why::ExpiredContext { .. } => "has expired: renew it, or set the clock",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "is not valid yet: is the clock right?",
        Why::Revoked => "has been revoked",
        Why::UnknownIssuer => {
            "is signed by nobody we trust: add its authority to `roots`, or have the other side send its whole chain"
        }
        Why::BadSignature => "has a wrong signature",
        Why::NotValidForName => "is for another name",
        Why::NotValidForNameContext { expected, presented } => {
            return format!(
                "the {whose}'s certificate is for another name: not for {}, but for {}",
                expected.to_str(),
                if presented.is_empty() { "none".into() } else { names(presented) }
            );
        }
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => "is not for this purpose (extended key usage)",
        other => return format!("the {whose}'s certificate was not accepted: {other}"),
    };
    format!("the {whose}'s certificate {what}")
}

fn incompatible(why: &PeerIncompatible, whose: &str) -> String {
    use PeerIncompatible as Why;
    match why {
        Why::NoCipherSuitesInCommon => format!("the {whose} has no cipher suite in common with us"),
        Why::NoKxGroupsInCommon => format!("the {whose} has no key exchange group in common with us"),
        Why::NoSignatureSchemesInCommon | Why::NoCertificateRequestSignatureSchemesInCommon => {
            format!("the {whose} has no signature scheme that fits the certificate")
        }
        Why::SupportedVersionsExtensionRequired
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled
        | Why::Tls13RequiredForQuic
        | Why::ServerDoesNotSupportTls12Or13 => {
            format!("the {whose} does not know a version of TLS that we accept")
        }
        other => format!("the {whose} can not do what is needed: {other:?}"),
    }
}

fn alert_text(alert: AlertDescription, whose: &str) -> String {
    use AlertDescription as Alert;
    let what = match alert {
        Alert::CertificateRequired => "it requires a certificate of ours: give `certificate` and `key`",
        Alert::UnknownCA => "it trusts nobody who has signed our certificate",
        Alert::CertificateExpired => "our certificate has expired",
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::UnsupportedCertificate => {
            "it does not accept our certificate"
        }
        Alert::HandshakeFailure => "it finds nothing in common with us",
        Alert::ProtocolVersion => "it does not know a version of TLS that we offer",
        Alert::NoApplicationProtocol => "no protocol (ALPN) that we offer is among its own",
        Alert::UnrecognisedName => "it has no server of that name",
        _ => return format!("the {whose} has given up: alert {alert:?}"),
    };
    format!("the {whose} has given up: {what} (alert {alert:?})")
}
