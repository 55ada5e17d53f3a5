//! HTTP probe: one request on a fresh connection; the status decides.
//!
//! The whole response must arrive within the time limit, or the first [`BODY_LIMIT`] bytes of its
//! body: a backend that promises an answer and stops in its middle does not pass.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::probe::expected::Expected;
use crate::probe::{Fault, Step, Trace, connect, tls};

/// The most bytes of a body that are read by default, 64 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

/// The most bytes of a status line with its headers, and of the read buffer: 64 KiB. More headers
/// than hyper's 100 are refused as well.
pub const HEADER_LIMIT: usize = 64 * 1024;

const AGENT: &str = concat!("steerd/", env!("CARGO_PKG_VERSION"));

/// One request on a fresh connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings for `https`; plain HTTP without.
    pub tls: Option<TlsSettings>,
    /// The version of HTTP to speak.
    pub version: Version,
    /// The request method.
    pub method: String,
    /// The Host header; the address and port when there is none.
    pub host: Option<String>,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Sent besides Host, User-Agent and Connection; a User-Agent here replaces the built-in one.
    pub headers: Vec<(String, String)>,
    /// Accepted status codes. Redirects are never followed, so a 3xx is judged by this list too.
    pub status: Vec<RangeInclusive<u16>>,
    /// Status codes that mean "alive, send no new clients"; looked at before `status`.
    pub drain_status: Vec<RangeInclusive<u16>>,
    /// Must be found within the first `body_limit` bytes of the body.
    pub body: Option<Expected>,
    /// The most bytes of a body that are read. What is beyond is not waited for.
    pub body_limit: usize,
    /// The response header whose number, 0 to 100, scales the weight.
    pub weight_header: Option<String>,
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
            body_limit: BODY_LIMIT,
            weight_header: None,
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
    /// The certificate must be valid for at least so many days more.
    pub min_days_left: Option<u32>,
}

impl HttpProbe {
    pub(super) async fn attempt(
        &self,
        address: IpAddr,
        session: Option<tls::Session>,
        trace: &mut Trace,
    ) -> Result<String, Fault> {
        let request = self.request(address)?;
        let target = SocketAddr::new(address, self.port);
        let stream = connect::connect(target).await?;
        let Some(session) = session else { return self.exchange(stream, request, trace).await };
        trace.enter(Step::Tls);
        let stream = session.handshake(stream).await?;
        self.exchange(stream, request, trace).await
    }

    fn request(&self, address: IpAddr) -> Result<Request<Empty<Bytes>>, Fault> {
        let authority;
        let host = if let Some(host) = &self.host {
            host
        } else {
            authority = self.authority(address);
            &authority
        };
        Request::get(&self.path)
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| {
                Fault::Local(format!(
                    "no verdict: path {:?} and host {host:?} make no request: {error}",
                    self.path
                ))
            })
    }

    /// Address and port as a Host header has them: IPv6 in brackets, no port that goes without saying
    /// (RFC 9110, section 7.2).
    fn authority(&self, address: IpAddr) -> String {
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        match address {
            _ if self.port != default_port => SocketAddr::new(address, self.port).to_string(),
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Empty<Bytes>>,
        trace: &mut Trace,
    ) -> Result<String, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        trace.enter(Step::Response);
        let (mut sender, connection) = http1::Builder::new()
            .max_header_size(HEADER_LIMIT)
            .max_buf_size(HEADER_LIMIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| fault(&error))?;
        // What ends the connection also ends the request or the body, and is judged there.
        let drive = async {
            let _ = connection.await;
            std::future::pending::<Infallible>().await
        };
        let converse = async {
            let response = sender.send_request(request).await.map_err(|error| fault(&error))?;
            self.judge(response, trace).await
        };
        tokio::select! {
            finding = converse => finding,
            never = drive => match never {},
        }
    }

    async fn judge(&self, response: Response<Incoming>, trace: &mut Trace) -> Result<String, Fault> {
        let status = response.status();
        if !self.status.iter().any(|accepted| accepted.contains(&status.as_u16())) {
            let expected: Vec<String> = self.status.iter().map(range).collect();
            let (status, expected) = (in_words(status), expected.join(", "));
            return Err(Fault::Backend(format!("status {status}, expected {expected}")));
        }
        trace.enter(Step::Body);
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| fault(&error))?;
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= self.body_limit {
                break;
            }
        }
        Ok(in_words(status))
    }
}

fn range(codes: &RangeInclusive<u16>) -> String {
    let (first, last) = (codes.start(), codes.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// The code with its registered reason; what the backend calls it is not shown.
fn in_words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// What went wrong after the connection was there: always the backend's.
fn fault(error: &hyper::Error) -> Fault {
    Fault::Backend(if error.is_parse_too_large() {
        format!("the response has more than {} KiB of headers, or more than 100 of them", HEADER_LIMIT / 1024)
    } else if error.is_parse() {
        format!("the response is not HTTP/1.1: {error}")
    } else if error.is_incomplete_message() {
        "the connection was closed before the response was complete".into()
    } else if let Some(error) = root_cause(error).downcast_ref::<io::Error>() {
        format!("{} before the response was complete", connect::describe(error))
    } else {
        root_cause(error).to_string()
    })
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(port: u16, tls: bool) -> HttpProbe {
        let tls = tls.then(TlsSettings::default);
        HttpProbe { tls, ..HttpProbe::get(port, "/health?deep=1") }
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
            let request = probe(port, tls).request(address.parse().unwrap()).unwrap();
            assert_eq!(request.headers()[HOST], expected);
        }
        let named = HttpProbe { host: Some("s3.example.com:7070".into()), ..probe(80, false) };
        assert_eq!(
            named.request("192.0.2.1".parse().unwrap()).unwrap().headers()[HOST],
            "s3.example.com:7070"
        );
    }

    #[test]
    fn what_makes_no_request_is_no_verdict() {
        let odd = HttpProbe { path: "/a b".into(), ..probe(80, false) };
        assert!(matches!(odd.request("192.0.2.1".parse().unwrap()), Err(Fault::Local(_))));
    }
}
