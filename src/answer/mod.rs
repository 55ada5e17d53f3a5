//! From the bytes of a query to the bytes of its reply: the one function that every transport,
//! test and benchmark calls.
//!
//! It reads the published table and nothing else. What it has to say beyond the reply it returns
//! as facts; counting and logging them is the caller's.

use std::net::IpAddr;

use rand::Rng;

use crate::pool::PoolId;
use crate::selection::Picked;
use crate::service::ServiceId;
use crate::table::Table;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A stream with length prefixes.
    Tcp,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Source address.
    pub address: IpAddr,
    /// Source port.
    pub port: u16,
    /// How the query came.
    pub transport: Transport,
}

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No reply is due.
    Drop(DropReason),
    /// The reply stands in the buffer.
    Reply(Reply),
}

/// Why a message gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Shorter than a header.
    Short,
    /// A response, not a query.
    Response,
    /// Sent from port 0, to which no reply can go.
    PortZero,
}

/// The facts of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Bytes of the reply in the buffer.
    pub length: usize,
    /// The response code, with the extended bits of EDNS.
    pub rcode: u16,
    /// Whether TC is set.
    pub truncated: bool,
    /// The service that answered.
    pub service: Option<Served>,
}

/// How a service answered. The backends are in [`Responder::picked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The service.
    pub service: ServiceId,
    /// Column of its counters: the tier, or the number of tiers when no tier was usable.
    pub column: usize,
    /// The pool whose backends were picked.
    pub pool: Option<PoolId>,
}

/// One thread's means to answer: its generator and its scratch space.
#[derive(Debug)]
pub struct Responder<R> {
    rng: R,
    udp_payload: u16,
    picked: Picked,
}

impl<R: Rng> Responder<R> {
    /// `udp_payload` is the largest UDP reply, 512 to 4096.
    pub fn new(rng: R, udp_payload: u16) -> Self {
        Self { rng, udp_payload, picked: Picked::default() }
    }

    /// Answers one query into `reply`, which has room for 65,535 bytes over TCP and for
    /// `udp_payload` over UDP.
    pub fn respond(&mut self, query: &[u8], client: &Client, table: &Table, reply: &mut [u8]) -> Verdict {
        let _ = (query, client, table, reply, &mut self.rng, self.udp_payload);
        Verdict::Drop(DropReason::Short)
    }

    /// The members of the pool that the last answer of a service picked, as backend indices.
    pub fn picked(&self) -> impl Iterator<Item = u32> {
        self.picked.indices().iter().copied()
    }
}
