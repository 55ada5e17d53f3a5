//! The messages between the process that serves and the one that takes over, and the order in which they come.
//!
//! A new member needs a default. A change that an earlier process would misunderstand needs another [`PROTOCOL`].

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::audit::Author;

/// The version of the protocol. Two processes with different ones do not replace each other.
pub(super) const PROTOCOL: u32 = 1;

/// A message to the process that serves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum FromSuccessor {
    /// The first message, before anything else is done.
    Hello { protocol: u32, version: String, pid: u32 },
    /// The configuration is loaded, and all sockets are bound.
    Bound {
        /// Its `startup_wait`.
        startup_wait_milliseconds: u64,
    },
    /// The state is taken over; every address has an outcome, or `startup_wait` is over.
    Ready,
    /// DNS is answered.
    Answering,
    /// Everything is taken over.
    Committed,
    /// The reason why it ends.
    Failed { reason: String },
}

/// A message to the process that takes over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum FromPredecessor {
    /// The descriptors of these follow, in this order.
    Descriptors {
        endpoints: Vec<EndpointForm>,
        admin: Vec<String>,
        /// The directory whose lock follows last.
        state_dir: Option<PathBuf>,
    },
    /// Health and overrides, in the form of `state`.
    State { memory: String },
    /// DNS is to be answered from now on. The other process reads too until it has heard `Answering`.
    Answer,
    /// The descriptor of a DNS connection follows.
    Connection,
    /// The other process ends.
    Commit {
        /// Its counters, as in its metrics.
        counters: String,
        /// Whether a reload was requested meanwhile.
        reload: bool,
        /// The client that requested the upgrade.
        by: Author,
    },
}

/// The sockets of an address: those for UDP, then the listener for TCP.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndpointForm {
    pub(super) address: SocketAddr,
    pub(super) udp: usize,
}
