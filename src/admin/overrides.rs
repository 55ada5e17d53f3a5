//! `/api/v1/pools/{pool}/backends/{backend}/override`: operators' overrides of a backend.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::admin::gate::Asker;
use crate::admin::problem::Problem;
use crate::admin::{Shown, json, read_body, status};
use crate::checker::Command;
use crate::config::parse_duration;
use crate::fleet::{Consequence, Overridden, OverrideRefused, OverrideRequest};
use crate::pool::Override;

/// The shortest and the longest duration of an override.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Maximum length of a reason, characters: it becomes a line of the log.
const MAX_REASON: usize = 200;

/// The pool and the backend of an override.
type Place = Result<Path<(String, String)>, PathRejection>;

/// The request body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    state: Word,
    r#for: Option<String>,
    reason: Option<String>,
    /// Whether to do it even if it interrupts service.
    #[serde(default)]
    force: bool,
}

/// The backend after it, and what follows.
#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    backend: status::Backend<'a>,
    /// The override before.
    before: Option<&'static str>,
    consequences: Vec<&'a str>,
    survives_restart: bool,
    /// Why it does not.
    lost_because: Option<&'static str>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Drain,
    Disabled,
    Up,
    Down,
}

pub(super) async fn put(
    State(shown): State<Shown>,
    Asker(by): Asker,
    place: Place,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(body).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        Problem::of_json(
            "the body must be an object such as {\"state\": \"drain\", \"for\": \"30m\", \"reason\": \"kernel\"}",
            &error,
        )
    })?;
    let (pool, backend) = named(place)?;
    let request = OverrideRequest {
        pool,
        backend,
        state: Some(wanted.state.into()),
        length: wanted.r#for.as_deref().map(length).transpose()?,
        reason: wanted.reason.as_deref().map(reason).transpose()?.flatten(),
        force: wanted.force,
        by,
    };
    set(&shown, request, "send `\"force\": true` in the body").await
}

pub(super) async fn delete(
    State(shown): State<Shown>,
    Asker(by): Asker,
    place: Place,
    uri: Uri,
) -> Result<Response, Problem> {
    let (pool, backend) = named(place)?;
    let force = is_forced(uri.query())?;
    let request = OverrideRequest { pool, backend, state: None, length: None, reason: None, force, by };
    set(&shown, request, "add `?force=true`").await
}

/// `to_force` is what forces it.
async fn set(shown: &Shown, request: OverrideRequest, to_force: &str) -> Result<Response, Problem> {
    match shown.source.ask(|reply| Command::Override(request, reply)).await? {
        Ok(Overridden { backend, before, consequences }) => {
            let lost_because = *shown.source.lost_because.borrow();
            Ok(json(&Done {
                backend: status::Backend::new(&backend, false),
                before: before.map(|before| before.state.as_str()),
                consequences: texts(&consequences),
                survives_restart: lost_because.is_none(),
                lost_because,
            }))
        }
        Err(OverrideRefused::TakesAway(consequences)) => {
            let consequences = texts(&consequences);
            let detail = format!(
                "nothing has changed, because this would interrupt service: {}; to do it anyway, \
                 {to_force}",
                consequences.join("; ")
            );
            Err(Problem::new(StatusCode::CONFLICT, detail).member("consequences", consequences))
        }
        Err(OverrideRefused::NoSuchBackend { pool, backend }) => {
            Err(shown.documents.no_backend(pool, backend).await)
        }
    }
}

fn texts(consequences: &[Consequence]) -> Vec<&str> {
    consequences.iter().map(|consequence| &*consequence.text).collect()
}

fn named(place: Place) -> Result<(String, String), Problem> {
    place.map(|Path(names)| names).map_err(|rejection| bad(rejection.body_text()))
}

/// Whether a query says so. A DELETE has no body that could.
fn is_forced(query: Option<&str>) -> Result<bool, Problem> {
    match query {
        None | Some("" | "force=false") => Ok(false),
        Some("force=true") => Ok(true),
        Some(_) => Err(bad("the query must be empty, or `force=true`")),
    }
}

impl From<Word> for Override {
    fn from(state: Word) -> Self {
        match state {
            Word::Drain => Self::Drain,
            Word::Disabled => Self::Disabled,
            Word::Up => Self::Up,
            Word::Down => Self::Down,
        }
    }
}

fn length(text: &str) -> Result<Duration, Problem> {
    parse_duration(text).filter(|length| (SHORTEST..=LONGEST).contains(length)).ok_or_else(|| {
        bad("`for` must be a duration with a unit, such as \"30m\" or \"1h30m\", from 1s to 366 days")
    })
}

/// The reason; `None` if it is empty.
fn reason(text: &str) -> Result<Option<String>, Problem> {
    let text = text.trim();
    if text.chars().count() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(bad(format!("`reason` must be one line of at most {MAX_REASON} characters")));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_reasons_within_limits() {
        assert_eq!(length("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(length("1s").unwrap(), SHORTEST);
        assert_eq!(length("8784h").unwrap(), LONGEST);
        assert_eq!(length("52w2d").unwrap(), LONGEST);
        for bad in ["", "30", "-5m", "999ms", "0s", "8785h", "soon"] {
            assert!(length(bad).is_err(), "{bad}");
        }
        assert_eq!(reason("  kernel update ").unwrap().as_deref(), Some("kernel update"));
        assert_eq!(reason(" ").unwrap(), None);
        assert_eq!(reason(&"ä".repeat(MAX_REASON)).unwrap().unwrap().chars().count(), MAX_REASON);
        for bad in [&*"a".repeat(MAX_REASON + 1), "two\nlines", "bell\u{7}"] {
            assert!(reason(bad).is_err(), "{bad:?}");
        }
    }
}
