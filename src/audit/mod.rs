//! The audit: who has changed what, when and why, as lines of JSON in `state_dir`.
//!
//! ```text
//! note --> memory: the last entries, for the API
//!     `--> queue --the thread of the audit--> audit.jsonl --full--> audit.1.jsonl .. audit.4.jsonl
//!            |full: the entry is counted as lost
//!            |cannot be written: an alarm; the entries wait, and are written when there is room again
//!            |held, while another process takes over: the entries wait
//!            `--still there at the end: the entries are counted as lost, and are in the log
//! ```
//!
//! Noting an entry never waits for a disk. Without a `state_dir`, entries are only in memory. An event says what has
//! happened, and anything can cause one; an entry says who asked for it, and is kept for much longer. Nothing that
//! decides about health or answers may read the audit.

mod entry;
mod file;
mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::alerts::AlertsHandle;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::state::StateDirectory;

pub use entry::{AuditAction, AuditEntry, AuditOutcome, AuditRecord, Author};
pub use file::{AUDIT, AUDIT_FILES, AuditFiles, MAX_AUDIT_FILE, files, read_file};
pub use writer::AuditOutputs;

/// How many entries are kept in memory, for the API.
pub const AUDIT_KEPT: usize = 2_000;
/// How many entries may wait to be written; a further one is lost.
pub const AUDIT_WAITING: usize = 4_000;
/// A write that takes longer counts as failing.
const SLOW: Duration = Duration::from_secs(10);

/// Notes entries. The thread of the audit ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct AuditHandle(Arc<AuditEnd>);

/// Ends the thread when it is dropped.
#[derive(Debug)]
struct AuditEnd(Arc<AuditShared>);

/// A part of the audit, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<Arc<AuditRecord>>,
    /// Whether older ones match, that are kept in memory.
    pub more: bool,
}

/// Chooses entries.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only entries before the one with this id.
    pub before: Option<u64>,
    /// Only entries of these actions; empty for all.
    pub actions: Vec<String>,
    /// Only entries whose author contains this text.
    pub by: Option<String>,
    /// Only entries from this time on.
    pub since: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether an entry is chosen.
    #[must_use]
    pub fn wants(&self, record: &AuditRecord) -> bool {
        self.before.is_none_or(|before| record.id < before)
            && (self.actions.is_empty() || self.actions.contains(&record.action))
            && self.by.as_ref().is_none_or(|by| record.author.by.contains(&**by))
            && self.since.is_none_or(|since| record.at >= since)
    }
}

#[derive(Debug)]
struct AuditShared {
    state: Mutex<AuditState>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes those who wait until everything is written.
    written: Condvar,
    outputs: AuditOutputs,
    place: watch::Receiver<Option<StateDirectory>>,
}

#[derive(Debug, Default)]
struct AuditState {
    /// The latest last.
    kept: VecDeque<Arc<AuditRecord>>,
    /// Those that are not written yet, the latest last.
    waiting: VecDeque<Arc<AuditRecord>>,
    next: u64,
    /// Why the last attempt has failed.
    failing: Option<String>,
    /// The failure that was told last.
    told: Option<String>,
    /// Since when an attempt lasts.
    writing: Option<Instant>,
    /// Whether nothing is written now.
    is_held: bool,
    is_ending: bool,
    /// Whether the thread has ended.
    has_ended: bool,
}

impl AuditHandle {
    /// Starts the thread that writes to the directory in `place`, and reads the last entries that are in `earlier`. At an
    /// upgrade, the directory belongs to the other process at first.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        place: watch::Receiver<Option<StateDirectory>>,
        earlier: Option<PathBuf>,
        metrics: Arc<Metrics>,
        events: Events,
        alerts: AlertsHandle,
    ) -> io::Result<Self> {
        let outputs = AuditOutputs { metrics, events, alerts };
        let state = AuditState { next: first_id(SystemTime::now()), ..AuditState::default() };
        let shared = Arc::new(AuditShared {
            state: Mutex::new(state),
            work: Condvar::new(),
            written: Condvar::new(),
            outputs,
            place,
        });
        let own = Arc::clone(&shared);
        thread::Builder::new().name("audit".into()).spawn(move || writer::run(&own, earlier.as_deref()))?;
        Ok(Self(Arc::new(AuditEnd(shared))))
    }

    /// Notes an entry with the present time. Never waits for a disk.
    pub fn note(&self, entry: AuditEntry) {
        let shared = &self.0.0;
        let mut state = shared.state();
        let id = state.next;
        state.next += 1;
        let record = Arc::new(AuditRecord::new(id, Timestamp::now(), entry));
        state.keep(Arc::clone(&record));
        if state.waiting.len() < AUDIT_WAITING {
            state.waiting.push_back(record);
        } else {
            shared.outputs.metrics.operation.audit_lost();
        }
        drop(state);
        shared.work.notify_one();
    }

    /// The newest entries in memory that the filter wants, at most `limit`.
    #[must_use]
    pub fn page(&self, filter: &AuditFilter, limit: usize) -> AuditPage {
        let state = self.0.0.state();
        let mut wanted = state.kept.iter().rev().filter(|record| filter.wants(record));
        let entries = wanted.by_ref().take(limit).map(Arc::clone).collect();
        AuditPage { entries, more: wanted.next().is_some() }
    }

    /// Why entries are not written now; none if they are.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        self.0.0.state().failing()
    }

    /// Tells of a failure that has begun or ended since the last look. A thread that waits for a disk cannot do that.
    pub fn look(&self) {
        let shared = &self.0.0;
        let mut state = shared.state();
        let failing = state.failing();
        let before = std::mem::replace(&mut state.told, failing.clone());
        drop(state);
        shared.outputs.tell(before, failing);
    }

    /// Whether entries are kept over a restart: there is a `state_dir`.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.0.0.place.borrow().is_some()
    }

    /// Waits until all entries are written, at most for this time. Blocks.
    pub fn flush(&self, most: Duration) {
        let state = self.0.0.state();
        let _ = self.0.0.written.wait_timeout_while(state, most, |state| {
            state.failing.is_none() && !(state.waiting.is_empty() && state.writing.is_none())
        });
    }

    /// Writes nothing more until [`AuditHandle::resume`], because another process takes over the directory; entries wait.
    /// Before that it waits like [`AuditHandle::flush`]. Blocks.
    pub fn hold(&self, most: Duration) {
        self.flush(most);
        let mut state = self.0.0.state();
        state.is_held = true;
        let _ = self.0.0.written.wait_timeout_while(state, most, |state| state.writing.is_some());
    }

    /// Writes again.
    pub fn resume(&self) {
        self.0.0.state().is_held = false;
        self.0.0.work.notify_one();
    }

    /// Ends the thread after an attempt to write all entries, and waits for that at most for this time. Entries that are
    /// left then are counted and logged, because nothing else will have them. Blocks.
    pub fn end(&self, most: Duration) {
        let shared = &self.0.0;
        shared.end();
        let ended = shared.written.wait_timeout_while(shared.state(), most, |state| !state.has_ended);
        let (mut state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        let left = std::mem::take(&mut state.waiting);
        let reason = state.failing();
        drop(state);
        shared.outputs.lost(&left, reason.as_deref().unwrap_or("they came too late"));
    }
}

impl Drop for AuditEnd {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl AuditShared {
    fn end(&self) {
        self.state().is_ending = true;
        self.work.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, AuditState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuditState {
    /// Why entries are not written now.
    fn failing(&self) -> Option<String> {
        let is_slow = self.writing.is_some_and(|since| since.elapsed() > SLOW);
        self.failing.clone().or_else(|| is_slow.then(|| format!("the disk does not answer within {SLOW:?}")))
    }

    fn keep(&mut self, record: Arc<AuditRecord>) {
        if self.kept.len() == AUDIT_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    /// Puts the entries of an earlier run before those of this one.
    fn recall(&mut self, earlier: Vec<AuditRecord>) {
        let room = AUDIT_KEPT.saturating_sub(self.kept.len());
        if let Some(last) = earlier.last() {
            self.next = self.next.max(last.id.saturating_add(1));
        }
        for record in earlier.into_iter().rev().take(room) {
            self.kept.push_front(Arc::new(record));
        }
    }
}

/// Ids begin with the microseconds of this time, so they grow over restarts too. They stay below 2^53, which JavaScript
/// represents exactly.
fn first_id(start: SystemTime) -> u64 {
    let microseconds = start.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    u64::try_from(microseconds).unwrap_or(u64::MAX).min(1 << 52)
}

#[cfg(test)]
mod tests;
