//! Sockets, workers and connections for DNS.
//!
//! Listeners move bytes between sockets and `answer`, and count the results. The content of replies
//! does not belong here. Every socket is bound before the first query is read.

mod bound;
pub(crate) mod closing;
pub(crate) mod connections;
mod limits;
mod placement;
mod retiring;
pub mod pressure;
pub mod rate_limit;
mod signature;
mod tcp;
mod transfer;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};

use self::rate_limit::{IPV4_PREFIX, IPV6_PREFIX, LimitAction, Limiter};
use self::retiring::Retiring;
use self::tcp::TcpContext;
use self::udp::WorkerSocket;
use crate::answer::{self, Client, CookieProof, Disposition, Reply, Responder};
use crate::counters::CounterRow;
use crate::metrics::{Batch, Counted, Dropped, LimitedReply, Metrics};
use crate::network::Network;
use crate::sys::clock::unix_time;
use crate::table::{Published, Table};
use crate::tap::{AnsweredQuery, Drawn, SampleOutcome, Tapping};

pub use bound::{BoundListeners, Endpoint, ListenError, Steering, bind, bind_after};
pub use limits::{InForce, Limits, TcpLimits};
pub use tcp::MOST_WAITING;

/// How long connections may finish their current query when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Minimum time between two log lines of one kind, so that a persistent error does not fill the
/// disk.
const LOG_EVERY: Duration = Duration::from_secs(1);

impl BoundListeners {
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
        let (course, course_seen) = watch::channel(Course::Serve);
        let (moved, moving) = mpsc::unbounded_channel();
        let ended = Arc::new(Notify::new());
        let context = TcpContext {
            published: published.clone(),
            metrics: Arc::clone(metrics),
            limits: limits.clone(),
            course: course_seen,
            moved,
        };
        let tcp = tcp::TcpShared::new(context);
        let mut listeners = Listeners {
            stop: Arc::clone(&stop),
            course,
            tcp: Some(Arc::clone(&tcp)),
            moving,
            retiring: None,
            workers: Vec::new(),
            ended: Arc::clone(&ended),
        };
        let workers = self.workers();
        let mut sockets: Vec<Vec<WorkerSocket>> = (0..workers).map(|_| Vec::new()).collect();
        for endpoint in self.endpoints {
            for (index, socket) in endpoint.udp.into_iter().enumerate() {
                if let Some(sockets) = sockets.get_mut(index % workers) {
                    sockets.push(WorkerSocket::new(socket, endpoint.is_taken_over));
                }
            }
            let accept = tcp::accept(tokio::net::TcpListener::from_std(endpoint.tcp)?, Arc::clone(&tcp));
            let notice = EndNotice(Arc::clone(&ended));
            tokio::spawn(async move {
                let _notice = notice;
                accept.await;
            });
        }
        if !self.retired.is_empty() {
            let retiring = Retiring::start(self.retired, &tcp, |sockets, stop| {
                udp::Worker::new(CounterRow::Shared, None, sockets, published, metrics, limits, stop)
            });
            listeners.retiring = Some(retiring?);
        }
        for (number, sockets) in sockets.into_iter().enumerate() {
            let cpu = self.placement.cpu(number);
            let row = CounterRow::Own(number);
            let worker = udp::Worker::new(row, cpu, sockets, published, metrics, limits, &stop)?;
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
    /// Tells the TCP tasks what to do. The channel is closed when the last connection has ended.
    course: watch::Sender<Course>,
    /// For connections of an earlier process; none once the listeners stop.
    tcp: Option<Arc<tcp::TcpShared>>,
    /// The connections that are handed over.
    moving: mpsc::UnboundedReceiver<TcpStream>,
    /// The sockets of an earlier process that are no longer wanted.
    retiring: Option<Retiring>,
    workers: Vec<JoinHandle<()>>,
    ended: Arc<Notify>,
}

/// The way of TCP connections after their current query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Wait for the next one.
    Serve,
    /// Leave this process open. Nothing is accepted.
    HandOver,
    /// End.
    Stop,
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

    /// Serves a connection that an earlier process has accepted. Must be called within the runtime that serves TCP.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn adopt(&self, stream: std::net::TcpStream) -> io::Result<()> {
        let stream = TcpStream::from_std(stream)?;
        let peer = stream.peer_addr()?;
        if let Some(tcp) = &self.tcp {
            tcp::welcome(stream, peer, tcp);
        }
        Ok(())
    }

    /// Closes the sockets of the earlier process that are no longer wanted, now that it has ended: at first nothing more
    /// arrives there, then their queues are emptied.
    pub fn retire(&mut self) {
        if let Some(retiring) = self.retiring.take() {
            retiring.close();
        }
    }

    /// Reads no more queries from sockets, and accepts no more connections. Open connections end their current query
    /// and are then given by [`Listeners::next_connection`].
    pub fn hand_over(&mut self) {
        self.tcp = None;
        self.stop.store(true, Ordering::Relaxed);
        self.course.send_replace(Course::HandOver);
    }

    /// Whether [`Listeners::hand_over`] was called.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        *self.course.borrow() == Course::HandOver
    }

    /// The next connection that is handed over; none if there are no more.
    pub async fn next_connection(&mut self) -> Option<TcpStream> {
        self.moving.recv().await
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
            self.course.closed().await;
        })
        .await;
    }

    fn tell(&mut self) {
        self.tcp = None;
        self.stop.store(true, Ordering::Relaxed);
        self.course.send_replace(Course::Stop);
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
        let length = answered.as_ref().map_or(0, |(facts, _)| facts.length);
        let service = answered.as_ref().ok().and_then(|(facts, _)| facts.service);
        chosen.take(AnsweredQuery {
            client,
            query,
            reply: reply.get(..length).unwrap_or_default(),
            outcome: SampleOutcome::of(&answered),
            drawn: service.map(|service| Drawn { service, picked: responder.picked(), table }),
        });
    }
    answered.ok().map(|(facts, _)| facts.length)
}

/// Answers one message and counts it. Returns the facts about the reply, and whether response rate limiting has emptied
/// it; or why there is none.
#[inline]
fn answer_and_count<'t, R: Rng>(
    responder: &mut Responder<R>,
    query: &[u8],
    client: &Client,
    table: &'t Table,
    reply: &mut [u8],
    accounting: Accounting<'_>,
) -> Result<(Reply<'t>, bool), Dropped> {
    let Accounting { batch, limiter, .. } = accounting;
    batch.received(client.transport, client.address);
    #[cfg(test)]
    tests::panic_if_planted(query);
    let mut disposition = responder.respond(query, client, table, reply);
    let mut slipped = false;
    if let (Disposition::Reply(facts), Some((limiter, now))) = (disposition, limiter)
        && facts.cookie != CookieProof::Proven
    {
        let (action, by_all) = limiter.judge_in_detail(client.address, facts.kind, now);
        if action != LimitAction::Send {
            let network = network_of(client.address);
            slipped = action == LimitAction::Slip;
            batch.limited(LimitedReply { network, kind: facts.kind, by_all, slipped });
        }
        match action {
            LimitAction::Send => {}
            LimitAction::Slip => {
                batch.happened(Counted::Slipped, 1);
                disposition = answer::slip(query, client, table, reply);
                if let Disposition::Reply(slip) = &mut disposition {
                    // Counted as the query had it.
                    slip.cookie = facts.cookie;
                }
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
    Ok((facts, slipped))
}

/// Counts a message that is longer than a query may be, and does not answer it.
fn refuse_long(client: &Client, Accounting { batch, tapping, .. }: Accounting<'_>) {
    batch.received(client.transport, client.address);
    batch.dropped(Dropped::Long);
    if let Some(chosen) = tapping.and_then(Tapping::choose) {
        let outcome = SampleOutcome::Dropped(Dropped::Long);
        chosen.take(AnsweredQuery { client, query: &[], reply: &[], outcome, drawn: None });
    }
}

/// The network of a client for per-client limits: /24 for IPv4, /56 for IPv6.
fn network_of(address: IpAddr) -> Network {
    Network::around(address, IPV4_PREFIX, IPV6_PREFIX)
}
