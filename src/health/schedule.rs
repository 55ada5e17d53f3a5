//! When each target is due.
//!
//! [`Rhythm`] knows the moments of one target, [`Queue`] holds the next one of each.
//!
//! ```text
//! add      a random moment within [0, min(interval, FIRST_ROUND)]     spreads a start
//! regular  the next tick after now, and jitter                        the usual case
//! recheck  now + recheck                                              while the state is in doubt
//! ```
//!
//! The ticks of a target are the moments congruent to its phase, drawn once within [0, interval):
//! how long a probe takes does not stretch the period, and a tick that has passed is skipped, never
//! made up for. Jitter is drawn anew each time within [0, 5 % of the interval], but never so long
//! that a probe that takes its whole timeout would end after the next tick.
//!
//! So an address that dies is found at the latest after
//!
//! ```text
//! interval + jitter + fall x (time to fail) + (fall - 1) x recheck
//! ```
//!
//! where the time to fail is about nothing when it refuses and the timeout when it is silent. With
//! the defaults that is 2 to 7 s and 8 to 13 s, and up to 0.25 s of jitter.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::health::{Moment, TargetId, Timing};

/// The first probes of all targets are spread over this time, so that a start neither takes an
/// interval nor opens every connection at once.
pub const FIRST_ROUND: Duration = Duration::from_millis(500);

/// The jitter of a regular probe is at most the interval divided by this.
const JITTER_DIVISOR: u32 = 20;

/// The moments of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    interval: Duration,
    recheck: Duration,
    /// The most a regular probe comes after its tick.
    jitter: Duration,
    /// Ticks are the moments congruent to it, modulo the interval.
    phase: Moment,
}

impl Rhythm {
    pub(super) fn new(timing: &Timing, rng: &mut impl Rng) -> Self {
        // A period of nothing would be due for ever; the configuration refuses it long before.
        let interval = timing.interval.max(Duration::from_millis(1));
        let room = interval.saturating_sub(timing.timeout);
        Self {
            interval,
            recheck: timing.recheck,
            jitter: (interval / JITTER_DIVISOR).min(room),
            phase: up_to(interval.saturating_sub(Duration::from_nanos(1)), rng),
        }
    }

    /// When the first probe is due.
    pub(super) fn first(&self, now: Moment, rng: &mut impl Rng) -> Moment {
        now.saturating_add(up_to(self.interval.min(FIRST_ROUND), rng))
    }

    /// When the next probe is due, as long as nothing contradicts the state.
    pub(super) fn regular(&self, now: Moment, rng: &mut impl Rng) -> Moment {
        self.tick_after(now).saturating_add(up_to(self.jitter, rng))
    }

    /// When the next probe is due while the state is in doubt. There is no jitter: what brought the
    /// doubt came at a random moment already.
    pub(super) fn recheck(&self, now: Moment) -> Moment {
        now.saturating_add(self.recheck)
    }

    /// The first tick later than `now`.
    fn tick_after(&self, now: Moment) -> Moment {
        let Some(since_phase) = now.checked_sub(self.phase) else { return self.phase };
        let into_period = nanoseconds(since_phase) % nanoseconds(self.interval);
        now.saturating_add(self.interval.saturating_sub(Duration::from_nanos(into_period)))
    }
}

/// A random duration within [0, `longest`].
fn up_to(longest: Duration, rng: &mut impl Rng) -> Duration {
    Duration::from_nanos(rng.random_range(0..=nanoseconds(longest)))
}

/// 584 years fit, which is more than a process lives.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The next moment of each target that waits for one, earliest first. A target is in it at most
/// once. It is a tree and no heap, so that a removed target is taken out of its middle at once, and
/// no entry can outlive its target.
#[derive(Debug, Default)]
pub(super) struct Queue(BTreeSet<(Moment, TargetId)>);

impl Queue {
    pub(super) fn push(&mut self, due: Moment, target: TargetId) {
        self.0.insert((due, target));
    }

    /// Takes out a target that waits for `due`.
    pub(super) fn remove(&mut self, due: Moment, target: TargetId) {
        self.0.remove(&(due, target));
    }

    /// The earliest moment.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.first().map(|(due, _)| *due)
    }

    /// Takes out the target that has been due the longest.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, TargetId)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first()
    }
}

#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn timing(interval: u64, timeout: u64) -> Timing {
        Timing {
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            rise: 2,
            fall: 3,
            recheck: Duration::from_millis(interval.min(1000)),
            interval_down: Duration::from_millis(interval),
            damping: true,
        }
    }

    #[test]
    fn ticks_keep_the_phase_whatever_the_probes_take() {
        for seed in 0..2000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let timing = timing(rng.random_range(100..20_000), 90);
            let rhythm = Rhythm::new(&timing, &mut rng);
            assert!(rhythm.phase < timing.interval);
            let mut now = Duration::ZERO;
            for _ in 0..20 {
                let tick = rhythm.tick_after(now);
                assert!(tick > now && tick - now <= timing.interval, "seed {seed}");
                let since_phase = nanoseconds(tick - rhythm.phase);
                assert_eq!(since_phase % nanoseconds(timing.interval), 0, "seed {seed}");
                let due = rhythm.regular(now, &mut rng);
                assert!(due >= tick && due <= tick + timing.interval / 20, "seed {seed}");
                now = due + Duration::from_millis(rng.random_range(0..90));
            }
        }
    }

    #[test]
    fn a_tick_itself_is_followed_by_the_next_one() {
        let mut rng = SmallRng::seed_from_u64(1);
        let rhythm = Rhythm::new(&timing(5000, 2000), &mut rng);
        let tick = rhythm.tick_after(Duration::from_secs(60));
        assert_eq!(rhythm.tick_after(tick), tick + Duration::from_secs(5));
        assert_eq!(rhythm.tick_after(tick - Duration::from_nanos(1)), tick);
    }

    #[test]
    fn a_probe_that_takes_its_whole_timeout_misses_no_tick() {
        for seed in 0..2000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let timing = timing(1000, rng.random_range(900..1000));
            let rhythm = Rhythm::new(&timing, &mut rng);
            let tick = rhythm.tick_after(Duration::from_secs(60));
            let ended = rhythm.regular(Duration::from_secs(60), &mut rng) + timing.timeout;
            assert!(ended <= tick + timing.interval, "seed {seed}");
        }
    }

    #[test]
    fn the_first_round_is_short_and_spread() {
        let mut rng = SmallRng::seed_from_u64(1);
        let now = Duration::from_secs(9);
        let mut first = |interval| {
            let rhythm = Rhythm::new(&timing(interval, 90), &mut rng);
            nanoseconds(rhythm.first(now, &mut rng) - now) / 1_000_000
        };
        let moments: Vec<u64> = (0..1000).map(|_| first(5000)).collect();
        assert!(moments.iter().all(|moment| *moment <= 500));
        for tenth in 0..10 {
            let count = moments.iter().filter(|moment| **moment / 50 == tenth).count();
            assert!((50..200).contains(&count), "{count} of 1000 in one tenth");
        }
        assert!((0..1000).all(|_| first(100) <= 100), "never later than one interval");
    }
}
