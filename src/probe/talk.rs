//! A few words on an open connection, as `tcp` and `tls` probes exchange them.

use std::borrow::Cow;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::probe::expected::Expected;
use crate::probe::fault::Fault;
use crate::probe::hearing::Hearing;
use crate::probe::protocols::{self, Spoken};
use crate::probe::quote::{first_line, quote};
use crate::probe::{Cause, Step, Trace};

/// The most bytes that are listened to, 64 KiB.
pub(super) const HEARING_LIMIT: usize = 64 * 1024;

/// The most bytes that are read at once.
const READ: usize = 4 * 1024;

/// The words that a probe says on a connection, and those it must hear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Talk {
    /// Sent first.
    pub send: Option<Vec<u8>>,
    /// Must be found in the first 64 KiB of what comes back, before the backend closes and within the
    /// time limit. Nothing more is waited for once it is found.
    pub expect: Option<Expected>,
}

impl Talk {
    /// Whether nothing is said and nothing expected.
    pub(super) fn is_silent(&self) -> bool {
        self.send.is_none() && self.expect.is_none()
    }

    /// Whether the backend hears something at once, if only the end.
    pub(super) fn begins(&self) -> bool {
        self.send.is_some() || self.expect.is_none()
    }

    /// The detail in words when nothing was wrong.
    pub(super) fn in_words(&self, so_far: &'static str) -> Cow<'static, str> {
        match &self.expect {
            None => so_far.into(),
            Some(expected) => format!("{so_far}, heard {}", expected.in_words()).into(),
        }
    }
}

/// Says what is to be said and listens until what is expected has come.
pub(super) async fn talk(
    words: &Talk,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    trace: &mut Trace,
) -> Result<(), Fault> {
    if words.is_silent() {
        return Ok(());
    }
    trace.enter(Step::Request);
    if let Some(send) = &words.send {
        let broken = |error| Fault::broken(&error, "before everything was sent");
        stream.write_all(send).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
    }
    trace.rename(Step::Talk);
    let Some(expected) = &words.expect else { return Ok(()) };
    let mut hearing = Hearing::of_words(expected, HEARING_LIMIT);
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
            // Not every server says goodbye in TLS before it closes.
            Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Some(Err(error)) => {
                let fault = Fault::broken(&error, &format!("before {} was heard", expected.in_words()));
                return Err(fault.unanswered_if(hearing.kept().is_empty()));
            }
        }
    }
    if hearing.ends(trace).await? { Ok(()) } else { Err(missing(expected, &hearing)) }
}

/// Judges a backend that closed, or said more than is listened to, before it said what is expected.
fn missing(expected: &Expected, hearing: &Hearing<'_>) -> Fault {
    let (expected, heard) = (expected.in_words(), hearing.kept());
    if hearing.room() == 0 {
        let text = format!("{expected} was not in the first {} KiB", HEARING_LIMIT / 1024);
        return Fault::new(Cause::Body, text);
    }
    if heard.is_empty() {
        return Fault::new(
            Cause::Closed,
            format!("the connection was closed without a word, expected {expected}"),
        )
        .unanswered_if(true);
    }
    if protocols::of(heard) == Spoken::Tls {
        return Fault::new(Cause::Body, format!("{}; expected {expected}", protocols::SPEAKS_TLS));
    }
    Fault::new(Cause::Body, format!("heard {}, expected {expected}", quote(first_line(heard))))
}
