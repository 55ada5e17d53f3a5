//! The connections of the admin server: accepting, serving and closing them.
//!
//! ```text
//! separate thread                            runtime of the admin server
//! accept, peek at first bytes, take place --> handshake of TLS -> head -> router -> reply -> head ...
//! ```
//!
//! The accepting thread does nothing else and waits for no request, because the kernel's accept
//! queue is short: a client that finds it full retries after a second. [`places`] decides which
//! connections have a place.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::admin::asker::Peer;
use crate::admin::events::Streaming;
use crate::admin::gate::{ClientStanding, Gate};
use crate::admin::pace::Paced;
use crate::admin::places::{self, Asking, Guest, Places};
use crate::admin::proof::Local;
use crate::admin::stream::{self, AdminStream};
use crate::admin::text::Held;
use crate::metrics::Metrics;
use crate::sys;

/// Maximum number of open connections: those with a place, and evicted ones that the runtime has
/// not closed yet.
pub(crate) const MOST: usize = places::ALL + 128;
/// Time limit for the handshake of TLS, for the head of a request, and for the idle time between two requests.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// The same limit while many connections wait without a complete head.
const SHORT_HEADER_TIME: Duration = Duration::from_secs(2);
/// Time limit for a client that does not read its reply.
pub(super) const DEAF_TIME: Duration = Duration::from_secs(10);
/// Maximum age of a connection; a request in flight at that time is the last one. A connection with a stream of events
/// may be older.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Time limit for a request in flight when the server stops or the connection reaches its maximum
/// age, and for the client to read the rest of its reply.
const FINISH_TIME: Duration = Duration::from_secs(5);
/// How long a connection without a request may delay the stop: its first one may be on the way.
const FIRST_REQUEST_TIME: Duration = Duration::from_millis(500);
/// Maximum size of a request head, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How many of the first bytes are inspected: enough for a usual head.
const FIRST_LOOK: usize = 1024;
/// Pause after a failed accept, for example without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The beginning of `100::/8`, which is reserved (RFC 4291).
const RESERVED: u128 = 0x0100 << 112;

/// State that the connections of one socket share.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    pub(super) router: Router,
    pub(super) gate: Gate,
    pub(super) held: Held,
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted connection, and its ends.
struct AcceptedConnection {
    stream: AdminStream,
    peer: Peer,
    local: Local,
    /// The clients with which it shares its places.
    crowd: IpAddr,
}

impl Socket {
    async fn accept(&self) -> io::Result<AcceptedConnection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let local = Local(stream.local_addr().ok());
                Ok(AcceptedConnection {
                    stream: stream.into(),
                    peer: Peer::Remote(peer),
                    local,
                    crowd: peer.ip(),
                })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                sys::stream::bound_send_buffer(&stream)?;
                let (peer, crowd) = (Peer::User(uid), crowd_of_user(uid));
                Ok(AcceptedConnection { stream: AdminStream::Unix(stream), peer, local: Local(None), crowd })
            }
        }
    }
}

/// The crowd of a user: an address that no client can have.
fn crowd_of_user(uid: u32) -> IpAddr {
    Ipv6Addr::from(RESERVED | (u128::from(uid) << 64)).into()
}

/// Accepts and serves connections until `stop` is true or its sender is dropped, then finishes the
/// requests in flight.
pub(super) async fn serve(
    listeners: Vec<(Socket, ConnectionContext)>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
) {
    let open = Arc::new(Semaphore::new(MOST));
    let places = Places::new(metrics);
    let accepting = listeners.into_iter().map(|(listener, shared)| {
        let accepting = accept(listener, shared, Arc::clone(&places), Arc::clone(&open), stop.clone());
        spawn_blocking(|| Handle::current().block_on(accepting))
    });
    for ended in accepting.collect::<Vec<_>>() {
        let _ = ended.await;
    }
    // Waits for all connections; each has its own time limit.
    let _ = open.acquire_many(u32::try_from(MOST).unwrap_or(u32::MAX)).await;
}

async fn accept(
    listener: Socket,
    shared: ConnectionContext,
    places: Arc<Places>,
    open: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
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
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "the admin server cannot accept a connection");
                if sys::is_out_of_descriptors(&error) {
                    places.evict_idlest();
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let header_time = if places.has_many_heads() { SHORT_HEADER_TIME } else { HEADER_TIME };
        // If a complete head has already arrived, the connection immediately gets a place of the
        // right kind. Among connections without a head, it could be evicted before it is read.
        let first = first_look(&accepted.stream, &shared.gate);
        let guest = Guest::arrive(&places, accepted.crowd, first);
        tokio::spawn(attend(accepted, guest, shared.clone(), header_time, stop.clone(), permit.ok()));
    }
}

/// The standing according to the bytes that arrived with the connection; `None` without a complete
/// head.
fn first_look(stream: &AdminStream, gate: &Gate) -> Option<ClientStanding> {
    let mut bytes = [0; FIRST_LOOK];
    let count = match stream {
        AdminStream::Tcp(_) if gate.access.borrow().tls.is_some() => return None,
        AdminStream::Tcp(stream) => sys::stream::peek(stream, &mut bytes),
        AdminStream::Unix(stream) => sys::stream::peek(stream, &mut bytes),
        AdminStream::Tls(_) => return None,
    };
    gate.standing_of_head(bytes.get(..count.ok()?)?)
}

/// Serves one connection until it ends or is evicted.
async fn attend(
    accepted: AcceptedConnection,
    guest: Arc<Guest>,
    shared: ConnectionContext,
    header_time: Duration,
    stop: watch::Receiver<bool>,
    _open: Option<OwnedSemaphorePermit>,
) {
    // Boxed, because accepting moves this task and the future is large.
    let mut conversation = Box::pin(converse(accepted, Arc::clone(&guest), shared, header_time, stop));
    tokio::select! {
        // An evicted connection must do no further work; otherwise a flood would outrun the
        // runtime.
        biased;
        () = guest.eviction.told() => guest.leave(),
        () = &mut conversation => {}
    }
}

/// Serves one connection. It is reset if this future is dropped, or if its client was silent or
/// read nothing for too long. Otherwise it is closed in order.
async fn converse(
    AcceptedConnection { stream, peer, local, .. }: AcceptedConnection,
    guest: Arc<Guest>,
    shared: ConnectionContext,
    header_time: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let ConnectionContext { router, gate, held } = shared;
    let tls = gate.access.borrow().tls.clone();
    let stream = match (stream, tls) {
        (AdminStream::Tcp(stream), Some(tls)) => {
            let stopped = async {
                let _ = stop.wait_for(|stop| *stop).await;
                sleep(FIRST_REQUEST_TIME).await;
            };
            let spoken = tokio::select! {
                spoken = stream::speak_tls(stream, &tls, header_time) => spoken,
                () = stopped => None,
            };
            let Some(stream) = spoken else { return guest.leave() };
            stream
        }
        (stream, _) => stream,
    };
    let (streaming, begun) = (Streaming::default(), Arc::new(AtomicBool::new(false)));
    let answers = ConnectionService {
        router,
        gate,
        guest: Arc::clone(&guest),
        local,
        peer,
        streaming: streaming.clone(),
        begun: Arc::clone(&begun),
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Paced::new(stream, held)), answers);
    let mut ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
        () = too_old(&streaming) => None,
    };
    if ended.is_none() {
        // hyper closes a connection on which nothing was read yet, and its client would get no reply.
        let first = poll_fn(|context| match connection.poll_without_shutdown(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if begun.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        ended = timeout(FIRST_REQUEST_TIME, first).await.unwrap_or_default();
    }
    if ended.is_none() {
        Pin::new(&mut connection).graceful_shutdown();
        let finish = poll_fn(|context| connection.poll_without_shutdown(context));
        ended = timeout(FINISH_TIME, finish).await.ok();
    }
    // Failures of a connection are the client's fault and are not logged. But a client that did not
    // send HTTP should get its error reply, so the connection is closed in order.
    if ended.is_some_and(|ended| !ended.is_err_and(|error| is_out_of_time(&error))) {
        connection.into_parts().io.into_inner().into_stream().close(FINISH_TIME).await;
    } else {
        guest.leave();
    }
}

/// Returns when the connection is too old.
async fn too_old(streaming: &Streaming) {
    sleep(CONNECTION_TIME).await;
    while streaming.is_on() {
        sleep(CONNECTION_TIME).await;
    }
}

/// Whether the client was silent for too long, or read its reply too slowly.
fn is_out_of_time(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_timeout() || cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// The router for a single connection.
struct ConnectionService {
    router: Router,
    gate: Gate,
    guest: Arc<Guest>,
    local: Local,
    peer: Peer,
    streaming: Streaming,
    /// Whether there was a request.
    begun: Arc<AtomicBool>,
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.begun.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(self.local);
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.streaming.clone());
        let asking = self.guest.ask(self.gate.standing(request.uri().path(), request.headers()));
        let answer = TowerToHyperService::new(self.router.clone()).call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| ReplyBody { body, _asking: asking })) })
    }
}

/// The body of a reply. The request keeps its place until the whole body is handed over.
struct ReplyBody {
    body: Body,
    _asking: Option<Asking>,
}

impl hyper::body::Body for ReplyBody {
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
