//! Queries at a steady rate and their response times; and the time until an answer shows a change.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::fleet::{Change, Fleet};
use crate::measure::quantile;
use crate::server::STANDBY;
use crate::support::message::{A, Query, wire};

/// Number of sockets; the kernel distributes them over the server's threads.
const SOCKETS: usize = 2;
/// Time between two sends.
const TICK: Duration = Duration::from_millis(1);
/// How long to wait for the last replies.
const LAST: Duration = Duration::from_millis(500);
/// How long to wait for a change in the answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// A query for the A records of a name.
pub(crate) fn question(name: &str, id: u16) -> Vec<u8> {
    Query::plain(wire(name), A).encode(id)
}

/// The results of a query load.
pub(crate) struct Replies {
    pub(crate) sent: usize,
    /// Response times, microseconds.
    pub(crate) times: Vec<u64>,
}

impl Replies {
    pub(crate) fn p(&mut self, share: f64) -> Duration {
        Duration::from_micros(quantile(&mut self.times, share))
    }

    /// The figures for people.
    pub(crate) fn shown(&mut self) -> String {
        let lost = self.sent - self.times.len();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.p(share).as_micros());
        format!("p50 {p50} us, p99 {p99} us, p99.9 {p999} us, {lost} of {} lost", self.sent)
    }
}

/// Queries these names in turn, `rate` times per second, while `during` runs.
pub(crate) fn ask_during<T>(
    server: SocketAddr,
    names: &[String],
    rate: usize,
    during: impl FnOnce() -> T,
) -> (Replies, T) {
    let stop = Arc::new(AtomicBool::new(false));
    let queries: Arc<Vec<Vec<u8>>> = Arc::new(names.iter().map(|name| question(name, 0)).collect());
    let askers: Vec<Asker> = (0..SOCKETS)
        .map(|_| {
            Asker::start(server, Arc::clone(&queries), rate / SOCKETS, Arc::clone(&stop)).expect("a socket")
        })
        .collect();
    let output = during();
    stop.store(true, Ordering::Relaxed);
    let mut replies = Replies { sent: 0, times: Vec::new() };
    for asker in askers {
        replies.sent += asker.sender.join().expect("it sends");
        replies.times.extend(asker.receiver.join().expect("it receives"));
    }
    (replies, output)
}

struct Asker {
    sender: JoinHandle<usize>,
    receiver: JoinHandle<Vec<u64>>,
}

impl Asker {
    fn start(
        server: SocketAddr,
        queries: Arc<Vec<Vec<u8>>>,
        rate: usize,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0")?);
        socket.connect(server)?;
        socket.set_read_timeout(Some(LAST))?;
        let origin = Instant::now();
        let now = move || u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        // The sending times, by query id.
        let sent: Arc<Vec<AtomicU64>> = Arc::new((0..=u16::MAX).map(|_| AtomicU64::new(0)).collect());
        let receiver = {
            let (socket, sent, stop) = (Arc::clone(&socket), Arc::clone(&sent), Arc::clone(&stop));
            thread::spawn(move || {
                let mut times = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    match socket.recv(&mut buffer) {
                        Ok(_) => {
                            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                            times.push(now().saturating_sub(sent[usize::from(id)].load(Ordering::Relaxed)));
                        }
                        Err(_) if stop.load(Ordering::Relaxed) => return times,
                        Err(_) => {}
                    }
                }
            })
        };
        let sender = thread::spawn(move || {
            let each = rate / 1000;
            let mut count = 0;
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..each {
                    let mut query = queries[count % queries.len()].clone();
                    let id = u16::try_from(count & 0xffff).unwrap_or_default();
                    query[..2].copy_from_slice(&id.to_be_bytes());
                    sent[usize::from(id)].store(now(), Ordering::Relaxed);
                    let _ = socket.send(&query);
                    count += 1;
                }
                next += TICK;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            count
        });
        Ok(Self { sender, receiver })
    }
}

/// The times from probe to answer for changes of watched pools within `time`, and the number of
/// changes that were not found.
pub(crate) fn look_for_changes(
    server: SocketAddr,
    names: &[String],
    fleet: &Fleet,
    changes: &mpsc::Receiver<Change>,
    time: Duration,
) -> (Vec<Duration>, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    let (mut found, mut lost, mut number) = (Vec::new(), 0, 0);
    // Ignores changes before the measurement.
    while changes.try_recv().is_ok() {}
    fleet.looked();
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let Ok(change) = changes.recv_timeout(left) else { break };
        // A new id, so that a late reply to the last query is not mistaken for this one.
        number += 1;
        let query = question(&names[change.pool as usize], number);
        let mut buffer = [0; 4096];
        let seen = loop {
            let _ = socket.send(&query);
            let length = socket.recv(&mut buffer).unwrap_or(0);
            let after = change.at.elapsed();
            let reply = &buffer[..length];
            let is_reply = reply.starts_with(&query[..2]);
            if is_reply && reply.ends_with(&STANDBY.octets()) == change.sick {
                break Some(after);
            }
            if after > PATIENCE {
                break None;
            }
        };
        match seen {
            Some(after) => found.push(after),
            None => lost += 1,
        }
        fleet.looked();
    }
    (found, lost)
}
