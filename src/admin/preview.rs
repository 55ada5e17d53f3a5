//! Requests with `dry_run`: the consequences of a change, without it.

use axum::response::Response;
use serde::Serialize;

use crate::admin::problem::Problem;
use crate::admin::refused::{of_bulk, of_override, of_service, texts};
use crate::admin::{AdminState, json};
use crate::checker::CheckerCommand;
use crate::fleet::{BackendSelection, ChangeRefused, ChangeRequest};
use crate::pattern::NamePattern;

/// The reply.
#[derive(Serialize)]
struct Preview<'a> {
    dry_run: bool,
    /// Whether the request would be refused without `force`.
    needs_force: bool,
    consequences: Vec<&'a str>,
}

pub(super) async fn preview(
    shown: &AdminState,
    request: ChangeRequest,
    to_force: &str,
) -> Result<Response, Problem> {
    let selection = match &request {
        ChangeRequest::Bulk(request) => Some(request.selection.clone()),
        _ => None,
    };
    match shown.sources.ask(|reply| CheckerCommand::Preview(request, reply)).await? {
        Ok(consequences) => {
            let needs_force = consequences.iter().any(|consequence| consequence.takes_away);
            Ok(json(&Preview { dry_run: true, needs_force, consequences: texts(&consequences) }))
        }
        Err(ChangeRefused::Backend(refused)) => Err(of_override(shown, refused, to_force).await),
        Err(ChangeRefused::Bulk(refused)) => {
            let any =
                || BackendSelection { pool: NamePattern::any(), backend: NamePattern::any(), site: None };
            Err(of_bulk(refused, &selection.unwrap_or_else(any), to_force))
        }
        Err(ChangeRefused::Service(refused)) => Err(of_service(refused, to_force)),
    }
}
