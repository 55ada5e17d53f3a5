//! The invariants, checked at the end of each turn.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::fleet::simulation::model::{Address, Key};
use crate::fleet::simulation::world::World;
use crate::fleet::simulation::{Checked, ensure};
use crate::fleet::{AddressStatus, BackendStatus, Cursor, PoolStatus, Suspected};
use crate::health::Moment;
use crate::pool::{Family, OverrideKind};
use crate::table::{AddressCondition, PoolView, Progress, ServiceView, Table};

/// The resolution of stored times of day.
const MICROSECOND: Duration = Duration::from_micros(1);

/// The smallest jump of the time of day that is corrected.
const JUMP: Duration = Duration::from_secs(1);

/// Everything that the fleet reports.
pub(super) struct Status {
    pools: Vec<PoolStatus>,
    /// The index of the backend in the list below, and the address.
    pub(super) addresses: Vec<(usize, AddressStatus)>,
    backends: Vec<BackendStatus>,
    suspected: Option<Suspected>,
}

impl World {
    pub(super) fn status(&self) -> Status {
        let fleet = &self.subject.fleet;
        let piece = fleet.piece(Cursor::all(Arc::clone(fleet.table()))).expect("the table is the newest");
        assert!(piece.next.is_none(), "no world is larger than a piece");
        let (mut pools, mut addresses, mut backends) = (Vec::new(), Vec::new(), Vec::new());
        for pool in piece.pools {
            pools.extend(pool.pool);
            for mut backend in pool.backends {
                let own = std::mem::take(&mut backend.addresses);
                addresses.extend(own.into_iter().map(|address| (backends.len(), address)));
                backends.push(backend);
            }
        }
        Status { pools, addresses, backends, suspected: piece.suspected }
    }

    pub(super) fn check(&mut self) -> Checked {
        self.model.health.expire(self.now);
        let status = self.status();
        self.check_targets()?;
        self.check_addresses(&status)?;
        self.check_suspicions(&status)?;
        let before = std::mem::replace(&mut self.table, Arc::clone(self.subject.fleet.table()));
        self.check_table(&before)?;
        self.watch_tiers(None);
        self.check_tiers()?;
        self.check_views()?;
        self.check_certainty()?;
        (self.met.uncertain, self.met.completions) = (self.handed_out.uncertain, self.handed_out.completions);
        if !Arc::ptr_eq(&before, &self.table) {
            self.met.publishes += 1;
            self.trace_table();
        }
        Ok(())
    }

    fn check_targets(&self) -> Checked {
        let fleet = &self.subject.fleet;
        let (count, known) = (fleet.targets(), self.model.targets.len());
        ensure!(count == known, "there are {count} targets, and should be {known}");
        let (unknown, expected) = (fleet.unknown(), self.model.unknown());
        ensure!(unknown == expected, "{unknown} targets are unknown, and should be {expected}");
        let (taken, flights) = (fleet.slots.in_flight(), self.flights.len());
        ensure!(taken == flights, "{taken} slots are taken by {flights} probes");
        for (key, target) in &self.model.targets {
            let is_waiting = !target.in_flight && target.next.1 < self.now;
            let verdict = self.model.health.verdict(target.id);
            if let Some(truth) = target.behaviour.truth()
                && self.now > target.judged_from
                && !is_waiting
            {
                ensure!(
                    verdict == Some(truth),
                    "{key:?} is {verdict:?}, does {:?}, and should be known by {:?}",
                    target.behaviour,
                    target.judged_from
                );
            }
        }
        Ok(())
    }

    fn check_addresses(&mut self, status: &Status) -> Checked {
        let (shown, known) = (status.addresses.len(), self.model.addresses.len());
        ensure!(shown == known, "{shown} addresses are told of {known}");
        for (index, (backend, shown)) in status.addresses.iter().enumerate() {
            let (address, backend) = (&self.model.addresses[index], &status.backends[*backend]);
            self.check_address(address, backend, shown)?;
            let address = &mut self.model.addresses[index];
            if std::mem::replace(&mut address.percent, shown.percent) != shown.percent {
                self.touched[address.pool] = true;
            }
            self.met.shares += usize::from(shown.percent < 100);
        }
        Ok(())
    }

    fn check_address(&self, address: &Address, backend: &BackendStatus, shown: &AddressStatus) -> Checked {
        let (pool, name, host) = &address.name;
        ensure!(
            (&*backend.name, shown.address) == (name, *host),
            "{:?} is told as {} {}",
            address.name,
            backend.name,
            shown.address
        );
        ensure!(
            (shown.standing, shown.held) == (address.standing, address.held),
            "{:?} is {:?} (held: {}), should be {:?} ({})",
            address.name,
            shown.standing,
            shown.held,
            address.standing,
            address.held
        );
        let (shown_checks, keys) = (shown.checks.len(), address.keys.len());
        ensure!(shown_checks == keys, "{:?} has {shown_checks} checks, should have {keys}", address.name);
        let (low, high, _) = self.model.percent(address, self.now);
        let percent = f64::from(shown.percent);
        ensure!(
            (low..=high).contains(&percent),
            "{:?} has {percent} %, should have {low} to {high}",
            address.name
        );
        let overrides = [&backend.overridden, &backend.weight_override];
        for (kind, shown) in OverrideKind::ALL.into_iter().zip(overrides) {
            let kept = self.model.overrides.get(&(pool.clone(), name.clone(), kind));
            let value = kept.map(|kept| kept.value);
            ensure!(
                shown.as_ref().map(|shown| shown.value) == value,
                "{:?} is overridden by {shown:?}, should be {value:?}",
                address.name
            );
            let left = kept.and_then(|kept| kept.until).map(|until| until.saturating_sub(self.passed));
            let until = shown.as_ref().and_then(|shown| shown.until);
            let shown = until.map(|until| until.duration_since(self.wall).unwrap_or_default());
            ensure!(
                shown.is_some() == left.is_some()
                    && shown.unwrap_or_default().abs_diff(left.unwrap_or_default()) < JUMP,
                "the override of {:?} ends in {shown:?}, should end in {left:?}",
                address.name
            );
        }
        self.check_drawn(address, backend.weight, shown)
    }

    /// Checks that an eligible address is drawn with the operator's part of its weight, also while slow start and
    /// load reduce it, and that 0 % keeps it out.
    fn check_drawn(&self, address: &Address, configured: u32, shown: &AddressStatus) -> Checked {
        let (pool, name, _) = &address.name;
        let (state, percent) = self.model.said(pool, name);
        ensure!(percent > 0 || !shown.eligible, "{:?} is eligible with 0 % of its weight", address.name);
        if !shown.eligible {
            return Ok(());
        }
        let by_checks = match (state, shown.percent) {
            (Some(_), _) | (None, 0) => 100,
            (None, percent) => u32::from(percent),
        };
        let expected = configured * (by_checks * u32::from(percent)).div_ceil(100);
        ensure!(
            shown.drawn == expected,
            "{:?} is drawn with {} hundredths, should be {expected}",
            address.name,
            shown.drawn
        );
        Ok(())
    }

    fn check_suspicions(&mut self, status: &Status) -> Checked {
        let suspicions = self.model.health.suspicions();
        let is_suspected = |pool: Option<&str>| suspicions.iter().any(|other| other.pool.as_deref() == pool);
        for shown in &status.pools {
            let expected = is_suspected(Some(&shown.name));
            ensure!(
                shown.suspected.is_some() == expected,
                "pool {}: {:?}, and should be suspected: {expected}",
                shown.name,
                shown.suspected
            );
        }
        let (shown, expected) = (&status.suspected, is_suspected(None) || self.model.is_broken);
        ensure!(shown.is_some() == expected, "{shown:?}, and this machine should be suspected: {expected}");
        self.met.suspicions += usize::from(!suspicions.is_empty());
        Ok(())
    }

    /// Checks that the table is the successor of this one: it has the next generation, and only pools that
    /// were affected by an event have new views.
    pub(super) fn check_table(&self, before: &Arc<Table>) -> Checked {
        let now = self.subject.fleet.table();
        if Arc::ptr_eq(now, before) {
            return Ok(());
        }
        let are_same = before.pools().iter().zip(now.pools().iter()).all(|(old, new)| Arc::ptr_eq(old, new));
        // A table with other times of certainty has the same answers, apart from their TTLs.
        if now.generation == before.generation && are_same {
            return Ok(());
        }
        ensure!(
            now.generation == before.generation + 1,
            "generation {} follows {}",
            now.generation,
            before.generation
        );
        for ((before, now), touched) in before.pools().iter().zip(now.pools().iter()).zip(&self.touched) {
            ensure!(
                *touched || Arc::ptr_eq(before, now),
                "{} is made anew, and nothing has changed",
                now.name
            );
        }
        Ok(())
    }

    /// Checks that each view follows from its pool, standings, shares and overrides, and each decision from
    /// the views.
    fn check_views(&self) -> Checked {
        let (views, pools) = (self.table.pools(), &self.model.pools);
        ensure!(views.len() == pools.len(), "{} views of {} pools", views.len(), pools.len());
        let mut made = Vec::new();
        for (index, (setup, view)) in pools.iter().zip(views.iter()).enumerate() {
            let of_pool: Vec<&Address> =
                self.model.addresses.iter().filter(|address| address.pool == index).collect();
            let place = |backend: usize, place: usize| {
                let address = of_pool.iter().filter(|address| address.backend == backend).nth(place).unwrap();
                let (pool, name, _) = &address.name;
                let (overridden, weight) = self.model.said(pool, name);
                AddressCondition {
                    standing: address.standing,
                    held: address.held,
                    percent: address.percent,
                    overridden,
                    weight,
                }
            };
            let expected = PoolView::build(&setup.pool, None, place);
            ensure!(*view.name == *expected.name, "{} stands in the place of {}", view.name, expected.name);
            for family in Family::ALL {
                let (shown, expected) = (view.family(family), expected.family(family));
                let is_same = (shown.usable, shown.on_trust, shown.drained)
                    == (expected.usable, expected.on_trust, expected.drained)
                    && shown.eligible == expected.eligible
                    && shown.everyone == expected.everyone;
                ensure!(is_same, "{} is published as {shown:?}, should be {expected:?}", view.name);
            }
            made.push(Arc::new(expected));
        }
        let Table { generation, settings, catalog, .. } = &*self.table;
        let (settings, catalog) = (Arc::clone(settings), Arc::clone(catalog));
        // The orders of draws may differ.
        let rng = SmallRng::seed_from_u64(*generation);
        let made = Table::new(*generation, settings, catalog, Arc::clone(self.table.services()), made, rng);
        let made = made.with_tiers_in_use(self.tiers.in_use(&self.table), &Progress::NONE);
        let routes = made.services().iter().flat_map(ServiceView::routes);
        for (route, family) in routes.flat_map(|route| Family::ALL.map(|family| (route, family))) {
            let (shown, expected) = (self.table.decision(route, family), made.decision(route, family));
            let name = &route.service.service.name;
            ensure!(shown == expected, "{name:?} is decided as {shown:?}, not {expected:?}");
        }
        Ok(())
    }

    /// Checks that no due probe waits although it has a slot.
    pub(super) fn check_waiting(&mut self) -> Checked {
        let mut waiting = 0;
        for (key, target) in &self.model.targets {
            if target.in_flight || target.next.1 > self.now {
                continue;
            }
            waiting += 1;
            let due = target.next.1;
            ensure!(!self.has_slot(key), "{key:?} was due at {due:?} and waits beside a free slot");
        }
        self.met.waiting += waiting;
        Ok(())
    }

    /// Whether a probe of a target may start.
    fn has_slot(&self, key: &Key) -> bool {
        let flights = || self.flights.values();
        flights().count() < self.capacity.probes
            && flights().filter(|flight| flight.key.host == key.host).count() < 32
            && (!key.process || flights().filter(|flight| flight.key.process).count() < 64)
    }

    /// Checks that the fleet wants to wake in time for everything that happens by itself.
    pub(super) fn check_deadline(&self, deadline: Option<Moment>) -> Checked {
        let is_in_time = |end: Moment| deadline.is_some_and(|deadline| deadline <= end);
        for (key, target) in &self.model.targets {
            let (_, due) = target.next;
            // If it has no slot, it may already be waiting.
            if !target.in_flight && due > self.now && self.has_slot(key) {
                ensure!(is_in_time(due), "{key:?} is due at {due:?}, the next deadline is {deadline:?}");
            }
        }
        for suspicion in self.model.health.suspicions() {
            let end = suspicion.until;
            ensure!(is_in_time(end), "a suspicion ends at {end:?}, the next deadline is {deadline:?}");
        }
        for (names, kept) in &self.model.overrides {
            if let Some(until) = kept.until {
                let end = self.now + until.saturating_sub(self.passed) + MICROSECOND;
                ensure!(
                    is_in_time(end),
                    "the override of {names:?} ends at {end:?}, the next deadline is {deadline:?}"
                );
            }
        }
        for (name, until) in self.tiers.failover_ends() {
            let end = self.now + until.saturating_sub(self.passed) + MICROSECOND;
            ensure!(
                is_in_time(end),
                "the failover of {name} ends at {end:?}, the next deadline is {deadline:?}"
            );
        }
        for (name, left) in self.tiers.left(&self.table, self.passed) {
            let end = self.now + left + MICROSECOND;
            ensure!(is_in_time(end), "{name} returns at {end:?}, the next deadline is {deadline:?}");
        }
        for address in &self.model.addresses {
            if let (_, _, Some(end)) = self.model.percent(address, self.now) {
                let name = &address.name;
                ensure!(
                    is_in_time(end),
                    "the share of {name:?} ends by {end:?}, the next deadline is {deadline:?}"
                );
            }
        }
        Ok(())
    }
}
