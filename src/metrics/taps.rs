//! Counts of the samples of the query log and of dnstap.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::text::TextEncoder;

/// The counts of both.
#[derive(Debug, Default)]
pub struct TapCounts {
    /// The query log.
    pub query_log: Arc<TapSeries>,
    /// dnstap.
    pub dnstap: Arc<TapSeries>,
}

/// The counts of one.
#[derive(Debug, Default)]
pub struct TapSeries {
    written: AtomicU64,
    dropped: AtomicU64,
    /// The bits of a float.
    rate: AtomicU64,
}

impl TapSeries {
    /// Counts samples that were written.
    pub fn write_samples(&self, count: u64) {
        self.written.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts samples that were dropped: the queue was full, or they could not be written.
    pub fn drop_samples(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// The number of samples that were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The number of samples that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Shows the share of the queries that are sampled, 0 to 1.
    pub fn show_rate(&self, rate: f64) {
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }
}

impl TapCounts {
    pub(super) fn write(&self, text: &mut TextEncoder<'_>) -> fmt::Result {
        let Self { query_log, dnstap } = self;
        let rate = |series: &TapSeries| f64::from_bits(series.rate.load(Ordering::Relaxed));
        let help = "Queries that were written to the query log.";
        text.counter("query_log_written_total", help)?.series(&[], query_log.written())?;
        let help =
            "Samples of the query log that were lost: its queue was full, or its file could not be written.";
        text.counter("query_log_dropped_total", help)?.series(&[], query_log.dropped())?;
        let help = "The share of the queries that the query log samples now: 0 if it is off.";
        text.gauge("query_log_sample_ratio", help)?.series(&[], rate(query_log))?;
        let help = "Queries that were written to the socket of dnstap.";
        text.counter("dnstap_written_total", help)?.series(&[], dnstap.written())?;
        let help = "Samples of dnstap that were lost: its queue was full, or nobody read its socket.";
        text.counter("dnstap_dropped_total", help)?.series(&[], dnstap.dropped())?;
        let help = "The share of the queries that dnstap samples now: 0 if it is off.";
        text.gauge("dnstap_sample_ratio", help)?.series(&[], rate(dnstap))
    }
}
