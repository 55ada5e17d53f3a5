//! `/api/v1/query-log` and `/api/v1/dnstap`: shows them, and switches them for a time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::asker::Asker;
use crate::admin::audit::{noted, wanted};
use crate::admin::overrides::{member, override_length};
use crate::admin::problem::Problem;
use crate::admin::{AdminState, Sources, json, read_body, status};
use crate::audit::{AuditAction, AuditEntry, AuditOutcome};
use crate::tap::SampleRate;
use crate::visibility::{NotSwitched, TapKind, TapStatus};

/// How long a tap is switched if the request does not say: so that nobody forgets it.
const DEFAULT_LENGTH: Duration = Duration::from_secs(600);

/// The body of a PUT.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchBody {
    sample: String,
    r#for: Option<String>,
}

/// The query log or dnstap.
#[derive(Serialize)]
struct TapDocument {
    on: bool,
    /// The share of the queries that are sampled now.
    sample: String,
    /// The share according to the configuration.
    configured: String,
    /// Until when an operator has switched it; null if the configuration decides.
    until: Option<Timestamp>,
    /// The client that has switched it.
    by: Option<String>,
    /// The file or the socket; null if there is none.
    destination: Option<String>,
    /// Samples since the start of the server.
    written: u64,
    dropped: u64,
}

impl From<TapStatus> for TapDocument {
    fn from(status: TapStatus) -> Self {
        let TapStatus { sample, configured, switched, destination, written, dropped } = status;
        let (until, by) = switched.unzip();
        Self {
            on: !sample.is_none(),
            sample: sample.to_string(),
            configured: configured.to_string(),
            until: until.and_then(status::timestamp),
            by,
            destination: destination.map(|path| path.display().to_string()),
            written,
            dropped,
        }
    }
}

pub(super) async fn query_log(State(sources): State<Sources>) -> Response {
    document(sources.visibility.status(TapKind::QueryLog))
}

pub(super) async fn dnstap(State(sources): State<Sources>) -> Response {
    document(sources.visibility.status(TapKind::Dnstap))
}

pub(super) async fn put_query_log(
    State(shown): State<AdminState>,
    asker: Asker,
    body: Body,
) -> Result<Response, Problem> {
    switch(&shown, TapKind::QueryLog, &asker, body).await
}

pub(super) async fn put_dnstap(
    State(shown): State<AdminState>,
    asker: Asker,
    body: Body,
) -> Result<Response, Problem> {
    switch(&shown, TapKind::Dnstap, &asker, body).await
}

pub(super) async fn delete_query_log(
    State(shown): State<AdminState>,
    asker: Asker,
) -> Result<Response, Problem> {
    end(&shown, TapKind::QueryLog, &asker)
}

pub(super) async fn delete_dnstap(
    State(shown): State<AdminState>,
    asker: Asker,
) -> Result<Response, Problem> {
    end(&shown, TapKind::Dnstap, &asker)
}

fn document(status: TapStatus) -> Response {
    json(&TapDocument::from(status))
}

/// The entry of the audit for a request.
fn entry_of(asker: &Asker, kind: TapKind, before: &TapStatus, after: String) -> AuditEntry {
    AuditEntry {
        action: match kind {
            TapKind::QueryLog => AuditAction::QueryLog,
            TapKind::Dnstap => AuditAction::Dnstap,
        },
        subject: String::new(),
        author: asker.into(),
        reason: None,
        before: Some(before.sample.to_string()),
        after: Some(after),
        outcome: AuditOutcome::Done,
    }
}

fn end(shown: &AdminState, kind: TapKind, asker: &Asker) -> Result<Response, Problem> {
    let visibility = &shown.sources.visibility;
    let before = visibility.status(kind);
    visibility.end(kind, &asker.to_string());
    let after = visibility.status(kind);
    let entry = entry_of(asker, kind, &before, after.sample.to_string());
    noted(shown, entry, Ok(document(after)))
}

async fn switch(shown: &AdminState, kind: TapKind, asker: &Asker, body: Body) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let request: SwitchBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::of_json("the body must be an object such as {\"sample\": \"10%\", \"for\": \"10m\"}", &error)
    })?;
    let rate: SampleRate = request
        .sample
        .parse()
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("`sample`: {error}")))?;
    let length = member("for", request.r#for.as_deref().map(override_length))?.unwrap_or(DEFAULT_LENGTH);
    let visibility = &shown.sources.visibility;
    let entry =
        entry_of(asker, kind, &visibility.status(kind), wanted(rate.to_string(), Some(length), false));
    let switched = visibility.switch(kind, rate, length, &asker.to_string());
    let outcome = switched.map(document).map_err(|refusal| {
        let status = match refusal {
            NotSwitched::NoFile | NotSwitched::NoSocket => StatusCode::CONFLICT,
            NotSwitched::Thread(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, refusal.to_string())
    });
    noted(shown, entry, outcome)
}
