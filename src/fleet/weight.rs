//! The percentage of its weight that an address gets: slow start after a recovery, and load feedback.
//!
//! Both give the current percentage and when it changes by itself. It changes in steps, because each step
//! publishes the pools that it affects, and many addresses may be in slow start at once. An address without
//! either costs only two null pointers.

use std::time::Duration;

use crate::health::Moment;
use crate::table::{FULL_WEIGHT, Standing};

/// The most steps in a slow start; each is at least 5 % of the weight.
pub(super) const MOST_STEPS: u8 = 20;

/// The shortest duration of a step.
pub(super) const SHORTEST_STEP: Duration = Duration::from_millis(500);

/// The weight of the latest report in the moving average of the load, percent. An answer affects the load
/// only after its TTL, so an average that follows within a few probes would oscillate. With 30 %, the average
/// follows half of a change after two reports, and nine tenths after seven.
pub(super) const NEWEST_REPORT: u32 = 30;

/// A smaller change of load is not published. In percentage points.
pub(super) const LEAST_CHANGE: u8 = 5;

/// A report of load is valid for this many intervals of its check.
pub(super) const REPORT_LIFETIME: u32 = 3;

/// The weight of a recovered address grows from 1 to 100 percent, linearly and in steps.
///
/// ```text
///  full <---- the time is over ---- growing <--+
///    |                                 |       | unhealthy or draining -> healthy
///    +------- not healthy ---------> full -----+
/// ```
///
/// Each address of a pool has its own, because the pool defines the length.
#[derive(Debug, Default)]
pub(super) struct SlowStart(Option<Box<Growth>>);

#[derive(Debug)]
struct Growth {
    began: Moment,
    step: Duration,
    steps: u8,
}

impl SlowStart {
    /// Handles a change of the standing. A slow start that has begun keeps its length even if a reload
    /// changes it.
    ///
    /// An address without an earlier outcome does not start slowly: it may have served all the time.
    pub(super) fn turned(&mut self, from: Standing, to: Standing, length: Duration, now: Moment) {
        if from == to {
            return;
        }
        let recovered = to == Standing::Healthy && matches!(from, Standing::Unhealthy | Standing::Draining);
        self.0 = (recovered && !length.is_zero()).then(|| Box::new(Growth::new(length, now)));
    }

    /// The percentage of the weight, 1 to 100.
    pub(super) fn percent(&self, now: Moment) -> u8 {
        self.0.as_ref().map_or(FULL_WEIGHT, |growth| growth.percent(growth.done(now)))
    }

    /// When the percentage next changes by itself. Frees a slow start that is over.
    pub(super) fn next_change(&mut self, now: Moment) -> Option<Moment> {
        let growth = self.0.as_ref()?;
        let done = growth.done(now);
        if done < growth.steps {
            return Some(growth.began.saturating_add(growth.step.saturating_mul(u32::from(done) + 1)));
        }
        self.0 = None;
        None
    }
}

impl Growth {
    fn new(length: Duration, began: Moment) -> Self {
        let fitting = length.as_nanos() / SHORTEST_STEP.as_nanos();
        let steps = u8::try_from(fitting).unwrap_or(MOST_STEPS).clamp(1, MOST_STEPS);
        Self { began, step: length / u32::from(steps), steps }
    }

    /// The number of completed steps.
    fn done(&self, now: Moment) -> u8 {
        let since = now.saturating_sub(self.began);
        let done = since.as_nanos().checked_div(self.step.as_nanos());
        done.and_then(|done| u8::try_from(done).ok()).map_or(self.steps, |done| done.min(self.steps))
    }

    fn percent(&self, done: u8) -> u8 {
        let grown = u16::from(FULL_WEIGHT - 1) * u16::from(done) / u16::from(self.steps.max(1));
        u8::try_from(1 + grown).unwrap_or(FULL_WEIGHT)
    }
}

/// The smoothed load that a backend reports. Each target has one.
///
/// Reports expire: a backend that stops reporting gets its full weight again.
#[derive(Debug, Default)]
pub(super) struct Load(Option<Box<Reports>>);

#[derive(Debug)]
struct Reports {
    /// The moving average, in hundredths of a percent.
    mean: u32,
    /// The percentage as last published.
    told: u8,
    /// When the latest report expires.
    end: Moment,
}

/// Hundredths in a percent.
const HUNDREDTHS: u32 = 100;

impl Load {
    /// Handles a report: the percentage of its weight that the backend wants, at most 100. `interval` is that
    /// of the check. Returns whether the percentage has changed.
    pub(super) fn reported(&mut self, percent: u8, interval: Duration, now: Moment) -> bool {
        let before = self.percent(now);
        let newest = u32::from(percent.min(FULL_WEIGHT)) * HUNDREDTHS;
        let mean = match &self.0 {
            Some(reports) if now < reports.end => {
                (reports.mean * (100 - NEWEST_REPORT) + newest * NEWEST_REPORT + 50) / 100
            }
            _ => newest,
        };
        let rounded = u8::try_from((mean + HUNDREDTHS / 2) / HUNDREDTHS).unwrap_or(FULL_WEIGHT);
        let is_end = rounded == 0 || rounded == FULL_WEIGHT;
        let told = if is_end || rounded.abs_diff(before) >= LEAST_CHANGE { rounded } else { before };
        let end = now.saturating_add(interval.saturating_mul(REPORT_LIFETIME));
        let reports = Reports { mean, told, end };
        match &mut self.0 {
            Some(place) => **place = reports,
            None => self.0 = Some(Box::new(reports)),
        }
        told != before
    }

    /// The percentage of the weight, 0 to 100.
    pub(super) fn percent(&self, now: Moment) -> u8 {
        let believed = self.0.as_ref().filter(|reports| now < reports.end);
        believed.map_or(FULL_WEIGHT, |reports| reports.told)
    }

    /// When the percentage changes without another report. Drops expired reports.
    pub(super) fn next_change(&mut self, now: Moment) -> Option<Moment> {
        self.0.take_if(|reports| now >= reports.end);
        self.0.as_ref().filter(|reports| reports.told != FULL_WEIGHT).map(|reports| reports.end)
    }
}

/// The combined percentage, for [`crate::table::AddressCondition::percent`]. If several checks report a load, the lowest
/// applies. The result is rounded up, so it is 0 only if a load is 0.
pub(super) fn percent(slow_start: u8, loads: impl IntoIterator<Item = u8>) -> u8 {
    let load = loads.into_iter().min().unwrap_or(FULL_WEIGHT);
    let product = u16::from(slow_start) * u16::from(load);
    u8::try_from(product.div_ceil(FULL_WEIGHT.into())).unwrap_or(FULL_WEIGHT).min(FULL_WEIGHT)
}

#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const STANDINGS: [Standing; 4] =
        [Standing::Healthy, Standing::Draining, Standing::Unhealthy, Standing::Unknown];

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// The slow start of an address that has just recovered.
    fn recovered(length: Duration, now: Moment) -> SlowStart {
        let mut slow_start = SlowStart::default();
        slow_start.turned(Standing::Unhealthy, Standing::Healthy, length, now);
        slow_start
    }

    #[test]
    fn a_slow_start_grows_in_steps_that_are_few_and_rare() {
        for seed in 0..2000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let longest = [700, 20_000, 10_000_000][rng.random_range(0..3)];
            let length = milliseconds(rng.random_range(1..longest));
            let began = milliseconds(rng.random_range(0..1_000_000));
            let mut slow_start = recovered(length, began);
            let (mut now, mut percent) = (began, 1);
            assert_eq!(slow_start.percent(now), percent, "seed {seed}");
            let mut steps = 0;
            while let Some(next) = slow_start.next_change(now) {
                assert!(next > now, "seed {seed}");
                assert!(
                    next - now >= SHORTEST_STEP.min(length) - Duration::from_nanos(1),
                    "seed {seed}: {now:?} {next:?}"
                );
                let between = now + Duration::from_nanos(rng.random_range(0..nanoseconds(next - now)));
                assert_eq!(slow_start.percent(between), percent, "nothing before its time, seed {seed}");
                assert_eq!(slow_start.next_change(between), Some(next), "seed {seed}");
                now = next;
                assert!(slow_start.percent(now) > percent, "each step is one, seed {seed}");
                percent = slow_start.percent(now);
                let linear = 1 + 99 * nanoseconds(now - began) / nanoseconds(length);
                assert!(linear.abs_diff(percent.into()) <= 1, "seed {seed}: {percent} instead of {linear}");
                steps += 1;
            }
            assert_eq!(percent, 100, "seed {seed}");
            assert!((1..=MOST_STEPS).contains(&steps), "seed {seed}");
            assert!(began + length - now <= Duration::from_nanos(u64::from(MOST_STEPS)), "seed {seed}");
            assert!(slow_start.0.is_none(), "it takes no memory when it is over");
        }
    }

    fn nanoseconds(duration: Duration) -> u64 {
        duration.as_nanos().try_into().unwrap()
    }

    #[test]
    fn only_a_recovery_starts_slowly() {
        let now = milliseconds(5000);
        for from in STANDINGS {
            for to in STANDINGS {
                let mut slow_start = recovered(milliseconds(60_000), Duration::ZERO);
                slow_start.turned(from, to, milliseconds(60_000), now);
                let percent = match (from, to) {
                    _ if from == to => 5,
                    (Standing::Unhealthy | Standing::Draining, Standing::Healthy) => 1,
                    _ => 100,
                };
                assert_eq!(slow_start.percent(now), percent, "{from:?} {to:?}");
                assert_eq!(slow_start.next_change(now).is_some(), percent < 100, "{from:?} {to:?}");
            }
        }
        assert_eq!(recovered(Duration::ZERO, now).percent(now), 100, "no slow start is configured");
    }

    /// The moving average by definition, without steps and expiry.
    fn mean(reports: &[u8]) -> f64 {
        let (first, rest) = reports.split_first().unwrap();
        rest.iter().fold(f64::from(*first), |mean, report| 0.7 * mean + 0.3 * f64::from(*report))
    }

    #[test]
    fn load_follows_the_mean_of_the_reports() {
        let interval = milliseconds(5000);
        for seed in 0..500 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut load = Load::default();
            let mut now = milliseconds(1);
            let mut reports: Vec<u8> = Vec::new();
            let mut before = 100;
            for step in 0..100 {
                let context = format!("seed {seed}, step {step}");
                if rng.random_ratio(1, 10) {
                    // No report arrives for a while, perhaps for too long.
                    let silence = interval * rng.random_range(0..6);
                    let end = load.next_change(now);
                    assert_eq!(end.is_some(), before != 100, "{context}");
                    now += silence;
                    if silence >= interval * (REPORT_LIFETIME - 1) {
                        reports.clear();
                        before = 100;
                        assert!(end.is_none_or(|end| end <= now), "{context}");
                        assert_eq!(load.next_change(now), None, "{context}");
                        assert!(load.0.is_none(), "{context}");
                    }
                    assert_eq!(load.percent(now), before, "{context}");
                }
                let report = [0, 100, u8::MAX, rng.random_range(0..=100)][rng.random_range(0..4)];
                reports.push(report.min(100));
                let changed = load.reported(report, interval, now);
                let percent = load.percent(now);
                assert_eq!(changed, percent != before, "{context}");
                let exact = mean(&reports);
                let off = (f64::from(percent) - exact).abs();
                assert!(off < f64::from(LEAST_CHANGE) + 0.6, "{context}: {percent} for {exact}");
                assert!(exact > 0.2 || percent == 0, "{context}: {percent} for {exact}");
                assert!(exact < 99.8 || percent == 100, "{context}: {percent} for {exact}");
                let small = percent.abs_diff(before) < LEAST_CHANGE;
                assert!(!changed || !small || percent == 0 || percent == 100, "{context}");
                before = percent;
                now += interval;
            }
        }
    }

    #[test]
    fn a_report_is_believed_for_three_intervals() {
        let interval = milliseconds(5000);
        let mut load = Load::default();
        assert!(load.reported(20, interval, interval));
        let end = interval * 4;
        assert_eq!(load.next_change(interval), Some(end));
        assert_eq!(load.percent(end - Duration::from_nanos(1)), 20);
        assert_eq!(load.percent(end), 100);
        assert!(load.reported(40, interval, end), "what is too old has no part in the mean");
        assert_eq!(load.percent(end), 40);
    }

    #[test]
    fn steady_reports_are_told_once() {
        let mut load = Load::default();
        let changes = (0..100_u32)
            .filter(|step| {
                let report = [48, 52][*step as usize % 2];
                load.reported(report, milliseconds(1000), milliseconds(1000) * *step)
            })
            .count();
        assert_eq!(changes, 1);
    }

    #[test]
    fn both_multiply_and_leave_at_least_something() {
        for slow_start in 1..=100 {
            for load in 0..=100 {
                let percent = percent(slow_start, [100, load]);
                let exact = f64::from(slow_start) * f64::from(load) / 100.0;
                assert!((f64::from(percent) - exact) >= 0.0 && f64::from(percent) - exact < 1.0);
                assert_eq!(percent == 0, load == 0);
            }
            assert_eq!(percent(slow_start, []), slow_start);
        }
    }

    #[test]
    fn the_extremes_fit() {
        let mut slow_start = recovered(Duration::MAX, Duration::MAX);
        assert_eq!(slow_start.percent(Duration::MAX), 1);
        assert_eq!(slow_start.next_change(Duration::MAX), Some(Duration::MAX));
        let mut slow_start = recovered(Duration::from_nanos(1), Duration::ZERO);
        assert_eq!(slow_start.next_change(Duration::ZERO), Some(Duration::from_nanos(1)));
        assert_eq!(slow_start.next_change(Duration::MAX), None);
        let mut load = Load::default();
        assert!(load.reported(1, Duration::MAX, Duration::MAX) || load.percent(Duration::MAX) == 100);
        assert_eq!(size_of::<(SlowStart, Load)>(), 16);
    }
}
