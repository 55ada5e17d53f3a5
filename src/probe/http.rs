//! HTTP probe: one request on a fresh connection; the status decides.

use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One GET request on a fresh connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings for `https`; plain HTTP without.
    pub tls: Option<TlsSettings>,
    /// The Host header; the address and port when there is none.
    pub host: Option<String>,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Accepted status codes. Redirects are never followed, so a 3xx is judged by this list too.
    pub status: Vec<RangeInclusive<u16>>,
}

/// How the backend's certificate is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// SNI and the name to verify; the backend's address when there is none.
    pub name: Option<String>,
    /// Accept any certificate.
    pub insecure: bool,
    /// PEM file of certificate authorities, instead of the system's.
    pub ca_file: Option<PathBuf>,
}
