//! Counters of reloads, of failed writes to `state_dir`, and of notifications to secondaries.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts};

use super::made;

/// Counters that one task at a time updates, rarely.
#[derive(Debug)]
pub struct Operation {
    reloads: IntCounterVec,
    reload_success: IntGauge,
    loaded_at: Gauge,
    state_write_failures: IntCounter,
    notify_sent: IntCounter,
    notify_results: IntCounterVec,
}

/// The outcome of notifying a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notified {
    /// A notification was sent, first or repeated.
    Sent,
    /// The secondary acknowledged the new serial.
    Acknowledged,
    /// The secondary refused the notification.
    Refused,
    /// No attempt got a reply.
    Unanswered,
}

impl Operation {
    /// Starts with zero counts; the running configuration counts as loaded now.
    pub(super) fn new() -> Self {
        let opts = |name: &str, help: &str| Opts::new(format!("steerd_{name}"), help);
        let operation = Self {
            reloads: made(IntCounterVec::new(
                opts("reloads_total", "Reloads of the configuration: success, failure (refused)."),
                &["result"],
            )),
            reload_success: made(IntGauge::with_opts(opts(
                "config_last_reload_success",
                "0 if the last reload was refused, so that an older configuration is running; else 1.",
            ))),
            loaded_at: made(Gauge::with_opts(opts(
                "config_last_load_timestamp_seconds",
                "When the running configuration was loaded, seconds since 1970.",
            ))),
            state_write_failures: made(IntCounter::with_opts(opts(
                "state_write_failures_total",
                "Failed attempts to write health and overrides to state_dir.",
            ))),
            notify_sent: made(IntCounter::with_opts(opts(
                "notify_sent_total",
                "Notifications sent to secondaries, including repeats.",
            ))),
            notify_results: made(IntCounterVec::new(
                opts(
                    "notify_results_total",
                    "Notifications of secondaries by result: acknowledged, refused, unanswered.",
                ),
                &["result"],
            )),
        };
        for result in ["acknowledged", "refused", "unanswered"] {
            operation.notify_results.with_label_values(&[result]);
        }
        // Both labels exist from the start, so that the first failure is an increase.
        for result in ["success", "failure"] {
            operation.reloads.with_label_values(&[result]);
        }
        operation.loaded_now();
        operation
    }

    /// Counts a reload that took effect.
    pub fn reloaded(&self) {
        self.reloads.with_label_values(&["success"]).inc();
        self.loaded_now();
    }

    /// Counts a refused configuration.
    pub fn reload_refused(&self) {
        self.reloads.with_label_values(&["failure"]).inc();
        self.reload_success.set(0);
    }

    /// Counts a failed write of health and overrides.
    pub fn state_write_failed(&self) {
        self.state_write_failures.inc();
    }

    /// Counts a notification or its outcome.
    pub fn notified(&self, what: Notified) {
        let result = match what {
            Notified::Sent => return self.notify_sent.inc(),
            Notified::Acknowledged => "acknowledged",
            Notified::Refused => "refused",
            Notified::Unanswered => "unanswered",
        };
        self.notify_results.with_label_values(&[result]).inc();
    }

    fn loaded_now(&self) {
        self.reload_success.set(1);
        self.loaded_at
            .set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let collectors: [&dyn Collector; 6] = [
            &self.reloads,
            &self.reload_success,
            &self.loaded_at,
            &self.state_write_failures,
            &self.notify_sent,
            &self.notify_results,
        ];
        collectors.iter().flat_map(|collector| collector.collect()).collect()
    }
}
