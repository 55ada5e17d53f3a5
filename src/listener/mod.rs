//! Sockets, workers and connections for DNS.
//!
//! Listeners move bytes between sockets and `answer`, and count the results. The content of replies
//! does not belong here. Every socket is bound before the first query is read.

pub(crate) mod closing;
pub(crate) mod connections;
mod limits;
mod placement;
pub mod pressure;
pub mod rate_limit;
mod signature;
mod tcp;
mod transfer;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::{Notify, watch};
use tracing::warn;

use self::placement::Placement;
use self::rate_limit::{IPV4_PREFIX, IPV6_PREFIX, LimitAction, Limiter};
use crate::answer::{self, Client, CookieProof, Disposition, Reply, Responder};
use crate::metrics::{Batch, Counted, Dropped, LimitedReply, Metrics};
use crate::network::Network;
use crate::sys;
use crate::sys::clock::unix_time;
use crate::table::{Published, Table};
use crate::tap::{AnsweredQuery, Drawn, SampleOutcome, Tapping};

pub use limits::{InForce, Limits, TcpLimits};
pub use tcp::MOST_WAITING;

/// Number of attempts to find a port that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 32;
/// How long connections may finish their current query when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Minimum time between two log lines of one kind, so that a persistent error does not fill the
/// disk.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} over {protocol}: {}", explain(error))]
pub struct ListenError {
    /// The requested address.
    pub address: SocketAddr,
    /// `UDP` or `TCP`.
    pub protocol: &'static str,
    /// The system's error.
    #[source]
    pub error: io::Error,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process has this port, or another address under [server] listen \
             includes it (0.0.0.0 is all of IPv4). Stop the process or choose another address; on port 53 of a \
             desktop it is often systemd-resolved, which leaves other addresses than 127.0.0.53 and 127.0.0.54 \
             free"
            .into(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege. Run as root, or give the program \
             CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose another port"
            .into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => "this machine does not support this address \
             family; IPv6 may be switched off. Remove the address from [server] listen"
            .into(),
        _ => error.to_string(),
    }
}

/// Sockets that are bound but not read yet.
#[derive(Debug)]
pub struct BoundListeners {
    endpoints: Vec<Endpoint>,
    placement: Placement,
}

/// How the kernel chooses the worker of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// By a hash of the addresses and ports of both sides.
    #[default]
    Hash,
    /// By the CPU on which the datagram arrives.
    Cpu,
}

/// The sockets of one address.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    /// One per worker.
    udp: Vec<UdpSocket>,
    tcp: TcpListener,
}

/// Binds one UDP socket per worker and one TCP listener on each address. `workers` 0 means one per
/// CPU that this process may use, or as many as its CPU quota allows if that is less. Port 0 chooses
/// a port that is free for both.
///
/// # Errors
/// If a socket cannot be bound; then all others are closed.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<BoundListeners, ListenError> {
    let configured = workers;
    let workers = match configured {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let endpoints =
        addresses.iter().map(|address| Endpoint::bind(*address, workers)).collect::<Result<_, _>>()?;
    Ok(BoundListeners { endpoints, placement: Placement::new(configured, workers) })
}

impl Endpoint {
    fn bind(address: SocketAddr, workers: usize) -> Result<Self, ListenError> {
        let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::try_bind(address, workers) {
                Err(error) if attempts > 0 && error.error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
    }

    fn try_bind(wanted: SocketAddr, workers: usize) -> Result<Self, ListenError> {
        let udp_error = |error| ListenError { address: wanted, protocol: "UDP", error };
        // The first socket is bound alone. With SO_REUSEPORT, a second server of the same user
        // could bind the port too, and each server would silently get some of the queries.
        let first = sys::udp::bind_udp(wanted, false).map_err(udp_error)?;
        let address = first.local_addr().map_err(udp_error)?;
        let tcp =
            sys::stream::listen(address).map_err(|error| ListenError { address, protocol: "TCP", error })?;
        // Even later, a program of the same user that shares the port could take queries. So one
        // worker shares nothing.
        if workers > 1 {
            sys::udp::share_port(&first).map_err(udp_error)?;
        }
        let mut udp = vec![first];
        for _ in 1..workers {
            udp.push(sys::udp::bind_udp(address, true).map_err(udp_error)?);
        }
        Ok(Self { address, udp, tcp })
    }
}

impl BoundListeners {
    /// The addresses in the order of the configuration, with the ports that the system chose.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address).collect()
    }

    /// Number of UDP workers, each of which counts with counters of its own.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.endpoints.first().map_or(0, |endpoint| endpoint.udp.len())
    }

    /// Number of descriptors that the listeners need: those of sockets, and one for each worker.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let sockets: usize = self.endpoints.iter().map(|endpoint| endpoint.udp.len() + 1).sum();
        sockets + self.workers()
    }

    /// Lets each datagram be answered on the CPU on which it has arrived. If that is not possible, at
    /// all or for one address, logs why, and the kernel distributes by its hash there.
    pub fn steer_by_cpu(&self) {
        let cpus = match self.placement.one_on_each() {
            // A port that is not shared needs no choice.
            Ok([_]) => return,
            Ok(cpus) => cpus,
            Err(reason) => {
                return warn!(
                    "`steering = \"cpu\"` has no effect: it needs one UDP worker for each CPU that steerd may use. \
                     Reason: {reason}"
                );
            }
        };
        for Endpoint { address, udp, .. } in &self.endpoints {
            if let Some(socket) = udp.first()
                && let Err(error) = sys::udp::steer_by_cpu(socket, cpus)
            {
                warn!(%address, %error, "`steering = \"cpu\"` has no effect on this address: the kernel refuses it");
            }
        }
    }

    /// Starts answering, under the limits in force at any time. Must be called within a tokio
    /// runtime, which serves TCP.
    ///
    /// # Errors
    /// If a thread cannot be started, or a socket cannot be registered with the runtime.
    pub fn serve(
        self,
        published: &Published,
        metrics: &Arc<Metrics>,
        limits: &InForce,
    ) -> io::Result<Listeners> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_tcp, stopping) = watch::channel(false);
        let ended = Arc::new(Notify::new());
        let mut listeners =
            Listeners { stop: Arc::clone(&stop), stop_tcp, workers: Vec::new(), ended: Arc::clone(&ended) };
        let tcp = tcp::TcpContext::new(published.clone(), Arc::clone(metrics), limits.clone(), stopping);
        let mut sockets: Vec<Vec<UdpSocket>> = (0..self.workers()).map(|_| Vec::new()).collect();
        for endpoint in self.endpoints {
            for (sockets, socket) in sockets.iter_mut().zip(endpoint.udp) {
                sockets.push(socket);
            }
            let accept = tcp::accept(tokio::net::TcpListener::from_std(endpoint.tcp)?, Arc::clone(&tcp));
            let notice = EndNotice(Arc::clone(&ended));
            tokio::spawn(async move {
                let _notice = notice;
                accept.await;
            });
        }
        for (number, sockets) in sockets.into_iter().enumerate() {
            let cpu = self.placement.cpu(number);
            let worker = udp::Worker::new(number, cpu, sockets, published, metrics, limits, &stop)?;
            let thread = std::thread::Builder::new().name(format!("udp-{number}"));
            let notice = EndNotice(Arc::clone(&ended));
            listeners.workers.push(thread.spawn(move || {
                let _notice = notice;
                worker.run();
            })?);
        }
        Ok(listeners)
    }
}

/// The running listeners.
#[derive(Debug)]
pub struct Listeners {
    stop: Arc<AtomicBool>,
    /// Tells the TCP tasks to stop. The channel is closed when the last connection has ended.
    stop_tcp: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    ended: Arc<Notify>,
}

/// Notifies on drop, also on panic.
#[derive(Debug)]
struct EndNotice(Arc<Notify>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Listeners {
    /// Returns when a UDP worker or a task that accepts TCP connections has ended. From then on,
    /// some queries are not answered.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Lets every worker finish its batch and every connection its current query. Returns when they
    /// have, or after two seconds.
    pub async fn stop(mut self) {
        self.tell();
        let workers = std::mem::take(&mut self.workers);
        let workers = tokio::task::spawn_blocking(move || {
            for worker in workers {
                // A panic has been logged already.
                let _ = worker.join();
            }
        });
        let _ = tokio::time::timeout(STOP_PATIENCE, async {
            let _ = workers.await;
            self.stop_tcp.closed().await;
        })
        .await;
    }

    fn tell(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_tcp.send_replace(true);
    }
}

/// Without [`Listeners::stop`], workers and connections stop too, but nothing waits for them.
impl Drop for Listeners {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Allows one log line per [`LOG_EVERY`].
#[derive(Debug, Default)]
struct LogLimit(Option<Instant>);

impl LogLimit {
    fn allows(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= LOG_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// The time for server cookies: a 32-bit field that wraps by design (RFC 9018, section 4.3). A
/// wrong clock does no harm, because the server only compares its own times.
fn cookie_time() -> u32 {
    u32::try_from(unix_time() & u64::from(u32::MAX)).unwrap_or(0)
}

/// The counts of a listener, the rate limits of its clients, and the taps that take samples.
#[derive(Clone, Copy)]
struct Accounting<'a> {
    batch: &'a Batch<'a>,
    /// With the current time. `None` for TCP, because the handshake proves the client's address.
    limiter: Option<(&'a Limiter, Duration)>,
    /// `None` if no tap is on.
    tapping: Option<Tapping<'a>>,
}

/// Processes one message. A panic is a bug in steerd: it costs only this message and is counted, so
/// that a repeated query cannot stop the server. A panic leaves no lasting state half-changed:
/// counters are single additions, and scratch buffers are overwritten for each message.
fn contain<T>(batch: &Batch<'_>, work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.inspect_err(|_| batch.happened(Counted::Panicked, 1)).ok()
}

/// Answers one message, counts it, and lets the taps take a sample. Every listener calls `answer`
/// through this function. Returns the length of the reply, if there is one.
fn respond<R: Rng>(
    responder: &mut Responder<R>,
    query: &[u8],
    client: &Client,
    table: &Table,
    reply: &mut [u8],
    accounting: Accounting<'_>,
) -> Option<usize> {
    let chosen = accounting.tapping.and_then(Tapping::choose);
    let answered = answer_and_count(responder, query, client, table, reply, accounting);
    if let Some(chosen) = chosen {
        let length = answered.as_ref().map_or(0, |facts| facts.length);
        let service = answered.as_ref().ok().and_then(|facts| facts.service);
        chosen.take(AnsweredQuery {
            client,
            query,
            reply: reply.get(..length).unwrap_or_default(),
            outcome: SampleOutcome::of(answered.as_ref().map_err(|why| *why)),
            drawn: service.map(|service| Drawn { service, picked: responder.picked(), table }),
        });
    }
    answered.ok().map(|facts| facts.length)
}

/// Answers one message and counts it. Returns the facts about the reply, or why there is none.
#[inline]
fn answer_and_count<'t, R: Rng>(
    responder: &mut Responder<R>,
    query: &[u8],
    client: &Client,
    table: &'t Table,
    reply: &mut [u8],
    accounting: Accounting<'_>,
) -> Result<Reply<'t>, Dropped> {
    let Accounting { batch, limiter, .. } = accounting;
    batch.received(client.transport, client.address);
    #[cfg(test)]
    tests::panic_if_planted(query);
    let mut disposition = responder.respond(query, client, table, reply);
    if let (Disposition::Reply(facts), Some((limiter, now))) = (disposition, limiter)
        && facts.cookie != CookieProof::Proven
    {
        let (action, by_all) = limiter.judge_in_detail(client.address, facts.kind, now);
        if action != LimitAction::Send {
            let network = network_of(client.address);
            let slipped = action == LimitAction::Slip;
            batch.limited(LimitedReply { network, kind: facts.kind, by_all, slipped });
        }
        match action {
            LimitAction::Send => {}
            LimitAction::Slip => {
                batch.happened(Counted::Slipped, 1);
                disposition = answer::slip(query, client, table, reply);
            }
            LimitAction::Drop => {
                batch.dropped(Dropped::Limited);
                return Err(Dropped::Limited);
            }
        }
    }
    disposition = signature::complete(disposition, query, client, table, reply);
    batch.answered(&disposition);
    let facts = match disposition {
        Disposition::Reply(facts) => facts,
        Disposition::Drop(reason) => return Err(Dropped::Unanswerable(reason)),
    };
    if let Some(served) = facts.service {
        let answers = table.answers();
        if let Some(column) = served.column {
            answers.count_service(batch.row(), served.service, column);
        }
        if let Some(pool) = served.pool {
            for backend in responder.picked() {
                answers.count_backend(batch.row(), pool, *backend as usize);
            }
        }
    }
    Ok(facts)
}

/// Counts a message that is longer than a query may be, and does not answer it.
fn refuse_long(client: &Client, Accounting { batch, .. }: Accounting<'_>) {
    batch.received(client.transport, client.address);
    batch.dropped(Dropped::Long);
}

/// The network of a client for per-client limits: /24 for IPv4, /56 for IPv6.
fn network_of(address: IpAddr) -> Network {
    Network::around(address, IPV4_PREFIX, IPV6_PREFIX)
}
