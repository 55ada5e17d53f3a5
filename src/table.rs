//! The immutable answer table that queries read, and the cell that publishes it.
//!
//! The table contains the zones, the services, the addresses of each pool that may be in answers
//! now, and how each service answers, with a generation number. A query loads the table once and
//! sees one consistent state. Everything that depends on health is decided when the table is built.

mod answers;
mod decision;
mod draw;
mod persistent;
mod pool_view;
mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::rngs::SmallRng;

use crate::pool::{Family, PoolId};
use crate::service::{ServiceId, Ttl};
use crate::settings::Settings;
use crate::zone::Catalog;

pub use answers::AnswerCounts;
pub use decision::{Decision, RouteView, ServiceView, Services};
pub use draw::{Draw, Drawing, Selector};
pub use persistent::PersistentVec;
pub use pool_view::{
    AddressCondition, Choice, ConfiguredAddress, FULL_WEIGHT, FamilyView, Member, PoolView, Standing,
};
pub use share::{FirstPlace, PoolShares};

/// The time in [`Table::certain_until`] of a pool in which nothing is pending.
pub const CERTAIN: u32 = u32::MAX;

/// All data for answers. A clone shares everything.
#[derive(Clone, Debug)]
pub struct Table {
    /// Increases by one with each published change.
    pub generation: u64,
    /// Other settings that answers depend on.
    pub settings: Arc<Settings>,
    /// The DNS zones; their names refer to services.
    pub catalog: Arc<Catalog>,
    services: Arc<Services>,
    /// Indexed by [`PoolId`].
    pools: PersistentVec<Arc<PoolView>>,
    /// Indexed by the plans of [`Services`] and [`Family::index`].
    decisions: PersistentVec<[Decision; 2]>,
    /// Indexed by [`PoolId`]: see [`Table::certain_until`]. Empty until something is pending.
    certain_until: PersistentVec<u32>,
    /// Successive tables share them until a configuration has other services or backends.
    answers: Arc<AnswerCounts>,
    /// Makes the orders of draws, for this table and the tables made from it.
    rng: SmallRng,
}

impl Table {
    /// Builds a table of pools, in the order of [`PoolId`], and decides for all services.
    #[must_use]
    pub fn new(
        generation: u64,
        settings: Arc<Settings>,
        catalog: Arc<Catalog>,
        services: Arc<Services>,
        pools: impl IntoIterator<Item = Arc<PoolView>>,
        mut rng: SmallRng,
    ) -> Self {
        let pools = pools.into_iter().collect();
        let decisions = services.plans.iter().map(|plan| plan.decide(&pools, None, &mut rng)).collect();
        let answers = Arc::new(AnswerCounts::new(0, &services, views(&pools)));
        let certain_until = std::iter::empty().collect();
        Self { generation, settings, catalog, services, pools, decisions, certain_until, answers, rng }
    }

    /// The same table with counts of answers that start at 0, for `threads` threads that count alone
    /// and any others.
    #[must_use]
    pub fn counted_by(self, threads: usize) -> Self {
        let answers = AnswerCounts::new(threads, &self.services, views(&self.pools));
        Self { answers: Arc::new(answers), ..self }
    }

    /// The same table with counts of answers that go on from those of an earlier one, by the names of
    /// services and backends. Threads may still count in the earlier one.
    #[must_use]
    pub fn counting_on(self, before: &Table) -> Self {
        let answers = before.answers.continued(&self.services, views(&self.pools));
        Self { answers, ..self }
    }

    /// The next generation: replaces these pools, and makes new decisions for the services that have
    /// one of them as a tier. Everything else is shared, so the cost does not depend on the number
    /// of pools or services, except through the depth of a [`PersistentVec`].
    #[must_use]
    pub fn with_pools(&self, changed: impl IntoIterator<Item = (PoolId, Arc<PoolView>)>) -> Self {
        let mut next = Self { generation: self.generation + 1, ..self.clone() };
        let mut affected = BTreeSet::new();
        for (id, view) in changed {
            if let Some(pool) = next.pools.get_mut(id.index()) {
                *pool = view;
                affected.extend(self.services.plans_of(id).map(|(index, _)| index));
            }
        }
        for index in affected {
            if let (Some(plan), Some(decisions)) =
                (self.services.plans.get(index), next.decisions.get_mut(index))
            {
                *decisions = plan.decide(&next.pools, Some(decisions), &mut next.rng);
            }
        }
        next
    }

    /// The same table with other combinations of addresses in its answers: for the part `part` of
    /// `parts` of the decisions, each draw gets a new random order in place of one of its orders.
    /// `None` if no draw can change by this. The generation is the same, because the same answers
    /// are possible as before.
    #[must_use]
    pub fn with_new_orders(&self, part: usize, parts: usize) -> Option<Self> {
        let bound = |part: usize| self.decisions.len() * part / parts.max(1);
        let can_renew =
            |index: &usize| self.decisions.get(*index).into_iter().flatten().any(Decision::can_renew);
        let mut renewed = (bound(part)..bound(part + 1)).filter(can_renew).peekable();
        renewed.peek()?;
        let mut next = self.clone();
        for index in renewed {
            for decision in next.decisions.get_mut(index).into_iter().flatten() {
                decision.renew(&mut next.rng);
            }
        }
        Some(next)
    }

    /// The same table with other times until which the answers of pools are certain. The generation is the same,
    /// because the answers are, except for their TTLs.
    #[must_use]
    pub fn with_certainty(&self, changed: impl IntoIterator<Item = (PoolId, u32)>) -> Self {
        let mut next = self.clone();
        if next.certain_until.is_empty() {
            next.certain_until = self.pools.iter().map(|_| CERTAIN).collect();
        }
        for (id, until) in changed {
            if let Some(certain_until) = next.certain_until.get_mut(id.index()) {
                *certain_until = until;
            }
        }
        next
    }

    /// Until when the answers of a pool do not change by a pending event, in seconds since 1970, rounded down;
    /// [`CERTAIN`] if nothing is pending.
    #[must_use]
    pub fn certain_until(&self, pool: PoolId) -> u32 {
        self.certain_until.get(pool.index()).copied().unwrap_or(CERTAIN)
    }

    /// The TTL of an answer of a route at a time in seconds since 1970, rounded down.
    #[must_use]
    #[inline]
    pub fn ttl(&self, route: RouteView<'_>, time: u32) -> u32 {
        let Ttl { min, max } = route.route.ttl;
        if min == max { max } else { self.certain_ttl(route, time) }
    }

    #[inline(never)]
    fn certain_ttl(&self, RouteView { route, .. }: RouteView<'_>, time: u32) -> u32 {
        let until = route.tiers.iter().map(|tier| self.certain_until(*tier)).min().unwrap_or(CERTAIN);
        // The present second has begun already, so one less is left.
        until.saturating_sub(time).saturating_sub(1).clamp(route.ttl.min, route.ttl.max)
    }

    /// All services.
    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// The service with this id.
    #[must_use]
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<&ServiceView> {
        self.services.get(id.index())
    }

    /// The counts of its answers.
    #[must_use]
    pub fn answers(&self) -> &AnswerCounts {
        &self.answers
    }

    /// All pools, by [`PoolId`].
    #[must_use]
    pub fn pools(&self) -> &PersistentVec<Arc<PoolView>> {
        &self.pools
    }

    /// The pool with this id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<&Arc<PoolView>> {
        self.pools.get(id.index())
    }

    /// How a route of a service from [`Table::services`] answers.
    #[must_use]
    #[inline]
    pub fn decision(&self, route: RouteView<'_>, family: Family) -> &Decision {
        const OF_ANOTHER_TABLE: &Decision = &Decision::NoAddress;
        let decisions = self.decisions.get(route.plan);
        decisions.map_or(OF_ANOTHER_TABLE, |decisions| family.select(decisions))
    }

    /// The families in which a route answers with all backends of a pool because no tier is
    /// usable, indexed by [`Family::index`].
    #[must_use]
    pub fn fails_open_to(&self, pool: PoolId) -> [bool; 2] {
        let decisions = || self.services.plans_of(pool).filter_map(|(index, _)| self.decisions.get(index));
        Family::ALL.map(|family| {
            decisions().any(|decisions| {
                matches!(family.select(decisions), Decision::FailOpen { pool: open, .. } if *open == pool)
            })
        })
    }
}

fn views(pools: &PersistentVec<Arc<PoolView>>) -> impl Iterator<Item = &PoolView> + Clone {
    pools.iter().map(|view| &**view)
}

/// The cell that holds the published table. Clones share it.
#[derive(Clone, Debug)]
pub struct Published(Arc<ArcSwap<Table>>);

/// A reader's cached view of the cell. Reading costs one atomic load if nothing has changed.
pub type TableReader = arc_swap::Cache<Arc<ArcSwap<Table>>, Arc<Table>>;

impl Published {
    /// Creates the cell with a first table.
    #[must_use]
    pub fn new(table: impl Into<Arc<Table>>) -> Self {
        Self(Arc::new(ArcSwap::new(table.into())))
    }

    /// Returns the current table. Query loops use [`Published::reader`] instead.
    #[must_use]
    pub fn load(&self) -> Arc<Table> {
        self.0.load_full()
    }

    /// Publishes a table and returns the previous one. Only the checker calls this. It keeps the old
    /// table until no reader has it: a table may hold a zone of a million records, and a reader that
    /// dropped the last reference would free them all at once.
    #[must_use = "dropping a table may free a million records"]
    pub fn replace(&self, table: impl Into<Arc<Table>>) -> Arc<Table> {
        self.0.swap(table.into())
    }

    /// Returns a reader for one query loop.
    #[must_use]
    pub fn reader(&self) -> TableReader {
        arc_swap::Cache::new(Arc::clone(&self.0))
    }
}
