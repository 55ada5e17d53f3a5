//! The TLS handshake of a probe, and the validity of the certificate.
//!
//! `trust` decides which authorities are trusted, `certificate` explains a rejection, and `sessions` keeps
//! sessions from one probe to the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, HandshakeKind};
use tokio_rustls::TlsConnector;

use crate::check::TlsSettings;
use crate::probe::certificate::{date, end_of};
use crate::probe::connect::BackendConnection;
use crate::probe::failure::{ProbeFailure, cause_of, describe};
use crate::probe::protocols::{self, Offered};
use crate::probe::sessions::{self, ClientCertificateResolver, Tickets};
use crate::probe::tls_error::{self, ClientCertificate, Secured};
use crate::probe::{Cause, ProbeStep, Trace, trust};

/// A handshake that is prepared before the connection is opened.
pub(super) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Arc<Tickets>,
    client: Arc<ClientCertificateResolver>,
    insecure: bool,
    min_days_left: Option<u32>,
}

impl Handshake {
    pub(super) async fn prepare(
        settings: &TlsSettings,
        target: SocketAddr,
        offered: Offered,
    ) -> Result<Self, ProbeFailure> {
        let name = match &settings.name {
            None => ServerName::from(target.ip()),
            Some(name) => ServerName::try_from(name.clone()).map_err(|_| {
                ProbeFailure::local(format_args!("tls name {name:?} is neither a host name nor an address"))
            })?,
        };
        let trusting = trust::of(settings).await.map_err(ProbeFailure::local)?;
        let tickets = sessions::of(target, settings, offered, Instant::now());
        let mut config = ClientConfig::clone(&trusting.config);
        config.alpn_protocols = offered.names();
        config.resumption = Resumption::store(Arc::clone(&tickets) as Arc<_>);
        let client = tickets.client(trusting.identity.as_ref());
        config.client_auth_cert_resolver = Arc::clone(&client) as Arc<_>;
        let TlsSettings { insecure, min_days_left, .. } = *settings;
        Ok(Self { config: Arc::new(config), name, tickets, client, insecure, min_days_left })
    }

    pub(super) async fn shake(
        self,
        stream: BackendConnection,
        trace: &mut Trace,
    ) -> Result<Secured, ProbeFailure> {
        trace.enter(ProbeStep::Tls);
        let (stream, beginning) = stream.remembering();
        trace.of_handshake = Some(beginning.clone());
        let connected = TlsConnector::from(self.config).connect(self.name, stream).await;
        trace.client = self.client.since_last();
        let stream = connected.map_err(|error| {
            trace.certificate_expires = tls_error::expired(&error).and_then(time);
            // A session that may have caused the failure is not offered again.
            self.tickets.forget();
            match (tls_error::of_handshake(&error, trace.client, &beginning), cause_of(&error)) {
                (Some(words), _) => ProbeFailure::new(Cause::Tls, words),
                (None, Cause::Local) => ProbeFailure::local(describe(&error)),
                // The backend's alert may be lost if it closes immediately.
                (None, Cause::Closed | Cause::Reset) if trace.client == ClientCertificate::Missing => {
                    ProbeFailure::new(Cause::Tls, tls_error::wants_certificate(&describe(&error)))
                }
                (None, cause) => {
                    let is_silent =
                        beginning.bytes().is_empty() && matches!(cause, Cause::Closed | Cause::Reset);
                    let hint =
                        if is_silent { format!("; {}", protocols::MAY_SPEAK_PLAIN) } else { String::new() };
                    ProbeFailure::new(cause, format!("TLS handshake failed: {}{hint}", describe(&error)))
                }
            }
        })?;
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed {
            trace.client = self.tickets.client_certificate();
        } else {
            self.tickets.verified(Instant::now(), trace.client);
        }
        if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) {
            let end = end_of(certificate);
            trace.certificate_expires = end.and_then(time);
            // A full handshake has checked the expiry of the certificate; a resumed one has not.
            if resumed || self.min_days_left.is_some() {
                let judged = judge_time(end, UnixTime::now(), self.insecure, self.min_days_left);
                judged.map_err(|words| ProbeFailure::new(Cause::Tls, words))?;
            }
        }
        Ok(Secured { client: trace.client, stream })
    }
}

fn time(time: UnixTime) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// Checks the expiry of a certificate; `end` is none if it cannot be read.
fn judge_time(
    end: Option<UnixTime>,
    now: UnixTime,
    insecure: bool,
    min_days_left: Option<u32>,
) -> Result<(), String> {
    let Some(end) = end else {
        return match min_days_left {
            Some(wanted) => Err(format!(
                "certificate: its expiry date cannot be read, and min_days_left requires at least {wanted} days"
            )),
            None => Ok(()),
        };
    };
    if now > end && !(insecure && min_days_left.is_none()) {
        return Err(format!("certificate: expired on {}", date(end)));
    }
    let left = end.as_secs().saturating_sub(now.as_secs()) / 86_400;
    match min_days_left {
        Some(wanted) if left < u64::from(wanted) => Err(format!(
            "certificate: expires on {}, and at least {wanted} days are required (min_days_left)",
            date(end)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use rustls::pki_types::CertificateDer;

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
            judge_time(
                end_of(&ends),
                UnixTime::since_unix_epoch(end.saturating_sub(before)),
                insecure,
                wanted,
            )
        };
        assert_eq!(judge(day * 7, false, Some(7)), Ok(()));
        assert_eq!(judge(Duration::ZERO, false, None), Ok(()));
        let soon = judge(day * 6 + day / 2, false, Some(7)).unwrap_err();
        let words =
            "certificate: expires on 2030-01-01 00:00 UTC, and at least 7 days are required (min_days_left)";
        assert_eq!(soon, words);

        let judge = |after: Duration, insecure, wanted| {
            judge_time(end_of(&ends), UnixTime::since_unix_epoch(end + after), insecure, wanted)
        };
        let over = Err("certificate: expired on 2030-01-01 00:00 UTC".to_owned());
        assert_eq!(judge(day * 3, false, None), over);
        assert_eq!(judge(day * 3, true, Some(1)), over);
        assert_eq!(judge(day * 3, true, None), Ok(()), "any certificate is accepted");
        let unreadable = CertificateDer::from(vec![1, 2, 3]);
        let judge = |wanted| judge_time(end_of(&unreadable), UnixTime::since_unix_epoch(end), true, wanted);
        assert!(judge(Some(1)).unwrap_err().contains("cannot be read"));
        assert_eq!(judge(None), Ok(()));
    }
}
