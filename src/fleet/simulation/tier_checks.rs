//! Failback and failover by operators, and the checks of the tiers in use against the naive model in `tiers`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use crate::fleet::simulation::journal::Remembered;
use crate::fleet::simulation::planted::DAY;
use crate::fleet::simulation::tiers::{Place, can_answer, pools};
use crate::fleet::simulation::world::World;
use crate::fleet::simulation::{Checked, ensure, milliseconds};
use crate::fleet::{FailbackRequest, FailoverRequest, Precondition, ServiceRefused};
use crate::pool::{Family, PoolId};
use crate::service::Failback;
use crate::table::{Decision, ServiceView, Table};

/// The largest difference between the time of day and the calendar of the fleet.
const JUMP: Duration = Duration::from_secs(1);

impl World {
    /// Shows the model the published table. `before` is the previous table if it was published in the middle of a
    /// turn; at the end, everything whose time has come has happened.
    pub(super) fn watch_tiers(&mut self, before: Option<&Arc<Table>>) {
        let now = Arc::clone(self.subject.fleet.table());
        let has_changed = |id: PoolId| {
            before.is_none_or(|before| {
                before.pool(id).zip(now.pool(id)).is_none_or(|(before, now)| !Arc::ptr_eq(before, now))
            })
        };
        self.met.returns += self.tiers.watch(&now, self.passed, has_changed);
    }

    /// Checks the tiers in use, and which earlier tiers wait for how long.
    pub(super) fn check_tiers(&mut self) -> Checked {
        let table = Arc::clone(&self.table);
        for view in table.services().iter() {
            self.check_failover(view, &table)?;
            for family in Family::ALL {
                let (service, place) = (&view.service, (view.service.name.to_plain(), family));
                let shown = table.tier_in_use(view.default_route().plan(), family);
                let expected = self.tiers.tier(service, family, &table);
                ensure!(
                    shown.tier == expected,
                    "{place:?} ({}) has tier {} in use, should have {expected}",
                    service.failback,
                    shown.tier
                );
                let waiting = self.tiers.waiting(service, family, &table, self.passed);
                self.met.waiting_tiers += waiting.len();
                let soonest = waiting.iter().filter_map(|(_, left)| *left).min();
                let until = shown.waiting.map(|waiting| waiting.until);
                let wall = self.wall.duration_since(DAY).unwrap_or_default();
                let left = until.flatten().map(|until| until.saturating_sub(wall));
                ensure!(
                    shown.waiting.is_some() != waiting.is_empty()
                        && left.is_some() == soonest.is_some()
                        && left.unwrap_or_default().abs_diff(soonest.unwrap_or_default()) < JUMP,
                    "{place:?} shows {:?}, and waits for {waiting:?}",
                    shown.waiting
                );
            }
        }
        Ok(())
    }

    /// Whether an earlier tier of a service waits until it may be taken.
    pub(super) fn is_a_tier_waiting(&self) -> bool {
        let plans = self.table.services().iter().map(|view| view.default_route().plan());
        let waits = |plan| Family::ALL.map(|family| self.table.tier_in_use(plan, family).waiting.is_some());
        plans.flat_map(waits).any(|waits| waits)
    }

    /// An operator lets a service return.
    pub(super) fn fail_back(&mut self) -> Checked {
        let before = Arc::clone(self.subject.fleet.table());
        let count = before.services().len();
        let Some(view) = before.services().get(self.rng.random_range(0..count.max(1))) else { return Ok(()) };
        let service = &view.service;
        let (mut can_return, mut is_later) = (false, false);
        for family in Family::ALL.into_iter().filter(|_| view.failover.is_none()) {
            let tier = self.tiers.tier(service, family, &before);
            is_later |= tier > 0;
            if pools(service, &before).take(tier).any(|view| can_answer(view, family).is_some()) {
                can_return = true;
                self.tiers.in_use.remove(&(service.name.to_plain(), family));
            }
        }
        let request = FailbackRequest { service: service.name.clone(), by: "a test".into() };
        match self.subject.fleet.fail_back(&request) {
            Ok(_) => {
                ensure!(can_return || !is_later, "{} returned to a tier that is not usable", service.name);
            }
            Err(ServiceRefused::NotUsable(_)) if is_later && !can_return => self.met.refused_returns += 1,
            Err(ServiceRefused::Failover(_)) if view.failover.is_some() => return Ok(()),
            Err(refused) => return Err(format!("{} does not return: {refused:?}", service.name)),
        }
        if can_return {
            self.met.returns_by_hand += 1;
            self.check_table(&before)?;
            let passed = self.passed;
            let now = Arc::clone(self.subject.fleet.table());
            for family in Family::ALL {
                self.tiers.choose(service, family, &now, passed);
            }
            self.table = now;
        }
        Ok(())
    }

    fn check_failover(&mut self, view: &ServiceView, table: &Table) -> Checked {
        let name = view.service.name.to_plain();
        let expected = self.tiers.failovers.get(&name);
        let shown = view.failover.as_ref();
        let pool = shown.map(|shown| table.pool(shown.pool).unwrap().name.to_string());
        ensure!(
            pool.as_ref() == expected.map(|(pool, _)| pool),
            "{name} fails over to {pool:?}, not {expected:?}"
        );
        let left = expected.and_then(|(_, until)| *until).map(|until| until.saturating_sub(self.passed));
        let until = shown.and_then(|shown| shown.until);
        let wall = self.wall.duration_since(DAY).unwrap_or_default();
        let shown = until.map(|until| until.saturating_sub(wall));
        ensure!(
            shown.is_some() == left.is_some()
                && shown.unwrap_or_default().abs_diff(left.unwrap_or_default()) < JUMP,
            "the failover of {name} ends in {shown:?}, should end in {left:?}"
        );
        let is_idle = expected.is_some() && self.tiers.failover(&view.service, Family::Ipv4, table).is_none();
        self.met.idle_failovers += usize::from(is_idle);
        Ok(())
    }

    /// An operator puts a pool first, or ends that.
    pub(super) fn fail_over(&mut self) -> Checked {
        let before = Arc::clone(self.subject.fleet.table());
        let count = before.services().len();
        let Some(view) = before.services().get(self.rng.random_range(0..count.max(1))) else { return Ok(()) };
        let (service, name) = (&view.service, view.service.name.to_plain());
        let place = self.rng.random_range(0..service.default.tiers.len() + 1);
        let pool = service.default.tiers.get(place).map(|pool| &**before.pool(*pool).unwrap());
        let length = self.rng.random_bool(0.6).then(|| milliseconds(self.rng.random_range(1..8_000)));
        let force = self.rng.random_bool(0.5);

        let earlier = (self.tiers.in_use.clone(), self.tiers.failovers.clone());
        let until = length.map(|length| self.passed + length);
        match pool {
            Some(pool) => drop(self.tiers.failovers.insert(name.clone(), (pool.name.to_string(), until))),
            None => drop(self.tiers.failovers.remove(&name)),
        }
        let mut takes_away = pool.is_some_and(|pool| {
            let mut configured = pool.families.iter().filter(|family| !family.everyone.members.is_empty());
            configured.clone().next().is_none() || configured.any(|family| !family.usable)
        });
        for family in Family::ALL {
            let had = match before.decision(view.default_route(), family) {
                Decision::NoAddress => false,
                Decision::Down { is_configured } => *is_configured,
                Decision::Tier { .. } | Decision::FailOpen { .. } => true,
            };
            self.tiers.choose(service, family, &before, self.passed);
            let tier = self.tiers.tier(service, family, &before);
            let chosen = pools(service, &before).nth(tier);
            let can_answer = chosen.is_some_and(|view| can_answer(view, family).is_some());
            let has = chosen.is_some_and(|view| view.family(family).usable);
            takes_away |= had && can_answer && !has;
        }
        let request = FailoverRequest {
            service: service.name.clone(),
            pool: pool.map(|pool| pool.name.to_string()),
            length,
            reason: None,
            force,
            by: "a test".into(),
            expected: Precondition::default(),
        };
        match self.subject.fail_over(request) {
            Ok(_) => {
                ensure!(force || !takes_away, "a failover of {name} to {pool:?} is not refused");
                self.met.failovers += 1;
                self.check_table(&before)?;
                self.table = Arc::clone(self.subject.fleet.table());
            }
            Err(ServiceRefused::TakesAway(_)) if !force && takes_away => {
                self.met.refused_failovers += 1;
                (self.tiers.in_use, self.tiers.failovers) = earlier;
                let after = self.subject.fleet.table();
                ensure!(Arc::ptr_eq(after, &before), "a refused failover makes a table");
            }
            Err(refused) => return Err(format!("a failover of {name} is refused: {refused:?}")),
        }
        Ok(())
    }

    /// Checks the reported tiers in use and times of pools.
    pub(super) fn check_remembered_tiers(&self, real: &Remembered) -> Checked {
        let table = self.subject.fleet.table();
        let services = table.services().iter().map(|view| &view.service);
        let kept = || services.clone().filter(|service| service.failback != Failback::Auto);
        let mut expected: BTreeMap<Place, String> = BTreeMap::new();
        let mut steady: BTreeMap<Place, Duration> = BTreeMap::new();
        for (service, family) in kept().flat_map(|service| Family::ALL.map(|family| (service, family))) {
            if self.tiers.tier(service, family, table) > 0 {
                let place = (service.name.to_plain(), family);
                expected.extend(self.tiers.in_use.get(&place).map(|pool| (place, pool.clone())));
            }
            for view in pools(service, table) {
                let place = (view.name.to_string(), family);
                steady.extend(self.tiers.steady.get(&place).map(|since| (place, *since)));
            }
        }
        let tiers = real.tiers.values().filter_map(|tier| {
            Some(((tier.service.to_string(), tier.family), tier.pool.as_ref()?.to_string()))
        });
        let told: BTreeMap<Place, String> = tiers.collect();
        ensure!(told == expected, "the tiers {told:?} are told, not {expected:?}");
        let failovers = real.failovers.values().map(|kept| (&*kept.service, &*kept.pool));
        let known = self.tiers.failovers.iter().map(|(service, (pool, _))| (&**service, &**pool));
        ensure!(failovers.eq(known), "the failovers {:?} are told", real.failovers);
        let told: Vec<Place> = real.pools.keys().map(|(pool, family)| (pool.to_string(), *family)).collect();
        ensure!(told.iter().eq(steady.keys()), "{told:?} are told as usable, not {steady:?}");
        for ((pool, family), since) in &real.pools {
            let for_long = self.wall.duration_since(*since).unwrap_or_default();
            let expected = self.passed - steady[&(pool.to_string(), *family)];
            ensure!(
                for_long.abs_diff(expected) < JUMP,
                "{pool} is told to be usable for {for_long:?}, should be for {expected:?}"
            );
        }
        Ok(())
    }
}
