//! An HTTP status that is not accepted, explained by the target of a redirect or the first words of the body.
//!
//! Only the status decides. The words are for the reader of the report, so the probe waits for them only briefly, and
//! errors in them do not change the verdict.

use std::time::Duration;

use hyper::StatusCode;

use crate::printable::excerpt;
use crate::probe::failure::ProbeFailure;
use crate::probe::hearing::Hearing;
use crate::probe::protocols;
use crate::probe::tls_error::{self, ClientCertificate};
use crate::probe::words::words;
use crate::probe::{Cause, Trace};

/// How much of the body is read to get its first words.
const WORDS_LIMIT: usize = 4 * 1024;

/// How long to wait for the body.
const WORDS_PATIENCE: Duration = Duration::from_millis(100);

/// A status that is not accepted.
pub(super) struct UnexpectedStatus {
    status: u16,
    detail: String,
    redirects: bool,
}

impl UnexpectedStatus {
    /// `location` is the target of a redirect, and `expected` are the accepted status codes.
    pub(super) fn new(status: u16, location: Option<&[u8]>, expected: &str) -> Self {
        let mut detail = format!("status {}, expected {expected}", in_words(status));
        if let Some(location) = location {
            detail.push_str("; it points to ");
            detail.push_str(&excerpt(&without_query(location)));
        }
        Self { status, detail, redirects: location.is_some() }
    }

    /// Reads the body with `read`, and adds its first words.
    pub(super) async fn explained(
        self,
        trace: &mut Trace,
        read: impl AsyncFnOnce(&mut Hearing<'_>, &mut Trace) -> Result<(), ProbeFailure>,
    ) -> ProbeFailure {
        trace.verdict = Some(Box::new(ProbeFailure::new(Cause::Status, self.detail.clone())));
        let mut body = Hearing::of_message(WORDS_LIMIT);
        let _ = tokio::time::timeout(WORDS_PATIENCE, read(&mut body, trace)).await;
        trace.verdict = None;
        let mut detail = self.detail;
        let words = words(body.kept());
        if !words.is_empty() && !self.redirects {
            detail.push_str("; the body begins with ");
            detail.push_str(&excerpt(&words));
        }
        if trace.client == ClientCertificate::Missing && (400..=499).contains(&self.status) {
            detail.push_str("; ");
            detail.push_str(tls_error::MISSING);
        } else if self.status == 400 && protocols::says_that_port_is_tls(body.kept()) {
            detail.push_str("; ");
            detail.push_str(protocols::SPEAKS_TLS);
        }
        ProbeFailure::new(Cause::Status, detail)
    }
}

/// A query may contain secrets, and may differ each time.
fn without_query(location: &[u8]) -> Vec<u8> {
    match location.iter().position(|byte| *byte == b'?') {
        Some(at) => [location.get(..at).unwrap_or_default(), b"?..."].concat(),
        None => location.to_vec(),
    }
}

/// The code with its registered reason; the backend's own reason phrase is not shown.
pub(super) fn in_words(status: u16) -> String {
    match StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}
