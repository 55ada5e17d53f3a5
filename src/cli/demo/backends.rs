//! The three HTTP servers of the demo. Requests can break and repair them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

/// The name and address of each backend.
pub(super) const BACKENDS: [(&str, Ipv4Addr); 3] = [
    ("one", Ipv4Addr::new(127, 0, 0, 11)),
    ("two", Ipv4Addr::new(127, 0, 0, 12)),
    ("three", Ipv4Addr::new(127, 0, 0, 13)),
];

/// The error if a backend cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("a backend of the demo cannot listen on {address}: {source}{}", advice(source))]
pub(crate) struct BackendError {
    address: SocketAddr,
    source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program, perhaps another demo, has the port: choose one with --backend-port"
        }
        io::ErrorKind::PermissionDenied => "; choose a port from 1024 up with --backend-port",
        io::ErrorKind::AddrNotAvailable => {
            "; is the loopback interface up? On Linux all of 127.0.0.0/8 is on it"
        }
        _ => "",
    }
}

#[derive(Clone)]
struct DemoBackend {
    name: &'static str,
    broken: Arc<AtomicBool>,
}

/// Starts all backends on the same port, and returns it. With port 0 the system chooses.
pub(super) async fn start(mut port: u16) -> Result<u16, BackendError> {
    for (name, address) in BACKENDS {
        let address = SocketAddr::new(IpAddr::V4(address), port);
        let fault = |source| BackendError { address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        port = listener.local_addr().map_err(fault)?.port();
        let backend = DemoBackend { name, broken: Arc::default() };
        let router = Router::new()
            .route("/", get(page))
            .route("/healthz", get(health))
            .route("/break", post(set_broken::<true>))
            .route("/fix", post(set_broken::<false>))
            .with_state(backend);
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    Ok(port)
}

impl DemoBackend {
    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn state(&self) -> &'static str {
        if self.is_broken() { "broken: /healthz answers 503" } else { "healthy: /healthz answers 200" }
    }
}

async fn health(State(backend): State<DemoBackend>) -> StatusCode {
    if backend.is_broken() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

/// Changes require a POST, so the page has buttons.
async fn page(State(backend): State<DemoBackend>) -> Html<String> {
    Html(format!(
        "<!doctype html><title>{name}</title><h1>Backend {name}</h1><p>It is {state}.</p>\
         <form method=post><button formaction=/break>break</button> <button formaction=/fix>fix</button></form>\n",
        name = backend.name,
        state = backend.state(),
    ))
}

async fn set_broken<const BROKEN: bool>(State(backend): State<DemoBackend>) -> Response {
    backend.broken.store(BROKEN, Ordering::Relaxed);
    // A browser returns to the page; curl shows the text.
    let text = format!("backend {} is {}\n", backend.name, backend.state());
    (StatusCode::SEE_OTHER, [(LOCATION, "/")], text).into_response()
}
