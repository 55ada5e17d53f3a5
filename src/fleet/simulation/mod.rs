//! Simulates whole fleets on a virtual clock: overrides, reloads, slots, shares, suspicion, memory and restarts.
//! The simulation in `health` tests the rules for a single target.
//!
//! ```text
//! configuration  random configurations, and small changes to them
//! world          drives a fleet as the checker does: time, probes, faults, stalls, jumps of the time of day
//! changes        reloads and restarts, and the memory that survives them
//! certainty      TTLs that follow certainty, of the answers in handed_out
//! invariants     what must hold at the end of each turn
//! model          a naive implementation of the rules, for comparison
//! tiers          the same for the tiers of services; tier_checks compares them
//! journal        the memory outside of the fleet
//! met            counts what happens
//! planted        deliberate defects, each of which the simulation must find
//! scenes         defects that random worlds have found, one scene each, and exact times
//! ```
//!
//! Each failure prints its seed; `STEERD_SEED=n` replays that run alone.

mod bulk;
mod certainty;
mod changes;
mod configuration;
mod handed_out;
mod invariants;
mod journal;
mod met;
mod model;
mod planted;
mod scenes;
mod tier_checks;
mod tiers;
mod world;

use std::time::Duration;

use crate::check::Timing;
use crate::health::FIRST_ROUND;
use crate::health::simulation::{Checked, DEFAULTS, any_seed, asked_for, ensure, milliseconds, seeds};

use met::Met;
use planted::{FAULTS, Fault};
use world::World;

/// The number of worlds per test run.
const WORLDS: u64 = 120;

/// The most worlds for finding a planted fault. Most faults are found in the first ten worlds. Those that need
/// two rare events at once take up to a hundred, and the test must not fail by chance.
const WORLDS_OF_A_FAULT: u64 = 4 * WORLDS;

/// The most worlds of one sweep: some events are so rare that half of [`WORLDS`] may not have all of them.
const WORLDS_OF_A_SWEEP: u64 = 4 * WORLDS;

/// The number of turns in a world.
const TURNS: usize = 150;

/// The longest time from the creation of a target to its first probe.
fn longest_start(timing: &Timing) -> Duration {
    FIRST_ROUND.min(timing.interval.max(timing.interval_down))
}

/// Runs one world.
fn sweep(seed: u64, fault: Option<Fault>) -> Result<(Met, u64), String> {
    let mut world = World::new(seed, fault);
    world.run(TURNS).map_err(|sentence| format!("{sentence} (at {:?})", world.now))?;
    Ok((world.met, world.trace()))
}

fn assert_fleets_keep_the_promises() {
    let mut met = Met::default();
    for (world, seed) in (0..).zip(seeds(WORLDS_OF_A_SWEEP)) {
        // Rare events may need more worlds.
        if world >= WORLDS / 2 && met.is_tried() {
            break;
        }
        let run = || {
            sweep(seed, None).unwrap_or_else(|sentence| panic!("{sentence}\nreplay with STEERD_SEED={seed}"))
        };
        let ((one, trace), (_, again)) = (run(), run());
        assert_eq!(trace, again, "STEERD_SEED={seed} runs in two ways");
        met = met.and(one);
    }
    println!("{met:?}");
    if asked_for().is_none() {
        assert!(met.is_tried(), "hardly tried: {met:?}");
    }
}

#[test]
fn random_fleets_keep_the_promises() {
    assert_fleets_keep_the_promises();
}

#[test]
fn other_random_fleets_keep_the_promises_at_the_same_time() {
    assert_fleets_keep_the_promises();
}

#[test]
fn every_planted_fault_is_found_by_the_sweep() {
    let first = asked_for().unwrap_or_else(any_seed);
    println!("the first of at most {WORLDS_OF_A_FAULT} worlds is STEERD_SEED={first}");
    for fault in FAULTS {
        let found =
            (first..first + WORLDS_OF_A_FAULT).find_map(|seed| Some((seed, sweep(seed, Some(fault)).err()?)));
        let (seed, sentence) = found.unwrap_or_else(|| panic!("{fault:?} was not found"));
        println!("{fault:?} was found in world {}: {sentence}", seed - first + 1);
    }
}
