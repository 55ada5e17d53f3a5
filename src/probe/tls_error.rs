//! Describes the errors of the TLS library in words.
//!
//! The library shows most of them as names of its variants. An alert is the backend's reason for ending the
//! handshake; this side detects the other errors.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::printable::excerpt;
use crate::probe::certificate;
use crate::probe::connect::BackendConnection;
use crate::probe::limited::FirstBytes;
use crate::probe::protocols::{self, Spoken};
use crate::probe::words::first_line;

/// Whether the backend requested a client certificate, and got one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientCertificate {
    /// The backend did not request one.
    #[default]
    NotAsked,
    /// The backend requested one, and the check has none.
    Missing,
    /// The check sent its certificate.
    Shown,
}

/// The hint for a check without a client certificate if the backend requested one.
pub(super) const MISSING: &str = "the backend asked for a client certificate, and the check has none";

/// A TLS connection that reports its errors in words.
pub(super) struct Secured {
    pub(super) stream: TlsStream<BackendConnection>,
    pub(super) client: ClientCertificate,
}

impl Secured {
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let client = self.client;
        Pin::new(&mut self.stream).poll_read(context, buffer).map_err(|error| told(error, client))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let client = self.client;
        Pin::new(&mut self.stream).poll_write(context, bytes).map_err(|error| told(error, client))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let client = self.client;
        Pin::new(&mut self.stream).poll_flush(context).map_err(|error| told(error, client))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Replaces a library error with one that has its description as text, which HTTP/2 and other libraries
/// keep.
fn told(error: io::Error, client: ClientCertificate) -> io::Error {
    match within(&error) {
        Some(inner) => io::Error::new(io::ErrorKind::InvalidData, words(inner, client)),
        None => error,
    }
}

fn within(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The description of a handshake error, if it comes from the library; `beginning` has the first bytes from
/// the backend.
pub(super) fn of_handshake(
    error: &io::Error,
    client: ClientCertificate,
    beginning: &FirstBytes,
) -> Option<String> {
    let inner = within(error)?;
    Some(match (inner, protocols::of(beginning.bytes())) {
        (Error::InvalidMessage(_), Spoken::Http1) => format!(
            "TLS failed: the backend speaks plain HTTP on this port, without TLS; it sent {}",
            excerpt(first_line(beginning.bytes()))
        ),
        (Error::InvalidMessage(_), Spoken::Http2) => {
            "TLS failed: the backend speaks plain HTTP/2 on this port, without TLS".to_owned()
        }
        (Error::InvalidMessage(_), Spoken::Other) => format!(
            "TLS failed: the backend does not speak TLS on this port; it sent {}",
            excerpt(first_line(beginning.bytes()))
        ),
        _ => words(inner, client),
    })
}

/// When the certificate expired, if this is why it was rejected.
pub(super) fn expired(error: &io::Error) -> Option<UnixTime> {
    match within(error)? {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => Some(*not_after),
        _ => None,
    }
}

/// The description of a library error.
fn words(error: &Error, client: ClientCertificate) -> String {
    match error {
        Error::InvalidCertificate(fault) => format!("certificate: {}", certificate::fault(fault)),
        Error::AlertReceived(alert) => of_alert(*alert, client),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "TLS failed: the backend does not speak TLS".to_owned()
        }
        Error::InvalidMessage(fault) => {
            format!("TLS failed: the backend sent a malformed message ({})", Spaced(fault))
        }
        Error::PeerIncompatible(fault) => format!("TLS failed: {}", incompatible(fault)),
        Error::PeerMisbehaved(fault) => {
            format!("TLS failed: the backend violates the protocol ({})", Spaced(fault))
        }
        Error::InappropriateMessage { got_type, .. } => {
            format!("TLS failed: the backend sent a message out of turn ({})", Spaced(got_type))
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            format!("TLS failed: the backend sent a message out of turn ({})", Spaced(got_type))
        }
        Error::NoCertificatesPresented => "TLS failed: the backend has no certificate".to_owned(),
        Error::DecryptError => "TLS failed: a message of the backend cannot be decrypted".to_owned(),
        Error::PeerSentOversizedRecord => {
            "TLS failed: the backend sent a record that is too large".to_owned()
        }
        Error::NoApplicationProtocol => {
            "TLS failed: the backend offers no protocol that the check speaks (ALPN)".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

fn incompatible(fault: &PeerIncompatible) -> String {
    match fault {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the backend speaks an older version than TLS 1.2; checks speak 1.2 and 1.3".to_owned()
        }
        PeerIncompatible::NoCipherSuitesInCommon => {
            "the backend and the check have no cipher suite in common".to_owned()
        }
        PeerIncompatible::NoKxGroupsInCommon => {
            "the backend and the check have no key exchange in common".to_owned()
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "the backend and the check have no signature algorithm in common".to_owned()
        }
        other => format!("the backend and the check are incompatible ({})", Spaced(other)),
    }
}

/// The description if the backend ended the handshake because it got no client certificate; `how` says how
/// it ended it.
pub(super) fn wants_certificate(how: &str) -> String {
    format!("TLS failed: the backend wants a client certificate, and the check has none ({how})")
}

/// The description of an alert from the backend (RFC 8446, section 6), with its most common cause.
fn of_alert(alert: AlertDescription, client: ClientCertificate) -> String {
    use AlertDescription as Alert;
    let of_certificate = matches!(
        alert,
        Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    );
    let name = Spaced(&alert);
    match client {
        // Before TLS 1.3 there was no alert for a missing certificate; servers send one of these.
        ClientCertificate::Missing if of_certificate || alert == Alert::HandshakeFailure => {
            return wants_certificate(&format!("alert: {name}"));
        }
        ClientCertificate::Shown if of_certificate || alert == Alert::DecryptError => {
            return format!(
                "TLS failed: the backend refuses the client certificate of the check (alert: {name})"
            );
        }
        _ => {}
    }
    let words = match alert {
        Alert::CertificateRequired => "the backend wants a client certificate",
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "the backend accepts none of the cipher suites and signatures that the check offers"
        }
        Alert::ProtocolVersion => "the backend accepts neither TLS 1.2 nor TLS 1.3",
        Alert::UnrecognisedName => "the backend does not know the name that it is asked for (tls.name, host)",
        Alert::NoApplicationProtocol => {
            "the backend speaks none of the protocols that the check offers (ALPN)"
        }
        Alert::InternalError => "the backend reports a fault of its own",
        Alert::CloseNotify | Alert::UserCanceled => "the backend ended the handshake",
        _ => "the backend refuses the handshake",
    };
    format!("TLS failed: {words} (alert: {name})")
}

/// The name of a variant as words: `SelectedUnofferedPsk` is "selected unoffered psk".
struct Spaced<'a, T>(&'a T);

impl<T: fmt::Debug> fmt::Display for Spaced<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.0);
        let mut spaced = String::with_capacity(name.len() + 8);
        let mut lower = false;
        for character in name.chars() {
            match character {
                '(' | '"' | ')' | '{' | '}' | ' ' if spaced.ends_with(' ') => lower = false,
                '(' | '"' | ')' | '{' | '}' | ' ' => {
                    spaced.push(' ');
                    lower = false;
                }
                _ => {
                    if character.is_ascii_uppercase() && lower {
                        spaced.push(' ');
                    }
                    lower = !character.is_ascii_uppercase();
                    spaced.push(character.to_ascii_lowercase());
                }
            }
        }
        f.write_str(spaced.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ContentType, HandshakeType, PeerMisbehaved};

    use super::*;

    #[test]
    fn no_error_shows_the_names_of_the_library() {
        let alerts = (0..=255_u8).map(|number| Error::AlertReceived(AlertDescription::from(number)));
        let others = [
            Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge),
            Error::InvalidMessage(InvalidMessage::MissingData("ServerHello")),
            Error::InvalidMessage(InvalidMessage::DuplicateExtension(7)),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired),
            Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedPsk),
            Error::InappropriateMessage { expect_types: vec![], got_type: ContentType::ApplicationData },
            Error::InappropriateHandshakeMessage { expect_types: vec![], got_type: HandshakeType::Finished },
            Error::NoCertificatesPresented,
            Error::DecryptError,
            Error::PeerSentOversizedRecord,
            Error::NoApplicationProtocol,
        ];
        for error in alerts.chain(others) {
            for client in [ClientCertificate::NotAsked, ClientCertificate::Missing, ClientCertificate::Shown]
            {
                let words = words(&error, client);
                let camel = words
                    .as_bytes()
                    .windows(2)
                    .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
                assert!(!camel && words.starts_with("TLS failed: "), "{words}");
                assert!(!words.contains(['{', '"', '[']), "{words}");
            }
        }
        let spaced = |alert: u8| Spaced(&AlertDescription::from(alert)).to_string();
        assert_eq!(
            (spaced(40), spaced(48), spaced(200)),
            ("handshake failure".into(), "unknown ca".into(), "alert description 0xc8".into())
        );
    }

    #[test]
    fn a_client_certificate_is_told_by_what_was_asked() {
        let of = |alert, client| of_alert(alert, client);
        let missing = of(AlertDescription::HandshakeFailure, ClientCertificate::Missing);
        assert!(missing.contains("wants a client certificate, and the check has none"), "{missing}");
        let other = of(AlertDescription::HandshakeFailure, ClientCertificate::NotAsked);
        assert!(!other.contains("client certificate"), "{other}");
        let shown = of(AlertDescription::UnknownCA, ClientCertificate::Shown);
        assert!(shown.contains("refuses the client certificate"), "{shown}");
    }
}
