//! Why a change of a backend or a service is refused, as problems; and its consequences as texts.

use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderValue};
use serde::Serialize;

use crate::admin::preconditions::entity_tag;
use crate::admin::problem::Problem;
use crate::admin::{AdminState, no_such, status};
use crate::fleet::{
    BackendSelection, BulkRefused, Consequence, MOST_OVERRIDES_AT_ONCE, OverrideRefused, OverrideVersion,
    SelectedBy, ServiceRefused,
};

/// `to_force` says how the client can force the request.
pub(super) async fn of_override(shown: &AdminState, refused: OverrideRefused, to_force: &str) -> Problem {
    match refused {
        OverrideRefused::TakesAway(consequences) => takes_away(&consequences, to_force),
        OverrideRefused::Unexpected(present) => {
            unexpected(present.as_deref().map(|present| (present.version(), status::Override::from(present))))
        }
        OverrideRefused::NoSuchBackend { pool, backend } => shown.documents.no_backend(pool, backend).await,
    }
}

/// See [`of_override`].
pub(super) fn of_service(refused: ServiceRefused, to_force: &str) -> Problem {
    let conflict = |detail: String| Problem::new(StatusCode::CONFLICT, detail);
    match refused {
        ServiceRefused::Unexpected(present) => unexpected(
            present.as_deref().map(|present| (present.version(), status::FailoverShown::from(present))),
        ),
        ServiceRefused::NoSuchService => {
            Problem::new(StatusCode::NOT_FOUND, "a reload has just removed this service")
        }
        ServiceRefused::NoSuchPool { pool, pools } => {
            no_such(&format!("pool `{pool}` in this service"), &pool, pools.iter().map(|pool| &**pool))
        }
        ServiceRefused::NotUsable(pools) => conflict(format!(
            "nothing has changed: the service cannot return to an earlier tier, because none is usable ({})",
            pools.join(", ")
        )),
        ServiceRefused::Failover(pool) => conflict(format!(
            "nothing has changed: a failover to the pool `{pool}` decides which tier answers; end it first"
        )),
        ServiceRefused::TakesAway(consequences) => {
            let consequences = texts(&consequences);
            let detail = format!(
                "nothing has changed, because the pool cannot answer or clients would lose something: {}; to do it \
                 anyway, {to_force}",
                consequences.join("; ")
            );
            conflict(detail).member("consequences", consequences)
        }
    }
}

/// See [`of_override`].
pub(super) fn of_bulk(refused: BulkRefused, selection: &BackendSelection, to_force: &str) -> Problem {
    match refused {
        BulkRefused::TakesAway(consequences) => takes_away(&consequences, to_force),
        BulkRefused::TooMany(count) => {
            let detail = format!(
                "nothing has changed: this selects {count} backends, and a request may change at most \
                 {MOST_OVERRIDES_AT_ONCE}; select fewer"
            );
            Problem::new(StatusCode::BAD_REQUEST, detail)
        }
        BulkRefused::Nothing { by, known } => {
            let BackendSelection { pool, backend, site } = selection;
            let site = site.as_deref().unwrap_or_default();
            let (what, name) = match by {
                SelectedBy::Pool => (format!("pool `{}`", pool.as_str()), pool.as_str()),
                SelectedBy::Backend => (
                    format!("backend `{}` in the pools `{}`", backend.as_str(), pool.as_str()),
                    backend.as_str(),
                ),
                SelectedBy::Site => (format!("site `{site}` of these backends"), site),
            };
            no_such(&what, name, known.iter().map(|name| &**name))
        }
    }
}

/// The problem that an override or a failover is another one than the client knows of.
fn unexpected(present: Option<(OverrideVersion, impl Serialize)>) -> Problem {
    let precondition_failed = |detail: &str| Problem::new(StatusCode::PRECONDITION_FAILED, detail);
    let Some((version, present)) = present else {
        let detail = "nothing has changed, because there is none any more: it has ended, or another operator has ended it";
        return precondition_failed(detail).member("current", ());
    };
    let detail = "nothing has changed, because another operator has changed it meanwhile: `current` says what it is, \
                  since when, by whom and why";
    let problem = precondition_failed(detail).member("current", present);
    match HeaderValue::try_from(entity_tag(version)) {
        Ok(tag) => problem.header(ETAG, tag),
        Err(_) => problem,
    }
}

fn takes_away(consequences: &[Consequence], to_force: &str) -> Problem {
    let consequences = texts(consequences);
    let detail = format!(
        "nothing has changed, because this would interrupt service: {}; to do it anyway, {to_force}",
        consequences.join("; ")
    );
    Problem::new(StatusCode::CONFLICT, detail).member("consequences", consequences)
}

pub(super) fn texts(consequences: &[Consequence]) -> Vec<&str> {
    consequences.iter().map(|consequence| &*consequence.text).collect()
}
