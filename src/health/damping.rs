//! Keeps an address out for longer that falls again and again.
//!
//! A *fall* is the change to unhealthy of an address that was healthy or draining. An address that returns
//! after each fall within a few seconds, only to fall again, costs clients more than one that stays away.
//!
//! ```text
//! falls in the last 10 minutes     1, 2    3     4     5      6      7 and more
//! hold                             none    30 s  60 s  120 s  240 s  300 s
//! ```
//!
//! The falls are counted when the way back begins: with the first passed outcome after a failed one.
//! From then on the address has to pass for the whole hold, in addition to `rise` passes; a failure
//! ends the attempt, and the next one begins anew. It returns with the first passed outcome at the
//! end of the hold, so at the latest one interval, its jitter and the time of one probe after it.
//!
//! The holds themselves keep the falls few: by the time a hold of 300 s is over, the first falls are
//! forgotten. With the default timing an address that fails whenever it has returned does so 27 times
//! in an hour; without damping it would be 360 times.

use std::time::Duration;

use crate::health::Moment;

/// Falls count for this long.
pub const DAMPING_WINDOW: Duration = Duration::from_secs(600);

/// From this many falls within [`DAMPING_WINDOW`] on the way back has a hold.
pub const DAMPED_FALLS: u8 = 3;

/// The hold after [`DAMPED_FALLS`] falls; each further fall doubles it.
pub const FIRST_HOLD: Duration = Duration::from_secs(30);

/// The longest hold.
pub const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// More falls than this are not remembered: they would not make the hold longer.
const MOST_FALLS: usize = 7;

/// The falls of one target, and its way back.
#[derive(Debug, Default)]
pub(super) struct Damping {
    /// The last falls within the window, at most [`MOST_FALLS`], the oldest first. Most targets
    /// never fall, and this takes no memory of its own then.
    falls: Vec<Moment>,
    /// The end of the hold, while the target is on its way back.
    until: Option<Moment>,
}

impl Damping {
    /// The target falls.
    pub(super) fn fall(&mut self, now: Moment) {
        if self.falls.len() == MOST_FALLS {
            self.falls.remove(0);
        }
        self.falls.push(now);
    }

    /// Forgets falls that have left the window.
    pub(super) fn forget(&mut self, now: Moment) {
        if self.falls.first().is_some_and(|fall| now.saturating_sub(*fall) > DAMPING_WINDOW) {
            self.falls.retain(|fall| now.saturating_sub(*fall) <= DAMPING_WINDOW);
        }
    }

    /// The target passes while it is unhealthy. Whether it has to stay so even if `rise` is reached.
    pub(super) fn holds(&mut self, now: Moment) -> bool {
        let falls = self.falls();
        now < *self.until.get_or_insert_with(|| now.saturating_add(hold(falls)))
    }

    /// The way back is over: it has led to the end, or the target has failed.
    pub(super) fn leave_way_back(&mut self) {
        self.until = None;
    }

    /// The end of the hold, which lies in the past if there is none.
    pub(super) fn until(&self) -> Option<Moment> {
        self.until
    }

    /// How many falls are remembered.
    pub(super) fn falls(&self) -> u8 {
        u8::try_from(self.falls.len()).unwrap_or(u8::MAX)
    }
}

/// How long the way back takes at least after so many falls.
fn hold(falls: u8) -> Duration {
    let Some(doublings) = falls.checked_sub(DAMPED_FALLS) else { return Duration::ZERO };
    FIRST_HOLD.saturating_mul(1_u32.checked_shl(doublings.into()).unwrap_or(u32::MAX)).min(LONGEST_HOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_double_up_to_the_longest() {
        let seconds: Vec<u64> = (0..=9).map(|falls| hold(falls).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 30, 60, 120, 240, 300, 300, 300]);
        assert_eq!(hold(u8::MAX), LONGEST_HOLD);
    }

    #[test]
    fn what_is_not_remembered_makes_no_difference() {
        let most = u8::try_from(MOST_FALLS).unwrap();
        assert_eq!(hold(most), LONGEST_HOLD);
        assert!(hold(most - 1) < LONGEST_HOLD);
        let mut damping = Damping::default();
        for second in 0..20 {
            damping.fall(Duration::from_secs(second));
        }
        assert_eq!(damping.falls, (13..20).map(Duration::from_secs).collect::<Vec<_>>());
    }

    #[test]
    fn falls_are_forgotten_after_ten_minutes() {
        let mut damping = Damping::default();
        let minutes = |count: u64| Duration::from_secs(60 * count);
        for minute in [0, 1, 2] {
            damping.fall(minutes(minute));
        }
        damping.forget(minutes(10));
        assert_eq!(damping.falls(), 3);
        damping.forget(minutes(10) + Duration::from_nanos(1));
        assert_eq!(damping.falls(), 2);
        damping.forget(minutes(60));
        assert_eq!(damping.falls(), 0);
    }

    #[test]
    fn the_hold_runs_from_the_first_pass() {
        let mut damping = Damping::default();
        let second = Duration::from_secs;
        (0..3).for_each(|at| damping.fall(second(at)));
        assert!(damping.holds(second(10)));
        assert!(damping.holds(second(39)));
        assert_eq!(damping.until(), Some(second(40)));
        assert!(!damping.holds(second(40)));
        damping.leave_way_back();
        assert!(damping.holds(second(41)), "a failure came between");
        assert_eq!(damping.until(), Some(second(71)));
    }
}
