//! System clocks: the time since boot, and the time of day in seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The time since the machine started, including suspended time (`CLOCK_BOOTTIME`). It cannot be
/// set.
#[must_use]
pub fn since_boot() -> Duration {
    reading(ClockId::Boottime)
}

/// The time since the machine started, without suspended time (`CLOCK_MONOTONIC`).
#[must_use]
pub fn monotonic() -> Duration {
    reading(ClockId::Monotonic)
}

fn reading(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // The kernel returns no negative times, and fewer than 10^9 nanoseconds.
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}

/// The time of day as seconds since 1970, which may jump; 0 before 1970.
#[must_use]
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward_and_is_no_younger_than_the_monotonic_clock() {
        let monotonic = clock_gettime(ClockId::Monotonic);
        let first = since_boot();
        assert!(first.as_secs() >= u64::try_from(monotonic.tv_sec).unwrap());
        assert!(since_boot() >= first);
    }
}
