//! Replies for metrics, status, pools and services: all of them, or one by name. A pool requested
//! by name includes its history.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue, LINK};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::admin::AdminState;
use crate::admin::documents::ListPage;
use crate::admin::filters::{Accepted, Filter};
use crate::admin::listing::SERVICE_STATES;
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

/// The filters of each list.
const OF_POOLS: Accepted = Accepted { name: "name", has_sites: false, states: &[] };
const OF_BACKENDS: Accepted = Accepted { name: "backend", has_sites: true, states: &STANDINGS };
const OF_SERVICES: Accepted = Accepted { name: "name", has_sites: false, states: SERVICE_STATES };
const STANDINGS: [&str; 4] = ["healthy", "draining", "unhealthy", "unknown"];

pub(super) async fn pools(State(shown): State<AdminState>, uri: Uri) -> Result<Response, Problem> {
    if let Some(filter) = Filter::read(&uri, &OF_POOLS)? {
        return Ok(paged(shown.documents.pools_page(filter).await?));
    }
    let everything = shown.documents.everything().await?;
    Ok(reply(JSON, vec![everything.pools_head, everything.pools]))
}

pub(super) async fn pool(
    State(shown): State<AdminState>,
    name: Named,
    uri: Uri,
) -> Result<Response, Problem> {
    if let Some(filter) = Filter::read(&uri, &OF_BACKENDS)? {
        return Ok(paged(shown.documents.backends_page(named(name)?, filter).await?));
    }
    Ok(reply(JSON, vec![shown.documents.pool(named(name)?).await?]))
}

pub(super) async fn services(State(shown): State<AdminState>, uri: Uri) -> Result<Response, Problem> {
    if let Some(filter) = Filter::read(&uri, &OF_SERVICES)? {
        return Ok(paged(shown.documents.services_page(filter).await?));
    }
    Ok(reply(JSON, vec![shown.documents.services().await?]))
}

pub(super) async fn service(State(shown): State<AdminState>, name: Named) -> Result<Response, Problem> {
    Ok(reply(JSON, vec![shown.documents.service(named(name)?).await?]))
}

pub(super) fn named(name: Named) -> Result<String, Problem> {
    name.map(|Path(name)| name)
        .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))
}

/// A page, with the place of the next one (RFC 8288).
fn paged(ListPage { text, next }: ListPage) -> Response {
    let mut response = reply(JSON, vec![text]);
    if let Some(link) = next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    response
}

fn reply(content_type: &'static str, texts: Vec<Arc<Text>>) -> Response {
    ([(CONTENT_TYPE, content_type)], axum::body::Body::new(TextBody::new(texts))).into_response()
}
