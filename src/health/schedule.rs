//! When each target is probed.
//!
//! [`Rhythm`] computes the ticks of one target, [`Schedule`] orders the targets by their next due
//! time.
//!
//! ```text
//! add      a random moment within [0, min(period, FIRST_ROUND)]     spreads the first probes
//! regular  the next tick after now, plus jitter                     the usual case
//! recheck  now + recheck                                            while the state is in doubt
//! ```
//!
//! The period is `interval`, or `interval_down` while the target is unhealthy. The ticks of a
//! target have a fixed random offset within each period, so slow probes do not stretch the period.
//! A missed tick is skipped. Each probe gets a jitter drawn from [0, 5 % of the period], limited so
//! that even a probe that takes its whole timeout ends before the next tick.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::health::{Moment, TargetId};

/// The first probes of all targets are spread over this time, so a start takes less than an
/// interval and does not open all connections at once.
pub const FIRST_ROUND: Duration = Duration::from_millis(500);

/// The jitter of a regular probe is at most the period divided by this.
const JITTER_DIVISOR: u32 = 20;

/// The offset of one target within every period, in units of 2^-32. It scales with the period, so
/// targets stay spread when many become unhealthy at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm(u32);

impl Rhythm {
    pub(super) fn new(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }

    /// The due time of the next probe while no outcome contradicts the state.
    pub(super) fn regular(
        self,
        period: Duration,
        timeout: Duration,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Moment {
        self.tick_after(period, now).saturating_add(up_to(longest_jitter(period, timeout), rng))
    }

    /// The first tick after `now`.
    fn tick_after(self, period: Duration, now: Moment) -> Moment {
        // A period of 0 would make the target always due. The configuration rejects it.
        let period = nanoseconds(period.max(Duration::from_millis(1)));
        let place = u64::try_from((u128::from(period) * u128::from(self.0)) >> 32).unwrap_or_default();
        let Some(since_first) = nanoseconds(now).checked_sub(place) else {
            return Duration::from_nanos(place);
        };
        now.saturating_add(Duration::from_nanos(period - since_first % period))
    }
}

/// The due time of the first probe of a new target.
pub(super) fn first(period: Duration, now: Moment, rng: &mut impl Rng) -> Moment {
    now.saturating_add(up_to(period.min(FIRST_ROUND), rng))
}

/// The longest delay of a regular probe after its tick.
#[must_use]
pub fn longest_jitter(period: Duration, timeout: Duration) -> Duration {
    (period / JITTER_DIVISOR).min(period.saturating_sub(timeout))
}

/// A random duration within [0, `longest`].
fn up_to(longest: Duration, rng: &mut impl Rng) -> Duration {
    Duration::from_nanos(rng.random_range(0..=nanoseconds(longest)))
}

/// 64 bits hold 584 years, more than any uptime.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The next due time of each waiting target, earliest first. A target is in it at most once. It is
/// a tree, not a heap, so that a removed target leaves it at once.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeSet<(Moment, TargetId)>);

impl Schedule {
    pub(super) fn push(&mut self, due: Moment, target: TargetId) {
        self.0.insert((due, target));
    }

    /// Removes a target that waits for `due`.
    pub(super) fn remove(&mut self, due: Moment, target: TargetId) {
        self.0.remove(&(due, target));
    }

    /// The earliest due time.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.first().map(|(due, _)| *due)
    }

    /// Takes the target that has been due the longest.
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

    const TIMEOUT: Duration = Duration::from_millis(90);

    #[test]
    fn ticks_keep_their_place_whatever_the_probes_take() {
        for seed in 0..2000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let period = Duration::from_millis(rng.random_range(100..20_000));
            let rhythm = Rhythm::new(&mut rng);
            let place = nanoseconds(rhythm.tick_after(period, Duration::ZERO)) % nanoseconds(period);
            let mut now = Duration::ZERO;
            for _ in 0..20 {
                let tick = rhythm.tick_after(period, now);
                assert!(tick > now && tick - now <= period, "seed {seed}");
                assert_eq!(nanoseconds(tick) % nanoseconds(period), place, "seed {seed}");
                let due = rhythm.regular(period, TIMEOUT, now, &mut rng);
                assert!(due >= tick && due <= tick + period / 20, "seed {seed}");
                now = due + Duration::from_millis(rng.random_range(0..90));
            }
        }
    }

    #[test]
    fn a_tick_itself_is_followed_by_the_next_one() {
        let period = Duration::from_secs(5);
        let rhythm = Rhythm::new(&mut SmallRng::seed_from_u64(1));
        let tick = rhythm.tick_after(period, Duration::from_secs(60));
        assert_eq!(rhythm.tick_after(period, tick), tick + period);
        assert_eq!(rhythm.tick_after(period, tick - Duration::from_nanos(1)), tick);
    }

    #[test]
    fn places_are_spread_over_periods_of_every_length() {
        let mut rng = SmallRng::seed_from_u64(1);
        let rhythms: Vec<Rhythm> = (0..1000).map(|_| Rhythm::new(&mut rng)).collect();
        let now = Duration::from_secs(86_400);
        for period in [100, 5_000, 3_600_000].map(Duration::from_millis) {
            let mut tenths = [0; 10];
            for rhythm in &rhythms {
                let wait = nanoseconds(rhythm.tick_after(period, now) - now) - 1;
                tenths[usize::try_from(wait * 10 / nanoseconds(period)).unwrap()] += 1;
            }
            assert!(tenths.iter().all(|count| (50..200).contains(count)), "{period:?}: {tenths:?}");
        }
    }

    #[test]
    fn a_probe_that_takes_its_whole_timeout_misses_no_tick() {
        let period = Duration::from_secs(1);
        for seed in 0..2000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let timeout = Duration::from_millis(rng.random_range(900..1000));
            let rhythm = Rhythm::new(&mut rng);
            let tick = rhythm.tick_after(period, Duration::from_secs(60));
            let ended = rhythm.regular(period, timeout, Duration::from_secs(60), &mut rng) + timeout;
            assert!(ended <= tick + period, "seed {seed}");
        }
    }

    #[test]
    fn the_first_round_is_short_and_spread() {
        let mut rng = SmallRng::seed_from_u64(1);
        let now = Duration::from_secs(9);
        let mut wait =
            |period| nanoseconds(first(Duration::from_millis(period), now, &mut rng) - now) / 1_000_000;
        let moments: Vec<u64> = (0..1000).map(|_| wait(5000)).collect();
        assert!(moments.iter().all(|moment| *moment <= 500));
        for tenth in 0..10 {
            let count = moments.iter().filter(|moment| **moment / 50 == tenth).count();
            assert!((50..200).contains(&count), "{count} of 1000 in one tenth");
        }
        assert!((0..1000).all(|_| wait(100) <= 100), "never later than one period");
    }
}
