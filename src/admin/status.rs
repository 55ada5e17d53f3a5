//! The JSON objects of the API: service, pool, backend, address, check.
//!
//! They are views of `checker`'s status: nothing is decided here but the one word for a pool.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, Unit};
use serde::Serialize;

use crate::checker;
use crate::health::Outcome;
use crate::probe::Cause;
use crate::table::Standing;

/// The state of everything at one moment.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    version: &'static str,
    generation: u64,
    services: Vec<Service<'a>>,
    pools: Vec<Pool<'a>>,
}

#[derive(Serialize)]
pub(super) struct Service<'a> {
    name: &'a str,
    /// The pool that answers now, for each family by itself.
    tier: Tier<'a>,
    down: bool,
    fail_open: bool,
    ttl: u32,
}

#[derive(Serialize)]
struct Tier<'a> {
    ipv4: Option<&'a str>,
    ipv6: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Pool<'a> {
    name: &'a str,
    state: PoolState,
    usable: bool,
    healthy_weight: u64,
    total_weight: u64,
    backends: Vec<Backend<'a>>,
}

/// The state of a pool in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum PoolState {
    /// Every enabled address is healthy.
    Healthy,
    /// Usable, but not every enabled address is healthy.
    Degraded,
    /// Not usable in a family that it has addresses of.
    Critical,
    /// No address has had an outcome yet.
    Unknown,
}

/// Members that are null stand for what the API describes and this version cannot say yet.
#[derive(Serialize)]
pub(super) struct Backend<'a> {
    name: &'a str,
    site: Option<&'a str>,
    enabled: bool,
    weight: u32,
    effective_weight: u32,
    r#override: Option<()>,
    safe_at: Option<Timestamp>,
    addresses: Vec<Address<'a>>,
}

#[derive(Serialize)]
struct Address<'a> {
    #[serde(rename = "address")]
    ip: IpAddr,
    state: &'static str,
    since: Option<Timestamp>,
    /// Known from before the last start only.
    remembered: bool,
    /// Passes its checks, but has changed so often that it must go on so for a while.
    held: bool,
    eligible: bool,
    checks: Vec<Check<'a>>,
}

#[derive(Serialize)]
struct Check<'a> {
    name: &'a str,
    r#type: &'static str,
    state: &'static str,
    since: Option<Timestamp>,
    remembered: bool,
    critical: bool,
    observe_only: bool,
    last: Option<Last<'a>>,
}

#[derive(Serialize)]
struct Last<'a> {
    at: Option<Timestamp>,
    duration_ms: f64,
    outcome: &'static str,
    cause: Option<&'static str>,
    detail: &'a str,
}

impl<'a> From<&'a checker::Status> for Status<'a> {
    fn from(status: &'a checker::Status) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            generation: status.generation,
            services: status.services.iter().map(Service::from).collect(),
            pools: status.pools.iter().map(Pool::from).collect(),
        }
    }
}

impl<'a> From<&'a checker::ServiceStatus> for Service<'a> {
    fn from(service: &'a checker::ServiceStatus) -> Self {
        let [ipv4, ipv6] = &service.tier;
        Self {
            name: service_name(service),
            tier: Tier { ipv4: ipv4.as_deref(), ipv6: ipv6.as_deref() },
            down: service.down,
            fail_open: service.fail_open,
            ttl: service.ttl,
        }
    }
}

impl<'a> From<&'a checker::PoolStatus> for Pool<'a> {
    fn from(pool: &'a checker::PoolStatus) -> Self {
        Self {
            name: &pool.name,
            state: PoolState::of(pool),
            usable: pool.usable,
            healthy_weight: pool.healthy_weight,
            total_weight: pool.total_weight,
            backends: pool.backends.iter().map(Backend::from).collect(),
        }
    }
}

impl PoolState {
    fn of(pool: &checker::PoolStatus) -> Self {
        let mut standings = pool
            .backends
            .iter()
            .filter(|backend| backend.enabled)
            .flat_map(|backend| &backend.addresses)
            .map(|address| address.standing)
            .peekable();
        // "All of none" would be true, so a pool without an enabled address must not reach `all`.
        if standings.peek().is_none() {
            return Self::Critical;
        }
        let standings: Vec<Standing> = standings.collect();
        if standings.iter().all(|standing| *standing == Standing::Unknown) {
            Self::Unknown
        } else if !pool.usable {
            Self::Critical
        } else if standings.iter().all(|standing| *standing == Standing::Healthy) {
            Self::Healthy
        } else {
            Self::Degraded
        }
    }
}

impl<'a> From<&'a checker::BackendStatus> for Backend<'a> {
    fn from(backend: &'a checker::BackendStatus) -> Self {
        Self {
            name: &backend.name,
            site: backend.site.as_deref(),
            enabled: backend.enabled,
            weight: backend.weight,
            effective_weight: if backend.enabled { backend.weight } else { 0 },
            r#override: None,
            safe_at: None,
            addresses: backend.addresses.iter().map(Address::from).collect(),
        }
    }
}

impl<'a> From<&'a checker::AddressStatus> for Address<'a> {
    fn from(address: &'a checker::AddressStatus) -> Self {
        Self {
            ip: address.address,
            state: address.standing.as_str(),
            since: timestamp(address.since),
            remembered: address.remembered,
            held: address.held,
            eligible: address.eligible,
            checks: address.checks.iter().map(Check::from).collect(),
        }
    }
}

impl<'a> From<&'a checker::CheckStatus> for Check<'a> {
    fn from(check: &'a checker::CheckStatus) -> Self {
        Self {
            name: &check.name,
            r#type: check.kind,
            state: check.standing.as_str(),
            since: timestamp(check.since),
            remembered: check.remembered,
            critical: check.critical,
            observe_only: check.observe_only,
            last: check.last.as_ref().map(Last::from),
        }
    }
}

impl<'a> From<&'a checker::PastOutcome> for Last<'a> {
    fn from(last: &'a checker::PastOutcome) -> Self {
        Self {
            at: timestamp(last.at),
            duration_ms: milliseconds(last.duration),
            outcome: outcome_word(last.outcome),
            cause: last.cause.map(Cause::as_str),
            detail: &last.detail,
        }
    }
}

/// The name of a service in metrics and in the API: as in most configurations, without the final
/// dot.
pub(super) fn service_name(service: &checker::ServiceStatus) -> &str {
    service.name.strip_suffix('.').unwrap_or(&service.name)
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Draining => "draining",
        Outcome::Failed => "failed",
        Outcome::Void => "void",
    }
}

/// Milliseconds to three places: a probe on a local network takes less than one.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// RFC 3339, to the millisecond. None for a time no calendar has, as from a clock that is far off.
fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()?.round(Unit::Millisecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(usable: bool, standings: &[(bool, Standing)]) -> checker::PoolStatus {
        let backend = |&(enabled, standing): &(bool, Standing)| checker::BackendStatus {
            name: "b".into(),
            site: None,
            weight: 3,
            enabled,
            addresses: vec![checker::AddressStatus {
                address: "192.0.2.1".parse().unwrap(),
                standing,
                since: SystemTime::UNIX_EPOCH,
                remembered: false,
                held: false,
                percent: 100,
                eligible: false,
                checks: Vec::new(),
                transitions: Vec::new(),
            }],
        };
        checker::PoolStatus {
            name: "p".into(),
            usable,
            healthy_weight: 0,
            total_weight: 0,
            backends: standings.iter().map(backend).collect(),
        }
    }

    #[test]
    fn one_word_for_every_pool() {
        use Standing::{Healthy, Unhealthy, Unknown};
        for (usable, standings, expected) in [
            (true, &[(true, Healthy), (true, Healthy)][..], PoolState::Healthy),
            (true, &[(true, Healthy), (true, Unhealthy)], PoolState::Degraded),
            (true, &[(true, Healthy), (true, Unknown)], PoolState::Degraded),
            (false, &[(true, Healthy), (true, Unhealthy)], PoolState::Critical),
            (false, &[(true, Unhealthy), (true, Unknown)], PoolState::Critical),
            (true, &[(true, Unknown), (true, Unknown)], PoolState::Unknown),
            (true, &[(true, Healthy), (false, Unhealthy)], PoolState::Healthy),
            (false, &[(false, Healthy)], PoolState::Critical),
            (false, &[], PoolState::Critical),
        ] {
            assert_eq!(PoolState::of(&pool(usable, standings)), expected, "{usable} {standings:?}");
        }
    }

    #[test]
    fn times_are_rfc_3339_to_the_millisecond() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(timestamp(time).unwrap().to_string(), "2023-11-14T22:13:20.123Z");
        assert!((milliseconds(Duration::from_nanos(1_234_567)) - 1.235).abs() < 1e-9);
    }
}
