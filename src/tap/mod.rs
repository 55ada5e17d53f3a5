//! Taps: samples of queries with their replies, handed to the threads that write them.
//!
//! Listeners take samples at random and never wait: a sample is copied into a slot that exists already, and counted as
//! dropped if no slot is free. Here is no file, no socket and no format.
//!
//! ```text
//! listener: chosen? -> answer -> copy into a free slot --> queue --> writer: read the slot, free it
//!                                    `-- none is free: count the drop
//! ```

mod queue;
mod rate;
mod sample;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use rand::rngs::{SmallRng, SysRng};
use rand::{Rng, SeedableRng};

use crate::metrics::TapSeries;

use queue::SampleQueue;

pub use rate::SampleRate;
pub use sample::{AnsweredQuery, Drawn, Exchange, MOST_BYTES, Sample, SampleOutcome};

/// Number of slots. At 200,000 samples a second they hold those of 20 ms. With their messages and names they
/// take 11 MiB.
pub const SLOTS: usize = 4096;

/// Takes samples for one writer.
#[derive(Debug)]
pub struct Tap {
    /// The rate, as [`SampleRate::threshold`].
    threshold: AtomicU64,
    queue: SampleQueue,
    series: Arc<TapSeries>,
    ended: AtomicBool,
}

/// The taps that are on.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    /// For the query log.
    pub query_log: Option<Arc<Tap>>,
    /// For dnstap.
    pub dnstap: Option<Arc<Tap>>,
}

impl Taps {
    /// Whether no tap is on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.query_log.is_none() && self.dnstap.is_none()
    }
}

impl Tap {
    /// Creates a tap with all its slots.
    #[must_use]
    pub fn new(rate: SampleRate, series: Arc<TapSeries>) -> Self {
        let queue = SampleQueue::new(SLOTS);
        Self { threshold: rate.threshold().into(), queue, series, ended: AtomicBool::new(false) }
    }

    /// Changes the rate from now on.
    pub fn set_rate(&self, rate: SampleRate) {
        self.threshold.store(rate.threshold(), Ordering::Relaxed);
    }

    /// Tells the writer to write what is left, and to end.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether the writer must end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The counts of the tap.
    #[must_use]
    pub fn series(&self) -> &TapSeries {
        &self.series
    }

    /// Calls `read` with the oldest sample, if there is one, and frees its slot. Only the writer may call this.
    pub fn next<T>(&self, read: impl FnOnce(&Sample) -> T) -> Option<T> {
        self.queue.take(read)
    }

    /// Copies a sample into a free slot, or counts that it is dropped. Never waits.
    fn put(&self, exchange: &Exchange<'_>) {
        if !self.queue.put(|sample| sample.fill(exchange)) {
            self.series.drop_samples(1);
        }
    }

    /// Draws for one query.
    fn chooses(&self, chance: &mut SmallRng) -> bool {
        let threshold = self.threshold.load(Ordering::Relaxed);
        // Every query has its own chance: each n-th would follow a client that repeats a pattern.
        threshold > u64::from(u32::MAX) || u64::from(chance.next_u32()) < threshold
    }
}

thread_local! {
    /// Draws samples, for each thread apart.
    static CHANCE: RefCell<SmallRng> = RefCell::new(
        SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| SmallRng::from_rng(&mut rand::rng())),
    );
}

/// The taps for the messages that one thread reads together.
#[derive(Clone, Copy, Debug)]
pub struct Tapping<'a> {
    /// The taps that are on.
    pub taps: &'a Taps,
    /// The address to which the queries were sent.
    pub server: SocketAddr,
}

/// The taps that take a sample of one query.
#[derive(Debug)]
pub struct ChosenTaps<'a> {
    query_log: Option<&'a Tap>,
    dnstap: Option<&'a Tap>,
    server: SocketAddr,
    /// When the query arrived.
    asked: SystemTime,
}

impl<'a> Tapping<'a> {
    /// Draws whether the next query is a sample.
    #[must_use]
    pub fn choose(self) -> Option<ChosenTaps<'a>> {
        let Self { taps, server } = self;
        let (query_log, dnstap) = CHANCE.with_borrow_mut(|chance| {
            let mut chosen = |tap: &'a Option<Arc<Tap>>| tap.as_deref().filter(|tap| tap.chooses(chance));
            (chosen(&taps.query_log), chosen(&taps.dnstap))
        });
        (query_log.is_some() || dnstap.is_some()).then(|| ChosenTaps {
            query_log,
            dnstap,
            server,
            asked: SystemTime::now(),
        })
    }
}

impl ChosenTaps<'_> {
    /// Hands over the query with its outcome.
    pub fn take(self, answered: AnsweredQuery<'_>) {
        let exchange =
            Exchange { server: self.server, asked: self.asked, replied: SystemTime::now(), answered };
        for tap in [self.query_log, self.dnstap].into_iter().flatten() {
            tap.put(&exchange);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn samples_are_as_many_as_the_rate_says_and_not_each_nth() {
        const QUERIES: u32 = 1_000_000;
        let mut chance = SmallRng::seed_from_u64(1);
        for (rate, share) in [("0%", 0.0), ("0.1%", 0.001), ("1%", 0.01), ("50%", 0.5), ("100%", 1.0)] {
            let tap = Tap::new(rate.parse().unwrap(), Arc::default());
            let chosen: Vec<u32> = (0..QUERIES).filter(|_| tap.chooses(&mut chance)).collect();
            let expected = f64::from(QUERIES) * share;
            let deviation = (expected * (1.0 - share)).sqrt();
            let count = f64::from(u32::try_from(chosen.len()).unwrap());
            assert!((count - expected).abs() <= 5.0 * deviation, "{rate}: {count}");
            if share > 0.0 && share < 1.0 {
                let gaps = |gap: u32| chosen.windows(2).filter(|pair| pair[1] - pair[0] == gap).count();
                assert!(gaps(1) > 0, "{rate}: neighbours are never both taken");
            }
        }
    }

    #[test]
    fn a_changed_rate_holds_at_once() {
        let mut chance = SmallRng::seed_from_u64(1);
        let tap = Tap::new(SampleRate::ALL, Arc::default());
        assert!(tap.chooses(&mut chance));
        tap.set_rate(SampleRate::NONE);
        assert!((0..1000).all(|_| !tap.chooses(&mut chance)));
    }
}
