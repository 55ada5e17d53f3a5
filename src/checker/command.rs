//! What others ask of the checker, and what it answers.

use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::checker::{Memory, PoolStatus, Setup, Status};
use crate::pool::Override;

/// What others ask of the checker.
#[derive(Debug)]
pub enum Command {
    /// The state of everything, as of now.
    Status(oneshot::Sender<Status>),
    /// The state of one pool by its name, with what has been; none when there is no such pool.
    Pool(String, oneshot::Sender<Option<PoolStatus>>),
    /// To go on with another configuration. Unchanged probes keep their counters, timers and
    /// history; `memory` and `startup_wait` of the setup are not looked at.
    Reload(Box<Setup>, oneshot::Sender<Difference>),
    /// To set what an operator says of a backend, or to go back to the checks' word.
    Override(OverrideRequest, oneshot::Sender<Result<Status, NoSuchBackend>>),
    /// What is worth keeping over a restart.
    Memory(oneshot::Sender<Memory>),
}

/// What an operator says of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRequest {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// What it is to be; none to go back to the checks' word.
    pub state: Option<Override>,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// Why, for those who see it.
    pub reason: Option<String>,
}

/// The configuration has no such pool, or the pool has no such backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no backend `{backend}` in a pool `{pool}`")]
pub struct NoSuchBackend {
    /// The pool asked for.
    pub pool: String,
    /// The backend asked for.
    pub backend: String,
}

/// What a reload changed, in the order of the configuration.
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
    /// What has changed.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Added(name) | Self::Removed(name) | Self::Changed(name, _) => name,
        }
    }
}
