//! One measurement: loads a server from the other core, and reads the CPU time of its processes before and after.

use std::path::Path;
use std::time::Duration;

use crate::cases::{Case, EdnsUse, Transport};
use crate::drivers;
use crate::measure::{cpu_time, float};
use crate::servers::{Server, Software};
use crate::support::message::NOERROR;

/// The result of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measurement {
    /// Right answers per second.
    pub(crate) rate: f64,
    /// Share of queries without a correct answer.
    pub(crate) lost: f64,
    /// CPU time of the server per correct answer, microseconds.
    pub(crate) cost: f64,
}

/// Loads a server for this many seconds with the queries in a file.
pub(crate) fn drive(server: &Server, case: Case, queries: &Path, seconds: u64) -> Measurement {
    let rcode = if server.software == Software::Echo { NOERROR } else { case.rcode };
    let cookie = (case.edns == EdnsUse::Cookie).then(|| server.cookie(case));
    let processes = server.processes();
    let cpu = || processes.iter().map(|process| cpu_time(*process)).sum::<Duration>();
    let before = cpu();
    let counts = match case.transport {
        Transport::Tcp(Some(count)) => {
            let query = case.samples().swap_remove(0).0.encode(1);
            drivers::connections(server.address, &query, rcode, count, seconds)
        }
        _ => drivers::dnsperf(server.address, case, rcode, cookie.as_deref(), queries, seconds),
    };
    let cpu = cpu().saturating_sub(before);
    Measurement {
        rate: float(counts.right) / counts.seconds,
        lost: 1.0 - float(counts.right) / float(counts.sent.max(1)),
        cost: cpu.as_secs_f64() * 1e6 / float(counts.right),
    }
}
