//! The JSON objects of the API: service, pool, backend, address, check.
//!
//! They are views of the checker's status. Only the state of a pool is derived here.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, Unit};
use serde::Serialize;

use crate::admin::preconditions::entity_tag;
use crate::admin::traffic::Traffic;
use crate::config;
use crate::fleet;
use crate::health;
use crate::pool::OverrideValue;
use crate::probe::Cause;

#[derive(Serialize)]
pub(super) struct Service<'a> {
    name: &'a str,
    /// The name in Unicode, if it has A-labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    unicode_name: Option<String>,
    pools: Vec<&'a str>,
    /// The pool that answers now, per family.
    tier: Tier<'a>,
    down: bool,
    fail_open: bool,
    ttl: u32,
    /// `auto`, `manual` or a duration.
    failback: String,
    /// The earlier tier that is usable and not taken yet, per family.
    waiting: WaitingTiers<'a>,
    /// The pool that an operator has put first.
    failover: Option<FailoverShown<'a>>,
    /// Since the counters began; not in replies to changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<u64>,
}

/// An operator's failover of a service.
#[derive(Serialize)]
pub(super) struct FailoverShown<'a> {
    pool: &'a str,
    reason: Option<&'a str>,
    by: Option<&'a str>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// For If-Match.
    etag: String,
}

#[derive(Serialize)]
struct Tier<'a> {
    ipv4: Option<&'a str>,
    ipv6: Option<&'a str>,
}

#[derive(Serialize)]
struct WaitingTiers<'a> {
    ipv4: Option<WaitingTierShown<'a>>,
    ipv6: Option<WaitingTierShown<'a>>,
}

#[derive(Serialize)]
pub(super) struct WaitingTierShown<'a> {
    pool: &'a str,
    /// When it is taken; none if an operator must say so, or it is usable only on trust.
    until: Option<Timestamp>,
}

/// A pool. `B` is the array of its backends, which may be fetched while it is written.
#[derive(Serialize)]
pub(super) struct Pool<'a, B> {
    name: &'a str,
    state: PoolStateWord,
    usable: bool,
    /// Since when it is usable, or is not.
    since: Option<Timestamp>,
    healthy_weight: u64,
    total_weight: u64,
    suspected: Option<Suspected<'a>>,
    backends: B,
}

/// The state of a pool in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum PoolStateWord {
    /// Every enabled address is healthy.
    Healthy,
    /// Usable, but not every enabled address is healthy.
    Degraded,
    /// Not usable in a family for which it has addresses.
    Critical,
    /// No address has an outcome yet.
    Unknown,
}

#[derive(Serialize)]
pub(super) struct Backend<'a> {
    name: &'a str,
    site: Option<&'a str>,
    enabled: bool,
    weight: u32,
    effective_weight: Weight,
    r#override: Option<Override<'a>>,
    weight_override: Option<Override<'a>>,
    safe_at: Option<Timestamp>,
    /// The whole seconds until then, by the clock of the server.
    safe_in_seconds: Option<u64>,
    /// Not in replies to changes.
    #[serde(flatten)]
    traffic: Option<Traffic<'a>>,
    addresses: Vec<Address<'a>>,
}

/// An operator's override, with `state` or `percent`.
#[derive(Serialize)]
pub(super) struct Override<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u16>,
    reason: Option<&'a str>,
    by: Option<&'a str>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// For If-Match.
    etag: String,
}

/// The suspicion of this machine, and not of the backends.
#[derive(Serialize)]
pub(super) struct Suspected<'a> {
    since: Option<Timestamp>,
    reason: &'a str,
}

#[derive(Serialize)]
struct Address<'a> {
    #[serde(rename = "address")]
    ip: IpAddr,
    state: &'static str,
    since: Option<Timestamp>,
    /// Whether the state comes from the previous run.
    remembered: bool,
    /// Whether it passes its checks, but is held back because it has fallen too often.
    held: bool,
    held_until: Option<Timestamp>,
    percent: u8,
    eligible: bool,
    checks: Vec<Check<'a>>,
    /// The last changes, newest last; only for a pool requested by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    transitions: Option<Vec<Transition<'a>>>,
}

#[derive(Serialize)]
struct Transition<'a> {
    at: Option<Timestamp>,
    from: &'static str,
    to: &'static str,
    cause: Option<&'static str>,
    detail: &'a str,
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
    /// When the backend's certificate expires; only for checks that have seen one.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_expires: Option<Timestamp>,
    /// Since when all outcomes are void; only if the last one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    void_since: Option<Timestamp>,
    last: Option<Outcome<'a>>,
    /// The last outcomes, newest last; only for a pool requested by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcomes: Option<Vec<Outcome<'a>>>,
}

/// The outcome of a probe.
#[derive(Serialize)]
struct Outcome<'a> {
    at: Option<Timestamp>,
    duration_ms: f64,
    #[serde(rename = "outcome")]
    word: &'static str,
    cause: Option<&'static str>,
    detail: &'a str,
}

impl<'a> From<&'a fleet::ServiceStatus> for Service<'a> {
    fn from(service: &'a fleet::ServiceStatus) -> Self {
        let [ipv4, ipv6] = &service.tier;
        let [waiting_ipv4, waiting_ipv6] = &service.waiting;
        Self {
            name: service_name(&service.name),
            unicode_name: config::in_letters(service_name(&service.name)),
            pools: service.pools.iter().map(|pool| &**pool).collect(),
            tier: Tier { ipv4: ipv4.as_deref(), ipv6: ipv6.as_deref() },
            down: service.down,
            fail_open: service.fail_open,
            ttl: service.ttl,
            failback: service.failback.to_string(),
            waiting: WaitingTiers {
                ipv4: waiting_ipv4.as_ref().map(WaitingTierShown::from),
                ipv6: waiting_ipv6.as_ref().map(WaitingTierShown::from),
            },
            failover: service.failover.as_ref().map(FailoverShown::from),
            answers: None,
        }
    }
}

impl Service<'_> {
    /// The same service with the number of its answers.
    pub(super) fn with(self, answers: u64) -> Self {
        Self { answers: Some(answers), ..self }
    }
}

impl<'a> From<&'a fleet::WaitingStatus> for WaitingTierShown<'a> {
    fn from(fleet::WaitingStatus { pool, until }: &'a fleet::WaitingStatus) -> Self {
        Self { pool, until: until.and_then(timestamp) }
    }
}

impl<'a> From<&'a fleet::FailoverStatus> for FailoverShown<'a> {
    fn from(failover: &'a fleet::FailoverStatus) -> Self {
        Self {
            pool: &failover.pool,
            reason: failover.reason.as_deref(),
            by: failover.by.as_deref(),
            since: timestamp(failover.since),
            until: failover.until.and_then(timestamp),
            etag: entity_tag(failover.version()),
        }
    }
}

impl<'a, B> Pool<'a, B> {
    pub(super) fn new(pool: &'a fleet::PoolStatus, backends: B) -> Self {
        Self {
            name: &pool.name,
            state: PoolStateWord::of(pool),
            usable: pool.usable,
            since: timestamp(pool.since),
            healthy_weight: pool.healthy_weight,
            total_weight: pool.total_weight,
            suspected: pool.suspected.as_ref().map(Suspected::from),
            backends,
        }
    }
}

impl PoolStateWord {
    fn of(pool: &fleet::PoolStatus) -> Self {
        // This case comes first, because without enabled addresses the comparisons below would be
        // true.
        if pool.enabled == 0 {
            Self::Critical
        } else if pool.unknown == pool.enabled {
            Self::Unknown
        } else if !pool.usable {
            Self::Critical
        } else if pool.healthy == pool.enabled {
            Self::Healthy
        } else {
            Self::Degraded
        }
    }
}

impl<'a> Backend<'a> {
    /// A backend; `history` adds past outcomes and transitions.
    pub(super) fn new(backend: &'a fleet::BackendStatus, history: bool) -> Self {
        // Each of the two that keeps it out is right, also if it began after the other.
        let overrides = [&backend.overridden, &backend.weight_override];
        let safe_at = overrides.into_iter().filter_map(|status| status.as_ref()?.safe_at).min();
        Self {
            name: &backend.name,
            site: backend.site.as_deref(),
            enabled: backend.enabled,
            weight: backend.weight,
            effective_weight: effective_weight(backend),
            r#override: backend.overridden.as_ref().map(Override::from),
            weight_override: backend.weight_override.as_ref().map(Override::from),
            safe_at: safe_at.and_then(timestamp),
            safe_in_seconds: safe_at.map(seconds_until),
            traffic: None,
            addresses: backend.addresses.iter().map(|address| Address::new(address, history)).collect(),
        }
    }

    /// The same backend with its traffic.
    pub(super) fn with(self, traffic: Traffic<'a>) -> Self {
        Self { traffic: Some(traffic), ..self }
    }
}

/// The seconds until a time, rounded up; 0 if it has passed.
fn seconds_until(time: SystemTime) -> u64 {
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// A weight, which may be a fraction of the configured one: 5 percent of 3 is 0.15, not 0.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Weight {
    Whole(u32),
    Part(f64),
}

/// The weight with which its addresses are drawn now; the largest one if they differ.
fn effective_weight(backend: &fleet::BackendStatus) -> Weight {
    let hundredths = backend.addresses.iter().map(|address| address.drawn).max().unwrap_or(0);
    if hundredths.is_multiple_of(100) {
        Weight::Whole(hundredths / 100)
    } else {
        Weight::Part(f64::from(hundredths) / 100.0)
    }
}

impl<'a> From<&'a fleet::OverrideStatus> for Override<'a> {
    fn from(status: &'a fleet::OverrideStatus) -> Self {
        let (state, percent) = match status.value {
            OverrideValue::State(state) => (Some(state.as_str()), None),
            OverrideValue::Weight(percent) => (None, Some(percent)),
        };
        Self {
            state,
            percent,
            reason: status.reason.as_deref(),
            by: status.by.as_deref(),
            since: timestamp(status.since),
            until: status.until.and_then(timestamp),
            etag: entity_tag(status.version()),
        }
    }
}

impl<'a> From<&'a fleet::Suspected> for Suspected<'a> {
    fn from(suspected: &'a fleet::Suspected) -> Self {
        Self { since: timestamp(suspected.since), reason: &suspected.reason }
    }
}

impl<'a> Address<'a> {
    fn new(address: &'a fleet::AddressStatus, history: bool) -> Self {
        Self {
            ip: address.address,
            state: address.standing.as_str(),
            since: timestamp(address.since),
            remembered: address.remembered,
            held: address.held,
            held_until: address.held_until.and_then(timestamp),
            percent: address.percent,
            eligible: address.eligible,
            checks: address.checks.iter().map(|check| Check::new(check, history)).collect(),
            transitions: history.then(|| address.transitions.iter().map(Transition::from).collect()),
        }
    }
}

impl<'a> From<&'a fleet::PastTransition> for Transition<'a> {
    fn from(transition: &'a fleet::PastTransition) -> Self {
        Self {
            at: timestamp(transition.at),
            from: transition.from.as_str(),
            to: transition.to.as_str(),
            cause: transition.cause.map(Cause::as_str),
            detail: &transition.detail,
        }
    }
}

impl<'a> Check<'a> {
    fn new(check: &'a fleet::CheckStatus, history: bool) -> Self {
        Self {
            name: &check.name,
            r#type: check.kind,
            state: check.standing.as_str(),
            since: timestamp(check.since),
            remembered: check.remembered,
            critical: check.critical,
            observe_only: check.observe_only,
            certificate_expires: check.certificate_expires.and_then(timestamp),
            void_since: check.void_since.and_then(timestamp),
            last: check.last.as_ref().map(Outcome::from),
            outcomes: history.then(|| check.outcomes.iter().map(Outcome::from).collect()),
        }
    }
}

impl<'a> From<&'a fleet::PastOutcome> for Outcome<'a> {
    fn from(last: &'a fleet::PastOutcome) -> Self {
        Self {
            at: timestamp(last.at),
            duration_ms: milliseconds(last.duration),
            word: outcome_word(last.outcome),
            cause: last.cause.map(Cause::as_str),
            detail: &last.detail,
        }
    }
}

/// The name of a service in metrics and the API: without the final dot, as in most configurations.
pub(super) fn service_name(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn outcome_word(outcome: health::Outcome) -> &'static str {
    match outcome {
        health::Outcome::Passed => "passed",
        health::Outcome::Draining => "draining",
        health::Outcome::Failed => "failed",
        health::Outcome::Void => "void",
    }
}

/// Milliseconds with three decimals: a probe on a local network takes less than one millisecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// RFC 3339 with milliseconds. `None` for a time outside the calendar, for example from a wrong
/// clock.
pub(super) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()?.round(Unit::Millisecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_for_every_pool() {
        for (usable, enabled, healthy, unknown, expected) in [
            (true, 2, 2, 0, PoolStateWord::Healthy),
            (true, 2, 1, 0, PoolStateWord::Degraded),
            (true, 2, 1, 1, PoolStateWord::Degraded),
            (false, 2, 1, 0, PoolStateWord::Critical),
            (false, 2, 0, 1, PoolStateWord::Critical),
            (true, 2, 0, 2, PoolStateWord::Unknown),
            (false, 2, 0, 2, PoolStateWord::Unknown),
            (true, 0, 0, 0, PoolStateWord::Critical),
            (false, 0, 0, 0, PoolStateWord::Critical),
        ] {
            let pool = fleet::PoolStatus {
                name: "p".into(),
                usable,
                since: SystemTime::UNIX_EPOCH,
                enabled,
                healthy,
                unknown,
                healthy_weight: 0,
                total_weight: 0,
                suspected: None,
            };
            assert_eq!(PoolStateWord::of(&pool), expected, "{pool:?}");
        }
    }

    #[test]
    fn times_are_rfc_3339_to_the_millisecond() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(timestamp(time).unwrap().to_string(), "2023-11-14T22:13:20.123Z");
        assert!((milliseconds(Duration::from_nanos(1_234_567)) - 1.235).abs() < 1e-9);
    }
}
