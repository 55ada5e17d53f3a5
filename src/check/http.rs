//! The HTTP probe: one request on a new connection. The status decides; so does the body, if one is
//! expected.

use std::ops::RangeInclusive;

use crate::check::expected::Expected;
use crate::check::proxy::ProxyProtocol;
use crate::check::tls::TlsSettings;

/// How much of a body is read by default: 64 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Sends a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings for `https`; without them, plain HTTP.
    pub tls: Option<TlsSettings>,
    /// The HTTP version.
    pub version: Version,
    /// The request method: a token (RFC 9110, section 9.1), case-sensitive. Not CONNECT, because it requests
    /// no path.
    pub method: String,
    /// The Host header; by default, address and port.
    pub host: Option<String>,
    /// Path and query, beginning with `/`: visible ASCII.
    pub path: String,
    /// Headers in addition to Host, User-Agent and Connection; a User-Agent here replaces the built-in one.
    /// Names are tokens; values contain no control characters except tabs. Host and the headers that frame a
    /// message (Connection, Content-Length, Transfer-Encoding) are not allowed.
    pub headers: Vec<(String, String)>,
    /// Accepted status codes. Redirects are never followed, so this list also decides about 3xx.
    pub status: Vec<RangeInclusive<u16>>,
    /// Status codes that mean "alive, but send no new clients". They take precedence over `status`; the body
    /// is then ignored.
    pub drain_status: Vec<RangeInclusive<u16>>,
    /// The first `body_limit` bytes of the body must contain it.
    pub body: Option<Expected>,
    /// Whether the body must not contain `body`.
    pub body_without: bool,
    /// How many bytes of a body are read, at least 1. The probe does not wait for further bytes. A probe
    /// with `body` uses this much memory while it runs.
    pub body_limit: usize,
    /// The response header whose number, 0 to 100, scales the weight.
    pub weight_header: Option<String>,
    /// The PROXY header to send first.
    pub proxy: Option<ProxyProtocol>,
}

impl HttpProbe {
    /// GET without TLS; 200 to 299 passes.
    #[must_use]
    pub fn get(port: u16, path: impl Into<String>) -> Self {
        Self {
            port,
            tls: None,
            version: Version::Default,
            method: "GET".into(),
            host: None,
            path: path.into(),
            headers: Vec::new(),
            status: vec![200..=299],
            drain_status: Vec::new(),
            body: None,
            body_without: false,
            body_limit: BODY_LIMIT,
            weight_header: None,
            proxy: None,
        }
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.1 without TLS; with TLS the version that both sides agree on (ALPN), preferably HTTP/1.1.
    #[default]
    Default,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; without TLS, with prior knowledge (RFC 9113, section 3.3).
    Http2,
}

/// The host in `HOST:PORT`, without the brackets of an IPv6 address.
#[must_use]
pub fn name_in(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}
