//! The stored form of an operator's override, with times on the steady calendar.

use crate::fleet::OverrideStatus;
use crate::fleet::calendar::{Calendar, Stamp};
use crate::pool::OverrideValue;

/// An operator's override for a backend.
#[derive(Debug)]
pub(super) struct KeptOverride {
    pub(super) value: OverrideValue,
    pub(super) since: Stamp,
    pub(super) until: Option<Stamp>,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
    /// See [`OverrideStatus::safe_at`].
    pub(super) safe_at: Option<Stamp>,
}

impl KeptOverride {
    pub(super) fn shown(&self, calendar: Calendar) -> OverrideStatus {
        OverrideStatus {
            value: self.value,
            since: calendar.shown(self.since),
            until: self.until.map(|until| calendar.shown(until)),
            reason: self.reason.clone(),
            by: self.by.clone(),
            safe_at: self.safe_at.map(|safe_at| calendar.shown(safe_at)),
        }
    }
}
