//! Counts of the messages of alerts. There are series only for the alerts of the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::text::TextEncoder;

/// The counts of all alerts, by name.
#[derive(Debug, Default)]
pub struct AlertCounts(Mutex<BTreeMap<String, Arc<AlertSeries>>>);

/// The counts of one alert.
#[derive(Debug, Default)]
pub struct AlertSeries {
    delivered: AtomicU64,
    failed: AtomicU64,
    pending: AtomicUsize,
    present: AtomicUsize,
}

impl AlertCounts {
    /// The counts of an alert. If it had some before a reload, they go on.
    #[must_use]
    pub fn series(&self, name: &str) -> Arc<AlertSeries> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.to_owned()).or_default())
    }

    /// Forgets the counts of all other alerts.
    pub fn keep_only(&self, names: &[&str]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|name, _| names.contains(&name.as_str()));
    }

    pub(super) fn write(&self, text: &mut TextEncoder<'_>) -> fmt::Result {
        // Copied, because the reader may be slow.
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let help = "Messages of an alert: success (the receiver took it), failure (it is tried again).";
        let mut sent = text.counter("alerts_sent_total", help)?;
        for (alert, series) in &all {
            for (outcome, count) in [("failure", &series.failed), ("success", &series.delivered)] {
                sent.series(&[("alert", alert), ("outcome", outcome)], count.load(Ordering::Relaxed))?;
            }
        }
        let number = |count: &AtomicUsize| u32::try_from(count.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let help =
            "Conditions of which the receiver of an alert must still be told: that they are present or over.";
        let mut pending = text.gauge("alerts_pending", help)?;
        for (alert, series) in &all {
            pending.series(&[("alert", alert)], f64::from(number(&series.pending)))?;
        }
        let help = "Conditions of an alert that are present.";
        let mut present = text.gauge("alerts_firing", help)?;
        for (alert, series) in &all {
            present.series(&[("alert", alert)], f64::from(number(&series.present)))?;
        }
        Ok(())
    }
}

impl AlertSeries {
    /// Counts an attempt to deliver a message.
    pub fn sent(&self, delivered: bool) {
        let count = if delivered { &self.delivered } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows how many conditions the receiver must still be told of, and how many are present.
    pub fn show(&self, pending: usize, present: usize) {
        self.pending.store(pending, Ordering::Relaxed);
        self.present.store(present, Ordering::Relaxed);
    }
}
