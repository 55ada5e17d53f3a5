//! Runs an HTTP probe: one request on a new connection. The status decides; so does the body, if one is expected.
//!
//! The whole response must arrive within the time limit, or the first `body_limit` bytes of its body: a backend
//! that stops in the middle of a response does not pass. A body without a length may be an endless stream: if its
//! content does not matter, the probe waits 100 ms for it. Redirects are never followed, and bodies are never
//! decompressed.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::check::{Expected, HttpProbe, Version};
use crate::printable::excerpt;
use crate::probe::connect::{self, BackendConnection};
use crate::probe::failure::ProbeFailure;
use crate::probe::handshake::Handshake;
use crate::probe::hearing::Hearing;
use crate::probe::unexpected_status::{UnexpectedStatus, in_words};
use crate::probe::{Cause, Finding, ProbeStep, Report, Trace, http1, http2, request};

/// How long the probe waits for a body without a length whose content does not matter.
const STREAM_PATIENCE: Duration = Duration::from_millis(100);

pub(super) async fn attempt(
    probe: &HttpProbe,
    address: IpAddr,
    handshake: Option<Handshake>,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    if let Some(handshake) = handshake {
        return Box::pin(over_tls(probe, address, handshake, trace)).await;
    }
    if probe.version == Version::Http2 {
        return Box::pin(with_prior_knowledge(probe, address, trace)).await;
    }
    let request = request::in_http1(probe, address)?;
    let stream = connect(probe, address).await?;
    over_http1(probe, stream, &request, trace).await
}

async fn over_tls(
    probe: &HttpProbe,
    address: IpAddr,
    handshake: Handshake,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    let request = request::in_http1(probe, address)?;
    let stream = connect(probe, address).await?;
    let stream = handshake.shake(stream, trace).await?;
    match (stream.protocol(), probe.version) {
        (Some(b"h2"), _) => over_http2(probe, stream, address, trace).await,
        (_, Version::Http2) => Err(ProbeFailure::new(
            Cause::Protocol,
            "the backend does not speak HTTP/2: ALPN did not agree on h2",
        )),
        _ => over_http1(probe, stream, &request, trace).await,
    }
}

async fn with_prior_knowledge(
    probe: &HttpProbe,
    address: IpAddr,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    let stream = connect(probe, address).await?;
    over_http2(probe, stream, address, trace).await
}

async fn connect(probe: &HttpProbe, address: IpAddr) -> Result<BackendConnection, ProbeFailure> {
    connect::connect(SocketAddr::new(address, probe.port), true, probe.body_limit, probe.proxy).await
}

/// Runs the probe without TLS on an open connection.
pub async fn run_on(
    probe: &HttpProbe,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: IpAddr,
    timeout: Duration,
) -> Report {
    let mut trace = Trace::start(Duration::ZERO);
    let attempt = async {
        if probe.version == Version::Http2 {
            return over_http2(probe, stream, address, &mut trace).await;
        }
        over_http1(probe, stream, &request::in_http1(probe, address)?, &mut trace).await
    };
    let finding = tokio::time::timeout(timeout, attempt).await;
    let finding = finding.unwrap_or_else(|_| Err(trace.out_of_time(timeout)));
    trace.report(finding)
}

async fn over_http1(
    probe: &HttpProbe,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    trace.enter(ProbeStep::Request);
    let mut connection = http1::Http1Connection::new(stream);
    connection.send(request).await?;
    trace.rename(ProbeStep::Response);
    let head = connection.head(probe.method == "HEAD", probe.weight_header.as_deref(), trace).await?;
    let finding = match judge_head(probe, head.status, head.field.as_deref()) {
        Ok(finding) => finding,
        Err(expected) => {
            let refused = UnexpectedStatus::new(head.status, head.location.as_deref(), &expected);
            let read =
                async |words: &mut Hearing<'_>, trace: &mut Trace| connection.body(head, words, trace).await;
            return Err(Box::pin(refused.explained(trace, read)).await);
        }
    };
    if !finding.draining {
        trace.enter(ProbeStep::Body);
        let mut hearing = hearing_of(probe, head.tells_length());
        connection.body(head, &mut hearing, trace).await?;
        judge_body(probe, &mut hearing, trace).await?;
    }
    Ok(finding)
}

/// How the body of a response is read. A body without a length may be an endless stream.
fn hearing_of(probe: &HttpProbe, tells_length: bool) -> Hearing<'_> {
    let hearing = Hearing::of_body(probe.body.as_ref(), probe.body_limit);
    if tells_length { hearing } else { hearing.within(STREAM_PATIENCE) }
}

async fn over_http2(
    probe: &HttpProbe,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: IpAddr,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    let request = request::in_http2(probe, address)?;
    trace.enter(ProbeStep::Response);
    http2::converse(stream, probe.body_limit, async |sender| {
        let (head, mut body) = http2::ask(sender, request, None).await?;
        let field = probe.weight_header.as_ref().and_then(|name| head.headers.get(name));
        let finding = match judge_head(probe, head.status.as_u16(), field.map(HeaderValue::as_bytes)) {
            Ok(finding) => finding,
            Err(expected) => {
                let refused = UnexpectedStatus::new(head.status.as_u16(), http2::location(&head), &expected);
                let read = async |words: &mut Hearing<'_>, trace: &mut Trace| {
                    http2::read(&mut body, words, trace).await
                };
                return Err(refused.explained(trace, read).await);
            }
        };
        if !finding.draining {
            trace.enter(ProbeStep::Body);
            let mut hearing = hearing_of(probe, http2::tells_length(&head, &body));
            http2::read(&mut body, &mut hearing, trace).await?;
            judge_body(probe, &mut hearing, trace).await?;
        }
        Ok(finding)
    })
    .await
}

/// The finding of the probe, provided that the body is right too; otherwise the accepted status codes.
fn judge_head(probe: &HttpProbe, status: u16, load: Option<&[u8]>) -> Result<Finding, String> {
    let is_in = |list: &[RangeInclusive<u16>]| list.iter().any(|codes| codes.contains(&status));
    let load = load.and_then(percent);
    if is_in(&probe.drain_status) {
        let detail = format!("draining: status {}", in_words(status)).into();
        return Ok(Finding { draining: true, detail, load });
    }
    if is_in(&probe.status) {
        return Ok(Finding { draining: false, detail: in_words(status).into(), load });
    }
    let expected: Vec<String> = probe.status.iter().map(range).collect();
    Err(expected.join(", "))
}

async fn judge_body(
    probe: &HttpProbe,
    hearing: &mut Hearing<'_>,
    trace: &mut Trace,
) -> Result<(), ProbeFailure> {
    let found = hearing.ends(trace).await?;
    match (&probe.body, probe.body_without) {
        (Some(expected), false) if !found => Err(missing(expected, hearing.kept(), probe.body_limit)),
        (Some(unwanted), true) if found => {
            let words = format!("the body holds {}, which is not allowed", unwanted.in_words());
            Err(ProbeFailure::new(Cause::Body, words))
        }
        _ => Ok(()),
    }
}

/// The failure if the body was read, to its end or to the limit, without the expected content.
fn missing(expected: &Expected, body: &[u8], limit: usize) -> ProbeFailure {
    let expected = expected.in_words();
    let detail = match body {
        [] => format!("the body is empty, expected {expected}"),
        _ if body.len() >= limit => format!("the first {limit} bytes of the body do not hold {expected}"),
        _ => format!("the body begins with {} and does not hold {expected}", excerpt(body)),
    };
    ProbeFailure::new(Cause::Body, detail)
}

/// The load that a backend reports: digits for a number from 0 to 100, rounded. Anything else is ignored.
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

#[cfg(test)]
mod tests {
    use super::*;

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
