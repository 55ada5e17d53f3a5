//! The TLS part of a probe: the handshake, and what is wrong with a certificate.
//!
//! `trust` decides whom to trust, and `sessions` keeps sessions from one probe to the next.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, HandshakeKind, InvalidMessage, RootCertStore};
use tokio::io::AsyncWrite;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::probe::connect::Connection;
use crate::probe::fault::{Fault, cause_of, describe};
use crate::probe::http::TlsSettings;
use crate::probe::quote::quote;
use crate::probe::sessions::{self, Tickets};
use crate::probe::tcp::Talk;
use crate::probe::{Cause, Finding, Step, Trace, connect, talk, trust};

/// A handshake, perhaps with a few words after it.
///
/// Without any the session is never resumed: the connection is closed before tickets have come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsProbe {
    /// The port to connect to.
    pub port: u16,
    /// How the certificate is judged.
    pub tls: TlsSettings,
    /// The words to say and to expect.
    pub talk: Talk,
}

impl TlsProbe {
    pub(super) async fn attempt(
        &self,
        address: IpAddr,
        handshake: Option<Handshake>,
        trace: &mut Trace,
    ) -> Result<Finding, Fault> {
        let target = SocketAddr::new(address, self.port);
        // It was prepared, as it is for every probe with TLS.
        let handshake = handshake.ok_or_else(|| Fault::local("the handshake was not prepared"))?;
        let stream = connect::connect(target, true, talk::HEARING_LIMIT).await?;
        trace.enter(Step::Tls);
        let mut stream = handshake.shake(stream).await?;
        talk::talk(&self.talk, &mut stream, trace).await?;
        // Goodbye, as far as it can be said without waiting.
        std::future::poll_fn(|context| {
            let _ = Pin::new(&mut stream).poll_shutdown(context);
            Poll::Ready(())
        })
        .await;
        Ok(Finding::passed(self.talk.in_words("TLS handshake done")))
    }
}

/// Protocols to offer over TLS (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Protocols {
    Any,
    Http1,
    Http2,
    Http1OrHttp2,
}

impl Protocols {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&str] = match self {
            Self::Any => &[],
            Self::Http1 => &["http/1.1"],
            Self::Http2 => &["h2"],
            Self::Http1OrHttp2 => &["http/1.1", "h2"],
        };
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }
}

/// All that a handshake needs, ready before the connection is opened.
pub(super) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Arc<Tickets>,
    insecure: bool,
    min_days_left: Option<u32>,
}

impl Handshake {
    pub(super) async fn prepare(
        settings: &TlsSettings,
        target: SocketAddr,
        protocols: Protocols,
    ) -> Result<Self, Fault> {
        let name = match &settings.name {
            None => ServerName::from(target.ip()),
            Some(name) => ServerName::try_from(name.clone()).map_err(|_| {
                Fault::local(format_args!("tls name {name:?} is neither a host name nor an address"))
            })?,
        };
        let trusting = trust::config(settings).await.map_err(Fault::local)?;
        let tickets = sessions::of(target, settings, protocols, Instant::now());
        let mut config = ClientConfig::clone(&trusting);
        config.alpn_protocols = protocols.names();
        config.resumption = Resumption::store(Arc::clone(&tickets) as Arc<_>);
        let TlsSettings { insecure, min_days_left, .. } = *settings;
        Ok(Self { config: Arc::new(config), name, tickets, insecure, min_days_left })
    }

    pub(super) async fn shake(self, stream: Connection) -> Result<TlsStream<Connection>, Fault> {
        let stream = TlsConnector::from(self.config).connect(self.name, stream).await.map_err(|error| {
            // Nothing of what failed is offered again.
            self.tickets.forget();
            fault_within(&error).unwrap_or_else(|| match cause_of(&error) {
                Cause::Local => Fault::local(describe(&error)),
                cause => Fault::new(cause, format!("TLS handshake failed: {}", describe(&error))),
            })
        })?;
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        if !resumed {
            self.tickets.verified(Instant::now());
        }
        // A full handshake has judged the certificate by its time; one that is resumed has not.
        if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first)
            && (resumed || self.min_days_left.is_some())
        {
            let judged = judge_time(certificate, UnixTime::now(), self.insecure, self.min_days_left);
            judged.map_err(|words| Fault::new(Cause::Tls, words))?;
        }
        Ok(stream)
    }
}

/// Days that begin before `to`, counted from `from`.
fn days(from: UnixTime, to: UnixTime) -> u64 {
    to.as_secs().saturating_sub(from.as_secs()) / 86_400
}

fn judge_time(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
    insecure: bool,
    min_days_left: Option<u32>,
) -> Result<(), String> {
    // One without an end lasts for ever.
    let Some(end) = end_of(certificate) else { return Ok(()) };
    if now > end && !(insecure && min_days_left.is_none()) {
        return Err(format!("certificate: expired {} days ago", days(end, now)));
    }
    match min_days_left.map(u64::from) {
        Some(wanted) if days(now, end) < wanted => {
            Err(format!("certificate expires in {} days, at least {wanted} are wanted", days(now, end)))
        }
        _ => Ok(()),
    }
}

/// When a certificate ends. It is not read here: it is verified for a time when none is valid any
/// more, and the fault names its end, because that is judged before all that is missing here.
fn end_of(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    /// The year 9999 ends before.
    const NEVER: u64 = 253_402_300_800;
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NEVER));
    match verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], at, &[]) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(not_after)
        }
        _ => None,
    }
}

/// The fault of TLS within an error of the connection, if it is one.
pub(super) fn fault_within(error: &io::Error) -> Option<Fault> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let words = match inner {
        rustls::Error::InvalidCertificate(fault) => format!("certificate: {}", certificate_fault(fault)),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "TLS failed: what the backend says is not TLS".into()
        }
        other => format!("TLS failed: {other}"),
    };
    Some(Fault::new(Cause::Tls, words))
}

fn certificate_fault(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired => "expired".into(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("expired {} days ago", days(*not_after, *time))
        }
        CertificateError::NotValidYet => "not valid yet".into(),
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("not valid for another {} days", days(*time, *not_before))
        }
        CertificateError::UnknownIssuer => "signed by an authority that is not trusted here".into(),
        CertificateError::BadSignature => "not signed by the authority it names".into(),
        CertificateError::NotValidForName => "not valid for the expected name".into(),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("not valid for {}, nor for any name", expected.to_str())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
            format!("not valid for {}, only for {}", expected.to_str(), quote(names.join(", ").as_bytes()))
        }
        CertificateError::BadEncoding => "cannot be read".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "not made for servers (its extended key usage)".into()
        }
        CertificateError::Other(other) => match other.to_string() {
            name if name.contains(AUTHORITY_AS_SERVER) => {
                "that of an authority (CA:TRUE), which must not stand for a server; a self-signed one is \
                 to be made with CA:FALSE"
                    .into()
            }
            other => other,
        },
        other => other.to_string(),
    }
}

/// An error that rustls hands on from its verifier under no name of its own: an authority's certificate is
/// shown as the server's. Tools that make self-signed ones make these unless told otherwise.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

/// A name of a certificate as people write it; the verifier says what kind of name it is, too.
fn plain_name(name: &str) -> &str {
    name.strip_prefix("DnsName(\"").and_then(|rest| rest.strip_suffix("\")")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_found_and_judged() {
        let key = KeyPair::generate().unwrap();
        let certificate = |year| {
            let mut params = CertificateParams::new(vec!["backend.example".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
            params.self_signed(&key).unwrap().der().clone()
        };
        let end = Duration::from_secs(1_893_456_000);
        let ends = certificate(2030);
        assert_eq!(end_of(&ends).unwrap().as_secs(), end.as_secs());

        let day = Duration::from_secs(86_400);
        let judge = |before: Duration, insecure, wanted| {
            judge_time(&ends, UnixTime::since_unix_epoch(end.saturating_sub(before)), insecure, wanted)
        };
        assert_eq!(judge(day * 7, false, Some(7)), Ok(()));
        assert_eq!(judge(Duration::ZERO, false, None), Ok(()));
        let soon = judge(day * 6 + day / 2, false, Some(7)).unwrap_err();
        assert_eq!(soon, "certificate expires in 6 days, at least 7 are wanted");

        let judge = |after: Duration, insecure, wanted| {
            judge_time(&ends, UnixTime::since_unix_epoch(end + after), insecure, wanted)
        };
        let over = Err("certificate: expired 3 days ago".to_owned());
        assert_eq!(judge(day * 3, false, None), over);
        assert_eq!(judge(day * 3, true, Some(1)), over);
        assert_eq!(judge(day * 3, true, None), Ok(()), "any certificate is accepted");
        assert_eq!(end_of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
