//! The task that owns health: due -> probe -> outcome -> transition -> publish.
//!
//! It is the only writer of the answer table. Others send it commands.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::health::Timing;
use crate::pool::Pool;
use crate::probe::Probe;
use crate::service::Service;
use crate::table::{Published, Standing};
use crate::zone::Catalog;

/// What the checker is started with.
#[derive(Debug)]
pub struct Setup {
    /// The zones, with the services' names bound.
    pub catalog: Catalog,
    /// By `ServiceId`.
    pub services: Vec<Service>,
    /// By `PoolId`.
    pub pools: Vec<PoolSetup>,
    /// DNS is not answered before each backend has its first outcome or this long has passed.
    pub startup_wait: Duration,
}

/// A pool with its check.
#[derive(Clone, Debug)]
pub struct PoolSetup {
    /// The pool.
    pub pool: Pool,
    /// Its check; a pool without one is always healthy.
    pub check: Option<Check>,
}

/// The definition of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What to do.
    pub probe: Probe,
    /// When, and how outcomes are counted.
    pub timing: Timing,
}

/// The running checker, for those that read its word or send it commands.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The answer table.
    pub published: Published,
    /// True once every address has its first outcome or `startup_wait` is over.
    pub ready: watch::Receiver<bool>,
    /// Commands to the checker.
    pub commands: mpsc::Sender<Command>,
}

/// What others ask of the checker.
#[derive(Debug)]
pub enum Command {
    /// The state of everything, as of now.
    Status(oneshot::Sender<Status>),
}

/// The state of everything at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Generation of the published table.
    pub generation: u64,
    /// By `PoolId`.
    pub pools: Vec<PoolStatus>,
    /// By `ServiceId`.
    pub services: Vec<ServiceStatus>,
}

/// The state of a pool.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Usable in every family it has addresses of.
    pub usable: bool,
    /// Configured weight of the healthy addresses.
    pub healthy_weight: u64,
    /// Configured weight of all enabled addresses.
    pub total_weight: u64,
    /// In the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// The state of a backend.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Configured weight.
    pub weight: u32,
    /// Whether it is enabled.
    pub enabled: bool,
    /// In the order of the configuration.
    pub addresses: Vec<AddressStatus>,
}

/// The state of a backend address.
#[derive(Clone, Debug)]
pub struct AddressStatus {
    /// The address.
    pub address: std::net::IpAddr,
    /// What the checks say of it.
    pub standing: Standing,
    /// How long it has been in that state.
    pub since: std::time::SystemTime,
    /// Whether it may appear in an answer now.
    pub eligible: bool,
    /// The check's kind (`http`, `https`, `tcp`) and its last report; none without a check.
    pub check: Option<CheckStatus>,
}

/// The state of a check of one address.
#[derive(Clone, Debug)]
pub struct CheckStatus {
    /// `http`, `https` or `tcp`.
    pub name: &'static str,
    /// When the last probe ended, and what it brought.
    pub last: Option<(std::time::SystemTime, crate::probe::Report)>,
}

/// The state of a service.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The pool that answers now, by `Family::index`; none when no tier is usable or has such
    /// an address.
    pub tier: [Option<String>; 2],
    /// Whether no tier is usable in a family that the service has addresses of.
    pub down: bool,
    /// Whether it answers with all backends of the first tier because nothing is usable.
    pub fail_open: bool,
    /// Seconds.
    pub ttl: u32,
}
