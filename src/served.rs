//! All data to serve, as one plain value: `config` makes it, `checker` runs it, `reload` replaces it.

use std::sync::Arc;
use std::time::Duration;

use crate::check::PoolSetup;
use crate::rules::RuleTable;
use crate::service::Service;
use crate::settings::Settings;
use crate::zone::Catalog;

/// The zones and services to answer, and the pools to probe.
#[derive(Debug)]
pub struct Served {
    /// Settings for answers apart from zones, services and health.
    pub settings: Settings,
    /// The zones, with services bound to their names.
    pub catalog: Catalog,
    /// Indexed by `ServiceId`.
    pub services: Vec<Service>,
    /// Indexed by `RuleTableId`.
    pub rule_tables: Vec<Arc<RuleTable>>,
    /// Indexed by `PoolId`.
    pub pools: Vec<PoolSetup>,
    /// DNS queries are answered only when each backend has had its first outcome, or this time has
    /// passed.
    pub startup_wait: Duration,
}
