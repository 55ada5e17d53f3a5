//! When services return to an earlier tier.
//!
//! `table` chooses the tier of each service. This file supplies what the views of pools do not show: since when a
//! pool is usable without a break, and the tiers in use of the previous run or configuration. It wakes when the
//! time of a return has come.
//!
//! ```text
//! a pool becomes usable, not on trust   -> its time begins; services in a later tier may have to wait for it
//! it is no longer so                    -> its time ends
//! the time of a waiting tier is over    -> its plan is decided again, and takes it
//! an operator asks for a return         -> the plans are decided as if their first tiers were in use
//! ```
//!
//! Services with `auto` need none of this: nothing is remembered for them or their pools, and nothing wakes for them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::duration::time_of_day;
use crate::events::tell;
use crate::fleet::calendar::Stamp;
use crate::fleet::consequences::of_service;
use crate::fleet::failover::find;
use crate::fleet::{
    FailbackRequest, Fleet, RememberedPool, RememberedTier, ServiceChanged, ServiceRefused, ServiceStatus,
};
use crate::pool::{Family, PoolId};
use crate::service::{Failback, Service, ServiceId};
use crate::table::{PoolView, Progress, RouteView, ServiceView, Table, TiersInUse, Waiting};

/// The plans that are decided again by themselves.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// The plans for which the next table decides again although no pool has changed.
    pub(super) again: TiersInUse,
    /// When plans take an earlier tier; earliest first.
    due: BTreeSet<(Stamp, usize)>,
    /// The time of each plan in `due`.
    of_plans: HashMap<usize, Stamp>,
}

impl Returns {
    /// When the next plan takes an earlier tier.
    pub(super) fn next(&self) -> Option<Stamp> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, plan: usize, at: Option<Stamp>) {
        if let Some(before) = self.of_plans.remove(&plan) {
            self.due.remove(&(before, plan));
        }
        if let Some(at) = at {
            self.of_plans.insert(plan, at);
            self.due.insert((at, plan));
        }
    }

    /// Decides again for all plans that wait, because the times of day of their returns have changed.
    fn show_again(&mut self) {
        for plan in self.of_plans.keys() {
            self.again.entry(*plan).or_default();
        }
    }
}

impl Fleet {
    /// Calls a function with how long pools have been usable.
    pub(super) fn with_progress<T>(&self, decide: impl FnOnce(&Progress<'_>) -> T) -> T {
        let steady_for = |pool, family| self.steady_for(pool, family);
        decide(&Progress { at: self.calendar.shown_since_1970(self.at), steady_for: &steady_for })
    }

    /// How long a pool has been usable in a family without a break, and not on trust.
    pub(super) fn steady_for(&self, pool: PoolId, family: Family) -> Option<Duration> {
        let since = (*family.select(&self.pools.get(pool)?.steady))?;
        Some(self.at.since(since))
    }

    /// Records since when a pool is usable, or is not, according to its new view.
    pub(super) fn note_steady(&mut self, id: PoolId, view: &PoolView) {
        let at = self.at;
        let Some(pool) = self.pools.0.get_mut(id.index()) else { return };
        let steady = Family::ALL.map(|family| {
            let since = *family.select(&pool.steady);
            view.is_steady(family).then(|| since.unwrap_or(at))
        });
        pool.usability.note(view.usable(), at);
        let before = std::mem::replace(&mut pool.steady, steady);
        if pool.is_awaited && before != steady {
            self.note_pool(id);
        }
    }

    /// Lets the plans whose time has come take an earlier tier.
    pub(super) fn take_earlier_tiers(&mut self) {
        while let Some((_, plan)) = self.returns.due.first().copied().filter(|(at, _)| *at <= self.at) {
            self.returns.set(plan, None);
            self.returns.again.entry(plan).or_default();
        }
    }

    /// After the table has changed: records changes of the tiers in use of these plans, and when they take an
    /// earlier one.
    pub(super) fn note_tiers(&mut self, previous: &Table, plans: impl IntoIterator<Item = usize>) {
        let table = Arc::clone(&self.table);
        for plan in plans {
            self.note_return(plan);
            for family in Family::ALL {
                let [old, new] = [previous, &*table].map(|table| table.tier_in_use(plan, family));
                let waiting =
                    new.waiting.filter(|waiting| old.waiting.map(|old| old.tier) != Some(waiting.tier));
                if old.tier == new.tier && waiting.is_none() {
                    continue;
                }
                for (_, route) in table.services().routes_of(plan) {
                    self.note_tier(remembered_tier(&table, route, family));
                    if let Some(waiting) = waiting {
                        self.tell_waiting(route, family, waiting);
                    }
                }
            }
        }
    }

    /// Lets a service return to its first usable tier, on demand.
    pub(super) fn fail_back(&mut self, request: &FailbackRequest) -> Result<ServiceChanged, ServiceRefused> {
        let before = Arc::clone(&self.table);
        let (id, again) = Self::wanted_failback(&before, request)?;
        self.returns.again.extend(again);
        self.publish(Some(&request.by));
        let consequences = of_service(id, [&before, &self.table]);
        let view = self.table.service(id).ok_or(ServiceRefused::NoSuchService)?;
        let service = ServiceStatus::of(view, &self.table);
        Ok(ServiceChanged { service, before: None, safe_at: None, consequences })
    }

    /// The service of a failback in the present table, and the plans that return.
    pub(super) fn wanted_failback(
        before: &Table,
        request: &FailbackRequest,
    ) -> Result<(ServiceId, TiersInUse), ServiceRefused> {
        let (id, view) = find(before, &request.service).ok_or(ServiceRefused::NoSuchService)?;
        if let Some(failover) = &view.failover {
            let pool = before.pool(failover.pool).map(|pool| pool.name.to_string());
            return Err(ServiceRefused::Failover(pool.unwrap_or_default()));
        }
        let (mut again, mut unusable) = (TiersInUse::new(), Vec::new());
        for (route, family) in view.routes().flat_map(|route| Family::ALL.map(|family| (route, family))) {
            let in_use = before.tier_in_use(route.plan(), family).tier;
            let earlier = || route.route.tiers.iter().take(in_use).filter_map(|pool| before.pool(*pool));
            if earlier().any(|pool| pool.can_answer(family)) {
                set_tier(&mut again, route.plan(), family, 0);
            } else {
                unusable.extend(earlier().map(|pool| pool.name.to_string()));
            }
        }
        if again.is_empty() && !unusable.is_empty() {
            unusable.sort();
            unusable.dedup();
            return Err(ServiceRefused::NotUsable(unusable));
        }
        Ok((id, again))
    }

    /// Records when a plan takes an earlier tier.
    fn note_return(&mut self, plan: usize) {
        let waiting = Family::ALL.map(|family| self.table.tier_in_use(plan, family).waiting);
        let until = waiting.into_iter().filter_map(|waiting| waiting?.until).min();
        self.returns.set(plan, until.map(|until| self.calendar.stamp_since_1970(until)));
    }

    /// Records all tiers in use and times of pools as forgotten, before a reload that may give them other names.
    pub(super) fn let_go_of_tiers(&mut self) {
        let table = Arc::clone(&self.table);
        for (_, route, family) in kept_routes(&table) {
            let tier = remembered_tier(&table, route, family);
            self.note_tier(RememberedTier { pool: None, ..tier });
        }
        self.note_no_pools();
    }

    /// Records all tiers in use, and since when pools are usable, after a start or a reload.
    pub(super) fn note_all_tiers(&mut self) {
        let table = Arc::clone(&self.table);
        self.set_returns();
        for (_, route, family) in kept_routes(&table) {
            self.note_tier(remembered_tier(&table, route, family));
        }
        self.note_pools();
    }

    /// Records when each plan takes an earlier tier, because the plans have other indices.
    pub(super) fn set_returns(&mut self) {
        let table = Arc::clone(&self.table);
        self.returns = Returns::default();
        for (_, route, _) in kept_routes(&table) {
            self.note_return(route.plan());
        }
    }

    /// Shows all times again, because the time of day has jumped.
    pub(super) fn show_returns_again(&mut self) {
        self.returns.show_again();
        self.note_pools();
    }

    /// Restores the tiers in use from the previous run, and since when pools are usable. The overrides must be
    /// restored before.
    pub(super) fn recall_tiers(&mut self, tiers: &[RememberedTier], pools: &[RememberedPool]) {
        let mut since: HashMap<(&str, Family), Stamp> = HashMap::new();
        for RememberedPool { pool, family, since: begin } in pools {
            since.extend(begin.map(|begin| ((&**pool, *family), self.calendar.stamp_of(begin).min(self.at))));
        }
        for index in 0..self.pools.0.len() {
            let id = PoolId(u32::try_from(index).unwrap_or(u32::MAX));
            let Some(pool) = self.pools.0.get_mut(index) else { continue };
            let name = pool.setup.pool.name.as_str();
            pool.steady = Family::ALL.map(|family| since.get(&(name, family)).copied());
            // The next view of a pool that is touched says whether it is usable.
            if !self.touched.contains(&id)
                && let Some(view) = self.table.pool(id).cloned()
            {
                self.note_steady(id, &view);
            }
        }
        let table = Arc::clone(&self.table);
        // The first table was decided without overrides, so its tiers do not count.
        for (_, route, family) in kept_routes(&table) {
            set_tier(&mut self.returns.again, route.plan(), family, 0);
        }
        for (id, route, family, tier) in recalled(&table, tiers) {
            if let Some(pool) = route.route.tiers.get(tier) {
                self.service_log.recall(id, route.index, family, *pool);
            }
            set_tier(&mut self.returns.again, route.plan(), family, tier);
        }
    }

    fn tell_waiting(&self, route: RouteView<'_>, family: Family, waiting: Waiting) {
        let (service, rule) = (route.service.service.name.to_plain(), route.index.rule());
        let Some(pool) = route.route.tiers.get(waiting.tier).and_then(|pool| self.table.pool(*pool)) else {
            return;
        };
        let (pool, family) = (&*pool.name, family.as_str());
        let failback = route.service.service.failback;
        match waiting.until {
            Some(until) => {
                let [now, until] = [self.calendar.shown(self.at), UNIX_EPOCH + until]
                    .map(|time| jiff::Timestamp::try_from(time).unwrap_or_default());
                let until = time_of_day(until, now);
                tell!(self.teller, info, Tier,
                    service,
                    rule,
                    family,
                    pool,
                    %failback,
                    until,
                    "an earlier tier is usable again; the service returns to it at {until} if it stays usable"
                );
            }
            None if failback == Failback::Manual => tell!(self.teller, info, Tier,
                service,
                rule,
                family,
                pool,
                %failback,
                "an earlier tier is usable again; the service returns to it with `steerd failback`"
            ),
            None => tell!(self.teller, info, Tier,
                service,
                rule,
                family,
                pool,
                %failback,
                "an earlier tier is usable again, but only on trust; the service does not return to it yet"
            ),
        }
    }
}

/// The tiers in use of a table from which the routes of another configuration begin, as [`RememberedTier`]s.
pub(super) fn earlier_tiers(before: &Table, services: &[Service]) -> Vec<RememberedTier> {
    let keeps = |service: &&Service| service.failback != Failback::Auto;
    let keeping: HashSet<&[u8]> = services.iter().filter(keeps).map(|service| service.name.wire()).collect();
    if keeping.is_empty() {
        return Vec::new();
    }
    let views = before.services().iter().filter(|view| keeping.contains(view.service.name.wire()));
    let routes = views.flat_map(ServiceView::routes);
    routes.flat_map(|route| Family::ALL.map(|family| tier_in_use(before, route, family))).collect()
}

/// The plans of a table whose tiers in use are known.
pub(super) fn recalled_plans(table: &Table, tiers: &[RememberedTier]) -> TiersInUse {
    let mut plans = TiersInUse::new();
    for (_, route, family, tier) in recalled(table, tiers) {
        set_tier(&mut plans, route.plan(), family, tier);
    }
    plans
}

fn set_tier(plans: &mut TiersInUse, plan: usize, family: Family, tier: usize) {
    if let Some(place) = plans.entry(plan).or_default().get_mut(family.index()) {
        *place = Some(tier);
    }
}

/// The routes whose tier in use is known, each with its tier. A route is the same if it has the same tiers, or,
/// where no route has them, the same number; its pool must still be one of its tiers.
fn recalled<'t>(
    table: &'t Table,
    tiers: &[RememberedTier],
) -> impl Iterator<Item = (ServiceId, RouteView<'t>, Family, usize)> {
    let mut known: HashMap<(&str, Family), Vec<&RememberedTier>> = HashMap::new();
    for tier in tiers.iter().filter(|tier| tier.pool.is_some()) {
        known.entry((&*tier.service, tier.family)).or_default().push(tier);
    }
    kept_routes(table).filter_map(move |(id, route, family)| {
        let name = route.service.service.name.to_plain();
        let known = known.get(&(name.as_str(), family))?;
        let names = names_of(table, route);
        let number = u32::from(route.index.0);
        let same = known.iter().find(|tier| tier.tiers == names);
        let same = same.or_else(|| known.iter().find(|tier| tier.route == number))?;
        let tier = names.iter().position(|name| Some(name) == same.pool.as_ref())?;
        Some((id, route, family, tier))
    })
}

/// The routes of the services whose `failback` is not `auto`, in each family.
fn kept_routes(table: &Table) -> impl Iterator<Item = (ServiceId, RouteView<'_>, Family)> {
    let services = (0..).map(ServiceId).zip(table.services().iter());
    let routes = services.flat_map(|(id, view)| view.routes().map(move |route| (id, route)));
    let kept = routes.filter(|(_, route)| route.keeps());
    kept.flat_map(|(id, route)| Family::ALL.map(|family| (id, route, family)))
}

/// The tier in use of a route; without its pool if it is the first tier, which need not be remembered.
pub(super) fn remembered_tier(table: &Table, route: RouteView<'_>, family: Family) -> RememberedTier {
    let tier = tier_in_use(table, route, family);
    let pool = tier.pool.filter(|pool| tier.tiers.first() != Some(pool));
    RememberedTier { pool, ..tier }
}

fn tier_in_use(table: &Table, route: RouteView<'_>, family: Family) -> RememberedTier {
    let tiers = names_of(table, route);
    RememberedTier {
        service: route.service.service.name.to_plain().into(),
        route: u32::from(route.index.0),
        family,
        pool: tiers.get(table.tier_in_use(route.plan(), family).tier).cloned(),
        tiers,
    }
}

fn names_of(table: &Table, route: RouteView<'_>) -> Vec<Arc<str>> {
    let name = |pool: &PoolId| table.pool(*pool).map_or_else(|| Arc::from(""), |view| Arc::clone(&view.name));
    route.route.tiers.iter().map(name).collect()
}
