//! Whole fleets on a virtual clock: random timings, faults, local trouble and a late scheduler.
//!
//! Each run prints its seed; `STEERD_SEED=n` replays that one alone.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::health::{HealthTable, Moment, Outcome, State, TargetId, Ticket, Timing};

const DEFAULTS: Timing = Timing {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
    recheck: Duration::from_secs(1),
    interval_down: Duration::from_secs(5),
    damping: false,
};

/// How long a backend takes to say yes or no.
const LATENCY: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Serve,
    Refuse,
    Hang,
}

struct Backend {
    id: TargetId,
    timing: Timing,
    /// What it does from each moment on.
    script: Vec<(Moment, Behaviour)>,
    in_flight: Option<Ticket>,
    /// The outcomes since the last flip, void ones left out, and the verdict they stand against.
    history: Vec<Outcome>,
    verdict: Option<Outcome>,
    /// When each void outcome came.
    voids: Vec<Moment>,
}

impl Backend {
    fn new(id: TargetId, timing: Timing, script: Vec<(Moment, Behaviour)>) -> Self {
        let (history, voids) = (Vec::new(), Vec::new());
        Self { id, timing, script, in_flight: None, history, verdict: None, voids }
    }

    fn behaviour(&self, now: Moment) -> (Moment, Behaviour) {
        *self.script.iter().rev().find(|(from, _)| *from <= now).unwrap()
    }

    /// When a probe that starts now ends, and what it brings.
    fn answer(&self, start: Moment) -> (Moment, Outcome) {
        let (first, last) = (self.behaviour(start).1, self.behaviour(start + LATENCY).1);
        match (first, last) {
            (Behaviour::Serve, Behaviour::Serve) => (start + LATENCY, Outcome::Passed),
            (Behaviour::Hang, _) | (_, Behaviour::Hang) => (start + self.timing.timeout, Outcome::Failed),
            _ => (start + LATENCY, Outcome::Failed),
        }
    }

    /// The longest time from a change to the verdict on it; see `schedule` for the sum.
    fn bound(&self, behaviour: Behaviour, late: Duration, voids: u32) -> Duration {
        let timing = &self.timing;
        let period = timing.interval + timing.interval / 20;
        let outcomes = |count: u16, each: Duration| {
            (each + late * 2) * u32::from(count) + timing.recheck * u32::from(count - 1)
        };
        let sum = match behaviour {
            Behaviour::Refuse => period + outcomes(timing.fall, LATENCY),
            Behaviour::Hang => period + outcomes(timing.fall, timing.timeout),
            // One that hung when the change came must run out first.
            Behaviour::Serve => timing.timeout + late + period + outcomes(timing.rise, LATENCY),
        };
        sum + late + (timing.timeout + period + late * 2) * voids
    }

    /// The rule of thresholds, from the outcomes alone.
    fn expect(&mut self, outcome: Outcome, now: Moment) {
        if outcome == Outcome::Void {
            self.voids.push(now);
            return;
        }
        self.history.push(outcome);
        let wanted = match self.verdict {
            None => 1,
            Some(Outcome::Passed) => self.timing.fall,
            Some(_) => self.timing.rise,
        };
        let against = self.history.iter().rev().take_while(|one| Some(**one) != self.verdict).count();
        if against >= usize::from(wanted) {
            self.verdict = Some(outcome);
            self.history.clear();
        }
    }
}

struct World {
    rng: SmallRng,
    table: HealthTable,
    backends: Vec<Backend>,
    now: Moment,
    /// Probes on their way, by the moment their outcome is seen.
    flights: BTreeMap<(Moment, u64), (Ticket, Outcome)>,
    /// Tickets whose outcomes have been taken.
    stale: Vec<Ticket>,
    /// The most that a start or an outcome is noticed late.
    late: Duration,
    /// Chance of a void outcome.
    void: f64,
    /// When each backend was last found healthy or unhealthy.
    found: Vec<Vec<(Moment, State)>>,
}

impl World {
    fn new(seed: u64) -> Self {
        println!("replay with STEERD_SEED={seed}");
        Self {
            rng: SmallRng::seed_from_u64(seed),
            table: HealthTable::new(),
            backends: Vec::new(),
            now: Duration::ZERO,
            flights: BTreeMap::new(),
            stale: Vec::new(),
            late: Duration::ZERO,
            void: 0.0,
            found: Vec::new(),
        }
    }

    fn add(&mut self, timing: Timing, script: Vec<(Moment, Behaviour)>) {
        let id = self.table.add(timing, None, self.now, &mut self.rng);
        self.backends.push(Backend::new(id, timing, script));
        self.found.push(Vec::new());
    }

    fn lateness(&mut self) -> Duration {
        self.late.mul_f64(self.rng.random::<f64>())
    }

    fn run(&mut self, until: Moment) {
        loop {
            let late = self.lateness();
            let wake = self.table.next_deadline().map(|due| due.max(self.now) + late);
            let landing = self.flights.keys().next().map(|(at, _)| *at);
            let next = wake.into_iter().chain(landing).min().expect("something always comes next");
            if next > until {
                return;
            }
            self.now = next;
            while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= next) {
                let (ticket, outcome) = entry.remove();
                self.land(ticket, outcome);
            }
            while let Some(ticket) = self.table.due(self.now) {
                self.launch(ticket);
            }
            self.present_a_stale_ticket();
            self.check_promises();
        }
    }

    fn launch(&mut self, ticket: Ticket) {
        assert!(ticket.due <= self.now);
        let late = self.lateness();
        let void = self.rng.random_bool(self.void);
        let backend = &mut self.backends[ticket.target.index()];
        assert_eq!(backend.in_flight.replace(ticket), None, "one probe in flight per target");
        let (end, outcome) = backend.answer(self.now);
        let outcome = if void { Outcome::Void } else { outcome };
        self.flights.insert((end + late, ticket.serial), (ticket, outcome));
    }

    fn land(&mut self, ticket: Ticket, outcome: Outcome) {
        let index = ticket.target.index();
        let backend = &mut self.backends[index];
        assert_eq!(backend.in_flight.take(), Some(ticket));
        backend.expect(outcome, self.now);
        let before = self.table.state(ticket.target);
        let transition = self.table.handle_outcome(ticket, outcome, self.now, &mut self.rng);
        let state = self.table.state(ticket.target);
        let verdict = match state {
            State::Unknown => None,
            State::Healthy { .. } => Some(Outcome::Passed),
            State::Unhealthy { .. } => Some(Outcome::Failed),
            State::Draining { .. } => Some(Outcome::Draining),
        };
        assert_eq!(verdict, backend.verdict, "flips by the thresholds and by nothing else");
        assert_eq!(transition.is_some(), !before.is_same_verdict(state), "a transition tells of each flip");
        if let Some(transition) = transition {
            assert_eq!((transition.from, transition.to), (before, state));
            self.found[index].push((self.now, state));
        }
        self.stale.push(ticket);
    }

    fn present_a_stale_ticket(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let ticket = self.stale[self.rng.random_range(0..self.stale.len())];
        let outcome = [Outcome::Passed, Outcome::Failed][usize::from(self.rng.random::<bool>())];
        let before = (self.table.state(ticket.target), self.table.next_deadline(), self.table.unknown());
        assert_eq!(self.table.handle_outcome(ticket, outcome, self.now, &mut self.rng), None);
        let after = (self.table.state(ticket.target), self.table.next_deadline(), self.table.unknown());
        assert_eq!(before, after, "a stale ticket changes nothing");
    }

    fn check_promises(&self) {
        for backend in &self.backends {
            let (since, behaviour) = backend.behaviour(self.now);
            let voids = backend.voids.iter().filter(|at| **at >= since).count();
            let bound = backend.bound(behaviour, self.late, u32::try_from(voids).unwrap());
            if self.now > since + bound {
                let state = self.table.state(backend.id);
                let found = matches!(
                    (behaviour, state),
                    (Behaviour::Serve, State::Healthy { .. })
                        | (Behaviour::Refuse | Behaviour::Hang, State::Unhealthy { .. })
                );
                assert!(found, "{behaviour:?} for over {bound:?} and still {state:?}: {:?}", backend.timing);
            }
        }
        let known = self.backends.iter().all(|backend| backend.verdict.is_some());
        assert_eq!(self.table.all_known(), known);
    }

    fn random_timing(&mut self) -> Timing {
        let rng = &mut self.rng;
        if rng.random_bool(0.3) {
            return DEFAULTS;
        }
        let interval = rng.random_range(100..10_000);
        Timing {
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(rng.random_range(20..interval)),
            rise: rng.random_range(1..5),
            fall: rng.random_range(1..5),
            recheck: Duration::from_millis(rng.random_range(10..=interval)),
            interval_down: Duration::from_millis(interval),
            damping: false,
        }
    }

    /// Long spells with flapping in between.
    fn random_script(&mut self, until: Moment) -> Vec<(Moment, Behaviour)> {
        let mut script = Vec::new();
        let mut at = Duration::ZERO;
        while at < until {
            let behaviour = [Behaviour::Serve, Behaviour::Serve, Behaviour::Refuse, Behaviour::Hang]
                [self.rng.random_range(0..4)];
            script.push((at, behaviour));
            let longest = if self.rng.random_bool(0.5) { 3_000 } else { 90_000 };
            at += Duration::from_millis(self.rng.random_range(1..longest));
        }
        script
    }
}

/// Runs with many seeds, or with the one asked for.
fn with_seeds(count: u64, run: impl Fn(u64)) {
    match std::env::var("STEERD_SEED") {
        Ok(seed) => run(seed.parse().expect("STEERD_SEED is a number")),
        Err(_) => (0..count).map(|_| rand::random()).for_each(run),
    }
}

#[test]
fn random_fleets_keep_the_promises() {
    with_seeds(100, |seed| {
        let mut world = World::new(seed);
        let minutes = Duration::from_secs(240);
        world.late = Duration::from_millis([0, 5, 300][world.rng.random_range(0..3)]);
        world.void = [0.0, 0.05, 0.4][world.rng.random_range(0..3)];
        for _ in 0..world.rng.random_range(1..30) {
            let timing = world.random_timing();
            let script = world.random_script(minutes);
            world.add(timing, script);
        }
        world.run(minutes);
    });
}

/// Times from a death at a random moment to the verdict, in seconds, one for each seed.
fn detection_times(fault: Behaviour, company: &[Behaviour]) -> Vec<f64> {
    let times = std::cell::RefCell::new(Vec::new());
    with_seeds(3000 / (1 + company.len() as u64), |seed| {
        let mut world = World::new(seed);
        let death = Duration::from_secs(20) + Duration::from_nanos(world.rng.random_range(0..5_000_000_000));
        world.add(DEFAULTS, vec![(Duration::ZERO, Behaviour::Serve), (death, fault)]);
        for behaviour in company {
            world.add(DEFAULTS, vec![(Duration::ZERO, *behaviour)]);
        }
        world.run(death + Duration::from_secs(20));
        let (found, state) = *world.found[0].last().unwrap();
        assert_eq!(state, State::Unhealthy { successes: 0 });
        times.borrow_mut().push((found - death).as_secs_f64());
    });
    times.into_inner()
}

/// Within the bounds, and the bounds are no wider than they have to be.
fn assert_between(times: &[f64], least: f64, most: f64) {
    let (low, high) = times.iter().fold((f64::MAX, 0.0_f64), |(low, high), t| (low.min(*t), high.max(*t)));
    assert!(low >= least && high <= most + 0.25 + 0.01, "found after {low} to {high} s");
    if times.len() > 1000 {
        assert!(low < least + 0.2 && high > most - 0.2, "found after {low} to {high} s: not as documented");
    }
}

#[test]
fn a_refusing_backend_is_found_in_2_to_7_seconds() {
    assert_between(&detection_times(Behaviour::Refuse, &[]), 2.0, 7.0);
}

#[test]
fn a_silent_backend_is_found_in_8_to_13_seconds() {
    // A probe in flight at the moment of death has a head start of its latency.
    assert_between(&detection_times(Behaviour::Hang, &[]), 8.0 - LATENCY.as_secs_f64(), 13.0);
}

#[test]
fn a_black_hole_among_fifty_delays_no_other() {
    let mut company = [Behaviour::Serve; 49];
    company[7] = Behaviour::Hang;
    assert_between(&detection_times(Behaviour::Refuse, &company), 2.0, 7.0);
}

#[test]
fn a_hundred_thousand_targets_start_within_one_round_and_then_spread_evenly() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut table = HealthTable::new();
    for _ in 0..100_000 {
        table.add(DEFAULTS, None, Duration::ZERO, &mut rng);
    }
    let mut starts = Vec::new();
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(30) {
        now += Duration::from_millis(10);
        let mut count = 0;
        while let Some(ticket) = table.due(now) {
            table.handle_outcome(ticket, Outcome::Passed, now, &mut rng);
            count += 1;
        }
        starts.push(count);
        assert!(table.all_known() || now < super::FIRST_ROUND);
    }
    // 20,000 a second are 200 in each slot of 10 ms.
    let steady = &starts[600..];
    assert!(steady.iter().all(|count| (100..300).contains(count)), "{:?}", steady.iter().max());
}
