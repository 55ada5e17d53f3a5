//! Reports on the state of pools, backends, checks and services.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::fleet::{PastOutcome, PastTransition};
use crate::pool::Override;
use crate::table::Standing;

/// This machine, and not the backends, is suspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspected {
    /// Since when.
    pub since: SystemTime,
    /// Why, for a person.
    pub reason: String,
}

/// The state of a pool, without its backends.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Usable in every family it has addresses of.
    pub usable: bool,
    /// The number of addresses that are enabled by the configuration and not disabled by an operator.
    pub enabled: usize,
    /// How many of those are healthy.
    pub healthy: usize,
    /// How many of those have no outcome yet.
    pub unknown: usize,
    /// Configured weight of the healthy addresses.
    pub healthy_weight: u64,
    /// Configured weight of all those addresses.
    pub total_weight: u64,
    /// Why this machine, and not the pool, is suspected.
    pub suspected: Option<Suspected>,
}

/// The state of a backend.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its failure domain.
    pub site: Option<String>,
    /// Configured weight.
    pub weight: u32,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The operator's override of it.
    pub overridden: Option<OverrideStatus>,
    /// In the order of the configuration.
    pub addresses: Vec<AddressStatus>,
}

/// An operator's override of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideStatus {
    /// The override.
    pub state: Override,
    /// Since when.
    pub since: SystemTime,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// Why.
    pub reason: Option<String>,
    /// Who asked for it.
    pub by: Option<String>,
    /// When the last answer with the backend expires; none while it may still be answered.
    pub safe_at: Option<SystemTime>,
}

/// The state of a backend address.
#[derive(Clone, Debug)]
pub struct AddressStatus {
    /// The address.
    pub address: IpAddr,
    /// The combined result of its checks; unknown if the backend is not enabled, since it is not probed.
    pub standing: Standing,
    /// Since when it has been in that state.
    pub since: SystemTime,
    /// Whether the standing is remembered from before the last start, without an outcome since.
    pub remembered: bool,
    /// It passes its checks, but has failed so often that it is held back for a while.
    pub held: bool,
    /// When it returns if it goes on passing.
    pub held_until: Option<SystemTime>,
    /// Percent of its weight that it gets while it is eligible.
    pub percent: u8,
    /// Whether it may appear in an answer now.
    pub eligible: bool,
    /// The weight by which it is drawn now, also in fail open, in hundredths; 0 if it is not answered.
    pub drawn: u32,
    /// In the order of the configuration; none when the backend is not enabled.
    pub checks: Vec<CheckStatus>,
    /// Its last changes, the newest last; only in a report with history.
    pub transitions: Vec<PastTransition>,
}

/// The state of a check of one address.
#[derive(Clone, Debug)]
pub struct CheckStatus {
    /// Its name.
    pub name: Arc<str>,
    /// `http`, `https`, `tcp`, `tls`, `grpc` or `exec`.
    pub kind: &'static str,
    /// The result of the check.
    pub standing: Standing,
    /// Since when.
    pub since: SystemTime,
    /// Whether it is remembered from before the last start.
    pub remembered: bool,
    /// Its failure alone makes the address unhealthy.
    pub critical: bool,
    /// Shown and counted, never decides.
    pub observe_only: bool,
    /// When the certificate of the backend expires, as last seen.
    pub certificate_expires: Option<SystemTime>,
    /// The outcome of the last probe.
    pub last: Option<PastOutcome>,
    /// The outcomes of the last probes, the newest last; only in a report with history.
    pub outcomes: Vec<PastOutcome>,
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
    /// Whether it fails open: it answers with all backends of a tier, because no tier is usable.
    pub fail_open: bool,
    /// Seconds.
    pub ttl: u32,
}
