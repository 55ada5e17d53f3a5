//! The present conditions that operators are alerted to: what is wrong now, in the words of the events.
//!
//! A condition is a state, not an event, so none is lost if many occur at once. A table shows most of them:
//! [`unusable`] and [`of_table`] read it, on any thread. The fleet adds only what a table does not show, in
//! [`Fleet::conditions`]: suspicions, certificates, and the pools that only overrides have made unusable.
//!
//! A condition is muted if overrides of operators alone explain it: every pool that is not usable, and that it is about,
//! would be usable without them. If a failure has a part in it, it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::events::EventKind;
use crate::fleet::answering::{Answering, RouteChange, in_words, lack};
use crate::fleet::calendar::Stamp;
use crate::fleet::expiry::Expiring;
use crate::fleet::pools::PoolState;
use crate::fleet::{CERTIFICATE_SOON, Fleet};
use crate::pool::{Family, PoolId};
use crate::service::ServiceId;
use crate::table::{AddressCondition, Decision, FULL_WEIGHT, RouteView, ServiceView, Table};

/// How many services a condition of a pool names.
const MOST_NAMED: usize = 3;

/// The kinds of events that are also conditions, each with its words for `events` of an alert.
pub const CONDITIONS: [EventKind; 7] = [
    EventKind::Pool,
    EventKind::Service,
    EventKind::Tier,
    EventKind::Suspicion,
    EventKind::Reload,
    EventKind::Certificate,
    EventKind::Audit,
];

/// The identity of a condition, which it keeps over restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConditionKey {
    /// The kind of its events.
    pub kind: EventKind,
    /// The pool or the service; empty for this server as a whole.
    pub name: Arc<str>,
    /// The number of the rule of the service; none for its default route.
    pub rule: Option<u16>,
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its identity.
    pub key: ConditionKey,
    /// A sentence without its end: `pool web is not usable`.
    pub summary: String,
    /// Why.
    pub reason: String,
    /// The effect on clients or operators.
    pub consequence: String,
    /// Whether it is that of a service that fails open.
    pub fails_open: bool,
    /// Differs if it has ended and begun again since the last look, even if nobody looked in between.
    pub start: u64,
}

/// A request for the conditions that a table does not show.
#[derive(Clone, Debug)]
pub struct ConditionsRequest {
    /// The table whose other conditions are known.
    pub table: Arc<Table>,
    /// Its pools that are not usable.
    pub unusable: Vec<PoolId>,
}

/// The conditions that a table does not show.
#[derive(Clone, Debug, Default)]
pub struct FleetConditions {
    /// Suspicions and certificates.
    pub conditions: Vec<Condition>,
    /// The requested pools that would be usable without overrides, in which families.
    pub overridden: OverriddenPools,
    /// Since when the requested pools are not usable, as [`Condition::start`].
    pub starts: PoolStarts,
}

/// When pools have last become unusable.
pub type PoolStarts = BTreeMap<PoolId, u64>;

/// Pools that would be usable without overrides, by [`Family::index`].
pub type OverriddenPools = BTreeMap<PoolId, [bool; 2]>;

impl ConditionKey {
    fn of_pool(kind: EventKind, pool: &Arc<str>) -> Self {
        Self { kind, name: Arc::clone(pool), rule: None }
    }
}

impl Condition {
    /// The running configuration is not the one in the file, because a reload was refused for this reason.
    #[must_use]
    pub fn refused_reload(reason: &str) -> Self {
        Self {
            key: ConditionKey { kind: EventKind::Reload, name: "".into(), rule: None },
            summary: "the configuration was refused".into(),
            reason: reason.into(),
            consequence: "the earlier configuration stays in force until a reload succeeds".into(),
            fails_open: false,
            start: 0,
        }
    }

    /// Entries of the audit cannot be written for this reason.
    #[must_use]
    pub fn audit_failing(reason: &str) -> Self {
        Self {
            key: ConditionKey { kind: EventKind::Audit, name: "".into(), rule: None },
            summary: "the audit cannot be written".into(),
            reason: reason.into(),
            consequence: "its entries wait in memory; those that wait when steerd ends are lost".into(),
            fails_open: false,
            start: 0,
        }
    }
}

/// Faults of this server itself, apart from its table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFaults {
    /// Why the running configuration is not that of the files: the last reload was refused, or the start.
    pub refused_reload: Option<Arc<str>>,
    /// Why the audit cannot be written.
    pub audit: Option<Arc<str>>,
}

impl ServerFaults {
    /// The conditions.
    pub fn conditions(&self) -> impl Iterator<Item = Condition> {
        let reload = self.refused_reload.as_deref().map(Condition::refused_reload);
        reload.into_iter().chain(self.audit.as_deref().map(Condition::audit_failing))
    }
}

/// The pools that are not usable in a family of which they have addresses, even if all are disabled.
#[must_use]
pub fn unusable(table: &Table) -> Vec<PoolId> {
    let pools = (0..).map(PoolId).zip(table.pools().iter());
    pools
        .filter(|(_, view)| {
            view.families.iter().any(|family| !family.configured.is_empty() && !family.usable)
        })
        .map(|(id, _)| id)
        .collect()
}

/// The conditions of pools and services that overrides do not explain.
#[must_use]
pub fn of_table(table: &Table, unusable: &[PoolId], fleet: &FleetConditions) -> Vec<Condition> {
    let FleetConditions { overridden, starts, .. } = fleet;
    let of_pool =
        |id: &PoolId| Some(Condition { start: start_of(&[*id], starts), ..of_pool(table, *id, overridden)? });
    let mut conditions: Vec<Condition> = unusable.iter().filter_map(of_pool).collect();
    for route in table.services().iter().flat_map(ServiceView::routes) {
        let start = start_of(&route.route.tiers, starts);
        let of_route = [of_down(table, route, overridden), of_later_tier(table, route, overridden)]
            .into_iter()
            .flatten();
        conditions.extend(of_route.map(|condition| Condition { start, ..condition }));
    }
    conditions
}

/// The latest start among these pools: if one of them has been usable meanwhile, it is another one.
fn start_of(pools: &[PoolId], starts: &PoolStarts) -> u64 {
    pools.iter().filter_map(|id| starts.get(id)).copied().max().unwrap_or_default()
}

/// Whether a pool that is not usable in a family would be without overrides.
fn is_overridden(overridden: &OverriddenPools, pool: PoolId, family: Family) -> bool {
    overridden.get(&pool).is_some_and(|families| *family.select(families))
}

/// Whether a pool can be in use for a family, or could be without overrides.
fn would_answer(table: &Table, pool: PoolId, family: Family, overridden: &OverriddenPools) -> bool {
    table.pool(pool).is_some_and(|view| {
        let decides = |family: &Family| !view.family(*family).configured.is_empty();
        let own = Some(family).filter(decides);
        let decisive = own.or_else(|| Family::ALL.into_iter().find(decides));
        view.can_answer(family) || decisive.is_some_and(|family| is_overridden(overridden, pool, family))
    })
}

fn of_pool(table: &Table, id: PoolId, overridden: &OverriddenPools) -> Option<Condition> {
    let view = table.pool(id)?;
    let is_lost = |family: &Family| {
        let view = view.family(*family);
        view.is_configured() && !view.usable && !is_overridden(overridden, id, *family)
    };
    let lost: Vec<Family> = Family::ALL.into_iter().filter(is_lost).collect();
    let is_whole = lost.len() == view.families.iter().filter(|family| family.is_configured()).count();
    let only = if is_whole { String::new() } else { format!(" in {}", in_words(&lost)) };
    let reasons: Vec<String> =
        lost.iter().map(|family| format!("it {}", lack(view.family(*family), *family))).collect();
    (!lost.is_empty()).then(|| Condition {
        key: ConditionKey::of_pool(EventKind::Pool, &view.name),
        summary: format!("pool {} is not usable{only}", view.name),
        reason: reasons.join(", and "),
        consequence: for_services(table, id),
        fails_open: false,
        start: 0,
    })
}

/// How the services of a pool are answered now.
fn for_services(table: &Table, pool: PoolId) -> String {
    let mut ids: Vec<ServiceId> = table.services().of_pool(pool).collect();
    ids.sort_unstable();
    ids.dedup();
    let answered = |id: &ServiceId| {
        let service = table.service(*id)?;
        let name = service.service.name.to_plain();
        let answering = Answering::of(service.default_route(), table);
        Some(if answering.fails_open() {
            format!("service {name} fails open")
        } else if answering.is_down() {
            format!("service {name} is down")
        } else {
            let tier = answering.tier().into_iter().flatten().next().and_then(|tier| table.pool(tier));
            format!("service {name} is answered by {}", tier.map_or("none", |tier| &*tier.name))
        })
    };
    let mut told: Vec<String> = ids.iter().take(MOST_NAMED).filter_map(answered).collect();
    if let Some(more) = ids.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        told.push(format!("and {more} more services have it as a tier"));
    }
    if told.is_empty() { "no service has it as a tier".into() } else { told.join(", ") }
}

fn name_of(route: RouteView<'_>) -> String {
    let name = route.service.service.name.to_plain();
    match route.index.rule() {
        None => format!("service {name}"),
        Some(rule) => format!("service {name} (rule {rule})"),
    }
}

fn key_of(kind: EventKind, route: RouteView<'_>) -> ConditionKey {
    let name = route.service.service.name.to_plain();
    ConditionKey { kind, name: name.into(), rule: route.index.rule() }
}

/// A service that no tier can answer.
fn of_down(table: &Table, route: RouteView<'_>, overridden: &OverriddenPools) -> Option<Condition> {
    let answering = Answering::of(route, table);
    let is_explained = |family: &Family| {
        route.route.tiers.iter().all(|tier| would_answer(table, *tier, *family, overridden))
    };
    let down: Vec<Family> = answering.down_families().filter(|family| !is_explained(family)).collect();
    if down.is_empty() {
        return None;
    }
    let now = (&answering, table);
    let is_open = |family: &Family| matches!(table.decision(route, *family), Decision::FailOpen { .. });
    let fails_open = down.iter().all(is_open);
    let is = if fails_open { "fails open" } else { "is down" };
    let answers_else = answering.tier().iter().any(Option::is_some);
    let only = if answers_else { format!(" in {}", in_words(&down)) } else { String::new() };
    Some(Condition {
        key: key_of(EventKind::Service, route),
        summary: format!("{} {is}{only}", name_of(route)),
        reason: "no tier is usable".into(),
        consequence: format!("it {}", RouteChange { route, before: now, now }.instead(&down)),
        fails_open,
        start: 0,
    })
}

/// A service that is not answered by its first tier.
fn of_later_tier(table: &Table, route: RouteView<'_>, overridden: &OverriddenPools) -> Option<Condition> {
    let first = *route.route.tiers.first()?;
    let view = table.pool(first)?;
    let later = |family: &Family| {
        let Decision::Tier { tier: tier @ 1.., pool, .. } = table.decision(route, *family) else {
            return false;
        };
        let mut earlier = route.route.tiers.iter().take(*tier);
        let can_answer = |tier: &PoolId| table.pool(*tier).is_some_and(|view| view.can_answer(*family));
        let is_failover = route.service.failover.as_ref().is_some_and(|failover| failover.pool == *pool);
        // Without a failover, an earlier tier that can answer waits for its time, or for an operator.
        let is_waiting = !is_failover && earlier.clone().any(can_answer);
        is_waiting || !earlier.all(|tier| would_answer(table, *tier, *family, overridden))
    };
    let later: Vec<Family> = Family::ALL.into_iter().filter(later).collect();
    let family = *later.first()?;
    let answering = Answering::of(route, table);
    let now = (&answering, table);
    let change = RouteChange { route, before: now, now };
    let (_, tiers) = change.tiers_of_both();
    let waiting = table.tier_in_use(route.plan(), family).waiting;
    let waiting = waiting.and_then(|waiting| table.pool(*route.route.tiers.get(waiting.tier)?));
    let reason = match waiting {
        Some(earlier) => {
            format!("{} is usable again, and the service has not returned to it yet (failback)", earlier.name)
        }
        None => "none before it is usable".into(),
    };
    Some(Condition {
        key: key_of(EventKind::Tier, route),
        summary: format!("{} is answered by a later tier, {tiers}", name_of(route)),
        reason,
        consequence: format!("its clients get {tiers}, not {}; {}", view.name, change.left(&later)),
        fails_open: false,
        start: 0,
    })
}

impl Fleet {
    /// The conditions that a table does not show; none if the table belongs to an earlier configuration, in which
    /// pools had other ids.
    #[must_use]
    pub fn conditions(&self, request: &ConditionsRequest) -> Option<FleetConditions> {
        // Every reload makes new settings, and nothing else does.
        if !Arc::ptr_eq(&request.table.settings, &self.table.settings) {
            return None;
        }
        let mut conditions = self.suspicions();
        conditions.extend(self.expiring.pools().filter_map(|(pool, count, (expires, target))| {
            let pool = self.pools.get(pool)?;
            let user = self.targets.get(target)?.users.iter().find(|user| {
                self.pools.get(user.spot.pool).is_some_and(|known| known.series.name() == pool.series.name())
            })?;
            let (_, backend, address) = self.pools.named(user.spot)?;
            let check = pool.checks.get(user.check as usize)?;
            let who = format!("backend {backend} ({address}), check {check}");
            Some(certificate(pool.series.name(), &who, (count, expires), self.calendar.shown(self.at)))
        }));
        let overridden = request.unusable.iter().filter_map(|id| Some((*id, self.without_overrides(*id)?)));
        let start =
            |id: &PoolId| Some((*id, self.pools.get(*id)?.usability.since.since(Stamp::EPOCH).as_micros()));
        let starts = request.unusable.iter().filter_map(start);
        let starts = starts.map(|(id, at)| (id, u64::try_from(at).unwrap_or(u64::MAX))).collect();
        Some(FleetConditions { conditions, overridden: overridden.collect(), starts })
    }

    fn suspicions(&self) -> Vec<Condition> {
        let suspicion = |pool: &Arc<str>, reason: &str| {
            let of = if pool.is_empty() { "all pools together".into() } else { format!("pool {pool}") };
            Condition {
                key: ConditionKey::of_pool(EventKind::Suspicion, pool),
                summary: format!("this machine is suspected instead of {of}"),
                reason: reason.into(),
                consequence: "the states of its backends are kept, so answers may contain dead ones".into(),
                fails_open: false,
                start: 0,
            }
        };
        let of_pool = |pool: &PoolState| {
            let suspected = pool.suspected.as_ref()?;
            Some(suspicion(pool.series.name(), &suspected.reason))
        };
        let all = self.local_faults.suspected().or(self.suspected.as_ref());
        let all = all.map(|suspected| suspicion(&"".into(), &suspected.reason));
        self.pools.0.iter().filter_map(of_pool).chain(all).collect()
    }

    /// The families in which a pool would be usable without overrides; none if it has none.
    fn without_overrides(&self, id: PoolId) -> Option<[bool; 2]> {
        let (pool, view) = (self.pools.get(id)?, self.table.pool(id)?);
        let has_override = pool
            .backends
            .iter()
            .any(|backend| backend.over().is_some() || backend.weight() != u16::from(FULL_WEIGHT));
        has_override.then(|| {
            let without = view.next(&pool.setup.pool, |backend, address| AddressCondition {
                overridden: None,
                weight: FULL_WEIGHT.into(),
                ..pool.condition(backend, address, None)
            });
            without.families.map(|family| family.usable)
        })
    }

    /// Counts the certificates that expire soon again, because the pools have changed.
    pub(super) fn recount_expiring(&mut self) {
        self.expiring = Expiring::default();
        for (id, target) in self.targets.iter() {
            let pools = target.users.iter().map(|user| user.spot.pool);
            self.expiring.change(id, pools, [None, target.expiry.soon()]);
        }
    }
}

fn certificate(pool: &Arc<str>, who: &str, (count, at): (usize, SystemTime), now: SystemTime) -> Condition {
    let date = Timestamp::try_from(at).map(|date| date.strftime("%Y-%m-%d").to_string());
    let has = if at <= now { "has expired" } else { "expires" };
    let days = CERTIFICATE_SOON.as_secs() / 86_400;
    let others = match count.saturating_sub(1) {
        0 => String::new(),
        1 => format!("; 1 more certificate of the pool expires within {days} days"),
        more => format!("; {more} more certificates of the pool expire within {days} days"),
    };
    Condition {
        key: ConditionKey::of_pool(EventKind::Certificate, pool),
        summary: format!("a certificate in pool {pool} {has} on {}", date.unwrap_or_default()),
        reason: format!("it is that of {who}{others}"),
        consequence: "renew it on the backend: clients and checks that verify it refuse the backend then"
            .into(),
        fails_open: false,
        start: 0,
    }
}
