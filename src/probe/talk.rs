//! Runs the exchange of bytes in a TCP or TLS probe.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::check::{Expected, TALK_LIMIT, Talk};
use crate::printable::excerpt;
use crate::probe::failure::ProbeFailure;
use crate::probe::hearing::Hearing;
use crate::probe::protocols::{self, Spoken};
use crate::probe::words::first_line;
use crate::probe::{Cause, Finding, ProbeStep, Trace};

/// Size of one read.
const READ: usize = 4 * 1024;

/// Sends the bytes, and reads until the expected ones arrive.
pub(super) async fn run(
    talk: &Talk,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    trace: &mut Trace,
) -> Result<(), ProbeFailure> {
    if talk.is_silent() {
        return Ok(());
    }
    trace.enter(ProbeStep::Request);
    if let Some(send) = &talk.send {
        let broken = |error| ProbeFailure::broken(&error, "before everything was sent");
        stream.write_all(send).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
    }
    trace.rename(ProbeStep::Talk);
    let Some(expected) = &talk.expect else { return Ok(()) };
    let mut hearing = Hearing::of_words(expected, TALK_LIMIT);
    let mut part = Vec::with_capacity(READ);
    while !hearing.is_enough(trace).await? {
        part.clear();
        match hearing.patiently(stream.read_buf(&mut part)).await {
            None => {}
            Some(Ok(1..)) => {
                trace.hear(&part);
                hearing.take(&part);
            }
            Some(Ok(0)) => break,
            // Some servers close a TLS connection without close_notify.
            Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Some(Err(error)) => {
                let fault =
                    ProbeFailure::broken(&error, &format!("before {} was heard", expected.in_words()));
                return Err(fault.unanswered_if(hearing.kept().is_empty()));
            }
        }
    }
    if hearing.ends(trace).await? { Ok(()) } else { Err(missing(expected, &hearing)) }
}

/// The finding after the exchange, if there was one; `so_far` says what succeeded before it.
pub(super) fn passed(talk: &Talk, so_far: &'static str) -> Finding {
    match &talk.expect {
        None => Finding::passed(so_far),
        Some(expected) => Finding::passed(format!("{so_far}, heard {}", expected.in_words())),
    }
}

/// The failure of a backend that closed the connection, or reached the limit, without sending the
/// expected content.
fn missing(expected: &Expected, hearing: &Hearing<'_>) -> ProbeFailure {
    let (expected, heard) = (expected.in_words(), hearing.kept());
    if hearing.room() == 0 {
        let text = format!("{expected} was not in the first {} KiB", TALK_LIMIT / 1024);
        return ProbeFailure::new(Cause::Body, text);
    }
    if heard.is_empty() {
        return ProbeFailure::new(
            Cause::Closed,
            format!("the connection was closed without a response, expected {expected}"),
        )
        .unanswered_if(true);
    }
    if protocols::of(heard) == Spoken::Tls {
        return ProbeFailure::new(Cause::Body, format!("{}; expected {expected}", protocols::SPEAKS_TLS));
    }
    ProbeFailure::new(Cause::Body, format!("heard {}, expected {expected}", excerpt(first_line(heard))))
}
