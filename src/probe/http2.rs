//! HTTP/2 as probes need it: one request on a new connection.
//!
//! The probe itself drives the connection, not a task, so that nothing of it outlives the probe. Everything that is
//! read is counted, because a backend can send frames without headers or body endlessly.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use h2::client::{self, SendRequest};
use h2::{Error, Reason, RecvStream};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderValue, LOCATION};
use hyper::http::response::Parts;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::printable::excerpt;
use crate::probe::failure::ProbeFailure;
use crate::probe::hearing::Hearing;
use crate::probe::limited::{FirstBytes, HEADER_LIMIT, Limited};
use crate::probe::protocols::{self, Spoken};
use crate::probe::words::first_line;
use crate::probe::{Cause, Trace};

/// How many bytes a backend may send in addition to the body: headers, trailers and framing.
const BESIDES: usize = 2 * HEADER_LIMIT;

/// The initial window of every connection (RFC 9113, section 6.9.2); a smaller one takes effect only after a SETTINGS
/// exchange.
const WINDOW: usize = 65_535;

/// Speaks HTTP/2 on `stream` until `speak` is done, and reads up to `body` bytes of bodies.
pub(super) async fn converse<T>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    body: usize,
    speak: impl AsyncFnOnce(SendRequest<Bytes>) -> Result<T, ProbeFailure>,
) -> Result<T, ProbeFailure> {
    let window = u32::try_from(body.max(WINDOW)).unwrap_or(u32::MAX);
    let (stream, beginning) = Limited::new(stream, body.max(WINDOW) + BESIDES).remembering();
    let (sender, connection) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(window)
        .initial_connection_window_size(window)
        .max_header_list_size(u32::try_from(HEADER_LIMIT).unwrap_or(u32::MAX))
        .handshake(stream)
        .await
        .map_err(|error| fault(&error).unanswered_if(true))?;
    // An error of the connection also ends the request or the body, and is reported there.
    let drive = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        finding = speak(sender) => finding.map_err(|fault| {
            another_protocol(&beginning).unwrap_or(fault.unanswered_if(beginning.bytes().is_empty()))
        }),
        never = drive => match never {},
    }
}

/// The failure of a backend that uses another protocol, if its first bytes show which.
fn another_protocol(beginning: &FirstBytes) -> Option<ProbeFailure> {
    let words = match protocols::of(beginning.bytes()) {
        Spoken::Tls => protocols::SPEAKS_TLS.to_owned(),
        Spoken::Http1 => {
            format!("the backend speaks HTTP/1.1; it sent {}", excerpt(first_line(beginning.bytes())))
        }
        Spoken::Other => format!("it begins with {}", excerpt(first_line(beginning.bytes()))),
        Spoken::Nothing | Spoken::Http2 => return None,
    };
    Some(ProbeFailure::new(Cause::Protocol, format!("the response is not HTTP/2: {words}")))
}

/// Whether the head tells where the body ends.
pub(super) fn tells_length(head: &Parts, body: &RecvStream) -> bool {
    body.is_end_stream() || head.headers.contains_key(CONTENT_LENGTH)
}

/// The target of a redirect.
pub(super) fn location(head: &Parts) -> Option<&[u8]> {
    head.headers.get(LOCATION).filter(|_| head.status.is_redirection()).map(HeaderValue::as_bytes)
}

/// Sends a request, with content if there is any, and waits for the head of the response.
pub(super) async fn ask(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    content: Option<Bytes>,
) -> Result<(Parts, RecvStream), ProbeFailure> {
    let mut sender = sender.ready().await.map_err(|error| fault(&error))?;
    let (response, mut stream) =
        sender.send_request(request, content.is_none()).map_err(|error| fault(&error))?;
    if let Some(content) = content {
        stream.send_data(content, true).map_err(|error| fault(&error))?;
    }
    Ok(response.await.map_err(|error| fault(&error))?.into_parts())
}

/// Reads a body to its end, or until `hearing` has enough.
pub(super) async fn read(
    body: &mut RecvStream,
    hearing: &mut Hearing<'_>,
    trace: &mut Trace,
) -> Result<(), ProbeFailure> {
    while !hearing.is_enough(trace).await? {
        let Some(data) = hearing.patiently(body.data()).await else { continue };
        let Some(data) = data else { break };
        hearing.take(&data.map_err(|error| fault(&error))?);
    }
    Ok(())
}

/// The failure for an error on an HTTP/2 connection.
pub(super) fn fault(error: &Error) -> ProbeFailure {
    if let Some(error) = error.get_io() {
        return match error.kind() {
            // h2 reports a connection that closes within a frame in this way: "bytes remaining on stream".
            io::ErrorKind::Other => {
                ProbeFailure::new(Cause::Closed, "the connection was closed before the response was complete")
            }
            _ => ProbeFailure::broken(error, "before the response was complete"),
        };
    }
    let reason = error.reason().map_or_else(|| error.to_string(), in_words);
    if !error.is_remote() {
        let text = format!("the response is not HTTP/2: {reason}");
        return ProbeFailure::new(Cause::Protocol, text);
    }
    if error.is_go_away() {
        let text = format!("the backend ended the connection of HTTP/2 (GOAWAY: {reason})");
        return ProbeFailure::new(Cause::Closed, text);
    }
    ProbeFailure::new(Cause::Reset, format!("the backend cancelled the request (RST_STREAM: {reason})"))
}

/// The name of an error code (RFC 9113, section 7).
fn in_words(reason: Reason) -> String {
    // For example PROTOCOL_ERROR; h2 shows a code without a name as `Reason(2a)`.
    let name = format!("{reason:?}");
    if name.starts_with("Reason(") { format!("error {}", u32::from(reason)) } else { name }
}
