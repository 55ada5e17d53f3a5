//! The TLS part of a probe: the handshake, and the time of the certificate.
//!
//! `trust` decides whom to trust, `certificate` says why one is refused, and `sessions` keeps sessions from one probe to the next.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, HandshakeKind, InvalidMessage};
use tokio::io::AsyncWrite;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::probe::certificate::{days, end_of};
use crate::probe::connect::Connection;
use crate::probe::fault::{Fault, cause_of, describe};
use crate::probe::http::TlsSettings;
use crate::probe::sessions::{self, Tickets};
use crate::probe::tcp::Talk;
use crate::probe::{Cause, Finding, Step, Trace, certificate, connect, talk, trust};

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

fn judge_time(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
    insecure: bool,
    min_days_left: Option<u32>,
) -> Result<(), String> {
    let Some(end) = end_of(certificate) else {
        return match min_days_left {
            Some(wanted) => Err(format!(
                "certificate: the day it ends on cannot be read, and it must be valid for at least {wanted} days; \
                 without min_days_left nobody asks for it"
            )),
            None => Ok(()),
        };
    };
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

/// The fault of TLS within an error of the connection, if it is one.
pub(super) fn fault_within(error: &io::Error) -> Option<Fault> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let words = match inner {
        rustls::Error::InvalidCertificate(fault) => format!("certificate: {}", certificate::fault(fault)),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "TLS failed: what the backend says is not TLS".into()
        }
        other => format!("TLS failed: {other}"),
    };
    Some(Fault::new(Cause::Tls, words))
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
        let unreadable = CertificateDer::from(vec![1, 2, 3]);
        let judge = |wanted| judge_time(&unreadable, UnixTime::since_unix_epoch(end), true, wanted);
        assert!(judge(Some(1)).unwrap_err().contains("cannot be read"));
        assert_eq!(judge(None), Ok(()));
    }
}
