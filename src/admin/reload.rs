//! `POST /api/v1/reload`: the result of a reload or of its rehearsal, or every fault of the configuration.

use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::admin::asker::Asker;
use crate::admin::problem::Problem;
use crate::admin::{Sources, json, read_body};
use crate::audit::Author;
use crate::config::fault::ConfigFault;
use crate::reload::Change;
use crate::reload::{ReloadRefusal, ReloadReport};

/// The changes of one kind of item.
#[derive(Serialize)]
struct Changes<'a> {
    added: Vec<&'a str>,
    removed: Vec<&'a str>,
    changed: Vec<Changed<'a>>,
}

/// A changed item; the details are for people.
#[derive(Serialize)]
struct Changed<'a> {
    name: &'a str,
    details: &'a [String],
}

/// The result of a reload.
#[derive(Serialize)]
pub(super) struct ReloadReply<'a> {
    generation: u64,
    /// Whether anything has changed, or would change after a restart.
    changed: bool,
    pools: Changes<'a>,
    services: Changes<'a>,
    zones: Changes<'a>,
    overrides: Changes<'a>,
    keys: Changes<'a>,
    server: Changes<'a>,
    admin: Changes<'a>,
    geo: Changes<'a>,
    alerts: Changes<'a>,
    restart_needed: Vec<Changed<'a>>,
    warnings: Vec<&'a ConfigFault>,
}

/// The request body. Without a body, the running file is reloaded.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadBody {
    /// The absolute path of the configuration that the client means.
    file: Option<PathBuf>,
}

pub(super) async fn reload(
    State(sources): State<Sources>,
    asker: Asker,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let by = Author::from(&asker);
    let body = read_body(body).await?;
    let wanted = if body.is_empty() { Ok(ReloadBody::default()) } else { serde_json::from_slice(&body) };
    let wanted = wanted.map_err(|error| {
        Problem::of_json(
            "the body must be empty, or an object such as {\"file\": \"/etc/steerd/steerd.toml\"}",
            &error,
        )
    })?;
    let outcome = if is_dry_run(query.as_deref())? {
        sources.reload.rehearse(by, wanted.file).await
    } else {
        sources.reload.reload(by, wanted.file).await
    };
    match outcome {
        Ok(report) => Ok(json(&ReloadReply::from(&report))),
        Err(refusal) => Err(problem(&refusal)),
    }
}

/// Whether a query asks only for the changes.
pub(super) fn is_dry_run(query: Option<&str>) -> Result<bool, Problem> {
    match query {
        None | Some("" | "dry_run=false") => Ok(false),
        Some("dry_run=true") => Ok(true),
        Some(_) => {
            let detail = "the query must be empty, or `dry_run=true`";
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

pub(super) fn problem(refusal: &ReloadRefusal) -> Problem {
    let status = match refusal {
        ReloadRefusal::Faults(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadRefusal::NoFile
        | ReloadRefusal::NoSet(_)
        | ReloadRefusal::OtherFile { .. }
        | ReloadRefusal::StateDir(_) => StatusCode::CONFLICT,
        ReloadRefusal::BrokeOff => StatusCode::INTERNAL_SERVER_ERROR,
        ReloadRefusal::Unwanted | ReloadRefusal::Ending => StatusCode::SERVICE_UNAVAILABLE,
    };
    let problem = Problem::new(status, refusal.to_string());
    match refusal {
        ReloadRefusal::Faults(faults) => problem
            .member("errors", faults.errors().collect::<Vec<_>>())
            .member("warnings", faults.warnings().collect::<Vec<_>>()),
        _ => problem,
    }
}

impl<'a> From<&'a ReloadReport> for ReloadReply<'a> {
    fn from(report: &'a ReloadReport) -> Self {
        Self {
            generation: report.generation,
            changed: !report.is_empty(),
            pools: Changes::from(&*report.pools),
            services: Changes::from(&*report.services),
            zones: Changes::from(&*report.zones),
            overrides: Changes::from(&*report.overrides),
            keys: Changes::from(&*report.keys),
            server: Changes::from(&*report.server),
            admin: Changes::from(&*report.admin),
            geo: Changes::from(&*report.geo),
            alerts: Changes::from(&*report.alerts),
            restart_needed: Changes::from(&*report.restart_needed).changed,
            warnings: report.warnings.iter().collect(),
        }
    }
}

impl<'a> From<&'a [Change]> for Changes<'a> {
    fn from(changes: &'a [Change]) -> Self {
        let mut sorted = Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new() };
        for change in changes {
            match change {
                Change::Added(name) => sorted.added.push(name),
                Change::Removed(name) => sorted.removed.push(name),
                Change::Changed(name, details) => sorted.changed.push(Changed { name, details }),
            }
        }
        sorted
    }
}
