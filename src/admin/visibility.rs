//! `/api/v1/query-log` and `/api/v1/dnstap`: shows them, and switches them for a time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::asker::Asker;
use crate::admin::overrides::{member, override_length};
use crate::admin::problem::Problem;
use crate::admin::{Sources, json, read_body, status};
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
    /// Who has switched it.
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
    shown(sources.visibility.status(TapKind::QueryLog))
}

pub(super) async fn dnstap(State(sources): State<Sources>) -> Response {
    shown(sources.visibility.status(TapKind::Dnstap))
}

pub(super) async fn put_query_log(
    State(sources): State<Sources>,
    asker: Asker,
    body: Body,
) -> Result<Response, Problem> {
    switch(&sources, TapKind::QueryLog, &asker, body).await
}

pub(super) async fn put_dnstap(
    State(sources): State<Sources>,
    asker: Asker,
    body: Body,
) -> Result<Response, Problem> {
    switch(&sources, TapKind::Dnstap, &asker, body).await
}

pub(super) async fn delete_query_log(State(sources): State<Sources>, asker: Asker) -> Response {
    end(&sources, TapKind::QueryLog, &asker)
}

pub(super) async fn delete_dnstap(State(sources): State<Sources>, asker: Asker) -> Response {
    end(&sources, TapKind::Dnstap, &asker)
}

fn shown(status: TapStatus) -> Response {
    json(&TapDocument::from(status))
}

fn end(sources: &Sources, kind: TapKind, asker: &Asker) -> Response {
    sources.visibility.end(kind, &asker.to_string());
    shown(sources.visibility.status(kind))
}

async fn switch(sources: &Sources, kind: TapKind, asker: &Asker, body: Body) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let wanted: SwitchBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::of_json("the body must be an object such as {\"sample\": \"10%\", \"for\": \"10m\"}", &error)
    })?;
    let rate = wanted
        .sample
        .parse()
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("`sample`: {error}")))?;
    let length = member("for", wanted.r#for.as_deref().map(override_length))?.unwrap_or(DEFAULT_LENGTH);
    let switched = sources.visibility.switch(kind, rate, length, &asker.to_string());
    switched.map(shown).map_err(|refusal| {
        let status = match refusal {
            NotSwitched::NoFile | NotSwitched::NoSocket => StatusCode::CONFLICT,
            NotSwitched::Thread(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, refusal.to_string())
    })
}
