//! UDP workers: plain threads that receive, answer and send in batches.
//!
//! ```text
//! receive up to 64 -> load the table once -> answer each -> send all -> ...
//! ```
//!
//! From receive to send nothing is allocated and no lock is taken. A worker ends only when it is
//! told to.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tracing::warn;

use crate::answer::{Client, Responder, Transport, Verdict};
use crate::listener::{self, LogLimit};
use crate::metrics::{Event, Metrics};
use crate::sys::{Datagram, UdpBatch};
use crate::table::{Reader, Table};

/// After an error the worker rests this long, so that a lasting one does not make it spin.
const REST: Duration = Duration::from_millis(10);

/// One thread with one socket.
pub(super) struct Worker {
    socket: UdpSocket,
    row: usize,
    table: Reader,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
    responder: Responder<SmallRng>,
    log_limit: LogLimit,
}

impl Worker {
    pub(super) fn new(
        socket: UdpSocket,
        row: usize,
        table: Reader,
        metrics: Arc<Metrics>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let responder = Responder::new(SmallRng::from_rng(&mut rand::rng()));
        Self { socket, row, table, metrics, stop, responder, log_limit: LogLimit::default() }
    }

    pub(super) fn run(mut self) {
        let mut batch = UdpBatch::new();
        while !self.stop.load(Ordering::Relaxed) {
            match batch.receive(&self.socket) {
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => {
                    self.metrics.happened(self.row, Event::ReceiveError, 1);
                    self.log("receiving datagrams failed", &error);
                    std::thread::sleep(REST);
                    continue;
                }
            }
            let time = listener::unix_time();
            let (responder, metrics, row) = (&mut self.responder, &*self.metrics, self.row);
            let table: &Table = self.table.load();
            batch.answer(|datagram| answer(responder, datagram, time, table, metrics, row));
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
            warn!(%address, %error, "{what}; steerd goes on");
        }
    }
}

/// The length of the reply, if one is due.
fn answer(
    responder: &mut Responder<SmallRng>,
    datagram: Datagram<'_>,
    time: u32,
    table: &Table,
    metrics: &Metrics,
    row: usize,
) -> Option<usize> {
    let Datagram { peer, query, cut, reply } = datagram;
    let client = Client { address: peer.ip(), port: peer.port(), transport: Transport::Udp, time };
    if cut {
        listener::refuse_long(&client, (metrics, row));
        return None;
    }
    match listener::respond(responder, query, &client, table, reply, (metrics, row)) {
        Verdict::Reply(reply) => Some(reply.length),
        Verdict::Drop(_) => None,
    }
}
