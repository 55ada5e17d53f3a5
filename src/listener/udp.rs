//! UDP workers: plain threads that receive, answer and send in batches.
//!
//! ```text
//! receive up to 64 -> load table and limits once -> answer each -> send all -> ...
//! ```
//!
//! Between receive and send, nothing is allocated and no lock is taken. Every 100 ms an idle worker
//! checks whether to stop, and releases a replaced table. A worker ends only when told to.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tracing::warn;

use crate::answer::{Client, Responder, Transport};
use crate::listener::limits::{self, Active};
use crate::listener::{self, Accounting, InForce, LogLimit};
use crate::metrics::{Event, Metrics};
use crate::sys::{Datagram, UdpBatch};
use crate::table::{Published, Table, TableReader};

/// Pause after an error, so that a persistent error does not make the worker spin.
const REST: Duration = Duration::from_millis(10);

/// One thread with one socket.
pub(super) struct Worker {
    socket: UdpSocket,
    row: usize,
    table: TableReader,
    metrics: Arc<Metrics>,
    limits: limits::LimitsReader,
    stop: Arc<AtomicBool>,
    responder: Responder<SmallRng>,
    log_limit: LogLimit,
}

impl Worker {
    pub(super) fn new(
        socket: UdpSocket,
        row: usize,
        published: &Published,
        metrics: &Arc<Metrics>,
        limits: &InForce,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            socket,
            row,
            table: published.reader(),
            metrics: Arc::clone(metrics),
            limits: limits.reader(),
            stop: Arc::clone(stop),
            responder: Responder::new(SmallRng::from_rng(&mut rand::rng())),
            log_limit: LogLimit::default(),
        }
    }

    pub(super) fn run(mut self) {
        let mut batch = UdpBatch::new();
        let began = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = batch.receive(&self.socket) {
                // Without this, a worker without queries would keep an old table and its zones
                // alive.
                self.table.load();
                self.limits.load();
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    self.metrics.happened(self.row, Event::ReceiveError, 1);
                    self.log("receiving datagrams failed", &error);
                    std::thread::sleep(REST);
                }
                continue;
            }
            let time = listener::cookie_time();
            let Active { limiter, .. } = &**self.limits.load();
            let limiter = limiter.as_deref().map(|limiter| (limiter, began.elapsed()));
            let accounting = Accounting { metrics: &self.metrics, row: self.row, limiter };
            let responder = &mut self.responder;
            let table: &Table = self.table.load();
            batch.answer(|datagram| {
                listener::contain(accounting, || answer(responder, datagram, time, table, accounting))
                    .flatten()
            });
            let sent = batch.send(&self.socket);
            if let Some(error) = sent.error {
                self.metrics.happened(self.row, Event::SendError, sent.failed);
                self.log("sending replies failed", &error);
            }
        }
    }

    fn log(&mut self, what: &str, error: &io::Error) {
        if self.log_limit.allows() {
            let address =
                self.socket.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
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
