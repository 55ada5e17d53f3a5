//! Traffic to a server, counted by its senders, and compared with the server's own counters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{PATIENCE, http_get};

/// The longest query that the server takes, bytes.
const LONGEST_QUERY: usize = 4096;
const HEADER: usize = 12;

/// How many DNS messages were sent to one server. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    udp: AtomicU64,
    tcp: AtomicU64,
}

impl Sent {
    /// Counts a datagram. Counted first and sent then, nothing can be seen that was not counted.
    pub(crate) fn datagram(&self) {
        self.0.udp.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a whole message of a connection.
    pub(crate) fn message(&self) {
        self.0.tcp.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what the server must make of all the bytes of one connection: its whole messages up
    /// to one that ends the connection, because it is too long or no reply is due.
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

/// The values in the metrics of a server.
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

/// Holds a server to what it was sent: at the end of a test its counters must account for each
/// message, or the test fails. It must be dropped before the server ends.
#[derive(Debug)]
pub(crate) struct Ledger {
    admin: SocketAddr,
    pub(crate) sent: Sent,
}

impl Ledger {
    /// Begins to count, for a server that was sent nothing yet.
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
            // A resolver may send for as long as it runs, so both are read anew.
            let (sent, counted) = (self.sent.expected(), Counted::read(self.admin));
            if sent == counted {
                return;
            }
            assert!(Instant::now() < deadline, "the server was sent {sent:?} and says {counted:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}
