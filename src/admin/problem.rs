//! Errors of the HTTP interface as `application/problem+json` (RFC 9457).

use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

/// When a client may try again if the server is busy, seconds.
const BUSY_TIME: u16 = 5;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// Header fields besides the content type.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Extension members (section 3.2).
    more: Map<String, Value>,
    /// See [`Problem::may_be_done`].
    may_be_done: bool,
    /// The name of a token that lacks the needed right.
    weak_token: Option<Arc<str>>,
}

/// An extension of a reply: the request was refused because the token with this name lacks the needed right.
#[derive(Clone, Debug)]
pub(super) struct WeakToken {
    pub(super) name: Arc<str>,
    /// The sentence for the person who made the request.
    pub(super) detail: String,
}

/// The members of RFC 9457, section 3.1. With the type `about:blank`, the title is the phrase of
/// the status (section 4.2.1).
#[derive(Serialize)]
struct Members<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
}

impl Problem {
    /// Creates a problem. `detail` is a sentence for the person who made the request.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            headers: Vec::new(),
            more: Map::new(),
            may_be_done: false,
            weak_token: None,
        }
    }

    /// Creates a problem for a JSON body that is not as `expected`, which is a sentence up to its
    /// colon.
    pub(super) fn of_json(expected: &str, error: &serde_json::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{expected}: {}", in_words(error)))
    }

    /// Creates a problem that ends by itself: the server is too busy now, or a limit is reached.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(RETRY_AFTER, BUSY_TIME.into())
    }

    /// Creates the problem that the outcome is not known in time.
    pub(super) fn unanswered(detail: impl Into<String>) -> Self {
        Self { may_be_done: true, ..Self::busy(detail) }
    }

    /// Whether the request may be carried out nevertheless.
    pub(super) fn may_be_done(&self) -> bool {
        self.may_be_done
    }

    /// Adds the challenge that tells the client which credentials are needed (RFC 9110, section 11.6.1).
    pub(super) fn challenge(self, challenge: &str) -> Self {
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => self.header(WWW_AUTHENTICATE, challenge),
            Err(_) => self,
        }
    }

    /// Adds a header field.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The sentence for the person who made the request.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Says that the token with this name lacks the needed right.
    pub(super) fn of_weak_token(self, name: &Arc<str>) -> Self {
        Self { weak_token: Some(Arc::clone(name)), ..self }
    }

    /// Adds an extension member.
    pub(super) fn member(mut self, name: &str, value: impl Serialize) -> Self {
        self.more.insert(name.into(), serde_json::to_value(value).unwrap_or_default());
        self
    }
}

/// The error of the JSON library, in words.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_eof() {
        return "it ends too early".to_owned();
    }
    if !error.is_data() {
        return format!("it is not JSON from column {} of line {} on", error.column(), error.line());
    }
    let text = text.rsplit_once(" at line ").map_or(&*text, |(text, _)| text);
    let split = |prefix| text.strip_prefix(prefix).and_then(|rest: &str| rest.rsplit_once(", expected "));
    let choice = |expected: &str| expected.strip_prefix("one of ").unwrap_or(expected).to_owned();
    if let Some(name) = text.strip_prefix("missing field ") {
        format!("{name} is missing")
    } else if let Some((name, expected)) = split("unknown field ") {
        format!("{name} is not known; these are: {}", choice(expected))
    } else if let Some((name, expected)) = split("unknown variant ") {
        format!("{name} is not one of {}", choice(expected))
    } else if let Some((found, expected)) = split("invalid type: ") {
        format!("it has {found} where {expected} is expected")
    } else {
        text.to_owned()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let members = Members {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            more: &self.more,
        };
        let mut text = serde_json::to_string_pretty(&members).unwrap_or_default();
        text.push('\n');
        let content_type = [(CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, AppendHeaders(self.headers), content_type, text).into_response();
        if let Some(name) = self.weak_token {
            response.extensions_mut().insert(WeakToken { name, detail: self.detail });
        }
        response
    }
}
