//! Requests for an override or another tier, and their results.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::fleet::{BackendStatus, FailoverStatus, OverrideStatus, Precondition, ServiceStatus};
use crate::name::Name;
use crate::pattern::NamePattern;
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
    /// The client that requested it, for display and for the log.
    pub by: String,
    /// The override that the client knows of.
    pub expected: Precondition,
}

/// A request for the same override of several backends: of all or of none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkRequest {
    /// The backends.
    pub selection: BackendSelection,
    /// See [`OverrideRequest::change`].
    pub change: OverrideChange,
    /// See [`OverrideRequest::length`].
    pub length: Option<Duration>,
    /// See [`OverrideRequest::reason`].
    pub reason: Option<String>,
    /// See [`OverrideRequest::force`].
    pub force: bool,
    /// See [`OverrideRequest::by`].
    pub by: String,
}

/// Selects backends of all pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSelection {
    /// The names of their pools.
    pub pool: NamePattern,
    /// Their names.
    pub backend: NamePattern,
    /// Their site; without it, any or none.
    pub site: Option<String>,
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

/// The result of a bulk request that was carried out.
#[derive(Clone, Debug)]
pub struct BulkOverridden {
    /// Each backend after the change, with its pool and its previous override of the same kind.
    pub backends: Vec<(Arc<str>, BackendStatus, Option<OverrideStatus>)>,
    /// The changes of all of them together.
    pub consequences: Vec<Consequence>,
}

/// Why no backend of a bulk request was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkRefused {
    /// No backend has been selected.
    Nothing {
        /// The first part of the selection that leaves none.
        by: SelectedBy,
        /// Names that there are, at most [`crate::fleet::MOST_OVERRIDES_AT_ONCE`].
        known: Vec<Arc<str>>,
    },
    /// So many backends have been selected, more than [`crate::fleet::MOST_OVERRIDES_AT_ONCE`].
    TooMany(usize),
    /// Together they take something away from clients, and it was not forced.
    TakesAway(Vec<Consequence>),
}

/// A part of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectedBy {
    /// The name of the pool.
    Pool,
    /// The name of the backend.
    Backend,
    /// The site.
    Site,
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
    /// The override is not the expected one, but this, or none.
    Unexpected(Option<Box<OverrideStatus>>),
}

/// A request that a service returns to its first usable tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailbackRequest {
    /// The service's name.
    pub service: Name,
    /// The client that requested it, for the log.
    pub by: String,
}

/// A request that a service answers from one of its pools, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverRequest {
    /// The service's name.
    pub service: Name,
    /// The pool's name; none ends the failover.
    pub pool: Option<String>,
    /// How long it lasts; without it, until an operator ends it.
    pub length: Option<Duration>,
    /// The reason, for display. If there is none, the reason of the previous failover stays.
    pub reason: Option<String>,
    /// Whether to do it even if the pool cannot answer, or clients lose something.
    pub force: bool,
    /// The client that requested it, for display and for the log.
    pub by: String,
    /// The failover that the client knows of.
    pub expected: Precondition,
}

/// A request for another tier of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceRequest {
    /// To return to the first usable tier.
    FailBack(FailbackRequest),
    /// To set or end a failover.
    FailOver(FailoverRequest),
}

/// Any request for a change, to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeRequest {
    /// For the override of a backend.
    Backend(OverrideRequest),
    /// For the overrides of several backends.
    Bulk(BulkRequest),
    /// For another tier of a service.
    Service(ServiceRequest),
}

/// Why a request cannot be carried out, even by force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeRefused {
    /// See [`OverrideRefused`].
    Backend(OverrideRefused),
    /// See [`BulkRefused`].
    Bulk(BulkRefused),
    /// See [`ServiceRefused`].
    Service(ServiceRefused),
}

/// The result of a request for a service that was carried out.
#[derive(Clone, Debug)]
pub struct ServiceChanged {
    /// The service after the change.
    pub service: ServiceStatus,
    /// The previous failover.
    pub before: Option<FailoverStatus>,
    /// When the last answer with a backend of another pool expires; none if other pools still answer.
    pub safe_at: Option<SystemTime>,
    /// The changes for its routes.
    pub consequences: Vec<Consequence>,
}

/// Why a service was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceRefused {
    /// The configuration has no such service.
    NoSuchService,
    /// It has no tier to return to: these earlier tiers are not usable.
    NotUsable(Vec<String>),
    /// A failover to this pool is in force, and decides which tier answers.
    Failover(String),
    /// The service does not have the pool of a failover.
    NoSuchPool {
        /// The requested pool.
        pool: String,
        /// Its pools.
        pools: Vec<String>,
    },
    /// The failover takes something away from clients, or its pool cannot answer, and it was not forced.
    TakesAway(Vec<Consequence>),
    /// The failover is not the expected one, but this, or none.
    Unexpected(Option<Box<FailoverStatus>>),
}
