//! The connections of the admin server: who has a place, how long each may take, how they end.
//!
//! ```text
//! accepted -> HEADS ---- head of a request ----> REQUESTS --+
//!              ^  |                                         |
//!              |  +-- a head with the token --> KNOWN       |
//!              +------------- answered ---------------------+
//! ```
//!
//! Each kind has places of its own, and a new one takes that of the idlest of its kind. So clients
//! without a complete head keep nobody out, nor do those who do not read what they asked for.
//! Liveness and readiness are answered on a place for heads. What is answered is the router's.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::admin::gate::{Gate, Standing};
use crate::admin::pace::Paced;
use crate::admin::proof::Local;
use crate::admin::text::Held;
use crate::listener::closing;
use crate::listener::connections::{Connections, Eviction, Place, Room};
use crate::metrics::{Event, Metrics};
use crate::sys;

/// Connections without a complete head of a request; one address may hold half.
const HEADS: Room = Room { all: 256, crowd: 128 };
/// Connections that have asked for something, without the token; one address may hold half.
const REQUESTS: Room = Room { all: 192, crowd: 96 };
/// Connections that have shown the token.
const KNOWN: Room = Room { all: 128, crowd: 128 };
/// The most connections of all kinds.
pub(crate) const MOST: usize = HEADS.all + REQUESTS.all + KNOWN.all;
/// With so many connections without a complete head, new ones get [`HEADER_TIME_WHEN_FULL`].
const FULL: usize = 32;
/// The longest a client may take for the head of a request, and may be silent between two.
const HEADER_TIME: Duration = Duration::from_secs(10);
const HEADER_TIME_WHEN_FULL: Duration = Duration::from_secs(2);
/// The longest a client may take nothing at all of its answer.
const DEAF_TIME: Duration = Duration::from_secs(10);
/// The longest a connection lives; then the request in flight is the last.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// The longest a request in flight may take to finish when the server stops or the connection has
/// reached its age, and the longest a client may take for the end of its answer.
const FINISH_TIME: Duration = Duration::from_secs(5);
/// The largest head of a request, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// From a failed accept, as when descriptors have run out, to the next.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Where evictions are counted: the row of the first listener, which the admin server shares.
const ROW: usize = 0;

/// What connections are served with.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) gate: Gate,
    pub(super) held: Held,
    pub(super) metrics: Arc<Metrics>,
}

/// The places of all connections.
#[derive(Debug)]
struct Places {
    heads: Arc<Connections>,
    requests: Arc<Connections>,
    known: Arc<Connections>,
    metrics: Arc<Metrics>,
}

/// A connection's place, as it goes from one kind to another.
#[derive(Debug)]
struct Guest {
    places: Arc<Places>,
    address: IpAddr,
    eviction: Eviction,
    /// None for the moment before the first.
    place: Mutex<Option<Place>>,
}

/// A request under way; its connection has a place among [`REQUESTS`] until this is dropped.
#[derive(Debug)]
struct Asking(Arc<Guest>);

/// Accepts and serves connections until `stop` is true or its sender is gone, then finishes what
/// is in flight.
pub(super) async fn serve(listener: TcpListener, shared: Shared, mut stop: watch::Receiver<bool>) {
    let Shared { router, gate, held, metrics } = shared;
    let new = Connections::new;
    let places = Arc::new(Places { heads: new(), requests: new(), known: new(), metrics });
    let (alive, mut ended) = mpsc::channel::<Infallible>(1);
    loop {
        let (stream, address) = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&listener) => accepted,
        };
        let is_full = places.heads.count() >= FULL;
        let header_time = if is_full { HEADER_TIME_WHEN_FULL } else { HEADER_TIME };
        let guest = Guest::arrive(&places, address);
        let Ok(local) = stream.local_addr() else { continue };
        if sys::stream::set_patience(&stream, DEAF_TIME).is_err() {
            continue;
        }
        let answers = Answers {
            router: router.clone(),
            gate: gate.clone(),
            guest: Arc::clone(&guest),
            local: Local(local),
        };
        let stream = Paced::new(stream, held.clone());
        let (stop, alive) = (stop.clone(), alive.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = converse(stream, answers, header_time, stop) => {}
                () = guest.eviction.told() => {}
            }
            drop(alive);
        });
        // A head that has come with its connection is read before further connections can evict it.
        yield_now().await;
    }
    drop((listener, alive));
    // Nothing is ever sent: this ends with the last connection, and each bounds its own end.
    let _ = ended.recv().await;
}

/// The next connection, and who shares its places.
async fn accept(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, crowd_of(peer.ip())),
            Err(error) => {
                warn!(%error, "the admin server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The address of IPv4, or the /64 of IPv6: a machine has all addresses of that.
fn crowd_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// Serves one connection. It is reset when this is dropped, and when its client was silent or deaf
/// for too long; else it is closed in order.
async fn converse(stream: Paced, answers: Answers, header_time: Duration, mut stop: watch::Receiver<bool>) {
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answers);
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
    }
}

/// Whether the client was silent for too long, or took too little of its answer.
fn is_out_of_time(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_timeout() || cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

impl Guest {
    fn arrive(places: &Arc<Places>, address: IpAddr) -> Arc<Self> {
        let guest = Self {
            places: Arc::clone(places),
            address,
            eviction: Eviction::default(),
            place: Mutex::default(),
        };
        guest.go_to(&places.heads, HEADS);
        Arc::new(guest)
    }

    /// Takes a place of another kind, and leaves the one it has.
    fn go_to(&self, places: &Arc<Connections>, room: Room) {
        let (place, evicted) = places.enter(self.address, room, &self.eviction);
        self.places.metrics.happened(ROW, Event::AdminEvicted, evicted);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    /// A complete head has come.
    fn ask(self: &Arc<Self>, standing: Standing) -> Option<Asking> {
        match standing {
            Standing::Open => None,
            // The place is kept to the end of the connection.
            Standing::Known => {
                self.go_to(&self.places.known, KNOWN);
                None
            }
            Standing::Other => {
                self.go_to(&self.places.requests, REQUESTS);
                Some(Asking(Arc::clone(self)))
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Self(guest) = self;
        guest.go_to(&guest.places.heads, HEADS);
    }
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

/// The body of an answer, which holds the place of its request until all of it is handed over.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_a_machine() {
        let crowd = |text: &str| crowd_of(text.parse().unwrap());
        assert_ne!(crowd("192.0.2.1"), crowd("192.0.2.2"));
        assert_eq!(crowd("::ffff:192.0.2.1"), crowd("192.0.2.1"));
        assert_eq!(crowd("2001:db8::1"), crowd("2001:db8::ffff:1"));
        assert_ne!(crowd("2001:db8::1"), crowd("2001:db8:0:1::1"));
    }

    #[test]
    fn each_kind_makes_room_from_itself() {
        let new = Connections::new;
        let metrics = Arc::new(Metrics::new(1));
        let places = Arc::new(Places { heads: new(), requests: new(), known: new(), metrics });
        let counts = || [&places.heads, &places.requests, &places.known].map(|kind| kind.count());
        let arrive = || Guest::arrive(&places, "192.0.2.1".parse().unwrap());
        let known = arrive();
        assert!(known.ask(Standing::Known).is_none());
        let probe = arrive();
        assert!(probe.ask(Standing::Open).is_none());
        let ask = |guest: Arc<Guest>| (guest.ask(Standing::Other), guest);
        let (requests, guests): (Vec<_>, Vec<_>) = (0..2 * REQUESTS.crowd).map(|_| ask(arrive())).unzip();
        assert_eq!(counts(), [1, REQUESTS.crowd, 1], "the probe waits in peace");
        let silent: Vec<_> = (0..2 * HEADS.crowd).map(|_| arrive()).collect();
        assert_eq!(counts(), [HEADS.crowd, REQUESTS.crowd, 1]);
        drop(silent);
        drop(requests);
        assert_eq!(counts(), [HEADS.crowd, 0, 1], "what is answered may ask again");
        drop((guests, probe, known));
        assert_eq!(counts(), [0; 3]);
    }
}
