//! Why a change of a backend or a service is refused, as problems; and its consequences as texts.

use axum::http::StatusCode;

use crate::admin::problem::Problem;
use crate::admin::{AdminState, no_such};
use crate::fleet::{Consequence, OverrideRefused, ServiceRefused};

/// `to_force` says how the client can force the request.
pub(super) async fn of_override(shown: &AdminState, refused: OverrideRefused, to_force: &str) -> Problem {
    match refused {
        OverrideRefused::TakesAway(consequences) => {
            let consequences = texts(&consequences);
            let detail = format!(
                "nothing has changed, because this would interrupt service: {}; to do it anyway, \
                 {to_force}",
                consequences.join("; ")
            );
            Problem::new(StatusCode::CONFLICT, detail).member("consequences", consequences)
        }
        OverrideRefused::NoSuchBackend { pool, backend } => shown.documents.no_backend(pool, backend).await,
    }
}

/// See [`of_override`].
pub(super) fn of_service(refused: ServiceRefused, to_force: &str) -> Problem {
    let conflict = |detail: String| Problem::new(StatusCode::CONFLICT, detail);
    match refused {
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

pub(super) fn texts(consequences: &[Consequence]) -> Vec<&str> {
    consequences.iter().map(|consequence| &*consequence.text).collect()
}
