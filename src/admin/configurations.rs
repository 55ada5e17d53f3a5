//! `GET /api/v1/config`, the running configuration; `GET /api/v1/configurations`, the kept ones; `POST /api/v1/rollback`
//! goes back to one of them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::admin::asker::Asker;
use crate::admin::problem::Problem;
use crate::admin::reload::{ReloadReply, is_dry_run, problem};
use crate::admin::status::timestamp;
use crate::admin::{ANSWER_TIME, Sources, json, read_body};
use crate::audit::Author;
use crate::config::{SetOrigin, masked};
use crate::file::ReadFile;
use crate::reload::RunningSet;
use crate::sets::{self, SetFile};

/// The running configuration.
#[derive(Serialize)]
struct ConfigReply<'a> {
    #[serde(flatten)]
    set: RunningReply<'a>,
    /// The main file.
    file: Option<String>,
    files: Vec<FileReply>,
}

/// The running configuration without its files.
#[derive(Serialize)]
pub(super) struct RunningReply<'a> {
    loaded: Option<Timestamp>,
    by: &'a str,
    sha256: &'a str,
    number: Option<u64>,
    /// `files`, `rollback` or `last_good`.
    origin: &'static str,
    /// Says so if it is not that of the files on disk.
    notice: Option<String>,
}

#[derive(Serialize)]
struct FileReply {
    path: String,
    kind: &'static str,
    size: u64,
    modified: Option<Timestamp>,
    /// Not of secrets.
    sha256: Option<String>,
    /// Of files of the configuration itself, with secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// The kept configurations.
#[derive(Serialize)]
struct ConfigurationsReply {
    /// Newest first.
    configurations: Vec<KeptReply>,
}

#[derive(Serialize)]
struct KeptReply {
    number: u64,
    /// Whether it is the running one.
    running: bool,
    /// Why it cannot be used.
    damaged: Option<String>,
    loaded: Option<Timestamp>,
    by: Option<String>,
    sha256: Option<String>,
    /// The changes to the configuration before it.
    changes: Option<String>,
    /// Its files; one that is not kept is read from its place.
    files: Vec<SetFile>,
}

/// The body of a rollback.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    /// The number; without it, the one before the running one.
    to: Option<u64>,
}

/// The result of a rollback.
#[derive(Serialize)]
struct RollbackReply<'a> {
    #[serde(flatten)]
    report: ReloadReply<'a>,
    /// The number of the configuration.
    number: Option<u64>,
    /// When it was loaded first.
    loaded: Option<Timestamp>,
    /// Advice on the files on disk.
    advice: &'static str,
}

const ADVICE: &str = "the files on disk are as they were: correct them, because the next reload, upgrade or restart reads them";

impl<'a> From<&'a RunningSet> for RunningReply<'a> {
    fn from(set: &'a RunningSet) -> Self {
        Self {
            loaded: timestamp(set.loaded),
            by: &set.by,
            sha256: &set.sha256,
            number: set.number,
            origin: match set.origin {
                SetOrigin::Files => "files",
                SetOrigin::Rollback { .. } => "rollback",
                SetOrigin::LastGood { .. } => "last_good",
            },
            notice: set.notice(),
        }
    }
}

impl From<&ReadFile> for FileReply {
    fn from(file: &ReadFile) -> Self {
        let text = file.text.as_ref().map(|text| masked(&String::from_utf8_lossy(text)));
        Self {
            path: file.path.to_string_lossy().into_owned(),
            kind: file.kind.as_str(),
            size: file.size,
            modified: file.modified.and_then(timestamp),
            sha256: file.hash.map(|hash| HEXLOWER.encode(&hash)),
            text,
        }
    }
}

pub(super) async fn config(State(sources): State<Sources>) -> Result<Response, Problem> {
    let set = sources.reload.running();
    // The texts may be large, and this thread serves others.
    let reply = spawn_blocking(move || {
        let file = set.main.as_ref().map(|main| main.to_string_lossy().into_owned());
        let files = set.record.files.iter().map(FileReply::from).collect();
        json(&ConfigReply { set: RunningReply::from(&*set), file, files })
    });
    reply.await.map_err(|_| unreadable("rendering it panicked; this is a bug in steerd"))
}

pub(super) async fn list(State(sources): State<Sources>) -> Result<Response, Problem> {
    let running = sources.reload.running();
    let Some(place) = sources.reload.state_dir() else {
        return Ok(json(&ConfigurationsReply { configurations: Vec::new() }));
    };
    let listed = timeout(ANSWER_TIME, spawn_blocking(move || sets::list(place.directory())));
    let heads = match listed.await {
        Ok(Ok(Ok(heads))) => heads,
        Ok(Ok(Err(error))) => return Err(unreadable(&error.to_string())),
        Ok(Err(_)) => return Err(unreadable("reading them panicked; this is a bug in steerd")),
        Err(_) => return Err(unreadable("the file system does not answer")),
    };
    let configurations = heads.into_iter().map(|head| match head {
        Ok(head) => KeptReply {
            number: head.number,
            running: running.number == Some(head.number),
            damaged: None,
            loaded: Some(head.at),
            by: Some(head.by),
            sha256: Some(head.sha256),
            changes: Some(head.changes),
            files: head.files,
        },
        Err((number, reason)) => KeptReply {
            number,
            running: false,
            damaged: Some(reason),
            loaded: None,
            by: None,
            sha256: None,
            changes: None,
            files: Vec::new(),
        },
    });
    Ok(json(&ConfigurationsReply { configurations: configurations.collect() }))
}

fn unreadable(reason: &str) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("the configurations in state_dir cannot be read: {reason}"),
    )
}

pub(super) async fn rollback(
    State(sources): State<Sources>,
    asker: Asker,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let wanted = if body.is_empty() { Ok(RollbackBody::default()) } else { serde_json::from_slice(&body) };
    let wanted = wanted.map_err(|error| {
        Problem::of_json("the body must be empty, or an object such as {\"to\": 12}", &error)
    })?;
    let is_dry_run = is_dry_run(query.as_deref())?;
    let report = sources.reload.roll_back(Author::from(&asker), wanted.to, is_dry_run).await;
    let report = Arc::new(report.map_err(|refusal| problem(&refusal))?);
    let loaded = match &report.origin {
        SetOrigin::Rollback { at, .. } => Some(*at),
        _ => None,
    };
    Ok(json(&RollbackReply {
        report: ReloadReply::from(&*report),
        number: report.number,
        loaded,
        advice: ADVICE,
    }))
}
