//! Probes: one run of a check against one backend address, from connect to outcome.
//!
//! A probe reports; what follows from a report is `health`'s.

pub mod http;
pub mod tcp;

use std::time::Duration;

use crate::health::Outcome;

/// What to do to a backend address. Two equal probes to one address are one probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Connect, and close.
    Tcp(tcp::TcpProbe),
    /// An HTTP/1.1 request, with or without TLS.
    Http(http::HttpProbe),
}

/// What a run of a probe brought.
#[derive(Clone, Debug)]
pub struct Report {
    /// The word for `health`.
    pub outcome: Outcome,
    /// What happened, for a person: `connection refused`, `status 503`, `200 OK`.
    pub detail: String,
    /// From the first system call to the outcome.
    pub duration: Duration,
    /// The steps in order with the time each took: connect, tls, request, response.
    pub phases: Vec<(&'static str, Duration)>,
}
