//! Times of day that remain correct when the clock jumps.
//!
//! Times are kept on a steady calendar. It begins with the time of day at the start, and advances with the time
//! that passes, including time in suspend. When the time of day is corrected, stored times stay the same, and
//! the correction is added when they are displayed:
//!
//! ```text
//! time of day     12:00 ... 12:10   jumps to   15:10 ... 15:20
//! steady calendar 12:00 ... 12:10              12:10 ... 12:20
//! shown           12:00 ... 12:10              15:10 ... 15:20     what began at 12:00 is shown as 15:00
//! ```

use std::time::{Duration, SystemTime};

/// A smaller difference is not a jump: the two clocks are read one after the other, and time services make
/// small corrections.
const JUMP: Duration = Duration::from_secs(1);

/// A time on the steady calendar, in microseconds since 1970. It has half the size of a [`SystemTime`], and a
/// range of 290,000 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Stamp(i64);

impl Stamp {
    pub(super) const EPOCH: Self = Self(0);

    fn of(time: SystemTime) -> Self {
        Self(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => microseconds(after),
            Err(before) => -microseconds(before.duration()),
        })
    }

    fn time(self) -> SystemTime {
        let since = Duration::from_micros(self.0.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let time = if self.0 < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) };
        time.unwrap_or(epoch)
    }

    /// This time plus a duration.
    pub(super) fn after(self, passed: Duration) -> Self {
        Self(self.0.saturating_add(microseconds(passed)))
    }

    /// This time minus a duration.
    pub(super) fn before(self, passed: Duration) -> Self {
        Self(self.0.saturating_sub(microseconds(passed)))
    }

    /// The time since an earlier one; zero if it is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }
}

fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The steady calendar, and its difference from the time of day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    /// The time of day at the start.
    began: Stamp,
    /// The reading of the clock of elapsed time at the start.
    origin: Duration,
    /// How far the time of day is ahead of this calendar, microseconds.
    ahead: i64,
}

impl Calendar {
    /// Starts a calendar at this time of day and this elapsed time.
    pub(super) fn new(wall: SystemTime, passed: Duration) -> Self {
        Self { began: Stamp::of(wall), origin: passed, ahead: 0 }
    }

    /// The stamp for an elapsed time.
    pub(super) fn stamp(&self, passed: Duration) -> Stamp {
        self.began.after(passed.saturating_sub(self.origin))
    }

    /// The stamp for a time of day.
    pub(super) fn stamp_of(&self, time: SystemTime) -> Stamp {
        Stamp(Stamp::of(time).0.saturating_sub(self.ahead))
    }

    /// The time of day to display for a stamp.
    pub(super) fn shown(&self, stamp: Stamp) -> SystemTime {
        Stamp(stamp.0.saturating_add(self.ahead)).time()
    }

    /// The time of day to display for a stamp, since 1970.
    pub(super) fn shown_since_1970(&self, stamp: Stamp) -> Duration {
        Duration::from_micros(u64::try_from(stamp.0.saturating_add(self.ahead)).unwrap_or_default())
    }

    /// The stamp for a time of day since 1970.
    pub(super) fn stamp_since_1970(&self, time: Duration) -> Stamp {
        Stamp(microseconds(time).saturating_sub(self.ahead))
    }

    /// Compares the time of day with this calendar. Returns the seconds of a jump, positive if forward.
    pub(super) fn correct(&mut self, wall: SystemTime, passed: Duration) -> Option<f64> {
        let ahead = Stamp::of(wall).0.saturating_sub(self.stamp(passed).0);
        let jump = ahead.saturating_sub(self.ahead);
        if Duration::from_micros(jump.unsigned_abs()) < JUMP {
            return None;
        }
        self.ahead = ahead;
        #[allow(clippy::cast_precision_loss, reason = "for display")]
        Some(jump as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn what_is_kept_is_shown_on_the_corrected_clock() {
        let origin = Duration::from_secs(500);
        let mut calendar = Calendar::new(at(0), origin);
        let began = calendar.stamp(origin + Duration::from_secs(10));
        let end = began.after(Duration::from_secs(3600));
        assert_eq!(calendar.shown(end), at(3610));
        let passed = origin + Duration::from_secs(20);
        assert_eq!(calendar.correct(at(20) + Duration::from_millis(900), passed), None, "no jump");
        assert_eq!(calendar.shown(end), at(3610), "what is shown does not tremble");
        for (wall, shown) in [(at(20) + 2 * DAY, at(3610) + 2 * DAY), (at(20) - DAY, at(3610) - DAY)] {
            assert!(calendar.correct(wall, passed).is_some());
            assert_eq!(calendar.correct(wall, passed), None, "a jump is told once");
            assert_eq!(calendar.shown(end), shown);
            assert_eq!(calendar.stamp_of(shown), end);
            assert_eq!(
                calendar.stamp(passed).since(began),
                Duration::from_secs(10),
                "no time has passed by it"
            );
        }
    }

    #[test]
    fn small_corrections_add_up_to_a_jump() {
        let mut calendar = Calendar::new(at(0), Duration::ZERO);
        let mut jumps = 0;
        for step in 1..=100_u32 {
            let passed = Duration::from_secs(step.into());
            jumps += usize::from(
                calendar.correct(at(0) + passed + Duration::from_millis(30) * step, passed).is_some(),
            );
        }
        assert_eq!(jumps, 2);
    }

    #[test]
    fn times_that_no_calendar_has_end_at_its_ends() {
        let calendar = Calendar::new(at(0), Duration::ZERO);
        let before_1970 = SystemTime::UNIX_EPOCH - DAY;
        assert_eq!(calendar.shown(calendar.stamp_of(before_1970)), before_1970);
        let far = calendar.stamp(Duration::MAX);
        assert_eq!(
            far.since(calendar.stamp(Duration::ZERO)),
            Duration::from_micros(i64::MAX as u64 - 1_700_000_000_000_000)
        );
        assert!(calendar.shown(far) > at(0));
        assert_eq!(calendar.stamp(Duration::ZERO).since(far), Duration::ZERO);
    }
}
