//! The status page: its files, as they are in the binary.
//!
//! The files hold no data, so everyone may read them. The script reads the API, as any other client, with the token
//! that its user gives it.

use axum::Router;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page.
struct PageFile {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

/// A script of the page, which has the name of its file.
macro_rules! script {
    ($name:literal) => {
        PageFile { path: concat!("/page/", $name), content_type: SCRIPT, text: include_str!($name) }
    };
}

const FILES: &[PageFile] = &[
    PageFile { path: "/", content_type: HTML, text: include_str!("index.html") },
    PageFile { path: "/page/page.css", content_type: CSS, text: include_str!("page.css") },
    script!("api.js"),
    script!("backend.js"),
    script!("change.js"),
    script!("detail.js"),
    script!("dialog.js"),
    script!("dom.js"),
    script!("events.js"),
    script!("explain.js"),
    script!("failover.js"),
    script!("feed.js"),
    script!("history.js"),
    script!("later.js"),
    script!("main.js"),
    script!("measure.js"),
    script!("model.js"),
    script!("pools.js"),
    script!("preview.js"),
    script!("rates.js"),
    script!("services.js"),
    script!("timeline.js"),
    script!("token.js"),
    script!("trouble.js"),
    script!("words.js"),
];

/// Nothing is loaded from another host, no script or style stands in the page itself, and no other page may show this
/// one in a frame, where a click on it could be stolen.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of each file beside those of all replies.
static HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Whether a path is that of a file of the page.
pub(super) fn has(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// The routes of all files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let add = |router: Router<S>, PageFile { path, content_type, text }: &'static PageFile| {
        router.route(path, get(|| async { ([(CONTENT_TYPE, *content_type)], *text).into_response() }))
    };
    FILES.iter().fold(Router::new(), add).layer(middleware::map_response(set_headers))
}

async fn set_headers(mut response: Response) -> Response {
    for (name, value) in &HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
