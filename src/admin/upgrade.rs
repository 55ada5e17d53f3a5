//! `POST /api/v1/upgrade`: lets a new process of the program take over.

use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::admin::asker::Asker;
use crate::admin::problem::Problem;
use crate::admin::{Sources, json};
use crate::audit::Author;
use crate::upgrade::{ChangeGate, UpgradeRefused, UpgradeReport};

/// The path of the request, which is also allowed while an upgrade is under way.
const PATH: &str = "/api/v1/upgrade";
/// When a client should send a change again, seconds.
const AGAIN_AFTER: u32 = 5;

/// The result of an upgrade.
#[derive(Serialize)]
struct UpgradeReply {
    pid: u32,
    version: String,
    took_seconds: f64,
    connections: usize,
}

pub(super) async fn upgrade(State(sources): State<Sources>, asker: Asker) -> Result<Response, Problem> {
    match sources.upgrade.upgrade(Author::from(&asker)).await {
        Ok(UpgradeReport { pid, version, took, connections }) => {
            Ok(json(&UpgradeReply { pid, version, took_seconds: took.as_secs_f64(), connections }))
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

/// Refuses changes while the state is handed over to another process, which would not have them.
pub(super) async fn keep_out(State(changes): State<ChangeGate>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads || request.uri().path() == PATH {
        return next.run(request).await;
    }
    match changes.begin() {
        Some(_change) => next.run(request).await,
        None => {
            let detail =
                "an upgrade is under way, so nothing has changed; send the request again in a few seconds";
            let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
            response.headers_mut().insert(RETRY_AFTER, AGAIN_AFTER.into());
            response
        }
    }
}
