//! The connections of the admin server: how they are accepted and served, and how each ends.
//!
//! ```text
//! thread of its own                        runtime of the admin server
//! accept, look at what has come, place --> head -> router -> answer -> head ...
//! ```
//!
//! Accepting does nothing else and waits for no request, because the queue of the kernel is short: a
//! connection that finds it full is tried again after a second. [`places`] decides which connection has a
//! place, and the router what is answered.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::admin::gate::{Gate, Standing};
use crate::admin::pace::Paced;
use crate::admin::places::{self, Asking, Guest, Places};
use crate::admin::proof::Local;
use crate::admin::text::Held;
use crate::listener::closing;
use crate::metrics::Metrics;
use crate::sys;

/// The most connections that are open: those with a place, and those that lost it and whose end the
/// runtime has not come to yet.
pub(crate) const MOST: usize = places::ALL + 128;
/// The longest a client may take for the head of a request, and may be silent between two.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// The same while many connections wait without a complete head.
const SHORT_HEADER_TIME: Duration = Duration::from_secs(2);
/// The longest a client may take nothing at all of its answer.
pub(super) const DEAF_TIME: Duration = Duration::from_secs(10);
/// The longest a connection lives; then the request in flight is the last.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// The longest a request in flight may take to finish when the server stops or the connection has
/// reached its age, and the longest a client may take for the end of its answer.
const FINISH_TIME: Duration = Duration::from_secs(5);
/// The largest head of a request, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How much of what has come with a connection is looked at, bytes: a usual head.
const FIRST_LOOK: usize = 1024;
/// From a failed accept, as when descriptors have run out, to the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections are served with.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) gate: Gate,
    pub(super) held: Held,
    pub(super) metrics: Arc<Metrics>,
}

/// Accepts and serves connections until `stop` is true or its sender is gone, then finishes what
/// is in flight.
pub(super) async fn serve(listener: TcpListener, shared: Shared, stop: watch::Receiver<bool>) {
    let open = Arc::new(Semaphore::new(MOST));
    let accepting = accept(listener, shared, Arc::clone(&open), stop);
    let _ = spawn_blocking(|| Handle::current().block_on(accepting)).await;
    // Each connection bounds its own end.
    let _ = open.acquire_many(u32::try_from(MOST).unwrap_or(u32::MAX)).await;
}

async fn accept(
    listener: TcpListener,
    shared: Shared,
    open: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::new(Arc::clone(&shared.metrics));
    let next = async || {
        let permit = Arc::clone(&open).acquire_owned().await;
        (listener.accept().await, permit)
    };
    loop {
        let (accepted, permit) = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            next = next() => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "the admin server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let header_time = if places.has_many_heads() { SHORT_HEADER_TIME } else { HEADER_TIME };
        // A head that has come already gets the place of its kind at once: among those without one
        // it could be evicted before it is read.
        let guest = Guest::arrive(&places, peer.ip(), first_look(&stream, &shared.gate));
        tokio::spawn(attend(stream, guest, shared.clone(), header_time, stop.clone(), permit.ok()));
    }
}

/// The standing of a client by the bytes that came with its connection; none: no complete head.
fn first_look(stream: &TcpStream, gate: &Gate) -> Option<Standing> {
    let mut bytes = [0; FIRST_LOOK];
    let count = sys::stream::peek(stream, &mut bytes).ok()?;
    gate.standing_of_head(bytes.get(..count)?)
}

/// Serves one connection until it ends or its place is wanted for another.
async fn attend(
    stream: TcpStream,
    guest: Arc<Guest>,
    shared: Shared,
    header_time: Duration,
    stop: watch::Receiver<bool>,
    _open: Option<OwnedSemaphorePermit>,
) {
    // In a box, because accepting moves this task, and the conversation is large.
    let mut conversation = Box::pin(converse(stream, Arc::clone(&guest), shared, header_time, stop));
    tokio::select! {
        // An evicted connection costs no further work, or a flood of them would outrun the runtime.
        biased;
        () = guest.eviction.told() => guest.leave(),
        () = &mut conversation => {}
    }
}

/// Serves one connection. It is reset when this is dropped, and when its client was silent or deaf
/// for too long; else it is closed in order.
async fn converse(
    stream: TcpStream,
    guest: Arc<Guest>,
    shared: Shared,
    header_time: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(local) = stream.local_addr() else { return };
    let Shared { router, gate, held, .. } = shared;
    let answers = Answers { router, gate, guest: Arc::clone(&guest), local: Local(local) };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Paced::new(stream, held)), answers);
    let mut ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
        () = sleep(CONNECTION_TIME) => None,
    };
    if ended.is_none() {
        Pin::new(&mut connection).graceful_shutdown();
        let finish = poll_fn(|context| connection.poll_without_shutdown(context));
        ended = timeout(FINISH_TIME, finish).await.ok();
    }
    // How a connection fails is the client's affair: nothing here is worth a log line. But the last
    // word to a client that sent no HTTP shall reach it.
    if ended.is_some_and(|ended| !ended.is_err_and(|error| is_out_of_time(&error))) {
        closing::close(connection.into_parts().io.into_inner().into_stream(), FINISH_TIME).await;
    } else {
        guest.leave();
    }
}

/// Whether the client was silent for too long, or took too little of its answer.
fn is_out_of_time(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_timeout() || cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// The router, for one connection.
struct Answers {
    router: Router,
    gate: Gate,
    guest: Arc<Guest>,
    local: Local,
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.local);
        let asking = self.guest.ask(self.gate.standing(request.uri().path(), request.headers()));
        let answer = TowerToHyperService::new(self.router.clone()).call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Answer { body, _asking: asking })) })
    }
}

/// The body of an answer. Its request keeps its place until all of the body is handed over.
struct Answer {
    body: Body,
    _asking: Option<Asking>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
