//! Commands to the checker, and its replies.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::checker::{BackendStatus, Memory, MemoryChanges, OverrideStatus, Piece, Place, PoolSetup};
use crate::pool::Override;
use crate::service::Service;
use crate::settings::Settings;
use crate::table::Table;
use crate::zone::Catalog;

/// Commands to the checker.
#[derive(Debug)]
pub enum Command {
    /// The state of some backends; none when another configuration has come into force since the
    /// table of that place.
    Tell(Place, oneshot::Sender<Option<Piece>>),
    /// The configuration that runs.
    Configuration(oneshot::Sender<Configuration>),
    /// To go on with another configuration. Unchanged probes keep their counters, timers and history.
    /// [`Handle::reload`](super::Handle::reload) says what differs.
    Reload(Box<Wanted>, oneshot::Sender<Reloaded>),
    /// To set what an operator says of a backend, or to go back to the checks' word.
    Override(OverrideRequest, oneshot::Sender<Result<Overridden, OverrideRefused>>),
    /// The state worth keeping over a restart, in some seconds. Changes go on being noted meanwhile.
    Memory(oneshot::Sender<Memory>),
    /// The changes since the last such command, whether or not the whole was asked for in between.
    MemoryChanges(oneshot::Sender<MemoryChanges>),
}

/// The configuration that runs.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// With the settings, zones and services.
    pub table: Arc<Table>,
    /// By `PoolId`.
    pub pools: Vec<Arc<PoolSetup>>,
}

#[cfg(test)]
impl Configuration {
    /// For a stand-in for the checker.
    pub(crate) fn of(setup: crate::checker::Setup, generation: u64) -> Self {
        let view = |service: Service| {
            let answers = crate::counters::Counters::new(1, service.tiers.len() + 1);
            crate::table::ServiceView { service, answers }
        };
        let table = Table {
            generation,
            settings: Arc::new(setup.settings),
            catalog: Arc::new(setup.catalog),
            services: setup.services.into_iter().map(view).collect(),
            pools: Box::new([]),
        };
        Self { table: Arc::new(table), pools: setup.pools.into_iter().map(Arc::new).collect() }
    }
}

/// The configuration to go on with. Parts shared with the running configuration are taken to be the same.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Settings that answers depend on besides zones, services and health.
    pub settings: Settings,
    /// The zones, with the services' names bound.
    pub catalog: Arc<Catalog>,
    /// By `ServiceId`.
    pub services: Vec<Service>,
    /// By `PoolId`.
    pub pools: Vec<Arc<PoolSetup>>,
    /// The one who asked for it, for the log.
    pub by: String,
}

/// A configuration has come into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Generation of the table that has it.
    pub generation: u64,
    /// Overrides of backends that it does not have.
    pub lost: Vec<LostOverride>,
}

/// An override that has ended because its backend is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostOverride {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend's name.
    pub backend: Arc<str>,
    /// The override.
    pub state: Override,
    /// Why it was set.
    pub reason: Option<String>,
}

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

/// The changes made by a reload, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The generation of the table that has it.
    pub generation: u64,
    /// Pools, with backends and checks.
    pub pools: Vec<Change>,
    /// Services.
    pub services: Vec<Change>,
    /// Zones.
    pub zones: Vec<Change>,
    /// Overrides that have ended because their backends are gone.
    pub overrides: Vec<Change>,
    /// Whether settings that answers depend on have changed.
    pub settings: bool,
}

/// One thing that a reload changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added(String),
    /// It is gone.
    Removed(String),
    /// It has changed; the details are for a person: `backend b2: weight 1 -> 3`.
    Changed(String, Vec<String>),
}

impl Change {
    /// The name of the changed item.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Added(name) | Self::Removed(name) | Self::Changed(name, _) => name,
        }
    }
}
