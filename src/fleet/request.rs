//! Requests for an override, and their results.

use std::time::Duration;

use crate::fleet::{BackendStatus, OverrideStatus};
use crate::pool::{Override, OverrideKind, OverrideValue};

/// A request to set or end the override of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRequest {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// The override to set or to end.
    pub change: OverrideChange,
    /// How long it lasts; without it, until an operator ends it.
    pub length: Option<Duration>,
    /// The reason, for display. If there is none, the reason of the previous override stays.
    pub reason: Option<String>,
    /// Whether to do it even if it takes something away from clients.
    pub force: bool,
    /// Who requested it, for display and for the log.
    pub by: String,
}

/// A change of one of the overrides of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideChange {
    /// The state; none returns to the result of the checks.
    State(Option<Override>),
    /// The percentage of the configured weight; none returns to that weight.
    Weight(Option<u16>),
}

impl OverrideChange {
    /// The overridden thing.
    pub(super) fn kind(self) -> OverrideKind {
        match self {
            Self::State(_) => OverrideKind::State,
            Self::Weight(_) => OverrideKind::Weight,
        }
    }

    /// The new value; none if the override ends.
    pub(super) fn value(self) -> Option<OverrideValue> {
        match self {
            Self::State(state) => state.map(OverrideValue::State),
            Self::Weight(percent) => percent.map(OverrideValue::Weight),
        }
    }
}

/// The result of a request that was carried out.
#[derive(Clone, Debug)]
pub struct Overridden {
    /// The backend after the change.
    pub backend: BackendStatus,
    /// The previous override of the same kind.
    pub before: Option<OverrideStatus>,
    /// The changes for the pool and its services.
    pub consequences: Vec<Consequence>,
}

/// A consequence of an override for a pool or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// Whether clients lose something: the last usable address of a family, a tier, a service.
    pub takes_away: bool,
    /// A sentence without the full stop.
    pub text: String,
}

/// Why the override of a backend was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideRefused {
    /// The configuration has no such pool, or the pool has no such backend.
    NoSuchBackend {
        /// The requested pool.
        pool: String,
        /// The requested backend.
        backend: String,
    },
    /// It takes something away from clients, and was not forced.
    TakesAway(Vec<Consequence>),
}
