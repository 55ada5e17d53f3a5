//! `POST /api/v1/upgrade`: lets a new process of the program take over.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::admin::asker::Asker;
use crate::admin::problem::Problem;
use crate::admin::{Sources, json, read_body};
use crate::audit::Author;
use crate::upgrade::{ChangeGate, UpgradeRefused, UpgradeReport};

/// The path of the request, which is also allowed while an upgrade is under way.
const PATH: &str = "/api/v1/upgrade";
/// The paths of the requests that are cancelled if their client disconnects early.
const RELOADS: [&str; 2] = ["/api/v1/reload", "/api/v1/rollback"];
/// How many changes may be under way at most, besides reloads. Clients that disconnect leave theirs behind.
const MOST_CHANGES: usize = 256;
/// When a client should send a change again, seconds.
const AGAIN_AFTER: u32 = 5;

/// The result of an upgrade.
#[derive(Serialize)]
struct UpgradeReply {
    pid: u32,
    version: String,
    took_seconds: f64,
    connections: usize,
    /// Says so if the process before ran a configuration other than that of the files on disk.
    warning: Option<String>,
}

pub(super) async fn upgrade(State(sources): State<Sources>, asker: Asker) -> Result<Response, Problem> {
    match sources.upgrade.upgrade(Author::from(&asker)).await {
        Ok(UpgradeReport { pid, version, took, connections, warning }) => {
            let took_seconds = took.as_secs_f64();
            Ok(json(&UpgradeReply { pid, version, took_seconds, connections, warning }))
        }
        Err(refused) => {
            let status = match refused {
                // It would be refused again.
                UpgradeRefused::FirstProcess | UpgradeRefused::Protocol { .. } => StatusCode::CONFLICT,
                UpgradeRefused::Busy | UpgradeRefused::NotServing => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_GATEWAY,
            };
            Err(Problem::new(status, refused.to_string()))
        }
    }
}

/// The changes that are under way.
#[derive(Clone, Debug)]
pub(super) struct ChangesUnderWay {
    gate: ChangeGate,
    places: Arc<Semaphore>,
}

impl ChangesUnderWay {
    pub(super) fn new(gate: ChangeGate) -> Self {
        Self { gate, places: Arc::new(Semaphore::new(MOST_CHANGES)) }
    }
}

/// Refuses changes while the state is handed over to another process, which would not have them. A change that has begun
/// goes on to its end, even if its client disconnects: the checker carries it out in any case, and the audit must have
/// its entry. A reload ends with its client instead.
pub(super) async fn keep_out(
    State(under_way): State<ChangesUnderWay>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads || request.uri().path() == PATH {
        return next.run(request).await;
    }
    let ends_with_client = RELOADS.contains(&request.uri().path());
    // A change that has begun never waits for its client.
    let (head, body) = request.into_parts();
    let request = match read_body(body).await {
        Ok(body) => Request::from_parts(head, body.into()),
        Err(problem) => return problem.into_response(),
    };
    let Some(change) = under_way.gate.begin() else {
        let detail =
            "an upgrade is under way, so nothing has changed; send the request again in a few seconds";
        let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
        response.headers_mut().insert(RETRY_AFTER, AGAIN_AFTER.into());
        return response;
    };
    if ends_with_client {
        return next.run(request).await;
    }
    let Ok(place) = under_way.places.try_acquire_owned() else {
        let detail = format!("{MOST_CHANGES} changes are under way already, so nothing has changed");
        return Problem::busy(detail).into_response();
    };
    let work = tokio::spawn(async move {
        let _held = (change, place);
        next.run(request).await
    });
    work.await.unwrap_or_else(|_| {
        let detail = "the change panicked, and may have been made or not; this is a bug in steerd";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
    })
}
