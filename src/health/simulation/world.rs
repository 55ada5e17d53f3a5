//! One world: backends on a virtual clock, the table that watches them, and invariants that are
//! checked at every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::check::Timing;
use crate::health::schedule::{FIRST_ROUND, longest_jitter};
use crate::health::simulation::behaviour::{Behaviour, longest_round};
use crate::health::simulation::model::{Model, Next};
use crate::health::simulation::planted::{Fault, Subject};
use crate::health::simulation::{Checked, DEFAULTS, milliseconds, nanoseconds};
use crate::health::{Group, Moment, Outcome, TargetId, Ticket, Verdict};

/// A backend address as configured.
struct Backend {
    timing: Timing,
    behaviour: Behaviour,
    /// From this moment on, the verdict must match the behaviour.
    judged_from: Moment,
    in_flight: Option<Ticket>,
    /// The earliest and the latest due time of the next probe.
    next: (Moment, Moment),
    /// The period of that due time, if it is a tick.
    period: Option<Duration>,
    /// For each period, the offset of the first tick seen, nanoseconds.
    places: BTreeMap<Duration, u64>,
}

pub(super) struct World {
    rng: SmallRng,
    subject: Subject,
    model: Model,
    backends: BTreeMap<TargetId, Backend>,
    now: Moment,
    /// Probes in flight, by the moment at which their outcome is seen.
    flights: BTreeMap<(Moment, u64), (Ticket, Outcome)>,
    /// Tickets whose outcomes were accepted, or whose target was removed.
    stale: Vec<Ticket>,
    /// The longest delay until a start or an outcome is noticed.
    late: Duration,
    /// The probability of a void outcome.
    void: f64,
    /// The behaviours to draw from.
    moods: Vec<Behaviour>,
    pools: Vec<Pool>,
    pub(super) met: Met,
}

/// Whether both have the same elements, in any order.
fn are_alike<T: PartialEq>(some: &[T], others: &[T]) -> bool {
    some.len() == others.len() && some.iter().all(|one| others.contains(one))
}

/// Counts events in a world. If an event never occurs in a sweep, the sweep proves nothing about
/// it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Met {
    pub(super) transitions: usize,
    /// Failures that would have flipped an address without a suspicion.
    pub(super) kept: usize,
    /// Suspicions that survived a reload.
    pub(super) carried: usize,
    /// Steps with an active suspicion.
    pub(super) suspicions: usize,
    /// Outcomes of held addresses.
    pub(super) held: usize,
    /// The most falls stored for one address.
    pub(super) falls: usize,
    pub(super) voids: usize,
    pub(super) removed_in_flight: usize,
    /// Targets with a reused id.
    pub(super) used_again: usize,
    pub(super) draining: usize,
}

impl Met {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            transitions: self.transitions + other.transitions,
            kept: self.kept + other.kept,
            carried: self.carried + other.carried,
            suspicions: self.suspicions + other.suspicions,
            held: self.held + other.held,
            falls: self.falls.max(other.falls),
            voids: self.voids + other.voids,
            removed_in_flight: self.removed_in_flight + other.removed_in_flight,
            used_again: self.used_again + other.used_again,
            draining: self.draining + other.draining,
        }
    }
}

/// A group and its members.
struct Pool {
    name: Option<Arc<str>>,
    share: u8,
    members: Vec<TargetId>,
}

impl World {
    /// Draws a fleet from the seed.
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let late = Duration::from_millis([0, 5, 300][rng.random_range(0..3)]);
        let void = [0.0, 0.02, 0.3][rng.random_range(0..3)];
        let moods = match rng.random_range(0..3) {
            0 => vec![Behaviour::Serve, Behaviour::Hang],
            1 => vec![Behaviour::Serve, Behaviour::Refuse, Behaviour::Flap, Behaviour::Drain],
            _ => Behaviour::ALL.to_vec(),
        };
        let mut pools = vec![Pool { name: None, share: 90, members: Vec::new() }];
        for name in ["one", "two", "three"].into_iter().take(rng.random_range(1..4)) {
            let share = [1, 50, 90, 100][rng.random_range(0..4)];
            pools.push(Pool { name: Some(name.into()), share, members: Vec::new() });
        }
        let mut world = Self {
            rng,
            subject: Subject::new(fault),
            model: Model::default(),
            backends: BTreeMap::new(),
            now: Duration::ZERO,
            flights: BTreeMap::new(),
            stale: Vec::new(),
            late,
            void,
            moods,
            pools,
            met: Met::default(),
        };
        let count = [1, 3, 5, 8][world.rng.random_range(0..4)];
        let alike = world.rng.random_bool(0.5).then(|| world.random_timing());
        for _ in 0..count {
            let timing = alike.unwrap_or_else(|| world.random_timing());
            let id = world.add(timing, None);
            world.enlist(id);
        }
        world.set_groups();
        world
    }

    /// Runs a number of steps.
    pub(super) fn run(&mut self, steps: usize) -> Checked {
        for _ in 0..steps {
            let late = self.late.mul_f64(self.rng.random::<f64>());
            let wake = self.subject.next_deadline().map(|deadline| deadline.max(self.now) + late);
            let landing = self.flights.keys().next().map(|(at, _)| *at);
            let Some(next) = wake.into_iter().chain(landing).min() else {
                ensure!(self.backends.is_empty(), "nothing is due and nothing in flight: probing has ended");
                self.reload();
                continue;
            };
            self.now = self.now.max(next);
            match self.rng.random_range(0..1000) {
                0..4 => self.jump(),
                4..14 => self.everyone_changes(),
                14..64 => self.someone_changes(),
                64..74 => self.reload(),
                _ => {}
            }
            while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (ticket, outcome) = entry.remove();
                self.land(ticket, outcome)?;
            }
            while let Some(ticket) = self.subject.due(self.now) {
                self.launch(ticket)?;
            }
            self.model.expire(self.now);
            self.present_a_stale_ticket()?;
            self.check()?;
        }
        Ok(())
    }

    fn launch(&mut self, ticket: Ticket) -> Checked {
        let late = self.late.mul_f64(self.rng.random::<f64>());
        let void = self.rng.random_bool(self.void);
        let Some(backend) = self.backends.get_mut(&ticket.target) else {
            return Err(format!("{:?} is due and not configured", ticket.target));
        };
        ensure!(ticket.due <= self.now, "{ticket:?} is early at {:?}", self.now);
        let (from, until) = backend.next;
        ensure!(
            (from..=until).contains(&ticket.due),
            "{ticket:?} should be due from {from:?} to {until:?}: {:?}",
            backend.timing
        );
        if let Some(period) = backend.period {
            let length = nanoseconds(period);
            let place = nanoseconds(ticket.due) % length;
            let first = *backend.places.entry(period).or_insert(place);
            let apart = place.abs_diff(first).min(length - place.abs_diff(first));
            let jitter = longest_jitter(period, backend.timing.timeout);
            ensure!(apart <= nanoseconds(jitter), "{ticket:?} is {apart} ns beside its tick");
        }
        let before = backend.in_flight.replace(ticket);
        ensure!(before.is_none(), "two probes of {:?} in flight", ticket.target);
        ensure!(self.subject.is_current(ticket), "{ticket:?} has just been given out");
        let (takes, outcome) = backend.behaviour.answer(backend.timing.timeout, &mut self.rng);
        let outcome = if void { Outcome::Void } else { outcome };
        self.flights.insert((self.now + takes + late, ticket.serial), (ticket, outcome));
        Ok(())
    }

    fn land(&mut self, ticket: Ticket, outcome: Outcome) -> Checked {
        let id = ticket.target;
        self.stale.push(ticket);
        if self.backends.get(&id).is_none_or(|backend| backend.in_flight != Some(ticket)) {
            // The target was removed in the meantime; `present_a_stale_ticket` uses this ticket
            // later.
            return Ok(());
        }
        let before = self.subject.state(id);
        let suspected = self.model.hear(id, outcome, self.now);
        let transition = self.subject.handle_outcome(ticket, outcome, self.now, &mut self.rng);
        let after = self.subject.state(id);
        ensure!(
            transition.is_some() != before.is_same_verdict(after),
            "{before:?} to {after:?} with {outcome:?}, and told: {transition:?}"
        );
        if let Some(transition) = transition {
            self.met.transitions += 1;
            ensure!((transition.from, transition.to) == (before, after), "{transition:?} is {after:?}");
        }
        let Some(backend) = self.backends.get_mut(&id) else { return Ok(()) };
        backend.in_flight = None;
        let timing = backend.timing;
        let next = self.model.next(id, outcome, self.now);
        backend.next = next.window(timing.timeout, self.now);
        backend.period = if let Next::Tick(period) = next { Some(period) } else { None };
        let a_probe = longest_round(&timing, self.late);
        self.met.draining += usize::from(after.verdict() == Some(Verdict::Draining));
        if outcome == Outcome::Void {
            self.met.voids += 1;
            backend.judged_from += a_probe;
        }
        if let Some(until) = suspected {
            let up = after.verdict() != Some(Verdict::Unhealthy);
            self.met.kept += usize::from(up && after.contradictions() >= timing.fall);
            backend.judged_from =
                backend.judged_from.max(until + timing.recheck + timing.timeout + self.late * 3);
        }
        self.met.falls = self.met.falls.max(self.model.flaps(id));
        if let Some(until) = self.model.held_until(id) {
            self.met.held += 1;
            backend.judged_from = backend.judged_from.max(until + a_probe);
        }
        Ok(())
    }

    fn present_a_stale_ticket(&mut self) -> Checked {
        if self.stale.is_empty() {
            return Ok(());
        }
        let ticket = self.stale[self.rng.random_range(0..self.stale.len())];
        let outcome = [Outcome::Passed, Outcome::Failed][usize::from(self.rng.random::<bool>())];
        ensure!(!self.subject.is_current(ticket), "{ticket:?} has been used");
        let look = |subject: &Subject| {
            (subject.state(ticket.target), subject.next_deadline(), subject.unknown(), subject.suspicions())
        };
        let before = look(&self.subject);
        let transition = self.subject.handle_outcome(ticket, outcome, self.now, &mut self.rng);
        ensure!(transition.is_none() && before == look(&self.subject), "stale {ticket:?} changed something");
        Ok(())
    }

    /// Checks the invariants.
    fn check(&mut self) -> Checked {
        for (id, backend) in &self.backends {
            let (id, state) = (*id, self.subject.state(*id));
            let expected = self.model.verdict(id);
            ensure!(state.verdict() == expected, "{id:?} is {state:?}, should be {expected:?}");
            let (held, flaps) = (self.subject.held_until(id), self.subject.flaps(id));
            ensure!(held == self.model.held_until(id), "{id:?} is held until {held:?}");
            ensure!(usize::from(flaps) == self.model.flaps(id), "{id:?} has fallen {flaps} times");
            let (_, latest) = backend.next;
            ensure!(
                backend.in_flight.is_some() || latest >= self.now,
                "{id:?} should have been probed at {latest:?}"
            );
            if let Some(truth) = backend.behaviour.truth()
                && self.now > backend.judged_from
            {
                ensure!(
                    expected == Some(truth),
                    "{id:?} is {state:?}, but does {:?} and should be known by {:?}: {:?}",
                    backend.behaviour,
                    backend.judged_from,
                    backend.timing
                );
            }
        }
        let unknown = self.backends.keys().filter(|id| self.model.verdict(**id).is_none()).count();
        ensure!(self.subject.unknown() == unknown, "{} unknown", self.subject.unknown());
        let (told, expected) = (self.subject.suspicions(), self.model.suspicions());
        ensure!(are_alike(&told, &expected), "suspicions are {told:?}, should be {expected:?}");
        self.met.suspicions += usize::from(!told.is_empty());
        let (told, expected) = (self.subject.take_alarms(self.now), self.model.take_alarms());
        ensure!(are_alike(&told, &expected), "alarms are {told:?}, should be {expected:?}");
        Ok(())
    }

    /// Stalls the whole machine. Failures in the meantime become void, as in the checker.
    fn jump(&mut self) {
        let length = milliseconds(self.rng.random_range(1..60_000));
        self.now += length;
        for (_, outcome) in self.flights.values_mut() {
            if *outcome == Outcome::Failed {
                *outcome = Outcome::Void;
            }
        }
        for backend in self.backends.values_mut() {
            backend.judged_from += length;
            let (from, until) = backend.next;
            backend.next = (from, until.max(self.now));
        }
    }

    fn everyone_changes(&mut self) {
        let behaviour = self.moods[self.rng.random_range(0..self.moods.len())];
        let ids: Vec<TargetId> = self.backends.keys().copied().collect();
        let most = if self.rng.random_bool(0.7) { 1.0 } else { 0.8 };
        for id in ids {
            if self.rng.random_bool(most) {
                self.behave(id, behaviour);
            }
        }
    }

    fn someone_changes(&mut self) {
        let behaviour = self.moods[self.rng.random_range(0..self.moods.len())];
        if let Some(id) = self.someone() {
            self.behave(id, behaviour);
        }
    }

    fn behave(&mut self, id: TargetId, behaviour: Behaviour) {
        let Some(backend) = self.backends.get_mut(&id) else { return };
        if backend.behaviour == behaviour {
            return;
        }
        backend.behaviour = behaviour;
        let changed = self.now + behaviour.bound(&backend.timing, self.late);
        // Earlier delays of the verdict may still apply.
        backend.judged_from = backend.judged_from.max(changed);
    }

    fn someone(&mut self) -> Option<TargetId> {
        let index = self.rng.random_range(0..self.backends.len().max(1));
        self.backends.keys().nth(index).copied()
    }

    /// A reload: removes a target, adds one, or changes how it is probed.
    fn reload(&mut self) {
        let goes = self.rng.random_range(0..3) > 0;
        let comes = !goes || self.rng.random_bool(0.5);
        if goes && let Some(id) = self.someone() {
            let verdict = self.subject.state(id).verdict();
            let behaviour = self.backends[&id].behaviour;
            self.remove(id);
            if comes {
                let timing = self.random_timing();
                let id = self.add(timing, verdict);
                self.behave(id, behaviour);
                self.enlist(id);
            }
        } else if comes && self.backends.len() < 10 {
            let timing = self.random_timing();
            let id = self.add(timing, None);
            self.enlist(id);
        }
        // A removed target leaves its groups at once; a new one joins with the next groups.
        if self.rng.random_bool(0.7) {
            self.set_groups();
        }
    }

    fn add(&mut self, timing: Timing, verdict: Option<Verdict>) -> TargetId {
        let id = self.subject.add(timing, verdict, self.now, &mut self.rng);
        if self.model.knows(id) {
            // A planted defect has issued an id twice; later checks find the wrong target.
            return id;
        }
        self.met.used_again += usize::from(self.stale.iter().any(|ticket| ticket.target == id));
        self.model.add(id, timing, verdict, self.now);
        let judged_from = self.now + Behaviour::Serve.bound(&timing, self.late) + FIRST_ROUND;
        let (behaviour, in_flight, period, places) = (Behaviour::Serve, None, None, BTreeMap::new());
        let first = self.now + FIRST_ROUND.min(timing.interval.max(timing.interval_down));
        let next = (self.now, first);
        let backend = Backend { timing, behaviour, judged_from, in_flight, next, period, places };
        self.backends.insert(id, backend);
        id
    }

    fn remove(&mut self, id: TargetId) {
        self.subject.remove(id);
        self.model.remove(id);
        let backend = self.backends.remove(&id);
        let ticket = backend.and_then(|backend| backend.in_flight);
        self.met.removed_in_flight += usize::from(ticket.is_some());
        self.stale.extend(ticket);
        self.pools.iter_mut().for_each(|pool| pool.members.retain(|member| *member != id));
    }

    /// Adds a target to the group of all targets, and to some other groups.
    fn enlist(&mut self, id: TargetId) {
        for (index, pool) in self.pools.iter_mut().enumerate() {
            if index == 0 || self.rng.random_bool(0.6) {
                pool.members.push(id);
            }
        }
    }

    fn set_groups(&mut self) {
        let mut groups: Vec<Group> = (self.pools.iter())
            .map(|pool| Group {
                pool: pool.name.clone(),
                pace: 0,
                share: pool.share,
                members: pool.members.clone(),
            })
            .collect();
        if self.rng.random_bool(0.1) {
            groups.pop();
        }
        self.model.set_groups(groups.clone(), self.now);
        self.subject.set_groups(groups, self.now);
        self.met.carried += self.model.suspicions().len();
    }

    fn random_timing(&mut self) -> Timing {
        let rng = &mut self.rng;
        if rng.random_bool(0.3) {
            return DEFAULTS;
        }
        let interval = [200, 1000, 5000][rng.random_range(0..3)] + rng.random_range(0..1000);
        let timeout = rng.random_range(20..interval);
        Timing {
            interval: milliseconds(interval),
            timeout: milliseconds(timeout),
            rise: rng.random_range(1..5),
            fall: rng.random_range(1..5),
            recheck: milliseconds(rng.random_range(10..=interval)),
            interval_down: milliseconds(
                [interval, rng.random_range(timeout + 1..=interval * 4)][rng.random_range(0..2)],
            ),
            damping: rng.random_bool(0.7),
        }
    }
}
