//! Reports on the state of pools, backends, checks and services.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::fleet::{PastOutcome, PastTransition};
use crate::pool::OverrideValue;
use crate::service::Failback;
use crate::table::Standing;

/// A suspicion of this machine, instead of the backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspected {
    /// When it began.
    pub since: SystemTime,
    /// The reason, as text for people.
    pub reason: String,
}

/// The state of a pool, without its backends.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is usable in every family for which it has addresses.
    pub usable: bool,
    /// Since when it is usable, or is not.
    pub since: SystemTime,
    /// The number of addresses that are enabled in the configuration and not disabled by an operator.
    pub enabled: usize,
    /// How many of them are healthy.
    pub healthy: usize,
    /// How many of them have no outcome yet.
    pub unknown: usize,
    /// The configured weight of the healthy addresses.
    pub healthy_weight: u64,
    /// The configured weight of the enabled addresses.
    pub total_weight: u64,
    /// Why this machine is suspected, and not the pool.
    pub suspected: Option<Suspected>,
}

/// The state of a backend.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its failure domain.
    pub site: Option<String>,
    /// Its configured weight.
    pub weight: u32,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The operator's override for its state.
    pub overridden: Option<OverrideStatus>,
    /// The operator's override for its weight.
    pub weight_override: Option<OverrideStatus>,
    /// In configuration order.
    pub addresses: Vec<AddressStatus>,
}

/// An operator's override for a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideStatus {
    /// The override.
    pub value: OverrideValue,
    /// When it began.
    pub since: SystemTime,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// The reason for it.
    pub reason: Option<String>,
    /// The client that requested it.
    pub by: Option<String>,
    /// When the last answer with the backend expires; none while answers may still contain it.
    pub safe_at: Option<SystemTime>,
}

/// The state of a backend address.
#[derive(Clone, Debug)]
pub struct AddressStatus {
    /// The address.
    pub address: IpAddr,
    /// The combined result of its checks; unknown if the backend is not enabled, because it is not
    /// probed.
    pub standing: Standing,
    /// When this state began.
    pub since: SystemTime,
    /// Whether the standing comes from the previous run, without an outcome since.
    pub remembered: bool,
    /// Whether it passes its checks, but is held back because it has fallen too often.
    pub held: bool,
    /// When it returns if it continues to pass.
    pub held_until: Option<SystemTime>,
    /// The percentage of its weight that it gets while it is eligible.
    pub percent: u8,
    /// Whether it may appear in an answer now.
    pub eligible: bool,
    /// The weight with which it is drawn now, also in fail open, in hundredths; 0 if it is not drawn.
    pub drawn: u32,
    /// In configuration order; empty if the backend is not enabled.
    pub checks: Vec<CheckStatus>,
    /// Its last changes, the latest last; only in reports with history.
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
    /// When it began.
    pub since: SystemTime,
    /// Whether it comes from the previous run.
    pub remembered: bool,
    /// Whether its failure alone makes the address unhealthy.
    pub critical: bool,
    /// Whether it is only displayed and counted, and never decides.
    pub observe_only: bool,
    /// When the certificate of the backend expires, as last seen.
    pub certificate_expires: Option<SystemTime>,
    /// Since when all outcomes are void; none if the last one is not.
    pub void_since: Option<SystemTime>,
    /// The outcome of the last probe.
    pub last: Option<PastOutcome>,
    /// The outcomes of the last probes, the latest last; only in reports with history.
    pub outcomes: Vec<PastOutcome>,
}

/// The state of a service.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The pools of all its routes, those of the first tiers of its default route first.
    pub pools: Vec<String>,
    /// The pool that answers now, indexed by `Family::index`; none if no tier is usable or has an
    /// address of the family.
    pub tier: [Option<String>; 2],
    /// Whether a route has no usable tier in a family for which it has addresses.
    pub down: bool,
    /// Whether a route fails open: it answers with all backends of a tier, because no tier is usable.
    pub fail_open: bool,
    /// In seconds.
    pub ttl: u32,
    /// When it returns to an earlier tier.
    pub failback: Failback,
    /// The earlier tier that is usable and not taken yet, indexed by `Family::index`.
    pub waiting: [Option<WaitingStatus>; 2],
    /// The pool that an operator has put first.
    pub failover: Option<FailoverStatus>,
}

/// An operator's failover of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverStatus {
    /// The name of the pool.
    pub pool: String,
    /// When it began.
    pub since: SystemTime,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// The reason for it.
    pub reason: Option<String>,
    /// The client that requested it.
    pub by: Option<String>,
}

/// An earlier tier of a service that is usable and not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingStatus {
    /// The name of its pool.
    pub pool: String,
    /// When it is taken if it stays usable; none if it waits for an operator, or is usable only on trust.
    pub until: Option<SystemTime>,
}
