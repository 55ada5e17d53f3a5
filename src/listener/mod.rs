//! The network's edge for DNS: sockets, workers, connections.
//!
//! Listeners move bytes between sockets and `answer`, and count what became of them. The content of a reply
//! is none of their business. Every socket is bound before the first query is read.

pub(crate) mod closing;
pub(crate) mod connections;
mod limits;
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

use self::rate_limit::{Decision, Limiter};
use crate::answer::{self, Client, Responder, Verdict};
use crate::metrics::{Dropped, Event, Metrics};
use crate::sys;
use crate::sys::clock::unix_time;
use crate::table::{Published, Table};

pub use limits::{InForce, Limits, TcpLimits};

/// How often a free port is looked for that both UDP and TCP can have.
const PORT_ATTEMPTS: usize = 32;
/// How long connections may go on with what is in flight when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Errors of one kind are logged at most this often: one that lasts must not fill the disk.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} over {protocol}: {}", explain(error))]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// `UDP` or `TCP`.
    pub protocol: &'static str,
    /// The system's word.
    #[source]
    pub error: io::Error,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process has this port, or another address under [server] listen \
             takes it in (0.0.0.0 is all of IPv4). Stop the process or choose another address; on port 53 of a \
             desktop it is often systemd-resolved, which leaves other addresses than 127.0.0.53 and 127.0.0.54 \
             free"
            .into(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege. Run as root, or give the program \
             CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose another port"
            .into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => "this machine has no such address family, as \
             when IPv6 is switched off. Remove the address from [server] listen"
            .into(),
        _ => error.to_string(),
    }
}

/// Sockets that are bound and not yet read.
#[derive(Debug)]
pub struct Bound {
    endpoints: Vec<Endpoint>,
}

/// The sockets of one address.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    /// One for each worker.
    udp: Vec<UdpSocket>,
    tcp: TcpListener,
}

/// Binds UDP sockets, one for each worker, and a TCP listener for each address. `workers` 0 is one
/// for each core. Port 0 takes a port that is free for both.
///
/// # Errors
/// When any socket cannot be had; none is kept then.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Bound, BindError> {
    let workers = match workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let endpoints =
        addresses.iter().map(|address| Endpoint::bind(*address, workers)).collect::<Result<_, _>>()?;
    Ok(Bound { endpoints })
}

impl Endpoint {
    fn bind(address: SocketAddr, workers: usize) -> Result<Self, BindError> {
        let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::try_bind(address, workers) {
                Err(error) if attempts > 0 && error.error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
    }

    fn try_bind(wanted: SocketAddr, workers: usize) -> Result<Self, BindError> {
        let udp_error = |error| BindError { address: wanted, protocol: "UDP", error };
        // The first socket is bound alone: SO_REUSEPORT would let a second server of the same user
        // in, and each would silently get a part of the queries.
        let first = sys::bind_udp(wanted, false).map_err(udp_error)?;
        let address = first.local_addr().map_err(udp_error)?;
        let tcp =
            sys::stream::listen(address).map_err(|error| BindError { address, protocol: "TCP", error })?;
        sys::share_port(&first).map_err(udp_error)?;
        let mut udp = vec![first];
        for _ in 1..workers {
            udp.push(sys::bind_udp(address, true).map_err(udp_error)?);
        }
        Ok(Self { address, udp, tcp })
    }
}

impl Bound {
    /// The addresses in the order of the configuration, with the ports that the system chose.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address).collect()
    }

    /// How many rows of counters the listeners need: one for each UDP worker, and one for TCP.
    #[must_use]
    pub fn counter_rows(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.udp.len()).sum::<usize>() + 1
    }

    /// How many sockets these are.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.udp.len() + 1).sum()
    }

    /// Begins to answer, under the limits that are in force at each time. Must be called within a
    /// tokio runtime, which serves TCP.
    ///
    /// # Errors
    /// When the system gives no thread, or the runtime no place for a socket.
    pub fn serve(
        self,
        published: &Published,
        metrics: &Arc<Metrics>,
        limits: &InForce,
    ) -> io::Result<Listeners> {
        let tcp_row = self.counter_rows() - 1;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_tcp, stopping) = watch::channel(false);
        let ended = Arc::new(Notify::new());
        let mut listeners =
            Listeners { stop: Arc::clone(&stop), stop_tcp, workers: Vec::new(), ended: Arc::clone(&ended) };
        let tcp = tcp::Shared::new(published.clone(), Arc::clone(metrics), tcp_row, limits.clone(), stopping);
        let mut row = 0;
        for endpoint in self.endpoints {
            for socket in endpoint.udp {
                let worker = udp::Worker::new(socket, row, published, metrics, limits, &stop);
                let thread = std::thread::Builder::new().name(format!("udp-{row}"));
                let notice = EndNotice(Arc::clone(&ended));
                listeners.workers.push(thread.spawn(move || {
                    let _notice = notice;
                    worker.run();
                })?);
                row += 1;
            }
            let accept = tcp::accept(tokio::net::TcpListener::from_std(endpoint.tcp)?, Arc::clone(&tcp));
            let notice = EndNotice(Arc::clone(&ended));
            tokio::spawn(async move {
                let _notice = notice;
                accept.await;
            });
        }
        Ok(listeners)
    }
}

/// The listeners at work.
#[derive(Debug)]
pub struct Listeners {
    stop: Arc<AtomicBool>,
    /// Told when TCP shall stop; it is closed by the last connection.
    stop_tcp: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    ended: Arc<Notify>,
}

/// Tells of the end of whoever holds it, be it by a panic.
#[derive(Debug)]
struct EndNotice(Arc<Notify>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Listeners {
    /// Returns when a UDP worker, or what accepts TCP connections, has ended: from then on a part
    /// of the queries is not answered.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Lets every worker finish its batch and every connection the query it is at, and returns when
    /// they have, or when two seconds are over.
    pub async fn stop(mut self) {
        self.tell();
        let workers = std::mem::take(&mut self.workers);
        let workers = tokio::task::spawn_blocking(move || {
            for worker in workers {
                // A worker that panicked has said so already.
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

/// Without [`Listeners::stop`] nothing waits for the end, but nothing goes on unseen either.
impl Drop for Listeners {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Lets a log line through each [`LOG_EVERY`].
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

/// The time of server cookies, whose field has 32 bits and wraps by design (RFC 9018, section 4.3).
/// A wrong clock is only compared with itself.
fn cookie_time() -> u32 {
    u32::try_from(unix_time() & u64::from(u32::MAX)).unwrap_or(0)
}

/// The accounting of a listener beside the bytes: the metrics it counts in, and the limits of clients.
#[derive(Clone, Copy)]
struct Account<'a> {
    metrics: &'a Metrics,
    row: usize,
    /// With the time; not for TCP, whose clients have shown where they are.
    limiter: Option<(&'a Limiter, Duration)>,
}

/// Does what one message asks for. A panic is a fault of ours; it must not let a message that is
/// sent again and again stop the server, so it costs this message alone, and is counted. Nothing
/// that outlives the message can be half-changed: counters are single additions, and scratch space
/// is written anew for each message.
fn contain<T>(account: Account<'_>, work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.inspect_err(|_| account.metrics.happened(account.row, Event::Panicked, 1)).ok()
}

/// Answers one message and counts it: the one way from a listener to `answer`. The length of the
/// reply, if one is due.
fn respond<R: Rng>(
    responder: &mut Responder<R>,
    query: &[u8],
    client: &Client,
    table: &Table,
    reply: &mut [u8],
    account: Account<'_>,
) -> Option<usize> {
    let Account { metrics, row, limiter } = account;
    metrics.received(row, client.transport, client.address);
    #[cfg(test)]
    tests::panic_if_planted(query);
    let mut verdict = responder.respond(query, client, table, reply);
    if let (Verdict::Reply(facts), Some((limiter, now))) = (verdict, limiter)
        && !facts.proven
    {
        match limiter.judge(client.address, facts.kind, now) {
            Decision::Send => {}
            Decision::Slip => {
                metrics.happened(row, Event::Slipped, 1);
                verdict = answer::slip(query, client, table, reply);
            }
            Decision::Drop => {
                metrics.dropped(row, Dropped::Limited);
                return None;
            }
        }
    }
    verdict = signature::complete(verdict, query, client, table, reply);
    metrics.answered(row, &verdict);
    let Verdict::Reply(facts) = verdict else { return None };
    if let Some(served) = facts.service {
        if let Some(service) = table.service(served.service) {
            service.answers.add(row, served.column, 1);
        }
        if let Some(pool) = served.pool.and_then(|pool| table.pool(pool)) {
            for backend in responder.picked() {
                pool.answers.add(row, backend as usize, 1);
            }
        }
    }
    Some(facts.length)
}

/// Counts a message that is longer than a query may be. It is not answered.
fn refuse_long(client: &Client, account: Account<'_>) {
    account.metrics.received(account.row, client.transport, client.address);
    account.metrics.dropped(account.row, Dropped::Long);
}

/// The network that limits by client count by: /24 of IPv4, /56 of IPv6.
fn prefix_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & 0xffff_ff00).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 72)).into()),
    }
}
