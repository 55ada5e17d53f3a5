//! Failovers by hand: an operator puts a pool of a service first, for a drill or to evacuate a site.
//!
//! ```text
//! the pool is usable      -> it answers, and the failback of the service does not matter
//! it is not usable        -> the tiers answer as without a failover; the pool answers again as soon as it is usable
//! the failover has ended  -> the pool is the tier in use, and the service returns according to its failback
//! ```
//!
//! Failovers are part of the services in the table. A command makes the list of services anew and takes all decisions
//! over, so its cost grows with the number of services. Commands are rare, and changes of health cost no more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::duration::Shown;
use crate::events::tell;
use crate::fleet::calendar::{Calendar, Stamp};
use crate::fleet::consequences::of_service;
use crate::fleet::overrides::rounded;
use crate::fleet::pools::ON_THE_WAY;
use crate::fleet::report::failover_status;
use crate::fleet::{
    Consequence, FailoverRequest, FailoverStatus, Fleet, NamedFailover, RememberedFailover, ServiceChanged,
    ServiceRefused, ServiceRequest, ServiceStatus,
};
use crate::name::Name;
use crate::pool::{Family, PoolId};
use crate::service::{Failover, Service, ServiceId};
use crate::table::{Decision, ServiceView, Services, Table, TiersInUse};

/// The failovers in force.
#[derive(Debug, Default)]
pub(super) struct Failovers {
    pub(super) kept: BTreeMap<ServiceId, KeptFailover>,
    /// The services of those that the table does not have yet, or still has.
    changed: BTreeSet<ServiceId>,
    /// When the next one ends.
    pub(super) end: Option<Stamp>,
}

/// A failover, with times on the steady calendar.
#[derive(Clone, Debug)]
pub(super) struct KeptFailover {
    pool: PoolId,
    since: Stamp,
    until: Option<Stamp>,
    reason: Option<String>,
    by: Option<String>,
}

impl KeptFailover {
    fn shown(&self, calendar: Calendar) -> Failover {
        Failover {
            pool: self.pool,
            since: calendar.shown_since_1970(self.since),
            until: self.until.map(|until| calendar.shown_since_1970(until)),
            reason: self.reason.clone(),
            by: self.by.clone(),
        }
    }
}

impl Failovers {
    /// In the form for the table.
    pub(super) fn shown(&self, calendar: Calendar) -> BTreeMap<ServiceId, Arc<Failover>> {
        self.kept.iter().map(|(id, kept)| (*id, Arc::new(kept.shown(calendar)))).collect()
    }

    fn set(&mut self, id: ServiceId, kept: Option<KeptFailover>) {
        match kept {
            Some(kept) => drop(self.kept.insert(id, kept)),
            None => drop(self.kept.remove(&id)),
        }
        self.changed.insert(id);
        self.end = self.kept.values().filter_map(|kept| kept.until).min();
    }
}

impl Fleet {
    /// Carries out a request for another tier of a service.
    ///
    /// # Errors
    /// See [`ServiceRefused`].
    pub fn change_service(&mut self, request: ServiceRequest) -> Result<ServiceChanged, ServiceRefused> {
        match request {
            ServiceRequest::FailBack(request) => self.fail_back(&request),
            ServiceRequest::FailOver(request) => self.fail_over(request),
        }
    }

    /// Sets or ends a failover, and makes the next table. It is refused unless it is forced if the pool cannot answer,
    /// or if it takes something away from clients.
    pub(super) fn fail_over(&mut self, request: FailoverRequest) -> Result<ServiceChanged, ServiceRefused> {
        let (id, kept) = self.wanted_failover(&request)?;
        let FailoverRequest { force, by, .. } = request;
        let pool = kept.as_ref().map(|kept| kept.pool);
        let before = Arc::clone(&self.table);
        let view = before.service(id).ok_or(ServiceRefused::NoSuchService)?;
        let consequences = self.failover_consequences(id, kept.as_ref());
        if !force && consequences.iter().any(|consequence| consequence.takes_away) {
            return Err(ServiceRefused::TakesAway(consequences));
        }
        self.set_failover(id, kept, "by request", Some(&by));
        self.publish(Some(&by));
        let safe_at = pool.and_then(|pool| self.left_at(id, pool)).map(|at| self.calendar.shown(at));
        let (before, after) = (ServiceStatus::of(view, &before), self.service_status(id));
        let service = after.unwrap_or_else(|| before.clone());
        Ok(ServiceChanged { service, before: before.failover, safe_at, consequences })
    }

    /// The service of a request, and its failover afterwards.
    pub(super) fn wanted_failover(
        &self,
        request: &FailoverRequest,
    ) -> Result<(ServiceId, Option<KeptFailover>), ServiceRefused> {
        let FailoverRequest { service, pool, length, reason, by, force: _, expected } = request;
        let (id, view) = find(&self.table, service).ok_or(ServiceRefused::NoSuchService)?;
        let present = failover_status(view, &self.table);
        if !expected.allows(present.as_ref().map(FailoverStatus::version)) {
            return Err(ServiceRefused::Unexpected(present.map(Box::new)));
        }
        let Some(name) = pool else { return Ok((id, None)) };
        let named = |pool: &PoolId| self.table.pool(*pool).is_some_and(|view| *view.name == **name);
        let pool = view.pools.iter().copied().find(named);
        let pool = pool.ok_or_else(|| ServiceRefused::NoSuchPool {
            pool: name.clone(),
            pools: pool_names(&self.table, view),
        })?;
        // A failover to the same pool goes on.
        let known = self.failovers.kept.get(&id).filter(|known| known.pool == pool);
        let reason = reason.clone().or_else(|| known?.reason.clone());
        let since = known.map_or(self.at, |known| known.since);
        let until = length.map(|length| self.at.after(length));
        Ok((id, Some(KeptFailover { pool, since, until, reason, by: Some(by.clone()) })))
    }

    /// The changes for a service with this failover, or with none.
    pub(super) fn failover_consequences(
        &self,
        id: ServiceId,
        kept: Option<&KeptFailover>,
    ) -> Vec<Consequence> {
        let before = &*self.table;
        let mut failovers = self.failovers.shown(self.calendar);
        match kept {
            Some(kept) => drop(failovers.insert(id, Arc::new(kept.shown(self.calendar)))),
            None => drop(failovers.remove(&id)),
        }
        let after = before.clone().with_services(services_with(before, &failovers));
        let Some(view) = after.service(id) else { return Vec::new() };
        let plans = view.routes().map(|route| (route.plan(), [None; 2])).collect();
        let after = self.with_progress(|progress| after.clone().with_tiers_in_use(plans, progress));
        let mut consequences = of_service(id, [before, &after]);
        if let Some(kept) = kept {
            cannot_answer(view, kept.pool, before, &mut consequences);
        }
        consequences.sort_by_key(|consequence| !consequence.takes_away);
        consequences
    }

    /// When all answers with other pools than this one have expired; none if a route still answers with another pool:
    /// because it does not have this one, or because no tier is usable.
    fn left_at(&self, id: ServiceId, pool: PoolId) -> Option<Stamp> {
        let view = self.table.service(id)?;
        let mut answering = view.routes().flat_map(|route| {
            Family::ALL.map(|family| match self.table.decision(route, family) {
                Decision::Tier { pool, .. } | Decision::FailOpen { pool, .. } => Some(*pool),
                Decision::NoAddress | Decision::Down { .. } => None,
            })
        });
        let ttl = view.routes().map(|route| route.route.ttl.max).max().unwrap_or(0);
        let others = view.pools.iter().filter(|other| **other != pool);
        let earlier = others.filter_map(|other| Some(self.pools.get(*other)?.earlier_answers_end)).max();
        let left = self.at.after(ON_THE_WAY + Duration::from_secs(ttl.into()));
        answering
            .all(|answers| answers.is_none_or(|answers| answers == pool))
            .then(|| earlier.map_or(left, |earlier| left.max(earlier)))
    }

    /// Ends the failovers that are due to end.
    pub(super) fn end_failovers(&mut self) {
        let now = self.at;
        if self.failovers.end.is_none_or(|end| end > now) {
            return;
        }
        let is_over = |kept: &KeptFailover| kept.until.is_some_and(|until| until <= now);
        let over = self.failovers.kept.iter().filter(|(_, kept)| is_over(kept));
        for (id, by) in over.map(|(id, kept)| (*id, kept.by.clone())).collect::<Vec<_>>() {
            self.set_failover(id, None, "its time is over", by.as_deref());
        }
    }

    /// Restores the failovers from the previous run.
    pub(super) fn recall_failovers(&mut self, remembered: Vec<RememberedFailover>) {
        if remembered.is_empty() {
            return;
        }
        let table = Arc::clone(&self.table);
        let ids = ids(&table);
        for RememberedFailover { service, pool, since, until, reason, by } in remembered {
            let [since, until] =
                [Some(since), until].map(|time| time.map(|time| self.calendar.stamp_of(time)));
            let (service, pool) = (&*service, &*pool);
            if until.is_some_and(|until| until <= self.at) {
                tell!(
                    self.teller,
                    info,
                    Failover,
                    service,
                    pool,
                    "a remembered failover has ended while steerd was stopped"
                );
                continue;
            }
            let Some((id, found)) = ids.get(service).and_then(|id| Some((*id, pool_of(&table, *id, pool)?)))
            else {
                tell!(
                    self.teller,
                    info,
                    Failover,
                    service,
                    pool,
                    "a remembered failover is dropped, the service or its pool is gone"
                );
                continue;
            };
            let since = since.unwrap_or(self.at).min(self.at);
            let asked_by = by.clone();
            let kept = KeptFailover { pool: found, since, until, reason, by };
            self.set_failover(id, Some(kept), "remembered", asked_by.as_deref());
        }
    }

    /// Makes the services anew if failovers have changed, and marks the plans for which to decide again.
    pub(super) fn apply_failovers(&mut self) {
        if self.failovers.changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.failovers.changed);
        let before = Arc::clone(&self.table);
        let services = services_with(&before, &self.failovers.shown(self.calendar));
        let table = Table::clone(&before).with_services(Arc::clone(&services));
        // The plans have other indices now.
        let mut again = TiersInUse::new();
        for (plan, from) in std::mem::take(&mut self.returns.again) {
            for (id, route) in before.services().routes_of(plan) {
                let route = services.get(id.index()).and_then(|view| view.route(route.index));
                again.extend(route.map(|route| (route.plan(), from)));
            }
        }
        for view in changed.iter().filter_map(|id| services.get(id.index())) {
            for route in view.routes() {
                again.entry(route.plan()).or_default();
            }
        }
        self.table = Arc::new(table);
        self.set_returns();
        self.returns.again = again;
    }

    /// Carries the failovers over to another configuration by names. Returns those whose service or pool is gone.
    /// `before` and `table` are the tables before and after; the new one has no failovers yet.
    pub(super) fn move_failovers(
        &mut self,
        before: &Table,
        services: &[Service],
        pool_names: &[&str],
        asked_by: &str,
    ) -> Vec<NamedFailover> {
        let earlier = std::mem::take(&mut self.failovers);
        if earlier.kept.is_empty() {
            return Vec::new();
        }
        let ids: HashMap<&[u8], ServiceId> =
            services.iter().map(|service| service.name.wire()).zip((0..).map(ServiceId)).collect();
        let mut lost = Vec::new();
        for (old, kept) in earlier.kept {
            let Some((view, pool)) = before.service(old).zip(before.pool(kept.pool)) else { continue };
            let id = ids.get(view.service.name.wire());
            let of_service = id.and_then(|id| services.get(id.index())).map(Service::pools);
            let is_named = |pool_id: &PoolId| pool_names.get(pool_id.index()) == Some(&&*pool.name);
            let found = of_service.and_then(|pools| pools.into_iter().find(is_named));
            match id.zip(found) {
                Some((id, pool)) => self.failovers.set(*id, Some(KeptFailover { pool, ..kept })),
                None => {
                    let service = view.service.name.to_plain();
                    let pool = &*pool.name;
                    tell!(
                        self.teller,
                        info,
                        Failover,
                        service,
                        pool,
                        asked_by,
                        "a failover has ended, the service or its pool is gone"
                    );
                    lost.push(NamedFailover {
                        service: service.into(),
                        pool: pool.into(),
                        reason: kept.reason,
                    });
                }
            }
        }
        // The services are made with them.
        self.failovers.changed.clear();
        lost
    }

    /// All failovers, by name.
    pub(super) fn named_failovers(&self) -> Vec<NamedFailover> {
        let named = |(id, kept): (&ServiceId, &KeptFailover)| {
            Some(NamedFailover {
                service: self.table.service(*id)?.service.name.to_plain().into(),
                pool: Arc::clone(&self.table.pool(kept.pool)?.name),
                reason: kept.reason.clone(),
            })
        };
        self.failovers.kept.iter().filter_map(named).collect()
    }

    /// Shows all times again, because the time of day has jumped.
    pub(super) fn show_failovers_again(&mut self) {
        self.failovers.changed.extend(self.failovers.kept.keys());
        self.note_failovers();
    }

    /// Records all failovers as changed.
    pub(super) fn note_failovers(&mut self) {
        for id in self.failovers.kept.keys().copied().collect::<Vec<_>>() {
            self.note_failover(id);
        }
    }

    /// Records all failovers as ended, before a reload that may give them other names.
    pub(super) fn let_go_of_failovers(&mut self) {
        for id in self.failovers.kept.keys() {
            let name = self.table.service(*id).map(|view| Arc::from(view.service.name.to_plain()));
            self.unreported.failovers.extend(name.map(|name| (name, None)));
        }
    }

    fn note_failover(&mut self, id: ServiceId) {
        let Some(view) = self.table.service(id) else { return };
        let kept = self.remembered_failover(id);
        self.unreported.failovers.insert(view.service.name.to_plain().into(), kept);
    }

    pub(super) fn remembered_failover(&self, id: ServiceId) -> Option<RememberedFailover> {
        let kept = self.failovers.kept.get(&id)?;
        let KeptFailover { pool, since, until, reason, by } = kept.clone();
        Some(RememberedFailover {
            service: self.table.service(id)?.service.name.to_plain().into(),
            pool: Arc::clone(&self.table.pool(pool)?.name),
            since: self.calendar.shown(since),
            until: until.map(|until| self.calendar.shown(until)),
            reason,
            by,
        })
    }

    fn set_failover(&mut self, id: ServiceId, kept: Option<KeptFailover>, why: &str, asked_by: Option<&str>) {
        let before = self.failovers.kept.get(&id).map(|kept| kept.pool);
        let table = Arc::clone(&self.table);
        let name = |pool: PoolId| table.pool(pool).map(|view| Arc::clone(&view.name));
        let (from, to) = (before.and_then(name), kept.as_ref().and_then(|kept| name(kept.pool)));
        let (from, pool) = (from.as_deref(), to.as_deref());
        let service = table.service(id).map(|view| view.service.name.to_plain());
        match &kept {
            Some(KeptFailover { until, reason, .. }) => {
                let ends_in = until.map(|until| Shown(rounded(until.since(self.at))).to_string());
                let reason = reason.as_deref();
                tell!(
                    self.teller,
                    info,
                    Failover,
                    service,
                    pool,
                    from,
                    ends_in,
                    reason,
                    asked_by,
                    "service fails over to a pool, {why}"
                );
            }
            None if from.is_some() => {
                tell!(
                    self.teller,
                    info,
                    Failover,
                    service,
                    from,
                    asked_by,
                    "the failover of a service has ended, {why}"
                );
            }
            None => return,
        }
        self.failovers.set(id, kept);
        self.note_failover(id);
    }

    fn service_status(&self, id: ServiceId) -> Option<ServiceStatus> {
        Some(ServiceStatus::of(self.table.service(id)?, &self.table))
    }
}

/// Adds the families in which the pool of a failover cannot answer, and the routes that do not have it.
fn cannot_answer(view: &ServiceView, pool: PoolId, table: &Table, consequences: &mut Vec<Consequence>) {
    let Some(of_pool) = table.pool(pool) else { return };
    let (service, name) = (view.service.name.to_plain(), &of_pool.name);
    let stays = format!("service {service} is answered as before until it is");
    let mut tell = |takes_away, text| consequences.push(Consequence { takes_away, text });
    let configured = || Family::ALL.into_iter().filter(|family| of_pool.family(*family).is_configured());
    if configured().next().is_none() {
        tell(true, format!("pool {name} is not usable, because it has no enabled backend: {stays}"));
    }
    for family in configured().filter(|family| !of_pool.family(*family).usable) {
        tell(true, format!("pool {name} is not usable in {}: {stays}", family.as_str()));
    }
    for route in view.routes().filter(|route| !route.route.tiers.contains(&pool)) {
        let rule =
            route.index.rule().map_or_else(|| "the default route".into(), |rule| format!("rule {rule}"));
        tell(false, format!("service {service}: {rule} does not have pool {name} and is answered as before"));
    }
}

/// The services of a table with these failovers.
fn services_with(table: &Table, failovers: &BTreeMap<ServiceId, Arc<Failover>>) -> Arc<Services> {
    let services = table.services().iter().map(|view| view.service.clone());
    Arc::new(Services::with_failovers(services, failovers))
}

pub(super) fn find<'t>(table: &'t Table, service: &Name) -> Option<(ServiceId, &'t ServiceView)> {
    let mut services = (0..).map(ServiceId).zip(table.services().iter());
    services.find(|(_, view)| view.service.name == *service)
}

fn ids(table: &Table) -> HashMap<String, ServiceId> {
    let names = table.services().iter().map(|view| view.service.name.to_plain());
    names.zip((0..).map(ServiceId)).collect()
}

/// The pool with this name, if the service has it.
fn pool_of(table: &Table, id: ServiceId, name: &str) -> Option<PoolId> {
    let pools = &table.service(id)?.pools;
    pools.iter().copied().find(|pool| table.pool(*pool).is_some_and(|view| *view.name == *name))
}

fn pool_names(table: &Table, view: &ServiceView) -> Vec<String> {
    view.pools.iter().filter_map(|pool| Some(table.pool(*pool)?.name.to_string())).collect()
}
