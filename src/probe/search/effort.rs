//! How much processor time the searches for a target take, and when this is too much.
//!
//! A target is *charged* for the time that its searches take beyond the time for a plain expression. The charge
//! outlasts the probe: the next probe of the target starts with the rest of it. So a backend that causes slow searches
//! is known when its next probe starts. A probe whose searches have ended leaves half of its initial charge, or its own
//! charge if that is more. A probe whose search has not ended leaves the whole charge.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How much processor time all searches of one probe may take. A megabyte takes about a millisecond with a
/// plain expression, and up to a second with one whose states never repeat.
pub(super) const BUDGET: Duration = Duration::from_millis(100);

/// Up to this charge, a search counts as short. Long searches give way to short ones; if there is no time for a long
/// one, this is the backend's own fault.
const SHORT: Duration = Duration::from_micros(500);

/// The time that a simple expression takes. Measured: 64 KiB took a dozen simple expressions 2 to 120 microseconds; those
/// whose states never repeat took 20 milliseconds or more.
const PLAIN_PER_KIB: Duration = Duration::from_micros(4);

/// How many bytes the first step searches.
const FIRST_STEP: usize = 1024;

/// The effort of the searches of one probe so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effort {
    /// The rest of the charge of the target's last probe.
    inherited: Duration,
    /// How many bytes the last step searched.
    through: usize,
    /// The processor time of that step.
    took: Duration,
    /// The processor time of all steps.
    spent: Duration,
    /// The part of `spent` beyond the time of a plain expression.
    excess: Duration,
}

impl Effort {
    /// No effort yet, after a probe that left this rest of its charge.
    pub(super) fn after(inherited: Duration) -> Self {
        Self { inherited, ..Self::default() }
    }

    /// How many of these bytes the next step searches: twice as many as the last one.
    pub(super) fn next_step(&self, bytes: usize) -> usize {
        FIRST_STEP.max(self.through * 2).min(bytes)
    }

    /// Adds a step.
    pub(super) fn add(&mut self, through: usize, took: Duration) {
        (self.through, self.took) = (through, took);
        self.spent += took;
        self.excess += self.last_excess();
    }

    fn last_excess(&self) -> Duration {
        let kib = u32::try_from(self.through / 1024).unwrap_or(u32::MAX);
        self.took.saturating_sub(PLAIN_PER_KIB * kib)
    }

    /// Whether the next step would exceed the budget.
    pub(super) fn is_too_long(&self) -> bool {
        self.spent + self.took * 2 > BUDGET
    }

    /// The charge after the next step.
    pub(super) fn charge(&self) -> Duration {
        self.inherited.max(self.excess + self.last_excess() * 2)
    }

    /// The charge that remains for the target's next probe when the search has ended.
    pub(super) fn rest(&self) -> Duration {
        self.excess.max(self.inherited / 2)
    }
}

/// Whether a search with this charge counts as long.
pub(super) fn is_long(charge: Duration) -> bool {
    charge > SHORT
}

/// The charge of a running search, for the probe that waits for it.
#[derive(Debug)]
pub(super) struct Charge(AtomicU64);

impl Charge {
    pub(super) fn new(charge: Duration) -> Self {
        Self(AtomicU64::new(nanoseconds(charge)))
    }

    pub(super) fn set(&self, charge: Duration) {
        self.0.store(nanoseconds(charge), Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// The effort of searching this many KiB, at this time per KiB.
    fn search(rest: Duration, kib: usize, per_kib: Duration) -> Effort {
        let mut effort = Effort::after(rest);
        while effort.through < kib * 1024 && !effort.is_too_long() {
            let through = effort.next_step(kib * 1024);
            effort.add(through, per_kib * u32::try_from(through / 1024).unwrap());
        }
        effort
    }

    #[test]
    fn a_plain_search_is_short_however_much_it_goes_through() {
        for kib in [1, 64, 1000, 4096] {
            assert_eq!(search(Duration::ZERO, kib, 2 * US).charge(), Duration::ZERO, "{kib} KiB");
        }
    }

    #[test]
    fn a_slow_search_is_long_after_the_first_step() {
        let effort = search(Duration::ZERO, 1, 300 * US);
        assert!(is_long(effort.charge()), "{effort:?}");
        assert!(search(Duration::ZERO, 1024, 300 * US).is_too_long());
    }

    #[test]
    fn a_target_with_long_searches_begins_with_a_long_one() {
        let rest = search(Duration::ZERO, 64, 300 * US).rest();
        assert!(is_long(Effort::after(rest).charge()));
        let mut rests = Vec::new();
        let mut rest = rest;
        while is_long(rest) {
            rest = search(rest, 64, 2 * US).rest();
            rests.push(rest);
        }
        assert!((5..10).contains(&rests.len()), "{rests:?}");
    }
}
