//! One world: a fleet on a virtual clock, driven as the checker drives it, and exposed to all kinds of events.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::check::PoolSetup;
use crate::fleet::simulation::configuration::{Draw, steered};
use crate::fleet::simulation::handed_out::HandedOut;
use crate::fleet::simulation::journal::Journal;
use crate::fleet::simulation::met::Met;
use crate::fleet::simulation::model::{Fleet, Kept, Key};
use crate::fleet::simulation::planted::{Fault, Subject, time_of_day};
use crate::fleet::simulation::tiers::Tiers;
use crate::fleet::simulation::{Checked, ensure, milliseconds};
use crate::fleet::{
    BackendStatus, Capacity, Clocks, Due, FleetSetup, LATE, Launch, Memory, OverrideChange, OverrideRefused,
    OverrideRequest, Precondition, ProbeRun, Running,
};
use crate::health::simulation::behaviour::{Behaviour, longest_round};
use crate::health::{Moment, Outcome, TargetId};
use crate::pool::{MAX_WEIGHT_PERCENT, Override};
use crate::probe::{Cause, Report};
use crate::service::Failback;
use crate::table::Table;

/// The checker wakes at least this often.
const PULSE: Duration = Duration::from_millis(250);

/// The clock of elapsed time at the start. It makes the time of day plausible.
const START: Duration = Duration::from_secs(1_700_000_000);

/// A running probe.
pub(super) struct Flight {
    pub(super) running: Running,
    pub(super) key: Key,
    id: TargetId,
    started: Moment,
    outcome: Outcome,
    load: Option<u8>,
}

pub(super) struct World {
    pub(super) rng: SmallRng,
    pub(super) subject: Subject,
    pub(super) fault: Option<Fault>,
    pub(super) model: Fleet,
    pub(super) draw: Draw,
    pub(super) tiers: Tiers,
    pub(super) failback: [Failback; 2],
    pub(super) capacity: Capacity,
    pub(super) now: Moment,
    /// Includes time in suspend.
    pub(super) passed: Duration,
    /// The time of day.
    pub(super) wall: SystemTime,
    /// Keyed by the moment at which their outcome is seen, and a number.
    pub(super) flights: BTreeMap<(Moment, u64), Flight>,
    launched: u64,
    next_action: Moment,
    /// The longest time between two actions, milliseconds.
    pause: u64,
    /// When the process last woke too late.
    pub(super) stalled: Option<Moment>,
    /// The longest delay in waking and in noticing an outcome.
    pub(super) late: Duration,
    /// The probability of a void outcome.
    void: f64,
    /// Whether no probe can run.
    broken: bool,
    /// In a restless world, all backends fail and recover again and again: they are suspected and held.
    is_restless: bool,
    reports_load: bool,
    loads: BTreeMap<IpAddr, u8>,
    pub(super) journal: Journal,
    /// The table of the previous turn, and the pools affected by events since then.
    pub(super) table: Arc<Table>,
    pub(super) touched: Vec<bool>,
    /// A hash of everything in the run that is visible from outside.
    trace: DefaultHasher,
    pub(super) handed_out: HandedOut,
    pub(super) met: Met,
}

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let crowded = rng.random_bool(0.05);
        let draw = Draw::new(crowded, &mut rng);
        let probes = if crowded { 100 } else { [1, 3, 1000, 1000, 1000, 1000][rng.random_range(0..6)] };
        let capacity = Capacity { counting_threads: 1, probes };
        let late = milliseconds([0, 50, 400][rng.random_range(0..3)]);
        let void = [0.0, 0.0, 0.1][rng.random_range(0..3)];
        // Not by chance: every sweep needs some.
        let is_restless = seed.is_multiple_of(6);
        let pause = if is_restless { 6000 } else { [300, 1000, 4000][rng.random_range(0..3)] };
        let reports_load = rng.random_bool(0.4);
        let pools = draw.pools(&mut rng);
        let (now, passed, wall) = (Moment::ZERO, START, time_of_day(START));
        let clocks = Clocks { now, passed, wall };
        let failback = Draw::failback(&mut rng);
        let first = FleetSetup { served: steered(pools.clone(), 20, failback), memory: Memory::default() };
        let subject = Subject::new(first, capacity, clocks, &mut rng, fault);
        let table = Arc::clone(subject.fleet.table());
        let mut world = Self {
            rng,
            subject,
            fault,
            model: Fleet::default(),
            draw,
            tiers: Tiers::default(),
            failback,
            capacity,
            now,
            passed,
            wall,
            flights: BTreeMap::new(),
            launched: 0,
            next_action: milliseconds(1500),
            pause,
            stalled: None,
            late,
            void,
            broken: false,
            is_restless,
            reports_load,
            loads: BTreeMap::new(),
            journal: Journal::default(),
            table,
            touched: Vec::new(),
            trace: DefaultHasher::new(),
            handed_out: HandedOut::default(),
            met: Met::default(),
        };
        world.model.configure(pools, now, late);
        world.adopt();
        world
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Adds the visible content of a table to the trace.
    pub(super) fn trace_table(&mut self) {
        self.table.generation.hash(&mut self.trace);
        for family in self.table.pools().iter().flat_map(|pool| &pool.families) {
            family.usable.hash(&mut self.trace);
            for member in &*family.eligible.members {
                (member.address, member.backend).hash(&mut self.trace);
            }
        }
    }

    /// Runs a number of turns, and then until nothing is in flight.
    pub(super) fn run(&mut self, turns: usize) -> Checked {
        self.check()?;
        let turns = match (self.draw.is_crowded, self.is_restless) {
            // It has ten times the targets.
            (true, _) => turns / 4,
            // Holds begin only after several falls.
            (false, true) => turns * 4,
            (false, false) => turns,
        };
        for _ in 0..turns {
            self.turn()?;
        }
        while let Some((at, _)) = self.flights.keys().next().copied() {
            self.advance(at.max(self.now));
            self.land()?;
            self.subject.settle();
            self.subject.publish();
        }
        let kept = self.subject.fleet.slots.in_flight();
        ensure!(kept == 0, "{kept} slots are taken, and nothing is in flight");
        Ok(())
    }

    /// A turn, as in the checker.
    fn turn(&mut self) -> Checked {
        self.touched = vec![false; self.model.pools.len()];
        self.subject.set_clocks(self.clocks());
        self.start()?;
        let deadline = self.subject.next_deadline();
        self.check_deadline(deadline)?;
        let landing = self.flights.keys().next().map(|(at, _)| *at);
        let late = self.late.mul_f64(self.rng.random::<f64>());
        let wake = deadline.map(|deadline| deadline.max(self.now) + late);
        let next = wake.into_iter().chain(landing).chain([self.next_action]).min().unwrap_or(self.now);
        let next = next.max(self.now);
        // Pulses in which nothing is due are skipped, but a stall misses one.
        let mut wanted = deadline.map_or(next, |deadline| deadline.min(next));
        self.advance(next);
        if self.rng.random_bool(0.015) {
            wanted = wanted.min(self.now + PULSE).max(self.now);
            self.stall();
        }
        self.subject.set_clocks(self.clocks());
        if self.is_brief_state() && self.rng.random_bool(0.1) {
            self.next_action = self.now;
        }
        if self.now >= self.next_action {
            self.next_action = self.now + milliseconds(self.rng.random_range(0..self.pause));
            self.act()?;
        }
        self.subject.woke(wanted);
        if self.now.saturating_sub(wanted) > LATE {
            self.stalled = Some(self.now);
        }
        self.land()?;
        self.subject.settle();
        self.subject.publish();
        self.model.settle_broken();
        self.end_overrides();
        self.met.ended_failovers += self.tiers.end_failovers(self.passed);
        self.watch_tiers(None);
        if self.rng.random_bool(0.3)
            && let Some(memory) = self.subject.step_survey()
        {
            self.journal.complete(memory, self.wall);
            self.met.snapshots += 1;
            self.compare_memory(true)?;
        }
        self.check()
    }

    fn end_overrides(&mut self) {
        let before = self.model.overrides.len();
        let passed = self.passed;
        let touched = &mut self.touched;
        let pools = &self.model.pools;
        self.model.overrides.retain(|(pool, _, _), kept| {
            let is_over = kept.until.is_some_and(|until| until <= passed);
            if is_over && let Some(index) = pools.iter().position(|setup| setup.pool.name == *pool) {
                touched[index] = true;
            }
            !is_over
        });
        self.met.ended += before - self.model.overrides.len();
    }

    pub(super) fn clocks(&self) -> Clocks {
        Clocks { now: self.now, passed: self.passed, wall: self.wall }
    }

    pub(super) fn advance(&mut self, to: Moment) {
        // The calendar has a resolution of microseconds.
        let by = Duration::from_micros((to.as_micros() - self.now.as_micros()).try_into().unwrap());
        (self.now, self.passed, self.wall) = (to, self.passed + by, self.wall + by);
    }

    /// Stops the process for a while.
    fn stall(&mut self) {
        let length = milliseconds(self.rng.random_range(1..20_000));
        self.advance(self.now + length);
        self.met.stalls += 1;
        for target in self.model.targets.values_mut() {
            target.judged_from += length;
        }
    }

    /// Starts the due probes.
    fn start(&mut self) -> Checked {
        let mut due = Due::More;
        while due == Due::More {
            let mut launches = Vec::new();
            due = self.subject.start_due(&mut launches);
            for launch in launches {
                self.launch(launch)?;
            }
        }
        self.check_waiting()
    }

    fn launch(&mut self, launch: Launch) -> Checked {
        let Launch { run: ProbeRun { probe, address, timeout, .. }, running } = launch;
        let key = Key::new(&probe, address, timeout);
        (key, self.now).hash(&mut self.trace);
        self.met.launches += 1;
        let Some(target) = self.model.targets.get_mut(&key) else {
            return Err(format!("{key:?} is probed and not configured"));
        };
        ensure!(!target.in_flight, "two probes of {key:?} in flight");
        let (from, until) = target.next;
        ensure!(from <= self.now, "{key:?} is probed at {:?}, and due from {from:?}", self.now);
        target.in_flight = true;
        target.judged_from += self.now.saturating_sub(until);
        let (takes, mut outcome) = target.behaviour.answer(timeout, &mut self.rng);
        if self.broken || self.rng.random_bool(self.void) {
            outcome = Outcome::Void;
        }
        let late = self.late.mul_f64(self.rng.random::<f64>());
        let load = self.loads.get(&address).copied().filter(|_| outcome == Outcome::Passed);
        let flight = Flight { running, key, id: target.id, started: self.now, outcome, load };
        self.launched += 1;
        self.flights.insert((self.now + takes + late, self.launched), flight);
        ensure!(
            self.flights.len() <= self.capacity.probes,
            "{} probes are in flight, of at most {}",
            self.flights.len(),
            self.capacity.probes
        );
        let host = self.flights.values().filter(|flight| flight.key.host == address).count();
        ensure!(host <= 32, "{host} probes of {address} are in flight");
        let processes = self.flights.values().filter(|flight| flight.key.process).count();
        ensure!(processes <= 64, "{processes} processes are in flight");
        Ok(())
    }

    /// Hands in the reports of all probes that have ended.
    fn land(&mut self) -> Checked {
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((seen, _), flight) = entry.remove_entry();
            let Flight { running, key, id, started, outcome, load } = flight;
            let duration = if self.rng.random_bool(0.5) { seen } else { self.now } - started;
            let is_wanted = self.subject.fleet.wants(&running);
            let known = self.model.targets.get(&key).is_some_and(|target| target.id == id);
            ensure!(known == is_wanted, "whether a report of {key:?} is wanted: {is_wanted}");
            let report = report(outcome, load, duration);
            self.subject.ended(running, report, &mut self.rng);
            if known {
                self.hear(&key, started, outcome, load, duration);
            } else {
                self.met.stale += 1;
            }
        }
        Ok(())
    }

    /// Gives an outcome to the model.
    fn hear(
        &mut self,
        key: &Key,
        started: Moment,
        mut outcome: Outcome,
        load: Option<u8>,
        duration: Duration,
    ) {
        let (now, late) = (self.now, self.late);
        let Some(target) = self.model.targets.get_mut(key) else { return };
        let stalled = self.stalled.is_some_and(|stalled| started < stalled);
        if outcome == Outcome::Failed && (stalled || duration > key.timeout + LATE) {
            outcome = Outcome::Void;
        }
        let (id, timing) = (target.id, target.timing);
        let suspected = self.model.health.hear(id, outcome, now);
        target.in_flight = false;
        target.last = Some(outcome);
        target.next = self.model.health.next(id, outcome, now).window(timing.timeout, now);
        let round = longest_round(&timing, late);
        if outcome == Outcome::Void {
            self.met.voids += 1;
            target.judged_from += round;
        } else {
            target.hint = None;
        }
        if let Some(until) = suspected {
            let afterwards = until + timing.recheck + timing.timeout + late * 3;
            target.judged_from = target.judged_from.max(afterwards);
        }
        if let Some(until) = self.model.health.held_until(id) {
            self.met.held += 1;
            target.judged_from = target.judged_from.max(until + round);
        }
        if let Some(load) = load {
            self.model.loaded(key, load, now);
        }
        self.model.judge(Some(key), now);
        for address in self.model.addresses.iter().filter(|address| address.keys.contains(key)) {
            self.touched[address.pool] = true;
        }
        (key, outcome as u8, now).hash(&mut self.trace);
    }

    /// Whether a short-lived state exists in which more events should happen: a suspicion or a snapshot.
    fn is_brief_state(&self) -> bool {
        self.journal.is_begun() || !self.model.health.suspicions().is_empty()
    }

    /// Makes something happen to the fleet.
    fn act(&mut self) -> Checked {
        if self.is_brief_state() && self.rng.random_bool(0.5) {
            return if self.rng.random_bool(0.7) { self.reload() } else { self.compare_memory(false) };
        }
        if self.is_restless && self.rng.random_bool(0.7) {
            self.everyone_changes();
            return Ok(());
        }
        // Rare otherwise: a tier waits for a short time, and for one of several services.
        if self.is_a_tier_waiting() && self.rng.random_bool(0.1) {
            return self.fail_back();
        }
        match self.rng.random_range(0..100) {
            0..16 => self.everyone_changes(),
            16..40 => self.someone_changes(),
            40..49 => return self.override_backend(),
            49..52 => return self.override_many(),
            52..54 => return self.fail_back(),
            54..58 => return self.fail_over(),
            58..67 => return self.reload(),
            67..72 => {
                let by = milliseconds(self.rng.random_range(0..7_200_000));
                self.journal.spoil();
                self.wall = if self.rng.random() { self.wall + by } else { self.wall - by };
                self.subject.set_clocks(self.clocks());
            }
            72..75 => {
                // The machine is suspended.
                let length = milliseconds(self.rng.random_range(0..60_000));
                (self.passed, self.wall) = (self.passed + length, self.wall + length);
                self.subject.set_clocks(self.clocks());
            }
            75..78 => self.broken ^= true,
            78..86 => self.ask_for_changes(),
            86..92 => self.begin_memory(),
            92..97 => return self.compare_memory(false),
            _ => return self.restart(),
        }
        Ok(())
    }

    fn everyone_changes(&mut self) {
        let behaviour = match self.model.targets.values().next() {
            Some(target) if self.is_restless && target.behaviour == Behaviour::Serve => Behaviour::Refuse,
            Some(_) if self.is_restless => Behaviour::Serve,
            _ => self.a_behaviour(),
        };
        let keys: Vec<Key> = self.model.targets.keys().copied().collect();
        for key in keys {
            if self.rng.random_bool(0.95) {
                self.behave(&key, behaviour);
            }
        }
    }

    fn someone_changes(&mut self) {
        let behaviour = self.a_behaviour();
        let place = self.rng.random_range(0..self.model.targets.len().max(1));
        let Some(key) = self.model.targets.keys().nth(place).copied() else { return };
        let load = [0, 50, 100, self.rng.random_range(0..=100)][self.rng.random_range(0..4)];
        if self.reports_load && self.rng.random_bool(0.5) {
            self.loads.insert(key.host, load);
        } else {
            self.loads.remove(&key.host);
        }
        self.behave(&key, behaviour);
    }

    fn a_behaviour(&mut self) -> Behaviour {
        let serves = self.rng.random_bool(0.4);
        if serves { Behaviour::Serve } else { Behaviour::ALL[self.rng.random_range(0..Behaviour::ALL.len())] }
    }

    fn behave(&mut self, key: &Key, behaviour: Behaviour) {
        let Some(target) = self.model.targets.get_mut(key) else { return };
        if target.behaviour != behaviour {
            target.behaviour = behaviour;
            let bound = self.now + behaviour.bound(&target.timing, self.late);
            target.judged_from = target.judged_from.max(bound);
        }
    }

    fn override_backend(&mut self) -> Checked {
        let index = self.rng.random_range(0..self.model.pools.len().max(1));
        let Some(PoolSetup { pool, .. }) = self.model.pools.get(index) else { return Ok(()) };
        let place = self.rng.random_range(0..pool.backends.len().max(1));
        let Some(backend) = pool.backends.get(place) else { return Ok(()) };
        let change = if self.rng.random_bool(0.4) {
            let percents = [None, Some(0), Some(100), Some(self.rng.random_range(0..=MAX_WEIGHT_PERCENT))];
            OverrideChange::Weight(percents[self.rng.random_range(0..4)])
        } else {
            OverrideChange::State(Override::ALL.get(self.rng.random_range(0..5)).copied())
        };
        let name = (pool.name.clone(), backend.name.clone(), change.kind());
        let length = self.rng.random_bool(0.6).then(|| milliseconds(self.rng.random_range(1..8_000)));
        let force = self.rng.random_bool(0.5);
        let request = OverrideRequest {
            pool: name.0.clone(),
            backend: name.1.clone(),
            change,
            length,
            reason: None,
            force,
            by: "a test".into(),
            expected: Precondition::default(),
        };
        let before = Arc::clone(self.subject.fleet.table());
        match self.subject.override_backend(request) {
            Ok(overridden) => {
                let BackendStatus { overridden, weight_override, .. } = overridden.backend;
                let (shown, count) = match change {
                    OverrideChange::State(_) => (overridden, &mut self.met.overrides),
                    OverrideChange::Weight(_) => (weight_override, &mut self.met.weights),
                };
                let (value, shown) = (change.value(), shown.map(|status| status.value));
                ensure!(shown == value, "{name:?} should be {value:?}, and is {shown:?}");
                *count += 1;
                self.touched[index] = true;
                let until = length.map(|length| self.passed + length);
                match value {
                    Some(value) => drop(self.model.overrides.insert(name, Kept { value, until })),
                    None => drop(self.model.overrides.remove(&name)),
                }
                // It publishes a table itself.
                self.check_table(&before)?;
                self.watch_tiers(Some(&before));
                self.table = Arc::clone(self.subject.fleet.table());
                if self.rng.random_bool(0.2) {
                    self.begin_memory();
                }
            }
            Err(OverrideRefused::TakesAway(_)) if !force => {
                self.met.refused += 1;
                let after = self.subject.fleet.table();
                ensure!(Arc::ptr_eq(after, &before), "a refused override makes a table");
            }
            Err(refused) => return Err(format!("an override of {name:?} is refused: {refused:?}")),
        }
        Ok(())
    }
}

pub(super) fn report(outcome: Outcome, load: Option<u8>, duration: Duration) -> Report {
    Report {
        outcome,
        cause: match outcome {
            Outcome::Failed => Some(Cause::Refused),
            Outcome::Void => Some(Cause::Local),
            Outcome::Passed | Outcome::Draining => None,
        },
        detail: "simulated".into(),
        load,
        certificate_expires: None,
        duration,
        phases: Vec::new(),
        search_charge: Duration::ZERO,
    }
}
