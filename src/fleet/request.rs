//! Requests for an override, and their results.

use std::time::Duration;

use crate::fleet::{BackendStatus, OverrideStatus};
use crate::pool::Override;

/// A request to set or end the override of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRequest {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// The override to set; none returns to the result of the checks.
    pub state: Option<Override>,
    /// How long it lasts; without it, until an operator ends it.
    pub length: Option<Duration>,
    /// The reason, for display. If there is none, the reason of the previous override stays.
    pub reason: Option<String>,
    /// Whether to do it even if it takes something away from clients.
    pub force: bool,
    /// Who requested it, for display and for the log.
    pub by: String,
}

/// The result of a request that was carried out.
#[derive(Clone, Debug)]
pub struct Overridden {
    /// The backend after the change.
    pub backend: BackendStatus,
    /// The previous override.
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
