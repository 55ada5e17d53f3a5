//! A sample: one query, its outcome, and the messages as far as they have room.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use crate::answer::{Client, Reply, ServiceAnswer, Transport};
use crate::metrics::Dropped;
use crate::table::Table;

/// Room for the query and its reply together, bytes: both of usual size. One that has no room is left out.
pub const MOST_BYTES: usize = 2048;
/// Room for the names of the service, the pool and the backends, bytes. A name that has no room is left out.
const MOST_NAMES: usize = 512;

/// The outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleOutcome {
    /// It got a reply.
    Replied {
        /// The response code, with the extended bits of EDNS.
        rcode: u16,
        /// Whether TC is set.
        truncated: bool,
        /// Whether it is empty because of response rate limiting.
        slipped: bool,
        /// The length of the reply, bytes.
        length: usize,
    },
    /// A zone transfer was started.
    Transferred,
    /// It got no reply.
    Dropped(Dropped),
}

impl SampleOutcome {
    /// The outcome of a query: the reply, and whether response rate limiting has emptied it; or why there is none.
    #[must_use]
    pub fn of(answered: &Result<(Reply<'_>, bool), Dropped>) -> Self {
        match *answered {
            Ok((Reply { rcode, truncated, length, .. }, slipped)) => {
                Self::Replied { rcode, truncated, slipped, length }
            }
            Err(why) => Self::Dropped(why),
        }
    }
}

/// The backends from which a service has answered.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'a> {
    /// The service.
    pub service: ServiceAnswer,
    /// The indices of the backends in their pool.
    pub picked: &'a [u32],
    /// The table with their names.
    pub table: &'a Table,
}

/// A query and its outcome, as the listener has them.
#[derive(Clone, Copy, Debug)]
pub struct AnsweredQuery<'a> {
    /// The client.
    pub client: &'a Client,
    /// The query, as received.
    pub query: &'a [u8],
    /// The reply, as sent; empty if there is none.
    pub reply: &'a [u8],
    /// Its outcome.
    pub outcome: SampleOutcome,
    /// For an answer of a service.
    pub drawn: Option<Drawn<'a>>,
}

/// All that a sample copies.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The address to which the query was sent.
    pub server: SocketAddr,
    /// When the query arrived.
    pub asked: SystemTime,
    /// When its answer was complete.
    pub replied: SystemTime,
    /// The query and its outcome.
    pub answered: AnsweredQuery<'a>,
}

/// A copy of a query and its outcome. It is filled again and again, without allocation.
#[derive(Debug)]
pub struct Sample {
    /// The client.
    pub client: SocketAddr,
    /// The address to which the query was sent; unspecified if the socket has all addresses of this machine.
    pub server: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// When the query arrived.
    pub asked: SystemTime,
    /// When its answer was complete.
    pub replied: SystemTime,
    /// Its outcome.
    pub outcome: SampleOutcome,
    /// The query, the reply and the names behind each other. Of the names the length and the bytes of each: that of the
    /// service in wire form, of the pool, of each backend.
    bytes: Vec<u8>,
    query_length: usize,
    reply_length: usize,
}

impl Default for Sample {
    fn default() -> Self {
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self {
            client: nobody,
            server: nobody,
            transport: Transport::Udp,
            asked: SystemTime::UNIX_EPOCH,
            replied: SystemTime::UNIX_EPOCH,
            outcome: SampleOutcome::Transferred,
            bytes: Vec::with_capacity(MOST_BYTES + MOST_NAMES),
            query_length: 0,
            reply_length: 0,
        }
    }
}

impl Sample {
    /// Copies an exchange.
    pub fn fill(&mut self, exchange: &Exchange<'_>) {
        let Exchange { server, asked, replied, answered } = *exchange;
        let AnsweredQuery { client, query, reply, outcome, drawn } = answered;
        self.client = SocketAddr::new(client.address, client.port);
        (self.server, self.transport) = (server, client.transport);
        (self.asked, self.replied, self.outcome) = (asked, replied, outcome);
        self.bytes.clear();
        self.query_length = self.add(query, MOST_BYTES);
        self.reply_length = self.add(reply, MOST_BYTES - self.query_length);
        if let Some(Drawn { service, picked, table }) = drawn {
            let name = table.service(service.service).map_or(&[][..], |view| view.service.name.wire());
            self.add_name(name);
            if let Some(pool) = service.pool.and_then(|pool| table.pool(pool)) {
                self.add_name(pool.name.as_bytes());
                for backend in picked.iter().filter_map(|index| pool.backends.get(*index as usize)) {
                    self.add_name(backend.as_bytes());
                }
            }
        }
    }

    /// Adds bytes, or none if they are too many. Returns how many.
    fn add(&mut self, bytes: &[u8], room: usize) -> usize {
        if bytes.len() > room {
            return 0;
        }
        self.bytes.extend_from_slice(bytes);
        bytes.len()
    }

    fn add_name(&mut self, name: &[u8]) {
        let taken = self.bytes.len() - self.query_length - self.reply_length;
        if let Ok(length) = u8::try_from(name.len())
            && taken + name.len() < MOST_NAMES
        {
            self.bytes.push(length);
            self.bytes.extend_from_slice(name);
        }
    }

    /// The query, as received; empty if it had no room.
    #[must_use]
    pub fn query(&self) -> &[u8] {
        self.bytes.get(..self.query_length).unwrap_or_default()
    }

    /// The reply, as sent; empty if there is none or it had no room.
    #[must_use]
    pub fn reply(&self) -> &[u8] {
        self.bytes.get(self.query_length..self.query_length + self.reply_length).unwrap_or_default()
    }

    /// The names, in this order: that of the service in wire form, that of the pool, those of the backends.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.get(self.query_length + self.reply_length..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            Some(name)
        })
    }

    /// Marks a sample, to find it again.
    #[cfg(test)]
    pub(super) fn mark(&mut self, mark: &[u8]) {
        self.bytes.clear();
        self.query_length = self.add(mark, MOST_BYTES);
        self.reply_length = 0;
    }

    /// The mark.
    #[cfg(test)]
    pub(super) fn marked(&self) -> &[u8] {
        self.query()
    }
}
