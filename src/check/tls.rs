//! TLS settings, and the TLS probe: a handshake, and an exchange after it if one is wanted.

use std::path::PathBuf;

use crate::check::proxy::ProxyProtocol;
use crate::check::talk::Talk;

/// Makes a TLS handshake.
///
/// Without an exchange the session is never resumed: the connection is closed before tickets arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsProbe {
    /// The port to connect to.
    pub port: u16,
    /// How the certificate is judged.
    pub tls: TlsSettings,
    /// The bytes to send and to expect.
    pub talk: Talk,
    /// The PROXY header to begin with, before the handshake.
    pub proxy: Option<ProxyProtocol>,
}

impl TlsProbe {
    /// A handshake.
    #[must_use]
    pub fn handshake(port: u16, tls: TlsSettings) -> Self {
        Self { port, tls, talk: Talk::default(), proxy: None }
    }
}

/// How the backend's certificate is judged, and which one it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// SNI and the name to verify; without it, the backend's address.
    pub name: Option<String>,
    /// Accept any certificate.
    pub insecure: bool,
    /// PEM file of certificate authorities, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate must be valid for at least this many days more. Judged even if `insecure`.
    pub min_days_left: Option<u32>,
    /// The certificate to show when the backend asks for one.
    pub client: Option<ClientFiles>,
}

/// A client certificate with its key: two PEM files, or one that holds both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    /// The certificate, and those that signed it.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}
