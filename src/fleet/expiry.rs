//! When the certificate of a backend expires, the one warning before it does, and which pools have such certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::health::TargetId;
use crate::pool::PoolId;

/// A certificate that expires within this time is logged.
pub const SOON: Duration = Duration::from_secs(21 * 86_400);

/// When the certificate of a target expires. It remains known if probes fail for other reasons.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expiry {
    at: Option<SystemTime>,
    told: bool,
}

/// The certificates that expire soon, by pool; the earliest first.
#[derive(Debug, Default)]
pub(super) struct Expiring(BTreeMap<PoolId, BTreeSet<(SystemTime, TargetId)>>);

impl Expiring {
    /// Records that the certificate of a target, which these pools use, expires at another time; none if not soon.
    pub(super) fn change(
        &mut self,
        target: TargetId,
        pools: impl Iterator<Item = PoolId>,
        [before, now]: [Option<SystemTime>; 2],
    ) {
        if before == now {
            return;
        }
        for pool in pools {
            let known = self.0.entry(pool).or_default();
            if let Some(before) = before {
                known.remove(&(before, target));
            }
            known.extend(now.map(|at| (at, target)));
            if known.is_empty() {
                self.0.remove(&pool);
            }
        }
    }

    /// The pools with such certificates: how many, and the first to expire.
    pub(super) fn pools(&self) -> impl Iterator<Item = (PoolId, usize, (SystemTime, TargetId))> {
        self.0.iter().filter_map(|(pool, known)| Some((*pool, known.len(), *known.first()?)))
    }
}

impl Expiry {
    /// When the certificate that was last seen expires.
    pub(super) fn at(self) -> Option<SystemTime> {
        self.at
    }

    /// When it expires, if a probe has seen that this is soon.
    pub(super) fn soon(self) -> Option<SystemTime> {
        self.at.filter(|_| self.told)
    }

    /// Records the expiry that a probe saw. Returns whether to log it: once per certificate.
    pub(super) fn seen(&mut self, at: SystemTime, now: SystemTime) -> bool {
        if self.at != Some(at) {
            *self = Self { at: Some(at), told: false };
        }
        let is_soon = at.duration_since(now).map_or(true, |left| left < SOON);
        let tell = is_soon && !self.told;
        self.told |= is_soon;
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_is_told_of_once_when_it_ends_soon() {
        let day = |count: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(count * 86_400);
        let mut expiry = Expiry::default();
        assert!(!expiry.seen(day(100), day(79)), "21 days are left");
        assert!(expiry.seen(day(100), day(79) + Duration::from_secs(1)));
        assert!(!expiry.seen(day(100), day(99)));
        assert!(!expiry.seen(day(100), day(101)));
        assert_eq!(expiry.at(), Some(day(100)));
        assert!(!expiry.seen(day(400), day(101)), "it was renewed");
        assert!(expiry.seen(day(90), day(101)), "one that has ended already");
    }
}
