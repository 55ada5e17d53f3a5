//! Counters and gauges. What is counted here is given by those who see it happen.

use std::net::IpAddr;
use std::time::Duration;

use crate::health::Outcome;
use crate::table::Standing;

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// A probe of a backend has ended.
    pub fn probe_finished(&self, _pool: &str, _backend: &str, _outcome: Outcome, _duration: Duration) {}

    /// A probe has started, this much later than it was due.
    pub fn probe_started(&self, _lag: Duration) {}

    /// How many probes are in flight now.
    pub fn probes_in_flight(&self, _count: usize) {}

    /// A backend address has changed its standing.
    pub fn transition(&self, _pool: &str, _backend: &str, _address: IpAddr, _to: Standing) {}

    /// A table was published, which took this long.
    pub fn published(&self, _took: Duration) {}

    /// A probe of this pool has ended just now.
    pub fn last_probe(&self, _pool: &str) {}
}
