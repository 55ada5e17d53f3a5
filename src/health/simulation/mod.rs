//! Simulates the health table with many targets on a virtual clock.
//!
//! ```text
//! behaviour how backends answer, and how soon that must be known
//! world     random fleets, faults, reloads, stalls; asserts the invariants at each step
//! model     a naive implementation of the rules, compared at each step
//! planted   deliberate defects, each of which the simulation must find
//! groups    scenes of suspicion
//! figures   the time to detect a death, and the effects of stalls
//! ```
//!
//! Each failure prints its seed; `STEERD_SEED=n` replays that run alone.

/// Returns the sentence as an error unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($sentence:tt)+) => {
        if !$holds {
            return Err(format!($($sentence)+));
        }
    };
}
pub(crate) use ensure;

pub(crate) mod behaviour;
mod figures;
mod groups;
pub(crate) mod model;
mod planted;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::check::Timing;
use crate::health::{HealthTable, Moment, Outcome, TargetId, Ticket, Transition};

use planted::{FAULTS, Fault};
use world::{Met, World};

/// The error describes the violation in a sentence.
pub(crate) type Checked = Result<(), String>;

pub(crate) const DEFAULTS: Timing = Timing {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
    recheck: Duration::from_secs(1),
    interval_down: Duration::from_secs(5),
    damping: true,
};

/// The latency of a backend's answer.
pub(crate) const LATENCY: Duration = Duration::from_millis(2);

/// The number of worlds per test run.
const WORLDS: u64 = 3000;

pub(crate) fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// The seeds of `count` runs, or the requested seed. Prints the first one; the others count up from
/// it.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let asked = asked_for();
    let (first, count) = (asked.unwrap_or_else(any_seed), if asked.is_some() { 1 } else { count });
    println!("{count} runs, the first is STEERD_SEED={first}");
    first..first + count
}

pub(crate) fn asked_for() -> Option<u64> {
    std::env::var("STEERD_SEED").ok().map(|seed| seed.parse().expect("STEERD_SEED is a number"))
}

/// A random seed, small enough for counting up without overflow.
pub(crate) fn any_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// Runs one world. Every tenth is long enough for the longest holds.
fn sweep(seed: u64, fault: Option<Fault>) -> Result<Met, String> {
    let steps = if seed.is_multiple_of(10) { 3000 } else { 300 };
    let mut world = World::new(seed, fault);
    world.run(steps)?;
    Ok(world.met)
}

fn assert_worlds_keep_the_promises() {
    let mut met = Met::default();
    for seed in seeds(WORLDS / 2) {
        let world = sweep(seed, None);
        met = met.and(world.unwrap_or_else(|sentence| panic!("{sentence}\nreplay with STEERD_SEED={seed}")));
    }
    println!("{met:?}");
    if asked_for().is_none() {
        let counts = [met.transitions, met.kept, met.carried, met.suspicions, met.held, met.voids];
        assert!(counts.iter().all(|count| *count >= 100), "hardly tried: {met:?}");
        let counts = [met.removed_in_flight, met.used_again, met.draining];
        assert!(counts.iter().all(|count| *count >= 100), "hardly tried: {met:?}");
        assert!(met.falls >= 5, "no long hold was tried: {met:?}");
    }
}

#[test]
fn random_worlds_keep_the_promises() {
    assert_worlds_keep_the_promises();
}

#[test]
fn other_random_worlds_keep_the_promises_at_the_same_time() {
    assert_worlds_keep_the_promises();
}

#[test]
fn every_planted_fault_is_found_by_the_sweep() {
    let first = asked_for().unwrap_or_else(any_seed);
    println!("the first of at most {WORLDS} worlds is STEERD_SEED={first}");
    for fault in FAULTS {
        let found = (first..first + WORLDS).find_map(|seed| Some((seed, sweep(seed, Some(fault)).err()?)));
        let (seed, sentence) = found.unwrap_or_else(|| panic!("{fault:?} was not found"));
        println!("{fault:?} was found in world {}: {sentence}", seed - first + 1);
    }
}

/// A table with simulated backends. A function gives the answer to a probe from its target and
/// start.
struct Bench {
    table: HealthTable,
    rng: SmallRng,
    now: Moment,
    flights: BTreeMap<(Moment, u64), (Ticket, Outcome)>,
    /// All transitions with their times.
    seen: Vec<(Moment, Transition)>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let (table, rng) = (HealthTable::new(), SmallRng::seed_from_u64(seed));
        Self { table, rng, now: Duration::ZERO, flights: BTreeMap::new(), seen: Vec::new() }
    }

    fn add(&mut self, timing: Timing) -> TargetId {
        self.table.add(timing, None, self.now, &mut self.rng)
    }

    /// A random moment in the second minute, when the start is over.
    fn some_moment(&mut self) -> Moment {
        Duration::from_secs(60) + Duration::from_nanos(self.rng.random_range(0..60_000_000_000))
    }

    fn run(
        &mut self,
        until: Moment,
        mut answer: impl FnMut(TargetId, Moment, &mut SmallRng) -> (Moment, Outcome),
    ) {
        loop {
            let landing = self.flights.keys().next().map(|(at, _)| *at);
            let next = self.table.next_deadline().into_iter().chain(landing).min().unwrap();
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (ticket, outcome) = entry.remove();
                let transition = self.table.handle_outcome(ticket, outcome, self.now, &mut self.rng);
                self.seen.extend(transition.map(|transition| (self.now, transition)));
            }
            while let Some(ticket) = self.table.due(self.now) {
                let (end, outcome) = answer(ticket.target, self.now, &mut self.rng);
                self.flights.insert((end, ticket.serial), (ticket, outcome));
            }
        }
    }
}
