//! The HTTP interface for operators: liveness, readiness, metrics, status, overrides and reload,
//! and the status page that shows them.
//!
//! It passes requests for changes to `checker` and `reload`. Decisions about health or answers do not
//! belong here, and nothing here reads the configuration file.

mod asker;
mod audit;
mod bound;
mod bulk;
mod configurations;
mod connections;
mod documents;
mod events;
mod explain;
mod filters;
mod gate;
mod listing;
mod overrides;
mod pace;
mod page;
mod pieces;
mod places;
mod preconditions;
mod preview;
mod problem;
mod proof;
mod refused;
mod reload;
mod rendering;
mod resources;
mod socket_file;
mod status;
mod stream;
mod text;
mod tiers;
mod traffic;
mod upgrade;
mod visibility;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRef, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::bound::AdminListener;
use crate::admin::connections::{ConnectionContext, Socket};
use crate::admin::documents::Documents;
use crate::admin::events::Streams;
use crate::admin::gate::{AdminReach, Gate, RouteAccess};
use crate::admin::problem::Problem;
use crate::admin::socket_file::SocketFile;
use crate::audit::AuditHandle;
use crate::checker::{CheckerCommand, CheckerHandle};
use crate::config::{Access, AdminRight};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::spelling::closest;
use crate::visibility::Visibility;

pub use bound::{AdminListenError, BoundAdminServer, bind, bind_after};
pub(crate) use connections::MOST as MOST_CONNECTIONS;
pub(crate) use overrides::{override_length, override_reason};

/// Timeout for an answer from the checker.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Maximum size of a request body, bytes.
const MAX_BODY: usize = 16 * 1024;
/// The description of all requests and replies, for programs.
const OPENAPI: &str = include_str!("openapi.json");
/// Maximum number of names listed in a message about an unknown name.
const MOST_LISTED: usize = 20;

/// The sources of the admin server's replies.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The checker.
    pub checker: CheckerHandle,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Whether DNS is answered now.
    pub serving: watch::Receiver<bool>,
    /// Reloads the configuration.
    pub reload: crate::reload::ReloadHandle,
    /// Starts upgrades.
    pub upgrade: crate::upgrade::UpgradeHandle,
    /// Keeps changes out during an upgrade.
    pub changes: crate::upgrade::ChangeGate,
    /// The access rules in force.
    pub access: watch::Receiver<Access>,
    /// Why overrides would currently not survive a restart.
    pub lost_because: watch::Receiver<Option<&'static str>>,
    /// The last events.
    pub events: Events,
    /// The record of all changes by operators.
    pub audit: AuditHandle,
    /// The query log and dnstap.
    pub visibility: Visibility,
}

/// The state shared by all requests.
#[derive(Clone, Debug)]
struct AdminState {
    sources: Sources,
    documents: Documents,
    streams: Streams,
}

impl FromRef<AdminState> for Sources {
    fn from_ref(shown: &AdminState) -> Self {
        shown.sources.clone()
    }
}

/// The running admin server.
#[derive(Debug)]
pub struct AdminServer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// The files of its Unix sockets.
    files: Vec<SocketFile>,
}

impl BoundAdminServer {
    /// Starts answering requests. Must be called within a tokio runtime.
    #[must_use]
    pub fn serve(self, sources: Sources) -> AdminServer {
        let by_path = Arc::new(requests().into_iter().map(|(path, access, _)| (path, access)).collect());
        let (metrics, access) = (Arc::clone(&sources.metrics), sources.access.clone());
        let documents = Documents::new(&sources);
        let held = documents.held.clone();
        let (stop, stopped) = watch::channel(false);
        let streams = Streams::new(stopped.clone());
        let weak_tokens = audit::WeakTokens::new(sources.audit.clone());
        let shown = AdminState { sources, documents, streams };
        let (mut listeners, mut files) = (Vec::new(), Vec::new());
        for listener in self.listeners {
            let (socket, reach) = match listener {
                AdminListener::Tcp(listener, address) => (Socket::Tcp(listener), AdminReach::of(address)),
                AdminListener::Unix(listener, mut file) => {
                    file.take();
                    files.push(file);
                    (Socket::Unix(listener), AdminReach::UnixSocket)
                }
            };
            let gate = Gate { access: access.clone(), routes: Arc::clone(&by_path), reach };
            let router = routes(shown.clone())
                .layer(middleware::from_fn_with_state(gate.clone(), gate::pass))
                .layer(middleware::from_fn_with_state(weak_tokens.clone(), audit::note_weak_token));
            listeners.push((socket, ConnectionContext { router, gate, held: held.clone() }));
        }
        for mut file in self.retired {
            file.take();
        }
        let task = tokio::spawn(connections::serve(listeners, metrics, stopped));
        AdminServer { stop, task, files }
    }
}

impl AdminServer {
    /// Leaves the files of the Unix sockets to the process that has taken over.
    pub fn hand_over(&mut self) {
        self.files.iter_mut().for_each(SocketFile::leave);
    }

    /// Finishes the requests in flight and stops, within seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

/// A router for all requests without access control, which [`BoundAdminServer::serve`] adds.
pub fn router(sources: Sources) -> Router {
    let documents = Documents::new(&sources);
    let streams = Streams::new(watch::channel(false).1);
    routes(AdminState { sources, documents, streams })
}

/// All requests besides the files of the status page, and who may send them. `openapi.json` documents each.
fn requests() -> Vec<(&'static str, RouteAccess, MethodRouter<AdminState>)> {
    use AdminRight::{Override, Reload, Upgrade};
    use RouteAccess::{Changes, Open, Reads};
    vec![
        ("/api/v1/openapi.json", Reads, get(|| async { ([(CONTENT_TYPE, "application/json")], OPENAPI) })),
        ("/healthz", Open, get(|| async { "alive\n" })),
        ("/readyz", Open, get(readyz)),
        (proof::PATH, Open, get(proof::proof)),
        ("/metrics", Reads, get(resources::metrics)),
        ("/api/v1/status", Reads, get(resources::status)),
        ("/api/v1/pools", Reads, get(resources::pools)),
        ("/api/v1/pools/{pool}", Reads, get(resources::pool)),
        (
            "/api/v1/pools/{pool}/backends/{backend}/override",
            Changes(Override),
            get(overrides::get).put(overrides::put).delete(overrides::delete),
        ),
        (
            "/api/v1/pools/{pool}/backends/{backend}/weight",
            Changes(Override),
            get(overrides::get_weight).put(overrides::put_weight).delete(overrides::delete_weight),
        ),
        ("/api/v1/overrides", Changes(Override), post(bulk::change)),
        ("/api/v1/services", Reads, get(resources::services)),
        ("/api/v1/services/{name}", Reads, get(resources::service)),
        ("/api/v1/events", Reads, get(events::events)),
        ("/api/v1/audit", Reads, get(audit::audit)),
        ("/api/v1/config", Reads, get(configurations::config)),
        ("/api/v1/configurations", Reads, get(configurations::list)),
        ("/api/v1/rollback", Changes(Reload), post(configurations::rollback)),
        ("/api/v1/explain", Reads, get(explain::explain)),
        ("/api/v1/services/{name}/failback", Changes(Override), post(tiers::fail_back)),
        (
            "/api/v1/services/{name}/failover",
            Changes(Override),
            get(tiers::get).put(tiers::fail_over).delete(tiers::end_failover),
        ),
        ("/api/v1/reload", Changes(Reload), post(reload::reload)),
        (
            "/api/v1/query-log",
            Changes(Override),
            get(visibility::query_log).put(visibility::put_query_log).delete(visibility::delete_query_log),
        ),
        (
            "/api/v1/dnstap",
            Changes(Override),
            get(visibility::dnstap).put(visibility::put_dnstap).delete(visibility::delete_dnstap),
        ),
        ("/api/v1/upgrade", Changes(Upgrade), post(upgrade::upgrade)),
    ]
}

fn routes(shown: AdminState) -> Router {
    let changes = upgrade::ChangesUnderWay::new(shown.sources.changes.clone());
    requests()
        .into_iter()
        .fold(page::routes(), |router, (path, _, methods)| router.route(path, methods))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(changes, upgrade::keep_out))
        .layer(middleware::map_response(set_common_headers))
        .with_state(shown)
}

async fn readyz(State(sources): State<Sources>) -> Result<&'static str, Problem> {
    if sources.checker.commands.is_closed() {
        return Err(checker_ended());
    }
    if *sources.serving.borrow() {
        return Ok("ready\n");
    }
    let detail = "DNS is not answered now: some backends have no outcome yet, or steerd is stopping";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}; try /, /api/v1/status, /metrics, /healthz or /readyz", uri.path()),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!(
        "{} does not accept {method}; the Allow header lists the methods that it accepts",
        uri.path()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

impl Sources {
    /// Sends a command to the checker and waits for the answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> CheckerCommand) -> Result<T, Problem> {
        let ask = async {
            let (reply, answer) = oneshot::channel();
            self.checker.commands.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(ANSWER_TIME, ask).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(checker_ended()),
            Err(_) => {
                let detail = format!(
                    "the checker did not answer within {ANSWER_TIME:?}; it may still carry out the request"
                );
                Err(Problem::unanswered(detail))
            }
        }
    }
}

/// Reads the whole body of a request.
async fn read_body(body: Body) -> Result<Bytes, Problem> {
    to_bytes(body, MAX_BODY).await.map_err(|_| {
        let detail = format!("the body has more than {MAX_BODY} bytes, or is incomplete");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    })
}

/// A JSON reply. It is indented, because people read it with curl.
fn json(object: &impl Serialize) -> Response {
    let mut text = serde_json::to_string_pretty(object).unwrap_or_default();
    text.push('\n');
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// The error that `name` does not exist. Suggests the closest known name, and lists the first few.
fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Problem {
    let mut detail = format!("there is no {what}");
    let near = closest(name, known.clone());
    let mut listed: Vec<&str> = known.take(MOST_LISTED + 1).collect();
    let more = if listed.len() > MOST_LISTED { ", and more" } else { "" };
    listed.truncate(MOST_LISTED);
    let verb = if listed.len() == 1 { "is" } else { "are" };
    let listed = listed.join(", ");
    detail = match near {
        _ if listed.is_empty() => format!("{detail}; there are none"),
        Some(near) => format!("{detail}; did you mean `{near}`? There {verb} {listed}{more}"),
        None => format!("{detail}; there {verb} {listed}{more}"),
    };
    Problem::new(StatusCode::NOT_FOUND, detail)
}

/// The error that the checker has ended, so that the table no longer follows the state of the backends.
fn checker_ended() -> Problem {
    let detail = "the health checker has ended; restart steerd, and look in its log for the reason";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

/// Sets headers: a reply is valid only now, so it must not be cached, and browsers must not guess its
/// content type.
async fn set_common_headers(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
