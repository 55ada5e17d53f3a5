//! The state of pools, backends, checks and services, for those who ask.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::fleet::{PastOutcome, PastTransition};
use crate::pool::Override;
use crate::table::Standing;

/// This machine is suspected rather than the backends.
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
    /// How many addresses its backends have that are enabled, by the configuration and by the operator.
    pub enabled: usize,
    /// How many of those are healthy.
    pub healthy: usize,
    /// How many of those have had no outcome yet.
    pub unknown: usize,
    /// Configured weight of the healthy addresses.
    pub healthy_weight: u64,
    /// Configured weight of all those addresses.
    pub total_weight: u64,
    /// Why this machine is suspected rather than the pool.
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
    /// The one who asked for it.
    pub by: Option<String>,
    /// When the last TTL that was handed out with the backend has run out; none as long as it may
    /// still be answered.
    pub safe_at: Option<SystemTime>,
}

/// The state of a backend address.
#[derive(Clone, Debug)]
pub struct AddressStatus {
    /// The address.
    pub address: IpAddr,
    /// The combined result of its checks; unknown when the backend is not enabled, as it is not probed.
    pub standing: Standing,
    /// Since when it has been in that state.
    pub since: SystemTime,
    /// Whether that is what was known before the last start, and no outcome has confirmed it yet.
    pub remembered: bool,
    /// It would be healthy, but has changed so often that it must stay so for a while.
    pub held: bool,
    /// When it returns, if it is held and goes on to pass.
    pub held_until: Option<SystemTime>,
    /// Percent of its weight that it gets while it is eligible.
    pub percent: u8,
    /// Whether it may appear in an answer now.
    pub eligible: bool,
    /// The weight by which it is drawn now, in fail open too, in hundredths; 0 when it is not answered.
    pub drawn: u32,
    /// In the order of the configuration; none when the backend is not enabled.
    pub checks: Vec<CheckStatus>,
    /// Its last changes, the newest last; only of a pool that was asked for by name.
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
    /// Whether that is what was known before the last start.
    pub remembered: bool,
    /// Its failure alone is enough.
    pub critical: bool,
    /// It never decides.
    pub observe_only: bool,
    /// When the certificate of the backend expires, as it was seen last.
    pub certificate_expires: Option<SystemTime>,
    /// The outcome of the last probe.
    pub last: Option<PastOutcome>,
    /// The outcomes of the last probes, the newest last; only of a pool that was asked for by name.
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
    /// Whether it answers with all backends of the first tier because nothing is usable.
    pub fail_open: bool,
    /// Seconds.
    pub ttl: u32,
}
