//! Access control for every request.
//!
//! ```text
//!                        on loopback                         on any other address
//! liveness, readiness    everyone                            everyone
//! the server's proof     everyone, with a local Host         everyone
//! the page's files       everyone, with a local Host         everyone
//! reading                everyone, with a local Host         with a token for reading; all if public_reads
//! changing               with a token for that; if none is   with a token for that; if none is
//!                        set, everyone but web pages         set, nobody
//! ```
//!
//! On a Unix socket, everyone who may open its file may do everything: the rights of the file are the lock, and the
//! audit names the user. A token that is sent there adds its name. A tunnel may lead from a browser to it, so the Host
//! must be local, and web pages change nothing without a token. Bodies must say that they are JSON on each of them.
//!
//! Each route says which right its changes need: [`RouteAccess`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, TRANSFER_ENCODING,
};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::admin::asker::Asker;
use crate::admin::page;
use crate::admin::problem::Problem;
use crate::config::{Access, AdminRight, AdminToken};

/// Maximum number of headers in a head that is inspected before hyper reads it: as many as hyper
/// accepts.
const MOST_HEADERS: usize = 100;

/// The origin of a request as stated by browsers (W3C Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The clients that may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteAccess {
    /// Everyone may read it: it shows nothing that needs protection. It cannot change anything.
    Open,
    /// Reading needs the right to read. It cannot change anything.
    Reads,
    /// Reading needs the right to read, and every other method this right.
    Changes(AdminRight),
}

/// Clients that a socket can have. The socket's own address decides, not the configuration, which may have changed
/// since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminReach {
    /// Programs of this machine that may open the file.
    UnixSocket,
    /// All programs of this machine.
    Loopback,
    /// Other machines.
    Network,
}

impl AdminReach {
    pub(super) fn of(address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::Loopback } else { Self::Network }
    }
}

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
    /// All routes but the files of the page.
    pub(super) routes: Arc<HashMap<&'static str, RouteAccess>>,
    /// The access settings; they follow the configuration.
    pub(super) access: watch::Receiver<Access>,
    pub(super) reach: AdminReach,
}

/// The standing of a client, according to the head of its request. Whether the request is allowed
/// is a separate question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientStanding {
    /// The request is open to everyone and answered at once.
    Open,
    /// The request has a token of this server, or came over a Unix socket.
    Known,
    /// Any other request.
    Other,
}

pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    // Before judging, so that a change in between is seen.
    let mut access = gate.access.clone();
    access.mark_unchanged();
    let path = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str(),
        None => request.uri().path(),
    };
    let route = gate.route(path);
    match gate.judge(request.method(), route, request.headers()) {
        Ok(token) => {
            let standing = gate.standing_for(route, token.is_some());
            let asker = Asker::of(request.extensions().get().copied(), token);
            request.extensions_mut().insert(asker);
            request.extensions_mut().insert(Admission { standing, access });
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

impl Gate {
    /// The access to the route that serves a path. The files of the status page hold no data.
    fn route(&self, path: &str) -> RouteAccess {
        match self.routes.get(path) {
            Some(route) => *route,
            None if page::has(path) => RouteAccess::Open,
            None => RouteAccess::Reads,
        }
    }

    /// The standing that a request head implies.
    pub(super) fn standing(&self, path: &str, headers: &HeaderMap) -> ClientStanding {
        // Open routes have no parameters, so the path is enough here.
        let route = self.route(path);
        let has_token = route != RouteAccess::Open && shown(&self.access.borrow(), headers).is_ok();
        self.standing_for(route, has_token)
    }

    fn standing_for(&self, route: RouteAccess, has_token: bool) -> ClientStanding {
        match route {
            RouteAccess::Open => ClientStanding::Open,
            _ if has_token || self.reach == AdminReach::UnixSocket => ClientStanding::Known,
            _ => ClientStanding::Other,
        }
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

    /// Lets a request in, with the name of the token that it has, or says why not.
    fn judge(
        &self,
        method: &Method,
        route: RouteAccess,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<str>>, Problem> {
        let access = self.access.borrow();
        let is_loopback = self.reach == AdminReach::Loopback;
        if self.reach != AdminReach::Network {
            refuse_foreign_names(headers)?;
        }
        let token = shown(&access, headers);
        let name = token.as_ref().ok().map(|token| Arc::clone(&token.name));
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if reads && (self.reach != AdminReach::Network || access.public_reads || route == RouteAccess::Open) {
            return Ok(name);
        }
        let needed = match route {
            _ if reads => Some(AdminRight::Read),
            RouteAccess::Changes(right) => Some(right),
            // The route accepts no such method, and says so.
            RouteAccess::Open | RouteAccess::Reads => None,
        };
        if self.reach == AdminReach::UnixSocket {
            if token.is_err() {
                refuse_web_pages(headers, false)?;
            }
            check_content_type(headers)?;
            return Ok(name);
        }
        if !access.tokens.is_empty() {
            let token = token.map_err(|refused| refused.problem(needed))?;
            if let Some(right) = needed.filter(|right| !token.rights.contains(right)) {
                return Err(too_weak(token, right));
            }
        } else if is_loopback {
            refuse_web_pages(headers, access.tls.is_some())?;
        } else {
            let detail = "this needs a token: other machines can reach the admin server, and the configuration names \
                          neither a token_file under [admin] nor a token under [admin.tokens]";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        if !reads {
            check_content_type(headers)?;
        }
        Ok(name)
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
                  listens on loopback or on a Unix socket";
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
fn refuse_web_pages(headers: &HeaderMap, tls: bool) -> Result<(), Problem> {
    let scheme = if tls { "https" } else { "http" };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok()).map(|host| format!("{scheme}://{host}"));
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

/// Why a request has no token of this server.
#[derive(Clone, Copy, Debug)]
enum TokenRefused {
    Missing,
    Wrong,
}

/// The token of a request, in the form of RFC 6750, section 2.1.
fn shown<'a>(access: &'a Access, headers: &HeaderMap) -> Result<&'a AdminToken, TokenRefused> {
    let value = headers.get(AUTHORIZATION).ok_or(TokenRefused::Missing)?;
    let (scheme, shown) = value.as_bytes().split_at_checked("Bearer ".len()).ok_or(TokenRefused::Wrong)?;
    let token = access.token_shown_by(shown).filter(|_| scheme.eq_ignore_ascii_case(b"Bearer "));
    token.ok_or(TokenRefused::Wrong)
}

impl TokenRefused {
    fn problem(self, needed: Option<AdminRight>) -> Problem {
        let right = needed.map_or_else(String::new, |right| format!(" with the right `{}`", right.as_str()));
        let (detail, error) = match self {
            Self::Wrong => (
                format!(
                    "the Authorization header does not contain a token of this server: this needs `Bearer` and the \
                     content of the file of a token{right}"
                ),
                ", error=\"invalid_token\"",
            ),
            Self::Missing => (
                format!(
                    "this needs a token of this server{right}: send `Authorization: Bearer` with the content of its \
                     token file, as `steerd` does with --token-file"
                ),
                "",
            ),
        };
        let scope = needed.map_or_else(String::new, |right| format!(", scope=\"{}\"", right.as_str()));
        with_right(Problem::new(StatusCode::UNAUTHORIZED, detail), needed)
            .challenge(&format!("Bearer realm=\"steerd\"{error}{scope}"))
    }
}

/// The problem that a token lacks a right.
fn too_weak(token: &AdminToken, needed: AdminRight) -> Problem {
    let (right, name, rights) = (needed.as_str(), &token.name, token.rights_in_words());
    let detail = format!(
        "this needs a token with the right `{right}`, and the token `{name}` has only: {rights}. Send another one, or add \
         the right to `rights` under [admin.tokens.{name}] and reload"
    );
    with_right(Problem::new(StatusCode::FORBIDDEN, detail), Some(needed))
        .of_weak_token(name)
        .challenge(&format!("Bearer realm=\"steerd\", error=\"insufficient_scope\", scope=\"{right}\""))
}

fn with_right(problem: Problem, needed: Option<AdminRight>) -> Problem {
    match needed {
        Some(right) => problem.member("right", right.as_str()),
        None => problem,
    }
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

    use crate::config::BearerToken;

    /// A token with all rights, and weaker ones.
    const TOKENS: [(&str, &[AdminRight]); 3] = [
        ("0123456789abcdef", &AdminRight::ALL),
        ("reads-0123456789", &[AdminRight::Read]),
        ("changes-01234567", &[AdminRight::Override, AdminRight::Upgrade]),
    ];

    fn gate(is_loopback: bool, has_tokens: bool, public_reads: bool) -> Gate {
        let token = |(text, rights): (&str, &[AdminRight])| AdminToken {
            name: text.into(),
            secret: BearerToken::parse(text).unwrap(),
            rights: rights.to_vec(),
        };
        let tokens = TOKENS.into_iter().filter(|_| has_tokens).map(token).collect();
        let routes = crate::admin::requests().into_iter().map(|(path, access, _)| (path, access)).collect();
        Gate {
            access: watch::channel(Access { tokens, public_reads, tls: None }).1,
            routes: Arc::new(routes),
            reach: if is_loopback { AdminReach::Loopback } else { AdminReach::Network },
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// The status of the refusal, or 200.
    fn judged(gate: &Gate, method: &Method, path: &str, pairs: &[(&'static str, &'static str)]) -> u16 {
        match gate.judge(method, gate.route(path), &headers(pairs)) {
            Ok(_) => 200,
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
                    for path in ["/healthz", "/readyz", "/api/v1/proof", "/", "/page/main.js"] {
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
    fn a_token_allows_what_its_rights_say() {
        let (reload, upgrade) = ("/api/v1/reload", "/api/v1/upgrade");
        for (is_loopback, public_reads) in [(false, false), (false, true), (true, false)] {
            let gate = gate(is_loopback, true, public_reads);
            let by = |text: &str, method: &Method, path: &str| {
                let shown =
                    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {text}").parse().unwrap())]);
                gate.judge(method, gate.route(path), &shown)
                    .map_err(|problem| problem.into_response().status())
            };
            let [(all, _), (reads, _), (changes, _)] = TOKENS;
            for (method, path) in [(Method::GET, "/metrics"), (Method::POST, reload), (Method::POST, upgrade)]
            {
                assert_eq!(by(all, &method, path).unwrap().as_deref(), Some(all));
            }
            let read_freely = is_loopback || public_reads;
            for (text, method, path, is_allowed) in [
                (reads, Method::GET, "/metrics", true),
                (reads, Method::GET, "/nothing", true),
                (reads, Method::POST, reload, false),
                (reads, Method::POST, upgrade, false),
                (changes, Method::GET, "/metrics", read_freely),
                (changes, Method::GET, "/nothing", read_freely),
                (changes, Method::POST, reload, false),
                (changes, Method::POST, upgrade, true),
                (changes, Method::DELETE, "/api/v1/pools/{pool}/backends/{backend}/weight", true),
                // No method of these routes changes anything: the router says so.
                (reads, Method::POST, "/metrics", true),
                (reads, Method::POST, "/healthz", true),
            ] {
                let expected = if is_allowed { Ok(Some(text.into())) } else { Err(StatusCode::FORBIDDEN) };
                assert_eq!(by(text, &method, path), expected, "{is_loopback} {text} {method} {path}");
            }
        }
    }

    #[test]
    fn on_a_unix_socket_the_file_is_the_lock() {
        for has_tokens in [true, false] {
            let gate = Gate { reach: AdminReach::UnixSocket, ..gate(true, has_tokens, false) };
            let judge = |method: &Method, pairs| {
                gate.judge(method, gate.route("/api/v1/reload"), &headers(pairs))
                    .map_err(|refused| refused.into_response().status().as_u16())
            };
            for method in [Method::GET, Method::POST] {
                assert_eq!(
                    judge(&method, &[("host", "localhost"), ("authorization", "Bearer wrong")]),
                    Ok(None)
                );
                let named = judge(&method, &[("authorization", "Bearer reads-0123456789")]);
                assert_eq!(named, Ok(has_tokens.then(|| "reads-0123456789".into())));
            }
            assert_eq!(judge(&Method::POST, &[("content-type", "text/plain")]), Err(415));
            let standing = |path| gate.standing(path, &HeaderMap::new());
            assert_eq!(
                (standing("/api/v1/status"), standing("/healthz")),
                (ClientStanding::Known, ClientStanding::Open)
            );
        }
    }

    /// `ssh -L` makes a Unix socket a port of a machine with a browser.
    #[test]
    fn a_web_page_changes_nothing_through_a_tunnel_to_a_unix_socket() {
        let gate = Gate { reach: AdminReach::UnixSocket, ..gate(true, true, false) };
        let host = ("host", "localhost:8053");
        let (own, foreign) = (("origin", "http://localhost:8053"), ("origin", "https://evil.example"));
        let cross = ("sec-fetch-site", "cross-site");
        let token = ("authorization", "Bearer reads-0123456789");
        for (pairs, expected) in [
            (&[host][..], 200),
            (&[host, own], 200),
            (&[host, foreign], 403),
            (&[host, cross], 403),
            (&[host, foreign, token], 200),
        ] {
            assert_eq!(judged(&gate, &Method::POST, "/api/v1/reload", pairs), expected, "{pairs:?}");
            assert_eq!(judged(&gate, &Method::GET, "/api/v1/status", pairs), 200, "{pairs:?}");
        }
        for method in [Method::GET, Method::POST] {
            assert_eq!(judged(&gate, &method, "/api/v1/status", &[("host", "evil.example:8053")]), 403);
        }
    }

    #[test]
    fn a_refusal_names_the_right_that_is_missing() {
        let gate = gate(false, true, false);
        for (pairs, status, challenge) in [
            (&[][..], 401, "Bearer realm=\"steerd\", scope=\"reload\""),
            (
                &[("authorization", "Bearer wrong")],
                401,
                "Bearer realm=\"steerd\", error=\"invalid_token\", scope=\"reload\"",
            ),
            (
                &[("authorization", "Bearer reads-0123456789")],
                403,
                "Bearer realm=\"steerd\", error=\"insufficient_scope\", scope=\"reload\"",
            ),
        ] {
            let refused =
                gate.judge(&Method::POST, gate.route("/api/v1/reload"), &headers(pairs)).unwrap_err();
            assert!(refused.detail().contains("with the right `reload`"), "{}", refused.detail());
            let reply = refused.into_response();
            assert_eq!(reply.status(), status);
            assert_eq!(reply.headers()["www-authenticate"], challenge);
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
