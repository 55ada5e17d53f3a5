//! The HTTP interface for operators: liveness, readiness, metrics, and the state of everything.
//!
//! It reads and shows; whoever owns what is shown is asked for it. Nothing here decides about
//! health or answers, and nothing here knows the configuration file.

mod connections;
mod problem;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::problem::Problem;
use crate::checker::{Command, Handle, Status};
use crate::metrics::Metrics;

/// The longest the checker may take to tell the state of everything.
const STATUS_TIME: Duration = Duration::from_secs(5);
/// The content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the admin server shows.
#[derive(Clone, Debug)]
pub struct Source {
    /// The checker.
    pub checker: Handle,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Whether DNS is answered now.
    pub serving: watch::Receiver<bool>,
}

/// The address of `[admin] listen` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the admin server cannot listen on {address}: {source}{}", advice(source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// What the system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program, or another steerd, has the port: stop it, or change `listen` under [admin]"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: change `listen` under [admin]"
        }
        io::ErrorKind::PermissionDenied => "; choose a port from 1024 up for `listen` under [admin]",
        _ => "",
    }
}

/// The socket of the admin server, bound but not served.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// The admin server at work.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Takes the socket; nothing is answered yet.
///
/// # Errors
/// When the system does not give the address.
pub async fn bind(address: SocketAddr) -> Result<Bound, BindError> {
    let fault = |source| BindError { address, source };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// The address in use, with the port that the system chose if it was to choose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests from now on. Must be called within a tokio runtime.
    #[must_use]
    pub fn serve(self, source: Source) -> Running {
        let mut router = router(source);
        if self.address.ip().is_loopback() {
            router = router.layer(middleware::from_fn(refuse_foreign_names));
        }
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(connections::serve(self.listener, router, stopped));
        Running { stop, task }
    }
}

impl Running {
    /// Finishes the requests in flight, within seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

fn router(source: Source) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(api_status))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::map_response(set_common_headers))
        .with_state(source)
}

async fn readyz(State(source): State<Source>) -> Result<&'static str, Problem> {
    if source.checker.commands.is_closed() {
        return Err(checker_ended());
    }
    if *source.serving.borrow() {
        return Ok("ready\n");
    }
    let detail =
        "DNS is not answered now: the first outcome of some backends is still awaited, or steerd is stopping";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
}

/// Nobody is asked for them, so that they can be read when the checker does not answer.
async fn metrics(State(source): State<Source>) -> Result<Response, Problem> {
    let render = move || source.metrics.render(&source.checker.published.load());
    // At 100,000 backends it takes longer than a thread of the runtime may be away from its probes.
    let text = tokio::task::spawn_blocking(render).await.map_err(|_| {
        let detail = "the metrics could not be written; this is a fault in steerd, please report it";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })?;
    Ok(([(CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}

async fn api_status(State(source): State<Source>) -> Result<Response, Problem> {
    let status = source.status().await?;
    let mut text = serde_json::to_string_pretty(&status::Status::from(&status)).unwrap_or_default();
    text.push('\n');
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}; try /api/v1/status, /metrics, /healthz or /readyz", uri.path()),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} can be read with GET or HEAD, not {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

impl Source {
    async fn status(&self) -> Result<Status, Problem> {
        let ask = async {
            let (reply, status) = oneshot::channel();
            self.checker.commands.send(Command::Status(reply)).await.ok()?;
            status.await.ok()
        };
        match timeout(STATUS_TIME, ask).await {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(checker_ended()),
            Err(_) => {
                let detail = format!("the checker did not answer within {STATUS_TIME:?}; try again");
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
            }
        }
    }
}

/// The table no longer follows the backends.
fn checker_ended() -> Problem {
    let detail = "the health checker has ended; restart steerd, and look in its log for the reason";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

/// What is shown is true now only, and is never more than its content type says.
async fn set_common_headers(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Refuses requests that name a host other than this machine.
///
/// A web page may let its own name resolve to 127.0.0.1 and then read what listens there as if it
/// were its own ("DNS rebinding"). The browser still sends the page's name as the Host, and an
/// address or `localhost` cannot be rebound. Only browsers are meant: a request without a Host is
/// let through.
async fn refuse_foreign_names(headers: HeaderMap, request: Request, next: Next) -> Response {
    if headers.get_all(HOST).iter().all(|host| host.to_str().is_ok_and(names_this_machine)) {
        return next.run(request).await;
    }
    let detail = "the Host header must hold an IP address or localhost, because steerd's admin server \
                  listens on loopback only";
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

/// Whether a Host header holds an address or `localhost`, with or without a port.
fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;
