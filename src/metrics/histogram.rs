//! Durations, counted in buckets without a lock.
//!
//! The histogram of `prometheus-client` has a mutex: a thread of low priority that renders metrics could
//! hold it while the checker waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts of durations in buckets.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper bounds of the buckets in ascending order, seconds. A last bucket has no bound.
    bounds: &'static [f64],
    /// One count per bucket.
    counts: Box<[AtomicU64]>,
    /// The sum of all durations, nanoseconds; 584 years fit.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The upper bound and the count of each bucket.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        self.bounds.iter().copied().chain([f64::INFINITY]).zip(counts).collect()
    }

    pub(super) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.load(Ordering::Relaxed))
    }
}
