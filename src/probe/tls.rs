//! The TLS part of a probe: whom to trust, the handshake, and what is wrong with a certificate.
//!
//! What to trust is read once and shared by all probes that trust the same: to build it anew for
//! each probe costs milliseconds. Sessions are never resumed, because only a full handshake shows
//! the certificate.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::probe::http::TlsSettings;
use crate::probe::tcp::Talk;
use crate::probe::{Fault, connect};

/// A handshake, perhaps with a few words after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsProbe {
    /// The port to connect to.
    pub port: u16,
    /// How the certificate is judged.
    pub tls: TlsSettings,
    /// What is said and expected.
    pub talk: Talk,
}

/// What to trust is read again after this time, so that a renewed `ca_file` is taken up without a
/// restart, at a cost that does not show.
const TRUST_LIFETIME: Duration = Duration::from_secs(60);

/// Whom a probe trusts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trust {
    Anyone,
    System,
    File(PathBuf),
}

struct Loaded {
    config: Arc<ClientConfig>,
    at: Instant,
}

/// What was read of one [`Trust`]. The lock is asynchronous because all who need the same wait for
/// one reading of it.
type Place = Mutex<Option<Loaded>>;

/// Each has a place of its own, so that a file that cannot be read for a while holds up no probe
/// that does not need it.
static LOADED: LazyLock<std::sync::Mutex<HashMap<Trust, Arc<Place>>>> = LazyLock::new(Default::default);

/// All that a handshake needs, ready before the connection is opened.
pub(super) struct Session {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Session {
    pub(super) async fn new(settings: &TlsSettings, address: IpAddr) -> Result<Self, String> {
        let name = match &settings.name {
            None => ServerName::from(address),
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|_| format!("tls name {name:?} is neither a host name nor an address"))?,
        };
        let trust = match &settings.ca_file {
            _ if settings.insecure => Trust::Anyone,
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        };
        Ok(Self { config: shared(trust).await?, name })
    }

    pub(super) async fn handshake(self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        TlsConnector::from(self.config)
            .connect(self.name, stream)
            .await
            .map_err(|error| Fault::Backend(in_words(&error)))
    }
}

async fn shared(trust: Trust) -> Result<Arc<ClientConfig>, String> {
    let place =
        Arc::clone(LOADED.lock().unwrap_or_else(PoisonError::into_inner).entry(trust.clone()).or_default());
    let mut loaded = place.lock().await;
    if let Some(found) = loaded.as_ref().filter(|found| found.at.elapsed() < TRUST_LIFETIME) {
        return Ok(Arc::clone(&found.config));
    }
    let config = tokio::task::spawn_blocking(move || load(&trust))
        .await
        .map_err(|error| format!("the certificate authorities could not be loaded: {error}"))??;
    let config = Arc::new(config);
    *loaded = Some(Loaded { config: Arc::clone(&config), at: Instant::now() });
    Ok(config)
}

/// Blocks: reads files.
fn load(trust: &Trust) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        }
        Trust::System => builder.with_root_certificates(system_roots()?),
        Trust::File(path) => builder.with_root_certificates(roots_of(path)?),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this system has no certificate authorities that can be read{why}; install them, or name a ca_file"
        ));
    }
    Ok(roots)
}

fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let cannot =
        |reason: &dyn std::fmt::Display| format!("ca_file {} cannot be used: {reason}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| cannot(&error))? {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        roots.add(certificate).map_err(|error| cannot(&error))?;
    }
    if roots.is_empty() {
        return Err(cannot(&"it holds no certificate in PEM form"));
    }
    Ok(roots)
}

/// What is wrong with a handshake, for a person.
fn in_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            format!("certificate: {}", certificate_fault(fault))
        }
        Some(other) => format!("TLS handshake failed: {other}"),
        None => format!("TLS handshake failed: {}", connect::describe(error)),
    }
}

fn certificate_fault(fault: &CertificateError) -> String {
    let days = |from: &UnixTime, to: &UnixTime| to.as_secs().saturating_sub(from.as_secs()) / 86_400;
    match fault {
        CertificateError::Expired => "expired".into(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("expired {} days ago", days(not_after, time))
        }
        CertificateError::NotValidYet => "not valid yet".into(),
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("not valid for another {} days", days(time, not_before))
        }
        CertificateError::UnknownIssuer => "signed by an authority that is not trusted here".into(),
        CertificateError::BadSignature => "not signed by the authority it names".into(),
        CertificateError::NotValidForName => "not valid for the expected name".into(),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("not valid for {}, nor for any name", expected.to_str())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("not valid for {}, only for {}", expected.to_str(), presented.join(", "))
        }
        other => other.to_string(),
    }
}

/// Takes any certificate, but still asks for proof that the server holds its key: without that
/// the handshake would be malformed, not merely untrusted.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
