//! Counters and gauges in one table.

use std::net::IpAddr;
use std::time::Duration;

use crate::health::Outcome;
use crate::table::{Standing, Table};

/// All counts that are not in the table.
#[derive(Debug, Default)]
pub struct Metrics {
    rows: usize,
}

/// What only the owner of health knows.
#[derive(Clone, Debug, Default)]
pub struct HealthGauges {
    /// For each pool.
    pub pools: Vec<PoolGauge>,
    /// For each backend address.
    pub addresses: Vec<AddressGauge>,
    /// For each service.
    pub services: Vec<ServiceGauge>,
}

/// A pool's gauges.
#[derive(Clone, Debug)]
pub struct PoolGauge {
    /// Its name.
    pub pool: String,
    /// Whether it is usable.
    pub usable: bool,
    /// Weight of the healthy addresses.
    pub healthy_weight: u64,
}

/// The gauges of a backend address.
#[derive(Clone, Debug)]
pub struct AddressGauge {
    /// Its pool.
    pub pool: String,
    /// Its backend.
    pub backend: String,
    /// The address.
    pub address: IpAddr,
    /// Whether it is healthy.
    pub healthy: bool,
    /// Whether it is eligible.
    pub eligible: bool,
}

/// A service's gauges.
#[derive(Clone, Debug)]
pub struct ServiceGauge {
    /// Its name.
    pub service: String,
    /// Whether it fails open.
    pub fail_open: bool,
}

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

    /// `rows` threads may count.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        Self { rows }
    }

    /// Prometheus text.
    #[must_use]
    pub fn render(&self, table: &Table, health: &HealthGauges) -> String {
        format!(
            "# TYPE steerd_table_generation gauge\nsteerd_table_generation {}\n# rows {} pools {}\n",
            table.generation,
            self.rows,
            health.pools.len()
        )
    }
}
