//! Errors of the HTTP interface as `application/problem+json` (RFC 9457).

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// For a request with no token or a wrong one (RFC 9110, section 11.6.1).
    challenge: Option<&'static str>,
    /// Extension members (section 3.2).
    more: Map<String, Value>,
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
        Self { status, detail: detail.into(), challenge: None, more: Map::new() }
    }

    /// Adds the challenge that tells the client which credentials are needed.
    pub(super) fn challenge(mut self, challenge: &'static str) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// Adds an extension member.
    pub(super) fn member(mut self, name: &str, value: impl Serialize) -> Self {
        self.more.insert(name.into(), serde_json::to_value(value).unwrap_or_default());
        self
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
        let challenge = AppendHeaders(self.challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
        (self.status, challenge, [(CONTENT_TYPE, "application/problem+json")], text).into_response()
    }
}
