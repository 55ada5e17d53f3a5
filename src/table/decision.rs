//! Which tier answers for a service, and why.
//!
//! A decision is made when a table is built, from the views of the pools; everything that answers,
//! counts, logs or shows a service reads it. How addresses are drawn from its choice belongs to
//! `selection`.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use super::persistent::PersistentVec;
use super::pool_view::{Choice, FamilyView, PoolView};
use crate::counters::Counters;
use crate::pool::{Family, PoolId};
use crate::service::{Service, ServiceId, WhenDown};

/// How a service answers in one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// With addresses of the first usable tier.
    Tier {
        /// Its index in the service's list.
        tier: usize,
        /// Its pool.
        pool: PoolId,
        /// See [`FamilyView::on_trust`].
        on_trust: bool,
        /// Its eligible addresses.
        choice: Arc<Choice>,
    },
    /// With NODATA: the tier that is in use has no address of this family, or no tier has one.
    NoAddress,
    /// With all backends of this pool as if they were healthy, because no tier is usable.
    FailOpen {
        /// Its pool.
        pool: PoolId,
        /// All its backends.
        choice: Arc<Choice>,
    },
    /// With the configured fallback of the service, because no tier is usable.
    Down {
        /// Whether a tier has addresses of this family. If none has, nothing has failed.
        is_configured: bool,
    },
}

/// A service with its counters.
#[derive(Debug)]
pub struct ServiceView {
    /// As configured.
    pub service: Service,
    /// Counts of answers: a column for each tier, in order, then one for the all-down answer.
    pub answers: Counters,
    /// Index of its failover.
    pub(super) failover: usize,
}

/// All of a configuration's services, by [`ServiceId`].
#[derive(Debug, Default)]
pub struct Services {
    views: Box<[ServiceView]>,
    /// Without duplicates.
    pub(super) failovers: Box<[Failover]>,
    /// By [`PoolId`]: the failovers that have it as a tier.
    by_pool: Box<[Vec<usize>]>,
}

/// The settings of a service that a decision depends on. Services that are alike in them share
/// their decisions, so a pool behind 100,000 names is decided about once.
#[derive(Debug)]
pub(super) struct Failover {
    tiers: Vec<PoolId>,
    fails_open: bool,
    /// The services that have these settings, in order.
    services: Vec<ServiceId>,
}

impl Services {
    /// Takes the services with their counters, in the order of [`ServiceId`].
    pub fn new(services: impl IntoIterator<Item = (Service, Counters)>) -> Self {
        let mut failovers: Vec<Failover> = Vec::new();
        let mut known: HashMap<(Vec<PoolId>, bool), usize> = HashMap::new();
        let mut view = |(id, (service, answers)): (ServiceId, (Service, Counters))| {
            let fails_open = service.when_down == WhenDown::FailOpen;
            let failover = *known.entry((service.tiers.clone(), fails_open)).or_insert_with(|| {
                failovers.push(Failover { tiers: service.tiers.clone(), fails_open, services: Vec::new() });
                failovers.len() - 1
            });
            if let Some(failover) = failovers.get_mut(failover) {
                failover.services.push(id);
            }
            ServiceView { service, answers, failover }
        };
        let views = (0..).map(ServiceId).zip(services).map(&mut view).collect();
        let pools = failovers.iter().flat_map(|failover| &failover.tiers).map(|pool| pool.index() + 1).max();
        let mut by_pool = vec![Vec::new(); pools.unwrap_or(0)];
        for (index, failover) in failovers.iter().enumerate() {
            for pool in &failover.tiers {
                if let Some(known) =
                    by_pool.get_mut(pool.index()).filter(|known| known.last() != Some(&index))
                {
                    known.push(index);
                }
            }
        }
        Self { views, failovers: failovers.into(), by_pool: by_pool.into() }
    }

    /// The services that have a pool as a tier.
    pub fn of_pool(&self, pool: PoolId) -> impl Iterator<Item = ServiceId> {
        self.failovers_of(pool).flat_map(|(_, failover)| failover.services.iter().copied())
    }

    /// All tiers of the services that have a pool as a tier. A pool may occur several times.
    pub fn tiers_beside(&self, pool: PoolId) -> impl Iterator<Item = PoolId> {
        self.failovers_of(pool).flat_map(|(_, failover)| failover.tiers.iter().copied())
    }

    /// The failovers that have a pool as a tier, with their indices.
    pub(super) fn failovers_of(&self, pool: PoolId) -> impl Iterator<Item = (usize, &Failover)> {
        let indices = self.by_pool.get(pool.index()).into_iter().flatten();
        indices.filter_map(|index| Some((*index, self.failovers.get(*index)?)))
    }
}

impl Deref for Services {
    type Target = [ServiceView];

    fn deref(&self) -> &[ServiceView] {
        &self.views
    }
}

impl Failover {
    /// Decides for each family, by [`Family::index`].
    pub(super) fn decide(&self, pools: &PersistentVec<Arc<PoolView>>) -> [Decision; 2] {
        Family::ALL.map(|family| self.decide_for(family, pools))
    }

    /// Each family is judged separately. If a pool is in use for its other family and has no
    /// address of this one, the answer is NODATA: clients of one family must not be sent to a
    /// standby while the pool serves the other.
    fn decide_for(&self, family: Family, pools: &PersistentVec<Arc<PoolView>>) -> Decision {
        let mut first: Option<(PoolId, &FamilyView)> = None;
        for (tier, &pool) in self.tiers.iter().enumerate() {
            let Some(view) = pools.get(pool.index()) else { continue };
            let here = view.family(family);
            if here.usable {
                let choice = Arc::clone(&here.eligible);
                return Decision::Tier { tier, pool, on_trust: here.on_trust, choice };
            }
            if here.is_configured() {
                if first.is_none_or(|(_, first)| first.drained && !here.drained) {
                    first = Some((pool, here));
                }
            } else if view.families.iter().any(|other| other.usable) {
                return Decision::NoAddress;
            }
        }
        match first {
            Some((pool, view)) if self.fails_open => {
                Decision::FailOpen { pool, choice: Arc::clone(&view.everyone) }
            }
            None if self.fails_open => Decision::NoAddress,
            _ => Decision::Down { is_configured: first.is_some() },
        }
    }
}
