//! Access control for every request.
//!
//! ```text
//!                        on loopback                         on any other address
//! liveness, readiness    everyone                            everyone
//! the server's proof     everyone, with a local Host         everyone
//! the page's files       everyone, with a local Host         everyone
//! reading                everyone, with a local Host         with the token; all if public_reads
//! changing               with the token; if none is set,     with the token; if none is set,
//!                        everyone but web pages              nobody
//! ```

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, TRANSFER_ENCODING,
};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::admin::asker::Asker;
use crate::admin::problem::Problem;
use crate::admin::{page, proof};
use crate::config::{Access, BearerToken};

/// Maximum number of headers in a head that is inspected before hyper reads it: as many as hyper
/// accepts.
const MOST_HEADERS: usize = 100;

/// The origin of a request as stated by browsers (W3C Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Public paths: liveness, readiness, and the proof that a client requests before it sends a token.
const OPEN: [&str; 3] = ["/healthz", "/readyz", proof::PATH];

/// Whether everyone may read a path: the public ones, and the files of the status page, which hold no data.
fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || page::has(path)
}

/// The name of the token of `token_file`.
const TOKEN_FILE: &str = "token_file";

/// The remote end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// On which ground a request was let in, for replies that last.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) standing: ClientStanding,
    /// Changes if the access rules change after the request was judged.
    pub(super) access: watch::Receiver<Access>,
}

/// The access rules of the admin server.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// The access settings; they follow the configuration.
    pub(super) access: watch::Receiver<Access>,
    /// Whether only this machine can reach the socket. The socket's own address decides, not the
    /// configuration, which may have changed since.
    pub(super) is_loopback: bool,
}

/// The standing of a client, according to the head of its request. Whether the request is allowed
/// is a separate question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientStanding {
    /// The request is open to everyone and answered at once.
    Open,
    /// The request has the token.
    Known,
    /// Any other request.
    Other,
}

pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    // Before judging, so that a change in between is seen.
    let mut access = gate.access.clone();
    access.mark_unchanged();
    let judged = gate.judge(request.method(), request.uri().path(), request.headers());
    match judged {
        Ok(()) => {
            let standing = gate.standing(request.uri().path(), request.headers());
            let peer: Option<&Peer> = request.extensions().get();
            let token = (standing == ClientStanding::Known).then(|| TOKEN_FILE.into());
            let asker = Asker { address: peer.map(|peer| peer.0), uid: None, token };
            request.extensions_mut().insert(asker);
            request.extensions_mut().insert(Admission { standing, access });
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

impl Gate {
    /// The standing that a request head implies.
    pub(super) fn standing(&self, path: &str, headers: &HeaderMap) -> ClientStanding {
        if is_open(path) {
            return ClientStanding::Open;
        }
        let token = self.access.borrow().token.clone();
        let is_shown = token.is_some_and(|token| check_token(&token, headers).is_ok());
        if is_shown { ClientStanding::Known } else { ClientStanding::Other }
    }

    /// The standing that a client's first bytes imply; `None` without a complete head.
    pub(super) fn standing_of_head(&self, bytes: &[u8]) -> Option<ClientStanding> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(bytes).ok()?.is_complete().then_some(())?;
        let target: Uri = request.path?.parse().ok()?;
        let token = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("authorization"));
        let token = token.and_then(|header| HeaderValue::from_bytes(header.value).ok());
        let shown = token.into_iter().map(|token| (AUTHORIZATION, token)).collect();
        Some(self.standing(target.path(), &shown))
    }

    fn judge(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let Access { token, public_reads } = self.access.borrow().clone();
        if self.is_loopback {
            refuse_foreign_names(headers)?;
        }
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if reads && (self.is_loopback || public_reads || is_open(path)) {
            return Ok(());
        }
        match token {
            Some(token) => check_token(&token, headers)?,
            None if !self.is_loopback => {
                let detail = "this needs a token: other machines can reach the admin server, and the \
                              configuration names no token_file under [admin]";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail));
            }
            None => refuse_web_pages(headers)?,
        }
        if reads { Ok(()) } else { check_content_type(headers) }
    }
}

/// Refuses requests whose Host does not name this machine.
///
/// A web page can make its own name resolve to 127.0.0.1, and then read local services as if they
/// belonged to it ("DNS rebinding"). The browser still sends the page's name as the Host; an
/// address or `localhost` cannot be rebound. Only browsers are a risk, so a request without a Host
/// is accepted.
fn refuse_foreign_names(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get_all(HOST).iter().all(|host| host.to_str().is_ok_and(names_this_machine)) {
        return Ok(());
    }
    let detail = "the Host header must contain an IP address or localhost, because steerd's admin server \
                  listens on loopback only";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// Whether a Host header contains an address or `localhost`, with or without a port.
pub(super) fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

/// Refuses reads that last if a web page of another site makes a browser send them: it could not read the reply, but
/// hold a place.
pub(super) fn refuse_foreign_pages(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin" || site == "none") {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "a web page of another site may open no stream here"))
}

/// Refuses requests that a web page of another origin makes a browser send. With some content types
/// a page may post to any server, and a browser on this machine can reach loopback. A page can
/// neither omit nor set these two headers. A different port of this machine is a different origin.
fn refuse_web_pages(headers: &HeaderMap) -> Result<(), Problem> {
    let own = headers.get(HOST).and_then(|host| host.to_str().ok()).map(|host| format!("http://{host}"));
    let is_own = |origin: &str| own.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(origin));
    let origins = headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(is_own));
    let sites = headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin" || site == "none");
    if origins && sites {
        return Ok(());
    }
    let detail = "a web page of another site may change nothing here; with a token_file under [admin] it may if it \
                  sends the token";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// Checks the token in the form of RFC 6750, section 2.1.
fn check_token(token: &BearerToken, headers: &HeaderMap) -> Result<(), Problem> {
    let shown = headers.get(AUTHORIZATION).map(|value| {
        let (scheme, shown) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(shown)
    });
    let (detail, challenge) = match shown {
        Some(Some(shown)) if token.is_shown_by(shown) => return Ok(()),
        Some(_) => (
            "the Authorization header does not contain the token of this server: `Bearer` and the content of its \
             token_file are expected",
            "Bearer realm=\"steerd\", error=\"invalid_token\"",
        ),
        None => (
            "this needs the token of this server: send `Authorization: Bearer` with the content of its \
             token_file, as `steerd` does with --token-file",
            "Bearer realm=\"steerd\"",
        ),
    };
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail).challenge(challenge))
}

/// Requires the content type for JSON. A web page cannot post it without asking the server first.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = |value: &str| {
        value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    };
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    match headers.get(CONTENT_TYPE) {
        None if !has_body => Ok(()),
        Some(value) if value.to_str().is_ok_and(is_json) => Ok(()),
        _ => {
            let detail = "the body must be JSON, and the Content-Type header application/json";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn gate(is_loopback: bool, token: bool, public_reads: bool) -> Gate {
        let token = token.then(|| BearerToken::parse(TOKEN).unwrap());
        Gate { access: watch::channel(Access { token, public_reads }).1, is_loopback }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// The status of the refusal, or 200.
    fn judged(gate: &Gate, method: &Method, path: &str, pairs: &[(&'static str, &'static str)]) -> u16 {
        match gate.judge(method, path, &headers(pairs)) {
            Ok(()) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        }
    }

    /// Every combination of address, token, `public_reads`, kind of request and credentials,
    /// checked against the table at the head of this file.
    #[test]
    fn every_case_of_the_table() {
        let shown: [&[_]; 5] = [
            &[],
            &[("authorization", "Bearer 0123456789abcdef")],
            &[("authorization", "bearer 0123456789abcdef")],
            &[("authorization", "Bearer 0123456789abcdeF")],
            &[("authorization", "Basic 0123456789abcdef")],
        ];
        for case in 0..8 {
            let (is_loopback, has_token, public_reads) = (case & 1 == 0, case & 2 == 0, case & 4 == 0);
            let gate = gate(is_loopback, has_token, public_reads);
            for (index, shown) in shown.iter().enumerate() {
                let by_token = match (has_token, index) {
                    (true, 1 | 2) => 200,
                    (true, _) => 401,
                    (false, _) => 403,
                };
                for method in [Method::GET, Method::HEAD] {
                    let case = format!("{method} {is_loopback} {has_token} {public_reads} {shown:?}");
                    let expected = if is_loopback || public_reads { 200 } else { by_token };
                    assert_eq!(judged(&gate, &method, "/api/v1/status", shown), expected, "{case}");
                    for path in OPEN.into_iter().chain(["/", "/page/main.js"]) {
                        assert_eq!(judged(&gate, &method, path, shown), 200, "{case}");
                    }
                }
                for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                    let case = format!("{method} {is_loopback} {has_token} {public_reads} {shown:?}");
                    let expected = if is_loopback && !has_token { 200 } else { by_token };
                    assert_eq!(judged(&gate, &method, "/api/v1/reload", shown), expected, "{case}");
                    assert_eq!(judged(&gate, &method, "/healthz", shown), expected, "{case}");
                }
            }
        }
    }

    #[test]
    fn a_web_page_of_another_place_changes_nothing() {
        let gate = gate(true, false, false);
        let host = ("host", "127.0.0.1:8053");
        for (pairs, expected) in [
            (&[host][..], 200),
            (&[host, ("origin", "http://127.0.0.1:8053")], 200),
            (&[host, ("origin", "http://127.0.0.1:8053"), ("sec-fetch-site", "same-origin")], 200),
            (&[host, ("sec-fetch-site", "none")], 200),
            (&[host, ("origin", "http://127.0.0.1:3000")], 403),
            (&[host, ("origin", "https://127.0.0.1:8053")], 403),
            (&[host, ("origin", "https://evil.example")], 403),
            (&[host, ("origin", "null")], 403),
            (&[("origin", "http://127.0.0.1:8053")], 403),
            (&[host, ("sec-fetch-site", "cross-site")], 403),
            (&[host, ("sec-fetch-site", "same-site")], 403),
        ] {
            assert_eq!(judged(&gate, &Method::POST, "/api/v1/reload", pairs), expected, "{pairs:?}");
            assert_eq!(judged(&gate, &Method::GET, "/api/v1/status", pairs), 200, "{pairs:?}");
        }
        let rebound = [("host", "evil.example")];
        for method in [Method::GET, Method::POST] {
            assert_eq!(judged(&gate, &method, "/api/v1/status", &rebound), 403);
        }
    }

    #[test]
    fn a_body_is_json_and_says_so() {
        let gate = gate(true, false, false);
        for (pairs, expected) in [
            (&[("content-length", "0")][..], 200),
            (&[("content-length", "2"), ("content-type", "application/json")], 200),
            (&[("content-length", "2"), ("content-type", "Application/JSON; charset=utf-8")], 200),
            (&[("content-length", "2")], 415),
            (&[("transfer-encoding", "chunked")], 415),
            (&[("content-type", "text/plain")], 415),
            (&[("content-length", "2"), ("content-type", "application/x-www-form-urlencoded")], 415),
        ] {
            assert_eq!(judged(&gate, &Method::PUT, "/api/v1/reload", pairs), expected, "{pairs:?}");
        }
    }
}
