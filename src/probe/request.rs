//! The request of an HTTP probe, for HTTP/1.1 and HTTP/2, and the code that it shares with gRPC probes.

use std::net::IpAddr;

use hyper::header::{CONTENT_LENGTH, HeaderValue, USER_AGENT};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Uri};

use crate::check::HttpProbe;
use crate::probe::failure::ProbeFailure;

macro_rules! agent {
    () => {
        concat!("steerd/", env!("CARGO_PKG_VERSION"))
    };
}

/// Room for most requests in HTTP/1.1, bytes.
const REQUEST: usize = 512;

/// The User-Agent of requests that do not set one.
pub(super) const AGENT: &str = agent!();

/// The request in HTTP/1.1. A setting that would turn it into another request is a local failure.
pub(super) fn in_http1(probe: &HttpProbe, address: IpAddr) -> Result<Vec<u8>, ProbeFailure> {
    let host = authority(probe.host.as_deref(), address, probe.port, probe.tls.is_some());
    let sound = is_token(&probe.method)
        && is_visible(&probe.path)
        && is_visible(&host)
        && probe.headers.iter().all(|(name, value)| is_token(name) && is_field_value(value));
    if !sound {
        // The message does not quote the path: its query may contain a token.
        return Err(ProbeFailure::local(format_args!(
            "method {:?}, host {host:?}, the path and the headers of the check do not form a valid request",
            probe.method
        )));
    }
    let mut request = String::with_capacity(REQUEST);
    let mut line = |parts: &[&str]| parts.iter().for_each(|part| request.push_str(part));
    line(&[&probe.method, " ", &probe.path, " HTTP/1.1\r\nHost: ", &host, "\r\n"]);
    if !has_agent(probe) {
        line(&[concat!("User-Agent: ", agent!(), "\r\n")]);
    }
    for (name, value) in &probe.headers {
        line(&[name, ": ", value, "\r\n"]);
    }
    line(&[if wants_length(probe) { "Content-Length: 0\r\n" } else { "" }, "Connection: close\r\n\r\n"]);
    Ok(request.into_bytes())
}

/// The request in HTTP/2, without the headers that HTTP/2 forbids (RFC 9113, section 8.2.2).
pub(super) fn in_http2(probe: &HttpProbe, address: IpAddr) -> Result<Request<()>, ProbeFailure> {
    let authority = authority(probe.host.as_deref(), address, probe.port, probe.tls.is_some());
    let no_request = |error: &dyn std::fmt::Display| {
        ProbeFailure::local(format_args!(
            "method {:?}, host {authority:?}, the path and the headers of the check do not form a valid request: {error}",
            probe.method
        ))
    };
    let uri = uri(probe.tls.is_some(), &authority, &probe.path)?;
    let mut request = Request::builder().method(probe.method.as_str()).uri(uri);
    if !has_agent(probe) {
        request = request.header(USER_AGENT, AGENT);
    }
    for (name, value) in &probe.headers {
        let is_of_connection =
            ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]
                .iter()
                .any(|of_connection| name.eq_ignore_ascii_case(of_connection));
        if !is_of_connection {
            request = request.header(name, value);
        }
    }
    if wants_length(probe) {
        request = request.header(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    request.body(()).map_err(|error| no_request(&error))
}

/// The scheme, authority and path of an HTTP/2 request.
pub(super) fn uri(tls: bool, authority: &str, path: &str) -> Result<Uri, ProbeFailure> {
    let no_uri = |error: &dyn std::fmt::Display| {
        ProbeFailure::local(format_args!(
            "host {authority:?} and the path of the check do not form a valid request: {error}"
        ))
    };
    let authority: Authority = authority.parse().map_err(|error| no_uri(&error))?;
    let path: PathAndQuery = path.parse().map_err(|error| no_uri(&error))?;
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| no_uri(&error))
}

/// The Host header: the configured host, otherwise address and port. IPv6 addresses are in brackets, and the
/// default port of the scheme is left out (RFC 9110, section 7.2).
pub(super) fn authority(host: Option<&str>, address: IpAddr, port: u16, tls: bool) -> String {
    let default_port = if tls { 443 } else { 80 };
    match (host, address) {
        (Some(host), _) => host.to_owned(),
        (None, IpAddr::V4(address)) if port != default_port => format!("{address}:{port}"),
        (None, IpAddr::V6(address)) if port != default_port => format!("[{address}]:{port}"),
        (None, IpAddr::V4(address)) => address.to_string(),
        (None, IpAddr::V6(address)) => format!("[{address}]"),
    }
}

fn has_agent(probe: &HttpProbe) -> bool {
    probe.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
}

/// Whether the method usually has content. If so, the request declares empty content (RFC 9110, section 8.6).
fn wants_length(probe: &HttpProbe) -> bool {
    matches!(probe.method.as_str(), "POST" | "PUT" | "PATCH")
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
    use crate::check::TlsSettings;
    use crate::probe::Cause;

    use super::*;

    fn probe(port: u16, tls: bool) -> HttpProbe {
        let tls = tls.then(TlsSettings::default);
        HttpProbe { tls, ..HttpProbe::get(port, "/health?deep=1") }
    }

    fn request(probe: &HttpProbe, address: &str) -> String {
        String::from_utf8(in_http1(probe, address.parse().unwrap()).unwrap()).unwrap()
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
            assert_eq!(
                in_http1(&odd, "192.0.2.1".parse().unwrap()).unwrap_err().cause,
                Cause::Local,
                "{odd:?}"
            );
        }
    }
}
