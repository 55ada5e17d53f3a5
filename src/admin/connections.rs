//! The connections of the admin server: how many there are, how long each may take, how they end.
//!
//! What is answered on them is the router's.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::admin::pace::Paced;
use crate::admin::text::Held;

/// Connections at a time. Further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: u32 = 64;
/// The longest a client may take for the head of a request, and may be silent between two.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// The longest a connection lives; then the request in flight is the last.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// The longest a request in flight may take to finish when the server stops or the connection has
/// reached its age. With it a client that never reads its answer is let go of.
const FINISH_TIME: Duration = Duration::from_secs(5);
/// The largest head of a request, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// From a failed accept, as when descriptors have run out, to the next.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Accepts and serves connections until `stop` is true or its sender is gone, then finishes what
/// is in flight.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    held: Held,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { break };
        let router = router.clone();
        let stop = stop.clone();
        let stream = Paced::new(stream, held.clone());
        tokio::spawn(async move {
            converse(stream, router, stop).await;
            drop(place);
        });
    }
    drop(listener);
    // All places free means that no connection is left; each bounds its own end.
    let _ = places.acquire_many(MAX_CONNECTIONS).await;
}

/// The next connection, with its place among [`MAX_CONNECTIONS`].
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, place)),
            Err(error) => {
                warn!(%error, "the admin server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: Paced, router: Router, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // How a connection fails is the client's affair: nothing here is worth a log line.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
        () = sleep(CONNECTION_TIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(FINISH_TIME, connection).await;
}
