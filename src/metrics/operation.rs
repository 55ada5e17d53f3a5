//! Counters of reloads, of failed writes to `state_dir`, of the audit, and of notifications to secondaries.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::metrics::text::{TextEncoder, flag};

/// Counters that one task at a time updates, rarely.
#[derive(Debug)]
pub struct Operation {
    reloads: AtomicU64,
    refused_reloads: AtomicU64,
    upgrades: AtomicU64,
    refused_upgrades: AtomicU64,
    /// Whether the last reload took effect; true if there was none.
    last_reload_succeeded: AtomicBool,
    /// When the running configuration was loaded, milliseconds since 1970.
    loaded: AtomicU64,
    state_write_failures: AtomicU64,
    rolled_back: AtomicBool,
    last_good: AtomicBool,
    audit_lost: AtomicU64,
    audit_failing: AtomicBool,
    notify_sent: AtomicU64,
    notify_acknowledged: AtomicU64,
    notify_refused: AtomicU64,
    notify_unanswered: AtomicU64,
    rule_files_read: AtomicU64,
    rule_files_refused: AtomicU64,
    /// The path of each geographic database, and when it was made, seconds since 1970.
    databases: Mutex<Vec<(String, u64)>>,
}

/// The outcome of notifying a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notified {
    /// A notification was sent, for the first time or again.
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
        let operation = Self {
            reloads: AtomicU64::new(0),
            refused_reloads: AtomicU64::new(0),
            upgrades: AtomicU64::new(0),
            refused_upgrades: AtomicU64::new(0),
            last_reload_succeeded: AtomicBool::new(true),
            loaded: AtomicU64::new(0),
            state_write_failures: AtomicU64::new(0),
            rolled_back: AtomicBool::new(false),
            last_good: AtomicBool::new(false),
            audit_lost: AtomicU64::new(0),
            audit_failing: AtomicBool::new(false),
            notify_sent: AtomicU64::new(0),
            notify_acknowledged: AtomicU64::new(0),
            notify_refused: AtomicU64::new(0),
            notify_unanswered: AtomicU64::new(0),
            rule_files_read: AtomicU64::new(0),
            rule_files_refused: AtomicU64::new(0),
            databases: Mutex::new(Vec::new()),
        };
        operation.loaded_now();
        operation
    }

    /// Counts a reload that took effect.
    pub fn reloaded(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.rolled_back.store(false, Ordering::Relaxed);
        self.last_good.store(false, Ordering::Relaxed);
        self.loaded_now();
    }

    /// Shows that the running configuration is an earlier one, because of a rollback. The files on disk are as good or
    /// bad as before.
    pub fn rolled_back(&self) {
        self.rolled_back.store(true, Ordering::Relaxed);
        let succeeded = self.last_reload_succeeded.load(Ordering::Relaxed);
        self.loaded_now();
        self.last_reload_succeeded.store(succeeded, Ordering::Relaxed);
    }

    /// Shows that the server has started with the last good configuration, because the files had a mistake.
    pub fn started_with_last_good(&self) {
        self.last_good.store(true, Ordering::Relaxed);
        self.last_reload_succeeded.store(false, Ordering::Relaxed);
    }

    /// Counts a rejected configuration.
    pub fn reload_refused(&self) {
        self.refused_reloads.fetch_add(1, Ordering::Relaxed);
        self.last_reload_succeeded.store(false, Ordering::Relaxed);
    }

    /// Counts an upgrade that only has to be committed.
    pub fn upgraded(&self) {
        self.upgrades.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an upgrade after which this process went on.
    pub fn upgrade_refused(&self) {
        self.refused_upgrades.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed write of health and overrides.
    pub fn state_write_failed(&self) {
        self.state_write_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an entry of the audit that will not be written, because too many wait.
    pub fn audit_lost(&self) {
        self.audit_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows whether the last attempt to write the audit has failed.
    pub fn audit_failing(&self, is_failing: bool) {
        self.audit_failing.store(is_failing, Ordering::Relaxed);
    }

    /// Counts a notification or its outcome.
    pub fn notified(&self, outcome: Notified) {
        let count = match outcome {
            Notified::Sent => &self.notify_sent,
            Notified::Acknowledged => &self.notify_acknowledged,
            Notified::Refused => &self.notify_refused,
            Notified::Unanswered => &self.notify_unanswered,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt to read files of rules that have changed.
    pub fn rule_files_read(&self, succeeded: bool) {
        let count = if succeeded { &self.rule_files_read } else { &self.rule_files_refused };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces the geographic databases: the path of each, and when it was made, seconds since 1970.
    pub fn databases_read(&self, databases: Vec<(String, u64)>) {
        *self.databases.lock().unwrap_or_else(PoisonError::into_inner) = databases;
    }

    fn loaded_now(&self) {
        self.last_reload_succeeded.store(true, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.loaded.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Writes every series, even at 0, so that the first failure appears as an increase.
    pub(super) fn write(&self, text: &mut TextEncoder<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let help = "Reloads of the configuration: success, failure (refused).";
        let mut reloads = text.counter("reloads_total", help)?;
        reloads.series(&[("result", "failure")], get(&self.refused_reloads))?;
        reloads.series(&[("result", "success")], get(&self.reloads))?;
        let mut upgrades = text.counter("upgrades_total", "Upgrades to a new process, by result.")?;
        upgrades.series(&[("result", "success")], get(&self.upgrades))?;
        upgrades.series(&[("result", "failure")], get(&self.refused_upgrades))?;
        let help = "0 if the last reload was refused, so that an older configuration is running; else 1.";
        let succeeded = flag(self.last_reload_succeeded.load(Ordering::Relaxed));
        text.gauge("config_last_reload_success", help)?.series(&[], succeeded)?;
        let help = "When the running configuration was loaded, seconds since 1970.";
        let loaded = Duration::from_millis(get(&self.loaded)).as_secs_f64();
        text.gauge("config_last_load_timestamp_seconds", help)?.series(&[], loaded)?;
        let help = "Failed attempts to write health and overrides to state_dir.";
        text.counter("state_write_failures_total", help)?.series(&[], get(&self.state_write_failures))?;
        let help =
            "1 if the running configuration is an earlier one because of a rollback, until a reload. Else 0.";
        let rolled_back = flag(self.rolled_back.load(Ordering::Relaxed));
        text.gauge("config_rolled_back", help)?.series(&[], rolled_back)?;
        let help = "1 if the server has started with the last good configuration, because the files had a mistake, \
                    until a reload. Else 0.";
        let last_good = flag(self.last_good.load(Ordering::Relaxed));
        text.gauge("config_last_good", help)?.series(&[], last_good)?;
        let help = "Entries of the audit that were not written, because too many waited.";
        text.counter("audit_lost_total", help)?.series(&[], get(&self.audit_lost))?;
        let help = "1 if the audit cannot be written now; its entries wait in memory. Else 0.";
        let failing = flag(self.audit_failing.load(Ordering::Relaxed));
        text.gauge("audit_failing", help)?.series(&[], failing)?;
        let help = "Notifications sent to secondaries, including repeats.";
        text.counter("notify_sent_total", help)?.series(&[], get(&self.notify_sent))?;
        let help = "Notifications of secondaries by result: acknowledged, refused, unanswered.";
        let mut results = text.counter("notify_results_total", help)?;
        results.series(&[("result", "acknowledged")], get(&self.notify_acknowledged))?;
        results.series(&[("result", "refused")], get(&self.notify_refused))?;
        results.series(&[("result", "unanswered")], get(&self.notify_unanswered))?;
        let help =
            "Files of rules that have changed: success, failure (refused, so the earlier content stays).";
        let mut read = text.counter("rule_file_updates_total", help)?;
        read.series(&[("result", "failure")], get(&self.rule_files_refused))?;
        read.series(&[("result", "success")], get(&self.rule_files_read))?;
        // Copied, because the reader may be slow.
        let databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let help = "Age of a geographic database: seconds since it was made.";
        let mut age = text.gauge("geo_database_age_seconds", help)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (database, built) in &databases {
            let since = now.saturating_sub(Duration::from_secs(*built));
            age.series(&[("database", database)], since.as_secs_f64())?;
        }
        Ok(())
    }
}
