//! Measures the figures in the documentation: the time to detect a death, the falls of a bad
//! backend, the effects of stalls. All use the default timing, and each test prints what it
//! measured.

use std::time::Duration;

use rand::RngExt;

use crate::check::Timing;
use crate::health::simulation::{Bench, DEFAULTS, LATENCY, asked_for, milliseconds, seeds};
use crate::health::{HealthTable, Moment, Outcome, State, Verdict};

const DEATHS: u64 = 10_000;

/// The first probe after a death may be late by 5 % of an interval, and outcomes have a latency.
const JITTER: f64 = 0.25 + 0.01;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Refuse,
    Silent,
}

impl Death {
    fn fail(self, start: Moment) -> (Moment, Outcome) {
        let takes = if self == Self::Refuse { LATENCY } else { DEFAULTS.timeout };
        (start + takes, Outcome::Failed)
    }
}

/// Seconds from a death at a random moment to the verdict, sorted. The `neighbours` are silent all
/// the time.
fn detection(deaths: u64, death: Death, neighbours: usize) -> Vec<f64> {
    let one = |seed| {
        let mut bench = Bench::new(seed);
        let mortal = bench.add(DEFAULTS);
        for _ in 0..neighbours {
            bench.add(DEFAULTS);
        }
        let at = bench.some_moment();
        bench.run(at + Duration::from_secs(20), |id, start, _| {
            if id != mortal {
                Death::Silent.fail(start)
            } else if start + LATENCY > at {
                death.fail(start)
            } else {
                (start + LATENCY, Outcome::Passed)
            }
        });
        let (found, last) = *bench.seen.iter().rfind(|(_, one)| one.target == mortal).unwrap();
        assert_eq!(last.to, State::Unhealthy { successes: 0 }, "seed {seed}");
        (found - at).as_secs_f64()
    };
    let mut times: Vec<f64> = seeds(deaths).map(one).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Asserts that the times are within the bounds, and that the bounds are tight.
fn assert_between(name: &str, times: &[f64], least: f64, most: f64) {
    let (low, p50, p99) = (times[0], percentile(times, 50), percentile(times, 99));
    let high = percentile(times, 100);
    println!("{name}: found after {low:.2} to {high:.2} s, p50 {p50:.2} s, p99 {p99:.2} s");
    assert!(low >= least && high <= most + JITTER, "{name}: found after {low} to {high} s");
    if times.len() > 100 {
        assert!(low < least + 0.3 && high > most - 0.3, "{name}: {low} to {high} s is not as documented");
        let middle = f64::midpoint(least, most);
        assert!((middle - 0.5..middle + 0.5).contains(&p50), "{name}: p50 {p50} s");
    }
}

#[test]
fn a_refusing_backend_is_found_in_2_to_7_seconds() {
    assert_between("refused", &detection(DEATHS, Death::Refuse, 0), 2.0, 7.0);
}

#[test]
fn a_silent_backend_is_found_in_8_to_13_seconds() {
    // A probe in flight at the moment of death started up to its latency earlier.
    let least = 8.0 - LATENCY.as_secs_f64();
    assert_between("silent", &detection(DEATHS, Death::Silent, 0), least, 13.0);
}

#[test]
fn silent_neighbours_delay_nobody() {
    assert_between("refused beside 49 silent ones", &detection(200, Death::Refuse, 49), 2.0, 7.0);
}

/// For a backend that fails one probe in five at random: falls in ten minutes, and the share of
/// time out of the answers.
fn one_in_five(timing: Timing) -> (f64, f64) {
    let each = Duration::from_secs(36_000);
    let (mut falls, mut out, mut time) = (0, Duration::ZERO, Duration::ZERO);
    for seed in seeds(150) {
        let mut bench = Bench::new(seed);
        bench.add(timing);
        bench.run(each, |_, start, rng| {
            let outcome = if rng.random_bool(0.2) { Outcome::Failed } else { Outcome::Passed };
            (start + LATENCY, outcome)
        });
        let mut down = None;
        for (at, transition) in bench.seen {
            if transition.to.verdict() == Some(Verdict::Unhealthy) {
                falls += i32::from(transition.from != State::Unknown);
                down = Some(at);
            } else if let Some(since) = down.take() {
                out += at - since;
            }
        }
        out += down.map_or(Duration::ZERO, |since| each - since);
        time += each;
    }
    let tens_of_minutes = time.as_secs_f64() / 600.0;
    (f64::from(falls) / tens_of_minutes, out.as_secs_f64() / time.as_secs_f64())
}

#[test]
fn one_failed_probe_in_five_costs_less_than_one_fall_in_ten_minutes() {
    let (falls, out) = one_in_five(DEFAULTS);
    println!("1500 hours with damping: {falls:.2} falls in 10 minutes, {:.1} % of the time out", out * 100.0);
    let (undamped, out) = one_in_five(Timing { damping: false, ..DEFAULTS });
    println!("without: {undamped:.2} falls in 10 minutes, {:.1} % of the time out", out * 100.0);
    assert!(asked_for().is_some() || (falls < 1.0 && undamped < 1.0), "{falls}, {undamped}");
}

/// The effects of one stall of a backend that otherwise serves.
#[derive(Default)]
struct Stalls {
    count: u32,
    flipped: u32,
    out: Duration,
    longest: Duration,
}

impl Stalls {
    fn line(&self, name: &str, seconds: u64) -> String {
        let out = if self.flipped > 0 { self.out / self.flipped } else { Duration::ZERO };
        format!(
            "| {name} | {seconds} s | {:.1} % | {:.1} s | {:.1} s |",
            self.share() * 100.0,
            out.as_secs_f64(),
            self.longest.as_secs_f64()
        )
    }

    fn share(&self) -> f64 {
        f64::from(self.flipped) / f64::from(self.count)
    }
}

/// Simulates backends that stall once for `length`. Meanwhile they refuse, or answer after the
/// stall, which is too late for probes that started more than a timeout before.
fn stalls(length: Duration, refuse: bool) -> Stalls {
    let mut stalls = Stalls::default();
    for seed in seeds(3000) {
        let mut bench = Bench::new(seed);
        bench.add(DEFAULTS);
        let from = bench.some_moment();
        let to = from + length;
        bench.run(to + Duration::from_secs(60), |_, start, _| {
            let served = if start + LATENCY > from && start < to { to + LATENCY } else { start + LATENCY };
            if served == start + LATENCY {
                (served, Outcome::Passed)
            } else if refuse {
                Death::Refuse.fail(start)
            } else if served > start + DEFAULTS.timeout {
                Death::Silent.fail(start)
            } else {
                (served, Outcome::Passed)
            }
        });
        stalls.count += 1;
        let flips: Vec<Moment> = bench.seen.iter().skip(1).map(|(at, _)| *at).collect();
        if let [down, up] = flips[..] {
            stalls.flipped += 1;
            stalls.out += up - down;
            stalls.longest = stalls.longest.max(up - down);
        } else {
            assert!(flips.is_empty(), "seed {seed}: falls once and comes back, or never falls");
        }
    }
    stalls
}

#[test]
fn stalls_of_a_backend() {
    let mut share = Vec::new();
    println!("| backend | for | flips | out of answers, mean | longest |");
    for (name, refuse) in [("answers late", false), ("refuses", true)] {
        for seconds in [1, 2, 3, 5, 7, 10, 15] {
            let stalls = stalls(Duration::from_secs(seconds), refuse);
            println!("{}", stalls.line(name, seconds));
            share.push((refuse, seconds, stalls.share()));
        }
    }
    if asked_for().is_some() {
        return;
    }
    for (refuse, seconds, share) in share {
        // A stall flips a state if three failures fit into it. This is so for (seconds - the time
        // they take) of every interval.
        let rest = if refuse { seconds.saturating_sub(2) } else { seconds.saturating_sub(8) };
        let expected = (f64::from(u32::try_from(rest).unwrap()) / 5.0).min(1.0);
        assert!((share - expected).abs() < 0.08, "stalls of {seconds} s flip {share}, expected {expected}");
    }
}

/// This process stalls: no probe starts and no outcome is seen. Failures in the meantime are void.
#[test]
fn stalls_of_this_process_flip_nobody_and_delay_a_death_by_little_more_than_themselves() {
    println!(
        "| this process | for | flips | detection of a death before or during the stall, p50 | longest |"
    );
    for seconds in [1, 3, 5, 10, 30] {
        let length = Duration::from_secs(seconds);
        let mut times = Vec::new();
        for seed in seeds(2000) {
            let mut bench = Bench::new(seed);
            let (served, mortal) = (bench.add(DEFAULTS), bench.add(DEFAULTS));
            let from = bench.some_moment();
            let to = from + length;
            // Up to 10 s before the stall, so that some failures are in flight when it starts.
            let before = Duration::from_secs(10);
            let dies = from - before + (before + length).mul_f64(bench.rng.random::<f64>());
            let answer = |id, start: Moment| {
                let (end, outcome) = if id == mortal && start + LATENCY > dies {
                    Death::Silent.fail(start)
                } else {
                    (start + LATENCY, Outcome::Passed)
                };
                if start <= from && end > from {
                    let fair = if outcome == Outcome::Failed { Outcome::Void } else { outcome };
                    return (end.max(to), fair);
                }
                (end, outcome)
            };
            bench.run(from, |id, start, _| answer(id, start));
            bench.now = to;
            bench.run(to + Duration::from_secs(30), |id, start, _| answer(id, start));
            let falls: Vec<_> = bench.seen.iter().skip(2).collect();
            assert!(falls.iter().all(|(_, one)| one.target != served), "seed {seed}");
            assert_eq!(falls.len(), 1, "seed {seed}: the death is found");
            times.push((falls[0].0 - dies).as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let (p50, most) = (percentile(&times, 50), percentile(&times, 100));
        println!("| stalls | {seconds} s | 0 | {p50:.1} s | {most:.1} s |");
        // Plus an interval and a timeout, for a probe in flight whose outcome is void.
        assert!(most <= length.as_secs_f64() + 13.0 + JITTER + 7.0, "{most} s");
    }
}

#[test]
fn a_stall_of_one_second_flips_nothing() {
    for refuse in [false, true] {
        assert_eq!(stalls(milliseconds(1000), refuse).flipped, 0);
    }
}

#[test]
fn a_hundred_thousand_targets_start_within_one_round_and_then_spread_evenly() {
    let mut bench = Bench::new(seeds(1).next().unwrap());
    for _ in 0..100_000 {
        bench.add(DEFAULTS);
    }
    let table: &mut HealthTable = &mut bench.table;
    let mut starts = Vec::new();
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(20) {
        now += milliseconds(10);
        let mut count = 0;
        while let Some(ticket) = table.due(now) {
            table.handle_outcome(ticket, Outcome::Passed, now, &mut bench.rng);
            count += 1;
        }
        starts.push(count);
        assert!(table.all_known() || now < crate::health::FIRST_ROUND);
    }
    // 20,000 per second are 200 in each slot of 10 ms.
    let steady = &starts[600..];
    assert!(steady.iter().all(|count| (100..300).contains(count)), "{:?}", steady.iter().max());
}
