//! TLS sessions, kept from one probe of a target to the next.
//!
//! A full handshake costs several times as much as a resumed one, mostly because signatures are verified. So a probe
//! resumes the session of the previous one. The disadvantage: if a certificate is replaced with a bad one, only the
//! next full handshake detects it, at most [`LIFETIME`] later, or immediately if the backend no longer knows the old
//! session. Every probe checks everything that depends on the time.
//!
//! A session belongs to one address and port, one set of TLS settings, and one offer of protocols: no backend sees
//! another's ticket, and no check uses a session that a laxer check accepted. It ends with the authorities that
//! verified it, because rustls never resumes a session with another verifier.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, SignatureScheme};

use crate::check::TlsSettings;
use crate::probe::protocols::Offered;
use crate::probe::tls_error::ClientCertificate;

/// How long after a full handshake its session may be resumed.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// How long after its last probe a target is remembered. A session contains the certificate chain of its backend, so
/// the sessions of removed targets must be freed. Probes with an interval longer than [`LIFETIME`] never resume one
/// anyway.
const REMEMBERED: Duration = Duration::from_secs(120);

/// How often forgotten targets are removed.
const SWEEP: Duration = Duration::from_secs(30);

static SESSIONS: LazyLock<Mutex<Sessions>> = LazyLock::new(Mutex::default);

/// The tickets for a target, without expired ones.
pub(super) fn of(target: SocketAddr, settings: &TlsSettings, offered: Offered, now: Instant) -> Arc<Tickets> {
    lock(&SESSIONS).of(target, settings, offered, now)
}

/// The data is consistent after every step, so a poisoned lock does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Sessions {
    /// An address has one session per distinct set of settings.
    of: HashMap<SocketAddr, Vec<Session>>,
    swept: Option<Instant>,
}

struct Session {
    settings: TlsSettings,
    offered: Offered,
    tickets: Arc<Tickets>,
    used: Instant,
}

impl Sessions {
    fn of(
        &mut self,
        target: SocketAddr,
        settings: &TlsSettings,
        offered: Offered,
        now: Instant,
    ) -> Arc<Tickets> {
        self.sweep(now);
        let sessions = self.of.entry(target).or_default();
        let found = sessions.iter_mut().find(|one| one.offered == offered && one.settings == *settings);
        if let Some(session) = found {
            session.used = now;
            session.tickets.forget_old(now);
            return Arc::clone(&session.tickets);
        }
        let tickets = Arc::new(Tickets::default());
        let kept = Arc::clone(&tickets);
        // There is usually one; the default capacity of four would waste memory.
        sessions.reserve_exact(1);
        sessions.push(Session { settings: settings.clone(), offered, tickets: kept, used: now });
        tickets
    }

    fn sweep(&mut self, now: Instant) {
        let swept = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(swept) < SWEEP {
            return;
        }
        self.swept = Some(now);
        self.of.retain(|_, sessions| {
            sessions.retain(|session| now.saturating_duration_since(session.used) < REMEMBERED);
            !sessions.is_empty()
        });
        if self.of.len() < self.of.capacity() / 4 {
            self.of.shrink_to_fit();
        }
    }
}

/// The session of one target: rustls stores it here, and takes it for the next handshake.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    kept: Mutex<Kept>,
}

/// Presents a client certificate in a handshake, and records whether the backend requested one.
#[derive(Debug, Default)]
pub(super) struct ClientCertificateResolver {
    certificate: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ClientCertificateResolver {
    /// The client certificate's result since the last call.
    pub(super) fn since_last(&self) -> ClientCertificate {
        match (self.asked.swap(false, Ordering::Relaxed), &self.certificate) {
            (false, _) => ClientCertificate::NotAsked,
            (true, None) => ClientCertificate::Missing,
            (true, Some(_)) => ClientCertificate::Shown,
        }
    }
}

impl ResolvesClientCert for ClientCertificateResolver {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// When a full handshake last verified the certificate.
    verified: Option<Instant>,
    answering: Arc<ClientCertificateResolver>,
    /// The client certificate's result in that handshake.
    client: ClientCertificate,
    /// The key exchange group that the backend chose. It is not secret, and outlives the session.
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The latest ticket. One is enough, because a target has one probe at a time, and each ticket is used once.
    tls13: Option<Tls13ClientSessionValue>,
}

impl Tickets {
    /// Records a full handshake; its session may be resumed for [`LIFETIME`].
    pub(super) fn verified(&self, now: Instant, client: ClientCertificate) {
        let mut kept = lock(&self.kept);
        (kept.verified, kept.client) = (Some(now), client);
    }

    /// The client certificate's result in the last full handshake.
    pub(super) fn client_certificate(&self) -> ClientCertificate {
        lock(&self.kept).client
    }

    /// The resolver for `certificate`. It is replaced only when the certificate changes, because rustls never resumes
    /// a session with another resolver.
    pub(super) fn client(&self, certificate: Option<&Arc<CertifiedKey>>) -> Arc<ClientCertificateResolver> {
        let mut kept = lock(&self.kept);
        if kept.answering.certificate.as_ref().map(Arc::as_ptr) != certificate.map(Arc::as_ptr) {
            kept.answering = Arc::new(ClientCertificateResolver {
                certificate: certificate.cloned(),
                asked: AtomicBool::new(false),
            });
        }
        Arc::clone(&kept.answering)
    }

    /// Forgets the session, so that the next handshake is a full one.
    pub(super) fn forget(&self) {
        let mut kept = lock(&self.kept);
        (kept.tls12, kept.tls13) = (None, None);
    }

    fn forget_old(&self, now: Instant) {
        let verified = lock(&self.kept).verified;
        if verified.is_none_or(|verified| now.saturating_duration_since(verified) >= LIFETIME) {
            self.forget();
        }
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _name: ServerName<'static>, group: NamedGroup) {
        lock(&self.kept).group = Some(group);
    }

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        lock(&self.kept).group
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, value: Tls12ClientSessionValue) {
        lock(&self.kept).tls12 = Some(value);
    }

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        lock(&self.kept).tls12.clone()
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {
        lock(&self.kept).tls12 = None;
    }

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        lock(&self.kept).tls13 = Some(value);
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        lock(&self.kept).tls13.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_address_one_set_of_settings_and_one_offer() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let (first, second) = ("192.0.2.1:443".parse().unwrap(), "192.0.2.2:443".parse().unwrap());
        let lax = TlsSettings { insecure: true, ..TlsSettings::default() };
        let strict = TlsSettings::default();
        let tickets = sessions.of(first, &strict, Offered::Http1, now);
        assert!(Arc::ptr_eq(&tickets, &sessions.of(first, &strict, Offered::Http1, now)));
        for other in [
            sessions.of(second, &strict, Offered::Http1, now),
            sessions.of("192.0.2.1:8443".parse().unwrap(), &strict, Offered::Http1, now),
            sessions.of(first, &lax, Offered::Http1, now),
            sessions.of(first, &strict, Offered::Http2, now),
        ] {
            assert!(!Arc::ptr_eq(&tickets, &other));
        }
    }

    #[test]
    fn what_is_not_probed_any_more_is_forgotten() {
        let mut sessions = Sessions::default();
        let begin = Instant::now();
        let settings = TlsSettings::default();
        let probed = "192.0.2.1:443".parse().unwrap();
        let tickets = sessions.of(probed, &settings, Offered::Any, begin);
        for port in 1..=1000 {
            sessions.of(SocketAddr::new([192, 0, 2, 2].into(), port), &settings, Offered::Any, begin);
        }
        let mut now = begin;
        while now < begin + REMEMBERED + SWEEP {
            now += Duration::from_secs(5);
            assert!(Arc::ptr_eq(&tickets, &sessions.of(probed, &settings, Offered::Any, now)));
        }
        assert_eq!(sessions.of.len(), 1);
        assert!(sessions.of.capacity() < 100);
    }
}
