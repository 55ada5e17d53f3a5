//! `/api/v1/services/{name}/failback` and `/failover`: operators' choice of the tier of a service.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::HeaderMap;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::asker::Asker;
use crate::admin::audit::{noted, wanted, words_of_failover};
use crate::admin::overrides::{Manner, bad, manner, member, override_length, override_reason, tagged};
use crate::admin::preconditions::precondition;
use crate::admin::preview::preview;
use crate::admin::problem::Problem;
use crate::admin::refused::{of_service, texts};
use crate::admin::resources::{Named, named};
use crate::admin::{AdminState, json, read_body, status};
use crate::audit::{AuditAction, AuditEntry, AuditOutcome};
use crate::checker::CheckerCommand;
use crate::fleet::{
    ChangeRequest, FailbackRequest, FailoverRequest, FailoverStatus, ServiceChanged, ServiceRequest,
};
use crate::name::Name;

/// The body of a failover.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailoverBody {
    pool: String,
    r#for: Option<String>,
    reason: Option<String>,
    /// Whether to do it even if the pool cannot answer.
    #[serde(default)]
    force: bool,
    /// Whether to tell the consequences and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// The service after the change, and the consequences.
#[derive(Serialize)]
struct ServiceReply<'a> {
    #[serde(flatten)]
    service: status::Service<'a>,
    /// The pool of the previous failover.
    before: Option<&'a str>,
    /// When the previous failover would have ended by itself.
    before_until: Option<Timestamp>,
    /// When clients no longer use the other pools.
    safe_at: Option<Timestamp>,
    consequences: Vec<&'a str>,
    survives_restart: bool,
    /// Why the change does not survive a restart.
    lost_because: Option<&'static str>,
}

pub(super) async fn fail_back(
    State(shown): State<AdminState>,
    asker: Asker,
    name: Named,
    uri: Uri,
    body: Body,
) -> Result<Response, Problem> {
    if !read_body(body).await?.trim_ascii().is_empty() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the body must be empty"));
    }
    let Manner { force, dry_run } = manner(uri.query())?;
    if force {
        return Err(bad("a failback cannot be forced: the query may only have `dry_run=true`"));
    }
    let service = service(&shown, &asker, AuditAction::Failback, name, dry_run).await?;
    let request = FailbackRequest { service, by: asker.to_string() };
    change(&shown, &asker, ServiceRequest::FailBack(request), dry_run, "").await
}

pub(super) async fn get(State(shown): State<AdminState>, name: Named) -> Result<Response, Problem> {
    let name = named(name)?;
    let failover = shown.documents.failover(name.clone()).await?;
    let failover = failover
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("the service {name} has no failover")))?;
    Ok(tagged(json(&status::FailoverShown::from(&failover)), Some(failover.version())))
}

pub(super) async fn fail_over(
    State(shown): State<AdminState>,
    asker: Asker,
    name: Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let wanted: FailoverBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::of_json(
            "the body must be an object such as {\"pool\": \"site-b\", \"for\": \"2h\", \"reason\": \"drill\"}",
            &error,
        )
    })?;
    let request = FailoverRequest {
        service: service(&shown, &asker, AuditAction::Failover, name, wanted.dry_run).await?,
        pool: Some(wanted.pool),
        length: member("for", wanted.r#for.as_deref().map(override_length))?,
        reason: member("reason", wanted.reason.as_deref().map(override_reason))?.flatten(),
        force: wanted.force,
        by: asker.to_string(),
        expected: precondition(&headers)?,
    };
    let to_force = "send `\"force\": true` in the body";
    change(&shown, &asker, ServiceRequest::FailOver(request), wanted.dry_run, to_force).await
}

pub(super) async fn end_failover(
    State(shown): State<AdminState>,
    asker: Asker,
    name: Named,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Manner { force, dry_run } = manner(uri.query())?;
    let service = service(&shown, &asker, AuditAction::Failover, name, dry_run).await?;
    let request = FailoverRequest {
        service,
        pool: None,
        length: None,
        reason: None,
        force,
        by: asker.to_string(),
        expected: precondition(&headers)?,
    };
    change(&shown, &asker, ServiceRequest::FailOver(request), dry_run, "add `?force=true`").await
}

/// The service of a request. One that does not exist makes the request an entry of the audit, unless it only asks.
async fn service(
    shown: &AdminState,
    asker: &Asker,
    action: AuditAction,
    name: Named,
    dry_run: bool,
) -> Result<Name, Problem> {
    let name = named(name)?;
    let found = shown.documents.service_named(name.clone()).await;
    if dry_run || found.is_ok() {
        return found;
    }
    noted(shown, AuditEntry::of(action, name, asker.into()), found)
}

/// `to_force` says how the client can force the request.
async fn change(
    shown: &AdminState,
    asker: &Asker,
    request: ServiceRequest,
    dry_run: bool,
    to_force: &str,
) -> Result<Response, Problem> {
    if dry_run {
        return preview(shown, ChangeRequest::Service(request), to_force).await;
    }
    let entry = entry_of(asker, &request);
    let asked = shown.sources.ask(|reply| CheckerCommand::ChangeService(request, reply)).await;
    let changed = asked.and_then(|changed| changed.map_err(|refused| of_service(refused, to_force)));
    let before = changed.as_ref().ok().map(|changed| words_of_failover(changed.before.as_ref()));
    let ServiceChanged { service, before, safe_at, consequences } =
        noted(shown, AuditEntry { before, ..entry }, changed)?;
    let lost_because = *shown.sources.lost_because.borrow();
    let version = service.failover.as_ref().map(FailoverStatus::version);
    let reply = json(&ServiceReply {
        service: status::Service::from(&service),
        before: before.as_ref().map(|before| &*before.pool),
        before_until: before.as_ref().and_then(|before| before.until).and_then(status::timestamp),
        safe_at: safe_at.and_then(status::timestamp),
        consequences: texts(&consequences),
        survives_restart: lost_because.is_none(),
        lost_because,
    });
    Ok(tagged(reply, version))
}

/// The entry of the audit for a request.
fn entry_of(asker: &Asker, request: &ServiceRequest) -> AuditEntry {
    let (action, service, after, reason) = match request {
        ServiceRequest::FailBack(FailbackRequest { service, by: _ }) => {
            (AuditAction::Failback, service, None, None)
        }
        ServiceRequest::FailOver(FailoverRequest { service, pool, length, reason, force, .. }) => {
            let pool = pool.clone().unwrap_or_else(|| "auto".into());
            (AuditAction::Failover, service, Some(wanted(pool, *length, *force)), reason.clone())
        }
    };
    AuditEntry {
        action,
        subject: service.to_plain().trim_end_matches('.').to_owned(),
        author: asker.into(),
        reason,
        before: None,
        after,
        outcome: AuditOutcome::Done,
    }
}
