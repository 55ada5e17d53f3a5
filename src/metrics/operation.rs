//! Counts of the server's own files: configurations taken and refused, memory not written.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts};

use super::made;

/// The counts of what is done seldom and by one task.
#[derive(Debug)]
pub struct Operation {
    reloads: IntCounterVec,
    reload_success: IntGauge,
    loaded_at: Gauge,
    state_write_failures: IntCounter,
    notify_sent: IntCounter,
    notify_results: IntCounterVec,
}

/// The outcome of a notification of a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notified {
    /// It was sent, for the first time or again.
    Sent,
    /// The secondary knows of the new serial.
    Acknowledged,
    /// The secondary does not want to know.
    Refused,
    /// No attempt was answered.
    Unanswered,
}

impl Operation {
    /// Nothing has happened, and the running configuration was loaded just now.
    pub(super) fn new() -> Self {
        let opts = |name: &str, help: &str| Opts::new(format!("steerd_{name}"), help);
        let operation = Self {
            reloads: made(IntCounterVec::new(
                opts("reloads_total", "Reloads of the configuration: success, failure (refused)."),
                &["result"],
            )),
            reload_success: made(IntGauge::with_opts(opts(
                "config_last_reload_success",
                "1 unless the last reload was refused: then the file is not what is running.",
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
                "Notifications sent to secondaries, those sent again included.",
            ))),
            notify_results: made(IntCounterVec::new(
                opts(
                    "notify_results_total",
                    "What became of telling a secondary of a serial: acknowledged, refused, unanswered.",
                ),
                &["result"],
            )),
        };
        for result in ["acknowledged", "refused", "unanswered"] {
            operation.notify_results.with_label_values(&[result]);
        }
        // Both are there from the start, so that a first failure is an increase.
        for result in ["success", "failure"] {
            operation.reloads.with_label_values(&[result]);
        }
        operation.loaded_now();
        operation
    }

    /// Another configuration is running.
    pub fn reloaded(&self) {
        self.reloads.with_label_values(&["success"]).inc();
        self.loaded_now();
    }

    /// A configuration was refused.
    pub fn reload_refused(&self) {
        self.reloads.with_label_values(&["failure"]).inc();
        self.reload_success.set(0);
    }

    /// Health and overrides could not be written.
    pub fn state_write_failed(&self) {
        self.state_write_failures.inc();
    }

    /// A secondary was told of a serial.
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
