//! A naive model of the tiers in use: follows the published tables, of which other invariants check the views.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::fleet::simulation::journal::Remembered;
use crate::pool::{Family, PoolId};
use crate::service::{Failback, Service};
use crate::table::{PoolView, Table, TiersInUse};

/// Service and family.
pub(super) type Place = (String, Family);

#[derive(Debug, Default)]
pub(super) struct Tiers {
    /// Since when pools are usable without a break, by name, on the clock of elapsed time.
    pub(super) steady: BTreeMap<Place, Duration>,
    /// The names of the pools in use.
    pub(super) in_use: BTreeMap<Place, String>,
    /// By service: the pool, and when it ends on the clock of elapsed time.
    pub(super) failovers: BTreeMap<String, (String, Option<Duration>)>,
}

/// Whether a pool can be in use for a family, and whether only on trust.
pub(super) fn can_answer(view: &PoolView, family: Family) -> Option<bool> {
    let [ipv4, ipv6] = &view.families;
    let (own, other) = if family == Family::Ipv4 { (ipv4, ipv6) } else { (ipv6, ipv4) };
    let decides = if own.everyone.members.is_empty() { other } else { own };
    decides.usable.then_some(decides.on_trust)
}

pub(super) fn pools<'t>(service: &'t Service, table: &'t Table) -> impl Iterator<Item = &'t PoolView> {
    service.default.tiers.iter().map(|pool| &**table.pool(*pool).unwrap())
}

impl Tiers {
    /// As remembered, for a start at this time of day and of elapsed time.
    pub(super) fn recalled(remembered: &Remembered, (wall, passed): (SystemTime, Duration)) -> Self {
        let of_pools = remembered.pools.iter();
        let of_tiers = remembered.tiers.values();
        Self {
            steady: of_pools
                .map(|((pool, family), since)| {
                    let for_long = wall.duration_since(*since).unwrap_or_default();
                    ((pool.to_string(), *family), passed - for_long)
                })
                .collect(),
            in_use: of_tiers
                .filter_map(|tier| {
                    Some(((tier.service.to_string(), tier.family), tier.pool.clone()?.to_string()))
                })
                .collect(),
            failovers: (remembered.failovers.values())
                .filter(|kept| kept.until.is_none_or(|until| until > wall))
                .map(|kept| {
                    let left = kept.until.map(|until| until.duration_since(wall).unwrap_or_default());
                    (kept.service.to_string(), (kept.pool.to_string(), left.map(|left| passed + left)))
                })
                .collect(),
        }
    }

    /// Forgets the pools and services that a table does not have. Returns the services whose failovers are lost.
    pub(super) fn rename(&mut self, table: &Table) -> Vec<String> {
        let has_pool = |service: &str, pool: &str| {
            let view = table.services().iter().find(|view| view.service.name.to_plain() == service);
            view.is_some_and(|view| pools(&view.service, table).any(|view| *view.name == *pool))
        };
        let lost = self.failovers.extract_if(.., |service, (pool, _)| !has_pool(service, pool));
        let lost = lost.map(|(service, _)| service).collect();
        self.steady.retain(|(pool, _), _| table.pools().iter().any(|view| *view.name == **pool));
        self.in_use.retain(|(service, _), pool| has_pool(service, pool));
        lost
    }

    /// Ends the failovers whose time is over, and returns their number.
    pub(super) fn end_failovers(&mut self, passed: Duration) -> usize {
        let before = self.failovers.len();
        self.failovers.retain(|_, (_, until)| until.is_none_or(|until| until > passed));
        before - self.failovers.len()
    }

    /// When failovers end by themselves, by service.
    pub(super) fn failover_ends(&self) -> impl Iterator<Item = (&String, Duration)> {
        self.failovers.iter().filter_map(|(service, (_, until))| Some((service, (*until)?)))
    }

    /// The pool of a failover, if it can answer.
    pub(super) fn failover<'t>(
        &self,
        service: &Service,
        family: Family,
        table: &'t Table,
    ) -> Option<&'t str> {
        let (wanted, _) = self.failovers.get(&service.name.to_plain())?;
        let is_able = |view: &&PoolView| *view.name == **wanted && can_answer(view, family).is_some();
        table.pools().iter().map(|view| &**view).find(is_able).map(|view| &*view.name)
    }

    /// Takes a table that was published at a time. Returns how many services have returned because it was time.
    pub(super) fn watch(
        &mut self,
        table: &Table,
        passed: Duration,
        has_changed: impl Fn(PoolId) -> bool,
    ) -> usize {
        for view in table.pools().iter() {
            for family in Family::ALL {
                let place = (view.name.to_string(), family);
                if can_answer(view, family) == Some(false) {
                    self.steady.entry(place).or_insert(passed);
                } else {
                    self.steady.remove(&place);
                }
            }
        }
        let mut returns = 0;
        for service in table.services().iter().map(|view| &view.service) {
            if service.default.tiers.iter().any(|pool| has_changed(*pool)) {
                for family in Family::ALL {
                    returns += usize::from(self.choose(service, family, table, passed));
                }
            }
        }
        returns
    }

    /// Whether the service has returned to an earlier tier because it was time.
    pub(super) fn choose(
        &mut self,
        service: &Service,
        family: Family,
        table: &Table,
        passed: Duration,
    ) -> bool {
        let place = (service.name.to_plain(), family);
        // The first tier is in use at first.
        let first = pools(service, table).next().map(|view| view.name.to_string()).unwrap_or_default();
        self.in_use.entry(place.clone()).or_insert(first.clone());
        let able: Vec<&PoolView> =
            pools(service, table).filter(|view| can_answer(view, family).is_some()).collect();
        let Some(able_first) = able.first() else {
            if service.failback == Failback::Auto {
                self.in_use.insert(place, first);
            }
            return false;
        };
        if let Some(pool) = self.failover(service, family, table) {
            self.in_use.insert(place, pool.to_owned());
            return false;
        }
        let in_use = self.in_use.get(&place);
        let present = able.iter().position(|view| in_use.is_some_and(|name| *name == *view.name));
        let is_allowed = |view: &&&PoolView| match service.failback {
            Failback::Auto => true,
            Failback::Manual => false,
            Failback::After(length) => {
                let since = self.steady.get(&(view.name.to_string(), family));
                since.is_some_and(|since| passed - *since >= length)
            }
        };
        let earlier = present.and_then(|present| able[..present].iter().find(is_allowed));
        let chosen = earlier.or(present.map(|present| &able[present])).unwrap_or(able_first);
        self.in_use.insert(place, chosen.name.to_string());
        earlier.is_some() && service.failback != Failback::Auto
    }

    /// The index of the tier in use.
    pub(super) fn tier(&self, service: &Service, family: Family, table: &Table) -> usize {
        let in_use = self.in_use.get(&(service.name.to_plain(), family));
        let position = |name: &String| pools(service, table).position(|view| *view.name == **name);
        in_use.and_then(position).unwrap_or(0)
    }

    /// The tiers in use, by the plans of a table.
    pub(super) fn in_use(&self, table: &Table) -> TiersInUse {
        let services = table.services().iter();
        let tiers = services.map(|view| {
            let tiers = Family::ALL.map(|family| Some(self.tier(&view.service, family, table)));
            (view.default_route().plan(), tiers)
        });
        tiers.collect()
    }

    /// The earlier tiers that could be in use, each with the time until it is taken.
    pub(super) fn waiting(
        &self,
        service: &Service,
        family: Family,
        table: &Table,
        passed: Duration,
    ) -> Vec<(usize, Option<Duration>)> {
        let (tier, is_auto) = (self.tier(service, family, table), service.failback == Failback::Auto);
        let is_auto = is_auto || self.failover(service, family, table).is_some();
        let is_used = pools(service, table).nth(tier).is_some_and(|view| can_answer(view, family).is_some());
        let earlier = pools(service, table).take(tier).enumerate().filter(|_| is_used && !is_auto);
        let able = earlier.filter(|(_, view)| can_answer(view, family).is_some());
        let left = |view: &PoolView| {
            let Failback::After(length) = service.failback else { return None };
            let since = self.steady.get(&(view.name.to_string(), family))?;
            Some((*since + length).saturating_sub(passed))
        };
        able.map(|(tier, view)| (tier, left(view))).collect()
    }

    /// For each service that waits, the time until it returns.
    pub(super) fn left(&self, table: &Table, passed: Duration) -> Vec<(String, Duration)> {
        let services = table.services().iter().map(|view| &view.service);
        let places = services.flat_map(|service| Family::ALL.map(|family| (service, family)));
        let waiting = places.flat_map(|(service, family)| {
            let waiting = self.waiting(service, family, table, passed).into_iter();
            waiting.filter_map(|(_, left)| Some((service.name.to_plain(), left?)))
        });
        waiting.collect()
    }
}
