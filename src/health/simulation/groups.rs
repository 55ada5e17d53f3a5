//! Scenarios of suspicion: pools with the default timing.

use std::sync::Arc;
use std::time::Duration;

use crate::health::simulation::{Bench, DEFAULTS, LATENCY, asked_for, seeds};
use crate::health::{Alarm, Group, Moment, Outcome, Suspicion, TargetId, Verdict};

const SHARE: u8 = 90;

/// A silent backend is detected within this time.
const SILENT: Duration = Duration::from_millis(13_250 + 1);

/// The time from the end of a suspicion to the last postponed failure: a recheck and a timeout.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// A pool of `size` backends, in one group if `watched`.
fn pool(seed: u64, size: usize, watched: bool) -> (Bench, Vec<TargetId>) {
    let mut bench = Bench::new(seed);
    let members: Vec<TargetId> = (0..size).map(|_| bench.add(DEFAULTS)).collect();
    if watched {
        let pool = Some(Arc::from("pool"));
        bench
            .table
            .set_groups(vec![Group { pool, pace: 0, share: SHARE, members: members.clone() }], bench.now);
    }
    (bench, members)
}

/// The targets with an index below `first` are silent between `from` and `to`; the others serve.
fn silence(bench: &mut Bench, first: usize, from: Moment, to: Moment, until: Moment) {
    bench.run(until, |id, start, _| {
        let hit = id.index() < first && start + LATENCY > from && start < to;
        if hit { (start + DEFAULTS.timeout, Outcome::Failed) } else { (start + LATENCY, Outcome::Passed) }
    });
}

fn falls(bench: &Bench) -> Vec<(Moment, TargetId)> {
    let fallen = bench.seen.iter().filter(|(_, to)| to.to.verdict() == Some(Verdict::Unhealthy));
    fallen.map(|(at, transition)| (*at, transition.target)).collect()
}

/// The only suspicion of this run; it has ended.
fn the_suspicion(bench: &mut Bench) -> Suspicion {
    let alarms = bench.table.take_alarms(bench.now);
    let [Alarm::Began(began), Alarm::Ended(ended)] = alarms.as_slice() else { panic!("{alarms:?}") };
    assert_eq!(began, ended);
    assert_eq!(began.until - began.since, DEFAULTS.interval);
    began.clone()
}

#[test]
fn when_all_are_silent_nobody_falls_before_the_suspicion_ends_and_then_all_do() {
    for seed in seeds(300) {
        for size in [3, 4, 10, 50] {
            let (mut bench, _) = pool(seed, size, true);
            let death = bench.some_moment();
            silence(&mut bench, size, death, Duration::MAX, death + Duration::from_secs(60));
            let suspicion = the_suspicion(&mut bench);
            assert!(suspicion.failing * 100 >= usize::from(SHARE) * suspicion.members);
            assert_eq!(suspicion.members, size);
            let falls = falls(&bench);
            assert_eq!(falls.len(), size, "seed {seed}: each falls once");
            for (at, _) in falls {
                assert!(at >= suspicion.until, "seed {seed}: falls {at:?} in {suspicion:?}");
                assert!(at <= (suspicion.until + AFTERWARDS).max(death + SILENT), "seed {seed}: at {at:?}");
            }
        }
    }
}

#[test]
fn when_all_come_back_before_the_suspicion_ends_nobody_has_ever_fallen() {
    let (mut without, mut runs) = (0, 0);
    for seed in seeds(300) {
        let (mut bench, _) = pool(seed, 10, true);
        let cut = bench.some_moment();
        while bench.table.suspicions().next().is_none() {
            let soon = bench.now + Duration::from_millis(100);
            silence(&mut bench, 10, cut, Duration::MAX, soon);
        }
        // The last affected probe fails just before the end.
        let until = bench.table.suspicions().next().unwrap().until;
        let back = until - DEFAULTS.timeout;
        silence(&mut bench, 10, cut, back, cut + Duration::from_secs(60));
        the_suspicion(&mut bench);
        assert_eq!(falls(&bench), [], "seed {seed}");

        let (mut bench, _) = pool(seed, 10, false);
        silence(&mut bench, 10, cut, back, cut + Duration::from_secs(60));
        without += falls(&bench).len();
        runs += 1;
    }
    println!("without suspicion {without} of {} would have fallen", 10 * runs);
    assert!(asked_for().is_some() || without > runs, "{without} in {runs} runs: the cuts are too short");
}

#[test]
fn four_of_five_fall_as_ever() {
    for seed in seeds(300) {
        let (mut bench, _) = pool(seed, 10, true);
        let death = bench.some_moment();
        silence(&mut bench, 8, death, Duration::MAX, death + SILENT);
        assert_eq!(falls(&bench).len(), 8, "seed {seed}");
        assert_eq!(bench.table.take_alarms(bench.now), []);
    }
}

#[test]
fn two_are_never_suspected() {
    for seed in seeds(300) {
        let (mut bench, _) = pool(seed, 2, true);
        let death = bench.some_moment();
        silence(&mut bench, 2, death, Duration::MAX, death + SILENT);
        assert_eq!(falls(&bench).len(), 2, "seed {seed}");
        assert_eq!(bench.table.take_alarms(bench.now), []);
    }
}

#[test]
fn deaths_one_after_the_other_are_no_event() {
    for seed in seeds(100) {
        let (mut bench, _) = pool(seed, 10, true);
        let death = bench.some_moment();
        // One death every 10 s: when the third to last dies, at most two runs of three are fresh.
        let dies = |id: TargetId| death + Duration::from_secs(10) * u32::try_from(id.index()).unwrap();
        bench.run(dies(TargetId(6)) + Duration::from_secs(20), |id, start, _| {
            let dead = id.index() < 7 && start + LATENCY > dies(id);
            if dead {
                (start + DEFAULTS.timeout, Outcome::Failed)
            } else {
                (start + LATENCY, Outcome::Passed)
            }
        });
        assert_eq!(falls(&bench).len(), 7, "seed {seed}");
        assert_eq!(bench.table.take_alarms(bench.now), []);
    }
}

#[test]
fn when_all_refuse_at_once_the_first_half_has_fallen_before_it_can_be_seen() {
    let (mut before, mut all) = (0, 0);
    for seed in seeds(300) {
        let (mut bench, _) = pool(seed, 50, true);
        let death = bench.some_moment();
        bench.run(death + Duration::from_secs(60), |_, start, _| {
            let outcome = if start + LATENCY > death { Outcome::Failed } else { Outcome::Passed };
            (start + LATENCY, outcome)
        });
        let suspicion = the_suspicion(&mut bench);
        let falls = falls(&bench);
        assert_eq!(falls.len(), 50);
        let during = falls.iter().filter(|(at, _)| (suspicion.since..suspicion.until).contains(at)).count();
        assert_eq!(during, 0, "seed {seed}");
        before += falls.iter().filter(|(at, _)| *at < suspicion.since).count();
        all += falls.len();
    }
    let percent = before * 100 / all;
    println!("of a pool whose members all refuse at once, {percent} % fall before the suspicion begins");
    assert!(percent < 60, "{percent} %");
}
