//! Replies for metrics, status, pools and services: all of them, or one by name. A pool requested
//! by name includes its history.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::admin::AdminState;
use crate::admin::problem::Problem;
use crate::admin::text::{Text, TextBody};

/// The content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// The requested name.
pub(super) type Named = Result<Path<String>, PathRejection>;

pub(super) async fn metrics(State(shown): State<AdminState>) -> Result<Response, Problem> {
    Ok(reply(METRICS_TYPE, vec![shown.documents.numbers().await?]))
}

pub(super) async fn status(State(shown): State<AdminState>) -> Result<Response, Problem> {
    let everything = shown.documents.everything().await?;
    Ok(reply(JSON, vec![everything.status_head, everything.pools]))
}

pub(super) async fn pools(State(shown): State<AdminState>) -> Result<Response, Problem> {
    let everything = shown.documents.everything().await?;
    Ok(reply(JSON, vec![everything.pools_head, everything.pools]))
}

pub(super) async fn pool(State(shown): State<AdminState>, name: Named) -> Result<Response, Problem> {
    Ok(reply(JSON, vec![shown.documents.pool(named(name)?).await?]))
}

pub(super) async fn services(State(shown): State<AdminState>) -> Result<Response, Problem> {
    Ok(reply(JSON, vec![shown.documents.services().await?]))
}

pub(super) async fn service(State(shown): State<AdminState>, name: Named) -> Result<Response, Problem> {
    Ok(reply(JSON, vec![shown.documents.service(named(name)?).await?]))
}

pub(super) fn named(name: Named) -> Result<String, Problem> {
    name.map(|Path(name)| name)
        .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))
}

fn reply(content_type: &'static str, texts: Vec<Arc<Text>>) -> Response {
    ([(CONTENT_TYPE, content_type)], axum::body::Body::new(TextBody::new(texts))).into_response()
}
