//! The JSON form of states and overrides, for the snapshot and the journal.
//!
//! Files of every version stay readable: a new field needs a default, and no field may be renamed
//! or removed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::{RememberedFailover, RememberedOverride, RememberedPool, RememberedState, RememberedTier};
use crate::health::{Against, State, TargetProgress, Verdict};
use crate::pool::{Family, MAX_WEIGHT_PERCENT, Override, OverrideValue};

#[derive(Serialize, Deserialize)]
pub(super) struct StoredState(#[serde(with = "StateForm")] pub(super) RememberedState);

#[derive(Serialize, Deserialize)]
pub(super) struct StoredTier(#[serde(with = "TierForm")] pub(super) RememberedTier);

#[derive(Serialize, Deserialize)]
pub(super) struct StoredPool(#[serde(with = "PoolForm")] pub(super) RememberedPool);

#[derive(Serialize, Deserialize)]
pub(super) struct StoredFailover(#[serde(with = "FailoverForm")] pub(super) RememberedFailover);

#[derive(Serialize, Deserialize)]
#[serde(remote = "RememberedState")]
struct StateForm {
    pool: Arc<str>,
    backend: Arc<str>,
    address: IpAddr,
    check: Arc<str>,
    #[serde(with = "VerdictForm")]
    verdict: Verdict,
    #[serde(with = "time")]
    since: SystemTime,
    /// Only between processes: it is out of date after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "progress")]
    progress: Option<TargetProgress>,
}

/// An override for the state of a backend.
pub(super) type StoredOverride = OverrideForm<StateField>;
/// An override for its weight.
pub(super) type StoredWeight = OverrideForm<PercentField>;

/// An override with the field of its kind.
#[derive(Serialize, Deserialize)]
pub(super) struct OverrideForm<V> {
    pool: Arc<str>,
    backend: Arc<str>,
    #[serde(flatten)]
    value: V,
    #[serde(with = "time")]
    since: SystemTime,
    #[serde(with = "optional_time")]
    until: Option<SystemTime>,
    reason: Option<String>,
    #[serde(default)]
    by: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StateField {
    #[serde(with = "StateWord")]
    state: Override,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PercentField {
    percent: u16,
}

/// The stored form of an override. The kinds are in separate lists and records, because earlier versions of steerd
/// read only overrides that have a state.
pub(super) enum StoredKind {
    State(StoredOverride),
    Weight(StoredWeight),
}

impl From<RememberedOverride> for StoredKind {
    fn from(kept: RememberedOverride) -> Self {
        match kept.value {
            OverrideValue::State(state) => Self::State(OverrideForm::new(StateField { state }, kept)),
            OverrideValue::Weight(percent) => Self::Weight(OverrideForm::new(PercentField { percent }, kept)),
        }
    }
}

impl From<StateField> for OverrideValue {
    fn from(StateField { state }: StateField) -> Self {
        Self::State(state)
    }
}

impl From<PercentField> for OverrideValue {
    fn from(PercentField { percent }: PercentField) -> Self {
        Self::Weight(percent.min(MAX_WEIGHT_PERCENT))
    }
}

impl<V> OverrideForm<V> {
    fn new(value: V, kept: RememberedOverride) -> Self {
        let RememberedOverride { pool, backend, value: _, since, until, reason, by } = kept;
        Self { pool, backend, value, since, until, reason, by }
    }
}

impl<V: Into<OverrideValue>> From<OverrideForm<V>> for RememberedOverride {
    fn from(form: OverrideForm<V>) -> Self {
        let OverrideForm { pool, backend, value, since, until, reason, by } = form;
        Self { pool, backend, value: value.into(), since, until, reason, by }
    }
}

/// How far a check is.
#[derive(Serialize, Deserialize)]
struct ProgressForm {
    /// Outcomes in a row that contradict the verdict.
    count: u16,
    /// Whether they are failures, for a draining state.
    #[serde(default, skip_serializing_if = "is_false")]
    fails: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    falls: u8,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<u64>,
    #[serde(with = "VerdictForm")]
    verdict: Verdict,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &u8) -> bool {
    *value == 0
}

mod progress {
    use super::{Against, Deserialize, Duration, ProgressForm, Serialize, State, TargetProgress, Verdict};

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: serde::Serializer>(
        progress: &Option<TargetProgress>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = progress.and_then(|TargetProgress { state, falls, hold }| {
            let hold = hold.map(|hold| u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
            let fails = matches!(state, State::Draining { against: Against::Failures(_) });
            Some(ProgressForm {
                count: state.contradictions(),
                fails,
                falls,
                hold,
                verdict: state.verdict()?,
            })
        });
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<TargetProgress>, D::Error> {
        let form = Option::<ProgressForm>::deserialize(deserializer)?;
        Ok(form.map(|ProgressForm { count, fails, falls, hold, verdict }| {
            let state = match verdict {
                Verdict::Healthy => State::Healthy { failures: count },
                Verdict::Draining if fails => State::Draining { against: Against::Failures(count) },
                Verdict::Draining => State::Draining { against: Against::Passes(count) },
                Verdict::Unhealthy => State::Unhealthy { successes: count },
            };
            TargetProgress { state, falls, hold: hold.map(Duration::from_millis) }
        }))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RememberedTier")]
struct TierForm {
    service: Arc<str>,
    route: u32,
    #[serde(with = "FamilyWord")]
    family: Family,
    tiers: Vec<Arc<str>>,
    pool: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RememberedPool")]
struct PoolForm {
    pool: Arc<str>,
    #[serde(with = "FamilyWord")]
    family: Family,
    #[serde(with = "optional_time")]
    since: Option<SystemTime>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RememberedFailover")]
struct FailoverForm {
    service: Arc<str>,
    pool: Arc<str>,
    #[serde(with = "time")]
    since: SystemTime,
    #[serde(with = "optional_time")]
    until: Option<SystemTime>,
    reason: Option<String>,
    by: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Family", rename_all = "lowercase")]
enum FamilyWord {
    Ipv4,
    Ipv6,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Verdict", rename_all = "lowercase")]
enum VerdictForm {
    Healthy,
    Draining,
    Unhealthy,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Override", rename_all = "lowercase")]
enum StateWord {
    Drain,
    Disabled,
    Up,
    Down,
}

/// Times in RFC 3339. A time outside the calendar, for example from a wrong clock, becomes the
/// nearest one inside.
pub(super) mod time {
    use super::{Deserialize, SystemTime, Timestamp};

    pub(in crate::state) fn timestamp(time: SystemTime) -> Timestamp {
        let nearest = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::try_from(time).unwrap_or(nearest)
    }

    pub(super) fn serialize<S: serde::Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&timestamp(*time))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        Timestamp::deserialize(deserializer).map(SystemTime::from)
    }
}

mod optional_time {
    use super::{Deserialize, Serialize, SystemTime, Timestamp, time};

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: serde::Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(time::timestamp).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Timestamp>::deserialize(deserializer)?.map(SystemTime::from))
    }
}
