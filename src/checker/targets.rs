//! Who is probed, and who wants to know.
//!
//! The same check of the same address in several pools is one target, probed once; each of its
//! places in the pools hears what the probe brings.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use rand::Rng;

use crate::checker::{Check, PoolSetup};
use crate::health::{HealthTable, Moment, State, TargetId, Timing};
use crate::pool::PoolId;
use crate::probe::{Probe, Report};
use crate::table::Standing;

/// A backend address in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pool: PoolId,
    /// Index within the pool.
    pub(super) backend: usize,
}

/// An address and how it is probed.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) check: Arc<Check>,
    pub(super) address: IpAddr,
    /// At least one; an address occurs once in a pool.
    pub(super) places: Vec<Place>,
    /// When its state began. For display.
    pub(super) since: SystemTime,
    /// When the last probe ended, and what it brought.
    pub(super) last: Option<(SystemTime, Report)>,
}

/// All targets, with the way from pools to them and back.
#[derive(Debug)]
pub(super) struct Targets {
    /// By [`TargetId`].
    targets: Vec<Target>,
    /// By [`PoolId`]; none for a pool without a check.
    by_pool: Vec<Option<PoolTargets>>,
}

/// By index of the backend and of the address within it; a backend that is not enabled has none.
type PoolTargets = Vec<Vec<TargetId>>;

impl Targets {
    /// Finds the targets of the pools and adds each to `health`, in order.
    pub(super) fn new(
        pools: &[PoolSetup],
        health: &mut HealthTable,
        now: Moment,
        wall: SystemTime,
        rng: &mut impl Rng,
    ) -> Self {
        let mut targets: Vec<Target> = Vec::new();
        let mut known: HashMap<(&Probe, Timing, IpAddr), TargetId> = HashMap::new();
        let mut by_pool = Vec::with_capacity(pools.len());
        for (pool_id, setup) in (0..).map(PoolId).zip(pools) {
            let Some(check) = setup.checks.first() else {
                by_pool.push(None);
                continue;
            };
            let shared = Arc::new(check.clone());
            let mut of_pool = Vec::with_capacity(setup.pool.backends.len());
            for (index, backend) in setup.pool.backends.iter().enumerate() {
                let place = Place { pool: pool_id, backend: index };
                let addresses = if backend.enabled { backend.addresses.as_slice() } else { &[] };
                let of_backend = addresses.iter().map(|&address| {
                    let id = *known.entry((&check.probe, check.timing, address)).or_insert_with(|| {
                        let check = Arc::clone(&shared);
                        targets.push(Target { check, address, places: Vec::new(), since: wall, last: None });
                        health.add(shared.timing, None, now, rng)
                    });
                    if let Some(target) = targets.get_mut(id.index()) {
                        target.places.push(place);
                    }
                    id
                });
                of_pool.push(of_backend.collect());
            }
            by_pool.push(Some(of_pool));
        }
        Self { targets, by_pool }
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn get(&self, id: TargetId) -> Option<&Target> {
        self.targets.get(id.index())
    }

    pub(super) fn get_mut(&mut self, id: TargetId) -> Option<&mut Target> {
        self.targets.get_mut(id.index())
    }

    /// The target of a backend address; none without a check, or when the backend is not enabled.
    pub(super) fn of(&self, pool: PoolId, backend: usize, address: usize) -> Option<TargetId> {
        self.by_pool.get(pool.index())?.as_ref()?.get(backend)?.get(address).copied()
    }

    /// What the checks say of a backend address: healthy without any.
    pub(super) fn standing(
        &self,
        health: &HealthTable,
        pool: PoolId,
        backend: usize,
        address: usize,
    ) -> Standing {
        match self.by_pool.get(pool.index()) {
            Some(None) => Standing::Healthy,
            _ => self
                .of(pool, backend, address)
                .map_or(Standing::Unknown, |target| standing(health.state(target))),
        }
    }
}

/// The table's word for a state.
pub(super) fn standing(state: State) -> Standing {
    match state {
        State::Unknown => Standing::Unknown,
        State::Healthy { .. } => Standing::Healthy,
        State::Unhealthy { .. } => Standing::Unhealthy,
        State::Draining { .. } => Standing::Draining,
    }
}
