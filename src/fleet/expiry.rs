//! When the certificate of a backend expires, and the one warning before it does.

use std::time::{Duration, SystemTime};

/// A certificate that expires within this time is logged.
pub const SOON: Duration = Duration::from_secs(21 * 86_400);

/// When the certificate of a target expires. It remains known if probes fail for other reasons.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expiry {
    at: Option<SystemTime>,
    told: bool,
}

impl Expiry {
    /// When the certificate that was last seen expires.
    pub(super) fn at(self) -> Option<SystemTime> {
        self.at
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
