//! The thread that writes the entries, in batches.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{error, info};

use crate::alerts::AlertsHandle;
use crate::events::{Events, tell};
use crate::metrics::Metrics;

use super::entry::{AuditAction, AuditEntry, AuditOutcome, AuditRecord, Author};
use super::file::{self, LastLine};
use super::{AUDIT_KEPT, AuditShared};

/// The time from a failed attempt to the next one.
pub(super) const AUDIT_RETRY: Duration = Duration::from_secs(2);
/// How many lost entries the log shows.
const MOST_LOGGED: usize = 100;
/// The most entries that are written at once.
const AT_ONCE: usize = 256;

/// Where a failure is told.
#[derive(Debug)]
pub struct AuditOutputs {
    /// Counts lost entries.
    pub metrics: Arc<Metrics>,
    /// A failure is an event.
    pub events: Events,
    /// A failure is a condition.
    pub alerts: AlertsHandle,
}

/// An attempt to write entries.
enum AuditWrite {
    Written,
    /// There is no directory, so they are only in memory.
    Nowhere,
    Failed(String),
}

/// Reads the entries of earlier runs, then writes those that are noted, until the audit ends.
pub(super) fn run(shared: &AuditShared, earlier: Option<&Path>) {
    if let Some(directory) = earlier {
        let earlier = file::last(directory, AUDIT_KEPT);
        shared.state().recall(earlier);
    }
    while let Some(batch) = next_batch(shared) {
        let attempt = write(shared, &batch);
        let mut state = shared.state();
        state.writing = None;
        let failed_before = state.failing.take();
        match attempt {
            AuditWrite::Written => drop(state.waiting.drain(..batch.len())),
            AuditWrite::Nowhere => {
                let waiting = std::mem::take(&mut state.waiting);
                drop(state);
                if failed_before.is_some() {
                    shared.outputs.lost(&waiting, "state_dir is no longer set");
                }
            }
            AuditWrite::Failed(reason) => {
                state.failing = Some(reason);
                // The end does not wait until the disk works again.
                if state.is_ending {
                    break;
                }
            }
        }
        shared.written.notify_all();
    }
    shared.state().has_ended = true;
    shared.written.notify_all();
}

/// Waits for entries; after a failure, until it is time to try again. None at the end.
fn next_batch(shared: &AuditShared) -> Option<Vec<Arc<AuditRecord>>> {
    let mut state = shared.state();
    let retry = Instant::now() + AUDIT_RETRY;
    loop {
        let left = retry.saturating_duration_since(Instant::now());
        let is_due = state.failing.is_none() || left.is_zero() || state.is_ending;
        if !state.waiting.is_empty() && is_due && !state.is_held {
            state.writing = Some(Instant::now());
            return Some(state.waiting.iter().take(AT_ONCE).map(Arc::clone).collect());
        }
        if state.is_ending {
            return None;
        }
        state = if state.failing.is_some() && !state.is_held {
            let waited = shared.work.wait_timeout(state, left);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            shared.work.wait(state).unwrap_or_else(PoisonError::into_inner)
        };
    }
}

/// Writes entries to the present directory.
fn write(shared: &AuditShared, batch: &[Arc<AuditRecord>]) -> AuditWrite {
    let place = shared.place.borrow().clone();
    let Some(place) = place else { return AuditWrite::Nowhere };
    let lines = batch.iter().flat_map(|record| line(record)).collect::<Vec<u8>>();
    let torn = || {
        let first = batch.first().map_or(0, |record| record.id);
        let entry = AuditEntry {
            action: AuditAction::Audit,
            subject: file::AUDIT.into(),
            author: Author::named("steerd"),
            reason: None,
            before: None,
            after: None,
            outcome: AuditOutcome::Refused(
                "the line before this one is incomplete: steerd or the machine ended while it was written"
                    .into(),
            ),
        };
        let mut bytes = vec![b'\n'];
        bytes.extend(line(&AuditRecord::new(first.saturating_sub(1), Timestamp::now(), entry)));
        bytes
    };
    let path = place.directory().join(file::AUDIT);
    match file::append(place.directory(), &lines, torn) {
        Ok(LastLine::Whole) => AuditWrite::Written,
        Ok(LastLine::Torn) => {
            info!(file = %path.display(), "the last line of the audit was incomplete; a line after it says so");
            AuditWrite::Written
        }
        Err(error) => AuditWrite::Failed(format!("{}: {error}", path.display())),
    }
}

/// A line of the file.
fn line(record: &AuditRecord) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    line
}

impl AuditOutputs {
    /// Tells of a failure that has begun or ended.
    pub(super) fn tell(&self, before: Option<String>, failing: Option<String>) {
        let Self { metrics, events, alerts } = self;
        metrics.operation.audit_failing(failing.is_some());
        match (before, failing) {
            (None, Some(reason)) => {
                alerts.audit_failing(Some(&reason));
                tell!(
                    events.now(),
                    error,
                    Audit,
                    reason,
                    "the audit is not written; its entries wait in memory, and steerd tries again every {AUDIT_RETRY:?}"
                );
            }
            (Some(_), None) => {
                alerts.audit_failing(None);
                tell!(events.now(), info, Audit, "the audit is written again");
            }
            _ => {}
        }
    }

    /// Counts and logs entries that are not written and never will be.
    pub(super) fn lost(&self, left: &VecDeque<Arc<AuditRecord>>, reason: &str) {
        if left.is_empty() {
            return;
        }
        for _ in left {
            self.metrics.operation.audit_lost();
        }
        let count = left.len();
        error!(
            count,
            reason, "entries of the audit are lost: only this log has them, the first {MOST_LOGGED} of them"
        );
        for record in left.iter().take(MOST_LOGGED) {
            let entry = serde_json::to_string(record).unwrap_or_default();
            error!(entry, "an entry of the audit that is lost");
        }
    }
}
