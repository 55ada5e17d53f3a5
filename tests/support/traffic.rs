//! Counts the messages sent to a server, and compares them with the server's own counters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{PATIENCE, http_get};

/// Longest query that the server accepts, bytes.
const LONGEST_QUERY: usize = 4096;
const HEADER: usize = 12;

/// Number of DNS messages sent to one server. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    udp: AtomicU64,
    tcp: AtomicU64,
}

impl Sent {
    /// Counts a datagram. Call this before sending, so that the server never sees an uncounted one.
    pub(crate) fn datagram(&self) {
        self.0.udp.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a complete message on a connection.
    pub(crate) fn message(&self) {
        self.0.tcp.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what the server must count for all bytes of one connection: every complete message up
    /// to one that ends the connection, because it is too long or gets no reply.
    pub(crate) fn stream(&self, mut bytes: &[u8]) {
        while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > LONGEST_QUERY {
                return self.message();
            }
            let Some((message, rest)) = rest.split_at_checked(length) else { return };
            self.message();
            let is_response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
            if length < HEADER || is_response {
                return;
            }
            bytes = rest;
        }
    }

    fn expected(&self) -> Counted {
        let (udp, tcp) = (self.0.udp.load(Ordering::Relaxed), self.0.tcp.load(Ordering::Relaxed));
        Counted { udp, tcp, answered_or_dropped: udp + tcp }
    }
}

/// The values in a server's metrics.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    udp: u64,
    tcp: u64,
    answered_or_dropped: u64,
}

impl Counted {
    fn read(admin: SocketAddr) -> Self {
        let (_, metrics) = http_get(admin, "/metrics");
        let sum = |prefixes: &[&str]| {
            let lines = metrics.lines().filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
        };
        Self {
            udp: sum(&["steerd_queries_total{transport=\"udp\""]),
            tcp: sum(&["steerd_queries_total{transport=\"tcp\""]),
            answered_or_dropped: sum(&["steerd_responses_total{", "steerd_dropped_total{"]),
        }
    }
}

/// Compares a server's counters with the sent messages on drop, and fails the test unless every
/// message is accounted for. Drop it before the server ends.
#[derive(Debug)]
pub(crate) struct Ledger {
    admin: SocketAddr,
    pub(crate) sent: Sent,
}

impl Ledger {
    /// Starts counting for a server that has not received a message yet.
    pub(crate) fn of(admin: SocketAddr) -> Self {
        Self { admin, sent: Sent::default() }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A resolver may send as long as it runs, so both sides are read again.
            let (sent, counted) = (self.sent.expected(), Counted::read(self.admin));
            if sent == counted {
                return;
            }
            assert!(Instant::now() < deadline, "the server was sent {sent:?} and counted {counted:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}
