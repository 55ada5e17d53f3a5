//! Reloads and restarts, and the state that must survive them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rand::RngExt;

use crate::fleet::simulation::configuration::{Draw, steered};
use crate::fleet::simulation::journal::Remembered;
use crate::fleet::simulation::model::{Fleet, Kept, OverrideName};
use crate::fleet::simulation::planted::Subject;
use crate::fleet::simulation::tiers::Tiers;
use crate::fleet::simulation::world::World;
use crate::fleet::simulation::{Checked, ensure, milliseconds};
use crate::fleet::{FleetSetup, NewConfiguration, Survey};
use crate::health::Verdict;
use crate::table::Standing;

/// Pool, backend, address and check.
type Check = (String, String, IpAddr, String);

/// The known state of all addresses before a reload.
struct Known {
    checks: BTreeMap<Check, Verdict>,
    /// The addresses with a known standing and a known verdict of each check.
    addresses: Vec<(String, String, IpAddr)>,
}

impl World {
    /// Adds the targets that a start or a reload has created to the model.
    pub(super) fn adopt(&mut self) {
        let status = self.status();
        let mut shown = Vec::new();
        for (address, (_, status)) in self.model.addresses.iter().zip(&status.addresses) {
            shown.extend(address.keys.iter().copied().zip(status.checks.iter().cloned()));
        }
        for (key, check) in shown {
            self.model.adopt(&key, &check, self.now);
        }
        self.model.regroup(self.now);
        self.model.judge(None, self.now);
        self.watch_tiers(None);
        self.touched = vec![true; self.model.pools.len()];
        self.table = Arc::clone(self.subject.fleet.table());
        self.trace_table();
    }

    pub(super) fn reload(&mut self) -> Checked {
        let pools = if self.rng.random_bool(0.4) {
            self.draw.pools(&mut self.rng)
        } else {
            self.draw.tweaked(&self.model.pools, &mut self.rng)
        };
        let ttl = [20, 300][self.rng.random_range(0..2)];
        let known = self.known();
        let before = Arc::clone(&self.table);
        if self.rng.random_bool(0.3) {
            self.failback = Draw::failback(&mut self.rng);
        }
        let next = steered(pools.clone(), ttl, self.failback);
        let wanted = NewConfiguration::of(&self.subject.fleet.configuration(), next);
        let reloaded = self.subject.reload(wanted, &mut self.rng);
        let generation = self.subject.fleet.table().generation;
        ensure!(
            generation == before.generation + 1 && reloaded.generation == generation,
            "generation {generation} and {} follow {}",
            reloaded.generation,
            before.generation
        );
        self.model.configure(pools, self.now, self.late);
        let names: Vec<(&str, &str)> = (self.model.pools.iter())
            .flat_map(|setup| setup.pool.backends.iter().map(|backend| (&*setup.pool.name, &*backend.name)))
            .collect();
        let lost = self
            .model
            .overrides
            .extract_if(.., |(pool, backend, _), _| !names.contains(&(pool.as_str(), backend.as_str())));
        let lost: Vec<OverrideName> = lost.map(|(name, _)| name).collect();
        let told = reloaded.lost.iter();
        let mut told: Vec<OverrideName> =
            told.map(|lost| (lost.pool.to_string(), lost.backend.to_string(), lost.value.kind())).collect();
        told.sort();
        ensure!(told == lost, "overrides of {told:?} are said to be lost, and of {lost:?} are");
        let lost_failovers = self.tiers.rename(self.subject.fleet.table());
        let mut told: Vec<String> =
            reloaded.lost_failovers.iter().map(|lost| lost.service.to_string()).collect();
        told.sort();
        ensure!(told == lost_failovers, "failovers of {told:?} are said to be lost, not {lost_failovers:?}");
        self.met.lost_failovers += lost_failovers.len();
        (self.met.reloads, self.met.lost) = (self.met.reloads + 1, self.met.lost + lost.len());
        self.adopt();
        self.check_known(&known)?;
        self.end_unwanted();
        Ok(())
    }

    /// Ends most of the probes that are no longer wanted; the others end by themselves.
    fn end_unwanted(&mut self) {
        let fleet = &self.subject.fleet;
        let unwanted: Vec<_> =
            self.flights.extract_if(.., |_, flight| !fleet.wants(&flight.running)).collect();
        for ((at, number), flight) in unwanted {
            let at = if self.rng.random_bool(0.7) { self.now } else { at };
            self.flights.insert((at, number), flight);
        }
    }

    fn known(&self) -> Known {
        let mut known = Known { checks: BTreeMap::new(), addresses: Vec::new() };
        for address in &self.model.addresses {
            let (pool, backend, host) = address.name.clone();
            let checks = &self.model.pools[address.pool].checks;
            let verdicts: Vec<Option<Verdict>> =
                address.keys.iter().map(|key| self.model.verdict(key)).collect();
            for (check, verdict) in checks.iter().zip(&verdicts) {
                let name = (pool.clone(), backend.clone(), host, check.name.clone());
                known.checks.extend(verdict.map(|verdict| (name, verdict)));
            }
            let is_enabled = self.model.pools[address.pool].pool.backends[address.backend].enabled;
            if address.standing != Standing::Unknown && is_enabled && verdicts.iter().all(Option::is_some) {
                known.addresses.push(address.name.clone());
            }
        }
        known
    }

    /// Checks that a reload makes nothing unknown that was known before.
    fn check_known(&self, before: &Known) -> Checked {
        for address in &self.model.addresses {
            let setup = &self.model.pools[address.pool];
            if !setup.pool.backends[address.backend].enabled {
                continue;
            }
            ensure!(
                address.standing != Standing::Unknown || !before.addresses.contains(&address.name),
                "a reload makes {:?} unknown",
                address.name
            );
            for (check, key) in setup.checks.iter().zip(&address.keys) {
                let (pool, backend, host) = address.name.clone();
                let name = (pool, backend, host, check.name.clone());
                ensure!(
                    self.model.verdict(key).is_some() || !before.checks.contains_key(&name),
                    "a reload makes {name:?} unknown"
                );
            }
        }
        Ok(())
    }

    /// Ends the process and starts it again with the remembered state.
    pub(super) fn restart(&mut self) -> Checked {
        if self.rng.random_bool(0.6) {
            if !self.journal.is_begun() {
                self.begin_memory();
            }
            while self.journal.is_begun() {
                if let Some(memory) = self.subject.step_survey() {
                    self.journal.complete(memory, self.wall);
                }
            }
            self.compare_memory(true)?;
        }
        self.journal.end();
        self.flights.clear();
        self.stalled = None;
        let length = milliseconds(self.rng.random_range(0..30_000));
        self.advance(self.now + length);
        self.met.restarts += 1;

        let remembered = self.journal.until(self.wall);
        let (pools, overrides) = (self.model.pools.clone(), self.recalled(&remembered));
        self.model = Fleet::new(overrides);
        self.model.configure(pools.clone(), self.now, self.late);
        self.met.recalled += remembered.tiers.len();
        self.tiers = Tiers::recalled(&remembered, (self.wall, self.passed));
        let served = steered(pools, 20, self.failback);
        let first = FleetSetup { served, memory: remembered.memory() };
        let clocks = self.clocks();
        self.subject = Subject::new(first, self.capacity, clocks, &mut self.rng, self.fault);
        self.tiers.rename(self.subject.fleet.table());
        self.adopt();
        self.check_recalled(&remembered)
    }

    /// The remembered overrides that have not ended.
    fn recalled(&self, remembered: &Remembered) -> BTreeMap<OverrideName, Kept> {
        let names: Vec<(String, String)> = (self.model.pools.iter())
            .flat_map(|setup| {
                setup.pool.backends.iter().map(|backend| (setup.pool.name.clone(), backend.name.clone()))
            })
            .collect();
        let lasting = |(pool, backend): (&Arc<str>, &Arc<str>), until| {
            let is_known = names.contains(&(pool.to_string(), backend.to_string()));
            is_known && until > self.wall
        };
        let kept = remembered.overrides.iter().filter_map(|((pool, backend, kind), kept)| {
            let until = kept.until;
            lasting((pool, backend), until.unwrap_or(self.wall + milliseconds(1))).then(|| {
                let until =
                    until.map(|until| self.passed + until.duration_since(self.wall).unwrap_or_default());
                ((pool.to_string(), backend.to_string(), *kind), Kept { value: kept.value, until })
            })
        });
        kept.collect()
    }

    /// Checks that each remembered verdict applies until a newer one exists.
    fn check_recalled(&self, remembered: &Remembered) -> Checked {
        for address in &self.model.addresses {
            let (pool, backend, host) = &address.name;
            for (check, key) in self.model.pools[address.pool].checks.iter().zip(&address.keys) {
                let name = ((&**pool).into(), (&**backend).into(), *host, check.name.as_str().into());
                let Some(state) = remembered.states.get(&name) else { continue };
                // Two checks of one address may share a target too, if the backend sets the port of both.
                let keys = self.model.addresses.iter().flat_map(|other| &other.keys);
                let users = keys.filter(|other| *other == key).count();
                let verdict = self.model.verdict(key);
                ensure!(
                    verdict == Some(state.verdict) || (users > 1 && verdict.is_some()),
                    "{:?} is remembered as {:?}, and is {verdict:?}",
                    address.name,
                    state.verdict
                );
            }
        }
        Ok(())
    }

    pub(super) fn ask_for_changes(&mut self) {
        let changes = self.subject.memory_changes();
        self.journal.append(changes, self.wall);
    }

    pub(super) fn begin_memory(&mut self) {
        if !self.journal.is_begun() {
            self.subject.begin_memory();
            self.journal.begin();
        }
    }

    /// Checks that the snapshot and the later changes give the current state of the fleet. `is_fresh` if the
    /// snapshot was just completed: if a reload happened meanwhile, its verdicts may differ from the fleet's
    /// until the next snapshot, but none is missing.
    pub(super) fn compare_memory(&mut self, is_fresh: bool) -> Checked {
        let was_whole = self.journal.is_whole && is_fresh;
        loop {
            let changes = self.subject.memory_changes();
            let more = changes.more;
            self.journal.append(changes, self.wall);
            if !more {
                break;
            }
        }
        let mut survey = Survey::default();
        let real = loop {
            if let Some(memory) = survey.step(&self.subject.fleet) {
                break Remembered::from(memory);
            }
        };
        self.check_real(&real)?;
        let Remembered { states, overrides, tiers, pools, failovers } = &self.journal.remembered;
        if self.journal.has_snapshot {
            self.met.compared += 1;
            ensure!(overrides == &real.overrides, "remembered are {overrides:?}, not {:?}", real.overrides);
            ensure!(tiers == &real.tiers, "remembered are {tiers:?}, not {:?}", real.tiers);
            ensure!(pools == &real.pools, "remembered are {pools:?}, not {:?}", real.pools);
            ensure!(failovers == &real.failovers, "remembered are {failovers:?}, not {:?}", real.failovers);
            let is_exact = self.journal.is_whole;
            if (is_exact || was_whole) && !self.journal.is_begun() {
                for (name, state) in &real.states {
                    let remembered = states.get(name);
                    let is_right = if is_exact { remembered == Some(state) } else { remembered.is_some() };
                    ensure!(is_right, "{state:?} is remembered as {remembered:?}");
                }
                let gone = states.keys().find(|name| is_exact && !real.states.contains_key(*name));
                ensure!(gone.is_none(), "{gone:?} is remembered, and unknown");
            }
        }
        Ok(())
    }

    /// Checks that the fleet reports the state that it has.
    fn check_real(&self, real: &Remembered) -> Checked {
        let told: BTreeMap<OverrideName, _> = (real.overrides.iter())
            .map(|((pool, backend, kind), kept)| ((pool.to_string(), backend.to_string(), *kind), kept.value))
            .collect();
        let overrides: BTreeMap<OverrideName, _> =
            self.model.overrides.iter().map(|(name, kept)| (name.clone(), kept.value)).collect();
        ensure!(told == overrides, "the overrides {told:?} are told, not {overrides:?}");
        self.check_remembered_tiers(real)?;
        let mut count = 0;
        for address in &self.model.addresses {
            let (pool, backend, host) = &address.name;
            for (check, key) in self.model.pools[address.pool].checks.iter().zip(&address.keys) {
                let name = ((&**pool).into(), (&**backend).into(), *host, check.name.as_str().into());
                let told = real.states.get(&name).map(|state| state.verdict);
                let verdict = self.model.verdict(key);
                ensure!(told == verdict, "{name:?} is {verdict:?}, and told as {told:?}");
                count += usize::from(told.is_some());
            }
        }
        ensure!(count == real.states.len(), "{} verdicts are told of {count} checks", real.states.len());
        Ok(())
    }
}
