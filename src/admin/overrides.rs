//! `/api/v1/pools/{pool}/backends/{backend}/override` and `.../weight`: operators' overrides for the state and the
//! weight of a backend.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{ETAG, HeaderMap, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::asker::Asker;
use crate::admin::audit::{noted, wanted, words_of_change, words_of_override};
use crate::admin::preconditions::{entity_tag, precondition};
use crate::admin::preview::preview;
use crate::admin::problem::Problem;
use crate::admin::refused::{of_override, texts};
use crate::admin::{AdminState, json, read_body, status};
use crate::audit::{AuditEntry, AuditOutcome};
use crate::checker::CheckerCommand;
use crate::config::parse_duration;
use crate::fleet::{
    BackendStatus, ChangeRequest, Overridden, OverrideChange, OverrideRequest, OverrideStatus,
    OverrideVersion,
};
use crate::pool::{MAX_WEIGHT_PERCENT, Override, OverrideValue};
use crate::spelling::closest;

/// The range of durations for an override.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Maximum length of a reason, characters. It becomes part of a log line.
const MAX_REASON: usize = 200;

/// How a client forces a PUT.
pub(super) const TO_FORCE: &str = "send `\"force\": true` in the body";

/// The pool and the backend in the path.
type OverridePath = Result<Path<(String, String)>, PathRejection>;

/// The body of a request for a state.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideBody {
    state: String,
    r#for: Option<String>,
    reason: Option<String>,
    /// Whether to do it even if it interrupts service.
    #[serde(default)]
    force: bool,
    /// Whether to tell the consequences and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// The body of a request for a weight.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightBody {
    /// Of the configured weight.
    percent: u64,
    r#for: Option<String>,
    reason: Option<String>,
    /// See [`OverrideBody::force`].
    #[serde(default)]
    force: bool,
    /// See [`OverrideBody::dry_run`].
    #[serde(default)]
    dry_run: bool,
}

/// The backend after the change, and the consequences.
#[derive(Serialize)]
struct OverrideReply<'a> {
    #[serde(flatten)]
    backend: status::Backend<'a>,
    /// The previous override of the same kind.
    before: Option<ValueBefore>,
    /// When the previous override would have ended by itself.
    before_until: Option<Timestamp>,
    /// The previous override: whose it was, since when, and why.
    replaced: Option<status::Override<'a>>,
    consequences: Vec<&'a str>,
    survives_restart: bool,
    /// Why the override does not survive a restart.
    lost_because: Option<&'static str>,
}

/// The query of a DELETE or POST, which has no body for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Manner {
    /// See [`OverrideBody::force`].
    pub(super) force: bool,
    /// See [`OverrideBody::dry_run`].
    pub(super) dry_run: bool,
}

/// The value of the previous override.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ValueBefore {
    State(&'static str),
    Percent(u16),
}

impl From<OverrideValue> for ValueBefore {
    fn from(value: OverrideValue) -> Self {
        match value {
            OverrideValue::State(state) => Self::State(state.as_str()),
            OverrideValue::Weight(percent) => Self::Percent(percent),
        }
    }
}

pub(super) async fn get(State(shown): State<AdminState>, path: OverridePath) -> Result<Response, Problem> {
    tell(&shown, path, "override of its state", |status| status.overridden.as_ref()).await
}

pub(super) async fn get_weight(
    State(shown): State<AdminState>,
    path: OverridePath,
) -> Result<Response, Problem> {
    tell(&shown, path, "override of its weight", |status| status.weight_override.as_ref()).await
}

/// The override of a backend, with its entity tag.
async fn tell(
    shown: &AdminState,
    path: OverridePath,
    what: &str,
    of: fn(&BackendStatus) -> Option<&OverrideStatus>,
) -> Result<Response, Problem> {
    let (pool, backend) = named(path)?;
    let status = shown.documents.backend(pool.clone(), backend.clone()).await?;
    let kept = of(&status).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("the backend {pool}/{backend} has no {what}"))
    })?;
    Ok(tagged(json(&status::Override::from(kept)), Some(kept.version())))
}

/// Adds the entity tag of an override or a failover, if there is one.
pub(super) fn tagged(mut response: Response, version: Option<OverrideVersion>) -> Response {
    if let Some(tag) = version.and_then(|version| HeaderValue::try_from(entity_tag(version)).ok()) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

pub(super) async fn put(
    State(shown): State<AdminState>,
    asker: Asker,
    path: OverridePath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let wanted: OverrideBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::of_json(
            "the body must be an object such as {\"state\": \"drain\", \"for\": \"30m\", \"reason\": \"kernel\"}",
            &error,
        )
    })?;
    let (pool, backend) = named(path)?;
    let request = OverrideRequest {
        pool,
        backend,
        change: OverrideChange::State(Some(state(&wanted.state)?)),
        length: member("for", wanted.r#for.as_deref().map(override_length))?,
        reason: member("reason", wanted.reason.as_deref().map(override_reason))?.flatten(),
        force: wanted.force,
        by: asker.to_string(),
        expected: precondition(&headers)?,
    };
    set(&shown, &asker, request, wanted.dry_run, TO_FORCE).await
}

pub(super) async fn put_weight(
    State(shown): State<AdminState>,
    asker: Asker,
    path: OverridePath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let wanted: WeightBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::of_json(
            "the body must be an object such as {\"percent\": 30, \"for\": \"1h\", \"reason\": \"canary\"}",
            &error,
        )
    })?;
    let (pool, backend) = named(path)?;
    let percent = percent(wanted.percent)?;
    let request = OverrideRequest {
        pool,
        backend,
        change: OverrideChange::Weight(Some(percent)),
        length: member("for", wanted.r#for.as_deref().map(override_length))?,
        reason: member("reason", wanted.reason.as_deref().map(override_reason))?.flatten(),
        force: wanted.force,
        by: asker.to_string(),
        expected: precondition(&headers)?,
    };
    set(&shown, &asker, request, wanted.dry_run, TO_FORCE).await
}

pub(super) async fn delete(
    State(shown): State<AdminState>,
    asker: Asker,
    path: OverridePath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    end(&shown, &asker, path, (&uri, &headers), OverrideChange::State(None)).await
}

pub(super) async fn delete_weight(
    State(shown): State<AdminState>,
    asker: Asker,
    path: OverridePath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    end(&shown, &asker, path, (&uri, &headers), OverrideChange::Weight(None)).await
}

async fn end(
    shown: &AdminState,
    asker: &Asker,
    path: OverridePath,
    (uri, headers): (&Uri, &HeaderMap),
    change: OverrideChange,
) -> Result<Response, Problem> {
    let (pool, backend) = named(path)?;
    let Manner { force, dry_run } = manner(uri.query())?;
    let request = OverrideRequest {
        pool,
        backend,
        change,
        length: None,
        reason: None,
        force,
        by: asker.to_string(),
        expected: precondition(headers)?,
    };
    set(shown, asker, request, dry_run, "add `?force=true`").await
}

/// `to_force` says how the client can force the request.
async fn set(
    shown: &AdminState,
    asker: &Asker,
    request: OverrideRequest,
    dry_run: bool,
    to_force: &str,
) -> Result<Response, Problem> {
    if dry_run {
        return preview(shown, ChangeRequest::Backend(request), to_force).await;
    }
    let change = request.change;
    let entry = entry_of(asker, &request);
    let changed = match shown.sources.ask(|reply| CheckerCommand::Override(request, reply)).await {
        Ok(Err(refused)) => Err(of_override(shown, refused, to_force).await),
        Ok(Ok(changed)) => Ok(changed),
        Err(problem) => Err(problem),
    };
    let before = changed.as_ref().ok().map(|changed| words_of_override(changed.before.as_ref()));
    noted(shown, AuditEntry { before, ..entry }, changed).map(|changed| {
        let Overridden { backend, before, consequences } = changed;
        let lost_because = *shown.sources.lost_because.borrow();
        let now = match change {
            OverrideChange::State(_) => &backend.overridden,
            OverrideChange::Weight(_) => &backend.weight_override,
        };
        let version = now.as_ref().map(OverrideStatus::version);
        let reply = json(&OverrideReply {
            backend: status::Backend::new(&backend, false),
            before: before.as_ref().map(|before| before.value.into()),
            before_until: before.as_ref().and_then(|before| before.until).and_then(status::timestamp),
            replaced: before.as_ref().map(status::Override::from),
            consequences: texts(&consequences),
            survives_restart: lost_because.is_none(),
            lost_because,
        });
        tagged(reply, version)
    })
}

/// The entry of the audit for a request.
fn entry_of(asker: &Asker, request: &OverrideRequest) -> AuditEntry {
    let OverrideRequest { pool, backend, change, length, reason, force, .. } = request;
    let (action, after) = words_of_change(*change);
    AuditEntry {
        action,
        subject: format!("{pool}/{backend}"),
        author: asker.into(),
        reason: reason.clone(),
        before: None,
        after: Some(wanted(after, *length, *force)),
        outcome: AuditOutcome::Done,
    }
}

fn named(path: OverridePath) -> Result<(String, String), Problem> {
    path.map(|Path(names)| names).map_err(|rejection| bad(rejection.body_text()))
}

/// Reads `force` and `dry_run` from a query.
pub(super) fn manner(query: Option<&str>) -> Result<Manner, Problem> {
    let mut manner = Manner::default();
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        match part {
            "force=true" => manner.force = true,
            "dry_run=true" => manner.dry_run = true,
            "force=false" | "dry_run=false" => {}
            _ => return Err(bad("the query may only have `force=true` and `dry_run=true`")),
        }
    }
    Ok(manner)
}

/// An optional member.
pub(super) fn member<T>(name: &str, read: Option<Result<T, String>>) -> Result<Option<T>, Problem> {
    read.transpose().map_err(|error| bad(format!("`{name}`: {error}")))
}

pub(super) fn percent(percent: u64) -> Result<u16, Problem> {
    u16::try_from(percent).ok().filter(|percent| *percent <= MAX_WEIGHT_PERCENT).ok_or_else(|| {
        bad(format!(
            "`percent` must be a whole number from 0 to {MAX_WEIGHT_PERCENT}, of the configured weight"
        ))
    })
}

pub(super) fn state(word: &str) -> Result<Override, Problem> {
    let words = || Override::ALL.iter().map(|state| state.as_str());
    Override::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
        let meant =
            closest(word, words()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let words: Vec<String> = words().map(|word| format!("`{word}`")).collect();
        bad(format!("`state` must be one of {}{meant}", words.join(", ")))
    })
}

/// The length of an override, for the API and the command line.
///
/// # Errors
/// The expected values, as text.
pub(crate) fn override_length(text: &str) -> Result<Duration, String> {
    parse_duration(text).filter(|length| (SHORTEST..=LONGEST).contains(length)).ok_or_else(|| {
        let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let meant = if is_bare { format!("; did you mean {text}s or {text}m?") } else { String::new() };
        format!("expected a duration with a unit, such as 30m or 1h30m, from 1s to 366d{meant}")
    })
}

/// Checks the reason for an override, for the API and the command line; `None` if it is empty.
///
/// # Errors
/// The expected values, as text.
pub(crate) fn override_reason(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.chars().count() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(format!("expected one line of at most {MAX_REASON} characters"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_reasons_within_limits() {
        assert_eq!(override_length("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(override_length("1s").unwrap(), SHORTEST);
        assert_eq!(override_length("8784h").unwrap(), LONGEST);
        assert_eq!(override_length("52w2d").unwrap(), LONGEST);
        for bad in ["", "30", "-5m", "999ms", "0s", "8785h", "soon"] {
            assert!(override_length(bad).is_err(), "{bad}");
        }
        let expected = "expected a duration with a unit, such as 30m or 1h30m, from 1s to 366d";
        assert_eq!(override_length("30").unwrap_err(), format!("{expected}; did you mean 30s or 30m?"));
        assert_eq!(override_length("400d").unwrap_err(), expected);
        assert_eq!(override_reason("  kernel update ").unwrap().as_deref(), Some("kernel update"));
        assert_eq!(override_reason(" ").unwrap(), None);
        assert_eq!(override_reason(&"ä".repeat(MAX_REASON)).unwrap().unwrap().chars().count(), MAX_REASON);
        for bad in [&*"a".repeat(MAX_REASON + 1), "two\nlines", "bell\u{7}"] {
            assert!(override_reason(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_query_has_only_what_is_known() {
        let read = |query| manner(query).map(|Manner { force, dry_run }| (force, dry_run));
        assert_eq!(read(None).unwrap(), (false, false));
        assert_eq!(read(Some("")).unwrap(), (false, false));
        assert_eq!(read(Some("force=true")).unwrap(), (true, false));
        assert_eq!(read(Some("dry_run=true&force=false")).unwrap(), (false, true));
        for query in ["force", "force=1", "force=true&for=1h"] {
            assert!(read(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn a_state_is_one_of_four_words() {
        for known in Override::ALL {
            assert_eq!(state(known.as_str()).unwrap(), known);
        }
        let expected = "`state` must be one of `drain`, `disabled`, `up`, `down`";
        for (word, meant) in [("disable", "; did you mean `disabled`?"), ("maintenance", ""), ("", "")] {
            assert_eq!(state(word).unwrap_err(), bad(format!("{expected}{meant}")));
        }
    }
}
