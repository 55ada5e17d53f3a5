//! All that is served, as one plain value: `config` makes it, `checker` runs it, `reload` replaces it.

use std::time::Duration;

use crate::check::PoolSetup;
use crate::service::Service;
use crate::settings::Settings;
use crate::zone::Catalog;

/// The zones and services to answer for, and the pools to probe.
#[derive(Debug)]
pub struct Served {
    /// Settings that answers depend on besides zones, services and health.
    pub settings: Settings,
    /// The zones, with the services' names bound.
    pub catalog: Catalog,
    /// By `ServiceId`.
    pub services: Vec<Service>,
    /// By `PoolId`.
    pub pools: Vec<PoolSetup>,
    /// DNS is not answered before each backend has its first outcome or this long has passed.
    pub startup_wait: Duration,
}
