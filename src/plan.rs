//! Figures for planning: how soon a failure is found, how soon clients follow, how many queries arrive, and how many
//! answers have only dead addresses until then. Pure arithmetic; `docs/SIZING.md` explains it.
//!
//! ```text
//! failure ----detection----> answers change ----TTL and caches of clients----> clients have moved
//! ```

use std::time::Duration;

use crate::check::Timing;
use crate::selection::Probability;

/// The least, the typical and the longest time; the typical one is the median.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The backend changes just before a probe.
    pub least: Duration,
    /// It changes half-way between two probes.
    pub typical: Duration,
    /// It changes just after a probe.
    pub most: Duration,
}

impl Delay {
    /// Waits for the next of the probes that are `interval` apart, then for `further`.
    fn new(interval: Duration, further: Duration) -> Self {
        Self { least: further, typical: interval / 2 + further, most: interval + further }
    }

    /// Until a backend that refuses connections is unhealthy, without jitter.
    #[must_use]
    pub fn of_refusal(timing: &Timing) -> Self {
        Self::new(timing.interval, timing.recheck * u32::from(timing.fall.saturating_sub(1)))
    }

    /// Until a silent backend is unhealthy, without jitter: each probe takes its whole time limit.
    #[must_use]
    pub fn of_silence(timing: &Timing) -> Self {
        let again = u32::from(timing.fall.saturating_sub(1));
        Self::new(timing.interval, timing.timeout + (timing.recheck + timing.timeout) * again)
    }

    /// Until a backend that works again is healthy, without jitter, holds and slow start.
    #[must_use]
    pub fn of_recovery(timing: &Timing) -> Self {
        Self::new(timing.interval_down, timing.recheck * u32::from(timing.rise.saturating_sub(1)))
    }

    /// Until `needed` of these have passed, counted from 1; the last one if there are fewer, and `None` without any. Each
    /// time is ordered by itself: the least and the longest are bounds, and the typical one is near the median.
    #[must_use]
    pub fn of_several(delays: &[Self], needed: usize) -> Option<Self> {
        let place = needed.min(delays.len()).checked_sub(1)?;
        let ordered = |time: fn(&Self) -> Duration| {
            let mut times: Vec<Duration> = delays.iter().map(time).collect();
            times.sort_unstable();
            times.get(place).copied()
        };
        Some(Self {
            least: ordered(|delay| delay.least)?,
            typical: ordered(|delay| delay.typical)?,
            most: ordered(|delay| delay.most)?,
        })
    }
}

/// A population of clients in three groups. Each has a part of all clients; the parts sum to 1.
///
/// The groups, and the parts of [`ClientMix::FITTED`], reproduce the measurement of Flavel, Mani and Maltz, "Re-evaluating
/// the Responsiveness of DNS-based Network Control", LANMAN 2014: with a TTL of 20 s, 90 % of the requests used the new
/// answer within 60 s, and 2 % did not after 15 minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientMix {
    /// Respect the TTL: an answer is left after a time uniform in 0 to TTL.
    pub exact: f64,
    /// Have a cache of their own, which keeps an answer for up to [`CLIENT_CACHE`] more.
    pub caching: f64,
    /// Keep an answer for an exponential time with the mean [`STALE`], whatever its TTL.
    pub stale: f64,
}

/// The caches of browsers keep an answer for this long.
pub const CLIENT_CACHE: Duration = Duration::from_secs(60);
/// The mean time for which the last group keeps an answer.
pub const STALE: Duration = Duration::from_secs(650);

impl ClientMix {
    /// Fits the measurement of 2014.
    pub const FITTED: Self = Self { exact: 0.75, caching: 0.17, stale: 0.08 };
    /// Mostly browsers: an estimate.
    pub const BROWSERS: Self = Self { exact: 0.30, caching: 0.62, stale: 0.08 };
    /// Mostly services that speak to services: an estimate.
    pub const SERVICES: Self = Self { exact: 0.60, caching: 0.30, stale: 0.10 };

    /// The part of the clients that use the new answer at this time after the change.
    #[must_use]
    pub fn moved(self, ttl: Duration, after: Duration) -> f64 {
        let (ttl, after) = (ttl.as_secs_f64(), after.as_secs_f64());
        self.exact * below_uniform(ttl, after)
            + self.caching * below_sum(ttl, CLIENT_CACHE.as_secs_f64(), after)
            + self.stale * (1.0 - (-after / STALE.as_secs_f64()).exp())
    }

    /// The time from the change until this part of the clients uses the new answer; the part is below 1.
    #[must_use]
    pub fn time_until(self, ttl: Duration, part: f64) -> Duration {
        let (mut low, mut high) = (Duration::ZERO, Duration::from_secs(1));
        while self.moved(ttl, high) < part && high < Duration::from_secs(1 << 40) {
            high *= 2;
        }
        // Halves the range until it is a millisecond.
        while high.saturating_sub(low) > Duration::from_millis(1) {
            let middle = (low + high) / 2;
            if self.moved(ttl, middle) < part {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// The probability that a time uniform in 0 to `length` is at most `limit`.
fn below_uniform(length: f64, limit: f64) -> f64 {
    if length > 0.0 { (limit / length).clamp(0.0, 1.0) } else { 1.0 }
}

/// The probability that the sum of two times, uniform in 0 to `a` and in 0 to `b`, is at most `limit`.
fn below_sum(a: f64, b: f64, limit: f64) -> f64 {
    if a <= 0.0 {
        return below_uniform(b, limit);
    }
    // The area below the line x + y = limit in a rectangle: a triangle, without its parts outside.
    let triangle = |side: f64| side.max(0.0).powi(2) / 2.0;
    let area = triangle(limit) - triangle(limit - a) - triangle(limit - b) + triangle(limit - a - b);
    (area / (a * b)).clamp(0.0, 1.0)
}

/// Queries per second for one type of one name. Each resolver caches an answer for the TTL, and asks again with the first
/// look-up after it: one query for each TTL plus the mean time to that look-up.
#[must_use]
pub fn queries_per_second(resolvers: f64, lookups_per_second: f64, ttl: Duration) -> f64 {
    if resolvers <= 0.0 || lookups_per_second <= 0.0 {
        return 0.0;
    }
    let of_each = lookups_per_second / resolvers;
    resolvers * of_each / (1.0 + of_each * ttl.as_secs_f64())
}

/// The part of the answers in which all addresses are dead, if any `dead` of the `backends` fail with equal chance. It does
/// not depend on how the `answers` backends of an answer are drawn: each answer is one of the sets of that size.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of backends are far below 2^52")]
pub fn all_dead_by_chance(backends: usize, answers: usize, dead: usize) -> f64 {
    let answers = answers.min(backends);
    if answers == 0 || dead < answers {
        return 0.0;
    }
    (0..answers).map(|drawn| (dead - drawn) as f64 / (backends - drawn) as f64).product()
}

/// The part of the answers in which all addresses are of a lost site, if the draw goes site by site.
///
/// The members of a site lie side by side on the line of the draw, so an answer has either the whole number below or the
/// one above their expected number. All `answers` are of the site in the part by which that exceeds `answers - 1`.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "at most 256 answers")]
pub fn all_dead_of_site(of_site: &[Probability], answers: usize) -> f64 {
    let expected: f64 = of_site.iter().map(|probability| probability.included.as_float()).sum();
    let above = expected - answers.saturating_sub(1) as f64;
    // Sums of rounded numbers may miss 0 by a little.
    if above < 1e-9 { 0.0 } else { above.min(1.0) }
}

/// An upper limit for the same part, for any draw: the first address must be dead.
#[must_use]
pub fn most_all_dead(of_dead: &[Probability]) -> f64 {
    of_dead.iter().map(|probability| probability.first.as_float()).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::selection::{Candidate, Picked, Sampler, Spread, probabilities};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const DEFAULTS: Timing = Timing {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 3,
        recheck: Duration::from_secs(1),
        interval_down: Duration::from_secs(5),
        damping: true,
    };

    /// `docs/OPERATIONS.md` has the same figures from a simulation of the checker.
    #[test]
    fn detection_with_the_defaults() {
        let times = |delay: Delay| [delay.least, delay.typical, delay.most].map(|time| time.as_millis());
        assert_eq!(times(Delay::of_refusal(&DEFAULTS)), [2000, 4500, 7000]);
        assert_eq!(times(Delay::of_silence(&DEFAULTS)), [8000, 10_500, 13_000]);
        assert_eq!(times(Delay::of_recovery(&DEFAULTS)), [1000, 3500, 6000]);
        let at_once = Timing { fall: 1, rise: 1, ..DEFAULTS };
        assert_eq!(times(Delay::of_refusal(&at_once)), [0, 2500, 5000]);
        assert_eq!(times(Delay::of_silence(&at_once)), [2000, 4500, 7000]);
    }

    #[test]
    fn several_checks_are_ordered() {
        let delay = |least, typical, most| {
            let [least, typical, most] = [least, typical, most].map(seconds);
            Delay { least, typical, most }
        };
        let both = [delay(1, 5, 9), delay(2, 3, 4)];
        assert_eq!(Delay::of_several(&both, 1), Some(delay(1, 3, 4)));
        assert_eq!(Delay::of_several(&both, 2), Some(delay(2, 5, 9)));
        assert_eq!(Delay::of_several(&both, 3), Some(delay(2, 5, 9)));
        assert_eq!(Delay::of_several(&[], 1), None);
    }

    /// The measurement that the model reproduces, and the table that follows from it.
    #[test]
    fn clients_move_as_measured() {
        let fitted = |after| ClientMix::FITTED.moved(seconds(20), seconds(after));
        assert!((fitted(60) - 0.899).abs() < 0.0005, "{}", fitted(60));
        assert!((fitted(900) - 0.980).abs() < 0.0005, "{}", fitted(900));
        for (mix, ttl, half, most) in [
            (ClientMix::FITTED, 5, 3, 53),
            (ClientMix::FITTED, 10, 7, 56),
            (ClientMix::FITTED, 20, 13, 60),
            (ClientMix::FITTED, 30, 19, 66),
            (ClientMix::FITTED, 60, 37, 85),
            (ClientMix::FITTED, 300, 163, 290),
            (ClientMix::BROWSERS, 5, 22, 60),
            (ClientMix::BROWSERS, 30, 34, 77),
            (ClientMix::BROWSERS, 60, 52, 101),
        ] {
            let until = |part| mix.time_until(seconds(ttl), part).as_secs_f64();
            let near = |time: f64, told: f64| (time - told).abs() <= 1.0;
            assert!(near(until(0.5), f64::from(half)), "{mix:?}, TTL {ttl}: {}", until(0.5));
            assert!(near(until(0.9), f64::from(most)), "{mix:?}, TTL {ttl}: {}", until(0.9));
            assert!((until(0.98) / 60.0 - 15.0).abs() < 0.5, "{mix:?}, TTL {ttl}: {}", until(0.98));
        }
    }

    #[test]
    fn the_part_of_moved_clients_grows_from_0_to_1() {
        for mix in [ClientMix::FITTED, ClientMix::BROWSERS, ClientMix::SERVICES] {
            assert!((mix.exact + mix.caching + mix.stale - 1.0).abs() < 1e-12);
            for ttl in [0, 1, 20, 60, 61, 86_400] {
                let mut before = 0.0;
                for after in 0..2000 {
                    let moved = mix.moved(seconds(ttl), seconds(after * 60));
                    assert!(moved >= before && moved <= 1.0, "{mix:?}, TTL {ttl}, after {after}: {moved}");
                    before = moved;
                }
                let time = mix.time_until(seconds(ttl), 0.7);
                assert!((mix.moved(seconds(ttl), time) - 0.7).abs() < 0.01 || time < seconds(1));
            }
        }
    }

    #[test]
    fn queries_follow_from_look_ups_and_the_ttl() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(queries_per_second(1.0, 0.05, seconds(20)), 0.025);
        near(queries_per_second(100.0, 50.0, seconds(0)), 50.0);
        // A busy resolver asks once for each TTL.
        assert!((queries_per_second(1.0, 1e6, seconds(20)) - 0.05).abs() < 1e-6);
        near(queries_per_second(0.0, 5.0, seconds(20)), 0.0);
        near(queries_per_second(5.0, 0.0, seconds(20)), 0.0);
    }

    #[test]
    fn all_dead_answers_as_enumerated() {
        for (backends, dead, parts) in [
            (10, 1, [0.10, 0.0, 0.0, 0.0, 0.0]),
            (100, 10, [0.10, 0.009, 0.0007, 0.000_05, 0.0]),
            (12, 4, [0.33, 0.091, 0.018, 0.002, 0.0]),
            (30, 10, [0.33, 0.103, 0.030, 0.008, 0.002]),
        ] {
            for (answers, part) in (1..).zip(parts) {
                let found = all_dead_by_chance(backends, answers, dead);
                assert!((found - part).abs() < 0.01 * part + 0.0004, "{answers} of {backends}: {found}");
            }
        }
        assert!((all_dead_by_chance(3, 5, 3) - 1.0).abs() < 1e-12);
        assert!(all_dead_by_chance(3, 5, 2) < 1e-12);
    }

    /// The part of drawn answers that are within `dead`.
    fn drawn_within(
        candidates: &[Candidate],
        answers: usize,
        spread: Spread,
        dead: impl Fn(usize) -> bool,
    ) -> f64 {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut sampler = Sampler::new(candidates, answers, spread, &mut rng);
        let (mut picked, mut found, all) = (Picked::default(), 0, 40_000);
        for draw in 0..all {
            if draw % 10 == 0 {
                sampler.renew(&mut rng);
            }
            sampler.draw(&mut rng, &mut picked);
            found += u32::from(picked.indices().iter().all(|&index| dead(index as usize)));
        }
        f64::from(found) / f64::from(all)
    }

    #[test]
    fn a_lost_site_is_in_answers_as_often_as_drawn() {
        let pools: [&[(u32, u32)]; 4] = [
            &[(1, 0), (1, 0), (1, 1), (1, 1), (1, 2), (1, 2)],
            &[(5, 0), (4, 0), (3, 0), (1, 1), (1, 2)],
            &[(9, 0), (1, 0), (1, 1)],
            &[(2, 0), (2, 0), (2, 0), (1, 1), (1, 1), (3, 1), (1, 1)],
        ];
        for pool in pools {
            let candidates: Vec<Candidate> =
                pool.iter().map(|&(weight, site)| Candidate { weight, site }).collect();
            for spread in [Spread::Shares, Spread::Always] {
                for answers in 1..=4 {
                    let all = probabilities(&candidates, answers, spread);
                    let dead = |index: usize| candidates[index].site == 0;
                    let of_site: Vec<Probability> =
                        (0..all.len()).filter(|&index| dead(index)).map(|index| all[index]).collect();
                    let part = all_dead_of_site(&of_site, answers.min(candidates.len()));
                    let drawn = drawn_within(&candidates, answers, spread, dead);
                    assert!(
                        (part - drawn).abs() < 0.01,
                        "{pool:?} {spread:?} {answers}: {part}, drawn {drawn}"
                    );
                    assert!(part <= most_all_dead(&of_site) + 1e-9);
                }
            }
        }
    }
}
