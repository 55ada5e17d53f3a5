//! HTTP probe: one request on a fresh connection; the status decides, and the body if that is wanted.
//!
//! The whole response must arrive within the time limit, or the first `body_limit` bytes of its
//! body: a backend that promises an answer and stops in its middle does not pass. A body that tells no length and
//! that nobody looks into may be a stream without an end: it is waited for 100 ms. Redirects are never
//! followed and bodies never decompressed: what a backend sends is judged as it is.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::probe::connect::ProxyProtocol;
use crate::probe::expected::Expected;
use crate::probe::fault::Fault;
use crate::probe::hearing::Hearing;
use crate::probe::http1::Connection;
use crate::probe::quote::quote;
use crate::probe::refused::{Refused, in_words};
use crate::probe::tls::{Handshake, Protocols};
use crate::probe::{Cause, Finding, Report, Step, Trace, connect, http2};

/// The most bytes of a body that are read by default, 64 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

/// The most bytes of a status line with its headers, 64 KiB. More than 100 headers are refused as well.
pub const HEADER_LIMIT: usize = 64 * 1024;

/// How long a body is waited for that tells no length and that nobody looks into.
const STREAM_PATIENCE: Duration = Duration::from_millis(100);

/// The User-Agent of every request that has none of its own.
pub(super) const AGENT: &str = concat!("steerd/", env!("CARGO_PKG_VERSION"));

/// One request on a fresh connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings for `https`; plain HTTP without.
    pub tls: Option<TlsSettings>,
    /// The version of HTTP to speak.
    pub version: Version,
    /// The request method: a token (RFC 9110, section 9.1), in its own case. Not CONNECT, which makes
    /// no request for a path.
    pub method: String,
    /// The Host header; the address and port when there is none.
    pub host: Option<String>,
    /// Path and query, beginning with `/`: visible ASCII.
    pub path: String,
    /// Sent besides Host, User-Agent and Connection; a User-Agent here replaces the built-in one. Names
    /// are tokens; values hold no control characters but tabs. Neither Host nor what frames a message
    /// (Connection, Content-Length, Transfer-Encoding) may stand here.
    pub headers: Vec<(String, String)>,
    /// Accepted status codes. Redirects are never followed, so a 3xx is judged by this list too.
    pub status: Vec<RangeInclusive<u16>>,
    /// Status codes that mean "alive, send no new clients"; looked at before `status`, and the body
    /// does not matter then.
    pub drain_status: Vec<RangeInclusive<u16>>,
    /// Must be found within the first `body_limit` bytes of the body.
    pub body: Option<Expected>,
    /// `body` must not be found there instead.
    pub body_without: bool,
    /// The most bytes of a body that are read, at least 1. The probe does not wait for bytes beyond. So much
    /// memory is used while a probe with `body` runs.
    pub body_limit: usize,
    /// The response header whose number, 0 to 100, scales the weight.
    pub weight_header: Option<String>,
    /// The PROXY header to begin with.
    pub proxy: Option<ProxyProtocol>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.1 in the clear; over TLS what both sides agree on (ALPN), HTTP/1.1 preferred.
    #[default]
    Default,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; in the clear with prior knowledge (RFC 9113, section 3.3).
    Http2,
}

impl Version {
    pub(super) fn protocols(self) -> Protocols {
        match self {
            Self::Default => Protocols::Http1OrHttp2,
            Self::Http1 => Protocols::Http1,
            Self::Http2 => Protocols::Http2,
        }
    }
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
    /// The certificate must be valid for at least so many days more. Judged even if `insecure`.
    pub min_days_left: Option<u32>,
    /// The certificate to show when the backend asks for one.
    pub client: Option<ClientFiles>,
}

/// A certificate of a client with its key: PEM files, or one that holds both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    /// The certificate, and those that signed it.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
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

    pub(super) async fn attempt(
        &self,
        address: IpAddr,
        handshake: Option<Handshake>,
        trace: &mut Trace,
    ) -> Result<Finding, Fault> {
        if let Some(handshake) = handshake {
            return Box::pin(self.over_tls(address, handshake, trace)).await;
        }
        if self.version == Version::Http2 {
            return Box::pin(self.with_prior_knowledge(address, trace)).await;
        }
        let request = self.request(address)?;
        let stream = self.connect(address).await?;
        self.over_http1(stream, &request, trace).await
    }

    async fn over_tls(
        &self,
        address: IpAddr,
        handshake: Handshake,
        trace: &mut Trace,
    ) -> Result<Finding, Fault> {
        let request = self.request(address)?;
        let stream = self.connect(address).await?;
        let stream = handshake.shake(stream, trace).await?;
        match (stream.protocol(), self.version) {
            (Some(b"h2"), _) => self.over_http2(stream, address, trace).await,
            (_, Version::Http2) => Err(Fault::new(
                Cause::Protocol,
                "the backend does not speak HTTP/2: ALPN did not agree on h2",
            )),
            _ => self.over_http1(stream, &request, trace).await,
        }
    }

    async fn with_prior_knowledge(&self, address: IpAddr, trace: &mut Trace) -> Result<Finding, Fault> {
        let stream = self.connect(address).await?;
        self.over_http2(stream, address, trace).await
    }

    async fn connect(&self, address: IpAddr) -> Result<connect::Connection, Fault> {
        connect::connect(SocketAddr::new(address, self.port), true, self.body_limit, self.proxy).await
    }

    /// Runs the probe in the clear on a connection that stands already.
    pub async fn run_on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        address: IpAddr,
        timeout: Duration,
    ) -> Report {
        let mut trace = Trace::start(Duration::ZERO);
        let attempt = async {
            if self.version == Version::Http2 {
                return self.over_http2(stream, address, &mut trace).await;
            }
            self.over_http1(stream, &self.request(address)?, &mut trace).await
        };
        let finding = tokio::time::timeout(timeout, attempt).await;
        let finding = finding.unwrap_or_else(|_| Err(trace.out_of_time(timeout)));
        trace.report(finding)
    }

    async fn over_http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: &[u8],
        trace: &mut Trace,
    ) -> Result<Finding, Fault> {
        trace.enter(Step::Request);
        let mut connection = Connection::new(stream);
        connection.send(request).await?;
        trace.rename(Step::Response);
        let head = connection.head(self.method == "HEAD", self.weight_header.as_deref(), trace).await?;
        let finding = match self.judge_head(head.status, head.field.as_deref()) {
            Ok(finding) => finding,
            Err(expected) => {
                let refused = Refused::new(head.status, head.location.as_deref(), &expected);
                let read = async |words: &mut Hearing<'_>, trace: &mut Trace| {
                    connection.body(head, words, trace).await
                };
                return Err(Box::pin(refused.explained(trace, read)).await);
            }
        };
        if !finding.draining {
            trace.enter(Step::Body);
            let mut hearing = self.hearing(head.tells_length());
            connection.body(head, &mut hearing, trace).await?;
            self.judge_body(&mut hearing, trace).await?;
        }
        Ok(finding)
    }

    /// Takes the body of a response. One that tells no length may be a stream without an end.
    fn hearing(&self, tells_length: bool) -> Hearing<'_> {
        let hearing = Hearing::of_body(self.body.as_ref(), self.body_limit);
        if tells_length { hearing } else { hearing.within(STREAM_PATIENCE) }
    }

    async fn over_http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        address: IpAddr,
        trace: &mut Trace,
    ) -> Result<Finding, Fault> {
        let request = http2::request(self, &self.authority(address))?;
        trace.enter(Step::Response);
        http2::converse(stream, self.body_limit, async |sender| {
            let (head, mut body) = http2::ask(sender, request, None).await?;
            let field = self.weight_header.as_ref().and_then(|name| head.headers.get(name));
            let finding = match self.judge_head(head.status.as_u16(), field.map(HeaderValue::as_bytes)) {
                Ok(finding) => finding,
                Err(expected) => {
                    let refused = Refused::new(head.status.as_u16(), http2::location(&head), &expected);
                    let read = async |words: &mut Hearing<'_>, trace: &mut Trace| {
                        http2::read(&mut body, words, trace).await
                    };
                    return Err(refused.explained(trace, read).await);
                }
            };
            if !finding.draining {
                trace.enter(Step::Body);
                let mut hearing = self.hearing(http2::tells_length(&head, &body));
                http2::read(&mut body, &mut hearing, trace).await?;
                self.judge_body(&mut hearing, trace).await?;
            }
            Ok(finding)
        })
        .await
    }

    /// The bytes of the request for HTTP/1.1. Void for what would make another request than was meant.
    fn request(&self, address: IpAddr) -> Result<Vec<u8>, Fault> {
        let host = self.authority(address);
        let sound = is_token(&self.method)
            && is_visible(&self.path)
            && is_visible(&host)
            && self.headers.iter().all(|(name, value)| is_token(name) && is_field_value(value));
        if !sound {
            // The path is not repeated: its query may hold a token.
            return Err(Fault::local(format_args!(
                "method {:?}, host {host:?}, the path and the headers of the check make no request",
                self.method
            )));
        }
        let mut request = String::with_capacity(256);
        let mut line = |parts: [&str; 4]| parts.iter().for_each(|part| request.push_str(part));
        line([&self.method, " ", &self.path, " HTTP/1.1\r\n"]);
        line(["Host: ", &host, "\r\n", ""]);
        if !self.has_header("user-agent") {
            line(["User-Agent: ", AGENT, "\r\n", ""]);
        }
        for (name, value) in &self.headers {
            line([name, ": ", value, "\r\n"]);
        }
        if self.wants_length() {
            line(["Content-Length: 0\r\n", "", "", ""]);
        }
        line(["Connection: close\r\n\r\n", "", "", ""]);
        Ok(request.into_bytes())
    }

    pub(super) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    }

    /// Whether the method usually comes with content, so that its absence has to be said (RFC 9110,
    /// section 8.6).
    pub(super) fn wants_length(&self) -> bool {
        matches!(self.method.as_str(), "POST" | "PUT" | "PATCH")
    }

    /// The configured host, else address and port as a Host header has them.
    fn authority(&self, address: IpAddr) -> String {
        self.host.clone().unwrap_or_else(|| authority(address, self.port, self.tls.is_some()))
    }

    /// The finding of the probe if the body is right too; else the accepted status codes.
    fn judge_head(&self, status: u16, load: Option<&[u8]>) -> Result<Finding, String> {
        let is_in = |list: &[RangeInclusive<u16>]| list.iter().any(|codes| codes.contains(&status));
        let load = load.and_then(percent);
        if is_in(&self.drain_status) {
            let detail = format!("draining: status {}", in_words(status)).into();
            return Ok(Finding { draining: true, detail, load });
        }
        if is_in(&self.status) {
            return Ok(Finding { draining: false, detail: in_words(status).into(), load });
        }
        let expected: Vec<String> = self.status.iter().map(range).collect();
        Err(expected.join(", "))
    }

    async fn judge_body(&self, hearing: &mut Hearing<'_>, trace: &mut Trace) -> Result<(), Fault> {
        let found = hearing.ends(trace).await?;
        match (&self.body, self.body_without) {
            (Some(expected), false) if !found => Err(missing(expected, hearing.kept(), self.body_limit)),
            (Some(unwanted), true) if found => {
                let words = format!("the body holds {}, which it must not", unwanted.in_words());
                Err(Fault::new(Cause::Body, words))
            }
            _ => Ok(()),
        }
    }
}

/// The body was read, to its end or to the limit, and does not hold what is expected.
fn missing(expected: &Expected, body: &[u8], limit: usize) -> Fault {
    let expected = expected.in_words();
    let detail = match body {
        [] => format!("the body is empty, expected {expected}"),
        _ if body.len() >= limit => format!("the first {limit} bytes of the body do not hold {expected}"),
        _ => format!("the body begins with {} and does not hold {expected}", quote(body)),
    };
    Fault::new(Cause::Body, detail)
}

/// Address and port as a Host header has them: IPv6 in brackets, no port that goes without saying (RFC
/// 9110, section 7.2).
pub(super) fn authority(address: IpAddr, port: u16, tls: bool) -> String {
    let default_port = if tls { 443 } else { 80 };
    match address {
        _ if port != default_port => SocketAddr::new(address, port).to_string(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The load that a backend reports: a number from 0 to 100 in digits, rounded. Anything else says nothing.
fn percent(value: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return None;
    }
    let percent = whole.parse::<u8>().ok().filter(|percent| *percent <= 100)?;
    match (percent, decimals.bytes().any(|digit| digit != b'0')) {
        (100, true) => None,
        _ => Some(percent + u8::from(decimals.as_bytes().first() >= Some(&b'5'))),
    }
}

fn range(codes: &RangeInclusive<u16>) -> String {
    let (first, last) = (codes.start(), codes.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 9110, section 5.5.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(port: u16, tls: bool) -> HttpProbe {
        let tls = tls.then(TlsSettings::default);
        HttpProbe { tls, ..HttpProbe::get(port, "/health?deep=1") }
    }

    fn request(probe: &HttpProbe, address: &str) -> String {
        String::from_utf8(probe.request(address.parse().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn host_is_the_address_unless_configured() {
        for (address, port, tls, expected) in [
            ("192.0.2.1", 80, false, "192.0.2.1"),
            ("192.0.2.1", 443, false, "192.0.2.1:443"),
            ("192.0.2.1", 443, true, "192.0.2.1"),
            ("2001:db8::1", 80, false, "[2001:db8::1]"),
            ("2001:db8::1", 8080, false, "[2001:db8::1]:8080"),
        ] {
            let request = request(&probe(port, tls), address);
            assert!(request.contains(&format!("\r\nHost: {expected}\r\n")), "{request}");
        }
        let named = HttpProbe { host: Some("s3.example.com:7070".into()), ..probe(80, false) };
        assert!(request(&named, "192.0.2.1").contains("\r\nHost: s3.example.com:7070\r\n"));
    }

    #[test]
    fn what_makes_no_request_is_no_verdict() {
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for odd in [
            HttpProbe { path: "/a b".into(), ..probe(80, false) },
            HttpProbe { path: "/a\r\nx: y".into(), ..probe(80, false) },
            HttpProbe { path: String::new(), ..probe(80, false) },
            HttpProbe { method: "GET /".into(), ..probe(80, false) },
            HttpProbe { host: Some("a\r\nb".into()), ..probe(80, false) },
            HttpProbe { headers: header("x y", "z"), ..probe(80, false) },
            HttpProbe { headers: header("x", "y\r\nz: w"), ..probe(80, false) },
        ] {
            assert_eq!(odd.request("192.0.2.1".parse().unwrap()).unwrap_err().cause, Cause::Local, "{odd:?}");
        }
    }

    #[test]
    fn a_load_is_a_number_from_0_to_100_and_nothing_else() {
        for (text, load) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("100", Some(100)),
            (" 50 ", Some(50)),
            ("49.5", Some(50)),
            ("49.49", Some(49)),
            ("99.9", Some(100)),
            ("100.0", Some(100)),
            ("007", Some(7)),
            ("100.1", None),
            ("101", None),
            ("-1", None),
            ("+1", None),
            ("1e1", None),
            ("inf", None),
            ("NaN", None),
            (".5", None),
            ("5.", None),
            ("75%", None),
            ("1.2.3", None),
            ("", None),
            ("ready", None),
        ] {
            assert_eq!(percent(text.as_bytes()), load, "{text:?}");
        }
        assert_eq!(percent(b"\xff"), None);
    }
}
