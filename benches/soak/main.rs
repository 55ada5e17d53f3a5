//! Hours of operation in one run: reloads, rollbacks, upgrades, ends of backends, overrides, floods and hostile packets.
//!
//! ```text
//! cargo bench --bench soak -- --minutes 120
//! STEERD_SEED=n cargo bench --bench soak      repeats a run of a minute
//! ```
//!
//! The steps, the clients and their checks are those of `tests/chaos`: no query may be lost, no answer wrong, and no
//! counter may go back. The process that serves at half-time serves to the end, so that a leak in it shows as growth of
//! its memory; descriptors are compared with those of the first process. Nothing needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot continue ends"
)]

#[path = "../../tests/chaos/load.rs"]
mod load;
#[path = "../../tests/chaos/scene.rs"]
mod scene;
#[path = "../../tests/chaos/seed.rs"]
mod seed;
#[path = "../../tests/chaos/server.rs"]
mod server;
#[path = "../../tests/chaos/strangers.rs"]
mod strangers;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use load::{Load, Shape};
use scene::{Fault, NewProgram, Scene, Step};
use server::{descriptors, memory};

/// 5,000 queries/s over UDP, and 2,000 over 200 connections.
const LOAD: Shape = Shape::of(40, 8, 200, 100);
const FLOOD: usize = 1000;
/// Each step, and how often it is taken, relative to the others.
const STEPS: [(Step, u32); 18] = [
    (Step::Reload, 300),
    (Step::BrokenReload, 40),
    (Step::Rollback, 80),
    (Step::Flip, 120),
    (Step::Override, 120),
    (Step::Flood(FLOOD), 20),
    (Step::Nonsense, 60),
    (Step::Upgrade, 12),
    (Step::UpgradeBySignal, 6),
    (Step::UpgradeWithBrokenFile, 4),
    (Step::FaultyUpgrade(Fault::Crash), 3),
    (Step::FaultyUpgrade(Fault::Hang), 3),
    (Step::OtherProgram(NewProgram::Exits), 3),
    (Step::OtherProgram(NewProgram::SaysNonsense), 3),
    (Step::OtherProgram(NewProgram::HasAnotherProtocol), 3),
    (Step::OtherProgram(NewProgram::HasAnotherState), 3),
    (Step::OtherProgram(NewProgram::AnswersNothing), 3),
    (Step::OtherProgram(NewProgram::Hangs), 1),
];
/// Longest pause between two steps.
const PAUSE: Duration = Duration::from_millis(200);
/// By how much the memory may have grown between the third quarter of the run and the last one, KiB.
const MEMORY_GROWTH: u64 = 8 << 10;
/// Descriptors of a process beside its connections.
const OWN_DESCRIPTORS: usize = 100;
/// Connections of the flood and of all clients.
const CONNECTIONS: usize = FLOOD + 250;

fn main() {
    let minutes = minutes().expect("usage: cargo bench --bench soak -- [--minutes N]");
    let mut rng = SmallRng::seed_from_u64(seed::seed());
    let mut scene = Scene::start(SmallRng::seed_from_u64(rng.random()));
    let mut load = Load::start(scene.server.dns, &scene.world, LOAD);
    let (began, time) = (Instant::now(), Duration::from_secs(60) * minutes);
    // Each step is taken once at least.
    let mut first: Vec<Step> = STEPS.iter().map(|(step, _)| *step).collect();
    first.shuffle(&mut rng);
    let mut memories = Vec::new();
    let (mut steps, mut upgrades, mut minute) = (0, 0, 0);
    while began.elapsed() < time {
        let is_late = began.elapsed() > time / 2;
        let step =
            first.pop().unwrap_or_else(|| STEPS.choose_weighted(&mut rng, |(_, weight)| *weight).unwrap().0);
        let replaces = matches!(step, Step::Upgrade | Step::UpgradeBySignal);
        if replaces && is_late {
            continue;
        }
        scene.run(step, &mut load);
        (steps, upgrades) = (steps + 1, upgrades + u32::from(replaces));
        let serving = scene.server.serving();
        memories.push((began.elapsed(), memory(serving)));
        let open = descriptors(serving);
        assert!(open <= OWN_DESCRIPTORS + CONNECTIONS, "{open} descriptors are open after {step:?}");
        if began.elapsed().as_secs() / 60 > minute {
            minute += 1;
            println!(
                "{minute} minutes: {steps} steps, {upgrades} upgrades, {} answers, {open} descriptors, {} KiB",
                load.answered(),
                memory(serving)
            );
        }
        std::thread::park_timeout(rng.random_range(Duration::ZERO..PAUSE));
    }
    println!("{steps} steps, {upgrades} upgrades; {}", load.end());
    scene.expect_nothing_left();
    let [third, last] = [2, 3].map(|quarter| median(&memories, time * quarter / 4..time * (quarter + 1) / 4));
    println!("median of the memory: {third} KiB in the third quarter, {last} KiB in the last one");
    assert!(last <= third + MEMORY_GROWTH, "the memory has grown by more than {MEMORY_GROWTH} KiB");
}

fn minutes() -> Option<u32> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [] => Some(1),
        [option, minutes] if option == "--minutes" => minutes.parse().ok(),
        _ => None,
    }
}

fn median(memories: &[(Duration, u64)], time: std::ops::Range<Duration>) -> u64 {
    let inside = memories.iter().filter(|(at, _)| time.contains(at));
    let mut inside: Vec<u64> = inside.map(|(_, memory)| *memory).collect();
    inside.sort_unstable();
    *inside.get(inside.len() / 2).expect("a run is long enough for steps in each quarter")
}
