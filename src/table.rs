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
mod precedence;
mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rand::rngs::SmallRng;

use crate::pool::{Family, PoolId};
use crate::rules::{RuleMatch, RuleTableId, RuleTables};
use crate::service::{RouteIndex, ServiceId, Ttl};
use crate::settings::Settings;
use crate::zone::Catalog;

use decision::Decided;

pub use answers::AnswerCounts;
pub use decision::{Decision, Progress, RouteView, ServiceView, Services, TierInUse, Waiting};
pub use draw::{Draw, Drawing, Selector};
pub use persistent::PersistentVec;
pub use pool_view::{
    AddressCondition, Choice, ConfiguredAddress, FULL_WEIGHT, FamilyView, Member, PoolView, Standing,
};
pub use share::{FirstPlace, PoolShares};

/// The time in [`Table::certain_until`] of a pool in which nothing is pending.
pub const CERTAIN: u32 = u32::MAX;
/// Plans, each with the tier in use from which to decide, by [`Family::index`]; none for the present one.
pub type TiersInUse = BTreeMap<usize, [Option<usize>; 2]>;

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
    /// Which rule of a service applies to a client.
    rule_tables: RuleTables,
    /// Indexed by [`PoolId`].
    pools: PersistentVec<Arc<PoolView>>,
    /// Indexed by the plans of [`Services`] and [`Family::index`].
    decisions: PersistentVec<Decided>,
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
        let decide = |plan: &decision::Plan| plan.decide(&pools, None, &Progress::NONE, &mut rng);
        let decisions = services.plans.iter().map(decide).collect();
        let answers = Arc::new(AnswerCounts::new(0, &services, views(&pools)));
        let (rule_tables, certain_until) = (Arc::default(), std::iter::empty().collect());
        Self {
            generation,
            settings,
            catalog,
            services,
            rule_tables,
            pools,
            decisions,
            certain_until,
            answers,
            rng,
        }
    }

    /// The same table with these rule tables, in the order of the ids in its services.
    #[must_use]
    pub fn with_rule_tables(self, rule_tables: RuleTables) -> Self {
        Self { rule_tables, ..self }
    }

    /// The next generation, with other rule tables for the same services.
    #[must_use]
    pub fn next_with_rule_tables(&self, rule_tables: RuleTables) -> Self {
        Self { generation: self.generation + 1, rule_tables, ..self.clone() }
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
    ///
    /// The decisions for `plans` are also made again. Each has, by [`Family::index`], the tier in use from which
    /// to begin; none for the present one.
    #[must_use]
    pub fn with_changes(
        &self,
        changed: impl IntoIterator<Item = (PoolId, Arc<PoolView>)>,
        plans: TiersInUse,
        progress: &Progress<'_>,
    ) -> Self {
        let mut next = Self { generation: self.generation + 1, ..self.clone() };
        let mut affected = plans;
        for (id, view) in changed {
            if let Some(pool) = next.pools.get_mut(id.index()) {
                *pool = view;
                for (index, _) in self.services.plans_of(id) {
                    affected.entry(index).or_default();
                }
            }
        }
        next.with_tiers_in_use(affected, progress)
    }

    /// [`Table::with_changes`] for tables whose services all return to an earlier tier at once.
    #[must_use]
    pub fn with_pools(&self, changed: impl IntoIterator<Item = (PoolId, Arc<PoolView>)>) -> Self {
        self.with_changes(changed, TiersInUse::new(), &Progress::NONE)
    }

    /// The same table with the same services in the same order, whose failovers may differ. The decisions stay as
    /// they are until they are made again.
    #[must_use]
    pub fn with_services(self, services: Arc<Services>) -> Self {
        let mut earlier: Vec<Option<usize>> = vec![None; services.plans.len()];
        for (old, new) in self.services.iter().zip(services.iter()) {
            // A service with another failover may share its plan with others, whose decisions are right already.
            let is_same = old.failover == new.failover;
            for (old, new) in old.routes().zip(new.routes()) {
                if let Some(earlier) = earlier.get_mut(new.plan)
                    && (is_same || earlier.is_none())
                {
                    *earlier = Some(old.plan);
                }
            }
        }
        let decided = |earlier: Option<usize>| {
            let known = earlier.and_then(|plan| self.decisions.get(plan));
            known.cloned().unwrap_or_else(Decided::of_another_table)
        };
        let decisions = earlier.into_iter().map(decided).collect();
        Self { services, decisions, ..self }
    }

    /// The same table with other tiers in use from which decisions begin.
    #[must_use]
    pub fn with_tiers_in_use(mut self, plans: TiersInUse, progress: &Progress<'_>) -> Self {
        for (index, from) in plans {
            if let (Some(plan), Some(decided)) =
                (self.services.plans.get(index), self.decisions.get_mut(index))
            {
                for (in_use, from) in decided.tiers.iter_mut().zip(from) {
                    in_use.tier = from.unwrap_or(in_use.tier);
                }
                *decided = plan.decide(&self.pools, Some(decided), progress, &mut self.rng);
            }
        }
        self
    }

    /// The same table with other combinations of addresses in its answers: for the part `part` of
    /// `parts` of the decisions, each draw gets a new random order in place of one of its orders.
    /// `None` if no draw can change by this. The generation is the same, because the same answers
    /// are possible as before.
    #[must_use]
    pub fn with_new_orders(&self, part: usize, parts: usize) -> Option<Self> {
        let bound = |part: usize| self.decisions.len() * part / parts.max(1);
        let can_renew = |index: &usize| self.decided(*index).iter().any(Decision::can_renew);
        let mut renewed = (bound(part)..bound(part + 1)).filter(can_renew).peekable();
        renewed.peek()?;
        let mut next = self.clone();
        for index in renewed {
            if let Some(decided) = next.decisions.get_mut(index) {
                decided.decisions.iter_mut().for_each(|decision| decision.renew(&mut next.rng));
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

    /// The longest TTL of NODATA because the tier in use has no address of the family: that of an answer, if another
    /// tier has one and may take over. `None` if no tier has one.
    #[must_use]
    pub fn nodata_ttl(&self, route: RouteView<'_>, family: Family, time: u32) -> Option<u32> {
        let has_address =
            |tier: &PoolId| self.pool(*tier).is_some_and(|pool| pool.family(family).is_configured());
        route.route.tiers.iter().any(has_address).then(|| self.ttl(route, time))
    }

    #[inline(never)]
    fn certain_ttl(&self, RouteView { service, route, plan, .. }: RouteView<'_>, time: u32) -> u32 {
        let of_pools = route.tiers.iter().map(|tier| self.certain_until(*tier));
        let returns =
            Family::ALL.into_iter().filter_map(|family| self.tier_in_use(plan, family).waiting?.until);
        let failover = service.failover.as_ref().and_then(|failover| failover.until);
        let until = of_pools.chain(returns.chain(failover).map(seconds)).min().unwrap_or(CERTAIN);
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

    /// All rule tables.
    #[must_use]
    pub fn rule_tables(&self) -> &RuleTables {
        &self.rule_tables
    }

    /// The route of a service for a client, and the length of the widest prefix around the client's address for
    /// which it is the same (RFC 7871, section 7.2.1).
    #[must_use]
    #[inline]
    pub fn route<'t>(
        &self,
        service: &'t ServiceView,
        client: impl FnOnce() -> IpAddr,
    ) -> (RouteView<'t>, u8) {
        // Most services answer all clients alike.
        match service.service.rule_table {
            None => (service.default_route(), 0),
            Some(id) => self.route_by_rule(service, id, client()),
        }
    }

    #[inline(never)]
    fn route_by_rule<'t>(
        &self,
        service: &'t ServiceView,
        id: RuleTableId,
        client: IpAddr,
    ) -> (RouteView<'t>, u8) {
        let found = self.rule_tables.get(id.index()).map(|table| table.find(client));
        let Some(RuleMatch { rule, scope }) = found else { return (service.default_route(), 0) };
        let route = rule.and_then(|rule| service.route(RouteIndex(rule.checked_add(1)?)));
        (route.unwrap_or_else(|| service.default_route()), scope)
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
        family.select(self.decided(route.plan))
    }

    #[inline]
    fn decided(&self, plan: usize) -> &[Decision; 2] {
        const OF_ANOTHER_TABLE: &[Decision; 2] = &[Decision::NoAddress, Decision::NoAddress];
        self.decisions.get(plan).map_or(OF_ANOTHER_TABLE, |decided| &decided.decisions)
    }

    /// The tier that the routes of a plan have in use.
    #[must_use]
    pub fn tier_in_use(&self, plan: usize, family: Family) -> TierInUse {
        self.decisions.get(plan).map_or_else(TierInUse::default, |decided| *family.select(&decided.tiers))
    }

    /// The families in which a route answers with all backends of a pool because no tier is
    /// usable, indexed by [`Family::index`].
    #[must_use]
    pub fn fails_open_to(&self, pool: PoolId) -> [bool; 2] {
        let decisions = || self.services.plans_of(pool).map(|(index, _)| self.decided(index));
        Family::ALL.map(|family| {
            decisions().any(|decisions| {
                matches!(family.select(decisions), Decision::FailOpen { pool: open, .. } if *open == pool)
            })
        })
    }
}

/// Whole seconds since 1970, rounded down.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(CERTAIN).min(CERTAIN - 1)
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
