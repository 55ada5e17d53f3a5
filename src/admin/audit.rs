//! `GET /api/v1/audit`: the last entries of the audit, newest first; and the entries of requests to this server.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{MatchedPath, Query, RawQuery, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::asker::{Asker, Peer};
use crate::admin::problem::{Problem, WeakToken};
use crate::admin::{AdminState, Sources, json, status};
use crate::audit::{
    AUDIT_KEPT, AuditAction, AuditEntry, AuditFilter, AuditHandle, AuditOutcome, AuditRecord, Author,
};
use crate::config::parse_duration;
use crate::duration::Shown;
use crate::fleet::{FailoverStatus, OverrideChange, OverrideStatus};
use crate::pool::OverrideValue;

/// How long a further refusal of the same token and action is no entry.
const WEAK_TOKEN_EVERY: Duration = Duration::from_secs(60);
/// How many entries a reply has, if the client does not say so.
const USUAL: usize = 100;

/// The query.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only entries before this id.
    before: Option<u64>,
    /// How many at most.
    limit: Option<usize>,
    /// Actions, separated by commas.
    action: Option<String>,
    /// A part of the author.
    by: Option<String>,
    /// A time, or a duration back from now.
    since: Option<String>,
}

#[derive(Serialize)]
struct AuditReply {
    /// Newest first.
    entries: Vec<Arc<AuditRecord>>,
    /// The id for `before` of the next page; none if there are no older ones in memory.
    before: Option<u64>,
    /// Whether entries are kept over a restart.
    survives_restart: bool,
    /// Why entries cannot be written now.
    failing: Option<String>,
}

pub(super) async fn audit(
    State(sources): State<Sources>,
    RawQuery(query): RawQuery,
    uri: Uri,
) -> Result<Response, Problem> {
    let wanted = query.map(|_| Query::<AuditQuery>::try_from_uri(&uri)).transpose();
    let Query(wanted) = wanted
        .map_err(|rejection| bad(&format!("the query: {}", rejection.body_text())))?
        .unwrap_or_default();
    let limit = wanted.limit.unwrap_or(USUAL);
    if !(1..=AUDIT_KEPT).contains(&limit) {
        return Err(bad(&format!("`limit` must be from 1 to {AUDIT_KEPT}")));
    }
    let filter = AuditFilter {
        before: wanted.before,
        actions: wanted.action.as_deref().map(actions).transpose()?.unwrap_or_default(),
        by: wanted.by,
        since: wanted.since.as_deref().map(since).transpose()?,
    };
    let page = sources.audit.page(&filter, limit);
    let before = page.entries.last().filter(|_| page.more).map(|last| last.id);
    Ok(json(&AuditReply {
        entries: page.entries,
        before,
        survives_restart: sources.audit.is_kept(),
        failing: sources.audit.failing(),
    }))
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn actions(text: &str) -> Result<Vec<String>, Problem> {
    let known = AuditAction::ALL.map(AuditAction::as_str);
    let word = |word: &str| {
        if known.contains(&word) {
            return Ok(word.to_owned());
        }
        Err(bad(&format!("`action` must be some of {}, separated by commas", known.join(", "))))
    };
    text.split(',').map(word).collect()
}

fn since(text: &str) -> Result<Timestamp, Problem> {
    let time = || text.parse().ok();
    let back = |length: Duration| Timestamp::try_from(SystemTime::now().checked_sub(length)?).ok();
    parse_duration(text).and_then(back).or_else(time).ok_or_else(|| {
        bad("`since` must be a duration such as `1d`, or a time such as `2026-11-30T12:00:00Z`")
    })
}

impl From<&Asker> for Author {
    fn from(asker: &Asker) -> Self {
        Self {
            by: asker.to_string(),
            token: asker.token.as_deref().map(str::to_owned),
            uid: asker.uid,
            address: asker.address.map(|address| address.to_string()),
        }
    }
}

/// Notes the outcome of a request.
pub(super) fn noted<T>(
    shown: &AdminState,
    entry: AuditEntry,
    outcome: Result<T, Problem>,
) -> Result<T, Problem> {
    let noted = match &outcome {
        Ok(_) => AuditOutcome::Done,
        Err(problem) if problem.may_be_done() => AuditOutcome::Unknown(problem.detail().to_owned()),
        Err(problem) => AuditOutcome::Refused(problem.detail().to_owned()),
    };
    shown.sources.audit.note(AuditEntry { outcome: noted, ..entry });
    outcome
}

/// Notes requests whose token lacks the right for them.
#[derive(Clone, Debug)]
pub(super) struct WeakTokens {
    audit: AuditHandle,
    /// The last entries.
    noted: Arc<Mutex<Vec<NotedRefusal>>>,
}

#[derive(Debug)]
struct NotedRefusal {
    token: Arc<str>,
    action: AuditAction,
    at: Instant,
}

impl WeakTokens {
    pub(super) fn new(audit: AuditHandle) -> Self {
        Self { audit, noted: Arc::default() }
    }

    /// Whether a refusal is an entry: the first of a token and an action in each [`WEAK_TOKEN_EVERY`], so that a token
    /// that may change nothing cannot drive other entries out of the audit.
    fn is_wanted(&self, token: &Arc<str>, action: AuditAction) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|refusal| refusal.at.elapsed() < WEAK_TOKEN_EVERY);
        let is_new = !noted.iter().any(|refusal| (&refusal.token, refusal.action) == (token, action));
        if is_new {
            noted.push(NotedRefusal { token: Arc::clone(token), action, at: Instant::now() });
        }
        is_new
    }
}

pub(super) async fn note_weak_token(
    State(weak): State<WeakTokens>,
    request: Request,
    next: Next,
) -> Response {
    let action = request.extensions().get().and_then(|path: &MatchedPath| action_of(path.as_str()));
    let Some(action) = action.filter(|_| !request.method().is_safe()) else {
        return next.run(request).await;
    };
    let (subject, peer) = (request.uri().path().to_owned(), request.extensions().get::<Peer>().copied());
    let response = next.run(request).await;
    if let Some(WeakToken { name, detail }) = response.extensions().get()
        && weak.is_wanted(name, action)
    {
        let asker = Asker::of(peer, Some(Arc::clone(name)));
        let outcome = AuditOutcome::Refused(detail.clone());
        weak.audit.note(AuditEntry { outcome, ..AuditEntry::of(action, subject, Author::from(&asker)) });
    }
    response
}

/// The action of a request that changes something, by the path of its route.
fn action_of(path: &str) -> Option<AuditAction> {
    let (_, last) = path.rsplit_once('/')?;
    if last == "overrides" {
        return Some(AuditAction::Override);
    }
    AuditAction::ALL.into_iter().find(|action| action.as_str() == last)
}

/// The wanted value, with what else the request says.
pub(super) fn wanted(mut value: String, length: Option<Duration>, force: bool) -> String {
    if let Some(length) = length {
        let _ = write!(value, " for {}", Shown(length));
    }
    if force {
        value += ", by force";
    }
    value
}

/// The kind of a change of an override, and the wanted value.
pub(super) fn words_of_change(change: OverrideChange) -> (AuditAction, String) {
    match change {
        OverrideChange::State(state) => {
            (AuditAction::Override, state.map_or_else(|| "auto".into(), |state| state.as_str().to_owned()))
        }
        OverrideChange::Weight(percent) => {
            (AuditAction::Weight, percent.map_or_else(|| "auto".into(), |percent| format!("{percent}%")))
        }
    }
}

/// An override before the change, with its author.
pub(super) fn words_of_override(before: Option<&OverrideStatus>) -> String {
    let Some(before) = before else { return "auto".into() };
    let value = match before.value {
        OverrideValue::State(state) => state.as_str().to_owned(),
        OverrideValue::Weight(percent) => format!("{percent}%"),
    };
    with_author(value, before.by.as_deref(), before.until)
}

/// A failover before the change, with its author.
pub(super) fn words_of_failover(before: Option<&FailoverStatus>) -> String {
    before.map_or_else(
        || "auto".into(),
        |before| with_author(before.pool.clone(), before.by.as_deref(), before.until),
    )
}

fn with_author(mut value: String, by: Option<&str>, until: Option<SystemTime>) -> String {
    if let Some(until) = until.and_then(status::timestamp) {
        let _ = write!(value, " until {until}");
    }
    if let Some(by) = by {
        let _ = write!(value, ", set by {by}");
    }
    value
}
