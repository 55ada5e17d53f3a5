//! Damping: an address that keeps falling is held back longer each time.
//!
//! A *fall* is the change of an address from healthy or draining to unhealthy. An address that
//! falls again and again soon after it returns costs clients more than one that stays down.
//!
//! ```text
//! falls in the last 10 minutes     1, 2    3     4     5      6      7 and more
//! hold                             none    30 s  60 s  120 s  240 s  300 s
//! ```
//!
//! The hold starts with the first passed outcome after a failed one, and its length depends on the
//! falls at that time. During the hold the address must keep passing, as well as reach `rise`. A
//! failure ends the attempt, and the next pass starts a new hold. The address returns with the
//! first passed outcome after the hold, which comes at most an interval, its jitter and the
//! duration of a probe later.
//!
//! Holds also limit the number of falls: during a hold of 300 s, the oldest falls leave the window.
//! With the default timing, an address that fails after every return falls 27 times an hour;
//! without damping it would fall 360 times.

use std::time::Duration;

use crate::health::Moment;

/// How long a fall counts.
pub const DAMPING_WINDOW: Duration = Duration::from_secs(600);

/// This many falls within [`DAMPING_WINDOW`] cause a hold.
pub const DAMPED_FALLS: u8 = 3;

/// The hold after [`DAMPED_FALLS`] falls; each further fall doubles it.
pub const FIRST_HOLD: Duration = Duration::from_secs(30);

/// The longest hold.
pub const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// The most falls that are stored. More would not lengthen the hold.
const MOST_FALLS: usize = 7;

/// The falls of one target, and its current hold. A target without either has only a null pointer.
#[derive(Debug, Default)]
pub(super) struct Damping(Option<Box<Falls>>);

#[derive(Debug, Default)]
struct Falls {
    /// The last falls within the window, oldest first, at most [`MOST_FALLS`].
    last: Vec<Moment>,
    /// The end of the hold, while the target is recovering.
    until: Option<Moment>,
}

impl Damping {
    /// The damping of a target with this many falls and this hold.
    pub(super) fn resumed(falls: u8, until: Option<Moment>, now: Moment) -> Self {
        let last = vec![now; usize::from(falls).min(MOST_FALLS)];
        let mut damping = Self(Some(Box::new(Falls { last, until })));
        damping.free();
        damping
    }

    /// Records a fall.
    pub(super) fn fall(&mut self, now: Moment) {
        let Falls { last, .. } = &mut **self.0.get_or_insert_default();
        if last.len() == MOST_FALLS {
            last.remove(0);
        }
        last.push(now);
    }

    /// Drops falls that are older than the window.
    pub(super) fn forget(&mut self, now: Moment) {
        let Some(falls) = &mut self.0 else { return };
        if falls.last.first().is_some_and(|fall| now.saturating_sub(*fall) > DAMPING_WINDOW) {
            falls.last.retain(|fall| now.saturating_sub(*fall) <= DAMPING_WINDOW);
        }
        self.free();
    }

    /// Frees the memory if there is neither a fall nor a hold.
    fn free(&mut self) {
        self.0.take_if(|falls| falls.last.is_empty() && falls.until.is_none());
    }

    /// Handles a pass of an unhealthy target. Returns whether it must stay unhealthy even if `rise`
    /// is reached.
    pub(super) fn holds(&mut self, now: Moment) -> bool {
        let falls = self.falls();
        let until = &mut self.0.get_or_insert_default().until;
        now < *until.get_or_insert_with(|| now.saturating_add(hold(falls)))
    }

    /// Ends the hold, because the target has returned or failed.
    pub(super) fn leave_way_back(&mut self) {
        if let Some(falls) = &mut self.0 {
            falls.until = None;
            self.free();
        }
    }

    /// The end of the hold; it may be in the past.
    pub(super) fn until(&self) -> Option<Moment> {
        self.0.as_ref()?.until
    }

    /// The number of stored falls.
    pub(super) fn falls(&self) -> u8 {
        self.0.as_ref().map_or(0, |falls| u8::try_from(falls.last.len()).unwrap_or(u8::MAX))
    }
}

/// The length of the hold after this many falls.
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
        assert_eq!(damping.0.unwrap().last, (13..20).map(Duration::from_secs).collect::<Vec<_>>());
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
        assert!(damping.0.is_none());
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
