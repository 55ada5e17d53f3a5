//! Versions of overrides and failovers, and what a request expects of them: so that of two operators neither
//! overwrites the other unseen.

use std::fmt;
use std::hash::Hasher;
use std::time::{SystemTime, UNIX_EPOCH};

use siphasher::sip::SipHasher24;

use crate::fleet::{FailoverStatus, OverrideStatus};
use crate::pool::OverrideValue;

/// The version of an override or a failover. It is made from what an operator has said and when, so it is the same
/// after a restart. If the time of day jumps, the shown times and with them the version change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideVersion(pub u64);

/// Sixteen hexadecimal digits.
impl fmt::Display for OverrideVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The state that a request expects before its change (RFC 9110, section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Any state.
    #[default]
    Anything,
    /// An override, whichever.
    Something,
    /// No override.
    Nothing,
    /// One of these.
    OneOf(Vec<OverrideVersion>),
}

impl Precondition {
    /// Whether the present version, or none, is as expected.
    #[must_use]
    pub fn allows(&self, present: Option<OverrideVersion>) -> bool {
        match self {
            Self::Anything => true,
            Self::Something => present.is_some(),
            Self::Nothing => present.is_none(),
            Self::OneOf(versions) => present.is_some_and(|present| versions.contains(&present)),
        }
    }
}

impl OverrideStatus {
    /// Its version.
    #[must_use]
    pub fn version(&self) -> OverrideVersion {
        let Self { value, since, until, reason, by, safe_at: _ } = self;
        let value = match value {
            OverrideValue::State(state) => state.as_str().to_owned(),
            OverrideValue::Weight(percent) => percent.to_string(),
        };
        version(&value, (*since, *until), [reason.as_deref(), by.as_deref()])
    }
}

impl FailoverStatus {
    /// Its version.
    #[must_use]
    pub fn version(&self) -> OverrideVersion {
        let Self { pool, since, until, reason, by } = self;
        version(pool, (*since, *until), [reason.as_deref(), by.as_deref()])
    }
}

/// The hash has a fixed key: a restarted server must give the same versions.
fn version(
    value: &str,
    (since, until): (SystemTime, Option<SystemTime>),
    texts: [Option<&str>; 2],
) -> OverrideVersion {
    let mut hasher = SipHasher24::new();
    let times = [Some(since), until].map(|time| time?.duration_since(UNIX_EPOCH).ok());
    for time in times {
        hasher.write_u128(time.map_or(u128::MAX, |time| time.as_nanos()));
    }
    for text in [Some(value)].into_iter().chain(texts) {
        // The length keeps neighbours apart.
        hasher.write_u64(text.map_or(u64::MAX, |text| text.len() as u64));
        hasher.write(text.unwrap_or_default().as_bytes());
    }
    OverrideVersion(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::Override;

    #[test]
    fn each_part_of_an_override_counts_but_when_it_is_safe() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let first = OverrideStatus {
            value: OverrideValue::State(Override::Drain),
            since: at(1),
            until: None,
            reason: Some("kernel".into()),
            by: Some("a".into()),
            safe_at: None,
        };
        let others = [
            OverrideStatus { value: OverrideValue::State(Override::Down), ..first.clone() },
            OverrideStatus { value: OverrideValue::Weight(0), ..first.clone() },
            OverrideStatus { since: at(2), ..first.clone() },
            OverrideStatus { until: Some(at(9)), ..first.clone() },
            OverrideStatus { reason: None, ..first.clone() },
            OverrideStatus { reason: Some("kernela".into()), by: None, ..first.clone() },
            OverrideStatus { by: Some("b".into()), ..first.clone() },
        ];
        let versions: std::collections::BTreeSet<String> =
            others.iter().chain([&first]).map(|status| status.version().to_string()).collect();
        assert_eq!(versions.len(), others.len() + 1);
        assert!(versions.iter().all(|version| version.len() == 16));
        assert_eq!(OverrideStatus { safe_at: Some(at(30)), ..first.clone() }.version(), first.version());
        // State files are read by later builds, which must give the same version.
        assert_eq!(first.version().to_string(), "0f3a2a227b361d84");
    }

    #[test]
    fn what_is_expected() {
        let [one, two] = [1, 2].map(OverrideVersion);
        for (expected, none, first, second) in [
            (Precondition::Anything, true, true, true),
            (Precondition::Something, false, true, true),
            (Precondition::Nothing, true, false, false),
            (Precondition::OneOf(vec![one]), false, true, false),
            (Precondition::OneOf(vec![one, two]), false, true, true),
            (Precondition::OneOf(Vec::new()), false, false, false),
        ] {
            let allows = [None, Some(one), Some(two)].map(|present| expected.allows(present));
            assert_eq!(allows, [none, first, second], "{expected:?}");
        }
    }
}
