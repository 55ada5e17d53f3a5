//! UDP workers: plain threads that receive, answer and send in batches.
//!
//! ```text
//! wait for sockets, one for each address -> for each that is ready:
//!     receive up to 64 -> load table and limits once -> answer each -> count -> send all
//! ```
//!
//! Each ready socket gets one batch in turn, so a flood on one address leaves the others their share.
//! After an error, a socket is not read for 10 ms, and the others go on.
//! A worker with a single socket waits in the receive call itself, which saves a system call per
//! batch.
//!
//! Between receive and send, nothing is allocated and no lock is contended. Every 100 ms an idle worker
//! checks whether to stop, and releases a replaced table. Each turn is a sign of life. A worker ends only when told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tracing::warn;

use crate::answer::{Client, Responder, Transport};
use crate::counters::CounterRow;
use crate::listener::limits::{self, Active};
use crate::listener::{self, Accounting, InForce, LogLimit};
use crate::metrics::{Batch, Counted, Metrics, WorkerTurn};
use crate::sys::affinity;
use crate::sys::batch::{Datagram, UdpBatch};
use crate::sys::ready::Ready;
use crate::sys::udp::{self, RECEIVE_TIMEOUT};
use crate::table::{Published, Table, TableReader};
use crate::tap::Tapping;

/// How long a socket is not read after an error, so that a persistent error does not make the worker
/// spin.
pub(super) const REST: Duration = Duration::from_millis(10);

/// Missing support is logged once, not by each worker.
static NOT_PINNED: Once = Once::new();
static DROPS_UNKNOWN: Once = Once::new();

/// One thread with its sockets.
pub(super) struct Worker {
    sockets: Vec<WorkerSocket>,
    /// Reports which sockets are ready; `None` if there is only one socket.
    ready: Option<Ready>,
    /// The sockets that rest after an error, by index, each with the time when that ends.
    resting: Vec<(usize, Instant)>,
    row: CounterRow,
    cpu: Option<usize>,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
    turn: WorkerTurn,
    answerer: BatchAnswerer,
}

#[derive(Debug)]
pub(super) struct WorkerSocket {
    socket: UdpSocket,
    /// Its own address.
    local: SocketAddr,
    /// The kernel's count of dropped datagrams, as last read.
    dropped: u32,
}

impl WorkerSocket {
    /// If an earlier process has read from the socket, it has counted what the kernel dropped before.
    pub(super) fn new(socket: UdpSocket, is_taken_over: bool) -> Self {
        let dropped = if is_taken_over { udp::dropped(&socket).unwrap_or(0) } else { 0 };
        // A bound socket has an address.
        let local = socket.local_addr().unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        Self { socket, local, dropped }
    }
}

/// The data for answering a batch.
struct BatchAnswerer {
    table: TableReader,
    limits: limits::LimitsReader,
    responder: Responder<SmallRng>,
    began: Instant,
    /// The time for server cookies, as of the last batch.
    time: u32,
    log_limit: LogLimit,
}

impl Worker {
    /// A worker that counts in this row, pinned to this CPU if one is given.
    pub(super) fn new(
        row: CounterRow,
        cpu: Option<usize>,
        sockets: Vec<WorkerSocket>,
        published: &Published,
        metrics: &Arc<Metrics>,
        limits: &InForce,
        stop: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let ready = match &*sockets {
            [_] => None,
            several => Some(Ready::new(several.iter().map(|watched| &watched.socket))?),
        };
        Ok(Self {
            resting: Vec::with_capacity(sockets.len()),
            sockets,
            ready,
            row,
            cpu,
            metrics: Arc::clone(metrics),
            stop: Arc::clone(stop),
            turn: metrics.watch_worker(),
            answerer: BatchAnswerer {
                table: published.reader(),
                limits: limits.reader(),
                responder: Responder::new(SmallRng::from_rng(&mut rand::rng())),
                began: Instant::now(),
                time: 0,
                log_limit: LogLimit::default(),
            },
        })
    }

    pub(super) fn run(mut self) {
        if let Some(cpu) = self.cpu
            && let Err(error) = affinity::pin_to(cpu)
        {
            NOT_PINNED
                .call_once(|| warn!(cpu, %error, "a UDP worker cannot be pinned to a CPU; it runs on any"));
        }
        let metrics = Arc::clone(&self.metrics);
        let counts = metrics.batch(self.row);
        // Created by its own thread, so that its memory is near its CPU.
        let mut datagrams = UdpBatch::new();
        let mut drops_read = self.answerer.time;
        while !self.stop.load(Ordering::Relaxed) {
            self.turn(&mut datagrams, &counts);
            if self.answerer.time != drops_read {
                drops_read = self.answerer.time;
                self.read_drops(&counts);
            }
            counts.settle();
            metrics.worker_turned(&self.turn);
        }
        self.read_drops(&counts);
    }

    /// Waits for queries, and answers a batch from each socket that has some.
    fn turn(&mut self, datagrams: &mut UdpBatch, counts: &Batch<'_>) {
        let Self { sockets, ready, resting, answerer, .. } = self;
        let Some(ready) = ready else {
            if let Some(socket) = sockets.first()
                && !answerer.serve(socket, true, datagrams, counts)
            {
                std::thread::sleep(REST);
            }
            return;
        };
        resting.retain(|&(index, end)| {
            Instant::now() < end
                || sockets.get(index).is_some_and(|resting| ready.watch(index, &resting.socket).is_err())
        });
        match ready.wait(if resting.is_empty() { RECEIVE_TIMEOUT } else { REST }) {
            Ok(0) => answerer.rest(),
            Ok(_) => {
                for &index in ready.indices() {
                    if let Some(socket) = sockets.get(index)
                        && !answerer.serve(socket, false, datagrams, counts)
                    {
                        // A socket that stays watched stays ready, and the worker would spin.
                        match ready.ignore(&socket.socket) {
                            Ok(()) => resting.push((index, Instant::now() + REST)),
                            Err(_) => std::thread::sleep(REST),
                        }
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                counts.happened(Counted::ReceiveError, 1);
                answerer.log_failure("waiting for datagrams failed", None, &error);
                std::thread::sleep(REST);
            }
        }
    }

    /// Counts the datagrams that the kernel has dropped since the last call.
    fn read_drops(&mut self, counts: &Batch<'_>) {
        for WorkerSocket { socket, dropped, .. } in &mut self.sockets {
            match udp::dropped(socket) {
                Ok(now) => {
                    counts.happened(Counted::KernelDropped, now.wrapping_sub(*dropped));
                    *dropped = now;
                }
                Err(error) => DROPS_UNKNOWN.call_once(|| {
                    warn!(%error, "the kernel does not tell which datagrams it drops; steerd_kernel_drops_total stays 0");
                }),
            }
        }
    }
}

impl BatchAnswerer {
    /// Receives a batch and answers it. Returns whether the socket can be read; if not, it should
    /// rest.
    fn serve(
        &mut self,
        WorkerSocket { socket, local, .. }: &WorkerSocket,
        wait: bool,
        datagrams: &mut UdpBatch,
        counts: &Batch<'_>,
    ) -> bool {
        if let Err(error) = datagrams.receive(socket, wait) {
            self.rest();
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                return true;
            }
            counts.happened(Counted::ReceiveError, 1);
            self.log_failure("receiving datagrams failed", Some(socket), &error);
            return false;
        }
        self.time = listener::cookie_time();
        let time = self.time;
        let Active { limiter, taps, .. } = &**self.limits.load();
        let limiter = limiter.as_deref().map(|limiter| (limiter, self.began.elapsed()));
        let tapping = taps.as_ref().map(|taps| Tapping { taps, server: *local });
        let accounting = Accounting { batch: counts, limiter, tapping };
        let responder = &mut self.responder;
        let table: &Table = self.table.load();
        datagrams.answer(|datagram| {
            listener::contain(counts, || answer(responder, datagram, time, table, accounting)).flatten()
        });
        counts.settle();
        let sent = datagrams.send(socket);
        if let Some(error) = sent.error {
            counts.happened(Counted::SendError, u32::try_from(sent.failed).unwrap_or(u32::MAX));
            self.log_failure("sending replies failed", Some(socket), &error);
        }
        true
    }

    /// Notices changes. Without this, a worker without queries would keep an old table and its zones
    /// alive.
    fn rest(&mut self) {
        self.table.load();
        self.limits.load();
        self.time = listener::cookie_time();
    }

    fn log_failure(&mut self, what: &str, socket: Option<&UdpSocket>, error: &io::Error) {
        if self.log_limit.allows() {
            let address = socket.and_then(|socket| socket.local_addr().ok());
            let address = address.map_or_else(String::new, |address| address.to_string());
            warn!(%address, %error, "{what}; steerd continues");
        }
    }
}

/// Returns the length of the reply, if there is one.
fn answer(
    responder: &mut Responder<SmallRng>,
    datagram: Datagram<'_>,
    time: u32,
    table: &Table,
    accounting: Accounting<'_>,
) -> Option<usize> {
    let Datagram { peer, query, cut, reply } = datagram;
    let client = Client { address: peer.ip(), port: peer.port(), transport: Transport::Udp, time };
    if cut {
        listener::refuse_long(&client, accounting);
        return None;
    }
    listener::respond(responder, query, &client, table, reply, accounting)
}
