//! Runs a gRPC probe: one call of `grpc.health.v1.Health/Check` over HTTP/2.
//!
//! The messages are encoded by hand: each has a prefix of five bytes and its content, a text in the request and a
//! number in the response.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request};
use percent_encoding::percent_decode;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::check::GrpcProbe;
use crate::printable::excerpt;
use crate::probe::failure::ProbeFailure;
use crate::probe::handshake::Handshake;
use crate::probe::hearing::Hearing;
use crate::probe::unexpected_status::UnexpectedStatus;
use crate::probe::{Cause, Finding, ProbeStep, Trace, connect, http2, request};

/// How much of a response is read, bytes; a valid one has about seven.
const MESSAGE_LIMIT: usize = 4 * 1024;

/// Length of a message's prefix, which consists of a compression flag and the length of the content.
const PREFIX: usize = 5;

pub(super) async fn attempt(
    probe: &GrpcProbe,
    address: IpAddr,
    handshake: Option<Handshake>,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    let request = request(probe, address)?;
    let stream =
        connect::connect(SocketAddr::new(address, probe.port), true, MESSAGE_LIMIT, probe.proxy).await?;
    let Some(handshake) = handshake else { return call(probe, stream, request, trace).await };
    let stream = handshake.shake(stream, trace).await?;
    if stream.protocol() != Some(b"h2") {
        let text = "the backend does not speak HTTP/2: ALPN did not agree on h2";
        return Err(ProbeFailure::new(Cause::Protocol, text));
    }
    call(probe, stream, request, trace).await
}

fn request(probe: &GrpcProbe, address: IpAddr) -> Result<Request<()>, ProbeFailure> {
    let authority = request::authority(probe.host.as_deref(), address, probe.port, probe.tls.is_some());
    let uri = request::uri(probe.tls.is_some(), &authority, "/grpc.health.v1.Health/Check")?;
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(request::AGENT));
    for (name, value) in &probe.headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            return Err(ProbeFailure::local(format_args!(
                "the header {name:?} of the check is not valid in a request"
            )));
        };
        headers.insert(name, value);
    }
    Ok(request)
}

async fn call(
    probe: &GrpcProbe,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<()>,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    trace.enter(ProbeStep::Response);
    http2::converse(stream, MESSAGE_LIMIT, async |sender| {
        let (head, mut body) = http2::ask(sender, request, Some(question(&probe.service))).await?;
        if head.status.as_u16() != 200 {
            let refused = UnexpectedStatus::new(head.status.as_u16(), http2::location(&head), "200");
            let read =
                async |words: &mut Hearing<'_>, trace: &mut Trace| http2::read(&mut body, words, trace).await;
            return Err(refused.explained(trace, read).await);
        }
        // A call that fails at once has its status in the headers (Trailers-Only).
        judge_status(&head.headers)?;
        let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
        if !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            let kind = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            return Err(malformed(format_args!("its Content-Type is {}", excerpt(kind))));
        }
        trace.enter(ProbeStep::Body);
        let mut message = Hearing::of_message(MESSAGE_LIMIT);
        http2::read(&mut body, &mut message, trace).await?;
        if message.room() == 0 {
            return Err(malformed(format_args!("it is longer than {} KiB", MESSAGE_LIMIT / 1024)));
        }
        let trailers = body.trailers().await.map_err(|error| http2::fault(&error))?;
        judge_status(&trailers.unwrap_or_default())?;
        judge(message.kept())
    })
    .await
}

fn malformed(what: impl std::fmt::Display) -> ProbeFailure {
    ProbeFailure::new(Cause::Protocol, format!("the response is no gRPC message: {what}"))
}

/// A `HealthCheckRequest` with its prefix: field 1 is the service.
fn question(service: &str) -> Bytes {
    let mut content = Vec::with_capacity(service.len() + 6);
    if !service.is_empty() {
        content.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            content.push(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        content.push(length.to_le_bytes()[0]);
        content.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, &content].concat().into()
}

/// Checks the status of the call, as opposed to that of the service: the server may not know the service or the
/// call.
fn judge_status(headers: &HeaderMap) -> Result<(), ProbeFailure> {
    let Some(status) = headers.get("grpc-status") else { return Ok(()) };
    let status = status.as_bytes();
    if status == b"0" {
        return Ok(());
    }
    let mut detail = match std::str::from_utf8(status).ok().and_then(status_name) {
        Some(name) => format!("gRPC status {name}"),
        None => format!("gRPC status {}", excerpt(status)),
    };
    if let Some(message) = headers.get("grpc-message").filter(|message| !message.is_empty()) {
        detail.push_str(": ");
        detail.push_str(&excerpt(&Cow::from(percent_decode(message.as_bytes()))));
    }
    Err(ProbeFailure::new(Cause::Status, detail))
}

/// The names of the gRPC specification.
fn status_name(number: &str) -> Option<&'static str> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND (the backend does not know the service)",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED (the backend does not offer grpc.health.v1)",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(number.parse::<usize>().ok()?).copied()
}

/// Reads a `HealthCheckResponse` with its prefix: field 1 is the status.
fn judge(message: &[u8]) -> Result<Finding, ProbeFailure> {
    let [compressed, length @ ..] =
        message.first_chunk::<PREFIX>().ok_or_else(|| malformed("it ends too early"))?;
    if *compressed != 0 {
        return Err(malformed("it is compressed, which was not requested"));
    }
    let content = message.get(PREFIX..).unwrap_or_default();
    if content.len() != u32::from_be_bytes(*length) as usize {
        return Err(malformed("its length is not what it says"));
    }
    let status = status_of(content).ok_or_else(|| malformed("its content is no HealthCheckResponse"))?;
    let word = match status {
        1 => return Ok(Finding::passed("SERVING")),
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => return Err(malformed("its status has no name")),
    };
    Err(ProbeFailure::new(Cause::Status, format!("{word}, expected SERVING")))
}

/// The number in field 1; other fields are skipped. As in protocol buffers, the last one applies if there are
/// several, and the default is 0. None if the content is not a valid protocol buffer.
fn status_of(mut content: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !content.is_empty() {
        let key = varint(&mut content)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut content)?,
            (0 | 1, _) => return None,
            (_, 0) => drop(varint(&mut content)?),
            (_, 1) => content = content.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut content)?).ok()?;
                content = content.get(length..)?;
            }
            (_, 5) => content = content.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(content: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = content.split_first()?;
        *content = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_question_is_a_framed_message() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 303);
    }

    #[test]
    fn only_serving_passes() {
        let response =
            |content: &[u8]| judge(&[&[0, 0, 0, 0, u8::try_from(content.len()).unwrap()], content].concat());
        assert_eq!(response(&[8, 1]).unwrap().detail, "SERVING");
        assert_eq!(response(&[16, 9, 8, 1, 0x1a, 2, 0, 0]).unwrap().detail, "SERVING", "more fields");
        for (content, detail) in [
            (&[8, 2][..], "NOT_SERVING, expected SERVING"),
            (&[8, 0], "UNKNOWN, expected SERVING"),
            (&[], "UNKNOWN, expected SERVING"),
            (&[8, 1, 8, 3], "SERVICE_UNKNOWN, expected SERVING"),
        ] {
            let fault = response(content).unwrap_err();
            assert_eq!((fault.cause, &*fault.detail), (Cause::Status, detail));
        }
        for malformed in [&[8][..], &[8, 0x80], &[8, 9], &[10, 1, 1], &[0x1a, 200, 1], &[0x0b]] {
            assert_eq!(response(malformed).unwrap_err().cause, Cause::Protocol, "{malformed:?}");
        }
        for malformed in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 3, 8, 1]] {
            assert_eq!(judge(malformed).unwrap_err().cause, Cause::Protocol, "{malformed:?}");
        }
    }

    #[test]
    fn the_message_of_a_status_is_decoded() {
        for (text, decoded) in [("a%20b", "a b"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%41%42", "AB")] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static("14"));
            headers.insert("grpc-message", text.parse().unwrap());
            let detail = judge_status(&headers).unwrap_err().detail;
            assert_eq!(*detail, *format!("gRPC status UNAVAILABLE: \"{decoded}\""));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = judge(&bytes);
            let _ = status_of(&bytes);
        }
    }
}
