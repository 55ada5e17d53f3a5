//! `/api/v1/overrides`: the same override for several backends, of all or of none.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::asker::Asker;
use crate::admin::audit::{noted, wanted, words_of_change, words_of_override};
use crate::admin::overrides::{
    TO_FORCE, ValueBefore, bad, member, override_length, override_reason, percent, state,
};
use crate::admin::preview::preview;
use crate::admin::problem::Problem;
use crate::admin::refused::{of_bulk, texts};
use crate::admin::{AdminState, json, read_body, status};
use crate::audit::{AuditEntry, AuditOutcome};
use crate::checker::CheckerCommand;
use crate::fleet::{BackendSelection, BulkOverridden, BulkRequest, ChangeRequest, OverrideChange};
use crate::pattern::NamePattern;

/// The body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BulkBody {
    select: SelectionBody,
    /// One of these three.
    state: Option<String>,
    percent: Option<u64>,
    auto: Option<Overridable>,
    r#for: Option<String>,
    reason: Option<String>,
    /// Whether to do it even if it interrupts service.
    #[serde(default)]
    force: bool,
    /// Whether to tell the consequences and change nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectionBody {
    pool: Option<String>,
    backend: Option<String>,
    site: Option<String>,
}

/// The override that ends.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Overridable {
    State,
    Weight,
}

/// The backends after the change, and the consequences of all of them together.
#[derive(Serialize)]
struct BulkReply<'a> {
    backends: Vec<ChangedBackend<'a>>,
    consequences: Vec<&'a str>,
    survives_restart: bool,
    /// Why the overrides do not survive a restart.
    lost_because: Option<&'static str>,
}

#[derive(Serialize)]
struct ChangedBackend<'a> {
    pool: &'a str,
    #[serde(flatten)]
    backend: status::Backend<'a>,
    /// The previous override of the same kind.
    before: Option<ValueBefore>,
    /// When the previous override would have ended by itself.
    before_until: Option<Timestamp>,
    /// The previous override: whose it was, since when, and why.
    replaced: Option<status::Override<'a>>,
}

impl BulkBody {
    fn change(&self) -> Result<OverrideChange, Problem> {
        match (&self.state, self.percent, self.auto) {
            (Some(word), None, None) => Ok(OverrideChange::State(Some(state(word)?))),
            (None, Some(wanted), None) => Ok(OverrideChange::Weight(Some(percent(wanted)?))),
            (None, None, Some(_)) if self.r#for.is_some() || self.reason.is_some() => {
                Err(bad("`auto` ends overrides, so it takes neither `for` nor `reason`"))
            }
            (None, None, Some(Overridable::State)) => Ok(OverrideChange::State(None)),
            (None, None, Some(Overridable::Weight)) => Ok(OverrideChange::Weight(None)),
            _ => Err(bad(
                "the body must have exactly one of `state`, `percent`, and `auto`, which is `state` or `weight`",
            )),
        }
    }

    fn selection(&self) -> Result<BackendSelection, Problem> {
        let SelectionBody { pool, backend, site } = &self.select;
        if pool.is_none() && backend.is_none() && site.is_none() {
            return Err(bad("`select` must have at least one of `pool`, `backend` and `site`"));
        }
        let pattern = |text: &Option<String>| text.as_deref().map_or_else(NamePattern::any, NamePattern::new);
        Ok(BackendSelection { pool: pattern(pool), backend: pattern(backend), site: site.clone() })
    }
}

pub(super) async fn change(
    State(shown): State<AdminState>,
    asker: Asker,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let body: BulkBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::of_json(
            "the body must be an object such as {\"select\": {\"pool\": \"web\", \"site\": \"b\"}, \"state\": \"drain\"}",
            &error,
        )
    })?;
    let selection = body.selection()?;
    let request = BulkRequest {
        selection: selection.clone(),
        change: body.change()?,
        length: member("for", body.r#for.as_deref().map(override_length))?,
        reason: member("reason", body.reason.as_deref().map(override_reason))?.flatten(),
        force: body.force,
        by: asker.to_string(),
    };
    if body.dry_run {
        return preview(&shown, ChangeRequest::Bulk(request), TO_FORCE).await;
    }
    let entry = entry_of(&asker, &request);
    let asked = shown.sources.ask(|reply| CheckerCommand::OverrideMany(request, reply)).await;
    let changed = asked.and_then(|changed| changed.map_err(|refused| of_bulk(refused, &selection, TO_FORCE)));
    let BulkOverridden { backends, consequences } = match changed {
        Ok(changed) => changed,
        refused => noted(&shown, entry.clone(), refused)?,
    };
    for (pool, backend, before) in &backends {
        let subject = format!("{pool}/{}", backend.name);
        let before = Some(words_of_override(before.as_ref()));
        shown.sources.audit.note(AuditEntry { subject, before, ..entry.clone() });
    }
    let lost_because = *shown.sources.lost_because.borrow();
    let backends = backends.iter().map(|(pool, backend, before)| ChangedBackend {
        pool,
        backend: status::Backend::new(backend, false),
        before: before.as_ref().map(|before| before.value.into()),
        before_until: before.as_ref().and_then(|before| before.until).and_then(status::timestamp),
        replaced: before.as_ref().map(status::Override::from),
    });
    Ok(json(&BulkReply {
        backends: backends.collect(),
        consequences: texts(&consequences),
        survives_restart: lost_because.is_none(),
        lost_because,
    }))
}

/// The entry of the audit for a request; each changed backend has its own.
fn entry_of(asker: &Asker, request: &BulkRequest) -> AuditEntry {
    let BulkRequest { selection, change, length, reason, force, by: _ } = request;
    let BackendSelection { pool, backend, site } = selection;
    let site = site.as_ref().map_or_else(String::new, |site| format!(" at site {site}"));
    let (action, after) = words_of_change(*change);
    AuditEntry {
        action,
        subject: format!("{}/{}{site}", pool.as_str(), backend.as_str()),
        author: asker.into(),
        reason: reason.clone(),
        before: None,
        after: Some(wanted(after, *length, *force)),
        outcome: AuditOutcome::Done,
    }
}
