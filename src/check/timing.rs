//! When a check runs, and its thresholds.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Range of `interval`, `interval_down` and `recheck`.
pub const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// Range of `timeout`; the intervals limit it too.
pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Range of `rise` and `fall`, in consecutive outcomes.
pub const FLIPS: RangeInclusive<u16> = 1..=100;

/// When probes run, and how many outcomes change a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The time between two probes: [`INTERVALS`].
    pub interval: Duration,
    /// The maximum duration of a probe: [`TIMEOUTS`], below both intervals.
    pub timeout: Duration,
    /// Consecutive passed probes that make an unhealthy address healthy: [`FLIPS`].
    pub rise: u16,
    /// Consecutive failed probes that make a healthy address unhealthy: [`FLIPS`].
    pub fall: u16,
    /// The time from an outcome that contradicts the state to the next probe: [`INTERVALS`], at most the
    /// shorter interval.
    pub recheck: Duration,
    /// The time between two probes of an unhealthy address: [`INTERVALS`].
    pub interval_down: Duration,
    /// Whether an address that falls again and again must pass for longer before it returns.
    pub damping: bool,
}
