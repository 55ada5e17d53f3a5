//! `/api/v1/pools` and `/api/v1/services`: the objects of the status, all, or one; a pool that is asked
//! for by name comes with its history.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::admin::problem::Problem;
use crate::admin::{Source, json, no_such, status};
use crate::checker::Command;

/// The one that is asked for.
type Named = Result<Path<String>, PathRejection>;

#[derive(Serialize)]
struct Pools<'a> {
    generation: u64,
    pools: Vec<status::Pool<'a>>,
}

#[derive(Serialize)]
struct Services<'a> {
    generation: u64,
    services: Vec<status::Service<'a>>,
}

pub(super) async fn pools(State(source): State<Source>) -> Result<Response, Problem> {
    let status = source.ask(Command::Status).await?;
    let pools = status.pools.iter().map(status::Pool::now).collect();
    Ok(json(&Pools { generation: status.generation, pools }))
}

pub(super) async fn pool(State(source): State<Source>, name: Named) -> Result<Response, Problem> {
    let name = named(name)?;
    if let Some(pool) = source.ask(|reply| Command::Pool(name.clone(), reply)).await? {
        return Ok(json(&status::Pool::with_history(&pool)));
    }
    let status = source.ask(Command::Status).await?;
    Err(no_such(&format!("pool `{name}`"), &name, status.pools.iter().map(|pool| &*pool.name)))
}

pub(super) async fn services(State(source): State<Source>) -> Result<Response, Problem> {
    let status = source.ask(Command::Status).await?;
    let services = status.services.iter().map(status::Service::from).collect();
    Ok(json(&Services { generation: status.generation, services }))
}

/// By name in any case, with or without the final dot.
pub(super) async fn service(State(source): State<Source>, name: Named) -> Result<Response, Problem> {
    let name = named(name)?;
    let wanted = name.strip_suffix('.').unwrap_or(&name);
    let status = source.ask(Command::Status).await?;
    match status.services.iter().find(|service| status::service_name(service).eq_ignore_ascii_case(wanted)) {
        Some(service) => Ok(json(&status::Service::from(service))),
        None => Err(no_such(
            &format!("service `{wanted}`"),
            wanted,
            status.services.iter().map(status::service_name),
        )),
    }
}

fn named(name: Named) -> Result<String, Problem> {
    name.map(|Path(name)| name)
        .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))
}
