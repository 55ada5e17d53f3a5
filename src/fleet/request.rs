//! Requests for an override of a backend, and the replies.

use std::time::Duration;

use crate::fleet::{BackendStatus, OverrideStatus};
use crate::pool::Override;

/// An operator's override of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRequest {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// The override to set; none to return to the result of the checks.
    pub state: Option<Override>,
    /// After how long it ends by itself.
    pub length: Option<Duration>,
    /// Why, for those who see it. Without one, that of the override before stays.
    pub reason: Option<String>,
    /// Whether to do it even if it takes away what clients have.
    pub force: bool,
    /// The one who asked, for those who see it and for the log.
    pub by: String,
}

/// An override was set or ended.
#[derive(Clone, Debug)]
pub struct Overridden {
    /// The backend after it.
    pub backend: BackendStatus,
    /// The override before.
    pub before: Option<OverrideStatus>,
    /// The changes for the pool and its services.
    pub consequences: Vec<Consequence>,
}

/// A consequence of an override for a pool or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// Whether it takes away what clients had: the last usable address of a family, a tier, a service.
    pub takes_away: bool,
    /// A sentence without its full stop.
    pub text: String,
}

/// Why a backend has no other override than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideRefused {
    /// The configuration has no such pool, or the pool has no such backend.
    NoSuchBackend {
        /// The pool asked for.
        pool: String,
        /// The backend asked for.
        backend: String,
    },
    /// It takes away what clients have, and was not forced.
    TakesAway(Vec<Consequence>),
}
