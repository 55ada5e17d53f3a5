//! Errors of the HTTP interface as `application/problem+json` (RFC 9457).

use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request was not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

/// The members of RFC 9457, section 3.1. With the type `about:blank` the title is the phrase of
/// the status (section 4.2.1).
#[derive(Serialize)]
struct Members<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// `detail` is a sentence for the person who made the request.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let members = Members {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let mut text = serde_json::to_string_pretty(&members).unwrap_or_default();
        text.push('\n');
        (self.status, [(CONTENT_TYPE, "application/problem+json")], text).into_response()
    }
}
