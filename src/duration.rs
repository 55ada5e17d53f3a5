//! Durations and times of day as people write them, in messages, logs and differences: `20s`, `1m30s`, `2.3s`,
//! `500ms`; `03:04:05 UTC`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::friendly::{FractionalUnit, Spacing, SpanPrinter};

/// A duration as people write it in a configuration.
///
/// From one second up, seconds have a fraction: `2.3s`. Shorter durations are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(duration) = *self;
        if duration.is_zero() {
            return f.write_str("0s");
        }
        let unit = if duration < Duration::from_secs(1) {
            FractionalUnit::Millisecond
        } else {
            FractionalUnit::Second
        };
        let has_fraction = match unit {
            FractionalUnit::Millisecond => {
                duration.subsec_micros() % 1000 != 0 || duration.subsec_nanos() % 1000 != 0
            }
            _ => duration.subsec_nanos() != 0,
        };
        let printer = SpanPrinter::new().spacing(Spacing::None).fractional(has_fraction.then_some(unit));
        f.write_str(&printer.unsigned_duration_to_string(&duration))
    }
}

/// A time in UTC to the second, with the date unless it is the date of `now`.
#[must_use]
pub fn time_of_day(time: Timestamp, now: Timestamp) -> String {
    let date = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let with_date = date(time) != date(now);
    time.strftime(if with_date { "%Y-%m-%d %H:%M:%S UTC" } else { "%H:%M:%S UTC" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let time = at("2026-01-02T00:04:05Z");
        assert_eq!(time_of_day(time, at("2026-01-02T23:00:00Z")), "00:04:05 UTC");
        assert_eq!(time_of_day(time, at("2026-01-01T23:59:00Z")), "2026-01-02 00:04:05 UTC");
    }

    #[test]
    fn as_a_person_writes_them() {
        for (duration, shown) in [
            (Duration::ZERO, "0s"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_micros(1500), "1.5ms"),
            (Duration::from_micros(20), "0.02ms"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(2300), "2.3s"),
            (Duration::from_secs(20), "20s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_millis(90_500), "1m30.5s"),
            (Duration::from_millis(60_500), "1m0.5s"),
            (Duration::from_secs(1800), "30m"),
            (Duration::from_secs(5400), "1h30m"),
            (Duration::from_secs(366 * 24 * 3600), "8784h"),
        ] {
            assert_eq!(Shown(duration).to_string(), shown);
        }
    }
}
