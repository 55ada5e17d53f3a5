//! TLS settings, and the TLS probe: a handshake, and optionally an exchange of bytes.

use std::path::PathBuf;

use crate::check::proxy::ProxyProtocol;
use crate::check::talk::Talk;

/// Makes a TLS handshake.
///
/// Without an exchange, sessions are never resumed: the connection is closed before tickets arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsProbe {
    /// The port to connect to.
    pub port: u16,
    /// How the certificate is verified.
    pub tls: TlsSettings,
    /// The bytes to send and to expect.
    pub talk: Talk,
    /// The PROXY header to send first, before the handshake.
    pub proxy: Option<ProxyProtocol>,
}

impl TlsProbe {
    /// A handshake only.
    #[must_use]
    pub fn handshake(port: u16, tls: TlsSettings) -> Self {
        Self { port, tls, talk: Talk::default(), proxy: None }
    }
}

/// How the backend's certificate is verified, and which certificate the backend gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// SNI and the name to verify; without it, the backend's address.
    pub name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure: bool,
    /// A PEM file of certificate authorities that replace those of the system.
    pub ca_file: Option<PathBuf>,
    /// For how many more days the certificate must be valid. Checked even if `insecure`.
    pub min_days_left: Option<u32>,
    /// The certificate for backends that ask for one.
    pub client: Option<ClientFiles>,
}

/// A client certificate and its key: two PEM files, or one with both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    /// The certificate, followed by intermediate certificates.
    pub certificate: PathBuf,
    /// Its private key, unencrypted.
    pub key: PathBuf,
}
