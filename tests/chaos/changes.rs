//! Reloads, rollbacks and upgrades in random order, under load.

use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::is_full;
use crate::load::{Load, Shape};
use crate::scene::{Fault, NewProgram, Scene, Step};
use crate::seed::seed;

/// 3,200 queries/s over UDP and 480 over TCP, for any build on any machine.
const SMALL: Shape = Shape::of(16, 5, 48, 100);
/// 20,000 queries/s over UDP, and 5,000 over 500 connections.
const LARGE: Shape = Shape::of(120, 6, 500, 100);
/// Each step with its count in the short form and in the full one.
const COUNTS: [(Step, usize, usize); 18] = [
    (Step::Reload, 10, 180),
    (Step::BrokenReload, 2, 20),
    (Step::Rollback, 3, 40),
    (Step::Flip, 4, 30),
    (Step::Override, 4, 20),
    (Step::Flood(100), 1, 4),
    (Step::Nonsense, 1, 4),
    (Step::Upgrade, 1, 7),
    (Step::UpgradeBySignal, 1, 4),
    (Step::UpgradeWithBrokenFile, 1, 2),
    (Step::FaultyUpgrade(Fault::Crash), 1, 4),
    (Step::FaultyUpgrade(Fault::Hang), 1, 2),
    (Step::OtherProgram(NewProgram::Exits), 1, 3),
    (Step::OtherProgram(NewProgram::SaysNonsense), 0, 1),
    (Step::OtherProgram(NewProgram::HasAnotherProtocol), 1, 2),
    (Step::OtherProgram(NewProgram::HasAnotherState), 1, 2),
    (Step::OtherProgram(NewProgram::AnswersNothing), 1, 2),
    (Step::OtherProgram(NewProgram::Hangs), 0, 1),
];

#[test]
fn changes_under_load() {
    let mut rng = SmallRng::seed_from_u64(seed());
    let count = |(step, short, full)| std::iter::repeat_n(step, if is_full() { full } else { short });
    let mut steps: Vec<Step> = COUNTS.into_iter().flat_map(count).collect();
    steps.shuffle(&mut rng);
    let mut scene = Scene::start(rng);
    let shape = if is_full() { LARGE } else { SMALL };
    let mut load = Load::start(scene.server.dns, &scene.world, shape);
    let began = Instant::now();
    for (number, step) in steps.into_iter().enumerate() {
        eprintln!("{number}: {step:?}, after {:?}", began.elapsed());
        scene.run(step, &mut load);
    }
    let figures = load.end();
    eprintln!("{figures}");
    assert!(figures.udp > 1000 && figures.tcp > 1000, "there was no load: {figures}");
    if is_full() {
        let rate = figures.rate();
        assert!(rate > 10_000.0, "only {rate:.0} queries/s: the machine is too busy for this test");
    }
    scene.expect_nothing_left();
}
