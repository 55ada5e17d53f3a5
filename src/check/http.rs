//! The HTTP probe: one request on a fresh connection. The status decides, and the body if one is expected.

use std::ops::RangeInclusive;

use crate::check::expected::Expected;
use crate::check::proxy::ProxyProtocol;
use crate::check::tls::TlsSettings;

/// The most bytes of a body that are read by default, 64 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Sends one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings for `https`; plain HTTP without.
    pub tls: Option<TlsSettings>,
    /// The version of HTTP to speak.
    pub version: Version,
    /// The request method: a token (RFC 9110, section 9.1), case-sensitive. Not CONNECT, which makes no
    /// request for a path.
    pub method: String,
    /// The Host header; without it, address and port.
    pub host: Option<String>,
    /// Path and query, beginning with `/`: visible ASCII.
    pub path: String,
    /// Sent besides Host, User-Agent and Connection; a User-Agent here replaces the built-in one. Names
    /// are tokens; values hold no control characters but tabs. Host and the headers that frame a message
    /// (Connection, Content-Length, Transfer-Encoding) must not be here.
    pub headers: Vec<(String, String)>,
    /// Accepted status codes. Redirects are never followed, so a 3xx is judged by this list too.
    pub status: Vec<RangeInclusive<u16>>,
    /// Status codes that mean "alive, send no new clients". They take precedence over `status`, and then the
    /// body does not matter.
    pub drain_status: Vec<RangeInclusive<u16>>,
    /// Must be found within the first `body_limit` bytes of the body.
    pub body: Option<Expected>,
    /// `body` must not be found there instead.
    pub body_without: bool,
    /// The most bytes of a body that are read, at least 1. The probe does not wait for bytes beyond. A probe
    /// with `body` uses this much memory while it runs.
    pub body_limit: usize,
    /// The response header whose number, 0 to 100, scales the weight.
    pub weight_header: Option<String>,
    /// The PROXY header to begin with.
    pub proxy: Option<ProxyProtocol>,
}

impl HttpProbe {
    /// GET, in the clear; 200 to 299 passes.
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
    /// HTTP/1.1 in the clear; over TLS the version that both sides agree on (ALPN), HTTP/1.1 preferred.
    #[default]
    Default,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; in the clear with prior knowledge (RFC 9113, section 3.3).
    Http2,
}

/// The name in `HOST:PORT`, without the brackets of an IPv6 address.
#[must_use]
pub fn name_in(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}
